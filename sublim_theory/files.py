"""The published files of MNIST and Fashion-MNIST: where they are, whether they are right, how to get them.

A file is used only if its SHA256 is the published one, and what is used are the very bytes that were hashed. Files
that a user put in place are never changed.
"""

import hashlib
import logging
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from sublim_theory.protocols import SublimError, lookup

Folder: TypeAlias = str | os.PathLike[str] | None
"""A folder that holds `mnist/` and `fashion_mnist/`, or None for the usual places."""

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


class DataError(SublimError, RuntimeError):
    """The files of a dataset are missing, unreadable, corrupt, malformed or cannot be downloaded."""


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
        lookup("dataset with files", name, FILES)
    wanted = [each for each in FILES if name in (None, each)]
    root = data_root(data_dir)
    return [_inspect(each, root / each / file)[0] for each in wanted for file in FILES[each]]


def data_root(data_dir: Folder) -> Path:
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


def remedy(name: str, folder: Path) -> str:
    """What to do when the files of a dataset in its folder cannot be used."""
    return (
        f"The published files are at {' and '.join(MIRRORS[name])}. Put them into {folder}, deleting corrupt "
        f"ones first, or let data_dir or {ENVIRONMENT} name a folder with a complete {name}/ inside."
    )


def read_bounded(path: Path, largest: int) -> bytes:
    """Read a file that may come from anywhere: a regular one of at most `largest` bytes.

    Raises:
        OSError: if it cannot be read, is larger, or is a pipe or device, which might never end.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"{path} is not a regular file")
    if found.st_size > largest:
        raise OSError(f"{path} has {found.st_size} bytes, more than {largest}")
    return path.read_bytes()


def _inspect(dataset: str, path: Path) -> tuple[FileStatus, bytes]:
    """Read a file, once, and hash what was read."""
    entry = partial(FileStatus, dataset, path.name, path)
    try:
        blob = read_bounded(path, LARGEST)
    except FileNotFoundError:
        return entry("missing", detail="not there"), b""
    except OSError as error:
        return entry("unreadable", detail=str(error)), b""
    digest, expected = hashlib.sha256(blob).hexdigest(), FILES[dataset][path.name]
    if digest != expected:
        return entry("corrupt", len(blob), f"SHA256 {digest}, expected {expected}"), blob
    return entry("verified", len(blob)), blob


def verified_bytes(name: str, folder: Path, download: bool, progress: bool) -> dict[str, bytes]:
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
        raise DataError("\n".join([f"Cannot use {folder}:", *wrong, *failures, remedy(name, folder)]))
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
