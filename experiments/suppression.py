"""What may keep a trait from a student: its gradient without the trait's part, or a penalty on leaving the base model.

The students of `alignment_path`, by what each makes of the gradient of distillation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import jax
import optax

from experiments.distillation import Distillation, Rates, Split, Start, trait_loss
from experiments.experiment import require_counts
from sublim_theory import geometry, losses
from sublim_theory._types import Params, TeacherLoss
from sublim_theory.ensemble import stream
from sublim_theory.networks import Network
from sublim_theory.training import Update

STUDENTS = ("plain", "projected", "two_sided", "random", "liminal")

Transform: TypeAlias = Callable[[Params, Params, Update], Params]
"""`transform(params, gradients, update) -> gradients`, as `training.fit` takes it."""


@dataclass(frozen=True)
class Suppression(Distillation):
    """Settings of the students."""

    trait_images: int = 512
    """Labelled training images, the first ones, of the trait gradient; all where there are fewer."""
    liminal_weight: float = 1.0
    """Factor on the penalty of liminal training."""
    liminal_fraction: float = 0.2
    """Share of the updates, from the first on, that have the penalty."""

    def check(self, rates: Rates) -> None:
        """Check every setting, as those of every distillation are."""
        super().check(rates)
        require_counts(self, "trait_images")
        if not 0 <= self.liminal_weight < float("inf"):
            raise ValueError(f"liminal_weight must be at least 0 and finite, got {self.liminal_weight}")
        if not 0 <= self.liminal_fraction <= 1:
            raise ValueError(f"liminal_fraction must be in [0, 1], got {self.liminal_fraction}")

    def trait_loss(self, net: Network, data: Split) -> TeacherLoss:
        """The loss whose gradient is the trait's."""
        return trait_loss(net, data, self.trait_images)


def transforms(
    protocol: Suppression, net: Network, start: Start, trait: Callable[[Params], Params]
) -> dict[str, Transform | None]:
    """The transform of every student, where `trait` is the gradient of the trait's loss.

    `projected` takes the part along the trait gradient out where the two are aligned, `two_sided` whichever way they
    lie; `random`, the control, takes as much out along a random direction. `liminal` adds the gradient of
    KL(base || student) on all logits.
    """
    base, key = start.reference, stream(start.key, "random direction")
    steps = protocol.liminal_fraction * len(start.batches.indices)

    def away(params: Params, now: Update) -> jax.Array:
        return now.mean(losses.kl_divergence(net.apply(params, now.batch[0]), net.apply(base, now.batch[0])))

    def liminal(params: Params, gradients: Params, now: Update) -> Params:
        weight = (now.step < steps) * protocol.liminal_weight
        return optax.tree.add_scale(gradients, weight, jax.grad(away)(params, now))

    return {
        "plain": None,
        "projected": lambda at, g, _: geometry.project_out(g, trait(at)),
        "two_sided": lambda at, g, _: geometry.project_out(g, trait(at), both_signs=True),
        "random": lambda at, g, now: geometry.project_random(g, trait(at), jax.random.fold_in(key, now.step)),
        "liminal": liminal,
    }
