"""How large the steps of Theorem 1 may be: what is guaranteed, beside what is measured.

The theorem speaks of sufficiently small steps. Three answers to how small, in descending order of strength:

* `relu.relu_certificate`: for a ReLU network under squared error the sign of the alignment on a whole interval.
* `guaranteed_alpha`: every `0 < alpha < 2 (d_S . d_T) / (beta |d_S|**2)` lowers L_T if beta bounds the growth of its
  slope along the student's step. For a beta that is known that is a guarantee, for one that was sampled an estimate.
* `largest_step`: where the conclusion was last seen, and where it first was not. A measurement.

Everything is in float64, whatever the caller's setting.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from sublim_theory import trees
from sublim_theory.protocols import Params
from sublim_theory.theorem.arguments import require_count, require_positive
from sublim_theory.theorem.largest_step import LIMIT, SMALLEST_ALPHA, Bracket, largest_alpha, largest_epsilon, search
from sublim_theory.theorem.problem import (
    Problem,
    in_float64,
    student_directions,
    teacher_direction,
)

POINTS = 33
"""Points of the segment at which the curvature is sampled."""

SLACK = 1e-9
"""Relative excess of a sampled curvature over a given smoothness that may be rounding."""


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
    problem: Problem,
    *,
    epsilon: float = 1e-3,
    smoothness: float | None = None,
    points: int = POINTS,
    limit: float | None = None,
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
        problem: the instance, with a teacher's loss that is twice differentiable along the segment.
        epsilon: size of the teacher's step, positive.
        smoothness: beta, if it is known; not negative.
        points: of the segment, at which the curvature is sampled; at least 2.
        limit: the largest rate that is considered where beta is sampled; `LIMIT / epsilon` unless given.

    Raises:
        ValueError: naming the argument that is wrong; `smoothness` if a sampled curvature exceeds it.
    """
    epsilon = require_positive("epsilon", epsilon)
    if smoothness is not None and not (smoothness >= 0 and math.isfinite(smoothness)):
        raise ValueError(f"smoothness must be finite and not negative, got {smoothness}")
    points = require_count("points", points, 2)
    if limit is not None:
        limit = require_positive("limit", limit)
    with in_float64():
        d_teacher = teacher_direction(problem)
        direction = student_directions(problem, d_teacher)(epsilon)  # the step is theta + b direction, b = alpha eps
        descent, square = float(trees.dot(direction, d_teacher)), float(trees.dot(direction, direction))
        sizes = (epsilon * descent, epsilon**2 * square, epsilon, points)
        if not descent > 0:
            return GuaranteedAlpha(None, False, smoothness, None, *sizes)

        @jax.jit
        def sample(theta: Params, direction: Params, reach: jax.Array) -> jax.Array:
            """The largest second derivative, or growth of the first from 0, at points of [0, reach]."""

            def slope(b: jax.Array) -> jax.Array:
                there = trees.axpy(b, direction, theta)
                return jax.jvp(problem.teacher_loss, (there,), (direction,))[1]

            nodes = jnp.linspace(0, 1, points) * reach
            slopes, bends = jax.lax.map(lambda b: jax.jvp(slope, (b,), (jnp.ones_like(b),)), nodes)
            seen = jnp.concatenate([bends, (slopes[1:] - slopes[0]) / nodes[1:]])
            return jnp.where(jnp.isfinite(seen).all(), seen.max(), jnp.inf)

        def curvature(reach: float) -> float:
            return float(sample(problem.params, direction, jnp.float64(reach))) / square

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
    problem: Problem,
    *,
    epsilon: float = 1e-3,
    smoothness: float | None = None,
) -> StepSizes:
    """The guaranteed rate, the largest rate and the largest eps that were found, side by side.

    Args:
        problem: the instance.
        epsilon: size of the teacher's step for the two rates, positive.
        smoothness: beta, if it is known.

    Raises:
        ValueError: naming the argument that is wrong.
    """
    rate = guaranteed_alpha(problem, epsilon=epsilon, smoothness=smoothness)
    return StepSizes(rate, largest_alpha(problem, epsilon=epsilon), largest_epsilon(problem))
