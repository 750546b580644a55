"""What the benchmarks share: parts that take turns, ratios within a turn, the record and its table.

A ratio of two parts is taken within a turn, whose parts meet the same weather, and then summarised over the turns.
"""

import json
import math
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from rich.table import Table

from sublim_theory.cli import UsageError, parse, parse_some
from sublim_theory.console import console
from sublim_theory.protocols import lookup

SCHEMA = 3
"""Version of the JSON record."""

BENCHMARKS = {
    "fig10": ("fig10", "Figure 10 as the library runs it, beside the published script's form in PyTorch"),
    "theorem": ("theorem", "Verifying Theorem 1 on the paper's network, beside the plain gradients that it needs"),
    "memory": ("commands", "Peak memory and time of figure 10 against the number of seeds"),
    "scaling": ("commands", "Figure 10 in one process, on several devices and with several workers"),
    "startup": ("commands", "Help, list, verdict and first figure from nothing, beside the import of JAX alone"),
}
"""Name -> the module that has it, in capitals, as a function of `name` and `argv`; what help and table say of it."""

Part = Callable[[int], dict[str, Any]]
"""Measures one part in the turn of that number: quantity, with its unit -> number; one part also has `provenance`."""


@dataclass(frozen=True)
class Options:
    """Options of every benchmark."""

    preset: str = "default"
    """Options to start from: smoke (to see that it works), default, and of fig10 also paper (MNIST, as published)."""
    repeats: int = 3
    """Turns that count, after one that warms up; in each, every part is measured once."""
    platform: Literal["cpu", "cuda"] = "cpu"
    """What JAX runs on: cpu, or cuda for a GPU."""
    data_dir: Path | None = None
    """Folder that holds mnist/ and fashion_mnist/; otherwise SUBLIM_THEORY_DATA, the cache, or a download."""
    out: Path | None = None
    """JSON file to write; out/benchmarks/NAME-PRESET.json unless given."""


PRESETS = {"default": Options(), "smoke": Options("smoke", 1)}


def run(
    name: str,
    argv: Sequence[str],
    *,
    parts: Callable[[Any], Mapping[str, Part]],
    compared: Mapping[str, int],
    presets: Mapping[str, Options] = PRESETS,
) -> None:
    """Measure what takes turns, write the record and print its table.

    Args:
        name: of the benchmark.
        argv: its options.
        parts: of some options, what takes turns, by name.
        compared: quantity -> place of the part with which the others are compared in it.
        presets: options to start from.
    """
    prog = f"python -m benchmarks {name}"
    start = lookup("preset", parse_some(Options, argv, prog=prog)[0].preset, presets)
    options = parse(type(start), argv, prog=prog, description=BENCHMARKS[name][1], default=start)
    for option, value in vars(options).items():
        if isinstance(value, int) and value < 1:
            raise UsageError(f"--{option} must be at least 1, got {value}")
    load, cpuinfo = os.getloadavg()[0], Path("/proc/cpuinfo")
    if load > (os.cpu_count() or 1) / 2:
        console().print(f"The machine is busy (load {load:.1f}): what is measured now can mislead.")
    chosen, warm_up = parts(options), 0 if options.preset == "smoke" else 1
    if not chosen:
        raise UsageError("there is nothing to measure")
    turns = [{part: measure(turn) for part, measure in chosen.items()} for turn in range(warm_up + options.repeats)]
    origin, *_ = [row.pop("provenance") for turn in turns for row in turn.values() if "provenance" in row]
    model = re.search(r"model name\s*: (.*)", cpuinfo.read_text() if cpuinfo.exists() else "")
    record = {
        "schema": SCHEMA,
        "benchmark": name,
        "options": {name: value for name, value in asdict(options).items() if name not in ("data_dir", "out")},
        "provenance": {name: origin[name] for name in ("versions", "commit", "dirty", "device", "cores")}
        | {"processor": model[1] if model else origin["processor"], "load_at_start": load},
        "turns": [with_ratios(turn, compared) for turn in turns[warm_up:]],
    }
    heading, *rows = table(record)
    shown = Table(*heading, title=title(record))
    for row in rows:
        shown.add_row(*row)
    console().print(shown)

    from sublim_theory.record import write_file  # imports more than any measured command should start beside

    file = options.out or Path("out", "benchmarks", f"{name}-{options.preset}.json")
    write_file(file, json.dumps(record, indent=1, allow_nan=False).encode() + b"\n")
    console().print(f"wrote {shlex.quote(str(file))}", soft_wrap=True)


def with_ratios(turn: Mapping[str, Mapping[str, float]], compared: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """A turn with the ratios of its parts to one of them."""
    found = {part: dict(row) for part, row in turn.items()}
    for quantity, place in compared.items():
        base = list(turn)[place]
        for part, row in turn.items():
            if part != base and quantity in row:
                found[part][f"{quantity} / {base}"] = row[quantity] / turn[base][quantity]
    return found


def title(record: Mapping[str, Any]) -> str:
    """What the table of a record shows."""
    _, summary = BENCHMARKS[record["benchmark"]]
    count = len(record["turns"])
    statistic = f"median (minimum to maximum) of {count} turns" if count > 1 else "one turn"
    return f"{summary}; preset {record['options']['preset']}, {statistic}"


def table(record: Mapping[str, Any]) -> list[list[str]]:
    """Headings and rows: parts against quantities, the more numerous of the two downwards."""
    first, *_ = turns = record["turns"]
    quantities = list(dict.fromkeys(quantity for row in first.values() for quantity in row))
    cells = {part: [_spread([turn[part].get(name) for turn in turns]) for name in quantities] for part in first}
    rows = [["", *quantities], *([part, *row] for part, row in cells.items())]
    return rows if len(rows) > len(quantities) else [list(column) for column in zip(*rows, strict=True)]


def _spread(values: Sequence[Any]) -> str:
    """Median, minimum and maximum in three digits and no exponent; nothing for a part that has no such quantity."""
    if None in values:
        return ""
    middle, low, high = (_digits(value) for value in (median(values), min(values), max(values)))
    return middle if low == high else f"{middle} ({low} to {high})"


def _digits(value: float) -> str:
    return f"{value:,.{max(0, 2 - math.floor(math.log10(value)))}f}" if value else "0"
