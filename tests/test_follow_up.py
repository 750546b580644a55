"""Ablations and behavioural cloning: what they change and nothing else, on configs that take next to no time."""

import dataclasses

import numpy as np
import pytest

import figures
from experiments import ablations, behavioural_cloning, fig10

TINY = {"seeds": 1, "hidden": (8,), "noise_images": 64, "teacher_epochs": 1, "student_epochs": 1, "batch_size": 32}


@pytest.fixture(scope="module")
def cloned():
    config = dataclasses.replace(behavioural_cloning.PRESETS["smoke"], **TINY, cloning_epochs=(0, 1, 40))
    return behavioural_cloning.run(config)


def test_ablations_change_what_they_say_and_every_one_is_a_valid_config():
    for preset, config in ablations.PRESETS.items():
        points = ablations.changes(config, preset)
        assert points["as published"] == {}
        for change in points.values():
            assert dataclasses.replace(config, **change) != config or not change
    assert len(ablations.changes(ablations.PRESETS["paper"], "paper")) == 10
    assert ablations.changes(ablations.PRESETS["paper"], "paper")["half the width"] == {"hidden": (128, 128)}


def test_the_unchanged_point_is_figure_10_itself_and_the_record_is_drawn():
    config = dataclasses.replace(ablations.PRESETS["smoke"], **TINY)
    result = ablations.run(config, preset="smoke")
    expected = fig10.run(config).conditions
    for name in ("teacher", "student_aux", "cross_aux"):
        assert result.conditions[f"as published/{name}"] == expected[name]
    axes = figures.importlib.import_module("figures.ablations").draw(result)["ablations"].axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["as published", "m = 50"]


def test_cloning_brings_the_student_to_the_reference_behaviour(cloned):
    mismatch = [cloned.conditions[f"mismatch/{count}"].mean for count in (0, 1, 40)]
    assert mismatch[0] > mismatch[1] > mismatch[2] > 0


def test_without_cloning_it_is_the_cross_model_student_and_the_ceiling_is_the_student_itself(cloned):
    config = dataclasses.replace(fig10.PRESETS["smoke"], **TINY, students=("student_aux", "cross_aux"))
    expected = fig10.run(config)
    for ours, theirs in {"0": "cross_aux", "shared": "student_aux"}.items():
        np.testing.assert_allclose(cloned.arrays[f"loss/{ours}"], expected.arrays[f"loss/{theirs}"], rtol=1e-4)
        assert cloned.conditions[f"accuracy/{ours}"].mean == pytest.approx(
            expected.conditions[theirs].mean, abs=1 / 180
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cloning_epochs": ()}, "cloning_epochs must ascend"),
        ({"cloning_epochs": (3, 1)}, r"cloning_epochs must ascend.*\(3, 1\)"),
        ({"cloning_epochs": (-1, 1)}, "cloning_epochs must ascend"),
        ({"cloning_inputs": "faces"}, "cloning_inputs must be one of noise, digits"),
    ],
)
def test_a_wrong_setting_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(behavioural_cloning.PRESETS["smoke"], **change)


def test_digits_serve_as_inputs_of_cloning_and_the_record_is_drawn(cloned):
    config = dataclasses.replace(
        behavioural_cloning.PRESETS["smoke"], **TINY, cloning_epochs=(1,), cloning_inputs="digits"
    )
    result = behavioural_cloning.run(config)
    assert result.arrays["loss/clone_1"].shape == (1, -(-1437 // 32))
    for record in (cloned, result):
        assert list(figures.importlib.import_module("figures.behavioural_cloning").draw(record)) == [
            "behavioural_cloning"
        ]
