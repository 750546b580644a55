"""A student's file: which exercise it answers, the names that it defines, and calls that end in one clear message."""

import contextlib
import json
import linecache
import re
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exercises import EXERCISES
from sublim_theory.files import read_bounded
from sublim_theory.protocols import SublimError, lookup

MARKER = re.compile(r"^#\s*sublim exercise:\s*(\S+)", re.MULTILINE)
"""The line that says which exercise a file belongs to."""

LARGEST = 10 << 20
"""Bound in bytes on a file that is read; notebooks hold their pictures."""

Watch = Callable[[], AbstractContextManager[None]]
"""`with watch():` bounds the time of what is inside."""


class AnswerError(SublimError):
    """The answer cannot be read or run, or not used as asked; the message names the student's own line."""


class StillToDo(AnswerError):
    """A place that the starter leaves open is still open."""


@dataclass(frozen=True)
class Finding:
    """One thing that a check looked at.

    Attributes:
        what: the property, and on what kind of instance.
        right: whether the answer has it.
        remark: what was found, or a hint; never the answer.
    """

    what: str
    right: bool
    remark: str


@dataclass(frozen=True)
class Cell:
    """A piece of code.

    Attributes:
        label: where it stands, such as `cell 3`; empty in a script.
        code: its lines.
    """

    label: str
    code: str

    @property
    def filename(self) -> str:
        """What Python calls it in tracebacks: plain ASCII, whatever the path of the file."""
        return f"<answer {self.label}>" if self.label else "<answer>"

    def where(self, line: int) -> str:
        """A line of it as a message shows it."""
        lines = self.code.splitlines()
        text = lines[line - 1].strip() if 0 < line <= len(lines) else ""
        place = f"{self.label}, line {line}" if self.label else f"line {line}"
        return f"{place}: {text[:120]}" if text else place


@dataclass(frozen=True)
class Source:
    """A file that was read and not run.

    Attributes:
        path: of the file.
        exercise: the one that its marker names.
        cells: its code in order.
    """

    path: Path
    exercise: str
    cells: tuple[Cell, ...]

    def where(self, filename: str, line: int) -> str | None:
        """A line of this file as a message shows it; None for another file's."""
        return next((cell.where(line) for cell in self.cells if cell.filename == filename), None)


def read(path: Path) -> Source:
    """Read a script or a notebook.

    Raises:
        AnswerError: if there is none, it is neither, or no line of it says which exercise it answers.
        UnknownNameError: if that exercise does not exist.
    """
    if path.suffix not in (".py", ".ipynb"):
        raise AnswerError(f"an answer is a script (.py) or a notebook (.ipynb), got {path}")
    try:
        text = read_bounded(path, LARGEST).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AnswerError(f"cannot read {path}: {error}") from error
    cells = (Cell("", text),) if path.suffix == ".py" else _cells(path, text)
    found = list(dict.fromkeys(name for cell in cells for name in MARKER.findall(cell.code)))
    if len(found) != 1:
        raise AnswerError(
            f"{path} {'names several exercises' if found else 'does not say which exercise it answers'}: it needs "
            "one line `# sublim exercise: NAME`, as in the file that `sublim exercise start NAME` writes"
        )
    lookup("exercise", found[0], EXERCISES)
    return Source(path, found[0], cells)


def _cells(path: Path, text: str) -> tuple[Cell, ...]:
    """The code cells of a notebook, without the lines that are IPython's own."""
    try:
        cells = json.loads(text)["cells"]
        codes = [(i, "".join(cell["source"])) for i, cell in enumerate(cells, 1) if cell["cell_type"] == "code"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise AnswerError(f"{path} is not a notebook: {error!r:.200}") from error
    plain = ((i, "" if code.lstrip().startswith("%%") else code) for i, code in codes)
    return tuple(Cell(f"cell {i}", re.sub(r"^(\s*)[%!].*$", r"\1pass", code, flags=re.MULTILINE)) for i, code in plain)


class Answer:
    """A student's file, run once; what it defines is used through `function`, `value` and `call`."""

    def __init__(self, source: Source, watch: Watch = contextlib.nullcontext):
        """Run the file, with a `__name__` of `answer`, so that what stands under `__main__` is left out.

        Args:
            source: what was read.
            watch: bounds the time of running it, and of each use of what it defines.

        Raises:
            AnswerError: if it does not compile or raises; whatever it raises, an exit included.
        """
        self.source, self._watch = source, watch
        module = types.ModuleType("answer")
        module.__file__ = str(source.path)
        sys.modules["answer"] = module  # dataclasses look their module up
        self._names = vars(module)
        for cell in source.cells:
            lines = cell.code.splitlines(keepends=True)
            linecache.cache[cell.filename] = (len(cell.code), None, lines, cell.filename)
            with self.guarded("the file"):
                exec(compile(cell.code, cell.filename, "exec", dont_inherit=True), self._names)

    def value(self, name: str) -> Any:
        """What the file calls `name`.

        Raises:
            AnswerError: if there is nothing of that name.
            StillToDo: if it is None.
        """
        if name not in self._names:
            raise AnswerError(f"the file defines no `{name}`; the statement gives the names")
        if self._names[name] is None:
            raise StillToDo(f"`{name}` is still to do")
        return self._names[name]

    def function(self, name: str) -> Callable[..., Any]:
        """The function of that name, to be called inside `guarded`.

        Raises:
            AnswerError: if there is none.
        """
        found = self.value(name)
        if not callable(found):
            raise AnswerError(f"`{name}` must be a function, got {type(found).__name__}")
        return found

    def call(self, name: str, *arguments: Any, **named: Any) -> Any:
        """What the function of that name returns.

        Raises:
            AnswerError: if there is none, or it raises.
        """
        function = self.function(name)
        with self.guarded(f"`{name}`"):
            return function(*arguments, **named)

    @contextlib.contextmanager
    def guarded(self, what: str) -> Iterator[None]:
        """Turn whatever the student's code raises inside into one message, and bound its time.

        Raises:
            AnswerError: naming `what`, the exception and the student's own line.
        """
        try:
            with self._watch():
                yield
        except AnswerError:
            raise
        except BaseException as error:  # exits and interrupts too: this is not our code
            raise self._described(what, error) from None

    def _described(self, what: str, error: BaseException) -> AnswerError:
        if isinstance(error, SyntaxError) and (where := self.source.where(error.filename or "", error.lineno or 0)):
            return AnswerError(f"{what} does not compile: {error.msg}, {where}")
        frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
        own = [where for place in frames if (where := self.source.where(*place))]
        at = f", {own[-1]}" if own else ""
        if isinstance(error, NotImplementedError) and own and self.source.where(*frames[-1]):
            return StillToDo(f"{what} is still to do{at}")
        if isinstance(error, SystemExit):
            return AnswerError(f"{what} ends Python (sys.exit, exit or quit){at}; an answer must not")
        return AnswerError(f"{what} raised {_text(error)}{at}")


def _text(error: BaseException) -> str:
    """Type and message of an exception on one line, whatever its class does when asked."""
    name = type(error).__name__
    try:
        message = " ".join(str(error).split())
    except BaseException:
        return name
    return f"{name}: {message[:300]}" if message else name
