"""The seed axis, added once and from outside: keys, chunks, mapping, progress.

A seed's numbers come from its own key alone. They do not depend on how many seeds run beside it or in which
chunk: chunks are padded to one shape, so that every seed goes through the same compiled program.
"""

import functools
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
from rich.text import Text

Arrays = dict[str, np.ndarray]


def seed_key(seed: int | jax.Array) -> jax.Array:
    """The typed PRNG key of a seed; Threefry always, whatever the user's default generator is."""
    return jax.random.key(seed, impl="threefry2x32")


def stream(key: jax.Array, name: str) -> jax.Array:
    """An independent key for one named use of randomness, such as `init` or `teacher/shuffle`.

    Streams are told apart by a checksum of their name, not by order, so a new stream changes no other.
    """
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


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
    run_seed: Callable[..., Mapping[str, jax.Array]],
    seeds: Sequence[int],
    *shared: Any,
    vectorize: bool | None = None,
    chunk_size: int | None = None,
    store: Store | None = None,
    check: Callable[[Arrays, list[int]], None] | None = None,
    label: str = "seeds",
) -> Ensemble:
    """Run `run_seed(seed, *shared)` for every seed, in chunks of bounded memory, with a progress bar.

    Args:
        run_seed: a pure function of an int32 scalar seed and the shared pytrees; returns arrays by name.
        seeds: distinct integers in [0, 2**31).
        *shared: arrays that all seeds read, such as a data set; passed as arguments, not compiled in.
        vectorize: run the seeds of a chunk under one `vmap` (the default on accelerators) or one after another
            (the default on a CPU, where every matrix product already fills the cores).
        chunk_size: seeds between two saves; 1 when mapped and 16 when vectorised unless given. A chunk's
            seeds are in memory together only when vectorised.
        store: finished chunks are kept there and taken from there.
        check: called with each new chunk's arrays and seeds before it is stored; raises to stop the run.
        label: what the progress bar counts. It goes to standard error and only to a terminal.

    Returns:
        The arrays with a leading seed axis, in the order of `seeds`.

    Raises:
        ValueError: for no seeds, repeated seeds, seeds out of range or a chunk size below 1.
    """
    if vectorize is None:
        vectorize = jax.default_backend() != "cpu"
    if chunk_size is None:
        chunk_size = 16 if vectorize else 1
    seeds, chunk_size = _checked(seeds, chunk_size)
    program = _Program(run_seed, shared, chunk_size if vectorize else None)
    result = run_chunks(program, seeds, chunk_size=chunk_size, store=store, check=check, label=label)
    running = result.run_seconds - program.compile_seconds
    return replace(result, compile_seconds=program.compile_seconds, run_seconds=running)


def run_chunks(
    compute: Callable[[list[int]], Arrays],
    seeds: Sequence[int],
    *,
    chunk_size: int = 1,
    store: Store | None = None,
    check: Callable[[Arrays, list[int]], None] | None = None,
    label: str = "seeds",
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
    seeds, chunk_size = _checked(seeds, chunk_size)
    finished: list[Arrays] = []
    resumed, run_seconds = 0, 0.0
    with _progress(label, len(seeds)) as advance:
        for start in range(0, len(seeds), chunk_size):
            chunk = seeds[start : start + chunk_size]
            arrays = None if store is None else store.get(chunk)
            if arrays is None:
                began = time.perf_counter()
                arrays = compute(chunk)
                run_seconds += time.perf_counter() - began
                if check is not None:
                    check(arrays, chunk)
                if store is not None:
                    store.put(chunk, arrays)
            else:
                resumed += len(chunk)
            finished.append(arrays)
            advance(len(chunk))
    stacked = {name: np.concatenate([arrays[name] for arrays in finished]) for name in finished[0]}
    return Ensemble(stacked, resumed, 0.0, run_seconds)


def _checked(seeds: Sequence[int], chunk_size: int) -> tuple[list[int], int]:
    seeds = [int(seed) for seed in seeds]
    if not seeds:
        raise ValueError("there are no seeds to run; give at least one")
    if len(set(seeds)) < len(seeds) or not all(0 <= seed < 2**31 for seed in seeds):
        raise ValueError(f"seeds must be distinct integers in [0, 2**31), got {seeds}")
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    return seeds, min(chunk_size, len(seeds))


class _Program:
    """`run_seed`, compiled once, for one seed at a time (`width` None) or for `width` seeds at once."""

    def __init__(self, run_seed: Callable[..., Mapping[str, jax.Array]], shared: tuple[Any, ...], width: int | None):
        self.shared = jax.device_put(shared)
        self.width = width
        self.compile_seconds = 0.0
        self._run_seed = run_seed
        self._compiled: Any = None

    def compile(self) -> None:
        """Trace and compile, unless done before, here or for an equal `run_seed` and data of the same shapes."""
        if self._compiled is None:
            began = time.perf_counter()
            leaves, structure = jax.tree.flatten(self.shared)
            shapes = tuple((leaf.shape, leaf.dtype, leaf.weak_type) for leaf in leaves)
            context = tuple(getattr(jax.config, name) for name in ("jax_enable_x64", "jax_default_matmul_precision"))
            self._compiled = _compile(self._run_seed, self.width, structure, shapes, context)
            self.compile_seconds = time.perf_counter() - began

    def __call__(self, seeds: list[int]) -> Arrays:
        """Arrays [seeds, ...]."""
        self.compile()
        if self.width is None:
            rows = [self._run(np.int32(seed)) for seed in seeds]
            return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        padded = np.resize(np.asarray(seeds, np.int32), self.width)
        return {name: values[: len(seeds)] for name, values in self._run(padded).items()}

    def _run(self, seeds: np.int32 | np.ndarray) -> Arrays:
        return {name: np.asarray(value) for name, value in self._compiled(jnp.asarray(seeds), *self.shared).items()}


@functools.lru_cache(maxsize=4)
def _compile(
    run_seed: Callable[..., Mapping[str, jax.Array]],
    width: int | None,
    structure: Any,
    shapes: tuple[tuple[tuple[int, ...], Any, bool], ...],
    _context: tuple[Any, ...],
) -> Any:
    """The compiled program, kept for the points of a sweep: they differ in the values of `shared` alone."""
    shared = structure.unflatten([_abstract(*row) for row in shapes])
    axes = (0, *(None for _ in shared))
    function = run_seed if width is None else jax.vmap(run_seed, in_axes=axes)
    example = _abstract(() if width is None else (width,), jnp.int32)
    return jax.jit(function).lower(example, *shared).compile()


def _abstract(shape: tuple[int, ...], dtype: Any, weak_type: bool = False) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype, weak_type=weak_type)  # type: ignore[no-untyped-call]


class _RateColumn(ProgressColumn):
    """Seconds an item."""

    def render(self, task: Task) -> Text:
        done = f"{task.elapsed / task.completed:.1f} s each" if task.elapsed and task.completed else "compiling"
        return Text(done, style="progress.percentage")


class _progress:
    """A progress bar on standard error as a context; entering gives `advance(count)`."""

    def __init__(self, label: str, total: int):
        console = Console(stderr=True)
        self._bar = Progress(
            "{task.description}",
            BarColumn(),
            MofNCompleteColumn(),
            _RateColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(label, total=total)

    def __enter__(self) -> Callable[[int], None]:
        self._bar.start()
        return lambda count: self._bar.update(self._task, advance=count)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
