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
from typing import Any

from scipy.special import ndtr

from sublim_theory.theorem.arguments import require_positive, require_positives
from sublim_theory.theorem.mismatch_measurement import Measured, binomial_error, checked_draws, first_order_law, measure
from sublim_theory.theorem.problem import Problem

EPSILON = 1e-6
"""Size of the teacher's step unless another is given: small enough for the law on any network of moderate curvature,
and large enough for the sign of a difference of outputs in float64."""

RATIOS = (0.3, 0.5, 1.0, 2.0, 3.0)
"""Multiples of sigma* that are tried unless others are given."""


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
    problem: Problem,
    *,
    epsilon: float = EPSILON,
) -> float:
    """`eps d_T^T G d_T / |G d_T|`: how far apart, in each parameter, two initialisations may be.

    Args:
        problem: the instance, its params being the teacher's initialisation.
        epsilon: size of the teacher's step, positive; sigma* is proportional to it.

    Raises:
        ValueError: naming the argument that is wrong; also where `G d_T` is exactly 0 (the orthogonal branch).
    """
    return first_order_law(problem, epsilon).sigma_star


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
    problem: Problem,
    sigma: float,
    *,
    epsilon: float = EPSILON,
    perturbations: int = 4000,
    seed: int = 0,
    chunk_size: int | None = None,
) -> Measured:
    """The fraction of students from `params + N(0, sigma**2 I)` whose exact update is aligned with the teacher's.

    Args:
        problem: the instance, its params being the teacher's initialisation.
        sigma: standard deviation of the perturbation of each parameter, positive.
        epsilon: size of the teacher's step, positive.
        perturbations: number of perturbed initialisations.
        seed: of the perturbations; perturbation i does not depend on how many there are, nor on the chunks.
        chunk_size: perturbations at a time; unless given, as many as hold `mismatch_measurement.CHUNK` numbers.

    Raises:
        ValueError: naming the argument that is wrong.
    """
    sigma, students = require_positive("sigma", sigma), checked_draws(perturbations, seed, chunk_size)
    return measure(problem, first_order_law(problem, epsilon), students, [sigma])[0]


def mismatch(
    problem: Problem,
    *,
    epsilon: float = EPSILON,
    ratios: Sequence[float] = RATIOS,
    perturbations: int = 4000,
    seed: int = 0,
    chunk_size: int | None = None,
) -> MismatchReport:
    """Compare the init-mismatch law, `P(d_S . d_T > 0) = Phi(sigma* / sigma)`, with perturbed initialisations.

    The updates are the exact ones, so the two agree only in the limit of small eps: `sigma = ratio sigma*` shrinks
    with it. The default serves smooth networks of any usual size; the report's `nonlinearity` says how far from the
    limit the perturbations were, and grows in proportion to eps. Piecewise-linear networks need an eps at which few
    perturbations cross a kink; the default is that small.

    Args:
        problem: the instance, its params being the teacher's initialisation.
        epsilon: size of the teacher's step, positive and small.
        ratios: the standard deviations of the perturbation, as multiples of sigma*.
        perturbations: number of perturbed initialisations at each ratio.
        seed: of the perturbations; the first ratio's are those of `measured_probability`.
        chunk_size: perturbations at a time; unless given, as many as hold `mismatch_measurement.CHUNK` numbers.

    Returns:
        The report; print it.

    Raises:
        ValueError: naming the argument that is wrong; also where `G d_T` is exactly 0 (the orthogonal branch).
    """
    multiples, students = require_positives("ratios", ratios), checked_draws(perturbations, seed, chunk_size)
    law = first_order_law(problem, epsilon)
    sigmas = tuple(multiple * law.sigma_star for multiple in multiples)
    measured = measure(problem, law, students, sigmas)
    predicted = tuple(predicted_probability(sigma, law.sigma_star) for sigma in sigmas)
    return MismatchReport(
        sigma_star=law.sigma_star,
        epsilon=law.epsilon,
        perturbations=students.perturbations,
        seed=seed,
        sigmas=sigmas,
        predicted=predicted,
        measured=tuple(row.probability for row in measured),
        standard_errors=tuple(binomial_error(p, perturbations) for p in predicted),
        nonlinearity=tuple(row.nonlinearity for row in measured),
    )
