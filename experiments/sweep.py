"""Sweeps: an experiment at every value of one setting, or at every pair of values of two, as an experiment itself.

The record has an axis for each setting that varies, named by it; a condition is called `auxiliary=3/student_aux`.
"""

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.experiment import Changes, Experiment, Settings
from sublim_theory.cli import UsageError
from sublim_theory.protocols import lookup
from sublim_theory.record import label

Values = Mapping[str, Sequence[Any]]
"""Setting -> the values that it takes; in the order of the axes of the figure."""


def over(of: Experiment, values: Callable[[str], Values], **fields: Any) -> Experiment:
    """The sweep of an experiment.

    Args:
        of: what is run at every point.
        values: `values(preset)`, what varies.
        **fields: of `Experiment`, such as its name and summary; presets are those of the experiment unless given.

    Raises:
        UsageError: when run, for a setting that is not there or that every point has anyway, or without values.
    """

    def vary(settings: Settings[Any, Any], preset: str) -> dict[str, dict[Any, Changes]]:
        varied = values(preset)
        if not 1 <= len(varied) <= 2:
            found = f"a sweep varies one setting or two, not {len(varied)}"
            raise UsageError(f"{found}; give --vary SETTING=VALUE,VALUE,...")
        for name, every in varied.items():
            lookup("setting", name, settings.of_a_seed())
            if not every:
                raise UsageError(f"--vary {name} has no values")
            if len(set(every)) < len(every):
                raise UsageError(f"--vary {name} has a value twice: {', '.join(map(label, every))}")
        taken = {*of.axes(settings), *of.variables}
        return {
            f"setting_{name}" if name in taken else name: {value: {name: value} for value in every}
            for name, every in varied.items()
        }

    return Experiment(vary=vary, of=of, **{"presets": of.presets, **fields})


def parse_vary(settings: Settings[Any, Any], words: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """`["auxiliary=1,2,3", "hidden=64x64,256x256"]` as values of the types of the settings.

    Raises:
        UsageError: for a word of another form, or a value that its setting cannot read.
    """
    hints: dict[str, Any] = {}
    for part in (settings, settings.protocol, settings.rates):
        hints |= typing.get_type_hints(type(part))
    vary: dict[str, tuple[Any, ...]] = {}
    for word in words:
        name, equals, values = word.partition("=")
        name = name.replace("-", "_")
        if not equals:
            raise UsageError(f"--vary takes SETTING=VALUE,VALUE,..., got {word!r}")
        lookup("setting", name, settings.flat())
        vary[name] = tuple(_read(name, hints[name], value) for value in values.split(",") if value)
    return vary


def _read(name: str, hint: Any, text: str) -> Any:
    choices = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    if type(None) in choices and text.lower() == "none":
        return None
    for choice in choices:
        try:
            if typing.get_origin(choice) is tuple:
                parts = [] if text.lower() == "none" else text.split("x")
                return tuple(typing.get_args(choice)[0](part) for part in parts)
            if choice is bool:
                return {"true": True, "false": False}[text.lower()]
            if choice is not type(None):
                return choice(text)
        except (ValueError, KeyError):
            continue
    raise UsageError(f"--vary {name}: cannot read {text!r} as {getattr(hint, '__name__', hint)}")
