"""Datasets: facts of the real ones; on small synthetic ones, what people have and the ways in which mirrors fail."""

import gzip
import hashlib
import logging
import os
import pwd
import re
import struct
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pooch
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sublim_theory import data, files
from sublim_theory.data import load, parse_idx
from sublim_theory.files import DataError, status

TRAIN_X, TRAIN_Y, TEST_X, TEST_Y = files.FILES["mnist"]
HERE = os.environ.get(files.ENVIRONMENT, "")
IMAGES = np.zeros((20, 3, 2))
REAL = ["digits"] + [name for name in files.FILES if HERE and Path(HERE, name).is_dir()]


def pack(array, magic=None, sizes=None):
    """An IDX file, with lies about its magic number or sizes on request."""
    sizes = array.shape if sizes is None else sizes
    raw = (magic or bytes([0, 0, 8, array.ndim])) + struct.pack(f">{len(sizes)}I", *sizes)
    return gzip.compress(raw + array.astype(np.uint8).tobytes(), mtime=0)


def synthetic(seed):
    """Four small files by name: 20 training and 10 test images of 3 x 2, all labels present."""
    rng = np.random.default_rng(seed)
    train, test = rng.integers(0, 256, (20, 3, 2)), rng.integers(0, 256, (10, 3, 2))
    train[0] = [[0, 255], [51, 102], [204, 153]]
    arrays = train, (np.arange(20) + seed) % 10, test, (np.arange(10) + seed) % 10
    return dict(zip(files.FILES["mnist"], map(pack, arrays), strict=True))


BLOBS = {"mnist": synthetic(0), "fashion_mnist": synthetic(1)}
RAW = gzip.decompress(BLOBS["mnist"][TRAIN_X])
PLACES = {f"{name}/{file}": blob for name, blobs in BLOBS.items() for file, blob in blobs.items()}
COMPLETE = {place: blob for place, blob in PLACES.items() if place.startswith("mnist/")}


def sha256(blob):
    return hashlib.sha256(blob).hexdigest()


def fill(root, name="mnist", **changes):
    """Write a set's files into `root/name`, but for the given ones: other bytes, or None for no file."""
    (root / name).mkdir(parents=True, exist_ok=True)
    for file, blob in (BLOBS[name] | changes).items():
        if blob is not None:
            (root / name / file).write_bytes(blob)
    return root


def content(root):
    """Every file below a folder, whatever its name, with its bytes."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


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
    monkeypatch.setattr(files, "FILES", {name: {f: sha256(b) for f, b in BLOBS[name].items()} for name in BLOBS})
    monkeypatch.setattr(files, "CONTENTS", {sha256(gzip.decompress(blob)): place for place, blob in PLACES.items()})
    monkeypatch.setattr(files, "MIRRORS", dict.fromkeys(BLOBS, ()))
    monkeypatch.setattr(files, "TIMEOUT", 0.25)
    monkeypatch.setattr(files, "RETRIES", 0)
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


class Handler(BaseHTTPRequestHandler):
    """Answers a request for /BEHAVIOUR/DATASET/FILE as that behaviour has it."""

    def do_GET(self):  # the name that http.server calls
        _, behaviour, name, file = self.path.split("/")
        self.server.asked.append(f"{behaviour}/{file}")
        BEHAVIOURS[behaviour][0](self, BLOBS[name][file])

    def answer(self, body, length=None):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def stall(self, blob):
        self.answer(blob[:20], length=len(blob))
        self.server.stalled.set()
        self.server.closing.wait(5)

    def never_end(self, _blob):
        self.answer(b"", length=1 << 40)
        while not self.server.closing.is_set():
            self.wfile.write(bytes(1 << 14))

    def log_message(self, format, *args):
        pass


BEHAVIOURS = {  # what a mirror does, and what is said of it
    "healthy": (Handler.answer, ""),
    "moody": (lambda it, blob: it.answer(blob) if it.server.asked[1:] else it.send_error(503), ""),
    "absent": (lambda it, _: it.send_error(404), "404"),
    "wrong": (lambda it, _: it.answer(b"<html>Please log in to this network</html>"), "does not match"),
    "flipped": (lambda it, blob: it.answer(blob[:-1] + bytes([blob[-1] ^ 1])), "does not match"),
    "truncated": (lambda it, blob: it.answer(blob[:-10], length=len(blob)), "IncompleteRead"),
    "silent": (lambda it, _: it.server.closing.wait(5), "read timeout=0.25"),
    "stalling": (Handler.stall, "timed out"),
    "endless": (Handler.never_end, "sends more than 65536 bytes"),
    "slow": (Handler.never_end, "for more than 0.1 seconds"),
    "offline": (None, "refused"),  # nobody listens there
    "gibberish": (lambda it, _: it.wfile.write(b"\0\1\2 this is not HTTP\r\n\r\n"), "aborted"),
}


class Server(ThreadingHTTPServer):
    asked, stalled, closing = [], None, None

    def handle_error(self, request, client_address):
        """Clients that hang up are the point of these tests."""

    def use(self, monkeypatch, *behaviours):
        """Make these the mirrors of every set."""
        ports = [1 if each == "offline" else self.server_port for each in behaviours]
        urls = [f"http://127.0.0.1:{port}/{each}" for port, each in zip(ports, behaviours, strict=True)]
        monkeypatch.setattr(files, "MIRRORS", {name: tuple(f"{url}/{name}/" for url in urls) for name in BLOBS})
        return files.MIRRORS["mnist"]


@pytest.fixture
def server():
    with Server(("127.0.0.1", 0), Handler) as server:
        server.asked, server.stalled, server.closing = [], threading.Event(), threading.Event()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


# ---- the real sets

FACTS = {  # training size, test size, side of an image, mean grey in [0, 1] of the training images, checksum
    "digits": (1437, 360, 8, 0.3054, "28d636f2f47ec885bab6c1d883c883cd3f85cb5f6d0f1457558c6b672cc71adf"),
    "mnist": (60_000, 10_000, 28, 0.1307, "4f0b1b7e031471a2e6b7ff1eb267f86acbf9a397723b387b0000df8c8fcc9f59"),
    "fashion_mnist": (60_000, 10_000, 28, 0.286, "67cbfdbe6697eebdae9967b4d006e6322dbefc7322e5674836b08af32a637300"),
}


@pytest.mark.parametrize("name", REAL)
def test_real_sets_have_the_published_facts(name):
    dataset = load(name, HERE or None, download=False)
    train, test, side, grey, checksum = FACTS[name]
    assert (dataset.name, dataset.image_shape, dataset.checksum) == (name, (side, side), checksum)
    assert (dataset.features, dataset.classes) == (side**2, 10)
    for x, y, count in (dataset.train_x, dataset.train_y, train), (dataset.test_x, dataset.test_y, test):
        assert (x.shape, x.dtype, y.shape, y.dtype) == ((count, side**2), np.float32, (count,), np.int32)
        assert (x.min(), x.max()) == (-1, 1)
        assert np.array_equal(np.unique(y), np.arange(10))
    assert np.mean(dataset.train_x, dtype=np.float64) / 2 + 0.5 == pytest.approx(grey, abs=1e-4)
    for file in files.FILES.get(name, ()):
        assert files.CONTENTS[sha256(gzip.decompress(Path(HERE, name, file).read_bytes()))] == f"{name}/{file}"


def test_digits_are_the_stratified_split_of_the_source():
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    dataset, (pixels, labels) = load("digits"), load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(pixels, labels, test_size=360, random_state=0, stratify=labels)
    assert np.array_equal(8 * dataset.train_x + 8, train_x)
    assert np.array_equal(8 * dataset.test_x + 8, test_x)
    assert np.array_equal(dataset.train_y, train_y)
    assert np.array_equal(dataset.test_y, test_y)


def test_every_set_has_four_files_and_mirrors():
    assert set(data.NAMES) == {"digits", *files.FILES}
    assert set(files.FILES) == set(files.MIRRORS)
    assert all(list(files) == [TRAIN_X, TRAIN_Y, TEST_X, TEST_Y] for files in files.FILES.values())
    assert list(files.CONTENTS.values()) == list(PLACES)
    assert all(url.endswith("/") for urls in files.MIRRORS.values() for url in urls)


DATA_COMMAND = "from sublim_theory import cli; cli.main(['data', '--data-dir', sys.argv[1]])"


@pytest.mark.parametrize("line", ["import sublim_theory.data", DATA_COMMAND])
def test_what_is_not_needed_is_not_imported(tmp_path, line):
    heavy = "{'jax', 'pooch', 'requests', 'scipy', 'sklearn', 'xarray'}"
    code = f"import sys; {line}; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code, tmp_path], text=True).endswith("[]\n")


# ---- names and folders


@pytest.mark.parametrize(("name", "hint"), [("Fashion-MNIST", "did you mean 'fashion_mnist'"), ("zzz", "choose from")])
def test_unknown_name_is_named_with_the_nearest(name, hint):
    with pytest.raises(ValueError, match=f"unknown dataset '{name}'; {hint}"):
        load(name)


def test_values_and_order_of_a_set(root):
    dataset = load("mnist", fill(root), download=False)
    assert np.allclose(dataset.train_x[0], [-1, 1, -0.6, -0.2, 0.6, 0.2], rtol=0, atol=1e-7)
    assert np.array_equal(dataset.train_y, np.arange(20) % 10)
    assert np.array_equal(dataset.test_y, np.arange(10))
    assert (dataset.image_shape, dataset.features, dataset.classes) == ((3, 2), 6, 10)
    assert dataset.checksum != load("fashion_mnist", fill(root, "fashion_mnist")).checksum


def test_argument_beats_environment_beats_cache(root, tmp_path, server, monkeypatch):
    environment, cache = tmp_path / "environment", tmp_path / "cache" / "sublim_theory"
    assert {entry.path.parent for entry in status("mnist")} == {cache / "mnist"}
    assert not cache.exists()
    fill(root)
    fill(environment, **{TEST_X: b"bad"})
    fill(cache, **{TEST_Y: b"bad"})
    monkeypatch.setenv(files.ENVIRONMENT, str(environment))
    assert load("mnist", root).name == load("mnist", str(root)).name == "mnist"
    assert {entry.path.parent for entry in status("mnist")} == {environment / "mnist"}
    assert str(environment / "mnist") in refusal("mnist")
    monkeypatch.setenv(files.ENVIRONMENT, "")
    assert str(cache / "mnist") in refusal("mnist", "")
    server.use(monkeypatch, "healthy")
    (cache / "mnist" / TEST_Y).unlink()
    assert load("mnist").name == "mnist"
    assert content(cache) == COMPLETE
    assert server.asked == [f"healthy/{TEST_Y}"]


@pytest.mark.parametrize("where", ["nowhere", "file", "file/below", "nul\0byte", "~nosuchuser/data"])
def test_folder_that_cannot_be_listed(root, monkeypatch, where):
    (root / "file").write_bytes(b"")
    given = where if where.startswith("~") else str(root / where)
    with pytest.raises(DataError, match=f"Cannot list the data folder .*--data-dir .*{files.ENVIRONMENT}"):
        load("mnist", given)
    monkeypatch.setenv(files.ENVIRONMENT, given.replace("\0", ""))
    with pytest.raises(DataError, match=f"Cannot list the data folder .*--data-dir .*{files.ENVIRONMENT}"):
        status("mnist")
    assert content(root) == {"file": b""}


@pytest.mark.parametrize("cache", [None, "~/.cache"])  # newer and older platformdirs
def test_without_a_home_there_is_one_line_with_the_way_out(root, monkeypatch, cache):
    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.undo()
    for variable in ("HOME", "XDG_CACHE_HOME", files.ENVIRONMENT):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    if cache:
        monkeypatch.setattr(pooch, "os_cache", lambda _: Path(cache))
    monkeypatch.chdir(root)
    for function in load, status:
        with pytest.raises(DataError, match=rf"^Cannot find a cache .* home .*--data-dir .*{files.ENVIRONMENT}.*$"):
            function("mnist")
    assert load("digits").classes == 10
    assert list(root.iterdir()) == [], "no folder called ~"


# ---- files on the disk


def test_missing_files_are_all_named_with_the_way_out(root, server, monkeypatch):
    mirrors = server.use(monkeypatch, "healthy", "absent")
    before = content(fill(root, **{TRAIN_X: None, TEST_Y: None}))
    message = refusal("mnist", root, download=False)
    assert all(text in message for text in [TRAIN_X, TEST_Y, str(root / "mnist"), files.ENVIRONMENT, *mirrors])
    assert TRAIN_Y not in message
    assert TEST_X not in message
    assert (content(root), server.asked) == (before, [])


@pytest.mark.parametrize("dash", ["-idx", ".idx"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("how", ["unpacked", "packed in another way", ""])
def test_files_are_used_as_people_have_them(root, server, monkeypatch, dash, suffix, how):
    server.use(monkeypatch, "healthy")
    places = {place.replace("-idx", dash).removesuffix(".gz") + suffix: blob for place, blob in COMPLETE.items()}
    (root / "mnist").mkdir()
    for place, blob in places.items():
        raw = gzip.decompress(blob)
        (root / place).write_bytes({"": blob, "unpacked": raw}.get(how, gzip.compress(raw, 1)))
    before, dataset = content(root), load("mnist", root)
    assert [(each.path, each.state, each.detail) for each in status("mnist", root)] == [
        (root / place, "verified", how) for place in places
    ]
    assert (content(root), server.asked) == (before, [])
    published = load("mnist", fill(root))
    assert dataset.checksum == published.checksum
    assert np.array_equal(dataset.train_x, published.train_x)


def test_a_right_file_is_used_where_a_wrong_one_lies_beside_it(root):
    fill(root, **{TRAIN_X: b"<html>", "train-images.idx3-ubyte": RAW})
    assert load("mnist", root, download=False).name == "mnist"


@pytest.mark.parametrize(
    ("file", "bad", "what"),
    [
        (TRAIN_X, b"", "neither gzip nor IDX"),
        (TRAIN_X, b"\n<!DOCTYPE html><html>403 Forbidden</html>", "a web page (HTML or XML)"),
        ("train-images.idx3-ubyte", b"<?xml?><Error>AccessDenied</Error>", "a web page (HTML or XML)"),
        (TRAIN_X, BLOBS["mnist"][TRAIN_X][:-1], "a damaged gzip file (Compressed file ended before"),
        (TRAIN_X, BLOBS["mnist"][TRAIN_X] + b"bad", "a damaged gzip file (Not a gzipped file"),
        (TRAIN_X, pack(IMAGES), "a gzip file with other content"),
        (TRAIN_X, RAW[:-1], "an unpacked IDX file with other content"),
        ("train-images-idx3-ubyte", RAW + b"\0", "an unpacked IDX file with other content"),
        (TRAIN_X, BLOBS["mnist"][TEST_X], f"the content of mnist/{TEST_X}"),
        (TRAIN_X, gzip.decompress(BLOBS["fashion_mnist"][TRAIN_X]), f"the content of fashion_mnist/{TRAIN_X}"),
    ],
)
def test_wrong_file_is_named_as_what_it_is_and_left_alone(root, server, monkeypatch, file, bad, what):
    server.use(monkeypatch, "healthy")
    before = content(fill(root, **{TRAIN_X: None, TEST_X: None, file: bad}))
    message = refusal("mnist", root)
    assert f"  {file}: corrupt, {what}" in message
    assert f"SHA256 {sha256(bad)}, expected {files.FILES['mnist'][TRAIN_X]}" in message
    assert f"{TEST_X}: missing" in message
    assert str(root / "mnist") in message
    assert "deleting corrupt ones" in message
    assert (content(root), server.asked) == (before, [])


def test_unreadable_file_is_named(root, server, monkeypatch):
    server.use(monkeypatch, "healthy")
    (root / "mnist").write_bytes(b"not a folder")
    assert refusal("mnist", root).count("unreadable, [Errno") == 4
    fill(root, "fashion_mnist", **{TRAIN_Y: None, TEST_X: None})
    (root / "fashion_mnist" / TRAIN_Y).mkdir()
    assert f"{TRAIN_Y}: unreadable, " in refusal("fashion_mnist", root)
    assert [each.state for each in status("fashion_mnist", root)] == ["verified", "unreadable", "missing", "verified"]
    assert server.asked == []


def test_status_tells_each_file_and_changes_nothing(root, server, monkeypatch):
    server.use(monkeypatch, "healthy")
    before = content(fill(root, **{TRAIN_Y: b"bad", TEST_X: None}))
    entries = status(data_dir=root)
    assert [f"{entry.dataset}/{entry.file}" for entry in entries] == list(PLACES)
    assert [entry.path for entry in entries] == [root / place for place in PLACES]
    assert [entry.state for entry in entries[:4]] == ["verified", "corrupt", "missing", "verified"]
    assert [entry.size for entry in entries[:3]] == [len(BLOBS["mnist"][TRAIN_X]), 3, 0]
    assert [bool(entry.detail) for entry in entries[:4]] == [False, True, True, False]
    assert {entry.state for entry in entries[4:]} == {"missing"}
    assert status("mnist", root) == entries[:4]
    with pytest.raises(ValueError, match="unknown dataset with files 'digits'"):
        status("digits", root)
    assert (content(root), server.asked) == (before, [])


# ---- mirrors


@pytest.mark.parametrize("umask", [0o077, 0o022, 0o002])
def test_only_what_is_missing_is_fetched_and_the_umask_decides_who_may_read_it(root, server, monkeypatch, umask):
    server.use(monkeypatch, "healthy")
    fill(root, **{TRAIN_Y: None, TEST_X: None})
    before = os.umask(umask)
    try:
        load("mnist", root)
    finally:
        os.umask(before)
    assert server.asked == [f"healthy/{TRAIN_Y}", f"healthy/{TEST_X}"]
    assert content(root) == COMPLETE
    assert {(root / "mnist" / file).stat().st_mode & 0o777 for file in (TRAIN_Y, TEST_X)} == {0o666 & ~umask}


@pytest.mark.parametrize("behaviour", [name for name, (_, complaint) in BEHAVIOURS.items() if complaint])
def test_failing_mirror_leaves_nothing_and_the_next_one_serves(root, server, monkeypatch, behaviour):
    if behaviour == "slow":
        monkeypatch.setattr(files, "DEADLINE", 0.1)
    elif behaviour == "endless":
        monkeypatch.setattr(files, "LARGEST", 1 << 16)
    (mirror,) = server.use(monkeypatch, behaviour)
    message = refusal("mnist", root)
    assert any(mirror + TRAIN_X in line and BEHAVIOURS[behaviour][1] in line for line in message.splitlines())
    assert all(text in message for text in [*BLOBS["mnist"], str(root / "mnist"), files.ENVIRONMENT])
    assert content(root) == {}
    fill(root, **{TEST_Y: None})
    server.use(monkeypatch, behaviour, "healthy")
    assert load("mnist", root).name == "mnist"
    assert server.asked[-1] == f"healthy/{TEST_Y}"
    assert content(root) == COMPLETE


def test_a_mirror_is_asked_again_before_the_next_one(root, server, monkeypatch):
    monkeypatch.setattr(files, "RETRIES", 1)
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    server.use(monkeypatch, "moody", "healthy")
    load("mnist", fill(root, **{TEST_Y: None}))
    assert server.asked == [f"moody/{TEST_Y}"] * 2


def test_failure_halfway_keeps_what_is_verified_and_resumes(root, server, monkeypatch):
    server.use(monkeypatch, "healthy")
    with monkeypatch.context() as patch:
        patch.setitem(BLOBS["mnist"], TEST_X, b"changed")
        message = refusal("mnist", root)
    assert f"{TEST_X}: missing" in message
    assert f"{TRAIN_X}: " not in message
    assert content(root) == {f"mnist/{file}": BLOBS["mnist"][file] for file in (TRAIN_X, TRAIN_Y)}
    load("mnist", root)
    assert content(root) == COMPLETE


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), OSError(28, "No space left on device")])
def test_interrupt_or_full_disk_leaves_nothing_and_is_no_fault_of_the_mirror(root, server, monkeypatch, error):
    def interrupted(response, _size):
        yield response.raw.read(10)
        raise error

    server.use(monkeypatch, "healthy", "healthy")
    monkeypatch.setattr(requests.Response, "iter_content", interrupted)
    with pytest.raises(DataError if isinstance(error, OSError) else type(error)):
        load("mnist", root)
    assert (content(root), len(server.asked)) == ({}, 1)


def test_a_killed_download_leaves_no_half_file_in_a_files_place(root, server, monkeypatch):
    mirrors = server.use(monkeypatch, "stalling")
    code = f"from sublim_theory import data, files; files.MIRRORS['mnist'] = {mirrors}; data.load('mnist', '{root}')"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as process:
        assert server.stalled.wait(60)
        process.kill()
    assert {entry.state for entry in status("mnist", root)} == {"missing"}
    server.use(monkeypatch, "healthy")
    assert load("mnist", root).name == "mnist"


def test_a_folder_that_takes_no_files_is_told_in_one_line(root, server, monkeypatch):
    def denied(**_options):  # root may write anywhere, so the refusal comes from where pooch opens its temporary file
        raise PermissionError(13, "Permission denied")

    server.use(monkeypatch, "healthy", "healthy")
    before = content(fill(root, **{TEST_Y: None}))
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", denied)
    folder, line = re.escape(str(root / "mnist")), refusal("mnist", root)
    assert re.fullmatch(rf"Cannot write to {folder}: .*Permission denied; .*--data-dir .*{files.ENVIRONMENT}.*", line)
    assert (content(root), server.asked) == (before, [])


def test_concurrent_downloads_agree(root, server, monkeypatch):
    server.use(monkeypatch, "healthy")
    with ThreadPoolExecutor(6) as pool:
        sets = list(pool.map(load, ["mnist"] * 6, [root] * 6))
    assert all(np.array_equal(each.train_x, sets[0].train_x) for each in sets)
    assert content(root) == COMPLETE


def test_pooch_is_quiet_meanwhile_and_as_before_afterwards(root, server, monkeypatch, capsys):
    heard, handler, logger = [], logging.Handler(), pooch.get_logger()
    handler.emit = heard.append
    monkeypatch.setattr(logger, "handlers", [handler])
    server.use(monkeypatch, "healthy")
    load("mnist", root)
    assert (heard, capsys.readouterr()) == ([], ("", ""))
    logger.info("heard again")
    assert [record.msg for record in heard] == ["heard again"]


def test_progress_is_shown_on_request_on_standard_error(root, server, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich draws bars on terminals only
    server.use(monkeypatch, "healthy")
    load("mnist", root, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert f"\r{TRAIN_X}" in err.replace("\x1b[2K", "")


# ---- parser


@pytest.mark.parametrize(
    ("blob", "wrong"),
    [
        (b"no gzip at all", "magic number 0x6e6f2067"),
        (gzip.compress(b"", mtime=0), "magic number 0x,"),
        (gzip.compress(b"\0\0\x08\x03\0\0", mtime=0), "buffer is smaller"),
        (pack(IMAGES) + b"bad", "damaged gzip file"),
        (pack(IMAGES) + pack(IMAGES), "announces the shape (20, 3, 2) and holds 256 bytes"),
        (pack(IMAGES, magic=b"\0\x01\x08\x03"), "magic number 0x00010803"),
        (pack(IMAGES, sizes=(20, 3, 3)), "announces the shape (20, 3, 3) and holds 120 bytes"),
        (pack(IMAGES[:0]), "announces the shape (0, 3, 2)"),
    ],
)
def test_malformed_content_is_refused(blob, wrong):
    with pytest.raises(DataError, match=rf"the file is no IDX file: .*{re.escape(wrong)}"):
        parse_idx(blob, name="the file")


@given(hnp.arrays(np.uint8, st.one_of(st.tuples(st.integers(1, 40)), st.tuples(*[st.integers(1, 6)] * 3))))
def test_parser_returns_what_was_packed(array):
    for blob in pack(array), gzip.decompress(pack(array)):
        found = parse_idx(blob, name="valid")
        assert found.shape == array.shape
        assert np.array_equal(found, array)


@given(st.binary(max_size=200), st.sampled_from([b"", b"\0\0\x08\x01", b"\0\0\x08\x01\0\0\0", files.GZIP]))
def test_parser_refuses_arbitrary_bytes_or_returns_what_they_say(blob, start):
    for packed in start + blob, gzip.compress(start + blob, mtime=0):
        try:
            array = parse_idx(packed, name="fuzz")
        except DataError:
            continue
        assert gzip.decompress(pack(array)) == files.unpack(packed)


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
