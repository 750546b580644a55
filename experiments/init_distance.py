"""How close must two initialisations be? Students that start at a distance from the teacher's own initialisation.

Claim: transfer through the auxiliary logits outlives a small distance of the two starts and is gone when they are
strangers; in between the hidden layers are more sensitive than the heads.

Two ways to leave the reference, each for `all` layers, the `hidden` ones, the `class_head` or the `auxiliary_head` (the
rest is shared), with the same draw at every distance d:

* `interpolated`: `sqrt(1 - d**2) reference + d other`, which keeps the variance, unlike a straight line. At d = 1 the
  part is another network's.
* `perturbed`: `reference + N(0, (d s)**2)` with s the root mean square of each array of weights, so that biases, which
  are 0 at the start, stay 0. At d = 1 the two are still correlated, by 0.7.

Conditions, one value a seed: test accuracy of `reference`, `teacher`, `student_aux` (distance 0, the student of figure
10) and `WAY/PART/DISTANCE`; `sigma_star_relative/PART`, the law of `sublim_theory.theorem.mismatch` in units of d: the
distance at which the first update is aligned with the teacher's with probability Phi(1) = 84%. It is of first order
in the distance and for one step of gradient descent, and takes the teacher's whole displacement for its step (Lemma 1
allows any). The class head has none: the auxiliary logits do not depend on it.

Found on the embedded digits, 5 seeds: .75 without distance; with all layers interpolated .73, .69, .45, .17 and .12 at
d = .1, .2, .4, .7 and 1, chance being .11. At d = .4 the hidden layers alone give .60, class head .68, auxiliary head
.73; at 1 .15, .08, .31. sigma* is 4 to 7, too far: to first order the mean of the alignment does not depend on d, but
near d = 1 it is lost. Of 40 perturbations of all layers of each of 4 seeds, at least 97% had an aligned first update
at d = .4, and 0 to 68% at 1.

On MNIST (paper, 2 seeds) the same order at .60 without distance: all layers interpolated .53, .43, .28, .16 and .09 at
d = .1 to 1, heads alone much later; sigma* (1.6 for all layers, 2.8 for the hidden ones) lies nearer, still beyond 1.

Literature, MNIST and squared error: a perturbation of standard deviation .05 or more brings it to chance (Jiang,
Nagashima and Miyamoto 2025); that is 0.8 to 1.4 of the spread of hidden weights at the paper's initialisation.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

from experiments.distillation import NARROW, Distillation, Split, Start, begin, distil_and_test, layers_of, run_config
from sublim_theory import geometry, losses, models, results, theorem, training
from sublim_theory._types import Params, PerExampleLoss
from sublim_theory.ensemble import stream
from sublim_theory.protocols import lookup

WAYS = ("interpolated", "perturbed")
PARTS = ("all", "hidden", "class_head", "auxiliary_head")
INPUTS = 512
"""The student's inputs in the prediction."""


@dataclass(frozen=True)
class Config(Distillation):
    """Settings of distances between initialisations."""

    distances: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
    """Distances, in units of the weights' own spread; 0 is there anyway."""
    parts: tuple[str, ...] = PARTS
    """What is moved: all, hidden, class_head, auxiliary_head."""
    ways: tuple[str, ...] = WAYS
    """How it is moved: interpolated, perturbed."""

    def __post_init__(self) -> None:
        """Check every setting, as the settings of every distillation are."""
        super().__post_init__()
        if not all(0 < distance <= 1 for distance in self.distances):
            raise ValueError(f"distances must lie in (0, 1], got {self.distances}")
        for name, known in {"parts": PARTS, "ways": WAYS}.items():
            for value in getattr(self, name):
                lookup(name.removesuffix("s"), value, dict.fromkeys(known))
        self.require_distinct("distances", "parts", "ways")
        if "hidden" in self.parts and not self.hidden:
            raise ValueError("parts cannot have 'hidden' where there is no hidden layer")

    def students(self) -> dict[str, tuple[str, str, float]]:
        """Way, part and distance of every student that starts at one, by condition."""
        return {
            f"{way}/{part}/{distance:g}": (way, part, distance)
            for way in self.ways
            for part in self.parts
            for distance in self.distances
        }


_DIGITS = Config(seeds=5, distances=(0.1, 0.2, 0.4, 0.7, 1.0), **NARROW)
PRESETS = {
    "smoke": replace(_DIGITS, seeds=2, noise_images=8192, parts=("all", "class_head"), distances=(0.1, 1.0)),
    "default": _DIGITS,
    "paper": Config(seeds=10),
}


def moved(start: Start, way: str, part: str, distance: float) -> Params:
    """The reference, with the layers of a part at a distance; the others are the same arrays."""
    reference, towards, keep = start.reference, start.other, (1 - distance**2) ** 0.5
    if way == "perturbed":
        normal = optax.tree.random_like(stream(start.key, "init/perturbation"), reference)
        towards, keep = jax.tree.map(lambda w, z: root_mean_square(w) * z, reference, normal), 1.0
    mixed = jax.tree.map(lambda a, b: keep * a + distance * b, reference, towards)
    return reference | {layer: mixed[layer] for layer in layers_of(reference, part)}


def root_mean_square(weights: jax.Array) -> jax.Array:
    """Scale of an array, a scalar; 0 for biases at the start."""
    return jnp.sqrt(jnp.mean(jnp.square(weights)))


def sigma_star_relative(
    net: models.Network, start: Start, loss: PerExampleLoss, parts: tuple[str, ...]
) -> dict[str, jax.Array]:
    """The distance by part at which the first update is aligned with probability 84%: `D^T G D / |S G D|`.

    D is the displacement of the teacher, S the scale of each array of weights in the part and 0 elsewhere: the law of
    `theorem.mismatch` for noise in proportion to S. float32 will do: no small difference is taken.
    """
    displacement = optax.tree.sub(start.teacher.params, start.reference)
    law = theorem.first_order(net.apply, loss, start.reference, displacement, start.images[:INPUTS])
    felt = jax.tree.map(lambda w, g: root_mean_square(w) * g, start.reference, law.product)
    spread = {part: geometry.norm({layer: felt[layer] for layer in layers_of(felt, part)}) for part in parts}
    return {part: law.coefficient / spread[part] for part in parts if part != "class_head"}


def run_seed(config: Config, net: models.Network, seed: jax.Array, data: Split) -> dict[str, jax.Array]:
    """The conditions of one seed by name, and `loss/NAME` [steps] by training run."""
    start = begin(config, net, seed, data)
    loss = losses.on_logits(config.imitation_loss(), net.auxiliary)
    initial = {"student_aux": start.reference}
    initial |= {name: moved(start, *where) for name, where in config.students().items()}
    students = {name: training.Student(params, loss) for name, params in initial.items()}
    found = distil_and_test(config, net, start, students, data)
    predicted = sigma_star_relative(net, start, loss, config.parts)
    return found | {f"sigma_star_relative/{part}": distance for part, distance in predicted.items()}


def run(
    config: Config, *, preset: str = "custom", data_dir: str | Path | None = None, chunks: Path | None = None
) -> results.Result:
    """Run every seed and return the record; arguments and errors as in `fig10.run`."""
    recording, _, arrays = run_config(
        "init_distance", run_seed, config, preset=preset, data_dir=data_dir, chunks=chunks
    )
    order = ["reference", "teacher", "student_aux", *config.students()]
    order += [name for name in arrays if name.startswith("sigma_star_relative/")]
    return recording.result({name: arrays[name] for name in order}, arrays)
