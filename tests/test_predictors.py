"""The predictors against dense matrices in float64, the configurations against figure 10, the correlations by scipy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
import xarray as xr
from scipy import stats

from experiments import predictors
from experiments.distillation import Split, Start, begin, distil_and_test
from experiments.experiment import points
from sublim_theory import data, losses, networks, optimizers, training
from sublim_theory.representations import linear_cka

SIZE = {"features": 5, "hidden": (6, 4), "classes": 4, "auxiliary": 3, "activation": "tanh"}
SETTINGS = small.settings("predictors")


@pytest.fixture(scope="module")
def record(recorded):
    return recorded("predictors", SETTINGS)


@pytest.fixture(scope="module")
def instance():
    """A start with a teacher that is not far away, a student's own start, and the network, in float32."""
    net, rng = networks.mlp(**SIZE), np.random.default_rng(0)
    shapes = jax.eval_shape(net.init, jax.random.key(0))

    def network():
        return jax.tree.map(lambda w: jnp.asarray(rng.normal(0, 0.5, w.shape), w.dtype), shapes)

    def mixed(a, b, u, v):
        return jax.tree.map(lambda x, y: u * x + v * y, a, b)

    reference, other = network(), network()
    teacher, own = mixed(reference, network(), 1, 0.3), mixed(reference, other, 0.8, 0.6)
    images = jnp.asarray(rng.uniform(-1, 1, (40, 5)), jnp.float32)
    start = Start(jax.random.key(0), reference, other, training.Fit(teacher, None), images, None)
    return net, start, own


def dense(instance, own):
    """The predictors before training, from whole Jacobians and matrices."""
    _, start, _ = instance
    trees = start.reference, start.teacher.params, own
    vectors = [np.concatenate([np.ravel(np.float64(w)) for w in jax.tree.leaves(tree)]) for tree in trees]
    rms = [np.sqrt(np.mean(np.square(np.float64(w)))) for w in jax.tree.leaves(start.reference)]
    scale = np.repeat(rms, [w.size for w in jax.tree.leaves(start.reference)])
    with jax.enable_x64(True):
        net = networks.mlp(**SIZE, dtype="float64")
        images = np.float64(start.images)
        unravel = jax.flatten_util.ravel_pytree(jax.tree.map(np.float64, start.reference))[1]

        def outputs(theta):
            return net.apply(unravel(theta), images)[:, net.auxiliary]

        both = jax.jit(lambda theta: (outputs(theta), jax.jacrev(outputs)(theta)))
        found = [jax.tree.map(np.asarray, both(theta)) for theta in vectors]
    logits, (at_reference, _, at_own) = zip(*found, strict=True)
    reference, teacher, student = (np.exp(z) / np.exp(z).sum(axis=1, keepdims=True) for z in logits)
    curvature = np.einsum("bi,ij->bij", reference, np.eye(3)) - np.einsum("bi,bj->bij", reference, reference)
    gauss_newton = np.einsum("bip,bij,bjq->pq", at_reference, curvature, at_reference) / len(images)
    displacement = vectors[1] - vectors[0]
    update = -np.einsum("bip,bi->p", at_own, student - teacher) / len(images)
    step = update / (np.abs(update) + 1e-8)  # Adam's first

    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    coefficient = displacement @ gauss_newton @ displacement
    sigma_star = coefficient / np.linalg.norm(scale * (gauss_newton @ displacement))
    return {
        "coefficient": coefficient,
        "transfer_ratio": coefficient / (displacement @ displacement),
        "alignment": update @ displacement,
        "coverage": cosine(update, displacement),
        "coverage_optimizer": cosine(step, displacement),
        "coverage_times_rate": 2 * cosine(update, displacement),
        "sigma_star": sigma_star,
        "mismatch": 0.6 / sigma_star,
    }


def test_what_is_known_before_training_is_that_of_dense_matrices(instance):
    net, start, own = instance
    loss = losses.on_logits(losses.kl_divergence, net.auxiliary)
    optimizer = optimizers.optimizer("adam", 3e-4)
    find = jax.jit(lambda own, drawn: predictors.before_training(net, start, own, drawn, loss, optimizer))
    for initial in (own, start.reference):
        found, expected = find(initial, {"distance": 0.6, "learning_rate": 2.0}), dense(instance, initial)
        assert set(found) == set(predictors.BEFORE)
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, rel=1e-3), name
    # The student's own start enters where it should, and nowhere else.
    theirs = dense(instance, own)
    changed = {name for name, value in expected.items() if value != pytest.approx(theirs[name], rel=1e-2)}
    assert changed == {"alignment", "coverage", "coverage_optimizer", "coverage_times_rate"}


def test_after_training_a_perfect_student_is_like_its_teacher_and_one_that_stayed_is_not(instance):
    net, start, own = instance
    split = Split(start.images, jnp.arange(40) % 4, 0.5 * start.images, jnp.arange(40) % 4, 4)
    loss = losses.on_logits(losses.kl_divergence, net.auxiliary)
    find = jax.jit(lambda own, student: predictors.after_training(net, start, own, student, loss, split))
    perfect = find(start.reference, start.teacher.params)
    alike = dict.fromkeys(("cka", "trait_cka", "last_layer_cosine", "displacement_cosine"), 1)
    assert {name: perfect[name] for name in alike} == pytest.approx(alike, abs=1e-5)
    stayed = find(own, own)
    assert (stayed["last_layer_cosine"], stayed["displacement_cosine"], stayed["student_in_range"]) == (0, 0, 0)
    assert stayed["cka"] < 0.99
    assert stayed["trait_cka"] < 0.99
    assert set(perfect) == set(predictors.AFTER) - {"gain", "distillation_loss"}
    last = jax.tree.map(lambda a, b: a - b, start.teacher.params, start.reference)["hidden_1"]
    one_layer = find(own, own | {"hidden_1": jax.tree.map(jnp.add, own["hidden_1"], last)})
    assert one_layer["last_layer_cosine"] == pytest.approx(1, abs=1e-5)
    assert 0 < one_layer["displacement_cosine"] < 0.9


@pytest.fixture(scope="module")
def rows(instance):
    """The gradients [images, logits, parameters] of the auxiliary logits at the reference on four images, and where."""
    net, start, _ = instance
    images = start.images[:4]
    theta, unravel = jax.flatten_util.ravel_pytree(start.reference)
    jacobian = jax.jit(jax.jacrev(lambda theta: net.apply(unravel(theta), images)[:, net.auxiliary]))(theta)
    return images, np.float64(jacobian), unravel


@pytest.mark.parametrize("name", ["kl", "squared_error"])
def test_the_share_in_the_range_is_that_of_a_projection(instance, rows, name):
    """A softmax does not see what is common to its logits, so that its range is smaller."""
    net, start, _ = instance
    images, gradients, unravel = rows
    loss = losses.on_logits(losses.imitation(name), net.auxiliary)
    if name == "kl":
        gradients = gradients - gradients.mean(axis=1, keepdims=True)
    basis = np.linalg.svd(gradients.reshape(12, -1), full_matrices=False)[2][: 8 if name == "kl" else 12]
    share = jax.jit(lambda d: predictors.range_share(net, loss, start.reference, unravel(d), images))
    direction = np.random.default_rng(1).normal(size=basis.shape[1])
    inside = basis.T @ (basis @ direction)
    expected = inside @ inside / (direction @ direction)
    assert 0.01 < expected < 0.5
    for vector, value in ((direction, expected), (inside, 1), (direction - inside, 0), (0 * direction, 0)):
        assert float(share(np.float32(vector))) == pytest.approx(value, abs=2e-4)


def test_the_gain_is_that_of_a_whole_jacobian_and_the_class_head_has_none(instance, rows):
    net, start, _ = instance
    images, gradients, unravel = rows
    direction = np.random.default_rng(2).normal(size=gradients.shape[-1])
    expected = np.square(gradients @ direction).sum() / len(images) / (direction @ direction)
    for factor in (1, 100):  # of a direction only
        found = predictors.gain(net, start.reference, unravel(np.float32(factor * direction)), images)
        assert float(found) == pytest.approx(expected, rel=1e-4)
    nothing = jax.tree.map(jnp.zeros_like, start.reference)
    head = nothing | {net.class_head: start.reference[net.class_head]}
    assert float(predictors.gain(net, start.reference, head, images)) == 0


def test_on_the_traits_subspace_alone_counts_what_decides_between_the_classes():
    """Here it has three of twelve dimensions; the others may change as they like."""
    net, rng = networks.mlp(features=5, hidden=(12,), classes=4, auxiliary=3), np.random.default_rng(3)
    kernel = rng.normal(size=(12, 4))
    teacher = {net.class_head: {"kernel": jnp.float32(kernel)}}
    differences = kernel - kernel.mean(axis=1, keepdims=True)
    onto = differences @ np.linalg.pinv(differences)
    theirs, noise = rng.normal(size=(30, 12)), 3 * rng.normal(size=(30, 12))

    def cka(features, at=predictors.trait_features):
        return float(linear_cka(*(at(net, jnp.float32(each), teacher) for each in (features, theirs))))

    def plain(_, features, __):
        return features

    for ours in (rng.normal(size=(30, 12)), theirs + noise):
        expected = float(linear_cka(np.float32(ours @ onto), np.float32(theirs @ onto)))
        assert cka(ours) == pytest.approx(expected, rel=1e-4)
        assert expected < 0.9
    outside = theirs + noise @ (np.eye(12) - onto)
    assert cka(outside) == pytest.approx(1, abs=1e-4)
    assert cka(outside, plain) < 0.9
    inside = theirs + noise @ onto
    assert cka(inside) < cka(inside, plain)


def test_the_path_is_that_of_a_student_and_its_gain_is_taken_at_the_trait_gradients_there(instance):
    net, start, own = instance
    split = Split(start.images, jnp.arange(40) % 4, start.images, jnp.arange(40) % 4, 4)
    batches = training.schedule(jax.random.key(5), 40, batch_size=20, epochs=2)
    start = start._replace(batches=batches)
    loss, rule = losses.on_logits(losses.kl_divergence, net.auxiliary), optimizers.optimizer("sgd", 0.1)
    fit = jax.jit(lambda own: predictors.distil(net, start, own, loss, rule, split, 2))(own)
    other = training.distil(net, start.teacher.params, {"it": (own, loss)}, start.images, rule, batches)
    assert fit.measured.shape == (2,)
    for ours, theirs in zip(jax.tree.leaves(fit.params), jax.tree.leaves(other.params["it"]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)

    def trait(params):
        return losses.cross_entropy(net.class_logits(net.apply(params, split.train_x)), split.train_y).mean()

    expected = predictors.gain(net, own, jax.grad(trait)(own), start.images)
    assert float(fit.measured[0]) == pytest.approx(float(expected), rel=1e-4)
    assert float(fit.measured[1]) != pytest.approx(float(expected), rel=1e-3)


def test_the_group_of_the_source_varies_the_distance_alone():
    ((_, point),) = points(predictors.EXPERIMENT, predictors.PRESETS["source"], "source").items()
    usual = predictors.PRESETS["default"].protocol
    for seed in (0, 1):
        drawn, theirs = (predictors.draw(protocol, jnp.int32(seed)) for protocol in (point.protocol, usual))
        assert [float(drawn[name]) for name in ("learning_rate", "init_scale", "noise_scale")] == [1, 1, 1]
        assert 0 < float(drawn["distance"]) < 1
        assert (float(theirs["distance"]) == float(drawn["distance"])) == (seed % 2 == 1)
        assert float(theirs["learning_rate"]) != 1
    assert point.protocol.hidden == (256, 256)
    assert "source" not in usual.groups


def test_a_configuration_is_a_student_of_figure_10_with_what_it_drew(record):
    """Even seeds share the start; odd ones are at a distance from it."""
    found, protocol = record.table.sel(group="base"), SETTINGS.protocol
    split = protocol.select(data.load("digits"))

    @jax.jit
    def expected(seed, scales, factor, distance):
        rates = dataclasses.replace(SETTINGS.rates, **scales)  # of teacher and noise
        loss = losses.on_logits(losses.kl_divergence, slice(10, 13))
        start = begin(protocol, rates, split, seed)
        own = jax.tree.map(lambda a, b: (1 - distance**2) ** 0.5 * a + distance * b, start.reference, start.other)
        theirs = dataclasses.replace(rates, learning_rate=factor * rates.learning_rate)  # not the teacher's
        return distil_and_test(protocol, theirs, split, start, {"student": (own, loss)})

    for seed in (0, 1):
        ours = found.sel(seed=seed)
        drawn = {name: ours["value"].sel(predictor=name).values for name in predictors.SETTINGS}
        assert (drawn["distance"] == 0) == (seed == 0)
        scales = {name: drawn[name] for name in ("init_scale", "noise_scale")}
        theirs = expected(jnp.int32(seed), scales, drawn["learning_rate"], drawn["distance"])
        for name, network in {"accuracy": "student", "teacher_accuracy": "teacher"}.items():
            # One of 360 test images more or less: another program may round, and so decide a tie, differently.
            assert float(ours[name]) == pytest.approx(float(theirs["accuracy"][network]), abs=1.5 / 360)
        loss = theirs["student_loss"]["student"][-5:].mean().item()  # an epoch of 300 images in batches of 64
        assert float(ours["value"].sel(predictor="distillation_loss")) == pytest.approx(loss, rel=2e-3)


def test_every_configuration_draws_for_itself_and_every_second_one_shares_its_start(record):
    protocol, table = SETTINGS.protocol, record.table.sel(group="base")
    drawn = {name: table["value"].sel(predictor=name).values for name in predictors.PREDICTORS}
    every = points(predictors.EXPERIMENT, SETTINGS.but(groups=("base", "auxiliary_10")), "smoke")
    assert [each.protocol.offset for each in every.values()] == [0, predictors.STRIDE]
    assert table["own_seed"].values.tolist() == list(range(6))
    np.testing.assert_array_equal(drawn["distance"] == 0, table["own_seed"] % 2 == 0)
    np.testing.assert_allclose(drawn["mismatch"], drawn["distance"] / drawn["sigma_star"], 1e-5)
    for name in ("learning_rate", "init_scale", "noise_scale"):
        low, high = getattr(protocol, f"{name}s")
        assert len(np.unique(drawn[name])) == drawn[name].size
        assert ((low <= drawn[name]) & (drawn[name] <= high)).all()


def test_the_correlations_are_those_of_scipy_in_groups_over_them_and_by_start(record):
    axes = {"group": ["a", "b"], "predictor": list(predictors.PREDICTORS), "seed": range(8)}
    rng = np.random.default_rng(0)
    value = xr.DataArray(rng.random((2, len(predictors.PREDICTORS), 8)), axes)
    accuracy = xr.DataArray(rng.random((2, 8)), {"group": axes["group"], "seed": axes["seed"]})
    value.loc[{"predictor": "distance", "seed": [0, 2, 4, 6]}] = 0
    found, shared = predictors.correlations(value, accuracy), value.sel(predictor="distance").values == 0
    for name in predictors.PREDICTORS:
        x, y = value.sel(predictor=name).values, accuracy.values
        for subset, chosen in {"all": np.full_like(shared, True), "shared": shared, "moved": ~shared}.items():
            rho, low, high = found["pooled"].sel(subset=subset, predictor=name)
            within = found[predictors.WITHIN[subset]].sel(predictor=name)
            if subset == "shared" and name == "distance":  # the same for all that share the start
                assert np.isnan([rho, low, high, *within]).all()
                continue
            assert float(rho) == pytest.approx(stats.spearmanr(x[chosen], y[chosen]).statistic)
            assert low <= rho <= high
            expected = [stats.spearmanr(x[g][chosen[g]], y[g][chosen[g]]).statistic for g in range(2)]
            assert within.values == pytest.approx(expected)
    here = predictors.correlations(record.table["value"], record.table["accuracy"])
    np.testing.assert_array_equal(here["pooled"], record.table["pooled"])
    assert "within_shared/distance" not in record.conditions
    assert len(record.conditions["within/coverage"].values) == 1


def test_a_group_where_nothing_varies_has_no_correlation():
    values = np.stack([np.tile([0.0, 0.5], (2, 3)), np.arange(12.0).reshape(2, 6)], axis=1)
    axes = {"group": ["constant", "varied"], "predictor": ["distance", "good"], "seed": range(6)}
    accuracy = np.array([[0.1] * 6, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]])
    found = predictors.correlations(
        xr.DataArray(values, axes), xr.DataArray(accuracy, {"group": axes["group"], "seed": axes["seed"]})
    )
    within = found["within"].sel(predictor="good")
    assert within.isnull().values.tolist() == [True, False]
    assert float(within.sel(group="varied")) == pytest.approx(1)
    assert float(found["pooled"].sel(subset="all", predictor="good", end="rho")) > 0.8
