"""The first-order law of Theorem 1 and its parts: `d_S(eps) = eps G d_T + O(eps**2)`, `A = d_T^T G d_T >= 0` (eq. 2).

`G = E[J^T M J]` is the generalised Gauss-Newton matrix of the imitation loss on the student's inputs, at the shared
initialisation. It is never formed: a product costs one Jacobian-vector and one vector-Jacobian product a batch.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sublim_theory import trees
from sublim_theory.protocols import Apply, Params, PerExampleLoss
from sublim_theory.theorem.updates import mean_over_inputs


class FirstOrder(NamedTuple):
    """What the student does to first order in eps.

    Attributes:
        product: `G d_T`, a pytree like the parameters.
        coefficient: `A = d_T^T G d_T`, a scalar: the alignment of the two updates is `eps A + O(eps**2)`.
        by_logit: [n], the share of each output in A, `E[v_i (M v)_i]` with `v = J d_T`; their sum is A.
        velocity: root mean square over the inputs of `|J d_T|`, a scalar: how fast the outputs move with eps.
    """

    product: Params
    coefficient: jax.Array
    by_logit: jax.Array
    velocity: jax.Array


def label_curvature(imitation_loss: PerExampleLoss, z: jax.Array, v: jax.Array) -> jax.Array:
    """`M v` for each example, with `M = -d2L/dy dz` at `y = z` (the definition in the proof), [batch, n]."""

    def gradient(y: jax.Array) -> jax.Array:
        return jax.grad(lambda z: jnp.sum(imitation_loss(z, y)))(z)

    return -jax.jvp(gradient, (z,), (v,))[1]


def gauss_newton_product(
    f: Apply,
    params: Params,
    vector: Params,
    inputs: Any,
    imitation_loss: PerExampleLoss,
    *,
    batch_size: int | None = None,
) -> Params:
    """`G v`, a pytree like `params`. Arguments as in `first_order`."""
    return first_order(f, params, vector, inputs, imitation_loss, batch_size=batch_size).product


def first_order(
    f: Apply,
    params: Params,
    d_teacher: Params,
    inputs: Any,
    imitation_loss: PerExampleLoss,
    *,
    batch_size: int | None = None,
) -> FirstOrder:
    """`G d_T` and `A`, with the share of each output.

    Args:
        f: `f(params, x) -> outputs [batch, n]`, pure.
        params: the shared initialisation.
        d_teacher: a pytree like `params`; any direction, not only a gradient (Lemma 1).
        inputs: a pytree of arrays [inputs, ...].
        imitation_loss: per-example loss of (student outputs, labels), [batch].
        batch_size: inputs at a time; all unless given.
    """

    def total(x: Any) -> tuple[Params, jax.Array, jax.Array]:
        def outputs(theta: Params) -> jax.Array:
            return f(theta, x)

        z, v = jax.jvp(outputs, (params,), (d_teacher,))  # d_T -> v = J d_T
        mv = label_curvature(imitation_loss, z, v)  # v   -> M v
        (product,) = jax.vjp(outputs, params)[1](mv)  # M v -> J^T M v
        return product, jnp.sum(v * mv, axis=0), jnp.sum(jnp.square(v))

    product, by_logit, square = mean_over_inputs(total, inputs, batch_size)
    return FirstOrder(product, trees.dot(d_teacher, product), by_logit, jnp.sqrt(square))


def by_layer(d_teacher: Params, product: Params) -> dict[str, jax.Array]:
    """The share of each parameter group in A: the inner products of `d_T` and `G d_T` group by group; their sum is A.

    Groups are the first level of the pytree (the layers of a nested dict), named by their keys.
    """
    shares: dict[str, jax.Array] = {}
    vectors, _ = jax.tree_util.tree_flatten_with_path(d_teacher)
    for (path, vector), image in zip(vectors, jax.tree.leaves(product), strict=True):
        name = jax.tree_util.keystr(path[:1], simple=True) if path else "parameters"
        shares[name] = shares.get(name, 0) + trees.dot(vector, image)
    return shares
