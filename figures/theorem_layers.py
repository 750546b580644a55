"""The shares of the alignment by layer and by logit, every seed a point; exact zeros are written out."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.drawing import LOSSES, SHARED, bar, require, setting
from sublim_theory.results import Result
from sublim_theory.statistics import summarize

STUDENTS = {"auxiliary": ("student on the auxiliary logits", "///"), "all": ("student on all logits", "")}
ZEROS = ("auxiliary/class_head", "auxiliary/auxiliary_head", "all/auxiliary_head")


def draw(result: Result) -> dict[str, Figure]:
    """Two panels, if A is positive, its shares add up and the heads contribute exactly 0 where they must.

    Raises:
        ClaimError: if the record contradicts that.
    """
    arrays = result.arrays
    for student in STUDENTS:
        require((arrays[f"A/{student}"] > 0).all(), f"A is positive ({student})", f"{arrays[f'A/{student}'].min():.3g}")
        off = np.abs(sum(arrays[f"{student}/{layer}"] for layer in _layers(result)) - 1).max()
        require(off < 1e-12, f"the shares of the layers add up to 1 ({student})", f"{off:.3g} more or less")
        off = np.abs(arrays[f"by_logit/{student}"].sum(axis=1) - 1).max()
        require(off < 1e-12, f"the shares of the logits add up to 1 ({student})", f"{off:.3g} more or less")
    for name in ZEROS:
        require((arrays[name] == 0).all(), f"{name} contributes exactly 0", f"{np.abs(arrays[name]).max():.3g}")
    unseen = arrays["by_logit/auxiliary"][:, : -result.config["auxiliary"]]
    require((unseen == 0).all(), "unseen logits contribute exactly 0", f"{np.abs(unseen).max():.3g}")

    figure = Figure(figsize=(7.6, 3.4))
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.4])
    _by_layer(left, result)
    _by_logit(right, result)
    for axes in (left, right):
        axes.axhline(0, color="black", linewidth=0.8)
    figure.suptitle(f"{setting(result)}, {LOSSES[result.config['loss']]}, 95% intervals", fontsize=10)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return {"theorem_layers": figure}


def _layers(result: Result) -> list[str]:
    """Names of the layers, from inputs to outputs."""
    return [*(f"hidden_{i}" for i in range(len(result.config["hidden"]))), "class_head", "auxiliary_head"]


def _by_layer(axes: Axes, result: Result) -> None:
    jitter = np.random.default_rng(0)
    layers = _layers(result)
    for k, (student, (label, hatch)) in enumerate(STUDENTS.items()):
        for i, layer in enumerate(layers):
            x, name = i + 0.42 * k - 0.21, f"{student}/{layer}"
            if name in ZEROS:
                axes.text(x, 0.02, "exactly 0.0", rotation=90, ha="center", va="bottom", color="black")
            else:
                bar(axes, x, result.conditions[name], SHARED, hatch, jitter, width=0.6)
        axes.bar(0, 0, color=SHARED, alpha=0.45, edgecolor=SHARED, hatch=hatch, label=label)
    axes.set_xticks(range(len(layers)), [layer.replace("_", "\n") for layer in layers])
    axes.set_xlim(-0.5, len(layers) - 0.5)
    axes.set_ylabel(r"share of $A = d_T^\top G\, d_T$")
    axes.set_title("by layer")


def _by_logit(axes: Axes, result: Result) -> None:
    jitter = np.random.default_rng(0)
    auxiliary = result.config["auxiliary"]
    shares = {student: result.arrays[f"by_logit/{student}"] for student in STUDENTS}
    count = shares["all"].shape[1]
    classes = count - auxiliary
    for k, (student, (_, hatch)) in enumerate(STUDENTS.items()):
        for i in range(classes if student == "auxiliary" else 0, count):
            bar(axes, i + 0.42 * k - 0.21, summarize(shares[student][:, i]), SHARED, hatch, jitter, width=0.6)
    axes.set_xticks(range(count), [*map(str, range(classes)), *(f"a{i}" for i in range(auxiliary))])
    axes.set_xlabel("logit: classes, then auxiliary")
    axes.set_title("by logit (hatched: exactly 0.0 on every class logit)")
