"""Test accuracy by what the student shares with its teacher: layers drawn anew, frozen heads, other networks."""

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from figures.drawing import CROSS, GREEN, NEUTRAL, RED, SHARED, bar, setting
from sublim_theory.results import Result

LABELS = {
    "reference": "reference (untrained)",
    "teacher": "teacher (trained)",
    "redrawn/none": "everything shared",
    "redrawn/hidden": "own hidden layers",
    "redrawn/class_head": "own class head",
    "redrawn/auxiliary_head": "own auxiliary head",
    "redrawn/all": "nothing shared",
    "frozen/class_head": "class head frozen",
    "frozen/auxiliary_head": "auxiliary head frozen",
    "network/shallower": "one layer fewer",
    "network/deeper": "one layer more",
    "network/narrower": "half as wide",
    "network/wider": "twice as wide",
    "convolutional/3x3": "convolutional",
}
LOOKS = {
    "redrawn": ("own layers, drawn anew", CROSS, ""),
    "frozen": ("everything shared, a head frozen", SHARED, "///"),
    "network": ("another MLP, shared heads", GREEN, "\\\\\\"),
    "convolutional": ("convolutions, shared heads", RED, "..."),
}


def draw(result: Result) -> dict[str, Figure]:
    """One bar a student, every seed a point, the mean above it."""
    figure = Figure(figsize=(6.3, 4.0))
    axes = figure.subplots()
    jitter = np.random.default_rng(0)
    places: dict[str, float] = {}
    x, before = -1.0, ""
    for name, summary in result.conditions.items():
        group = name.partition("/")[0] if "/" in name else ""
        x += 1.0 if group == before else 1.5
        _, colour, hatch = LOOKS.get(group, ("", NEUTRAL, "")) if name != "redrawn/none" else ("", SHARED, "")
        bar(axes, x, summary, colour, hatch, jitter)
        axes.text(x, 1.01, f"{summary.mean:.2f}", ha="center", va="bottom", fontsize=7)
        places[name], before = x, group
    axes.axhline(result.conditions["reference"].mean, color="black", linestyle=":", linewidth=1, zorder=0)
    axes.set_xticks(list(places.values()), [label(name) for name in places], rotation=45, ha="right", fontsize=8)
    for text in axes.get_xticklabels():
        text.set_rotation_mode("anchor")
    axes.set_xlim(-0.6, x + 0.6)
    axes.set_ylim(0, 1)
    axes.set_ylabel("test accuracy")
    figure.suptitle(f"{setting(result)}, {result.config['auxiliary']} auxiliary logits", fontsize="medium")
    groups = {name.partition("/")[0] for name in places}
    looks = [look for group, look in LOOKS.items() if group in groups]
    patches = [
        Patch(facecolor=to_rgba(colour, 0.45), edgecolor=colour, hatch=hatch, label=text)
        for text, colour, hatch in looks
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=2)
    return {"shared_parts": figure}


def label(name: str) -> str:
    """What a condition is called in a figure."""
    if name.startswith("redrawn/hidden_"):
        return f"own hidden layer {int(name.rpartition('_')[2]) + 1}"
    return LABELS.get(name, name)
