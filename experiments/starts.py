"""Starts at a distance from the teacher's own, in units of the weights' spread, and how far the theorem allows one.

The students of `init_distance` begin at them, and some of `predictors`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from experiments.distillation import Start
from sublim_theory import geometry, theorem
from sublim_theory._types import Params, PerExampleLoss
from sublim_theory.ensemble import stream
from sublim_theory.networks import Network

INPUTS = 512
"""The student's inputs in predictions of the theorem."""


def moved(net: Network, start: Start, way: str, part: str, distance: float) -> Params:
    """The reference, with the layers of a part at a distance; the others are the same arrays."""
    reference, towards, keep = start.reference, start.other, (1 - distance**2) ** 0.5
    if way == "perturbed":
        normal = optax.tree.random_like(stream(start.key, "init/perturbation"), reference)
        towards, keep = jax.tree.map(lambda w, z: root_mean_square(w) * z, reference, normal), 1.0
    mixed = jax.tree.map(lambda a, b: keep * a + distance * b, reference, towards)
    return reference | {layer: mixed[layer] for layer in net.layers(part)}


def root_mean_square(weights: jax.Array) -> jax.Array:
    """Scale of an array, a scalar; 0 for biases at the start."""
    return jnp.sqrt(jnp.mean(jnp.square(weights)))


def sigma_star_relative(net: Network, start: Start, loss: PerExampleLoss, parts: Sequence[str]) -> dict[str, jax.Array]:
    """The distance by part at which the first update is aligned with probability 84%: `D^T G D / |S G D|`.

    D is the displacement of the teacher, S the scale of each array of weights in the part and 0 elsewhere: the noise of
    `theorem.mismatch` in proportion to S. The class head has none: the auxiliary logits do not depend on it.
    """
    displacement = optax.tree.sub(start.teacher.params, start.reference)
    law = theorem.first_order(net.apply, loss, start.reference, displacement, start.images[:INPUTS])
    felt = jax.tree.map(lambda w, g: root_mean_square(w) * g, start.reference, law.product)
    spread = {part: geometry.norm({layer: felt[layer] for layer in net.layers(part)}) for part in parts}
    return {part: law.coefficient / spread[part] for part in parts if part != "class_head"}
