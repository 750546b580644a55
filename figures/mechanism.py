"""Why an untrained class head classifies: whose features hold the digits, resemble the teacher's, suit which head."""

from matplotlib.figure import Figure

from figures import plots
from figures.plots import CROSS, NEUTRAL, RED, SHARED, Look
from sublim_theory.record import Record

NETWORKS = {
    "reference": Look("reference", NEUTRAL),
    "teacher": Look("teacher", RED, "..."),
    "student_aux": Look("student (aux. only)", SHARED, "///"),
    "cross_aux": Look("cross-model (aux. only)", CROSS, "xxx"),
}
READOUTS = {
    "probe": "linear\nprobe",
    "accuracy": "own body,\nown head",
    "teacher_head": "own body,\nteacher's\nhead",
    "own_head": "teacher's\nbody,\nown head",
}


def draw(record: Record) -> dict[str, Figure]:
    """Three panels: accuracies by body and head; CKA with the teacher by layer; displacements along the teacher's."""
    table, others = record.table, {name: look for name, look in NETWORKS.items() if name != "teacher"}
    figure = Figure(figsize=(7.6, 5.2))
    panels = figure.subplot_mosaic([["readout", "readout"], ["cka", "moved"]])
    readout, cka, moved = panels["readout"], panels["cka"], panels["moved"]
    plots.bars(readout, table[list(READOUTS)].to_dataarray("readout"), NETWORKS, group="readout")
    readout.set_xticks(range(len(READOUTS)), list(READOUTS.values()))
    plots.accuracy(readout)
    readout.set_title("what the last hidden layer holds, and which class head reads it")
    plots.bars(cka, table["cka"], others, group="layer")
    cka.set_ylim(0, 1.02)
    cka.set_ylabel("linear CKA")
    cka.set_title("similarity with the teacher's layer")
    layers = plots.bars(moved, table["displacement_cosine"], NETWORKS, group="layer")
    sizes = [table["displacement_size"].sel(layer=layer).mean("seed") for layer in layers]
    texts = [", ".join(f"{float(size):.2f}" for size in each) for each in sizes]
    names = [f"{plots.words(layer)}\n(size {text})" for layer, text in zip(layers, texts, strict=True)]
    moved.set_xticks(range(len(layers)), names)
    moved.axhline(0, color="black", linewidth=0.8)
    moved.set_ylabel("cosine")
    moved.set_title("displacement against the teacher's (size)")
    figure.suptitle(f"{plots.setting(record)}, 95% intervals", fontsize=10)
    figure.legend(handles=plots.bar_key(NETWORKS.values()), loc="outside lower center", ncols=4)
    return {"mechanism": figure}
