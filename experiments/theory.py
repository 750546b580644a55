"""What the experiments on Theorem 1 share: a network, labelled images and noise of every seed, in float64.

The teacher's loss is the mean cross-entropy of the class logits on labelled images; the student imitates on noise. The
initialisation and the noise differ from seed to seed, the labelled images do not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import sequential_vmap

from experiments.recording import Recording, Settings
from sublim_theory import losses, models, noise
from sublim_theory._types import Params, TeacherLoss
from sublim_theory.ensemble import seed_key, stream
from sublim_theory.files import DataError
from sublim_theory.protocols import lookup

TOGETHER = 2**22
"""Pixels of images and noise that the seeds of one `vmap` may hold together."""


@dataclass(frozen=True)
class TheoryConfig(Settings):
    """The settings that every experiment on the theorem has; a config extends them."""

    seeds: int = 100
    """Independent repetitions: initialisations, each with its noise."""
    dataset: str = "digits"
    """What the teacher learns: digits (embedded, no download), mnist or fashion_mnist."""
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

    def __post_init__(self) -> None:
        """Check every setting now, before any data is read or anything is compiled.

        Raises:
            ValueError: naming the setting, its value and what it may be.
        """
        self.require_counts("auxiliary", "images", "noise_images")
        if not self.hidden:
            raise ValueError("hidden must have at least one layer; see theorem_orthogonal")
        self.network(1, 10, "relu")
        noise.sampler(self.noise)

    def require_names(self, activations: Sequence[str], imitation: Sequence[str]) -> None:
        """Check the names of activations and of losses on the auxiliary logits.

        Raises:
            ValueError: for an unknown name, or a softmax over a single logit, which has no gradient.
        """
        for name in activations:
            lookup("activation", name, models.ACTIVATIONS)
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

    def network(self, features: int, classes: int, activation: str, **settings: Any) -> models.Network:
        """The network of teacher and student, in float64 unless `settings` say otherwise."""
        settings = {"hidden": self.hidden, "auxiliary": self.auxiliary, "dtype": "float64", **settings}
        return models.mlp(features, classes=classes, activation=activation, init=self.init, **settings)

    def labelled(self, recording: Recording) -> tuple[Any, Any]:
        """Images and labels of the teacher's loss. Raises `DataError` if the data set has fewer."""
        count = len(recording.dataset.train_x)
        if self.images > count:
            raise DataError(f"images must be at most {count} for {self.dataset}, got {self.images}")
        return recording.dataset.train_x[: self.images], recording.dataset.train_y[: self.images]

    def chunking(self, features: int) -> dict[str, Any]:
        """Options of `Recording.run`: as many seeds under one `vmap` as memory takes."""
        together = max(1, TOGETHER // ((self.images + self.noise_images) * features))
        return {"vectorize": together > 1, "chunk_size": min(together, 64)}


def teacher_loss(net: models.Network, images: Any, labels: Any) -> TeacherLoss:
    """The mean cross-entropy of a network's class logits on labelled images, a function of its parameters.

    Args:
        net: the network.
        images: [images, features]; the network brings them to its own precision.
        labels: their classes [images].
    """
    x = jnp.asarray(images)

    def mean_cross_entropy(params: Params) -> jax.Array:
        return jnp.mean(losses.cross_entropy(net.class_logits(net.apply(params, x)), labels))

    return mean_cross_entropy


def initial(net: models.Network, seed: int | jax.Array) -> Params:
    """The initialisation of a seed; it does not depend on the activation."""
    return _drawn(lambda seed: net.init(stream(seed_key(seed), "init")), seed)


def noise_images(config: TheoryConfig, features: int, seed: int | jax.Array) -> jax.Array:
    """The student's inputs of a seed, [noise_images, features] float64."""
    sample = noise.sampler(config.noise)
    images = _drawn(lambda seed: sample(stream(seed_key(seed), "noise"), config.noise_images, features), seed)
    return images.astype(jnp.float64)


def _drawn(draw: Callable[[jax.Array], Any], seed: int | jax.Array) -> Any:
    """`draw(seed)`, one seed after another under `vmap`: a batched Threefry takes four times as long to compile."""
    one_by_one = sequential_vmap(draw)  # type: ignore[no-untyped-call]
    return jax.jit(one_by_one)(jnp.asarray(seed, jnp.int32))
