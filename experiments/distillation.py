"""What the experiments on distillation share: the settings of a protocol, and what a seed has before its students.

A *reference* network is drawn, and a *teacher* is a copy of it trained on labelled images through its class logits.
Students imitate the teacher on noise (arXiv 2507.14805, section 6.2).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import tyro
from numpy.typing import ArrayLike
from optax import GradientTransformation

from experiments.experiment import Variable, require_counts
from experiments.theory import Labelled, teacher_loss
from sublim_theory import losses, networks, noise, training
from sublim_theory._types import Params, PerExampleLoss, TeacherLoss
from sublim_theory.data import Dataset
from sublim_theory.ensemble import seed_key, stream
from sublim_theory.files import DataError
from sublim_theory.networks import Network
from sublim_theory.noise import Sampler
from sublim_theory.optimizers import optimizer
from sublim_theory.protocols import lookup

DIGITS: dict[str, Any] = {
    "dataset": "digits",
    "learning_rate": 1e-3,
    "batch_size": 128,
    "teacher_epochs": 20,
    "noise_images": 20_000,
    "student_epochs": 8,
}
"""Settings for the embedded digits: few images, so smaller batches and larger steps than on MNIST."""

NARROW = DIGITS | {"hidden": (64, 64)}
"""As much transfer on the digits with narrower layers, in a third of the time."""


@dataclass(frozen=True)
class Rates:
    """Settings that change no shape and no operation: a program takes them as arguments, and they may be traced."""

    init_scale: float = 1.0
    """Factor on every initial weight."""
    learning_rate: float = 3e-4
    """Step size of teacher and students."""
    weight_decay: float = 0.0
    """For adamw, decoupled, and for adam_l2, coupled."""
    noise_scale: float = 1.0
    """Factor on every pixel: half-width of uniform, standard deviation of gaussian pixels."""
    temperature: float | None = None
    """Softmax temperature of kl and cross_entropy; 1 unless given."""


jax.tree_util.register_dataclass(Rates, [field.name for field in fields(Rates)], [])


@dataclass(frozen=True)
class Distillation:
    """The protocol of teachers and students; the defaults are the published one on MNIST."""

    network: str = "mlp"
    """Kind of network: mlp, or cnn, with two 3 x 3 convolutions of stride 2 below the hidden layers."""
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
    classes: int | None = None
    """Only images of the first so many classes; all unless given."""
    training_images: int | None = None
    """Only the first so many training images; all unless given."""
    optimizer: str = "adam"
    """Of teacher and students: adam, adamw, adam_l2 (decay that Adam rescales, a trap) or sgd."""
    momentum: float = 0.0
    """For sgd."""
    batch_size: int = 1024
    """Examples an update, of teacher and students."""
    teacher_epochs: int = 5
    """Passes of the teacher over the training images."""
    student_epochs: int = 5
    """Passes of the students over the noise images."""
    noise: str = "uniform"
    """Distribution of the students' inputs: uniform, gaussian, bernoulli, blurred, perlin or subspace; or made from the
    training images: images, spectrum or mixture."""
    noise_images: int = 60_000
    """Size of each seed's fixed noise set."""
    loss: str = "kl"
    """What students minimise: kl, cross_entropy, squared_error or huber."""
    matmul_precision: Annotated[str, tyro.conf.arg(aliases=["--precision"])] = "highest"
    """Of every matrix product, for hardware that offers a choice: highest or default."""

    def check(self, rates: Rates) -> None:
        """Check every setting, before any data is read or anything is compiled.

        Raises:
            ValueError: naming the setting, its value and what it may be.
        """
        require_counts(self, "batch_size", "teacher_epochs", "student_epochs", "noise_images", "auxiliary")
        lookup("matmul precision", self.matmul_precision, dict.fromkeys(("highest", "default")))
        self._network(rates, networks.ANY_SHAPE, 10)
        self.make_optimizer(rates)
        self.imitation_loss(rates)
        noise.check(self.noise, rates.noise_scale)
        if self.classes is not None and self.classes < 2:
            raise ValueError(f"classes must be at least 2, got {self.classes}")
        if self.training_images is not None:
            require_counts(self, "training_images")

    def select(self, dataset: Dataset) -> "Split":
        """What a program sees of a data set. Raises `DataError` if it has fewer than `training_images`."""
        if (count := self.training_images) is not None and count > (there := len(dataset.train_x)):
            raise DataError(f"training_images must be at most {there} for {dataset.name}, got {count}")
        first = slice(count)
        x, y = dataset.train_x[first], dataset.train_y[first]
        return Split(x, y, dataset.test_x, dataset.test_y, dataset.classes, dataset.image_shape)

    def make_network(
        self, rates: Rates, data: "Split", *, kind: str | None = None, hidden: tuple[int, ...] | None = None
    ) -> Network:
        """The network of reference, teacher and students, or one of another kind or with other hidden layers."""
        return self._network(rates, data.image_shape or (data.train_x.shape[1], 1), data.classes, kind, hidden)

    def layers(self, part: str = "all") -> tuple[str, ...]:
        """Names of the layers of a part, as `Network.layers` has them. Raises `ValueError` if there are none."""
        return self._network(Rates(), networks.ANY_SHAPE, 10).layers(part)

    def _network(
        self,
        rates: Rates,
        image_shape: tuple[int, int],
        classes: int,
        kind: str | None = None,
        hidden: tuple[int, ...] | None = None,
    ) -> Network:
        build = lookup("network", self.network if kind is None else kind, networks.NETWORKS)
        same = {name: getattr(self, name) for name in ("auxiliary", "activation", "bias", "init")}
        widths = self.hidden if hidden is None else hidden
        return build(image_shape, hidden=widths, classes=classes, init_scale=rates.init_scale, **same)

    def make_optimizer(self, rates: Rates) -> GradientTransformation:
        """A fresh optimiser, the same for teacher and students."""
        return optimizer(self.optimizer, rates.learning_rate, momentum=self.momentum, weight_decay=rates.weight_decay)

    def imitation_loss(self, rates: Rates) -> PerExampleLoss:
        """The students' loss, before it is restricted to some logits."""
        return losses.imitation(self.loss, temperature=rates.temperature)

    def sampler(self, rates: Rates, images: ArrayLike | jax.Array | None = None) -> Sampler:
        """The distribution of the students' inputs, for some settings made from images [count, features].

        Raises:
            ValueError: if images are needed and not given.
        """
        return noise.sampler(self.noise, rates.noise_scale, images)


LOSSES = {
    "teacher_loss": Variable(inner=("teacher_step",), loss=True),
    "student_loss": Variable(("student",), ("step",), loss=True),
}
"""The variables of the training runs: mean loss of every update's batch."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["train_x", "train_y", "test_x", "test_y"],
    meta_fields=["classes", "image_shape"],
)
@dataclass(frozen=True)
class Split:
    """The arrays of a data set, as a program takes them.

    Attributes:
        train_x: [training images, features] float32.
        train_y: [training images], integer.
        test_x: [test images, features] float32.
        test_y: [test images], integer.
        classes: number of classes; static.
        image_shape: height and width of an image; static. One column of all pixels unless given.
    """

    train_x: Any
    train_y: Any
    test_x: Any
    test_y: Any
    classes: int
    image_shape: tuple[int, int] | None = None


class Start(NamedTuple):
    """What a seed has before its students.

    Attributes:
        key: of the seed; `ensemble.stream` derives from it by name.
        reference: the initialisation.
        other: that of the next seed, for cross-model students: a shift of the seeds has no fixed point, and unlike a
            permutation of those that were asked for it does not depend on how many there are.
        teacher: the trained copy of the reference.
        images: the students' inputs [noise_images, features].
        batches: the order in which they see them.
    """

    key: jax.Array
    reference: Params
    other: Params
    teacher: training.Fit
    images: jax.Array
    batches: training.Schedule


def begin(protocol: Distillation, rates: Rates, data: Split, seed: Any, *, net: Network | None = None) -> Start:
    """Draw a seed's reference and noise, and train its teacher; of another network than the protocol's if given."""
    net = net or protocol.make_network(rates, data)
    key = seed_key(seed)
    reference = net.init(stream(key, "init"))
    other = net.init(stream(seed_key(seed + 1), "init"))
    plan = partial(training.schedule, batch_size=protocol.batch_size)
    teacher_batches = plan(stream(key, "teacher/shuffle"), len(data.train_x), epochs=protocol.teacher_epochs)
    teacher = training.train_teacher(
        net, reference, data.train_x, data.train_y, protocol.make_optimizer(rates), teacher_batches
    )
    images = protocol.sampler(rates, data.train_x)(stream(key, "noise"), protocol.noise_images, net.features)
    batches = plan(stream(key, "student/shuffle"), protocol.noise_images, epochs=protocol.student_epochs)
    return Start(key, reference, other, teacher, images, batches)


def trait_loss(net: Network, data: Split, images: int) -> TeacherLoss:
    """The loss whose gradient is the trait's: mean cross-entropy of the class logits on the first so many images."""
    return teacher_loss(net, Labelled(data.train_x[:images], data.train_y[:images], data.classes))


def distil_and_test(
    protocol: Distillation,
    rates: Rates,
    data: Split,
    start: Start,
    students: Mapping[str, training.Student | tuple[Params, PerExampleLoss]],
    *,
    net: Network | None = None,
) -> dict[str, Any]:
    """Distil a seed's teacher into students; `accuracy` on the test images by network, and the `LOSSES`."""
    net = net or protocol.make_network(rates, data)
    optimizer = protocol.make_optimizer(rates)
    fit = training.distil(net, start.teacher.params, students, start.images, optimizer, start.batches)
    nets = {name: training.Student(*student).net or net for name, student in students.items()}
    trained = {"reference": start.reference, "teacher": start.teacher.params, **fit.params}
    accuracy = {
        name: training.accuracy(nets.get(name, net), params, data.test_x, data.test_y)
        for name, params in trained.items()
    }
    return {"accuracy": accuracy, "teacher_loss": start.teacher.losses, "student_loss": fit.losses}


def distil_by_epoch(
    protocol: Distillation,
    rates: Rates,
    data: Split,
    start: Start,
    students: Mapping[str, training.Student | tuple[Params, PerExampleLoss]],
) -> tuple[training.Fit, dict[str, jax.Array]]:
    """Distil a seed's teacher into students; the fit, and their test accuracies after every epoch, [epochs] by name."""
    net = protocol.make_network(rates, data)

    def test(params: Params, _: Any = None) -> dict[str, jax.Array]:
        return {name: training.accuracy(net, params[name], data.test_x, data.test_y) for name in students}

    every = training.steps_per_epoch(protocol.noise_images, protocol.batch_size)  # measured before an epoch
    task = students, start.images, protocol.make_optimizer(rates), start.batches
    fit = training.distil(net, start.teacher.params, *task, measure=test, every=every)
    ends = test(fit.params)
    return fit, {name: jnp.append(fit.measured[name][1:], ends[name]) for name in students}
