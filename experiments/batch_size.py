"""Does a larger batch transfer less, or do fewer updates? Batch sizes at equal epochs and at equal updates, and rates.

Claim (a replication): at equal epochs transfer falls with the size of the batch, and it has a maximum over the learning
rate. At equal epochs a larger batch makes fewer updates, so the first says nothing of the batch yet.

Found (default, 5 seeds): it is the number of updates. At equal epochs batches of 32, 128, 512, 2048 and 8192 give .84,
.75, .43, .22 and .16, untrained .11; at equal updates the order turns round, to .60, .75 and .79 for 32, 128 and 512
(each step is more than the 95% interval of the paired difference). So a large batch is better for transfer, update for
update, and loses because it makes fewer of them. Whether it is better for its smaller noise or for showing more images
is not separated: at equal updates the batch of 32 sees each image about twice, that of 512 each about 31 times. Over
the learning rate there is a maximum: .23, .41, .75, .83 and .60 at 1e-4, 3e-4, 1e-3, 3e-3 and 1e-2.

Found (paper, 5 seeds): the same on MNIST. At equal epochs .78, .69, .51, .28 and .13 at 64, 256, 1024, 4096 and 16384;
at equal updates .21, .37, .51 and .59 for the first four. Over the learning rate .26, .51, .65, .26 and .09.

Literature: MNIST, N = 25, equal epochs: .751, .683, .551, .352 and .177 at batches of 64, 256, 1024, 4096 and 16384;
.318, .551, .702, .293 and .099 at the rates 1e-4, 3e-4, 1e-3, 3e-3 and 1e-2.

All students imitate the auxiliary logits of one teacher on one noise set, from the teacher's own reference; the teacher
has the batch size and the learning rate of the protocol whatever its students have.

* `equal_epochs/BATCH`: the protocol's passes over the noise: so many images seen, and fewer updates of larger batches.
* `equal_updates/BATCH`: the protocol's number of updates: a small batch then sees fewer images, perhaps not all of them
  once; a large one sees them all many times.
* `rate/RATE`: the protocol's batch size and epochs at another learning rate.

Measured is test `accuracy` by `network`, `batch_accuracy` by `at_equal` and `batch`, `rate_accuracy` by `rate`, and by
`student` its `student_loss`, the mean over its last updates, a tenth of them. `updates` and `passes` over the noise, by
`at_equal` and `batch`, are counts.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import xarray as xr

from experiments.distillation import LOSSES, NARROW, Distillation, Rates, Split, begin
from experiments.experiment import Experiment, Settings, Variable, require_distinct
from sublim_theory import losses, training
from sublim_theory._types import Params
from sublim_theory.data import Dataset
from sublim_theory.ensemble import stream
from sublim_theory.protocols import require_count, require_positive

AT_EQUAL = ("epochs", "updates")


@dataclass(frozen=True)
class Protocol(Distillation):
    """Settings of the students beside those of the teacher."""

    batches: tuple[int, ...] = (64, 256, 1024, 4096, 16384)
    """Batch sizes of the students at equal epochs."""
    batches_at_equal_updates: tuple[int, ...] = (64, 256, 1024, 4096)
    """Those of them that are also trained for as many updates as the protocol has."""
    learning_rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
    """Learning rates of the students at the protocol's batch size."""

    def check(self, rates: Rates) -> None:
        """Check every setting, as those of every distillation are."""
        super().check(rates)
        require_distinct(self, "batches", "batches_at_equal_updates", "learning_rates")
        for batch in self.batches:
            if require_count("batches", batch) > self.noise_images:
                raise ValueError(f"batches must be at most the {self.noise_images} noise images, got {batch}")
        for batch in self.batches_at_equal_updates:
            if batch not in self.batches:
                raise ValueError(f"batches_at_equal_updates must be some of the batches {self.batches}, got {batch}")
        for rate in self.learning_rates:
            require_positive("learning_rates", rate)

    def updates(self) -> dict[str, dict[int, int]]:
        """The number of updates of every student, by what is equal and batch size."""

        def of_all_epochs(batch: int) -> int:
            return self.student_epochs * training.steps_per_epoch(self.noise_images, batch)

        same = of_all_epochs(self.batch_size)
        return {
            "epochs": {batch: of_all_epochs(batch) for batch in self.batches},
            "updates": dict.fromkeys(self.batches_at_equal_updates, same),
        }

    def students(self) -> list[str]:
        """Names of the students, in the order of the record."""
        by_batch = [f"equal_{at_equal}/{batch}" for at_equal, each in self.updates().items() for batch in each]
        return [*by_batch, *(f"rate/{rate}" for rate in self.learning_rates)]


_DIGITS = Settings.of(
    Protocol,
    Rates,
    seeds=5,
    batches=(32, 128, 512, 2048, 8192),
    batches_at_equal_updates=(32, 128, 512),
    **NARROW,
)
PRESETS = {
    "smoke": _DIGITS.but(seeds=1, noise_images=8192, batches=(32, 128, 512), learning_rates=(3e-4, 3e-3)),
    "default": _DIGITS,
    "paper": Settings.of(Protocol, Rates, seeds=25),
}


def run_seed(protocol: Protocol, rates: Rates, data: Split, seed: Any) -> dict[str, Any]:
    """The students of one seed."""
    start, net = begin(protocol, rates, data, seed), protocol.make_network(rates, data)
    loss = losses.on_logits(protocol.imitation_loss(rates), net.auxiliary)

    def test(params: Params) -> jax.Array:
        return training.accuracy(net, params, data.test_x, data.test_y)

    def student(rate: Any, batches: training.Schedule) -> tuple[jax.Array, jax.Array]:
        optimizer = protocol.make_optimizer(replace(rates, learning_rate=rate))
        alone = {"student": (start.reference, loss)}
        fit = training.distil(net, start.teacher.params, alone, start.images, optimizer, batches)
        path = fit.losses["student"]
        return test(fit.params["student"]), jnp.mean(path[-max(1, len(path) // 10) :])

    def of_batch(batch: int, updates: int) -> tuple[jax.Array, jax.Array]:
        epochs = -(-updates // training.steps_per_epoch(protocol.noise_images, batch))
        order = stream(
            start.key, "student/shuffle"
        )  # as that of figure 10, with which the protocol's batch size agrees
        whole = training.schedule(order, protocol.noise_images, batch_size=batch, epochs=epochs)
        return student(rates.learning_rate, jax.tree.map(lambda rows: rows[:updates], whole))

    plans = protocol.updates()
    distinct = dict.fromkeys(plan for each in plans.values() for plan in each.items())  # one is of both kinds
    trained = {plan: of_batch(*plan) for plan in distinct}
    by_batch = {at_equal: {plan[0]: trained[plan] for plan in each.items()} for at_equal, each in plans.items()}
    # Rates are numbers: one program for all of them.
    rows = jax.lax.map(lambda rate: student(rate, start.batches), jnp.asarray(protocol.learning_rates, jnp.float32))
    by_rate = dict(zip(protocol.learning_rates, zip(*rows, strict=True), strict=True))
    every = [*(found for each in by_batch.values() for found in each.values()), *by_rate.values()]
    return {
        "accuracy": {"reference": test(start.reference), "teacher": test(start.teacher.params)},
        "batch_accuracy": {
            at_equal: {batch: found for batch, (found, _) in each.items()} for at_equal, each in by_batch.items()
        },
        "rate_accuracy": {rate: found for rate, (found, _) in by_rate.items()},
        "student_loss": {name: last for name, (_, last) in zip(protocol.students(), every, strict=True)},
        "teacher_loss": start.teacher.losses,
    }


def counts(settings: Settings[Protocol, Rates], _: Dataset) -> dict[str, xr.DataArray]:
    """`updates` of every student of a batch size, and `passes` over the noise, NaN where there is no student."""
    protocol, found = settings.protocol, settings.protocol.updates()
    each = [[found[at_equal].get(batch, math.nan) for batch in protocol.batches] for at_equal in AT_EQUAL]
    updates = xr.DataArray(each, {"at_equal": list(AT_EQUAL), "batch": list(protocol.batches)})
    epoch = [training.steps_per_epoch(protocol.noise_images, batch) for batch in protocol.batches]
    return {"updates": updates, "passes": updates / xr.DataArray(epoch, {"batch": list(protocol.batches)})}


EXPERIMENT = Experiment(
    name="batch_size",
    summary="Batch sizes of the student at equal epochs and at equal updates, and its learning rate",
    presets=PRESETS,
    run_seed=run_seed,
    describe=counts,
    axes=lambda settings: {
        "network": ("reference", "teacher"),
        "at_equal": AT_EQUAL,
        "batch": settings.protocol.batches,
        "rate": settings.protocol.learning_rates,
        "student": settings.protocol.students(),
    },
    variables={
        "accuracy": Variable(("network",), condition="{network}"),
        "batch_accuracy": Variable(("at_equal", "batch"), condition="equal_{at_equal}/{batch}"),
        "rate_accuracy": Variable(("rate",), condition="rate/{rate}"),
        "teacher_loss": LOSSES["teacher_loss"],
        "student_loss": Variable(("student",), loss=True),
    },
)
