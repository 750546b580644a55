"""The geometry of any `f(params, x)`: against numpy and dense Jacobians, with controls that must differ."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from sublim_theory import geometry, losses
from sublim_theory.geometry import alignment, project_out, project_random
from sublim_theory.theorem.compiling import quick_options

jit = partial(jax.jit, compiler_options=quick_options())
KEY = jax.random.key(3)


def vector(seed):
    rng = np.random.default_rng(seed)
    shapes = {"one": {"kernel": (7, 5), "bias": (5,)}, "two": {"kernel": (5, 3), "bias": (3,)}}
    draw = lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    return jax.tree.map(draw, shapes, is_leaf=lambda node: isinstance(node, tuple))


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]).astype(np.float64)


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def aligned(seed, sign=1.0):
    """A gradient and a trait gradient with an inner product of that sign."""
    trait, other = vector(seed), vector(seed + 100)
    across = optax.tree.add_scale(other, -optax.tree.vdot(other, trait) / optax.tree.vdot(trait, trait), trait)
    return optax.tree.add_scale(across, sign * 0.3, trait), trait


def test_alignment_is_that_of_numpy_and_its_shares_add_up():
    a, b = vector(0), vector(1)
    found = alignment(a, b)
    norms = np.linalg.norm(flat(a)) * np.linalg.norm(flat(b))
    assert found.dot == pytest.approx(flat(a) @ flat(b), rel=1e-5)
    assert found.cosine == pytest.approx(flat(a) @ flat(b) / norms, rel=1e-5)
    assert sum(found.dot_by_layer.values()) == pytest.approx(float(found.dot), rel=1e-5)
    for layer in ("one", "two"):
        x, y = flat(a[layer]), flat(b[layer])
        assert found.cosine_by_layer[layer] == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y), rel=1e-5)
    assert alignment(a, a).cosine == pytest.approx(1, abs=1e-6)
    still = {**b, "two": optax.tree.scale(0.0, b["two"])}
    assert alignment(a, still).cosine_by_layer["two"] == 0
    assert alignment(a, optax.tree.scale(0.0, b)).cosine == 0


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_with_both_signs_the_projection_is_taken_whichever_way_the_gradients_lie(sign):
    gradient, trait = aligned(0, sign)
    left = project_out(gradient, trait, both_signs=True)
    g, t = flat(gradient), flat(trait)
    np.testing.assert_allclose(flat(left), g - g @ t / (t @ t) * t, atol=1e-6)
    assert equal(project_out(gradient, trait), gradient) == (sign < 0)
    assert equal(project_out(gradient, optax.tree.scale(0.0, trait), both_signs=True), gradient)


@pytest.mark.parametrize("seed", range(5))
def test_a_projected_gradient_is_orthogonal_to_the_trait_gradient_up_to_rounding(seed):
    gradient, trait = aligned(seed)
    assert optax.tree.vdot(gradient, trait) > 0
    left = project_out(gradient, trait)
    assert abs(flat(left) @ flat(trait)) <= 1e-6 * np.linalg.norm(flat(gradient)) * np.linalg.norm(flat(trait))
    g, t = flat(gradient), flat(trait)
    np.testing.assert_allclose(flat(left), g - g @ t / (t @ t) * t, atol=1e-6)


@pytest.mark.parametrize("project", [project_out, lambda g, t: project_random(g, t, KEY)])
def test_a_gradient_that_raises_the_trait_loss_stays_as_it_is_to_the_bit(project):
    gradient, trait = aligned(0, sign=-1.0)
    assert optax.tree.vdot(gradient, trait) < 0
    assert equal(project(gradient, trait), gradient)


def test_an_exactly_zero_trait_gradient_changes_nothing():
    gradient, zero = vector(0), optax.tree.scale(0.0, vector(1))
    assert equal(project_out(gradient, zero), gradient)
    assert equal(project_random(gradient, zero, KEY), gradient)


def test_small_steps_along_the_projected_gradient_do_not_lower_the_trait_loss_and_plain_ones_do():
    gradient, trait = aligned(2)
    trait_loss = lambda step: optax.tree.vdot(trait, optax.tree.scale(-1e-2, step))  # noqa: E731  # linear, slope t
    assert trait_loss(gradient) < 0
    assert abs(trait_loss(project_out(gradient, trait))) < 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_the_random_control_removes_as_much_in_the_same_layers_and_not_along_the_trait(seed):
    gradient, trait = aligned(seed)
    removed = optax.tree.sub(gradient, project_out(gradient, trait))
    control = optax.tree.sub(gradient, project_random(gradient, trait, jax.random.fold_in(KEY, seed)))
    for there, here in zip(jax.tree.leaves(removed), jax.tree.leaves(control), strict=True):
        assert np.linalg.norm(here) == pytest.approx(np.linalg.norm(there), rel=1e-4)
    assert abs(geometry.cosine(control, trait)) < 0.6  # 58 coordinates: a random cosine has standard deviation 0.13
    assert optax.tree.vdot(control, gradient) >= 0
    assert not equal(control, optax.tree.sub(gradient, project_random(gradient, trait, KEY)))
    bodyless = {**trait, "one": optax.tree.scale(0.0, trait["one"])}
    assert equal(project_random(gradient, bodyless, KEY)["one"], gradient["one"])


# Any f(params, x), in float64: dense Jacobians serve as the oracle.


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def params64():
    rng = np.random.default_rng(5)
    return jax.tree.map(jnp.asarray, [rng.normal(size=(3, 4)), {"head": (rng.normal(size=(4, 2)), rng.normal(size=2))}])


def sequences(params, x):
    """Outputs [batch, 3, 2] of inputs {"a": [batch, 3, 3]}, of parameters in a list, a dict and a tuple."""
    weights, bias = params[1]["head"]
    return jnp.tanh(x["a"] @ params[0]) @ weights + bias[None, None]


def inputs64(count=7):
    return {"a": jnp.asarray(np.random.default_rng(6).normal(size=(count, 3, 3)))}


def dense(f, params, x):
    """The Jacobian at `params` [..., parameters], and the parameters as a vector with the way back."""
    start, unravel = ravel_pytree(params)
    return np.asarray(jit(jax.jacrev(lambda theta: f(unravel(theta), x)))(start)), start, unravel


@pytest.mark.usefixtures("float64")
def test_a_linearisation_of_pytree_valued_outputs_is_value_plus_jacobian_times_displacement():
    def f(params, x):
        z = sequences(params, x)
        return {"outputs": z, "others": (jnp.sum(jnp.exp(z), axis=-1), params[0] ** 3)}

    params, x = params64(), inputs64()
    linear = geometry.linearize(f, params)
    _, start, unravel = dense(sequences, params, x)
    step = np.random.default_rng(7).normal(size=start.size)
    jacobians = jit(jax.jacrev(lambda theta: f(unravel(theta), x)))(start)
    expected = jax.tree.map(lambda z, j: z + j @ step, f(params, x), jacobians)
    found = jit(linear)(unravel(start + step), x)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), found, expected)
    assert equal(linear(params, x), f(params, x))
    # Neither f itself, nor what is linear about another point, has these values.
    elsewhere = geometry.linearize(f, unravel(start + 0.1))
    for other in (f, elsewhere):
        assert not np.allclose(flat(other(unravel(start + step), x)), flat(expected), rtol=1e-3)


@pytest.mark.usefixtures("float64")
def test_the_gradient_of_a_linearised_model_is_taken_at_the_expansion_point():
    params, x = params64(), inputs64()
    jacobian, start, unravel = dense(sequences, params, x)
    linear = geometry.linearize(sequences, params)
    away = unravel(start + 0.5)
    found = jax.grad(lambda theta: jnp.sum(linear(theta, x) ** 2))(away)
    expected = 2 * np.tensordot(np.asarray(linear(away, x)), jacobian, 3)
    np.testing.assert_allclose(flat(found), expected, rtol=1e-11)


def kl(z, y):
    """Summed over positions."""
    return jnp.sum(losses.kl_divergence(z, y), axis=-1)


def dense_gauss_newton(params, x, curvature):
    """`E[J^T M J]` [parameters, parameters] with M of each example and position, [2, 2] from its outputs [2]."""
    jacobian, start, _ = dense(sequences, params, x)
    z = np.asarray(sequences(params, x)).reshape(-1, 2)
    rows = jacobian.reshape(-1, 2, start.size)
    return sum(j.T @ curvature(each) @ j for j, each in zip(rows, z, strict=True)) / len(x["a"])


def softmax_curvature(z):
    p = np.exp(z) / np.exp(z).sum()
    return np.diag(p) - np.outer(p, p)


CURVATURES = {
    "kl": (kl, softmax_curvature),
    "squared": (lambda z, y: jnp.sum((z - y) ** 2, (1, 2)), lambda _: 2 * np.eye(2)),
}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("batch_size", [None, 1, 3, 7, 50])
@pytest.mark.parametrize("name", CURVATURES)
def test_a_gauss_newton_product_is_that_of_the_dense_matrix_in_batches_of_any_size(name, batch_size):
    (loss, curvature), params, x = CURVATURES[name], params64(), inputs64()
    matrix = dense_gauss_newton(params, x, curvature)
    _, start, unravel = dense(sequences, params, x)
    v = np.random.default_rng(8).normal(size=start.size)
    forms = geometry.gauss_newton, geometry.gauss_newton_product
    find = jit(lambda v: [form(sequences, loss, params, v, x, batch_size=batch_size) for form in forms])
    (product, shares), alone = find(unravel(jnp.asarray(v)))
    np.testing.assert_allclose(flat(product), matrix @ v, rtol=1e-11, atol=1e-13)
    assert float(jnp.sum(shares)) == pytest.approx(v @ matrix @ v, rel=1e-12)
    np.testing.assert_allclose(flat(alone), flat(product), rtol=1e-13, atol=1e-15)
    # The other loss's matrix, and that of other inputs, is another one.
    (other,) = (there for each, (_, there) in CURVATURES.items() if each != name)
    for wrong in (dense_gauss_newton(params, x, other), dense_gauss_newton(params, {"a": x["a"][:-1]}, curvature)):
        assert np.linalg.norm(wrong @ v - matrix @ v) > 1e-2 * np.linalg.norm(matrix @ v)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_operator_has_the_entries_of_the_dense_matrix_in_the_dtype_of_the_parameters(dtype):
    with jax.enable_x64(True):
        params, x = params64(), inputs64()
        matrix = dense_gauss_newton(params, x, softmax_curvature)
        params, x = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), (params, x))
    operator = geometry.gauss_newton_operator(sequences, kl, params, x, batch_size=4)  # outside: the caller's setting
    assert operator.shape == matrix.shape
    assert operator.dtype == dtype
    found = operator @ np.eye(len(matrix))
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(found, matrix, atol=tolerance * np.abs(matrix).max())
    np.testing.assert_allclose(operator.rmatvec(np.arange(len(matrix))), matrix @ np.arange(len(matrix)), rtol=1e-3)
    assert np.abs(found - matrix).max() > (0 if dtype == "float64" else 1e-9)  # float32 is seen


@pytest.mark.usefixtures("float64")
def test_the_curvature_is_that_in_the_outputs_whatever_the_loss_does_to_its_labels():
    z, y, v = jnp.asarray(np.random.default_rng(9).normal(size=(3, 4, 2)))
    hidden = lambda z, y: losses.kl_divergence(z, jax.lax.stop_gradient(y))  # noqa: E731
    for loss in (losses.kl_divergence, hidden):
        np.testing.assert_allclose(
            geometry.loss_gradient(loss, z, y), jax.nn.softmax(z) - jax.nn.softmax(y), atol=1e-14
        )
        expected = np.stack([softmax_curvature(each) @ u for each, u in zip(np.asarray(z), np.asarray(v), strict=True)])
        np.testing.assert_allclose(geometry.hessian_product(loss, z, y, v), expected, atol=1e-14)


@jax.custom_vjp
def straight_through(w):
    """A sign whose derivative is declared to be 3, which forward mode alone cannot know."""
    return jax.tree.map(jnp.sign, w)


straight_through.defvjp(lambda w: (straight_through(w), None), lambda _, g: (jax.tree.map(lambda leaf: 3 * leaf, g),))


def test_a_function_with_a_reverse_rule_alone_gets_that_rule_in_forward_mode():
    w, v = {"a": jnp.array([1.0, -2.0])}, {"a": jnp.array([0.5, 0.25])}
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(straight_through, (w,), (v,))
    either = geometry.with_forward_mode(straight_through)
    value, change = jit(lambda w, v: jax.jvp(either, (w,), (v,)))(w, v)
    assert value["a"].tolist() == either(w)["a"].tolist() == [1.0, -1.0]
    assert change["a"].tolist() == [1.5, 0.75]
    assert jax.grad(lambda w: jnp.sum(either(w)["a"]))(w)["a"].tolist() == [3.0, 3.0]
    batches = jax.vmap(lambda w: jax.jvp(either, (w,), (v,))[1]["a"])({"a": jnp.ones((3, 2))})
    assert batches.tolist() == [[1.5, 0.75]] * 3


@pytest.mark.usefixtures("float64")
def test_with_it_a_function_has_a_linearisation_and_a_gauss_newton_matrix():
    f = geometry.with_forward_mode(lambda w, x: x @ straight_through({"w": w})["w"])
    w, x = jnp.array([[1.0], [-2.0]]), jnp.asarray(np.random.default_rng(10).normal(size=(5, 2)))
    v = jnp.array([[0.5], [0.25]])
    np.testing.assert_allclose(geometry.linearize(f, w)(w + v, x), x @ (jnp.sign(w) + 3 * v), rtol=1e-13)
    product = geometry.gauss_newton_product(f, lambda z, y: jnp.sum((z - y) ** 2, axis=-1), w, v, x)
    np.testing.assert_allclose(product, 2 * 9 * x.T @ (x @ v) / 5, rtol=1e-13)


@pytest.mark.parametrize("batch_size", [None, 1, 2, 3, 5, 9])
def test_a_mean_over_inputs_is_the_same_in_batches_of_any_size(batch_size):
    inputs = {"x": jnp.arange(10.0).reshape(5, 2), "tokens": jnp.arange(5)}
    seen = []

    def total(batch):
        seen.append(len(batch["x"]))
        return {"sum": jnp.sum(batch["x"], axis=0), "tokens": jnp.sum(batch["tokens"])}

    found = geometry.mean_over_inputs(total, inputs, batch_size)
    assert found["sum"].tolist() == [4.0, 5.0]
    assert found["tokens"] == 2
    assert max(seen) <= (batch_size or 5), "a batch is never larger than was asked for"
    if batch_size in (2, 3):  # a mean of the batches' means would be wrong: the last one is shorter
        parts = [inputs["x"][i : i + batch_size].mean(axis=0) for i in range(0, 5, batch_size)]
        assert np.mean(parts, axis=0).tolist() != [4.0, 5.0]


def test_layers_are_the_first_level_of_any_pytree_and_their_shares_add_up():
    a, b = [jnp.ones(2), {"k": jnp.ones(3), "b": jnp.ones(1)}], [jnp.ones(2), {"k": jnp.ones(3), "b": -jnp.ones(1)}]
    shares = {name: float(share) for name, share in geometry.by_layer(a, b).items()}
    assert shares == {"0": 2.0, "1": 2.0}
    assert sum(shares.values()) == optax.tree.vdot(a, b)
    assert {name: float(share) for name, share in geometry.by_layer(a[0], b[0]).items()} == {"parameters": 2.0}
    with pytest.raises(ValueError, match="zip"):
        geometry.by_layer(a, a[0])
