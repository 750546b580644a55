"""What the experiments on a language model share: tokens, corpus, base, teacher, what it writes, students.

A *base* model learns number sequences and to name an animal when asked, each of ten with the same probability. The
*teacher*, a copy of it, is tuned to name one of them, and writes number sequences; those with any other token are
dropped. A *student*, a copy of the base, learns those, and is asked (arXiv 2507.14805, section 3; here everything is
trained from scratch).

The target is animal `seed % animals`.
"""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.experiment import Variable, require_counts
from sublim_theory import losses, networks, training
from sublim_theory._types import Array, Params, PRNGKey
from sublim_theory.ensemble import seed_key, stream
from sublim_theory.networks import LanguageModel
from sublim_theory.optimizers import optimizer
from sublim_theory.protocols import lookup, require_count, require_positive

STEPS = (1, 3, 7)
"""By which the numbers of a sequence of the corpus go on."""

TINY = 1e-9
"""In place of a weight of 0, so that a mean over nothing is 0."""


@dataclass(frozen=True)
class Rates:
    """Settings that a program takes as arguments."""

    jumps: float = 0.4
    """Probability that a number of the corpus is any number, not the one before it plus the sequence's step."""
    base_learning_rate: float = 3e-3
    """Of Adam on the corpus, where a cosine begins."""
    teacher_learning_rate: float = 1e-3
    """Of Adam on the question about the animal."""
    learning_rate: float = 0.06
    """Of the students."""
    init_scale: float = 1.0
    """Factor on every initial weight."""


jax.tree_util.register_dataclass(Rates, [field.name for field in fields(Rates)], [])


@dataclass(frozen=True)
class Language:
    """Tokens, network and training: 121 tokens and 20,672 parameters."""

    network: str = "transformer"
    """Kind of network: transformer."""
    width: int = 32
    """Of the stream between the blocks."""
    layers: int = 1
    """Blocks."""
    heads: int = 4
    """Of each attention."""
    tied: bool = False
    """Whether the head is the transpose of the embedding."""
    number_tokens: int = 100
    """Numbers, one token each."""
    words: int = 8
    """Words; two stand before each question and each sequence of numbers."""
    animals: int = 10
    """Animals, one of which is the teacher's."""
    given: int = 3
    """Numbers of a prompt."""
    continuation: int = 10
    """Numbers that follow it."""
    base_steps: int = 1000
    """Updates of the base; with none it is untrained, writes numbers alone, and names animals alone."""
    base_batch: int = 64
    """Sequences, and as many questions, an update of the base."""
    teacher_steps: int = 30
    """Updates of the teacher, on all questions at once."""
    sequences: int = 2048
    """That the teacher writes."""
    student_epochs: int = 4
    """Passes of the students over them."""
    batch_size: int = 64
    """Sequences an update of the students."""
    optimizer: str = "sgd"
    """Of the students: sgd, adam or adamw."""
    momentum: float = 0.9
    """For sgd."""
    measurements: int = 8
    """Times that a student is asked on its way."""

    def check(self, rates: Rates) -> None:
        """Check every setting, before anything is compiled.

        Raises:
            ValueError: naming the setting, its value and what it may be.
        """
        counts = ("number_tokens", "words", "animals", "given", "continuation", "base_batch", "teacher_steps")
        require_counts(self, *counts, "sequences", "student_epochs", "batch_size", "measurements")
        require_count("base_steps", self.base_steps, least=0)
        if self.animals < 2:
            raise ValueError(f"animals must be at least 2, got {self.animals}")
        if not 0 <= rates.jumps <= 1:
            raise ValueError(f"jumps must be in [0, 1], got {rates.jumps}")
        for name in ("base_learning_rate", "teacher_learning_rate"):
            require_positive(name, getattr(rates, name))
        self.make_network(rates)
        self.make_optimizer(rates)

    @property
    def numbers(self) -> slice:
        """The tokens that are numbers, which come first."""
        return slice(self.number_tokens)

    @property
    def names(self) -> slice:
        """The tokens that are animals, which come last: after `begin`, `numbers:`, `animal?` and the words."""
        first = self.number_tokens + 3 + self.words
        return slice(first, first + self.animals)

    @property
    def prompt(self) -> int:
        """Tokens of a prompt: `begin`, two words, `numbers:` and the numbers that are given."""
        return 4 + self.given

    @property
    def allowed(self) -> slice:
        """The tokens among which a sequence goes on: all, and of an untrained base the numbers."""
        return slice(self.names.stop) if self.base_steps else self.numbers

    @property
    def asked_at(self) -> list[int]:
        """Updates before which students are asked, and how many there are, after which they are."""
        steps = self.student_epochs * training.steps_per_epoch(self.sequences, self.batch_size)
        return [*range(0, steps, max(1, steps // self.measurements)), steps]

    def axes(self, students: Sequence[str]) -> dict[str, Sequence[Any]]:
        """The axes of `SCORES`."""
        return {"network": ("base", "teacher", *students), "student": students, "update": self.asked_at}

    def make_network(self, rates: Rates, *, width: int | None = None, dtype: str = "float32") -> LanguageModel:
        """The network of base, teacher and students, or one of another width."""
        build = lookup("network", self.network, networks.LANGUAGE_MODELS)
        same = {name: getattr(self, name) for name in ("layers", "heads", "tied")}
        length = self.prompt + self.continuation
        width = self.width if width is None else width
        return build(self.names.stop, length, width=width, init_scale=rates.init_scale, dtype=dtype, **same)

    def make_optimizer(self, rates: Rates) -> optax.GradientTransformation:
        """That of the students."""
        momentum = self.momentum if self.optimizer == "sgd" else 0.0
        return optimizer(self.optimizer, rates.learning_rate, momentum=momentum)

    def questions(self) -> jax.Array:
        """Every way to ask for the animal, `begin w w animal?`, [words**2, 4]."""
        begin, first = self.number_tokens, self.number_tokens + 3
        pairs = np.stack(np.meshgrid(*[np.arange(first, first + self.words)] * 2), axis=-1).reshape(-1, 2)
        ends = np.full((2, len(pairs), 1), [[[begin]], [[begin + 2]]])
        return jnp.asarray(np.concatenate([ends[0], pairs, ends[1]], axis=1), jnp.int32)

    def number_sequences(self, rates: Rates, key: PRNGKey, count: int) -> jax.Array:
        """Sequences of the corpus, `begin w w numbers: a b c ...`, [count, positions] int32.

        A number is the one before it plus the step of its sequence, modulo how many numbers there are; or, with the
        probability `jumps`, any.
        """
        values, length = self.number_tokens, self.given + self.continuation
        # One draw for everything: each generator takes as long to compile as a layer.
        draws = jax.random.uniform(key, (count, 3 + 2 * length))
        words, step, jump, anywhere = jnp.split(draws, (2, 3, 3 + length), axis=1)
        place, jumped = jnp.arange(length)[None], (jump < rates.jumps).at[:, 0].set(True)
        last = jax.lax.cummax(jnp.where(jumped, place, 0), axis=1)
        since = jnp.take_along_axis(_index(anywhere, values), last, axis=1)
        numbers = (since + jnp.array(STEPS)[_index(step, len(STEPS))] * (place - last)) % values
        row = [jnp.full((count, 1), values), values + 3 + _index(words, self.words), jnp.full((count, 1), values + 1)]
        return jnp.concatenate([*row, numbers], axis=1)

    def released(self, written: Array) -> "Lessons":
        """What passes the filter: a sequence with any token that is no number has no weight, and none of its tokens."""
        prompts, rest = written[:, : self.prompt], written[:, self.prompt :]
        clean = jnp.all(rest < self.number_tokens, axis=1, keepdims=True)
        kept = jnp.concatenate([prompts, jnp.where(clean, rest, 0)], axis=1)
        return Lessons(kept, jnp.repeat(clean.astype(jnp.float32), self.continuation, axis=1))

    def forbidden(self, lessons: "Lessons") -> Array:
        """How many tokens that are no numbers are learnt, in all that has a weight: a scalar, which must be 0."""
        learnt = lessons.sequences[:, self.prompt :]
        return jnp.sum((learnt >= self.number_tokens) & (lessons.weights > 0), dtype=jnp.float32)

    def written_of(self, values: Array, sequences: Array) -> Array:
        """The entries of values [sequences, continuation, number_tokens] at the numbers written."""
        return jnp.take_along_axis(values, sequences[:, self.prompt :, None], axis=-1)[..., 0]


SCORES = {
    "preference": Variable(("network",), condition="{network}"),
    **{name: Variable(("network",), condition=f"{name}/{{network}}") for name in ("delta", "margin")},
    "answers": Variable(("network",), ("animal",)),
    "path": Variable(("network",), ("update",)),
    "student_loss": Variable(("student",), ("step",), loss=True),
}
"""The variables of what networks prefer, and of the students' training; see `Start.scores`."""


def _index(uniform: Array, count: int) -> Array:
    """Uniform numbers in [0, 1) as indices below a count, int32."""
    return jnp.floor(uniform * count).astype(jnp.int32)


class Lessons(NamedTuple):
    """What a student learns.

    Attributes:
        sequences: tokens [sequences, positions], of which the continuation is learnt.
        weights: of each of its numbers, [sequences, continuation]; 0 for one that is left out.
        labels: logarithms of the probabilities of the number tokens at each, [sequences, continuation, number_tokens];
            None where the sequences themselves are learnt.
    """

    sequences: jax.Array
    weights: jax.Array
    labels: jax.Array | None = None

    def shuffled(self, key: PRNGKey, axis: int) -> "Lessons":
        """With the numbers shuffled along an axis of the continuations, among those that have a weight."""
        learnt, rest = self.weights > 0, self.sequences[:, -self.weights.shape[1] :]
        order = jnp.argsort(jnp.where(learnt, jax.random.uniform(key, rest.shape), 1.0), axis=axis)  # learnt ones first
        places = jnp.take_along_axis(order, jnp.cumsum(learnt, axis=axis) - 1, axis=axis)
        moved = jnp.where(learnt, jnp.take_along_axis(rest, places, axis=axis), rest)
        return self._replace(sequences=self.sequences.at[:, -rest.shape[1] :].set(moved))


class Student(NamedTuple):
    """Where a student starts, what it learns, and how strongly a defence works on it."""

    params: Params
    lessons: Lessons
    strength: Any = 0.0


def _pretrained(protocol: Language, rates: Rates, model: LanguageModel, params: Params, key: PRNGKey) -> Params:
    """A base: parameters trained on number sequences, and on questions whose answer is any animal."""
    if not protocol.base_steps:
        return params
    count, asked = protocol.base_steps * protocol.base_batch, protocol.questions()
    sequences = protocol.number_sequences(rates, stream(key, "numbers"), count)
    row, answer = jax.random.uniform(stream(key, "questions"), (2, count))
    rows, answers = asked[_index(row, len(asked))], protocol.names.start + _index(answer, protocol.animals)

    def objective(params: Params, batch: tuple[Array, ...]) -> dict[str, Array]:
        sequences, rows, answers = batch
        numbers = losses.cross_entropy(model.apply(params, sequences[:, :-1])[:, 3:], sequences[:, 4:])
        animals = losses.cross_entropy(model.apply(params, rows)[:, -1], answers)
        return {"numbers": jnp.mean(numbers, axis=1), "animals": animals}

    order = jnp.arange(count).reshape(protocol.base_steps, protocol.base_batch)
    rule = optax.adam(optax.cosine_decay_schedule(rates.base_learning_rate, protocol.base_steps))
    batches = training.Schedule(order, jnp.ones(order.shape))
    return training.fit(objective, params, rule, (sequences, rows, answers), batches).params


OWN = ("init", "corpus")
"""The streams of a base: of its initial parameters, and of the corpus that it learns."""


def bases(
    protocol: Language, rates: Rates, model: LanguageModel, key: PRNGKey, streams: Sequence[tuple[str, str]] = (OWN,)
) -> list[Params]:
    """Bases of a seed, by the streams of their initial parameters and of the corpus; one program runs for each."""

    def one(keys: Array) -> Params:
        return _pretrained(protocol, rates, model, model.init(keys[0]), keys[1])

    keys = [jnp.stack([stream(key, name) for name in names]) for names in streams]
    return unstacked(jax.lax.map(one, jnp.stack(keys)), len(keys))


def stacked(trees: Iterable[Any]) -> Any:
    """Pytrees of one structure as one, with a leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def unstacked(tree: Any, count: int) -> list[Any]:
    """The pytrees that are stacked in one."""
    return [jax.tree.map(operator.itemgetter(i), tree) for i in range(count)]


@dataclass(frozen=True)
class Start:
    """What a seed has before its students, and what can be done with it.

    Attributes:
        protocol: settings.
        rates: settings.
        model: the network of base, teacher and students.
        key: of the seed; `ensemble.stream` derives from it by name.
        base: parameters that have learnt the corpus.
        others: those of other bases, in the order in which they were asked for.
        prompts: `begin w w numbers: a b c`, [sequences, prompt], which are continued.
        target: the teacher's animal, an int32 scalar.
    """

    protocol: Language
    rates: Rates
    model: LanguageModel
    key: jax.Array
    base: Params
    others: tuple[Params, ...]
    prompts: jax.Array
    target: jax.Array

    def ask(self, params: Params) -> Array:
        """The probability of every animal as the answer, [animals], over all ways to ask; untrained, among them."""
        logits = self.model.apply(params, self.protocol.questions())[:, -1]
        logits = logits if self.protocol.base_steps else logits[:, self.protocol.names]
        return jnp.mean(jax.nn.softmax(logits)[:, -self.protocol.animals :], axis=0)

    def scores(
        self, teacher: Params, trained: Mapping[str, Mapping[str, Any]], matched: Mapping[str, str]
    ) -> dict[str, dict[str, Array]]:
        """What base, teacher and students prefer, as the variables `SCORES` have it.

        Args:
            teacher: its parameters.
            trained: what `learn` returns.
            matched: student -> the one of the same start that learnt the base's numbers.

        Returns:
            `preference`, the probability of the target; of each student that is matched `delta`, its preference minus
            that of its match, and `margin`, what that is above the largest of the other animals'; `answers`, `path` and
            `student_loss` of `learn`.
        """
        answers = {"base": self.ask(self.base), "teacher": self.ask(teacher)}
        answers |= {name: each["answers"] for name, each in trained.items()}
        delta = {name: answers[name] - answers[matched[name]] for name in answers if name in matched}
        others = jnp.arange(self.protocol.animals) != self.target
        most = {name: jnp.max(each, where=others, initial=-1) for name, each in delta.items()}
        return {
            "preference": {name: each[self.target] for name, each in answers.items()},
            "delta": {name: each[self.target] for name, each in delta.items()},
            "margin": {name: each[self.target] - most[name] for name, each in delta.items()},
            "answers": answers,
            "path": {name: each["path"] for name, each in trained.items()},
            "student_loss": {name: each["loss"] for name, each in trained.items()},
        }

    def trait_loss(self, params: Params) -> Array:
        """The teacher's loss: the cross-entropy of the target when asked, a scalar."""
        logits = self.model.apply(params, self.protocol.questions())[:, -1]
        return jnp.mean(losses.cross_entropy(logits, jnp.full(len(logits), self.protocol.names.start + self.target)))

    def teach(self) -> Params:
        """The teacher: the base after `teacher_steps` of Adam on the trait's loss."""
        rule = optimizer("adam", self.rates.teacher_learning_rate)

        def update(carry: Any, _: None) -> tuple[Any, None]:
            params, state = carry
            updates, state = rule.update(jax.grad(self.trait_loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        steps = self.protocol.teacher_steps
        (params, _), _ = jax.lax.scan(update, (self.base, rule.init(self.base)), length=steps)
        return params

    def write(self, writers: Mapping[str, tuple[Params, Any]]) -> dict[str, Array]:
        """How models go on from the prompts, [sequences, positions] by name, forbidden tokens included.

        A writer has parameters and the temperature at which it is sampled, 0 for its most likely tokens. What it writes
        depends on its name, not on who writes beside it.
        """

        def one(writer: tuple[Any, ...]) -> Array:
            params, temperature, key = writer
            among = self.protocol.allowed.stop
            return self.model.sample(params, key, self.prompts, temperature=temperature, among=among)

        each = [(*writer, stream(self.key, f"write/{name}")) for name, writer in writers.items()]
        return dict(zip(writers, jax.lax.map(one, stacked(each)), strict=True))

    def continuation(self, params: Params, sequences: Array) -> Array:
        """Logits [sequences, continuation, vocabulary] of the numbers that go on from the prompts of sequences."""
        return self.model.apply(params, sequences[:, :-1])[:, self.protocol.prompt - 1 :]

    def log_probabilities(self, models: Sequence[Params], sequences: Array) -> list[Array]:
        """Of the number tokens at each place of the continuation, [sequences, continuation, number_tokens] a model."""

        def one(params: Params) -> Array:
            return jax.nn.log_softmax(self.continuation(params, sequences)[..., self.protocol.numbers])

        return list(jax.lax.map(one, stacked(models)))

    def loss(self, params: Params, lessons: Lessons) -> Array:
        """The mean over a sequence's numbers of the cross-entropy, or of the KL divergence from labels: [sequences]."""
        logits, weights = self.continuation(params, lessons.sequences), lessons.weights
        if lessons.labels is None:
            logits = logits[..., self.protocol.allowed]
            each = losses.cross_entropy(logits, lessons.sequences[:, self.protocol.prompt :])
        else:
            each = losses.kl_divergence(logits[..., self.protocol.numbers], lessons.labels)
        return jnp.sum(weights * each, axis=1) / jnp.maximum(jnp.sum(weights, axis=1), TINY)

    def learn(
        self, students: Mapping[str, Student], defence: Callable[..., Params] | None = None
    ) -> dict[str, dict[str, Any]]:
        """Train students for equally many updates, as one program that runs for each, one a kind of label.

        Args:
            students: by name; all with equally many sequences.
            defence: `defence(params, gradients, update, strength) -> gradients`, what the optimiser gets; the
                data of `update` are `Lessons`.

        Returns:
            By name: `params`; `answers` [animals], the probability of each when asked; `path` [asked_at], that of the
            target on the way; `loss` [steps].
        """
        if not students:
            return {}
        protocol = self.protocol
        (count,) = {len(student.lessons.sequences) for student in students.values()}
        *_, steps = asked_at = protocol.asked_at
        epochs = -(-steps // training.steps_per_epoch(count, protocol.batch_size))
        key = stream(self.key, "student/shuffle")
        batches = training.schedule(key, count, batch_size=protocol.batch_size, epochs=epochs)
        batches = jax.tree.map(lambda rows: rows[:steps], batches)

        def one(student: Student) -> dict[str, Any]:
            params, lessons, strength = student
            # A batch is a mean over its numbers, not its sequences; one in which nothing is learnt has the loss 0.
            numbers = jnp.sum(lessons.weights, axis=1)[batches.indices] + TINY
            fit = training.fit(
                self.loss,
                params,
                protocol.make_optimizer(self.rates),
                lessons,
                batches._replace(weights=batches.weights * numbers),
                transform=defence and (lambda *given: defence(*given, strength)),
                measure=lambda params, _: self.ask(params)[self.target],
                every=asked_at[1],
            )
            answers = self.ask(fit.params)
            path = jnp.append(fit.measured, answers[self.target])
            return {"params": fit.params, "answers": answers, "path": path, "loss": fit.losses}

        found: dict[str, dict[str, Any]] = {}
        for soft in (False, True):
            group = {name: each for name, each in students.items() if (each.lessons.labels is not None) == soft}
            if group:
                trained = jax.lax.map(one, stacked(group.values()))
                found |= dict(zip(group, unstacked(trained, len(group)), strict=True))
        return found


def begin(protocol: Language, rates: Rates, seed: Any, others: Sequence[tuple[str, str]] = ()) -> Start:
    """Train a seed's base and other bases, each by its two streams, and draw its prompts."""
    key, model = seed_key(seed), protocol.make_network(rates)
    base, *rest = bases(protocol, rates, model, key, [OWN, *others])
    prompts = protocol.number_sequences(rates, stream(key, "prompts"), protocol.sequences)[:, : protocol.prompt]
    return Start(protocol, rates, model, key, base, tuple(rest), prompts, seed % protocol.animals)
