"""Constants of elementary functions, enclosed by python-flint once and kept as float64: no rounding is left out."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from sublim_theory.theorem.certificates.precision import flint, flint_at

CELL, END = 1 / 64, 40.0
"""Width of the cells on which derivatives are bounded, and where they end: beyond, a formula bounds them."""

LEAST = 1e-290
"""Bounds do not fall below this, however small the derivative."""

SPACING, REACH, DEGREE = 1 / 8, 8.5, 11
"""Of the expansions of the normal distribution function: distance of their centres, the last of these, the degree."""


def enclose(ball: Any) -> tuple[float, float]:
    """A midpoint and a radius in float64 that enclose an `arb`."""
    middle = float(ball.mid())
    return middle, math.nextafter(float((ball - flint.arb(middle)).abs_upper()), math.inf)


def _tanh(x: Any) -> Any:
    return 1 - 2 / ((2 * x).exp() + 1)


def _sigmoid(x: Any) -> Any:
    return 1 / ((-x).exp() + 1)


def _normal(x: Any) -> Any:
    return ((x * flint.arb(0.5).sqrt()).erf() + 1) / 2


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "gelu": lambda x: x * _normal(x),
}
"""Of a power series of flint."""


def _beyond(name: str, k: int) -> Any:
    """A bound on `|sigma^(k)(u) / k!|` for `|u| >= END`, as an `arb`; k >= 1, of GELU k >= 2.

    Tanh: Cauchy's estimate on discs of radius 1, on which `|1 - tanh z| <= 2 / (exp(2 Re z) - 1)`; the sigmoid is
    `(1 + tanh(x / 2)) / 2`. GELU: Cramer's inequality for Hermite functions, `|He_n(x)| exp(-x**2 / 4) <= 1.09
    sqrt(n!)`, in `x Phi_k + Phi_(k-1)`, the coefficients of the distribution function.
    """
    end = flint.arb(END)
    if name == "tanh":
        return 2 / ((2 * (end - 1)).exp() - 1)
    if name == "sigmoid":
        return 2 / ((end - 2).exp() - 1)
    return 2 * end * flint.arb(math.factorial(k)).sqrt() * (-end * end / 4).exp()


@functools.cache
def derivative_bounds(name: str, order: int) -> np.ndarray:
    """Bounds on all derivatives of an activation at a distance from 0: `B[k, j] >= sup |sigma^(k)(u)| / k!`.

    The supremum is over `|u| >= j CELL`. It is found by enclosing the derivatives on every cell. The derivatives of
    these functions, of GELU from the second on, have a size that is even in u, so that the cells of one side do.

    Args:
        name: `tanh`, `sigmoid`, `gelu` or `softplus`.
        order: the highest k, at least 1.

    Returns:
        [order + 1, 1 + END / CELL] float64, not increasing in j; infinite where there is no bound (k = 0 of softplus
        and GELU).
    """
    if name == "softplus":  # its derivative is the sigmoid
        slopes = derivative_bounds("sigmoid", max(order - 1, 1))[:order] / np.arange(1, order + 1)[:, None]
        bounds = np.vstack([np.full_like(slopes[:1], np.inf), np.nextafter(slopes, np.inf)])
    else:
        cells = round(END / CELL)
        bounds = np.empty((order + 1, cells + 1))
        half = flint.arb(CELL / 2)
        with flint_at(80, order + 2):
            for j in range(cells):
                middle = flint.arb((j + 0.5) * CELL)
                at, on = (
                    FUNCTIONS[name](flint.arb_series([x, 1])).coeffs() for x in (middle, middle + flint.arb(0, half))
                )
                # By the mean value theorem from the middle: c_k' = (k + 1) c_(k+1).
                bounds[:, j] = [_upwards(abs(at[k]) + (k + 1) * abs(on[k + 1]) * half) for k in range(order + 1)]
            bounds[:, cells] = [_upwards(_beyond(name, k)) if k else 0.0 for k in range(order + 1)]
        bounds = np.maximum.accumulate(bounds[:, ::-1], axis=1)[:, ::-1]
        if name == "gelu":
            bounds[0], bounds[1] = np.inf, 1.13
        else:
            bounds[0] = 1.0
            bounds[1] = np.minimum(bounds[1], {"tanh": 1.0, "sigmoid": 0.25}[name])
    bounds.setflags(write=False)
    return bounds


def _upwards(ball: Any) -> float:
    return max(LEAST, math.nextafter(float(ball.abs_upper()), math.inf))


@functools.cache
def logarithm_of_two() -> tuple[float, float, float]:
    """`(high, low, radius)`: ln 2 is within `radius` of `high + low`; multiples of `high` up to 2**20 are exact."""
    with flint_at(200):
        ln2 = flint.arb(2).log()
        high = math.floor(float(ln2) * 2**32) / 2**32
        low, radius = enclose(ln2 - flint.arb(high))
    return high, low, radius


@functools.cache
def normal_expansions() -> tuple[np.ndarray, np.ndarray, float]:
    """Taylor coefficients of the normal distribution function at `SPACING i`, `|SPACING i| <= REACH`.

    Returns:
        Midpoints and radii, each [2 REACH / SPACING + 1, DEGREE + 1], and a bound on what is left of the function
        within `SPACING / 2` of a centre, by Cramer's inequality.
    """
    count = round(REACH / SPACING)
    with flint_at(120, DEGREE + 1):
        rows = [
            [enclose(each) for each in _normal(flint.arb_series([flint.arb(i * SPACING), 1])).coeffs()]
            for i in range(-count, count + 1)
        ]
        factorial = flint.arb(math.factorial(DEGREE))
        rest = 2 * factorial.sqrt() / (factorial * (DEGREE + 1)) * flint.arb(SPACING / 2) ** (DEGREE + 1)
    table = np.array(rows)
    table.setflags(write=False)
    return table[..., 0], table[..., 1], _upwards(rest)


@functools.cache
def inverse_root_of_two_pi() -> tuple[float, float]:
    """`1 / sqrt(2 pi)` as a midpoint and a radius."""
    with flint_at(120):
        return enclose(1 / (2 * flint.arb.pi()).sqrt())
