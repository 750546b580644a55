"""The setting of the exercise on three logits: what may be changed, within which bounds, and how a change is tried."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments import fig10
from experiments.distillation import NARROW, Rates
from experiments.experiment import Settings, run
from sublim_theory import losses, networks, noise
from sublim_theory.noise import NEED_IMAGES
from sublim_theory.optimizers import OPTIMIZERS
from sublim_theory.protocols import SublimError, lookup

BASELINE = Settings.of(
    fig10.Protocol, Rates, **NARROW | {"learning_rate": 3e-4, "noise_images": 8_000, "students": ("student_aux",)}
)
"""Three auxiliary logits and 504 updates of the student; what is not in `BOUNDS` or `CHOICES` is fixed."""

BOUNDS = {
    "learning_rate": (1e-5, 0.1),
    "init_scale": (0.25, 4.0),
    "noise_scale": (0.1, 10.0),
    "temperature": (0.1, 10.0),
    "momentum": (0.0, 0.99),
    "weight_decay": (0.0, 0.1),
}
"""Numbers that may be changed, with the smallest and the largest value."""

CHOICES = {
    "activation": tuple(networks.ACTIVATIONS),
    "bias": (True, False),
    "init": tuple(networks.INITIALISATIONS),
    "loss": tuple(losses.IMITATION),
    "noise": tuple(name for name in noise.DISTRIBUTIONS if name not in NEED_IMAGES),
    "optimizer": tuple(OPTIMIZERS),
}
"""Names that may be changed."""

LAYERS, WIDTH = 3, 128
"""Bounds on `hidden`, the widths of the hidden layers."""

HIDDEN_SEEDS = 1_000_000
"""Seeds from here on are the check's."""


class OutOfBounds(SublimError, ValueError):
    """A setting that may not be changed so far; the message names it."""


def changed(changes: Mapping[str, Any]) -> Settings[fig10.Protocol, Rates]:
    """The baseline with some settings changed.

    Raises:
        SublimError: for a setting or a value that is not allowed; the message names it.
    """
    if not isinstance(changes, Mapping):
        raise OutOfBounds(f"settings are a dict, such as {{'learning_rate': 1e-3}}, got {type(changes).__name__}")
    for name, value in changes.items():
        allowed = lookup("setting that may be changed", name, {**BOUNDS, **CHOICES, "hidden": ()})
        if name in CHOICES:
            fits, asked = any(type(value) is type(each) and value == each for each in allowed), f"one of {allowed}"
        elif name in BOUNDS:
            low, high = BOUNDS[name]
            fits = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
            asked = f"a number from {low:g} to {high:g}"
        else:
            widths = value if isinstance(value, tuple | list) and len(value) <= LAYERS else ()
            fits = bool(widths) and all(isinstance(width, int) and 1 <= width <= WIDTH for width in widths)
            asked = f"1 to {LAYERS} widths of at most {WIDTH}"
        if not fits:
            raise OutOfBounds(f"{name} must be {asked}, got {value!r}")
    try:
        return BASELINE.but(**{name: tuple(value) if name == "hidden" else value for name, value in changes.items()})
    except ValueError as error:
        raise OutOfBounds(str(error)) from error


def accuracies(settings: Mapping[str, Any], seeds: int = 8, first_seed: int = 0) -> np.ndarray:
    """Test accuracy of the auxiliary-only student with some settings changed, [seeds].

    The same seeds have the same digits, and their own initialisation and noise: compare two settings pair by pair.

    Args:
        settings: those that differ, such as `{"learning_rate": 1e-3}`.
        seeds: how many.
        first_seed: the first of them.

    Raises:
        SublimError: for a setting or a value that is not allowed, or if a loss becomes NaN or infinite.
    """
    asked = changed(settings).but(seeds=seeds, first_seed=first_seed)
    return np.asarray(run(fig10.EXPERIMENT, asked).conditions["student_aux"].values)
