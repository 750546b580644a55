"""What this repository knows about a record: the claim of its experiment, and the command that makes it again.

An experiment is looked up among those that are there; the name in a record is never imported.
"""

import dataclasses
import json
import re
import shlex
from typing import Any

from experiments import EXPERIMENTS
from experiments.registry import SUMMARIES, find
from experiments.sweep import label
from experiments.sweeps import Sweep
from reports.collect import Record

_EMPHASIS = re.compile(r"(?<![\w*])\*(\w[\w ]*)\*(?![\w*])")

Block = list[list[str]]
"""A paragraph as one item, or a list as several; an item alternates between text and code, text first."""


def claim(record: Record) -> list[Block]:
    """What the experiment is about: the first paragraphs of its docstring, up to its claim; none if it is unknown."""
    name, base = record.result.experiment, _base(record)
    if name not in SUMMARIES:
        over = " and ".join(setting.replace("_", " ") for setting in record.swept)
        return [[[f"{SUMMARIES[base]}: over {over}."]]] if base else []
    experiment = find(name)
    docstring = None if isinstance(experiment, Sweep) else experiment.__doc__
    return _blocks(docstring or f"{SUMMARIES[name]}.")


def _blocks(docstring: str) -> list[Block]:
    paragraphs = docstring.strip().split("\n\n")
    begins = (number for number, text in enumerate(paragraphs[:4]) if text.startswith(("Claim", "The claim")))
    last = next(begins, 1)
    if last + 1 < len(paragraphs) and paragraphs[last].endswith(":"):
        last += 1  # the list that it announces
    return [_block(text) for text in paragraphs[: last + 1]]


def _block(paragraph: str) -> Block:
    items = re.split(r"^\* ", paragraph, flags=re.MULTILINE) if paragraph.startswith("* ") else [paragraph]
    return [_EMPHASIS.sub(r"\1", " ".join(item.split())).split("`") for item in items if item]


def command(record: Record) -> str | None:
    """The command that makes the record again with this version of the code; None if there is none."""
    name, base, config = record.result.experiment, _base(record), record.result.config
    if name in SUMMARIES:
        words, experiment = ["sublim", "reproduce", name], find(name)
    elif base:
        words, experiment = ["sublim", "sweep", base], find(base)
    else:
        return None
    preset = experiment.PRESETS.get(record.result.preset)
    if preset is None:
        return None
    words += ["--preset", record.result.preset]
    if isinstance(experiment, Sweep):
        if record.swept != _plain(experiment.values(record.result.preset)):
            return None
    else:
        for setting, values in record.swept.items():
            words += ["--vary", f"{setting}={','.join(map(label, values))}"]
    for setting, usual in _plain(dataclasses.asdict(preset)).items():
        if setting in config and config[setting] != usual:
            words += _option(setting.replace("_", "-"), config[setting])
    return shlex.join(words)


def _base(record: Record) -> str | None:
    """The experiment of an ad hoc sweep (`sublim sweep NAME`), if the record is of one."""
    base = record.result.experiment.removeprefix("sweep_")
    values = record.swept.values()
    lists = bool(values) and all(isinstance(each, list) and not any(map(_nested, each)) for each in values)
    return base if base != record.result.experiment and base in EXPERIMENTS and lists else None


def _nested(value: Any) -> bool:
    """Whether it is no setting of an experiment: those are numbers, words, and lists of them."""
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(each, list | dict) for each in value))


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _option(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
