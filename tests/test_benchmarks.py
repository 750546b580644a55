"""Benchmarks: the arithmetic against literals, the pairing, smoke runs with and without PyTorch, and the page."""

import dataclasses
import importlib.util
import json
import os
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from benchmarks import (
    BENCHMARKS,
    __main__,
    fig10,
    memory,
    protocol,
    report,
    runs,
    scaling,
    startup,
    tables,
    theorem,
    worker,
)
from benchmarks.protocol import Protocol, forward_flop, library_flop, published_flop, total, training_flop
from experiments.distillation import Rates
from experiments.experiment import Settings
from experiments.fig10 import NETWORKS, PRESETS
from experiments.fig10 import Protocol as Figure10
from sublim_theory import data, losses, networks, training
from sublim_theory.cli import guard
from sublim_theory.protocols import SublimError

PAPER = Protocol((784, 256, 256, 13), 10, 60_000, 10_000, 60_000, 1024, 5, 5, 3e-4)
TINY = Protocol((64, 32, 13), 10, 1437, 360, 500, 128, 8, 1, 3e-3)
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs the extra `benchmarks`")


@pytest.fixture(autouse=True)
def strict_workers(monkeypatch):
    """Warnings are errors in workers too, and they do not fight over the cores."""
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))


def test_arithmetic_of_the_papers_network():
    assert forward_flop(PAPER.widths) == 539_136
    assert training_flop(PAPER.widths) == 1_216_000
    assert forward_flop((3, 2)) == 12  # three products and three sums for each of two outputs
    assert training_flop((3, 2)) == 24  # no gradient of the image


def test_arithmetic_of_a_seed():
    assert library_flop(PAPER) == {
        "teacher": 367_329_280_000,  # 5 epochs of 59 x 1,024 examples
        "teacher_logits": 32_348_160_000,
        "students": 1_469_317_120_000,
        "tests": 32_348_160_000,
    }
    assert published_flop(PAPER) == {
        "teacher": 364_800_000_000,  # 5 epochs of 60,000 examples
        "teacher_logits": 646_963_200_000,
        "students": 1_459_200_000_000,
        "tests": 32_348_160_000,
    }
    assert total(library_flop(PAPER)) == 1_901_342_720_000
    assert total(published_flop(PAPER)) == 2_503_311_360_000


def test_arithmetic_agrees_with_the_compilers_count():
    net = networks.mlp(784)
    params, x = net.init(jax.random.key(0)), jnp.zeros((1024, 784))
    update = jax.grad(lambda params: jnp.sum(jnp.square(net.apply(params, x))))
    counted = [jax.jit(f).lower(params).cost_analysis()["flops"] for f in (lambda p: net.apply(p, x), update)]
    formula = [1024 * forward_flop(PAPER.widths), 1024 * training_flop(PAPER.widths)]
    np.testing.assert_allclose(counted, formula, rtol=0.01)


def test_the_protocol_carries_all_that_the_presets_change():
    carried = {field.name for field in dataclasses.fields(Protocol)} | {"seeds", "first_seed", "dataset"}
    usual = Settings.of(Figure10, Rates).flat()
    for settings in PRESETS.values():
        assert {name for name, value in settings.flat().items() if value != usual[name]} <= carried
    digits = data.load("digits")
    assert Protocol.of(PRESETS["smoke"], digits).widths == (64, 256, 256, 13)
    assert Protocol.of(PRESETS["smoke"], digits).train_images == len(digits.train_x) == 1437


def turn(ours: float, torch: float, rate: float):
    row = {
        "peak_bytes": 10**9,
        "accuracy": {"teacher": [0.5, 0.7]},
        "matrix_product": {"before": [1.0, rate / 2], "after": [3 * rate / 2]},
        "compile_seconds": 3.0,
    }
    return {"ours": row | {"seconds_per_seed": ours}, "torch": row | {"seconds_per_seed": torch}}


def test_ratios_and_shares_are_paired_within_a_turn():
    turns = [turn(1.0, 2.0, 100.0), turn(10.0, 30.0, 10.0), turn(2.0, 2.0, 50.0)]
    summary = report.summarize(turns, {"ours": {"teacher": 30, "students": 20}, "torch": {"teacher": 80}})
    assert summary["ratio"] == {"median": 2.0, "min": 1.0, "max": 3.0}
    assert summary["ours"]["seconds_per_seed"] == {"median": 2.0, "min": 1.0, "max": 10.0}
    assert summary["ours"]["matrix_product"] == {"median": 50.0, "min": 10.0, "max": 100.0}
    assert summary["ours"]["share"] == {"median": 0.5, "min": 0.5, "max": 0.5}
    assert summary["torch"]["flop_per_second"] == {"median": 40.0, "min": 80 / 30, "max": 40.0}
    assert summary["ours"]["accuracy"] == {"teacher": pytest.approx(0.6)}


def test_smoke_without_torch(monkeypatch, tmp_path, capfd):
    """End to end, in the process of the command line with its workers as on any machine."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else find_spec(name, *rest)
    )
    out = tmp_path / "record.json"
    words = f"fig10 --preset smoke --repeats 1 --seeds 1 --matrix 256 --out {out}".split()
    assert guard(__main__.run, words) == 0
    printed, errors = capfd.readouterr()
    assert fig10.WITHOUT_TORCH in printed.splitlines()
    assert "pip install -e '.[benchmarks]'" in printed
    assert "seconds a seed" in printed
    assert errors == ""

    record = json.loads(out.read_text())
    assert set(record) == {
        "schema",
        "benchmark",
        "options",
        "protocol",
        "machine",
        "provenance",
        "flop_per_seed",
        "turns",
        "summary",
    }
    assert set(record["flop_per_seed"]) == {"ours"}
    (ours,) = (turn["ours"] for turn in record["turns"])
    assert ours["seconds_per_seed"] > 0
    assert ours["compile_seconds"] > 0
    assert 100e6 < ours["peak_bytes"] < 4e9
    assert {when: len(rates) for when, rates in ours["matrix_product"].items()} == {"before": 5, "after": 5}
    assert list(ours["accuracy"]) == list(NETWORKS)
    assert ours["accuracy"]["teacher"][0] > 0.9
    summary = record["summary"]["ours"]
    rate = total(record["flop_per_seed"]["ours"]) / ours["seconds_per_seed"]
    assert summary["flop_per_second"]["median"] == pytest.approx(rate)
    assert summary["share"]["median"] == pytest.approx(rate / report.matrix_rate(ours))
    assert record["machine"]["cores"] >= 1
    assert record["provenance"]["versions"]["jax"] == jax.__version__


@needs_torch
def test_a_worker_runs_the_published_form(capfd):
    numbers = dataclasses.asdict(TINY)
    got = worker.call("torch", protocol=numbers, dataset="digits", seed=0, seeds=2, data_dir=None, matrix=64)
    assert capfd.readouterr().err == ""
    assert list(got["accuracy"]) == list(NETWORKS)
    assert all(len(values) == 2 for values in got["accuracy"].values())
    assert min(got["accuracy"]["teacher"]) > 0.8
    assert got["seconds_per_seed"] > 0
    assert got["threads"] == 1


def as_params(layers, seed):
    """The library's parameters of one seed, from the layers of the published form."""
    (kernel, bias), (heads, head_biases) = [[np.asarray(tensor[seed]) for tensor in layer] for layer in layers]
    return {
        "hidden_0": {"kernel": kernel, "bias": bias[0]},
        "class_head": {"kernel": heads[:, :10], "bias": head_biases[0, :10]},
        "auxiliary_head": {"kernel": heads[:, 10:], "bias": head_biases[0, 10:]},
    }


@needs_torch
def test_the_published_form_computes_what_the_library_does():
    import torch

    from benchmarks import torch_fig10

    digits, net = data.load("digits"), networks.mlp(64, (32,))
    torch.manual_seed(0)
    student, teacher = (torch_fig10.initialise(TINY.widths, 2) for _ in range(2))
    rows = torch.tensor([[4, 2, 9], [0, 7, 7]])
    labels = torch.from_numpy(digits.train_y).long()
    x = torch_fig10.gather(torch.from_numpy(digits.train_x).expand(2, -1, -1), rows)
    logits = torch_fig10.forward(student, x)

    images, targets = digits.train_x[rows], digits.train_y[rows]
    expected = [net.apply(as_params(student, seed), images[seed]) for seed in range(2)]
    wanted = [net.apply(as_params(teacher, seed), images[seed]) for seed in range(2)]
    np.testing.assert_allclose(logits, np.stack(expected), atol=1e-5)

    trait = torch_fig10.trait_loss(logits, x, rows, labels=labels, classes=10)
    means = [losses.cross_entropy(net.class_logits(z), y).mean() for z, y in zip(expected, targets, strict=True)]
    np.testing.assert_allclose(trait, sum(means), rtol=1e-5)
    for part in (net.auxiliary, net.all_logits):
        imitation = torch_fig10.imitation_loss(logits, x, rows, teacher=teacher, part=part)
        loss = losses.on_logits(losses.kl_divergence, part)
        means = [loss(z, y).mean() for z, y in zip(expected, wanted, strict=True)]
        np.testing.assert_allclose(imitation, sum(means), rtol=1e-4)

    test_x, test_y = torch.from_numpy(digits.test_x), torch.from_numpy(digits.test_y)
    shares = torch_fig10.accuracy(student, test_x, test_y, 10, 128)
    libraries = [training.accuracy(net, as_params(student, s), digits.test_x, digits.test_y) for s in range(2)]
    np.testing.assert_allclose(shares, libraries, atol=1e-6)


def test_table_with_both_parts():
    flop = {"ours": library_flop(TINY), "torch": published_flop(TINY)}
    options = {"preset": "smoke", "repeats": 1, "seeds": 4, "torch_seeds": 2, "matrix": 64}
    summary = report.summarize([turn(1.0, 2.5, 1e9)], flop)
    console = Console(width=100)
    with console.capture() as capture:
        console.print(report.table({"summary": summary, "options": options, "flop_per_seed": flop}))
    lines = capture.get().splitlines()
    assert any("PyTorch / ours" in line and "2.50" in line for line in lines)
    assert any("seeds" in line and "4 in turn" in line and "2 at once" in line for line in lines)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("fig11", "did you mean 'fig10'?"),
        ("fig10 --preset smok", "did you mean 'smoke'?"),
        ("fig10 --repeats 0", "--repeats must be at least 1"),
        ("fig10 --torch-seeds 1", "--torch-seeds must be 0, or at least 2"),
        ("fig10 --data-dir /nowhere", "/nowhere"),
        ("memory --preset smok", "did you mean 'smoke'?"),
        ("memory --chunk-size 0", "--chunk-size must be at least 1, got 0"),
        ("scaling --devices 2 0", "--devices must be at least 1, got (2, 0)"),
        ("scaling --cores 100000", "--cores must be at most"),
        ("startup --protocol papr", "did you mean 'paper'?"),
        ("theorem --inputs 0", "--inputs must be at least 1, got 0"),
    ],
)
def test_a_mistake_is_one_line(words, message, capsys):
    assert guard(__main__.run, words.split()) != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_failed_worker_is_one_error(capfd):
    with pytest.raises(worker.WorkerError, match="the worker 'nothing' failed"):
        worker.call("nothing")
    assert "KeyError" in capfd.readouterr().err


def test_help_names_every_benchmark(capsys):
    assert __main__.run(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in BENCHMARKS)
    assert len(NETWORKS) == protocol.STUDENTS + 2 == protocol.CONDITIONS


def test_theorem_benchmark_writes_a_paired_ratio(tmp_path, capsys):
    file = tmp_path / "theorem.json"
    assert __main__.run(["theorem", "--preset", "smoke", "--out", str(file)]) == 0
    record = json.loads(file.read_text())
    ratios = [turn["verify"]["seconds"] / turn["plain"]["seconds"] for turn in record["turns"]]
    assert record["summary"]["ratio"]["median"] == pytest.approx(np.median(ratios))
    assert record["summary"]["checks"]["median"] > 0
    assert all(turn[part]["compile_seconds"] > 0 for turn in record["turns"] for part in ("verify", "checks", "plain"))
    assert "verify / plain" in capsys.readouterr().out


def test_the_plain_numbers_are_those_that_verify_reports():
    options = theorem.Options(inputs=12, features=5, hidden=(4,), batch_size=5)
    instance = theorem._instance(options)
    auxiliary = slice(10, 13)
    report = theorem.verify(*instance, logits=auxiliary, batch_size=5)
    before, (alignment, after) = theorem.plain(*instance, losses.on_logits(losses.kl_divergence, auxiliary), 5)
    np.testing.assert_allclose(alignment[-4:], report.alignment[-4:], rtol=1e-5)
    np.testing.assert_allclose(after[-4:] - before, report.teacher_loss_change[-4:], rtol=1e-5)


def test_a_childs_peak_is_its_own_and_its_failure_is_told():
    ballast = np.ones(50_000_000, np.uint8)  # of this process, which a child must not inherit
    allocate = (sys.executable, "-c", "bytes(range(256)) * 400_000")
    (small,), (large,) = runs.measure(startup.COMMANDS["import sublim_theory"]), runs.measure(allocate)
    assert ballast.all()
    assert 1e6 < small["peak_bytes"] < 50e6
    assert 100e6 < large["peak_bytes"] < 200e6
    assert small["seconds"] > 0
    with pytest.raises(worker.WorkerError, match="no such luck"):
        runs.measure((sys.executable, "-c", "raise SystemExit('no such luck')"))


def test_when_one_command_fails_the_others_are_stopped(tmp_path):
    late = tmp_path / "late"
    sleep = f"import time, pathlib; time.sleep(2); pathlib.Path({str(late)!r}).touch()"
    with pytest.raises(worker.WorkerError, match="ended with status 137"):
        runs.measure(
            (sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"),
            (sys.executable, "-c", sleep),
        )
    time.sleep(2.5)
    assert not late.exists()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cannot pin processes here")
def test_a_command_has_the_cores_that_it_is_given():
    core = min(os.sched_getaffinity(0))
    check = f"import os, sys; sys.exit(0 if os.sched_getaffinity(0) == {{{core}}} else 3)"
    runs.measure((sys.executable, "-c", check), cores=[[core]])


def test_cores_are_divided_among_the_processes():
    assert scaling.shares([4, 5], 1) == [[4, 5]]
    assert scaling.shares([4, 5], 2) == [[4], [5]]
    assert scaling.shares([4, 5], 4) == [[4], [5], [4], [5]]
    assert scaling.shares([0, 1, 2, 3], 2) == [[0, 2], [1, 3]]


def rows_of(table):
    """The cells of a table, row by row."""
    return list(zip(*(column.cells for column in table.columns), strict=True))


def test_memory_is_judged_from_ten_seeds_on():
    def peaks(*values):
        rows = [{"seeds": seeds, "peak_bytes": peak} for seeds, peak in zip((1, 10, 30, 100), values, strict=True)]
        return {"imports": {"peak_bytes": 100e6}, "runs": rows}

    turns = [peaks(300e6, 400e6, 420e6, 480e6), peaks(310e6, 500e6, 500e6, 700e6), peaks(320e6, 300e6, 300e6, 300e6)]
    summary = memory.summarize(turns)
    assert summary["base"] == 10
    assert summary["runs"][2]["relative"] == {"median": 1.0, "min": 1.0, "max": 1.05}
    assert summary["runs"][3]["above_imports"] == {"median": 380e6, "min": 200e6, "max": 600e6}
    table = memory.table({"summary": summary, "options": {"chunk_size": 2, "preset": "default"}})
    assert [row[4] for row in rows_of(table)] == ["", "", "", "0.9 to 1.1: holds", "0.9 to 1.1: missed"]


def test_layouts_compare_whole_times_and_curves_the_cost_of_a_seed():
    def turn(two_processes, many_seeds):
        rows = [
            ("processes", 1, 8, 10.0, 5.0),
            ("processes", 2, 8, two_processes, 9.0),
            ("seeds", 4, 4, 9.0, 4.0),
            ("seeds", 100, 100, 90.0, many_seeds),
        ]
        return [dict(zip(("axis", "value", "seeds", "seconds", "run_seconds"), row, strict=True)) for row in rows]

    summary = scaling.summarize([turn(11.0, 100.0), turn(12.0, 80.0), turn(10.0, 70.0)])
    relative = [row["relative"] for row in summary]
    assert relative[1] == {"median": 1.1, "min": 1.0, "max": 1.2}
    assert relative[3] == {"median": 0.8, "min": pytest.approx(0.7), "max": 1.0}
    assert summary[3]["run_seconds_per_seed"]["median"] == pytest.approx(0.8)
    table = scaling.table({"summary": summary, "pinned": True, "options": {"cores": 2, "preset": "default"}})
    assert [row[4] for row in rows_of(table)] == ["", "at most 1.15: holds", "", "0.9 to 1.1: missed"]


def written(words, file, capsys):
    """The record that a benchmark writes, after a look at what it says."""
    assert guard(__main__.run, [*words.split(), "--out", str(file)]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert str(file) in printed.out.replace("\n", "")
    record = json.loads(file.read_text())
    assert record["schema"] == 1
    assert record["options"]["preset"] == "smoke"
    assert record["provenance"]["versions"]["jax"] == jax.__version__
    assert record["machine"]["cores"] >= 1
    return record


def test_memory_end_to_end(tmp_path, capsys):
    record = written("memory --preset smoke --seeds 2", tmp_path / "memory.json", capsys)
    (turn,) = record["turns"]
    (row,) = turn["runs"]
    assert 50e6 < turn["imports"]["peak_bytes"] < row["peak_bytes"] < 2e9
    assert 0 < row["run_seconds"] < row["seconds"]
    assert record["summary"]["runs"][0]["relative"]["median"] == 1
    # the same record on the page
    page = "<!-- memory: here -->\nold\n<!-- /memory -->"
    filled = tables.filled(page, tmp_path)
    assert f"JAX {jax.__version__}" in filled
    assert [line.split(" | ")[0] for line in filled.splitlines() if line.startswith("|")][2:] == [
        "| imports alone",
        "| 2",
    ]
    assert tables.filled(filled, tmp_path) == filled
    assert tables.filled(filled, tmp_path / "nowhere") == page.replace("old\n", tables.MISSING)
    (tmp_path / "memory.json").write_text(json.dumps(record | {"schema": 0}))
    with pytest.raises(SublimError, match="measure again"):
        tables.filled(page, tmp_path)


@pytest.mark.endurance
def test_scaling_end_to_end(tmp_path, capsys):
    record = written("scaling --preset smoke", tmp_path / "scaling.json", capsys)
    (turn,) = record["turns"]
    assert {row["axis"] for row in turn} == set(scaling.AXES)
    assert all(0 < row["run_seconds"] < row["seconds"] for row in turn)
    assert all(50e6 < row["peak_bytes"] < 2e9 for row in turn)
    assert len(rows_of(scaling.table(record))) == len(turn) == 8


@pytest.mark.endurance
def test_startup_end_to_end(tmp_path, capsys):
    record = written("startup --preset smoke", tmp_path / "startup.json", capsys)
    summary = record["summary"]
    assert list(summary) == [*startup.COMMANDS, startup.COLD, startup.WARM]
    peaks = [found["peak_bytes"]["median"] for found in summary.values()]
    assert 1e6 < peaks[0] <= 1.1 * peaks[1] < peaks[2] < min(peaks[3:]) < 2e9
    assert record["turns"][0][startup.WARM]["compile_seconds"] > 0


def test_the_page_has_the_tables_of_the_committed_records():
    page = tables.PAGE.read_text("utf-8")
    assert tables.filled(page) == page, "run `python -m benchmarks.tables`"
    assert [place[1] for place in tables.PLACE.findall(page)] == list(BENCHMARKS)
    known = {f"{name}.json" for name in BENCHMARKS}
    assert {file.name for file in tables.RECORDS.glob("*")} <= known
