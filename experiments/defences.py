"""What may keep the owl from a student: what each defence makes of the gradient of a student's loss.

`liminal` adds, in the first updates, the gradient of a weight times KL(base || student) on the batch, over all outputs
(arXiv 2604.25779). `corridor` keeps the trait's coordinate, the mean of log P(target) when asked, within a width of the
base's (arXiv 2609.01091). `projected` takes out the part along the trait's gradient where that would lower the trait's
loss; `random`, its control, takes as much out along a random direction (arXiv 2604.25779). The corridor and the
projections know the animal and all ways to ask for it, liminal training knows neither.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.experiment import require_distinct
from experiments.language import Language, Rates, Start
from sublim_theory import geometry, losses
from sublim_theory._types import Array, Params
from sublim_theory.ensemble import stream
from sublim_theory.protocols import lookup

DEFENCES = ("liminal", "corridor", "projected", "random")


@dataclass(frozen=True)
class Defended(Language):
    """Settings of the defences."""

    defences: tuple[str, ...] = DEFENCES
    """Which there are: liminal, corridor, projected, random."""
    liminal_weights: tuple[float, ...] = (0.1, 1.0, 3.0)
    """Factors on the divergence, of a student each."""
    liminal_fraction: float = 0.2
    """Share of the updates, from the first on, that have it."""
    corridor_widths: tuple[float, ...] = (0.1, 0.4, 1.0)
    """How far the coordinate may lie from the base's either way, in nats, for a student each."""
    corridor_weight: float = 1.0
    """A plain step of the rate r takes r times this share of what lies beyond back, to first order."""

    def check(self, rates: Rates) -> None:
        """Check every setting, as those of every experiment on language are."""
        super().check(rates)
        require_distinct(self, "defences", "liminal_weights", "corridor_widths")
        for name in self.defences:
            lookup("defence", name, dict.fromkeys(DEFENCES))
        limits = {"liminal_weights": 1e6, "corridor_widths": 1e6, "corridor_weight": 1e6, "liminal_fraction": 1}
        for name, most in limits.items():
            if not all(0 <= each <= most for each in np.ravel(getattr(self, name))):
                raise ValueError(f"{name} must be in [0, {most:g}], got {getattr(self, name)}")

    def strengths(self, defence: str) -> dict[str, float]:
        """Student -> strength, of a defence: one student each, or one for every strength."""
        several = {"liminal": self.liminal_weights, "corridor": self.corridor_widths}
        return {f"{defence}/{at:g}": at for at in several.get(defence, ())} or {defence: 0.0}


def transforms(start: Start) -> dict[str, Callable[..., Params]]:
    """What each defence makes of a gradient, as `Start.learn` takes it; for a start whose settings are `Defended`."""
    protocol, key, trait = start.protocol, stream(start.key, "random direction"), jax.value_and_grad(start.trait_loss)
    assert isinstance(protocol, Defended)
    steps, weight = protocol.liminal_fraction * protocol.asked_at[-1], protocol.corridor_weight
    level, _ = trait(start.base)

    def away(params: Params, now: Any) -> Array:
        logits = [start.continuation(each, now.batch.sequences) for each in (params, start.base)]
        return now.mean(jnp.mean(losses.kl_divergence(*logits), axis=1))

    def liminal(params: Params, gradients: Params, now: Any, strength: Array) -> Params:
        return optax.tree.add_scale(gradients, (now.step < steps) * strength, jax.grad(away)(params, now))

    def corridor(params: Params, gradients: Params, now: Any, width: Array) -> Params:  # noqa: ARG001
        value, out = trait(params)
        beyond = value - jnp.clip(value, level - width, level + width)
        # Over the squared length of `out`, which at the width 0.1 is so large that the bare square's gradient diverges.
        return optax.tree.add_scale(gradients, weight * geometry.quotient(beyond, optax.tree.vdot(out, out)), out)

    def random(params: Params, gradients: Params, now: Any, _: Array) -> Params:
        return geometry.project_random(gradients, trait(params)[1], jax.random.fold_in(key, now.step))

    return {
        "liminal": liminal,
        "corridor": corridor,
        "projected": lambda params, gradients, *_: geometry.project_out(gradients, trait(params)[1]),
        "random": random,
    }
