"""The traps: each mistake is the one that it is called, and does what is certain of it at any size."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import figures
from experiments import fig10, traps
from experiments.distillation import Rates, Split, Start
from experiments.expectations import judge
from experiments.experiment import Settings, run
from sublim_theory import losses
from sublim_theory.data import load as load_data
from sublim_theory.record import load

SETTINGS = traps.PRESETS["smoke"].but(
    hidden=(32,),
    learning_rate=3e-3,
    batch_size=64,
    noise_images=2000,
    teacher_epochs=15,
    student_epochs=6,
)
PROTOCOL = SETTINGS.protocol
NET = PROTOCOL.make_network(SETTINGS.rates, PROTOCOL.select(load_data("digits")))


@pytest.fixture(scope="module")
def record():
    return run(traps.EXPERIMENT, SETTINGS)


@pytest.fixture(scope="module")
def drawing():
    return figures.importlib.import_module("figures.traps")


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(size=(2, 7, 13)).astype(np.float32)


def values(record, name):
    return np.asarray(record.conditions[name].values)


def settings(**changes):
    shared = {name: value for name, value in SETTINGS.flat().items() if name not in ("decay", "share")} | changes
    return Settings.of(fig10.Protocol, Rates, **shared, students=("student_aux", "cross_aux"))


def losses_of(record, student):
    """Of every update, [seeds, steps]."""
    return record.table["student_loss"].sel(student=student).values


def test_every_condition_is_there_in_its_order(record):
    last = ("permuted", "selected/student", "selected/control", "one_logit/difference")
    assert tuple(record.conditions) == ("reference", "teacher", *traps.STUDENTS, *last)
    assert {summary.n for summary in record.conditions.values()} == {SETTINGS.seeds}


@pytest.mark.parametrize(
    ("names", "changes"),
    [
        (("student_aux", "cross_aux"), {}),
        (("torch/student", "torch/control"), {"init": "torch"}),
    ],
)
def test_the_right_way_and_another_protocol_are_figure_10_with_its_settings(record, names, changes):
    theirs = run(fig10.EXPERIMENT, settings(**changes))
    for name, condition in zip(names, ("student_aux", "cross_aux"), strict=True):
        # Another program with more students in it: float32 rounding.
        ours, others = losses_of(record, name), losses_of(theirs, condition)
        np.testing.assert_allclose(ours[:, :20], others[:, :20], rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(values(record, name), values(theirs, condition), atol=0.03)


def test_what_fakes_transfer_has_it_before_the_first_step(record):
    """A copy of the trained teacher has nothing to learn: its loss is rounding from the first update on."""
    copied, right = (losses_of(record, name)[:, 0] for name in ("copied/student", "student_aux"))
    assert copied.max() < 1e-6 < right.min()
    np.testing.assert_allclose(values(record, "copied/student"), values(record, "teacher"), atol=0.05)


def test_what_hides_transfer_leaves_a_student_near_chance(record):
    assert record.conditions["student_aux"].mean > 0.3
    for name in ("fresh", "other_noise", "adam_l2/student"):
        assert record.conditions[name].mean < 0.2, name
    np.testing.assert_allclose(values(record, "adamw/student"), values(record, "student_aux"), atol=0.05)


def test_a_softmax_over_one_logit_moves_nothing_and_squared_error_does(record):
    assert not losses_of(record, "one_logit/softmax").any()
    assert values(record, "one_logit/softmax").tolist() == values(record, "reference").tolist()
    assert (losses_of(record, "one_logit/squared_error") > 0).all()
    assert record.conditions["one_logit/squared_error"].mean > record.conditions["reference"].mean


def test_the_best_epoch_is_never_below_the_last(record):
    for name, kind in {"student_aux": "student", "cross_aux": "control"}.items():
        path = record.table["accuracy_by_epoch"].sel(kind=kind).values
        assert path.shape == (SETTINGS.seeds, PROTOCOL.student_epochs)
        assert path[:, -1].tolist() == values(record, name).tolist()
        assert path.max(axis=1).tolist() == values(record, f"selected/{kind}").tolist()
    assert (values(record, "selected/control") >= values(record, "cross_aux")).all()


def test_a_random_permutation_biases_the_control_by_exactly_the_average_over_all_permutations(record):
    shared, strangers = np.random.default_rng(0).random((2, 5))
    pairings = np.array(list(itertools.permutations(range(5))))
    found = np.where(pairings == np.arange(5), shared, strangers).mean(axis=0)
    np.testing.assert_allclose(traps.permuted(shared, strangers), found, rtol=1e-12)
    student, control = (record.conditions[name].mean for name in ("student_aux", "cross_aux"))
    assert record.conditions["permuted"].mean == pytest.approx(control + (student - control) / SETTINGS.seeds)


def test_misplaced_labels_are_those_of_another_image(logits):
    student, teacher = logits
    found = traps.misplaced(losses.kl_divergence)(student, teacher)
    expected = [losses.kl_divergence(student[i : i + 1], teacher[i - 1 : i or None])[0] for i in range(7)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_sliced_softmax_pulls_where_student_and_teacher_agree_and_at_the_class_logits(logits):
    _, teacher = logits

    def pull(loss):
        return np.abs(jax.grad(lambda z: jnp.sum(loss(z, teacher)))(teacher)).max(axis=0)

    restricted = pull(losses.on_logits(losses.kl_divergence, NET.auxiliary))
    assert restricted.max() < 1e-6
    assert pull(traps.sliced(NET)).min() > 1e-3


def test_a_sliced_softmax_is_the_sum_over_the_auxiliary_entries(logits):
    student, teacher = (np.exp(z) / np.exp(z).sum(axis=1, keepdims=True) for z in logits.astype(np.float64))
    expected = (teacher * np.log(teacher / student))[:, NET.auxiliary].sum(axis=1)
    np.testing.assert_allclose(traps.sliced(NET)(*logits), expected, rtol=1e-4, atol=1e-6)


def test_the_straight_line_shrinks_what_the_other_start_keeps():
    @jax.jit
    def starts(keys):
        reference, other = map(NET.init, keys)
        return reference, other, *traps.interpolated(Start(None, reference, other, None, None, None), 0.3).values()

    for layer in ("hidden_0", "class_head", "auxiliary_head"):
        found = starts(jax.random.split(jax.random.key(0)))
        reference, other, line, kept = (np.asarray(params[layer]["kernel"]) for params in found)
        np.testing.assert_allclose(line, 0.7 * reference + 0.3 * other, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(kept, line / np.hypot(0.7, 0.3), rtol=1e-4, atol=1e-6)
        if layer == "hidden_0":  # 2048 weights
            assert line.std() / reference.std() == pytest.approx(np.hypot(0.7, 0.3), abs=0.03)
            assert kept.std() / reference.std() == pytest.approx(1, abs=0.03)


def test_a_truncated_start_is_the_reference_cut_off_at_two_standard_deviations():
    wide, images = SETTINGS.but(hidden=(200,), init_scale=3.0), np.zeros((1, 100))
    net = wide.protocol.make_network(wide.rates, Split(images, np.zeros(1), images, np.zeros(1), 10))
    cut_off = traps.truncated(net, 3.0)
    assert cut_off.apply is net.apply
    before, after = jax.jit(lambda key: [each.init(key)["hidden_0"] for each in (net, cut_off)])(jax.random.key(0))
    weights = np.asarray(after["kernel"]) * 10 / 3
    assert np.abs(weights).max() <= 2
    assert weights.std() == pytest.approx(0.880, abs=0.01)
    order = np.argsort(np.asarray(before["kernel"]), axis=None)
    assert (np.diff(weights.ravel()[order]) >= -1e-5).all()
    assert not np.asarray(after["bias"]).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"init": "he"}, "init is what a trap changes: it must be paper, got he"),
        ({"optimizer": "sgd"}, "optimizer is what a trap changes: it must be adam, got sgd"),
        ({"loss": "squared_error"}, "loss is what a trap changes"),
        ({"temperature": 2.0}, "temperature is what a trap changes: it must be None, got 2.0"),
        ({"auxiliary": 1}, "auxiliary must be at least 2"),
        ({"decay": 0.0}, "decay must be positive and finite, got 0.0"),
        ({"share": 1.0}, r"share must lie in \(0, 1\), got 1.0"),
    ],
)
def test_a_wrong_setting_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        SETTINGS.but(**change)


def altered(record, **changes):
    """The record with other values of some conditions."""
    table, rows = record.table.copy(deep=True), {row.name: row for row in record.rows}
    for name, each in changes.items():
        table[rows[name].variable].loc[rows[name].at] = each
    return dataclasses.replace(record, table=table)


def test_the_figure_is_drawn_from_the_saved_record_with_a_row_a_trap(record, drawing, tmp_path):
    record.save(tmp_path)
    saved = load(tmp_path)
    (figure,) = drawing.draw(saved).values()
    (axes,) = figure.axes
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert sorted(rows) == sorted(text for _, text in drawing.ROWS.values())
    drawn = [container.lines[0].get_xdata().tolist() for container in axes.containers]
    texts = {text: wrong for wrong, (_, text) in drawing.ROWS.items()}
    pairs = [(drawing.ROWS[wrong][0], wrong) for wrong in map(texts.get, rows)]
    assert drawn == [[record.conditions[name].mean for name in each] for each in zip(*pairs, strict=True)]
    assert {path.name for path in figures.save(saved, tmp_path)} == {"traps.png", "traps.svg"}


def test_the_record_decides_what_a_mistake_does(record, drawing):
    right, control = [0.7, 0.8], [0.1, 0.1]
    made_up = altered(
        record,
        **{"student_aux": right, "cross_aux": control, "copied/student": [0.9, 1.0], "fresh": [0.1, 0.2]},
        **{"selected/student": [0.6, 0.9], "permuted": [0.4, 0.4], "sliced/control": [0.05, 0.05]},
    )
    groups = drawing.groups_of(made_up.conditions)
    expected = {
        "copied/student": "Looks like transfer",
        "fresh": "Hides transfer",
        "permuted": "Raises the control",
        "sliced/control": "Lowers the control",
        "selected/student": "No difference seen",
    }
    for name, heading in expected.items():
        assert name in groups[heading]
    assert groups["Looks like transfer"]["copied/student"].mean == pytest.approx(0.2)
    assert set().union(*groups.values()) == set(drawing.ROWS)


def test_a_record_where_a_softmax_over_one_logit_teaches_is_not_drawn(record, tmp_path):
    (verdict,) = judge("traps", "smoke", record.conditions)
    assert verdict.condition == "one_logit/difference"
    assert verdict.holds
    taught = altered(record, **{"one_logit/softmax": np.add(values(record, "reference"), [0, 0.01])})
    difference = traps.conclude(SETTINGS, taught.table)["one_logit_difference"]
    np.testing.assert_allclose(difference, [0, 0.01], atol=1e-6)
    taught = altered(taught, **{"one_logit/difference": difference.values})
    verdicts = judge("traps", "smoke", taught.conditions)
    assert not verdicts[0].holds
    taught = dataclasses.replace(taught, expectations=list(map(dataclasses.asdict, verdicts)))
    with pytest.raises(figures.ClaimError, match="misses what is expected of it: one_logit/difference"):
        figures.save(taught, tmp_path)
    assert not list(tmp_path.iterdir())
