"""Figure 10: a, what each network sees; b, test accuracy of the six networks, every seed a point."""

from typing import Any

from matplotlib.figure import Figure

from figures import plots
from figures.plots import CROSS, NEUTRAL, SHARED, Look
from sublim_theory.record import Record

LOOKS = {
    "reference": Look("reference\n(untrained)", NEUTRAL),
    "teacher": Look("teacher\n(trained)", NEUTRAL),
    "student_aux": Look("student\n(aux. only)", SHARED, "///"),
    "student_all": Look("student\n(all logits)", SHARED),
    "cross_aux": Look("cross-model\n(aux. only)", CROSS, "///"),
    "cross_all": Look("cross-model\n(all logits)", CROSS),
}
ROWS = {
    "example_train": "1. train the teacher:\n{what} and labels",
    "example_noise": "2. distil the student:\nnoise, {m} auxiliary logits",
    "example_test": "3. test the student:\n{what} never seen",
}


def draw(record: Record) -> dict[str, Figure]:
    """Both panels, as figures by file stem; panel a where the record has the images."""
    found = {"fig10a": inputs(record)} if "example_train" in record.table else {}
    return found | {"fig10b": accuracies(record)}


def inputs(record: Record) -> Figure:
    """Panel a: a row of training digits, of noise, and of test digits."""
    figure = Figure(figsize=(6.3, 1.9))
    what = "images" if record.config["dataset"] == "fashion_mnist" else "digits"
    for axes, (name, text) in zip(figure.subplots(len(ROWS), 1), ROWS.items(), strict=True):
        plots.images(axes, record.table[name].values, text.format(m=record.config["auxiliary"], what=what))
    return figure


def accuracies(record: Record) -> Figure:
    """Panel b: a bar for each network there is, with 95% interval and seeds, published values beside them."""
    values = record.table["accuracy"]
    means = {name: float(values.sel(network=name).mean()) for name in values["network"].values.tolist()}
    present = {name: look for name, look in LOOKS.items() if name in means}
    looks = {name: look._replace(text=f"{look.text}\n{means[name]:.3f}") for name, look in present.items()}
    figure = Figure(figsize=(6.3, 3.4))
    axes = figure.subplots()
    plots.bars(axes, values, looks)
    published = {row["condition"]: row for row in record.expectations if record.preset == "paper"}
    if rows := [(x, published[name]) for x, name in enumerate(looks) if name in published]:
        style: dict[str, Any] = {
            "fmt": "D",
            "markersize": 4,
            "markerfacecolor": "white",
            "color": "black",
            "capsize": 2,
        }
        places, expected = [x + 0.22 for x, _ in rows], [row["expected"] for _, row in rows]
        errors = [row["ci95"] for _, row in rows]
        axes.errorbar(places, expected, errors, **style, linewidth=0.8, zorder=5, label="published, N = 100")
    plots.level(axes, values.sel(network="reference"), "reference mean")
    plots.accuracy(axes)
    where = plots.setting(record, without=["hidden"])
    axes.set_title(f"{where}, {record.config['auxiliary']} auxiliary logits, 95% intervals")
    if record.config["dataset"] == "digits":
        note = "On this easy set all logits suffice without a shared start: cross-model (all logits) is no control."
        axes.plot([], [], " ", label=note)
    figure.legend(loc="outside lower left", ncols=1)
    return figure
