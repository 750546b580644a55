"""The alignment of a ReLU network under squared error: a polynomial in eps up to the first kink, and so its exact sign.

Up to the smallest eps at which a hidden unit switches for some input, which is found exactly, the real roots of the
polynomial decide the sign on a whole interval. Everything is in float64, whatever the caller's setting.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from sublim_theory._types import Params, TeacherLoss
from sublim_theory.protocols import require_count
from sublim_theory.theorem.compiling import compiled, in_float64, own
from sublim_theory.theorem.instance import Logits, selection
from sublim_theory.theorem.updates import teacher_update

TINY, LAST, HIGHEST = 1e-300, 4 * np.finfo(np.float64).eps, 1e60
"""Of the roots: tolerances of the bisection, and where the half-line ends (its powers stay below overflow)."""

Layers: TypeAlias = Sequence[tuple[Any, Any]]
"""An MLP: one (kernel [in, out], bias [out]) a layer, ReLU between them, none after the last."""

Arrays: TypeAlias = list[tuple[np.ndarray, np.ndarray]]
"""Layers in float64, checked."""

Kink: TypeAlias = tuple[float, tuple[int, int, int] | None]
"""Its eps, and where it is: (hidden layer, unit, input)."""


@dataclass(frozen=True)
class ReluCertificate:
    """The alignment of a ReLU network under squared error, as a polynomial in eps, and its sign on a whole interval.

    Attributes:
        first_kink: the smallest eps at which a hidden unit switches for some input as the teacher moves to
            `theta + eps d_T`; infinite if none does; 0 if one is exactly 0 and switches on at once.
        coefficients: `d_S(eps) . d_T = sum_k coefficients[k] eps**k` on [0, first_kink]; the first is 0, the second A.
        certified_up_to: the sign is right for every smaller eps: the first kink, or the first root below it.
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

    whose real roots decide the sign. Coefficients and roots are exact up to the rounding of float64. A unit whose
    pre-activation is exactly 0 counts as off, as in `jax.nn.relu`.

    Args:
        layers: one (kernel [in, out], bias [out]) a layer; the network is `h @ kernel + bias`, ReLU between layers.
        inputs: [inputs, features].
        teacher_loss: `teacher_loss(layers) -> scalar`, differentiable; the direction is `d_T = -grad L_T`.
        direction: arrays of the shapes of `layers`, instead.
        logits: the outputs that the student imitates, a slice or indices; all unless given.
        weights: w, one for each of those, not negative; ones unless given.
        batch_size: inputs at a time; all unless given.

    Raises:
        ValueError: naming the argument that is wrong.

    >>> layers = [(np.eye(2), np.ones(2)), (np.eye(2), np.zeros(2))]
    >>> relu_certificate(layers, np.eye(2), direction=layers).first_kink
    inf
    """
    theta = _arrays("layers", layers)
    try:
        x = np.asarray(inputs, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError("inputs must be an array [inputs, features], numbers and not traced") from error
    if x.ndim != 2 or not len(x) or x.shape[1] != theta[0][0].shape[0] or not np.isfinite(x).all():
        raise ValueError(f"inputs must be finite, [inputs >= 1, {theta[0][0].shape[0]}]; got shape {x.shape}")
    if batch_size is not None:
        batch_size = require_count("batch_size", batch_size)
    chosen = selection(logits, theta[-1][1].size)
    w = np.ones(chosen.size) if weights is None else np.asarray(weights, np.float64)
    if w.shape != chosen.shape or not np.isfinite(w).all() or (w < 0).any():
        raise ValueError(f"weights must be {chosen.size} finite numbers, none negative; got {weights}")
    if (teacher_loss is None) == (direction is None):
        raise ValueError("give either teacher_loss or direction, and not both")
    if teacher_loss is not None:
        direction = _gradient(teacher_loss, theta)
    d_teacher = _arrays("direction" if teacher_loss is None else "the gradient of teacher_loss", direction)
    if [(k.shape, b.shape) for k, b in d_teacher] != [(k.shape, b.shape) for k, b in theta]:
        raise ValueError("direction must have the shapes of layers")

    total = np.zeros(len(theta) + 1)
    kink: Kink = (math.inf, None)
    for first in range(0, len(x), batch_size or len(x)):
        outputs, kink = _output_polynomials(theta, d_teacher, x[first : first + (batch_size or len(x))], first, kink)
        outputs = outputs[..., chosen]
        total[1:] += 2 * np.einsum("bj,kbj->k", w * outputs[1], outputs[1:])
    return _certificate(total / len(x), *kink)


def _arrays(name: str, layers: Any) -> Arrays:
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


def _gradient(teacher_loss: TeacherLoss, theta: Arrays) -> Params:
    with in_float64():
        params = [(jnp.asarray(kernel), jnp.asarray(bias)) for kernel, bias in theta]
        shape = jnp.shape(jax.eval_shape(teacher_loss, params))
        if shape != ():
            raise ValueError(f"teacher_loss must return a scalar, got shape {shape}; take the mean inside it")
        loss = own(teacher_loss)
        return compiled(lambda theta: teacher_update(loss, theta))(params)


def _output_polynomials(
    theta: Arrays, d_teacher: Arrays, x: np.ndarray, first_input: int, kink: Kink
) -> tuple[np.ndarray, Kink]:
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
    from scipy import optimize  # on use: it takes as long to import as a small instance to verify

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
