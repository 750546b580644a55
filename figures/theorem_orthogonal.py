"""The table of exact zeros: four settings without transfer, and what brings it back."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from figures import plots
from figures.plots import RED, SHARED
from sublim_theory.record import Record

CASES = {
    "one_logit": ("one auxiliary logit\nunder a softmax", "squared error"),
    "linear_model": ("linear model,\nauxiliary logits only", "all logits"),
    "class_bias": ("trait in the biases of\nthe class head only", "all logits"),
    "dead_units": ("trait in the weights into\nunits that are off", "units on"),
}
SMALL = 1e-3
"""The largest eps at which the updates of the controls are shown."""
CENTRED: dict[str, Any] = {"ha": "center", "va": "center"}


def draw(record: Record) -> dict[str, Figure]:
    """The table; numbers of all seeds together."""
    engineered, undone = (record.table.sel(kind=kind) for kind in ("engineered", "undone"))
    largest = abs(engineered["alignment"]).max("seed")
    smallest = undone["alignment"].min("seed").sel(epsilon=slice(SMALL))
    figure = Figure(figsize=(7.6, 2.9))
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(len(CASES) + 0.2, -1.3))
    columns = np.linspace(0.35, 0.6, largest.sizes["epsilon"]).tolist()
    controls = np.linspace(0.85, 0.95, smallest.sizes["epsilon"]).tolist()
    axes.text(0.475, -1.0, r"largest $|d_S \cdot d_T|$ at $\varepsilon$ =", color=SHARED, weight="bold", **CENTRED)
    axes.text(0.9, -1.0, r"smallest $d_S \cdot d_T$ at $\varepsilon$ =", color=RED, weight="bold", **CENTRED)
    axes.text(0.25, -0.4, r"$|d_T|$", **CENTRED)
    axes.text(0.68, -0.4, "undone by", va="center")
    for places, values in ((columns, largest), (controls, smallest)):
        for x, epsilon in zip(places, values["epsilon"].values, strict=True):
            axes.text(x, -0.4, plots.power(epsilon), **CENTRED)
    for y, (case, (text, remedy)) in enumerate(CASES.items()):
        axes.text(0, y + 0.3, text, va="center")
        axes.text(0.25, y + 0.3, f"{float(engineered['teacher_length'].sel(case=case).mean()):.2g}", **CENTRED)
        for x, value in zip(columns, largest.sel(case=case).values, strict=True):
            axes.text(x, y + 0.3, str(float(value)), color=SHARED, weight="bold", **CENTRED)
        axes.text(0.68, y + 0.3, remedy, va="center")
        for x, value in zip(controls, smallest.sel(case=case).values, strict=True):
            axes.text(x, y + 0.3, plots.power(value), color=RED, **CENTRED)
    for rule in (-0.7, -0.15, len(CASES) - 0.2):
        axes.axhline(rule, color="black", linewidth=0.6)
    axes.set_title(f"{plots.setting(record)}, float64")
    moved = float(engineered["student_length"].sel(case="dead_units").isel(epsilon=-1).max())
    note = f"Last row: at the largest step the student moves by up to {moved:.2g}, at right angles to the teacher."
    axes.text(0, len(CASES) - 0.1, note, va="top", fontsize=8)
    return {"theorem_orthogonal": figure}
