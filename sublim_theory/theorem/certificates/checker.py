"""A second proof of what a certificate claims, from its plain data, that shares no code with the first.

Where the first has Taylor forms in float64, this has plain balls of python-flint, and of phi nothing but its values at
numbers and its slope on pieces of the intervals: on [a, b], with slopes in [p, q],

    phi(eps) >= max(phi(a) + p (eps - a), phi(b) - q (b - eps)),

whose least value is elementary. Next to 0, where phi(0) = 0, a positive slope is the proof. (A ReLU is Lipschitz, and
its slopes are those almost everywhere.)
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sublim_theory.protocols import SublimError
from sublim_theory.theorem.certificates.precision import flint, flint_at

BITS, POINT_BITS = 64, 200
"""Precision of the proof, and of the random points."""

SMALLEST = 1e-12
"""Pieces are not divided below this share of the end of the interval."""

Matrix = list[list[float]]
Layers = list[Any]
"""`[[W, b], ...]`, W [in][out] and b [out], of plain lists."""


class CheckError(SublimError, ArithmeticError):
    """A certificate claims what is false, or is not put together as a certificate is."""


@dataclass(frozen=True)
class Claim:
    """What a certificate speaks of, in plain lists and numbers.

    Attributes:
        weights: the student's, theta: `[[W [in][out], b [out]], ...]`.
        direction: d_T, alike.
        labels: `[weights, direction]` of the network that labels; None where they are the two above.
        activation: `relu`, `tanh`, `gelu`, `sigmoid` or `identity`.
        imitation_loss: `kl`, `cross_entropy` or `squared_error`.
        logits: indices of the outputs that are imitated.
        output_weights: of the squared error, one for each of these.
        inputs: [inputs][features].
    """

    weights: Layers
    direction: Layers
    labels: list[Layers] | None
    activation: str
    imitation_loss: str
    logits: list[int]
    output_weights: list[float]
    inputs: Matrix


@dataclass(frozen=True)
class Verdict:
    """What the second proof found.

    Attributes:
        proved: for each interval, whether phi > 0 is proved on it again.
        refuted: whether phi < 0 is proved at the refuted point; None where there is none.
        orthogonal: whether phi = 0 is proved for every eps, where that is claimed; None where it is not.
        points: random points at which phi > 0 is proved with 200 bits.
        undecided: random points at which its sign is not.
        contradictions: what is proved false, in words.
        evaluations: of slopes.
    """

    proved: tuple[bool, ...]
    refuted: bool | None
    orthogonal: bool | None
    points: int
    undecided: int
    contradictions: tuple[str, ...]
    evaluations: int

    @property
    def holds(self) -> bool:
        """Whether everything that is claimed is proved again."""
        return (
            all(self.proved)
            and self.refuted is not False
            and self.orthogonal is not False
            and not self.undecided
            and not self.contradictions
        )

    def require_no_contradiction(self) -> None:
        """Raise a `CheckError` with all contradictions, if there is one."""
        if self.contradictions:
            raise CheckError("the certificate is wrong: " + "; ".join(self.contradictions))

    def __str__(self) -> str:
        """In words."""
        parts = [f"{sum(self.proved)} of {len(self.proved)} intervals are proved again"]
        if self.refuted is not None:
            parts.append("the refuted point is " + ("proved again" if self.refuted else "not decided"))
        if self.orthogonal is not None:
            parts.append("the orthogonal branch is " + ("proved again" if self.orthogonal else "not decided"))
        if self.points or self.undecided:
            parts.append(f"{self.points} of {self.points + self.undecided} random points are positive with 200 bits")
        return "; ".join([*parts, *(f"WRONG: {each}" for each in self.contradictions)])


def check(
    claim: Claim,
    intervals: Sequence[tuple[float, float]],
    refuted: float | None,
    orthogonal: bool = False,
    *,
    certified: float | None = None,
    points: int = 1000,
    seed: int = 0,
    evaluations: int = 100_000,
) -> Verdict:
    """Prove the intervals and the refuted point again, and try random points.

    Args:
        claim: the network and its data.
        intervals: `phi > 0` on `low < eps <= high`, each from the end of the one before, the first from 0.
        refuted: `phi < 0` there, or None.
        orthogonal: whether phi = 0 is claimed for every eps.
        certified: the end that is claimed, if it is to be compared with that of the intervals.
        points: random ones in (0, end], a third uniform, a third logarithmic, a third close to the end.
        seed: of these.
        evaluations: most slopes in all; what is then not proved is undecided.
    """
    found = prove_again(
        lambda: _Phi(claim),
        intervals,
        refuted,
        ("phi({!r}) < 0 is proved", "phi({!r}) > 0 is proved"),
        bits=BITS,
        certified=certified,
        points=points,
        seed=seed,
        evaluations=evaluations,
    )
    if not orthogonal:
        return found
    with flint_at(BITS):
        return replace(found, orthogonal=_Phi(claim).is_zero())


def prove_again(
    function: "Callable[[], _Phi]",
    intervals: Sequence[tuple[float, float]],
    refuted: float | None,
    words: tuple[str, str],
    *,
    bits: int,
    certified: float | None,
    points: int,
    seed: int,
    evaluations: int,
) -> Verdict:
    """Prove that a function is positive on the intervals and negative at the refuted point, and try random points.

    Args:
        function: makes it, at the precision that is set.
        intervals: as of `check`; this and the further ones up to `evaluations`.
        refuted: as there.
        words: what is wrong where it is proved negative at a point, and where it is proved positive at the refuted one.
        bits: precision of the proof.
        certified: as there.
        points: as there.
        seed: as there.
        evaluations: as there.
    """
    negative, positive = words
    wrong = _misfits(intervals, certified)
    with flint_at(bits):
        proof = _Proof(function(), evaluations)
        proved = tuple(proof.interval(low, high) for low, high in intervals)
        wrong += [negative.format(point) for point in proof.negative[:3]]
    above = undecided = 0
    below = None
    with flint_at(POINT_BITS):
        exact = function()
        for point in _points(intervals[-1][1], points, seed) if intervals else []:
            value = exact.value(point)
            above += bool(value > 0)
            undecided += not (value > 0 or value < 0)
            if value < 0:
                wrong.append(negative.format(point))
        if refuted is not None:
            value = exact.value(refuted)
            below = bool(value < 0)
            if value > 0:
                wrong.append(positive.format(refuted))
    return Verdict(proved, below, None, above, undecided, tuple(wrong), proof.used)


def _misfits(intervals: Sequence[tuple[float, float]], certified: float | None) -> list[str]:
    wrong, end = [], 0.0
    for low, high in intervals:
        if low != end or not low < high < math.inf:
            wrong.append(f"({low!r}, {high!r}] does not go on from {end!r}")
        end = high
    if certified is not None and certified != end:
        wrong.append(f"the intervals end at {end!r} and not at {certified!r}")
    return wrong


def _points(end: float, count: int, seed: int) -> list[float]:
    draw = random.Random(seed)
    shares = [draw.random() for _ in range(count)]
    ways = (lambda u: u, lambda u: 10 ** (-7 * u), lambda u: 1 - 10 ** (-7 * u))
    return [end * max(ways[i % 3](u), 1e-12) for i, u in enumerate(shares)]


# Activations: the value at a thin ball; the value and the slope on any ball, from the ends where they are monotone.


def _relu(x: Any) -> tuple[Any, Any]:
    if x > 0:
        return x, flint.arb(1)
    if x <= 0:
        return flint.arb(0), flint.arb(0)
    return flint.arb(0).union(x.upper()), flint.arb(0).union(flint.arb(1))


def _tanh(x: Any) -> tuple[Any, Any]:
    low, high = x.lower().tanh(), x.upper().tanh()
    slope = (1 - low * low).union(1 - high * high)
    return low.union(high), slope.union(flint.arb(1)) if x.contains(0) else slope


def _sigmoid(x: Any) -> tuple[Any, Any]:
    low, high = (1 / (1 + (-end).exp()) for end in (x.lower(), x.upper()))
    slope = (low * (1 - low)).union(high * (1 - high))
    return low.union(high), slope.union(flint.arb(0.25)) if x.contains(0) else slope


def _gelu(x: Any) -> tuple[Any, Any]:
    """By the mean value theorem, from the midpoint, with the second derivative `phi(x) (2 - x**2)`."""
    middle = x.mid()
    step, least, most = x - middle, x.abs_lower() ** 2, x.abs_upper() ** 2
    # sqrt(2 pi) times the density phi, at the midpoint and on the ball
    at, on = (-middle * middle / 2).exp(), (-least / 2).exp().union((-most / 2).exp())
    root = (2 * flint.arb.pi()).sqrt()
    distribution = (1 + (middle * flint.arb(0.5).sqrt()).erf()) / 2
    slope = distribution + (middle * at + on * (2 - least.union(most)) * step) / root
    return middle * distribution + slope * step, slope


def _identity(x: Any) -> tuple[Any, Any]:
    return x, flint.arb(1)


_VALUES: dict[str, Callable[[Any], Any]] = {
    "relu": lambda x: x.max(flint.arb(0)),
    "tanh": lambda x: x.tanh(),
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "gelu": lambda x: x * (1 + (x * flint.arb(0.5).sqrt()).erf()) / 2,
    "identity": lambda x: x,
}
_SLOPES = {"relu": _relu, "tanh": _tanh, "sigmoid": _sigmoid, "gelu": _gelu, "identity": _identity}


class _Network:
    """Weights along a line, with the biases as a further column, and inputs with a further 1."""

    def __init__(self, weights: Layers, direction: Layers, activation: str, inputs: Matrix) -> None:
        self.weights, self.direction = ([_augmented(*layer) for layer in each] for each in (weights, direction))
        self.value, self.slope = _VALUES[activation], _SLOPES[activation]
        self.inputs = flint.arb_mat([list(row) for row in zip(*inputs, strict=True)] + [[1.0] * len(inputs)])
        self.ones = [flint.arb(1)] * len(inputs)
        self.zeros = [flint.arb(0)] * len(inputs)

    def values(self, epsilon: Any) -> Any:
        """Outputs [outputs x inputs] at a number."""
        return self._layers(epsilon)[-1]

    def _layers(self, epsilon: Any) -> list[Any]:
        """What goes into the activations of every layer, and the outputs, at a number."""
        h, found = self.inputs, []
        for w, d in zip(self.weights, self.direction, strict=True):
            found.append((w + d * epsilon) * h)
            if len(found) < len(self.weights):
                h = flint.arb_mat([[self.value(x) for x in row] for row in found[-1].tolist()] + [self.ones])
        return found

    def values_and_slopes(self, epsilon: Any, kinks_off: bool = False) -> tuple[Any, Any]:
        """Outputs and their derivatives in eps on a ball of eps.

        Every layer's values are enclosed twice, by the layer before and by the mean value theorem from the midpoint,
        and the narrower balls go on.

        Args:
            epsilon: the ball.
            kinks_off: whether the slope of a ReLU at exactly 0 is 0.
        """
        middle = epsilon.mid()
        step = epsilon - middle
        centres = None if epsilon.is_exact() else self._layers(middle)
        h, moved = self.inputs, None
        for i, (w, d) in enumerate(zip(self.weights, self.direction, strict=True)):
            here = w + d * epsilon
            z, slope = here * h, d * h if moved is None else here * moved + d * h
            if centres is not None:
                both = zip(z.entries(), (centres[i] + slope * step).entries(), strict=True)
                z = flint.arb_mat(z.nrows(), z.ncols(), [b if b.rad() < a.rad() else a for a, b in both])
            if i + 1 < len(self.weights):
                pairs = [[self.slope(x) for x in row] for row in z.tolist()]
                if kinks_off and self.slope is _relu:
                    pairs = [
                        [(a, flint.arb(0)) if x.is_zero() else (a, b) for x, (a, b) in zip(row, two, strict=True)]
                        for row, two in zip(z.tolist(), pairs, strict=True)
                    ]
                h = flint.arb_mat([[a for a, _ in row] for row in pairs] + [self.ones])
                rates = flint.arb_mat([[b for _, b in row] for row in pairs])
                products = [a * b for a, b in zip(rates.entries(), slope.entries(), strict=True)]
                moved = flint.arb_mat(rates.nrows() + 1, rates.ncols(), [*products, *self.zeros])
        return z, slope


def _augmented(w: Matrix, b: list[float]) -> Any:
    """[out x (in + 1)]."""
    return flint.arb_mat([[*column, bias] for column, bias in zip(zip(*w, strict=True), b, strict=True)])


class _Phi:
    """phi and its slope."""

    def __init__(self, claim: Claim) -> None:
        student = _Network(claim.weights, claim.direction, claim.activation, claim.inputs)
        weights, direction = claim.labels or (claim.weights, claim.direction)
        self.labels = _Network(weights, direction, claim.activation, claim.inputs) if claim.labels else student
        self.vanishes = weights == claim.weights
        self.softmax = claim.imitation_loss != "squared_error"
        self.factors = [2 * flint.arb(w) for w in claim.output_weights]
        self.logits = claim.logits
        z, v = (self._rows(each) for each in student.values_and_slopes(flint.arb(0), kinks_off=True))
        self.targets, self.v = [self._link(row) for row in z], v

    def _rows(self, outputs: Any) -> list[list[Any]]:
        """Of a matrix [outputs x inputs] the imitated ones, input by input."""
        rows = outputs.tolist()
        return [list(each) for each in zip(*(rows[j] for j in self.logits), strict=True)]

    def _link(self, y: list[Any]) -> list[Any]:
        if not self.softmax:
            return [f * each for f, each in zip(self.factors, y, strict=True)]
        return [
            1 / sum(((other - each).exp() for k, other in enumerate(y) if k != j), flint.arb(1))
            for j, each in enumerate(y)
        ]

    def is_zero(self) -> bool:
        if self.softmax and len(self.logits) == 1:
            return True
        counts = [self.softmax or not f.is_zero() for f in self.factors]
        return all(each.is_zero() for row in self.v for each, count in zip(row, counts, strict=True) if count)

    def value(self, epsilon: float) -> Any:
        """At a number."""
        total = flint.arb(0)
        for y, z, v in zip(self._rows(self.labels.values(flint.arb(epsilon))), self.targets, self.v, strict=True):
            total += sum(((a - b) * c for a, b, c in zip(self._link(y), z, v, strict=True)), flint.arb(0))
        return total / len(self.v)

    def slope(self, epsilon: Any) -> Any:
        """On a ball."""
        y, slopes = self.labels.values_and_slopes(epsilon)
        total = flint.arb(0)
        for row, moved, v in zip(self._rows(y), self._rows(slopes), self.v, strict=True):
            if self.softmax:
                s = _softmax(row)
                for j, each in enumerate(s):
                    others = (p * (moved[j] - m) for k, (p, m) in enumerate(zip(s, moved, strict=True)) if k != j)
                    total += each * sum(others, flint.arb(0)) * v[j]
            else:
                total += sum((f * m * c for f, m, c in zip(self.factors, moved, v, strict=True)), flint.arb(0))
        return total / len(self.v)


def _softmax(y: list[Any]) -> list[Any]:
    """Of balls, by the ends of each difference: a wide ball of an exponential may contain 0."""
    found = []
    for j, each in enumerate(y):
        differences = [other - each for k, other in enumerate(y) if k != j]
        most, least = (
            1 / sum((end.exp() for end in ends), flint.arb(1))
            for ends in ([d.lower() for d in differences], [d.upper() for d in differences])
        )
        found.append(least.union(most))
    return found


class _Proof:
    """Intervals, piece by piece from the left; the length of a piece that worked is where the next begins."""

    def __init__(self, phi: _Phi, evaluations: int) -> None:
        self.phi, self.most, self.used = phi, evaluations, 0
        self.length = math.inf
        self.negative: list[float] = []
        self._at: tuple[float, Any] = (math.nan, None)

    def interval(self, low: float, high: float) -> bool:
        """Whether `phi > 0` is proved on `low < eps <= high`; phi at 0 is 0 where labels and student are one."""
        if not 0 <= low < high < math.inf:
            return False
        while low < high:
            length = min(self.length, high - low)
            end = high if length >= high - low else low + length
            if self.used >= self.most or not low + SMALLEST * high < end:
                return False
            if self._piece(low, end):
                low, self.length = end, 1.6 * (end - low)
            elif self.negative:
                return False
            else:
                self.length = (end - low) / 2
        return True

    def _value(self, epsilon: float) -> Any:
        if self._at[0] != epsilon:
            self._at = (epsilon, self.phi.value(epsilon))
        return self._at[1]

    def _piece(self, low: float, high: float) -> bool:
        self.used += 1
        zero = low == 0 and self.phi.vanishes
        first = flint.arb(0) if zero else self._value(low)
        a, b = flint.arb(low), flint.arb(high)
        slope = self.phi.slope(a.union(b))
        p, q = slope.lower(), slope.upper()
        if p > 0:
            return bool(first >= 0)
        last = self._value(high)
        if last < 0:
            self.negative.append(high)
        if not (last > 0 and first > 0):
            return False
        if q <= 0:
            return True
        # Where both lines meet: none of p, q is 0 here, for p <= 0 < q and p = 0 has the first as the least.
        return bool(p >= 0) or bool((q * first - p * last + p * q * (b - a)) / (q - p) > 0)
