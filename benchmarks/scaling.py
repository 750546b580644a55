"""How the time of figure 10 grows: over devices, over processes, and with seeds, width, m and inputs.

Each run is the command `reproduce fig10` in a process of its own, or in several. Layouts (`devices`, `processes`) do
the same seeds on the same cores, and what counts is the time from start to end, imports and compilation included;
one-core processes have a core each. For the other axes it is the time to run, over the seeds.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks import record, runs
from benchmarks.report import show, spread
from sublim_theory.cli import UsageError

SCHEMA = 1
"""Version of the JSON record."""

AXES = ("devices", "processes", "seeds", "width", "m", "inputs")
LAYOUTS = ("devices", "processes")
TARGETS = {("processes", 1, 2): (0.0, 1.15)} | {("seeds", 4, seeds): (0.9, 1.1) for seeds in (10, 30, 100)}
"""(axis, its first value, this one) -> limits of the time at this value over the time at the first."""


@dataclass(frozen=True)
class Options:
    """Time figure 10 over devices and processes, and against seeds, width, m and inputs."""

    preset: str = "default"
    """Options to start from: smoke (a minute, for tests) or default."""
    devices: tuple[int, ...] = (1, 2, 4, 8)
    """Emulated devices of one process."""
    processes: tuple[int, ...] = (1, 2, 4)
    """Processes that share the cores."""
    seeds: tuple[int, ...] = (4, 10, 30, 100)
    """Numbers of seeds."""
    width: tuple[int, ...] = (64, 128, 256, 512)
    """Widths of both hidden layers."""
    m: tuple[int, ...] = (1, 3, 10, 30)
    """Numbers of auxiliary logits."""
    inputs: tuple[int, ...] = (5_000, 10_000, 20_000, 40_000)
    """Numbers of inputs of the students."""
    layout_seeds: int = 32
    """Seeds of a run over devices or processes."""
    point_seeds: int = 4
    """Seeds of a run at a width, an m or a number of inputs."""
    cores: int = 2
    """Cores that a run has in all."""
    repeats: int = 3
    """Turns; in each, everything is run once."""
    workload: runs.Workload = field(default_factory=runs.Workload)
    out: Path | None = None
    """JSON file to write; out/benchmarks/scaling-PRESET.json unless given."""

    def __post_init__(self) -> None:
        """Check every option before anything runs.

        Raises:
            UsageError: naming the option and what it may be.
        """
        runs.require_positive(self, "devices", "processes", "seeds", "width", "m", "inputs")
        runs.require_positive(self, "layout_seeds", "point_seeds", "cores", "repeats")
        if not any(self.values.values()):
            raise UsageError("there is nothing to measure: every axis is empty")

    @property
    def values(self) -> dict[str, tuple[int, ...]]:
        """The values of every axis."""
        return {axis: getattr(self, axis) for axis in AXES}


_TINY = runs.Workload("smoke", (16, 16), noise_images=300, teacher_epochs=1, student_epochs=1)
PRESETS = {
    "smoke": Options("smoke", (2,), (1, 2), (1, 2), (8,), (1,), (100,), 2, 1, repeats=1, workload=_TINY),
    "default": Options(),
}


def run(argv: list[str]) -> int:
    """Measure, write the record, print the table: python -m benchmarks scaling [options].

    Returns:
        0, whatever was measured: a benchmark has no opinion.

    Raises:
        SublimError: for a wrong option, missing data or a run that failed.
    """
    options = record.read_options("scaling", PRESETS, argv)
    here = _cores_here()
    if here is None:
        record.say("This system cannot pin processes to cores, so every process may use all of them.")
    elif options.cores > len(here):
        raise UsageError(f"--cores must be at most {len(here)}, the number of cores here, got {options.cores}")
    cores = here[: options.cores] if here else None
    load = record.load_now()
    points = [(axis, value) for axis, values in options.values.items() for value in values]
    measure_point(options, cores, *points[0])  # warms up the file cache
    turns = [[measure_point(options, cores, *point) for point in points] for _ in range(options.repeats)]
    provenance, *_ = [row.pop("provenance") for turn in turns for row in turn]
    found = {"provenance": provenance, "pinned": cores is not None, "turns": turns, "summary": summarize(turns)}
    record.publish("scaling", SCHEMA, options, load, found, table)
    return 0


def _cores_here() -> list[int] | None:
    """Those that this process may use; None where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def shares(cores: Sequence[int], processes: int) -> list[list[int]]:
    """The cores of each process: its own where there are enough, else one that it shares."""
    if processes > len(cores):
        return [[cores[index % len(cores)]] for index in range(processes)]
    return [list(cores[index::processes]) for index in range(processes)]


def measure_point(options: Options, cores: Sequence[int] | None, axis: str, value: int) -> dict[str, Any]:
    """One run: `axis`, `value`, its seeds, and what `runs.fig10` tells."""
    workload, seeds = options.workload, options.point_seeds
    words: list[str] = ["--devices", "1"]
    environment: dict[str, str] = {}
    processes = 1
    if axis == "devices":
        seeds, words = options.layout_seeds, ["--devices", str(value)]
        emulate = f"--xla_force_host_platform_device_count={value}"
        environment["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {emulate}".strip()
    elif axis == "processes":
        seeds, processes = options.layout_seeds, value
    elif axis == "seeds":
        seeds = value
    elif axis == "width":
        workload = replace(workload, hidden=(value, value))
    elif axis == "m":
        workload = replace(workload, auxiliary=value)
    else:
        workload = replace(workload, noise_images=value)
    found = runs.fig10(
        workload,
        seeds,
        *words,
        processes=processes,
        environment=environment,
        cores=None if cores is None else shares(cores, processes),
    )
    return {"axis": axis, "value": value, "seeds": seeds, **found}


def summarize(turns: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Median, minimum and maximum over the turns, a row for each value of each axis.

    Returns:
        Rows with `axis`, `value`, `first` (of the axis), and the spread of `seconds` from start to end, of
        `run_seconds_per_seed`, and of `relative`: of what counts on this axis, over that at `first` in the same turn.
    """
    first: dict[str, int] = {}
    rows = []
    for index, point in enumerate(turns[0]):
        axis = point["axis"]
        base = first.setdefault(axis, index)
        counts = "seconds" if axis in LAYOUTS else "run_seconds_per_seed"
        measured = [{each: _costs(turn[each]) for each in (index, base)} for turn in turns]
        row = {name: spread(costs[index][name] for costs in measured) for name in ("seconds", "run_seconds_per_seed")}
        row["relative"] = spread(costs[index][counts] / costs[base][counts] for costs in measured)
        rows.append({"axis": axis, "value": point["value"], "first": turns[0][base]["value"], **row})
    return rows


def _costs(row: Mapping[str, Any]) -> dict[str, float]:
    return {"seconds": row["seconds"], "run_seconds_per_seed": row["run_seconds"] / row["seeds"]}


def table(record_: Mapping[str, Any]) -> Table:
    """The record as a table, one row a value of an axis."""
    options = record_["options"]
    pinned = f"{options['cores']} cores" if record_["pinned"] else "not pinned to cores"
    title = f"Figure 10, {pinned}, preset {options['preset']}: median (minimum to maximum)"
    headings = ("run", "seconds in all", "ms a seed to run", "times the first, paired", "target")
    result = Table(*headings, title=title)
    rows = record_["summary"]
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        axis, value = row["axis"], row["value"]
        target = TARGETS.get((axis, row["first"], value)) if options["preset"] != "smoke" else None
        result.add_row(
            f"{axis}: {value:,}",
            show(row["seconds"], ".1f"),
            show(row["run_seconds_per_seed"], ".0f", 1e3),
            show(row["relative"], ".2f"),
            record.verdict(row["relative"]["median"], *target) if target else "",
            end_section=after is not None and after["axis"] != axis,
        )
    return result
