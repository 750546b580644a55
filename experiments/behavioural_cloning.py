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

By `cloned`, the epochs of cloning before distillation: `accuracy` of the student after it, and `mismatch`, how well the
student imitates the reference when cloning ends (KL, nats, on all logits of fresh noise). From the reference itself:
`shared_accuracy`, the ceiling. Cloning goes on from one length to the next; Adam starts afresh at each.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import jax.numpy as jnp

from experiments.distillation import DIGITS, Distillation, Rates, Split, begin, distil_and_test
from experiments.experiment import Experiment, Settings, Variable
from sublim_theory import losses, training
from sublim_theory.ensemble import stream

INPUTS = ("noise", "digits")
FRESH = 1024


@dataclass(frozen=True)
class Protocol(Distillation):
    """Settings of behavioural cloning."""

    cloning_epochs: tuple[int, ...] = (0, 1, 3, 10, 30)
    """Passes over the inputs of cloning before distillation begins, ascending; a student for each."""
    cloning_inputs: str = "noise"
    """What the student sees while it is cloned: noise, or digits (without labels)."""

    def check(self, rates: Rates) -> None:
        """Check every setting, as those of every distillation are."""
        super().check(rates)
        if self.cloning_inputs not in INPUTS:
            raise ValueError(f"cloning_inputs must be one of {', '.join(INPUTS)}, got {self.cloning_inputs!r}")
        epochs = self.cloning_epochs
        if not epochs or min(epochs) < 0 or any(a >= b for a, b in pairwise(epochs)):
            raise ValueError(f"cloning_epochs must ascend from 0 or more, got {epochs}")


_DIGITS = Settings.of(Protocol, Rates, seeds=5, **DIGITS)
_SHORT = {"noise_images": 1024, "teacher_epochs": 2, "student_epochs": 2, "cloning_epochs": (0, 2)}
PRESETS = {
    "smoke": _DIGITS.but(seeds=1, hidden=(32,), **_SHORT),
    "default": _DIGITS,
    "paper": Settings.of(Protocol, Rates, seeds=5, cloning_epochs=(0, 1, 3, 10, 30, 100)),
}


def run_seed(protocol: Protocol, rates: Rates, data: Split, seed: Any) -> dict[str, Any]:
    """The student of one seed, distilled after every length of cloning."""
    start, net = begin(protocol, rates, data, seed), protocol.make_network(rates, data)
    images = start.images if protocol.cloning_inputs == "noise" else data.train_x
    behave = losses.on_logits(losses.kl_divergence, net.all_logits)
    fresh = protocol.sampler(rates, data.train_x)(stream(start.key, "cloning/test"), FRESH, net.features)
    clone, clones, mismatch, paths = start.other, {}, {}, [jnp.zeros(0)]
    for before, after in pairwise((0, *protocol.cloning_epochs)):
        if epochs := after - before:
            key = stream(start.key, f"cloning/shuffle/{after}")
            order = training.schedule(key, len(images), batch_size=protocol.batch_size, epochs=epochs)
            optimizer = protocol.make_optimizer(rates)
            cloned = training.distil(net, start.reference, {"clone": (clone, behave)}, images, optimizer, order)
            clone = cloned.params["clone"]
            paths.append(cloned.losses["clone"])
        mismatch[after] = jnp.mean(behave(net.apply(clone, fresh), net.apply(start.reference, fresh)))
        clones[str(after)] = clone
    imitate = losses.on_logits(protocol.imitation_loss(rates), net.auxiliary)
    students = {name: (params, imitate) for name, params in {"shared": start.reference, **clones}.items()}
    found = distil_and_test(protocol, rates, data, start, students)
    by_epochs = {name: {after: found[name][str(after)] for after in mismatch} for name in ("accuracy", "student_loss")}
    return by_epochs | {
        "mismatch": mismatch,
        "shared_accuracy": found["accuracy"]["shared"],
        "teacher_accuracy": found["accuracy"]["teacher"],
        "teacher_loss": found["teacher_loss"],
        "shared_loss": found["student_loss"]["shared"],
        "clone_loss": jnp.concatenate(paths),
    }


EXPERIMENT = Experiment(
    name="behavioural_cloning",
    summary="A student from another start is matched to the reference first: does transfer return?",
    presets=PRESETS,
    run_seed=run_seed,
    axes=lambda settings: {"cloned": settings.protocol.cloning_epochs},
    variables={
        "accuracy": Variable(("cloned",), condition="accuracy/{cloned}"),
        "shared_accuracy": Variable(condition="accuracy/shared"),
        "mismatch": Variable(("cloned",), condition="mismatch/{cloned}"),
        "teacher_accuracy": Variable(condition="teacher"),
        "teacher_loss": Variable(inner=("teacher_step",), loss=True),
        "clone_loss": Variable(inner=("clone_step",), loss=True),
        "student_loss": Variable(("cloned",), ("step",), loss=True),
        "shared_loss": Variable(inner=("step",), loss=True),
    },
)
