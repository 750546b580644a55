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
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from sublim_theory import losses, trees
from sublim_theory.protocols import Apply, Params, PerExampleLoss, SublimError, lookup
from sublim_theory.theorem.alignment import first_order
from sublim_theory.theorem.hypotheses import offset_loss, turning_loss
from sublim_theory.theorem.problem import in_float64, require_positive
from sublim_theory.theorem.updates import TeacherLoss, change_along, student_update, teacher_update

SIZES = (12, 16, 16, 8)
"""Units of the layers, features first, outputs last."""

AUXILIARY = 3
"""How many of the outputs, the last ones, the student imitates; the others are the teacher's classes."""

INPUTS = 8
"""Number of the student's inputs, and of the teacher's, unless told otherwise."""

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": jnp.tanh,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
}

LOSSES: dict[str, PerExampleLoss] = {**losses.IMITATION, "offset": offset_loss, "turning": turning_loss}
"""The imitation losses, and two that fail the hypotheses."""

FAILS = {"offset": "minimum at z = y", "turning": "the null space of M is constant"}
"""The first hypothesis that each of those two fails; `hypotheses.check_loss` says the same."""

SMALL = 1e-3
"""The teacher's step at which the theorem's conclusion is shown beside its failure at a large one."""

BATCH = 128
"""Networks that are computed at one time, of successive seeds."""


Numbers: TypeAlias = dict[str, Any]
"""What a search computes of one network, by name, or of a stack of them."""


class NoCounterexample(SublimError):
    """A search ended without one; the message says where it looked."""


@dataclass(frozen=True)
class Witness:
    """One network on which the conclusion of the theorem is false.

    Attributes:
        name: the search that found it.
        seed: of the network and its data, for `numpy.random.default_rng` (whose streams a version of numpy may change).
        sizes: units of the layers, features first.
        inputs: number of the student's inputs, and of the teacher's.
        activation: one of `ACTIVATIONS`.
        loss: the imitation loss, one of `LOSSES`.
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
        return bool(_kind(self.name).violates(self.numbers))

    def rerun(self) -> "Witness":
        """The same witness with its numbers computed anew from the seed; equal to it on the same machine."""
        with in_float64():
            return replace(self, numbers={name: float(values[0]) for name, values in _numbers(self).items()})

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
    options: dict[str, float | str] = {"teacher": teacher, "adam_epsilon": _positive("adam_epsilon", adam_epsilon)}
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
    steps = [_positive("epsilons", epsilon) for epsilon in epsilons]
    if not steps:
        raise ValueError("epsilons are empty; give at least one size of the teacher's step")
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


class _Drawn(NamedTuple):
    """A random problem, in arrays of numpy or traced ones.

    Attributes:
        params: the teacher's initialisation.
        other: another one.
        teacher_inputs: [inputs, features].
        labels: of the teacher's inputs, [inputs].
        inputs: the student's, [inputs, features].
        direction: normal numbers, like `params`.
    """

    params: Params
    other: Params
    teacher_inputs: Any
    labels: Any
    inputs: Any
    direction: Params


def _draw(seed: int, sizes: tuple[int, ...], inputs: int) -> _Drawn:
    rng = np.random.default_rng(seed)

    def layers(scaled: bool) -> Params:
        return {
            f"layer_{i}": {
                "kernel": rng.normal(size=shape) / (math.sqrt(shape[0]) if scaled else 1),
                "bias": np.zeros(shape[1]) if scaled else rng.normal(size=shape[1]),
            }
            for i, shape in enumerate(itertools.pairwise(sizes))
        }

    return _Drawn(
        params=layers(scaled=True),
        other=layers(scaled=True),
        teacher_inputs=rng.normal(size=(inputs, sizes[0])),
        labels=rng.integers(sizes[-1] - AUXILIARY, size=inputs),
        inputs=rng.normal(size=(inputs, sizes[0])),
        direction=layers(scaled=False),
    )


def _network(activation: str) -> Apply:
    act = ACTIVATIONS[activation]

    def f(params: Params, x: jax.Array) -> jax.Array:
        for i in range(len(params)):
            layer = params[f"layer_{i}"]
            x = (act(x) if i else x) @ layer["kernel"] + layer["bias"]
        return x

    return f


def _cross_entropy(f: Apply, drawn: _Drawn) -> TeacherLoss:
    return lambda theta: jnp.mean(losses.cross_entropy(f(theta, drawn.teacher_inputs)[:, :-AUXILIARY], drawn.labels))


def _orthogonal(f: Apply, drawn: _Drawn) -> TeacherLoss:
    """`-d . theta`, with d the drawn direction less its part along each `J(x)^T z(x)`, of unit length."""
    flat, unflatten = ravel_pytree(drawn.params)
    d, _ = ravel_pytree(drawn.direction)

    def row(x: jax.Array) -> jax.Array:
        z, pull_back = jax.vjp(lambda theta: f(unflatten(theta), x[None])[0, -AUXILIARY:], flat)
        return pull_back(z)[0]

    basis, _ = jnp.linalg.qr(jax.vmap(row)(drawn.inputs).T)
    for _ in range(2):  # once more for the rounding of the first
        d = d - basis @ (basis.T @ d)
    d = d / jnp.linalg.norm(d)
    return lambda theta: -jnp.vdot(d, ravel_pytree(theta)[0])


class _Case(NamedTuple):
    """One random problem with everything that a search computes from: traced values, but for the functions."""

    f: Apply
    imitation_loss: PerExampleLoss
    drawn: _Drawn
    epsilon: Any
    alpha: Any
    options: dict[str, Any]

    def student(self, d_teacher: Params, epsilon: Any, start: Params | None = None) -> Params:
        """`d_S(eps)`, from the shared initialisation or another."""
        labels_from = trees.axpy(epsilon, d_teacher, self.drawn.params)
        start = self.drawn.params if start is None else start
        return student_update(self.f, start, labels_from, self.drawn.inputs, self.imitation_loss)

    def product(self, d_teacher: Params) -> Params:
        """`G d_T`."""
        return first_order(self.f, self.drawn.params, d_teacher, self.drawn.inputs, self.imitation_loss).product

    def change(self, teacher_loss: TeacherLoss, step: Params, start: Params | None = None) -> jax.Array:
        """Of the teacher's loss, by the student's step of size alpha."""
        start = self.drawn.params if start is None else start
        return change_along(teacher_loss, start, trees.scale(self.alpha, step))


def _adam_numbers(case: _Case) -> Numbers:
    teacher_loss = _cross_entropy(case.f, case.drawn)
    tiny = case.options["adam_epsilon"]

    def adam(ascent: Params, size: Any = 1.0) -> Params:
        """The first step of Adam along a gradient of `size` times that; its moments are the gradient and its square."""
        return jax.tree.map(lambda g: size * g / (jnp.abs(size * g) + tiny), ascent)

    d_teacher = teacher_update(teacher_loss, case.drawn.params)
    if case.options["teacher"] == "adam":
        d_teacher = adam(d_teacher)
    plain = case.student(d_teacher, case.epsilon)
    step = adam(plain)
    return {
        "alignment": trees.dot(step, d_teacher),
        "first_order": trees.dot(adam(case.product(d_teacher), case.epsilon), d_teacher),
        "gradient_descent_alignment": trees.dot(plain, d_teacher),
        "teacher_loss_change": case.change(teacher_loss, step),
    }


def _adam_sentence(witness: Witness, network: str) -> str:
    both = "teacher and student both take" if witness.options["teacher"] == "adam" else "the student takes"
    return (
        f"Adam: on {network}, where {both} a first step of Adam ({witness.loss} loss, eps = {witness.epsilon:g}), "
        f"d_S . d_T = {witness.numbers['alignment']:.4g} is negative ({witness.numbers['first_order']:.4g} to first "
        f"order), although plain gradient descent has {witness.numbers['gradient_descent_alignment']:.4g}; a step of "
        f"{witness.alpha:g} changes the teacher's loss by {witness.numbers['teacher_loss_change']:.4g}."
    )


def _large_numbers(case: _Case) -> Numbers:
    teacher_loss = _cross_entropy(case.f, case.drawn)
    d_teacher = teacher_update(teacher_loss, case.drawn.params)
    step = case.student(d_teacher, case.epsilon)
    return {
        "alignment": trees.dot(step, d_teacher),
        "first_order": trees.dot(case.product(d_teacher), d_teacher),
        "small_epsilon_alignment": trees.dot(case.student(d_teacher, SMALL), d_teacher),
        "teacher_loss_change": case.change(teacher_loss, step),
    }


def _large_sentence(witness: Witness, network: str) -> str:
    return (
        f"Large eps: on {network} ({witness.loss} loss), a teacher's step of eps = {witness.epsilon:g} gives "
        f"d_S . d_T = {witness.numbers['alignment']:.4g}, negative, where eps = {SMALL:g} gives "
        f"{witness.numbers['small_epsilon_alignment']:.4g}; the student's step of {witness.alpha:g} changes the "
        f"teacher's loss by {witness.numbers['teacher_loss_change']:.4g}."
    )


def _different_numbers(case: _Case) -> Numbers:
    teacher_loss = _cross_entropy(case.f, case.drawn)
    distance = case.options["distance"]
    start = jax.tree.map(lambda a, b: jnp.sqrt(1 - distance**2) * a + distance * b, case.drawn.params, case.drawn.other)
    d_teacher = teacher_update(teacher_loss, case.drawn.params)
    step, shared = case.student(d_teacher, case.epsilon, start), case.student(d_teacher, case.epsilon)
    return {
        "alignment": trees.dot(step, d_teacher),
        "shared_alignment": trees.dot(shared, d_teacher),
        "teacher_loss_change": case.change(teacher_loss, step, start),
        "shared_teacher_loss_change": case.change(teacher_loss, shared),
    }


def _different_sentence(witness: Witness, network: str) -> str:
    return (
        f"Different initialisation: on {network} ({witness.loss} loss, eps = {witness.epsilon:g}), a student at "
        f"distance {witness.options['distance']:g} has d_S . d_T = {witness.numbers['alignment']:.4g}, negative, where "
        f"a student from the teacher's initialisation has {witness.numbers['shared_alignment']:.4g}; their steps of "
        f"{witness.alpha:g} change the teacher's loss by {witness.numbers['teacher_loss_change']:.4g} and "
        f"{witness.numbers['shared_teacher_loss_change']:.4g}."
    )


def _violating_numbers(case: _Case) -> Numbers:
    trait = _orthogonal if case.options["trait"] == "orthogonal" else _cross_entropy
    teacher_loss = trait(case.f, case.drawn)
    d_teacher = teacher_update(teacher_loss, case.drawn.params)
    step = case.student(d_teacher, case.epsilon)
    return {
        "alignment": trees.dot(step, d_teacher),
        "tenth_epsilon_alignment": trees.dot(case.student(d_teacher, case.epsilon / 10), d_teacher),
        "first_order": trees.dot(case.product(d_teacher), d_teacher),
        "teacher_loss_change": case.change(teacher_loss, step),
    }


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
    """What one search computes of a network, and which numbers besides the alignment must be negative or positive."""

    numbers: Callable[[_Case], Numbers]
    sentence: Callable[[Witness, str], str]
    negative: tuple[str, ...] = ()
    positive: tuple[str, ...] = ()

    def violates(self, numbers: Numbers) -> Any:
        """Whether the numbers are those of a counter-example; for each of an array of them."""
        signs = [numbers[name] < 0 for name in ("alignment", *self.negative)]
        signs += [numbers[name] > 0 for name in ("teacher_loss_change", *self.positive)]
        return functools.reduce(np.logical_and, signs)


_KINDS = {
    "adam_first_step": _Kind(_adam_numbers, _adam_sentence, ("first_order",), ("gradient_descent_alignment",)),
    "large_epsilon": _Kind(_large_numbers, _large_sentence, (), ("small_epsilon_alignment",)),
    "different_initialisation": _Kind(
        _different_numbers, _different_sentence, ("shared_teacher_loss_change",), ("shared_alignment",)
    ),
    "violating_loss": _Kind(_violating_numbers, _violating_sentence, ("tenth_epsilon_alignment",)),
}


def _kind(name: str) -> _Kind:
    return lookup("counter-example", name, _KINDS)


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
    if inputs < 1:
        raise ValueError(f"inputs must be at least 1, got {inputs}")
    if first_seed < 0:
        raise ValueError(f"first_seed must not be negative, got {first_seed}")
    lookup("activation", activation, ACTIVATIONS)
    lookup("loss", loss, LOSSES)
    return Witness(
        name,
        first_seed,
        tuple(sizes),
        inputs,
        activation,
        loss,
        _positive("epsilon", epsilon),
        _positive("alpha", alpha),
        options,
        {},
    )


def _search(start: Witness, limit: int) -> Witness:
    """The first seed that is a counter-example."""
    if limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    last = start.seed + limit - 1
    for first in range(start.seed, last + 1, BATCH):
        with in_float64():
            violating = _kind(start.name).violates(_numbers(replace(start, seed=first)))
        for seed in first + np.flatnonzero(violating):
            witness = replace(start, seed=int(seed)).rerun()
            if witness.violates and seed <= last:
                return witness
    raise NoCounterexample(
        f"{start.name}: no counter-example among the {start.activation} networks of seeds {start.seed} to {last} with "
        f"the {start.loss} loss at eps = {start.epsilon:g}; raise limit, or move further from the theorem's hypotheses"
    )


def _numbers(witness: Witness) -> Numbers:
    """The numbers of `BATCH` seeds from the witness's on: one compiled program for a search and for a rerun."""
    drawn = [_draw(witness.seed + i, witness.sizes, witness.inputs) for i in range(BATCH)]
    words = tuple((key, value) for key, value in witness.options.items() if isinstance(value, str))
    values = {key: value for key, value in witness.options.items() if not isinstance(value, str)}
    program = _program(witness.name, witness.activation, witness.loss, words)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *drawn)
    return {key: np.asarray(row) for key, row in program(stacked, witness.epsilon, witness.alpha, values).items()}


@functools.cache
def _program(name: str, activation: str, loss: str, words: tuple[tuple[str, str], ...]) -> Callable[..., Numbers]:
    """The compiled numbers of a stack of problems."""
    f, kind = _network(activation), _kind(name)
    imitation_loss = losses.on_logits(lookup("loss", loss, LOSSES), slice(-AUXILIARY, None))

    def numbers(drawn: _Drawn, epsilon: Any, alpha: Any, values: dict[str, Any]) -> Numbers:
        return kind.numbers(_Case(f, imitation_loss, drawn, epsilon, alpha, {**dict(words), **values}))

    return jax.jit(jax.vmap(numbers, (0, None, None, None)))


def _positive(argument: str, value: float) -> float:
    require_positive(argument, value)
    return float(value)
