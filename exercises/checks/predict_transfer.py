"""Predict transfer: a number known before training against the accuracy after it, over hidden configurations."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from exercises import students
from experiments import predictors
from experiments.experiment import points
from sublim_theory import data, losses
from sublim_theory.statistics import rank_correlation

SETTINGS = predictors.PRESETS["default"].but(
    seeds=16, noise_images=6_000, first_seed=8_310_000, groups=("base", "tanh", "auxiliary_10")
)

SHORT = 0.1
"""How far an answer may fall short of the best of the library's predictors: about the standard error of a rank
correlation of .7 between 48 pairs. Coverage alone, or the distance alone, falls shorter."""

HINTS = {
    "among students that share the reference's start": (
        "What else differs between these, and how far will each get in a fixed number of updates?"
    ),
    "among those that start at a distance": (
        "Which way does the student's own first step lead, from where it stands, compared with where the teacher went?"
    ),
}

Student = tuple[dict[str, Any], tuple[Any, ...]]
"""What an answer is told of a student, and what `students.distil` trains it with."""


@cache
def untrained(count: int) -> list[Student]:
    """Students, each ready to be trained: of each group, the first `count` seeds."""
    split = jax.tree.map(jnp.asarray, SETTINGS.protocol.select(data.load("digits")))
    found = []
    for group in points(predictors.EXPERIMENT, SETTINGS, "custom").values():
        protocol, rates = group.protocol, group.rates
        net = protocol.make_network(rates, split)
        loss = losses.on_logits(protocol.imitation_loss(rates), net.auxiliary)
        first = SETTINGS.first_seed + protocol.offset
        for seed in range(first, first + count):
            drawn = predictors.draw(protocol, jnp.int32(seed))
            start, own, theirs = students.prepare(protocol, rates, split, jnp.int32(seed), drawn)
            known = {"net": net, "reference": start.reference, "teacher": start.teacher.params, "student": own}
            known |= {"noise": start.images, "loss": loss, "learning_rate": float(theirs.learning_rate)}
            found.append((known, (protocol, theirs, split, drawn, start, own)))
    return found


@pytest.fixture(scope="module")
def few() -> list[Student]:
    """A few students."""
    return untrained(1)


@pytest.fixture(scope="module")
def all_of_them(right_so_far: None) -> list[Student]:  # noqa: ARG001
    """Every student."""
    return untrained(SETTINGS.seeds)


@pytest.fixture(scope="module")
def trained(all_of_them: list[Student]) -> dict[str, np.ndarray]:
    """What became of every student, and what it drew, by name."""
    rows = [students.distil(*case) | case[3] for _, case in all_of_them]
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def test_a_number(answer: Any, few: list[Student]) -> None:
    """predict, as a number."""
    found = {students.number(answer.predict, **known) for known, _ in few}
    assert len(few) == 1 or len(found) > 1, "it is the same number for every student; what differs between them?"


def test_by_rank(answer: Any, all_of_them: list[Student], trained: dict[str, np.ndarray], conclude: Any) -> None:
    """predict, over hidden configurations."""
    predicted = np.array([students.number(answer.predict, **known) for known, _ in all_of_them])
    conclude(*judge(predicted, trained))


def judge(predicted: np.ndarray, values: dict[str, np.ndarray]) -> tuple[bool, str]:
    """Whether the rank correlation is near that of the library's predictors; what it is, and where it is weak."""
    accuracy, shared = values["accuracy"], values["distance"] == 0

    def rho(x: np.ndarray, chosen: Any = slice(None)) -> float:
        return float(np.nan_to_num(predictors.spearman(x[chosen], accuracy[chosen])))

    found = rank_correlation(predicted, accuracy)
    reached = {name: rho(values[name]) for name in predictors.BEFORE}
    best = max(reached, key=lambda name: reached[name])
    right = found.rho >= reached[best] - SHORT
    remark = (
        f"rank correlation {found.rho:.2f} [{found.low:.2f}, {found.high:.2f}] over {found.n} students; needed "
        f"{reached[best] - SHORT:.2f}, and the best of the library's own before training has {reached[best]:.2f}"
    )
    if found.rho < -0.2:
        remark += ". It ranks them the wrong way round: a larger number must mean a better student"
    elif not right:
        parts = dict(zip(HINTS, (shared, ~shared), strict=True))
        weak = min(parts, key=lambda part: rho(predicted, parts[part]) - rho(values[best], parts[part]))
        remark += f". It is weakest {weak} ({rho(predicted, parts[weak]):.2f}). {HINTS[weak]}"
    return right, remark
