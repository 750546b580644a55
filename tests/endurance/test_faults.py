"""Faults of real runs: whatever happens, the next start goes on and ends with the numbers of an undisturbed run.

One test of the default run goes through the moments that matter most. The marker `endurance` selects the rest: 60 kills
over the whole life of a run, signals, full and read-only disks, rivals, damage and a clock that jumps.
"""

import contextlib
import hashlib
import io
import os
import random
import shutil
import signal
import subprocess
import time
import zipfile

import pytest
from running import SEEDS, chunks

from sublim_theory.record import load

KILL, INTERRUPT, TERMINATE = int(signal.SIGKILL), int(signal.SIGINT), int(signal.SIGTERM)
SAYS_HOW_TO_GO_ON = "the same command goes on"


def record_of(out):
    return load(out / "fig10-smoke")


def test_a_hard_life(runs, tmp_path):
    """Interrupted within the write of a chunk, killed between the two files of a record; chunks damaged."""
    interrupted = runs.run(tmp_path, signal=f"{INTERRUPT}:half:.chunk:4")
    assert (interrupted.returncode, len(chunks(tmp_path))) == (130, 3), interrupted.stderr
    assert SAYS_HOW_TO_GO_ON in interrupted.stderr
    runs.require_intact(tmp_path)

    assert runs.run(tmp_path, signal=f"{KILL}:after:.safetensors:1").returncode == -KILL
    assert len(chunks(tmp_path)) == SEEDS
    runs.require_intact(tmp_path)

    truncated, flipped = chunks(tmp_path)[3:5]
    os.truncate(truncated, truncated.stat().st_size // 2)
    flip(flipped, flipped.stat().st_size // 2)
    last = runs.finish(tmp_path)
    assert last.stderr.count("is damaged") == last.stderr.count("computing again: seeds") == 2
    assert all(path.name in last.stderr for path in (truncated, flipped))
    assert record_of(tmp_path).provenance["resumed_seeds"] == SEEDS - 2


# ---- kills; the phase is where along a run's life, from its first import to its last figure


@pytest.mark.endurance
@pytest.mark.parametrize("life", range(4))
def test_killed_at_any_moment(runs, lifetimes, tmp_path, life):
    """10 kills a life, 40 in all, one in every tenth of the time that a run takes."""
    moments, draw, killed, done = random.sample(range(10), 10), random.Random(life), 0, 0
    for moment in moments:
        while True:
            seconds = lifetimes[False] * (moment + draw.random()) / 10
            ended = runs.kill_after(tmp_path / str(done), seconds, KILL)
            runs.require_intact(tmp_path / str(done))
            if ended.returncode == -KILL:
                break
            assert ended.returncode == 0, ended.stderr  # resumed, it was done sooner: the next life starts from nothing
            runs.require_same(tmp_path / str(done))
            done += 1
        killed += 1
    runs.finish(tmp_path / str(done))
    assert killed == 10


@pytest.mark.endurance
def test_killed_while_it_compiles(runs, lifetimes, tmp_path):
    for moment in range(6):
        seconds = lifetimes[True] * (0.2 + 0.1 * moment)
        assert runs.kill_after(tmp_path, seconds, KILL, cold=True).returncode in (-KILL, 0)
        runs.require_intact(tmp_path)
    runs.finish(tmp_path)


@pytest.mark.endurance
@pytest.mark.parametrize("moment", ["half", "before", "after"])
def test_killed_in_every_kind_of_write(runs, tmp_path, moment):
    """18 kills: of the probe, the first chunk and later ones, both files of the record, a figure."""
    for target in (".writable:1", ".chunk:1", f".chunk:{SEEDS // 2}", ".safetensors:1", "summary.json:1", ".svg:1"):
        assert runs.run(tmp_path, signal=f"{KILL}:{moment}:{target}").returncode == -KILL, target
        runs.require_intact(tmp_path)
    runs.finish(tmp_path)


# ---- signals that ask


@pytest.mark.endurance
@pytest.mark.parametrize("number", [INTERRUPT, TERMINATE])
def test_a_signal_keeps_finished_chunks_and_says_how_to_go_on(runs, tmp_path, number):
    for count, moment in enumerate(("half", "before", "after")):
        ended = runs.run(tmp_path, signal=f"{number}:{moment}:.chunk:4")
        assert ended.returncode == 128 + number, ended.stderr
        assert SAYS_HOW_TO_GO_ON in ended.stderr
        assert "Traceback" not in ended.stderr
        assert len(chunks(tmp_path)) >= 3 * (count + 1)
        assert not [path for path in chunks(tmp_path) if path.name.startswith(".tmp-")], "it cleans up after itself"
        runs.require_intact(tmp_path)
    runs.finish(tmp_path)


@pytest.mark.endurance
@pytest.mark.parametrize("number", [INTERRUPT, TERMINATE])
def test_a_signal_at_any_moment(runs, lifetimes, tmp_path, number):
    for tenth in range(1, 10, 2):
        ended = runs.kill_after(tmp_path, lifetimes[False] * tenth / 10, number)
        assert ended.returncode in (0, -number, 128 + number), "by convention, or before Python listens"
        runs.require_intact(tmp_path)
    runs.finish(tmp_path)


# ---- disks


@contextlib.contextmanager
def small_disk(folder, size):
    """A file system of so many KiB as a context; gives `remount(options)`. Skips where mounting is not allowed."""
    folder.mkdir()

    def mount(*words):
        return subprocess.run(["mount", *words, folder], capture_output=True, text=True, check=False)

    if shutil.which("mount") is None or (tried := mount("-t", "tmpfs", "-o", f"size={size}k", "tmpfs")).returncode:
        pytest.skip(f"mounting is not allowed here: {tried.stderr.strip() if shutil.which('mount') else 'no mount'}")
    try:
        yield lambda options: mount("-o", f"remount,{options}")
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.endurance
def test_a_full_disk(runs, tmp_path):
    """It fills up among the chunks, at the record, at the figures; with more room the run goes on each time."""
    sizes = {path.name: path.stat().st_size for path in (runs.whole / "fig10-smoke").iterdir()}
    pages = {name[:6]: -(-size // 4096) for name, size in sizes.items()}
    record = 4 * (SEEDS + 1)
    figures = record + 4 * (pages["table-"] + pages["summar"] + 1)
    with small_disk(tmp_path / "disk", 4 * SEEDS // 2) as remount:
        for room, missing in ((record, ".chunk"), (figures, "table-"), (10_000, "fig10")):
            ended = runs.run(tmp_path / "disk")
            assert ended.returncode == 2, ended.stderr
            assert "No space left" in ended.stderr
            assert missing in ended.stderr
            assert "--out" in ended.stderr
            assert "Traceback" not in ended.stderr
            assert chunks(tmp_path / "disk")
            runs.require_intact(tmp_path / "disk")
            assert remount(f"size={room}k").returncode == 0
        runs.finish(tmp_path / "disk")
        assert record_of(tmp_path / "disk").provenance["resumed_seeds"] == SEEDS


@pytest.mark.endurance
def test_a_limit_on_the_size_of_files(runs, tmp_path):
    """The same by another limit, which needs no right to mount."""
    chunk = max(path.stat().st_size for path in chunks(runs.whole))
    for limit, missing in ((chunk // 2, ".chunk"), (chunk, ".safetensors")):
        ended = runs.run(tmp_path, limit=limit)
        assert ended.returncode == 2, ended.stderr
        assert f"{missing}: [Errno 27]" in ended.stderr
        runs.require_intact(tmp_path)
    runs.finish(tmp_path)


@pytest.mark.endurance
def test_a_read_only_disk(runs, tmp_path):
    """A finished record on a disk that turned read-only: refused before anything is computed, and still there."""
    with small_disk(tmp_path / "disk", 10_000) as remount:
        runs.finish(tmp_path / "disk")
        assert remount("ro").returncode == 0
        ended = runs.run(tmp_path / "disk")
        assert ended.returncode == 2
        assert "Read-only file system" in ended.stderr
        assert "--out" in ended.stderr
        assert "Traceback" not in ended.stderr
        runs.require_same(tmp_path / "disk")


@pytest.mark.endurance
def test_a_file_in_the_place_of_the_folder(runs, tmp_path):
    (tmp_path / "fig10-smoke").write_text("mine")
    ended = runs.run(tmp_path)
    assert ended.returncode == 2
    assert "cannot write" in ended.stderr
    assert (tmp_path / "fig10-smoke").read_text() == "mine"


# ---- rivals


@pytest.mark.endurance
def test_a_second_run_on_a_folder_says_that_there_is_a_first(runs, tmp_path):
    first = runs.start(tmp_path)
    while not chunks(tmp_path):
        time.sleep(0.005)
    first.send_signal(signal.SIGSTOP)  # in the middle, for as long as the second one takes
    second = runs.run(tmp_path)
    first.send_signal(signal.SIGCONT)
    _, stderr = first.communicate(timeout=300)
    assert second.returncode == 2
    assert "another run is writing to" in second.stderr
    assert first.returncode == 0, stderr
    runs.require_same(tmp_path)


@pytest.mark.endurance
def test_three_runs_at_once(runs, tmp_path):
    processes = [runs.start(tmp_path) for _ in range(3)]
    ends = [(*process.communicate(timeout=300), process.returncode) for process in processes]
    assert {status for _, _, status in ends} <= {0, 2}
    assert 0 in {status for _, _, status in ends}
    assert all("another run is writing to" in stderr for _, stderr, status in ends if status == 2)
    runs.require_same(tmp_path)


# ---- damage and clocks


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << position % 8
    path.write_bytes(content)


def signed(archive):
    return hashlib.sha256(archive).digest() + archive


def bomb():
    """A chunk with a right checksum whose one array claims 2**60 numbers."""
    header = b"\x93NUMPY\1\0v\0" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (1152921504606846976,), }".ljust(
        118
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("teacher.npy", header)
    return signed(buffer.getvalue())


DAMAGES = {
    "truncated": lambda path: os.truncate(path, path.stat().st_size - 1),
    "emptied": lambda path: os.truncate(path, 0),
    "flipped early": lambda path: flip(path, 3),
    "flipped late": lambda path: flip(path, path.stat().st_size - 3),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "foreign": lambda path: path.write_bytes(os.urandom(1000)),
    "a bomb": lambda path: path.write_bytes(bomb()),
    "no archive": lambda path: path.write_bytes(signed(b"nothing")),
}


@pytest.mark.endurance
def test_damaged_chunks_are_named_and_computed_again(runs, tmp_path):
    runs.finish(tmp_path)
    damaged = dict(zip(DAMAGES, chunks(tmp_path), strict=False))
    for damage, path in damaged.items():
        DAMAGES[damage](path)
    ended = runs.finish(tmp_path)
    assert [damage for damage, path in damaged.items() if path.name not in ended.stderr] == []
    assert ended.stderr.count("computing again: seeds") == len(DAMAGES)
    assert record_of(tmp_path).provenance["resumed_seeds"] == SEEDS - len(DAMAGES)


@pytest.mark.endurance
def test_a_damaged_record_is_written_anew(runs, tmp_path):
    runs.finish(tmp_path)
    flip(next((tmp_path / "fig10-smoke").glob("table-*")), 100)
    os.truncate(tmp_path / "fig10-smoke" / "summary.json", 50)
    runs.finish(tmp_path)


@pytest.mark.endurance
def test_a_damaged_compilation_cache_costs_time_alone(runs, tmp_path):
    shutil.copytree(runs.cache, tmp_path / "whole")
    try:
        for path in [path for path in runs.cache.rglob("*") if path.is_file()]:
            os.truncate(path, path.stat().st_size // 2)
        runs.finish(tmp_path / "out")
    finally:
        shutil.rmtree(runs.cache)
        shutil.copytree(tmp_path / "whole", runs.cache)


@pytest.mark.endurance
def test_a_clock_that_jumps(runs, tmp_path):
    assert runs.run(tmp_path, clock=1, signal=f"{KILL}:before:.chunk:9").returncode == -KILL
    began = time.monotonic()
    ended = runs.run(tmp_path, clock=1)
    assert ended.returncode == 0, ended.stderr
    runs.require_same(tmp_path)
    assert 0 < record_of(tmp_path).wall_seconds < time.monotonic() - began
