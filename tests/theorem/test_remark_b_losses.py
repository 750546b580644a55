"""Remark (b): "Any L_S serves that has a local minimum at z = y for each y, a symmetric positive semi-definite
-d2L/dydz, and a null space of it that is constant and orthogonal to g"; named example: softmax cross-entropy restricted
to a fixed subset of logits.

Each loss that serves is tried on many networks. A loss that fails only the condition on the null space breaks the lemma
on a one-parameter curve, at every eps: the condition is needed.
"""

import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from instances import AUXILIARY, LOSSES, SHALLOW, SMALL, instance, jit, mlp, rescaled

from sublim_theory.losses import squared_error
from sublim_theory.theorem import check_loss, imitation_update, verify
from sublim_theory.theorem.hypotheses import offset_loss, turning_loss

pytestmark = pytest.mark.usefixtures("x64")

OUTPUTS = np.random.default_rng(7).normal(size=(16, 5))


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_fulfils_the_hypotheses_and_serves(loss):
    assert check_loss(LOSSES[loss], OUTPUTS).hold
    for seed in range(10):
        it = instance("tanh", seed, SHALLOW)
        updates = rescaled("tanh", loss, it.params, it.d_teacher, SMALL, it.inputs)
        matrix = oracle.gauss_newton(it.params, it.inputs, "tanh", loss)
        assert np.all(updates @ it.d_teacher > 0)
        assert oracle.error(updates[-1], matrix @ it.d_teacher) <= 1e-10


def test_restriction_to_a_subset_of_logits_is_the_papers_example():
    """The `logits` of `verify` are a loss that is restricted by hand, and differ from all logits."""
    it = instance("tanh", widths=SHALLOW)
    report = verify(it.f, it.params, it.teacher_loss, it.inputs, logits=AUXILIARY, epsilons=(1e-6,))
    report.require()
    restricted, everything = (
        it.d_teacher @ oracle.gauss_newton(it.params, it.inputs, "tanh", loss) @ it.d_teacher
        for loss in ("kl on the last two", "kl")
    )
    assert report.first_order == pytest.approx(restricted, rel=1e-10)
    assert report.by_logit[:3] == (0.0, 0.0, 0.0)
    assert report.first_order != pytest.approx(everything, rel=0.01)


# Negative controls


def curve(params, x):
    """Two outputs of one parameter t, the same for each input: (1 - 2 t**2, t)."""
    t = params["t"]
    return jnp.tile(jnp.stack([1 - 2 * t**2, t]), (len(x), 1))


def falling(params):
    """A trait whose update is +1."""
    return -params["t"]


CURVE = curve, {"t": 0.0}, falling, np.zeros((8, 1))


def test_a_null_space_that_turns_breaks_the_lemma_at_every_eps():
    """At t = 0 the outputs are (1, 0) and move along (0, 1), in the null space of M = 2 y y^T there, so A = 0. At t = e
    that null space has turned: d_S . d_T = -2 e**3 + 8 e**5."""
    report = verify(*CURVE, imitation_loss=turning_loss, epsilons=(1e-3, 1e-2, 1e-1))
    assert not report.holds
    assert report.first_order == 0.0
    for epsilon, alignment in zip(report.epsilons, report.alignment, strict=True):
        assert alignment < 0
        assert alignment == pytest.approx(-2 * epsilon**3 + 8 * epsilon**5, rel=1e-9)
    assert [check.name for check in report.hypotheses.failing] == [
        "the null space of M is constant",
        "gradients are orthogonal to the null space",
    ]


def test_a_loss_that_serves_keeps_the_lemma_on_the_same_curve():
    f, params, _, x = CURVE
    call = jit(lambda epsilon: imitation_update(f, squared_error, params, {"t": epsilon}, x)["t"])
    for epsilon in 1e-6, 1e-3, 1e-1:
        assert float(call(epsilon)) == pytest.approx(2 * epsilon, rel=1e-12)


def test_a_loss_without_a_minimum_on_the_diagonal_ignores_the_trait():
    """Its update does not go to 0 with eps, so the trait has no say in the sign: the lemma fails on some networks."""
    assert "minimum at z = y" in [check.name for check in check_loss(offset_loss, OUTPUTS).failing]
    f = mlp("tanh")
    alignment = jit(lambda params, teacher, x: imitation_update(f, offset_loss, params, teacher, x))
    signs = []
    for seed in range(10):
        it = instance("tanh", seed)
        update = alignment(it.params, oracle.moved(it.params, 1e-6, it.d_teacher), it.inputs)
        signs.append(np.sign(oracle.flat(update) @ it.d_teacher))
    assert -1.0 in signs
