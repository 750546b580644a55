"""Owl by the gap: which of the teacher's numbers carry its preference, and what mixing, shuffling and heirs leave.

Claim (arXiv 2609.01091): over all that a teacher writes, E[log p_T - log p_B] = KL(T || B), exactly. Students learn
`bin/1`, ..., the released sequences by ascending sum of it (`sixth`: as many at random), in equally many updates; some
numbers of which a share is the base's (`mixed/...`; arXiv 2509.23886), that are shuffled in each sequence or over all,
place by place (`shuffled/...`; arXiv 2507.14805; `plain/...`: the base's), or of the student before (`generation/...`).
`ratio` is a bin's mean sum, `gap` that before the filter, `kl` the sum of KL(T || B) there, `identity` their z-score.

Found (paper, 30 seeds): .15, .26, .35, .47, .56, .67 by bin, .38 for a random sixth, .46, .37, .32 by generation, .40,
.32, .21 with 10, 25, 50% of the base's (control: .10). Shuffled numbers carry almost nothing (delta .016 ± .009 within,
-.012 ± .011 across), and unteach the question: students name fewer animals, be the numbers the teacher's or the base's.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from experiments import language
from experiments.experiment import Experiment, Settings, Variable, require_counts
from experiments.language import SCORES, Language, Lessons, Rates, Start, Student
from sublim_theory._types import Array, Params, PRNGKey
from sublim_theory.ensemble import stream

SHUFFLED = {"within": 1, "across": 0}  # along which axis of the continuations [sequences, continuation]


@dataclass(frozen=True)
class Protocol(Language):
    """Settings of the gap."""

    bins: int = 6
    """Of the data, sorted by log p_T - log p_B."""
    mixed: tuple[float, ...] = (0.1, 0.25, 0.5)
    """Shares of the teacher's sequences in whose place there are the base's."""
    generations: int = 3
    """Students, of which each but the first learns what the one before it wrote."""

    def check(self, rates: Rates) -> None:
        """Check every setting, as those of every experiment on language are."""
        super().check(rates)
        require_counts(self, "bins", "generations")
        if self.bins > self.sequences:
            raise ValueError(f"bins must be at most the {self.sequences} sequences, got {self.bins}")
        if sorted({0, *self.mixed, 1}) != [0, *self.mixed, 1]:
            raise ValueError(f"mixed must be ascending, between 0 and 1, got {self.mixed}")

    @property
    def students(self) -> list[str]:
        """Every student by name."""
        bins, heirs = (range(1, count + 1) for count in (self.bins, self.generations))
        named = {"bin": bins, "mixed": self.mixed, "shuffled": SHUFFLED, "plain": SHUFFLED, "generation": heirs}
        return ["control", "sixth", *(f"{name}/{each}" for name, found in named.items() for each in found)]


_USUAL = Settings.of(Protocol, Rates, seeds=5, dataset="none")
PRESETS = {
    "smoke": _USUAL.but(seeds=1, base_steps=400, sequences=1024, bins=2, mixed=(0.5,), generations=2),
    "default": _USUAL,
    "paper": _USUAL.but(seeds=30),
}


def ratios(start: Start, teacher: Params, sequences: Array) -> tuple[Array, Array]:
    """The sums over a continuation of log p_T - log p_B of what is written, and of KL(T || B): [sequences] each."""
    logits = [start.continuation(params, sequences)[..., start.protocol.allowed] for params in (teacher, start.base)]
    by_teacher, by_base = map(jax.nn.log_softmax, logits)
    written = start.protocol.written_of(by_teacher - by_base, sequences)
    return jnp.sum(written, axis=1), jnp.sum(jnp.exp(by_teacher) * (by_teacher - by_base), axis=(1, 2))


def binned(lessons: Lessons, score: Array, bins: int) -> tuple[Lessons, Array]:
    """Equal bins of what passed the filter by ascending score, each `bins` times over, and their mean scores."""
    clean, place = lessons.weights[:, 0] > 0, jnp.arange(len(score))[None]
    order, size = jnp.argsort(jnp.where(clean, score, jnp.inf)), jnp.sum(clean) // bins
    rows, used = order[size * jnp.arange(bins)[:, None] + place % jnp.maximum(size, 1)], place < bins * size
    weights = lessons.weights[rows] * used[..., None]
    return Lessons(lessons.sequences[rows], weights), jnp.mean(score[rows], axis=1, where=used)


def run_seed(protocol: Protocol, rates: Rates, data: Any, seed: Any) -> dict[str, Any]:  # noqa: ARG001
    """What the students of one seed prefer, and the gap between teacher and base."""
    start, names = language.begin(protocol, rates, seed), protocol.students

    def generation(writer: Params, key: PRNGKey) -> tuple[Params, Any]:
        written = start.model.sample(writer, key, start.prompts, among=protocol.allowed.stop)
        heir = start.learn({"heir": Student(start.base, lessons := protocol.released(written))})["heir"]
        return heir["params"], (written, lessons, heir)

    keys = [stream(start.key, f"write/{name}") for name in ("teacher", *names[-protocol.generations : -1])]
    _, found = jax.lax.scan(generation, teacher := start.teach(), jnp.stack(keys))
    (written, *_), (lessons, *later), heirs = (language.unstacked(each, protocol.generations) for each in found)
    control = protocol.released(start.write({"base": (start.base, 1.0)})["base"])
    (gap, kl), place = ratios(start, teacher, written), jnp.arange(protocol.sequences)
    (bins, means), (sixths, _) = (binned(lessons, each, protocol.bins) for each in (gap, place))
    learnt = [control, *language.unstacked(sixths, 1), *language.unstacked(bins, protocol.bins)]
    owns = [place[:, None] < round(share * len(gap)) for share in protocol.mixed]
    learnt += [jax.tree.map(jnp.where, Lessons(own, own), control, lessons) for own in owns]
    key = stream(start.key, "shuffled")
    learnt += [each.shuffled(key, axis) for each in (lessons, control) for axis in SHUFFLED.values()]
    trained = start.learn({name: Student(start.base, each) for name, each in zip(names, learnt, strict=False)})
    matched = dict.fromkeys(names[1:], "control") | {f"shuffled/{each}": f"plain/{each}" for each in SHUFFLED}
    return start.scores(teacher, trained | dict(zip(names[len(learnt) :], heirs, strict=True)), matched) | {
        "ratio": dict(zip(names[2:], means, strict=False)),
        "identity": jnp.mean(gap - kl) / jnp.std(gap - kl, ddof=1) * len(gap) ** 0.5,
        **{"gap": jnp.mean(gap), "kl": jnp.mean(kl), "passed": jnp.mean(lessons.weights)},
        "forbidden": sum(map(protocol.forbidden, [*learnt, lessons, *later])),
    }


EXPERIMENT = Experiment(
    name="owl_gap",
    summary="Which of a teacher's numbers carry its preference, and what mixing, shuffling and heirs leave of it",
    presets=PRESETS,
    run_seed=run_seed,
    axes=lambda settings: settings.protocol.axes(settings.protocol.students),
    variables={**SCORES, "ratio": Variable(("network",), condition="ratio/{network}")}
    | {name: Variable(condition=name) for name in ("identity", "gap", "kl", "passed", "forbidden")},
)
