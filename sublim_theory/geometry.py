"""The geometry of any pure `f(params, x)`: its linearisation, its Gauss-Newton matrix, shares, projections.

Nothing here knows a network: parameters, and vectors of them, are pytrees of arrays of any structure, `f` any function
of them, `loss(z, y)` any per-example loss of its outputs. Everything is traceable and works in the dtype it is given.
Sums and products of pytrees are those of `optax.tree`. In the examples `f(w, x) = x @ w` and the loss is squared error.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Float, Key

from sublim_theory._types import Apply, Array, Inputs, Params, PerExampleLoss, Scalar


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


def norm(vector: Params) -> Float[Array, ""]:
    """Euclidean norm of a pytree, a scalar, at the highest precision of products.

    >>> float(norm({"a": jnp.array([3.0]), "b": jnp.array(4.0)}))
    5.0
    """
    return jnp.sqrt(optax.tree.vdot(vector, vector))


def cosine(a: Params, b: Params) -> Float[Array, ""]:
    """Cosine of the angle between two pytrees of one structure, a scalar; 0 where either is exactly zero.

    >>> a, b = {"w": jnp.array([1.0, 0.0])}, {"w": jnp.array([2.0, 0.0])}
    >>> float(cosine(a, b)), float(cosine(a, {"w": jnp.zeros(2)}))
    (1.0, 0.0)
    """
    return quotient(optax.tree.vdot(a, b), norm(a) * norm(b))


def quotient(numerator: Scalar, denominator: Scalar) -> Float[Array, ""]:
    """Their quotient, a scalar; 0 where the denominator, a norm or a square, is exactly zero.

    >>> float(quotient(1.0, 4.0)), float(quotient(1.0, 0.0))
    (0.25, 0.0)
    """
    return jnp.where(denominator > 0, numerator / jnp.where(denominator > 0, denominator, 1), 0)


def by_layer(a: Params, b: Params) -> dict[str, jax.Array]:
    """The share of each layer in the inner product of two pytrees of one structure; the shares add up to it.

    Layers are the first level of the pytree, named by their keys. With `d` and `G d` they are the shares in
    `A = d^T G d`.

    >>> a = {"head": jnp.ones(2), "hidden": jnp.ones(3)}
    >>> {name: float(share) for name, share in by_layer(a, a).items()}
    {'head': 2.0, 'hidden': 3.0}
    """
    shares: dict[str, jax.Array] = {}
    vectors, _ = jax.tree_util.tree_flatten_with_path(a)
    for (path, vector), image in zip(vectors, jax.tree.leaves(b), strict=True):
        name = jax.tree_util.keystr(path[:1], simple=True) if path else "parameters"
        shares[name] = shares.get(name, 0) + optax.tree.vdot(vector, image)
    return shares


def alignment(a: Params, b: Params) -> Alignment:
    """How two pytrees of the same structure lie to each other; layers are the first level, as in `by_layer`.

    >>> found = alignment({"w": jnp.ones(2)}, {"w": jnp.array([1.0, -1.0])})
    >>> float(found.dot), float(found.cosine_by_layer["w"])
    (0.0, 0.0)
    """
    dots, squares_a, squares_b = by_layer(a, b), by_layer(a, a), by_layer(b, b)

    def angle(dot: jax.Array, square_a: jax.Array, square_b: jax.Array) -> jax.Array:
        return quotient(dot, jnp.sqrt(square_a) * jnp.sqrt(square_b))

    cosines = {name: angle(dots[name], squares_a[name], squares_b[name]) for name in dots}
    dot, square_a, square_b = (jnp.sum(jnp.stack([*parts.values()])) for parts in (dots, squares_a, squares_b))
    return Alignment(dot, angle(dot, square_a, square_b), dots, cosines)


def project_out(gradient: Params, trait_gradient: Params, *, both_signs: bool = False) -> Params:
    """The gradient without its component along the trait gradient, where that component would lower the trait loss.

    With `g . t > 0` the result is `g - (g . t / t . t) t`: to first order the step leaves the trait loss as it is.
    Otherwise the step raises the trait loss already, and `g` is returned as it is, unless `both_signs`. An optimiser
    that rescales coordinates, such as Adam, takes it off that plane again. (Kitkana and Arora, arXiv 2604.25779.)

    Args:
        gradient: g, a pytree.
        trait_gradient: t, of the same structure.
        both_signs: project wherever the two are not orthogonal; one-sided, the student is driven away from the trait.

    >>> project_out({"w": jnp.array([1.0, 1.0])}, {"w": jnp.array([2.0, 0.0])})["w"].tolist()
    [0.0, 1.0]
    """
    return optax.tree.add_scale(gradient, -_component(gradient, trait_gradient, both_signs), trait_gradient)


def project_random(gradient: Params, trait_gradient: Params, key: Key[Array, ""]) -> Params:
    """The control of `project_out`: remove as much, where it removes something, along a random direction.

    In each array the direction is isotropic with the norm of the trait gradient there; of the two ways along it, it
    takes the one that shortens the gradient. What is removed has the norm `max(g . t, 0) / |t|`.

    >>> g, t = {"w": jnp.array([1.0, 1.0])}, {"w": jnp.array([2.0, 0.0])}
    >>> round(float(norm(optax.tree.sub(g, project_random(g, t, jax.random.key(0))))), 6)
    1.0
    """
    flat, unravel = ravel_pytree(trait_gradient)
    draws = unravel(jax.random.normal(key, flat.shape, flat.dtype))  # one draw: a generator a leaf is slow to compile
    direction = jax.tree.map(lambda t, draw: norm(t) / norm(draw) * draw, trait_gradient, draws)
    sign = jnp.where(optax.tree.vdot(gradient, direction) < 0, -1, 1).astype(flat.dtype)
    return optax.tree.add_scale(gradient, -sign * _component(gradient, trait_gradient, False), direction)


def linearize(f: Callable[[Params, Any], Any], params: Params) -> Callable[[Params, Any], Any]:
    """The first-order (NTK) model of f: `f(params, x) + J(x) (theta - params)`, a function of the signature of f.

    No Jacobian is formed: a value costs one Jacobian-vector product of f, a gradient one vector-Jacobian product. For a
    quadratic loss and labels that are first-order too, gradient descent on it has the closed form
    `theta_k - params = (I - (I - alpha G)^k) (theta_T - params)` with G of `gauss_newton_product`: fact 11 in
    docs/theorem.md.

    Args:
        f: `f(params, x) -> outputs`, pure, differentiable in its first argument; outputs are any pytree.
        params: the expansion point; may be traced. The derivative of a ReLU is 0 at its kink.

    >>> linear = linearize(lambda w, x: w**2 * x, jnp.array(3.0))
    >>> float(linear(jnp.array(3.5), jnp.array(2.0)))  # 18 + 12 * 0.5
    24.0
    """

    def linear(theta: Params, x: Any) -> Any:
        values, changes = jax.jvp(lambda at: f(at, x), (params,), (optax.tree.sub(theta, params),))
        return jax.tree.map(jnp.add, values, changes)

    return linear


def with_forward_mode(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose reverse-mode rule serves in forward mode, too: for one with a `custom_vjp` and no `custom_jvp`.

    A Jacobian-vector product is the transpose of the vector-Jacobian product, which is linear. Derivatives are those
    in the first argument alone.

    Args:
        f: `f(first, *others)`, differentiable in reverse mode in its first argument, a pytree.

    >>> twice = jax.custom_vjp(lambda a: 2 * a)
    >>> twice.defvjp(lambda a: (2 * a, None), lambda _, g: (2 * g,))
    >>> float(jax.jvp(with_forward_mode(twice), (1.0,), (1.0,))[1])
    2.0
    """

    @jax.custom_jvp
    def either_mode(first: Any, *others: Any) -> Any:
        return f(first, *others)

    @either_mode.defjvp
    def rule(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
        first, *others = primals
        value, pull_back = jax.vjp(lambda first: f(first, *others), first)
        # The transpose of the pull-back, taken at any cotangent: it is linear.
        push_forward = jax.linear_transpose(lambda cotangent: pull_back(cotangent)[0], value)
        return value, push_forward(tangents[0])[0]

    return either_mode


def loss_gradient(loss: PerExampleLoss, z: Float[Array, "*outputs"], y: Float[Array, "*outputs"]) -> jax.Array:
    """`g(z, y) = dL/dz` of a per-example loss, each example's own, of the shape of z.

    >>> loss_gradient(lambda z, y: jnp.sum((z - y) ** 2, axis=-1), jnp.ones((1, 2)), jnp.zeros((1, 2))).tolist()
    [[2.0, 2.0]]
    """
    return jax.grad(lambda z: jnp.sum(loss(z, y)))(z)


def hessian_product(
    loss: PerExampleLoss, z: Float[Array, "*outputs"], y: Float[Array, "*outputs"], v: Float[Array, "*outputs"]
) -> jax.Array:
    """`H(z, y) v` for each example, with H the Hessian of a per-example loss in z, of the shape of z.

    Only derivatives in z are taken, so that what a loss does to the gradient of its labels (`stop_gradient`, as
    distillation code writes it) changes nothing.

    >>> z, y = jnp.ones((1, 2)), jnp.zeros((1, 2))
    >>> hessian_product(lambda z, y: jnp.sum((z - y) ** 2, axis=-1), z, y, z).tolist()
    [[2.0, 2.0]]
    """
    return jax.jvp(lambda z: loss_gradient(loss, z, y), (z,), (v,))[1]


def gauss_newton(
    f: Apply, loss: PerExampleLoss, params: Params, vector: Params, inputs: Inputs, *, batch_size: int | None = None
) -> tuple[Params, Float[Array, " n"]]:
    """`G v`, and the share of each output in `v^T G v`, from one pass; see `gauss_newton_product`.

    Returns:
        The product, a pytree like `params`, and [n], `E[u_i (M u)_i]` with `u = J v`, which add up to `v^T G v`.

    >>> product, shares = gauss_newton(f, loss, jnp.ones((2, 1)), jnp.ones((2, 1)), jnp.eye(2))
    >>> product.tolist(), shares.tolist()
    ([[1.0], [1.0]], [2.0])
    """

    def total(x: Any) -> tuple[Params, jax.Array]:
        z, pull_back = jax.vjp(lambda theta: f(theta, x), params)
        _, u = jax.jvp(lambda theta: f(theta, x), (params,), (vector,))  # v   -> u = J v
        mu = hessian_product(loss, z, z, u)  # u   -> M u
        (product,) = pull_back(mu)  # M u -> J^T M u
        return product, jnp.sum((u * mu).reshape(-1, z.shape[-1]), axis=0)

    return mean_over_inputs(total, inputs, batch_size)


def gauss_newton_product(
    f: Apply, loss: PerExampleLoss, params: Params, vector: Params, inputs: Inputs, *, batch_size: int | None = None
) -> Params:
    """`G v` with `G = E[J^T M J]`: the generalised Gauss-Newton (GGN) matrix, for a softmax loss the Fisher matrix.

    J is the Jacobian of f in the parameters and M the Hessian of the loss in the outputs, both at `params`, where the
    outputs are their own labels. G is never formed: a product costs one Jacobian-vector and one vector-Jacobian product
    a batch. For the squared error G has the non-zero eigenvalues of `2 / inputs` times the empirical neural tangent
    kernel (NTK) `J J^T`.

    Args:
        f: `f(params, x) -> outputs [batch, ..., n]`, pure.
        loss: per-example loss of (outputs, labels), [batch].
        params: where J and M are taken, a pytree.
        vector: v, a pytree like `params`.
        inputs: a pytree of arrays [inputs, ...].
        batch_size: inputs at a time; all unless given.

    >>> gauss_newton_product(f, loss, jnp.ones((2, 1)), jnp.ones((2, 1)), jnp.eye(2)).tolist()
    [[1.0], [1.0]]
    """
    return gauss_newton(f, loss, params, vector, inputs, batch_size=batch_size)[0]


def gauss_newton_operator(
    f: Apply, loss: PerExampleLoss, params: Params, inputs: Inputs, *, batch_size: int | None = None
) -> Any:
    """G of `gauss_newton_product` as a `scipy.sparse.linalg.LinearOperator` on raveled parameters.

    The order of the coordinates is that of `jax.flatten_util.ravel_pytree`. It computes in the dtype of `params`,
    whatever the caller's setting. Arguments as in `gauss_newton_product`.

    >>> gauss_newton_operator(f, loss, jnp.ones((2, 1)), jnp.eye(2)).matvec(np.ones(2)).tolist()
    [1.0, 1.0]
    """
    from scipy.sparse.linalg import LinearOperator

    double = any(leaf.dtype == np.float64 for leaf in jax.tree.leaves(params))
    with jax.enable_x64(double):
        theta, unravel = ravel_pytree(params)

    @jax.jit
    def product(theta: jax.Array, vector: jax.Array, inputs: Any) -> jax.Array:
        image = gauss_newton_product(f, loss, unravel(theta), unravel(vector), inputs, batch_size=batch_size)
        return ravel_pytree(image)[0]

    def matvec(vector: np.ndarray) -> np.ndarray:
        with jax.enable_x64(double), jax.default_matmul_precision("highest"):
            return np.asarray(product(theta, jnp.asarray(np.ravel(vector), theta.dtype), inputs))

    return LinearOperator((theta.size, theta.size), matvec=matvec, rmatvec=matvec, dtype=np.dtype(theta.dtype))


def mean_over_inputs(total: Callable[[Any], Any], inputs: Inputs, batch_size: int | None = None) -> Any:
    """Mean over inputs of a quantity that is a sum over inputs, in batches of bounded memory.

    Args:
        total: `total(batch) -> pytree`, the sum over the inputs of a batch.
        inputs: pytree of arrays [inputs, ...].
        batch_size: inputs at a time; all unless given. The last batch may be shorter.

    >>> float(mean_over_inputs(jnp.sum, jnp.arange(5.0), batch_size=2))
    2.0
    """
    count = len(jax.tree.leaves(inputs)[0])
    size = count if batch_size is None else min(batch_size, count)
    whole = count // size * size
    batches = jax.tree.map(lambda x: x[:whole].reshape(-1, size, *x.shape[1:]), inputs)
    if whole == size:
        result = total(jax.tree.map(lambda x: x[0], batches))
    else:
        shapes = jax.eval_shape(total, jax.tree.map(lambda x: x[0], batches))
        zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        result, _ = jax.lax.scan(lambda running, batch: (optax.tree.add(running, total(batch)), None), zero, batches)
    if whole < count:
        result = optax.tree.add(result, total(jax.tree.map(lambda x: x[whole:], inputs)))
    return optax.tree.scale(1 / count, result)


def _component(gradient: Params, trait_gradient: Params, both_signs: bool) -> jax.Array:
    """`g . t / t . t`, a scalar, not below 0 unless `both_signs`; 0 where t is exactly zero."""
    square, dot = optax.tree.vdot(trait_gradient, trait_gradient), optax.tree.vdot(gradient, trait_gradient)
    return quotient(dot if both_signs else jnp.maximum(dot, 0), square)
