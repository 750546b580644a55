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
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.special import ndtr

from sublim_theory import trees
from sublim_theory.protocols import Apply, Params
from sublim_theory.theorem.alignment import first_order
from sublim_theory.theorem.problem import ImitationLoss, Logits, Problem, in_float64, problem, require_positive
from sublim_theory.theorem.updates import TeacherLoss, mean_over_inputs, teacher_update

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
        rows = zip(
            self.sigmas,
            self.predicted,
            self.measured,
            self.standard_errors,
            self.deviations,
            self.nonlinearity,
            strict=True,
        )
        return "\n".join(
            [
                f"Initialisation mismatch: sigma* = {self.sigma_star:.6g} at eps = {self.epsilon:g}; "
                f"{self.perturbations} perturbations a row",
                f"{'sigma':>11} {'/ sigma*':>9} {'predicted':>10} {'measured':>9} {'s.e.':>8} {'in s.e.':>8} "
                f"{'nonlinearity':>13}",
                *(
                    f"{sigma:11.4e} {sigma / self.sigma_star:9.3g} {predicted:10.4f} {measured:9.4f} {error:8.4f} "
                    f"{deviation:8.2f} {nonlinearity:13.1e}"
                    for sigma, predicted, measured, error, deviation, nonlinearity in rows
                ),
            ]
        )


def sigma_star(
    f: Apply,
    params: Params,
    teacher_loss: TeacherLoss,
    inputs: Any,
    *,
    epsilon: float = EPSILON,
    imitation_loss: ImitationLoss = "kl",
    logits: Logits = None,
    batch_size: int | None = None,
) -> float:
    """`eps d_T^T G d_T / |G d_T|`: how far apart, in each parameter, two initialisations may be.

    Args:
        f: `f(params, x) -> outputs [batch, n]`, pure.
        params: the teacher's initialisation; floating-point leaves.
        teacher_loss: `teacher_loss(params) -> scalar`, differentiable.
        inputs: the student's inputs, a pytree of arrays [inputs, ...].
        epsilon: size of the teacher's step, positive; sigma* is proportional to it.
        imitation_loss: name of one of `losses.IMITATION`, or a per-example loss of (student outputs, labels).
        logits: the outputs that the student imitates, a slice or indices; all unless given.
        batch_size: inputs at a time; all unless given.

    Raises:
        ValueError: naming the argument that is wrong; also where `G d_T` is exactly 0 (the orthogonal branch).
    """
    require_positive("epsilon", epsilon)
    with in_float64():
        given = problem(
            f, params, teacher_loss, inputs, imitation_loss=imitation_loss, logits=logits, batch_size=batch_size
        )
        return _law(given, epsilon).sigma_star


def predicted_probability(sigma: float, sigma_star: float) -> float:
    """`Phi(sigma* / sigma)`, the probability of a positive alignment of the two updates.

    Args:
        sigma: standard deviation of the perturbation of each parameter, positive.
        sigma_star: as the function of that name returns it.
    """
    require_positive("sigma", sigma)
    require_positive("sigma_star", sigma_star)
    return float(ndtr(sigma_star / sigma))


def measured_probability(
    f: Apply,
    params: Params,
    teacher_loss: TeacherLoss,
    inputs: Any,
    sigma: float,
    *,
    epsilon: float = EPSILON,
    imitation_loss: ImitationLoss = "kl",
    logits: Logits = None,
    perturbations: int = 4000,
    seed: int = 0,
    batch_size: int | None = None,
    chunk_size: int | None = None,
) -> Measured:
    """The fraction of students from `params + N(0, sigma**2 I)` whose exact update is aligned with the teacher's.

    Args:
        f: as in `sigma_star`, as are the next three.
        params: the teacher's initialisation.
        teacher_loss: the teacher's loss.
        inputs: the student's inputs.
        sigma: standard deviation of the perturbation of each parameter, positive.
        epsilon: size of the teacher's step, positive.
        imitation_loss: as in `sigma_star`.
        logits: as in `sigma_star`.
        perturbations: number of perturbed initialisations.
        seed: of the perturbations; perturbation i does not depend on how many there are, nor on the chunks.
        batch_size: inputs at a time; all unless given.
        chunk_size: perturbations at a time; unless given, as many as hold `CHUNK` numbers.

    Raises:
        ValueError: naming the argument that is wrong.
    """
    require_positive("sigma", sigma)
    draws = _draws(perturbations, seed, chunk_size, epsilon)
    with in_float64():
        given = problem(
            f, params, teacher_loss, inputs, imitation_loss=imitation_loss, logits=logits, batch_size=batch_size
        )
        return _measure(given, _law(given, epsilon), draws, [float(sigma)])[0]


def mismatch(
    f: Apply,
    params: Params,
    teacher_loss: TeacherLoss,
    inputs: Any,
    *,
    epsilon: float = EPSILON,
    ratios: Sequence[float] = RATIOS,
    imitation_loss: ImitationLoss = "kl",
    logits: Logits = None,
    perturbations: int = 4000,
    seed: int = 0,
    batch_size: int | None = None,
    chunk_size: int | None = None,
) -> MismatchReport:
    """Compare the init-mismatch law, `P(d_S . d_T > 0) = Phi(sigma* / sigma)`, with perturbed initialisations.

    The updates are the exact ones, so the two agree only in the limit of small eps: `sigma = ratio sigma*` shrinks
    with it. The default serves smooth networks of any usual size; the report's `nonlinearity` says how far from the
    limit the perturbations were, and grows in proportion to eps. Piecewise-linear networks need an eps at which few
    perturbations cross a kink; the default is that small.

    Args:
        f: as in `sigma_star`, as are the next three.
        params: the teacher's initialisation.
        teacher_loss: the teacher's loss.
        inputs: the student's inputs.
        epsilon: size of the teacher's step, positive and small.
        ratios: the standard deviations of the perturbation, as multiples of sigma*.
        imitation_loss: as in `sigma_star`.
        logits: as in `sigma_star`.
        perturbations: number of perturbed initialisations at each ratio.
        seed: of the perturbations; the first ratio's are those of `measured_probability`.
        batch_size: inputs at a time; all unless given.
        chunk_size: perturbations at a time; unless given, as many as hold `CHUNK` numbers.

    Returns:
        The report; print it.

    Raises:
        ValueError: naming the argument that is wrong; also where `G d_T` is exactly 0 (the orthogonal branch).
    """
    multiples = [float(ratio) for ratio in ratios]
    if not multiples:
        raise ValueError("ratios are empty; give at least one multiple of sigma*")
    for multiple in multiples:
        require_positive("ratios", multiple)
    draws = _draws(perturbations, seed, chunk_size, epsilon)
    with in_float64():
        given = problem(
            f, params, teacher_loss, inputs, imitation_loss=imitation_loss, logits=logits, batch_size=batch_size
        )
        law = _law(given, epsilon)
        sigmas = tuple(multiple * law.sigma_star for multiple in multiples)
        measured = _measure(given, law, draws, sigmas)
    predicted = tuple(predicted_probability(sigma, law.sigma_star) for sigma in sigmas)
    return MismatchReport(
        sigma_star=law.sigma_star,
        epsilon=float(epsilon),
        perturbations=perturbations,
        seed=seed,
        sigmas=sigmas,
        predicted=predicted,
        measured=tuple(row.probability for row in measured),
        standard_errors=tuple(_standard_error(p, perturbations) for p in predicted),
        nonlinearity=tuple(row.nonlinearity for row in measured),
    )


class _Law(NamedTuple):
    """What the first-order law says of one problem at one eps: `d_T`, `G d_T`, A, `|G d_T|` and sigma*."""

    epsilon: float
    d_teacher: Params
    product: Params
    coefficient: float
    size: float
    sigma_star: float


class _Draws(NamedTuple):
    """The perturbations of one sigma: how many, their seed, how many at a time."""

    perturbations: int
    seed: int
    chunk_size: int | None


def _draws(perturbations: int, seed: int, chunk_size: int | None, epsilon: float) -> _Draws:
    require_positive("epsilon", epsilon)
    for argument, count in (("perturbations", perturbations), ("chunk_size", chunk_size)):
        if count is not None and count < 1:
            raise ValueError(f"{argument} must be at least 1, got {count}")
    return _Draws(perturbations, seed, chunk_size)


def _law(given: Problem, epsilon: float) -> _Law:
    def parts(theta: Params, inputs: Any) -> tuple[Params, Params, jax.Array, jax.Array]:
        d_teacher = teacher_update(given.teacher_loss, theta)
        first = first_order(given.f, theta, d_teacher, inputs, given.imitation_loss, batch_size=given.batch_size)
        return d_teacher, first.product, first.coefficient, trees.norm(first.product)

    d_teacher, product, *scalars = jax.jit(parts)(given.params, given.inputs)
    coefficient, size = (float(scalar) for scalar in scalars)
    if not (math.isfinite(coefficient) and math.isfinite(size)):
        raise ValueError("the gradient of teacher_loss, or G times it, is not finite at params")
    if size == 0:
        raise ValueError(
            "G d_T is exactly 0 (the orthogonal branch): the student's inputs and imitation_loss do not see the "
            "gradient of teacher_loss, so there is no sigma*"
        )
    if coefficient <= 0:
        raise ValueError(
            f"imitation_loss gives A = d_T^T G d_T = {coefficient:.3g}, which is not positive, so it fails the "
            "hypotheses of the theorem and the law does not speak of it; see check_loss"
        )
    return _Law(epsilon, d_teacher, product, coefficient, size, epsilon * coefficient / size)


def _measure(given: Problem, law: _Law, draws: _Draws, sigmas: Sequence[float]) -> list[Measured]:
    """What was measured at each sigma: one program, called once a sigma."""
    chunk_size = (
        _chunk_size(given, draws.perturbations)
        if draws.chunk_size is None
        else min(draws.chunk_size, draws.perturbations)
    )
    program = jax.jit(lambda *arguments: _alignments(given, draws.perturbations, chunk_size, *arguments))
    key = jax.random.key(draws.seed, impl="threefry2x32")
    results = []
    for i, sigma in enumerate(sigmas):
        exact, linear = map(np.asarray, program(jax.random.fold_in(key, i), sigma, given.params, law, given.inputs))
        if not np.isfinite(exact).all():
            raise ValueError(
                f"the student's update is not finite at sigma = {sigma:g}; take a smaller epsilon or sigma"
            )
        share = float(np.mean(exact > 0))
        beyond = float(np.sqrt(np.mean(np.square(exact - linear)))) / (sigma * law.size)
        results.append(Measured(share, _standard_error(share, draws.perturbations), beyond))
    return results


def _alignments(
    given: Problem,
    perturbations: int,
    chunk_size: int,
    key: jax.Array,
    sigma: jax.Array,
    theta: Params,
    law: _Law,
    inputs: Any,
) -> tuple[jax.Array, jax.Array]:
    """`d_S . d_T` of each perturbed student and its first-order form, [perturbations] each; a chunk at a time."""
    center, unflatten = ravel_pytree(theta)
    response, _ = ravel_pytree(law.product)
    teacher = trees.axpy(law.epsilon, law.d_teacher, theta)

    def one(index: jax.Array) -> tuple[jax.Array, jax.Array]:
        delta = sigma * jax.random.normal(jax.random.fold_in(key, index), center.shape, center.dtype)
        student = unflatten(center + delta)

        def total(x: Any) -> jax.Array:
            labels = given.f(teacher, x)

            def loss(theta: Params) -> jax.Array:
                return jnp.sum(given.imitation_loss(given.f(theta, x), labels))

            # The inner product of the gradient with d_T is the derivative along d_T: one forward pass, no gradient.
            return -jax.jvp(loss, (student,), (law.d_teacher,))[1]

        alignment = mean_over_inputs(total, inputs, given.batch_size)
        return alignment, law.epsilon * law.coefficient - trees.dot(response, delta)

    chunks = -(-perturbations // chunk_size)
    indices = jnp.arange(chunks * chunk_size).reshape(chunks, chunk_size)
    exact, linear = jax.lax.map(jax.vmap(one), indices)
    return exact.reshape(-1)[:perturbations], linear.reshape(-1)[:perturbations]


def _chunk_size(given: Problem, perturbations: int) -> int:
    """As many perturbations as hold `CHUNK` numbers, evened out over the chunks."""
    count = len(jax.tree.leaves(given.inputs)[0])
    together = count if given.batch_size is None else min(given.batch_size, count)
    row = sum(x[0].size for x in jax.tree.leaves(given.inputs)) + given.outputs.shape[1]
    held = sum(leaf.size for leaf in jax.tree.leaves(given.params)) + together * row
    chunks = -(-perturbations // max(1, CHUNK // held))
    return -(-perturbations // chunks)


def _standard_error(probability: float, count: int) -> float:
    return math.sqrt(probability * (1 - probability) / count)
