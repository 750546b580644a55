"""The spectrum of G: how much of a teacher's update can come through, where Theorem 1 only says with which sign.

`G = E[J^T M J]` on the student's inputs is never formed beyond `EXPLICIT` parameters: it is an operator on raveled
parameters (`geometry.gauss_newton_operator`), whose extreme eigenvalues come from ARPACK (`scipy.sparse.linalg.eigsh`).
To first order the student's decrease of the teacher's loss, over the teacher's own, is a Rayleigh quotient of G,
decided by how d_T is spread over the eigenvectors. That spread comes from the Lanczos process.

Everything is in float64, whatever the caller's setting. The instance may lack a teacher's loss where a direction is
given. A ValueError names the argument that is wrong, `imitation_loss` where its rules make a G that is not symmetric.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from sublim_theory import geometry
from sublim_theory._types import Params
from sublim_theory.protocols import require_count, require_positive
from sublim_theory.theorem.compiling import in_float64
from sublim_theory.theorem.instance import Instance, like_params
from sublim_theory.theorem.tables import table

EXPLICIT = 256
"""Number of parameters up to which G is formed, column by column: every eigenvalue and the trace are then exact."""

HUTCHINSON_SAMPLES = 64
"""Random probes of the trace beyond that, unless another number is asked for."""

SMALLEST_TOLERANCE = 1e-10
"""Error of a smallest eigenvalue found by iteration, relative to the largest eigenvalue."""

SMALLEST_RESTARTS = 100
"""Restarts of ARPACK after which the smallest eigenvalue is given up: it often sits in a dense cluster near zero."""

ROUNDING = 1e-13
"""Size, relative to G, of a Lanczos residual that is rounding: the Krylov space of the direction is exhausted."""


@dataclass(frozen=True)
class Eigenvalues:
    """The ends of the spectrum of G.

    Attributes:
        largest: the largest ones, in descending order.
        smallest: the smallest one: exactly 0 where `rank_bound < parameters`; beyond `EXPLICIT` parameters to
            `SMALLEST_TOLERANCE` of the largest, or None where the iteration did not converge.
        rank_bound: `inputs x outputs`, which the rank of G does not exceed.
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
        standard_error: of the estimate, from so many `samples`; both 0 where the trace is exact.
        samples: random probes behind the estimate.
    """

    value: float
    standard_error: float
    samples: int

    def __str__(self) -> str:
        """The value with its error."""
        if not self.samples:
            return f"trace of G: {self.value:.6g}"
        return f"trace of G: {self.value:.6g} +- {self.standard_error:.2g} (standard error of {self.samples} probes)"


@dataclass(frozen=True)
class SpectralDistribution:
    """How a direction d is spread over the eigenvectors of G: the Gauss quadrature of its spectral measure.

    The measure puts the weight `(u_i . d)**2 / |d|**2` at each eigenvalue; m nodes (Ritz values) have its moments up to
    degree 2m - 1. A node at 0 carries what the student cannot see.

    Attributes:
        values: Ritz values, ascending, within the spectrum of G.
        weights: the weight of each; they add up to 1.
        square: `|d|**2`.
        residual: exactly 0 where the Krylov space is exhausted: values and weights are those of the measure itself.
    """

    values: tuple[float, ...]
    weights: tuple[float, ...]
    square: float
    residual: float

    @property
    def rayleigh_quotient(self) -> float:
        """`d^T G d / |d|**2`, the mean of the measure."""
        return float(np.dot(self.weights, self.values))

    @property
    def coefficient(self) -> float:
        """`A = d^T G d`."""
        return self.square * self.rayleigh_quotient

    def __str__(self) -> str:
        """A table: one row a Ritz value, largest first."""
        kind = "exact" if self.residual == 0 else f"quadrature of {len(self.values)} nodes"
        title = f"spectral distribution ({kind}), mean {self.rayleigh_quotient:.6g}"
        columns = {"eigenvalue": ("14.6e", self.values[::-1]), "weight": ("10.3e", self.weights[::-1])}
        return "\n".join([title, *table(columns)])


@dataclass(frozen=True)
class TransferRatio:
    """The student's decrease of L_T over the teacher's, to first order in eps, and the most it could be.

    Attributes:
        ratio: `alpha d^T G d / |d|**2`.
        bound: `alpha lambda_max(G)`.
        largest_eigenvalue: `lambda_max(G)`.
        alpha: the student's learning rate.
    """

    ratio: float
    bound: float
    largest_eigenvalue: float
    alpha: float

    def __str__(self) -> str:
        """The ratio beside its bound."""
        return f"transfer ratio {self.ratio:.6g} of at most {self.bound:.6g}, at alpha = {self.alpha:g}"


def gauss_newton_operator(instance: Instance) -> Any:
    """G of an instance as a `scipy.sparse.linalg.LinearOperator`, float64; see `geometry.gauss_newton_operator`.

    >>> gauss_newton_operator(instance).shape
    (6, 6)
    """
    from scipy.sparse.linalg import LinearOperator  # on use: it takes long to import

    with in_float64():
        matrix = geometry.gauss_newton_operator(
            instance.f, instance.imitation_loss, instance.params, instance.inputs, batch_size=instance.batch_size
        )

    def matvec(vector: np.ndarray) -> Any:
        with in_float64():  # also inside a caller's transformation
            return matrix.matvec(vector)

    return LinearOperator(matrix.shape, matvec=matvec, rmatvec=matvec, dtype=matrix.dtype)


def extreme_eigenvalues(instance: Instance, k: int = 6) -> Eigenvalues:
    """The k largest eigenvalues of G, fewer where there are fewer parameters, and its smallest one.

    >>> print(extreme_eigenvalues(instance, k=2))
    largest eigenvalues of G: 1, 1
    smallest eigenvalue of G: 1
    """
    return eigenvalues(instance, gauss_newton_operator(instance), require_count("k", k))


def trace(instance: Instance, *, samples: int | None = None, seed: int = 0) -> Trace:
    """The trace of G: exact up to `EXPLICIT` parameters, Hutchinson's estimate with its standard error beyond.

    The estimate is the mean of `z^T G z` over `samples` vectors z of random signs, at least 2, `HUTCHINSON_SAMPLES`
    unless given; with `samples` the trace is estimated where it could be exact, too.

    >>> print(trace(instance))
    trace of G: 6
    """
    if samples is not None:
        samples = require_count("samples", samples, 2)  # one has no standard error
    matrix = gauss_newton_operator(instance)
    order = matrix.shape[0]

    def form(vector: np.ndarray) -> float:
        return float(vector @ matrix.matvec(vector))

    if samples is None and order <= EXPLICIT:
        return Trace(sum(form(column) for column in np.eye(order)), 0.0, 0)
    random, count = np.random.default_rng(seed), samples or HUTCHINSON_SAMPLES
    values = [form(random.choice([-1.0, 1.0], size=order)) for _ in range(count)]
    return Trace(float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(count)), count)


def spectral_distribution(
    instance: Instance, *, direction: Params | None = None, steps: int = 32
) -> SpectralDistribution:
    """How d_T, or any direction, is spread over the eigenvectors of G.

    Args:
        instance: the instance.
        direction: a pytree like `params`; `d_T = -grad L_T` unless given.
        steps: of the Lanczos process, one product with G each and a vector kept; fewer where the Krylov space is
            exhausted.

    >>> spectral_distribution(instance).weights
    (1.0,)
    """
    steps = require_count("steps", steps)
    start = _vector(instance, direction)
    matrix = gauss_newton_operator(instance)
    size = require_symmetric(matrix)
    diagonal, beside, residual = lanczos(matrix.matvec, start, steps, size)
    values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
    weights = np.square(vectors[0])
    return SpectralDistribution(tuple(values.tolist()), tuple(weights.tolist()), float(start @ start), residual)


def transfer_ratio(instance: Instance, *, direction: Params | None = None, alpha: float = 1.0) -> TransferRatio:
    """The student's decrease of L_T over the teacher's, to first order in eps: `alpha d^T G d / |d|**2`.

    The teacher's step lowers L_T by `eps |d_T|**2`, the student's by `alpha eps d_T^T G d_T`, both up to `O(eps**2)`.

    Args:
        instance: the instance.
        direction: a pytree like `params`; `d_T = -grad L_T` unless given.
        alpha: the student's learning rate, positive.

    >>> print(transfer_ratio(instance, alpha=0.5))
    transfer ratio 0.5 of at most 0.5, at alpha = 0.5
    """
    alpha = require_positive("alpha", alpha)
    vector = _vector(instance, direction)
    matrix = gauss_newton_operator(instance)
    ratio = alpha * float(vector @ matrix.matvec(vector)) / float(vector @ vector)
    largest = eigenvalues(instance, matrix, 1, ends="top").largest[0]
    return TransferRatio(ratio, alpha * largest, largest, alpha)


def coverage(
    instance: Instance, displacement: Params, *, direction: Params | None = None, epsilon: float | None = None
) -> float:
    """Cosine between the student's first update and a displacement of the parameters.

    With the teacher's total displacement as direction and epsilon 1, it is the quantity that predicts transfer in arXiv
    2606.22019: the labels are those of the trained teacher. It is exactly 0 where the student does not move at all.

    Args:
        instance: the instance.
        displacement: a pytree like `params`.
        direction: along which the teacher moves, a pytree like `params`. Unless given, `d_T = -grad L_T`, or the
            displacement where the instance has no teacher's loss.
        epsilon: size of the teacher's step, positive; None for the limit of a small one, `cos(G d, displacement)`.

    >>> round(coverage(instance, -np.ones((2, 3))), 9)
    1.0
    """
    size = 0.0 if epsilon is None else require_positive("epsilon", epsilon)
    with in_float64():
        target = like_params("displacement", displacement, instance.params)
        along = target if direction is None and instance.d_teacher is None else instance.direction(direction)
        return float(geometry.cosine(instance.student_updates(along)(size), target))


def require_symmetric(matrix: Any) -> float:
    """Refuse a G that is not symmetric; return its size, `|G u| / |u|` of a random u."""
    u, v = np.random.default_rng(0).normal(size=(2, matrix.shape[0]))
    gu, gv = matrix.matvec(u), matrix.matvec(v)
    if abs(u @ gv - v @ gu) > 1e-8 * np.linalg.norm(u) * np.linalg.norm(gv):
        raise ValueError(
            f"imitation_loss makes a G that is not symmetric (u^T G v = {u @ gv:.6g}, v^T G u = {v @ gu:.6g}), so it "
            "fails the hypotheses of the theorem; check_loss shows where"
        )
    return float(np.linalg.norm(gu) / np.linalg.norm(u))


def eigenvalues(instance: Instance, matrix: Any, k: int, *, ends: str = "both") -> Eigenvalues:
    """The ends of the spectrum of `matrix`, the operator of the instance: `both`, or only the `top`."""
    order = matrix.shape[0]
    rank_bound = len(jax.tree.leaves(instance.inputs)[0]) * int(np.prod(instance.outputs.shape[1:]))
    rank, k = min(rank_bound, order), min(k, order)
    wanted = min(k, rank)  # beyond the rank they are exactly 0
    smallest: float | None = 0.0 if rank < order else None
    if not require_symmetric(matrix):
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
    from scipy.sparse.linalg import eigsh

    start = np.random.default_rng(1).normal(size=matrix.shape[0])
    found = eigsh(matrix, k=k, which="LA", v0=start, return_eigenvectors=False, **options)
    return sorted(found.tolist(), reverse=True)


def _smallest(matrix: Any, largest: float) -> float | None:
    """The smallest eigenvalue, as `largest` less the largest of `largest - G`: an end that ARPACK finds."""
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator

    turned = LinearOperator(matrix.shape, matvec=lambda v: largest * np.ravel(v) - matrix.matvec(v), dtype=float)
    try:
        return float(largest - _top(turned, 1, tol=SMALLEST_TOLERANCE, maxiter=SMALLEST_RESTARTS)[0])
    except ArpackNoConvergence:
        return None


def lanczos(
    product: Callable[[np.ndarray], np.ndarray], start: np.ndarray, steps: int, size: float = 0.0
) -> tuple[np.ndarray, np.ndarray, float]:
    """Tridiagonalise a symmetric matrix on the Krylov space of `start`, with full reorthogonalisation.

    Args:
        product: the matrix times a vector.
        start: [n], not zero.
        steps: at most that many; fewer where the space is exhausted.
        size: of the matrix, to tell the image of a null vector, which is rounding, where no other has been seen.

    Returns:
        Diagonal [m] and off-diagonal [m - 1], and the norm of the residual, exactly 0 where the space is exhausted.
    """
    steps = min(steps, len(start))
    basis = np.empty((steps, len(start)))
    diagonal, beside = np.empty(steps), np.empty(steps)
    vector = start / np.linalg.norm(start)
    for step in range(steps):
        basis[step] = vector
        image = np.array(product(vector))
        diagonal[step] = vector @ image
        known = basis[: step + 1]
        for _ in range(2):  # twice is enough (Kahan; Parlett, The Symmetric Eigenvalue Problem, section 6.9)
            image -= (known @ image) @ known
        beside[step] = np.linalg.norm(image)
        scale = max(np.abs(diagonal[: step + 1]).max(), beside[:step].max(initial=0), size)
        if beside[step] <= ROUNDING * scale or step + 1 == len(start):
            return diagonal[: step + 1], beside[:step], 0.0
        vector = image / beside[step]
    return diagonal, beside[:-1], float(beside[-1])


def _vector(instance: Instance, direction: Params | None) -> np.ndarray:
    """The direction, raveled."""
    with in_float64():
        vector = np.asarray(ravel_pytree(instance.direction(direction))[0])
    if not vector.any():
        raise ValueError(f"{'the gradient of teacher_loss' if direction is None else 'direction'} is zero")
    return vector
