"""Histograms of the cosine between the updates of student and teacher, with a shared start and with another one."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.drawing import CROSS, LOSSES, SHARED, continuous, require, setting
from sublim_theory.results import Result

BINS = 80


def draw(result: Result) -> dict[str, Figure]:
    """A panel for each activation, if every shared start gives a positive cosine and other starts do not.

    Raises:
        ClaimError: if the record contradicts that.
    """
    activations = result.config["activations"]
    values = {name: result.arrays[name] for name in result.arrays if name.startswith(("shared/", "other/"))}
    for activation in activations:
        shared, other = values[f"shared/{activation}"], values[f"other/{activation}"]
        require(
            (shared > 0).all(), f"{activation}: every cosine with a shared start is positive", f"{shared.min():.3g}"
        )
        require((other < 0).any(), f"{activation}: some cosines from another start are negative", "none")

    figure = Figure(figsize=(6.3, 1.5 + 1.5 * len(activations)))
    grid = figure.subplots(len(activations), 1, sharex=True, squeeze=False)[:, 0]
    every = np.concatenate(list(values.values()))
    bins = np.linspace(every.min(), every.max(), BINS).tolist()
    for axes, activation in zip(grid, activations, strict=True):
        _panel(axes, activation, values[f"shared/{activation}"], values[f"other/{activation}"], bins)
    grid[-1].set_xlabel(r"cosine of the angle between $d_S$ and $d_T$")
    config = result.config
    figure.suptitle(
        f"{setting(result)}, {LOSSES[config['loss']]} on {config['auxiliary']} auxiliary logits", fontsize=10
    )
    return {"theorem_cosines": figure}


def _panel(axes: Axes, activation: str, shared: np.ndarray, other: np.ndarray, bins: list[float]) -> None:
    for values, start, colour, hatch in (
        (other, "another initialisation", CROSS, "////"),
        (shared, "the teacher's initialisation", SHARED, ""),
    ):
        label = f"start at {start}: {(values > 0).sum()} of {len(values)} positive, mean {values.mean():.4f}"
        axes.hist(values, bins, color=colour, alpha=0.6, edgecolor=colour, hatch=hatch, linewidth=0.6, label=label)
    axes.axvline(0, color="black", linewidth=1)
    axes.set_ylim(0, 1.4 * axes.get_ylim()[1])
    axes.legend(loc="upper right", borderaxespad=0)
    continuous(axes)
    axes.set_ylabel("seeds")
    axes.set_title(activation)
