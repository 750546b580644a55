"""Training: one `fit`, and on it the teacher and the distillation of students (arXiv 2507.14805, section 6.2).

Everything here trains one seed and is pure, so that `ensemble` can map or vmap it. Data and schedule are
arguments of one `jax.lax.scan`; nothing is read, drawn or printed inside.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Float32, Int32, Integer

from sublim_theory import losses
from sublim_theory._types import AnyArray, Array, Params, PerExampleLoss, PRNGKey, Whole
from sublim_theory.networks import Network
from sublim_theory.protocols import SublimError, require_count


class Schedule(NamedTuple):
    """Which examples each update sees.

    Attributes:
        indices: [steps, batch] int32, rows of the data.
        weights: [steps, batch] float32, one for an example of the batch and zero for the padding that fills up
            the short last batch of an epoch.
    """

    indices: Integer[AnyArray, "steps batch"]
    weights: Float[AnyArray, "steps batch"]


class Update(NamedTuple):
    """One update of `fit`, as a transform of its gradient sees it.

    Attributes:
        step: int32 scalar, from 0.
        batch: the data at the rows of this update, a pytree of arrays [batch, ...].
        weights: [batch], those of `Schedule`.
    """

    step: Int32[AnyArray, ""]
    batch: Any
    weights: Float[AnyArray, "batch"]

    def mean(self, values: Float[AnyArray, "batch"]) -> Float[Array, ""]:
        """Mean of per-example values [batch] over the examples of the batch, a scalar."""
        weights = jnp.asarray(self.weights).astype(values.dtype)
        return jnp.sum(weights * values) / jnp.sum(weights)


class Fit(NamedTuple):
    """What was trained, and kept on the way.

    Attributes:
        params: the trained parameters.
        losses: the mean loss of each update's batch, [steps] at each leaf.
        measured: what `measure` returned, [measurements, ...] at each leaf; None unless there is a measurement.
    """

    params: Params
    losses: Any
    measured: Any = None


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


def steps_per_epoch(examples: Whole, batch_size: Whole) -> int:
    """Updates in one pass over the data, the short last batch included: 59 for 60,000 in batches of 1,024.

    Raises:
        ValueError: for a number that is no positive whole number.
    """
    return -(-require_count("examples", examples) // require_count("batch_size", batch_size))


def schedule(key: PRNGKey, examples: Whole, *, batch_size: Whole, epochs: Whole) -> Schedule:
    """Epochs of shuffled batches: each epoch is a new permutation, its last batch what is left over.

    Args:
        key: of all the permutations.
        examples: number of rows.
        batch_size: rows per update; the whole set where it is smaller.
        epochs: passes over the data.

    Returns:
        `epochs * ceil(examples / batch_size)` updates.

    Raises:
        ValueError: for a number that is no positive whole number.
    """
    rows, passes = require_count("examples", examples), require_count("epochs", epochs)
    size = min(require_count("batch_size", batch_size), rows)
    steps = steps_per_epoch(rows, size)

    def epoch(epoch_key: PRNGKey) -> Int32[Array, "steps batch"]:
        order = jax.random.permutation(epoch_key, jnp.arange(rows, dtype=jnp.int32))
        return jnp.pad(order, (0, steps * size - rows)).reshape(steps, size)

    indices = jax.lax.map(epoch, jax.random.split(key, passes)).reshape(passes * steps, size)
    weights = (np.arange(steps * size) < rows).astype(np.float32).reshape(steps, size)
    return Schedule(indices, jnp.tile(weights, (passes, 1)))


def fit(
    objective: Callable[[Params, Any], Any],
    params: Params,
    optimizer: optax.GradientTransformation,
    data: Any,
    batches: Schedule,
    *,
    transform: Callable[[Params, Params, Update], Params] | None = None,
    measure: Callable[[Params, Params], Any] | None = None,
    every: Whole = 1,
) -> Fit:
    """Minimise the mean of per-example losses, one optimiser update a batch, as one scan.

    Args:
        objective: `objective(params, batch) -> losses`, a pytree of per-example losses [batch]. With several
            leaves their means are added, so that parameters which enter different leaves train independently.
        params: initial parameters.
        optimizer: the update rule.
        data: pytree of arrays [examples, ...]; `batch` holds the same arrays at the rows of one update.
        batches: the rows of every update.
        transform: `transform(params, gradients, update) -> gradients`, what the optimiser gets in place of the
            gradients of the mean loss. An optax transformation would see neither the batch nor the step.
        measure: `measure(params, gradients) -> pytree of arrays`, called before the updates 0, `every`, 2 `every`, ...
            with the gradients of that update's mean loss, before any transform. Nothing else is kept of a step.
        every: updates from one measurement to the next.

    Returns:
        The trained parameters, the mean losses, [steps] at each leaf that `objective` returns, and the measurements,
        [ceil(steps / every)] at each leaf.

    Raises:
        ValueError: if `every` is no positive whole number.
    """
    every = require_count("every", every)
    Carry = tuple[Params, Any]

    def total(params: Params, now: Update) -> tuple[Array, Any]:
        means = jax.tree.map(now.mean, objective(params, now.batch))
        return jnp.sum(jnp.stack(jax.tree.leaves(means))), means

    def gradients_at(params: Params, step: Array, rows: Schedule) -> tuple[Params, Any, Update]:
        now = Update(step, jax.tree.map(lambda values: values[rows.indices], data), rows.weights)
        return *jax.grad(total, has_aux=True)(params, now), now

    def update(carry: Carry, now: tuple[Array, Schedule]) -> tuple[Carry, Any]:
        params, state = carry
        gradients, means, described = gradients_at(params, *now)
        if transform is not None:
            gradients = transform(params, gradients, described)
        updates, state = optimizer.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), means

    data = jax.tree.map(jnp.asarray, data)
    carry = (params, optimizer.init(params))
    count = len(batches.indices)
    numbered = jnp.arange(count, dtype=jnp.int32), batches
    if measure is None:
        (params, _), means = jax.lax.scan(update, carry, numbered)
        return Fit(params, means)

    def measured_chunk(carry: Carry, now: tuple[Array, Schedule]) -> tuple[Carry, Any]:
        # The first gradient of a chunk is computed twice, so that the loop has one kind of update.
        gradients, _, _ = gradients_at(carry[0], *jax.tree.map(lambda rows: rows[0], now))
        found = measure(carry[0], gradients)
        carry, means = jax.lax.scan(update, carry, now)
        return carry, (means, found)

    whole = count - count % every
    chunks = jax.tree.map(lambda rows: rows[:whole].reshape(whole // every, every, *rows.shape[1:]), numbered)
    carry, (means, measured) = jax.lax.scan(measured_chunk, carry, chunks)
    means = jax.tree.map(lambda values: values.reshape(whole, *values.shape[2:]), means)
    if whole < count:  # the last chunk is shorter
        carry, (last, found) = measured_chunk(carry, jax.tree.map(lambda rows: rows[whole:], numbered))
        means = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), means, last)
        measured = jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), measured, found)
    return Fit(carry[0], means, measured)


def train_teacher(
    net: Network,
    params: Params,
    images: Float[AnyArray, "examples features"],
    labels: AnyArray,
    optimizer: optax.GradientTransformation,
    batches: Schedule,
) -> Fit:
    """Train a copy of the reference `params` on labelled images, by cross-entropy on the class logits.

    Raises:
        ValueError: for labels that are not one of the classes for each image. Traced ones are not looked at: check
            them with `losses.require_labels` before they go into a compiled program.
    """
    if labels.shape != images.shape[:1]:
        raise ValueError(f"labels must be one for each of the {len(images)} images, got the shape {labels.shape}")
    losses.require_labels("labels", labels, net.classes.stop)

    def objective(params: Params, batch: tuple[Array, Array]) -> Float[Array, "batch"]:
        x, y = batch
        return losses.cross_entropy(net.class_logits(net.apply(params, x)), y)

    return fit(objective, params, optimizer, (images, labels), batches)


class Student(NamedTuple):
    """A student of `distil`.

    Attributes:
        params: initial parameters, of `net`.
        loss: imitation loss on all logits of student and teacher.
        frozen: names of the layers that keep their initial values, weight decay included.
        net: the student's network, where it is not the teacher's; it takes the same inputs and has the same logits.
    """

    params: Params
    loss: PerExampleLoss
    frozen: tuple[str, ...] = ()
    net: Network | None = None


def distil(
    net: Network,
    teacher: Params,
    students: Mapping[str, Student | tuple[Params, PerExampleLoss]],
    images: Float[AnyArray, "examples features"],
    optimizer: optax.GradientTransformation,
    batches: Schedule,
    *,
    measure: Callable[[Params, Params], Any] | None = None,
    every: Whole = 1,
) -> Fit:
    """Distil one teacher into several students that see the same inputs in the same order.

    The students share each batch and the teacher's logits, which are computed once for the whole set; each
    has its own loss and its own optimiser state, so its result is that of a run on its own.

    Args:
        net: the network of the teacher, and of the students that have no other.
        teacher: the trained teacher's parameters.
        students: name -> `Student`, or its first two fields.
        images: distillation inputs; no labels enter.
        optimizer: an optax gradient transformation.
        batches: rows of the images that each update sees.
        measure: as in `fit`; it gets parameters, frozen layers included, and gradients by student name.
        every: as in `fit`.

    Returns:
        Parameters, frozen layers included, and mean losses by student name; and what was measured.

    Raises:
        ValueError: for a frozen layer that the student does not have.
    """
    each = {name: Student(*student) for name, student in students.items()}
    for name, student in each.items():
        for layer in student.frozen:
            if layer not in student.params:
                raise ValueError(f"{name} has no layer {layer!r} to freeze; it has {', '.join(student.params)}")

    def whole(name: str, params: Params) -> Params:
        # A frozen layer is a constant, put in the place of a parameter that Adam and weight decay may move unseen.
        frozen = each[name].frozen
        return params | {layer: each[name].params[layer] for layer in frozen} if frozen else params

    def objective(params: Params, batch: tuple[Array, Array]) -> dict[str, Array]:
        x, teacher_logits = batch
        return {
            name: student.loss((student.net or net).apply(whole(name, params[name]), x), teacher_logits)
            for name, student in each.items()
        }

    def measured(params: Params, gradients: Params) -> Any:
        assert measure is not None
        return measure({name: whole(name, each) for name, each in params.items()}, gradients)

    separate = optax.partition(dict.fromkeys(each, optimizer), {name: name for name in each})
    starts = {name: student.params for name, student in each.items()}
    seen, along = (images, net.apply(teacher, images)), None if measure is None else measured
    result = fit(objective, starts, separate, seen, batches, measure=along, every=every)
    return result._replace(params={name: whole(name, params) for name, params in result.params.items()})


def accuracy(
    net: Network, params: Params, images: Float[AnyArray, "examples features"], labels: Integer[AnyArray, "examples"]
) -> Float32[Array, ""]:
    """Share of images whose largest class logit is the label's; a scalar in [0, 1]."""
    predictions = jnp.argmax(net.class_logits(net.apply(params, images)), axis=-1)
    return jnp.mean(predictions == labels, dtype=jnp.float32)


def require_finite(
    step_losses: Mapping[str, Float[np.ndarray, "seeds steps"]], seeds: Sequence[int], config: object
) -> None:
    """Raise `NonFiniteLossError`, which names run, seed, step and config, for the first loss that is not finite.

    Args:
        step_losses: run name -> losses [seeds, steps].
        seeds: the seeds of the rows.
        config: what to name in the message.
    """
    for run, values in step_losses.items():
        bad = np.argwhere(~np.isfinite(values))
        if bad.size:
            row, step = bad[0]
            raise NonFiniteLossError(run, seeds[row], int(step), float(values[row, step]), config)
