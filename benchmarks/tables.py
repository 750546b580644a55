"""`python -m benchmarks.tables`: write the tables of docs/benchmarks.md from the committed records."""

import json
import re
from pathlib import Path

from benchmarks import turns
from sublim_theory.protocols import SublimError

ROOT = Path(__file__).parent.parent
RECORDS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
PLACE = re.compile(rf"(<!-- ({'|'.join(turns.BENCHMARKS)}):[^>]*-->\n).*?(<!-- /\2 -->)", re.DOTALL)


def filled(page: str, records: Path = RECORDS) -> str:
    """The page with every table replaced by that of the record NAME.json in a folder, where there is one."""
    return PLACE.sub(lambda place: place[1] + _section(records / f"{place[2]}.json") + place[3], page)


def _section(file: Path) -> str:
    if not file.exists():
        return "Not measured yet.\n"
    record = json.loads(file.read_text("utf-8"))
    if record["schema"] != turns.SCHEMA:
        raise SublimError(f"{file} has another schema than {turns.SCHEMA}; measure again")
    origin, (heading, *rows) = record["provenance"], turns.table(record)
    lines = "".join(f"| {' | '.join(row)} |\n" for row in (heading, ["---"] * len(heading), *rows))
    return (
        f"{origin['processor']}, {origin['cores']} cores, load {origin['load_at_start']:.1f} at the start; "
        f"{origin['device']}; Python {origin['versions']['python']}, JAX {origin['versions']['jax']}, "
        f"commit {(origin['commit'] or 'unknown')[:9]}{' with changes' if origin['dirty'] else ''}.\n\n"
        f"{turns.title(record)}:\n\n{lines}"
    )


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text("utf-8")), "utf-8")
