"""Behavioural cloning: accuracy after distillation, and what is left to imitate, over the epochs of cloning before."""

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from figures.drawing import CROSS, NEUTRAL, SHARED, setting
from sublim_theory.results import Result


def draw(result: Result) -> dict[str, Figure]:
    """Two panels that share the axis."""
    epochs = result.config["cloning_epochs"]
    places = range(len(epochs))
    figure = Figure(figsize=(6.3, 4.2))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for axes, kind, colour in ((above, "accuracy", CROSS), (below, "mismatch", NEUTRAL)):
        found = [result.conditions[f"{kind}/{count}"] for count in epochs]
        for place, summary in zip(places, found, strict=True):
            axes.scatter([place] * summary.n, summary.values, s=6, color=colour, alpha=0.5)
        errors = [summary.ci95 or 0.0 for summary in found]
        label = "cloned from another start" if kind == "accuracy" else None
        axes.errorbar(places, [s.mean for s in found], errors, color=colour, marker="o", capsize=3, label=label)
    shared, teacher = result.conditions["accuracy/shared"], result.conditions["teacher"]
    above.axhline(shared.mean, color=SHARED, label="from the teacher's own start")
    if shared.ci95 is not None:
        above.axhspan(shared.mean - shared.ci95, shared.mean + shared.ci95, color=SHARED, alpha=0.15, linewidth=0)
    above.axhline(teacher.mean, color="black", linestyle=":", linewidth=1, label="teacher")
    above.set_ylim(0, 1.02)
    above.set_ylabel("test accuracy\nafter distillation")
    below.set_yscale("log")
    below.yaxis.set_minor_formatter(NullFormatter())
    below.set_ylabel("KL to the reference\n(nats, fresh noise)")
    below.set_xticks(places, [str(count) for count in epochs])
    below.set_xlabel(f"epochs of cloning on {result.config['cloning_inputs']}, before distillation")
    above.set_title(f"Behavioural cloning: {setting(result)}")
    figure.legend(loc="outside lower center", ncols=3)
    return {"behavioural_cloning": figure}
