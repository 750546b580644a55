"""The traps: each mistake is the one that it is called, and does what is certain of it at any size."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
import small

import figures
from experiments import traps
from experiments.distillation import Split, Start
from experiments.expectations import judge
from sublim_theory import data, losses

SETTINGS = small.settings("traps")
NET = SETTINGS.protocol.make_network(SETTINGS.rates, SETTINGS.protocol.select(data.load("digits")))


@pytest.fixture(scope="module")
def record(recorded):
    return recorded("traps", SETTINGS)


@pytest.fixture(scope="module")
def drawing():
    return figures.importlib.import_module("figures.traps")


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(size=(2, 7, 13)).astype(np.float32)


def values(record, name):
    return np.asarray(record.conditions[name].values)


def losses_of(record, student):
    """Of every update, [seeds, steps]."""
    return record.table["student_loss"].sel(student=student).values


def test_every_condition_is_there_in_its_order(record):
    last = ("permuted", "selected/student", "selected/control", "one_logit/difference")
    assert tuple(record.conditions) == ("reference", "teacher", *traps.STUDENTS, *last)


def test_every_student_is_another_and_goes_wrong_as_it_is_said_to(record):
    right = losses_of(record, "student_aux")
    assert len({losses_of(record, name).tobytes() for name in traps.STUDENTS}) == len(traps.STUDENTS)
    # A copy of the trained teacher has nothing to learn: its loss is rounding from the first update on.
    assert losses_of(record, "copied/student")[:, 0].max() < 1e-6 < right[:, 0].min()
    np.testing.assert_allclose(values(record, "copied/student"), values(record, "teacher"), atol=0.05)
    # So little decay does nothing, unless Adam rescales it: weights from pixels that never vary have no other gradient.
    np.testing.assert_allclose(losses_of(record, "adamw/student"), right, rtol=1e-2)
    assert np.abs(losses_of(record, "adam_l2/student") / right - 1).max() > 0.1


def test_a_softmax_over_one_logit_moves_nothing_and_squared_error_does(record):
    assert not losses_of(record, "one_logit/softmax").any()
    assert values(record, "one_logit/softmax").tolist() == values(record, "reference").tolist()
    assert (np.diff(losses_of(record, "one_logit/squared_error")[:, ::9]) < 0).all()


def test_the_best_epoch_is_never_below_the_last(record):
    for name, kind in {"student_aux": "student", "cross_aux": "control"}.items():
        path = record.table["accuracy_by_epoch"].sel(kind=kind).values
        assert path.shape == (SETTINGS.seeds, SETTINGS.protocol.student_epochs)
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


def altered(record, **changes):
    """The record with other values of some conditions."""
    table, rows = record.table.copy(deep=True), {row.name: row for row in record.rows}
    for name, each in changes.items():
        table[rows[name].variable].loc[rows[name].at] = each
    return dataclasses.replace(record, table=table)


def test_the_figure_has_a_row_a_trap(record, drawing):
    (figure,) = drawing.draw(record).values()
    (axes,) = figure.axes
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert sorted(rows) == sorted(text for _, text in drawing.ROWS.values())
    drawn = [container.lines[0].get_xdata().tolist() for container in axes.containers]
    texts = {text: wrong for wrong, (_, text) in drawing.ROWS.items()}
    pairs = [(drawing.ROWS[wrong][0], wrong) for wrong in map(texts.get, rows)]
    assert drawn == [[record.conditions[name].mean for name in each] for each in zip(*pairs, strict=True)]


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
