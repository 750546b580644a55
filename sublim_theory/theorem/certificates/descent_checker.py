"""A second proof of what the certificates of descent claim, from their plain data, as `checker` has it for alignment.

Of a box it proves again that the rectangles cover it, and whole lines of it; the strips between these it does not.
"""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from sublim_theory.theorem.certificates.checker import (
    _SLOPES,
    POINT_BITS,
    Claim,
    Matrix,
    Verdict,
    _augmented,
    _Network,
    _Phi,
    _softmax,
    prove_again,
)
from sublim_theory.theorem.certificates.precision import flint, flint_at

LINE_BITS = 96
"""Precision of the proof along a line, whose direction is a difference of nearly equal numbers where eps is small."""


@dataclass(frozen=True)
class DescentClaim:
    """What a certificate of descent speaks of, in plain lists and numbers.

    Attributes:
        imitation: the network, d_T and what the student imitates.
        trait_inputs: [examples][features].
        trait_labels: of these, places in `classes`.
        classes: indices of the outputs whose cross-entropy L_T is.
    """

    imitation: Claim
    trait_inputs: Matrix
    trait_labels: list[int]
    classes: list[int]

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "DescentClaim":
        """What `dataclasses.asdict` made of one."""
        return cls(**data | {"imitation": Claim(**data["imitation"])})


def check_line(
    claim: DescentClaim,
    epsilon: float,
    intervals: Sequence[tuple[float, float]],
    refuted: float | None,
    *,
    certified: float | None = None,
    points: int = 1000,
    seed: int = 0,
    evaluations: int = 100_000,
) -> Verdict:
    """Prove descent at one eps on every interval of alpha again, and at random alpha with 200 bits.

    Args:
        claim: the network and its data.
        epsilon: size of the teacher's step.
        intervals: descent on `low < alpha <= high`, each from the end of the one before, the first from 0.
        refuted: L_T rises there, or None.
        certified: the end that is claimed, if it is to be compared with that of the intervals.
        points: random ones in (0, end].
        seed: of these.
        evaluations: most slopes in all; what is then not proved is undecided.
    """
    return prove_again(
        lambda: _Drop(claim, epsilon),
        intervals,
        refuted,
        ("L_T rises at alpha = {!r}", "L_T falls at alpha = {!r}"),
        bits=LINE_BITS,
        certified=certified,
        points=points,
        seed=seed,
        evaluations=evaluations,
    )


def check_box(
    claim: DescentClaim,
    epsilon: float,
    certified: float,
    rectangles: Sequence[tuple[float, float, float, float]],
    refuted: tuple[float, float] | None,
    *,
    points: int = 1000,
    lines: int = 8,
    seed: int = 0,
    evaluations: int = 100_000,
) -> Verdict:
    """Check that the rectangles cover the box, and prove descent again on lines of it and at points.

    Args:
        claim: the network and its data.
        epsilon: the box is (0, certified] x (0, epsilon].
        certified: the largest alpha.
        rectangles: each claims descent on `low < alpha eps <= high` and `epsilon_low <= eps <= epsilon_high`.
        refuted: (alpha, eps) where L_T rises, or None.
        points: random ones of the box.
        lines: values of eps at which all of (0, certified] is proved, the largest and random ones.
        seed: of these.
        evaluations: most slopes in all; what is then not proved is undecided.

    Returns:
        A verdict whose `proved` says for each line whether it is.
    """
    wrong = (
        [] if certified == 0 or _covered(certified, epsilon, rectangles) else ["the rectangles do not cover the box"]
    )
    draw = random.Random(seed)
    sizes = [epsilon * share for share in [1.0, *(max(draw.random(), 1e-9) for _ in range(lines - 1))][:lines]]
    if certified == 0:
        sizes = []
    proved: list[bool] = []
    positive = undecided = used = 0
    for i, size in enumerate(sizes):
        count = points // len(sizes) + (i < points % len(sizes))
        found = check_line(
            claim, size, [(0.0, certified)], None, points=count, seed=seed + i, evaluations=evaluations - used
        )
        proved += found.proved
        positive, undecided, used = positive + found.points, undecided + found.undecided, used + found.evaluations
        wrong += [f"at eps = {size!r} {each}" for each in found.contradictions]
    rises = None
    if refuted is not None:
        with flint_at(POINT_BITS):
            value = _Drop(claim, refuted[1]).value(refuted[0])
        rises = bool(value < 0)
        if value > 0:
            wrong.append(f"L_T falls at (alpha, eps) = {tuple(refuted)!r}")
    return Verdict(tuple(proved), rises, None, positive, undecided, tuple(wrong), used)


def _covered(alpha: float, epsilon: float, rectangles: Sequence[tuple[float, float, float, float]]) -> bool:
    """Whether `0 < beta <= alpha eps`, `0 < eps <= epsilon` is covered, in exact arithmetic."""
    edges = sorted({0.0, epsilon, *(edge for each in rectangles for edge in each[2:] if 0 < edge < epsilon)})
    for low, high in itertools.pairwise(edges):
        reached = 0.0
        for start, end, epsilon_low, epsilon_high in sorted(rectangles):
            if epsilon_low <= low and high <= epsilon_high and start <= reached:
                reached = max(reached, end)
        if Fraction(reached) < Fraction(alpha) * Fraction(high):
            return False
    return True


class _Drop(_Phi):
    """`L_T(theta) - L_T(theta + alpha d_S(eps))` at one eps as a function of alpha, in the place of phi in a proof."""

    def __init__(self, claim: DescentClaim, epsilon: float) -> None:
        imitation = claim.imitation
        self.network = _Network(imitation.weights, imitation.direction, imitation.activation, claim.trait_inputs)
        self.network.direction = _direction(imitation, epsilon)
        self.examples, self.logits, self.vanishes = claim.trait_labels, claim.classes, True
        self.before = self._loss(self.network.values(flint.arb(0)))

    def _loss(self, outputs: Any) -> Any:
        total = flint.arb(0)
        for y, label in zip(self._rows(outputs), self.examples, strict=True):
            largest = max((each.mid() for each in y), key=float)
            total += sum(((each - largest).exp() for each in y), flint.arb(0)).log() + largest - y[label]
        return total / len(self.examples)

    def value(self, alpha: float) -> Any:
        """At a number."""
        return self.before - self._loss(self.network.values(flint.arb(alpha)))

    def slope(self, alpha: Any) -> Any:
        """On a ball: `mean sum_k p_k (y_label' - y_k')`, with p the softmax of the classes."""
        total = flint.arb(0)
        y, slopes = self.network.values_and_slopes(alpha)
        for row, moved, label in zip(self._rows(y), self._rows(slopes), self.examples, strict=True):
            for chance, each in zip(_softmax(row), moved, strict=True):
                total += chance * (moved[label] - each)
        return total / len(self.examples)


def _direction(claim: Claim, epsilon: float) -> list[Any]:
    """d_S(eps) by backpropagation, for each layer [out x (in + 1)], the biases last."""
    student = [_augmented(*layer) for layer in claim.weights]
    network = _Network(claim.weights, claim.direction, claim.activation, claim.inputs)
    derivative, count = _SLOPES[claim.activation], len(claim.inputs)
    hidden, slopes = [network.inputs], []
    for w in student[:-1]:
        pairs = [[derivative(x) for x in row] for row in (w * hidden[-1]).tolist()]
        hidden.append(flint.arb_mat([[x for x, _ in row] for row in pairs] + [network.ones]))
        slopes.append([[slope for _, slope in row] for row in pairs])
    here, there = (student[-1] * hidden[-1]).tolist(), network.values(flint.arb(epsilon)).tolist()
    columns = [
        [a - b for a, b in zip(_link(claim, labels), _link(claim, outputs), strict=True)]
        for labels, outputs in (
            ([there[j][i] for j in claim.logits], [here[j][i] for j in claim.logits]) for i in range(count)
        )
    ]
    nothing = [flint.arb(0)] * count
    rows = {j: [column[place] / count for column in columns] for place, j in enumerate(claim.logits)}
    back = flint.arb_mat([rows.get(j, nothing) for j in range(len(here))])
    found = []
    for layer in reversed(range(len(student))):
        found.append(back * hidden[layer].transpose())
        if layer:
            through = (student[layer].transpose() * back).tolist()[:-1]
            back = flint.arb_mat(
                [[a * b for a, b in zip(x, y, strict=True)] for x, y in zip(through, slopes[layer - 1], strict=True)]
            )
    return found[::-1]


def _link(claim: Claim, y: list[Any]) -> list[Any]:
    if claim.imitation_loss == "squared_error":
        return [2 * flint.arb(w) * each for w, each in zip(claim.output_weights, y, strict=True)]
    return _softmax(y)
