"""Break the theorem: four instances without its conclusion, each for one reason, judged by `theorem.verify`."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from exercises.answer import Answer, AnswerError, Finding
from sublim_theory import theorem
from sublim_theory.theorem import TheoremReport
from sublim_theory.theorem.compiling import in_float64
from sublim_theory.theorem.verify import DIFFERENT, ORTHOGONAL, TRANSFER

ALPHA = 1e-4
"""The student's step: small, so that to first order its alignment alone decides what becomes of the teacher's loss."""

EPSILONS = (1e-7, 1e-5, 1e-3)
"""The teacher's steps, all small; not those of the statement."""

PARAMETERS, INPUTS = 10_000, 1_000
"""Bounds on an instance."""

ALLOWED = {name for name in inspect.signature(theorem.verify).parameters if name not in ("epsilons", "alpha")}
REQUIRED = ("f", "params", "teacher_loss", "inputs")

HOLDS = "without your change the theorem holds"
"""What every instance must do when the one thing that breaks it is put right."""


def check(answer: Answer) -> Iterator[str | Finding]:
    """Findings on the four functions of the statement."""
    yield "another_initialisation"
    yield from _another_initialisation(answer)
    yield "violating_loss"
    yield from _violating_loss(answer)
    yield "exact_zero"
    yield from _exact_zero(answer)
    yield "too_large_epsilon"
    yield from _too_large_epsilon(answer)


def _another_initialisation(answer: Answer) -> Iterator[Finding]:
    name = "another_initialisation"
    try:
        instance = _instance(answer, name)
        if "student_params" not in instance:
            raise AnswerError(f"`{name}` has no `student_params`, so that the student starts where the teacher starts")
        report = _verify(answer, name, instance)
        same = _verify(answer, name, {key: value for key, value in instance.items() if key != "student_params"})
    except AnswerError as error:
        yield Finding(name, False, str(error))
        return
    if report.branch != DIFFERENT:
        yield Finding(name, False, "student_params are the very numbers of params: that is no other initialisation")
    elif not report.hypotheses.hold:
        yield Finding(name, False, "the loss fails the hypotheses too; here the start alone should be at fault")
    else:
        yield _against(
            name,
            report,
            "the student still goes with the teacher: from another start that is a coin toss, so toss again",
        )
    yield _otherwise(name, same)


def _violating_loss(answer: Answer) -> Iterator[Finding]:
    name = "violating_loss"
    try:
        instance = _instance(answer, name)
        if "student_params" in instance:
            raise AnswerError(f"`{name}` has `student_params`; here the loss alone should be at fault")
        if not callable(instance.get("imitation_loss")):
            raise AnswerError(f"`{name}` has no `imitation_loss` of its own, a function of (student outputs, labels)")
        report = _verify(answer, name, instance)
        sound = _verify(answer, name, {**instance, "imitation_loss": "squared_error"})
    except AnswerError as error:
        yield Finding(name, False, str(error))
        return
    if report.hypotheses.hold:
        yield Finding(
            name,
            False,
            "the loss fulfils every hypothesis of the theorem; which of them could a loss of outputs and labels fail?",
        )
    else:
        failing = report.hypotheses.failing[0].name
        yield _against(
            name,
            report,
            f"the loss fails the hypothesis {failing!r}, and yet the conclusion holds: the hypotheses are sufficient, "
            "not necessary. Where does the student go that minimises your loss?",
        )
    yield _otherwise(name, sound)


def _exact_zero(answer: Answer) -> Iterator[Finding]:
    name = "exact_zero"
    try:
        instance = _instance(answer, name)
        if "student_params" in instance:
            raise AnswerError(f"`{name}` has `student_params`; the orthogonal branch needs one start for both")
        report = _verify(answer, name, instance)
        teaches, answers = _moves(answer, name, instance)
    except AnswerError as error:
        yield Finding(name, False, str(error))
        return
    zero = "d_S . d_T is exactly 0.0 at every eps"
    if not report.hypotheses.hold:
        yield Finding(name, False, "the loss fails the hypotheses; the exact zero should happen within the theorem")
    elif report.branch == TRANSFER:
        yield Finding(name, False, f"the student transfers: A = {report.first_order:.2g} is not 0")
    elif report.branch != ORTHOGONAL or report.failures:
        yield Finding(name, False, f"this is not the orthogonal branch: {report.failures[0]:.200}")
    elif not report.exact:
        yield Finding(
            name,
            False,
            "it is 0 to rounding only, because terms cancel. By structure every term is 0: where can d_T lie so that "
            "no output the student sees depends on it, or which outputs does a softmax not see?",
        )
    else:
        yield Finding(name, True, zero)
    idle = "" if teaches else "the teacher's loss has no gradient here, so that there is nothing to transfer"
    idle = idle or ("" if answers else "the outputs do not depend on the parameters, so that no student could learn")
    yield Finding(f"{name}, and not for lack of a teacher or a student", not idle, idle or "both could move")


def _too_large_epsilon(answer: Answer) -> Iterator[Finding]:
    name = "too_large_epsilon"
    try:
        instance = dict(_instance(answer, name, "epsilon"))
        with answer.guarded(f"`epsilon` of `{name}`"):
            epsilon = float(instance.pop("epsilon"))
        if not 0 < epsilon <= 1000:
            raise AnswerError(f"`epsilon` of `{name}` must be above 0 and at most 1000, got {epsilon:g}")
        if "student_params" in instance:
            raise AnswerError(f"`{name}` has `student_params`; here the step alone should be at fault")
        report = _verify(answer, name, instance, sorted({*EPSILONS, epsilon}))
    except AnswerError as error:
        yield Finding(name, False, str(error))
        return
    at = report.epsilons.index(epsilon)
    hint = (
        f"at eps = {epsilon:g} the student still goes with the teacher (cosine {report.cosine[at]:.2g}); how far must "
        "the outputs move before their first-order change says nothing about them?"
    )
    fails = report.alignment[at] < 0
    yield Finding(name, fails, f"against the teacher at eps = {epsilon:g}" if fails else hint)
    yield _otherwise(name, report)


def _against(name: str, report: TheoremReport, hint: str) -> Finding:
    """Whether the student goes against the teacher at each of `EPSILONS`."""
    against = all(value < 0 for value in report.alignment) and all(value > 0 for value in report.teacher_loss_change)
    return Finding(name, against, "the student goes against the teacher and raises L_T" if against else hint)


def _otherwise(name: str, report: TheoremReport) -> Finding:
    """Whether the theorem holds, on the branch of transfer, once the change is undone."""
    what = f"{name}, undone"
    if report.branch == TRANSFER and report.holds:
        return Finding(what, True, HOLDS)
    if report.branch == TRANSFER:
        return Finding(what, False, f"{HOLDS} is asked for, but then something else fails: {report.failures[0]:.200}")
    return Finding(what, False, f"{HOLDS} is asked for, but then nothing transfers at all (A = 0)")


def _instance(answer: Answer, name: str, *extra: str) -> Mapping[str, Any]:
    """What the function of that name returns, with the names and sizes that are allowed."""
    given = answer.call(name)
    if not isinstance(given, Mapping):
        raise AnswerError(f"`{name}` must return a dict of arguments of `theorem.verify`, got {type(given).__name__}")
    if missing := [key for key in (*REQUIRED, *extra) if key not in given]:
        raise AnswerError(f"`{name}` returns no {missing[0]!r}")
    if unknown := [key for key in given if key not in {*ALLOWED, *extra}]:
        raise AnswerError(f"`{name}` returns {unknown[0]!r}, which is not asked for; it may return {sorted(ALLOWED)}")
    with answer.guarded(f"what `{name}` returns"):
        parameters = sum(np.size(leaf) for leaf in jax.tree.leaves(given["params"]))
        inputs = max((len(leaf) for leaf in jax.tree.leaves(given["inputs"])), default=0)
    if parameters > PARAMETERS or inputs > INPUTS:
        raise AnswerError(
            f"`{name}` has {parameters} parameters and {inputs} inputs; at most {PARAMETERS} and {INPUTS} are needed"
        )
    return {key: value for key, value in given.items() if value is not None}


def _verify(
    answer: Answer, name: str, instance: Mapping[str, Any], epsilons: tuple[float, ...] | list[float] = EPSILONS
) -> TheoremReport:
    with answer.guarded(f"what `{name}` returns"):
        return theorem.verify(**instance, epsilons=epsilons, alpha=ALPHA)


def _moves(answer: Answer, name: str, instance: Mapping[str, Any]) -> tuple[bool, bool]:
    """Whether the teacher's loss has a gradient, and whether the student's outputs depend on the parameters."""
    with answer.guarded(f"what `{name}` returns"), in_float64():
        checked = theorem.Instance(
            instance["f"],
            instance["params"],
            instance["teacher_loss"],
            instance["inputs"],
            imitation_loss=instance.get("imitation_loss", "kl"),
            logits=instance.get("logits"),
        )
        vector, restore = ravel_pytree(checked.params)
        elsewhere = restore(vector + np.random.default_rng(7).normal(size=vector.shape))
        outputs = [np.asarray(checked.f(params, checked.inputs)) for params in (checked.params, elsewhere)]
        return bool(np.any(ravel_pytree(checked.d_teacher)[0])), bool(np.any(outputs[0] != outputs[1]))
