"""Test accuracy by what the student shares with its teacher: layers drawn anew, frozen heads, other networks."""

from matplotlib.figure import Figure

from figures import plots
from figures.plots import CROSS, GREEN, NEUTRAL, RED, SHARED, Look
from sublim_theory.record import Record

TEXTS = {"reference": "reference (untrained)", "teacher": "teacher (trained)"}
GROUPS = {
    "": Look("", NEUTRAL),
    "redrawn": Look("own layers, drawn anew", CROSS),
    "frozen": Look("everything shared, a head frozen", SHARED, "///"),
    "network": Look("another MLP, shared heads", GREEN, "\\\\\\"),
    "convolutional": Look("convolutions, shared heads", RED, "..."),
}


def draw(record: Record) -> dict[str, Figure]:
    """One bar a student, every seed a point, the mean above it."""
    values = record.table["accuracy"]
    names = values["network"].values.tolist()
    looks = {name: look(name) for name in names}
    figure = Figure(figsize=(6.3, 4.0))
    axes = figure.subplots()
    plots.bars(axes, values, looks)
    for x, name in enumerate(names):
        mean = float(values.sel(network=name).mean())
        axes.text(x, 1.01, f"{mean:.2f}", ha="center", va="bottom", fontsize=7)
    plots.level(axes, values.sel(network="reference"), "untrained")
    plots.slanted(axes)
    axes.set_ylim(0, 1)
    axes.set_ylabel("test accuracy")
    figure.suptitle(f"{plots.setting(record)}, {record.config['auxiliary']} auxiliary logits", fontsize="medium")
    groups = dict.fromkeys(name.partition("/")[0] for name in names if "/" in name)
    figure.legend(handles=plots.bar_key([GROUPS[group] for group in groups]), loc="outside lower center", ncols=2)
    return {"shared_parts": figure}


def look(name: str) -> Look:
    """How a network is drawn: what it is called says which group it is of."""
    group = GROUPS[name.partition("/")[0] if "/" in name else ""]
    text = TEXTS.get(name, plots.words(name))
    return group._replace(text=text, **({"colour": SHARED} if name == "redrawn/none" else {}))
