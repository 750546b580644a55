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
from jax.flatten_util import ravel_pytree

from sublim_theory import trees
from sublim_theory.protocols import Apply, Params
from sublim_theory.theorem.alignment import FirstOrder, by_layer, first_order
from sublim_theory.theorem.arguments import Logits, like_params, require_positive, require_sizes
from sublim_theory.theorem.hypotheses import Hypotheses, check_loss
from sublim_theory.theorem.problem import ImitationLoss, Problem, in_float64
from sublim_theory.theorem.report import DIFFERENT, ORTHOGONAL, TRANSFER, TheoremReport
from sublim_theory.theorem.updates import TeacherLoss, change_along, student_direction, teacher_update

EPSILONS = tuple(10.0**-k for k in range(9, -1, -1))
"""Sizes of the teacher's step that are tried unless others are given: 1e-9, 1e-8, ..., 1."""

SMALLEST = 1e-12
"""The smallest that is added to them where none is small enough to decide."""

LAW = 0.1
"""Relative remainder at the smallest eps above which the student does not follow the first-order law. Under the
hypotheses the remainder goes to 0 with eps; from another initialisation it grows like 1 / eps."""

LARGEST_DENSE = 256
"""Number of outputs above which the hypotheses, which form matrices of that size, are not checked."""


LITTLE = 1e8
"""Parameters times inputs below which compiling takes longer than computing."""

QUICK = {"xla_backend_optimization_level": 0}
"""Compiles in two thirds of the time."""

ROUNDING = 1e-26
"""A is quadratic in v = J d_T: relative to its size where nothing cancels, (1e-13)**2 is rounding."""


class Steps(NamedTuple):
    """Scalars at each eps, [epsilons] each.

    Attributes:
        alignment: `d_S . d_T`.
        cosine: of the angle between them.
        remainder: `|d_S - eps G d_T| / |eps G d_T|`.
        change: of the teacher's loss by the student's step.
        terms: sum of the sizes of the products that add up to the alignment.
    """

    alignment: Any
    cosine: Any
    remainder: Any
    change: Any
    terms: Any

    def concluded(self) -> Any:
        """Where the conclusion of the transfer branch is seen."""
        return (self.alignment > 0) & (self.change < 0)

    def followed(self) -> Any:
        """Where the first-order law is."""
        return self.remainder <= LAW


class Law(NamedTuple):
    """What holds to first order, whatever eps.

    Attributes:
        first: the first-order law.
        layers: the share of each parameter group in A.
        square: `|d_T|**2`.
        typical: what A is for d_T with each entry times a random number, so that nothing cancels.
    """

    first: FirstOrder
    layers: dict[str, Any]
    square: Any
    typical: Any


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
        epsilons: sizes of the teacher's gradient step, positive. Where the smallest is not small enough to decide,
            smaller ones are added, down to `SMALLEST`.
        alpha: size of the student's gradient step, positive.
        student_params: the student's initialisation, if it is another one; the theorem then says nothing, and the
            report shows what happens.
        batch_size: inputs at a time; all unless given.

    Returns:
        The report; print it, or call its `require()`.

    Raises:
        ValueError: naming the argument that is wrong.
    """
    sizes = require_sizes("epsilons", epsilons)
    alpha = require_positive("alpha", alpha)
    with in_float64():
        given = Problem(
            f, params, teacher_loss, inputs, imitation_loss=imitation_loss, logits=logits, batch_size=batch_size
        )
        student = None
        if student_params is not None:
            student = like_params("student_params", student_params, given.params)
            if all(jax.tree.leaves(jax.tree.map(np.array_equal, given.params, student))):
                student = None
        return _verify(given, sizes, alpha, student)


def _verify(given: Problem, sizes: list[float], alpha: float, student: Params | None) -> TheoremReport:
    hypotheses = _hypotheses(given)
    random = np.random.default_rng(0)
    factors = jax.tree.map(lambda leaf: random.normal(size=leaf.shape), given.params)
    work = sum(leaf.size for leaf in jax.tree.leaves(given.params)) * len(jax.tree.leaves(given.inputs)[0])
    program = jax.jit(
        lambda *arguments: _measure(given, alpha, *arguments),  # closed over, they would be folded while it compiles
        compiler_options=QUICK if work < LITTLE else None,
    )

    def measure(epsilons: list[float]) -> tuple[Law, Steps]:
        law, steps = program(student, given.params, given.inputs, factors, np.array(epsilons))
        return law, Steps(*map(np.asarray, steps))

    law, steps = measure(sizes)
    if not np.isfinite(law.square):
        raise ValueError("the gradient of teacher_loss is not finite at params")
    coefficient, typical = float(law.first.coefficient), float(law.typical)
    still = not any(np.any(leaf) for leaf in jax.tree.leaves(law.first.product))
    vanishes = still or abs(coefficient) <= ROUNDING * typical
    branch = DIFFERENT if student is not None else ORTHOGONAL if vanishes else TRANSFER
    # Whether eps is small enough shows in the law. Smaller ones are tried where the smallest is not.
    while branch == TRANSFER and hypotheses.hold and sizes[0] > SMALLEST:
        if steps.followed()[0] and steps.concluded()[0]:
            break
        smaller = [max(sizes[0] / 10**k, SMALLEST) for k in range(len(sizes), 0, -1)]
        more = measure(smaller)[1]
        decided = np.flatnonzero(more.followed() & more.concluded())
        first = int(decided[-1]) if decided.size else max(smaller.count(SMALLEST) - 1, 0)
        sizes = smaller[first:] + sizes
        steps = Steps(*(np.concatenate([m[first:], s]) for m, s in zip(more, steps, strict=True)))

    epsilons = np.array(sizes)
    seen = steps.concluded()
    if branch == ORTHOGONAL:
        seen = np.abs(steps.alignment) <= 10 * math.sqrt(ROUNDING) * (epsilons * typical + steps.terms)
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
        if not steps.followed()[0]:
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
        by_layer={name: float(value) for name, value in law.layers.items()},
        by_logit=tuple(np.asarray(law.first.by_logit).tolist()),
        transfer_ratio=alpha * coefficient / float(law.square) if law.square else 0.0,
        alpha=alpha,
        hypotheses=hypotheses,
    )


def _measure(
    given: Problem,
    alpha: float,
    student: Params | None,
    theta: Params,
    inputs: Any,
    factors: Params,
    epsilons: jax.Array,
) -> tuple[Law, Steps]:
    """The law, and the student's step after a teacher's step of each size."""
    f, loss, batch_size = given.f, given.imitation_loss, given.batch_size
    d_teacher = teacher_update(given.teacher_loss, theta)
    first = first_order(f, theta, d_teacher, inputs, loss, batch_size=batch_size)
    random = jax.tree.map(jnp.multiply, factors, d_teacher)
    typical = jnp.sum(first_order(f, theta, random, inputs, loss, batch_size=batch_size).by_logit)
    start = theta if student is None else student
    # As vectors: an operation on each leaf would be compiled for each.
    teacher, product = ravel_pytree(d_teacher)[0], ravel_pytree(first.product)[0]

    def step(epsilon: jax.Array) -> Steps:
        # Divided by eps, as digits would be lost otherwise.
        direction = student_direction(
            f,
            theta,
            d_teacher,
            epsilon,
            inputs,
            loss,
            velocity=first.velocity,
            student_params=student,
            batch_size=batch_size,
        )
        vector = ravel_pytree(direction)[0]
        rest = trees.norm(vector - product)
        return Steps(
            epsilon * trees.dot(vector, teacher),
            trees.cosine(vector, teacher),
            jnp.where(rest > 0, rest / trees.norm(product), 0),
            change_along(given.teacher_loss, start, trees.scale(alpha * epsilon, direction)),
            epsilon * trees.dot(jnp.abs(vector), jnp.abs(teacher)),
        )

    law = Law(first, by_layer(d_teacher, first.product), trees.dot(teacher, teacher), typical)
    return law, jax.lax.map(step, epsilons)


def _hypotheses(given: Problem) -> Hypotheses:
    """The hypotheses at outputs of f and at others; none where there are too many outputs."""
    z = np.asarray(given.outputs)
    if z.shape[1] > LARGEST_DENSE:
        return Hypotheses(())
    random = np.random.default_rng(0)
    normal = random.normal(size=(2, *z.shape))
    mixed = random.dirichlet(np.ones(len(z)), len(z)) @ z
    try:
        return check_loss(given.selected_loss, np.concatenate([z, z + normal[0], normal[1]]))
    except ValueError:  # a loss of probabilities, say, is one of such outputs alone
        return check_loss(given.selected_loss, np.concatenate([z, mixed]))


def order_of_remainder(epsilons: Sequence[float], remainder: Sequence[float]) -> float | None:
    """Slope of the absolute remainder, where the relative one is neither rounding nor out of the asymptotic range."""
    points = [(math.log(e), math.log(e * r)) for e, r in zip(epsilons, remainder, strict=True) if 1e-10 < r < 0.02]
    if len(points) < 2:
        return None
    x, y = np.array(points).T
    return float(np.polyfit(x, y, 1)[0])
