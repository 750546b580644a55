"""Where Theorem 1 stops: searches that return a small network on which its conclusion is false, to be rerun.

| search | what it drops |
|---|---|
| `adam_first_step` | the student's update is its gradient |
| `large_epsilon` | the teacher's step is small |
| `different_initialisation` | the two initialisations are the same |
| `violating_loss` | the imitation loss fulfils the hypotheses |

Every search draws its networks from `numpy.random.default_rng(seed)`, for one seed after the other, until one breaks
the conclusion; else it raises `NoCounterexample`, or a ValueError that names an argument. A witness can be rerun
anywhere, from its seed and its settings alone.

    witness = adam_first_step()
    print(witness)
    assert witness.rerun() == witness

The setting is the paper's, small: weights N(0, 1/fan_in), biases 0; the last three outputs are auxiliary, the others
classes. The teacher takes a gradient step on the cross-entropy of the class logits with random labels on normal inputs;
the student imitates the auxiliary logits on other normal inputs.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple, TypedDict, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from sublim_theory import losses
from sublim_theory._types import Apply, Params, PerExampleLoss, Scalar, TeacherLoss
from sublim_theory.protocols import SublimError, lookup, require_count, require_positive, require_positives
from sublim_theory.theorem.compiling import compiled, in_float64
from sublim_theory.theorem.hypotheses import offset_loss, turning_loss
from sublim_theory.theorem.updates import change_along, first_order, imitation_update, teacher_update

SIZES = (12, 16, 16, 8)
"""Units of the layers, features first, outputs last, unless told otherwise."""

AUXILIARY = 3
"""How many of the outputs, the last ones, the student imitates; the others are the teacher's classes."""

SMALL = 1e-3
"""The teacher's step at which the theorem's conclusion is shown beside its failure at a large one."""

BATCH = 128
"""Networks that are computed at one time, of successive seeds."""

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": jnp.tanh,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
}

LOSSES: dict[str, PerExampleLoss] = {**losses.IMITATION, "offset": offset_loss, "turning": turning_loss}
"""The imitation losses, and two that fail the hypotheses."""

FAILS = {"offset": "minimum at z = y", "turning": "the null space of M is constant"}
"""The hypothesis that each of those two fails."""


class NoCounterexample(SublimError):
    """A search ended without one; the message says where it looked."""


class CommonSettings(TypedDict, total=False):
    """What every search can be told.

    Attributes:
        epsilon: size of the teacher's step.
        alpha: size of the student's step, small enough that the sign of the alignment decides.
        activation: one of `ACTIVATIONS`.
        sizes: units of the layers, features first.
        inputs: number of the student's inputs, and of the teacher's.
        first_seed: the first to try.
        limit: number of seeds to try.
    """

    epsilon: float
    alpha: float
    activation: str
    sizes: Sequence[int]
    inputs: int
    first_seed: int
    limit: int


class Settings(CommonSettings, total=False):
    """The same, with the imitation loss, one of `LOSSES`."""

    loss: str


@dataclass(frozen=True)
class Witness:
    """A network on which the conclusion is false.

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
        return bool(_is_counterexample(self.name, self.numbers))

    def rerun(self) -> "Witness":
        """The same witness with its numbers computed anew from the seed; equal to it on the same machine."""
        return replace(self, numbers={name: float(values[0]) for name, values in _successive_numbers(self).items()})

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
        fails = f" fails the hypothesis {FAILS[self.loss]!r}" if self.loss in FAILS else ""
        both = "teacher and student both take" if self.options.get("teacher") == "adam" else "the student takes"
        numbers = {name: f"{value:.4g}" for name, value in self.numbers.items()}
        return lookup("counter-example", self.name, _SEARCHES).sentence.format(
            network=network,
            fails=fails,
            both=both,
            loss=self.loss,
            epsilon=f"{self.epsilon:g}",
            alpha=f"{self.alpha:g}",
            small=f"{SMALL:g}",
            **{key: value if isinstance(value, str) else f"{value:g}" for key, value in self.options.items()},
            **numbers,
        )


def adam_first_step(*, teacher: str = "sgd", adam_epsilon: float = 1e-8, **settings: Unpack[Settings]) -> Witness:
    """A student whose first step of Adam, `-g / (|g| + adam_epsilon)`, points away from the teacher's step.

    To first order in eps that is about `sign(G d_T)`, and nothing keeps `sign(G d_T) . d_T` from being negative
    although `d_T . G d_T` is not. Plain gradient descent on the same network is shown beside it. (Far below
    adam_epsilon, Adam's first step is plain gradient descent.)

    Args:
        teacher: `sgd`, so that d_T is minus the teacher's gradient, or `adam`, d_T being its first step of Adam too.
        adam_epsilon: Adam's eps.
        **settings: as in `Settings`; 4 inputs unless given (one tanh network in 70 is a witness, with 8 inputs one in
            400), and alpha 1e-4.

    >>> adam_first_step().numbers["alignment"] < 0
    True
    """
    if teacher not in ("sgd", "adam"):
        raise ValueError(f"teacher must be 'sgd' or 'adam', got {teacher!r}")
    options: dict[str, float | str] = {
        "teacher": teacher,
        "adam_epsilon": require_positive("adam_epsilon", adam_epsilon),
    }
    return _search("adam_first_step", options, {"inputs": 4, "alpha": 1e-4, **settings})


def large_epsilon(*, epsilons: Sequence[float] = (10.0, 20.0, 50.0, 100.0), **settings: Unpack[Settings]) -> Witness:
    """A teacher's step so large that the student's update points away from it: how small is "sufficiently small".

    Of 2,560 networks of the default setting none has a negative alignment at eps = 1, one in 50 at 10, 3 in 8 at 100.

    Args:
        epsilons: sizes of the teacher's step; the whole range of seeds is tried for one before the next.
        **settings: as in `Settings`, without epsilon; alpha is 1e-3 unless given.

    >>> large_epsilon().epsilon >= 10
    True
    """
    *others, last = require_positives("epsilons", epsilons)
    for epsilon in others:
        try:
            return _search("large_epsilon", {}, {"alpha": 1e-3, **settings, "epsilon": epsilon})
        except NoCounterexample:
            continue
    return _search("large_epsilon", {}, {"alpha": 1e-3, **settings, "epsilon": last})


def different_initialisation(*, distance: float = 1.0, **settings: Unpack[Settings]) -> Witness:
    """A student from another initialisation whose update points away from the teacher's and raises its loss.

    Args:
        distance: of the two initialisations, between 0 (the same) and 1 (independent): the student's is
            `sqrt(1 - distance**2)` of the teacher's and `distance` of another draw, so that its variance is kept.
        **settings: as in `Settings`; alpha is 1e-2 unless given.

    >>> different_initialisation().numbers["shared_alignment"] > 0
    True
    """
    if not 0 <= distance <= 1:
        raise ValueError(f"distance must lie in [0, 1], got {distance}")
    return _search("different_initialisation", {"distance": float(distance)}, {"alpha": 1e-2, **settings})


def violating_loss(loss: str = "offset", *, trait: str | None = None, **settings: Unpack[CommonSettings]) -> Witness:
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
        **settings: as in `CommonSettings`; alpha is 1e-4 unless given. The alignment is negative at epsilon and
            at a tenth of it: 1e-2 for an orthogonal trait, whose alignment is of third order, 1e-3 otherwise.

    >>> violating_loss().numbers["first_order"] > 0
    True
    """
    trait = trait or ("orthogonal" if loss == "turning" else "labels")
    if trait not in ("labels", "orthogonal"):
        raise ValueError(f"trait must be 'labels' or 'orthogonal', got {trait!r}")
    epsilon = 10 * SMALL if trait == "orthogonal" else SMALL
    return _search("violating_loss", {"trait": trait}, {"epsilon": epsilon, "alpha": 1e-4, **settings, "loss": loss})


def _search(name: str, options: dict[str, float | str], settings: Settings) -> Witness:
    """The first seed that is a counter-example."""
    for setting in settings:
        lookup("setting", setting, Settings.__annotations__)
    given: Settings = {"epsilon": SMALL, "activation": "tanh", "loss": "kl", "sizes": SIZES, "inputs": 8}
    given |= settings
    sizes = tuple(given["sizes"])
    if len(sizes) < 2 or min(sizes) < 1 or sizes[-1] < AUXILIARY + 2:
        raise ValueError(
            f"sizes must be positive numbers of units, the features first and at least {AUXILIARY + 2} outputs last "
            f"({AUXILIARY} are auxiliary), got {sizes}"
        )
    lookup("activation", given["activation"], ACTIVATIONS)
    lookup("loss", given["loss"], LOSSES)
    start = Witness(
        name,
        require_count("first_seed", given.get("first_seed", 0), 0),
        sizes,
        require_count("inputs", given["inputs"]),
        given["activation"],
        given["loss"],
        require_positive("epsilon", given["epsilon"]),
        require_positive("alpha", given["alpha"]),
        options,
        {},
    )
    last = start.seed + require_count("limit", given.get("limit", 1000)) - 1
    for first in range(start.seed, last + 1, BATCH):
        found = _is_counterexample(name, _successive_numbers(replace(start, seed=first)))
        for seed in first + np.flatnonzero(found):
            witness = replace(start, seed=int(seed)).rerun()
            if witness.violates and seed <= last:
                return witness
    raise NoCounterexample(
        f"{name}: no counter-example among the {start.activation} networks of seeds {start.seed} to {last} with "
        f"the {start.loss} loss at eps = {start.epsilon:g}; raise limit, or move further from the theorem's hypotheses"
    )


def _is_counterexample(name: str, numbers: dict[str, Any]) -> Any:
    """Whether the numbers are those of a counter-example of that search; for each of an array of them."""
    search = lookup("counter-example", name, _SEARCHES)
    signs = [numbers[name] < 0 for name in ("alignment", *search.negative)]
    signs += [numbers[name] > 0 for name in ("teacher_loss_change", *search.positive)]
    return functools.reduce(np.logical_and, signs)


def _successive_numbers(witness: Witness) -> dict[str, Any]:
    """The numbers of `BATCH` seeds from the witness's on: one compiled program for a search and for a rerun."""
    drawn = [_draw(witness.seed + i, witness.sizes, witness.inputs) for i in range(BATCH)]
    words = tuple((key, value) for key, value in witness.options.items() if isinstance(value, str))
    values = {key: value for key, value in witness.options.items() if not isinstance(value, str)}
    compute = _program(witness.name, witness.activation, witness.loss, words)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *drawn)
    with in_float64():
        return {key: np.asarray(row) for key, row in compute(stacked, witness.epsilon, witness.alpha, values).items()}


@functools.cache
def _program(name: str, activation: str, loss: str, words: tuple[tuple[str, str], ...]) -> Callable[..., Any]:
    """The compiled numbers of a stack of problems: `program(drawn, epsilon, alpha, options that are numbers)`."""
    f, compute = _network(activation), lookup("counter-example", name, _SEARCHES).numbers
    imitation_loss = losses.on_logits(lookup("loss", loss, LOSSES), slice(-AUXILIARY, None))

    def numbers(drawn: _Drawn, epsilon: Any, alpha: Any, values: dict[str, Any]) -> dict[str, Any]:
        return compute(_Case(f, imitation_loss, drawn, epsilon, alpha, {**dict(words), **values}))

    return compiled(jax.vmap(numbers, (0, None, None, None)))


class _Drawn(NamedTuple):
    """A random problem, in arrays of numpy or traced ones."""

    params: Params  # the teacher's initialisation
    other: Params  # another one
    teacher_inputs: Any  # [inputs, features]
    labels: Any  # [inputs]
    inputs: Any  # the student's, [inputs, features]
    direction: Params  # normal numbers


def _draw(seed: int, sizes: tuple[int, ...], inputs: int) -> _Drawn:
    """The problem of a seed."""
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
            x = (act(x) if i else x) @ layer["kernel"] + layer["bias"][None]
        return x

    return f


class _Case(NamedTuple):
    """One random problem with everything that a search computes from: traced values, but for the functions."""

    f: Apply
    imitation_loss: PerExampleLoss
    drawn: _Drawn
    epsilon: Any
    alpha: Any
    options: dict[str, Any]

    def teacher_loss(self) -> TeacherLoss:
        """The cross-entropy with the labels, or the orthogonal trait."""
        if self.options.get("trait") == "orthogonal":
            return self._orthogonal()
        f, drawn = self.f, self.drawn
        return lambda theta: jnp.mean(
            losses.cross_entropy(f(theta, drawn.teacher_inputs)[:, :-AUXILIARY], drawn.labels)
        )

    def _orthogonal(self) -> TeacherLoss:
        """`-d . theta`, with d the drawn direction less its part along each `J(x)^T z(x)`, of unit length."""
        flat, unflatten = ravel_pytree(self.drawn.params)
        d, _ = ravel_pytree(self.drawn.direction)

        def row(x: jax.Array) -> jax.Array:
            z, pull_back = jax.vjp(lambda theta: self.f(unflatten(theta), x[None])[0, -AUXILIARY:], flat)
            return pull_back(z)[0]

        basis, _ = jnp.linalg.qr(jax.vmap(row)(self.drawn.inputs).T)
        for _ in range(2):  # once more for the rounding of the first
            d = d - basis @ (basis.T @ d)
        d = d / jnp.linalg.norm(d)
        return lambda theta: -jnp.vdot(d, ravel_pytree(theta)[0])

    def student(self, d_teacher: Params, epsilon: Any, start: Params | None = None) -> Params:
        """`d_S(eps)`, from the shared initialisation or another."""
        labels_from = optax.tree.add_scale(self.drawn.params, epsilon, d_teacher)
        start = self.drawn.params if start is None else start
        return imitation_update(self.f, self.imitation_loss, start, labels_from, self.drawn.inputs)

    def product(self, d_teacher: Params) -> Params:
        """`G d_T`."""
        return first_order(self.f, self.imitation_loss, self.drawn.params, d_teacher, self.drawn.inputs).product

    def change(self, teacher_loss: TeacherLoss, step: Params, start: Params | None = None) -> jax.Array:
        """Of the teacher's loss, by the student's step of size alpha."""
        start = self.drawn.params if start is None else start
        return change_along(teacher_loss, start, optax.tree.scale(self.alpha, step))


def _adam_numbers(case: _Case) -> dict[str, Any]:
    teacher_loss, tiny = case.teacher_loss(), case.options["adam_epsilon"]

    def adam(ascent: Params, size: Any = 1.0) -> Params:
        """The first step of Adam along a gradient of `size` times that; its moments are the gradient and its square."""
        return jax.tree.map(lambda g: size * g / (jnp.abs(size * g) + tiny), ascent)

    d_teacher = teacher_update(teacher_loss, case.drawn.params)
    if case.options["teacher"] == "adam":
        d_teacher = adam(d_teacher)
    plain = case.student(d_teacher, case.epsilon)
    step = adam(plain)
    return {
        "alignment": optax.tree.vdot(step, d_teacher),
        "first_order": optax.tree.vdot(adam(case.product(d_teacher), case.epsilon), d_teacher),
        "gradient_descent_alignment": optax.tree.vdot(plain, d_teacher),
        "teacher_loss_change": case.change(teacher_loss, step),
    }


def _step_numbers(case: _Case, **beside: Scalar) -> dict[str, Any]:
    """The student's plain step at eps, and its alignment at other sizes of the teacher's step, by name."""
    teacher_loss = case.teacher_loss()
    d_teacher = teacher_update(teacher_loss, case.drawn.params)
    step = case.student(d_teacher, case.epsilon)
    return {
        "alignment": optax.tree.vdot(step, d_teacher),
        "first_order": optax.tree.vdot(case.product(d_teacher), d_teacher),
        "teacher_loss_change": case.change(teacher_loss, step),
        **{name: optax.tree.vdot(case.student(d_teacher, size), d_teacher) for name, size in beside.items()},
    }


def _different_numbers(case: _Case) -> dict[str, Any]:
    teacher_loss = case.teacher_loss()
    distance = case.options["distance"]
    start = jax.tree.map(lambda a, b: jnp.sqrt(1 - distance**2) * a + distance * b, case.drawn.params, case.drawn.other)
    d_teacher = teacher_update(teacher_loss, case.drawn.params)
    step, shared = case.student(d_teacher, case.epsilon, start), case.student(d_teacher, case.epsilon)
    return {
        "alignment": optax.tree.vdot(step, d_teacher),
        "shared_alignment": optax.tree.vdot(shared, d_teacher),
        "teacher_loss_change": case.change(teacher_loss, step, start),
        "shared_teacher_loss_change": case.change(teacher_loss, shared),
    }


class _Search(NamedTuple):
    """One search."""

    numbers: Callable[[_Case], dict[str, Any]]
    negative: tuple[str, ...]  # besides the alignment
    positive: tuple[str, ...]  # besides the change of the teacher's loss
    sentence: str


_SEARCHES = {
    "adam_first_step": _Search(
        _adam_numbers,
        ("first_order",),
        ("gradient_descent_alignment",),
        "Adam: on {network}, where {both} a first step of Adam ({loss} loss, eps = {epsilon}), d_S . d_T = {alignment} "
        "is negative ({first_order} to first order), although plain gradient descent has "
        "{gradient_descent_alignment}; a step of {alpha} changes the teacher's loss by {teacher_loss_change}.",
    ),
    "large_epsilon": _Search(
        lambda case: _step_numbers(case, small_epsilon_alignment=SMALL),
        (),
        ("small_epsilon_alignment",),
        "Large eps: on {network} ({loss} loss), a teacher's step of eps = {epsilon} gives d_S . d_T = {alignment}, "
        "negative, where eps = {small} gives {small_epsilon_alignment}; the student's step of {alpha} changes the "
        "teacher's loss by {teacher_loss_change}.",
    ),
    "different_initialisation": _Search(
        _different_numbers,
        ("shared_teacher_loss_change",),
        ("shared_alignment",),
        "Different initialisation: on {network} ({loss} loss, eps = {epsilon}), a student at distance {distance} has "
        "d_S . d_T = {alignment}, negative, where a student from the teacher's initialisation has {shared_alignment}; "
        "their steps of {alpha} change the teacher's loss by {teacher_loss_change} and {shared_teacher_loss_change}.",
    ),
    "violating_loss": _Search(
        lambda case: _step_numbers(case, tenth_epsilon_alignment=case.epsilon / 10),
        ("tenth_epsilon_alignment",),
        (),
        "Violating loss: the {loss} loss{fails}; on {network} with the {trait} trait, A = {first_order}, and yet "
        "d_S . d_T = {alignment} at eps = {epsilon} and {tenth_epsilon_alignment} at a tenth of it, negative; a step "
        "of {alpha} changes the teacher's loss by {teacher_loss_change}.",
    ),
}
