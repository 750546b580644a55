"""Transfer against the distance of the student's start, a line a part that is moved, beside the first-order sigma*."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import plots
from figures.plots import CROSS, GREEN, RED, SHARED, Look
from sublim_theory.record import Record

TITLES = {
    "interpolated": r"interpolated: $\sqrt{1-d^2}\,\theta^0 + d\,\theta^0_{\mathrm{other}}$",
    "perturbed": r"perturbed: $\theta^0 + \mathcal{N}(0, d^2 s^2)$",
}
PARTS = {
    "all": Look("all layers", SHARED),
    "hidden": Look("hidden layers", CROSS, marker="s", line="--"),
    "class_head": Look("class head", RED, marker="D", line="-."),
    "auxiliary_head": Look("auxiliary head", GREEN, marker="^", line=(0, (5, 1, 1, 1, 1, 1))),
}


def draw(record: Record) -> dict[str, Figure]:
    """One panel a way of moving the start."""
    values, networks = record.table["accuracy_at_distance"].sortby("distance"), record.table["accuracy"]
    figure = Figure(figsize=(6.3, 3.6))
    panels = np.ravel(figure.subplots(1, values.sizes["way"], sharey=True, squeeze=False))
    for axes, (way, here) in zip(panels, plots.panels(values, "way"), strict=True):
        plots.lines(axes, here, PARTS, over="distance", log=10)
        plots.level(axes, networks.sel(network="student_aux"), "no distance", line="-")
        plots.level(axes, networks.sel(network="reference"), "untrained reference")
        _predictions(axes, record)
        axes.set_xlabel("distance $d$")
        axes.set_title(TITLES[way])
    plots.accuracy(panels[0])
    plots.legend(figure, panels[0], 3)
    figure.suptitle(f"{plots.setting(record)}, {record.config['auxiliary']} auxiliary logits", fontsize="medium")
    return {"init_distance": figure}


def _predictions(axes: Axes, record: Record) -> None:
    """A short upright line at the distance that the theorem allows each part for which it says something."""
    for part, look in PARTS.items():
        if predicted := record.conditions.get(f"sigma_star_relative/{part}"):
            text = rf"$\sigma^*$ of {look.text}: {predicted.mean:.1f}"
            axes.axvline(predicted.mean, 0, 0.5, color=look.colour, linewidth=1, alpha=0.7, label=text)
