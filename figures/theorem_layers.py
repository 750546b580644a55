"""Whose share of A is whose: by layer, where two heads contribute exactly nothing, and by logit."""

from matplotlib.figure import Figure

from figures import plots
from figures.plots import SHARED, Look
from sublim_theory.record import Record

STUDENTS = {
    "auxiliary": Look("student on the auxiliary logits", SHARED, "///"),
    "all": Look("student on all logits", SHARED),
}


def draw(record: Record) -> dict[str, Figure]:
    """Two panels."""
    layers, classes = record.table["share"], -record.config["auxiliary"]
    figure = Figure(figsize=(7.6, 3.4))
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.4])
    names = plots.bars(left, layers.where(layers != 0), STUDENTS, group="layer")
    for i, layer in enumerate(names):
        for shift, student in zip((-0.21, 0.21), STUDENTS, strict=True):
            if (layers.sel(layer=layer, logits=student) == 0).all():
                left.text(i + shift, 0.02, "exactly 0.0", rotation=90, ha="center", va="bottom", color="black")
    left.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names])
    left.set_ylabel(r"share of $A = d_T^\top G\, d_T$")
    left.set_title("by layer")
    logits = record.table["share_of_logit"].rename(logit="logit_number")
    count = logits.sizes["logit_number"]
    unseen = (logits["logits"] == "auxiliary") & (logits["logit_number"] < count + classes)
    plots.bars(right, logits.where(~unseen), STUDENTS, group="logit_number")
    right.set_xticks(range(count), [*map(str, range(count + classes)), *(f"a{i}" for i in range(-classes))])
    right.set_xlabel("logit: classes, then auxiliary")
    right.set_title("by logit (hatched: exactly 0.0 on every class logit)")
    for axes in (left, right):
        axes.axhline(0, color="black", linewidth=0.8)
    loss = plots.words(record.config["loss"])
    figure.suptitle(f"{plots.setting(record)}, {loss}, 95% intervals", fontsize=10)
    figure.legend(handles=plots.bar_key(STUDENTS.values()), loc="outside lower center", ncols=2)
    return {"theorem_layers": figure}
