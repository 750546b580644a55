"""Two runs of one experiment. Seeds that both have are compared with themselves: the scatter over seeds drops out."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from reports.known import swept
from sublim_theory.record import Record
from sublim_theory.statistics import Summary, independent, paired


class Difference(NamedTuple):
    """One condition of two runs, of which one may lack it.

    `difference` is this run minus the other with its 95% interval: of the `n` seeds in common, or with `n` = 0 of two
    independent samples (normal approximation). `equal` are the same values for the same seeds, bit by bit.
    """

    name: str
    ours: Summary | None
    theirs: Summary | None
    difference: Summary | None = None
    equal: bool = False

    @property
    def seen(self) -> bool:
        """Whether the interval of the difference excludes 0."""
        found = self.difference
        return found is not None and found.ci95 is not None and abs(found.mean) > found.ci95


def match(records: Mapping[Path, Record], others: Mapping[Path, Record]) -> dict[Path, Path]:
    """Folder -> that of the other run of the same experiment, preset and axes; of several the one of the same name."""
    runs = {folder: [each.experiment, each.preset, *swept(each)] for folder, each in {**others, **records}.items()}
    found: dict[Path, Path] = {}
    for folder in records:
        left = [each for each in others if each not in found.values() and runs[each] == runs[folder]]
        if left:
            found[folder] = next((each for each in left if each.resolve().name == folder.resolve().name), left[0])
    return found


def compare(ours: Record, theirs: Record) -> list[Difference]:
    """What differs, condition by condition, those of this run first."""
    there, found = {str(row[:3]): row for row in theirs.rows}, []
    for row in ours.rows:
        if (other := there.pop(str(row[:3]), None)) is None:
            found.append(Difference(row.name, row.summary, None))
            continue
        a, b = (each.table[row.variable].sel(row.at) for each in (ours, theirs))
        over = str(a.dims[0])
        pairs = list(map(float, paired(a, b, over))) if {over} <= set(a.coords) & set(b.coords) else [0, 0, 0]
        mean, ci95, n = pairs if pairs[2] else (*independent(row.summary, other.summary), 0)
        width = ci95 if math.isfinite(ci95) else None
        difference = Summary(mean, None, width, int(n), ()) if math.isfinite(mean) else None
        found.append(Difference(row.name, row.summary, other.summary, difference, a.equals(b)))
    return found + [Difference(row.name, None, row.summary) for row in there.values()]
