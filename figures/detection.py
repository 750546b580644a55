"""The share of right answers over the released pairs, a line a detector: with the teacher's initialisation, without."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.drawing import CROSS, GREEN, NEUTRAL, RED, SHARED, continuous, setting
from sublim_theory.results import Result

RELEASED = {"logits": "released: the softmax of its logits", "samples": "released: one sample of it an image"}
KNOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "candidate_shared": ("likelihood under own teachers", {"color": SHARED, "marker": "o"}),
    "learned_shared": ("regression learned from other teachers", {"color": GREEN, "marker": "^", "linestyle": "--"}),
    "trained_shared": ("accuracy of a student", {"color": RED, "marker": "D", "linestyle": "-."}),
}
UNKNOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "candidate_other": ("likelihood under own teachers", {"color": SHARED, "marker": "o"}),
    "learned_other": ("regression learned from other teachers", {"color": GREEN, "marker": "^", "linestyle": "--"}),
    "trained_other": ("accuracy of a student", {"color": RED, "marker": "D", "linestyle": "-."}),
    "candidate_head": ("likelihood, only the class head unknown", {"color": CROSS, "marker": "s", "linestyle": ":"}),
}
ROWS = {"initialisation known": KNOWN, "initialisation unknown": UNKNOWN}


def draw(result: Result) -> dict[str, Figure]:
    """A row for detectors that know the initialisation and one for those that do not, a column a kind of output."""
    released = result.config["released"]
    figure = Figure(figsize=(6.3, 5.0))
    panels = figure.subplots(2, len(released), sharex=True, sharey=True, squeeze=False)
    for row, (title, detectors) in zip(panels, ROWS.items(), strict=True):
        for axes, name in zip(row, released, strict=True):
            _panel(axes, result, name, detectors)
        row[0].set_ylabel(f"{title}\nright answers")
    for axes, name in zip(panels[0], released, strict=True):
        axes.set_title(RELEASED[name])
    for axes in panels[1]:
        axes.set_xlabel("released pairs n")
    handles: dict[str, Any] = {}
    for row in panels:
        drawn = zip(*reversed(row[0].get_legend_handles_labels()), strict=True)
        handles |= {label: handle for label, handle in drawn if label not in handles}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=2)
    where = f"{setting(result)}, {result.config['auxiliary']} auxiliary logits, 95% intervals"
    figure.suptitle(f"Only with its initialisation can the teacher's trait be told\n{where}", fontsize=10)
    return {"detection": figure}


def _panel(axes: Axes, result: Result, name: str, detectors: dict[str, tuple[str, dict[str, Any]]]) -> None:
    pairs = result.config["pairs"]
    present = [each for each in detectors if f"{each}/{name}/{pairs[0]}" in result.conditions]
    spread = np.geomspace(0.92, 1.08, len(present))  # or the intervals would hide each other
    axes.axhline(0.5, color=NEUTRAL, linewidth=1, label="chance")
    for shift, each in zip(spread, present, strict=True):
        text, look = detectors[each]
        found = [result.conditions[f"{each}/{name}/{n}"] for n in pairs]
        means, errors = [summary.mean for summary in found], [summary.ci95 or 0.0 for summary in found]
        x = shift * np.array(pairs, float)
        axes.errorbar(x, means, errors, label=text, markersize=3.5, capsize=1.5, linewidth=1.1, elinewidth=0.8, **look)
    axes.set_xscale("log")
    axes.minorticks_off()
    continuous(axes)
    axes.set_ylim(-0.03, 1.05)
