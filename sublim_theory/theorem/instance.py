"""One checked instance of the theorem, in float64: errors that name the argument, before any long work.

`Instance` brings what a user hands in to float64 and refuses, before any long work, what the theorem does not speak of
(arguments, here) and functions of which no derivative can be trusted (`checks`).
"""

import copy
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sublim_theory import geometry, losses
from sublim_theory._types import Apply, Inputs, Params, PerExampleLoss, TeacherLoss
from sublim_theory.protocols import concrete, require_count
from sublim_theory.theorem.checks import (
    SAMPLE,
    check_derivatives_of_loss,
    checked_outputs,
    differentiable,
    differentiable_loss,
    is_finite,
    require_same,
    rows_of,
    teacher_direction,
    values_on_all,
)
from sublim_theory.theorem.compiling import compiled, in_float64, own
from sublim_theory.theorem.updates import student_update

ImitationLoss: TypeAlias = "str | PerExampleLoss"
"""Name of one of `losses.IMITATION`, or a per-example loss of (student outputs, labels)."""

Logits: TypeAlias = slice | Sequence[int] | Sequence[bool] | np.ndarray | None
"""Which outputs the student imitates: a slice, indices, or a mask of all outputs."""

LEAST = 8
"""Inputs that are looked at together, however few `batch_size` allows: in the company of none nothing shows."""


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Instance:
    """One instance of the theorem, checked and in float64, whatever the caller's setting.

    Attributes:
        f: `f(params, x) -> outputs [batch, ..., n]`.
        params: the shared initialisation, float64.
        teacher_loss: `teacher_loss(params) -> scalar`; `no_teacher_loss` where none was given.
        inputs: the student's inputs, a pytree of arrays [inputs, ...]; floating ones in float64.
        imitation_loss: per-example loss of (outputs, labels), of which it sees the selected ones.
        selected_loss: the same, of the selected outputs and labels alone.
        chosen: indices of the selected outputs.
        all_outputs: outputs of a sample of the inputs.
        outputs: the selected ones of these.
        batch_size: inputs at a time; None for all.
        d_teacher: `d_T = -grad L_T(theta)`; None without a teacher's loss.

    >>> f, x = lambda w, x: x @ w, np.eye(2)
    >>> Instance(f, np.ones((2, 3)), lambda w: jnp.sum(w**2), x).d_teacher.dtype
    dtype('float64')
    """

    f: Apply
    params: Params
    teacher_loss: TeacherLoss
    inputs: Any
    imitation_loss: PerExampleLoss
    selected_loss: PerExampleLoss
    chosen: np.ndarray
    all_outputs: np.ndarray
    outputs: np.ndarray
    batch_size: int | None
    d_teacher: Params | None

    def __init__(
        self,
        f: Apply,
        params: Params,
        teacher_loss: TeacherLoss | None,
        inputs: Inputs,
        *,
        imitation_loss: ImitationLoss = "kl",
        logits: Logits = None,
        batch_size: int | None = None,
    ) -> None:
        """Check the parts, which are those of `verify`, and bring them to float64; `teacher_loss` may be None.

        Raises:
            ValueError: naming the argument, what is wrong with it and what to do.
        """
        if batch_size is not None:
            batch_size = require_count("batch_size", batch_size)
        _named_loss(imitation_loss)
        if not callable(f):
            raise ValueError(f"f must be a function of (params, x), got {f!r}")
        if teacher_loss is not None and not callable(teacher_loss):
            raise ValueError(f"teacher_loss must be a function of the params, got {teacher_loss!r}")
        with in_float64():
            params = float64_params("params", params)
            inputs = float64_inputs(inputs)
            count = len(jax.tree.leaves(inputs)[0])
            batch = rows_of(inputs, np.arange(min(max(batch_size or count, LEAST), count)))
            f = differentiable("f", own(f), params, batch)
            work = optax.tree.size(params) * count
            z = values_on_all(f, params, inputs, len(jax.tree.leaves(batch)[0]), work)
            random = np.random.default_rng(0)
            d_teacher = None
            if teacher_loss is None:
                teacher_loss = no_teacher_loss
            else:
                teacher_loss = own(teacher_loss)
                teacher_loss, d_teacher = teacher_direction(teacher_loss, params, random, work)
            # Some of the rows of the first batch, without the others: half of them, so that company would show.
            some = np.sort(random.permutation(len(z))[: min(SAMPLE, max(1, len(z) // 2))])
            alone = checked_outputs(f, params, d_teacher, rows_of(inputs, some), random, work)
            if len(z) > 1:
                require_same("f", "outputs", alone, z[some])
        # A frozen dataclass assigns its fields so.
        vars(self).update(
            f=f,
            params=params,
            teacher_loss=teacher_loss,
            inputs=inputs,
            batch_size=batch_size,
            d_teacher=d_teacher,
            all_outputs=alone,
        )
        self._imitate(imitation_loss, logits)

    def with_loss(self, imitation_loss: ImitationLoss, logits: Logits = None) -> "Instance":
        """The same instance, imitated through another loss or other outputs, all unless given; only these are checked.

        Raises:
            ValueError: naming the argument, what is wrong with it and what to do.
        """
        other = copy.copy(self)
        other._imitate(imitation_loss, logits)
        return other

    def _imitate(self, imitation_loss: ImitationLoss, logits: Logits) -> None:
        z, loss = self.all_outputs, own(_named_loss(imitation_loss))
        with in_float64():
            chosen = np.arange(z.shape[-1]) if logits is None else selection(logits, z.shape[-1])
            restricted = differentiable_loss(loss if logits is None else _restricted(loss, chosen), z)
            check_derivatives_of_loss(restricted, z)
        vars(self).update(imitation_loss=restricted, selected_loss=loss, chosen=chosen, outputs=z[..., chosen])

    @property
    def work(self) -> int:
        """Parameters times inputs, the size of the computation."""
        return optax.tree.size(self.params) * len(jax.tree.leaves(self.inputs)[0])

    def direction(self, direction: Params | None = None) -> Params:
        """A direction like params in float64, or `d_T` where none is given; a ValueError where there is neither."""
        if direction is not None:
            return like_params("direction", direction, self.params)
        return no_teacher_loss(self.params) if self.d_teacher is None else self.d_teacher

    def student_updates(self, direction: Params) -> Callable[[float], Params]:
        """`d_S(eps) / eps` as a function of eps, compiled once; at 0 it is the limit `G d_T`."""

        def update(theta: Params, d: Params, inputs: Any, epsilon: jax.Array) -> Params:
            return student_update(self.f, self.imitation_loss, theta, d, epsilon, inputs, batch_size=self.batch_size)

        program = compiled(update, self.work)

        def at(epsilon: float) -> Params:
            found = program(self.params, direction, self.inputs, jnp.float64(epsilon))
            self.require_finite(found, direction)
            return found

        return at

    def require_finite(self, update: Params, direction: Params) -> None:
        """Refuse an update that is not finite, by the argument and the input that make it so.

        Raises:
            ValueError: naming `f` or `imitation_loss`, and the input.
        """
        if not is_finite(update):
            self._blame(direction)

    def _blame(self, direction: Params) -> None:
        """Find the input and the function whose derivative is not finite, input by input, and say so."""
        f, loss = self.f, self.imitation_loss

        def row(x: Any) -> tuple[jax.Array, jax.Array]:
            x = jax.tree.map(lambda leaf: leaf[None], x)
            z, pull_back = jax.vjp(lambda theta: f(theta, x), self.params)
            _, v = jax.jvp(lambda theta: f(theta, x), (self.params,), (direction,))
            leaves = [v, *jax.tree.leaves(pull_back(jnp.ones_like(z)))]
            sound = jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()
            gradient = geometry.loss_gradient(loss, z, z)
            curvature = geometry.hessian_product(loss, z, z, jnp.ones_like(z))
            return sound, jnp.isfinite(gradient).all() & jnp.isfinite(curvature).all()

        of_f, of_loss = map(np.asarray, compiled(lambda inputs: jax.lax.map(row, inputs))(self.inputs))
        if not of_f.all():
            raise ValueError(
                f"the derivative of f is not finite at input {int(np.argmin(of_f))} (of {len(of_f)}), although its "
                "outputs are; guard what has no derivative there (a norm at 0, a root, a masked branch)"
            )
        if not of_loss.all():
            raise ValueError(
                f"imitation_loss has no finite derivatives at student outputs equal to the labels of input "
                f"{int(np.argmin(of_loss))}; the theorem needs it twice differentiable there"
            )
        raise ValueError(
            "the student's update is not finite, although f and imitation_loss are at every input: outputs or their "
            "labels leave the domain of imitation_loss after the teacher's step; take smaller epsilons"
        )


def no_teacher_loss(_: Params) -> Any:
    """The teacher's loss of an instance that has none: a ValueError that says so."""
    raise ValueError("teacher_loss is None, and this needs one; hand it to the Instance")


# Arguments, each by itself.


def float64_params(argument: str, params: Params) -> Params:
    """A pytree of parameters in float64; a ValueError names what is no finite floating-point array, or traced."""
    _refuse_state(argument, params)
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    if not leaves:
        raise ValueError(f"{argument} has no leaves; there is nothing to differentiate")
    found = []
    for path, leaf in leaves:
        name = f"{argument}{jax.tree_util.keystr(path)}"
        array = concrete(name, leaf)
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(f"{name} has dtype {array.dtype}, which has no gradient; let f close over it instead")
        if not np.isfinite(array.astype(np.float64)).all():
            raise ValueError(f"{name} is not finite")
        found.append(jax.device_put(array.astype(np.float64)))
    return jax.tree.unflatten(structure, found)


def _refuse_state(argument: str, params: Params) -> None:
    """Refuse variables of a flax module that are no parameters: statistics, caches, streams of keys."""
    if isinstance(params, Mapping) and "params" in params and len(params) > 1:
        raise ValueError(
            f"{argument} holds the collections {sorted(params)}; hand in {argument}['params'] alone and let f close "
            "over the others"
        )
    nnx = sys.modules.get("flax.nnx")  # it takes a second to import, and nobody has its variables without it
    if nnx is None:
        return
    leaves = jax.tree.leaves(params, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
    variables = [leaf for leaf in leaves if isinstance(leaf, nnx.Variable)]
    others = sorted({type(leaf).__name__ for leaf in variables if not isinstance(leaf, nnx.Param)})
    if others:
        raise ValueError(
            f"{argument} holds the collections Param and {', '.join(others)} of a flax.nnx module; split it, "
            "graphdef, params, rest = nnx.split(module, nnx.Param, ...), hand in the parameters alone and let f merge"
        )


def like_params(argument: str, tree: Params, params: Params) -> Params:
    """A pytree like `params` in float64, in a container of its structure; a ValueError where it is none."""
    _refuse_state(argument, tree)
    (ours, structure), (theirs, _) = (jax.tree_util.tree_flatten_with_path(each) for each in (params, tree))
    kinds = [[(jax.tree_util.keystr(path), np.shape(leaf)) for path, leaf in leaves] for leaves in (ours, theirs)]
    if kinds[0] != kinds[1]:
        raise ValueError(f"{argument} must have the structure and shapes of params")
    return float64_params(argument, jax.tree.unflatten(structure, [leaf for _, leaf in theirs]))


def float64_inputs(inputs: Any) -> Any:
    """A pytree of inputs, floating ones in float64; integers (tokens, say) and booleans as they are."""
    arrays = jax.tree.map(lambda x: concrete("inputs", x), inputs)
    for array in jax.tree.leaves(arrays):
        if not (jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool):
            raise ValueError(f"inputs have dtype {array.dtype}; they must be arrays of numbers")
        if jnp.issubdtype(array.dtype, jnp.inexact):
            bad = ~np.isfinite(array.astype(np.complex128)).all(axis=tuple(range(1, array.ndim)))
            if bad.any():
                raise ValueError(f"inputs are not finite in row {int(np.argmax(bad))}")
    lengths = {array.shape[:1] for array in jax.tree.leaves(arrays)}
    if len(lengths) != 1 or lengths == {()}:
        raise ValueError(f"inputs must be arrays with one common leading axis, got leading axes {sorted(lengths)}")
    if lengths == {(0,)}:
        raise ValueError("inputs are empty; the student needs at least one")
    return jax.tree.map(
        lambda x: jax.device_put(x.astype(np.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x), arrays
    )


def selection(logits: Logits, outputs: int) -> np.ndarray:
    """Indices of the outputs that `logits` selects; a ValueError where there are none, or it is none of the three."""
    selected: Any = slice(None) if logits is None else logits
    if not isinstance(selected, slice):
        selected = concrete("logits", logits)
        if selected.ndim == 1 and not selected.size:
            raise ValueError(f"logits {logits} select none of the {outputs} outputs")
        if selected.ndim != 1 or selected.dtype.kind not in "iub":
            raise ValueError(
                f"logits must be a slice, a sequence of indices or a mask, got {logits!r}; write [3] for output 3 "
                "alone, slice(3) for the first three"
            )
        if selected.dtype.kind == "b" and len(selected) != outputs:
            raise ValueError(f"logits are a mask of {len(selected)} outputs, of which there are {outputs}")
    try:
        chosen = np.arange(outputs)[selected]
    except IndexError as error:
        raise ValueError(f"logits {logits} are not among the {outputs} outputs") from error
    except TypeError as error:
        raise ValueError(f"logits must be a slice of whole numbers, got {logits}") from error
    if not chosen.size:
        raise ValueError(f"logits {logits} select none of the {outputs} outputs")
    return chosen


def _named_loss(imitation_loss: ImitationLoss) -> PerExampleLoss:
    if isinstance(imitation_loss, str):
        return losses.imitation(imitation_loss)
    if not callable(imitation_loss):
        raise ValueError(
            f"imitation_loss must be a name ({', '.join(losses.IMITATION)}) or a per-example loss of (outputs, "
            f"labels), got {imitation_loss!r}"
        )
    return imitation_loss


def _restricted(loss: PerExampleLoss, chosen: np.ndarray) -> PerExampleLoss:
    def restricted(student_logits: jax.Array, labels: jax.Array) -> jax.Array:
        return loss(student_logits[..., chosen], labels[..., chosen])

    return restricted
