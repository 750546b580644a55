"""Students over time: each epoch is that of figure 10 with so many epochs, and frozen heads stay where they are."""

import dataclasses

import jax
import numpy as np
import pytest
import small

import figures
from experiments import saturation
from experiments.distillation import begin
from sublim_theory import data, losses, training
from sublim_theory.protocols import UnknownNameError

SETTINGS = saturation.PRESETS["smoke"].but(**small.SHARED | {"student_epochs": 3})
FROZEN = SETTINGS.but(seeds=1, frozen_heads=True, loss="squared_error", students=("student_all", "cross_aux"))


@pytest.fixture(scope="module")
def record(recorded):
    return recorded("saturation", SETTINGS)


def test_a_student_after_some_epochs_is_that_of_figure_10_which_stops_there(record, tiny, tiny_record):
    assert tiny.protocol.student_epochs == 2 < SETTINGS.protocol.student_epochs
    ours, theirs = record.table, tiny_record.table.sel(seed=[0, 1])
    assert ours["epoch"].values.tolist() == [1, 2, 3]
    students = list(saturation.STUDENTS)
    after = ours["accuracy_by_epoch"].sel(student=students, epoch=2).values
    np.testing.assert_allclose(after, theirs["accuracy"].sel(network=students).values, atol=1.1 / 360)
    steps = theirs.sizes["step"]
    path = ours["student_loss"].sel(student=students).isel(step=slice(steps)).values
    np.testing.assert_allclose(path, theirs["student_loss"].sel(student=students).values, rtol=1e-3, atol=1e-6)
    for name in ("reference", "teacher"):
        np.testing.assert_array_equal(ours["accuracy"].sel(network=name), theirs["accuracy"].sel(network=name))


def test_with_frozen_heads_a_student_moves_its_hidden_layers_alone(recorded):
    """Against `training.distil`, which has frozen layers of its own."""
    protocol, rates = FROZEN.protocol, FROZEN.rates
    split = protocol.select(data.load("digits"))
    net = protocol.make_network(rates, split)

    heads = ("class_head", "auxiliary_head")

    @jax.jit
    def oracle(split):
        start = begin(protocol, rates, split, 0)
        both = {"student_all": (start.reference, net.all_logits), "cross_aux": (start.other, net.auxiliary)}
        students = {
            (name, frozen): training.Student(params, losses.on_logits(losses.squared_error, logits), frozen)
            for name, (params, logits) in both.items()
            for frozen in (heads, ())
        }
        optimizer = protocol.make_optimizer(rates)
        students = {" ".join([name, *frozen]): student for (name, frozen), student in students.items()}
        fit = training.distil(net, start.teacher.params, students, start.images, optimizer, start.batches)
        test = {name: training.accuracy(net, each, split.test_x, split.test_y) for name, each in fit.params.items()}
        return fit.losses, test

    path, accuracy = jax.device_get(oracle(split))
    table = recorded("saturation", FROZEN).table
    for name in FROZEN.protocol.students:
        ours, last = table["student_loss"].sel(student=name).values[0], table["accuracy_by_epoch"].sel(student=name)
        np.testing.assert_allclose(ours, path[" ".join([name, *heads])], rtol=1e-3)
        np.testing.assert_allclose(last.values[-1, 0], accuracy[" ".join([name, *heads])], atol=1.1 / 360)
        assert np.abs(path[name][1:] / ours[1:] - 1).max() > 0.01, "heads that are free move: a control"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"students": ("student_aux", "nobody")}, "nobody"),
        ({"students": ("cross_all", "cross_all")}, "students must have at least one, each once"),
        ({"frozen_heads": True, "hidden": ()}, "hidden must have at least one layer"),
    ],
)
def test_settings_without_meaning_are_refused(change, words):
    with pytest.raises((ValueError, UnknownNameError), match=words):
        SETTINGS.but(**change)


def test_the_presets_have_the_updates_of_those_who_report_them():
    updates_of = {"paper": 59 * 20, "long": 469 * 18, "squared_error": 59 * 5, "fifty_thousand": 49 * 10}
    for preset, updates in updates_of.items():
        protocol = saturation.PRESETS[preset].protocol
        epoch = training.steps_per_epoch(protocol.noise_images, protocol.batch_size)
        assert epoch * protocol.student_epochs == updates
    assert training.steps_per_epoch(60_000, 128) * 9 == 4221


def test_the_figure_has_every_student_over_its_updates_and_what_is_reported_where_it_is(record):
    drawing = figures.importlib.import_module("figures.saturation")
    (axes,) = drawing.draw(record)["saturation"].axes
    lines = {line.get_label(): line for line in axes.lines}
    epoch = training.steps_per_epoch(SETTINGS.protocol.noise_images, SETTINGS.protocol.batch_size)
    for name, look in drawing.STUDENTS.items():
        assert lines[look.text].get_xdata().tolist() == [epoch, 2 * epoch, 3 * epoch]
        means = record.table["accuracy_by_epoch"].sel(student=name).mean("seed")
        np.testing.assert_allclose(lines[look.text].get_ydata(), means, rtol=1e-5)
    assert "reported" not in axes.get_legend_handles_labels()[1]
    (axes,) = drawing.draw(dataclasses.replace(record, preset="long"))["saturation"].axes
    reported = [points.get_offsets().tolist() for points in axes.collections if len(points.get_offsets()) == 1]
    assert [[9 * epoch, 0.963]] in reported
