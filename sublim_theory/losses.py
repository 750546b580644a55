"""Losses, one value per example: the caller writes the mean where the reader can see it.

The trait loss `cross_entropy` compares class logits [batch, classes] with labels [batch]. Imitation losses compare the
student's logits [batch, logits] with the teacher's, `loss(student_logits, teacher_logits) -> [batch]`; each has its
minimum over the student's logits where they give the teacher's, as Theorem 1 asks (arXiv 2507.14805, section 6.1).
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Integer

from sublim_theory._types import AnyArray, Array, PerExampleLoss, Scalar
from sublim_theory.protocols import lookup, plain, positive_unless_traced, require_positive


def cross_entropy(
    logits: Float[AnyArray, "*batch classes"], labels: Integer[AnyArray, "*batch"]
) -> Float[Array, "*batch"]:
    """Softmax cross-entropy with integer labels, the teacher's trait loss.

    Returns:
        `logsumexp(z) - z[label]` for each example, [batch], in the dtype of `logits`.

    Raises:
        ValueError: for labels that are not among the classes, as far as they are not traced.
    """
    require_labels("labels", labels, logits.shape[-1])
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)


def kl_divergence(
    student_logits: Float[AnyArray, "*batch logits"],
    teacher_logits: Float[AnyArray, "*batch logits"],
    temperature: Scalar = 1.0,
) -> Float[Array, "*batch"]:
    """`KL(softmax(teacher / T) || softmax(student / T))`, the imitation loss of the paper (section 6.2).

    The softmax runs over the logits that are handed in: restrict them first (`on_logits`), never after.
    No factor `T**2` is applied.

    Returns:
        Nats for each example, [batch], in the dtype of the logits.

    Raises:
        ValueError: for logits of different shapes, or a temperature T that is not positive and finite.
    """
    student, teacher = _softened(student_logits, teacher_logits, temperature)
    return optax.losses.kl_divergence_with_log_targets(jax.nn.log_softmax(student), jax.nn.log_softmax(teacher))


def soft_cross_entropy(
    student_logits: Float[AnyArray, "*batch logits"],
    teacher_logits: Float[AnyArray, "*batch logits"],
    temperature: Scalar = 1.0,
) -> Float[Array, "*batch"]:
    """`-sum softmax(teacher / T) log softmax(student / T)`: the KL divergence plus the teacher's entropy.

    Same gradient in the student's logits as `kl_divergence`. Errors as there.
    """
    student, teacher = _softened(student_logits, teacher_logits, temperature)
    return optax.losses.softmax_cross_entropy(student, jax.nn.softmax(teacher))


def squared_error(
    student_logits: Float[AnyArray, "*batch logits"],
    teacher_logits: Float[AnyArray, "*batch logits"],
    weights: Sequence[Scalar] | Float[AnyArray, "_"] | None = None,
) -> Float[Array, "*batch"]:
    """`sum_i w_i (student_i - teacher_i)**2`, with `weights` [logits] of ones unless given.

    Raises:
        ValueError: for logits of different shapes, or weights that are not one for each logit.
    """
    student, teacher = _alike(student_logits, teacher_logits)
    squares = jnp.square(student - teacher)
    if weights is not None:
        weights = jnp.asarray(weights).astype(squares.dtype)
        if weights.shape != squares.shape[-1:]:
            raise ValueError(f"weights must have shape {squares.shape[-1:]}, one for each logit, got {weights.shape}")
        squares = jnp.broadcast_to(weights, squares.shape) * squares  # in words: some users forbid it to be implied
    return jnp.sum(squares, axis=-1)


def huber(
    student_logits: Float[AnyArray, "*batch logits"],
    teacher_logits: Float[AnyArray, "*batch logits"],
    delta: Scalar = 1.0,
) -> Float[Array, "*batch"]:
    """Huber loss summed over the logits: `r**2 / 2` where `|r| <= delta`, linear with slope delta beyond.

    Raises:
        ValueError: for logits of different shapes, or a delta that is not positive and finite.
    """
    student, teacher = _alike(student_logits, teacher_logits)
    delta = _positive("delta", delta, student)
    return jnp.sum(optax.losses.huber_loss(student, teacher, delta=delta), axis=-1)


IMITATION: dict[str, Callable[..., Array]] = {
    "kl": kl_divergence,
    "cross_entropy": soft_cross_entropy,
    "squared_error": squared_error,
    "huber": huber,
}


def imitation(name: str, *, temperature: Scalar | None = None) -> PerExampleLoss:
    """The imitation loss of that name: `kl`, `cross_entropy`, `squared_error` or `huber`.

    Args:
        name: one of the above.
        temperature: of `kl` and `cross_entropy`, 1 unless given; may be traced.

    Raises:
        ValueError: for an unknown name, a temperature that is not positive and finite, or a temperature for
            a loss that has none.
    """
    loss = lookup("imitation loss", name, IMITATION)
    if temperature is None:
        return loss
    if loss not in (kl_divergence, soft_cross_entropy):
        raise ValueError(f"{name!r} has no temperature; leave it out, or use 'kl' or 'cross_entropy'")
    return partial(loss, temperature=positive_unless_traced("temperature", temperature))


def on_logits(loss: PerExampleLoss, logits: slice) -> PerExampleLoss:
    """Restrict an imitation loss to some of the logits, *before* any softmax.

    `on_logits(kl_divergence, net.auxiliary)` is the loss of the auxiliary-only student: one softmax over the
    auxiliary logits alone. A network's slices are `net.classes`, `net.auxiliary` and `net.all_logits`.
    """

    def restricted(student_logits: AnyArray, teacher_logits: AnyArray) -> Array:
        if not range(student_logits.shape[-1])[logits]:
            raise ValueError(f"{logits} selects none of {student_logits.shape[-1]} logits")
        return loss(student_logits[..., logits], teacher_logits[..., logits])

    return restricted


def require_labels(argument: str, labels: AnyArray, classes: int) -> None:
    """Check labels as far as they are not traced: as indices, the wrong ones would count from the end or give NaN.

    Raises:
        ValueError: naming the argument, for labels that are not whole numbers from 0 to `classes - 1`.
    """
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"{argument} must be whole numbers, the indices of the classes, got {labels.dtype}")
    if plain(labels):
        values = np.asarray(labels)
        wrong = np.flatnonzero((values < 0) | (values >= classes))
        if wrong.size:
            raise ValueError(
                f"{argument} must be from 0 to {classes - 1}, one of the {classes} classes, got "
                f"{values.ravel()[wrong[0]]} in place {wrong[0]}"
            )


def _alike(student_logits: AnyArray, teacher_logits: AnyArray) -> tuple[Array, Array]:
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student logits {student_logits.shape} and teacher logits {teacher_logits.shape} differ in shape"
        )
    return jnp.asarray(student_logits), jnp.asarray(teacher_logits)


def _softened(student_logits: AnyArray, teacher_logits: AnyArray, temperature: Scalar) -> tuple[Array, Array]:
    student, teacher = _alike(student_logits, teacher_logits)
    by_student, by_teacher = (_positive("temperature", temperature, logits) for logits in (student, teacher))
    return student / by_student, teacher / by_teacher


def _positive(argument: str, value: Scalar, like: Array) -> float | Array:
    """A setting, checked unless traced, as a number that does not widen the dtype of the logits."""
    return require_positive(argument, value) if plain(value) else jnp.asarray(value).astype(like.dtype)
