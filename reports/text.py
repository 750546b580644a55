"""What the page says of what a record holds, which may come from anywhere: short and printable."""

import json
from typing import Any


def clip(text: str, longest: int = 200) -> str:
    """A text without control characters and what else cannot be seen, cut to a length."""
    cut = text if len(text) <= longest else text[: longest - 1] + "…"
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in cut)


def value(found: Any) -> str:
    """Anything that JSON can hold, as one line."""
    try:
        return clip(found if isinstance(found, str) else json.dumps(found, ensure_ascii=False), 500)
    except RecursionError:
        return "nested too deeply to show"
