"""Over width, a panel a rule: accuracy of the real student and of its predictions, and how far these miss its place."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.drawing import CROSS, GREEN, NEUTRAL, RED, SHARED, continuous, setting
from sublim_theory.results import Result

RULES = {"adam": "Adam", "sgd": "gradient descent, mini-batch", "full_batch": "gradient descent, full batch"}
ACCURACIES = {
    "{width}/{rule}/real": ("real student", SHARED, "o", "-"),
    "placed/{width}/{rule}/first_order": ("real network at the first-order parameters", GREEN, "^", "--"),
    "{width}/{rule}/first_order": ("linearised student, first-order labels", CROSS, "s", "-."),
    "{width}/{rule}/linearised": ("linearised student, real teacher's logits", RED, "D", ":"),
    "{width}/teacher": ("teacher", NEUTRAL, "", "-"),
    "{width}/reference": ("reference", NEUTRAL, "", ":"),
}
ERRORS = ("first_order", "linearised")


def draw(result: Result) -> dict[str, Figure]:
    """Two rows of three panels."""
    figure = Figure(figsize=(7.6, 5.4))
    above, below = figure.subplots(2, len(RULES), sharex=True, sharey="row")
    for top, bottom, (rule, title) in zip(above, below, RULES.items(), strict=True):
        for pattern, look in ACCURACIES.items():
            _line(top, result, pattern.replace("{rule}", rule), *look)
        top.set_title(title)
        for model in ERRORS:
            look = ACCURACIES[f"{{width}}/{{rule}}/{model}"]
            _line(bottom, result, f"displacement_error/{{width}}/{rule}/{model}", *look)
        bottom.axhline(1, color=NEUTRAL, linestyle=":", linewidth=1)
        bottom.set_xlabel("width")
        continuous(top)
        continuous(bottom)
    above[0].set_ylim(0, 1.02)
    above[0].set_ylabel("test accuracy")
    below[0].set_ylim(bottom=0)
    below[0].set_ylabel("distance from the real student\nover its way from the start")
    below[0].text(0.03, 1, "as far as the start is", fontsize=7, va="bottom", transform=below[0].get_yaxis_transform())
    figure.suptitle(
        f"First-order predictions of the student: {setting(result, without=('hidden',))}, "
        f"{result.config['auxiliary']} auxiliary logits, 95% intervals",
        fontsize="medium",
    )
    figure.legend(*above[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return {"linearised": figure}


def _line(axes: Axes, result: Result, pattern: str, label: str, colour: str, marker: str, line: Any) -> None:
    """Mean and interval over the width, a little beside it, so that no interval hides another."""
    widths = sorted(result.config["widths"])
    beside = {SHARED: 0.97, GREEN: 1.03, CROSS: 0.99, RED: 1.01}.get(colour, 1.0)
    found = [result.conditions[pattern.format(width=width)] for width in widths]
    errors = [summary.ci95 or 0.0 for summary in found]
    style: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": line, "markersize": 4, "linewidth": 1.3}
    axes.errorbar(
        [width * beside for width in widths],
        [summary.mean for summary in found],
        errors,
        capsize=2,
        label=label,
        **style,
    )
    axes.set_xscale("log", base=2)
    axes.set_xticks(widths, [str(width) for width in widths], fontsize=8)
    axes.minorticks_off()
