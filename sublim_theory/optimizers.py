"""The optimisers of teachers and students, by name; all are optax's."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from sublim_theory._types import Params, Scalar
from sublim_theory.protocols import lookup, plain, positive_unless_traced, require_number

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adam": lambda learning_rate, **_: optax.adam(learning_rate),
    "adamw": lambda learning_rate, weight_decay, **_: optax.adamw(learning_rate, weight_decay=weight_decay),
    "adam_l2": lambda learning_rate, weight_decay, **_: optax.chain(
        optax.add_decayed_weights(weight_decay), optax.adam(learning_rate)
    ),
    "sgd": lambda learning_rate, momentum, **_: optax.sgd(learning_rate, momentum or None),
}


def optimizer(
    name: str, learning_rate: Scalar, *, momentum: Scalar = 0.0, weight_decay: Scalar = 0.0
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
    momentum = require_number("momentum", momentum)
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}")
    if momentum and name != "sgd":
        raise ValueError(f"momentum is for 'sgd', not {name!r}")
    learning_rate = positive_unless_traced("learning_rate", learning_rate)
    if plain(weight_decay):
        weight_decay = require_number("weight_decay", weight_decay)
        if weight_decay < 0:
            raise ValueError(f"weight_decay must be at least 0, got {weight_decay}")
        if weight_decay and name not in ("adamw", "adam_l2"):
            raise ValueError(f"weight_decay is for 'adamw' and 'adam_l2', not {name!r}")
    rule = make(learning_rate, momentum=momentum, weight_decay=weight_decay)

    def update(gradients: Params, state: Any, params: Params = None) -> tuple[Params, Any]:
        with jax.numpy_dtype_promotion("standard"):  # optax's Adam counts in integers and needs it
            return rule.update(gradients, state, params)

    return optax.GradientTransformation(rule.init, update)
