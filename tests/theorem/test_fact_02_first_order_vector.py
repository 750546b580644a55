"""Fact 2: "The whole vector, not only the dot product: d_S(eps) = eps G d_T + O(eps^2). G is the generalised
Gauss-Newton (Fisher) matrix on the *student's* inputs: v -> Jv -> MJv -> J^T M J v costs one jvp and one vjp."

The remainder |d_S(eps) - eps G d_T| has slope 2.00 over six decades of eps, down to 1e-7; with the matrix of another
loss, of other inputs or of another initialisation it has slope 1, and in float32 it has none.
"""

import jax
import numpy as np
import oracle
import pytest
from instances import instance, law, plain, rescaled

from sublim_theory.theorem import verify

pytestmark = pytest.mark.usefixtures("x64")

EPSILONS = 10.0 ** -np.arange(2, 7.5, 0.5)
"""From 1e-2 down to 1e-7."""

each = pytest.mark.parametrize("activation", ["tanh", "gelu"])
CASES = pytest.mark.parametrize("loss", ["kl", "squared_error", "kl on the last two"])


def slopes(remainder):
    """Of the whole range, and of each decade in it."""
    logarithms = np.log(EPSILONS), np.log(remainder)
    whole = np.polyfit(*logarithms, 1)[0]
    decades = (logarithms[1][2:] - logarithms[1][:-2]) / (logarithms[0][2:] - logarithms[0][:-2])
    return whole, decades


def second_order(remainder):
    whole, decades = slopes(remainder)
    return bool(abs(whole - 2) <= 0.02 and np.all(np.abs(decades - 2) <= 0.05))


def remainder(activation, loss, product):
    """`|d_S(eps) - eps product|` at each eps, d_S from the library."""
    it = instance(activation)
    updates = rescaled(activation, loss, it.params, it.d_teacher, EPSILONS, it.inputs)
    return EPSILONS * np.linalg.norm(updates - product, axis=1)


@each
@CASES
def test_slope_of_the_remainder_is_two_over_five_decades(activation, loss):
    it = instance(activation)
    first, _ = law(activation, loss, it.params, it.d_teacher, it.inputs)
    assert EPSILONS[0] / EPSILONS[-1] > 0.99e5
    assert second_order(remainder(activation, loss, first.product))


@each
def test_slope_against_the_dense_matrix_is_two(activation):
    it = instance(activation)
    product = oracle.gauss_newton(it.params, it.inputs, activation, "kl") @ it.d_teacher
    assert second_order(remainder(activation, "kl", product))


@pytest.mark.skipif(not oracle.EXTENDED, reason="this machine has no float wider than 64 bits")
def test_slope_is_two_in_extended_precision_from_the_definitions_alone():
    it = instance("tanh")
    params, x = oracle.extended(it.params), it.inputs.astype(np.longdouble)
    product = oracle.gauss_newton(params, x, "tanh", "kl") @ it.d_teacher
    rest = []
    for epsilon in EPSILONS.astype(np.longdouble):
        teacher = oracle.moved(params, epsilon, it.d_teacher)
        exact = oracle.student_update(params, teacher, x, "tanh", "kl")
        rest.append(np.sqrt(np.sum((exact - epsilon * product) ** 2)))
    assert second_order(np.array(rest, float))
    # The absolute part is the rounding of the extended float: its last place, 1e-19, of outputs of size 1.
    measured = remainder("tanh", "kl", product.astype(float))
    np.testing.assert_allclose(measured, np.array(rest, float), rtol=1e-6, atol=1e-19)


def test_report_fits_the_same_order():
    it = instance("gelu")
    report = verify(it.f, it.params, it.teacher_loss, it.inputs, epsilons=EPSILONS)
    report.require()
    assert report.remainder_order == pytest.approx(2, abs=0.02)
    first, _ = law("gelu", "kl", it.params, it.d_teacher, it.inputs)
    relative = remainder("gelu", "kl", first.product) / EPSILONS / np.linalg.norm(first.product)
    np.testing.assert_allclose(report.relative_remainder[::-1], relative, rtol=1e-5)


# Negative controls


@each
def test_the_matrix_of_another_loss_or_of_other_inputs_leaves_a_first_order_remainder(activation):
    it = instance(activation)
    wrong = [
        oracle.gauss_newton(it.params, it.inputs, activation, "kl, T=3"),
        oracle.gauss_newton(it.params, it.trait_inputs, activation, "kl"),  # the teacher's inputs
        oracle.gauss_newton(instance(activation, seed=1).params, it.inputs, activation, "kl"),
    ]
    for matrix in wrong:
        rest = remainder(activation, "kl", matrix @ it.d_teacher)
        assert not second_order(rest)
        assert slopes(rest)[0] == pytest.approx(1, abs=0.02)


def test_in_float32_there_is_no_slope_of_two():
    it = instance("tanh")
    single = jax.tree.map(np.float32, it.params)
    product = oracle.gauss_newton(it.params, it.inputs, "tanh", "kl") @ it.d_teacher
    updates = plain("tanh", "kl", single, single, it.d_teacher.astype(np.float32), EPSILONS, np.float32(it.inputs))
    assert updates.dtype == np.float32
    assert not second_order(np.linalg.norm(updates - EPSILONS[:, None] * product, axis=1))
