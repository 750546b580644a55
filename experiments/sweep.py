"""The sweep engine: an experiment at every value of one setting, or at every pair of values of two.

Every point is a run of the experiment itself with one or two settings changed, resumed seed by seed like any other;
points that differ in values alone share one compiled program. The record has every condition of every point, named
`auxiliary=3/student_aux`.
"""

import dataclasses
import itertools
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

from experiments.recording import total_times
from sublim_theory.cli import UsageError
from sublim_theory.protocols import lookup
from sublim_theory.results import Result

Values = Mapping[str, Sequence[Any]]
"""Setting -> the values that it takes; in the order of the axes of the figure."""

Measure: TypeAlias = Callable[[Any, str | Path | None], Mapping[str, np.ndarray]]
"""`measure(config, data_dir) -> arrays by name`: what a point's record should have beside its conditions."""


def points(config: Any, vary: Values) -> dict[str, dict[str, Any]]:
    """What every point changes, by its name: `auxiliary=3`, or `auxiliary=3,loss=kl`. All of them are checked.

    Raises:
        UsageError: for a setting that is not there, that every point has anyway, or without a value.
        ValueError: for a value that the setting may not have.
    """
    fixed = {"seeds", "first_seed"}
    names = [field.name for field in dataclasses.fields(config) if field.name not in fixed]
    if not 1 <= len(vary) <= 2:
        raise UsageError(f"a sweep varies one setting or two, not {len(vary)}; give --vary SETTING=VALUE,VALUE,...")
    for name, values in vary.items():
        lookup("setting", name, dict.fromkeys(names))
        if not values:
            raise UsageError(f"--vary {name} has no values")
        if len(set(values)) < len(values):
            raise UsageError(f"--vary {name} has a value twice: {', '.join(map(label, values))}")
    combinations = [dict(zip(vary, values, strict=True)) for values in itertools.product(*vary.values())]
    for point in combinations:
        dataclasses.replace(config, **point)
    return {",".join(f"{name}={label(value)}" for name, value in point.items()): point for point in combinations}


def run(
    experiment: ModuleType,
    name: str,
    config: Any,
    vary: Values,
    *,
    preset: str = "custom",
    data_dir: str | Path | None = None,
    chunks: Path | None = None,
    measure: Measure | None = None,
) -> Result:
    """Run every point and return one record.

    Args:
        experiment: the module of the experiment.
        name: what to call the sweep in the record.
        config: the settings of every point, apart from those that vary.
        vary: what varies.
        preset: what to call the config in the record.
        data_dir: folder that holds `mnist/` and `fashion_mnist/`; see `data.load`.
        chunks: folder for finished seeds, so that an interrupted sweep goes on; none are kept unless given.
        measure: arrays for the record, computed at every point and named like its conditions; none unless given.

    Raises:
        UsageError: for a setting or value that does not fit; see `points`.
        DataError: if a data set cannot be had.
        NonFiniteLossError: if a loss becomes NaN or infinite.
    """
    options: dict[str, Any] = {"preset": preset, "data_dir": data_dir, "chunks": chunks, "measure": measure}
    result = run_points(experiment, name, config, points(config, vary), **options)
    return dataclasses.replace(result, config=result.config | _plain({"vary": vary}))


def run_points(
    experiment: ModuleType,
    name: str,
    config: Any,
    changes: Mapping[str, Mapping[str, Any]],
    *,
    preset: str = "custom",
    data_dir: str | Path | None = None,
    chunks: Path | None = None,
    measure: Measure | None = None,
) -> Result:
    """Run an experiment with several changes of its settings and return one record; arguments and errors as in `run`.

    Args:
        experiment: the module of the experiment.
        name: what to call the whole in the record.
        config: the settings that are not changed.
        changes: settings that are, by the name of the point.
        preset: as in `run`, as are the others.
        data_dir: folder of the data.
        chunks: folder for finished seeds.
        measure: arrays for the record.
    """
    results = {
        point: experiment.run(
            dataclasses.replace(config, **change), preset=f"{name} {point}", data_dir=data_dir, chunks=chunks
        )
        for point, change in changes.items()
    }
    measured = {
        f"{point}/{key}": np.asarray(array)
        for point, change in changes.items()
        for key, array in (measure(dataclasses.replace(config, **change), data_dir) if measure else {}).items()
    }
    runs = [result.provenance for result in results.values()]
    return Result(
        experiment=name,
        preset=preset,
        config=_plain(dataclasses.asdict(config) | {"points": changes}),
        conditions={f"{p}/{key}": value for p, result in results.items() for key, value in result.conditions.items()},
        provenance=runs[0] | total_times(runs),
        wall_seconds=sum(result.wall_seconds for result in results.values()),
        expectations=[],
        arrays=measured,
    )


def _plain(value: Any) -> Any:
    """As JSON gives it back, so that a record is the same before and after it is saved."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def label(value: Any) -> str:
    """A value as the command line takes it: layers as 256x256, none as `none`."""
    if isinstance(value, tuple | list):
        return "x".join(map(label, value)) or "none"
    return (
        f"{value:g}" if isinstance(value, float) else str(value).lower() if value in (None, True, False) else str(value)
    )


def parse_vary(config_type: type, words: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """`["auxiliary=1,2,3", "hidden=64x64,256x256"]` as values of the types of the config's settings.

    Raises:
        UsageError: for a word of another form, or a value that its setting cannot read.
    """
    hints = typing.get_type_hints(config_type)
    vary: dict[str, tuple[Any, ...]] = {}
    for word in words:
        name, equals, values = word.partition("=")
        name = name.replace("-", "_")
        if not equals:
            raise UsageError(f"--vary takes SETTING=VALUE,VALUE,..., got {word!r}")
        hint = lookup("setting", name, hints)
        vary[name] = tuple(_read(name, hint, value) for value in values.split(",") if value)
    return vary


def _read(name: str, hint: Any, text: str) -> Any:
    choices = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    if type(None) in choices and text.lower() == "none":
        return None
    for choice in choices:
        try:
            if typing.get_origin(choice) is tuple:
                parts = [] if text.lower() == "none" else text.split("x")
                return tuple(typing.get_args(choice)[0](part) for part in parts)
            if choice is bool:
                return {"true": True, "false": False}[text.lower()]
            if choice is not type(None):
                return choice(text)
        except (ValueError, KeyError):
            continue
    raise UsageError(f"--vary {name}: cannot read {text!r} as {getattr(hint, '__name__', hint)}")
