"""Vectors that are pytrees: inner product, norm, cosine, linear combination."""

import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp


def dot(a: Any, b: Any) -> jax.Array:
    """Inner product of two pytrees of the same structure, a scalar; at the highest matmul precision."""
    products = jax.tree.map(lambda x, y: jnp.vdot(x, y, precision=jax.lax.Precision.HIGHEST), a, b)
    return functools.reduce(operator.add, jax.tree.leaves(products))


def norm(a: Any) -> jax.Array:
    """Euclidean norm of a pytree."""
    return jnp.sqrt(dot(a, a))


def cosine(a: Any, b: Any) -> jax.Array:
    """Cosine of the angle between two pytrees; 0 where either is exactly zero."""
    scale = norm(a) * norm(b)
    return jnp.where(scale > 0, dot(a, b) / jnp.where(scale > 0, scale, 1), 0)


def axpy(alpha: float | jax.Array, x: Any, y: Any) -> Any:
    """`alpha * x + y`."""
    return jax.tree.map(lambda a, b: alpha * a + b, x, y)


def scale(alpha: float | jax.Array, x: Any) -> Any:
    """`alpha * x`."""
    return jax.tree.map(lambda a: alpha * a, x)
