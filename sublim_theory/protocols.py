"""What the layers share: types, the glossary of axis names, the base of errors, the way to look a name up.

Axis names in docstrings, always in this order:

| name | meaning |
|---|---|
| `seeds` | independent repetitions of an experiment; added once, from outside, by `ensemble` |
| `steps` | optimiser updates of one run |
| `batch` | examples that are processed together |
| `features` | pixels of a flattened image |
| `logits` | outputs of a network: the `classes` first, then the `auxiliary` ones |
"""

import difflib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    import jax

Params: TypeAlias = Any
"""A pytree of arrays. Networks of this library use `{layer: {"kernel": ..., "bias": ...}}`."""

Apply: TypeAlias = "Callable[[Params, jax.Array], jax.Array]"
"""`apply(params, x [batch, features]) -> logits [batch, logits]`, a pure function."""

PerExampleLoss: TypeAlias = "Callable[[jax.Array, jax.Array], jax.Array]"
"""`loss(student_logits [batch, logits], teacher_logits [batch, logits]) -> [batch]`, unreduced."""

Value = TypeVar("Value")


def plain(value: Any) -> bool:
    """Whether a value is a plain number, which can be checked; one that is traced cannot."""
    return isinstance(value, int | float)


class SublimError(Exception):
    """An error whose message tells the user what to change; commands print it without a traceback."""


class UnknownNameError(SublimError, ValueError):
    """There is nothing of that name; the message offers the nearest."""


def lookup(kind: str, name: str, options: Mapping[str, Value]) -> Value:
    """Return `options[name]`.

    Raises:
        UnknownNameError: if there is no such name; the message lists the names and offers the nearest one.
    """
    if name in options:
        return options[name]
    near = difflib.get_close_matches(str(name).lower(), options, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UnknownNameError(f"unknown {kind} {name!r}; {hint}choose from: {', '.join(options)}")
