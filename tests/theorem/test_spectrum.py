"""Fact 4: "Transfer ratio: to leading order the student's decrease of L_T over the teacher's is
alpha (d_T^T G d_T) / |d_T|^2, a Rayleigh quotient of G, at most alpha lambda_max(G). The theorem gives the sign, G the
size." Against a dense G: explicit Jacobians, softmax matrices written out, numpy's eigh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree
from scipy import special
from scipy.sparse.linalg import aslinearoperator

from sublim_theory.theorem import Instance, spectrum

EXACT = 1e-10
TARGET = np.random.default_rng(7).normal(size=(5, 4))


def f(params, x):
    """3-4-4, tanh."""
    (w1, b1), (w2, b2) = params["hidden"], params["head"]
    return jnp.tanh(x @ w1 + b1[None]) @ w2 + b2[None]


def teacher_loss(params):
    """A trait on other inputs than the student's, and a regulariser."""
    z = f(params, jnp.asarray(TARGET[:, :3]))
    return jnp.mean(jnp.square(jnp.sin(z) - TARGET)) + 0.1 * jnp.sum(params["hidden"][0] ** 4)


@pytest.fixture(scope="module")
def params():
    draw = np.random.default_rng(0).normal
    return {"hidden": (draw(size=(3, 4)), draw(size=4)), "head": (draw(size=(4, 4)), draw(size=4))}


@pytest.fixture(scope="module")
def inputs():
    return np.random.default_rng(1).normal(size=(6, 3))


@pytest.fixture(scope="module")
def instance(params, inputs):
    """Without a teacher."""
    return Instance(f, params, None, inputs)


@pytest.fixture(scope="module")
def taught(params, inputs):
    return Instance(f, params, teacher_loss, inputs)


class Oracle:
    """Everything dense, in numpy but for the Jacobian, which is JAX's forward mode, column by column."""

    def __init__(self, params, inputs, loss="kl"):
        with jax.enable_x64(True):
            theta, unravel = ravel_pytree(jax.tree.map(jnp.asarray, params))
            self.unravel = unravel
            self.jacobian = np.asarray(jax.jit(jax.jacfwd(lambda t: f(unravel(t), jnp.asarray(inputs))))(theta))
            self.z = np.asarray(f(params, inputs))
            self.d = -np.asarray(jax.jit(jax.jacfwd(lambda t: teacher_loss(unravel(t))))(theta))
            self.theta = np.asarray(theta)
            self.inputs = inputs
        p = special.softmax(self.z, axis=1)
        m = {
            "kl": np.einsum("bi,ij->bij", p, np.eye(4)) - np.einsum("bi,bj->bij", p, p),
            "squared_error": 2 * np.broadcast_to(np.eye(4), (len(p), 4, 4)),
        }[loss]
        self.g = np.einsum("bip,bij,bjq->pq", self.jacobian, m, self.jacobian) / len(p)
        self.values, self.vectors = np.linalg.eigh(self.g)

    def tree(self, vector):
        with jax.enable_x64(True):
            return jax.tree.map(np.asarray, self.unravel(jnp.asarray(vector)))

    def outputs(self, theta):
        with jax.enable_x64(True):
            return np.asarray(f(self.unravel(jnp.asarray(theta)), self.inputs))

    def student_kl(self, direction, epsilon):
        """`d_S = E[J^T (softmax(y) - softmax(z))]`."""
        y = self.outputs(self.theta + epsilon * direction)
        pull = special.softmax(y, axis=1) - special.softmax(self.z, axis=1)
        return np.einsum("bip,bi->p", self.jacobian, pull) / len(y)


@pytest.fixture(scope="module")
def oracle(params, inputs):
    return Oracle(params, inputs)


@pytest.fixture(scope="module")
def many():
    """Enough inputs that squared error on four outputs sees every one of the 36 parameters."""
    return np.random.default_rng(2).normal(size=(40, 3))


@pytest.fixture(scope="module")
def full(params, many):
    return Oracle(params, many, "squared_error")


def relative(value, expected):
    return np.abs(np.subtract(value, expected)).max() / np.abs(expected).max()


@pytest.fixture
def iterated(monkeypatch):
    """Too many parameters for a dense G."""
    monkeypatch.setattr(spectrum, "EXPLICIT", 0)


# The operator


@pytest.mark.parametrize("batch_size", [None, 4])
def test_operator_is_G(params, inputs, oracle, batch_size):
    operator = spectrum.gauss_newton_operator(Instance(f, params, None, inputs, batch_size=batch_size))
    assert operator.shape == (36, 36)
    assert operator.dtype == np.float64
    dense = operator @ np.eye(36)  # used outside any float64 scope
    assert relative(dense, oracle.g) < EXACT
    assert relative(operator.T @ oracle.d, oracle.g.T @ oracle.d) < EXACT
    assert jnp.zeros(1).dtype == np.float32


def test_operator_of_another_loss_is_another_G(params, inputs, oracle):
    operator = spectrum.gauss_newton_operator(Instance(f, params, None, inputs, imitation_loss="squared_error"))
    assert relative(operator @ oracle.d, oracle.g @ oracle.d) > 0.1


# Extreme eigenvalues


def check_ends(found, oracle, k, rank_bound):
    assert len(found.largest) == k
    assert relative(found.largest, oracle.values[::-1][:k]) < EXACT
    assert found.rank_bound == rank_bound
    assert found.parameters == 36


def test_rank_below_the_parameters_dense_and_by_iteration(instance, oracle, monkeypatch):
    dense = spectrum.extreme_eigenvalues(instance, k=30)
    monkeypatch.setattr(spectrum, "EXPLICIT", 0)
    iterated = spectrum.extreme_eigenvalues(instance, k=5)
    check_ends(dense, oracle, 30, 24)
    check_ends(iterated, oracle, 5, 24)
    assert dense.smallest == iterated.smallest == 0.0
    assert dense.largest[24:] == (0.0,) * 6, "beyond the rank they are exactly 0"
    assert np.all(np.abs(oracle.values[: 36 - 18]) < 1e-12), "softmax: one less an input, 6 x 3"
    assert "0 exactly: its rank is at most 24, below its 36 parameters" in str(dense)


def test_full_rank_dense_and_by_iteration(params, many, full, monkeypatch):
    dense = spectrum.extreme_eigenvalues(Instance(f, params, None, many, imitation_loss="squared_error"))
    monkeypatch.setattr(spectrum, "EXPLICIT", 0)
    iterated = spectrum.extreme_eigenvalues(Instance(f, params, None, many, imitation_loss="squared_error"), k=3)
    check_ends(dense, full, 6, 160)
    check_ends(iterated, full, 3, 160)
    assert full.values[0] > 1e-8 * full.values[-1], "the case is one of full rank"
    for found in (dense, iterated):
        assert abs(found.smallest - full.values[0]) < spectrum.SMALLEST_TOLERANCE * full.values[-1]
    assert f"smallest eigenvalue of G: {full.values[0]:.6g}" in str(dense)


def test_smallest_is_none_where_it_does_not_converge(params, many, monkeypatch):
    monkeypatch.setattr(spectrum, "EXPLICIT", 0)
    monkeypatch.setattr(spectrum, "SMALLEST_RESTARTS", 1)
    monkeypatch.setattr(spectrum, "SMALLEST_TOLERANCE", 0)
    found = spectrum.extreme_eigenvalues(Instance(f, params, None, many, imitation_loss="squared_error"), k=1)
    assert found.smallest is None
    assert "did not converge" in str(found)


@pytest.mark.usefixtures("iterated")
def test_G_that_vanishes(params, inputs):
    """One auxiliary logit with a softmax: no gradient, fact 6."""
    found = spectrum.extreme_eigenvalues(Instance(f, params, None, inputs, logits=[3]), k=2)
    assert found.largest == (0.0, 0.0)
    assert found.smallest == 0.0


def test_more_than_there_are(instance):
    assert len(spectrum.extreme_eigenvalues(instance, k=99).largest) == 36


# Trace


def test_trace(instance, oracle):
    exact = spectrum.trace(instance)
    assert abs(exact.value / np.trace(oracle.g) - 1) < EXACT
    assert (exact.standard_error, exact.samples) == (0.0, 0)
    assert str(exact) == f"trace of G: {exact.value:.6g}"

    estimate = spectrum.trace(instance, samples=400)
    assert estimate.samples == 400
    assert abs(estimate.value - exact.value) < 4 * estimate.standard_error
    off = oracle.g - np.diag(np.diag(oracle.g))  # variance of z^T G z over random signs: 2 |off-diagonal|^2
    assert estimate.standard_error == pytest.approx(np.sqrt(2 * np.sum(off**2) / 400), rel=0.2)
    assert "standard error of 400 probes" in str(estimate)
    assert spectrum.trace(instance, samples=3, seed=1) != spectrum.trace(instance, samples=3, seed=2)


@pytest.mark.usefixtures("iterated")
def test_trace_is_estimated_where_there_are_many_parameters(instance):
    assert spectrum.trace(instance).samples == spectrum.HUTCHINSON_SAMPLES


# Spectral distribution


def test_distribution_of_the_teachers_update(taught, oracle):
    found = spectrum.spectral_distribution(taught, steps=5)
    values, weights = np.array(found.values), np.array(found.weights)
    shares = (oracle.vectors.T @ oracle.d) ** 2 / (oracle.d @ oracle.d)
    assert len(values) == 5
    assert found.residual > 0
    assert abs(weights.sum() - 1) < 1e-12
    assert found.square == pytest.approx(oracle.d @ oracle.d, rel=EXACT)
    assert found.coefficient == pytest.approx(oracle.d @ oracle.g @ oracle.d, rel=EXACT)
    for power in range(10):  # Gauss quadrature: all moments up to 2 m - 1
        assert weights @ values**power == pytest.approx(shares @ oracle.values**power, rel=1e-9)
    assert weights @ values**10 != pytest.approx(shares @ oracle.values**10, rel=1e-9), "and no further"
    assert oracle.values[0] - 1e-12 <= values.min() <= values.max() <= oracle.values[-1] * (1 + 1e-12)
    assert "quadrature of 5 nodes" in str(found)


def test_distribution_in_full(taught, oracle):
    """Carried to the end it is the measure itself: 18 eigenvalues and the null space, each once."""
    found = spectrum.spectral_distribution(taught, steps=36)
    shares = (oracle.vectors.T @ oracle.d) ** 2 / (oracle.d @ oracle.d)
    values, weights = np.array(found.values), np.array(found.weights)
    assert found.residual == 0
    for value, share in zip(oracle.values[-6:], shares[-6:], strict=True):
        (near,) = np.flatnonzero(np.abs(values - value) < 1e-9 * oracle.values[-1])
        assert weights[near] == pytest.approx(share, rel=1e-8)
    null = np.abs(values) < 1e-12
    assert weights[null].sum() == pytest.approx(shares[: 36 - 18].sum(), rel=1e-8)
    assert "exact" in str(found)


def test_distribution_of_an_eigenvector_and_of_a_null_vector(instance, params, oracle):
    top = spectrum.spectral_distribution(instance, direction=oracle.tree(3 * oracle.vectors[:, -1]))
    assert top.residual == 0
    assert top.values == pytest.approx((oracle.values[-1],), rel=EXACT)
    assert top.weights == pytest.approx((1.0,))
    assert top.square == pytest.approx(9)

    unseen = jax.tree.map(np.zeros_like, params)
    unseen["head"][1][:] = 1  # all four logits alike: a softmax does not see it
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


def test_transfer_ratio(taught, oracle):
    found = spectrum.transfer_ratio(taught, alpha=0.5)
    assert found.ratio == pytest.approx(0.5 * (oracle.d @ oracle.g @ oracle.d) / (oracle.d @ oracle.d), rel=EXACT)
    assert found.bound == pytest.approx(0.5 * oracle.values[-1], rel=EXACT)
    assert found.largest_eigenvalue == pytest.approx(oracle.values[-1], rel=EXACT)
    assert 0 < found.ratio < found.bound
    assert "of at most" in str(found)

    # What the two steps do to L_T, at a small eps.
    epsilon = 1e-5
    with jax.enable_x64(True):

        def change(step):
            loss = [teacher_loss(oracle.unravel(jnp.asarray(t))) for t in (oracle.theta + step, oracle.theta)]
            return float(loss[0] - loss[1])

        measured = change(0.5 * oracle.student_kl(oracle.d, epsilon)) / change(epsilon * oracle.d)
    assert measured == pytest.approx(found.ratio, rel=1e-3)


@pytest.mark.usefixtures("iterated")
def test_transfer_ratio_of_the_top_eigenvector_is_its_bound(instance, oracle):
    found = spectrum.transfer_ratio(instance, direction=oracle.tree(oracle.vectors[:, -1]))
    assert found.ratio == pytest.approx(found.bound, rel=EXACT)


# Coverage


def test_coverage(taught, instance, oracle):
    other = np.random.default_rng(3).normal(size=36)

    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    target = oracle.tree(other)

    limit = spectrum.coverage(taught, target)
    assert limit == pytest.approx(cosine(oracle.g @ oracle.d, other), rel=EXACT)
    # The trained teacher's labels: the teacher has moved by the displacement itself.
    trained = spectrum.coverage(instance, target, epsilon=1.0)
    assert trained == pytest.approx(cosine(oracle.student_kl(other, 1.0), other), rel=EXACT)
    assert abs(trained - cosine(oracle.g @ other, other)) > 1e-2, "and that is not the limit"
    # At a small eps, where the plain form has lost its digits, the limit.
    small = spectrum.coverage(instance, target, direction=oracle.tree(oracle.d), epsilon=1e-13)
    assert small == pytest.approx(limit, rel=1e-9)
    # A displacement that the student's update does not see.
    image = oracle.g @ oracle.d
    across = other - image * (image @ other) / (image @ image)
    assert abs(spectrum.coverage(taught, oracle.tree(across))) < 1e-12


def test_coverage_of_a_student_that_does_not_move(params, inputs, oracle):
    assert spectrum.coverage(Instance(f, params, None, inputs, logits=[3]), oracle.tree(oracle.d)) == 0.0


# Arguments and global state


def test_a_matrix_that_is_not_symmetric_is_refused(oracle):
    """No loss that passed the checks of an instance makes one: it takes a rule of differentiation of its own."""
    assert 0 < spectrum.require_symmetric(aslinearoperator(oracle.g)) <= oracle.values[-1]
    with pytest.raises(ValueError, match="imitation_loss makes a G that is not symmetric"):
        spectrum.require_symmetric(aslinearoperator(oracle.g + np.triu(oracle.g) / 100))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, x: spectrum.extreme_eigenvalues(Instance(f, p, None, x), k=0), "k must be at least 1"),
        (lambda p, x: spectrum.extreme_eigenvalues(Instance(f, p, None, x[:0])), "inputs are empty"),
        (lambda p, x: spectrum.trace(Instance(f, p, None, x), samples=1), "samples must be at least 2"),
        (lambda p, x: spectrum.spectral_distribution(Instance(f, p, None, x)), "teacher_loss is None"),
        (
            lambda p, x: spectrum.spectral_distribution(Instance(f, p, None, x), direction=p, steps=0),
            "steps must be at least 1",
        ),
        (
            lambda p, x: spectrum.spectral_distribution(
                Instance(f, p, None, x), direction=jax.tree.map(np.zeros_like, p)
            ),
            "direction is zero",
        ),
        (
            lambda p, x: spectrum.transfer_ratio(Instance(f, p, None, x), direction={"hidden": p["hidden"]}),
            "direction must have",
        ),
        (
            lambda p, x: spectrum.transfer_ratio(Instance(f, p, None, x), direction=p, alpha=-1),
            "alpha must be positive",
        ),
        (lambda p, x: spectrum.transfer_ratio(Instance(f, p, lambda p: 0 * p["head"][1][0], x)), "is zero"),
        (
            lambda p, x: spectrum.transfer_ratio(Instance(f, p, lambda p: jnp.sqrt(0 * p["head"][1][0]), x)),
            "gradient of teacher_loss is not finite",
        ),
        (lambda p, x: spectrum.coverage(Instance(f, p, None, x), p["head"]), "displacement must have"),
        (lambda p, x: spectrum.coverage(Instance(f, p, None, x), p, epsilon=0.0), "epsilon must be positive"),
    ],
)
def test_wrong_arguments_are_named(params, inputs, call, message):
    before = jax.config.jax_enable_x64
    with pytest.raises(ValueError, match=message):
        call(params, inputs)
    assert jax.config.jax_enable_x64 == before
    assert jnp.zeros(1).dtype == np.float32


def test_inside_the_callers_jit(instance, oracle):
    """Numbers that are known at trace time, in float64, whatever surrounds the call."""
    seen, direction = [], oracle.tree(oracle.d)

    @jax.jit
    def caller(x):
        seen.append(spectrum.transfer_ratio(instance, direction=direction))
        return x + 1

    assert caller(jnp.zeros(2)).dtype == np.float32
    assert seen[0].ratio == pytest.approx((oracle.d @ oracle.g @ oracle.d) / (oracle.d @ oracle.d), rel=EXACT)
    assert isinstance(seen[0].ratio, float)
