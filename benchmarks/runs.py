"""Runs of the public commands in processes of their own: what they took, and what they held at most."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.worker import WorkerError
from experiments.fig10 import PRESETS
from sublim_theory.cli import MISSED, UsageError
from sublim_theory.protocols import lookup
from sublim_theory.record import load

SUBLIM = (sys.executable, "-c", "import sys; from sublim_theory.cli import main; sys.exit(main())")
"""The command `sublim` of this interpreter."""

_LAUNCHER = (sys.executable, "-I", "-S", str(Path(__file__).with_name("child.py")))
_ORIGIN = ("versions", "commit", "dirty", "dataset_sha256", "device")


@dataclass(frozen=True)
class Workload:
    """Runs of figure 10, shorter than the protocol; what a benchmark varies it varies from here."""

    protocol: str = "default"
    """Preset of figure 10 to start from: smoke and default (embedded digits) or paper (MNIST)."""
    hidden: tuple[int, ...] = (256, 256)
    """Width of each hidden layer."""
    auxiliary: int = 3
    """Auxiliary logits, the paper's m."""
    noise_images: int = 20_000
    """Inputs of the students."""
    teacher_epochs: int = 5
    """Passes of the teacher over the training images."""
    student_epochs: int = 2
    """Passes of the students over the noise images."""
    data_dir: Path | None = None
    """Folder that holds mnist/; otherwise SUBLIM_THEORY_DATA, the cache, or a download."""

    def __post_init__(self) -> None:
        """Check every option before anything runs.

        Raises:
            SublimError: naming the option and what it may be.
        """
        lookup("protocol", self.protocol, PRESETS)
        require_positive(self, "hidden", "auxiliary", "noise_images", "teacher_epochs", "student_epochs")

    @property
    def words(self) -> list[str]:
        """Words of the command line after `fig10`."""
        named = {
            "preset": self.protocol,
            "auxiliary": self.auxiliary,
            "noise-images": self.noise_images,
            "teacher-epochs": self.teacher_epochs,
            "student-epochs": self.student_epochs,
        } | ({"data-dir": self.data_dir} if self.data_dir else {})
        words = [word for name, value in named.items() for word in (f"--{name}", str(value))]
        return [*words, "--hidden", *(str(width) for width in self.hidden)]


def require_positive(options: object, *names: str) -> None:
    """Check that options, each a number or a tuple of numbers, are at least 1.

    Raises:
        UsageError: naming the first that is not.
    """
    for name in names:
        value = getattr(options, name)
        if min(value if isinstance(value, tuple) else (value,), default=1) < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be at least 1, got {value}")


def measure(
    *commands: Sequence[str],
    environment: Mapping[str, str] | None = None,
    cores: Sequence[Sequence[int]] | None = None,
    writes: Path | None = None,
) -> list[dict[str, float]]:
    """Run commands at once, on the CPU: `seconds` and `peak_bytes` of each.

    Args:
        commands: the words of each, an absolute path first.
        environment: variables to set for all of them.
        cores: those that each may use; all unless given.
        writes: a record that they leave; where it is there, the status of a missed expectation is no failure.

    Raises:
        WorkerError: if one fails, with what it said; the others are stopped.
    """
    places = cores or [()] * len(commands)
    variables = os.environ | {"JAX_PLATFORMS": "cpu"} | dict(environment or {})
    with contextlib.ExitStack() as stack:
        runs, errors = [], []
        for command, place in zip(commands, places, strict=True):
            errors.append(stack.enter_context(tempfile.TemporaryFile("w+")))
            run = subprocess.Popen(
                [*_LAUNCHER, ",".join(map(str, place)), *command],
                env=variables,
                stdout=subprocess.PIPE,
                stderr=errors[-1],
                text=True,
                start_new_session=True,
            )
            stack.callback(_stop, run)
            runs.append(run)
        found = []
        for command, run, error in zip(commands, runs, errors, strict=True):
            said, _ = run.communicate()
            missed = run.returncode == MISSED and writes is not None and writes.exists()
            if run.returncode != 0 and not missed:
                error.seek(0)
                why = error.read().strip() or f"it ended with status {run.returncode}"
                raise WorkerError(f"a measured command failed: {' '.join(command)}: {why}")
            seconds, peak = said.split()
            found.append({"seconds": float(seconds), "peak_bytes": int(peak)})
    return found


def _stop(run: subprocess.Popen[str]) -> None:
    """End a launcher and its command, unless they have ended."""
    if run.poll() is None:
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()


def fig10(
    workload: Workload,
    seeds: int,
    *words: str,
    processes: int = 1,
    environment: Mapping[str, str] | None = None,
    cores: Sequence[Sequence[int]] | None = None,
) -> dict[str, Any]:
    """Run figure 10 by its command, in one process or in several that meet on loopback.

    Returns:
        `seconds` until the last process ended, `peak_bytes` of the largest, and from the record `run_seconds`,
        `compile_seconds` and `provenance`, which are those of process 0.

    Raises:
        WorkerError: if a process fails.
    """
    with tempfile.TemporaryDirectory() as out:
        folder = Path(out, f"fig10-{workload.protocol}")
        command = [sys.executable, "-m", "experiments", "fig10", *workload.words, "--seeds", str(seeds), "--out", out]
        meeting: list[list[str]] = [[]]
        if processes > 1:
            common = ["--coordinator", f"127.0.0.1:{_free_port()}", "--processes", str(processes)]
            meeting = [[*common, "--process-id", str(index)] for index in range(processes)]
        found = measure(
            *([*command, *words, *each] for each in meeting),
            environment=environment,
            cores=cores,
            writes=folder / "summary.json",
        )
        origin = load(folder).provenance
    return {
        "seconds": max(each["seconds"] for each in found),
        "peak_bytes": max(each["peak_bytes"] for each in found),
        "run_seconds": origin["run_seconds"],
        "compile_seconds": origin["compile_seconds"],
        "provenance": {name: origin[name] for name in _ORIGIN},
    }


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port
