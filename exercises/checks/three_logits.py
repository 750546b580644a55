"""Three logits: what an answer claims, run again on seeds that it has not seen, in pairs with the baseline."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from exercises.three_logits import BASELINE, HIDDEN_SEEDS, accuracies, changed
from sublim_theory.statistics import Summary, summarize

SEEDS = 12
DIRECTIONS = {"up": 1, "down": -1, "none": 0}
FACTORS = 3
CLEAR = 0.05
"""An effect of the whole interval beyond this is not `none`."""


def run(settings: Mapping[str, Any]) -> np.ndarray:
    """Accuracies on hidden seeds."""
    return accuracies(settings, SEEDS, HIDDEN_SEEDS + 77)


@pytest.fixture(scope="module")
def baseline(right_so_far: None) -> np.ndarray:  # noqa: ARG001
    """Those of the baseline."""
    return run({})


def test_plan(answer: Any) -> None:
    """FACTORS, as a plan."""
    factors = answer.FACTORS
    shape = "{setting: {'value': ..., 'expected': 'up', 'down' or 'none', 'because': 'a sentence'}}"
    assert isinstance(factors, Mapping) and len(factors) == FACTORS, f"it must have {FACTORS} factors: {shape}"  # noqa: PT018
    for name, factor in factors.items():
        assert isinstance(factor, Mapping) and {"value", "expected", "because"} <= set(factor), (  # noqa: PT018
            f"the factor {name!r} must be a dict with value, expected and because: {shape}"
        )
        assert factor["value"] is not None, f"the factor {name!r} is still to do"
        assert factor["expected"] in DIRECTIONS, (
            f"the factor {name!r} expects {factor['expected']!r}; it must be 'up', 'down' or 'none'"
        )
        assert len(str(factor["because"]).split()) >= 5, (
            f"the factor {name!r} says in no sentence why; a direction without a reason is a guess"
        )
        assert changed({name: factor["value"]}) != BASELINE, (
            f"the factor {name!r} changes nothing: its value is the baseline's"
        )


def test_found(answer: Any) -> None:
    """FOUND, for every factor."""
    found, names = answer.FOUND, list(answer.FACTORS)
    assert found is not None, "it is still to do"
    assert isinstance(found, Mapping) and set(found) == set(names), (  # noqa: PT018
        f"it must say 'up', 'down' or 'none' for each of {', '.join(names)}"
    )
    for name, direction in found.items():
        assert direction in DIRECTIONS, f"it says {direction!r} of {name}; it must say 'up', 'down' or 'none'"


def test_best(answer: Any) -> None:
    """BEST, within bounds."""
    assert answer.BEST is not None, "it is still to do"
    assert changed(answer.BEST) != BASELINE, "it is the baseline itself"


def test_gain(answer: Any) -> None:
    """GAIN, with its interval."""
    assert answer.GAIN is not None, "it is still to do"
    mean, half_width = map(float, answer.GAIN)
    assert -1 <= mean <= 1 and 0 < half_width < 1, (  # noqa: PT018
        f"it must be (mean, half-width of its 95% interval) of paired differences, got {answer.GAIN!r}"
    )


@pytest.mark.parametrize("number", range(1, FACTORS + 1))
def test_factor(answer: Any, number: int, baseline: np.ndarray, conclude: Any) -> None:
    """Factor."""
    name, factor = list(answer.FACTORS.items())[number - 1]
    right, remark = judge(factor["expected"], answer.FOUND[name], summarize(run({name: factor["value"]}) - baseline))
    conclude(right, f"{name} = {factor['value']}: {remark}")


def judge(expected: str, found: str, effect: Summary) -> tuple[bool, str]:
    """Whether what was found holds, in words; that it was expected is to be said, and no mistake if not."""
    half = effect.ci95 or 0.0
    low, high = effect.mean - half, effect.mean + half
    seen = 1 if low > 0 else -1 if high < 0 else 0
    verdict = "held" if seen == DIRECTIONS[expected] else "is undecided" if seen == 0 else "did not hold"
    remark = f"{_interval(effect)}; the expected direction, {expected}, {verdict}"
    right = not {"up": high < 0, "down": low > 0, "none": low > CLEAR or high < -CLEAR}[found]
    hint = f"; FOUND says {found}, which these seeds contradict: how many seeds, and were they paired?"
    return right, remark + ("" if right else hint)


def test_improvement(answer: Any, baseline: np.ndarray, conclude: Any) -> None:
    """BEST, the improvement."""
    reached = run(answer.BEST)
    effect, (mean, half_width) = summarize(reached - baseline), map(float, answer.GAIN)
    half = effect.ci95 or 0.0
    remark = f"{_interval(effect)}, to an accuracy of {reached.mean():.3f}; claimed {mean:+.3f} ± {half_width:.3f}"
    assert effect.mean - half > 0, f"{remark}; its interval reaches down to 0: no gain is shown"
    assert abs(effect.mean - mean) <= np.hypot(half, half_width), (
        f"{remark}; the two intervals do not fit together: were the seeds few, or those that the best was chosen on?"
    )
    conclude(True, remark)


def _interval(effect: Summary) -> str:
    return f"{effect.mean:+.3f} ± {effect.ci95 or 0:.3f} on {effect.n} hidden seeds"
