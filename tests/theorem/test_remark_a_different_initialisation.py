"""Remark (a): "If the initialisations differ, to leading order the student imitates the *untrained* teacher: the update
does not depend on the trait at all."

With one and the same initialisation the opposite is true, which is the control.
"""

import numpy as np
import oracle
import pytest
from instances import SMALL, instance, plain, rescaled

from sublim_theory.theorem import verify

pytestmark = pytest.mark.usefixtures("x64")

ACTIVATION, LOSS = "tanh", "kl"


def updates(student, d, epsilons=SMALL):
    it = instance(ACTIVATION)
    return plain(ACTIVATION, LOSS, student, it.params, d, epsilons, it.inputs)


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


@pytest.fixture(scope="module")
def traits():
    """Updates of two unrelated traits: a classification, and any direction of the same length."""
    d = instance(ACTIVATION).d_teacher
    another = np.random.default_rng(0).normal(size=len(d))
    return d, another * np.linalg.norm(d) / np.linalg.norm(another)


@pytest.fixture(scope="module")
def other():
    return instance(ACTIVATION, seed=1).params


def test_limit_is_the_imitation_of_the_untrained_teacher(traits, other):
    it = instance(ACTIVATION)
    limit = oracle.student_update(other, it.params, it.inputs, ACTIVATION, LOSS)
    assert np.linalg.norm(limit) > 1e-2
    for d in traits:
        assert oracle.error(updates(other, d)[-1], limit) <= 1e-10


def test_update_does_not_depend_on_the_trait_to_leading_order(traits, other):
    first, second = (updates(other, d) for d in traits)
    gaps = np.linalg.norm(first - second, axis=1) / np.linalg.norm(first, axis=1)
    assert np.all(gaps < 10 * SMALL + 1e-13)
    assert cosine(first[-1], second[-1]) == pytest.approx(1, abs=1e-12)


def test_what_is_left_of_the_trait_is_of_first_order(traits, other):
    """|d_S(eps) - d_S(0)| falls like eps: its slope is 1, where with one initialisation d_S itself is that small."""
    it = instance(ACTIVATION)
    limit = oracle.student_update(other, it.params, it.inputs, ACTIVATION, LOSS)
    epsilons = 10.0 ** -np.arange(3, 8)
    rest = np.linalg.norm(updates(other, traits[0], epsilons) - limit, axis=1)
    assert np.polyfit(np.log(epsilons), np.log(rest), 1)[0] == pytest.approx(1, abs=0.01)


def test_sign_of_the_alignment_is_a_coin_flip():
    positive = 0
    for seed in range(40):
        it, other = instance(ACTIVATION, seed), instance(ACTIVATION, 100 + seed)
        update = plain(ACTIVATION, LOSS, other.params, it.params, it.d_teacher, SMALL, it.inputs)
        signs = np.sign(update @ it.d_teacher)
        assert len(set(signs)) == 1  # the same at every eps: the trait has no say
        positive += signs[0] > 0
    assert 8 <= positive <= 32


def test_report_names_the_branch_and_the_law_is_not_followed(other):
    it = instance(ACTIVATION)
    report = verify(it.f, it.params, it.teacher_loss, it.inputs, epsilons=(1e-9, 1e-6, 1e-3), student_params=other)
    assert report.branch == "different-initialisation"
    assert not report.holds
    assert any("student_params differ from params" in failure for failure in report.failures)
    assert any("does not follow the first-order law" in failure for failure in report.failures)
    # From another initialisation |d_S - eps G d_T| / |eps G d_T| grows like 1 / eps.
    remainder = np.array(report.relative_remainder)
    np.testing.assert_allclose(remainder[:-1] / remainder[1:], 1e3, rtol=0.05)


# Negative controls: one and the same initialisation


def test_with_a_shared_initialisation_the_limit_is_zero_and_the_trait_decides_the_direction(traits):
    it = instance(ACTIVATION)
    first, second = (rescaled(ACTIVATION, LOSS, it.params, d, SMALL, it.inputs) for d in traits)
    for d, update in zip(traits, (first, second), strict=True):
        assert np.all(np.linalg.norm(updates(it.params, d), axis=1) < 10 * SMALL)
        assert np.all(update @ d > 0)
    assert np.all([abs(cosine(a, b)) < 0.9 for a, b in zip(first, second, strict=True)])
