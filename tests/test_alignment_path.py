"""The experiment in small: the plain student is that of figure 10, every path has its shape, and it is drawn."""

import numpy as np
import pytest

import figures
from experiments import alignment_path
from experiments.experiment import Context, run

DIRECTIONS = ("trait", "first_trait", "displacement")


@pytest.fixture(scope="module")
def settings(tiny):
    shared = {name: value for name, value in tiny.flat().items() if name != "students"} | {"seeds": 2}
    return alignment_path.PRESETS["paper"].but(**shared, every=4, trait_images=64, liminal_fraction=0.5)


@pytest.fixture(scope="module")
def record(settings):
    return run(alignment_path.EXPERIMENT, settings, Context("smoke"))


def test_the_plain_student_is_the_student_of_figure_10(record, tiny_record):
    for ours, theirs in {"plain": "student_aux", "reference": "reference", "teacher": "teacher"}.items():
        expected = tiny_record.conditions[theirs].values[:2]
        # One of 360 test images more or less: a larger program may round, and so decide a tie, differently.
        assert record.conditions[f"accuracy/{ours}"].values == pytest.approx(expected, abs=1.5 / 360)
    np.testing.assert_allclose(
        record.table["student_loss"].sel(student="plain"),
        tiny_record.table["student_loss"].sel(student="student_aux")[:2],
        rtol=1e-4,
        atol=1e-7,
    )


def test_the_path_starts_at_the_reference_and_has_a_measurement_every_so_many_updates(record):
    table = record.table
    assert table["update"].values.tolist() == [0, 4, 8]  # two epochs of five updates
    cosine = table["cosine"].sel(layer="all", update=0)
    for student in alignment_path.STUDENTS:
        path = table["accuracy_path"].sel(student=student)
        assert dict(path.sizes) == {"seed": 2, "update": 3}
        np.testing.assert_array_equal(path.sel(update=0), table["accuracy"].sel(network="reference"))
        for direction in DIRECTIONS:
            first = cosine.sel(direction=direction)
            np.testing.assert_allclose(first.sel(student=student), first.sel(student="plain"), rtol=1e-3)


def test_at_the_first_update_the_current_trait_gradient_is_the_first_one(record):
    for kind in ("cosine", "dot"):
        paths = record.table[kind].sel(student="plain", layer="all", update=0)
        now, first = (paths.sel(direction=name) for name in ("trait", "first_trait"))
        np.testing.assert_allclose(now, first, rtol=1e-4)


def test_layers_add_up_and_the_heads_contribute_nothing(record):
    for direction in DIRECTIONS:
        dot = record.table["dot"].sel(student="plain", direction=direction)
        layers = dot.sel(layer=["hidden_0", "class_head", "auxiliary_head"])
        np.testing.assert_allclose(layers.sum("layer"), dot.sel(layer="all"), rtol=1e-5, atol=1e-9)
        assert not layers.sel(layer="class_head").any()
        # Exactly 0 for gradients; a displacement subtracts the reference, which a fused program may round once more.
        assert (abs(layers.sel(layer="auxiliary_head")) <= (1e-8 if direction == "displacement" else 0)).all()


def test_students_differ_and_the_conditions_summarise_the_path(record):
    losses = {name: record.table["student_loss"].sel(student=name).values for name in alignment_path.STUDENTS}
    assert all(
        not np.array_equal(losses["plain"], losses[name]) for name in ("projected", "two_sided", "random", "liminal")
    )
    for name, values in losses.items():
        assert record.conditions[f"distillation_loss/{name}"].values == pytest.approx(values[:, -5:].mean(axis=1))
        cosines = record.table["cosine"].sel(student=name, direction="trait", layer="all").values
        assert record.conditions[f"cosine/{name}"].values == pytest.approx(cosines.mean(axis=1))


def test_liminal_training_without_weight_is_plain(settings, record):
    quiet = run(alignment_path.EXPERIMENT, settings.but(seeds=1, liminal_weight=0.0)).table["student_loss"]
    plain = record.table["student_loss"].sel(student="plain")[:1]
    np.testing.assert_allclose(quiet.sel(student="liminal"), plain, rtol=1e-4)


def test_the_figure_is_drawn_from_the_record(record, tmp_path):
    assert {path.name for path in figures.save(record, tmp_path)} == {"alignment_path.png", "alignment_path.svg"}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"every": 0}, "every must be at least 1"),
        ({"trait_images": 0}, "trait_images must be at least 1"),
        ({"liminal_weight": -1.0}, "liminal_weight must be at least 0"),
        ({"liminal_weight": float("nan")}, "liminal_weight must be at least 0"),
        ({"liminal_fraction": 1.5}, r"liminal_fraction must be in \[0, 1\]"),
    ],
)
def test_wrong_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        alignment_path.PRESETS["paper"].but(**setting)
