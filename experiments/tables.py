"""`python -m experiments.tables`: write the table of measured values in the README from the committed record."""

import re
from pathlib import Path

from experiments.fig10 import CONDITIONS
from sublim_theory.results import Result

ROOT = Path(__file__).parent.parent
RECORD = ROOT / "figures" / "fig10-paper"
PLACE = re.compile(r"(<!-- fig10-paper:[^>]*-->\n).*?(<!-- /fig10-paper -->)", re.DOTALL)


def filled(page: str, record: Result) -> str:
    """The page with its table of figure 10 replaced by that of the record."""
    table = _table(record)
    return PLACE.sub(lambda place: place[1] + table + place[2], page)


def _table(record: Result) -> str:
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


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(filled(readme.read_text("utf-8"), Result.load(RECORD, arrays=False)), "utf-8")
