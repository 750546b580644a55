"""Theorem 1 of arXiv 2507.14805 on any pure JAX function: exact updates, the first-order law, and a verdict.

    from sublim_theory.theorem import verify
    verify(f, params, teacher_loss, inputs).require()

This package knows pure functions and pytrees, no network and no training.
"""

from sublim_theory.theorem.alignment import FirstOrder, by_layer, first_order, gauss_newton_product
from sublim_theory.theorem.hypotheses import Hypotheses, HypothesisError, check_loss
from sublim_theory.theorem.report import TheoremReport, TheoremViolation
from sublim_theory.theorem.updates import student_update, student_update_along_path, teacher_update
from sublim_theory.theorem.verify import EPSILONS, verify

__all__ = [
    "EPSILONS",
    "FirstOrder",
    "Hypotheses",
    "HypothesisError",
    "TheoremReport",
    "TheoremViolation",
    "by_layer",
    "check_loss",
    "first_order",
    "gauss_newton_product",
    "student_update",
    "student_update_along_path",
    "teacher_update",
    "verify",
]
