"""Execute the notebooks of this folder anew and keep their outputs: `python docs/notebooks/refresh.py [NAME ...]`.

The outputs are committed, so that GitHub and the documentation show the figures. What is kept beside them says nothing
of when and where they were made.
"""

import base64
import hashlib
import io
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).parent
COLOURS = 256
"""Of a figure that is kept: half of the bytes, and no difference to the eye."""


def fingerprint(notebook: nbformat.NotebookNode) -> str:
    """Of the sources of all cells: outputs that were made from others are stale."""
    return hashlib.sha256("\0".join(cell.source for cell in notebook.cells).encode()).hexdigest()[:16]


def executed(notebook: nbformat.NotebookNode, seconds: int = 240) -> nbformat.NotebookNode:
    """The notebook run from its sources in a fresh kernel, in an empty folder.

    Args:
        notebook: stays as it is.
        seconds: limit of a cell.

    Raises:
        CellExecutionError: if a cell raises.
        CellTimeoutError: if a cell takes longer.
    """
    fresh = nbformat.from_dict(notebook)
    for cell in fresh.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            fresh,
            timeout=seconds,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            record_timing=False,
        )
        client.execute()
    return fresh


def smaller(figure: str) -> str:
    """A PNG, as base64, with a palette."""
    kept = io.BytesIO()
    picture = Image.open(io.BytesIO(base64.b64decode(figure))).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(kept, "PNG", optimize=True)
    return base64.b64encode(kept.getvalue()).decode()


def cleaned(notebook: nbformat.NotebookNode, name: str) -> nbformat.NotebookNode:
    """The notebook with the metadata that everybody's has, cells numbered instead of named at random, small figures."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "sublim_theory": {"sources": fingerprint(notebook)},
        }
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"{name.replace('_', '-')}-{number:02}", nbformat.from_dict({})
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = smaller(output.data["image/png"])
    return notebook


def main(names: list[str]) -> None:
    """Refresh the notebooks of those names, or all; one that warns is left as it was."""
    for path in [FOLDER / f"{name}.ipynb" for name in names] or sorted(FOLDER.glob("*.ipynb")):
        notebook = cleaned(executed(nbformat.read(path, as_version=4)), path.stem)
        nbformat.validate(notebook)
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        if warnings := [output.text for output in outputs if output.get("name") == "stderr"]:
            sys.exit(f"{path.name} is not kept, as it warns:\n{''.join(warnings)}")
        nbformat.write(notebook, path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
