"""Any sweep: test accuracy over the values of one setting, a line a value of the other; two settings also as a map."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.drawing import CROSS, GREEN, LOSSES, NEUTRAL, RED, SHARED, setting
from figures.shared_parts import label as part
from sublim_theory.results import Result
from sublim_theory.statistics import Summary

LABELS = {
    "student_aux": "student (aux. only)",
    "student_all": "student (all logits)",
    "cross_aux": "cross-model (aux. only)",
    "cross_all": "cross-model (all logits)",
    "teacher": "teacher",
    "reference": "reference",
}
COLOURS = (SHARED, CROSS, GREEN, RED, "#CC79A7", "#56B4E9", "black")
MARKERS = "osD^vP*"


def draw(result: Result) -> dict[str, Figure]:
    """The lines, and for two numeric settings of at least three values each the map."""
    vary = result.config["vary"]
    figures = {"sweep": lines(result)}
    if len(vary) == 2 and all(len(values) > 2 and _numeric(values) for values in vary.values()):
        figures["sweep_map"] = heat_map(result)
    return figures


def lines(result: Result) -> Figure:
    """Means with 95% intervals over the first setting; a panel a condition where there are two settings."""
    vary = result.config["vary"]
    (name, values), *second = vary.items()
    found = dict.fromkeys(key.partition("/")[2] for key in result.conditions)
    conditions = [name for name in LABELS if name in found] + [name for name in found if name not in LABELS]
    students = [each for each in conditions if each not in ("teacher", "reference")]
    figure = Figure(figsize=(6.3, 3.4))
    if not second:
        axes = figure.subplots()
        for i, each in enumerate(conditions):
            style: dict[str, Any] = (
                {"linestyle": ":", "color": NEUTRAL}
                if each in ("teacher", "reference")
                else {"color": COLOURS[i % len(COLOURS)]}
            )
            marker = MARKERS[(i + i // len(MARKERS)) % len(MARKERS)]  # another pairing in every round of the colours
            _line(axes, result, name, values, each, LABELS.get(each) or part(each), marker, **style)
        panels = [axes]
    else:
        panels = list(np.ravel(figure.subplots(1, len(students), sharey=True, squeeze=False)))
        for axes, each in zip(panels, students, strict=True):
            for i, other in enumerate(second[0][1]):
                text, beside = f"{_title(second[0][0])} {_text(other)}".removeprefix("loss "), {second[0][0]: other}
                colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
                _line(axes, result, name, values, each, text, marker, beside=beside, color=colour)
            axes.set_title(LABELS.get(each) or part(each))
    untrained = [summary.mean for key, summary in result.conditions.items() if key.endswith("/reference")]
    for axes in panels:
        _axis(axes, name, values)
        if second and untrained:
            axes.axhline(float(np.mean(untrained)), color="black", linestyle=":", linewidth=1, label="untrained")
    panels[0].set_ylim(0, 1.02)
    panels[0].set_ylabel("test accuracy")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)))
    figure.suptitle(f"Over {_title(name)}: {setting(result, without=vary)}", fontsize="medium")
    return figure


def heat_map(result: Result) -> Figure:
    """The mean accuracy of the student on the auxiliary logits, or of the first one there is, over both settings."""
    (x, columns), (y, rows) = result.config["vary"].items()
    each = next(
        name for name in LABELS if name not in ("teacher", "reference") and f"/{name}" in str(result.conditions)
    )
    means = np.array([[_summary(result, {x: a, y: b}, each).mean for a in columns] for b in rows])
    figure = Figure(figsize=(6.3, 0.5 * len(rows) + 1.6))
    axes = figure.subplots()
    axes.grid(visible=False)
    image = axes.imshow(means, vmin=0, vmax=1, cmap="viridis", aspect="auto", origin="lower")
    for (i, j), value in np.ndenumerate(means):
        axes.text(j, i, f"{value:.2f}", ha="center", va="center", color="white" if value < 0.6 else "black")
    axes.set_xticks(range(len(columns)), [_text(value) for value in columns])
    axes.set_yticks(range(len(rows)), [_text(value) for value in rows])
    axes.set_xlabel(_title(x))
    axes.set_ylabel(_title(y))
    axes.set_title(f"{LABELS[each]}: {setting(result, without=result.config['vary'])}")
    figure.colorbar(image, ax=axes, label="test accuracy")
    return figure


def _line(
    axes: Axes,
    result: Result,
    name: str,
    values: list[Any],
    each: str,
    text: str,
    marker: str,
    *,
    beside: dict[str, Any] | None = None,
    **style: Any,
) -> None:
    found = [_summary(result, {name: value, **(beside or {})}, each) for value in values]
    places = range(len(values))  # evenly: the values of a sweep are chosen so, on whatever scale
    errors = [summary.ci95 or 0.0 for summary in found]
    axes.errorbar(places, [summary.mean for summary in found], errors, marker=marker, capsize=2, label=text, **style)
    for place, summary in zip(places, found, strict=True):
        axes.scatter([place] * summary.n, summary.values, s=4, alpha=0.4, **{"color": style["color"]})


def _summary(result: Result, point: dict[str, Any], each: str) -> Summary:
    name = next(name for name, values in result.config["points"].items() if values == point)
    return result.conditions[f"{name}/{each}"]


def _axis(axes: Axes, name: str, values: list[Any]) -> None:
    axes.set_xlabel(_title(name))
    axes.set_xticks(range(len(values)), [_text(value) for value in values])


def _numeric(values: list[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _title(name: str) -> str:
    return {"auxiliary": "auxiliary logits m", "hidden": "hidden layers"}.get(name, name.replace("_", " "))


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "-".join(map(_text, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, int | float) else LOSSES.get(value, str(value))
