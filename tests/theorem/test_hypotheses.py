"""The hypotheses on the imitation loss: the losses that serve pass, constructed violations fail the right check.

Each witness is evaluated again here, from the loss alone: it must show the failure.
"""

import functools
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from instances import LOSSES

from sublim_theory import losses
from sublim_theory.theorem import HypothesisError, check_loss
from sublim_theory.theorem.hypotheses import offset_loss, turning_loss

OUTPUTS = np.random.default_rng(0).normal(size=(16, 5))

MINIMUM, SEMI_DEFINITE, CONSTANT, GRADIENTS = NAMES = (
    "minimum at z = y",
    "M is positive semi-definite",
    "the null space of M is constant",
    "gradients are orthogonal to the null space",
)

SERVE = LOSSES | {
    "kl, T=0.5": partial(losses.kl_divergence, temperature=0.5),
    "cross-entropy, T=5": partial(losses.soft_cross_entropy, temperature=5.0),
    "huber, delta=0.1": partial(losses.huber, delta=0.1),
    "cross-entropy on two logits": losses.on_logits(losses.soft_cross_entropy, slice(0, 2)),
    "one logit and a softmax": losses.on_logits(losses.kl_divergence, slice(2, 3)),
    "squares with a weight of zero": partial(losses.squared_error, weights=(1.0, 0.0, 2.0, 0.0, 1.0)),
    "squares of differences": lambda z, y: jnp.sum(jnp.square(jnp.diff(z - y)), axis=-1),
    "squares, deaf to the labels' gradient": lambda z, y: losses.squared_error(z, jax.lax.stop_gradient(y)),
    "kl, deaf to the labels' gradient": lambda z, y: losses.kl_divergence(z, jax.lax.stop_gradient(y)),
    "nothing": lambda z, y: jnp.sum(0 * z * y, axis=-1),
}


def tilted(z, y):
    """A slope at z = y and nothing else wrong."""
    return losses.squared_error(z, y) + 0.1 * jnp.sum(z, axis=-1)


def maximum(z, y):
    return -losses.squared_error(z, y)


def saddle(z, y):
    return jnp.sum(jnp.square(z - y) * jnp.array([[1.0, 1.0, 1.0, 1.0, -1.0]], z.dtype), axis=-1)


def quartic(z, y):
    """A minimum so flat that M = 0 everywhere, while the gradient is not."""
    return jnp.sum((z - y) ** 4, axis=-1)


FAIL = {
    "tilted": (tilted, {MINIMUM}),
    "offset": (offset_loss, {MINIMUM}),
    "maximum": (maximum, {MINIMUM, SEMI_DEFINITE}),
    "saddle": (saddle, {MINIMUM, SEMI_DEFINITE}),
    "turning": (turning_loss, {CONSTANT, GRADIENTS}),
    "quartic": (quartic, {GRADIENTS}),
}


@functools.cache
def checked(loss):
    return check_loss(loss, OUTPUTS)


failing = pytest.mark.parametrize(("loss", "expected"), FAIL.values(), ids=FAIL)


@pytest.mark.parametrize("loss", SERVE.values(), ids=SERVE)
def test_loss_that_serves_passes_every_check(loss):
    hypotheses = checked(loss)
    assert hypotheses.hold
    assert hypotheses.failing == ()
    assert tuple(check.name for check in hypotheses.checks) == NAMES
    assert all(check.size <= 1e-12 and check.witness == {} for check in hypotheses.checks)
    hypotheses.require()


@pytest.mark.parametrize("name", losses.IMITATION)
def test_every_loss_of_the_library_passes_on_outputs_of_another_width_and_size(name):
    rng = np.random.default_rng(1)
    for scale in 3.0, 0.01:
        check_loss(losses.imitation(name), scale * rng.normal(size=(16, 2))).require()


@failing
def test_violation_fails_the_right_checks_and_no_other(loss, expected):
    hypotheses = checked(loss)
    assert not hypotheses.hold
    assert {check.name for check in hypotheses.failing} == expected
    for check in hypotheses.checks:
        assert bool(check.witness) == (not check.holds)
        assert check.holds == (check.size <= 1e-9)


@failing
def test_error_names_the_first_failure_and_its_witness(loss, expected):
    first = next(name for name in NAMES if name in expected)
    with pytest.raises(HypothesisError) as caught:
        checked(loss).require()
    assert repr(first) in str(caught.value)
    assert "[" in str(caught.value)
    assert isinstance(caught.value, AssertionError)


def projection_onto_the_null_space(m):
    _, singular, vectors = np.linalg.svd(m)
    null = vectors[singular <= 1e-9 * max(singular.max(), 1e-300)] if singular.any() else np.eye(len(m))
    return null.T @ null


@pytest.fixture
def x64():
    """For one test only: another looks at the setting."""
    with jax.enable_x64(True):
        yield


@failing
@pytest.mark.usefixtures("x64")
def test_witness_shows_the_failure_again(loss, expected):
    def one(z, y):
        return loss(z[None], y[None])[0]

    gradient = jax.grad(one)

    def m(y):
        return np.asarray(jax.hessian(one)(y, y))

    def show_minimum(z, y):
        assert one(z, y) < one(y, y) or np.abs(gradient(y, y)).max() > 0.01

    def show_semi_definite(y):
        assert np.linalg.eigvalsh(m(y)).min() < -0.1

    def show_constant(y, another):
        here, there = (projection_onto_the_null_space(m(label)) for label in (y, another))
        assert np.abs(here - there).max() > 0.1

    def show_gradients(y, z, label):
        assert np.abs(projection_onto_the_null_space(m(y)) @ gradient(z, label)).max() > 0.1

    show = {
        MINIMUM: (show_minimum, ("student outputs", "label")),
        SEMI_DEFINITE: (show_semi_definite, ("label",)),
        CONSTANT: (show_constant, ("label", "another label")),
        GRADIENTS: (show_gradients, ("null space at", "student outputs", "label")),
    }
    for check in checked(loss).failing:
        function, names = show[check.name]
        assert set(check.witness) == set(names)
        points = [jnp.asarray(check.witness[name]) for name in names]
        if check.name != MINIMUM:  # whose witness lies on the way from one output to another
            assert all(any(np.array_equal(point, row) for row in OUTPUTS) for point in points)
        function(*points)
    # The negative control of this test: the same points show nothing for a loss that serves.
    assert not expected & {check.name for check in checked(losses.squared_error).failing}


def test_violation_at_a_single_sample_is_found():
    """A hypothesis that fails in a small region fails; outside it, the loss passes."""

    def loss(z, y):
        return losses.squared_error(z, y) + jnp.sum(jnp.where(y > 50, z - y, 0), axis=-1)

    assert check_loss(loss, OUTPUTS).hold
    beyond = np.concatenate([OUTPUTS[1:], [[60.0, 0, 0, 0, 0]]])
    (check,) = check_loss(loss, beyond).failing
    assert check.name == MINIMUM
    assert check.witness["label"] == [60.0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    "outputs",
    [
        np.ones(3),
        np.ones((1, 3)),
        np.ones((3, 0)),
        np.ones((2, 2, 2)),
        np.full((2, 2), np.nan),
        np.ones((0, 3)),
    ],
    ids=["a vector", "one sample", "no outputs", "three axes", "nan", "empty"],
)
def test_outputs_that_are_no_samples_are_refused(outputs):
    with pytest.raises(ValueError, match="outputs must be finite"):
        check_loss(losses.squared_error, outputs)


def test_result_is_strict_json():
    for loss in losses.squared_error, turning_loss:
        plain = json.loads(json.dumps(checked(loss).to_dict(), allow_nan=False))
        assert [check["name"] for check in plain["checks"]] == list(NAMES)
        assert plain["hold"] == all(check["holds"] for check in plain["checks"])


def test_check_is_in_float64_from_float32_outputs_and_leaves_the_setting_alone():
    assert not jax.config.jax_enable_x64
    hypotheses = check_loss(losses.kl_divergence, OUTPUTS.astype(np.float32))
    assert max(check.size for check in hypotheses.checks) < 1e-12
    assert not jax.config.jax_enable_x64
