"""Expected values and verdicts: is a run's mean where an earlier sample says it should be?

An expectation is a statement about two samples of one population, not a hand-set margin. The earlier sample (the
paper's, or a run of ours with other seeds) has mean, spread and size; the new run has its size. The band allows for
the scatter of both means, so that all conditions of a faithful run lie inside together with probability 95%.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sublim_theory.statistics import Summary, mean_band

LEVEL = 0.95
"""Probability that all bands of one faithful run hold."""


@dataclass(frozen=True)
class Verdict:
    """One condition: what was expected, what was produced.

    Attributes:
        condition: its name.
        expected: mean of the earlier sample.
        ci95: half-width of that mean's 95% interval.
        low: lower end of the band for this run.
        high: upper end.
        produced: mean of this run.
        holds: whether `low <= produced <= high`.
        source: where the earlier sample comes from.
    """

    condition: str
    expected: float
    ci95: float
    low: float
    high: float
    produced: float
    holds: bool
    source: str


def judge(experiment: str, preset: str, conditions: Mapping[str, Summary]) -> list[Verdict]:
    """Compare every condition that has an expected value with it; an empty list where there are none."""
    expected: dict[str, Any] = tomllib.loads(Path(__file__).with_name("expected.toml").read_text("utf-8"))
    table = expected.get(experiment, {}).get(preset)
    return (
        []
        if table is None
        else [
            _judge(name, row, table["source"], conditions[name], len(table["conditions"]))
            for name, row in table["conditions"].items()
        ]
    )


def _judge(name: str, row: Mapping[str, float], source: str, ours: Summary, comparisons: int) -> Verdict:
    n = int(row["n"])
    sd = row["sd"] if "sd" in row else row["ci95"] * n**0.5 / 1.96
    low, high = mean_band(row["mean"], sd, n, ours=ours.n, level=LEVEL, comparisons=comparisons)
    holds = low <= ours.mean <= high
    return Verdict(name, row["mean"], 1.96 * sd / n**0.5, low, high, ours.mean, holds, source)
