"""Another process for an answer: it cannot hang, crash, exit or flood the one that asked."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from exercises.answer import Finding, Source
from sublim_theory.protocols import SublimError

PRINTED = 2_000
"""How many bytes of what an answer prints are kept."""

REPORT = 1 << 20
"""Bound in bytes on the report of a check."""

STEPS = 10
"""After so many times the limit of one step the whole is over."""


class CheckError(SublimError):
    """The check itself failed; the message has the end of what it said."""


@dataclass(frozen=True)
class Outcome:
    """What became of an answer.

    Attributes:
        findings: in the order of the check.
        error: why the check could not be gone through; None if it was.
        printed: what the answer printed, its first `PRINTED` bytes.
        seconds: the time that all of it took.
    """

    findings: tuple[Finding, ...]
    error: str | None
    printed: str
    seconds: float

    @property
    def right(self) -> bool:
        """Whether the check was gone through and everything in it is right."""
        return self.error is None and bool(self.findings) and all(found.right for found in self.findings)


def run(source: Source, limit: float, say: Callable[[str], None]) -> Outcome:
    """Run the check of an answer in a process of its own, and end that process with all that it has started.

    Args:
        source: the file.
        limit: seconds for running it, and for each use of what it defines.
        say: called with each step of the check.

    Raises:
        CheckError: if the check itself fails.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, _started(source.path, Path(folder), limit) as process:
        reader = _Reader(process.stdout)
        rows: list[dict[str, Any]] = []
        over = False
        while process.poll() is None and not over:
            time.sleep(0.05)
            rows = _rows(Path(folder) / "report", rows, say)
            over = time.monotonic() - began > STEPS * limit
        _end(process)
        rows = _rows(Path(folder) / "report", rows, say)
        printed = reader.text()
        findings = tuple(Finding(**row["finding"]) for row in rows if "finding" in row)
        error = next((row["error"] for row in rows if "error" in row), None)
        if broken := [row["broken"] for row in rows if "broken" in row]:
            raise CheckError(f"the check itself failed, which is no fault of the answer:\n{broken[0]}")
        if error is None and not any("end" in row for row in rows):
            if over:
                error = f"the check did not end within {STEPS * limit:g} s (--limit {limit:g} is for one step of it)"
            else:
                trace = (Path(folder) / "trace").read_text("utf-8", "replace")
                error = _cause(source, process.returncode, trace, limit)
    return Outcome(findings, error, printed, time.monotonic() - began)


@contextlib.contextmanager
def _started(path: Path, folder: Path, limit: float) -> Iterator[subprocess.Popen[bytes]]:
    """The process, ended in the end."""
    clone = str(Path(__file__).resolve().parents[1])
    paths = os.pathsep.join(filter(None, (clone, os.environ.get("PYTHONPATH"))))
    path = path.resolve()
    # -P: a file of the student's named like a library must not be taken for it.
    process = subprocess.Popen(
        [sys.executable, "-P", "-u", "-m", "exercises.child", str(path), str(folder), str(limit)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=path.parent,
        env=os.environ | {"PYTHONPATH": paths},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _end(process)
        if process.stdout is not None:
            process.stdout.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and all of its group, which may outlive it."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


class _Reader:
    """Reads a stream to its end, in a thread of its own, and keeps the beginning."""

    def __init__(self, stream: IO[bytes] | None):
        self._stream, self._kept, self._size = stream, b"", 0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # closed under our feet
            while self._stream is not None and (block := os.read(self._stream.fileno(), 1 << 16)):
                self._size += len(block)
                self._kept += block[: PRINTED - len(self._kept)]

    def text(self) -> str:
        """What was kept, and how much was not."""
        self._thread.join(timeout=5)  # a process that left its group may hold the other end
        rest = self._size - len(self._kept)
        return self._kept.decode("utf-8", "replace") + (f"\n... and {rest:,} bytes more" if rest > 0 else "")


def _rows(path: Path, seen: list[dict[str, Any]], say: Callable[[str], None]) -> list[dict[str, Any]]:
    """The rows of the report until now; the steps among the new ones are said."""
    try:
        with path.open("rb") as file:
            *lines, _ = file.read(REPORT).split(b"\n")  # the last one is not finished
        rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    except (OSError, ValueError):
        return seen
    for row in rows[len(seen) :]:
        if "step" in row:
            say(row["step"])
    return rows


def _cause(source: Source, status: int, trace: str, limit: float) -> str:
    """Why the process ended before the check did, with the student's own line where it is known."""
    places = (source.where(name, int(line)) for name, line in re.findall(r'File "(.*?)", line (\d+)', trace))
    at = next((f", {place}" for place in places if place), "")
    if trace.startswith("Timeout"):
        return f"the answer did not come to an end within {limit:g} s (--limit){at}"
    if status < 0:
        name = signal.Signals(-status).name
        memory = ", as a machine does that runs out of memory" if name == "SIGKILL" else ""
        return f"the answer's process was ended by {name}{memory}{at}"
    return f"the answer ended its own process (os._exit, status {status}); an answer must not"
