"""Images plus noise, and a balanced choice of noise: what they are called, of as many classes as can be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from experiments import student_inputs
from experiments.distillation import begin, distil_and_test
from experiments.experiment import points
from sublim_theory import data, losses
from sublim_theory.ensemble import stream

SETTINGS = small.settings("student_inputs")
PROTOCOL, RATES = SETTINGS.protocol, SETTINGS.rates
SPLIT = PROTOCOL.select(data.load("digits"))


@pytest.fixture(scope="module")
def table(recorded):
    return recorded("student_inputs", SETTINGS).table


@pytest.fixture(scope="module")
def start():
    return jax.jit(lambda seed: begin(PROTOCOL, RATES, SPLIT, seed))(jnp.int32(1))


@pytest.mark.parametrize(("pool", "count"), [([500, 300, 40, 8, 0], 200), ([500, 0, 0, 0, 0], 30), ([9] * 5, 45)])
def test_a_balanced_choice_has_the_most_equal_counts_that_the_pool_allows(pool, count):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(5), pool))
    rows = np.asarray(student_inputs.balanced(jnp.asarray(labels, jnp.int32), count, 5))
    assert len(set(rows.tolist())) == count
    found = np.bincount(labels[rows], minlength=5)
    level = next(level for level in range(501) if sum(min(level, each) for each in pool) >= count)
    assert all(min(level - 1, each) <= here <= min(level, each) for here, each in zip(found, pool, strict=True))
    chosen, taken = (student_inputs.effective_number(jnp.asarray(labels[some]), 5) for some in (rows, slice(count)))
    assert chosen >= taken - 1e-5, "as they come, they are no better balanced"


def test_the_effective_number_is_that_of_equally_frequent_classes():
    for classes in (1, 3, 10):
        labels = jnp.tile(jnp.arange(classes), 7)
        assert float(student_inputs.effective_number(labels, 10)) == pytest.approx(classes, rel=1e-5)
    uneven = np.repeat([0, 1], [3, 1])
    expected = np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    assert float(student_inputs.effective_number(jnp.asarray(uneven), 10)) == pytest.approx(expected, rel=1e-5)


def test_the_students_are_those_of_inputs_that_are_made_one_by_one(table, start):
    net, count = PROTOCOL.make_network(RATES, SPLIT), PROTOCOL.noise_images
    images = np.stack([SPLIT.train_x[i % len(SPLIT.train_x)] for i in range(count)])
    draw = jax.jit(lambda key: PROTOCOL.sampler(RATES)(key, 1, 64)[0])
    pool = np.stack([draw(key) for key in jax.random.split(stream(start.key, "noise/pool"), 3 * count)])
    classes = np.asarray(net.apply(start.teacher.params, pool)[:, :10].argmax(axis=1))
    before = [int((classes[:i] == label).sum()) for i, label in enumerate(classes)]
    first_of_each = sorted(range(len(pool)), key=lambda i: (before[i], i))[:count]
    made = {
        "image+0": images,
        "image+1": images + np.asarray(start.images),
        "noise": np.asarray(start.images),
        "balanced": pool[first_of_each],
    }
    students = {"s": (start.reference, losses.on_logits(losses.kl_divergence, net.auxiliary))}
    train = jax.jit(lambda images: distil_and_test(PROTOCOL, RATES, SPLIT, start._replace(images=images), students))
    found = table.sel(seed=1)
    for name, inputs in made.items():
        shares = np.bincount(net.apply(start.teacher.params, inputs)[:, :10].argmax(axis=1), minlength=10) / count
        effective = np.exp(-sum(share * np.log(share) for share in shares if share))
        assert float(found["classes_seen"].sel(inputs=name)) == pytest.approx(effective, rel=1e-2), name
        expected = train(jnp.asarray(inputs))
        path = found["student_loss"].sel(student=name)
        np.testing.assert_allclose(path, expected["student_loss"]["s"], rtol=1e-3, atol=1e-6)
        accuracy = float(expected["accuracy"]["s"])
        assert float(found["accuracy"].sel(network=name)) == pytest.approx(accuracy, abs=2.5 / 360)


def test_a_balanced_choice_sees_more_classes_than_noise(table):
    seen = table["classes_seen"]
    assert (seen.sel(inputs="balanced") > seen.sel(inputs="noise")).all()
    losses = table["student_loss"]
    assert len({losses.sel(student=name).values.tobytes() for name in PROTOCOL.inputs()}) == len(PROTOCOL.inputs())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pool": 0}, "pool must be .*0"),
        ({"amplitudes": ()}, "amplitudes must have at least one"),
        ({"amplitudes": (0.5, 0.5)}, "amplitudes must have at least one, each once"),
        ({"amplitudes": (-1.0,)}, "amplitudes must be finite and not negative, got -1"),
        ({"noise": "subspace"}, "noise must be drawn image by image.* got subspace"),
        ({"noise": "images"}, "noise must be drawn image by image.* got images"),
    ],
)
def test_bad_settings_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        points(student_inputs.EXPERIMENT, SETTINGS.but(**changes), "smoke")
