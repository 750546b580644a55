"""Benchmarks: the arithmetic, turns and ratios, processes, the published form in PyTorch, and the page."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks import __main__, commands, fig10, tables, theorem, turns
from experiments.fig10 import NETWORKS, PRESETS
from sublim_theory import data, losses, networks, training
from sublim_theory.cli import guard
from sublim_theory.protocols import SublimError


def test_arithmetic_of_a_seed_of_the_paper():
    paper = {"widths": (784, 256, 256, 13), "train_images": 60_000, "test_images": 10_000, "noise_images": 60_000}
    paper |= {"batch_size": 1024, "teacher_epochs": 5, "student_epochs": 5}
    assert fig10.flop_of(paper, published=True) == 2_503_311_360_000
    assert fig10.flop_of(paper, published=False) == 1_901_342_720_000  # 59 whole batches an epoch; logits once
    assert fig10.flop_of(paper | {"teacher_epochs": 0, "student_epochs": 0}, published=True) == 6 * 10_000 * 539_136
    assert len(NETWORKS) == fig10.NETWORKS == fig10.STUDENTS + 2


def test_no_preset_changes_what_the_published_form_does_not_know():
    known = {"dataset", "hidden", "noise_images", "batch_size", "teacher_epochs", "student_epochs", "learning_rate"}
    paper, *others = [set(PRESETS[name].flat().items()) for name in ("paper", *PRESETS)]
    assert {name for other in others for name, _ in other - paper} <= known | {"seeds"}


def test_turns_are_recorded_compared_within_a_turn_and_shown(tmp_path, capsys, monkeypatch):
    origin = {"versions": {"python": "3", "jax": "1"}, "commit": None, "dirty": False, "device": "d", "cores": 2}
    plain = [{"seconds": s, "seconds to compile": c} for s, c in ((9, 99), (1.0, 10.0), (10.0, 11.0), (2.0, 12.0))]
    ours = [{"seconds": s, "provenance": origin | {"processor": "p"}} for s in (9.0, 2.0, 30.0, 2.0)]
    file, parts = tmp_path / "theorem.json", {"plain": plain.__getitem__, "ours": ours.__getitem__}
    monkeypatch.setattr(os, "getloadavg", lambda: (99.0, 0.0, 0.0))
    turns.run("theorem", ["--repeats", "3", "--out", str(file)], parts=lambda _: parts, compared={"seconds": 0})
    assert "The machine is busy (load 99.0)" in capsys.readouterr().out
    assert turns.table(json.loads(file.read_text())) == [  # two parts, three quantities: the longer side goes down
        ["", "plain", "ours"],
        ["seconds", "2.00 (1.00 to 10.0)", "2.00 (2.00 to 30.0)"],
        ["seconds to compile", "11.0 (10.0 to 12.0)", ""],
        ["seconds / plain", "", "2.00 (1.00 to 3.00)"],
    ]
    filled = tables.filled("<!-- theorem: here -->\nold\n<!-- /theorem -->", tmp_path)
    assert "| seconds / plain |  | 2.00 (1.00 to 3.00) |\n" in filled
    assert "2 cores, load 99.0 at the start; d; Python 3, JAX 1, commit unknown.\n" in filled
    assert "Not measured yet." in tables.filled(filled, tmp_path / "nowhere")


def test_the_page_has_the_tables_of_the_committed_records():
    page, records = tables.PAGE.read_text("utf-8"), {file.stem for file in tables.RECORDS.glob("*")}
    assert tables.filled(page) == page, "run `python -m benchmarks.tables`"
    assert records <= {place[1] for place in tables.PLACE.findall(page)} == set(turns.BENCHMARKS)


MISTAKES = {
    "fig11": "did you mean 'fig10'?",
    "fig10 --repeats 0": "--repeats must be at least 1, got 0",
    "fig10 --preset papr": "did you mean 'paper'?",
    "memory --vary": "there is nothing to measure",
}


@pytest.mark.parametrize(("words", "message"), MISTAKES.items())
def test_a_mistake_is_one_line(words, message, capsys):
    assert guard(__main__.main, words.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_processs_peak_is_its_own_and_its_failure_is_told():
    ballast = np.ones(300_000_000, np.uint8)  # of this process, which a child must not inherit
    said, small = commands.measure(*commands.PYTHON, "print('first'); print('last')")
    _, large = commands.measure(
        *commands.PYTHON, "bytes(range(256)) * 400_000; raise SystemExit(1)"
    )  # as one that missed
    assert ballast.all()
    assert said == "last"
    assert 1 < small[commands.PEAK] < 50 < 100 < large[commands.PEAK] < 200
    for code, why in {"1 / 0": "ZeroDivisionError", "import os; os.kill(os.getpid(), 9)": "status 137"}.items():
        with pytest.raises(SublimError, match=why):
            commands.measure(*commands.PYTHON, code)


def test_a_run_is_read_from_its_record(monkeypatch):
    def copied(*words, **variables):
        shutil.copytree(tables.ROOT / "figures" / "fig10-default", Path(words[-1], "fig10-default"))
        assert words[-8:-2] == ("fig10", "--hidden", "8", "9", "--devices", "3")
        assert variables["XLA_FLAGS"].endswith("host_platform_device_count=3")
        return "", {commands.SECONDS: 1.0}

    monkeypatch.setattr(commands, "measure", copied)
    found = commands.reproduce(turns.Options(), "hidden=8 9", "devices=3")
    assert list(found["accuracy"]) == list(NETWORKS)
    assert 0 < found[commands.PER_SEED] < 60 > found[commands.COMPILING] > 0


@pytest.mark.training
def test_the_plain_numbers_are_those_that_verify_reports():
    instance = theorem.instance(**theorem.SIZES["smoke"])
    report = theorem.verify(*instance, logits=theorem.AUXILIARY, batch_size=5)
    before, (alignment, after) = theorem.plain(*instance, 5)
    np.testing.assert_allclose(alignment[-4:], report.alignment[-4:], rtol=1e-5)
    np.testing.assert_allclose(after[-4:] - before, report.teacher_loss_change[-4:], rtol=1e-5)


@pytest.mark.training
def test_the_published_form_computes_what_the_library_does():
    torch = pytest.importorskip("torch", reason="needs the extra `benchmarks`")
    from benchmarks import torch_fig10 as published

    digits, net, rows = data.load("digits"), networks.mlp(64, (32,)), torch.tensor([[4, 2, 9], [0, 7, 7]])
    train_y, test_x, test_y = map(torch.from_numpy, (digits.train_y, digits.test_x, digits.test_y))
    torch.manual_seed(0)
    student, teacher = (published.initialise((64, 32, 13), 2) for _ in range(2))
    x = published.gather(torch.from_numpy(digits.train_x).expand(2, -1, -1), rows)

    def params(layers):
        (kernel, bias), (heads, biases) = [[np.asarray(tensor) for tensor in layer] for layer in layers]
        places = {"class_head": slice(10), "auxiliary_head": slice(10, 13)}
        each = {name: {"kernel": heads[..., place], "bias": biases[:, 0, place]} for name, place in places.items()}
        return {"hidden_0": {"kernel": kernel, "bias": bias[:, 0]}, **each}

    logits = published.forward(student, x)
    ours, wanted = (jax.vmap(net.apply)(params(layers), digits.train_x[rows]) for layers in (student, teacher))
    np.testing.assert_allclose(logits, ours, atol=1e-5)
    trait = published.trait_loss(logits, x, rows, labels=train_y.long(), classes=10)
    expected = losses.cross_entropy(net.class_logits(ours), digits.train_y[rows]).mean(1).sum()
    np.testing.assert_allclose(trait, expected, rtol=1e-5)
    for part in (net.auxiliary, net.all_logits):
        imitation = published.imitation_loss(logits, x, rows, teacher=teacher, part=part)
        expected = losses.on_logits(losses.kl_divergence, part)(ours, wanted).mean(1).sum()
        np.testing.assert_allclose(imitation, expected, rtol=1e-4)
    expected = jax.vmap(lambda each: training.accuracy(net, each, digits.test_x, digits.test_y))(params(student))
    np.testing.assert_allclose(published.accuracy(student, test_x, test_y, 10), expected, atol=1e-6)


@pytest.mark.endurance
@pytest.mark.parametrize("name", turns.BENCHMARKS)
def test_smoke_runs(name, tmp_path):
    words = [sys.executable, "-m", "benchmarks", name, "--preset", "smoke", "--repeats", "1", "--out", "it.json"]
    subprocess.run(words, cwd=tmp_path, check=True)
    (turn,) = json.loads((tmp_path / "it.json").read_text())["turns"]
    assert any(" / " in quantity for row in turn.values() for quantity in row)
