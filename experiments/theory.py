"""What the experiments on Theorem 1 share: a network, labelled images and noise of every seed, in float64.

The teacher's loss is the mean cross-entropy of the class logits on labelled images; the student imitates on noise. The
initialisation and the noise differ from seed to seed, the labelled images do not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import sequential_vmap

from experiments.experiment import Nothing, Settings, require_counts
from sublim_theory import losses, networks, noise
from sublim_theory._types import Params, TeacherLoss
from sublim_theory.data import Dataset
from sublim_theory.ensemble import seed_key, stream
from sublim_theory.files import DataError
from sublim_theory.networks import Network
from sublim_theory.protocols import lookup

TOGETHER = 2**22
"""Pixels of images and noise that the seeds of one `vmap` may hold together."""


@dataclass(frozen=True)
class Theory:
    """The settings that every experiment on the theorem has; a protocol extends them."""

    network: str = "mlp"
    """Kind of network: mlp, or cnn, with two 3 x 3 convolutions of stride 2 below the hidden layers."""
    hidden: tuple[int, ...] = (64, 64)
    """Width of each hidden layer."""
    auxiliary: int = 3
    """Auxiliary logits, the paper's m."""
    init: str = "paper"
    """Initialisation: paper (N(0, 1/fan_in)), he or torch."""
    images: int = 512
    """Labelled images in the teacher's loss."""
    noise: str = "uniform"
    """Distribution of the student's inputs: uniform, gaussian, bernoulli, blurred, perlin or subspace."""
    noise_images: int = 512
    """Number of the student's inputs."""

    def check(self, rates: Nothing) -> None:  # noqa: ARG002
        """Check every setting, before any data is read or anything is compiled.

        Raises:
            ValueError: naming the setting, its value and what it may be.
        """
        require_counts(self, "auxiliary", "images", "noise_images")
        if not self.hidden:
            raise ValueError("hidden must have at least one layer; see theorem_orthogonal")
        self._network(networks.ANY_SHAPE, hidden=self.hidden, auxiliary=self.auxiliary)
        noise.sampler(self.noise)

    def require_names(self, activations: Sequence[str], imitation: Sequence[str]) -> None:
        """Check the names of activations and of losses on the auxiliary logits.

        Raises:
            ValueError: for an unknown name, or a softmax over a single logit, which has no gradient.
        """
        for name in activations:
            lookup("activation", name, networks.ACTIVATIONS)
        for name in imitation:
            losses.imitation(name)
            if self.auxiliary == 1 and name in ("kl", "cross_entropy"):
                raise ValueError(
                    f"auxiliary must be at least 2 for {name!r}; theorem_orthogonal shows what happens at 1"
                )

    def require_epsilon(self, epsilon: float) -> None:
        """Check the size of the teacher's step.

        Raises:
            ValueError: if it is not positive, or too large for a first-order statement.
        """
        if not 0 < epsilon <= 1:
            raise ValueError(f"epsilon must lie in (0, 1], got {epsilon}")

    def make_network(self, data: "Labelled", activation: str, *, kind: str | None = None, **settings: Any) -> Network:
        """The network of teacher and student, or one of another kind, in float64 unless `settings` say otherwise."""
        settings = {"hidden": self.hidden, "auxiliary": self.auxiliary, "dtype": "float64", **settings}
        image_shape = data.image_shape or (data.images.shape[1], 1)
        return self._network(image_shape, kind, classes=data.classes, activation=activation, **settings)

    def layers(self, part: str = "all") -> tuple[str, ...]:
        """Names of the layers of a part, as `Network.layers` has them. Raises `ValueError` if there are none."""
        return self._network(networks.ANY_SHAPE, hidden=self.hidden, auxiliary=self.auxiliary).layers(part)

    def _network(self, image_shape: tuple[int, int], kind: str | None = None, **settings: Any) -> Network:
        build = lookup("network", self.network if kind is None else kind, networks.NETWORKS)
        return build(image_shape, init=self.init, **settings)

    def select(self, dataset: Dataset) -> "Labelled":
        """The images of the teacher's loss. Raises `DataError` if the data set has fewer."""
        if self.images > (count := len(dataset.train_x)):
            raise DataError(f"images must be at most {count} for {dataset.name}, got {self.images}")
        chosen = slice(self.images)
        return Labelled(dataset.train_x[chosen], dataset.train_y[chosen], dataset.classes, dataset.image_shape)


@partial(jax.tree_util.register_dataclass, data_fields=["images", "labels"], meta_fields=["classes", "image_shape"])
@dataclass(frozen=True)
class Labelled:
    """What the teacher's loss is made of.

    Attributes:
        images: [images, features] float32.
        labels: [images], integer.
        classes: number of classes; static.
        image_shape: height and width of an image; static. One column of all pixels unless given.
    """

    images: Any
    labels: Any
    classes: int
    image_shape: tuple[int, int] | None = None


def on_digits(protocol: type[Any], **changes: Any) -> Settings[Any, Nothing]:
    """Settings of an experiment on the theorem, on the embedded digits unless told otherwise."""
    return Settings.of(protocol, Nothing, **{"dataset": "digits", **changes})


def together(protocol: Theory, data: Labelled) -> dict[str, Any]:
    """How many seeds run under one `vmap`: as many as memory takes."""
    count = max(1, TOGETHER // ((protocol.images + protocol.noise_images) * data.images.shape[1]))
    return {"vectorize": count > 1, "chunk_size": min(count, 64)}


def teacher_loss(net: Network, data: Labelled) -> TeacherLoss:
    """The mean cross-entropy of a network's class logits on labelled images, a function of its parameters."""
    x = jnp.asarray(data.images)  # the network brings them to its own precision

    def mean_cross_entropy(params: Params) -> jax.Array:
        return jnp.mean(losses.cross_entropy(net.class_logits(net.apply(params, x)), data.labels))

    return mean_cross_entropy


def initial(net: Network, seed: int | jax.Array) -> Params:
    """The initialisation of a seed; it does not depend on the activation."""
    return _drawn(lambda seed: net.init(stream(seed_key(seed), "init")), seed)


def noise_images(protocol: Theory, data: Labelled, seed: int | jax.Array) -> jax.Array:
    """The student's inputs of a seed, [noise_images, features] float64."""
    sample, shape = noise.sampler(protocol.noise), (protocol.noise_images, data.images.shape[1])
    return _drawn(lambda seed: sample(stream(seed_key(seed), "noise"), *shape), seed).astype(jnp.float64)


def _drawn(draw: Callable[[jax.Array], Any], seed: int | jax.Array) -> Any:
    """`draw(seed)`, one seed after another under `vmap`: a batched Threefry takes four times as long to compile."""
    one_by_one = sequential_vmap(draw)  # type: ignore[no-untyped-call]
    return jax.jit(one_by_one)(jnp.asarray(seed, jnp.int32))
