"""The table of exact zeros: four settings without transfer, and what brings it back."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from figures.drawing import RED, SHARED, power, require, setting
from sublim_theory.results import Result

ROWS = {
    "one_logit": ("one auxiliary logit\nunder a softmax", "squared error"),
    "linear_model": ("linear model,\nauxiliary logits only", "all logits"),
    "class_bias": ("trait in the biases of\nthe class head only", "all logits"),
    "dead_units": ("trait in the weights into\nunits that are off", "units on"),
}
SMALL = 1e-3
"""What counts as a small eps for the controls."""


def draw(result: Result) -> dict[str, Figure]:
    """The table, if every alignment in it is exactly 0 and every control is positive.

    Raises:
        ClaimError: if the record contradicts that.
    """
    arrays, epsilons = result.arrays, result.arrays["epsilons"]
    controls = epsilons <= SMALL
    for name in ROWS:
        largest = np.abs(arrays[f"alignment/{name}"]).max()
        require(largest == 0, f"{name}: d_S . d_T is exactly 0.0 at every eps", f"{largest:.3g}")
        length = arrays[f"teacher/{name}"].min()
        require(length > 0, f"{name}: the teacher moves", f"|d_T| = {length:.3g}")
        undone = arrays[f"alignment/{name}/undone"][:, controls].min()
        require(undone > 0, f"{name}, undone: d_S . d_T is positive at small eps", f"{undone:.3g}")

    figure = Figure(figsize=(7.6, 2.9))
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(len(ROWS) + 0.2, -1.3)
    columns = np.linspace(0.35, 0.6, len(epsilons)).tolist()
    undone_columns = np.linspace(0.85, 0.95, int(controls.sum())).tolist()
    heading: dict[str, Any] = {"ha": "center", "va": "center", "weight": "bold"}
    axes.text(
        sum(columns) / len(columns), -1.0, r"largest $|d_S \cdot d_T|$ at $\varepsilon$ =", color=SHARED, **heading
    )
    axes.text(0.9, -1.0, r"smallest $d_S \cdot d_T$ at $\varepsilon$ =", color=RED, **heading)
    cell: dict[str, Any] = {"ha": "center", "va": "center"}
    axes.text(0.25, -0.4, r"$|d_T|$", **cell)
    axes.text(0.68, -0.4, "undone by", va="center")
    for x, epsilon in [*zip(columns, epsilons, strict=True), *zip(undone_columns, epsilons[controls], strict=True)]:
        axes.text(x, -0.4, power(epsilon), **cell)
    for y, (name, (label, remedy)) in enumerate(ROWS.items()):
        axes.text(0, y + 0.3, label, va="center")
        axes.text(0.25, y + 0.3, f"{arrays[f'teacher/{name}'].mean():.2g}", **cell)
        for x, value in zip(columns, np.abs(arrays[f"alignment/{name}"]).max(axis=0), strict=True):
            axes.text(x, y + 0.3, str(float(value)), color=SHARED, **heading)
        axes.text(0.68, y + 0.3, remedy, va="center")
        for x, value in zip(undone_columns, arrays[f"alignment/{name}/undone"].min(axis=0)[controls], strict=True):
            axes.text(x, y + 0.3, power(value), color=RED, **cell)
    for rule in (-0.7, -0.15, len(ROWS) - 0.2):
        axes.axhline(rule, color="black", linewidth=0.6)
    axes.set_title(f"{setting(result)}, float64")
    moved = arrays["student/dead_units"][:, -1].max()
    note = f"Last row: at the largest step the student moves by up to {moved:.2g}, at right angles to the teacher."
    axes.text(0, len(ROWS) - 0.1, note, va="top", fontsize=8)
    return {"theorem_orthogonal": figure}
