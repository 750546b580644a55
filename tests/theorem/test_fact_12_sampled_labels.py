"""Fact 12: "With labels sampled from softmax(teacher) the expected student gradient equals the soft one: the lemma
holds in expectation."

The expectation is exact: every joint outcome of the labels of all inputs, with its probability. For one outcome, and
with the most likely label in place of a sampled one, the lemma fails.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from instances import draw, flatten, jit, mlp

from sublim_theory.losses import cross_entropy, soft_cross_entropy
from sublim_theory.theorem import imitation_update

pytestmark = pytest.mark.usefixtures("x64")

INPUTS, OUTPUTS, EPSILON = 4, 3, 1e-3
OUTCOMES = np.array(list(itertools.product(range(OUTPUTS), repeat=INPUTS)))  # [81, inputs]
F = mlp("tanh")


@pytest.fixture(scope="module")
def updates():
    """A call with params, direction and inputs: d_S of each outcome [outcomes, P], the soft one, teacher's outputs."""

    def hard(params, x, labels):
        return flatten(jax.grad(lambda params: -jnp.mean(cross_entropy(F(params, x), labels)))(params))

    @jit
    def call(params, d, x):
        teacher = jax.tree.map(lambda a, b: a + EPSILON * b, params, d)
        each = jax.vmap(hard, (None, None, 0))(params, x, OUTCOMES)
        return each, flatten(imitation_update(F, soft_cross_entropy, params, teacher, x)), F(teacher, x)

    return call


def problem(seed):
    rng = np.random.default_rng(seed)
    params = draw(rng, (4, 5, OUTPUTS))
    return params, rng.normal(size=len(oracle.flat(params))), rng.normal(size=(INPUTS, 4))


@pytest.mark.parametrize("seed", range(5))
def test_expected_update_with_sampled_labels_is_the_soft_one(updates, seed):
    params, d, x = problem(seed)
    each, soft, z = map(np.asarray, updates(params, oracle.like(params, d), x))
    p = oracle.softmax(z)
    probability = np.prod(p[np.arange(INPUTS), OUTCOMES], axis=1)
    assert probability.sum() == pytest.approx(1, abs=1e-14)
    expected = probability @ each
    # The terms of the sum are of the size of a single outcome's update, 1 / EPSILON times that of the soft one.
    np.testing.assert_allclose(expected, soft, rtol=0, atol=1e-14)
    assert np.abs(soft).max() > 1e-6
    exact = oracle.student_update(params, oracle.moved(params, EPSILON, d), x, "tanh", "cross_entropy")
    assert oracle.error(soft, exact) < 1e-10
    assert expected @ d > 0  # the lemma, in expectation


# Negative controls


def test_for_one_outcome_the_lemma_need_not_hold(updates):
    for seed in range(5):
        params, d, x = problem(seed)
        each, _, _ = updates(params, oracle.like(params, d), x)
        signs = np.sign(np.asarray(each) @ d)
        assert {-1.0, 1.0} <= set(signs)


def test_with_the_most_likely_labels_the_lemma_need_not_hold(updates):
    """Labels of temperature 0 carry almost nothing of a small step, and their update does not go to 0 with it."""
    violated = 0
    for seed in range(30):
        params, d, x = problem(seed)
        each, soft, z = map(np.asarray, updates(params, oracle.like(params, d), x))
        likely = each[np.flatnonzero((z.argmax(axis=1) == OUTCOMES).all(axis=1))[0]]
        assert np.linalg.norm(likely) > 10 * np.linalg.norm(soft)
        violated += likely @ d < 0
    assert 5 <= violated <= 25
