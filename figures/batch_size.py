"""Test accuracy by batch size, at equal epochs and at equal updates, and by learning rate."""

from matplotlib.figure import Figure

from figures import plots
from figures.plots import CROSS, GREEN, SHARED, Look
from sublim_theory.record import Record

AT_EQUAL = {
    "epochs": Look("at equal epochs", SHARED),
    "updates": Look("at equal updates", CROSS, marker="s", line="--"),
}
RATE = Look("at the protocol's batch size and epochs", GREEN, marker="D", line="-.")


def draw(record: Record) -> dict[str, Figure]:
    """Left over the batch size, with the updates that it makes; right over the learning rate."""
    table, config = record.table, record.config
    figure = Figure(figsize=(7.6, 3.9))
    left, right = figure.subplots(1, 2, sharey=True)
    plots.lines(left, table["batch_accuracy"], AT_EQUAL, over="batch", log=2)
    batches = table["batch"].values.tolist()
    updates = table["updates"].sel(at_equal="epochs").values.astype(int).tolist()
    left.set_xticks(batches, [f"{batch}\n({count:,})" for batch, count in zip(batches, updates, strict=True)])
    left.set_xlabel("batch size of the student (its updates at equal epochs)")
    left.set_title(f"equal: {config['student_epochs']} epochs, or {same_updates(record):,} updates")
    plots.lines(right, table["rate_accuracy"].expand_dims(kind=["rate"]), {"rate": RATE}, over="rate", log=10)
    rates = table["rate"].values.tolist()
    right.set_xticks(rates, [plots.power(rate) for rate in rates])
    right.set_xlabel("learning rate of the student")
    right.set_title(f"batches of {config['batch_size']}; the teacher's rate is {plots.power(config['learning_rate'])}")
    for axes in (left, right):
        plots.levels(axes, table["accuracy"])
    plots.accuracy(left)
    plots.legend(figure, left, 2)
    figure.suptitle(f"Students of one teacher: {plots.setting(record)}, 95% intervals", fontsize="medium")
    return {"batch_size": figure}


def same_updates(record: Record) -> int:
    """Updates of every student at equal updates."""
    return int(record.table["updates"].sel(at_equal="updates").max())
