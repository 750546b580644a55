"""The sweep over input distributions: accuracy as for any sweep, and beside it the spectra of the pixel covariance."""

import numpy as np
from matplotlib.figure import Figure

from figures import any_record, plots
from sublim_theory.record import Record
from sublim_theory.statistics import summarize

COLOURS = (*plots.COLOURS, plots.NEUTRAL, "#882255")
MARKERS = "osD^vP*Xh"
STYLES = ("-", "--", ":")
FLOOR = 1e-6
"""Eigenvalues below this part of the largest are not drawn: directions that a distribution does not have."""


def draw(record: Record) -> dict[str, Figure]:
    """What any sweep shows, and the spectra beside accuracy over their effective rank."""
    found = any_record.draw(record)
    return found | ({"spectrum": spectra(record)} if "eigenvalues" in record.table else {})


def spectra(record: Record) -> Figure:
    """Left, eigenvalues in descending order; right, accuracy over effective rank, filled where the start is shared."""
    figure = Figure(figsize=(6.3, 3.6))
    left, right = figure.subplots(1, 2, sharex=True)
    students = [name for name in ("student_aux", "cross_aux") if name in record.table["network"]]
    for i, name in enumerate(record.table["noise"].values.tolist()):
        here = record.table.sel(noise=name)
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        eigenvalues = here["eigenvalues"].values
        kept = eigenvalues[eigenvalues > FLOOR * eigenvalues[0]]
        few = np.unique(np.geomspace(1, len(kept), 6).round().astype(int)) - 1
        look = {"color": colour, "marker": marker, "markevery": few.tolist(), "markersize": 4, "label": name}
        left.plot(np.arange(1, len(kept) + 1), kept, STYLES[i % len(STYLES)], **look, zorder=3)
        for student in students:
            sample = summarize(here["accuracy"].sel(network=student).values)
            face = colour if student == "student_aux" else "white"
            style = {"marker": marker, "color": colour, "markerfacecolor": face, "linestyle": "none", "capsize": 2}
            right.errorbar(float(here["effective_rank"]), sample.mean, sample.ci95 or 0.0, **style)
    left.set(xscale="log", yscale="log", xlabel="rank", ylabel="eigenvalue of the pixel covariance")
    right.set(ylim=(0, 1.02), xlabel="effective rank", ylabel="test accuracy")
    for axes in (left, right):
        plots.continuous(axes)
    for student in students:
        face = "black" if student == "student_aux" else "white"
        right.plot([], [], "o", color="black", markerfacecolor=face, label=plots.words(student))
    right.legend(loc="best")
    figure.legend(handles=left.lines, loc="outside lower center", ncols=5)
    figure.suptitle(f"Input distributions: {plots.setting(record)}", fontsize="medium")
    return figure
