"""Transfer over the samples an image that the student sees: all images, filtered, thinned at random, another start."""

from matplotlib.figure import Figure

from figures import plots
from figures.plots import CROSS, GREEN, RED, SHARED, Look
from sublim_theory.record import Record

LOOKS = {
    "samples": Look("all images", SHARED),
    "thinned": Look("{removed:.0%} removed at random", GREEN, marker="^", line="-."),
    "filtered": Look("{removed:.0%} removed, the surest of a class", RED, marker="D", line="--"),
    "cross": Look("all images, another start", CROSS, marker="s", line=":"),
}


def draw(record: Record) -> dict[str, Figure]:
    """One line a group of students; what soft labels give, and nothing, as level lines."""
    config, accuracy = record.config, record.table["accuracy"]
    looks = {name: look._replace(text=look.text.format(removed=config["removed"])) for name, look in LOOKS.items()}
    figure = Figure(figsize=(6.3, 3.8))
    axes = figure.subplots()
    plots.lines(axes, record.table["sampled_accuracy"], looks, over="count", log=10, aside=0.08)
    plots.level(axes, accuracy.sel(network="soft"), "all images, soft labels", line="-")
    plots.level(axes, accuracy.sel(network="reference"), "untrained reference")
    plots.accuracy(axes)
    axes.set_xlabel("samples from the teacher's auxiliary softmax, an image")
    images = f"{config['noise_images']:,} images, {config['auxiliary']} auxiliary logits"
    title = f"Transfer by samples alone, filtered or not: {plots.setting(record)}\n{images}"
    figure.suptitle(title, fontsize="medium")
    plots.legend(figure, axes, 2)
    return {"sampled_labels": figure}
