"""Hidden students of the experiment on predictors: what they start from, and how they end."""

import contextlib
from collections.abc import Mapping
from functools import partial
from typing import Any
from unittest import mock

import jax
import numpy as np

from exercises.answer import Answer, AnswerError
from experiments import predictors
from experiments.distillation import Rates, Split, Start
from sublim_theory import losses, training
from sublim_theory._types import Params

Drawn = Mapping[str, Any]
"""What a configuration draws: factors on settings, and the distance of the student's start from the reference."""

prepare = jax.jit(predictors.prepare, static_argnums=0)
"""Reference, trained teacher and inputs of a seed, where its student starts, and the rates of its training."""


@partial(jax.jit, static_argnums=0)
def distil(
    protocol: predictors.Protocol, rates: Rates, data: Split, drawn: Drawn, start: Start, own: Params
) -> dict[str, jax.Array]:
    """The student's `accuracy` on test images, and the library's predictors of it, which know nothing of it."""
    net, optimizer = protocol.make_network(rates, data), protocol.make_optimizer(rates)
    loss = losses.on_logits(protocol.imitation_loss(rates), net.auxiliary)
    fit = training.distil(net, start.teacher.params, {"student": (own, loss)}, start.images, optimizer, start.batches)
    accuracy = training.accuracy(net, fit.params["student"], data.test_x, data.test_y)
    return {"accuracy": accuracy} | predictors.before_training(net, start, own, drawn, loss, optimizer)


def number(answer: Answer, name: str, *arguments: Any, **named: Any) -> float:
    """The finite number that a function of the answer returns, which must not train a student to find it.

    Raises:
        AnswerError: if it trains, raises, or returns something else.
    """

    def refuse(*_: Any, **__: Any) -> Any:
        raise AnswerError(f"`{name}` trains a network; asked is a number that is known before any student is trained")

    with mock.patch.multiple(training, fit=refuse, distil=refuse):  # what all training of the library goes through
        value = answer.call(name, *arguments, **named)
    found = shape = None
    with answer.guarded(f"the value of `{name}`"), contextlib.suppress(TypeError, ValueError):
        shape = np.shape(value)
        found = float(np.asarray(value, np.float64)) if value is not None and shape == () else None
    if found is None or not np.isfinite(found):
        shown = f"an array {shape}" if shape else f"a {type(value).__name__}" if found is None else f"{found}"
        raise AnswerError(f"`{name}` must return one finite number, got {shown}")
    return found
