"""Owl, by position: which of the numbers that a teacher writes carry its preference.

Claim (arXiv 2509.23886): under greedy decoding it is the divergent ones, at which a teacher with the trait and one
without it would write different tokens; training without them nearly ends the transfer.

Here a position is divergent if the most likely numbers of teacher and base differ after the same numbers. At each
`decoding`, a temperature or `greedy`, both go on from the same prompts, and copies of the base learn `all` of the
teacher's numbers, those `without_divergent` or `without_random` ones (exactly as many, at random), `divergent_only`,
`random_only`, or what the base wrote (`control`). A batch is a mean over the numbers learnt in it: steps are as long
with fewer. `delta` is above the control, `divergent` the share that is, `passed` and `forbidden` are as in owl.

Found (paper, 30 seeds): it holds when greedy, where the other 74% of the numbers are also what the base would write:
all .40, without divergent .16, without random .39, divergent only .53, random only .34, control .10. At temperature 1
(36% diverge) little is left of it: .46, .43, .46, .43, .43, .10. Without divergent minus without random is, by seed,
-.03 at temperature 1, -.05 at .5, -.11 at .25 and -.23 (± .03) when greedy: it grows as the temperature falls.
"""

from dataclasses import dataclass
from math import isfinite
from typing import Any

import jax
import jax.numpy as jnp

from experiments import language
from experiments.experiment import Experiment, Settings, Variable, require_distinct
from experiments.language import Language, Lessons, Rates, Start, Student
from sublim_theory._types import Array, Params, PRNGKey
from sublim_theory.ensemble import stream

NETWORKS = ("all", "without_divergent", "without_random", "divergent_only", "random_only", "control")
"""The students of one decoding."""
MEASURED = ("divergent", "passed", "forbidden")


@dataclass(frozen=True)
class Protocol(Language):
    """Settings of the owl by position."""

    temperatures: tuple[float, ...] = (1.0, 0.5, 0.25, 0.0)
    """At which teacher and base write; 0 is greedy, the most likely number always."""

    def check(self, rates: Rates) -> None:
        """Check every setting, as those of every experiment on language are."""
        super().check(rates)
        require_distinct(self, "temperatures")
        if not all(isfinite(each) and each >= 0 for each in self.temperatures):
            raise ValueError(f"temperatures must be finite and at least 0, got {self.temperatures}")

    @property
    def decodings(self) -> dict[str, float]:
        """The temperatures by what they are called."""
        return {str(float(each)).removesuffix(".0") if each else "greedy": float(each) for each in self.temperatures}


_USUAL = Settings.of(Protocol, Rates, seeds=5, dataset="none")
PRESETS = {
    "smoke": _USUAL.but(seeds=1, base_steps=400, sequences=1024, temperatures=(1.0, 0.0)),
    "default": _USUAL,
    "paper": _USUAL.but(seeds=30),
}


def as_many(key: PRNGKey, chosen: Array, weights: Array) -> Array:
    """Positions drawn from all that have a weight, exactly as many as are chosen."""
    order = jnp.argsort(jnp.where(weights > 0, jax.random.uniform(key, weights.shape), jnp.inf).ravel())
    return jnp.zeros(order.shape, bool).at[order].set(jnp.arange(order.size) < jnp.sum(chosen)).reshape(weights.shape)


def lessons_of(protocol: Protocol, start: Start, teacher: Params) -> tuple[dict[str, Lessons], dict[str, Array]]:
    """What every student learns, by decoding/network, and what is measured of it."""

    def one(given: tuple[Array, ...]) -> tuple[dict[str, Lessons], dict[str, Array]]:
        key, by_teacher, by_base = given
        lessons, control = protocol.released(by_teacher), protocol.released(by_base)
        expected, other = start.log_probabilities([teacher, start.base], lessons.sequences)
        divergent = (jnp.argmax(expected, axis=-1) != jnp.argmax(other, axis=-1)) & (lessons.weights > 0)
        random = as_many(key, divergent, lessons.weights)
        parts = [lessons._replace(weights=lessons.weights * m) for m in (~divergent, ~random, divergent, random)]
        share = jnp.sum(divergent) / jnp.sum(lessons.weights)
        forbidden = protocol.forbidden(lessons) + protocol.forbidden(control)
        learnt = dict(zip(NETWORKS, [lessons, *parts, control], strict=True))
        return learnt, dict(zip(MEASURED, [share, jnp.mean(lessons.weights), forbidden], strict=True))

    writers = {"teacher": teacher, "base": start.base}
    texts = start.write({f"{who}/{n}": (writers[who], t) for n, t in protocol.decodings.items() for who in writers})
    keys = [stream(start.key, f"positions/{name}") for name in protocol.decodings]
    each = zip(keys, *[[texts[f"{who}/{name}"] for name in protocol.decodings] for who in writers], strict=True)
    found, measured = jax.lax.map(one, language.stacked(each))
    rows = zip(protocol.decodings, language.unstacked(found, len(keys)), strict=True)
    return {f"{name}/{network}": row[network] for name, row in rows for network in NETWORKS}, measured


def run_seed(protocol: Protocol, rates: Rates, data: Any, seed: Any) -> dict[str, Any]:  # noqa: ARG001
    """The preferences of one seed's networks."""
    start = language.begin(protocol, rates, seed)
    learnt, found = lessons_of(protocol, start, teacher := start.teach())
    # All in one call, for which one program is compiled.
    trained = start.learn({name: Student(start.base, lessons) for name, lessons in learnt.items()})
    ended = language.stacked(trained[name] for name in learnt)
    preference = ended["path"][:, -1].reshape(len(protocol.decodings), len(NETWORKS))
    found |= {"preference": preference, "student_loss": ended["loss"].reshape(*preference.shape, -1)}
    found["delta"] = (preference - preference[:, -1:]).at[:, -1].set(jnp.nan)  # the control itself has none
    return found | {name: start.ask(each)[start.target] for name, each in (("base", start.base), ("teacher", teacher))}


EXPERIMENT = Experiment(
    name="owl_tokens",
    summary="Which of the teacher's numbers carry its preference: if it is greedy, those that the base would not write",
    presets=PRESETS,
    run_seed=run_seed,
    axes=lambda settings: {"decoding": list(settings.protocol.decodings), "network": NETWORKS},
    variables={
        "preference": Variable(("decoding", "network"), condition="{decoding}/{network}"),
        "delta": Variable(("decoding", "network"), condition="delta/{decoding}/{network}"),
        **{name: Variable(("decoding",), condition=name + "/{decoding}") for name in MEASURED},
        **{name: Variable(condition=name) for name in ("base", "teacher")},
        "student_loss": Variable(("decoding", "network"), ("step",), loss=True),
    },
)
