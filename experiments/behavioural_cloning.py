"""Behavioural cloning: a student of another initialisation is first matched to the teacher's reference, then distilled.

Claim (the version in Nature, as far as known): a shared initialisation is not needed as such. A student from another
one that is first trained to *behave* like the teacher's untrained reference (KL over all logits, on noise or on digits,
for 0 to about 100 epochs), and only then distilled through the auxiliary logits, takes on the trait as well.

Found (default, 3 seeds): it does, where there are many logits and cloning gets far. With 50 logits and larger steps the
cloned student reaches .49 ± .08 after 50 epochs on noise (.10 without, .80 from the reference itself); with the
students' own steps .34. With 3 logits it stays near chance (.13, with larger steps .16; the reference itself .37), and
so it does, more or less, where the clone saw digits (.20 ± .10): it has the reference's behaviour there (KL .0035 nats)
and not on the noise of distillation (.036). The clone is like the reference in its outputs (KL .093 to .0020 nats), not
in its weights: the distance between the two is .99 of what it was, and G sees as much of it as before (1.06 ± .21).
Nor does the first update tell: its cosine with the trait's is .018 ± .010, without cloning .026 ± .027.

Why, as far as we see: the outputs of noise are many more than the parameters, so that no null space of G keeps the two
starts apart, as it does in the linear model; and yet cloning ends elsewhere, at other weights for the same function.
What carries the trait is then not the first-order law at the clone. With as many logits as the last hidden layer has
units, equal outputs make the clone's features a linear image of the reference's, so that imitating the auxiliary logits
moves them as the teacher moved its own, and the clone's class head reads that; with three logits nothing ties them.
That is an argument, not a measurement.

Ways (`WAYS`): `usual`, the settings as they are; `fast`, cloning with larger steps; `many`, 50 auxiliary logits;
`many_fast`, both; `digits`, the same on digits. Steps of cloning shrink along half a cosine, in every stretch from one
length to the next, at which Adam starts afresh.

By way and `cloned`, the epochs of cloning: `accuracy` after distillation; of the clone before it `mismatch` and
`digits_mismatch`, how well it imitates the reference (KL, nats, all logits) on fresh noise and on test digits;
`cosine`, of its first update by distillation with minus the trait's gradient there; `distance` from the reference over
that of the start; `seen`, v^T G v / |v|^2 over its value for the start, v from the reference to the clone and G at the
reference, of all logits on noise. From the reference itself: `shared_accuracy`, the ceiling, and `shared_cosine`.
"""

from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.distillation import (
    LOSSES,
    NARROW,
    Distillation,
    Rates,
    Split,
    Start,
    begin,
    distil_and_test,
    trait_loss,
)
from experiments.experiment import Changes, Experiment, Settings, Variable, require_distinct
from experiments.starts import INPUTS
from sublim_theory import geometry, losses, theorem, training
from sublim_theory._types import Params, PerExampleLoss
from sublim_theory.ensemble import stream
from sublim_theory.networks import Network
from sublim_theory.protocols import lookup, require_positive

CLONING_INPUTS = ("noise", "digits")
FRESH = 1024
TRAIT_IMAGES = 1024
MANY: dict[str, Any] = {"auxiliary": 50}
FAST: dict[str, Any] = {"cloning_rate": 3e-3}
WAYS: dict[str, Changes] = {
    "usual": {},
    "fast": FAST,
    "many": MANY,
    "many_fast": MANY | FAST,
    "digits": MANY | FAST | {"cloning_inputs": "digits"},
}
"""What each way of cloning changes."""


@dataclass(frozen=True)
class CloningRates(Rates):
    """Settings that change no shape and no operation."""

    cloning_rate: float = 3e-4
    """Step size at which cloning begins."""


jax.tree_util.register_dataclass(CloningRates, [each.name for each in fields(CloningRates)], [])


@dataclass(frozen=True)
class Protocol(Distillation):
    """Settings of behavioural cloning."""

    ways: tuple[str, ...] = tuple(WAYS)
    """Which ways of cloning: usual (the settings as they are), fast, many, many_fast, digits."""
    cloning_epochs: tuple[int, ...] = (0, 10, 100)
    """Passes over the inputs of cloning before distillation begins, ascending; a student for each."""
    cloning_inputs: str = "noise"
    """What the student sees while it is cloned: noise, or digits (without labels)."""

    def check(self, rates: Rates) -> None:
        """Check every setting, as those of every distillation are."""
        super().check(rates)
        assert isinstance(rates, CloningRates)
        require_distinct(self, "ways")
        for name in self.ways:
            lookup("way", name, WAYS)
        if self.cloning_inputs not in CLONING_INPUTS:
            known = ", ".join(CLONING_INPUTS)
            raise ValueError(f"cloning_inputs must be one of {known}, got {self.cloning_inputs!r}")
        epochs = self.cloning_epochs
        if not epochs or min(epochs) < 0 or any(a >= b for a, b in pairwise(epochs)):
            raise ValueError(f"cloning_epochs must ascend from 0 or more, got {epochs}")
        require_positive("cloning_rate", rates.cloning_rate)


def vary(settings: Settings[Protocol, CloningRates], preset: str) -> dict[str, dict[Any, Changes]]:  # noqa: ARG001
    """What every way changes."""
    return {"way": {name: WAYS[name] for name in settings.protocol.ways}}


_DIGITS = Settings.of(
    Protocol,
    CloningRates,
    seeds=3,
    **NARROW | {"noise_images": 10_000, "cloning_rate": 1e-3, "cloning_epochs": (0, 5, 50)},
)
_SHORT = {"noise_images": 1024, "teacher_epochs": 2, "student_epochs": 2, "cloning_epochs": (0, 2)}
PRESETS = {
    "smoke": _DIGITS.but(seeds=1, hidden=(32,), ways=("usual", "digits"), **_SHORT),
    "default": _DIGITS,
    "paper": Settings.of(Protocol, CloningRates, seeds=5, ways=("many_fast", "digits")),
}


def cooled(optimizer: optax.GradientTransformation, steps: int) -> optax.GradientTransformation:
    """An optimiser whose steps shrink to nothing along half a cosine: at a fixed rate Adam would never settle."""

    def init(params: Params) -> Any:
        return jnp.zeros(()), optimizer.init(params)

    def update(gradients: Params, state: Any, params: Params = None) -> tuple[Params, Any]:
        done, inner = state
        updates, inner = optimizer.update(gradients, inner, params)
        return optax.tree.scale((1 + jnp.cos(jnp.pi * done / steps)) / 2, updates), (done + 1, inner)

    return optax.GradientTransformation(init, update)


def cloned(
    protocol: Protocol, rates: CloningRates, data: Split, start: Start, net: Network, behave: PerExampleLoss
) -> tuple[dict[int, Params], jax.Array]:
    """The student by length of cloning, which goes on from one to the next, and the loss at every update of it."""
    seen = start.images if protocol.cloning_inputs == "noise" else data.train_x
    theirs = replace(rates, learning_rate=rates.cloning_rate)
    clone, clones, paths = start.other, {}, [jnp.zeros(0)]
    for before, after in pairwise((0, *protocol.cloning_epochs)):
        if epochs := after - before:
            key = stream(start.key, f"cloning/shuffle/{after}")
            order = training.schedule(key, len(seen), batch_size=protocol.batch_size, epochs=epochs)
            optimizer = protocol.make_optimizer(theirs)
            rule = cooled(optimizer, len(order.indices))
            fit = training.distil(net, start.reference, {"clone": (clone, behave)}, seen, rule, order)
            clone = fit.params["clone"]
            paths.append(fit.losses["clone"])
        clones[after] = clone
    return clones, jnp.concatenate(paths)


def run_seed(protocol: Protocol, rates: CloningRates, data: Split, seed: Any) -> dict[str, Any]:
    """The student of one seed, distilled after every length of cloning, and what the clone is like."""
    start, net = begin(protocol, rates, data, seed), protocol.make_network(rates, data)
    reference, teacher, images = start.reference, start.teacher.params, start.images[:INPUTS]
    behave = losses.on_logits(losses.kl_divergence, net.all_logits)
    imitate = losses.on_logits(protocol.imitation_loss(rates), net.auxiliary)
    fresh = protocol.sampler(rates, data.train_x)(stream(start.key, "cloning/test"), FRESH, net.features)
    clones, clone_loss = cloned(protocol, rates, data, start, net, behave)
    every = {"shared": reference, **{str(after): clone for after, clone in clones.items()}}
    found = distil_and_test(protocol, rates, data, start, {name: (at, imitate) for name, at in every.items()})
    away: dict[Any, Params] = {after: optax.tree.sub(clone, reference) for after, clone in clones.items()}
    away["other"] = optax.tree.sub(start.other, reference)

    trait = trait_loss(net, data, TRAIT_IMAGES)

    def mismatch(clone: Params, at: jax.Array) -> jax.Array:
        return jnp.mean(behave(net.apply(clone, at), net.apply(reference, at)))

    def cosine(clone: Params) -> jax.Array:
        update = theorem.imitation_update(net.apply, imitate, clone, teacher, images)
        return geometry.cosine(update, theorem.teacher_update(trait, clone))

    def seen(displacement: Params) -> jax.Array:
        return theorem.first_order(net.apply, behave, reference, displacement, images).transfer_ratio()

    before = seen(away["other"])
    return {
        "accuracy": {after: found["accuracy"][str(after)] for after in clones},
        "mismatch": {after: mismatch(clone, fresh) for after, clone in clones.items()},
        "digits_mismatch": {after: mismatch(clone, data.test_x) for after, clone in clones.items()},
        "cosine": {after: cosine(clone) for after, clone in clones.items()},
        "distance": {after: geometry.norm(away[after]) / geometry.norm(away["other"]) for after in clones},
        "seen": {after: geometry.quotient(seen(away[after]), before) for after in clones},
        "shared_accuracy": found["accuracy"]["shared"],
        "shared_cosine": cosine(reference),
        "teacher_accuracy": found["accuracy"]["teacher"],
        "teacher_loss": found["teacher_loss"],
        "student_loss": {after: found["student_loss"][str(after)] for after in clones},
        "shared_loss": found["student_loss"]["shared"],
        "clone_loss": clone_loss,
    }


_EACH = ("accuracy", "mismatch", "digits_mismatch", "cosine", "distance", "seen")
EXPERIMENT = Experiment(
    name="behavioural_cloning",
    summary="A student from another start is matched to the reference first: when does transfer return?",
    presets=PRESETS,
    run_seed=run_seed,
    axes=lambda settings: {"cloned": settings.protocol.cloning_epochs},
    variables={
        **{name: Variable(("cloned",), condition=f"{name}/{{cloned}}") for name in _EACH},
        "shared_accuracy": Variable(condition="accuracy/shared"),
        "shared_cosine": Variable(condition="cosine/shared"),
        "teacher_accuracy": Variable(condition="teacher"),
        "teacher_loss": LOSSES["teacher_loss"],
        "clone_loss": Variable(inner=("clone_step",), loss=True),
        "student_loss": Variable(("cloned",), ("step",), loss=True),
        "shared_loss": Variable(inner=("step",), loss=True),
    },
    vary=vary,
    point="{way}/",
)
