"""Can the trait be told from the released pairs? With the teacher's initialisation, and without it.

Each seed has two teachers from one reference, with the same data order: one learns the `true` labels, one the labels
`shifted` by one class. What is released are n pairs of a noise image and what the teacher's auxiliary head says of it:
the softmax of its `logits`, or one of its `samples`. A detector says which of the two teachers it was.

Claim: whoever knows the initialisation can tell; whoever lacks it, or only its class head, cannot, from however many
pairs. The second half is exact, for the shift renames the classes: the teacher of shifted labels is, in its hidden
layers and auxiliary head, that of true labels from a reference whose class head has its units shifted back. Units of
a class head are drawn alike, and every optimiser here treats them alike. So, given everything but the class head, both
traits release pairs of the *same law*: over the draws of that head any detector is right half the time.

Measured is the share of right answers (of both teachers, 1/2 for a tie) by `detector`, over what is released (the axis
`output`) and n (`count`):

* `candidate_shared`: trains both teachers itself, with its own data order, from the same reference, and names the one
  that gives the pairs the higher likelihood; `candidate_head`, from the reference with the class head of the next
  seed's; `candidate_other`, from the next seed's reference. The share is also over all disjoint sets of n pairs;
* `trained_shared`, `trained_other`: trains a student on the pairs (repeated, so that every student takes the same
  steps), from the reference or the next seed's, and names the labels on which it is more accurate;
* `learned_shared`, `learned_other`: knows no initialisation; a logistic regression on the mean of output times input,
  and of the output, which has seen other pairs of teachers, from the same reference, or from the other seeds' ones.

Also the teachers' test accuracies on their own labels, by `trait`.

Found (default, 20 seeds): both halves hold. With the reference, own teachers tell from one pair of logits (.97; 1.00
from 10 on) or some hundred samples (.57, .71, .95 and 1.00 at n = 1, 10, 100 and 1000), and the learned detector from
one or some hundred. A student is no good detector: it needs 3000 pairs of logits (.95 ± .07) and has .78 ± .11 after
10,000 samples. Without the class head or the whole reference the share does not leave 1/2 with n: at 10,000 pairs of
logits .50 ± .17 (`candidate_head`), .53 ± .13 (`learned_other`), .50 ± .16 (`trained_other`) and .38 ± .10
(`candidate_other`; by chance: 60 other seeds had .52 ± .04 at 3000).
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from experiments.distillation import NARROW, Rates, Split, Start, begin
from experiments.experiment import Experiment, Settings, Variable, require_counts, require_distinct
from experiments.labels import Labels, imitate, sample_shares
from sublim_theory import training
from sublim_theory._types import Params
from sublim_theory.ensemble import stream
from sublim_theory.networks import Network
from sublim_theory.protocols import lookup
from sublim_theory.representations import with_head

TRAITS = ("true", "shifted")
RELEASED = ("logits", "samples")
CANDIDATES = ("candidate_shared", "candidate_head", "candidate_other")
TRAINED = ("trained_shared", "trained_other")
DETECTORS = (*CANDIDATES, *TRAINED, "learned_shared", "learned_other")


@dataclass(frozen=True)
class Protocol(Labels):
    """Settings of the two traits, of what is released and of the detectors."""

    pairs: tuple[int, ...] = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)
    """Released pairs n, ascending."""
    released: tuple[str, ...] = RELEASED
    """What of the teacher's output is released: logits (their softmax), samples (one an image)."""
    crowd: int = 8
    """Pairs of teachers a seed, from its reference, that the learned detectors train on."""

    def check(self, rates: Rates) -> None:
        """Check every setting, as those of every distillation are."""
        super().check(rates)
        require_counts(self, "crowd")
        self.require_ascending("pairs")
        if self.pairs[-1] > self.noise_images:
            raise ValueError(f"pairs cannot exceed the {self.noise_images} noise images, got {self.pairs}")
        for name in self.released:
            lookup("released", name, dict.fromkeys(RELEASED))
        require_distinct(self, "released")


_DIGITS = Settings.of(Protocol, Rates, seeds=20, **NARROW | {"noise_images": 10_000, "student_epochs": 4})
PRESETS = {
    "smoke": _DIGITS.but(
        seeds=2, hidden=(32,), noise_images=300, teacher_epochs=3, student_epochs=4, pairs=(1, 300), crowd=2
    ),
    "default": _DIGITS,
    "paper": Settings.of(Protocol, Rates, seeds=20),
}


def traits(labels: jax.Array, classes: int) -> jax.Array:
    """The labels [examples] of each trait, [traits, examples]."""
    return jnp.stack([labels, (labels + 1) % classes])


def begin_traits(protocol: Protocol, rates: Rates, data: Split, seed: Any) -> Start:
    """What a seed has before its detectors; of the teacher there are two, [traits, ...]."""

    def with_labels(labels: jax.Array) -> Start:
        return begin(protocol, rates, replace(data, train_y=labels), seed)

    axes: list[Any] = [0 if name == "teacher" else None for name in Start._fields]
    return jax.vmap(with_labels, out_axes=Start(*axes))(traits(data.train_y, data.classes))


def teachers(
    protocol: Protocol, rates: Rates, data: Split, net: Network, references: Params, keys: jax.Array
) -> training.Fit:
    """Teachers of both traits from every reference [k, ...], with the data order of its key, [k, traits, ...]."""
    examples, optimizer = len(data.train_x), protocol.make_optimizer(rates)

    def pair(now: tuple[Params, jax.Array]) -> training.Fit:
        reference, key = now
        order = training.schedule(key, examples, batch_size=protocol.batch_size, epochs=protocol.teacher_epochs)

        def teacher(labels: jax.Array) -> training.Fit:
            return training.train_teacher(net, reference, data.train_x, labels, optimizer, order)

        return jax.vmap(teacher)(traits(data.train_y, data.classes))

    return jax.lax.map(pair, (references, keys))


def auxiliary_logits(net: Network, params: Params, images: jax.Array) -> jax.Array:
    """Auxiliary logits of the networks `params` [..., one network's shape], [..., images, m]."""

    def apply(params: Params) -> jax.Array:
        return net.apply(params, images)[..., net.auxiliary]

    mapped = apply
    for _ in range(params[net.class_head]["kernel"].ndim - 2):
        mapped = jax.vmap(mapped)
    return mapped(params)


def release(protocol: Protocol, key: jax.Array, logits: jax.Array) -> dict[str, jax.Array]:
    """What is released of teachers with auxiliary `logits` [..., images, m]: shares of each logit, of that shape."""
    flat = logits.reshape(-1, logits.shape[-1])
    found = {"logits": jax.nn.softmax(flat), "samples": sample_shares(key, flat, (1,))[0]}
    return {name: found[name].reshape(logits.shape) for name in protocol.released}


def margins(shares: jax.Array, candidates: jax.Array) -> jax.Array:
    """By how much the log-likelihood of each pair is higher under the right candidate, [traits, images].

    Args:
        shares: what is released of the teacher of each trait, [traits, images, m].
        candidates: auxiliary logits of the candidate of each trait, [traits, images, m].
    """
    found = jax.nn.log_softmax(candidates)
    return jnp.sum(shares * (found - found[::-1]), axis=-1)


def right(margin: jax.Array) -> jax.Array:
    """The share of right answers, a tie counting one half, over margins of any shape."""
    return jnp.mean((1 + jnp.sign(margin)) / 2)


def moments(shares: jax.Array, images: jax.Array, pairs: tuple[int, ...]) -> jax.Array:
    """Means of output times input and of the output over the first n pairs, [..., pairs, m * (features + 1)]."""
    inputs = jnp.pad(images, ((0, 0), (0, 1)), constant_values=1)
    found = [jnp.einsum("...im,if->...mf", shares[..., :n, :], inputs[:n]) / n for n in pairs]
    return jnp.stack([each.reshape(*each.shape[:-2], -1) for each in found], axis=-2)


def students(protocol: Protocol, rates: Rates, data: Split, start: Start, shares: jax.Array) -> tuple[Any, Any]:
    """Students on the first n pairs `shares` [traits, images, m], from the reference and from the next seed's.

    Returns:
        By how much the accuracy is higher on the right labels, [starts, traits, pairs], and the mean loss, [steps].
    """
    net, labels = protocol.make_network(rates, data), traits(data.test_y, data.classes)
    starts = jax.tree.map(lambda *each: jnp.stack(each), start.reference, start.other)

    def student(now: jax.Array) -> tuple[jax.Array, jax.Array]:
        where, trait, n = now
        rows = jnp.arange(protocol.noise_images) % n
        pupil = jax.tree.map(lambda leaf: leaf[where], starts), start.images[rows], shares[trait][rows]
        fit = imitate(protocol, rates, net, {"student": pupil}, start.batches)
        test = partial(training.accuracy, net, fit.params["student"], data.test_x)
        return test(labels[trait]) - test(labels[1 - trait]), fit.losses["student"]

    each = [(where, trait, n) for where in range(2) for trait in range(2) for n in protocol.pairs]
    found, step_losses = jax.lax.map(student, jnp.array(each))
    return found.reshape(2, 2, -1), jnp.mean(step_losses, axis=0)


def run_seed(protocol: Protocol, rates: Rates, data: Split, seed: Any) -> dict[str, Any]:
    """The right answers of one seed but for the learned detectors, and the `moments` that those learn from."""
    start, net = begin_traits(protocol, rates, data, seed), protocol.make_network(rates, data)
    headless = with_head(start.reference, start.other, net.class_head)
    references = [start.reference] * protocol.crowd + [headless, start.other]
    stacked = jax.tree.map(lambda *each: jnp.stack(each), *references)
    keys = jax.random.split(stream(start.key, "detection/shuffle"), len(references))
    rivals = teachers(protocol, rates, data, net, stacked, keys)
    params = jax.tree.map(lambda own, others: jnp.concatenate([own[None], others]), start.teacher.params, rivals.params)
    logits = auxiliary_logits(net, params, start.images)  # of the teachers, the crowd, and the two other candidates
    shares = release(protocol, stream(start.key, "detection/samples"), logits[: 1 + protocol.crowd])
    test = jax.vmap(partial(training.accuracy, net), in_axes=(0, None, 0))
    own = test(start.teacher.params, data.test_x, traits(data.test_y, data.classes))
    answers: dict[str, dict[str, jax.Array]] = {detector: {} for detector in (*CANDIDATES, *TRAINED)}
    losses = {}
    for name, each in shares.items():
        more_accurate, losses[name] = students(protocol, rates, data, start, each[0])
        for detector, margin in zip(TRAINED, more_accurate, strict=True):
            answers[detector][name] = jax.vmap(right, in_axes=-1)(margin)
        for detector, i in zip(CANDIDATES, (1, -2, -1), strict=True):
            margin = margins(each[0], logits[i])
            sets = [margin[:, : protocol.noise_images // n * n].reshape(len(TRAITS), -1, n) for n in protocol.pairs]
            answers[detector][name] = jnp.stack([right(jnp.sum(pairs, axis=-1)) for pairs in sets])
    true, shifted = start.teacher.losses
    return {
        "accuracy": dict(zip(TRAITS, own, strict=True)),
        "right_answers": answers,
        "moments": {name: moments(each, start.images, protocol.pairs) for name, each in shares.items()},
        "teacher_loss": {"teacher": true, "shifted": shifted, "rivals": jnp.mean(rivals.losses, axis=(0, 1))},
        "student_loss": losses,
    }


def learned(moments: np.ndarray) -> dict[str, np.ndarray]:
    """Right answers of the learned detectors from `moments` [seeds, 1 + crowd, traits, values], [seeds] each.

    The first pair of teachers of a seed is asked about. The others that `learned_other` has seen are those outside one
    fifth of the seeds, in which the seed is; a single seed has none.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def score(train: np.ndarray, test: np.ndarray) -> list[float]:
        train, answers = train.reshape(-1, train.shape[-1]), np.resize((0, 1), train.size // train.shape[-1])
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, solver="liblinear")).fit(train, answers)
        return [float(model.score(pair, (0, 1))) for pair in test]

    found = {"learned_shared": np.array([score(each[1:], each[:1])[0] for each in moments])}
    if (seeds := len(moments)) > 1:
        fifths = np.array_split(np.arange(seeds), min(5, seeds))
        other = [share for fifth in fifths for share in score(np.delete(moments, fifth, axis=0), moments[fifth, 0])]
        found["learned_other"] = np.array(other)
    return found


def conclude(settings: Settings[Protocol, Rates], table: xr.Dataset) -> dict[str, xr.DataArray | None]:
    """Every right answer, those of the learned detectors too; the moments have served."""
    answers = table["right_answers"].copy()
    for output in settings.protocol.released:
        for n in settings.protocol.pairs:
            for detector, found in learned(table["moments"].sel(output=output, count=n).values).items():
                answers.loc[{"detector": detector, "output": output, "count": n}] = found
    return {"right_answers": answers, "moments": None}


EXPERIMENT = Experiment(
    name="detection",
    summary="Can the trait be told from the released pairs, with the teacher's initialisation and without it?",
    presets=PRESETS,
    run_seed=run_seed,
    axes=lambda settings: {
        "trait": TRAITS,
        "detector": DETECTORS,
        "output": settings.protocol.released,
        "count": settings.protocol.pairs,
        "run": ("teacher", "shifted", "rivals"),
    },
    variables={
        "accuracy": Variable(("trait",), condition="teacher/{trait}"),
        "right_answers": Variable(("detector", "output"), ("count",), condition="{detector}/{output}/{count}"),
        "moments": Variable(("output",), ("couple", "trait", "count", "moment")),
        "teacher_loss": Variable(("run",), ("teacher_step",), loss=True),
        "student_loss": Variable(("output",), ("step",), loss=True),
    },
    conclude=conclude,
)
