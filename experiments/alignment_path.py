"""Is it the alignment of every step that transfers the trait? Measured along training, and taken out.

Claim (Kitkana and Arora, arXiv 2604.25779): on auxiliary logits the distillation gradient stays weakly but consistently
aligned with the trait gradient (cosine about .008 on MNIST); projecting it onto the normal plane of the trait gradient
where the two are aligned suppresses transfer and leaves the distillation loss as good; *liminal training*, a penalty on
leaving the base model early on, lowers the alignment and does not stop transfer.

Found (paper, 5 seeds): it holds on MNIST. The cosine of a batch is .0064 ± .0025 on average, positive at .73 of the
measurements. Projection stops transfer (accuracy .50 to .11, chance) and leaves the distillation loss within 1%; a
random projection (.50) and liminal training (.51; cosine .0056 ± .0024) do not stop it. On the embedded digits
(default, 4 seeds; cosine .002, positive at .61), with four times as many updates, one-sided projection (.78 to .10)
takes out more than alignment: what raises the trait loss stays, it grows from 2.4 to several hundred (plain: 1.3), and
the distillation loss ends a quarter higher; projected whichever way the gradients lie, it ends within 3% (.15).

The students are those of `suppression`, `plain` the `student_aux` of fig10. By student: `distillation_loss`, mean over
the last epoch, without the penalty; `mean_cosine` with the current trait gradient and `positive_share`, where it is
positive. Before every k-th `update`: accuracy, `trait_loss`, and `cosine` and `dot`, whole (`all`) and by layer, of the
distillation gradient with the current trait gradient and the first, and of its step with the teacher's displacement.
"""

from dataclasses import dataclass
from typing import Any

import jax
import optax
import xarray as xr

from experiments.distillation import DIGITS, LOSSES, Rates, Split, begin
from experiments.experiment import Experiment, Settings, Variable, by_variable, require_counts
from experiments.suppression import STUDENTS, Suppression, transforms
from sublim_theory import geometry, losses, training
from sublim_theory._types import Params


@dataclass(frozen=True)
class Protocol(Suppression):
    """Settings of the students and of what is measured on their way."""

    every: int = 5
    """Updates from one measurement to the next."""

    def check(self, rates: Rates) -> None:
        """Check every setting, as those of every distillation are."""
        super().check(rates)
        require_counts(self, "every")

    def measured(self) -> range:
        """The updates before which there is a measurement."""
        return range(0, self.student_epochs * training.steps_per_epoch(self.noise_images, self.batch_size), self.every)


_DIGITS = Settings.of(Protocol, Rates, seeds=4, trait_images=256, every=20, **DIGITS)
PRESETS = {
    "smoke": _DIGITS.but(seeds=2, hidden=(64, 64), batch_size=64, noise_images=8192, teacher_epochs=15),
    "default": _DIGITS,
    "paper": Settings.of(Protocol, Rates, seeds=25),
}


def run_seed(protocol: Protocol, rates: Rates, data: Split, seed: Any) -> dict[str, Any]:
    """The students of one seed, and what is measured on their way."""
    start, net = begin(protocol, rates, data, seed), protocol.make_network(rates, data)
    base, teacher, test = start.reference, start.teacher.params, (data.test_x, data.test_y)
    imitate = losses.on_logits(protocol.imitation_loss(rates), net.auxiliary)
    trait = jax.grad(trait_loss := protocol.trait_loss(net, data))
    fixed = {"first_trait": trait(base), "displacement": optax.tree.sub(base, teacher)}  # a step is minus its gradient

    def measure(params: Params, gradients: Params) -> dict[str, Any]:
        found = {way: geometry.alignment(gradients, each) for way, each in {"trait": trait(params), **fixed}.items()}
        along = {"accuracy_path": training.accuracy(net, params, *test), "trait_loss": trait_loss(params)}
        return along | {
            "cosine": {way: {"all": each.cosine, **each.cosine_by_layer} for way, each in found.items()},
            "dot": {way: {"all": each.dot, **each.dot_by_layer} for way, each in found.items()},
        }

    def objective(params: Params, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
        return imitate(net.apply(params, batch[0]), batch[1])

    pairs, ways = (start.images, net.apply(teacher, start.images)), transforms(protocol, net, start, trait)
    task = objective, base, protocol.make_optimizer(rates), pairs, start.batches
    fits = {n: training.fit(*task, transform=way, measure=measure, every=protocol.every) for n, way in ways.items()}
    networks = {"reference": base, "teacher": teacher, **{name: fit.params for name, fit in fits.items()}}
    paths = {name: {"student_loss": fit.losses, **fit.measured} for name, fit in fits.items()}
    accuracy = {name: training.accuracy(net, params, *test) for name, params in networks.items()}
    found = by_variable(paths)
    return {"accuracy": accuracy, "teacher_loss": start.teacher.losses, **found}


def conclude(settings: Settings[Protocol, Rates], table: xr.Dataset) -> dict[str, xr.DataArray]:
    """What summarises a path."""
    cosine = table["cosine"].sel(direction="trait", layer="all", drop=True)
    last = table["student_loss"][..., -(table.sizes["step"] // settings.protocol.student_epochs) :]
    means = {"distillation_loss": last.mean("step"), "mean_cosine": cosine.mean("update")}
    return means | {"positive_share": (cosine > 0).mean("update")}


EXPERIMENT = Experiment(
    name="alignment_path",
    summary="Along training, the alignment with the trait transfers it: measured, and projected out",
    presets=PRESETS,
    run_seed=run_seed,
    axes=lambda s: {
        "network": ("reference", "teacher", *STUDENTS),
        "student": STUDENTS,
        "direction": ("trait", "first_trait", "displacement"),
        "layer": ("all", *s.protocol.layers()),
        "update": s.protocol.measured(),
    },
    variables={
        "accuracy": Variable(("network",), condition="accuracy/{network}"),
        "distillation_loss": Variable(("student",), condition="distillation_loss/{student}"),
        "mean_cosine": Variable(("student",), condition="cosine/{student}"),
        "positive_share": Variable(("student",), condition="positive/{student}"),
        **dict.fromkeys(("accuracy_path", "trait_loss"), Variable(("student",), ("update",))),
        **dict.fromkeys(("cosine", "dot"), Variable(("student", "direction", "layer"), ("update",))),
        **LOSSES,
    },
    conclude=conclude,
)
