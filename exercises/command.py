"""The command `exercise`: start an exercise, and have pytest check an answer in a process of its own."""

import contextlib
import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from exercises import EXERCISES
from exercises.answer import Source, read
from sublim_theory.cli import FAILED, MISSED, Nothing, UsageError, command, parse
from sublim_theory.console import status
from sublim_theory.protocols import SublimError, lookup

HERE = Path(__file__).resolve().parent
CHECKS = HERE / "checks"

USAGE = "sublim exercise list | start NAME [options] | check FILE [options]"

STEPS = 10
"""After so many times the limit of one step the whole is over."""

GRACE = 5.0
"""Seconds after which a step is over that pytest cannot end, such as a program of JAX that loops."""


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
    """Seconds for running the file, and for each finding of the check."""
    memory: float = 8.0
    """GiB that the answer's process may take, where the system bounds it (Linux)."""


@command("Learn by doing: start an exercise, check an answer.")
def exercise(argv: list[str]) -> int:
    """Start an exercise or check an answer, which is `MISSED` if it is not right yet, `FAILED` if it could not be run.

    Raises:
        SublimError: for a wrong name, option or value, or if a file cannot be read or written.
    """
    actions = {"list": _list, "start": _start, "check": _check}
    if not argv or argv[0] in ("-h", "--help"):
        print(f"usage: {USAGE}\n\nOptions: sublim exercise start --help, sublim exercise check --help")
        return 0
    if argv[0].startswith("-"):
        raise UsageError(f"list, start or check comes first: {USAGE}")
    return lookup("action", argv[0], actions)(argv[1:])


def _list(argv: list[str]) -> int:
    parse(Nothing, argv, prog="sublim exercise list", description="List the exercises.")
    for name, summary in EXERCISES.items():
        print(f"{name:20}{summary}")
    return 0


def _start(argv: list[str]) -> int:
    options = parse(Start, argv, prog="sublim exercise start")
    lookup("exercise", options.name, EXERCISES)
    text = (HERE / "starters" / f"{options.name}.py").read_text("utf-8")
    if options.notebook:
        try:
            import jupytext  # an extra: scripts do without
        except ModuleNotFoundError as error:
            raise SublimError("--notebook needs jupytext (the extra `notebooks`); leave it out for a script") from error
        text = jupytext.writes(jupytext.reads(text, fmt="py:percent"), fmt="ipynb")
    path = options.out / f"{options.name}{'.ipynb' if options.notebook else '.py'}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except OSError as error:
        reason = "is there and is not overwritten" if path.is_file() else f"cannot be written: {error}"
        raise UsageError(f"{path} {reason}; choose another folder with --out") from error
    shown = shlex.quote(str(path))
    print(f"wrote {shown}; fill in what says TODO, then: sublim exercise check {shown}")
    return 0


Outcome = dict[str, Any]
"""What became of an answer, as `--json` prints it: `right`, `error`, `findings`, `printed` and `seconds`."""


def _check(argv: list[str]) -> int:
    options = parse(Check, argv, prog="sublim exercise check")
    for name, value, unit in (("limit", options.limit, "seconds"), ("memory", options.memory, "GiB")):
        if not 0 < value < 1e6:
            raise UsageError(f"--{name} is a number of {unit}, above 0 and below 1e6, got {value:g}")
    source = read(options.file)
    if missing := [name for name in ("pytest", "pytest_timeout") if not importlib.util.find_spec(name)]:
        raise SublimError(
            f"not installed: {' and '.join(missing)}; pytest checks an answer: "
            "pip install 'pytest>=8.3' 'pytest-timeout>=2.3', or in the clone pip install -e '.[exercises]'"
        )
    with status() as say:
        outcome = run(source, options.limit, options.memory, lambda step: say(f"{source.exercise}: {step}"))
    if options.json:
        print(json.dumps({"exercise": source.exercise, "file": str(options.file), **outcome}, indent=2))
    else:
        _report(source.exercise, outcome)
    return FAILED if outcome["error"] else 0 if outcome["right"] else MISSED


def _report(name: str, outcome: Outcome) -> None:
    findings, error, right = outcome["findings"], outcome["error"], outcome["right"]
    for found in findings:
        remark = f": {found['remark']}" if found["remark"] else ""
        print(_printable(f"{'right' if found['right'] else 'NOT YET':9}{found['what']}{remark}"))
    if outcome["printed"].strip() and not right:
        print("\nYour file printed:")
        print(_printable("\n".join(f"  {line}" for line in outcome["printed"].rstrip().splitlines())))
    if error:
        print(_printable(f"sublim: {error}"), file=sys.stderr)
    verdict = "could not be run" if error else "right" if right else "not yet"
    count = sum(found["right"] for found in findings)
    print(f"{name}: {verdict} ({count} of {len(findings)} findings are right; {outcome['seconds']:.0f} s)")


def _printable(text: str) -> str:
    """The text without what would steer a terminal."""
    return "".join(c if c == "\n" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def run(source: Source, limit: float, memory: float, say: Callable[[str], None]) -> Outcome:
    """Have pytest run an answer and its check in a process of its own; nothing that this starts outlives it.

    Raises:
        SublimError: if the check itself fails.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path, output, rows = Path(folder) / "rows", Path(folder) / "output", list[dict[str, Any]]()
        path.touch()
        with _child(source, limit, memory, path, output) as process:
            changed, late = began, ""
            while process.poll() is None and not late:
                time.sleep(0.05)
                now = time.monotonic()
                if len(seen := _rows(path)) > len(rows):
                    rows, changed = seen, now
                    say(next((row["step"] for row in reversed(rows) if "step" in row), "starting"))
                if now - began > STEPS * limit:
                    late = f"the check did not end within {STEPS * limit:g} s (--limit {limit:g} is for one step of it)"
                elif rows and "step" in rows[-1] and now - changed > limit + GRACE:
                    late = f"the answer did not come to an end within {limit:g} s (--limit)"
            if late:  # pytest then writes where it was
                process.send_signal(signal.SIGABRT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=GRACE)
        rows, text = _rows(path), output.read_text("utf-8", "replace")

    def given(kind: str) -> list[Any]:
        return [row[kind] for row in rows if kind in row]

    if broken := given("broken") or ([] if given("step") else [text]):
        raise SublimError(f"the check itself failed, no fault of the answer:\n{_printable(broken[0].strip()[-3000:])}")
    error = next(iter(given("error")), None)
    if error is None and not given("end"):
        places = (source.where(name, int(line)) for name, line in re.findall(r'File "(.*?)", line (\d+)', text))
        at = next((f", {place}" for place in places if place), "")
        error = f"{given('step')[-1]}: {late or _cause(process.returncode)}{at}"
    findings, printed, seconds = given("finding"), "".join(given("printed")), time.monotonic() - began
    right = error is None and bool(findings) and all(found["right"] for found in findings)
    return {"right": right, "error": error, "findings": findings, "printed": printed, "seconds": seconds}


@contextlib.contextmanager
def _child(source: Source, limit: float, memory: float, rows: Path, output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The process that runs pytest, ended with all of its group in the end."""
    path = source.path.resolve()
    # -P: a file of the student's named like a library must not be taken for it.
    words = [sys.executable, "-P", "-m", "pytest", "-p", "pytest_timeout", "-p", "exercises.plugin", "-c", os.devnull]
    words += ["-p", "no:cacheprovider", "--import-mode=importlib", "--assert=plain", "--tb=no", f"--rootdir={HERE}"]
    words += [f"--timeout={limit}", "-o", "timeout_func_only=true", "--timeout-disable-debugger-detection"]
    words += [f"--answer={path}", f"--rows={rows}", f"--memory={memory}", str(CHECKS / f"{source.exercise}.py")]
    # What the surroundings set for pytest and Python is for other tests; without assertions everything would be right.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHONOPTIMIZE"))}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(HERE.parent), env.get("PYTHONPATH"))))
    env |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONBREAKPOINT": "0"}
    with output.open("wb") as out:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=path.parent, env=env, start_new_session=True
        )
    try:
        yield process
    finally:
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()


def _rows(path: Path) -> list[dict[str, Any]]:
    """What the plugin has said until now."""
    *lines, _ = path.read_text("utf-8").split("\n")  # the last one is not finished
    return [json.loads(line) for line in lines]


def _cause(returned: int) -> str:
    """Why the process ended before the check did."""
    if returned >= 0:
        return f"the answer ended its own process (os._exit, status {returned}); an answer must not"
    name = signal.Signals(-returned).name
    memory = ", as a machine does that runs out of memory" if name == "SIGKILL" else ""
    return f"the answer's process was ended by {name}{memory}"
