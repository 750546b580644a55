"""The experiment: its claim in small, independence of seeds, resume after a real kill, expected values."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest

from experiments import fig10
from experiments.expectations import judge
from experiments.experiment import run
from sublim_theory import data
from sublim_theory.ensemble import run_seeds
from sublim_theory.record import load
from sublim_theory.training import NonFiniteLossError

COMMAND = [sys.executable, "-m", "experiments", "fig10", "--preset", "smoke"]


def test_smoke_shows_the_phenomenon_and_every_expectation_holds(tmp_path):
    done = subprocess.run([*COMMAND, "--out", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("holds") == 6
    folder = tmp_path / "fig10-smoke"
    summary = json.loads((folder / "summary.json").read_text())
    means = {name: row["mean"] for name, row in summary["conditions"].items()}
    assert list(means) == ["reference", "teacher", "student_aux", "student_all", "cross_aux", "cross_all"]
    assert means["student_aux"] > 0.3 > 0.2 > means["cross_aux"]
    assert all(row["n"] == len(row["values"]) == 2 for row in summary["conditions"].values())
    assert {path.name for path in folder.iterdir()} - {".lock"} == {
        "summary.json", summary["table"]["file"], "chunks", "fig10a.png", "fig10a.svg", "fig10b.png", "fig10b.svg"
    }  # fmt: skip


def test_the_table_has_named_axes(tiny_record):
    accuracy = tiny_record.table["accuracy"]
    assert accuracy.dims == ("network", "seed")
    assert tuple(accuracy["network"].values) == fig10.NETWORKS
    assert accuracy["seed"].values.tolist() == [0, 1, 2]
    assert tiny_record.conditions["teacher"].values == tuple(accuracy.sel(network="teacher").values.astype(float))


def test_a_seed_has_the_same_numbers_in_any_company(tiny, tiny_record):
    later = run(fig10.EXPERIMENT, tiny.but(first_seed=1, seeds=2)).table
    kept = ["accuracy", "teacher_loss", "student_loss"]
    assert later[kept].identical(tiny_record.table[kept].sel(seed=[1, 2]))


def test_every_update_has_a_loss(tiny, tiny_record):
    protocol = tiny.protocol
    teacher_steps = protocol.teacher_epochs * -(-1437 // protocol.batch_size)
    student_steps = protocol.student_epochs * -(-300 // protocol.batch_size)
    assert dict(tiny_record.table["teacher_loss"].sizes) == {"seed": 3, "teacher_step": teacher_steps}
    assert dict(tiny_record.table["student_loss"].sizes) == {"student": 4, "seed": 3, "step": student_steps}


TINY_OPTIONS = shlex.split("--hidden 16 --noise-images 300 --teacher-epochs 2 --student-epochs 2 --seeds 120")


def test_killed_at_any_moment_it_goes_on_and_ends_with_the_same_numbers(tmp_path):
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    subprocess.run([*COMMAND, *TINY_OPTIONS, "--out", undisturbed], check=True, capture_output=True)
    chunks = disturbed / "fig10-smoke" / "chunks"
    for enough in (3, 20):
        process = subprocess.Popen(
            [*COMMAND, *TINY_OPTIONS, "--out", disturbed], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and (not chunks.is_dir() or len(list(chunks.glob("*.chunk"))) < enough):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it finished before it could be killed"
        assert not (disturbed / "fig10-smoke" / "summary.json").exists()
    done = len(list(chunks.glob("*.chunk")))
    assert 20 <= done < 120
    damaged = next(chunks.glob("*.chunk"))
    os.truncate(damaged, damaged.stat().st_size // 2)

    subprocess.run([*COMMAND, *TINY_OPTIONS, "--out", disturbed], check=True, capture_output=True)
    expected, produced = (load(folder / "fig10-smoke") for folder in (undisturbed, disturbed))
    assert produced.conditions == expected.conditions
    assert produced.provenance["resumed_seeds"] == done - 1
    assert produced.table.identical(expected.table)
    assert not list(chunks.glob(".tmp-*")), "temporary files of the killed runs are gone"


def test_a_diverging_run_stops_and_names_run_seed_step_and_config(tiny):
    settings = tiny.but(optimizer="sgd", learning_rate=1e30, loss="squared_error")
    with pytest.raises(
        NonFiniteLossError, match=r"loss of teacher became .* at step \d+ of seed 0.*learning_rate=1e\+30"
    ):
        run(fig10.EXPERIMENT, settings)


def test_published_bands_follow_from_the_published_intervals_and_the_number_of_seeds(tiny_record):
    published = {"reference": 0.0998, "teacher": 0.9434, "student_aux": 0.528, "student_all": 0.9126,
                 "cross_aux": 0.106, "cross_all": 0.743}  # fmt: skip
    verdicts = judge("fig10", "paper", tiny_record.conditions)
    assert {verdict.condition: verdict.expected for verdict in verdicts} == published
    student = next(verdict for verdict in verdicts if verdict.condition == "student_aux")
    sd = 0.022 * 10 / 1.96
    assert student.high - 0.528 == pytest.approx(2.63826 * sd * (1 / 100 + 1 / 3) ** 0.5, rel=1e-5)
    assert not student.holds, "a net of 16 units on the embedded digits is no reproduction of MNIST"


def test_there_is_no_verdict_where_nothing_is_expected(tiny_record):
    assert judge("fig10", "custom", tiny_record.conditions) == []
    assert judge("fig99", "paper", tiny_record.conditions) == []


def test_seeds_under_one_vmap_give_the_mapped_numbers(tiny, tiny_record):
    run_seed = partial(fig10.run_seed, tiny.protocol, tiny.rates)
    split = tiny.protocol.select(data.load("digits"))

    def accuracies(seed, split):
        return run_seed(split, seed)["accuracy"]

    arrays = run_seeds(accuracies, [0, 1, 2], split, vectorize=True, chunk_size=2).arrays
    for name, values in arrays.items():
        # Batched matrix products add in another order: float32 rounding, amplified by the updates of a short run.
        expected = tiny_record.table["accuracy"].sel(network=name)
        np.testing.assert_allclose(values, expected, rtol=2e-3, atol=2 / 360, err_msg=name)
