"""`fit` with and without a transform of the gradients and measurements on the way, against loops by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sublim_theory import geometry, losses, training
from sublim_theory.networks import mlp


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]).astype(np.float64)


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


NET = mlp(6, (8,), classes=3, auxiliary=2)
PARAMS = NET.init(jax.random.key(0))
IMAGES = jax.random.normal(jax.random.key(1), (50, 6))
LABELS = jnp.arange(50) % 3
BATCHES = training.schedule(jax.random.key(2), 50, batch_size=16, epochs=3)  # 12 updates


def objective(params, batch):
    return losses.cross_entropy(NET.class_logits(NET.apply(params, batch[0])), batch[1])


def fit(**options):
    return jax.jit(lambda: training.fit(objective, PARAMS, optax.adam(1e-2), (IMAGES, LABELS), BATCHES, **options))()


def plain_scan():
    """The loop of `fit` as it was before it knew of transforms and measurements."""
    adam = optax.adam(1e-2)

    def total(params, batch, weights):
        mean = jnp.sum(weights * objective(params, batch)) / jnp.sum(weights)
        return jnp.sum(jnp.stack([mean])), mean

    def update(carry, now):
        params, state = carry
        batch = IMAGES[now.indices], LABELS[now.indices]
        gradients, mean = jax.grad(total, has_aux=True)(params, batch, now.weights)
        updates, state = adam.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), mean

    (params, _), means = jax.jit(lambda: jax.lax.scan(update, (PARAMS, adam.init(PARAMS)), BATCHES))()
    return params, means


def test_without_options_fit_is_what_it_was_to_the_bit():
    params, means = plain_scan()
    found = fit()
    assert equal(found.params, params)
    assert equal(found.losses, means)
    assert found.measured is None


def path_in_python():
    """Norm of every update's gradient and the class head's bias before it, update by update."""
    adam = optax.adam(1e-2)
    state, params, sizes, biases = adam.init(PARAMS), PARAMS, [], []

    @jax.jit
    def gradient(params, images, labels):
        return jax.grad(lambda p: jnp.mean(objective(p, (images, labels))))(params)

    for indices, weights in zip(*BATCHES, strict=True):
        kept = indices[weights > 0]
        now = gradient(params, IMAGES[kept], LABELS[kept])
        sizes.append(np.linalg.norm(flat(now)))
        biases.append(params["class_head"]["bias"])
        updates, state = adam.update(now, state, params)
        params = optax.apply_updates(params, updates)
    return np.array(sizes), np.array(biases)


def test_measurements_come_every_so_many_updates_and_change_nothing():
    plain, (sizes, biases) = fit(), path_in_python()
    for every in (1, 5, 12, 20):
        measure = lambda params, now: {"size": geometry.norm(now), "bias": params["class_head"]["bias"]}  # noqa: E731
        found = fit(measure=measure, every=every)
        # Not bit-equal by contract: another loop may be fused, and round, differently.
        np.testing.assert_allclose(found.losses, plain.losses, rtol=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found.params, plain.params)
        np.testing.assert_allclose(found.measured["size"], sizes[::every], rtol=1e-4)
        np.testing.assert_allclose(found.measured["bias"], biases[::every], rtol=1e-4, atol=1e-6)


def test_a_transform_sees_step_batch_and_weights_and_the_measurement_sees_the_gradient_before_it():
    def only_first(params, _, now):  # the data gradient of this very batch, once, and then nothing
        again = jax.grad(lambda p: now.mean(objective(p, now.batch)))(params)
        return optax.tree.scale(jnp.where(now.step == 0, 1.0, 0.0), again)

    def run(batches, **options):
        return training.fit(objective, PARAMS, optax.sgd(0.1), (IMAGES, LABELS), batches, **options)

    once = training.Schedule(*(leaf[:1] for leaf in BATCHES))
    found = run(BATCHES, transform=only_first, measure=lambda _, gradients: geometry.norm(gradients))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found.params, run(once).params)
    assert (found.measured > 0).all()


def test_the_spacing_must_be_positive():
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        fit(measure=lambda *_: jnp.zeros(()), every=0)
