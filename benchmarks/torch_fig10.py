"""Figure 10 in the form of the authors' published script, in our own words: batched einsum in plain PyTorch.

Seeds lie on the leading axis of every parameter and batch, and one loop trains them all. The four students are
four runs that share nothing but the noise set: each has its own shuffle, and each step asks the teacher again.
Importing this module imports PyTorch, which comes with the extra `benchmarks`; the library never does.
"""

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.commands import PER_SEED
from sublim_theory import data

Layers = list[tuple[Tensor, Tensor]]
"""Weight [seeds, in, out] and bias [seeds, 1, out] of every layer."""


def run(work: Mapping[str, Any], seeds: int, seed: int) -> dict[str, Any]:
    """All six networks of `seeds` seeds at once, at least 2: cross-model students start from another's reference.

    `work` has the settings of the experiment, `widths` of all layers, `classes` and `data_dir`; `seed` is that of
    PyTorch's generator. Returned are the seconds a seed, without loading, and the mean test `accuracy` by network.
    """
    digits, classes = data.load(work["dataset"], work["data_dir"]), work["classes"]
    began = time.perf_counter()
    torch.manual_seed(seed)
    train_x, test_x = torch.from_numpy(digits.train_x), torch.from_numpy(digits.test_x)
    train_y, test_y = torch.from_numpy(digits.train_y).long(), torch.from_numpy(digits.test_y)
    test = partial(accuracy, x=test_x, y=test_y, classes=classes)

    reference = initialise(work["widths"], seeds)
    other = [(weight.roll(-1, 0), bias.roll(-1, 0)) for weight, bias in reference]
    learn = partial(trait_loss, labels=train_y, classes=classes)
    teacher = fit(reference, train_x.expand(seeds, -1, -1), learn, work["teacher_epochs"], work)

    noise = torch.empty(seeds, work["noise_images"], digits.features).uniform_(-1, 1)
    accuracies = {"reference": test(reference), "teacher": test(teacher)}
    for name, start in (("student", reference), ("cross", other)):
        for some, part in (("aux", slice(classes, None)), ("all", slice(None))):
            imitate = partial(imitation_loss, teacher=teacher, part=part)
            accuracies[f"{name}_{some}"] = test(fit(start, noise, imitate, work["student_epochs"], work))
    means = {name: float(each.mean()) for name, each in accuracies.items()}
    return {PER_SEED: (time.perf_counter() - began) / seeds, "accuracy": means}


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


def fit(start: Layers, images: Tensor, loss: Callable[..., Tensor], epochs: int, work: Mapping[str, Any]) -> Layers:
    """Train a copy of `start` with a fresh Adam on images [seeds, examples, features], reshuffled every epoch.

    Of every batch, `loss(logits [seeds, batch, logits], inputs [seeds, batch, features], rows [seeds, batch])`.
    """
    layers = [(weight.clone().requires_grad_(), bias.clone().requires_grad_()) for weight, bias in start]
    adam = torch.optim.Adam([tensor for layer in layers for tensor in layer], lr=work["learning_rate"])
    seeds, examples, _ = images.shape
    for _ in range(epochs):
        order = torch.stack([torch.randperm(examples) for _ in range(seeds)])
        for rows in torch.split(order, work["batch_size"], dim=1):
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


def accuracy(layers: Layers, x: Tensor, y: Tensor, classes: int) -> Tensor:
    """Share of images whose largest class logit is the label's, [seeds]."""
    with torch.no_grad():
        logits = forward(layers, x.expand(len(layers[0][0]), -1, -1))
    return (logits[..., :classes].argmax(-1) == y).float().mean(-1)
