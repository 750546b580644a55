"""The commands `reproduce`, `sweep` and `list`: run an experiment, save its record, draw it, say whether it held.

Whatever can be refused without the settings of an experiment is refused before anything heavy is imported.
"""

import dataclasses
import shlex
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from experiments import EXPERIMENTS, PRESETS, SUMMARIES
from experiments.machine import Machine, refuse_gone
from experiments.registry import find
from sublim_theory.cli import MISSED, Nothing, UsageError, command, parse, parse_some
from sublim_theory.console import console, table
from sublim_theory.protocols import lookup

if TYPE_CHECKING:
    from experiments.experiment import Experiment, Settings
    from experiments.workers import Workers
    from sublim_theory.record import Record


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


@dataclass(frozen=True)
class Vary:
    """What a sweep varies."""

    vary: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A setting and its values, SETTING=VALUE,VALUE,...; a tuple is written 64x64. Twice for all pairs."""


@command("Run an experiment and compare it with what is expected: sublim reproduce NAME [options].")
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
    name, *words = argv
    if name.startswith("-"):
        raise UsageError(f"the experiment comes first: sublim reproduce NAME [options]; NAME is one of: {names}")
    chosen = list(SUMMARIES) if name == "all" else [name]
    presets = {each: _preset(each, words) for each in chosen}
    parsed = [(find(each), *_parse(each, preset, words)) for each, preset in presets.items()]  # refuse before any runs
    return parsed[0][1].machine.run(lambda workers: max(_reproduce(*each, workers=workers) for each in parsed))


def _reproduce(
    chosen: "Experiment",
    run: Run,
    settings: "Settings[Any, Any]",
    vary: Collection[str] = (),
    workers: "Workers | None" = None,
) -> int:
    """Run, judge, save, draw and report; the exit status."""
    import figures
    from experiments import experiment
    from experiments.expectations import judge
    from sublim_theory.record import run_folder

    changed = [*vary] or _changed(settings, chosen.presets[run.preset])
    path = run.out / "-".join([chosen.name, run.preset, *vary])
    machine = run.machine
    chunks = path / "chunks"
    context = experiment.Context(run.preset, run.data_dir, chunks, machine.devices, machine.chunk_size, workers)
    with run_folder(path):
        record = experiment.run(chosen, settings, context)
        verdicts = [] if changed else judge(chosen.name, run.preset, record.conditions)
        record = dataclasses.replace(record, expectations=[dataclasses.asdict(verdict) for verdict in verdicts])
        record.save(path)
        try:
            pictures, refusal = figures.save(record, path), None
        except figures.ClaimError as error:
            pictures, refusal = [], error
        _report(record, changed, [path / "summary.json", *pictures])
    if refusal is not None:
        print(f"sublim: {refusal}", file=sys.stderr)
    return 0 if refusal is None and all(verdict.holds for verdict in verdicts) else MISSED


@command("Run an experiment over values of a setting: sublim sweep NAME --vary SETTING=VALUE,... [options].")
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
    given, others = parse_some(Vary, words, prog="sublim sweep")
    if not 1 <= len(given.vary) <= 2:
        raise UsageError(f"a sweep varies one setting or two, not {len(given.vary)}; usage: {usage}")
    preset = _preset(name, others)

    from experiments import experiment
    from experiments import sweep as sweeps

    inner = find(name)
    run, settings = _parse(name, preset, others)
    vary = sweeps.parse_vary(settings, given.vary)
    summary = f"{inner.summary}: over {' and '.join(vary)}"
    chosen = sweeps.over(inner, lambda _: vary, name=f"sweep_{name}", summary=summary)
    try:
        experiment.points(chosen, settings, run.preset)
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"--vary: {error}") from error
    return run.machine.run(lambda workers: _reproduce(chosen, run, settings, vary, workers))


@command("List the experiments with their presets.")
def list_experiments(argv: list[str]) -> int:
    """List the experiments with their presets.

    Args:
        argv: words of the command line after `list`; there are none.
    """
    parse(Nothing, argv, prog="sublim list", description="List the experiments with their presets.")
    shown = table("experiment", "what it shows", "presets")
    for name, summary in SUMMARIES.items():
        shown.add_row(name, summary, ", ".join(PRESETS[name]))
    console().print(shown)
    return 0


def _preset(name: str, words: list[str]) -> str:
    """The preset to start from; what is wrong whatever the settings are is refused: names, options of the machine."""
    lookup("experiment", name, SUMMARIES)
    refuse_gone(words)
    run, _ = parse_some(Run, words, prog=f"sublim reproduce {name}")
    lookup("preset", run.preset, dict.fromkeys(PRESETS[name]))
    run.machine.check()
    return run.preset


def _parse(name: str, preset: str, words: list[str]) -> "tuple[Run, Settings[Any, Any]]":
    """The run and the experiment's settings, which start from the preset and take every option given."""
    from experiments.experiment import Repetitions, Settings

    chosen = find(name)
    start = chosen.presets[preset]
    kinds: tuple[Any, Any] = type(start.protocol), type(start.rates)

    @dataclass(frozen=True)
    class Options:
        run: Run
        repetitions: Repetitions
        protocol: kinds[0]  # type: ignore[valid-type]
        rates: kinds[1]  # type: ignore[valid-type]

    own = {each.name: getattr(start, each.name) for each in dataclasses.fields(Repetitions)}
    default = Options(Run(preset=preset), Repetitions(**own), start.protocol, start.rates)
    description = f"{chosen.summary}. Defaults shown are those of the preset {preset!r}."
    options = parse(Options, words, prog=f"sublim reproduce {name}", description=description, default=default)
    try:
        settings = Settings(options.protocol, options.rates, **dataclasses.asdict(options.repetitions))
    except ValueError as error:
        raise UsageError(str(error)) from error
    return options.run, settings


def _changed(settings: "Settings[Any, Any]", preset: "Settings[Any, Any]") -> list[str]:
    """Settings that differ from the preset and change what to expect; the number of seeds does not."""
    usual = preset.of_a_seed()
    return [name for name, value in settings.of_a_seed().items() if value != usual[name]]


def _report(record: "Record", changed: list[str], files: list[Path]) -> None:
    """Print the table expected / produced / verdict, and where the files are."""
    from rich.text import Text

    from experiments import tables

    say = console().print
    seeds = len(record.provenance["seeds"])
    title = f"{record.experiment}, preset {record.preset}, {seeds} seed{'s' * (seeds > 1)}"
    judged = bool(record.expectations)
    headings = ("expected", "band for this run", "produced", "verdict") if judged else ("produced",)
    shown = table("condition", *headings, title=title)
    verdicts = {None: "", True: Text("holds", "green"), False: Text("missed", "bold red")}
    for row in tables.rows(record):
        words = (row.expected, row.band, row.produced, verdicts[row.holds]) if judged else (row.produced,)
        shown.add_row(row.condition, *words)
    say(shown)
    if changed:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
        say(f"No verdict: {options} differ from the preset, and expected values belong to the preset.")
    for source in dict.fromkeys(row["source"] for row in record.expectations):
        say(f"Expected: {source}.", soft_wrap=True)
    timing = record.provenance
    summed = " (all workers together)" if "workers" in timing else ""
    say(
        f"{record.wall_seconds:.1f} s in all: {timing['compile_seconds']:.1f} s to compile, "
        f"{timing['run_seconds']:.1f} s to run{summed}; {timing['resumed_seeds']} seeds taken from an earlier run."
    )
    for path in files:
        say(f"wrote {shlex.quote(str(path))}", soft_wrap=True)
