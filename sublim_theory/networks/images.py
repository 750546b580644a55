"""Networks with a class head and an auxiliary head, by name, as pairs of pure functions.

    net = mlp(784)                       # the paper's 784-256-256-(10 + 3)
    params = net.init(jax.random.key(0))
    logits = net.apply(params, x)        # [batch, classes + auxiliary], class logits first

The modules are written in Flax NNX and split here, once, so that everything above is plain `jax.grad`,
`jax.vmap` and optax on a nested dict of layers by name, `{"hidden_0": {"kernel", "bias"}, ..., "class_head",
"auxiliary_head"}`. A further network is one module and one line of `NETWORKS`; see `builder`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float, Shaped

from sublim_theory._types import AnyArray, Apply, Array, Params, PRNGKey, Scalar, Whole
from sublim_theory.networks.modules import (
    ACTIVATIONS,
    DTYPES,
    INITIALISATIONS,
    Layer,
    Pure,
    require_scale,
    require_size,
    require_sizes,
    split,
)
from sublim_theory.protocols import lookup


@dataclass(frozen=True)
class Network:
    """A network as pure functions, with the places of its logits and the names of its layers.

    Attributes:
        init: `init(key) -> params`, a nested dict with layer names.
        apply: `apply(params, x [batch, features]) -> logits [batch, classes + auxiliary]`, class logits first.
        hidden: `hidden(params, x [batch, features]) -> activations`, of every convolution and hidden layer from inputs
            to outputs, each [batch, units]; the heads read the last one. None in a linear model.
        features: number of inputs.
        classes: slice of the class logits.
        auxiliary: slice of the auxiliary logits.
        body: names of the layers below the heads, from the inputs on.
        class_head: name of the layer that gives the class logits.
        auxiliary_head: name of the layer that gives the auxiliary logits.
    """

    init: Callable[[PRNGKey], Params]
    apply: Apply
    hidden: Callable[[Params, Any], tuple[Array, ...]]
    features: int
    classes: slice
    auxiliary: slice
    body: tuple[str, ...] = ()
    class_head: str = "class_head"
    auxiliary_head: str = "auxiliary_head"

    def layers(self, part: str = "all") -> tuple[str, ...]:
        """Names of the layers of a part, from the inputs to the heads.

        Args:
            part: `all`, `body` or `hidden` (both are all layers below the heads), `class_head`, `auxiliary_head`, or
                one layer by its own name.

        Raises:
            ValueError: if there is no such layer.
        """
        heads = {"class_head": (self.class_head,), "auxiliary_head": (self.auxiliary_head,)}
        every = tuple(dict.fromkeys((*self.body, self.class_head, self.auxiliary_head)))
        parts = {name: (name,) for name in every} | heads | {"all": every, "body": self.body, "hidden": self.body}
        if not (found := parts.get(part)):
            raise ValueError(f"there is no part {part!r} of a network with the layers {', '.join(every)}")
        return found

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
    return NETWORKS["mlp"](
        (require_size("features", features), 1),
        hidden=hidden,
        classes=classes,
        auxiliary=auxiliary,
        activation=activation,
        bias=bias,
        init=init,
        init_scale=init_scale,
        dtype=dtype,
    )


def cnn(
    image_shape: tuple[Whole, Whole],
    channels: Sequence[Whole] = (16, 32),
    hidden: Sequence[Whole] = (128,),
    classes: Whole = 10,
    auxiliary: Whole = 3,
    activation: str = "relu",
    **settings: Any,
) -> Network:
    """A small convolutional network with the same heads: 3 x 3 kernels of stride 2, then dense layers.

    It takes the same flat inputs as `mlp`, `image_shape[0] * image_shape[1]` features; layers are named
    `convolution_0`, ..., `hidden_0`, ..., `class_head`, `auxiliary_head`. A kernel's fan_in is 9 times its
    input channels. The other arguments, `settings` included, and the errors are those of `mlp`.
    """
    return NETWORKS["cnn"](
        image_shape,
        channels=channels,
        hidden=hidden,
        classes=classes,
        auxiliary=auxiliary,
        activation=activation,
        **settings,
    )


class MLP(nnx.Module):
    """Dense hidden layers."""

    def __init__(
        self,
        image_shape: tuple[int, int],
        hidden: tuple[int, ...],
        classes: int,
        auxiliary: int,
        activation: Callable[[Array], Array],
        layer: "Layer",
        *,
        rngs: nnx.Rngs,
    ):
        widths = (math.prod(image_shape), *hidden)
        self.activation = activation
        self.hidden = nnx.List([layer(nnx.Linear, a, b, rngs=rngs) for a, b in pairwise(widths)])
        self.class_head = layer(nnx.Linear, widths[-1], classes, rngs=rngs)
        self.auxiliary_head = layer(nnx.Linear, widths[-1], auxiliary, rngs=rngs)

    def activations(self, x: Array) -> Iterator[Array]:
        """Those of every hidden layer."""
        for layer in self.hidden:
            x = self.activation(layer(x))
            yield x


class CNN(MLP):
    """3 x 3 convolutions of stride 2, then dense hidden layers."""

    def __init__(
        self,
        image_shape: tuple[int, int],
        *,
        layer: "Layer",
        channels: Sequence[Whole] = (16, 32),
        rngs: nnx.Rngs,
        **settings: Any,
    ):
        maps = (1, *require_sizes("channels", channels))
        self.image_shape = image_shape
        self.convolution = nnx.List(
            [layer(nnx.Conv, a, b, kernel_size=(3, 3), strides=2, rngs=rngs) for a, b in pairwise(maps)]
        )
        height, width = (-(-side // 2 ** (len(maps) - 1)) for side in image_shape)
        super().__init__((height, width * maps[-1]), layer=layer, rngs=rngs, **settings)

    def activations(self, x: Array) -> Iterator[Array]:
        """Those of every convolution and hidden layer."""
        x = x.reshape(-1, *self.image_shape, 1)
        for layer in self.convolution:
            x = self.activation(layer(x))
            yield x
        yield from super().activations(x.reshape(len(x), -1))


Builder: TypeAlias = Callable[..., Network]
"""`build(image_shape, *, hidden, classes, auxiliary, activation, bias, init, init_scale, dtype, ...)`, as of `mlp`."""


def builder(module: Callable[..., Any]) -> Builder:
    """What checks settings and builds a `Network` of a Flax module, for `NETWORKS`.

    Args:
        module: `module(image_shape=, hidden=, classes=, auxiliary=, activation=, layer=, rngs=, ...)`, a type of
            `nnx.Module` whose parameters are `nnx.Param`, without any other state. Its layers are the attributes that
            have parameters, in the order in which they are assigned; each element of an `nnx.List` is a layer of its
            own, `hidden_0` the first of `hidden`. `layer` is a `Layer`, `activation` a function. It has

            * `activations(x [batch, features])`, which yields those of every layer below the heads, [batch, ...], from
              inputs to outputs;
            * `class_head` and `auxiliary_head`, layers that take the last of these, flat, to their logits.

    Raises:
        ValueError: when it builds, as `mlp` does, and for a module that has state, or not both heads.
    """

    def build(
        image_shape: tuple[Whole, Whole],
        *,
        hidden: Sequence[Whole] = (256, 256),
        classes: Whole = 10,
        auxiliary: Whole = 3,
        activation: str = "relu",
        bias: bool = True,
        init: str = "paper",
        init_scale: Scalar = 1.0,
        dtype: str = "float32",
        **own: Any,
    ) -> Network:
        height, width = require_size("height", image_shape[0]), require_size("width", image_shape[1])
        outputs, extra = require_size("classes", classes), require_size("auxiliary", auxiliary)
        lookup("initialisation", init, INITIALISATIONS)
        lookup("dtype", dtype, DTYPES)
        make = partial(
            module,
            image_shape=(height, width),
            hidden=require_sizes("hidden", hidden),
            classes=outputs,
            auxiliary=extra,
            activation=lookup("activation", activation, ACTIVATIONS),
            layer=Layer(init, require_scale(init_scale), bias, dtype),
            **own,
        )
        return _network(split(make, dtype), height * width, outputs, extra)

    return build


NETWORKS: dict[str, Builder] = {"mlp": builder(MLP), "cnn": builder(CNN)}
"""Name -> what builds the network for images of a height and a width."""

ANY_SHAPE = (8, 8)
"""Height and width for those who ask a network for its layers, or whether it can be, before there are images."""


def _network(module: Pure, features: int, classes: int, auxiliary: int) -> Network:
    """The network of a module that has been split."""
    if not {"class_head", "auxiliary_head"} <= set(module.layers):
        raise ValueError(
            f"the module of a network needs a class_head and an auxiliary_head; it has {', '.join(module.layers)}"
        )

    def merged(params: Params, x: AnyArray) -> Any:
        if x.ndim != 2 or not len(x) or x.shape[1] != features:
            raise ValueError(f"inputs must have shape [batch >= 1, {features}], got {tuple(x.shape)}")
        return module.merge(params)

    def apply(params: Params, x: AnyArray) -> Float[Array, "batch logits"]:
        module, found = merged(params, x), [jnp.asarray(x)]
        found.extend(module.activations(found[0]))
        last = found[-1].reshape(len(x), -1)
        return jnp.concatenate([module.class_head(last), module.auxiliary_head(last)], axis=-1)

    def hidden(params: Params, x: AnyArray) -> tuple[Float[Array, "batch _"], ...]:
        return tuple(each.reshape(len(each), -1) for each in merged(params, x).activations(jnp.asarray(x)))

    body = tuple(layer for layer in module.layers if layer not in ("class_head", "auxiliary_head"))
    return Network(module.init, apply, hidden, features, slice(0, classes), slice(classes, classes + auxiliary), body)
