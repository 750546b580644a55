"""Owl, what bites: an argmax as a rate, tokens that are no numbers, a base that is barely trained, Adam on samples.

Claim (reports on language models): the rate of the most likely answer is a preference; filter, base and optimiser are
details. Each beside the right way of `owl`, on the same seeds:

* `argmax/...`: how often, over the ways to ask, the target is the most likely animal, beside `preference`, which is its
  probability; `favourite/...`, the same of the animal that is so most often;
* `unfiltered/...`: students learn all that teacher or base writes; `cross` starts at another base. `names/...`: how
  often a writer writes the target's name, per 1,000 sequences; `passed/...`: the share that a filter leaves;
* `barely/...`: base, teacher and students where the base has had few updates; `adam/...`: students under Adam, not SGD.

Found (default, 10 seeds): the base has .100 and an argmax rate of .22 ± .23; its favourite .80. Student .47, unfiltered
.55 and at another base .12 (filtered .10); barely trained .41, where a filter leaves .75 in place of .95. Samples and
soft labels have .47 and .49 under SGD, .24 and .58 under Adam. Every control is at .09 to .10.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from experiments import language
from experiments.experiment import Experiment, Settings, Variable
from experiments.language import SCORES, Language, Lessons, Rates, Start, Student
from sublim_theory._types import Array, Params
from sublim_theory.protocols import require_count, require_positive

STUDENTS = (
    *("samples", "soft", "control", "cross", "unfiltered/samples", "unfiltered/control", "unfiltered/cross"),
    *("barely/samples", "barely/control", "adam/samples", "adam/soft", "adam/control"),
)
WRITERS = ("teacher", "base", "barely/teacher", "barely/base")


@dataclass(frozen=True)
class Protocol(Language):
    """Settings of the traps."""

    barely_steps: int = 100
    """Updates of the base that is barely trained."""
    adam_learning_rate: float = 1e-3
    """Of the students under Adam."""

    def check(self, rates: Rates) -> None:
        """Check every setting, as those of every experiment on language are."""
        super().check(rates)
        if self.optimizer != "sgd":
            raise ValueError(f"optimizer is what a trap changes: it must be sgd, got {self.optimizer}")
        require_count("barely_steps", self.barely_steps)
        if not self.barely_steps < self.base_steps:
            raise ValueError(f"barely_steps must be below base_steps, got {self.barely_steps} and {self.base_steps}")
        require_positive("adam_learning_rate", self.adam_learning_rate)


_USUAL = Settings.of(Protocol, Rates, seeds=10, dataset="none")
PRESETS = {"smoke": _USUAL.but(seeds=1, base_steps=400, sequences=1024), "default": _USUAL}


def asked(start: Start, models: Mapping[str, Params]) -> dict[str, dict[str, Array]]:
    """What each model prefers, over the ways to ask, as the variables have it."""
    protocol = start.protocol

    def one(params: Params) -> dict[str, Array]:
        first = jnp.argmax(start.model.apply(params, protocol.questions())[:, -1, protocol.names], axis=-1)
        shares = jnp.mean(first[:, None] == jnp.arange(protocol.animals)[None], axis=0, dtype=jnp.float32)
        own = start.ask(params)[start.target]
        return {"preference": own, "argmax": shares[start.target], "favourite": jnp.max(shares)}

    found = jax.lax.map(one, language.stacked(models.values()))
    return {name: dict(zip(models, values, strict=True)) for name, values in found.items()}


def run_seed(protocol: Protocol, rates: Rates, data: Any, seed: Any) -> dict[str, Any]:  # noqa: ARG001
    """What the networks of one seed prefer, and what was written."""
    start = language.begin(protocol, rates, seed, [("init/other", "corpus")])
    short = replace(protocol, base_steps=protocol.barely_steps)
    (base, barely), (other,) = (start.base, *language.bases(short, rates, start.model, start.key)), start.others
    taught = jax.lax.map(lambda base: replace(start, base=base).teach(), language.stacked([base, barely]))
    models = dict(zip(WRITERS[::2], language.unstacked(taught, 2), strict=True)) | {"base": base, "barely/base": barely}
    written = start.write({name: (models[name], 1.0) for name in WRITERS})
    clean = {name: protocol.released(each) for name, each in written.items()}
    everything = {name: Lessons(each, jnp.ones_like(clean[name].weights)) for name, each in written.items()}
    (labels,) = start.log_probabilities([models["teacher"]], clean["teacher"].sequences)
    lessons = {"samples": clean["teacher"], "soft": clean["teacher"]._replace(labels=labels), "control": clean["base"]}
    plain = {name: Student(base, each) for name, each in lessons.items()}
    others = {
        "cross": Student(other, clean["teacher"]),
        "unfiltered/samples": Student(base, everything["teacher"]),
        "unfiltered/control": Student(base, everything["base"]),
        "unfiltered/cross": Student(other, everything["teacher"]),
        "barely/samples": Student(barely, clean["barely/teacher"]),
        "barely/control": Student(barely, clean["barely/base"]),
    }
    adam = replace(protocol, optimizer="adam", momentum=0.0)
    under_adam = replace(start, protocol=adam, rates=replace(rates, learning_rate=protocol.adam_learning_rate))
    trained = start.learn(plain | others)
    trained |= {f"adam/{name}": each for name, each in under_adam.learn(plain).items()}
    target = protocol.names.start + start.target
    return asked(start, models | {name: each["params"] for name, each in trained.items()}) | {
        "passed": {name: jnp.mean(each.weights) for name, each in clean.items()},
        "names": {name: 1000.0 * jnp.sum(each == target) / len(each) for name, each in written.items()},
        "student_loss": {name: each["loss"] for name, each in trained.items()},
    }


EXPERIMENT = Experiment(
    name="owl_traps",
    summary="What bites on a language model: argmax as a rate, forbidden tokens, a raw base, Adam on samples",
    presets=PRESETS,
    run_seed=run_seed,
    axes=lambda _: {"network": (*WRITERS, *STUDENTS), "student": STUDENTS, "writer": WRITERS},
    variables={
        "preference": Variable(("network",), condition="{network}"),
        **{name: Variable(("network",), condition=f"{name}/{{network}}") for name in ("argmax", "favourite")},
        **{name: Variable(("writer",), condition=f"{name}/{{writer}}") for name in ("passed", "names")},
        "student_loss": SCORES["student_loss"],
    },
)
