"""The change of the teacher's loss over the student's learning rate, with the guaranteed rate marked."""

from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from figures import plots
from figures.plots import CROSS, NEUTRAL, SHARED
from sublim_theory.record import Record

MODELS = {
    "network": ("network, auxiliary logits", "estimated", SHARED),
    "linear": ("linear model, all logits", "guaranteed", CROSS),
}
"""Title; what the marked rate is: from the curvature sampled on the step, or from a proven bound on it; colour."""
LARGEST: dict[str, Any] = {"color": "black", "marker": "|", "markersize": 9, "linestyle": "none", "clip_on": False}


def draw(record: Record) -> dict[str, Figure]:
    """Two rows of panels, a column for each model, every seed a line."""
    table, epsilon = record.table, record.config["epsilon"]
    first_order = table["ratio"] * table["guaranteed_alpha"] * table["alignment"]
    relative = table["change"] / table["initial_loss"]
    rows = {r"change of $L_T$ / $L_T$": relative, "decrease / its first order": -table["change"] / first_order}
    figure = Figure(figsize=(7.6, 4.8))
    grid = figure.subplots(2, len(MODELS), sharex=True, sharey="row", gridspec_kw={"wspace": 0.05})
    ratios = table["ratio"].values
    for (model, (title, kind, colour)), column in zip(MODELS.items(), grid.T, strict=True):
        largest = table["slack"].sel(model=model).values
        for axes, values in zip(column, rows.values(), strict=True):
            axes.plot(ratios, values.sel(model=model).transpose("ratio", "seed"), color=colour, linewidth=0.8)
            axes.axvspan(ratios[0], 1, color=NEUTRAL, alpha=0.2, linewidth=0)
            axes.axhline(0, color="black", linewidth=0.8)
            axes.plot(largest, 0 * largest, **LARGEST)
            plots.continuous(axes)
        rate = epsilon * float(table["guaranteed_alpha"].sel(model=model).median())
        text = f"{kind}:\n" + rf"$\alpha\varepsilon < {rate:.3g}$ (median)"
        column[1].text(0.03, 0.36, text, va="bottom", fontsize=8, transform=column[1].transAxes)
        column[1].set_xlabel(rf"student's rate $\alpha$ / {kind} rate")
        column[0].set_title(title)
    deepest = float(relative.min())
    grid[0, 0].set(xscale="log", xlim=(ratios[0], ratios[-1]), ylim=(1.15 * deepest, -1.15 * deepest))
    grid[1, 0].set_ylim(-0.5, 1.1)
    for axes, text in zip(grid[:, 0], rows, strict=True):
        axes.set_ylabel(text)
    shaded = Patch(color=NEUTRAL, alpha=0.2, linewidth=0, label="rates up to the estimated or guaranteed one")
    seen = Line2D([], [], **LARGEST, label="rate up to which all that were tried lower $L_T$, of each seed")
    figure.legend(handles=[shaded, seen], loc="outside lower center", ncols=2)
    figure.suptitle(rf"{plots.setting(record)}, $\varepsilon$ = {plots.power(epsilon)}", fontsize=10)
    return {"theorem_decrease": figure}
