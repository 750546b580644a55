"""Figure 10, seconds a seed: the command of this library beside the published script's form in PyTorch.

Both run the same protocol and take turns with each other and with a large matrix product in JAX, each in a process of
its own. Loading the data is in neither time, compiling is apart from ours, and everything else is in both: drawing,
shuffling, training and testing.
"""

import importlib.util
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import ceil
from typing import Any

from benchmarks.commands import COMPILING, PEAK, PER_SEED, call, reproduce
from benchmarks.turns import Options, Part, run
from sublim_theory.console import console

WITHOUT_TORCH = "PyTorch is not installed, so ours runs alone; for both: pip install -e '.[benchmarks]'"
RATE = "GFLOP/s"
STUDENTS = 4
NETWORKS = 2 + STUDENTS  # reference, teacher and the students: each is tested once


@dataclass(frozen=True)
class Fig10(Options):
    """Time figure 10 in this library and in the form of the published script."""

    seeds: int = 4
    """Seeds of each in a turn; on the CPU ours run one after another, those of PyTorch at once."""


def parts(options: Fig10) -> dict[str, Part]:
    """The matrix product, ours, and on the CPU PyTorch, where it is installed."""
    from experiments.fig10 import PRESETS
    from sublim_theory import data

    settings = PRESETS[options.preset].flat()
    digits = data.load(settings["dataset"], options.data_dir)
    sizes = {"classes": digits.classes, "train_images": len(digits.train_x), "test_images": len(digits.test_x)}
    widths = (digits.features, *settings["hidden"], digits.classes + settings["auxiliary"])
    task = {**settings, **sizes, "widths": widths, "data_dir": options.data_dir and str(options.data_dir)}
    side = 512 if options.preset == "smoke" else 4096

    def figure(found: dict[str, Any], flop: int) -> dict[str, Any]:
        kept = {name: found[name] for name in (PER_SEED, COMPILING, PEAK, "provenance") if name in found}
        rates = {"GFLOP a seed": flop / 1e9, RATE: flop / found[PER_SEED] / 1e9}
        return kept | rates | {f"accuracy, {name}": value for name, value in found["accuracy"].items()}

    def ours(turn: int) -> dict[str, Any]:
        chosen = (f"preset={options.preset}", f"seeds={options.seeds}", f"first_seed={turn * options.seeds}")
        return figure(reproduce(options, *chosen), flop_of(task, published=False))

    def published(turn: int) -> dict[str, Any]:
        found = call("torch_fig10", "run", work=task, seeds=max(2, options.seeds), seed=turn)
        return figure(found, flop_of(task, published=True))

    chosen: dict[str, Part] = {
        "matrix product": lambda _: call("fig10", "product_rate", options.platform, side=side),
        "sublim_theory (JAX)": ours,
    }
    if importlib.util.find_spec("torch") is None:
        console().print(WITHOUT_TORCH)
    elif options.platform == "cpu":
        chosen["published form (PyTorch)"] = published
    return chosen


def flop_of(work: Mapping[str, Any], *, published: bool) -> int:
    """FLOP of one seed, in the library or in the published form, without biases, activations, losses, optimiser (1%).

    A forward pass is a multiplication and an addition for every weight; an update has the gradients of the weights and
    of the layers' inputs, but for the image, besides. In the library the last batch of an epoch is filled up to the
    size of the others with examples of weight zero, and the teacher is asked about the noise set once; in the published
    form each student's every step asks it anew.
    """

    def forward(widths: Sequence[int]) -> int:
        return sum(2 * fan_in * fan_out for fan_in, fan_out in pairwise(widths))

    def filled(images: int) -> int:
        batch = 1 if published else min(work["batch_size"], images)
        return ceil(images / batch) * batch

    students = STUDENTS * work["student_epochs"] * filled(work["noise_images"])
    updates = work["teacher_epochs"] * filled(work["train_images"]) + students
    asked = students if published else work["noise_images"]
    whole, above = forward(work["widths"]), forward(work["widths"][1:])
    return updates * (2 * whole + above) + (asked + NETWORKS * work["test_images"]) * whole


def product_rate(side: int) -> dict[str, float]:
    """The rate of the fastest of five float32 products of two square matrices in JAX, after one that warms up."""
    import jax

    product = jax.jit(lambda a, b: jax.numpy.matmul(a, b, precision="highest"))  # float32, on a GPU too
    a, b = jax.random.normal(jax.random.key(0), (2, side, side))
    times = []
    for _ in range(6):
        began = time.perf_counter()
        product(a, b).block_until_ready()
        times.append(time.perf_counter() - began)
    return {RATE: 2 * side**3 / min(times[1:]) / 1e9}


_FIG10 = {"default": Fig10(), "paper": Fig10("paper"), "smoke": Fig10("smoke", 1, seeds=2)}
FIG10 = partial(run, parts=parts, compared={PER_SEED: 1, RATE: 0}, presets=_FIG10)
