"""Theorem 1 as a check: hand in a function, a teacher's loss and inputs; learn whether the conclusion holds, and how.

    report = verify(f, params, teacher_loss, inputs)
    print(report)
    report.require()  # in anybody's test suite

Everything is computed in float64, whatever the caller's setting, which is left as it was: in float32 the sign itself
is wrong below about eps = 1e-6.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sublim_theory import trees
from sublim_theory.protocols import Apply, Params
from sublim_theory.theorem.alignment import FirstOrder, by_layer, first_order
from sublim_theory.theorem.hypotheses import Hypotheses, check_loss
from sublim_theory.theorem.problem import (
    ImitationLoss,
    Logits,
    Problem,
    in_float64,
    like_params,
    problem,
    require_positive,
    teacher_direction,
)
from sublim_theory.theorem.report import DIFFERENT, ORTHOGONAL, TRANSFER, TheoremReport
from sublim_theory.theorem.updates import TeacherLoss, change_along, student_direction

EPSILONS = tuple(10.0**-k for k in range(9, -1, -1))
"""Sizes of the teacher's step that are tried unless others are given: 1e-9, 1e-8, ..., 1."""

LAW = 0.1
"""Relative remainder at the smallest eps above which the student does not follow the first-order law. Under the
hypotheses the remainder goes to 0 with eps; from another initialisation it grows like 1 / eps."""

LARGEST_DENSE = 256
"""Number of outputs above which the hypotheses, which form matrices of that size, are not checked."""


class Step(NamedTuple):
    """Scalars at one eps."""

    alignment: jax.Array
    cosine: jax.Array
    remainder: jax.Array
    loss_change: jax.Array


def verify(
    f: Apply,
    params: Params,
    teacher_loss: TeacherLoss,
    inputs: Any,
    *,
    imitation_loss: ImitationLoss = "kl",
    logits: Logits = None,
    epsilons: Sequence[float] = EPSILONS,
    alpha: float = 1.0,
    student_params: Params | None = None,
    batch_size: int | None = None,
) -> TheoremReport:
    """Check Lemma 1 and Theorem 1 (arXiv 2507.14805, section 6.1) on one instance.

    Args:
        f: `f(params, x) -> outputs [batch, n]`, a pure JAX function of any pytree of parameters.
        params: the shared initialisation; floating-point leaves.
        teacher_loss: `teacher_loss(params) -> scalar`, differentiable; it need not be related to f, the inputs or the
            imitation loss.
        inputs: the student's inputs, a pytree of arrays [inputs, ...], any distribution.
        imitation_loss: `kl`, `cross_entropy`, `squared_error`, `huber`, or a per-example loss of (student outputs,
            labels) -> [batch].
        logits: the outputs that the student imitates, a slice or indices; all unless given.
        epsilons: sizes of the teacher's gradient step, positive.
        alpha: size of the student's gradient step, positive.
        student_params: the student's initialisation, if it is another one; the theorem then says nothing, and the
            report shows what happens.
        batch_size: inputs at a time; all unless given.

    Returns:
        The report; print it, or call its `require()`.

    Raises:
        ValueError: naming the argument that is wrong.
    """
    sizes = sorted({float(epsilon) for epsilon in epsilons})
    if not sizes or not all(size > 0 and math.isfinite(size) for size in sizes):
        raise ValueError(f"epsilons must be positive and finite, at least one of them; got {list(epsilons)}")
    require_positive("alpha", alpha)
    with in_float64():
        given = problem(
            f, params, teacher_loss, inputs, imitation_loss=imitation_loss, logits=logits, batch_size=batch_size
        )
        student = None
        if student_params is not None:
            student = like_params("student_params", student_params, given.params)
            if all(jax.tree.leaves(jax.tree.map(np.array_equal, given.params, student))):
                student = None
        return _verify(given, sizes, alpha, student)


def _verify(given: Problem, epsilons: list[float], alpha: float, student: Params | None) -> TheoremReport:
    d_teacher = teacher_direction(given)

    def law(theta: Params, d: Params, inputs: Any) -> tuple[FirstOrder, dict[str, jax.Array], jax.Array]:
        result = first_order(given.f, theta, d, inputs, given.imitation_loss, batch_size=given.batch_size)
        return result, by_layer(d, result.product), trees.dot(d, d)

    first, layers, square = jax.jit(law)(given.params, d_teacher, given.inputs)
    at = jax.jit(lambda *arguments: _step(given, alpha, student, *arguments))
    steps = [at(given.params, d_teacher, first, given.inputs, jnp.float64(epsilon)) for epsilon in epsilons]
    alignment, cosine, remainder, change = (tuple(float(value) for value in row) for row in zip(*steps, strict=True))

    coefficient = float(first.coefficient)
    vanishes = all(not np.any(leaf) for leaf in jax.tree.leaves(first.product))
    branch = DIFFERENT if student is not None else ORTHOGONAL if vanishes else TRANSFER
    seen = [value == 0 if branch == ORTHOGONAL else value > 0 for value in alignment]
    if branch != ORTHOGONAL:
        seen = [aligned and fall < 0 for aligned, fall in zip(seen, change, strict=True)]
    verified = None
    for epsilon, conclusion in zip(epsilons, seen, strict=True):
        if not conclusion:
            break
        verified = epsilon

    hypotheses = _hypotheses(given)
    failures = [
        f"the imitation loss fails the hypothesis {check.name!r} by {check.size:.2g} at {check.witness}"
        for check in hypotheses.failing
    ]
    smallest = epsilons[0]
    if branch == ORTHOGONAL:
        failures += [
            f"A is exactly 0, but d_S . d_T = {value:.3g} at eps = {epsilon:g}"
            for epsilon, value in zip(epsilons, alignment, strict=True)
            if value != 0
        ]
    else:
        if coefficient <= 0:
            failures.append(f"A = d_T^T G d_T = {coefficient:.3g} is not positive")
        if not remainder[0] <= LAW:
            failures.append(
                f"the student does not follow the first-order law: |d_S - eps G d_T| / |eps G d_T| = "
                f"{remainder[0]:.3g} at eps = {smallest:g}"
            )
        if not alignment[0] > 0:
            failures.append(f"d_S . d_T = {alignment[0]:.3g} at eps = {smallest:g} is not positive")
        if not change[0] < 0:
            failures.append(f"the student's step changes L_T by {change[0]:.3g} at eps = {smallest:g}, no decrease")
    if branch == DIFFERENT:
        failures.append("student_params differ from params, so the theorem says nothing")
    return TheoremReport(
        branch=branch,
        failures=tuple(failures),
        epsilons=tuple(epsilons),
        alignment=alignment,
        cosine=cosine,
        first_order=coefficient,
        relative_remainder=remainder,
        remainder_order=order_of_remainder(epsilons, remainder),
        teacher_loss_change=change,
        largest_epsilon_verified=verified,
        by_layer={name: float(value) for name, value in layers.items()},
        by_logit=tuple(float(value) for value in first.by_logit),
        transfer_ratio=alpha * coefficient / float(square) if square else 0.0,
        alpha=alpha,
        hypotheses=hypotheses,
    )


def _step(
    given: Problem,
    alpha: float,
    student: Params | None,
    theta: Params,
    d_teacher: Params,
    first: FirstOrder,
    inputs: Any,
    epsilon: jax.Array,
) -> Step:
    """The student's step after a teacher's step of size eps, divided by eps where digits would be lost otherwise."""
    direction = student_direction(
        given.f,
        theta,
        d_teacher,
        epsilon,
        inputs,
        given.imitation_loss,
        velocity=first.velocity,
        student_params=student,
        batch_size=given.batch_size,
    )
    size = trees.norm(first.product)
    rest = trees.norm(trees.axpy(-1, first.product, direction))
    start = theta if student is None else student
    change = change_along(given.teacher_loss, start, trees.scale(alpha * epsilon, direction))
    return Step(
        epsilon * trees.dot(direction, d_teacher),
        trees.cosine(direction, d_teacher),
        jnp.where(rest > 0, rest / size, 0),
        change,
    )


def _hypotheses(given: Problem) -> Hypotheses:
    """The hypotheses at outputs of f and at others around them; none where there are too many outputs."""
    z = np.asarray(given.outputs)
    if z.shape[1] > LARGEST_DENSE:
        return Hypotheses(())
    around = np.random.default_rng(0).normal(size=z.shape) + z
    return check_loss(given.selected_loss, np.concatenate([z, around]))


def order_of_remainder(epsilons: Sequence[float], remainder: Sequence[float]) -> float | None:
    """Slope of the absolute remainder, where the relative one is neither rounding nor out of the asymptotic range."""
    points = [(math.log(e), math.log(e * r)) for e, r in zip(epsilons, remainder, strict=True) if 1e-10 < r < 0.02]
    if len(points) < 2:
        return None
    x, y = np.array(points).T
    return float(np.polyfit(x, y, 1)[0])
