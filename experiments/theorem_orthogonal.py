"""The orthogonal branch: four ways to engineer an alignment of exactly 0 at every eps, each with what undoes it.

Claim (Theorem 1 of arXiv 2507.14805): either `d_S . d_T = 0` for every eps > 0, or the student's step lowers the
teacher's loss for small eps. The paper says that the first should arise only when engineered. Here it is, in float64,
as the number 0.0 and no other, beside the smallest change of the setting that brings the alignment back:

* `one_logit`: a softmax over a single auxiliary logit has no gradient. Undone by squared error.
* `linear_model`: class and auxiliary logits share no parameter. Undone by imitating all logits.
* `class_bias`: the teacher's loss depends on the biases of the class head alone. Undone by imitating all logits.
* `dead_units`: it depends on the weights into units that are off on every input. A large teacher step turns them on
  and moves the student, at right angles to the teacher. Undone by a bias of 0 instead of -100.

Conditions, one value a seed: `NAME`, the largest `|d_S . d_T|` over eps; `NAME/undone`, 1 where the control is aligned
at every eps up to `SMALL`; `NAME/trait`, 1 where `d_T` is not zero, so that there is something to transfer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.recording import Recording
from experiments.theory import TheoryConfig, initial, noise_images, teacher_loss
from sublim_theory import geometry, losses, models, results, theorem
from sublim_theory._types import Params, PerExampleLoss, TeacherLoss

CASES = ("one_logit", "linear_model", "class_bias", "dead_units")
SMALL = 1e-3
"""What counts here as a sufficiently small eps."""
EPSILONS = (1e-6, 1e-3, 1.0, 100.0)
"""Sizes of the teacher's step."""


@dataclass(frozen=True)
class Config(TheoryConfig):
    """Settings of the table of exact zeros."""


PRESETS = {
    "smoke": Config(seeds=2, hidden=(16,), images=128, noise_images=128),
    "default": Config(),
    "paper": Config(seeds=20, dataset="mnist", hidden=(256, 256), images=1000, noise_images=1000),
}


def run_seed(
    config: Config, features: int, classes: int, seed: jax.Array, images: jax.Array, labels: jax.Array
) -> dict[str, jax.Array]:
    """`alignment/NAME` [eps], `student/NAME` [eps] and `teacher/NAME`, lengths of the updates; and of the control."""
    found: dict[str, jax.Array] = {}
    inputs = noise_images(config, features, seed)
    for name, case in _cases(config, features, classes, seed, images, labels).items():
        found |= {f"{quantity}/{name}": value for quantity, value in _sweep(*case, inputs).items()}
    return found


def _sweep(
    net: models.Network, params: Params, trait: TeacherLoss, imitate: PerExampleLoss, inputs: jax.Array
) -> dict[str, jax.Array]:
    d_teacher = theorem.teacher_update(trait, params)

    def at(epsilon: jax.Array) -> tuple[jax.Array, jax.Array]:
        teacher = optax.tree.add_scale(params, epsilon, d_teacher)
        step = theorem.imitation_update(net.apply, imitate, params, teacher, inputs)
        return optax.tree.vdot(step, d_teacher), geometry.norm(step)

    alignment, student = jax.lax.map(at, jnp.asarray(EPSILONS))
    return {"alignment": alignment, "student": student, "teacher": geometry.norm(d_teacher)}


def _cases(
    config: Config, features: int, classes: int, seed: jax.Array, images: jax.Array, labels: jax.Array
) -> dict[str, tuple[models.Network, Params, TeacherLoss, PerExampleLoss]]:
    """Each case and its control `NAME/undone`: network, initialisation, the teacher's loss and the student's."""
    net = config.network(features, classes, "relu")
    single = config.network(features, classes, "relu", auxiliary=1)
    linear = config.network(features, classes, "relu", hidden=())
    auxiliary, everything = (losses.on_logits(losses.kl_divergence, some) for some in (net.auxiliary, net.all_logits))
    last, units = f"hidden_{len(config.hidden) - 1}", slice(0, config.hidden[-1] // 2)

    def of_class_biases(params: Params) -> jax.Array:
        return jnp.sum(jnp.square(params["class_head"]["bias"] - jnp.arange(classes)))

    def of_some_units(params: Params) -> jax.Array:
        return jnp.sum(jnp.square(params[last]["kernel"][:, units])) / 2

    start = initial(net, seed)

    def with_bias(value: float) -> Params:
        return start | {last: start[last] | {"bias": start[last]["bias"].at[units].set(value)}}

    one, flat = ((some, initial(some, seed), teacher_loss(some, images, labels)) for some in (single, linear))
    dead, alive = ((net, with_bias(value), of_some_units) for value in (-100.0, 0.0))
    biases = net, start, of_class_biases
    return {
        "one_logit": (*one, losses.on_logits(losses.kl_divergence, single.auxiliary)),
        "one_logit/undone": (*one, losses.on_logits(losses.squared_error, single.auxiliary)),
        "linear_model": (*flat, auxiliary),
        "linear_model/undone": (*flat, everything),
        "class_bias": (*biases, auxiliary),
        "class_bias/undone": (*biases, everything),
        "dead_units": (*dead, auxiliary),
        "dead_units/undone": (*alive, auxiliary),
    }


def run(
    config: Config, *, preset: str = "custom", data_dir: str | Path | None = None, chunks: Path | None = None
) -> results.Result:
    """Run every seed and return the record; arguments and errors as in `fig10.run`."""
    recording = Recording(
        "theorem_orthogonal", config, preset=preset, data_dir=data_dir, chunks=chunks, dtype="float64"
    )
    features, classes = recording.dataset.features, recording.dataset.classes
    arrays = recording.run(
        partial(run_seed, config, features, classes), *config.labelled(recording), **config.chunking(features)
    )
    return recording.result(_conditions(arrays), arrays | {"epsilons": np.array(EPSILONS)})


def _conditions(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    small = np.array(EPSILONS) <= SMALL
    zeros = {name: np.abs(arrays[f"alignment/{name}"]).max(axis=1) for name in CASES}
    undone = {f"{name}/undone": (arrays[f"alignment/{name}/undone"][:, small] > 0).all(axis=1) for name in CASES}
    traits = {f"{name}/trait": arrays[f"teacher/{name}"] > 0 for name in CASES}
    return zeros | undone | traits
