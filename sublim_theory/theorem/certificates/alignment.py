"""Certificates of Lemma 1: `d_S(eps) . d_T > 0` proved for every eps of an interval, for one network.

With labels `y_i(eps) = f(theta + eps d_T, x_i)`, the student's outputs `z_i = f(theta, x_i)` and their change
`v_i = J(x_i) d_T`, on the outputs that the student imitates,

    d_S(eps) . d_T = phi(eps) = mean_i (s(y_i(eps)) - s(z_i)) . v_i,

with s the softmax (KL divergence, cross-entropy) or `2 w` (squared error with weights w): a function of one variable.
Where labels and student start from the same weights phi(0) is exactly 0, and `phi / eps` is proved positive next to 0.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from sublim_theory.protocols import lookup, require_count, require_positive
from sublim_theory.theorem.certificates import balls, checker
from sublim_theory.theorem.certificates.balls import UNIT, Balls
from sublim_theory.theorem.certificates.forms import ORDER, Domain, Form, Interval, Line, march, negative_above
from sublim_theory.theorem.certificates.layers import (
    Arrays,
    activation_of,
    compare,
    gradient,
    inputs_of,
    layers_of,
    like,
    ratio,
)
from sublim_theory.theorem.instance import Logits, selection

LOSSES = {"kl": "softmax", "cross_entropy": "softmax", "squared_error": "identity"}
"""Names of `losses.imitation` whose gradient is `s(z) - s(y)`, and s."""


@dataclass(frozen=True)
class Certificate:
    """What is proved about `phi(eps) = d_S(eps) . d_T` of one network.

    Attributes:
        certified: `phi(eps) > 0` is proved for every eps in (0, certified]; 0.0 where for none.
        refuted: an eps above it for which `phi(eps) < 0` is proved; None where none was found.
        intervals: of which the proof consists, ascending; each claims `phi > 0` on `low < eps <= high`.
        orthogonal: whether phi is proved to be exactly 0 for every eps: the orthogonal branch of Theorem 1.
        until: where the proof would have stopped.
        stopped: why it ended: `until`, `undecided` (no further interval could be proved), `steps` or `orthogonal`.
        evaluations: of phi on an interval, tried in all.
        claim: everything that the claim speaks of, as `checker.check` and `to_dict` have it.
    """

    certified: float
    refuted: float | None
    intervals: tuple[Interval, ...]
    orthogonal: bool
    until: float
    stopped: str
    evaluations: int
    claim: checker.Claim = field(repr=False)

    def check(self, points: int = 1000, seed: int = 0) -> checker.Verdict:
        """Prove it again, by other code and another arithmetic, and try random points with 200 bits.

        Raises:
            CheckError: where an interval, the refuted point or a random point contradicts the certificate. What the
                checker cannot decide is in the verdict, and no error.
        """
        verdict = checker.check(
            self.claim,
            self.intervals,
            self.refuted,
            self.orthogonal,
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
    def from_dict(cls, data: dict[str, Any]) -> "Certificate":
        """The certificate that was written; nothing of it is proved again until `check`."""
        data = json.loads(json.dumps(data))
        intervals = tuple(Interval(*each) for each in data["intervals"])
        return cls(**data | {"intervals": intervals, "claim": checker.Claim(**data["claim"])})

    def __str__(self) -> str:
        """What is proved, and what is not."""
        if self.orthogonal:
            found = "d_S(eps) . d_T is proved to be exactly 0 for every eps: the orthogonal branch, nothing to certify"
        elif not self.certified:
            found = "d_S(eps) . d_T > 0 is not proved for any eps"
        else:
            found = (
                f"d_S(eps) . d_T > 0 is proved for every eps in (0, {self.certified!r}], on {len(self.intervals)} "
                f"interval{'s' * (len(self.intervals) != 1)}"
            )
        if self.refuted is not None:
            end = f"; it is proved negative at eps = {self.refuted!r}"
            gap = ", and between the two nothing is proved" if self.certified else ", and nothing is proved below"
            end += gap
        elif self.orthogonal:
            end = ""
        elif self.stopped == "until":
            end = "; that is as far as was asked, and beyond it nothing is proved"
        else:
            why = "after the most steps allowed" if self.stopped == "steps" else "as no further interval was proved"
            end = f"; there it stopped, {why}; no eps with a negative value was found up to {self.until:.6g}"
        return (
            f"{found}{end}. This is about exact real arithmetic with these weights, inputs and this d_T, all float64, "
            "and not about a run that rounds"
        )


def certify(
    weights: Any,
    activation: Any,
    direction: Any = None,
    inputs: Any = None,
    *,
    teacher_loss: Any = None,
    imitation_loss: str = "kl",
    logits: Logits = None,
    output_weights: Sequence[float] | None = None,
    labels_from: Any = None,
    until: float = 100.0,
    tolerance: float = 1e-5,
    order: int = ORDER,
    batch_size: int | None = None,
) -> Certificate:
    """Prove `d_S(eps) . d_T > 0` for every eps from 0 up to the largest eps for which that can be proved.

    Args:
        weights: the shared initialisation theta: a list of (W [in, out], b [out] or None); the parameters of `mlp`; a
            multilayer perceptron of Flax (NNX module, or parameters of Linen or NNX) or of Equinox. Read as float64.
        activation: after every layer but the last: `relu`, `tanh`, `gelu` (exact), `sigmoid` or `identity`, or the
            function of JAX; None reads it off a module.
        direction: d_T, of the same form as `weights` (a tree of gradients times -1, say).
        inputs: the student's, [inputs, features].
        teacher_loss: `teacher_loss(weights) -> scalar`, in place of `direction`: `d_T = -grad L_T` in float64.
        imitation_loss: `kl`, `cross_entropy` (they have one gradient) or `squared_error`, as of `losses`.
        logits: the outputs that the student imitates, a slice, indices or a mask; all unless given.
        output_weights: w of the squared error, one for each of those, not negative; ones unless given.
        labels_from: (weights, direction) of the network that labels, where these are not the student's own: another
            start. `d_S(eps) . d_T` keeps the student's weights and d_T elsewhere.
        until: where to stop.
        tolerance: of the end, relative.
        order: of the Taylor forms.
        batch_size: inputs at a time, for memory; all unless given.

    Returns:
        A `Certificate`; the derivative of a ReLU at exactly 0 is 0 in it, as in `jax.nn.relu`.

    Raises:
        ValueError: naming the argument that is wrong, before any work.

    >>> weights = [(np.array([[1.0]]), np.array([0.0]))]
    >>> found = certify(weights, "tanh", weights, np.ones((1, 1)), imitation_loss="squared_error", until=2.0)
    >>> found.certified, found.refuted
    (2.0, None)
    """
    until, tolerance = require_positive("until", until), require_positive("tolerance", tolerance)
    order = require_count("order", order)
    if batch_size is not None:
        batch_size = require_count("batch_size", batch_size)
    student = imitation(weights, activation, inputs, imitation_loss, logits, output_weights)
    theta = student.weights
    if (teacher_loss is None) == (direction is None):
        raise ValueError("give either direction or teacher_loss, and not both")
    source = "direction"
    if teacher_loss is not None:
        direction, source = gradient(teacher_loss, weights), "the gradient of teacher_loss"
    d_teacher = like(source, direction, theta)
    labelling, d_labelling = theta, d_teacher
    if labels_from is not None:
        if not isinstance(labels_from, tuple) or len(labels_from) != 2:
            raise ValueError("labels_from must be the tuple (weights, direction) of the network that labels")
        labelling = like("labels_from[0]", labels_from[0], theta)
        d_labelling = like("labels_from[1]", labels_from[1], theta)
    claim = student.claim(d_teacher, None if labels_from is None else (labelling, d_labelling))
    with balls.quiet():
        phi = _Alignment(claim, batch_size or len(student.inputs))
        if phi.is_zero():
            return Certificate(0.0, None, (), True, until, "orthogonal", 0, claim)
        first = min(until, 0.05 * ratio(labelling, d_labelling))  # of the weights' length
        found = march(phi, until, vanishes=phi.vanishes, first=first, tolerance=tolerance, order=order)
        refuted = None
        if found.reached < until:
            refuted = negative_above(phi, found.reached, until, first * 1e-9, tolerance)
    return Certificate(found.reached, refuted, found.intervals, False, until, found.stopped, found.evaluations, claim)


class Imitation(NamedTuple):
    """The student and what it imitates, checked and in float64."""

    weights: Arrays
    activation: str
    inputs: np.ndarray
    loss: str
    chosen: np.ndarray
    output_weights: np.ndarray

    def claim(self, direction: Arrays, labels: tuple[Arrays, Arrays] | None = None) -> checker.Claim:
        """In plain lists, with d_T, and with the (weights, direction) that label where these are others."""
        return checker.Claim(
            weights=_plain(self.weights),
            direction=_plain(direction),
            labels=None if labels is None else [_plain(each) for each in labels],
            activation=self.activation,
            imitation_loss=self.loss,
            logits=self.chosen.tolist(),
            output_weights=self.output_weights.tolist(),
            inputs=self.inputs.tolist(),
        )


def imitation(
    weights: Any, activation: Any, inputs: Any, loss: str, logits: Logits, output_weights: Sequence[float] | None
) -> Imitation:
    """The arguments that all certificates have, checked.

    Raises:
        ValueError: naming the argument that is wrong.
    """
    lookup("imitation loss that can be certified", loss, LOSSES)
    theta = layers_of("weights", weights)
    name = activation_of(weights, activation)
    x = inputs_of("inputs", inputs, len(theta[0][0]))
    compare(weights, theta, name, x)
    chosen = selection(logits, theta[-1][1].size)
    return Imitation(theta, name, x, loss, chosen, _output_weights(output_weights, loss, chosen.size))


class _Alignment:
    """phi as a form on a domain."""

    def __init__(self, claim: checker.Claim, batch_size: int) -> None:
        self.softmax = LOSSES[claim.imitation_loss] == "softmax"
        self.chosen = claim.logits
        self.factor = Balls.exact(2 * np.array(claim.output_weights))
        labelling, d_labelling = claim.labels or (claim.weights, claim.direction)
        # From the same numbers phi(0) is 0, whatever z is enclosed in.
        self.vanishes = labelling == claim.weights
        self.share = Balls.exact(1 / len(claim.inputs)).widen(UNIT)
        self.batches: list[tuple[Line, Balls, Balls]] = []
        for first in range(0, len(claim.inputs), batch_size):
            inputs = claim.inputs[first : first + batch_size]
            outputs, v = Line(claim.weights, claim.direction, claim.activation, inputs).start()
            z = self._link(Form.constant(outputs[:, self.chosen], Domain.at(0.0))).coefficients[0]
            labels = Line(labelling, d_labelling, claim.activation, inputs)
            self.batches.append((labels, z, v[:, self.chosen]))

    def is_zero(self) -> bool:
        """Whether phi is exactly 0 for every eps: one output under a softmax, or outputs that d_T does not move."""
        if self.softmax:
            return len(self.chosen) == 1 or all((v.most == 0).all() for _, _, v in self.batches)  # NaN is not 0
        return all(((v.most == 0) | (self.factor.mid == 0)).all() for _, _, v in self.batches)

    def _link(self, outputs: Form) -> Form:
        return outputs.softmax() if self.softmax else outputs.times(self.factor)

    def __call__(self, domain: Domain) -> Form:
        total = Form.constant(Balls.exact(0.0), domain)
        for labels, z, v in self.batches:
            moved = self._link(labels.outputs(domain)[:, self.chosen]) - Form.constant(z, domain)
            total = total + moved.times(v).sum(-1).sum(-1)
        return total.times(self.share)


def _output_weights(weights: Sequence[float] | None, loss: str, count: int) -> np.ndarray:
    if weights is None:
        return np.ones(count)
    if LOSSES[loss] == "softmax":
        raise ValueError(f"output_weights are of the squared error, and {loss!r} has none; leave them out")
    w = np.asarray(weights, np.float64)
    if w.shape != (count,) or not np.isfinite(w).all() or (w < 0).any():
        raise ValueError(f"output_weights must be {count} finite numbers, none negative; got {weights}")
    return w


def _plain(layers: Arrays) -> list[Any]:
    return [[w.tolist(), b.tolist()] for w, b in layers]
