"""What predicts transfer? One-step quantities and representation measures against accuracy, over many configurations.

Claims: the cosine between the student's initial distillation update and the teacher's total displacement, "coverage",
predicts transfer, Spearman's rho about .95 (Madl, arXiv 2606.22019); so does, over a sweep of initialisations, the CKA
of student and teacher at the last hidden layer, r = .98 (Chauhan and Shah, arXiv 2607.04432; .61 in a replication over
mixed sweeps).

A *group* fixes what changes shapes or operations; see `changes`. A *configuration* is a seed of a group and draws the
student's learning rate, the scale of the initialisation and of the noise, and the distance d of the student's start
from the reference (`init_distance`, interpolated in all layers): 0 for every second seed. Groups have seeds of their
own, `STRIDE` apart: all configurations are independent, but that the distance leads to the next seed's reference.

Predictors (`PREDICTORS`), D being the displacement of the teacher and G at the reference, on `INPUTS` noise images:

* before the student trains: `coefficient` A = D^T G D; `transfer_ratio` A / |D|^2; `alignment`, the exact first update
  times D, which is A to first order where the start is shared; `coverage`, its cosine with D, and `coverage_optimizer`,
  the same for the step that the optimiser makes of it, both at the student's own start; `coverage_times_rate`, coverage
  times the factor on the learning rate, for a first step says nothing of how far all of them lead; `sigma_star`, the
  distance that the theorem allows, in units of d, and `mismatch` = d / sigma*;
* after it: `cka` with the teacher's last hidden layer on the test images; `probe`, test accuracy of a linear classifier
  on the student's; `last_layer_cosine` and `displacement_cosine`, between the displacements of student and teacher in
  that layer and in all; `distillation_loss`, mean over the last epoch;
* to compare with: the settings drawn, and `random`, a number that means nothing.

Measured is the student's test `accuracy`, and by `predictor` its `value`, Spearman's rho with the accuracy in each
group (`within`; `within_shared` and `within_moved` for the configurations without and with a distance), and rho over
all groups together, with the ends of its 95% interval (`pooled`, by `subset`: `all`, `shared` or `moved`). A rho is
left out where it has no meaning: d does not vary among the shared.

Found (default, 250 configurations; in brackets others, `--first-seed 1000`): neither .95 nor .98 is reached. Pooled,
the best are known after training only: displacement cosines .80 and .81 (.86, .87), CKA .80 (.83; in single groups .69
to .88). Of the one-step quantities coverage is the best, .63 (.74), far above the transfer ratio .32 (.08), A .27 (.03)
and sigma* .02 (.13). But within a group, where the start is shared, it says little, .22 +- .17 (.21), and the learning
rate alone .66 (.65); where the start is at a distance, d alone says as much, -.73 (-.75), and d / sigma* no more, -.66
(-.67). Coverage times the learning rate, thought of after the first 250 and confirmed by the others, gives .74 (.82),
and within groups with a shared start .69 (.72).
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

from experiments.distillation import LOSSES, NARROW, Distillation, Rates, Split, Start, begin
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
    *("sigma_star", "mismatch"),
)
AFTER = ("cka", "probe", "last_layer_cosine", "displacement_cosine", "distillation_loss")
SETTINGS = ("learning_rate", "init_scale", "noise_scale", "distance")
PREDICTORS = (*BEFORE, *AFTER, *SETTINGS, "random")
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
    }


@dataclass(frozen=True)
class Protocol(Distillation):
    """Settings of all configurations, and the ranges of those that each draws."""

    groups: tuple[str, ...] = tuple(changes((1,)))
    """Which groups: base, auxiliary_10, auxiliary_50, half_width, one_layer_fewer, one_layer_more, tanh, squared_error,
    blurred_noise, gradient_descent."""
    learning_rates: tuple[float, float] = (0.3, 3.0)
    """Smallest and largest factor on the students' learning rate, log-uniform."""
    init_scales: tuple[float, float] = (0.7, 1.4)
    """The same on the initial weights."""
    noise_scales: tuple[float, float] = (0.5, 2.0)
    """The same on the pixels of the noise."""
    distances: tuple[float, float] = (0.0, 1.0)
    """Smallest and largest distance of those students that start at one, uniform."""
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


_DIGITS = Settings.of(Protocol, Rates, seeds=25, **NARROW | {"noise_images": 10_000})
PRESETS = {
    "smoke": _DIGITS.but(seeds=6, hidden=(32,), noise_images=2048, groups=("base", "auxiliary_10")),
    "default": _DIGITS,
    "paper": Settings.of(Protocol, Rates, seeds=10),
}


def draw(protocol: Protocol, seed: Any) -> dict[str, Any]:
    """What the configuration of a seed draws: factors on three settings, and the distance, scalars."""

    def uniform(name: str, low: float, high: float) -> jax.Array:
        return jax.random.uniform(stream(seed_key(seed), f"predictors/{name}"), (), minval=low, maxval=high)

    factors = {name: jnp.exp(uniform(name, *np.log(getattr(protocol, f"{name}s")))) for name in SETTINGS[:3]}
    distance = jnp.where(seed % 2 == 0, 0.0, uniform("distance", *protocol.distances))
    return factors | {"distance": distance, "random": uniform("random", 0, 1)}


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
    }


def after_training(net: Network, start: Start, own: Params, student: Params, data: Split) -> dict[str, jax.Array]:
    """The predictors `AFTER` but for the loss, of a student that went from `own` to `student`."""
    last = net.layers("body")[-1]
    displacement = optax.tree.sub(start.teacher.params, start.reference)
    went = optax.tree.sub(student, own)
    features = net.hidden(student, data.test_x)[-1]
    train_features = net.hidden(student, data.train_x)[-1]
    return {
        "cka": linear_cka(features, net.hidden(start.teacher.params, data.test_x)[-1]),
        "probe": probe_accuracy(train_features, data.train_y, features, data.test_y, net.classes.stop),
        "last_layer_cosine": displacements(went, displacement)[last].cosine,
        "displacement_cosine": geometry.cosine(went, displacement),
    }


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
    fit = training.distil(net, start.teacher.params, {"student": (own, loss)}, start.images, optimizer, start.batches)
    student, path = fit.params["student"], fit.losses["student"]
    epoch = training.steps_per_epoch(protocol.noise_images, protocol.batch_size)
    values = before_training(net, start, own, drawn, loss, optimizer) | after_training(net, start, own, student, data)
    return {
        "accuracy": training.accuracy(net, student, data.test_x, data.test_y),
        "teacher_accuracy": training.accuracy(net, start.teacher.params, data.test_x, data.test_y),
        "value": values | drawn | {"distillation_loss": jnp.mean(path[-epoch:])},
        "own_seed": seed,
        "teacher_loss": start.teacher.losses,
        "student_loss": path,
    }


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rho, NaN where x or y does not vary."""
    return float(stats.spearmanr(x, y).statistic) if np.ptp(x) and np.ptp(y) else np.nan


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
