"""Losses against float64 formulas, central differences and hand-derived numbers; which logits a softmax sees."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from sublim_theory import losses

AUXILIARY, CLASSES, EVERYTHING = slice(10, 13), slice(0, 10), slice(0, 13)
LN3 = np.log(3.0)
WEIGHTS = (0.5, 2.0, 1.0, 3.0)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


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


# name -> (loss, the same in numpy)
CASES = {
    "kl": (losses.kl_divergence, numpy_kl),
    "kl, T=3": (partial(losses.kl_divergence, temperature=3.0), partial(numpy_kl, temperature=3.0)),
    "kl, T=0.5": (partial(losses.kl_divergence, temperature=0.5), partial(numpy_kl, temperature=0.5)),
    "ce": (losses.soft_cross_entropy, numpy_cross_entropy),
    "ce, T=3": (partial(losses.soft_cross_entropy, temperature=3.0), partial(numpy_cross_entropy, temperature=3.0)),
    "squares": (losses.squared_error, numpy_squared_error),
    "weighted squares": (
        partial(losses.squared_error, weights=WEIGHTS),
        partial(numpy_squared_error, weights=np.array(WEIGHTS)),
    ),
    "huber": (losses.huber, numpy_huber),
    "huber, delta=0.7": (partial(losses.huber, delta=0.7), partial(numpy_huber, delta=0.7)),
    "some logits": (
        losses.on_logits(losses.kl_divergence, slice(1, 4)),
        lambda student, teacher: numpy_kl(student[:, 1:4], teacher[:, 1:4]),
    ),
}
each = pytest.mark.parametrize(("loss", "oracle"), CASES.values(), ids=CASES)


def evaluate(loss, student, teacher):
    return np.asarray(jax.jit(loss)(student, teacher))


def gradient(loss, student, teacher):
    return np.asarray(jax.jit(jax.grad(lambda z: loss(z, jnp.asarray(teacher)).sum()))(jnp.asarray(student)))


def central_differences(function, z, step=1e-5):
    """Derivative of the sum of `function(z)` [batch] in every entry of z."""
    result = np.empty_like(z)
    for place in np.ndindex(z.shape):
        shift = np.zeros_like(z)
        shift[place] = step
        result[place] = (function(z + shift) - function(z - shift)).sum() / (2 * step)
    return result


# Values


@pytest.mark.parametrize(
    ("loss", "student", "teacher", "value"),
    [
        # softmax(ln 3, 0) = (3/4, 1/4)
        (losses.kl_divergence, (0, 0), (LN3, 0), 0.75 * np.log(1.5) - 0.25 * np.log(2)),
        (losses.kl_divergence, (LN3, 0), (0, 0), np.log(2) - 0.5 * LN3),
        (partial(losses.kl_divergence, temperature=2.0), (0, 0), (2 * LN3, 0), 0.75 * np.log(1.5) - 0.25 * np.log(2)),
        (losses.soft_cross_entropy, (LN3, 0), (LN3, 0), np.log(4) - 0.75 * LN3),
        (losses.soft_cross_entropy, (0, 0), (LN3, 0), np.log(2)),
        (losses.squared_error, (1, 2, -1), (0, 0, 0), 6),
        (partial(losses.squared_error, weights=(1, 0.5, 2)), (1, 2, -1), (0, 0, 0), 5),
        (losses.huber, (0.5, 3, -2), (0, 0, 0), 0.125 + 2.5 + 1.5),
        (partial(losses.huber, delta=2.0), (0.5, 3, -2), (0, 0, 0), 0.125 + 4 + 2),
    ],
)
def test_value_by_hand(loss, student, teacher, value):
    computed = evaluate(loss, np.array([student], np.float32), np.array([teacher], np.float32))
    assert computed[0] == pytest.approx(value, rel=1e-6)


def test_cross_entropy_with_labels_by_hand():
    z = np.array([[LN3, 0], [LN3, 0], [0, 0]], np.float32)
    value = evaluate(losses.cross_entropy, z, np.array([0, 1, 1]))
    np.testing.assert_allclose(value, [np.log(4 / 3), np.log(4), np.log(2)], rtol=1e-6)


@pytest.mark.usefixtures("x64")
@each
def test_value_is_the_formula_for_each_example(loss, oracle):
    student, teacher = logits(0), logits(1)
    value = evaluate(loss, student, teacher)
    assert value.shape == (5,)
    np.testing.assert_allclose(value, oracle(student, teacher), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", losses.IMITATION)
def test_dtype_is_that_of_the_logits(name):
    single, double = (jax.ShapeDtypeStruct((2, 3), dtype) for dtype in (np.float32, np.float64))
    assert jax.eval_shape(losses.imitation(name), single, single).dtype == np.float32
    with jax.enable_x64(True):
        assert jax.eval_shape(losses.imitation(name), single, single).dtype == np.float32
        assert jax.eval_shape(losses.imitation(name), double, double).dtype == np.float64


@pytest.mark.parametrize("loss", [losses.kl_divergence, losses.soft_cross_entropy])
def test_softmax_losses_survive_saturated_logits(loss):
    student, teacher = jnp.array([[1e4, 0.0]]), jnp.array([[0.0, 1e4]])
    assert evaluate(loss, student, teacher)[0] == pytest.approx(1e4)
    np.testing.assert_array_equal(gradient(loss, student, teacher), [[1, -1]])


# Gradients


@pytest.mark.usefixtures("x64")
@each
def test_gradient_agrees_with_central_differences(loss, oracle):
    student, teacher = logits(0), logits(1)
    differences = central_differences(lambda z: oracle(z, teacher), student)
    np.testing.assert_allclose(gradient(loss, student, teacher), differences, atol=1e-9)


def test_residuals_above_reach_both_branches_of_huber():
    size = np.abs(logits(0) - logits(1))
    for delta in 0.7, 1.0:
        assert 2 <= (size < delta - 1e-3).sum() <= 18
        assert np.abs(size - delta).min() > 1e-4


@pytest.mark.usefixtures("x64")
def test_gradient_of_cross_entropy_with_labels_agrees_with_central_differences():
    z, labels = logits(0), np.array([0, 3, 1, 2, 3])
    differences = central_differences(lambda z: special.logsumexp(z, -1) - z[np.arange(5), labels], z)
    computed = jax.jit(jax.grad(lambda z: losses.cross_entropy(z, labels).sum()))(jnp.asarray(z))
    np.testing.assert_allclose(computed, differences, atol=1e-9)


@pytest.mark.usefixtures("x64")
@each
def test_gradient_is_zero_where_student_equals_teacher(loss, oracle):
    del oracle
    np.testing.assert_allclose(gradient(loss, logits(1), logits(1)), 0, atol=1e-15)


@pytest.mark.usefixtures("x64")
@each
def test_the_teachers_logits_are_the_minimum(loss, oracle):
    del oracle
    teacher = np.repeat(logits(1, rows=1), 300, axis=0)
    student = teacher + logits(2, rows=300) * np.logspace(-3, 1, 300)[:, None]
    assert np.all(evaluate(loss, student, teacher) > evaluate(loss, teacher, teacher))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_kl_and_cross_entropy_differ_by_the_teachers_entropy_and_have_one_gradient(temperature):
    student, teacher = logits(0), logits(1)
    kl, ce = (losses.imitation(name, temperature=temperature) for name in ("kl", "cross_entropy"))
    entropy = stats.entropy(special.softmax(teacher / temperature, -1), axis=-1)
    np.testing.assert_allclose(evaluate(ce, student, teacher) - evaluate(kl, student, teacher), entropy, rtol=1e-12)
    np.testing.assert_allclose(gradient(kl, student, teacher), gradient(ce, student, teacher), atol=1e-14)


@pytest.mark.usefixtures("x64")
def test_temperature_carries_no_factor_t_squared():
    student, teacher = logits(0), logits(1)
    hot = evaluate(losses.imitation("kl", temperature=4.0), student, teacher)
    np.testing.assert_allclose(hot, numpy_kl(student / 4, teacher / 4), rtol=1e-12)


# The right logits


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("part", [AUXILIARY, CLASSES, EVERYTHING], ids=["auxiliary", "classes", "everything"])
def test_softmax_runs_over_the_chosen_logits_alone(part):
    student, teacher = logits(0, 13), logits(1, 13)
    value = evaluate(losses.on_logits(losses.kl_divergence, part), student, teacher)
    np.testing.assert_allclose(value, numpy_kl(student[:, part], teacher[:, part]), rtol=1e-12)


def test_softmax_over_13_logits_then_a_slice_is_another_number():
    student, teacher = logits(0, 13), logits(1, 13)
    sliced = special.rel_entr(special.softmax(teacher, -1), special.softmax(student, -1))[:, AUXILIARY].sum(-1)
    value = evaluate(losses.on_logits(losses.kl_divergence, AUXILIARY), student, teacher)
    assert np.all(np.abs(value - sliced) > 0.01)


@pytest.mark.parametrize("name", losses.IMITATION)
def test_auxiliary_loss_does_not_see_class_logits_at_all(name):
    loss = losses.on_logits(losses.imitation(name), AUXILIARY)
    student, teacher = (logits(seed, 13).astype(np.float32) for seed in (0, 1))
    other_student, other_teacher = student.copy(), teacher.copy()
    other_student[:, CLASSES], other_teacher[:, CLASSES] = 50 * logits(2, 10), 50 * logits(3, 10)
    np.testing.assert_array_equal(evaluate(loss, student, teacher), evaluate(loss, other_student, other_teacher))
    slopes = gradient(loss, student, teacher)
    assert not slopes[:, CLASSES].any()
    assert slopes[:, AUXILIARY].all()


@pytest.mark.parametrize("temperature", [None, 2.0])
@pytest.mark.parametrize("name", ["kl", "cross_entropy"])
def test_one_logit_under_a_softmax_has_exactly_no_loss_and_no_gradient(name, temperature):
    loss = losses.on_logits(losses.imitation(name, temperature=temperature), slice(10, 11))
    student, teacher = (logits(seed, 11).astype(np.float32) for seed in (0, 1))
    assert not evaluate(loss, student, teacher).any()
    assert not gradient(loss, student, teacher).any()


def test_one_logit_under_squared_error_has_both():
    loss = losses.on_logits(losses.squared_error, slice(10, 11))
    student, teacher = (logits(seed, 11).astype(np.float32) for seed in (0, 1))
    residual = student[:, 10] - teacher[:, 10]
    np.testing.assert_allclose(evaluate(loss, student, teacher), residual**2, rtol=1e-6)
    np.testing.assert_allclose(gradient(loss, student, teacher)[:, 10], 2 * residual, rtol=1e-6)


# Errors


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("shape", [(5, 3), (1, 4), (4,)])
@pytest.mark.parametrize("name", losses.IMITATION)
def test_different_shapes_are_an_error_that_names_both(name, shape):
    with pytest.raises(ValueError, match=r"student logits \(5, 4\) and teacher logits \("):
        losses.imitation(name)(np.zeros((5, 4)), np.zeros(shape))


def test_imitation_is_the_loss_of_that_name():
    student, teacher = logits(0), logits(1)
    formulas = {
        "kl": numpy_kl,
        "cross_entropy": numpy_cross_entropy,
        "squared_error": numpy_squared_error,
        "huber": numpy_huber,
    }
    assert set(formulas) == set(losses.IMITATION)
    for name, formula in formulas.items():
        value = evaluate(losses.imitation(name), student, teacher)
        np.testing.assert_allclose(value, formula(student, teacher), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "temperature", "message"),
    [
        ("squared_eror", None, "unknown imitation loss 'squared_eror'; did you mean 'squared_error'"),
        ("mse", None, "'mse'.* choose from: kl, cross_entropy, squared_error, huber"),
        ("kl", 0.0, "temperature must be positive and finite, got 0"),
        ("kl", -2.0, "got -2"),
        ("cross_entropy", float("nan"), "got nan"),
        ("cross_entropy", float("inf"), "got inf"),
        ("huber", 2.0, "'huber' has no temperature"),
        ("squared_error", 1.0, "'squared_error' has no temperature"),
    ],
)
def test_imitation_names_the_wrong_setting(name, temperature, message):
    with pytest.raises(ValueError, match=message):
        losses.imitation(name, temperature=temperature)


@pytest.mark.parametrize("number", [np.float32, np.float64, jnp.float32, np.int64, jnp.int32, np.array], ids=str)
def test_settings_are_checked_and_work_whatever_their_type(number):
    student, teacher = (logits(seed).astype(np.float32) for seed in (0, 1))
    for bad in (0, -2):
        with pytest.raises(ValueError, match="temperature must be positive and finite, got"):
            losses.imitation("kl", temperature=number(bad))
        with pytest.raises(ValueError, match="temperature must be positive and finite, got"):
            losses.soft_cross_entropy(student, teacher, number(bad))
        with pytest.raises(ValueError, match="delta must be positive and finite, got"):
            losses.huber(student, teacher, number(bad))
    for name in ("kl", "cross_entropy"):
        value = losses.imitation(name, temperature=number(2))(student, teacher)
        np.testing.assert_array_equal(value, losses.imitation(name, temperature=2.0)(student, teacher))
        assert value.dtype == np.float32


@pytest.mark.parametrize(
    "bad", [True, "2", np.nan, np.float32(np.nan), jnp.float32(np.inf), np.ones(1), jnp.ones((2, 1))]
)
@pytest.mark.usefixtures("unchecked")
def test_what_is_no_number_is_no_temperature(bad):
    with pytest.raises(ValueError, match="temperature must be"):
        losses.imitation("kl", temperature=bad)


@each
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nothing_is_promoted_without_a_word(loss, oracle, dtype):
    student, teacher = (logits(seed).astype(dtype) for seed in (0, 1))
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        value = evaluate(loss, student, teacher)
        slopes = gradient(loss, student, teacher)
    assert value.dtype == slopes.dtype == dtype
    np.testing.assert_allclose(value, oracle(student, teacher), rtol=1e-5, atol=1e-6)


def test_a_traced_temperature_does_not_widen_the_logits():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        single = logits(0).astype(np.float32)
        value = jax.jit(lambda t: losses.imitation("kl", temperature=t)(single, -single))(np.float64(2))
    assert value.dtype == np.float32


@pytest.mark.parametrize("kind", [np.array, jnp.array, np.int8])
@pytest.mark.parametrize("bad", [3, -1, 100])
def test_labels_that_are_no_classes_are_named(kind, bad):
    with pytest.raises(ValueError, match=f"labels must be from 0 to 2, .* got {bad} in place 1"):
        losses.cross_entropy(np.zeros((3, 3), np.float32), kind([0, bad, 2]))
    losses.cross_entropy(np.zeros((3, 3), np.float32), kind([0, 1, 2]))


@pytest.mark.usefixtures("unchecked")
def test_labels_are_whole_numbers():
    with pytest.raises(ValueError, match="labels must be whole numbers"):
        losses.cross_entropy(np.zeros((2, 3), np.float32), np.array([0.0, 1.0]))
