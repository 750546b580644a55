"""Does a start that has already learned something transfer better? Teacher and student from a pretrained network.

Claim (a replication on MNIST): students of figure 10 whose shared start has been pretrained for an epoch get less from
their teacher than those of a random start.

Found (default, 5 seeds, four epochs of pretraining): a start that knows features transfers no better than a random one.
The student has .75 from a random start, .77 from a contrastive one, .70 from a supervised body and .53 from masked
pixels; of these differences only the last is more than the 95% interval of its paired mean. Linear probes of these
starts have .89, .92, .93 and .90, while their own class heads are at chance. The start that classifies, .86, brings its
student to .94 of the teacher's .97, and that gain is transmitted: a student of another such start loses by imitation,
to .58. From all others another start stays at .08 to .14. The teacher moves less from supervised starts, by .34 and .41
of their size, than from a contrastive, a random and a masked one, .46, .47 and .48. Coverage, .08, .09, .07 and .06 in
the order of the students above, ranks these four as they are, but within its intervals.

Found (paper, 5 seeds): on MNIST none is better: .51 ± .10 from a random start, .45 ± .07 from a contrastive one,
.39 ± .08 from a supervised body and .21 ± .07 from masked pixels; of these differences the last two are more than the
95% interval of their paired means. The start that classifies, .89, brings its student to .90, and another such start
ends at .85.

Literature: MNIST, .553 from a random start, .477 ± .042 from a contrastive one, .350 ± .036 after one supervised epoch
and .166 ± .019 from masked pixels; whether the supervised start kept its class head is not said.

A random network is pretrained on the training images by `start`, and is the reference of a teacher and its students:

* `random`: not at all, as in figure 10;
* `supervised`: as the teacher will be, by cross-entropy through its class head: the start classifies already;
* `supervised_body`: the same through a class head drawn for it, which is thrown away: its own class head knows nothing;
* `masked`: its last hidden layer and a linear decoder, thrown away then, fill in pixels that are hidden from it;
* `contrastive`: its last hidden layer tells which two corrupted views are of one image (InfoNCE, both ways, cosines).

Neither head is moved in the last two. A view hides pixels (at 0, the middle of their range) and has noise added.
Measured by `start` are the test `accuracy` by `network`, where `reference` is the start itself and `cross_aux` begins
at the next seed's (for the starts `crossed`); `probe`, of a linear classifier on the start's last hidden layer; of the
teacher's displacement D the `displacement_size` |D| / |theta_0|; and at the start, on noise, the `transfer_ratio`
D^T G D / |D|^2 and the `coverage`, the cosine of G D and D.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.distillation import LOSSES, NARROW, Distillation, Rates, Split, begin, distil_and_test
from experiments.experiment import Experiment, Settings, Variable, by_variable, require_counts
from experiments.starts import INPUTS
from sublim_theory import geometry, losses, theorem, training
from sublim_theory._types import Params, PRNGKey
from sublim_theory.ensemble import stream
from sublim_theory.networks import Network
from sublim_theory.protocols import lookup
from sublim_theory.representations import probe_accuracy, with_head

STARTS = ("random", "supervised", "supervised_body", "masked", "contrastive")
NETWORKS = ("reference", "teacher", "student_aux", "cross_aux")


@dataclass(frozen=True)
class Protocol(Distillation):
    """Settings of the pretraining; batch size and optimiser are those of teacher and students."""

    pretraining_epochs: int = 1
    """Passes over the training images before the teacher's, in whole batches."""
    hidden_pixels: float = 0.5
    """Probability with which a pixel is hidden, in masked images and in both views."""
    view_noise: float = 0.5
    """Standard deviation of the Gaussian noise that is added to both views."""
    view_temperature: float = 0.2
    """Of the softmax over the views of a batch."""
    crossed: tuple[str, ...] = STARTS
    """Starts with a student of the next seed's: random, supervised, supervised_body, masked, contrastive."""

    def check(self, rates: Rates) -> None:
        """Check every setting, as those of every distillation are."""
        super().check(rates)
        require_counts(self, "pretraining_epochs")
        for name in self.crossed:
            lookup("start", name, dict.fromkeys(STARTS))
        if not self.hidden:
            raise ValueError(
                "hidden must have at least one layer: a linear model has nothing to pretrain but its heads"
            )
        if not 0 < self.hidden_pixels < 1:
            raise ValueError(f"hidden_pixels must lie in (0, 1), got {self.hidden_pixels}")
        if not 0 <= self.view_noise < float("inf"):
            raise ValueError(f"view_noise must be finite and not negative, got {self.view_noise}")
        if not 0 < self.view_temperature < float("inf"):
            raise ValueError(f"view_temperature must be positive and finite, got {self.view_temperature}")

    def students(self) -> list[str]:
        """Names of the students, in the order of the record."""
        return [f"{start}/{name}" for start in STARTS for name in NETWORKS[2 : 4 if start in self.crossed else 3]]


_DIGITS = Settings.of(Protocol, Rates, seeds=5, pretraining_epochs=4, **NARROW)
PRESETS = {
    "smoke": _DIGITS.but(seeds=1, noise_images=8192),
    "default": _DIGITS,
    "paper": Settings.of(Protocol, Rates, seeds=25, crossed=("supervised",)),
}


def hide(key: PRNGKey, images: jax.Array, share: float) -> tuple[jax.Array, jax.Array]:
    """The images with some pixels at 0, and which they are, both like `images`."""
    hidden = jax.random.bernoulli(key, share, images.shape)
    return jnp.where(hidden, 0.0, images), hidden.astype(images.dtype)


def view(key: PRNGKey, image: jax.Array, protocol: Protocol) -> jax.Array:
    """One corrupted view of an image [features]."""
    which, how = jax.random.split(key)
    noisy = image + protocol.view_noise * jax.random.normal(how, image.shape)
    return hide(which, noisy, protocol.hidden_pixels)[0]


def info_nce(a: jax.Array, b: jax.Array, temperature: float) -> jax.Array:
    """How badly each row of a [batch, units] finds its own among those of b, and the other way round; nats, [batch]."""
    unit = [rows / jnp.maximum(jnp.linalg.norm(rows, axis=1, keepdims=True), 1e-6) for rows in (a, b)]
    scores = unit[0] @ unit[1].T / temperature
    own = jnp.arange(len(a))
    return (losses.cross_entropy(scores, own) + losses.cross_entropy(scores.T, own)) / 2


def pretrained(protocol: Protocol, rates: Rates, data: Split, kind: str) -> Network:
    """The protocol's network with an initialisation that is pretrained in one of the ways `STARTS`."""
    net, optimizer = protocol.make_network(rates, data), protocol.make_optimizer(rates)
    size = min(protocol.batch_size, len(data.train_x))
    count = len(data.train_x) // size * size  # no batch is filled up: the filling would be seen among the views
    x, y, epochs = jnp.asarray(data.train_x)[:count], data.train_y[:count], protocol.pretraining_epochs

    def hidden_pixels(params: Any, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
        images, keys = batch
        seen, hidden = jax.vmap(partial(hide, share=protocol.hidden_pixels))(keys, images)
        decoder, units = params["decoder"], net.hidden(params["net"], seen)[-1]
        error = jnp.square(units @ decoder["kernel"] + decoder["bias"][None] - images)
        return jnp.sum(hidden * error, axis=1) / jnp.maximum(jnp.sum(hidden, axis=1), 1)

    def views(params: Any, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
        images, keys = batch
        both = jax.vmap(partial(jax.random.split, num=2))(keys)
        a, b = (
            net.hidden(params["net"], jax.vmap(partial(view, protocol=protocol))(both[:, i], images))[-1]
            for i in (0, 1)
        )
        return info_nce(a, b, protocol.view_temperature)

    def init(key: PRNGKey) -> Params:
        reference = net.init(key)
        order = stream(key, "pretraining/shuffle")
        batches = training.schedule(order, count, batch_size=size, epochs=epochs)
        if kind.startswith("supervised"):
            other = net.init(stream(key, "pretraining/head"))
            first = with_head(reference, other) if kind == "supervised_body" else reference
            trained = training.train_teacher(net, first, x, y, optimizer, batches).params
            return with_head(trained, reference) if kind == "supervised_body" else trained
        # An image is corrupted anew in each pass, so that a row of a pass has a key of its own.
        keys = jax.random.split(stream(key, "pretraining/views"), epochs * count)
        passes = jnp.arange(len(batches.indices), dtype=jnp.int32) // (count // size)
        rows = batches._replace(indices=batches.indices + count * passes[:, None])
        params: Any = {"net": reference}
        if kind == "masked":
            shape = (protocol.hidden[-1], net.features)
            kernel = jax.random.normal(stream(key, "pretraining/decoder"), shape) / shape[0] ** 0.5
            params["decoder"] = {"kernel": kernel, "bias": jnp.zeros(shape[1])}
        objective: Callable[..., jax.Array] = hidden_pixels if kind == "masked" else views
        seen = jnp.tile(x, (epochs, 1)), keys
        pretrained: Params = training.fit(objective, params, optimizer, seen, rows).params["net"]
        return pretrained

    return net if kind == "random" else replace(net, init=init)


def run_seed(protocol: Protocol, rates: Rates, data: Split, seed: Any) -> dict[str, Any]:
    """Teacher and students of every start of one seed."""

    def of_start(kind: str) -> dict[str, Any]:
        net = pretrained(protocol, rates, data, kind)
        start = begin(protocol, rates, data, seed, net=net)
        loss = losses.on_logits(protocol.imitation_loss(rates), net.auxiliary)
        students = {"student_aux": (start.reference, loss)}
        if kind in protocol.crossed:
            students["cross_aux"] = (start.other, loss)
        displacement = optax.tree.sub(start.teacher.params, start.reference)
        law = theorem.first_order(net.apply, loss, start.reference, displacement, start.images[:INPUTS])
        return distil_and_test(protocol, rates, data, start, students, net=net) | {
            "probe": probe_accuracy(
                *(net.hidden(start.reference, data.train_x)[-1], data.train_y),
                *(net.hidden(start.reference, data.test_x)[-1], data.test_y),
                data.classes,
            ),
            "displacement_size": geometry.norm(displacement) / geometry.norm(start.reference),
            "transfer_ratio": law.transfer_ratio(),
            "coverage": law.coverage(displacement),
        }

    found = {kind: of_start(kind) for kind in STARTS}
    paths = {f"{kind}/{name}": path for kind in STARTS for name, path in found[kind].pop("student_loss").items()}
    return by_variable(found) | {"student_loss": paths}


EXPERIMENT = Experiment(
    name="capable_start",
    summary="Teachers and students whose shared start is pretrained: supervised, on masked pixels, contrastively",
    presets=PRESETS,
    run_seed=run_seed,
    axes=lambda s: {"start": STARTS, "network": NETWORKS, "student": s.protocol.students()},
    variables={
        "accuracy": Variable(("start", "network"), condition="{start}/{network}"),
        **{
            name: Variable(("start",), condition=f"{name}/{{start}}")
            for name in ("probe", "displacement_size", "transfer_ratio", "coverage")
        },
        "teacher_loss": Variable(("start",), ("teacher_step",), loss=True),
        "student_loss": LOSSES["student_loss"],
    },
)
