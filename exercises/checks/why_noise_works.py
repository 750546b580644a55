"""Why noise works: a one-step score of input distributions against students trained on them, and a sampler."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from exercises import students
from experiments import predictors
from experiments.distillation import Rates, Split, Start
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

Rows = dict[str, list[dict[str, float]]]
"""What became of the student of each seed, by distribution."""


@cache
def digits() -> tuple[data.Dataset, Split, Any]:
    """The data set, its split, and the network."""
    found = data.load("digits")
    split = jax.tree.map(jnp.asarray, SETTINGS.protocol.select(found))
    return found, split, SETTINGS.protocol.make_network(SETTINGS.rates, split)


@cache
def teachers() -> list[tuple[Start, Params, Rates]]:
    """What the students of each seed start from."""
    seeds = range(SETTINGS.first_seed, SETTINGS.first_seed + SEEDS)
    return [students.prepare(SETTINGS.protocol, SETTINGS.rates, digits()[1], jnp.int32(seed), PLAIN) for seed in seeds]


def inputs(name: str, start: Start) -> Any:
    """Images of one of the library's distributions, for a seed."""
    found = digits()[0]
    draw = noise.sampler(name, 1.0, found.train_x)
    return draw(stream(start.key, f"noise/{name}"), SETTINGS.protocol.noise_images, found.features)


def distil(images: list[Any]) -> list[dict[str, float]]:
    """What becomes of a student of each teacher on the images for it."""
    cases = zip(images, teachers(), strict=True)
    rows = (
        students.distil(SETTINGS.protocol, theirs, digits()[1], PLAIN, start._replace(images=each), own)
        for each, (start, own, theirs) in cases
    )
    return [{key: float(value) for key, value in row.items()} for row in rows]


@pytest.fixture(scope="module")
def trained(right_so_far: None) -> Rows:  # noqa: ARG001
    """Students of every distribution."""
    return {name: distil([inputs(name, start) for start, _, _ in teachers()]) for name in noise.DISTRIBUTIONS}


def test_a_sampler(answer: Any) -> None:
    """sample, as a sampler."""
    known, _, _ = digits()
    drawn = []
    for seed in (977, 977, 978):
        images = answer.sample(jax.random.key(seed), 300, known.features)
        assert np.shape(images) == (300, known.features), (
            f"of 300 images of {known.features} pixels it returns the shape {np.shape(images)}"
        )
        drawn.append(np.asarray(images, np.float32))
    first, again, another = drawn
    assert np.isfinite(drawn).all(), "some pixels are not finite"
    hint = "all randomness must come from the key"
    assert (first == again).all(), f"the same key gives other images the second time; {hint}"
    assert (first != another).any(), f"another key gives the same images; {hint}"
    assert len(np.unique(first, axis=0)) >= 150, (
        "most of the images are the same; a student learns little from seeing one input over and over"
    )
    assert not any((known.train_x == image).all(axis=1).any() for image in first), (
        "some of the images are digits of the training set; the student is to see none"
    )


def test_a_number(answer: Any) -> None:
    """score, as a number."""
    _, split, net = digits()
    one, other = (net.init(jax.random.key(seed)) for seed in (977, 978))
    images = (split.train_x[:50], jax.random.normal(jax.random.key(979), (50, split.train_x.shape[1])))
    found = {students.number(answer.score, net, one, other, each) for each in images}
    assert len(found) > 1, "it is the same number for every distribution; what in it depends on the inputs?"


def test_score(answer: Any, trained: Rows, conclude: Any) -> None:
    """score, over nine distributions."""
    score = partial(students.number, answer.score, digits()[2])
    table = [
        [score(start.reference, start.teacher.params, inputs(name, start)[:INPUTS]) for name in trained]
        for start, _, _ in teachers()
    ]
    conclude(*judge(np.transpose(table), trained))


def judge(scores: np.ndarray, found: Rows) -> tuple[bool, str]:
    """The score [distributions, seeds] against the students, beside the library's own quantities, in words."""

    def quantity(name: str) -> np.ndarray:
        return np.array([[row[name] for row in rows] for rows in found.values()])

    def rho(table: np.ndarray) -> float:
        """Mean over the seeds of Spearman's rho over the distributions."""
        return float(np.mean([stats.spearmanr(*pair).statistic for pair in zip(table.T, accuracy.T, strict=True)]))

    accuracy = quantity("accuracy")
    best, theirs = max(rho(quantity(name)) for name in ("coverage", "transfer_ratio")), rho(scores)
    remark = f"rank correlation {theirs:.2f} with the trained students; needed {best - SHORT:.2f}"
    if theirs < best - SHORT:
        worst = "It ranks them the wrong way round" if theirs < -0.2 else "The order is not that of the students"
        return False, (
            f"{remark} (the library's better one-step quantity has {best:.2f}). {worst}: a large first step is worth "
            "little if it does not lead where the teacher went"
        )
    mean, favourite = accuracy.mean(axis=1), int(scores.mean(axis=1).argmax())
    remark += f"; its favourite is {list(found)[favourite]}, whose students reach {mean[favourite]:.2f}"
    right = bool(mean.max() - mean[favourite] <= FAVOURITE)
    return right, remark + ("" if right else ", far below those of another one")


def test_sample(answer: Any, trained: Rows, conclude: Any) -> None:
    """sample, as a teacher's medium."""
    size = SETTINGS.protocol.noise_images, digits()[0].features
    drawn = [answer.sample(stream(start.key, "noise/yours"), *size) for start, _, _ in teachers()]
    yours = distil([jnp.asarray(each, jnp.float32).reshape(size) for each in drawn])
    conclude(*judge_sampler(yours, trained))


def judge_sampler(yours: list[dict[str, float]], found: Rows) -> tuple[bool, str]:
    """Whether the student's own inputs serve better than half way from real digits to uniform noise, in words."""
    own, real, uniform = (
        np.array([row["accuracy"] for row in rows]) for rows in (yours, found["images"], found["uniform"])
    )
    remark = (
        f"students reach {own.mean():.2f} on your inputs, {real.mean():.2f} on real digits and {uniform.mean():.2f} on "
        "uniform noise"
    )
    right = summarize(own - (real + uniform) / 2).mean > 0
    hint = "; needed is half way between. In how many directions do your inputs vary, and how evenly?"
    return right, remark + ("" if right else hint)
