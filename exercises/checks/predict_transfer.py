"""Predict transfer: a number known before training against the accuracy after it, over hidden configurations."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from exercises import students
from exercises.answer import Answer, Finding
from experiments import predictors
from experiments.distillation import Split
from sublim_theory import data, losses
from sublim_theory.statistics import rank_correlation

CONFIG = replace(
    predictors.PRESETS["default"],
    seeds=16,
    noise_images=6_000,
    first_seed=8_310_000,
    groups=("base", "tanh", "auxiliary_10"),
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


def check(answer: Answer, config: predictors.Config = CONFIG) -> Iterator[str | Finding]:
    """Findings on `predict`."""
    digits = data.load("digits")
    split = jax.tree.map(jnp.asarray, Split.of(digits))
    configs = config.by_group()
    cases: list[tuple[Any, ...]] = []
    predicted: list[float] = []
    total = len(configs) * config.seeds
    for each in configs.values():
        net = each.network(digits.features)
        loss = losses.on_logits(each.imitation_loss(), net.auxiliary)
        for seed in range(each.first_seed, each.first_seed + each.seeds):
            yield f"predict: configuration {len(cases) + 1} of {total}"
            drawn = predictors.draw(each, jnp.int32(seed))
            start, own = students.prepare(each, drawn, jnp.int32(seed), split)
            rate = float(drawn["learning_rate"]) * each.learning_rate
            known = {"net": net, "reference": start.reference, "teacher": start.teacher.params, "student": own}
            known |= {"noise": start.images, "loss": loss, "learning_rate": rate}
            predicted.append(students.number(answer, "predict", **known))
            cases.append((each, drawn, start, own))
    if len(set(predicted)) < 3:
        yield Finding("predict", False, "it is the same number for nearly every student; what differs between them?")
        return
    rows = []
    for number, (each, drawn, start, own) in enumerate(cases):
        yield f"training student {number + 1} of {total}"
        rows.append({name: float(v) for name, v in students.distil(each, drawn, start, own, split).items()} | drawn)
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
