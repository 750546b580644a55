"""The angle between the student's and the teacher's update, over seeds: acute for every shared initialisation.

Claim (Lemma 1 of arXiv 2507.14805): a student that starts where the teacher started never moves against the teacher's
small step. Remark (a): from another initialisation it imitates, to leading order, the untrained teacher, and its update
does not depend on the trait.

What we found: with an odd activation (tanh) the cosine from elsewhere is 0 on average, as it must be: to turn the signs
of a hidden unit's weights, in and out, leaves the student's outputs as they are and turns its update. With ReLU only
the order of the units is free. The mean is small and positive, and all of it lies in the averages of the two updates
over the units of a layer (0.0187 of 0.0191 over 1,000 networks of 16-16 units): the rest has mean 0.0004 +- 0.0009.

Conditions by activation: `shared/...` and `other/...`, the cosine of `d_S` and `d_T` for a student with the teacher's
initialisation and with that of the next seed; `shared_positive/...` and `other_positive/...`, 1 where it is positive;
`trait_in_other/...`, 1 minus the cosine of the update of the student from elsewhere and the one that it would make if
the teacher had learnt nothing.
"""

from dataclasses import dataclass
from typing import Any

import optax

from experiments.experiment import Experiment, Nothing, Variable, require_distinct
from experiments.theory import Labelled, Theory, initial, noise_images, on_digits, teacher_loss, together
from sublim_theory import geometry, losses, theorem


@dataclass(frozen=True)
class Protocol(Theory):
    """Settings of the histogram of cosines."""

    activations: tuple[str, ...] = ("tanh", "relu")
    """Networks: relu, tanh, gelu, sigmoid, identity."""
    loss: str = "kl"
    """What students minimise on the auxiliary logits: kl, cross_entropy, squared_error or huber."""
    epsilon: float = 1e-3
    """Size of the teacher's step."""

    def check(self, rates: Nothing) -> None:
        """Check every setting, as those of every experiment on the theorem are."""
        super().check(rates)
        self.require_names(self.activations, [self.loss])
        require_distinct(self, "activations")
        self.require_epsilon(self.epsilon)


PRESETS = {
    "smoke": on_digits(Protocol, seeds=64, hidden=(16, 16), images=128, noise_images=128),
    "default": on_digits(Protocol, seeds=400),
    "paper": on_digits(Protocol, seeds=200, dataset="mnist", hidden=(256, 256), images=1000, noise_images=1000),
}


def run_seed(protocol: Protocol, rates: Nothing, data: Labelled, seed: Any) -> dict[str, Any]:  # noqa: ARG001
    """The cosines of one seed."""
    found: dict[str, Any] = {"cosine": {"shared": {}, "other": {}}, "trait_in_other": {}}
    inputs = noise_images(protocol, data, seed)
    start, elsewhere = (initial(protocol.make_network(data, "relu"), seed + i) for i in (0, 1))
    for activation in protocol.activations:
        net = protocol.make_network(data, activation)
        imitate = losses.on_logits(losses.imitation(protocol.loss), net.auxiliary)
        d_teacher = theorem.teacher_update(teacher_loss(net, data), start)
        trained = optax.tree.add_scale(start, protocol.epsilon, d_teacher)
        shared = theorem.student_update(net.apply, imitate, start, d_teacher, protocol.epsilon, inputs)
        other, untrained = (
            theorem.imitation_update(net.apply, imitate, elsewhere, labels_from, inputs)
            for labels_from in (trained, start)
        )
        found["cosine"]["shared"][activation] = geometry.cosine(shared, d_teacher)
        found["cosine"]["other"][activation] = geometry.cosine(other, d_teacher)
        found["trait_in_other"][activation] = 1 - geometry.cosine(other, untrained)
    return found


EXPERIMENT = Experiment(
    name="theorem_cosines",
    summary="Over seeds, student and teacher are aligned if they share their start, and not otherwise",
    presets=PRESETS,
    run_seed=run_seed,
    axes=lambda settings: {"start": ("shared", "other"), "activation": settings.protocol.activations},
    variables={
        "cosine": Variable(("start", "activation"), condition="{start}/{activation}"),
        "positive": Variable(("start", "activation"), condition="{start}_positive/{activation}"),
        "trait_in_other": Variable(("activation",), condition="trait_in_other/{activation}"),
    },
    conclude=lambda settings, table: {"positive": table["cosine"] > 0},  # noqa: ARG005
    dtype="float64",
    together=together,
)
