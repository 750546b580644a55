"""Peak memory against the number of seeds, at a fixed chunk: flat, for no seed's noise outlives its chunk.

Each run is the command `reproduce fig10` in a process of its own; what is measured is the resident memory of that
process on the CPU, figures included. What the imports alone take is told apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks import record, runs
from benchmarks.report import show, spread

SCHEMA = 1
"""Version of the JSON record."""

BASE, LIMITS = 10, (0.9, 1.1)
"""The target: from this many seeds on, the peak over that of so many stays in these limits."""


@dataclass(frozen=True)
class Options:
    """Measure the peak memory of figure 10 for several numbers of seeds."""

    preset: str = "default"
    """Options to start from: smoke (seconds, for tests) or default."""
    seeds: tuple[int, ...] = (1, 10, 30, 100)
    """Numbers of seeds."""
    chunk_size: int = 2
    """Seeds that are saved together."""
    repeats: int = 3
    """Turns; in each, every number of seeds is run once."""
    workload: runs.Workload = field(default_factory=lambda: runs.Workload(teacher_epochs=1, student_epochs=1))
    out: Path | None = None
    """JSON file to write; out/benchmarks/memory-PRESET.json unless given."""

    def __post_init__(self) -> None:
        """Check every option before anything runs.

        Raises:
            UsageError: naming the option and what it may be.
        """
        runs.require_positive(self, "seeds", "chunk_size", "repeats")


_TINY = runs.Workload("smoke", (16,), noise_images=300, teacher_epochs=1, student_epochs=1)
PRESETS = {
    "smoke": Options("smoke", seeds=(1, 2), chunk_size=1, repeats=1, workload=_TINY),
    "default": Options(),
}


def run(argv: list[str]) -> int:
    """Measure, write the record, print the table: python -m benchmarks memory [options].

    Returns:
        0, whatever was measured: a benchmark has no opinion.

    Raises:
        SublimError: for a wrong option, missing data or a run that failed.
    """
    options = record.read_options("memory", PRESETS, argv)
    load = record.load_now()
    turns = [_turn(options) for _ in range(options.repeats)]
    provenance, *_ = [row.pop("provenance") for turn in turns for row in turn["runs"]]
    found = {"provenance": provenance, "turns": turns, "summary": summarize(turns)}
    record.publish("memory", SCHEMA, options, load, found, table)
    return 0


def _turn(options: Options) -> dict[str, Any]:
    """What the imports take, and each number of seeds; nothing to warm up, a peak is a peak."""
    (imports,) = runs.measure([*runs.SUBLIM, "reproduce", "fig10", "--help"])
    chunk = ("--chunk-size", str(options.chunk_size))
    rows = [{"seeds": seeds} | runs.fig10(options.workload, seeds, *chunk) for seeds in options.seeds]
    return {"imports": imports, "runs": rows}


def summarize(turns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Median, minimum and maximum over the turns.

    Returns:
        `imports`, the spread of their peak; `base`, the number of seeds that peaks are compared with; and `runs`, for
        each number of `seeds` the spread of `peak_bytes`, of `above_imports` and of `relative`, paired within a turn.
    """
    counts = [row["seeds"] for row in turns[0]["runs"]]
    base = counts.index(BASE) if BASE in counts else 0
    rows = []
    for index, seeds in enumerate(counts):
        peaks = [turn["runs"][index]["peak_bytes"] for turn in turns]
        above = [peak - turn["imports"]["peak_bytes"] for peak, turn in zip(peaks, turns, strict=True)]
        relative = [peak / turn["runs"][base]["peak_bytes"] for peak, turn in zip(peaks, turns, strict=True)]
        spreads = {"peak_bytes": spread(peaks), "above_imports": spread(above), "relative": spread(relative)}
        rows.append({"seeds": seeds, **spreads})
    return {"imports": spread(turn["imports"]["peak_bytes"] for turn in turns), "base": counts[base], "runs": rows}


def table(record_: Mapping[str, Any]) -> Table:
    """The record as a table, one row a number of seeds."""
    summary, options = record_["summary"], record_["options"]
    base = summary["base"]
    title = f"Peak memory, chunks of {options['chunk_size']}, preset {options['preset']}: median (minimum to maximum)"
    result = Table("seeds", "peak, MB", "above imports", f"of that of {base}, paired", "target", title=title)
    result.add_row("imports alone", show(summary["imports"], ".0f", 1e-6), "", "", "", end_section=True)
    for row in summary["runs"]:
        judged = row["seeds"] > base == BASE and options["preset"] != "smoke"
        result.add_row(
            str(row["seeds"]),
            show(row["peak_bytes"], ".0f", 1e-6),
            show(row["above_imports"], ".0f", 1e-6),
            show(row["relative"], ".2f"),
            record.verdict(row["relative"]["median"], *LIMITS) if judged else "",
        )
    return result
