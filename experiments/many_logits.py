"""How many auxiliary logits are worth having? More of them than the last hidden layer has units, and what passes.

Claim (replications): with 4,096 auxiliary logits, sixteen times the width, a student almost reaches its teacher's
accuracy, and still needs the auxiliary head that its teacher has; an eighth of them, drawn anew for every batch, serves
as well as all.

Found (default, 5 seeds, width 64): with m = 3, 16, 64 and 256 the student has .75, .85, .85 and .86. It gains nothing
from 16 on, far below the width: what 16 logits show is of rank 15 and holds .25 of the change of the hidden layer, and
all that passes at 256 is of rank 64, but of an effective rank of 3.9, of which 16 logits show 3.4. So the width bounds
what can pass, and does not say when transfer saturates. The cosine goes on rising, .17, .45, .69 and .89, by its law.
An eighth of the logits, drawn for every update, loses something while these are two (.67 and .77) and nothing when they
are eight or 32 (.85 and .87). Another start has .10 to .12 at every m, an auxiliary head of its own .28 to .44.

Literature: at m = 4,096 and the published protocol (N = 25) .927, another start .131, the auxiliary head drawn anew
.113, 512 logits drawn for every batch .926, the teacher .944.

At every number m of `auxiliary` logits one teacher has four students on auxiliary logits: `shared` from the reference;
`cross` from the next seed's; `redrawn_head`, the reference but for the next seed's auxiliary head; `drawn`, from the
reference, but every update sees a random share of the logits alone, with one softmax over those.

No gradient reaches a teacher's auxiliary head W [width, m], so its auxiliary logits change by dh W, dh [images, width]
being what its training did to its last hidden layer; a student can learn of dh only what W lets through. A softmax does
not see what all logits have in common: under `kl` and `cross_entropy` W is here that without its mean over the logits,
and one of the m is lost. On `starts.INPUTS` noise images, measured by m:

* `accuracy` by `network`, on the test images;
* `rank` of the change of the logits, the singular values above float32's rounding, and its `effective_rank`,
  (sum l)**2 / sum l**2 of their squares;
* `share`, of |dh|**2 in the range of W: 1 as soon as its rank is the width;
* `cosine`, of dh and dh W W^T, which is what a student's last layer is told at the start by squared error, and by a
  softmax with about equal probabilities. For independent weights it is 1 / sqrt(1 + width / rank), rank being m, or
  m - 1 under a softmax: it says how the signal clears up beyond the width, where nothing more can be seen.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.distillation import LOSSES, NARROW, Distillation, Rates, Split, begin
from experiments.experiment import Changes, Experiment, Settings, Variable, require_counts, require_distinct
from experiments.starts import INPUTS
from sublim_theory import geometry, losses, training
from sublim_theory._types import AnyArray, Params
from sublim_theory.ensemble import stream
from sublim_theory.representations import with_layers

STUDENTS = ("shared", "cross", "redrawn_head", "drawn")
NETWORKS = ("reference", "teacher", *STUDENTS)


@dataclass(frozen=True)
class Protocol(Distillation):
    """Settings of the students, and the numbers of logits."""

    auxiliary: int = 256
    """Auxiliary logits; set by the point."""
    auxiliaries: tuple[int, ...] = (256, 4096)
    """The numbers of auxiliary logits, a point each."""
    drawn: float = 1 / 8
    """Share of the auxiliary logits that every update of the student `drawn` sees, but at least two logits."""

    def check(self, rates: Rates) -> None:
        """Check every setting, as those of every distillation are."""
        super().check(rates)
        require_distinct(self, "auxiliaries")
        for count in self.auxiliaries:
            require_counts(replace(self, auxiliary=count), "auxiliary")
        if min(self.auxiliary, *self.auxiliaries) < 2:
            raise ValueError(f"auxiliaries must be at least 2: one has nothing to draw from, got {self.auxiliaries}")
        if not 0 < self.drawn <= 1:
            raise ValueError(f"drawn must lie in (0, 1], got {self.drawn}")
        if not self.hidden:
            raise ValueError("hidden must have at least one layer: in a linear model nothing of a teacher passes")

    @property
    def drawn_logits(self) -> int:
        """How many auxiliary logits an update of the student `drawn` sees."""
        return min(self.auxiliary, max(2, round(self.drawn * self.auxiliary)))


def vary(settings: Settings[Protocol, Rates], preset: str) -> dict[str, dict[Any, Changes]]:  # noqa: ARG001
    """What every number of logits changes."""
    return {"auxiliary": {m: {"auxiliary": m, "auxiliaries": (m,)} for m in settings.protocol.auxiliaries}}


_DIGITS = Settings.of(Protocol, Rates, seeds=5, auxiliaries=(3, 16, 64, 256), **NARROW)
PRESETS = {
    "smoke": _DIGITS.but(seeds=2, hidden=(32, 32), noise_images=4096, auxiliaries=(3, 128)),
    "default": _DIGITS,
    "paper": Settings.of(Protocol, Rates, seeds=25),
}


def seen(kernel: AnyArray, loss: str) -> AnyArray:
    """What an imitation loss sees of an auxiliary head's weights, or of its logits, [..., m]."""
    softmax = loss in ("kl", "cross_entropy")
    return kernel - jnp.mean(kernel, axis=-1, keepdims=True) if softmax else kernel


def passing(change: AnyArray, moved: AnyArray, kernel: AnyArray) -> dict[str, jax.Array]:
    """What passes through an auxiliary head: `rank`, `effective_rank`, `share` and `cosine`, scalars.

    Args:
        change: of the logits, as the loss sees them [images, m].
        moved: the change dh of the last hidden layer behind it [images, width].
        kernel: the head's weights, as the loss sees them [width, m].
    """

    def above_rounding(values: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return values > values[:1] * max(shape) * float(np.finfo(values.dtype).eps)

    values = jnp.linalg.svd(change, compute_uv=False)
    directions, sizes, _ = jnp.linalg.svd(kernel, full_matrices=False)
    range_ = jnp.where(above_rounding(sizes, kernel.shape)[None], directions, 0)
    product = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    squares = jnp.square(values)
    return {
        "rank": jnp.sum(above_rounding(values, change.shape), dtype=jnp.float32),
        "effective_rank": geometry.quotient(jnp.sum(squares) ** 2, jnp.sum(jnp.square(squares))),
        "share": geometry.quotient(jnp.sum(jnp.square(product(moved, range_))), jnp.sum(jnp.square(moved))),
        "cosine": geometry.cosine(moved, product(product(moved, kernel), kernel.T)),
    }


def run_seed(protocol: Protocol, rates: Rates, data: Split, seed: Any) -> dict[str, Any]:
    """The networks of one seed, with one number of logits."""
    start, net = begin(protocol, rates, data, seed), protocol.make_network(rates, data)
    reference, teacher = start.reference, start.teacher.params
    count, head = protocol.drawn_logits, net.auxiliary_head
    few = replace(protocol, auxiliary=count).make_network(rates, data)
    imitate = losses.on_logits(protocol.imitation_loss(rates), net.auxiliary)
    imitate_few = losses.on_logits(protocol.imitation_loss(rates), few.auxiliary)
    redrawn = with_layers(reference, start.other, (head,))
    starts = {"shared": reference, "cross": start.other, "redrawn_head": redrawn, "drawn": reference}

    def objective(params: Params, images: jax.Array) -> dict[str, jax.Array]:
        # A batch's labels are computed with it: those of all images would take a gigabyte a seed.
        labels = net.apply(teacher, images)
        return {name: imitate(net.apply(params[name], images), labels) for name in STUDENTS}

    def draw(params: Params, gradients: Params, update: training.Update) -> Params:
        """The gradients, with that of the student `drawn` from the drawn logits alone."""
        key = jax.random.fold_in(stream(start.key, "many_logits/drawn"), update.step)
        columns = jax.random.choice(key, protocol.auxiliary, (count,), replace=False)

        def with_drawn(params: Params) -> Params:
            return params | {head: {name: values[..., columns] for name, values in params[head].items()}}

        def loss(params: Params) -> jax.Array:
            logits = (few.apply(with_drawn(each), update.batch) for each in (params, teacher))
            return update.mean(imitate_few(*logits))

        return gradients | {"drawn": jax.grad(loss)(params["drawn"])}

    optimizer = protocol.make_optimizer(rates)  # all at once, each as on its own: it acts number by number
    fit = training.fit(objective, starts, optimizer, start.images, start.batches, transform=draw)
    networks = {"reference": reference, "teacher": teacher, **fit.params}
    images = start.images[:INPUTS]
    before, after = (net.auxiliary_logits(net.apply(params, images)) for params in (reference, teacher))
    moved = net.hidden(teacher, images)[-1] - net.hidden(reference, images)[-1]
    change, kernel = seen(after - before, protocol.loss), seen(reference[head]["kernel"], protocol.loss)
    return {
        "accuracy": {name: training.accuracy(net, each, data.test_x, data.test_y) for name, each in networks.items()},
        **passing(change, moved, kernel),
        "teacher_loss": start.teacher.losses,
        "student_loss": fit.losses,
    }


EXPERIMENT = Experiment(
    name="many_logits",
    summary="Auxiliary logits beyond the width of the hidden layer: what more of them are worth, and what passes",
    presets=PRESETS,
    run_seed=run_seed,
    axes=lambda _: {"network": NETWORKS, "student": STUDENTS},
    variables={
        "accuracy": Variable(("network",), condition="{network}"),
        **{name: Variable(condition=name) for name in ("rank", "effective_rank", "share", "cosine")},
        **LOSSES,
    },
    vary=vary,
)
