"""The path of the alignment: cosine with the trait and accuracy over the updates, layers, and final losses."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import plots
from figures.plots import CROSS, GREEN, NEUTRAL, RED, SHARED, Look
from sublim_theory.record import Record

STUDENTS = {
    "plain": Look("plain", SHARED),
    "projected": Look("trait projected out", CROSS, "///", line="--"),
    "two_sided": Look("both signs out", RED, "\\\\\\", line=(0, (1, 1))),
    "random": Look("random projection", NEUTRAL, "...", line=":"),
    "liminal": Look("liminal", GREEN, "xxx", line="-."),
}
DIRECTIONS = {
    "trait": Look("current trait gradient", SHARED),
    "first_trait": Look("first trait gradient", NEUTRAL, "///"),
    "displacement": Look("teacher's displacement", GREEN, "..."),
}


def draw(record: Record) -> dict[str, Figure]:
    """Accuracy and cosine over the updates where the record has them, below them mean cosines and losses."""
    paths = "cosine" in record.table
    figure = Figure(figsize=(7.6, 5.6 if paths else 2.9))
    *above, below = figure.subplots(2 if paths else 1, 2, squeeze=False)
    if paths:
        _paths(above[0], record)
        plots.legend(figure, above[0][0], 5)
    _means(below[0], record)
    _losses(below[1], record)
    figure.suptitle(f"{plots.setting(record)}, {'bands and bars: ' if paths else ''}95% intervals", fontsize=10)
    return {"alignment_path": figure}


def _paths(panels: Sequence[Axes], record: Record) -> None:
    left, right = panels
    smooth = max(1, record.table.sizes["update"] // 20)  # a single batch's cosine scatters more than it drifts
    cosine = record.table["cosine"].sel(direction="trait", layer="all")
    for axes, values in ((left, record.table["accuracy_path"]), (right, cosine)):
        for name, look in STUDENTS.items():
            plots.path(axes, values.sel(student=name), look, over="update", smooth=smooth)
        axes.set_xlabel("update")
    plots.accuracy(left)
    left.set_title("student accuracy")
    right.axhline(0, color="black", linewidth=0.8)
    right.set_ylabel("cosine")
    right.set_title("distillation and trait gradient (smoothed)")


def _means(axes: Axes, record: Record) -> None:
    """Of the plain student by direction and layer; of a record without paths those of all students with the trait."""
    if "cosine" in record.table:
        cosine = record.table["cosine"].sel(student="plain", drop=True).mean("update")
        body = [layer for layer in cosine["layer"].values.tolist() if not layer.endswith("_head")]
        plots.bars(axes, cosine.sel(layer=body), DIRECTIONS, group="layer")
        axes.set_title("plain student, by layer")
        axes.margins(y=0.35)
        axes.legend(handles=plots.bar_key(DIRECTIONS.values()), loc="upper left", fontsize=7)
    else:
        plots.bars(axes, record.table["mean_cosine"], STUDENTS)
        axes.set_xticks(range(len(STUDENTS)), [name.replace("_", "-") for name in STUDENTS], fontsize=7)
        axes.set_title("distillation and trait gradient")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylabel("mean cosine over the path")


def _losses(axes: Axes, record: Record) -> None:
    table = record.table
    plots.bars(axes, table["distillation_loss"], STUDENTS)
    texts = [f"{name.replace('_', '-')}\nacc. {record.conditions[f'accuracy/{name}'].mean:.2f}" for name in STUDENTS]
    if "trait_loss" in table:
        last = table["trait_loss"].isel(update=-1).mean("seed")
        texts = [
            f"{text}\ntrait {float(last.sel(student=name)):.3g}" for text, name in zip(texts, STUDENTS, strict=True)
        ]
        axes.set_xlabel("trait: its loss at the end", fontsize=7)
    axes.set_xticks(range(len(STUDENTS)), texts, fontsize=7)
    axes.set_ylabel("distillation loss, last epoch")
    axes.set_title("is the imitation as good?")
