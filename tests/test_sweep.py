"""The sweep engine: points and their names, the command line, one compilation per shape, resume, the figure."""

import dataclasses
import json

import numpy as np
import pytest

import figures
from experiments import command, fig10, sweep
from experiments.distillation import Split
from experiments.registry import SUMMARIES, find
from experiments.sweeps import SWEEPS
from sublim_theory import data, ensemble
from sublim_theory.cli import UsageError, guard
from sublim_theory.ensemble import run_seeds
from sublim_theory.results import Result

OPTIONS = ["--preset", "smoke", "--seeds", "1", "--hidden", "8", "--noise-images", "64"]
OPTIONS += ["--teacher-epochs", "1", "--student-epochs", "1", "--students", "student_aux", "cross_aux"]


@pytest.fixture
def point():
    """A config that takes next to no time."""
    changes = {
        "hidden": (8,),
        "noise_images": 64,
        "teacher_epochs": 1,
        "student_epochs": 1,
        "students": ("student_aux",),
    }
    return dataclasses.replace(fig10.PRESETS["smoke"], seeds=1, **changes)


def test_points_are_all_pairs_in_order_with_names(point):
    points = sweep.points(point, {"hidden": ((), (8, 8)), "loss": ("kl", "huber")})
    assert list(points) == [
        "hidden=none,loss=kl", "hidden=none,loss=huber", "hidden=8x8,loss=kl", "hidden=8x8,loss=huber"
    ]  # fmt: skip
    assert points["hidden=8x8,loss=huber"] == {"hidden": (8, 8), "loss": "huber"}


def test_words_become_values_of_the_settings_type():
    words = ["auxiliary=1,3", "hidden=none,4x5", "bias=true,false", "temperature=none,2", "noise-scale=.5", "loss=kl"]
    assert sweep.parse_vary(fig10.Config, words) == {
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
    monkeypatch.setattr("experiments.fig10.run", lambda *_, **__: pytest.fail("work began"))
    argv = ["fig10", *OPTIONS, "--out", str(tmp_path), *(part for word in words for part in ("--vary", word))]
    with pytest.raises((UsageError, ValueError), match=message):
        command.sweep(argv)
    assert not list(tmp_path.iterdir())


def test_values_share_a_program_and_shapes_do_not(point):
    ensemble._compile.cache_clear()
    vary = {"learning_rate": (1e-4, 1e-2), "noise_scale": (0.5, 2.0)}
    result = sweep.run(fig10, "sweep_fig10", point, vary)
    assert ensemble._compile.cache_info().misses == 1
    assert len({summary.mean for name, summary in result.conditions.items() if name.endswith("/teacher")}) == 2
    sweep.run(fig10, "sweep_fig10", point, {"auxiliary": (2, 4)})
    assert ensemble._compile.cache_info().misses == 3


@pytest.mark.parametrize(
    "change", [{"learning_rate": 3e-3}, {"init_scale": 0.7}, {"noise_scale": 2.0}, {"temperature": 3.0}]
)
def test_a_number_handed_in_gives_what_a_number_compiled_in_gives(point, change):
    """The program of a sweep takes it as an argument; here it is a constant."""

    config, digits = dataclasses.replace(point, **change), data.load("digits")

    def constant(seed, split):
        return fig10.run_seed(config, config.network(digits.features), seed, split)

    expected = run_seeds(constant, [0], Split.of(digits)).arrays
    produced = fig10.run(config).arrays
    for name, values in expected.items():
        np.testing.assert_allclose(produced[name], values, rtol=1e-4, atol=1 / 360, err_msg=name)


def test_a_sweep_goes_on_where_it_was_stopped_and_is_drawn(tmp_path, monkeypatch, capsys):
    argv = ["fig10", *OPTIONS, "--out", str(tmp_path), "--vary", "temperature=1,4", "--vary", "loss=kl,cross_entropy"]
    original, calls = fig10.run, []

    def stop_at_the_third(config, **options):
        calls.append(config)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(config, **options)

    monkeypatch.setattr("experiments.fig10.run", stop_at_the_third)
    assert guard(command.sweep, argv) == 130
    monkeypatch.setattr("experiments.fig10.run", original)
    assert command.sweep(argv) == 0
    folder = tmp_path / "sweep_fig10-smoke-temperature-loss"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["provenance"]["resumed_seeds"] == 2
    assert len(summary["conditions"]) == 4 * 4
    assert {path.suffix for path in folder.glob("sweep.*")} == {".png", ".svg"}
    loaded = Result.load(folder)
    assert loaded.config["points"]["temperature=1,loss=kl"] == {"temperature": 1.0, "loss": "kl"}
    before = (folder / "sweep.svg").read_bytes()
    figures.save(loaded, folder)
    assert (folder / "sweep.svg").read_bytes() == before
    assert "No verdict: --temperature, --loss" in capsys.readouterr().out


def test_two_numeric_settings_give_a_map(point):
    vary = {"learning_rate": (1e-4, 1e-3, 1e-2), "noise_scale": (0.5, 1.0, 2.0)}
    result = sweep.run(fig10, "sweep_fig10", point, vary)
    drawn = figures.importlib.import_module("figures.sweep").draw(result)
    assert list(drawn) == ["sweep", "sweep_map"]
    texts = [text.get_text() for text in drawn["sweep_map"].axes[0].texts]
    expected = [result.conditions[f"learning_rate={a},noise_scale={b}/student_aux"].mean
                for b in ("0.5", "1", "2") for a in ("0.0001", "0.001", "0.01")]  # fmt: skip
    assert texts == [f"{value:.2f}" for value in expected]


@pytest.mark.parametrize("name", SWEEPS)
def test_every_named_sweep_has_valid_points_in_every_preset(name):
    assert find(name) is SWEEPS[name]
    assert name in SUMMARIES
    for preset, config in SWEEPS[name].PRESETS.items():
        vary = SWEEPS[name].values(preset)
        assert len(sweep.points(config, vary)) == np.prod([len(values) for values in vary.values()])


def test_published_means_without_a_spread_are_judged_by_ours():
    from experiments.expectations import judge
    from sublim_theory.statistics import summarize

    names = {f"auxiliary={m},loss=kl/student_aux": v for m, v in {1: 0.1, 2: 0.35, 3: 0.54, 10: 0.83, 50: 0.6}.items()}
    conditions = {name: summarize([mean - 0.01, mean, mean + 0.01]) for name, mean in names.items()}
    verdicts = judge("sweep_auxiliary", "paper", conditions)
    assert [verdict.holds for verdict in verdicts] == [True, True, True, True, False]
    alone = {name: summarize([mean]) for name, mean in names.items()}
    assert judge("sweep_auxiliary", "paper", alone) == []
