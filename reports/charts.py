"""What is drawn of a record: charts of every variable that has conditions, laid out by the axes of the table.

One axis has the places: one that the record varies, else the longest one of numbers, else the last. Places stand side
by side with lines between them if they are numbers or values of a setting, else each has a row. The next axis has the
series; every entry of those that are left has a chart of its own.
"""

import html
from collections.abc import Iterator, Sequence
from itertools import groupby

import plotly.graph_objects as go

from experiments import tables
from reports.known import swept
from reports.text import clip
from sublim_theory.record import Record, Row, label

MOST_CONDITIONS, MOST_VALUES = 300, 20_000
"""What is drawn of a record; the values are those of all conditions together."""

# Close to Okabe and Ito's, told apart by the colour-blind, 3 to 1 on white and on black; every round has other symbols.
_COLOURS = ("#0072b2", "#d55e00", "#007d5a", "#b0417f", "#8a6500", "#2b86b8", "#6b7079")
_SYMBOLS = ("circle", "square", "diamond", "triangle-down", "triangle-up", "star", "hexagon")
_CLEAR = "rgba(0,0,0,0)"
_BAND = {"marker": {"color": "rgba(128,128,128,.3)"}, "hoverinfo": "skip", "showlegend": False}
_VALUES = {"boxpoints": "all", "pointpos": 0, "jitter": 1, "marker": {"size": 5, "opacity": 0.45}, "showlegend": False}
_VALUES |= {"fillcolor": _CLEAR, "line": {"color": _CLEAR}, "hoveron": "points", "hoverinfo": "text"}
_LAYOUT = {"paper_bgcolor": _CLEAR, "plot_bgcolor": _CLEAR, "font": {"family": "system-ui"}, "hovermode": "closest"}
_LAYOUT |= {"margin": {"l": 8, "r": 16, "t": 8, "b": 40}, "legend": {"orientation": "h", "yanchor": "bottom", "y": 1}}
_LAYOUT |= {"annotationdefaults": {"showarrow": False, "xanchor": "left", "yanchor": "top"}}
_LAYOUT |= dict.fromkeys(("barmode", "boxmode", "scattermode"), "group")
_TEMPLATE = {
    "data": {"bar": [_BAND], "box": [_VALUES], "scatter": [{"marker": {"size": 10}, "hoverinfo": "text"}]},
    "layout": _LAYOUT,
}


def charts(record: Record) -> Iterator[tuple[str, go.Figure]]:
    """The charts of a record, each with its title; they have up to `MOST_CONDITIONS` of its conditions."""
    for variable, members in groupby(record.rows[:MOST_CONDITIONS], key=lambda row: row.variable):
        rows, together = list(members), dict[str, list[Row]]()
        axes, lines = _axes(record, rows)
        for row in rows:
            title = ", ".join([variable, *(f"{axis} {label(row.at[axis])}" for axis in axes[2:])])
            together.setdefault(title.replace("_", " "), []).append(row)
        for title, each in together.items():
            yield clip(title), _figure(record, each, *[*axes, "", ""][:2], lines=lines)


def _axes(record: Record, rows: Sequence[Row]) -> tuple[list[str], bool]:
    """The axes of a variable: that of the places, that of the series, the others; and whether there are lines."""
    axes = list(rows[0].at)[::-1]
    size = {axis: len({row.at[axis] for row in rows}) for axis in axes}
    numeric = [axis for axis in axes if size[axis] > 2 and isinstance(rows[0].at[axis], int | float)]
    varied = [axis for axis in swept(record) if axis in axes]
    axes = list(dict.fromkeys([*(varied or sorted(numeric, key=lambda axis: -size[axis])[:1]), *axes]))
    return axes, bool(axes) and (axes[0] in numeric or (axes[0] in varied and axes[0] in record.config))


def _figure(record: Record, rows: Sequence[Row], across: str, by: str, *, lines: bool) -> go.Figure:
    """A chart with the places along one axis of the table and the series along another; rows have their names above."""
    entries = {row.at.get(across, row.name): None for row in rows}
    numbers = lines and isinstance(next(iter(entries)), int | float)
    places = [_text(label(entry)) for entry in (sorted(entries) if numbers else entries)]
    series: dict[str, list[Row]] = {}
    for row in rows:
        series.setdefault(label(row.at.get(by, "")), []).append(row)
    bands = {each["condition"]: each for each in record.expectations if None not in each.values()}
    x, y, way = ("x", "y", "v") if lines else ("y", "x", "h")  # along the places, along the values
    over = record.table[rows[0].variable].attrs["over"]
    sample = [_text(f"{over} {label(each)}") for each in record.table[over].values]
    most = MOST_VALUES // min(MOST_CONDITIONS, len(record.rows))
    figure = go.Figure(layout={"template": _TEMPLATE})
    for number, (name, members) in enumerate(series.items()):
        common = {"offsetgroup": str(number), "legendgroup": str(number), "orientation": way}
        colour, symbol = _COLOURS[number % 7], _SYMBOLS[(number + number // 7) % 7]
        at = [_text(label(row.at.get(across, row.name))) for row in members]
        expected = [(place, bands[row.name]) for place, row in zip(at, members, strict=True) if row.name in bands]
        low, height = [each["low"] for _, each in expected], [each["high"] - each["low"] for _, each in expected]
        figure.add_bar(**{x: [place for place, _ in expected], y: height}, base=low, **common)
        points = []
        for place, row in zip(at, members, strict=True):
            known = sample if len(sample) == row.summary.n else [over] * row.summary.n
            for what, value in list(zip(known, row.summary.values, strict=True))[:most]:
                points.append((place, float(f"{value:.7g}"), f"{_text(row.name)}<br>{what}: {tables.number(value)}"))
        where, values, told = ([point[i] for point in points] for i in range(3))
        figure.add_box(**{x: where, y: values}, hovertext=told, marker_color=colour, **common)
        told = [f"{_text(row.name)}<br>mean {tables.mean(row.summary)}<br>n = {row.summary.n}" for row in members]
        figure.add_scatter(
            **{x: at, y: [row.summary.mean for row in members]},
            **{f"error_{y}_array": [row.summary.ci95 for row in members]},
            **{"name": _text(name), "hovertext": told, "mode": "lines+markers" if lines else "markers"},
            **{"marker_color": colour, "marker_symbol": symbol} | common,
        )
    size = 36 + 16 * len(series)  # pixels of a row, its name included
    gaps = dict.fromkeys(("bargap", "boxgap", "scattergap"), 0.8 if lines else 36 / size)
    along = {"type": "category", "categoryarray": places, "showgrid": False, "showticklabels": lines}
    along |= {"title": _text(across) if lines else "", "range": [-0.5, len(places) - 0.5][:: 1 if lines else -1]}
    scale = {"rangemode": "tozero", "nticks": 6, "exponentformat": "power", "showgrid": True, "automargin": True}
    names = [{"text": name, "x": 0, "xref": "paper", "y": at - 0.5} for at, name in enumerate(places)]
    return figure.update_layout(
        **gaps | {f"{x}axis": along, f"{y}axis": scale, "annotations": () if lines else names},
        **{"showlegend": bool(by), "legend_title": _text(by)},
        height=48 + (280 if lines else size * len(places)) + (24 * -(-len(series) // 2) if by else 0),
    )


def _text(text: str) -> str:
    """A text for Plotly, which reads markup in what it writes."""
    return html.escape(clip(text, 60), quote=False)
