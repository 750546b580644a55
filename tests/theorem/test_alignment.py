"""G v, A and its decompositions against a dense float64 oracle by another route: relative error at most 1e-10."""

from itertools import cycle

import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from instances import ACTIVATIONS, LOSSES, flatten, instance, jit, law, rescaled

from sublim_theory.losses import squared_error
from sublim_theory.theorem import first_order

pytestmark = pytest.mark.usefixtures("x64")

# Every loss, and every activation twice.
PAIRS = pytest.mark.parametrize(("activation", "loss"), list(zip(cycle(ACTIVATIONS), LOSSES, strict=False)))


def directions(it):
    return it.d_teacher, np.random.default_rng(1).normal(size=len(it.d_teacher))


@PAIRS
def test_first_order_law_is_that_of_the_dense_matrix(activation, loss):
    it = instance(activation)
    matrix = oracle.gauss_newton(it.params, it.inputs, activation, loss)
    for v in directions(it):
        first, shares = law(activation, loss, it.params, v, it.inputs)
        assert oracle.error(first.product, matrix @ v) <= 1e-10
        assert float(first.coefficient) == pytest.approx(v @ matrix @ v, rel=1e-10)
        assert float(first.by_logit.sum()) == pytest.approx(v @ matrix @ v, rel=1e-10)
        assert float(sum(shares.values())) == pytest.approx(v @ matrix @ v, rel=1e-10)


@PAIRS
def test_shares_of_logits_and_layers_are_those_of_the_dense_matrix(activation, loss):
    it = instance(activation)
    j = oracle.jacobian(it.params, it.inputs, activation)
    m = oracle.LOSSES[loss][1](oracle.outputs(it.params, it.inputs, activation))
    v = it.d_teacher
    first, shares = law(activation, loss, it.params, v, it.inputs)
    logits = np.mean((j @ v) * np.einsum("bij,bj->bi", m, j @ v), axis=0)
    np.testing.assert_allclose(first.by_logit, logits, rtol=1e-10, atol=1e-10 * np.abs(logits).max())
    products = oracle.like(it.params, v * (oracle.gauss_newton(it.params, it.inputs, activation, loss) @ v))
    assert list(shares) == list(products)
    for name, layer in products.items():
        assert float(shares[name]) == pytest.approx(sum(np.sum(leaf) for leaf in layer.values()), rel=1e-9, abs=1e-14)


def test_what_follows_from_the_law_is_that_of_the_dense_matrix():
    it = instance("tanh")
    d, product = it.d_teacher, oracle.gauss_newton(it.params, it.inputs, "tanh", "kl") @ it.d_teacher
    elsewhere = np.random.default_rng(4).normal(size=len(d))

    @jit
    def numbers(params, d, x, displacement):
        first = first_order(it.f, LOSSES["kl"], params, d, x)
        return first.transfer_ratio(0.5), first.sigma_star(1e-3), first.coverage(displacement)

    ratio, star, cosine = numbers(it.params, oracle.like(it.params, d), it.inputs, oracle.like(it.params, elsewhere))
    assert float(ratio) == pytest.approx(0.5 * (d @ product) / (d @ d), rel=1e-10)
    assert float(star) == pytest.approx(1e-3 * (d @ product) / np.linalg.norm(product), rel=1e-10)
    assert float(cosine) == pytest.approx(
        product @ elsewhere / np.linalg.norm(product) / np.linalg.norm(elsewhere), rel=1e-10
    )
    assert numbers(it.params, oracle.like(it.params, 0 * d), it.inputs, oracle.like(it.params, elsewhere))[0] == 0


@pytest.mark.parametrize("loss", ["kl"])
def test_products_with_the_coordinates_are_a_symmetric_positive_semi_definite_matrix(loss):
    it = instance("tanh")
    columns = np.stack([law("tanh", loss, it.params, v, it.inputs)[0].product for v in np.eye(len(it.d_teacher))])
    dense = oracle.gauss_newton(it.params, it.inputs, "tanh", loss)
    scale = np.abs(dense).max()
    np.testing.assert_allclose(columns, dense, rtol=0, atol=1e-13 * scale)
    np.testing.assert_allclose(columns, columns.T, rtol=0, atol=1e-14 * scale)
    assert np.linalg.eigvalsh(columns).min() > -1e-14 * scale * len(columns)


def test_product_is_linear():
    it = instance("tanh")
    u, v = directions(it)
    gu, gv, both = (law("tanh", "kl", it.params, w, it.inputs)[0].product for w in (u, v, 2 * u - 3 * v))
    assert oracle.error(both, 2 * gu - 3 * gv) < 1e-13


@pytest.mark.parametrize("batch_size", [5, 12])
def test_streaming_over_batches_is_one_batch(batch_size):
    it = instance("tanh")
    d = oracle.like(it.params, it.d_teacher)

    @jit
    def streamed(x):
        result = first_order(it.f, LOSSES["kl"], it.params, d, x, batch_size=batch_size)
        return result._replace(direction=0.0, product=flatten(result.product))

    whole, _ = law("tanh", "kl", it.params, it.d_teacher, it.inputs)
    for measured, expected in zip(streamed(it.inputs)[1:], whole[1:], strict=True):
        np.testing.assert_allclose(measured, expected, rtol=1e-12, atol=1e-15)


def test_by_hand():
    """f = (a x, a + b) at x = 1, 2 under squared error, d_T = (1, -1): v = (x, 0), G d_T = 2 E[(x**2, 0)] = (5, 0)."""

    def f(params, x):
        return jnp.concatenate([params["a"] * x, jnp.full_like(x, 1) * (params["a"] + params["b"])], axis=1)

    params = {"a": jnp.float64(0.3), "b": jnp.float64(-2.0)}
    d = {"a": jnp.float64(1.0), "b": jnp.float64(-1.0)}
    call = jit(lambda params, d, x: first_order(f, squared_error, params, d, x))
    first = call(params, d, jnp.array([[1.0], [2.0]]))
    assert first.product == {"a": 5.0, "b": 0.0}
    assert first.coefficient == 5.0
    assert first.by_logit.tolist() == [5.0, 0.0]
    assert first.by_layer() == {"a": 5.0, "b": 0.0}


# Negative controls: the bound tells neighbours apart


def test_a_matrix_of_other_inputs_or_of_another_loss_is_outside_the_bound():
    it = instance("tanh")
    first, _ = law("tanh", "kl", it.params, it.d_teacher, it.inputs)
    for x, loss in (it.inputs[1:], "kl"), (it.inputs, "kl, T=3"):
        wrong = oracle.gauss_newton(it.params, x, "tanh", loss)
        assert oracle.error(first.product, wrong @ it.d_teacher) > 1e-3


def test_a_finite_step_is_outside_the_bound():
    it = instance("tanh")
    first, _ = law("tanh", "kl", it.params, it.d_teacher, it.inputs)
    assert oracle.error(rescaled("tanh", "kl", it.params, it.d_teacher, [1e-6], it.inputs)[0], first.product) > 1e-9
