"""Certificates of hundreds of networks, of large ones and of lies, against dense sampling and the second checker."""

import itertools

import numpy as np
import pytest
from scipy import special

from sublim_theory.theorem.certificates.alignment import certify

pytestmark = [pytest.mark.endurance, pytest.mark.timeout(3600)]

ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": special.expit,
    "gelu": lambda x: x * special.ndtr(x),
}
CHOSEN = slice(2, None)

every = pytest.mark.parametrize(
    ("name", "loss"), list(itertools.product(ACTIVATIONS, ("kl", "squared_error"))), ids=lambda each: each
)


def outputs(layers, direction, name, x, eps):
    """[epsilons, inputs, outputs] at theta + eps d."""
    eps, h = np.reshape(eps, (-1, 1, 1)), x[None]
    for i, ((w, b), (dw, db)) in enumerate(zip(layers, direction, strict=True)):
        h = h @ w + eps * (h @ dw) + b + eps * db
        h = ACTIVATIONS[name](h) if i + 1 < len(layers) else h
    return h[..., CHOSEN]


def phi(layers, direction, name, x, loss, eps, labels=None):
    """At each eps; the derivative of the outputs is a difference of the fourth order, along the line."""
    link = (lambda y: special.softmax(y, axis=-1)) if loss == "kl" else (lambda y: 2 * y)
    step = 1e-4
    far_below, below, z, above, far_above = outputs(layers, direction, name, x, step * np.arange(-2, 3))
    v = (8 * (above - below) - (far_above - far_below)) / (12 * step)
    found = [
        np.mean(np.sum((link(outputs(*(labels or (layers, direction)), name, x, part)) - link(z)) * v, -1), -1)
        for part in np.array_split(np.asarray(eps), max(1, len(eps) // 256))
    ]
    return np.concatenate(found)


def first_change(function, until):
    """The last sampled eps before the first value that is not positive; `until` if there is none."""
    low, high = 0.0, until
    grid = np.concatenate([np.geomspace(1e-6, 1e-2, 256, endpoint=False), np.linspace(1e-2, until, 3840)])
    for zoom in range(4):
        wrong = np.flatnonzero(function(grid) <= 0)
        if not len(wrong):
            return until if not zoom else high
        low, high = (grid[wrong[0] - 1] if wrong[0] else low), grid[wrong[0]]
        grid = np.linspace(low, high, 1025)[1:]
    return low


def network(sizes, seed, count=20):
    """Weights, a direction that is the gradient of nothing in particular, of the size of one, and inputs."""
    random = np.random.default_rng(seed)

    def draw(weight, bias):
        return [
            (weight * random.normal(size=(a, b)) / np.sqrt(a), bias * random.normal(size=b))
            for a, b in itertools.pairwise(sizes)
        ]

    return draw(1.0, 0.1), draw(0.1, 0.1), random.normal(size=(count, sizes[0]))


@every
def test_fifty_networks(name, loss):
    changes = 0
    for seed in range(50):
        layers, direction, x = network((6, 8, 8, 5), seed)
        found = certify(layers, name, direction, x, imitation_loss=loss, logits=CHOSEN, until=100.0)
        change = first_change(lambda eps, at=(layers, direction, x): phi(at[0], at[1], name, at[2], loss, eps), 100.0)
        assert 0.999 * change <= found.certified <= change * (1 + 1e-5)
        changes += change < 100
        assert (found.refuted is not None) == (change < 100)
        assert found.refuted is None or found.refuted <= 1.001 * change
        verdict = found.check(points=1000, seed=seed)
        assert verdict.holds
        assert verdict.points == 1000
    assert changes


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_larger_network(name):
    layers, direction, x = network((64, 64, 64, 10), 0, 50)
    found = certify(layers, name, direction, x, logits=CHOSEN, until=100.0)
    change = first_change(lambda eps: phi(layers, direction, name, x, "kl", eps), 100.0)
    assert 0.999 * change <= found.certified <= change * (1 + 1e-5)
    assert found.check(points=20).holds


def lie(kind, random, layers, direction):
    """The network that really labels."""
    weights, d = ([(w.copy(), b.copy()) for w, b in each] for each in (layers, direction))
    layer = int(random.integers(len(weights)))
    place = tuple(
        int(random.integers(CHOSEN.start if axis and layer == 2 else 0, n))
        for axis, n in enumerate(weights[layer][0].shape)
    )
    if kind == "another start":
        weights[layer][0][place] += 0.5
    elif kind == "another direction":
        d[layer][0][place] -= 2 * np.sqrt(sum(np.sum(w**2) + np.sum(b**2) for w, b in d)) * np.sign(d[layer][0][place])
    else:
        d = [(-w, -b) for w, b in d]
    return weights, d


@every
@pytest.mark.parametrize("kind", ["the opposite direction", "another start", "another direction"])
def test_no_lie_is_certified(name, loss, kind):
    """21 of each kind, activation and loss: 504 in all."""
    untrue = 0
    for seed in range(21):
        layers, direction, x = network((6, 8, 8, 5), seed)
        labels = lie(kind, np.random.default_rng(1000 + seed), layers, direction)
        found = certify(layers, name, direction, x, imitation_loss=loss, logits=CHOSEN, labels_from=labels, until=10.0)
        change = first_change(
            lambda eps, at=(layers, direction, x), to=labels: phi(*at[:2], name, at[2], loss, eps, to), 10.0
        )
        untrue += change == 0
        assert found.certified <= change * (1 + 1e-5) + 1e-6
        assert found.check(points=20).holds
    assert untrue or kind == "another direction"
