"""Noise images against their distributions; image i is the same whatever the size of the set."""

import functools

import jax
import numpy as np
import pytest
from scipy import stats

from sublim_theory import noise

KEY = jax.random.key(20250714)
SCALE = 2.5
# name -> (distribution at SCALE, its variance, the kurtosis that sets the error of a sample variance)
DISTRIBUTIONS = {
    "uniform": (stats.uniform(-SCALE, 2 * SCALE), SCALE**2 / 3, 1.8),
    "gaussian": (stats.norm(0, SCALE), SCALE**2, 3.0),
}
each = pytest.mark.parametrize("name", DISTRIBUTIONS)


@functools.cache
def images(name, scale=SCALE):
    """256 images of 784 pixels."""
    return np.asarray(noise.sampler(name, scale)(KEY, 256, 784))


@each
def test_mean_and_variance_are_those_of_the_distribution(name):
    _, variance, kurtosis = DISTRIBUTIONS[name]
    pixels = images(name).astype(np.float64)
    assert abs(pixels.mean()) < 5 * np.sqrt(variance / pixels.size)
    assert pixels.var() == pytest.approx(variance, rel=5 * np.sqrt((kurtosis - 1) / pixels.size))


@each
def test_shape_of_the_distribution_and_of_no_other(name):
    for other, (distribution, _, _) in DISTRIBUTIONS.items():
        fits = stats.kstest(images(name).ravel(), distribution.cdf).pvalue > 1e-3
        assert fits == (other == name)


def test_uniform_fills_its_range_and_no_more():
    assert SCALE * 0.9999 < images("uniform").max() <= SCALE
    assert -SCALE <= images("uniform").min() < -SCALE * 0.9999


def test_gaussian_is_not_truncated():
    assert np.abs(images("gaussian")).max() > 4 * SCALE


@each
def test_scale_is_a_factor_and_one_unless_given(name):
    unscaled = np.asarray(noise.sampler(name)(KEY, 256, 784))
    np.testing.assert_allclose(images(name), SCALE * unscaled, rtol=1e-5, atol=1e-5)


@each
def test_pixels_and_images_are_independent(name):
    pixels = images(name)
    for table in pixels, pixels.T:
        correlations = np.corrcoef(table)[np.triu_indices(len(table), 1)]
        assert np.abs(correlations).max() < 6 / np.sqrt(table.shape[1])
        assert correlations.std() == pytest.approx(1 / np.sqrt(table.shape[1]), rel=0.1)


@each
def test_other_keys_other_images(name):
    sample = jax.jit(noise.sampler(name), static_argnums=(1, 2))
    first, second = (np.asarray(sample(jax.random.fold_in(KEY, i), 8, 10)) for i in (0, 1))
    assert np.all(first != second)


@each
def test_float32_and_the_same_values_with_64_bit_jax(name):
    images32 = np.asarray(noise.sampler(name, 2.0)(KEY, 4, 8))
    with jax.enable_x64(True):
        images64 = np.asarray(noise.sampler(name, 2.0)(KEY, 4, 8))
    assert images32.dtype == images64.dtype == np.float32
    np.testing.assert_array_equal(images32, images64)


@each
def test_float32_also_when_the_scale_is_a_numpy_scalar(name):
    with jax.enable_x64(True):
        drawn = jax.eval_shape(lambda key: noise.sampler(name, np.float64(2))(key, 4, 8), KEY)
    assert drawn.dtype == np.float32


@functools.cache
def in_blocks_of_four(name, count):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise, "BLOCK", 4)
        return np.asarray(noise.sampler(name)(KEY, count, 6))


@each
@pytest.mark.parametrize("count", [3, 8, 11], ids=["part of a block", "two blocks", "two and a part"])
def test_an_image_does_not_depend_on_the_size_of_the_set(name, count):
    larger = in_blocks_of_four(name, 12)
    assert len(np.unique(larger, axis=0)) == 12
    np.testing.assert_allclose(in_blocks_of_four(name, count), larger[:count], rtol=1e-6, atol=1e-7)


def test_an_image_does_not_depend_on_the_size_of_the_set_at_the_real_block_size():
    sample, large = noise.sampler("uniform"), noise.BLOCK + 3
    larger = sample(KEY, large, 2)
    np.testing.assert_array_equal(sample(KEY, 5, 2), larger[:5])
    assert len(np.unique(larger, axis=0)) == large


@pytest.mark.parametrize(
    ("name", "scale", "message"),
    [
        ("unifrom", 1.0, "unknown noise 'unifrom'; did you mean 'uniform'"),
        ("perlin", 1.0, "'perlin'.* choose from: uniform, gaussian"),
        ("uniform", 0.0, "noise_scale must be positive.*, got 0"),
        ("gaussian", -1.0, "noise_scale .* got -1"),
        ("uniform", float("nan"), "noise_scale .* got nan"),
        ("uniform", float("inf"), "noise_scale .* got inf"),
    ],
)
def test_sampler_names_the_wrong_setting(name, scale, message):
    with pytest.raises(ValueError, match=message):
        noise.sampler(name, scale)
