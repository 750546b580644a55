"""The command `sublim`. Commands of the layers above are found through an entry-point group, never imported."""

import contextlib
import importlib.metadata
import io
import json
import re
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import tyro
from rich.console import Console
from rich.table import Table

import sublim_theory
from sublim_theory import data, files
from sublim_theory.protocols import SublimError, lookup

GROUP = "sublim_theory.commands"
REPOSITORY = "clone the repository that the sdist comes from and run `pip install -e .` there"

MISSED, FAILED = 1, 2
"""Exit statuses besides 0: an expectation or a check was missed; nothing was produced, for the reason given."""

Command = Callable[[list[str]], int]
Options = TypeVar("Options")


class UsageError(SublimError, ValueError):
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
    if options.dataset:
        lookup("dataset with files", options.dataset, files.FILES)
    names = [options.dataset] if options.dataset else list(files.FILES)
    if options.fetch:
        for name in names:
            data.load(name, options.data_dir, progress=sys.stderr.isatty())
    console = Console()
    states = [status for name in names for status in files.status(name, options.data_dir)]
    for name in names:
        rows = [status for status in states if status.dataset == name]
        table = Table(
            "file", "state", "bytes", "remark", title=f"{name} in {rows[0].path.parent}", title_justify="left"
        )
        for status in rows:
            table.add_row(status.file, status.state, f"{status.size:,}", status.detail)
        console.print(table)
    return 0 if all(status.state in ("verified", "missing") for status in states) else FAILED


@dataclass(frozen=True)
class Verify:
    """Check Theorem 1 in float64: what must hold holds, and what must fail fails."""

    json: bool = False
    """Print JSON instead of a table."""
    paper: bool = False
    """Every activation and loss on the 784-256-256-13 network with MNIST; minutes instead of seconds."""
    data_dir: Path | None = None
    """For --paper: folder that holds mnist/; otherwise SUBLIM_THEORY_DATA, the cache, or a download."""


def verify(argv: list[str]) -> int:
    """Check Theorem 1 on small networks and on the paper's, with negative controls."""
    options = parse(Verify, argv, prog="sublim verify")
    from sublim_theory import selfcheck  # the networks and the theorem, which other commands do without

    rows, console = [], Console(stderr=True)
    with console.status("") as status:
        for row in selfcheck.paper(options.data_dir) if options.paper else selfcheck.quick():
            rows.append(row)
            status.update(f"{len(rows)} checked, last: {row.name}")
    passed = all(row.passed for row in rows)
    if options.json:
        print(json.dumps({"passed": passed, "rows": [row.to_dict() for row in rows]}, indent=2, allow_nan=False))
    else:
        table = Table("check", "must", "verdict", "remark", title="Theorem 1 (arXiv 2507.14805), float64")
        for row in rows:
            verdict = "[green]passed[/]" if row.passed else "[bold red]FAILED[/]"
            table.add_row(row.name, "fail" if row.control else "hold", verdict, row.remark)
        Console().print(table)
    return 0 if passed else MISSED


COMMANDS: dict[str, Command] = {"verify": verify, "data": show_data}


def main(argv: list[str] | None = None) -> int:
    """Run `sublim`; the entry point of the command.

    Args:
        argv: words after `sublim`, those of the process unless given.

    Returns:
        Exit status: 0, `MISSED`, `FAILED`, or 128 plus the number of the signal that ended it.
    """
    return guard(_dispatch, sys.argv[1:] if argv is None else argv)


def guard(command: Command, argv: list[str]) -> int:
    """Run a command; a user's mistake, a failed run or a signal becomes one clear message and a status.

    SIGTERM, as batch systems send it, ends a command as Ctrl-C does; the status is 128 plus the signal's number.
    """
    received = [signal.SIGINT]

    def interrupt(number: int, _frame: object) -> None:
        received[0] = signal.Signals(number)
        raise KeyboardInterrupt

    ours = threading.current_thread() is threading.main_thread()  # only there may handlers be set
    previous = signal.signal(signal.SIGTERM, interrupt) if ours else None
    try:
        return command(argv)
    except SublimError as error:
        print(f"sublim: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("sublim: interrupted; finished seeds are kept, the same command goes on from there", file=sys.stderr)
        return 128 + received[0]
    finally:
        if ours:
            signal.signal(signal.SIGTERM, previous)


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
    lines = (line.strip("│╭╮╰╯ ") for line in box.splitlines()[1:])  # the first one is the title
    sections = [text for text in re.split(r"\s*[─-]{3,}\s*", " ".join(lines)) if text.strip()] or [box]
    message = sections[0].strip().rstrip(".").removeprefix("Error parsing config: ")
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
    lookup("command", name, dict.fromkeys([*COMMANDS, *above]))
    command = COMMANDS.get(name) or _load(above[name])
    if command is None:
        raise UsageError(f"`sublim {name}` lives in the repository, not in the installed package: {REPOSITORY}")
    return command(rest)


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
    for name, command in {**COMMANDS, **{name: _load(entry) for name, entry in above.items()}}.items():
        summary = (command.__doc__ or "").splitlines()[0] if command else "Lives in the repository."
        print(f"  {name:12}{summary}")
    print("\nOptions of a command: sublim COMMAND --help\nVersion: sublim --version")
