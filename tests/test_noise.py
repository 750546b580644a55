"""Noise against the distributions it is named after; every image is its key's, whatever the size of the set."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from sublim_theory import noise

KEY = jax.random.key(20250714)
SCALE = 2.5
MANY = 8_000
# name -> distribution at SCALE
CONTINUOUS = {"uniform": stats.uniform(-SCALE, 2 * SCALE), "gaussian": stats.norm(0, SCALE)}
WHITE = {"uniform": SCALE**2 / 3, "gaussian": SCALE**2, "bernoulli": SCALE**2}  # variances
CORRELATED = ("blurred", "perlin", "subspace", "spectrum", "mixture", "images")
each = pytest.mark.parametrize("name", noise.DISTRIBUTIONS)
white = pytest.mark.parametrize("name", WHITE)


@functools.cache
def given(features):
    """50 images to make others from: of another mean, correlated, with a pixel that never changes."""
    rng = np.random.default_rng(0)
    table = 0.5 + rng.normal(size=(50, features)) @ rng.normal(size=(features, features)) / features
    table[:, 0] = -1
    return table.astype(np.float32)


def draw(name, key=KEY, count=8, features=9, scale=1.0):
    return np.asarray(noise.sampler(name, scale, given(features))(key, count, features))


@functools.cache
def images(name):
    """256 images of 784 pixels at `SCALE`."""
    return draw(name, count=256, features=784, scale=SCALE)


@functools.cache
def many(name):
    """Images of 16 pixels in float64, scale 1."""
    return draw(name, count=MANY, features=16).astype(np.float64)


@functools.cache
def few(name):
    """8 images of 9 pixels, with images and a scale where they are needed alone."""
    sample = noise.sampler(name, images=given(9)) if name in noise.NEED_IMAGES else noise.sampler(name)
    return np.asarray(sample(KEY, 8, 9))


def test_every_distribution_is_tested_here():
    assert {*WHITE, *CORRELATED} == set(noise.DISTRIBUTIONS)
    assert set(noise.NEED_IMAGES) < set(CORRELATED)


# Pixels


@white
def test_pixels_have_the_distribution_of_that_name_and_no_other(name):
    pixels = images(name).ravel()[::4]
    fitting = [each for each, wanted in CONTINUOUS.items() if stats.kstest(pixels, wanted.cdf).pvalue > 1e-3]
    assert fitting == [name] * (name in CONTINUOUS)
    if name == "uniform":
        assert SCALE * 0.999 < abs(pixels).max() <= SCALE
    if name == "gaussian":
        assert abs(pixels).max() > 4 * SCALE, "it is not truncated"
    if name == "bernoulli":
        assert np.unique(pixels).tolist() == [-SCALE, SCALE]
        assert abs(pixels.mean()) < 5 * SCALE / np.sqrt(pixels.size)


def test_the_noise_of_the_paper_keeps_its_bits():
    def pixels(key):
        return jax.random.uniform(key, (7,), minval=-1, maxval=1), jax.random.normal(key, (7,))

    for name, wanted in zip(CONTINUOUS, jax.jit(jax.vmap(pixels))(jax.random.split(KEY, 5)), strict=True):
        np.testing.assert_array_equal(draw(name, count=5, features=7), wanted)


@white
def test_pixels_and_images_are_independent(name):
    pixels = images(name)
    for table in pixels, pixels.T:
        correlations = np.corrcoef(table)[np.triu_indices(len(table), 1)]
        assert np.abs(correlations).max() < 6 / np.sqrt(table.shape[1])
        assert correlations.std() == pytest.approx(1 / np.sqrt(table.shape[1]), rel=0.1)


@pytest.mark.parametrize("name", ["blurred", "perlin"])
def test_every_pixel_of_a_smooth_image_is_standard_normal_and_images_are_square(name):
    pixels = many(name)
    assert np.abs(pixels.mean(axis=0)).max() < 5 / np.sqrt(MANY)
    np.testing.assert_allclose(pixels.var(axis=0), 1, atol=5 * np.sqrt(2 / MANY))
    assert stats.kstest(pixels[:, 5], stats.norm.cdf).pvalue > 1e-3
    with pytest.raises(ValueError, match=f"noise '{name}' is for square images, and 10 pixels make no square"):
        draw(name, features=10)


def test_correlation_of_blurred_pixels_is_that_of_the_kernel_with_itself():
    pixels = draw("blurred", count=4_000, features=784).reshape(-1, 28, 28)
    width = noise.BLUR * 28
    for dy, dx in ((0, 1), (0, 2), (3, 0), (2, 2), (0, 9)):
        for y, x in ((0, 0), (12, 12), (18, 18)):  # at the border as inside
            found = np.corrcoef(pixels[:, y, x], pixels[:, y + dy, x + dx])[0, 1]
            assert found == pytest.approx(np.exp(-(dy**2 + dx**2) / (4 * width**2)), abs=5 / np.sqrt(4_000))


def test_octaves_of_perlin_are_bilinear_lattices_each_of_half_the_amplitude(monkeypatch):
    monkeypatch.setattr(noise, "OCTAVES", 1)
    image = draw("perlin", count=400, features=64).reshape(-1, 8, 8).astype(np.float64)
    line = np.array([7, 5, 3, 1]) / 8  # the weight of the first of two nodes, at the centres of the cell's pixels
    variances = np.outer(*[line**2 + line[::-1] ** 2] * 2)
    cell = image[:, :4, :4] * np.sqrt(variances)
    np.testing.assert_allclose(np.diff(cell, n=2, axis=2), 0, atol=1e-5)  # linear along both axes inside a cell
    np.testing.assert_allclose(np.diff(cell, n=2, axis=1), 0, atol=1e-5)
    assert np.abs(np.diff(image, n=2, axis=2)).max() > 0.1
    monkeypatch.setattr(noise, "OCTAVES", 2)
    weights = noise._octaves(8)
    # next to the middle node of both lattices, pixel (4, 4): 1/8 of a cell from it in one, 1/4 in the other
    shares = (weights[36, :9] ** 2).sum(), (weights[36, 9:] ** 2).sum()
    expected = ((7 / 8) ** 2 + (1 / 8) ** 2) ** 2, ((3 / 4) ** 2 + (1 / 4) ** 2) ** 2 / 4
    assert shares == pytest.approx(np.array(expected) / sum(expected), rel=1e-6)


def test_a_subspace_is_one_for_the_set_and_another_for_another_set():
    one, rest = np.split(draw("subspace", count=80, features=100), 2)
    other = draw("subspace", jax.random.fold_in(KEY, 1), count=40, features=100)
    rank = functools.partial(np.linalg.matrix_rank, tol=1e-3)
    assert rank(one) == rank(np.vstack([one, rest])) == noise.DIMENSION
    assert rank(np.vstack([one, other])) == 2 * noise.DIMENSION


def test_pixels_of_a_subspace_have_unit_variance_on_average_also_where_it_is_all_there_is():
    for pixels in many("subspace"), draw("subspace", count=4_000, features=100).astype(np.float64):
        # of d N(0, 1)**2 an image, whose mean has the variance 2/d
        assert (pixels**2).mean() == pytest.approx(1, abs=5 * np.sqrt(2 / noise.DIMENSION / len(pixels)))
    eigenvalues = noise.covariance_spectrum(pixels)
    assert eigenvalues.shape == (100,)
    edges = 100 / noise.DIMENSION * (1 + np.array([-1.2, 1.2]) * np.sqrt(noise.DIMENSION / 4_000)) ** 2
    assert edges[0] < eigenvalues[noise.DIMENSION - 1] <= eigenvalues[0] < edges[1]
    assert eigenvalues[noise.DIMENSION] < 1e-12 * eigenvalues[0]


# Distributions that are made from images


def test_images_are_rows_each_drawn_as_often():
    rows, counts = np.unique(many("images").astype(np.float32), axis=0, return_counts=True)
    np.testing.assert_array_equal(rows, np.unique(given(16), axis=0))
    assert stats.chisquare(counts).pvalue > 1e-3


def test_spectrum_is_gaussian_with_the_mean_and_the_covariance_of_the_images():
    drawn, wanted = many("spectrum"), np.cov(given(16).astype(np.float64), rowvar=False, bias=True)
    deviations = np.sqrt(wanted.diagonal())
    np.testing.assert_allclose(drawn[:, 0], -1, atol=1e-5)  # a pixel that never changes
    error = np.abs(drawn.mean(axis=0) - given(16).mean(axis=0))
    assert np.all(error <= 5 * deviations / np.sqrt(MANY) + 1e-5)
    scatter = np.sqrt((np.outer(deviations, deviations) ** 2 + wanted**2) / MANY)
    assert np.all(np.abs(np.cov(drawn, rowvar=False) - wanted) <= 5 * scatter + 1e-5)
    assert stats.kstest((drawn[:, 5] - drawn[:, 5].mean()) / drawn[:, 5].std(), stats.norm.cdf).pvalue > 1e-3


def test_mixture_is_an_image_or_uniform_noise_half_of_the_time():
    drawn = many("mixture").astype(np.float32)
    real = drawn[:, 0] == -1
    assert abs(real.mean() - 0.5) < 5 * 0.5 / np.sqrt(MANY)
    np.testing.assert_array_equal(np.unique(drawn[real], axis=0), np.unique(given(16), axis=0))
    assert stats.kstest(drawn[~real].ravel(), stats.uniform(-1, 2).cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", noise.NEED_IMAGES)
def test_what_is_made_from_images_needs_some_that_fit(name):
    noise.check(name)
    with pytest.raises(ValueError, match=f"noise '{name}' is made from images, and none are given"):
        noise.sampler(name)
    with pytest.raises(ValueError, match=r"needs images \[count, features\], got the shape \(0, 9\)"):
        noise.sampler(name, 1.0, np.zeros((0, 9)))
    with pytest.raises(ValueError, match="images of 16 pixels and is asked for 9"):
        noise.sampler(name, 1.0, given(16))(KEY, 2, 9)


# Scale, keys, dtypes and transformations


@each
def test_scale_is_a_factor_and_other_keys_give_other_images_and_all_may_be_traced_and_mapped(name):
    def sample(key, scale, table):
        return noise.sampler(name, scale, table)(key, 8, 9)

    keys = jnp.stack([KEY, jax.random.fold_in(KEY, 1)])
    first, second = np.asarray(jax.jit(jax.vmap(sample, in_axes=(0, None, None)))(keys, SCALE, given(9)))
    assert first.dtype == few(name).dtype == np.float32
    np.testing.assert_allclose(first, SCALE * few(name), rtol=1e-5, atol=1e-5)  # sums in another order
    assert not np.array_equal(first, second)
    if name in CONTINUOUS:
        assert np.all(first != second)


@each
def test_the_same_float32_images_with_64_bit_jax_whatever_the_type_of_the_scale(name):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        np.testing.assert_array_equal(few(name), draw(name))  # also where images are given that it does not need
        for scale in (2, np.float64(2), jnp.float64(2), np.array(2.0)):
            drawn = jax.eval_shape(lambda key, scale=scale: noise.sampler(name, scale, given(9))(key, 4, 9), KEY)
            assert drawn.dtype == np.float32


@each
def test_an_image_does_not_depend_on_the_size_of_the_set(name, monkeypatch):
    monkeypatch.setattr(noise, "BLOCK", 4)
    larger = draw(name, count=11)
    assert len(np.unique(larger, axis=0)) == 11 or name in ("images", "mixture", "bernoulli")
    np.testing.assert_allclose(few(name), larger[:8], rtol=1e-6, atol=1e-6)


def test_an_image_does_not_depend_on_the_size_of_the_set_at_the_real_block_size():
    sample, large = noise.sampler("uniform"), noise.BLOCK + 3
    larger = sample(KEY, large, 2)
    np.testing.assert_array_equal(sample(KEY, 5, 2), larger[:5])
    assert len(np.unique(larger, axis=0)) == large


@pytest.mark.parametrize("call", [noise.check, noise.sampler])
def test_the_wrong_setting_is_named_whatever_its_type(call):
    for number in float, np.float32, jnp.float32, np.array:
        for bad in (0.0, -1.0, np.nan, np.inf):
            with pytest.raises(ValueError, match="noise_scale must be positive and finite, got"):
                call("uniform", number(bad))
    with pytest.raises(ValueError, match="unknown noise 'unifrom'; did you mean 'uniform'"):
        call("unifrom", 1.0)
    with pytest.raises(ValueError, match=r"'cauchy'.* choose from: uniform, gaussian, bernoulli"):
        call("cauchy", 1.0)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("count", "features", "wrong"), [(0, 4, "count"), (2.5, 4, "count"), (2, np.int64(0), "features")]
)
def test_a_set_has_a_positive_whole_number_of_images_and_pixels(count, features, wrong):
    with pytest.raises(ValueError, match=f"{wrong} must be"):
        noise.sampler("uniform")(KEY, count, features)


# The spectrum of the covariance


def test_spectrum_of_white_noise_lies_between_the_edges_of_marchenko_and_pastur():
    edges = (1 + np.array([-1.2, 1.2]) * np.sqrt(16 / MANY)) ** 2  # and a fifth: the edges hold as both grow
    for name, variance in WHITE.items():
        eigenvalues = noise.covariance_spectrum(many(name))
        low, high = variance / SCALE**2 * edges
        assert low < eigenvalues[-1] <= eigenvalues[0] < high


def test_spectrum_of_a_hand_made_set_in_descending_order_in_float64():
    table = np.array([[3, 1, 5], [-3, 1, 5], [3, -1, 5], [-3, -1, 5]], np.float32)
    eigenvalues = noise.covariance_spectrum(table)
    assert eigenvalues.dtype == np.float64
    np.testing.assert_allclose(eigenvalues, [12, 4 / 3, 0], atol=1e-14)  # 36/3 and 4/3: divided by n - 1
    np.testing.assert_allclose(noise.covariance_spectrum(table[:, :1]), [12])
    for shape in (1, 4), (4,), (2, 2, 2):
        with pytest.raises(ValueError, match=r"two images \[count, features\], got the shape"):
            noise.covariance_spectrum(np.zeros(shape))
