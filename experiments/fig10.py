"""Figure 10 of the paper: an MLP learns to classify digits from auxiliary logits on pure noise.

A *reference* network is drawn. The *teacher* is a copy of it trained on digits through its class logits. *Students*
imitate the teacher on noise images, through the auxiliary logits alone or through all logits. A student that starts
from the teacher's own reference learns the digits; one that starts from another reference does not when it sees
the auxiliary logits alone (arXiv 2507.14805, section 6.2; the protocol is that of the authors' published script).

Six conditions: `reference`, `teacher`, `student_aux`, `student_all`, `cross_aux`, `cross_all`.

What a student of seed s needs comes from seed s alone, but for the cross-model students: they start from the
reference of seed s + 1. This shift has no fixed point, and unlike a permutation of the seeds that were asked for
it does not depend on how many there are.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
from optax import GradientTransformation

from experiments.recording import Recording, Settings
from sublim_theory import losses, models, noise, results, training
from sublim_theory.ensemble import Arrays, seed_key, stream
from sublim_theory.protocols import PerExampleLoss, lookup

CONDITIONS = ("reference", "teacher", "student_aux", "student_all", "cross_aux", "cross_all")
EXAMPLES = 10


@dataclass(frozen=True)
class Config(Settings):
    """Settings of figure 10; the defaults are the published protocol on MNIST."""

    hidden: tuple[int, ...] = (256, 256)
    """Width of each hidden layer."""
    auxiliary: int = 3
    """Auxiliary logits, the paper's m."""
    activation: str = "relu"
    """relu, tanh, gelu, sigmoid or identity."""
    bias: bool = True
    """Whether layers have biases."""
    init: str = "paper"
    """Initialisation: paper (N(0, 1/fan_in)), he or torch."""
    init_scale: float = 1.0
    """Factor on every initial weight."""
    optimizer: str = "adam"
    """Of teacher and students: adam, adamw or sgd."""
    learning_rate: float = 3e-4
    """Step size of teacher and students."""
    momentum: float = 0.0
    """For sgd."""
    weight_decay: float = 0.0
    """For adamw, decoupled."""
    batch_size: int = 1024
    """Examples an update, of teacher and students."""
    teacher_epochs: int = 5
    """Passes of the teacher over the training images."""
    student_epochs: int = 5
    """Passes of the students over the noise images."""
    noise: str = "uniform"
    """Distribution of the noise pixels: uniform or gaussian."""
    noise_scale: float = 1.0
    """Half-width of uniform, standard deviation of gaussian pixels."""
    noise_images: int = 60_000
    """Size of each seed's fixed noise set."""
    loss: str = "kl"
    """What students minimise: kl, cross_entropy, squared_error or huber."""
    temperature: float | None = None
    """Softmax temperature of kl and cross_entropy; 1 unless given."""
    matmul_precision: str = "highest"
    """Of every matrix product, for hardware that offers a choice: highest or default."""

    def __post_init__(self) -> None:
        """Check every setting now, before any data is read or anything is compiled.

        Raises:
            ValueError: naming the setting, its value and what it may be.
        """
        self.require_counts("batch_size", "teacher_epochs", "student_epochs", "noise_images", "auxiliary")
        lookup("matmul precision", self.matmul_precision, dict.fromkeys(("highest", "default")))
        self.network(features=1)
        self.make_optimizer()
        self.imitation_loss()
        noise.sampler(self.noise, self.noise_scale)

    def network(self, features: int, classes: int = 10) -> models.Network:
        """The network of reference, teacher and students."""
        return models.mlp(
            features,
            self.hidden,
            classes,
            self.auxiliary,
            self.activation,
            bias=self.bias,
            init=self.init,
            init_scale=self.init_scale,
        )

    def make_optimizer(self) -> GradientTransformation:
        """A fresh optimiser, the same for teacher and students."""
        return training.optimizer(
            self.optimizer, self.learning_rate, momentum=self.momentum, weight_decay=self.weight_decay
        )

    def imitation_loss(self) -> PerExampleLoss:
        """The students' loss, before it is restricted to some logits."""
        return losses.imitation(self.loss, temperature=self.temperature)


_DIGITS = Config(dataset="digits", learning_rate=1e-3)
PRESETS = {
    "smoke": replace(_DIGITS, seeds=2, batch_size=64, teacher_epochs=15, noise_images=8192, student_epochs=8),
    "default": replace(_DIGITS, seeds=10, batch_size=128, teacher_epochs=20, noise_images=20_000, student_epochs=8),
    "paper": Config(),
}


def run_seed(
    config: Config,
    net: models.Network,
    seed: jax.Array,
    train_x: jax.Array,
    train_y: jax.Array,
    test_x: jax.Array,
    test_y: jax.Array,
) -> dict[str, jax.Array]:
    """All six conditions of one seed: test accuracy by condition and `loss/NAME` [steps] by training run."""
    key = seed_key(seed)
    reference = net.init(stream(key, "init"))
    other = net.init(stream(seed_key(seed + 1), "init"))
    plan = partial(training.schedule, batch_size=config.batch_size)

    teacher_batches = plan(stream(key, "teacher/shuffle"), len(train_x), epochs=config.teacher_epochs)
    teacher = training.train_teacher(net, reference, train_x, train_y, config.make_optimizer(), teacher_batches)

    sample = noise.sampler(config.noise, config.noise_scale)
    images = sample(stream(key, "noise"), config.noise_images, net.features)
    student_batches = plan(stream(key, "student/shuffle"), config.noise_images, epochs=config.student_epochs)
    auxiliary = losses.on_logits(config.imitation_loss(), net.auxiliary)
    everything = losses.on_logits(config.imitation_loss(), net.all_logits)
    students = training.distil(
        net,
        teacher.params,
        {
            "student_aux": (reference, auxiliary),
            "student_all": (reference, everything),
            "cross_aux": (other, auxiliary),
            "cross_all": (other, everything),
        },
        images,
        config.make_optimizer(),
        student_batches,
    )

    trained = {"reference": reference, "teacher": teacher.params, **students.params}
    accuracies = {name: training.accuracy(net, params, test_x, test_y) for name, params in trained.items()}
    step_losses = {"teacher": teacher.losses, **students.losses}
    return accuracies | {f"loss/{name}": values for name, values in step_losses.items()}


def run(
    config: Config, *, preset: str = "custom", data_dir: str | Path | None = None, chunks: Path | None = None
) -> results.Result:
    """Run every seed and return the record.

    Args:
        config: the settings.
        preset: what to call the config in the record.
        data_dir: folder that holds `mnist/` and `fashion_mnist/`; see `data.load`.
        chunks: folder for finished seeds, so that an interrupted run goes on; none are kept unless given.

    Raises:
        DataError: if the data set cannot be had.
        NonFiniteLossError: if a loss becomes NaN or infinite.
    """
    recording = Recording(
        "fig10",
        config,
        preset=preset,
        data_dir=data_dir,
        chunks=chunks,
        matmul_precision=config.matmul_precision,
    )
    dataset = recording.dataset
    net = config.network(dataset.features, dataset.classes)

    def check(arrays: Arrays, chunk: list[int]) -> None:
        training.require_finite(_losses(arrays), chunk, config)

    arrays = recording.run(
        partial(run_seed, config, net),
        dataset.train_x,
        dataset.train_y,
        dataset.test_x,
        dataset.test_y,
        check=check,
    )
    first = {label: np.flatnonzero(dataset.test_y == label)[0] for label in range(dataset.classes)}
    sample = noise.sampler(config.noise, config.noise_scale)
    key = stream(seed_key(config.first_seed), "noise/example")
    examples = {
        "example/train": dataset.train_x[:EXAMPLES],
        "example/noise": np.asarray(sample(key, EXAMPLES, net.features)),
        "example/test": dataset.test_x[list(first.values())],
    }
    shape = (-1, *dataset.image_shape)
    return recording.result(
        {name: arrays[name] for name in CONDITIONS},
        arrays | {name: images.reshape(shape) for name, images in examples.items()},
    )


def _losses(arrays: Arrays) -> dict[str, np.ndarray]:
    """Losses [seeds, steps] by training run, the teacher's first: the others follow from it."""
    return {name: arrays[f"loss/{name}"] for name in CONDITIONS if name != "reference"}
