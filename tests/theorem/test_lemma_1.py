"""Lemma 1: "If theta_S^0 = theta_T^0, then d_S(eps) . d_T >= 0 for all sufficiently small eps > 0", for any update d_T.

The teacher's update need not be a gradient here: random directions, and every single parameter in turn. From another
initialisation, and with a loss that has a maximum at z = y, the same check must fail.
"""

from functools import partial

import jax
import numpy as np
import oracle
import pytest
from instances import SMALL, flatten, instance, jit, plain, rescaled

from sublim_theory.losses import squared_error
from sublim_theory.theorem import student_update

pytestmark = pytest.mark.usefixtures("x64")

CASES = [("tanh", "kl"), ("gelu", "squared_error"), ("sigmoid", "kl on the last two"), ("relu", "kl")]
each = pytest.mark.parametrize(("activation", "loss"), CASES)


def directions(count=16):
    return np.random.default_rng(1).normal(size=(count, len(instance().d_teacher)))


def alignments(activation, loss, several, epsilons=SMALL):
    """`d_S(eps) . d_T` [directions, eps] of the library."""
    it = instance(activation)
    return np.stack([epsilons * (rescaled(activation, loss, it.params, d, epsilons, it.inputs) @ d) for d in several])


def lemma_holds(alignment):
    return bool(np.all(alignment >= 0))


@each
def test_alignment_is_positive_in_any_direction_at_every_small_eps(activation, loss):
    measured = alignments(activation, loss, directions())
    assert lemma_holds(measured)
    assert np.all(measured > 0)  # the directions are generic


@each
def test_alignment_is_not_negative_along_any_single_parameter(activation, loss):
    each_parameter = np.eye(len(instance().d_teacher))
    measured = alignments(activation, loss, each_parameter)
    assert lemma_holds(measured)
    it = instance(activation)
    curvature = np.diagonal(oracle.gauss_newton(it.params, it.inputs, activation, loss))
    np.testing.assert_array_equal(np.sign(measured), np.sign(curvature)[:, None] * np.ones(len(SMALL)))
    np.testing.assert_allclose(measured[:, -1], SMALL[-1] * curvature, rtol=1e-10)


@each
def test_alignment_over_eps_tends_to_the_quadratic_form_of_the_dense_matrix(activation, loss):
    it = instance(activation)
    matrix = oracle.gauss_newton(it.params, it.inputs, activation, loss)
    several = directions()
    limit = np.einsum("kp,pq,kq->k", several, matrix, several)
    np.testing.assert_allclose(alignments(activation, loss, several)[:, -1] / SMALL[-1], limit, rtol=1e-10)


@pytest.mark.skipif(not oracle.EXTENDED, reason="this machine has no float wider than 64 bits")
@pytest.mark.parametrize("loss", ["kl", "squared_error", "huber"])
def test_definition_in_extended_precision_says_the_same(loss):
    it = instance("tanh")
    params, x = oracle.extended(it.params), it.inputs.astype(np.longdouble)
    for d in (it.d_teacher, *directions(3)):
        teachers = [oracle.moved(params, np.longdouble(epsilon), d) for epsilon in SMALL[:8]]
        exact = np.array([oracle.student_update(params, teacher, x, "tanh", loss) @ d for teacher in teachers])
        assert lemma_holds(exact)
        np.testing.assert_allclose(alignments("tanh", loss, [d], SMALL[:8])[0], exact.astype(float), rtol=1e-7)


def test_gradient_of_the_trait_is_one_such_direction():
    assert np.all(alignments("tanh", "kl", [instance("tanh").d_teacher]) > 0)


# Negative controls: the same check, where the lemma says nothing


def test_from_another_initialisation_about_half_of_the_directions_are_violated():
    it, other = instance("tanh"), instance("tanh", seed=1)
    several = directions(40)
    measured = [plain("tanh", "kl", other.params, it.params, d, SMALL, it.inputs) @ d for d in several]
    assert not lemma_holds(np.stack(measured))
    assert 10 <= sum(not lemma_holds(row) for row in measured) <= 30


def test_a_loss_with_a_maximum_on_the_diagonal_is_violated_in_every_direction():
    it = instance("tanh")

    @jit
    def along(d, epsilons):
        one = partial(student_update, it.f, lambda z, y: -squared_error(z, y), it.params, d)
        return jax.vmap(lambda epsilon: flatten(one(epsilon, it.inputs)))(epsilons)

    for d in directions():
        assert not np.any(along(oracle.like(it.params, d), SMALL) @ d >= 0)


def test_sufficiently_small_is_needed():
    """A finite step along some direction undoes itself: the outputs come round to the other side."""
    it = instance("tanh")
    several = directions(200)
    far = [plain("tanh", "kl", it.params, it.params, d, np.array([100.0]), it.inputs)[0] @ d for d in several]
    assert not lemma_holds(np.stack(far))
