"""Ablations and behavioural cloning: what they change and nothing else, on settings that take next to no time."""

import numpy as np
import pytest

import figures
from experiments import ablations, behavioural_cloning, fig10
from experiments.experiment import Context, points, run

TINY = {"seeds": 1, "hidden": (8,), "noise_images": 64, "teacher_epochs": 1, "student_epochs": 1, "batch_size": 32}


@pytest.fixture(scope="module")
def cloned():
    settings = behavioural_cloning.PRESETS["smoke"].but(**TINY, cloning_epochs=(0, 1, 40))
    return run(behavioural_cloning.EXPERIMENT, settings)


def test_ablations_change_what_they_say_and_every_one_can_be_run():
    for preset, settings in ablations.PRESETS.items():
        changes = ablations.changes(settings, preset)
        assert changes["as published"] == {}
        for (name,), point in points(ablations.EXPERIMENT, settings, preset).items():
            assert point == settings.but(**changes[name])
            assert point != settings or not changes[name]
    assert len(ablations.changes(ablations.PRESETS["paper"], "paper")) == 10
    assert ablations.changes(ablations.PRESETS["paper"], "paper")["half the width"] == {"hidden": (128, 128)}


def test_the_unchanged_point_is_figure_10_itself_and_the_record_is_drawn():
    settings = ablations.PRESETS["smoke"].but(**TINY)
    record = run(ablations.EXPERIMENT, settings, Context("smoke"))
    expected = run(fig10.EXPERIMENT, settings).conditions
    for name in ("teacher", "student_aux", "cross_aux"):
        assert record.conditions[f"as published/{name}"] == expected[name]
    axes = figures.importlib.import_module("figures.ablations").draw(record)["ablations"].axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["as published", "m = 50"]


def test_cloning_brings_the_student_to_the_reference_behaviour(cloned):
    mismatch = [cloned.conditions[f"mismatch/{count}"].mean for count in (0, 1, 40)]
    assert mismatch[0] > mismatch[1] > mismatch[2] > 0


def test_without_cloning_it_is_the_cross_model_student_and_the_ceiling_is_the_student_itself(cloned):
    expected = run(fig10.EXPERIMENT, fig10.PRESETS["smoke"].but(**TINY, students=("student_aux", "cross_aux")))
    losses = {"0": cloned.table["student_loss"].sel(cloned=0), "shared": cloned.table["shared_loss"]}
    for ours, theirs in {"0": "cross_aux", "shared": "student_aux"}.items():
        np.testing.assert_allclose(losses[ours], expected.table["student_loss"].sel(student=theirs), rtol=1e-4)
        assert cloned.conditions[f"accuracy/{ours}"].mean == pytest.approx(
            expected.conditions[theirs].mean, abs=1 / 180
        )


def test_without_cloning_there_is_nothing_to_clone():
    settings = behavioural_cloning.PRESETS["smoke"].but(**TINY, cloning_epochs=(0,))
    record = run(behavioural_cloning.EXPERIMENT, settings)
    assert list(record.conditions) == ["accuracy/0", "accuracy/shared", "mismatch/0", "teacher"]
    assert record.table["clone_loss"].shape == (1, 0)


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
        behavioural_cloning.PRESETS["smoke"].but(**change)


def test_digits_serve_as_inputs_of_cloning_and_the_record_is_drawn(cloned):
    settings = behavioural_cloning.PRESETS["smoke"].but(**TINY, cloning_epochs=(1,), cloning_inputs="digits")
    on_digits = run(behavioural_cloning.EXPERIMENT, settings)
    assert on_digits.table["clone_loss"].shape == (1, -(-1437 // 32))
    for record in (cloned, on_digits):
        assert list(figures.importlib.import_module("figures.behavioural_cloning").draw(record)) == [
            "behavioural_cloning"
        ]
