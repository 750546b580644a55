"""How close two initialisations must be: the probability that a student from a nearby one still follows the teacher.

Let the student start at `theta_S = theta + delta`, with theta the teacher's initialisation. Its outputs begin at
`z + J delta` and its labels are `z + eps J d_T`, both to first order, so the gradient of a loss with g(z, z) = 0 is
`M J (delta - eps d_T)`, and

    d_S = eps G d_T - G delta,     d_S . d_T = eps A - (G d_T) . delta,     A = d_T^T G d_T.

The student feels the difference of the two initialisations exactly as it feels the teacher's step. For delta drawn
from N(0, sigma**2 I) the alignment is therefore Gaussian, of mean `eps A` and standard deviation `sigma |G d_T|`, and

    P(d_S . d_T > 0) = Phi(sigma* / sigma),     sigma* = eps A / |G d_T|.

Far beyond sigma* it is a coin toss: the student imitates the untrained teacher, whatever the trait. The law is the
limit of small eps, and of small sigma with it (sigma* is proportional to eps): second-order terms, in delta of size
sigma**2, shift the argument of Phi in proportion to sigma. A linear f with squared error has none.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import NormalDist
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from sublim_theory import geometry
from sublim_theory.protocols import require_count, require_positive, require_positives
from sublim_theory.theorem.checks import is_zero
from sublim_theory.theorem.compiling import compiled, in_float64
from sublim_theory.theorem.instance import Instance
from sublim_theory.theorem.tables import table
from sublim_theory.theorem.updates import FirstOrder, first_order

EPSILON = 1e-6
"""Size of the teacher's step unless another is given: small enough for the law on any network of moderate curvature,
and large enough for the sign of a difference of outputs in float64."""

RATIOS = (0.3, 0.5, 1.0, 2.0, 3.0)
"""Multiples of sigma* that are tried unless others are given."""


CHUNK = 2**22
"""Numbers (parameters, inputs and outputs) that perturbations computed at one time may hold: 32 MB in float64, of
which a network's activations need several copies."""


class Measured(NamedTuple):
    """A probability measured over random perturbations.

    Attributes:
        probability: the fraction of perturbations with `d_S . d_T > 0`.
        standard_error: its binomial standard error, `sqrt(p (1 - p) / perturbations)` at the measured p.
        nonlinearity: root mean square of what the alignment has beyond `eps A - (G d_T) . delta`, in units of its
            standard deviation `sigma |G d_T|`. The law is its limit 0; above some hundredths, take a smaller epsilon.
    """

    probability: float
    standard_error: float
    nonlinearity: float


@dataclass(frozen=True)
class MismatchReport:
    """The init-mismatch law beside what was measured. All numbers are float64.

    Attributes:
        sigma_star: the standard deviation of the perturbation at which the law says Phi(1) = 84%.
        epsilon: size of the teacher's step.
        perturbations: number of perturbed initialisations at each sigma, independent between sigmas.
        seed: of the perturbations.
        sigmas: standard deviations of the perturbation of each parameter.
        predicted: `Phi(sigma* / sigma)` at each.
        measured: fraction of the perturbations with `d_S . d_T > 0`.
        standard_errors: binomial, of a measured value if the law is true: `sqrt(p (1 - p) / perturbations)` at the
            predicted p (at the measured one it would be 0 where all perturbations agree).
        nonlinearity: as in `Measured`: how far from the limit in which the law holds.
    """

    sigma_star: float
    epsilon: float
    perturbations: int
    seed: int
    sigmas: tuple[float, ...]
    predicted: tuple[float, ...]
    measured: tuple[float, ...]
    standard_errors: tuple[float, ...]
    nonlinearity: tuple[float, ...]

    @property
    def deviations(self) -> tuple[float, ...]:
        """Measured minus predicted, in standard errors."""
        rows = zip(self.measured, self.predicted, self.standard_errors, strict=True)
        return tuple(0.0 if m == p else (m - p) / s if s else math.copysign(math.inf, m - p) for m, p, s in rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and names, ready for JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def __str__(self) -> str:
        """A table: one row a sigma."""
        columns = {
            "sigma": ("11.4e", self.sigmas),
            "/ sigma*": ("9.3g", [sigma / self.sigma_star for sigma in self.sigmas]),
            "predicted": ("10.4f", self.predicted),
            "measured": ("9.4f", self.measured),
            "s.e.": ("8.4f", self.standard_errors),
            "in s.e.": ("8.2f", self.deviations),
            "nonlinearity": ("13.1e", self.nonlinearity),
        }
        title = f"Initialisation mismatch: sigma* = {self.sigma_star:.6g} at eps = {self.epsilon:g}; "
        return "\n".join([f"{title}{self.perturbations} perturbations a row", *table(columns)])


def sigma_star(instance: Instance, *, epsilon: float = EPSILON) -> float:
    """`eps d_T^T G d_T / |G d_T|`: how far apart, in each parameter, two initialisations may be.

    Raises:
        ValueError: naming the argument that is wrong; also where `G d_T` is exactly 0 (the orthogonal branch).

    >>> round(sigma_star(instance, epsilon=1e-3) / 1e-3, 9)  # |d_T|, as G is the identity
    4.898979486
    """
    return _law(instance, epsilon).sigma_star


def predicted_probability(sigma: float, sigma_star: float) -> float:
    """`Phi(sigma* / sigma)`, the probability of a positive alignment of the two updates.

    >>> predicted_probability(1e9, 1.0) < 0.6 < predicted_probability(1.0, 1.0)
    True
    """
    require_positive("sigma", sigma)
    require_positive("sigma_star", sigma_star)
    return NormalDist().cdf(sigma_star / sigma)


def measured_probability(
    instance: Instance,
    sigma: float,
    *,
    epsilon: float = EPSILON,
    perturbations: int = 4000,
    seed: int = 0,
    chunk_size: int | None = None,
) -> Measured:
    """The fraction of students from `params + N(0, sigma**2 I)` whose exact update is aligned with the teacher's.

    Args:
        instance: the instance, its params being the teacher's initialisation.
        sigma: standard deviation of the perturbation of each parameter, positive.
        epsilon: size of the teacher's step, positive.
        perturbations: number of perturbed initialisations.
        seed: of the perturbations; perturbation i does not depend on how many there are, nor on the chunks.
        chunk_size: perturbations at a time; unless given, as many as hold `CHUNK` numbers.

    >>> measured_probability(instance, 1e-9, perturbations=10).probability
    1.0
    """
    sigma, program = require_positive("sigma", sigma), _program(instance, perturbations, chunk_size)
    return _measure(instance, _law(instance, epsilon), program, seed, [sigma])[0]


def mismatch(
    instance: Instance,
    *,
    epsilon: float = EPSILON,
    ratios: Sequence[float] | np.ndarray = RATIOS,
    perturbations: int = 4000,
    seed: int = 0,
    chunk_size: int | None = None,
) -> MismatchReport:
    """Compare the init-mismatch law, `P(d_S . d_T > 0) = Phi(sigma* / sigma)`, with perturbed initialisations.

    The updates are the exact ones, so the two agree only in the limit of small eps: `sigma = ratio sigma*` shrinks
    with it, and the report's `nonlinearity` says how far from that limit the perturbations were.

    Args:
        instance: the instance, its params being the teacher's initialisation.
        epsilon: size of the teacher's step, positive and small.
        ratios: the standard deviations of the perturbation, as multiples of sigma*.
        perturbations: number of perturbed initialisations at each ratio.
        seed: of the perturbations; the first ratio's are those of `measured_probability`.
        chunk_size: perturbations at a time; unless given, as many as hold `CHUNK` numbers.

    Raises:
        ValueError: naming the argument that is wrong; also where `G d_T` is exactly 0 (the orthogonal branch).

    >>> mismatch(instance, ratios=[0.1], perturbations=10).measured
    (1.0,)
    """
    multiples, program = require_positives("ratios", ratios), _program(instance, perturbations, chunk_size)
    law = _law(instance, epsilon)
    sigmas = tuple(multiple * law.sigma_star for multiple in multiples)
    measured = _measure(instance, law, program, seed, sigmas)
    predicted = tuple(predicted_probability(sigma, law.sigma_star) for sigma in sigmas)
    return MismatchReport(
        sigma_star=law.sigma_star,
        epsilon=law.epsilon,
        perturbations=perturbations,
        seed=seed,
        sigmas=sigmas,
        predicted=predicted,
        measured=tuple(row.probability for row in measured),
        standard_errors=tuple(_binomial_error(p, perturbations) for p in predicted),
        nonlinearity=tuple(row.nonlinearity for row in measured),
    )


class _Law(NamedTuple):
    epsilon: float
    first: FirstOrder
    sigma_star: float


def _law(instance: Instance, epsilon: float) -> _Law:
    epsilon = require_positive("epsilon", epsilon)

    def parts(theta: Any, d_teacher: Any, inputs: Any) -> tuple[FirstOrder, jax.Array]:
        first = first_order(
            instance.f, instance.imitation_loss, theta, d_teacher, inputs, batch_size=instance.batch_size
        )
        return first, first.sigma_star(epsilon)

    with in_float64():
        d_teacher = instance.direction()
        first, sigma_star = compiled(parts, instance.work)(instance.params, d_teacher, instance.inputs)
        instance.require_finite(first.product, d_teacher)
    if is_zero(first.product):
        raise ValueError(
            "G d_T is exactly 0 (the orthogonal branch): the student's inputs and imitation_loss do not see the "
            "gradient of teacher_loss, so there is no sigma*"
        )
    coefficient = float(first.coefficient)
    if not coefficient > 0:
        raise ValueError(
            f"imitation_loss gives A = d_T^T G d_T = {coefficient:.3g}, which is not positive, so it fails the "
            "hypotheses of the theorem and the law does not speak of it; see check_loss"
        )
    return _Law(epsilon, first, float(sigma_star))


def _program(instance: Instance, perturbations: int, chunk_size: int | None) -> Callable[..., Any]:
    """`_alignments` of so many perturbations, to be compiled once for all sigmas."""
    perturbations = require_count("perturbations", perturbations)
    if chunk_size is None:
        chunk = _chunk_size(instance, perturbations)
    else:
        chunk = min(require_count("chunk_size", chunk_size), perturbations)
    return compiled(partial(_alignments, instance, perturbations, chunk), instance.work * perturbations)


def _measure(
    instance: Instance, law: _Law, program: Callable[..., Any], seed: int, sigmas: Sequence[float]
) -> list[Measured]:
    """What was measured at each sigma."""
    results = []
    with in_float64():
        size = float(geometry.norm(law.first.product))
        key = jax.random.key(seed, impl="threefry2x32")
        for i, sigma in enumerate(sigmas):
            exact, linear = map(
                np.asarray, program(jax.random.fold_in(key, i), sigma, instance.params, law, instance.inputs)
            )
            if not np.isfinite(exact).all():
                raise ValueError(
                    f"the student's update is not finite at sigma = {sigma:g}; take a smaller epsilon or sigma"
                )
            share = float(np.mean(exact > 0))
            beyond = float(np.sqrt(np.mean(np.square(exact - linear)))) / (sigma * size)
            results.append(Measured(share, _binomial_error(share, len(exact)), beyond))
    return results


def _alignments(
    instance: Instance,
    perturbations: int,
    chunk_size: int,
    key: jax.Array,
    sigma: jax.Array,
    theta: Any,
    law: _Law,
    inputs: Any,
) -> tuple[jax.Array, jax.Array]:
    """`d_S . d_T` of each perturbed student and its first-order form, [perturbations] each; a chunk at a time."""
    center, unflatten = ravel_pytree(theta)
    response, _ = ravel_pytree(law.first.product)
    teacher = optax.tree.add_scale(theta, law.epsilon, law.first.direction)

    def one(index: jax.Array) -> tuple[jax.Array, jax.Array]:
        delta = sigma * jax.random.normal(jax.random.fold_in(key, index), center.shape, center.dtype)
        student = unflatten(center + delta)

        def total(x: Any) -> jax.Array:
            labels = instance.f(teacher, x)

            def loss(theta: Any) -> jax.Array:
                return jnp.sum(instance.imitation_loss(instance.f(theta, x), labels))

            # The inner product of the gradient with d_T is the derivative along d_T: one forward pass, no gradient.
            return -jax.jvp(loss, (student,), (law.first.direction,))[1]

        alignment = geometry.mean_over_inputs(total, inputs, instance.batch_size)
        return alignment, law.epsilon * law.first.coefficient - jnp.vdot(response, delta)

    chunks = -(-perturbations // chunk_size)
    indices = jnp.arange(chunks * chunk_size).reshape(chunks, chunk_size)
    exact, linear = jax.lax.map(jax.vmap(one), indices)
    return exact.reshape(-1)[:perturbations], linear.reshape(-1)[:perturbations]


def _chunk_size(instance: Instance, perturbations: int) -> int:
    """As many perturbations as hold `CHUNK` numbers, evened out over the chunks."""
    count = len(jax.tree.leaves(instance.inputs)[0])
    together = count if instance.batch_size is None else min(instance.batch_size, count)
    row = sum(x[0].size for x in jax.tree.leaves(instance.inputs)) + int(np.prod(instance.outputs.shape[1:]))
    held = optax.tree.size(instance.params) + together * row
    chunks = -(-perturbations // max(1, CHUNK // held))
    return -(-perturbations // chunks)


def _binomial_error(probability: float, count: int) -> float:
    return math.sqrt(probability * (1 - probability) / count)
