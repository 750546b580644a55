"""Test accuracy by what the student is shown, and how many classes its teacher sees in it."""

from matplotlib.figure import Figure

from figures import plots
from figures.plots import CROSS, GREEN, SHARED, Look
from sublim_theory.record import Record

MIXED = Look("images plus noise", CROSS)
ALONE = {"noise": Look("noise alone", SHARED, "///"), "balanced": Look("noise,\nbalanced", GREEN, "...")}


def draw(record: Record) -> dict[str, Figure]:
    """Above accuracies, below effective numbers of classes, a bar for each kind of inputs."""
    table = record.table
    names = table["inputs"].values.tolist()
    looks = {name: ALONE.get(name) or MIXED._replace(text=f"image\n+ {name[6:]} noise") for name in names}
    looks["image+0"] = MIXED._replace(text="image")
    figure = Figure(figsize=(7.2, 5.0))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1.6, 1))
    plots.bars(above, table["accuracy"].sel(network=names), looks)
    plots.levels(above, table["accuracy"])
    plots.accuracy(above)
    plots.bars(below, table["classes_seen"], looks)
    below.set_ylabel("effective number\nof teacher's classes")
    plots.legend(figure, above, 2)
    figure.suptitle(f"What the student is shown: {plots.setting(record)}, 95% intervals", fontsize="medium")
    return {"student_inputs": figure}
