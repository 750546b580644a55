"""Datasets: facts of the real ones; on small synthetic ones, the ways in which files and mirrors fail."""

import gzip
import hashlib
import logging
import os
import struct
import subprocess
import sys
import tempfile
import threading
import tracemalloc
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pooch
import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sublim_theory import data, files
from sublim_theory.data import load, parse_idx
from sublim_theory.files import DataError, status

TRAIN_X, TRAIN_Y, TEST_X, TEST_Y = files.FILES["mnist"]
HERE = os.environ.get(files.ENVIRONMENT, "")
REAL = ["digits"] + [name for name in files.FILES if HERE and Path(HERE, name).is_dir()]


def pack(array, magic=None, sizes=None):
    """An IDX file, with lies about its magic number or sizes on request."""
    header = magic or bytes([0, 0, 8, array.ndim])
    sizes = array.shape if sizes is None else sizes
    raw = header + struct.pack(f">{len(sizes)}I", *sizes) + array.astype(np.uint8).tobytes()
    return gzip.compress(raw, mtime=0)


def synthetic(seed):
    """Four small files by name: 20 training and 10 test images of 3 x 2, all labels present."""
    rng = np.random.default_rng(seed)
    train, test = rng.integers(0, 256, (20, 3, 2)), rng.integers(0, 256, (10, 3, 2))
    train[0] = [[0, 255], [51, 102], [204, 153]]
    arrays = train, np.arange(20) % 10, test, np.arange(10)
    return dict(zip((TRAIN_X, TRAIN_Y, TEST_X, TEST_Y), map(pack, arrays), strict=True))


BLOBS = {"mnist": synthetic(0), "fashion_mnist": synthetic(1)}


def digests(blobs):
    return {file: hashlib.sha256(blob).hexdigest() for file, blob in blobs.items()}


def fill(root, name="mnist", blobs=None, **changes):
    """Write a set's files into `root/name`, but for the given ones: other bytes, or None for no file."""
    for file, blob in ((blobs or BLOBS[name]) | changes).items():
        if blob is not None:
            (root / name).mkdir(parents=True, exist_ok=True)
            (root / name / file).write_bytes(blob)
    return root


def content(root):
    """Every file below a folder, whatever its name, with its bytes."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def complete(name="mnist"):
    return {str(Path(name, file)): blob for file, blob in BLOBS[name].items()}


def refusal(*args, **kwargs):
    """The message with which `load` refuses."""
    with pytest.raises(DataError) as caught:
        load(*args, **kwargs)
    return str(caught.value)


@pytest.fixture
def root(monkeypatch, tmp_path):
    """An empty data folder in a world of synthetic files, with a cache of its own and no mirror."""
    monkeypatch.delenv(files.ENVIRONMENT, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setattr(files, "FILES", {name: digests(blobs) for name, blobs in BLOBS.items()})
    monkeypatch.setattr(files, "MIRRORS", dict.fromkeys(BLOBS, ()))
    monkeypatch.setattr(files, "TIMEOUT", 0.25)
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


class Mirrors(ThreadingHTTPServer):
    """A server whose mirrors `/BEHAVIOUR/` serve the synthetic files, or fail in a way of their own."""

    def __init__(self):
        self.asked: list[str] = []
        self.closing = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request, client_address):
        """Clients that hang up are the point of these tests."""

    def use(self, monkeypatch, *behaviours):
        """Make these the mirrors of every set."""
        url = f"http://127.0.0.1:{self.server_port}"
        mirrors = {name: tuple(f"{url}/{each}/{name}/" for each in behaviours) for name in BLOBS}
        monkeypatch.setattr(files, "MIRRORS", mirrors)
        return mirrors["mnist"]


class Handler(BaseHTTPRequestHandler):
    server: Mirrors

    def do_GET(self):  # the name that http.server calls
        _, behaviour, name, file = self.path.split("/")
        self.server.asked.append(f"{behaviour}/{file}")
        getattr(self, behaviour)(BLOBS[name][file])

    def answer(self, body, length=None):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def healthy(self, blob):
        self.answer(blob)

    def absent(self, _blob):
        self.send_error(404)

    def broken(self, _blob):
        self.send_error(500)

    def wrong(self, _blob):
        self.answer(b"<html>Please log in to this network</html>")

    def flipped(self, blob):
        self.answer(blob[:-1] + bytes([blob[-1] ^ 1]))

    def truncated(self, blob):
        self.answer(blob[:-10], length=len(blob))

    def silent(self, _blob):
        self.server.closing.wait(5)

    def stalling(self, blob):
        self.answer(blob[:20], length=len(blob))
        self.server.closing.wait(5)

    def endless(self, _blob):
        self.answer(b"", length=1 << 40)
        while not self.server.closing.is_set():
            self.wfile.write(bytes(1 << 14))

    def gibberish(self, _blob):
        self.wfile.write(b"\0\1\2 this is not HTTP\r\n\r\n")

    def log_message(self, format, *args):
        pass


@pytest.fixture
def server() -> Iterator[Mirrors]:
    with Mirrors() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


# ---- the real sets

FACTS = {  # training size, test size, image shape, mean grey in [0, 1] of the training images
    "digits": (1437, 360, (8, 8), 0.3054),
    "mnist": (60_000, 10_000, (28, 28), 0.1307),
    "fashion_mnist": (60_000, 10_000, (28, 28), 0.2860),
}
CHECKSUMS = {
    "digits": "28d636f2f47ec885bab6c1d883c883cd3f85cb5f6d0f1457558c6b672cc71adf",
    "mnist": "4f0b1b7e031471a2e6b7ff1eb267f86acbf9a397723b387b0000df8c8fcc9f59",
    "fashion_mnist": "67cbfdbe6697eebdae9967b4d006e6322dbefc7322e5674836b08af32a637300",
}


@pytest.mark.parametrize("name", REAL)
def test_real_sets_have_the_published_facts(name):
    dataset = load(name, HERE or None, download=False)
    train, test, shape, grey = FACTS[name]
    features = shape[0] * shape[1]
    assert (dataset.name, dataset.image_shape, dataset.checksum) == (name, shape, CHECKSUMS[name])
    assert (dataset.features, dataset.classes) == (features, 10)
    assert dataset.train_x.shape == (train, features)
    assert dataset.test_x.shape == (test, features)
    assert dataset.train_x.dtype == dataset.test_x.dtype == np.float32
    assert dataset.train_y.dtype == dataset.test_y.dtype == np.int32
    assert (dataset.train_x.min(), dataset.train_x.max()) == (-1, 1)
    assert (dataset.test_x.min(), dataset.test_x.max()) == (-1, 1)
    assert np.mean(dataset.train_x, dtype=np.float64) / 2 + 0.5 == pytest.approx(grey, abs=1e-4)
    assert np.array_equal(np.unique(dataset.train_y), np.arange(10))


def test_digits_are_a_stratified_partition_of_the_source():
    from sklearn.datasets import load_digits

    dataset, (pixels, labels) = load("digits"), load_digits(return_X_y=True)
    x = np.concatenate([dataset.train_x, dataset.test_x])
    y = np.concatenate([dataset.train_y, dataset.test_y])
    rows = sorted(map(tuple, np.column_stack([8 * x + 8, y]).tolist()))
    assert rows == sorted(map(tuple, np.column_stack([pixels, labels]).tolist()))
    assert np.abs(np.bincount(dataset.test_y) - np.bincount(labels) * 360 / 1797).max() < 1


def test_digits_need_no_folder_no_server_and_are_the_same_each_time(root, server):
    first, second = load("digits", root / "nowhere"), load("digits", download=False)
    assert np.array_equal(first.train_x, second.train_x)
    assert np.array_equal(first.test_y, second.test_y)
    assert first.checksum == second.checksum
    assert (content(root.parent), server.asked) == ({}, [])


def test_every_set_has_four_files_and_mirrors():
    assert set(data.NAMES) == {"digits", *files.FILES}
    assert set(files.FILES) == set(files.MIRRORS)
    assert all(list(files) == [TRAIN_X, TRAIN_Y, TEST_X, TEST_Y] for files in files.FILES.values())
    assert all(url.endswith("/") for urls in files.MIRRORS.values() for url in urls)


def test_import_is_cheap():
    heavy = "{'jax', 'pooch', 'requests', 'rich', 'sklearn', 'scipy'}"
    code = f"import sys, sublim_theory.data; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


# ---- names and folders


@pytest.mark.parametrize(
    ("name", "nearest"), [("mnits", "'mnist'"), ("Fashion-MNIST", "'fashion_mnist'"), ("DIGITS", "'digits'")]
)
def test_unknown_name_is_named_with_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=f"unknown dataset '{name}'.*did you mean {nearest}"):
        load(name)


def test_unknown_name_without_a_near_one_lists_the_valid_ones():
    with pytest.raises(ValueError, match=r"'zzz'; choose from: digits, mnist, fashion_mnist$"):
        load("zzz")


def test_values_and_order_of_a_set(root):
    dataset = load("mnist", fill(root), download=False)
    expected = np.array([-1, 1, -0.6, -0.2, 0.6, 0.2], np.float32)
    assert np.allclose(dataset.train_x[0], expected, rtol=0, atol=1e-7)
    assert np.array_equal(dataset.train_x[0, :2], [-1, 1])
    assert np.array_equal(dataset.train_y, np.arange(20) % 10)
    assert np.array_equal(dataset.test_y, np.arange(10))
    assert (dataset.image_shape, dataset.features, dataset.classes) == ((3, 2), 6, 10)
    assert dataset.checksum != load("fashion_mnist", fill(root, "fashion_mnist")).checksum


def test_argument_beats_environment_beats_cache(root, tmp_path, monkeypatch):
    argument, environment, cache = root, tmp_path / "environment", tmp_path / "cache" / "sublim_theory"
    fill(argument)
    fill(environment, **{TEST_X: b"bad"})
    fill(cache, **{TEST_Y: b"bad"})
    monkeypatch.setenv(files.ENVIRONMENT, str(environment))
    assert load("mnist", argument).name == load("mnist", str(argument)).name == "mnist"
    assert str(environment / "mnist") in refusal("mnist")
    fill(environment)
    assert load("mnist").name == "mnist"
    monkeypatch.setenv(files.ENVIRONMENT, "")
    assert str(cache / "mnist") in refusal("mnist")
    monkeypatch.delenv(files.ENVIRONMENT)
    assert str(cache / "mnist") in refusal("mnist", "")
    fill(cache)
    assert load("mnist").name == "mnist"


@pytest.mark.parametrize("where", ["nowhere", "file", "file/below", "nul\0byte", "~nosuchuser/data"])
@pytest.mark.parametrize("through", ["argument", "environment"])
def test_folder_that_cannot_be_listed(root, monkeypatch, where, through):
    if through == "environment" and "\0" in where:
        where = "nowhere/below"  # no environment variable can hold a zero byte
    (root / "file").write_bytes(b"")
    given = where if where.startswith("~") else str(root / where)
    if through == "environment":
        monkeypatch.setenv(files.ENVIRONMENT, given)
    for function in load, status:
        with pytest.raises(DataError, match=f"Cannot list the data folder .*{files.ENVIRONMENT}"):
            function("mnist", given if through == "argument" else None)
    assert content(root) == {"file": b""}


def test_folder_without_the_right_to_list(root, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", denied)
    message = refusal("mnist", root)
    assert "Cannot list the data folder" in message
    assert f"Permission denied: '{root}'" in message


# ---- files on the disk


def test_missing_files_are_all_named_with_the_way_out(root, server, monkeypatch):
    mirrors = server.use(monkeypatch, "healthy", "broken")
    fill(root, **{TRAIN_X: None, TEST_Y: None})
    before = content(root)
    message = refusal("mnist", root, download=False)
    assert all(text in message for text in [TRAIN_X, TEST_Y, str(root / "mnist"), files.ENVIRONMENT, *mirrors])
    assert TRAIN_Y not in message
    assert TEST_X not in message
    assert (content(root), server.asked) == (before, [])


@pytest.mark.parametrize("bad", [b"", b"bad", BLOBS["mnist"][TRAIN_X][:-1], BLOBS["mnist"][TRAIN_X] + b"\0"])
def test_corrupt_file_is_refused_and_left_alone(root, server, monkeypatch, bad):
    server.use(monkeypatch, "healthy")
    fill(root, **{TRAIN_X: bad, TEST_X: None})
    before = content(root)
    message = refusal("mnist", root)
    assert f"{TRAIN_X}: corrupt, SHA256 {hashlib.sha256(bad).hexdigest()}" in message
    assert files.FILES["mnist"][TRAIN_X] in message
    assert f"{TEST_X}: missing" in message
    assert str(root / "mnist") in message
    assert "deleting corrupt ones" in message
    assert (content(root), server.asked) == (before, [])


def test_unreadable_file_is_named(root, server, monkeypatch):
    server.use(monkeypatch, "healthy")
    fill(root)
    before, read = content(root), Path.read_bytes

    def guarded(path):
        if path.name == TEST_X:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", guarded)
        assert f"{TEST_X}: unreadable, [Errno 13] Permission denied" in refusal("mnist", root)
        entries = status("mnist", root)
    assert [entry.state for entry in entries] == ["verified", "verified", "unreadable", "verified"]
    assert entries[2].size == 0
    assert (content(root), server.asked) == (before, [])


def test_file_or_folder_in_each_others_place(root):
    (root / "mnist").write_bytes(b"not a folder")
    assert refusal("mnist", root).count("unreadable") == 4
    fill(root, "fashion_mnist", **{TRAIN_Y: None})
    (root / "fashion_mnist" / TRAIN_Y).mkdir()
    assert f"{TRAIN_Y}: unreadable" in refusal("fashion_mnist", root)


IMAGES, LABELS = np.zeros((20, 3, 2)), np.arange(20) % 10


@pytest.mark.parametrize(
    ("file", "blob", "wrong"),
    [
        (TRAIN_X, b"no gzip at all", "incorrect header check"),
        (TRAIN_X, zlib.compress(gzip.decompress(pack(IMAGES))), "incorrect header check"),
        (TRAIN_X, gzip.compress(b"", mtime=0), "magic number 0x,"),
        (TRAIN_X, gzip.compress(b"\0\0\x08\x03\0\0", mtime=0), "header ends early"),
        (TRAIN_X, pack(IMAGES)[:-3], "compressed data end early"),
        (TRAIN_X, pack(IMAGES) + b"\0", "bytes follow"),
        (TRAIN_X, pack(IMAGES) + pack(IMAGES), "bytes follow"),
        (TRAIN_X, pack(IMAGES, magic=b"\0\0\x0d\x03"), "magic number 0x00000d03"),
        (TRAIN_X, pack(IMAGES, magic=b"\0\x01\x08\x03"), "magic number 0x00010803"),
        (TRAIN_X, pack(IMAGES[0]), "magic number 0x00000802"),
        (TRAIN_X, pack(IMAGES, sizes=(20, 3, 3)), "announces the shape (20, 3, 3) and holds 120 bytes"),
        (TRAIN_X, pack(IMAGES, sizes=(2**32 - 1,) * 3), "announces the shape"),
        (TRAIN_X, pack(IMAGES[:0]), "announces the shape (0, 3, 2)"),
        (TRAIN_X, pack(IMAGES[:19]), "do not fit together"),
        (TRAIN_X, pack(LABELS), "do not fit together"),
        (TRAIN_X, pack(IMAGES.reshape(20, 2, 3)), "do not fit together"),
        (TRAIN_Y, pack(IMAGES), "do not fit together"),
        (TEST_Y, pack(LABELS), "do not fit together"),
        (TRAIN_Y, pack(LABELS + 1), "maximum 10"),
    ],
)
def test_malformed_content_is_refused_whatever_its_checksum(root, monkeypatch, file, blob, wrong):
    monkeypatch.setattr(files, "FILES", {"mnist": digests(BLOBS["mnist"] | {file: blob})})
    fill(root, **{file: blob})
    message = refusal("mnist", root)
    assert wrong in message
    assert file in message
    assert str(root / "mnist") in message


def test_labels_in_the_place_of_all_images_are_refused(root, monkeypatch):
    labels = {TRAIN_X: pack(LABELS), TEST_X: pack(LABELS[:10])}
    monkeypatch.setattr(files, "FILES", {"mnist": digests(BLOBS["mnist"] | labels)})
    assert "do not fit together" in refusal("mnist", fill(root, **labels))


def test_status_tells_each_file_and_changes_nothing(root, server, monkeypatch):
    server.use(monkeypatch, "healthy")
    fill(root, **{TRAIN_Y: b"bad", TEST_X: None})
    before = content(root)
    entries = status(data_dir=root)
    assert [(entry.dataset, entry.file) for entry in entries] == [(s, f) for s in BLOBS for f in BLOBS[s]]
    assert [entry.state for entry in entries[:4]] == ["verified", "corrupt", "missing", "verified"]
    assert [entry.size for entry in entries[:3]] == [len(BLOBS["mnist"][TRAIN_X]), 3, 0]
    assert [bool(entry.detail) for entry in entries[:4]] == [False, True, True, False]
    assert {entry.state for entry in entries[4:]} == {"missing"}
    assert all(entry.path == root / entry.dataset / entry.file for entry in entries)
    assert status("mnist", root) == entries[:4]
    with pytest.raises(ValueError, match="unknown dataset with files 'digits'"):
        status("digits", root)
    assert (content(root), server.asked) == (before, [])


def test_status_looks_where_load_looks(root, tmp_path, monkeypatch):
    assert {entry.path.parent for entry in status("mnist")} == {tmp_path / "cache" / "sublim_theory" / "mnist"}
    assert not (tmp_path / "cache").exists()
    monkeypatch.setenv(files.ENVIRONMENT, str(fill(root)))
    assert {entry.state for entry in status("mnist")} == {"verified"}


# ---- mirrors


@pytest.mark.parametrize("into", ["argument", "environment", "cache"])
def test_download_into_the_folder_looked_in(root, tmp_path, server, monkeypatch, into):
    server.use(monkeypatch, "healthy")
    if into == "environment":
        monkeypatch.setenv(files.ENVIRONMENT, str(root))
    folder = tmp_path / "cache" / "sublim_theory" if into == "cache" else root
    first = load("mnist", root if into == "argument" else None)
    assert content(folder) == complete()
    assert len(content(tmp_path)) == len(server.asked) == 4
    second = load("mnist", folder, download=False)
    assert np.array_equal(first.train_x, second.train_x)
    assert first.checksum == second.checksum


def test_download_fetches_only_what_is_missing(root, server, monkeypatch):
    server.use(monkeypatch, "healthy")
    fill(root, **{TRAIN_Y: None, TEST_X: None})
    load("mnist", root)
    assert server.asked == [f"healthy/{TRAIN_Y}", f"healthy/{TEST_X}"]
    assert content(root) == complete()


def test_downloaded_files_are_readable_by_all(root, server, monkeypatch):
    server.use(monkeypatch, "healthy")
    load("mnist", root)
    assert {path.stat().st_mode & 0o444 for path in (root / "mnist").iterdir()} == {0o444}


FAILURES = {
    "absent": "404",
    "broken": "500",
    "wrong": "does not match",
    "flipped": "does not match",
    "truncated": "IncompleteRead",
    "silent": "read timeout=0.25",
    "stalling": "timed out",
    "endless": "more than",
    "gibberish": "aborted",
}


@pytest.mark.parametrize("behaviour", FAILURES)
def test_failing_mirror_leaves_nothing_and_the_next_one_serves(root, server, monkeypatch, behaviour):
    monkeypatch.setattr(files, "LARGEST", 1 << 16)
    (mirror,) = server.use(monkeypatch, behaviour)
    message = refusal("mnist", root)
    assert any(mirror + TRAIN_X in line and FAILURES[behaviour] in line for line in message.splitlines())
    assert all(text in message for text in [*BLOBS["mnist"], str(root / "mnist"), files.ENVIRONMENT])
    assert content(root) == {}
    fill(root, **{TEST_Y: None})
    server.use(monkeypatch, behaviour, "healthy")
    assert load("mnist", root).name == "mnist"
    assert server.asked[-2:] == [f"{behaviour}/{TEST_Y}", f"healthy/{TEST_Y}"]
    assert content(root) == complete()


def test_slow_mirror_is_given_up(root, server, monkeypatch):
    monkeypatch.setattr(files, "DEADLINE", 0.1)
    server.use(monkeypatch, "endless")
    assert "not done after 0.1 seconds" in refusal("mnist", root)
    assert content(root) == {}


def test_all_mirrors_dead_lists_each_with_its_reason(root, server, monkeypatch):
    closed = "http://127.0.0.1:1/"  # nobody listens there
    mirrors = (*server.use(monkeypatch, "absent", "wrong"), closed, "http://[bad/", "gopher://x/")
    monkeypatch.setattr(files, "MIRRORS", {"mnist": mirrors})
    lines = refusal("mnist", root).splitlines()
    reasons = "404", "does not match", "refused", "Failed to parse", "No connection adapters"
    for mirror, reason in zip(mirrors, reasons, strict=True):
        assert any(f"{mirror}{TRAIN_X}: " in line and reason in line for line in lines), (mirror, lines)
    assert content(root) == {}


def test_failure_halfway_keeps_what_is_verified_and_resumes(root, server, monkeypatch):
    server.use(monkeypatch, "healthy")
    serve = Handler.healthy
    monkeypatch.setattr(
        Handler, "healthy", lambda self, blob: (Handler.absent if TEST_X in self.path else serve)(self, blob)
    )
    message = refusal("mnist", root)
    assert f"{TEST_X}: missing" in message
    assert f"{TRAIN_X}: " not in message
    assert content(root) == {str(Path("mnist", file)): BLOBS["mnist"][file] for file in (TRAIN_X, TRAIN_Y)}
    monkeypatch.setattr(Handler, "healthy", serve)
    load("mnist", root)
    assert content(root) == complete()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
def test_interrupt_leaves_nothing(root, server, monkeypatch, error):
    def interrupted(response, _size):
        yield response.raw.read(10)
        raise error

    server.use(monkeypatch, "healthy", "healthy")
    monkeypatch.setattr(requests.Response, "iter_content", interrupted)
    with pytest.raises(error):
        load("mnist", root)
    assert (content(root), len(server.asked)) == ({}, 1)
    assert pooch.get_logger().filters == []


def test_folder_without_the_right_to_write(root, server, monkeypatch):
    """Root may write anywhere, so the refusal comes from where pooch opens its temporary file."""

    def denied(**_options):
        raise PermissionError(13, "Permission denied")

    server.use(monkeypatch, "healthy", "healthy")
    fill(root, **{TEST_Y: None})
    before = content(root)
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", denied)
    message = refusal("mnist", root)
    assert f"cannot write to {root / 'mnist'}: " in message
    assert "Permission denied" in message
    assert f"{TEST_Y}: missing" in message
    assert (content(root), server.asked) == (before, [])


def test_full_disk_is_no_fault_of_the_mirror(root, server, monkeypatch):
    def full(response, _size):
        yield response.raw.read(10)
        raise OSError(28, "No space left on device")

    server.use(monkeypatch, "healthy", "healthy")
    monkeypatch.setattr(requests.Response, "iter_content", full)
    assert f"cannot write to {root / 'mnist'}: [Errno 28] No space left" in refusal("mnist", root)
    assert (content(root), len(server.asked)) == ({}, 1)


def test_concurrent_downloads_agree(root, server, monkeypatch):
    server.use(monkeypatch, "healthy")
    with ThreadPoolExecutor(6) as pool:
        sets = list(pool.map(load, ["mnist"] * 6, [root] * 6))
    assert all(np.array_equal(each.train_x, sets[0].train_x) for each in sets)
    assert content(root) == complete()
    assert pooch.get_logger().filters == []


def test_pooch_is_quiet_meanwhile_and_as_before_afterwards(root, server, monkeypatch, capsys):
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logger = pooch.get_logger()
    monkeypatch.setattr(logger, "handlers", [handler])
    server.use(monkeypatch, "healthy")
    load("mnist", root)
    assert (records, capsys.readouterr()) == ([], ("", ""))
    logger.info("heard again")
    assert [record.msg for record in records] == ["heard again"]


def test_progress_is_shown_on_request_on_standard_error(root, server, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich draws bars on terminals only
    server.use(monkeypatch, "healthy")
    load("mnist", root, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert TRAIN_X in err


# ---- parser

shapes = st.one_of(st.tuples(st.integers(1, 40)), st.tuples(*[st.integers(1, 6)] * 3))
arrays = hnp.arrays(np.uint8, shapes)


def mutate(blob, where, byte, how):
    where %= len(blob) + 1
    tail = {"flip": blob[where + 1 :], "insert": blob[where:], "cut": b""}[how]
    return blob[:where] + (b"" if how == "cut" else bytes([byte])) + tail


edits = st.lists(
    st.tuples(st.integers(0, 500), st.integers(0, 255), st.sampled_from(["flip", "insert", "cut"])),
    max_size=3,
)


def parsed_or_refused(blob):
    """The parser's only two outcomes: `DataError`, or an array that says exactly what the file says."""
    try:
        array = parse_idx(blob, name="fuzz")
    except DataError:
        return None
    assert array.dtype == np.uint8
    assert gzip.decompress(pack(array)) == gzip.decompress(blob)
    return array


@settings(max_examples=100, deadline=None)
@given(arrays)
def test_parser_returns_what_was_packed(array):
    found = parse_idx(pack(array), name="valid")
    assert found.shape == array.shape
    assert np.array_equal(found, array)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_parser_survives_arbitrary_bytes(blob):
    parsed_or_refused(blob)
    parsed_or_refused(gzip.compress(blob, mtime=0))
    parsed_or_refused(gzip.compress(b"\0\0\x08\x01" + blob, mtime=0))


@settings(max_examples=300, deadline=None)
@given(arrays, edits, edits)
def test_parser_survives_mutations(array, inner, outer):
    raw = gzip.decompress(pack(array))
    for edit in inner:
        raw = mutate(raw, *edit)
    blob = gzip.compress(raw, mtime=0)
    for edit in outer:
        blob = mutate(blob, *edit)
    found = parsed_or_refused(blob)
    assert found is not None or inner or outer


def test_parser_stops_a_bomb_early(monkeypatch):
    bomb = pack(np.zeros(1 << 24))
    monkeypatch.setattr(files, "LARGEST", 1 << 16)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="unpacks to more than 65536 bytes"):
            parse_idx(bomb, name="bomb")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
