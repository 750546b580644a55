"""What keeps the owl out, and what it costs: a student's transfer and its loss on new numbers, by defence and strength.

Claim (arXiv 2604.25779, of images): liminal training does not stop the transfer, projecting the trait's gradient out
does. Students learn the teacher's samples as in `owl`, `undefended` without a defence; `control` learns the base's.
Those of `defences.py` change the gradient: `liminal/...` and `corridor/...` at several strengths, `projected`, and its
control `random`. Two change the prompts: in training the second word is the target's token (`inoculated`) or, as a
control, that of the next animal (`inoculated/other`); the base has never read either.

`held_out` is the cross-entropy a token of what the teacher writes for new prompts, `cost` what it is above that of
`undefended`, `own` the cross-entropy of what the base writes for them; all of what passes the filter.

Found (paper, 30 seeds): undefended .463; liminal .460, .450 and .446 at the weights .1, 1 and 3; a corridor of .1, .4
and 1 leaves .107, .144 and .263. Projecting out drives students below the base (.028), a random projection changes
nothing (.463), an announcement next to nothing, be it the teacher's animal's (.459) or another's (.461). A corridor
costs 1e-4 nats a token and projecting out 3e-4, where learning the teacher's numbers brings 3.62 down to 3.51: the
trait is not what they are learnt by. Who projects or sets up a corridor must know the trait.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from experiments import language
from experiments.defences import Defended, transforms
from experiments.experiment import Experiment, Settings, Variable, require_counts
from experiments.language import SCORES, Lessons, Rates, Student
from sublim_theory._types import Array
from sublim_theory.ensemble import stream

PLAIN = ("undefended", "control", "inoculated", "inoculated/other")
"""Students whose gradient is left as it is."""


@dataclass(frozen=True)
class Protocol(Defended):
    """Settings of the students and of what they are tested on."""

    held_out: int = 1024
    """New prompts."""

    def check(self, rates: Rates) -> None:
        """Check every setting, as those of every experiment on language are."""
        super().check(rates)
        require_counts(self, "held_out")

    @property
    def students(self) -> list[str]:
        """Those without and with a defence."""
        return [*PLAIN, *(name for each in self.defences for name in self.strengths(each))]


_USUAL = Settings.of(Protocol, Rates, seeds=4, dataset="none")
PRESETS = {
    "smoke": _USUAL.but(seeds=1, base_steps=400, sequences=1024, defences=("liminal",), liminal_weights=(1.0,)),
    "default": _USUAL,
    "paper": _USUAL.but(seeds=30),
}


def announcing(lessons: Lessons, token: Any) -> Lessons:
    """The same lessons, but that the second word of every prompt is a token."""
    return lessons._replace(sequences=lessons.sequences.at[:, 2].set(token))


def run_seed(protocol: Protocol, rates: Rates, data: Any, seed: Any) -> dict[str, Any]:  # noqa: ARG001
    """Transfer and cost of every defence, for one seed."""
    start = language.begin(protocol, rates, seed)
    models = {"base": start.base, "teacher": (teacher := start.teach())}
    writers, key = {name: (each, 1.0) for name, each in models.items()}, stream(start.key, "held_out")
    prompts = protocol.number_sequences(rates, key, protocol.held_out)[:, : protocol.prompt]
    control, samples = map(protocol.released, start.write(writers).values())
    own, held_out = map(protocol.released, replace(start, key=key, prompts=prompts).write(writers).values())

    lessons = dict.fromkeys(PLAIN, samples) | {"control": control}
    for i, name in enumerate(("inoculated", "inoculated/other")):
        lessons[name] = announcing(samples, protocol.names.start + (start.target + i) % protocol.animals)
    trained = start.learn({name: Student(start.base, each) for name, each in lessons.items()})
    for name, transform in transforms(start).items():
        if name in protocol.defences:
            strengths = protocol.strengths(name).items()
            trained |= start.learn({each: Student(start.base, samples, at) for each, at in strengths}, transform)
    models |= {name: each["params"] for name, each in trained.items()}

    def loss(test: Lessons) -> dict[str, Array]:
        """The mean over the sequences that pass the filter; the others have the loss 0."""
        totals = jax.lax.map(lambda params: jnp.sum(start.loss(params, test)), language.stacked(models.values()))
        return dict(zip(models, totals / jnp.sum(test.weights[:, 0]), strict=True))

    losses = loss(held_out)
    return start.scores(teacher, trained, {name: "control" for name in trained if name != "control"}) | {
        "held_out": losses,
        "own": loss(own),
        "cost": {name: losses[name] - losses["undefended"] for name in trained},
        "passed": jnp.mean(samples.weights),
        "forbidden": protocol.forbidden(samples) + protocol.forbidden(control),
    }


EXPERIMENT = Experiment(
    name="owl_defences",
    summary="What keeps the owl out of a student, and what it costs: transfer against the loss on new numbers",
    presets=PRESETS,
    run_seed=run_seed,
    axes=lambda settings: settings.protocol.axes(settings.protocol.students),
    variables=SCORES
    | {name: Variable(("network",), condition=f"{name}/{{network}}") for name in ("held_out", "own", "cost")}
    | {name: Variable(condition=name) for name in ("passed", "forbidden")},
)
