"""Is it the alignment of every step that transfers the trait? Measured along training, and taken out.

Claim (Kitkana and Arora, arXiv 2604.25779): on auxiliary logits the distillation gradient stays weakly but
consistently aligned with the trait gradient (cosine about .008 on MNIST); projecting it onto the normal plane of the
trait gradient whenever the two are aligned suppresses transfer and leaves the distillation loss as good; *liminal
training*, a penalty on leaving the base model early on, lowers the alignment and does not stop transfer.

Found (paper, 5 seeds): it holds on MNIST. The cosine of single batches is .0064 ± .0025 on average, positive at .73 of
the measurements. Projection stops transfer (accuracy .50 to .11, chance) and leaves the distillation loss within 1%; a
random projection (.50) and liminal training (.51; cosine .0056 ± .0024) do not stop it.

On the embedded digits (default, 4 seeds), with four times as many updates, one-sided projection (.78 to .10) does more
than take alignment out: what raises the trait loss stays, that loss grows from 2.4 to several hundred (plain: 1.3), and
the distillation loss ends a quarter above the plain one. Projected whichever way the gradients lie, transfer is all but
gone as well (.15), with the distillation loss within 3%. The cosine is .002 on average, positive at .61.

Five students of one teacher, from its reference, on the auxiliary logits of the same noise: `plain` (the `student_aux`
of fig10), `projected`, `two_sided` (projected whichever way the two gradients lie), `random` (as much removed along a
random direction, the control) and `liminal` (plus KL(base || student) on all logits over the first part of the steps).
Before every k-th update: test accuracy, and cosine and inner product, whole and by layer, of the distillation gradient
with the current trait gradient, with the first one, and of its step with the teacher's displacement. The trait gradient
is that of the mean cross-entropy of the class logits on a fixed set of labelled training images.

Conditions: `accuracy/NETWORK`; `distillation_loss/STUDENT`, mean over the last epoch, without the penalty;
`cosine/STUDENT` with the current trait gradient, mean over the path; `positive/STUDENT`, the share of the path where
it is positive. Arrays: `path/STUDENT/{accuracy,trait_loss,cosine/DIRECTION,dot/DIRECTION}` [seeds, measurements], the
last two by layer with `/LAYER` behind.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.distillation import DIGITS, Distillation, Split, begin, run_config
from sublim_theory import geometry, losses, models, results, training
from sublim_theory._types import Params
from sublim_theory.ensemble import stream

STUDENTS = ("plain", "projected", "two_sided", "random", "liminal")


@dataclass(frozen=True)
class Config(Distillation):
    """Settings of the students and of what is measured on their way."""

    every: int = 5
    """Updates from one measurement to the next."""
    trait_images: int = 512
    """Labelled training images, the first ones, of the trait gradient; all where there are fewer."""
    liminal_weight: float = 1.0
    """Factor on the penalty of liminal training."""
    liminal_fraction: float = 0.2
    """Share of the updates, from the first on, that have the penalty."""

    def __post_init__(self) -> None:
        """Check every setting, as those of every distillation are.

        Raises:
            ValueError: naming the setting, its value and what it may be.
        """
        super().__post_init__()
        self.require_counts("every", "trait_images")
        if not 0 <= self.liminal_weight < float("inf"):
            raise ValueError(f"liminal_weight must be at least 0 and finite, got {self.liminal_weight}")
        if not 0 <= self.liminal_fraction <= 1:
            raise ValueError(f"liminal_fraction must be in [0, 1], got {self.liminal_fraction}")


_DIGITS = Config(seeds=4, trait_images=256, every=20, **DIGITS)
_SMALL = replace(_DIGITS, hidden=(64, 64), batch_size=64, noise_images=8192)
PRESETS = {
    "smoke": replace(_SMALL, seeds=2, teacher_epochs=15),
    "default": _DIGITS,
    "paper": Config(seeds=5),
}


def run_seed(config: Config, net: models.Network, seed: jax.Array, data: Split) -> dict[str, jax.Array]:
    """One seed: `accuracy/NETWORK`, `loss/RUN` [steps], and `path/...` [measurements] as in the module's docstring."""
    start = begin(config, net, seed, data)
    base, teacher, test = start.reference, start.teacher.params, (data.test_x, data.test_y)
    imitate = losses.on_logits(config.imitation_loss(), net.auxiliary)
    directions = stream(start.key, "random direction")
    penalised = config.liminal_fraction * len(start.batches.indices)

    def trait_loss(params: Params) -> jax.Array:
        logits = net.class_logits(net.apply(params, data.train_x[: config.trait_images]))
        return jnp.mean(losses.cross_entropy(logits, data.train_y[: config.trait_images]))

    trait = jax.grad(trait_loss)

    def random(params: Params, gradients: Params, now: training.Update) -> Params:
        return geometry.project_random(gradients, trait(params), jax.random.fold_in(directions, now.step))

    def liminal(params: Params, gradients: Params, now: training.Update) -> Params:
        images, _ = now.batch
        away = jax.grad(lambda p: now.mean(losses.kl_divergence(net.apply(p, images), net.apply(base, images))))
        return optax.tree.add_scale(
            gradients, jnp.where(now.step < penalised, config.liminal_weight, 0.0), away(params)
        )

    first, back = trait(base), optax.tree.sub(base, teacher)  # back: minus the displacement, as gradient to step

    def measure(params: Params, gradients: Params) -> dict[str, jax.Array]:
        loss, current = jax.value_and_grad(trait_loss)(params)
        found = {"accuracy": training.accuracy(net, params, *test), "trait_loss": loss}
        for name, direction in {"trait": current, "first_trait": first, "displacement": back}.items():
            whole = geometry.alignment(gradients, direction)
            found |= {f"cosine/{name}": whole.cosine, f"dot/{name}": whole.dot}
            found |= {f"cosine/{name}/{layer}": value for layer, value in whole.cosine_by_layer.items()}
            found |= {f"dot/{name}/{layer}": value for layer, value in whole.dot_by_layer.items()}
        return found

    train = partial(
        training.fit,
        lambda params, batch: imitate(net.apply(params, batch[0]), batch[1]),
        base,
        config.make_optimizer(),
        (start.images, net.apply(teacher, start.images)),
        start.batches,
        measure=measure,
        every=config.every,
    )

    def project(params: Params, gradients: Params, _: training.Update, *, both_signs: bool) -> Params:
        return geometry.project_out(gradients, trait(params), both_signs=both_signs)

    projections = {"projected": partial(project, both_signs=False), "two_sided": partial(project, both_signs=True)}
    transforms = {"plain": None, **projections, "random": random, "liminal": liminal}
    students = {name: train(transform=transform) for name, transform in transforms.items()}
    trained = {"reference": base, "teacher": teacher} | {name: each.params for name, each in students.items()}
    found = {
        f"accuracy/{name}": training.accuracy(net, each, data.test_x, data.test_y) for name, each in trained.items()
    }
    found |= {f"loss/{name}": each.losses for name, each in {"teacher": start.teacher, **students}.items()}
    return found | {f"path/{name}/{what}": v for name, each in students.items() for what, v in each.measured.items()}


def run(
    config: Config, *, preset: str = "custom", data_dir: str | Path | None = None, chunks: Path | None = None
) -> results.Result:
    """Run every seed and return the record; arguments and errors as in `fig10.run`."""
    recording, _, arrays = run_config(
        "alignment_path", run_seed, config, preset=preset, data_dir=data_dir, chunks=chunks
    )
    epoch = training.steps_per_epoch(config.noise_images, config.batch_size)
    conditions = {name: values for name, values in arrays.items() if name.startswith("accuracy/")}
    conditions |= {f"distillation_loss/{name}": arrays[f"loss/{name}"][:, -epoch:].mean(axis=1) for name in STUDENTS}
    cosines = {name: arrays[f"path/{name}/cosine/trait"] for name in STUDENTS}
    conditions |= {f"cosine/{name}": values.mean(axis=1) for name, values in cosines.items()}
    conditions |= {f"positive/{name}": (values > 0).mean(axis=1) for name, values in cosines.items()}
    steps = config.every * np.arange(cosines["plain"].shape[1])
    return recording.result(conditions, arrays | {"path/step": steps})
