"""Owl by the gap: a, the preference by bin of log p_T - log p_B; b, mixing, shuffling and students of students.

A student's preference is that among the animals, as one that learnt shuffled numbers hardly names any.
"""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from figures import plots
from figures.plots import COLOURS, CROSS, GREEN, RED, SHARED, Look
from sublim_theory.record import Record

GROUPS = {
    "control": Look("base's\nnumbers", RED),
    "mixed": Look("{0:.0%}\nbase's", CROSS, "///"),
    "shuffled": Look("shuffled\n{0}", GREEN, "xxx"),
    "plain": Look("base's,\nshuffled\n{0}", RED, "xxx"),
    "generation": Look("gener-\nation {0}", SHARED, "..."),
}
"""The bars, by what comes before the slash."""


def draw(record: Record) -> dict[str, Figure]:
    """Points of the bins at their mean log ratio, and bars of everything else that students learnt."""
    table = record.table
    values = table["preference"] / table["answers"].sum("animal")
    names = values["network"].values.tolist()
    bins = [name for name in names if name.startswith("bin/")]
    figure = Figure(figsize=(6.8, 6.0))
    above, below = figure.subplots(2, 1)

    x, y = (each.sel(network=bins).transpose("network", "seed").values for each in (table["ratio"], values))
    above.plot(x, y, color=SHARED, alpha=0.25, linewidth=0.7, marker="o", markersize=2.5)  # a line a seed
    error = 1.96 * y.std(axis=1, ddof=1) / np.sqrt(y.shape[1]) if y.shape[1] > 1 else None
    style: dict[str, Any] = {"color": SHARED, "marker": "o", "markersize": 5, "capsize": 3, "linewidth": 1.6}
    above.errorbar(x.mean(axis=1), y.mean(axis=1), error, **style, label="bins of the sorted sequences")
    for i, name in enumerate(bins):
        at = float(x[i].mean()), float(y[i].mean())
        above.annotate(name.partition("/")[2], at, (7, -10), textcoords="offset points", fontsize=8)
    plots.level(above, values.sel(network="generation/1"), "all sequences", line="-.", colour=SHARED)
    plots.level(above, values.sel(network="sixth"), "as many at random", line="--", colour=COLOURS[4])
    plots.level(above, values.sel(network="base"), "base")
    plots.continuous(above)
    above.set_xlabel(r"mean of $\Sigma\,(\log p_T - \log p_B)$ over the sequences of a bin")
    above.set_title("a  By the gap between teacher and base")

    looks = {
        name: _look(name)
        for group in ("generation", "mixed", "control", "shuffled", "plain")
        for name in names
        if name.partition("/")[0] == group
    }
    plots.bars(below, values, looks)
    for place, name in enumerate(looks):
        mean = float(values.sel(network=name).mean())
        below.text(place, 1.0, f"{mean:.2f}", ha="center", va="bottom", fontsize=8)
    plots.level(below, values.sel(network="base"), "base")
    below.tick_params(axis="x", labelsize=7)
    below.set_title("b  Of all sequences: written by students, mixed with the base's, shuffled", pad=12)
    for axes in (above, below):
        axes.set_ylim(0, 1.0)
        axes.set_ylabel("P(teacher's animal)\namong the animals")
    figure.suptitle(f"Where the preference is in the numbers: {plots.setting(record)}", fontsize="medium")
    plots.legend(figure, above, 4)
    return {"owl_gap": figure}


def _look(name: str) -> Look:
    """How a bar is drawn, and what stands below it."""
    group, _, rest = name.partition("/")
    look = GROUPS[group]
    return look._replace(text=look.text.format(float(rest) if group == "mixed" else rest))
