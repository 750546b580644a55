"""The process that runs an answer and checks it: `python -m exercises.child FILE FOLDER SECONDS`, for `process`.

It writes `FOLDER/report`, one JSON object a line: `step`, what comes next; `finding`; `error`, where the answer ends
the check; `broken`, where the check itself fails; `end`, where it is through. Where Python hangs or crashes, the line
is in `FOLDER/trace`.
"""

import contextlib
import faulthandler
import importlib
import json
import os
import sys
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from exercises.answer import Answer, AnswerError, Finding, StillToDo, read


def findings(answer: Answer, **size: Any) -> Iterator[str | Finding]:
    """What the check of its exercise says of an answer: findings, and a text before each thing that takes a while.

    What the answer raises is the last finding.

    Args:
        answer: the file, run.
        **size: what the check should do less of than it does by itself.
    """
    check = importlib.import_module(f"exercises.checks.{answer.source.exercise}").check
    jax = importlib.import_module("jax")  # not before the answer has run: one that hangs or crashes is told at once
    jax.config.update("jax_enable_x64", False)  # an answer may have set it; a check says by itself where it needs it
    try:
        yield from check(answer, **size)
    except StillToDo as error:
        yield Finding("complete", False, str(error))
    except AnswerError as error:
        yield Finding("usable", False, str(error))


def main(path: Path, folder: Path, seconds: float) -> None:
    """Run and check the answer, and leave at once: whatever it has started ends with this process."""
    with (folder / "report").open("a", encoding="utf-8") as report, (folder / "trace").open("w") as trace:
        faulthandler.enable(trace)

        def say(**row: Any) -> None:
            print(json.dumps(row), file=report, flush=True)

        @contextlib.contextmanager
        def watch() -> Iterator[None]:
            faulthandler.dump_traceback_later(seconds, exit=True, file=trace)
            try:
                yield
            finally:
                faulthandler.cancel_dump_traceback_later()

        sys.path.append(str(path.parent))  # modules of the student's own, after everybody else's
        say(step="running the file")
        try:
            answer = Answer(read(path), watch)
            say(step="checking")
            for found in findings(answer):
                say(**({"step": found} if isinstance(found, str) else {"finding": asdict(found)}))
            say(end=True)
        except AnswerError as error:
            say(error=str(error))
        except BaseException:
            say(broken=traceback.format_exc())
        _leave(sys.stdout, sys.stderr)


def _leave(*streams: TextIO) -> None:
    """End without waiting for threads, nor for functions to be called at the exit."""
    for stream in streams:
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(0)


if __name__ == "__main__":
    where, work, limit = sys.argv[1:]
    sys.argv[1:] = []
    main(Path(where), Path(work), float(limit))
