"""Remark (c): "The orthogonal branch should arise only when engineered."

Random networks are all on the transfer branch, by a wide margin; an engineered network leaves the orthogonal branch
with the least addition to its trait, however small, and A grows with the square of that addition.
"""

import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from instances import ACTIVATIONS, AUXILIARY, instance, jit, law

from sublim_theory import geometry
from sublim_theory.losses import kl_divergence, on_logits
from sublim_theory.theorem import first_order, teacher_update, verify

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_random_networks_are_on_the_transfer_branch_by_a_margin(activation):
    """cos(d_T, G d_T) is what a coincidence would have to make 0; rounding of it is 1e-16."""
    for seed in range(60):
        it = instance(activation, seed)
        first, _ = law(activation, "kl on the last two", it.params, it.d_teacher, it.inputs)
        assert first.coefficient > 1e-6 * np.linalg.norm(it.d_teacher) * np.linalg.norm(first.product)


@pytest.fixture(scope="module")
def engineered():
    """A trait in the biases of the class head alone, and `size` times a trait of the whole network on top."""
    it = instance("tanh")

    def teacher_loss(params, size):
        return jnp.sum(jnp.square(params["layer_2"]["bias"][:3] - 1)) + size * it.teacher_loss(params)

    return it, teacher_loss


def test_engineered_network_is_on_it_exactly_and_the_least_addition_leaves_it(engineered):
    it, teacher_loss = engineered
    loss = on_logits(kl_divergence, AUXILIARY)

    @jit
    def coefficient(size):
        d_teacher = teacher_update(lambda params: teacher_loss(params, size), it.params)
        first = first_order(it.f, loss, it.params, d_teacher, it.inputs)
        return first.coefficient, geometry.norm(first.product)

    assert coefficient(0.0) == (0.0, 0.0)
    sizes = 10.0 ** -np.arange(0, 16, 3)
    measured = np.array([coefficient(size)[0] for size in sizes])
    assert np.all(measured > 0)
    matrix = oracle.gauss_newton(it.params, it.inputs, "tanh", "kl on the last two")
    np.testing.assert_allclose(measured, sizes**2 * (it.d_teacher @ matrix @ it.d_teacher), rtol=1e-10)


def test_branch_in_the_report_is_not_decided_by_a_small_number(engineered):
    it, teacher_loss = engineered
    report = verify(
        it.f, it.params, lambda params: teacher_loss(params, 1e-12), it.inputs, logits=AUXILIARY, epsilons=(1e-9, 1e-3)
    )
    assert report.branch == "transfer"
    assert 0 < report.first_order < 1e-20
    report.require()


def test_a_small_number_would_take_the_addition_for_an_orthogonal_branch(engineered):
    """The negative control of the detection: A is 1e-24 of itself, far below any threshold in use, and not 0."""
    it, _ = engineered
    first, _ = law("tanh", "kl on the last two", it.params, 1e-12 * it.d_teacher, it.inputs)
    assert np.isclose(first.coefficient, 0.0)
    assert first.coefficient != 0.0
