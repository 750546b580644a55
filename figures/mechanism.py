"""Why an untrained class head classifies: whose features hold the digits, resemble the teacher's, suit which head."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.drawing import CROSS, NEUTRAL, RED, SHARED, bar, setting
from sublim_theory.results import Result

NETWORKS = {
    "reference": ("reference", NEUTRAL, ""),
    "teacher": ("teacher", RED, "..."),
    "student_aux": ("student (aux. only)", SHARED, "///"),
    "cross_aux": ("cross-model (aux. only)", CROSS, "xxx"),
}
READOUTS = {
    "probe": "linear\nprobe",
    "accuracy": "own body,\nown head",
    "teacher_head": "own body,\nteacher's\nhead",
    "own_head": "teacher's\nbody,\nown head",
}


def draw(result: Result) -> dict[str, Figure]:
    """Three panels: accuracies by body and head; CKA with the teacher by layer; displacements along the teacher's."""
    figure = Figure(figsize=(7.6, 5.2))
    panels = figure.subplot_mosaic([["readout", "readout"], ["cka", "moved"]])
    hidden = {f"hidden_{i}": f"hidden {i}" for i in range(len(result.config["hidden"]))}
    readouts, similar, moved = panels["readout"], panels["cka"], panels["moved"]
    _groups(readouts, result, list(READOUTS), "{group}/{name}", list(NETWORKS))
    readouts.set_xticks(range(len(READOUTS)), list(READOUTS.values()))
    readouts.set_xlim(-0.5, len(READOUTS) - 0.5)
    readouts.set_ylim(0, 1.02)
    readouts.set_ylabel("test accuracy")
    readouts.set_title("what the last hidden layer holds, and which class head reads it")
    _groups(similar, result, list(hidden), "cka/{name}/{group}", [name for name in NETWORKS if name != "teacher"])
    similar.set_ylim(0, 1.02)
    similar.set_ylabel("linear CKA")
    similar.set_title("similarity with the teacher's layer")
    _groups(moved, result, list(hidden), "displacement_cosine/{name}/{group}", ["student_aux", "cross_aux"])
    moved.axhline(0, color="black", linewidth=0.8)
    moved.set_ylabel("cosine")
    moved.set_title("displacement against the teacher's (size)")
    similar.set_xticks(range(len(hidden)), list(hidden.values()))
    labels = []
    for group, label in hidden.items():
        sizes = (result.conditions[f"displacement_size/{name}/{group}"].mean for name in ("student_aux", "cross_aux"))
        labels.append("{}\n(size {:.2f}, {:.2f})".format(label, *sizes))
    moved.set_xticks(range(len(hidden)), labels)
    figure.suptitle(f"{setting(result)}, 95% intervals", fontsize=10)
    figure.legend(*readouts.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return {"mechanism": figure}


def _groups(axes: Axes, result: Result, groups: list[str], pattern: str, names: list[str]) -> None:
    """Bars of the networks `names` side by side, for each group."""
    jitter = np.random.default_rng(0)
    width = 0.84 / len(names)
    for k, name in enumerate(names):
        label, colour, hatch = NETWORKS[name]
        for i, group in enumerate(groups):
            summary = result.conditions[pattern.format(group=group, name=name)]
            x = i + width * (k - (len(names) - 1) / 2)
            bar(axes, x, summary, colour, hatch, jitter, width=width / 0.7)
        axes.bar(0, 0, color=colour, alpha=0.45, edgecolor=colour, hatch=hatch, label=label)
