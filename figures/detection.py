"""The share of right answers over the released pairs, a line a detector: with the teacher's initialisation, without."""

from typing import Any

from matplotlib.figure import Figure

from figures import plots
from figures.plots import CROSS, GREEN, NEUTRAL, RED, SHARED, Look
from sublim_theory.record import Record

RELEASED = {"logits": "released: the softmax of its logits", "samples": "released: one sample of it an image"}
KNOWN = {
    "candidate_shared": Look("likelihood under own teachers", SHARED),
    "learned_shared": Look("regression learned from other teachers", GREEN, marker="^", line="--"),
    "trained_shared": Look("accuracy of a student", RED, marker="D", line="-."),
}
UNKNOWN = {name.replace("shared", "other"): look for name, look in KNOWN.items()}
UNKNOWN |= {"candidate_head": Look("likelihood, only the class head unknown", CROSS, marker="s", line=":")}
STYLE: dict[str, Any] = {"markersize": 3.5, "capsize": 1.5, "linewidth": 1.1, "elinewidth": 0.8}
ROWS = {"initialisation known": KNOWN, "initialisation unknown": UNKNOWN}


def draw(record: Record) -> dict[str, Figure]:
    """A row for detectors that know the initialisation and one for those that do not, a column a kind of output."""
    values = record.table["right_answers"]
    figure = Figure(figsize=(6.3, 5.0))
    grid = figure.subplots(len(ROWS), values.sizes["output"], sharex=True, sharey=True, squeeze=False)
    for row, (title, looks) in zip(grid, ROWS.items(), strict=True):
        for axes, (_, each) in zip(row, plots.panels(values, "output"), strict=True):
            axes.axhline(0.5, color=NEUTRAL, linewidth=1, label="chance")
            plots.lines(axes, each, looks, over="count", log=10, seeds=False, aside=0.1, **STYLE)
            axes.set_xscale("log")  # with a tick at every power of ten, not at every number of pairs
            axes.minorticks_off()
        row[0].set_ylabel(f"{title}\nright answers")
    for above, below, name in zip(grid[0], grid[-1], values["output"].values.tolist(), strict=True):
        above.set_title(RELEASED[name])
        below.set_xlabel("released pairs n")
    grid[0, 0].set_ylim(-0.03, 1.05)
    where = f"{plots.setting(record)}, {record.config['auxiliary']} auxiliary logits, 95% intervals"
    figure.suptitle(f"Can the teacher's trait be told?\n{where}", fontsize="medium")
    plots.legend(figure, grid[-1, 0], 2)
    return {"detection": figure}
