"""A network on which the conclusion of Theorem 1 is false: its settings and numbers, and what they say."""

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import jax
import numpy as np

from sublim_theory.protocols import lookup
from sublim_theory.theorem.problem import in_float64
from sublim_theory.theorem.witness_numbers import BATCH, SMALL, Numbers, draw, program

FAILS = {"offset": "minimum at z = y", "turning": "the null space of M is constant"}
"""The first hypothesis that each of the two fails; `hypotheses.check_loss` says the same."""


@dataclass(frozen=True)
class Witness:
    """One network on which the conclusion of the theorem is false.

    Attributes:
        name: the search that found it.
        seed: of the network and its data, for `numpy.random.default_rng` (whose streams a version of numpy may change).
        sizes: units of the layers, features first.
        inputs: number of the student's inputs, and of the teacher's.
        activation: one of `witness_numbers.ACTIVATIONS`.
        loss: the imitation loss, one of `witness_numbers.LOSSES`.
        epsilon: size of the teacher's step.
        alpha: size of the student's step.
        options: what else the search was told.
        numbers: what was computed; always `alignment`, the inner product of the student's update with the teacher's,
            which the theorem says is not negative, and `teacher_loss_change`, which it says is not positive.
    """

    name: str
    seed: int
    sizes: tuple[int, ...]
    inputs: int
    activation: str
    loss: str
    epsilon: float
    alpha: float
    options: dict[str, float | str]
    numbers: dict[str, float]

    @property
    def violates(self) -> bool:
        """Whether the numbers are those of a counter-example."""
        return bool(is_counterexample(self.name, self.numbers))

    def rerun(self) -> "Witness":
        """The same witness with its numbers computed anew from the seed; equal to it on the same machine."""
        return replace(self, numbers={name: float(values[0]) for name, values in successive_numbers(self).items()})

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and names, ready for JSON."""
        return asdict(self) | {"sizes": list(self.sizes)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Witness":
        """The witness whose `to_dict` that is."""
        return cls(**fields | {"sizes": tuple(fields["sizes"])})

    def __str__(self) -> str:
        """One sentence."""
        network = f"the {'-'.join(map(str, self.sizes))} {self.activation} network of seed {self.seed}"
        return _kind(self.name).sentence(self, network)


def successive_numbers(witness: Witness) -> Numbers:
    """The numbers of `BATCH` seeds from the witness's on: one compiled program for a search and for a rerun."""
    drawn = [draw(witness.seed + i, witness.sizes, witness.inputs) for i in range(BATCH)]
    words = tuple((key, value) for key, value in witness.options.items() if isinstance(value, str))
    values = {key: value for key, value in witness.options.items() if not isinstance(value, str)}
    compute = program(witness.name, witness.activation, witness.loss, words)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *drawn)
    with in_float64():
        return {key: np.asarray(row) for key, row in compute(stacked, witness.epsilon, witness.alpha, values).items()}


def is_counterexample(name: str, numbers: Numbers) -> Any:
    """Whether the numbers are those of a counter-example of that search; for each of an array of them."""
    kind = _kind(name)
    signs = [numbers[name] < 0 for name in ("alignment", *kind.negative)]
    signs += [numbers[name] > 0 for name in ("teacher_loss_change", *kind.positive)]
    return functools.reduce(np.logical_and, signs)


def _adam_sentence(witness: Witness, network: str) -> str:
    both = "teacher and student both take" if witness.options["teacher"] == "adam" else "the student takes"
    return (
        f"Adam: on {network}, where {both} a first step of Adam ({witness.loss} loss, eps = {witness.epsilon:g}), "
        f"d_S . d_T = {witness.numbers['alignment']:.4g} is negative ({witness.numbers['first_order']:.4g} to first "
        f"order), although plain gradient descent has {witness.numbers['gradient_descent_alignment']:.4g}; a step of "
        f"{witness.alpha:g} changes the teacher's loss by {witness.numbers['teacher_loss_change']:.4g}."
    )


def _large_sentence(witness: Witness, network: str) -> str:
    return (
        f"Large eps: on {network} ({witness.loss} loss), a teacher's step of eps = {witness.epsilon:g} gives "
        f"d_S . d_T = {witness.numbers['alignment']:.4g}, negative, where eps = {SMALL:g} gives "
        f"{witness.numbers['small_epsilon_alignment']:.4g}; the student's step of {witness.alpha:g} changes the "
        f"teacher's loss by {witness.numbers['teacher_loss_change']:.4g}."
    )


def _different_sentence(witness: Witness, network: str) -> str:
    return (
        f"Different initialisation: on {network} ({witness.loss} loss, eps = {witness.epsilon:g}), a student at "
        f"distance {witness.options['distance']:g} has d_S . d_T = {witness.numbers['alignment']:.4g}, negative, where "
        f"a student from the teacher's initialisation has {witness.numbers['shared_alignment']:.4g}; their steps of "
        f"{witness.alpha:g} change the teacher's loss by {witness.numbers['teacher_loss_change']:.4g} and "
        f"{witness.numbers['shared_teacher_loss_change']:.4g}."
    )


def _violating_sentence(witness: Witness, network: str) -> str:
    fails = f" fails the hypothesis {FAILS[witness.loss]!r}" if witness.loss in FAILS else ""
    return (
        f"Violating loss: the {witness.loss} loss{fails}; on {network} with "
        f"the {witness.options['trait']} trait, A = {witness.numbers['first_order']:.4g}, and yet d_S . d_T = "
        f"{witness.numbers['alignment']:.4g} at eps = {witness.epsilon:g} and "
        f"{witness.numbers['tenth_epsilon_alignment']:.4g} at a tenth of it, negative; a step of {witness.alpha:g} "
        f"changes the teacher's loss by {witness.numbers['teacher_loss_change']:.4g}."
    )


class _Kind(NamedTuple):
    """What a witness of one search says, and which numbers besides the alignment must be negative or positive."""

    sentence: Callable[[Witness, str], str]
    negative: tuple[str, ...] = ()
    positive: tuple[str, ...] = ()


_KINDS = {
    "adam_first_step": _Kind(_adam_sentence, ("first_order",), ("gradient_descent_alignment",)),
    "large_epsilon": _Kind(_large_sentence, (), ("small_epsilon_alignment",)),
    "different_initialisation": _Kind(_different_sentence, ("shared_teacher_loss_change",), ("shared_alignment",)),
    "violating_loss": _Kind(_violating_sentence, ("tenth_epsilon_alignment",)),
}


def _kind(name: str) -> _Kind:
    return lookup("counter-example", name, _KINDS)
