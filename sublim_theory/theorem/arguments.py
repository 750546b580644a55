"""Checks of single arguments: errors that name the argument, say what is wrong with it and what to do."""

import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from sublim_theory.protocols import Params

Logits: TypeAlias = slice | Sequence[int] | Sequence[bool] | None
"""Which outputs the student imitates: a slice, indices, or a mask of all outputs."""


def float64_params(argument: str, params: Params) -> Params:
    """A pytree of parameters in float64.

    Raises:
        ValueError: if there is none, or a leaf is no floating-point array, not finite, or traced.
    """
    if isinstance(params, dict) and "params" in params and len(params) > 1:
        raise ValueError(
            f"{argument} holds the collections {sorted(params)}; hand in {argument}['params'] alone and let f close "
            "over the others"
        )
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    if not leaves:
        raise ValueError(f"{argument} has no leaves; there is nothing to differentiate")
    for path, leaf in leaves:
        name = f"{argument}{jax.tree_util.keystr(path)}"
        array = concrete(name, leaf)
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(f"{name} has dtype {array.dtype}, which has no gradient; let f close over it instead")
        if not np.isfinite(array.astype(np.float64)).all():
            raise ValueError(f"{name} is not finite")
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), params)


def selection(logits: Logits, outputs: int) -> np.ndarray:
    """Indices of the outputs that `logits` selects.

    Raises:
        ValueError: where it selects none, or one that is not there, or is no slice, indices or mask.
    """
    selected: Any = slice(None) if logits is None else logits
    if not isinstance(selected, slice):
        selected = concrete("logits", logits)
        if selected.ndim == 1 and not selected.size:
            raise ValueError(f"logits {logits} select none of the {outputs} outputs")
        if selected.ndim != 1 or selected.dtype.kind not in "iub":
            raise ValueError(
                f"logits must be a slice, a sequence of indices or a mask, got {logits!r}; write [3] for output 3 "
                "alone, slice(3) for the first three"
            )
        if selected.dtype.kind == "b" and len(selected) != outputs:
            raise ValueError(f"logits are a mask of {len(selected)} outputs, of which there are {outputs}")
    try:
        chosen = np.arange(outputs)[selected]
    except IndexError as error:
        raise ValueError(f"logits {logits} are not among the {outputs} outputs") from error
    except TypeError as error:
        raise ValueError(f"logits must be a slice of whole numbers, got {logits}") from error
    if not chosen.size:
        raise ValueError(f"logits {logits} select none of the {outputs} outputs")
    return chosen


def float64_inputs(inputs: Any) -> Any:
    """A pytree of inputs, floating ones in float64; integers (tokens, say) and booleans as they are.

    Raises:
        ValueError: if there is none, or a leaf is no array of numbers, not finite or traced, or their leading axes
            differ.
    """
    arrays = jax.tree.map(lambda x: concrete("inputs", x), inputs)
    for array in jax.tree.leaves(arrays):
        if not (jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool):
            raise ValueError(f"inputs have dtype {array.dtype}; they must be arrays of numbers")
        if jnp.issubdtype(array.dtype, jnp.floating) and not np.isfinite(array.astype(np.float64)).all():
            raise ValueError("inputs are not finite")
    lengths = {array.shape[:1] for array in jax.tree.leaves(arrays)}
    if len(lengths) != 1 or lengths == {()}:
        raise ValueError(f"inputs must be arrays with one common leading axis, got leading axes {sorted(lengths)}")
    if lengths == {(0,)}:
        raise ValueError("inputs are empty; the student needs at least one")
    return jax.tree.map(
        lambda x: jnp.asarray(x, jnp.float64 if jnp.issubdtype(x.dtype, jnp.floating) else None), arrays
    )


def like_params(argument: str, tree: Params, params: Params) -> Params:
    """A pytree like `params` in float64.

    Raises:
        ValueError: naming the argument, where it is none.
    """
    tree = float64_params(argument, tree)
    structures: list[Any] = [jax.tree.structure(each) for each in (tree, params)]
    if structures[0] != structures[1] or jax.tree.map(np.shape, tree) != jax.tree.map(np.shape, params):
        raise ValueError(f"{argument} must have the structure and shapes of params")
    return tree


def require_positive(argument: str, value: Any) -> float:
    """A size as a float.

    Raises:
        ValueError: naming the argument, where it is no number, or not positive and finite.
    """
    array = concrete(argument, value)
    if array.ndim or not (jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)):
        raise ValueError(f"{argument} must be a number, positive and finite; got {value!r}")
    if not (array > 0 and math.isfinite(array)):
        raise ValueError(f"{argument} must be positive and finite, got {value}")
    return float(array)


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


def require_sizes(argument: str, values: Iterable[Any]) -> list[float]:
    """Sizes as floats, in ascending order, each once; errors as in `require_positives`."""
    return sorted(set(require_positives(argument, values)))


def require_count(argument: str, value: Any, least: int = 1) -> int:
    """A whole number.

    Raises:
        ValueError: naming the argument, where it is none, or less than `least`.
    """
    try:
        count = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = None
    if count is None:
        raise ValueError(f"{argument} must be a whole number, got {value!r}")
    if count < least:
        raise ValueError(f"{argument} must be at least {least}, got {count}")
    return count


def concrete(argument: str, value: Any) -> np.ndarray:
    """A value as an array of numpy.

    Raises:
        ValueError: naming the argument, where it is traced or a PRNG key.
    """
    dtype = getattr(value, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
        raise ValueError(f"{argument} is a PRNG key, which is no array of numbers; let f close over it instead")
    try:
        return np.asarray(value)
    except jax.errors.TracerArrayConversionError as error:
        raise ValueError(
            f"{argument} is traced; the theorem is checked on numbers, so call it outside jax.jit"
        ) from error
