"""How large the steps of Theorem 1 may be: what is guaranteed, what is measured, and what is certified exactly.

The theorem speaks of sufficiently small steps. Three answers to how small, in descending order of strength:

* `relu_certificate`: for a ReLU network under squared error the alignment is a polynomial in eps up to the first kink,
  which is found exactly; the sign is read off its real roots, so it holds on the whole interval.
* `guaranteed_alpha`: every `0 < alpha < 2 (d_S . d_T) / (beta |d_S|**2)` lowers L_T if beta bounds the growth of its
  slope along the student's step. For a beta that is known that is a guarantee, for one that was sampled an estimate.
* `largest_alpha`, `largest_epsilon`: where the conclusion was last seen, and where it first was not. A measurement.

Everything is in float64, whatever the caller's setting.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from sublim_theory import trees
from sublim_theory.protocols import Apply, Params
from sublim_theory.theorem.problem import ImitationLoss, Logits, Problem, problem
from sublim_theory.theorem.spectrum import student_directions, teacher_direction
from sublim_theory.theorem.updates import TeacherLoss, teacher_update

SMALLEST_ALPHA, LIMIT = 1e-6, 1e6
"""Range of `alpha eps` that is searched, as the student's step is `alpha eps G d_T` to first order."""

SMALLEST_EPSILON = 1e-9
"""Where the search for the largest eps begins."""

POINTS = 33
"""Points of the segment at which the curvature is sampled."""

SMALL_CHANGE = 1e-6
"""Change of L_T, relative to its value, below which the difference of two values has lost digits."""

SLACK = 1e-9
"""Relative excess of a sampled curvature over a given smoothness that may be rounding."""

TINY, LAST, HIGHEST = 1e-300, 4 * np.finfo(np.float64).eps, 1e60
"""Of the roots: tolerances of the bisection, and where the half-line ends (its powers stay below overflow)."""

Layers: TypeAlias = Sequence[tuple[Any, Any]]
"""An MLP: one (kernel [in, out], bias [out]) a layer, ReLU between them, none after the last."""


@dataclass(frozen=True)
class GuaranteedAlpha:
    """The learning rates below which the student's step lowers L_T, by the curvature along it.

    Attributes:
        alpha: every rate in (0, alpha) lowers L_T: `2 (d_S . d_T) / (beta |d_S|**2)`; infinite for beta = 0. None where
            no rate can be had, because `d_S . d_T` is not positive. An estimate that met its limit is that limit.
        guaranteed: True if beta was given, so that it is a guarantee (up to the rounding of float64); False if beta is
            the largest curvature of a sample, which proves nothing between the points.
        smoothness: beta.
        curvature: the largest seen at the points, per unit length squared; None where no rate can be had.
        alignment: `d_S . d_T`.
        square: `|d_S|**2`.
        epsilon: size of the teacher's step.
        points: of the segment, at which the curvature was sampled.
    """

    alpha: float | None
    guaranteed: bool
    smoothness: float | None
    curvature: float | None
    alignment: float
    square: float
    epsilon: float
    points: int

    def __str__(self) -> str:
        """A sentence that says plainly what is guaranteed, or that nothing is."""
        if self.alpha is None:
            return (
                f"nothing can be guaranteed: d_S . d_T = {self.alignment:.6g} at eps = {self.epsilon:g} is not "
                "positive, so no alpha is sure to lower L_T"
            )
        if self.guaranteed:
            return (
                f"guaranteed: every alpha below {self.alpha:.6g} lowers L_T at eps = {self.epsilon:g}, by the given "
                f"smoothness {self.smoothness:.6g} (largest curvature seen: {self.curvature:.6g})"
            )
        return (
            f"nothing is guaranteed, as no smoothness was given; the largest curvature at {self.points} points of the "
            f"step, {self.curvature:.6g}, suggests alpha below {self.alpha:.6g} at eps = {self.epsilon:g}"
        )


@dataclass(frozen=True)
class Bracket:
    """Where a statement last held and first did not, from the small end up. Between the values tried nothing is known.

    Attributes:
        quantity: what was varied, `alpha` or `epsilon`.
        statement: what was checked.
        lower: it held at this value and at every smaller one tried; None if it failed at the first.
        upper: it failed at this value; infinite if it held up to the limit.
        smallest: the first value tried.
        limit: the largest value that was to be tried.
        tried: how many values.
    """

    quantity: str
    statement: str
    lower: float | None
    upper: float
    smallest: float
    limit: float
    tried: int

    def __str__(self) -> str:
        """A sentence with the interval."""
        if self.lower is None:
            return f"{self.statement}: not even at {self.quantity} = {self.smallest:.6g}, the smallest tried"
        if math.isinf(self.upper):
            return f"{self.statement}: at all {self.tried} {self.quantity} tried up to the limit {self.limit:.6g}"
        return (
            f"{self.statement}: up to {self.quantity} = {self.lower:.9g}, no longer at {self.upper:.9g} "
            f"({self.tried} values tried)"
        )


@dataclass(frozen=True)
class StepSizes:
    """What is guaranteed beside what was found.

    Attributes:
        guaranteed: rates that the curvature allows.
        largest_alpha: the largest rate at which L_T was seen to decrease, at the same eps.
        largest_epsilon: the largest eps at which the updates were seen to be aligned.
    """

    guaranteed: GuaranteedAlpha
    largest_alpha: Bracket
    largest_epsilon: Bracket

    def __str__(self) -> str:
        """A line each."""
        return f"{self.guaranteed}\n{self.largest_alpha}\n{self.largest_epsilon}"


@dataclass(frozen=True)
class ReluCertificate:
    """The alignment of a ReLU network under squared error, as a polynomial in eps, and its sign on a whole interval.

    Attributes:
        first_kink: the smallest eps > 0 at which a hidden unit's pre-activation changes sign for some input as the
            teacher moves to `theta + eps d_T`; infinite if none does; 0 if one is exactly 0 and switches on at once.
        coefficients: `d_S(eps) . d_T = sum_k coefficients[k] eps**k` on [0, first_kink]; the first is 0, the second A.
        certified_up_to: the sign is right for every eps in (0, certified_up_to): the first kink, or the polynomial's
            first real root if that is smaller.
        holds: whether that is the whole interval up to the first kink.
        margin: the least value of `d_S . d_T / (eps A)` up to there: 0 at a root; None on the orthogonal branch.
        kink_at: (hidden layer, unit, input) of the first kink, counted from 0; None if there is none.
    """

    first_kink: float
    coefficients: tuple[float, ...]
    certified_up_to: float
    holds: bool
    margin: float | None
    kink_at: tuple[int, int, int] | None

    def alignment(self, epsilon: float) -> float:
        """`d_S(eps) . d_T` by the polynomial.

        Raises:
            ValueError: for an eps beyond the first kink, where it is another function.
        """
        if not 0 <= epsilon <= self.first_kink:
            raise ValueError(f"epsilon must lie in [0, {self.first_kink:.6g}], up to the first kink; got {epsilon}")
        return _value(self.coefficients, epsilon)

    def __str__(self) -> str:
        """A sentence."""
        if self.kink_at is None:
            until = "no hidden unit ever switches"
        else:
            layer, unit, example = self.kink_at
            until = (
                f"the first kink is at eps = {self.first_kink:.9g} (hidden layer {layer}, unit {unit}, input {example})"
            )
        end = f"in (0, {self.certified_up_to:.9g})"
        if not self.certified_up_to:
            return f"nothing is certified: {until}"
        if not any(self.coefficients):
            return f"d_S . d_T is exactly 0 for every eps {end}: {until}"
        if self.holds:
            return f"d_S . d_T > 0 for every eps {end}, and at least {self.margin:.3g} eps A: {until}"
        return f"d_S . d_T > 0 for every eps {end}, where it changes sign: {until}"


class _Line(NamedTuple):
    """The student's step, `theta + b direction` with `b = alpha eps`.

    Attributes:
        direction: `d_S(eps) / eps`.
        descent: `direction . d_T`, the rate at which L_T falls.
        square: `|direction|**2`.
    """

    direction: Params
    descent: float
    square: float


def guaranteed_alpha(
    f: Apply,
    params: Params,
    teacher_loss: TeacherLoss,
    inputs: Any,
    *,
    epsilon: float = 1e-3,
    smoothness: float | None = None,
    points: int = POINTS,
    limit: float | None = None,
    imitation_loss: ImitationLoss = "kl",
    logits: Logits = None,
    batch_size: int | None = None,
) -> GuaranteedAlpha:
    """The learning rates that are sure to lower L_T: `0 < alpha < 2 (d_S . d_T) / (beta |d_S|**2)`.

    If the slope of L_T along `theta + t d_S` grows by at most `beta t |d_S|**2` for 0 <= t <= alpha, then
    `L_T(theta + alpha d_S) - L_T(theta) <= -alpha d_S . d_T + alpha**2 beta |d_S|**2 / 2`, which is negative for those
    alpha. A gradient that is beta-Lipschitz on the segment has that property.

    With `smoothness` that is a guarantee, as good as the number that is handed in; curvatures sampled along the segment
    can only refute it. Without, beta is the largest of those samples: of `d_S^T H d_S / |d_S|**2` at the points, and of
    the growth of the slope from the start to each (which sees the kinks that the Hessian of a ReLU network does not).
    That is no bound, and the result says so.

    Args:
        f: `f(params, x) -> outputs [batch, n]`, pure.
        params: the shared initialisation; floating-point leaves.
        teacher_loss: `teacher_loss(params) -> scalar`, twice differentiable along the segment.
        inputs: the student's inputs, a pytree of arrays [inputs, ...].
        epsilon: size of the teacher's step, positive.
        smoothness: beta, if it is known; not negative.
        points: of the segment, at which the curvature is sampled; at least 2.
        limit: the largest rate that is considered where beta is sampled; `LIMIT / epsilon` unless given.
        imitation_loss: as in `verify`.
        logits: the outputs that the student imitates, a slice or indices; all unless given.
        batch_size: inputs at a time; all unless given.

    Raises:
        ValueError: naming the argument that is wrong; `smoothness` if a sampled curvature exceeds it.
    """
    _require_positive("epsilon", epsilon)
    _require_curvature_arguments(smoothness, points, limit)
    with jax.ensure_compile_time_eval(), jax.enable_x64(True), jax.default_matmul_precision("highest"):
        given = problem(
            f, params, teacher_loss, inputs, imitation_loss=imitation_loss, logits=logits, batch_size=batch_size
        )
        d_teacher = teacher_direction(given)
        line = _line(student_directions(given, d_teacher)(epsilon), d_teacher)
        return _guaranteed(given, line, epsilon, smoothness, points, limit)


def largest_alpha(
    f: Apply,
    params: Params,
    teacher_loss: TeacherLoss,
    inputs: Any,
    *,
    epsilon: float = 1e-3,
    smallest: float | None = None,
    limit: float | None = None,
    growth: float = 2.0,
    tolerance: float = 1e-6,
    imitation_loss: ImitationLoss = "kl",
    logits: Logits = None,
    batch_size: int | None = None,
) -> Bracket:
    """The largest learning rate up to which the student's step lowers L_T, found by bracketing.

    From the smallest rate up in geometric steps to the first at which L_T does not decrease, then by bisection.

    Args:
        f: as in `guaranteed_alpha`.
        params: as there.
        teacher_loss: as there; differentiable.
        inputs: as there.
        epsilon: size of the teacher's step, positive.
        smallest: the first rate tried; `SMALLEST_ALPHA / epsilon` unless given.
        limit: the largest rate tried; `LIMIT / epsilon` unless given.
        growth: ratio of consecutive rates, above 1; a failure that ends within one such step can be missed.
        tolerance: width of the final interval, relative to its lower end.
        imitation_loss: as there.
        logits: as there.
        batch_size: as there.

    Raises:
        ValueError: naming the argument that is wrong.
    """
    _require_positive("epsilon", epsilon)
    smallest, limit = _alpha_range(epsilon, smallest, limit)
    _require_search(smallest, limit, growth, tolerance)
    with jax.ensure_compile_time_eval(), jax.enable_x64(True), jax.default_matmul_precision("highest"):
        given = problem(
            f, params, teacher_loss, inputs, imitation_loss=imitation_loss, logits=logits, batch_size=batch_size
        )
        d_teacher = teacher_direction(given)
        line = _line(student_directions(given, d_teacher)(epsilon), d_teacher)
        return _largest_alpha(given, line, epsilon, smallest, limit, growth, tolerance)


def largest_epsilon(
    f: Apply,
    params: Params,
    teacher_loss: TeacherLoss,
    inputs: Any,
    *,
    alpha: float | None = None,
    smallest: float = SMALLEST_EPSILON,
    limit: float = LIMIT,
    growth: float = 2.0,
    tolerance: float = 1e-6,
    imitation_loss: ImitationLoss = "kl",
    logits: Logits = None,
    batch_size: int | None = None,
) -> Bracket:
    """The largest size of the teacher's step up to which the two updates are aligned, found by bracketing.

    From the smallest eps up in geometric steps to the first at which `d_S(eps) . d_T > 0` fails, then by bisection. On
    the orthogonal branch (`G d_T` exactly 0) the statement is `d_S(eps) . d_T = 0`.

    Args:
        f: as in `guaranteed_alpha`.
        params: as there.
        teacher_loss: as there; differentiable.
        inputs: as there.
        alpha: the student's learning rate, positive, if its step is to lower L_T as well (Theorem 1); only the
            alignment (Lemma 1) unless given.
        smallest: the first eps tried.
        limit: the largest eps tried.
        growth: ratio of consecutive eps, above 1; a failure that ends within one such step can be missed.
        tolerance: width of the final interval, relative to its lower end.
        imitation_loss: as there.
        logits: as there.
        batch_size: as there.

    Raises:
        ValueError: naming the argument that is wrong.
    """
    if alpha is not None:
        _require_positive("alpha", alpha)
    _require_search(smallest, limit, growth, tolerance)
    with jax.ensure_compile_time_eval(), jax.enable_x64(True), jax.default_matmul_precision("highest"):
        given = problem(
            f, params, teacher_loss, inputs, imitation_loss=imitation_loss, logits=logits, batch_size=batch_size
        )
        d_teacher = teacher_direction(given)
        directions = student_directions(given, d_teacher)
        return _largest_epsilon(given, directions, d_teacher, alpha, smallest, limit, growth, tolerance)


def step_sizes(
    f: Apply,
    params: Params,
    teacher_loss: TeacherLoss,
    inputs: Any,
    *,
    epsilon: float = 1e-3,
    smoothness: float | None = None,
    imitation_loss: ImitationLoss = "kl",
    logits: Logits = None,
    batch_size: int | None = None,
) -> StepSizes:
    """The guaranteed rate, the largest rate and the largest eps that were found, side by side.

    Args:
        f: as in `guaranteed_alpha`.
        params: as there.
        teacher_loss: as there.
        inputs: as there.
        epsilon: size of the teacher's step for the two rates, positive.
        smoothness: beta, if it is known.
        imitation_loss: as there.
        logits: as there.
        batch_size: as there.

    Raises:
        ValueError: naming the argument that is wrong.
    """
    _require_positive("epsilon", epsilon)
    _require_curvature_arguments(smoothness, POINTS, None)
    with jax.ensure_compile_time_eval(), jax.enable_x64(True), jax.default_matmul_precision("highest"):
        given = problem(
            f, params, teacher_loss, inputs, imitation_loss=imitation_loss, logits=logits, batch_size=batch_size
        )
        d_teacher = teacher_direction(given)
        directions = student_directions(given, d_teacher)
        line = _line(directions(epsilon), d_teacher)
        return StepSizes(
            _guaranteed(given, line, epsilon, smoothness, POINTS, None),
            _largest_alpha(given, line, epsilon, *_alpha_range(epsilon, None, None), 2.0, 1e-6),
            _largest_epsilon(given, directions, d_teacher, None, SMALLEST_EPSILON, LIMIT, 2.0, 1e-6),
        )


def relu_certificate(
    layers: Layers,
    inputs: Any,
    *,
    teacher_loss: TeacherLoss | None = None,
    direction: Layers | None = None,
    logits: Logits = None,
    weights: Sequence[float] | None = None,
    batch_size: int | None = None,
) -> ReluCertificate:
    """The sign of the alignment of a ReLU network under squared error, for every eps up to the first kink.

    Until the first hidden unit switches for some input, the teacher's outputs at `theta + eps d_T` are a polynomial in
    eps, `y(eps) = sum_k y_k eps**k`, of the network's depth as degree. The gradient of `sum_i w_i (z_i - y_i)**2` is
    linear in y, so with `y_0 = z` and `y_1 = J d_T`

        d_S(eps) . d_T = 2 sum_(k >= 1) eps**k E[ y_1 . (w y_k) ],

    whose real roots decide the sign on the whole interval. The coefficients come from polynomial arithmetic, layer by
    layer; they and the roots are exact up to the rounding of float64. A unit whose pre-activation is exactly 0 counts
    as off, as in `jax.nn.relu`.

    For a network of this library the layers are `[(p["kernel"], p["bias"]) for p in (params["hidden_0"], ...)]`.

    Args:
        layers: one (kernel [in, out], bias [out]) a layer; the network is `h @ kernel + bias`, ReLU between layers.
        inputs: [inputs, features].
        teacher_loss: `teacher_loss(layers) -> scalar`, differentiable; the direction is `d_T = -grad L_T`.
        direction: arrays of the shapes of `layers`, instead.
        logits: the outputs that the student imitates, a slice or indices; all unless given.
        weights: w, one for each of those, not negative; ones unless given.
        batch_size: inputs at a time; all unless given.

    Returns:
        The certificate; print it.

    Raises:
        ValueError: naming the argument that is wrong.
    """
    theta = _arrays("layers", layers)
    try:
        x = np.asarray(inputs, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError("inputs must be an array [inputs, features], numbers and not traced") from error
    if x.ndim != 2 or not len(x) or x.shape[1] != theta[0][0].shape[0] or not np.isfinite(x).all():
        raise ValueError(f"inputs must be finite, [inputs >= 1, {theta[0][0].shape[0]}]; got shape {x.shape}")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    chosen, w = _selection(theta[-1][1].size, logits, weights)
    if (teacher_loss is None) == (direction is None):
        raise ValueError("give either teacher_loss or direction, and not both")
    if teacher_loss is not None:
        direction = _gradient(teacher_loss, theta)
    d_teacher = _arrays("direction" if teacher_loss is None else "the gradient of teacher_loss", direction)
    if [(k.shape, b.shape) for k, b in d_teacher] != [(k.shape, b.shape) for k, b in theta]:
        raise ValueError("direction must have the shapes of layers")

    total = np.zeros(len(theta) + 1)
    kink: tuple[float, tuple[int, int, int] | None] = (math.inf, None)
    for first in range(0, len(x), batch_size or len(x)):
        outputs, kink = _output_polynomials(theta, d_teacher, x[first : first + (batch_size or len(x))], first, kink)
        outputs = outputs[..., chosen]
        total[1:] += 2 * np.einsum("bj,kbj->k", w * outputs[1], outputs[1:])
    return _certificate(total / len(x), *kink)


def _line(direction: Params, d_teacher: Params) -> _Line:
    return _Line(direction, float(trees.dot(direction, d_teacher)), float(trees.dot(direction, direction)))


def _guaranteed(
    given: Problem, line: _Line, epsilon: float, smoothness: float | None, points: int, limit: float | None
) -> GuaranteedAlpha:
    alignment, square = epsilon * line.descent, epsilon**2 * line.square
    if not line.descent > 0:
        return GuaranteedAlpha(None, False, smoothness, None, alignment, square, epsilon, points)
    most = LIMIT if limit is None else limit * epsilon  # of b = alpha eps, as everything below

    @jax.jit
    def sample(theta: Params, direction: Params, reach: jax.Array) -> jax.Array:
        """The largest second derivative, or growth of the first from 0, at points of [0, reach]."""

        def slope(b: jax.Array) -> jax.Array:
            there = trees.axpy(b, direction, theta)
            return jax.jvp(given.teacher_loss, (there,), (direction,))[1]

        nodes = jnp.linspace(0, 1, points) * reach
        slopes, bends = jax.lax.map(lambda b: jax.jvp(slope, (b,), (jnp.ones_like(b),)), nodes)
        seen = jnp.concatenate([bends, (slopes[1:] - slopes[0]) / nodes[1:]])
        return jnp.where(jnp.isfinite(seen).all(), seen.max(), jnp.inf)

    def curvature(reach: float) -> float:
        return float(sample(given.params, line.direction, jnp.float64(reach))) / line.square

    def allowed(beta: float) -> float:
        return 2 * line.descent / (beta * line.square) if beta > 0 else math.inf

    if smoothness is not None:
        reach = min(allowed(smoothness), most)
        seen = curvature(reach)
        if seen > smoothness * (1 + SLACK) + SLACK * line.descent / (reach * line.square):
            raise ValueError(f"smoothness {smoothness:g} is no bound: a curvature of {seen:.6g} was found on the step")
        rate, beta = allowed(smoothness), smoothness
    else:
        # beta grows with the segment and the rate that it allows falls: the two meet.
        lower, upper, _ = _search(lambda b: allowed(curvature(b)) >= b, min(SMALLEST_ALPHA, most), most, 2.0, 1e-6)
        rate = allowed(curvature(upper)) if math.isfinite(upper) else 0.0
        if lower is not None and rate < lower:
            rate = upper = lower
        beta = seen = curvature(upper)
    return GuaranteedAlpha(rate / epsilon, smoothness is not None, beta, seen, alignment, square, epsilon, points)


def _largest_alpha(
    given: Problem, line: _Line, epsilon: float, smallest: float, limit: float, growth: float, tolerance: float
) -> Bracket:
    @jax.jit
    def change(theta: Params, direction: Params, b: jax.Array) -> jax.Array:
        return _change(given.teacher_loss, theta, trees.scale(b, direction))

    def falls(alpha: float) -> bool:
        return bool(change(given.params, line.direction, jnp.float64(alpha * epsilon)) < 0)

    statement = f"the student's step lowers L_T (eps = {epsilon:g})"
    return Bracket("alpha", statement, *_search_report(falls, smallest, limit, growth, tolerance))


def _largest_epsilon(
    given: Problem,
    directions: Callable[[float | None], Params],
    d_teacher: Params,
    alpha: float | None,
    smallest: float,
    limit: float,
    growth: float,
    tolerance: float,
) -> Bracket:
    orthogonal = not any(np.any(leaf) for leaf in jax.tree.leaves(directions(None)))

    @jax.jit
    def conclusion(theta: Params, d: Params, direction: Params, b: jax.Array) -> jax.Array:
        aligned = trees.dot(direction, d)
        if orthogonal:
            return aligned == 0
        if alpha is None:
            return aligned > 0
        return (aligned > 0) & (_change(given.teacher_loss, theta, trees.scale(b, direction)) < 0)

    def holds(epsilon: float) -> bool:
        b = jnp.float64((alpha or 0.0) * epsilon)
        return bool(conclusion(given.params, d_teacher, directions(epsilon), b))

    statement = "d_S . d_T = 0" if orthogonal else "d_S . d_T > 0"
    if alpha is not None and not orthogonal:
        statement += f" and the student's step lowers L_T (alpha = {alpha:g})"
    return Bracket("epsilon", statement, *_search_report(holds, smallest, limit, growth, tolerance))


def _change(teacher_loss: TeacherLoss, theta: Params, step: Params) -> jax.Array:
    """`L_T(theta + step) - L_T(theta)`, also where the two agree in nearly all digits.

    The integral of the slope (Gauss-Legendre, three points) where the slope is small over the whole step, as it has the
    digits that the difference has lost; the difference elsewhere, and so where a long step ends at nearly the same
    height: there the three points are not enough.
    """
    before = teacher_loss(theta)
    difference = teacher_loss(trees.axpy(1, step, theta)) - before
    small = SMALL_CHANGE * jnp.abs(before)

    def slope(node: jax.Array) -> jax.Array:
        return jax.jvp(teacher_loss, (trees.axpy(node, step, theta),), (step,))[1]

    def careful() -> jax.Array:
        nodes, weights = (jnp.asarray(values, before.dtype) for values in np.polynomial.legendre.leggauss(3))
        slopes = jax.lax.map(slope, (nodes + 1) / 2)
        return jnp.where(jnp.abs(slopes).max() < small, jnp.sum(weights / 2 * slopes), difference)

    return jax.lax.cond(jnp.abs(difference) < small, careful, lambda: difference)


def _search_report(
    holds: Callable[[float], bool], smallest: float, limit: float, growth: float, tolerance: float
) -> tuple[float | None, float, float, float, int]:
    lower, upper, tried = _search(holds, smallest, limit, growth, tolerance)
    return lower, upper, smallest, limit, tried


def _search(
    holds: Callable[[float], bool], smallest: float, limit: float, growth: float, tolerance: float
) -> tuple[float | None, float, int]:
    """Where it last held, where it first did not, and how many values were tried."""
    lower, upper, tried = None, smallest, 1
    while holds(upper):
        lower = upper
        if lower >= limit:
            return lower, math.inf, tried
        upper, tried = min(lower * growth, limit), tried + 1
    while lower is not None and upper > lower * (1 + tolerance):
        middle, tried = lower * math.sqrt(upper / lower), tried + 1
        lower, upper = (middle, upper) if holds(middle) else (lower, middle)
    return lower, upper, tried


def _alpha_range(epsilon: float, smallest: float | None, limit: float | None) -> tuple[float, float]:
    return (
        SMALLEST_ALPHA / epsilon if smallest is None else smallest,
        LIMIT / epsilon if limit is None else limit,
    )


def _require_positive(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be positive and finite, got {value}")


def _require_curvature_arguments(smoothness: float | None, points: int, limit: float | None) -> None:
    if smoothness is not None and not (smoothness >= 0 and math.isfinite(smoothness)):
        raise ValueError(f"smoothness must be finite and not negative, got {smoothness}")
    if points < 2:
        raise ValueError(f"points must be at least 2, the ends of the step; got {points}")
    if limit is not None:
        _require_positive("limit", limit)


def _require_search(smallest: float, limit: float, growth: float, tolerance: float) -> None:
    _require_positive("smallest", smallest)
    _require_positive("limit", limit)
    if smallest > limit:
        raise ValueError(f"smallest must not exceed limit, got {smallest} and {limit}")
    if not (growth > 1 and math.isfinite(growth)):
        raise ValueError(f"growth must be above 1 and finite, got {growth}")
    if not 1e-14 <= tolerance < 1:
        raise ValueError(f"tolerance must lie in [1e-14, 1), got {tolerance}")


def _arrays(name: str, layers: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """Layers in float64, their shapes checked against each other."""
    try:
        pairs = [(np.asarray(kernel, np.float64), np.asarray(bias, np.float64)) for kernel, bias in layers]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a list of (kernel [in, out], bias [out]), numbers and not traced") from error
    if not pairs:
        raise ValueError(f"{name} has no layers")
    width = pairs[0][0].shape[0] if pairs[0][0].ndim else 0
    for index, (kernel, bias) in enumerate(pairs):
        if kernel.ndim != 2 or not kernel.size or kernel.shape[0] != width or bias.shape != kernel.shape[1:]:
            raise ValueError(
                f"{name}[{index}] must be (kernel [{width}, out], bias [out]); got shapes {kernel.shape}, {bias.shape}"
            )
        if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
            raise ValueError(f"{name}[{index}] is not finite")
        width = kernel.shape[1]
    return pairs


def _selection(outputs: int, logits: Logits, weights: Sequence[float] | None) -> tuple[np.ndarray, np.ndarray]:
    try:
        chosen = np.arange(outputs)[
            slice(None) if logits is None else logits if isinstance(logits, slice) else np.asarray(logits, np.int64)
        ]
    except IndexError as error:
        raise ValueError(f"logits {logits} are not among the {outputs} outputs") from error
    if not chosen.size:
        raise ValueError(f"logits {logits} select none of the {outputs} outputs")
    w = np.ones(chosen.size) if weights is None else np.asarray(weights, np.float64)
    if w.shape != chosen.shape or not np.isfinite(w).all() or (w < 0).any():
        raise ValueError(f"weights must be {chosen.size} finite numbers, none negative; got {weights}")
    return chosen, w


def _gradient(teacher_loss: TeacherLoss, theta: list[tuple[np.ndarray, np.ndarray]]) -> Params:
    with jax.ensure_compile_time_eval(), jax.enable_x64(True), jax.default_matmul_precision("highest"):
        params = [(jnp.asarray(kernel), jnp.asarray(bias)) for kernel, bias in theta]
        shape = jnp.shape(jax.eval_shape(teacher_loss, params))
        if shape != ():
            raise ValueError(f"teacher_loss must return a scalar, got shape {shape}; take the mean inside it")
        return jax.jit(lambda theta: teacher_update(teacher_loss, theta))(params)


def _output_polynomials(
    theta: list[tuple[np.ndarray, np.ndarray]],
    d_teacher: list[tuple[np.ndarray, np.ndarray]],
    x: np.ndarray,
    first_input: int,
    kink: tuple[float, tuple[int, int, int] | None],
) -> tuple[np.ndarray, tuple[float, tuple[int, int, int] | None]]:
    """Coefficients of the outputs at `theta + eps d_T`, [power, batch, outputs], and the first kink so far."""
    h = x[None]
    for layer, ((kernel, bias), (d_kernel, d_bias)) in enumerate(zip(theta, d_teacher, strict=True)):
        # (sum_k h_k eps**k) (W + eps D) + b + eps c
        z = np.zeros((len(h) + 1, len(x), bias.size))
        z[:-1] += h @ kernel
        z[1:] += h @ d_kernel
        z[0] += bias
        z[1] += d_bias
        if layer + 1 == len(theta):
            return z, kink
        # Below the first kink of the layers before, these polynomials are the pre-activations; a root of theirs beyond
        # that is none of the network's, and does not lower the minimum.
        at, where = _first_kink(z, kink[0])
        if where is not None:
            kink = (at, (layer, where[1], first_input + where[0]))
        h = np.where(z[0] > 0, z, 0)
    raise AssertionError("unreachable")


def _first_kink(z: np.ndarray, before: float) -> tuple[float, tuple[int, int] | None]:
    """The first eps in (0, before) at which a unit switches, and its (input, unit); `before` and None if none does.

    No root of a polynomial lies below `r / 2`, with r the least of `|c_0 / c_k|**(1/k)`: below it the other terms add
    up to less than `|c_0|`. So the polynomials are solved in the order of r, and few of them are.
    """
    c = z.reshape(len(z), -1)
    powers = np.arange(1, len(z))[:, None]
    place = None
    # Exactly 0 at the start: counted as off. The first coefficient that is not 0 says where it goes from there.
    for flat in np.flatnonzero((c[0] == 0) & (c[1:] != 0).any(axis=0)):
        rest = np.trim_zeros(c[:, flat], "f")
        found = 0.0 if rest[0] > 0 else next(iter(_sign_changes(rest, before)), before)
        if found < before:
            before, place = found, flat
    # The others: a root needs a coefficient of the sign opposite to the constant's (Descartes).
    some = np.flatnonzero((c[0] != 0) & (c[1:] * np.sign(c[0]) < 0).any(axis=0))
    with np.errstate(divide="ignore", over="ignore"):
        reach = (np.abs(c[0, some] / c[1:, some]) ** (1 / powers)).min(axis=0)
    near = np.flatnonzero(reach / 2 < before)
    for index in near[np.argsort(reach[near])]:
        if reach[index] / 2 >= before:
            break
        roots = _sign_changes(c[:, some[index]], before)
        if roots and roots[0] < before:
            before, place = roots[0], some[index]
    if place is None:
        return before, None
    example, unit = np.unravel_index(place, z.shape[1:])
    return before, (int(example), int(unit))


def _sign_changes(coefficients: Sequence[float] | np.ndarray, high: float) -> list[float]:
    """Where `sum_k coefficients[k] s**k` changes sign on (0, high], ascending.

    Between neighbouring sign changes of its derivative a polynomial is monotone, so that a change of its own sign
    there brackets exactly one root: found by recursion and bisection, to the last digits of float64.
    """
    c = np.trim_zeros(np.asarray(coefficients, np.float64), "b")
    if len(c) < 2:
        return []
    with np.errstate(over="ignore"):
        high = min(high, 1 + float(np.abs(c[:-1]).max() / abs(c[-1])), HIGHEST)  # Cauchy's bound on all roots
    values = c.tolist()
    turns = _sign_changes(c[1:] * np.arange(1, len(c)), high)
    roots: list[float] = []
    before, sign, touch = 0.0, np.sign(c[0]), None
    for point in [*turns, high]:
        value = _value(values, point)
        if value == 0:
            touch = point if touch is None else touch
            continue
        if sign * value < 0:
            root = touch
            if root is None:
                root = optimize.bisect(lambda s: _value(values, s), before, point, xtol=TINY, rtol=LAST, maxiter=2000)
            roots.append(float(root))
        before, sign, touch = point, np.sign(value), None
    return roots


def _value(coefficients: Sequence[float], s: float) -> float:
    """Horner's rule."""
    total = 0.0
    for coefficient in reversed(coefficients):
        total = total * s + coefficient
    return total


def _certificate(coefficients: np.ndarray, kink: float, kink_at: tuple[int, int, int] | None) -> ReluCertificate:
    a = tuple(coefficients.tolist())
    if not any(a):
        return ReluCertificate(kink, a, kink, kink > 0, None, kink_at)
    ratio = coefficients[1:] / coefficients[1]  # A > 0: a sum of squares
    roots = _sign_changes(ratio, kink)
    end = roots[0] if roots else kink
    ends = [0.0, *_sign_changes(ratio[1:] * np.arange(1, len(ratio)), end), *([end] if math.isfinite(end) else [])]
    least = 0.0 if roots else min(_value(ratio.tolist(), s) for s in ends)
    return ReluCertificate(kink, a, end, kink > 0 and not roots, least, kink_at)
