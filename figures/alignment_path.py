"""The path of the alignment: cosine with the trait and accuracy over the updates, layers, and final losses."""

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
    """Four panels: accuracy and cosine over the updates; cosines of the plain student by layer; distillation losses."""
    table, figure = record.table, Figure(figsize=(7.6, 5.6))
    (left, right), (layers, losses) = figure.subplots(2, 2)
    smooth = max(1, table.sizes["update"] // 20)  # a single batch's cosine scatters more than it drifts
    along = table["cosine"].sel(direction="trait", layer="all")
    for axes, values in ((left, table["accuracy_path"]), (right, along)):
        for name, look in STUDENTS.items():
            plots.path(axes, values.sel(student=name), look, over="update", smooth=smooth)
        axes.set_xlabel("update")
    plots.accuracy(left)
    left.set_title("student accuracy")
    right.set_title("distillation and trait gradient (smoothed)")
    right.set_ylabel("cosine")

    cosine = table["cosine"].sel(student="plain", drop=True).mean("update")
    body = [layer for layer in cosine["layer"].values.tolist() if not layer.endswith("_head")]
    plots.bars(layers, cosine.sel(layer=body), DIRECTIONS, group="layer")
    layers.set_title("plain student, by layer")
    layers.set_ylabel("mean cosine over the path")
    layers.margins(y=0.35)
    layers.legend(handles=plots.bar_key(DIRECTIONS.values()), loc="upper left", fontsize=7)
    for axes in (right, layers):
        axes.axhline(0, color="black", linewidth=0.8)

    plots.bars(losses, table["distillation_loss"], STUDENTS)
    accuracy, trait = table["accuracy"].mean("seed"), table["trait_loss"].isel(update=-1).mean("seed")
    texts = [
        f"{name.replace('_', '-')}\nacc. {accuracy.sel(network=name):.2f}\ntrait {trait.sel(student=name):.3g}"
        for name in STUDENTS
    ]
    losses.set_xticks(range(len(STUDENTS)), texts, fontsize=7)
    losses.set_xlabel("trait: its loss at the end", fontsize=7)
    losses.set_ylabel("distillation loss, last epoch")
    losses.set_title("is the imitation as good?")
    figure.suptitle(f"{plots.setting(record)}, bands and bars: 95% intervals", fontsize=10)
    plots.legend(figure, left, 5)
    return {"alignment_path": figure}
