"""Two runs of one experiment: what differs in their numbers, and in where these come from.

Seeds that both runs have are compared with themselves: the scatter over seeds is then in both and drops out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from reports.collect import Record
from reports.text import value
from sublim_theory.statistics import Summary, summarize


@dataclass(frozen=True)
class Difference:
    """One condition of two runs.

    Attributes:
        condition: its name.
        ours: in this run; None if it has no such condition.
        theirs: in the other.
        mean: this run minus the other: of the seeds in common if there are any, else of the two means. None where one
            run has no such condition, or the difference is too large for a number.
        ci95: half-width of the 95% interval of `mean`; None where there is no spread to take it from.
        pairs: seeds in common; 0 if the two samples are compared as independent ones.
        equal: whether both have the same values, bit by bit, for the same seeds.
    """

    condition: str
    ours: Summary | None
    theirs: Summary | None
    mean: float | None = None
    ci95: float | None = None
    pairs: int = 0
    equal: bool = False

    @property
    def seen(self) -> bool:
        """Whether the interval of the difference excludes 0."""
        return self.mean is not None and self.ci95 is not None and abs(self.mean) > self.ci95


@dataclass(frozen=True)
class Comparison:
    """Two runs.

    Attributes:
        ours: the record of this run.
        theirs: that of the other.
        seeds: what both have.
        differences: condition by condition, those of this run first.
        settings: name, here, there: what differs in config and provenance.
    """

    ours: Record
    theirs: Record
    seeds: tuple[int, ...]
    differences: list[Difference]
    settings: list[tuple[str, str, str]]

    @property
    def shared(self) -> list[Difference]:
        """The conditions that both have."""
        return [each for each in self.differences if each.ours and each.theirs]


def match(records: Sequence[Record], others: Sequence[Record]) -> tuple[list[Comparison | None], list[Record]]:
    """For every record its comparison with the other of the same experiment and preset, and the others left over.

    Where several could be meant, it is the one in a folder of the same name, or else the first.
    """
    left, found = list(others), []
    for record in records:
        fitting = [other for other in left if _key(other) == _key(record)]
        fitting.sort(key=lambda other: other.folder.resolve().name != record.folder.resolve().name)
        if fitting:
            left.remove(fitting[0])
        found.append(compare(record, fitting[0]) if fitting else None)
    return found, left


def _key(record: Record) -> tuple[Any, ...]:
    return record.result.experiment, record.result.preset, *record.swept


def compare(ours: Record, theirs: Record) -> Comparison:
    """What differs between two records of one experiment."""
    here, there = ours.result.conditions, theirs.result.conditions
    common = tuple(seed for seed in dict.fromkeys(ours.seeds or ()) if seed in set(theirs.seeds or ()))
    differences = [
        Difference(name, here.get(name), there.get(name))
        if name not in here or name not in there
        else _difference(name, (here[name], ours.seeds), (there[name], theirs.seeds), common)
        for name in {**here, **there}
    ]
    return Comparison(ours, theirs, common, differences, _settings(_flat(ours), _flat(theirs)))


Sample = tuple[Summary, Sequence[int] | None]


def _difference(name: str, ours: Sample, theirs: Sample, common: Sequence[int]) -> Difference:
    (here, our_seeds), (there, their_seeds) = ours, theirs
    equal = here.values == there.values and our_seeds == their_seeds
    paired = bool(common) and our_seeds is not None and their_seeds is not None
    paired = paired and len(our_seeds or ()) == here.n and len(their_seeds or ()) == there.n
    try:
        with np.errstate(over="raise", invalid="raise"):
            if paired:
                by_seed = [dict(zip(seeds or (), each.values, strict=True)) for each, seeds in (ours, theirs)]
                mean, ci95 = _paired(*([values[seed] for seed in common] for values in by_seed))
            else:
                mean = float(np.subtract(here.mean, there.mean))
                ci95 = None if here.ci95 is None or there.ci95 is None else float(np.hypot(here.ci95, there.ci95))
    except (ValueError, ArithmeticError):  # beyond the largest number
        return Difference(name, here, there, equal=equal)
    return Difference(name, here, there, mean, ci95, len(common) if paired else 0, equal)


def _paired(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float | None]:
    """Mean difference of pairs, and the half-width of its 95% interval by Student's t (the paired t-test)."""
    found = summarize(np.subtract(ours, theirs))
    if found.sd is None:
        return found.mean, None
    return found.mean, float(stats.t.ppf(0.975, found.n - 1)) * found.sd / found.n**0.5


def _flat(record: Record) -> dict[str, Any]:
    parts = {"config": record.result.config, "provenance": record.result.provenance}
    flat = {f"{part}: {name}": each for part, found in parts.items() for name, each in found.items()}
    versions = flat.pop("provenance: versions", {})
    if isinstance(versions, Mapping):
        return flat | {f"version of {name}": each for name, each in versions.items()}
    return flat | {"versions": versions}


def _settings(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    def text(found: Mapping[str, Any], name: str) -> str:
        return value(found[name]) if name in found else "not there"

    names = dict.fromkeys([*ours, *theirs])
    differing = (name for name in names if name not in ours or name not in theirs or ours[name] != theirs[name])
    return [(value(name), text(ours, name), text(theirs, name)) for name in differing]
