"""Every experiment by name: those of the modules of this folder, and the sweeps."""

import importlib

from experiments import EXPERIMENTS
from experiments.experiment import Experiment
from experiments.sweeps import SWEEPS
from sublim_theory.protocols import lookup

SUMMARIES = EXPERIMENTS | {name: each.summary for name, each in SWEEPS.items()}
"""Name -> the one line that `sublim list` shows."""


def find(name: str) -> Experiment:
    """An experiment or a sweep.

    Raises:
        UnknownNameError: if there is none of that name.
    """
    lookup("experiment", name, SUMMARIES)
    if name in SWEEPS:
        return SWEEPS[name]
    experiment: Experiment = importlib.import_module(f"experiments.{name}").EXPERIMENT
    return experiment


def docstring(name: str) -> str:
    """What an experiment claims and found, as its module has it; empty for a sweep of a table."""
    return importlib.import_module(f"experiments.{name}").__doc__ or "" if name in EXPERIMENTS else ""
