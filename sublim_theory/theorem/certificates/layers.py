"""Somebody's network as layers: weights, biases and the activation, checked and in float64.

Taken apart are a list of (W [in, out], b [out] or None); nested dicts of Flax layers (`{"kernel", "bias"}`), the
parameters of this library's networks among them; multilayer perceptrons of Flax NNX and of Equinox, of which what has
been read is compared with the outputs of the module itself.
"""

import functools
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise, permutations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sublim_theory.protocols import concrete, lookup
from sublim_theory.theorem.certificates.forms import ACTIVATIONS
from sublim_theory.theorem.compiling import in_float64

Arrays = list[tuple[np.ndarray, np.ndarray]]
"""One (W [in, out], b [out]) a layer, float64, checked."""

HOW = "hand in a list of (W [in, out], b [out] or None), one a layer in their order"


def layers_of(argument: str, network: Any) -> Arrays:
    """The layers of a network, or of a tree of gradients like one.

    Raises:
        ValueError: naming the argument, for what is none, not finite, or where shapes or their order are unclear.
    """
    nnx = sys.modules.get("flax.nnx")  # nobody has its modules without it
    if nnx is not None and isinstance(network, nnx.Module):
        network = nnx.state(network, nnx.Param)
    if nnx is not None and isinstance(network, nnx.State):
        network = nnx.to_pure_dict(network)
    if isinstance(network, Mapping):
        pairs = _of_mapping(argument, network)
    elif hasattr(network, "layers") and all(hasattr(layer, "weight") for layer in network.layers):
        pairs = [(_matrix(argument, layer.weight).T, layer.bias) for layer in network.layers]
    else:
        pairs = _of_pairs(argument, network)
    return _checked(argument, pairs)


def activation_of(network: Any, activation: Any) -> str:
    """The name of an activation: of the name or the function that is given, or else of the network's own.

    Raises:
        ValueError: where there is no such activation, or none can be read off.
    """
    if isinstance(activation, str):
        return _known(activation)
    given = activation
    if given is None:
        given = getattr(network, "activation", None)
        functions = {name for each in getattr(network, "layers", ()) if (name := _name(each))}
        if given is None and len(functions) == 1:
            return functions.pop()
    if given is None:
        raise ValueError(f"activation cannot be read off these weights; name it: {', '.join(ACTIVATIONS)}")
    if given is jax.nn.gelu:
        raise ValueError(
            "activation jax.nn.gelu is an approximation unless it is told not to be, and only the exact GELU can be "
            "certified: use functools.partial(jax.nn.gelu, approximate=False), or 'gelu', in the network too"
        )
    name = _name(given)
    if name is None:
        raise ValueError(f"activation {given!r} is not known; name it if it is one of {', '.join(ACTIVATIONS)}")
    return name


def _known(name: str) -> str:
    lookup("activation", name, dict.fromkeys(ACTIVATIONS))
    return name


def _name(function: Any) -> str | None:
    if isinstance(function, functools.partial):
        exact = function.func is jax.nn.gelu and not function.args and function.keywords == {"approximate": False}
        return "gelu" if exact else None
    known = {"relu": jax.nn.relu, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid}
    return next((name for name, each in known.items() if each is function), None)


def compare(network: Any, layers: Arrays, activation: str, inputs: np.ndarray) -> None:
    """Compare what was read off a module with its own outputs on a few inputs; anything but a module passes.

    Raises:
        ValueError: where they differ, by another order of the layers, say, or another last activation.
    """
    nnx = sys.modules.get("flax.nnx")
    if not callable(network):
        return
    some = inputs[:4]
    h = some
    for i, (w, b) in enumerate(layers):
        h = h @ w + b
        if i + 1 < len(layers):
            h = np.asarray(_FUNCTIONS[activation](h))
    dtype = np.result_type(*(leaf.dtype for leaf in jax.tree.leaves(network) if hasattr(leaf, "dtype")))
    batched = nnx is not None and isinstance(network, nnx.Module)
    with jax.enable_x64(dtype == np.float64):
        x = jnp.asarray(some, dtype)
        found = np.asarray(network(x) if batched else jax.vmap(network)(x), np.float64)
    if found.shape != h.shape or not np.abs(found - h).max() <= 1e-3 * (1 + np.abs(h).max()):
        raise ValueError(
            f"weights: the module's own outputs are not those of its layers with {activation} between them; {HOW}"
        )


_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": lambda x: np.asarray(jax.nn.sigmoid(x)),
    "gelu": lambda x: np.asarray(jax.nn.gelu(x, approximate=False)),
    "identity": lambda x: x,
}


def gradient(teacher_loss: Any, network: Any) -> Any:
    """`d_T = -grad L_T(theta)` in float64, a tree like the network.

    Raises:
        ValueError: where the loss is no function that returns a scalar.
    """
    if not callable(teacher_loss):
        raise ValueError(f"teacher_loss must be a function of the weights, got {teacher_loss!r}")
    leaves, structure = jax.tree.flatten(network)
    places = [i for i, leaf in enumerate(leaves) if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, np.floating)]

    def loss(arrays: list[Any]) -> Any:
        merged = list(leaves)
        for place, array in zip(places, arrays, strict=True):
            merged[place] = array
        return teacher_loss(jax.tree.unflatten(structure, merged))

    with in_float64():
        arrays = [jnp.asarray(concrete("weights", leaves[place]), np.float64) for place in places]
        shape = jnp.shape(jax.eval_shape(loss, arrays))
        if shape != ():
            raise ValueError(f"teacher_loss must return a scalar, got shape {shape}; take the mean inside it")
        found = list(leaves)
        for place, array in zip(places, jax.grad(loss)(arrays), strict=True):
            found[place] = -np.asarray(array)
    return jax.tree.unflatten(structure, found)


def like(argument: str, network: Any, theta: Arrays) -> Arrays:
    """The layers of a network of the same shapes. Raises `ValueError` naming the argument."""
    found = layers_of(argument, network)
    if [(w.shape, b.shape) for w, b in found] != [(w.shape, b.shape) for w, b in theta]:
        raise ValueError(f"{argument} must have the shapes of weights")
    return found


def inputs_of(argument: str, inputs: Any, features: int) -> np.ndarray:
    """Inputs [inputs, features] in float64, finite. Raises `ValueError` naming the argument."""
    try:
        x = concrete(argument, inputs).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{argument} must be an array [inputs, features], numbers and not traced: {error}") from error
    if x.ndim != 2 or not len(x) or x.shape[1] != features or not np.isfinite(x).all():
        raise ValueError(f"{argument} must be finite, [inputs >= 1, {features}]; got shape {x.shape}")
    return x


def ratio(weights: Arrays, direction: Arrays) -> float:
    """How far eps goes until the step is as long as the weights; 1 where one of them is nothing."""
    here, there = (math.sqrt(sum(float(np.sum(a * a)) for pair in each for a in pair)) for each in (weights, direction))
    return here / there if here > 0 and there > 0 and math.isfinite(here / there) else 1.0


def _of_pairs(argument: str, network: Any) -> list[tuple[Any, Any]]:
    try:
        return [(_matrix(argument, w), b) for w, b in network]
    except (TypeError, ValueError) as error:
        if "traced" in str(error):
            raise
        raise ValueError(f"{argument} is no network that can be taken apart ({error}); {HOW}") from error


def _of_mapping(argument: str, network: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    """The layers of a nested dict of Flax layers, in their order."""
    if "params" in network:
        others = sorted(str(key) for key in network if key != "params")
        if others:
            raise ValueError(f"{argument} holds {', '.join(others)} besides params; {HOW}")
        network = network["params"]
    found: dict[tuple[str, ...], tuple[Any, Any]] = {}

    def walk(node: Any, path: tuple[str, ...]) -> None:
        if not isinstance(node, Mapping) or ("kernel" in node and not set(node) <= {"kernel", "bias"}):
            raise ValueError(f"{argument}[{'.'.join(path)}] is no dense layer of a kernel and a bias; {HOW}")
        if "kernel" in node:
            found[path] = (_matrix(f"{argument}[{'.'.join(path)}].kernel", node["kernel"]), node.get("bias"))
        else:
            for key, below in node.items():
                walk(below, (*path, str(key)))

    walk(network, ())
    heads = [("class_head",), ("auxiliary_head",)]
    if all(head in found for head in heads):  # this library's: the two are one layer, the class logits first
        (w, b), (w_2, b_2) = (found.pop(head) for head in heads)
        if (b is None) != (b_2 is None) or len(w) != len(w_2):
            raise ValueError(f"{argument}: class_head and auxiliary_head do not fit together")
        bias = None if b is None else np.concatenate([concrete(argument, b), concrete(argument, b_2)])
        return [*_ordered(argument, found), (np.concatenate([w, w_2], 1), bias)]
    return _ordered(argument, found)


def _ordered(argument: str, found: dict[tuple[str, ...], tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Layers by the numbers in their names where their shapes fit so, or else in the only order in which they do."""

    def fits(order: Sequence[tuple[str, ...]]) -> bool:
        return all(found[a][0].shape[1] == found[b][0].shape[0] for a, b in pairwise(order))

    numbered = [(part[1], int(part[2])) for path in found if (part := re.fullmatch(r"(.*?)(\d+)", ".".join(path)))]
    if len(numbered) == len(found) and len({stem for stem, _ in numbered}) <= 1:
        order = [path for _, path in sorted(zip((number for _, number in numbered), found, strict=True))]
        if fits(order):
            return [found[path] for path in order]
    orders = [order for order in permutations(found) if fits(order)] if len(found) < 8 else []
    if len(orders) != 1:
        names = ", ".join(".".join(path) for path in found)
        raise ValueError(f"{argument}: the order of the layers {names} is not clear; {HOW}")
    return [found[path] for path in orders[0]]


def _matrix(argument: str, value: Any) -> np.ndarray:
    array = np.asarray(concrete(argument, getattr(value, "value", value)))
    if array.ndim != 2:
        raise ValueError(f"{argument}: the weights of a layer must be a matrix, got shape {array.shape}")
    return array


def _checked(argument: str, pairs: Sequence[tuple[Any, Any]]) -> Arrays:
    """Layers in float64, their shapes checked against each other."""
    if not pairs:
        raise ValueError(f"{argument} has no layers")
    found: Arrays = []
    width = len(pairs[0][0])
    for index, (w, b) in enumerate(pairs):
        kernel = np.asarray(w)
        bias = np.zeros(kernel.shape[1]) if b is None else concrete(f"{argument}[{index}]", getattr(b, "value", b))
        if not kernel.size or kernel.shape[0] != width or bias.shape != kernel.shape[1:]:
            raise ValueError(
                f"{argument}[{index}] must be (W [{width}, out], b [out]); got shapes {kernel.shape}, {bias.shape}"
            )
        for array in (kernel, bias):
            if not jnp.issubdtype(array.dtype, jnp.floating) and not jnp.issubdtype(array.dtype, jnp.integer):
                raise ValueError(f"{argument}[{index}] must be real numbers, got dtype {array.dtype}")
        kernel, bias = (np.ascontiguousarray(each, np.float64) for each in (kernel, bias))
        if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
            raise ValueError(f"{argument}[{index}] is not finite")
        found.append((kernel, bias))
        width = kernel.shape[1]
    return found
