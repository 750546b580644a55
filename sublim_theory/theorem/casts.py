"""Casts to fewer bits inside a function, which the dtype of its result does not show."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def narrowest(function: Callable[..., Any], *arguments: Any) -> np.dtype | None:
    """The dtype to which `function` casts a float64 that depends on its arguments; None where it casts none.

    Only the derivative is searched, so that constants in any dtype, and what is computed from them alone, count for
    nothing. Nothing is computed: the function is traced.

    Args:
        function: a differentiable function of pytrees of float64 arrays.
        arguments: where it is traced; values do not matter.
    """
    found: list[np.dtype] = []

    def trace(*arguments: Any) -> None:
        _, derivative = jax.linearize(function, *arguments)
        for equation in _equations(jax.make_jaxpr(derivative)(*arguments)):
            taken, given = ([_dtype(v) for v in side] for side in (equation.invars, equation.outvars))
            if np.float64 in taken:
                found.extend(dtype for dtype in given if jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 8)

    jax.eval_shape(trace, *arguments)
    return min(found, key=lambda dtype: dtype.itemsize, default=None)


def _equations(jaxpr: Any) -> Iterator[Any]:
    """Every equation that holds no other ones; in loops, branches and calls too."""
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        values = [v for value in equation.params.values() for v in (value if isinstance(value, tuple) else (value,))]
        inner = [value for value in values if hasattr(getattr(value, "jaxpr", value), "eqns")]
        for value in inner:
            yield from _equations(value)
        if not inner:
            yield equation


def _dtype(variable: Any) -> Any:
    return getattr(variable.aval, "dtype", None)
