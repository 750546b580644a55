"""The experiment in small: what must hold exactly, agreement with figure 10, and the drawing."""

import numpy as np
import pytest

import figures
from experiments import mechanism
from experiments.experiment import Context, run


@pytest.fixture(scope="module")
def record(tiny):
    shared = {name: value for name, value in tiny.flat().items() if name != "students"}
    return run(mechanism.EXPERIMENT, mechanism.PRESETS["smoke"].but(**shared), Context("smoke"))


def test_the_networks_are_those_of_figure_10(record, tiny_record):
    for name in mechanism.NETWORKS:
        # One of 360 test images more or less: a larger program may round, and so decide a tie, differently.
        expected = tiny_record.conditions[name].values
        assert record.conditions[f"accuracy/{name}"].values == pytest.approx(expected, abs=1.5 / 360)


def test_the_students_class_head_is_still_the_references(record):
    own = record.table["own_head"]
    np.testing.assert_array_equal(own.sel(network="student_aux"), own.sel(network="reference"))


def test_the_teacher_is_itself(record):
    teacher = record.table.sel(network="teacher")
    np.testing.assert_allclose(teacher["cka"].sel(layer="hidden_0"), 1, atol=1e-5)
    for exchanged in ("own_head", "teacher_head"):
        np.testing.assert_array_equal(teacher[exchanged], teacher["accuracy"])


def test_a_shared_start_shows_in_the_displacement_and_another_start_does_not(record):
    cosine = record.table["displacement_cosine"].sel(layer="hidden_0", drop=True)
    assert (cosine.sel(student="student_aux", drop=True) > abs(cosine.sel(student="cross_aux", drop=True))).all()


def test_every_value_lies_where_it_can(record):
    for name, summary in record.conditions.items():
        low = -1 if name.startswith("displacement_cosine") else 0
        high = np.inf if name.startswith("displacement_size") else 1 + 1e-5
        assert all(low <= value <= high for value in summary.values), name


def test_the_figure_is_drawn_from_the_record(record, tmp_path):
    assert {path.name for path in figures.save(record, tmp_path)} == {"mechanism.png", "mechanism.svg"}


@pytest.mark.parametrize(
    ("setting", "message"), [({"ridge": 0.0}, "ridge must be positive"), ({"hidden": ()}, "hidden")]
)
def test_wrong_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        mechanism.PRESETS["smoke"].but(**setting)
