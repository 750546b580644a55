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

Four networks: `reference`, `teacher`, `student_aux`, `cross_aux` (as in fig10). Conditions: `accuracy/NETWORK` with its
own class head; `probe/NETWORK`, a ridge classifier on its last hidden layer; `cka/NETWORK/LAYER` with the teacher's
layer on test images; `displacement_cosine/STUDENT/LAYER` and `displacement_size/STUDENT/LAYER` against the teacher's,
hidden layers only (in the heads one of the two is exactly zero); `teacher_head/NETWORK`, its body with the teacher's
class head; `own_head/NETWORK`, the teacher's body with its class head.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import jax
import optax

from experiments.distillation import DIGITS, Distillation, Split, begin, run_config
from sublim_theory import losses, models, results, training
from sublim_theory.representations import displacements, linear_cka, probe_accuracy, with_head

NETWORKS = ("reference", "teacher", "student_aux", "cross_aux")


@dataclass(frozen=True)
class Config(Distillation):
    """Settings of the four networks and of the probe."""

    ridge: float = 1e-3
    """Strength of the probe's penalty, as a share of the mean variance of a unit."""

    def __post_init__(self) -> None:
        """Check every setting, as those of every distillation are.

        Raises:
            ValueError: naming the setting, its value and what it may be.
        """
        super().__post_init__()
        if not 0 < self.ridge < float("inf"):
            raise ValueError(f"ridge must be positive and finite, got {self.ridge}")
        if not self.hidden:
            raise ValueError("hidden must name at least one layer: there is nothing to compare in a linear model")


_DIGITS = Config(seeds=10, **DIGITS)
PRESETS = {
    "smoke": replace(_DIGITS, seeds=2, batch_size=64, teacher_epochs=15, noise_images=8192),
    "default": _DIGITS,
    "paper": Config(seeds=5),
}


def run_seed(config: Config, net: models.Network, seed: jax.Array, data: Split) -> dict[str, jax.Array]:
    """One seed: the conditions of the module's docstring, scalars, and `loss/RUN` [steps]."""
    start = begin(config, net, seed, data)
    starts, teacher = {"student_aux": start.reference, "cross_aux": start.other}, start.teacher.params
    imitate = losses.on_logits(config.imitation_loss(), net.auxiliary)
    students = training.distil(
        net,
        teacher,
        {name: (initial, imitate) for name, initial in starts.items()},
        start.images,
        config.make_optimizer(),
        start.batches,
    )
    networks = {"reference": start.reference, "teacher": teacher, **students.params}
    layers = {name: net.hidden(params, data.test_x) for name, params in networks.items()}
    classes = net.classes.stop
    found = {}
    for name, params in networks.items():
        found[f"accuracy/{name}"] = training.accuracy(net, params, data.test_x, data.test_y)
        train_features = net.hidden(params, data.train_x)[-1]
        found[f"probe/{name}"] = probe_accuracy(
            train_features, data.train_y, layers[name][-1], data.test_y, classes, ridge=config.ridge
        )
        found[f"teacher_head/{name}"] = training.accuracy(net, with_head(params, teacher), data.test_x, data.test_y)
        found[f"own_head/{name}"] = training.accuracy(net, with_head(teacher, params), data.test_x, data.test_y)
        for i, (own, teachers) in enumerate(zip(layers[name], layers["teacher"], strict=True)):
            found[f"cka/{name}/hidden_{i}"] = linear_cka(own, teachers)
    moved = optax.tree.sub(teacher, start.reference)
    for name, initial in starts.items():
        found[f"loss/{name}"] = students.losses[name]
        for layer, values in displacements(optax.tree.sub(students.params[name], initial), moved).items():
            if layer.startswith("hidden"):
                found[f"displacement_cosine/{name}/{layer}"] = values.cosine
                found[f"displacement_size/{name}/{layer}"] = values.size
    return found | {"loss/teacher": start.teacher.losses}


def run(
    config: Config, *, preset: str = "custom", data_dir: str | Path | None = None, chunks: Path | None = None
) -> results.Result:
    """Run every seed and return the record; arguments and errors as in `fig10.run`."""
    recording, _, arrays = run_config("mechanism", run_seed, config, preset=preset, data_dir=data_dir, chunks=chunks)
    return recording.result({name: values for name, values in arrays.items() if values.ndim == 1}, arrays)
