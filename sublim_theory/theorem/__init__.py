"""Theorem 1 of arXiv 2507.14805 on any pure JAX function: exact updates, the first-order law, and a verdict.

    from sublim_theory.theorem import Instance, transfer_ratio, verify
    verify(f, params, teacher_loss, inputs).require()
    transfer_ratio(Instance(f, params, teacher_loss, inputs))

Beyond the sign: how much comes through (the spectrum of G), where the linearised student ends, how large the steps may
be, how close two initialisations must be, and networks on which the conclusion fails without its hypotheses. For one
network in numbers `certify` proves the sign on a whole interval of eps, `certify_descent` and `certify_box` the
decrease of the teacher's loss (with the extra `certificates`). The updates themselves are pure functions,
`theorem.updates`, for anybody's `jit`.

This package knows pure functions and pytrees, no network and no training. In the examples of its modules `instance` is
one of `f(w, x) = x @ w` under squared error, with inputs such that G is the identity, and `L_T = |w|**2`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from sublim_theory.geometry import by_layer, gauss_newton_product
from sublim_theory.theorem.counterexamples import (
    NoCounterexample,
    Witness,
    adam_first_step,
    different_initialisation,
    large_epsilon,
    violating_loss,
)
from sublim_theory.theorem.hypotheses import Hypotheses, HypothesisError, check_instance, check_loss
from sublim_theory.theorem.instance import Instance
from sublim_theory.theorem.limit import ImitationLimit, RangeProjection, imitation_limit, range_projection
from sublim_theory.theorem.mismatch import (
    Measured,
    MismatchReport,
    measured_probability,
    mismatch,
    predicted_probability,
    sigma_star,
)
from sublim_theory.theorem.relu import ReluCertificate, relu_certificate
from sublim_theory.theorem.spectrum import (
    Eigenvalues,
    SpectralDistribution,
    Trace,
    TransferRatio,
    coverage,
    extreme_eigenvalues,
    gauss_newton_operator,
    spectral_distribution,
    trace,
    transfer_ratio,
)
from sublim_theory.theorem.steps import (
    Bracket,
    GuaranteedAlpha,
    StepSizes,
    guaranteed_alpha,
    largest_alpha,
    largest_epsilon,
    step_sizes,
)
from sublim_theory.theorem.updates import (
    FirstOrder,
    Steps,
    change_along,
    curvature_along,
    first_order,
    imitation_update,
    student_steps,
    student_update,
    teacher_update,
)
from sublim_theory.theorem.verify import EPSILONS, TheoremReport, TheoremViolation, verify

if TYPE_CHECKING:
    from sublim_theory.theorem.certificates.alignment import Certificate, certify
    from sublim_theory.theorem.certificates.descent import (
        BoxCertificate,
        DescentCertificate,
        certify_box,
        certify_descent,
    )

Problem = Instance
"""The former name, for one release."""

_CERTIFICATES = {"alignment": ("Certificate", "certify")} | {
    "descent": ("BoxCertificate", "DescentCertificate", "certify_box", "certify_descent")
}
"""Loaded on use, as they need python-flint."""


def __getattr__(name: str) -> Any:
    for module, names in _CERTIFICATES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.certificates.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "EPSILONS",
    "BoxCertificate",
    "Bracket",
    "Certificate",
    "DescentCertificate",
    "Eigenvalues",
    "FirstOrder",
    "GuaranteedAlpha",
    "Hypotheses",
    "HypothesisError",
    "ImitationLimit",
    "Instance",
    "Measured",
    "MismatchReport",
    "NoCounterexample",
    "Problem",
    "RangeProjection",
    "ReluCertificate",
    "SpectralDistribution",
    "StepSizes",
    "Steps",
    "TheoremReport",
    "TheoremViolation",
    "Trace",
    "TransferRatio",
    "Witness",
    "adam_first_step",
    "by_layer",
    "certify",
    "certify_box",
    "certify_descent",
    "change_along",
    "check_instance",
    "check_loss",
    "coverage",
    "curvature_along",
    "different_initialisation",
    "extreme_eigenvalues",
    "first_order",
    "gauss_newton_operator",
    "gauss_newton_product",
    "guaranteed_alpha",
    "imitation_limit",
    "imitation_update",
    "large_epsilon",
    "largest_alpha",
    "largest_epsilon",
    "measured_probability",
    "mismatch",
    "predicted_probability",
    "range_projection",
    "relu_certificate",
    "sigma_star",
    "spectral_distribution",
    "step_sizes",
    "student_steps",
    "student_update",
    "teacher_update",
    "trace",
    "transfer_ratio",
    "verify",
    "violating_loss",
]
