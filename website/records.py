"""The pages of the experiments: claim and finding, figures, numbers, command and what others report, from the records.

A page says nothing that is not in the module's docstring, in the record, or in `figures/published.toml`.
"""

from functools import cache
from pathlib import Path
from typing import Any

from experiments import PRESETS, SUMMARIES, tables
from experiments.registry import docstring
from experiments.sweeps import SWEEPS
from sublim_theory.protocols import lookup
from sublim_theory.record import Record, load

_FIRST = ("fig10", "ablations", "traps")
_ONE_STEP = tuple(name for name in SUMMARIES if name.startswith("theorem_"))
GROUPS = {
    "The experiment": _FIRST,
    "Theorem 1, one step": _ONE_STEP,
    "Beyond one step": tuple(name for name in SUMMARIES if name not in (*_FIRST, *_ONE_STEP, *SWEEPS)),
    "Sweeps": tuple(SWEEPS),
}
"""Heading in the navigation -> experiments."""

LONG = 12
"""A table with more rows is folded."""

_read = cache(load)  # a page names a record many times


def define_env(env: Any) -> None:
    """Give `mean` to the pages that `mkdocs.yml` lists under `macros`."""
    env.macro(mean)


def mean(record: str, condition: str) -> str:
    """A mean with its interval; a record is a folder under `figures/`.

    Raises:
        RecordError: if there is no such record.
        UnknownNameError: if it has no such condition.
    """
    return tables.mean(lookup(f"condition of {record}", condition, _read(tables.RECORDS / record).conditions))


def page(name: str) -> str:
    """The page of an experiment, with links as from `docs/experiments/`.

    Raises:
        RecordError: if a record is damaged.
    """
    source = f"experiments/{'sweeps' if name in SWEEPS else name}.py"
    parts = [f"# {SUMMARIES[name]}"]
    if name not in SWEEPS:
        parts.append(docstring(name).partition("\n")[2].strip())
    if tables.questions(name):
        parts += ["## What others report", tables.published(tables.RECORDS, name)]
    for preset in sorted(PRESETS[name], key=lambda preset: {"paper": 0, "default": 2}.get(preset, 1)):
        folder = tables.RECORDS / f"{name}-{preset}"
        if (folder / "summary.json").exists():
            parts += _record(name, folder)
    parts.append(f"Code: [`{source}`](../../{source}).")
    return "\n\n".join(parts) + "\n"


def _record(name: str, folder: Path) -> list[str]:
    record, where = _read(folder), f"../../figures/{folder.name}"
    origin, preset = record.provenance, record.preset
    seeds, minutes = len(origin["seeds"]), record.wall_seconds / 60
    parts = [f"## {_title(record)} {{ #{preset} }}"]
    for path in sorted(folder.glob("*.png")):
        image = f"![{SUMMARIES[name]}: {_title(record)}]({where}/{path.name}){{ loading=lazy }}"
        parts.append(f"[{image}]({where}/{path.stem}.svg)")
    table = tables.conditions(record)
    if len(record.conditions) > LONG:
        summary = f"All {len(record.conditions)} numbers: mean over the seeds ± 95% interval"
        table = f'<details markdown="1"><summary>{summary}</summary>\n\n{table}\n</details>'
    parts += [table, f"```\nsublim reproduce {name} --preset {preset}\n```"]
    parts.append(
        f"{seeds} seed{'s' * (seeds > 1)}, {f'{minutes:.0f} min' if minutes > 2 else f'{60 * minutes:.0f} s'} on "
        f"{origin['device']} with {origin['cores']} cores, JAX {origin['versions']['jax']}, matrix products at "
        f"{origin['matmul_precision']!r} precision, commit {(origin['commit'] or 'unknown')[:9]}. "
        f"[The record]({where}/summary.json)."
    )
    return parts


def _title(record: Record) -> str:
    names = {"digits": "the embedded digits", "mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
    data: Any = record.config.get("dataset")
    if data not in names:
        return f"Preset {record.preset}"
    return f"On {names[data]}" + (
        "" if record.preset in ("paper", "fashion", "default") else f", preset {record.preset}"
    )
