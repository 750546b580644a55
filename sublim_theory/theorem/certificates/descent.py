"""Certificates of the second half of Theorem 1: the student's step lowers the trait loss, for every size of the step.

`certify_descent` proves `L_T(theta + alpha d_S(eps)) < L_T(theta)` for every alpha in (0, alpha*] at one eps;
`certify_box` proves it for every alpha in (0, alpha*] and every eps in (0, eps*] at once. L_T is the mean softmax
cross-entropy of the trait's examples.

**One eps.** d_S(eps) is enclosed by backpropagation in balls; then L_T is a function of alpha alone, and it is marched
along as the alignment is along eps.

**The box.** With beta = alpha eps the step is beta D(eps), where `D(eps) = d_S(eps) / eps` has a limit at 0. On a strip
of eps, `D(eps) = D_0 + u D_1` for some u in [-1, 1], up to radii, and every number in the network along it is
`p(beta) + beta (u m + e)`, `|e| <= r`, with a Taylor form p and numbers m, r. This u is the *same* in all of them, so
that the mean over the examples may cancel. Each strip is marched along beta. The one that is behind in
`alpha = beta / eps` comes next, and where it is held up it is halved; both halves go on from where it was. The search
ends where a failure is proved at a point that is at most the tolerance above the lowest strip.
"""

import heapq
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from sublim_theory.losses import require_labels
from sublim_theory.protocols import concrete, require_count, require_positive
from sublim_theory.theorem.certificates import balls, checker, descent_checker
from sublim_theory.theorem.certificates.alignment import LOSSES, Imitation, imitation
from sublim_theory.theorem.certificates.balls import UNIT, Balls
from sublim_theory.theorem.certificates.forms import (
    ORDER,
    Domain,
    Form,
    Interval,
    Line,
    above_product,
    derivatives,
    jet,
    march,
    negative_above,
)
from sublim_theory.theorem.certificates.layers import Arrays, inputs_of, like, ratio
from sublim_theory.theorem.instance import Logits, selection

PIECES = 64
"""Of an interval of beta, on which a form is evaluated one by one."""

NARROWEST = 2.0**-40
"""Strips are not halved below this width, relative to eps."""

Step = list[tuple[Balls, Balls]]
"""A direction in the space of weights, (W [in, out], b [out]) a layer."""


class Rectangle(NamedTuple):
    """`low < alpha eps <= high` and `epsilon_low <= eps <= epsilon_high` (0 < eps), proved by one evaluation."""

    low: float
    high: float
    epsilon_low: float
    epsilon_high: float


_SCOPE = (
    ". This is about exact real arithmetic with these weights, inputs, labels and this d_T, all float64, and not about "
    "a run that rounds"
)
_WHY = {
    "until": "that is as far as was asked, and beyond it nothing is proved",
    "steps": "there it stopped after the most steps allowed, and beyond it nothing is proved",
    "undecided": "there it stopped, as nothing further could be proved",
}


@dataclass(frozen=True)
class DescentCertificate:
    """What is proved about the student's step at one size of the teacher's.

    Attributes:
        epsilon: eps, the size of the teacher's step.
        certified: `L_T(theta + alpha d_S(eps)) < L_T(theta)` for every alpha in (0, certified]; 0.0 where for none.
        refuted: an alpha above it for which the trait loss is proved to rise; None where none was found.
        intervals: of which the proof consists, ascending; each claims descent on `low < alpha <= high`.
        until: where the proof would have stopped.
        stopped: why it ended: `until`, `undecided` (no further interval could be proved) or `steps`.
        evaluations: of the trait loss on an interval, tried in all.
        claim: everything that the claim speaks of, in plain lists.
    """

    epsilon: float
    certified: float
    refuted: float | None
    intervals: tuple[Interval, ...]
    until: float
    stopped: str
    evaluations: int
    claim: descent_checker.DescentClaim = field(repr=False)

    def check(self, points: int = 1000, seed: int = 0) -> checker.Verdict:
        """Prove it again, by other code and another arithmetic, and try random alpha with 200 bits.

        Raises:
            CheckError: where something contradicts the certificate. What the checker cannot decide is in the verdict.
        """
        verdict = descent_checker.check_line(
            self.claim,
            self.epsilon,
            self.intervals,
            self.refuted,
            certified=self.certified,
            points=points,
            seed=seed,
        )
        verdict.require_no_contradiction()
        return verdict

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, without loss: `json.dumps` writes it, `from_dict` reads it."""
        return asdict(self) | {"intervals": [list(each) for each in self.intervals]}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "DescentCertificate":
        """The certificate that was written; nothing of it is proved again until `check`."""
        data = json.loads(json.dumps(data))
        intervals = tuple(Interval(*each) for each in data["intervals"])
        return cls(**data | {"intervals": intervals, "claim": descent_checker.DescentClaim.from_dict(data["claim"])})

    def __str__(self) -> str:
        """What is proved, and what is not."""
        if self.certified:
            found = (
                f"the student's step lowers L_T at eps = {self.epsilon:.17g} for every alpha in "
                f"(0, {self.certified:.17g}], proved on {len(self.intervals)} "
                f"interval{'s' * (len(self.intervals) != 1)}; "
            )
        else:
            found = f"no alpha is proved to lower L_T at eps = {self.epsilon:.17g}; "
        if self.refuted is None:
            return found + _WHY[self.stopped] + _SCOPE
        return found + f"L_T is proved to be above that at alpha = {self.refuted:.17g}" + _SCOPE


@dataclass(frozen=True)
class BoxCertificate:
    """What is proved about the student's step on a box of step sizes.

    Attributes:
        epsilon: the box reaches from 0 to this eps.
        certified: `L_T(theta + alpha d_S(eps)) < L_T(theta)` for every alpha in (0, certified] and every eps in
            (0, epsilon]; 0.0 where for none.
        refuted: an (alpha, eps) for which the trait loss is proved to rise, the smallest alpha found; None if none was.
        rectangles: of which the proof consists, in the order in which they were proved.
        until: the alpha where the proof would have stopped.
        stopped: why it ended: `tolerance` (a point of failure encloses it), `until`, `undecided` or `steps`.
        evaluations: of the trait loss on a rectangle, tried in all.
        claim: everything that the claim speaks of, in plain lists.
    """

    epsilon: float
    certified: float
    refuted: tuple[float, float] | None
    rectangles: tuple[Rectangle, ...]
    until: float
    stopped: str
    evaluations: int
    claim: descent_checker.DescentClaim = field(repr=False)

    def check(self, points: int = 1000, lines: int = 8, seed: int = 0) -> checker.Verdict:
        """Check that the rectangles cover the box, prove lines of it again, and try random points with 200 bits.

        Other code and another arithmetic prove all of (0, certified] at `lines` eps, the largest and random ones; what
        lies between these lines they do not prove again.

        Raises:
            CheckError: where something contradicts the certificate. What the checker cannot decide is in the verdict.
        """
        verdict = descent_checker.check_box(
            self.claim,
            self.epsilon,
            self.certified,
            self.rectangles,
            self.refuted,
            points=points,
            lines=lines,
            seed=seed,
        )
        verdict.require_no_contradiction()
        return verdict

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, without loss: `json.dumps` writes it, `from_dict` reads it."""
        return asdict(self) | {"rectangles": [list(each) for each in self.rectangles]}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "BoxCertificate":
        """The certificate that was written; nothing of it is proved again until `check`."""
        data = json.loads(json.dumps(data))
        rectangles = tuple(Rectangle(*each) for each in data["rectangles"])
        refuted = None if data["refuted"] is None else tuple(data["refuted"])
        claim = descent_checker.DescentClaim.from_dict(data["claim"])
        return cls(**data | {"rectangles": rectangles, "refuted": refuted, "claim": claim})

    def __str__(self) -> str:
        """What is proved, and what is not."""
        if self.certified:
            found = (
                f"the student's step lowers L_T for every alpha in (0, {self.certified:.17g}] and every eps in "
                f"(0, {self.epsilon:.17g}], proved on {len(self.rectangles)} "
                f"rectangle{'s' * (len(self.rectangles) != 1)}; "
            )
        else:
            found = f"no box up to eps = {self.epsilon:.17g} is proved; "
        if self.refuted is None:
            return found + _WHY[self.stopped] + _SCOPE
        alpha, epsilon = self.refuted
        return found + f"L_T is proved to be above that at alpha = {alpha:.17g}, eps = {epsilon:.17g}" + _SCOPE


def certify_descent(
    weights: Any,
    activation: Any,
    direction: Any,
    inputs: Any,
    trait_inputs: Any,
    trait_labels: Any,
    *,
    epsilon: float,
    imitation_loss: str = "kl",
    logits: Logits = None,
    output_weights: Sequence[float] | None = None,
    classes: Logits = None,
    until: float = 1000.0,
    tolerance: float = 1e-5,
    order: int = ORDER,
) -> DescentCertificate:
    """Prove `L_T(theta + alpha d_S(eps)) < L_T(theta)` for every alpha from 0 up to the largest that can be had.

    Args:
        weights: theta, as of `certify`: a list of (W [in, out], b [out] or None), or a multilayer perceptron.
        activation: as of `certify`.
        direction: d_T, of the same form as `weights`; None takes `-grad L_T` in float64.
        inputs: the student's, [inputs, features].
        trait_inputs: of the trait's examples, [examples, features].
        trait_labels: of these, [examples] whole numbers, as places in `classes`.
        epsilon: size of the teacher's step.
        imitation_loss: `kl`, `cross_entropy` or `squared_error`.
        logits: the outputs that the student imitates, a slice, indices or a mask; all unless given.
        output_weights: of the squared error, one for each of those, not negative; ones unless given.
        classes: the outputs whose softmax cross-entropy L_T is; all unless given.
        until: the alpha at which to stop.
        tolerance: of the end, relative.
        order: of the Taylor forms.

    Returns:
        A `DescentCertificate`; the derivative of a ReLU at exactly 0 is 0 in it, as in `jax.nn.relu`.

    Raises:
        ValueError: naming the argument that is wrong, before any work.

    >>> weights = [(np.eye(2), np.zeros(2))]
    >>> found = certify_descent(weights, "tanh", None, np.eye(2), np.eye(2), [0, 1], epsilon=1.0, until=2.0)
    >>> found.certified, found.refuted
    (2.0, None)
    """
    epsilon, until = require_positive("epsilon", epsilon), require_positive("until", until)
    tolerance, order = require_positive("tolerance", tolerance), require_count("order", order)
    with balls.quiet():
        student, trait, claim = _problem(
            weights,
            activation,
            direction,
            inputs,
            trait_inputs,
            trait_labels,
            imitation_loss,
            logits,
            output_weights,
            classes,
        )
        step = [(w.scale(epsilon), b.scale(epsilon)) for w, b in student.at(epsilon)]
        drop = trait.along(step)
        first = min(until, 0.05 * _length(trait.weights, step))
        found = march(drop, until, vanishes=True, first=first, tolerance=tolerance, order=order)
        refuted = None
        if found.reached < until:
            refuted = negative_above(drop, found.reached, until, first * 1e-9, tolerance)
    return DescentCertificate(
        epsilon, found.reached, refuted, found.intervals, until, found.stopped, found.evaluations, claim
    )


def certify_box(
    weights: Any,
    activation: Any,
    direction: Any,
    inputs: Any,
    trait_inputs: Any,
    trait_labels: Any,
    *,
    until_epsilon: float = 1.0,
    imitation_loss: str = "kl",
    logits: Logits = None,
    output_weights: Sequence[float] | None = None,
    classes: Logits = None,
    until: float = 1000.0,
    tolerance: float = 1e-3,
    order: int = ORDER,
    steps: int = 10_000,
) -> BoxCertificate:
    """Prove `L_T(theta + alpha d_S(eps)) < L_T(theta)` for every (alpha, eps) of a box as high in alpha as can be had.

    Args:
        weights: theta; this and the further arguments up to `trait_labels` as of `certify_descent`.
        activation: as there.
        direction: as there.
        inputs: as there.
        trait_inputs: as there.
        trait_labels: as there.
        until_epsilon: the box is over (0, until_epsilon].
        imitation_loss: `kl`, `cross_entropy` or `squared_error`.
        logits: the outputs that the student imitates; all unless given.
        output_weights: of the squared error.
        classes: the outputs whose softmax cross-entropy L_T is; all unless given.
        until: the alpha at which to stop.
        tolerance: how far above the box a proved failure may lie, relative, for the search to end.
        order: of the Taylor forms.
        steps: most evaluations of the trait loss on a rectangle.

    Returns:
        A `BoxCertificate`; the derivative of a ReLU at exactly 0 is 0 in it, as in `jax.nn.relu`.

    Raises:
        ValueError: naming the argument that is wrong, before any work.
    """
    until_epsilon, until = require_positive("until_epsilon", until_epsilon), require_positive("until", until)
    tolerance, order, steps = (
        require_positive("tolerance", tolerance),
        require_count("order", order),
        require_count("steps", steps),
    )
    with balls.quiet():
        student, trait, claim = _problem(
            weights,
            activation,
            direction,
            inputs,
            trait_inputs,
            trait_labels,
            imitation_loss,
            logits,
            output_weights,
            classes,
        )
        search = _Search(student, trait, until_epsilon, until, tolerance, order)
        stopped = search.run(steps)
    certified, refuted = min(search.strips[0].alpha, until), search.refuted
    return BoxCertificate(
        until_epsilon, certified, refuted, tuple(search.rectangles), until, stopped, search.evaluations, claim
    )


def _problem(
    weights: Any,
    activation: Any,
    direction: Any,
    inputs: Any,
    trait_inputs: Any,
    trait_labels: Any,
    imitation_loss: str,
    logits: Logits,
    output_weights: Sequence[float] | None,
    classes: Logits,
) -> "tuple[_Student, _Trait, descent_checker.DescentClaim]":
    """The arguments, checked."""
    imitated = imitation(weights, activation, inputs, imitation_loss, logits, output_weights)
    theta = imitated.weights
    examples, labels, among = _examples(trait_inputs, trait_labels, classes, theta)
    trait = _Trait(theta, imitated.activation, examples, labels, among)
    d_teacher = trait.descent() if direction is None else like("direction", direction, theta)
    claim = descent_checker.DescentClaim(imitated.claim(d_teacher), examples.tolist(), labels.tolist(), among.tolist())
    return _Student(imitated, d_teacher), trait, claim


def _examples(
    trait_inputs: Any, trait_labels: Any, classes: Logits, theta: Arrays
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    examples = inputs_of("trait_inputs", trait_inputs, len(theta[0][0]))
    among = selection(classes, theta[-1][1].size)
    if among.size < 2:
        raise ValueError(f"classes must select two outputs or more, got {among.size}: of one the cross-entropy is 0")
    labels = np.asarray(concrete("trait_labels", trait_labels))
    if labels.shape != (len(examples),):
        raise ValueError(f"trait_labels must be one for each of trait_inputs, [{len(examples)}]; got {labels.shape}")
    require_labels("trait_labels", labels, among.size)
    return examples, labels.astype(np.int64), among


def _length(weights: Any, step: Step) -> float:
    """How many steps are as long as the weights, or 1."""
    return ratio([(w.mid, b.mid) for w, b in weights], [(w.mid, b.mid) for w, b in step])


# The network at theta, and back through it.


class _Start:
    """A network at theta on some inputs: its outputs, and the gradients there."""

    def __init__(self, theta: Arrays, activation: str, inputs: np.ndarray) -> None:
        self.weights = [(Balls.exact(w), Balls.exact(b)) for w, b in theta]
        self.hidden, self.slopes = [Balls.exact(inputs)], []
        for w, b in self.weights[:-1]:
            before = self.hidden[-1] @ w + b
            self.hidden.append(_value(activation, before))
            self.slopes.append(_slope(activation, before))
        w, b = self.weights[-1]
        self.outputs = self.hidden[-1] @ w + b
        self.share = Balls.exact(1 / len(inputs)).widen(UNIT)

    def pull(self, gradients: Balls) -> Step:
        """`mean_i J_i^T g_i` for g [inputs, outputs]; linear in g, so that the same holds of a difference of two."""
        found, back = [], gradients * self.share
        for layer in reversed(range(len(self.weights))):
            found.append((self.hidden[layer].transpose(1, 0) @ back, back.sum(0)))
            if layer:
                back = (back @ self.weights[layer][0].transpose(1, 0)) * self.slopes[layer - 1]
        return found[::-1]


def _value(activation: str, x: Balls) -> Balls:
    """`sigma` on thin balls, by the mean value theorem."""
    if activation == "identity":
        return x
    if activation == "relu":
        return Balls.between(np.maximum(x.lower, 0), np.maximum(x.upper, 0))
    steepest = derivatives(activation, 1, x.least)[1]
    return jet(activation, x.mid, 1)[0].widen(np.where(x.rad == 0, 0.0, above_product(steepest, x.rad)))


def _slope(activation: str, x: Balls) -> Balls:
    """`sigma'` on balls; that of a ReLU at exactly 0 is 0, and in [0, 1] where the ball holds more than that."""
    if activation == "identity":
        return Balls.exact(np.ones(x.shape))
    if activation == "relu":
        on, off = x.lower > 0, x.upper <= 0
        return balls.where(on, Balls.exact(1.0), balls.where(off, Balls.exact(0.0), Balls.between(0.0, 1.0)))
    bounds = derivatives(activation, 2, x.least)
    bend = np.where(x.rad == 0, 0.0, above_product(2 * bounds[2], x.rad))
    return jet(activation, x.mid, 1)[1].widen(bend).intersect(-bounds[1], bounds[1])


def _chord(activation: str, p: Balls, x: Balls) -> Balls:
    """`(sigma(v) - sigma(u)) / (v - u)` for u in p and v in x, which contains p."""
    if activation != "relu":
        return _slope(activation, x)
    low, high = x.lower, x.upper
    # From u > 0 to v < 0 it is u / (u - v), least for the least u and v; from u < 0 to v > 0 it is v / (v - u).
    least = np.where(p.lower > 0, balls.below(p.lower / balls.above(p.lower - low)), 0.0)
    most = np.where(p.upper < 0, balls.above(high / balls.below(high - p.upper)), 1.0)
    across = Balls.between(np.fmax(least, 0.0), np.fmin(most, 1.0))
    return balls.where(low >= 0, Balls.exact(1.0), balls.where(high <= 0, Balls.exact(0.0), across))


class _Student:
    """The student's direction, as a function of the teacher's eps."""

    def __init__(self, imitated: Imitation, d_teacher: Arrays) -> None:
        theta, activation, inputs, loss, self.chosen, output_weights = imitated
        self.start = _Start(theta, activation, inputs)
        self.labels = Line(theta, d_teacher, activation, inputs)
        self.softmax = LOSSES[loss] == "softmax"
        self.factor = Balls.exact(2 * output_weights)  # exact
        self.targets = self._link(Form.constant(self.start.outputs[:, self.chosen], Domain.at(0.0))).coefficients[0]

    def _link(self, outputs: Form) -> Form:
        return outputs.softmax() if self.softmax else outputs.times(self.factor)

    def _away(self, domain: Domain) -> Form:
        """`s(y(eps)) - s(z)`: minus the gradient in the outputs."""
        return self._link(self.labels.outputs(domain)[:, self.chosen]) - Form.constant(self.targets, domain)

    def _pull(self, gradients: Balls) -> Step:
        mid, rad = np.zeros((2, *self.start.outputs.shape))
        mid[:, self.chosen], rad[:, self.chosen] = gradients.mid, gradients.rad
        return self.start.pull(Balls(mid, rad))

    def at(self, epsilon: float) -> Step:
        """`d_S(eps) / eps` at one eps."""
        return self._pull(self._away(Domain.at(epsilon)).range() * Balls.exact(epsilon).reciprocal())

    def between(self, low: float, high: float, order: int) -> tuple[Step, Step]:
        """`d_S(eps) / eps` on a strip of eps, as numbers and what is added to them.

        Returns:
            D_0, of radius 0, and D_1: the direction is `D_0 + u mid + e` for some u in [-1, 1], the same in all its
            entries, and `|e| <= rad`, with mid and rad those of D_1.
        """
        if low == 0:  # eps = high s, s in [0, 1]; c_0 is 0, as the labels at eps = 0 are what is imitated
            domain = Domain.start(high, order)
            coefficients = self._away(domain).coefficients[1:] * Balls.exact(high).reciprocal()
            zeros = Balls.exact(np.zeros((1, *coefficients.shape[1:])))
            quotient = Form(balls.join(coefficients, zeros), domain)
        else:
            domain = Domain.between(low, high, order)
            epsilon = Form.linear(Balls.exact([[domain.centre]]), Balls.exact([[domain.radius]]), domain)
            quotient = self._away(domain) * epsilon.reciprocal([[low]], [[high]])
        base, slope = self._pull(quotient.coefficients[0]), self._pull(quotient.slope())
        centre = 0.5 if domain.starts else 0.0  # s = centre + u / 2, or s = u
        found = [
            [_around(x, m, centre) for x, m in zip(fixed, moved, strict=True)]
            for fixed, moved in zip(base, slope, strict=True)
        ]
        return [(w[0], b[0]) for w, b in found], [(w[1], b[1]) for w, b in found]


def _around(x: Balls, m: Balls, centre: float) -> tuple[Balls, Balls]:
    """`x + s m` as a number, and `u mid + e` with `|e| <= rad`, for `s = centre + (1 - centre) u`."""
    at = x + m.scale(centre)
    return Balls.exact(at.mid), m.scale(1 - centre).widen(at.rad)


# The trait loss.


class _Trait:
    """The mean softmax cross-entropy of the trait's examples, with `c = classes[label]` and the others as k."""

    def __init__(
        self, theta: Arrays, activation: str, inputs: np.ndarray, labels: np.ndarray, classes: np.ndarray
    ) -> None:
        self.start, self.activation, self.inputs = _Start(theta, activation, inputs), activation, Balls.exact(inputs)
        self.weights = self.start.weights
        self.rows = np.arange(len(inputs))[:, None]
        self.label = classes[labels][:, None]
        others = np.array([[k for k in range(classes.size) if k != label] for label in labels])
        self.others = classes[others]
        self.share = self.start.share
        self.before = self.loss(Form.constant(self.start.outputs, Domain.at(0.0))).coefficients[0]

    def margins(self, outputs: Any) -> Any:
        """`y_k - y_c`, [examples, classes - 1], of a form or of balls."""
        return outputs[self.rows, self.others] - outputs[self.rows, self.label]

    def loss(self, outputs: Form) -> Form:
        """`mean log(1 + sum_k exp(y_k - y_c))`."""
        margins = self.margins(outputs)
        total = margins[:, 0].activate("softplus")
        for k in range(1, self.others.shape[1]):
            total = total + (margins[:, k] - total).activate("softplus")
        return total.sum(-1).times(self.share)

    def along(self, step: Step) -> Any:
        """`L_T(theta) - L_T(theta + alpha step)` as a function of a domain of alpha; exactly 0 at 0."""
        line = Line(self.weights, step, self.activation, self.inputs)
        return lambda domain: Form.constant(self.before, domain) - self.loss(line.outputs(domain))

    def descent(self) -> Arrays:
        """`-grad L_T(theta)`, rounded to float64."""
        chances = _chances(self.margins(self.start.outputs))
        mid, rad = np.zeros((2, *self.start.outputs.shape))
        mid[self.rows, self.others], rad[self.rows, self.others] = -chances.mid, chances.rad
        total = chances.sum(-1)
        mid[self.rows, self.label], rad[self.rows, self.label] = total.mid[:, None], total.rad[:, None]
        return [(w.mid, b.mid) for w, b in self.start.pull(Balls(mid, rad))]


def _chances(margins: Balls) -> Balls:
    """`exp(m_k) / (1 + sum_j exp(m_j))` over the last axis: increasing in m_k, decreasing in every other."""
    low, high, count = margins.lower, margins.upper, margins.shape[-1]
    least, most = [], []
    for k in range(count):
        j = [each for each in range(count) if each != k]
        mine = slice(k, k + 1)
        worst = np.concatenate([-low[..., mine], balls.above(high[..., j] - low[..., mine])], -1)
        best = np.concatenate([-high[..., mine], balls.below(low[..., j] - high[..., mine])], -1)
        least.append(_share(worst).lower)
        most.append(_share(best).upper)
    return Balls.between(np.stack(least, -1), np.stack(most, -1))


def _share(powers: np.ndarray) -> Balls:
    """`1 / (1 + sum exp(powers))` over the last axis, for numbers."""
    return (balls.exp(powers).sum(-1) + Balls.exact(1.0)).reciprocal().intersect(0.0, 1.0)


# The box.


class _Drop:
    """`L_T(theta) - L_T(theta + beta D(eps))` on a strip of eps, as `P(beta) + beta (u m + e)` with `|e| <= r`.

    A `Balls` for the second part holds m as its middle and r as its radius. Sums, products with balls and products of
    matrices with balls of these are right for every u in [-1, 1], as what they add to a radius bounds it for |u| = 1.
    """

    def __init__(self, trait: _Trait, fixed: Step, moved: Step) -> None:
        self.trait, self.fixed, self.moved = trait, fixed, moved
        self._first = tuple(trait.inputs @ w + b for w, b in (trait.weights[0], fixed[0], moved[0]))

    def __call__(self, domain: Domain) -> tuple[Form, Balls]:
        """P, and the second part."""
        trait, centre, radius = self.trait, Balls.exact(domain.centre), Balls.exact(domain.radius)
        beta = Balls.between(0.0, domain.radius) if domain.starts else Balls(centre.mid, radius.mid)
        either = Balls(np.zeros(()), beta.most)
        s = Form.linear(Balls.exact([[0.0]]), Balls.exact([[1.0]]), domain)
        value, slope, second = self._first
        form = Form.linear(value + centre * slope, radius * slope, domain)
        layers = zip(trait.weights[1:], self.fixed[1:], self.moved[1:], strict=True)
        for (w, b), (dw, db), (ew, eb) in layers:
            before = form.range()
            second = _chord(trait.activation, before, before + either * second) * second
            form = form.activate(trait.activation)
            reached = form.range() + either * second
            second = second @ (w + beta * dw) + reached @ ew + eb
            hidden = form.coefficients
            form = (
                Form(hidden @ (w + centre * dw), domain)
                + Form(hidden @ dw, domain).times(radius) * s
                + Form.linear(b + centre * db, radius * db, domain)[None]
            )
        margins, second = trait.margins(form), trait.margins(second)
        chances = _chances(margins.range() + either * second)
        total = (chances * second).sum(-1).sum(-1) * trait.share
        return Form.constant(trait.before, domain) - trait.loss(form), -total


@dataclass(order=True)
class _Strip:
    """A strip of eps, and how far it is proved.

    Attributes:
        alpha: descent is proved for every alpha up to here, and every eps of the strip.
        low: of eps.
        high: of eps.
        reached: descent is proved for every `beta = alpha eps` up to here.
        length: of the interval of beta that is tried next.
        drop: what is to be positive; made when it is needed.
    """

    alpha: float
    low: float
    high: float
    reached: float = field(compare=False)
    length: float = field(compare=False)
    drop: _Drop | None = field(compare=False, default=None)

    def part(self, low: float, high: float) -> "_Strip":
        """A part of it, not narrower unless it is another."""
        drop = self.drop if (low, high) == (self.low, self.high) else None
        alpha = max(0.0, math.nextafter(self.reached / high, 0))
        return _Strip(alpha, low, high, self.reached, self.length, drop)


class _Search:
    """The strips of a box, the one that is proved to the least alpha first."""

    def __init__(
        self, student: _Student, trait: _Trait, epsilon: float, until: float, tolerance: float, order: int
    ) -> None:
        self.student, self.trait, self.until, self.tolerance, self.order = student, trait, until, tolerance, order
        first = _length(trait.weights, student.at(epsilon))
        self.strips = [_Strip(0.0, 0.0, epsilon, 0.0, min(0.05 * first, until * epsilon))]
        self.smallest = self.strips[0].length * 1e-9
        self.rectangles: list[Rectangle] = []
        self.refuted: tuple[float, float] | None = None
        self.evaluations = 0

    @property
    def ceiling(self) -> float:
        """No box is higher than this alpha, or need be."""
        return self.until if self.refuted is None else min(self.until, self.refuted[0])

    def run(self, steps: int) -> str:
        """Raise the lowest strip until one of the reasons to stop holds, which is returned."""
        while True:
            strip = self.strips[0]
            if strip.alpha >= self.until:
                return "until"
            if self.refuted is not None and strip.alpha >= (1 - self.tolerance) * self.refuted[0]:
                return "tolerance"
            if self.evaluations == steps:
                return "steps"
            held = self._advance(strip)
            parts = [(strip.low, strip.high)]
            if held is not None:
                self._refute(strip)
                # Next to 0, where the middle of the strip fails whatever its width, halves fail as well.
                if strip.high - strip.low < NARROWEST * strip.high or (strip.reached == 0 and held == "middle"):
                    return "undecided"
                middle = (strip.low + strip.high) / 2
                parts = [(strip.low, middle), (middle, strip.high)]
            heapq.heapreplace(self.strips, strip.part(*parts[0]))
            for each in parts[1:]:
                heapq.heappush(self.strips, strip.part(*each))

    def _advance(self, strip: _Strip) -> str | None:
        """Try the next interval of beta. Returns what holds it up, the strip's `width` or its `middle`, or None."""
        if strip.drop is None:
            strip.drop = _Drop(self.trait, *self.student.between(strip.low, strip.high, self.order))
        self.evaluations += 1
        low = strip.reached
        # The margin makes up for the roundings of `alpha`, so that the end comes after finitely many steps.
        high = min(low + strip.length, self.ceiling * strip.high * (1 + 1e-12))
        domain = Domain.start(high, self.order) if low == 0 else Domain.between(low, high, self.order)
        share, end, middle = _proved(*strip.drop(domain), domain, low, high)
        if end > low:
            self.rectangles.append(Rectangle(low, end, strip.low, strip.high))
            strip.reached = end
        # Finer in beta than the strip is in eps does not pay.
        fine = max(self.tolerance / 4, (strip.high - strip.low) / (8 * strip.high)) * low
        if share < 0.25 and ((middle and share == 0) or strip.length < max(fine, self.smallest)):
            return "width" if middle else "middle"
        strip.length *= 1.7 if share == 1 else 0.9 if share >= 0.5 else 0.5 if share > 0 else 0.3
        return None

    def _refute(self, strip: _Strip) -> None:
        """Look for a failure just above, on the side of the strip where alpha is least; not in wide strips, in vain."""
        started, tolerance = strip.reached > 0, self.tolerance
        if started and strip.low < (1 - tolerance) * strip.high:
            return
        for epsilon in (strip.high,) if started else (strip.high, (strip.low + strip.high) / 2):
            drop = self.trait.along(self.student.at(epsilon))
            for share in (1 / 64, 1 / 8, 1 / 2) if started else (1.0, 1e3, 1e6):
                beta = strip.reached * (1 + share * tolerance) if started else self.smallest * share
                alpha = beta / epsilon
                exact = Balls.exact(alpha) * Balls.exact(epsilon)
                if alpha <= self.ceiling and _negative(drop, exact):
                    self.refuted = (alpha, epsilon)
                    return


def _negative(drop: Any, beta: Balls) -> bool:
    """Whether it is negative for every beta in the ball."""
    return bool(drop(Domain.between(float(beta.lower), float(beta.upper), 1)).range().upper < 0)


def _proved(form: Form, second: Balls, domain: Domain, low: float, high: float) -> tuple[float, float, bool]:
    """How far `P + beta (u m + e) > 0` is proved on [low, high], from the left.

    Next to 0, where P(0) = 0, it is divided by s.

    Returns:
        The share, its end, and whether P alone is positive on the first piece on which this is not proved.
    """
    zeros = Balls.exact(np.zeros(1))
    if domain.starts:
        form = Form(balls.join(form.coefficients[1:], zeros), domain)
    beta = domain.radius if domain.starts else balls.above(domain.centre + domain.radius)
    lows, highs = domain.pieces(PIECES)
    values = form.on(lows, highs).lower
    positive = values > above_product(second.most, np.asarray(beta))
    if positive.all():
        return 1.0, high, True
    count = int(np.argmin(positive))
    end = low
    if count:
        slack = 4 * UNIT * (domain.centre + domain.radius)
        end = min(max(low, math.nextafter(domain.centre + domain.radius * highs[count - 1] - slack, 0)), high)
    return count / PIECES, end, bool(values[count] > 0)
