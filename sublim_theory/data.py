"""Datasets: the embedded 8x8 digits, and MNIST and Fashion-MNIST from verified files.

`load` returns a complete `Dataset` or raises; it never falls back to another one. The files of the last two
are looked for in one folder: the argument `data_dir`, else the environment variable `SUBLIM_THEORY_DATA`,
else the platform's cache. What is missing there is downloaded into it. A file is used only if its SHA256 is
the published one, and the bytes used are the bytes that were hashed. A file already there is never changed.
"""

import difflib
import hashlib
import logging
import math
import os
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["FILES", "MIRRORS", "NAMES", "DataError", "Dataset", "FileStatus", "load", "parse_idx", "status"]

Folder = str | os.PathLike[str] | None

NAMES = ("digits", "mnist", "fashion_mnist")  # what `load` accepts
ENVIRONMENT = "SUBLIM_THEORY_DATA"  # names a folder that holds mnist/ and fashion_mnist/
TIMEOUT = 20.0  # seconds of silence after which a mirror is given up
DEADLINE = 900.0  # seconds after which a mirror still busy with one file is given up
LARGEST = 64 << 20  # bound in bytes on a file, packed or unpacked; the largest one unpacks to 47 MB

# Dataset -> file -> SHA256, in the order training images, training labels, test images, test labels.
FILES = {
    "mnist": {
        "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
}

# Dataset -> base URLs, tried in order. The hashes above, not the connection, vouch for the content.
MIRRORS: dict[str, tuple[str, ...]] = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    "fashion_mnist": ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
}


class DataError(RuntimeError):
    """The files of a dataset are missing, unreadable, corrupt, malformed or cannot be downloaded."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images as flat rows in [-1, 1] (background -1), with labels.

    Attributes:
        name: One of `NAMES`.
        train_x: Training images, float32 [train, features].
        train_y: Training labels, int32 [train].
        test_x: Test images, float32 [test, features].
        test_y: Test labels, int32 [test].
        image_shape: Height and width of an image, whose product is `features`.
        checksum: SHA256 of the content in hexadecimal, the same on every machine.
    """

    name: str
    train_x: NDArray[np.float32] = field(repr=False)
    train_y: NDArray[np.int32] = field(repr=False)
    test_x: NDArray[np.float32] = field(repr=False)
    test_y: NDArray[np.int32] = field(repr=False)
    image_shape: tuple[int, int]
    checksum: str

    @property
    def features(self) -> int:
        """Pixels in an image."""
        return math.prod(self.image_shape)

    @property
    def classes(self) -> int:
        """Number of classes: the largest label plus one."""
        return 1 + int(max(self.train_y.max(), self.test_y.max()))


@dataclass(frozen=True)
class FileStatus:
    """What was found of one file of a dataset.

    Attributes:
        dataset: Name of the dataset.
        file: Name of the file.
        path: Where it was looked for.
        state: "verified" means that its SHA256 is the published one.
        size: Bytes read; 0 when missing or unreadable.
        detail: What is wrong, in words; empty when verified.
    """

    dataset: str
    file: str
    path: Path
    state: Literal["verified", "missing", "corrupt", "unreadable"]
    size: int = 0
    detail: str = ""


def load(name: str, data_dir: Folder = None, download: bool = True, *, progress: bool = False) -> Dataset:
    """Load a dataset, complete and verified.

    Args:
        name: "digits" (scikit-learn's 1,797 images of 8 x 8 in a fixed stratified split, no files needed),
            "mnist" or "fashion_mnist" (70,000 images of 28 x 28).
        data_dir: Existing folder that holds `mnist/` and `fashion_mnist/`. By default the one that
            `SUBLIM_THEORY_DATA` names, else the platform's cache folder. Ignored for "digits".
        download: Whether files missing there may be downloaded into it.
        progress: Whether to show a bar on standard error meanwhile.

    Raises:
        ValueError: `name` is not one of `NAMES`.
        DataError: The folder or a file is missing, unreadable, corrupt or malformed, or all mirrors failed.
    """
    _require_name(name)
    if name == "digits":
        return _digits()
    folder = _root(data_dir) / name
    blobs = _verified_blobs(name, folder, download, progress)
    arrays = {file: parse_idx(blob, name=str(folder / file)) for file, blob in blobs.items()}
    train_x, train_y, test_x, test_y = parts = list(arrays.values())
    for x, y in ((train_x, train_y), (test_x, test_y)):
        if x.ndim != 3 or y.shape != x.shape[:1] or x.shape[1:] != train_x.shape[1:] or y.max() > 9:
            facts = {file: f"shape {array.shape}, maximum {array.max()}" for file, array in arrays.items()}
            raise DataError(f"Files in {folder} do not fit together: {facts}. {_remedy(name, folder)}")
    return _dataset(name, parts, white=255, content="\n".join(FILES[name].values()).encode())


def status(name: str | None = None, data_dir: Folder = None) -> list[FileStatus]:
    """Say which files are there and verified, in the order of `FILES`; downloads and changes nothing.

    Args:
        name: A dataset; all by default. "digits" has no files.
        data_dir: As for `load`.

    Raises:
        ValueError: `name` is not one of `NAMES`.
        DataError: The folder that `data_dir` or the environment names cannot be listed.
    """
    if name is not None:
        _require_name(name)
    wanted = [each for each in FILES if name in (None, each)]
    root = _root(data_dir) if wanted else Path()
    return [_inspect(each, root / each / file)[0] for each in wanted for file in FILES[each]]


def parse_idx(data: bytes, *, name: str) -> NDArray[np.uint8]:
    """Unpack and parse a gzip-compressed IDX file, strictly and within `LARGEST` bytes.

    Args:
        data: The file: one gzip member that holds the magic number 0x801 (labels) or 0x803 (images), the
            sizes as big-endian uint32, none of them 0, and exactly as many bytes as these announce.
        name: What errors call it.

    Returns:
        A read-only uint8 array, [count] or [count, height, width].

    Raises:
        DataError: The data are anything else.
    """

    def malformed(what: str) -> DataError:
        return DataError(f"{name} is not a gzipped IDX file: {what}. Delete it and get the published one.")

    unpacker = zlib.decompressobj(wbits=31)  # gzip and nothing else, its own check sum included
    try:
        raw = unpacker.decompress(data, LARGEST + 1)
    except zlib.error as error:
        raise malformed(str(error)) from error
    if len(raw) > LARGEST:
        raise malformed(f"it unpacks to more than {LARGEST} bytes")
    if not unpacker.eof:
        raise malformed("the compressed data end early")
    if unpacker.unused_data:
        raise malformed("bytes follow the compressed data")
    if raw[:4] not in (b"\0\0\x08\x01", b"\0\0\x08\x03"):
        raise malformed(f"magic number 0x{raw[:4].hex()}, expected 0x00000801 or 0x00000803")
    start = 4 + 4 * raw[3]
    if len(raw) < start:
        raise malformed("the header ends early")
    shape = struct.unpack_from(f">{raw[3]}I", raw, 4)
    if 0 in shape or math.prod(shape) != len(raw) - start:
        raise malformed(f"it announces the shape {shape} and holds {len(raw) - start} bytes")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def _require_name(name: str) -> None:
    if name not in NAMES:
        nearest = difflib.get_close_matches(str(name).lower(), NAMES, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(f"unknown dataset {name!r}: expected one of {', '.join(map(repr, NAMES))}{hint}")


def _digits() -> Dataset:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = (array.astype(np.uint8) for array in load_digits(return_X_y=True))
    split = train_test_split(images.reshape(-1, 8, 8), labels, test_size=360, random_state=0, stratify=labels)
    train_x, test_x, train_y, test_y = split
    parts = [train_x, train_y, test_x, test_y]
    return _dataset("digits", parts, white=16, content=b"".join(part.tobytes() for part in parts))


def _dataset(name: str, parts: list[NDArray[np.uint8]], *, white: int, content: bytes) -> Dataset:
    """Scale 0..`white` to [-1, 1], flatten, and derive the checksum from `content`."""
    train_x, train_y, test_x, test_y = parts

    def scale(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        x = np.divide(images.reshape(len(images), -1), np.float32(white / 2), dtype=np.float32)
        return np.subtract(x, 1, out=x)

    train = scale(train_x), train_y.astype(np.int32)
    test = scale(test_x), test_y.astype(np.int32)
    shape = train_x.shape[1], train_x.shape[2]
    return Dataset(name, *train, *test, shape, hashlib.sha256(content).hexdigest())


def _root(data_dir: Folder) -> Path:
    """The folder that holds a folder for each dataset; one that the user names must exist."""
    given = data_dir or os.environ.get(ENVIRONMENT)
    if not given:
        import pooch

        return Path(pooch.os_cache("sublim_theory"))
    try:
        root = Path(given).expanduser()
        os.scandir(root).close()
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"Cannot list the data folder {os.fspath(given)!r}, given by data_dir or {ENVIRONMENT}: {error}. "
            "Name a folder that holds mnist/ and fashion_mnist/, or an empty one to download into."
        ) from error
    return root


def _remedy(name: str, folder: Path) -> str:
    return (
        f"The published files are at {' and '.join(MIRRORS[name])}. Put them into {folder}, deleting corrupt "
        f"ones first, or let data_dir or {ENVIRONMENT} name a folder with a complete {name}/ inside."
    )


def _inspect(dataset: str, path: Path) -> tuple[FileStatus, bytes]:
    """Read a file, once, and hash what was read."""
    entry = partial(FileStatus, dataset, path.name, path)
    try:
        blob = path.read_bytes()
    except FileNotFoundError:
        return entry("missing", detail="not there"), b""
    except OSError as error:
        return entry("unreadable", detail=str(error)), b""
    digest, expected = hashlib.sha256(blob).hexdigest(), FILES[dataset][path.name]
    if digest != expected:
        return entry("corrupt", len(blob), f"SHA256 {digest}, expected {expected}"), blob
    return entry("verified", len(blob)), blob


def _verified_blobs(name: str, folder: Path, download: bool, progress: bool) -> dict[str, bytes]:
    """The bytes of all files of a dataset, in order, after downloading what is missing."""
    found = {file: _inspect(name, folder / file) for file in FILES[name]}
    failures: list[str] = []
    if download and all(entry.state in ("verified", "missing") for entry, _ in found.values()):
        for file in [file for file, (entry, _) in found.items() if entry.state == "missing"]:
            failures += _download(name, folder / file, progress)
            found[file] = _inspect(name, folder / file)
            if found[file][0].state != "verified":
                break
    wrong = [f"  {e.file}: {e.state}, {e.detail}" for e, _ in found.values() if e.state != "verified"]
    if wrong:
        raise DataError("\n".join([f"Cannot use {folder}:", *wrong, *failures, _remedy(name, folder)]))
    return {file: blob for file, (_, blob) in found.items()}


def _download(name: str, path: Path, progress: bool) -> list[str]:
    """Bring a file into its folder, whole and verified, and say which mirrors failed and why.

    Pooch writes to a temporary file, hashes it, and renames it only if it is right; whatever happens, an
    interrupt too, the temporary file goes. Two processes may do this at once: both rename the same content.
    """
    import pooch
    import requests

    fetch, known_hash = partial(_fetch, progress=progress), FILES[name][path.name]
    failures: list[str] = []
    for url in [mirror + path.name for mirror in MIRRORS[name]]:
        try:
            with _without_chatter(pooch.get_logger()):
                pooch.retrieve(url, known_hash, fname=path.name, path=path.parent, downloader=fetch)
            break
        except (requests.RequestException, ValueError) as error:
            failures.append(f"  {url}: {error}")
        except OSError as error:  # a matter of this machine: no other mirror will help
            failures.append(f"  cannot write to {path.parent}: {error}")
            break
    return failures


def _fetch(url: str, target: str, _pooch: object, *, progress: bool) -> None:
    """Download, as pooch asks for it, with bounds on silence, time and size."""
    import requests
    from rich.console import Console
    from rich.progress import Progress

    give_up = time.monotonic() + DEADLINE
    headers = {"Accept-Encoding": "identity"}  # the gzip layer belongs to the file
    with (
        requests.get(url, headers=headers, timeout=TIMEOUT, stream=True) as response,
        Path(target).open("wb") as file,
        Progress(console=Console(stderr=True), transient=True, disable=not progress) as bar,
    ):
        response.raise_for_status()
        task = bar.add_task(Path(url).name, total=int(response.headers.get("Content-Length", 0)) or None)
        for chunk in response.iter_content(4096):
            file.write(chunk)
            bar.update(task, completed=file.tell())
            if file.tell() > LARGEST:
                raise requests.RequestException(f"sent more than {LARGEST} bytes")
            if time.monotonic() > give_up:
                raise requests.Timeout(f"not done after {DEADLINE} seconds")
    Path(target).chmod(0o644)  # a temporary file is private, a data folder may be shared


@contextmanager
def _without_chatter(logger: logging.Logger) -> Iterator[None]:
    """Drop what a logger says below a warning, inside the block only."""

    def quiet(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING

    logger.addFilter(quiet)
    try:
        yield
    finally:
        logger.removeFilter(quiet)
