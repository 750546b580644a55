"""The probability of a positive alignment against the distance of the two initialisations, beside the law."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.special import ndtr

from figures.drawing import CROSS, GREEN, SHARED, continuous, require, setting
from sublim_theory.results import Result

STANDARD_ERRORS = 3.0
"""How far from the law a measured fraction may be."""
LOOKS = ((SHARED, "o"), (CROSS, "s"), (GREEN, "D"), ("black", "^"), ("#CC79A7", "v"))


def draw(result: Result) -> dict[str, Figure]:
    """Measured fractions with their errors on the curve, if they lie on it.

    Raises:
        ClaimError: if the record contradicts that.
    """
    arrays = result.arrays
    ratios, measured = np.asarray(result.config["ratios"]), arrays["measured"]
    law = ndtr(1 / ratios)
    errors = np.sqrt(law * (1 - law) / result.config["perturbations"])
    off = np.abs(measured - law) / errors
    require(
        (off <= STANDARD_ERRORS).all(),
        f"measured fractions lie within {STANDARD_ERRORS:g} standard errors of Phi(sigma*/sigma)",
        f"one that is {off.max():.2f} away",
    )

    figure = Figure(figsize=(6.3, 3.3))
    axes = figure.subplots()
    x = np.geomspace(ratios.min() / 1.5, ratios.max() * 1.5, 200)
    axes.plot(x, ndtr(1 / x), color="black", linewidth=1)
    axes.axhline(0.5, color="black", linestyle=":", linewidth=1)
    spread = np.linspace(-0.03, 0.03, len(measured)) if len(measured) > 1 else np.zeros(1)
    for k, (row, seed) in enumerate(zip(measured, result.provenance["seeds"], strict=True)):
        colour, marker = LOOKS[k % len(LOOKS)]
        look: dict[str, Any] = {
            "fmt": marker,
            "markersize": 4,
            "markerfacecolor": "white",
            "capsize": 2,
            "linewidth": 1,
        }
        axes.errorbar(ratios * np.exp(spread[k]), row, 1.96 * errors, color=colour, label=f"seed {seed}", **look)
    axes.text(x[125], ndtr(1 / x[125]) + 0.01, r"$\Phi(\sigma^* / \sigma)$", ha="left", va="bottom")
    axes.text(x[-1], 0.505, "a coin toss", ha="right", va="bottom")
    axes.set_xscale("log")
    axes.set_xticks(ratios, [f"{ratio:g}" for ratio in ratios])
    axes.minorticks_off()
    axes.set_ylim(0.45, 1.02)
    continuous(axes)
    axes.set_xlabel(
        r"distance of the initialisations, $\sigma / \sigma^*$,  $\sigma^* = \varepsilon\,d_T^\top G d_T / |G d_T|$"
    )
    axes.set_ylabel(r"$P(d_S \cdot d_T > 0)$")
    perturbations = result.config["perturbations"]
    axes.set_title(setting(result))
    axes.legend(loc="upper right", title=f"{perturbations} students a point,\n95% intervals", title_fontsize=8)
    return {"theorem_mismatch": figure}
