"""Losses against float64 formulas, central differences and hand-derived numbers; which logits a softmax sees."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from sublim_theory import losses

AUXILIARY, CLASSES, EVERYTHING = slice(10, 13), slice(0, 10), slice(0, 13)
LN3 = np.log(3.0)
WEIGHTS = (0.5, 2.0, 1.0, 3.0)


def logits(seed, width=4, rows=5, scale=2.0):
    return scale * np.random.default_rng(seed).normal(size=(rows, width))


def numpy_kl(student, teacher, temperature=1.0):
    p, q = special.softmax(teacher / temperature, -1), special.softmax(student / temperature, -1)
    return special.rel_entr(p, q).sum(-1)


def numpy_cross_entropy(student, teacher, temperature=1.0):
    return -(special.softmax(teacher / temperature, -1) * special.log_softmax(student / temperature, -1)).sum(-1)


def numpy_squared_error(student, teacher, weights=1.0):
    return (weights * (student - teacher) ** 2).sum(-1)


def numpy_huber(student, teacher, delta=1.0):
    return special.huber(delta, student - teacher).sum(-1)


ORACLES = {
    "kl": numpy_kl,
    "cross_entropy": numpy_cross_entropy,
    "squared_error": numpy_squared_error,
    "huber": numpy_huber,
}
# name -> (loss, the same in numpy)
CASES = {
    **{name: (losses.imitation(name), oracle) for name, oracle in ORACLES.items()},
    "kl, T=3": (losses.imitation("kl", temperature=3.0), partial(numpy_kl, temperature=3.0)),
    "cross_entropy, T=0.5": (
        losses.imitation("cross_entropy", temperature=0.5),
        partial(numpy_cross_entropy, temperature=0.5),
    ),
    "weighted squares": (
        partial(losses.squared_error, weights=WEIGHTS),
        partial(numpy_squared_error, weights=np.array(WEIGHTS)),
    ),
    "huber, delta=0.7": (partial(losses.huber, delta=0.7), partial(numpy_huber, delta=0.7)),
}


@partial(jax.jit, static_argnums=0)
def value_and_slopes(loss, student, teacher):
    """Losses [batch], and the gradient of their sum in the student's logits."""
    value, back = jax.vjp(lambda z: loss(z, teacher), student)
    return value, back(jnp.ones_like(value))[0]


def central_differences(function, z, step=1e-5):
    """Derivative of the sum of `function(z)` [batch] in every entry of z."""
    result = np.empty_like(z)
    for place in np.ndindex(z.shape):
        shift = np.zeros_like(z)
        shift[place] = step
        result[place] = (function(z + shift) - function(z - shift)).sum() / (2 * step)
    return result


# Values and gradients


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("loss", "oracle"), CASES.values(), ids=CASES)
def test_a_loss_is_its_formula_and_so_is_its_gradient_in_the_dtype_of_the_logits(loss, oracle, dtype):
    """Five pairs of logits, five equal pairs, and forty that are from a little to far apart."""
    teacher = np.vstack([logits(1), logits(1), np.repeat(logits(1, rows=1), 40, axis=0)]).astype(dtype)
    apart = np.vstack([logits(0) - logits(1), np.zeros((5, 4)), logits(2, rows=40) * np.logspace(-3, 1, 40)[:, None]])
    student = teacher + apart.astype(dtype)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        value, slopes = value_and_slopes(loss, student, teacher)
        least = loss(teacher, teacher)
    assert value.dtype == slopes.dtype == dtype
    exact, fine = (1e-12, 1e-14) if dtype == np.float64 else (1e-5, 1e-6)
    np.testing.assert_allclose(value, oracle(*np.float64([student, teacher])), rtol=exact, atol=fine)
    np.testing.assert_allclose(slopes[5:10], 0, atol=fine)
    if dtype == np.float64:
        differences = central_differences(lambda z: oracle(z, teacher[:5]), student[:5])
        np.testing.assert_allclose(slopes[:5], differences, atol=1e-9)
        assert np.all(value[10:] > least[10:]), "the teacher's logits are the minimum"


def test_residuals_above_reach_both_branches_of_huber():
    size = np.abs(logits(0) - logits(1))
    for delta in 0.7, 1.0:
        assert 2 <= (size < delta - 1e-3).sum() <= 18
        assert np.abs(size - delta).min() > 1e-4


@pytest.mark.parametrize(
    ("loss", "student", "teacher", "value"),
    [
        # softmax(ln 3, 0) = (3/4, 1/4)
        (losses.kl_divergence, (0, 0), (LN3, 0), 0.75 * np.log(1.5) - 0.25 * np.log(2)),
        (losses.kl_divergence, (LN3, 0), (0, 0), np.log(2) - 0.5 * LN3),
        (partial(losses.kl_divergence, temperature=2.0), (0, 0), (2 * LN3, 0), 0.75 * np.log(1.5) - 0.25 * np.log(2)),
        (losses.soft_cross_entropy, (LN3, 0), (LN3, 0), np.log(4) - 0.75 * LN3),
        (losses.huber, (0.5, 3), (0, 0), 0.125 + 2.5),
        (partial(losses.huber, delta=2.0), (0.5, 3), (0, 0), 0.125 + 4),
    ],
)
def test_value_by_hand(loss, student, teacher, value):
    assert loss(np.float32([student]), np.float32([teacher]))[0] == pytest.approx(value, rel=1e-6)


def test_cross_entropy_with_labels_by_hand_and_its_gradient_by_differences():
    value = losses.cross_entropy(np.float32([[LN3, 0], [LN3, 0], [0, 0]]), np.array([0, 1, 1]))
    np.testing.assert_allclose(value, [np.log(4 / 3), np.log(4), np.log(2)], rtol=1e-6)
    z, labels = logits(0), np.array([0, 3, 1, 2, 3])
    differences = central_differences(lambda z: special.logsumexp(z, -1) - z[np.arange(5), labels], z)
    with jax.enable_x64(True):
        computed = jax.jit(jax.grad(lambda z: losses.cross_entropy(z, labels).sum()))(z)
    np.testing.assert_allclose(computed, differences, atol=1e-9)


@pytest.mark.parametrize("loss", [losses.kl_divergence, losses.soft_cross_entropy])
def test_softmax_losses_survive_saturated_logits(loss):
    value, slopes = value_and_slopes(loss, np.float32([[1e4, 0]]), np.float32([[0, 1e4]]))
    assert value[0] == pytest.approx(1e4)
    np.testing.assert_array_equal(slopes, [[1, -1]])


# The right logits


def test_softmax_runs_over_the_chosen_logits_alone():
    student, teacher = logits(0, 13), logits(1, 13)
    with jax.enable_x64(True):
        for part in AUXILIARY, CLASSES, EVERYTHING:
            value = losses.on_logits(losses.kl_divergence, part)(student, teacher)
            np.testing.assert_allclose(value, numpy_kl(student[:, part], teacher[:, part]), rtol=1e-12)
    sliced = special.rel_entr(special.softmax(teacher, -1), special.softmax(student, -1))[:, AUXILIARY].sum(-1)
    right = numpy_kl(student[:, AUXILIARY], teacher[:, AUXILIARY])
    assert np.all(np.abs(right - sliced) > 0.01), "a softmax over all 13, then a slice, is another number"
    with pytest.raises(ValueError, match=r"slice\(10, 13, None\) selects none of 10 logits"):
        losses.on_logits(losses.kl_divergence, AUXILIARY)(student[:, :10], teacher[:, :10])


@pytest.mark.parametrize("name", losses.IMITATION)
def test_auxiliary_loss_does_not_see_class_logits_at_all(name):
    loss = losses.on_logits(losses.imitation(name), AUXILIARY)
    student, teacher = (logits(seed, 13).astype(np.float32) for seed in (0, 1))
    other_student, other_teacher = student.copy(), teacher.copy()
    other_student[:, CLASSES], other_teacher[:, CLASSES] = 50 * logits(2, 10), 50 * logits(3, 10)
    value, slopes = value_and_slopes(loss, student, teacher)
    np.testing.assert_array_equal(value, value_and_slopes(loss, other_student, other_teacher)[0])
    assert not slopes[:, CLASSES].any()
    assert slopes[:, AUXILIARY].all()


@pytest.mark.parametrize(("name", "temperature"), [("kl", None), ("kl", 2.0), ("cross_entropy", 2.0)])
def test_one_logit_under_a_softmax_has_exactly_no_loss_and_no_gradient(name, temperature):
    loss = losses.on_logits(losses.imitation(name, temperature=temperature), slice(10, 11))
    value, slopes = value_and_slopes(loss, *(logits(seed, 11).astype(np.float32) for seed in (0, 1)))
    assert not value.any()
    assert not slopes.any()


def test_one_logit_under_squared_error_has_both():
    student, teacher = (logits(seed, 11).astype(np.float32) for seed in (0, 1))
    value, slopes = value_and_slopes(losses.on_logits(losses.squared_error, slice(10, 11)), student, teacher)
    residual = student[:, 10] - teacher[:, 10]
    np.testing.assert_allclose(value, residual**2, rtol=1e-6)
    np.testing.assert_allclose(slopes[:, 10], 2 * residual, rtol=1e-6)


# Errors


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", losses.IMITATION)
def test_different_shapes_are_an_error_that_names_both(name):
    for shape in (5, 3), (1, 4), (4,):
        with pytest.raises(ValueError, match=r"student logits \(5, 4\) and teacher logits \("):
            losses.imitation(name)(np.zeros((5, 4)), np.zeros(shape))


@pytest.mark.usefixtures("unchecked")
def test_weights_are_one_for_each_logit():
    with pytest.raises(ValueError, match=r"weights must have shape \(4,\), one for each logit, got \(3,\)"):
        losses.squared_error(logits(0), logits(1), WEIGHTS[:3])


@pytest.mark.parametrize(
    ("name", "temperature", "message"),
    [
        ("squared_eror", None, "unknown imitation loss 'squared_eror'; did you mean 'squared_error'"),
        ("mse", None, "'mse'.* choose from: kl, cross_entropy, squared_error, huber"),
        ("kl", 0.0, "temperature must be positive and finite, got 0"),
        ("cross_entropy", float("nan"), "got nan"),
        ("huber", 2.0, "'huber' has no temperature"),
        ("squared_error", 1.0, "'squared_error' has no temperature"),
    ],
)
def test_imitation_names_the_wrong_setting(name, temperature, message):
    with pytest.raises(ValueError, match=message):
        losses.imitation(name, temperature=temperature)


@pytest.mark.parametrize("number", [np.float64, jnp.float32, np.int64, jnp.int32, np.array], ids=str)
def test_settings_are_checked_and_work_whatever_their_type(number):
    student, teacher = (logits(seed).astype(np.float32) for seed in (0, 1))
    for bad in (0, -2):
        with pytest.raises(ValueError, match="temperature must be positive and finite, got"):
            losses.imitation("kl", temperature=number(bad))
        with pytest.raises(ValueError, match="temperature must be positive and finite, got"):
            losses.soft_cross_entropy(student, teacher, number(bad))
        with pytest.raises(ValueError, match="delta must be positive and finite, got"):
            losses.huber(student, teacher, number(bad))
    value = losses.kl_divergence(student, teacher, number(2))
    np.testing.assert_array_equal(value, losses.kl_divergence(student, teacher, 2.0))
    assert value.dtype == np.float32


@pytest.mark.parametrize(
    "bad", [True, "2", np.nan, np.float32(np.nan), jnp.float32(np.inf), np.ones(1), jnp.ones((2, 1))]
)
@pytest.mark.usefixtures("unchecked")
def test_what_is_no_number_is_no_temperature(bad):
    with pytest.raises(ValueError, match="temperature must be"):
        losses.imitation("kl", temperature=bad)


def test_a_traced_temperature_does_not_widen_the_logits():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        single = logits(0).astype(np.float32)
        value = jax.jit(lambda t: losses.imitation("kl", temperature=t)(single, -single))(np.float64(2))
    assert value.dtype == np.float32


@pytest.mark.parametrize("kind", [np.array, jnp.array, np.int8])
def test_labels_that_are_no_classes_are_named(kind):
    losses.cross_entropy(np.zeros((3, 3), np.float32), kind([0, 1, 2]))
    for bad in (3, -1, 100):
        with pytest.raises(ValueError, match=f"labels must be from 0 to 2, .* got {bad} in place 1"):
            losses.cross_entropy(np.zeros((3, 3), np.float32), kind([0, bad, 2]))


@pytest.mark.usefixtures("unchecked")
def test_labels_are_whole_numbers():
    with pytest.raises(ValueError, match="labels must be whole numbers"):
        losses.cross_entropy(np.zeros((2, 3), np.float32), np.array([0.0, 1.0]))
