"""The spectrum of G: how much of a teacher's update can come through, where Theorem 1 only says with which sign.

`G = E[J^T M J]` on the student's inputs is never formed beyond `EXPLICIT` parameters: it is an operator on raveled
parameters (`jax.flatten_util`), whose extreme eigenvalues come from ARPACK (`scipy.sparse.linalg.eigsh`). How one
direction is spread over its eigenvectors: `transfer`.

Everything is in float64, whatever the caller's setting. G is symmetric for every imitation loss that fulfils the
hypotheses (`check_loss`); what needs symmetry refuses one that is not.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from sublim_theory.theorem.alignment import first_order, gauss_newton_product
from sublim_theory.theorem.arguments import require_count
from sublim_theory.theorem.problem import Problem, in_float64

EXPLICIT = 256
"""Number of parameters up to which G is formed, column by column: every eigenvalue and the trace are then exact."""

HUTCHINSON_SAMPLES = 64
"""Random probes of the trace beyond that, unless another number is asked for."""

SMALLEST_TOLERANCE = 1e-10
"""Error of a smallest eigenvalue found by iteration, relative to the largest eigenvalue."""

SMALLEST_RESTARTS = 100
"""Restarts of ARPACK after which the smallest eigenvalue is given up: it often sits in a dense cluster near zero."""


@dataclass(frozen=True)
class Eigenvalues:
    """The ends of the spectrum of G.

    Attributes:
        largest: the largest ones, in descending order.
        smallest: the smallest one. It is exactly 0 where `rank_bound < parameters`, and no iteration is spent on it;
            otherwise it is computed, to `SMALLEST_TOLERANCE` of the largest beyond `EXPLICIT` parameters. None where
            the iteration did not converge.
        rank_bound: `inputs x outputs`: the rank of `G = E[J^T M J]` is at most that. (A softmax takes one more from
            each input.)
        parameters: order of G.
    """

    largest: tuple[float, ...]
    smallest: float | None
    rank_bound: int
    parameters: int

    def __str__(self) -> str:
        """One sentence for each end."""
        top = ", ".join(f"{value:.6g}" for value in self.largest)
        if self.rank_bound < self.parameters:
            bottom = f"0 exactly: its rank is at most {self.rank_bound}, below its {self.parameters} parameters"
        elif self.smallest is None:
            bottom = "unknown: the iteration did not converge"
        else:
            bottom = f"{self.smallest:.6g}"
        return f"largest eigenvalues of G: {top}\nsmallest eigenvalue of G: {bottom}"


@dataclass(frozen=True)
class Trace:
    """The trace of G.

    Attributes:
        value: the trace, or its estimate.
        standard_error: of the estimate; 0 where the trace is exact.
        samples: random probes behind the estimate; 0 where the trace is exact.
    """

    value: float
    standard_error: float
    samples: int

    def __str__(self) -> str:
        """The value with its error."""
        if not self.samples:
            return f"trace of G: {self.value:.6g}"
        return f"trace of G: {self.value:.6g} +- {self.standard_error:.2g} (standard error of {self.samples} probes)"


def gauss_newton_operator(problem: Problem) -> Any:
    """G as a `scipy.sparse.linalg.LinearOperator` on raveled parameters, for SciPy or any library that takes one.

    A product costs one Jacobian-vector and one vector-Jacobian product a batch. The order of the coordinates is that
    of `jax.flatten_util.ravel_pytree`.

    Args:
        problem: the instance; its teacher's loss may be None.

    Returns:
        An operator of shape [parameters, parameters], float64.
    """
    with in_float64():
        theta, unravel = ravel_pytree(problem.params)

    @jax.jit
    def product(theta: jax.Array, vector: jax.Array, inputs: Any) -> jax.Array:
        image = gauss_newton_product(
            problem.f, unravel(theta), unravel(vector), inputs, problem.imitation_loss, batch_size=problem.batch_size
        )
        return ravel_pytree(image)[0]

    def matvec(vector: np.ndarray) -> np.ndarray:
        with in_float64():
            return np.asarray(product(theta, jnp.asarray(np.ravel(vector), jnp.float64), problem.inputs))

    return LinearOperator((theta.size, theta.size), matvec=matvec, rmatvec=matvec, dtype=np.float64)


def extreme_eigenvalues(problem: Problem, k: int = 6) -> Eigenvalues:
    """The k largest eigenvalues of G and its smallest one.

    Args:
        problem: the instance; its teacher's loss may be None.
        k: how many of the largest; fewer where there are fewer parameters.

    Raises:
        ValueError: naming the argument that is wrong; `imitation_loss` where G is not symmetric.
    """
    return eigenvalues(problem, gauss_newton_operator(problem), require_count("k", k))


def trace(problem: Problem, *, samples: int | None = None, seed: int = 0) -> Trace:
    """The trace of G: exact up to `EXPLICIT` parameters, Hutchinson's estimate with its standard error beyond.

    The estimate is the mean of `z^T G z` over vectors z of random signs, each of which costs one Jacobian-vector
    product.

    Args:
        problem: the instance; its teacher's loss may be None.
        samples: vectors of the estimate, at least 2. Unless given: none where the trace is exact, else
            `HUTCHINSON_SAMPLES`.
        seed: of the random signs.

    Raises:
        ValueError: naming the argument that is wrong.
    """
    if samples is not None:
        samples = require_count("samples", samples, 2)  # one has no standard error
    with in_float64():
        theta, unravel = ravel_pytree(problem.params)

        @jax.jit
        def quadratic(theta: jax.Array, vector: jax.Array, inputs: Any) -> jax.Array:
            parameters, d = unravel(theta), unravel(vector)
            law = first_order(problem.f, parameters, d, inputs, problem.imitation_loss, batch_size=problem.batch_size)
            return jnp.sum(law.by_logit)

        def form(vector: np.ndarray) -> float:
            return float(quadratic(theta, jnp.asarray(vector), problem.inputs))

        if samples is None and theta.size <= EXPLICIT:
            return Trace(sum(form(column) for column in np.eye(theta.size)), 0.0, 0)
        random, count = np.random.default_rng(seed), samples or HUTCHINSON_SAMPLES
        values = [form(random.choice([-1.0, 1.0], size=theta.size)) for _ in range(count)]
        return Trace(float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(count)), count)


def require_symmetric(matrix: Any) -> bool:
    """Refuse a G that is not symmetric; return whether it is zero.

    Raises:
        ValueError: naming `imitation_loss`.
    """
    u, v = np.random.default_rng(0).normal(size=(2, matrix.shape[0]))
    gu, gv = matrix.matvec(u), matrix.matvec(v)
    if abs(u @ gv - v @ gu) > 1e-8 * np.linalg.norm(u) * np.linalg.norm(gv):
        raise ValueError(
            f"imitation_loss makes a G that is not symmetric (u^T G v = {u @ gv:.6g}, v^T G u = {v @ gu:.6g}), so it "
            "fails the hypotheses of the theorem; check_loss shows where"
        )
    return not gu.any() and not gv.any()


def eigenvalues(problem: Problem, matrix: Any, k: int, *, ends: str = "both") -> Eigenvalues:
    """The ends of the spectrum of `matrix`, the operator of the problem: `both`, or only the `top`."""
    order = matrix.shape[0]
    rank_bound = len(jax.tree.leaves(problem.inputs)[0]) * problem.outputs.shape[1]
    rank, k = min(rank_bound, order), min(k, order)
    wanted = min(k, rank)  # beyond the rank they are exactly 0
    smallest: float | None = 0.0 if rank < order else None
    if require_symmetric(matrix):
        largest, smallest = [0.0] * wanted, 0.0
    elif order <= EXPLICIT or wanted == order:  # ARPACK does not find them all
        dense = matrix @ np.eye(order)
        values = np.linalg.eigvalsh((dense + dense.T) / 2)
        largest = values[::-1][:wanted].tolist()
        if rank == order:
            smallest = float(values[0])
    else:
        largest = _top(matrix, wanted)
        if rank == order and ends == "both":
            smallest = _smallest(matrix, largest[0])
    return Eigenvalues((*largest, *[0.0] * (k - wanted)), smallest, rank_bound, order)


def _top(matrix: Any, k: int, **options: float) -> list[float]:
    """The k largest eigenvalues, in descending order."""
    start = np.random.default_rng(1).normal(size=matrix.shape[0])
    found = eigsh(matrix, k=k, which="LA", v0=start, return_eigenvectors=False, **options)
    return sorted(found.tolist(), reverse=True)


def _smallest(matrix: Any, largest: float) -> float | None:
    """The smallest eigenvalue, as `largest` less the largest of `largest - G`: an end that ARPACK finds."""
    turned = LinearOperator(matrix.shape, matvec=lambda v: largest * np.ravel(v) - matrix.matvec(v), dtype=float)
    try:
        return float(largest - _top(turned, 1, tol=SMALLEST_TOLERANCE, maxiter=SMALLEST_RESTARTS)[0])
    except ArpackNoConvergence:
        return None
