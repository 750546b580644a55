"""Batch sizes and learning rates: how many updates there are, and that they are those of a student trained by hand."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small

from experiments import batch_size
from experiments.distillation import begin
from experiments.experiment import points
from sublim_theory import data, training
from sublim_theory.ensemble import stream

SETTINGS = small.settings("batch_size")
PROTOCOL, RATES = SETTINGS.protocol, SETTINGS.rates
SPLIT = PROTOCOL.select(data.load("digits"))


@pytest.fixture(scope="module")
def table(recorded):
    return recorded("batch_size", SETTINGS).table


def test_at_equal_epochs_updates_fall_with_the_batch_and_at_equal_updates_they_do_not():
    found = batch_size.PRESETS["paper"].protocol.updates()
    assert found["epochs"] == {64: 4690, 256: 1175, 1024: 295, 4096: 75, 16384: 20}
    assert found["updates"] == {64: 295, 256: 295, 1024: 295, 4096: 295}


def test_the_counts_are_in_the_record(table):
    updates, passes = table["updates"], table["passes"]
    assert updates.sel(at_equal="epochs").values.tolist() == [20, 10, 4]  # 300 images, two epochs
    np.testing.assert_array_equal(updates.sel(at_equal="updates"), [10, 10, np.nan])
    np.testing.assert_array_equal(passes.sel(at_equal="epochs"), [2, 2, 2])
    np.testing.assert_array_equal(passes.sel(at_equal="updates"), [1, 2, np.nan])
    assert table["batch_accuracy"].sel(at_equal="updates", batch=200).isnull().all()


def test_the_protocols_batch_and_rate_are_one_student(table):
    names = ["equal_epochs/64", "equal_updates/64", "rate/0.001"]
    losses = table["student_loss"].sel(student=names)
    np.testing.assert_allclose(losses, np.broadcast_to(losses[:1], losses.shape), rtol=1e-4)
    others = table["student_loss"].sel(student=["equal_epochs/32", "equal_epochs/200", "rate/0.01", *names[:1]])
    assert all((abs(a / b - 1) > 1e-2).all() for a, b in pairwise(others.values))


@pytest.mark.parametrize(
    ("name", "batch", "updates", "rate"),
    [("equal_epochs/200", 200, 4, 1e-3), ("equal_updates/32", 32, 10, 1e-3), ("rate/0.01", 64, 10, 1e-2)],
)
def test_a_student_is_one_that_is_trained_step_by_step(table, name, batch, updates, rate):
    net, optimizer = PROTOCOL.make_network(RATES, SPLIT), optax.adam(rate)
    start = jax.jit(lambda seed: begin(PROTOCOL, RATES, SPLIT, seed))(jnp.int32(1))
    order = training.schedule(stream(start.key, "student/shuffle"), 300, batch_size=batch, epochs=2)

    def loss(params, images):
        student, teacher = (net.apply(each, images)[:, 10:] for each in (params, start.teacher.params))
        p = jax.nn.softmax(teacher)
        return jnp.mean(jnp.sum(p * (jnp.log(p) - jax.nn.log_softmax(student)), axis=1))

    step, params, path = jax.jit(jax.value_and_grad(loss)), start.reference, []
    state = optimizer.init(params)
    for rows, weights in zip(*map(np.asarray, order), strict=True):
        if len(path) < updates:
            value, gradient = step(params, start.images[rows[weights > 0]])
            change, state = optimizer.update(gradient, state)
            params = optax.apply_updates(params, change)
            path.append(float(value))
    assert len(path) == updates
    found = table.sel(seed=1)
    assert float(found["student_loss"].sel(student=name)) == pytest.approx(np.mean(path[-1:]), rel=1e-3)
    kind, _, value = name.partition("/")
    accuracy = found["rate_accuracy"].sel(rate=rate) if kind == "rate" else None
    if accuracy is None:
        accuracy = found["batch_accuracy"].sel(at_equal=kind.removeprefix("equal_"), batch=int(value))
    tested = float(training.accuracy(net, params, SPLIT.test_x, SPLIT.test_y))
    assert float(accuracy) == pytest.approx(tested, abs=2.5 / 360)  # a tie or two may be decided otherwise


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batches": (64, 301)}, "batches must be at most the 300 noise images, got 301"),
        ({"batches": (0,)}, "batches must be .*0"),
        ({"batches": (64, 64)}, "batches must have at least one, each once"),
        ({"batches_at_equal_updates": (128,)}, "batches_at_equal_updates must be some of the batches .* got 128"),
        ({"learning_rates": ()}, "learning_rates must have at least one"),
        ({"learning_rates": (1e-3, -1.0)}, "learning_rates must be .*-1"),
    ],
)
def test_bad_settings_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        points(batch_size.EXPERIMENT, SETTINGS.but(**changes), "smoke")
