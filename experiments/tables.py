"""`python -m experiments.tables`: write the tables of measured values in the pages from the committed records.

README.md has that of figure 10; docs/experiments.md has what others report and what we find, by the rows of
`published.toml`.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

from experiments.fig10 import CONDITIONS
from sublim_theory.results import Result

ROOT = Path(__file__).parent.parent
RECORDS = ROOT / "figures"
PAGES = ("README.md", "docs/experiments.md")
PLACE = re.compile(r"(<!-- (fig10-paper|published):[^>]*-->\n).*?(<!-- /\2 -->)", re.DOTALL)


def filled(page: str, records: Path = RECORDS) -> str:
    """The page with every table replaced by that of the records in a folder.

    Raises:
        RecordError: if a record is missing or damaged.
        KeyError: for a row about a condition that its record does not have.
    """
    tables = {"fig10-paper": figure_10, "published": published}
    return PLACE.sub(lambda place: place[1] + tables[place[2]](records) + place[3], page)


def figure_10(records: Path) -> str:
    """Figure 10 as published, and ours."""
    record = Result.load(records / "fig10-paper", arrays=False)
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
    for name in CONDITIONS:
        ours, row = record.conditions[name], rows[name]
        lines.append(
            f"| `{name}` | {row['expected']:.4f} ± {row['ci95']:.4f} | {ours.mean:.4f} ± {ours.ci95:.4f} "
            f"| {row['low']:.4f} to {row['high']:.4f} | {'holds' if row['holds'] else 'missed'} |"
        )
    return "\n".join(lines) + "\n"


def published(records: Path) -> str:
    """Question by question: what is reported, what we find and whether the two agree."""
    questions = tomllib.loads(Path(__file__).with_name("published.toml").read_text("utf-8"))["question"]
    lines = ["| question | reported | ours ± 95% interval | verdict |", "|---|---|---|---|"]
    for question in questions:
        lines.append(f"| **{question['text']}** ({question['source']}) | | | |")
        lines += [_row(records / question["record"], row) for row in question["rows"]]
    return "\n".join(lines) + "\n"


def _row(folder: Path, row: dict[str, Any]) -> str:
    record = Result.load(folder, arrays=False)
    ours = record.conditions[row["condition"]]
    interval = f" ± {ours.ci95:.3f}" if ours.ci95 is not None else ""
    here = f"[{ours.mean:.3f}{interval}](../figures/{folder.name}), n = {ours.n}"
    return f"| {row['text']} | {row['reported']} | {here} | {verdict(record, row)} |"


def verdict(record: Result, row: dict[str, Any]) -> str:
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
