"""Every experiment by name: the modules of this folder, and the sweeps."""

import importlib
from typing import Any

from experiments import EXPERIMENTS
from experiments.sweeps import SWEEPS
from sublim_theory.protocols import lookup

SUMMARIES = EXPERIMENTS | {name: each.summary for name, each in SWEEPS.items()}
"""Name -> the one line that `sublim list` shows."""


def find(name: str) -> Any:
    """What has the `Config`, the `PRESETS` and the `run` of an experiment: a module or a sweep.

    Raises:
        UnknownNameError: if there is none of that name.
    """
    lookup("experiment", name, SUMMARIES)
    return SWEEPS[name] if name in SWEEPS else importlib.import_module(f"experiments.{name}")
