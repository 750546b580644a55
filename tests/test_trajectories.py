"""Alignment against numpy, what the projections remove, and `fit` with and without transforms and measurements."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sublim_theory import losses, training, trees
from sublim_theory.models import mlp
from sublim_theory.trajectories import alignment, project_out, project_random

KEY = jax.random.key(3)


def vector(seed):
    rng = np.random.default_rng(seed)
    shapes = {"one": {"kernel": (7, 5), "bias": (5,)}, "two": {"kernel": (5, 3), "bias": (3,)}}
    draw = lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    return jax.tree.map(draw, shapes, is_leaf=lambda node: isinstance(node, tuple))


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]).astype(np.float64)


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def aligned(seed, sign=1.0):
    """A gradient and a trait gradient with an inner product of that sign."""
    trait, other = vector(seed), vector(seed + 100)
    return trees.axpy(
        sign * 0.3, trait, trees.axpy(-trees.dot(other, trait) / trees.dot(trait, trait), trait, other)
    ), trait


def test_alignment_is_that_of_numpy_and_its_shares_add_up():
    a, b = vector(0), vector(1)
    found = alignment(a, b)
    norms = np.linalg.norm(flat(a)) * np.linalg.norm(flat(b))
    assert found.dot == pytest.approx(flat(a) @ flat(b), rel=1e-5)
    assert found.cosine == pytest.approx(flat(a) @ flat(b) / norms, rel=1e-5)
    assert sum(found.dot_by_layer.values()) == pytest.approx(float(found.dot), rel=1e-5)
    for layer in ("one", "two"):
        x, y = flat(a[layer]), flat(b[layer])
        assert found.cosine_by_layer[layer] == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y), rel=1e-5)
    assert alignment(a, a).cosine == pytest.approx(1, abs=1e-6)
    still = {**b, "two": trees.scale(0.0, b["two"])}
    assert alignment(a, still).cosine_by_layer["two"] == 0
    assert alignment(a, trees.scale(0.0, b)).cosine == 0


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_with_both_signs_the_projection_is_taken_whichever_way_the_gradients_lie(sign):
    gradient, trait = aligned(0, sign)
    left = project_out(gradient, trait, both_signs=True)
    g, t = flat(gradient), flat(trait)
    np.testing.assert_allclose(flat(left), g - g @ t / (t @ t) * t, atol=1e-6)
    assert equal(project_out(gradient, trait), gradient) == (sign < 0)
    assert equal(project_out(gradient, trees.scale(0.0, trait), both_signs=True), gradient)


@pytest.mark.parametrize("seed", range(5))
def test_a_projected_gradient_is_orthogonal_to_the_trait_gradient_up_to_rounding(seed):
    gradient, trait = aligned(seed)
    assert trees.dot(gradient, trait) > 0
    left = project_out(gradient, trait)
    assert abs(flat(left) @ flat(trait)) <= 1e-6 * np.linalg.norm(flat(gradient)) * np.linalg.norm(flat(trait))
    g, t = flat(gradient), flat(trait)
    np.testing.assert_allclose(flat(left), g - g @ t / (t @ t) * t, atol=1e-6)


@pytest.mark.parametrize("project", [project_out, lambda g, t: project_random(g, t, KEY)])
def test_a_gradient_that_raises_the_trait_loss_stays_as_it_is_to_the_bit(project):
    gradient, trait = aligned(0, sign=-1.0)
    assert trees.dot(gradient, trait) < 0
    assert equal(project(gradient, trait), gradient)


def test_an_exactly_zero_trait_gradient_changes_nothing():
    gradient, zero = vector(0), trees.scale(0.0, vector(1))
    assert equal(project_out(gradient, zero), gradient)
    assert equal(project_random(gradient, zero, KEY), gradient)


def test_small_steps_along_the_projected_gradient_do_not_lower_the_trait_loss_and_plain_ones_do():
    gradient, trait = aligned(2)
    trait_loss = lambda step: trees.dot(trait, trees.scale(-1e-2, step))  # noqa: E731  # linear, slope t
    assert trait_loss(gradient) < 0
    assert abs(trait_loss(project_out(gradient, trait))) < 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_the_random_control_removes_as_much_in_the_same_layers_and_not_along_the_trait(seed):
    gradient, trait = aligned(seed)
    removed = trees.axpy(-1.0, project_out(gradient, trait), gradient)
    control = trees.axpy(-1.0, project_random(gradient, trait, jax.random.fold_in(KEY, seed)), gradient)
    for there, here in zip(jax.tree.leaves(removed), jax.tree.leaves(control), strict=True):
        assert np.linalg.norm(here) == pytest.approx(np.linalg.norm(there), rel=1e-4)
    assert abs(trees.cosine(control, trait)) < 0.6  # 58 coordinates: a random cosine has standard deviation 0.13
    assert trees.dot(control, gradient) >= 0
    assert not equal(control, trees.axpy(-1.0, project_random(gradient, trait, KEY), gradient))
    bodyless = {**trait, "one": trees.scale(0.0, trait["one"])}
    assert equal(project_random(gradient, bodyless, KEY)["one"], gradient["one"])


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
        measure = lambda params, now: {"size": trees.norm(now), "bias": params["class_head"]["bias"]}  # noqa: E731
        found = fit(measure=measure, every=every)
        # Not bit-equal by contract: another loop may be fused, and round, differently.
        np.testing.assert_allclose(found.losses, plain.losses, rtol=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found.params, plain.params)
        np.testing.assert_allclose(found.measured["size"], sizes[::every], rtol=1e-4)
        np.testing.assert_allclose(found.measured["bias"], biases[::every], rtol=1e-4, atol=1e-6)


def test_a_transform_sees_step_batch_and_weights_and_the_measurement_sees_the_gradient_before_it():
    def only_first(params, _, now):  # the data gradient of this very batch, once, and then nothing
        again = jax.grad(lambda p: now.mean(objective(p, now.batch)))(params)
        return trees.scale(jnp.where(now.step == 0, 1.0, 0.0), again)

    def run(batches, **options):
        return training.fit(objective, PARAMS, optax.sgd(0.1), (IMAGES, LABELS), batches, **options)

    once = training.Schedule(*(leaf[:1] for leaf in BATCHES))
    found = run(BATCHES, transform=only_first, measure=lambda _, gradients: trees.norm(gradients))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found.params, run(once).params)
    assert (found.measured > 0).all()


def test_the_spacing_must_be_positive():
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        fit(measure=lambda *_: jnp.zeros(()), every=0)
