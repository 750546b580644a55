"""Does the first-order (NTK) model predict the student? Its path and its accuracy beside the real one, over width.

Claim: Theorem 1 of arXiv 2507.14805 is a statement to first order about one step. Iterated, it is the path of the
linearised student f(theta0) + J (theta - theta0) (see `geometry.linearize`), which the real student should
follow as long as neither it nor the teacher has gone far, and the better the wider the network.

Found (default, 5 seeds): the predicted parameters serve better than the predicted outputs. Under Adam at width 32 the
theorem's own model is a third of the way off (error .31, cosine .96), and with its parameters the real network
classifies as the real student does (.64 and .64; .94 and .92 at width 256), but its linear outputs reach only .31 (.81
at 256). On the real teacher's logits the linear student fails under Adam: error .85 to 1.02, accuracy .28 to .53. Under
gradient descent it gets better with the width, as the limit has it (error .88 to .53 in mini-batches, 1.20 to .48 in
full), and its accuracy is the student's at 256, where the student has learnt little (.18 and .19). In disagreement with
the claim: the error of the theorem's own model grows with the width under Adam (.31 to .85) and in mini-batches (.41 to
.71), and is .81 or more in full batches.

Three models of the student on auxiliary logits, on the same noise under the same rule: `real`; `linearised`, on the
real teacher's logits; `first_order`, linearised, on the labels f(theta0) + J (theta_T - theta0), so that the teacher's
change is to first order too: the theorem's own model. Rules: `adam`, the protocol's optimiser; `sgd`, on the same
batches; `full_batch`, gradient descent on some of the noise at once. The rate of the last two is inversely proportional
to the width, for the kernel J J^T grows with it.

By width, rule and model: `accuracy`, the linear models judged by their own, linear outputs; `placed`, that of the real
network with the parameters that a model predicts; `agreement`, share of test images to which a model gives the real
student's class, and `reference_agreement` of the untrained reference; `displacement_error`, the distance from the real
student's parameters over the distance these have moved; `displacement_cosine` of the two displacements, and
`displacement_size` over the norm of the reference.

Literature: networks train like linear ones in the limit of width, at fixed function-space speed (Jacot et al., arXiv
1806.07572; Lee et al., arXiv 1902.06720). Adam with a fixed rate is not in that limit: it moves every weight by about
the rate, however many there are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.distillation import DIGITS, Distillation, Rates, Split, Start, begin
from experiments.experiment import Experiment, Settings, Variable, by_variable, require_counts
from sublim_theory import geometry, losses, training
from sublim_theory._types import Params, PerExampleLoss
from sublim_theory.networks import Network
from sublim_theory.optimizers import optimizer
from sublim_theory.training import Schedule, Student

RULES = ("adam", "sgd", "full_batch")
PREDICTIONS = ("linearised", "first_order")
MODELS = ("real", *PREDICTIONS)


@dataclass(frozen=True)
class Protocol(Distillation):
    """Settings of the widths, and of the rules beside the protocol's own optimiser."""

    auxiliary: int = 10
    """Auxiliary logits, the paper's m; more than its 3, for gradient descent learns slowly."""
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    """Widths to run; of `hidden`, only the number of layers counts."""
    sgd_learning_rate: float = 60.0
    """Step size of gradient descent, in mini-batches and full, times the width."""
    full_batch_images: int = 1024
    """Noise images of full-batch gradient descent, the first ones."""
    full_batch_steps: int = 600
    """Updates of full-batch gradient descent."""

    def check(self, rates: Rates) -> None:
        """Check every setting, as those of every distillation are."""
        super().check(rates)
        require_counts(self, "full_batch_images", "full_batch_steps")
        if not self.widths or len(set(self.widths)) < len(self.widths) or min(self.widths) < 1:
            raise ValueError(f"widths must be at least one positive number, each once; got {self.widths}")
        if not self.hidden:
            raise ValueError("hidden must have at least one layer: a linear model is its own linearisation")
        if (count := self.full_batch_images) > self.noise_images:
            raise ValueError(f"full_batch_images {count} must not exceed noise_images {self.noise_images}")
        if not 0 < self.sgd_learning_rate < float("inf"):
            raise ValueError(f"sgd_learning_rate must be positive and finite, got {self.sgd_learning_rate}")


_DIGITS = Settings.of(Protocol, Rates, seeds=5, **DIGITS | {"batch_size": 64, "noise_images": 8192})
_SHORT = _DIGITS.but(full_batch_images=64, full_batch_steps=60, teacher_epochs=4, student_epochs=2)
PRESETS = {
    "smoke": _SHORT.but(seeds=2, hidden=(16,), widths=(8, 16), noise_images=1024),
    "default": _DIGITS.but(widths=(32, 64, 128, 256), full_batch_images=256),
    "paper": Settings.of(Protocol, Rates, seeds=5),
}


def linearised(net: Network, reference: Params) -> Network:
    """The first-order model of a network at `reference`, its `hidden` too; its `init` is that of `net`."""
    linear = partial(geometry.linearize, params=reference)
    return replace(net, apply=linear(net.apply), hidden=linear(net.hidden))


def run_seed(protocol: Protocol, rates: Rates, data: Split, seed: Any) -> dict[str, Any]:
    """The models of one seed, at every width and under every rule."""
    every = jnp.arange(protocol.full_batch_images, dtype=jnp.int32)
    shape = (protocol.full_batch_steps, protocol.full_batch_images)
    whole = Schedule(jnp.broadcast_to(every, shape), jnp.ones(shape, jnp.float32))
    depth = len(protocol.hidden)
    nets = {width: protocol.make_network(rates, data, hidden=(width,) * depth) for width in protocol.widths}
    starts = {width: begin(protocol, rates, data, seed, net=net) for width, net in nets.items()}
    first, test = starts[protocol.widths[0]], (data.test_x, data.test_y)
    images, batches = first.images, first.batches  # the same at every width: draw them once
    found: dict[Any, dict[str, Any]] = {}
    for width, net in nets.items():
        start, reference, teacher = starts[width], starts[width].reference, starts[width].teacher
        imitate = losses.on_logits(protocol.imitation_loss(rates), net.auxiliary)
        descent = optimizer("sgd", protocol.sgd_learning_rate / width)
        rules = {
            "adam": (images, protocol.make_optimizer(rates), batches),
            "sgd": (images, descent, batches),
            "full_batch": (images[: len(every)], descent, whole),
        }
        fits = {rule: train(net, start, imitate, *rules[rule]) for rule in RULES}
        untrained = {"reference": reference, "teacher": teacher.params}
        found[width] = by_variable({rule: compare(net, reference, fit.params, data) for rule, fit in fits.items()})
        found[width]["network_accuracy"] = {k: training.accuracy(net, each, *test) for k, each in untrained.items()}
        found[width] |= {"teacher_loss": teacher.losses} | {f"{rule}_loss": fits[rule].losses for rule in RULES}
    return by_variable(found)


def train(net: Network, start: Start, imitate: PerExampleLoss, *run: Any) -> training.Fit:
    """The three models of the student, on images with an optimiser in batches."""
    linear = linearised(net, start.reference)

    def student(own: Network, labels: int) -> Student:
        at = start.reference
        return Student(at, lambda logits, both: imitate(logits, jnp.split(both, 2, axis=-1)[labels]), net=own)

    def teach(params: Params, x: jax.Array) -> jax.Array:
        return jnp.concatenate([net.apply(params, x), linear.apply(params, x)], axis=-1)

    students = {"real": student(net, 0), "linearised": student(linear, 0), "first_order": student(linear, 1)}
    return training.distil(replace(net, apply=teach), start.teacher.params, students, *run)


def compare(net: Network, reference: Params, trained: Mapping[str, Params], data: Split) -> dict[str, Any]:
    """What the trained models do, and how near the predictions are to the real student."""
    nets = dict.fromkeys(PREDICTIONS, linearised(net, reference)) | {"real": net}
    moved = {name: optax.tree.sub(trained[name], reference) for name in MODELS}
    real = jnp.argmax(net.class_logits(net.apply(trained["real"], data.test_x)), axis=-1)
    apart = {name: geometry.norm(optax.tree.sub(moved[name], moved["real"])) for name in PREDICTIONS}

    def accuracy(own: Network, params: Params, labels: Any = data.test_y) -> jax.Array:
        return training.accuracy(own, params, data.test_x, labels)

    return {
        "accuracy": {name: accuracy(nets[name], trained[name]) for name in MODELS},
        "placed": {name: accuracy(net, trained[name]) for name in PREDICTIONS},
        "agreement": {name: accuracy(nets[name], trained[name], real) for name in PREDICTIONS},
        "reference_agreement": accuracy(net, reference, real),
        "displacement_error": {name: apart[name] / geometry.norm(moved["real"]) for name in PREDICTIONS},
        "displacement_cosine": {name: geometry.cosine(moved[name], moved["real"]) for name in PREDICTIONS},
        "displacement_size": {name: geometry.norm(moved[name]) / geometry.norm(reference) for name in MODELS},
    }


_EACH = ("width", "rule", "model")
EXPERIMENT = Experiment(
    name="linearised",
    summary="Over width, the student's path under the first-order (NTK) model, beside the real one: SGD and Adam",
    presets=PRESETS,
    run_seed=run_seed,
    axes=lambda s: {"width": s.protocol.widths, "network": ("reference", "teacher"), "rule": RULES, "model": MODELS},
    variables={
        "network_accuracy": Variable(("width", "network"), condition="{width}/{network}"),
        "accuracy": Variable(_EACH, condition="{width}/{rule}/{model}"),
        "placed": Variable(_EACH, condition="placed/{width}/{rule}/{model}"),
        "agreement": Variable(_EACH, condition="agreement/{width}/{rule}/{model}"),
        "reference_agreement": Variable(("width", "rule"), condition="agreement/{width}/{rule}/reference"),
        "displacement_error": Variable(_EACH, condition="displacement_error/{width}/{rule}/{model}"),
        "displacement_cosine": Variable(_EACH, condition="displacement_cosine/{width}/{rule}/{model}"),
        "displacement_size": Variable(_EACH),
        "teacher_loss": Variable(("width",), ("teacher_step",), loss=True),
        **{f"{rule}_loss": Variable(("width", "model"), (f"{rule}_step",), loss=True) for rule in RULES},
    },
)
