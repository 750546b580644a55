"""The experiments on Theorem 1: each runs in small through the command, holds, and is drawn only if it does."""

import dataclasses
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

import figures
from experiments import EXPERIMENTS, theorem_layers, theory
from experiments.expectations import judge
from experiments.recording import Recording
from figures.drawing import ClaimError, require
from sublim_theory import cli, data
from sublim_theory.results import Result
from sublim_theory.statistics import summarize
from sublim_theory.theorem import verify

NAMES = [name for name in EXPERIMENTS if name.startswith("theorem_")]


@pytest.fixture(scope="module", params=NAMES)
def smoke(request, tmp_path_factory):
    """Folder, exit status and output of the smoke preset of each experiment, run through the command once."""
    out = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "140")
        capture = request.getfixturevalue("capture")
        status, shown = capture(["reproduce", request.param, "--preset", "smoke", "--out", str(out)])
    return out / f"{request.param}-smoke", status, shown


@pytest.fixture(scope="module")
def capture():
    """Exit status and standard output of a command in this process."""
    import contextlib
    import io

    def run(argv):
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            status = cli.main(argv)
        return status, shown.getvalue()

    return run


def test_smoke_holds_and_leaves_a_record_with_its_figure(smoke):
    folder, status, shown = smoke
    name = folder.name.removesuffix("-smoke")
    assert status == 0, shown
    assert "missed" not in shown
    summary = json.loads((folder / "summary.json").read_text())
    assert shown.count("holds") == len(summary["expectations"]) > 0
    assert all(row["holds"] and row["source"] for row in summary["expectations"])
    assert summary["provenance"]["dtype"] == "float64"
    assert all(row["n"] == len(summary["provenance"]["seeds"]) for row in summary["conditions"].values())
    assert {path.name for path in folder.iterdir()} - {".lock"} == {
        "summary.json", "arrays.npz", "chunks", f"{name}.png", f"{name}.svg"
    }  # fmt: skip
    assert not jax.config.jax_enable_x64, "64 bits were left switched on"


def test_the_figure_is_the_same_when_it_is_drawn_again(smoke, tmp_path):
    folder, _, _ = smoke
    paths = figures.save(Result.load(folder), tmp_path)
    assert len(paths) == 2
    for path in paths:
        assert path.read_bytes() == (folder / path.name).read_bytes(), path.name


def changed(name, index, value):
    """A record with one number of an array replaced."""

    def tamper(record):
        array = record.arrays[name].copy()
        array[index] = value
        return dataclasses.replace(record, arrays=record.arrays | {name: array})

    return tamper


def with_order(value):
    def tamper(record):
        return dataclasses.replace(record, conditions=record.conditions | {"order/tanh/kl": summarize([2.0, value])})

    return tamper


TAMPERED = {
    "theorem_alignment": [
        (changed("alignment/relu/kl/float64", (1, 3), -1e-30), "is positive at every eps"),
        (changed("A/tanh/kl", 0, 1.0), "tends to 1"),
        (with_order(1.97), "the remainder is of order 2"),
    ],
    "theorem_cosines": [
        (changed("shared/relu", 3, -1e-9), "with a shared start is positive"),
        (changed("other/tanh", slice(None), 0.1), "from another start are negative"),
    ],
    "theorem_decrease": [
        (changed("change/linear", (0, 5), 1e-12), "linear: L_T falls at every"),
        (changed("change/network", (0, 5), 0.0), "network: L_T falls at every"),
    ],
    "theorem_layers": [
        (changed("auxiliary/class_head", 0, 1e-300), "auxiliary/class_head contributes exactly 0"),
        (changed("all/auxiliary_head", 0, 1e-300), "all/auxiliary_head contributes exactly 0"),
        (changed("by_logit/auxiliary", (0, 2), 1e-300), "logits"),
        (changed("all/hidden_0", 0, 0.9), "add up to 1"),
        (changed("A/all", 0, -1.0), "A is positive"),
    ],
    "theorem_mismatch": [(changed("measured", (0, 2), 0.5), "within 3 standard errors")],
    "theorem_orthogonal": [
        (changed("alignment/dead_units", (1, 3), 1e-300), "exactly 0.0 at every eps"),
        (changed("alignment/one_logit/undone", (0, 0), 0.0), "positive at small eps"),
        (changed("teacher/class_bias", 0, 0.0), "the teacher moves"),
    ],
}


def test_a_record_that_contradicts_the_claim_is_not_drawn(smoke, tmp_path):
    record = Result.load(smoke[0])
    for tamper, claim in TAMPERED[record.experiment]:
        with pytest.raises(ClaimError, match=claim):
            figures.save(tamper(record), tmp_path)
    assert not list(tmp_path.iterdir())


def test_every_theory_experiment_is_tampered_with():
    assert set(TAMPERED) == set(NAMES)


@pytest.fixture
def layers():
    """A tiny record of theorem_layers, made up."""
    rng = np.random.default_rng(0)
    students = ("auxiliary", "all")
    shares = {"hidden_0": 0.25, "hidden_1": 0.75, "class_head": 0.0, "auxiliary_head": 0.0}
    by_logit = np.zeros((2, 13))
    by_logit[:, 10:] = rng.dirichlet(np.ones(3), 2)
    arrays = {f"{student}/{name}": np.full(2, share) for student in students for name, share in shares.items()}
    arrays |= {f"by_logit/{student}": by_logit for student in students}
    arrays |= {f"A/{student}": np.ones(2) for student in students}
    recording = Recording("theorem_layers", theorem_layers.PRESETS["smoke"], preset="smoke", data_dir=None, chunks=None)
    return recording, arrays


def conditions(arrays):
    shares = {name: values for name, values in arrays.items() if name.startswith(("auxiliary/", "all/"))}
    zero = np.zeros(2)
    return shares | {"auxiliary/class_logits": zero, "auxiliary/unexplained": zero, "all/unexplained": zero}


def test_the_command_reports_a_refused_figure_after_its_table(layers, capsys, monkeypatch, tmp_path):
    recording, arrays = layers
    arrays["auxiliary/class_head"] = np.array([0.0, 1e-13])
    record = recording.result(conditions(arrays), arrays)
    monkeypatch.setattr("experiments.theorem_layers.run", lambda *_, **__: record)
    monkeypatch.setenv("COLUMNS", "140")
    assert cli.main(["reproduce", "theorem_layers", "--preset", "smoke", "--out", str(tmp_path)]) == 1
    shown, refused = capsys.readouterr()
    row = next(line for line in shown.splitlines() if "auxiliary/class_head" in line)
    assert "exactly 0.0" in row
    assert "1.00e-13" in row
    assert "missed" in row
    assert refused.startswith("sublim: not drawn: the claim is that auxiliary/class_head contributes exactly 0")
    folder = tmp_path / "theorem_layers-smoke"
    assert (folder / "summary.json").exists()
    assert not list(folder.glob("*.png"))
    run = subprocess.run([sys.executable, "-m", "figures", folder], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.startswith("not drawn: ")


def test_figures_of_the_theory_need_no_jax_and_no_experiment(layers, tmp_path):
    recording, arrays = layers
    recording.result(conditions(arrays), arrays).save(tmp_path)
    code = f"""
import sys, pathlib, figures
from sublim_theory.results import Result
folder = pathlib.Path({str(tmp_path)!r})
print(*sorted(path.name for path in figures.save(Result.load(folder), folder)))
import {", ".join(f"figures.{name}" for name in NAMES)}
print(*sorted({{"jax", "flax", "optax", "sublim_theory.theorem", "experiments"}} & set(sys.modules)))
"""
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert shown.splitlines() == ["theorem_layers.png theorem_layers.svg", ""]


def test_a_bound_holds_for_every_seed_and_names_the_worst():
    def verdict(**values):
        made = {"auxiliary/class_logits": [0.0], "auxiliary/class_head": [0.0], "auxiliary/auxiliary_head": [0.0]}
        made |= {"all/auxiliary_head": [0.0], "all/unexplained": [0.0], "auxiliary/unexplained": [0.0]}
        summaries = {name: summarize(row) for name, row in (made | values).items()}
        verdicts = {row.condition: row for row in judge("theorem_layers", "custom", summaries)}
        assert len(verdicts) == len(summaries), "a star stands for all conditions that match, and nothing is left out"
        return verdicts

    good = verdict()
    assert all(row.holds and row.expected is None for row in good.values())
    assert good["all/unexplained"].low is None
    balanced = verdict(**{"all/auxiliary_head": [0.0, -1e-300, 1e-300]})["all/auxiliary_head"]
    assert not balanced.holds
    assert abs(balanced.produced) == 1e-300
    one_sided = verdict(**{"all/unexplained": [1e-16, 3e-12, 0.0]})["all/unexplained"]
    assert not one_sided.holds
    assert one_sided.produced == 3e-12
    assert verdict(**{"all/unexplained": [1e-16, 1e-12, 0.0]})["all/unexplained"].holds, "ends are included"
    with pytest.raises(ValueError, match=r"speaks of 'auxiliary/\*_head', but the conditions are nothing"):
        judge("theorem_layers", "custom", {"nothing": summarize([0.0])})


def test_a_claim_names_what_the_record_has():
    require(True, "two is two", "two")
    with pytest.raises(ClaimError, match="not drawn: the claim is that two is three, and the record has two"):
        require(False, "two is three", "two")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("theorem_cosines --epsilon 0", "epsilon must lie in (0, 1], got 0.0"),
        ("theorem_cosines --activations tahn", "unknown activation 'tahn'; did you mean 'tanh'?"),
        ("theorem_alignment --decades 3", "decades must be at least 9"),
        ("theorem_alignment --losses hubre", "unknown imitation loss 'hubre'; did you mean 'huber'?"),
        ("theorem_decrease --images 0", "images must be at least 1, got 0"),
        ("theorem_layers --hidden 16 0", "hidden[1] must be at least 1, got 0"),
        ("theorem_mismatch --ratios -1", "ratios must be positive"),
        ("theorem_mismatch --perturbations 0", "perturbations must be at least 1, got 0"),
        ("theorem_orthogonal --noise unifrom", "unknown noise 'unifrom'; did you mean 'uniform'?"),
        ("theorem_orthogonal --seeds 0", "seeds must be at least 1, got 0"),
        ("theorem_layers --auxiliary 1", "auxiliary must be at least 2 for 'kl'"),
    ],
)
def test_a_wrong_setting_is_named_before_any_work(capsys, line, message):
    assert cli.main(["reproduce", *line.split()]) == 2
    _, err = capsys.readouterr()
    assert message in err
    assert err.count("\n") == 1


def test_finished_seeds_of_an_untraced_experiment_are_taken_from_their_chunks(tmp_path):
    config = dataclasses.replace(theorem_layers.PRESETS["smoke"], seeds=3)
    ran = []

    def run_seed(seed):
        ran.append((seed, jax.config.jax_enable_x64))
        if len(ran) == 3:
            raise KeyboardInterrupt
        return {"value": seed / 3, "row": [seed, 1.0]}

    def recording():
        return Recording("test", config, preset="smoke", data_dir=None, chunks=tmp_path, dtype="float64")

    with pytest.raises(KeyboardInterrupt):
        recording().run_untraced(run_seed)
    again = recording()
    arrays = again.run_untraced(run_seed)
    assert ran == [(0, True), (1, True), (2, True), (2, True)]
    np.testing.assert_array_equal(arrays["value"], np.arange(3) / 3)
    np.testing.assert_array_equal(arrays["row"], [[0, 1], [1, 1], [2, 1]])
    assert again.result({"value": arrays["value"]}, arrays).provenance["resumed_seeds"] == 2


@pytest.mark.parametrize("smoke", ["theorem_layers"], indirect=True)
def test_a_seed_among_others_has_the_numbers_that_verify_finds_for_it_alone(smoke):
    record, config = Result.load(smoke[0]), theorem_layers.PRESETS["smoke"]
    digits = data.load("digits")
    images, labels = digits.train_x[: config.images], digits.train_y[: config.images]
    with jax.enable_x64(True):
        net = config.network(digits.features, digits.classes, config.activation)
        inputs = theory.noise_images(config, digits.features, 2)
        params, trait = theory.initial(net, 2), theory.teacher_loss(net, images, labels)
    report = verify(net.apply, params, trait, inputs, logits=net.auxiliary, epsilons=[1e-6])
    assert report.holds
    assert record.arrays["A/auxiliary"][2] == pytest.approx(report.first_order, rel=1e-12)
    for layer, share in report.by_layer.items():
        assert record.arrays[f"auxiliary/{layer}"][2] * report.first_order == pytest.approx(share, rel=1e-9)
    by_logit = record.arrays["by_logit/auxiliary"][2] * report.first_order
    assert by_logit == pytest.approx(report.by_logit, rel=1e-9, abs=0)


def test_more_images_than_the_data_set_has_are_refused(capsys, tmp_path):
    line = f"reproduce theorem_layers --preset smoke --images 99999 --out {tmp_path}"
    assert cli.main(line.split()) == 2
    assert "images must be at most 1437 for digits, got 99999" in capsys.readouterr().err
