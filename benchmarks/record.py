"""What the benchmarks share: options that start from a preset, a word about a busy machine, record and table."""

import argparse
import json
import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table

from benchmarks import machine
from sublim_theory.cli import UsageError, parse
from sublim_theory.protocols import lookup
from sublim_theory.record import write_file

Options = TypeVar("Options")


def read_options(name: str, presets: Mapping[str, Options], argv: list[str]) -> Options:
    """The options of a benchmark, which start from the preset that is given, or from `default`.

    Raises:
        SublimError: for a wrong option, value or preset.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--preset", default="default")
    try:
        preset = first.parse_known_args(argv)[0].preset
    except argparse.ArgumentError as error:
        raise UsageError(str(error)) from error
    start = lookup("preset", preset, presets)
    return parse(type(start), argv, prog=f"python -m benchmarks {name}", default=start)


def load_now() -> float:
    """The load of the machine; says so where it is too much to measure anything."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > cores / 2:
        say(f"The machine is busy (load {load:.1f} on {cores} cores): a ratio measured now can mislead threefold.")
    return load


def publish(
    benchmark: str,
    schema: int,
    options: Any,
    load: float,
    found: Mapping[str, Any],
    table: Callable[[Mapping[str, Any]], Table],
) -> None:
    """Write the record of a benchmark, and print its table and where the record is.

    Args:
        benchmark: its name.
        schema: version of its record.
        options: a dataclass with `out`, the file to write, and `preset`.
        load: of the machine before the first measurement.
        found: `provenance`, `turns`, `summary` and whatever else the record has.
        table: of a record.

    Raises:
        RecordError: if the file cannot be written.
    """
    record = {
        "schema": schema,
        "benchmark": benchmark,
        "options": _told(asdict(options)),
        "machine": machine.describe(load),
        **found,
    }
    Console().print(table(record))
    file = options.out or Path("out", "benchmarks", f"{benchmark}-{options.preset}.json")
    write_file(file, json.dumps(record, indent=2, allow_nan=False).encode() + b"\n")
    say(f"wrote {shlex.quote(str(file))}")


def verdict(value: float, low: float, high: float) -> str:
    """A target and whether a value meets it."""
    target = f"at most {high}" if low == 0 else f"{low} to {high}"
    return f"{target}: {'holds' if low <= value <= high else 'missed'}"


def _told(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options that the numbers depend on."""
    told: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, dict):
            told |= _told(value)
        elif name not in ("data_dir", "out"):
            told[name] = value
    return told


def say(text: str) -> None:
    """Print a line as it is."""
    Console().print(text, soft_wrap=True, highlight=False, markup=False)
