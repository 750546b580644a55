"""Distances between initialisations: where the students start, and what the theorem predicts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from experiments import init_distance, starts
from experiments.distillation import Start
from sublim_theory import data, losses, networks
from sublim_theory.ensemble import seed_key, stream
from sublim_theory.theorem import Instance, sigma_star
from sublim_theory.training import Fit

SETTINGS = small.settings("init_distance").but(hidden=(48, 32))
PROTOCOL, RATES = SETTINGS.protocol, SETTINGS.rates
SPLIT = PROTOCOL.select(data.load("digits"))
NET = PROTOCOL.make_network(RATES, SPLIT)


def same(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


@pytest.fixture(scope="module")
def start():
    """A seed's start without its teacher, which no start depends on."""
    reference, other = map(jax.jit(NET.init), jax.random.split(jax.random.key(0)))
    images = jax.random.uniform(jax.random.key(1), (600, NET.features), minval=-1)
    return Start(seed_key(0), reference, other, Fit(None, None), images, None)


@pytest.mark.parametrize("way", init_distance.WAYS)
@pytest.mark.parametrize("part", init_distance.PARTS)
def test_a_part_is_moved_and_everything_else_is_the_reference_bit_for_bit(start, way, part):
    params = starts.moved(NET, start, way, part, 0.3)
    assert list(params) == list(start.reference)
    for layer, values in params.items():
        kernels = values["kernel"], start.reference[layer]["kernel"]
        assert same(*kernels) != (layer in NET.layers(part))
        assert not values["bias"].any(), "biases are 0 at the start, by either way"


@pytest.mark.parametrize("distance", [0.1, 0.5, 1.0])
def test_interpolation_keeps_the_variance_and_a_perturbation_adds_to_it(start, distance):
    for way, expected in {"interpolated": 1.0, "perturbed": 1 + distance**2}.items():
        params = starts.moved(NET, start, way, "all", distance)
        for layer in NET.layers("body"):
            before, after = (jnp.mean(jnp.square(each[layer]["kernel"])) for each in (start.reference, params))
            assert after / before == pytest.approx(expected, abs=0.12)  # 1536 weights a layer


def test_the_distance_is_the_one_that_was_asked_for(start):
    other = starts.moved(NET, start, "interpolated", "all", 1.0)
    assert same(other, start.other)
    for way in init_distance.WAYS:
        assert same(starts.moved(NET, start, way, "all", 0.0), start.reference)
        params = starts.moved(NET, start, way, "all", 0.1)
        for layer, values in params.items():
            before = start.reference[layer]["kernel"]
            moved = starts.root_mean_square(values["kernel"] - before)
            assert moved / starts.root_mean_square(before) == pytest.approx(0.1, rel=0.3)


def test_the_prediction_is_sigma_star_of_the_theorem_in_float64(start):
    """Weights of one common scale, so that noise in proportion to it is isotropic; no biases, which have none."""
    smooth = SETTINGS.but(bias=False, activation="tanh")
    net = smooth.protocol.make_network(smooth.rates, SPLIT)
    params = jax.jit(net.init)(stream(seed_key(3), "init"))
    params = jax.tree.map(lambda w: 0.1 * w / starts.root_mean_square(w), params)
    update = jax.tree.map(lambda w: 0.01 * jnp.cos(jnp.arange(w.size, dtype=w.dtype)).reshape(w.shape), params)
    teacher = Fit(jax.tree.map(jnp.add, params, update), None)
    here = start._replace(reference=params, teacher=teacher)
    loss = losses.on_logits(losses.kl_divergence, net.auxiliary)
    found = jax.jit(lambda here: starts.sigma_star_relative(net, here, loss, init_distance.PARTS))(here)
    found = {part: float(distance) for part, distance in found.items()}
    assert set(found) == {"all", "hidden", "auxiliary_head"}
    assert 1 / found["all"] ** 2 == pytest.approx(1 / found["hidden"] ** 2 + 1 / found["auxiliary_head"] ** 2, rel=1e-4)

    wide = jax.tree.map(np.float64, (params, update))
    size = {"hidden": PROTOCOL.hidden, "activation": "tanh", "bias": False}
    net64 = networks.mlp(NET.features, **size, dtype="float64")
    instance = Instance(
        net64.apply,
        wide[0],
        lambda theta: -sum(jnp.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, (theta, wide[1])), strict=True)),
        np.asarray(start.images[: starts.INPUTS]),
        logits=net64.auxiliary,
    )
    assert found["all"] == pytest.approx(sigma_star(instance, epsilon=1.0) / 0.1, rel=1e-3)
