"""The optimisers of teachers and students, by name; all are optax's."""

import math
from collections.abc import Callable

import jax
import optax

from sublim_theory.protocols import lookup, plain

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adam": lambda learning_rate, **_: optax.adam(learning_rate),
    "adamw": lambda learning_rate, weight_decay, **_: optax.adamw(learning_rate, weight_decay=weight_decay),
    "adam_l2": lambda learning_rate, weight_decay, **_: optax.chain(
        optax.add_decayed_weights(weight_decay), optax.adam(learning_rate)
    ),
    "sgd": lambda learning_rate, momentum, **_: optax.sgd(learning_rate, momentum or None),
}


def optimizer(
    name: str,
    learning_rate: float | jax.Array,
    *,
    momentum: float = 0.0,
    weight_decay: float | jax.Array = 0.0,
) -> optax.GradientTransformation:
    """The optax optimiser of that name: `adam`, `adamw`, `adam_l2` or `sgd`.

    Args:
        name: `adam` (0.9, 0.999, 1e-8), `adamw` (the same, decoupled decay), `adam_l2` (the same, decay added
            to the gradient: Adam rescales it to a full step wherever the data give no gradient) or `sgd`.
        learning_rate: step size, positive; may be traced.
        momentum: for `sgd` only, in [0, 1).
        weight_decay: for `adamw` and `adam_l2` only, at least 0; may be traced.

    Raises:
        ValueError: for an unknown name, a number out of range, or a setting that the optimiser does not have.
    """
    make = lookup("optimizer", name, OPTIMIZERS)
    if plain(learning_rate) and not (learning_rate > 0 and math.isfinite(learning_rate)):
        raise ValueError(f"learning_rate must be positive and finite, got {learning_rate}")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}")
    if plain(weight_decay) and not (weight_decay >= 0 and math.isfinite(weight_decay)):
        raise ValueError(f"weight_decay must be at least 0 and finite, got {weight_decay}")
    if momentum and name != "sgd":
        raise ValueError(f"momentum is for 'sgd', not {name!r}")
    if plain(weight_decay) and weight_decay and not name.startswith("adam_") and name != "adamw":
        raise ValueError(f"weight_decay is for 'adamw' and 'adam_l2', not {name!r}")
    return make(learning_rate, momentum=momentum, weight_decay=weight_decay)
