"""When a shared start is needed: agreement on held-out rows, the price of a start, facts through auxiliary logits."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import plots
from figures.plots import COLOURS, CROSS, GREEN, MARKERS, NEUTRAL, SHARED, Look
from sublim_theory.record import Record
from sublim_theory.statistics import summarize

STARTS = {
    "shared": Look("the teacher's", SHARED),
    "other": Look("another", CROSS, marker="s"),
    "zero": Look("zero", GREEN, marker="^"),
}
METHODS = {"adam": "Adam", "longer": "Adam, 8 times as long", "gauss_newton": "Gauss-Newton"}
STYLES = {"adam": "-", "longer": "--", "gauss_newton": ":"}


def draw(record: Record) -> dict[str, Figure]:
    """Four panels; the last one has two, accuracy above and error below."""
    table = record.table
    figure = Figure(figsize=(9.6, 8.4))
    places = figure.subplot_mosaic(
        [["held_out", "price"], ["facts", "network"], ["facts", "error"]], height_ratios=(1.25, 0.75, 0.5)
    )
    held_out(places["held_out"], table)
    priced(places["price"], table)
    facts(places["facts"], table)
    trained(places["network"], places["error"], table)
    seeds = table.sizes["seed"]
    figure.suptitle(
        f"Random labels: {record.config['inputs']} inputs, {seeds} seed{'s' * (seeds > 1)}, 95% intervals", fontsize=11
    )
    return {"random_labels": figure}


def held_out(axes: Axes, table: xr.Dataset) -> None:
    """Agreement from a zero start over the rows shown, with the closed lines and what is reported."""
    found = table["agreement"].sel(start="zero")
    for line, c in zip(("-", "--"), (table["classes"].values[[0, -1]]), strict=True):
        for k, alpha in enumerate(table["alpha"].values):
            colour, marker = (NEUTRAL, "x") if alpha < 1 else (COLOURS[k - 1], MARKERS[k - 1])
            here = found.sel(classes=c, alpha=alpha).dropna("shown", how="all")
            law = table["line_along"].sel(classes=c, alpha=alpha)
            kept = law["along"] <= (here["shown"].max() if alpha < 1 else 1)
            axes.plot(law["along"].values[kept], law.values[kept], color=colour, linestyle=line, linewidth=1)
            dots(axes, here, "shown", Look("", colour, marker=marker))
            if c == table["classes"].values[0]:
                axes.plot([], [], color=colour, marker=marker, label=rf"$\alpha$ = {plots.words(alpha)}")
        subspace = table["subspace_along"].sel(classes=c)
        axes.plot(subspace["along"], subspace, color="black", linestyle=":", linewidth=1)
        axes.text(0.02, 1 / c + 0.015, f"chance, {c} classes", fontsize=7, color="#555555")
        axes.axhline(1 / c, color="#555555", linewidth=0.6, linestyle=(0, (1, 3)))
    axes.plot([], [], color="black", linestyle=":", label="random subspace ($\\alpha \\to \\infty$)")
    # Behrens and Zdeborova (arXiv 2506.14457), pooled over the number of inputs; the number of classes is not known.
    reported = {float(name.split("/")[-2]): value for name, value in plots.reported("random_labels-default").items()}
    axes.scatter([*reported], [*reported.values()], marker="*", s=55, color="black", zorder=5, label="reported, pooled")
    unit(axes, "agreement on held-out rows", 1.09)
    axes.set_xlabel("rows shown / inputs, $\\rho\\alpha$")
    axes.set_title("Random labels, least squares: lines have no free parameter", fontsize=9)
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(0, 0.9), handlelength=1.8)


def priced(axes: Axes, table: xr.Dataset) -> None:
    """Agreement on fresh rows over the rank of G, by start, with the law."""
    for start, look in STARTS.items():
        law = table["price_along"].sel(start=start)
        axes.plot(law["along"], law, color=look.colour, linewidth=1)
        dots(axes, table["price"].sel(rows="fresh", start=start), "rank", look._replace(text=f"start: {look.text}"))
    for start, text in {"shared": "null rows, the teacher's start", "other": "null rows, another start"}.items():
        look = Look(text, STARTS[start].colour, marker="v")
        dots(axes, table["price"].sel(rows="null", start=start), "rank", look, markerfacecolor="white")
    chance = 1 / table["classes"].values.max()
    axes.axhline(chance, color="#555555", linewidth=0.6, linestyle=(0, (1, 3)))
    unit(axes, "agreement with the teacher", 1.02)
    axes.set_xlabel("rank(G) / inputs")
    axes.set_title("The price of a start: its null space stays", fontsize=9)
    axes.legend(fontsize=7, loc="upper left")


def facts(axes: Axes, table: xr.Dataset) -> None:
    """Facts recovered over the share of the parameters that the range of G fills."""
    filled = table["filled"].mean("seed")
    markers = dict(zip(table["auxiliary"].values.tolist(), "osD^v", strict=False))
    for colour, k in zip((SHARED, CROSS, GREEN), table["facts"].values.tolist(), strict=False):
        own = table["recovered"].sel(facts=k, start="shared")
        line = table["haar"].sel(facts=k, start="shared").mean("seed")
        x, order = filled.values.ravel(), np.argsort(filled.values.ravel(), kind="stable")
        axes.plot(x[order], line.transpose(*filled.dims).values.ravel()[order], color=colour, linewidth=1)
        for m, marker in markers.items():
            here = own.sel(auxiliary=m).assign_coords(equations=filled.sel(auxiliary=m).values)
            dots(axes, here, "equations", Look("", colour, marker=marker))
        axes.plot([], [], color=colour, label=f"{k} facts; line: a random subspace")
    for m, marker in markers.items():
        axes.plot([], [], color=NEUTRAL, marker=marker, linestyle="", label=f"m = {m}")
    axes.axhline(1 / table["classes"].values.max(), color="#555555", linewidth=0.6, linestyle=(0, (1, 3)))
    unit(axes, "facts recovered", 1.02)
    axes.set_xlabel("rank(G) / parameters")
    axes.set_title("Linearised tanh network, through m auxiliary logits", fontsize=9)
    axes.legend(fontsize=7, loc="upper left")


def trained(above: Axes, below: Axes, table: xr.Dataset) -> None:
    """The network that is not linearised, and how far its students are from done."""
    across = table["trained_equations"].values.tolist()
    for start in ("shared", "other"):
        for method in METHODS:
            for axes, variable in ((above, "network"), (below, "network_error")):
                values = table[variable].sel({"start": start, "method": method}).dropna("trained_equations", how="all")
                if not values.size:
                    continue
                places = xr.DataArray([across.index(x) for x in values["trained_equations"]], dims="trained_equations")
                look = STARTS[start]
                line: dict[str, Any] = {"linestyle": STYLES[method], "linewidth": 1}
                if method == "gauss_newton":
                    line |= {"markerfacecolor": "white"}
                dots(
                    axes,
                    values.assign_coords(trained_equations=places),
                    "trained_equations",
                    look._replace(text=""),
                    **line,
                )
    for start in ("shared", "other"):
        above.plot(
            [], [], color=STARTS[start].colour, marker=STARTS[start].marker, label=f"start: {STARTS[start].text}"
        )
    for method, text in METHODS.items():
        shape: dict[str, Any] = {"marker": "o", "markerfacecolor": "white"} if method == "gauss_newton" else {}
        above.plot([], [], color=NEUTRAL, linestyle=STYLES[method], label=text, **shape)
    for axes in (above, below):
        axes.set_xticks(range(len(across)), [plots.words(x) for x in across])
        axes.set_xlim(-0.3, len(across) - 0.7)
    above.tick_params(labelbottom=False)
    unit(above, "facts recovered", 1.04)
    above.set_title("Tanh network, trained: no theory here", fontsize=9)
    above.legend(fontsize=6.5, loc="lower right", ncols=2)
    below.set_ylim(bottom=-0.01)
    below.set_ylabel("logit error")
    below.set_xlabel("logits shown / parameters")


def dots(axes: Axes, values: xr.DataArray, over: str, look: Look, **style: Any) -> None:
    """Means over the seeds with their intervals."""
    found = [
        (float(x), summarize(values.sel({over: x}).values))
        for x in values[over].values
        if np.isfinite(values.sel({over: x}).values).all()
    ]
    look_of: dict[str, Any] = {"linestyle": "", "capsize": 2, "markersize": 4} | style
    means, errors = [each.mean for _, each in found], [each.ci95 or 0.0 for _, each in found]
    axes.errorbar(
        [x for x, _ in found],
        means,
        errors,
        color=look.colour,
        marker=look.marker,
        label=look.text,
        **look_of,
    )


def unit(axes: Axes, text: str, top: float) -> None:
    """A vertical axis from 0 to 1."""
    axes.set_ylim(0, top)
    axes.set_ylabel(text)
    plots.continuous(axes)
