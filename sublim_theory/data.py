"""Datasets: the embedded 8x8 digits, and MNIST and Fashion-MNIST from verified files.

`load` returns a complete `Dataset` or raises; it never falls back to another one. The files of the last two
are looked for in one folder: the argument `data_dir`, else the environment variable `SUBLIM_THEORY_DATA`,
else the platform's cache. What is missing there is downloaded into it; see `files`.
"""

import hashlib
import importlib.util
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32, UInt8
from numpy.typing import NDArray

from sublim_theory import files
from sublim_theory.files import DataError, Folder
from sublim_theory.protocols import lookup

NAMES = ("digits", "mnist", "fashion_mnist")
"""Names that `load` accepts."""


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
    train_x: Float32[np.ndarray, "train features"] = field(repr=False)
    train_y: Int32[np.ndarray, "train"] = field(repr=False)
    test_x: Float32[np.ndarray, "test features"] = field(repr=False)
    test_y: Int32[np.ndarray, "test"] = field(repr=False)
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

    def of_classes(self, count: int) -> "Dataset":
        """The images of the first `count` classes alone.

        Raises:
            DataError: There are fewer.
        """
        if not 1 <= count <= self.classes:
            raise DataError(f"{self.name} has {self.classes} classes, not {count}")
        train, test = self.train_y < count, self.test_y < count
        parts = self.train_x[train], self.train_y[train], self.test_x[test], self.test_y[test]
        return Dataset(self.name, *parts, self.image_shape, f"{self.checksum}/{count}")


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
        DataError: The folder or a file is missing, unreadable or corrupt, or all mirrors failed.
    """
    lookup("dataset", name, dict.fromkeys(NAMES))
    if name == "digits":
        return _digits()
    folder = files.data_root(data_dir) / name
    found = {file: files.find(name, folder, file) for file in files.FILES[name]}
    failures: list[str] = []
    if download and all(entry.state in ("verified", "missing") for entry, _ in found.values()):
        for file, (entry, _) in found.items():
            if entry.state == "missing" and not failures:
                failures = files.download(name, folder, file, progress)
                found[file] = files.find(name, folder, file)
    wrong = [f"  {e.path.name}: {e.state}, {e.detail}" for e, _ in found.values() if e.state != "verified"]
    if wrong:
        published = f"The published files are at {' and '.join(files.MIRRORS[name])}."
        advice = f"Put them into {folder}, packed or unpacked, deleting corrupt ones first; or {files.WAY_OUT}."
        raise DataError("\n".join([f"Cannot use {folder}:", *wrong, *failures, f"{published} {advice}"]))
    parts = [parse_idx(blob, name=str(entry.path)) for entry, blob in found.values()]
    return _dataset(name, parts, white=255, content="\n".join(files.FILES[name].values()).encode())


def parse_idx(data: bytes, *, name: str) -> UInt8[np.ndarray, "..."]:
    """Parse an IDX file, packed by gzip or not, strictly and within `files.LARGEST` bytes.

    Args:
        data: The file. Unpacked it is the magic number 0x801 (labels) or 0x803 (images), the sizes as big-endian
            uint32, none of them 0, and exactly as many bytes as these announce.
        name: What errors call it.

    Returns:
        A read-only uint8 array, [count] or [count, height, width].

    Raises:
        DataError: The data are anything else.
    """
    try:
        raw = files.unpack(data)
        if raw[:4] not in (b"\0\0\x08\x01", b"\0\0\x08\x03"):
            raise ValueError(f"magic number 0x{raw[:4].hex()}, expected 0x00000801 or 0x00000803")
        shape = tuple(np.frombuffer(raw, ">u4", count=raw[3], offset=4).tolist())
        start = 4 + 4 * len(shape)
        if 0 in shape or math.prod(shape) != len(raw) - start:
            raise ValueError(f"it announces the shape {shape} and holds {len(raw) - start} bytes")
    except ValueError as error:
        raise DataError(f"{name} is no IDX file: {error}. Delete it and get the published one.") from error
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def _digits() -> Dataset:
    """scikit-learn's digits, read from its file: importing it would take longer than the rest of a small run.

    The order is that of `train_test_split(test_size=360, random_state=0, stratify=labels)`, the test images last.
    """
    order = np.load(Path(__file__).with_name("digits_order.npy"))
    spec = importlib.util.find_spec("sklearn")
    file = Path((spec and spec.origin) or "").parent / "datasets" / "data" / "digits.csv.gz"
    if file.is_file():
        table = np.loadtxt(file, np.uint8, delimiter=",")
        images, labels = table[:, :-1], table[:, -1]
    else:
        from sklearn.datasets import load_digits

        images, labels = (array.astype(np.uint8) for array in load_digits(return_X_y=True))
    train, test = order[:-360], order[-360:]
    images = images.reshape(-1, 8, 8)
    parts = [images[train], labels[train], images[test], labels[test]]
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
