"""Why noise works: a one-step score of input distributions against students trained on them, and a sampler."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from exercises import students
from exercises.answer import Answer, AnswerError, Finding
from experiments import predictors
from experiments.distillation import Rates, Start
from experiments.experiment import Settings
from experiments.starts import INPUTS
from sublim_theory import data, noise
from sublim_theory._types import Params
from sublim_theory.ensemble import stream
from sublim_theory.statistics import summarize

SETTINGS = predictors.PRESETS["default"].but(
    activation="tanh", learning_rate=3e-3, noise_images=6_000, first_seed=8_210_003
)
"""Here the distributions lie far apart, white noise at .6 to .8 and real digits at .2, after 376 updates."""

SEEDS = 3
PLAIN = {"learning_rate": 1.0, "init_scale": 1.0, "noise_scale": 1.0, "distance": 0.0, "random": 0.0}
"""Nothing is drawn: only the inputs differ."""

SHORT = 0.1
"""How far a score may fall short of the library's, as a rank correlation: a swap of two neighbours costs .02."""

FAVOURITE = 0.2
"""How far the students of the favourite may fall short of the best: white noises lie that close, the others do not."""


def check(
    answer: Answer, settings: Settings[predictors.Protocol, Rates] = SETTINGS, seeds: int = SEEDS
) -> Iterator[str | Finding]:
    """Findings on `sample` and `score`."""
    digits, protocol, rates = data.load("digits"), settings.protocol, settings.rates
    hint = _sampler_hint(answer, digits.train_x, digits.features)
    yield Finding("sample, as a sampler", not hint, hint or "images of the right shape, new ones for every key")
    works = not hint
    split = jax.tree.map(jnp.asarray, protocol.select(digits))
    net = protocol.make_network(rates, split)
    one, other = (net.init(jax.random.key(seed)) for seed in (977, 978))
    students.number(answer, "score", net, one, other, split.train_x[:50])  # a first look, before anything is trained
    yield f"{seeds} teachers"
    cases: list[tuple[str, Rates, Start, Params]] = []
    scores: dict[str, list[float]] = {}
    for number in range(seeds):
        seed = jnp.int32(settings.first_seed + number)
        start, own, theirs = students.prepare(protocol, rates, split, seed, PLAIN)
        for name, images in _inputs(answer if works else None, start, protocol, digits).items():
            cases.append((name, theirs, start._replace(images=images), own))
            if name != "yours":
                yield f"score: seed {number + 1} of {seeds}, {name}"
                score = students.number(answer, "score", net, start.reference, start.teacher.params, images[:INPUTS])
                scores.setdefault(name, []).append(score)
    table = np.array([*scores.values()])  # [distributions, seeds]
    if np.ptp(table, axis=0).min() == 0:
        yield Finding("score", False, "it is the same number for every distribution; what in it depends on the inputs?")
        return
    found: dict[str, list[dict[str, float]]] = {}
    for done, (name, theirs, start, own) in enumerate(cases):
        yield f"training student {done + 1} of {len(cases)}"
        row = students.distil(protocol, theirs, split, PLAIN, start, own)
        found.setdefault(name, []).append({key: float(value) for key, value in row.items()})
    yield from _judge(table, {name: found[name] for name in scores})
    if works:
        yield _sampler(found)


def _inputs(answer: Answer | None, start: Start, protocol: predictors.Protocol, digits: data.Dataset) -> dict[str, Any]:
    """A set of inputs from each distribution, and from the student's own, if it is one."""
    size = protocol.noise_images, digits.features
    found = {
        name: noise.sampler(name, 1.0, digits.train_x)(stream(start.key, f"noise/{name}"), *size)
        for name in noise.DISTRIBUTIONS
    }
    if answer is not None:
        given = answer.call("sample", stream(start.key, "noise/yours"), *size)
        with answer.guarded("what `sample` returns"):
            found["yours"] = jnp.asarray(given, jnp.float32).reshape(size)
    return found


def _sampler_hint(answer: Answer, digits: np.ndarray, features: int) -> str:
    """What is wrong with `sample` as a sampler; empty where nothing is."""
    keys = [jax.random.key(seed) for seed in (977, 977, 978)]
    drawn = []
    for key in keys:
        try:
            images = answer.call("sample", key, 300, features)
        except AnswerError as error:
            return str(error)
        with answer.guarded("what `sample` returns"):
            if np.shape(images) != (300, features):
                return f"of 300 images of {features} pixels it returns the shape {np.shape(images)}"
            drawn.append(np.asarray(images, np.float32))
    if not all(np.isfinite(images).all() for images in drawn):
        return "some pixels are not finite"
    if (drawn[0] != drawn[1]).any():
        return "the same key gives other images the second time; all randomness must come from the key"
    if (drawn[0] == drawn[2]).all():
        return "another key gives the same images; all randomness must come from the key"
    if len(np.unique(drawn[0], axis=0)) < 150:
        return "most of the images are the same; a student learns little from seeing one input over and over"
    if any((digits == image).all(axis=1).any() for image in drawn[0]):
        return "some of the images are digits of the training set; the student is to see none"
    return ""


def _judge(scores: np.ndarray, found: dict[str, list[dict[str, float]]]) -> Iterator[Finding]:
    """The score [distributions, seeds] against the students, beside the library's own quantities."""

    def rho(table: np.ndarray) -> float:
        """Mean over the seeds of Spearman's rho over the distributions."""
        return float(np.mean([stats.spearmanr(*pair).statistic for pair in zip(table.T, accuracy.T, strict=True)]))

    def quantity(name: str) -> np.ndarray:
        return np.array([[row[name] for row in rows] for rows in found.values()])

    accuracy = quantity("accuracy")
    ours = {name: rho(quantity(name)) for name in ("coverage", "transfer_ratio")}
    best, needed = max(ours.values()), max(ours.values()) - SHORT
    theirs = rho(scores)
    remark = f"rank correlation {theirs:.2f} with the trained students; needed {needed:.2f}"
    if theirs < needed:
        worst = "It ranks them the wrong way round" if theirs < -0.2 else "The order is not that of the students"
        remark += (
            f" (the library's better one-step quantity has {best:.2f}). {worst}: a large first step is worth little if "
            "it does not lead where the teacher went"
        )
    yield Finding("score, over nine distributions", theirs >= needed, remark)
    mean = accuracy.mean(axis=1)
    favourite = int(scores.mean(axis=1).argmax())
    short = float(mean.max() - mean[favourite])
    name = list(found)[favourite]
    fits = short <= FAVOURITE
    remark = f"{name}; its students reach {mean[favourite]:.2f}" + ("" if fits else ", far below those of another one")
    yield Finding("score, which distribution transfers most", fits, remark)


def _sampler(found: dict[str, list[dict[str, float]]]) -> Finding:
    """Whether the student's own inputs serve better than half way from real digits to uniform noise."""
    accuracy = {name: np.array([row["accuracy"] for row in rows]) for name, rows in found.items()}
    half = (accuracy["images"] + accuracy["uniform"]) / 2
    ahead = summarize(accuracy["yours"] - half)
    remark = (
        f"students reach {accuracy['yours'].mean():.2f} on your inputs, {accuracy['images'].mean():.2f} on real digits "
        f"and {accuracy['uniform'].mean():.2f} on uniform noise"
    )
    hint = "; needed is half way between. In how many directions do your inputs vary, and how evenly?"
    return Finding("sample, as a teacher's medium", ahead.mean > 0, remark + ("" if ahead.mean > 0 else hint))
