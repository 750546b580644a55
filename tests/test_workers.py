"""Workers: real processes, killed and late; their numbers are those of one process, and nothing done is lost."""

import contextlib
import json
import os
import pickle
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import psutil
import pytest

from experiments import fig10, sweep, workers
from experiments.experiment import Context, run
from experiments.registry import SUMMARIES, find
from experiments.workers import WorkerError, Workers
from sublim_theory import cli, devices
from sublim_theory.training import NonFiniteLossError

WORDS = shlex.split("--preset smoke --hidden 16 --noise-images 300 --teacher-epochs 2 --student-epochs 2")
HERE = str(Path(__file__).parent)  # where a worker finds the functions below
PATIENCE = 300  # for a machine that does much else
BOTH = sweep.over(fig10.EXPERIMENT, lambda _: {"temperature": (1.0, 4.0)}, name="both", summary="")


class Watched(Workers):
    """Workers that call `then(number of results so far)` after each result."""

    then = staticmethod(lambda _: None)

    def compute(self, *arguments):
        for count, each in enumerate(super().compute(*arguments), 1):
            self.then(count)
            yield each


def children(pid):
    """The worker processes of a process."""
    found = []
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.Error):  # it may end meanwhile
            found += [child] if "spawn_main" in " ".join(child.cmdline()) else []
    return found


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Where workers find what another has compiled."""
    with devices.compilation_cache(tmp_path_factory.mktemp("programs")) as programs:
        yield programs


@pytest.fixture(scope="module")
def three(programs):  # noqa: ARG001
    """Three workers, started once."""
    with Watched(count=3) as three:
        yield three


def test_seeds_and_points_are_tasks_and_two_of_three_workers_killed_in_the_middle_lose_nothing(
    three, tiny, tmp_path, monkeypatch, capfd
):
    def kill_two(count):
        if count == 2:
            for child in children(os.getpid())[:2]:
                child.kill()

    monkeypatch.setattr(three, "then", kill_two)
    record = run(BOTH, tiny, Context("smoke", chunks=tmp_path, workers=three))
    assert record.table.identical(run(BOTH, tiny, Context("smoke")).table)
    assert record.provenance["resumed_seeds"] == 0
    assert record.provenance["run_seconds"] > 0
    assert record.provenance["workers"]
    assert len(list(tmp_path.glob("*.chunk"))) == 6
    first, *lost = capfd.readouterr().err.splitlines()
    assert "3 workers share" in first or len(os.sched_getaffinity(0)) >= 3
    assert len([line for line in lost if "was lost; its seeds go to another" in line]) == len(lost) == 2


def test_what_is_finished_is_not_sent_and_a_loss_that_is_not_finite_is_told_as_in_one_process(
    three, tiny, tmp_path, monkeypatch
):
    run(fig10.EXPERIMENT, tiny.but(seeds=2), Context("smoke", chunks=tmp_path))
    sent = []
    monkeypatch.setattr(three, "then", sent.append)
    record = run(fig10.EXPERIMENT, tiny, Context("smoke", chunks=tmp_path, workers=three))
    assert sent == [1]
    assert record.provenance["resumed_seeds"] == 2
    broken = tiny.but(learning_rate=1e30, seeds=1)
    with pytest.raises(NonFiniteLossError) as alone:
        run(fig10.EXPERIMENT, broken)
    with pytest.raises(NonFiniteLossError) as elsewhere:
        run(fig10.EXPERIMENT, broken, Context(chunks=tmp_path, workers=three))
    assert str(elsewhere.value) == str(alone.value)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def affinity():
    return sorted(os.sched_getaffinity(0))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_a_task_that_ends_every_worker_that_takes_it_is_named_and_new_ones_keep_to_their_cores(three):
    with pytest.raises(WorkerError, match=r"seeds \[7\] ended each of the 4 workers that took them; .* memory"):
        list(three.compute(die, [()], ["seeds [7]"]))
    allowed = {own[workers._CORES] for own in workers.shares(3)}
    found = [result for _, result, _ in three.compute(affinity, [()] * 6, ["core"] * 6)]
    assert {",".join(map(str, cores)) for cores in found} <= allowed


def test_a_worker_with_other_versions_is_refused(three, monkeypatch):
    monkeypatch.setattr(workers, "_versions", lambda: {"jax": "0.1", "numpy": np.__version__})
    with pytest.raises(WorkerError, match=rf"worker \S+ has jax {jax.__version__} instead of 0.1; install the same"):
        list(three.compute(affinity, [()], ["core"]))


@pytest.mark.parametrize(
    ("cores", "count", "expected"),
    [(range(2), 2, ["0", "1"]), ((1, 3, 5, 7, 9), 2, ["1,3", "5,7,9"]), (range(2), 3, ["0", "0", "1"])],
)
def test_cores_are_divided(cores, count, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(cores), raising=False)
    assert sorted(own[workers._CORES] for own in workers.shares(count)) == expected


def test_every_worker_sees_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(workers, "_gpus", lambda: ["4", "GPU-7"])
    assert [own["CUDA_VISIBLE_DEVICES"] for own in workers.shares(2)] == ["4", "GPU-7"]
    with pytest.raises(WorkerError, match="3 workers need a GPU each and there are 2; give --workers 2"):
        workers.shares(3)


def test_the_points_of_every_experiment_can_be_sent():
    for name in SUMMARIES:
        for settings in find(name).presets.values():
            assert hash(pickle.loads(pickle.dumps(settings))) == hash(settings)


# ---- a scheduler that others run


@contextlib.contextmanager
def dask(kind, *words, **environment):
    """A scheduler or a worker as a process."""
    command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *words]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def scheduler(tmp_path):
    file = tmp_path / "scheduler.json"
    with dask("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", file) as process:
        until(lambda: file.exists() and file.read_text().endswith("}"))
        yield process, json.loads(file.read_text())["address"].removeprefix("tcp://")


def worker(address, **environment):
    return dask("worker", address, "--no-nanny", "--nthreads", "1", "--no-dashboard", **environment)


def wait_for(path):
    until(Path(path).exists)
    return os.getpid()


def test_a_worker_that_joins_late_gets_tasks(scheduler, tmp_path, capfd):
    _, address = scheduler
    released, running = tmp_path / "released", contextlib.ExitStack()

    class Late(Workers):
        def _threads(self):
            found = super()._threads()
            if not found:
                running.enter_context(worker(address, PYTHONPATH=HERE))
            return found

    with Late(scheduler=address) as cluster, running:
        tasks = [(tmp_path,), (released,), (tmp_path,)]
        pids = {}
        for number, pid, _ in cluster.compute(wait_for, tasks, ["first", "second", "third"]):
            pids[number] = pid
            if number == 0:
                running.enter_context(
                    worker(address, PYTHONPATH=HERE)
                )  # the first one is busy until `released` is there
            if number == 2:
                released.touch()
    assert len(set(pids.values())) == 2
    assert f"there is no worker at {address} yet" in capfd.readouterr().err


@pytest.mark.usefixtures("programs")
def test_a_scheduler_that_dies_is_named_and_what_is_finished_stays(scheduler, tiny, tmp_path):
    process, address = scheduler
    with worker(address), Watched(scheduler=address) as cluster:
        with pytest.raises(WorkerError, match=r"lacks what this run needs .*test_workers"):
            list(cluster.compute(affinity, [()], ["core"]))
        cluster.then = lambda _: process.kill()
        with pytest.raises(WorkerError, match=f"the scheduler at {address} was lost; finished seeds are kept"):
            run(fig10.EXPERIMENT, tiny, Context(chunks=tmp_path / "chunks", workers=cluster))
    assert run(fig10.EXPERIMENT, tiny, Context(chunks=tmp_path / "chunks")).provenance["resumed_seeds"] >= 1


def test_a_scheduler_that_falls_silent_is_lost(scheduler, tmp_path, monkeypatch):
    process, address = scheduler

    def silence(_):
        process.send_signal(signal.SIGSTOP)
        monkeypatch.setattr(workers, "ANSWER", 1)

    with worker(address, PYTHONPATH=HERE), Watched(scheduler=address) as cluster:
        cluster.then = silence
        with pytest.raises(WorkerError, match=f"the scheduler at {address} was lost"):
            list(cluster.compute(wait_for, [(tmp_path,), (tmp_path / "never",)], ["first", "second"]))


@pytest.mark.parametrize("listens", [True, False])
def test_a_scheduler_that_never_answers(listens, monkeypatch):
    monkeypatch.setattr(workers, "ANSWER", 1)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        if listens:
            mute.listen()
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        with (
            Workers(scheduler=address) as cluster,
            pytest.raises(WorkerError, match=f"answers at {address} within 1 s"),
        ):
            list(cluster.compute(affinity, [()], ["core"]))


# ---- the command


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.endurance)]
)
def test_workers_end_with_the_command(number, tmp_path, programs):
    command = [sys.executable, "-m", "experiments", "fig10", *WORDS, "--workers", "2", "--seeds", "2000"]
    process = subprocess.Popen(
        [*command, "--compilation-cache", programs, "--out", tmp_path],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        until(lambda: len(children(process.pid)) == 2)
        ours = children(process.pid)
        until(lambda: number == signal.SIGKILL or list(tmp_path.glob("*/chunks/*.chunk")))
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as Ctrl-C in a terminal
        else:
            process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.communicate()
    assert not psutil.wait_procs(ours, timeout=PATIENCE)[1]
    if number == signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert process.returncode == 128 + number, said
        assert said.count("\n") == 1
        assert "the same command goes on from there" in said


MISTAKES = [
    ("--workers 0", "--workers must be at least 1, got 0"),
    ("--chunk-size 0", "--chunk-size must be at least 1, got 0"),
    ("--workers 2 --cluster host:1", "give one of them"),
    ("--cluster 127.0.0.1", "HOST:PORT with a port from 1 to 65535, got '127.0.0.1'"),
    ("--cluster host:0", "got 'host:0'"),
    ("--cluster host:99999", "got 'host:99999'"),
    ("--cluster host:1 --deterministic", "--deterministic is for workers of this machine"),
    ("--coordinator 127.0.0.1:1 --processes 2 --process-id 1", "--coordinator is gone: start one command"),
    ("--distributed", "--distributed is gone: start one command with --workers N"),
    ("--lost-after=3", "--lost-after is gone"),
]


@pytest.mark.parametrize(("line", "message"), MISTAKES)
def test_options_that_cannot_be_right_are_refused_before_any_work(line, message, capsys, tmp_path):
    assert cli.main(f"reproduce fig10 --preset smoke --out {tmp_path / 'out'} {line}".split()) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_without_dask_a_line_names_the_extra(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # noqa: ARG005
    assert cli.main(["reproduce", "fig10", "--preset", "smoke", "--workers", "2"]) == 2
    assert "--workers needs Dask, which is not installed here: pip install -e '.[cluster]'" in capsys.readouterr().err
