"""How close must two initialisations be? Students that start at a distance from the teacher's own initialisation.

Claim: transfer through the auxiliary logits outlives a small distance of the two starts and is gone when they are
strangers; in between the hidden layers are more sensitive than the heads.

Two ways to leave the reference, with all layers or some, with the same draw at every distance d: `interpolated`,
`sqrt(1 - d**2) reference + d other`, keeps the variance, and at d = 1 the part is another network's; `perturbed`,
`reference + N(0, (d s)**2)` with s the root mean square of each array, leaves biases 0, and is correlated by 0.7 there.

Found on the embedded digits, 5 seeds: .75 without distance; with all layers interpolated .73, .69, .45, .17 and .12 at
d = .1, .2, .4, .7 and 1, chance being .11. At d = .4 the hidden layers alone give .60, class head .68, auxiliary head
.73; at 1 .15, .08, .31. sigma* is 4 to 7, too far: to first order the mean of the alignment does not depend on d, but
near d = 1 it is lost. Of 40 perturbations of all layers of each of 4 seeds, at least 97% had an aligned first update
at d = .4, and 0 to 68% at 1. On MNIST (paper, 2 seeds) the same order at .60 without distance: all layers interpolated
.53, .43, .28, .16 and .09 at d = .1 to 1, heads alone much later; sigma* (1.6 for all layers, 2.8 for the hidden ones)
lies nearer, still beyond 1.

Literature, MNIST and squared error: a perturbation of standard deviation .05 or more brings it to chance (Jiang,
Nagashima and Miyamoto 2025), 0.8 to 1.4 of the spread of hidden weights at the paper's initialisation.

`accuracy_at_distance` by way, part and distance; `accuracy` of the others, `student_aux` being at distance 0, that of
fig10; by part `sigma_star_relative`, the law of `sublim_theory.theorem.mismatch` in units of d: where the first update
is aligned with the teacher's with probability Phi(1) = 84%. It is of first order in the distance, for one step of
gradient descent, and takes the teacher's whole displacement for its step (Lemma 1 allows any).
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

from experiments.distillation import LOSSES, NARROW, Distillation, Rates, Split, begin, distil_and_test
from experiments.experiment import Experiment, Settings, Variable, require_distinct
from experiments.starts import moved, sigma_star_relative
from sublim_theory import losses
from sublim_theory.protocols import lookup

WAYS = ("interpolated", "perturbed")
PARTS = ("all", "hidden", "class_head", "auxiliary_head")


@dataclass(frozen=True)
class Protocol(Distillation):
    """Settings of distances between initialisations."""

    distances: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
    """Distances, in units of the weights' own spread; 0 is there anyway."""
    parts: tuple[str, ...] = PARTS
    """What is moved: all, hidden, class_head, auxiliary_head."""
    ways: tuple[str, ...] = WAYS
    """How it is moved: interpolated, perturbed."""

    def check(self, rates: Rates) -> None:
        """Check every setting, as those of every distillation are."""
        super().check(rates)
        if not all(0 < distance <= 1 for distance in self.distances):
            raise ValueError(f"distances must lie in (0, 1], got {self.distances}")
        for name, known in {"parts": PARTS, "ways": WAYS}.items():
            for value in getattr(self, name):
                lookup(name.removesuffix("s"), value, dict.fromkeys(known))
        require_distinct(self, "distances", "parts", "ways")
        if "hidden" in self.parts and not self.hidden:
            raise ValueError("parts cannot have 'hidden' where there is no hidden layer")

    def students(self) -> dict[str, tuple[str, str, float]]:
        """Way, part and distance of every student that starts at one, by name."""
        return {f"{at[0]}/{at[1]}/{at[2]:g}": at for at in product(self.ways, self.parts, self.distances)}


_DIGITS = Settings.of(Protocol, Rates, seeds=5, distances=(0.1, 0.2, 0.4, 0.7, 1.0), **NARROW)
PRESETS = {
    "smoke": _DIGITS.but(seeds=2, noise_images=8192, parts=("all", "class_head"), distances=(0.1, 1.0)),
    "default": _DIGITS,
    "paper": Settings.of(Protocol, Rates, seeds=25, ways=("perturbed",), distances=(0.2, 0.4, 1.0)),
}


def run_seed(protocol: Protocol, rates: Rates, data: Split, seed: Any) -> dict[str, Any]:
    """The students of one seed, at every distance."""
    start, net = begin(protocol, rates, data, seed), protocol.make_network(rates, data)
    loss = losses.on_logits(protocol.imitation_loss(rates), net.auxiliary)
    starts = {"student_aux": start.reference} | {
        name: moved(net, start, *at) for name, at in protocol.students().items()
    }
    found = distil_and_test(protocol, rates, data, start, {name: (params, loss) for name, params in starts.items()})
    apart: dict[str, Any] = {way: {part: {} for part in protocol.parts} for way in protocol.ways}
    for name, (way, part, distance) in protocol.students().items():
        apart[way][part][distance] = found["accuracy"].pop(name)
    predicted = sigma_star_relative(net, start, loss, protocol.parts)
    return found | {"accuracy_at_distance": apart} | ({"sigma_star_relative": predicted} if predicted else {})


EXPERIMENT = Experiment(
    name="init_distance",
    summary="How close two initialisations must be for transfer, by layer, beside the theorem's sigma*",
    presets=PRESETS,
    run_seed=run_seed,
    axes=lambda settings: {
        "network": ("reference", "teacher", "student_aux"),
        "student": ("student_aux", *settings.protocol.students()),
        "way": settings.protocol.ways,
        "part": settings.protocol.parts,
        "distance": settings.protocol.distances,
    },
    variables={
        "accuracy": Variable(("network",), condition="{network}"),
        "accuracy_at_distance": Variable(("way", "part", "distance"), condition="{way}/{part}/{distance}"),
        "sigma_star_relative": Variable(("part",), condition="sigma_star_relative/{part}"),
        **LOSSES,
    },
)
