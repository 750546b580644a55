"""What the figures share: colours, axes, bars with their seeds, and the claim that must hold before it is drawn."""

from collections.abc import Collection
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from sublim_theory.protocols import SublimError
from sublim_theory.results import Result
from sublim_theory.statistics import Summary

# Okabe and Ito's colours, told apart by the colour-blind and, with hatching, markers or line styles, in grey.
NEUTRAL, SHARED, CROSS, GREEN, RED = "#999999", "#0072B2", "#E69F00", "#009E73", "#D55E00"

DATASETS = {"digits": "embedded 8 x 8 digits", "mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
LOSSES = {"kl": "KL", "cross_entropy": "cross-entropy", "squared_error": "squared error", "huber": "Huber"}


class ClaimError(SublimError, AssertionError):
    """A record contradicts what its figure would show, so the figure is not drawn."""


def require(holds: bool | np.bool_, claim: str, found: object) -> None:
    """Let a claim pass, or refuse to draw it.

    Args:
        holds: whether the record bears it out.
        claim: what the figure would show.
        found: what the record has instead.

    Raises:
        ClaimError: naming both.
    """
    if not holds:
        raise ClaimError(f"not drawn: the claim is that {claim}, and the record has {found}")


def setting(result: Result, without: Collection[str] = ()) -> str:
    """Data set, hidden layers and number of seeds, for titles; `without` the settings that vary."""
    config, count = result.config, len(result.provenance["seeds"])
    dataset = DATASETS.get(config["dataset"], config["dataset"])
    seeds = "1 seed" if count == 1 else f"{count} seeds"
    parts = {"dataset": dataset, "hidden": f"hidden layers {'-'.join(map(str, config['hidden']))}"}
    return ", ".join([*(text for name, text in parts.items() if name not in without), seeds])


def power(value: float, digits: int = 0) -> str:
    """A number in powers of ten, set as mathematics."""
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    factor = "" if float(mantissa) == 1 else rf"{mantissa} \cdot "
    return f"${factor}10^{{{int(exponent)}}}$"


def continuous(axes: Axes) -> None:
    """Ticks and a grid for a horizontal axis of numbers."""
    axes.tick_params(axis="x", which="both", bottom=True)
    axes.grid(axis="x")


def bar(
    axes: Axes, x: float, summary: Summary, colour: str, hatch: str, jitter: np.random.Generator, width: float = 1.0
) -> None:
    """A bar for the mean, a point for every seed, and the 95% interval of the mean."""
    axes.bar(x, summary.mean, 0.62 * width, color=colour, alpha=0.45, edgecolor=colour, hatch=hatch, linewidth=1)
    offsets = width * jitter.uniform(-0.24, 0.02, summary.n)
    points: dict[str, Any] = {"s": 5, "edgecolor": "black", "linewidth": 0.2, "zorder": 3}
    axes.scatter(x + offsets, summary.values, color=colour, **points)
    if summary.ci95 is not None:
        axes.errorbar(x + 0.1 * width, summary.mean, summary.ci95, color="black", capsize=3, linewidth=1.2, zorder=4)
