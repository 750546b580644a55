"""Every experiment by name: those of the modules of this folder, and the sweeps."""

import importlib
from typing import TYPE_CHECKING

from experiments import EXPERIMENTS, SUMMARIES
from sublim_theory.protocols import lookup

if TYPE_CHECKING:
    from experiments.experiment import Experiment


def find(name: str) -> "Experiment":
    """An experiment or a sweep.

    Raises:
        UnknownNameError: if there is none of that name.
    """
    lookup("experiment", name, SUMMARIES)
    if name not in EXPERIMENTS:
        from experiments.sweeps import SWEEPS

        return SWEEPS[name]
    experiment: Experiment = importlib.import_module(f"experiments.{name}").EXPERIMENT
    return experiment


def docstring(name: str) -> str:
    """What an experiment claims and found, as its module has it; empty for a sweep of a table."""
    return importlib.import_module(f"experiments.{name}").__doc__ or "" if name in EXPERIMENTS else ""
