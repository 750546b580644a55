"""Records: what was saved comes back, no crash leaves half a file, damage is noticed."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import xarray as xr

from sublim_theory import record, results
from sublim_theory.record import ChunkStore, Record, RecordError, load, provenance, run_folder, write_file
from sublim_theory.statistics import summarize

ACCURACY = xr.Variable(
    ("network", "seed"),
    np.array([[0.5, 0.75, 1.0], [0.25, np.nan, np.inf]], np.float32),
    {"condition": "{network}", "over": "seed"},
)
TABLE = xr.Dataset(
    {"accuracy": ACCURACY, "loss": (("seed", "step"), np.arange(6, dtype=np.float32).reshape(3, 2))},
    {"network": ["teacher", "student"], "seed": [0, 1, 2]},
)


@pytest.fixture
def result():
    return Record(
        experiment="fig10",
        preset="smoke",
        config={"seeds": 3, "hidden": [16], "temperature": None},
        table=TABLE,
        provenance={"seeds": [0, 1, 2]},
        wall_seconds=1.5,
        expectations=[],
    )


def table_file(folder):
    (path,) = folder.glob("table-*.safetensors")
    return path


def test_a_record_comes_back_as_it_was(result, tmp_path):
    result.save(tmp_path)
    loaded = load(tmp_path)
    for field in dataclasses.fields(Record):
        if field.name != "table":
            assert getattr(loaded, field.name) == getattr(result, field.name)
    assert loaded.table.identical(TABLE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["summary.json", table_file(tmp_path).name]


def test_the_summary_is_of_the_table_where_nan_is_no_value_and_infinity_has_no_interval(result, tmp_path):
    result.save(tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert {"schema", "config", "provenance", "wall_seconds", "expectations", "table"} <= set(summary)
    ci95 = pytest.approx(1.959964 * 0.25 / 3**0.5)
    assert summary["conditions"] == {
        "teacher": {"mean": 0.75, "sd": 0.25, "ci95": ci95, "n": 3, "values": [0.5, 0.75, 1.0]},
        "student": {"mean": None, "sd": None, "ci95": None, "n": 2, "values": [0.25, None]},
    }
    student = load(tmp_path).conditions["student"]
    assert (student.values, student.mean, student.sd, student.ci95) == ((0.25, np.inf), np.inf, None, None)
    empty = dataclasses.replace(result, table=TABLE.where(TABLE["network"] == "teacher"))
    assert list(empty.conditions) == ["teacher"]


def test_a_condition_knows_its_place_and_is_named_by_its_coordinates():
    values = np.arange(12.0).reshape(2, 2, 3)
    attrs = {"condition": "m={auxiliary},rate={rate}/x", "over": "seed"}
    axes = {"auxiliary": [1, 10], "rate": [1e-3, 0.5]}
    table = xr.Dataset({"x": (("auxiliary", "rate", "seed"), values, attrs)}, axes)
    rows = Record("e", "p", {}, table, {}, 0.0, []).rows
    assert [row.name for row in rows][::3] == ["m=1,rate=0.001/x", "m=10,rate=0.5/x"]
    assert rows[2].at == {"auxiliary": 10, "rate": 0.001}
    assert rows[2].summary.values == (6.0, 7.0, 8.0)
    within = xr.Variable(("group", "predictor"), np.eye(3, 2), {"condition": "within/{predictor}", "over": "group"})
    table = xr.Dataset({"rho": within}, {"predictor": ["a", "b"]})
    conditions = Record("e", "p", {}, table, {}, 0.0, []).conditions
    assert conditions["within/a"].values == (1.0, 0.0, 0.0), "a sample along another axis than the seeds"


def test_one_seed_has_no_interval_and_is_still_valid_json(result, tmp_path):
    dataclasses.replace(result, table=TABLE.isel(seed=slice(1))).save(tmp_path)
    text = (tmp_path / "summary.json").read_text()
    row = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))["conditions"]["teacher"]
    assert (row["sd"], row["ci95"], row["n"]) == (None, None, 1)
    assert load(tmp_path).conditions["teacher"].ci95 is None


def test_numbers_of_numpy_are_written_and_what_is_not_json_is_refused_before_the_old_record_is_touched(
    result, tmp_path
):
    result.save(tmp_path)
    other = TABLE.assign(loss=TABLE["loss"] + 1)
    for config in ({"rate": float("nan")}, {"rate": object()}):
        with pytest.raises(RecordError, match="cannot write a record"):
            dataclasses.replace(result, table=other, config=config).save(tmp_path)
        assert load(tmp_path).table.identical(TABLE)
    dataclasses.replace(result, table=other, config={"rate": np.float32(0.25)}).save(tmp_path)
    assert load(tmp_path).config == {"rate": 0.25}
    assert load(tmp_path).table.identical(other)


def test_a_save_that_stops_anywhere_leaves_a_record(result, tmp_path, monkeypatch):
    result.save(tmp_path)
    other = dataclasses.replace(result, table=TABLE.assign(loss=TABLE["loss"] + 1), preset="other")
    written = []

    def stop_after_the_table(path, data):
        if written:
            raise RecordError("killed")
        written.append(path)
        write_file(path, data)

    monkeypatch.setattr(record, "write_file", stop_after_the_table)
    with pytest.raises(RecordError, match="killed"):
        other.save(tmp_path)
    monkeypatch.undo()
    assert load(tmp_path).preset == "smoke"
    other.save(tmp_path)
    assert load(tmp_path).preset == "other"
    assert written == [table_file(tmp_path)], "the old table is gone"


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


@pytest.mark.parametrize("umask", [0o077, 0o022, 0o002])
def test_the_umask_decides_about_rights(tmp_path, umask):
    before = os.umask(umask)
    try:
        with run_folder(tmp_path / "run") as folder:
            write_file(folder / "chunks" / "file", b"")
    finally:
        os.umask(before)
    for path in [folder, *folder.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~umask, path


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


def rewritten(summary, **changes):
    return json.dumps(json.loads(summary) | changes)


SUMMARIES = {
    "half": lambda text: text[: len(text) // 2],
    "buried deep": lambda text: "[" * 100_000 + text,
    "not a number": lambda text: text.replace("1.5", "NaN"),
    "infinite": lambda text: text.replace("1.5", "1e999"),
    "beyond floats": lambda text: rewritten(text, wall_seconds=10**400),
    "a table elsewhere": lambda text: rewritten(text, table={"file": f"../table-{0:016}.safetensors", "sha256": ""}),
    "config of another kind": lambda text: rewritten(text, config=[1]),
    "expectations that are no rows": lambda text: rewritten(text, expectations=[[1]]),
    "a name of another kind": lambda text: rewritten(text, experiment=None),
    "too long": lambda text: text + " " * 10_000,
}


@pytest.mark.parametrize("damage", SUMMARIES)
def test_a_summary_from_anywhere_is_refused_with_a_short_reason(result, tmp_path, monkeypatch, damage):
    result.save(tmp_path)
    path = tmp_path / "summary.json"
    monkeypatch.setattr(record, "LARGEST_SUMMARY", path.stat().st_size + (damage == "buried deep") * 200_000)
    path.write_text(SUMMARIES[damage](path.read_text()))
    monkeypatch.setattr(record, "LARGEST_SUMMARY", path.stat().st_size - (damage == "too long"))
    with pytest.raises(RecordError, match=r"cannot read the record .*run the experiment again") as caught:
        load(tmp_path)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "summary.json").unlink(), "cannot read the record"),
        (lambda folder: (folder / "summary.json").write_text('{"schema": 0}'), "another schema"),
        (lambda folder: table_file(folder).unlink(), "cannot read .*table-"),
        (lambda folder: table_file(folder).write_bytes(b"PK"), "does not belong to the summary"),
    ],
)
def test_a_damaged_record_is_refused_with_a_reason(result, tmp_path, damage, message):
    result.save(tmp_path)
    damage(tmp_path)
    with pytest.raises(RecordError, match=message):
        load(tmp_path)


def test_a_pipe_in_the_place_of_a_summary_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "summary.json")
    with pytest.raises(RecordError, match="not a regular file"):
        load(tmp_path)


def test_a_folder_that_takes_no_files_or_whose_lock_cannot_be_had_is_refused(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / ".lock").mkdir()
    for folder in (tmp_path / "file" / "run", tmp_path):
        with pytest.raises(RecordError, match=r"cannot write to .*--out"), run_folder(folder):
            pytest.fail("entered")


def test_arrays_beyond_the_bound_are_not_written(result, tmp_path, monkeypatch):
    result.save(tmp_path)
    monkeypatch.setattr(record, "LARGEST", 40)
    with pytest.raises(RecordError, match=r"would hold 48 bytes in 2 arrays"):
        result.save(tmp_path)
    monkeypatch.undo()
    assert load(tmp_path).experiment == "fig10", "what was there before is untouched"


ARRAYS = {"teacher": np.array([0.5, 0.25], np.float32)}
IDENTITY = {"config": {"hidden": (16,)}, "dataset": "abc"}


def test_a_chunk_is_found_by_exactly_its_seeds_config_and_data(tmp_path):
    ChunkStore(tmp_path, IDENTITY).put([0, 1], ARRAYS)
    np.testing.assert_array_equal(ChunkStore(tmp_path, IDENTITY).get([0, 1])["teacher"], ARRAYS["teacher"])
    assert ChunkStore(tmp_path, IDENTITY).get([0]) is None
    assert ChunkStore(tmp_path, IDENTITY).get([1, 0]) is None
    assert ChunkStore(tmp_path, IDENTITY | {"dataset": "abd"}).get([0, 1]) is None
    assert ChunkStore(tmp_path, IDENTITY | {"config": {"hidden": (17,)}}).get([0, 1]) is None


def test_a_truncated_or_altered_chunk_is_never_used_and_reported_with_its_seeds(tmp_path, caplog):
    store = ChunkStore(tmp_path, IDENTITY)
    assert store.get([0, 1]) is None
    assert caplog.text == ""
    store.put([0, 1], ARRAYS)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    os.truncate(path, 40)
    assert store.get([0, 1]) is None
    assert f"{path} is damaged" in caplog.text
    assert "computing again: seeds 0, 1" in caplog.text
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        assert store.get([0, 1]) is None
    for position in range(0, len(whole), 3):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 16]) + whole[position + 1 :])
        assert store.get([0, 1]) is None


def safetensors_of(data, shape, end):
    """The bytes of a file with one array that may not be what its header says."""
    text = json.dumps({"x": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}})
    return len(text).to_bytes(8, "little") + text.encode() + data


ARCHIVES = {
    "more numbers than there are": safetensors_of(bytes(8), [2, 2**58], 2**61),
    "another number of seeds": safetensors_of(bytes(12), [3], 12),
    "no seeds": safetensors_of(bytes(4), [], 4),
    "no header": b"",
    "no members": (2).to_bytes(8, "little") + b"{}",
    "a header buried deep": (10_000).to_bytes(8, "little") + b"[" * 10_000,
}


@pytest.mark.parametrize("what", ARCHIVES)
def test_a_chunk_is_refused_before_it_costs_memory(tmp_path, caplog, what):
    content = ARCHIVES[what]
    store = ChunkStore(tmp_path, IDENTITY)
    store.put([0, 1], ARRAYS)
    (path,) = tmp_path.iterdir()
    path.write_bytes(hashlib.sha256(content).digest() + content)
    tracemalloc.start()
    try:
        assert store.get([0, 1]) is None
        assert tracemalloc.get_traced_memory()[1] < 4 * len(content) + (1 << 20)
    finally:
        tracemalloc.stop()
    assert "computing again" in caplog.text


def structure(axes=None, attributes=None, coordinates=None):
    """A file of one variable with a structure that may not fit it."""
    text = json.dumps({"axes": axes or {}, "attributes": attributes or {}, "coordinates": coordinates or {}})
    return record.safetensors.numpy.save({"x": np.array([1e308, 1e308])}, {"table": text})


TABLES = {
    "no structure": lambda: record.safetensors.numpy.save({"x": np.zeros(2)}),
    "another number of axes": lambda: structure({"x": ["a", "b"]}),
    "a variable that is not there": lambda: structure({"y": ["a"]}),
    "other coordinates": lambda: structure({"x": ["a"]}, None, {"a": [1, 2, 3]}),
    "a coordinate twice": lambda: structure({"x": ["a"]}, None, {"a": [1, 1]}),
    "a coordinate that is none": lambda: structure({"x": ["a"]}, None, {"a": [None, 1]}),
    "a sample over no axis": lambda: structure({"x": ["a"]}, {"x": {"condition": "x", "over": "b"}}),
    "names of axes that are not there": lambda: structure({"x": ["a"]}, {"x": {"condition": "{b}", "over": "a"}}),
    "beyond their sum": lambda: structure({"x": ["a"]}, {"x": {"condition": "x", "over": "a"}}),
}


@pytest.mark.parametrize("what", TABLES)
def test_a_table_from_anywhere_is_refused_with_a_short_reason(result, tmp_path, what):
    result.save(tmp_path)
    content = TABLES[what]()
    digest = hashlib.sha256(content).hexdigest()
    name = f"table-{digest[:16]}.safetensors"
    (tmp_path / name).write_bytes(content)
    path = tmp_path / "summary.json"
    path.write_text(rewritten(path.read_text(), table={"file": name, "sha256": digest}))
    with pytest.raises(RecordError, match="experiment again") as caught:
        load(tmp_path)
    assert len(str(caught.value)) < 700


def test_arrays_come_back_with_their_type_and_content(tmp_path):
    arrays = {
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "strided": np.arange(12, dtype=np.int16).reshape(2, 6)[:, ::2],
        "big-endian": np.array([1, 2], ">i4"),
        "flags": np.array([True, False]),
        "half": np.array([0.5, np.nan], np.float16),
        "empty": np.zeros((2, 0, 5)),
        "a/b.npy": np.array([1, 2], np.uint64),
    }
    store = ChunkStore(tmp_path, IDENTITY)
    store.put([0, 1], arrays)
    found = store.get([0, 1])
    assert set(found) == set(arrays)
    for name, values in arrays.items():
        np.testing.assert_array_equal(found[name], values)
        assert (found[name].dtype, found[name].shape) == (values.dtype.newbyteorder("="), values.shape)
        found[name].fill(0)  # it belongs to the caller


@pytest.mark.parametrize("values", [np.array([{}], dtype=object), np.array(["a"]), np.array([1j])])
def test_what_is_no_real_number_is_refused_and_nothing_is_pickled(tmp_path, values):
    with pytest.raises(RecordError, match="arrays hold numbers"):
        ChunkStore(tmp_path, IDENTITY).put([0], {"x": values})
    assert not list(tmp_path.iterdir())


def test_the_former_result_is_saved_and_read(tmp_path):
    """For one release; `Record` is what replaces it."""
    former = results.Result(
        "e", "p", {"a": 1}, {"x/y": summarize([1.0, 2.0])}, {"seeds": [0, 1]}, 1.0, [], {"z": np.zeros((2, 3))}
    )
    former.save(tmp_path)
    back = results.Result.load(tmp_path)
    assert back.conditions == former.conditions == load(tmp_path).conditions
    np.testing.assert_array_equal(back.arrays["z"], former.arrays["z"])
    assert results.Result.load(tmp_path, arrays=False).arrays == {}


def test_provenance_says_where_the_numbers_come_from():
    origin = provenance(seeds=[3], dataset_checksum="abc", matmul_precision="highest")
    assert origin["seeds"] == [3]
    assert origin["dataset_sha256"] == "abc"
    assert origin["versions"]["jax"]
    assert set(origin) >= {"commit", "dirty", "device", "cores", "dtype", "matmul_precision"}
    json.dumps(origin, allow_nan=False)
