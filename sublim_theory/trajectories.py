"""Beyond the first step: how the distillation gradient lies to the trait along a path, and transforms that change it.

Theorem 1 speaks of one step. Over many steps the question is whether the *distillation gradient* (of the imitation
loss) stays aligned with the *trait gradient* (of the teacher's loss, at the student's current parameters), and whether
that alignment is what transfers the trait. The transforms here take it out, or do as much to a direction that means
nothing (Kitkana and Arora, arXiv 2604.25779).

Everything is in terms of gradients: a step is minus a gradient, so two aligned gradients are two aligned steps, and a
small step along minus `g` lowers the trait loss exactly where `g . t > 0`, with `t` the trait gradient.

What the theorem predicts of a whole path is the path of the `linearised` student.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from sublim_theory import trees
from sublim_theory.models import Network
from sublim_theory.protocols import Params
from sublim_theory.theorem import by_layer


class Alignment(NamedTuple):
    """Inner product and cosine of two vectors of parameters, scalars, whole and by layer.

    Attributes:
        dot: inner product.
        cosine: of the angle; 0 where a vector is exactly zero.
        dot_by_layer: the inner product's shares; they add up to `dot`.
        cosine_by_layer: cosine of the two parts in each layer, a statement about that layer alone.
    """

    dot: jax.Array
    cosine: jax.Array
    dot_by_layer: dict[str, jax.Array]
    cosine_by_layer: dict[str, jax.Array]


def alignment(a: Params, b: Params) -> Alignment:
    """How two pytrees of the same structure lie to each other; layers are the first level, as in `theorem.by_layer`."""
    dots, squares_a, squares_b = by_layer(a, b), by_layer(a, a), by_layer(b, b)

    def cosine(dot: jax.Array, square_a: jax.Array, square_b: jax.Array) -> jax.Array:
        scale = jnp.sqrt(square_a) * jnp.sqrt(square_b)
        return jnp.where(scale > 0, dot / jnp.where(scale > 0, scale, 1), 0)

    cosines = {name: cosine(dots[name], squares_a[name], squares_b[name]) for name in dots}
    dot, square_a, square_b = (jnp.sum(jnp.stack([*parts.values()])) for parts in (dots, squares_a, squares_b))
    return Alignment(dot, cosine(dot, square_a, square_b), dots, cosines)


def project_out(gradient: Params, trait_gradient: Params, *, both_signs: bool = False) -> Params:
    """The gradient without its component along the trait gradient, where that component would lower the trait loss.

    With `g . t > 0` the result is `g - (g . t / t . t) t`, on the normal plane of `t`: to first order the step leaves
    the trait loss as it is. Otherwise the step raises the trait loss already, and `g` is returned as it is, unless
    `both_signs`. An optimiser that rescales coordinates, such as Adam, takes the step off that plane again.

    Args:
        gradient: g, a pytree.
        trait_gradient: t, of the same structure.
        both_signs: project wherever the two are not orthogonal. One-sided projection keeps what raises the trait loss,
            and so drives the student away from the trait; this takes neither side.
    """
    return trees.axpy(-_share(gradient, trait_gradient, both_signs), trait_gradient, gradient)


def project_random(gradient: Params, trait_gradient: Params, key: jax.Array) -> Params:
    """The control of `project_out`: remove as much, where it removes something, along a random direction.

    In each array the direction is isotropic with the norm of the trait gradient there, so it is spread over the
    layers alike; of the two ways along it, it takes the one that shortens the gradient to first order. What is removed
    has the norm `max(g . t, 0) / |t|`, which is more than the gradient's own component along that direction.

    Args:
        gradient: g, a pytree.
        trait_gradient: t, of the same structure.
        key: PRNG key of the direction.
    """
    flat, unravel = ravel_pytree(trait_gradient)
    draws = unravel(jax.random.normal(key, flat.shape, flat.dtype))  # one draw: a generator a leaf is slow to compile
    direction = jax.tree.map(lambda t, draw: trees.norm(t) / trees.norm(draw) * draw, trait_gradient, draws)
    sign = jnp.where(trees.dot(gradient, direction) < 0, -1, 1)
    return trees.axpy(-sign * _share(gradient, trait_gradient, False), direction, gradient)


def _share(gradient: Params, trait_gradient: Params, both_signs: bool) -> jax.Array:
    """`g . t / t . t`, a scalar, not below 0 unless `both_signs`; 0 where t is exactly zero."""
    square, dot = trees.dot(trait_gradient, trait_gradient), trees.dot(gradient, trait_gradient)
    return jnp.where(square > 0, (dot if both_signs else jnp.maximum(dot, 0)) / jnp.where(square > 0, square, 1), 0)


def linearised(net: Network, reference: Params) -> Network:
    """The first-order (NTK) model of a network: `f(theta0, x) + J(x) (theta - theta0)`, J the Jacobian at theta0.

    It is a network like any other, linear in its parameters, so training it predicts the path of the real one: there is
    no second training code, and no Jacobian is ever formed. `hidden` is to first order too.

    `apply` costs one jvp of the real network, and its transpose, which autodiff takes, is one vjp at `reference`. So
    gradient descent on a loss with gradient g in the logits is the exact recursion

        theta_{k+1} = theta_k - alpha E[J^T g(f_lin(theta_k), y)],

    and `training.distil` with `Student(reference, loss, net=linearised(net, reference))` runs it, under any optimiser.
    For a quadratic loss, the whole distribution in every batch, and labels that are first-order too,
    `y = f_lin(theta_T)`, it has the closed form `theta_k - theta0 = (I - (I - alpha G)^k) (theta_T - theta0)`, where
    G is `E[J^T M J]` and M the Hessian of the loss in the logits (2 I for the squared error): the discrete form of
    fact 11 in docs/theorem.md.

    Args:
        net: the network.
        reference: the expansion point, parameters of `net`; may be traced. The derivative of a ReLU is 0 at its kink.

    Returns:
        A network of parameters of the same structure; its `init` is that of `net`.
    """

    def to_first_order(function: Callable[[Params, jax.Array], Any]) -> Callable[[Params, jax.Array], Any]:
        def linear(params: Params, x: jax.Array) -> Any:
            moved = trees.axpy(-1, reference, params)
            values, changes = jax.jvp(lambda at: function(at, x), (reference,), (moved,))
            return jax.tree.map(jnp.add, values, changes)

        return linear

    return replace(net, apply=to_first_order(net.apply), hidden=to_first_order(net.hidden))
