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

Conditions: `accuracy/GROUP`, the student's test accuracy, one value a configuration; `within/PREDICTOR`, Spearman's
rho with it in each group, one value a group, and `within_shared/`, `within_moved/` for the configurations without and
with a distance. Arrays: `pooled/SUBSET/PREDICTOR`, rho over all groups together and the ends of its 95% interval, with
SUBSET `all`, `shared` or `moved`; and everything they are made of, [groups, configurations]: `accuracy`, `teacher`,
`seed` and `value/PREDICTOR`. A rho is left out where it has no meaning: d does not vary among the shared.

Found (default, 250 configurations; in brackets others, `--first-seed 1000`): neither .95 nor .98 is reached. Pooled,
the best are known after training only: displacement cosines .80 and .81 (.86, .87), CKA .80 (.83; in single groups .69
to .88). Of the one-step quantities coverage is the best, .63 (.74), far above the transfer ratio .32 (.08), A .27 (.03)
and sigma* .02 (.13). But within a group, where the start is shared, it says little, .22 +- .17 (.21), and the learning
rate alone .66 (.65); where the start is at a distance, d alone says as much, -.73 (-.75), and d / sigma* no more, -.66
(-.67). Coverage times the learning rate, thought of after the first 250 and confirmed by the others, gives .74 (.82),
and within groups with a shared start .69 (.72).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import stats

from experiments.distillation import NARROW, Distillation, Split, Start, begin, run_config
from experiments.init_distance import INPUTS, moved, sigma_star_relative
from experiments.recording import total_times
from sublim_theory import geometry, losses, models, results, theorem, training
from sublim_theory._types import Params, PerExampleLoss
from sublim_theory.ensemble import Arrays, seed_key, stream
from sublim_theory.protocols import lookup
from sublim_theory.representations import displacements, linear_cka, probe_accuracy
from sublim_theory.statistics import rank_correlation

STRIDE = 10_000
"""From the seeds of one group to those of the next."""

BEFORE = (
    "coefficient",
    "transfer_ratio",
    "alignment",
    "coverage",
    "coverage_optimizer",
    "coverage_times_rate",
    "sigma_star",
    "mismatch",
)
AFTER = ("cka", "probe", "last_layer_cosine", "displacement_cosine", "distillation_loss")
SETTINGS = ("learning_rate", "init_scale", "noise_scale", "distance")
PREDICTORS = (*BEFORE, *AFTER, *SETTINGS, "random")


def changes(hidden: tuple[int, ...]) -> dict[str, dict[str, Any]]:
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
class Config(Distillation):
    """Settings of all configurations, and the ranges of those that each draws."""

    seeds: int = 10
    """Configurations of each group."""
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

    def __post_init__(self) -> None:
        """Check every setting, as the settings of every distillation are."""
        super().__post_init__()
        if not self.hidden:
            raise ValueError("hidden must have at least one layer: there is nothing to compare in a linear model")
        for name in self.groups:
            lookup("group", name, changes(self.hidden))
        self.require_distinct("groups")
        for name in ("learning_rates", "init_scales", "noise_scales"):
            low, high = getattr(self, name)
            if not 0 < low < high < float("inf"):
                raise ValueError(f"{name} must be two positive numbers, the smaller first, got {(low, high)}")
        low, high = self.distances
        if not 0 <= low < high <= 1:
            raise ValueError(f"distances must be two numbers in [0, 1], the smaller first, got {self.distances}")

    def by_group(self) -> dict[str, "Config"]:
        """The settings of each group.

        Raises:
            ValueError: if there are too few seeds to rank, or too many; where a group's change does not fit.
        """
        if not 6 <= self.seeds <= STRIDE:  # three of either start; one seed is what a program is compiled for
            raise ValueError(f"seeds must lie between 6 and {STRIDE} in each group, got {self.seeds}")
        every = changes(self.hidden)
        return {
            name: replace(self, groups=(name,), first_seed=self.first_seed + STRIDE * [*every].index(name), **change)
            for name, change in every.items()
            if name in self.groups
        }


_DIGITS = Config(seeds=25, **NARROW | {"noise_images": 10_000})
PRESETS = {
    "smoke": replace(_DIGITS, seeds=6, hidden=(32,), noise_images=2048, groups=("base", "auxiliary_10")),
    "default": _DIGITS,
    "paper": Config(),
}


def draw(config: Config, seed: jax.Array) -> dict[str, Any]:
    """What the configuration of a seed draws: factors on three settings, and the distance, scalars."""

    def uniform(name: str, low: float, high: float) -> jax.Array:
        return jax.random.uniform(stream(seed_key(seed), f"predictors/{name}"), (), minval=low, maxval=high)

    ranges = {
        "learning_rate": config.learning_rates,
        "init_scale": config.init_scales,
        "noise_scale": config.noise_scales,
    }
    factors = {name: jnp.exp(uniform(name, *np.log(limits))) for name, limits in ranges.items()}
    distance = jnp.where(seed % 2 == 0, 0.0, uniform("distance", *config.distances))
    return factors | {"distance": distance, "random": uniform("random", 0, 1)}


def before_training(
    config: Config, net: models.Network, start: Start, own: Params, drawn: Mapping[str, Any], loss: PerExampleLoss
) -> dict[str, jax.Array]:
    """The predictors `BEFORE`, of a student that starts at `own`. float32 will do: no small difference is taken."""
    displacement = optax.tree.sub(start.teacher.params, start.reference)
    images, optimizer = start.images[:INPUTS], config.make_optimizer()
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


def after_training(
    net: models.Network, start: Start, own: Params, student: Params, data: Split
) -> dict[str, jax.Array]:
    """The predictors `AFTER` but for the loss, of a student that went from `own` to `student`."""
    last = max(name for name in own if name.startswith("hidden_"))
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


def run_seed(config: Config, net: models.Network, seed: jax.Array, data: Split) -> dict[str, jax.Array]:
    """One configuration: `accuracy`, `teacher`, the predictors by name, and `loss/RUN` [steps]."""
    drawn = draw(config, seed)
    settings = {name: drawn[name] * getattr(config, name) for name in ("learning_rate", "init_scale", "noise_scale")}
    theirs = config.with_numbers(settings)
    teachers = theirs.with_numbers({"learning_rate": config.learning_rate})
    net = theirs.network(net.features, net.classes.stop)
    start = begin(teachers, net, seed, data)
    own = moved(start, "interpolated", "all", drawn["distance"])
    loss = losses.on_logits(config.imitation_loss(), net.auxiliary)
    fit = training.distil(
        net, start.teacher.params, {"student": (own, loss)}, start.images, theirs.make_optimizer(), start.batches
    )
    student, path = fit.params["student"], fit.losses["student"]
    epoch = training.steps_per_epoch(config.noise_images, config.batch_size)
    networks = {"accuracy": student, "teacher": start.teacher.params}
    found = {name: training.accuracy(net, params, data.test_x, data.test_y) for name, params in networks.items()}
    found |= before_training(theirs, net, start, own, drawn, loss)
    found |= after_training(net, start, own, student, data) | {"distillation_loss": jnp.mean(path[-epoch:])}
    return found | drawn | {"loss/teacher": start.teacher.losses, "loss/student": path}


def correlations(values: Arrays, accuracy: np.ndarray) -> tuple[Arrays, Arrays]:
    """Spearman's rho of every predictor [groups, configurations] with the accuracy.

    Returns:
        In each group, `within/PREDICTOR` [groups where it has a meaning], also `within_shared/` and `within_moved/`;
        and over all groups together, `pooled/SUBSET/PREDICTOR` [rho, low, high].
    """
    shared = values["distance"] == 0
    within, pooled = {}, {}
    for subset, chosen in {"all": shared | True, "shared": shared, "moved": ~shared}.items():
        for name, x in values.items():
            by_group = [(x[g][rows], accuracy[g][rows]) for g, rows in enumerate(chosen)]
            found = [float(stats.spearmanr(*pair).statistic) for pair in by_group if all(map(np.ptp, pair))]
            if found:
                within[f"within/{name}" if subset == "all" else f"within_{subset}/{name}"] = np.array(found)
                row = rank_correlation(x[chosen], accuracy[chosen])
                pooled[f"pooled/{subset}/{name}"] = np.array([row.rho, row.low, row.high])
    return within, pooled


def run(
    config: Config, *, preset: str = "custom", data_dir: str | Path | None = None, chunks: Path | None = None
) -> results.Result:
    """Run every configuration of every group and return the record; arguments and errors as in `fig10.run`."""
    configs = config.by_group()
    options: dict[str, Any] = {"data_dir": data_dir, "chunks": chunks}
    runs = {
        group: run_config("predictors", run_seed, each, preset=f"{preset} {group}", **options)
        for group, each in configs.items()
    }
    every = [arrays for _, _, arrays in runs.values()]
    values = {name: np.stack([arrays[name] for arrays in every]) for name in PREDICTORS}
    accuracy, teacher = (np.stack([arrays[name] for arrays in every]) for name in ("accuracy", "teacher"))
    seeds = np.array([recording.seeds for recording, _, _ in runs.values()])
    within, pooled = correlations(values, accuracy)
    # One record of many: the first group's, which has run from the start until now, with the times of all.
    parts = [recording.result({}, {}).provenance for recording, _, _ in runs.values()]
    first = next(iter(runs.values()))[0].result(
        {f"accuracy/{group}": row for group, row in zip(runs, accuracy, strict=True)} | within,
        {"accuracy": accuracy, "teacher": teacher, "seed": seeds}
        | {f"value/{name}": array for name, array in values.items()}
        | pooled,
    )
    return replace(
        first,
        preset=preset,
        config=asdict(config) | {"groups": list(configs)},
        provenance=first.provenance | total_times(parts),
    )
