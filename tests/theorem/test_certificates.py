"""Certificates of Lemma 1 against dense sampling in float64, hand-computed changes of sign, and lies.

No oracle here uses the certificates' own arithmetic: networks are plain numpy, changes of sign are formulas or roots.
"""

import dataclasses
import functools
import importlib.util
import itertools
import json
import sys

import equinox as eqx
import flint
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from scipy import optimize, special

from sublim_theory.networks import mlp
from sublim_theory.theorem.certificates import checker, precision
from sublim_theory.theorem.certificates.alignment import Certificate, certify

ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": special.expit,
    "gelu": lambda x: x * special.ndtr(x),
    "identity": lambda x: x,
}
SLOPES = {
    "relu": lambda x: (x > 0) * 1.0,
    "tanh": lambda x: 1 - np.tanh(x) ** 2,
    "sigmoid": lambda x: special.expit(x) * special.expit(-x),
    "gelu": lambda x: special.ndtr(x) + x * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi),
    "identity": np.ones_like,
}


def outputs(layers, direction, activation, x, eps):
    """At theta + eps d, and the derivative in eps."""
    h, moved = x, np.zeros_like(x)
    for (w, b), (dw, db) in zip(layers, direction, strict=True):
        z, slope = h @ (w + eps * dw) + b + eps * db, moved @ (w + eps * dw) + h @ dw + db
        h, moved = ACTIVATIONS[activation](z), SLOPES[activation](z) * slope
    return z, slope


def sampled(layers, direction, activation, x, loss, eps, chosen=slice(None), labels=None):
    """phi at each eps."""
    z, v = (each[:, chosen] for each in outputs(layers, direction, activation, x, 0.0))
    link = (lambda y: special.softmax(y, axis=1)) if loss != "squared_error" else (lambda y: 2 * y)
    moved = [outputs(*(labels or (layers, direction)), activation, x, e)[0][:, chosen] for e in eps]
    return np.array([np.mean(np.sum((link(y) - link(z)) * v, 1)) for y in moved])


def network(seed, widths=(3, 4, 4, 3), scale=1.0, count=5):
    random = np.random.default_rng(seed)

    def draw(size):
        return [
            (random.normal(size=(a, b)) / np.sqrt(a), size * random.normal(size=b))
            for a, b in itertools.pairwise(widths)
        ]

    layers, direction = draw(0.1), draw(0.3)
    return layers, [(scale * w, scale * b) for w, b in direction], random.normal(size=(count, widths[0]))


def first_change(function, until):
    """The last sampled eps before the first value that is not positive; `until` if there is none."""
    low, high = 0.0, until
    for zoom in range(3):
        grid = np.linspace(low, high, 401)[1:]
        wrong = np.flatnonzero(function(grid) <= 0)
        if not len(wrong):
            return until if not zoom else low
        low, high = (grid[wrong[0] - 1] if wrong[0] else low), grid[wrong[0]]
    return low


CASES = [(name, loss, i % 2) for i, name in enumerate(ACTIVATIONS) for loss in ("kl", "squared_error")]


@functools.cache
def change_of(name, loss, seed):
    layers, direction, x = network(seed)
    return first_change(lambda e: sampled(layers, direction, name, x, loss, e), 20.0)


@pytest.mark.parametrize(("name", "loss", "seed"), CASES)
def test_no_sample_contradicts_it_and_it_goes_as_far_as_samples_do(name, loss, seed):
    layers, direction, x = network(seed)
    found = certify(layers, name, direction, x, imitation_loss=loss, until=20.0)
    change = change_of(name, loss, seed)
    assert 0.999 * change <= found.certified <= change * (1 + 1e-6)
    if change == 20.0:
        assert (found.certified, found.refuted, found.stopped) == (20.0, None, "until")
    else:
        assert found.certified < found.refuted < 1.001 * change
        assert sampled(layers, direction, name, x, loss, [found.refuted]) < 0
    verdict = found.check(points=20)
    assert verdict.holds
    assert (all(verdict.proved), len(verdict.proved), verdict.points) == (True, len(found.intervals), 20)


def test_the_cases_above_have_changes_of_sign_and_none():
    changes = [change_of(*case) < 20.0 for case in CASES]
    assert 2 <= sum(changes) <= len(changes) - 2


# Changes of sign that are formulas


def product_network(outputs=1):
    """`(1 + e)(1 - e / 4)` on the input 1: `phi = 2 v (v e - e**2 / 4)`, v = 3/4, which changes sign at 3."""
    layers = [(np.ones((1, 1)), np.zeros(1)), (np.eye(1, outputs), np.zeros(outputs))]
    direction = [(np.ones((1, 1)), np.zeros(1)), (-0.25 * np.eye(1, outputs), np.zeros(outputs))]
    return layers, direction, np.ones((1, 1))


@pytest.mark.parametrize(("loss", "count"), [("squared_error", 1), ("kl", 2), ("cross_entropy", 3)])
def test_a_polynomial_changes_sign_where_its_root_is(loss, count):
    """Under a softmax too: it increases in the one logit that moves."""
    layers, direction, x = product_network(count)
    found = certify(layers, "identity", direction, x, imitation_loss=loss)
    assert 3 * (1 - 2e-5) < found.certified <= 3 < found.refuted < 3 * (1 + 1e-4)
    assert found.intervals[0].low == 0.0
    assert found.intervals[-1].high == found.certified
    assert all(a.high == b.low for a, b in itertools.pairwise(found.intervals))


def test_a_tolerance_encloses_the_root_closer():
    layers, direction, x = product_network()
    found = certify(layers, "identity", direction, x, imitation_loss="squared_error", tolerance=1e-10)
    assert 3 * (1 - 2e-10) < found.certified <= 3 < found.refuted < 3 * (1 + 1e-9)


def hidden_unit(bias, weight=1.0):
    """`weight sigma(bias + e)`."""
    layers = [(np.zeros((1, 1)), np.array([bias])), (np.array([[weight]]), np.zeros(1))]
    direction = [(np.zeros((1, 1)), np.ones(1)), (np.zeros((1, 1)), np.zeros(1))]
    return layers, direction, np.ones((1, 1))


def test_gelu_comes_back_to_its_value_where_a_root_says():
    """It falls from -2 on, to its minimum, and phi is positive until it has its first value again."""
    layers, direction, x = hidden_unit(-2.0)
    gelu = ACTIVATIONS["gelu"]
    root = optimize.brentq(lambda e: gelu(-2 + e) - gelu(-2), 1.0, 2.0, xtol=1e-15) if gelu(-1.0) < gelu(-2.0) else None
    found = certify(layers, "gelu", direction, x, imitation_loss="squared_error")
    assert root * (1 - 2e-5) < found.certified <= root * (1 + 1e-12) < found.refuted < root * (1 + 1e-4)


def test_a_kink_that_turns_the_output_back():
    """`relu(1 + e) - 3 relu(e - 1)`: v = 1, and `e - 3 (e - 1)` is 0 at 3/2."""
    layers = [(np.zeros((1, 2)), np.array([1.0, -1.0])), (np.array([[1.0], [-3.0]]), np.zeros(1))]
    direction = [(np.zeros((1, 2)), np.ones(2)), (np.zeros((2, 1)), np.zeros(1))]
    found = certify(layers, "relu", direction, np.ones((1, 1)), imitation_loss="squared_error")
    assert 1.5 * (1 - 2e-5) < found.certified <= 1.5 < found.refuted < 1.5 * (1 + 1e-4)
    assert found.check(points=50).holds


@pytest.mark.parametrize(("weight", "certified"), [(-2.0, 0.0), (2.0, 100.0), (-0.5, 100.0)])
def test_a_unit_exactly_on_its_kink_counts_as_off_and_may_switch_on(weight, certified):
    """`c + weight relu(b)` at b = c = 0 with d = 1 in both: v = 1, while the output moves by `e (1 + weight)`."""
    layers = [(np.zeros((1, 1)), np.zeros(1)), (np.array([[weight]]), np.zeros(1))]
    direction = [(np.zeros((1, 1)), np.ones(1)), (np.zeros((1, 1)), np.ones(1))]
    found = certify(layers, "relu", direction, np.zeros((3, 1)), imitation_loss="squared_error")
    # Near the kink all that is used of the unit is that its slope is in [0, 1].
    assert found.certified == certified
    assert (found.refuted is None) == bool(certified)
    assert found.check(points=20).holds


def test_output_weights_weigh():
    """Two outputs whose changes are `3 e - e**2` and `e`: with the second off the sign changes at 3."""
    layers, direction, x = product_network(2)
    layers[1][0][0, 1], direction[1][0][0, 1] = 0.0, 1.0
    both = certify(layers, "identity", direction, x, imitation_loss="squared_error")
    one = certify(layers, "identity", direction, x, imitation_loss="squared_error", output_weights=[1.0, 0.0])
    chosen = certify(layers, "identity", direction, x, imitation_loss="squared_error", logits=[0])
    weighed = certify(layers, "identity", direction, x, imitation_loss="squared_error", output_weights=[2.0, 0.25])
    assert one.intervals == chosen.intervals
    assert one.certified <= 3 < both.certified
    # 2 v_0 (v_0 e - e**2 / 4) + v_1 (e + e**2) / 4 = (9/8 + 1/4) e + (1/4 - 3/8) e**2
    assert weighed.certified == pytest.approx(11.0, rel=1e-4)
    assert weighed.certified <= 11.0
    assert weighed.check(points=20).holds


def test_the_scale_of_the_direction_scales_the_certificate():
    layers, direction, x = product_network()
    for scale in (1e-9, 1e9):
        found = certify(
            layers,
            "identity",
            [(scale * w, b) for w, b in direction],
            x,
            imitation_loss="squared_error",
            until=10 / scale,
        )
        assert found.certified * scale == pytest.approx(3.0, rel=1e-4)
        assert found.certified * scale <= 3 * (1 + 1e-12)


# Nothing to certify


def test_orthogonal_by_structure_is_said():
    layers, direction, x = network(0)
    direction = [(0 * w, 0 * b) for w, b in direction[:-1]] + [
        (direction[-1][0] * [1, 0, 0], direction[-1][1] * [1, 0, 0])
    ]
    for loss, logits in (("kl", slice(1, None)), ("squared_error", [1, 2]), ("kl", [0])):
        found = certify(layers, "tanh", direction, x, imitation_loss=loss, logits=logits)
        assert found.orthogonal
        assert (found.certified, found.refuted, found.intervals) == (0.0, None, ())
        assert "exactly 0 for every eps" in str(found)
        assert found.check().orthogonal


def test_moved_outputs_are_not_orthogonal():
    layers, direction, x = network(0)
    claim = certify(layers, "tanh", direction, x, until=0.01).claim
    assert not checker.check(claim, (), None, orthogonal=True, points=0).holds


def test_weights_that_overflow_prove_nothing():
    layers, direction, x = network(0)
    large = [(1e200 * w, b) for w, b in layers]
    found = certify(large, "identity", direction, x, imitation_loss="squared_error")
    assert not found.certified
    assert not found.orthogonal


# Lies


@pytest.mark.parametrize("name", ["tanh", "relu", "gelu", "sigmoid"])
@pytest.mark.parametrize("loss", ["kl", "squared_error"])
def test_labels_of_the_opposite_direction_are_never_certified(name, loss):
    layers, direction, x = network(3)
    other = [(-w, -b) for w, b in direction]
    found = certify(layers, name, direction, x, imitation_loss=loss, labels_from=(layers, other), until=10.0)
    assert found.certified == 0
    assert found.refuted is not None
    assert found.check(points=0).refuted


@pytest.mark.parametrize("name", ["tanh", "relu", "gelu", "sigmoid"])
@pytest.mark.parametrize("loss", ["kl", "squared_error"])
def test_labels_from_another_start_are_certified_up_to_their_own_change_of_sign(name, loss):
    layers, direction, x = network(4)
    outcomes = set()
    for place in range(2):
        other = [(w.copy(), b.copy()) for w, b in layers]
        other[place % 3][0][0, place % 3] += 0.5 if place % 2 else -0.5
        labels = (other, direction)
        found = certify(layers, name, direction, x, imitation_loss=loss, labels_from=labels, until=4.0)
        change = first_change(lambda e, to=labels: sampled(layers, direction, name, x, loss, e, labels=to), 4.0)
        at_start = sampled(layers, direction, name, x, loss, [0.0], labels=labels)[0]
        assert found.certified <= change * (1 + 1e-6) + 1e-9
        outcomes.add(bool(at_start > 0))
        assert bool(at_start > 0) == (found.certified > 0)  # phi(0) is not 0 here, and it is not taken for 0
        assert found.check(points=10).holds
    assert outcomes


# The second checker


def tampered(found, **changes):
    return dataclasses.replace(found, claim=dataclasses.replace(found.claim, **changes))


def test_checker_finds_what_was_changed():
    layers, direction, x = product_network()
    found = certify(layers, "identity", direction, x, imitation_loss="squared_error")
    assert found.check().holds
    last = found.intervals[-1]
    beyond = (*found.intervals[:-1], last._replace(high=3.01))
    with pytest.raises(checker.CheckError, match=r"phi\(.*\) < 0 is proved"):
        dataclasses.replace(found, intervals=beyond, certified=3.01).check(points=0)
    with pytest.raises(checker.CheckError, match=r"end at .* and not at 3.01"):
        dataclasses.replace(found, certified=3.01).check(points=0)
    with pytest.raises(checker.CheckError, match="does not go on from"):
        dataclasses.replace(found, intervals=found.intervals[:1] + found.intervals[2:]).check(points=0)
    with pytest.raises(checker.CheckError, match=r"phi\(2.0\) > 0 is proved"):
        dataclasses.replace(found, refuted=2.0).check(points=0)
    with pytest.raises(checker.CheckError, match="< 0 is proved"):
        tampered(found, direction=[[[[1.0]], [0.0]], [[[-0.26]], [0.0]]]).check()
    with pytest.raises(checker.CheckError, match="< 0 is proved"):
        tampered(found, labels=[found.claim.weights, [[[[-1.0]], [0.0]], [[[-0.25]], [0.0]]]]).check()
    with pytest.raises(checker.CheckError, match="< 0 is proved"):
        tampered(found, weights=[[[[1.0]], [0.0]], [[[0.9]], [0.0]]]).check()


def test_random_points_alone_find_what_was_changed():
    layers, direction, x = product_network()
    claim = certify(layers, "identity", direction, x, imitation_loss="squared_error").claim
    verdict = checker.check(claim, [(0.0, 3.001)], None, points=300, evaluations=0)
    assert verdict.contradictions
    assert not verdict.holds
    assert not checker.check(claim, [(0.0, 2.9)], None, points=0, evaluations=1).holds  # not proved, and not refuted


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_slopes_of_the_checker_enclose_differences(name):
    layers, direction, x = network(5)
    claim = certify(layers, name, direction, x, until=1.0).claim
    eps = np.linspace(0.3, 0.8, 41)
    values = sampled(layers, direction, name, x, "kl", eps)
    with checker.flint_at(64):
        slope = checker._Phi(claim).slope(flint.arb(0.3).union(flint.arb(0.8)))
        exact = [float(checker._Phi(claim).value(e)) for e in eps[::20]]
    steps = np.diff(values) / np.diff(eps)
    assert float(slope.lower()) <= steps.min()
    assert steps.max() <= float(slope.upper())
    np.testing.assert_allclose(exact, values[::20], rtol=1e-9, atol=1e-13)


# Words, files, settings


def test_words_and_files():
    layers, direction, x = product_network()
    found = certify(layers, "identity", direction, x, imitation_loss="squared_error")
    words = str(found)
    assert f"every eps in (0, {found.certified!r}]" in words
    assert f"proved negative at eps = {found.refuted!r}" in words
    assert "not about a run that rounds" in words
    again = Certificate.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again == found
    assert again.check(points=10).holds
    assert "as far as was asked" in str(
        certify(layers, "identity", direction, x, imitation_loss="squared_error", until=1.0)
    )


def test_flint_is_left_as_it_was_and_its_settings_do_not_matter():
    layers, direction, x = network(1)
    found = certify(layers, "tanh", direction, x, until=1.0)
    before = flint.ctx.prec, flint.ctx.cap
    try:
        flint.ctx.prec, flint.ctx.cap = 17, 3
        again = certify(layers, "tanh", direction, x, until=1.0)
        assert again.check(points=10).holds
        assert (flint.ctx.prec, flint.ctx.cap) == (17, 3)
        with pytest.raises(TypeError):
            checker.check(None, (), None)
        assert (flint.ctx.prec, flint.ctx.cap) == (17, 3)
    finally:
        flint.ctx.prec, flint.ctx.cap = before
    assert again == found


def test_numpy_errors_are_left_as_they_were():
    with np.errstate(all="raise"):
        layers, direction, x = network(1, scale=100.0)
        assert certify(layers, "tanh", direction, x, until=1e6).certified > 0
        assert np.geterr()["over"] == "raise"


def test_without_flint_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "flint", None)
    spec = importlib.util.spec_from_file_location("without_flint", precision.__file__)
    with pytest.raises(ImportError, match=r"pip install 'sublim-theory\[certificates\]'"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


# Networks of others


def random_params(net):
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    random = np.random.default_rng(6)
    return jax.tree.map(lambda leaf: (0.5 * random.normal(size=leaf.shape)).astype(np.float32), shapes)


@functools.cache
def seeded():
    net = mlp(3, (4, 4), 2, 2, activation="tanh")
    params = random_params(net)
    names = ["hidden_0", "hidden_1"]
    heads = [params["class_head"], params["auxiliary_head"]]
    last = tuple(np.concatenate([head[part] for head in heads], -1) for part in ("kernel", "bias"))
    return net, params, [*((params[n]["kernel"], params[n]["bias"]) for n in names), last]


def gradient_like(tree):
    random = np.random.default_rng(7)
    return jax.tree.map(lambda leaf: 0.3 * random.normal(size=np.shape(leaf)).astype(np.float32), tree)


X = np.random.default_rng(8).normal(size=(4, 3)).astype(np.float32)


def test_parameters_of_this_library():
    net, params, layers = seeded()
    direction = gradient_like(params)
    last = tuple(
        np.concatenate([direction[h][p] for h in ("class_head", "auxiliary_head")], -1) for p in ("kernel", "bias")
    )
    by_hand = [*((direction[n]["kernel"], direction[n]["bias"]) for n in ("hidden_0", "hidden_1")), last]
    found = certify(params, "tanh", direction, X, logits=net.auxiliary, until=5.0)
    assert found == certify(layers, "tanh", by_hand, X, logits=[2, 3], until=5.0)
    assert found.certified > 0


def test_layers_without_biases():
    net = mlp(3, (4,) * 11, 2, 2, activation="tanh", bias=False)
    params = random_params(net)
    found = certify(params, "tanh", gradient_like(params), X, until=0.01)
    assert [len(b) for _, b in found.claim.weights] == [4] * 12
    assert found.claim.weights[10][0] == params["hidden_10"]["kernel"].tolist()  # not in alphabetic order
    z = outputs([(np.array(w), np.array(b)) for w, b in found.claim.weights], found_direction(found), "tanh", X, 0.0)[0]
    np.testing.assert_allclose(z, net.apply(params, X), rtol=1e-4, atol=1e-6)
    pairs = [(np.array(w), None) for w, _ in found.claim.weights]
    assert certify(pairs, "tanh", found.claim.direction, X, until=0.01) == found


def found_direction(found):
    return [(np.array(w), np.array(b)) for w, b in found.claim.direction]


def test_equinox():
    net = eqx.nn.MLP(3, 2, 4, 2, activation=jnp.tanh, key=jax.random.key(1))
    direction = eqx.filter_grad(lambda n: -jnp.sum(jax.vmap(n)(jnp.asarray(X)) ** 2))(net)
    found = certify(net, None, direction, X, until=0.5)
    weights = [(layer.weight.T, layer.bias) for layer in net.layers]
    by_hand = [(layer.weight.T, layer.bias) for layer in direction.layers]
    assert found == certify(weights, "tanh", by_hand, X, until=0.5)
    assert found.certified > 0
    odd = eqx.nn.MLP(3, 2, 4, 2, activation=jnp.tanh, final_activation=jnp.tanh, key=jax.random.key(1))
    with pytest.raises(ValueError, match="own outputs are not those of its layers"):
        certify(odd, None, direction, X)


def test_flax():
    nets = nnx.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.tanh, nnx.Linear(4, 2, rngs=nnx.Rngs(1)))
    layers = [(np.asarray(nets.layers[i].kernel[...]), np.asarray(nets.layers[i].bias[...])) for i in (0, 2)]
    direction = [(-w, b + 1) for w, b in layers]
    expected = certify(layers, "tanh", direction, X, until=0.5)
    assert certify(nets, None, direction, X, until=0.5) == expected
    assert certify(nnx.state(nets), "tanh", direction, X, until=0.5) == expected
    named = {"params": {f"Dense_{i}": {"kernel": w, "bias": b} for i, (w, b) in enumerate(layers)}}
    assert certify(named, "tanh", direction, X, until=0.5) == expected
    assert (
        certify({"up": named["params"]["Dense_0"], "down": named["params"]["Dense_1"]}, "tanh", direction, X, until=0.5)
        == expected
    )

    class Module(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(2)(jnp.tanh(linen.Dense(4)(x)))

    params = Module().init(jax.random.key(2), X)
    pairs = [(params["params"][f"Dense_{i}"]["kernel"], params["params"][f"Dense_{i}"]["bias"]) for i in range(2)]
    # The outer one was made first: its number is the lower.
    expected = certify(pairs[::-1], "tanh", direction, X, until=0.5)
    assert certify(params, "tanh", direction, X, until=0.5) == expected


def test_teacher_loss_in_place_of_a_direction():
    """The gradient of a sum of squares is twice the weights, whatever container they are in."""
    _, params, layers = seeded()

    def loss(weights):
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(weights))

    expected = certify(layers, "tanh", [(-2 * w, -2 * b) for w, b in layers], X, logits=[2, 3], until=5.0)
    assert certify(layers, "tanh", teacher_loss=loss, inputs=X, logits=[2, 3], until=5.0) == expected
    assert certify(params, "tanh", teacher_loss=loss, inputs=X, logits=[2, 3], until=5.0) == expected
    with pytest.raises(ValueError, match="must return a scalar"):
        certify(layers, "tanh", teacher_loss=lambda p: p[0][1], inputs=X)


def test_batches_change_nothing_but_roundings():
    layers, direction, x = network(0)
    whole, parts = (certify(layers, "tanh", direction, x, until=0.5, batch_size=size) for size in (None, 2))
    assert parts.certified == pytest.approx(whole.certified, rel=1e-6)
    assert len(parts.intervals) == len(whole.intervals)
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        certify(layers, "tanh", direction, x, batch_size=0)


# Errors

L, D, XS = network(0)


def nan(layers):
    return [(w * np.nan, b) for w, b in layers]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: certify(nan(L), "tanh", D, XS), r"weights\[0\] is not finite"),
        (lambda: certify(L, "tanh", nan(D), XS), r"direction\[0\] is not finite"),
        (lambda: certify([], "tanh", D, XS), "weights has no layers"),
        (lambda: certify([L[0], L[0]], "tanh", D, XS), r"weights\[1\] must be \(W \[4, out\]"),
        (lambda: certify(L, "tanh", D[:2], XS), "direction must have the shapes of weights"),
        (lambda: certify("net", "tanh", D, XS), "weights is no network that can be taken apart"),
        (lambda: certify([(np.ones(3), None)], "tanh", D, XS), "must be a matrix"),
        (lambda: certify(L, "swish", D, XS), "unknown activation 'swish'.*relu, tanh, gelu, sigmoid, identity"),
        (lambda: certify(L, jax.nn.gelu, D, XS), "approximate=False"),
        (lambda: certify(L, np.cos, D, XS), "is not known"),
        (lambda: certify(L, None, D, XS), "activation cannot be read off"),
        (lambda: certify(L, "tanh", D, XS, imitation_loss="huber"), "unknown imitation loss .*'huber'.*squared_error"),
        (lambda: certify(L, "tanh", D, XS[:0]), r"inputs must be finite, \[inputs >= 1, 3\]"),
        (lambda: certify(L, "tanh", D, XS[:, :2]), r"inputs must be finite, \[inputs >= 1, 3\]"),
        (lambda: certify(L, "tanh", D), "inputs must be"),
        (lambda: certify(L, "tanh", D, XS, until=0.0), "until must be positive"),
        (lambda: certify(L, "tanh", D, XS, tolerance=-1.0), "tolerance must be positive"),
        (lambda: certify(L, "tanh", D, XS, order=0), "order must be at least 1"),
        (lambda: certify(L, "tanh", D, XS, logits=[5]), "logits .* not among the 3"),
        (lambda: certify(L, "tanh", D, XS, output_weights=[1.0]), "output_weights are of the squared error"),
        (
            lambda: certify(L, "tanh", D, XS, imitation_loss="squared_error", output_weights=[1.0, -1.0, 1.0]),
            "output_weights must be 3",
        ),
        (lambda: certify(L, "tanh", inputs=XS), "either direction or teacher_loss"),
        (lambda: certify(L, "tanh", D, XS, teacher_loss=len), "either direction or teacher_loss"),
        (lambda: certify(L, "tanh", D, XS, labels_from=L), "labels_from must be the tuple"),
        (lambda: certify({"params": {}, "batch_stats": {}}, "tanh", D, XS), "holds batch_stats besides params"),
        (lambda: certify({"conv": {"kernel": np.ones((3, 3, 1, 2))}}, "tanh", D, XS), "must be a matrix"),
        (
            lambda: certify({n: {"kernel": np.eye(3)} for n in ("encode", "decode")}, "tanh", D, XS),
            "the order of the layers encode, decode is not clear",
        ),
        (lambda: certify({"norm": {"scale": np.ones(3)}}, "tanh", D, XS), "no dense layer"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_activations_of_jax_are_known():
    for function, name in (
        (jax.nn.relu, "relu"),
        (jnp.tanh, "tanh"),
        (jax.nn.sigmoid, "sigmoid"),
        (functools.partial(jax.nn.gelu, approximate=False), "gelu"),
    ):
        assert certify(L, function, D, XS, until=0.01).claim.activation == name
