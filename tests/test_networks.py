"""Networks against hand counts, numpy forward passes, statistics of initial values; one common contract."""

import functools
import math
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import special

import sublim_theory.models
from experiments import fig10
from experiments.experiment import run
from sublim_theory.networks import NETWORKS, Network, builder, cnn, mlp

KEY = jax.random.key(20250714, impl="rbg")  # compiles in a fraction of the time that threefry takes

FORMULAS = {
    "relu": lambda x: np.where(x > 0, x, 0),
    "tanh": np.tanh,
    "gelu": lambda x: x * (1 + special.erf(x / np.sqrt(2))) / 2,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "identity": lambda x: x,
}


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def dense(layer, x):
    return x @ np.asarray(layer["kernel"]) + np.asarray(layer.get("bias", 0))


def head_logits(params, x):
    return np.concatenate([dense(params["class_head"], x), dense(params["auxiliary_head"], x)], axis=1)


def numpy_mlp(params, x, activation):
    for i in range(len(params) - 2):
        x = FORMULAS[activation](dense(params[f"hidden_{i}"], x))
    return head_logits(params, x)


def numpy_convolution(layer, images):
    """Cross-correlation [batch, height, width, channels] with stride 2 and the SAME rule, pixel by pixel."""
    kernel, bias = np.asarray(layer["kernel"]), np.asarray(layer["bias"])
    sizes = [-(-n // 2) for n in images.shape[1:3]]
    pads = [max(2 * (out - 1) + 3 - n, 0) for out, n in zip(sizes, images.shape[1:3], strict=True)]
    padded = np.pad(images, ((0, 0), *((pad // 2, pad - pad // 2) for pad in pads), (0, 0)))
    result = np.empty((len(images), *sizes, kernel.shape[-1]))
    for i in range(sizes[0]):
        for j in range(sizes[1]):
            window = padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
            result[:, i, j] = np.einsum("bhwc,hwcd->bd", window, kernel) + bias
    return result


def random_params(net, seed=0, dtype=np.float32):
    """Parameters of the net's structure, biases included, drawn without compiling anything."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(dtype), jax.eval_shape(net.init, KEY))


def inputs(rows, features, dtype=np.float32):
    return np.random.default_rng(99).normal(size=(rows, features)).astype(dtype)


def leaves_equal(a, b):
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


# Counts, names and shapes


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda: mlp(784), 784 * 256 + 256 + 256 * 256 + 256 + 256 * 13 + 13),
        (lambda: mlp(784), 270_093),
        (lambda: mlp(784, bias=False), 269_568),
        (lambda: mlp(784, auxiliary=50), 282_172),
        (lambda: mlp(64), 85_773),
        (lambda: mlp(784, ()), 10_205),
        (lambda: mlp(5, (7,), classes=2, auxiliary=4), 90),
        (lambda: cnn((28, 28)), 207_309),
        (lambda: cnn((5, 6), (2, 3), (4,)), 194),
        (lambda: cnn((5, 6), (2, 3), (4,), bias=False), 172),
    ],
)
def test_parameter_count_is_the_hand_count(make, count):
    assert make().parameter_count() == count


def test_layers_of_the_papers_net_by_name_and_shape():
    shapes = jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(mlp(784).init, KEY))
    assert shapes == {
        "hidden_0": {"kernel": (784, 256), "bias": (256,)},
        "hidden_1": {"kernel": (256, 256), "bias": (256,)},
        "class_head": {"kernel": (256, 10), "bias": (10,)},
        "auxiliary_head": {"kernel": (256, 3), "bias": (3,)},
    }


def test_layers_of_a_cnn_by_name_and_shape():
    shapes = jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(cnn((5, 6), (2, 3), (4,)).init, KEY))
    assert shapes == {
        "convolution_0": {"kernel": (3, 3, 1, 2), "bias": (2,)},
        "convolution_1": {"kernel": (3, 3, 2, 3), "bias": (3,)},
        "hidden_0": {"kernel": (2 * 2 * 3, 4), "bias": (4,)},
        "class_head": {"kernel": (4, 10), "bias": (10,)},
        "auxiliary_head": {"kernel": (4, 3), "bias": (3,)},
    }


@pytest.mark.parametrize("make", [partial(mlp, 30, (4,)), partial(cnn, (5, 6), (2,), (4,))], ids=["mlp", "cnn"])
def test_without_bias_no_layer_has_one(make):
    assert all(set(layer) == {"kernel"} for layer in jax.eval_shape(make(bias=False).init, KEY).values())


# Initial values. A sample standard deviation of n draws has relative error sqrt((kurtosis - 1) / n) / 2.


def assert_moments(weights, sd, kurtosis):
    n = weights.size
    assert abs(weights.mean(dtype=np.float64)) < 5 * sd / np.sqrt(n)
    assert weights.std(dtype=np.float64) == pytest.approx(sd, rel=5 * np.sqrt((kurtosis - 1) / n) / 2)


def has_normal_tails(weights):
    """Whether about 4.55% lie beyond two standard deviations, and some beyond four."""
    z = np.abs(weights) / weights.std(dtype=np.float64)
    beyond = 2 * special.ndtr(-2)
    return z.max() > 4 and abs(np.mean(z > 2) - beyond) < 5 * np.sqrt(beyond * (1 - beyond) / z.size)


@functools.cache
def initial(init, scale=1.0):
    """Initial parameters of a net with 200,704 first weights and 25,600 in each head."""
    return jax.tree.map(np.asarray, mlp(784, (256,), 100, 100, init=init, init_scale=scale).init(KEY))


@pytest.mark.parametrize(
    ("init", "scale", "gain", "kurtosis"),
    [
        ("paper", 1.0, 1, 3),
        ("he", 1.0, np.sqrt(2), 3),
        ("torch", 1.0, 1 / np.sqrt(3), 1.8),
        ("paper", 0.5, 0.5, 3),
        ("torch", 2.0, 2 / np.sqrt(3), 1.8),
    ],
)
def test_initial_weights_have_mean_zero_and_the_stated_spread_by_fan_in(init, scale, gain, kurtosis):
    for layer, root_fan_in in ("hidden_0", 28), ("class_head", 16), ("auxiliary_head", 16):
        assert_moments(initial(init, scale)[layer]["kernel"], gain / root_fan_in, kurtosis)


@pytest.mark.parametrize(("init", "gain", "kurtosis"), [("paper", 1, 3), ("torch", 1 / 3, 1.8)])
def test_fan_in_of_a_convolution_is_nine_times_its_input_channels(init, gain, kurtosis):
    params = cnn((1, 1), (50, 50), (), 50, 50, init=init).init(KEY)
    for layer, fan_in in {"convolution_0": 9, "convolution_1": 450, "class_head": 50}.items():
        assert_moments(np.asarray(params[layer]["kernel"]), np.sqrt(gain / fan_in), kurtosis)
        if init == "torch":
            largest = np.abs(params[layer]["bias"]).max() * np.sqrt(fan_in)
            assert 0.8 < largest <= 1 + 1e-6


@pytest.mark.parametrize("init", ["paper", "he"])
@pytest.mark.parametrize("layer", ["hidden_0", "class_head", "auxiliary_head"])
def test_normal_initial_weights_are_not_truncated(init, layer):
    assert has_normal_tails(initial(init)[layer]["kernel"])


def test_truncated_and_uniform_weights_would_fail_the_tail_check():
    truncated = np.asarray(jax.nn.initializers.lecun_normal()(KEY, (784, 256)))
    assert_moments(truncated, 1 / 28, 3)  # the spread alone does not tell them apart
    assert not has_normal_tails(truncated)
    assert not has_normal_tails(initial("torch")["hidden_0"]["kernel"])


def test_torch_weights_and_biases_fill_their_interval_and_no_more():
    layer = initial("torch", 2.0)["hidden_0"]
    for leaf, fill in (layer["kernel"], 0.999), (layer["bias"], 0.95):
        largest = np.abs(leaf).max() / (2 / 28)
        assert fill < largest <= 1 + 1e-6
    assert np.all(layer["bias"] != 0)
    assert abs(np.mean(layer["bias"])) < 5 * (2 / 28) / np.sqrt(3 * 256)


@pytest.mark.parametrize("init", ["paper", "he"])
def test_biases_start_at_exactly_zero_and_weights_do_not(init):
    for layer in initial(init).values():
        assert not np.any(layer["bias"])
        assert np.mean(layer["kernel"] == 0) < 1e-4


def test_every_layer_has_its_own_draw():
    params = mlp(6, (6, 6), classes=6, auxiliary=6, init="torch").init(KEY)
    for leaf in "kernel", "bias":
        assert len({np.asarray(layer[leaf]).tobytes() for layer in params.values()}) == 4


def test_same_key_same_values_other_key_other_values():
    net = mlp(6, (6,), 6, 6, init="torch")
    assert leaves_equal(net.init(KEY), net.init(KEY))
    assert not leaves_equal(net.init(KEY), net.init(jax.random.fold_in(KEY, 1)))


@pytest.mark.parametrize("init", ["paper", "torch"])
def test_init_under_jit_agrees_to_float32_rounding(init):
    net = mlp(6, (6,), 6, 6, init=init)
    for eager, jitted in zip(*map(jax.tree.leaves, (net.init(KEY), jax.jit(net.init)(KEY))), strict=True):
        np.testing.assert_allclose(jitted, eager, rtol=1e-6, atol=1e-7)


# Forward passes

NETS = {"mlp": partial(mlp, 30, (4,)), "cnn": partial(cnn, (5, 6), (2,), (4,))}
either_net = pytest.mark.parametrize("make", NETS.values(), ids=NETS)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("activation", FORMULAS)
def test_mlp_is_its_formula(activation):
    net = mlp(3, (5, 4), classes=2, auxiliary=3, activation=activation, dtype="float64")
    params, x = random_params(net, dtype=np.float64), inputs(7, 3, np.float64)
    np.testing.assert_allclose(net.apply(params, x), numpy_mlp(params, x, activation), rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_cnn_is_a_hand_written_convolution_on_row_major_images(activation):
    net = cnn((5, 6), (2, 3), (4,), classes=2, auxiliary=3, activation=activation, dtype="float64")
    params, x = random_params(net, dtype=np.float64), inputs(4, 30, np.float64)
    y = x.reshape(4, 5, 6, 1)
    for name in "convolution_0", "convolution_1":
        y = FORMULAS[activation](numpy_convolution(params[name], y))
    y = FORMULAS[activation](dense(params["hidden_0"], y.reshape(4, -1)))
    np.testing.assert_allclose(net.apply(params, x), head_logits(params, y), rtol=1e-12, atol=1e-12)


def test_cnn_without_convolutions_is_the_mlp():
    dense_net, net = mlp(30, (4,)), cnn((5, 6), (), (4,))
    params, x = random_params(dense_net), inputs(4, 30)
    np.testing.assert_array_equal(net.apply(params, x), dense_net.apply(params, x))


def test_linear_model_without_biases_is_its_two_kernels():
    net = mlp(3, (), classes=2, auxiliary=2, bias=False)
    params = random_params(net)
    kernels = np.hstack([params["class_head"]["kernel"], params["auxiliary_head"]["kernel"]])
    np.testing.assert_allclose(net.apply(params, np.eye(3, dtype=np.float32)), kernels, rtol=1e-6)


@either_net
def test_class_logits_come_first(make):
    net = make()
    params = jax.tree.map(np.zeros_like, random_params(net))
    params["class_head"]["bias"] = np.arange(10, dtype=np.float32)
    params["auxiliary_head"]["bias"] = np.arange(10, 13, dtype=np.float32)
    logits = net.apply(params, inputs(2, 30))
    np.testing.assert_array_equal(logits, np.tile(np.arange(13), (2, 1)))
    np.testing.assert_array_equal(net.class_logits(logits)[0], np.arange(10))
    np.testing.assert_array_equal(net.auxiliary_logits(logits)[0], [10, 11, 12])
    assert (net.classes, net.auxiliary, net.all_logits) == (slice(0, 10), slice(10, 13), slice(0, 13))


def test_slices_are_of_the_last_axis_of_stacked_logits():
    net = mlp(3, (), classes=4, auxiliary=2)
    logits = np.arange(2 * 5 * 6).reshape(2, 5, 6)
    np.testing.assert_array_equal(net.class_logits(logits), logits[:, :, :4])
    np.testing.assert_array_equal(net.auxiliary_logits(logits), logits[:, :, 4:])


# Precision


def dtypes(net, input_dtype):
    params = jax.eval_shape(net.init, KEY)
    logits = jax.eval_shape(net.apply, params, inputs(2, 30, input_dtype))
    return {str(leaf.dtype) for leaf in (*jax.tree.leaves(params), logits)}


@pytest.mark.parametrize("init", ["paper", "he", "torch"])
@either_net
def test_dtype_is_that_of_every_leaf_and_of_the_output_whatever_the_inputs(make, init):
    assert dtypes(make(init=init), np.float32) == {"float32"}
    with jax.enable_x64(True):
        assert dtypes(make(init=init, dtype="float64"), np.float64) == {"float64"}
        assert dtypes(make(init=init, dtype="float64"), np.float32) == {"float64"}
        assert dtypes(make(init=init), np.float64) == {"float32"}
    assert jnp.ones(1).dtype == np.float32


# pytest makes errors of warnings, so JAX's warning that it truncates to float32 would not pass for the ValueError.
@either_net
def test_float64_without_x64_is_one_clear_error(make):
    with pytest.raises(ValueError, match=r"float64.*enable_x64"):
        make(dtype="float64").init(KEY)


@either_net
def test_float64_net_is_not_quietly_applied_in_float32(make):
    with jax.enable_x64(True):
        net = make(dtype="float64")
    with pytest.raises(ValueError, match=r"float64.*enable_x64"):
        net.apply(random_params(make(), dtype=np.float64), inputs(2, 30))


# Pure functions


@either_net
def test_apply_is_pure_and_goes_through_jit_vmap_and_grad(make):
    net, x = make(activation="tanh"), inputs(3, 30)
    several = [random_params(net, seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *several)
    alone = [net.apply(params, x) for params in several]
    np.testing.assert_allclose(jax.jit(net.apply)(several[0], x), alone[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(jax.jit(jax.vmap(net.apply, (0, None)))(stacked, x), alone, rtol=1e-5, atol=1e-5)
    gradient = jax.jit(jax.grad(lambda params: net.apply(params, x).sum()))(several[0])
    assert all(np.all(leaf != 0) for leaf in jax.tree.leaves(gradient))
    np.testing.assert_array_equal(net.apply(several[0], x), alone[0])  # no state, no tracer is left behind
    assert leaves_equal(several, [random_params(net, seed) for seed in range(3)])


# What every network of the table is


class Block(nnx.Module):
    """The rows of an image attend to each other."""

    def __init__(self, width, layer, rngs):
        self.query, self.key, self.value = (layer(nnx.Linear, width, width, rngs=rngs) for _ in range(3))

    def __call__(self, x):
        scores = jnp.einsum("bqd,bkd->bqk", self.query(x), self.key(x)) / math.sqrt(x.shape[-1])
        return x + jnp.einsum("bqk,bkd->bqd", jax.nn.softmax(scores), self.value(x))


class Attention(nnx.Module):
    """As someone would add it: nested blocks, a parameter outside of any layer, the heads in the other order."""

    def __init__(self, image_shape, hidden, classes, auxiliary, activation, layer, *, rngs):
        self.image_shape = rows, columns = image_shape
        self.activation = activation
        self.rows = layer(nnx.Linear, columns, hidden[0], rngs=rngs)
        self.place = nnx.Param(jnp.zeros((rows, hidden[0]), layer.dtype))
        self.attention = nnx.List([Block(hidden[0], layer, rngs) for _ in hidden])
        self.auxiliary_head = layer(nnx.Linear, hidden[0], auxiliary, rngs=rngs)
        self.class_head = layer(nnx.Linear, hidden[0], classes, rngs=rngs)

    def activations(self, x):
        x = self.rows(x.reshape(-1, *self.image_shape)) + self.place[None]
        for attention in self.attention:
            x = attention(self.activation(x))
            yield x.mean(axis=1)


REGISTERED = NETWORKS | {"attention": builder(Attention)}
SHAPE, SIZES = (5, 6), {"hidden": (8, 8), "classes": 4, "auxiliary": 3, "activation": "tanh"}
every_network = pytest.mark.parametrize("name", REGISTERED)


@every_network
def test_a_network_has_its_shapes_and_its_parts(name):
    net = REGISTERED[name](SHAPE, **SIZES)
    assert (net.features, net.classes, net.auxiliary) == (30, slice(0, 4), slice(4, 7))
    params, x = net.init(KEY), inputs(3, 30)
    assert net.layers() == net.layers("all") == (*net.body, "class_head", "auxiliary_head")
    assert set(net.layers()) == set(params)
    assert net.layers("body") == net.layers("hidden") == net.body
    for layer in params:
        assert net.layers(layer) == (layer,)
    with pytest.raises(ValueError, match=f"there is no part 'tail' of a network with the layers {net.body[0]}, "):
        net.layers("tail")
    assert net.apply(params, x).shape == (3, 7)
    hidden = net.hidden(params, x)
    assert {layer.shape[0] for layer in hidden} == {3}
    assert {layer.ndim for layer in hidden} == {2}
    assert math.prod(params["class_head"]["kernel"].shape) == hidden[-1].shape[1] * 4
    np.testing.assert_allclose(net.apply(params, x), head_logits(params, np.asarray(hidden[-1])), rtol=1e-5, atol=1e-5)


@every_network
def test_the_parts_are_where_the_logits_come_from(name):
    net = REGISTERED[name](SHAPE, **SIZES)
    params, x = net.init(KEY), inputs(3, 30)
    for part, slices in {"class_head": [net.classes], "auxiliary_head": [net.auxiliary]}.items():
        head = {layer: jax.tree.map(lambda leaf: 2 * leaf, params[layer]) for layer in net.layers(part)}
        doubled = net.apply(params | head, x)
        for logits in (net.classes, net.auxiliary):
            factor = 2 if logits in slices else 1
            np.testing.assert_allclose(doubled[:, logits], factor * net.apply(params, x)[:, logits], rtol=1e-5)
    gradient = jax.grad(lambda params: net.class_logits(net.apply(params, x)).sum())(params)
    for layer in net.layers():
        assert any(map(np.any, jax.tree.leaves(gradient[layer]))) == (layer != net.auxiliary_head)


@every_network
def test_init_and_apply_are_pure_and_go_through_jit_vmap_and_grad(name):
    net, x = REGISTERED[name](SHAPE, **SIZES), inputs(3, 30)
    keys = jax.random.split(KEY, 2)
    several = [net.init(key) for key in keys]
    assert leaves_equal(net.init(keys[0]), several[0])
    assert not leaves_equal(*several)
    stacked = jax.jit(jax.vmap(net.init))(keys)
    alone = [net.apply(params, x) for params in several]
    np.testing.assert_allclose(jax.jit(net.apply)(several[0], x), alone[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(net.apply(several[0], x), alone[0])
    assert [leaf.shape for leaf in jax.jit(jax.vmap(net.apply, (0, None)))(stacked, x)] == [(3, 7), (3, 7)]
    several = jax.tree.map(lambda *leaves: np.stack(leaves), *several)
    np.testing.assert_allclose(jax.vmap(net.apply, (0, None))(several, x), alone, rtol=1e-5, atol=1e-5)


@every_network
@pytest.mark.usefixtures("x64")
def test_float64_is_float64_throughout_and_its_gradient_that_of_differences(name):
    net = REGISTERED[name](SHAPE, **SIZES, dtype="float64")
    params, x = random_params(net, dtype=np.float64), inputs(3, 30, np.float64)
    params = jax.tree.map(lambda leaf: leaf / 4, params)
    direction = jax.tree.map(lambda leaf: leaf / 10, random_params(net, 1, np.float64))

    def value(step):
        return jnp.sum(net.apply(jax.tree.map(lambda a, b: a + step * b, params, direction), x) ** 2)

    found = float(jax.jvp(value, (0.0,), (1.0,))[1])
    assert {leaf.dtype for leaf in jax.tree.leaves(jax.eval_shape(net.init, KEY))} == {np.dtype("float64")}
    assert found == pytest.approx(float(value(1e-5) - value(-1e-5)) / 2e-5, rel=1e-7)


def test_layers_are_in_the_order_in_which_the_module_assigns_them():
    assert REGISTERED["attention"](SHAPE, **SIZES).body == ("rows", "place", "attention_0", "attention_1")
    assert cnn(SHAPE, (2, 3), (4,)).body == ("convolution_0", "convolution_1", "hidden_0")


def test_a_builder_passes_on_what_only_its_module_knows():
    params = jax.eval_shape(NETWORKS["cnn"](SHAPE, channels=(2,), **SIZES).init, KEY)
    assert params["convolution_0"]["kernel"].shape == (3, 3, 1, 2)
    with pytest.raises(TypeError, match="channels"):
        NETWORKS["mlp"](SHAPE, channels=(2,))


def test_a_linear_model_has_no_hidden_part():
    with pytest.raises(ValueError, match="no part 'hidden' of a network with the layers class_head, auxiliary_head"):
        mlp(4, ()).layers("hidden")


def test_a_hand_written_network_says_what_its_layers_are():
    parts = (mlp(4).init, mlp(4).apply, mlp(4).hidden, 4, slice(0, 1), slice(1, 2))
    assert Network(*parts).layers() == ("class_head", "auxiliary_head")
    net = Network(*parts, body=("first", "second"), class_head="heads", auxiliary_head="heads")
    assert net.layers() == ("first", "second", "heads")
    assert net.layers("hidden") == ("first", "second")
    assert net.layers("class_head") == net.layers("auxiliary_head") == ("heads",)


def test_a_module_with_state_is_refused():
    class Normalised(Attention):
        def __init__(self, *args, rngs, **settings):
            super().__init__(*args, rngs=rngs, **settings)
            self.normal = nnx.BatchNorm(8, rngs=rngs)

    with pytest.raises(ValueError, match=r"parameters alone, not the state .*normal.*mean"):
        builder(Normalised)(SHAPE, **SIZES)


def test_a_module_without_a_head_is_refused():
    class Headless(Attention):
        def __init__(self, *args, rngs, **settings):
            super().__init__(*args, rngs=rngs, **settings)
            del self.auxiliary_head

    with pytest.raises(ValueError, match=r"needs a class_head and an auxiliary_head; it has rows, .*, class_head$"):
        builder(Headless)(SHAPE, **SIZES)


def test_parameters_of_another_network_are_refused():
    with pytest.raises(
        ValueError, match=r"the layers hidden_0, class_head, auxiliary_head, got auxiliary_head, class_h"
    ):
        mlp(30, (4,)).apply(random_params(mlp(30, ())), inputs(2, 30))


@every_network
def test_every_network_runs_in_figure_10(name, monkeypatch):
    monkeypatch.setitem(NETWORKS, name, REGISTERED[name])
    small = {"seeds": 1, "hidden": (32,), "noise_images": 128, "teacher_epochs": 4, "student_epochs": 1}
    settings = fig10.PRESETS["smoke"].but(network=name, students=("student_aux",), learning_rate=1e-2, **small)
    record = run(fig10.EXPERIMENT, settings)
    assert record.config["network"] == name
    assert record.conditions["reference"].mean < 0.3 < 0.6 < record.conditions["teacher"].mean


def test_an_unknown_network_is_refused_before_anything_runs():
    with pytest.raises(ValueError, match=r"unknown network 'cmn'; did you mean 'cnn'\? choose from: mlp, cnn"):
        fig10.PRESETS["smoke"].but(network="cmn")


def test_the_former_module_has_the_same_names():
    assert sublim_theory.models.mlp is mlp
    assert sublim_theory.models.Network is Network


# Errors


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mlp(0), "features must be at least 1, got 0"),
        (lambda: mlp(-3), "features must be at least 1, got -3"),
        (lambda: mlp(8, (4, 0)), r"hidden\[1\] must be at least 1, got 0"),
        (lambda: mlp(8, (-4,)), r"hidden\[0\] must be at least 1, got -4"),
        (lambda: mlp(8, classes=0), "classes must be at least 1, got 0"),
        (lambda: mlp(8, auxiliary=-1), "auxiliary must be at least 1, got -1"),
        (lambda: mlp(8, init_scale=0), "init_scale must be positive and finite, got 0"),
        (lambda: mlp(8, init_scale=float("nan")), "init_scale must be positive.*, got nan"),
        (lambda: mlp(8, init_scale=float("inf")), "init_scale must be positive and finite, got inf"),
        (lambda: mlp(8, activation="rleu"), "unknown activation 'rleu'; did you mean 'relu'"),
        (lambda: mlp(8, init="papr"), "unknown initialisation 'papr'; did you mean 'paper'"),
        (lambda: mlp(8, init="qqq"), "'qqq'.* choose from: paper, he, torch"),
        (lambda: mlp(8, dtype="flaot32"), "unknown dtype 'flaot32'; did you mean 'float32'"),
        (lambda: cnn((0, 5)), "height must be at least 1, got 0"),
        (lambda: cnn((5, -1)), "width must be at least 1, got -1"),
        (lambda: cnn((5, 6), (2, 0)), r"channels\[1\] must be at least 1, got 0"),
        (lambda: cnn((5, 6), (2,), (0,)), r"hidden\[0\] must be at least 1, got 0"),
        (lambda: cnn((5, 6), auxiliary=0), "auxiliary must be at least 1, got 0"),
        (lambda: cnn((5, 6), activation="tahn"), "unknown activation 'tahn'; did you mean 'tanh'"),
    ],
)
def test_error_names_the_argument_and_its_value(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("number", [np.int32, jnp.int32, np.array], ids=["numpy", "jax", "array"])
@pytest.mark.parametrize("size", ["features", "hidden", "classes", "auxiliary"])
def test_sizes_are_checked_and_work_whatever_their_type(size, number):
    def make(value):
        return mlp(**{"features": 4, "hidden": (8,), "classes": 3, "auxiliary": 2, size: value})

    for bad in (0, -3):
        with pytest.raises(ValueError, match=rf"{size}(\[0\])? must be at least 1, got {bad}"):
            make((number(bad),) if size == "hidden" else number(bad))
    found = make((number(5),) if size == "hidden" else number(5))
    expected = make((5,) if size == "hidden" else 5)
    assert (found.features, found.classes, found.auxiliary) == (expected.features, expected.classes, expected.auxiliary)
    assert found.parameter_count() == expected.parameter_count()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mlp(4.0), r"features must be a whole number, got 4\.0"),
        (lambda: mlp(True), "features must be a whole number, got True"),
        (lambda: mlp(4, (np.float32(8),)), r"hidden\[0\] must be a whole number"),
        (lambda: cnn((np.int64(0), 5)), "height must be at least 1, got 0"),
        (lambda: mlp(4, init_scale=np.float32(-1)), "init_scale must be positive and finite, got -1"),
        (lambda: mlp(4, init_scale=jnp.float32(np.nan)), "init_scale must be positive and finite, got nan"),
        (lambda: mlp(4, init_scale="1"), "init_scale must be a number"),
        (lambda: mlp(4, init_scale=np.float64(1e20)), "init_scale must be below"),
    ],
)
def test_settings_are_refused_whatever_their_type(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("shape", [(2, 29), (30,), (2, 5, 6), (1, 2, 30)])
@either_net
def test_error_on_a_wrong_input_shape_names_both_shapes(make, shape):
    with pytest.raises(ValueError, match=r"\[batch >= 1, 30\], got " + re.escape(str(shape))):
        make().apply(random_params(make()), np.ones(shape, np.float32))
