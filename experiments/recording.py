"""From a config to a record: the seeds of an experiment, run, timed, and signed with where the numbers come from."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sublim_theory import data, devices, processes, results
from sublim_theory.ensemble import Arrays, Ensemble, run_chunks, run_seeds
from sublim_theory.protocols import lookup
from sublim_theory.statistics import summarize


@dataclass(frozen=True)
class Layout:
    """How seeds are laid out; it belongs to the machine, so it is no setting of an experiment and part of no chunk.

    Attributes:
        devices: how many devices of this process share the seeds; all unless given.
        chunk_size: seeds that run and are saved together, whatever the experiment asks for.
    """

    devices: int | None = None
    chunk_size: int | None = None


_ANY = Layout()
_layout: ContextVar[Layout] = ContextVar("layout", default=_ANY)


@contextlib.contextmanager
def laid_out(layout: Layout) -> Iterator[None]:
    """Lay out the seeds of every `Recording` made inside in this way."""
    token = _layout.set(layout)
    try:
        yield
    finally:
        _layout.reset(token)


@dataclass(frozen=True)
class Settings:
    """The settings that every experiment has; a config extends them."""

    seeds: int = 100
    """Independent repetitions."""
    first_seed: int = 0
    """The seeds are first_seed, first_seed + 1, ..."""
    dataset: str = "mnist"
    """What the teacher learns: digits (embedded, no download), mnist or fashion_mnist."""

    def require_counts(self, *names: str) -> None:
        """Check these settings, the seeds and the data set.

        Raises:
            ValueError: naming the setting, its value and what it may be.
        """
        for name in ("seeds", *names):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.first_seed < self.first_seed + self.seeds < 2**31:
            raise ValueError(
                f"first_seed {self.first_seed} and the {self.seeds} seeds from there must lie in [0, 2**31)"
            )
        lookup("dataset", self.dataset, dict.fromkeys(data.NAMES))

    def require_distinct(self, *names: str) -> None:
        """Check that these settings have at least one value, each once.

        Raises:
            ValueError: naming the setting and its value.
        """
        for name in names:
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} must have at least one, each once; got {values}")


def total_times(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The times and resumed seeds of one record that is made of several, from their provenances."""
    return {name: sum(part[name] for part in parts) for name in ("compile_seconds", "run_seconds", "resumed_seeds")}


class Recording:
    """One run of an experiment, from the moment it is made to its record.

    Attributes:
        dataset: the data set of the config.
        seeds: the seeds of the config.
    """

    def __init__(
        self,
        experiment: str,
        config: Settings,
        *,
        preset: str,
        data_dir: str | Path | None,
        chunks: Path | None,
        dtype: str = "float32",
        matmul_precision: str = "highest",
    ):
        """Load the data set and note where the numbers will come from.

        Args:
            experiment: its name.
            config: its settings, a dataclass.
            preset: what to call the config in the record.
            data_dir: folder that holds `mnist/` and `fashion_mnist/`; see `data.load`.
            chunks: folder for finished seeds, so that an interrupted run goes on; none are kept unless given.
            dtype: `float32`, or `float64` to run the seeds with 64-bit JAX.
            matmul_precision: of every matrix product, for hardware that offers a choice.

        Raises:
            DataError: if the data set cannot be had.
            DeviceError: if the layout asks for more devices than there are.
        """
        self._layout = _layout.get()
        self._began = time.perf_counter()
        self.dataset = data.load(config.dataset, data_dir)
        self.seeds = list(range(config.first_seed, config.first_seed + config.seeds))
        self._experiment, self._preset, self._settings = experiment, preset, asdict(config)
        self._dtype, self._matmul_precision = dtype, matmul_precision
        self._origin = results.provenance(
            seeds=self.seeds, dataset_checksum=self.dataset.checksum, matmul_precision=matmul_precision
        ) | {
            "dtype": dtype,
            "devices_used": len(devices.local(self._layout.devices)),
            "processes": processes.count(),
            "xla_flags": os.environ.get("XLA_FLAGS", ""),
            "resumed_seeds": 0,
            "compile_seconds": 0.0,
            "run_seconds": 0.0,
        }
        varies = {"seeds", "first_seed"}
        identity = {
            "experiment": experiment,
            "config": {name: value for name, value in self._settings.items() if name not in varies},
            "dataset": self.dataset.checksum,
        }
        self._store = results.ChunkStore(chunks, identity) if chunks else None
        self._label = f"{experiment} {preset}: seeds"

    def run(
        self,
        run_seed: Callable[..., Mapping[str, jax.Array]],
        *shared: Any,
        vectorize: bool | None = None,
        chunk_size: int | None = None,
        check: Callable[[Arrays, list[int]], None] | None = None,
    ) -> Arrays:
        """Arrays [seeds, ...] by name of every seed; arguments as in `ensemble.run_seeds`."""
        with self._precision():
            found = run_seeds(
                run_seed,
                self.seeds,
                *shared,
                vectorize=vectorize,
                chunk_size=self._layout.chunk_size or chunk_size,
                devices=self._layout.devices,
                store=self._store,
                check=check,
                label=self._label,
            )
        return self._note(found)

    def run_untraced(self, run_seed: Callable[[int], Mapping[str, Any]]) -> Arrays:
        """The same for a function of a plain number that cannot be traced; it compiles its own programs."""

        def compute(chunk: list[int]) -> Arrays:
            (seed,) = chunk
            return {name: np.asarray(value)[None] for name, value in run_seed(seed).items()}

        with self._precision():
            return self._note(run_chunks(compute, self.seeds, store=self._store, label=self._label))

    def result(
        self, conditions: Mapping[str, Sequence[float] | np.ndarray], arrays: Mapping[str, np.ndarray]
    ) -> results.Result:
        """The record.

        Args:
            conditions: name -> one value a seed; a truth value counts as 0 or 1.
            arrays: name -> array, for figures and further analysis.
        """
        return results.Result(
            experiment=self._experiment,
            preset=self._preset,
            config=self._settings,
            conditions={name: summarize(np.asarray(values, float)) for name, values in conditions.items()},
            provenance=self._origin,
            wall_seconds=time.perf_counter() - self._began,
            expectations=[],
            arrays=dict(arrays),
        )

    @contextlib.contextmanager
    def _precision(self) -> Iterator[None]:
        with jax.enable_x64(self._dtype == "float64"), jax.default_matmul_precision(self._matmul_precision):
            yield

    def _note(self, found: Ensemble) -> Arrays:
        self._origin |= {
            "resumed_seeds": found.resumed,
            "compile_seconds": found.compile_seconds,
            "run_seconds": found.run_seconds,
        }
        return found.arrays
