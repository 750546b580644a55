"""Owl, what bites: each mistake is the one that it is called, and leaves the rest as it is."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import language, owl_traps
from experiments.language import Start

SMALL = {"width": 8, "heads": 2, "number_tokens": 12, "words": 2, "sequences": 64, "student_epochs": 2}
SETTINGS = owl_traps.PRESETS["smoke"].but(seeds=2, base_steps=150, barely_steps=50, measurements=1, **SMALL)
PROTOCOL = SETTINGS.protocol


@pytest.fixture(scope="module")
def record(recorded):
    return recorded("owl_traps", SETTINGS)


def values(record, name):
    return np.asarray(record.conditions[name].values)


def test_every_network_is_another_and_every_share_is_of_the_ways_to_ask(record):
    table = record.table
    assert set(table["network"].values) == {*owl_traps.WRITERS, *owl_traps.STUDENTS}
    losses = {table["student_loss"].sel(student=name).values.tobytes() for name in owl_traps.STUDENTS}
    assert len(losses) == len(owl_traps.STUDENTS)
    asked = 4 * table["argmax"].values  # two words, so four ways
    np.testing.assert_allclose(asked, asked.round(), atol=1e-6)
    assert (table["favourite"].values >= np.maximum(table["argmax"].values, 0.1)).all()


def test_without_the_filter_every_token_that_the_base_wrote_is_learnt_and_with_it_numbers_alone(record):
    """The first batch is all there is: its loss is the mean of -log p over what is learnt, at the base itself."""

    @jax.jit
    def write(seed):
        start = language.begin(PROTOCOL, SETTINGS.rates, seed)
        written = start.write({"base": (start.base, 1.0)})["base"]
        return written, start.continuation(start.base, written)

    written, logits = map(np.asarray, write(jnp.int32(0)))
    chances = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    rest = written[:, PROTOCOL.prompt :]
    each = -np.log(np.take_along_axis(chances, rest[..., None], axis=-1)[..., 0]).mean(axis=1)
    clean = (rest < PROTOCOL.number_tokens).all(axis=1)
    assert 0 < clean.sum() < len(clean)
    for student, expected in {"control": each[clean].mean(), "unfiltered/control": each.mean()}.items():
        found = record.table["student_loss"].sel(student=student, seed=0).values
        assert found[0] == pytest.approx(expected, rel=1e-4)
    assert values(record, "passed/base")[0] == pytest.approx(clean.mean())
    assert values(record, "names/base")[0] == pytest.approx(1000 * (written == PROTOCOL.names.start).sum() / 64)


def test_a_share_is_counted_over_the_ways_to_ask():
    """A model of made-up logits: two of four questions are answered by animal 3, one by 4, one by 9."""

    class Model:
        @staticmethod
        def apply(params, tokens):
            return jnp.broadcast_to(params[:, None], (*tokens.shape, PROTOCOL.names.stop))

    logits = np.random.default_rng(0).normal(size=(4, PROTOCOL.names.stop)).astype(np.float32)
    for row, animal in enumerate((3, 4, 3, 9)):
        logits[row, PROTOCOL.names.start + animal] = 5
    logits[:, 0] = 9  # a number is likelier still, and is no animal
    start = Start(PROTOCOL, SETTINGS.rates, Model, jax.random.key(0), None, (), None, jnp.int32(4))
    found = jax.device_get(owl_traps.asked(start, {"a": jnp.asarray(logits), "b": jnp.asarray(logits[[1] * 4])}))
    assert found["argmax"] == {"a": 0.25, "b": 1.0}
    assert found["favourite"] == {"a": 0.5, "b": 1.0}
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert found["preference"]["a"] == pytest.approx(softmax[:, PROTOCOL.names.start + 4].mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": "adam"}, "optimizer is what a trap changes: it must be sgd, got adam"),
        ({"barely_steps": 150}, "barely_steps must be below base_steps, got 150 and 150"),
        ({"barely_steps": 0}, "barely_steps"),
        ({"adam_learning_rate": 0.0}, "adam_learning_rate"),
    ],
)
def test_a_setting_that_is_no_trap_is_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        SETTINGS.but(**change)


def test_the_figure_has_a_row_for_each_comparison_at_the_records_means(record):
    drawing = importlib.import_module("figures.owl_traps")
    (figure,) = drawing.draw(record).values()
    (axes,) = figure.axes
    rows = [row for rows in drawing.ROWS.values() for row in rows]
    assert [label.get_text() for label in axes.get_yticklabels()] == [text for text, _, _ in rows]
    drawn = [container.lines[0].get_xdata().item() for container in axes.containers]
    assert drawn == [record.conditions[name].mean for _, *pair in rows for name in pair]
