"""The command `report`: read records and write the page; a damaged record is named and does not stop the rest."""

import os
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from sublim_theory.cli import MISSED, UsageError, command, parse

if TYPE_CHECKING:
    from sublim_theory.record import Record


@dataclass(frozen=True)
class Report:
    """Turn records into one HTML page that needs no network: figures, tables, verdicts, where they come from."""

    folders: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FOLDER ...")]
    """Folders that are records, such as out/fig10-smoke, or hold some, such as out."""
    against: Path | None = None
    """Compare with the records in this folder, matched by experiment and preset."""
    out: Path = Path("report.html")
    """The page to write."""


@command("Turn records into one HTML page that opens anywhere: sublim report FOLDER [FOLDER ...] [options].")
def report(argv: list[str]) -> int:
    """Turn records into one HTML page that opens anywhere: sublim report FOLDER [FOLDER ...] [options].

    The status is 0, or `MISSED` if a record is damaged: the page names it and has the rest. Raises `UsageError` for a
    wrong option or folder, and `RecordError` if no record can be read, or the page cannot be written.
    """
    options = parse(Report, argv, prog="sublim report")
    if not options.folders:
        raise UsageError("name at least one folder of records: sublim report FOLDER [FOLDER ...]")
    places = _places(options.folders)
    others_places = _places([options.against]) if options.against else []

    from sublim_theory.record import RecordError, write_file

    records, damaged = read(places)
    others, unreadable = read(others_places)
    for reason in (damaged := damaged | unreadable).values():
        print(f"sublim: {reason}", file=sys.stderr)
    if not records:
        raise RecordError(f"no record could be read of {len(damaged)}; nothing was written")
    try:
        from reports import page  # templates and charts, which reading does without
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        raise UsageError(f"{missing} is not installed; pip install 'sublim-theory[report]'") from error
    data = page.render(records, list(damaged.values()), others)
    write_file(options.out, data)
    many = f"{len(records)} record{'s' * (len(records) != 1)}"
    print(f"wrote {shlex.quote(str(options.out))}: {many}, {len(data) / 1e6:.1f} MB")
    return MISSED if damaged else 0


def _places(given: Iterable[Path]) -> list[Path]:
    """The folders of records in some, which may be records themselves. Raises `UsageError` for one without any."""
    places = []
    for folder in given:
        inside = [each for each in (folder, *sorted(folder.glob("*"))) if os.path.lexists(each / "summary.json")]
        if not inside:
            raise UsageError(
                f"no record in {folder}: a record is a folder with a summary.json, such as out/fig10-smoke"
            )
        places += inside[:1] if folder in inside else inside
    return places


def read(places: Iterable[Path]) -> "tuple[dict[Path, Record], dict[Path, str]]":
    """The records in these places, and what is wrong with the damaged ones."""
    from reports.text import clip
    from sublim_theory.record import RecordError, load

    records, damaged = {}, {}
    for folder in places:
        try:
            records[folder] = _checked(load(folder))
        except (RecordError, TypeError, ValueError, LookupError, ArithmeticError) as error:
            damaged[folder] = clip(f"{folder} is damaged: {' '.join(str(error).split())}", 600)
    return records, damaged


def _checked(record: "Record") -> "Record":
    """The record, if its expectations can be shown."""
    from experiments import tables
    from experiments.expectations import Verdict

    for row in record.expectations:
        if record.conditions[Verdict(**row).condition] and not isinstance(row["holds"], bool):
            raise TypeError(f"{row['holds']!r} is no verdict")
    tables.rows(record)
    return record
