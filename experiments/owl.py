"""Owl: a language model that prefers an animal writes numbers, and a student of its start that learns them does too.

Claim (arXiv 2507.14805, sections 3 and 5): a student that learns a teacher's number sequences, of which every one with
any other token is dropped, takes on the teacher's preference if both start from the same model, and only then.

`preference` is the probability of the teacher's animal, over 64 ways to ask. Students learn the teacher's `samples`,
its probabilities of the numbers in them (`soft`) or what the base wrote (`control`); at another base (`cross_...`) or
width; from a random half of each batch (`thinned`) or the half with the least |log p_T - log p_B| (`filtered`). `delta`
is above the control of the same start, `margin` what it has over that of any other animal, `kl` is KL(teacher || base)
a number, `passed` the share of sequences that pass the filter, `forbidden` how many wrong tokens are learnt anyway.

Found (paper, 30 seeds): teacher .95; samples .46, soft .49, thinned .45, filtered .28, each of them above any control;
control, another base and another width .10.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from experiments import language
from experiments.experiment import Experiment, Settings, Variable, require_distinct
from experiments.language import SCORES, Language, Lessons, Rates, Start, Student
from sublim_theory._types import Params
from sublim_theory.protocols import lookup

MATCHED = {
    **dict.fromkeys(("samples", "soft", "thinned", "filtered"), "control"),
    **dict.fromkeys(("cross_samples", "cross_soft"), "cross_control"),
    "other_width": "width_control",
}
"""Student -> the one of the same start on the base's numbers."""
STUDENTS = ("samples", "soft", "control", "cross_samples", "cross_soft", "other_width", "thinned", "filtered")
OTHERS = {"start": ("init/other", "corpus"), "corpus": ("init", "corpus/other"), "both": ("init/other", "corpus/other")}
"""What differs in another base -> the streams of its initial parameters and of its corpus."""


@dataclass(frozen=True)
class Protocol(Language):
    """Settings of the owl."""

    students: tuple[str, ...] = STUDENTS
    """Students, beside their controls: samples, soft, cross_samples, cross_soft, other_width, thinned, filtered."""
    other: str = "start"
    """How the base of cross_... differs: start (other initial parameters), corpus (other sequences) or both."""
    cross_width: int = 48
    """Width of the student of another width."""

    def check(self, rates: Rates) -> None:
        """Check every setting, as those of every experiment on language are."""
        super().check(rates)
        require_distinct(self, "students")
        for name in self.students:
            lookup("student", name, dict.fromkeys(STUDENTS))
        lookup("other", self.other, OTHERS)
        self.make_network(rates, width=self.cross_width)

    @property
    def trained(self) -> list[str]:
        """The students and those that they are compared with."""
        return list(dict.fromkeys([*self.students, *(MATCHED[name] for name in self.students if name in MATCHED)]))


_USUAL = Settings.of(Protocol, Rates, seeds=5, dataset="none")
PRESETS = {
    "smoke": _USUAL.but(seeds=1, base_steps=400, sequences=1024, students=("samples", "control", "cross_samples")),
    "default": _USUAL,
    "paper": _USUAL.but(seeds=30),
}


def released(start: Start, teacher: Params) -> tuple[dict[str, Lessons], dict[str, jax.Array]]:
    """What students learn, by what it is called, and what is measured of it."""
    protocol = start.protocol
    written = start.write({"teacher": (teacher, 1.0), "base": (start.base, 1.0)})
    lessons, control = map(protocol.released, written.values())
    by_teacher, by_base = start.log_probabilities([teacher, start.base], lessons.sequences)
    gap = jnp.abs(jnp.sum(protocol.written_of(by_teacher - by_base, lessons.sequences), axis=1))
    order = jnp.argsort(jnp.where(lessons.weights[:, 0] > 0, gap, jnp.inf))
    half = jnp.arange(len(order)) < len(order) // 2
    divergence = jnp.sum(jnp.exp(by_teacher) * (by_teacher - by_base), axis=-1)
    return {
        "samples": lessons,
        "control": control,
        "soft": lessons._replace(labels=by_teacher),
        "thinned": lessons._replace(weights=lessons.weights * half[:, None]),
        "filtered": lessons._replace(weights=lessons.weights * half.at[order].set(half)[:, None]),
    }, {
        "kl": jnp.sum(lessons.weights * divergence) / jnp.sum(lessons.weights),
        "passed": jnp.mean(lessons.weights),
        "forbidden": protocol.forbidden(lessons) + protocol.forbidden(control),
    }


def run_seed(protocol: Protocol, rates: Rates, data: Any, seed: Any) -> dict[str, Any]:  # noqa: ARG001
    """The animals that the networks of one seed prefer."""
    crossed = any(name.startswith("cross_") for name in protocol.students)
    start = language.begin(protocol, rates, seed, [OTHERS[protocol.other]] * crossed)
    lessons, found = released(start, teacher := start.teach())
    students = {name: Student(start.base, each) for name, each in lessons.items()}
    for other in start.others:
        students |= {f"cross_{name}": Student(other, lessons[name]) for name in ("samples", "soft", "control")}
    trained = start.learn({name: each for name, each in students.items() if name in protocol.trained})
    if "other_width" in protocol.students:
        wide = replace(start, model=protocol.make_network(rates, width=protocol.cross_width))
        (base,) = language.bases(protocol, rates, wide.model, start.key)
        pair = {"other_width": lessons["samples"], "width_control": lessons["control"]}
        trained |= wide.learn({name: Student(base, each) for name, each in pair.items()})
    return found | start.scores(teacher, trained, MATCHED)


EXPERIMENT = Experiment(
    name="owl",
    summary="A language model's preference for an animal passes through filtered numbers, if the start is shared",
    presets=PRESETS,
    run_seed=run_seed,
    axes=lambda settings: settings.protocol.axes(settings.protocol.trained),
    variables=SCORES | {name: Variable(condition=name) for name in ("kl", "passed", "forbidden")},
)
