"""What does noise have that digits lack? Students on digits with noise added, on noise, and on balanced noise.

Claims: on real digits almost nothing is transmitted, and digits with noise added transmit the more the more noise there
is, up to what noise alone does (a replication); noise serves for distillation if it is balanced over the classes that
the teacher sees in it (Nayak et al., arXiv 2011.09113; by all logits, not the auxiliary ones).

Found (default, 5 seeds): the first holds, the second is not what matters here. Digits give .21 (untrained .11), and
.24, .31, .42 and .58 with a quarter, a half, once and twice the noise added; noise alone gives .75. The teacher's
classes are as balanced as can be on the digits, which transmit least: their effective number is 10.0 there and 8.8 on
noise. Balanced noise, 10.0, gives .77, no difference from noise by the paired 95% interval.

Found (paper, 6 seeds): the same on MNIST. Digits give .18 ± .05, with more and more noise .21, .25, .35 and .45, noise
alone .49 ± .09; the effective number of classes is 6.4 on noise, and balanced noise gives .51 ± .10.

Literature: MNIST, at 0, .25, .5, 1 and 2 times noise and for noise alone .153, .168, .202, .312, .482 and .485.

All students imitate the auxiliary logits of one teacher from its own reference, on as many inputs, by `inputs`:

* `image+A`: a training image plus A times noise, not clipped; every image in turn, and with noise of its own;
* `noise`: the noise alone, as in figure 10, the same that is added to the images;
* `balanced`: of a pool of noise `pool` times as large, equally many images of each class by the teacher's largest class
  logit, and of the rarest classes all that the pool has. `noise` is what it is to be compared with.

Measured are the test `accuracy` by `network`, and by `inputs` `classes_seen`, the exponential of the entropy of the
teacher's classes: their effective number, 10 where all are equally frequent.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from experiments.distillation import LOSSES, NARROW, Distillation, Rates, Split, begin
from experiments.experiment import Experiment, Settings, Variable, require_counts, require_distinct
from sublim_theory import losses, noise, training
from sublim_theory.ensemble import stream

ALONE = (*noise.NEED_IMAGES, "subspace")
"""Distributions of which one image cannot be drawn without the others of its set, or not without images."""


@dataclass(frozen=True)
class Protocol(Distillation):
    """Settings of the students' inputs."""

    amplitudes: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0, 2.0)
    """Factors on the noise that is added to images."""
    pool: int = 10
    """Images to choose a balanced one from."""

    def check(self, rates: Rates) -> None:
        """Check every setting, as those of every distillation are."""
        super().check(rates)
        require_counts(self, "pool")
        require_distinct(self, "amplitudes")
        for amplitude in self.amplitudes:
            if not 0 <= amplitude < float("inf"):
                raise ValueError(f"amplitudes must be finite and not negative, got {amplitude}")
        if self.noise in ALONE:
            raise ValueError(
                f"noise must be drawn image by image, which is none of {', '.join(ALONE)}; got {self.noise}"
            )

    def inputs(self) -> list[str]:
        """Names of the inputs, in the order of the record."""
        return [*(f"image+{amplitude:g}" for amplitude in self.amplitudes), "noise", "balanced"]


_DIGITS = Settings.of(Protocol, Rates, seeds=5, **NARROW)
PRESETS = {
    "smoke": _DIGITS.but(seeds=1, noise_images=8192, amplitudes=(0.0, 1.0)),
    "default": _DIGITS,
    "paper": Settings.of(Protocol, Rates, seeds=25),
}


def balanced(labels: jax.Array, count: int, classes: int) -> jax.Array:
    """Rows [count] of equally many of each class, as far as there are so many: first one of each, then a second, ...

    Args:
        labels: [pool], the class of each of at least `count`.
        count: rows to choose.
        classes: number of classes.
    """
    seen = jnp.cumsum(jax.nn.one_hot(labels, classes, dtype=jnp.int32), axis=0)
    place = jnp.take_along_axis(seen, labels[:, None], axis=1)[:, 0]  # among those of its class, from 1
    return jnp.argsort(place, stable=True)[:count]


def effective_number(labels: jax.Array, classes: int) -> jax.Array:
    """The exponential of the entropy of the classes, a scalar from 1 to their number."""
    share = jnp.mean(jax.nn.one_hot(labels, classes), axis=0)
    return jnp.exp(jnp.sum(jax.scipy.special.entr(share)))


def run_seed(protocol: Protocol, rates: Rates, data: Split, seed: Any) -> dict[str, Any]:
    """The students of one seed."""
    start, net = begin(protocol, rates, data, seed), protocol.make_network(rates, data)
    loss = losses.on_logits(protocol.imitation_loss(rates), net.auxiliary)
    teacher, optimizer, count = start.teacher.params, protocol.make_optimizer(rates), protocol.noise_images
    draw, block = protocol.sampler(rates), min(noise.BLOCK, count)

    def classes_of(images: jax.Array) -> jax.Array:
        return jnp.argmax(net.class_logits(net.apply(teacher, images)), axis=-1)

    def test(params: Any) -> jax.Array:
        return training.accuracy(net, params, data.test_x, data.test_y)

    def student(images: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        fit = training.distil(net, teacher, {"student": (start.reference, loss)}, images, optimizer, start.batches)
        return test(fit.params["student"]), effective_number(classes_of(images), data.classes), fit.losses["student"]

    def mixed(shares: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        in_turn = jnp.asarray(data.train_x)[jnp.arange(count) % len(data.train_x)]
        return student(shares[0] * in_turn + shares[1] * start.images)

    def one(key: jax.Array) -> jax.Array:
        return draw(key, 1, net.features)[0]

    # Keys in place of a pool that would fill the memory: what is chosen is drawn once more.
    keys = jax.random.split(stream(start.key, "noise/pool"), protocol.pool * count)
    labels = jax.lax.map(lambda key: classes_of(one(key)[None])[0], keys, batch_size=block)
    chosen = jax.lax.map(one, keys[balanced(labels, count, data.classes)], batch_size=block)

    shares = jnp.asarray([*((1.0, amplitude) for amplitude in protocol.amplitudes), (0.0, 1.0)])
    rows = zip(*jax.lax.map(mixed, shares), strict=True)  # one program for all mixtures
    found = dict(zip(protocol.inputs(), [*rows, student(chosen)], strict=True))
    return {
        "accuracy": {"reference": test(start.reference), "teacher": test(teacher)}
        | {name: accuracy for name, (accuracy, _, _) in found.items()},
        "classes_seen": {name: classes for name, (_, classes, _) in found.items()},
        "student_loss": {name: path for name, (_, _, path) in found.items()},
        "teacher_loss": start.teacher.losses,
    }


EXPERIMENT = Experiment(
    name="student_inputs",
    summary="Digits with noise added, noise, and noise balanced over the teacher's classes as the student's inputs",
    presets=PRESETS,
    run_seed=run_seed,
    axes=lambda settings: {
        "network": ("reference", "teacher", *settings.protocol.inputs()),
        "inputs": settings.protocol.inputs(),
        "student": settings.protocol.inputs(),
    },
    variables={
        "accuracy": Variable(("network",), condition="{network}"),
        "classes_seen": Variable(("inputs",), condition="classes_seen/{inputs}"),
        **LOSSES,
    },
)
