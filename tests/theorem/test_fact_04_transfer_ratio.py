"""Fact 4: "Transfer ratio: to leading order the student's decrease of L_T over the teacher's is
alpha * (d_T^T G d_T) / ||d_T||^2, a Rayleigh quotient of G, at most alpha * lambda_max(G). The theorem gives the sign,
G the size."

The quotient of another loss, or of another initialisation, must not predict the measured ratio.
"""

import numpy as np
import oracle
import pytest
from instances import instance, rescaled

from sublim_theory.theorem import verify
from sublim_theory.theorem.updates import change_along

pytestmark = pytest.mark.usefixtures("x64")

ALPHA = 0.3
EPSILONS = (1e-9, 1e-6, 1e-3)


@pytest.fixture(scope="module")
def report():
    it = instance("tanh")
    return verify(it.f, it.params, it.teacher_loss, it.inputs, epsilons=EPSILONS, alpha=ALPHA)


@pytest.fixture(scope="module")
def measured(report):
    """Decrease of the student over decrease of the teacher at each eps, both as changes of L_T."""
    it = instance("tanh")
    steps = [oracle.like(it.params, epsilon * it.d_teacher) for epsilon in EPSILONS]
    teacher = [float(change_along(it.teacher_loss, it.params, step)) for step in steps]
    assert all(change < 0 for change in teacher)
    return np.array(report.teacher_loss_change) / teacher


def quotient(vector, loss="kl", seed=0):
    matrix = oracle.gauss_newton(instance("tanh", seed).params, instance("tanh").inputs, "tanh", loss)
    return ALPHA * (vector @ matrix @ vector) / (vector @ vector)


def predicts(ratio, measured):
    """Whether the measured ratios tend to it, with an error of first order in eps."""
    return bool(np.all(np.abs(measured / ratio - 1) < 10 * np.array(EPSILONS) + 1e-8))


def test_measured_ratio_tends_to_the_rayleigh_quotient(report, measured):
    ratio = quotient(instance("tanh").d_teacher)
    assert report.transfer_ratio == pytest.approx(ratio, rel=1e-10)
    assert predicts(ratio, measured)


def test_ratio_is_at_most_alpha_times_the_largest_eigenvalue(report):
    it = instance("tanh")
    largest = np.linalg.eigvalsh(oracle.gauss_newton(it.params, it.inputs, "tanh", "kl"))[-1]
    assert 0 < report.transfer_ratio < ALPHA * largest


@pytest.mark.parametrize("place", [-1, -2, -5])
def test_a_trait_along_an_eigenvector_transfers_by_its_eigenvalue(place):
    """L_T = -u . theta, so d_T = u and the decreases are linear: the ratio is alpha u . d_S / eps."""
    it = instance("tanh")
    values, vectors = np.linalg.eigh(oracle.gauss_newton(it.params, it.inputs, "tanh", "kl"))
    u = vectors[:, place]
    update = rescaled("tanh", "kl", it.params, u, EPSILONS[:2], it.inputs)
    np.testing.assert_allclose(update @ u, values[place], rtol=1e-4)
    assert update[0] @ u == pytest.approx(values[place], rel=1e-8)


def test_the_size_is_free_the_sign_is_not():
    """Directions of one length whose ratios lie a factor of 1,000 apart, all positive."""
    it = instance("tanh")
    values, vectors = np.linalg.eigh(oracle.gauss_newton(it.params, it.inputs, "tanh", "kl"))
    kept = vectors[:, values > 1e-6 * values[-1]]
    ratios = [rescaled("tanh", "kl", it.params, u, [1e-9], it.inputs)[0] @ u for u in kept.T]
    assert min(ratios) > 0
    assert max(ratios) > 1e3 * min(ratios)


# Negative controls


def test_quotient_of_another_loss_or_initialisation_does_not_predict(measured):
    d = instance("tanh").d_teacher
    assert not predicts(quotient(d, "squared_error"), measured)
    assert not predicts(quotient(d, "kl, T=3"), measured)
    assert not predicts(quotient(d, seed=1), measured)
    assert not predicts(quotient(np.random.default_rng(0).normal(size=len(d))), measured)
