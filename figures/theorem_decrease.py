"""The change of the teacher's loss over the student's learning rate, with the guaranteed rate marked."""

import numpy as np
from matplotlib.figure import Figure

from figures.drawing import CROSS, NEUTRAL, SHARED, continuous, power, require, setting
from sublim_theory.results import Result

MODELS = {
    "network": ("network, auxiliary logits", "estimated", SHARED),
    "linear": ("linear model, all logits", "guaranteed", CROSS),
}
"""Title; what the marked rate is: from the curvature sampled on the step, or from a proven bound on it; colour."""


def draw(result: Result) -> dict[str, Figure]:
    """Two rows of panels, a column for each model, if L_T falls at every rate up to the guaranteed one.

    Raises:
        ClaimError: if the record contradicts that.
    """
    arrays = result.arrays
    ratios = arrays["ratios"]
    for name in MODELS:
        within = arrays[f"change/{name}"][:, ratios <= 1]
        require((within < 0).all(), f"{name}: L_T falls at every guaranteed alpha", f"a change of {within.max():.3g}")

    figure = Figure(figsize=(7.6, 4.6))
    grid = figure.subplots(2, len(MODELS), sharex=True, sharey="row")
    for (name, (title, kind, colour)), (upper, lower) in zip(MODELS.items(), grid.T, strict=True):
        change, guaranteed = arrays[f"change/{name}"], arrays[f"guaranteed/{name}"]
        largest = np.array(result.conditions[f"slack/{name}"].values)
        expected = ratios * (guaranteed * arrays[f"alignment/{name}"])[:, None]
        for row, loss, first_order in zip(change, arrays[f"loss/{name}"], expected, strict=True):
            upper.plot(ratios, row / loss, color=colour, linewidth=0.8)
            lower.plot(ratios, -row / first_order, color=colour, linewidth=0.8)
        for axes in (upper, lower):
            axes.axvspan(ratios[0], 1, color=NEUTRAL, alpha=0.2, linewidth=0)
            axes.axhline(0, color="black", linewidth=0.8)
            axes.plot(largest, np.zeros_like(largest), "|", color="black", markersize=9)
            axes.set_xscale("log")
            axes.set_xlim(ratios[0], ratios[-1])
            continuous(axes)
        rate = result.config["epsilon"] * np.median(guaranteed)
        lower.text(1.5e-3, 0.03, f"{kind}:\n" + rf"$\alpha\varepsilon < {rate:.3g}$ (median)", va="bottom", fontsize=8)
        lower.text(largest.max() * 1.15, 0.03, "largest\nseen to fall", va="bottom", fontsize=8)
        lower.set_xlabel(rf"student's rate $\alpha$ / {kind} rate")
        upper.set_title(title)
    deepest = min((arrays[f"change/{name}"] / arrays[f"loss/{name}"][:, None]).min() for name in MODELS)
    grid[0, 0].set_ylim(1.15 * deepest, -1.15 * deepest)
    grid[1, 0].set_ylim(-0.5, 1.1)
    grid[0, 0].set_ylabel(r"change of $L_T$ / $L_T$")
    grid[1, 0].set_ylabel("decrease / its first order")
    figure.suptitle(rf"{setting(result)}, $\varepsilon$ = {power(result.config['epsilon'])}", fontsize=10)
    return {"theorem_decrease": figure}
