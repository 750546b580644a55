"""Treated layers: what they leave of transfer, the first step by G beside it, and exchanged layers."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import plots
from figures.plots import CROSS, GREEN, NEUTRAL, RED, SHARED, Look
from sublim_theory.record import Record
from sublim_theory.statistics import summarize

KINDS = {
    "dropout/0.1": "dropout .1",
    "dropout/0.3": "dropout .3",
    "dropout/0.5": "dropout .5",
    "centred": "last layer centred",
    "centred_first": "first layer centred",
    "normalised": "last layer normalised",
}
ARMS = {"plain": "nothing", "stranger": "nothing, another start"}
ACCURACY = {"accuracy": Look("student", SHARED)}
COSINES = {
    "coverage": Look(r"$\tilde{G} D$, the teacher's signal", GREEN, marker="s"),
    "first_update": Look("the whole first step", SHARED),
    "drift_cosine": Look("the drift alone", RED, marker="D"),
}
SIZES = {
    "drift": Look(r"drift / signal", RED, marker="D"),
    "mask_variance": Look("variance over masks", CROSS, marker="^"),
}
OWNERS = {"student": Look("student's", SHARED), "stranger": Look("stranger's", CROSS, "xxx")}
HEADS = {"teacher": Look("teacher's", GREEN, "..."), "stranger": OWNERS["stranger"]}
QUANTITIES = {
    "trace": "share of the\ntrace of G",
    "step": "norm of its\nstep / that of G",
    "shared": "its step's\ncosine with D",
    "rest": "the rest's\ncosine with D",
}


def draw(record: Record) -> dict[str, Figure]:
    """A row an arm in three panels; below them exchanged layers and what all images share."""
    table = record.table
    arms = table["arm"].values.tolist()
    figure = Figure(figsize=(7.6, 2.6 + 0.25 * len(arms) + 2.3))
    grid = figure.add_gridspec(2, 1, height_ratios=[0.25 * len(arms) + 1, 2.3])
    above, below = grid[0].subgridspec(1, 3, width_ratios=[1.25, 1, 0.8]), grid[1].subgridspec(1, 2)
    accuracy, cosines, sizes = (figure.add_subplot(above[k]) for k in range(3))
    rows(accuracy, table, ACCURACY, arms)
    accuracy.axvline(float(table["reference"].mean()), color="black", linestyle=":", linewidth=1)
    accuracy.set_xlim(0, 1)
    accuracy.set_xlabel("test accuracy")
    rows(cosines, table, COSINES, arms)
    cosines.axvline(0, color="black", linewidth=0.8)
    cosines.set_xlabel("cosine with the teacher's\ndisplacement D")
    rows(sizes, table, SIZES, arms)
    sizes.set_xscale("log")
    sizes.set_xlabel("relative size")
    for k, axes in enumerate((accuracy, cosines, sizes)):
        plots.rows(axes, {i: name(arm) if k == 0 else "" for i, arm in enumerate(arms)}, len(arms))
        if k:
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=7, frameon=False)
    accuracy.set_title("dotted: untrained", fontsize=8)
    exchanged, shared = (figure.add_subplot(below[k]) for k in range(2))
    exchange(exchanged, table)
    mean_direction(shared, table["mean_direction"])
    figure.suptitle(f"What is done to whose layers: {plots.setting(record)}, 95% intervals", fontsize="medium")
    return {"layers_at_work": figure}


def name(arm: str) -> str:
    """What an arm is called."""
    side, _, kind = arm.partition("/")
    return ARMS[arm] if arm in ARMS else f"{side}: {KINDS[kind]}"


def rows(axes: Axes, table: xr.Dataset, looks: dict[str, Look], arms: list[str]) -> None:
    """A mark for the mean of every variable and arm, with its interval and its seeds."""
    for k, (variable, look) in enumerate(looks.items()):
        shift = 0.22 * (k - (len(looks) - 1) / 2)
        label: Any = look.text
        for i, arm in enumerate(arms):
            values = table[variable].sel(arm=arm).values
            if np.isnan(values).all():
                continue
            sample = summarize(values)
            axes.scatter(values, [i + shift] * sample.n, s=4, alpha=0.35, color=look.colour, linewidth=0)
            style: dict[str, Any] = {"fmt": look.marker, "color": look.colour, "markersize": 4, "capsize": 2}
            axes.errorbar(sample.mean, i + shift, xerr=sample.ci95 or 0.0, label=label, **style)
            label = None


def exchange(axes: Axes, table: xr.Dataset) -> None:
    """The teacher with one layer of another network, and the student with another class head."""
    layers = table["layer"].values.tolist()
    place, jitter = len(layers) + 0.2, np.random.default_rng(0)
    plots.bars(axes, table["stitched"], OWNERS, group="layer")
    for shift, (head, look) in zip((-0.21, 0.21), HEADS.items(), strict=True):
        plots.bar(axes, place + shift, summarize(table["swapped"].sel(head=head).values), look, jitter, 0.6)
    axes.axhline(float(table["reference"].mean()), color="black", linestyle=":", linewidth=1)
    texts = [*(f"hidden {i}" for i in range(1, len(layers))), "class head", "class head"]
    axes.set_xticks([*range(len(layers)), place], texts)
    axes.set_xlim(-0.5, place + 0.6)
    axes.axvline(len(layers) - 0.4, color=NEUTRAL, linewidth=0.8)
    axes.text((len(layers) - 1) / 2, 1.03, "in the teacher", ha="center", fontsize=8)
    axes.text(place + 0.1, 1.03, "in the student", ha="center", fontsize=8)
    axes.set_ylim(0, 1.14)
    axes.set_ylabel("test accuracy")
    looks = OWNERS | HEADS
    axes.legend(
        handles=plots.bar_key(looks.values()), loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, fontsize=7
    )


def mean_direction(axes: Axes, values: xr.DataArray) -> None:
    """What the mean direction is in G, in its step, and along D."""
    looks = {quantity: Look(text, GREEN if quantity == "rest" else NEUTRAL) for quantity, text in QUANTITIES.items()}
    plots.bars(axes, values, looks)
    for k, quantity in enumerate(looks):
        axes.text(k, 1.03, f"{float(values.sel(quantity=quantity).mean()):.2f}", ha="center", fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    axes.set_ylim(0, 1.14)
    axes.set_title("what all images share, with nothing treated", fontsize=8)
