"""Fact 4: "Transfer ratio: to leading order the student's decrease of L_T over the teacher's is
alpha (d_T^T G d_T) / |d_T|^2, a Rayleigh quotient of G, at most alpha lambda_max(G). The theorem gives the sign, G the
size." Against a dense G: explicit Jacobians, softmax matrices written out, numpy's eigh."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from instances import instance as network
from scipy.sparse.linalg import aslinearoperator

from sublim_theory.theorem import Instance, spectrum

EXACT = 1e-10
WIDTHS = (3, 4, 4)
IT, MANY = (network("tanh", widths=WIDTHS, count=count) for count in (6, 40))
"""A network of 36 parameters; and with so many inputs that squared error on four outputs sees every one of them."""


@pytest.fixture(scope="module")
def instance():
    """Without a teacher."""
    return Instance(IT.f, IT.params, None, IT.inputs)


@pytest.fixture(scope="module")
def taught():
    return Instance(IT.f, IT.params, IT.teacher_loss, IT.inputs)


@pytest.fixture(scope="module")
def of_full_rank():
    return Instance(IT.f, IT.params, None, MANY.inputs, imitation_loss="squared_error")


class Dense:
    """G and its spectrum, formed."""

    def __init__(self, inputs, loss):
        self.d = IT.d_teacher
        self.g = oracle.gauss_newton(IT.params, inputs, "tanh", loss)
        self.values, self.vectors = np.linalg.eigh(self.g)


DENSE, FULL = Dense(IT.inputs, "kl"), Dense(MANY.inputs, "squared_error")


def tree(vector):
    return oracle.like(IT.params, vector)


def student_kl(direction, epsilon):
    return oracle.student_update(IT.params, oracle.moved(IT.params, epsilon, direction), IT.inputs, "tanh", "kl")


def relative(value, expected):
    return np.abs(np.subtract(value, expected)).max() / np.abs(expected).max()


@pytest.fixture
def iterated(monkeypatch):
    """Too many parameters for a dense G."""
    monkeypatch.setattr(spectrum, "EXPLICIT", 0)


# The operator


@pytest.mark.parametrize("batch_size", [None, 4])
def test_operator_is_G(batch_size):
    operator = spectrum.gauss_newton_operator(Instance(IT.f, IT.params, None, IT.inputs, batch_size=batch_size))
    assert operator.shape == (36, 36)
    assert operator.dtype == np.float64
    dense = operator @ np.eye(36)  # used outside any float64 scope
    assert relative(dense, DENSE.g) < EXACT
    assert relative(operator.T @ DENSE.d, DENSE.g.T @ DENSE.d) < EXACT
    assert jnp.zeros(1).dtype == np.float32


def test_operator_of_another_loss_is_another_G(instance):
    operator = spectrum.gauss_newton_operator(instance.with_loss("squared_error"))
    assert relative(operator @ DENSE.d, DENSE.g @ DENSE.d) > 0.1


# Extreme eigenvalues


def check_ends(found, dense, k, rank_bound):
    assert len(found.largest) == k
    assert relative(found.largest, dense.values[::-1][:k]) < EXACT
    assert found.rank_bound == rank_bound
    assert found.parameters == 36


def test_rank_below_the_parameters_dense_and_by_iteration(instance, monkeypatch):
    dense = spectrum.extreme_eigenvalues(instance, k=30)
    monkeypatch.setattr(spectrum, "EXPLICIT", 0)
    iterated = spectrum.extreme_eigenvalues(instance, k=5)
    check_ends(dense, DENSE, 30, 24)
    check_ends(iterated, DENSE, 5, 24)
    assert dense.smallest == iterated.smallest == 0.0
    assert dense.largest[24:] == (0.0,) * 6, "beyond the rank they are exactly 0"
    assert np.all(np.abs(DENSE.values[: 36 - 18]) < 1e-12), "softmax: one less an input, 6 x 3"
    assert "0 exactly: its rank is at most 24, below its 36 parameters" in str(dense)


def test_full_rank_dense_and_by_iteration(of_full_rank, monkeypatch):
    dense = spectrum.extreme_eigenvalues(of_full_rank)
    monkeypatch.setattr(spectrum, "EXPLICIT", 0)
    iterated = spectrum.extreme_eigenvalues(of_full_rank, k=3)
    check_ends(dense, FULL, 6, 160)
    check_ends(iterated, FULL, 3, 160)
    assert FULL.values[0] > 1e-8 * FULL.values[-1], "the case is one of full rank"
    for found in (dense, iterated):
        assert abs(found.smallest - FULL.values[0]) < spectrum.SMALLEST_TOLERANCE * FULL.values[-1]
    assert f"smallest eigenvalue of G: {FULL.values[0]:.6g}" in str(dense)


def test_smallest_is_none_where_it_does_not_converge(of_full_rank, monkeypatch):
    monkeypatch.setattr(spectrum, "EXPLICIT", 0)
    monkeypatch.setattr(spectrum, "SMALLEST_RESTARTS", 1)
    monkeypatch.setattr(spectrum, "SMALLEST_TOLERANCE", 0)
    found = spectrum.extreme_eigenvalues(of_full_rank, k=1)
    assert found.smallest is None
    assert "did not converge" in str(found)


@pytest.mark.usefixtures("iterated")
def test_G_that_vanishes(instance):
    """One auxiliary logit with a softmax: no gradient, fact 6."""
    found = spectrum.extreme_eigenvalues(instance.with_loss("kl", [3]), k=2)
    assert found.largest == (0.0, 0.0)
    assert found.smallest == 0.0


def test_more_than_there_are(instance):
    assert len(spectrum.extreme_eigenvalues(instance, k=99).largest) == 36


# Trace


def test_trace(instance):
    exact = spectrum.trace(instance)
    assert abs(exact.value / np.trace(DENSE.g) - 1) < EXACT
    assert (exact.standard_error, exact.samples) == (0.0, 0)
    assert str(exact) == f"trace of G: {exact.value:.6g}"

    estimate = spectrum.trace(instance, samples=400)
    assert estimate.samples == 400
    assert abs(estimate.value - exact.value) < 4 * estimate.standard_error
    off = DENSE.g - np.diag(np.diag(DENSE.g))  # variance of z^T G z over random signs: 2 |off-diagonal|^2
    assert estimate.standard_error == pytest.approx(np.sqrt(2 * np.sum(off**2) / 400), rel=0.2)
    assert "standard error of 400 probes" in str(estimate)
    assert spectrum.trace(instance, samples=3, seed=1) != spectrum.trace(instance, samples=3, seed=2)


@pytest.mark.usefixtures("iterated")
def test_trace_is_estimated_where_there_are_many_parameters(instance):
    assert spectrum.trace(instance).samples == spectrum.HUTCHINSON_SAMPLES


# Spectral distribution


def test_distribution_of_the_teachers_update(taught):
    found = spectrum.spectral_distribution(taught, steps=5)
    values, weights = np.array(found.values), np.array(found.weights)
    shares = (DENSE.vectors.T @ DENSE.d) ** 2 / (DENSE.d @ DENSE.d)
    assert len(values) == 5
    assert found.residual > 0
    assert abs(weights.sum() - 1) < 1e-12
    assert found.square == pytest.approx(DENSE.d @ DENSE.d, rel=EXACT)
    assert found.coefficient == pytest.approx(DENSE.d @ DENSE.g @ DENSE.d, rel=EXACT)
    for power in range(10):  # Gauss quadrature: all moments up to 2 m - 1
        assert weights @ values**power == pytest.approx(shares @ DENSE.values**power, rel=1e-9)
    assert weights @ values**10 != pytest.approx(shares @ DENSE.values**10, rel=1e-9), "and no further"
    assert DENSE.values[0] - 1e-12 <= values.min() <= values.max() <= DENSE.values[-1] * (1 + 1e-12)
    assert "quadrature of 5 nodes" in str(found)


def test_distribution_in_full(taught):
    """Carried to the end it is the measure itself: 18 eigenvalues and the null space, each once."""
    found = spectrum.spectral_distribution(taught, steps=36)
    shares = (DENSE.vectors.T @ DENSE.d) ** 2 / (DENSE.d @ DENSE.d)
    values, weights = np.array(found.values), np.array(found.weights)
    assert found.residual == 0
    for value, share in zip(DENSE.values[-6:], shares[-6:], strict=True):
        (near,) = np.flatnonzero(np.abs(values - value) < 1e-9 * DENSE.values[-1])
        assert weights[near] == pytest.approx(share, rel=1e-8)
    null = np.abs(values) < 1e-12
    assert weights[null].sum() == pytest.approx(shares[: 36 - 18].sum(), rel=1e-8)
    assert "exact" in str(found)


def test_distribution_of_an_eigenvector_and_of_a_null_vector(instance):
    top = spectrum.spectral_distribution(instance, direction=tree(3 * DENSE.vectors[:, -1]))
    assert top.residual == 0
    assert top.values == pytest.approx((DENSE.values[-1],), rel=EXACT)
    assert top.weights == pytest.approx((1.0,))
    assert top.square == pytest.approx(9)

    unseen = jax.tree.map(np.zeros_like, IT.params)
    unseen["layer_1"]["bias"][:] = 1  # all four logits alike: a softmax does not see it
    null = spectrum.spectral_distribution(instance, direction=unseen)
    assert max(np.abs(null.values)) < 1e-12
    assert null.rayleigh_quotient == pytest.approx(0, abs=1e-12)


@given(st.integers(1, 12), st.integers(1, 14), st.integers(0, 12), st.integers(0, 2**32 - 1))
def test_lanczos_on_any_matrix(order, steps, rank, seed):
    """Sum of weights 1, moments up to 2 m - 1, never more nodes than the order."""
    random = np.random.default_rng(seed)
    factor = random.normal(size=(order, min(rank, order)))
    matrix, start = factor @ factor.T, random.normal(size=order)
    diagonal, beside, residual = spectrum.lanczos(matrix.dot, start, steps)
    assert len(diagonal) == len(beside) + 1 <= min(order, steps)
    values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
    scale = np.linalg.norm(matrix, 2) or 1.0
    unit = start / np.linalg.norm(start)
    for power in range(2 * len(diagonal)):
        moment = unit @ np.linalg.matrix_power(matrix / scale, power) @ unit
        assert vectors[0] ** 2 @ (values / scale) ** power == pytest.approx(moment, abs=1e-9)
    if residual == 0:
        assert len(diagonal) <= min(rank, order) + 1


# Transfer ratio


def test_transfer_ratio(taught):
    found = spectrum.transfer_ratio(taught, alpha=0.5)
    assert found.ratio == pytest.approx(0.5 * (DENSE.d @ DENSE.g @ DENSE.d) / (DENSE.d @ DENSE.d), rel=EXACT)
    assert found.bound == pytest.approx(0.5 * DENSE.values[-1], rel=EXACT)
    assert found.largest_eigenvalue == pytest.approx(DENSE.values[-1], rel=EXACT)
    assert 0 < found.ratio < found.bound
    assert "of at most" in str(found)

    # What the two steps do to L_T, at a small eps.
    def change(step):
        after, before = (oracle.trait_loss(oracle.moved(IT.params, size, step), *IT.trait) for size in (1, 0))
        return after - before

    measured = change(0.5 * student_kl(DENSE.d, 1e-5)) / change(1e-5 * DENSE.d)
    assert measured == pytest.approx(found.ratio, rel=1e-3)


@pytest.mark.usefixtures("iterated")
def test_transfer_ratio_of_the_top_eigenvector_is_its_bound(instance):
    found = spectrum.transfer_ratio(instance, direction=tree(DENSE.vectors[:, -1]))
    assert found.ratio == pytest.approx(found.bound, rel=EXACT)


# Coverage


def test_coverage(taught, instance):
    other = np.random.default_rng(3).normal(size=36)

    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    target = tree(other)

    limit = spectrum.coverage(taught, target)
    assert limit == pytest.approx(cosine(DENSE.g @ DENSE.d, other), rel=EXACT)
    # The trained teacher's labels: the teacher has moved by the displacement itself.
    trained = spectrum.coverage(instance, target, epsilon=1.0)
    assert trained == pytest.approx(cosine(student_kl(other, 1.0), other), rel=EXACT)
    assert abs(trained - cosine(DENSE.g @ other, other)) > 1e-2, "and that is not the limit"
    # At a small eps, where the plain form has lost its digits, the limit.
    small = spectrum.coverage(instance, target, direction=tree(DENSE.d), epsilon=1e-13)
    assert small == pytest.approx(limit, rel=1e-9)
    # A displacement that the student's update does not see.
    image = DENSE.g @ DENSE.d
    across = other - image * (image @ other) / (image @ image)
    assert abs(spectrum.coverage(taught, tree(across))) < 1e-12


def test_coverage_of_a_student_that_does_not_move(instance):
    assert spectrum.coverage(instance.with_loss("kl", [3]), tree(DENSE.d)) == 0.0


# Arguments and global state


def test_a_matrix_that_is_not_symmetric_is_refused():
    """No loss that passed the checks of an instance makes one: it takes a rule of differentiation of its own."""
    assert 0 < spectrum.require_symmetric(aslinearoperator(DENSE.g)) <= DENSE.values[-1]
    with pytest.raises(ValueError, match="imitation_loss makes a G that is not symmetric"):
        spectrum.require_symmetric(aslinearoperator(DENSE.g + np.triu(DENSE.g) / 100))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda it: spectrum.extreme_eigenvalues(it, k=0), "k must be at least 1"),
        (lambda it: spectrum.trace(it, samples=1), "samples must be at least 2"),
        (lambda it: spectrum.spectral_distribution(it), "teacher_loss is None"),
        (lambda it: spectrum.spectral_distribution(it, direction=it.params, steps=0), "steps must be at least 1"),
        (
            lambda it: spectrum.spectral_distribution(it, direction=jax.tree.map(np.zeros_like, it.params)),
            "direction is zero",
        ),
        (lambda it: spectrum.transfer_ratio(it, direction={"layer_0": it.params["layer_0"]}), "direction must have"),
        (lambda it: spectrum.transfer_ratio(it, direction=it.params, alpha=-1), "alpha must be positive"),
        (lambda it: spectrum.coverage(it, it.params["layer_1"]), "displacement must have"),
        (lambda it: spectrum.coverage(it, it.params, epsilon=0.0), "epsilon must be positive"),
    ],
)
def test_wrong_arguments_are_named(instance, call, message):
    before = jax.config.jax_enable_x64
    with pytest.raises(ValueError, match=message):
        call(instance)
    assert jax.config.jax_enable_x64 == before
    assert jnp.zeros(1).dtype == np.float32


def test_a_trait_without_gradient_has_no_ratio():
    idle = Instance(IT.f, IT.params, lambda p: 0 * p["layer_1"]["bias"][0], IT.inputs)
    with pytest.raises(ValueError, match="the gradient of teacher_loss is zero"):
        spectrum.transfer_ratio(idle)


def test_inside_the_callers_jit(instance):
    """Numbers that are known at trace time, in float64, whatever surrounds the call."""
    seen, direction = [], tree(DENSE.d)

    @jax.jit
    def caller(x):
        seen.append(spectrum.transfer_ratio(instance, direction=direction))
        return x + 1

    assert caller(jnp.zeros(2)).dtype == np.float32
    assert seen[0].ratio == pytest.approx((DENSE.d @ DENSE.g @ DENSE.d) / (DENSE.d @ DENSE.d), rel=EXACT)
    assert isinstance(seen[0].ratio, float)
