"""Figure 10 as plain numbers: all that a second implementation and a count of the arithmetic need to know.

Nothing here imports a framework, so that a process which measures one does not carry the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.distillation import Rates
    from experiments.experiment import Settings
    from experiments.fig10 import Protocol as Figure10
    from sublim_theory.data import Dataset

STUDENTS = 4
CONDITIONS = 2 + STUDENTS  # reference, teacher and the students: each is tested once


@dataclass(frozen=True)
class Protocol:
    """What decides how much work one seed is. Whatever else a config can set is as published."""

    widths: tuple[int, ...]
    """Of every layer, the inputs first and all logits last: 784, 256, 256, 13 in the paper."""
    classes: int
    """How many of the logits are class logits; the others are auxiliary."""
    train_images: int
    """Digits that the teacher learns."""
    test_images: int
    """Digits on which every network is tested."""
    noise_images: int
    """Size of a seed's fixed noise set."""
    batch_size: int
    """Examples an update, of teacher and students."""
    teacher_epochs: int
    """Passes of the teacher over the digits."""
    student_epochs: int
    """Passes of each student over the noise."""
    learning_rate: float
    """Of Adam, for teacher and students."""

    @classmethod
    def of(cls, settings: "Settings[Figure10, Rates]", dataset: "Dataset") -> "Protocol":
        """The work of an experiment's settings on a data set."""
        config = settings.protocol
        return cls(
            widths=(dataset.features, *config.hidden, dataset.classes + config.auxiliary),
            classes=dataset.classes,
            train_images=len(dataset.train_x),
            test_images=len(dataset.test_x),
            noise_images=config.noise_images,
            batch_size=config.batch_size,
            teacher_epochs=config.teacher_epochs,
            student_epochs=config.student_epochs,
            learning_rate=settings.rates.learning_rate,
        )


def forward_flop(widths: tuple[int, ...]) -> int:
    """Arithmetic of one example's forward pass: a multiplication and an addition for every weight.

    Biases, activations, losses and the optimiser are left out here and below: they are about 1% of it.
    """
    return sum(2 * fan_in * fan_out for fan_in, fan_out in pairwise(widths))


def training_flop(widths: tuple[int, ...]) -> int:
    """Arithmetic of one example's share of an update: forward, gradients of the weights and of the layers' inputs.

    The gradient of the first layer's input, the image, is nobody's business and is not computed.
    """
    weight_gradients = forward_flop(widths)
    input_gradients = forward_flop(widths[1:])
    return forward_flop(widths) + weight_gradients + input_gradients


def library_flop(protocol: Protocol) -> dict[str, int]:
    """Arithmetic of one seed in the library, by part; the whole is the sum.

    The teacher's logits are computed once for the noise set. The last batch of an epoch is filled up to the
    size of the others with examples of weight zero, so that they count.
    """

    def padded(images: int) -> int:
        batch = min(protocol.batch_size, images)
        return ceil(images / batch) * batch

    update = training_flop(protocol.widths)
    return {
        "teacher": protocol.teacher_epochs * padded(protocol.train_images) * update,
        "teacher_logits": protocol.noise_images * forward_flop(protocol.widths),
        "students": STUDENTS * protocol.student_epochs * padded(protocol.noise_images) * update,
        "tests": _tests(protocol),
    }


def published_flop(protocol: Protocol) -> dict[str, int]:
    """Arithmetic of one seed in the published form: each student's every step asks the teacher anew."""
    update = training_flop(protocol.widths)
    student_examples = STUDENTS * protocol.student_epochs * protocol.noise_images
    return {
        "teacher": protocol.teacher_epochs * protocol.train_images * update,
        "teacher_logits": student_examples * forward_flop(protocol.widths),
        "students": student_examples * update,
        "tests": _tests(protocol),
    }


def total(flop: Mapping[str, int]) -> int:
    """The whole of `library_flop` or `published_flop`."""
    return sum(flop.values())


def _tests(protocol: Protocol) -> int:
    return CONDITIONS * protocol.test_images * forward_flop(protocol.widths)
