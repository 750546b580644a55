"""Theorem 1 by hand: the student's update and its alignment, against the library in float64 on hidden networks."""

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from sublim_theory import losses, theorem
from sublim_theory._types import Params, PerExampleLoss
from sublim_theory.theorem.compiling import in_float64

CLOSE = 1e-9
"""Relative difference below which two numbers are the same in float64."""
SINGLE = 1e-4
"""Below which they are the same in float32."""

LOSSES: dict[str, PerExampleLoss] = {"squared_error": losses.squared_error, "softmax": losses.soft_cross_entropy}

Activation = Callable[[jax.Array], jax.Array]


class Task:
    """A hidden network with a teacher, float64: what the student's functions are called with, and what is right."""

    def __init__(
        self, activation: Activation, hidden: tuple[int, ...], as_list: bool, loss: str, logits: slice, epsilon: float
    ):
        rng = np.random.default_rng(41 + len(hidden))
        x, self.inputs = (jnp.asarray(rng.normal(size=(30, 5))) for _ in range(2))
        shapes = pairwise((5, *hidden, 7))
        layers = [
            {"kernel": rng.normal(size=shape) / 2, "bias": rng.normal(size=(1, shape[1])) / 2} for shape in shapes
        ]
        start: Params = layers if as_list else {f"layer_{i}": layer for i, layer in enumerate(layers)}
        self.params = jax.tree.map(jnp.asarray, start)

        # What is compiled whole takes less time than piece by piece.
        @jax.jit
        def f(params: Params, x: jax.Array) -> jax.Array:
            *body, head = params if as_list else params.values()
            for layer in body:
                x = activation(x @ layer["kernel"] + layer["bias"])
            return x @ head["kernel"] + head["bias"]

        @jax.jit
        def teacher_loss(params: Params) -> jax.Array:
            return jnp.mean(losses.cross_entropy(f(params, x)[:, :4], jnp.arange(30) % 4))

        @jax.jit
        def steps(params: Params) -> tuple[Params, Params]:
            direction = theorem.teacher_update(teacher_loss, params)
            return direction, optax.tree.add_scale(params, epsilon, direction)

        self.f, self.teacher_loss, self.loss, self.logits, self.epsilon = f, teacher_loss, loss, logits, epsilon
        self.asked = losses.on_logits(LOSSES[loss], logits)
        self.direction, self.moved = steps(self.params)
        self.d_teacher = np.asarray(ravel_pytree(self.direction)[0])
        self.right = self.update(self.params, self.moved)

    def update(self, at: Params, labels_of: Params, loss: PerExampleLoss | None = None) -> np.ndarray:
        """The library's update of a student at some parameters that imitates others, raveled."""
        loss = loss or self.asked
        found = jax.jit(lambda a, b: theorem.imitation_update(self.f, loss, a, b, self.inputs))(at, labels_of)
        return np.asarray(ravel_pytree(found)[0])


AUXILIARY = slice(4, 7)
TASKS: dict[str, tuple[Any, ...]] = {
    "softmax on the auxiliary outputs": (jnp.tanh, (7,), False, "softmax", AUXILIARY, 0.3),
    "squared_error on the auxiliary outputs, two hidden layers": (
        jax.nn.gelu,
        (6, 5),
        False,
        "squared_error",
        AUXILIARY,
        0.2,
    ),
    "softmax on all outputs, parameters in a list": (jnp.tanh, (6,), True, "softmax", slice(0, 7), 0.4),
    "squared_error on some outputs, parameters in a list": (jax.nn.gelu, (5,), True, "squared_error", slice(1, 3), 0.1),
}


@cache
def task(kind: str) -> Task:
    """One of `TASKS`."""
    return Task(*TASKS[kind])


@pytest.mark.parametrize("kind", TASKS)
def test_student_update(answer: Any, kind: str) -> None:
    """`student_update`."""
    with in_float64():
        here = task(kind)
        given = answer.student_update(here.f, here.params, here.moved, here.inputs, here.loss, here.logits)
        found, shapes = (jax.tree.map(np.shape, each) for each in (given, here.params))
        assert found == shapes, "it must be a pytree like `params`, with the same shapes: an update of every parameter"
        found = np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(given)])
        assert np.isfinite(found).all(), (
            "it has entries that are not finite; the outputs and labels here are all of ordinary size"
        )
        assert np.linalg.norm(found) > CLOSE * np.linalg.norm(here.right), (
            "it is 0, so student and teacher agree already: the labels are the outputs of `teacher_params`, the "
            "student's outputs are those of `params`, and both are needed in one loss"
        )
        hint = _compare(found, here)
    assert not hint, hint


def _compare(found: np.ndarray, here: Task) -> str:
    """The hint for an update that is not the right one; empty where it is."""
    difference = float(np.linalg.norm(found - here.right) / np.linalg.norm(here.right))
    if difference <= CLOSE:
        return ""
    if difference <= SINGLE:
        return f"it is right in single precision only (off by {difference:.0e}): something inside it is no float64"
    for hint, value in {"": here.right, **_other_updates(here)}.items():
        factor = float(found @ value) / float(value @ value) if value.any() else 0.0
        if not factor or np.linalg.norm(found - factor * value) > SINGLE * np.linalg.norm(found):
            continue
        lengths = {
            1.0: "",
            float(len(here.inputs)): "the theorem has the mean over the inputs, and this looks like their sum",
            1 / (here.logits.stop - here.logits.start): "the mean runs over the inputs; over the outputs runs a sum",
            0.5: "there is no factor 1/2 in this squared error",
            2.0: "there is a factor of 2 too much",
        }
        sign = "it points the other way: an update goes down the loss" if factor < 0 else ""
        length = (text for known, text in lengths.items() if abs(abs(factor) / known - 1) < SINGLE)
        parts = hint, sign, next(length, f"its length is off by a factor of {abs(factor):.3g}")
        return "; and ".join(filter(None, parts))
    return "it points somewhere else; try one input and one parameter, and compare with a difference quotient"


@cache
def _other_updates(here: Task) -> dict[str, np.ndarray]:
    """What mistakes give, by the hint that fits."""
    softmax, squares, chosen = losses.soft_cross_entropy, losses.squared_error, here.logits

    def swapped(student_logits: jax.Array, labels: jax.Array) -> jax.Array:
        return softmax(labels, student_logits)

    def cut_afterwards(student_logits: jax.Array, labels: jax.Array) -> jax.Array:
        return -jnp.sum((jax.nn.softmax(labels) * jax.nn.log_softmax(student_logits))[..., chosen], axis=-1)

    wrong: dict[str, PerExampleLoss] = {
        "all outputs are imitated; only those in `logits` count": squares,
        "this is the softmax's update; `loss` says which one is asked for": losses.on_logits(softmax, chosen),
    }
    if here.loss == "softmax":
        wrong = {
            "the softmax runs over all outputs; choose `logits` first, and then take a softmax over those": softmax,
            "the softmax runs over all outputs and is cut down afterwards; choose `logits` first": cut_afterwards,
            "the two distributions have changed places: whose probabilities weigh whose logarithms?": (
                losses.on_logits(swapped, chosen)
            ),
            "this is a squared error, of outputs or of probabilities; `loss` says which one is asked for": (
                losses.on_logits(squares, chosen)
            ),
        }
    at_the_teacher = (
        "the gradient is taken at the teacher's parameters; the student starts at `params`, has not moved yet"
    )
    every = {hint: here.update(here.params, here.moved, loss) for hint, loss in wrong.items()}
    return {at_the_teacher: here.update(here.moved, here.params), **every}


@pytest.mark.parametrize("kind", list(TASKS)[:2])
def test_alignment(answer: Any, kind: str) -> None:
    """`alignment`."""
    with in_float64():
        here = task(kind)
        given = answer.alignment(
            here.f, here.params, here.teacher_loss, here.epsilon, here.inputs, here.loss, here.logits
        )
        assert np.shape(given) == (), f"it must be one number, got the shape {np.shape(given)}"
        found, right = float(given), float(here.right @ here.d_teacher)
        assert np.isfinite(found), f"it is {found}; every quantity here is finite"
        assert abs(found) > CLOSE * abs(right), (
            "it is 0, so student and teacher stand at the same place: the labels come from the teacher after its step, "
            "and the student starts where the teacher started"
        )
        off = abs(found / right - 1)
        assert not CLOSE < off <= SINGLE, f"it is right in single precision only (off by {off:.0e})"
        own = "it is none that a usual mistake gives: put `student_update` right first, then try difference quotients"
        near = (hint for hint, value in _other_products(here).items() if abs(found - value) <= SINGLE * abs(value))
        assert off <= CLOSE, next(near, own)


@cache
def _other_products(here: Task) -> dict[str, float]:
    """What mistakes give, by the hint that fits."""
    right = float(here.right @ here.d_teacher)
    law = theorem.first_order(here.f, here.asked, here.params, here.direction, here.inputs)
    up = float(
        here.update(here.params, optax.tree.add_scale(here.params, -here.epsilon, here.direction)) @ here.d_teacher
    )
    later = np.asarray(ravel_pytree(theorem.teacher_update(here.teacher_loss, here.moved))[0])
    lengths = np.linalg.norm(here.right) * np.linalg.norm(here.d_teacher)
    teachers = "the teacher has gone up its loss; its update is minus the gradient"
    return {
        "its sign is wrong: both are updates, and an update is minus a gradient": -right,
        "it is divided by eps; asked is the inner product itself": right / here.epsilon,
        "the teacher's update is d_T, without eps; eps is the size of the step along it": right * here.epsilon,
        "this is a cosine; asked is the inner product": right / float(lengths),
        "this is the first-order law; asked is what the whole step gives": here.epsilon * float(law.coefficient),
        "it is a sum over the inputs; the theorem has their mean": right * len(here.inputs),
        teachers: up,
        f"{teachers}, and both signs": -up,
        "the student starts where the teacher ended; it starts at `params`": (
            float(here.update(here.moved, here.params) @ here.d_teacher)
        ),
        "d_T is the teacher's update at the start, not after its step": float(here.right @ later),
    }
