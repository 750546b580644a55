"""Accuracy over the number of auxiliary logits, and what of the teacher's change passes through their head."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from figures import plots
from figures.plots import CROSS, GREEN, NEUTRAL, RED, SHARED, Look
from sublim_theory.record import Record

STUDENTS = {
    "shared": Look("teacher's start", SHARED),
    "drawn": Look("the same, {share} of the logits an update", GREEN, marker="D", line="-."),
    "redrawn_head": Look("the same, own auxiliary head", RED, marker="^", line="--"),
    "cross": Look("another start", CROSS, marker="s", line=":"),
}
FRACTIONS = {
    "share": Look("share of it in the head's range", GREEN, marker="s", line="--"),
    "cosine": Look("cosine of it and the signal", SHARED),
}
RANKS = {
    "rank": Look("rank", NEUTRAL, marker="s", line="--"),
    "effective_rank": Look("effective rank", RED),
}


def draw(record: Record) -> dict[str, Figure]:
    """Accuracy on the left, its reported values as open markers; on the right what passes, with its law, and ranks."""
    table, config = record.table, record.config
    width, counts = config["hidden"][-1], table["auxiliary"].values
    looks = {
        name: each._replace(text=each.text.format(share=Fraction(config["drawn"]).limit_denominator(100)))
        for name, each in STUDENTS.items()
    }
    figure = Figure(figsize=(7.6, 4.4))
    panels = figure.subplot_mosaic([["accuracy", "passes"], ["accuracy", "ranks"]], width_ratios=(1.25, 1))
    accuracy, passes, ranks = panels["accuracy"], panels["passes"], panels["ranks"]

    plots.lines(accuracy, table["accuracy"], looks, over="auxiliary", log=2)
    reported = plots.reported(f"{record.experiment}-{record.preset}")
    named = [
        (*condition.removeprefix("auxiliary=").partition("/")[::2], value) for condition, value in reported.items()
    ]
    beside = [(1.25 * float(m), value, STUDENTS[name]) for m, name, value in named if name in STUDENTS]
    plots.mark_reported(accuracy, beside)  # to the right of ours
    plots.level(accuracy, table["accuracy"].sel(network="teacher"), "teacher", line=(0, (5, 1)))
    plots.level(accuracy, table["accuracy"].sel(network="reference"), "untrained: chance", colour=NEUTRAL)
    plots.accuracy(accuracy)

    plots.lines(passes, _each(table, FRACTIONS), FRACTIONS, over="auxiliary", log=2, aside=0, seeds=False)
    m = np.geomspace(counts.min(), counts.max(), 100)
    seen = m - 1 if config["loss"] in ("kl", "cross_entropy") else m
    passes.plot(m, 1 / np.sqrt(1 + width / seen), color="black", linewidth=1, label="its law for a random head")
    passes.set_ylim(0, 1.65)  # the legend stands above
    passes.set_yticks([0, 0.5, 1])
    passes.set_title("teacher's change of its last hidden layer")
    plots.lines(ranks, _each(table, RANKS), RANKS, over="auxiliary", log=2, aside=0, seeds=False)
    ranks.set_yscale("log")
    ranks.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ranks.yaxis.set_major_formatter("{x:g}")
    ranks.yaxis.set_minor_formatter(NullFormatter())
    ranks.set_title("and of its auxiliary logits")
    for axes in panels.values():
        axes.axvline(width, color=NEUTRAL, linewidth=1, zorder=0.6)
        text: dict[str, Any] = {
            "transform": axes.get_xaxis_transform(),
            "fontsize": 7,
            "color": "#666666",
            "va": "bottom",
        }
        axes.text(width, 0.01, " width", **text)
        if len(counts) > 5:
            axes.tick_params(axis="x", labelrotation=45)
    for axes in (accuracy, ranks):
        axes.set_xlabel("auxiliary logits $m$")
    handles, texts = passes.get_legend_handles_labels()
    passes.legend(handles[::-1], texts[::-1], loc="upper left", fontsize=7)
    ranks.legend(loc="upper left", fontsize=7)
    figure.suptitle(f"{plots.setting(record)}, 95% intervals", fontsize="medium")
    plots.legend(figure, accuracy, 3)
    return {"many_logits": figure}


def _each(table: xr.Dataset, names: Mapping[str, Look]) -> xr.DataArray:
    """These variables as series."""
    return table[list(names)].to_dataarray("quantity")
