"""Over width, a panel a rule: accuracy of the real student and of its predictions, and how far these miss its place."""

import xarray as xr
from matplotlib.figure import Figure

from figures import plots
from figures.plots import CROSS, GREEN, NEUTRAL, RED, SHARED, Look
from sublim_theory.record import Record

RULES = {"adam": "Adam", "sgd": "gradient descent, mini-batch", "full_batch": "gradient descent, full batch"}
MODELS = {
    "real": Look("real student", SHARED),
    "first_order": Look("linearised student, first-order labels", CROSS, marker="s", line="-."),
    "linearised": Look("linearised student, real teacher's logits", RED, marker="D", line=":"),
    "placed": Look("real network at the first-order parameters", GREEN, marker="^", line="--"),
}
NETWORKS = {"teacher": Look("teacher", marker=""), "reference": Look("reference", marker="", line=":")}


def draw(record: Record) -> dict[str, Figure]:
    """Two rows of three panels."""
    table = record.table.sortby("width")
    placed = table["placed"].sel(model=["first_order"]).assign_coords(model=["placed"])
    accuracies = xr.concat([table["accuracy"], placed], "model")
    errors = table["displacement_error"].dropna("model", how="all")  # the real student has none
    figure = Figure(figsize=(7.6, 5.4))
    above, below = figure.subplots(2, len(RULES), sharex=True, sharey="row")
    for top, bottom, (rule, title) in zip(above, below, RULES.items(), strict=True):
        plots.lines(top, accuracies.sel(rule=rule, drop=True), MODELS, over="width", log=2)
        plots.lines(top, table["network_accuracy"], NETWORKS, over="width", log=2)
        top.set_title(title)
        plots.lines(bottom, errors.sel(rule=rule, drop=True), MODELS, over="width", log=2)
        bottom.axhline(1, color=NEUTRAL, linestyle=":", linewidth=1)
        bottom.set_xlabel("width")
    plots.accuracy(above[0])
    below[0].set_ylim(bottom=0)
    below[0].set_ylabel("distance from the real student\nover its way from the start")
    below[0].text(0.03, 1, "as far as the start is", fontsize=7, va="bottom", transform=below[0].get_yaxis_transform())
    title = f"First-order predictions of the student: {plots.setting(record, without=['hidden'])}"
    figure.suptitle(f"{title}, {record.config['auxiliary']} auxiliary logits, 95% intervals", fontsize="medium")
    plots.legend(figure, above[0], 3)
    return {"linearised": figure}
