"""The engine: what an experiment is, and how it becomes a record.

An experiment says what happens to one seed. The engine adds the seeds, the settings that vary, the table with named
axes, what an interrupted run has finished already, and where the numbers come from. A sweep is an experiment with more
axes.

Settings come in two types. A *protocol* is static and hashable: it is what a program is compiled for. *Rates* are
numbers that a program takes as arguments, so that points of a sweep that differ in them alone share one program.
"""

import dataclasses
import functools
import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, NamedTuple, Self, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from experiments.workers import Workers
from sublim_theory import data, devices, record, training
from sublim_theory.console import progress
from sublim_theory.ensemble import Arrays, Ensemble, Store, chunked, run_chunks, run_seeds
from sublim_theory.protocols import lookup, require_count
from sublim_theory.record import Record, label

P = TypeVar("P")
R = TypeVar("R")

Changes: TypeAlias = Mapping[str, Any]
"""Settings by name, with the values that they take instead."""
Axes: TypeAlias = Mapping[str, Sequence[Any]]
"""Name of an axis -> its coordinates, numbers or words."""

NO_DATA = "none"
"""The data set of an experiment that draws all of its data: its protocol has no `select`."""


@dataclass(frozen=True, kw_only=True)
class Repetitions:
    """Settings that every experiment has."""

    seeds: int = 100
    """Independent repetitions."""
    first_seed: int = 0
    """The seeds are first_seed, first_seed + 1, ..."""
    dataset: str = "mnist"
    """What the teacher learns: digits (embedded, no download), mnist, fashion_mnist, or none."""


@dataclass(frozen=True)
class Settings(Repetitions, Generic[P, R]):
    """Everything that a run of an experiment can be told, apart from the machine.

    Attributes of protocol and rates are settings like the others: `but` changes any of them by name.
    """

    protocol: P
    rates: R

    def __post_init__(self) -> None:
        """Check every setting now, before any data is read or anything is compiled.

        Raises:
            ValueError: naming the setting, its value and what it may be.
        """
        require_count("seeds", self.seeds)
        if not 0 <= self.first_seed < self.first_seed + self.seeds < 2**31:
            raise ValueError(
                f"first_seed {self.first_seed} and the {self.seeds} seeds from there must lie in [0, 2**31)"
            )
        lookup("dataset", self.dataset, dict.fromkeys(data.NAMES if hasattr(self.protocol, "select") else (NO_DATA,)))
        self.protocol.check(self.rates)  # type: ignore[attr-defined]

    @classmethod
    def of(cls, protocol: type[P], rates: type[R], **changes: Any) -> Self:
        """Settings with the defaults of a protocol and rates, but for some."""
        parts = {part: {f.name for f in dataclasses.fields(part)} for part in (protocol, rates)}  # type: ignore[arg-type]
        first, second = (part(**{k: v for k, v in changes.items() if k in names}) for part, names in parts.items())
        rest = {name: value for name, value in changes.items() if not any(name in names for names in parts.values())}
        return cls(first, second, **rest)  # type: ignore[arg-type]

    def but(self, **changes: Any) -> Self:
        """The same settings with some changed. Raises `UnknownNameError` for one that is not there."""
        for name in changes:
            lookup("setting", name, dict.fromkeys(self.flat()))
        parts = {}
        for part in ("protocol", "rates"):
            names = {f.name for f in dataclasses.fields(getattr(self, part))}
            parts[part] = dataclasses.replace(
                getattr(self, part), **{name: value for name, value in changes.items() if name in names}
            )
        own = {name: value for name, value in changes.items() if name in _OWN}
        return dataclasses.replace(self, **parts, **own)

    def flat(self) -> dict[str, Any]:
        """Every setting by name, as a record has them."""
        own = {name: getattr(self, name) for name in _OWN}
        return own | asdict(self.protocol) | asdict(self.rates)  # type: ignore[call-overload]

    def of_a_seed(self) -> dict[str, Any]:
        """What a seed's numbers depend on: every setting by name, but which seeds there are."""
        return {name: value for name, value in self.flat().items() if name not in ("seeds", "first_seed")}

    @property
    def matmul_precision(self) -> str:
        """Of every matrix product, for hardware that offers a choice."""
        return getattr(self.protocol, "matmul_precision", "highest")


_OWN = tuple(each.name for each in dataclasses.fields(Repetitions))
"""Settings that belong to neither protocol nor rates."""


@dataclass(frozen=True)
class Nothing:
    """The rates of an experiment that has none."""


jax.tree_util.register_dataclass(Nothing, data_fields=[], meta_fields=[])


def by_variable(found: Mapping[Any, Mapping[str, Any]]) -> dict[str, dict[Any, Any]]:
    """Variables by coordinate, as `run_seed` returns them, from what was found at every coordinate of an axis."""
    return {name: {at: each[name] for at, each in found.items()} for name in next(iter(found.values()))}


def require_counts(protocol: Any, *names: str) -> None:
    """Check that settings are positive whole numbers. Raises `ValueError`, naming the first that is not."""
    for name in names:
        require_count(name, getattr(protocol, name))


def require_distinct(protocol: Any, *names: str) -> None:
    """Check that settings have at least one value, each once. Raises `ValueError`, naming the first that has not."""
    for name in names:
        values = getattr(protocol, name)
        if not values or len(set(values)) < len(values):
            raise ValueError(f"{name} must have at least one, each once; got {values}")


class Variable(NamedTuple):
    """A quantity of the table.

    Attributes:
        axes: those of its labels, outermost first: what `run_seed` returns of it is a dictionary of dictionaries by
            their coordinates. In the table come the seeds behind them, and then `inner`.
        inner: axes of each array that `run_seed` returns, such as `step`.
        condition: name of each entry in the summary, with the axes in braces; no conditions unless given.
        over: the axis of the sample that a condition is made of.
        loss: whether it is the loss of a training run at every step, which must be finite.
    """

    axes: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()
    condition: str | None = None
    over: str = "seed"
    loss: bool = False


@dataclass(frozen=True)
class Experiment:
    """An experiment.

    Attributes:
        name: of its module, and on the command line.
        summary: the line that `sublim list` shows.
        presets: name -> settings.
        run_seed: `run_seed(protocol, rates, data, seed) -> {variable: values}`, pure, for an int32 scalar. Values are
            arrays, or dictionaries by the coordinates of the variable's axes, where one that is missing becomes NaN.
        axes: `axes(settings)`, the coordinates of every axis that has some.
        variables: what `run_seed` returns and `conclude` adds, by name; what has conditions first.
        conclude: `conclude(settings, table) -> variables`, computed from all seeds, added to the table; None
            takes a variable out of it.
        describe: `describe(settings, dataset) -> variables` without seeds, computed at every point.
        vary: `vary(settings, preset)`, for each axis that an experiment runs itself over, label -> changed settings.
        point: what begins the name of a condition of a point, with those axes in braces; unless given,
            `AXIS={AXIS},.../`.
        of: the experiment that is run at every point, for a sweep; then `run_seed` and the rest are those of it.
        traced: whether `run_seed` can be compiled; else it gets a plain number and compiles what it likes.
        dtype: `float32`, or `float64` to run with 64-bit JAX.
        together: `together(protocol, data)`, options of `run_seeds` for how many seeds run under one `vmap`.
    """

    name: str
    summary: str
    presets: Mapping[str, Settings[Any, Any]]
    run_seed: Callable[..., Mapping[str, Any]] | None = None
    axes: Callable[[Any], Axes] = lambda _: {}
    variables: Mapping[str, Variable] = field(default_factory=dict)
    conclude: Callable[[Any, xr.Dataset], Mapping[str, xr.DataArray | None]] | None = None
    describe: Callable[[Any, data.Dataset], Mapping[str, xr.DataArray]] | None = None
    vary: Callable[[Any, str], Mapping[str, Mapping[Any, Changes]]] | None = None
    point: str | None = None
    of: "Experiment | None" = None
    traced: bool = True
    dtype: str = "float32"
    together: Callable[[Any, Any], Mapping[str, Any]] = lambda *_: {}


@dataclass(frozen=True)
class Context:
    """What a run depends on besides its settings; no number depends on it beyond rounding.

    Attributes:
        preset: what to call the settings in the record.
        data_dir: folder that holds `mnist/` and `fashion_mnist/`; see `data.load`.
        chunks: folder for finished seeds, so that an interrupted run goes on; none are kept unless given.
        devices: how many devices of this process, or of a worker, share the seeds; all unless given.
        chunk_size: seeds that run and are saved together, whatever the experiment asks for.
        workers: processes that run the seeds in place of this one; finished seeds are kept in `chunks`.
    """

    preset: str = "custom"
    data_dir: str | Path | None = None
    chunks: Path | None = None
    devices: int | None = None
    chunk_size: int | None = None
    workers: Workers | None = None


@dataclass(frozen=True)
class _Program:
    """`run_seed` of one experiment and protocol: `program(seed, rates, data)`, the arrays of a seed by variable.

    Two that are equal are compiled once: the points of a sweep that differ in rates alone.
    """

    run_seed: Callable[..., Mapping[str, Any]]
    protocol: Any
    variables: tuple[tuple[str, Variable], ...]
    axes: tuple[tuple[str, tuple[Any, ...]], ...]

    def __call__(self, seed: Any, rates: Any, selected: Any) -> Mapping[str, jax.Array]:
        axes, variables = dict(self.axes), dict(self.variables)
        found = self.run_seed(self.protocol, rates, selected, seed)
        if unknown := found.keys() - variables.keys():
            raise ValueError(f"run_seed returns {sorted(unknown)}, which are no variables of the experiment")
        return {name: _stacked(name, value, variables[name].axes, axes) for name, value in found.items()}


def run(experiment: Experiment, settings: Settings[Any, Any], context: Context | None = None) -> Record:
    """Run an experiment and return its record.

    Raises:
        DataError: if a data set cannot be had.
        DeviceError: for more devices than there are, or a platform that is not.
        NonFiniteLossError: if a training loss becomes NaN or infinite.
        WorkerError: if the workers are lost, or cannot run the experiment.
    """
    began = time.perf_counter()
    context = context or Context()
    used = devices.local(None if context.workers else context.devices)
    inner = experiment.of or experiment
    provenance = record.provenance(
        seeds=_seeds_of(settings),
        dataset_checksum=_checksum(_dataset(settings, context)),
        matmul_precision=settings.matmul_precision,
    ) | {
        "dtype": inner.dtype,
        "devices_used": len(used),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }
    spent = {"resumed_seeds": 0, "compile_seconds": 0.0, "run_seconds": 0.0}
    title = f"{experiment.name} {context.preset}"
    if context.workers is not None:
        provenance["workers"] = _run_elsewhere(experiment, settings, context, context.workers, spent, f"{title}: seeds")
    table = _table(experiment, settings, context, spent, title)
    config = settings.flat()
    if experiment.vary is not None:
        config["vary"] = {k: list(map(_coordinate, v)) for k, v in experiment.vary(settings, context.preset).items()}
    return Record(
        experiment=experiment.name,
        preset=context.preset,
        config=_json(config),
        table=table,
        provenance=provenance | spent,
        wall_seconds=time.perf_counter() - began,
        expectations=[],
    )


def points(experiment: Experiment, settings: Settings[Any, Any], preset: str) -> dict[tuple[Any, ...], Any]:
    """The settings of every point by its place on the axes that vary; all of them are checked.

    Raises:
        ValueError: for a value that a setting may not have.
    """
    if experiment.vary is None:
        return {(): settings}
    varied = experiment.vary(settings, preset)
    found = {}
    for place in itertools.product(*varied.values()):
        changes = [varied[axis][at] for axis, at in zip(varied, place, strict=True)]
        found[place] = settings.but(**{name: value for change in changes for name, value in change.items()})
    return found


def _table(
    experiment: Experiment, settings: Settings[Any, Any], context: Context, spent: dict[str, Any], title: str
) -> xr.Dataset:
    """The table of an experiment at all of its points; adds to the times and resumed seeds of `spent`."""
    tables, prefix = [], ""
    for place, each in points(experiment, settings, context.preset).items():
        here = f"{title} {','.join(map(label, place))}".strip()
        if experiment.of is None:
            tables.append(_run_seeds(experiment, each, context, spent, here))
        else:
            described = experiment.describe(each, _dataset(each, context)) if experiment.describe else {}
            inner = dataclasses.replace(experiment.of, describe=None)
            tables.append(_table(inner, each, context, spent, here).assign(described))
    if experiment.vary is None:
        (table,) = tables
    else:
        varied = experiment.vary(settings, context.preset)
        usual = ",".join(f"{axis}={{{axis}}}" for axis in varied) + "/"
        prefix = usual if experiment.point is None else experiment.point
        kept = [name for name, variable in experiment.variables.items() if not variable.loss]
        table = _combined(varied, tables, prefix, kept)
    if experiment.conclude is not None:
        for name, value in experiment.conclude(settings, table).items():
            table = table.drop_vars(name) if value is None else table.assign({name: value})
    ordered = [*(name for name in experiment.variables if name in table), *table.data_vars]
    table = table[list(dict.fromkeys(ordered))]
    for name, variable in experiment.variables.items():
        if name in table and variable.condition is not None:
            table[name].attrs = {"condition": prefix + variable.condition, "over": variable.over}
    return table


def _dataset(settings: Settings[Any, Any], context: Context) -> Any:
    """The data set of some settings; None where there is none."""
    if settings.dataset == NO_DATA:
        return None
    dataset = data.load(settings.dataset, context.data_dir)
    classes = getattr(settings.protocol, "classes", None)
    return dataset if classes is None else dataset.of_classes(classes)


def _checksum(dataset: data.Dataset | None) -> str:
    return "" if dataset is None else dataset.checksum


def _seeds_of(settings: Settings[Any, Any]) -> list[int]:
    return list(range(settings.first_seed, settings.first_seed + settings.seeds))


class _Point:
    """An experiment with one set of settings: what all of its seeds share, and what is computed for some of them."""

    def __init__(self, experiment: Experiment, settings: Settings[Any, Any], context: Context):
        self.experiment, self.settings, self.context = experiment, settings, context
        dataset = _dataset(settings, context)
        self.described = experiment.describe(settings, dataset) if experiment.describe else {}
        self.seeds = _seeds_of(settings)
        self.axes = {name: tuple(values) for name, values in experiment.axes(settings).items()}
        # MNIST in numpy is 0.2 GB, which nobody needs further on.
        self.selected = () if dataset is None else settings.protocol.select(dataset)
        self.options: dict[str, Any] = {}
        if experiment.traced:
            self.options = {**experiment.together(settings.protocol, self.selected), "devices": context.devices}
            if context.chunk_size is not None:
                self.options["chunk_size"] = context.chunk_size
        identity = {"experiment": experiment.name, "config": settings.of_a_seed(), "dataset": _checksum(dataset)}
        self.store = record.ChunkStore(context.chunks, identity) if context.chunks else None

    @property
    def unfinished(self) -> list[list[int]]:
        """The chunks of seeds that are not in the store."""
        chunks = chunked(self.seeds, self.options.get("chunk_size", 1))
        return [chunk for chunk in chunks if self.store is None or self.store.get(chunk) is None]

    def run(self, seeds: Sequence[int], store: Store | None, label: str | None) -> Ensemble:
        """What `run_seed` returns for some of the seeds, checked; their numbers are those of a run of all."""
        experiment, settings = self.experiment, self.settings
        assert experiment.run_seed is not None
        variables = tuple(experiment.variables.items())
        program = _Program(experiment.run_seed, settings.protocol, variables, tuple(self.axes.items()))
        options = self.options | {"store": store, "check": self._check, "label": label}
        selected = self.selected = jax.device_put(self.selected)
        with jax.enable_x64(experiment.dtype == "float64"), jax.default_matmul_precision(settings.matmul_precision):
            if experiment.traced:
                if "chunk_size" in options:
                    options["part_of"] = len(self.seeds)
                return run_seeds(program, seeds, settings.rates, selected, **options)

            def compute(chunk: list[int]) -> Arrays:
                (seed,) = chunk
                return {k: np.asarray(v)[None] for k, v in program(seed, settings.rates, selected).items()}

            return run_chunks(compute, seeds, **options)

    def _check(self, arrays: Arrays, chunk: list[int]) -> None:
        variables = self.experiment.variables
        for name in (name for name, variable in variables.items() if variable.loss and name in arrays):
            runs = list(itertools.product(*(self.axes[axis] for axis in variables[name].axes)))
            paths = arrays[name].reshape(len(chunk), len(runs), -1)
            stem = name.removesuffix("_loss")
            for i, run in enumerate(runs):
                words = "/".join(map(label, run)) if any(isinstance(each, str) for each in run) else ""
                named = words or "/".join([stem, *map(label, run)])
                training.require_finite({named: paths[:, i]}, chunk, self.settings)

    def table(self, found: Arrays) -> xr.Dataset:
        """What was found for all seeds, with named axes."""
        arrays = {
            name: xr.Variable((*each.axes, "seed", *each.inner), np.moveaxis(found[name], 0, len(each.axes)))
            for name, each in self.experiment.variables.items()
            if name in found
        }
        used = {axis for each in arrays.values() for axis in each.dims}
        coordinates = {name: list(map(_coordinate, values)) for name, values in self.axes.items() if name in used}
        return xr.Dataset(arrays, coordinates | {"seed": self.seeds}).assign(self.described)


def _run_seeds(
    experiment: Experiment, settings: Settings[Any, Any], context: Context, spent: dict[str, Any], title: str
) -> xr.Dataset:
    """The table of one point, from every seed."""
    point = _Point(experiment, settings, context)
    found = point.run(point.seeds, point.store, f"{title}: seeds")
    spent["resumed_seeds"] += found.resumed
    spent["compile_seconds"] += found.compile_seconds
    spent["run_seconds"] += found.run_seconds
    return point.table(found.arrays)


def _run_elsewhere(
    experiment: Experiment,
    settings: Settings[Any, Any],
    context: Context,
    workers: Workers,
    spent: dict[str, Any],
    title: str,
) -> dict[str, int]:
    """Let workers run every chunk that is not in the store, and put it there: the run then finds all of them.

    Adds the seconds of all workers together to `spent`. Returns how many workers there were of each kind.
    """
    if context.chunks is None:
        raise ValueError("workers need a folder for finished seeds; give Context.chunks")
    there = dataclasses.replace(context, workers=None, chunks=None)
    if context.data_dir is not None:
        there = dataclasses.replace(there, data_dir=Path(context.data_dir).absolute())
    from experiments.registry import find

    stores, chunks, tasks = [], [], []
    for leaf, each in _leaves(experiment, settings, context.preset):
        if find(leaf.name).run_seed is not leaf.run_seed:
            raise ValueError(f"workers find an experiment by its name, and {leaf.name!r} is another one there")
        point = _Point(dataclasses.replace(leaf, describe=None), each, context)
        for chunk in point.unfinished:
            stores.append(point.store)
            chunks.append(chunk)
            tasks.append((leaf.name, each, chunk, there))
    with progress(title, sum(map(len, chunks))) as advance:
        ran_by: dict[str, str] = {}
        for number, (found, kind), worker in workers.compute(run_chunk, tasks, [f"seeds {chunk}" for chunk in chunks]):
            store = stores[number]
            assert store is not None
            store.put(chunks[number], found.arrays)
            advance(len(chunks[number]))
            spent["resumed_seeds"] -= len(chunks[number])  # the run is about to find them in the store
            spent["compile_seconds"] += found.compile_seconds
            spent["run_seconds"] += found.run_seconds
            ran_by[worker] = kind
    return dict(Counter(ran_by.values()))


def _leaves(
    experiment: Experiment, settings: Settings[Any, Any], preset: str
) -> Iterator[tuple[Experiment, Settings[Any, Any]]]:
    """Every experiment that has seeds, with its settings, at all points of a sweep and of sweeps within."""
    for each in points(experiment, settings, preset).values():
        if experiment.of is None:
            yield experiment, each
        else:
            yield from _leaves(experiment.of, each, preset)


def run_chunk(name: str, settings: Settings[Any, Any], seeds: Sequence[int], context: Context) -> tuple[Ensemble, str]:
    """What a worker does: run some of the seeds of the experiment of that name; what it ran them on."""
    found = _point_of(name, settings, context).run(seeds, None, None)
    here = record.hardware()
    return found, f"{here['device']}, {here['cores']} core{'s' * (here['cores'] > 1)}"


@functools.lru_cache(maxsize=1)
def _point_of(name: str, settings: Settings[Any, Any], context: Context) -> _Point:
    """The last one stays, with its data: chunks of a point come one after another."""
    from experiments.registry import find

    return _Point(dataclasses.replace(find(name), describe=None), settings, context)


def _stacked(name: str, value: Any, axes: Sequence[str], coordinates: Mapping[str, Sequence[Any]]) -> Any:
    """Nested dictionaries by coordinate as one array, NaN where there is none."""
    if not axes or not isinstance(value, Mapping):
        return value
    if not value:
        raise ValueError(f"{name} has no values over the axis {axes[0]!r}; leave the variable out")
    known = coordinates[axes[0]]
    if unknown := [each for each in value if each not in known]:
        raise ValueError(f"{name} has {unknown} where the axis {axes[0]!r} has {list(known)}")
    rows = {each: _stacked(name, value[each], axes[1:], coordinates) for each in value}
    if len(rows) < len(known):
        missing = jnp.full_like(next(iter(rows.values())), jnp.nan)
        rows = {each: rows.get(each, missing) for each in known}
    return jnp.stack([jnp.asarray(rows[each]) for each in known])


def _combined(
    varied: Mapping[str, Mapping[Any, Changes]], tables: Sequence[xr.Dataset], point: str, kept: Sequence[str]
) -> xr.Dataset:
    """One table of the points, with an axis for each setting that varies.

    Of what has seeds it keeps the variables `kept`, which are the experiment's own, and those that have conditions.
    """
    found: dict[str, xr.Variable] = {}
    coordinates: dict[str, Any] = {}
    for each in tables:  # labels of all points, in the order in which they come
        for axis, values in each.coords.items():
            known = coordinates.setdefault(str(axis), [])
            known += [value for value in values.values.tolist() if value not in known]
    for name in dict.fromkeys(str(name) for each in tables for name in each.data_vars):
        first = next(each[name] for each in tables if name in each)
        if name not in kept and "condition" not in first.attrs and "seed" in first.dims:
            continue
        here = {axis: coordinates[str(axis)] for axis in first.dims if str(axis) in coordinates}
        aligned = [
            each[name].astype(np.result_type(each[name].dtype, np.float32)).reindex(here).values
            if name in each
            else np.full(tuple(len(here[axis]) for axis in first.dims), np.nan, np.float32)
            for each in tables
        ]
        shape = tuple(len(values) for values in varied.values())
        values = np.stack(aligned).reshape(*shape, *aligned[0].shape)
        attrs = first.attrs | ({"condition": point + first.attrs["condition"]} if first.attrs else {})
        found[name] = xr.Variable((*varied, *first.dims), values, attrs)
    coordinates |= {axis: list(map(_coordinate, values)) for axis, values in varied.items()}
    coordinates = {axis: v for axis, v in coordinates.items() if any(axis in each.dims for each in found.values())}
    return xr.Dataset(found, coordinates)


def _coordinate(value: Any) -> Any:
    """A number as it is, anything else in words."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else label(value)


def _json(value: Any) -> Any:
    """As JSON gives it back, so that a record is the same before and after it is saved."""
    if isinstance(value, Mapping):
        return {str(key): _json(item) for key, item in value.items()}
    return [_json(item) for item in value] if isinstance(value, tuple | list) else value
