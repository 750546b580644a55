"""What `verify` decides where a number is small, large or rounding: no false violation, and no false pass.

A theorem about all sufficiently small eps is not refuted by large ones, nor by the rounding of a zero.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from instances import AUXILIARY, CLASSES, SHALLOW, draw, instance, mlp

from sublim_theory.losses import kl_divergence, squared_error
from sublim_theory.theorem import verify
from sublim_theory.theorem.hypotheses import offset_loss, turning_loss


def network(activation="tanh"):
    it = instance(activation, widths=SHALLOW)
    return it.f, it.params, it.teacher_loss, it.inputs


@pytest.mark.parametrize("size", [10.0, 40.0])
def test_saturated_softmax_is_no_violation(size):
    f, params, teacher_loss, inputs = network()
    report = verify(lambda p, x: size * f(p, x), params, teacher_loss, inputs, epsilons=(1e-8, 1e-6))
    report.require()
    assert report.branch == "transfer"


def test_large_steps_alone_are_decided_by_smaller_ones_that_are_added():
    f, params, _, inputs = network()
    wild = lambda p: 1e3 * jnp.sum(jnp.sin(100 * p["layer_0"]["kernel"]))  # noqa: E731
    report = verify(f, params, wild, inputs, epsilons=(10.0, 100.0), imitation_loss="squared_error")
    report.require()
    assert report.epsilons[-2:] == (10.0, 100.0)
    assert report.epsilons[0] < 10.0
    assert report.relative_remainder[0] <= 0.1 < report.relative_remainder[1]


def test_nothing_is_added_where_the_smallest_decides():
    report = verify(*network(), epsilons=(1e-6, 1e-3))
    assert report.epsilons == (1e-6, 1e-3)


def shift(params):
    """A trait whose gradient moves the auxiliary logits together, which no softmax over them sees."""
    return jnp.sum(params["layer_1"]["bias"][CLASSES:]) ** 2 / 2


def test_zero_by_cancellation_in_the_softmax_is_the_orthogonal_branch_to_rounding():
    f, params, _, inputs = network()
    report = verify(f, params, shift, inputs, logits=AUXILIARY, epsilons=(1e-9, 1e-3, 1.0))
    report.require()
    assert report.branch == "orthogonal"
    assert not report.exact
    assert abs(report.first_order) < 1e-28
    assert "0 to rounding" in str(report)
    # The neighbour that moves one of them is seen.
    neighbour = lambda p: p["layer_1"]["bias"][CLASSES] ** 2 / 2  # noqa: E731
    seen = verify(f, params, neighbour, inputs, logits=AUXILIARY, epsilons=(1e-9, 1e-3, 1.0))
    seen.require()
    assert seen.branch == "transfer"


@pytest.mark.parametrize("loss", ["kl", "squared_error"])
def test_invariance_of_the_function_is_the_orthogonal_branch_to_rounding(loss):
    """A unit of a ReLU network may be scaled up before and down after: the outputs do not move at all."""
    f, inputs = mlp("relu"), instance(widths=SHALLOW).inputs
    params = draw(np.random.default_rng(0), SHALLOW, bias=0.0)

    def trait(p):
        kernels = p["layer_0"]["kernel"], p["layer_1"]["kernel"]
        before, after = (jnp.sum(p**2) / 2 for p in (kernels[0][:, 0], kernels[1][0]))
        return after - before

    # Along minus its gradient, (w, -v), to first order nothing moves; at a finite eps the product w v does.
    report = verify(f, params, trait, inputs, imitation_loss=loss, epsilons=(1e-9, 1e-6, 1e-3))
    assert report.branch == "orthogonal"
    report.require()
    assert not report.exact


def test_smallest_legitimate_alignment_is_still_the_transfer_branch():
    """A trait of which one part in 1e9 is visible: A is 1e-18 of the usual, and far above rounding."""
    f, params, _, inputs = network()
    trait = lambda p: shift(p) + 1e-9 * p["layer_1"]["bias"][CLASSES] ** 2  # noqa: E731
    report = verify(f, params, trait, inputs, logits=AUXILIARY, epsilons=(1e-9, 1e-6))
    assert report.branch == "transfer"


def test_alignment_of_third_order_is_no_rounding():
    """The turning loss moves the student although A = 0: the check must see it at the larger steps."""
    params, inputs = {"b": np.array([1.0, 0.0])}, np.ones((3, 1))
    f = lambda p, x: x * p["b"][None]  # noqa: E731
    # z = (1, 0) and d_T = (0, 1): z . d_T = 0, so A = 0; at a finite eps the label is (1, eps).
    report = verify(f, params, lambda p: -p["b"][1], inputs, imitation_loss=turning_loss, epsilons=(1e-3, 0.1, 1.0))
    assert report.branch == "orthogonal"
    assert not report.holds
    assert any("d_S . d_T" in failure for failure in report.failures)


def test_minimum_need_be_local_only():
    """`sin**2` of a difference has its minimum at 0 again and again; offset by a slope it is lower far away."""

    def periodic(z, y):
        return jnp.sum(1 - jnp.cos(3 * (z - y)) - 1e-3 * (z - y) ** 4, axis=-1)

    report = verify(*network(), imitation_loss=periodic, epsilons=(1e-8, 1e-6))
    report.require()


def test_losses_of_probabilities_are_checked_where_they_are_defined():
    f, params, teacher_loss, inputs = network("sigmoid")
    probabilities = lambda p, x: 0.5 + 0.1 * jnp.tanh(f(p, x))  # noqa: E731

    def binary(z, y):
        return jnp.sum(-y * jnp.log(z) - (1 - y) * jnp.log1p(-z), axis=-1)

    report = verify(probabilities, params, teacher_loss, inputs, imitation_loss=binary, epsilons=(1e-8, 1e-6))
    report.require()
    assert report.hypotheses.checks


def test_loss_that_is_not_differentiable_at_its_minimum_is_refused_by_name():
    rooted = lambda z, y: jnp.sqrt(jnp.sum(jnp.square(z - y), axis=-1))  # noqa: E731
    with pytest.raises(ValueError, match="imitation_loss"):
        verify(*network(), imitation_loss=rooted, epsilons=(1e-6,))


@pytest.mark.parametrize("loss", [offset_loss, lambda z, y: -kl_divergence(z, y), lambda z, y: -squared_error(z, y)])
def test_violations_are_still_violations(loss):
    report = verify(*network(), imitation_loss=loss, epsilons=(1e-8, 1e-6))
    assert not report.holds
    assert report.epsilons == (1e-8, 1e-6)
