"""Histograms of the cosine between the updates of student and teacher, with a shared start and with another one."""

import numpy as np
from matplotlib.figure import Figure

from figures import plots
from figures.plots import CROSS, SHARED, Look
from sublim_theory.record import Record

STARTS = {
    "other": Look("start at another initialisation", CROSS, "////"),
    "shared": Look("start at the teacher's initialisation", SHARED),
}
BINS = 80


def draw(record: Record) -> dict[str, Figure]:
    """A panel for each activation."""
    values, config = record.table["cosine"], record.config
    count, seeds = values.sizes["activation"], values.sizes["seed"]
    bins = np.linspace(float(values.min()), float(values.max()), BINS).tolist()
    figure = Figure(figsize=(6.3, 1.5 + 1.5 * count))
    grid = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    for axes, (activation, panel) in zip(grid, plots.panels(values, "activation"), strict=True):
        for start, look in STARTS.items():
            sample = panel.sel(start=start)
            text = f"{look.text}: {int((sample > 0).sum())} of {seeds} positive, mean {float(sample.mean()):.4f}"
            face, edge = (look.colour, 0.6), look.colour
            axes.hist(sample.values, bins, facecolor=face, edgecolor=edge, hatch=look.hatch, linewidth=0.6, label=text)
        axes.axvline(0, color="black", linewidth=1)
        axes.set_ylim(0, 1.4 * axes.get_ylim()[1])
        axes.legend(loc="upper right", borderaxespad=0)
        plots.continuous(axes)
        axes.set_ylabel("seeds")
        axes.set_title(activation)
    grid[-1].set_xlabel(r"cosine of the angle between $d_S$ and $d_T$")
    what = f"{plots.words(config['loss'])} on {config['auxiliary']} auxiliary logits"
    figure.suptitle(f"{plots.setting(record)}, {what}", fontsize=10)
    return {"theorem_cosines": figure}
