"""The path of the alignment: cosine with the trait and accuracy over the updates, layers, and final losses."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.drawing import CROSS, GREEN, NEUTRAL, RED, SHARED, bar, continuous, setting
from sublim_theory.results import Result
from sublim_theory.statistics import summarize

STUDENTS = {
    "plain": ("plain", SHARED, "", "-"),
    "projected": ("trait projected out", CROSS, "///", "--"),
    "two_sided": ("both signs out", RED, "\\\\\\", (0, (1, 1))),
    "random": ("random projection", NEUTRAL, "...", ":"),
    "liminal": ("liminal", GREEN, "xxx", "-."),
}
DIRECTIONS = {
    "trait": ("current trait gradient", SHARED, ""),
    "first_trait": ("first trait gradient", NEUTRAL, "///"),
    "displacement": ("teacher's displacement", GREEN, "..."),
}


def draw(result: Result) -> dict[str, Figure]:
    """Four panels: accuracy and cosine over the updates; cosines of the plain student by layer; distillation losses."""
    figure = Figure(figsize=(7.6, 5.6))
    (top_left, top_right), (left, right) = figure.subplots(2, 2)
    steps = result.arrays["path/step"]
    for name, (label, colour, _, line) in STUDENTS.items():
        for axes, what in ((top_left, "accuracy"), (top_right, "cosine/trait")):
            values = result.arrays[f"path/{name}/{what}"]
            _path(axes, steps, values, color=colour, linestyle=line, label=label)
    top_left.set_ylim(0, 1.02)
    top_left.set_ylabel("test accuracy")
    top_left.set_title("student accuracy")
    top_right.axhline(0, color="black", linewidth=0.8)
    top_right.set_ylabel("cosine")
    top_right.set_title("distillation and trait gradient (smoothed)")
    for axes in (top_left, top_right):
        axes.set_xlabel("update")
        continuous(axes)
    _layers(left, result)
    _losses(right, result)
    figure.suptitle(f"{setting(result)}, bands and bars: 95% intervals", fontsize=10)
    figure.legend(*top_left.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return {"alignment_path": figure}


def _path(axes: Axes, steps: np.ndarray, values: np.ndarray, **style: Any) -> None:
    """Mean over the seeds of values [seeds, measurements], smoothed for the eye alone, with its interval."""
    width = max(1, values.shape[1] // 20)  # a single batch's cosine scatters more than it drifts
    kernel = np.ones(width)
    share = np.convolve(np.ones(values.shape[1]), kernel, "same")
    smooth = np.stack([np.convolve(row, kernel, "same") / share for row in values])
    columns = [summarize(column) for column in smooth.T]
    mean = np.array([each.mean for each in columns])
    axes.plot(steps, mean, linewidth=1.4, **style)
    if columns[0].ci95 is not None:
        half = np.array([each.ci95 for each in columns])
        axes.fill_between(steps, mean - half, mean + half, color=style["color"], alpha=0.15, linewidth=0)


def _layers(axes: Axes, result: Result) -> None:
    jitter = np.random.default_rng(0)
    groups = {"": "all", **{f"/hidden_{i}": f"hidden {i}" for i in range(len(result.config["hidden"]))}}
    for k, (name, (label, colour, hatch)) in enumerate(DIRECTIONS.items()):
        for i, layer in enumerate(groups):
            values = result.arrays[f"path/plain/cosine/{name}{layer}"].mean(axis=1)
            bar(axes, i + 0.28 * (k - 1), summarize(values), colour, hatch, jitter, width=0.4)
        axes.bar(0, 0, color=colour, alpha=0.45, edgecolor=colour, hatch=hatch, label=label)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(groups)), list(groups.values()))
    axes.set_ylabel("mean cosine over the path")
    axes.set_title("plain student, by layer")
    axes.margins(y=0.35)
    axes.legend(loc="upper left", fontsize=7)


def _losses(axes: Axes, result: Result) -> None:
    jitter = np.random.default_rng(0)
    for x, (name, (_, colour, hatch, _)) in enumerate(STUDENTS.items()):
        bar(axes, x, result.conditions[f"distillation_loss/{name}"], colour, hatch, jitter)
    labels = []
    for name in STUDENTS:
        accuracy = result.conditions[f"accuracy/{name}"].mean
        trait_loss = result.arrays[f"path/{name}/trait_loss"][:, -1].mean()
        labels.append(f"{name.replace('_', '-')}\nacc. {accuracy:.2f}\ntrait {trait_loss:.3g}")
    axes.set_xticks(range(len(STUDENTS)), labels, fontsize=7)
    axes.set_xlabel("trait: its loss at the end", fontsize=7)
    axes.set_ylabel("distillation loss, last epoch")
    axes.set_title("is the imitation as good?")
