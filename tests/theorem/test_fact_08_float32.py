"""Fact 8: "float32 makes false violations: the sign was wrong in 10 of 30 nets at eps = 1e-7, 1 of 30 at 1e-6; relative
error 1e-4 at 1e-3. ... Theory runs in float64. The difference f(theta + eps d) - f(theta) cancels at small eps; as eps
times the integral of J d along the segment (a few quadrature points of a jvp) it does not."

The same call, the same networks: float32 is the negative control, which must fail the check that float64 passes.
"""

import jax
import numpy as np
import oracle
import pytest
from instances import instance, plain, rescaled

from sublim_theory.theorem import verify

pytestmark = pytest.mark.usefixtures("x64")

NETWORKS = 30
WIDTHS = (12, 16, 16, 8)
EPSILONS = (1e-3, 1e-6, 1e-7)


def of(seed):
    return instance("tanh", seed, WIDTHS, 16)


@pytest.fixture(scope="module")
def cosines():
    """Of d_S(eps) and d_T by the definition, [networks, eps], in the two precisions."""
    result = {}
    for dtype in np.float32, np.float64:
        rows = []
        for seed in range(NETWORKS):
            params, d, x = jax.tree.map(dtype, (of(seed).params, of(seed).d_teacher, of(seed).inputs))
            update = plain("tanh", "kl on the last two", params, params, d, EPSILONS, x)
            assert update.dtype == dtype
            update = update.astype(np.float64)
            rows.append(update @ of(seed).d_teacher / np.maximum(np.linalg.norm(update, axis=1), 1e-300))
        result[dtype] = np.array(rows)
    return result


def violations(cosines):
    return np.sum(~(cosines > 0), axis=0)


def test_in_float64_there_is_no_violation(cosines):
    assert violations(cosines[np.float64]).tolist() == [0, 0, 0]


def test_in_float32_there_are_false_ones(cosines):
    """None at 1e-3; at 1e-7 a good part of the networks."""
    counts = violations(cosines[np.float32])
    assert counts[0] == 0
    assert counts[2] >= 3
    assert counts[2] >= counts[1]


def test_what_float32_loses_is_digits_of_the_update(cosines):
    gap = np.median(np.abs(cosines[np.float32] / cosines[np.float64] - 1), axis=0)
    assert gap[0] < 1e-2
    assert gap[2] > 0.1


def test_verify_given_float32_is_right_where_float32_arithmetic_is_wrong(cosines):
    """The network with the worst violation, handed over in float32."""
    worst = int(np.argmin(cosines[np.float32][:, 2]))
    assert cosines[np.float32][worst, 2] < 0 or np.isnan(cosines[np.float32][worst, 2])
    it = of(worst)
    params, x = jax.tree.map(np.float32, (it.params, it.inputs))
    report = verify(it.f, params, it.teacher_loss, x, logits=slice(-2, None), epsilons=(1e-12, 1e-7, 1e-3))
    report.require()
    assert min(report.cosine) > 0


@pytest.mark.skipif(not oracle.EXTENDED, reason="this machine has no float wider than 64 bits")
def test_along_the_path_nothing_cancels_and_by_the_definition_it_does():
    """Relative error of d_S against extended precision: of the plain form about 1e-16 / eps, of the other none."""
    it = instance("tanh")
    epsilons = np.array([1e-3, 1e-5, 1e-7, 1e-9])
    params, x = oracle.extended(it.params), it.inputs.astype(np.longdouble)
    path = rescaled("tanh", "kl", it.params, it.d_teacher, epsilons, it.inputs)
    definition = plain("tanh", "kl", it.params, it.params, it.d_teacher, epsilons, it.inputs) / epsilons[:, None]
    errors = []
    for epsilon, by_path, by_definition in zip(epsilons, path, definition, strict=True):
        teacher = oracle.moved(params, np.longdouble(epsilon), it.d_teacher)
        exact = oracle.student_update(params, teacher, x, "tanh", "kl") / epsilon
        errors.append((oracle.error(by_path, exact), oracle.error(by_definition, exact)))
    by_path, by_definition = np.array(errors).T
    assert np.all(by_path < 1e-14 + 1e-18 / epsilons)  # the second term is that of extended precision itself
    assert by_definition[-1] > 1e-9
    assert np.polyfit(np.log(epsilons), np.log(by_definition), 1)[0] == pytest.approx(-1, abs=0.3)
