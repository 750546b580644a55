"""Records: what was saved comes back, no crash leaves half a file, damage is noticed."""

import dataclasses
import hashlib
import io
import json
import os
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest

from sublim_theory import results
from sublim_theory.protocols import SublimError
from sublim_theory.results import ChunkStore, RecordError, Result, provenance, run_folder, write_file
from sublim_theory.statistics import summarize


@pytest.fixture
def result():
    return Result(
        experiment="fig10",
        preset="smoke",
        config={"seeds": 3, "hidden": [16], "temperature": None},
        conditions={"teacher": summarize([0.5, 0.75, 1.0])},
        provenance={"seeds": [0, 1, 2]},
        wall_seconds=1.5,
        expectations=[],
        arrays={"loss/teacher": np.arange(6, dtype=np.float32).reshape(3, 2)},
    )


def test_a_record_comes_back_as_it_was(result, tmp_path):
    result.save(tmp_path)
    loaded = Result.load(tmp_path)
    assert dataclasses.replace(loaded, arrays={}) == dataclasses.replace(result, arrays={})
    np.testing.assert_array_equal(loaded.arrays["loss/teacher"], result.arrays["loss/teacher"])
    assert Result.load(tmp_path, arrays=False).arrays == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["arrays.npz", "summary.json"]


def test_the_summary_has_the_promised_fields(result, tmp_path):
    result.save(tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["conditions"]["teacher"] == {
        "mean": 0.75,
        "sd": 0.25,
        "ci95": pytest.approx(1.959964 * 0.25 / 3**0.5),
        "n": 3,
        "values": [0.5, 0.75, 1.0],
    }
    assert {"schema", "config", "provenance", "wall_seconds", "expectations", "arrays"} <= set(summary)


def test_one_seed_has_no_interval_and_is_still_valid_json(result, tmp_path):
    dataclasses.replace(result, conditions={"teacher": summarize([0.5])}).save(tmp_path)
    text = (tmp_path / "summary.json").read_text()
    row = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))["conditions"]["teacher"]
    assert (row["sd"], row["ci95"], row["n"]) == (None, None, 1)
    assert Result.load(tmp_path).conditions["teacher"].ci95 is None


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path, monkeypatch, failing):
    path = tmp_path / "summary.json"
    write_file(path, b"old")

    def no_space(*_):
        raise OSError(28, "No space left on device")

    target = (os, "fsync") if failing == "fsync" else (type(path), "replace")
    monkeypatch.setattr(*target, no_space)
    with pytest.raises(RecordError, match=r"cannot write .*summary.json: .*No space left.*--out"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["summary.json"]


def test_a_folder_that_takes_no_files_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RecordError, match="cannot write"), run_folder(tmp_path / "file" / "run"):
        pytest.fail("entered")


def test_one_run_at_a_time_writes_to_a_folder_and_what_a_killed_one_left_is_removed(tmp_path):
    folder = tmp_path / "a" / "b"
    code = f"""
import pathlib, sys
from sublim_theory.results import run_folder
with run_folder(pathlib.Path({str(folder)!r})) as folder:
    (folder / ".tmp-left").touch()
    print("holds it", flush=True)
    sys.stdin.read()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as other:
        assert other.stdout.readline() == "holds it\n"
        with pytest.raises(RecordError, match="another run is writing to"), run_folder(folder):
            pytest.fail("entered")
        other.kill()
        other.wait()
        assert (folder / ".tmp-left").exists()
        with run_folder(folder):
            assert not (folder / ".tmp-left").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "summary.json").unlink(), "cannot read the record"),
        (lambda folder: (folder / "summary.json").write_text("{"), "cannot read the record"),
        (lambda folder: (folder / "summary.json").write_text("[]"), "cannot read the record"),
        (lambda folder: (folder / "summary.json").write_text('{"schema": 0}'), "another schema"),
        (lambda folder: (folder / "summary.json").write_text('{"schema": 1, "arrays": {}}'), "cannot read the record"),
        (lambda folder: (folder / "arrays.npz").unlink(), "cannot read .*arrays.npz"),
        (lambda folder: (folder / "arrays.npz").write_bytes(b"PK"), "does not belong to the summary"),
    ],
)
def test_a_damaged_record_is_refused_with_a_reason(result, tmp_path, damage, message):
    result.save(tmp_path)
    damage(tmp_path)
    with pytest.raises(SublimError, match=message):
        Result.load(tmp_path)


def rewritten(summary, **changes):
    return json.dumps(json.loads(summary) | changes)


SUMMARIES = {
    "buried deep": lambda text: "[" * 100_000 + text,
    "not a number": lambda text: text.replace("1.5", "NaN"),
    "infinite": lambda text: text.replace("1.5", "1e999"),
    "beyond floats": lambda text: rewritten(text, conditions={"x": {"values": [10**400]}}),
    "beyond their sum": lambda text: rewritten(text, conditions={"x": {"values": [1e308, 1e308]}}),
    "words for numbers": lambda text: rewritten(text, conditions={"x": {"values": ["1", "2"]}}),
    "no values": lambda text: rewritten(text, conditions={"x": {"values": []}}),
    "values of another shape": lambda text: rewritten(text, conditions={"x": [1]}),
    "conditions of another kind": lambda text: rewritten(text, conditions=[]),
    "arrays of another kind": lambda text: rewritten(text, arrays=[]),
    "config of another kind": lambda text: rewritten(text, config=[1]),
    "a name of another kind": lambda text: rewritten(text, experiment=None),
    "time of another kind": lambda text: rewritten(text, wall_seconds="1.5"),
    "more fields": lambda text: rewritten(text, more=1),
    "too long": lambda text: text + " " * 10_000,
}


@pytest.mark.parametrize("damage", SUMMARIES)
def test_a_summary_from_anywhere_is_refused_with_a_short_reason(result, tmp_path, monkeypatch, damage):
    result.save(tmp_path)
    path = tmp_path / "summary.json"
    monkeypatch.setattr(results, "LARGEST_SUMMARY", path.stat().st_size + (damage == "buried deep") * 200_000)
    path.write_text(SUMMARIES[damage](path.read_text()))
    monkeypatch.setattr(results, "LARGEST_SUMMARY", path.stat().st_size - (damage == "too long"))
    with pytest.raises(RecordError, match=r"cannot read the record .*run the experiment again") as caught:
        Result.load(tmp_path, arrays=False)
    assert len(str(caught.value)) < 500


def test_a_pipe_in_the_place_of_a_summary_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "summary.json")
    with pytest.raises(RecordError, match="not a regular file"):
        Result.load(tmp_path)


def test_a_lock_that_cannot_be_had_is_refused(tmp_path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(RecordError, match=r"cannot write to .*--out"), run_folder(tmp_path):
        pytest.fail("entered")


def test_arrays_beyond_the_bound_are_not_written(result, tmp_path, monkeypatch):
    result.save(tmp_path)
    monkeypatch.setattr(results, "LARGEST", 40)
    with pytest.raises(RecordError, match=r"would hold 24 bytes in 1 arrays"):
        result.save(tmp_path)
    monkeypatch.undo()
    assert Result.load(tmp_path).experiment == "fig10", "what was there before is untouched"


ARRAYS = {"teacher": np.array([0.5, 0.25], np.float32)}
IDENTITY = {"config": {"hidden": (16,)}, "dataset": "abc"}


def test_a_chunk_is_found_by_exactly_its_seeds_config_and_data(tmp_path):
    ChunkStore(tmp_path, IDENTITY).put([0, 1], ARRAYS)
    np.testing.assert_array_equal(ChunkStore(tmp_path, IDENTITY).get([0, 1])["teacher"], ARRAYS["teacher"])
    assert ChunkStore(tmp_path, IDENTITY).get([0]) is None
    assert ChunkStore(tmp_path, IDENTITY).get([1, 0]) is None
    assert ChunkStore(tmp_path, IDENTITY | {"dataset": "abd"}).get([0, 1]) is None
    assert ChunkStore(tmp_path, IDENTITY | {"config": {"hidden": (17,)}}).get([0, 1]) is None


def test_a_truncated_or_altered_chunk_is_never_used(tmp_path):
    store = ChunkStore(tmp_path, IDENTITY)
    store.put([0, 1], ARRAYS)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        assert store.get([0, 1]) is None
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 16]) + whole[position + 1 :])
        assert store.get([0, 1]) is None


def test_a_damaged_chunk_is_reported_with_its_seeds_and_a_missing_one_is_not(tmp_path, caplog):
    store = ChunkStore(tmp_path, IDENTITY)
    assert store.get([0, 1]) is None
    assert caplog.text == ""
    store.put([0, 1], ARRAYS)
    (path,) = tmp_path.iterdir()
    os.truncate(path, 40)
    assert store.get([0, 1]) is None
    assert f"{path} is damaged" in caplog.text
    assert "computing again: seeds 0, 1" in caplog.text


def header(shape, dtype="<f4"):
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}"
    return b"\x93NUMPY\1\0v\0" + f"{text:<117}\n".encode()


def archive_of(*members, **options):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def lying_about_its_size():
    """A member that unpacks to 16 MiB and declares 136 bytes."""
    data = archive_of(("x.npy", header((2,)) + bytes(16 << 20)), compression=zipfile.ZIP_DEFLATED)
    return data.replace(((16 << 20) + 128).to_bytes(4, "little"), (136).to_bytes(4, "little"))


ARCHIVES = {
    "more numbers than there are": lambda: archive_of(("x.npy", header((2, 2**58)))),
    "fewer numbers than there are": lambda: archive_of(("x.npy", header((2,)) + bytes(12))),
    "numbers of no size": lambda: archive_of(("x.npy", header((2, 2**58), "<U0"))),
    "no numbers of a vast shape": lambda: archive_of(("x.npy", header((2, 0, 2**62, 2**62)))),
    "a negative shape": lambda: archive_of(("x.npy", header((-2, -1)) + bytes(8))),
    "records": lambda: archive_of(("x.npy", header((2,), "V4") + bytes(8))),
    "a header buried deep": lambda: archive_of(("x.npy", header("(" * 60 + "2"))),
    "no header": lambda: archive_of(("x.npy", b"")),
    "no numpy": lambda: archive_of(("x.npy", b"hello, world")),
    "another compression": lambda: archive_of(("x.npy", header((2,)) + bytes(8)), compression=zipfile.ZIP_LZMA),
    "a size that is a lie": lying_about_its_size,
    "a size beyond the bound": lambda: archive_of(
        ("x.npy", header((2, 2**21)) + bytes(2**24)), compression=zipfile.ZIP_DEFLATED
    ),
    "too many members": lambda: archive_of(*((f"{i}.npy", b"") for i in range(1001))),
    "no members": archive_of,
    "another number of seeds": lambda: archive_of(("x.npy", header((3,)) + bytes(12))),
    "no seeds": lambda: archive_of(("x.npy", header(()) + bytes(4))),
}


@pytest.mark.parametrize("what", ARCHIVES)
def test_an_archive_is_refused_before_it_costs_memory(tmp_path, monkeypatch, caplog, what):
    archive = ARCHIVES[what]()
    store = ChunkStore(tmp_path, IDENTITY)
    store.put([0, 1], ARRAYS)
    (path,) = tmp_path.iterdir()
    path.write_bytes(hashlib.sha256(archive).digest() + archive)
    monkeypatch.setattr(results, "LARGEST", 1 << 23)
    monkeypatch.setattr(results, "_MEMBERS", 1000)
    tracemalloc.start()
    try:
        assert store.get([0, 1]) is None
        assert tracemalloc.get_traced_memory()[1] < 4 * len(archive) + (1 << 20)
    finally:
        tracemalloc.stop()
    assert "computing again" in caplog.text


def test_arrays_come_back_with_their_type_order_and_content(tmp_path):
    arrays = {
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "strided": np.arange(12, dtype=np.int16).reshape(2, 6)[:, ::2],
        "big-endian": np.array([1, 2], ">i4"),
        "flags": np.array([True, False]),
        "complex": np.array([1j, 2]),
        "half": np.array([0.5, np.nan], np.float16),
        "words": np.array(["a", "ü and more"]),
        "empty": np.zeros((2, 0, 5)),
        "a/b.npy": np.array([1, 2], np.uint64),
    }
    store = ChunkStore(tmp_path, IDENTITY)
    store.put([0, 1], arrays)
    found = store.get([0, 1])
    assert list(found) == list(arrays)
    for name, values in arrays.items():
        np.testing.assert_array_equal(found[name], values)
        assert (found[name].dtype, found[name].shape) == (values.dtype, values.shape)
        found[name].fill(0)  # it belongs to the caller


def test_pickled_arrays_are_neither_written_nor_read(tmp_path):
    store = ChunkStore(tmp_path, IDENTITY)
    with pytest.raises(ValueError, match="pickle"):
        store.put([0], {"x": np.array([{}], dtype=object)})
    store.put([0], ARRAYS)
    (path,) = tmp_path.iterdir()
    buffer = io.BytesIO()
    np.savez(buffer, x=np.array([{}], dtype=object))
    path.write_bytes(hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue())
    assert store.get([0]) is None


def test_provenance_says_where_the_numbers_come_from():
    origin = provenance(seeds=[3], dataset_checksum="abc", matmul_precision="highest")
    assert origin["seeds"] == [3]
    assert origin["dataset_sha256"] == "abc"
    assert origin["versions"]["jax"]
    assert set(origin) >= {"commit", "dirty", "device", "cores", "dtype", "matmul_precision"}
    json.dumps(origin, allow_nan=False)
