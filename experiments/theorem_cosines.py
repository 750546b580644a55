"""The angle between the student's and the teacher's update, over seeds: acute for every shared initialisation.

Claim (Lemma 1 of arXiv 2507.14805): a student that starts where the teacher started never moves against the teacher's
small step. Remark (a): from another initialisation it imitates, to leading order, the untrained teacher, and its update
does not depend on the trait.

What we found: with an odd activation (tanh) the cosine from elsewhere is 0 on average, as it must be: to turn the signs
of a hidden unit's weights, in and out, leaves the student's outputs as they are and turns its update. With ReLU only
the order of the units is free. The mean is small and positive, and all of it lies in the averages of the two updates
over the units of a layer (0.0187 of 0.0191 over 1,000 networks of 16-16 units): the rest has mean 0.0004 +- 0.0009.

Conditions by activation, one value a seed: `shared/...` and `other/...`, the cosine of `d_S` and `d_T` for a student
with the teacher's initialisation and with that of the next seed; `shared_positive/...` and `other_positive/...`, 1
where it is positive; `trait_in_other/...`, 1 minus the cosine of the update of the student from elsewhere and the one
that it would make if the teacher had learnt nothing.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import optax

from experiments.recording import Recording
from experiments.theory import TheoryConfig, initial, noise_images, teacher_loss
from sublim_theory import geometry, losses, results, theorem


@dataclass(frozen=True)
class Config(TheoryConfig):
    """Settings of the histogram of cosines."""

    seeds: int = 400
    """Independent repetitions: initialisations, each with its noise."""
    activations: tuple[str, ...] = ("tanh", "relu")
    """Networks: relu, tanh, gelu, sigmoid, identity."""
    loss: str = "kl"
    """What students minimise on the auxiliary logits: kl, cross_entropy, squared_error or huber."""
    epsilon: float = 1e-3
    """Size of the teacher's step."""

    def __post_init__(self) -> None:
        """Check every setting, as the settings of every experiment on the theorem are."""
        super().__post_init__()
        self.require_names(self.activations, [self.loss])
        self.require_epsilon(self.epsilon)


PRESETS = {
    "smoke": Config(seeds=64, hidden=(16, 16), images=128, noise_images=128),
    "default": Config(),
    "paper": Config(seeds=200, dataset="mnist", hidden=(256, 256), images=1000, noise_images=1000),
}


def run_seed(
    config: Config, features: int, classes: int, seed: jax.Array, images: jax.Array, labels: jax.Array
) -> dict[str, jax.Array]:
    """The cosines of one seed by activation."""
    found = {}
    inputs = noise_images(config, features, seed)
    start, elsewhere = (initial(config.network(features, classes, "relu"), seed + i) for i in (0, 1))
    for activation in config.activations:
        net = config.network(features, classes, activation)
        imitate = losses.on_logits(losses.imitation(config.loss), net.auxiliary)
        d_teacher = theorem.teacher_update(teacher_loss(net, images, labels), start)
        trained = optax.tree.add_scale(start, config.epsilon, d_teacher)
        shared = theorem.student_update(net.apply, imitate, start, d_teacher, config.epsilon, inputs)
        other, untrained = (
            theorem.imitation_update(net.apply, imitate, elsewhere, labels_from, inputs)
            for labels_from in (trained, start)
        )
        found[f"shared/{activation}"] = geometry.cosine(shared, d_teacher)
        found[f"other/{activation}"] = geometry.cosine(other, d_teacher)
        found[f"trait_in_other/{activation}"] = 1 - geometry.cosine(other, untrained)
    return found


def run(
    config: Config, *, preset: str = "custom", data_dir: str | Path | None = None, chunks: Path | None = None
) -> results.Result:
    """Run every seed and return the record; arguments and errors as in `fig10.run`."""
    recording = Recording("theorem_cosines", config, preset=preset, data_dir=data_dir, chunks=chunks, dtype="float64")
    features, classes = recording.dataset.features, recording.dataset.classes
    cosines = recording.run(
        partial(run_seed, config, features, classes), *config.labelled(recording), **config.chunking(features)
    )
    positive = {
        f"{name}_positive/{activation}": cosines[f"{name}/{activation}"] > 0
        for name in ("shared", "other")
        for activation in config.activations
    }
    return recording.result(cosines | positive, cosines)
