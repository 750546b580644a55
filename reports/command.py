"""The command `report`."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from reports import collect
from reports.text import clip
from sublim_theory.cli import MISSED, UsageError, parse
from sublim_theory.results import RecordError, write_file


@dataclass(frozen=True)
class Report:
    """Turn records into one HTML page that needs no network: figures, tables, verdicts, where they come from."""

    folders: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(metavar="FOLDER [FOLDER ...]", help_behavior_hint="(at least one)"),
    ]
    """Folders that are records, such as out/fig10-smoke, or hold some, such as out."""
    against: Path | None = None
    """Compare with the records in this folder, matched by experiment and preset."""
    out: Path = Path("report.html")
    """The page to write."""


def report(argv: list[str]) -> int:
    """Turn records into one HTML page that opens anywhere: sublim report FOLDER [FOLDER ...] [options].

    Args:
        argv: words of the command line after `report`.

    Returns:
        0, or `MISSED` if a record is damaged: the page names it and has the rest.

    Raises:
        UsageError: for a wrong option, a folder without records, or if what draws the page is not installed.
        RecordError: if no record can be read, or the page cannot be written.
    """
    options = parse(Report, argv, prog="sublim report")
    if not options.folders:
        raise UsageError("name at least one folder of records: sublim report FOLDER [FOLDER ...]")
    records, damaged = collect.read(options.folders)
    others, unreadable = collect.read([options.against]) if options.against else ([], [])
    for each in (damaged := damaged + unreadable):
        print(f"sublim: {clip(each.reason, 600)}", file=sys.stderr)
    if not records:
        raise RecordError(f"no record could be read of {len(damaged)}; nothing was written")
    try:
        from reports import page  # templates and charts, which reading does without
    except ModuleNotFoundError as error:
        library = (error.name or "").split(".")[0]
        if library not in ("jinja2", "plotly"):
            raise
        raise UsageError(f"{library} is not installed; pip install 'sublim-theory[report]'") from error
    data = page.render(records, damaged, against=options.against, others=others)
    write_file(options.out, data)
    many = "s" * (len(records) > 1)
    print(f"wrote {shlex.quote(str(options.out))}: {len(records)} record{many}, {len(data) / 1e6:.1f} MB")
    return MISSED if damaged else 0
