"""The page, all of it in one file: every record in charts and tables, with style, scripts and the chart library.

Whatever is printed is cut to a length and escaped. Should something slip through, the content security policy allows
exactly the scripts that are put in here, and no address outside.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from experiments import tables
from experiments.registry import docstring
from reports import known
from reports.charts import MOST_CONDITIONS, charts
from reports.comparison import compare, match
from reports.text import value
from sublim_theory.record import Record

MOST_ROWS = 1000
"""Rows of a table that are shown."""
_HERE = Path(__file__).parent


def render(records: Mapping[Path, Record], damaged: Sequence[str], others: Mapping[Path, Record]) -> bytes:
    """The page about records by folder, with what is wrong with damaged ones, beside other runs of them."""
    pairs = match(records, others)
    scripts = [_script(get_plotlyjs()), _script((_HERE / "report.js").read_text("utf-8"))]
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        finalize=lambda found: found if isinstance(found, Markup) else value(found),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters |= {"band": tables.band, "mean": lambda found: tables.mean(found) if found else "not there"}
    page = environment.get_template("report.html").render(
        sections=[_section(each, record, others.get(pairs.get(each, each))) for each, record in records.items()],
        damaged=damaged,
        others=others,
        left=[str(folder) for folder in others if folder not in pairs.values()],
        most=MOST_ROWS,
        most_drawn=MOST_CONDITIONS,
        made=datetime.now(UTC).strftime("%Y-%m-%d, %H:%M UTC"),
        style=Markup((_HERE / "report.css").read_text("utf-8")),
        scripts=dict(zip(hashes, scripts, strict=True)),
    )
    return page.encode("utf-8", "replace")


def _script(source: str) -> Markup:
    """A script as it may stand inside the page, with the line ends that a browser reads and hashes."""
    lines = source.replace("\r\n", "\n").replace("\r", "\n")
    return Markup(lines.replace("</script", r"<\/script").replace("<!--", r"<\!--"))


def _section(folder: Path, record: Record, other: Record | None) -> dict[str, Any]:
    """What the template shows of a record."""
    experiment, origins = known.experiment(record), (_origin(record), _origin(other or record))
    changed = [[name, *(each.get(name, "not there") for each in origins)] for name in origins[0] | origins[1]]
    return {
        "title": f"{record.experiment.replace('_', ' ')}, {record.preset}",
        "folder": str(folder),
        "record": record,
        "summary": experiment and experiment.summary,
        "docstring": experiment and escape(docstring(experiment.name) or docstring((experiment.of or experiment).name)),
        "charts": charts(record),
        "rows": list(zip(tables.rows(record), record.conditions.values(), strict=True)),
        "differences": other and compare(record, other),
        "changed": [row for row in changed if row[1] != row[2]],
        "origin": list(origins[0].items()),
        "command": known.command(record),
    }


def _origin(record: Record) -> dict[str, Any]:
    return {f"{part}: {key}": each for part in ("config", "provenance") for key, each in getattr(record, part).items()}
