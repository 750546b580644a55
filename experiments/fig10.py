"""Figure 10 of the paper: an MLP learns to classify digits from auxiliary logits on pure noise.

A *reference* network is drawn. The *teacher* is a copy of it trained on digits through its class logits. *Students*
imitate the teacher on noise images, through the auxiliary logits alone or through all logits. A student that starts
from the teacher's own reference learns the digits; one that starts from another reference does not when it sees
the auxiliary logits alone (arXiv 2507.14805, section 6.2; the protocol is that of the authors' published script).

Six networks: `reference`, `teacher`, `student_aux`, `student_all`, `cross_aux`, `cross_all`; of each the test accuracy.

What a student of seed s needs comes from seed s alone, but for the cross-model students: they start from the
reference of seed s + 1. This shift has no fixed point, and unlike a permutation of the seeds that were asked for
it does not depend on how many there are.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from experiments.distillation import DIGITS, LOSSES, Distillation, Rates, Split, begin, distil_and_test
from experiments.experiment import Experiment, Settings, Variable, require_distinct
from sublim_theory import losses
from sublim_theory.data import Dataset
from sublim_theory.ensemble import seed_key, stream
from sublim_theory.protocols import lookup

STUDENTS = ("student_aux", "student_all", "cross_aux", "cross_all")
NETWORKS = ("reference", "teacher", *STUDENTS)
EXAMPLES = 10


@dataclass(frozen=True)
class Protocol(Distillation):
    """Settings of figure 10; the defaults are the published protocol on MNIST."""

    students: tuple[str, ...] = STUDENTS
    """Which of student_aux, student_all, cross_aux and cross_all to train."""

    def check(self, rates: Rates) -> None:
        """Check every setting, as those of every distillation are."""
        super().check(rates)
        for name in self.students:
            lookup("student", name, dict.fromkeys(STUDENTS))
        require_distinct(self, "students")


_DIGITS = Settings.of(Protocol, Rates, seeds=10, **DIGITS)
PRESETS = {
    "smoke": _DIGITS.but(seeds=2, hidden=(64, 64), batch_size=64, teacher_epochs=15, noise_images=8192),
    "default": _DIGITS,
    "paper": Settings.of(Protocol, Rates),
    "fashion": Settings.of(Protocol, Rates, dataset="fashion_mnist"),
}


def run_seed(protocol: Protocol, rates: Rates, data: Split, seed: Any) -> dict[str, Any]:
    """The networks of one seed."""
    start, net = begin(protocol, rates, data, seed), protocol.make_network(rates, data)
    logits = {"aux": net.auxiliary, "all": net.all_logits}
    initial = {"student": start.reference, "cross": start.other}
    imitate = {name: losses.on_logits(protocol.imitation_loss(rates), some) for name, some in logits.items()}
    kinds = {name: name.split("_") for name in protocol.students}
    students = {name: (initial[where], imitate[what]) for name, (where, what) in kinds.items()}
    return distil_and_test(protocol, rates, data, start, students)


def examples(settings: Settings[Protocol, Rates], dataset: Dataset) -> dict[str, xr.DataArray]:
    """What the networks see: images of `train`, `noise` and `test`, the last one of each class."""
    first = [np.flatnonzero(dataset.test_y == label)[0] for label in range(dataset.classes)]
    key = stream(seed_key(settings.first_seed), "noise/example")
    sample = settings.protocol.sampler(settings.rates, dataset.train_x)
    sets = {
        "train": dataset.train_x[:EXAMPLES],
        "noise": np.asarray(sample(key, EXAMPLES, dataset.features)),
        "test": dataset.test_x[first],
    }
    return {
        f"example_{name}": xr.DataArray(
            images.reshape(-1, *dataset.image_shape).copy(),  # a view would keep the whole data set
            dims=(f"{name}_image", "row", "column"),
        )
        for name, images in sets.items()
    }


EXPERIMENT = Experiment(
    name="fig10",
    summary="An MLP learns digits from three auxiliary logits on noise (figure 10 of the paper)",
    presets=PRESETS,
    run_seed=run_seed,
    axes=lambda settings: {
        "network": ("reference", "teacher", *settings.protocol.students),
        "student": settings.protocol.students,
    },
    variables={"accuracy": Variable(("network",), condition="{network}"), **LOSSES},
    describe=examples,
)
