"""Losses, one value per example: the caller writes the mean where the reader can see it.

The trait loss `cross_entropy` compares class logits with labels. Imitation losses compare the student's
logits with the teacher's, `loss(student_logits, teacher_logits) -> [batch]`; each has its minimum over
the student's logits where they give the teacher's outputs, as Theorem 1 asks (arXiv 2507.14805, section 6.1).
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax

from sublim_theory.protocols import PerExampleLoss, lookup, plain


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Softmax cross-entropy with integer labels, the teacher's trait loss.

    Args:
        logits: class logits [batch, classes], floating.
        labels: class indices [batch], integer.

    Returns:
        `logsumexp(z) - z[label]` for each example, [batch], in the dtype of `logits`.
    """
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)


def kl_divergence(student_logits: jax.Array, teacher_logits: jax.Array, temperature: float = 1.0) -> jax.Array:
    """`KL(softmax(teacher / T) || softmax(student / T))`, the imitation loss of the paper (section 6.2).

    The softmax runs over the logits that are handed in: restrict them first (`on_logits`), never after.
    No factor `T**2` is applied.

    Args:
        student_logits: [batch, logits].
        teacher_logits: [batch, logits].
        temperature: T > 0.

    Returns:
        Nats for each example, [batch].
    """
    _require_same_shape(student_logits, teacher_logits)
    return optax.losses.kl_divergence_with_log_targets(
        jax.nn.log_softmax(student_logits / temperature), jax.nn.log_softmax(teacher_logits / temperature)
    )


def soft_cross_entropy(student_logits: jax.Array, teacher_logits: jax.Array, temperature: float = 1.0) -> jax.Array:
    """`-sum softmax(teacher / T) log softmax(student / T)`: the KL divergence plus the teacher's entropy.

    Same gradient in the student's logits as `kl_divergence`. Shapes as there.
    """
    _require_same_shape(student_logits, teacher_logits)
    return optax.losses.softmax_cross_entropy(
        student_logits / temperature, jax.nn.softmax(teacher_logits / temperature)
    )


def squared_error(
    student_logits: jax.Array, teacher_logits: jax.Array, weights: tuple[float, ...] | jax.Array | None = None
) -> jax.Array:
    """`sum_i w_i (student_i - teacher_i)**2`, with `weights` [logits] of ones unless given.

    Shapes as in `kl_divergence`.
    """
    _require_same_shape(student_logits, teacher_logits)
    squares = jnp.square(student_logits - teacher_logits)
    if weights is not None:
        weights = jnp.asarray(weights, squares.dtype)
        if weights.shape != squares.shape[-1:]:
            raise ValueError(f"weights must have shape {squares.shape[-1:]}, one for each logit, got {weights.shape}")
        squares = weights * squares
    return jnp.sum(squares, axis=-1)


def huber(student_logits: jax.Array, teacher_logits: jax.Array, delta: float = 1.0) -> jax.Array:
    """Huber loss summed over the logits: `r**2 / 2` where `|r| <= delta`, linear with slope delta beyond.

    Shapes as in `kl_divergence`.
    """
    _require_same_shape(student_logits, teacher_logits)
    if not delta > 0:
        raise ValueError(f"delta must be positive, got {delta}")
    return jnp.sum(optax.losses.huber_loss(student_logits, teacher_logits, delta=delta), axis=-1)


IMITATION: dict[str, Callable[..., jax.Array]] = {
    "kl": kl_divergence,
    "cross_entropy": soft_cross_entropy,
    "squared_error": squared_error,
    "huber": huber,
}


def imitation(name: str, *, temperature: float | jax.Array | None = None) -> PerExampleLoss:
    """The imitation loss of that name: `kl`, `cross_entropy`, `squared_error` or `huber`.

    Args:
        name: one of the above.
        temperature: softmax temperature for `kl` and `cross_entropy`, 1 unless given, may be traced; the others have
            none.

    Raises:
        ValueError: for an unknown name, a temperature that is not positive and finite, or a temperature for
            a loss that has none.
    """
    loss = lookup("imitation loss", name, IMITATION)
    if temperature is None:
        return loss
    if loss not in (kl_divergence, soft_cross_entropy):
        raise ValueError(f"{name!r} has no temperature; leave it out, or use 'kl' or 'cross_entropy'")
    if plain(temperature) and not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature must be positive and finite, got {temperature}")
    return partial(loss, temperature=temperature)


def on_logits(loss: PerExampleLoss, logits: slice) -> PerExampleLoss:
    """Restrict an imitation loss to some of the logits, *before* any softmax.

    `on_logits(kl_divergence, net.auxiliary)` is the loss of the auxiliary-only student: one softmax over the
    auxiliary logits alone. A network's slices are `net.classes`, `net.auxiliary` and `net.all_logits`.
    """

    def restricted(student_logits: jax.Array, teacher_logits: jax.Array) -> jax.Array:
        if not range(student_logits.shape[-1])[logits]:
            raise ValueError(f"{logits} selects none of {student_logits.shape[-1]} logits")
        return loss(student_logits[..., logits], teacher_logits[..., logits])

    return restricted


def _require_same_shape(student_logits: jax.Array, teacher_logits: jax.Array) -> None:
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student logits {student_logits.shape} and teacher logits {teacher_logits.shape} differ in shape"
        )
