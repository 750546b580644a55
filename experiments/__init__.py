"""The experiments: one module per figure or claim, run from a clone with `python -m experiments NAME`.

A module that has an `EXPERIMENT` is one; there is no list to keep. Experiments of your own may lie elsewhere: the
folder `experiments` in the one that the environment variable SUBLIM_THEORY_OWN names belongs to this package; see
CONTRIBUTING.md.
"""

import ast
import os
from pathlib import Path

if _own := os.environ.get("SUBLIM_THEORY_OWN"):
    __path__.append(str(Path(_own).expanduser().absolute() / "experiments"))


def _summary(path: Path) -> str | None:
    """The summary of the experiment in a file, which is not imported: that would take seconds for all of them."""
    source = path.read_text("utf-8")
    if "\nEXPERIMENT = " not in source:
        return None
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.targets[0], ast.Name):
            words = {word.arg: word.value for word in node.value.keywords}
            if node.targets[0].id == "EXPERIMENT" and isinstance(summary := words.get("summary"), ast.Constant):
                return str(summary.value)
    return None


EXPERIMENTS = {
    path.stem: summary
    for folder in __path__
    for path in sorted(Path(folder).glob("*.py"))
    if (summary := _summary(path)) is not None
}
"""Name of each module here that is an experiment, and the one line that `sublim list` shows for it."""
