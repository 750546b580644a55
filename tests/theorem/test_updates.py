"""The exact updates against the dense oracle; batches of inputs; any pytree; the path form against the plain one."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from instances import LOSSES, WIDTHS, along_path, draw, flatten, instance, jit, law, mlp, plain

from sublim_theory.losses import squared_error
from sublim_theory.theorem import student_update, student_update_along_path, teacher_update
from sublim_theory.theorem.hypotheses import offset_loss
from sublim_theory.theorem.updates import mean_over_inputs, student_direction

pytestmark = pytest.mark.usefixtures("x64")

ACTIVATIONS = pytest.mark.parametrize("activation", ["tanh", "gelu", "sigmoid", "relu"])
OTHER = instance(seed=1).params


@ACTIVATIONS
def test_teacher_update_is_minus_the_gradient(activation):
    it = instance(activation)
    update = jit(lambda params: teacher_update(it.teacher_loss, params))(it.params)
    assert jax.tree.structure(update) == jax.tree.structure(it.params)
    assert oracle.error(flatten(update), it.d_teacher) <= 1e-10
    assert oracle.error(flatten(update), -it.d_teacher) > 1  # and not plus


@ACTIVATIONS
@pytest.mark.parametrize("student", ["shared", "other"])
def test_student_update_is_the_definition(activation, student):
    it = instance(activation)
    start = it.params if student == "shared" else OTHER
    epsilons = [0.05, 1.0]
    measured = plain(activation, "kl", start, it.params, it.d_teacher, epsilons, it.inputs)
    for epsilon, update in zip(epsilons, measured, strict=True):
        teacher = oracle.moved(it.params, epsilon, it.d_teacher)
        assert oracle.error(update, oracle.student_update(start, teacher, it.inputs, activation, "kl")) <= 1e-10


@pytest.mark.parametrize("loss", LOSSES)
def test_student_update_of_each_loss_is_the_definition(loss):
    it = instance("tanh")
    update = plain("tanh", loss, OTHER, it.params, it.d_teacher, [1.0], it.inputs)[0]
    teacher = oracle.moved(it.params, 1.0, it.d_teacher)
    assert oracle.error(update, oracle.student_update(OTHER, teacher, it.inputs, "tanh", loss)) <= 1e-10


def test_teachers_own_outputs_as_labels_leave_nothing_to_learn():
    """g(z, z) = 0: exactly for squared error, to rounding for a softmax."""
    it = instance("tanh")
    d = np.zeros_like(it.d_teacher)
    assert not np.any(plain("tanh", "squared_error", it.params, it.params, d, [1.0], it.inputs))
    assert np.abs(plain("tanh", "kl", it.params, it.params, d, [1.0], it.inputs)).max() < 1e-16


# Along the path


@pytest.mark.skipif(not oracle.EXTENDED, reason="this machine has no float wider than 64 bits")
@pytest.mark.parametrize("loss", ["kl", "squared_error", "bregman"])
def test_path_form_is_the_definition_in_extended_precision(loss):
    it = instance("tanh")
    params, x = oracle.extended(it.params), it.inputs.astype(np.longdouble)
    epsilons = np.array([1e-3, 1e-4, 1e-5, 1e-6])
    updates = along_path("tanh", loss, it.params, it.d_teacher, epsilons, it.inputs)
    for epsilon, update in zip(epsilons, updates, strict=True):
        teacher = oracle.moved(params, np.longdouble(epsilon), it.d_teacher)
        exact = oracle.student_update(params, teacher, x, "tanh", loss) / epsilon
        assert oracle.error(update, exact) <= 1e-12


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_path_form_at_eps_zero_is_the_first_order_vector(activation):
    it = instance(activation)
    update = along_path(activation, "kl", it.params, it.d_teacher, [0.0], it.inputs)[0]
    assert oracle.error(update, law(activation, "kl", it.params, it.d_teacher, it.inputs)[0].product) < 1e-14


def test_path_form_is_exact_for_a_piecewise_linear_network_before_its_first_kink():
    """Outputs of a ReLU network with one hidden layer are quadratic in eps there: three nodes are one too many."""
    it = instance("relu", widths=(4, 6, 5))
    hidden = [oracle.forward(oracle.moved(it.params, e, it.d_teacher), it.inputs, "relu")[1][0] for e in (0.0, 0.02)]
    assert np.array_equal(*np.sign(hidden))  # no unit changes sides, and the pre-activations are linear in eps
    update = along_path("relu", "squared_error", it.params, it.d_teacher, [0.02], it.inputs)[0]
    teacher = oracle.moved(it.params, 0.02, it.d_teacher)
    exact = oracle.student_update(it.params, teacher, it.inputs, "relu", "squared_error")
    assert oracle.error(0.02 * update, exact) < 1e-12


def test_path_form_keeps_the_gradient_on_the_diagonal_of_a_loss_that_has_one():
    """Under the hypotheses g(z, z) = 0. A loss that violates them must not be made to look as if it did not."""
    it = instance("tanh")
    d = oracle.like(it.params, it.d_teacher)
    epsilons = np.array([1e-6, 1e-3])
    call = jit(lambda epsilon: flatten(student_update_along_path(it.f, it.params, d, epsilon, it.inputs, offset_loss)))
    j, z = oracle.jacobian(it.params, it.inputs, "tanh"), oracle.outputs(it.params, it.inputs, "tanh")
    for epsilon in epsilons:
        y = oracle.outputs(oracle.moved(it.params, epsilon, it.d_teacher), it.inputs, "tanh")
        exact = -np.einsum("bnp,bn->p", j, 2 * (z - 2 * y)) / len(z)
        assert oracle.error(epsilon * call(epsilon), exact) < 1e-12


def test_direction_is_of_the_form_that_keeps_its_digits():
    """Along the path where the outputs move by less than 1e-4, by the definition where they move further."""
    it = instance("tanh")
    d = oracle.like(it.params, it.d_teacher)

    @jit
    def both(epsilon, velocity):
        arguments = it.f, it.params, d, epsilon, it.inputs, LOSSES["kl"]
        return flatten(student_direction(*arguments, velocity=velocity)), flatten(student_update_along_path(*arguments))

    for epsilon, velocity, form in (0.9e-4, 1, "path"), (1.1e-4, 1, "plain"), (1e-2, 1e-6, "path"), (1e-2, 1, "plain"):
        direction, path = both(epsilon, float(velocity))
        assert np.array_equal(direction, path) == (form == "path")
        assert oracle.error(direction, path) < 1e-10
    direction, path = both(0.0, 1.0)
    assert np.array_equal(direction, path)


def test_direction_from_another_initialisation_is_the_definition():
    it = instance("tanh")
    d = oracle.like(it.params, it.d_teacher)
    call = jit(
        lambda student: flatten(
            student_direction(it.f, it.params, d, 1e-6, it.inputs, LOSSES["kl"], velocity=1.0, student_params=student)
        )
    )
    teacher = oracle.moved(it.params, 1e-6, it.d_teacher)
    exact = oracle.student_update(OTHER, teacher, it.inputs, "tanh", "kl")
    assert oracle.error(1e-6 * call(OTHER), exact) < 1e-10


def test_quadrature_error_shows_at_large_eps_only():
    """The negative control of the two forms' agreement: beyond its range the path form is an approximation."""
    it = instance("tanh")
    epsilons = np.array([1e-2, 10.0])
    near, far = (
        oracle.error(*forms)
        for forms in zip(
            epsilons[:, None] * along_path("tanh", "kl", it.params, it.d_teacher, epsilons, it.inputs),
            plain("tanh", "kl", it.params, it.params, it.d_teacher, epsilons, it.inputs),
            strict=True,
        )
    )
    assert near < 1e-11
    assert far > 1e-6


# Batches of inputs


@pytest.mark.parametrize("batch_size", [1, 5, 50])
def test_streaming_over_batches_is_one_batch(batch_size):
    it = instance("tanh")
    teacher = oracle.moved(it.params, 0.1, it.d_teacher)
    d = oracle.like(it.params, it.d_teacher)
    loss = LOSSES["kl"]

    @jit
    def both(x):
        return (
            flatten(student_update(it.f, it.params, teacher, x, loss, batch_size=batch_size)),
            flatten(student_update_along_path(it.f, it.params, d, 0.1, x, loss, batch_size=batch_size)),
        )

    streamed, along = both(it.inputs)
    assert oracle.error(streamed, oracle.student_update(it.params, teacher, it.inputs, "tanh", "kl")) < 1e-12
    assert oracle.error(along, along_path("tanh", "kl", it.params, it.d_teacher, [0.1], it.inputs)[0]) < 1e-12


@pytest.mark.parametrize("batch_size", [None, 1, 2, 3, 7, 8])
def test_mean_over_inputs_counts_each_input_once(batch_size):
    values = np.arange(7.0) ** 2
    inputs = {"a": values, "b": (np.arange(14).reshape(7, 2),)}
    seen = []

    def total(batch):
        seen.append(batch["a"].shape)
        return {"sum": jnp.sum(batch["a"]), "pairs": jnp.sum(batch["b"][0], axis=0)}

    mean = mean_over_inputs(total, inputs, batch_size)
    assert mean["sum"] == pytest.approx(13.0, rel=1e-15)
    np.testing.assert_allclose(mean["pairs"], [6.0, 7.0], rtol=1e-15)
    assert max(size for (size,) in seen) <= (batch_size or 7)


def test_a_mean_of_batch_means_would_not_pass():
    """The negative control of the test above: batches of 3, 3 and 1 must not weigh the same."""
    values = np.arange(7.0) ** 2
    assert np.mean([batch.mean() for batch in np.split(values, [3, 6])]) != pytest.approx(13.0, rel=1e-3)


# Any pytree of parameters and inputs, any f


def test_parameters_and_inputs_are_any_pytrees():
    """A bilinear model with tuples, a bare scalar, integer tokens and a bias table; the update by hand."""
    rng = np.random.default_rng(5)
    params = (rng.normal(size=(3, 2)), [np.float64(0.5), {"table": rng.normal(size=(4, 2))}])
    teacher = jax.tree.map(lambda leaf: leaf + 0.1 * rng.normal(size=np.shape(leaf)), params)
    inputs = {"x": rng.normal(size=(6, 3)), "token": rng.integers(4, size=6)}

    def f(params, inputs):
        kernel, (scale, rest) = params
        return scale * inputs["x"] @ kernel + rest["table"][inputs["token"]]

    call = jit(lambda *arguments: student_update(f, *arguments, squared_error, batch_size=4))
    update = call(params, teacher, inputs)
    residual = f(teacher, inputs) - f(params, inputs)  # [inputs, 2]
    kernel = 2 * 0.5 * inputs["x"].T @ residual / 6
    scale = 2 * np.sum((inputs["x"] @ params[0]) * residual) / 6
    table = 2 * np.stack([residual[inputs["token"] == token].sum(axis=0) for token in range(4)]) / 6
    assert jax.tree.structure(update) == jax.tree.structure(params)
    for measured, expected in zip(jax.tree.leaves(update), (kernel, scale, table), strict=True):
        np.testing.assert_allclose(measured, expected, rtol=1e-12)


def test_updates_keep_the_dtype_of_the_parameters():
    single = jax.tree.map(np.float32, draw(np.random.default_rng(0), WIDTHS))
    x = np.ones((3, 4), np.float32)
    f = mlp("tanh")
    updates = jax.eval_shape(
        lambda params: (
            teacher_update(lambda params: jnp.sum(f(params, x) ** 2), params),
            student_update(f, params, params, x, squared_error),
            student_update_along_path(f, params, params, 0.1, x, squared_error),
        ),
        single,
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {np.dtype(np.float32)}
