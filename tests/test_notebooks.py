"""The notebooks: each runs from its sources, needs the wheel alone, and shows what it would show if it ran today."""

import ast
import re
import runpy
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
LARGEST = 150_000
"""Bytes of a notebook with its figures."""

IN_THE_WHEEL = {"jax", "matplotlib", "numpy", "optax", "sublim_theory"}
"""And what it depends on, as far as notebooks may use it."""

refresh = SimpleNamespace(**runpy.run_path(str(FOLDER / "refresh.py")))
every = pytest.mark.parametrize("name", NAMES)


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code(notebook):
    """Sources of the code cells, as Python."""
    transform = TransformerManager().transform_cell
    return [transform(cell.source) for cell in notebook.cells if cell.cell_type == "code"]


def shown(notebook):
    """What each code cell shows, but for the numbers and the pixels: words, and how many figures."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [(words(cell), sum(output.output_type == "display_data" for output in cell.outputs)) for cell in cells]


def words(cell):
    text = "".join(output.text for output in cell.outputs if output.output_type == "stream")
    return re.sub(r"[-+]?\d[\d.,]*(?:e[-+]?\d+)?|\s+|nan|inf", " ", text).split()


@every
def test_it_runs_from_its_sources_and_shows_what_is_committed(name, monkeypatch):
    for variable in ("JAX_DISABLE_MOST_OPTIMIZATIONS", "XLA_FLAGS"):  # a notebook computes for longer than it compiles
        monkeypatch.delenv(variable, raising=False)
    committed = read(name)
    assert shown(refresh.executed(committed)) == shown(committed)


@every
def test_its_outputs_are_small_those_of_its_sources_and_say_nothing_of_the_machine(name):
    notebook = read(name)
    assert notebook.metadata.sublim_theory.sources == refresh.fingerprint(notebook), "run docs/notebooks/refresh.py"
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert all(cell.metadata == {} for cell in notebook.cells)
    found = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert {output.output_type for output in found} <= {"stream", "display_data"}  # no error, no stray value
    assert {output.name for output in found if output.output_type == "stream"} == {"stdout"}  # nor a warning
    text = "".join(output.text for output in found if output.output_type == "stream")
    assert not re.search(r"Traceback|Warning|0x[0-9a-f]{6}|(?<![\w.])[/\\~]\w+[/\\]|[A-Z]:\\", text)
    figures = [output for output in found if output.output_type == "display_data"]
    assert len(figures) >= 3
    assert all("image/png" in figure.data for figure in figures)
    assert (FOLDER / f"{name}.ipynb").stat().st_size <= LARGEST


@every
def test_it_imports_nothing_that_is_not_in_the_wheel(name):
    tree = ast.parse("\n".join(code(read(name))))
    imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert "sublim_theory" in imported
    assert {module.split(".")[0] for module in imported} <= IN_THE_WHEEL | set(sys.stdlib_module_names)


@every
@pytest.mark.parametrize("there", [True, False])
def test_the_first_code_cell_installs_the_library_only_where_it_is_missing(name, there, monkeypatch):
    ran = []
    shell = SimpleNamespace(run_line_magic=lambda *magic: ran.append(magic))
    monkeypatch.setattr("importlib.util.find_spec", lambda package: ModuleSpec(package, None) if there else None)
    exec(code(read(name))[0], {"get_ipython": lambda: shell})
    assert ran == ([] if there else [("pip", 'install --quiet "sublim-theory[notebooks]"')])


@every
def test_its_links_lead_somewhere_and_it_ends_with_questions(name):
    prose = [cell.source for cell in read(name).cells if cell.cell_type == "markdown"]
    links = re.findall(r"\]\(([^)#\s]+)", "\n".join(prose))
    inside = [link for link in links if not link.startswith("https://")]
    assert any(link.startswith("../") for link in inside)
    assert [link for link in inside if not (FOLDER / link).exists()] == []
    assert "## Try it yourself\n" in prose[-1]
