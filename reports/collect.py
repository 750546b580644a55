"""Find the records in folders, and read each; a damaged one is named and does not stop the rest."""

import os
from collections.abc import Container, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from experiments.expectations import Verdict
from sublim_theory.cli import UsageError
from sublim_theory.results import RecordError, Result


@dataclass(frozen=True)
class Record:
    """A record that was read.

    Attributes:
        folder: where it was found.
        result: the record, without its arrays.
        verdicts: its expectations, checked to have the form of one.
        seeds: of the record, one a value; None where they are not given.
    """

    folder: Path
    result: Result
    verdicts: tuple[Verdict, ...]
    seeds: tuple[int, ...] | None

    @cached_property
    def judged(self) -> dict[str, list[Verdict]]:
        """The verdicts by condition."""
        found: dict[str, list[Verdict]] = {}
        for verdict in self.verdicts:
            found.setdefault(verdict.condition, []).append(verdict)
        return found

    @property
    def swept(self) -> dict[str, Any]:
        """Setting -> the values that it takes; empty unless the record is one of a sweep."""
        vary = self.result.config.get("vary")
        return vary if isinstance(vary, dict) else {}


@dataclass(frozen=True)
class Damage:
    """A record that could not be read.

    Attributes:
        folder: where it is.
        reason: what is wrong, in one line.
    """

    folder: Path
    reason: str


def read(folders: Iterable[Path]) -> tuple[list[Record], list[Damage]]:
    """The records in folders, each of which is a record or holds some, and those that are damaged; each once.

    Raises:
        UsageError: if a folder cannot be listed, or there is no record in it.
    """
    records, damaged = [], []
    for folder in dict.fromkeys(found for each in folders for found in _inside(each)):
        try:
            records.append(_record(folder))
        except RecordError as error:
            damaged.append(Damage(folder, " ".join(str(error).split())))
    return records, damaged


def _inside(folder: Path) -> list[Path]:
    try:
        inside = sorted(folder.iterdir())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot list {folder}: {reason}; name a folder that is a record or holds some") from error
    found = [each for each in (folder, *inside) if os.path.lexists(each / "summary.json")]
    if not found:
        raise UsageError(f"no record in {folder}: a record is a folder with a summary.json, such as out/fig10-smoke")
    return found[:1] if found[0] == folder else found


def _record(folder: Path) -> Record:
    result = Result.load(folder, arrays=False)
    try:
        verdicts = tuple(_verdict(row, result.conditions) for row in result.expectations)
    except (TypeError, ArithmeticError) as error:
        raise RecordError(f"the expectations in {folder / 'summary.json'} are damaged: {error!r:.300}") from error
    seeds = result.provenance.get("seeds")
    if not isinstance(seeds, list) or not all(type(seed) is int for seed in seeds):
        seeds = None
    return Record(folder, result, verdicts, None if seeds is None else tuple(seeds))


def _verdict(row: Any, conditions: Container[str]) -> Verdict:
    verdict = Verdict(**row)
    ends = (verdict.expected, verdict.ci95, verdict.low, verdict.high)
    if not (
        isinstance(verdict.condition, str)
        and verdict.condition in conditions
        and isinstance(verdict.source, str)
        and isinstance(verdict.holds, bool)
        and all(type(each) in (int, float) for each in (verdict.produced, *(end for end in ends if end is not None)))
        and (verdict.expected is None) == (verdict.ci95 is None)
    ):
        raise TypeError(f"not an expectation: {row}")
    for each in (verdict.produced, *ends):
        float(each or 0)  # an integer may be too large for one
    return verdict
