"""Fact 1: "g(y, y) = 0 for all y gives dg/dz + dg/dy = 0 on the diagonal, hence M = d2L/dz2 at z = y: M is
*automatically* symmetric PSD once z = y is a minimum. ... This covers KL (same z-gradient as cross-entropy, so the same
d_S), temperature T (M divided by T^2 for the untempered-scale loss), Huber, log-cosh, Bregman losses."

Without g(y, y) = 0, or off the diagonal, the two matrices differ.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from instances import LOSSES, instance, jit, plain

from sublim_theory.geometry import hessian_product
from sublim_theory.theorem.hypotheses import offset_loss

pytestmark = pytest.mark.usefixtures("x64")

each = pytest.mark.parametrize("loss", LOSSES)
RNG = np.random.default_rng(11)
Y, Z = 1.5 * RNG.normal(size=(6, 5)), 1.5 * RNG.normal(size=(6, 5))


class Derivatives(NamedTuple):
    """At pairs (z, y): `dL/dz` [batch, n]; the others [batch, n, n]."""

    gradient: np.ndarray
    mixed: np.ndarray  # -d2L/dy dz
    hessian: np.ndarray  # d2L/dz2
    library: np.ndarray  # M of the library at y, the Hessian in z, by its products with the coordinates


@functools.cache
def compiled(loss):
    def one(z, y):
        return loss(z[None], y[None])[0]

    def product(y, v):
        return hessian_product(loss, y, y, jnp.broadcast_to(v[None], y.shape))

    def call(z, y):
        mixed = -jax.vmap(jax.jacfwd(jax.grad(one), argnums=1))(z, y)
        columns = jax.vmap(product, (None, 0), 2)(y, jnp.eye(y.shape[1]))
        return jax.vmap(jax.grad(one))(z, y), mixed, jax.vmap(jax.hessian(one))(z, y), columns

    return jit(call)


def derivatives(loss, z, y):
    return Derivatives(*map(np.asarray, compiled(loss)(z, y)))


def agree(a, b):
    return bool(np.allclose(a, b, rtol=1e-12, atol=1e-14))


@each
def test_on_the_diagonal_the_gradient_is_zero_and_m_is_the_hessian(loss):
    at = derivatives(LOSSES[loss], Y, Y)
    assert np.all(np.abs(at.gradient) < 1e-15)
    assert agree(at.mixed, at.hessian)
    assert agree(at.mixed, at.mixed.transpose(0, 2, 1))
    assert np.linalg.eigvalsh(at.mixed).min() > -1e-15


@each
def test_m_of_the_library_is_the_matrix_by_hand(loss):
    assert agree(derivatives(LOSSES[loss], Y, Y).library, oracle.LOSSES[loss][1](Y))


@each
def test_gradient_by_hand_is_that_of_the_library(loss):
    assert agree(derivatives(LOSSES[loss], Z, Y).gradient, oracle.LOSSES[loss][0](Z, Y))


def test_temperature_divides_m_by_its_square():
    assert agree(derivatives(LOSSES["kl, T=3"], 3 * Y, 3 * Y).library, derivatives(LOSSES["kl"], Y, Y).library / 9)


def test_kl_and_cross_entropy_give_the_same_update():
    it, other = instance("tanh"), instance("tanh", seed=1)
    for student in it.params, other.params:
        kl, cross_entropy = (
            plain("tanh", loss, student, it.params, it.d_teacher, [0.1], it.inputs) for loss in ("kl", "cross_entropy")
        )
        assert oracle.error(kl, cross_entropy) < 1e-13


# Negative controls


def test_without_a_stationary_diagonal_m_is_not_the_hessian():
    at = derivatives(offset_loss, Y, Y)
    assert not agree(at.mixed, at.hessian)
    assert agree(at.mixed, 2 * at.hessian)
    assert agree(at.library, at.hessian)  # what the library takes: derivatives in z alone


@pytest.mark.parametrize("loss", ["kl", "log_cosh", "bregman"])
def test_off_the_diagonal_m_is_not_the_hessian(loss):
    at = derivatives(LOSSES[loss], Z, Y)
    assert agree(at.mixed, at.hessian) == (loss == "log_cosh")  # a function of z - y alone is the exception
