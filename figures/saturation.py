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
    reported = plots.reported(f"{record.experiment}-{record.preset}")
    named = [(*condition.partition("/")[::2], value) for condition, value in reported.items()]
    students = [(epoch * int(at), value, STUDENTS[name]) for name, at, value in named if name in STUDENTS]
    plots.mark_reported(axes, students)
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
