"""Numbers as people read them, and `python -m experiments.tables`: write the tables of the pages from the records.

README.md has what figure 10 costs; docs/experiments.md has its numbers, and what others report and what we find, by the
rows of `published.toml`.
"""

import math
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.fig10 import NETWORKS
from sublim_theory.record import Record, load
from sublim_theory.statistics import Summary, independent

ROOT = Path(__file__).parent.parent
RECORDS = ROOT / "figures"
PAGES = ("README.md", "docs/experiments.md")
PLACE = re.compile(r"(<!-- (cost|fig10-paper|published):[^>]*-->\n).*?(<!-- /\2 -->)", re.DOTALL)


def filled(page: str, records: Path = RECORDS) -> str:
    """The page with every table replaced by that of the records in a folder.

    Raises:
        RecordError: if a record is missing or damaged.
        KeyError: for a row about a condition that its record does not have.
    """
    tables = {"cost": cost, "fig10-paper": figure_10, "published": published}
    return PLACE.sub(lambda place: place[1] + tables[place[2]](records) + place[3], page)


def cost(records: Path) -> str:
    """What figure 10 took, compilation included."""
    lines = ["| `sublim reproduce fig10` | data | seeds | took |", "|---|---|---|---|"]
    for preset in ("default", "paper"):
        record = load(records / f"fig10-{preset}")
        seeds, cores = len(record.provenance["seeds"]), record.provenance["cores"]
        took = f"{record.wall_seconds / 60:.0f} min on {cores} cores"
        lines.append(f"| `--preset {preset}` | {record.config['dataset']} | {seeds} | {took} |")
    return "\n".join(lines) + "\n"


def figure_10(records: Path) -> str:
    """Figure 10 as published, and ours."""
    record = load(records / "fig10-paper")
    origin = record.provenance
    rows = {row["condition"]: row for row in record.expectations}
    lines = [
        f"MNIST, {len(origin['seeds'])} seeds, mean test accuracy ± 95% interval "
        f"({origin['device']}, {origin['cores']} cores, JAX {origin['versions']['jax']}, "
        f"commit {(origin['commit'] or 'unknown')[:9]}):",
        "",
        "| condition | published (N = 100) | here | band for this run | verdict |",
        "|---|---|---|---|---|",
    ]
    for name in NETWORKS:
        ours, row = record.conditions[name], rows[name]
        lines.append(
            f"| `{name}` | {row['expected']:.4f} ± {row['ci95']:.4f} | {ours.mean:.4f} ± {ours.ci95:.4f} "
            f"| {row['low']:.4f} to {row['high']:.4f} | {'holds' if row['holds'] else 'missed'} |"
        )
    return "\n".join(lines) + "\n"


def published(records: Path, experiment: str | None = None) -> str:
    """Question by question: what is reported, what we find and whether the two agree; of one experiment or of all.

    The numbers link to the records; those of one experiment to the places on its own page, named by the preset.
    """
    lines = ["| question | reported | ours ± 95% interval | difference | verdict |", "|---|---|---|---|---|"]
    for question in questions(experiment):
        lines.append(f"| **{question['text']}** ({question['source']}) | | | | |")
        folder = records / question["record"]
        record = load(folder)
        where = f"../figures/{folder.name}" if experiment is None else f"#{record.preset}"
        together = sum("sample" in row for row in question["rows"])
        lines += [compared(record, where, row, together) for row in question["rows"]]
    return "\n".join(lines) + "\n"


def questions(experiment: str | None = None) -> list[dict[str, Any]]:
    """Those of `published.toml` that the records of an experiment answer, or all."""
    found = tomllib.loads((RECORDS / "published.toml").read_text("utf-8"))["question"]

    def named(text: str, condition: str, reported: str = "", judged: Any = None) -> dict[str, Any]:
        row = {"text": text, "condition": condition, "reported": reported}
        return row if judged is None else row | {"sample" if isinstance(judged, dict) else "range": judged}

    return [
        each | {"rows": [named(*row) for row in each["rows"]]}
        for each in found
        if experiment in (None, each["record"].rpartition("-")[0])
    ]


def compared(record: Record, where: str, row: dict[str, Any], together: int = 1) -> str:
    """A row of the table of `published`: what is reported of a condition, what the record has, and the verdict.

    A rank correlation over the seeds of one group is a single value; the ends of its interval are in the table then.
    """
    ours = record.conditions[row["condition"]]
    if ours.n == 1 and "pooled" in record.table:
        predictor = row["condition"].rpartition("/")[2]
        ends = record.table["pooled"].sel(subset="all", predictor=predictor, end=["low", "high"])
        low, high = map(float, ends)
        here = f"[{ours.mean:.3f}]({where}), {low:.2f} to {high:.2f}, n = {record.table.sizes['seed']}"
        said = "" if "range" not in row else "agrees" if overlap((low, high), row["range"]) else "differs"
        return f"| {row['text']} | {row['reported']} | {here} |  | {said} |"
    interval = f" ± {ours.ci95:.3f}" if ours.ci95 is not None else ""
    here = f"[{ours.mean:.3f}{interval}]({where}), n = {ours.n}"
    apart = ""
    if "sample" in row:
        centre, width = difference(ours, row["sample"], together)
        apart = f"{centre:+.3f}" + (f" ± {width:.3f}" if math.isfinite(width) else "")
    return f"| {row['text']} | {row['reported']} | {here} | {apart} | {verdict(ours, row, together)} |"


def conditions(record: Record) -> str:
    """Every condition of a record as a Markdown table, without the columns of expectations where there are none."""
    judged = bool(record.expectations)
    headings = ("condition", "expected", "band for this run", "produced", "verdict")
    cells = [headings, ["---"] * len(headings)]
    for row in rows(record):
        held = {None: "", True: "holds", False: "missed"}[row.holds]
        cells.append([f"`{row.condition}`", row.expected, row.band, row.produced, held])
    shown = [each if judged else (each[0], each[3]) for each in cells]
    return "".join(f"| {' | '.join(each)} |\n" for each in shown)


class Row(NamedTuple):
    """A condition of a record in words.

    Attributes:
        condition: its name.
        expected: mean and interval of the earlier sample, or "every seed" for a bound; empty without an expectation.
        band: where the produced number should lie.
        produced: mean and interval, or the worst seed where a bound speaks of every seed.
        holds: the verdict; None without an expectation.
    """

    condition: str
    expected: str
    band: str
    produced: str
    holds: bool | None


def rows(record: Record) -> list[Row]:
    """Expected, produced and verdict of every condition."""
    expectations = {row["condition"]: row for row in record.expectations}
    found = []
    for name, ours in record.conditions.items():
        row = expectations.get(name)
        if row is None:
            found.append(Row(name, "", "", mean(ours), None))
        elif row["expected"] is None:
            worst = f"at worst {number(row['produced'])}"
            found.append(Row(name, "every seed", band(row["low"], row["high"]), worst, row["holds"]))
        else:
            expected = f"{number(row['expected'])} ± {number(row['ci95'])}"
            found.append(Row(name, expected, band(row["low"], row["high"]), mean(ours), row["holds"]))
    return found


def mean(summary: Summary) -> str:
    """Mean ± half-width of its 95% interval, where it has one."""
    return number(summary.mean) + ("" if summary.ci95 is None else f" ± {number(summary.ci95)}")


def band(low: float | None, high: float | None) -> str:
    """The ends of a band, either of which may be missing, in words."""
    if low is None or high is None:
        return f"at most {number(high)}" if high is not None else "" if low is None else f"at least {number(low)}"
    return f"exactly {number(low)}" if low == high else f"{number(low)} to {number(high)}"


def number(value: float) -> str:
    """Four decimals, an exact 0 as such, and what they would not show in powers of ten."""
    return "0.0" if value == 0 else f"{value:.4f}" if 1e-3 <= abs(value) < 1e6 else f"{value:.2e}"


def verdict(ours: Summary, row: dict[str, Any], together: int = 1) -> str:
    """Whether a row of `published.toml` agrees with what we found; nothing where nothing is reported.

    `agrees` or `differs`: whether the interval of the `difference` holds 0; or, where words are reported, whether the
    95% interval of our mean meets their range. A single value has no interval and must lie there itself.
    """
    if "sample" in row:
        centre, width = difference(ours, row["sample"], together)
        return "agrees" if abs(centre) <= (width if math.isfinite(width) else 0) else "differs"
    if "range" not in row:
        return ""
    width = ours.ci95 or 0.0
    return "agrees" if overlap((ours.mean - width, ours.mean + width), row["range"]) else "differs"


def overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two intervals, each from its lower to its upper end, have a number in common."""
    return one[1] >= other[0] and one[0] <= other[1]


def difference(ours: Summary, sample: dict[str, float], together: int = 1) -> tuple[float, float]:
    """Our mean minus that of a reported sample, and the half-width of the interval of this difference.

    Args:
        ours: what we found.
        sample: `mean`, and its 95% half-width `ci95`, or its size `n`: its spread is then taken to be ours.
        together: how many such intervals hold together with probability 95%.
    """
    ci95 = sample.get("ci95")
    if ci95 is None and ours.sd is not None:
        ci95 = 1.96 * ours.sd / sample["n"] ** 0.5
    return independent(ours, Summary(sample["mean"], None, ci95, 1, ()), comparisons=together)


if __name__ == "__main__":
    for page in PAGES:
        path = ROOT / page
        path.write_text(filled(path.read_text("utf-8")), "utf-8")
