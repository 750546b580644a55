"""Which quantity ranks the students by their accuracy: rho of every predictor, and some of them in full."""

from collections.abc import Sequence
from typing import Any

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import plots
from figures.plots import CROSS, GREEN, NEUTRAL, RED, SHARED, Look
from sublim_theory.record import Record

BEFORE = Look("known before training", SHARED)
AFTER = Look("known after training", RED, marker="s")
GIVEN = Look("settings, and a random number", NEUTRAL, marker="D")
LABELS = {
    "coefficient": (BEFORE, r"$A = D^\top G D$"),
    "transfer_ratio": (BEFORE, r"transfer ratio $A/|D|^2$"),
    "alignment": (BEFORE, "first update times $D$"),
    "coverage": (BEFORE, "coverage"),
    "coverage_optimizer": (BEFORE, "coverage, optimiser's step"),
    "coverage_times_rate": (BEFORE, "coverage times learning rate"),
    "sigma_star": (BEFORE, r"$\sigma^*$"),
    "mismatch": (BEFORE, r"$d/\sigma^*$"),
    "teacher_in_range": (BEFORE, "share of $D$ in the range of $G$"),
    "cka": (AFTER, "CKA, last hidden layer"),
    "trait_cka": (AFTER, "CKA, the trait's subspace"),
    "probe": (AFTER, "linear probe"),
    "last_layer_cosine": (AFTER, "displacement cosine, last hidden"),
    "displacement_cosine": (AFTER, "displacement cosine"),
    "student_in_range": (AFTER, "share of its way in the range of $G$"),
    "gain": (AFTER, "gain of the trait along its path"),
    "distillation_loss": (AFTER, "distillation loss"),
    "learning_rate": (GIVEN, "learning rate"),
    "init_scale": (GIVEN, "scale of the initialisation"),
    "noise_scale": (GIVEN, "scale of the noise"),
    "distance": (GIVEN, "distance $d$ of the starts"),
    "random": (GIVEN, "random number"),
}
SUBSETS = {"all": "all students", "shared": "shared start only", "moved": "start at a distance"}
STARTS = Look("shared start", GREEN), Look("start at a distance", CROSS, marker="^")


def draw(record: Record) -> dict[str, Figure]:
    """Above, rho by predictor, best first, over all students and by their start; below, some of them in full."""
    rho = record.table["pooled"].sel(subset="all", end="rho").to_series()
    order = sorted(rho.dropna().index, key=lambda name: -abs(rho[name]))
    figure = Figure(figsize=(7.6, 8.2))
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.6, 1)).ravel()
    panels = above.subplots(1, len(SUBSETS), sharey=True)
    for axes, subset in zip(panels, SUBSETS, strict=True):
        correlations(axes, record, subset, order)
    panels[1].set_xlabel("Spearman's $\\rho$ with the student's test accuracy")
    panels[0].set_yticks(range(len(order)), [LABELS[name][1] for name in order])
    panels[0].set_ylim(len(order) - 0.5, -0.5)
    groups = record.table.sizes["group"]
    where = plots.setting(record, without=["hidden"]) + (f" in each of {groups} groups" if groups > 1 else "")
    above.suptitle(f"What ranks students by accuracy: {where}, 95% intervals", fontsize="medium")
    marks = [(kind.text, kind.marker, "-", kind.colour, kind.colour) for kind in (BEFORE, AFTER, GIVEN)]
    marks += [("all groups pooled", "o", "", "black", "black"), ("mean within groups", "o", "", "black", "white")]
    handles = [Line2D([], [], label=t, marker=m, ls=line, color=c, mfc=fill) for t, m, line, c, fill in marks]
    above.legend(handles=handles, loc="outside lower center", ncols=3)
    best = [next(name for name in order if LABELS[name][0] is kind) for kind in (BEFORE, AFTER)]
    shown = list(dict.fromkeys([best[0], "coverage", best[1], "cka"]))  # the best of both kinds, and what was claimed
    panels = below.subplots(1, len(shown), sharey=True)
    for axes, name in zip(panels, shown, strict=True):
        students(axes, record.table, name)
        axes.set_title(rf"$\rho$ = {rho[name]:.2f}")
    plots.accuracy(panels[0])
    below.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return {"predictors": figure}


def correlations(axes: Axes, record: Record, subset: str, order: Sequence[str]) -> None:
    """A row a predictor: rho over all groups, filled, and its mean over the groups, open, with their intervals."""
    for row, name in enumerate(order):
        mean = record.conditions.get(f"within{'' if subset == 'all' else f'_{subset}'}/{name}")
        if mean is None:  # it does not vary
            continue
        look, half = LABELS[name][0], mean.ci95 or 0.0
        pooled = *record.table["pooled"].sel(subset=subset, predictor=name).values, row - 0.15, look.colour
        within = mean.mean, mean.mean - half, mean.mean + half, row + 0.2, "white"
        for rho, low, high, y, fill in (pooled, within):
            axes.plot([low, high], [y, y], color=look.colour, linewidth=1.2)
            axes.plot(rho, y, look.marker, color=look.colour, markerfacecolor=fill, markersize=4.5)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlim(-1.02, 1.02)
    axes.set_xticks([-1, -0.5, 0, 0.5, 1], ["-1", "-.5", "0", ".5", "1"])
    axes.set_title(SUBSETS[subset])
    plots.continuous(axes)


def students(axes: Axes, table: xr.Dataset, name: str) -> None:
    """Accuracy against a predictor, a point a student."""
    x, distance = (table["value"].sel(predictor=each).values for each in (name, "distance"))
    for kept, look in zip((distance == 0, distance > 0), STARTS, strict=True):
        style: dict[str, Any] = {"s": 9, "marker": look.marker, "color": look.colour, "alpha": 0.7, "linewidth": 0}
        axes.scatter(x[kept], table["accuracy"].values[kept], **style, label=look.text)
    axes.set_xlabel(LABELS[name][1], fontsize="small")
    if x.min() > 0 and x.max() > 100 * x.min():
        axes.set_xscale("log")
    plots.continuous(axes)
