"""What is drawn of a record: its conditions in charts, each a few series over places that have something in common.

The page draws a chart with the places side by side and lines between them, or as rows. What belongs together is in
the names: `auxiliary=3,loss=kl/student_aux` in a sweep, `accuracy/teacher`, `interpolated/hidden/0.4`.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from reports.collect import Record
from reports.text import clip

MOST_CONDITIONS = 300
"""Conditions of a record that are drawn."""
MOST_VALUES = 20_000
"""Values of a record that are drawn, over all of its conditions."""

_NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,15})?(e[+-]?\d{1,2})?")
_LAST = ("", "reference", "teacher")  # charts of what does not vary with the question


@dataclass(frozen=True)
class Spot:
    """Where a condition is drawn.

    Attributes:
        chart: title of the chart; empty for one that needs none.
        series: its name; empty where the chart has one only.
        place: label on the axis that the series share.
    """

    chart: str
    series: str
    place: str


@dataclass(frozen=True)
class Chart:
    """A chart, as the page draws it.

    Attributes:
        title: what its conditions have in common; may be empty.
        kind: `lines` over places side by side, or `dots` in rows.
        axis: what the places are; may be empty.
        places: their labels.
        series: rows of `name` and `points`; a point has `at` (the number of its place), `name`, `mean`, `ci95`, `n`,
            `values` and `band`, where the mean was expected to lie.
        seeds: one a value, or None where they are not known.
    """

    title: str
    kind: Literal["lines", "dots"]
    axis: str
    places: list[str]
    series: list[dict[str, Any]]
    seeds: list[int] | None

    @property
    def data(self) -> dict[str, Any]:
        """What the script of the page needs."""
        return {"axis": self.axis, "places": self.places, "series": self.series, "seeds": self.seeds}


def charts(record: Record) -> list[Chart]:
    """The charts of a record, with up to `MOST_CONDITIONS` of its conditions."""
    names = list(record.result.conditions)[:MOST_CONDITIONS]
    points, swept = record.result.config.get("points"), list(record.swept)
    spots, axis = _swept(names, swept), swept[0].replace("_", " ") if swept else ""
    if not spots:
        spots, axis = _changed(names, points if isinstance(points, dict) else {}) or _grouped(names), ""
    together: dict[str, dict[str, Spot]] = {}
    for name, spot in spots.items():
        together.setdefault(spot.chart, {})[name] = spot
    ordered = sorted(together.items(), key=lambda item: item[0] in _LAST)
    return [_chart(record, title, axis, found, bool(axis)) for title, found in ordered]


def _swept(names: Iterable[str], settings: Sequence[str]) -> dict[str, Spot]:
    """Spots over the first setting of a sweep, a chart a condition where there is a second; none for other names."""
    spots = {}
    for name in names:
        point, _, condition = name.partition("/")
        pairs = [pair.partition("=") for pair in point.split(",")]
        if not 1 <= len(settings) <= 2 or [setting for setting, _, _ in pairs] != list(settings):
            return {}
        first, *second = (value for _, _, value in pairs)
        if second:
            spots[name] = Spot(condition, f"{settings[1].replace('_', ' ')} {second[0]}", first)
        else:
            spots[name] = Spot(_head(condition), condition, first)
    return spots


def _changed(names: Iterable[str], points: Mapping[str, Any]) -> dict[str, Spot]:
    """Spots with a row for each change of the settings that a record compares; none for other names."""
    spots = {}
    for name in names:
        point, _, condition = name.partition("/")
        if point not in points:
            return {}
        spots[name] = Spot(_head(condition), condition, point)
    return spots


def _head(name: str) -> str:
    return name.partition("/")[0] if "/" in name else ""


def _grouped(names: Sequence[str]) -> dict[str, Spot]:
    """A chart for all names that begin alike, over the numbers with which they end or go on, if they do."""
    counts = Counter(name.partition("/")[0] for name in names)
    together: dict[str, dict[str, list[str]]] = {}
    for name in names:
        head, *rest = name.split("/")
        if _NUMBER.fullmatch(head):
            head, rest = "by number", [head, *rest]
        elif counts[head] == 1:
            head, rest = "", [name]
        together.setdefault(head, {})[name] = rest or [head]
    spots = {}
    for head, inside in together.items():
        at = next((at for at in (-1, 0) if _numbers([parts[at] for parts in inside.values()])), None)
        for name, parts in inside.items():
            place = "/".join(parts) if at is None else parts.pop(at)
            spots[name] = Spot(head, "" if at is None else "/".join(parts) or head, place)
    return spots


def _numbers(places: Sequence[str]) -> bool:
    """Whether they are numbers, and enough for a line."""
    return len(set(places)) > 2 and all(map(_NUMBER.fullmatch, places))


def _chart(record: Record, title: str, axis: str, spots: Mapping[str, Spot], lines: bool) -> Chart:
    places = list(dict.fromkeys(spot.place for spot in spots.values()))
    if not lines and _numbers(places):
        places, lines = sorted(places, key=float), True
    at = {place: index for index, place in enumerate(places)}
    series: dict[str, list[dict[str, Any]]] = {}
    for name, spot in spots.items():
        series.setdefault(spot.series, []).append({"at": at[spot.place], **_point(record, name)})
    for found in series.values():
        found.sort(key=lambda point: point["at"])
    return Chart(
        clip(title),
        "lines" if lines else "dots",
        clip(axis),
        list(map(clip, places)),
        [{"name": clip(name), "points": found} for name, found in series.items()],
        None if record.seeds is None else list(record.seeds[:MOST_VALUES]),
    )


def _point(record: Record, name: str) -> dict[str, Any]:
    found = record.result.conditions[name]
    share = MOST_VALUES // min(len(record.result.conditions), MOST_CONDITIONS)
    ends = [(each.low, each.high) for each in record.judged.get(name, []) if each.expected is not None]
    return {
        "name": clip(name),
        "mean": _short(found.mean),
        "ci95": None if found.ci95 is None else _short(found.ci95),
        "n": found.n,
        "values": list(map(_short, found.values[:share])),
        "band": list(ends[0]) if ends and None not in ends[0] else None,
    }


def _short(value: float) -> float:
    """Six digits: more than a chart shows, and a third of the bytes."""
    return float(f"{value:.6g}")
