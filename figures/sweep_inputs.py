"""The sweep over input distributions: accuracy as for any sweep, and beside it the spectra of the pixel covariance."""

import numpy as np
from matplotlib.figure import Figure

from figures import sweep
from figures.drawing import NEUTRAL, continuous, setting
from sublim_theory.results import Result

COLOURS = (*sweep.COLOURS, NEUTRAL, "#882255")
MARKERS = "osD^vP*Xh"
STYLES = ("-", "--", ":")
FLOOR = 1e-6
"""Eigenvalues below this part of the largest are not drawn: directions that a distribution does not have."""


def draw(result: Result) -> dict[str, Figure]:
    """What any sweep shows, and the spectra beside accuracy over their effective rank."""
    return {**sweep.draw(result), "spectrum": spectra(result)}


def spectra(result: Result) -> Figure:
    """Left, eigenvalues in descending order; right, accuracy over effective rank, filled where the start is shared."""
    figure = Figure(figsize=(6.3, 3.6))
    left, right = figure.subplots(1, 2, sharex=True)
    students = [each for each in ("student_aux", "cross_aux") if each in result.config["students"]]
    for i, name in enumerate(result.config["vary"]["noise"]):
        point = f"noise={name}"
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        eigenvalues = result.arrays[f"{point}/eigenvalues"]
        kept = eigenvalues[eigenvalues > FLOOR * eigenvalues[0]]
        ranks = np.arange(1, len(kept) + 1)
        few = np.unique(np.geomspace(1, len(kept), 6).round().astype(int)) - 1
        style = STYLES[i % len(STYLES)]
        left.plot(
            ranks, kept, style, color=colour, marker=marker, markevery=few.tolist(), markersize=4, label=name, zorder=3
        )
        for each in students:
            summary = result.conditions[f"{point}/{each}"]
            right.errorbar(
                result.arrays[f"{point}/effective_rank"],
                summary.mean,
                summary.ci95 or 0.0,
                marker=marker,
                color=colour,
                markerfacecolor=colour if each == "student_aux" else "white",
                linestyle="none",
                capsize=2,
            )
    left.set(xscale="log", yscale="log", xlabel="rank", ylabel="eigenvalue of the pixel covariance")
    right.set(ylim=(0, 1.02), xlabel="effective rank", ylabel="test accuracy")
    for axes in (left, right):
        continuous(axes)
    for each in students:
        face = "black" if each == "student_aux" else "white"
        right.plot([], [], "o", color="black", markerfacecolor=face, label=sweep.LABELS[each])
    right.legend(loc="best")
    figure.legend(handles=left.lines, loc="outside lower center", ncols=5)
    figure.suptitle(f"Input distributions: {setting(result)}", fontsize="medium")
    return figure
