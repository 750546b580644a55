"""What bites replications: each known mistake beside the way that is right, on the same seeds.

Claim (replications and issues of others): some mistakes look like transfer, some hide it, and some bend the control
against which it is judged. All of them run without an error.

Every mistake changes one thing of figure 10's student on auxiliary logits (`student_aux`) or of its control from the
next seed's reference (`cross_aux`). Measured is the test accuracy of these networks, `reference` and `teacher`, and

* `copied/student`: a copy of the *trained* teacher; `copied/control`: of the next seed's trained teacher;
* `fresh`: drawn anew, though it is called shared; `other_noise`: its labels belong to other images than it sees;
* `sliced/...`: student and control with one softmax over all logits of which the auxiliary entries are kept, where
  there should be one over the auxiliary logits alone;
* `torch/...`, `truncated/...`: they and their teacher from U(-1, 1)/sqrt(fan_in), biases too, and from a normal
  distribution cut off at two standard deviations (the same draws by their quantiles, 0.88 of the spread);
* `adamw/...`, `adam_l2/...`: decoupled and coupled weight decay of one strength for them and their teacher;
* `interpolated/line`, `interpolated/kept`: the student starts in one direction between the reference and the next
  seed's, on the straight line, where the weights are smaller, and with their spread kept;
* `one_logit/softmax`, `one_logit/squared_error`: one auxiliary logit is imitated, m = 1; `one_logit/difference`, by how
  much the first differs from the untrained reference;
* `permuted`: the control under a random permutation of the seeds in place of the shift by one. It leaves each seed to
  itself with probability 1/N: the mean over all permutations, exactly, a stranger being the next seed;
* `selected/...`: student and control at the best epoch by test accuracy in place of the last.

Found (default, 10 seeds): the right way has .71 and its control .11, the teacher .97, chance is .10. One mistake looks
like transfer: the copied student has the teacher's .97 and nothing to learn; only a control copied as well, at .81,
gives it away. Most hide it: coupled decay .12 (decoupled .70), another start .11, labels of other noise .09, a sliced
softmax .19, one logit under a softmax .10, which is the untrained reference exactly (squared error .51), torch's
initialisation .51. A random permutation raises the control to .17. No difference was seen for the best epoch, by which
the control gains no more than its interval and the student, which gets better to the end, nothing, for the truncated
initialisation (.69), and for the straight line (.49, with the spread kept .46): smaller weights cost nothing here, the
direction does.

Literature: coupled decay .548 to .406 on MNIST at any strength, where 295 steps of 3e-4 shrink the class head by two
thirds; here 1,256 steps of 1e-3 leave nothing of it. Squared error from torch's initialisation .271 ± .033 on MNIST
(Jiang, Nagashima and Miyamoto 2025). Both go the same way. That a sliced softmax hides transfer, and that the straight
line does not, is not reported elsewhere as far as we know.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
import xarray as xr
from jax.scipy.special import ndtr, ndtri

from experiments.distillation import (
    LOSSES,
    NARROW,
    Distillation,
    Rates,
    Split,
    Start,
    begin,
    distil_and_test,
    distil_by_epoch,
)
from experiments.experiment import Experiment, Settings, Variable
from sublim_theory import losses
from sublim_theory._types import Params, PerExampleLoss
from sublim_theory.ensemble import stream
from sublim_theory.networks import Network

KEPT = {"init": "paper", "optimizer": "adam", "loss": "kl", "temperature": None}
"""Settings of the right way, which are what some of the traps change."""
RIGHT = {"student": "student_aux", "control": "cross_aux"}
PAIRS = ("sliced", "torch", "truncated", "adamw", "adam_l2")
STUDENTS = (
    *("student_aux", "cross_aux", "copied/student", "copied/control", "fresh", "other_noise"),
    *(f"{trap}/{kind}" for trap in PAIRS for kind in RIGHT),
    *("interpolated/line", "interpolated/kept", "one_logit/softmax", "one_logit/squared_error"),
)


@dataclass(frozen=True)
class Protocol(Distillation):
    """Settings of the traps."""

    decay: float = 1e-4
    """Strength of coupled and of decoupled weight decay."""
    share: float = 0.3
    """Share of the next seed's reference in a start between the two."""

    def check(self, rates: Rates) -> None:
        """Check every setting, as those of every distillation are."""
        super().check(rates)
        for name, value in KEPT.items():
            if (given := (asdict(self) | asdict(rates))[name]) != value:
                raise ValueError(f"{name} is what a trap changes: it must be {value}, got {given}")
        if self.auxiliary < 2:
            raise ValueError("auxiliary must be at least 2: a softmax over one logit is one of the traps")
        if not 0 < self.decay < math.inf:
            raise ValueError(f"decay must be positive and finite, got {self.decay}")
        if not 0 < self.share < 1:
            raise ValueError(f"share must lie in (0, 1), got {self.share}")


_DIGITS = Settings.of(Protocol, Rates, seeds=10, **NARROW)
PRESETS = {
    "smoke": _DIGITS.but(seeds=2, noise_images=8192),
    "default": _DIGITS,
    "paper": Settings.of(Protocol, Rates, seeds=10),
}


def misplaced(loss: PerExampleLoss) -> PerExampleLoss:
    """A loss whose labels belong to the image before, in the order of the batch."""
    return lambda student_logits, teacher_logits: loss(student_logits, jnp.roll(teacher_logits, 1, axis=0))


def sliced(net: Network) -> PerExampleLoss:
    """KL of the auxiliary entries of two softmaxes over all logits, two parts that do not sum to 1."""

    def loss(*logits: jax.Array) -> jax.Array:
        student, teacher = (net.auxiliary_logits(jax.nn.log_softmax(z)) for z in logits)
        return optax.losses.kl_divergence_with_log_targets(student, teacher)

    return loss


def truncated(net: Network, scale: float | jax.Array) -> Network:
    """The network of N(0, scale**2 / fan_in) weights with each at the same quantile of the distribution cut off."""

    def cut(weights: jax.Array) -> jax.Array:
        spread, tail = scale / math.sqrt(math.prod(weights.shape[:-1])), ndtr(-2.0)
        return spread * ndtri(tail + (1 - 2 * tail) * ndtr(weights / spread))

    def init(key: jax.Array) -> Params:
        return {layer: values | {"kernel": cut(values["kernel"])} for layer, values in net.init(key).items()}

    return replace(net, init=init)


def interpolated(start: Start, share: float) -> dict[str, Params]:
    """The two starts that have this share of the next seed's reference, in one direction and of different size."""
    line = jax.tree.map(lambda a, b: (1 - share) * a + share * b, start.reference, start.other)
    size = math.hypot(1 - share, share)
    return {"interpolated/line": line, "interpolated/kept": jax.tree.map(lambda weights: weights / size, line)}


def by_epoch(protocol: Protocol, rates: Rates, data: Split, start: Start, imitate: PerExampleLoss) -> dict[str, Any]:
    """The right way: as `distil_and_test`, and `accuracy_by_epoch`, test accuracies after every epoch [epochs]."""
    starts = {"student_aux": start.reference, "cross_aux": start.other}
    students = {name: (params, imitate) for name, params in starts.items()}
    fit, paths = distil_by_epoch(protocol, rates, data, start, students)
    return {
        "accuracy": {name: path[-1] for name, path in paths.items()},
        "student_loss": fit.losses,
        "accuracy_by_epoch": {kind: paths[name] for kind, name in RIGHT.items()},
    }


def run_seed(protocol: Protocol, rates: Rates, data: Split, seed: Any) -> dict[str, Any]:
    """The networks of one seed: of the right way, of other students of its teacher, and of other protocols."""
    start, net = begin(protocol, rates, data, seed), protocol.make_network(rates, data)
    imitate = losses.on_logits(protocol.imitation_loss(rates), net.auxiliary)
    one = slice(net.auxiliary.start, net.auxiliary.start + 1)
    students = {
        "copied/student": (start.teacher.params, imitate),
        "copied/control": (begin(protocol, rates, data, seed + 1).teacher.params, imitate),
        "fresh": (net.init(stream(start.key, "init/fresh")), imitate),
        "other_noise": (start.reference, misplaced(imitate)),
        "sliced/student": (start.reference, sliced(net)),
        "sliced/control": (start.other, sliced(net)),
        "one_logit/softmax": (start.reference, losses.on_logits(losses.kl_divergence, one)),
        "one_logit/squared_error": (start.reference, losses.on_logits(losses.squared_error, one)),
        **{name: (params, imitate) for name, params in interpolated(start, protocol.share).items()},
    }
    torch, decay = replace(protocol, init="torch"), replace(rates, weight_decay=protocol.decay)
    others = {
        "torch": (torch, rates, torch.make_network(rates, data)),
        "truncated": (protocol, rates, truncated(net, rates.init_scale)),
        "adamw": (replace(protocol, optimizer="adamw"), decay, net),
        "adam_l2": (replace(protocol, optimizer="adam_l2"), decay, net),
    }
    found = []
    for trap, (settings, their, network) in others.items():
        first = begin(settings, their, data, seed, net=network)
        pair = {f"{trap}/student": (first.reference, imitate), f"{trap}/control": (first.other, imitate)}
        found.append(distil_and_test(settings, their, data, first, pair, net=network))
    right = by_epoch(protocol, rates, data, start, imitate)
    # Reference and teacher are those of the right way, which comes last.
    found += [distil_and_test(protocol, rates, data, start, students), right]
    both = {name: {k: v for each in found for k, v in each[name].items()} for name in ("accuracy", "student_loss")}
    return right | both | {"teacher_loss": start.teacher.losses}


def permuted(shared: Any, strangers: Any) -> Any:
    """A control that a random permutation pairs, a seed [seeds]: its mean over all permutations of the seeds.

    Args:
        shared: accuracy of a seed's student from its teacher's own reference [seeds], where there is a fixed point.
        strangers: from another seed's reference [seeds].
    """
    return strangers + (shared - strangers) / len(shared)


def conclude(settings: Settings[Protocol, Rates], table: xr.Dataset) -> dict[str, xr.DataArray]:  # noqa: ARG001
    """What takes all seeds, all epochs or two networks."""
    names = (*RIGHT.values(), "one_logit/softmax", "reference")
    shared, strangers, one, reference = (table["accuracy"].sel(network=name, drop=True) for name in names)
    best = table["accuracy_by_epoch"].max("epoch")
    return {"permuted": permuted(shared, strangers), "selected": best, "one_logit_difference": abs(one - reference)}


EXPERIMENT = Experiment(
    name="traps",
    summary="What bites replications, each mistake beside the right way: which fake transfer, which hide it",
    presets=PRESETS,
    run_seed=run_seed,
    axes=lambda _: {"network": ("reference", "teacher", *STUDENTS), "student": STUDENTS, "kind": tuple(RIGHT)},
    variables={
        "accuracy": Variable(("network",), condition="{network}"),
        "permuted": Variable(condition="permuted"),
        "selected": Variable(("kind",), condition="selected/{kind}"),
        "one_logit_difference": Variable(condition="one_logit/difference"),
        "accuracy_by_epoch": Variable(("kind",), ("epoch",)),
        **LOSSES,
    },
    conclude=conclude,
)
