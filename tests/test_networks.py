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
from scipy import special, stats

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


def shapes(net):
    return jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(net.init, KEY))


def leaves_equal(a, b):
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


# Counts, names and shapes


def test_parameter_count_is_the_hand_count():
    assert mlp(784).parameter_count() == 784 * 256 + 256 + 256 * 256 + 256 + 256 * 13 + 13 == 270_093
    assert mlp(784, bias=False, auxiliary=50).parameter_count() == 784 * 256 + 256 * 256 + 256 * 60
    assert mlp(784, ()).parameter_count() == 785 * 13
    assert cnn((28, 28)).parameter_count() == 207_309


def test_layers_by_name_and_shape():
    assert shapes(mlp(784)) == {
        "hidden_0": {"kernel": (784, 256), "bias": (256,)},
        "hidden_1": {"kernel": (256, 256), "bias": (256,)},
        "class_head": {"kernel": (256, 10), "bias": (10,)},
        "auxiliary_head": {"kernel": (256, 3), "bias": (3,)},
    }
    convolutional = {
        "convolution_0": {"kernel": (3, 3, 1, 2), "bias": (2,)},
        "convolution_1": {"kernel": (3, 3, 2, 3), "bias": (3,)},
        "hidden_0": {"kernel": (2 * 2 * 3, 4), "bias": (4,)},
        "class_head": {"kernel": (4, 10), "bias": (10,)},
        "auxiliary_head": {"kernel": (4, 3), "bias": (3,)},
    }
    assert shapes(cnn((5, 6), (2, 3), (4,))) == convolutional
    for layer in convolutional.values():
        del layer["bias"]
    assert shapes(cnn((5, 6), (2, 3), (4,), bias=False)) == convolutional


# Initial values


def fits(values, distribution):
    return stats.kstest(np.ravel(values)[:50_000].astype(np.float64), distribution.cdf).pvalue > 1e-3


def uniform(bound):
    return stats.uniform(-bound, 2 * bound)


# name -> the distribution of weights by fan_in
INITIAL = {
    "paper": lambda fan_in: stats.norm(0, fan_in**-0.5),
    "he": lambda fan_in: stats.norm(0, (2 / fan_in) ** 0.5),
    "torch": lambda fan_in: uniform(fan_in**-0.5),
}


@pytest.mark.parametrize("init", INITIAL)
def test_initial_weights_have_the_stated_distribution_by_fan_in_and_no_other(init):
    params = mlp(784, (256,), 100, 100, init=init).init(KEY)
    for layer, fan_in in {"hidden_0": 784, "class_head": 256, "auxiliary_head": 256}.items():
        kernel, bias = params[layer]["kernel"], np.asarray(params[layer]["bias"])
        assert [name for name, by_fan_in in INITIAL.items() if fits(kernel, by_fan_in(fan_in))] == [init]
        assert not fits(kernel, INITIAL[init](1.1 * fan_in)), "the check sees another spread"
        if init == "torch":
            assert fits(bias, uniform(fan_in**-0.5))
            assert max(abs(bias).max(), abs(kernel).max()) <= fan_in**-0.5 * (1 + 1e-6)
        else:
            assert not bias.any()


def test_initial_weights_are_not_truncated():
    truncated = jax.nn.initializers.lecun_normal()(KEY, (784, 256))
    assert np.std(truncated) == pytest.approx(1 / 28, rel=0.01), "the spread alone does not tell them apart"
    assert not fits(truncated, INITIAL["paper"](784))


def test_fan_in_of_a_convolution_is_nine_times_its_input_channels_and_the_scale_is_a_factor():
    params = cnn((1, 1), (50, 50), (), 50, 50, init="torch", init_scale=2.0).init(KEY)
    for layer, fan_in in {"convolution_0": 9, "convolution_1": 450, "class_head": 50}.items():
        for leaf in params[layer].values():
            assert fits(leaf, uniform(2 * fan_in**-0.5))


def test_every_layer_has_its_own_draw_and_jit_changes_no_more_than_rounding():
    net = mlp(6, (6, 6), classes=6, auxiliary=6, init="torch")
    params, jitted = net.init(KEY), jax.jit(net.init)(KEY)
    for leaf in "kernel", "bias":
        assert len({np.asarray(layer[leaf]).tobytes() for layer in params.values()}) == 4
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7), jitted, params)


# Forward passes

NETS = {"mlp": partial(mlp, 30, (4,)), "cnn": partial(cnn, (5, 6), (2,), (4,))}
either_net = pytest.mark.parametrize("make", NETS.values(), ids=NETS)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("activation", FORMULAS)
def test_mlp_is_its_formula(activation):
    net = mlp(3, (5, 4), classes=2, auxiliary=3, activation=activation, dtype="float64")
    params, x = random_params(net, dtype=np.float64), inputs(7, 3, np.float64)
    y = x
    for layer in "hidden_0", "hidden_1":
        y = FORMULAS[activation](dense(params[layer], y))
    np.testing.assert_allclose(net.apply(params, x), head_logits(params, y), rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_cnn_is_a_hand_written_convolution_on_row_major_images():
    net = cnn((5, 6), (2, 3), (4,), classes=2, auxiliary=3, activation="gelu", dtype="float64")
    params, x = random_params(net, dtype=np.float64), inputs(4, 30, np.float64)
    y = x.reshape(4, 5, 6, 1)
    for name in "convolution_0", "convolution_1":
        y = FORMULAS["gelu"](numpy_convolution(params[name], y))
    y = FORMULAS["gelu"](dense(params["hidden_0"], y.reshape(4, -1)))
    np.testing.assert_allclose(net.apply(params, x), head_logits(params, y), rtol=1e-12, atol=1e-12)


def test_a_linear_model_is_its_two_kernels_and_has_no_hidden_part():
    net = mlp(3, (), classes=2, auxiliary=2, bias=False)
    params, x = random_params(net), np.eye(3, dtype=np.float32)
    kernels = np.hstack([params["class_head"]["kernel"], params["auxiliary_head"]["kernel"]])
    np.testing.assert_allclose(net.apply(params, x), kernels, rtol=1e-6)
    assert net.hidden(params, x) == ()
    with pytest.raises(ValueError, match="no part 'hidden' of a network with the layers class_head, auxiliary_head"):
        net.layers("hidden")


def test_class_logits_come_first_on_the_last_axis():
    net = mlp(30, (4,))
    assert (net.classes, net.auxiliary, net.all_logits) == (slice(0, 10), slice(10, 13), slice(0, 13))
    params = jax.tree.map(np.zeros_like, random_params(net))
    params["class_head"]["bias"] = np.arange(10, dtype=np.float32)
    params["auxiliary_head"]["bias"] = np.arange(10, 13, dtype=np.float32)
    stacked = np.stack([net.apply(params, inputs(2, 30))] * 3)
    np.testing.assert_array_equal(stacked, np.tile(np.arange(13), (3, 2, 1)))
    np.testing.assert_array_equal(net.class_logits(stacked), stacked[:, :, :10])
    np.testing.assert_array_equal(net.auxiliary_logits(stacked), stacked[:, :, 10:])


# Precision


@pytest.mark.parametrize("init", ["paper", "torch"])
@either_net
def test_dtype_is_that_of_every_leaf_and_of_the_output_whatever_the_inputs(make, init):
    def dtypes(net, input_dtype):
        params = jax.eval_shape(net.init, KEY)
        logits = jax.eval_shape(net.apply, params, inputs(2, 30, input_dtype))
        return {str(leaf.dtype) for leaf in (*jax.tree.leaves(params), logits)}

    assert dtypes(make(init=init), np.float32) == {"float32"}
    with jax.enable_x64(True):
        assert dtypes(make(init=init, dtype="float64"), np.float64) == {"float64"}
        assert dtypes(make(init=init, dtype="float64"), np.float32) == {"float64"}
        assert dtypes(make(init=init), np.float64) == {"float32"}
    assert jnp.ones(1).dtype == np.float32


# pytest makes errors of warnings, so JAX's warning that it truncates to float32 would not pass for the ValueError.
@either_net
def test_float64_without_x64_is_one_clear_error_and_never_quietly_float32(make):
    with pytest.raises(ValueError, match=r"float64.*enable_x64"):
        make(dtype="float64").init(KEY)
    with pytest.raises(ValueError, match=r"float64.*enable_x64"):
        make(dtype="float64").apply(random_params(make(), dtype=np.float64), inputs(2, 30))


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
def test_a_network_has_its_parts_and_they_are_where_its_logits_come_from(name):
    net = REGISTERED[name](SHAPE, **SIZES)
    params, x = random_params(net), inputs(3, 30)
    assert (net.features, net.classes, net.auxiliary) == (30, slice(0, 4), slice(4, 7))
    assert net.layers() == net.layers("all") == (*net.body, "class_head", "auxiliary_head")
    assert set(net.layers()) == set(params)
    assert net.layers("body") == net.layers("hidden") == net.body
    for layer in params:
        assert net.layers(layer) == (layer,)
    with pytest.raises(ValueError, match=f"there is no part 'tail' of a network with the layers {net.body[0]}, "):
        net.layers("tail")
    hidden, logits = jax.jit(lambda params: (net.hidden(params, x), net.apply(params, x)))(params)
    assert {(layer.ndim, layer.shape[0]) for layer in hidden} == {(2, 3)}
    np.testing.assert_allclose(logits, head_logits(params, np.asarray(hidden[-1])), rtol=1e-4, atol=1e-4)
    gradient = jax.jit(jax.grad(lambda params: net.class_logits(net.apply(params, x)).sum()))(params)
    for layer in net.layers():
        assert any(map(np.any, jax.tree.leaves(gradient[layer]))) == (layer != net.auxiliary_head)
    with pytest.raises(ValueError, match="inputs must have shape"):
        net.hidden(params, x[:, 1:])


@every_network
def test_init_and_apply_are_pure_and_go_through_jit_vmap_and_grad(name):
    net, x = REGISTERED[name](SHAPE, **SIZES), inputs(3, 30)
    init, keys = jax.jit(net.init), jax.random.split(KEY, 2)
    first, again = init(keys[0]), init(keys[0])
    assert leaves_equal(first, again)
    assert not leaves_equal(first, init(keys[1]))
    stacked = jax.eval_shape(jax.vmap(net.init), keys)
    assert shapes(net) == jax.tree.map(lambda leaf: leaf.shape[1:], stacked)
    several = jax.tree.map(lambda *leaves: np.stack(leaves), first, random_params(net))
    alone = net.apply(first, x), net.apply(random_params(net), x)
    np.testing.assert_allclose(jax.jit(jax.vmap(net.apply, (0, None)))(several, x), alone, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(net.apply(first, x), alone[0])  # no state, no tracer is left behind
    assert leaves_equal(first, again)


@every_network
@pytest.mark.usefixtures("x64")
def test_float64_is_float64_throughout_and_its_gradient_that_of_differences(name):
    net = REGISTERED[name](SHAPE, **SIZES, dtype="float64")
    params, x = random_params(net, dtype=np.float64), inputs(3, 30, np.float64)
    params = jax.tree.map(lambda leaf: leaf / 4, params)
    direction = jax.tree.map(lambda leaf: leaf / 10, random_params(net, 1, np.float64))

    @jax.jit
    def value_and_slope(step):
        def value(step):
            return jnp.sum(net.apply(jax.tree.map(lambda a, b: a + step * b, params, direction), x) ** 2)

        return jax.jvp(value, (step,), (1.0,))

    found = float(value_and_slope(0.0)[1])
    assert {leaf.dtype for leaf in jax.tree.leaves(jax.eval_shape(net.init, KEY))} == {np.dtype("float64")}
    assert found == pytest.approx(float(value_and_slope(1e-5)[0] - value_and_slope(-1e-5)[0]) / 2e-5, rel=1e-7)


def test_layers_are_in_the_order_in_which_the_module_assigns_them():
    assert REGISTERED["attention"](SHAPE, **SIZES).body == ("rows", "place", "attention_0", "attention_1")
    assert cnn(SHAPE, (2, 3), (4,)).body == ("convolution_0", "convolution_1", "hidden_0")


def test_a_builder_passes_on_what_only_its_module_knows():
    assert shapes(NETWORKS["cnn"](SHAPE, channels=(2,), **SIZES))["convolution_0"]["kernel"] == (3, 3, 1, 2)
    with pytest.raises(TypeError, match="channels"):
        NETWORKS["mlp"](SHAPE, channels=(2,))


def test_a_hand_written_network_says_what_its_layers_are():
    parts = (mlp(4).init, mlp(4).apply, mlp(4).hidden, 4, slice(0, 1), slice(1, 2))
    assert Network(*parts).layers() == ("class_head", "auxiliary_head")
    net = Network(*parts, body=("first", "second"), class_head="heads", auxiliary_head="heads")
    assert net.layers() == ("first", "second", "heads")
    assert net.layers("hidden") == ("first", "second")
    assert net.layers("class_head") == net.layers("auxiliary_head") == ("heads",)


def test_a_module_with_state_or_without_a_head_and_parameters_of_another_network_are_refused():
    class Normalised(Attention):
        def __init__(self, *args, rngs, **settings):
            super().__init__(*args, rngs=rngs, **settings)
            self.normal = nnx.BatchNorm(8, rngs=rngs)

    class Headless(Attention):
        def __init__(self, *args, rngs, **settings):
            super().__init__(*args, rngs=rngs, **settings)
            del self.auxiliary_head

    with pytest.raises(ValueError, match=r"parameters alone, not the state .*normal.*mean"):
        builder(Normalised)(SHAPE, **SIZES)
    with pytest.raises(ValueError, match=r"needs a class_head and an auxiliary_head; it has rows, .*, class_head$"):
        builder(Headless)(SHAPE, **SIZES)
    with pytest.raises(
        ValueError, match=r"the layers hidden_0, class_head, auxiliary_head, got auxiliary_head, class_h"
    ):
        mlp(30, (4,)).apply(random_params(mlp(30, ())), inputs(2, 30))


def test_a_network_that_somebody_adds_runs_in_figure_10(monkeypatch):
    monkeypatch.setitem(NETWORKS, "attention", REGISTERED["attention"])
    small = {"seeds": 1, "hidden": (32,), "noise_images": 128, "teacher_epochs": 4, "student_epochs": 1}
    settings = fig10.PRESETS["smoke"].but(network="attention", students=("student_aux",), learning_rate=1e-2, **small)
    record = run(fig10.EXPERIMENT, settings)
    assert record.config["network"] == "attention"
    assert record.conditions["reference"].mean < 0.3 < 0.6 < record.conditions["teacher"].mean
    with pytest.raises(ValueError, match=r"unknown network 'cmn'; did you mean 'cnn'\? choose from: mlp, cnn"):
        fig10.PRESETS["smoke"].but(network="cmn")


def test_the_former_module_has_the_same_names():
    assert sublim_theory.models.mlp is mlp
    assert sublim_theory.models.Network is Network


# Errors


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mlp(True), "features must be a whole number, got True"),
        (lambda: mlp(8, (4, 0)), r"hidden\[1\] must be at least 1, got 0"),
        (lambda: mlp(4, (np.float32(8),)), r"hidden\[0\] must be a whole number"),
        (lambda: mlp(8, init_scale=0), "init_scale must be positive and finite, got 0"),
        (lambda: mlp(4, init_scale=jnp.float32(np.nan)), "init_scale must be positive and finite, got nan"),
        (lambda: mlp(4, init_scale="1"), "init_scale must be a number"),
        (lambda: mlp(4, init_scale=np.float64(1e20)), "init_scale must be below"),
        (lambda: mlp(10**16), r"features must be below 1e\+15"),
        (lambda: mlp(8, activation="rleu"), "unknown activation 'rleu'; did you mean 'relu'"),
        (lambda: mlp(8, init="papr"), "unknown initialisation 'papr'; did you mean 'paper'"),
        (lambda: mlp(8, init="qqq"), "'qqq'.* choose from: paper, he, torch"),
        (lambda: mlp(8, dtype="flaot32"), "unknown dtype 'flaot32'; did you mean 'float32'"),
        (lambda: cnn((np.int64(0), 5)), "height must be at least 1, got 0"),
        (lambda: cnn((5, 6), (2, 0)), r"channels\[1\] must be at least 1, got 0"),
    ],
)
def test_error_names_the_argument_and_its_value(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("number", [np.int32, jnp.int32, np.array], ids=["numpy", "jax", "array"])
def test_sizes_are_checked_and_work_whatever_their_type(number):
    sizes = {"features": 4, "hidden": (8,), "classes": 3, "auxiliary": 2}
    for size in sizes:
        for bad in (0, -3):
            with pytest.raises(ValueError, match=rf"{size}(\[0\])? must be at least 1, got {bad}"):
                mlp(**sizes | {size: (number(bad),) if size == "hidden" else number(bad)})
    found = mlp(number(4), (number(8),), number(3), number(2))
    assert (found.features, found.classes, found.auxiliary) == (4, slice(0, 3), slice(3, 5))
    assert shapes(found) == shapes(mlp(4, (8,), 3, 2))


@either_net
def test_error_on_a_wrong_input_shape_names_both_shapes(make):
    net = make()
    for shape in (2, 29), (30,), (2, 5, 6), (0, 30):
        with pytest.raises(ValueError, match=r"\[batch >= 1, 30\], got " + re.escape(str(shape))):
            net.apply(random_params(net), np.ones(shape, np.float32))
