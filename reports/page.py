"""The page: what is shown of every record, put into the template with its style, its script and the chart library.

All of it is in the one file. A content security policy allows exactly the scripts that are put in here, and no address
outside: whatever slipped through the escaping would not run.
"""

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

import sublim_theory
from experiments import tables
from reports import known, text
from reports.charts import MOST_CONDITIONS, Chart, charts
from reports.collect import Damage, Record
from reports.comparison import Comparison, match
from sublim_theory.statistics import Summary

MOST_ROWS = 1000
"""Rows of a table that are shown."""

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Section:
    """A record as the page shows it.

    Attributes:
        anchor: to link to.
        title: experiment and preset, see `_titles`.
        record: the record.
        claim: what the experiment is about, see `known.claim`.
        charts: of its conditions.
        rows: of its table, each with the values that it is about; `MOST_ROWS` at most.
        sources: where the expected values come from.
        command: that makes it again, or None.
        origin: name and value of everything in its provenance.
        config: name and value of its settings.
        comparison: with the other run of it, if there is one.
    """

    anchor: str
    title: str
    record: Record
    claim: list[known.Block]
    charts: list[Chart]
    rows: list[tuple[tables.Row, Summary]]
    sources: list[str]
    command: str | None
    origin: list[tuple[str, str]]
    config: list[tuple[str, str]]
    comparison: Comparison | None

    @property
    def held(self) -> int:
        """Number of expectations that hold."""
        return sum(verdict.holds for verdict in self.record.verdicts)


def render(
    records: Sequence[Record],
    damaged: Sequence[Damage] = (),
    *,
    against: Path | None = None,
    others: Sequence[Record] = (),
) -> bytes:
    """The page.

    Args:
        records: what it is about; at least one.
        damaged: what could not be read.
        against: folder of the records to compare with, if any.
        others: these records.
    """
    found, left = match(records, others)
    titles = _titles(records)
    sections = [_section(f"record-{i}", *each) for i, each in enumerate(zip(titles, records, found, strict=True), 1)]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for each in (name, text.clip, text.seeds, text.duration, tables.number, tables.mean, span):
        environment.filters[each.__name__] = each
    scripts = [_script(get_plotlyjs()), _script((_HERE / "report.js").read_text("utf-8"))]
    page = environment.get_template("report.html").render(
        sections=sections,
        damaged=damaged,
        against=against,
        left=left,
        folders=list(dict.fromkeys(str(record.folder.parent) for record in records)),
        made=datetime.now(UTC),
        version=sublim_theory.__version__,
        most_rows=MOST_ROWS,
        most_conditions=MOST_CONDITIONS,
        style=Markup((_HERE / "report.css").read_text("utf-8")),
        scripts=scripts,
        policy="; ".join(
            [
                "default-src 'none'",
                f"script-src {' '.join(map(_hash, scripts))}",
                "style-src 'unsafe-inline'",
                "img-src data:",
                "base-uri 'none'",
                "form-action 'none'",
            ]
        ),
    )
    return page.encode("utf-8", "replace")


def _script(source: str) -> Markup:
    """A script as it may stand inside the page, with the line ends that a browser reads and hashes."""
    lines = source.replace("\r\n", "\n").replace("\r", "\n")
    return Markup(lines.replace("</script", r"<\/script").replace("<!--", r"<\!--"))


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _titles(records: Sequence[Record]) -> list[str]:
    """Experiment and preset, and the folder where these are the same."""
    parts = [(each.result.experiment.replace("_", " "), each.result.preset) for each in records]
    titles = [", ".join(text.clip(part, 60) for part in pair) for pair in parts]
    folders = [text.clip(str(each.folder)) for each in records]
    return [
        f"{title} ({folder})" if titles.count(title) > 1 else title
        for title, folder in zip(titles, folders, strict=True)
    ]


def _section(anchor: str, title: str, record: Record, comparison: Comparison | None) -> Section:
    result = record.result
    return Section(
        anchor=anchor,
        title=title,
        record=record,
        claim=known.claim(record),
        charts=charts(record),
        rows=list(zip(tables.rows(result), result.conditions.values(), strict=True))[:MOST_ROWS],
        sources=list(dict.fromkeys(text.clip(verdict.source, 500) for verdict in record.verdicts)),
        command=None if (again := known.command(record)) is None else text.clip(again, 2000),
        origin=list(_origin(record)),
        config=_pairs(result.config),
        comparison=comparison,
    )


def name(condition: str) -> Markup:
    """The name of a condition, which may be broken between its parts."""
    return Markup("<wbr>").join(re.split(r"(?<=[/,])", text.clip(condition)))


def span(found: Summary) -> str:
    """Lowest and highest of the values."""
    low, high = min(found.values), max(found.values)
    return tables.number(low) if low == high else tables.band(low, high)


def _origin(record: Record) -> Iterator[tuple[str, str]]:
    """Everything in the provenance: the seeds as a range, the versions one by one, the rest as it is."""
    yield "record", text.value(str(record.folder / "summary.json"))
    yield "wall_seconds", f"{record.result.wall_seconds:.6g}"
    for key, found in record.result.provenance.items():
        if key == "seeds":
            yield "seeds", text.seeds(record.seeds)
        elif key == "versions" and isinstance(found, dict):
            yield from ((f"version of {package}", version) for package, version in _pairs(found))
        elif key == "dirty":
            yield "uncommitted changes", text.value("unknown" if found is None else found)
        else:
            yield from _pairs({key: found})


def _pairs(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(text.clip(key), text.value(each)) for key, each in list(found.items())[:MOST_ROWS]]
