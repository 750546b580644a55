"""Break the theorem: four instances without its conclusion, each for one reason, judged by `theorem.verify`."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

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


def test_another_initialisation(answer: Any) -> None:
    """another_initialisation."""
    instance = _instance(answer.another_initialisation)
    assert "student_params" in instance, "it has no `student_params`, so that the student starts where the teacher does"
    report = _verify(instance)
    assert report.branch == DIFFERENT, "student_params are the very numbers of params: that is no other initialisation"
    assert report.hypotheses.hold, "the loss fails the hypotheses too; here the start alone should be at fault"
    assert _against(report), (
        "the student still goes with the teacher: from another start that is a coin toss, so toss again"
    )
    _holds_otherwise(_verify({key: value for key, value in instance.items() if key != "student_params"}))


def test_violating_loss(answer: Any) -> None:
    """violating_loss."""
    instance = _instance(answer.violating_loss)
    assert "student_params" not in instance, "it has `student_params`; here the loss alone should be at fault"
    assert callable(instance.get("imitation_loss")), (
        "it has no `imitation_loss` of its own, a function of (student outputs, labels)"
    )
    report = _verify(instance)
    assert not report.hypotheses.hold, (
        "the loss fulfils every hypothesis of the theorem; which of them could a loss of outputs and labels fail?"
    )
    assert _against(report), (
        f"the loss fails the hypothesis {report.hypotheses.failing[0].name!r}, and yet the conclusion holds: the "
        "hypotheses are sufficient, not necessary. Where does the student go that minimises your loss?"
    )
    _holds_otherwise(_verify({**instance, "imitation_loss": "squared_error"}))


def test_exact_zero(answer: Any) -> None:
    """exact_zero."""
    instance = _instance(answer.exact_zero)
    assert "student_params" not in instance, "it has `student_params`; the orthogonal branch needs one start for both"
    report = _verify(instance)
    teaches, answers = _moves(instance)
    assert teaches, "the teacher's loss has no gradient here, so that there is nothing to transfer"
    assert answers, "the outputs do not depend on the parameters, so that no student could learn"
    assert report.hypotheses.hold, "the loss fails the hypotheses; the exact zero should happen within the theorem"
    assert report.branch != TRANSFER, f"the student transfers: A = {report.first_order:.2g} is not 0"
    assert report.branch == ORTHOGONAL, "this is not the orthogonal branch"
    assert report.holds, f"this is not the orthogonal branch: {report.failures[0]:.200}"
    assert report.exact, (
        "it is 0 to rounding only, because terms cancel. By structure every term is 0: where can d_T lie so that "
        "no output the student sees depends on it, or which outputs does a softmax not see?"
    )


def test_too_large_epsilon(answer: Any, conclude: Any) -> None:
    """too_large_epsilon."""
    instance = dict(_instance(answer.too_large_epsilon, "epsilon"))
    epsilon = float(instance.pop("epsilon"))
    assert 0 < epsilon <= 1000, f"`epsilon` must be above 0 and at most 1000, got {epsilon:g}"
    assert "student_params" not in instance, "it has `student_params`; here the step alone should be at fault"
    report = _verify(instance, sorted({*EPSILONS, epsilon}))
    at = report.epsilons.index(epsilon)
    assert report.alignment[at] < 0, (
        f"at eps = {epsilon:g} the student still goes with the teacher (cosine {report.cosine[at]:.2g}); how far must "
        "the outputs move before their first-order change says nothing about them?"
    )
    _holds_otherwise(report)
    conclude(True, f"against the teacher at eps = {epsilon:g}")


def _against(report: TheoremReport) -> bool:
    """Whether the student goes against the teacher at each of `EPSILONS`, and raises its loss."""
    return all(value < 0 for value in report.alignment) and all(value > 0 for value in report.teacher_loss_change)


def _holds_otherwise(report: TheoremReport) -> None:
    """The theorem must hold, on the branch of transfer, when the one thing that breaks it is put right."""
    otherwise = "without your change the theorem must hold, but then"
    assert report.branch == TRANSFER, f"{otherwise} nothing transfers at all (A = 0)"
    assert report.holds, f"{otherwise} something else fails: {report.failures[0]:.200}"


def _instance(function: Callable[[], Any], *extra: str) -> Mapping[str, Any]:
    """What a function of the answer returns, with the names and sizes that are allowed."""
    given = function()
    assert isinstance(given, Mapping), (
        f"it must return a dict of arguments of `theorem.verify`, got {type(given).__name__}"
    )
    for key in (*REQUIRED, *extra):
        assert key in given, f"it returns no {key!r}"
    for key in given:
        assert key in {*ALLOWED, *extra}, f"it returns {key!r}, which is not asked for; it may return {sorted(ALLOWED)}"
    parameters = sum(np.size(leaf) for leaf in jax.tree.leaves(given["params"]))
    inputs = max((len(leaf) for leaf in jax.tree.leaves(given["inputs"])), default=0)
    assert parameters <= PARAMETERS and inputs <= INPUTS, (  # noqa: PT018
        f"it has {parameters} parameters and {inputs} inputs; at most {PARAMETERS} and {INPUTS} are needed"
    )
    return {key: value for key, value in given.items() if value is not None}


def _verify(instance: Mapping[str, Any], epsilons: Sequence[float] = EPSILONS) -> TheoremReport:
    return theorem.verify(**instance, epsilons=epsilons, alpha=ALPHA)


def _moves(instance: Mapping[str, Any]) -> tuple[bool, bool]:
    """Whether the teacher's loss has a gradient, and whether the student's outputs depend on the parameters."""
    with in_float64():
        checked = theorem.Instance(**{"imitation_loss": "kl", **instance})
        vector, restore = ravel_pytree(checked.params)
        elsewhere = restore(vector + np.random.default_rng(7).normal(size=vector.shape))
        outputs = [np.asarray(checked.f(params, checked.inputs)) for params in (checked.params, elsewhere)]
        return bool(np.any(ravel_pytree(checked.d_teacher)[0])), bool(np.any(outputs[0] != outputs[1]))
