"""Records: everything needed to read, check and redo a run, saved so that no crash can leave half a file.

A run's folder holds `summary.json` (what a person reads), `arrays.npz` (no pickle) and `chunks/` (finished
seeds, so that an interrupted run goes on). Reading a record needs no JAX. What is read may come from anywhere: sizes
are bounded, what a file declares is checked against what it holds, and damage is a `RecordError` or a warning.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import io
import json
import logging
import math
import os
import platform
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from filelock import FileLock, Timeout

from sublim_theory.files import read_bounded
from sublim_theory.protocols import SublimError
from sublim_theory.statistics import Summary, summarize

SCHEMA = 1
"""Version of the record and of the numbers in a chunk: raised when either changes meaning."""

LARGEST = 1 << 30
"""Bound in bytes on an archive that is read, packed or unpacked; what is written stays below half of it."""
LARGEST_SUMMARY = 64 << 20
"""Bound in bytes on a `summary.json`."""

_LOG = logging.getLogger(__name__)  # without a handler, its warnings go to standard error as they are
_TEMPORARY = ".tmp-"
_KINDS = {"experiment": str, "preset": str, "config": dict, "provenance": dict, "expectations": list}
_MEMBERS = 100_000  # arrays of an archive, at most: the directory costs memory before any of them is read
_PACKAGES = ("sublim-theory", "jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn")


class RecordError(SublimError, RuntimeError):
    """A record or chunk cannot be read or written; the message names the file and the way out."""


@dataclass(frozen=True)
class Result:
    """The record of one experiment.

    Attributes:
        experiment: name of the experiment, such as `fig10`.
        preset: name of the preset that the config started from.
        config: every setting, by name.
        conditions: name -> statistics over the seeds.
        provenance: seeds, data checksum, versions, commit, device, precision, time; see `provenance`.
        wall_seconds: duration of the run that wrote the record, set-up and compilation included.
        expectations: rows of expected / produced / verdict, see `experiments.expectations`.
        arrays: name -> array, for figures and further analysis.
    """

    experiment: str
    preset: str
    config: dict[str, Any]
    conditions: dict[str, Summary]
    provenance: dict[str, Any]
    wall_seconds: float
    expectations: list[dict[str, Any]]
    arrays: dict[str, np.ndarray]

    def save(self, folder: Path) -> None:
        """Write `arrays.npz`, then `summary.json`, each atomically. Raises `RecordError`."""
        data = _to_npz(self.arrays, folder / "arrays.npz")
        write_file(folder / "arrays.npz", data)
        record = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        record["conditions"] = {name: dataclasses.asdict(value) for name, value in self.conditions.items()}
        record["arrays"] = {"file": "arrays.npz", "sha256": hashlib.sha256(data).hexdigest()}
        text = json.dumps({"schema": SCHEMA, **record}, indent=2, allow_nan=False)
        write_file(folder / "summary.json", text.encode() + b"\n")

    @classmethod
    def load(cls, folder: Path, *, arrays: bool = True) -> "Result":
        """Read a record; without `arrays` from `summary.json` alone.

        Raises:
            RecordError: if a file is missing, damaged, of another schema, or the two do not belong together.
        """
        path = Path(folder) / "summary.json"
        try:
            record = json.loads(read_bounded(path, LARGEST_SUMMARY), parse_constant=_refuse, parse_float=_finite)
            if record.pop("schema") != SCHEMA:
                raise RecordError(f"{path} has another schema than {SCHEMA}; run the experiment again")
            expected = record.pop("arrays")["sha256"]
            record["wall_seconds"] = _summary([record["wall_seconds"]]).mean
            conditions = {name: _summary(row["values"]) for name, row in record.pop("conditions").items()}
            result = cls(**record, conditions=conditions, arrays={})
            for name, kind in _KINDS.items():
                if not isinstance(record[name], kind):
                    raise TypeError(f"{name} is a {type(record[name]).__name__}")
        except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise RecordError(f"cannot read the record {path}: {error!r:.300}; run the experiment again") from error
        if not arrays:
            return result
        path = path.with_name("arrays.npz")
        try:
            data = read_bounded(path, LARGEST)
        except OSError as error:
            raise RecordError(f"cannot read {path}: {error}; run the experiment again") from error
        if hashlib.sha256(data).hexdigest() != expected:
            raise RecordError(f"{path} does not belong to the summary beside it; run the experiment again")
        return dataclasses.replace(result, arrays=_from_npz(data, path))


class ChunkStore:
    """Finished chunks of seeds in a folder, one file each.

    A chunk's file name is a hash of what its numbers depend on: the schema, the `identity` given here (config
    and data checksum) and its seeds. Its content is an npz archive behind the SHA256 of it, so that a damaged file
    is known before it is parsed, and never used.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]):
        self.folder = Path(folder)
        self.identity = identity

    def _path(self, seeds: Sequence[int]) -> Path:
        material = json.dumps({"schema": SCHEMA, "seeds": list(seeds), **self.identity}, sort_keys=True)
        return self.folder / f"{hashlib.sha256(material.encode()).hexdigest()[:32]}.chunk"

    def get(self, seeds: Sequence[int]) -> dict[str, np.ndarray] | None:
        """The arrays of exactly these seeds, or None if they are not there, or damaged, of which a warning tells."""
        path = self._path(seeds)
        try:
            content = read_bounded(path, LARGEST)
            digest, archive = content[:32], content[32:]
            if hashlib.sha256(archive).digest() != digest:
                raise RecordError(f"{path} is damaged (its SHA256 is another)")
            arrays = _from_npz(archive, path)
            if not arrays or any(array.shape[:1] != (len(seeds),) for array in arrays.values()):
                raise RecordError(f"{path} does not hold {len(seeds)} seeds")
            return arrays
        except FileNotFoundError:
            return None
        except (OSError, RecordError) as error:
            _LOG.warning("%s; computing again: seeds %s", error, ", ".join(map(str, seeds)))
            return None

    def put(self, seeds: Sequence[int], arrays: Mapping[str, np.ndarray]) -> None:
        """Keep the arrays [seeds, ...] of these seeds, atomically. Raises `RecordError`."""
        archive = _to_npz(arrays, path := self._path(seeds))
        write_file(path, hashlib.sha256(archive).digest() + archive)


def provenance(*, seeds: Sequence[int], dataset_checksum: str, matmul_precision: str) -> dict[str, Any]:
    """Where numbers came from: versions, commit and whether the tree was dirty, machine, device, settings."""
    import jax

    device = jax.devices()[0]
    return {
        "seeds": [int(seed) for seed in seeds],
        "dataset_sha256": dataset_checksum,
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES},
        **_commit(),
        "device": f"{len(jax.devices())} x {device.device_kind} ({device.platform})",
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "dtype": "float32",
        "matmul_precision": matmul_precision,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> dict[str, Any]:
    """Commit of the source tree, and whether tracked files differed from it; None outside a checkout."""
    root = Path(__file__).parent.parent

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *words], check=True, capture_output=True, text=True, timeout=10
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return {"commit": None, "dirty": None}
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


@contextlib.contextmanager
def run_folder(folder: Path) -> Iterator[Path]:
    """A folder that takes files and that no other run writes to, for as long as the context lasts.

    Temporary files that a killed run left there are removed. The lock goes with the process, however it ends.

    Raises:
        RecordError: if the folder cannot be written to, or another run holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock").acquire(timeout=0)
    except Timeout as error:
        raise RecordError(f"another run is writing to {folder}; wait for it, or give another --out") from error
    except OSError as error:
        raise RecordError(f"cannot write to {folder}: {error}; choose another folder with --out") from error
    with lock:
        probe = folder / ".writable"
        write_file(probe, b"")
        probe.unlink(missing_ok=True)
        for leftover in folder.rglob(f"{_TEMPORARY}*"):
            leftover.unlink(missing_ok=True)
        yield folder


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: a temporary file in the same folder, flushed, then renamed.

    Raises:
        RecordError: if it cannot be written; what was there before is untouched.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=_TEMPORARY, delete=False) as file:
            temporary = Path(file.name)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise RecordError(f"cannot write {path}: {error}; choose another folder with --out") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):  # what matters is raised above
                temporary.unlink(missing_ok=True)


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _finite(word: str) -> float:
    return number if math.isfinite(number := float(word)) else _refuse(word)


def _summary(values: Any) -> Summary:
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise TypeError("the values of a condition are not a list of numbers")
    with np.errstate(over="raise"):
        return summarize(values)


def _to_npz(arrays: Mapping[str, np.ndarray], path: Path) -> bytes:
    if (size := sum(np.asarray(array).nbytes for array in arrays.values())) > LARGEST // 2 or len(arrays) > _MEMBERS:
        raise RecordError(f"{path} would hold {size} bytes in {len(arrays)} arrays; run fewer seeds or points at once")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _from_npz(data: bytes, path: Path) -> dict[str, np.ndarray]:
    """The arrays of an archive; numpy's own reader would allocate whatever a header declares."""
    try:
        if data.count(b"PK\1\2") > _MEMBERS:
            raise ValueError(f"more than {_MEMBERS} arrays")
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > LARGEST:
                raise ValueError(f"it unpacks to more than {LARGEST} bytes")
            if not {member.compress_type for member in members} <= {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise ValueError("a compression that numpy does not write")
            return {member.filename.removesuffix(".npy"): _from_npy(archive, member) for member in members}
    except Exception as error:  # zipfile, zlib and numpy promise no set of exceptions for malformed input
        raise RecordError(f"{path} is damaged ({error!r:.300}); delete it and run the experiment again") from error


def _from_npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        data = file.read(member.file_size)  # with a number: without one, a member may unpack to more than it declares
    start = io.BytesIO(data)
    if np.lib.format.read_magic(start) != (1, 0):
        raise ValueError("another format than 1.0")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(start)
    held = len(data) - start.tell()
    sizes = [*shape, dtype.itemsize]
    if dtype.kind not in "biufcSU" or min(sizes) < 0 or not dtype.itemsize or math.prod(sizes) != held:
        raise ValueError(f"{held} bytes are declared as {dtype} of shape {shape}")
    return np.ndarray(shape, dtype, data, start.tell(), order="F" if fortran_order else "C").copy(order="K")
