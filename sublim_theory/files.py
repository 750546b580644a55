"""The published files of MNIST and Fashion-MNIST: where they are, whether they are right, how to get them.

A file is used if its content has the published SHA256, packed or not, under each name that it goes by; what is used
are the very bytes that were hashed. Files that a user put in place are never changed.
"""

import gzip
import hashlib
import io
import logging
import os
import stat
import time
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from sublim_theory.console import console
from sublim_theory.protocols import SublimError, lookup

Folder: TypeAlias = str | os.PathLike[str] | None
"""A folder that holds `mnist/` and `fashion_mnist/`, or None for the usual places."""

ENVIRONMENT = "SUBLIM_THEORY_DATA"  # names a folder that holds mnist/ and fashion_mnist/
TIMEOUT = 20.0  # seconds of silence after which an attempt is given up
DEADLINE = 900.0  # seconds after which a mirror still busy with one file is given up
RETRIES = 1  # attempts at a mirror after the first one
GZIP = b"\x1f\x8b"  # how a gzip file begins
LARGEST = 64 << 20  # bound in bytes on a file, packed or unpacked; the largest one unpacks to 47 MB
WAY_OUT = f"let --data-dir (in Python: data_dir) or {ENVIRONMENT} name a folder that holds mnist/ and fashion_mnist/"

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

CONTENTS = {  # SHA256 of a file's content, unpacked -> dataset and file
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db": "mnist/train-images-idx3-ubyte.gz",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5": "mnist/train-labels-idx1-ubyte.gz",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7": "mnist/t10k-images-idx3-ubyte.gz",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2": "mnist/t10k-labels-idx1-ubyte.gz",
    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888": "fashion_mnist/train-images-idx3-ubyte.gz",
    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9": "fashion_mnist/train-labels-idx1-ubyte.gz",
    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b": "fashion_mnist/t10k-images-idx3-ubyte.gz",
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34": "fashion_mnist/t10k-labels-idx1-ubyte.gz",
}

# Dataset -> base URLs, tried in order. The hashes above, not the connection, vouch for the content.
MIRRORS: dict[str, tuple[str, ...]] = {
    "mnist": ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    "fashion_mnist": ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
}

KINDS = {  # how a file begins that is not the right one -> what it is
    GZIP: "a gzip file with other content",
    b"\0\0\x08": "an unpacked IDX file with other content",
    b"<": "a web page (HTML or XML)",
}


class DataError(SublimError, RuntimeError):
    """The files of a dataset are missing, unreadable, corrupt, malformed or cannot be downloaded."""


@dataclass(frozen=True)
class FileStatus:
    """What was found of one file of a dataset.

    Attributes:
        dataset: Name of the dataset.
        file: Name of the published file.
        path: Where it is, or was looked for.
        state: "verified" means that its content has the published SHA256.
        size: Bytes read; 0 when missing or unreadable.
        detail: What is wrong or, when verified, unlike the published file, in words.
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
        DataError: The given folder cannot be listed, or none is given and there is no home folder.
    """
    if name is not None:
        lookup("dataset with files", name, FILES)
    root = data_root(data_dir)
    return [find(each, root / each, file)[0] for each in FILES if name in (None, each) for file in FILES[each]]


def data_root(data_dir: Folder) -> Path:
    """The folder that holds a folder for each dataset; one that the user names must exist."""
    given = data_dir or os.environ.get(ENVIRONMENT)
    try:
        if given:
            os.scandir(root := Path(given).expanduser()).close()
            return root
        import pooch

        return Path(pooch.os_cache("sublim_theory")).expanduser()  # begins with ~ or raises if there is no home folder
    except (OSError, ValueError, RuntimeError) as error:
        where = f"list the data folder {os.fspath(given)!r}" if given else "find a cache folder for data"
        raise DataError(f"Cannot {where}: {error}; {WAY_OUT}") from error


def read_bounded(path: Path, largest: int) -> bytes:
    """Read a regular file of at most `largest` bytes; `OSError` for others, such as a pipe that might never end."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"{path} is not a regular file")
    if found.st_size > largest:
        raise OSError(f"{path} has {found.st_size} bytes, more than {largest}")
    return path.read_bytes()


def unpack(blob: bytes) -> bytes:
    """The content of a gzip file, of at most `LARGEST` bytes; that of anything else is itself. Raises `ValueError`."""
    if not blob.startswith(GZIP):
        return blob
    try:
        content = gzip.GzipFile(fileobj=io.BytesIO(blob)).read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"a damaged gzip file ({error})") from error
    if len(content) > LARGEST:
        raise ValueError(f"a gzip file that unpacks to more than {LARGEST} bytes")
    return content


def find(dataset: str, folder: Path, file: str) -> tuple[FileStatus, bytes]:
    """A file with its bytes, under one of the names that people have it by: the right one, else one that is not."""
    bare = file.removesuffix(".gz")
    dotted = bare.replace("-idx", ".idx")
    found = [_inspect(dataset, file, folder / name) for name in (file, bare, f"{dotted}.gz", dotted)]
    return min(found, key=lambda each: (each[0].state != "verified", each[0].state == "missing"))


def _inspect(dataset: str, file: str, path: Path) -> tuple[FileStatus, bytes]:
    """Read a file, once, and judge what was read."""
    entry = partial(FileStatus, dataset, file, path)
    try:
        blob = read_bounded(path, LARGEST)
    except FileNotFoundError:
        return entry("missing", detail="not there"), b""
    except OSError as error:
        return entry("unreadable", detail=str(error)), b""
    here, digest, published = f"{dataset}/{file}", hashlib.sha256(blob).hexdigest(), FILES[dataset][file]
    try:
        place = here if digest == published else CONTENTS.get(hashlib.sha256(unpack(blob)).hexdigest())
        kind = next((kind for start, kind in KINDS.items() if blob.lstrip().startswith(start)), "neither gzip nor IDX")
        what = f"the content of {place}" if place else kind
    except ValueError as error:
        place, what = None, str(error)
    if place == here:
        how = "packed in another way" if blob.startswith(GZIP) else "unpacked"
        return entry("verified", len(blob), "" if digest == published else how), blob
    return entry("corrupt", len(blob), f"{what}, SHA256 {digest}, expected {published}"), blob


def download(dataset: str, folder: Path, file: str, progress: bool) -> list[str]:
    """Bring a file into its folder, whole and verified; if no mirror can, say of each why not.

    Pooch writes to a temporary file, hashes it, and renames it only if it is right; whatever happens, an interrupt too,
    the temporary file goes. Two processes may do so at once. Raises `DataError` if the folder cannot be written to.
    """
    import pooch
    import requests

    failures: list[str] = []
    pooch.get_logger().addFilter(quiet := lambda record: record.levelno >= logging.WARNING)
    try:
        for mirror in MIRRORS[dataset]:
            cache = pooch.create(folder, mirror, registry=FILES[dataset], retry_if_failed=RETRIES, allow_updates=False)
            try:
                cache.fetch(file, downloader=partial(_fetch, progress=progress))
                return []
            except (requests.RequestException, ValueError, DataError) as error:
                failures.append(f"  {mirror}{file}: {error}")
    except OSError as error:  # a matter of this machine: no other mirror will help
        raise DataError(f"Cannot write to {folder}: {error.__cause__ or error}; {WAY_OUT}") from error
    finally:
        pooch.get_logger().removeFilter(quiet)
    return failures


def _fetch(url: str, target: str, _cache: object, *, progress: bool) -> None:
    """Download for pooch, whose own way has no bounds on time and size; the gzip layer is the file's own and stays."""
    import requests
    from rich.progress import Progress

    give_up = time.monotonic() + DEADLINE
    Path(target).unlink()  # pooch made it for this user alone; who may read a new one, the umask decides
    with (
        requests.get(url, headers={"Accept-Encoding": "identity"}, timeout=TIMEOUT, stream=True) as response,
        Path(target).open("xb") as file,
        Progress(console=console(stderr=True), transient=True, disable=not progress) as bar,
    ):
        response.raise_for_status()
        task = bar.add_task(Path(url).name, total=int(response.headers.get("Content-Length", 0)) or None)
        for chunk in response.iter_content(4096):
            file.write(chunk)
            bar.update(task, completed=file.tell())
            if file.tell() > LARGEST or time.monotonic() > give_up:
                raise DataError(f"sends more than {LARGEST} bytes, or for more than {DEADLINE} seconds")
