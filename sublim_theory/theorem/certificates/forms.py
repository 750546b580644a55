"""Taylor forms: functions of one variable as polynomials whose coefficients are balls, and networks along a line.

A function p of eps on a `Domain`, `eps = centre + radius s`, is represented by balls `c_0 .. c_K`: for each s there are
numbers in the balls with `p = sum_k c_k s**k`. The low coefficients stay thin for smooth networks; the last one is wide
and takes what a higher order would hold. (Taylor models of Berz and Makino, with one variable.)

**On a domain that starts at 0** (`Domain.start`: eps = radius s, s in [0, 1]) every operation keeps a second promise:
c_0 contains `p(0)`, the *same* number for every s. So where p(0) = 0 is known, c_0 may be dropped and `p / s` is
`c_1 + c_2 s + ...`. An operation that cannot keep that promise gives NaN there, which proves nothing.

Everything is in bulk: a form stands for an array of functions, and its coefficients are `Balls` [K + 1, ...]. Call
within `balls.quiet()`.

    domain = Domain.between(0.5, 0.75)                 # or Domain.start(0.25), Domain.at(0.5)
    network = Line(weights, direction, "tanh", inputs)  # layers (W [in, out], b [out]), arrays or Balls
    y = network.outputs(domain)                        # a Form of [inputs, outputs]
    y.range()                                          # Balls [inputs, outputs]: all values on the domain
    (y * y).sum(-1).coefficients
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from sublim_theory.theorem.certificates import balls, tables
from sublim_theory.theorem.certificates.balls import UNIT, Balls

ORDER = 3
"""K unless given."""

ACTIVATIONS = ("relu", "tanh", "gelu", "sigmoid", "identity")
"""Those of `sublim_theory.networks`; `gelu` is the exact one."""

WORSE = 3.0
"""A constant ball takes the place of a form whose range has more than so many times its radius."""


class Domain(NamedTuple):
    """Where forms live: `eps = centre + radius s`, with s in [-1, 1], or in [0, 1] where it starts at 0.

    Attributes:
        centre: of eps.
        radius: of eps, not negative.
        starts: whether eps = radius s with s in [0, 1].
        order: K, the degree of the forms.
    """

    centre: float
    radius: float
    starts: bool = False
    order: int = ORDER

    @classmethod
    def between(cls, low: float, high: float, order: int = ORDER) -> "Domain":
        """A domain that contains `[low, high]`."""
        centre = low / 2 + high / 2
        return cls(centre, math.nextafter(max(high - centre, centre - low), math.inf), False, order)

    @classmethod
    def start(cls, high: float, order: int = ORDER) -> "Domain":
        """`[0, high]`, on which forms keep their value at 0 apart."""
        return cls(0.0, high, True, order)

    @classmethod
    def at(cls, epsilon: float) -> "Domain":
        """One number."""
        return cls(epsilon, 0.0, False, 1)

    def pieces(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Ends in s, ascending, of so many equal pieces; exact where the count is a power of two."""
        ends = np.linspace(0.0 if self.starts else -1.0, 1.0, count + 1)
        return ends[:-1], ends[1:]


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """An array of functions on a domain.

    Attributes:
        coefficients: c_k, Balls [order + 1, ...].
        domain: where they live.
    """

    coefficients: Balls
    domain: Domain

    @classmethod
    def constant(cls, value: Balls, domain: Domain) -> "Form":
        """Numbers that do not depend on s. On a domain that starts at 0 they must be the same for every s."""
        return cls(balls.join(value[None], Balls.exact(np.zeros((domain.order, *value.shape)))), domain)

    @classmethod
    def linear(cls, value: Balls, slope: Balls, domain: Domain) -> "Form":
        """`value + s slope`."""
        form = cls.constant(value, domain)
        form.coefficients.mid[1], form.coefficients.rad[1] = slope.mid, slope.rad
        return form

    @property
    def order(self) -> int:
        """K."""
        return self.domain.order

    def __getitem__(self, index: Any) -> "Form":
        """Some of the functions; the index is that of an array of functions, without the axis of coefficients."""
        index = index if isinstance(index, tuple) else (index,)
        return Form(self.coefficients[(slice(None), *index)], self.domain)

    def __add__(self, other: "Form") -> "Form":
        return Form(self.coefficients + other.coefficients, self.domain)

    def __sub__(self, other: "Form") -> "Form":
        return Form(self.coefficients - other.coefficients, self.domain)

    def __neg__(self) -> "Form":
        return Form(-self.coefficients, self.domain)

    def times(self, numbers: Balls) -> "Form":
        """Times numbers that do not depend on s."""
        return Form(self.coefficients * numbers, self.domain)

    def __mul__(self, other: "Form") -> "Form":
        """The product: terms above the order are ranges in the last coefficient."""
        return self._product(other, 0)

    def _product(self, other: "Form", first: int) -> "Form":
        """Of the terms of this form from the degree `first` on, and all of the other's."""
        x, y, k = self.coefficients, other.coefficients, self.order
        mid, rad = np.zeros((2, 2 * k + 1, *np.broadcast_shapes(x.shape[1:], y.shape[1:])))
        x_most, y_mid = np.abs(x.mid) + x.rad, np.abs(y.mid)
        y_rad = y.rad + (k + 3) * UNIT * y_mid  # each coefficient is a sum of at most k + 1 products
        for i in range(first, k + 1):
            mid[i : i + k + 1] += x.mid[i] * y.mid
            rad[i : i + k + 1] += x_most[i] * y_rad + x.rad[i] * y_mid
        nothing = ~(x_most[first:] > 0).any(0) | ~(y_mid + y.rad > 0).any(0)
        rad = np.where(nothing, rad, (1 + (4 * k + 12) * UNIT) * rad + balls.TINY)
        return Form(_folded(Balls(mid, rad), self.domain), self.domain)

    def sum(self, axis: int) -> "Form":
        """The sum along an axis, counted from the last, so negative."""
        return Form(self.coefficients.sum(axis), self.domain)

    def on(self, low: Any, high: Any) -> Balls:
        """All values for s in [low, high], arrays that broadcast with the functions."""
        return balls.polynomial([self.coefficients[k] for k in range(self.order + 1)], Balls.between(low, high))

    def range(self) -> Balls:
        """All values on the domain."""
        return self.coefficients[0] + self.change()

    def change(self) -> Balls:
        """All values of `p - c_0` on the domain."""
        return _tail(self.coefficients[1:], self.domain)

    def slope(self) -> Balls:
        """All values of `(p - c_0) / s` on the domain."""
        return self.coefficients[1] + _tail(self.coefficients[2:], self.domain)

    def constant_where_narrower(self, values: Balls) -> "Form":
        """With a ball that is known to contain all values in its place, where that is much narrower (saturation).

        A domain that starts at 0 keeps the form: the constant would absorb the slope.
        """
        if self.domain.starts:
            return self
        narrower = ~(self.range().rad <= WORSE * values.rad) & np.isfinite(values.rad)
        if not narrower.any():
            return self
        return Form(
            balls.where(narrower, Form.constant(values, self.domain).coefficients, self.coefficients), self.domain
        )

    def compose(self, coefficients: list[Balls]) -> "Form":
        """`sum_k coefficients[k] (p - c_0)**k`, where the last contains its number for every s, the others the same."""
        total = Form.constant(coefficients[-1], self.domain)
        for each in reversed(coefficients[:-1]):
            total = self._product(total, 1)
            total.coefficients.mid[0], total.coefficients.rad[0] = each.mid, each.rad
        return total

    def activate(self, name: str) -> "Form":
        """An activation, by the names of `ACTIVATIONS`, or `softplus`."""
        if name == "identity":
            return self
        return self._relu() if name == "relu" else self._smooth(name)

    def _smooth(self, name: str) -> "Form":
        """`sigma(p)` by Taylor's theorem at c_0, whose last coefficient is bounded on the whole range.

        `sigma(c_0 + q) = sum_(k < K) sigma_k(c_0) q**k + sigma_K(xi) q**K`. Each `sigma_k(u)` is within
        `(k + 1) B_(k+1) |u - m|` of that at the midpoint m of c_0, and within B_k of 0.
        """
        start, change, values = self.coefficients[0], self.change(), self.range()
        at = jet(name, start.mid, self.order)
        bounds = derivatives(name, self.order + 1, values.least)
        for k in range(self.order + 1):
            away = start.rad + change.most if k == self.order else start.rad
            reach = np.where(away == 0, 0.0, above_product((k + 1) * bounds[k + 1], away))
            at[k] = at[k].widen(reach).intersect(-bounds[k], bounds[k])
        found = self.compose(at)
        if name in MONOTONE:
            found = found.constant_where_narrower(values.monotone(MONOTONE[name]))
        return found

    def _relu(self) -> "Form":
        """`max(0, p)`: exact beside the kink.

        Across it, on [low, high], it lies between `slope p` and `slope p + room`. On a domain that starts at 0 it is
        `max(0, c_0) + theta (p - c_0)` with theta in [0, 1], which keeps c_0 apart.
        """
        values = self.range()
        low, high = values.lower, values.upper
        on, off = low >= 0, high <= 0
        if self.domain.starts:
            start = self.coefficients[0]
            kept = Balls.between(np.maximum(start.lower, 0), np.maximum(start.upper, 0))
            across = Form.linear(kept, self.slope().with_zero(), self.domain)
        else:
            slope = np.clip(high / (high - low), 0.0, 1.0)
            slope = np.where(np.isnan(slope), 1.0, slope)
            # max(0, p) - slope p is at most (1 - slope) high where p >= 0, and -slope low below; never negative.
            room = balls.above(balls.above(np.maximum(balls.above(1 - slope) * high, -slope * low)))
            shift = Balls.between(np.zeros_like(room), np.where(np.isnan(room), np.inf, room))
            across = self.times(Balls.exact(slope)) + Form.constant(shift, self.domain)
        chosen = balls.where(on, self.coefficients, balls.where(off, Balls.exact(0.0), across.coefficients))
        return Form(chosen, self.domain)

    def exp(self) -> tuple["Form", Any, Any]:
        """`exp(p)`, and bounds of its values, of which the upper may be infinite."""
        start, values = self.coefficients[0], self.range()
        at = balls.exp(np.stack([start.lower, start.upper, np.minimum(values.lower, balls.FAR), values.upper]))
        low, high = at[2].lower, at[3].upper
        first, last = Balls.between(at[0].lower, at[1].upper), Balls.between(low, high)
        inverse = [Balls.exact(1 / math.factorial(k)).widen(0.0 if k < 3 else UNIT) for k in range(self.order + 1)]
        terms = [(last if k == self.order else first) * inverse[k] for k in range(self.order + 1)]
        return self.compose(terms), low, high

    def reciprocal(self, low: Any, high: Any) -> "Form":
        """`1 / p`, for p with values in `[low, high]`, positive, of which the upper bounds may be infinite.

        The expansion is at c_0, which need not lie among the values: the last coefficient covers both.
        """
        own, start = self.range(), self.coefficients[0]
        low, high = np.fmax(low, own.lower), np.fmin(high, own.upper)
        powers = [start.reciprocal()]
        for _ in range(self.order - 1):
            powers.append(-(powers[-1] * powers[0]))
        ends = Balls.between(np.minimum(low, start.lower), np.maximum(high, start.upper)).reciprocal()
        least, most = Balls.exact(ends.lower), Balls.exact(ends.upper)
        lowest, highest = least, most  # powers by the ends: those of a wide ball would contain 0
        for _ in range(self.order):
            lowest, highest = lowest * least, highest * most
        top = Balls.between(np.maximum(lowest.lower, 0), highest.upper)
        found = self.compose([*powers, top if self.order % 2 == 0 else -top])
        whole = Balls.between(np.maximum(balls.below(1 / high), 0), np.where(low > 0, balls.above(1 / low), np.nan))
        return found.constant_where_narrower(whole)

    def softmax(self) -> "Form":
        """The softmax over the last axis, as `1 / (1 + sum_(k != j) exp(y_k - y_j))`."""
        count = self.coefficients.shape[-1]
        if count == 1:
            return Form.constant(Balls.exact(np.ones(self.coefficients.shape[1:])), self.domain)
        others = np.array([[k for k in range(count) if k != j] for j in range(count)])
        powers, low, high = (self[..., others] - self[..., :, None]).exp()
        one, rest = Balls.exact(1.0), powers.sum(-1).coefficients
        total = Form(balls.join(rest[:1] + one, rest[1:]), self.domain)
        lowest, highest = Balls.exact(low).sum(-1) + one, Balls.exact(high).sum(-1) + one
        return total.reciprocal(np.fmax(lowest.lower, 1.0), np.where(np.isnan(highest.upper), np.inf, highest.upper))

    def log_sum_exp(self) -> "Form":
        """`log sum_j exp(y_j)` over the last axis."""
        total = self[..., 0]
        for j in range(1, self.coefficients.shape[-1]):
            total = total + (self[..., j] - total).activate("softplus")
        return total


def above_product(x: Any, y: Any) -> Any:
    """A product of numbers that are not negative, rounded up."""
    return balls.above(x * y)


def _tail(coefficients: Balls, domain: Domain) -> Balls:
    """All values of `sum_k coefficients[k] s**(k + 1)` on the domain, power by power."""
    low, high, most = np.minimum(coefficients.lower, 0), np.maximum(coefficients.upper, 0), coefficients.most
    if not domain.starts:  # odd powers take both signs
        low[::2], high[::2] = -most[::2], most[::2]
    out = 1 + (2 * len(most) + 4) * UNIT  # sums of numbers of one sign
    return Balls.between(low.sum(0) * out, high.sum(0) * out)


def _folded(coefficients: Balls, domain: Domain) -> Balls:
    """Coefficients of any degree as so many as the domain's order asks for."""
    k = domain.order
    rest = _tail(coefficients[k + 1 :], domain)
    last = coefficients[k] + rest
    return balls.join(coefficients[:k], last[None])


# Derivatives of activations.

MONOTONE: dict[str, Callable[[Any], Balls]] = {"tanh": balls.tanh, "sigmoid": balls.sigmoid}
"""Bounded increasing activations, whose range over a ball is known from its ends."""


def derivatives(name: str, order: int, distance: Any) -> np.ndarray:
    """Bounds on `|sigma^(k)(u)| / k!` for `|u| >= distance`: [order + 1, ...], for k up to the order."""
    table = tables.derivative_bounds(name, order)
    cell = np.clip(np.nan_to_num(distance / tables.CELL), 0, table.shape[1] - 1).astype(np.int64)
    return table[:, cell]


def jet(name: str, x: Any, order: int) -> list[Balls]:
    """Taylor coefficients `sigma^(k)(x) / k!` of an activation at numbers, for k up to the order, at least 1."""
    return _JETS[name](x, order)


def _over(x: Balls, k: int) -> Balls:
    """`x / k`."""
    return x if k == 1 else x * Balls.exact(1 / k).widen(UNIT)


def _tanh(x: Any, order: int) -> list[Balls]:
    found = list(balls.tanh_and_slope(x))
    for k in range(1, order):  # tanh' = 1 - tanh**2
        square = (found[0] * found[k]).scale(2.0)
        for i in range(1, k):
            square = square + found[i] * found[k - i]
        found.append(_over(-square, k + 1))
    return found


def _sigmoid(x: Any, order: int) -> list[Balls]:
    found = list(balls.sigmoid_and_slope(x))
    opposite = Balls.exact(1.0) - found[0].scale(2.0)
    for k in range(1, order):  # sigma' = sigma - sigma**2
        rest = opposite * found[k]
        for i in range(1, k):
            rest = rest - found[i] * found[k - i]
        found.append(_over(rest, k + 1))
    return found


def _softplus(x: Any, order: int) -> list[Balls]:
    slopes = _sigmoid(x, max(order - 1, 1))[:order]
    return [balls.softplus(x), *(_over(each, k + 1) for k, each in enumerate(slopes))]


def _gelu(x: Any, order: int) -> list[Balls]:
    at = Balls.exact(x)
    density = [balls.normal_density(x)]
    density.append(-(at * density[0]))
    for k in range(1, order):  # phi' = -x phi
        density.append(_over(-(at * density[k] + density[k - 1]), k + 1))
    distribution = [balls.normal_distribution(x), *(_over(each, k + 1) for k, each in enumerate(density))]
    return [at * distribution[0], *(at * distribution[k] + distribution[k - 1] for k in range(1, order + 1))]


_JETS: dict[str, Callable[[Any, int], list[Balls]]] = {
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "gelu": _gelu,
}


# Networks along a line.

Layers = Sequence[Any]
"""One pair W [in, out], b [out] a layer, of numbers or of `Balls`; the network is `h @ W + b`."""


def as_balls(value: Any) -> Balls:
    """Balls as they are, numbers as balls of radius 0."""
    return value if isinstance(value, Balls) else Balls.exact(value)


class Line:
    """A network with the weights `theta + eps d` on some inputs, as a function of eps.

    Args:
        weights: theta.
        direction: d, of the same shapes.
        activation: a name of `ACTIVATIONS`, after every layer but the last.
        inputs: [inputs, features], numbers or Balls.
    """

    def __init__(self, weights: Layers, direction: Layers, activation: str, inputs: Any) -> None:
        self.weights = [(as_balls(w), as_balls(b)) for w, b in weights]
        self.direction = [(as_balls(w), as_balls(b)) for w, b in direction]
        self.activation = activation
        x = as_balls(inputs)
        self._first = tuple(x @ w + b for w, b in (self.weights[0], self.direction[0]))

    def outputs(self, domain: Domain) -> Form:
        """The outputs, a form of [inputs, outputs]."""
        centre, radius = Balls.exact(domain.centre), Balls.exact(domain.radius)
        value, slope = self._first
        form = Form.linear(value + centre * slope, radius * slope, domain)
        for (w, b), (dw, db) in zip(self.weights[1:], self.direction[1:], strict=True):
            hidden = form.activate(self.activation).coefficients
            here, moved = hidden @ (w + centre * dw), (hidden @ dw) * radius
            nothing = Balls.exact(np.zeros((1, *here.shape[1:])))
            here = balls.join(here[:1] + (b + centre * db), here[1:], nothing)
            moved = balls.join(nothing, moved[:1] + radius * db, moved[1:])
            form = Form(_folded(here + moved, domain), domain)
        return form

    def start(self) -> tuple[Balls, Balls]:
        """The outputs and their derivative in eps at eps = 0, each [inputs, outputs].

        That of a ReLU at exactly 0 is 0, as `jax.nn.relu` has it; where its sign is not certain it is in [0, 1].
        """
        value, slope = self._first
        for (w, b), (dw, db) in zip(self.weights[1:], self.direction[1:], strict=True):
            if self.activation == "relu":
                off, on = value.upper <= 0, value.lower > 0
                rate = balls.where(on, Balls.exact(1.0), balls.where(off, Balls.exact(0.0), Balls.between(0.0, 1.0)))
                value = Balls.between(np.maximum(value.lower, 0), np.maximum(value.upper, 0))
                slope = rate * slope
            elif self.activation != "identity":
                at, bounds = jet(self.activation, value.mid, 1), derivatives(self.activation, 2, value.least)
                at = [at[k].widen(above_product((k + 1) * bounds[k + 1], value.rad)) for k in (0, 1)]
                value, slope = at[0], at[1] * slope
            value, slope = value @ w + b, slope @ w + value @ dw + db
        return value, slope


# The march.


class Interval(NamedTuple):
    """`low < eps <= high`, on which one evaluation proves the claim."""

    low: float
    high: float


class March(NamedTuple):
    """How far a function is proved positive.

    Attributes:
        reached: `F > 0` is proved on (0, reached]; 0.0 where nothing is.
        intervals: of which that consists, ascending, each from the end of the one before.
        evaluations: of the form of F.
        stopped: why there: `until`, `steps` (too many) or `undecided` (no further interval could be proved).
    """

    reached: float
    intervals: tuple[Interval, ...]
    evaluations: int
    stopped: str


def march(
    function: Callable[[Domain], Form],
    until: float,
    *,
    vanishes: bool,
    first: float = 0.05,
    tolerance: float = 1e-5,
    order: int = ORDER,
    steps: int = 2000,
) -> March:
    """The largest a with `F > 0` proved on (0, a], from 0 upwards, interval by interval.

    Args:
        function: `function(domain) -> Form` of one function, of shape [].
        until: where to stop, positive.
        vanishes: whether F(0) is exactly 0. Then `F / eps` is proved positive on the first interval, for which the
            domain starts at 0. That must be known by another argument; it is not looked at.
        first: length of the first interval that is tried.
        tolerance: it stops where no interval of this length, relative to a, is proved.
        order: of the forms.
        steps: most evaluations.
    """
    reached, length, evaluations = 0.0, min(first, until), 0
    smallest = length * 1e-9
    found: list[Interval] = []
    with balls.quiet():
        while reached < until:
            if length < max(tolerance * reached, smallest):
                return March(reached, tuple(found), evaluations, "undecided")
            if evaluations == steps:
                return March(reached, tuple(found), evaluations, "steps")
            high = min(reached + length, until)
            starts = vanishes and reached == 0
            domain = Domain.start(high, order) if starts else Domain.between(reached, high, order)
            evaluations += 1
            share, end = _proved(function(domain), domain, reached, high)
            if end > reached:
                found.append(Interval(reached, end))
                reached = end
            length *= 1.7 if share == 1 else 0.9 if share >= 0.5 else 0.5 if share > 0 else 0.3
    return March(reached, tuple(found), evaluations, "until")


PIECES = 64
"""Of an interval, on which a form is evaluated one by one."""


def _proved(form: Form, domain: Domain, low: float, high: float) -> tuple[float, float]:
    """The share of the interval [low, high] from the left, and its end, on which the form proves `F > 0`."""
    if domain.starts:
        form = Form(balls.join(form.coefficients[1:], Balls.exact(np.zeros((1,)))), domain)
    lows, highs = domain.pieces(PIECES)
    positive = form.on(lows, highs).lower > 0
    count = PIECES if positive.all() else int(np.argmin(positive))
    if count == PIECES:
        return 1.0, high
    if not count:
        return 0.0, low
    slack = 4 * UNIT * (domain.centre + domain.radius)
    end = math.nextafter(domain.centre + domain.radius * highs[count - 1] - slack, 0)
    return count / PIECES, min(max(low, end), high)


def negative_above(
    function: Callable[[Domain], Form], start: float, until: float, smallest: float, tolerance: float = 1e-5
) -> float | None:
    """The first number found above `start`, and not above `until`, where `F < 0` is proved; None if none is.

    Looked for at distances that double, from `tolerance` relative to start, and from `smallest`.
    """
    distance = max(tolerance * start, smallest) / 16
    with balls.quiet():
        while start + distance <= until:
            epsilon = start + distance
            if epsilon > start and function(Domain.at(epsilon)).range().upper < 0:
                return epsilon
            distance *= 2
    return None
