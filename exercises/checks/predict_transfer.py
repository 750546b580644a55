"""Predict transfer: a number known before training against the accuracy after it, over hidden configurations."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from exercises import students
from exercises.answer import Answer, Finding
from experiments import predictors
from experiments.distillation import Rates
from experiments.experiment import Settings, points
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


def check(answer: Answer, settings: Settings[predictors.Protocol, Rates] = SETTINGS) -> Iterator[str | Finding]:
    """Findings on `predict`."""
    digits = data.load("digits")
    split = jax.tree.map(jnp.asarray, settings.protocol.select(digits))
    groups = points(predictors.EXPERIMENT, settings, "custom").values()
    cases: list[tuple[Any, ...]] = []
    predicted: list[float] = []
    total = len(groups) * settings.seeds
    for protocol, rates in ((each.protocol, each.rates) for each in groups):
        net = protocol.make_network(rates, split)
        loss = losses.on_logits(protocol.imitation_loss(rates), net.auxiliary)
        first = settings.first_seed + protocol.offset
        for seed in range(first, first + settings.seeds):
            yield f"predict: configuration {len(cases) + 1} of {total}"
            drawn = predictors.draw(protocol, jnp.int32(seed))
            start, own, theirs = students.prepare(protocol, rates, split, jnp.int32(seed), drawn)
            known = {"net": net, "reference": start.reference, "teacher": start.teacher.params, "student": own}
            known |= {"noise": start.images, "loss": loss, "learning_rate": float(theirs.learning_rate)}
            predicted.append(students.number(answer, "predict", **known))
            cases.append((protocol, theirs, split, drawn, start, own))
    if len(set(predicted)) < 3:
        yield Finding("predict", False, "it is the same number for nearly every student; what differs between them?")
        return
    rows = []
    for number, case in enumerate(cases):
        yield f"training student {number + 1} of {total}"
        rows.append({name: float(value) for name, value in students.distil(*case).items()} | case[3])
    values = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    yield _judge(np.array(predicted), values)


def _judge(predicted: np.ndarray, values: dict[str, np.ndarray]) -> Finding:
    """The rank correlation beside that of the library's predictors, and where it is weak."""
    accuracy, shared = values["accuracy"], values["distance"] == 0

    def rho(x: np.ndarray, chosen: Any = slice(None)) -> float:
        return float(stats.spearmanr(x[chosen], accuracy[chosen]).statistic) if np.ptp(x[chosen]) else 0.0

    found = rank_correlation(predicted, accuracy)
    reached = {name: rho(values[name]) for name in predictors.BEFORE}
    best = max(reached, key=lambda name: reached[name])
    needed = reached[best] - SHORT
    remark = (
        f"rank correlation {found.rho:.2f} [{found.low:.2f}, {found.high:.2f}] over {found.n} students; needed "
        f"{needed:.2f}, and the best of the library's own before training has {reached[best]:.2f}"
    )
    right = found.rho >= needed
    if found.rho < -0.2:
        remark += ". It ranks them the wrong way round: a larger number must mean a better student"
    elif not right:
        parts = dict(zip(HINTS, (shared, ~shared), strict=True))
        weak = min(parts, key=lambda part: rho(predicted, parts[part]) - rho(values[best], parts[part]))
        remark += f". It is weakest {weak} ({rho(predicted, parts[weak]):.2f}). {HINTS[weak]}"
    return Finding("predict, over hidden configurations", right, remark)
