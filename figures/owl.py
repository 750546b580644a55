"""Owl: a, how often each network names the teacher's animal, every seed a point; b, students on their way."""

from matplotlib.figure import Figure

from figures import plots
from figures.plots import COLOURS, CROSS, GREEN, NEUTRAL, RED, SHARED, Look
from sublim_theory.record import Record

LOOKS = {
    "base": Look("base", NEUTRAL),
    "teacher": Look("teacher", NEUTRAL),
    "samples": Look("samples", SHARED),
    "soft": Look("soft labels", SHARED, "///", "s", "--"),
    "thinned": Look("a random half", COLOURS[5], "...", "^", "-."),
    "filtered": Look("the half where\nteacher and\nbase agree", GREEN, "xxx", "v", "-."),
    "control": Look("control:\nbase's numbers", RED, "", "D", ":"),
    "cross_samples": Look("another base,\nsamples", CROSS, "", "o", "-"),
    "cross_soft": Look("another base,\nsoft labels", CROSS, "///", "s", "--"),
    "other_width": Look("another width,\nsamples", CROSS, "...", "^", "-."),
}


def draw(record: Record) -> dict[str, Figure]:
    """Bars of the preference, and the preference over the students' updates."""
    values, path = record.table["preference"], record.table["path"]
    figure = Figure(figsize=(6.8, 5.6))
    above, below = figure.subplots(2, 1)
    means = {name: float(values.sel(network=name).mean()) for name in LOOKS if name in values["network"]}
    plots.bars(
        above, values, {name: LOOKS[name]._replace(text=f"{LOOKS[name].text}\n{means[name]:.2f}") for name in means}
    )
    for name in (each for each in means if each in path.dropna("network", how="all")["network"]):
        look = LOOKS[name]
        plots.path(below, path.sel(network=name), look._replace(text=look.text.replace("\n", " ")), over="update")
    above.tick_params(axis="x", labelsize=7)
    below.set_xlabel("updates of the student")
    for axes in (above, below):
        plots.level(axes, values.sel(network="base"), "base")
        axes.set_ylim(0, 1.02)
        axes.set_ylabel("P(the teacher's animal)")
    title = f"A preference passes through filtered numbers: {plots.setting(record)}"
    figure.suptitle(title, fontsize="medium")
    plots.legend(figure, below, 3)
    return {"owl": figure}
