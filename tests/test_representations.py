"""Similarity, probes and displacements against independent computations and their invariances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from sublim_theory.networks import mlp
from sublim_theory.representations import displacements, linear_cka, probe_accuracy, with_head

RNG = np.random.default_rng(0)


def activations(examples=40, units=6, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(examples, units)) + rng.normal(size=units), jnp.float32)


def cka_from_kernels(a, b):
    """The definition by centred kernel matrices, [examples, examples], in float64."""
    n = len(a)
    centre = np.eye(n) - np.ones((n, n)) / n
    k, m = (centre @ (x @ x.T) @ centre for x in (np.asarray(a, np.float64), np.asarray(b, np.float64)))
    return np.sum(k * m) / np.sqrt(np.sum(k * k) * np.sum(m * m))


def test_cka_is_that_of_the_kernel_matrices():
    a, b = activations(seed=1), activations(units=9, seed=2)
    mixed = jnp.concatenate([a[:, :3], b], axis=1)
    for x, y in ((a, b), (a, mixed), (b, mixed)):
        assert linear_cka(x, y) == pytest.approx(cka_from_kernels(x, y), abs=1e-5)
    assert 0.05 < linear_cka(a, mixed) < 0.95


def test_cka_knows_no_rotation_scale_or_shift_and_no_order():
    a, b = activations(seed=1), activations(units=9, seed=2)
    rotation = jnp.asarray(np.linalg.qr(RNG.normal(size=(6, 6)))[0], jnp.float32)
    expected = float(linear_cka(a, b))
    for changed in (a @ rotation, 1e-6 * a, 1e6 * a, -a, a + 3):
        assert linear_cka(changed, b) == pytest.approx(expected, rel=1e-3)
    assert linear_cka(b, a) == pytest.approx(expected, rel=1e-5)
    assert linear_cka(a, 0.2 * a @ rotation) == pytest.approx(1, abs=1e-5)
    stretched = a * jnp.asarray([[30.0, 1, 1, 1, 1, 1]])  # negative control: it is no invariant of every linear map
    assert linear_cka(a, stretched) < 0.9


def test_cka_needs_the_same_examples_and_a_layer_that_is_the_same_for_every_input_resembles_nothing():
    assert linear_cka(activations(), jnp.ones((40, 3))) == 0
    with pytest.raises(ValueError, match=r"got \(40, 6\) and \(39, 6\)"):
        linear_cka(activations(), activations(39))


def test_the_probe_is_ridge_regression():
    labels = RNG.integers(3, size=240)
    x = RNG.normal(size=(240, 7)) + 1.2 * np.eye(7)[labels] + 5
    train, test = slice(0, 200), slice(200, None)
    variance = np.mean(np.var(x[train], axis=0))
    oracle = Ridge(alpha=0.1 * variance * 200).fit(x[train], np.eye(3)[labels[train]])
    expected = np.mean(np.argmax(oracle.predict(x[test]), axis=1) == labels[test])
    found = probe_accuracy(x[train].astype(np.float32), labels[train], x[test].astype(np.float32), labels[test], 3, 0.1)
    assert found == pytest.approx(expected)
    assert 0.5 < expected < 1


def test_a_probe_of_dead_units_gives_the_most_frequent_class():
    labels = np.array([0, 1, 1, 2, 1])
    assert probe_accuracy(jnp.zeros((5, 4)), labels, jnp.zeros((5, 4)), labels, 3) == pytest.approx(3 / 5)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ridge": np.float32(-1)}, "ridge must be positive and finite, got -1"),
        ({"ridge": jnp.float32(np.nan)}, "ridge must be positive and finite, got nan"),
        ({"classes": np.int64(0)}, "classes must be at least 1, got 0"),
        ({"classes": 3.0}, "classes must be a whole number"),
        ({"train_labels": np.array([0, 3, 1])}, "train_labels must be from 0 to 2, .* got 3 in place 1"),
        ({"test_labels": jnp.array([0, 1, -1])}, "test_labels must be from 0 to 2, .* got -1 in place 2"),
    ],
)
def test_a_probe_names_the_argument_that_is_wrong(changed, message):
    x, labels = jnp.zeros((3, 4)), np.arange(3)
    arguments = {"train": x, "train_labels": labels, "test": x, "test_labels": labels, "classes": 3}
    with pytest.raises(ValueError, match=message):
        probe_accuracy(**arguments | changed)


def test_displacements_have_cosine_1_with_themselves_and_their_size():
    moved = {"a": {"kernel": activations()}, "b": {"kernel": activations(seed=1), "bias": jnp.zeros(3)}}
    same = displacements(moved, moved)
    assert list(same) == ["a", "b"]
    for each in same.values():
        assert each.cosine == pytest.approx(1, abs=1e-6)
        assert each.size == pytest.approx(1, abs=1e-6)
    back = displacements(jax.tree.map(lambda leaf: -0.5 * leaf, moved), moved)["b"]
    assert (back.cosine, back.size) == (pytest.approx(-1, abs=1e-6), pytest.approx(0.5, abs=1e-6))
    zero = jax.tree.map(jnp.zeros_like, moved)
    assert displacements(moved, zero)["a"] == (0, 0)
    assert displacements(zero, moved)["a"] == (0, 0)


def test_an_exchanged_head_leaves_the_body_and_the_arguments_alone():
    net = mlp(4, (3,), classes=2)
    a, b = (jax.eval_shape(net.init, jax.random.key(seed)) for seed in (0, 1))
    mixed = with_head(a, b)
    assert mixed["class_head"] is b["class_head"]
    assert all(mixed[layer] is a[layer] for layer in ("hidden_0", "auxiliary_head"))
    assert a["class_head"] is not b["class_head"]
