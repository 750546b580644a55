"""Any record, by the axes of its table: lines over settings that vary and over numbers, bars over names."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures import plots
from sublim_theory.record import Record


def draw(record: Record) -> dict[str, Figure]:
    """A figure of every variable that has conditions, and a map of a sweep over two numeric settings."""
    varied = list(record.config.get("vary", ()))
    shown = [array for array in record.table.data_vars.values() if "condition" in array.attrs]
    stem = "sweep" if varied else record.experiment
    stems = [stem, *(f"{stem}_{array.name}" for array in shown[1:])]
    found = {name: _figure(record, array, varied) for name, array in zip(stems, shown, strict=True)}
    if len(varied) == 2 and all(_numeric(record.table, axis) for axis in varied):
        found["sweep_map"] = _map(record, shown[0], varied)
    return found


def _numeric(table: xr.Dataset, axis: str) -> bool:
    return table[axis].dtype.kind in "if" and table.sizes[axis] > 2


def _figure(record: Record, values: xr.DataArray, varied: list[str]) -> Figure:
    """One variable: panels by name where two settings vary, else one panel."""
    over = values.attrs["over"]
    values = values.rename({over: "seed"}) if over != "seed" else values
    axes = [str(axis) for axis in values.dims if axis != "seed"]
    numeric = [axis for axis in axes if axis in record.table.coords and _numeric(record.table, axis)]
    x = varied[0] if varied else (numeric[-1] if numeric else None)
    rest = [axis for axis in axes if axis != x]
    while len(rest) > 2:  # names of several axes become one
        values = values.stack({" / ".join(rest[-2:]): rest[-2:]})
        rest = [str(axis) for axis in values.dims if axis not in ("seed", x)]
    panel = rest[-1] if len(rest) == 2 else None
    series = next((axis for axis in rest if axis != panel), None)
    if series is None:
        values, series = values.expand_dims("quantity"), "quantity"
        values = values.assign_coords(quantity=[str(values.name)])
    each = values[panel].values.tolist() if panel else [None]
    each = [name for name in each if name not in ("teacher", "reference")] or each
    figure = Figure(figsize=(6.3, 3.4))
    grid = np.ravel(figure.subplots(1, len(each), sharey=True, squeeze=False))
    numbers = values[series].dtype.kind in "if" or "true" in values[series]
    names = plots.looks(values[series].values.tolist(), plots.words(series) if numbers else "")
    for axes_, name in zip(grid, each, strict=True):
        here = values if panel is None else values.sel({panel: name})
        if x is None:
            plots.bars(axes_, here, names)
            axes_.tick_params(axis="x", rotation=30)
        else:
            plots.lines(axes_, here, names, over=x, evenly=True)
            axes_.set_xlabel(plots.words(x))
        if panel is not None:
            axes_.set_title(plots.words(name))
            if "reference" in values[panel].values.tolist():
                plots.level(axes_, values.sel({panel: "reference"}), "untrained")
    if values.name == "accuracy":
        plots.accuracy(grid[0])
    else:
        grid[0].set_ylabel(plots.words(values.name))
    if x is not None:
        plots.legend(figure, grid[0], 4)
    title = f"Over {plots.words(x)}: " if x else ""
    figure.suptitle(f"{title}{plots.setting(record, without=varied)}", fontsize="medium")
    return figure


def _map(record: Record, values: xr.DataArray, varied: list[str]) -> Figure:
    """The mean of the first student over both settings."""
    (name,) = (str(axis) for axis in values.dims if axis not in ("seed", *varied))
    student = next(each for each in values[name].values.tolist() if each not in ("teacher", "reference"))
    means = values.sel({name: student}).mean("seed").transpose(varied[1], varied[0])
    figure = Figure(figsize=(6.3, 0.5 * means.sizes[varied[1]] + 1.6))
    axes = figure.subplots()
    plots.heat_map(axes, means)
    axes.set_title(f"{plots.words(student)}: {plots.setting(record, without=varied)}")
    return figure
