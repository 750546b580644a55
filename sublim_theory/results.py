"""The former `Result`, for one release: use `sublim_theory.record`, whose `Record` has a table with named axes."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sublim_theory.record import ChunkStore, Record, RecordError, load, provenance, run_folder, write_file
from sublim_theory.statistics import Summary

__all__ = ["ChunkStore", "RecordError", "Result", "provenance", "run_folder", "write_file"]


@dataclass(frozen=True)
class Result:
    """A record with its conditions and arrays by name instead of a table; the attributes are those of `Record`."""

    experiment: str
    preset: str
    config: dict[str, Any]
    conditions: dict[str, Summary]
    provenance: dict[str, Any]
    wall_seconds: float
    expectations: list[dict[str, Any]]
    arrays: dict[str, np.ndarray]

    def save(self, folder: Path) -> None:
        """Write it as a `Record`. Raises `RecordError`."""
        table = {}
        for name, summary in self.conditions.items():
            axis = f"{name}/seed"
            table[f"{name}/values"] = xr.Variable((axis,), np.array(summary.values), {"condition": name, "over": axis})
        for name, array in self.arrays.items():
            table[name] = xr.Variable([f"{name}/{i}" for i in range(np.ndim(array))], np.asarray(array))
        kept = {field.name: getattr(self, field.name) for field in dataclasses.fields(Record) if field.name != "table"}
        Record(**kept, table=xr.Dataset(table)).save(Path(folder))

    @classmethod
    def load(cls, folder: Path, *, arrays: bool = True) -> "Result":
        """Read a record; without `arrays` what has no conditions is left out. Raises `RecordError`."""
        record = load(folder)
        rest = {str(name): array.values for name, array in record.table.data_vars.items() if not array.attrs}
        kept = {
            field.name: getattr(record, field.name) for field in dataclasses.fields(Record) if field.name != "table"
        }
        return cls(**kept, conditions=record.conditions, arrays=rest if arrays else {})
