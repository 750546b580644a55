"""The random networks of the counter-examples, and what is computed of each: for `witness`."""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from sublim_theory import losses, trees
from sublim_theory.protocols import Apply, Params, PerExampleLoss, lookup
from sublim_theory.theorem.alignment import first_order
from sublim_theory.theorem.hypotheses import offset_loss, turning_loss
from sublim_theory.theorem.updates import TeacherLoss, change_along, student_update, teacher_update

AUXILIARY = 3
"""How many of the outputs, the last ones, the student imitates; the others are the teacher's classes."""

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": jnp.tanh,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
}

LOSSES: dict[str, PerExampleLoss] = {**losses.IMITATION, "offset": offset_loss, "turning": turning_loss}
"""The imitation losses, and two that fail the hypotheses."""

SMALL = 1e-3
"""The teacher's step at which the theorem's conclusion is shown beside its failure at a large one."""

BATCH = 128
"""Networks that are computed at one time, of successive seeds."""

Numbers: TypeAlias = dict[str, Any]
"""What a search computes of one network, by name, or of a stack of them."""


@functools.cache
def program(name: str, activation: str, loss: str, words: tuple[tuple[str, str], ...]) -> Callable[..., Numbers]:
    """The compiled numbers of a stack of problems: `program(drawn, epsilon, alpha, options that are numbers)`."""
    f, compute = _network(activation), lookup("counter-example", name, _NUMBERS)
    imitation_loss = losses.on_logits(lookup("loss", loss, LOSSES), slice(-AUXILIARY, None))

    def numbers(drawn: Drawn, epsilon: Any, alpha: Any, values: dict[str, Any]) -> Numbers:
        return compute(_Case(f, imitation_loss, drawn, epsilon, alpha, {**dict(words), **values}))

    return jax.jit(jax.vmap(numbers, (0, None, None, None)))


class Drawn(NamedTuple):
    """A random problem, in arrays of numpy or traced ones.

    Attributes:
        params: the teacher's initialisation.
        other: another one.
        teacher_inputs: [inputs, features].
        labels: of the teacher's inputs, [inputs].
        inputs: the student's, [inputs, features].
        direction: normal numbers, like `params`.
    """

    params: Params
    other: Params
    teacher_inputs: Any
    labels: Any
    inputs: Any
    direction: Params


def draw(seed: int, sizes: tuple[int, ...], inputs: int) -> Drawn:
    """The problem of a seed."""
    rng = np.random.default_rng(seed)

    def layers(scaled: bool) -> Params:
        return {
            f"layer_{i}": {
                "kernel": rng.normal(size=shape) / (math.sqrt(shape[0]) if scaled else 1),
                "bias": np.zeros(shape[1]) if scaled else rng.normal(size=shape[1]),
            }
            for i, shape in enumerate(itertools.pairwise(sizes))
        }

    return Drawn(
        params=layers(scaled=True),
        other=layers(scaled=True),
        teacher_inputs=rng.normal(size=(inputs, sizes[0])),
        labels=rng.integers(sizes[-1] - AUXILIARY, size=inputs),
        inputs=rng.normal(size=(inputs, sizes[0])),
        direction=layers(scaled=False),
    )


def _network(activation: str) -> Apply:
    act = ACTIVATIONS[activation]

    def f(params: Params, x: jax.Array) -> jax.Array:
        for i in range(len(params)):
            layer = params[f"layer_{i}"]
            x = (act(x) if i else x) @ layer["kernel"] + layer["bias"]
        return x

    return f


def _cross_entropy(f: Apply, drawn: Drawn) -> TeacherLoss:
    return lambda theta: jnp.mean(losses.cross_entropy(f(theta, drawn.teacher_inputs)[:, :-AUXILIARY], drawn.labels))


def _orthogonal(f: Apply, drawn: Drawn) -> TeacherLoss:
    """`-d . theta`, with d the drawn direction less its part along each `J(x)^T z(x)`, of unit length."""
    flat, unflatten = ravel_pytree(drawn.params)
    d, _ = ravel_pytree(drawn.direction)

    def row(x: jax.Array) -> jax.Array:
        z, pull_back = jax.vjp(lambda theta: f(unflatten(theta), x[None])[0, -AUXILIARY:], flat)
        return pull_back(z)[0]

    basis, _ = jnp.linalg.qr(jax.vmap(row)(drawn.inputs).T)
    for _ in range(2):  # once more for the rounding of the first
        d = d - basis @ (basis.T @ d)
    d = d / jnp.linalg.norm(d)
    return lambda theta: -jnp.vdot(d, ravel_pytree(theta)[0])


class _Case(NamedTuple):
    """One random problem with everything that a search computes from: traced values, but for the functions."""

    f: Apply
    imitation_loss: PerExampleLoss
    drawn: Drawn
    epsilon: Any
    alpha: Any
    options: dict[str, Any]

    def student(self, d_teacher: Params, epsilon: Any, start: Params | None = None) -> Params:
        """`d_S(eps)`, from the shared initialisation or another."""
        labels_from = trees.axpy(epsilon, d_teacher, self.drawn.params)
        start = self.drawn.params if start is None else start
        return student_update(self.f, start, labels_from, self.drawn.inputs, self.imitation_loss)

    def product(self, d_teacher: Params) -> Params:
        """`G d_T`."""
        return first_order(self.f, self.drawn.params, d_teacher, self.drawn.inputs, self.imitation_loss).product

    def change(self, teacher_loss: TeacherLoss, step: Params, start: Params | None = None) -> jax.Array:
        """Of the teacher's loss, by the student's step of size alpha."""
        start = self.drawn.params if start is None else start
        return change_along(teacher_loss, start, trees.scale(self.alpha, step))


def _adam_numbers(case: _Case) -> Numbers:
    teacher_loss = _cross_entropy(case.f, case.drawn)
    tiny = case.options["adam_epsilon"]

    def adam(ascent: Params, size: Any = 1.0) -> Params:
        """The first step of Adam along a gradient of `size` times that; its moments are the gradient and its square."""
        return jax.tree.map(lambda g: size * g / (jnp.abs(size * g) + tiny), ascent)

    d_teacher = teacher_update(teacher_loss, case.drawn.params)
    if case.options["teacher"] == "adam":
        d_teacher = adam(d_teacher)
    plain = case.student(d_teacher, case.epsilon)
    step = adam(plain)
    return {
        "alignment": trees.dot(step, d_teacher),
        "first_order": trees.dot(adam(case.product(d_teacher), case.epsilon), d_teacher),
        "gradient_descent_alignment": trees.dot(plain, d_teacher),
        "teacher_loss_change": case.change(teacher_loss, step),
    }


def _large_numbers(case: _Case) -> Numbers:
    teacher_loss = _cross_entropy(case.f, case.drawn)
    d_teacher = teacher_update(teacher_loss, case.drawn.params)
    step = case.student(d_teacher, case.epsilon)
    return {
        "alignment": trees.dot(step, d_teacher),
        "first_order": trees.dot(case.product(d_teacher), d_teacher),
        "small_epsilon_alignment": trees.dot(case.student(d_teacher, SMALL), d_teacher),
        "teacher_loss_change": case.change(teacher_loss, step),
    }


def _different_numbers(case: _Case) -> Numbers:
    teacher_loss = _cross_entropy(case.f, case.drawn)
    distance = case.options["distance"]
    start = jax.tree.map(lambda a, b: jnp.sqrt(1 - distance**2) * a + distance * b, case.drawn.params, case.drawn.other)
    d_teacher = teacher_update(teacher_loss, case.drawn.params)
    step, shared = case.student(d_teacher, case.epsilon, start), case.student(d_teacher, case.epsilon)
    return {
        "alignment": trees.dot(step, d_teacher),
        "shared_alignment": trees.dot(shared, d_teacher),
        "teacher_loss_change": case.change(teacher_loss, step, start),
        "shared_teacher_loss_change": case.change(teacher_loss, shared),
    }


def _violating_numbers(case: _Case) -> Numbers:
    trait = _orthogonal if case.options["trait"] == "orthogonal" else _cross_entropy
    teacher_loss = trait(case.f, case.drawn)
    d_teacher = teacher_update(teacher_loss, case.drawn.params)
    step = case.student(d_teacher, case.epsilon)
    return {
        "alignment": trees.dot(step, d_teacher),
        "tenth_epsilon_alignment": trees.dot(case.student(d_teacher, case.epsilon / 10), d_teacher),
        "first_order": trees.dot(case.product(d_teacher), d_teacher),
        "teacher_loss_change": case.change(teacher_loss, step),
    }


_NUMBERS: dict[str, Callable[[_Case], Numbers]] = {
    "adam_first_step": _adam_numbers,
    "large_epsilon": _large_numbers,
    "different_initialisation": _different_numbers,
    "violating_loss": _violating_numbers,
}
