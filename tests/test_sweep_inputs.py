"""The sweep over input distributions: its record has their spectra, and its figure shows them beside accuracy."""

import numpy as np
import pytest

import figures
from experiments import fig10
from experiments.experiment import Context, run
from experiments.sweeps import SWEEPS
from figures import sweep_inputs
from sublim_theory import data, noise
from sublim_theory.ensemble import seed_key, stream
from sublim_theory.record import load

SWEEP = SWEEPS["sweep_inputs"]
NAMES = ("uniform", "images")
COUNT = 80
SETTINGS = SWEEP.presets["smoke"].but(
    hidden=(8,),
    learning_rate=1e-2,
    noise_images=COUNT,
    teacher_epochs=1,
    student_epochs=4,
)


@pytest.fixture(scope="module")
def result():
    return run(SWEEP, SETTINGS, Context("smoke"))


def test_every_distribution_is_swept_and_two_of_them_in_the_smoke_preset():
    varied = {preset: tuple(SWEEP.vary(settings, preset)["noise"]) for preset, settings in SWEEP.presets.items()}
    assert set(varied["default"]) == set(varied["paper"]) == set(noise.DISTRIBUTIONS)
    assert varied["smoke"] == NAMES


def test_the_record_has_the_spectrum_of_the_first_seeds_inputs_at_every_point(result):
    spectra, ranks = result.table["eigenvalues"], result.table["effective_rank"]
    assert spectra.dims == ("noise", "rank")
    assert set(result.table.data_vars) == {"accuracy", "eigenvalues", "effective_rank"}
    train_x = data.load("digits").train_x
    for name in NAMES:
        inputs = noise.sampler(name, images=train_x)(stream(seed_key(0), "noise"), COUNT, 64)
        singular = np.linalg.svd(np.asarray(inputs, np.float64) - np.mean(np.asarray(inputs), axis=0), compute_uv=False)
        eigenvalues = singular**2 / (COUNT - 1)
        np.testing.assert_allclose(spectra.sel(noise=name), eigenvalues, atol=1e-5)
        rank = 1 / ((eigenvalues / eigenvalues.sum()) ** 2).sum()
        assert float(ranks.sel(noise=name)) == pytest.approx(rank, rel=1e-5)
    assert ranks.sel(noise="images") < ranks.sel(noise="uniform") / 2


def test_students_on_other_inputs_are_other_students_of_the_same_teacher(result):
    uniform, real = ({kind: result.conditions[f"noise={name}/{kind}"].values for kind in ("teacher", "student_aux")}
                     for name in NAMES)  # fmt: skip
    assert uniform["teacher"] == real["teacher"]
    assert uniform["student_aux"] != real["student_aux"]


def test_example_images_are_of_the_distribution():
    examples = run(fig10.EXPERIMENT, SETTINGS.but(noise="images")).table["example_noise"].values
    assert examples.shape == (fig10.EXAMPLES, 8, 8)
    rows = {row.tobytes() for row in data.load("digits").train_x}
    assert {image.tobytes() for image in examples} <= rows


def test_the_figure_of_the_saved_record_shows_spectra_and_accuracies(result, tmp_path):
    result.save(tmp_path)
    loaded = load(tmp_path)
    assert sorted(path.name for path in figures.save(loaded, tmp_path) if path.suffix == ".png") == [
        "spectrum.png", "sweep.png"
    ]  # fmt: skip
    left, right = sweep_inputs.spectra(loaded).axes
    assert (left.get_xscale(), left.get_yscale(), right.get_xscale()) == ("log", "log", "log")
    for line, name in zip(left.lines, NAMES, strict=True):
        eigenvalues = result.table["eigenvalues"].sel(noise=name).values
        assert line.get_label() == name
        np.testing.assert_array_equal(line.get_ydata(), eigenvalues[eigenvalues > 1e-6 * eigenvalues[0]])
    shown = {(float(bars.lines[0].get_xdata()[0]), float(bars.lines[0].get_ydata()[0])) for bars in right.containers}
    assert shown == {
        (float(result.table["effective_rank"].sel(noise=name)), result.conditions[f"noise={name}/{student}"].mean)
        for name in NAMES
        for student in ("student_aux", "cross_aux")
    }


def test_a_distribution_that_is_not_there_is_refused_before_anything_runs():
    with pytest.raises(ValueError, match="unknown noise 'image'; did you mean 'images'"):
        SETTINGS.but(noise="image")
