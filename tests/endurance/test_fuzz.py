"""Readers of files that may come from anywhere: clear errors only, in bounded time and memory.

With `test_fuzz_commands` a few thousand inputs by default; under the marker `endurance` the same tests take 120,000.
"""

import contextlib
import gzip
import hashlib
import json
import os
import random

import numpy as np
import pytest
import safetensors.numpy
import xarray as xr
from fuzzing import bounded, examples, few_or_many, mutate, mutated
from hypothesis import example, given

from sublim_theory import data, files
from sublim_theory.data import DataError, parse_idx
from sublim_theory.record import ChunkStore, Record, RecordError, load
from sublim_theory.statistics import Summary

ACCURACY = {"condition": "{network}", "over": "seed"}
ARRAYS = {
    "loss": np.linspace(0, 1, 300, dtype=np.float32).reshape(3, 100),
    "steps": np.arange(12, dtype=np.int64).reshape(3, 4),
    "flag": np.array([True, False, True]),
}
RECORD = Record(
    experiment="fig10",
    preset="smoke",
    config={"seeds": 3, "hidden": [16], "temperature": None, "x": "x"},
    table=xr.Dataset(
        {"accuracy": (("network", "seed"), np.array([[0.5, 0.75, 1.0], [0.25, 0.5, 0.125]]), ACCURACY)}
        | {name: (("seed", f"{name}_axis")[: values.ndim], values) for name, values in ARRAYS.items()},
        {"network": ["teacher", "student_aux"], "seed": [0, 1, 2]},
    ),
    provenance={"seeds": [0, 1, 2], "versions": {"jax": "0.8"}},
    wall_seconds=1.5,
    expectations=[{"condition": "teacher", "holds": True, "low": None}],
)


def require_some_refused(messages, inputs):
    """The mutations reach both outcomes, and no message repeats what it refuses at length."""
    assert 0 < len(messages) < inputs
    assert max(map(len, messages)) < 1000


def require_record(loaded):
    """A record that was read has the types that it promises."""
    for name, kind in (("experiment", str), ("preset", str), ("config", dict), ("provenance", dict)):
        assert isinstance(getattr(loaded, name), kind), name
    assert isinstance(loaded.expectations, list)
    assert np.isfinite(loaded.wall_seconds)
    for summary in loaded.conditions.values():
        assert isinstance(summary, Summary)
        assert summary.n == len(summary.values) > 0
        assert np.isfinite([summary.mean, *summary.values]).all()


@few_or_many(500, 30_000)
def test_records(tmp_path, inputs):
    RECORD.save(tmp_path)
    path, draw, refusals = tmp_path / "summary.json", random.Random(0), []
    whole = path.read_bytes()
    for _ in range(inputs):
        path.write_bytes(mutate(draw, whole, whole))
        try:
            with bounded():
                loaded = load(tmp_path)
        except RecordError as error:
            refusals.append(str(error))
        else:
            require_record(loaded)
    require_some_refused(refusals, inputs)


@few_or_many(300, 30_000)
def test_records_of_any_values(tmp_path_factory, inputs):
    folder = tmp_path_factory.mktemp("record")
    RECORD.save(folder)
    path = folder / "summary.json"
    whole = path.read_text()

    @examples(inputs)
    @example(whole.replace('"x"', "[" * 100_000, 1))
    @given(mutated(whole))
    def check(text):
        path.write_text(text)
        with bounded(), contextlib.suppress(RecordError):
            require_record(load(folder))

    check()


@few_or_many(1000, 30_000)
def test_archives_with_a_right_checksum(tmp_path, caplog, inputs):
    """As a chunk, whose digest is made to fit: past it, nothing but the reader of archives stands in the way."""
    draw, store, read = random.Random(1), ChunkStore(tmp_path, {}), 0
    some = {name: values[:2] for name, values in ARRAYS.items()}
    archives = [safetensors.numpy.save(each) for each in (some, {"loss": some["loss"]})]
    store.put([0, 1], {})
    (path,) = tmp_path.iterdir()
    for number in range(inputs):
        archive = mutate(draw, archives[number % 2], archives[draw.randrange(2)])
        path.write_bytes((hashlib.sha256(archive).digest() if number % 10 else b"?" * 32) + archive)
        caplog.clear()
        with bounded():
            arrays = store.get([0, 1])
        if arrays is None:
            assert path.name in caplog.text, number
            continue
        assert sum(array.nbytes for array in arrays.values()) <= 1 << 20
        assert all(len(array) == 2 and not array.dtype.hasobject for array in arrays.values())
        read += 1
    assert 0 < read < inputs


@few_or_many(1500, 50_000)
def test_idx_files(inputs):
    draw, refusals = random.Random(2), []
    images = b"\0\0\x08\x03" + np.array([3, 4, 5], ">u4").tobytes() + bytes(range(60))
    labels = b"\0\0\x08\x01" + np.array([7], ">u4").tobytes() + bytes(range(7))
    for number in range(inputs):
        raw, other = (images, labels) if draw.randrange(2) else (labels, images)
        if number % 3 == 0:
            blob = gzip.compress(mutate(draw, raw, other), mtime=0)
        else:
            blob = mutate(draw, gzip.compress(raw, mtime=0), gzip.compress(other, mtime=0))
        try:
            with bounded():
                array = parse_idx(blob, name="fuzz")
        except DataError as error:
            refusals.append(str(error))
        else:
            unpacked = gzip.decompress(blob)
            assert array.tobytes() == unpacked[len(unpacked) - array.size :]
    require_some_refused(refusals, inputs)


@few_or_many(50, 1000)
def test_data_folders(tmp_path, inputs):
    """Files of a data set of any content and kind are told apart, and never loaded."""
    draw, (name, *_) = random.Random(3), files.FILES["mnist"]
    path = tmp_path / "mnist" / name
    path.parent.mkdir()
    for _ in range(inputs):
        path.write_bytes(mutate(draw, gzip.compress(bytes(200))))
        with bounded():
            assert files.status("mnist", tmp_path)[0].state == "corrupt"
            with pytest.raises(DataError, match="corrupt"):
                data.load("mnist", tmp_path, download=False)


def test_a_pipe_or_a_giant_in_the_place_of_a_data_file_is_not_read(tmp_path):
    first, second, *_ = files.FILES["mnist"]
    (tmp_path / "mnist").mkdir()
    os.mkfifo(tmp_path / "mnist" / first)
    with (tmp_path / "mnist" / second).open("wb") as file:
        file.truncate(1 << 40)
    with bounded():
        pipe, giant, *_ = files.status("mnist", tmp_path)
    assert (pipe.state, giant.state) == ("unreadable", "unreadable")
    assert "not a regular file" in pipe.detail
    assert f"more than {files.LARGEST}" in giant.detail


@few_or_many(1000, 30_000)
def test_tables_with_a_right_checksum(tmp_path, inputs):
    """A table whose digest is made to fit: past it, only the reader of tables stands in the way."""
    RECORD.save(tmp_path)
    draw, refusals = random.Random(4), []
    path = tmp_path / "summary.json"
    summary = json.loads(path.read_bytes())
    whole = (tmp_path / summary["table"]["file"]).read_bytes()
    for _ in range(inputs):
        content = mutate(draw, whole, whole)
        digest = hashlib.sha256(content).hexdigest()
        name = f"table-{digest[:16]}.safetensors"
        (tmp_path / name).write_bytes(content)
        path.write_text(json.dumps(summary | {"table": {"file": name, "sha256": digest}}))
        try:
            with bounded():
                require_record(load(tmp_path))
        except RecordError as error:
            refusals.append(str(error))
        (tmp_path / name).unlink()
    require_some_refused(refusals, inputs)
