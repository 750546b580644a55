"""What a pretrained start is worth: accuracies by start, and what the teacher and the theorem say of each."""

from matplotlib.figure import Figure

from figures import plots
from figures.plots import CROSS, GREEN, NEUTRAL, RED, SHARED, Look
from sublim_theory.record import Record

NETWORKS = {
    "reference": Look("the start itself", NEUTRAL),
    "teacher": Look("teacher", RED, "..."),
    "student_aux": Look("student (aux. only)", SHARED, "///"),
    "cross_aux": Look("student of another such start", CROSS, "xxx"),
}
STARTS = {
    "random": "random",
    "supervised": "supervised",
    "supervised_body": "supervised,\nbody only",
    "masked": "masked\npixels",
    "contrastive": "contrastive",
}
READINGS = {
    "probe": "probe of the start",
    "displacement_size": r"teacher's $|D|\,/\,|\theta_0|$",
    "transfer_ratio": "transfer ratio",
    "coverage": "coverage",
}


def draw(record: Record) -> dict[str, Figure]:
    """Above, accuracies of start, teacher and students; below, a panel a reading, by start."""
    table = record.table
    figure = Figure(figsize=(7.6, 5.6))
    panels = figure.subplot_mosaic([["accuracy"] * len(READINGS), list(READINGS)], height_ratios=(1.35, 1))
    above = panels["accuracy"]
    plots.bars(above, table["accuracy"], NETWORKS, group="start")
    above.set_xticks(range(len(STARTS)), list(STARTS.values()))
    chance = table["accuracy"].sel(network="reference", start="random")
    plots.level(above, chance, "untrained: chance")
    plots.accuracy(above)
    above.set_title("by how the shared start was pretrained")
    looks = {name: Look(text.replace("\n", " "), GREEN) for name, text in STARTS.items()}
    for name, text in READINGS.items():
        axes = panels[name]
        plots.bars(axes, table[name], looks)
        plots.slanted(axes)
        axes.set_title(text)
    figure.suptitle(f"{plots.setting(record)}, 95% intervals", fontsize="medium")
    figure.legend(handles=plots.bar_key(NETWORKS.values()), loc="outside lower center", ncols=4)
    return {"capable_start": figure}
