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
from experiments.distillation import Split, Start, begin
from experiments.init_distance import moved
from sublim_theory import losses, training
from sublim_theory._types import Params

SETTINGS = ("learning_rate", "init_scale", "noise_scale")
"""Those that a configuration draws a factor on."""

Drawn = Mapping[str, Any]
"""The factors, and the distance of the student's start from the reference."""


@partial(jax.jit, static_argnums=0)
def prepare(config: predictors.Config, drawn: Drawn, seed: Any, data: Split) -> tuple[Start, Params]:
    """Reference, trained teacher and inputs of a seed, and where its student starts."""
    settings = {name: drawn[name] * getattr(config, name) for name in SETTINGS}
    teachers = config.with_numbers(settings | {"learning_rate": config.learning_rate})
    start = begin(teachers, teachers.network(data.train_x.shape[1]), seed, data)
    return start, moved(start, "interpolated", "all", drawn["distance"])


@partial(jax.jit, static_argnums=0)
def distil(config: predictors.Config, drawn: Drawn, start: Start, own: Params, data: Split) -> dict[str, jax.Array]:
    """The student's `accuracy` on test images, and the library's predictors of it, which know nothing of it."""
    theirs = config.with_numbers({"learning_rate": drawn["learning_rate"] * config.learning_rate})
    net = config.network(data.train_x.shape[1])
    loss = losses.on_logits(config.imitation_loss(), net.auxiliary)
    student = {"student": (own, loss)}
    fit = training.distil(net, start.teacher.params, student, start.images, theirs.make_optimizer(), start.batches)
    accuracy = training.accuracy(net, fit.params["student"], data.test_x, data.test_y)
    return {"accuracy": accuracy} | predictors.before_training(theirs, net, start, own, drawn, loss)


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
