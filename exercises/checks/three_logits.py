"""Three logits: what an answer claims, run again on seeds that it has not seen, in pairs with the baseline."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from exercises.answer import Answer, AnswerError, Finding
from exercises.three_logits import BASELINE, HIDDEN_SEEDS, accuracies, changed
from experiments import fig10
from experiments.distillation import Rates
from experiments.experiment import Settings
from sublim_theory.protocols import SublimError
from sublim_theory.statistics import Summary, summarize

SEEDS = 12
DIRECTIONS = {"up": 1, "down": -1, "none": 0}
FACTORS = 3
CLEAR = 0.05
"""An effect of the whole interval beyond this is not `none`."""


def check(
    answer: Answer, baseline: Settings[fig10.Protocol, Rates] = BASELINE, seeds: int = SEEDS
) -> Iterator[str | Finding]:
    """Findings on `FACTORS`, `FOUND`, `BEST` and `GAIN`."""
    factors, wrong = _factors(answer)
    yield Finding("FACTORS, as a plan", not wrong, wrong or "three of them, each with what is expected and why")
    if wrong:
        return
    found = _found(answer, factors)
    best, gain = _best(answer), _gain(answer)
    yield Finding("BEST, within bounds", True, ", ".join(f"{name} = {value}" for name, value in best.items()))

    def run(settings: Mapping[str, Any]) -> np.ndarray:
        try:
            return accuracies(settings, seeds, HIDDEN_SEEDS + 77, baseline)
        except SublimError as error:
            raise AnswerError(f"with {dict(settings)} the run fails: {error}") from error

    yield f"the baseline, {seeds} hidden seeds"
    start = run({})
    for number, (name, factor) in enumerate(factors.items()):
        yield f"factor {number + 1} of {len(factors)}, {name}"
        effect = summarize(run({name: factor["value"]}) - start)
        yield _factor(name, factor, found[name], effect)
    yield "the best setting"
    reached = run(best)
    yield _improvement(summarize(reached - start), summarize(reached), gain)


def _factors(answer: Answer) -> tuple[dict[str, dict[str, Any]], str]:
    """The plan, and what is wrong with it."""
    factors = answer.value("FACTORS")
    shape = "{setting: {'value': ..., 'expected': 'up', 'down' or 'none', 'because': 'a sentence'}}"
    if not isinstance(factors, Mapping) or len(factors) != FACTORS:
        return {}, f"FACTORS must have {FACTORS} factors: {shape}"
    for name, factor in factors.items():
        if not isinstance(factor, Mapping) or not {"value", "expected", "because"} <= set(factor):
            return {}, f"the factor {name!r} must be a dict with value, expected and because: {shape}"
        if factor["value"] is None:
            return {}, f"the factor {name!r} is still to do"
        if factor["expected"] not in DIRECTIONS:
            return {}, f"the factor {name!r} expects {factor['expected']!r}; it must be 'up', 'down' or 'none'"
        if len(str(factor["because"]).split()) < 5:
            return {}, f"the factor {name!r} says in no sentence why; a direction without a reason is a guess"
        try:
            same = changed({name: factor["value"]}) == BASELINE
        except SublimError as error:
            return {}, str(error)
        if same:
            return {}, f"the factor {name!r} changes nothing: its value is the baseline's"
    return {name: dict(factor) for name, factor in factors.items()}, ""


def _found(answer: Answer, factors: Mapping[str, Any]) -> dict[str, str]:
    found = answer.value("FOUND")
    if not isinstance(found, Mapping) or set(found) != set(factors):
        raise AnswerError(f"FOUND must say 'up', 'down' or 'none' for each of {', '.join(factors)}")
    for name, direction in found.items():
        if direction not in DIRECTIONS:
            raise AnswerError(f"FOUND says {direction!r} of {name}; it must say 'up', 'down' or 'none'")
    return dict(found)


def _best(answer: Answer) -> dict[str, Any]:
    best = answer.value("BEST")
    try:
        same = changed(best) == BASELINE
    except SublimError as error:
        raise AnswerError(f"BEST: {error}") from error
    if same:
        raise AnswerError("BEST is the baseline itself")
    return dict(best)


def _gain(answer: Answer) -> tuple[float, float]:
    """The claimed gain and the half-width of its interval."""
    given = answer.value("GAIN")
    with answer.guarded("GAIN"):
        mean, half_width = (float(value) for value in given)
    if not -1 <= mean <= 1 or not 0 < half_width < 1:
        raise AnswerError(f"GAIN must be (mean, half-width of its 95% interval) of paired differences, got {given!r}")
    return mean, half_width


def _interval(effect: Summary) -> str:
    return f"{effect.mean:+.3f} ± {effect.ci95 or 0:.3f} on {effect.n} hidden seeds"


def _factor(name: str, factor: Mapping[str, Any], found: str, effect: Summary) -> Finding:
    """Whether what was found holds; that it was expected is to be said, and no mistake if not."""
    half = effect.ci95 or 0.0
    low, high = effect.mean - half, effect.mean + half
    direction = DIRECTIONS[found]
    contradicted = (low > CLEAR or high < -CLEAR) if direction == 0 else (high < 0 if direction > 0 else low > 0)
    expected = DIRECTIONS[factor["expected"]]
    seen = 1 if low > 0 else -1 if high < 0 else 0
    verdict = "held" if seen == expected else "is undecided" if seen == 0 else "did not hold"
    remark = f"{_interval(effect)}; the expected direction, {factor['expected']}, {verdict}"
    if contradicted:
        remark += f"; FOUND says {found}, which these seeds contradict: how many seeds, and were they paired?"
    return Finding(f"factor {name} = {factor['value']}", not contradicted, remark)


def _improvement(effect: Summary, reached: Summary, claimed: tuple[float, float]) -> Finding:
    """Whether the claimed best is better than the baseline, by as much as is claimed."""
    half = effect.ci95 or 0.0
    mean, half_width = claimed
    apart = abs(effect.mean - mean) > np.hypot(half, half_width)
    remark = f"{_interval(effect)}, to an accuracy of {reached.mean:.3f}; claimed {mean:+.3f} ± {half_width:.3f}"
    if effect.mean - half <= 0:
        return Finding("BEST, the improvement", False, f"{remark}; its interval reaches down to 0: no gain is shown")
    if apart:
        remark += "; the two intervals do not fit together: were the seeds few, or those that the best was chosen on?"
    return Finding("BEST, the improvement", not apart, remark)
