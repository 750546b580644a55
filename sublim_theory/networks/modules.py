"""A Flax NNX module as pure functions on a nested dict of layers by name, and what makes its layers."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from sublim_theory._types import Array, Params, PRNGKey, Scalar, Whole
from sublim_theory.protocols import plain, positive_unless_traced, require_count

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "gelu": partial(jax.nn.gelu, approximate=False),
    "sigmoid": jax.nn.sigmoid,
    "identity": lambda x: x,
}

# name -> (variance of a weight times fan_in, distribution, whether the biases are drawn like the weights)
INITIALISATIONS: dict[str, tuple[float, Literal["normal", "uniform"], bool]] = {
    "paper": (1.0, "normal", False),
    "he": (2.0, "normal", False),
    "torch": (1.0 / 3.0, "uniform", True),
}

DTYPES = {name: name for name in ("float32", "float64")}
"""Of parameters and arithmetic."""

LARGEST = 1e15
"""Bound on sizes and scales, below which the variance of a weight is a float32."""


def flat(draw: Callable[..., Array]) -> Callable[..., Array]:
    """`draw(key, shape, dtype)` with the same values: the generator counts elements in the order of their rows.

    A CPU's compiler needs several times as long for a matrix of few columns (ten: 2.3 s, and flat 0.4).
    """
    return lambda key, shape, dtype: draw(key, (math.prod(shape),), dtype).reshape(shape)


@dataclass(frozen=True)
class Layer:
    """What makes the layers of a network: `layer(nnx.Linear, inputs, outputs, rngs=rngs)`; attributes as of `mlp`."""

    init: str
    init_scale: Scalar
    bias: bool
    dtype: str

    @property
    def kernel_init(self) -> Callable[..., Array]:
        """The initialiser of weights, as Flax takes it: of variance gain / fan_in, times the square of the scale."""
        gain, distribution, _ = INITIALISATIONS[self.init]

        def draw(key: PRNGKey, shape: tuple[int, ...], dtype: Any) -> Array:
            variance = jnp.asarray(gain * self.init_scale**2 / math.prod(shape[:-1]), dtype)
            if distribution == "normal":
                return flat(jax.random.normal)(key, shape, dtype) * jnp.sqrt(variance)
            return flat(partial(jax.random.uniform, minval=-1))(key, shape, dtype) * jnp.sqrt(3 * variance)

        return draw

    def bias_init(self, fan_in: int) -> Callable[..., Array]:
        """The initialiser of the biases of a layer whose units have so many inputs."""
        if not INITIALISATIONS[self.init][2]:
            return jax.nn.initializers.zeros
        bound = self.init_scale / math.sqrt(fan_in)
        return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)

    def __call__(self, kind: Any, inputs: int, outputs: int, **options: Any) -> Any:
        """A layer of a Flax type that takes inputs and outputs first, `nnx.Linear` or `nnx.Conv`, with its options."""
        return self.bare(
            kind,
            inputs,
            outputs,
            use_bias=self.bias,
            kernel_init=self.kernel_init,
            bias_init=self.bias_init(inputs * math.prod(options.get("kernel_size", ()))),
            **options,
        )

    def bare(self, kind: Any, *sizes: int, **options: Any) -> Any:
        """A layer of a Flax type that is neither, an embedding or a norm, of the same dtype."""
        return kind(*sizes, dtype=jnp.dtype(self.dtype), param_dtype=jnp.dtype(self.dtype), **options)


class Pure(NamedTuple):
    """A module without its parameters.

    Attributes:
        init: `init(key) -> params`, a nested dict `{layer: {name: array}}`.
        merge: `merge(params)`, the module with these parameters.
        layers: names of the layers, in the order in which the module assigns them.
    """

    init: Callable[[PRNGKey], Params]
    merge: Callable[[Params], Any]
    layers: tuple[str, ...]


def split(make: Callable[..., Any], dtype: str) -> Pure:
    """Split a module into its initialisation and what its parameters are merged into, once.

    Its layers are the attributes that have parameters; each element of an `nnx.List` is a layer of its own, `hidden_0`
    the first of `hidden`.

    Args:
        make: `make(rngs=)`, the module, whose parameters are `nnx.Param`.
        dtype: of its parameters, `float32` or `float64`.

    Raises:
        ValueError: for a module that has state, and for one of float64 where JAX has no 64 bits.
    """

    def require_dtype() -> None:
        if jax.dtypes.canonicalize_dtype(dtype) != jnp.dtype(dtype):
            raise ValueError(f"a network of dtype {dtype!r} needs 64-bit JAX: call inside `jax.enable_x64(True)`")

    assigned: list[str] = []

    def build() -> Any:
        module = make(rngs=nnx.Rngs(params=0))
        assigned.extend(vars(module))
        return module

    # The structure is the same for every key, so it is traced once, abstractly; with 64 bits at hand if it needs them.
    with jax.enable_x64(dtype == "float64"):
        module = nnx.eval_shape(build)
    if state := nnx.to_pure_dict(nnx.state(module, nnx.Not(nnx.Param))):
        raise ValueError(f"the module of a network may have parameters alone, not the state {state}")
    structure, shapes = nnx.split(module)
    places = _places(nnx.to_pure_dict(shapes), dict.fromkeys(assigned))

    def init(key: PRNGKey) -> Params:
        require_dtype()
        drawn = nnx.to_pure_dict(nnx.state(make(rngs=nnx.Rngs(params=key))))
        return {layer: drawn[name][place[0]] if place else drawn[name] for layer, (name, *place) in places.items()}

    def merge(params: Params) -> Any:
        require_dtype()
        if set(params) != set(places):
            raise ValueError(f"parameters must have the layers {', '.join(places)}, got {', '.join(params)}")
        nested: dict[str, Any] = {}
        for layer, (name, *place) in places.items():
            if place:
                nested.setdefault(name, {})[place[0]] = params[layer]
            else:
                nested[name] = params[layer]
        return nnx.merge(structure, nested)

    return Pure(init, merge, tuple(places))


def _places(params: dict[str, Any], assigned: Iterable[str]) -> dict[str, tuple[Any, ...]]:
    """Name of each layer, in the order of the module's attributes -> its attribute, and its place if that is a list."""
    places: dict[str, tuple[Any, ...]] = {}
    for name in assigned:
        part = params.get(name)
        if isinstance(part, dict) and all(isinstance(key, int) for key in part):
            places |= {f"{name}_{i}": (name, i) for i in sorted(part)}
        elif part is not None:
            places[name] = (name,)
    return places


def require_size(argument: str, value: Whole) -> int:
    """A positive whole number below `LARGEST`; a `ValueError` names the argument that is none."""
    return int(_below_largest(argument, require_count(argument, value)))


def require_sizes(argument: str, values: Sequence[Whole]) -> tuple[int, ...]:
    """Several of them; a `ValueError` names the first that is none."""
    return tuple(require_size(f"{argument}[{i}]", value) for i, value in enumerate(values))


def require_scale(init_scale: Scalar) -> Scalar:
    """The factor on initial values, positive and below `LARGEST` unless traced; a `ValueError` otherwise."""
    return _below_largest("init_scale", positive_unless_traced("init_scale", init_scale))


def _below_largest(argument: str, value: Any) -> Any:
    if plain(value) and not value < LARGEST:
        raise ValueError(f"{argument} must be below {LARGEST:g}, got {value}")
    return value
