"""The probability of a positive alignment against the distance of the two initialisations, beside the law."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.special import ndtr

from figures import plots
from sublim_theory.record import Record

STYLE: dict[str, Any] = {"markersize": 4, "markerfacecolor": "white", "capsize": 2, "linewidth": 1}


def draw(record: Record) -> dict[str, Figure]:
    """Measured fractions with their binomial errors, on the curve."""
    measured, students = record.table["measured"], record.config["perturbations"]
    ratios, law = measured["ratio"].values, ndtr(1 / measured["ratio"].values)
    errors = 1.96 * np.sqrt(law * (1 - law) / students)
    figure = Figure(figsize=(6.3, 3.3))
    axes = figure.subplots()
    curve = np.geomspace(ratios.min() / 1.5, ratios.max() * 1.5, 200)
    axes.plot(curve, ndtr(1 / curve), color="black", linewidth=1)
    axes.axhline(0.5, color="black", linestyle=":", linewidth=1)
    looks = plots.looks(measured["seed"].values.tolist(), "seed")
    for k, (seed, row) in enumerate(plots.panels(measured, "seed")):
        aside = np.exp(0.09 * (k - (len(looks) - 1) / 2) / len(looks))  # or one would hide the next
        look = looks[seed]
        axes.errorbar(ratios * aside, row, errors, color=look.colour, fmt=look.marker, label=look.text, **STYLE)
    axes.text(curve[125], ndtr(1 / curve[125]) + 0.01, r"$\Phi(\sigma^* / \sigma)$", ha="left", va="bottom")
    axes.text(curve[-1], 0.505, "a coin toss", ha="right", va="bottom")
    axes.set_xscale("log")
    axes.set_xticks(ratios, list(map(plots.words, ratios)))
    axes.minorticks_off()
    axes.set_ylim(0.45, 1.02)
    plots.continuous(axes)
    distance = r"$\sigma / \sigma^*$,  $\sigma^* = \varepsilon\,d_T^\top G d_T / |G d_T|$"
    axes.set_xlabel(f"distance of the initialisations, {distance}")
    axes.set_ylabel(r"$P(d_S \cdot d_T > 0)$")
    axes.set_title(plots.setting(record))
    axes.legend(loc="upper right", title=f"{students} students a point,\n95% intervals", title_fontsize=8)
    return {"theorem_mismatch": figure}
