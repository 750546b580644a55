"""Shared, redrawn and frozen parts, and students of another network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import figures
from experiments import shared_parts, sweep
from experiments.distillation import begin
from experiments.experiment import run
from sublim_theory import cli, data, losses, networks, training
from sublim_theory.optimizers import optimizer
from sublim_theory.training import Student

SETTINGS = shared_parts.PRESETS["smoke"].but(
    seeds=2,
    hidden=(24, 16),
    auxiliary=3,
    noise_images=300,
    teacher_epochs=2,
    student_epochs=2,
    groups=shared_parts.GROUPS,
)
SMALL = SETTINGS.but(hidden=(16,), seeds=1, groups=("frozen", "network"))


def same(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


@pytest.fixture(scope="module")
def seed():
    """A seed's start, students, and what they became."""
    digits = data.load("digits")
    protocol, rates = SETTINGS.protocol, SETTINGS.rates
    split = protocol.select(digits)
    loss = losses.on_logits(protocol.imitation_loss(rates), protocol.make_network(rates, split).auxiliary)
    students = {}

    @jax.jit
    def train(split):
        start, net = begin(protocol, rates, split, jnp.int32(0)), protocol.make_network(rates, split)
        students.update(shared_parts.students_of(protocol, rates, split, start, loss))
        rule = optimizer("adamw", 1e-2, weight_decay=0.1)
        fit = training.distil(net, start.teacher.params, students, start.images, rule, start.batches)
        return start, {name: student.params for name, student in students.items()}, fit

    start, initial, fit = train(split)
    return start, {name: students[name]._replace(params=initial[name]) for name in students}, fit


@pytest.fixture(scope="module")
def record():
    return run(shared_parts.EXPERIMENT, SMALL)


def test_there_is_a_student_for_every_part(seed):
    redrawn = ["none", "hidden_0", "hidden_1", "hidden", "class_head", "auxiliary_head", "all"]
    names = [f"redrawn/{part}" for part in redrawn] + ["frozen/class_head", "frozen/auxiliary_head"]
    names += [f"network/{kind}" for kind in ("shallower", "deeper", "narrower", "wider")]
    names += ["convolutional/3x3"]
    assert list(seed[1]) == SETTINGS.protocol.students() == names


def test_a_redrawn_part_is_the_next_seeds_and_the_rest_the_reference_bit_for_bit(seed):
    start, students, _ = seed
    for name, student in students.items():
        group, _, part = name.partition("/")
        if group == "redrawn":
            for layer, values in student.params.items():
                own = part in ("all", layer) or (part == "hidden" and layer.startswith("hidden"))
                assert same(values, (start.other if own else start.reference)[layer]), (name, layer)
                assert not same(values["kernel"], start.teacher.params[layer]["kernel"]) or layer == "auxiliary_head"


def test_frozen_layers_do_not_move_and_others_do(seed):
    """Under decoupled weight decay, which moves a layer without any gradient."""
    start, students, fit = seed
    for name, student in students.items():
        after = fit.params[name]
        assert set(after) == set(student.params)
        for layer, before in student.params.items():
            assert same(after[layer]["kernel"], before["kernel"]) == (layer in student.frozen), (name, layer)
    assert same(fit.params["frozen/class_head"]["class_head"], start.reference["class_head"])


def test_freezing_the_class_head_changes_nothing_else(seed):
    fit = seed[2]
    np.testing.assert_array_equal(fit.losses["frozen/class_head"], fit.losses["redrawn/none"])
    for layer in ("hidden_0", "hidden_1", "auxiliary_head"):
        assert same(fit.params["frozen/class_head"][layer], fit.params["redrawn/none"][layer])
    # The auxiliary head is what a student with that head frozen would like to move.
    assert not np.array_equal(fit.losses["frozen/auxiliary_head"], fit.losses["redrawn/none"])


def test_other_networks_have_the_references_heads_and_hidden_layers_of_their_own(seed):
    start, students, _ = seed
    widths = {
        name: [student.params[layer]["kernel"].shape[1] for layer in student.params if layer.startswith("hidden")]
        for name, student in students.items()
        if student.net
    }
    expected = {"shallower": [16], "deeper": [24, 24, 16], "narrower": [12, 16], "wider": [48, 16]}
    assert widths == {f"network/{kind}": shape for kind, shape in expected.items()} | {"convolutional/3x3": [16]}
    kernels = [students["convolutional/3x3"].params[f"convolution_{i}"]["kernel"].shape for i in (0, 1)]
    assert kernels == [(3, 3, 1, 16), (3, 3, 16, 32)], "its first layers see neighbourhoods of a square image"
    for name in widths:
        for head in shared_parts.HEADS:
            assert same(students[name].params[head], start.reference[head])


def test_a_network_of_one_layer_has_only_the_students_that_there_can_be():
    protocol = SETTINGS.but(hidden=(16,)).protocol
    assert protocol.other_hidden() == {"deeper": (16, 16)}
    assert protocol.redrawn() == ["hidden_0", "class_head", "auxiliary_head", "all"]


def test_a_students_network_and_frozen_layers_may_be_left_out():
    """A pair of parameters and loss is a student, and every layer may be frozen."""
    net = networks.mlp(5, (24, 16))
    rule = optimizer("adam", 1e-3)

    @jax.jit
    def train(params, teacher, x):
        pair = (params, losses.squared_error)
        plan = training.schedule(jax.random.key(1), 4, batch_size=2, epochs=1)
        return training.distil(net, teacher, {"pair": pair, "still": Student(*pair, tuple(params))}, x, rule, plan)

    params = jax.jit(net.init)(jax.random.key(0))
    fit = train(params, jax.jit(net.init)(jax.random.key(2)), jnp.ones((4, 5)))
    assert same(fit.params["still"], params)
    assert not same(fit.params["pair"], params)


def test_a_layer_that_is_not_there_cannot_be_frozen():
    net = networks.mlp(5, (24, 16))
    params = jax.eval_shape(net.init, jax.random.key(0))
    students = {"s": Student(params, losses.squared_error, frozen=("head",))}
    plan = training.Schedule(jnp.zeros((1, 4), jnp.int32), jnp.ones((1, 4)))
    with pytest.raises(ValueError, match=r"s has no layer 'head' to freeze; it has .*class_head"):
        training.distil(net, params, students, jnp.ones((4, 5)), optimizer("adam", 1e-3), plan)


def test_the_record_and_its_figure_have_every_student(record, tmp_path):
    assert list(record.conditions) == ["reference", "teacher", *SMALL.protocol.students()]
    assert record.conditions["frozen/class_head"] == record.conditions["redrawn/none"]
    (figure,) = figures.importlib.import_module("figures.shared_parts").draw(record).values()
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == pytest.approx([summary.mean for summary in record.conditions.values()])
    assert {path.name for path in figures.save(record, tmp_path)} == {"shared_parts.png", "shared_parts.svg"}


def test_it_can_be_swept_like_any_experiment(tmp_path):
    vary = {"learning_rate": (1e-3, 3e-3)}
    swept = run(
        sweep.over(shared_parts.EXPERIMENT, lambda _: vary, name="sweep_shared_parts", summary=""),
        SMALL.but(groups=("frozen",)),
    )
    assert "learning_rate=0.003/frozen/auxiliary_head" in swept.conditions
    (axes,) = figures.importlib.import_module("figures.any_record").draw(swept)["sweep"].axes
    assert {"everything shared", "class head frozen", "teacher"} <= set(axes.get_legend_handles_labels()[1])
    figures.save(swept, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--groups redrwan", "unknown group 'redrwan'; did you mean 'redrawn'?"),
        ("--groups frozen frozen", "groups must have at least one, each once"),
        ("--hidden", "hidden must have at least one layer"),
        ("--auxiliary 0", "auxiliary must be at least 1, got 0"),
    ],
)
def test_a_wrong_setting_is_named_before_any_work(capsys, options, message):
    assert cli.main(["reproduce", "shared_parts", "--preset", "smoke", *options.split()]) == 2
    assert message in capsys.readouterr().err
