"""Figure 10: a, what each network sees; b, test accuracy of the six conditions, every seed a point."""

import numpy as np
from matplotlib.figure import Figure

from figures.drawing import CROSS, DATASETS, NEUTRAL, SHARED, bar
from sublim_theory.results import Result

BARS = {
    "reference": ("reference\n(untrained)", NEUTRAL, ""),
    "teacher": ("teacher\n(trained)", NEUTRAL, ""),
    "student_aux": ("student\n(aux. only)", SHARED, "///"),
    "student_all": ("student\n(all logits)", SHARED, ""),
    "cross_aux": ("cross-model\n(aux. only)", CROSS, "///"),
    "cross_all": ("cross-model\n(all logits)", CROSS, ""),
}

ROWS = {
    "example/train": "1. train the teacher:\n{what} and labels",
    "example/noise": "2. distil the student:\nnoise, {m} auxiliary logits",
    "example/test": "3. test the student:\n{what} never seen",
}


def draw(result: Result) -> dict[str, Figure]:
    """Both panels, as figures by file stem."""
    return {"fig10a": inputs(result), "fig10b": accuracies(result)}


def inputs(result: Result) -> Figure:
    """Panel a: a row of training digits, of noise, and of test digits."""
    figure = Figure(figsize=(6.3, 1.9))
    for axes, (name, label) in zip(figure.subplots(len(ROWS), 1), ROWS.items(), strict=True):
        images = result.arrays[name]
        count, height, width = images.shape
        sheet = np.ones((height, count * width + (count - 1) * (gap := max(1, width // 14))), np.float32)
        for i, image in enumerate(images):
            sheet[:, i * (width + gap) : i * (width + gap) + width] = image
        axes.imshow(sheet, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        axes.set_axis_off()
        what = "images" if result.config["dataset"] == "fashion_mnist" else "digits"
        text = label.format(m=result.config["auxiliary"], what=what)
        axes.text(-0.02, 0.5, text, transform=axes.transAxes, ha="right", va="center")
    return figure


def accuracies(result: Result) -> Figure:
    """Panel b: a bar for each condition there is, with 95% interval and seeds, published values beside them."""
    bars = {name: look for name, look in BARS.items() if name in result.conditions}
    figure = Figure(figsize=(6.3, 3.4))
    axes = figure.subplots()
    jitter = np.random.default_rng(0)
    for x, (name, (_, colour, hatch)) in enumerate(bars.items()):
        bar(axes, x, result.conditions[name], colour, hatch, jitter)
    published = {row["condition"]: row for row in result.expectations if result.preset == "paper"}
    if published:
        axes.errorbar(
            [x + 0.22 for x, name in enumerate(bars) if name in published],
            [published[name]["expected"] for name in bars if name in published],
            [published[name]["ci95"] for name in bars if name in published],
            fmt="D",
            markersize=4,
            markerfacecolor="white",
            color="black",
            capsize=2,
            linewidth=0.8,
            zorder=5,
            label="published, N = 100",
        )
    reference = result.conditions["reference"]
    axes.axhline(reference.mean, color="black", linestyle=":", linewidth=1, label="reference mean")
    labels = [f"{label}\n{result.conditions[name].mean:.3f}" for name, (label, _, _) in bars.items()]
    axes.set_xticks(range(len(bars)), labels)
    axes.set_xlim(-0.5, len(bars) - 0.5)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("test accuracy")
    name = DATASETS.get(result.config["dataset"], result.config["dataset"])
    axes.set_title(f"{name}, {result.config['auxiliary']} auxiliary logits, {reference.n} seeds, 95% intervals")
    note = "On this easy set all logits suffice without a shared start: cross-model (all logits) is no control."
    if result.config["dataset"] == "digits":
        axes.plot([], [], " ", label=note)
    figure.legend(loc="outside lower left", ncols=1)
    return figure
