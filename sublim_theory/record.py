"""Records: a table with named axes, signed with where its numbers come from, saved so that no crash loses one.

A run's folder holds `summary.json` (what a person or another program reads: config, provenance, verdicts, statistics of
every condition), the table itself, `table-HASH.safetensors` (no pickle), and `chunks/` (finished seeds, so that an
interrupted run goes on). The summary is written from the table and is never parsed back into it. What is read may come
from anywhere: sizes are bounded, what a file declares is checked against what it holds, and damage is a `RecordError`
or a warning. Reading a record needs no JAX.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import logging
import math
import os
import platform
import re
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
import safetensors.numpy
from filelock import FileLock, Timeout

from sublim_theory.files import read_bounded
from sublim_theory.protocols import SublimError
from sublim_theory.statistics import Summary, summarize

if TYPE_CHECKING:
    import xarray

SCHEMA = 2
"""Version of the record and of the numbers in a chunk: raised when either changes meaning."""

LARGEST = 1 << 30
"""Bound in bytes on a table that is read; what is written stays below half of it."""
LARGEST_SUMMARY = 64 << 20
"""Bound in bytes on a `summary.json`."""

_LOG = logging.getLogger(__name__)  # without a handler, its warnings go to standard error as they are
_TEMPORARY = ".tmp-"
_KINDS = {"experiment": str, "preset": str, "config": dict, "provenance": dict, "expectations": list}
_FILE = re.compile(r"table-[0-9a-f]{16}\.safetensors")
_AXIS = re.compile(r"\{(\w+)\}")
_MEMBERS = 100_000  # variables of a table, at most
_PACKAGES = ("sublim-theory", "jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn")


class RecordError(SublimError, RuntimeError):
    """A record or chunk cannot be read or written; the message names the file and the way out."""


def label(value: Any) -> str:
    """A coordinate or a setting in words, as the command line takes it: layers as 256x256, nothing as `none`."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, tuple | list):
        return "x".join(map(label, value)) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


@dataclass(frozen=True, eq=False)
class Record:
    """The record of one run of an experiment.

    Attributes:
        experiment: name of the experiment, such as `fig10`.
        preset: name of the preset that the settings started from.
        config: every setting, by name.
        table: the numbers, variables over named axes such as `seed`, `network`, `step`. A variable whose attributes
            have `condition` and `over` is what the experiment is about; see `rows`.
        provenance: seeds, data checksum, versions, commit, device, precision, time; see `provenance`.
        wall_seconds: duration of the run that wrote the record, set-up and compilation included.
        expectations: rows of expected / produced / verdict, see `experiments.expectations`.
    """

    experiment: str
    preset: str
    config: dict[str, Any]
    table: "xarray.Dataset"
    provenance: dict[str, Any]
    wall_seconds: float
    expectations: list[dict[str, Any]]

    @cached_property
    def conditions(self) -> dict[str, Summary]:
        """Name -> statistics over the sample, of every condition."""
        return {row.name: row.summary for row in self.rows}

    @cached_property
    def rows(self) -> list["Row"]:
        """Every entry of every variable that has conditions.

        Its name is the attribute `condition`, with the entry's coordinates for the axes in braces
        (`accuracy/{network}`); its sample lies along the axis `over`. NaN is a value that has no meaning: it is left
        out, and an entry of nothing else is no condition. Infinity is a value, of which there is no interval.
        """
        found = []
        for variable, array in self.table.data_vars.items():
            if "condition" not in array.attrs:
                continue
            axes = [axis for axis in array.dims if axis != array.attrs["over"]]
            values = array.transpose(*axes, array.attrs["over"]).values.astype(np.float64)
            coordinates = [self.table[axis].values.tolist() for axis in axes]
            for place in np.ndindex(values.shape[:-1]):
                sample = values[place][~np.isnan(values[place])]
                if sample.size:
                    at = {str(axis): each[i] for axis, each, i in zip(axes, coordinates, place, strict=True)}
                    found.append(Row(_named(array.attrs["condition"], at), str(variable), at, _summary(sample)))
        return found

    def save(self, folder: Path) -> None:
        """Write the table, then `summary.json`, each atomically: the new record is there, or the old one still is.

        Raises:
            RecordError: if something cannot be written, or has no place in a record.
        """
        data = _table_to_bytes(self.table, folder)
        _table_from_bytes(data, folder)  # what could not be read again is not written
        digest = hashlib.sha256(data).hexdigest()
        file = folder / f"table-{digest[:16]}.safetensors"
        summary = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "table"}
        summary["conditions"] = {name: _for_json(value) for name, value in self.conditions.items()}
        summary["table"] = {"file": file.name, "sha256": digest}
        try:
            text = json.dumps({"schema": SCHEMA, **summary}, indent=2, allow_nan=False, default=_plain)
        except (TypeError, ValueError) as error:
            reason = f"{error}; settings and provenance are JSON"
            raise RecordError(f"cannot write a record to {folder}: {reason}") from error
        write_file(file, data)
        write_file(folder / "summary.json", text.encode() + b"\n")
        for old in folder.glob("table-*.safetensors"):
            if old != file:
                old.unlink(missing_ok=True)


class Row(NamedTuple):
    """A condition: one quantity at one place of the table, over the sample.

    Attributes:
        name: what it is called in the summary, in expected values and on pages.
        variable: of the table.
        at: axis -> coordinate.
        summary: its statistics.
    """

    name: str
    variable: str
    at: dict[str, Any]
    summary: Summary


def load(folder: str | Path) -> Record:
    """Read a record.

    Raises:
        RecordError: if a file is missing, damaged, of another schema, or the two do not belong together.
    """
    path = Path(folder) / "summary.json"
    try:
        summary = json.loads(read_bounded(path, LARGEST_SUMMARY), parse_constant=_refuse, parse_float=_finite)
        if summary["schema"] != SCHEMA:
            raise RecordError(f"{path} has another schema than {SCHEMA}; run the experiment again")
        for name, kind in _KINDS.items():
            if not isinstance(summary[name], kind):
                raise TypeError(f"{name} is a {type(summary[name]).__name__}")
        if not all(isinstance(row, dict) for row in summary["expectations"]):
            raise TypeError("expectations are no rows")
        seconds, file, digest = float(summary["wall_seconds"]), summary["table"]["file"], summary["table"]["sha256"]
        if not _FILE.fullmatch(file):
            raise ValueError(f"{file!r} is no name of a table")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise RecordError(f"cannot read the record {path}: {error!r:.300}; run the experiment again") from error
    path = path.with_name(file)
    try:
        data = read_bounded(path, LARGEST)
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error}; run the experiment again") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise RecordError(f"{path} does not belong to the summary beside it; run the experiment again")
    kept = {name: summary[name] for name in _KINDS}
    record = Record(**kept, table=_table_from_bytes(data, path), wall_seconds=seconds)
    try:
        with np.errstate(over="raise"):
            _ = record.rows
    except (ValueError, LookupError, TypeError, ArithmeticError) as error:
        raise RecordError(f"{path} has conditions that are none ({error!r:.300}); run the experiment again") from error
    return record


class ChunkStore:
    """Finished chunks of seeds in a folder, one file each.

    A chunk's file name is a hash of what its numbers depend on: the schema, the `identity` given here (config
    and data checksum) and its seeds. Its content is safetensors behind the SHA256 of it, so that a damaged file
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
            digest, data = content[:32], content[32:]
            if hashlib.sha256(data).digest() != digest:
                raise RecordError(f"{path} is damaged (its SHA256 is another)")
            arrays, _ = _arrays_from_bytes(data, path)
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
        data = _arrays_to_bytes(arrays, {}, path := self._path(seeds))
        write_file(path, hashlib.sha256(data).digest() + data)


def provenance(*, seeds: Sequence[int], dataset_checksum: str, matmul_precision: str) -> dict[str, Any]:
    """Where numbers came from: versions, commit and whether the tree was dirty, machine, device, settings."""
    return {
        "seeds": [int(seed) for seed in seeds],
        "dataset_sha256": dataset_checksum,
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES},
        **_commit(),
        **hardware(),
        "dtype": "float32",
        "matmul_precision": matmul_precision,
    }


def hardware() -> dict[str, Any]:
    """What computes here: devices, processor, and the cores that this process may use."""
    import jax
    import joblib

    device = jax.devices()[0]
    return {
        "device": f"{len(jax.devices())} x {device.device_kind} ({device.platform})",
        "processor": platform.processor() or platform.machine(),
        "cores": joblib.cpu_count(),  # of the affinity mask and of the container's quota
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
    temporary = path.parent / f"{_TEMPORARY}{uuid.uuid4().hex}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:  # of `tempfile` it would be this user's alone; here the umask decides
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise RecordError(f"cannot write {path}: {error}; choose another folder with --out") from error
    finally:
        with contextlib.suppress(OSError):  # what matters is raised above
            temporary.unlink(missing_ok=True)


def _named(condition: str, at: Mapping[str, Any]) -> str:
    """The name of a condition: its template with the coordinates for the axes in braces."""
    return _AXIS.sub(lambda match: label(at[match[1]]), condition)


def _summary(sample: np.ndarray) -> Summary:
    if np.isfinite(sample).all():
        return summarize(sample)
    mean = float("nan") if sample.min() == -sample.max() else float(sample[np.isinf(sample)][0])
    return Summary(mean, None, None, len(sample), tuple(sample.tolist()))


def _for_json(summary: Summary) -> dict[str, Any]:
    """With None for what JSON has no word for."""
    row = dataclasses.asdict(summary)
    values = [value if math.isfinite(value) else None for value in summary.values]
    return row | {"mean": summary.mean if math.isfinite(summary.mean) else None, "values": values}


def _plain(value: Any) -> Any:
    """A number of numpy as one of Python, for JSON."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r:.100} is not JSON")


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _finite(word: str) -> float:
    return number if math.isfinite(number := float(word)) else _refuse(word)


def _arrays_to_bytes(arrays: Mapping[str, np.ndarray], metadata: dict[str, str], path: Path) -> bytes:
    if (size := sum(array.nbytes for array in arrays.values())) > LARGEST // 2 or len(arrays) > _MEMBERS:
        raise RecordError(f"{path} would hold {size} bytes in {len(arrays)} arrays; run fewer seeds or points at once")
    try:
        return safetensors.numpy.save({name: np.array(array, order="C") for name, array in arrays.items()}, metadata)
    except (safetensors.SafetensorError, KeyError, TypeError) as error:
        raise RecordError(f"{path} takes no such array: {error!r:.300}; arrays hold numbers") from error


def _arrays_from_bytes(data: bytes, path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and metadata; safetensors checks every size against the bytes that are there."""
    try:
        arrays = {name: array.copy() for name, array in safetensors.numpy.load(data).items()}
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return arrays, header.get("__metadata__", {})
    except Exception as error:  # the library promises no set of exceptions for malformed input
        raise RecordError(f"{path} is damaged ({error!r:.300}); delete it and run the experiment again") from error


def _table_to_bytes(table: "xarray.Dataset", path: Path) -> bytes:
    structure = {
        "axes": {str(name): list(array.dims) for name, array in table.data_vars.items()},
        "attributes": {str(name): array.attrs for name, array in table.data_vars.items() if array.attrs},
        "coordinates": {str(name): values.values.tolist() for name, values in table.coords.items()},
    }
    arrays = {str(name): array.values for name, array in table.data_vars.items()}
    try:
        text = json.dumps(structure, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RecordError(f"{path} takes no such table: {error}; coordinates are numbers or words") from error
    return _arrays_to_bytes(arrays, {"table": text}, path)


def _table_from_bytes(data: bytes, path: Path) -> "xarray.Dataset":
    import xarray

    arrays, metadata = _arrays_from_bytes(data, path)
    try:
        structure = json.loads(metadata["table"], parse_constant=_refuse)
        attributes = {name: {str(k): str(v) for k, v in row.items()} for name, row in structure["attributes"].items()}
        table = xarray.Dataset(
            {name: (axes, arrays[name], attributes.get(name)) for name, axes in structure["axes"].items()},
            {name: (name, np.asarray(values)) for name, values in structure["coordinates"].items()},
        )
        for axis, values in table.coords.items():
            if values.dtype.kind not in "iufU" or not values.to_index().is_unique:
                raise ValueError(f"the coordinates of {str(axis)[:100]!r} are not numbers or words, each once")
        return table
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise RecordError(f"{path} is no table ({error!r:.300}); delete it and run the experiment again") from error
