"""The two updates of Theorem 1 (arXiv 2507.14805, section 6.1): the teacher's and the student's, exactly.

Notation, here and in the whole package: `f(params, x) -> z [batch, n]`; `loss(z, y) -> [batch]` the imitation loss of
student outputs z and labels y; theta the shared initialisation; `d_T` and `d_S` the updates; `J = df/dtheta`;
`g(z, y) = dL/dz`; `M = -d2L/dy dz`. Means run over all inputs, in batches of bounded memory.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sublim_theory import trees
from sublim_theory.protocols import Apply, Params, PerExampleLoss

ROUNDING = 1e-12
"""Gradients at z = y below this, relative to the outputs, are rounding."""

SMALL_STEP = 1e-4
"""Root mean square change of the outputs below which updates are integrated along the path: there the difference of
nearly equal outputs has lost four digits or more, and the quadrature is exact to rounding."""

SMALL_CHANGE = 1e-6
"""Change of a function, relative to its value, below which the difference of two values has lost digits."""

TeacherLoss = Callable[[Params], jax.Array]
"""`teacher_loss(params) -> scalar`: any differentiable function of the parameters."""


def teacher_update(teacher_loss: TeacherLoss, params: Params) -> Params:
    """`d_T = -grad L_T(theta)`, a pytree like `params`."""
    return trees.scale(-1, jax.grad(teacher_loss)(params))


def student_update(
    f: Apply,
    params: Params,
    teacher_params: Params,
    inputs: Any,
    imitation_loss: PerExampleLoss,
    *,
    batch_size: int | None = None,
) -> Params:
    """`d_S = -grad E_x L_S(f(theta, x), f(theta_T, x))`: the full-distribution update, not a sample of it.

    Args:
        f: `f(params, x) -> outputs [batch, n]`, pure.
        params: the student's parameters theta.
        teacher_params: the teacher's, after its update; the labels are its outputs.
        inputs: a pytree of arrays [inputs, ...].
        imitation_loss: per-example loss of (student outputs, labels), [batch].
        batch_size: inputs at a time; all unless given.

    Returns:
        A pytree like `params`.
    """

    def total(x: Any) -> Params:
        labels = f(teacher_params, x)
        return jax.grad(lambda student: jnp.sum(imitation_loss(f(student, x), labels)))(params)

    return trees.scale(-1, mean_over_inputs(total, inputs, batch_size))


def student_update_along_path(
    f: Apply,
    params: Params,
    d_teacher: Params,
    epsilon: float | jax.Array,
    inputs: Any,
    imitation_loss: PerExampleLoss,
    *,
    batch_size: int | None = None,
) -> Params:
    """`d_S(eps) / eps`, free of the cancellation that the plain form suffers at small eps.

    The plain form subtracts nearly equal outputs: `g(z, y)` with `y = f(theta + eps d_T)` close to `z = f(theta)`. By
    the fundamental theorem of calculus and g(z, z) = 0,

        d_S(eps) / eps = E[ J(theta)^T integral_0^1 M(z, y_s) J(theta_s) d_T ds ],
        theta_s = theta + s eps d_T,   y_s = f(theta_s),

    which is smooth in eps through 0, where it is `G d_T`. The integral is a Gauss-Legendre sum of three Jacobian-vector
    products: exact to rounding for smooth f at small eps, and for piecewise linear f up to its first kink.

    Args:
        f: as in `student_update`.
        params: the shared initialisation theta.
        d_teacher: the teacher's update d_T.
        epsilon: size of the teacher's step; 0 gives `G d_T`.
        inputs: as in `student_update`.
        imitation_loss: as in `student_update`.
        batch_size: inputs at a time; all unless given.

    Returns:
        A pytree like `params`.
    """

    def total(x: Any) -> Params:
        z, pull_back = jax.vjp(lambda student: f(student, x), params)
        return pull_back(_along_path(f, params, d_teacher, epsilon, x, z, imitation_loss))[0]

    return mean_over_inputs(total, inputs, batch_size)


def _along_path(
    f: Apply,
    params: Params,
    d_teacher: Params,
    epsilon: float | jax.Array,
    x: Any,
    z: jax.Array,
    imitation_loss: PerExampleLoss,
) -> jax.Array:
    """`-g(z, y) / eps` for each example, [batch, n], as the integral along the teacher's path."""
    nodes, weights = _quadrature()
    gradient = jax.grad(lambda z, y: jnp.sum(imitation_loss(z, y)))

    def integrand(node: jax.Array) -> jax.Array:
        there = trees.axpy(node * epsilon, d_teacher, params)
        y, jv = jax.jvp(lambda teacher: f(teacher, x), (there,), (d_teacher,))
        return -jax.jvp(lambda y: gradient(z, y), (y,), (jv,))[1]

    def add(integral: jax.Array, point: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        node, weight = point
        return integral + weight * integrand(node), None

    points = (jnp.asarray(nodes, z.dtype), jnp.asarray(weights, z.dtype))
    integral, _ = jax.lax.scan(add, jnp.zeros_like(z), points)
    # Under the hypotheses g(z, z) = 0. A loss that violates them keeps its term; what is rounding goes.
    resting = gradient(z, z)
    matters = jnp.max(jnp.abs(resting)) > ROUNDING * (1 + jnp.max(jnp.abs(z)))
    resting = jnp.where(matters & (epsilon > 0), resting / jnp.where(epsilon > 0, epsilon, 1), 0)
    return integral - resting


def student_direction(
    f: Apply,
    params: Params,
    d_teacher: Params,
    epsilon: float | jax.Array,
    inputs: Any,
    imitation_loss: PerExampleLoss,
    *,
    velocity: float | jax.Array,
    student_params: Params | None = None,
    batch_size: int | None = None,
) -> Params:
    """`d_S(eps) / eps`, in the form that keeps its digits: along the path up to `SMALL_STEP`, the plain one beyond.

    Args:
        f: as in `student_update`.
        params: the teacher's initialisation theta.
        d_teacher: the teacher's update d_T.
        epsilon: size of the teacher's step; 0 gives `G d_T`.
        inputs: as in `student_update`.
        imitation_loss: as in `student_update`.
        velocity: how fast the outputs move with eps; see `FirstOrder`.
        student_params: the student's initialisation, if it is another one. The form is then the plain one throughout.
        batch_size: inputs at a time; all unless given.

    Returns:
        A pytree like `params`.
    """
    epsilon = jnp.asarray(epsilon)  # so that 1 / 0 is no error in the branch that is not taken
    start = params if student_params is None else student_params

    def total(x: Any) -> Params:
        z, pull_back = jax.vjp(lambda student: f(student, x), start)

        def plain() -> jax.Array:
            y = f(trees.axpy(epsilon, d_teacher, params), x)
            return -jax.grad(lambda z: jnp.sum(imitation_loss(z, y)))(z) / epsilon

        def along_path() -> jax.Array:
            return _along_path(f, params, d_teacher, epsilon, x, z, imitation_loss)

        if student_params is None:
            return pull_back(jax.lax.cond(epsilon * velocity <= SMALL_STEP, along_path, plain))[0]
        return pull_back(plain())[0]

    return mean_over_inputs(total, inputs, batch_size)


def change_along(function: TeacherLoss, params: Params, step: Params) -> jax.Array:
    """`function(params + step) - function(params)`, also where the two agree in nearly all digits.

    Where the function hardly moves along the whole step, its change is the integral of its slope (a Gauss-Legendre sum
    of three directional derivatives); elsewhere it is the difference.
    """
    before = jnp.asarray(function(params))  # a constant may be no array
    difference = function(trees.axpy(1, step, params)) - before
    little = SMALL_CHANGE * jnp.abs(before)

    def integral() -> jax.Array:
        def slope(node: jax.Array) -> jax.Array:
            return jax.jvp(function, (trees.axpy(node, step, params),), (step,))[1]

        nodes, weights = (jnp.asarray(values, before.dtype) for values in _quadrature())
        slopes = jax.lax.map(slope, nodes)
        return jnp.where(jnp.max(jnp.abs(slopes)) < little, jnp.sum(weights * slopes), difference)

    return jax.lax.cond(jnp.abs(difference) < little, integral, lambda: difference)


def _quadrature() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the three-point Gauss-Legendre rule on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(3)
    return (nodes + 1) / 2, weights / 2


def mean_over_inputs(total: Callable[[Any], Any], inputs: Any, batch_size: int | None) -> Any:
    """Mean over inputs of a quantity that is a sum over inputs, in batches of bounded memory.

    Args:
        total: `total(batch) -> pytree`, the sum over the inputs of a batch.
        inputs: pytree of arrays [inputs, ...].
        batch_size: inputs at a time; all unless given. The last batch may be shorter.
    """
    count = len(jax.tree.leaves(inputs)[0])
    size = count if batch_size is None else min(batch_size, count)
    whole = count // size * size

    def add(running: Any, batch: Any) -> tuple[Any, None]:
        return trees.axpy(1, total(batch), running), None

    batches = jax.tree.map(lambda x: x[:whole].reshape(-1, size, *x.shape[1:]), inputs)
    if whole == size:
        result = total(jax.tree.map(lambda x: x[0], batches))
    else:
        shapes = jax.eval_shape(total, jax.tree.map(lambda x: x[0], batches))
        zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        result, _ = jax.lax.scan(add, zero, batches)
    if whole < count:
        result = trees.axpy(1, total(jax.tree.map(lambda x: x[whole:], inputs)), result)
    return trees.scale(1 / count, result)
