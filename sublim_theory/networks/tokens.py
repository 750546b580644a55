"""Networks of tokens, by name: a small decoder-only transformer, as pure functions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Float, Integer

from sublim_theory._types import AnyArray, Array, Params, PRNGKey, Scalar, Whole
from sublim_theory.networks.modules import ACTIVATIONS, DTYPES, Layer, flat, require_scale, require_size, split
from sublim_theory.protocols import lookup


@dataclass(frozen=True)
class LanguageModel:
    """A network that gives the logits of each next token, as pure functions.

    Attributes:
        init: `init(key) -> params`, a nested dict with layer names.
        apply: `apply(params, tokens [batch, length]) -> logits [batch, length, vocabulary]`, those of the token after
            each; the length is at most `positions`.
        sample: `sample(params, key, prompts [batch, given], temperature=1.0, among=vocabulary)`, the prompts and
            what follows them, [batch, positions], from the first `among` tokens. At temperature 0, which may be traced,
            it is the most likely token.
        vocabulary: number of tokens.
        positions: length of a whole sequence.
        layers: names of the layers: `embedding`, `place`, `block_0`, ..., `norm` and, unless it is tied, `head`.
    """

    init: Callable[[PRNGKey], Params]
    apply: Callable[[Params, Any], Array]
    sample: Callable[..., Array]
    vocabulary: int
    positions: int
    layers: tuple[str, ...]


class Block(nnx.Module):
    """Causal self-attention, then a layer four times as wide; each adds to the stream what it makes of its RMS norm."""

    def __init__(self, width: int, heads: int, layer: Layer, rngs: nnx.Rngs):
        self.heads, self.size = heads, width // heads
        self.attention_norm, self.norm = (layer.bare(nnx.RMSNorm, width, rngs=rngs) for _ in range(2))
        self.queries_keys_values = layer(nnx.Linear, width, 3 * width, rngs=rngs)
        self.out = layer(nnx.Linear, width, width, rngs=rngs)
        self.up = layer(nnx.Linear, width, 4 * width, rngs=rngs)
        self.down = layer(nnx.Linear, 4 * width, width, rngs=rngs)

    def __call__(self, x: Array, places: Array, cache: Array | None) -> tuple[Array, Array]:
        """The stream [batch * new, width]; keys and values [2, batch, length, heads, _], those of `cache` included."""
        parts = self.queries_keys_values(self.attention_norm(x)).reshape(-1, len(places), 3, self.heads, self.size)
        query, *new = jnp.moveaxis(parts, 2, 0)
        seen = jnp.stack(new) if cache is None else cache.at[:, :, places].set(jnp.stack(new))
        # Written out: `jax.nn.dot_product_attention` takes its softmax in float32, whatever it is given.
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, seen[0]) / self.size**0.5
        visible = jnp.arange(seen.shape[2])[None] <= places[:, None]
        weights = jax.nn.softmax(jnp.where(visible[None, None], scores, -jnp.inf))
        x = x + self.out(jnp.einsum("bhqk,bkhd->bqhd", weights, seen[1]).reshape(x.shape))
        return x + self.down(ACTIVATIONS["gelu"](self.up(self.norm(x)))), seen


class Transformer(nnx.Module):
    """Embeddings of tokens and of places, blocks, an RMS norm and the head."""

    def __init__(
        self, vocabulary: int, positions: int, width: int, layers: int, heads: int, tied: bool, layer: Layer,
        rngs: nnx.Rngs,
    ):  # fmt: skip
        draw = flat(jax.nn.initializers.normal(layer.init_scale / width**0.5))
        self.embedding = layer.bare(nnx.Embed, vocabulary, width, embedding_init=draw, rngs=rngs)
        self.place = layer.bare(nnx.Embed, positions, width, embedding_init=draw, rngs=rngs)
        self.block = nnx.List([Block(width, heads, layer, rngs) for _ in range(layers)])
        self.norm = layer.bare(nnx.RMSNorm, width, rngs=rngs)
        self.head = None if tied else layer(nnx.Linear, width, vocabulary, rngs=rngs)

    def __call__(self, tokens: Array, places: Array, caches: Sequence[Any]) -> tuple[Array, list[Array]]:
        """Logits [batch, new, vocabulary] after the tokens [batch, new] at their places [new], and what to cache."""
        x, seen = self.embedding(tokens) + self.place(places)[None], []
        x = x.reshape(-1, x.shape[-1])  # one matrix: with two axes of rows the gradients take twice as long on a CPU
        for block, cache in zip(self.block, caches, strict=True):
            x, here = block(x, places, cache)
            seen.append(here)
        head = self.embedding.attend if self.head is None else self.head
        return head(self.norm(x)).reshape(*tokens.shape, -1), seen


def transformer(
    vocabulary: Whole,
    positions: Whole,
    *,
    width: Whole = 32,
    layers: Whole = 1,
    heads: Whole = 4,
    tied: bool = False,
    init_scale: Scalar = 1.0,
    dtype: str = "float32",
) -> LanguageModel:
    """A decoder-only transformer: learned places, RMS norms before every part, no biases.

    Args:
        vocabulary: number of tokens.
        positions: length of the longest sequence.
        width: of the stream between the blocks, a multiple of the number of `heads`.
        layers: number of blocks, each with as many `heads`.
        heads: of each attention.
        tied: whether the head is the transpose of the embedding.
        init_scale: factor on initial weights, which are N(0, 1/fan_in); the width is an embedding's fan_in.
        dtype: as of `mlp`.

    Raises:
        ValueError: for a size that is no positive whole number, a width that the heads do not divide, or as of `mlp`.
    """
    count, length = require_size("vocabulary", vocabulary), require_size("positions", positions)
    size, depth, parts = require_size("width", width), require_size("layers", layers), require_size("heads", heads)
    if size % parts:
        raise ValueError(f"width must be a multiple of heads, got {width} and {heads}")
    layer = Layer("paper", require_scale(init_scale), False, lookup("dtype", dtype, DTYPES))
    module = split(lambda rngs: Transformer(count, length, size, depth, parts, tied, layer, rngs), dtype)

    def apply(params: Params, tokens: Integer[AnyArray, "batch _"]) -> Float[Array, "batch _ vocabulary"]:
        if not 1 <= tokens.shape[1] <= length:
            raise ValueError(f"tokens must have shape [batch, 1 to {length}], got {tuple(tokens.shape)}")
        return module.merge(params)(jnp.asarray(tokens), jnp.arange(tokens.shape[1]), [None] * depth)[0]

    def sample(params: Params, key: PRNGKey, prompts: AnyArray, temperature: Scalar = 1.0, among: int = count) -> Array:
        (batch, given), network = prompts.shape, module.merge(params)
        if not 1 <= given <= length:
            raise ValueError(f"prompts must have shape [batch, 1 to {length}], got {tuple(prompts.shape)}")
        known = jnp.pad(jnp.asarray(prompts), ((0, 0), (0, length - given)))

        def step(carry: Any, now: Any) -> tuple[Any, Array]:
            (token, caches), (place, key) = carry, now
            logits, caches = network(token[:, None], place[None], caches)
            # The largest of logits / T and Gumbel noise is a draw from their softmax, and so it is at T = 0.
            noisy = logits[:, 0, :among] + temperature * jax.random.gumbel(key, (batch, among), logits.dtype)
            token = jnp.where(place + 1 < given, known[:, place + 1], jnp.argmax(noisy, axis=-1).astype(known.dtype))
            return (token, caches), token

        caches = [jnp.zeros((2, batch, length, parts, size // parts), dtype)] * depth
        each = jnp.arange(length - 1), jax.random.split(key, length - 1)
        return jnp.concatenate([known[:, :1], jax.lax.scan(step, (known[:, 0], caches), each)[1].T], axis=1)

    return LanguageModel(module.init, apply, sample, count, length, module.layers)


LANGUAGE_MODELS: dict[str, Callable[..., LanguageModel]] = {"transformer": transformer}
"""Name -> what builds the network for a vocabulary and a number of positions, with options as of `transformer`."""
