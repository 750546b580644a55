"""What an experiment runs on: the options for devices, memory, processes and compiled programs, and their effect."""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sublim_theory import devices, processes
from sublim_theory.cli import FAILED, MISSED, UsageError, guard


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
    coordinator: str | None = None
    """For several processes that run the same command: HOST:PORT of process 0, as the others reach it."""
    processes: int | None = None
    """How many processes there are."""
    process_id: int | None = None
    """Which of them this is, from 0. Process 0 writes the record."""
    distributed: bool = False
    """Take the three from Slurm or Open MPI."""
    join_within: int = 300
    """Seconds in which all processes must have started."""
    lost_after: int = 100
    """Seconds of silence after which a process counts as lost, and the others stop."""

    def run(self, work: Callable[[], int]) -> int:
        """Do work that returns an exit status on this machine.

        In several processes this one ends at once if the work fails, so that the others notice.

        Raises:
            UsageError: for options that do not fit together.
            DeviceError: for more devices than there are, or a cache that others can write to.
            ProcessError: if the processes cannot meet.
        """
        meeting = {"coordinator": self.coordinator, "processes": self.processes, "process_id": self.process_id}
        given = [value is not None for value in meeting.values()]
        if self.distributed and any(given):
            raise UsageError("--distributed takes --coordinator, --processes and --process-id from the launcher")
        if any(given) and not all(given):
            raise UsageError("--coordinator, --processes and --process-id belong together; give all three or none")
        if self.chunk_size is not None and self.chunk_size < 1:
            raise UsageError(f"--chunk-size must be at least 1, got {self.chunk_size}")
        if min(self.join_within, self.lost_after) < 1:
            raise UsageError("--join-within and --lost-after are seconds, at least 1")
        with contextlib.ExitStack() as stack:
            if self.deterministic:
                devices.make_deterministic()
            if self.compilation_cache is not None:
                stack.enter_context(devices.compilation_cache(self.compilation_cache))
            if self.distributed or all(given):
                return self._run_among_processes(work)
            devices.local(self.devices)  # a wrong number is refused before anything is read
            return work()

    def _run_among_processes(self, work: Callable[[], int]) -> int:
        _say(f"meeting the other processes, for at most {self.join_within} s; JAX ends this one if they stay away")
        processes.join(
            self.coordinator,
            self.processes,
            self.process_id,
            within=self.join_within,
            lost_after=self.lost_after,
        )
        _say(
            f"process {processes.index()} of {processes.count()}; if another is lost, JAX ends this one within about "
            f"{self.lost_after} s, finished seeds are kept, and the same commands go on from there"
        )

        def checked(_: list[str]) -> int:
            devices.local(self.devices)
            return work()

        try:
            status = guard(checked, [])
        except Exception:
            traceback.print_exc()
            status = FAILED
        if status in (0, MISSED):
            processes.leave()
            return status
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # a normal exit would wait for the others, who wait for this one


def _say(message: str) -> None:
    print(f"sublim: {message}", file=sys.stderr, flush=True)
