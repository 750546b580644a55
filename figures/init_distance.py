"""Transfer against the distance of the student's start, a line a part that is moved, beside the first-order sigma*."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.drawing import CROSS, GREEN, RED, SHARED, continuous, setting
from sublim_theory.results import Result

TITLES = {
    "interpolated": r"interpolated: $\sqrt{1-d^2}\,\theta^0 + d\,\theta^0_{\mathrm{other}}$",
    "perturbed": r"perturbed: $\theta^0 + \mathcal{N}(0, d^2 s^2)$",
}
PARTS: dict[str, tuple[str, dict[str, Any]]] = {
    "all": ("all layers", {"color": SHARED, "marker": "o"}),
    "hidden": ("hidden layers", {"color": CROSS, "marker": "s", "linestyle": "--"}),
    "class_head": ("class head", {"color": RED, "marker": "D", "linestyle": "-."}),
    "auxiliary_head": ("auxiliary head", {"color": GREEN, "marker": "^", "linestyle": (0, (5, 1, 1, 1, 1, 1))}),
}


def draw(result: Result) -> dict[str, Figure]:
    """One panel a way of moving the start."""
    ways = result.config["ways"]
    figure = Figure(figsize=(6.3, 3.6))
    panels = list(np.ravel(figure.subplots(1, len(ways), sharey=True, squeeze=False)))
    for axes, way in zip(panels, ways, strict=True):
        _panel(axes, result, way)
    panels[0].set_ylim(0, 1.02)
    panels[0].set_ylabel("test accuracy")
    handles = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
    order = [PARTS[part][0] for part in result.config["parts"]]  # matplotlib would put lines before error bars
    order += [label for label in handles if label not in order]
    figure.legend([handles[label] for label in order], order, loc="outside lower center", ncols=3)
    figure.suptitle(f"{setting(result)}, {result.config['auxiliary']} auxiliary logits", fontsize="medium")
    return {"init_distance": figure}


def _panel(axes: Axes, result: Result, way: str) -> None:
    distances, parts = sorted(result.config["distances"]), result.config["parts"]
    spread = np.geomspace(0.96, 1.04, len(parts))  # or the points of the parts would hide each other
    for shift, part in zip(spread, parts, strict=True):
        text, look = PARTS[part]
        found = [result.conditions[f"{way}/{part}/{distance:g}"] for distance in distances]
        x = shift * np.array(distances)
        errors = [summary.ci95 or 0.0 for summary in found]
        axes.errorbar(
            x, [summary.mean for summary in found], errors, label=text, markersize=4, capsize=2, linewidth=1.2, **look
        )
        for place, summary in zip(x, found, strict=True):
            axes.scatter([place] * summary.n, summary.values, s=3, alpha=0.4, color=look["color"])
    axes.axhline(result.conditions["student_aux"].mean, color="black", linewidth=1, label="no distance")
    chance = result.conditions["reference"].mean
    axes.axhline(chance, color="black", linestyle=":", linewidth=1, label="untrained reference")
    for part in parts:
        if (predicted := result.conditions.get(f"sigma_star_relative/{part}")) is not None:
            label = rf"$\sigma^*$ of {PARTS[part][0]}: {predicted.mean:.1f}"
            axes.axvline(predicted.mean, 0, 0.5, color=PARTS[part][1]["color"], linewidth=1, alpha=0.7, label=label)
    axes.set_xscale("log")
    axes.set_xticks(distances, [f"{distance:g}" for distance in distances])
    axes.minorticks_off()
    continuous(axes)
    axes.set_xlabel("distance $d$")
    axes.set_title(TITLES[way])
