"""Many logits: what passes through a head against dense algebra and its limits, the students against an oracle."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

import figures
from experiments import many_logits
from experiments.distillation import begin
from experiments.experiment import points
from sublim_theory import data, losses
from sublim_theory.ensemble import stream

SETTINGS = many_logits.PRESETS["smoke"].but(**small.SHARED, auxiliaries=(3, 24))
WIDTH = 12
POINT = SETTINGS.but(seeds=1, student_epochs=1, auxiliary=16, auxiliaries=(16,))


@pytest.fixture(scope="module")
def record(recorded):
    return recorded("many_logits", SETTINGS)


def instance(m, loss="kl", images=40):
    """Changes of a last hidden layer, a head, and the change of the logits behind it, in float64."""
    random = np.random.default_rng(m)
    moved, kernel = random.normal(size=(images, WIDTH)), random.normal(size=(WIDTH, m))
    change = moved @ kernel
    if loss in ("kl", "cross_entropy"):  # the projection that a softmax makes, written out
        centring = np.eye(m) - np.ones((m, m)) / m
        kernel, change = kernel @ centring, change @ centring
    return change, moved, kernel


def found(change, moved, kernel):
    with jax.enable_x64(True):
        return {
            name: float(value)
            for name, value in many_logits.passing(*map(jnp.asarray, (change, moved, kernel))).items()
        }


@pytest.mark.parametrize("loss", ["kl", "squared_error"])
@pytest.mark.parametrize("m", [2, 3, 7, WIDTH, WIDTH + 1, 50])
def test_what_passes_is_that_of_dense_algebra_and_all_of_it_once_the_rank_is_the_width(m, loss):
    change, moved, kernel = instance(m, loss)
    passes, rank = found(change, moved, kernel), min(WIDTH, m - (loss == "kl"))
    assert passes["rank"] == rank == np.linalg.matrix_rank(change)
    through = kernel @ np.linalg.pinv(kernel, rcond=1e-10)  # the projection onto its range, by another route
    assert passes["share"] == pytest.approx(np.sum((moved @ through) ** 2) / np.sum(moved**2), rel=1e-9)
    assert (abs(passes["share"] - 1) < 1e-12) == (rank == WIDTH), "exactly 1, and not before"
    eigenvalues = np.linalg.eigvalsh(change.T @ change)
    assert passes["effective_rank"] == pytest.approx(eigenvalues.sum() ** 2 / (eigenvalues**2).sum(), rel=1e-9)
    assert 1 <= passes["effective_rank"] <= rank
    signal = (change @ kernel.T).ravel()
    assert passes["cosine"] == pytest.approx(signal @ moved.ravel() / np.linalg.norm(signal) / np.linalg.norm(moved))


def test_nothing_passes_of_a_change_that_the_head_does_not_see_and_all_logits_alike_are_none():
    _, moved, kernel = instance(5)
    hidden = moved @ (np.eye(WIDTH) - kernel @ np.linalg.pinv(kernel, rcond=1e-10))
    passes = found(hidden @ kernel, hidden, kernel)
    assert passes["share"] < 1e-20
    assert np.linalg.norm(hidden) > 1
    common = jnp.ones((4, 7))
    assert not many_logits.seen(common, "kl").any()
    assert not many_logits.seen(common, "cross_entropy").any()
    assert many_logits.seen(common, "squared_error") is common


def test_the_cosine_is_that_of_its_law_for_independent_weights():
    random = np.random.default_rng(0)
    moved, width = random.normal(size=(200, 100)), 100
    for m in (25, 100, 400):
        kernel = random.normal(size=(width, m))
        cosine = found(moved @ kernel, moved, kernel)["cosine"]
        assert cosine == pytest.approx(1 / np.sqrt(1 + width / m), abs=0.02)


def test_three_logits_have_the_teacher_and_the_students_of_figure_10(record, tiny, tiny_record):
    assert tiny.protocol.auxiliary == 3
    ours = record.table["accuracy"].sel(auxiliary=3)
    theirs = tiny_record.table["accuracy"].sel(seed=[0, 1])
    names = {"reference": "reference", "teacher": "teacher", "shared": "student_aux", "cross": "cross_aux"}
    for name, same in names.items():
        np.testing.assert_allclose(ours.sel(network=name), theirs.sel(network=same), atol=1.1 / 360)
    for name in ("reference", "teacher"):  # no gradient reaches the auxiliary head: its size changes neither
        np.testing.assert_array_equal(ours.sel(network=name), record.table["accuracy"].sel(auxiliary=24, network=name))


def test_the_table_has_what_passes_by_the_number_of_logits(record):
    assert record.table["auxiliary"].values.tolist() == [3, 24]
    rank = record.table["rank"].values
    (width,) = SETTINGS.protocol.hidden
    assert (rank[0] == 2).all()
    assert (rank[1] <= width).all()
    assert (record.table["share"].values[1] > 1 - 1e-5).all()
    assert (record.table["share"].values[0] < 0.6).all()
    assert [m for (m,) in points(many_logits.EXPERIMENT, SETTINGS, "smoke")] == [3, 24]


@pytest.fixture(scope="module")
def trained():
    """One seed with 16 logits: what `run_seed` finds where 2 and where all of them are drawn, and the seed's start."""
    split = POINT.protocol.select(data.load("digits"))

    @jax.jit
    def run(split):
        every = dataclasses.replace(POINT.protocol, drawn=1.0)
        found = [many_logits.run_seed(each, POINT.rates, split, 0) for each in (POINT.protocol, every)]
        start = begin(POINT.protocol, POINT.rates, split, 0)
        return found, (start.key, start.reference, start.other, start.teacher.params, start.images, start.batches)

    found, start = run(split)
    return found, start, POINT.protocol.make_network(POINT.rates, split)


def test_the_student_of_drawn_logits_is_that_of_a_plain_loop_that_masks_the_others(trained):
    (ours, _), (key, student, _, teacher, images, batches), net = trained
    count, m = POINT.protocol.drawn_logits, POINT.protocol.auxiliary
    assert (count, m) == (2, 16)
    optimizer, path = POINT.protocol.make_optimizer(POINT.rates), []
    state = optimizer.init(student)

    def loss(params, x, mask, weights):
        mine, theirs = (net.auxiliary_logits(net.apply(each, x)) - mask for each in (params, teacher))
        return jnp.sum(weights * losses.kl_divergence(mine, theirs)) / weights.sum()

    step = jax.jit(jax.value_and_grad(loss))
    for number, (rows, weights) in enumerate(zip(batches.indices, batches.weights, strict=True)):
        draw = jax.random.fold_in(stream(key, "many_logits/drawn"), number)
        columns = np.asarray(jax.random.choice(draw, m, (count,), replace=False))
        mask = np.where(np.isin(np.arange(m), columns), 0, 1e4).astype(np.float32)[None]
        path.append(float(step(student, images[rows], 0 * mask, weights)[0]))  # recorded on all logits
        updates, state = optimizer.update(step(student, images[rows], mask, weights)[1], state, student)
        student = jax.tree.map(jnp.add, student, updates)
    np.testing.assert_allclose(ours["student_loss"]["drawn"], path, rtol=1e-3)
    shared = np.asarray(ours["student_loss"]["shared"])
    assert np.abs(shared[1:] / np.asarray(path)[1:] - 1).max() > 0.01, "all logits make another student: a control"


def test_where_all_logits_are_drawn_the_student_is_the_shared_one(trained):
    (few, every), _, _ = trained
    path = every["student_loss"]
    np.testing.assert_allclose(path["drawn"], path["shared"], rtol=1e-3)
    np.testing.assert_allclose(few["student_loss"]["shared"], path["shared"], rtol=1e-3)
    starts = [float(path[name][0]) for name in ("shared", "redrawn_head", "cross")]
    assert starts[0] < starts[1], "its own head makes other logits of the same body"
    assert len(set(starts)) == 3


def test_the_teachers_logits_change_by_what_its_hidden_layer_does_through_an_unchanged_head(trained):
    (ours, _), (_, reference, _, teacher, images, _), net = trained
    jax.tree.map(np.testing.assert_array_equal, reference[net.auxiliary_head], teacher[net.auxiliary_head])
    moved = net.hidden(teacher, images)[-1] - net.hidden(reference, images)[-1]
    change = np.asarray(net.auxiliary_logits(net.apply(teacher, images) - net.apply(reference, images)), np.float64)
    kernel = reference[net.auxiliary_head]["kernel"]
    np.testing.assert_allclose(change, np.matmul(moved, kernel), atol=1e-5)
    seen = change - change.mean(axis=1, keepdims=True)
    squares = np.linalg.svd(seen, compute_uv=False) ** 2
    assert float(ours["effective_rank"]) == pytest.approx(squares.sum() ** 2 / (squares**2).sum(), rel=1e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"auxiliaries": ()}, "auxiliaries must have at least one"),
        ({"auxiliaries": (4, 4)}, "auxiliaries must have at least one, each once"),
        ({"auxiliaries": (4, 0)}, "auxiliary must be"),
        ({"auxiliaries": (1, 4)}, "auxiliaries must be at least 2"),
        ({"drawn": 0.0}, r"drawn must lie in \(0, 1\], got 0.0"),
        ({"drawn": 1.5}, r"drawn must lie in \(0, 1\], got 1.5"),
        ({"hidden": ()}, "hidden must have at least one layer"),
    ],
)
def test_settings_without_meaning_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        SETTINGS.but(**change)


def test_the_figure_has_the_means_of_the_record_and_reported_values_at_their_settings_alone(record, monkeypatch):
    drawing = figures.importlib.import_module("figures.many_logits")
    (figure,) = drawing.draw(record).values()
    accuracy, passes, ranks = figure.axes
    assert len(accuracy.containers) == len(drawing.STUDENTS)
    for name, bars in zip(drawing.STUDENTS, accuracy.containers, strict=True):
        means = record.table["accuracy"].sel(network=name).mean("seed")
        np.testing.assert_allclose(bars.lines[0].get_ydata().tolist(), means, rtol=1e-5)
    for axes, names in ((passes, drawing.FRACTIONS), (ranks, drawing.RANKS)):
        for name, bars in zip(names, axes.containers, strict=True):
            np.testing.assert_allclose(bars.lines[0].get_ydata().tolist(), record.table[name].mean("seed"), rtol=1e-5)
    assert "reported" not in accuracy.get_legend_handles_labels()[1]
    reported = {"many_logits-paper": {"auxiliary=4096/shared": 0.927, "auxiliary=4096/teacher": 0.944}}
    monkeypatch.setattr(drawing.plots, "reported", lambda name: reported.get(name, {}))
    (figure,) = drawing.draw(dataclasses.replace(record, preset="paper")).values()
    assert "reported" in figure.axes[0].get_legend_handles_labels()[1]
