"""Fact 11: "Linearised student under squared error and gradient flow: theta_S(t) - theta^0 =
(I - exp(-Gt)) (theta_T - theta^0), so its alignment with the teacher's displacement, d^T G exp(-Gt) d, stays >= 0 for
all t. Alignment with the *current* trait gradient is not guaranteed."

In the eigenbasis of G the alignment is a sum of squares times positive numbers. The library's update of the linearised
network is the right-hand side of the flow; along another vector than d the same expression changes sign, the control.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from instances import flatten, instance, jit
from scipy import linalg

from sublim_theory.losses import squared_error
from sublim_theory.theorem import imitation_update

pytestmark = pytest.mark.usefixtures("x64")

TIMES = np.concatenate([[0.0], np.geomspace(1e-3, 1e4, 60)])
SEEDS = range(5)


@functools.cache
def spectrum(seed):
    """Eigenvalues and eigenvectors of G by the singular values of its root, so that none comes out negative."""
    it = instance("tanh", seed)
    root = np.sqrt(2 / len(it.inputs)) * oracle.jacobian(it.params, it.inputs, "tanh").reshape(-1, len(it.d_teacher))
    _, singular, vectors = np.linalg.svd(root, full_matrices=False)
    return singular**2, vectors


def alignment(seed, along, d, times=TIMES):
    """`along^T G exp(-G t) d` at each time."""
    values, vectors = spectrum(seed)
    return np.sum((vectors @ along) * (vectors @ d) * values * np.exp(-np.outer(times, values)), axis=1)


def stays_aligned(alignment):
    return bool(np.all(alignment >= 0))


@pytest.mark.parametrize("seed", SEEDS)
def test_alignment_with_the_teachers_displacement_is_never_negative(seed):
    it = instance("tanh", seed)
    for d in (it.d_teacher, *np.random.default_rng(seed).normal(size=(20, len(it.d_teacher)))):
        measured = alignment(seed, d, d)
        assert stays_aligned(measured)
        assert np.all(measured[TIMES < 100] > 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_spectrum_is_that_of_the_dense_matrix_and_the_exponential_that_of_scipy(seed):
    it = instance("tanh", seed)
    matrix = oracle.gauss_newton(it.params, it.inputs, "tanh", "squared_error")
    values, vectors = spectrum(seed)
    np.testing.assert_allclose((vectors.T * values) @ vectors, matrix, rtol=0, atol=1e-13 * values.max())
    for time in 0.0, 0.1, 3.0:
        dense = it.d_teacher @ matrix @ linalg.expm(-time * matrix) @ it.d_teacher
        assert dense == pytest.approx(alignment(seed, it.d_teacher, it.d_teacher, [time])[0], rel=1e-10)


@pytest.fixture(scope="module")
def linearised():
    """`rate(theta, theta_T)`, the library's update of the network that is linear around theta^0; flat."""
    it = instance("tanh")
    z, tangent = jax.linearize(lambda params: it.f(params, it.inputs), it.params)

    def f(params, _):
        return z + tangent(jax.tree.map(jnp.subtract, params, it.params))

    @jit
    def rate(params, teacher_params):
        return flatten(imitation_update(f, squared_error, params, teacher_params, it.inputs))

    return lambda theta, teacher: np.asarray(rate(oracle.like(it.params, theta), oracle.like(it.params, teacher)))


def test_the_librarys_update_is_the_velocity_of_the_flow(linearised):
    it = instance("tanh")
    values, vectors = spectrum(0)
    theta = oracle.flat(it.params)
    for time in 0.0, 0.5, 5.0, 50.0:
        gone = vectors.T @ ((1 - np.exp(-values * time)) * (vectors @ it.d_teacher))
        velocity = linearised(theta + gone, theta + it.d_teacher)
        assert velocity @ it.d_teacher > 0
        assert velocity @ it.d_teacher == pytest.approx(alignment(0, it.d_teacher, it.d_teacher, [time])[0], rel=1e-9)


def test_every_step_of_gradient_descent_is_aligned(linearised):
    """The discrete flow of the same law, d^T G (1 - h G)^k d, with the library's update at each of 200 steps."""
    it = instance("tanh")
    values, vectors = spectrum(0)
    start = oracle.flat(it.params)
    theta, h = start, 0.9 / values.max()
    for k in range(200):
        update = linearised(theta, start + it.d_teacher)
        expected = np.sum((vectors @ it.d_teacher) ** 2 * values * (1 - h * values) ** k)
        assert update @ it.d_teacher > 0
        assert update @ it.d_teacher == pytest.approx(expected, rel=1e-9)
        theta = theta + h * update


# Negative controls


def test_alignment_with_another_gradient_is_not_guaranteed():
    """Aligned at first, for two eigenvectors of G; not later, when the faster one has been learnt."""
    values, vectors = spectrum(0)
    fast, slow = vectors[0], vectors[3]
    d, current = fast + slow, 2 * values[3] / values[0] * fast - slow
    measured = alignment(0, current, d)
    assert measured[0] > 0
    assert not stays_aligned(measured)


def test_a_matrix_that_is_not_symmetric_loses_the_sign():
    matrix = np.array([[1.0, 8.0], [-8.0, 1.0]])  # a rotation on top of the identity
    d = np.array([1.0, 0.0])
    assert not stays_aligned(np.array([d @ matrix @ linalg.expm(-time * matrix) @ d for time in TIMES[TIMES < 10]]))
