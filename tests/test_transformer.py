"""The transformer against a forward pass in numpy, a sampler without a cache, counts by hand and statistics."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from sublim_theory.networks import LANGUAGE_MODELS, transformer

KEY = jax.random.key(20250714, impl="rbg")  # compiles in a fraction of the time that threefry takes
SMALL = {"vocabulary": 11, "positions": 7, "width": 8, "layers": 2, "heads": 2}


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def random_params(model, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(dtype), jax.eval_shape(model.init, KEY))


def tokens(rows, length, vocabulary=11, seed=1):
    return np.random.default_rng(seed).integers(0, vocabulary, (rows, length))


def rms(x, scale):
    return x / np.sqrt((x**2).mean() + 1e-6) * scale


def by_hand(params, row, heads):
    """Logits [length, vocabulary] after each of the tokens of a row: token by token, head by head."""
    stream = [params["embedding"]["embedding"][t] + params["place"]["embedding"][i] for i, t in enumerate(row)]
    width = len(stream[0])
    for name in sorted(each for each in params if each.startswith("block_")):
        block = {part: next(iter(params[name][part].values())) for part in params[name]}
        parts = [rms(x, block["attention_norm"]) @ block["queries_keys_values"] for x in stream]
        q, k, v = (
            [[p[j * width + h * width // heads :][: width // heads] for p in parts] for h in range(heads)]
            for j in range(3)
        )
        for i in range(len(row)):
            mixed = []
            for h in range(heads):
                score = np.array([q[h][i] @ k[h][j] for j in range(i + 1)]) / np.sqrt(width / heads)
                share = np.exp(score) / np.exp(score).sum()
                mixed.append(sum(s * v[h][j] for j, s in enumerate(share)))
            stream[i] = stream[i] + np.concatenate(mixed) @ block["out"]
        for i, x in enumerate(stream):
            wide = rms(x, block["norm"]) @ block["up"]
            stream[i] = x + (wide * (1 + special.erf(wide / np.sqrt(2))) / 2) @ block["down"]
    head = params["head"]["kernel"] if "head" in params else params["embedding"]["embedding"].T
    return np.stack([rms(x, params["norm"]["scale"]) @ head for x in stream])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("tied", [False, True])
def test_it_is_its_formula(tied):
    model = transformer(**SMALL, tied=tied, dtype="float64")
    params, rows = random_params(model, dtype=np.float64), tokens(3, 6)
    found = jax.jit(model.apply)(params, rows)
    assert found.dtype == np.float64
    expected = np.stack([by_hand(params, row, 2) for row in rows])
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
    assert not np.allclose(found, np.stack([by_hand(params, row, 4) for row in rows]))


def test_the_usual_size_has_the_parameters_that_a_hand_counts_by_layer():
    model = transformer(121, 17)
    params = jax.eval_shape(model.init, KEY)
    counts = {name: sum(leaf.size for leaf in jax.tree.leaves(params[name])) for name in model.layers}
    block = 32 * 96 + 32 * 32 + 2 * 32 * 128 + 2 * 32
    assert counts == {"embedding": 121 * 32, "place": 17 * 32, "block_0": block, "norm": 32, "head": 32 * 121}
    assert sum(counts.values()) == 20_672
    assert transformer(121, 17, tied=True, layers=2).layers == ("embedding", "place", "block_0", "block_1", "norm")


def test_initial_weights_are_normal_with_the_variance_over_the_inputs_and_norms_are_1():
    model = transformer(300, 200, width=64, heads=4, init_scale=2.0)
    params = jax.jit(model.init)(KEY)
    fan_in = {("embedding", "embedding"): 64, ("place", "embedding"): 64, ("head", "kernel"): 64}
    block = {part: params["block_0"][part]["kernel"] for part in ("queries_keys_values", "out", "up", "down")}
    drawn = {params[a][b].tobytes(): params[a][b] * fan**0.5 for (a, b), fan in fan_in.items()}
    drawn |= {kernel.tobytes(): kernel * len(kernel) ** 0.5 for kernel in block.values()}
    assert len(drawn) == 7  # each has its own draw
    for values in drawn.values():
        assert stats.kstest(np.ravel(values), "norm", args=(0, 2)).pvalue > 1e-4
    for norm in (params["norm"], params["block_0"]["norm"], params["block_0"]["attention_norm"]):
        np.testing.assert_array_equal(norm["scale"], 1)


def test_no_token_is_seen_before_its_time_and_no_row_sees_another():
    model = transformer(**SMALL)
    params, rows = random_params(model), tokens(2, 7)
    before = model.apply(params, rows)
    changed = rows.copy()
    changed[0, 4] = (changed[0, 4] + 1) % 11
    after = model.apply(params, changed)
    np.testing.assert_array_equal(after[1], before[1])
    np.testing.assert_array_equal(after[0, :4], before[0, :4])
    assert (np.abs(after[0, 4:] - before[0, 4:]).max(axis=-1) > 1e-3).all()
    np.testing.assert_allclose(model.apply(params, rows[:, :3]), before[:, :3], rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("x64")
def test_its_gradient_is_that_of_differences():
    model = transformer(**SMALL, dtype="float64")
    params, direction, rows = random_params(model, 0, np.float64), random_params(model, 1, np.float64), tokens(3, 7)

    @jax.jit
    def value_and_slope(step):
        def value(step):
            return jnp.sum(model.apply(jax.tree.map(lambda a, b: a + step * b / 10, params, direction), rows) ** 2)

        return jax.jvp(value, (step,), (1.0,))

    found = float(value_and_slope(0.0)[1])
    assert found == pytest.approx(float(value_and_slope(1e-5)[0] - value_and_slope(-1e-5)[0]) / 2e-5, rel=1e-6)


@pytest.mark.parametrize("layers", [1, 2])
def test_greedy_sampling_with_a_cache_is_that_without(layers):
    model = transformer(**SMALL | {"layers": layers})
    params, prompts = random_params(model), tokens(5, 3)
    for among in (11, 6):
        found = np.asarray(jax.jit(model.sample, static_argnums=4)(params, KEY, prompts, 0.0, among))
        expected = prompts
        for _ in range(4):  # the whole row again for every token
            logits = model.apply(params, expected)[:, -1, :among]
            expected = np.concatenate([expected, logits.argmax(axis=-1)[:, None]], axis=1)
        np.testing.assert_array_equal(found, expected)
    assert (expected[:, 3:] < 6).all()


def test_tokens_are_drawn_from_the_softmax_at_the_temperature():
    model = transformer(**SMALL)
    params = jax.tree.map(lambda leaf: leaf / 3, random_params(model))
    prompts = np.repeat(tokens(1, 6), 20_000, axis=0)
    sample, logits = jax.jit(model.sample), np.asarray(model.apply(params, prompts[:1])[0, -1], np.float64)
    for temperature in (1.0, 0.5):
        counts = np.bincount(np.asarray(sample(params, KEY, prompts, temperature))[:, 6], minlength=11)
        for of, right in ((temperature, True), (1.5 * temperature, False)):
            expected = len(prompts) * np.exp(logits / of) / np.exp(logits / of).sum()
            assert (stats.chisquare(counts, expected).pvalue > 1e-4) == right


def test_samples_depend_on_the_key_and_prompts_stay_as_they_are():
    model = transformer(**SMALL)
    params, prompts = random_params(model), tokens(4, 3)
    first, second = (np.asarray(model.sample(params, key, prompts)) for key in jax.random.split(KEY))
    assert first.shape == (4, 7)
    np.testing.assert_array_equal(first[:, :3], prompts)
    assert (first != second).any()
    np.testing.assert_array_equal(model.sample(params, KEY, first), first)  # nothing is left to say


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocabulary": 0}, "vocabulary must be at least 1, got 0"),
        ({"positions": -1}, "positions must be at least 1, got -1"),
        ({"width": -8}, "width must be at least 1, got -8"),
        ({"layers": 0}, "layers must be at least 1, got 0"),
        ({"heads": 3}, "width must be a multiple of heads, got 8 and 3"),
        ({"init_scale": 0.0}, "init_scale must be positive and finite, got 0"),
        ({"dtype": "float16"}, "unknown dtype 'float16'"),
    ],
)
def test_a_wrong_setting_is_named(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        transformer(**SMALL | changes)


def test_wrong_tokens_and_parameters_are_named():
    model = transformer(**SMALL)
    params = random_params(model)
    with pytest.raises(ValueError, match=re.escape("tokens must have shape [batch, 1 to 7], got (2, 8)")):
        model.apply(params, tokens(2, 8))
    with pytest.raises(ValueError, match=re.escape("prompts must have shape [batch, 1 to 7], got (2, 0)")):
        model.sample(params, KEY, tokens(2, 0))
    with pytest.raises(
        ValueError, match="parameters must have the layers embedding, place, block_0, block_1, norm, head"
    ):
        model.apply({name: params[name] for name in params if name != "head"}, tokens(2, 3))
    with pytest.raises(ValueError, match="needs 64-bit JAX"):
        transformer(**SMALL, dtype="float64").apply(params, tokens(2, 3))


def test_it_is_registered():
    assert LANGUAGE_MODELS["transformer"] is transformer
