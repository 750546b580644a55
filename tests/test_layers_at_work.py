"""Treated layers against numpy, the first step against whole Jacobians and all masks, the plain arm against fig10."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small

from experiments import layers_at_work
from experiments.layers_at_work import TREATMENTS, Treated, Treatment
from sublim_theory import losses, networks, theorem, training
from sublim_theory.networks import ACTIVATIONS

PLAIN, HALF = TREATMENTS["plain"], TREATMENTS["dropout/0.5"]
KL = losses.kl_divergence


def instance(hidden=(6, 5), features=4, images=12, activation="relu"):
    """A treated network whose layers all have biases, two sets of parameters, and inputs."""
    net = networks.mlp(features, hidden, 4, 3, activation, init="torch")
    params, other = (net.init(jax.random.key(k)) for k in (0, 1))
    teacher = jax.tree.map(lambda a, b: a + 0.3 * b, params, other)
    x = jax.random.uniform(jax.random.key(2), (images, features), minval=-1.0)
    return Treated(net, ACTIVATIONS[activation]), params, teacher, x


def by_hand(params, x, *, keep=None, rate=0.0, centred=(), normalised=False, known=None):
    """Logits in numpy, in float64."""
    x, known = np.float64(x), np.ones(len(x), bool) if known is None else known
    for i in range(2):
        layer = {name: np.float64(value) for name, value in params[f"hidden_{i}"].items()}
        x = np.maximum(x @ layer["kernel"] + layer["bias"], 0)
        if keep is not None:
            x = x * keep[i] / (1 - rate)
        if i in centred:
            x = x - x[known].mean(axis=0)
    if normalised:
        x = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
    heads = [params[name] for name in ("class_head", "auxiliary_head")]
    return np.concatenate([x @ np.float64(head["kernel"]) + np.float64(head["bias"]) for head in heads], axis=1)


def test_an_untreated_network_is_the_network_itself():
    treated, params, _, x = instance()
    np.testing.assert_allclose(treated(params, x, PLAIN), treated.net.apply(params, x), rtol=1e-6, atol=1e-6)
    assert treated(params, x, HALF) == pytest.approx(treated(params, x, PLAIN)), "there is no dropout at test"
    without = networks.mlp(4, (6, 5), bias=False)
    params = without.init(jax.random.key(0))
    found = Treated(without, jax.nn.relu)(params, x, PLAIN)
    np.testing.assert_allclose(found, without.apply(params, x), rtol=1e-6, atol=1e-6)


def test_a_treated_network_is_that_of_numpy():
    treated, params, _, x = instance()
    known = np.arange(len(x)) < 9
    draws = treated.draws(params, jax.random.key(3), len(x), HALF)
    keep = [np.asarray(draws[layer]) >= 0.5 for layer in treated.net.body]
    assert 0.3 < np.mean(np.concatenate(keep, axis=1)) < 0.7
    cases = [
        (HALF, {"keep": keep, "rate": 0.5}, {"draws": draws}),
        (TREATMENTS["centred_first"], {"centred": (0,), "known": known}, {"known": known}),
        (TREATMENTS["centred"], {"centred": (1,), "known": known}, {"known": known}),
        (TREATMENTS["centred"], {"centred": (1,)}, {}),
        (TREATMENTS["normalised"], {"normalised": True}, {}),
    ]
    for treatment, ours, options in cases:
        found = treated(params, x, treatment, **options)
        np.testing.assert_allclose(found, by_hand(params, x, **ours), rtol=1e-4, atol=1e-5)
        assert np.abs(found - treated(params, x, PLAIN)).max() > 1e-2, "and it is not that without"


def test_every_update_has_masks_of_its_own_and_padding_is_not_in_the_mean(monkeypatch):
    """Three epochs of 7 images in batches of 3: the last batch of an epoch has one image, and two of padding."""
    treated, params, _, x = instance(images=7)
    seen = []

    apply = Treated.__call__

    def spy(self, params, x, treatment, draws, known):
        jax.debug.callback(lambda *each: seen.append(each), x, draws["hidden_0"], known, ordered=True)
        return apply(self, params, x, treatment, draws, known)

    def loss(logits, targets):
        return jnp.square(logits[:, 0] - targets)

    monkeypatch.setattr(Treated, "__call__", spy)
    batches = training.schedule(jax.random.key(0), 7, batch_size=3, epochs=3)
    targets, key = jnp.arange(7), jax.random.key(1)
    layers_at_work.train(treated, HALF, params, x, targets, loss, optax.sgd(0.1), batches, key)
    jax.effects_barrier()
    assert len(seen) == 9
    assert len(np.unique([draws for _, draws, _ in seen], axis=0)) == 9
    assert [known.sum() for _, _, known in seen] == [3, 3, 1] * 3
    for inputs, weights, rows in zip(seen, batches.weights, batches.indices, strict=True):
        np.testing.assert_array_equal(inputs[2], weights > 0)
        np.testing.assert_array_equal(inputs[0][inputs[2]], x[rows][inputs[2]])


def test_untreated_arms_are_the_students_of_figure_10_and_a_treatment_changes_something(recorded, tiny_record):
    table = recorded("layers_at_work", small.settings("layers_at_work")).table
    ours = table["student_loss"].sel(arm=["plain", "stranger"])
    theirs = tiny_record.table["student_loss"].sel(student=["student_aux", "cross_aux"])[:, :2]
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-6)
    pairs = [("accuracy", {"arm": "plain"}, "student_aux"), ("accuracy", {"arm": "stranger"}, "cross_aux")]
    pairs += [("teacher_accuracy", {"teacher": "plain"}, "teacher"), ("reference", {}, "reference")]
    for variable, place, network in pairs:
        expected = tiny_record.conditions[network].values[:2]
        assert table[variable].sel(place).values == pytest.approx(expected, abs=2.5 / 360), network
    differences = np.abs(table["student_loss"] - table["student_loss"].sel(arm="plain", drop=True)).max(
        ("step", "seed")
    )
    assert set(table["arm"].values[differences.values < 1e-6]) == {"plain"}


def whole(treated, treatment, params, x, draws=None):
    """Auxiliary logits of all images and their Jacobian [images, logits, parameters]."""
    flat, unravel = jax.flatten_util.ravel_pytree(params)

    def outputs(theta):
        return treated.net.auxiliary_logits(treated(unravel(theta), x, treatment, draws))

    return np.float64(outputs(flat)), np.float64(jax.jacrev(outputs)(flat))


def softmax(z):
    return np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)


def steps(student, teacher, reference, moved):
    """G~ D, the drift and the whole step, from logits and Jacobians of student, teacher and the teacher's end."""
    (z, jacobian), (before, its), (after, _) = student, teacher, moved
    p, count = softmax(z), len(z)
    curvature = np.einsum("bi,ij->bij", p, np.eye(3)) - np.einsum("bi,bj->bij", p, p)
    pulls = curvature @ (its @ reference)[..., None], (softmax(before) - p)[..., None], (softmax(after) - p)[..., None]
    return [np.einsum("bip,bi->p", jacobian, pull[..., 0]) / count for pull in pulls]


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def first_step(treated, params, teacher, pair, x, masks=2):
    keys = jax.random.split(jax.random.key(5), masks)
    loss = losses.on_logits(KL, treated.net.auxiliary)
    find = jax.jit(lambda *args: layers_at_work.first_step(treated, loss, *args))
    return find(params, teacher, tuple(Treatment(*map(jnp.asarray, each)) for each in pair), x, keys)


@pytest.mark.parametrize("pair", [("plain", "plain"), ("centred", "plain"), ("plain", "centred"), ("normalised",) * 2])
def test_the_first_step_is_that_of_whole_jacobians(pair):
    treated, params, teacher, x = instance(activation="tanh")
    student, its = (TREATMENTS[name] for name in pair)
    found = first_step(treated, params, teacher, (student, its), x)
    change = np.float64(jax.flatten_util.ravel_pytree(teacher)[0] - jax.flatten_util.ravel_pytree(params)[0])
    theirs = whole(treated, its, params, x), change, whole(treated, its, teacher, x)
    signal, drift, step = steps(whole(treated, student, params, x), *theirs)
    assert found["coverage"] == pytest.approx(cosine(signal, change), rel=1e-3)
    assert found["first_update"] == pytest.approx(cosine(step, change), rel=1e-3)
    assert found["mask_variance"] == pytest.approx(0, abs=1e-5)
    assert found["drift"] == pytest.approx(np.linalg.norm(drift) / np.linalg.norm(signal), rel=1e-3, abs=1e-5)
    if pair[0] == pair[1]:
        assert found["drift"] < 1e-4, "labels of a student that is its own teacher move nothing"
    else:
        assert found["drift"] > 0.05
        assert found["drift_cosine"] == pytest.approx(cosine(drift, change), rel=1e-2, abs=1e-4)


def test_a_plain_arm_reads_as_the_theorem_does():
    treated, params, teacher, x = instance()
    loss, change = losses.on_logits(KL, treated.net.auxiliary), jax.tree.map(jnp.subtract, teacher, params)
    law = theorem.first_order(treated.net.apply, loss, params, change, x)
    found = first_step(treated, params, teacher, (PLAIN, PLAIN), x)
    assert found["coverage"] == pytest.approx(float(law.coverage(change)), rel=1e-4)


def test_the_expectation_over_masks_is_that_over_all_of_them():
    """Of one image, three units, and so eight masks, each as likely."""
    treated, params, teacher, x = instance(hidden=(3,), features=2, images=1, activation="tanh")
    change = np.float64(jax.flatten_util.ravel_pytree(teacher)[0] - jax.flatten_util.ravel_pytree(params)[0])
    theirs = whole(treated, PLAIN, params, x), change, whole(treated, PLAIN, teacher, x)
    jacobians = jax.jit(lambda draws: whole_traced(treated, params, x, draws))
    each = []
    for kept in itertools.product((0.0, 1.0), repeat=3):  # a draw of 1 keeps a unit, one of 0 does not
        z, jacobian = jacobians({"hidden_0": jnp.array([kept])})
        each.append(steps((np.float64(z), np.float64(jacobian)), *theirs))
    signals, drifts, updates = (np.array(found) for found in zip(*each, strict=True))
    signal, drift, update = (vectors.mean(axis=0) for vectors in (signals, drifts, updates))
    square = np.mean(np.sum(signals**2, axis=1))
    found = first_step(treated, params, teacher, (HALF, PLAIN), x, masks=20_000)
    assert found["coverage"] == pytest.approx(cosine(signal, change), abs=0.02)
    assert found["mask_variance"] == pytest.approx(1 - signal @ signal / square, abs=0.02)
    assert found["drift"] == pytest.approx(np.linalg.norm(drift) / np.linalg.norm(signal), rel=0.05)
    assert found["drift_cosine"] == pytest.approx(cosine(drift, change), abs=0.02)
    assert found["first_update"] == pytest.approx(cosine(update, change), abs=0.02)
    assert 0.1 < float(found["mask_variance"]) < 0.9, "there is something to measure"


def whole_traced(treated, params, x, draws):
    flat, unravel = jax.flatten_util.ravel_pytree(params)

    def outputs(theta):
        return treated.net.auxiliary_logits(treated(unravel(theta), x, HALF, draws))

    return outputs(flat), jax.jacrev(outputs)(flat)


def test_an_expectation_is_without_the_variance_that_a_few_samples_leave():
    """Vectors of a mean of norm 5 in ten dimensions, of variance 40: their mean's square is too large by 40 / 4."""
    rng, mean = np.random.default_rng(0), np.r_[3.0, 4.0, np.zeros(8)]
    samples = jnp.asarray(mean + 2 * rng.normal(size=(4000, 4, 10)), jnp.float32)
    along = jnp.asarray(np.r_[1.0, np.zeros(9)], jnp.float32)
    find = jax.vmap(lambda each: layers_at_work.expected({"w": each}, {"w": along}))
    size, _, share = find(samples)
    assert float(jnp.mean(size**2)) == pytest.approx(25, rel=0.03)
    assert float(jnp.mean(jnp.sum(jnp.mean(samples, axis=1) ** 2, axis=-1))) == pytest.approx(35, rel=0.03)
    size, angle, share = layers_at_work.expected({"w": samples.reshape(-1, 10)}, {"w": along})
    assert (size, angle, share) == pytest.approx((5, 3 / 5, 40 / 65), rel=0.02)


def test_the_mean_direction_is_that_of_whole_matrices_and_centring_takes_it_out():
    treated, params, teacher, x = instance(images=20)
    change = np.float64(jax.flatten_util.ravel_pytree(teacher)[0] - jax.flatten_util.ravel_pytree(params)[0])
    tree = jax.tree.map(jnp.subtract, teacher, params)
    z, jacobian = whole(treated, PLAIN, params, x)
    p = softmax(z)
    curvature = np.einsum("bi,ij->bij", p, np.eye(3)) - np.einsum("bi,bj->bij", p, p)
    matrix = np.einsum("bip,bij,bjq->pq", jacobian, curvature, jacobian) / len(x)
    mean = jacobian.mean(axis=0)
    shared = mean.T @ curvature.mean(axis=0) @ mean
    find = jax.jit(lambda x: layers_at_work.mean_direction(
        lambda params, x: treated.net.auxiliary_logits(treated.net.apply(params, x)), KL, params, tree, x
    ))  # fmt: skip
    rest = matrix - shared
    expected = {
        "trace": np.trace(shared) / np.trace(matrix),
        "step": np.linalg.norm(shared @ change) / np.linalg.norm(matrix @ change),
        "shared": cosine(shared @ change, change),
        "rest": cosine(rest @ change, change),
    }
    assert {name: float(value) for name, value in find(x).items()} == pytest.approx(expected, rel=1e-3)
    # One image alone shares all of it.
    alone = find(x[:1])
    assert (alone["trace"], alone["step"]) == pytest.approx((1, 1), rel=1e-5)
    # The Jacobian of the centred network is J - J', but for the bias of the head, which all images share.
    _, centred = whole(treated, TREATMENTS["centred"], params, x)
    bias = jax.tree.map(jnp.zeros_like, params)
    bias["auxiliary_head"]["bias"] += 1
    others = np.asarray(jax.flatten_util.ravel_pytree(bias)[0]) == 0
    np.testing.assert_allclose(centred[..., others], (jacobian - mean)[..., others], atol=1e-5)
    assert np.abs(mean[:, others]).max() > 0.1
    assert np.abs(whole(treated, TREATMENTS["centred_first"], params, x)[1] - jacobian).max() > 1e-2


def test_an_exchanged_layer_is_exchanged(recorded):
    table = recorded("layers_at_work", small.settings("layers_at_work")).table
    stitched, accuracy = table["stitched"], table["accuracy"]
    assert stitched.sizes == {"layer": 2, "whose": 2, "seed": 2}
    assert table["layer"].values.tolist() == ["hidden_0", "class_head"]
    # The student's class head never moves: it is the reference's, and the stranger's its own.
    assert not np.array_equal(stitched.sel(whose="student"), stitched.sel(whose="stranger"))
    assert accuracy["arm"].values.tolist() == [*small.settings("layers_at_work").protocol.arms, "stranger"]


def test_only_readings_with_a_meaning_are_kept():
    kept = {name: [arm for arm in layers_at_work.ARMS if layers_at_work.has_meaning(name, arm)] for name in
            layers_at_work.READINGS}  # fmt: skip
    assert kept["coverage"] == kept["first_update"] == [*layers_at_work.ARMS]
    assert all(("student/dropout" in arm) or ("both/dropout" in arm) for arm in kept["mask_variance"])
    assert "teacher/centred" in kept["drift"]
    assert not {"plain", "both/centred", "both/normalised", "teacher/dropout/0.5"} & set(kept["drift"])
    assert "both/dropout/0.1" in kept["drift"], "the teacher's labels are without dropout"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arms": ("plain", "student/shaken")}, "arm"),
        ({"arms": ("student/centred",)}, "arms must have the plain one"),
        ({"arms": ("plain", "plain")}, "arms must have at least one, each once"),
        ({"network": "cnn"}, "network must be mlp, .* got cnn"),
        ({"hidden": ()}, "hidden must have at least one layer"),
    ],
)
def test_bad_settings_are_refused_by_name(changes, words):
    with pytest.raises(ValueError, match=words):
        layers_at_work.PRESETS["smoke"].but(**changes)
