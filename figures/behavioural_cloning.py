"""Behavioural cloning: accuracy after distillation, and what is left to imitate, over the epochs of cloning before."""

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from figures import plots
from figures.plots import CROSS, NEUTRAL, SHARED, Look
from sublim_theory.record import Record

LOOKS = {"accuracy": Look("cloned from another start", CROSS), "mismatch": Look("", NEUTRAL)}


def draw(record: Record) -> dict[str, Figure]:
    """Two panels that share the axis."""
    table, shared = record.table, record.conditions["accuracy/shared"]
    figure = Figure(figsize=(6.3, 4.2))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for axes, name in zip((above, below), LOOKS, strict=True):
        plots.lines(axes, table[name].expand_dims(quantity=[name]), LOOKS, over="cloned", evenly=True)
    plots.level(above, table["shared_accuracy"], "from the teacher's own start", line="-", colour=SHARED)
    if shared.ci95 is not None:
        above.axhspan(shared.mean - shared.ci95, shared.mean + shared.ci95, color=SHARED, alpha=0.15, linewidth=0)
    plots.level(above, table["teacher_accuracy"], "teacher")
    above.set_ylim(0, 1.02)
    above.set_ylabel("test accuracy\nafter distillation")
    above.set_title(f"Behavioural cloning: {plots.setting(record)}")
    below.set_yscale("log")
    below.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    below.yaxis.set_major_formatter("{x:g}")
    below.yaxis.set_minor_formatter(NullFormatter())
    below.set_ylabel("KL to the reference\n(nats, fresh noise)")
    below.set_xlabel(f"epochs of cloning on {record.config['cloning_inputs']}, before distillation")
    plots.legend(figure, above, 3)
    return {"behavioural_cloning": figure}
