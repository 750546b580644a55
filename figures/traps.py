"""The traps: a row each, the right way and the wrong one on the same seeds, by what the mistake does."""

from collections.abc import Mapping
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from figures import plots
from figures.plots import NEUTRAL, RED, SHARED, Look
from sublim_theory.record import Record
from sublim_theory.statistics import Paired, Summary, paired

STUDENT = {
    "copied/student": ("student_aux", "copied from the trained teacher"),
    "sliced/student": ("student_aux", "softmax over all logits, then sliced"),
    "selected/student": ("student_aux", "best epoch on the test set"),
    "fresh": ("student_aux", "freshly drawn, though called shared"),
    "other_noise": ("student_aux", "labels of other noise"),
    "torch/student": ("student_aux", "framework-default initialisation"),
    "truncated/student": ("student_aux", "truncated initialisation"),
    "adam_l2/student": ("adamw/student", "weight decay coupled, not decoupled"),
    "interpolated/line": ("interpolated/kept", "start on the straight line between two"),
    "one_logit/softmax": ("one_logit/squared_error", "m = 1 with a softmax, not squared error"),
}
"""Wrong way -> the right way, and what the student's mistake is called."""
CONTROL = {
    "copied/control": ("cross_aux", "control: from another trained teacher"),
    "sliced/control": ("cross_aux", "control: softmax over all, then sliced"),
    "selected/control": ("cross_aux", "control: best epoch on the test set"),
    "permuted": ("cross_aux", "control: by a random permutation"),
}
"""The same for the control, a student of another start."""
ROWS = STUDENT | CONTROL
GROUPS = ("Looks like transfer", "Hides transfer", "Raises the control", "Lowers the control", "No difference seen")
LOOKS = {-0.13: Look("right way", SHARED), 0.13: Look("wrong way", RED, marker="D")}


def draw(record: Record) -> dict[str, Figure]:
    """One panel; the record says what a mistake does."""
    found = record.conditions
    groups = groups_of(found)
    figure = Figure(figsize=(6.8, 0.6 + 0.27 * sum(len(gaps) + 1 for gaps in groups.values())))
    axes = figure.subplots()
    beside, rows, y = axes.get_yaxis_transform(), dict[int, str](), 0
    for heading, gaps in groups.items():
        axes.text(-0.02, y, heading, weight="bold", ha="right", va="center", transform=beside)
        for wrong, gap in gaps.items():
            y += 1
            rows[y] = wrong
            text = f"{gap.mean:+.3f}" + (f" ± {gap.ci95:.3f}" if gap.n > 1 else "")
            axes.text(1.02, y, text, va="center", fontsize=8, transform=beside)
        y += 1
    axes.text(1.02, 0, "wrong - right", va="center", fontsize=8, transform=beside)
    ways = [[found[name] for name in each] for each in ([ROWS[wrong][0] for wrong in rows.values()], rows.values())]
    places = [[row + shift for row in rows] for shift in LOOKS]
    axes.plot([[each.mean for each in way] for way in ways], places, color=NEUTRAL, zorder=1)
    for look, way, at in zip(LOOKS.values(), ways, places, strict=True):
        for place, each in zip(at, way, strict=True):
            axes.scatter(each.values, [place] * each.n, s=5, alpha=0.4, color=look.colour, linewidth=0, zorder=2)
        means, errors = [each.mean for each in way], [each.ci95 or 0.0 for each in way]
        shape: dict[str, Any] = {"fmt": look.marker, "color": look.colour, "label": look.text}
        axes.errorbar(means, at, xerr=errors, markersize=5, capsize=2, zorder=3, **shape)
    for name, text, line in (("teacher", "its teacher", "-"), ("reference", "untrained: chance", ":")):
        axes.axvline(found[name].mean, color="black", linestyle=line, linewidth=1, label=text, zorder=0)
    plots.rows(axes, {row: ROWS[wrong][1] for row, wrong in rows.items()}, y)
    axes.set_xlim(0, 1)
    axes.set_xlabel("test accuracy")
    figure.suptitle(f"What mistakes do: {plots.setting(record)}", fontsize="medium")
    plots.legend(figure, axes, 4)
    return {"traps": figure}


def groups_of(found: Mapping[str, Summary]) -> dict[str, dict[str, Paired]]:
    """Wrong ways by what they do, each with wrong minus right, seed by seed; the largest difference first.

    There is a difference where the 95% interval of its mean, by the paired t-test, leaves out 0.
    """
    values = {name: xr.DataArray(list(each.values), dims="seed") for name, each in found.items()}
    gaps = {
        wrong: Paired(*(each.item() for each in paired(values[wrong], values[right])))
        for wrong, (right, _) in ROWS.items()
    }
    groups: dict[str, dict[str, Paired]] = {heading: {} for heading in GROUPS}
    for wrong, gap in sorted(gaps.items(), key=lambda item: abs(item[1].mean), reverse=True):
        seen = abs(gap.mean) > gap.ci95  # never of one seed, whose interval is NaN
        heading = GROUPS[2 * (wrong in CONTROL) + (gap.mean < 0)] if seen else GROUPS[-1]
        groups[heading][wrong] = gap
    return {heading: rows for heading, rows in groups.items() if rows}
