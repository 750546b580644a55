"""Pretrained starts: each is pretrained as it is called, and what it must not move it leaves bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small

from experiments import capable_start
from experiments.distillation import begin
from experiments.experiment import points
from sublim_theory import data, training
from sublim_theory.ensemble import seed_key, stream

SETTINGS = small.settings("capable_start")
PROTOCOL, RATES = SETTINGS.protocol, SETTINGS.rates
SPLIT = PROTOCOL.select(data.load("digits"))
NET = PROTOCOL.make_network(RATES, SPLIT)


@pytest.fixture(scope="module")
def table(recorded):
    return recorded("capable_start", SETTINGS).table


@pytest.fixture(scope="module")
def starts():
    """Of the seed 1, by kind."""
    key = stream(seed_key(1), "init")
    nets = {kind: capable_start.pretrained(PROTOCOL, RATES, SPLIT, kind) for kind in capable_start.STARTS}
    return jax.jit(lambda key: {kind: net.init(key) for kind, net in nets.items()})(key)


def same(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


def test_a_start_moves_what_it_is_pretrained_in_and_nothing_else(starts):
    reference = starts["random"]
    assert same(reference, jax.jit(NET.init)(stream(seed_key(1), "init")))
    for kind, params in starts.items():
        moved = {layer for layer in params if not same(params[layer], reference[layer])}
        body = set() if kind == "random" else {"hidden_0"}
        assert moved == body | ({"class_head"} if kind == "supervised" else set()), kind
    assert len({np.asarray(each["hidden_0"]["kernel"]).tobytes() for each in starts.values()}) == len(starts)


def test_a_supervised_start_is_a_teacher_of_whole_batches(starts):
    """Its class head classifies; a body that was pretrained through another head does not suit its own."""
    key, count = stream(seed_key(1), "init"), len(SPLIT.train_x) // 64 * 64
    order = training.schedule(stream(key, "pretraining/shuffle"), count, batch_size=64, epochs=2)
    x, y, optimizer = SPLIT.train_x[:count], SPLIT.train_y[:count], PROTOCOL.make_optimizer(RATES)
    assert float(order.weights.min()) == 1
    teacher = jax.jit(lambda: training.train_teacher(NET, starts["random"], x, y, optimizer, order).params)()
    for ours, theirs in zip(jax.tree.leaves(starts["supervised"]), jax.tree.leaves(teacher), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)
    tested = {kind: float(training.accuracy(NET, starts[kind], SPLIT.test_x, SPLIT.test_y)) for kind in starts}
    assert tested["supervised"] > 0.3 > max(tested["supervised_body"], tested["random"])


@pytest.mark.parametrize("kind", ["masked", "contrastive"])
def test_a_start_that_sees_no_labels_is_one_that_is_trained_step_by_step(starts, kind):
    key, count, optimizer = stream(seed_key(1), "init"), len(SPLIT.train_x) // 64 * 64, optax.adam(1e-3)
    order = training.schedule(stream(key, "pretraining/shuffle"), count, batch_size=64, epochs=2)
    keys = jax.random.split(stream(key, "pretraining/views"), 2 * count)
    kernel = jax.random.normal(stream(key, "pretraining/decoder"), (16, 64)) / 4
    params = {"net": starts["random"], "kernel": kernel, "bias": jnp.zeros((1, 64))}

    def loss(params, keys, x):
        if kind == "masked":
            seen, hidden = jax.vmap(lambda key, image: capable_start.hide(key, image, 0.5))(keys, x)
            filled = NET.hidden(params["net"], seen)[-1] @ params["kernel"] + params["bias"]
            return jnp.mean(jnp.sum(hidden * (filled - x) ** 2, axis=1) / jnp.sum(hidden, axis=1))
        both = jax.vmap(jax.random.split)(keys)
        a, b = (
            NET.hidden(params["net"], jax.vmap(lambda key, x: capable_start.view(key, x, PROTOCOL))(both[:, i], x))[-1]
            for i in (0, 1)
        )
        return jnp.mean(capable_start.info_nce(a, b, 0.2))

    @jax.jit
    def step(params, state, keys, x):
        change, state = optimizer.update(jax.grad(loss)(params, keys, x), state)
        return optax.apply_updates(params, change), state

    state, updates = optimizer.init(params), len(order.indices)
    for k, rows in enumerate(np.asarray(order.indices)):
        offset = count * (k // (updates // 2))  # the second pass over the images corrupts them anew
        params, state = step(params, state, keys[rows + offset], SPLIT.train_x[rows])
    for ours, theirs in zip(jax.tree.leaves(starts[kind]), jax.tree.leaves(params["net"]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=1e-4)
    images = jnp.asarray(SPLIT.train_x)[:64]
    before, after = (loss(params | {"net": starts[which]}, keys[-64:], images) for which in ("random", kind))
    assert after < before


def test_info_nce_is_the_mean_of_two_cross_entropies_of_cosines():
    a, b = np.random.default_rng(0).normal(size=(2, 5, 7)).astype(np.float32)
    cosines = np.array([[u @ v / np.sqrt((u @ u) * (v @ v)) for v in b] for u in a]) / 0.2
    rows, columns = (-np.log([np.exp(z[i, i]) / np.exp(z[i]).sum() for i in range(5)]) for z in (cosines, cosines.T))
    found = capable_start.info_nce(jnp.asarray(a), jnp.asarray(b), 0.2)
    np.testing.assert_allclose(found, (rows + columns) / 2, rtol=1e-4)
    np.testing.assert_allclose(capable_start.info_nce(jnp.asarray(3 * a), jnp.asarray(b), 0.2), found, rtol=1e-4)
    dead = capable_start.info_nce(jnp.zeros((5, 7)), jnp.zeros((5, 7)), 0.2)
    np.testing.assert_allclose(dead, np.log(5), rtol=1e-5)


def test_a_view_hides_so_many_pixels_and_is_another_with_another_key():
    images = jnp.full((200, 64), -1.0)
    seen, hidden = capable_start.hide(jax.random.key(0), images, 0.3)
    np.testing.assert_array_equal(seen, np.where(np.asarray(hidden) == 1, 0, -1))
    assert float(hidden.mean()) == pytest.approx(0.3, abs=0.02)
    a, b = (capable_start.view(jax.random.key(seed), images[0], PROTOCOL) for seed in (0, 1))
    assert not np.array_equal(a, b)


def test_the_readings_are_those_of_the_teachers_displacement(table):
    start = jax.jit(lambda seed: begin(PROTOCOL, RATES, SPLIT, seed))(jnp.int32(1))
    d = jax.tree.map(jnp.subtract, start.teacher.params, start.reference)
    squares = [sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(each)) for each in (d, start.reference)]
    found = table.sel(seed=1, start="random")
    assert float(found["displacement_size"]) == pytest.approx((squares[0] / squares[1]) ** 0.5, rel=1e-3)

    def outputs(params):
        return NET.apply(params, start.images)[:, NET.auxiliary]

    z, change = jax.jvp(outputs, (start.reference,), (d,))
    p = jax.nn.softmax(z)
    felt = p * change - p * jnp.sum(p * change, axis=1, keepdims=True)  # the Hessian of KL at its minimum
    (product,) = jax.vjp(outputs, start.reference)[1](felt / len(z))
    size = sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(product))
    coefficient = float(jnp.mean(jnp.sum(change * felt, axis=1)))
    assert float(found["transfer_ratio"]) == pytest.approx(coefficient / squares[0], rel=1e-3)
    assert float(found["coverage"]) == pytest.approx(coefficient / (squares[0] * size) ** 0.5, rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pretraining_epochs": 0}, "pretraining_epochs must be .*0"),
        ({"hidden": ()}, "hidden must have at least one layer"),
        ({"hidden_pixels": 1.0}, r"hidden_pixels must lie in \(0, 1\), got 1"),
        ({"view_noise": -1.0}, "view_noise must be finite and not negative, got -1"),
        ({"view_temperature": 0.0}, "view_temperature must be positive and finite, got 0"),
        ({"crossed": ("frozen",)}, "unknown start 'frozen'"),
    ],
)
def test_bad_settings_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        points(capable_start.EXPERIMENT, SETTINGS.but(**changes), "smoke")
