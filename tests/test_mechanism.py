"""The experiment in small: what must hold exactly, agreement with figure 10, and the drawing."""

import dataclasses

import numpy as np
import pytest

import figures
from experiments import mechanism


@pytest.fixture(scope="module")
def result(tiny):
    shared = {name: value for name, value in dataclasses.asdict(tiny).items() if name not in ("students",)}
    return mechanism.run(mechanism.Config(**shared), preset="smoke")


def test_the_networks_are_those_of_figure_10(result, tiny_result):
    for name in mechanism.NETWORKS:
        # One of 360 test images more or less: a larger program may round, and so decide a tie, differently.
        expected = tiny_result.conditions[name].values
        assert result.conditions[f"accuracy/{name}"].values == pytest.approx(expected, abs=1.5 / 360)


def test_the_students_class_head_is_still_the_references(result):
    np.testing.assert_array_equal(result.arrays["own_head/student_aux"], result.arrays["own_head/reference"])


def test_the_teacher_is_itself(result):
    np.testing.assert_allclose(result.arrays["cka/teacher/hidden_0"], 1, atol=1e-5)
    for exchanged in ("own_head/teacher", "teacher_head/teacher"):
        np.testing.assert_array_equal(result.arrays[exchanged], result.arrays["accuracy/teacher"])


def test_a_shared_start_shows_in_the_displacement_and_another_start_does_not(result):
    student, cross = (result.arrays[f"displacement_cosine/{name}/hidden_0"] for name in ("student_aux", "cross_aux"))
    assert (student > np.abs(cross)).all()


def test_every_value_lies_where_it_can(result):
    for name, summary in result.conditions.items():
        low = -1 if name.startswith("displacement_cosine") else 0
        high = np.inf if name.startswith("displacement_size") else 1 + 1e-5
        assert all(low <= value <= high for value in summary.values), name


def test_the_figure_is_drawn_from_the_record(result, tmp_path):
    assert {path.name for path in figures.save(result, tmp_path)} == {"mechanism.png", "mechanism.svg"}


@pytest.mark.parametrize(
    ("setting", "message"), [({"ridge": 0.0}, "ridge must be positive"), ({"hidden": ()}, "hidden")]
)
def test_wrong_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        mechanism.Config(**setting)
