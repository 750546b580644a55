"""Theorem 1 by hand: the student's update and its alignment, against the library in float64 on hidden networks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from exercises.answer import Answer, Finding
from sublim_theory import losses, networks, theorem
from sublim_theory._types import Apply, Params, PerExampleLoss
from sublim_theory.theorem.compiling import in_float64

CLOSE = 1e-9
"""Relative difference below which two numbers are the same in float64."""
SINGLE = 1e-4
"""Below which they are the same in float32."""

LOSSES: dict[str, PerExampleLoss] = {"squared_error": losses.squared_error, "softmax": losses.soft_cross_entropy}

Candidates = dict[str, Callable[[], Any]]
"""What a mistake gives, by the hint that fits it."""


@dataclass(frozen=True, eq=False)
class Task:
    """A hidden network with a teacher: what the student's functions are called with.

    Attributes:
        kind: what the student is told of it.
        f: the network.
        params: its start, float64.
        teacher_loss: of the parameters.
        inputs: the student's [inputs, features].
        loss: name of one of `LOSSES`.
        logits: those that the student imitates.
        epsilon: size of the teacher's step.
    """

    kind: str
    f: Apply
    params: Params
    teacher_loss: Callable[[Params], jax.Array]
    inputs: jax.Array
    loss: str
    logits: slice
    epsilon: float

    @cached_property
    def steps(self) -> tuple[Params, Params]:
        """The teacher's update, and where the teacher is after it."""

        def steps(params: Params) -> tuple[Params, Params]:
            direction = theorem.teacher_update(self.teacher_loss, params)
            return direction, optax.tree.add_scale(params, self.epsilon, direction)

        return jax.jit(steps)(self.params)

    @cached_property
    def right(self) -> np.ndarray:
        """The student's update, raveled."""
        return self.update(self.params, self.steps[1])

    def update(self, at: Params, labels_of: Params, loss: "PerExampleLoss | None" = None) -> np.ndarray:
        """The library's update of a student at some parameters that imitates others, raveled."""
        loss = losses.on_logits(LOSSES[self.loss], self.logits) if loss is None else loss
        found = jax.jit(lambda a, b: theorem.imitation_update(self.f, loss, a, b, self.inputs))(at, labels_of)
        return np.asarray(ravel_pytree(found)[0])


def check(answer: Answer) -> Iterator[str | Finding]:
    """Findings on `student_update` and `alignment`."""
    tasks = [
        partial(_two_heads, "tanh", (7,), 41, "softmax", 0.3),
        partial(_two_heads, "gelu", (6, 5), 42, "squared_error", 0.2),
        partial(_a_list, 43, "softmax", (0, 4), 0.4),
        partial(_a_list, 44, "squared_error", (1, 3), 0.1),
    ]
    made: list[Task] = []
    wrong: list[Task] = []
    for number, make in enumerate(tasks):
        yield f"student_update, network {number + 1} of {len(tasks)}"
        with in_float64():
            made.append(make())
            hint = _update_hint(answer, made[-1])
        wrong += made[-1:] if hint else []
        yield _finding("student_update", made[-1], hint)
    for number, here in enumerate(made[:2]):
        yield f"alignment, network {number + 1} of 2"
        with in_float64():
            hint = _alignment_hint(answer, here)
        if hint and here in wrong:
            hint += "; where it uses `student_update`, put that right first"
        yield _finding("alignment", here, hint)


def _finding(name: str, here: Task, hint: str) -> Finding:
    return Finding(f"{name}, {here.kind}", not hint, hint or "as the library has it")


@cache
def _two_heads(activation: str, hidden: tuple[int, ...], seed: int, loss: str, epsilon: float) -> Task:
    """A network of the library: nested dicts, a class head and an auxiliary one."""
    net, rng = networks.mlp(5, hidden, 4, 3, activation, dtype="float64"), np.random.default_rng(seed)
    x, inputs = (jnp.asarray(rng.normal(size=(30, 5))) for _ in range(2))
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    start = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / 2), shapes)

    def teacher_loss(params: Params) -> jax.Array:
        return jnp.mean(losses.cross_entropy(net.class_logits(net.apply(params, x)), jnp.arange(30) % 4))

    kind = f"{loss} on the auxiliary outputs of a {activation} network with {len(hidden)} hidden layer(s)"
    # What is compiled whole takes less time than piece by piece.
    f, trait = jax.jit(net.apply), jax.jit(teacher_loss)
    return Task(kind, f, start, trait, inputs, loss, net.auxiliary, epsilon)


@cache
def _a_list(seed: int, loss: str, logits: tuple[int, int], epsilon: float) -> Task:
    """A hand-written network, whose parameters are a list; the teacher's loss has nothing to do with it."""
    rng = np.random.default_rng(seed)
    a, b, inputs = (jnp.asarray(rng.normal(size=shape)) for shape in ((3, 6), (6, 4), (25, 3)))

    def f(params: Params, x: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(x @ params[0]) @ params[1] + params[2]

    def teacher_loss(params: Params) -> jax.Array:
        return jnp.sum(jnp.cos(params[0])) + jnp.sum(params[1] ** 2) + jnp.sum(params[2])

    which = "all" if logits == (0, 4) else "some"
    kind = f"{loss} on {which} outputs of a sigmoid network whose parameters are a list"
    return Task(kind, f, [a, b, jnp.zeros(4)], teacher_loss, inputs, loss, slice(*logits), epsilon)


def _update_hint(answer: Answer, here: Task) -> str:
    """What is wrong with `student_update`; empty where nothing is."""
    _, teacher = here.steps
    given = answer.call("student_update", here.f, here.params, teacher, here.inputs, here.loss, here.logits)
    with answer.guarded("the value of `student_update`"):
        structures: list[Any] = [jax.tree.structure(each) for each in (given, here.params)]
        shapes = [[np.shape(leaf) for leaf in jax.tree.leaves(each)] for each in (given, here.params)]
        if structures[0] != structures[1] or shapes[0] != shapes[1]:
            return "it must be a pytree like `params`, with the same shapes: an update of every parameter"
        found = np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(given)])
    if not np.isfinite(found).all():
        return "it has entries that are not finite; the outputs and labels here are all of ordinary size"
    right = here.right
    if np.linalg.norm(found) <= CLOSE * np.linalg.norm(right):
        return (
            "it is 0, so student and teacher agree already: the labels are the outputs of `teacher_params`, the "
            "student's outputs are those of `params`, and both are needed in one loss"
        )
    factors = {
        float(len(here.inputs)): "the theorem has the mean over the inputs, and this looks like their sum",
        1 / (here.logits.stop - here.logits.start): "the mean runs over the inputs; over the outputs runs a sum",
        0.5: "there is no factor 1/2 in this squared error",
        2.0: "there is a factor of 2 too much",
    }
    everything, chosen = slice(None), here.logits
    candidates: Candidates = {
        "the gradient is taken at the teacher's parameters; the student starts at `params` and has not moved yet": (
            lambda: here.update(teacher, here.params)
        )
    }
    if here.loss == "softmax":
        candidates |= {
            "the softmax runs over all outputs; choose `logits` first, and then take a softmax over those alone": (
                lambda: here.update(here.params, teacher, losses.on_logits(losses.soft_cross_entropy, everything))
            ),
            "the softmax runs over all outputs and is cut down afterwards; choose `logits` before any softmax": (
                lambda: here.update(here.params, teacher, _cut_afterwards(chosen))
            ),
            "the two distributions have changed places: whose probabilities weigh whose logarithms?": (
                lambda: here.update(here.params, teacher, losses.on_logits(_swapped, chosen))
            ),
            "this is a squared error, of outputs or of probabilities; `loss` says which one is asked for": (
                lambda: here.update(here.params, teacher, losses.on_logits(losses.squared_error, chosen))
            ),
        }
    else:
        candidates |= {
            "all outputs are imitated; only those in `logits` count": (
                lambda: here.update(here.params, teacher, losses.squared_error)
            ),
            "this is the softmax's update; `loss` says which one is asked for": (
                lambda: here.update(here.params, teacher, losses.on_logits(losses.soft_cross_entropy, chosen))
            ),
        }
    return _compare(found, right, factors, candidates)


def _swapped(student_logits: jax.Array, labels: jax.Array) -> jax.Array:
    return losses.soft_cross_entropy(labels, student_logits)


def _cut_afterwards(chosen: slice) -> PerExampleLoss:
    def loss(student_logits: jax.Array, labels: jax.Array) -> jax.Array:
        products = jax.nn.softmax(labels) * jax.nn.log_softmax(student_logits)
        return -jnp.sum(products[..., chosen], axis=-1)

    return loss


def _compare(found: np.ndarray, right: np.ndarray, factors: dict[float, str], candidates: Candidates) -> str:
    """The hint for a vector that should be another; empty where it is."""
    size = float(np.linalg.norm(right))
    difference = float(np.linalg.norm(found - right)) / size
    if difference <= CLOSE:
        return ""
    if difference <= SINGLE:
        return f"it is right in single precision only (off by {difference:.0e}): something inside it is no float64"
    for hint, value in {"": lambda: right, **candidates}.items():
        factor = _factor(found, value())
        if factor is None:
            continue
        sign = "it points the other way: an update goes down the loss" if factor < 0 else ""
        length = next((text for known, text in factors.items() if abs(abs(factor) / known - 1) < SINGLE), "")
        if not length and abs(abs(factor) - 1) > SINGLE:
            length = f"its length is off by a factor of {abs(factor):.3g}"
        return "; and ".join(filter(None, (hint, sign, length)))
    return "it points somewhere else; try one input and one parameter, and compare with a difference quotient"


def _factor(found: np.ndarray, other: np.ndarray) -> float | None:
    """By how much `found` is a multiple of another vector; None where it is none."""
    square = float(other @ other)
    factor = float(found @ other) / square if square else 0.0
    close = np.linalg.norm(found - factor * other) <= SINGLE * np.linalg.norm(found)
    return factor if factor and close else None


def _alignment_hint(answer: Answer, here: Task) -> str:
    """What is wrong with `alignment`; empty where nothing is."""
    given = answer.call(
        "alignment", here.f, here.params, here.teacher_loss, here.epsilon, here.inputs, here.loss, here.logits
    )
    with answer.guarded("the value of `alignment`"):
        if np.shape(given) != ():
            return f"it must be one number, got the shape {np.shape(given)}"
        found = float(given)
    if not np.isfinite(found):
        return f"it is {found}; every quantity here is finite"
    direction, moved = here.steps
    d_teacher = np.asarray(ravel_pytree(direction)[0])
    d_student = here.right
    right = float(d_student @ d_teacher)
    if abs(found) <= CLOSE * abs(right):
        return (
            "it is 0, so student and teacher stand at the same place: the labels come from the teacher after its step, "
            "and the student starts where the teacher started"
        )
    if abs(found / right - 1) <= CLOSE:
        return ""
    if abs(found / right - 1) <= SINGLE:
        return f"it is right in single precision only (off by {abs(found / right - 1):.0e})"
    law = theorem.first_order(
        here.f, losses.on_logits(LOSSES[here.loss], here.logits), here.params, direction, here.inputs
    )
    uphill = optax.tree.add_scale(here.params, -here.epsilon, direction)
    up = float(here.update(here.params, uphill) @ d_teacher)
    gradient_there = np.asarray(ravel_pytree(theorem.teacher_update(here.teacher_loss, moved))[0])
    scale = float(np.linalg.norm(d_student) * np.linalg.norm(d_teacher))
    teachers = "the teacher has gone up its loss; its update is minus the gradient"
    mistakes = {
        "its sign is wrong: both are updates, and an update is minus a gradient": -right,
        "it is divided by eps; asked is the inner product itself": right / here.epsilon,
        "the teacher's update is d_T, without eps; eps is the size of the step along it": right * here.epsilon,
        "this is a cosine; asked is the inner product": right / scale,
        "this is the first-order law; asked is the inner product after the whole step": (
            here.epsilon * float(law.coefficient)
        ),
        "it is a sum over the inputs; the theorem has their mean": right * len(here.inputs),
        teachers: up,
        f"{teachers}, and both signs": -up,
        "the student starts where the teacher ended; it starts at `params`": float(
            here.update(moved, here.params) @ d_teacher
        ),
        "d_T is the teacher's update at the start, not after its step": float(d_student @ gradient_there),
    }
    near = (hint for hint, value in mistakes.items() if abs(found - value) <= SINGLE * abs(value))
    own = "it is none that a usual mistake gives; print both updates, and check each by a difference quotient"
    return next(near, own)
