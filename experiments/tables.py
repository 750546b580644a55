"""Numbers as people read them, and `python -m experiments.tables`: write the tables of the pages from the records.

README.md has what figure 10 costs; docs/experiments.md has its numbers, and what others report and what we find, by the
rows of `published.toml`.
"""

import re
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from experiments.fig10 import NETWORKS
from sublim_theory.record import Record, load
from sublim_theory.statistics import Summary

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
    lines = ["| question | reported | ours ± 95% interval | verdict |", "|---|---|---|---|"]
    for question in questions(experiment):
        lines.append(f"| **{question['text']}** ({question['source']}) | | | |")
        folder = records / question["record"]
        record = load(folder)
        where = f"../figures/{folder.name}" if experiment is None else f"#{record.preset}"
        lines += [_row(record, where, row) for row in question["rows"]]
    return "\n".join(lines) + "\n"


def questions(experiment: str | None = None) -> list[dict[str, Any]]:
    """Those of `published.toml` that the records of an experiment answer, or all."""
    found = tomllib.loads(Path(__file__).with_name("published.toml").read_text("utf-8"))["question"]
    columns = ("text", "condition", "reported", "agrees")
    return [
        each | {"rows": [dict(zip(columns, row, strict=False)) for row in each["rows"]]}  # some agree with no range
        for each in found
        if experiment in (None, each["record"].rpartition("-")[0])
    ]


def _row(record: Record, where: str, row: dict[str, Any]) -> str:
    ours = record.conditions[row["condition"]]
    interval = f" ± {ours.ci95:.3f}" if ours.ci95 is not None else ""
    here = f"[{ours.mean:.3f}{interval}]({where}), n = {ours.n}"
    return f"| {row['text']} | {row['reported']} | {here} | {verdict(record, row)} |"


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


def verdict(record: Record, row: dict[str, Any]) -> str:
    """Whether a row of `published.toml` agrees with its record.

    `agrees` or `differs`: by the row's range, which the 95% interval of our mean must meet, or where it has none by the
    band of the record's own expectation. A single value has no interval and must lie in the range itself.
    """
    ours = record.conditions[row["condition"]]
    if "agrees" in row:
        low, high = row["agrees"]
        width = ours.ci95 or 0.0
        return "agrees" if ours.mean + width >= low and ours.mean - width <= high else "differs"
    expected = {each["condition"]: each["holds"] for each in record.expectations}
    return "agrees" if expected[row["condition"]] else "differs"


if __name__ == "__main__":
    for page in PAGES:
        path = ROOT / page
        path.write_text(filled(path.read_text("utf-8")), "utf-8")
