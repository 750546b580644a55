"""What bites replications: each known mistake beside the way that is right, on the same seeds.

Claim (replications and issues of others): some mistakes look like transfer, some hide it, and some bend the control
against which it is judged. All of them run without an error.

Every mistake changes one thing of figure 10's student on auxiliary logits (`student_aux`) or of its control from the
next seed's reference (`cross_aux`). Conditions, one test accuracy a seed, beside `reference` and `teacher`:

* `copied/student`: the student is a copy of the *trained* teacher; `copied/control` of the next seed's trained teacher;
* `fresh`: the student is drawn anew, though it is called shared;
* `other_noise`: the labels belong to other images than the student sees;
* `sliced/student`, `sliced/control`: one softmax over all logits of which the auxiliary entries are kept, where there
  should be one over the auxiliary logits alone;
* `torch/...`, `truncated/...`: student, control and their teacher from U(-1, 1)/sqrt(fan_in), biases too, and from a
  normal distribution cut off at two standard deviations (the same draws by their quantiles, 0.88 of the spread);
* `adamw/...`, `adam_l2/...`: decoupled and coupled weight decay of one strength for teacher, student and control;
* `interpolated/line`, `interpolated/kept`: the student starts in one direction between the reference and the next
  seed's, on the straight line, where the weights are smaller, and with their spread kept;
* `one_logit/softmax`, `one_logit/squared_error`: one auxiliary logit is imitated, m = 1;
* `permuted`: the control under a random permutation of the seeds in place of the shift by one. It leaves each seed to
  itself with probability 1/N: the mean over all permutations, exactly, a stranger being the next seed;
* `selected/student`, `selected/control`: the best epoch by test accuracy in place of the last.

Found (default, 10 seeds): the right way has .71 and its control .11, the teacher .97, chance is .10. One mistake looks
like transfer: the copied student has the teacher's .97 and nothing to learn; only a control copied as well, at .81,
gives it away. Most hide it: coupled decay .12 (decoupled .70), another start .11, labels of other noise .09, a sliced
softmax .19, one logit under a softmax .10, which is the untrained reference exactly (squared error .51), torch's
initialisation .51. Two raise the control: a random permutation to .17 and, barely, the best epoch. No difference was
seen for the best epoch of the student, which gets better to the end, for the truncated initialisation (.69), and for
the straight line (.49, with the spread kept .46): smaller weights cost nothing here, the direction does.

Literature: coupled decay .548 to .406 on MNIST at any strength, where 295 steps of 3e-4 shrink the class head by two
thirds; here 1,256 steps of 1e-3 leave nothing of it. Squared error from torch's initialisation .271 ± .033 on MNIST
(Jiang, Nagashima and Miyamoto 2025). Both go the same way. That a sliced softmax hides transfer, and that the straight
line does not, is not reported elsewhere as far as we know.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.special import ndtr, ndtri

from experiments.distillation import NARROW, Distillation, Split, Start, begin, distil_and_test, run_config
from sublim_theory import losses, models, results, training
from sublim_theory._types import Params, PerExampleLoss
from sublim_theory.ensemble import stream

KEPT = {"init": "paper", "optimizer": "adam", "loss": "kl", "temperature": None}
"""Settings of the right way, which are what some of the traps change."""

PAIRS = ("sliced", "torch", "truncated", "adamw", "adam_l2")
CONDITIONS = (
    *("reference", "teacher", "student_aux", "cross_aux", "copied/student", "copied/control", "fresh", "other_noise"),
    *(f"{trap}/{kind}" for trap in PAIRS for kind in ("student", "control")),
    *("interpolated/line", "interpolated/kept", "one_logit/softmax", "one_logit/squared_error"),
    *("permuted", "selected/student", "selected/control"),
)
"""Names of the conditions, in the order of the record."""


@dataclass(frozen=True)
class Config(Distillation):
    """Settings of the traps."""

    decay: float = 1e-4
    """Strength of coupled and of decoupled weight decay."""
    share: float = 0.3
    """Share of the next seed's reference in a start between the two."""

    def __post_init__(self) -> None:
        """Check every setting, as those of every distillation are.

        Raises:
            ValueError: naming the setting, its value and what it may be.
        """
        super().__post_init__()
        for name, value in KEPT.items():
            if getattr(self, name) != value:
                raise ValueError(f"{name} is what a trap changes: it must be {value}, got {getattr(self, name)}")
        if self.auxiliary < 2:
            raise ValueError("auxiliary must be at least 2: a softmax over one logit is one of the traps")
        if not 0 < self.decay < math.inf:
            raise ValueError(f"decay must be positive and finite, got {self.decay}")
        if not 0 < self.share < 1:
            raise ValueError(f"share must lie in (0, 1), got {self.share}")


_DIGITS = Config(seeds=10, **NARROW)
PRESETS = {"smoke": replace(_DIGITS, seeds=2, noise_images=8192), "default": _DIGITS, "paper": Config(seeds=10)}


def misplaced(loss: PerExampleLoss) -> PerExampleLoss:
    """A loss whose labels belong to the image before, in the order of the batch."""
    return lambda student_logits, teacher_logits: loss(student_logits, jnp.roll(teacher_logits, 1, axis=0))


def sliced(net: models.Network) -> PerExampleLoss:
    """KL of the auxiliary entries of two softmaxes over all logits, two parts that do not sum to 1."""

    def loss(student_logits: jax.Array, teacher_logits: jax.Array) -> jax.Array:
        student, teacher = (net.auxiliary_logits(jax.nn.log_softmax(z)) for z in (student_logits, teacher_logits))
        return optax.losses.kl_divergence_with_log_targets(student, teacher)

    return loss


def truncated(net: models.Network, scale: float | jax.Array) -> models.Network:
    """The network of N(0, scale**2 / fan_in) weights with each at the same quantile of the distribution cut off."""

    def cut(weights: jax.Array) -> jax.Array:
        spread, tail = scale / math.sqrt(weights.shape[0]), ndtr(-2.0)
        return spread * ndtri(tail + (1 - 2 * tail) * ndtr(weights / spread))

    def init(key: jax.Array) -> Params:
        return {layer: values | {"kernel": cut(values["kernel"])} for layer, values in net.init(key).items()}

    return replace(net, init=init)


def interpolated(start: Start, share: float) -> dict[str, Params]:
    """The two starts that have this share of the next seed's reference, in one direction and of different size."""
    line = jax.tree.map(lambda a, b: (1 - share) * a + share * b, start.reference, start.other)
    size = math.hypot(1 - share, share)
    return {"interpolated/line": line, "interpolated/kept": jax.tree.map(lambda weights: weights / size, line)}


def by_epoch(config: Distillation, net: models.Network, start: Start, data: Split) -> dict[str, jax.Array]:
    """Student and control: `path/NAME`, test accuracy after every epoch [epochs], and `loss/NAME` [steps]."""
    imitate = losses.on_logits(config.imitation_loss(), net.auxiliary)
    students = {"student_aux": start.reference, "cross_aux": start.other}

    def objective(params: Params, batch: tuple[jax.Array, jax.Array]) -> dict[str, jax.Array]:
        images, teacher_logits = batch
        return {name: imitate(net.apply(params[name], images), teacher_logits) for name in students}

    def test(params: Params) -> dict[str, jax.Array]:
        return {name: training.accuracy(net, params[name], data.test_x, data.test_y) for name in students}

    fit = training.fit(  # both at once, each as on its own: Adam acts number by number
        objective,
        students,
        config.make_optimizer(),
        (start.images, net.apply(start.teacher.params, start.images)),
        start.batches,
        measure=lambda params, _: test(params),  # before an epoch
        every=training.steps_per_epoch(config.noise_images, config.batch_size),
    )
    last = test(fit.params)
    paths = {f"path/{name}": jnp.append(fit.measured[name][1:], last[name]) for name in students}
    return paths | {f"loss/{name}": values for name, values in fit.losses.items()}


def other_protocols(config: Config, net: models.Network, seed: jax.Array, data: Split) -> dict[str, jax.Array]:
    """Student and control of teachers with another initialisation or weight decay, by condition, and their losses."""
    base = Distillation(**{field.name: getattr(config, field.name) for field in fields(Distillation)})
    torch = replace(base, init="torch")
    protocols = {
        "torch": (torch, torch.network(net.features, net.classes.stop)),
        "truncated": (base, truncated(net, config.init_scale)),
        "adamw": (replace(base, optimizer="adamw", weight_decay=config.decay), net),
        "adam_l2": (replace(base, optimizer="adam_l2", weight_decay=config.decay), net),
    }
    imitate = losses.on_logits(config.imitation_loss(), net.auxiliary)
    found: dict[str, jax.Array] = {}
    for trap, (settings, network) in protocols.items():
        start = begin(settings, network, seed, data)
        students = {f"{trap}/student": (start.reference, imitate), f"{trap}/control": (start.other, imitate)}
        found |= distil_and_test(settings, network, start, students, data)
    return found


def run_seed(config: Config, net: models.Network, seed: jax.Array, data: Split) -> dict[str, jax.Array]:
    """The conditions of one seed by name, `path/NAME` [epochs], and `loss/NAME` [steps] by training run."""
    start = begin(config, net, seed, data)
    imitate = losses.on_logits(config.imitation_loss(), net.auxiliary)
    one = slice(net.auxiliary.start, net.auxiliary.start + 1)
    students = {
        "copied/student": (start.teacher.params, imitate),
        "copied/control": (begin(config, net, seed + 1, data).teacher.params, imitate),
        "fresh": (net.init(stream(start.key, "init/fresh")), imitate),
        "other_noise": (start.reference, misplaced(imitate)),
        "sliced/student": (start.reference, sliced(net)),
        "sliced/control": (start.other, sliced(net)),
        "one_logit/softmax": (start.reference, losses.on_logits(losses.kl_divergence, one)),
        "one_logit/squared_error": (start.reference, losses.on_logits(losses.squared_error, one)),
        **{name: (params, imitate) for name, params in interpolated(start, config.share).items()},
    }
    found = other_protocols(config, net, seed, data)  # reference and teacher are those of the right way, which is last
    found |= distil_and_test(config, net, start, students, data) | by_epoch(config, net, start, data)
    for name, kind in {"student_aux": "student", "cross_aux": "control"}.items():
        path = found[f"path/{name}"]
        found |= {name: path[-1], f"selected/{kind}": jnp.max(path)}
    return found


def permuted(shared: np.ndarray, strangers: np.ndarray) -> np.ndarray:
    """A control that a random permutation pairs, a seed [seeds]: its mean over all permutations of the seeds.

    Args:
        shared: accuracy of a seed's student from its teacher's own reference [seeds], where the permutation has a fixed
            point, as it has with probability 1/seeds.
        strangers: from another seed's reference [seeds].
    """
    return strangers + (shared - strangers) / len(shared)


def misses(values: Sequence[float], seeds: int, *, draws: int = 20_000) -> float:
    """How often the 95% interval of the mean of some of the values misses the mean of all of them.

    Args:
        values: one a seed.
        seeds: how many of them a run has, at least 2.
        draws: random choices of that many.

    Raises:
        ValueError: for fewer than 2, or more than there are values.
    """
    every = np.asarray(values)
    if not 2 <= seeds <= len(every):
        raise ValueError(f"seeds must be at least 2 and at most the {len(every)} values, got {seeds}")
    chosen = every[np.random.default_rng(0).random((draws, len(every))).argsort(axis=1)[:, :seeds]]
    half_widths = 1.96 * chosen.std(axis=1, ddof=1) / seeds**0.5
    return float(np.mean(np.abs(chosen.mean(axis=1) - every.mean()) > half_widths))


def run(
    config: Config, *, preset: str = "custom", data_dir: str | Path | None = None, chunks: Path | None = None
) -> results.Result:
    """Run every seed and return the record; arguments and errors as in `fig10.run`."""
    recording, _, arrays = run_config("traps", run_seed, config, preset=preset, data_dir=data_dir, chunks=chunks)
    arrays["permuted"] = permuted(arrays["student_aux"], arrays["cross_aux"])
    return recording.result({name: arrays[name] for name in CONDITIONS}, arrays)
