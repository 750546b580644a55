"""The experiments: one module per figure or claim, run from a clone with `python -m experiments NAME`.

A module that has an `EXPERIMENT` is one; there is no list to keep. Experiments of your own may lie elsewhere: the
folder `experiments` in the one that the environment variable SUBLIM_THEORY_OWN names belongs to this package; see
CONTRIBUTING.md.

What there is, is read from the source here: importing it all takes seconds, and `sublim list` does without.
"""

import ast
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

if _own := os.environ.get("SUBLIM_THEORY_OWN"):
    __path__.append(str(Path(_own).expanduser().absolute() / "experiments"))


@cache
def _names(module: str) -> dict[str, ast.expr | ast.alias]:
    """What each name at the top of a module of this package stands for: an expression, or a name imported from here."""
    path = next(path for folder in __path__ if (path := Path(folder) / f"{module}.py").is_file())
    found: dict[str, ast.expr | ast.alias] = {}
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, node.value)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("experiments"):
            found |= {each.asname or each.name: ast.alias(f"{node.module}.{each.name}") for each in node.names}
    return found


def _words(call: ast.expr | ast.alias | None) -> dict[str, ast.expr]:
    return {word.arg: word.value for word in call.keywords if word.arg} if isinstance(call, ast.Call) else {}


def _keys(value: ast.expr | ast.alias | None, module: str) -> Iterator[str]:
    """The keys of a dictionary that is written out, named, imported, or made with `|` of such."""
    if isinstance(value, ast.Dict):
        for key, inner in zip(value.keys, value.values, strict=True):
            if isinstance(key, ast.Constant):
                yield str(key.value)
            elif key is None:
                yield from _keys(inner, module)
    elif isinstance(value, ast.BinOp):
        yield from _keys(value.left, module)
        yield from _keys(value.right, module)
    elif isinstance(value, ast.Name):
        yield from _keys(_names(module).get(value.id), module)
    elif isinstance(value, ast.alias):
        _, other, name = value.name.rsplit(".", 2)
        yield from _keys(_names(other).get(name), other)


def _listed() -> Iterator[tuple[str, str, tuple[str, ...], bool]]:
    """Name, summary and presets of every experiment, and whether it is a module of its own or a named sweep."""
    for path in (path for folder in __path__ for path in sorted(Path(folder).glob("*.py"))):
        if "\nEXPERIMENT = " not in path.read_text("utf-8"):
            continue
        words = _words(_names(module := path.stem).get("EXPERIMENT"))
        if isinstance(summary := words.get("summary"), ast.Constant):
            yield module, str(summary.value), tuple(dict.fromkeys(_keys(words.get("presets"), module))), True
    sweeps = _names("sweeps")
    table = sweeps["SWEEPS"]
    for key, call in zip(table.keys, table.values, strict=True) if isinstance(table, ast.Dict) else ():
        if isinstance(key, ast.Constant) and isinstance(call, ast.Call) and isinstance(call.args[0], ast.Constant):
            presets = _words(call).get("presets", sweeps["PRESETS"])
            yield str(key.value), str(call.args[0].value), tuple(dict.fromkeys(_keys(presets, "sweeps"))), False


_found = tuple(_listed())

SUMMARIES = {name: summary for name, summary, _, _ in _found}
"""Every experiment and named sweep, and the one line that `sublim list` shows for it."""
PRESETS = {name: presets for name, _, presets, _ in _found}
"""The presets of each."""
EXPERIMENTS = {name: summary for name, summary, _, own_module in _found if own_module}
"""Those that are modules of this package."""
