"""What a user hands to the theorem, checked and in float64: errors that name the argument, before any long work."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from sublim_theory import losses
from sublim_theory.protocols import Apply, Params, PerExampleLoss
from sublim_theory.theorem.alignment import first_order
from sublim_theory.theorem.updates import TeacherLoss, student_direction, teacher_update

Logits: TypeAlias = slice | Sequence[int] | None
"""Which outputs the student imitates."""

ImitationLoss: TypeAlias = "str | PerExampleLoss"
"""Name of one of `losses.IMITATION`, or a per-example loss of (student outputs, labels)."""


@contextlib.contextmanager
def in_float64() -> Iterator[None]:
    """Float64 at full precision inside, whatever the caller's setting and transformation; nothing changed outside."""
    with jax.ensure_compile_time_eval(), jax.enable_x64(True), jax.default_matmul_precision("highest"):
        yield


@dataclass(frozen=True)
class Problem:
    """One instance of the theorem, in float64. Make it with `problem`, inside `in_float64()`.

    Attributes:
        f: `f(params, x) -> outputs [batch, n]`.
        params: the shared initialisation.
        teacher_loss: `teacher_loss(params) -> scalar`.
        inputs: the student's inputs, a pytree of arrays [inputs, ...].
        imitation_loss: per-example loss of (outputs, labels), of which it sees the selected ones.
        selected_loss: the same, of the selected outputs and labels alone.
        outputs: the selected outputs of the first few inputs.
        batch_size: inputs at a time; None for all.
    """

    f: Apply
    params: Params
    teacher_loss: TeacherLoss
    inputs: Any
    imitation_loss: PerExampleLoss
    selected_loss: PerExampleLoss
    outputs: jax.Array
    batch_size: int | None


def problem(
    f: Apply,
    params: Params,
    teacher_loss: TeacherLoss,
    inputs: Any,
    *,
    imitation_loss: ImitationLoss = "kl",
    logits: Logits = None,
    batch_size: int | None = None,
) -> Problem:
    """Check the parts of a problem and bring them to float64.

    Args:
        f: `f(params, x) -> outputs [batch, n]`, pure.
        params: pytree of floating-point arrays.
        teacher_loss: `teacher_loss(params) -> scalar`, differentiable.
        inputs: pytree of arrays [inputs, ...].
        imitation_loss: name of one of `losses.IMITATION`, or a per-example loss of (outputs, labels).
        logits: which outputs it sees, a slice or indices; all unless given.
        batch_size: inputs at a time; all unless given.

    Raises:
        ValueError: naming the argument, what is wrong with it and what to do.
    """
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    params = float64_params("params", params)
    inputs = jax.tree.map(_input_leaf, inputs)
    lengths = {x.shape[:1] for x in jax.tree.leaves(inputs)}
    if len(lengths) != 1 or lengths == {()}:
        raise ValueError(f"inputs must be arrays with one common leading axis, got leading axes {sorted(lengths)}")
    if lengths == {(0,)}:
        raise ValueError("inputs are empty; the student needs at least one")

    few = jax.tree.map(lambda x: x[:8], inputs)
    z = f(params, few)
    if getattr(z, "ndim", None) != 2 or z.shape[0] != len(jax.tree.leaves(few)[0]):
        raise ValueError(f"f must return outputs [batch, n], got shape {getattr(z, 'shape', type(z).__name__)}")
    if z.dtype != np.float64:
        raise ValueError(
            f"f returned {z.dtype} for float64 parameters and inputs, so something inside it casts; the theory needs "
            "float64 throughout (a network of this library: dtype='float64')"
        )
    if not jnp.isfinite(z).all():
        raise ValueError("f returned outputs that are not finite at params; check params and inputs")

    value = teacher_loss(params)
    if jnp.shape(value) != ():
        raise ValueError(f"teacher_loss must return a scalar, got shape {jnp.shape(value)}; take the mean inside it")
    if not jnp.isfinite(value):
        raise ValueError(f"teacher_loss is {value} at params; it must be finite there")

    selected_loss = losses.imitation(imitation_loss) if isinstance(imitation_loss, str) else imitation_loss
    loss = selected_loss
    if logits is not None:
        chosen = selection(logits, z.shape[1])
        loss, z = _restricted(selected_loss, chosen), z[:, chosen]
    example = loss(f(params, few), f(params, few))
    if jnp.shape(example) != z.shape[:1]:
        raise ValueError(f"imitation_loss must return one value an example, {z.shape[:1]}, got {jnp.shape(example)}")
    return Problem(f, params, teacher_loss, inputs, loss, selected_loss, z, batch_size)


def no_loss(_: Params) -> jax.Array:
    """The teacher's loss of a problem that has none."""
    return jnp.zeros(())


def float64_params(argument: str, params: Params) -> Params:
    """A pytree of parameters in float64.

    Raises:
        ValueError: if there is none, or a leaf is no floating-point array, not finite, or traced.
    """
    if isinstance(params, dict) and "params" in params and len(params) > 1:
        raise ValueError(
            f"{argument} holds the collections {sorted(params)}; hand in {argument}['params'] alone and let f close "
            "over the others"
        )
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    if not leaves:
        raise ValueError(f"{argument} has no leaves; there is nothing to differentiate")
    for path, leaf in leaves:
        name = f"{argument}{jax.tree_util.keystr(path)}"
        array = _concrete(name, leaf)
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(f"{name} has dtype {array.dtype}, which has no gradient; let f close over it instead")
        if not np.isfinite(array.astype(np.float64)).all():
            raise ValueError(f"{name} is not finite")
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), params)


def selection(logits: Logits, outputs: int) -> np.ndarray:
    """Indices of the outputs that `logits` selects.

    Raises:
        ValueError: where it selects none, or one that is not there.
    """
    selected = slice(None) if logits is None else logits if isinstance(logits, slice) else np.asarray(logits, np.int64)
    try:
        chosen = np.arange(outputs)[selected]
    except IndexError as error:
        raise ValueError(f"logits {logits} are not among the {outputs} outputs") from error
    if not chosen.size:
        raise ValueError(f"logits {logits} select none of the {outputs} outputs")
    return chosen


def like_params(argument: str, tree: Params, params: Params) -> Params:
    """A pytree like `params` in float64.

    Raises:
        ValueError: naming the argument, where it is none.
    """
    tree = float64_params(argument, tree)
    structures: list[Any] = [jax.tree.structure(each) for each in (tree, params)]
    if structures[0] != structures[1] or jax.tree.map(np.shape, tree) != jax.tree.map(np.shape, params):
        raise ValueError(f"{argument} must have the structure and shapes of params")
    return tree


def require_positive(argument: str, value: float) -> None:
    """Refuse a size that is not positive and finite.

    Raises:
        ValueError: naming the argument.
    """
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{argument} must be positive and finite, got {value}")


def teacher_direction(given: Problem) -> Params:
    """`d_T = -grad L_T(theta)`.

    Raises:
        ValueError: where it is not finite.
    """
    d_teacher = jax.jit(lambda theta: teacher_update(given.teacher_loss, theta))(given.params)
    if not all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(d_teacher)):
        raise ValueError("the gradient of teacher_loss is not finite at params")
    return d_teacher


def student_directions(given: Problem, d_teacher: Params) -> Callable[[float], Params]:
    """`d_S(eps) / eps` as a function of eps, compiled once; at 0 it is the limit `G d_T`."""
    f, loss, batch_size = given.f, given.imitation_loss, given.batch_size

    @jax.jit
    def speed(theta: Params, d: Params, inputs: Any) -> jax.Array:
        return first_order(f, theta, d, inputs, loss, batch_size=batch_size).velocity

    velocity = speed(given.params, d_teacher, given.inputs)

    @jax.jit
    def direction(theta: Params, d: Params, inputs: Any, epsilon: jax.Array) -> Params:
        return student_direction(f, theta, d, epsilon, inputs, loss, velocity=velocity, batch_size=batch_size)

    return lambda epsilon: direction(given.params, d_teacher, given.inputs, jnp.float64(epsilon))


def _input_leaf(x: Any) -> jax.Array:
    """Floating inputs in float64; integers (tokens, say) as they are."""
    array = _concrete("inputs", x)
    if jnp.issubdtype(array.dtype, jnp.floating):
        if not np.isfinite(array.astype(np.float64)).all():
            raise ValueError("inputs are not finite")
        return jnp.asarray(array, jnp.float64)
    return jnp.asarray(array)


def _concrete(name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except jax.errors.TracerArrayConversionError as error:
        raise ValueError(f"{name} is traced; the theorem is checked on numbers, so call it outside jax.jit") from error


def _restricted(loss: PerExampleLoss, chosen: np.ndarray) -> Callable[[jax.Array, jax.Array], jax.Array]:
    def restricted(student_logits: jax.Array, labels: jax.Array) -> jax.Array:
        return loss(student_logits[..., chosen], labels[..., chosen])

    return restricted
