"""Where Theorem 1 stops: searches that return a small network on which its conclusion is false, to be rerun.

| search | what it drops |
|---|---|
| `adam_first_step` | the student's update is its gradient |
| `large_epsilon` | the teacher's step is small |
| `different_initialisation` | the two initialisations are the same |
| `violating_loss` | the imitation loss fulfils the hypotheses |

Every search draws its networks from `numpy.random.default_rng(seed)`, for one seed after the other, until one breaks
the conclusion. A witness can be rerun, anywhere: its numbers are computed from its seed and its settings alone.

    witness = adam_first_step()
    print(witness)
    assert witness.rerun() == witness

The setting is the paper's, small: 12 features, hidden layers of 16 and 16 and 8 outputs unless told otherwise, weights
N(0, 1/fan_in), biases 0. The last three outputs are auxiliary, the others classes. The teacher takes a gradient step
on the cross-entropy of the class logits with random labels on normal inputs; the student imitates the auxiliary logits
on other normal inputs.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sublim_theory.protocols import SublimError, lookup
from sublim_theory.theorem.arguments import require_count, require_positive, require_positives
from sublim_theory.theorem.witness import FAILS, Witness, is_counterexample, successive_numbers
from sublim_theory.theorem.witness_numbers import ACTIVATIONS, AUXILIARY, BATCH, LOSSES, SMALL

__all__ = [
    "ACTIVATIONS",
    "FAILS",
    "LOSSES",
    "NoCounterexample",
    "Witness",
    "adam_first_step",
    "different_initialisation",
    "large_epsilon",
    "violating_loss",
]

SIZES = (12, 16, 16, 8)
"""Units of the layers, features first, outputs last."""

INPUTS = 8
"""Number of the student's inputs, and of the teacher's, unless told otherwise."""


class NoCounterexample(SublimError):
    """A search ended without one; the message says where it looked."""


def adam_first_step(
    *,
    teacher: str = "sgd",
    epsilon: float = SMALL,
    alpha: float = 1e-4,
    adam_epsilon: float = 1e-8,
    activation: str = "tanh",
    loss: str = "kl",
    sizes: Sequence[int] = SIZES,
    inputs: int = 4,
    first_seed: int = 0,
    limit: int = 1000,
) -> Witness:
    """A student whose first step of Adam, `-g / (|g| + adam_epsilon)`, points away from the teacher's step.

    A fixed symmetric preconditioner of both steps would keep the theorem; a sign is none. To first order in eps the
    student's gradient is `-eps G d_T`, so its step is about `sign(G d_T)`, and nothing keeps `sign(G d_T) . d_T` from
    being negative although `d_T . G d_T` is not. Plain gradient descent on the same network is shown beside it. (Only
    eps with gradients far above adam_epsilon count: far below it, Adam's first step is plain gradient descent.)

    Args:
        teacher: `sgd`, so that d_T is minus the teacher's gradient, or `adam`, d_T being its first step of Adam too.
        epsilon: size of the teacher's step.
        alpha: size of the student's step, small enough that the sign of the alignment decides.
        adam_epsilon: Adam's eps.
        activation: one of `ACTIVATIONS`.
        loss: imitation loss, one of `LOSSES`.
        sizes: units of the layers, features first.
        inputs: number of the student's inputs, and of the teacher's; the fewer, the sooner there is one (tanh: one
            network in 70 with 4 of them, one in 400 with 8).
        first_seed: the first to try.
        limit: number of seeds to try.

    Raises:
        NoCounterexample: if there is none among them.
        ValueError: naming the argument that is wrong.
    """
    if teacher not in ("sgd", "adam"):
        raise ValueError(f"teacher must be 'sgd' or 'adam', got {teacher!r}")
    options: dict[str, float | str] = {
        "teacher": teacher,
        "adam_epsilon": require_positive("adam_epsilon", adam_epsilon),
    }
    start = _start("adam_first_step", first_seed, sizes, inputs, activation, loss, epsilon, alpha, options)
    return _search(start, limit)


def large_epsilon(
    *,
    epsilons: Sequence[float] = (10.0, 20.0, 50.0, 100.0),
    alpha: float = 1e-3,
    activation: str = "tanh",
    loss: str = "kl",
    sizes: Sequence[int] = SIZES,
    inputs: int = INPUTS,
    first_seed: int = 0,
    limit: int = 1000,
) -> Witness:
    """A teacher's step so large that the student's update points away from it: how small is "sufficiently small".

    Of 2,560 networks of the default setting none has a negative alignment at eps = 1, one in 50 at 10, one in 11 at 20,
    one in 4 at 50 and three in 8 at 100. (With 4 inputs, two of them at eps = 1.)

    Args:
        epsilons: sizes of the teacher's step; the whole range of seeds is tried for one before the next.
        alpha: as in `adam_first_step`, as are the others.
        activation: one of `ACTIVATIONS`.
        loss: imitation loss, one of `LOSSES`.
        sizes: units of the layers, features first.
        inputs: number of the student's inputs, and of the teacher's.
        first_seed: the first to try.
        limit: number of seeds to try.

    Raises:
        NoCounterexample: if there is none among them.
        ValueError: naming the argument that is wrong.
    """
    steps = require_positives("epsilons", epsilons)
    start = _start("large_epsilon", first_seed, sizes, inputs, activation, loss, steps[0], alpha, {})
    for step in steps[:-1]:
        with contextlib.suppress(NoCounterexample):
            return _search(replace(start, epsilon=step), limit)
    return _search(replace(start, epsilon=steps[-1]), limit)


def different_initialisation(
    *,
    epsilon: float = SMALL,
    alpha: float = 1e-2,
    distance: float = 1.0,
    activation: str = "tanh",
    loss: str = "kl",
    sizes: Sequence[int] = SIZES,
    inputs: int = INPUTS,
    first_seed: int = 0,
    limit: int = 1000,
) -> Witness:
    """A student from another initialisation whose update points away from the teacher's and raises its loss.

    Args:
        epsilon: size of the teacher's step.
        alpha: size of the student's step.
        distance: of the two initialisations, between 0 (the same) and 1 (independent): the student's is
            `sqrt(1 - distance**2)` of the teacher's and `distance` of another draw, so that its variance is kept.
        activation: as in `adam_first_step`, as are the others.
        loss: imitation loss, one of `LOSSES`.
        sizes: units of the layers, features first.
        inputs: number of the student's inputs, and of the teacher's.
        first_seed: the first to try.
        limit: number of seeds to try.

    Raises:
        NoCounterexample: if there is none among them.
        ValueError: naming the argument that is wrong.
    """
    if not 0 <= distance <= 1:
        raise ValueError(f"distance must be between 0 and 1, got {distance}")
    options: dict[str, float | str] = {"distance": float(distance)}
    start = _start("different_initialisation", first_seed, sizes, inputs, activation, loss, epsilon, alpha, options)
    return _search(start, limit)


def violating_loss(
    loss: str = "offset",
    *,
    trait: str | None = None,
    epsilon: float | None = None,
    alpha: float = 1e-4,
    activation: str = "tanh",
    sizes: Sequence[int] = SIZES,
    inputs: int = INPUTS,
    first_seed: int = 0,
    limit: int = 1000,
) -> Witness:
    """An imitation loss that fails a hypothesis, and a network on which the conclusion fails with it.

    * `offset`, `|z - 2 y|**2`, has no minimum at z = y. A is positive, but the student moves even where the teacher
      does not, whatever the trait: the alignment goes to a constant of either sign as eps goes to 0.
    * `turning`, `((z - y) . y)**2`, has a minimum at z = y, but the null space of M, all that is orthogonal to y, turns
      with y. A trait with `z . J d_T = 0` at every input has A = 0, and yet the student moves: its alignment is
      `2 eps**3 E |v|**2 (|v|**2 + z . w)` with `v = J d_T` and w half the second derivative of f along d_T, of either
      sign. The theorem says 0 at every eps.

    Args:
        loss: one of `LOSSES`.
        trait: `labels`, the cross-entropy with random labels; or `orthogonal`, a linear function of the parameters
            with minus gradient d_T, a random unit vector made orthogonal to `J^T z` at each of the student's inputs.
            `orthogonal` for the turning loss and `labels` for all others unless given.
        epsilon: size of the teacher's step: the alignment is negative there and at a tenth of it. 1e-2 for an
            orthogonal trait, whose alignment is of third order, and 1e-3 otherwise, unless given.
        alpha: size of the student's step.
        activation: one of `ACTIVATIONS`.
        sizes: units of the layers, features first.
        inputs: number of the student's inputs, and of the teacher's.
        first_seed: the first to try.
        limit: number of seeds to try.

    Raises:
        NoCounterexample: if there is none among them.
        ValueError: naming the argument that is wrong.
    """
    trait = trait or ("orthogonal" if loss == "turning" else "labels")
    if trait not in ("labels", "orthogonal"):
        raise ValueError(f"trait must be 'labels' or 'orthogonal', got {trait!r}")
    if epsilon is None:
        epsilon = 10 * SMALL if trait == "orthogonal" else SMALL
    start = _start("violating_loss", first_seed, sizes, inputs, activation, loss, epsilon, alpha, {"trait": trait})
    return _search(start, limit)


def _start(
    name: str,
    first_seed: int,
    sizes: Sequence[int],
    inputs: int,
    activation: str,
    loss: str,
    epsilon: float,
    alpha: float,
    options: dict[str, float | str],
) -> Witness:
    """What a search starts from: a witness without numbers, of the first seed."""
    if len(sizes) < 2 or min(sizes) < 1 or sizes[-1] < AUXILIARY + 2:
        raise ValueError(
            f"sizes must be positive numbers of units, the features first and at least {AUXILIARY + 2} outputs last "
            f"({AUXILIARY} are auxiliary), got {tuple(sizes)}"
        )
    lookup("activation", activation, ACTIVATIONS)
    lookup("loss", loss, LOSSES)
    return Witness(
        name,
        require_count("first_seed", first_seed, 0),
        tuple(sizes),
        require_count("inputs", inputs),
        activation,
        loss,
        require_positive("epsilon", epsilon),
        require_positive("alpha", alpha),
        options,
        {},
    )


def _search(start: Witness, limit: int) -> Witness:
    """The first seed that is a counter-example."""
    limit = require_count("limit", limit)
    last = start.seed + limit - 1
    for first in range(start.seed, last + 1, BATCH):
        found = is_counterexample(start.name, successive_numbers(replace(start, seed=first)))
        for seed in first + np.flatnonzero(found):
            witness = replace(start, seed=int(seed)).rerun()
            if witness.violates and seed <= last:
                return witness
    raise NoCounterexample(
        f"{start.name}: no counter-example among the {start.activation} networks of seeds {start.seed} to {last} with "
        f"the {start.loss} loss at eps = {start.epsilon:g}; raise limit, or move further from the theorem's hypotheses"
    )
