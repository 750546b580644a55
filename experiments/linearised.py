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

Three models of the student on auxiliary logits, from the same start, on the same noise in the same order, under the
same rule: `real`; `linearised`, on the real teacher's logits; `first_order`, linearised, on the labels f(theta0) +
J (theta_T - theta0), so that the teacher's change is to first order too: the theorem's own model. Rules: `adam`, the
config's optimiser; `sgd`, on the same batches; `full_batch`, gradient descent on some of the noise at once. The rate of
the last two is inversely proportional to the width, for the kernel J J^T grows with it. The teacher is that of fig10.

Conditions: test accuracy of `WIDTH/reference`, `WIDTH/teacher` and `WIDTH/RULE/MODEL`, the linear ones judged by their
own, linear outputs; `placed/WIDTH/RULE/MODEL`, accuracy of the real network with the parameters that a model predicts;
`agreement/WIDTH/RULE/MODEL`, share of test images to which a model gives the real student's class, beside that for
the untrained `reference`, a student that has not moved; `displacement_error/...`, the distance from the real student's
parameters over the distance these have moved, 1 for one that has not moved; `displacement_cosine/...` of the two
displacements. Arrays also: `displacement_size/WIDTH/RULE/MODEL` over the norm of the reference; `loss/...`.

Literature: networks train like linear ones in the limit of width, at fixed function-space speed (Jacot et al., arXiv
1806.07572; Lee et al., arXiv 1902.06720). Adam with a fixed rate is not in that limit: it moves every weight by about
the rate, however many there are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

from experiments.distillation import Distillation, Split, begin, run_config
from sublim_theory import geometry, losses, models, optimizers, results, training
from sublim_theory._types import Params
from sublim_theory.training import Schedule, Student

RULES = ("adam", "sgd", "full_batch")
PREDICTIONS = ("linearised", "first_order")
MODELS = ("real", *PREDICTIONS)


@dataclass(frozen=True)
class Config(Distillation):
    """Settings of the widths, and of the rules beside the config's own optimiser."""

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

    def __post_init__(self) -> None:
        """Check every setting, as those of every distillation are.

        Raises:
            ValueError: naming the setting, its value and what it may be.
        """
        super().__post_init__()
        self.require_counts("full_batch_images", "full_batch_steps")
        if not self.widths or len(set(self.widths)) < len(self.widths) or min(self.widths) < 1:
            raise ValueError(f"widths must be at least one positive number, each once; got {self.widths}")
        if not self.hidden:
            raise ValueError("hidden must have at least one layer: a linear model is its own linearisation")
        if self.full_batch_images > self.noise_images:
            raise ValueError(
                f"full_batch_images {self.full_batch_images} must not exceed noise_images {self.noise_images}"
            )
        if not 0 < self.sgd_learning_rate < float("inf"):
            raise ValueError(f"sgd_learning_rate must be positive and finite, got {self.sgd_learning_rate}")

    def rules(self, width: int) -> dict[str, optax.GradientTransformation]:
        """The optimisers of a width, by rule."""
        descent = optimizers.optimizer("sgd", self.sgd_learning_rate / width)
        return {"adam": self.make_optimizer(), "sgd": descent, "full_batch": descent}


_DIGITS = Config(dataset="digits", seeds=5, learning_rate=1e-3, batch_size=64, teacher_epochs=20, student_epochs=8)
_SHORT = replace(_DIGITS, full_batch_images=64, full_batch_steps=60, teacher_epochs=4, student_epochs=2)
PRESETS = {
    "smoke": replace(_SHORT, seeds=2, hidden=(16,), widths=(8, 16), noise_images=1024),
    "default": replace(_DIGITS, widths=(32, 64, 128, 256), noise_images=8192, full_batch_images=256),
    "paper": Config(seeds=5),
}


def linearised(net: models.Network, reference: Params) -> models.Network:
    """The first-order model of a network at `reference`, its `hidden` too: a network like any other, trained like one.

    Its `init` is that of `net`.
    """
    return replace(
        net, apply=geometry.linearize(net.apply, reference), hidden=geometry.linearize(net.hidden, reference)
    )


def run_seed(config: Config, net: models.Network, seed: jax.Array, data: Split) -> dict[str, jax.Array]:
    """One seed: the conditions and sizes of the module's docstring, scalars, and `loss/RUN` [steps]."""
    found: dict[str, jax.Array] = {}
    every = jnp.arange(config.full_batch_images, dtype=jnp.int32)
    shape = (config.full_batch_steps, config.full_batch_images)
    whole = Schedule(jnp.broadcast_to(every, shape), jnp.ones(shape, jnp.float32))
    noise: tuple[jax.Array, Schedule] | None = None
    for width in config.widths:
        sized = config.network(net.features, net.classes.stop, hidden=(width,) * len(config.hidden))
        start = begin(config, sized, seed, data)
        images, batches = noise = noise or (start.images, start.batches)  # the same at every width: draw them once
        found |= {f"loss/{width}/teacher": start.teacher.losses}
        for name, params in {"reference": start.reference, "teacher": start.teacher.params}.items():
            found[f"{width}/{name}"] = training.accuracy(sized, params, data.test_x, data.test_y)
        for rule, optimizer in config.rules(width).items():
            seen = (images[: len(every)], whole) if rule == "full_batch" else (images, batches)
            fit = train(config, sized, start.reference, start.teacher.params, optimizer, *seen)
            found |= {f"loss/{width}/{rule}/{model}": values for model, values in fit.losses.items()}
            compared = compare(sized, start.reference, fit.params, data).items()
            found |= {"/".join(filter(None, (what, f"{width}/{rule}", model))): v for (what, model), v in compared}
    return found


def train(
    config: Config,
    net: models.Network,
    reference: Params,
    teacher: Params,
    optimizer: optax.GradientTransformation,
    images: jax.Array,
    batches: Schedule,
) -> training.Fit:
    """The three models of the student under one rule."""
    linear = linearised(net, reference)
    imitate = losses.on_logits(config.imitation_loss(), net.auxiliary)

    def student(own: models.Network, labels: int) -> Student:
        return Student(reference, lambda logits, both: imitate(logits, jnp.split(both, 2, axis=-1)[labels]), net=own)

    def teach(params: Params, x: jax.Array) -> jax.Array:
        return jnp.concatenate([net.apply(params, x), linear.apply(params, x)], axis=-1)

    students = {"real": student(net, 0), "linearised": student(linear, 0), "first_order": student(linear, 1)}
    return training.distil(replace(net, apply=teach), teacher, students, images, optimizer, batches)


def compare(
    net: models.Network, reference: Params, trained: Mapping[str, Params], data: Split
) -> dict[tuple[str, str], jax.Array]:
    """What the trained models do, and how near the predictions are to the real student, by quantity and model."""
    linear = linearised(net, reference)
    nets = dict.fromkeys(PREDICTIONS, linear) | {"real": net}
    moved = {name: optax.tree.sub(params, reference) for name, params in trained.items()}
    real = jnp.argmax(net.class_logits(net.apply(trained["real"], data.test_x)), axis=-1)
    found = {("", name): training.accuracy(nets[name], trained[name], data.test_x, data.test_y) for name in MODELS}
    found["agreement", "reference"] = training.accuracy(net, reference, data.test_x, real)
    for name in PREDICTIONS:
        apart = optax.tree.sub(moved[name], moved["real"])
        found["placed", name] = training.accuracy(net, trained[name], data.test_x, data.test_y)
        found["agreement", name] = training.accuracy(linear, trained[name], data.test_x, real)
        found["displacement_error", name] = geometry.norm(apart) / geometry.norm(moved["real"])
        found["displacement_cosine", name] = geometry.cosine(moved[name], moved["real"])
    sizes = {name: geometry.norm(moved[name]) / geometry.norm(reference) for name in MODELS}
    return found | {("displacement_size", name): size for name, size in sizes.items()}


def run(
    config: Config, *, preset: str = "custom", data_dir: str | Path | None = None, chunks: Path | None = None
) -> results.Result:
    """Run every seed and return the record; arguments and errors as in `fig10.run`."""
    recording, _, arrays = run_config("linearised", run_seed, config, preset=preset, data_dir=data_dir, chunks=chunks)
    apart = ("loss/", "displacement_size/")
    names = [name for width in config.widths for name in arrays if f"/{width}/" in f"/{name}"]
    return recording.result({name: arrays[name] for name in names if not name.startswith(apart)}, arrays)
