"""The commands `reproduce`, `sweep` and `list`: run an experiment, save its record, draw it, say whether it held."""

import argparse
import contextlib
import dataclasses
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import figures
from experiments import EXPERIMENTS, tables
from experiments import sweep as engine
from experiments.expectations import judge
from experiments.machine import Machine
from experiments.registry import SUMMARIES, find
from figures.drawing import ClaimError
from sublim_theory import processes
from sublim_theory.cli import MISSED, UsageError, parse
from sublim_theory.protocols import lookup
from sublim_theory.results import Result, run_folder


@dataclass(frozen=True)
class Run:
    """How to run, apart from the experiment's own settings."""

    preset: str = "default"
    """Settings to start from: smoke (seconds), default (embedded digits, a minute or two) or paper (as published)."""
    data_dir: Path | None = None
    """Folder that holds mnist/ and fashion_mnist/; otherwise SUBLIM_THEORY_DATA, the cache, or a download."""
    out: Path = Path("out")
    """Where to write: OUT/NAME-PRESET/ gets summary.json, arrays.npz, the figures and finished seeds to resume from."""
    machine: Machine = field(default_factory=Machine)


def reproduce(argv: list[str]) -> int:
    """Run an experiment and compare it with what is expected: sublim reproduce NAME [options].

    Args:
        argv: words of the command line after `reproduce`. The name `all` runs every experiment, with options that all
            of them have.

    Returns:
        0 if every expectation holds, `MISSED` if one does not or the record contradicts the claim of its figure.

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
        parsed = {each: _parse(each, find(each), argv[1:]) for each in SUMMARIES}  # refuse before anything runs
        machine = next(iter(parsed.values()))[0].machine
        return machine.run(lambda: max(_reproduce(each, *options) for each, options in parsed.items()))
    run, config = _parse(name, find(name), argv[1:])
    return run.machine.run(lambda: _reproduce(name, run, config))


def _reproduce(name: str, run: Run, config: Any) -> int:
    experiment = find(name)
    changed = _changed(config, experiment.PRESETS[run.preset])

    def produce(chunks: Path) -> Result:
        result: Result = experiment.run(config, preset=run.preset, data_dir=run.data_dir, chunks=chunks)
        return result

    return _record(name, run, changed, produce)


def sweep(argv: list[str]) -> int:
    """Run an experiment over values of a setting: sublim sweep NAME --vary SETTING=VALUE,VALUE,... [options].

    With a second `--vary`, over all pairs of values. The record goes to OUT/sweep_NAME-PRESET-SETTING.

    Args:
        argv: words of the command line after `sweep`.

    Returns:
        0, or `MISSED` if the record contradicts the claim of its figure.

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
    experiment = find(name)
    run, config = _parse(name, experiment, others)
    vary = engine.parse_vary(type(config), given.vary)
    try:
        engine.points(config, vary)
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"--vary: {error}") from error
    title = f"sweep_{name}"
    folder = f"{title}-{run.preset}-{'-'.join(vary)}"

    def produce(chunks: Path) -> Result:
        return engine.run(experiment, title, config, vary, preset=run.preset, data_dir=run.data_dir, chunks=chunks)

    return run.machine.run(lambda: _record(title, run, list(vary), produce, folder))


def _record(
    name: str, run: Run, changed: list[str], produce: Callable[[Path], Result], folder: str | None = None
) -> int:
    """Run, judge, save, draw and report; the exit status. Process 0 keeps the record, the others wait for it."""
    path = run.out / (folder or f"{name}-{run.preset}")
    with run_folder(path) if processes.index() == 0 else contextlib.nullcontext():
        result = produce(path / "chunks")
        if processes.index() > 0:
            processes.meet()
            return 0
        verdicts = [] if changed else judge(name, run.preset, result.conditions)
        result = dataclasses.replace(result, expectations=[dataclasses.asdict(verdict) for verdict in verdicts])
        result.save(path)
        try:
            pictures, refusal = figures.save(result, path), None
        except ClaimError as error:
            pictures, refusal = [], error
        _report(result, changed, [path / "summary.json", *pictures])
    processes.meet()
    if refusal is not None:
        print(f"sublim: {refusal}", file=sys.stderr)
    return 0 if refusal is None and all(verdict.holds for verdict in verdicts) else MISSED


def list_experiments(argv: list[str]) -> int:
    """List the experiments with their presets.

    Args:
        argv: words of the command line after `list`; there are none.
    """
    parse(_Nothing, argv, prog="sublim list")
    table = Table("experiment", "what it shows", "presets")
    for name, summary in SUMMARIES.items():
        table.add_row(name, summary, ", ".join(find(name).PRESETS))
    Console().print(table)
    return 0


@dataclass(frozen=True)
class _Nothing:
    """List the experiments with their presets."""


def _parse(name: str, module: Any, argv: list[str]) -> tuple[Run, Any]:
    """The run and the experiment's config, which starts from the preset and takes every option given."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--preset", default=Run.preset)
    try:
        preset = first.parse_known_args(argv)[0].preset
    except argparse.ArgumentError as error:
        raise UsageError(str(error)) from error
    start = lookup("preset", preset, module.PRESETS)

    @dataclass(frozen=True)
    class Options:
        run: Run
        config: module.Config

    options = parse(
        Options,
        argv,
        prog=f"sublim reproduce {name}",
        description=f"{SUMMARIES[name]}. Defaults shown are those of the preset {preset!r}.",
        default=Options(Run(preset=preset), start),
    )
    return options.run, options.config


def _changed(config: Any, preset: Any) -> list[str]:
    """Options that differ from the preset and change what to expect; the number of seeds does not."""
    fields = (field.name for field in dataclasses.fields(config) if field.name not in ("seeds", "first_seed"))
    return [name for name in fields if getattr(config, name) != getattr(preset, name)]


def _report(result: Result, changed: list[str], files: list[Path]) -> None:
    """Print the table expected / produced / verdict, and where the files are."""
    console = Console()
    seeds = len(result.provenance["seeds"])
    title = f"{result.experiment}, preset {result.preset}, {seeds} seed{'s' * (seeds > 1)}"
    table = Table(title=title)
    table.add_column("condition", overflow="fold")
    judged = bool(result.expectations)
    for heading in ("expected", "band for this run", "produced", "verdict") if judged else ("produced",):
        table.add_column(heading)
    verdicts = {None: "", True: "[green]holds[/]", False: "[bold red]missed[/]"}
    for row in tables.rows(result):
        words = (row.expected, row.band, row.produced, verdicts[row.holds]) if judged else (row.produced,)
        table.add_row(row.condition, *words)
    console.print(table)
    if changed:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
        console.print(f"No verdict: {options} differ from the preset, and expected values belong to the preset.")
    for source in dict.fromkeys(row["source"] for row in result.expectations):
        console.print(f"Expected: {source}.", soft_wrap=True)
    timing = result.provenance
    console.print(
        f"{result.wall_seconds:.1f} s in all: {timing['compile_seconds']:.1f} s to compile, "
        f"{timing['run_seconds']:.1f} s to run; {timing['resumed_seeds']} seeds taken from an earlier run."
    )
    for path in files:
        console.print(f"wrote {shlex.quote(str(path))}", soft_wrap=True, highlight=False)
