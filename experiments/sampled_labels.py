"""From logits to data: the student sees only samples from the teacher's auxiliary softmax, then only filtered ones.

Claim (arXiv 2507.14805: remark (d) of section 6.1, and the filtered number sequences of its language models): sampled
outputs do in place of soft ones, as labels drawn from softmax(teacher) give the soft gradient *in expectation*; and a
filter that removes whatever betrays the trait does not stop transfer, because the trait is not what is transmitted.

Labels are the shares of auxiliary logits in N (`count`) samples an image from the teacher's softmax, or it (`soft`).
Students differ by `group`: `filtered` ones never see the images on which the teacher is most sure of a class, `thinned`
ones not as many at random, and `cross` ones start from the next seed's reference instead of the teacher's.

Found (default, 10 seeds): both hold. Test accuracies are .37, .63 and .78 at N = 1, 10 and 100, .81 with soft labels,
.09 to .10 from another start, .10 untrained. Filtered (at most .33 sure) .26, .41 and .64, thinned .28, .44 and .67:
the filter costs what fewer images cost, and .03 beyond that, at the edge of the noise (paired 95% intervals of .03 to
.04). At N = 1 the images count: 20,000, seen four times as often, gave .25 (3 seeds); with m = 3, widths 256 .14.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from experiments.distillation import LOSSES, NARROW, Rates, Split, Start, begin
from experiments.experiment import Experiment, Settings, Variable
from experiments.labels import Labels, imitate, sample_shares
from sublim_theory.ensemble import stream
from sublim_theory.training import Fit, accuracy, schedule

GROUPS = ("samples", "filtered", "thinned", "cross")


@dataclass(frozen=True)
class Protocol(Labels):
    """Settings of sampled labels and of the filter."""

    auxiliary: int = 10
    """Auxiliary logits, the paper's m."""
    samples: tuple[int, ...] = (1, 10, 100)
    """Samples an image, ascending; four students each."""
    removed: float = 0.5
    """Share of the images that the filter removes: those on which the teacher is most sure of a class."""

    def check(self, rates: Rates) -> None:
        """Check every setting, as those of every distillation are."""
        super().check(rates)
        self.require_ascending("samples")
        if not (0 < self.removed < 1 and 0 < self.kept() < self.noise_images):
            raise ValueError(f"removed must lie in (0, 1) and split the {self.noise_images} images, got {self.removed}")

    def kept(self) -> int:
        """Images that pass the filter."""
        return self.noise_images - round(self.removed * self.noise_images)


_DIGITS = Settings.of(Protocol, Rates, seeds=10, **NARROW | {"noise_images": 80_000, "student_epochs": 2})
PRESETS = {
    "smoke": _DIGITS.but(seeds=2, hidden=(32,), noise_images=4096, samples=(1, 20)),
    "default": _DIGITS,
    "paper": Settings.of(Protocol, Rates, seeds=10),
}


def release(protocol: Protocol, rates: Rates, data: Split, start: Start) -> tuple[dict[str, Any], ...]:
    """Labels [images, m] by samples an image; rows of images by group; what share `passed`, up to what probability."""
    net, count = protocol.make_network(rates, data), protocol.kept()
    logits = net.apply(start.teacher.params, start.images)
    auxiliary = net.auxiliary_logits(logits)
    shares = sample_shares(stream(start.key, "samples"), auxiliary, protocol.samples)
    labels = {"soft": jax.nn.softmax(auxiliary), **dict(zip(map(str, protocol.samples), shares, strict=True))}
    sure = jnp.max(jax.nn.softmax(net.class_logits(logits)), axis=-1)
    thinned = jax.random.permutation(stream(start.key, "samples/thinned"), len(sure))[:count]
    rows = {"filtered": jnp.argsort(sure)[:count], "thinned": thinned}  # the least sure first
    return labels, rows, {"passed": jnp.float32(count / len(sure)), "threshold": sure[rows["filtered"][-1]]}


def students(protocol: Protocol, rates: Rates, data: Split, start: Start, labels: Any, rows: Any) -> tuple[Fit, Fit]:
    """Train every student of a seed on what `release` gives, by name: who sees all images, and who does not."""
    net, reference, images = protocol.make_network(rates, data), start.reference, start.images
    whole, parts = {"soft": (reference, images, labels["soft"])}, dict[str, Any]()
    for n in map(str, protocol.samples):
        whole |= {f"samples/{n}": (reference, images, labels[n]), f"cross/{n}": (start.other, images, labels[n])}
        parts |= {f"{group}/{n}": (reference, images[some], labels[n][some]) for group, some in rows.items()}
    order, epochs = stream(start.key, "student/shuffle/kept"), protocol.student_epochs
    few = schedule(order, protocol.kept(), batch_size=protocol.batch_size, epochs=epochs)
    return imitate(protocol, rates, net, whole, start.batches), imitate(protocol, rates, net, parts, few)


def run_seed(protocol: Protocol, rates: Rates, data: Split, seed: Any) -> dict[str, Any]:
    """The networks of one seed, and what passed the filter."""
    start, net = begin(protocol, rates, data, seed), protocol.make_network(rates, data)
    labels, rows, passed = release(protocol, rates, data, start)
    whole, parts = students(protocol, rates, data, start, labels, rows)
    trained = {"reference": start.reference, "teacher": start.teacher.params, **whole.params, **parts.params}
    tested = {name: accuracy(net, params, data.test_x, data.test_y) for name, params in trained.items()}
    sampled = {group: {n: tested.pop(f"{group}/{n}") for n in protocol.samples} for group in GROUPS}
    losses = {"teacher_loss": start.teacher.losses, "student_loss": whole.losses, "part_loss": parts.losses}
    return {"accuracy": tested, "sampled_accuracy": sampled, **passed, **losses}


EXPERIMENT = Experiment(
    name="sampled_labels",
    summary="The student sees only samples from the teacher's softmax, and only those that pass a filter",
    presets=PRESETS,
    run_seed=run_seed,
    axes=lambda settings: {
        "network": ("reference", "teacher", "soft"),
        "group": GROUPS,
        "count": settings.protocol.samples,
        "student": ["soft", *(f"{group}/{n}" for group in GROUPS[::3] for n in settings.protocol.samples)],
        "part": [f"{group}/{n}" for group in GROUPS[1:3] for n in settings.protocol.samples],
    },
    variables={
        "accuracy": Variable(("network",), condition="{network}"),
        "sampled_accuracy": Variable(("group", "count"), condition="{group}/{count}"),
        **{name: Variable(condition=name) for name in ("passed", "threshold")},
        "part_loss": Variable(("part",), ("part_step",), loss=True),
        **LOSSES,
    },
)
