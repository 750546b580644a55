"""Ablations: the accuracy of the student and of the cross-model student, a pair of bars for each change."""

import numpy as np
from matplotlib.figure import Figure

from figures.drawing import CROSS, SHARED, bar, setting
from sublim_theory.results import Result

BARS = {"student_aux": ("shared start", SHARED, "///"), "cross_aux": ("another start", CROSS, "///")}


def draw(result: Result) -> dict[str, Figure]:
    """One panel."""
    points = list(result.config["points"])
    figure = Figure(figsize=(6.3, 3.6))
    axes = figure.subplots()
    jitter = np.random.default_rng(0)
    for x, point in enumerate(points):
        for shift, (name, (_, colour, hatch)) in zip((-0.22, 0.22), BARS.items(), strict=True):
            bar(axes, x + shift, result.conditions[f"{point}/{name}"], colour, hatch, jitter, width=0.6)
        teacher = result.conditions[f"{point}/teacher"].mean
        axes.plot([x - 0.4, x + 0.4], [teacher, teacher], color="black", linewidth=1, label="" if x else "its teacher")
    for label, colour, hatch in BARS.values():
        axes.bar([0], [0], color=colour, alpha=0.45, edgecolor=colour, hatch=hatch, label=label)
    axes.set_xticks(range(len(points)), points, rotation=30, ha="right")
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("test accuracy")
    axes.set_title(f"Students on the auxiliary logits: {setting(result)}")
    figure.legend(loc="outside lower center", ncols=3)
    return {"ablations": figure}
