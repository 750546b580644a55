"""How large the steps of Theorem 1 may be: what is guaranteed, beside what is measured.

The theorem speaks of sufficiently small steps. Three answers to how small, in descending order of strength:

* `relu.relu_certificate`: for a ReLU network under squared error the sign of the alignment on a whole interval.
* `guaranteed_alpha`: rates that lower L_T by its smoothness. A guarantee if that is known, an estimate if sampled.
* `largest_alpha`, `largest_epsilon`: where the conclusion was last seen, and where it first was not. A measurement.

Everything is in float64, whatever the caller's setting. A ValueError names the argument that is wrong.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import optax

from sublim_theory._types import Params
from sublim_theory.protocols import require_count, require_positive
from sublim_theory.theorem.checks import is_zero
from sublim_theory.theorem.compiling import compiled, in_float64
from sublim_theory.theorem.instance import Instance
from sublim_theory.theorem.updates import change_along, curvature_along

POINTS = 33
"""Points of the segment at which the curvature is sampled."""

SLACK = 1e-9
"""Relative excess of a sampled curvature over a given smoothness that may be rounding."""

SMALLEST_ALPHA, LIMIT = 1e-6, 1e6
"""Range of `alpha eps` that is searched, as the student's step is `alpha eps G d_T` to first order."""

SMALLEST_EPSILON = 1e-9
"""Where the search for the largest eps begins."""

GROWTH, TOLERANCE = 2.0, 1e-6
"""Ratio of consecutive values of a search, and relative width of the interval that it ends with."""


@dataclass(frozen=True)
class GuaranteedAlpha:
    """The learning rates below which the student's step lowers L_T, by the curvature along it.

    Attributes:
        alpha: every rate in (0, alpha) lowers L_T: `2 (d_S . d_T) / (beta |d_S|**2)`, or the limit of an estimate;
            infinite for beta = 0, None where `d_S . d_T` is not positive.
        guaranteed: whether beta was given; the largest curvature of a sample proves nothing between the points.
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


def guaranteed_alpha(
    instance: Instance,
    *,
    epsilon: float = 1e-3,
    smoothness: float | None = None,
    points: int = POINTS,
    limit: float | None = None,
) -> GuaranteedAlpha:
    """The learning rates that are sure to lower L_T: `0 < alpha < 2 (d_S . d_T) / (beta |d_S|**2)`.

    If the slope of L_T along `theta + t d_S` grows by at most `beta t |d_S|**2` for 0 <= t <= alpha, as where its
    gradient is beta-Lipschitz, then L_T changes by at most `-alpha d_S . d_T + alpha**2 beta |d_S|**2 / 2`.

    With `smoothness` that is a guarantee; curvatures sampled along the segment can only refute it. Without, beta is the
    largest of those samples (see `updates.curvature_along`), which is no bound, and the result says so.

    Args:
        instance: the instance, with a teacher's loss that is twice differentiable along the segment.
        epsilon: size of the teacher's step, positive.
        smoothness: beta, if it is known; not negative.
        points: of the segment, at which the curvature is sampled; at least 2.
        limit: the largest rate that is considered where beta is sampled; `LIMIT / epsilon` unless given.

    >>> round(guaranteed_alpha(instance, epsilon=0.1, smoothness=2.0).alpha, 9)
    10.0
    """
    epsilon = require_positive("epsilon", epsilon)
    if smoothness is not None and not (smoothness >= 0 and math.isfinite(smoothness)):
        raise ValueError(f"smoothness must be finite and not negative, got {smoothness}")
    points = require_count("points", points, 2)
    if limit is not None:
        limit = require_positive("limit", limit)
    with in_float64():
        d_teacher = instance.direction()
        update = instance.student_updates(d_teacher)(epsilon)  # the step is theta + b update, b = alpha eps
        descent, square = float(optax.tree.vdot(update, d_teacher)), float(optax.tree.vdot(update, update))
        sizes = (epsilon * descent, epsilon**2 * square, epsilon, points)
        if not descent > 0:
            return GuaranteedAlpha(None, False, smoothness, None, *sizes)

        sample = compiled(lambda theta, d, reach: curvature_along(instance.teacher_loss, theta, d, reach, points))

        def curvature(reach: float) -> float:
            return float(sample(instance.params, update, jnp.float64(reach))) / square

        def allowed(beta: float) -> float:
            return 2 * descent / (beta * square) if beta > 0 else math.inf

        most = LIMIT if limit is None else limit * epsilon
        if smoothness is not None:
            reach = min(allowed(smoothness), most)
            seen = curvature(reach)
            if seen > smoothness * (1 + SLACK) + SLACK * descent / (reach * square):
                raise ValueError(
                    f"smoothness {smoothness:g} is no bound: a curvature of {seen:.6g} was found on the step"
                )
            return GuaranteedAlpha(allowed(smoothness) / epsilon, True, smoothness, seen, *sizes)
        # beta grows with the segment and the rate that it allows falls: the two meet.
        lower, upper, _ = search(lambda b: allowed(curvature(b)) >= b, min(SMALLEST_ALPHA, most), most)
        rate = allowed(curvature(upper)) if math.isfinite(upper) else 0.0
        if lower is not None and rate < lower:
            rate = upper = lower
        beta = curvature(upper)
        return GuaranteedAlpha(rate / epsilon, False, beta, beta, *sizes)


def step_sizes(
    instance: Instance,
    *,
    epsilon: float = 1e-3,
    smoothness: float | None = None,
) -> StepSizes:
    """The guaranteed rate, the largest rate and the largest eps that were found, side by side.

    >>> step_sizes(instance, epsilon=0.1).guaranteed.guaranteed
    False
    """
    rate = guaranteed_alpha(instance, epsilon=epsilon, smoothness=smoothness)
    return StepSizes(rate, largest_alpha(instance, epsilon=epsilon), largest_epsilon(instance))


def largest_alpha(
    instance: Instance,
    *,
    epsilon: float = 1e-3,
    smallest: float | None = None,
    limit: float | None = None,
    growth: float = GROWTH,
    tolerance: float = TOLERANCE,
) -> Bracket:
    """The largest learning rate up to which the student's step lowers L_T, found by bracketing.

    From the smallest rate up in geometric steps to the first at which L_T does not decrease, then by bisection.

    Args:
        instance: the instance.
        epsilon: size of the teacher's step, positive.
        smallest: the first rate tried; `SMALLEST_ALPHA / epsilon` unless given.
        limit: the largest rate tried; `LIMIT / epsilon` unless given.
        growth: ratio of consecutive rates, above 1; a failure that ends within one such step can be missed.
        tolerance: width of the final interval, relative to its lower end.

    >>> round(largest_alpha(instance, epsilon=0.1).lower, 4)
    10.0
    """
    epsilon = require_positive("epsilon", epsilon)
    smallest = SMALLEST_ALPHA / epsilon if smallest is None else smallest
    limit = LIMIT / epsilon if limit is None else limit
    _require_search(smallest, limit, growth, tolerance)
    with in_float64():
        update = instance.student_updates(instance.direction())(epsilon)
        change = _change(instance)

        def falls(alpha: float) -> bool:
            return bool(change(instance.params, update, jnp.float64(alpha * epsilon)) < 0)

        statement = f"the student's step lowers L_T (eps = {epsilon:g})"
        lower, upper, tried = search(falls, smallest, limit, growth, tolerance)
        return Bracket("alpha", statement, lower, upper, smallest, limit, tried)


def largest_epsilon(
    instance: Instance,
    *,
    alpha: float | None = None,
    smallest: float = SMALLEST_EPSILON,
    limit: float = LIMIT,
    growth: float = GROWTH,
    tolerance: float = TOLERANCE,
) -> Bracket:
    """The largest size of the teacher's step up to which the two updates are aligned, found by bracketing.

    From the smallest eps up in geometric steps to the first at which `d_S(eps) . d_T > 0` fails, then by bisection. On
    the orthogonal branch (`G d_T` exactly 0) the statement is `d_S(eps) . d_T = 0`.

    Args:
        instance: the instance.
        alpha: the student's learning rate, positive, if its step is to lower L_T as well (Theorem 1); only the
            alignment (Lemma 1) unless given.
        smallest: the first eps tried.
        limit: the largest eps tried.
        growth: ratio of consecutive eps, above 1; a failure that ends within one such step can be missed.
        tolerance: width of the final interval, relative to its lower end.

    >>> largest_epsilon(instance).upper
    inf
    """
    if alpha is not None:
        alpha = require_positive("alpha", alpha)
    _require_search(smallest, limit, growth, tolerance)
    with in_float64():
        d_teacher = instance.direction()
        updates, change = instance.student_updates(d_teacher), _change(instance)
        orthogonal = is_zero(updates(0))
        aligned = compiled(optax.tree.vdot)

        def holds(epsilon: float) -> bool:
            update = updates(epsilon)
            alignment = float(aligned(update, d_teacher))
            if orthogonal or alpha is None:
                return alignment == 0 if orthogonal else alignment > 0
            return alignment > 0 and bool(change(instance.params, update, jnp.float64(alpha * epsilon)) < 0)

        statement = "d_S . d_T = 0" if orthogonal else "d_S . d_T > 0"
        if alpha is not None and not orthogonal:
            statement += f" and the student's step lowers L_T (alpha = {alpha:g})"
        lower, upper, tried = search(holds, smallest, limit, growth, tolerance)
        return Bracket("epsilon", statement, lower, upper, smallest, limit, tried)


def _change(instance: Instance) -> Callable[[Params, Params, Any], Any]:
    """The change of L_T by a step of some size along an update, compiled once."""
    loss = instance.teacher_loss
    return compiled(lambda theta, update, size: change_along(loss, theta, optax.tree.scale(size, update)))


def search(
    holds: Callable[[float], bool], smallest: float, limit: float, growth: float = GROWTH, tolerance: float = TOLERANCE
) -> tuple[float | None, float, int]:
    """Where a statement last held (None: never), where it first did not (infinite: nowhere), and how many were tried.

    From the smallest value up in geometric steps to the first at which it fails, then by bisection.
    """
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


def _require_search(smallest: float, limit: float, growth: float, tolerance: float) -> None:
    require_positive("smallest", smallest)
    require_positive("limit", limit)
    if smallest > limit:
        raise ValueError(f"smallest must not exceed limit, got {smallest} and {limit}")
    if not (growth > 1 and math.isfinite(growth)):
        raise ValueError(f"growth must be above 1 and finite, got {growth}")
    if not 1e-14 <= tolerance < 1:
        raise ValueError(f"tolerance must lie in [1e-14, 1), got {tolerance}")
