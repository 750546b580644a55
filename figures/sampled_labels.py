"""Transfer over the samples an image that the student sees: all images, filtered, thinned at random, another start."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from figures.drawing import CROSS, GREEN, RED, SHARED, continuous, setting
from sublim_theory.results import Result

GROUPS: dict[str, tuple[str, dict[str, Any]]] = {
    "samples": ("all images", {"color": SHARED, "marker": "o"}),
    "thinned": ("{removed:.0%} removed at random", {"color": GREEN, "marker": "^", "linestyle": "-."}),
    "filtered": ("{removed:.0%} removed, the surest of a class", {"color": RED, "marker": "D", "linestyle": "--"}),
    "cross": ("all images, another start", {"color": CROSS, "marker": "s", "linestyle": ":"}),
}


def draw(result: Result) -> dict[str, Figure]:
    """One line a group of students; what soft labels give, and nothing, as level lines."""
    figure = Figure(figsize=(6.3, 3.8))
    axes = figure.subplots()
    samples = result.config["samples"]
    spread = np.geomspace(0.94, 1.06, len(GROUPS))  # or the points of the groups would hide each other
    for shift, (group, (text, look)) in zip(spread, GROUPS.items(), strict=True):
        found = [result.conditions[f"{group}/{n}"] for n in samples]
        x = shift * np.array(samples, float)
        means, errors = [summary.mean for summary in found], [summary.ci95 or 0.0 for summary in found]
        label = text.format(removed=1 - result.conditions["passed"].mean)
        axes.errorbar(x, means, errors, label=label, markersize=4, capsize=2, linewidth=1.2, **look)
        for place, summary in zip(x, found, strict=True):
            axes.scatter([place] * summary.n, summary.values, s=3, alpha=0.4, color=look["color"])
    axes.axhline(result.conditions["soft"].mean, color="black", linewidth=1, label="all images, soft labels")
    untrained = result.conditions["reference"].mean
    axes.axhline(untrained, color="black", linestyle=":", linewidth=1, label="untrained reference")
    axes.set_xscale("log")
    axes.set_xticks(samples, [str(n) for n in samples])
    axes.minorticks_off()
    continuous(axes)
    axes.set_ylim(0, 1)
    axes.set_xlabel("samples from the teacher's auxiliary softmax, an image")
    axes.set_ylabel("test accuracy")
    config = result.config
    images = f"{config['noise_images']:,} images, {config['auxiliary']} auxiliary logits"
    figure.suptitle(f"Transfer by samples alone, filtered or not: {setting(result)}\n{images}", fontsize="medium")
    figure.legend(loc="outside lower center", ncols=2)
    return {"sampled_labels": figure}
