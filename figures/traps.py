"""The traps: a row each, the right way and the wrong one on the same seeds, by what the mistake does."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.drawing import RED, SHARED, continuous, require, setting
from sublim_theory.results import Result
from sublim_theory.statistics import Summary, summarize

STUDENT: dict[str, tuple[str, str]] = {
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
CONTROL: dict[str, tuple[str, str]] = {
    "copied/control": ("cross_aux", "control: from another trained teacher"),
    "sliced/control": ("cross_aux", "control: softmax over all, then sliced"),
    "selected/control": ("cross_aux", "control: best epoch on the test set"),
    "permuted": ("cross_aux", "control: by a random permutation"),
}
"""The same for the control, a student of another start."""
ROWS = STUDENT | CONTROL
GROUPS = ("Looks like transfer", "Hides transfer", "Raises the control", "Lowers the control", "No difference seen")
LOOKS = {"right way": (SHARED, "o", -0.13), "wrong way": (RED, "D", 0.13)}


def draw(result: Result) -> dict[str, Figure]:
    """One panel; the record says what a mistake does.

    Raises:
        ClaimError: if nothing transfers, so that there is nothing to hide, or if a softmax over one logit teaches.
    """
    found = result.conditions
    student, control = found["student_aux"].mean, found["cross_aux"].mean
    require(student > control, "the right way transfers", f"{student:.3f}, and {control:.3f} from another start")
    moved = np.abs(np.subtract(found["one_logit/softmax"].values, found["reference"].values)).max()
    require(moved == 0, "a softmax over one logit teaches exactly nothing", f"a change of {moved:.3g} in accuracy")

    groups = groups_of(found)
    lines = sum(len(rows) + 1 for rows in groups.values())
    figure = Figure(figsize=(6.8, 0.6 + 0.27 * lines))
    axes = figure.subplots()
    places: dict[float, str] = {}
    y = 0.0
    for heading, rows in groups.items():
        axes.text(-0.02, y, heading, weight="bold", ha="right", va="center", transform=axes.get_yaxis_transform())
        for wrong, gap in rows.items():
            y += 1
            right, places[y] = ROWS[wrong]
            _row(axes, y, {"right way": found[right], "wrong way": found[wrong]}, gap)
        y += 1
    for name, style in {"teacher": "-", "reference": ":"}.items():
        label = "its teacher" if name == "teacher" else "untrained: chance"
        axes.axvline(found[name].mean, color="black", linestyle=style, linewidth=1, label=label, zorder=0)
    axes.set_yticks(list(places), list(places.values()))
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(y - 0.4, -0.6)
    axes.set_xlim(0, 1)
    continuous(axes)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("test accuracy")
    axes.text(1.02, 0, "wrong - right", va="center", fontsize=8, transform=axes.get_yaxis_transform())
    figure.suptitle(f"What mistakes do: {setting(result)}", fontsize="medium")
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=4)
    return {"traps": figure}


def groups_of(found: Mapping[str, Summary]) -> dict[str, dict[str, Summary]]:
    """Wrong ways by what they do, each with wrong minus right, seed by seed; the largest difference first.

    There is a difference where the 95% interval of its mean leaves out 0.
    """
    gaps = {
        wrong: summarize(np.subtract(found[wrong].values, found[right].values)) for wrong, (right, _) in ROWS.items()
    }
    groups: dict[str, dict[str, Summary]] = {heading: {} for heading in GROUPS}
    for wrong, gap in sorted(gaps.items(), key=lambda item: abs(item[1].mean), reverse=True):
        seen = abs(gap.mean) > (gap.ci95 or 0.0)
        heading = GROUPS[2 * (wrong in CONTROL) + (gap.mean < 0)] if seen else GROUPS[-1]
        groups[heading][wrong] = gap
    return {heading: rows for heading, rows in groups.items() if rows}


def _row(axes: Axes, y: float, ways: Mapping[str, Summary], gap: Summary) -> None:
    axes.plot([each.mean for each in ways.values()], [y + LOOKS[way][2] for way in ways], color="#999999", zorder=1)
    for way, summary in ways.items():
        colour, marker, shift = LOOKS[way]
        axes.scatter(summary.values, [y + shift] * summary.n, s=5, alpha=0.4, color=colour, linewidth=0, zorder=2)
        axes.errorbar(
            summary.mean,
            y + shift,
            xerr=summary.ci95 or 0.0,
            color=colour,
            marker=marker,
            markersize=5,
            capsize=2,
            linestyle="",
            label=way,
            zorder=3,
        )
    text = f"{gap.mean:+.3f}" + ("" if gap.ci95 is None else f" ± {gap.ci95:.3f}")
    axes.text(1.02, y, text, va="center", fontsize=8, transform=axes.get_yaxis_transform())
