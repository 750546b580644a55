"""The seed axis, added once and from outside: keys, chunks, mapping, progress.

A seed's numbers come from its own key alone. They do not depend on how many seeds run beside it or in which
chunk: seeds are padded to one shape, so that every seed goes through the same compiled program. Nor do they depend on
how many devices or workers share the work: each device runs its own seeds, each worker its own chunks.
"""

import contextlib
import functools
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int32, Key

from sublim_theory import devices as local_devices
from sublim_theory._types import Array, PRNGKey, Whole
from sublim_theory.console import progress
from sublim_theory.protocols import SublimError, require_count, require_integer

TOGETHER = 16
"""Seeds under one `vmap` on a device that does not tell its memory."""

Arrays = dict[str, np.ndarray]


def seed_key(seed: Whole) -> Key[Array, ""]:
    """The typed PRNG key of a seed; Threefry always, whatever the user's default generator is."""
    return jax.random.key(seed, impl="threefry2x32")


def stream(key: PRNGKey, name: str) -> PRNGKey:
    """An independent key for one named use of randomness, such as `init` or `teacher/shuffle`.

    Streams are told apart by a checksum of their name, not by order, so a new stream changes no other.
    """
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


@runtime_checkable
class Store(Protocol):
    """Where finished chunks are kept; `results.ChunkStore` is one."""

    def get(self, seeds: Sequence[int]) -> Arrays | None:
        """The arrays [seeds, ...] of exactly these seeds, or None."""

    def put(self, seeds: Sequence[int], arrays: Arrays) -> None:
        """Keep the arrays [seeds, ...] of these seeds."""


@dataclass(frozen=True)
class Ensemble:
    """What every seed returned, and what it cost.

    Attributes:
        arrays: name -> values [seeds, ...].
        resumed: how many seeds came from the store.
        compile_seconds: time to trace and compile; 0 where everything came from the store.
        run_seconds: time to run the seeds that were not in the store.
    """

    arrays: Arrays
    resumed: int
    compile_seconds: float
    run_seconds: float


def run_seeds(
    run_seed: Callable[..., Mapping[str, Array]],
    seeds: Sequence[Whole],
    *shared: Any,
    vectorize: bool | None = None,
    chunk_size: Whole | None = None,
    devices: int | None = None,
    store: Store | None = None,
    check: Callable[[Arrays, list[int]], None] | None = None,
    label: str | None = "seeds",
    part_of: Whole | None = None,
) -> Ensemble:
    """Run `run_seed(seed, *shared)` for every seed, in chunks of bounded memory, with a progress bar.

    Args:
        run_seed: a pure function of an int32 scalar seed and the shared pytrees; returns arrays by name.
        seeds: distinct integers in [0, 2**31).
        *shared: arrays that all seeds read, such as a data set; passed as arguments, not compiled in.
        vectorize: run several seeds of a device under one `vmap` (the default on accelerators) or one after another
            (the default on a CPU, where every matrix product already fills the cores).
        chunk_size: seeds that are saved together; 1 unless given. When vectorised also the seeds that are in memory
            together, over all devices: unless given, as many as the memory of the devices holds, and `TOGETHER` on
            each where it is not known.
        devices: how many of this process's devices share the seeds; all unless given. Each runs its own seeds, and
            nothing passes between them.
        store: finished chunks are kept there and taken from there.
        check: called with each new chunk's arrays and seeds before it is stored; raises to stop the run.
        label: what the progress bar counts. It goes to standard error and only to a terminal; None for no bar.
        part_of: how many seeds the whole run has, where these are some of them: a part compiles the program of the
            whole, and so has the very bits.

    Returns:
        The arrays with a leading seed axis, in the order of `seeds`.

    Raises:
        ValueError: for no seeds, repeated seeds, seeds out of range, or a chunk size that is no positive whole number.
        DeviceError: for more devices than there are.
    """
    numbers = _checked(seeds)
    kept = require_count("chunk_size", 1 if chunk_size is None else chunk_size)
    at_most = None if chunk_size is None else int(chunk_size)
    whole = len(numbers) if part_of is None else max(len(numbers), int(part_of))
    where = local_devices.local(devices)[: len(numbers)]
    if vectorize is None:
        vectorize = where[0].platform != "cpu"
    program = _Program(run_seed, shared, where)

    def together() -> int:
        if vectorize:
            program.width = min(-(-whole // len(where)), program.width_that_fits(at_most))
        return len(where) * (program.width or 1)

    result = _run(program, numbers, kept, together, store=store, check=check, label=label)
    running = result.run_seconds - program.compile_seconds
    return replace(result, compile_seconds=program.compile_seconds, run_seconds=running)


def run_chunks(
    compute: Callable[[list[int]], Arrays],
    seeds: Sequence[Whole],
    *,
    chunk_size: Whole = 1,
    store: Store | None = None,
    check: Callable[[Arrays, list[int]], None] | None = None,
    label: str | None = "seeds",
) -> Ensemble:
    """Compute every chunk of seeds that is not in the store, with a progress bar; `run_seeds` without the program.

    Args:
        compute: arrays [seeds, ...] by name of a chunk of seeds.
        seeds: as in `run_seeds`, as are the others and the errors.
        chunk_size: seeds between two saves.
        store: where finished chunks are kept.
        check: called with each new chunk.
        label: what the progress bar counts.

    Returns:
        The arrays in the order of `seeds`; all of the time counts as `run_seconds`.
    """
    numbers, kept = _checked(seeds), require_count("chunk_size", chunk_size)
    return _run(compute, numbers, kept, lambda: kept, store=store, check=check, label=label)


def _run(
    compute: Callable[[list[int]], Arrays],
    seeds: list[int],
    chunk_size: int,
    together: Callable[[], int],
    *,
    store: Store | None,
    check: Callable[[Arrays, list[int]], None] | None,
    label: str | None,
) -> Ensemble:
    """`run_chunks` with `together()` seeds a call, or one chunk where that is more."""
    chunks = chunked(seeds, chunk_size)
    finished: dict[int, Arrays] = {}
    run_seconds = 0.0
    with contextlib.nullcontext(lambda _: None) if label is None else progress(label, len(seeds)) as advance:

        def keep(number: int, arrays: Arrays) -> None:
            finished[number] = arrays
            advance(len(chunks[number]))

        for number, chunk in enumerate(chunks):
            if store is not None and (arrays := store.get(chunk)) is not None:
                keep(number, arrays)
        missing = [number for number in range(len(chunks)) if number not in finished]
        resumed = sum(len(chunks[number]) for number in finished)
        at_once = 1
        if missing:
            began = time.perf_counter()
            at_once = max(1, together() // chunk_size)
            run_seconds += time.perf_counter() - began
        for start in range(0, len(missing), at_once):
            group = missing[start : start + at_once]
            began = time.perf_counter()
            computed = compute([seed for number in group for seed in chunks[number]])
            run_seconds += time.perf_counter() - began
            position = 0
            for number in group:
                rows = slice(position, position := position + len(chunks[number]))
                arrays = {name: values[rows] for name, values in computed.items()}
                if check is not None:
                    check(arrays, chunks[number])
                if store is not None:
                    store.put(chunks[number], arrays)
                keep(number, arrays)
    names = set(finished[0])
    if unlike := [chunks[number] for number, arrays in finished.items() if set(arrays) != names]:
        raise SublimError(
            f"the stored seeds {unlike[0]} have other arrays than the rest: another version of this experiment made "
            "them; delete the folder of finished seeds, or choose another output folder"
        )
    stacked = {name: np.concatenate([finished[number][name] for number in range(len(chunks))]) for name in finished[0]}
    return Ensemble(stacked, resumed, 0.0, run_seconds)


def chunked(seeds: Sequence[int], chunk_size: int) -> list[list[int]]:
    """Seeds in the order and the portions in which they are stored."""
    return [list(seeds[start : start + chunk_size]) for start in range(0, len(seeds), chunk_size)]


def _checked(seeds: Sequence[Whole]) -> list[int]:
    numbers = [require_integer("seeds", seed) for seed in seeds]
    if not numbers:
        raise ValueError("there are no seeds to run; give at least one")
    if len(set(numbers)) < len(numbers) or not all(0 <= seed < 2**31 for seed in numbers):
        raise ValueError(f"seeds must be distinct integers in [0, 2**31), got {numbers}")
    return numbers


class _Program:
    """`run_seed`, compiled once, for one seed at a time (`width` None) or `width` seeds at once, on each device."""

    def __init__(self, run_seed: Callable[..., Mapping[str, Array]], shared: tuple[Any, ...], where: list[jax.Device]):
        self.mesh = local_devices.mesh(where)
        self.shared = jax.device_put(shared, local_devices.copied(self.mesh))
        self.width: int | None = None
        self.compile_seconds = 0.0
        self._run_seed = run_seed

    def compile(self, width: int | None) -> Any:
        """Trace and compile, unless done before, here or for an equal `run_seed` and data of the same shapes."""
        began = time.perf_counter()
        leaves, structure = jax.tree.flatten(self.shared)
        # Arrays of typed PRNG keys have no weak type.
        shapes = tuple((leaf.shape, leaf.dtype, getattr(leaf, "weak_type", False)) for leaf in leaves)
        context = tuple(getattr(jax.config, name) for name in ("jax_enable_x64", "jax_default_matmul_precision"))
        compiled = _compile(self._run_seed, width, self.mesh, structure, shapes, context)
        self.compile_seconds += time.perf_counter() - began
        return compiled

    def width_that_fits(self, at_most: int | None) -> int:
        """Seeds at once on each device: `at_most` over all of them, or what the memory of the first one holds."""
        if at_most is not None:
            return -(-at_most // self.mesh.size)
        first = self.mesh.devices[0]
        if local_devices.free_memory(first) is None:
            return TOGETHER
        with jax.set_mesh(self.mesh):
            return local_devices.copies_that_fit(self.compile(None), first) or TOGETHER

    def __call__(self, seeds: list[int]) -> Arrays:
        """Arrays [seeds, ...]."""
        with jax.set_mesh(self.mesh):  # in place of one that the caller has set
            compiled = self.compile(self.width)
            step = self.mesh.size * (self.width or 1)
            parts = [seeds[start : start + step] for start in range(0, len(seeds), step)]
            rows = [self._run(compiled, part, step) for part in parts]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    def _run(self, compiled: Any, seeds: list[int], step: int) -> Arrays:
        padded = jax.device_put(np.resize(np.asarray(seeds, np.int32), step), local_devices.split(self.mesh))
        return {name: np.asarray(value)[: len(seeds)] for name, value in compiled(padded, *self.shared).items()}


@functools.lru_cache(maxsize=4)
def _compile(
    run_seed: Callable[..., Mapping[str, Array]],
    width: int | None,
    mesh: jax.sharding.Mesh,
    structure: Any,
    shapes: tuple[tuple[tuple[int, ...], Any, bool], ...],
    _context: tuple[Any, ...],
) -> Any:
    """The compiled program, kept for the points of a sweep: they differ in the values of `shared` alone."""
    shared = structure.unflatten([_abstract(*row) for row in shapes])

    def alone(seeds: Int32[Array, "1"], *shared: Any) -> Any:
        return jax.tree.map(lambda value: jnp.asarray(value)[None], run_seed(seeds[0], *shared))

    function = alone if width is None else jax.vmap(run_seed, in_axes=(0, *(None for _ in shared)))
    if mesh.size > 1:
        function = local_devices.on_each(function, mesh)
    places = (local_devices.split(mesh), *(local_devices.copied(mesh) for _ in shared))
    example = _abstract((mesh.size * (width or 1),), jnp.int32)
    return jax.jit(function, in_shardings=places).lower(example, *shared).compile()


def _abstract(shape: tuple[int, ...], dtype: Any, weak_type: bool = False) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype, weak_type=weak_type)  # type: ignore[no-untyped-call]
