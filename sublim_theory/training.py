"""Training: one `fit`, and on it the teacher and the distillation of students (arXiv 2507.14805, section 6.2).

Everything here trains one seed and is pure, so that `ensemble` can map or vmap it. Data and schedule are
arguments of one `jax.lax.scan`; nothing is read, drawn or printed inside.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sublim_theory import losses
from sublim_theory.models import Network
from sublim_theory.protocols import Params, PerExampleLoss, SublimError, lookup, plain


class Schedule(NamedTuple):
    """Which examples each update sees.

    Attributes:
        indices: [steps, batch] int32, rows of the data.
        weights: [steps, batch] float32, one for an example of the batch and zero for the padding that fills up
            the short last batch of an epoch.
    """

    indices: jax.Array
    weights: jax.Array


class Fit(NamedTuple):
    """A trained pytree of parameters, and the mean loss of each update's batch, [steps] at each leaf."""

    params: Params
    losses: Any


class NonFiniteLossError(SublimError, FloatingPointError):
    """A loss became NaN or infinite.

    Attributes:
        run: name of the training run, such as `teacher`.
        seed: the seed that it happened to.
        step: the first update whose loss is not finite, from 0.
    """

    def __init__(self, run: str, seed: int, step: int, value: float, config: object):
        self.run, self.seed, self.step = run, seed, step
        super().__init__(
            f"the loss of {run} became {value} at step {step} of seed {seed}; "
            f"lower the learning rate or the initial scale; config: {config}"
        )


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Updates in one pass over the data, the short last batch included: 59 for 60,000 in batches of 1,024."""
    return math.ceil(examples / batch_size)


def schedule(key: jax.Array, examples: int, *, batch_size: int, epochs: int) -> Schedule:
    """Epochs of shuffled batches: each epoch is a new permutation, its last batch what is left over.

    Args:
        key: PRNG key; each epoch's permutation is drawn from it.
        examples: number of rows.
        batch_size: rows per update; the whole set where it is smaller.
        epochs: passes over the data.

    Returns:
        `epochs * ceil(examples / batch_size)` updates.

    Raises:
        ValueError: for a number that is not positive.
    """
    for name, number in {"examples": examples, "batch_size": batch_size, "epochs": epochs}.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    batch_size = min(batch_size, examples)
    steps = steps_per_epoch(examples, batch_size)
    padding = steps * batch_size - examples

    def epoch(epoch_key: jax.Array) -> jax.Array:
        order = jax.random.permutation(epoch_key, jnp.arange(examples, dtype=jnp.int32))
        return jnp.pad(order, (0, padding)).reshape(steps, batch_size)

    indices = jax.lax.map(epoch, jax.random.split(key, epochs)).reshape(epochs * steps, batch_size)
    weights = (np.arange(steps * batch_size) < examples).astype(np.float32).reshape(steps, batch_size)
    return Schedule(indices, jnp.tile(weights, (epochs, 1)))


def fit(
    objective: Callable[[Params, Any], Any],
    params: Params,
    optimizer: optax.GradientTransformation,
    data: Any,
    batches: Schedule,
) -> Fit:
    """Minimise the mean of per-example losses, one optimiser update a batch, as one scan.

    Args:
        objective: `objective(params, batch) -> losses`, a pytree of per-example losses [batch]. With several
            leaves their means are added, so that parameters which enter different leaves train independently.
        params: initial parameters.
        optimizer: an optax gradient transformation.
        data: pytree of arrays [examples, ...]; `batch` holds the same arrays at the rows of one update.
        batches: the rows of every update.

    Returns:
        The trained parameters and the mean losses, [steps] at each leaf that `objective` returns.
    """

    def total(params: Params, batch: Any, weights: jax.Array) -> tuple[jax.Array, Any]:
        means = jax.tree.map(lambda loss: jnp.sum(weights * loss) / jnp.sum(weights), objective(params, batch))
        return jnp.sum(jnp.stack(jax.tree.leaves(means))), means

    def update(carry: tuple[Params, Any], now: Schedule) -> tuple[tuple[Params, Any], Any]:
        params, state = carry
        batch = jax.tree.map(lambda rows: rows[now.indices], data)
        gradients, means = jax.grad(total, has_aux=True)(params, batch, now.weights)
        updates, state = optimizer.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), means

    data = jax.tree.map(jnp.asarray, data)
    (params, _), means = jax.lax.scan(update, (params, optimizer.init(params)), batches)
    return Fit(params, means)


def train_teacher(
    net: Network,
    params: Params,
    images: jax.Array,
    labels: jax.Array,
    optimizer: optax.GradientTransformation,
    batches: Schedule,
) -> Fit:
    """Train a copy of the reference `params` on labelled images, by cross-entropy on the class logits.

    Args:
        net: the network.
        params: the reference's parameters.
        images: [examples, features].
        labels: [examples], integer.
        optimizer: an optax gradient transformation.
        batches: rows of the images that each update sees.
    """

    def objective(params: Params, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
        x, y = batch
        return losses.cross_entropy(net.class_logits(net.apply(params, x)), y)

    return fit(objective, params, optimizer, (images, labels), batches)


def distil(
    net: Network,
    teacher: Params,
    students: Mapping[str, tuple[Params, PerExampleLoss]],
    images: jax.Array,
    optimizer: optax.GradientTransformation,
    batches: Schedule,
) -> Fit:
    """Distil one teacher into several students that see the same inputs in the same order.

    The students share each batch and the teacher's logits, which are computed once for the whole set; each
    has its own loss and its own optimiser state, so its result is that of a run on its own.

    Args:
        net: the network of teacher and students.
        teacher: the trained teacher's parameters.
        students: name -> (initial parameters, imitation loss on all logits of student and teacher).
        images: distillation inputs [examples, features]; no labels enter.
        optimizer: an optax gradient transformation.
        batches: rows of the images that each update sees.

    Returns:
        Parameters and mean losses by student name.
    """
    imitation = {name: loss for name, (_, loss) in students.items()}

    def objective(params: Params, batch: tuple[jax.Array, jax.Array]) -> dict[str, jax.Array]:
        x, teacher_logits = batch
        return {name: loss(net.apply(params[name], x), teacher_logits) for name, loss in imitation.items()}

    initial = {name: params for name, (params, _) in students.items()}
    separate = optax.partition(dict.fromkeys(students, optimizer), {name: name for name in students})
    return fit(objective, initial, separate, (images, net.apply(teacher, images)), batches)


def accuracy(net: Network, params: Params, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Share of images whose largest class logit is the label's; a scalar in [0, 1]."""
    predictions = jnp.argmax(net.class_logits(net.apply(params, images)), axis=-1)
    return jnp.mean(predictions == labels, dtype=jnp.float32)


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adam": lambda learning_rate, **_: optax.adam(learning_rate),
    "adamw": lambda learning_rate, weight_decay, **_: optax.adamw(learning_rate, weight_decay=weight_decay),
    "adam_l2": lambda learning_rate, weight_decay, **_: optax.chain(
        optax.add_decayed_weights(weight_decay), optax.adam(learning_rate)
    ),
    "sgd": lambda learning_rate, momentum, **_: optax.sgd(learning_rate, momentum or None),
}


def optimizer(
    name: str,
    learning_rate: float | jax.Array,
    *,
    momentum: float = 0.0,
    weight_decay: float | jax.Array = 0.0,
) -> optax.GradientTransformation:
    """The optax optimiser of that name: `adam`, `adamw`, `adam_l2` or `sgd`.

    Args:
        name: `adam` (0.9, 0.999, 1e-8), `adamw` (the same, decoupled decay), `adam_l2` (the same, decay added
            to the gradient: Adam rescales it to a full step wherever the data give no gradient) or `sgd`.
        learning_rate: step size, positive; may be traced.
        momentum: for `sgd` only, in [0, 1).
        weight_decay: for `adamw` and `adam_l2` only, at least 0; may be traced.

    Raises:
        ValueError: for an unknown name, a number out of range, or a setting that the optimiser does not have.
    """
    make = lookup("optimizer", name, OPTIMIZERS)
    if plain(learning_rate) and not (learning_rate > 0 and math.isfinite(learning_rate)):
        raise ValueError(f"learning_rate must be positive and finite, got {learning_rate}")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}")
    if plain(weight_decay) and not (weight_decay >= 0 and math.isfinite(weight_decay)):
        raise ValueError(f"weight_decay must be at least 0 and finite, got {weight_decay}")
    if momentum and name != "sgd":
        raise ValueError(f"momentum is for 'sgd', not {name!r}")
    if plain(weight_decay) and weight_decay and not name.startswith("adam_") and name != "adamw":
        raise ValueError(f"weight_decay is for 'adamw' and 'adam_l2', not {name!r}")
    return make(learning_rate, momentum=momentum, weight_decay=weight_decay)


def require_finite(step_losses: Mapping[str, np.ndarray], seeds: list[int], config: object) -> None:
    """Raise for the first loss that is not finite.

    Args:
        step_losses: run name -> losses [seeds, steps].
        seeds: the seeds of the rows.
        config: what to name in the message.

    Raises:
        NonFiniteLossError: naming run, seed, step and config.
    """
    for run, values in step_losses.items():
        bad = np.argwhere(~np.isfinite(values))
        if bad.size:
            row, step = bad[0]
            raise NonFiniteLossError(run, seeds[row], int(step), float(values[row, step]), config)
