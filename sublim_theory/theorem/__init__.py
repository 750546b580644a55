"""Theorem 1 of arXiv 2507.14805 on any pure JAX function: exact updates, the first-order law, and a verdict.

    from sublim_theory.theorem import Problem, transfer_ratio, verify
    verify(f, params, teacher_loss, inputs).require()
    transfer_ratio(Problem(f, params, teacher_loss, inputs))

Beyond the sign: how much comes through (the spectrum of G), how large the steps may be, how close two initialisations
must be, and networks on which the conclusion fails without its hypotheses.

This package knows pure functions and pytrees, no network and no training.
"""

from sublim_theory.theorem.alignment import FirstOrder, by_layer, first_order, gauss_newton_product
from sublim_theory.theorem.counterexamples import (
    NoCounterexample,
    Witness,
    adam_first_step,
    different_initialisation,
    large_epsilon,
    violating_loss,
)
from sublim_theory.theorem.hypotheses import Hypotheses, HypothesisError, check_loss
from sublim_theory.theorem.largest_step import Bracket, largest_alpha, largest_epsilon
from sublim_theory.theorem.mismatch import (
    MismatchReport,
    measured_probability,
    mismatch,
    predicted_probability,
    sigma_star,
)
from sublim_theory.theorem.mismatch_measurement import Measured
from sublim_theory.theorem.problem import Problem
from sublim_theory.theorem.relu import ReluCertificate, relu_certificate
from sublim_theory.theorem.report import TheoremReport, TheoremViolation
from sublim_theory.theorem.spectrum import Eigenvalues, Trace, extreme_eigenvalues, gauss_newton_operator, trace
from sublim_theory.theorem.step_size import GuaranteedAlpha, StepSizes, guaranteed_alpha, step_sizes
from sublim_theory.theorem.transfer import (
    SpectralDistribution,
    TransferRatio,
    coverage,
    spectral_distribution,
    transfer_ratio,
)
from sublim_theory.theorem.updates import (
    student_direction,
    student_update,
    student_update_along_path,
    teacher_update,
)
from sublim_theory.theorem.verify import EPSILONS, verify

__all__ = [
    "EPSILONS",
    "Bracket",
    "Eigenvalues",
    "FirstOrder",
    "GuaranteedAlpha",
    "Hypotheses",
    "HypothesisError",
    "Measured",
    "MismatchReport",
    "NoCounterexample",
    "Problem",
    "ReluCertificate",
    "SpectralDistribution",
    "StepSizes",
    "TheoremReport",
    "TheoremViolation",
    "Trace",
    "TransferRatio",
    "Witness",
    "adam_first_step",
    "by_layer",
    "check_loss",
    "coverage",
    "different_initialisation",
    "extreme_eigenvalues",
    "first_order",
    "gauss_newton_operator",
    "gauss_newton_product",
    "guaranteed_alpha",
    "large_epsilon",
    "largest_alpha",
    "largest_epsilon",
    "measured_probability",
    "mismatch",
    "predicted_probability",
    "relu_certificate",
    "sigma_star",
    "spectral_distribution",
    "step_sizes",
    "student_direction",
    "student_update",
    "student_update_along_path",
    "teacher_update",
    "trace",
    "transfer_ratio",
    "verify",
    "violating_loss",
]
