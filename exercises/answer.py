"""A student's file: which exercise it answers, its code, and its lines as a message cites them."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from exercises import EXERCISES
from sublim_theory.files import read_bounded
from sublim_theory.protocols import SublimError, lookup

MARKER = re.compile(r"^#\s*sublim exercise:\s*(\S+)", re.MULTILINE)
"""The line that says which exercise a file belongs to."""

LARGEST = 10 << 20
"""Bound in bytes on a file that is read; notebooks hold their pictures."""


class AnswerError(SublimError):
    """The answer cannot be read, or does what it must not; the message is for the student."""


@dataclass(frozen=True)
class Source:
    """A file that was read and not run.

    Attributes:
        path: of the file.
        exercise: the one that its marker names.
        cells: its code in order, by what Python calls it in tracebacks: `<answer>`, or `<answer cell 3>`.
    """

    path: Path
    exercise: str
    cells: dict[str, str]

    def where(self, filename: str, line: int) -> str:
        """A line of this file as a message shows it; empty for another file's."""
        if filename not in self.cells:
            return ""
        lines = self.cells[filename].splitlines()
        cell = filename.removeprefix("<answer").strip(" >")
        text = lines[line - 1].strip()[:120] if 0 < line <= len(lines) else ""
        return f"{cell and f'{cell}, '}line {line}{text and f': {text}'}"


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
    cells = {"<answer>": text} if path.suffix == ".py" else _cells(path, text)
    found = list(dict.fromkeys(name for code in cells.values() for name in MARKER.findall(code)))
    if len(found) != 1:
        raise AnswerError(
            f"{path} {'names several exercises' if found else 'does not say which exercise it answers'}: it needs "
            "one line `# sublim exercise: NAME`, as in the file that `sublim exercise start NAME` writes"
        )
    lookup("exercise", found[0], EXERCISES)
    return Source(path, found[0], cells)


def _cells(path: Path, text: str) -> dict[str, str]:
    """The code cells of a notebook, without the lines that are IPython's own."""
    try:
        cells = json.loads(text)["cells"]
        codes = {i: "".join(cell["source"]) for i, cell in enumerate(cells, 1) if cell["cell_type"] == "code"}
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise AnswerError(f"{path} is not a notebook: {error!r:.200}") from error
    plain = {i: "" if code.lstrip().startswith("%%") else code for i, code in codes.items()}
    magic = re.compile(r"^(\s*)[%!].*$", re.MULTILINE)
    return {f"<answer cell {i}>": magic.sub(r"\1pass", code) for i, code in plain.items()}
