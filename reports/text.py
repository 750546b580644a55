"""What the page says in words and numbers: short, printable, whatever a record holds."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

LONGEST = 200
"""Characters of a name that are shown."""


def clip(text: str, longest: int = LONGEST) -> str:
    """A text without control characters and what else cannot be seen, cut to `longest` characters."""
    cut = text if len(text) <= longest else text[: longest - 1] + "…"
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in cut)


def value(found: Any, longest: int = 500) -> str:
    """Anything that JSON can hold, as one line."""
    if isinstance(found, str):
        return clip(found, longest)
    if found is None or isinstance(found, bool):
        return {None: "none", True: "yes", False: "no"}[found]
    try:
        return clip(json.dumps(found, ensure_ascii=False), longest)
    except RecursionError:
        return "nested too deeply to show"


def seeds(found: Sequence[int] | None) -> str:
    """Seeds that follow each other as a range."""
    if not found:
        return "unknown"
    if len(found) > 2 and all(after == before + 1 for before, after in pairwise(found)):
        return f"{found[0]} to {found[-1]}"
    return clip(", ".join(map(str, found)))


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:,.1f} h"[:LONGEST]
