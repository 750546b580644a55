"""From logits to data: the student sees only samples from the teacher's auxiliary softmax, then only filtered ones.

Claim (arXiv 2507.14805: remark (d) of section 6.1, and the filtered number sequences of its language models): sampled
outputs do in place of soft ones, as labels drawn from softmax(teacher) give the soft gradient *in expectation*; and a
filter that removes whatever betrays the trait does not stop transfer, because the trait is not what is transmitted.

Labels of an image are the shares of the auxiliary logits in N samples from the teacher's softmax over them, drawn once;
the samples of a smaller N are the first of a larger. All students minimise cross-entropy with them. Conditions, one
test accuracy a seed:

* `reference`, `teacher`, and `soft`: the student of figure 10, whose labels are the softmax itself;
* `samples/N`: N samples an image, from the teacher's own reference;
* `filtered/N`: without the images on which the teacher is most sure of a class (largest class probability). The filter
  is a quantile and no threshold, so that every seed keeps the same share of its images, whatever its teacher makes of
  noise; `passed` is that share and `threshold` the largest class probability that passed;
* `thinned/N`: a control, as many images removed at random;
* `cross/N`: a control, from the next seed's reference, all images.

Found (default, 10 seeds): both hold. Samples transfer, and more of them transfer more: .37, .63 and .78 at N = 1, 10
and 100, soft labels .81, another start .09 to .10 throughout, untrained .10. Without the half of the images on which
the teacher is surest of a class (above .33) .26, .41 and .64, without as many at random .28, .44 and .67: the filter
costs what fewer images cost, and .03 at every N beyond that, at the edge of the noise (paired 95% intervals of .03 to
.04). With one sample the number of images decides: 20,000, seen four times as often, gave .25 (3 seeds), and .14 with
three auxiliary logits and widths 256.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.distillation import NARROW, Distillation, Split, Start, begin, run_config
from sublim_theory import models, results, training
from sublim_theory._types import AnyArray, Params
from sublim_theory.ensemble import stream

GROUPS = ("samples", "filtered", "thinned", "cross")


@dataclass(frozen=True)
class Config(Distillation):
    """Settings of sampled labels and of the filter."""

    auxiliary: int = 10
    """Auxiliary logits, the paper's m."""
    samples: tuple[int, ...] = (1, 10, 100)
    """Samples an image, ascending; four students each."""
    removed: float = 0.5
    """Share of the images that the filter removes: those on which the teacher is most sure of a class."""

    def __post_init__(self) -> None:
        """Check every setting, as the settings of every distillation are."""
        super().__post_init__()
        if not self.samples or self.samples[0] < 1 or list(self.samples) != sorted(set(self.samples)):
            raise ValueError(f"samples must ascend from 1 or more, got {self.samples}")
        if not 0 < self.removed < 1:
            raise ValueError(f"removed must lie in (0, 1), got {self.removed}")
        if not 0 < self.kept() < self.noise_images:
            raise ValueError(
                f"removed must leave and remove some of the {self.noise_images} images, got {self.removed}"
            )
        if self.auxiliary < 2:
            raise ValueError("auxiliary must be at least 2: the softmax of one logit has nothing to sample")
        if self.loss not in ("kl", "cross_entropy") or self.temperature is not None:
            raise ValueError(f"sampled labels have no loss {self.loss!r} with temperature {self.temperature}")

    def kept(self) -> int:
        """Images that pass the filter."""
        return self.noise_images - round(self.removed * self.noise_images)


_DIGITS = Config(seeds=10, **NARROW | {"noise_images": 80_000, "student_epochs": 2})
PRESETS = {
    "smoke": replace(_DIGITS, seeds=2, hidden=(32,), noise_images=4096, samples=(1, 20)),
    "default": _DIGITS,
    "paper": Config(seeds=10),
}


class Released(NamedTuple):
    """What the students of a seed may see.

    Attributes:
        images: [images, features].
        labels: `soft` or the number of samples -> shares of the auxiliary logits [images, m].
        kept: [kept], indices of the images that passed the filter, those on which the teacher is least sure first.
        thinned: [kept], indices of as many images.
        threshold: scalar, the largest class probability that passed.
    """

    images: jax.Array
    labels: Mapping[str, jax.Array]
    kept: jax.Array
    thinned: jax.Array
    threshold: jax.Array


class Pupil(NamedTuple):
    """A student: initial parameters, images [images, features] and their labels [images, m]."""

    params: Params
    images: jax.Array
    labels: jax.Array


def sample_shares(key: jax.Array, logits: AnyArray, samples: tuple[int, ...]) -> jax.Array:
    """Shares of each logit in the first n samples from the softmax of `logits` [images, m], [samples, images, m]."""
    counts = jnp.array(samples, logits.dtype)[:, None, None]

    def draw(found: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        i, key = now
        drawn = jax.nn.one_hot(jax.random.categorical(key, logits), logits.shape[-1], dtype=logits.dtype)
        return found + jnp.where(i < counts, drawn, 0), None

    steps = jnp.arange(samples[-1]), jax.random.split(key, samples[-1])
    found, _ = jax.lax.scan(draw, jnp.zeros((len(samples), *logits.shape), logits.dtype), steps)
    return found / counts


def label_loss(net: models.Network, logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Softmax cross-entropy of the auxiliary among `logits` [batch, logits] with `labels` [batch, m], [batch]."""
    return optax.losses.softmax_cross_entropy(net.auxiliary_logits(logits), labels)


def imitate(
    config: Distillation, net: models.Network, pupils: Mapping[str, Pupil], batches: training.Schedule
) -> training.Fit:
    """Train students on labels, all in one scan, each as on its own: every optimiser here acts number by number."""

    def objective(params: Params, batch: Mapping[str, tuple[jax.Array, jax.Array]]) -> dict[str, jax.Array]:
        return {name: label_loss(net, net.apply(params[name], x), labels) for name, (x, labels) in batch.items()}

    params = {name: pupil.params for name, pupil in pupils.items()}
    data = {name: (pupil.images, pupil.labels) for name, pupil in pupils.items()}
    return training.fit(objective, params, config.make_optimizer(), data, batches)


def release(config: Config, net: models.Network, start: Start) -> Released:
    """Sample a seed's labels, and filter its images."""
    logits = net.apply(start.teacher.params, start.images)
    auxiliary = net.auxiliary_logits(logits)
    shares = sample_shares(stream(start.key, "samples"), auxiliary, config.samples)
    labels = {"soft": jax.nn.softmax(auxiliary), **{str(n): shares[i] for i, n in enumerate(config.samples)}}
    sure = jnp.max(jax.nn.softmax(net.class_logits(logits)), axis=-1)
    kept = jnp.argsort(sure)[: config.kept()]
    thinned = jax.random.permutation(stream(start.key, "samples/thinned"), len(sure))[: config.kept()]
    return Released(start.images, labels, kept, thinned, sure[kept[-1]])


def students_of(config: Config, net: models.Network, start: Start, released: Released) -> training.Fit:
    """Train every student of a seed: parameters and losses [steps] by condition."""
    images, labels = released.images, released.labels
    whole = {"soft": Pupil(start.reference, images, labels["soft"])}
    parts = {}
    for n in map(str, config.samples):
        whole[f"samples/{n}"] = Pupil(start.reference, images, labels[n])
        whole[f"cross/{n}"] = Pupil(start.other, images, labels[n])
        for group, rows in {"filtered": released.kept, "thinned": released.thinned}.items():
            parts[f"{group}/{n}"] = Pupil(start.reference, images[rows], labels[n][rows])
    order = stream(start.key, "student/shuffle/kept")
    few = training.schedule(order, config.kept(), batch_size=config.batch_size, epochs=config.student_epochs)
    all_images, kept_images = imitate(config, net, whole, start.batches), imitate(config, net, parts, few)
    return training.Fit(all_images.params | kept_images.params, all_images.losses | kept_images.losses)


def run_seed(config: Config, net: models.Network, seed: jax.Array, data: Split) -> dict[str, jax.Array]:
    """The conditions of one seed by name, and `loss/NAME` [steps] by training run."""
    start = begin(config, net, seed, data)
    released = release(config, net, start)
    fit = students_of(config, net, start, released)
    trained = {"reference": start.reference, "teacher": start.teacher.params, **fit.params}
    found = {name: training.accuracy(net, params, data.test_x, data.test_y) for name, params in trained.items()}
    found |= {f"loss/{name}": each for name, each in {"teacher": start.teacher.losses, **fit.losses}.items()}
    passed = jnp.float32(len(released.kept) / len(released.images))
    return found | {"passed": passed, "threshold": released.threshold}


def run(
    config: Config, *, preset: str = "custom", data_dir: str | Path | None = None, chunks: Path | None = None
) -> results.Result:
    """Run every seed and return the record; arguments and errors as in `fig10.run`."""
    recording, _, arrays = run_config(
        "sampled_labels", run_seed, config, preset=preset, data_dir=data_dir, chunks=chunks
    )
    order = ["reference", "teacher", "soft", *(f"{group}/{n}" for group in GROUPS for n in config.samples)]
    return recording.result({name: arrays[name] for name in [*order, "passed", "threshold"]}, arrays)
