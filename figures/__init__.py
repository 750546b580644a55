"""The figures: one module per experiment, `draw(record) -> {file stem: Figure}`, from the saved record alone.

Nothing here trains or computes; a figure needs numpy, matplotlib and a `Record`. `python -m figures FOLDER` draws the
record in a folder again. An experiment without a module of its own is drawn by the axes of its table, see `plots`; so
are sweeps. Figures of your own may lie in the folder `figures` of the one that SUBLIM_THEORY_OWN names.
"""

import importlib
import importlib.util
import io
import os
from pathlib import Path

import matplotlib as mpl
import matplotlib.style

from sublim_theory.protocols import SublimError
from sublim_theory.record import Record, write_file

if _own := os.environ.get("SUBLIM_THEORY_OWN"):
    __path__.append(str(Path(_own).expanduser().absolute() / "figures"))

STYLE = Path(__file__).with_name("sublim.mplstyle")


class ClaimError(SublimError, AssertionError):
    """A record misses what is expected of it, so no figure is drawn that would claim otherwise."""


def save(record: Record, folder: Path) -> list[Path]:
    """Draw the figures of a record as PNG and SVG into a folder; the same record gives the same bytes.

    Raises:
        ClaimError: if an expectation of the record does not hold.
        RecordError: if a file cannot be written.
    """
    missed = [row["condition"] for row in record.expectations if not row["holds"]]
    if missed:
        raise ClaimError(f"not drawn, for the record misses what is expected of it: {', '.join(missed)}")
    own = record.experiment.isidentifier() and importlib.util.find_spec(f"figures.{record.experiment}") is not None
    module = importlib.import_module(f"figures.{record.experiment if own else 'any_record'}")
    paths = []
    # From matplotlib's own defaults, so that the pictures are the same whatever the user has configured.
    with mpl.style.context(["default", STYLE]):
        for stem, figure in module.draw(record).items():
            for kind, metadata in {"png": {"Software": None}, "svg": {"Date": None}}.items():
                buffer = io.BytesIO()
                figure.savefig(buffer, format=kind, metadata=metadata)
                path = folder / f"{stem}.{kind}"
                write_file(path, buffer.getvalue())
                paths.append(path)
    return paths
