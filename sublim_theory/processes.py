"""Several processes, on one host or on many: how they find each other, meet, and end together.

All of it is `jax.distributed`: process 0 runs JAX's coordination service, every process sends it heartbeats, and when
one falls silent JAX ends the others. Nothing is computed across processes; what one finishes the others read from a
folder that all of them see.
"""

import socket
import time
from typing import Any

import jax
from jax.experimental import multihost_utils

from sublim_theory.protocols import SublimError

_live_devices = getattr(jax, "live_devices", None) or multihost_utils.live_devices  # it moves up in newer versions


class ProcessError(SublimError, RuntimeError):
    """Processes that cannot meet or have lost one of them; the message names it and the way out."""


def count() -> int:
    """How many processes there are; 1 before `join`."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def index() -> int:
    """Which of them this is, from 0; process 0 keeps the records."""
    return jax.process_index() if jax.distributed.is_initialized() else 0


def join(
    coordinator: str | None = None,
    processes: int | None = None,
    process_id: int | None = None,
    *,
    within: int = 300,
    lost_after: int = 100,
) -> None:
    """Meet the other processes; call it before JAX runs anything.

    Args:
        coordinator: HOST:PORT of process 0, as the others reach it; on a loopback address it listens there alone,
            otherwise on every interface. JAX's service asks for no password: keep it inside a trusted network.
        processes: how many there are.
        process_id: which of them this is, from 0. Without these three JAX takes them from Slurm or Open MPI.
        within: seconds to wait for the others. JAX ends the process with a message of its own if one stays away.
        lost_after: seconds of silence after which JAX ends the other processes.

    Raises:
        ProcessError: if an argument cannot be right, or nobody answers at the address.
    """
    options: dict[str, Any] = {"initialization_timeout": within, "heartbeat_timeout_seconds": lost_after}
    if (coordinator, processes, process_id) == (None, None, None):
        try:
            jax.distributed.initialize(**options)
        except (ValueError, RuntimeError) as error:
            raise ProcessError(
                f"neither Slurm nor Open MPI says how to meet ({error}); give coordinator, processes and process_id"
            ) from error
        return
    if coordinator is None or processes is None or process_id is None:
        raise ProcessError("coordinator, processes and process_id belong together; give all three or none")
    if processes < 1 or not 0 <= process_id < processes:
        raise ProcessError(f"process_id must be from 0 to {processes} - 1, the number of processes, got {process_id}")
    host, port = _address(coordinator)
    if process_id > 0:
        _require_answer(host, port, within)
    loopback = host == "localhost" or host.startswith("127.")
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process_id,
            coordinator_bind_address=coordinator if loopback else None,
            **options,
        )
    except (ValueError, RuntimeError) as error:
        raise ProcessError(f"process {process_id} of {processes} cannot meet at {coordinator}: {error}") from error


def meet() -> None:
    """Wait until every process is here; at once where there is only one.

    It goes through the coordination service, not through the devices: a collective gives up when one process comes
    half a minute after another.

    Raises:
        ProcessError: if one was lost.
    """
    if count() == 1:
        return
    devices = jax.devices()
    there: list[jax.Device] = []
    try:
        with _live_devices(devices) as live:
            there = live
    except (RuntimeError, multihost_utils.ProcessFailureError) as error:
        raise _lost(getattr(error, "failed_devices", ())) from error
    if len(there) < len(devices):
        raise _lost(set(devices) - set(there))


def leave() -> None:
    """Part from the others, who do so too; the opposite of `join`."""
    if jax.distributed.is_initialized():
        jax.distributed.shutdown()  # type: ignore[no-untyped-call]


def _lost(devices: object) -> ProcessError:
    gone = sorted({device.process_index for device in devices})  # type: ignore[attr-defined]
    which = f"process {', '.join(map(str, gone))}" if gone else "another process"
    return ProcessError(f"{which} was lost; finished seeds are kept, the same commands go on from there")


def _address(coordinator: str) -> tuple[str, int]:
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ProcessError(f"coordinator must be HOST:PORT with a port from 1 to 65535, got {coordinator!r}")
    return host.strip("[]"), int(port)


def _require_answer(host: str, port: int, within: float) -> None:
    """Wait until something listens there: JAX would end the process without saying where it looked."""
    deadline = time.monotonic() + within
    while True:
        try:
            socket.create_connection((host, port), timeout=max(0.1, deadline - time.monotonic())).close()
            return
        except OSError as error:
            if time.monotonic() + 0.5 > deadline:
                raise ProcessError(
                    f"nobody answers at {host}:{port} within {within} s ({error}); start process 0 there, and see "
                    "that no firewall is in between"
                ) from error
        time.sleep(0.2)
