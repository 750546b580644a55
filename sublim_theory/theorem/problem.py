"""What a user hands to the theorem, checked and in float64: errors that name the argument, before any long work."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from sublim_theory import losses
from sublim_theory.protocols import Apply, Params, PerExampleLoss
from sublim_theory.theorem.alignment import first_order
from sublim_theory.theorem.arguments import Logits, float64_inputs, float64_params, require_count, selection
from sublim_theory.theorem.casts import narrowest
from sublim_theory.theorem.updates import TeacherLoss, student_direction, teacher_update

ImitationLoss: TypeAlias = "str | PerExampleLoss"
"""Name of one of `losses.IMITATION`, or a per-example loss of (student outputs, labels)."""


@contextlib.contextmanager
def in_float64() -> Iterator[None]:
    """Float64 at full precision inside, whatever the caller's setting and transformation; nothing changed outside."""
    # In a caller's transformation only: elsewhere it would compile every constant of every traced function by itself.
    now = jax.ensure_compile_time_eval() if _transformed() else contextlib.nullcontext()
    with now, jax.enable_x64(True), jax.default_matmul_precision("highest"):
        yield


def _transformed() -> bool:
    """Whether the caller is being traced."""
    try:
        np.asarray(jnp.zeros(()))
    except jax.errors.TracerArrayConversionError:
        return True
    return False


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Problem:
    """One instance of the theorem, checked and in float64, whatever the caller's setting.

    Attributes:
        f: `f(params, x) -> outputs [batch, n]`.
        params: the shared initialisation, float64.
        teacher_loss: `teacher_loss(params) -> scalar`; `no_teacher_loss` where none was given.
        inputs: the student's inputs, a pytree of arrays [inputs, ...]; floating ones in float64.
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

    def __init__(
        self,
        f: Apply,
        params: Params,
        teacher_loss: TeacherLoss | None,
        inputs: Any,
        *,
        imitation_loss: ImitationLoss = "kl",
        logits: Logits = None,
        batch_size: int | None = None,
    ) -> None:
        """Check the parts and bring them to float64.

        Args:
            f: `f(params, x) -> outputs [batch, n]`, a pure JAX function.
            params: the shared initialisation, a pytree of floating-point arrays.
            teacher_loss: `teacher_loss(params) -> scalar`, differentiable; None where no teacher is asked for.
            inputs: the student's inputs, a pytree of arrays [inputs, ...].
            imitation_loss: name of one of `losses.IMITATION`, or a per-example loss of (student outputs, labels).
            logits: the outputs that the student imitates, a slice, indices or a mask; all unless given.
            batch_size: inputs at a time; all unless given.

        Raises:
            ValueError: naming the argument, what is wrong with it and what to do.
        """
        if batch_size is not None:
            batch_size = require_count("batch_size", batch_size)
        selected_loss = _loss(imitation_loss)
        with in_float64():
            params = float64_params("params", params)
            inputs = float64_inputs(inputs)
            few = jax.tree.map(lambda x: x[:8], inputs)
            z = _outputs(f, params, few)
            if teacher_loss is None:
                teacher_loss = no_teacher_loss
            else:
                _require_scalar(teacher_loss, params)
            loss, outputs = selected_loss, z
            if logits is not None:
                chosen = selection(logits, z.shape[1])
                loss, outputs = _restricted(selected_loss, chosen), z[:, chosen]
            _require_per_example(loss, z)
        # A frozen dataclass assigns its fields so.
        vars(self).update(
            f=f,
            params=params,
            teacher_loss=teacher_loss,
            inputs=inputs,
            imitation_loss=loss,
            selected_loss=selected_loss,
            outputs=outputs,
            batch_size=batch_size,
        )


def no_teacher_loss(_: Params) -> jax.Array:
    """The teacher's loss of a problem that has none.

    Raises:
        ValueError: always, naming `teacher_loss`.
    """
    raise ValueError("teacher_loss is None, and this needs one; hand it to the Problem")


def teacher_direction(given: Problem) -> Params:
    """`d_T = -grad L_T(theta)`.

    Raises:
        ValueError: naming `teacher_loss`, where its gradient is not finite, or there is none.
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


def _loss(imitation_loss: ImitationLoss) -> PerExampleLoss:
    if isinstance(imitation_loss, str):
        return losses.imitation(imitation_loss)
    if not callable(imitation_loss):
        raise ValueError(
            f"imitation_loss must be a name ({', '.join(losses.IMITATION)}) or a per-example loss of (outputs, "
            f"labels), got {imitation_loss!r}"
        )
    return imitation_loss


def _outputs(f: Apply, params: Params, few: Any) -> jax.Array:
    if not callable(f):
        raise ValueError(f"f must be a function of (params, x), got {f!r}")
    z = _evaluate("f", f, params, few)
    if getattr(z, "ndim", None) != 2 or z.shape[0] != len(jax.tree.leaves(few)[0]):
        raise ValueError(f"f must return outputs [batch, n], got shape {getattr(z, 'shape', type(z).__name__)}")
    _require_float64("f", z, lambda theta: f(theta, few), params)
    if not jnp.isfinite(z).all():
        raise ValueError("f returned outputs that are not finite at params; check params and inputs")
    return z


def _require_scalar(teacher_loss: TeacherLoss, params: Params) -> None:
    if not callable(teacher_loss):
        raise ValueError(f"teacher_loss must be a function of the params, got {teacher_loss!r}")
    value = _evaluate("teacher_loss", teacher_loss, params)
    if not isinstance(value, int | float) and not hasattr(value, "dtype"):
        raise ValueError(f"teacher_loss must return a scalar, got {type(value).__name__}")
    if jnp.shape(value) != ():
        raise ValueError(f"teacher_loss must return a scalar, got shape {jnp.shape(value)}; take the mean inside it")
    _require_float64("teacher_loss", value, teacher_loss, params)
    if not jnp.isfinite(value):
        raise ValueError(f"teacher_loss is {value} at params; it must be finite there")


def _require_per_example(loss: PerExampleLoss, z: jax.Array) -> None:
    value = _evaluate("imitation_loss", loss, z, z)
    shape = getattr(value, "shape", type(value).__name__)
    if shape != z.shape[:1]:
        raise ValueError(f"imitation_loss must return one value an example, {z.shape[:1]}, got {shape}")
    _require_float64("imitation_loss", value, loss, z, z)


def _evaluate(argument: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """The value, compiled in one piece: that takes a fraction of compiling every operation of it."""
    try:
        # A function of our own: JAX 0.10 keeps what it learns about the caller's by its identity, and then hands
        # its numpy arrays in float64 to a gradient that the caller takes in float32.
        return jax.jit(lambda *values: function(*values))(*arguments)
    except TypeError as error:
        if "JAX type" not in str(error):
            raise
        raise ValueError(f"{argument} must return JAX arrays: {str(error).splitlines()[0]}") from error


def _require_float64(argument: str, value: Any, function: Callable[..., Any], *arguments: Any) -> None:
    """Refuse a function whose value at float64 arguments is traced, or not in float64 from end to end."""
    try:
        dtype = np.asarray(value).dtype
    except jax.errors.TracerArrayConversionError as error:
        raise ValueError(
            f"{argument} closes over a traced value; the theorem is checked on numbers, so call it outside jax.jit"
        ) from error
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"{argument} returned {dtype}, which has no gradient; it must return float64")
    narrow = dtype if dtype != np.float64 else narrowest(function, *arguments)
    if narrow is not None:
        done = "returned" if narrow is dtype else "computes in"
        raise ValueError(
            f"{argument} {done} {narrow} at float64 arguments, so something inside it casts; the theory needs float64 "
            "throughout (a network of this library: dtype='float64')"
        )


def _restricted(loss: PerExampleLoss, chosen: np.ndarray) -> Callable[[jax.Array, jax.Array], jax.Array]:
    def restricted(student_logits: jax.Array, labels: jax.Array) -> jax.Array:
        return loss(student_logits[..., chosen], labels[..., chosen])

    return restricted
