"""Can the trait be told from the released pairs? With the teacher's initialisation, and without it.

Each seed has two teachers from one reference, with the same data order: one learns the `true` labels, one the labels
`shifted` by one class. What is released are n pairs of a noise image and what the teacher's auxiliary head says of it:
the softmax of its `logits`, or one of its `samples`. A detector says which of the two teachers it was.

Claim: whoever knows the initialisation can tell; whoever lacks it, or only its class head, cannot, from however many
pairs. The second half is exact, for the shift renames the classes: the teacher of shifted labels is, in its hidden
layers and auxiliary head, that of true labels from a reference whose class head has its units shifted back. Units of
a class head are drawn alike, and every optimiser here treats them alike. So, given everything but the class head, both
traits release pairs of the *same law*: over the draws of that head any detector is right half the time.

Detectors, each a condition `DETECTOR/RELEASED/n`, the share of right answers (of both teachers, 1/2 for a tie):

* `candidate_shared`: trains both teachers itself, with its own data order, from the same reference, and names the one
  that gives the pairs the higher likelihood; `candidate_head`, from the reference with the class head of the next
  seed's; `candidate_other`, from the next seed's reference. The share is also over all disjoint sets of n pairs;
* `trained_shared`, `trained_other`: trains a student on the pairs (repeated, so that every student takes the same
  steps), from the reference or the next seed's, and names the labels on which it is more accurate;
* `learned_shared`, `learned_other`: knows no initialisation; a logistic regression on the mean of output times input,
  and of the output, which has seen other pairs of teachers, from the same reference, or from the other seeds' ones.

Also `teacher/true` and `teacher/shifted`, the teachers' test accuracies on their own labels.

Found (default, 20 seeds): both halves hold. With the reference, own teachers tell from one pair of logits (.97; 1.00
from 10 on) or some hundred samples (.57, .71, .95 and 1.00 at n = 1, 10, 100 and 1000), and the learned detector from
one or some hundred. A student is no good detector: it needs 3000 pairs of logits (.95 ± .07) and has .78 ± .11 after
10,000 samples. Without the class head or the whole reference the share does not leave 1/2 with n: at 10,000 pairs of
logits .50 ± .17 (`candidate_head`), .53 ± .13 (`learned_other`), .50 ± .16 (`trained_other`) and .38 ± .10
(`candidate_other`; by chance: 60 other seeds had .52 ± .04 at 3000).
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.distillation import NARROW, Distillation, Split, Start, begin, run_config
from experiments.sampled_labels import Pupil, imitate, sample_shares
from sublim_theory import models, results, training
from sublim_theory._types import Params
from sublim_theory.ensemble import stream
from sublim_theory.protocols import lookup
from sublim_theory.representations import with_head

TRAITS = ("true", "shifted")
RELEASED = ("logits", "samples")
CANDIDATES = ("candidate_shared", "candidate_head", "candidate_other")
DETECTORS = (*CANDIDATES, "trained_shared", "trained_other", "learned_shared", "learned_other")


@dataclass(frozen=True)
class Config(Distillation):
    """Settings of the two traits, of what is released and of the detectors."""

    pairs: tuple[int, ...] = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)
    """Released pairs n, ascending."""
    released: tuple[str, ...] = RELEASED
    """What of the teacher's output is released: logits (their softmax), samples (one an image)."""
    crowd: int = 8
    """Pairs of teachers a seed, from its reference, that the learned detectors train on."""

    def __post_init__(self) -> None:
        """Check every setting, as the settings of every distillation are."""
        super().__post_init__()
        self.require_counts("crowd")
        if not self.pairs or self.pairs[0] < 1 or list(self.pairs) != sorted(set(self.pairs)):
            raise ValueError(f"pairs must ascend from 1 or more, got {self.pairs}")
        if self.pairs[-1] > self.noise_images:
            raise ValueError(f"pairs cannot exceed the {self.noise_images} noise images, got {self.pairs}")
        for name in self.released:
            lookup("released", name, dict.fromkeys(RELEASED))
        self.require_distinct("released")
        if self.auxiliary < 2:
            raise ValueError("auxiliary must be at least 2: the softmax of one logit is constant")
        if self.loss not in ("kl", "cross_entropy") or self.temperature is not None:
            raise ValueError(f"released outputs have no loss {self.loss!r} with temperature {self.temperature}")


_DIGITS = Config(seeds=20, **NARROW | {"noise_images": 10_000, "student_epochs": 4})
PRESETS = {
    "smoke": replace(
        _DIGITS, seeds=2, hidden=(32,), noise_images=300, teacher_epochs=3, student_epochs=4, pairs=(1, 300), crowd=2
    ),
    "default": _DIGITS,
    "paper": Config(seeds=20),
}


def traits(labels: jax.Array, classes: int) -> jax.Array:
    """The labels [examples] of each trait, [traits, examples]."""
    return jnp.stack([labels, (labels + 1) % classes])


def begin_traits(config: Config, net: models.Network, seed: jax.Array, data: Split) -> Start:
    """What a seed has before its detectors; of the teacher there are two, [traits, ...]."""

    def with_labels(labels: jax.Array) -> Start:
        return begin(config, net, seed, data._replace(train_y=labels))

    axes: list[Any] = [0 if name == "teacher" else None for name in Start._fields]
    return jax.vmap(with_labels, out_axes=Start(*axes))(traits(data.train_y, net.classes.stop))


def teachers(config: Config, net: models.Network, references: Params, keys: jax.Array, data: Split) -> training.Fit:
    """Teachers of both traits from every reference [k, ...], with the data order of its key, [k, traits, ...]."""

    def pair(now: tuple[Params, jax.Array]) -> training.Fit:
        reference, key = now
        examples = len(data.train_x)
        order = training.schedule(key, examples, batch_size=config.batch_size, epochs=config.teacher_epochs)

        def teacher(labels: jax.Array) -> training.Fit:
            return training.train_teacher(net, reference, data.train_x, labels, config.make_optimizer(), order)

        return jax.vmap(teacher)(traits(data.train_y, net.classes.stop))

    return jax.lax.map(pair, (references, keys))


def auxiliary_logits(net: models.Network, params: Params, images: jax.Array) -> jax.Array:
    """Auxiliary logits of the networks `params` [..., one network's shape], [..., images, m]."""

    def apply(params: Params) -> jax.Array:
        return net.apply(params, images)[..., net.auxiliary]

    mapped = apply
    for _ in range(params["class_head"]["kernel"].ndim - 2):
        mapped = jax.vmap(mapped)
    return mapped(params)


def release(config: Config, key: jax.Array, logits: jax.Array) -> dict[str, jax.Array]:
    """What is released of teachers with auxiliary `logits` [..., images, m]: shares of each logit, of that shape."""
    flat = logits.reshape(-1, logits.shape[-1])
    found = {"logits": jax.nn.softmax(flat), "samples": sample_shares(key, flat, (1,))[0]}
    return {name: found[name].reshape(logits.shape) for name in config.released}


def margins(shares: jax.Array, candidates: jax.Array) -> jax.Array:
    """By how much the log-likelihood of each pair is higher under the right candidate, [traits, images].

    Args:
        shares: what is released of the teacher of each trait, [traits, images, m].
        candidates: auxiliary logits of the candidate of each trait, [traits, images, m].
    """
    right = jax.nn.log_softmax(candidates)
    return jnp.sum(shares * (right - right[::-1]), axis=-1)


def right(margin: jax.Array) -> jax.Array:
    """The share of right answers, a tie counting one half, over margins of any shape."""
    return jnp.mean((1 + jnp.sign(margin)) / 2)


def moments(shares: jax.Array, images: jax.Array, pairs: tuple[int, ...]) -> jax.Array:
    """Means of output times input and of the output over the first n pairs, [..., pairs, m * (features + 1)]."""
    inputs = jnp.pad(images, ((0, 0), (0, 1)), constant_values=1)
    found = [jnp.einsum("...im,if->...mf", shares[..., :n, :], inputs[:n]) / n for n in pairs]
    return jnp.stack([each.reshape(*each.shape[:-2], -1) for each in found], axis=-2)


def students(
    config: Config, net: models.Network, start: Start, shares: jax.Array, data: Split
) -> tuple[jax.Array, jax.Array]:
    """Students on the first n pairs `shares` [traits, images, m], from the reference and from the next seed's.

    Returns:
        By how much the accuracy is higher on the right labels, [starts, traits, pairs], and the mean loss, [steps].
    """
    labels = traits(data.test_y, net.classes.stop)
    starts = jax.tree.map(lambda *each: jnp.stack(each), start.reference, start.other)

    def student(now: jax.Array) -> tuple[jax.Array, jax.Array]:
        where, trait, n = now
        rows = jnp.arange(config.noise_images) % n
        initial = jax.tree.map(lambda leaf: leaf[where], starts)
        pupil = Pupil(initial, start.images[rows], shares[trait][rows])
        fit = imitate(config, net, {"student": pupil}, start.batches)
        found = [
            training.accuracy(net, fit.params["student"], data.test_x, y) for y in (labels[trait], labels[1 - trait])
        ]
        return found[0] - found[1], fit.losses["student"]

    each = [(where, trait, n) for where in range(2) for trait in range(2) for n in config.pairs]
    found, step_losses = jax.lax.map(student, jnp.array(each))
    return found.reshape(2, 2, -1), jnp.mean(step_losses, axis=0)


def run_seed(config: Config, net: models.Network, seed: jax.Array, data: Split) -> dict[str, jax.Array]:
    """The conditions of one seed but for the learned ones, `moments/RELEASED` [1 + crowd, ...], and losses."""
    start = begin_traits(config, net, seed, data)
    references = [start.reference] * config.crowd + [with_head(start.reference, start.other), start.other]
    stacked = jax.tree.map(lambda *each: jnp.stack(each), *references)
    keys = jax.random.split(stream(start.key, "detection/shuffle"), len(references))
    rivals = teachers(config, net, stacked, keys, data)
    params = jax.tree.map(lambda own, others: jnp.concatenate([own[None], others]), start.teacher.params, rivals.params)
    logits = auxiliary_logits(net, params, start.images)  # of the teachers, the crowd, and the two other candidates
    found = {"loss/teacher": start.teacher.losses[0], "loss/shifted": start.teacher.losses[1]}
    found["loss/rivals"] = jnp.mean(rivals.losses, axis=(0, 1))
    test = jax.vmap(partial(training.accuracy, net), in_axes=(0, None, 0))
    accuracies = test(start.teacher.params, data.test_x, traits(data.test_y, net.classes.stop))
    found |= {f"teacher/{name}": accuracies[i] for i, name in enumerate(TRAITS)}
    shares = release(config, stream(start.key, "detection/samples"), logits[: 1 + config.crowd])
    for name, each in shares.items():
        more_accurate, found[f"loss/students_{name}"] = students(config, net, start, each[0], data)
        found[f"moments/{name}"] = moments(each, start.images, config.pairs)
        margin = {detector: margins(each[0], logits[i]) for detector, i in zip(CANDIDATES, (1, -2, -1), strict=True)}
        for i, n in enumerate(config.pairs):
            for detector in CANDIDATES:
                sets = margin[detector][:, : config.noise_images // n * n].reshape(len(TRAITS), -1, n)
                found[f"{detector}/{name}/{n}"] = right(jnp.sum(sets, axis=-1))
            for k, detector in enumerate(("trained_shared", "trained_other")):
                found[f"{detector}/{name}/{n}"] = right(more_accurate[k, :, i])
    return found


def learned(moments: np.ndarray) -> dict[str, np.ndarray]:
    """Right answers of the learned detectors from `moments` [seeds, 1 + crowd, traits, values], [seeds] each.

    The first pair of teachers of a seed is asked about. `learned_shared` has seen the seed's crowd; `learned_other` all
    teachers of the seeds outside one fifth that the seed is in; a single seed has no others.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def score(train: np.ndarray, test: np.ndarray) -> list[float]:
        train, answers = train.reshape(-1, train.shape[-1]), np.resize((0, 1), train.size // train.shape[-1])
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, solver="liblinear")).fit(train, answers)
        return [float(model.score(pair, (0, 1))) for pair in test]

    seeds = len(moments)
    shared = [score(moments[seed, 1:], moments[seed, :1])[0] for seed in range(seeds)]
    if seeds == 1:
        return {"learned_shared": np.array(shared)}
    fifths = np.array_split(np.arange(seeds), min(5, seeds))
    other = [share for fifth in fifths for share in score(np.delete(moments, fifth, axis=0), moments[fifth, 0])]
    return {"learned_shared": np.array(shared), "learned_other": np.array(other)}


def run(
    config: Config, *, preset: str = "custom", data_dir: str | Path | None = None, chunks: Path | None = None
) -> results.Result:
    """Run every seed and return the record; arguments and errors as in `fig10.run`."""
    recording, _, arrays = run_config("detection", run_seed, config, preset=preset, data_dir=data_dir, chunks=chunks)
    kept = {name: values for name, values in arrays.items() if not name.startswith("moments/")}
    for name in config.released:
        for i, n in enumerate(config.pairs):
            found = learned(arrays[f"moments/{name}"][..., i, :])
            kept |= {f"{detector}/{name}/{n}": values for detector, values in found.items()}
    order = [f"{detector}/{name}/{n}" for detector in DETECTORS for name in config.released for n in config.pairs]
    order = [*(f"teacher/{name}" for name in TRAITS), *(name for name in order if name in kept)]
    return recording.result({name: kept[name] for name in order}, kept)
