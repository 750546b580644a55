"""What an experiment runs on: the options for devices, memory, workers and compiled programs, and their effect.

Reading and refusing the options imports neither JAX nor Dask.
"""

import contextlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sublim_theory.cli import UsageError

if TYPE_CHECKING:
    from experiments.workers import Workers

_OF_PROCESSES = "start one command with --workers N on this machine, or --cluster HOST:PORT; see docs/how_to_scale.md"
GONE = dict.fromkeys(
    ("--coordinator", "--processes", "--process-id", "--distributed", "--join-within", "--lost-after"), _OF_PROCESSES
)
"""Options of the release before, and what to use instead."""


def refuse_gone(argv: Sequence[str]) -> None:
    """Raise `UsageError` for the first word that is an option of the release before."""
    for word in argv:
        option = word.partition("=")[0].replace("_", "-")
        if option in GONE:
            raise UsageError(f"{option} is gone: {GONE[option]}")


@dataclass(frozen=True)
class Machine:
    """What to run on. No number depends on it beyond rounding, and a run may go on on another machine."""

    devices: int | None = None
    """How many devices of a process share the seeds; all of them unless given."""
    chunk_size: int | None = None
    """Seeds that are saved together, and on accelerators are in memory together; otherwise 1 are saved together, and
    on accelerators as many run together as the memory holds."""
    deterministic: bool = False
    """Use only GPU operations that give the same bits again."""
    compilation_cache: Path | None = None
    """Keep compiled programs in this folder, for the next run; only you may be able to write to it."""
    workers: int | None = None
    """Run the seeds in so many worker processes on this machine, each with cores, or with a GPU, of its own."""
    cluster: str | None = None
    """Run the seeds on the workers of a Dask scheduler that runs already: its HOST:PORT."""

    def check(self) -> None:
        """Raise `UsageError` for options that cannot be right or do not fit together."""
        for option, value in (("--chunk-size", self.chunk_size), ("--workers", self.workers)):
            if value is not None and value < 1:
                raise UsageError(f"{option} must be at least 1, got {value}")
        if self.workers is None and self.cluster is None:
            return
        option = "--cluster" if self.workers is None else "--workers"
        if importlib.util.find_spec("distributed") is None:
            raise UsageError(f"{option} needs Dask, which is not installed here: pip install -e '.[cluster]'")
        if self.cluster is None:
            return
        if self.workers is not None:
            raise UsageError("--workers starts workers and --cluster takes those that run; give one of them")
        host, _, port = self.cluster.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise UsageError(f"--cluster must be HOST:PORT with a port from 1 to 65535, got {self.cluster!r}")
        for option, given, variable in (
            ("--deterministic", self.deterministic, "XLA_FLAGS=--xla_gpu_deterministic_ops=true"),
            ("--compilation-cache", self.compilation_cache, "JAX_COMPILATION_CACHE_DIR"),
        ):
            if given:
                raise UsageError(f"{option} is for workers of this machine; start those of --cluster with {variable}")

    def run(self, work: Callable[["Workers | None"], int]) -> int:
        """Do work that returns an exit status on this machine; it gets the workers, if there are to be any.

        Raises:
            UsageError: for options that cannot be right or do not fit together.
            DeviceError: for more devices than there are, or a cache that others can write to.
        """
        self.check()
        with contextlib.ExitStack() as stack:
            from sublim_theory import devices

            if self.deterministic:
                devices.make_deterministic()
            if self.compilation_cache is not None:
                stack.enter_context(devices.compilation_cache(self.compilation_cache))
            if self.workers is None and self.cluster is None:
                devices.local(self.devices)  # a wrong number is refused before anything is read
                return work(None)
            from experiments.workers import Workers

            stack.enter_context(devices.on_cpu())  # accelerators are for the workers
            return work(stack.enter_context(Workers(count=self.workers, scheduler=self.cluster)))
