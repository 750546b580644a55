"""The alignment of student and teacher over eps, and what is left of it after its first order, in two precisions."""

from typing import Any

from matplotlib.figure import Figure

from figures import plots
from figures.plots import CROSS, MARKERS, SHARED, Look
from sublim_theory.record import Record

PRECISIONS = {"float64": Look("float64", SHARED), "float32": Look("float32", CROSS, line="--")}
THIN: dict[str, Any] = {"linewidth": 0.8, "markersize": 3, "markerfacecolor": "white"}


def draw(record: Record) -> dict[str, Figure]:
    """Two rows of panels, a column for each activation: medians over the seeds."""
    table = record.table
    rows = {
        r"$d_S \cdot d_T \,/\, (\varepsilon A)$": table["alignment"] / (table["epsilon"] * table["coefficient"]),
        r"$|d_S - \varepsilon G d_T| \,/\, |\varepsilon G d_T|$": table["remainder"],
    }
    figure = Figure(figsize=(7.6, 4.8))
    grid = figure.subplots(2, table.sizes["activation"], sharex=True, sharey="row", squeeze=False)
    for row, (text, values) in zip(grid, rows.items(), strict=True):
        row[0].set_ylabel(text)
        for axes, (_, panel) in zip(row, plots.panels(values.median("seed"), "activation"), strict=True):
            for precision, look in PRECISIONS.items():
                for i, (loss, line) in enumerate(plots.panels(panel.sel(precision=precision), "imitation")):
                    style = f"{look.line}{MARKERS[i % len(MARKERS)]}"
                    text = f"{look.text}, {plots.words(loss)}"
                    axes.plot(table["epsilon"], line, style, color=look.colour, label=text, **THIN)
            plots.continuous(axes)
    for (activation, orders), upper, lower in zip(plots.panels(table["order"], "activation"), *grid, strict=True):
        upper.set_title(activation)
        upper.axhline(1, color="black", linestyle=":", linewidth=1)
        upper.axhline(0, color="black", linewidth=0.8)
        lower.set_xlabel(r"size of the teacher's step, $\varepsilon$")
        if orders.notnull().any():
            lower.text(0.5, 0.18, f"order {float(orders.mean()):.3f}", color=SHARED, transform=lower.transAxes)
    grid[0, 0].set(xscale="log", ylim=(-0.25, 2.25))
    grid[1, 0].set(yscale="log", ylim=(1e-15, 1e7))
    plots.legend(figure, grid[1, 0], 4)
    figure.suptitle(f"{plots.setting(record)} (medians), {record.config['auxiliary']} auxiliary logits", fontsize=10)
    return {"theorem_alignment": figure}
