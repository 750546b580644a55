"""Behavioural cloning: a student of another initialisation is first matched to the teacher's reference, then distilled.

The claim (the version in Nature, as far as known): a shared initialisation is not needed as such. A student from
another one that is first trained to *behave* like the teacher's untrained reference (KL over all logits, on noise or on
digits, for 0 to about 100 epochs), and only then distilled through the auxiliary logits, takes on the trait as well:
transfer returns with the length of the cloning.

Found (default, 5 seeds): it does not return here. Thirty epochs of cloning on noise bring the KL to the reference from
.073 to .005 nats, most of it in the first, and the student stays at chance (.13 to .12, against .75 from the reference
itself). Nor on MNIST (paper, 2 seeds): .09 to .12 after 0 to 100 epochs, against .60; the KL falls from .075 to .010
nats in ten epochs and rises a little after, the noise set being fixed. Whether digits as inputs of cloning
(`--cloning-inputs digits`) or m = 50 change that was not run.

Measured: the accuracy of the student after distillation, over the epochs of cloning before it; how well it imitates the
reference when cloning ends (KL, nats, on all logits of fresh noise); and the same from the reference itself, which is
the ceiling. Cloning goes on from one length to the next; Adam starts afresh at each.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments.distillation import Distillation, Split, begin, run_config
from sublim_theory import losses, models, results, training
from sublim_theory.ensemble import stream

INPUTS = ("noise", "digits")
FRESH = 1024


@dataclass(frozen=True)
class Config(Distillation):
    """Settings of behavioural cloning."""

    cloning_epochs: tuple[int, ...] = (0, 1, 3, 10, 30)
    """Passes over the inputs of cloning before distillation begins, ascending; a student for each."""
    cloning_inputs: str = "noise"
    """What the student sees while it is cloned: noise, or digits (without labels)."""

    def __post_init__(self) -> None:
        """Check every setting now, before any data is read or anything is compiled.

        Raises:
            ValueError: naming the setting, its value and what it may be.
        """
        super().__post_init__()
        if self.cloning_inputs not in INPUTS:
            raise ValueError(f"cloning_inputs must be one of {', '.join(INPUTS)}, got {self.cloning_inputs!r}")
        epochs = self.cloning_epochs
        if not epochs or min(epochs) < 0 or any(a >= b for a, b in pairwise(epochs)):
            raise ValueError(f"cloning_epochs must ascend from 0 or more, got {epochs}")


_DIGITS: dict[str, Any] = {"dataset": "digits", "learning_rate": 1e-3}
PRESETS = {
    "smoke": Config(
        seeds=1,
        hidden=(32,),
        noise_images=1024,
        batch_size=128,
        teacher_epochs=2,
        student_epochs=2,
        cloning_epochs=(0, 2),
        **_DIGITS,
    ),
    "default": Config(seeds=5, batch_size=128, teacher_epochs=20, noise_images=20_000, student_epochs=8, **_DIGITS),
    "paper": replace(Config(), seeds=5, cloning_epochs=(0, 1, 3, 10, 30, 100)),
}


def run_seed(config: Config, net: models.Network, seed: jax.Array, data: Split) -> dict[str, jax.Array]:
    """`accuracy/EPOCHS` and `mismatch/EPOCHS` by epochs of cloning, `accuracy/shared`, and every step's losses."""
    start = begin(config, net, seed, data)
    images = start.images if config.cloning_inputs == "noise" else data.train_x
    imitate = losses.on_logits(losses.kl_divergence, net.all_logits)
    fresh = config.sampler(data.train_x)(stream(start.key, "cloning/test"), FRESH, net.features)
    found: dict[str, jax.Array] = {"teacher": training.accuracy(net, start.teacher.params, data.test_x, data.test_y)}
    clones, clone = {"shared": start.reference}, start.other
    for before, after in pairwise((0, *config.cloning_epochs)):
        if after > before:
            order = training.schedule(
                stream(start.key, f"cloning/shuffle/{after}"),
                len(images),
                batch_size=config.batch_size,
                epochs=after - before,
            )
            cloned = training.distil(
                net, start.reference, {"clone": (clone, imitate)}, images, config.make_optimizer(), order
            )
            clone = cloned.params["clone"]
            found[f"loss/clone_{after}"] = cloned.losses["clone"]
        found[f"mismatch/{after}"] = jnp.mean(imitate(net.apply(clone, fresh), net.apply(start.reference, fresh)))
        clones[str(after)] = clone
    auxiliary = losses.on_logits(config.imitation_loss(), net.auxiliary)
    students = training.distil(
        net,
        start.teacher.params,
        {name: (params, auxiliary) for name, params in clones.items()},
        start.images,
        config.make_optimizer(),
        start.batches,
    )
    for name, params in students.params.items():
        found[f"accuracy/{name}"] = training.accuracy(net, params, data.test_x, data.test_y)
    return found | {"loss/teacher": start.teacher.losses, **{f"loss/{k}": v for k, v in students.losses.items()}}


def run(
    config: Config, *, preset: str = "custom", data_dir: str | Path | None = None, chunks: Path | None = None
) -> results.Result:
    """Run every seed and return the record; arguments and errors as in `fig10.run`."""
    recording, _, arrays = run_config(
        "behavioural_cloning", run_seed, config, preset=preset, data_dir=data_dir, chunks=chunks
    )
    return recording.result({name: values for name, values in arrays.items() if not name.startswith("loss/")}, arrays)
