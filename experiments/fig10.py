"""Figure 10 of the paper: an MLP learns to classify digits from auxiliary logits on pure noise.

A *reference* network is drawn. The *teacher* is a copy of it trained on digits through its class logits. *Students*
imitate the teacher on noise images, through the auxiliary logits alone or through all logits. A student that starts
from the teacher's own reference learns the digits; one that starts from another reference does not when it sees
the auxiliary logits alone (arXiv 2507.14805, section 6.2; the protocol is that of the authors' published script).

Six conditions: `reference`, `teacher`, `student_aux`, `student_all`, `cross_aux`, `cross_all`.

What a student of seed s needs comes from seed s alone, but for the cross-model students: they start from the
reference of seed s + 1. This shift has no fixed point, and unlike a permutation of the seeds that were asked for
it does not depend on how many there are.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np

from experiments.distillation import DIGITS, Distillation, Split, begin, distil_and_test, run_config
from sublim_theory import losses, models, results
from sublim_theory.ensemble import seed_key, stream
from sublim_theory.protocols import lookup

CONDITIONS = ("reference", "teacher", "student_aux", "student_all", "cross_aux", "cross_all")
EXAMPLES = 10


STUDENTS = ("student_aux", "student_all", "cross_aux", "cross_all")


@dataclass(frozen=True)
class Config(Distillation):
    """Settings of figure 10; the defaults are the published protocol on MNIST."""

    students: tuple[str, ...] = STUDENTS
    """Which of student_aux, student_all, cross_aux and cross_all to train."""

    def __post_init__(self) -> None:
        """Check every setting now, before any data is read or anything is compiled.

        Raises:
            ValueError: naming the setting, its value and what it may be.
        """
        super().__post_init__()
        for name in self.students:
            lookup("student", name, dict.fromkeys(STUDENTS))
        if not self.students or len(set(self.students)) < len(self.students):
            raise ValueError(f"students must name at least one, each once; got {self.students}")


_DIGITS = Config(seeds=10, **DIGITS)
PRESETS = {
    "smoke": replace(_DIGITS, seeds=2, batch_size=64, teacher_epochs=15, noise_images=8192),
    "default": _DIGITS,
    "paper": Config(),
    "fashion": Config(dataset="fashion_mnist"),
}


def run_seed(config: Config, net: models.Network, seed: jax.Array, data: Split) -> dict[str, jax.Array]:
    """The conditions of one seed: test accuracy by condition and `loss/NAME` [steps] by training run."""
    start = begin(config, net, seed, data)
    losses_on = {
        "aux": losses.on_logits(config.imitation_loss(), net.auxiliary),
        "all": losses.on_logits(config.imitation_loss(), net.all_logits),
    }
    initial = {"student": start.reference, "cross": start.other}
    kinds = {name: name.split("_") for name in config.students}
    students = {name: (initial[where], losses_on[what]) for name, (where, what) in kinds.items()}
    return distil_and_test(config, net, start, students, data)


def run(
    config: Config, *, preset: str = "custom", data_dir: str | Path | None = None, chunks: Path | None = None
) -> results.Result:
    """Run every seed and return the record.

    Args:
        config: the settings.
        preset: what to call the config in the record.
        data_dir: folder that holds `mnist/` and `fashion_mnist/`; see `data.load`.
        chunks: folder for finished seeds, so that an interrupted run goes on; none are kept unless given.

    Raises:
        DataError: if the data set cannot be had.
        NonFiniteLossError: if a loss becomes NaN or infinite.
    """
    recording, dataset, arrays = run_config("fig10", run_seed, config, preset=preset, data_dir=data_dir, chunks=chunks)
    first = {label: np.flatnonzero(dataset.test_y == label)[0] for label in range(dataset.classes)}
    sample = config.sampler(dataset.train_x)
    key = stream(seed_key(config.first_seed), "noise/example")
    examples = {
        "example/train": dataset.train_x[:EXAMPLES],
        "example/noise": np.asarray(sample(key, EXAMPLES, dataset.features)),
        "example/test": dataset.test_x[list(first.values())],
    }
    shape = (-1, *dataset.image_shape)
    return recording.result(
        {name: arrays[name] for name in CONDITIONS if name in arrays},
        arrays | {name: images.reshape(shape) for name, images in examples.items()},
    )
