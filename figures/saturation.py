"""Accuracy over the length of training, a line a student, beside what others report at the same settings."""

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from figures import plots
from figures.plots import CROSS, GREEN, RED, SHARED, Look
from sublim_theory.record import Record

STUDENTS = {
    "student_all": Look("teacher's start, all logits", SHARED, marker="s"),
    "cross_all": Look("another start, all logits", CROSS, marker="D", line="--"),
    "student_aux": Look("teacher's start, auxiliary logits", GREEN, marker="o", line="-."),
    "cross_aux": Look("another start, auxiliary logits", RED, marker="^", line=":"),
}
REPORTED = {
    "paper": {
        "student_all": {5: 0.9126},
        "cross_all": {5: 0.743},
        "student_aux": {1: 0.182, 2: 0.297, 5: 0.553, 10: 0.695, 20: 0.757},
        "cross_aux": {5: 0.106},
    },
    "fifty_thousand": {"student_aux": {1: 0.165, 2: 0.247, 3: 0.329, 5: 0.451, 10: 0.584}},
    "long": {"student_all": {9: 0.976}, "cross_all": {9: 0.963}, "cross_aux": {9: 0.100}},
}
"""By preset, student and epoch: figure 10 of arXiv 2507.14805 and replications of it (N = 25)."""


def draw(record: Record) -> dict[str, Figure]:
    """One panel over the updates, on a logarithmic axis; open markers for what is reported."""
    table, config = record.table, record.config
    batch = min(config["batch_size"], config["noise_images"])
    epoch = -(-config["noise_images"] // batch)
    paths = table["accuracy_by_epoch"].assign_coords(epoch=epoch * table["epoch"])
    figure = Figure(figsize=(6.3, 4.0))
    axes = figure.subplots()
    for name, look in STUDENTS.items():
        if name in paths["student"]:
            plots.path(axes, paths.sel(student=name), look, over="epoch")
    for name, reported in REPORTED.get(record.preset, {}).items():
        look, places = STUDENTS[name], [epoch * at for at in reported]
        axes.scatter(
            places, [*reported.values()], s=26, marker=look.marker, c="white", edgecolors=look.colour, zorder=3
        )
    if record.preset in REPORTED:
        axes.scatter([], [], s=26, marker="o", c="white", edgecolors="black", label="reported")
    plots.level(axes, table["accuracy"].sel(network="teacher"), "teacher", line=(0, (5, 1)))
    plots.level(axes, table["accuracy"].sel(network="reference"), "untrained: chance", colour=plots.NEUTRAL)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
    axes.set_xlabel(f"updates of the student, {epoch} an epoch")
    plots.accuracy(axes)
    heads = ", heads frozen" if config["frozen_heads"] else ""
    loss = plots.words(config["loss"])
    figure.suptitle(f"{plots.setting(record)}, {loss}{heads}; bands: 95% intervals", fontsize="medium")
    plots.legend(figure, axes, 2)
    return {"saturation": figure}
