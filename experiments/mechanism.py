"""Why does an untrained class head classify? Where the student's features went, and whose head can read them.

Claim (the explanation of figure 10 of arXiv 2507.14805, tested piece by piece): no gradient ever reaches the class
head of a student on auxiliary logits, so it classifies because the hidden layers moved the way the teacher's did,
and the teacher's moved so that the *initial* class head reads them. Then (1) digits can be read linearly out of every
network's features, the untrained one's included: what is learned is not that they are there but where the head looks;
(2) the student's hidden layers come to resemble the teacher's, in representation (linear CKA) and in displacement;
(3) the untrained head on the teacher's body classifies, and the teacher's head on the student's body does too; a
cross-model student has none of this. Chauhan and Shah (arXiv 2607.04432) find over initialisations a correlation of
.98 between transfer and the CKA of the last hidden layers.

Found (default, 10 seeds): (1) and (3) hold, with probes at .967 or more for all four, the untrained head at .963 on the
teacher's body, the teacher's head at .91 on the student's and .12 on the cross-model student's. (2) holds for
displacements (cosines .61 and .31; .02 and -.02 for the cross-model student, which moved further). CKA says less: .94
at the last hidden layer for the student, but .78 for the untrained reference and .81 for the cross-model student.

On MNIST (paper, 5 seeds) all of it holds, and more sharply: the untrained head reads the teacher's body at .93, the
teacher's head the student's body at .62 and the cross-model student's at .12; displacement cosines .53 and .36 (.01 and
-.03), CKA .90 against .63 for the untrained reference and .64 for the cross-model student; probes .87 to .94.

By `network`, those of fig10: `accuracy` with its own class head; `probe`, of a ridge classifier on its last hidden
layer; `teacher_head`, of its body with the teacher's class head; `own_head`, of the teacher's body with its class head;
and by hidden `layer` `cka` with the teacher's on test images. By `student` and layer, `displacement_cosine` and
`displacement_size` against the teacher's; not in the heads, where one of the two is exactly zero.
"""

from dataclasses import dataclass
from typing import Any

import jax
import optax

from experiments.distillation import DIGITS, LOSSES, Distillation, Rates, Split, begin
from experiments.experiment import Experiment, Settings, Variable
from sublim_theory import losses, training
from sublim_theory._types import Params
from sublim_theory.representations import displacements, linear_cka, probe_accuracy, with_head

NETWORKS = ("reference", "teacher", "student_aux", "cross_aux")


@dataclass(frozen=True)
class Protocol(Distillation):
    """Settings of the four networks and of the probe."""

    ridge: float = 1e-3
    """Strength of the probe's penalty, as a share of the mean variance of a unit."""

    def check(self, rates: Rates) -> None:
        """Check every setting, as those of every distillation are."""
        super().check(rates)
        if not 0 < self.ridge < float("inf"):
            raise ValueError(f"ridge must be positive and finite, got {self.ridge}")
        if not self.hidden:
            raise ValueError("hidden must name at least one layer: there is nothing to compare in a linear model")


_DIGITS = Settings.of(Protocol, Rates, seeds=10, **DIGITS)
PRESETS = {
    "smoke": _DIGITS.but(seeds=2, batch_size=64, teacher_epochs=15, noise_images=8192),
    "default": _DIGITS,
    "paper": Settings.of(Protocol, Rates, seeds=5),
}


def run_seed(protocol: Protocol, rates: Rates, data: Split, seed: Any) -> dict[str, Any]:
    """The four networks of one seed, compared."""
    start, net = begin(protocol, rates, data, seed), protocol.make_network(rates, data)
    reference, teacher = start.reference, start.teacher.params
    imitate = losses.on_logits(protocol.imitation_loss(rates), net.auxiliary)
    starts = {"student_aux": reference, "cross_aux": start.other}
    students = {name: (initial, imitate) for name, initial in starts.items()}
    fit = training.distil(net, teacher, students, start.images, protocol.make_optimizer(rates), start.batches)
    networks, hidden = {"reference": reference, "teacher": teacher, **fit.params}, net.layers("body")
    seen = {name: dict(zip(hidden, net.hidden(params, data.test_x), strict=True)) for name, params in networks.items()}
    way, head = optax.tree.sub(teacher, reference), net.class_head
    moved = {name: displacements(optax.tree.sub(fit.params[name], starts[name]), way) for name in starts}

    def accuracy(params: Params) -> jax.Array:
        return training.accuracy(net, params, data.test_x, data.test_y)

    def probe(name: str) -> jax.Array:
        known = net.hidden(networks[name], data.train_x)[-1], data.train_y
        return probe_accuracy(*known, seen[name][hidden[-1]], data.test_y, data.classes, ridge=protocol.ridge)

    return {
        "accuracy": {name: accuracy(params) for name, params in networks.items()},
        "probe": {name: probe(name) for name in networks},
        "teacher_head": {name: accuracy(with_head(params, teacher, head)) for name, params in networks.items()},
        "own_head": {name: accuracy(with_head(teacher, params, head)) for name, params in networks.items()},
        "cka": {name: {k: linear_cka(own[k], seen["teacher"][k]) for k in hidden} for name, own in seen.items()},
        "displacement_cosine": {name: {layer: each[layer].cosine for layer in hidden} for name, each in moved.items()},
        "displacement_size": {name: {layer: each[layer].size for layer in hidden} for name, each in moved.items()},
        "teacher_loss": start.teacher.losses,
        "student_loss": fit.losses,
    }


EXPERIMENT = Experiment(
    name="mechanism",
    summary="Why an untrained class head classifies: probes, CKA, displacements, exchanged heads",
    presets=PRESETS,
    run_seed=run_seed,
    axes=lambda settings: {
        "network": NETWORKS,
        "student": NETWORKS[2:],
        "layer": settings.protocol.layers("body"),
    },
    variables={
        "accuracy": Variable(("network",), condition="accuracy/{network}"),
        "probe": Variable(("network",), condition="probe/{network}"),
        "teacher_head": Variable(("network",), condition="teacher_head/{network}"),
        "own_head": Variable(("network",), condition="own_head/{network}"),
        "cka": Variable(("network", "layer"), condition="cka/{network}/{layer}"),
        "displacement_cosine": Variable(("student", "layer"), condition="displacement_cosine/{student}/{layer}"),
        "displacement_size": Variable(("student", "layer"), condition="displacement_size/{student}/{layer}"),
        **LOSSES,
    },
)
