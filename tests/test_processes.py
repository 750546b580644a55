"""Processes: mistakes are named, the share of each adds up to the numbers of one, and a lost one stops the others."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from sublim_theory import cli, processes
from sublim_theory.processes import ProcessError
from sublim_theory.record import load

TINY = shlex.split("--preset smoke --hidden 16 --noise-images 300 --teacher-epochs 2 --student-epochs 2")
LOST_AFTER = 10
PATIENCE = 300  # for a machine that does much else


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(index, count, port, out, *words, environment=None):
    """One of the processes of a run of fig10 on loopback; without a port it is told how to meet by the launcher."""
    meeting = ["--coordinator", f"127.0.0.1:{port}", "--processes", str(count), "--process-id", str(index)]
    command = [sys.executable, "-m", "experiments", "fig10", *TINY, *(meeting if port else ["--distributed"])]
    return subprocess.Popen(
        [*command, "--out", out, "--join-within", "120", "--lost-after", str(LOST_AFTER), *words],
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | (environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ends(runs):
    """Exit status, standard output and standard error of each, all within a bounded time."""
    deadline = time.monotonic() + PATIENCE
    try:
        said = [run.communicate(timeout=max(1, deadline - time.monotonic())) for run in runs]
    finally:
        for run in runs:
            run.kill()
    return [(run.returncode, *texts) for run, texts in zip(runs, said, strict=True)]


def require_success(found):
    assert [status for status, _, _ in found] == [0] * len(found), "\n".join(err for _, _, err in found)


def require_equal(record, expected):
    assert record.conditions == expected.conditions
    assert record.table.identical(expected.table)


def test_two_processes_of_two_devices_write_one_record_with_the_numbers_of_one(tmp_path, tiny_record):
    words, environment = ["--devices", "2", "--seeds", "3"], {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    port = free_port()
    found = ends([start(i, 2, port, tmp_path, *words, environment=environment) for i in range(2)])
    require_success(found)
    assert "wrote" in found[0][1]
    assert found[1][1] == "", "process 0 alone reports"
    record = load(tmp_path / "fig10-smoke")
    assert (record.provenance["processes"], record.provenance["devices_used"]) == (2, 2)
    assert record.provenance["resumed_seeds"] == 0
    assert len(list((tmp_path / "fig10-smoke" / "chunks").glob("*.chunk"))) == 3
    require_equal(record, tiny_record)


MISTAKES = [
    ("--coordinator 127.0.0.1:1 --processes 2", "belong together"),
    ("--process-id 0", "belong together"),
    ("--distributed --process-id 0", "from the launcher"),
    ("--coordinator 127.0.0.1:1 --processes 2 --process-id 2", "process_id must be from 0 to 2 - 1"),
    ("--coordinator 127.0.0.1:1 --processes 2 --process-id -1", "got -1"),
    ("--coordinator 127.0.0.1:1 --processes 0 --process-id 0", "from 0 to 0 - 1"),
    ("--coordinator 127.0.0.1 --processes 2 --process-id 1", "HOST:PORT with a port from 1 to 65535, got '127.0.0.1'"),
    ("--coordinator host:0 --processes 2 --process-id 1", "got 'host:0'"),
    ("--coordinator host:99999 --processes 2 --process-id 1", "got 'host:99999'"),
    ("--lost-after 0", "at least 1"),
    ("--chunk-size 0", "--chunk-size must be at least 1, got 0"),
]


@pytest.mark.parametrize(("line", "message"), MISTAKES)
def test_options_that_cannot_be_right_are_refused_before_any_work(line, message, capsys, tmp_path):
    began = time.monotonic()
    assert cli.main(f"reproduce fig10 --preset smoke --out {tmp_path / 'out'} {line}".split()) == 2
    assert message in capsys.readouterr().err
    assert time.monotonic() - began < 30
    assert not (tmp_path / "out").exists()


def test_nobody_answers(tmp_path, capsys):
    port, began = free_port(), time.monotonic()
    line = f"--coordinator 127.0.0.1:{port} --processes 2 --process-id 1 --join-within 2"
    assert cli.main(f"reproduce fig10 --preset smoke --out {tmp_path / 'out'} {line}".split()) == 2
    assert time.monotonic() - began < 30
    assert f"nobody answers at 127.0.0.1:{port} within 2 s" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_no_launcher_says_how_to_meet(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "OMPI_")):
            monkeypatch.delenv(name)
    run = subprocess.run(
        [sys.executable, "-m", "experiments", "fig10", "--preset", "smoke", "--distributed"],
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert run.returncode == 2
    assert "neither Slurm nor Open MPI" in run.stderr


def test_one_process_is_number_0_and_waits_for_nobody():
    assert (processes.count(), processes.index()) == (1, 0)
    processes.meet()
    processes.leave()


def test_what_another_finished_must_be_readable_here(monkeypatch):
    from sublim_theory import ensemble

    class Empty:
        def get(self, _):
            return None

        def put(self, *_):
            pass

    monkeypatch.setattr(ensemble, "PATIENCE", 0.3)
    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(processes, "meet", lambda: None)
    with pytest.raises(ProcessError, match=r"seeds \[1\].*the same output folder"):
        ensemble.run_chunks(lambda seeds: {"seed": np.array(seeds)}, [0, 1, 2], store=Empty())


def lose(victim, count, tmp_path):
    """Kill one of the processes in the middle; how long the others went on, and what they said."""
    chunks = tmp_path / "fig10-smoke" / "chunks"
    port = free_port()
    runs = [start(i, count, port, tmp_path, "--seeds", "400") for i in range(count)]
    while all(run.poll() is None for run in runs) and len(list(chunks.glob("*.chunk"))) < 3:
        time.sleep(0.002)
    runs[victim].send_signal(signal.SIGKILL)
    began = time.monotonic()
    found = ends(runs)
    return time.monotonic() - began, found


@pytest.mark.endurance
@pytest.mark.parametrize(("victim", "count"), [(1, 2), (0, 2), (2, 4)])
def test_a_lost_process_stops_the_others_and_the_next_start_goes_on(victim, count, tmp_path):
    seconds, found = lose(victim, count, tmp_path)
    assert seconds < LOST_AFTER + 30
    assert found[victim][0] == -signal.SIGKILL, "it finished before it could be killed"
    for index, (status, _, err) in enumerate(found):
        if index != victim:
            assert status != 0
            assert "the same commands go on from there" in err
            assert "was lost" in err or "another task died" in err
    folder = tmp_path / "fig10-smoke"
    assert not (folder / "summary.json").exists()
    done = len(list((folder / "chunks").glob("*.chunk")))
    assert 3 <= done < 400
    port = free_port()
    require_success(ends([start(i, count, port, tmp_path, "--seeds", "400") for i in range(count)]))
    record = load(folder)
    assert record.provenance["resumed_seeds"] == done
    alone = subprocess.run(
        [sys.executable, "-m", "experiments", "fig10", *TINY, "--seeds", "400", "--out", tmp_path / "alone"],
        capture_output=True, check=False,
    )  # fmt: skip
    assert alone.returncode == 0
    require_equal(record, load(tmp_path / "alone" / "fig10-smoke"))
    assert not list(folder.rglob(".tmp-*"))


@pytest.mark.endurance
def test_four_processes_give_the_numbers_of_one(tmp_path, tiny_record):
    port = free_port()
    require_success(ends([start(i, 4, port, tmp_path, "--seeds", "3") for i in range(4)]))  # one has nothing to do
    require_equal(load(tmp_path / "fig10-smoke"), tiny_record)


@pytest.mark.endurance
def test_a_process_that_fails_by_itself_says_why_and_stops_the_others(tmp_path):
    port = free_port()
    runs = [
        start(0, 2, port, tmp_path, "--seeds", "3"),
        start(1, 2, port, tmp_path, "--seeds", "3", "--dataset", "mnist", "--data-dir", str(tmp_path / "nowhere")),
    ]
    (status, _, _), (other, _, why) = ends(runs)
    assert status != 0
    assert other == 2
    assert "Cannot list the data folder" in why
    assert not (tmp_path / "fig10-smoke" / "summary.json").exists()


@pytest.mark.endurance
def test_the_second_run_on_a_folder_is_refused_and_the_first_is_not_disturbed(tmp_path, tiny_record):
    first = [start(i, 2, port, tmp_path, "--seeds", "3") for port in [free_port()] for i in range(2)]
    lock = tmp_path / "fig10-smoke" / ".lock"
    while not lock.exists() and all(run.poll() is None for run in first):
        time.sleep(0.01)
    second = [start(i, 2, port, tmp_path, "--seeds", "3") for port in [free_port()] for i in range(2)]
    refused = ends(second)
    require_success(ends(first))
    assert refused[0][0] == 2
    assert "another run is writing" in refused[0][2]
    assert refused[1][0] != 0
    require_equal(load(tmp_path / "fig10-smoke"), tiny_record)


@pytest.mark.endurance
def test_slurm_tells_the_processes_how_to_meet(tmp_path, tiny_record):
    job = 1000 + os.getpid() % 3000  # JAX takes the port from the job's number
    runs = []
    for index in range(2):
        environment = {
            "SLURM_JOB_ID": str(job),
            "SLURM_STEP_NODELIST": "localhost",
            "SLURM_NTASKS": "2",
            "SLURM_PROCID": str(index),
            "SLURM_LOCALID": str(index),
            "SLURM_STEP_NUM_NODES": "1",
        }
        runs.append(start(index, 2, None, tmp_path, "--seeds", "3", environment=environment))
    require_success(ends(runs))
    require_equal(load(tmp_path / "fig10-smoke"), tiny_record)


@pytest.mark.endurance
def test_the_points_of_a_job_array_are_gathered_without_running_anything_again(tmp_path):
    sweep = [sys.executable, "-c", "import sys; from sublim_theory.cli import main; sys.exit(main())", "sweep", "fig10"]
    whole = tmp_path / "whole" / "sweep_fig10-smoke-learning_rate" / "chunks"
    whole.mkdir(parents=True)
    values = ("1e-3", "2e-3")
    for value in values:
        part = tmp_path / value
        subprocess.run(
            [*sweep, *TINY, "--seeds", "2", "--vary", f"learning_rate={value}", "--out", part], check=True,
            capture_output=True,
        )  # fmt: skip
        for chunk in part.glob("*/chunks/*.chunk"):
            chunk.rename(whole / chunk.name)
    subprocess.run(
        [*sweep, *TINY, "--seeds", "2", "--vary", f"learning_rate={','.join(values)}", "--out", tmp_path / "whole"],
        check=True, capture_output=True,
    )  # fmt: skip
    record = load(whole.parent)
    assert record.provenance["resumed_seeds"] == 4
    assert record.provenance["compile_seconds"] == 0
