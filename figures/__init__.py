"""The figures: one module per experiment, `draw(result) -> {file stem: Figure}`, from the saved record alone.

Nothing here trains or computes; a figure needs numpy, matplotlib and a `Result`. `python -m figures FOLDER` draws
the record in a folder again.
"""

import importlib
import importlib.util
import io
from pathlib import Path

import matplotlib as mpl
import matplotlib.style

from sublim_theory.results import Result, write_file

STYLE = Path(__file__).with_name("sublim.mplstyle")


def save(result: Result, folder: Path) -> list[Path]:
    """Draw the figures of a record as PNG and SVG into a folder; the same record gives the same bytes.

    Raises:
        ClaimError: if the record contradicts what the figure shows; see `drawing`.
        RecordError: if a file cannot be written.
    """
    # A sweep has a module of its own where there is more to show than any sweep has.
    shared = "vary" in result.config and importlib.util.find_spec(f"figures.{result.experiment}") is None
    module = importlib.import_module(f"figures.{'sweep' if shared else result.experiment}")
    paths = []
    with mpl.style.context(STYLE):
        for stem, figure in module.draw(result).items():
            for kind, metadata in {"png": {"Software": None}, "svg": {"Date": None}}.items():
                buffer = io.BytesIO()
                figure.savefig(buffer, format=kind, metadata=metadata)
                path = folder / f"{stem}.{kind}"
                write_file(path, buffer.getvalue())
                paths.append(path)
    return paths
