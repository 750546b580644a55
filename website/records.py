"""The pages of the experiments: claim and finding, figures, numbers, command and what others report, from the records.

A page says nothing that is not in the module's docstring, in the record, or in `experiments/published.toml`.
"""

from pathlib import Path
from typing import Any

from experiments import tables
from experiments.registry import SUMMARIES, docstring
from experiments.sweeps import SWEEPS
from sublim_theory.record import Record, load

PRESETS = ("paper", "fashion", "default")
"""Those whose records are shown, the first one first."""

GROUPS = {
    "The experiment": ("fig10", "ablations", "traps"),
    "Theorem 1, one step": tuple(name for name in SUMMARIES if name.startswith("theorem_")),
    "Beyond one step": (),  # the rest
    "Sweeps": tuple(SWEEPS),
}
"""Heading in the navigation -> experiments."""

LONG = 12
"""A table with more rows is folded."""


def groups() -> dict[str, list[str]]:
    """Heading -> names of its experiments; every experiment has one."""
    placed = {name for names in GROUPS.values() for name in names}
    rest = [name for name in SUMMARIES if name not in placed]
    return {heading: list(names) or rest for heading, names in GROUPS.items()}


def pages() -> dict[str, str | Path]:
    """For each experiment its page, and every picture of the records; places are relative to `docs/`.

    Raises:
        RecordError: if a record is damaged.
    """
    made: dict[str, str | Path] = {}
    for name in SUMMARIES:
        made[f"experiments/{name}.md"] = page(name)
        for folder in folders(name):
            made |= {f"files/figures/{folder.name}/{path.name}": path for path in _files(folder)}
    return made


def sources() -> list[str]:
    """The files that the pages link to as the code of their experiment."""
    return sorted({_source(name) for name in SUMMARIES})


def _source(name: str) -> str:
    return "experiments/sweeps.py" if name in SWEEPS else f"experiments/{name}.py"


def folders(name: str) -> list[Path]:
    """The committed records of an experiment."""
    found = [tables.RECORDS / f"{name}-{preset}" for preset in PRESETS]
    return [folder for folder in found if (folder / "summary.json").exists()]


def page(name: str) -> str:
    """The page of an experiment."""
    source = _source(name)
    parts = [f"# {SUMMARIES[name]}"]
    if name not in SWEEPS:
        parts.append(docstring(name).partition("\n")[2].strip())
    if tables.questions(name):
        parts += ["## What others report", tables.published(tables.RECORDS, name)]
    for folder in folders(name):
        parts += _record(name, folder)
    parts.append(f"Code: [`{source}`](../files/{source}.md).")
    return "\n\n".join(parts) + "\n"


def _record(name: str, folder: Path) -> list[str]:
    record = load(folder)
    origin, preset = record.provenance, record.preset
    seeds = len(origin["seeds"])
    parts = [f"## {_title(record)} {{ #{preset} }}"]
    for path in _files(folder):
        if path.suffix == ".png":
            where = f"../files/figures/{folder.name}/{path.stem}"
            parts.append(f"[![{SUMMARIES[name]}: {_title(record)}]({where}.png){{ loading=lazy }}]({where}.svg)")
    table = tables.conditions(record)
    if len(record.conditions) > LONG:
        summary = f"All {len(record.conditions)} numbers: mean over the seeds ± 95% interval"
        parts.append(f'<details markdown="1"><summary>{summary}</summary>\n\n{table}\n</details>')
    else:
        parts.append(table)
    parts.append(f"```\nsublim reproduce {name} --preset {preset}\n```")
    parts.append(
        f"{seeds} seed{'s' * (seeds > 1)}, {_time(record.wall_seconds)} on {origin['device']} with {origin['cores']} "
        f"cores, JAX {origin['versions']['jax']}, matrix products at {origin['matmul_precision']!r} precision, commit "
        f"{(origin['commit'] or 'unknown')[:9]}. "
        f"[The record](../files/figures/{folder.name}/summary.json)."
    )
    return parts


def _title(record: Record) -> str:
    names = {"digits": "the embedded digits", "mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
    data: Any = record.config.get("dataset")
    return f"On {names[data]}" if data in names else f"Preset {record.preset}"


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in (".png", ".svg", ".json"))


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
