"""The updates of Theorem 1 (arXiv 2507.14805, section 6.1), and all that follows from them, as pure functions.

Notation, here and in the whole package: `f(params, x) -> z [batch, ..., n]`; `loss(z, y) -> [batch]` the imitation loss
of student outputs z and labels y; theta the shared initialisation; `d_T` and `d_S` the updates; `J = df/dtheta`;
`g(z, y) = dL/dz`; `H(z, y)` the Hessian of the loss in z and `M = H(z, z)`. Means run over all inputs, in batches of
bounded memory.

Everything here is traceable, under anybody's `jit`, `vmap` and `scan`, and nothing is checked: `Instance` does that.
In the examples `f(w, x) = x @ w` and the loss is squared error.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Float

from sublim_theory import geometry
from sublim_theory._types import Apply, Array, Inputs, Params, PerExampleLoss, Scalar, TeacherLoss

NODES, WEIGHTS = (0.5 - np.sqrt(1 / 12), 0.5 + np.sqrt(1 / 12)), (0.5, 0.5)
"""The Gauss-Legendre rule of two points on [0, 1]: exact for cubic polynomials."""

SMALL_CHANGE = 1e-3
"""Change of the outputs, relative to their size, up to which updates are integrated along the teacher's path. There the
difference of nearly equal outputs has lost three digits or more, and the rule is exact to rounding."""

ROUNDING_OF_OUTPUTS, ROUNDING_OF_GRADIENTS = 2**10, 2**12
"""What may be rounding between an integral and a difference of two outputs, relative to their size, in units of the
spacing of floats; and between one and a gradient of the loss in the outputs."""

SMALL_CHANGE_OF_LOSS = 1e-6
"""Change of the teacher's loss, relative to its value, below which the difference of two values has lost digits."""


class FirstOrder(NamedTuple):
    """What the student does to first order in eps: `d_S(eps) = eps G d_T + O(eps**2)` (eq. 2).

    Attributes:
        direction: d_T, or any other direction (Lemma 1), a pytree.
        product: `G d_T`, a pytree like it.
        coefficient: `A = d_T^T G d_T`, a scalar: the alignment of the two updates is `eps A + O(eps**2)`.
        by_logit: [n], the share of each output in A, `E[v_i (M v)_i]` with `v = J d_T`; their sum is A.
    """

    direction: Params
    product: Params
    coefficient: jax.Array
    by_logit: jax.Array

    def by_layer(self) -> dict[str, jax.Array]:
        """The share of each layer in A (`geometry.by_layer`); their sum is A."""
        return geometry.by_layer(self.direction, self.product)

    def transfer_ratio(self, alpha: Scalar = 1.0) -> jax.Array:
        """The student's decrease of L_T over the teacher's, `alpha A / |d_T|**2`; 0 where d_T is."""
        return geometry.quotient(alpha * self.coefficient, optax.tree.vdot(self.direction, self.direction))

    def sigma_star(self, epsilon: Scalar) -> jax.Array:
        """`eps A / |G d_T|`: how far apart two initialisations may be in each parameter; see `theorem.mismatch`."""
        return jnp.asarray(epsilon * self.coefficient / geometry.norm(self.product))

    def coverage(self, displacement: Params) -> jax.Array:
        """Cosine between `G d_T` and a displacement of the parameters (arXiv 2606.22019), in the limit of small eps."""
        return geometry.cosine(self.product, displacement)


class Steps(NamedTuple):
    """The student's step after a teacher's step of size eps: scalars, or [epsilons] of them.

    Attributes:
        alignment: `d_S . d_T`.
        cosine: of the angle between them.
        remainder: `|d_S - eps G d_T| / |eps G d_T|`; infinite where `G d_T` is 0 and d_S is not.
        change: of the teacher's loss by the student's step, `L_T(theta_S + alpha d_S) - L_T(theta_S)`.
        terms: sum of the sizes of the products that add up to the alignment, the scale of its rounding.
    """

    alignment: Any
    cosine: Any
    remainder: Any
    change: Any
    terms: Any


def teacher_update(teacher_loss: TeacherLoss, params: Params) -> Params:
    """`d_T = -grad L_T(theta)`, a pytree like `params`.

    >>> teacher_update(lambda w: jnp.sum(w**2), jnp.array([1.0, 2.0])).tolist()
    [-2.0, -4.0]
    """
    return optax.tree.scale(-1, jax.grad(teacher_loss)(params))


def imitation_update(
    f: Apply,
    loss: PerExampleLoss,
    params: Params,
    teacher_params: Params,
    inputs: Inputs,
    *,
    batch_size: int | None = None,
) -> Params:
    """`-grad E_x L(f(theta, x), f(theta_T, x))` in theta: the student's update by its definition, for any two points.

    The full-distribution update, not a sample of it. After a *small* step of the teacher the outputs are nearly equal
    and their difference loses digits: `student_update` keeps them.

    Args:
        f: `f(params, x) -> outputs [batch, ..., n]`, pure.
        loss: per-example loss of (student outputs, labels), [batch].
        params: the student's parameters theta, a pytree, as the update is.
        teacher_params: the teacher's, after its update; the labels are its outputs.
        inputs: a pytree of arrays [inputs, ...].
        batch_size: inputs at a time; all unless given.

    >>> imitation_update(f, loss, jnp.zeros((2, 1)), jnp.ones((2, 1)), jnp.eye(2)).tolist()
    [[1.0], [1.0]]
    """

    def total(x: Any) -> Params:
        labels = f(teacher_params, x)
        return jax.grad(lambda student: jnp.sum(loss(f(student, x), labels)))(params)

    return optax.tree.scale(-1, geometry.mean_over_inputs(total, inputs, batch_size))


def student_update(
    f: Apply,
    loss: PerExampleLoss,
    params: Params,
    d_teacher: Params,
    epsilon: Scalar,
    inputs: Inputs,
    *,
    student_params: Params | None = None,
    batch_size: int | None = None,
) -> Params:
    """`d_S(eps) / eps` after the teacher's step `eps d_T`, right to rounding at every eps; at 0 it is `G d_T`.

    The definition, `imitation_update`, takes the gradient of the loss between outputs `z = f(theta, x)` and labels
    `y = f(theta + eps d_T, x)` that agree in nearly all digits. With the fundamental theorem of calculus, twice,

        (y - z) / eps = integral_0^1 J(theta + s eps d_T) d_T ds,
        -g(z, y) / eps = integral_0^1 H(z + s (y - z), y) ds (y - z) / eps - g(y, y) / eps,

    and `g(y, y) = 0` under the hypotheses, nothing cancels, and no derivative in the labels is taken. Output by output
    the integral (a Gauss-Legendre sum) serves where the outputs moved little and it agrees with the difference of the
    values to the rounding of that difference. Where they disagree (a kink within the step, a derivative that is not
    that of the values, a loss without a minimum at z = y) the values win.

    Args:
        f: as in `imitation_update`; both modes of differentiation.
        loss: as there; twice differentiable in the first argument.
        params: the teacher's initialisation theta, a pytree, as the update is.
        d_teacher: the direction of the teacher's step, a pytree like `params`.
        epsilon: its size, not negative; 0 gives the limit of small ones.
        inputs: a pytree of arrays [inputs, ...].
        student_params: the student's initialisation, if it is another one; nothing cancels then, and epsilon must be
            positive.
        batch_size: inputs at a time; all unless given.

    >>> student_update(f, loss, jnp.zeros((2, 1)), jnp.ones((2, 1)), 1e-9, jnp.eye(2)).tolist()
    [[1.0], [1.0]]
    """
    start = params if student_params is None else student_params
    size = jnp.asarray(epsilon, jnp.result_type(*jax.tree.leaves(params)))
    divisor = jnp.where(size > 0, size, 1)

    def total(x: Any) -> Params:
        z, pull_back = jax.vjp(lambda student: f(student, x), start)
        y = f(optax.tree.add_scale(params, size, d_teacher), x)

        def by_definition() -> jax.Array:
            return -geometry.loss_gradient(loss, z, y) / divisor

        def by_integrals() -> jax.Array:
            speed = _integral(
                lambda node: jax.jvp(
                    lambda teacher: f(teacher, x), (optax.tree.add_scale(params, node * size, d_teacher),), (d_teacher,)
                )[1],
                jnp.zeros_like(z),
            )
            moved = y - z
            agree = jnp.abs(moved - size * speed) <= ROUNDING_OF_OUTPUTS * spacing
            speed = jnp.where(agree | (size == 0), speed, moved / divisor)
            response = _integral(
                lambda node: geometry.hessian_product(loss, z + node * size * speed, y, speed), jnp.zeros_like(z)
            )
            gradient = geometry.loss_gradient(loss, z, y)
            # Under the hypotheses they agree; a loss without its minimum at z = y, or with a kink there, shows here.
            agree = jnp.abs(gradient + size * response) <= ROUNDING_OF_GRADIENTS * spacing
            little = jnp.max(jnp.abs(moved), axis=-1, keepdims=True) <= SMALL_CHANGE * scale
            return jnp.where((agree & little) | (size == 0), response, -gradient / divisor)

        if student_params is not None:
            return pull_back(by_definition())[0]
        scale = 1 + jnp.max(jnp.abs(z))
        spacing = float(np.finfo(z.dtype).eps) * scale
        columns = (y - z).reshape(-1, z.shape[-1])
        change = jnp.sqrt(jnp.mean(jnp.square(columns), axis=0))
        little = (change <= SMALL_CHANGE * scale) & (change > 0)
        near = jnp.any(little) | jnp.all(change == 0)  # an output that never moves needs no integral
        return pull_back(jax.lax.cond(near, by_integrals, by_definition))[0]

    return geometry.mean_over_inputs(total, inputs, batch_size)


def first_order(
    f: Apply, loss: PerExampleLoss, params: Params, d_teacher: Params, inputs: Inputs, *, batch_size: int | None = None
) -> FirstOrder:
    """The first-order law: `G d_T` and `A = d_T^T G d_T >= 0` (eq. 2), with the share of each output.

    The arguments are those of `student_update`; d_T may be any direction, not only a gradient (Lemma 1).

    >>> law = first_order(f, loss, jnp.zeros((2, 1)), jnp.ones((2, 1)), jnp.eye(2))
    >>> float(law.coefficient), float(law.transfer_ratio())
    (2.0, 1.0)
    """
    product, by_logit = geometry.gauss_newton(f, loss, params, d_teacher, inputs, batch_size=batch_size)
    return FirstOrder(d_teacher, product, optax.tree.vdot(d_teacher, product), by_logit)


def student_steps(
    f: Apply,
    loss: PerExampleLoss,
    teacher_loss: TeacherLoss,
    params: Params,
    law: FirstOrder,
    epsilons: Float[Array, " epsilons"],
    inputs: Inputs,
    *,
    alpha: Scalar = 1.0,
    student_params: Params | None = None,
    batch_size: int | None = None,
) -> Steps:
    """The student's step at each eps, one after the other: alignment, remainder, change of the teacher's loss.

    The arguments are those of `student_update`, and `law`, which is `first_order` there, and alpha, the student's
    learning rate.

    >>> trait, w, x = lambda w: jnp.sum(w), jnp.zeros((2, 1)), jnp.eye(2)
    >>> law = first_order(f, loss, w, teacher_update(trait, w), x)
    >>> student_steps(f, loss, trait, w, law, jnp.array([0.5]), x).change.tolist()
    [-1.0]
    """
    start = params if student_params is None else student_params
    # As vectors: an operation on each leaf would be compiled for each.
    teacher, product = ravel_pytree(law.direction)[0], ravel_pytree(law.product)[0]

    def step(epsilon: jax.Array) -> Steps:
        # Divided by eps, as digits would be lost otherwise.
        update = student_update(
            f, loss, params, law.direction, epsilon, inputs, student_params=student_params, batch_size=batch_size
        )
        vector = ravel_pytree(update)[0]
        rest = geometry.norm(vector - product)
        return Steps(
            epsilon * optax.tree.vdot(vector, teacher),
            geometry.cosine(vector, teacher),
            jnp.where(rest > 0, rest / geometry.norm(product), 0),
            change_along(teacher_loss, start, optax.tree.scale(alpha * epsilon, update)),
            epsilon * optax.tree.vdot(jnp.abs(vector), jnp.abs(teacher)),
        )

    return jax.lax.map(step, epsilons)


def change_along(function: TeacherLoss, params: Params, step: Params) -> jax.Array:
    """`function(params + step) - function(params)`, also where the two agree in nearly all digits.

    Where the function hardly moves along the whole step, its change is the integral of its slope (a Gauss-Legendre sum
    of directional derivatives), if that agrees with the difference to the difference's rounding; elsewhere it is the
    difference.

    >>> round(float(change_along(lambda w: 1 + jnp.sum(w), jnp.zeros(1), jnp.full(1, 1e-12))), 15)
    1e-12
    """
    before = jnp.asarray(function(params))  # a constant may be no array
    difference = function(optax.tree.add_scale(params, 1, step)) - before
    little = SMALL_CHANGE_OF_LOSS * jnp.abs(before)

    def integral() -> jax.Array:
        def slope(node: jax.Array) -> jax.Array:
            return jax.jvp(function, (optax.tree.add_scale(params, node, step),), (step,))[1]

        slopes = _integral(slope, jnp.zeros_like(before))
        spacing = float(np.finfo(before.dtype).eps) * (1 + jnp.abs(before))
        agree = jnp.abs(slopes - difference) <= ROUNDING_OF_OUTPUTS * spacing
        return jnp.where(agree, slopes, difference)

    return jax.lax.cond(jnp.abs(difference) < little, integral, lambda: difference)


def curvature_along(teacher_loss: TeacherLoss, params: Params, direction: Params, reach: Scalar, points: int) -> Any:
    """The largest second derivative of `b -> L_T(params + b direction)` seen at points of [0, reach], a scalar.

    The growth of the first derivative from 0 counts, too, which sees the kinks that a Hessian does not. Infinite where
    something on the way is not finite.

    >>> float(curvature_along(lambda w: jnp.sum(w**2), jnp.zeros(1), jnp.ones(1), 1.0, 3))
    2.0
    """

    def slope(b: jax.Array) -> jax.Array:
        there = optax.tree.add_scale(params, b, direction)
        return jax.jvp(teacher_loss, (there,), (direction,))[1]

    nodes = jnp.linspace(0, 1, points) * reach
    slopes, bends = jax.lax.map(lambda b: jax.jvp(slope, (b,), (jnp.ones_like(b),)), nodes)
    seen = jnp.concatenate([bends, (slopes[1:] - slopes[0]) / nodes[1:]])
    return jnp.where(jnp.isfinite(seen).all(), seen.max(), jnp.inf)


def _integral(integrand: Any, zero: jax.Array) -> jax.Array:
    """The integral over [0, 1] by the two-point rule, one point after the other: the integrand is compiled once."""
    points = (jnp.asarray(NODES, zero.dtype), jnp.asarray(WEIGHTS, zero.dtype))
    total, _ = jax.lax.scan(lambda running, point: (running + point[1] * integrand(point[0]), None), zero, points)
    return total
