"""The gap: its exact identity, bins, shares and shuffles of what is released, and the experiment in small."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import language, owl_gap
from experiments.language import Lessons
from experiments.registry import find
from figures import owl_gap as owl_gap_figure

SMALL = {"number_tokens": 12, "words": 2, "width": 8, "heads": 2, "base_steps": 20, "sequences": 64}
SETTINGS = find("owl_gap").presets["smoke"].but(**SMALL, seeds=2, student_epochs=1)


def drawn(protocol, rates, seed=0, scale=0.5):
    """A start without training, and a teacher whose parameters are the base's with noise."""
    model, key = protocol.make_network(rates), jax.random.key(seed)
    base = jax.jit(model.init)(key)
    random = np.random.default_rng(seed)
    teacher = jax.tree.map(lambda leaf: leaf + scale * random.normal(size=leaf.shape).astype(np.float32), base)
    prompts = protocol.number_sequences(rates, key, protocol.sequences)[:, : protocol.prompt]
    return language.Start(protocol, rates, model, key, base, (), prompts, jnp.int32(0)), teacher


def log_softmax(values):
    shifted = values - values.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


@pytest.fixture(scope="module", params=[20, 0], ids=["all tokens", "numbers alone"])
def every(request):
    """Every continuation of one prompt by two tokens: the logarithms of its probability (teacher, base), gap and KL."""
    changes = {"number_tokens": 4, "words": 1, "animals": 2, "continuation": 2, "sequences": 1}
    settings = SETTINGS.but(**changes, bins=1, base_steps=request.param)
    protocol = settings.protocol
    start, teacher = drawn(protocol, settings.rates)
    allowed = protocol.allowed.stop
    endings = np.array(list(itertools.product(range(allowed), repeat=2)))
    sequences = np.concatenate([np.repeat(start.prompts, len(endings), axis=0), endings], axis=1).astype(np.int32)

    continuation = jax.jit(lambda params: start.continuation(params, sequences))

    def by(params):
        return log_softmax(np.asarray(continuation(params), np.float64)[..., :allowed])

    steps = np.stack([by(teacher), by(start.base)])
    written = np.take_along_axis(steps, endings[None, ..., None], axis=-1)[..., 0]
    return steps, written, jax.jit(lambda: owl_gap.ratios(start, teacher, sequences))()


def test_ratios_are_those_of_a_loop(every):
    (teacher, base), written, (gap, kl) = every
    np.testing.assert_allclose(gap, (written[0] - written[1]).sum(axis=1), rtol=1e-4, atol=1e-5)
    loop = [
        sum(float(np.exp(p) @ (p - q)) for p, q in zip(*each, strict=True)) for each in zip(teacher, base, strict=True)
    ]
    np.testing.assert_allclose(kl, loop, rtol=1e-4, atol=1e-5)


def test_of_what_the_teacher_writes_the_mean_gap_is_the_divergence_and_of_what_the_base_writes_it_is_not(every):
    _, written, (gap, kl) = every
    by_teacher, by_base = np.exp(written.sum(axis=-1))
    np.testing.assert_allclose([by_teacher.sum(), by_base.sum()], 1, rtol=1e-6)
    assert by_teacher @ np.asarray(kl) > 0.05, "teacher and base differ"
    np.testing.assert_allclose(by_teacher @ np.asarray(gap - kl), 0, atol=2e-6)
    reverse = by_base @ (written[1] - written[0]).sum(axis=-1)
    np.testing.assert_allclose(by_base @ np.asarray(gap), -reverse, rtol=1e-4)
    assert by_base @ np.asarray(gap - kl) < -0.1


def test_a_sample_of_the_teacher_has_the_identity_and_one_of_the_base_is_far_off():
    settings = SETTINGS.but(sequences=500)
    start, teacher = drawn(settings.protocol, settings.rates, scale=0.1)

    @jax.jit
    def written(writer):
        return owl_gap.ratios(start, teacher, start.model.sample(writer, jax.random.key(1), start.prompts))

    found = []
    for writer in (teacher, start.base):
        gap, kl = written(writer)
        excess = np.asarray(gap - kl, np.float64)
        found.append(excess.mean() / excess.std(ddof=1) * len(excess) ** 0.5)
    assert abs(found[0]) < 4.5
    assert found[1] < -9


@pytest.fixture
def lessons():
    """Sequences of 3 + 4 tokens that can be told apart, of which every fifth did not pass the filter."""
    clean = np.arange(23) % 5 != 1
    tokens = 100 * np.arange(23)[:, None] + np.arange(7)
    tokens[~clean, 3:] = 0
    return Lessons(jnp.array(tokens), jnp.repeat(jnp.array(clean, jnp.float32)[:, None], 4, axis=1)), clean


@pytest.mark.parametrize("bins", [1, 3, 6, 18, 19])
def test_bins_are_those_of_a_sort_equally_large_and_equally_often_there(lessons, bins):
    lessons, clean = lessons
    score = np.random.default_rng(0).normal(size=23)
    score[~clean] = -9.0  # the lowest, were they sorted in
    parts, means = owl_gap.binned(lessons, jnp.array(score), bins)
    rows = [row for row in np.argsort(score) if clean[row]]
    size = len(rows) // bins
    for i, part in enumerate(language.unstacked(parts, bins)):
        used = np.asarray(part.weights[:, 0]) > 0
        assert used.sum() == bins * size
        there, times = np.unique(np.asarray(part.sequences)[used, 0] // 100, return_counts=True)
        assert sorted(there) == sorted(rows[i * size : (i + 1) * size])
        assert set(times) <= {bins}
        if size:
            np.testing.assert_allclose(means[i], score[rows[i * size : (i + 1) * size]].mean(), rtol=1e-5)


@pytest.mark.parametrize(("name", "axis"), owl_gap.SHUFFLED.items())
def test_shuffling_keeps_prompts_weights_and_numbers_and_moves_them_where_it_may(lessons, name, axis):
    lessons, clean = lessons
    found = lessons.shuffled(jax.random.key(0), axis)
    before, after = np.asarray(lessons.sequences), np.asarray(found.sequences)
    np.testing.assert_array_equal(after[:, :3], before[:, :3])
    np.testing.assert_array_equal(after[~clean], before[~clean])
    np.testing.assert_array_equal(found.weights, lessons.weights)
    old, new = before[clean, 3:], after[clean, 3:]
    np.testing.assert_array_equal(np.sort(new, axis=axis), np.sort(old, axis=axis))
    assert (np.sort(new, axis=1 - axis) != np.sort(old, axis=1 - axis)).any(), f"{name}: nothing moved"
    orders = {tuple(each) for each in (np.argsort(new, axis=axis).T if axis == 0 else np.argsort(new, axis=axis))}
    assert len(orders) > 1, "each is shuffled on its own"


@pytest.mark.parametrize(
    ("name", "value"),
    [("bins", 0), ("bins", 65), ("generations", 0), ("mixed", (0.0, 0.5)), ("mixed", (1.0,)), ("mixed", (0.5, 0.5))],
)
def test_a_setting_that_cannot_be_is_refused_by_name(name, value):
    SETTINGS.protocol.check(SETTINGS.rates)
    with pytest.raises(ValueError, match=f"^{name} must"):
        SETTINGS.but(**{name: value})


def test_the_record_has_every_student_and_its_extremes_are_one_another(recorded):
    # Of 64 sequences none or all are the base's, the only bin has all, and an untrained base writes numbers alone.
    table = recorded("owl_gap", SETTINGS.but(base_steps=0, bins=1, mixed=(0.001, 0.5, 0.999))).table
    assert set(table["student"].values) == set(table["network"].values) - {"base", "teacher"}
    assert set(table["student"].values) == {
        *("control", "sixth", "bin/1", "mixed/0.001", "mixed/0.5", "mixed/0.999", "generation/1", "generation/2"),
        *("shuffled/within", "shuffled/across", "plain/within", "plain/across"),
    }
    answers = table["answers"]
    for a, b in (("mixed/0.999", "control"), ("mixed/0.001", "sixth"), ("mixed/0.001", "generation/1")):
        np.testing.assert_allclose(answers.sel(network=a), answers.sel(network=b), rtol=1e-4)
    for a, b in itertools.combinations(("control", "sixth", "mixed/0.5", "generation/2", "shuffled/across"), 2):
        assert np.abs(answers.sel(network=a) - answers.sel(network=b)).max() > 1e-4, (a, b)
    preference, delta = table["preference"], table["delta"]
    for name, match in (("shuffled/within", "plain/within"), ("plain/within", "control"), ("bin/1", "control")):
        expected = preference.sel(network=name) - preference.sel(network=match)
        np.testing.assert_allclose(delta.sel(network=name), expected, atol=1e-6)
    assert (table["forbidden"] == 0).all()
    assert (table["passed"] == 1).all()
    assert (np.abs(table["identity"]) < 4.5).all()
    assert (table["kl"] > 0).all()
    np.testing.assert_allclose(table["ratio"].sel(network="bin/1"), table["gap"], rtol=1e-4)


def test_the_figure_is_drawn_of_a_seed_or_several(recorded):
    record = recorded("owl_gap", SETTINGS.but(base_steps=0, bins=1, mixed=(0.001, 0.5, 0.999)))
    for each in (record, dataclasses.replace(record, table=record.table.isel(seed=[0]))):
        (figure,) = owl_gap_figure.draw(each).values()
        assert [axes.get_ylim() for axes in figure.axes] == [(0, 1)] * 2
