"""Expected values and verdicts: is what a run produced where a theorem or an earlier sample says it should be?

There are two kinds of expectation. A *sample* is a statement about two samples of one population, not a hand-set
margin: the earlier one (the paper's, or a run of ours with other seeds) has mean, spread and size; the new run has its
size. (Where no spread is published, the new run's stands in for it, with Student's t.) The band allows for the scatter
of both means, so that all conditions of a faithful run lie inside together with probability 95%. A *bound* is an exact
statement with its reason, such as a theorem: every single value lies inside.
"""

import math
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import experiments
from sublim_theory.statistics import Summary, mean_band

LEVEL = 0.95
"""Probability that all bands of one faithful run hold, of the expectations that are samples."""


@dataclass(frozen=True)
class Verdict:
    """One condition: what was expected, what was produced.

    Attributes:
        condition: its name.
        expected: mean of the earlier sample; None for a bound.
        ci95: half-width of that mean's 95% interval; None for a bound.
        low: lower end of the band for this run; None where a bound has none.
        high: upper end; None where a bound has none.
        produced: mean of this run; for a bound the value that is furthest to the wrong side.
        holds: whether it lies in the band, ends included.
        source: where the earlier sample comes from, or the reason for the bound.
    """

    condition: str
    expected: float | None
    ci95: float | None
    low: float | None
    high: float | None
    produced: float
    holds: bool
    source: str


def judge(experiment: str, preset: str, conditions: Mapping[str, Summary]) -> list[Verdict]:
    """Compare every condition that has an expected value with it; an empty list where there are none.

    Raises:
        ValueError: if an expectation is about a condition that is not there.
    """
    tables: dict[str, Any] = {}
    for folder in experiments.__path__:  # a folder of one's own has its own file
        if (path := Path(folder) / "expected.toml").exists():
            tables |= tomllib.loads(path.read_text("utf-8")).get(experiment, {})
    verdicts = []
    for row in tables.get("bounds", []):
        verdicts += [_bound(name, row, conditions[name]) for name in _matching(row["condition"], conditions)]
    if preset in tables:
        source, rows = tables[preset]["source"], tables[preset]["conditions"]
        known = {name: row for name, row in rows.items() if _spread(row, conditions[name]) is not None}
        verdicts += [_sample(name, row, source, conditions[name], len(known)) for name, row in known.items()]
    return verdicts


def _matching(pattern: str, conditions: Mapping[str, Summary]) -> Iterator[str]:
    names = [name for name in conditions if fnmatchcase(name, pattern)]
    if not names:
        raise ValueError(f"expected.toml speaks of {pattern!r}, but the conditions are {', '.join(conditions)}")
    yield from names


def _bound(name: str, row: Mapping[str, Any], ours: Summary) -> Verdict:
    low, high = row.get("low"), row.get("high")
    excess = {
        value: max(-math.inf if low is None else low - value, -math.inf if high is None else value - high)
        for value in ours.values
    }
    worst = max(excess, key=lambda value: excess[value])
    produced = max(-sys.float_info.max, min(sys.float_info.max, worst))  # JSON has no infinity
    return Verdict(name, None, None, low, high, produced, excess[worst] <= 0, row["reason"])


def _spread(row: Mapping[str, float], ours: Summary) -> tuple[float, float] | None:
    """Standard deviation of a value and its degrees of freedom; ours where none is published, None without any."""
    if "sd" in row:
        return row["sd"], math.inf
    if "ci95" in row:
        return row["ci95"] * row["n"] ** 0.5 / 1.96, math.inf
    return None if ours.sd is None else (ours.sd, ours.n - 1)


def _sample(name: str, row: Mapping[str, float], source: str, ours: Summary, comparisons: int) -> Verdict:
    n, spread = int(row["n"]), _spread(row, ours)
    assert spread is not None
    sd, degrees = spread
    low, high = mean_band(row["mean"], sd, n, ours=ours.n, level=LEVEL, comparisons=comparisons, degrees=degrees)
    holds = low <= ours.mean <= high
    return Verdict(name, row["mean"], 1.96 * sd / n**0.5, low, high, ours.mean, holds, source)
