"""Which quantity ranks the students by their accuracy: rho of every predictor, and some of them in full."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.drawing import CROSS, DATASETS, GREEN, NEUTRAL, RED, SHARED, continuous
from sublim_theory.results import Result

BEFORE, AFTER, GIVEN = "known before training", "known after training", "settings, and a random number"
KINDS = {BEFORE: (SHARED, "o"), AFTER: (RED, "s"), GIVEN: (NEUTRAL, "D")}
LABELS = {
    "coefficient": (BEFORE, r"$A = D^\top G D$"),
    "transfer_ratio": (BEFORE, r"transfer ratio $A/|D|^2$"),
    "alignment": (BEFORE, "first update times $D$"),
    "coverage": (BEFORE, "coverage"),
    "coverage_optimizer": (BEFORE, "coverage, optimiser's step"),
    "coverage_times_rate": (BEFORE, "coverage times learning rate"),
    "sigma_star": (BEFORE, r"$\sigma^*$"),
    "mismatch": (BEFORE, r"$d/\sigma^*$"),
    "cka": (AFTER, "CKA, last hidden layer"),
    "probe": (AFTER, "linear probe"),
    "last_layer_cosine": (AFTER, "displacement cosine, last hidden"),
    "displacement_cosine": (AFTER, "displacement cosine"),
    "distillation_loss": (AFTER, "distillation loss"),
    "learning_rate": (GIVEN, "learning rate"),
    "init_scale": (GIVEN, "scale of the initialisation"),
    "noise_scale": (GIVEN, "scale of the noise"),
    "distance": (GIVEN, "distance $d$ of the starts"),
    "random": (GIVEN, "random number"),
}
SUBSETS = {"all": "all students", "shared": "shared start only", "moved": "start at a distance"}
STARTS = {"shared start": (GREEN, "o"), "start at a distance": (CROSS, "^")}


def draw(result: Result) -> dict[str, Figure]:
    """Above, rho by predictor, best first, over all students and by their start; below, some of them in full."""
    rho = {name: abs(result.arrays[f"pooled/all/{name}"][0]) for name in LABELS}
    order = sorted(LABELS, key=lambda name: -rho[name])
    figure = Figure(figsize=(7.6, 7.4))
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.6, 1)).ravel()
    panels = above.subplots(1, len(SUBSETS), sharey=True)
    for axes, (subset, title) in zip(panels, SUBSETS.items(), strict=True):
        _correlations(axes, result, subset, order)
        axes.set_title(title)
    panels[1].set_xlabel("Spearman's $\\rho$ with the student's test accuracy")
    panels[0].set_yticks(range(len(order)), [LABELS[name][1] for name in order])
    panels[0].set_ylim(len(order) - 0.5, -0.5)
    groups, count = result.arrays["accuracy"].shape
    dataset = DATASETS.get(result.config["dataset"], result.config["dataset"])
    above.suptitle(
        f"What ranks students by accuracy: {dataset}, {groups} groups of {count}, 95% intervals", fontsize="medium"
    )
    handles = [Line2D([], [], color=colour, marker=mark, label=kind) for kind, (colour, mark) in KINDS.items()]
    handles += [
        Line2D([], [], color="black", marker="o", markerfacecolor=fill, linestyle="", label=label)
        for label, fill in {"all groups pooled": "black", "mean within groups": "white"}.items()
    ]
    above.legend(handles=handles, loc="outside lower center", ncols=3)
    best = [next(name for name in order if LABELS[name][0] == kind) for kind in (BEFORE, AFTER)]
    shown = list(dict.fromkeys([best[0], "coverage", best[1], "cka"]))  # the best of both kinds, and what was claimed
    panels = below.subplots(1, len(shown), sharey=True)
    for axes, name in zip(panels, shown, strict=True):
        _scatter(axes, result, name)
    panels[0].set_ylim(0, 1.02)
    panels[0].set_ylabel("student's test accuracy")
    below.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return {"predictors": figure}


def _correlations(axes: Axes, result: Result, subset: str, order: list[str]) -> None:
    """A row a predictor: rho over all groups, filled, and its mean over the groups, open, with their intervals."""
    prefix = "within" if subset == "all" else f"within_{subset}"
    for row, name in enumerate(order):
        if f"pooled/{subset}/{name}" not in result.arrays:
            continue
        colour, mark = KINDS[LABELS[name][0]]
        rho, low, high = result.arrays[f"pooled/{subset}/{name}"]
        axes.plot([low, high], [row - 0.15] * 2, color=colour, linewidth=1.4)
        axes.plot(rho, row - 0.15, mark, color=colour, markersize=4.5)
        mean = result.conditions[f"{prefix}/{name}"]
        half = mean.ci95 or 0.0
        axes.plot([mean.mean - half, mean.mean + half], [row + 0.2] * 2, color=colour, linewidth=1)
        axes.plot(mean.mean, row + 0.2, mark, color=colour, markerfacecolor="white", markersize=4.5)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlim(-1.02, 1.02)
    axes.set_xticks([-1, -0.5, 0, 0.5, 1], ["-1", "-.5", "0", ".5", "1"])
    continuous(axes)


def _scatter(axes: Axes, result: Result, name: str) -> None:
    """Accuracy against a predictor, a point a student."""
    x, y, shared = result.arrays[f"value/{name}"], result.arrays["accuracy"], result.arrays["value/distance"] == 0
    for (label, (colour, mark)), chosen in zip(STARTS.items(), (shared, ~shared), strict=True):
        axes.scatter(x[chosen], y[chosen], s=9, marker=mark, color=colour, alpha=0.7, linewidth=0, label=label)
    axes.set_xlabel(LABELS[name][1], fontsize="small")
    axes.set_title(rf"$\rho$ = {result.arrays[f'pooled/all/{name}'][0]:.2f}")
    if x.min() > 0 and x.max() > 100 * x.min():
        axes.set_xscale("log")
    continuous(axes)
