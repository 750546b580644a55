"""The sweep engine: points and their names, the command line, one compilation per shape, resume, the figure."""

import json

import numpy as np
import pytest

import figures
from experiments import command, experiment, fig10, sweep
from experiments.experiment import run
from experiments.registry import SUMMARIES, find
from experiments.sweeps import SWEEPS
from sublim_theory import data, ensemble
from sublim_theory.cli import UsageError, guard
from sublim_theory.ensemble import run_seeds
from sublim_theory.record import load

OPTIONS = ["--preset", "smoke", "--seeds", "1", "--hidden", "8", "--noise-images", "64"]
OPTIONS += ["--teacher-epochs", "1", "--student-epochs", "1", "--students", "student_aux", "cross_aux"]


@pytest.fixture
def point():
    """Settings that take next to no time."""
    changes = {
        "hidden": (8,),
        "noise_images": 64,
        "teacher_epochs": 1,
        "student_epochs": 1,
        "students": ("student_aux",),
    }
    return fig10.PRESETS["smoke"].but(seeds=1, **changes)


def over(vary):
    """A sweep of fig10, as the command makes it."""
    return sweep.over(fig10.EXPERIMENT, lambda _: vary, name="sweep_fig10", summary="")


def test_points_are_all_pairs_in_order_with_names(point):
    swept = over({"hidden": ((), (8, 8)), "loss": ("kl", "huber")})
    points = experiment.points(swept, point, "smoke")
    assert list(points) == [((), "kl"), ((), "huber"), ((8, 8), "kl"), ((8, 8), "huber")]
    assert points[(8, 8), "huber"] == point.but(hidden=(8, 8), loss="huber")
    record = run(swept, point)
    assert record.table["accuracy"].dims == ("hidden", "loss", "network", "seed")
    assert record.table["hidden"].values.tolist() == ["none", "8x8"]
    assert record.config["vary"] == {"hidden": ["none", "8x8"], "loss": ["kl", "huber"]}
    assert next(iter(record.conditions)) == "hidden=none,loss=kl/reference"
    alone = run(fig10.EXPERIMENT, points[(8, 8), "huber"]).table["accuracy"]
    assert record.table["accuracy"].sel(hidden="8x8", loss="huber").values.tolist() == alone.values.tolist()


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
        ([], "give --vary"),
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


def test_values_share_a_program_and_shapes_do_not(point):
    ensemble._compile.cache_clear()
    vary = {"learning_rate": (1e-4, 1e-2), "noise_scale": (0.5, 2.0)}
    record = run(over(vary), point)
    assert ensemble._compile.cache_info().misses == 1
    assert len({summary.mean for name, summary in record.conditions.items() if name.endswith("/teacher")}) == 2
    run(over({"auxiliary": (2, 4)}), point)
    assert ensemble._compile.cache_info().misses == 3


@pytest.mark.parametrize(
    "change", [{"learning_rate": 3e-3}, {"init_scale": 0.7}, {"noise_scale": 2.0}, {"temperature": 3.0}]
)
def test_a_number_handed_in_gives_what_a_number_compiled_in_gives(point, change):
    """The program of a sweep takes it as an argument; here it is a constant."""

    settings = point.but(**change)

    def constant(seed, split):
        found = fig10.run_seed(settings.protocol, settings.rates, split, seed)
        return found["accuracy"] | found["student_loss"] | {"teacher_loss": found["teacher_loss"]}

    expected = run_seeds(constant, [0], settings.protocol.select(data.load("digits"))).arrays
    table = run(fig10.EXPERIMENT, settings).table
    produced = {name: table["accuracy"].sel(network=name).values for name in ("reference", "teacher")}
    produced |= {"teacher_loss": table["teacher_loss"], "student_aux": table["student_loss"].sel(student="student_aux")}
    for name, values in produced.items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-4, atol=1 / 360, err_msg=name)


def test_a_sweep_goes_on_where_it_was_stopped_and_is_drawn(tmp_path, monkeypatch, capsys):
    argv = ["fig10", *OPTIONS, "--out", str(tmp_path), "--vary", "temperature=1,4", "--vary", "loss=kl,cross_entropy"]
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
    folder = tmp_path / "sweep_fig10-smoke-temperature-loss"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["provenance"]["resumed_seeds"] == 2
    assert len(summary["conditions"]) == 4 * 4
    assert {path.suffix for path in folder.glob("sweep.*")} == {".png", ".svg"}
    loaded = load(folder)
    assert loaded.config["vary"] == {"temperature": [1.0, 4.0], "loss": ["kl", "cross_entropy"]}
    before = (folder / "sweep.svg").read_bytes()
    figures.save(loaded, folder)
    assert (folder / "sweep.svg").read_bytes() == before
    assert "No verdict: --temperature, --loss" in capsys.readouterr().out


def test_two_numeric_settings_give_a_map(point):
    vary = {"learning_rate": (1e-4, 1e-3, 1e-2), "noise_scale": (0.5, 1.0, 2.0)}
    result = run(over(vary), point)
    drawn = figures.importlib.import_module("figures.any_record").draw(result)
    assert list(drawn) == ["sweep", "sweep_map"]
    texts = [text.get_text() for text in drawn["sweep_map"].axes[0].texts]
    expected = [result.conditions[f"learning_rate={a},noise_scale={b}/student_aux"].mean
                for b in ("0.5", "1", "2") for a in ("0.0001", "0.001", "0.01")]  # fmt: skip
    assert texts == [f"{value:.2f}" for value in expected]


@pytest.mark.parametrize("name", SWEEPS)
def test_every_named_sweep_has_valid_points_in_every_preset(name):
    assert find(name) is SWEEPS[name]
    assert name in SUMMARIES
    for preset, settings in SWEEPS[name].presets.items():
        varied = SWEEPS[name].vary(settings, preset)
        points = experiment.points(SWEEPS[name], settings, preset)
        assert len(points) == np.prod([len(values) for values in varied.values()])


def test_published_means_without_a_spread_are_judged_by_ours():
    from experiments.expectations import judge
    from sublim_theory.statistics import summarize

    names = {f"auxiliary={m},loss=kl/student_aux": v for m, v in {1: 0.1, 2: 0.35, 3: 0.54, 10: 0.83, 50: 0.6}.items()}
    conditions = {name: summarize([mean - 0.01, mean, mean + 0.01]) for name, mean in names.items()}
    verdicts = judge("sweep_auxiliary", "paper", conditions)
    assert [verdict.holds for verdict in verdicts] == [True, True, True, True, False]
    alone = {name: summarize([mean]) for name, mean in names.items()}
    assert judge("sweep_auxiliary", "paper", alone) == []
