"""What predicts transfer? One-step quantities and representation measures against accuracy, over many configurations.

Claims: the cosine between the student's initial distillation update and the teacher's total displacement, "coverage",
predicts transfer, Spearman's rho about .95 (Madl, arXiv 2606.22019); so does, over a sweep of initialisations, the CKA
of student and teacher at the last hidden layer, r = .98 (Chauhan and Shah, arXiv 2607.04432; .61 in a replication over
mixed sweeps). CKA is above .9 with and without a shared start, but on the trait's subspace it tells them apart (Okatan
et al., arXiv 2511.01023, abstract). A trait moves by its gain d^T J J^T d / |d|^2, step by step (Liu et al., arXiv
2609.01091).

A *group* fixes what changes shapes or operations; see `changes`. A *configuration* is a seed of a group and draws the
student's learning rate, the scale of the initialisation and of the noise, and the distance d of the student's start
from the reference (`init_distance`, interpolated in all layers): 0 for every second seed. Groups have seeds of their
own, `STRIDE` apart: all configurations are independent, but that the distance leads to the next seed's reference.

Predictors (`PREDICTORS`), D being the displacement of the teacher and G at the reference, on `INPUTS` noise images:

* before the student trains: `coefficient` A = D^T G D; `transfer_ratio` A / |D|^2; `alignment`, the exact first update
  times D, which is A to first order where the start is shared; `coverage`, its cosine with D, and `coverage_optimizer`,
  the same for the step that the optimiser makes of it, both at the student's own start; `coverage_times_rate`, coverage
  times the factor on the learning rate, for a first step says nothing of how far all of them lead; `sigma_star`, the
  distance that the theorem allows, in units of d, and `mismatch` = d / sigma*; `teacher_in_range`, the
  share of |D|^2 in the range of G on as few images as have `ROWS` auxiliary logits (a lower bound for more of them);
* after it: `cka` with the teacher's last hidden layer on the test images; `probe`, test accuracy of a linear classifier
  on the student's; `last_layer_cosine` and `displacement_cosine`, between the displacements of student and teacher in
  that layer and in all; `distillation_loss`, mean over the last epoch; `trait_cka`, where features of both networks are
  projected on the trait's subspace, spanned by the differences of the columns of the teacher's class head; `gain`, of
  the trait's gradient d in the auxiliary logits (J on noise), mean over the student's path, once an epoch;
  `student_in_range`, the share of its squared displacement in the range of G at its own start, on those few images;
* to compare with: the settings drawn, and `random`, a number that means nothing.

Measured is the student's test `accuracy`, and by `predictor` its `value`, Spearman's rho with the accuracy in each
group (`within`; `within_shared` and `within_moved` for the configurations without and with a distance), and rho over
all groups together, with the ends of its 95% interval (`pooled`, by `subset`: `all`, `shared` or `moved`). A rho is
left out where it has no meaning: d does not vary among the shared.

Found (default, 160 configurations; rho within groups, over ten of them): neither .95 nor .98 is reached. The best are
known after training only: displacement cosines .82 and .81, CKA .77, on the trait's subspace .79 ± .07, no better than
CKA within the intervals. Of the one-step quantities coverage is the best, .57, far above the transfer ratio .12, A .12
and sigma* .00; times the learning rate it gives .72. But where the start is shared it says little, .31 ± .15, and the
learning rate alone .58; where the start is at a distance (coverage .63), d alone says more, -.75, and d / sigma* no
more than d, -.67. Of what G's range and its gain say nothing predicts: the teacher's share -.11 ± .16, the gain along
the path .12 ± .13, and the student's share goes the other way, -.49.

The presets `source` and `source_paper` vary the distance of the start alone, at the published network: Madl's .95 is
over starts. His settings are known to us by the abstract only, so that they may differ in more than we know. Found on
the digits (50 seeds): coverage .59, CKA .60, on the trait's subspace .79, d itself -.85. On MNIST (25 seeds) coverage
.82 (.62 to .91), CKA .85 (.64 to .93), on the trait's subspace .87, the displacement cosine .91, d itself -.90: all say
more there, and none more than d.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from scipy import stats

from experiments.distillation import LOSSES, NARROW, Distillation, Rates, Split, Start, begin, trait_loss
from experiments.experiment import Changes, Experiment, Settings, Variable, require_distinct
from experiments.starts import INPUTS, moved, sigma_star_relative
from sublim_theory import geometry, losses, theorem, training
from sublim_theory._types import Params, PerExampleLoss
from sublim_theory.ensemble import seed_key, stream
from sublim_theory.networks import Network
from sublim_theory.protocols import lookup
from sublim_theory.representations import displacements, linear_cka, probe_accuracy
from sublim_theory.statistics import rank_correlation

STRIDE = 10_000
"""From the seeds of one group to those of the next."""

BEFORE = (
    *("coefficient", "transfer_ratio", "alignment", "coverage", "coverage_optimizer", "coverage_times_rate"),
    *("sigma_star", "mismatch", "teacher_in_range"),
)
AFTER = (
    *("cka", "trait_cka", "probe", "last_layer_cosine", "displacement_cosine", "student_in_range", "gain"),
    "distillation_loss",
)
SETTINGS = ("learning_rate", "init_scale", "noise_scale", "distance")
PREDICTORS = (*BEFORE, *AFTER, *SETTINGS, "random")
ROWS = 128
"""Outputs on noise whose gradients span what is seen of the range of G: as many images as have so many logits."""
CUTOFF = 1e-5
"""Eigenvalues of their Gram matrix below this share of the largest are rounding."""
TRAIT_IMAGES = 1024
"""Training images of the trait's gradient along the student's path."""
WITHIN = {"all": "within", "shared": "within_shared", "moved": "within_moved"}


def changes(hidden: tuple[int, ...]) -> dict[str, Changes]:
    """What every group changes, by its name, where the hidden layers of the others are these."""
    return {
        "base": {},
        "auxiliary_10": {"auxiliary": 10},
        "auxiliary_50": {"auxiliary": 50},
        "half_width": {"hidden": tuple(max(1, width // 2) for width in hidden)},
        "one_layer_fewer": {"hidden": hidden[1:]},
        "one_layer_more": {"hidden": (*hidden, hidden[-1])},
        "tanh": {"activation": "tanh"},
        "squared_error": {"loss": "squared_error"},
        "blurred_noise": {"noise": "blurred"},
        "gradient_descent": {"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.9},
        "source": {"distance_alone": True},
    }


GROUPS = tuple(name for name in changes((1,)) if name != "source")
"""The groups of the study; `source`, where the start's distance varies alone, is one of its own."""


@dataclass(frozen=True)
class Protocol(Distillation):
    """Settings of all configurations, and the ranges of those that each draws."""

    groups: tuple[str, ...] = GROUPS
    """Which groups: base, auxiliary_10, auxiliary_50, half_width, one_layer_fewer, one_layer_more, tanh, squared_error,
    blurred_noise, gradient_descent; or source, where the distance of the start varies alone."""
    learning_rates: tuple[float, float] = (0.3, 3.0)
    """Smallest and largest factor on the students' learning rate, log-uniform."""
    init_scales: tuple[float, float] = (0.7, 1.4)
    """The same on the initial weights."""
    noise_scales: tuple[float, float] = (0.5, 2.0)
    """The same on the pixels of the noise."""
    distances: tuple[float, float] = (0.0, 1.0)
    """Smallest and largest distance of those students that start at one, uniform."""
    distance_alone: bool = False
    """Whether every student starts at a distance and the factors are 1; set by the group."""
    offset: int = 0
    """Added to every seed; set by the group."""

    def check(self, rates: Rates) -> None:
        """Check every setting, as those of every distillation are."""
        super().check(rates)
        if not self.hidden:
            raise ValueError("hidden must have at least one layer: there is nothing to compare in a linear model")
        for name in self.groups:
            lookup("group", name, changes(self.hidden))
        require_distinct(self, "groups")
        for name in ("learning_rates", "init_scales", "noise_scales"):
            low, high = getattr(self, name)
            if not 0 < low < high < float("inf"):
                raise ValueError(f"{name} must be two positive numbers, the smaller first, got {(low, high)}")
        low, high = self.distances
        if not 0 <= low < high <= 1:
            raise ValueError(f"distances must be two numbers in [0, 1], the smaller first, got {self.distances}")


def vary(settings: Settings[Protocol, Rates], preset: str) -> dict[str, dict[Any, Changes]]:  # noqa: ARG001
    """What every group changes.

    Raises:
        ValueError: if there are too few seeds to rank, or too many, or too large ones.
    """
    if not 6 <= settings.seeds <= STRIDE:  # three of either start; one seed is what a program is compiled for
        raise ValueError(f"seeds must lie between 6 and {STRIDE} in each group, got {settings.seeds}")
    every = list(changes(settings.protocol.hidden).items())
    settings.but(first_seed=settings.first_seed + STRIDE * (len(every) - 1))  # refuses seeds that are too large
    groups = {name: {"groups": (name,), "offset": STRIDE * i, **change} for i, (name, change) in enumerate(every)}
    return {"group": {name: groups[name] for name in groups if name in settings.protocol.groups}}


_DIGITS = Settings.of(Protocol, Rates, seeds=16, **NARROW | {"noise_images": 10_000})
PRESETS = {
    "smoke": _DIGITS.but(seeds=6, hidden=(32,), noise_images=2048, groups=("base", "auxiliary_10")),
    "default": _DIGITS,
    "paper": Settings.of(Protocol, Rates, seeds=10),
    "source": _DIGITS.but(seeds=50, hidden=(256, 256), groups=("source",)),
    "source_paper": Settings.of(Protocol, Rates, seeds=50, groups=("source",)),
}


def draw(protocol: Protocol, seed: Any) -> dict[str, Any]:
    """What the configuration of a seed draws: factors on three settings, and the distance, scalars."""

    def uniform(name: str, low: float, high: float) -> jax.Array:
        return jax.random.uniform(stream(seed_key(seed), f"predictors/{name}"), (), minval=low, maxval=high)

    factors = {name: jnp.exp(uniform(name, *np.log(getattr(protocol, f"{name}s")))) for name in SETTINGS[:3]}
    distance = uniform("distance", *protocol.distances)
    if protocol.distance_alone:
        factors = dict.fromkeys(factors, jnp.float32(1))
    else:
        distance = jnp.where(seed % 2 == 0, 0.0, distance)
    return factors | {"distance": distance, "random": uniform("random", 0, 1)}


def range_share(
    net: Network, loss: PerExampleLoss, params: Params, displacement: Params, images: jax.Array
) -> jax.Array:
    """Share of `|displacement|^2` in the range of G at `params` on some images, a scalar in [0, 1] up to rounding.

    The range of G = E[J^T M J] is spanned by the rows of M J, of which no more than one is held at a time: what the
    displacement has in it follows from the products with the rows and from their Gram matrix.
    """
    z, pull_back = jax.vjp(lambda theta: net.apply(theta, images), params)

    def seen(vector: Params) -> jax.Array:  # M J v
        _, u = jax.jvp(lambda theta: net.apply(theta, images), (params,), (vector,))
        return geometry.hessian_product(loss, z, z, u)[:, net.auxiliary].ravel()

    def row(one: jax.Array) -> Params:  # J^T M e
        weights = jnp.zeros_like(z).at[:, net.auxiliary].set(one.reshape(len(z), -1))
        return pull_back(geometry.hessian_product(loss, z, z, weights))[0]

    products = seen(displacement)
    gram = jax.lax.map(lambda one: seen(row(one)), jnp.eye(products.size, dtype=products.dtype))
    values, vectors = jnp.linalg.eigh((gram + gram.T) / 2)
    kept = values > CUTOFF * values[-1]
    parts = jnp.square(jnp.matmul(vectors.T, products, precision=jax.lax.Precision.HIGHEST))
    inside = jnp.sum(jnp.where(kept, parts / jnp.where(kept, values, 1), 0))
    return geometry.quotient(inside, optax.tree.vdot(displacement, displacement))


def few(net: Network, start: Start) -> jax.Array:
    """The images on which `range_share` sees the range of G."""
    return start.images[: max(1, ROWS // (net.auxiliary.stop - net.auxiliary.start))]


def gain(net: Network, params: Params, direction: Params, images: jax.Array) -> jax.Array:
    """`d^T E[J^T J] d / |d|^2`, J of the auxiliary logits: how strongly a direction shows in what is imitated."""
    squares = losses.on_logits(losses.squared_error, net.auxiliary)  # its Hessian is 2
    return theorem.first_order(net.apply, squares, params, direction, images).transfer_ratio(0.5)


def trait_features(net: Network, features: jax.Array, teacher: Params) -> jax.Array:
    """Features [images, width] of the last hidden layer on an orthonormal basis of what the teacher's class head reads.

    The basis spans the differences of the columns of its kernel: what is common to all classes decides nothing.
    """
    kernel = teacher[net.class_head]["kernel"]
    basis, _ = jnp.linalg.qr(kernel[:, 1:] - kernel[:, :1])
    return jnp.matmul(features, basis, precision=jax.lax.Precision.HIGHEST)


def before_training(
    net: Network,
    start: Start,
    own: Params,
    drawn: Mapping[str, Any],
    loss: PerExampleLoss,
    optimizer: optax.GradientTransformation,
) -> dict[str, jax.Array]:
    """The predictors `BEFORE`, of a student that starts at `own`. float32 will do: no small difference is taken."""
    displacement = optax.tree.sub(start.teacher.params, start.reference)
    images = start.images[:INPUTS]
    law = theorem.first_order(net.apply, loss, start.reference, displacement, images)
    update = theorem.imitation_update(net.apply, loss, own, start.teacher.params, images)
    step, _ = optimizer.update(optax.tree.scale(-1, update), optimizer.init(own), own)
    sigma_star = sigma_star_relative(net, start, loss, ("all",))["all"]
    coverage = geometry.cosine(update, displacement)
    return {
        "coefficient": law.coefficient,
        "transfer_ratio": law.transfer_ratio(),
        "alignment": optax.tree.vdot(update, displacement),
        "coverage": coverage,
        "coverage_optimizer": geometry.cosine(step, displacement),
        "coverage_times_rate": drawn["learning_rate"] * coverage,
        "sigma_star": sigma_star,
        "mismatch": drawn["distance"] / sigma_star,
        "teacher_in_range": range_share(net, loss, start.reference, displacement, few(net, start)),
    }


def after_training(
    net: Network, start: Start, own: Params, student: Params, loss: PerExampleLoss, data: Split
) -> dict[str, jax.Array]:
    """The predictors `AFTER` but for those of its path, of a student that went from `own` to `student`."""
    last = net.layers("body")[-1]
    displacement = optax.tree.sub(start.teacher.params, start.reference)
    went = optax.tree.sub(student, own)
    features = net.hidden(student, data.test_x)[-1]
    train_features = net.hidden(student, data.train_x)[-1]
    teacher = start.teacher.params
    theirs = net.hidden(teacher, data.test_x)[-1]
    return {
        "cka": linear_cka(features, theirs),
        "trait_cka": linear_cka(*(trait_features(net, each, teacher) for each in (features, theirs))),
        "probe": probe_accuracy(train_features, data.train_y, features, data.test_y, net.classes.stop),
        "last_layer_cosine": displacements(went, displacement)[last].cosine,
        "displacement_cosine": geometry.cosine(went, displacement),
        "student_in_range": range_share(net, loss, own, went, few(net, start)),
    }


def distil(
    net: Network,
    start: Start,
    own: Params,
    loss: PerExampleLoss,
    optimizer: optax.GradientTransformation,
    data: Split,
    every: int,
) -> training.Fit:
    """The student that starts at `own`, and before every so many updates the gain of the trait's gradient there."""
    trait = jax.grad(trait_loss(net, data, TRAIT_IMAGES))

    def measure(params: Params, _: Params) -> jax.Array:
        return gain(net, params["student"], trait(params["student"]), start.images[:INPUTS])

    task = start.teacher.params, {"student": (own, loss)}, start.images, optimizer, start.batches
    return training.distil(net, *task, measure=measure, every=every)


def prepare(
    protocol: Protocol, rates: Rates, data: Split, seed: Any, drawn: Mapping[str, Any]
) -> tuple[Start, Params, Rates]:
    """What a seed has before its student, where the student starts, and the rates of its training."""
    scaled = {name: drawn[name] * getattr(rates, name) for name in SETTINGS[:3]}
    theirs = replace(rates, **scaled)
    start = begin(protocol, replace(theirs, learning_rate=rates.learning_rate), data, seed)
    net = protocol.make_network(rates, data)
    return start, moved(net, start, "interpolated", "all", drawn["distance"]), theirs


def run_seed(protocol: Protocol, rates: Rates, data: Split, seed: Any) -> dict[str, Any]:
    """One configuration: what it draws, its student, and the value of every predictor."""
    seed = seed + protocol.offset
    drawn = draw(protocol, seed)
    start, own, theirs = prepare(protocol, rates, data, seed, drawn)
    net, optimizer = protocol.make_network(theirs, data), protocol.make_optimizer(theirs)
    loss = losses.on_logits(protocol.imitation_loss(theirs), net.auxiliary)
    epoch = training.steps_per_epoch(protocol.noise_images, protocol.batch_size)
    fit = distil(net, start, own, loss, optimizer, data, epoch)
    student, path = fit.params["student"], fit.losses["student"]
    values = before_training(net, start, own, drawn, loss, optimizer)
    values |= after_training(net, start, own, student, loss, data)
    values |= {"distillation_loss": jnp.mean(path[-epoch:]), "gain": jnp.mean(fit.measured)}
    return {
        "accuracy": training.accuracy(net, student, data.test_x, data.test_y),
        "teacher_accuracy": training.accuracy(net, start.teacher.params, data.test_x, data.test_y),
        "value": values | drawn,
        "own_seed": seed,
        "teacher_loss": start.teacher.losses,
        "student_loss": path,
    }


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rho, NaN where x or y does not vary."""
    return float(stats.spearmanr(x, y).statistic) if len(x) and np.ptp(x) and np.ptp(y) else np.nan


def correlations(value: xr.DataArray, accuracy: xr.DataArray) -> dict[str, xr.DataArray]:
    """Spearman's rho of every predictor [group, predictor, seed] with the accuracy [group, seed], NaN without meaning.

    Returns:
        `within`, `within_shared` and `within_moved`, by predictor and group, and `pooled`, by subset and predictor.
    """
    x, y = value.transpose("predictor", "group", "seed").values, accuracy.values
    shared = value.sel(predictor="distance").values == 0
    found, pooled = {}, []
    for name, chosen in zip(WITHIN.values(), (np.full_like(shared, True), shared, ~shared), strict=True):
        rho = [[spearman(each[g][rows], y[g][rows]) for g, rows in enumerate(chosen)] for each in x]
        found[name] = xr.DataArray(rho, {"predictor": value["predictor"], "group": value["group"]})
        known = [np.isfinite(row).any() for row in rho]
        every = [rank_correlation(each[chosen], y[chosen]) if ok else None for each, ok in zip(x, known, strict=True)]
        pooled.append([(each.rho, each.low, each.high) if each else (np.nan,) * 3 for each in every])
    axes = {"subset": list(WITHIN), "predictor": value["predictor"].values, "end": ["rho", "low", "high"]}
    return found | {"pooled": xr.DataArray(pooled, axes)}


EXPERIMENT = Experiment(
    name="predictors",
    summary="What predicts transfer: one-step quantities and representations against accuracy, by rank",
    presets=PRESETS,
    run_seed=run_seed,
    axes=lambda _: {"predictor": PREDICTORS},
    variables={
        "accuracy": Variable(condition="accuracy/{group}"),
        **{name: Variable(("predictor",), condition=f"{name}/{{predictor}}", over="group") for name in WITHIN.values()},
        "value": Variable(("predictor",)),
        "teacher_accuracy": Variable(),
        "own_seed": Variable(),
        "pooled": Variable(("subset", "predictor"), ("end",)),
        "teacher_loss": LOSSES["teacher_loss"],
        "student_loss": Variable(inner=("step",), loss=True),
    },
    conclude=lambda _, table: correlations(table["value"], table["accuracy"]),
    vary=vary,
    point="",
)
