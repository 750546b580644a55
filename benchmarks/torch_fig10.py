"""Figure 10 in the form of the authors' published script, in our own words: batched einsum in plain PyTorch.

Seeds lie on the leading axis of every parameter and batch, and one loop trains them all. The four students are
four runs that share nothing but the noise set: each has its own shuffle, and each step asks the teacher again.
Importing this module imports PyTorch, which comes with the extra `benchmarks`; the library never does.
"""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.protocol import Protocol
from sublim_theory.data import Dataset

Layers = list[tuple[Tensor, Tensor]]
"""Weight [seeds, in, out] and bias [seeds, 1, out] of every layer."""

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`loss(logits [seeds, batch, logits], inputs [seeds, batch, features], rows [seeds, batch])`, a scalar."""


def run(protocol: Protocol, dataset: Dataset, seeds: int, seed: int) -> dict[str, list[float]]:
    """All six conditions of `seeds` seeds at once.

    Args:
        protocol: sizes and learning rate.
        dataset: the digits; its arrays are used in place.
        seeds: how many, at least 2 for the cross-model students to start from another seed's reference.
        seed: of PyTorch's generator, for all of them.

    Returns:
        Test accuracies [seeds] by condition, in the order of `experiments.fig10.NETWORKS`.
    """
    torch.manual_seed(seed)
    train_x, test_x = torch.from_numpy(dataset.train_x), torch.from_numpy(dataset.test_x)
    train_y, test_y = torch.from_numpy(dataset.train_y).long(), torch.from_numpy(dataset.test_y)
    test = partial(accuracy, x=test_x, y=test_y, classes=protocol.classes, batch_size=protocol.batch_size)

    reference = initialise(protocol.widths, seeds)
    other = [(weight.roll(-1, 0), bias.roll(-1, 0)) for weight, bias in reference]
    learn = partial(trait_loss, labels=train_y, classes=protocol.classes)
    teacher = fit(reference, train_x.expand(seeds, -1, -1), learn, protocol.teacher_epochs, protocol)

    noise = torch.empty(seeds, protocol.noise_images, protocol.widths[0]).uniform_(-1, 1)
    auxiliary, everything = slice(protocol.classes, None), slice(None)
    students = {
        "student_aux": (reference, auxiliary),
        "student_all": (reference, everything),
        "cross_aux": (other, auxiliary),
        "cross_all": (other, everything),
    }
    accuracies = {"reference": test(reference), "teacher": test(teacher)}
    for name, (start, part) in students.items():
        imitate = partial(imitation_loss, teacher=teacher, part=part)
        accuracies[name] = test(fit(start, noise, imitate, protocol.student_epochs, protocol))
    return accuracies


def initialise(widths: tuple[int, ...], seeds: int) -> Layers:
    """Weights from N(0, 1/fan_in) and biases of zero."""
    return [
        (torch.randn(seeds, fan_in, fan_out).div_(math.sqrt(fan_in)), torch.zeros(seeds, 1, fan_out))
        for fan_in, fan_out in pairwise(widths)
    ]


def forward(layers: Layers, x: Tensor) -> Tensor:
    """Logits [seeds, batch, logits] of inputs [seeds, batch, features]; ReLU between the layers."""
    for depth, (weight, bias) in enumerate(layers):
        if depth:
            x = torch.relu(x)
        x = torch.einsum("sbi,sio->sbo", x, weight).add_(bias)
    return x


def fit(start: Layers, images: Tensor, loss: Loss, epochs: int, protocol: Protocol) -> Layers:
    """Train a copy of `start` with a fresh Adam on images [seeds, examples, features], reshuffled every epoch."""
    layers = [(weight.clone().requires_grad_(), bias.clone().requires_grad_()) for weight, bias in start]
    adam = torch.optim.Adam([tensor for layer in layers for tensor in layer], lr=protocol.learning_rate)
    seeds, examples, _ = images.shape
    for _ in range(epochs):
        order = torch.stack([torch.randperm(examples) for _ in range(seeds)])
        for rows in torch.split(order, protocol.batch_size, dim=1):
            x = gather(images, rows)
            adam.zero_grad(set_to_none=True)
            torch.autograd.backward(loss(forward(layers, x), x, rows))
            adam.step()
    return [(weight.detach(), bias.detach()) for weight, bias in layers]


def gather(images: Tensor, rows: Tensor) -> Tensor:
    """Each seed's rows [seeds, batch] of its images [seeds, examples, features], copied once."""
    batch = torch.empty(*rows.shape, images.shape[-1])
    for seed, chosen in enumerate(rows):
        torch.index_select(images[seed], 0, chosen, out=batch[seed])
    return batch


def trait_loss(logits: Tensor, _: Tensor, rows: Tensor, *, labels: Tensor, classes: int) -> Tensor:
    """Cross-entropy on the class logits: the mean over each seed's batch, added over the seeds."""
    flat = logits[..., :classes].flatten(0, 1)
    return functional.cross_entropy(flat, labels[rows].flatten(), reduction="sum") / rows.shape[1]


def imitation_loss(logits: Tensor, x: Tensor, rows: Tensor, *, teacher: Layers, part: slice) -> Tensor:
    """KL(teacher || student) over some of the logits: the mean over each seed's batch, added over the seeds."""
    with torch.no_grad():
        target = functional.log_softmax(forward(teacher, x)[..., part], dim=-1)
    prediction = functional.log_softmax(logits[..., part], dim=-1)
    return functional.kl_div(prediction, target, reduction="sum", log_target=True) / rows.shape[1]


def accuracy(layers: Layers, x: Tensor, y: Tensor, classes: int, batch_size: int) -> list[float]:
    """Share of images whose largest class logit is the label's, for each seed."""
    seeds = len(layers[0][0])
    hits = torch.zeros(seeds)
    with torch.no_grad():
        for images, labels in zip(torch.split(x, batch_size), torch.split(y, batch_size), strict=True):
            logits = forward(layers, images.expand(seeds, -1, -1))
            hits += (logits[..., :classes].argmax(-1) == labels).sum(-1)
    return [float(share) for share in hits / len(x)]
