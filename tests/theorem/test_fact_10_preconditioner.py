"""Fact 10: "A common fixed symmetric preconditioner P for both steps keeps the theorem. Adam's first step (a sign) does
not."

Teacher: theta + eps P d_T. Student: theta + alpha P d_S. With two different preconditioners, each symmetric positive
definite, or with a common one that is not symmetric, the sign can be anything.
"""

import numpy as np
import oracle
import pytest
from instances import SMALL, instance, rescaled

pytestmark = pytest.mark.usefixtures("x64")

RNG = np.random.default_rng(10)
SIZE = len(instance("tanh").d_teacher)
ROTATION = np.linalg.qr(RNG.normal(size=(SIZE, SIZE)))[0]
SPREAD = 10.0 ** RNG.uniform(-2, 2, size=SIZE)

PRECONDITIONERS = {
    "diagonal": np.diag(SPREAD),
    "dense": (ROTATION * SPREAD) @ ROTATION.T,
    "indefinite": (ROTATION * RNG.normal(size=SIZE)) @ ROTATION.T,
}
each = pytest.mark.parametrize("p", PRECONDITIONERS.values(), ids=PRECONDITIONERS)


def student(it, direction, loss="kl"):
    """d_S(eps) / eps after the teacher's step along `direction`."""
    return rescaled("tanh", loss, it.params, direction, SMALL, it.inputs)


def holds(it, teacher, own):
    """Whether the student's step `own d_S` descends L_T at every eps, after the teacher's step along `teacher d_T`."""
    return bool(np.all(student(it, teacher @ it.d_teacher) @ own.T @ it.d_teacher > 0))


@each
def test_a_common_symmetric_preconditioner_keeps_the_sign(p):
    assert np.array_equal(p, p.T) or np.allclose(p, p.T, rtol=1e-12)
    for seed in range(10):
        assert holds(instance("tanh", seed), p, p)


@each
def test_alignment_tends_to_the_preconditioned_quadratic_form(p):
    it = instance("tanh")
    matrix = oracle.gauss_newton(it.params, it.inputs, "tanh", "kl")
    measured = student(it, p @ it.d_teacher) @ p.T @ it.d_teacher
    assert measured[-1] == pytest.approx(it.d_teacher @ p @ matrix @ p @ it.d_teacher, rel=1e-9)


@each
def test_the_trait_falls(p):
    """Theorem 1 with the trait |theta - 1|**2 / 2, whose change is known without cancellation."""
    it = instance("tanh")
    theta = oracle.flat(it.params)
    d_teacher = 1 - theta
    for epsilon, update in zip(SMALL, student(it, p @ d_teacher), strict=True):
        step = 1e-3 * epsilon * (p @ update)
        assert np.sum(step * (theta - 1 + step / 2)) < 0


# Negative controls


def test_two_different_preconditioners_can_turn_the_sign():
    """Both symmetric positive definite. With u = G d_T: `1 + c w w^T`, w the difference of the unit vectors of d_T and
    u, turns u to the far side of d_T."""
    for seed in range(5):
        it = instance("tanh", seed)
        d, u = it.d_teacher, student(it, it.d_teacher)[-1]
        w = d / np.linalg.norm(d) - u / np.linalg.norm(u)
        own = np.eye(SIZE) + 1e3 * np.outer(w, w)
        assert np.linalg.eigvalsh(own).min() > 0
        assert holds(it, np.eye(SIZE), np.eye(SIZE))
        assert holds(it, own, own)
        assert not holds(it, np.eye(SIZE), own)


def test_a_common_preconditioner_that_is_not_symmetric_can_turn_the_sign():
    turned = [not holds(instance("tanh", seed), ROTATION, ROTATION) for seed in range(20)]
    assert 4 <= sum(turned) <= 16


def test_a_sign_is_no_fixed_preconditioner():
    """sign(v) = P(v) v with a diagonal P that depends on v: other for the teacher than for the student."""
    it = instance("tanh")
    d = np.sign(it.d_teacher)
    update = student(it, d)[-1]
    used = it.d_teacher != 0
    scales = np.sign(it.d_teacher[used]) / it.d_teacher[used], np.sign(update[used]) / update[used]
    assert not np.allclose(scales[0] / scales[1], scales[0][0] / scales[1][0])
