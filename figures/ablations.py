"""Ablations: the accuracy of the student and of the cross-model student, a pair of bars for each change."""

import numpy as np
from matplotlib.figure import Figure

from figures import plots
from figures.plots import CROSS, SHARED, Look
from sublim_theory.record import Record

LOOKS = {"student_aux": Look("shared start", SHARED, "///"), "cross_aux": Look("another start", CROSS, "///")}


def draw(record: Record) -> dict[str, Figure]:
    """One panel, the mean of the teachers above every pair."""
    values = record.table["accuracy"]
    figure = Figure(figsize=(6.3, 3.6))
    axes = figure.subplots()
    places = np.arange(len(plots.bars(axes, values, LOOKS, group="change")))
    teachers = values.sel(network="teacher").astype(float).mean("seed")
    teacher = axes.hlines(teachers, places - 0.4, places + 0.4, color="black", linewidth=1, label="its teacher")
    plots.slanted(axes)
    plots.accuracy(axes)
    figure.suptitle(f"Students on the auxiliary logits: {plots.setting(record)}", fontsize="medium")
    figure.legend(handles=[*plots.bar_key(LOOKS.values()), teacher], loc="outside lower center", ncols=3)
    return {"ablations": figure}
