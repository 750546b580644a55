"""The largest steps at which the conclusion of Theorem 1 was seen: a measurement, by bracketing.

Everything is in float64, whatever the caller's setting.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from sublim_theory import trees
from sublim_theory.protocols import Params
from sublim_theory.theorem.arguments import require_positive
from sublim_theory.theorem.problem import (
    Problem,
    in_float64,
    student_directions,
    teacher_direction,
)
from sublim_theory.theorem.updates import change_along

SMALLEST_ALPHA, LIMIT = 1e-6, 1e6
"""Range of `alpha eps` that is searched, as the student's step is `alpha eps G d_T` to first order."""

SMALLEST_EPSILON = 1e-9
"""Where the search for the largest eps begins."""

GROWTH, TOLERANCE = 2.0, 1e-6
"""Ratio of consecutive values of a search, and relative width of the interval that it ends with."""


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


def largest_alpha(
    problem: Problem,
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
        problem: the instance.
        epsilon: size of the teacher's step, positive.
        smallest: the first rate tried; `SMALLEST_ALPHA / epsilon` unless given.
        limit: the largest rate tried; `LIMIT / epsilon` unless given.
        growth: ratio of consecutive rates, above 1; a failure that ends within one such step can be missed.
        tolerance: width of the final interval, relative to its lower end.

    Raises:
        ValueError: naming the argument that is wrong.
    """
    epsilon = require_positive("epsilon", epsilon)
    smallest = SMALLEST_ALPHA / epsilon if smallest is None else smallest
    limit = LIMIT / epsilon if limit is None else limit
    _require_search(smallest, limit, growth, tolerance)
    with in_float64():
        direction = student_directions(problem, teacher_direction(problem))(epsilon)

        @jax.jit
        def change(theta: Params, direction: Params, b: jax.Array) -> jax.Array:
            return change_along(problem.teacher_loss, theta, trees.scale(b, direction))

        def falls(alpha: float) -> bool:
            return bool(change(problem.params, direction, jnp.float64(alpha * epsilon)) < 0)

        statement = f"the student's step lowers L_T (eps = {epsilon:g})"
        lower, upper, tried = search(falls, smallest, limit, growth, tolerance)
        return Bracket("alpha", statement, lower, upper, smallest, limit, tried)


def largest_epsilon(
    problem: Problem,
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
        problem: the instance.
        alpha: the student's learning rate, positive, if its step is to lower L_T as well (Theorem 1); only the
            alignment (Lemma 1) unless given.
        smallest: the first eps tried.
        limit: the largest eps tried.
        growth: ratio of consecutive eps, above 1; a failure that ends within one such step can be missed.
        tolerance: width of the final interval, relative to its lower end.

    Raises:
        ValueError: naming the argument that is wrong.
    """
    if alpha is not None:
        alpha = require_positive("alpha", alpha)
    _require_search(smallest, limit, growth, tolerance)
    with in_float64():
        d_teacher = teacher_direction(problem)
        directions = student_directions(problem, d_teacher)
        orthogonal = not any(np.any(leaf) for leaf in jax.tree.leaves(directions(0)))

        @jax.jit
        def conclusion(theta: Params, d: Params, direction: Params, epsilon: jax.Array) -> jax.Array:
            aligned = trees.dot(direction, d)
            if orthogonal:
                return aligned == 0
            if alpha is None:
                return aligned > 0
            return (aligned > 0) & (
                change_along(problem.teacher_loss, theta, trees.scale(alpha * epsilon, direction)) < 0
            )

        def holds(epsilon: float) -> bool:
            return bool(conclusion(problem.params, d_teacher, directions(epsilon), jnp.float64(epsilon)))

        statement = "d_S . d_T = 0" if orthogonal else "d_S . d_T > 0"
        if alpha is not None and not orthogonal:
            statement += f" and the student's step lowers L_T (alpha = {alpha:g})"
        lower, upper, tried = search(holds, smallest, limit, growth, tolerance)
        return Bracket("epsilon", statement, lower, upper, smallest, limit, tried)


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
