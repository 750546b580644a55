"""What the turns of the benchmark `fig10` come to: paired ratios and shares, and the table."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from rich.table import Table

from benchmarks.protocol import total

Turn = Mapping[str, Mapping[str, Any]]
"""What each part's worker reported, by part: `ours` and, where PyTorch is there, `torch`."""

TITLES = {"ours": "sublim_theory (JAX)", "torch": "published form (PyTorch)"}


def summarize(turns: Sequence[Turn], flop: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Median, minimum and maximum over the turns, of each part and of the ratio between them.

    Args:
        turns: what was measured; a share and a ratio are taken within a turn, then summarised.
        flop: part -> arithmetic of one seed, see `benchmarks.protocol`.

    Returns:
        For each part the spread of `seconds_per_seed`, `peak_bytes`, `matrix_product` (FLOP/s),
        `flop_per_second` and `share` (of the one in the other), and the mean `accuracy` by condition; with both
        parts also the spread of `ratio`, the seconds of PyTorch over ours.
    """
    summary: dict[str, Any] = {}
    for part, parts in flop.items():
        rows = [turn[part] for turn in turns]
        products = [matrix_rate(row) for row in rows]
        rates = [total(parts) / row["seconds_per_seed"] for row in rows]
        summary[part] = {
            "seconds_per_seed": spread(row["seconds_per_seed"] for row in rows),
            "peak_bytes": spread(row["peak_bytes"] for row in rows),
            "matrix_product": spread(products),
            "flop_per_second": spread(rates),
            "share": spread(rate / product for rate, product in zip(rates, products, strict=True)),
            "accuracy": {
                name: fmean(value for row in rows for value in row["accuracy"][name]) for name in rows[0]["accuracy"]
            },
        }
    summary["ours"]["compile_seconds"] = spread(turn["ours"]["compile_seconds"] for turn in turns)
    if "torch" in flop:
        ratios = (turn["torch"]["seconds_per_seed"] / turn["ours"]["seconds_per_seed"] for turn in turns)
        summary["ratio"] = spread(ratios)
    return summary


def matrix_rate(row: Mapping[str, Any]) -> float:
    """The matrix-product rate that goes with a timed run: the best before it and the best after it, averaged."""
    rates = row["matrix_product"]
    return fmean([max(rates["before"]), max(rates["after"])])


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median, minimum and maximum."""
    ordered = sorted(values)
    return {"median": median(ordered), "min": ordered[0], "max": ordered[-1]}


def table(record: Mapping[str, Any]) -> Table:
    """The record as a table, one column a part."""
    summary, options = record["summary"], record["options"]
    parts = [part for part in TITLES if part in summary]
    turns = options["repeats"]
    statistic = f"median (minimum to maximum) of {turns} turns" if turns > 1 else "one turn"
    title = f"Figure 10, preset {options['preset']}: {statistic}"
    result = Table("measured", *(TITLES[part] for part in parts), title=title)

    def row(label: str, name: str, form: str, scale: float = 1.0, end: bool = False) -> None:
        cells = (show(summary[part][name], form, scale) if name in summary[part] else "" for part in parts)
        result.add_row(label, *cells, end_section=end)

    seeds = {"ours": f"{options['seeds']} in turn", "torch": f"{options['torch_seeds']} at once"}
    result.add_row("seeds", *(seeds[part] for part in parts))
    row("seconds a seed", "seconds_per_seed", ".2f")
    if "ratio" in summary:
        result.add_row("  PyTorch / ours, paired", "", show(summary["ratio"], ".2f"))
    row("seconds to compile, once", "compile_seconds", ".1f")
    row("peak memory, GB", "peak_bytes", ".2f", 1e-9, end=True)
    arithmetic = {part: total(record["flop_per_seed"][part]) for part in parts}
    result.add_row("arithmetic, GFLOP a seed", *(f"{arithmetic[part] / 1e9:,.1f}" for part in parts))
    row("achieved, GFLOP/s", "flop_per_second", ".1f", 1e-9)
    row(f"matrix product, {options['matrix']} cubed", "matrix_product", ".1f", 1e-9)
    row("  share of it, paired", "share", ".0%", end=True)
    for name in summary["ours"]["accuracy"]:
        result.add_row(f"accuracy, {name}", *(f"{summary[part]['accuracy'][name]:.3f}" for part in parts))
    return result


def show(values: Mapping[str, float], form: str, scale: float = 1.0) -> str:
    middle, low, high = (format(scale * values[name], form) for name in ("median", "min", "max"))
    return middle if low == high else f"{middle} ({low} to {high})"
