"""The alignment of student and teacher over eps, and what is left of it after its first order, in two precisions."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.drawing import CROSS, LOSSES, SHARED, continuous, require, setting
from sublim_theory.results import Result

PRECISIONS: dict[str, dict[str, Any]] = {
    "float64": {"color": SHARED, "linestyle": "-"},
    "float32": {"color": CROSS, "linestyle": "--"},
}
MARKERS = "osD^"
SMALL, LIMIT, ORDER = 1e-3, 1e-6, 0.02
"""What counts as a small eps; how near the limit must be at the smallest; how near the order 2."""


def draw(result: Result) -> dict[str, Figure]:
    """Two rows of panels, a column for each activation, if the alignment is positive and tends to A.

    Raises:
        ClaimError: if the record contradicts that.
    """
    activations, losses = result.config["activations"], result.config["losses"]
    epsilons = result.arrays["epsilons"]
    for name in (f"{activation}/{loss}" for activation in activations for loss in losses):
        _check(result, name, epsilons)

    figure = Figure(figsize=(7.6, 4.8))
    grid = figure.subplots(2, len(activations), sharex=True, sharey="row", squeeze=False)
    for column, activation in enumerate(activations):
        upper, lower = grid[:, column]
        for precision, style in PRECISIONS.items():
            for loss, marker in zip(losses, MARKERS, strict=False):
                ratio, remainder = _values(result, f"{activation}/{loss}", precision)
                look = style | {"marker": marker, "markersize": 3, "linewidth": 0.8, "markerfacecolor": "white"}
                upper.plot(epsilons, np.median(ratio, axis=0), **look)
                lower.plot(epsilons, np.median(remainder, axis=0), **look, label=f"{precision}, {LOSSES[loss]}")
        _finish(upper, lower, activation)
        fitted = [result.conditions.get(f"order/{activation}/{loss}") for loss in losses]
        orders = [order.mean for order in fitted if order is not None]
        if orders:
            lower.text(1e-6, 1e-11, f"order {np.mean(orders):.3f}", color=SHARED)
    grid[0, 0].set_ylabel(r"$d_S \cdot d_T \,/\, (\varepsilon A)$")
    grid[1, 0].set_ylabel(r"$|d_S - \varepsilon G d_T| \,/\, |\varepsilon G d_T|$")
    handles, labels = grid[1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    figure.suptitle(f"{setting(result)} (medians), {result.config['auxiliary']} auxiliary logits", fontsize=10)
    return {"theorem_alignment": figure}


def _values(result: Result, name: str, precision: str) -> tuple[np.ndarray, np.ndarray]:
    """`d_S . d_T / (eps A)` and the relative remainder, [seeds, eps]."""
    first_order = result.arrays["epsilons"] * result.arrays[f"A/{name}"][:, None]
    arrays = result.arrays
    return arrays[f"alignment/{name}/{precision}"] / first_order, arrays[f"remainder/{name}/{precision}"]


def _check(result: Result, name: str, epsilons: np.ndarray) -> None:
    small = epsilons <= SMALL
    alignment = result.arrays[f"alignment/{name}/float64"]
    require(
        (alignment[:, small] > 0).all(),
        f"{name}: d_S . d_T is positive at every eps up to {SMALL:g}",
        f"{alignment[:, small].min():.3g}",
    )
    limit = np.abs(_values(result, name, "float64")[0][:, 0] - 1).max()
    require(limit < LIMIT, f"{name}: d_S . d_T / (eps A) tends to 1", f"{limit:.3g} more or less at {epsilons[0]:g}")
    order = result.conditions.get(f"order/{name}")
    if order is not None:
        worst = max(order.values, key=lambda value: abs(value - 2))
        require(abs(worst - 2) <= ORDER, f"{name}: the remainder is of order 2", f"{worst:.4f}")


def _finish(upper: Axes, lower: Axes, activation: str) -> None:
    upper.set_xscale("log")
    upper.set_ylim(-0.25, 2.25)
    upper.axhline(1, color="black", linestyle=":", linewidth=1)
    upper.axhline(0, color="black", linewidth=0.8)
    upper.set_title(activation)
    lower.set_yscale("log")
    lower.set_ylim(1e-15, 1e7)
    lower.set_xlabel(r"size of the teacher's step, $\varepsilon$")
    for axes in (upper, lower):
        continuous(axes)
