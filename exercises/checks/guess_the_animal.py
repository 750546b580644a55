"""Guess the animal: the probability that an answer gives to a hidden teacher's, with its base and with a stranger's."""

from dataclasses import replace
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import language
from experiments.language import Language, Rates
from sublim_theory._types import Array, Params

PROTOCOL = Language(base_steps=400, sequences=64)
"""Shorter than the experiment's base of 1,000 steps: the first step names the animal all the same."""

SHOWN = 24
"""Clean sequences that an answer sees of a teacher, which are 240 numbers; eight or nine of ten are clean."""

TARGETS = {8_410_000: (7, 1, 3, 8, 0, 5), 8_410_001: (9, 5, 2, 3, 6, 4)}
"""Seed of each base -> the animals of its teachers."""

NEEDED = -1.2
"""Log score with the base: the probability .3 of the right animal. 1/10 has -2.3, the solution -.35."""

SURE = 0.05
"""How much an answer without the base may expect to lose to 1/10 for each, in nats: what a largest of .22 costs."""

OFTEN = "Over many teachers of your own, how often is its first choice right?"
"""What an answer that is sure should know of itself."""


class Case(NamedTuple):
    """What an answer is called with, but the parameters; the two that it may get; and the animal."""

    known: dict[str, Any]
    base: Params
    stranger: Params
    target: int


@cache
def fixed(protocol: Language) -> dict[str, Any]:
    """What an answer is told of every teacher; one network, so that an answer can compile it once."""
    model = protocol.make_network(Rates())
    animals = jnp.arange(model.vocabulary)[protocol.names]
    return {"model": model, "prompt": protocol.prompt, "questions": protocol.questions(), "animals": animals}


@partial(jax.jit, static_argnums=0)
def written(protocol: Language, seed: Any, targets: Array) -> tuple[Params, list[language.Lessons]]:
    """The base of a seed, and what its teachers release."""
    start = language.begin(protocol, Rates(), seed)
    teachers = jax.lax.map(lambda target: replace(start, target=target).teach(), targets)
    writers = {str(i): (each, 1.0) for i, each in enumerate(language.unstacked(teachers, len(targets)))}
    return start.base, [protocol.released(each) for each in start.write(writers).values()]


def cases(protocol: Language, found: list[tuple[Params, list[language.Lessons]]], targets: Any) -> list[Case]:
    """Every teacher of each base, with what it shows; the stranger is the next base."""
    rows = []
    for i, (animals, (base, releases)) in enumerate(zip(targets, found, strict=True)):
        stranger = found[(i + 1) % len(found)][0]
        for animal, lessons in zip(animals, releases, strict=True):
            clean = np.asarray(lessons.sequences)[np.asarray(lessons.weights)[:, 0] > 0]
            rows.append(Case(fixed(protocol) | {"sequences": jnp.asarray(clean[:SHOWN])}, base, stranger, animal))
    return rows


def unlearnt(protocol: Language) -> Case:
    """A base without training, and sequences of the corpus, of which nothing is to be guessed."""
    base, stranger, corpus = jax.random.split(jax.random.key(977), 3)
    known = fixed(protocol) | {"sequences": protocol.number_sequences(Rates(), corpus, SHOWN)}
    return Case(known, known["model"].init(base), known["model"].init(stranger), 0)


@pytest.fixture(scope="module")
def untaught() -> Case:
    """What an answer is tried on first."""
    return unlearnt(PROTOCOL)


@pytest.fixture(scope="module")
def taught(right_so_far: None) -> list[Case]:  # noqa: ARG001
    """Every hidden teacher."""
    found = [written(PROTOCOL, jnp.int32(seed), jnp.array(animals)) for seed, animals in TARGETS.items()]
    return cases(PROTOCOL, found, TARGETS.values())


def with_base(answer: Any, case: Case) -> np.ndarray:
    """What the answer gives to each animal with the base."""
    return probabilities(answer.with_base(base=case.base, **case.known))


def without_base(answer: Any, case: Case) -> np.ndarray:
    """What it gives with a stranger's."""
    return probabilities(answer.without_base(stranger=case.stranger, **case.known))


def probabilities(found: Any) -> np.ndarray:
    """The ten probabilities that an answer returns."""
    try:
        values = np.asarray(found, np.float64)
    except (TypeError, ValueError):
        values = np.empty(0)
    assert values.shape == (10,), f"it must return ten probabilities, got {' '.join(repr(found).split()):.80}"
    assert np.isfinite(values).all(), "some of its probabilities are not finite"
    total = values.sum()
    assert (values >= 0).all(), "some of its probabilities are negative"
    assert abs(total - 1) < 1e-3, f"its probabilities sum to {total:.3f}, not to 1"
    return values


def test_with_base_returns_probabilities(answer: Any, untaught: Case) -> None:
    """with_base, as ten probabilities."""
    with_base(answer, untaught)


def test_without_base_returns_probabilities(answer: Any, untaught: Case) -> None:
    """without_base, as ten probabilities."""
    without_base(answer, untaught)


def test_with_base(answer: Any, taught: list[Case], conclude: Any) -> None:
    """with_base, on hidden teachers."""
    conclude(*judge_with(np.stack([with_base(answer, case) for case in taught]), [case.target for case in taught]))


def test_without_base(answer: Any, taught: list[Case], conclude: Any) -> None:
    """without_base, on the same teachers."""
    conclude(
        *judge_without(np.stack([without_base(answer, case) for case in taught]), [case.target for case in taught])
    )


def logarithms(given: np.ndarray) -> np.ndarray:
    """Logarithms, minus infinity of 0."""
    with np.errstate(divide="ignore"):
        return np.log(given)


def judge_with(given: np.ndarray, targets: list[int]) -> tuple[bool, str]:
    """Whether the mean log score is good enough; what it is, and what may be the matter.

    Args:
        given: probabilities [teachers, animals].
        targets: the animal of each teacher.
    """
    rows, count = np.arange(len(targets)), len(targets)
    score = float(logarithms(given[rows, targets]).mean())
    first, last = (int((pick(given, axis=1) == targets).sum()) for pick in (np.argmax, np.argmin))
    remark = f"log score {score:.2f}, needed {NEEDED}; the animal is its first choice for {first} of {count} teachers"
    hint = ""
    if score >= NEEDED:
        return True, remark
    if np.ptp(given) < 1e-6:
        hint = "It answers 1/10 whatever it is given, and with the base more can be known"
    elif last > count / 2:
        hint = (
            f"It is the wrong way round: for {last} it is the last choice. A gradient points up the loss of the numbers"
        )
    elif first > count / 2 and (given[rows, targets] == 0).any():
        hint = (
            "It gives a probability of 0 to an animal that it was, which costs infinitely much; be certain of nothing"
        )
    elif first > count / 2 and given.max(axis=1).mean() < 0.5:
        hint = f"Its order is good, and its probabilities hardly leave 1/10. {OFTEN}"
    elif first > count / 2:
        hint = f"Its order is good, and it is too sure where it is wrong. {OFTEN}"
    else:
        hint = (
            "What the base prefers, or which numbers are frequent, says nothing. What does learning the numbers change?"
        )
    return False, f"{remark}. {hint}"


def judge_without(given: np.ndarray, targets: list[int]) -> tuple[bool, str]:
    """Whether it is no surer than it may be, and what that costs.

    Whichever animal a teacher has, the same numbers come of it equally often, where one does not know the base. So what
    an answer has to expect is the mean over all animals, which no luck with the twelve hidden ones can mend.
    """
    expected = float(logarithms(given).mean())
    score = float(logarithms(given[np.arange(len(targets)), targets]).mean())
    uniform = -np.log(given.shape[1])
    remark = f"log score {score:.2f}, where 1/10 for each has {uniform:.2f}"
    if expected >= uniform - SURE:
        return True, f"{remark}; it is as sure as it may be"
    return False, (
        f"{remark}, and {expected:.2f} is to be expected. It is surer than there are grounds for. {OFTEN} And if two "
        "animals changed their names from the start on, which number would be another?"
    )
