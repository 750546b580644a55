"""The command `sublim`. Commands of the layers above are found through an entry-point group, never imported."""

import contextlib
import difflib
import importlib.metadata
import io
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import tyro
from rich.console import Console
from rich.table import Table

import sublim_theory
from sublim_theory import data

GROUP = "sublim_theory.commands"
REPOSITORY = "clone the repository that the sdist comes from and run `pip install -e .` there"

Command = Callable[[list[str]], int]
Options = TypeVar("Options")


class UsageError(ValueError):
    """The command line is wrong; the message is one line that says how and offers what is right."""


@dataclass(frozen=True)
class Data:
    """Show which data files are present and verified; fetch what is missing on demand."""

    fetch: bool = False
    """Download the missing files of the dataset (of both downloadable ones, if none is named)."""
    dataset: str | None = None
    """mnist or fashion_mnist; both unless given. The digits are embedded and need no files."""
    data_dir: Path | None = None
    """Folder that holds mnist/ and fashion_mnist/; otherwise SUBLIM_THEORY_DATA or the cache folder."""


def show_data(argv: list[str]) -> int:
    """Show which data files are present and verified; fetch on demand with --fetch."""
    options = parse(Data, argv, prog="sublim data")
    names = [options.dataset] if options.dataset else list(data.FILES)
    if options.fetch:
        for name in names:
            data.load(name, options.data_dir)
    table = Table("dataset", "file", "state", "bytes", "path")
    states = [status for name in names for status in data.status(name, options.data_dir)]
    for status in states:
        size = "" if status.size is None else f"{status.size:,}"
        table.add_row(status.dataset, status.file, status.state, size, str(status.path.parent))
    Console().print(table)
    return 0 if all(status.state in ("verified", "missing") for status in states) else 1


COMMANDS: dict[str, Command] = {"data": show_data}


def main(argv: list[str] | None = None) -> int:
    """Run `sublim`; the entry point of the command.

    Args:
        argv: words after `sublim`, those of the process unless given.

    Returns:
        Exit status: 0 for success, 1 for a run that failed or missed an expectation, 2 for a wrong command line.
    """
    return guard(_dispatch, sys.argv[1:] if argv is None else argv)


def guard(command: Command, argv: list[str]) -> int:
    """Run a command; a user's mistake or a failed run becomes one line and an exit status, not a traceback."""
    try:
        return command(argv)
    except ValueError as error:
        print(f"sublim: {error}", file=sys.stderr)
        return 2
    except (RuntimeError, FloatingPointError) as error:
        if type(error).__module__.split(".")[0] not in ("sublim_theory", "experiments"):
            raise
        print(f"sublim: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "sublim: interrupted; finished seeds are kept, the same command goes on from there",
            file=sys.stderr,
        )
        return 130


def parse(
    kind: type[Options],
    argv: list[str],
    *,
    prog: str,
    description: str | None = None,
    default: Options | None = None,
) -> Options:
    """Read options into a dataclass; `--help` prints and exits.

    Args:
        kind: a dataclass; its docstring and those of its fields are the help.
        argv: the words to read.
        prog: how the command is called, for the help.
        description: replaces the docstring of `kind`.
        default: values of the options that are not given.

    Raises:
        UsageError: with one line, for an unknown option or a value that does not fit.
    """
    extra: dict[str, Any] = {} if default is None else {"default": default}
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            return tyro.cli(
                kind,
                args=argv,
                prog=prog,
                description=description,
                config=(tyro.conf.OmitArgPrefixes,),
                **extra,
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(f"{_one_line(messages.getvalue())} (see {prog} --help)") from None


def _one_line(box: str) -> str:
    """The message in tyro's box of several lines, as one line with its first suggestion."""
    lines = (line.strip("│╭╮╰╯ ") for line in box.splitlines()[1:])
    sections = re.split(r"\s*─{3,}\s*", " ".join(lines))
    message = sections[0].strip().rstrip(".")
    suggestion = next((re.search(r"--[\w-]+", text) for text in sections if text.startswith("Perhaps")), None)
    return f"{message}; did you mean {suggestion[0]}?" if suggestion else message


def _dispatch(argv: list[str]) -> int:
    above = {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}
    if not argv or argv[0] in ("-h", "--help"):
        _help(above)
        return 0
    name, *rest = argv
    if name == "--version":
        print(f"sublim_theory {sublim_theory.__version__}")
        return 0
    if name in COMMANDS:
        return COMMANDS[name](rest)
    if name in above:
        command = _load(above[name])
        if command is None:
            raise UsageError(f"`sublim {name}` lives in the repository, not in the installed package: {REPOSITORY}")
        return command(rest)
    near = difflib.get_close_matches(name, [*COMMANDS, *above], n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UsageError(f"unknown command {name!r}; {hint}choose from: {', '.join([*COMMANDS, *above])}")


def _load(entry: importlib.metadata.EntryPoint) -> Command | None:
    """The command, or None where the layer above is not installed."""
    try:
        command: Command = entry.load()
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != entry.module.split(".")[0]:
            raise
        return None
    return command


def _help(above: dict[str, importlib.metadata.EntryPoint]) -> None:
    print("usage: sublim COMMAND [options]\n\nSubliminal learning in JAX.\n\ncommands:")
    for name, command in COMMANDS.items() | {(name, _load(entry)) for name, entry in above.items()}:
        summary = (command.__doc__ or "").splitlines()[0] if command else "Lives in the repository."
        print(f"  {name:12}{summary}")
    print("\nOptions of a command: sublim COMMAND --help\nVersion: sublim --version")
