"""Input distributions for distillation, by name: noise that says nothing about digits, and the digits to compare with.

A distribution is a function that draws one image. Each image of a set has a key of its own and the set is filled
block by block, so image i does not depend on the size of the set, and filling takes little more memory than holding.

`scale` is a factor on every pixel. With scale 1 the pixels of

| name | are |
|---|---|
| `uniform` | independent, U(-1, 1) |
| `gaussian` | independent, N(0, 1) |
| `bernoulli` | independent, -1 or 1 |
| `blurred` | N(0, 1), correlated with their neighbours |
| `perlin` | N(0, 1), correlated over several distances |
| `subspace` | Gaussian, in `DIMENSION` directions alone; of variance 1 on average over the pixels |
| `images` | those of a given image |
| `spectrum` | Gaussian, with the mean and the covariance of given images |
| `mixture` | those of a given image or `uniform`, with probability 1/2 each |

The last three need images. `blurred` and `perlin` are for square images. `covariance_spectrum` tells them all apart
but for those that are white: `uniform`, `gaussian` and `bernoulli`.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import Precision
from jaxtyping import Float, Float32, Float64
from numpy.typing import ArrayLike, NDArray

from sublim_theory._types import Array, PRNGKey, Scalar
from sublim_theory.protocols import lookup, positive_unless_traced, require_count

Sampler: TypeAlias = Callable[[PRNGKey, int, int], Array]
"""`sample(key, count, features) -> [count, features] float32`."""

Moments: TypeAlias = tuple[Float[Array, "features"], Float[Array, "features features"]]
"""The mean and a root R of the covariance R R^T."""

BLOCK = 1024
"""Images drawn at a time."""

BLUR = 1 / 14
"""Standard deviation of the kernel of `blurred`, in sides of the image: 2 pixels at 28 x 28, 0.57 at 8 x 8."""

OCTAVES = 3
"""Of `perlin`: lattices of 2, 4, 8, ... cells a side, each of half the amplitude of the one before."""

DIMENSION = 16
"""Of the subspace of `subspace`; all directions where an image has fewer pixels."""


def uniform(key: PRNGKey, features: int, scale: Scalar = 1.0) -> Float32[Array, "features"]:
    """One image of independent pixels from U(-scale, scale), [features] float32.

    With scale 1 this is the noise of the paper (arXiv 2507.14805, section 6.2).
    """
    return jax.random.uniform(key, (features,), jnp.float32, minval=-scale, maxval=scale)


def gaussian(key: PRNGKey, features: int, scale: Scalar = 1.0) -> Float32[Array, "features"]:
    """One image of independent pixels from N(0, scale**2), [features] float32."""
    return _times(scale, jax.random.normal(key, (features,), jnp.float32))


def bernoulli(key: PRNGKey, features: int, scale: Scalar = 1.0) -> Float32[Array, "features"]:
    """One image of independent pixels, -scale or scale with equal probability, [features] float32."""
    half = jnp.float32(0.5)  # as a Python float it would draw other bits under 64-bit JAX
    return _times(scale, jnp.where(jax.random.bernoulli(key, half, (features,)), jnp.float32(1), jnp.float32(-1)))


def blurred(key: PRNGKey, features: int, scale: Scalar = 1.0) -> Float32[Array, "features"]:
    """One image of white Gaussian noise under a Gaussian kernel of width `BLUR`, [features] float32.

    The noise goes on beyond the border, so that every pixel is N(0, scale**2) and the correlation of two depends on
    their distance d alone: exp(-d**2 / (4 width**2)), or about that on a grid too coarse for the width.

    Raises:
        ValueError: if the image is not square.
    """
    kernel = _blur(_side("blurred", features))
    white = jax.random.normal(key, (kernel.shape[1],) * 2, jnp.float32)
    return _times(scale, jnp.linalg.multi_dot([kernel, white, kernel.T], precision=Precision.HIGHEST).ravel())


def perlin(key: PRNGKey, features: int, scale: Scalar = 1.0) -> Float32[Array, "features"]:
    """One image of smooth noise of several sizes, [features] float32; every pixel is N(0, scale**2).

    A sum of `OCTAVES` of value noise: independent N(0, 1) at the nodes of a lattice, interpolated bilinearly. (Perlin's
    own draws gradients at the nodes.) A convolutional student needs such correlations (arXiv 2605.23645).

    Raises:
        ValueError: if the image is not square.
    """
    weights = _octaves(_side("perlin", features))
    nodes = jax.random.normal(key, weights.shape[1:], jnp.float32)
    return _times(scale, jnp.dot(weights, nodes, precision=Precision.HIGHEST))


def subspace(
    key: PRNGKey, features: int, scale: Scalar, basis: Float[Array, "features dimension"]
) -> Float32[Array, "features"]:
    """One image of N(0, scale**2 features/dimension P), [features] float32.

    P is the projection onto the columns of `basis`, which are orthonormal and the same for all images of a set.
    """
    coordinates = jax.random.normal(key, basis.shape[1:], jnp.float32)
    size = scale * math.sqrt(features / basis.shape[1])
    return _times(size, jnp.dot(basis, coordinates, precision=Precision.HIGHEST))


def resampled(
    key: PRNGKey, features: int, scale: Scalar, images: Float[Array, "examples features"]
) -> Float32[Array, "features"]:
    """One of the images [count, features], each with the same probability, times scale, [features] float32."""
    del features
    return _times(scale, images[jax.random.randint(key, (), 0, len(images), jnp.int32)])


def spectrum(key: PRNGKey, features: int, scale: Scalar, moments: Moments) -> Float32[Array, "features"]:
    """One Gaussian image of these moments, times scale, [features] float32."""
    mean, root = moments
    white = jax.random.normal(key, (features,), jnp.float32)
    return _times(scale, mean + jnp.dot(root, white, precision=Precision.HIGHEST))


def mixture(
    key: PRNGKey, features: int, scale: Scalar, images: Float[Array, "examples features"]
) -> Float32[Array, "features"]:
    """`resampled` or `uniform`, with probability 1/2 each, [features] float32."""
    coin, one, other = jax.random.split(key, 3)
    real = resampled(one, features, scale, images)
    return jnp.where(jax.random.bernoulli(coin, jnp.float32(0.5)), real, uniform(other, features, scale))


DISTRIBUTIONS: Mapping[str, Callable[..., Array]] = {
    "uniform": uniform,
    "gaussian": gaussian,
    "bernoulli": bernoulli,
    "blurred": blurred,
    "perlin": perlin,
    "subspace": subspace,
    "images": resampled,
    "spectrum": spectrum,
    "mixture": mixture,
}
NEED_IMAGES = ("images", "spectrum", "mixture")
"""Distributions that are made from images."""


def check(name: str, scale: Scalar = 1.0) -> None:
    """Check the settings of a distribution, without the images that it may need.

    Raises:
        ValueError: for an unknown name or a scale that is not positive and finite.
    """
    lookup("noise", name, DISTRIBUTIONS)
    positive_unless_traced("noise_scale", scale)


def sampler(name: str, scale: Scalar = 1.0, images: ArrayLike | None = None) -> Sampler:
    """A set of independent images of the distribution of that name.

    Args:
        name: one of `DISTRIBUTIONS`.
        scale: factor on every pixel; may be traced.
        images: [count, features], for those in `NEED_IMAGES`; the others ignore them. May be traced.

    Returns:
        `sample(key, count, features) -> images [count, features]`, float32.

    Raises:
        ValueError: for an unknown name, a scale that is not positive and finite, or images that are needed and missing
            or not [count, features]; from `sample`, for images that are not square where they must be, or of another
            size than the given ones.
    """
    check(name, scale)
    draw, given = DISTRIBUTIONS[name], None
    if name in NEED_IMAGES:
        if images is None:
            raise ValueError(f"noise {name!r} is made from images, and none are given here")
        given = jnp.asarray(images, jnp.float32)
        if given.ndim != 2 or not len(given):
            raise ValueError(f"noise {name!r} needs images [count, features], got the shape {given.shape}")

    def sample(key: PRNGKey, count: int, features: int) -> Array:
        count, features = require_count("count", count), require_count("features", features)
        image = partial(draw, features=features, scale=scale, **_shared(name, key, features, given))
        return jax.lax.map(image, jax.random.split(key, count), batch_size=min(BLOCK, count))

    return sample


def covariance_spectrum(images: ArrayLike) -> Float64[np.ndarray, "features"]:
    """Eigenvalues of the unbiased sample covariance of the pixels, descending, [features] float64.

    Rounding below zero is set to zero. From n images the eigenvalues of white noise scatter by a factor of up to
    (1 +- sqrt(features/n))**2 about its variance (Marchenko and Pastur), and all but n - 1 are zero.

    Args:
        images: [count, features], at least two.

    Raises:
        ValueError: for another shape.
    """
    pixels = np.asarray(images, np.float64)
    if pixels.ndim != 2 or len(pixels) < 2:
        raise ValueError(f"a covariance needs at least two images [count, features], got the shape {pixels.shape}")
    covariance = np.atleast_2d(np.cov(pixels, rowvar=False))
    return np.maximum(np.linalg.eigvalsh(covariance)[::-1], 0.0)


def _times(scale: Scalar, image: Array) -> Array:
    return jnp.asarray(scale, image.dtype) * image  # the dtype of the image whatever the scale's is


def _shared(name: str, key: PRNGKey, features: int, images: Array | None) -> dict[str, Any]:
    """What all images of a set share: arguments of its distribution by name."""
    if name == "subspace":
        own = jax.random.fold_in(key, 2**32 - 1)  # the images have the keys that smaller numbers give
        directions = jax.random.normal(own, (features, min(DIMENSION, features)), jnp.float32)
        return {"basis": jnp.linalg.qr(directions)[0]}
    if images is None:
        return {}
    if images.shape[1] != features:
        raise ValueError(f"noise {name!r} was given images of {images.shape[1]} pixels and is asked for {features}")
    return {"moments": _moments(images)} if name == "spectrum" else {"images": images}


def _moments(images: Array) -> Moments:
    """The mean [features] and a root [features, features] of the covariance, which may be singular."""
    mean = images.mean(axis=0)
    centred = images - mean[None]
    covariance = jnp.dot(centred.T, centred, precision=Precision.HIGHEST) / len(images)
    eigenvalues, eigenvectors = jnp.linalg.eigh(covariance)
    return mean, eigenvectors * jnp.sqrt(jnp.maximum(eigenvalues, 0.0))[None]


def _side(name: str, features: int) -> int:
    side = math.isqrt(features)
    if side**2 != features:
        raise ValueError(f"noise {name!r} is for square images, and {features} pixels make no square")
    return side


def _blur(side: int) -> NDArray[np.float32]:
    """The kernel at every pixel of a line, rows [side, side + margins] of unit norm, cut at five widths."""
    width = BLUR * side
    margin = math.ceil(5 * width)
    distances = np.arange(side)[:, None] + margin - np.arange(side + 2 * margin)
    return _unit_rows(np.exp(-0.5 * (distances / width) ** 2))


def _octaves(side: int) -> NDArray[np.float32]:
    """Weights [side**2, nodes] of the nodes of every lattice at the centre of every pixel, rows of unit norm."""
    weights = []
    for octave in range(OCTAVES):
        cells = 2 ** (octave + 1)
        places = (np.arange(side) + 0.5) * cells / side
        line = np.maximum(0.0, 1 - np.abs(places[:, None] - np.arange(cells + 1)))
        weights.append(0.5**octave * np.kron(line, line))
    return _unit_rows(np.hstack(weights))


def _unit_rows(matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)
