"""What networks compute inside, compared: similarity of layers, linear probes, displacements, exchanged heads."""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Float32, Integer

from sublim_theory import geometry
from sublim_theory._types import AnyArray, Array, Params, Scalar, Whole
from sublim_theory.losses import require_labels
from sublim_theory.protocols import positive_unless_traced, require_count


def linear_cka(a: Float[AnyArray, "..."], b: Float[AnyArray, "..."]) -> Float[Array, ""]:
    """Linear centred kernel alignment of two representations of the same inputs, a scalar in [0, 1].

    `|B^T A|_F^2 / (|A^T A|_F |B^T B|_F)` with centred columns (Kornblith et al., arXiv 1905.00414, eq. for linear
    kernels). Rotations, reflections and a common scale of either representation leave it as it is; 0 where one of them
    is the same for every input.

    Raises:
        ValueError: if the activations are not matrices [examples, units] with the same number of rows.
    """
    if a.ndim != 2 or b.ndim != 2 or len(a) != len(b):
        raise ValueError(f"activations must be [examples, units] of the same examples, got {a.shape} and {b.shape}")

    def unit(activations: AnyArray) -> Array:
        x = jnp.asarray(activations)
        centred = x - jnp.mean(x, axis=0, keepdims=True)
        size = jnp.max(jnp.abs(centred))  # the fourth power of small activations would underflow
        return centred / jnp.where(size > 0, size, 1)

    def gram(x: Array, y: Array) -> Array:
        return jnp.linalg.norm(jnp.matmul(x.T, y, precision=jax.lax.Precision.HIGHEST))

    x, y = unit(a), unit(b)
    scale = gram(x, x) * gram(y, y)
    return geometry.quotient(jnp.square(gram(x, y)), scale)


def probe_accuracy(
    train: Float[AnyArray, "examples units"],
    train_labels: Integer[AnyArray, "examples"],
    test: Float[AnyArray, "tests units"],
    test_labels: Integer[AnyArray, "tests"],
    classes: Whole,
    ridge: Scalar = 1e-3,
) -> Float32[Array, ""]:
    """Test accuracy of a linear classifier on activations: what can be read out of them, whatever the network's head.

    The classifier is ridge regression on one-hot labels, in closed form, so it can be part of a compiled program;
    the activations are centred and the intercept is free.

    Args:
        train: activations to fit.
        train_labels: their classes.
        test: activations to classify.
        test_labels: their classes.
        classes: number of classes.
        ridge: strength, positive, as a share of the mean variance of a unit.

    Returns:
        The share of test examples whose largest output is the label's, a scalar in [0, 1].

    Raises:
        ValueError: if `classes` is no positive whole number, or, unless traced, `ridge` is not positive and finite or a
            label is not among the classes.
    """
    classes = require_count("classes", classes)
    ridge = positive_unless_traced("ridge", ridge)
    require_labels("train_labels", train_labels, classes)
    require_labels("test_labels", test_labels, classes)
    centre = jnp.mean(train, axis=0, keepdims=True)
    x = train - centre
    targets = jax.nn.one_hot(train_labels, classes, dtype=x.dtype)
    intercept = jnp.mean(targets, axis=0, keepdims=True)
    highest = jax.lax.Precision.HIGHEST
    covariance = jnp.matmul(x.T, x, precision=highest) / len(x)
    variance = jnp.trace(covariance) / len(covariance)
    # Where every unit is constant there is nothing to read: any positive strength gives the most frequent class.
    penalty = jnp.where(variance > 0, ridge * variance, 1) * jnp.eye(len(covariance), dtype=x.dtype)
    moments = jnp.matmul(x.T, targets, precision=highest) / len(x)
    weights = jax.scipy.linalg.solve(covariance + penalty, moments, assume_a="pos")
    outputs = jnp.matmul(test - centre, weights, precision=highest) + intercept
    return jnp.mean(jnp.argmax(outputs, axis=-1) == test_labels, dtype=jnp.float32)


class Displacement(NamedTuple):
    """How far, and along another displacement, a layer moved: scalars.

    Attributes:
        cosine: of the angle between the two; 0 where either is exactly zero.
        size: norm of the first over that of the second; 0 where the second is exactly zero.
    """

    cosine: Float[Array, ""]
    size: Float[Array, ""]


def displacements(moved: Params, reference: Params) -> dict[str, Displacement]:
    """Compare two displacements `end - start` layer by layer, the first level of the pytrees, by layer name.

    `cosine * size` is the projection of the first on the second, in units of the second.

    Args:
        moved: of the network in question, such as a student.
        reference: of the network that it is held against, such as its teacher; of the same structure.
    """

    def compare(a: Params, b: Params) -> Displacement:
        return Displacement(geometry.cosine(a, b), geometry.quotient(geometry.norm(a), geometry.norm(b)))

    return {name: compare(moved[name], reference[name]) for name in reference}


def with_layers(params: Params, other: Params, layers: Iterable[str]) -> Params:
    """The parameters `params` with these layers of `other` in place of their own, such as `net.layers("hidden")`."""
    return {**params, **{layer: other[layer] for layer in layers}}


def with_head(body: Params, head: Params, name: str = "class_head") -> Params:
    """The parameters `body` with the layer `name` of `head` in place of its own, such as `net.class_head`."""
    return with_layers(body, head, (name,))
