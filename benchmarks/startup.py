"""From nothing to the first figure: time and memory of the imports, of `sublim list` and of `reproduce fig10`.

Each step is a process of its own, on the CPU. The figure is that of the preset smoke, once with an empty cache of
compiled programs and once with what the former left there.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks import record, runs
from benchmarks.report import show, spread
from experiments.fig10 import PRESETS as PROTOCOLS

SCHEMA = 1
"""Version of the JSON record."""

COMMANDS = {
    "python, nothing imported": (sys.executable, "-c", ""),
    "import sublim_theory": (sys.executable, "-c", "import sublim_theory"),
    "sublim list": (*runs.SUBLIM, "list"),
}
COLD, WARM = "first figure, cold cache", "first figure, warm cache"

_SMOKE = PROTOCOLS["smoke"]


@dataclass(frozen=True)
class Options:
    """Measure what it takes to start: imports, the list of experiments, the first figure."""

    preset: str = "default"
    """Options to start from: smoke (a tiny figure, for tests) or default (the figure of the preset smoke)."""
    seeds: int = _SMOKE.seeds
    """Seeds of the figure."""
    repeats: int = 5
    """Turns, after one that warms up."""
    workload: runs.Workload = field(
        default_factory=lambda: runs.Workload(
            "smoke",
            _SMOKE.protocol.hidden,
            _SMOKE.protocol.auxiliary,
            _SMOKE.protocol.noise_images,
            _SMOKE.protocol.teacher_epochs,
            _SMOKE.protocol.student_epochs,
        )
    )
    out: Path | None = None
    """JSON file to write; out/benchmarks/startup-PRESET.json unless given."""

    def __post_init__(self) -> None:
        """Check every option before anything runs.

        Raises:
            UsageError: naming the option and what it may be.
        """
        runs.require_positive(self, "seeds", "repeats")


_TINY = runs.Workload("smoke", (16,), noise_images=300, teacher_epochs=1, student_epochs=1)
PRESETS = {"smoke": Options("smoke", seeds=1, repeats=1, workload=_TINY), "default": Options()}


def run(argv: list[str]) -> int:
    """Measure, write the record, print the table: python -m benchmarks startup [options].

    Returns:
        0, whatever was measured: a benchmark has no opinion.

    Raises:
        SublimError: for a wrong option or a run that failed.
    """
    options = record.read_options("startup", PRESETS, argv)
    load = record.load_now()
    turns = [_turn(options) for _ in range(options.repeats + 1)][1:]
    provenance, *_ = [turn[step].pop("provenance") for turn in turns for step in (COLD, WARM)]
    found = {"provenance": provenance, "turns": turns, "summary": summarize(turns)}
    record.publish("startup", SCHEMA, options, load, found, table)
    return 0


def _turn(options: Options) -> dict[str, dict[str, Any]]:
    """Every step once, `seconds` and `peak_bytes` by step."""
    turn: dict[str, dict[str, Any]] = {}
    for step, command in COMMANDS.items():
        (turn[step],) = runs.measure(command)
    with tempfile.TemporaryDirectory() as folder:  # of mode 700, as a cache has to be
        for step in (COLD, WARM):
            turn[step] = runs.fig10(options.workload, options.seeds, "--compilation-cache", folder)
    return turn


def summarize(turns: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Median, minimum and maximum over the turns of `seconds` and `peak_bytes`, by step."""
    return {
        step: {name: spread(turn[step][name] for turn in turns) for name in ("seconds", "peak_bytes")}
        for step in turns[0]
    }


def table(record: Mapping[str, Any]) -> Table:
    """The record as a table, one row a step."""
    options = record["options"]
    title = f"Startup, preset {options['preset']}: median (minimum to maximum)"
    result = Table("step", "seconds", "peak memory, MB", title=title)
    for step, found in record["summary"].items():
        result.add_row(step, show(found["seconds"], ".2f"), show(found["peak_bytes"], ".0f", 1e-6))
    return result
