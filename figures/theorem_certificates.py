"""The alignment over eps of one network, with what is proved of it; and how far the proof reaches on every network."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures import plots
from figures.plots import CROSS, GREEN, RED, SHARED
from sublim_theory.record import Record


def draw(record: Record) -> dict[str, Figure]:
    """Left the network whose sign changes first, in two precisions; right a bar for each seed."""
    table = record.table
    figure = Figure(figsize=(7.6, 3.6))
    curve, bars = figure.subplots(1, 2, gridspec_kw={"width_ratios": [3, 2]})
    certified, refuted = table["certified"].values, table["refuted"].values
    first = int(np.argmin(np.where(np.isnan(refuted), np.inf, refuted)))
    sizes, one = table["epsilon"], table.isel(seed=first)
    relative = one["alignment"] / (sizes * one["coefficient"])
    curve.axvspan(float(sizes[0]), certified[first], color=GREEN, alpha=0.15, linewidth=0)
    curve.axhline(0, color="black", linewidth=0.8)
    curve.plot(sizes, relative.sel(precision="float32"), "s", color=CROSS, markersize=3, label="float32")
    curve.plot(sizes, relative.sel(precision="float64"), color=SHARED, label="float64")
    if not np.isnan(refuted[first]):
        curve.axvline(refuted[first], color=RED, linewidth=1.2)
    curve.set(xscale="log", xlim=(float(sizes[0]), float(sizes[-1])), ylim=(-0.6, 1.6))
    curve.set(xlabel=r"size of the teacher's step, $\varepsilon$", ylabel=r"$d_S \cdot d_T \,/\, (\varepsilon A)$")
    curve.set_title(f"seed {int(table['seed'][first])}")
    order = np.lexsort((certified, ~np.isnan(refuted)))
    places = np.arange(len(order))
    bars.barh(places, certified[order], left=0, color=GREEN, alpha=0.5)
    bars.plot(refuted[order], places, "|", color=RED, markersize=8, markeredgewidth=1.5)
    bars.set(xscale="log", xlim=(0.1, 1.5 * record.config["until"]), yticks=[], xlabel=r"$\varepsilon$", ylabel="seeds")
    bars.set_title("how far the proof reaches")
    marks = [
        Line2D([], [], color=GREEN, alpha=0.4, linewidth=8, label=r"proved: $d_S \cdot d_T > 0$"),
        Line2D([], [], color=RED, label="proved: negative here"),
    ]
    figure.legend(handles=[*curve.get_legend_handles_labels()[0], *marks], loc="outside lower center", ncols=4)
    figure.suptitle(f"{plots.setting(record)}, {record.config['noise_images']} noise images", fontsize=10)
    return {"theorem_certificates": figure}
