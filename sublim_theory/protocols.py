"""What the layers share: checks of single settings, the base of errors, the way to look a name up.

Nothing here imports JAX until a number that is not Python's is checked, so that commands which compute nothing are
quick. Types and the glossary of axis names are in `_types`.
"""

import difflib
import math
import numbers
import operator
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import numpy as np

Value = TypeVar("Value")


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


def plain(value: Any) -> bool:
    """Whether a value can be looked at now, whatever its type; one that is traced cannot."""
    jax = sys.modules.get("jax")  # without JAX nothing is traced
    if jax is None or not hasattr(value, "aval"):
        return True
    try:
        value.__array__()
    except jax.errors.TracerArrayConversionError:
        return False
    except (AttributeError, TypeError):  # a literal of JAX, which is a float; a PRNG key
        pass
    return True


def concrete(argument: str, value: Any) -> "np.ndarray":
    """A value as an array of numpy.

    Raises:
        ValueError: naming the argument, where it is traced, a PRNG key or no array.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np

    dtype = getattr(value, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
        raise ValueError(f"{argument} is a PRNG key, which is no array of numbers; let f close over it instead")
    try:
        return np.asarray(value)
    except jax.errors.TracerArrayConversionError as error:
        raise ValueError(
            f"{argument} is traced; the theorem is checked on numbers, so call it outside jax.jit"
        ) from error


def require_number(argument: str, value: Any) -> float:
    """A real number, of Python, NumPy or JAX, as a float.

    Raises:
        ValueError: naming the argument, where it is none, not finite, or traced.
    """
    number = _real(argument, value, "a number, finite")
    if not math.isfinite(number):
        raise ValueError(f"{argument} must be finite, got {value}")
    return number


def require_positive(argument: str, value: Any) -> float:
    """A size as a float.

    Raises:
        ValueError: naming the argument, where it is no number, not positive and finite, or traced.
    """
    number = _real(argument, value, "a number, positive and finite")
    if not 0 < number < math.inf:
        raise ValueError(f"{argument} must be positive and finite, got {value}")
    return number


def positive_unless_traced(argument: str, value: Any) -> Any:
    """`require_positive` of a setting that may be traced: one that is cannot be looked at, and is returned as it is."""
    return require_positive(argument, value) if plain(value) else value


def require_positives(argument: str, values: Iterable[Any]) -> list[float]:
    """Sizes as floats, in their order.

    Raises:
        ValueError: naming the argument, where there is none, or one is no number, or not positive and finite.
    """
    try:
        sizes = list(values)
    except TypeError as error:
        raise ValueError(f"{argument} must be a sequence, got {values!r}; write ({values!r},) for one") from error
    if not sizes:
        raise ValueError(f"{argument} must be positive and finite, at least one of them; got []")
    return [require_positive(argument, size) for size in sizes]


def require_integer(argument: str, value: Any) -> int:
    """A whole number, of Python, NumPy or JAX, as an int; 3.0 is none.

    Raises:
        ValueError: naming the argument, where it is none, or traced.
    """
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise ValueError(f"{argument} must be a whole number, got {value!r}")


def require_count(argument: str, value: Any, least: int = 1) -> int:
    """A whole number that is not below `least`.

    Raises:
        ValueError: naming the argument, where it is none, less than `least`, or traced.
    """
    count = require_integer(argument, value)
    if count < least:
        raise ValueError(f"{argument} must be at least {least}, got {count}")
    return count


def _real(argument: str, value: Any, kind: str) -> float:
    """A real scalar as a float, finite or not."""
    if not isinstance(value, bool) and isinstance(value, numbers.Real):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    import jax.numpy as jnp

    array = concrete(argument, value)
    if array.ndim or not (jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)):
        raise ValueError(f"{argument} must be {kind}; got {value!r}")
    return float(array)
