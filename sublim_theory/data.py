"""Datasets: the embedded 8x8 digits, and MNIST and Fashion-MNIST from verified files.

`load` returns a complete `Dataset` or raises; it never falls back to another one. The files of the last two
are looked for in one folder: the argument `data_dir`, else the environment variable `SUBLIM_THEORY_DATA`,
else the platform's cache. What is missing there is downloaded into it; see `files`.
"""

import hashlib
import math
import struct
import zlib
from dataclasses import dataclass, field

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
        DataError: The folder or a file is missing, unreadable, corrupt or malformed, or all mirrors failed.
    """
    lookup("dataset", name, dict.fromkeys(NAMES))
    if name == "digits":
        return _digits()
    folder = files.data_root(data_dir) / name
    blobs = files.verified_bytes(name, folder, download, progress)
    arrays = {file: parse_idx(blob, name=str(folder / file)) for file, blob in blobs.items()}
    train_x, train_y, test_x, test_y = parts = list(arrays.values())
    for x, y in ((train_x, train_y), (test_x, test_y)):
        if x.ndim != 3 or y.shape != x.shape[:1] or x.shape[1:] != train_x.shape[1:] or y.max() > 9:
            facts = {file: f"shape {array.shape}, maximum {array.max()}" for file, array in arrays.items()}
            raise DataError(f"Files in {folder} do not fit together: {facts}. {files.remedy(name, folder)}")
    return _dataset(name, parts, white=255, content="\n".join(files.FILES[name].values()).encode())


def parse_idx(data: bytes, *, name: str) -> UInt8[np.ndarray, "..."]:
    """Unpack and parse a gzip-compressed IDX file, strictly and within `files.LARGEST` bytes.

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
        raw = unpacker.decompress(data, files.LARGEST + 1)
    except zlib.error as error:
        raise malformed(str(error)) from error
    if len(raw) > files.LARGEST:
        raise malformed(f"it unpacks to more than {files.LARGEST} bytes")
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
