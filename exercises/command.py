"""The command `exercise`: start an exercise, and check an answer."""

import json
import shlex
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from exercises import EXERCISES, process
from exercises.answer import read
from sublim_theory.cli import FAILED, MISSED, UsageError, parse
from sublim_theory.protocols import SublimError, lookup

STARTERS = Path(__file__).parent / "starters"
"""Folder of the statements; that of the solutions, for teachers, lies beside it."""

USAGE = "sublim exercise list | start NAME [--out FOLDER] [--notebook] | check FILE [--json] [--limit SECONDS]"


@dataclass(frozen=True)
class Start:
    """Write the statement of an exercise, with places to fill in. A file that is there is never overwritten."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """One of those that `sublim exercise list` shows."""
    out: Path = Path()
    """Folder to write to; it is made if it is not there."""
    notebook: bool = False
    """Write a notebook, NAME.ipynb, rather than a script, NAME.py; it needs the package jupytext."""


@dataclass(frozen=True)
class Check:
    """Run an answer, with hidden instances, and say what is wrong. It runs the file's code as you: read it first.

    The exit status is 0 if everything is right, 1 if not yet, 2 if the answer could not be run.
    """

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """The script or notebook."""
    json: bool = False
    """Print JSON instead of lines to read."""
    limit: float = 60.0
    """Seconds for running the file, and for each use of a function that it defines."""


def exercise(argv: list[str]) -> int:
    """Learn by doing: start an exercise, check an answer.

    Args:
        argv: words of the command line after `exercise`.

    Returns:
        0; of `check`, `MISSED` if the answer is not right yet, and `FAILED` if it could not be run.

    Raises:
        UsageError: for a wrong name, option or value.
        SublimError: if a file cannot be read or written.
    """
    actions = {"list": _list, "start": _start, "check": _check}
    if not argv or argv[0] in ("-h", "--help"):
        print(f"usage: {USAGE}\n\nOptions: sublim exercise start --help, sublim exercise check --help")
        return 0
    if argv[0].startswith("-"):
        raise UsageError(f"list, start or check comes first: {USAGE}")
    return lookup("action", argv[0], actions)(argv[1:])


def _list(argv: list[str]) -> int:
    """List the exercises."""

    @dataclass(frozen=True)
    class Nothing:
        """List the exercises."""

    parse(Nothing, argv, prog="sublim exercise list")
    for name, summary in EXERCISES.items():
        print(f"{name:20}{summary}")
    return 0


def _start(argv: list[str]) -> int:
    options = parse(Start, argv, prog="sublim exercise start")
    lookup("exercise", options.name, EXERCISES)
    text = (STARTERS / f"{options.name}.py").read_text("utf-8")
    path = options.out / f"{options.name}{'.ipynb' if options.notebook else '.py'}"
    _write_new(path, notebook(text) if options.notebook else text)
    shown = shlex.quote(str(path))
    print(f"wrote {shown}; fill in what says TODO, then: sublim exercise check {shown}")
    return 0


def notebook(text: str) -> str:
    """A script in py:percent form as a notebook.

    Raises:
        SublimError: if jupytext is not installed.
    """
    try:
        import jupytext  # an extra: scripts do without
    except ModuleNotFoundError as error:
        raise SublimError(
            "--notebook needs the package jupytext (the extra `notebooks`); leave it out for a script"
        ) from error
    return str(jupytext.writes(jupytext.reads(text, fmt="py:percent"), fmt="ipynb"))


def _write_new(path: Path, text: str) -> None:
    """Write a file that is not there yet.

    Raises:
        UsageError: if it is there.
        SublimError: if it cannot be written; then nothing is left of it.
    """

    def refused(error: OSError) -> SublimError:
        return SublimError(f"cannot write {path}: {error}; choose another folder with --out")

    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True)
        file = path.open("x", encoding="utf-8", newline="\n")
    except OSError as error:
        if isinstance(error, FileExistsError) and path.parent.is_dir():
            raise UsageError(f"{path} is there and is not overwritten; choose another folder with --out") from error
        raise refused(error) from error
    try:
        with file:
            file.write(text)
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise refused(error) from error
        raise


def _check(argv: list[str]) -> int:
    options = parse(Check, argv, prog="sublim exercise check")
    if not 0 < options.limit < 1e6:
        raise UsageError(f"--limit is a number of seconds, above 0 and below 1e6, got {options.limit:g}")
    source = read(options.file)
    with Console(stderr=True).status(f"{source.exercise}: starting") as status:
        outcome = process.run(source, options.limit, lambda step: status.update(f"{source.exercise}: {step}"))
    if options.json:
        row = {"exercise": source.exercise, "file": str(options.file), "right": outcome.right, **asdict(outcome)}
        print(json.dumps(row, indent=2))
    else:
        _report(source.exercise, outcome)
    return FAILED if outcome.error else 0 if outcome.right else MISSED


def _report(name: str, outcome: process.Outcome) -> None:
    right = sum(found.right for found in outcome.findings)
    for found in outcome.findings:
        print(_printable(f"{'right' if found.right else 'NOT YET':9}{found.what}: {found.remark}"))
    if outcome.printed.strip() and not outcome.right:
        print("\nYour file printed:")
        print(_printable("\n".join(_indented(outcome.printed.rstrip().splitlines()))))
    verdict = "right" if outcome.right else "not yet"
    if outcome.error:
        print(_printable(f"sublim: {outcome.error}"), file=sys.stderr)
        verdict = "could not be run"
    print(f"{name}: {verdict} ({right} of {len(outcome.findings)} findings are right; {outcome.seconds:.0f} s)")


def _indented(lines: Iterable[str]) -> Iterable[str]:
    return (f"  {line}" for line in lines)


def _printable(text: str) -> str:
    """The text without what would steer a terminal."""
    return "".join(c if c == "\n" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
