"""The alignment of the two updates over eps tends to `A = d_T^T G d_T > 0`; float32 cannot see it.

Claim (Lemma 1 and eq. 2 of arXiv 2507.14805): `d_S . d_T = eps A + O(eps**2)`, and the whole update follows,
`|d_S - eps G d_T| = O(eps**2)`. The order 2 is exact on smooth networks. A ReLU network has it up to its first kink
only; of it the sign and the limit are asserted. In float32 the labels of a small step drown in rounding, sign and all.

Conditions by activation and loss, one value a seed: `order/...`, the slope of `log |d_S - eps G d_T|` over `log eps` on
smooth networks; `positive/...`, the fraction of eps up to `SMALL` with `d_S . d_T > 0`; `limit/...`, by how much
`d_S . d_T / (eps A)` differs from 1 at the smallest eps; `float32_wrong/...`, the fraction of eps up to `UNSEEN` at
which the plain update in float32 is off by more than 10% of A.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.recording import Recording
from experiments.theory import TheoryConfig, initial, noise_images, teacher_loss
from sublim_theory import geometry, losses, models, results, theorem
from sublim_theory._types import Params, PerExampleLoss, TeacherLoss
from sublim_theory.theorem.verify import order_of_remainder

SMALL = 1e-3
"""What counts here as a sufficiently small eps."""
UNSEEN = 1e-9
"""An eps far below the rounding of float32, 6e-8: adding `eps d_T` to the parameters changes almost none of them."""


@dataclass(frozen=True)
class Config(TheoryConfig):
    """Settings of the alignment against eps."""

    seeds: int = 8
    """Independent repetitions: initialisations, each with its noise."""
    activations: tuple[str, ...] = ("tanh", "gelu", "relu")
    """Networks: relu, tanh, gelu, sigmoid, identity."""
    losses: tuple[str, ...] = ("kl", "squared_error")
    """What students minimise on the auxiliary logits: kl, cross_entropy, squared_error, huber."""
    decades: int = 12
    """The sizes of the teacher's step reach from 10**-decades to 1."""
    per_decade: int = 2
    """Sizes in each decade."""

    def __post_init__(self) -> None:
        """Check every setting, as the settings of every experiment on the theorem are."""
        super().__post_init__()
        self.require_counts("per_decade")
        if self.decades < 9:
            raise ValueError(f"decades must be at least 9, to reach below the rounding of float32; got {self.decades}")
        self.require_names(self.activations, self.losses)

    @property
    def epsilons(self) -> np.ndarray:
        """Sizes of the teacher's step, ascending."""
        return 10.0 ** np.linspace(-self.decades, 0, self.decades * self.per_decade + 1)


PRESETS = {
    "smoke": Config(
        seeds=2, hidden=(16,), activations=("tanh", "relu"), losses=("kl",), images=128, noise_images=128, per_decade=1
    ),
    "default": Config(),
    "paper": Config(seeds=3, dataset="mnist", hidden=(256, 256), images=1000, noise_images=1000, per_decade=1),
}


def run_seed(
    config: Config, features: int, classes: int, seed: jax.Array, images: jax.Array, labels: jax.Array
) -> dict[str, jax.Array]:
    """`A/...`, and `alignment/...` and `remainder/...` [eps] by activation, loss and precision."""
    found = {}
    start = initial(config.network(features, classes, "relu"), seed)
    inputs = noise_images(config, features, seed)
    for activation in config.activations:
        net = config.network(features, classes, activation)
        single = config.network(features, classes, activation, dtype="float32")
        trait = teacher_loss(net, images, labels)
        d_teacher = theorem.teacher_update(trait, start)
        for loss in config.losses:
            imitate = losses.on_logits(losses.imitation(loss), net.auxiliary)
            law = theorem.first_order(net.apply, imitate, start, d_teacher, inputs)
            sizes = jnp.asarray(config.epsilons)
            exact = theorem.student_steps(net.apply, imitate, trait, start, law, sizes, inputs)
            found[f"A/{activation}/{loss}"] = law.coefficient
            found[f"alignment/{activation}/{loss}/float64"] = exact.alignment
            found[f"remainder/{activation}/{loss}/float64"] = exact.remainder
            plain = _in_float32(single, imitate, teacher_loss(single, images, labels), start, law, sizes, inputs)
            for quantity, values in plain.items():
                found[f"{quantity}/{activation}/{loss}/float32"] = values
    return found


def _in_float32(
    net: models.Network,
    imitate: PerExampleLoss,
    trait: TeacherLoss,
    start: Params,
    law: theorem.FirstOrder,
    sizes: jax.Array,
    inputs: jax.Array,
) -> dict[str, jax.Array]:
    """`alignment` and `remainder` [eps] of the plain updates in float32, against the law in float64."""
    params, x = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (start, inputs))
    d_teacher = theorem.teacher_update(trait, params)

    def at(epsilon: jax.Array) -> tuple[jax.Array, jax.Array]:
        teacher = optax.tree.add_scale(params, epsilon.astype(jnp.float32), d_teacher)
        update = theorem.imitation_update(net.apply, imitate, params, teacher, x)
        step = jax.tree.map(lambda leaf: leaf.astype(jnp.float64) / epsilon, update)
        rest = geometry.norm(optax.tree.sub(step, law.product)) / geometry.norm(law.product)
        return epsilon * optax.tree.vdot(step, law.direction), rest

    alignment, remainder = jax.lax.map(at, sizes)
    return {"alignment": alignment, "remainder": remainder}


def run(
    config: Config, *, preset: str = "custom", data_dir: str | Path | None = None, chunks: Path | None = None
) -> results.Result:
    """Run every seed and return the record; arguments and errors as in `fig10.run`."""
    recording = Recording("theorem_alignment", config, preset=preset, data_dir=data_dir, chunks=chunks, dtype="float64")
    features, classes = recording.dataset.features, recording.dataset.classes
    arrays = recording.run(
        partial(run_seed, config, features, classes), *config.labelled(recording), **config.chunking(features)
    )
    return recording.result(_conditions(config, arrays), arrays | {"epsilons": config.epsilons})


def _conditions(config: Config, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    found = {}
    epsilons = config.epsilons
    for activation, loss in itertools.product(config.activations, config.losses):
        name = f"{activation}/{loss}"
        per_epsilon = epsilons * arrays[f"A/{name}"][:, None]
        ratio, single = (arrays[f"alignment/{name}/{precision}"] / per_epsilon for precision in ("float64", "float32"))
        if activation != "relu":
            remainders = arrays[f"remainder/{name}/float64"]
            found[f"order/{name}"] = np.array(
                [order_of_remainder(epsilons.tolist(), remainder) for remainder in remainders.tolist()], float
            )
        found[f"positive/{name}"] = (ratio[:, epsilons <= SMALL] > 0).mean(axis=1)
        found[f"limit/{name}"] = np.abs(ratio[:, 0] - 1)
        found[f"float32_wrong/{name}"] = (np.abs(single[:, epsilons <= UNSEEN] - 1) > 0.1).mean(axis=1)
    return found
