"""What the experiments on distillation share: the settings of a protocol, and what a seed has before its students.

A *reference* network is drawn, and a *teacher* is a copy of it trained on labelled images through its class logits.
Students imitate the teacher on noise (arXiv 2507.14805, section 6.2).

Settings that change no shape and no operation are `NUMBERS`: a program takes them as arguments, so that a sweep over
one of them compiles once.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self, TypeVar

import jax
import tyro
from numpy.typing import ArrayLike
from optax import GradientTransformation

from experiments.recording import Recording, Settings
from sublim_theory import losses, models, noise, training
from sublim_theory._types import Params, PerExampleLoss
from sublim_theory.data import Dataset
from sublim_theory.ensemble import Arrays, seed_key, stream
from sublim_theory.noise import Sampler
from sublim_theory.optimizers import optimizer
from sublim_theory.protocols import lookup

NUMBERS = ("init_scale", "learning_rate", "weight_decay", "noise_scale", "temperature")
"""Settings that a compiled program takes as arguments."""

Config = TypeVar("Config", bound="Distillation")

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
class Distillation(Settings):
    """Settings of teachers and students; the defaults are the published protocol on MNIST."""

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
    classes: int | None = None
    """Only images of the first so many classes; all unless given."""
    optimizer: str = "adam"
    """Of teacher and students: adam, adamw, adam_l2 (decay that Adam rescales, a trap) or sgd."""
    learning_rate: float = 3e-4
    """Step size of teacher and students."""
    momentum: float = 0.0
    """For sgd."""
    weight_decay: float = 0.0
    """For adamw, decoupled, and for adam_l2, coupled."""
    batch_size: int = 1024
    """Examples an update, of teacher and students."""
    teacher_epochs: int = 5
    """Passes of the teacher over the training images."""
    student_epochs: int = 5
    """Passes of the students over the noise images."""
    noise: str = "uniform"
    """Distribution of the students' inputs: uniform, gaussian, bernoulli, blurred, perlin or subspace; or made from the
    training images: images, spectrum or mixture."""
    noise_scale: float = 1.0
    """Factor on every pixel: half-width of uniform, standard deviation of gaussian pixels."""
    noise_images: int = 60_000
    """Size of each seed's fixed noise set."""
    loss: str = "kl"
    """What students minimise: kl, cross_entropy, squared_error or huber."""
    temperature: float | None = None
    """Softmax temperature of kl and cross_entropy; 1 unless given."""
    matmul_precision: Annotated[str, tyro.conf.arg(aliases=["--precision"])] = "highest"
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
        noise.check(self.noise, self.noise_scale)
        if self.classes is not None and self.classes < 2:
            raise ValueError(f"classes must be at least 2, got {self.classes}")

    def network(self, features: int, classes: int = 10, *, hidden: tuple[int, ...] | None = None) -> models.Network:
        """The network of reference, teacher and students, or the same with other hidden layers."""
        return models.mlp(
            features,
            self.hidden if hidden is None else hidden,
            classes,
            self.auxiliary,
            self.activation,
            bias=self.bias,
            init=self.init,
            init_scale=self.init_scale,
        )

    def make_optimizer(self) -> GradientTransformation:
        """A fresh optimiser, the same for teacher and students."""
        return optimizer(self.optimizer, self.learning_rate, momentum=self.momentum, weight_decay=self.weight_decay)

    def imitation_loss(self) -> PerExampleLoss:
        """The students' loss, before it is restricted to some logits."""
        return losses.imitation(self.loss, temperature=self.temperature)

    def sampler(self, images: ArrayLike | jax.Array | None = None) -> Sampler:
        """The distribution of the students' inputs, for some settings made from images [count, features].

        Raises:
            ValueError: if images are needed and not given.
        """
        return noise.sampler(self.noise, self.noise_scale, images)

    def numbers(self) -> dict[str, float]:
        """The `NUMBERS` of this config, but for those that it leaves out."""
        return {name: float(getattr(self, name)) for name in NUMBERS if getattr(self, name) is not None}

    def with_numbers(self: Config, numbers: Mapping[str, Any]) -> Config:
        """The same settings with other `NUMBERS`, which may be traced and are not checked."""
        changed = copy.copy(self)
        for name, value in numbers.items():
            object.__setattr__(changed, name, value)
        return changed


class Split(NamedTuple):
    """The arrays of a data set, as a program takes them.

    Attributes:
        train_x: [training images, features] float32.
        train_y: [training images], integer.
        test_x: [test images, features] float32.
        test_y: [test images], integer.
    """

    train_x: jax.Array
    train_y: jax.Array
    test_x: jax.Array
    test_y: jax.Array

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """Those of a data set."""
        return cls(*(getattr(dataset, name) for name in cls._fields))


@dataclass(frozen=True)
class SeedProgram:
    """`run_seed(config, net, seed, data)` with `NUMBERS` as an argument: `program(seed, numbers, data)`.

    Make it with `of`. Two of them are equal, and compiled once, if their configs differ in `NUMBERS` and seeds alone.
    """

    run_seed: Callable[..., Mapping[str, jax.Array]]
    config: "Distillation"
    features: int
    classes: int

    @classmethod
    def of(cls, run_seed: Callable[..., Mapping[str, jax.Array]], config: "Distillation", dataset: Dataset) -> Self:
        """The program of a config on a data set."""
        static = replace(config, seeds=1, first_seed=0, dataset="digits")
        static = static.with_numbers(dict.fromkeys(config.numbers(), 0.0))
        return cls(run_seed, static, dataset.features, dataset.classes)

    def __call__(self, seed: jax.Array, numbers: Mapping[str, jax.Array], data: Split) -> Mapping[str, jax.Array]:
        """What `run_seed` returns."""
        config = self.config.with_numbers(numbers)
        return self.run_seed(config, config.network(self.features, self.classes), seed, data)


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


def layers_of(params: Params, part: str) -> list[str]:
    """Names of the layers of a part: `all`, `hidden` (every hidden layer), or one layer by its own name.

    Raises:
        ValueError: if there is no such layer.
    """
    names = [layer for layer in params if part in ("all", layer) or layer.startswith(f"{part}_")]
    if not names:
        raise ValueError(f"there is no part {part!r} of a network with the layers {', '.join(params)}")
    return names


def begin(config: Distillation, net: models.Network, seed: jax.Array, data: Split) -> Start:
    """Draw a seed's reference and noise, and train its teacher."""
    key = seed_key(seed)
    reference = net.init(stream(key, "init"))
    other = net.init(stream(seed_key(seed + 1), "init"))
    plan = partial(training.schedule, batch_size=config.batch_size)
    teacher_batches = plan(stream(key, "teacher/shuffle"), len(data.train_x), epochs=config.teacher_epochs)
    teacher = training.train_teacher(
        net, reference, data.train_x, data.train_y, config.make_optimizer(), teacher_batches
    )
    images = config.sampler(data.train_x)(stream(key, "noise"), config.noise_images, net.features)
    batches = plan(stream(key, "student/shuffle"), config.noise_images, epochs=config.student_epochs)
    return Start(key, reference, other, teacher, images, batches)


def distil_and_test(
    config: Distillation,
    net: models.Network,
    start: Start,
    students: Mapping[str, training.Student | tuple[Params, PerExampleLoss]],
    data: Split,
) -> dict[str, jax.Array]:
    """Distil a seed's teacher into students; test accuracy by network, `loss/NAME` [steps] by training run."""
    fit = training.distil(net, start.teacher.params, students, start.images, config.make_optimizer(), start.batches)
    nets = {name: training.Student(*student).net or net for name, student in students.items()}
    trained = {"reference": start.reference, "teacher": start.teacher.params, **fit.params}
    found = {name: training.accuracy(nets.get(name, net), p, data.test_x, data.test_y) for name, p in trained.items()}
    return found | {f"loss/{name}": each for name, each in {"teacher": start.teacher.losses, **fit.losses}.items()}


def run_config(
    experiment: str,
    run_seed: Callable[..., Mapping[str, jax.Array]],
    config: Distillation,
    *,
    preset: str,
    data_dir: str | Path | None,
    chunks: Path | None,
) -> tuple[Recording, Dataset, Arrays]:
    """Run every seed of a config: the recording, the data, and what `run_seed` returns, [seeds, ...] by name.

    Arrays whose names begin with `loss/` must be finite.

    Args:
        experiment: its name.
        run_seed: `run_seed(config, net, seed, data)`, arrays by name.
        config: the settings.
        preset: what to call the config in the record.
        data_dir: folder that holds `mnist/` and `fashion_mnist/`; see `data.load`.
        chunks: folder for finished seeds, so that an interrupted run goes on; none are kept unless given.

    Raises:
        DataError: if the data set cannot be had.
        NonFiniteLossError: if a loss becomes NaN or infinite.
    """
    recording = Recording(
        experiment,
        config,
        preset=preset,
        data_dir=data_dir,
        chunks=chunks,
        matmul_precision=config.matmul_precision,
    )
    dataset = recording.dataset if config.classes is None else recording.dataset.of_classes(config.classes)

    def check(arrays: Arrays, chunk: list[int]) -> None:
        runs = {name.removeprefix("loss/"): arrays[name] for name in arrays if name.startswith("loss/")}
        first = ["teacher"] if "teacher" in runs else []  # the others follow from it
        training.require_finite({name: runs[name] for name in dict.fromkeys([*first, *runs])}, chunk, config)

    program = SeedProgram.of(run_seed, config, dataset)
    return recording, dataset, recording.run(program, config.numbers(), Split.of(dataset), check=check)
