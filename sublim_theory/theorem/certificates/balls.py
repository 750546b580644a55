"""Arithmetic on arrays of balls, `mid - rad <= x <= mid + rad`, in float64, every rounding accounted for.

An operation on balls gives balls that contain every result for numbers in the operands (Rump, "Verification methods",
Acta Numerica 2010). Only the roundings of IEEE additions, multiplications, divisions and comparisons are relied on, and
for products of matrices the bound `n u |x| |y|` for sums in any order (Jeannerod and Rump, SIAM J. Matrix Anal. 2013);
elementary functions are built from these. Where something overflows, radii become infinite or NaN, and every
comparison that would prove something is false.

A ball of radius 0 is a number, and an operation that is exact whatever the numbers (0 times, plus 0) keeps it: exact
zeros stay exact. Broadcasting is that of numpy. The callers silence numpy's warnings with `quiet`.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from sublim_theory.theorem.certificates import tables

UNIT = 2.0**-53
"""Largest relative error of one rounding to nearest."""

UP = 1 + 2.0**-49
"""A radius is computed in less than eight roundings, and multiplied by this."""

TINY = 1e-300
"""More than what underflow takes from a few operations."""

SMALL = 1e-100
"""Factors of products whose sum is a radius are not below this, so that none of them underflows."""


def quiet() -> Any:
    """A context in which overflow and NaN, which this arithmetic copes with, are no warnings."""
    return np.errstate(all="ignore")


def above(x: Any) -> Any:
    """The next float above."""
    return np.nextafter(x, np.inf)


def below(x: Any) -> Any:
    """The next float below."""
    return np.nextafter(x, -np.inf)


@dataclass(frozen=True, slots=True, eq=False)
class Balls:
    """An array of balls.

    Attributes:
        mid: [...] float64.
        rad: [...] float64, of the same shape, none negative.

    >>> (Balls.exact(0.1) + Balls.exact(0.2)).contains(0.3)
    array(True)
    """

    mid: Any
    rad: Any

    @staticmethod
    def exact(values: Any) -> "Balls":
        """Numbers, of radius 0."""
        mid = np.asarray(values, np.float64)
        return Balls(mid, np.zeros(mid.shape))

    @staticmethod
    def between(low: Any, high: Any) -> "Balls":
        """The smallest balls that contain `[low, high]`, up to rounding."""
        low, high = np.broadcast_arrays(np.asarray(low, np.float64), np.asarray(high, np.float64))
        mid = low / 2 + high / 2
        mid = np.where(low == high, low, mid)
        rad = np.maximum(high - mid, mid - low)
        return Balls(mid, np.where(rad > 0, above(rad), rad))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.mid.shape

    @property
    def lower(self) -> Any:
        """Lower ends, rounded down."""
        return np.where(self.rad == 0, self.mid, below(self.mid - self.rad))

    @property
    def upper(self) -> Any:
        """Upper ends, rounded up."""
        return np.where(self.rad == 0, self.mid, above(self.mid + self.rad))

    @property
    def most(self) -> Any:
        """The largest absolute value in each, rounded up."""
        return np.where(self.rad == 0, np.abs(self.mid), above(np.abs(self.mid) + self.rad))

    @property
    def least(self) -> Any:
        """The smallest absolute value in each, rounded down."""
        return np.maximum(np.where(self.rad == 0, np.abs(self.mid), below(np.abs(self.mid) - self.rad)), 0)

    def contains(self, values: Any) -> np.ndarray:
        """Whether the numbers lie in the balls."""
        return np.asarray((self.lower <= values) & (values <= self.upper))

    def __getitem__(self, index: Any) -> "Balls":
        return Balls(np.asarray(self.mid[index]), np.asarray(self.rad[index]))

    def reshape(self, *shape: int) -> "Balls":
        """As of numpy."""
        return Balls(self.mid.reshape(*shape), self.rad.reshape(*shape))

    def transpose(self, *axes: int) -> "Balls":
        """As of numpy."""
        return Balls(self.mid.transpose(*axes), self.rad.transpose(*axes))

    def __neg__(self) -> "Balls":
        return Balls(-self.mid, self.rad)

    def __add__(self, other: "Balls") -> "Balls":
        mid = self.mid + other.mid  # exact where it is subnormal
        return Balls(mid, UP * (self.rad + other.rad + UNIT * np.abs(mid)))

    def __sub__(self, other: "Balls") -> "Balls":
        return self + -other

    def __mul__(self, other: "Balls") -> "Balls":
        x, y = np.abs(self.mid), np.abs(other.mid)
        mid = self.mid * other.mid
        rad = UP * (x * other.rad + self.rad * (y + other.rad) + UNIT * np.abs(mid))
        return Balls(mid, np.where((x + self.rad > 0) & (y + other.rad > 0), rad + TINY, rad))

    def scale(self, factor: float) -> "Balls":
        """Times a number."""
        return self * Balls.exact(factor)

    def widen(self, rad: Any) -> "Balls":
        """With radii added."""
        return Balls(self.mid, UP * (self.rad + rad))

    def intersect(self, low: Any, high: Any) -> "Balls":
        """What lies in `[low, high]` as well, where the numbers are known to; a NaN is replaced by all of that.

        Kept as it is where that would widen it by rounding.
        """
        cut = Balls.between(np.fmax(self.lower, low), np.fmin(self.upper, high))
        better = ~(self.rad <= cut.rad)
        return Balls(np.where(better, cut.mid, self.mid), np.where(better, cut.rad, self.rad))

    def with_zero(self) -> "Balls":
        """The smallest balls that contain these and 0: all products with a number of [0, 1]."""
        return Balls.between(np.minimum(self.lower, 0), np.maximum(self.upper, 0))

    def __matmul__(self, other: "Balls") -> "Balls":
        """The product [..., n] @ [n, m]."""
        slack = (self.shape[-1] + 4) * UNIT
        x, y = _lifted(np.abs(self.mid)), _lifted(np.abs(other.mid))
        rad = _lifted(x * slack + self.rad) @ y
        if other.rad.any():
            rad = rad + _lifted(x + self.rad) @ _lifted(other.rad)
        return Balls(self.mid @ other.mid, rad * (1 + 4 * slack))

    def sum(self, axis: int) -> "Balls":
        """The sum along an axis."""
        count = self.shape[axis]
        mid = self.mid.sum(axis)
        rad = self.rad.sum(axis) + count * UNIT * np.abs(self.mid).sum(axis)
        return Balls(mid, rad * (1 + 4 * (count + 4) * UNIT))

    def reciprocal(self) -> "Balls":
        """`1 / x` where the ball is positive, NaN elsewhere."""
        positive = self.lower > 0
        return Balls.between(
            np.where(positive, np.maximum(below(1 / self.upper), 0), np.nan),
            np.where(positive, above(1 / self.lower), np.nan),
        )

    def monotone(self, function: Any) -> "Balls":
        """The images under an increasing function, which is given for points: `function(array) -> Balls`."""
        ends = function(np.stack([self.lower, self.upper]))
        return Balls.between(ends[0].lower, ends[1].upper)


def stack(*parts: Balls) -> Balls:
    """Balls of one shape along a new first axis."""
    return join(*(each[None] for each in parts))


def join(*parts: Balls) -> Balls:
    """Balls along their first axis."""
    return Balls(np.concatenate([each.mid for each in parts]), np.concatenate([each.rad for each in parts]))


def where(condition: Any, yes: Balls, no: Balls) -> Balls:
    """As of numpy."""
    return Balls(np.where(condition, yes.mid, no.mid), np.where(condition, yes.rad, no.rad))


def _lifted(x: Any) -> Any:
    """Absolute values that are not below `SMALL`, but for zeros."""
    return np.where(x == 0, x, np.maximum(x, SMALL))


# Elementary functions of numbers: arrays of float64 to balls.


def polynomial(coefficients: list[Balls], x: Balls) -> Balls:
    """`sum_k coefficients[k] x**k` by Horner's rule."""
    total = coefficients[-1]
    for each in reversed(coefficients[:-1]):
        total = total * x + each
    return total


_TERMS = 14
"""Of the series of `expm1(r) / r` on `|r| <= 0.36`."""

FAR = 700.0
"""Up to here neither the exponential nor what its radius is made of overflows or underflows."""


def exponentials(x: Any) -> tuple[Balls, Balls]:
    """`exp(x)` and `exp(x) - 1`; below -700 the first is anything between 0 and 1e-304.

    The second has the relative precision of a float near 0.
    """
    high, low, radius = tables.logarithm_of_two()
    inside = np.clip(x, -FAR, FAR)
    k = np.rint(inside / (high + low))
    r = Balls.exact(inside) - Balls.exact(k * high) - Balls.exact(k) * Balls(np.asarray(low), np.asarray(radius))
    series = np.full(x.shape, 1 / math.factorial(_TERMS))
    for j in range(_TERMS - 1, 0, -1):
        series = series * r.mid + 1 / math.factorial(j)
    # A term of degree j goes through 2j + 1 roundings, its coefficient through one: in all below
    # `u sum_j (2j + 2) 0.36**j / (j + 1)! < 3u`. The terms left out are below 1e-18, and the slope is below 1.
    rest = r * Balls(series, 3 * UNIT + 1e-18 + r.rad)
    scaled, power = Balls.exact(1.0) + rest, k.astype(np.int64)
    mid, rad = np.ldexp(scaled.mid, power), np.ldexp(scaled.rad, power) + TINY
    small, large = x < -FAR, x > FAR
    mid, rad = (np.where(small, 1e-304, np.where(large, np.inf, each)) for each in (mid, rad))
    whole = Balls(mid, rad)
    return whole, where(k == 0, rest, whole - Balls.exact(1.0))


def exp(x: Any) -> Balls:
    """`exp(x)`."""
    return exponentials(x)[0]


def tanh(x: Any) -> Balls:
    """`tanh(x)`."""
    return _tanh(x, exponentials(-2 * np.abs(x))[1])


def _tanh(x: Any, e: Balls) -> Balls:
    found = (-e * (e + Balls.exact(2.0)).reciprocal()).intersect(0.0, 1.0)
    return Balls(np.copysign(found.mid, x), found.rad)


def tanh_and_slope(x: Any) -> tuple[Balls, Balls]:
    """`tanh(x)` and `1 - tanh(x)**2`, the latter also precise where that cancels."""
    e, less = exponentials(-2 * np.abs(x))
    part = (e + Balls.exact(1.0)).reciprocal()
    return _tanh(x, less), (Balls.exact(4.0) * e * part * part).intersect(0.0, 1.0)


def sigmoid(x: Any) -> Balls:
    """`1 / (1 + exp(-x))`."""
    return sigmoid_and_slope(x)[0]


def sigmoid_and_slope(x: Any) -> tuple[Balls, Balls]:
    """`sigma(x) = 1 / (1 + exp(-x))` and `sigma(x) (1 - sigma(x))`."""
    e = exp(-np.abs(x))
    part = (e + Balls.exact(1.0)).reciprocal()  # sigma(|x|)
    rest = e * part
    return where(x < 0, rest, part).intersect(0.0, 1.0), (part * rest).intersect(0.0, 0.25)


def softplus(x: Any) -> Balls:
    """`log(1 + exp(x))`."""
    w = exp(-np.abs(x))
    # log(1 + w) = y + log(1 + e) for any y, with 1 + e = (1 + w) exp(-y), and |log(1 + e)| <= |e| / (1 - |e|).
    y = np.log1p(w.mid)
    whole, less = exponentials(-y)
    e = (w * whole + less).most
    return Balls.exact(np.maximum(x, 0)) + Balls.exact(y).widen(np.where(e < 0.1, 1.2 * e, np.inf))


def normal_density(x: Any) -> Balls:
    """`exp(-x**2 / 2) / sqrt(2 pi)`."""
    mid, rad = tables.inverse_root_of_two_pi()
    square = Balls.exact(x) * Balls.exact(-x / 2)
    return Balls.between(exp(square.lower).lower, exp(square.upper).upper) * Balls(np.asarray(mid), np.asarray(rad))


def normal_distribution(x: Any) -> Balls:
    """The distribution function of the standard normal."""
    mids, rads, rest = tables.normal_expansions()
    inside = np.clip(np.where(np.isnan(x), 0.0, x), -tables.REACH, tables.REACH)
    i = np.rint(inside / tables.SPACING)
    at = i.astype(np.int64) + len(mids) // 2
    h = inside - i * tables.SPACING  # exact, by Sterbenz's lemma
    total = mids[at, -1]
    for k in range(mids.shape[1] - 2, -1, -1):
        total = total * h + mids[at, k]
    # Coefficients from the second on are below 0.4 and |h| <= 1/16: roundings as in `exponentials`, below 1.2u.
    found = Balls(total, 2 * UNIT + rest + rads[at].sum(-1)).intersect(0.0, 1.0)
    # Beyond, it lies between its value there and its limit.
    last = np.where(x < 0, found.upper, 1 - found.lower)
    far = Balls.between(np.where(x < 0, 0.0, 1 - above(last)), np.where(x < 0, last, 1.0))
    found = where(np.abs(x) > tables.REACH, far, found)
    return where(np.isnan(x), Balls.exact(x), found)
