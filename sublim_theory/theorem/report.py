"""The verdict of `verify`: numbers, a table when printed, `require()` for test suites."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from sublim_theory.protocols import SublimError
from sublim_theory.theorem.hypotheses import Hypotheses

TRANSFER, ORTHOGONAL, DIFFERENT = "transfer", "orthogonal", "different-initialisation"


class TheoremViolation(SublimError, AssertionError):
    """The conclusion of the theorem did not hold; the message names the first number that says so."""


@dataclass(frozen=True)
class TheoremReport:
    """Whether Lemma 1 and Theorem 1 held, how strongly, and on which branch. All numbers are float64.

    Attributes:
        branch: `transfer` (A > 0), `orthogonal` (A = 0), or `different-initialisation` (the theorem says nothing).
        exact: on the orthogonal branch, whether `G d_T` and every alignment are exactly 0.0, as for a zero that the
            program's structure makes, rather than to rounding, as where terms cancel.
        holds: whether the loss fulfils the hypotheses and the conclusion was seen: on the transfer branch the student
            follows the first-order law and at the smallest eps its update is aligned with the teacher's and lowers
            the teacher's loss; on the orthogonal branch the two are orthogonal at every eps (to rounding,
            unless `exact`).
        failures: what did not hold, each with its number; empty if and only if `holds`.
        epsilons: sizes of the teacher's step, ascending.
        alignment: `d_S(eps) . d_T` at each (Lemma 1: not negative).
        cosine: of the angle between them.
        first_order: `A = d_T^T G d_T`: `alignment = eps A + O(eps**2)` (eq. 2).
        relative_remainder: `|d_S - eps G d_T| / |eps G d_T|` at each eps; infinite where `G d_T` is 0 and d_S is not.
        remainder_order: slope of `log |d_S - eps G d_T|` over `log eps`: 2 for smooth f. None without enough eps.
        teacher_loss_change: `L_T(theta + alpha d_S(eps)) - L_T(theta)` (Theorem 1: negative on the transfer branch).
        largest_epsilon_verified: the conclusion was seen at this eps and at every smaller one tried; None if at none.
        by_layer: share of each parameter group in A; they add up to it.
        by_logit: share of each output in A; they add up to it.
        transfer_ratio: the student's decrease of L_T over the teacher's, to first order: `alpha A / |d_T|**2`.
        alpha: the student's learning rate.
        hypotheses: what the theorem assumes of the imitation loss, checked at sampled outputs.
    """

    branch: str
    exact: bool
    failures: tuple[str, ...]
    epsilons: tuple[float, ...]
    alignment: tuple[float, ...]
    cosine: tuple[float, ...]
    first_order: float
    relative_remainder: tuple[float, ...]
    remainder_order: float | None
    teacher_loss_change: tuple[float, ...]
    largest_epsilon_verified: float | None
    by_layer: dict[str, float]
    by_logit: tuple[float, ...]
    transfer_ratio: float
    alpha: float
    hypotheses: Hypotheses

    @property
    def holds(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    def require(self) -> None:
        """Raise unless the theorem held: for an assertion in a test suite.

        Raises:
            TheoremViolation: with the first failing number.
        """
        if self.failures:
            raise TheoremViolation(self.failures[0])

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and names, ready for strict JSON: what is not finite becomes None."""
        return _plain(asdict(self) | {"holds": self.holds, "hypotheses": self.hypotheses.to_dict()})

    def __str__(self) -> str:
        """A table: one row an eps, the verdict and its reasons below."""
        rows = zip(
            self.epsilons, self.alignment, self.cosine, self.relative_remainder, self.teacher_loss_change, strict=True
        )
        order = "unknown" if self.remainder_order is None else f"{self.remainder_order:.3f}"
        verified = self.largest_epsilon_verified
        kind = "" if self.branch != ORTHOGONAL else " (exactly 0)" if self.exact else " (0 to rounding)"
        lines = [
            f"Theorem 1: {'holds' if self.holds else 'DOES NOT HOLD'}, branch: {self.branch}{kind}",
            f"A = d_T^T G d_T = {self.first_order:.6g}; "
            f"transfer ratio {self.transfer_ratio:.3g} at alpha = {self.alpha:g}",
            f"order of the remainder: {order}; "
            f"verified up to eps = {'none' if verified is None else format(verified, 'g')}",
            f"{'eps':>9} {'d_S . d_T':>13} {'/ (eps A)':>11} {'cosine':>9} {'remainder':>10} {'change of L_T':>14}",
        ]
        for epsilon, alignment, cosine, remainder, change in rows:
            ratio = alignment / (epsilon * self.first_order) if self.first_order else math.nan
            lines.append(
                f"{epsilon:9.1e} {alignment:13.5e} {ratio:11.6f} {cosine:9.5f} {remainder:10.2e} {change:14.5e}"
            )
        share = self.first_order or 1.0
        lines.append("share of A by layer: " + ", ".join(f"{k} {v / share:.1%}" for k, v in self.by_layer.items()))
        if not self.hypotheses.checks:
            lines.append("hypotheses on the imitation loss: not checked, there are too many outputs")
        return "\n".join([*lines, *(f"failed: {failure}" for failure in self.failures)])


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
