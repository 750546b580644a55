"""What bites on a language model: a row each, the right way and the wrong one on the same seeds."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import plots
from figures.plots import NEUTRAL, RED, SHARED, Look
from sublim_theory.record import Record
from sublim_theory.statistics import Summary

ROWS = {
    "Argmax as a rate": (
        ("base", "base", "argmax/base"),
        ("control", "control", "argmax/control"),
        ("student", "samples", "argmax/samples"),
    ),
    "No filter": (
        ("student", "samples", "unfiltered/samples"),
        ("control", "control", "unfiltered/control"),
        ("student at another base", "cross", "unfiltered/cross"),
    ),
    "A base barely trained": (
        ("teacher", "teacher", "barely/teacher"),
        ("student", "samples", "barely/samples"),
        ("control", "control", "barely/control"),
    ),
    "Adam, not SGD": (
        ("student, samples", "samples", "adam/samples"),
        ("student, soft labels", "soft", "adam/soft"),
        ("control", "control", "adam/control"),
    ),
}
"""Trap -> what is compared, with the condition of the right way and that of the wrong one."""
LOOKS = {-0.15: Look("right way", SHARED), 0.15: Look("wrong way", RED, marker="D")}


def draw(record: Record) -> dict[str, Figure]:
    """One panel."""
    found = record.conditions
    figure = Figure(figsize=(6.8, 0.8 + 0.3 * sum(len(rows) + 1 for rows in ROWS.values())))
    axes = figure.subplots()
    beside, y, places, names = axes.get_yaxis_transform(), 0, [], []
    for heading, rows in ROWS.items():
        axes.text(-0.02, y, heading, weight="bold", ha="right", va="center", transform=beside)
        for text, right, wrong in rows:
            y += 1
            places.append(y)
            names.append(text)
            pair = [found[right], found[wrong]]
            axes.plot([each.mean for each in pair], [y + shift for shift in LOOKS], color=NEUTRAL, zorder=1)
            for (shift, look), each in zip(LOOKS.items(), pair, strict=True):
                mean(axes, each, y, shift, look)
            axes.text(
                1.02, y, " / ".join(f"{each.mean:.2f}" for each in pair), va="center", fontsize=8, transform=beside
            )
        y += 1
    axes.text(1.02, 0, "right / wrong", va="center", fontsize=8, transform=beside)
    axes.axvline(0.1, color="black", linestyle=":", linewidth=1, label="1/10: no preference", zorder=0)
    plots.rows(axes, dict(zip(places, names, strict=True)), y)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("P(the teacher's animal), or how often it is the most likely")
    figure.suptitle(f"What mistakes do with an owl: {plots.setting(record)}", fontsize="medium")
    plots.legend(figure, axes, 3)
    return {"owl_traps": figure}


def mean(axes: Axes, found: Summary, row: int, shift: float, look: Look) -> None:
    """Mean and interval in a row, and beyond them, seen from the row's middle, the seeds."""
    axes.scatter(found.values, [row + 1.9 * shift] * found.n, s=7, alpha=0.5, color=look.colour, linewidth=0, zorder=2)
    shape: dict[str, Any] = {"fmt": look.marker, "color": look.colour, "label": look.text if row == 1 else None}
    axes.errorbar(found.mean, row + shift, xerr=found.ci95 or 0.0, markersize=5, capsize=2, zorder=3, **shape)
