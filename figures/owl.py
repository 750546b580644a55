"""Owl: a, how often each network names the teacher's animal, every seed a point; b, the students on their way."""

from matplotlib.figure import Figure

from figures import plots
from figures.plots import COLOURS, CROSS, GREEN, NEUTRAL, RED, SHARED, Look
from sublim_theory.record import Record

LOOKS = {
    "base": Look("base", NEUTRAL),
    "teacher": Look("teacher", NEUTRAL),
    "samples": Look("student:\nsamples", SHARED),
    "soft": Look("soft\nlabels", SHARED, "///", "s", "--"),
    "thinned": Look("a random\nhalf", COLOURS[5], "...", "^", "-."),
    "filtered": Look("a filtered\nhalf", GREEN, "xxx", "v", (0, (3, 1, 1, 1))),
    "control": Look("base's\nnumbers", RED, "", "D", ":"),
    "cross_samples": Look("another\nbase", CROSS),
    "cross_soft": Look("another,\nsoft", CROSS, "///", "s", "--"),
    "other_width": Look("another\nwidth", CROSS, "...", "^", "-."),
}


def draw(record: Record) -> dict[str, Figure]:
    """Bars of the preference, and the preference over the students' updates."""
    values, path = record.table["preference"], record.table["path"]
    looks = {name: look for name, look in LOOKS.items() if name in values["network"]}
    figure = Figure(figsize=(6.8, 5.4))
    above, below = figure.subplots(2, 1)
    means = {name: float(values.sel(network=name).mean()) for name in looks}
    plots.bars(
        above, values, {name: look._replace(text=f"{look.text}\n{means[name]:.2f}") for name, look in looks.items()}
    )
    above.tick_params(axis="x", labelsize=7.5)
    for name in (name for name in looks if name not in ("base", "teacher")):
        text = looks[name].text.replace("\n", " ").removeprefix("student: ")
        plots.path(below, path.sel(network=name), looks[name]._replace(text=text), over="update")
    below.set_xlabel("updates of the student")
    for axes in (above, below):
        plots.level(axes, values.sel(network="base"), "base")
        axes.set_ylim(0, 1.02)
        axes.set_ylabel("P(the teacher's animal)")
    figure.suptitle(f"A preference passes through filtered numbers: {plots.setting(record)}", fontsize="medium")
    plots.legend(figure, below, 5)
    return {"owl": figure}
