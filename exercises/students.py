"""Hidden students of the experiment on predictors: what they start from, how they end, and a number known before."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from unittest import mock

import jax
import numpy as np

from exercises.answer import AnswerError
from experiments import predictors
from experiments.distillation import Rates, Split, Start
from sublim_theory import losses, training
from sublim_theory._types import Params

prepare = jax.jit(predictors.prepare, static_argnums=0)
"""Reference, trained teacher and inputs of a seed, where its student starts, and the rates of its training."""


@partial(jax.jit, static_argnums=0)
def distil(
    protocol: predictors.Protocol, rates: Rates, data: Split, drawn: Mapping[str, Any], start: Start, own: Params
) -> dict[str, jax.Array]:
    """The student's `accuracy` on test images, and the library's predictors of it, which know nothing of it."""
    net, optimizer = protocol.make_network(rates, data), protocol.make_optimizer(rates)
    loss = losses.on_logits(protocol.imitation_loss(rates), net.auxiliary)
    fit = training.distil(net, start.teacher.params, {"student": (own, loss)}, start.images, optimizer, start.batches)
    accuracy = training.accuracy(net, fit.params["student"], data.test_x, data.test_y)
    return {"accuracy": accuracy} | predictors.before_training(net, start, own, drawn, loss, optimizer)


def number(function: Callable[..., Any], *arguments: Any, **named: Any) -> float:
    """The finite number that a function of the answer returns, which must not train a student to find it."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AnswerError("it trains a network; asked is a number that is known before any student is trained")

    with mock.patch.multiple(training, fit=refuse, distil=refuse):  # what all training of the library goes through
        value = function(*arguments, **named)
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = np.nan
    assert np.isfinite(found), f"it must return one finite number, got {' '.join(repr(value).split()):.80}"
    return found
