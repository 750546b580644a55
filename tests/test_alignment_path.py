"""The experiment in small: the plain student is that of figure 10, every array has its shape, and it is drawn."""

import dataclasses

import numpy as np
import pytest

import figures
from experiments import alignment_path

DIRECTIONS = ("trait", "first_trait", "displacement")


@pytest.fixture(scope="module")
def config(tiny):
    shared = {name: value for name, value in dataclasses.asdict(tiny).items() if name not in ("students",)}
    return alignment_path.Config(**shared | {"seeds": 2}, every=4, trait_images=64, liminal_fraction=0.5)


@pytest.fixture(scope="module")
def result(config):
    return alignment_path.run(config, preset="smoke")


def test_the_plain_student_is_the_student_of_figure_10(result, tiny_result):
    for ours, theirs in {"plain": "student_aux", "reference": "reference", "teacher": "teacher"}.items():
        expected = tiny_result.conditions[theirs].values[:2]
        # One of 360 test images more or less: a larger program may round, and so decide a tie, differently.
        assert result.conditions[f"accuracy/{ours}"].values == pytest.approx(expected, abs=1.5 / 360)
    np.testing.assert_allclose(
        result.arrays["loss/plain"], tiny_result.arrays["loss/student_aux"][:2], rtol=1e-4, atol=1e-7
    )


def test_the_path_starts_at_the_reference_and_has_a_measurement_every_so_many_updates(result):
    steps = result.arrays["path/step"]
    assert steps.tolist() == [0, 4, 8]  # two epochs of five updates
    for student in alignment_path.STUDENTS:
        path = result.arrays[f"path/{student}/accuracy"]
        assert path.shape == (2, 3)
        np.testing.assert_array_equal(path[:, 0], result.arrays["accuracy/reference"])
        for direction in DIRECTIONS:
            first = result.arrays[f"path/{student}/cosine/{direction}"][:, 0]
            np.testing.assert_allclose(first, result.arrays[f"path/plain/cosine/{direction}"][:, 0], rtol=1e-3)


def test_at_the_first_update_the_current_trait_gradient_is_the_first_one(result):
    for kind in ("cosine", "dot"):
        now, first = (result.arrays[f"path/plain/{kind}/{name}"][:, 0] for name in ("trait", "first_trait"))
        np.testing.assert_allclose(now, first, rtol=1e-4)


def test_layers_add_up_and_the_heads_contribute_nothing(result):
    for direction in DIRECTIONS:
        whole = result.arrays[f"path/plain/dot/{direction}"]
        layers = {layer: result.arrays[f"path/plain/dot/{direction}/{layer}"]
                  for layer in ("hidden_0", "class_head", "auxiliary_head")}  # fmt: skip
        np.testing.assert_allclose(sum(layers.values()), whole, rtol=1e-5, atol=1e-9)
        assert not layers["class_head"].any()
        # Exactly 0 for gradients; a displacement subtracts the reference, which a fused program may round once more.
        assert (np.abs(layers["auxiliary_head"]) <= (1e-8 if direction == "displacement" else 0)).all()


def test_students_differ_and_the_conditions_summarise_the_path(result):
    losses = {name: result.arrays[f"loss/{name}"] for name in alignment_path.STUDENTS}
    assert all(
        not np.array_equal(losses["plain"], losses[name]) for name in ("projected", "two_sided", "random", "liminal")
    )
    for name, values in losses.items():
        assert result.conditions[f"distillation_loss/{name}"].values == pytest.approx(values[:, -5:].mean(axis=1))
        cosines = result.arrays[f"path/{name}/cosine/trait"]
        assert result.conditions[f"cosine/{name}"].values == pytest.approx(cosines.mean(axis=1))


def test_liminal_training_without_weight_is_plain(config, result):
    quiet = alignment_path.run(dataclasses.replace(config, seeds=1, liminal_weight=0.0))
    np.testing.assert_allclose(quiet.arrays["loss/liminal"], result.arrays["loss/plain"][:1], rtol=1e-4)


def test_the_figure_is_drawn_from_the_record(result, tmp_path):
    assert {path.name for path in figures.save(result, tmp_path)} == {"alignment_path.png", "alignment_path.svg"}


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
        alignment_path.Config(**setting)
