"""The one way in which results of this package print their rows."""

from collections.abc import Mapping, Sequence


def table(columns: Mapping[str, tuple[str, Sequence[float]]]) -> list[str]:
    """Lines of a table, titles first.

    Args:
        columns: for each title the format of its numbers, with its width ("9.1e"), and the numbers.

    >>> table({"n": ("3d", [1, 22]), "half": ("6.1f", [0.5, 11.0])})
    ['  n   half', '  1    0.5', ' 22   11.0']
    """
    widths = [int(form.split(".")[0].rstrip("defg")) for form, _ in columns.values()]
    titles = " ".join(f"{title:>{width}}" for title, width in zip(columns, widths, strict=True))
    rows = zip(*(numbers for _, numbers in columns.values()), strict=True)
    forms = [form for form, _ in columns.values()]
    return [titles, *(" ".join(format(n, form) for n, form in zip(row, forms, strict=True)) for row in rows)]
