"""The forms that figures are made of: bars, lines, a map, a row of images. Each takes values with named axes.

Wherever there are seeds every one is a point, and a mean has its 95% interval (1.96 sd / sqrt(n), as in the paper).
"""

import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sublim_theory.record import Record, label
from sublim_theory.statistics import Summary, summarize

# Okabe and Ito's colours, told apart by the colour-blind and, with hatching, markers or line styles, in grey.
NEUTRAL, SHARED, CROSS, GREEN, RED = "#999999", "#0072B2", "#E69F00", "#009E73", "#D55E00"
COLOURS = (SHARED, CROSS, GREEN, RED, "#CC79A7", "#56B4E9", "black")
MARKERS = "osD^vP*"

DATASETS = {"digits": "embedded 8 x 8 digits", "mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
WORDS = {
    **{"kl": "KL", "cross_entropy": "cross-entropy", "squared_error": "squared error", "huber": "Huber"},
    **{"auxiliary": "auxiliary logits m", "hidden": "hidden layers", "true": "yes", "false": "no"},
    "student_aux": "student (aux. only)",
    "student_all": "student (all logits)",
    "cross_aux": "cross-model (aux. only)",
    "cross_all": "cross-model (all logits)",
    "cross_samples": "another base, samples",
    "cross_control": "another base, base's numbers",
    "other": "what another base has of its own",
    "redrawn/none": "everything shared",
    "redrawn/hidden": "own hidden layers",
    "redrawn/hidden_0": "own hidden layer 1",
    "redrawn/hidden_1": "own hidden layer 2",
    "redrawn/class_head": "own class head",
    "redrawn/auxiliary_head": "own auxiliary head",
    "redrawn/all": "nothing shared",
    "frozen/class_head": "class head frozen",
    "frozen/auxiliary_head": "auxiliary head frozen",
    "network/shallower": "one layer fewer",
    "network/deeper": "one layer more",
    "network/narrower": "half as wide",
    "network/wider": "twice as wide",
    "convolutional/3x3": "convolutional",
}
"""Names of settings and networks as figures have them; others lose their underscores."""


class Look(NamedTuple):
    """How one of several series is told from the others, and what it is called.

    Attributes:
        text: for the legend or below a bar.
        colour: of bars, lines and points.
        hatch: of bars.
        marker: of lines.
        line: style of lines.
    """

    text: str
    colour: str = NEUTRAL
    hatch: str = ""
    marker: str = "o"
    line: Any = "-"


def words(value: Any) -> str:
    """A coordinate, or the name of an axis, as a figure has it."""
    text = label(value)
    return WORDS.get(text, text.replace("_", " "))


def looks(names: Sequence[Any], prefix: str = "") -> dict[Any, Look]:
    """A look for each of some coordinates that have none of their own; references are grey and dotted.

    Args:
        names: the coordinates.
        prefix: what comes before each in the legend: the name of a setting, where they are its numbers.
    """
    references = [name for name in names if name in ("teacher", "reference", "base")]
    found = {name: Look(words(name), NEUTRAL, "", "_", ":") for name in references}
    for i, name in enumerate(each for each in names if each not in references):
        marker = MARKERS[(i + i // len(MARKERS)) % len(MARKERS)]  # another pairing in every round of the colours
        text = f"{prefix} {words(name)}".strip()
        found[name] = Look(text, COLOURS[i % len(COLOURS)], ("", "///", "...", "xxx")[i % 4], marker)
    return {name: found[name] for name in names}


def bars(axes: Axes, values: xr.DataArray, looks: Mapping[Any, Look], *, group: str | None = None) -> list[Any]:
    """A bar for the mean of each series, with its seeds and its interval.

    Args:
        axes: where to draw.
        values: over the axis of the series and `seed`; with `group` over that axis too, whose labels stand below.
        looks: of the series that are drawn, in this order; the others are not.
        group: the axis of groups of bars side by side.

    Returns:
        The coordinates along the axis below, of groups or of bars.
    """
    (series,) = (axis for axis in values.dims if axis not in ("seed", group))
    groups: list[Any] = [None] if group is None else values[group].values.tolist()
    drawn = [name for name in looks if name in values[series].values.tolist()]
    width = 1.0 if group is None else 0.84 / len(drawn) / 0.7
    jitter = np.random.default_rng(0)
    for i, at in enumerate(groups):
        row = values if group is None else values.sel({group: at})
        for k, name in enumerate(drawn):
            sample = _sample(row.sel({series: name}))
            place = float(k) if group is None else i + 0.7 * width * (k - (len(drawn) - 1) / 2)
            if sample is not None:
                bar(axes, place, sample, looks[name], jitter, width)
    below = drawn if group is None else groups
    axes.set_xticks(range(len(below)), [looks[each].text if group is None else words(each) for each in below])
    axes.set_xlim(-0.5, len(below) - 0.5)
    return below


def bar(
    axes: Axes, place: float, summary: Summary, look: Look, jitter: np.random.Generator, width: float = 1.0
) -> None:
    """A bar for the mean, a point for every seed, and the 95% interval of the mean."""
    colour = look.colour
    axes.bar(
        place, summary.mean, 0.62 * width, color=colour, alpha=0.45, edgecolor=colour, hatch=look.hatch, linewidth=1
    )
    offsets = width * jitter.uniform(-0.24, 0.02, summary.n)
    points: dict[str, Any] = {"s": 5, "edgecolor": "black", "linewidth": 0.2, "zorder": 3}
    axes.scatter(place + offsets, summary.values, color=colour, **points)
    if summary.ci95 is not None:
        axes.errorbar(
            place + 0.1 * width, summary.mean, summary.ci95, color="black", capsize=3, linewidth=1.2, zorder=4
        )


def bar_key(looks: Collection[Look]) -> list[Patch]:
    """Handles for a legend of bars."""
    return [
        Patch(facecolor=(each.colour, 0.45), edgecolor=each.colour, hatch=each.hatch, label=each.text) for each in looks
    ]


def lines(
    axes: Axes,
    values: xr.DataArray,
    looks: Mapping[Any, Look],
    *,
    over: str,
    log: float | None = None,
    evenly: bool = False,
    seeds: bool = True,
    aside: float = 0.05,
    **style: Any,
) -> None:
    """A line for the mean of each series over a numeric axis, with intervals and seeds.

    Args:
        axes: where to draw.
        values: over `over`, `seed` and the axis of the series.
        looks: of the series that are drawn, in this order; the others are not.
        over: the horizontal axis.
        log: base of a logarithmic horizontal axis, with a tick at every coordinate.
        evenly: places side by side, whatever their numbers: for settings, which are chosen so.
        seeds: whether every seed is a point.
        aside: how far the series stand beside each other, in decades or places, or the intervals of one would hide
            those of the next.
        **style: for all lines.
    """
    (series,) = (axis for axis in values.dims if axis not in ("seed", over))
    drawn = [name for name in looks if name in values[series].values.tolist()]
    coordinates = values[over].values.tolist()
    for k, name in enumerate(drawn):
        look, row = looks[name], values.sel({series: name})
        found = [(place, at, _sample(row.sel({over: at}))) for place, at in enumerate(coordinates)]
        kept = [(place if evenly else at, sample) for place, at, sample in found if sample is not None]
        if not kept:
            continue
        shift = aside * (k - (len(drawn) - 1) / 2) / len(drawn)
        x = [at * 10**shift if log else at + (shift if evenly else 0) for at, _ in kept]
        means, errors = [sample.mean for _, sample in kept], [sample.ci95 or 0.0 for _, sample in kept]
        shape: dict[str, Any] = {"marker": look.marker, "linestyle": look.line, "label": look.text}
        axes.errorbar(
            x, means, errors, color=look.colour, **shape, **{"capsize": 2, "markersize": 4, "linewidth": 1.2, **style}
        )
        if seeds:
            for at, (_, sample) in zip(x, kept, strict=True):
                axes.scatter([at] * sample.n, sample.values, s=4, alpha=0.4, color=look.colour)
    if log:
        axes.set_xscale("log", base=log)
    if log or evenly:
        axes.set_xticks(range(len(coordinates)) if evenly else coordinates, list(map(words, coordinates)))
        axes.minorticks_off()
    if not evenly:
        continuous(axes)


def path(axes: Axes, values: xr.DataArray, look: Look, *, over: str, smooth: int = 1) -> None:
    """The mean over the seeds along a training run, with its interval as a band.

    Args:
        axes: where to draw.
        values: over `over` and `seed`.
        look: of the line.
        over: the axis of the run.
        smooth: points of the moving average, for the eye alone.
    """
    rows = values.transpose("seed", over).values
    kernel = np.ones(smooth)
    share = np.convolve(np.ones(rows.shape[1]), kernel, "same")
    found = [summarize(column) for column in np.stack([np.convolve(row, kernel, "same") / share for row in rows]).T]
    x, mean = values[over].values, np.array([each.mean for each in found])
    axes.plot(x, mean, linewidth=1.4, color=look.colour, linestyle=look.line, label=look.text)
    if found[0].ci95 is not None:
        half = np.array([each.ci95 for each in found])
        axes.fill_between(x, mean - half, mean + half, color=look.colour, alpha=0.15, linewidth=0)
    continuous(axes)


def heat_map(axes: Axes, values: xr.DataArray, *, text: str = "test accuracy") -> None:
    """A number in [0, 1] over two axes, the first one upwards."""
    (y, x), numbers = values.dims, values.values
    axes.grid(visible=False)
    image = axes.imshow(numbers, vmin=0, vmax=1, cmap="viridis", aspect="auto", origin="lower")
    for (i, j), value in np.ndenumerate(numbers):
        axes.text(j, i, f"{value:.2f}", ha="center", va="center", color="white" if value < 0.6 else "black")
    axes.set_xticks(range(len(values[x])), [words(value) for value in values[x].values])
    axes.set_yticks(range(len(values[y])), [words(value) for value in values[y].values])
    axes.set_xlabel(words(x))
    axes.set_ylabel(words(y))
    assert isinstance(axes.figure, Figure)
    axes.figure.colorbar(image, ax=axes, label=text)


def images(axes: Axes, pictures: np.ndarray, text: str) -> None:
    """Pictures [count, height, width] in [-1, 1] in a row, with a text before it."""
    count, height, width = pictures.shape
    sheet = np.ones((height, count * width + (count - 1) * (gap := max(1, width // 14))), np.float32)
    for i, picture in enumerate(pictures):
        sheet[:, i * (width + gap) : i * (width + gap) + width] = picture
    axes.imshow(sheet, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    axes.text(-0.02, 0.5, text, transform=axes.transAxes, ha="right", va="center")


def level(axes: Axes, values: xr.DataArray, text: str, *, line: Any = ":", colour: str = "black") -> None:
    """The mean of all values as a line across."""
    style: dict[str, Any] = {"linestyle": line, "linewidth": 1, "zorder": 0.6}  # between the grid and the bars
    axes.axhline(float(values.astype(float).mean()), color=colour, **style, label=text)


def levels(axes: Axes, accuracy: xr.DataArray, teacher: str = "teacher") -> None:
    """The teacher and the untrained network, across."""
    for name, text, line in (("teacher", teacher, "-"), ("reference", "untrained: chance", ":")):
        level(axes, accuracy.sel(network=name), text, line=line)


def accuracy(axes: Axes) -> None:
    """The vertical axis of test accuracies."""
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("test accuracy")


def continuous(axes: Axes) -> None:
    """Ticks and a grid for a horizontal axis of numbers."""
    axes.tick_params(axis="x", which="both", bottom=True)
    axes.grid(visible=True, axis="x")


def rows(axes: Axes, names: Mapping[float, str], count: float) -> None:
    """The vertical axis of a figure whose rows stand below each other: the names by their places, of so many rows."""
    axes.set_yticks(list(names), list(names.values()))
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(count - 0.4, -0.6)
    continuous(axes)
    axes.grid(visible=False, axis="y")


def setting(record: Record, without: Collection[str] = ()) -> str:
    """Data set, size of the network and number of seeds, for titles; `without` the settings that vary."""
    config, count = record.config, record.table.sizes["seed"]
    if config["dataset"] == "none":
        parts = {"layers": f"{words(config['layers'])}-layer transformer", "width": f"width {config['width']}"}
    else:
        parts = {
            "dataset": DATASETS.get(config["dataset"], config["dataset"]),
            "hidden": f"hidden layers {'-'.join(map(str, config['hidden']))}",
        }
    seeds = "1 seed" if count == 1 else f"{count} seeds"
    return ", ".join([*(text for name, text in parts.items() if name not in without), seeds])


def reported(record: str) -> dict[str, float]:
    """What others report, by condition of the record of that name: every number of `published.toml`, and no words."""
    questions = tomllib.loads(Path(__file__).with_name("published.toml").read_text("utf-8"))["question"]
    rows = [(*row, "")[1:3] for each in questions if each["record"] == record for row in each["rows"]]
    return {condition: float(found[0]) for condition, text in rows if (found := re.search(r"\d*\.\d+", text))}


def mark_reported(axes: Axes, points: Iterable[tuple[float, float, Look]]) -> None:
    """Open markers where others report something, each with the look of its series; a word in the legend if any are."""
    there = False
    for x, y, look in points:
        axes.scatter(x, y, s=26, marker=look.marker, c="white", edgecolors=look.colour, zorder=3)
        there = True
    if there:
        axes.scatter([], [], s=26, c="white", edgecolors="black", label="reported")


def power(value: float, digits: int = 0) -> str:
    """A number in powers of ten, set as mathematics."""
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    factor = "" if float(mantissa) == 1 else rf"{mantissa} \cdot "
    return f"${factor}10^{{{int(exponent)}}}$"


def legend(figure: Figure, axes: Axes, columns: int) -> None:
    """One legend below all panels, of what is in one of them: series before levels."""
    found = sorted(zip(*axes.get_legend_handles_labels(), strict=True), key=lambda each: isinstance(each[0], Line2D))
    handles, texts = zip(*found, strict=True)
    figure.legend(handles, texts, loc="outside lower center", ncols=min(columns, len(texts)))


def _sample(values: xr.DataArray) -> Summary | None:
    """Statistics of the finite values over the seeds; None where there are none."""
    numbers = np.ravel(values.values).astype(float)
    finite = numbers[np.isfinite(numbers)]
    return summarize(finite) if finite.size else None


def panels(values: xr.DataArray, axis: str | None) -> Iterator[tuple[Any, xr.DataArray]]:
    """What stands in each panel: the values at every coordinate of an axis, or all of them for none."""
    if axis is None:
        yield None, values
    else:
        for at in values[axis].values.tolist():
            yield at, values.sel({axis: at}, drop=True)


def slanted(axes: Axes) -> None:
    """Names below the bars at an angle, where they are long."""
    axes.tick_params(axis="x", labelsize=8, labelrotation=45)
    for text in axes.get_xticklabels():
        text.set(ha="right", rotation_mode="anchor")
