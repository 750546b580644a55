"""What this repository knows about a record; its experiment is looked up, and never imported by the name in there."""

import json
import shlex

from experiments import EXPERIMENTS, SUMMARIES
from experiments.experiment import Experiment
from experiments.registry import find
from sublim_theory.record import Record, label


def swept(record: Record) -> dict[str, list[str]]:
    """Axis -> values, in words, of what a record runs its experiment over; empty for most."""
    vary = record.config.get("vary")
    if not isinstance(vary, dict) or not all(isinstance(values, list) for values in vary.values()):
        return {}
    plain = all(isinstance(each, int | float | str) for values in vary.values() for each in values)
    return {axis: list(map(label, values)) for axis, values in vary.items()} if plain else {}


def experiment(record: Record) -> Experiment | None:
    """That of a record, or the one over which `sublim sweep NAME` made it; None if it is unknown."""
    if record.experiment in SUMMARIES:
        return find(record.experiment)
    prefix, _, name = record.experiment.partition("_")
    return find(name) if prefix == "sweep" and name in EXPERIMENTS and swept(record) else None


def command(record: Record) -> str | None:
    """The command that makes the record again with this version of the code; None if there is none."""
    found = experiment(record)
    if found is None or record.preset not in found.presets:
        return None
    preset, named = found.presets[record.preset], found.name == record.experiment
    vary = found.vary(preset, record.preset) if named and found.of and found.vary else None
    if vary and swept(record) != {axis: list(map(label, values)) for axis, values in vary.items()}:
        return None
    words = ["sublim", "reproduce" if named else "sweep", found.name, "--preset", record.preset]
    for axis, values in () if named else swept(record).items():
        words += ["--vary", f"{axis}={','.join(values)}"]
    for setting, usual in json.loads(json.dumps(preset.flat())).items():
        option, value = setting.replace("_", "-"), record.config.get(setting, usual)
        if value != usual and isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif value != usual:
            words += [f"--{option}", *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(words)
