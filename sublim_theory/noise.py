"""Input distributions for distillation, by name: images that say nothing about digits.

A distribution is a function that draws one image. Each image of a set has a key of its own and the set is filled
block by block, so image i does not depend on the size of the set, and filling takes little more memory than holding.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import jax
import jax.numpy as jnp

from sublim_theory.protocols import lookup, plain

Sampler: TypeAlias = Callable[[jax.Array, int, int], jax.Array]
"""`sample(key, count, features) -> [count, features] float32`."""

BLOCK = 1024
"""Images drawn at a time."""


def uniform(key: jax.Array, features: int, scale: float | jax.Array = 1.0) -> jax.Array:
    """One image of independent pixels from U(-scale, scale), [features] float32.

    With scale 1 this is the noise of the paper (arXiv 2507.14805, section 6.2).
    """
    return jax.random.uniform(key, (features,), jnp.float32, minval=-scale, maxval=scale)


def gaussian(key: jax.Array, features: int, scale: float | jax.Array = 1.0) -> jax.Array:
    """One image of independent pixels from N(0, scale**2), [features] float32."""
    return scale * jax.random.normal(key, (features,), jnp.float32)


DISTRIBUTIONS = {"uniform": uniform, "gaussian": gaussian}


def sampler(name: str, scale: float | jax.Array = 1.0) -> Sampler:
    """A set of independent images of the distribution of that name, `uniform` or `gaussian`.

    Returns:
        `sample(key, count, features) -> images [count, features]`, float32.

    Raises:
        ValueError: for an unknown name or a scale that is not positive and finite.
    """
    draw = lookup("noise", name, DISTRIBUTIONS)
    if plain(scale) and not (scale > 0 and math.isfinite(scale)):
        raise ValueError(f"noise_scale must be positive and finite, got {scale}")

    def sample(key: jax.Array, count: int, features: int) -> jax.Array:
        image = partial(draw, features=features, scale=scale)
        return jax.lax.map(image, jax.random.split(key, count), batch_size=min(BLOCK, count))

    return sample
