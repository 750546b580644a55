"""The corpus, the filter, what students learn and what is asked of them; each against numpy or a loop of its own."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import language, owl
from experiments.language import Language, Lessons, Rates, Start, Student
from sublim_theory import training
from sublim_theory.ensemble import seed_key, stream

USUAL, RATES = Language(), Rates()
TINY = {"number_tokens": 12, "words": 2, "width": 8, "heads": 2, "base_steps": 20, "sequences": 64, "student_epochs": 1}
SMALL = Language(**TINY, batch_size=16, measurements=2)


@pytest.fixture(scope="module")
def start():
    """One whose base and other base were drawn, not trained."""
    model = SMALL.make_network(RATES)
    init = jax.jit(model.init)
    base, other = map(init, jax.random.split(jax.random.key(0)))
    prompts = SMALL.number_sequences(RATES, jax.random.key(1), SMALL.sequences)[:, : SMALL.prompt]
    return Start(SMALL, RATES, model, seed_key(0), base, (other,), prompts, jnp.int32(3))


@pytest.fixture(scope="module")
def learnt():
    """One whose base, other base and teacher were trained, and the teacher."""
    protocol, rates = dataclasses.replace(SMALL, base_steps=150, width=16), Rates(base_learning_rate=2e-2)

    @jax.jit
    def train():
        start = language.begin(protocol, rates, 13, [("init/other", "corpus")])
        return start.base, start.others, start.prompts, start.target, start.teach()

    base, others, prompts, target, teacher = train()
    model = protocol.make_network(rates)
    return Start(protocol, rates, model, seed_key(13), base, others, prompts, target), teacher


# Tokens and corpus


def test_the_vocabulary_is_numbers_first_and_animals_last():
    assert (USUAL.numbers, USUAL.names, USUAL.prompt, USUAL.allowed) == (slice(100), slice(111, 121), 7, slice(121))
    assert dataclasses.replace(USUAL, base_steps=0).allowed == slice(100)
    assert USUAL.make_network(RATES).vocabulary == 121


def test_questions_are_every_pair_of_words_once():
    rows = np.asarray(USUAL.questions())
    assert rows.shape == (64, 4)
    assert {tuple(row) for row in rows.tolist()} == {(100, a, b, 102) for a in range(103, 111) for b in range(103, 111)}


def test_sequences_go_on_by_their_own_step_or_jump_as_often_as_they_should():
    rows = np.asarray(USUAL.number_sequences(RATES, jax.random.key(0), 20_000))
    assert rows.shape == (20_000, 17)
    assert (rows[:, 0] == 100).all()
    assert (rows[:, 3] == 101).all()
    numbers = rows[:, 4:]
    assert numbers.min() == 0
    assert numbers.max() == 99
    steps = np.diff(numbers, axis=1) % 100
    by = np.array([np.bincount(row, minlength=100)[[1, 3, 7]].argmax() for row in steps])
    assert (np.bincount(by, minlength=3) > 6_000).all()
    follow = (steps == np.array([1, 3, 7])[by][:, None]).mean()
    assert follow == pytest.approx(0.6 + 0.4 / 100, abs=0.01)  # a jump goes on by chance
    for values, count in ((numbers[:, 0], 100), (numbers[:, 12], 100), (rows[:, 1] - 103, 8), (rows[:, 2] - 103, 8)):
        shares = np.bincount(values, minlength=count) / len(values)
        assert len(shares) == count
        assert (np.abs(shares - 1 / count) < 5 * np.sqrt(1 / count / len(values))).all()
    never = np.asarray(USUAL.number_sequences(Rates(jumps=0.0), jax.random.key(0), 100))[:, 4:]
    assert (np.diff(np.diff(never, axis=1) % 100, axis=1) == 0).all()


# The filter


def test_what_holds_a_forbidden_token_is_dropped_as_a_whole_and_nothing_else():
    rng = np.random.default_rng(0)
    written = rng.integers(0, 12, (50, 17))
    bad = rng.choice(50, 20, replace=False)
    written[bad, rng.integers(7, 17, 20)] = rng.integers(12, SMALL.names.stop, 20)
    written[:, :7] = 13  # prompts have other tokens, and may
    lessons = SMALL.released(jnp.asarray(written))
    kept = ~np.isin(np.arange(50), bad)
    np.testing.assert_array_equal(lessons.weights, np.repeat(kept[:, None], 10, axis=1))
    np.testing.assert_array_equal(lessons.sequences[kept], written[kept])
    assert (lessons.sequences[:, 7:] < 12).all()
    assert SMALL.forbidden(lessons) == 0
    assert SMALL.forbidden(Lessons(jnp.asarray(written), jnp.ones((50, 10)))) == 20


def test_numbers_of_a_weight_of_0_have_no_influence_and_others_have(start):
    rows = start.model.sample(start.base, jax.random.key(2), start.prompts, among=12)
    weights = jnp.ones((64, 10)).at[5].set(0).at[:, 3].set(0)
    changed = rows.at[5].set(0), rows.at[7, 9].set((rows[7, 9] + 1) % 12)  # a token of row 5, one that counts
    found = start.learn(
        {str(i): Student(start.base, Lessons(each, weights)) for i, each in enumerate((rows, *changed))}
    )
    params = [jax.tree.leaves(found[str(i)]["params"]) for i in range(3)]
    assert all(np.array_equal(a, b) for a, b in zip(params[0], params[1], strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(params[0], params[2], strict=True))


# Learning


def test_a_student_is_trained_by_the_mean_over_the_numbers_of_every_batch(start):
    """A loop of its own: cross-entropy from the definition, momentum by hand, batches of the same schedule."""
    rows = start.model.sample(start.base, jax.random.key(2), start.prompts, among=12)
    weights = jnp.asarray(np.random.default_rng(0).integers(0, 2, (64, 10)), jnp.float32)
    found = start.learn({"only": Student(start.base, Lessons(rows, weights))})["only"]

    def loss(params, rows, weights):
        logits = start.model.apply(params, rows[:, :-1])[:, 6:]
        each = jax.nn.logsumexp(logits, axis=-1) - jnp.sum(logits * jax.nn.one_hot(rows[:, 7:], 27), axis=-1)
        return jnp.sum(weights * each) / jnp.sum(weights)

    step = jax.jit(jax.value_and_grad(loss))
    batches = training.schedule(stream(start.key, "student/shuffle"), 64, batch_size=16, epochs=1)
    params, speed = start.base, optax.tree.zeros_like(start.base)
    for i, chosen in enumerate(np.asarray(batches.indices)):
        value, gradient = step(params, rows[chosen], weights[chosen])
        assert found["loss"][i] == pytest.approx(float(value), rel=1e-5)
        speed = jax.tree.map(lambda v, g: 0.9 * v + g, speed, gradient)
        params = jax.tree.map(lambda w, v: w - 0.06 * v, params, speed)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found["params"], params)
    assert found["path"].shape == (len(SMALL.asked_at),)
    assert found["path"][0] == pytest.approx(float(start.ask(start.base)[3]), rel=1e-5)
    assert found["path"][-1] == pytest.approx(float(start.ask(params)[3]), rel=1e-4)


def test_soft_labels_of_the_student_itself_teach_nothing_and_of_another_model_something(start):
    rows = start.model.sample(start.base, jax.random.key(2), start.prompts, among=12)
    own, others = start.log_probabilities([start.base, start.others[0]], rows)
    lessons = Lessons(rows, jnp.ones((64, 10)), own)
    found = start.learn(
        {"own": Student(start.base, lessons), "other": Student(start.base, lessons._replace(labels=others))}
    )
    assert np.abs(found["own"]["loss"]).max() < 1e-6
    shares = np.exp(np.asarray(others, np.float64))
    np.testing.assert_allclose(shares.sum(axis=-1), 1, rtol=1e-5)
    first = training.schedule(stream(start.key, "student/shuffle"), 64, batch_size=16, epochs=1).indices[0]
    divergence = (shares * (np.asarray(others, np.float64) - np.asarray(own))).sum(axis=-1)
    assert found["other"]["loss"][0] == pytest.approx(divergence[first].mean(), rel=1e-4)


def test_students_of_fewer_sequences_take_as_many_updates(start):
    rows = start.model.sample(start.base, jax.random.key(2), start.prompts[:20], among=12)
    found = start.learn({"few": Student(start.base, Lessons(rows, jnp.ones((20, 10))))})["few"]
    assert found["loss"].shape == (4,)


def test_a_defence_gets_the_batch_and_its_own_strength(start):
    rows = start.model.sample(start.base, jax.random.key(2), start.prompts, among=12)
    lessons = Lessons(rows, jnp.ones((64, 10)))

    def defence(_, gradients, update, strength):
        assert update.batch.sequences.shape == (16, 17)
        return optax.tree.scale(1 - strength, gradients)

    pair = {str(s): Student(start.base, lessons, jnp.float32(s)) for s in (0.0, 1.0)}
    found = start.learn(pair, defence)
    jax.tree.map(np.testing.assert_array_equal, found["1.0"]["params"], start.base)
    plain = start.learn({"0.0": pair["0.0"]})["0.0"]["params"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), found["0.0"]["params"], plain)


# Base, teacher and scores


@pytest.mark.training
def test_the_base_learns_the_corpus_and_the_teacher_its_animal(learnt):
    start, teacher = learnt
    assert (start.target, start.prompts.shape) == (3, (64, 7))
    ask, loss = jax.jit(start.ask), jax.jit(start.loss)
    answers = np.asarray(ask(start.base))
    assert answers.sum() > 0.9
    assert np.abs(answers - 0.1).max() < 0.06
    taught = np.asarray(ask(teacher))
    assert taught.argmax() == 3
    assert taught[3] > 0.25
    lessons = Lessons(start.protocol.number_sequences(RATES, jax.random.key(9), 500), jnp.ones((500, 10)))
    best = 0.6 * np.log(1 / (0.6 + 0.4 / 12)) + 0.4 * np.log(12 / 0.4)  # of who knows the steps
    assert best < float(jnp.mean(loss(start.base, lessons))) < np.log(12)
    assert not np.array_equal(start.base["head"]["kernel"], start.others[0]["head"]["kernel"])


def test_an_untrained_base_is_the_initialisation_and_names_animals_alone(start):
    untrained = dataclasses.replace(start, protocol=dataclasses.replace(SMALL, base_steps=0))

    @jax.jit
    def found():
        (base,) = language.bases(untrained.protocol, RATES, start.model, start.key)
        return base, untrained.ask(base), untrained.write({"base": (base, 1.0)})["base"]

    base, answers, written = found()
    expected = jax.jit(start.model.init)(stream(start.key, "init"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), base, expected)
    assert float(jnp.sum(answers)) == pytest.approx(1, rel=1e-5)
    assert (np.asarray(written)[:, 7:] < 12).all()


def test_scores_are_those_of_numpy(start):
    rng = np.random.default_rng(0)
    answers = {name: rng.dirichlet(np.ones(10)) for name in ("one", "two", "control")}
    trained = {n: {"answers": jnp.asarray(a), "path": jnp.zeros(3), "loss": jnp.ones(2)} for n, a in answers.items()}
    found = start.scores(start.others[0], trained, {"one": "control", "two": "control"})
    for name in ("one", "two"):
        gap = answers[name] - answers["control"]
        assert found["delta"][name] == pytest.approx(gap[3], rel=1e-4)
        assert found["margin"][name] == pytest.approx(gap[3] - np.delete(gap, 3).max(), rel=1e-4)
    assert set(found["delta"]) == {"one", "two"}
    assert found["preference"]["control"] == pytest.approx(answers["control"][3], rel=1e-5)
    assert set(found["preference"]) == {"base", "teacher", "one", "two", "control"}


def test_what_is_written_depends_on_the_name_of_the_writer_and_not_on_who_writes_beside(start):
    alone = start.write({"base": (start.base, 1.0)})["base"]
    both = start.write({"teacher": (start.base, 1.0), "base": (start.base, 1.0)})
    np.testing.assert_array_equal(both["base"], alone)
    assert (both["teacher"] != alone).any()
    np.testing.assert_array_equal(alone[:, :7], start.prompts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"number_tokens": 0}, "number_tokens must be at least 1, got 0"),
        ({"animals": 1}, "animals must be at least 2, got 1"),
        ({"base_steps": -1}, "base_steps must be at least 0, got -1"),
        ({"sequences": 0}, "sequences must be at least 1, got 0"),
        ({"heads": 5}, "width must be a multiple of heads, got 32 and 5"),
        ({"network": "transfomer"}, "unknown network 'transfomer'; did you mean 'transformer'"),
        ({"optimizer": "sdg"}, "unknown optimizer 'sdg'; did you mean 'sgd'"),
        ({"jumps": 1.5}, "jumps must be in [0, 1], got 1.5"),
        ({"jumps": float("nan")}, "jumps must be in [0, 1], got nan"),
        ({"base_learning_rate": 0.0}, "base_learning_rate must be positive and finite, got 0"),
        ({"students": ("sample",)}, "unknown student 'sample'; did you mean 'samples'"),
        ({"students": ()}, "students must have at least one, each once"),
        ({"other": "strat"}, "unknown other 'strat'; did you mean 'start'"),
        ({"cross_width": 30}, "width must be a multiple of heads, got 30 and 4"),
        ({"dataset": "digits"}, "unknown dataset 'digits'; choose from: none"),
    ],
)
def test_a_wrong_setting_is_named(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        owl.PRESETS["smoke"].but(**changes)


# The experiment


@pytest.mark.training
def test_the_record_of_the_owl_has_every_network_and_its_numbers_fit_together(recorded):
    few = TINY | {"base_steps": 100, "base_learning_rate": 2e-2, "students": ("samples", "soft", "cross_samples")}
    settings = owl.PRESETS["smoke"].but(**few, seeds=2, batch_size=16)
    record = recorded("owl", settings)
    table, trained = record.table, settings.protocol.trained
    assert table["network"].values.tolist() == ["base", "teacher", *trained]
    assert trained == ["samples", "soft", "cross_samples", "control", "cross_control"]
    for name in settings.protocol.students:
        gap = table["answers"].sel(network=name) - table["answers"].sel(network=owl.MATCHED[name])
        for seed in (0, 1):  # the target is the seed modulo the animals
            here = gap.sel(seed=seed).values
            assert table["delta"].sel(network=name, seed=seed) == pytest.approx(here[seed], abs=1e-6)
            rest = np.delete(here, seed).max()
            assert table["margin"].sel(network=name, seed=seed) == pytest.approx(here[seed] - rest, abs=1e-6)
    conditions = record.conditions
    assert conditions["forbidden"].values == (0.0, 0.0)
    assert "delta/control" not in conditions
    assert 0 < conditions["passed"].mean < 1
    assert table["update"].values.tolist() == settings.protocol.asked_at
    path = table["path"].sel(network=trained)
    np.testing.assert_allclose(path.isel(update=-1), table["preference"].sel(network=trained), rtol=1e-5)
    assert record.config["dataset"] == "none"


def test_every_student_can_be_had_and_only_those_asked_for_are_trained():
    for students in (owl.STUDENTS, ("other_width",), ("thinned",)):
        protocol = owl.PRESETS["smoke"].but(**TINY, students=students).protocol
        found = jax.eval_shape(lambda protocol=protocol: owl.run_seed(protocol, RATES, (), jnp.int32(0)))
        assert set(found["student_loss"]) == set(protocol.trained) >= set(students)
        assert set(found["preference"]) == {"base", "teacher", *protocol.trained}
    assert set(protocol.trained) == {"thinned", "control"}


def test_the_half_that_is_filtered_is_that_with_the_smallest_gap(learnt):
    start, teacher = learnt
    lessons, found = jax.jit(lambda: owl.released(start, teacher))()
    kept, rows = np.asarray(lessons["samples"].weights[:, 0]), lessons["samples"].sequences
    own, base = (np.asarray(each) for each in start.log_probabilities([teacher, start.base], rows))
    places = np.indices((64, 10))
    gap = np.abs((own - base)[*places, np.asarray(rows)[:, 7:]].sum(axis=1))
    filtered = np.asarray(lessons["filtered"].weights[:, 0]) > 0
    assert 0 < filtered.sum() <= 32
    assert kept.sum() > 32
    assert gap[filtered].max() <= gap[(kept > 0) & ~filtered].min()
    assert not filtered[kept == 0].any()
    divergence = (np.exp(own) * (own - base)).sum(axis=-1)
    assert found["kl"] == pytest.approx(divergence[kept > 0].mean(), rel=1e-4)
    assert found["passed"] == pytest.approx(kept.mean(), rel=1e-6)
    np.testing.assert_array_equal(lessons["thinned"].weights[:, 0], kept * (np.arange(64) < 32))


def test_another_base_differs_in_what_the_setting_says():
    base, corpus = language.OWN
    assert owl.OTHERS["start"][1] == corpus
    assert owl.OTHERS["corpus"][0] == base
    assert not set(owl.OTHERS["both"]) & set(language.OWN)
