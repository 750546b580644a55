"""The command `sublim`. Commands of the layers above are found through an entry-point group, never imported.

Each command is a function of the words after its name. This module and theirs import neither JAX nor xarray before a
command has work to do, so that help, lists and most refusals come at once.
"""

import importlib.metadata
import json
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import tyro

import sublim_theory
from sublim_theory.console import any_encoding, console, status, table
from sublim_theory.protocols import SublimError, lookup

GROUP = "sublim_theory.commands"
REPOSITORY = "clone the repository that the sdist comes from and run `pip install -e .` there"

MISSED, FAILED = 1, 2
"""Exit statuses besides 0: an expectation or a check was missed; nothing was produced, for the reason given."""

Options = TypeVar("Options")


@dataclass(frozen=True)
class Command:
    """A command: a function of the words after its name that returns the exit status, and a line for `sublim --help`.

    The line stands apart from the docstring, which `python -OO` takes away.
    """

    run: Callable[[list[str]], int]
    summary: str = ""

    def __call__(self, argv: list[str]) -> int:
        """Run the command."""
        return self.run(argv)


def command(summary: str) -> Callable[[Callable[[list[str]], int]], Command]:
    """Make a command of a function."""
    return lambda function: Command(function, summary)


class UsageError(SublimError, ValueError):
    """The command line is wrong; the message is one line that says how and offers what is right."""


@dataclass(frozen=True)
class Nothing:
    """The options of a command that has none."""


@dataclass(frozen=True)
class Data:
    """Show which data files are present and verified; fetch what is missing on demand."""

    fetch: bool = False
    """Download the missing files of the dataset (of both downloadable ones, if none is named)."""
    dataset: str | None = None
    """mnist or fashion_mnist; both unless given. The digits are embedded and need no files."""
    data_dir: Path | None = None
    """Folder that holds mnist/ and fashion_mnist/; otherwise SUBLIM_THEORY_DATA or the cache folder."""


@command("Show which data files are present and verified; --fetch downloads what is missing.")
def show_data(argv: list[str]) -> int:
    """Show which data files are present and verified; fetch on demand with --fetch."""
    from sublim_theory import data, files

    options = parse(Data, argv, prog="sublim data")
    if options.dataset:
        lookup("dataset with files", options.dataset, files.FILES)
    names = [options.dataset] if options.dataset else list(files.FILES)
    if options.fetch:
        for name in names:
            data.load(name, options.data_dir, progress=sys.stderr.isatty())
    states = [status for name in names for status in files.status(name, options.data_dir)]
    for name in names:
        rows = [status for status in states if status.dataset == name]
        shown = table("file", "state", "bytes", "remark", title=f"{name} in {rows[0].path.parent}")
        shown.title_justify = "left"
        for row in rows:
            shown.add_row(row.path.name, row.state, f"{row.size:,}", row.detail)
        console().print(shown)
    return 0 if all(status.state in ("verified", "missing") for status in states) else FAILED


@dataclass(frozen=True)
class Verify:
    """Check Theorem 1 in float64: your own instance, or the theorem itself, with negative controls that must fail."""

    file: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="[FILE.py]")] = ()
    """A Python file with `f`, `params`, `teacher_loss` and `inputs`, and where wanted `imitation_loss`, `logits` and
    `student_params`, the arguments of `theorem.verify`. Unless given, the theorem itself is checked."""
    json: bool = False
    """Print JSON instead of a table or a report."""
    paper: bool = False
    """Every activation and loss on the 784-256-256-13 network with MNIST; minutes instead of seconds."""
    data_dir: Path | None = None
    """For --paper: folder that holds mnist/; otherwise SUBLIM_THEORY_DATA, the cache, or a download."""


@command("Check Theorem 1: the theorem itself, or FILE.py, an instance of your own.")
def verify(argv: list[str]) -> int:
    """Check Theorem 1 on small networks and on the paper's, with negative controls, or on the instance in a file.

    The status is 0 if everything comes out as it must, `MISSED` if not, `FAILED` if the instance cannot be checked.
    """
    options = parse(Verify, argv, prog="sublim verify")
    path, *others = options.file or (None,)
    if others:
        raise UsageError("one file at a time: sublim verify FILE.py")
    if path is not None and (options.paper or options.data_dir is not None):
        raise UsageError("--paper and --data-dir belong to the check without a file")
    if path is not None and not path.is_file():
        raise UsageError(f"there is no file {path}")
    from sublim_theory import devices

    devices.local()  # one that cannot be used is refused here
    return _verify_itself(options) if path is None else _verify_file(path, options)


def _verify_file(path: Path, options: Verify) -> int:
    from sublim_theory import instance_file

    with status() as say:
        say(f"checking {path}")
        report = instance_file.check(path)
    print(_json(report.to_dict()) if options.json else report)
    return 0 if report.holds else MISSED


def _verify_itself(options: Verify) -> int:
    from rich.text import Text

    from sublim_theory import selfcheck

    rows = []
    with status() as say:
        for row in selfcheck.paper(options.data_dir) if options.paper else selfcheck.quick():
            rows.append(row)
            say(f"{len(rows)} checked, last: {row.name}")
    passed = all(row.passed for row in rows)
    if options.json:
        print(_json({"passed": passed, "rows": [row.to_dict() for row in rows]}))
    else:
        shown = table("check", "must", "verdict", "remark", title="Theorem 1 (arXiv 2507.14805), float64")
        for row in rows:
            verdict = Text("passed", "green") if row.passed else Text("FAILED", "bold red")
            shown.add_row(row.name, "fail" if row.control else "hold", verdict, row.remark)
        console().print(shown)
    return 0 if passed else MISSED


def _json(value: object) -> str:
    return json.dumps(value, indent=2, allow_nan=False)


COMMANDS: dict[str, Callable[[list[str]], int]] = {"verify": verify, "data": show_data}


def main(argv: list[str] | None = None) -> int:
    """Run `sublim`; the entry point of the command.

    Args:
        argv: words after `sublim`, those of the process unless given.

    Returns:
        Exit status: 0, `MISSED`, `FAILED`, or 128 plus the number of the signal that ended it.
    """
    return guard(_dispatch, sys.argv[1:] if argv is None else argv)


def guard(command: Callable[[list[str]], int], argv: list[str]) -> int:
    """Run a command; a user's mistake, a failed run or a signal becomes one clear message and a status.

    SIGTERM, as batch systems send it, ends a command as Ctrl-C does; the status is 128 plus the signal's number. A
    reader that closes the pipe, such as `head`, ends it without a word.
    """
    received = [signal.SIGINT]

    def interrupt(number: int, _frame: object) -> None:
        received[0] = signal.Signals(number)
        raise KeyboardInterrupt

    ours = threading.current_thread() is threading.main_thread()  # only there may handlers be set
    previous = signal.signal(signal.SIGTERM, interrupt) if ours else None
    with any_encoding():
        try:
            result = command(argv)
            sys.stdout.flush()
            return result
        except SublimError as error:
            print(f"sublim: {error}", file=sys.stderr)
            return FAILED
        except KeyboardInterrupt:
            print("sublim: interrupted; finished seeds are kept, the same command goes on from there", file=sys.stderr)
            return 128 + received[0]
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
            return 128 + signal.SIGPIPE
        finally:
            if ours:
                signal.signal(signal.SIGTERM, previous)


def parse(
    kind: type[Options],
    argv: Sequence[str],
    *,
    prog: str,
    description: str | None = None,
    default: Options | None = None,
) -> Options:
    """Read options into a dataclass; `--help` prints and exits. `~` at the beginning of a path is the home folder.

    Args:
        kind: a dataclass; its docstring and those of its fields are the help.
        argv: the words to read.
        prog: how the command is called, for the help.
        description: replaces the docstring of `kind`.
        default: values of the options that are not given.

    Raises:
        UsageError: with one line, for an option that is not there.
        SystemExit: with status 2, for a value that does not fit; tyro has said which.
    """
    options, unknown = _read(kind, argv, prog=prog, description=description, default=default)
    if unknown:
        word = next((word.partition("=")[0] for word in unknown if word.startswith("-")), None)
        names = _names(kind)
        if word is None or not names:
            raise UsageError(f"{prog} takes no {shlex.join(unknown)}; see {prog} --help")
        lookup("option", word, dict.fromkeys(names))
    return options


def parse_some(kind: type[Options], argv: Sequence[str], *, prog: str) -> tuple[Options, list[str]]:
    """Options of a dataclass that stand among others, and the words that are not of them, `--help` included."""
    return _read(kind, argv, prog=prog, add_help=False)


def _read(
    kind: type[Options],
    argv: Sequence[str],
    *,
    prog: str,
    description: str | None = None,
    default: Options | None = None,
    add_help: bool = True,
) -> tuple[Options, list[str]]:
    extra: dict[str, Any] = {} if default is None else {"default": default}
    return tyro.cli(
        kind,
        args=list(argv),
        prog=prog,
        description=description,
        config=(tyro.conf.OmitArgPrefixes,),
        registry=_REGISTRY,
        add_help=add_help,
        return_unknown_args=True,
        **extra,
    )


_REGISTRY = tyro.constructors.ConstructorRegistry()


@_REGISTRY.primitive_rule
def _path(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec[Path] | None:
    """How a path is read: no shell expands the `~` of `--out=~/folder`."""
    if info.type is not Path:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: home(words[0]),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda path: [str(path)],
    )


def home(path: str | Path) -> Path:
    """A path with `~` expanded. Raises `UsageError` where nobody says which folder that is."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{path}: there is no home folder here; write the whole path") from error


def _names(kind: type[Any]) -> list[str]:
    """The options of a dataclass and of those inside it, as they are written."""
    names = []
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        inner = hints[field.name]
        if is_dataclass(inner):
            names += _names(inner)  # type: ignore[arg-type]
        elif tyro.conf.Positional not in get_args(inner):
            names.append(f"--{field.name.replace('_', '-')}")
    return names


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


def _load(entry: Any) -> Callable[[list[str]], int] | None:
    """The command of an entry point, or None where the layer above is not installed."""
    try:
        command: Callable[[list[str]], int] = entry.load()
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != entry.module.split(".")[0]:
            raise
        return None
    return command


def _help(above: dict[str, Any]) -> None:
    print("usage: sublim COMMAND [options]\n\nSubliminal learning in JAX.\n\ncommands:")
    for name, command in {**COMMANDS, **{name: _load(entry) for name, entry in above.items()}}.items():
        print(f"  {name:12}{getattr(command, 'summary', '') if command else 'Lives in the repository.'}")
    print("\nOptions of a command: sublim COMMAND --help\nVersion: sublim --version")
