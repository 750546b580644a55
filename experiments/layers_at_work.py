"""What is done to the layers of teacher and student, and what remains of transfer? Dropout, centring, exchanged layers.

Claim (a public replication, MNIST): dropout in the student undoes transfer and dropout in the teacher alone does not;
a last hidden layer from which the mean over the batch is taken helps; one of the student's layers in the teacher keeps
most of its accuracy, a stranger's none. Here each stands beside the first step by G at the reference.

Found (default, 5 seeds): dropout in the student leaves .43, .23 and .14 of .75 (rates .1, .3 and .5), in the teacher
alone .86. The masks do not blur the signal: its coverage only falls from .080 to .072, .063 and .054, and .015, .050
and .109 of its square are variance. What grows is the drift, .11, .45 and 1.15 times the signal, and it points away
from D (cosine -.07): a penalty on outputs that depend on the mask, teacher or not. At .5 the whole first step has a
cosine of -.002 +- .019 with D. The images share 29% of the trace of G, and that direction takes the step (.91 of its
norm) with a cosine of .016 with D, where the rest has .19. Centring the last layer of both takes it out: coverage .19,
accuracy .93; of the student .91; of the teacher .58, with a drift 3.0 times the signal; the student's first layer .71.
Normalised on both sides .95, in the student .36. The first step does not order all arms: the centred student's .046 is
no more than the plain one's .053. One hidden layer of the student in the teacher leaves .96 or .95, the head that the
student never trained .86, the teacher's head on the student .95; a stranger's layers and head .07 to .12.

Literature (MNIST, 25 seeds): none .72; dropout in the student .52, .21 and .14, the teacher .77, both .19 (rate .5);
last layer centred in the student .84, the teacher .70, both .84, first layer .68. The digits have the same order, but
for the teacher's centring and the first layer's, which 5 seeds do not tell apart.

An *arm* is a student and its teacher, both from the reference, and names who is treated and how: `dropout/RATE` after
every hidden layer, in training alone; `centred` and `centred_first`, the mean over the batch taken from the last or the
first hidden layer, which is that of all noise images for a teacher's labels and of all test images at test;
`normalised`, mean 0 and variance 1 over the units of the last hidden layer, without parameters. Arms share noise,
batches, masks and, where it is treated alike, the teacher. A treated network is tested as it is, and its labels are
without dropout. `stranger` is `plain` from the next seed's reference.

By `arm` its `accuracy` and the first step at the reference on `INPUTS` noise images. There the student's gradient step
is `drift + signal`: the drift is what labels of a teacher that has not moved would give, none unless the two are
treated differently in training; the signal is G~ D to first order, with D the displacement of the arm's teacher and
`G~ = E J_S^T M_S J_T`, which is G where both are alike. Over dropout's masks:

* `coverage`, cosine of the expected G~ D with D, and `mask_variance`, the share of E |G~ D|**2 that is variance;
* `drift`, the norm of the expected drift over that of the expected G~ D, and `drift_cosine`, its cosine with D;
* `first_update`, cosine of the expected step itself with D, with the labels as they are.

By `quantity`, for `plain`, the `mean_direction`, what all images share. With J' and M' the means of J and M over them
and `G' = J'^T M' J'`, it is the share `trace` of G' in the trace of G; `step`, the norm of G' D over that of G D; and
the cosines with D of G' D, `shared`, and of what is left, G D - G' D, `rest`. Centring the last hidden layer takes J'
out of J, exactly, but for the heads' biases.

By `layer` and `whose` (student, stranger), `stitched` is the accuracy of the plain teacher with that one layer; by
`head` (teacher, stranger), `swapped` is that of the plain student with that class head.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.distillation import NARROW, Distillation, Rates, Split, begin
from experiments.experiment import Experiment, Settings, Variable, require_distinct
from experiments.starts import INPUTS
from sublim_theory import geometry, losses, training
from sublim_theory._types import Params, PerExampleLoss
from sublim_theory.ensemble import stream
from sublim_theory.networks import ACTIVATIONS, Network
from sublim_theory.protocols import lookup
from sublim_theory.representations import with_head, with_layers

MASKS = 16
"""Dropout masks of a batch that an expectation is the mean of."""


class Treatment(NamedTuple):
    """What a network does to its hidden layers: scalars, or [networks] of them, so that one program serves them all."""

    dropout: Any = 0.0
    centred_first: Any = False
    centred: Any = False
    normalised: Any = False


TREATMENTS = {
    "plain": Treatment(),
    **{f"dropout/{rate}": Treatment(dropout=rate) for rate in (0.1, 0.3, 0.5)},
    **{name: Treatment(**{name: True}) for name in ("centred_first", "centred", "normalised")},
}
ARMS = {"plain": ("plain", "plain")}
"""Name -> what is done to the student, and to the teacher."""
for _kind in [*TREATMENTS][1:]:
    ARMS |= {
        f"student/{_kind}": (_kind, "plain"),
        f"teacher/{_kind}": ("plain", _kind),
        f"both/{_kind}": (_kind, _kind),
    }
PUBLISHED = (
    *("plain", "student/dropout/0.1", "student/dropout/0.3", "student/dropout/0.5", "teacher/dropout/0.5"),
    *("both/dropout/0.5", "student/centred", "teacher/centred", "both/centred", "student/centred_first"),
)
READINGS = ("coverage", "mask_variance", "drift", "drift_cosine", "first_update")
SHARED = ("trace", "step", "shared", "rest")
OWNERS = ("student", "stranger")
HEADS = ("teacher", "stranger")


@dataclass(frozen=True)
class Protocol(Distillation):
    """Settings of the arms."""

    arms: tuple[str, ...] = (*PUBLISHED, "student/normalised", "both/normalised")
    """Which, the plain one among them: plain, or student, teacher or both, and what is done to it: dropout/0.1,
    dropout/0.3, dropout/0.5, centred_first, centred or normalised, as in both/centred."""

    def check(self, rates: Rates) -> None:
        """Check every setting, as those of every distillation are."""
        super().check(rates)
        require_distinct(self, "arms")
        for name in self.arms:
            lookup("arm", name, ARMS)
        if "plain" not in self.arms:
            raise ValueError(f"arms must have the plain one, whose layers are exchanged; got {self.arms}")
        if self.network != "mlp":
            raise ValueError(f"network must be mlp, whose units are dropped out and centred; got {self.network}")
        if not self.hidden:
            raise ValueError("hidden must have at least one layer: there is nothing to treat in a linear model")

    def teachers(self) -> list[str]:
        """How the teachers are treated; the plain one comes first, as it is always there."""
        return list(dict.fromkeys(["plain", *(ARMS[arm][1] for arm in self.arms)]))


_DIGITS = Settings.of(Protocol, Rates, seeds=5, **NARROW)
PRESETS = {
    "smoke": _DIGITS.but(seeds=2, hidden=(32, 32), teacher_epochs=10, noise_images=4096, student_epochs=4),
    "default": _DIGITS,
    "paper": Settings.of(Protocol, Rates, seeds=25, student_epochs=15, arms=(*PUBLISHED, "student/normalised")),
}


class Treated(NamedTuple):
    """A network whose hidden layers are treated: `apply` of its `Network`, with more to it."""

    net: Network
    activation: Callable[[jax.Array], jax.Array]

    def __call__(
        self, params: Params, x: Any, treatment: Treatment, draws: Any = None, known: jax.Array | None = None
    ) -> jax.Array:
        """Logits [batch, logits] of inputs [batch, features].

        Args:
            params: of the network.
            x: the batch, over which centring takes its mean.
            treatment: what is done to the hidden layers.
            draws: `self.draws`, for dropout; none is left out unless given.
            known: [batch], whether an input counts in that mean; all do unless given.
        """
        count = jnp.ones(len(x), x.dtype) if known is None else known.astype(x.dtype)
        for layer in self.net.body:
            x = self.activation(_affine(params[layer], x))
            if draws is not None:
                x = jnp.where(draws[layer] >= treatment.dropout, x / (1 - treatment.dropout), 0)
            for flag, place in ((treatment.centred_first, self.net.body[0]), (treatment.centred, self.net.body[-1])):
                if layer == place:
                    x = x - jnp.where(flag, count @ x / jnp.sum(count), 0)[None]
        x = jnp.where(treatment.normalised, jax.nn.standardize(x), x)
        return jnp.concatenate(
            [_affine(params[head], x) for head in (self.net.class_head, self.net.auxiliary_head)], -1
        )

    def draws(self, params: Params, key: jax.Array, batch: int, treatment: Treatment) -> dict[str, jax.Array]:
        """U(0, 1) by hidden layer [batch, units]: a unit stays where it is at least the rate. Zeros without dropout."""
        widths = [params[layer]["kernel"].shape[1] for layer in self.net.body]
        shape = batch, sum(widths)  # one draw: a generator a layer is slow to compile
        values = jax.lax.cond(treatment.dropout > 0, lambda: jax.random.uniform(key, shape), lambda: jnp.zeros(shape))
        return dict(zip(self.net.body, jnp.split(values, np.cumsum(widths)[:-1], axis=1), strict=True))


def _affine(layer: Any, x: jax.Array) -> jax.Array:
    outputs = x @ layer["kernel"]
    return outputs + layer["bias"][None] if "bias" in layer else outputs


def train(
    treated: Treated,
    treatment: Treatment,
    params: Params,
    images: Any,
    targets: Any,
    loss: Callable[[jax.Array, jax.Array], jax.Array],
    optimizer: optax.GradientTransformation,
    batches: training.Schedule,
    key: jax.Array,
) -> training.Fit:
    """Train one treated network on images and targets, both [images, ...]; every update has masks of its own.

    The rows of this fit are not images but images in an epoch, which never come twice and so tell the updates apart.
    What pads the last batch of an epoch is a row of its own, -1: it is not in a mean over the batch.
    """
    count, steps = len(images), len(batches.indices)
    epoch = np.arange(steps, dtype=np.int32) // training.steps_per_epoch(count, batches.indices.shape[1])
    padding = np.int32(count * (epoch[-1] + 1))
    rows = jnp.where(batches.weights > 0, batches.indices + count * epoch[:, None], padding)
    numbers = jnp.append(jnp.arange(padding, dtype=jnp.int32), -1)

    def objective(params: Params, row: jax.Array) -> jax.Array:
        draws = treated.draws(params, jax.random.fold_in(key, row[0]), len(row), treatment)
        return loss(treated(params, images[row % count], treatment, draws, row >= 0), targets[row % count])

    return training.fit(objective, params, optimizer, numbers, training.Schedule(rows, batches.weights))


def expected(samples: Params, along: Params) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Norm and cosine with a direction of what the expectation of vectors is, from [samples, ...] at each leaf.

    Returns:
        Both, and the share of the expected square that is variance: scalars. The square of the sample's mean has the
        variance over the number of samples in it, which is taken out.
    """
    count = len(jax.tree.leaves(samples)[0])
    mean = jax.tree.map(lambda each: jnp.mean(each, axis=0), samples)
    spread = jax.tree.map(lambda each, centre: each - centre[None], samples, mean)
    variance = optax.tree.vdot(spread, spread) / (count - 1)
    square = jnp.maximum(optax.tree.vdot(mean, mean) - variance / count, 0)
    size = jnp.sqrt(square)
    cosine = geometry.quotient(optax.tree.vdot(mean, along), size * geometry.norm(along))
    return size, cosine, geometry.quotient(variance, square + variance)


def first_step(
    treated: Treated,
    loss: PerExampleLoss,
    reference: Params,
    teacher: Params,
    treatments: tuple[Treatment, Treatment],
    images: jax.Array,
    keys: jax.Array,
) -> dict[str, jax.Array]:
    """The `READINGS` of a student and its teacher, treated so, at their reference; a mask for every key."""
    student, its_teacher = treatments
    moved = optax.tree.sub(teacher, reference)
    before, speed = jax.jvp(lambda params: treated(params, images, its_teacher), (reference,), (moved,))
    after = treated(teacher, images, its_teacher)

    def step(key: jax.Array) -> Params:
        draws = treated.draws(reference, key, len(images), student)
        z, pull_back = jax.vjp(lambda params: treated(params, images, student, draws), reference)
        gradients = (-geometry.loss_gradient(loss, z, labels) for labels in (before, after))
        changes = jnp.stack([geometry.hessian_product(loss, z, z, speed), *gradients])
        (found,) = jax.vmap(pull_back)(changes / len(images))
        return found

    vectors = jax.lax.map(step, keys)
    over_masks: Callable[..., Any] = jax.vmap(lambda each: expected(each, moved), in_axes=1)
    sizes, cosines, variances = over_masks(vectors)  # of G~ D, the drift, and the whole step
    found = cosines[0], variances[0], geometry.quotient(sizes[1], sizes[0]), cosines[1], cosines[2]
    return dict(zip(READINGS, found, strict=True))


def mean_direction(
    f: Callable[[Params, jax.Array], Any], loss: PerExampleLoss, params: Params, moved: Params, images: jax.Array
) -> dict[str, jax.Array]:
    """`SHARED` of a network f(params, images) that sees each image by itself, along a displacement."""

    def one(image: jax.Array) -> tuple[jax.Array, jax.Array, Params, Params]:
        jacobian = jax.jacrev(lambda params: f(params, image[None])[0])(params)
        z = f(params, image[None])
        curvature = jax.vmap(lambda v: geometry.hessian_product(loss, z, z, v[None])[0])(jnp.eye(z.shape[1]))
        return trace(curvature, jacobian), curvature, jacobian, product(curvature, jacobian)

    def trace(curvature: jax.Array, jacobian: Params) -> jax.Array:
        rows = [leaf.reshape(len(curvature), -1) for leaf in jax.tree.leaves(jacobian)]
        return jnp.sum(curvature * sum(jnp.matmul(row, row.T, precision=jax.lax.Precision.HIGHEST) for row in rows))

    def product(curvature: jax.Array, jacobian: Params) -> Params:
        pairs = zip(jax.tree.leaves(jacobian), jax.tree.leaves(moved), strict=True)
        change = sum(jnp.tensordot(rows, along, along.ndim) for rows, along in pairs)
        return jax.tree.map(lambda rows: jnp.tensordot(curvature @ change, rows, 1), jacobian)

    def total(batch: jax.Array) -> Any:
        return jax.tree.map(lambda each: jnp.sum(each, axis=0), jax.vmap(one)(batch))

    whole, curvature, jacobian, full = geometry.mean_over_inputs(total, images, 16)  # Jacobians are large
    shared = product(curvature, jacobian)
    step = geometry.quotient(geometry.norm(shared), geometry.norm(full))
    cosines = (geometry.cosine(each, moved) for each in (shared, optax.tree.sub(full, shared)))
    return dict(zip(SHARED, (trace(curvature, jacobian) / whole, step, *cosines), strict=True))


def stacked(trees: Sequence[Any]) -> Any:
    """Pytrees of one structure as one, with a first axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(list(map(jnp.asarray, leaves))), *trees)


def run_seed(protocol: Protocol, rates: Rates, data: Split, seed: Any) -> dict[str, Any]:
    """The arms of one seed, one after the other in one program, and what follows from the plain one."""
    start, net, arms = begin(protocol, rates, data, seed), protocol.make_network(rates, data), protocol.arms
    treated, optimizer = Treated(net, ACTIVATIONS[protocol.activation]), protocol.make_optimizer(rates)
    imitate = losses.on_logits(protocol.imitation_loss(rates), net.auxiliary)

    def test(params: Params, treatment: Treatment = TREATMENTS["plain"]) -> jax.Array:
        classes = net.class_logits(treated(params, data.test_x, treatment))
        return jnp.mean(jnp.argmax(classes, axis=-1) == data.test_y, dtype=jnp.float32)

    kinds = protocol.teachers()
    plan = training.schedule(
        stream(start.key, "teacher/shuffle"),
        len(data.train_x),
        batch_size=protocol.batch_size,
        epochs=protocol.teacher_epochs,
    )

    def teach(treatment: Treatment) -> tuple[Params, jax.Array, jax.Array, jax.Array]:
        def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
            return losses.cross_entropy(net.class_logits(logits), labels)

        fit = train(
            *(treated, treatment, start.reference, jnp.asarray(data.train_x), jnp.asarray(data.train_y)),
            *(loss, optimizer, plan, stream(start.key, "teacher/dropout")),
        )
        return fit.params, treated(fit.params, start.images, treatment), test(fit.params, treatment), fit.losses

    plain = start.teacher.params
    found = [stacked([(plain, net.apply(plain, start.images), test(plain), start.teacher.losses)])]
    if others := [TREATMENTS[kind] for kind in kinds[1:]]:
        found.append(jax.lax.map(teach, stacked(others)))
    teachers, labels, teacher_accuracy, teacher_loss = jax.tree.map(lambda *each: jnp.concatenate(each), *found)

    def learn(arm: tuple[Treatment, Params, jax.Array]) -> tuple[Params, jax.Array, jax.Array]:
        treatment, params, whose = arm
        fit = train(
            *(treated, treatment, params, start.images, labels[whose]),
            *(imitate, optimizer, start.batches, stream(start.key, "student/dropout")),
        )
        return fit.params, test(fit.params, treatment), fit.losses

    each = [(TREATMENTS[ARMS[arm][0]], start.reference, kinds.index(ARMS[arm][1])) for arm in arms]
    students, accuracy, student_loss = jax.lax.map(learn, stacked([*each, (TREATMENTS["plain"], start.other, 0)]))
    images, keys = start.images[:INPUTS], jax.random.split(stream(start.key, "reading/dropout"), MASKS)

    def read(arm: tuple[Treatment, Treatment, jax.Array]) -> dict[str, jax.Array]:
        teacher = jax.tree.map(lambda leaf: leaf[arm[2]], teachers)
        return first_step(treated, imitate, start.reference, teacher, arm[:2], images, keys)

    pairs = [(*(TREATMENTS[kind] for kind in ARMS[arm]), kinds.index(ARMS[arm][1])) for arm in arms]
    readings = jax.lax.map(read, stacked(pairs))
    student, stranger = (jax.tree.map(lambda leaf, i=i: leaf[i], students) for i in (arms.index("plain"), -1))
    layers, own = (*net.layers("body"), net.class_head), dict(zip(OWNERS, (student, stranger), strict=True))
    exchanged = {(layer, whose): with_layers(plain, own[whose], [layer]) for layer in layers for whose in OWNERS}
    heads = {
        head: with_head(student, of, net.class_head) for head, of in {"teacher": plain, "stranger": stranger}.items()
    }
    results = jax.lax.map(test, stacked([start.reference, *heads.values(), *exchanged.values()]))
    reference, *swapped = results[: 1 + len(heads)]
    stitched = dict(zip(exchanged, results[1 + len(heads) :], strict=True))
    displacement = optax.tree.sub(plain, start.reference)

    def auxiliary(params: Params, x: jax.Array) -> Any:
        return net.auxiliary_logits(net.apply(params, x))

    loss = protocol.imitation_loss(rates)
    return {
        "accuracy": dict(zip((*arms, "stranger"), accuracy, strict=True)),
        "teacher_accuracy": dict(zip(kinds, teacher_accuracy, strict=True)),
        "reference": reference,
        **{
            name: {arm: values[i] for i, arm in enumerate(arms) if has_meaning(name, arm)}
            for name, values in readings.items()
        },
        "mean_direction": mean_direction(auxiliary, loss, start.reference, displacement, images),
        "stitched": {layer: {whose: stitched[layer, whose] for whose in OWNERS} for layer in layers},
        "swapped": dict(zip(heads, swapped, strict=True)),
        "teacher_loss": dict(zip(kinds, teacher_loss, strict=True)),
        "student_loss": dict(zip((*arms, "stranger"), student_loss, strict=True)),
    }


def has_meaning(reading: str, arm: str) -> bool:
    """Whether a reading of an arm is more than rounding: a drift needs a difference in training, a variance masks."""
    student, teacher = (TREATMENTS[kind] for kind in ARMS[arm])
    if reading == "mask_variance":
        return student.dropout > 0
    undropped = teacher._replace(dropout=0.0)
    return not reading.startswith("drift") or student != undropped


EXPERIMENT = Experiment(
    name="layers_at_work",
    summary="Dropout, centring and normalisation of layers, and exchanged ones, beside the first step by G",
    presets=PRESETS,
    run_seed=run_seed,
    axes=lambda settings: {
        "arm": (*settings.protocol.arms, "stranger"),
        "teacher": settings.protocol.teachers(),
        "layer": (*settings.protocol.layers("body"), "class_head"),
        "whose": OWNERS,
        "head": HEADS,
        "quantity": SHARED,
    },
    variables={
        "accuracy": Variable(("arm",), condition="accuracy/{arm}"),
        "teacher_accuracy": Variable(("teacher",), condition="teacher_accuracy/{teacher}"),
        "reference": Variable(condition="reference"),
        **{name: Variable(("arm",), condition=f"{name}/{{arm}}") for name in READINGS},
        "mean_direction": Variable(("quantity",), condition="mean_direction/{quantity}"),
        "stitched": Variable(("layer", "whose"), condition="stitched/{layer}/{whose}"),
        "swapped": Variable(("head",), condition="swapped/{head}"),
        "teacher_loss": Variable(("teacher",), ("teacher_step",), loss=True),
        "student_loss": Variable(("arm",), ("step",), loss=True),
    },
)
