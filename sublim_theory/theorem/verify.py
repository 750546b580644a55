"""Theorem 1 as a check: hand in a function, a teacher's loss and inputs; learn whether the conclusion holds, and how.

    report = verify(f, params, teacher_loss, inputs)
    print(report)
    report.require()  # in anybody's test suite

Everything is computed in float64, whatever the caller's setting, which is left as it was: in float32 the sign itself
is wrong below about eps = 1e-6.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sublim_theory._types import Apply, Inputs, Params, PerExampleLoss, TeacherLoss
from sublim_theory.protocols import SublimError, require_positive, require_positives
from sublim_theory.theorem.checks import is_zero
from sublim_theory.theorem.compiling import compiled, in_float64
from sublim_theory.theorem.hypotheses import Hypotheses, check_instance
from sublim_theory.theorem.instance import ImitationLoss, Instance, Logits, like_params
from sublim_theory.theorem.tables import table
from sublim_theory.theorem.updates import FirstOrder, Steps, first_order, student_steps

EPSILONS = tuple(10.0**-k for k in range(9, -1, -1))
"""Sizes of the teacher's step that are tried unless others are given: 1e-9, 1e-8, ..., 1."""

SMALLEST = 1e-12
"""The smallest that is added to them where none is small enough to decide."""

LAW = 0.1
"""Relative remainder at the smallest eps above which the student does not follow the first-order law. Under the
hypotheses the remainder goes to 0 with eps; from another initialisation it grows like 1 / eps."""

ROUNDING = 1e-26
"""A is quadratic in v = J d_T: relative to its size where nothing cancels, (1e-13)**2 is rounding."""

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
        fields = {name: value for name, value in vars(self).items() if name != "hypotheses"}
        return _plain(fields | {"holds": self.holds, "hypotheses": self.hypotheses.to_dict()})

    def __str__(self) -> str:
        """A table: one row an eps, the verdict and its reasons below."""
        order = "unknown" if self.remainder_order is None else f"{self.remainder_order:.3f}"
        verified = self.largest_epsilon_verified
        kind = "" if self.branch != ORTHOGONAL else " (exactly 0)" if self.exact else " (0 to rounding)"
        ratios = [
            alignment / (epsilon * self.first_order) if self.first_order else math.nan
            for epsilon, alignment in zip(self.epsilons, self.alignment, strict=True)
        ]
        columns = {
            "eps": ("9.1e", self.epsilons),
            "d_S . d_T": ("13.5e", self.alignment),
            "/ (eps A)": ("11.6f", ratios),
            "cosine": ("9.5f", self.cosine),
            "remainder": ("10.2e", self.relative_remainder),
            "change of L_T": ("14.5e", self.teacher_loss_change),
        }
        share = self.first_order or 1.0
        lines = [
            f"Theorem 1: {'holds' if self.holds else 'DOES NOT HOLD'}, branch: {self.branch}{kind}",
            f"A = d_T^T G d_T = {self.first_order:.6g}; "
            f"transfer ratio {self.transfer_ratio:.3g} at alpha = {self.alpha:g}",
            f"order of the remainder: {order}; "
            f"verified up to eps = {'none' if verified is None else format(verified, 'g')}",
            *table(columns),
            "share of A by layer: " + ", ".join(f"{k} {v / share:.1%}" for k, v in self.by_layer.items()),
        ]
        if self.hypotheses.scope:
            lines.append(f"hypotheses on the imitation loss: checked on {self.hypotheses.scope}")
        return "\n".join([*lines, *(f"failed: {failure}" for failure in self.failures)])


def verify(
    f: Apply,
    params: Params,
    teacher_loss: TeacherLoss,
    inputs: Inputs,
    *,
    imitation_loss: ImitationLoss = "kl",
    logits: Logits = None,
    epsilons: Sequence[float] | np.ndarray = EPSILONS,
    alpha: float = 1.0,
    student_params: Params | None = None,
    batch_size: int | None = None,
) -> TheoremReport:
    """Check Lemma 1 and Theorem 1 (arXiv 2507.14805, section 6.1) on one instance.

    Before any verdict the functions are checked, too (`Instance`): one whose derivatives are not those of its values,
    whose rows feel each other or which is not finite on every input is refused.

    Args:
        f: `f(params, x) -> outputs [batch, n]`, or [batch, positions, n] for sequences: a pure JAX function of any
            pytree of parameters.
        params: the shared initialisation; floating-point leaves.
        teacher_loss: `teacher_loss(params) -> scalar`, differentiable; it need not be related to f, the inputs or the
            imitation loss.
        inputs: the student's inputs, a pytree of arrays [inputs, ...], any distribution; integers (tokens) stay so.
        imitation_loss: `kl`, `cross_entropy`, `squared_error`, `huber`, or a per-example loss of (student outputs,
            labels) -> [batch].
        logits: the outputs that the student imitates, a slice, indices or a mask; all unless given.
        epsilons: sizes of the teacher's gradient step, positive. Where the smallest is not small enough to decide,
            smaller ones are added, down to `SMALLEST`.
        alpha: size of the student's gradient step, positive.
        student_params: the student's initialisation, if it is another one; the theorem then says nothing, and the
            report shows what happens.
        batch_size: inputs at a time; all unless given.

    Raises:
        ValueError: naming the argument that is wrong.

    >>> x = np.random.default_rng(0).normal(size=(8, 3))
    >>> w = {"class": np.eye(3), "auxiliary": np.ones((3, 2))}
    >>> f = lambda w, x: jnp.tanh(x @ w["class"]) @ w["auxiliary"]
    >>> report = verify(f, w, lambda w: jnp.sum((x @ w["class"]) ** 2), x, imitation_loss="squared_error")
    >>> report.branch, report.holds
    ('transfer', True)
    """
    sizes, alpha = _sizes(epsilons), require_positive("alpha", alpha)
    instance = Instance(
        f, params, teacher_loss, inputs, imitation_loss=imitation_loss, logits=logits, batch_size=batch_size
    )
    return verify_instance(instance, epsilons=sizes, alpha=alpha, student_params=student_params)


def _sizes(epsilons: Sequence[float] | np.ndarray) -> list[float]:
    return sorted(set(require_positives("epsilons", epsilons)))


def verify_instance(
    instance: Instance,
    *,
    epsilons: Sequence[float] | np.ndarray = EPSILONS,
    alpha: float = 1.0,
    student_params: Params | None = None,
) -> TheoremReport:
    """`verify` of an instance that has been checked; the other arguments and the errors are those of `verify`."""
    sizes, alpha = _sizes(epsilons), require_positive("alpha", alpha)
    with in_float64():
        student = None
        if student_params is not None:
            student = like_params("student_params", student_params, instance.params)
            same = map(np.array_equal, jax.tree.leaves(instance.params), jax.tree.leaves(student))
            student = None if all(same) else student
        return _verify(instance, sizes, alpha, student)


def _verify(instance: Instance, sizes: list[float], alpha: float, student: Params | None) -> TheoremReport:
    hypotheses = check_instance(instance)
    loss = _without_null_space(instance, hypotheses)
    d_teacher = instance.direction()
    random = np.random.default_rng(0)
    mixed = jax.tree.map(lambda leaf: np.asarray(leaf) * random.normal(size=leaf.shape), d_teacher)

    def measure(
        theta: Params, d: Params, mixed: Params, student: Params | None, inputs: Any, epsilons: jax.Array
    ) -> tuple[Any, ...]:
        law, typical = _law(instance, loss, theta, d, mixed, inputs)
        steps = student_steps(
            instance.f,
            loss,
            instance.teacher_loss,
            theta,
            law,
            epsilons,
            inputs,
            alpha=alpha,
            student_params=student,
            batch_size=instance.batch_size,
        )
        return law, law.by_layer(), law.transfer_ratio(alpha), typical, steps

    program = compiled(measure, instance.work)  # arguments, closed over, would be folded while it compiles

    def measured(epsilons: list[float]) -> tuple[Any, ...]:
        *law, steps = program(instance.params, d_teacher, mixed, student, instance.inputs, np.array(epsilons))
        return *law, Steps(*map(np.asarray, steps))

    law, layers, transfer_ratio, typical, steps = measured(sizes)
    instance.require_finite(law.product, d_teacher)
    _require_finite_steps(instance, d_teacher, steps, sizes)
    coefficient = float(law.coefficient)
    still = is_zero(law.product)
    vanishes = still or abs(coefficient) <= ROUNDING * float(typical)
    branch = DIFFERENT if student is not None else ORTHOGONAL if vanishes else TRANSFER
    # Whether eps is small enough shows in the law. Smaller ones are tried where the smallest is not.
    while branch == TRANSFER and hypotheses.hold and sizes[0] > SMALLEST:
        if _followed(steps)[0] and _concluded(steps)[0]:
            break
        smaller = [max(sizes[0] / 10**k, SMALLEST) for k in range(len(sizes), 0, -1)]
        more = measured(smaller)[-1]
        _require_finite_steps(instance, d_teacher, more, smaller)
        decided = np.flatnonzero(_followed(more) & _concluded(more))
        first = int(decided[-1]) if decided.size else max(smaller.count(SMALLEST) - 1, 0)
        sizes = smaller[first:] + sizes
        steps = Steps(*(np.concatenate([m[first:], s]) for m, s in zip(more, steps, strict=True)))

    epsilons = np.array(sizes)
    seen = _concluded(steps)
    if branch == ORTHOGONAL:
        seen = np.abs(steps.alignment) <= 10 * math.sqrt(ROUNDING) * (epsilons * float(typical) + steps.terms)
    verified = int(np.argmin([*seen, False]))  # how many hold from the smallest up

    failures = [check.failure for check in hypotheses.failing]
    smallest = sizes[0]
    if branch == ORTHOGONAL:
        failures += [
            f"A is {'exactly 0' if still else f'{coefficient:.2g}, rounding of 0'}, but d_S . d_T = {value:.3g} at "
            f"eps = {epsilon:g}"
            for epsilon, value in zip(epsilons[~seen], steps.alignment[~seen], strict=True)
        ]
    else:
        if not coefficient > 0:
            failures.append(f"A = d_T^T G d_T = {coefficient:.3g} is not positive")
        if not _followed(steps)[0]:
            failures.append(
                f"the student does not follow the first-order law: |d_S - eps G d_T| / |eps G d_T| = "
                f"{steps.remainder[0]:.3g} at eps = {smallest:g}"
            )
        if not steps.alignment[0] > 0:
            failures.append(f"d_S . d_T = {steps.alignment[0]:.3g} at eps = {smallest:g} is not positive")
        if not steps.change[0] < 0:
            failures.append(
                f"the student's step changes L_T by {steps.change[0]:.3g} at eps = {smallest:g}, no decrease"
            )
    if branch == DIFFERENT:
        failures.append("student_params differ from params, so the theorem says nothing")
    return TheoremReport(
        branch=branch,
        exact=branch == ORTHOGONAL and still and not steps.alignment.any(),
        failures=tuple(failures),
        epsilons=tuple(sizes),
        alignment=tuple(steps.alignment.tolist()),
        cosine=tuple(steps.cosine.tolist()),
        first_order=coefficient,
        relative_remainder=tuple(steps.remainder.tolist()),
        remainder_order=order_of_remainder(sizes, steps.remainder.tolist()),
        teacher_loss_change=tuple(steps.change.tolist()),
        largest_epsilon_verified=sizes[verified - 1] if verified else None,
        by_layer={name: float(value) for name, value in layers.items()},
        by_logit=tuple(np.asarray(law.by_logit).tolist()),
        transfer_ratio=float(transfer_ratio),
        alpha=alpha,
        hypotheses=hypotheses,
    )


def order_of_remainder(epsilons: Sequence[float], remainder: Sequence[float]) -> float | None:
    """Slope of the absolute remainder, where the relative one is neither rounding nor out of the asymptotic range.

    >>> round(order_of_remainder([1e-4, 1e-3], [1e-5, 1e-4]), 9)
    2.0
    """
    points = [(math.log(e), math.log(e * r)) for e, r in zip(epsilons, remainder, strict=True) if 1e-10 < r < 0.02]
    if len(points) < 2:
        return None
    x, y = np.array(points).T
    return float(np.polyfit(x, y, 1)[0])


def _law(
    instance: Instance, loss: PerExampleLoss, theta: Params, d_teacher: Params, mixed: Params, inputs: Any
) -> tuple[FirstOrder, jax.Array]:
    """The first-order law of d_T, and what A is for d_T with each entry times a random number: nothing cancels."""
    # In one loop: the product with G is compiled once.
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), d_teacher, mixed)
    laws = jax.lax.map(lambda d: first_order(instance.f, loss, theta, d, inputs, batch_size=instance.batch_size), both)
    return jax.tree.map(lambda leaf: leaf[0], laws), jnp.sum(laws.by_logit[1])


def _without_null_space(instance: Instance, hypotheses: Hypotheses) -> PerExampleLoss:
    """The imitation loss of outputs without their part in the null space of M, which it does not feel.

    Under the hypotheses that is the same loss, and a zero by cancellation (a softmax whose logits all move alike) is
    one to rounding of a square, where the loss itself would leave rounding of a term.
    """
    null_space = hypotheses.null_space
    if not hypotheses.hold or null_space is None or not null_space.any():
        return instance.imitation_loss
    chosen, selected_loss = instance.chosen, instance.selected_loss

    def loss(z: jax.Array, y: jax.Array) -> jax.Array:
        z, y = (each[..., chosen] - each[..., chosen] @ null_space for each in (z, y))
        return selected_loss(z, y)

    return loss


def _require_finite_steps(instance: Instance, d_teacher: Params, steps: Steps, sizes: Sequence[float]) -> None:
    for epsilon, cosine, change in zip(sizes, steps.cosine, steps.change, strict=True):
        if not np.isfinite(cosine):
            instance.require_finite(cosine, d_teacher)
        if np.isnan(change):
            raise ValueError(
                f"teacher_loss is not a number after the student's step at eps = {epsilon:g}; take a smaller alpha, or "
                "smaller epsilons"
            )


def _concluded(steps: Steps) -> Any:
    """Where the conclusion of the transfer branch is seen."""
    return (steps.alignment > 0) & (steps.change < 0)


def _followed(steps: Steps) -> Any:
    """Where the first-order law is."""
    return steps.remainder <= LAW


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
