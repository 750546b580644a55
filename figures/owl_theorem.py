"""Theorem 1 at the language model: a, where A comes from; b and c, what a student's first step tells of delta."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import plots
from figures.plots import CROSS, GREEN, SHARED, Look
from sublim_theory.record import Record

LAYERS = {"embedding": "embedding", "place": "places", "block_0": "block", "norm": "last norm", "head": "head"}
STARTS = {
    "pretrained": Look("pretrained", SHARED),
    "untrained": Look("untrained", GREEN, "///", "s"),
    "other": Look("pretrained, another base than the teacher's", CROSS, "", "^"),
}
KNOWN = {"transfer_ratio": r"transfer ratio, $A\,/\,|d_T|^2$", "coverage": "coverage of the first update"}
PLACE = "all"


def draw(record: Record) -> dict[str, Figure]:
    """Shares of A by layer, and delta over two predictors, a point a seed, with the number of its animal."""
    figure = Figure(figsize=(7.2, 6.4))
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(1, 1.5)).ravel()
    share = record.table["share"].sel(place=PLACE)
    starts = [name for name in STARTS if name in share["start"]]
    axes = above.subplots()
    law = {name: STARTS[name] for name in starts if name != "other"}  # it has the law of its teacher's base
    plots.bars(axes, share, law, group="layer")
    axes.set_xticks(range(share.sizes["layer"]), [LAYERS.get(each, each) for each in share["layer"].values.tolist()])
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylabel(r"share of $A = d_T^\top G\, d_T$")
    axes.set_title("a  what carries the first step")
    axes.legend(handles=plots.bar_key(law.values()), title="start")
    panels = below.subplots(1, len(KNOWN), sharey=True)
    for letter, panel, name in zip("bc", panels, KNOWN, strict=True):
        students(panel, record, name, starts)
        panel.set_xlabel(KNOWN[name])
        panel.set_title(f"{letter}  {name.replace('_', ' ')}")
    panels[0].set_xscale("log")
    panels[0].set_ylabel("$\\Delta$: preference after training,\nminus that of the control")
    handles, texts = panels[1].get_legend_handles_labels()
    below.legend(handles, texts, loc="outside lower center", ncols=3, title="start; the number is that of the animal")
    figure.suptitle(f"The first step and the whole transfer: {plots.setting(record)}", fontsize="medium")
    return {"owl_theorem": figure}


def students(axes: Axes, record: Record, name: str, starts: list[str]) -> None:
    """Delta over a predictor, a point a seed; of another start than the teacher's there is no transfer ratio."""
    for start in (each for each in starts if (name, each) != ("transfer_ratio", "other")):
        row, look = record.table.sel(start=start), STARTS[start]
        x, y, own = row[name].sel(place=PLACE).values, row["delta"].values, start != "other"
        style: dict[str, Any] = {"markersize": 8.5 if own else 4, "markeredgewidth": 0.9, "color": look.colour}
        style["markerfacecolor"] = look.colour if start == "pretrained" else "white"
        axes.plot(x, y, look.marker, linestyle="", label=look.text, **style)
        for at, height, seed in zip(x, y, row["seed"].values if own else (), strict=own):
            animal, ink = str(seed % record.config["animals"]), "white" if start == "pretrained" else look.colour
            axes.text(at, height, animal, color=ink, fontsize=6, ha="center", va="center_baseline")
    axes.axhline(0, color="black", linewidth=0.8, zorder=0.6)
    plots.continuous(axes)
