"""Distances between initialisations: where the students start, and what the theorem predicts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import figures
from experiments import fig10, init_distance, starts
from experiments.distillation import begin
from experiments.experiment import run
from sublim_theory import cli, data, losses, networks
from sublim_theory.ensemble import seed_key, stream
from sublim_theory.theorem import Instance, sigma_star

SETTINGS = init_distance.PRESETS["smoke"].but(
    seeds=1,
    hidden=(48, 32),
    noise_images=600,
    teacher_epochs=2,
    student_epochs=2,
    distances=(0.5, 1.0),
    parts=("all",),
)
PROTOCOL, RATES = SETTINGS.protocol, SETTINGS.rates
NET = PROTOCOL.make_network(RATES, PROTOCOL.select(data.load("digits")))


def same(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def start(digits):
    return jax.jit(lambda split: begin(PROTOCOL, RATES, split, jnp.int32(0)))(PROTOCOL.select(digits))


@pytest.fixture(scope="module")
def record():
    return run(init_distance.EXPERIMENT, SETTINGS)


def test_without_distance_it_is_the_student_of_figure_10_and_at_distance_one_the_cross_model_student(record):
    known = fig10.PRESETS["smoke"].flat()
    shared = {name: value for name, value in SETTINGS.flat().items() if name in known}
    theirs = run(fig10.EXPERIMENT, fig10.PRESETS["smoke"].but(**shared, students=("student_aux", "cross_aux")))
    pairs = {"student_aux": "student_aux", "interpolated/all/1": "cross_aux"}
    for ours, name in pairs.items():
        # Another program with more students in it: float32 rounding.
        losses = (each.table["student_loss"].sel(student=s) for each, s in ((record, ours), (theirs, name)))
        np.testing.assert_allclose(*losses, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(record.conditions[ours].values, theirs.conditions[name].values, atol=2 / 360)
    assert record.conditions["teacher"] == theirs.conditions["teacher"]


@pytest.mark.parametrize("way", init_distance.WAYS)
@pytest.mark.parametrize("part", init_distance.PARTS)
def test_a_part_is_moved_and_everything_else_is_the_reference_bit_for_bit(start, way, part):
    params = starts.moved(NET, start, way, part, 0.3)
    assert list(params) == list(start.reference)
    for layer, values in params.items():
        kernels = values["kernel"], start.reference[layer]["kernel"]
        assert same(*kernels) != (layer in NET.layers(part))
        assert not values["bias"].any(), "biases are 0 at the start, by either way"


@pytest.mark.parametrize("distance", [0.1, 0.5, 1.0])
def test_interpolation_keeps_the_variance_and_a_perturbation_adds_to_it(start, distance):
    for way, expected in {"interpolated": 1.0, "perturbed": 1 + distance**2}.items():
        params = starts.moved(NET, start, way, "all", distance)
        for layer in NET.layers("body"):
            before, after = (jnp.mean(jnp.square(each[layer]["kernel"])) for each in (start.reference, params))
            assert after / before == pytest.approx(expected, abs=0.12)  # 1536 weights a layer


def test_the_distance_is_the_one_that_was_asked_for(start):
    other = starts.moved(NET, start, "interpolated", "all", 1.0)
    assert same(other, start.other)
    for way in init_distance.WAYS:
        assert same(starts.moved(NET, start, way, "all", 0.0), start.reference)
        params = starts.moved(NET, start, way, "all", 0.1)
        for layer, values in params.items():
            before = start.reference[layer]["kernel"]
            moved = starts.root_mean_square(values["kernel"] - before)
            assert moved / starts.root_mean_square(before) == pytest.approx(0.1, rel=0.3)


def test_the_prediction_is_sigma_star_of_the_theorem_in_float64(start, digits):
    """Weights of one common scale, so that noise in proportion to it is isotropic; no biases, which have none."""
    smooth = SETTINGS.but(bias=False, activation="tanh")
    net = smooth.protocol.make_network(smooth.rates, smooth.protocol.select(digits))
    params = jax.jit(net.init)(stream(seed_key(3), "init"))
    params = jax.tree.map(lambda w: 0.1 * w / starts.root_mean_square(w), params)
    update = jax.tree.map(lambda w: 0.01 * jnp.cos(jnp.arange(w.size, dtype=w.dtype)).reshape(w.shape), params)
    teacher = start.teacher._replace(params=jax.tree.map(jnp.add, params, update))
    here = start._replace(reference=params, teacher=teacher)
    loss = losses.on_logits(losses.kl_divergence, net.auxiliary)
    found = jax.jit(lambda here: starts.sigma_star_relative(net, here, loss, init_distance.PARTS))(here)
    found = {part: float(distance) for part, distance in found.items()}
    assert set(found) == {"all", "hidden", "auxiliary_head"}
    assert 1 / found["all"] ** 2 == pytest.approx(1 / found["hidden"] ** 2 + 1 / found["auxiliary_head"] ** 2, rel=1e-4)

    wide = jax.tree.map(np.float64, (params, update))
    size = {"hidden": PROTOCOL.hidden, "activation": "tanh", "bias": False}
    net64 = networks.mlp(digits.features, **size, dtype="float64")
    instance = Instance(
        net64.apply,
        wide[0],
        lambda theta: -sum(jnp.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, (theta, wide[1])), strict=True)),
        np.asarray(start.images[: starts.INPUTS]),
        logits=net64.auxiliary,
    )
    assert found["all"] == pytest.approx(sigma_star(instance, epsilon=1.0) / 0.1, rel=1e-3)


def test_the_figure_has_a_panel_a_way_and_a_line_a_part(record, tmp_path):
    (figure,) = figures.importlib.import_module("figures.init_distance").draw(record).values()
    assert len(figure.axes) == len(PROTOCOL.ways)
    for axes, way in zip(figure.axes, PROTOCOL.ways, strict=True):
        lines = {line.get_label(): line for line in axes.lines}
        assert lines["no distance"].get_ydata()[0] == record.conditions["student_aux"].mean
        drawn = [container.lines[0].get_ydata().tolist() for container in axes.containers]
        assert drawn == [
            [record.conditions[f"{way}/{part}/{distance:g}"].mean for distance in PROTOCOL.distances]
            for part in PROTOCOL.parts
        ]
    assert {path.name for path in figures.save(record, tmp_path)} == {"init_distance.png", "init_distance.svg"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--distances 0", "distances must lie in (0, 1], got (0.0,)"),
        ("--distances 0.1 0.1", "distances must have at least one, each once"),
        ("--parts hiden", "unknown part 'hiden'; did you mean 'hidden'?"),
        ("--ways interpolate", "unknown way 'interpolate'; did you mean 'interpolated'?"),
        ("--batch-size 0", "batch_size must be at least 1, got 0"),
    ],
)
def test_a_wrong_setting_is_named_before_any_work(capsys, options, message):
    assert cli.main(["reproduce", "init_distance", "--preset", "smoke", *options.split()]) == 2
    assert message in capsys.readouterr().err
