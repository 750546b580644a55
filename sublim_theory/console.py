"""What commands say, on any terminal, in a pipe, in a log: tables that are not cut, text that every encoding takes.

A progress bar or a spinner is shown on a terminal alone, whatever FORCE_COLOR says; that decides about colour.
"""

import codecs
import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDE = 10_000
"""Columns of what is no terminal: as many as any table takes."""

_PLAIN = {"±": "+-", "…": "..."}


def _in_other_words(error: UnicodeError) -> tuple[str, int]:
    """What an encoding has no character for, as an error handler of `codecs` gives it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(letter, "?") for letter in error.object[error.start : error.end]), error.end


codecs.register_error("sublim_theory.plain", _in_other_words)


@contextlib.contextmanager
def any_encoding() -> Iterator[None]:
    """Within it, standard output and error take every text, with other characters where theirs are not enough."""
    streams = [stream for stream in (sys.stdout, sys.stderr) if hasattr(stream, "reconfigure")]
    before = [stream.errors for stream in streams]
    try:
        for stream in streams:
            stream.reconfigure(errors="sublim_theory.plain")
        yield
    finally:
        for stream, errors in zip(streams, before, strict=True):
            if not stream.closed:
                stream.reconfigure(errors=errors)


def console(*, stderr: bool = False) -> "Console":
    """A console that prints text as it is, without markup, and cuts or wraps nothing where it is no terminal."""
    from rich.console import Console

    class Quiet(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Quiet(stderr=stderr, width=None if terminal else WIDE, markup=False, emoji=False, highlight=False)


def table(*headings: str, title: str | None = None) -> "Table":
    """An empty table for a `console`; what is too wide for a terminal goes on in the next line and is never cut."""
    from rich.table import Table

    found = Table(title=title)
    for heading in headings:
        found.add_column(heading, overflow="fold")
    return found


@contextlib.contextmanager
def status() -> Iterator[Callable[[str], None]]:
    """A spinner on standard error; entering gives `say(text)`. Nothing is shown where that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.text import Text

    with console(stderr=True).status("") as spinner:
        yield lambda text: spinner.update(Text(text))


@contextlib.contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar with the seconds an item takes, on standard error; entering gives `advance(count)`.

    Nothing is shown where that is no terminal.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            done = f"{task.elapsed / task.completed:.1f} s each" if task.elapsed and task.completed else "compiling"
            return Text(done, style="progress.percentage")

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        Remaining(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console(stderr=True)) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count: bar.update(task, advance=count)
