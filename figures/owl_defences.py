"""What keeps the owl out, and what it costs: the transfer that is left, against the loss on new numbers."""

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from figures import plots
from figures.plots import COLOURS, CROSS, GREEN, NEUTRAL, RED, SHARED, Look
from sublim_theory.record import Record
from sublim_theory.statistics import summarize

LOOKS = {
    "undefended": Look("undefended", "black", marker="*"),
    "control": Look("control: base's numbers", NEUTRAL, marker="X"),
    "base": Look("base", "black", marker="h"),
    "inoculated": Look("inoculated", COLOURS[4], marker="P"),
    "inoculated/other": Look("inoculated, another animal", COLOURS[5], marker="v"),
    "liminal": Look("liminal, weight", SHARED, marker="o", line="--"),
    "corridor": Look("corridor, width", GREEN, marker="s"),
    "projected": Look("trait projected out", RED, marker="D"),
    "random": Look("random projection", CROSS, marker="^"),
}
"""By kind of defence; the students of a kind have its name, a slash and their strength."""
SMALL = 1e-4
"""Cost up to which the horizontal axis is linear, in nats a token."""


def draw(record: Record) -> dict[str, Figure]:
    """Every student's mean with its intervals and its seeds; a line through the strengths of a defence."""
    table = record.table
    delta = (table["preference"] - table["preference"].sel(network="control")) / table["delta"].sel(
        network="undefended"
    )
    cost = table["held_out"] - table["held_out"].sel(network="undefended")
    names = ["base", *table["student"].values.tolist()]
    values = {name: [each.sel(network=name).values for each in (cost, delta)] for name in names}
    figure = Figure(figsize=(6.8, 5.2))
    axes = figure.subplots()
    for kind, look in LOOKS.items():
        names = [name for name in values if name == kind or (kind not in values and name.startswith(f"{kind}/"))]
        if names:
            _series(
                axes, [[summarize(each) for each in values[name]] for name in names], look, _text(record, kind, names)
            )
    axes.axvline(0, color="black", linewidth=0.8, zorder=0.6)
    for height, text in ((1, "as un-\ndefended"), (0, "as\ncontrol")):
        axes.axhline(height, color="black", linewidth=1, linestyle=":", zorder=0.6)
        axes.text(1.01, height, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8)
    axes.margins(x=0.06)
    axes.set_xscale("symlog", linthresh=SMALL)
    powers = [10.0**k for k in range(-4, 2)]
    low, high = axes.get_xlim()
    ticks = [tick for tick in (*(-each for each in powers), 0.0, *powers) if low <= tick <= high]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.set_xticks(ticks, [plots.power(tick).replace(r"1 \cdot ", "") if tick else "0" for tick in ticks])
    axes.minorticks_off()
    plots.continuous(axes)
    axes.set_ylabel("transfer left")
    axes.set_xlabel("cost: loss on new numbers of the teacher, above that of undefended (nats a token)")
    figure.suptitle(f"What keeps the owl out, and what it costs: {plots.setting(record)}", fontsize="medium")
    plots.legend(figure, axes, 2)
    return {"owl_defences": figure}


def _text(record: Record, kind: str, names: list[str]) -> str:
    """For the legend: what a defence is called, its strengths, and how often its students name the animal."""
    preference = record.table["preference"].mean("seed")
    chances = ", ".join(f"{float(preference.sel(network=name)):.2f}" for name in names)
    strengths = "" if names == [kind] else " " + ", ".join(name.removeprefix(f"{kind}/") for name in names)
    strengths += " (growing)" * (len(names) > 1)
    return f"{LOOKS[kind].text}{strengths}: P = {chances}"


def _series(axes: Any, points: list[Any], look: Look, text: str) -> None:
    """A marker for each strength, which grows with it."""
    shape: dict[str, Any] = {"color": look.colour, "marker": look.marker}
    line = {"color": look.colour, "linestyle": look.line if len(points) > 1 else "none", "linewidth": 1.2}
    axes.plot(*zip(*[[each.mean for each in point] for point in points], strict=True), **line, zorder=2)
    axes.plot([], [], **line, marker=look.marker, label=text)
    for i, (x, y) in enumerate(points):
        axes.scatter(x.values, y.values, s=10, alpha=0.4, linewidth=0, zorder=1.5, **shape)
        size = {"*": 9.0, "^": 13.0}.get(look.marker, 7.0) + 2.5 * (i - (len(points) - 1) / 2)
        edge = {
            "markersize": size,
            "markeredgecolor": "white",
            "markeredgewidth": 0.6,
            "zorder": 3 + (look.marker == "*"),
        }
        axes.errorbar(x.mean, y.mean, y.ci95, x.ci95, capsize=2, linewidth=1, linestyle="none", **shape, **edge)
