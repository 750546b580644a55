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
    find = jax.jit(lambda own, student: predictors.after_training(net, start, own, student, split))
    perfect = find(start.reference, start.teacher.params)
    assert {name: perfect[name] for name in ("cka", "last_layer_cosine", "displacement_cosine")} == pytest.approx(
        {"cka": 1, "last_layer_cosine": 1, "displacement_cosine": 1}, abs=1e-5
    )
    stayed = find(own, own)
    assert (stayed["last_layer_cosine"], stayed["displacement_cosine"]) == (0, 0)
    assert stayed["cka"] < 0.99
    last = jax.tree.map(lambda a, b: a - b, start.teacher.params, start.reference)["hidden_1"]
    one_layer = find(own, own | {"hidden_1": jax.tree.map(jnp.add, own["hidden_1"], last)})
    assert one_layer["last_layer_cosine"] == pytest.approx(1, abs=1e-5)
    assert 0 < one_layer["displacement_cosine"] < 0.9


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
