"""Commands in processes of their own: what they took, and the most that they held.

`memory` and `scaling` run figure 10 with other options: peak and time a seed are flat in the number of seeds, for no
seed's noise outlives its chunk; with more devices or workers on the same cores, what is beyond one process is overhead.
`startup` goes from nothing to help, list, verdicts and the first figure, with its files in the system's cache.
"""

import atexit
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.turns import Options, Part, run
from sublim_theory.cli import MISSED
from sublim_theory.protocols import SublimError

PYTHON = (sys.executable, "-c")
SUBLIM = (*PYTHON, "import sys; from sublim_theory.cli import main; sys.exit(main())")
"""The command `sublim` of this interpreter."""

SECONDS, PEAK = "seconds", "peak memory, MB"
PER_SEED, COMPILING = "seconds a seed", "seconds to compile, once"

# On Linux the peak of a process starts at that of the one that spawned it: this one is as small as Python gets.
_LAUNCHER = """
import os, sys, time
began = time.perf_counter()
_, status, usage = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)
print(time.perf_counter() - began, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
code = os.waitstatus_to_exitcode(status)
sys.exit(code if code >= 0 else 128 - code)
"""


def measure(*command: str, **variables: str) -> tuple[str, dict[str, Any]]:
    """Run a command: the last line that it printed; `SECONDS` from start to end, and `PEAK` of its largest process.

    Raises:
        SublimError: if it fails, with the last line of its complaint; a missed expectation is no failure.
    """
    environment = os.environ | variables
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)  # with it, no start would be cold
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, *command]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(launcher, env=environment, start_new_session=True, **pipes) as child:
        try:
            printed, errors = child.communicate()
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)  # the command too, which knows nothing of an interrupt
            raise
    if child.returncode not in (0, MISSED) or "Traceback" in errors:
        why = [f"it ended with status {child.returncode}", *errors.strip().splitlines()][-1]
        raise SublimError(f"a measured command failed: {shlex.join(command)}: {why}")
    *said, costs = printed.splitlines()
    seconds, peak = costs.split()
    return "".join(said[-1:]), {SECONDS: float(seconds), PEAK: int(peak) / 1e6}


def call(module: str, function: str, platform: str = "cpu", **arguments: Any) -> dict[str, Any]:
    """Call a function of this package, from JSON to JSON, in a process of its own: what it returns, and `PEAK`."""
    code = f"import json, sys; from benchmarks.{module} import {function} as f"
    code += "; print(json.dumps(f(**json.loads(sys.argv[1]))))"
    said, costs = measure(*PYTHON, code, json.dumps(arguments), JAX_PLATFORMS=platform)
    found: dict[str, Any] = json.loads(said)
    return found | {PEAK: costs[PEAK]}


def reproduce(options: Options, *settings: str) -> dict[str, Any]:
    """Run figure 10 by its command, with options NAME=VALUE; devices of a CPU are emulated.

    Returns:
        `SECONDS` and `PEAK` of the whole; from its record `COMPILING`, `PER_SEED` (without compiling) and `provenance`;
        and the mean `accuracy` of every network.
    """
    given = {name: value for name, _, value in (setting.partition("=") for setting in settings)}
    words = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", *value.split())]
    words += ["--data-dir", str(options.data_dir)] if options.data_dir else []
    variables: dict[str, str] = {"JAX_PLATFORMS": options.platform}
    if options.platform == "cpu" and "devices" in given:
        emulate = f"--xla_force_host_platform_device_count={given['devices']}"
        variables["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {emulate}".strip()
    with tempfile.TemporaryDirectory() as out:
        _, costs = measure(*SUBLIM, "reproduce", "fig10", *words, "--out", out, **variables)
        (summary,) = (json.loads(file.read_text("utf-8")) for file in Path(out).glob("*/summary.json"))
    origin = summary["provenance"]
    return costs | {
        PER_SEED: origin["run_seconds"] / len(origin["seeds"]),
        COMPILING: origin["compile_seconds"],
        "provenance": origin,
        "accuracy": {name: found["mean"] for name, found in summary["conditions"].items()},
    }


@dataclass(frozen=True)
class Runs(Options):
    """Run figure 10 by its command, one way and another."""

    settings: tuple[str, ...] = ("preset=default",)
    """Options of `sublim reproduce fig10` for every run, such as preset=paper noise_images=20000 "hidden=64 64"."""
    vary: tuple[str, ...] = ("devices=1", "devices=2", "workers=2")
    """One more for each run, such as seeds=10 seeds=30; the others are compared with the first."""


_CUT = ("preset=default", "noise_images=20000", "teacher_epochs=5", "student_epochs=2", "chunk_size=2")
_SHORT = ("preset=smoke", "hidden=16", "noise_images=300", "teacher_epochs=1", "student_epochs=1")


def ways(quantities: Sequence[str], options: Runs) -> dict[str, Part]:
    """A run for each way."""

    def measured(way: str, _: int) -> dict[str, Any]:
        found = reproduce(options, *options.settings, way)
        return {name: found[name] for name in (*quantities, "provenance")}

    return {way: partial(measured, way) for way in options.vary}


_MEMORY = {
    "default": Runs(settings=_CUT, vary=("seeds=10", "seeds=30", "seeds=100")),
    "smoke": Runs("smoke", 1, settings=_SHORT, vary=("seeds=1", "seeds=2")),
}
MEMORY = partial(run, parts=partial(ways, (PER_SEED, PEAK)), compared={PER_SEED: 0, PEAK: 0}, presets=_MEMORY)
_SCALING = {
    "default": Runs(settings=("preset=default", "seeds=20")),
    "smoke": Runs("smoke", 1, settings=(*_SHORT, "seeds=2")),
}
SCALING = partial(run, parts=partial(ways, (SECONDS, PEAK)), compared={SECONDS: 0}, presets=_SCALING)


def steps(options: Options) -> dict[str, Part]:
    """Every step, the import of JAX first; the figure with an empty cache of programs, and with what it left there."""
    settings = _SHORT if options.preset == "smoke" else ("preset=smoke",)
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    page = Path(__file__).parents[1] / "docs" / "how_to_ci.md"
    instance = Path(folder, "instance.py")
    instance.write_text(page.read_text("utf-8").split("```py\n")[1].split("```")[0], "utf-8")

    def figure(turn: int) -> dict[str, Any]:
        found = reproduce(options, *settings, f"compilation_cache={folder}/cache-{turn}")
        return {name: found[name] for name in (SECONDS, PEAK, "provenance")}

    def command(*words: str) -> Part:
        return lambda _: measure(*words, JAX_PLATFORMS=options.platform)[1]

    return {
        "import jax": command(*PYTHON, "import jax"),
        "sublim --help": command(*SUBLIM, "--help"),
        "sublim list": command(*SUBLIM, "list"),
        "sublim verify FILE.py": command(*SUBLIM, "verify", str(instance)),
        "sublim verify": command(*SUBLIM, "verify"),
        "first figure": figure,
        "first figure, cache": figure,
    }


STARTUP = partial(run, parts=steps, compared={SECONDS: 0})
