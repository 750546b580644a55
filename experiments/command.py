"""The commands `reproduce`, `sweep` and `list`: run an experiment, save its record, draw it, say whether it held."""

import argparse
import contextlib
import dataclasses
import shlex
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import figures
from experiments import EXPERIMENTS, experiment, tables
from experiments import sweep as sweeps
from experiments.expectations import judge
from experiments.experiment import Context, Experiment, Settings
from experiments.machine import Machine
from experiments.registry import SUMMARIES, find
from sublim_theory import processes
from sublim_theory.cli import MISSED, UsageError, parse
from sublim_theory.protocols import lookup
from sublim_theory.record import Record, run_folder


@dataclass(frozen=True)
class Run:
    """How to run, apart from the experiment's own settings."""

    preset: str = "default"
    """Settings to start from: smoke (seconds), default (embedded digits, a minute or two) or paper (as published)."""
    data_dir: Path | None = None
    """Folder that holds mnist/ and fashion_mnist/; otherwise SUBLIM_THEORY_DATA, the cache, or a download."""
    out: Path = Path("out")
    """Where to write: OUT/NAME-PRESET/ gets summary.json, the table, the figures and finished seeds to resume from."""
    machine: Machine = field(default_factory=Machine)


def reproduce(argv: list[str]) -> int:
    """Run an experiment and compare it with what is expected: sublim reproduce NAME [options].

    Args:
        argv: words of the command line after `reproduce`. The name `all` runs every experiment, with options that all
            of them have.

    Returns:
        0 if every expectation holds, `MISSED` if one does not: then the record is not drawn.

    Raises:
        UsageError: for a wrong name, option or value.
    """
    names = ", ".join(SUMMARIES)
    if not argv or argv[0] in ("-h", "--help"):
        print(f"usage: sublim reproduce NAME [options]\n\nNAME is all, or one of: {names}")
        print("Options of an experiment: sublim reproduce NAME --help")
        return 0
    name = argv[0]
    if name.startswith("-"):
        raise UsageError(f"the experiment comes first: sublim reproduce NAME [options]; NAME is one of: {names}")
    if name == "all":
        parsed = {each: _parse(find(each), argv[1:]) for each in SUMMARIES}  # refuse before anything runs
        machine = next(iter(parsed.values()))[0].machine
        return machine.run(lambda: max(_reproduce(find(each), *options) for each, options in parsed.items()))
    chosen = find(name)
    run, settings = _parse(chosen, argv[1:])
    return run.machine.run(lambda: _reproduce(chosen, run, settings))


def _reproduce(chosen: Experiment, run: Run, settings: Settings[Any, Any], vary: Collection[str] = ()) -> int:
    """Run, judge, save, draw and report; the exit status. Process 0 keeps the record, the others wait for it."""
    changed = [*vary] or _changed(settings, chosen.presets[run.preset])
    path = run.out / "-".join([chosen.name, run.preset, *vary])
    context = Context(run.preset, run.data_dir, path / "chunks", run.machine.devices, run.machine.chunk_size)
    with run_folder(path) if processes.index() == 0 else contextlib.nullcontext():
        record = experiment.run(chosen, settings, context)
        if processes.index() > 0:
            processes.meet()
            return 0
        verdicts = [] if changed else judge(chosen.name, run.preset, record.conditions)
        record = dataclasses.replace(record, expectations=[dataclasses.asdict(verdict) for verdict in verdicts])
        record.save(path)
        try:
            pictures, refusal = figures.save(record, path), None
        except figures.ClaimError as error:
            pictures, refusal = [], error
        _report(record, changed, [path / "summary.json", *pictures])
    processes.meet()
    if refusal is not None:
        print(f"sublim: {refusal}", file=sys.stderr)
    return 0 if refusal is None and all(verdict.holds for verdict in verdicts) else MISSED


def sweep(argv: list[str]) -> int:
    """Run an experiment over values of a setting: sublim sweep NAME --vary SETTING=VALUE,VALUE,... [options].

    With a second `--vary`, over all pairs of values. The record goes to OUT/sweep_NAME-PRESET-SETTING.

    Args:
        argv: words of the command line after `sweep`.

    Returns:
        0: nothing is expected of a sweep that has no name.

    Raises:
        UsageError: for a wrong name, option or value.
    """
    usage = "sublim sweep NAME --vary SETTING=VALUE,VALUE,... [--vary SETTING=...] [options of the experiment]"
    if not argv or argv[0] in ("-h", "--help"):
        print(f"usage: {usage}\n\nA tuple is written 64x64. For example: sublim sweep fig10 --vary auxiliary=1,3,10")
        return 0
    name, *words = argv
    lookup("experiment", name, EXPERIMENTS)
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--vary", action="append", default=[])
    try:
        given, others = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise UsageError(f"{error}; usage: {usage}") from error
    inner = find(name)
    run, settings = _parse(inner, others)
    vary = sweeps.parse_vary(settings, given.vary)
    summary = f"{inner.summary}: over {' and '.join(vary)}"
    chosen = sweeps.over(inner, lambda _: vary, name=f"sweep_{name}", summary=summary)
    try:
        experiment.points(chosen, settings, run.preset)
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"--vary: {error}") from error
    return run.machine.run(lambda: _reproduce(chosen, run, settings, vary))


def list_experiments(argv: list[str]) -> int:
    """List the experiments with their presets.

    Args:
        argv: words of the command line after `list`; there are none.
    """
    parse(_Nothing, argv, prog="sublim list")
    table = Table("experiment", "what it shows", "presets")
    for name, summary in SUMMARIES.items():
        table.add_row(name, summary, ", ".join(find(name).presets))
    Console().print(table)
    return 0


@dataclass(frozen=True)
class _Nothing:
    """List the experiments with their presets."""


def _parse(chosen: Experiment, argv: list[str]) -> tuple[Run, Settings[Any, Any]]:
    """The run and the experiment's settings, which start from the preset and take every option given."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--preset", default=Run.preset)
    try:
        preset = first.parse_known_args(argv)[0].preset
    except argparse.ArgumentError as error:
        raise UsageError(str(error)) from error
    start = lookup("preset", preset, chosen.presets)
    kind: Any = Settings[type(start.protocol), type(start.rates)]  # type: ignore[misc]

    @dataclass(frozen=True)
    class Options:
        run: Run
        settings: kind

    options = parse(
        Options,
        argv,
        prog=f"sublim reproduce {chosen.name}",
        description=f"{chosen.summary}. Defaults shown are those of the preset {preset!r}.",
        default=Options(Run(preset=preset), start),
    )
    return options.run, options.settings


def _changed(settings: Settings[Any, Any], preset: Settings[Any, Any]) -> list[str]:
    """Settings that differ from the preset and change what to expect; the number of seeds does not."""
    usual = preset.of_a_seed()
    return [name for name, value in settings.of_a_seed().items() if value != usual[name]]


def _report(record: Record, changed: list[str], files: list[Path]) -> None:
    """Print the table expected / produced / verdict, and where the files are."""
    console = Console()
    seeds = len(record.provenance["seeds"])
    title = f"{record.experiment}, preset {record.preset}, {seeds} seed{'s' * (seeds > 1)}"
    table = Table(title=title)
    table.add_column("condition", overflow="fold")
    judged = bool(record.expectations)
    for heading in ("expected", "band for this run", "produced", "verdict") if judged else ("produced",):
        table.add_column(heading)
    verdicts = {None: "", True: "[green]holds[/]", False: "[bold red]missed[/]"}
    for row in tables.rows(record):
        words = (row.expected, row.band, row.produced, verdicts[row.holds]) if judged else (row.produced,)
        table.add_row(row.condition, *words)
    console.print(table)
    if changed:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
        console.print(f"No verdict: {options} differ from the preset, and expected values belong to the preset.")
    for source in dict.fromkeys(row["source"] for row in record.expectations):
        console.print(f"Expected: {source}.", soft_wrap=True)
    timing = record.provenance
    console.print(
        f"{record.wall_seconds:.1f} s in all: {timing['compile_seconds']:.1f} s to compile, "
        f"{timing['run_seconds']:.1f} s to run; {timing['resumed_seeds']} seeds taken from an earlier run."
    )
    for path in files:
        console.print(f"wrote {shlex.quote(str(path))}", soft_wrap=True, highlight=False)
