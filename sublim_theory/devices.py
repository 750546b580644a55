"""The devices of this process: which to use, a program on each, free memory, and settings that come before the first.

Everything here is scoped or leaves JAX as it was, but for `make_deterministic`, which XLA reads once.
"""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sublim_theory.protocols import SublimError

AXIS = "seeds"
"""Name of the mesh axis that the seeds are laid over."""
MARGIN = 0.8
"""Share of a device's free memory that seeds may take; the rest is for what XLA does not announce."""

_OWN, _WHOLE = PartitionSpec(AXIS), PartitionSpec()  # type: ignore[no-untyped-call]
_DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


class DeviceError(SublimError, ValueError):
    """A device or a setting of devices that cannot be had; the message names it and the way out."""


def local(count: int | None = None) -> list[jax.Device]:
    """The first `count` devices of this process; all of them unless given.

    Raises:
        DeviceError: if there are fewer, `count` is below 1, or the platform is not there or cannot be used.
    """
    try:
        found = jax.local_devices()
    except (RuntimeError, AssertionError) as error:  # JAX asserts for a platform that it knows and has no plug-in for
        reason = str(error).partition("\n")[0].partition(" (set")[0].rstrip(".") or "its plug-in is missing"
        asked = os.environ.get("JAX_PLATFORMS", "")
        raise DeviceError(
            f"no device can be used with JAX_PLATFORMS={asked!r}: {reason}; JAX_PLATFORMS=cpu is always there"
        ) from error
    if count is not None and not 1 <= count <= len(found):
        emulate = f"; to emulate them on a CPU: XLA_FLAGS=--xla_force_host_platform_device_count={count}"
        raise DeviceError(
            f"devices must be from 1 to {len(found)}, the number of {found[0].platform} devices here, got {count}"
            + (emulate if count > 1 and found[0].platform == "cpu" else "")
        )
    return found[:count]


def mesh(devices: Sequence[jax.Device]) -> Mesh:
    """The devices in a row, with the axis `AXIS`."""
    return Mesh(np.array(devices), (AXIS,))


def split(mesh: Mesh) -> NamedSharding:
    """Of an array whose leading axis is divided among the devices."""
    return NamedSharding(mesh, _OWN)


def copied(mesh: Mesh) -> NamedSharding:
    """Of an array that every device has whole."""
    return NamedSharding(mesh, _WHOLE)


def on_each(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """`function(own, *shared)` on every device by itself: nothing passes between them.

    Args:
        function: of a device's own part [seeds / devices] and of pytrees; returns arrays [seeds / devices, ...].
        mesh: the devices.

    Returns:
        The function of [seeds] and the pytrees, with arrays [seeds, ...].
    """

    def mapped(seeds: jax.Array, *shared: Any) -> Any:
        specs = (_OWN, *(_WHOLE for _ in shared))
        return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=_OWN, check_vma=False)(seeds, *shared)

    return mapped


def free_memory(device: jax.Device) -> int | None:
    """Bytes of the device that are not in use; None where the device does not tell, as a CPU does not."""
    told = device.memory_stats() or {}
    return told["bytes_limit"] - told.get("bytes_in_use", 0) if "bytes_limit" in told else None


def copies_that_fit(program: Any, device: jax.Device) -> int | None:
    """How many runs of a compiled program fit a device at once, at least 1; None where memory is not known.

    Args:
        program: `jax.jit(...).lower(...).compile()` of one run, whose arguments are on the device already.
        device: where it is to run.
    """
    free, needs = free_memory(device), program.memory_analysis()
    if free is None or needs is None:
        return None
    return max(1, int(MARGIN * free / max(1, needs.temp_size_in_bytes + needs.output_size_in_bytes)))


def make_deterministic() -> None:
    """Let XLA use only GPU operations that give the same bits again; call it before JAX runs anything."""
    flags = os.environ.get("XLA_FLAGS", "").split()
    os.environ["XLA_FLAGS"] = " ".join(dict.fromkeys([*flags, _DETERMINISTIC]))


@contextlib.contextmanager
def compilation_cache(folder: Path) -> Iterator[Path]:
    """Keep every compiled program in a folder, and take it from there, while the context lasts.

    Processes that are started meanwhile do so too. What is read from there runs as code: the folder, which is made with
    mode 700, and what is in it must be ours and not writable by others, and no one else may be able to put another
    folder in its place.

    Raises:
        DeviceError: if that is not so, or the folder cannot be made.
    """
    try:
        path = Path(folder).expanduser().resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        found = [path, *path.iterdir()]
        complaint = next((text for each in found if (text := _unsafe(each, own=True))), None) or next(
            (text for parent in path.parents if (text := _unsafe(parent, own=False))), None
        )
    except OSError as error:
        raise DeviceError(f"cannot use the compilation cache {folder}: {error}; choose another folder") from error
    if complaint is not None:
        raise DeviceError(
            f"cannot use the compilation cache {folder}: {complaint}, and what is read from there runs as code; "
            "choose a folder that only you can write to"
        )
    settings = {
        "jax_compilation_cache_dir": str(path),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    names = {name.upper(): str(value) for name, value in settings.items()}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        with _configured(settings):
            yield path
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def on_cpu() -> contextlib.AbstractContextManager[None]:
    """A context within which this process leaves accelerators to others, if it has used none yet."""
    return _configured({"jax_platforms": "cpu"})


@contextlib.contextmanager
def _configured(settings: dict[str, Any]) -> Iterator[None]:
    before = {name: getattr(jax.config, name) for name in settings}
    try:
        for name, value in settings.items():
            jax.config.update(name, value)  # type: ignore[no-untyped-call]
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)  # type: ignore[no-untyped-call]


def _unsafe(path: Path, *, own: bool) -> str | None:
    """What is wrong with a file or folder that should be ours, or with a folder above them; None if nothing is."""
    told = path.stat(follow_symlinks=False)
    if told.st_uid not in ({os.geteuid()} if own else {os.geteuid(), 0}):
        return f"{path} belongs to another user ({told.st_uid})"
    shared = told.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if shared and (own or not told.st_mode & stat.S_ISVTX):
        return f"others can write to {path}"
    return None
