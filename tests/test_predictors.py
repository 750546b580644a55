"""The predictors against dense matrices in float64, the configurations against figure 10, the correlations by scipy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy import stats

import figures
from experiments import command, predictors
from experiments.distillation import Split, Start, begin, distil_and_test
from experiments.experiment import run
from sublim_theory import cli, data, losses, networks, optimizers, training
from sublim_theory.record import load

SIZE = {"features": 5, "hidden": (6, 4), "classes": 4, "auxiliary": 3, "activation": "tanh"}
TINY = predictors.PRESETS["smoke"].but(
    hidden=(16,),
    noise_images=300,
    teacher_epochs=2,
    student_epochs=2,
    groups=("base",),
    learning_rates=(2.0, 2.000001),
    distances=(0.999999, 1.0),
)


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """The smoke preset, from the command line."""
    out = tmp_path_factory.mktemp("predictors")
    assert command.reproduce(["predictors", "--preset", "smoke", "--out", str(out)]) == 0
    assert (out / "predictors-smoke" / "predictors.png").exists()
    return load(out / "predictors-smoke")


@pytest.fixture(scope="module")
def small():
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


def dense(small, own):
    """The predictors before training, from whole Jacobians and matrices."""
    _, start, _ = small
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


def test_what_is_known_before_training_is_that_of_dense_matrices(small):
    net, start, own = small
    loss = losses.on_logits(losses.kl_divergence, net.auxiliary)
    optimizer = optimizers.optimizer("adam", 3e-4)
    find = jax.jit(lambda own, drawn: predictors.before_training(net, start, own, drawn, loss, optimizer))
    for initial in (own, start.reference):
        found, expected = find(initial, {"distance": 0.6, "learning_rate": 2.0}), dense(small, initial)
        assert set(found) == set(predictors.BEFORE)
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, rel=1e-3), name
    # The student's own start enters where it should, and nowhere else.
    theirs = dense(small, own)
    changed = {name for name, value in expected.items() if value != pytest.approx(theirs[name], rel=1e-2)}
    assert changed == {"alignment", "coverage", "coverage_optimizer", "coverage_times_rate"}


def test_after_training_a_perfect_student_is_like_its_teacher_and_one_that_stayed_is_not(small):
    net, start, own = small
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


def test_a_configuration_is_a_student_of_figure_10_with_what_it_drew():
    """Even seeds share the start; odd ones are here at distance 1, the cross-model student's start."""
    found = run(predictors.EXPERIMENT, TINY).table.sel(group="base")
    protocol, split = TINY.protocol, TINY.protocol.select(data.load("digits"))

    @jax.jit
    def expected(seed, numbers):
        rates = dataclasses.replace(TINY.rates, **numbers)  # of teacher and noise
        loss = losses.on_logits(losses.kl_divergence, slice(10, 13))
        start = begin(protocol, rates, split, seed)
        students = {"even": (start.reference, loss), "odd": (start.other, loss)}
        theirs = dataclasses.replace(rates, learning_rate=2e-3)  # twice the teacher's
        return distil_and_test(protocol, theirs, split, start, students)

    for seed, student in enumerate(("even", "odd")):
        ours = found.sel(seed=seed)
        drawn = {name: ours["value"].sel(predictor=name).values for name in ("init_scale", "noise_scale")}
        theirs = jax.tree.map(np.asarray, expected(jnp.int32(seed), drawn))
        for name, network in {"accuracy": student, "teacher_accuracy": "teacher"}.items():
            # One of 360 test images more or less: another program may round, and so decide a tie, differently.
            assert float(ours[name]) == pytest.approx(float(theirs["accuracy"][network]), abs=1.5 / 360)
        loss = theirs["student_loss"][student][-3:].mean().item()  # an epoch of 300 images in batches of 128
        assert float(ours["value"].sel(predictor="distillation_loss")) == pytest.approx(loss, rel=2e-3)


def test_every_configuration_draws_for_itself_and_every_second_one_shares_its_start(record):
    protocol, seeds = predictors.PRESETS["smoke"].protocol, record.table["own_seed"].values
    drawn = {name: record.table["value"].sel(predictor=name).values for name in predictors.PREDICTORS}
    np.testing.assert_array_equal(seeds, [range(6), range(10_000, 10_006)])
    np.testing.assert_array_equal(drawn["distance"] == 0, seeds % 2 == 0)
    np.testing.assert_allclose(drawn["mismatch"], drawn["distance"] / drawn["sigma_star"], 1e-5)
    for name in ("learning_rate", "init_scale", "noise_scale"):
        low, high = getattr(protocol, f"{name}s")
        assert len(np.unique(drawn[name])) == drawn[name].size
        assert ((low <= drawn[name]) & (drawn[name] <= high)).all()
    assert record.table["accuracy"].sel(group="base").values.tolist() == list(record.conditions["accuracy/base"].values)


def test_the_correlations_are_those_of_the_table(record):
    accuracy, pooled = record.table["accuracy"].values, record.table["pooled"]
    value = {name: record.table["value"].sel(predictor=name).values for name in predictors.PREDICTORS}
    shared = value["distance"] == 0
    for name, x in value.items():
        rho, low, high = pooled.sel(subset="all", predictor=name)
        assert float(rho) == pytest.approx(stats.spearmanr(x.ravel(), accuracy.ravel()).statistic)
        assert low <= rho <= high
        expected = [stats.spearmanr(*row).statistic for row in zip(x, accuracy, strict=True)]
        assert record.conditions[f"within/{name}"].values == pytest.approx(expected)
        moved = float(pooled.sel(subset="moved", predictor=name, end="rho"))
        assert moved == pytest.approx(stats.spearmanr(x[~shared], accuracy[~shared]).statistic)
    for name in ("distance", "mismatch"):  # the same for all that share the start
        assert pooled.sel(subset="shared", predictor=name).isnull().all()
        assert f"within_shared/{name}" not in record.conditions


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


def test_the_figure_has_a_row_a_predictor_best_first_and_all_students(record):
    (figure,) = figures.importlib.import_module("figures.predictors").draw(record).values()
    rows, *_, scatter = (axes for part in figure.subfigs for axes in part.axes)
    assert len(rows.get_yticks()) == len(predictors.PREDICTORS)
    rho = record.table["pooled"].sel(subset="all", end="rho")
    strength = {name: abs(float(rho.sel(predictor=name))) for name in predictors.PREDICTORS}
    labels = figures.importlib.import_module("figures.predictors").LABELS
    assert rows.get_yticklabels()[0].get_text() == labels[max(strength, key=strength.get)][1]
    assert sum(len(points.get_offsets()) for points in scatter.collections) == record.table["accuracy"].size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--groups base base", "groups must have at least one, each once"),
        ("--groups bass", "unknown group 'bass'; did you mean 'base'?"),
        ("--learning-rates 2 1", "learning_rates must be two positive numbers, the smaller first, got (2.0, 1.0)"),
        ("--noise-scales 0 1", "noise_scales must be two positive numbers"),
        ("--distances 0.5 1.5", "distances must be two numbers in [0, 1]"),
        ("--batch-size 0", "batch_size must be at least 1, got 0"),
    ],
)
def test_a_wrong_setting_is_named_before_any_work(capsys, options, message):
    assert cli.main(["reproduce", "predictors", "--preset", "smoke", *options.split()]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"seeds": 5}, "seeds must lie between 6 and 10000 in each group, got 5"),
        ({"first_seed": 2**31 - 50_000}, "must lie in"),
        ({"hidden": (8,), "groups": ("one_layer_fewer",)}, "hidden must have at least one layer"),
    ],
)
def test_what_does_not_fit_the_groups_is_refused_before_any_work(setting, message):
    with pytest.raises(ValueError, match=message):
        run(predictors.EXPERIMENT, predictors.PRESETS["smoke"].but(**setting))
