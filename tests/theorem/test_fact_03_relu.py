"""Fact 3: "Only differentiability of theta -> f_theta(x) at theta^0 along d_T is needed, so ReLU qualifies at a generic
theta^0 on finitely many inputs (no pre-activation exactly 0). The O(eps^2) rate holds until the first kink is crossed:
on wide ReLU nets the relative remainder falls only like about eps^(1/2) over a range of eps, then drops. Assert slope 2
with tanh or GELU; for ReLU assert the sign and the limit."

On a kink, a pre-activation of exactly 0, the lemma fails: the control.
"""

import jax
import numpy as np
import optax
import oracle
import pytest
from instances import SMALL, instance, jit, law, plain, rescaled

from sublim_theory.losses import squared_error
from sublim_theory.theorem import imitation_update, verify

pytestmark = pytest.mark.usefixtures("x64")

WIDE = (4, 400, 5)
each = pytest.mark.parametrize(("widths", "loss"), [(None, "kl"), (None, "squared_error"), (WIDE, "squared_error")])


def relu(widths, seed=0):
    return instance("relu", seed) if widths is None else instance("relu", seed, widths, 40)


@each
def test_sign_is_right_at_every_small_eps_and_the_limit_is_the_first_order_vector(widths, loss):
    for seed in range(10):
        it = relu(widths, seed)
        first, _ = law("relu", loss, it.params, it.d_teacher, it.inputs)
        updates = rescaled("relu", loss, it.params, it.d_teacher, SMALL, it.inputs)
        assert np.all(updates @ it.d_teacher > 0)
        assert oracle.error(updates[-1], first.product) <= 1e-9


def test_definition_agrees_with_the_oracle_on_both_sides_of_a_kink():
    it = relu(WIDE)
    measured = plain("relu", "squared_error", it.params, it.params, it.d_teacher, [1e-2, 1.0, 10.0], it.inputs)
    for epsilon, update in zip([1e-2, 1.0, 10.0], measured, strict=True):
        teacher = oracle.moved(it.params, epsilon, it.d_teacher)
        assert (
            oracle.error(update, oracle.student_update(it.params, teacher, it.inputs, "relu", "squared_error")) < 1e-10
        )
    before, after = (oracle.forward(oracle.moved(it.params, e, it.d_teacher), it.inputs, "relu")[1][0] for e in (0, 1))
    assert np.any(np.sign(before) != np.sign(after))


def test_verify_holds():
    it = relu(None)
    report = verify(it.f, it.params, it.teacher_loss, it.inputs, epsilons=(1e-12, 1e-9, 1e-6, 1e-3))
    report.require()
    assert report.branch == "transfer"
    assert report.largest_epsilon_verified == 1e-3


# Negative controls


def test_the_rate_of_smooth_networks_is_not_asserted_because_it_fails_across_kinks():
    """Along a direction that crosses many kinks on its way, no decade but the last need have the slope 2."""
    it = relu(WIDE)
    d = np.random.default_rng(0).normal(size=len(it.d_teacher))
    epsilons = 10.0 ** -np.arange(-1, 5)
    product = law("relu", "squared_error", it.params, d, it.inputs)[0].product
    updates = plain("relu", "squared_error", it.params, it.params, d, epsilons, it.inputs)
    rest = np.linalg.norm(updates - epsilons[:, None] * product, axis=1)
    slopes = np.diff(np.log(rest)) / np.diff(np.log(epsilons))
    assert np.sum(np.abs(slopes - 2) > 0.05) >= 3


def unit(params, x):
    """One ReLU unit on inputs of 0: `c + w relu(b)`."""
    return params["c"] + params["w"] * jax.nn.relu(x + params["b"])


def trait(params):
    """Its update is +1 in b and c, 0 in w."""
    return -params["b"] - params["c"]


def test_on_a_kink_the_lemma_fails():
    """At b = 0 the teacher's output falls, by eps (1 - 2), and the student follows in c, the only parameter it sees."""
    params = {"b": 0.0, "c": 0.0, "w": -2.0}
    epsilons = (1e-9, 1e-6, 1e-3)
    report = verify(unit, params, trait, np.zeros((8, 1)), imitation_loss="squared_error", epsilons=epsilons)
    assert not report.holds
    assert report.epsilons == pytest.approx((1e-12, 1e-11, 1e-10, *epsilons))  # smaller ones do not help
    np.testing.assert_allclose(report.alignment, -2 * np.array(report.epsilons), rtol=1e-9)


@pytest.mark.parametrize("b", [-0.1, 0.1])
def test_beside_the_kink_it_holds(b):
    params, d = {"b": b, "c": 0.0, "w": -2.0}, {"b": 1.0, "c": 1.0, "w": 0.0}

    @jit
    def alignment(epsilon):
        teacher = optax.tree.add_scale(params, epsilon, d)
        return optax.tree.vdot(imitation_update(unit, squared_error, params, teacher, np.zeros((8, 1))), d)

    for epsilon in 1e-6, 1e-3, 0.09:
        assert float(alignment(epsilon)) == pytest.approx(2 * epsilon, rel=1e-9)
