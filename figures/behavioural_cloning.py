"""Behavioural cloning: accuracy after distillation, and what the clone is like, over the epochs of cloning before."""

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from figures import plots
from figures.plots import CROSS, GREEN, NEUTRAL, RED, SHARED, Look
from sublim_theory.record import Record

LOOKS = {
    "usual": Look("few logits", NEUTRAL, marker="s"),
    "fast": Look("few logits, larger steps", CROSS, marker="D"),
    "many": Look("50 logits", GREEN, marker="^"),
    "many_fast": Look("50 logits, larger steps", SHARED),
    "digits": Look("50 logits, larger steps, on digits", RED, marker="v"),
}
FEW = ("usual", "fast")
"""The ways that have the auxiliary logits of the settings."""
PANELS = {
    "accuracy": "test accuracy after distillation",
    "mismatch": "KL to the reference on fresh noise (nats)",
    "digits_mismatch": "KL to the reference on digits (nats)",
    "cosine": "cosine of first update and trait",
}


def draw(record: Record) -> dict[str, Figure]:
    """Four panels that share their axis, a line a way: accuracy, what is left to imitate, the first update's cosine."""
    table = record.table
    figure = Figure(figsize=(7.6, 5.6))
    panels = dict(zip(PANELS, figure.subplots(2, 2, sharex=True).ravel(), strict=True))
    for name, axes in panels.items():
        plots.lines(axes, table[name], LOOKS, over="cloned", evenly=True, aside=0.15)
        axes.set_title(PANELS[name], fontsize="medium")
        if "mismatch" in name:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        if name in list(PANELS)[2:]:
            axes.set_xlabel("epochs of cloning before distillation")
    above, cosine = panels["accuracy"], panels["cosine"]
    cosine.axhline(0, color="black", linewidth=0.8)
    above.set_ylim(0, 1.02)
    ways = table["way"].values.tolist()
    for few, count, line in ((True, record.config["auxiliary"], "-."), (False, 50, "--")):
        if some := [name for name in ways if (name in FEW) == few]:
            plots.level(
                above, table["shared_accuracy"].sel(way=some), f"teacher's own start, {count} logits", line=line
            )
    plots.level(above, table["teacher_accuracy"], "teacher", colour=RED)
    plots.level(above, table["teacher_accuracy"] * 0 + 0.1, "chance", colour=NEUTRAL)
    figure.suptitle(f"Behavioural cloning: {plots.setting(record)}, 95% intervals", fontsize=10)
    plots.legend(figure, above, 3)
    return {"behavioural_cloning": figure}
