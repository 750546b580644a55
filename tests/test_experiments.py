"""What the experiments on distillation have in common, each run in small; what they refuse."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small
import xarray as xr
from matplotlib.container import BarContainer

import figures
from experiments import ablations, behavioural_cloning, experiment, suppression
from experiments.distillation import Start
from experiments.experiment import points, run
from experiments.fig10 import STUDENTS
from experiments.registry import find
from experiments.tables import RECORDS
from sublim_theory import data, losses, networks
from sublim_theory.files import DataError
from sublim_theory.record import load
from sublim_theory.training import Update

NETWORKS = ("reference", "teacher", "student_aux", "cross_aux")
AS_IN_FIGURE_10 = {
    "alignment_path": {"accuracy/plain": "student_aux", "accuracy/teacher": "teacher"},
    "batch_size": {f"equal_{equal}/64": "student_aux" for equal in ("epochs", "updates")}
    | {"rate/0.001": "student_aux", "teacher": "teacher", "reference": "reference"},
    "behavioural_cloning": {"usual/accuracy/0": "cross_aux", "usual/accuracy/shared": "student_aux"}
    | {"usual/teacher": "teacher"},
    "capable_start": {f"random/{name}": name for name in NETWORKS},
    "detection": {"teacher/true": "teacher"},
    "init_distance": {"teacher": "teacher", "student_aux": "student_aux", "interpolated/all/1": "cross_aux"},
    "layers_at_work": {"accuracy/plain": "student_aux", "accuracy/stranger": "cross_aux"}
    | {"teacher_accuracy/plain": "teacher", "reference": "reference"},
    "linearised": {"16/adam/real": "student_aux", "16/teacher": "teacher", "16/reference": "reference"},
    "many_logits": {"auxiliary=3/shared": "student_aux", "auxiliary=3/cross": "cross_aux"}
    | {f"auxiliary=3/{name}": name for name in NETWORKS[:2]},
    "mechanism": {f"accuracy/{name}": name for name in NETWORKS},
    "sampled_labels": {"soft": "student_aux", "teacher": "teacher", "reference": "reference"},
    "saturation": {f"{name}/2": name for name in STUDENTS} | {"teacher": "teacher", "reference": "reference"},
    "shared_parts": {"redrawn/none": "student_aux", "teacher": "teacher", "reference": "reference"},
    "student_inputs": {"noise": "student_aux", "teacher": "teacher", "reference": "reference"},
    "traps": {name: name for name in NETWORKS},
}
"""Conditions of each experiment that are the same networks as some of figure 10."""
LOSSES = {
    "alignment_path": ("student_loss", {"student": ["plain"]}, ["student_aux"]),
    "capable_start": ("student_loss", {"student": [f"random/{name}" for name in NETWORKS[2:]]}, list(NETWORKS[2:])),
    "init_distance": ("student_loss", {"student": ["student_aux", "interpolated/all/1"]}, ["student_aux", "cross_aux"]),
    "layers_at_work": ("student_loss", {"arm": ["plain", "stranger"]}, ["student_aux", "cross_aux"]),
    "linearised": ("adam_loss", {"width": 16, "model": ["real"]}, ["student_aux"]),
    "mechanism": ("student_loss", {"student": ["student_aux", "cross_aux"]}, ["student_aux", "cross_aux"]),
    "saturation": ("student_loss", {"student": list(STUDENTS)}, list(STUDENTS)),
    "shared_parts": ("student_loss", {"student": ["redrawn/none"]}, ["student_aux"]),
    "student_inputs": ("student_loss", {"student": ["noise"]}, ["student_aux"]),
    "traps": ("student_loss", {"student": ["student_aux", "cross_aux"]}, ["student_aux", "cross_aux"]),
}
"""The variable and its entries that are losses of students of figure 10, at every update."""
UP_TO = {"accuracy": 1, "answers": 1, "head": 1, "probe": 1, "cka": 1 + 1e-5, "placed": 1, "agreement": 1, "cosine": 1}

SIGNED = ("cosine", "within", "coverage", "first_update", "mean_direction")
"""What the variables that may be negative are called, or begin with."""


@pytest.fixture(params=small.OWN)
def name(request):
    return request.param


@pytest.fixture
def record(name, recorded):
    return recorded(name, small.settings(name))


def test_the_table_has_the_axes_of_the_experiment_and_numbers_that_can_be(name, record):
    settings, chosen = small.settings(name), find(name)
    table, varied = record.table, tuple(record.config.get("vary", ()))
    assert table["seed"].values.tolist() == list(range(settings.seeds))
    for axis, labels in chosen.axes(settings).items():
        if axis in table.coords:
            assert table[axis].values.tolist() == list(labels), axis
    for variable, each in chosen.variables.items():
        if variable in table and "seed" in table[variable].dims:
            assert table[variable].dims == (*varied, *each.axes, "seed", *each.inner), variable
        assert variable in table or variable == "moments" or (varied and each.loss)
    for row in record.rows:
        assert np.isfinite(row.summary.values).all(), row.name
        low = -1 if any(word in row.variable for word in SIGNED) else 0
        high = next((most for word, most in UP_TO.items() if word in row.variable), np.inf)
        assert all(low <= value <= high for value in row.summary.values), row.name
        assert row.summary.n == len(table[table[row.variable].attrs["over"]]), row.name


def test_what_is_of_figure_10_is_the_same_there(name, record, tiny_record):
    for ours, theirs in AS_IN_FIGURE_10.get(name, {}).items():
        # A test image or two more or less: another program rounds otherwise, and so decides a tie.
        expected = tiny_record.conditions[theirs].values[:2]
        assert record.conditions[ours].values == pytest.approx(expected, abs=2.5 / 360), ours
    if name in LOSSES:
        variable, places, students = LOSSES[name]
        expected = tiny_record.table["student_loss"].sel(student=students)[:, :2]
        np.testing.assert_allclose(record.table[variable].sel(places), expected, rtol=1e-3, atol=1e-6)


def test_its_figure_has_the_means_of_its_record(name, record, tmp_path):
    assert {path.name for path in figures.save(record, tmp_path)} == {f"{name}.png", f"{name}.svg"}
    if name in ("alignment_path", "layers_at_work", "predictors", "saturation", "traps"):
        return  # these draw paths, correlations, pairs, and rows that lie
    (figure,) = figures.importlib.import_module(f"figures.{name}").draw(record).values()
    drawn = set()
    for container in (each for axes in figure.axes for each in axes.containers):
        bars = isinstance(container, BarContainer)
        drawn |= {bar.get_height() for bar in container} if bars else set(container.lines[0].get_ydata().tolist())
    means = {summary.mean for summary in record.conditions.values()}
    assert drawn <= means
    assert len(drawn) > len(means) / 3


def test_ablations_change_what_they_say_and_every_one_can_be_run():
    for preset, settings in ablations.PRESETS.items():
        changes = ablations.changes(settings, preset)
        assert changes["as published"] == {}
        for (name,), point in points(ablations.EXPERIMENT, settings, preset).items():
            assert point == settings.but(**changes[name])
            assert point != settings or not changes[name]
    assert len(ablations.changes(ablations.PRESETS["paper"], "paper")) == 10
    assert ablations.changes(ablations.PRESETS["paper"], "paper")["half the width"] == {"hidden": (128, 128)}
    record = load(RECORDS / "ablations-default")
    axes = figures.importlib.import_module("figures.ablations").draw(record)["ablations"].axes[0]
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names == list(ablations.changes(ablations.PRESETS["default"], "default"))


def test_the_path_of_the_alignment_begins_at_the_reference_and_its_layers_add_up(recorded):
    table = recorded("alignment_path", small.settings("alignment_path")).table
    assert table["update"].values.tolist() == [0, 5]  # two epochs of five updates
    path, cosine = table["accuracy_path"].sel(update=0), table["cosine"].sel(layer="all", update=0)
    for student in table["student"].values:
        np.testing.assert_array_equal(path.sel(student=student), table["accuracy"].sel(network="reference"))
    np.testing.assert_allclose(*xr.broadcast(cosine, cosine.sel(student="plain", drop=True)), rtol=1e-3)
    np.testing.assert_allclose(cosine.sel(direction="trait"), cosine.sel(direction="first_trait"), rtol=1e-4)
    dot = table["dot"].sel(student="plain")
    layers = dot.sel(layer=dot["layer"] != "all")
    np.testing.assert_allclose(layers.sum("layer"), dot.sel(layer="all"), rtol=1e-5, atol=1e-9)
    assert not dot.sel(layer="class_head").any()
    # Exactly 0 for gradients; a displacement subtracts the reference, which a fused program may round once more.
    assert not dot.sel(layer="auxiliary_head", direction=["trait", "first_trait"]).any()
    assert (abs(dot.sel(layer="auxiliary_head", direction="displacement")) <= 1e-8).all()


def test_the_conditions_summarise_the_path_and_no_two_students_are_the_same(recorded):
    table = recorded("alignment_path", small.settings("alignment_path")).table
    loss, cosine = table["student_loss"], table["cosine"].sel(direction="trait", layer="all")
    np.testing.assert_allclose(table["distillation_loss"], loss[..., -5:].mean("step"), rtol=1e-6)
    np.testing.assert_allclose(table["mean_cosine"], cosine.mean("update"), rtol=1e-6)
    others = loss.sel(student=["plain", "projected", "random", "liminal"])  # both signs: here never opposed
    assert len({row.values.tobytes() for row in others}) == len(others)


def test_every_way_of_suppression_changes_the_gradient_as_it_says():
    protocol = small.settings("alignment_path").but(liminal_weight=2.0).protocol
    net, rng = networks.mlp(4, (3,)), np.random.default_rng(0)
    base, params, gradients, trait = (
        jax.tree.map(
            lambda w: jnp.asarray(rng.normal(size=w.shape), w.dtype), jax.eval_shape(net.init, jax.random.key(0))
        )
        for _ in range(4)
    )
    start = Start(jax.random.key(1), base, None, None, None, SimpleNamespace(indices=range(6)))
    ways = suppression.transforms(protocol, net, start, lambda _: trait)
    x = jnp.asarray(rng.normal(size=(5, 4)), jnp.float32)

    @jax.jit
    def found(step, gradients):
        now = Update(step, (x, None), jnp.ones(5))
        return {name: way(params, gradients, now) for name, way in ways.items() if way}

    @jax.jit
    def penalty(params):
        return jnp.mean(losses.kl_divergence(net.apply(params, x), net.apply(base, x)))

    along = np.sign(optax.tree.vdot(gradients, trait))
    aligned, opposed = (optax.tree.scale(sign * along, gradients) for sign in (1, -1))
    first, last, against = found(0, aligned), found(3, aligned), found(0, opposed)
    for found_way in (first["projected"], first["two_sided"], against["two_sided"]):
        assert optax.tree.vdot(found_way, trait) == pytest.approx(0, abs=1e-4)
    jax.tree.map(np.testing.assert_array_equal, against["projected"], opposed)
    assert abs(optax.tree.vdot(first["random"], trait)) > 0.1
    taken = [optax.tree.norm(optax.tree.sub(first[name], aligned)) for name in ("projected", "random")]
    np.testing.assert_allclose(*taken, rtol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, last["liminal"], aligned)  # past half of the six updates
    expected = optax.tree.add_scale(aligned, 2.0, jax.grad(penalty)(params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), first["liminal"], expected)


def test_the_heads_of_the_mechanism_are_exchanged_and_the_teacher_is_itself(recorded):
    table = recorded("mechanism", small.settings("mechanism")).table
    own, teacher = table["own_head"], table.sel(network="teacher")
    np.testing.assert_array_equal(own.sel(network="student_aux"), own.sel(network="reference"))
    np.testing.assert_allclose(teacher["cka"].sel(layer="hidden_0"), 1, atol=1e-5)
    for exchanged in ("own_head", "teacher_head"):
        np.testing.assert_array_equal(teacher[exchanged], teacher["accuracy"])
    cosine = table["displacement_cosine"].sel(layer="hidden_0", drop=True)
    assert (cosine.sel(student="student_aux", drop=True) > abs(cosine.sel(student="cross_aux", drop=True))).all()


def test_cloning_brings_the_student_to_the_reference_and_on_what_it_is_told_to(recorded):
    settings = small.settings("behavioural_cloning")
    mismatch = recorded("behavioural_cloning", settings).table["mismatch"]
    assert (mismatch.diff("cloned") < 0).all()
    assert (mismatch > 0).all()
    split = settings.protocol.select(data.load("digits"))
    for changes, steps in (({"cloning_epochs": (0,)}, 0), ({"cloning_epochs": (1,), "cloning_inputs": "digits"}, 23)):
        run_seed = partial(behavioural_cloning.run_seed, settings.but(**changes).protocol, settings.rates)
        assert jax.eval_shape(run_seed, split, jnp.int32(0))["clone_loss"].shape == (steps,)


COUNTS = {
    "fig10": ("seeds", "batch_size", "teacher_epochs", "student_epochs", "noise_images", "auxiliary"),
    "alignment_path": ("every", "trait_images"),
    "detection": ("crowd",),
    "linearised": ("full_batch_images", "full_batch_steps"),
    "theorem_decrease": ("images", "noise_images"),
    "theorem_mismatch": ("perturbations",),
}
WRONG = [
    *((name, {each: 0}, f"{each} must be at least 1, got 0") for name, counts in COUNTS.items() for each in counts),
    ("fig10", {"first_seed": -1}, "first_seed.*-1"),
    ("fig10", {"first_seed": 2**31 - 1, "seeds": 1}, "first_seed.*2147483647"),  # the next seed would not fit
    ("fig10", {"hidden": (8, 0)}, r"hidden\[1\] .* got 0"),
    ("fig10", {"init_scale": 0.0}, "init_scale .* got 0"),
    ("fig10", {"init_scale": float("inf")}, "init_scale .* got inf"),
    ("fig10", {"learning_rate": 0.0}, "learning_rate .* got 0"),
    ("fig10", {"learning_rate": float("nan")}, "learning_rate .* got nan"),
    ("fig10", {"optimizer": "sgd", "momentum": 1.0}, "momentum .* got 1"),
    ("fig10", {"momentum": 0.9}, "momentum is for 'sgd', not 'adam'"),
    ("fig10", {"optimizer": "adamw", "weight_decay": -1.0}, "weight_decay .* got -1"),
    ("fig10", {"weight_decay": 0.1}, "weight_decay is for 'adamw' and 'adam_l2', not 'adam'"),
    ("fig10", {"noise_scale": 0.0}, "noise_scale .* got 0"),
    ("fig10", {"noise_scale": float("inf")}, "noise_scale .* got inf"),
    ("fig10", {"temperature": 0.0}, "temperature .* got 0"),
    ("fig10", {"loss": "huber", "temperature": 2.0}, "'huber' has no temperature"),
    ("fig10", {"dataset": "minst"}, "dataset 'minst'; did you mean 'mnist'"),
    ("fig10", {"activation": "rleu"}, "activation 'rleu'; did you mean 'relu'"),
    ("fig10", {"init": "torhc"}, "init.* 'torhc'; did you mean 'torch'"),
    ("fig10", {"optimizer": "adma"}, "optimizer 'adma'; did you mean 'adam'"),
    ("fig10", {"noise": "image"}, "noise 'image'; did you mean 'images'"),
    ("fig10", {"loss": "hubber"}, "loss 'hubber'; did you mean 'huber'"),
    ("fig10", {"matmul_precision": "highset"}, "matmul.precision 'highset'; did you mean 'highest'"),
    ("alignment_path", {"liminal_weight": -1.0}, "liminal_weight must be at least 0"),
    ("alignment_path", {"liminal_weight": float("nan")}, "liminal_weight must be at least 0"),
    ("alignment_path", {"liminal_fraction": 1.5}, r"liminal_fraction must be in \[0, 1\]"),
    ("behavioural_cloning", {"cloning_epochs": ()}, "cloning_epochs must ascend"),
    ("behavioural_cloning", {"cloning_epochs": (3, 1)}, r"cloning_epochs must ascend.*\(3, 1\)"),
    ("behavioural_cloning", {"cloning_epochs": (-1, 1)}, "cloning_epochs must ascend"),
    ("behavioural_cloning", {"cloning_inputs": "faces"}, "cloning_inputs must be one of noise, digits"),
    ("detection", {"pairs": (10, 1)}, r"pairs must ascend from 1 or more, got \(10, 1\)"),
    ("detection", {"pairs": (1, 1000)}, r"pairs cannot exceed the 300 noise images, got \(1, 1000\)"),
    ("detection", {"released": ("logit",)}, "unknown released 'logit'; did you mean 'logits'"),
    ("detection", {"released": ("logits", "logits")}, "released must have at least one, each once"),
    ("detection", {"auxiliary": 1}, "auxiliary must be at least 2"),
    ("detection", {"loss": "huber"}, "no loss 'huber' with temperature None"),
    ("init_distance", {"distances": (0.0,)}, r"distances must lie in \(0, 1\], got \(0.0,\)"),
    ("init_distance", {"distances": (0.1, 0.1)}, "distances must have at least one, each once"),
    ("init_distance", {"parts": ("hiden",)}, "unknown part 'hiden'; did you mean 'hidden'"),
    ("init_distance", {"ways": ("interpolate",)}, "unknown way 'interpolate'; did you mean 'interpolated'"),
    ("linearised", {"widths": ()}, "widths must be at least one positive number"),
    ("linearised", {"widths": (8, 8)}, "each once"),
    ("linearised", {"widths": (0,)}, "widths must be at least one positive number"),
    ("linearised", {"hidden": ()}, "hidden must have at least one layer"),
    ("linearised", {"full_batch_images": 2000}, "full_batch_images 2000 must not exceed noise_images 1024"),
    ("linearised", {"sgd_learning_rate": 0.0}, "sgd_learning_rate must be positive and finite, got 0"),
    ("mechanism", {"ridge": 0.0}, "ridge must be positive"),
    ("mechanism", {"hidden": ()}, "hidden"),
    ("predictors", {"groups": ("base", "base")}, "groups must have at least one, each once"),
    ("predictors", {"groups": ("bass",)}, "unknown group 'bass'; did you mean 'base'"),
    ("predictors", {"learning_rates": (2, 1)}, r"learning_rates must be two positive numbers, .* got \(2, 1\)"),
    ("predictors", {"noise_scales": (0, 1)}, "noise_scales must be two positive numbers"),
    ("predictors", {"distances": (0.5, 1.5)}, r"distances must be two numbers in \[0, 1\]"),
    ("predictors", {"seeds": 5}, "seeds must lie between 6 and 10000 in each group, got 5"),
    ("predictors", {"first_seed": 2**31 - 50_000}, "must lie in"),
    ("predictors", {"hidden": (8,), "groups": ("one_layer_fewer",)}, "hidden must have at least one layer"),
    ("sampled_labels", {"samples": (10, 1)}, r"samples must ascend from 1 or more, got \(10, 1\)"),
    ("sampled_labels", {"samples": (0,)}, r"samples must ascend from 1 or more, got \(0,\)"),
    ("sampled_labels", {"removed": 1.0}, r"removed must lie in \(0, 1\) and split the 4096 images, got 1.0"),
    ("sampled_labels", {"removed": 1e-9}, "split the 4096 images, got 1e-09"),
    ("sampled_labels", {"removed": float("nan")}, "split the 4096 images, got nan"),
    ("sampled_labels", {"temperature": 2.0}, "no loss 'kl' with temperature 2.0"),
    ("shared_parts", {"groups": ("redrwan",)}, "unknown group 'redrwan'; did you mean 'redrawn'"),
    ("shared_parts", {"groups": ("frozen", "frozen")}, "groups must have at least one, each once"),
    ("shared_parts", {"hidden": ()}, "hidden must have at least one layer"),
    ("traps", {"init": "he"}, "init is what a trap changes: it must be paper, got he"),
    ("traps", {"optimizer": "sgd"}, "optimizer is what a trap changes: it must be adam, got sgd"),
    ("traps", {"loss": "squared_error"}, "loss is what a trap changes"),
    ("traps", {"temperature": 2.0}, "temperature is what a trap changes: it must be None, got 2.0"),
    ("traps", {"auxiliary": 1}, "auxiliary must be at least 2"),
    ("traps", {"decay": 0.0}, "decay must be positive and finite, got 0.0"),
    ("traps", {"share": 1.0}, r"share must lie in \(0, 1\), got 1.0"),
    ("theorem_cosines", {"epsilon": 0.0}, r"epsilon must lie in \(0, 1\], got 0.0"),
    ("theorem_cosines", {"activations": ("tahn",)}, "unknown activation 'tahn'; did you mean 'tanh'"),
    ("theorem_alignment", {"decades": 3}, "decades must be at least 9"),
    ("theorem_alignment", {"losses": ("hubre",)}, "unknown imitation loss 'hubre'; did you mean 'huber'"),
    ("theorem_layers", {"hidden": (16, 0)}, r"hidden\[1\] must be at least 1, got 0"),
    ("theorem_layers", {"auxiliary": 1}, "auxiliary must be at least 2 for 'kl'"),
    ("theorem_layers", {"images": 99_999}, "images must be at most 1437 for digits, got 99999"),
    ("theorem_mismatch", {"ratios": (-1.0,)}, "ratios must be positive"),
    ("theorem_orthogonal", {"noise": "unifrom"}, "unknown noise 'unifrom'; did you mean 'uniform'"),
]


@pytest.mark.parametrize(("name", "changes", "message"), WRONG)
def test_a_wrong_setting_is_named_before_anything_runs(name, changes, message, monkeypatch):
    monkeypatch.setattr(experiment, "run_seeds", lambda *_, **__: pytest.fail("it ran"))
    with pytest.raises((ValueError, DataError), match=message):
        run(find(name), find(name).presets["smoke"].but(**changes))


def test_the_last_seed_that_leaves_room_for_the_next_is_allowed():
    assert find("fig10").presets["smoke"].but(first_seed=2**31 - 2, seeds=1).first_seed == 2**31 - 2
