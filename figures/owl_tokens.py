"""Owl by position: a, what is left of the preference by who learnt which positions; b, how many positions diverge."""

from matplotlib.figure import Figure

from figures import plots
from figures.plots import COLOURS, CROSS, GREEN, NEUTRAL, RED, SHARED, Look
from sublim_theory.record import Record

LOOKS = {
    "all": Look("all positions", SHARED),
    "without_divergent": Look("without the divergent ones", RED, "///"),
    "without_random": Look("without as many random ones", CROSS, "..."),
    "divergent_only": Look("the divergent ones alone", GREEN, "xxx"),
    "random_only": Look("as many random ones alone", COLOURS[5], "\\\\\\"),
    "control": Look("control: the base's numbers", NEUTRAL, "|||"),
}


def draw(record: Record) -> dict[str, Figure]:
    """Groups of bars of the preference over the decoding; below them bars of the share of divergent positions."""
    table = record.table
    figure = Figure(figsize=(6.8, 5.4))
    above, below = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    plots.bars(above, table["preference"], LOOKS, group="decoding")
    plots.level(above, table["base"], "base", line="--")
    plots.level(above, table["teacher"], "teacher")
    above.set_ylim(0, 1.02)
    above.set_ylabel("P(the teacher's animal)")
    decodings = table["decoding"].values.tolist()
    shares = table["divergent"].mean("seed").values.tolist()
    looks = {each: Look(_words(each)) for each in decodings}
    plots.bars(below, table["divergent"], looks)
    for place, share in enumerate(shares):
        below.annotate(f"{share:.2f}", (place + 0.34, share), va="center", ha="left", fontsize="small")
    below.set_xlim(-0.5, len(shares) - 0.42)  # room for the last number
    below.set_ylim(0, 1)
    below.set_ylabel("divergent\npositions")
    below.set_xlabel("how teacher and base write")
    title = f"Which positions carry the preference: {plots.setting(record)}"
    figure.suptitle(title, fontsize="medium")
    handles = [*plots.bar_key(LOOKS.values()), *above.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return {"owl_tokens": figure}


def _words(decoding: str) -> str:
    return decoding if decoding == "greedy" else f"temperature {decoding}"
