"""How much of one direction comes through: the transfer ratio, and the spectral distribution that decides it.

To first order the student's update is `eps G d_T`, `G = E[J^T M J]` on the student's inputs. So its decrease of the
teacher's loss, over the teacher's own, is `alpha d_T^T G d_T / |d_T|**2`: a Rayleigh quotient, between alpha times the
smallest and alpha times the largest eigenvalue of G (`spectrum`), and decided by how d_T is spread over the
eigenvectors between. That spread comes from the Lanczos process.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.linalg import eigh_tridiagonal

from sublim_theory import trees
from sublim_theory.protocols import Params
from sublim_theory.theorem.arguments import like_params, require_count, require_positive
from sublim_theory.theorem.problem import (
    Problem,
    in_float64,
    no_teacher_loss,
    student_directions,
    teacher_direction,
)
from sublim_theory.theorem.spectrum import eigenvalues, gauss_newton_operator, require_symmetric

ROUNDING = 1e-13
"""Size, relative to G, of a Lanczos residual that is rounding: the Krylov space of the direction is exhausted."""


@dataclass(frozen=True)
class SpectralDistribution:
    """How a direction d is spread over the eigenvectors of G: the Gauss quadrature of its spectral measure.

    The measure puts the weight `(u_i . d)**2 / |d|**2` at each eigenvalue. After m Lanczos steps m nodes (Ritz values)
    and their weights have the same moments up to degree 2m - 1; a node at 0 carries what the student cannot see.

    Attributes:
        values: Ritz values, ascending. All lie between the smallest and the largest eigenvalue of G.
        weights: the weight of each; they add up to 1.
        square: `|d|**2`.
        residual: norm of what the next Lanczos step would start from; exactly 0 where the Krylov space is exhausted,
            and then values and weights are those of the measure itself.
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
        rows = [f"{value:14.6e} {weight:10.3e}" for value, weight in zip(self.values, self.weights, strict=True)]
        title = f"spectral distribution ({kind}), mean {self.rayleigh_quotient:.6g}"
        return "\n".join([title, f"{'eigenvalue':>14} {'weight':>10}", *reversed(rows)])


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


def spectral_distribution(
    problem: Problem, *, direction: Params | None = None, steps: int = 32
) -> SpectralDistribution:
    """How d_T, or any direction, is spread over the eigenvectors of G.

    The Lanczos process from that direction, reorthogonalised in full, so that no eigenvalue shows twice. It keeps
    `steps` vectors of the size of the parameters.

    Args:
        problem: the instance; its teacher's loss may be None where a direction is given.
        direction: a pytree like `params`; `d_T = -grad L_T` unless given.
        steps: Lanczos steps, one product with G each; fewer are taken where the Krylov space is exhausted before.

    Raises:
        ValueError: naming the argument that is wrong; `imitation_loss` where G is not symmetric.
    """
    steps = require_count("steps", steps)
    start = _vector(problem, direction)
    matrix = gauss_newton_operator(problem)
    require_symmetric(matrix)
    diagonal, beside, residual = lanczos(matrix.matvec, start, steps)
    values, vectors = eigh_tridiagonal(diagonal, beside)
    weights = np.square(vectors[0])
    return SpectralDistribution(tuple(values.tolist()), tuple(weights.tolist()), float(start @ start), residual)


def transfer_ratio(problem: Problem, *, direction: Params | None = None, alpha: float = 1.0) -> TransferRatio:
    """The student's decrease of L_T over the teacher's, to first order in eps: `alpha d^T G d / |d|**2`.

    The teacher's step lowers L_T by `eps |d_T|**2`, the student's by `alpha eps d_T^T G d_T`, both up to `O(eps**2)`.

    Args:
        problem: the instance; its teacher's loss may be None where a direction is given.
        direction: a pytree like `params`; `d_T = -grad L_T` unless given.
        alpha: the student's learning rate, positive.

    Raises:
        ValueError: naming the argument that is wrong; `imitation_loss` where G is not symmetric.
    """
    alpha = require_positive("alpha", alpha)
    vector = _vector(problem, direction)
    matrix = gauss_newton_operator(problem)
    ratio = alpha * float(vector @ matrix.matvec(vector)) / float(vector @ vector)
    largest = eigenvalues(problem, matrix, 1, ends="top").largest[0]
    return TransferRatio(ratio, alpha * largest, largest, alpha)


def coverage(
    problem: Problem, displacement: Params, *, direction: Params | None = None, epsilon: float | None = None
) -> float:
    """Cosine between the student's first update and a displacement of the parameters.

    With the teacher's total displacement, `coverage(problem, displacement, direction=displacement, epsilon=1)` is the
    quantity that predicts transfer in arXiv 2606.22019: the labels are those of the trained teacher. Without `epsilon`
    it is the limit of a small step, the cosine between `G d` and the displacement.

    Args:
        problem: the instance; its teacher's loss may be None.
        displacement: a pytree like `params`.
        direction: a pytree like `params` along which the teacher moves. Unless given, `d_T = -grad L_T`, or the
            displacement where the problem has no teacher's loss.
        epsilon: size of the teacher's step, positive; None for the limit of a small one.

    Returns:
        The cosine; exactly 0 where the student does not move at all.

    Raises:
        ValueError: naming the argument that is wrong.
    """
    size = 0.0 if epsilon is None else require_positive("epsilon", epsilon)
    with in_float64():
        target = like_params("displacement", displacement, problem.params)
        if direction is None and problem.teacher_loss is no_teacher_loss:
            direction = target
        along = _direction(problem, direction)
        return float(trees.cosine(student_directions(problem, along)(size), target))


def lanczos(
    product: Callable[[np.ndarray], np.ndarray], start: np.ndarray, steps: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Tridiagonalise a symmetric matrix on the Krylov space of `start`, with full reorthogonalisation.

    Args:
        product: the matrix times a vector.
        start: [n], not zero.
        steps: at most that many; fewer where the space is exhausted.

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
        scale = max(np.abs(diagonal[: step + 1]).max(), beside[:step].max(initial=0))
        if beside[step] <= ROUNDING * scale or step + 1 == len(start):
            return diagonal[: step + 1], beside[:step], 0.0
        vector = image / beside[step]
    return diagonal, beside[:-1], float(beside[-1])


def _direction(problem: Problem, direction: Params | None) -> Params:
    return teacher_direction(problem) if direction is None else like_params("direction", direction, problem.params)


def _vector(problem: Problem, direction: Params | None) -> np.ndarray:
    """The direction, raveled."""
    with in_float64():
        vector = np.asarray(ravel_pytree(_direction(problem, direction))[0])
    if not vector.any():
        raise ValueError(f"{'the gradient of teacher_loss' if direction is None else 'direction'} is zero")
    return vector
