"""The spectrum of G: how much of a teacher's update comes through, where Theorem 1 only says with which sign.

To first order the student's update is `eps G d_T`, `G = E[J^T M J]` on the student's inputs. So its decrease of the
teacher's loss, over the teacher's own, is `alpha d_T^T G d_T / |d_T|**2`: a Rayleigh quotient, between alpha times the
smallest and alpha times the largest eigenvalue of G, and decided by how d_T is spread over the eigenvectors between.

G is never formed beyond `EXPLICIT` parameters: it is an operator on raveled parameters (`jax.flatten_util`), its
extreme eigenvalues come from ARPACK (`scipy.sparse.linalg.eigsh`), and the spread of d_T from the Lanczos process.
Everything is in float64, whatever the caller's setting. G is symmetric for every imitation loss that fulfils the
hypotheses (`check_loss`); what needs symmetry refuses one that is not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.linalg import eigh_tridiagonal
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from sublim_theory import trees
from sublim_theory.protocols import Apply, Params
from sublim_theory.theorem.alignment import FirstOrder, first_order, gauss_newton_product
from sublim_theory.theorem.problem import ImitationLoss, Logits, Problem, float64_params, problem
from sublim_theory.theorem.updates import TeacherLoss, student_update, student_update_along_path, teacher_update
from sublim_theory.theorem.verify import SMALL_STEP

EXPLICIT = 256
"""Number of parameters up to which G is formed, column by column: every eigenvalue and the trace are then exact."""

HUTCHINSON_SAMPLES = 64
"""Random probes of the trace beyond that, unless another number is asked for."""

ROUNDING = 1e-13
"""Size, relative to G, of a Lanczos residual that is rounding: the Krylov space of the direction is exhausted."""

STATIONARY = 1e-9
"""Size of a gradient at z = y, relative to one elsewhere, that is rounding."""

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


def gauss_newton_operator(
    f: Apply,
    params: Params,
    inputs: Any,
    *,
    imitation_loss: ImitationLoss = "kl",
    logits: Logits = None,
    batch_size: int | None = None,
) -> Any:
    """G as a `scipy.sparse.linalg.LinearOperator` on raveled parameters, for SciPy or any library that takes one.

    A product costs one Jacobian-vector and one vector-Jacobian product a batch. The order of the coordinates is that
    of `jax.flatten_util.ravel_pytree`.

    Args:
        f: `f(params, x) -> outputs [batch, n]`, pure.
        params: the shared initialisation; floating-point leaves.
        inputs: the student's inputs, a pytree of arrays [inputs, ...].
        imitation_loss: as in `verify`.
        logits: the outputs that the student imitates, a slice or indices; all unless given.
        batch_size: inputs at a time; all unless given.

    Returns:
        An operator of shape [parameters, parameters], float64.

    Raises:
        ValueError: naming the argument that is wrong.
    """
    with jax.ensure_compile_time_eval(), jax.enable_x64(True), jax.default_matmul_precision("highest"):
        return _operator(_problem(f, params, inputs, None, imitation_loss, logits, batch_size))


def extreme_eigenvalues(
    f: Apply,
    params: Params,
    inputs: Any,
    *,
    k: int = 6,
    imitation_loss: ImitationLoss = "kl",
    logits: Logits = None,
    batch_size: int | None = None,
) -> Eigenvalues:
    """The k largest eigenvalues of G and its smallest one.

    Args:
        f: as in `gauss_newton_operator`.
        params: as there.
        inputs: as there.
        k: how many of the largest; fewer where there are fewer parameters.
        imitation_loss: as there.
        logits: as there.
        batch_size: as there.

    Raises:
        ValueError: naming the argument that is wrong; `imitation_loss` where G is not symmetric.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    with jax.ensure_compile_time_eval(), jax.enable_x64(True), jax.default_matmul_precision("highest"):
        given = _problem(f, params, inputs, None, imitation_loss, logits, batch_size)
        return _eigenvalues(_operator(given), _rank_bound(given), k)


def trace(
    f: Apply,
    params: Params,
    inputs: Any,
    *,
    samples: int | None = None,
    seed: int = 0,
    imitation_loss: ImitationLoss = "kl",
    logits: Logits = None,
    batch_size: int | None = None,
) -> Trace:
    """The trace of G: exact up to `EXPLICIT` parameters, Hutchinson's estimate with its standard error beyond.

    The estimate is the mean of `z^T G z` over vectors z of random signs, each of which costs one Jacobian-vector
    product.

    Args:
        f: as in `gauss_newton_operator`.
        params: as there.
        inputs: as there.
        samples: vectors of the estimate, at least 2. Unless given: none where the trace is exact, else
            `HUTCHINSON_SAMPLES`.
        seed: of the random signs.
        imitation_loss: as there.
        logits: as there.
        batch_size: as there.

    Raises:
        ValueError: naming the argument that is wrong.
    """
    if samples is not None and samples < 2:
        raise ValueError(f"samples must be at least 2, or the error is unknown; got {samples}")
    with jax.ensure_compile_time_eval(), jax.enable_x64(True), jax.default_matmul_precision("highest"):
        given = _problem(f, params, inputs, None, imitation_loss, logits, batch_size)
        theta, unravel = ravel_pytree(given.params)

        @jax.jit
        def quadratic(theta: jax.Array, vector: jax.Array, inputs: Any) -> jax.Array:
            law = first_order(
                given.f,
                unravel(theta),
                unravel(vector),
                inputs,
                given.imitation_loss,
                batch_size=given.batch_size,
            )
            return jnp.sum(law.by_logit)

        def form(vector: np.ndarray) -> float:
            return float(quadratic(theta, jnp.asarray(vector), given.inputs))

        if samples is None and theta.size <= EXPLICIT:
            return Trace(sum(form(column) for column in np.eye(theta.size)), 0.0, 0)
        random, count = np.random.default_rng(seed), samples or HUTCHINSON_SAMPLES
        values = [form(random.choice([-1.0, 1.0], size=theta.size)) for _ in range(count)]
        return Trace(float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(count)), count)


def spectral_distribution(
    f: Apply,
    params: Params,
    inputs: Any,
    *,
    teacher_loss: TeacherLoss | None = None,
    direction: Params | None = None,
    steps: int = 32,
    imitation_loss: ImitationLoss = "kl",
    logits: Logits = None,
    batch_size: int | None = None,
) -> SpectralDistribution:
    """How d_T, or any direction, is spread over the eigenvectors of G.

    The Lanczos process from that direction, reorthogonalised in full, so that no eigenvalue shows twice. It keeps
    `steps` vectors of the size of the parameters.

    Args:
        f: as in `gauss_newton_operator`.
        params: as there.
        inputs: as there.
        teacher_loss: `teacher_loss(params) -> scalar`; the direction is `d_T = -grad L_T`.
        direction: a pytree like `params`, instead.
        steps: Lanczos steps, one product with G each; fewer are taken where the Krylov space is exhausted before.
        imitation_loss: as there.
        logits: as there.
        batch_size: as there.

    Raises:
        ValueError: naming the argument that is wrong; `imitation_loss` where G is not symmetric.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    with jax.ensure_compile_time_eval(), jax.enable_x64(True), jax.default_matmul_precision("highest"):
        given = _problem(f, params, inputs, teacher_loss, imitation_loss, logits, batch_size)
        start = np.asarray(ravel_pytree(_direction(given, teacher_loss, direction))[0])
        if not start.any():
            raise ValueError(f"{'direction' if teacher_loss is None else 'the gradient of teacher_loss'} is zero")
        operator = _operator(given)
        _require_symmetric(operator)
        diagonal, beside, residual = lanczos(operator.matvec, start, steps)
        values, vectors = eigh_tridiagonal(diagonal, beside)
        weights = np.square(vectors[0])
        return SpectralDistribution(tuple(values.tolist()), tuple(weights.tolist()), float(start @ start), residual)


def transfer_ratio(
    f: Apply,
    params: Params,
    inputs: Any,
    *,
    teacher_loss: TeacherLoss | None = None,
    direction: Params | None = None,
    alpha: float = 1.0,
    imitation_loss: ImitationLoss = "kl",
    logits: Logits = None,
    batch_size: int | None = None,
) -> TransferRatio:
    """The student's decrease of L_T over the teacher's, to first order in eps: `alpha d^T G d / |d|**2`.

    The teacher's step lowers L_T by `eps |d_T|**2`, the student's by `alpha eps d_T^T G d_T`, both up to `O(eps**2)`.

    Args:
        f: as in `gauss_newton_operator`.
        params: as there.
        inputs: as there.
        teacher_loss: `teacher_loss(params) -> scalar`; the direction is `d_T = -grad L_T`.
        direction: a pytree like `params`, instead.
        alpha: the student's learning rate, positive.
        imitation_loss: as there.
        logits: as there.
        batch_size: as there.

    Raises:
        ValueError: naming the argument that is wrong; `imitation_loss` where G is not symmetric.
    """
    if not (alpha > 0 and np.isfinite(alpha)):
        raise ValueError(f"alpha must be positive and finite, got {alpha}")
    with jax.ensure_compile_time_eval(), jax.enable_x64(True), jax.default_matmul_precision("highest"):
        given = _problem(f, params, inputs, teacher_loss, imitation_loss, logits, batch_size)
        vector = np.asarray(ravel_pytree(_direction(given, teacher_loss, direction))[0])
        if not vector.any():
            raise ValueError(f"{'direction' if teacher_loss is None else 'the gradient of teacher_loss'} is zero")
        operator = _operator(given)
        ratio = alpha * float(vector @ operator.matvec(vector)) / float(vector @ vector)
        largest = _eigenvalues(operator, _rank_bound(given), 1, ends="top").largest[0]
        return TransferRatio(ratio, alpha * largest, largest, alpha)


def coverage(
    f: Apply,
    params: Params,
    inputs: Any,
    displacement: Params,
    *,
    teacher_loss: TeacherLoss | None = None,
    direction: Params | None = None,
    epsilon: float | None = None,
    imitation_loss: ImitationLoss = "kl",
    logits: Logits = None,
    batch_size: int | None = None,
) -> float:
    """Cosine between the student's first update and a displacement of the parameters.

    With the teacher's total displacement, `coverage(..., displacement, epsilon=1)` is the quantity that predicts
    transfer in arXiv 2606.22019: the labels are those of the trained teacher. Without `epsilon` it is the limit of a
    small step, the cosine between `G d` and the displacement.

    Args:
        f: as in `gauss_newton_operator`.
        params: as there.
        inputs: as there.
        displacement: a pytree like `params`.
        teacher_loss: `teacher_loss(params) -> scalar`; the teacher moves along `d_T = -grad L_T`.
        direction: a pytree like `params` along which the teacher moves, instead; the displacement unless given.
        epsilon: size of the teacher's step, positive; None for the limit of a small one.
        imitation_loss: as there.
        logits: as there.
        batch_size: as there.

    Returns:
        The cosine; exactly 0 where the student does not move at all.

    Raises:
        ValueError: naming the argument that is wrong.
    """
    if epsilon is not None and not (epsilon > 0 and np.isfinite(epsilon)):
        raise ValueError(f"epsilon must be positive and finite, or None; got {epsilon}")
    with jax.ensure_compile_time_eval(), jax.enable_x64(True), jax.default_matmul_precision("highest"):
        given = _problem(f, params, inputs, teacher_loss, imitation_loss, logits, batch_size)
        target = _like_params("displacement", displacement, given.params)
        if teacher_loss is None and direction is None:
            direction = target
        along = _direction(given, teacher_loss, direction)
        return float(trees.cosine(student_directions(given, along)(epsilon), target))


def student_directions(given: Problem, d_teacher: Params) -> Callable[[float | None], Params]:
    """`d_S(eps) / eps` as a function of eps, compiled once. Call it, and what it returns, inside float64.

    It takes the form that keeps the digits at each eps, as `verify` does. The one for small eps assumes g(z, z) = 0; a
    loss without that gets the plain form throughout, whose leading term does not vanish with eps.

    Args:
        given: the problem.
        d_teacher: the teacher's update.

    Returns:
        A function of eps; of None, it is the limit `G d_T`.
    """

    def law(theta: Params, d: Params, inputs: Any) -> FirstOrder:
        return first_order(given.f, theta, d, inputs, given.imitation_loss, batch_size=given.batch_size)

    stationary = _stationary(given)
    first = jax.jit(law)(given.params, d_teacher, given.inputs)

    @jax.jit
    def at(theta: Params, d: Params, inputs: Any, epsilon: jax.Array, velocity: jax.Array) -> Params:
        def plain() -> Params:
            teacher = trees.axpy(epsilon, d, theta)
            update = student_update(given.f, theta, teacher, inputs, given.imitation_loss, batch_size=given.batch_size)
            return trees.scale(1 / epsilon, update)

        def along_path() -> Params:
            return student_update_along_path(
                given.f, theta, d, epsilon, inputs, given.imitation_loss, batch_size=given.batch_size
            )

        if not stationary:
            return plain()
        return jax.lax.cond(epsilon * velocity <= SMALL_STEP, along_path, plain)

    def direction(epsilon: float | None) -> Params:
        if epsilon is None:
            return first.product
        return at(given.params, d_teacher, given.inputs, jnp.float64(epsilon), first.velocity)

    return direction


def _stationary(given: Problem) -> bool:
    """Whether g(z, z) = 0, up to rounding, at some outputs of f."""
    z = given.outputs
    gradient = jax.jit(jax.grad(lambda z, y: jnp.sum(given.selected_loss(z, y))))
    elsewhere = z + jnp.asarray(np.random.default_rng(0).normal(size=z.shape))
    return bool(jnp.abs(gradient(z, z)).max() <= STATIONARY * jnp.abs(gradient(z, elsewhere)).max())


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


def _problem(
    f: Apply,
    params: Params,
    inputs: Any,
    teacher_loss: TeacherLoss | None,
    imitation_loss: ImitationLoss,
    logits: Logits,
    batch_size: int | None,
) -> Problem:
    def no_loss(_: Params) -> jax.Array:
        return jnp.zeros(())

    loss = no_loss if teacher_loss is None else teacher_loss
    return problem(f, params, loss, inputs, imitation_loss=imitation_loss, logits=logits, batch_size=batch_size)


def _direction(given: Problem, teacher_loss: TeacherLoss | None, direction: Params | None) -> Params:
    if (teacher_loss is None) == (direction is None):
        raise ValueError("give either teacher_loss or direction, and not both")
    if teacher_loss is None:
        return _like_params("direction", direction, given.params)
    return teacher_direction(given)


def teacher_direction(given: Problem) -> Params:
    """`d_T = -grad L_T(theta)`, finite.

    Raises:
        ValueError: where it is not finite.
    """
    d_teacher = jax.jit(lambda theta: teacher_update(given.teacher_loss, theta))(given.params)
    if not all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(d_teacher)):
        raise ValueError("the gradient of teacher_loss is not finite at params")
    return d_teacher


def _like_params(argument: str, tree: Params, params: Params) -> Params:
    tree = float64_params(argument, tree)
    structures: list[Any] = [jax.tree.structure(each) for each in (tree, params)]
    if structures[0] != structures[1] or jax.tree.map(np.shape, tree) != jax.tree.map(np.shape, params):
        raise ValueError(f"{argument} must have the structure and shapes of params")
    return tree


def _rank_bound(given: Problem) -> int:
    return len(jax.tree.leaves(given.inputs)[0]) * given.outputs.shape[1]


def _operator(given: Problem) -> Any:
    theta, unravel = ravel_pytree(given.params)

    @jax.jit
    def product(theta: jax.Array, vector: jax.Array, inputs: Any) -> jax.Array:
        image = gauss_newton_product(
            given.f, unravel(theta), unravel(vector), inputs, given.imitation_loss, batch_size=given.batch_size
        )
        return ravel_pytree(image)[0]

    def matvec(vector: np.ndarray) -> np.ndarray:
        with jax.enable_x64(True), jax.default_matmul_precision("highest"):
            return np.asarray(product(theta, jnp.asarray(np.ravel(vector), jnp.float64), given.inputs))

    return LinearOperator((theta.size, theta.size), matvec=matvec, rmatvec=matvec, dtype=np.float64)


def _require_symmetric(operator: Any) -> bool:
    """Refuse a G that is not symmetric; return whether it is zero."""
    u, v = np.random.default_rng(0).normal(size=(2, operator.shape[0]))
    gu, gv = operator.matvec(u), operator.matvec(v)
    if abs(u @ gv - v @ gu) > 1e-8 * np.linalg.norm(u) * np.linalg.norm(gv):
        raise ValueError(
            f"imitation_loss makes a G that is not symmetric (u^T G v = {u @ gv:.6g}, v^T G u = {v @ gu:.6g}), so it "
            "fails the hypotheses of the theorem; check_loss shows where"
        )
    return not gu.any() and not gv.any()


def _eigenvalues(operator: Any, rank_bound: int, k: int, *, ends: str = "both") -> Eigenvalues:
    """The ends of the spectrum: `both`, or only the `top`."""
    order = operator.shape[0]
    rank = min(rank_bound, order)
    k = min(k, order)
    wanted = min(k, rank)  # beyond the rank they are exactly 0
    smallest: float | None = 0.0 if rank < order else None
    if _require_symmetric(operator):
        largest, smallest = [0.0] * wanted, 0.0
    elif order <= EXPLICIT or wanted == order:  # ARPACK does not find them all
        matrix = operator @ np.eye(order)
        values = np.linalg.eigvalsh((matrix + matrix.T) / 2)
        largest = values[::-1][:wanted].tolist()
        if rank == order:
            smallest = float(values[0])
    else:
        values = eigsh(operator, k=wanted, which="LA", v0=_start(order), return_eigenvectors=False)
        largest = sorted(values.tolist(), reverse=True)
        if rank == order and ends == "both":
            smallest = _smallest(operator, largest[0])
    return Eigenvalues((*largest, *[0.0] * (k - wanted)), smallest, rank_bound, order)


def _smallest(operator: Any, largest: float) -> float | None:
    """The smallest eigenvalue, as `largest` less the largest of `largest - G`: an end that ARPACK finds."""
    order = operator.shape[0]
    turned = LinearOperator(operator.shape, matvec=lambda v: largest * np.ravel(v) - operator.matvec(v), dtype=float)
    try:
        (value,) = eigsh(
            turned,
            k=1,
            which="LA",
            v0=_start(order),
            tol=SMALLEST_TOLERANCE,
            maxiter=SMALLEST_RESTARTS,
            return_eigenvectors=False,
        )
    except ArpackNoConvergence:
        return None
    return largest - float(value)


def _start(order: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=order)
