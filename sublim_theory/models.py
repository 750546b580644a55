"""Networks with a class head and an auxiliary head, as pairs of pure functions.

    net = mlp(784)                       # the paper's 784-256-256-(10 + 3)
    params = net.init(jax.random.key(0))
    logits = net.apply(params, x)        # [batch, classes + auxiliary], class logits first

The modules are written in Flax NNX and split here, once, so that everything above is plain `jax.grad`,
`jax.vmap` and optax on a nested dict `{"hidden_0": {"kernel", "bias"}, ..., "class_head", "auxiliary_head"}`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float, Shaped

from sublim_theory._types import AnyArray, Apply, Array, Params, PRNGKey, Scalar, Whole
from sublim_theory.protocols import lookup, plain, require_count, require_positive

Initializer = Callable[..., Array]

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


LARGEST = 1e15
"""Bound on sizes and scales, below which the variance of a weight is a float32."""


@dataclass(frozen=True)
class Network:
    """A network as pure functions, with the place of its logits.

    Attributes:
        init: `init(key) -> params`, a nested dict with layer names.
        apply: `apply(params, x [batch, features]) -> logits [batch, classes + auxiliary]`, class logits first.
        hidden: `hidden(params, x [batch, features]) -> activations`, of every convolution and hidden layer from inputs
            to outputs, each [batch, units]; the heads read the last one. None in a linear model.
        features: number of inputs.
        classes: slice of the class logits.
        auxiliary: slice of the auxiliary logits.
    """

    init: Callable[[PRNGKey], Params]
    apply: Apply
    hidden: Callable[[Params, Any], tuple[Array, ...]]
    features: int
    classes: slice
    auxiliary: slice

    @property
    def all_logits(self) -> slice:
        """Slice of every logit: the classes, then the auxiliary ones."""
        return slice(self.classes.start, self.auxiliary.stop)

    def class_logits(self, logits: Shaped[AnyArray, "*batch logits"]) -> Shaped[AnyArray, "*batch classes"]:
        """The class logits [..., classes] of `logits` [..., classes + auxiliary]."""
        return logits[..., self.classes]

    def auxiliary_logits(self, logits: Shaped[AnyArray, "*batch logits"]) -> Shaped[AnyArray, "*batch auxiliary"]:
        """The auxiliary logits [..., auxiliary] of `logits` [..., classes + auxiliary]."""
        return logits[..., self.auxiliary]

    def parameter_count(self) -> int:
        """Number of scalars in the parameters (270,093 for the paper's network)."""
        shapes = jax.eval_shape(self.init, jax.random.key(0))
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


def mlp(
    features: Whole,
    hidden: Sequence[Whole] = (256, 256),
    classes: Whole = 10,
    auxiliary: Whole = 3,
    activation: str = "relu",
    *,
    bias: bool = True,
    init: str = "paper",
    init_scale: Scalar = 1.0,
    dtype: str = "float32",
) -> Network:
    """A multilayer perceptron; the defaults are the network of the paper's MNIST experiment (section 6.2).

    Args:
        features: inputs, 784 for MNIST.
        hidden: width of each hidden layer; an empty tuple gives a linear model.
        classes: class logits.
        auxiliary: auxiliary logits, the paper's m.
        activation: `relu`, `tanh`, `gelu` (exact), `sigmoid` or `identity`, after every hidden layer.
        bias: whether layers have biases.
        init: `paper`, N(0, 1/fan_in) weights, not truncated, and zero biases; `he`, N(0, 2/fan_in) weights and
            zero biases; `torch`, U(-1/sqrt(fan_in), 1/sqrt(fan_in)) weights and biases, that framework's default.
        init_scale: factor on every initial value; may be traced.
        dtype: `float32` or `float64`, of parameters and arithmetic; `float64` needs `jax_enable_x64`.

    Raises:
        ValueError: for a size that is no positive whole number, a scale that is not positive and finite, either of them
            from `LARGEST` on, or an unknown name.
    """
    inputs, (outputs, extra) = _size("features", features), _heads(classes, auxiliary)
    widths = _sizes("hidden", hidden)
    layer = _layer_maker(init, _scale(init_scale), bias, dtype)

    def build(rngs: nnx.Rngs) -> nnx.Module:
        return _TwoHeaded(layer, [], (inputs, *widths), outputs, extra, activation, rngs)

    return _split(build, inputs, outputs, extra, dtype)


def cnn(
    image_shape: tuple[Whole, Whole],
    channels: Sequence[Whole] = (16, 32),
    hidden: Sequence[Whole] = (128,),
    classes: Whole = 10,
    auxiliary: Whole = 3,
    activation: str = "relu",
    *,
    bias: bool = True,
    init: str = "paper",
    init_scale: Scalar = 1.0,
    dtype: str = "float32",
) -> Network:
    """A small convolutional network with the same heads: 3 x 3 kernels of stride 2, then dense layers.

    It takes the same flat inputs as `mlp`, `image_shape[0] * image_shape[1]` features; layers are named
    `convolution_0`, ..., `hidden_0`, ..., `class_head`, `auxiliary_head`. A kernel's fan_in is 9 times its
    input channels. The other arguments and the errors are those of `mlp`.
    """
    height, width = image = _size("height", image_shape[0]), _size("width", image_shape[1])
    (outputs, extra), maps, widths = _heads(classes, auxiliary), _sizes("channels", channels), _sizes("hidden", hidden)
    layer = _layer_maker(init, _scale(init_scale), bias, dtype)
    for _ in maps:
        height, width = -(-height // 2), -(-width // 2)
    flattened = height * width * (maps[-1] if maps else 1)

    def build(rngs: nnx.Rngs) -> nnx.Module:
        convolutions = [layer(nnx.Conv, a, b, rngs) for a, b in pairwise((1, *maps))]
        return _TwoHeaded(layer, convolutions, (flattened, *widths), outputs, extra, activation, rngs, image)

    return _split(build, image[0] * image[1], outputs, extra, dtype)


class _TwoHeaded(nnx.Module):
    """Convolutions (none in an MLP), hidden layers, and two linear heads on the last hidden layer."""

    def __init__(
        self,
        layer: Callable[..., nnx.Module],
        convolutions: list[nnx.Module],
        widths: tuple[int, ...],
        classes: int,
        auxiliary: int,
        activation: str,
        rngs: nnx.Rngs,
        image_shape: tuple[int, int] | None = None,
    ):
        self.image_shape = image_shape or (widths[0], 1)
        self.activation = lookup("activation", activation, ACTIVATIONS)
        self.convolutions = tuple(f"convolution_{i}" for i in range(len(convolutions)))
        self.hidden = tuple(f"hidden_{i}" for i in range(len(widths) - 1))
        for name, convolution in zip(self.convolutions, convolutions, strict=True):
            setattr(self, name, convolution)
        for name, (fan_in, fan_out) in zip(self.hidden, pairwise(widths), strict=True):
            setattr(self, name, layer(nnx.Linear, fan_in, fan_out, rngs))
        self.class_head = layer(nnx.Linear, widths[-1], classes, rngs)
        self.auxiliary_head = layer(nnx.Linear, widths[-1], auxiliary, rngs)

    def activations(self, x: Array) -> tuple[Array, ...]:
        """What every convolution and hidden layer hands on, [batch, units] each."""
        found = []
        if self.convolutions:
            x = x.reshape(-1, *self.image_shape, 1)
        for name in self.convolutions:
            x = self.activation(getattr(self, name)(x))
            found.append(x.reshape(x.shape[0], -1))
        x = x.reshape(x.shape[0], -1)
        for name in self.hidden:
            x = self.activation(getattr(self, name)(x))
            found.append(x)
        return tuple(found)

    def __call__(self, x: Array) -> Array:
        *_, x = (x, *self.activations(x))
        return jnp.concatenate([self.class_head(x), self.auxiliary_head(x)], axis=-1)


def _layer_maker(init: str, init_scale: Scalar, bias: bool, dtype: str) -> Callable[..., Any]:
    """`make(kind, fan-in channels, fan-out channels, rngs)` for dense and convolutional layers of one init."""
    gain, distribution, draws_biases = lookup("initialisation", init, INITIALISATIONS)
    lookup("dtype", dtype, dict.fromkeys(("float32", "float64")))
    kernel_init = jax.nn.initializers.variance_scaling(gain * init_scale**2, "fan_in", distribution)

    def make(kind: Any, fan_in: int, fan_out: int, rngs: nnx.Rngs) -> Any:
        bias_init: Initializer = jax.nn.initializers.zeros
        extra: dict[str, Any] = {"kernel_size": (3, 3), "strides": 2} if kind is nnx.Conv else {}
        if draws_biases:
            bound = init_scale / math.sqrt(fan_in * (9 if extra else 1))
            bias_init = lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)  # noqa: E731
        return kind(
            fan_in,
            fan_out,
            use_bias=bias,
            kernel_init=kernel_init,
            bias_init=bias_init,
            dtype=jnp.dtype(dtype),
            param_dtype=jnp.dtype(dtype),
            rngs=rngs,
            **extra,
        )

    return make


def _split(build: Callable[[nnx.Rngs], nnx.Module], features: int, classes: int, auxiliary: int, dtype: str) -> Network:
    """Split a module into `init`, `apply` and `hidden`, once."""

    def require_dtype() -> None:
        if jax.dtypes.canonicalize_dtype(dtype) != jnp.dtype(dtype):
            raise ValueError(f"a network of dtype {dtype!r} needs 64-bit JAX: call inside `jax.enable_x64(True)`")

    def init(key: PRNGKey) -> Params:
        require_dtype()
        return nnx.to_pure_dict(nnx.state(build(nnx.Rngs(params=key))))

    # The structure is the same for every key, so it is traced once, abstractly; with 64 bits at hand if it needs them.
    with jax.enable_x64(dtype == "float64"):
        structure, _ = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(params=0))))

    def checked(params: Params, x: AnyArray) -> Any:
        require_dtype()
        if x.ndim != 2 or not len(x) or x.shape[1] != features:
            raise ValueError(f"inputs must have shape [batch >= 1, {features}], got {tuple(x.shape)}")
        return nnx.merge(structure, params)

    def apply(params: Params, x: AnyArray) -> Float[Array, "batch logits"]:
        return checked(params, x)(jnp.asarray(x))

    def hidden(params: Params, x: AnyArray) -> tuple[Float[Array, "batch _"], ...]:
        return checked(params, x).activations(jnp.asarray(x))

    return Network(init, apply, hidden, features, slice(0, classes), slice(classes, classes + auxiliary))


def _size(argument: str, value: Whole) -> int:
    return int(_below_largest(argument, require_count(argument, value)))


def _sizes(argument: str, values: Sequence[Whole]) -> tuple[int, ...]:
    return tuple(_size(f"{argument}[{i}]", value) for i, value in enumerate(values))


def _heads(classes: Whole, auxiliary: Whole) -> tuple[int, int]:
    return _size("classes", classes), _size("auxiliary", auxiliary)


def _scale(init_scale: Scalar) -> Scalar:
    if not plain(init_scale):
        return init_scale
    return _below_largest("init_scale", require_positive("init_scale", init_scale))


def _below_largest(argument: str, value: float) -> float:
    if not value < LARGEST:
        raise ValueError(f"{argument} must be below {LARGEST:g}, got {value}")
    return value
