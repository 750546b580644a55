"""Theorem 1: "If moreover d_T = -grad L_T(theta^0): either d_S(eps) . d_T = 0 for every eps > 0, or
L_T(theta_S^eps) < L_T(theta^0) for all sufficiently small eps > 0."

L_T is any differentiable function of the parameters. Where d_T is not its gradient, or the student starts elsewhere,
the second conclusion must fail.
"""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from instances import AUXILIARY, SMALL, instance, plain, rescaled

from sublim_theory.theorem import verify
from sublim_theory.theorem.updates import change_along

pytestmark = pytest.mark.usefixtures("x64")

ALPHA = 0.7

# Traits that know nothing of the network, the inputs or the labels: L_T in numpy of the flat parameters, its gradient,
# and `L_T(theta + step) - L_T(theta)` in a form that does not cancel.
TRAITS = {
    "half the squared norm": (lambda t: t, lambda t, step: np.sum(step * (t + step / 2))),
    "sum of sines": (np.cos, lambda t, step: np.sum(2 * np.sin(step / 2) * np.cos(t + step / 2))),
    "one weight": (lambda t: np.eye(len(t))[70], lambda _, step: step[70]),
    "sum of fourth powers": (
        lambda t: 4 * t**3,
        lambda t, step: np.sum(step * (4 * t**3 + step * (6 * t**2 + step * (4 * t + step)))),
    ),
}


def theorem_holds(alignment, change):
    """The dichotomy at the eps that were tried."""
    return bool(np.all(np.asarray(alignment) == 0) or np.all(np.asarray(change) < 0))


@pytest.mark.parametrize("trait", TRAITS)
@pytest.mark.parametrize(("activation", "loss"), [("tanh", "kl"), ("gelu", "squared_error"), ("relu", "kl")])
def test_any_trait_falls_at_every_small_eps(trait, activation, loss):
    gradient, change = TRAITS[trait]
    it = instance(activation)
    theta = oracle.flat(it.params)
    d_teacher = -gradient(theta)
    updates = rescaled(activation, loss, it.params, d_teacher, SMALL, it.inputs)  # d_S / eps
    changes = [change(theta, ALPHA * epsilon * update) for epsilon, update in zip(SMALL, updates, strict=True)]
    assert np.all(updates @ d_teacher > 0)
    assert theorem_holds(updates @ d_teacher, changes)
    np.testing.assert_allclose(changes[-1] / SMALL[-1], -ALPHA * updates[-1] @ d_teacher, rtol=1e-9)


@pytest.fixture(scope="module")
def transfer():
    it = instance("tanh")
    epsilons = (*SMALL, 1e-2, 1e-1)
    return it, verify(it.f, it.params, it.teacher_loss, it.inputs, logits=AUXILIARY, epsilons=epsilons, alpha=ALPHA)


def test_transfer_branch_of_a_classifier_that_is_imitated_on_its_auxiliary_logits(transfer):
    _, report = transfer
    assert report.branch == "transfer"
    assert report.holds
    assert theorem_holds(report.alignment, report.teacher_loss_change)
    assert all(value > 0 for value in report.alignment)
    assert all(change < 0 for change in report.teacher_loss_change)
    assert report.largest_epsilon_verified == 0.1
    assert report.epsilons == tuple(sorted(report.epsilons))
    report.require()


@pytest.mark.skipif(not oracle.EXTENDED, reason="this machine has no float wider than 64 bits")
def test_change_of_the_teachers_loss_is_that_of_extended_precision(transfer):
    it, report = transfer
    params = oracle.extended(it.params)
    x, trait = it.inputs.astype(np.longdouble), (it.trait_inputs.astype(np.longdouble), *it.trait[1:])
    for epsilon, alignment, change in zip(report.epsilons, report.alignment, report.teacher_loss_change, strict=True):
        if epsilon < 1e-9:
            continue  # the plain definition has lost its digits even there
        teacher = oracle.moved(params, np.longdouble(epsilon), it.d_teacher)
        update = oracle.student_update(params, teacher, x, "tanh", "kl on the last two")
        after = oracle.moved(params, np.longdouble(ALPHA), update)
        expected = oracle.trait_loss(after, *trait) - oracle.trait_loss(params, *trait)
        assert alignment == pytest.approx(float(update @ it.d_teacher), rel=1e-7)
        assert change == pytest.approx(float(expected), rel=1e-7)


def test_orthogonal_branch_is_zero_at_every_eps_however_large():
    """A trait in the biases of the class head, which the student's loss never sees."""
    it = instance("tanh")
    d_teacher = np.zeros(len(it.d_teacher))
    d_teacher[-30:-27] = 1 - oracle.flat(it.params)[-30:-27]
    assert oracle.like(it.params, d_teacher)["layer_2"]["bias"][:3].all()
    epsilons = [1e-12, 1e-6, 1.0, 100.0]
    arguments = "tanh", "kl on the last two", it.params
    by_definition = plain(*arguments, it.params, d_teacher, epsilons, it.inputs) @ d_teacher
    assert by_definition.tolist() == [0.0, 0.0, 0.0, 0.0]
    assert theorem_holds(by_definition, np.zeros(4))
    assert (rescaled(*arguments, d_teacher, SMALL, it.inputs) @ d_teacher).tolist() == [0.0] * len(SMALL)


@pytest.mark.parametrize("size", [1e-12, 1e-6, 1e-3, 1.0])
def test_change_along_keeps_its_digits(size):
    def function(params):
        return 5 + jnp.sum(jnp.sin(params["a"])) + params["b"] ** 2

    rng = np.random.default_rng(2)
    params, step = ({"a": rng.normal(size=6), "b": np.float64(rng.normal())} for _ in range(2))
    step = jax.tree.map(lambda leaf: size * leaf, step)
    half = step["a"] / 2
    expected = np.sum(2 * np.sin(half) * np.cos(params["a"] + half)) + step["b"] * (2 * params["b"] + step["b"])
    assert float(change_along(function, params, step)) == pytest.approx(expected, rel=1e-9)


# Negative controls


def test_where_d_teacher_is_no_gradient_the_trait_need_not_fall():
    """The lemma holds along any d_T, the theorem's second conclusion does not."""
    it = instance("tanh")
    theta = oracle.flat(it.params)
    _, change = TRAITS["half the squared norm"]
    rng = np.random.default_rng(3)
    rises = 0
    for d in rng.normal(size=(40, len(theta))):
        updates = rescaled("tanh", "kl", it.params, d, SMALL, it.inputs)
        changes = [change(theta, ALPHA * epsilon * update) for epsilon, update in zip(SMALL, updates, strict=True)]
        assert np.all(updates @ d > 0)
        rises += not theorem_holds(updates @ d, changes)
    assert 10 <= rises <= 30


@pytest.mark.parametrize("trait", ["half the squared norm", "sum of sines"])
def test_from_another_initialisation_the_trait_need_not_fall(trait):
    gradient, change = TRAITS[trait]
    rises = 0
    for seed in range(20):
        it, other = instance("tanh", seed), instance("tanh", 100 + seed)
        theta = oracle.flat(it.params)
        d_teacher = -gradient(theta)
        updates = plain("tanh", "kl", other.params, it.params, d_teacher, SMALL, it.inputs)
        start = oracle.flat(other.params)
        # A small alpha: the sign of the change is that of the first order.
        changes = [change(start, 1e-6 * update) for update in updates]
        rises += not theorem_holds(updates @ d_teacher, changes)
    assert 0 < rises < 20


def test_a_student_of_large_steps_needs_a_smaller_eps():
    gradient, change = TRAITS["half the squared norm"]
    it = instance("tanh")
    theta = oracle.flat(it.params)
    updates = rescaled("tanh", "kl", it.params, -gradient(theta), SMALL, it.inputs)
    falls = [change(theta, 1e5 * epsilon * update) < 0 for epsilon, update in zip(SMALL, updates, strict=True)]
    assert not falls[0]
    assert all(falls[SMALL.tolist().index(1e-8) :])
