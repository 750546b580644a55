"""`python -m benchmarks.tables`: write the tables of docs/benchmarks.md from the committed records."""

import importlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks import BENCHMARKS
from sublim_theory.record import RecordError

ROOT = Path(__file__).parent.parent
RECORDS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
PLACE = re.compile(rf"(<!-- ({'|'.join(BENCHMARKS)}):[^>]*-->\n).*?(<!-- /\2 -->)", re.DOTALL)
MISSING = "Not measured yet.\n"


def filled(page: str, records: Path = RECORDS) -> str:
    """The page with every table replaced by that of the record NAME.json in a folder, where there is one.

    Raises:
        RecordError: for a record of another benchmark or version.
    """

    def section(name: str) -> str:
        file = records / f"{name}.json"
        if not file.exists():
            return MISSING
        record, module = json.loads(file.read_text("utf-8")), importlib.import_module(f"benchmarks.{name}")
        if (record["benchmark"], record["schema"]) != (name, module.SCHEMA):
            raise RecordError(f"{file} is no record of {name} in schema {module.SCHEMA}; measure again")
        return f"{origin(record)}\n\n{markdown(module.table(record))}"

    return PLACE.sub(lambda place: place[1] + section(place[2]) + place[3], page)


def origin(record: Mapping[str, Any]) -> str:
    """Where the numbers come from, in one line."""
    machine, provenance = record["machine"], record["provenance"]
    versions = provenance["versions"]
    commit = f"commit {(provenance['commit'] or 'unknown')[:9]}" + (" with changes" if provenance["dirty"] else "")
    return (
        f"{machine['processor']}, {machine['cores']} cores, load {machine['load_at_start']:.1f} at the start; "
        f"Python {versions['python']}, JAX {versions['jax']}, {commit}:"
    )


def markdown(table: Table) -> str:
    """A table of the console as one of Markdown, its title above it."""
    rows = zip(*([str(cell).strip() for cell in column.cells] for column in table.columns), strict=True)
    headings = [str(column.header) for column in table.columns]
    lines = [f"| {' | '.join(row)} |" for row in ([*headings], ["---"] * len(headings), *rows)]
    return "\n".join([f"{table.title}.", "", *lines]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text("utf-8")), "utf-8")
