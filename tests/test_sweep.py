"""The sweep engine: points and their names, the command line, one compilation per shape, resume, the figure."""

import json

import numpy as np
import pytest

import figures
from experiments import SUMMARIES, command, experiment, fig10, sweep
from experiments.expectations import judge
from experiments.experiment import run
from experiments.registry import find
from experiments.sweeps import SWEEPS
from figures import sweep_inputs
from sublim_theory import data, ensemble, noise
from sublim_theory.cli import UsageError, guard
from sublim_theory.ensemble import run_seeds, seed_key, stream
from sublim_theory.record import load
from sublim_theory.statistics import summarize

OPTIONS = ["--preset", "smoke", "--seeds", "1", "--hidden", "8", "--noise-images", "64"]
OPTIONS += ["--teacher-epochs", "1", "--student-epochs", "1", "--students", "student_aux", "cross_aux"]
BRIEF = {"seeds": 1, "hidden": (8,), "noise_images": 64, "teacher_epochs": 1, "student_epochs": 1}
POINT = fig10.PRESETS["smoke"].but(**BRIEF, students=("student_aux",), init_scale=0.7, temperature=3.0)


def over(vary):
    """A sweep of fig10, as the command makes it."""
    return sweep.over(fig10.EXPERIMENT, lambda _: vary, name="sweep_fig10", summary="")


def test_points_are_all_pairs_in_order():
    points = experiment.points(over({"hidden": ((), (8, 8)), "loss": ("kl", "cross_entropy")}), POINT, "smoke")
    assert list(points) == [((), "kl"), ((), "cross_entropy"), ((8, 8), "kl"), ((8, 8), "cross_entropy")]
    assert points[(8, 8), "cross_entropy"] == POINT.but(hidden=(8, 8), loss="cross_entropy")


def test_words_become_values_of_the_settings_type():
    words = ["auxiliary=1,3", "hidden=none,4x5", "bias=true,false", "temperature=none,2", "noise-scale=.5", "loss=kl"]
    assert sweep.parse_vary(fig10.PRESETS["paper"], words) == {
        "auxiliary": (1, 3),
        "hidden": ((), (4, 5)),
        "bias": (True, False),
        "temperature": (None, 2.0),
        "noise_scale": (0.5,),
        "loss": ("kl",),
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give --vary|one setting or two, not 0"),
        (["auxiliary"], "SETTING=VALUE"),
        (["auxiliary="], "no values"),
        (["auxiliary=1,1"], "twice: 1, 1"),
        (["auxiliary=1.5"], r"cannot read '1\.5' as int"),
        (["bias=perhaps"], "cannot read 'perhaps'"),
        (["auxilary=1"], "did you mean 'auxiliary'"),
        (["seeds=1,2"], "unknown setting 'seeds'"),
        (["auxiliary=1", "loss=kl", "bias=true"], "one setting or two, not 3"),
        (["auxiliary=0,1"], "auxiliary must be at least 1"),
        (["loss=l2"], "unknown imitation loss 'l2'"),
    ],
)
def test_a_wrong_sweep_is_refused_before_anything_runs(words, message, monkeypatch, tmp_path):
    monkeypatch.setattr("experiments.experiment.run", lambda *_, **__: pytest.fail("work began"))
    argv = ["fig10", *OPTIONS, "--out", str(tmp_path), *(part for word in words for part in ("--vary", word))]
    with pytest.raises((UsageError, ValueError), match=message):
        command.sweep(argv)
    assert not list(tmp_path.iterdir())


@pytest.mark.training
def test_points_that_differ_in_numbers_share_a_program_that_takes_them_and_are_drawn_as_a_map():
    ensemble._compile.cache_clear()
    vary = {"learning_rate": (1e-4, 1e-3, 3e-3), "noise_scale": (0.5, 1.0, 2.0)}
    record = run(over(vary), POINT)
    assert ensemble._compile.cache_info().misses == 1
    settings = POINT.but(learning_rate=3e-3, noise_scale=2.0)

    table = run(fig10.EXPERIMENT, settings).table
    assert ensemble._compile.cache_info().misses == 1
    here = record.table["accuracy"].sel(learning_rate=3e-3, noise_scale=2.0)
    np.testing.assert_array_equal(here, table["accuracy"])

    def constant(seed, split):  # what that program takes as arguments is compiled in
        found = fig10.run_seed(settings.protocol, settings.rates, split, seed)
        return {"teacher_loss": found["teacher_loss"], **found["student_loss"]}

    expected = run_seeds(constant, [0], settings.protocol.select(data.load("digits"))).arrays
    np.testing.assert_allclose(table["teacher_loss"], expected["teacher_loss"], rtol=1e-4)
    np.testing.assert_allclose(table["student_loss"].sel(student="student_aux"), expected["student_aux"], rtol=1e-4)
    drawn = figures.importlib.import_module("figures.any_record").draw(record)
    assert list(drawn) == ["sweep", "sweep_map"]
    texts = [text.get_text() for text in drawn["sweep_map"].axes[0].texts]
    means = [record.conditions[f"learning_rate={a},noise_scale={b}/student_aux"].mean
             for b in ("0.5", "1", "2") for a in ("0.0001", "0.001", "0.003")]  # fmt: skip
    assert texts == [f"{value:.2f}" for value in means]


@pytest.mark.training
def test_a_sweep_goes_on_where_it_was_stopped_and_is_drawn(tmp_path, monkeypatch, capsys):
    argv = ["fig10", *OPTIONS, "--out", str(tmp_path), "--vary", "temperature=1,4", "--vary", "init_scale=.5,1"]
    original, calls = experiment.run_seeds, []

    def stop_at_the_third(*args, **options):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*args, **options)

    monkeypatch.setattr("experiments.experiment.run_seeds", stop_at_the_third)
    assert guard(command.sweep, argv) == 130
    monkeypatch.setattr("experiments.experiment.run_seeds", original)
    assert command.sweep(argv) == 0
    folder = tmp_path / "sweep_fig10-smoke-temperature-init_scale"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["provenance"]["resumed_seeds"] == 2
    assert len(summary["conditions"]) == 4 * 4
    assert {path.suffix for path in folder.glob("sweep.*")} == {".png", ".svg"}
    assert load(folder).config["vary"] == {"temperature": [1.0, 4.0], "init_scale": [0.5, 1.0]}
    assert "No verdict: --temperature, --init-scale" in capsys.readouterr().out


@pytest.mark.parametrize("name", SWEEPS)
def test_every_named_sweep_has_valid_points_in_every_preset(name):
    assert find(name) is SWEEPS[name]
    assert name in SUMMARIES
    for preset in ("smoke", "default", "paper"):  # fashion has the values of paper
        settings = SWEEPS[name].presets[preset]
        varied = SWEEPS[name].vary(settings, preset)
        points = experiment.points(SWEEPS[name], settings, preset)
        assert len(points) == np.prod([len(values) for values in varied.values()])


def test_published_means_without_a_spread_are_judged_by_ours():
    names = {f"auxiliary={m},loss=kl/student_aux": v for m, v in {1: 0.1, 2: 0.35, 3: 0.54, 10: 0.83, 50: 0.6}.items()}
    conditions = {name: summarize([mean - 0.01, mean, mean + 0.01]) for name, mean in names.items()}
    verdicts = judge("sweep_auxiliary", "paper", conditions)
    assert [verdict.holds for verdict in verdicts] == [True, True, True, True, False]
    alone = {name: summarize([mean]) for name, mean in names.items()}
    assert judge("sweep_auxiliary", "paper", alone) == []


# Over input distributions: the record has their spectra, and the figure shows them beside accuracy.

INPUTS = SWEEPS["sweep_inputs"]
INPUT_SETTINGS = INPUTS.presets["smoke"].but(**BRIEF | {"noise_images": 80, "learning_rate": 1e-2})
NAMES = ("uniform", "images")


@pytest.fixture(scope="module")
def over_inputs(recorded):
    return recorded("sweep_inputs", INPUT_SETTINGS)


def test_the_record_has_the_spectrum_of_the_first_seeds_inputs_at_every_point(over_inputs):
    varied = {preset: tuple(INPUTS.vary(settings, preset)["noise"]) for preset, settings in INPUTS.presets.items()}
    assert set(varied["default"]) == set(varied["paper"]) == set(noise.DISTRIBUTIONS)
    spectra, ranks = over_inputs.table["eigenvalues"], over_inputs.table["effective_rank"]
    assert spectra.dims == ("noise", "rank")
    assert tuple(spectra["noise"].values) == varied["smoke"] == NAMES
    assert set(over_inputs.table.data_vars) == {"accuracy", "eigenvalues", "effective_rank"}
    train_x = data.load("digits").train_x
    for name in NAMES:
        inputs = noise.sampler(name, images=train_x)(stream(seed_key(0), "noise"), 80, 64)
        singular = np.linalg.svd(np.asarray(inputs, np.float64) - np.mean(np.asarray(inputs), axis=0), compute_uv=False)
        eigenvalues = singular**2 / (80 - 1)
        np.testing.assert_allclose(spectra.sel(noise=name), eigenvalues, atol=1e-5)
        rank = 1 / ((eigenvalues / eigenvalues.sum()) ** 2).sum()
        assert float(ranks.sel(noise=name)) == pytest.approx(rank, rel=1e-5)
    accuracy = over_inputs.table["accuracy"]
    np.testing.assert_array_equal(*(accuracy.sel(noise=name, network="teacher") for name in NAMES))
    assert (accuracy.sel(noise="uniform") != accuracy.sel(noise="images")).any()


def test_example_images_are_of_the_distribution():
    digits = data.load("digits")
    examples = fig10.EXPERIMENT.describe(INPUT_SETTINGS.but(noise="images"), digits)["example_noise"].values
    assert examples.shape == (fig10.EXAMPLES, 8, 8)
    assert {image.tobytes() for image in examples} <= {row.tobytes() for row in digits.train_x}


def test_the_figure_shows_spectra_and_accuracies(over_inputs, tmp_path):
    drawn = {path.name for path in figures.save(over_inputs, tmp_path) if path.suffix == ".png"}
    assert drawn == {"spectrum.png", "sweep.png"}
    left, right = sweep_inputs.spectra(over_inputs).axes
    assert (left.get_xscale(), left.get_yscale(), right.get_xscale()) == ("log", "log", "log")
    for line, name in zip(left.lines, NAMES, strict=True):
        eigenvalues = over_inputs.table["eigenvalues"].sel(noise=name).values
        assert line.get_label() == name
        np.testing.assert_array_equal(line.get_ydata(), eigenvalues[eigenvalues > 1e-6 * eigenvalues[0]])
    shown = {(float(bars.lines[0].get_xdata()[0]), float(bars.lines[0].get_ydata()[0])) for bars in right.containers}
    assert shown == {
        (
            float(over_inputs.table["effective_rank"].sel(noise=name)),
            over_inputs.conditions[f"noise={name}/{student}"].mean,
        )
        for name in NAMES
        for student in ("student_aux", "cross_aux")
    }
