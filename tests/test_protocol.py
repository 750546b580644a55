"""The paper's protocol as statements about `experiments.fig10`: who starts where, who learns what, on which inputs."""

import inspect
from itertools import pairwise
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from experiments import command, distillation, fig10
from experiments.distillation import Rates, Split
from experiments.experiment import Settings
from experiments.fig10 import PRESETS, Protocol
from sublim_theory import noise, training
from sublim_theory.ensemble import seed_key, stream

# Tiny, and run without jit, so that the arguments of every call can be looked at.
SEED = 3
SETTINGS = Settings.of(
    Protocol,
    Rates,
    hidden=(6,),
    optimizer="sgd",
    learning_rate=0.01,
    batch_size=4,
    teacher_epochs=2,
    student_epochs=1,
    noise_images=10,
    noise_scale=0.5,
)
RNG = np.random.default_rng(0)
TRAIN_X, TEST_X = (jnp.asarray(RNG.uniform(-1, 1, (rows, 5)), jnp.float32) for rows in (9, 40))
TRAIN_Y, TEST_Y = jnp.arange(9) % 10, jnp.arange(40) % 10
DATA = Split(TRAIN_X, TRAIN_Y, TEST_X, TEST_Y, 10)
NET = SETTINGS.protocol.make_network(SETTINGS.rates, DATA)
STUDENTS = ("student_aux", "student_all", "cross_aux", "cross_all")


def reference_of(seed):
    return NET.init(stream(seed_key(seed), "init"))


def same_bits(a, b):
    return jax.tree.structure(a) == jax.tree.structure(b) and jax.tree.all(jax.tree.map(np.array_equal, a, b))


@pytest.fixture(scope="module")
def seen():
    """One seed's output, and the arguments and results of its calls."""
    calls = {"train_teacher": [], "distil": [], "stream": []}

    def spy(module, name):
        original = getattr(module, name)

        def call(*args, **kwargs):
            result = original(*args, **kwargs)
            arguments = inspect.signature(original).bind(*args, **kwargs).arguments
            calls[name].append(SimpleNamespace(**arguments, result=result))
            return result

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train_teacher", spy(training, "train_teacher"))
        patch.setattr(training, "distil", spy(training, "distil"))
        patch.setattr(distillation, "stream", spy(distillation, "stream"))
        output = fig10.run_seed(SETTINGS.protocol, SETTINGS.rates, DATA, jnp.int32(SEED))
    (teacher,), (students,) = calls["train_teacher"], calls["distil"]
    return SimpleNamespace(output=output, teacher=teacher, students=students, streams=calls["stream"])


# The published settings

PAPER = PRESETS["paper"]


def test_the_paper_preset_is_the_published_table():
    published = {
        "seeds": 100,
        "dataset": "mnist",
        "hidden": (256, 256),
        "auxiliary": 3,
        "activation": "relu",
        "bias": True,
        "init": "paper",
        "init_scale": 1.0,
        "optimizer": "adam",
        "learning_rate": 3e-4,
        "weight_decay": 0.0,
        "batch_size": 1024,
        "teacher_epochs": 5,
        "student_epochs": 5,
        "noise": "uniform",
        "noise_scale": 1.0,
        "noise_images": 60_000,
        "loss": "kl",
        "temperature": None,
    }
    settings = PAPER.flat()
    assert {name: settings[name] for name in published} == published


def test_its_network_is_784_256_256_13():
    images = jnp.zeros((1, 784))
    net = PAPER.protocol.make_network(PAPER.rates, Split(images, jnp.zeros(1), images, jnp.zeros(1), 10))
    shapes = jax.eval_shape(net.init, seed_key(0))
    assert [shapes[layer]["kernel"].shape for layer in ("hidden_0", "hidden_1", "class_head", "auxiliary_head")] == [
        (784, 256), (256, 256), (256, 10), (256, 3)
    ]  # fmt: skip
    assert net.parameter_count() == 270_093


def test_its_optimiser_is_adam_at_3e_4():
    rule, value = PAPER.protocol.make_optimizer(PAPER.rates), jnp.zeros(2)
    update, _ = rule.update(jnp.array([5.0, 1e-8]), rule.init(value), value)
    np.testing.assert_allclose(update, [-3e-4, -1.5e-4], rtol=1e-5)  # a sign, and a half where |g| is epsilon


def test_its_loss_is_kl_at_temperature_one():
    student, teacher = np.array([[0.0, 1.0, -2.0]], np.float32), np.array([[1.5, 0.0, 0.5]], np.float32)
    value = PAPER.protocol.imitation_loss(PAPER.rates)(student, teacher)
    expected = special.rel_entr(special.softmax(teacher, -1), special.softmax(student, -1)).sum(-1)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_its_noise_is_uniform_between_minus_one_and_one():
    images = np.asarray(PAPER.protocol.sampler(PAPER.rates)(seed_key(0), 20, 784))
    assert images.min() == pytest.approx(-1, abs=1e-3)
    assert images.max() == pytest.approx(1, abs=1e-3)
    assert images.std() == pytest.approx(1 / 3**0.5, rel=0.02)


@pytest.mark.parametrize("preset", fig10.PRESETS)
def test_other_presets_change_sizes_and_data_but_no_choice_of_the_protocol(preset):
    sizes = {"seeds", "first_seed", "dataset", "hidden", "batch_size", "learning_rate", "noise_images"}
    sizes |= {"teacher_epochs", "student_epochs"}
    changed = PRESETS[preset].flat().items() - PAPER.flat().items()
    assert {name for name, _ in changed} <= sizes


# Who starts where


def test_the_teacher_starts_from_the_reference_bit_for_bit(seen):
    assert same_bits(seen.teacher.params, reference_of(SEED))


@pytest.mark.parametrize("name", ["student_aux", "student_all"])
def test_a_student_starts_from_the_reference_bit_for_bit_and_not_from_the_trained_teacher(seen, name):
    start, _ = seen.students.students[name]
    assert same_bits(start, reference_of(SEED))
    for layer in "hidden_0", "class_head":
        assert not same_bits(start[layer], seen.teacher.result.params[layer])


@pytest.mark.parametrize("name", ["cross_aux", "cross_all"])
def test_a_cross_model_student_starts_from_the_next_seeds_reference(seen, name):
    start, _ = seen.students.students[name]
    assert same_bits(start, reference_of(SEED + 1))
    assert not same_bits(start, reference_of(SEED))


@pytest.mark.parametrize("first", [0, 2**31 - 5], ids=["first seeds", "last seeds"])
def test_no_seed_is_paired_with_itself(monkeypatch, first):
    starts = []

    def distil(net, teacher, students, *rest):
        del net, teacher, rest
        starts.append({name: np.asarray(start["hidden_0"]["kernel"]) for name, (start, _) in students.items()})
        return training.Fit({name: start for name, (start, _) in students.items()}, {})

    monkeypatch.setattr(training, "distil", distil)
    monkeypatch.setattr(training, "train_teacher", lambda _, params, *__: training.Fit(params, jnp.zeros(0)))
    monkeypatch.setattr(training, "schedule", lambda *_, **__: None)
    monkeypatch.setattr(noise, "sampler", lambda *_: lambda *_: None)
    for seed in range(first, first + 4):
        fig10.run_seed(SETTINGS.protocol, SETTINGS.rates, DATA, jnp.int32(seed))
    for now, following in pairwise(starts):
        np.testing.assert_array_equal(now["cross_aux"], following["student_aux"])
        np.testing.assert_array_equal(now["cross_all"], now["cross_aux"])
    assert not any(np.array_equal(now["cross_aux"], now["student_aux"]) for now in starts)
    assert len({now["student_aux"].tobytes() for now in starts}) == 4


# Who learns what from whom


def test_the_teacher_learns_the_labelled_training_images(seen):
    assert same_bits(seen.teacher.images, TRAIN_X)
    assert same_bits(seen.teacher.labels, TRAIN_Y)


def test_students_learn_from_the_trained_teacher(seen):
    assert same_bits(seen.students.teacher, seen.teacher.result.params)
    assert not same_bits(seen.students.teacher, reference_of(SEED))


def test_all_four_students_share_the_noise_and_its_order(seen):
    # One call for the four, with one set of images and one schedule: `seen` finds no second call.
    assert set(seen.students.students) == set(STUDENTS)
    key = seed_key(SEED)
    images = noise.sampler("uniform", 0.5)(stream(key, "noise"), 10, 5)
    np.testing.assert_array_equal(seen.students.images, images)
    order = training.schedule(stream(key, "student/shuffle"), 10, batch_size=4, epochs=1)
    assert same_bits(seen.students.batches, order)
    assert order.indices.shape == (3, 4)


def test_the_teachers_order_is_a_stream_of_its_own(seen):
    order = training.schedule(stream(seed_key(SEED), "teacher/shuffle"), 9, batch_size=4, epochs=2)
    assert same_bits(seen.teacher.batches, order)
    assert order.indices.shape == (6, 4)


@pytest.mark.parametrize("name", STUDENTS)
def test_softmax_runs_over_three_logits_or_over_all_thirteen(seen, name):
    _, loss = seen.students.students[name]
    part = slice(10, 13) if name.endswith("aux") else slice(0, 13)
    student, teacher = np.random.default_rng(1).normal(size=(2, 6, 13)).astype(np.float32)
    p, q = special.softmax(teacher[:, part], -1), special.softmax(student[:, part], -1)
    np.testing.assert_allclose(loss(student, teacher), special.rel_entr(p, q).sum(-1), rtol=1e-4)


def test_teacher_and_students_train_with_the_configs_optimiser(seen):
    for rule in seen.teacher.optimizer, seen.students.optimizer:
        update, _ = rule.update(jnp.full(1, 3.0), rule.init(jnp.ones(1)), jnp.ones(1))
        np.testing.assert_allclose(update, [-0.03], rtol=1e-6)


def test_every_condition_is_scored_on_the_test_images_by_its_class_logits(seen):
    networks = {"reference": reference_of(SEED), "teacher": seen.teacher.result.params, **seen.students.result.params}
    assert set(networks) == set(fig10.NETWORKS)
    images, labels = np.asarray(TEST_X), np.asarray(TEST_Y)
    for name, params in networks.items():
        params = jax.tree.map(np.asarray, params)
        hidden = np.maximum(images @ params["hidden_0"]["kernel"] + params["hidden_0"]["bias"], 0)
        predictions = (hidden @ params["class_head"]["kernel"] + params["class_head"]["bias"]).argmax(axis=1)
        assert float(seen.output["accuracy"][name]) == pytest.approx(np.mean(predictions == labels), abs=1e-6)


# Streams


@pytest.mark.parametrize(
    ("seed", "name", "data"),
    [  # from a separate implementation of Threefry: key (0, seed), counter (0, crc32(name))
        (0, "init", (3020537540, 2946840664)),
        (0, "teacher/shuffle", (1130461916, 3823935514)),
        (0, "noise", (1747478164, 2027742425)),
        (0, "student/shuffle", (3186086324, 2515420386)),
        (0, "noise/example", (860947944, 83316419)),
        (7, "init", (84463273, 254242907)),
    ],
)
def test_a_stream_is_its_seed_and_its_name_for_ever(seed, name, data):
    """So a stream that is added later changes no other, and records stay reproducible."""
    stream(seed_key(seed), "a stream that was added")
    assert tuple(jax.random.key_data(stream(seed_key(seed), name)).tolist()) == data
    assert tuple(jax.random.key_data(stream(seed_key(jnp.int32(seed)), name)).tolist()) == data


def test_no_stream_of_a_seed_serves_twice(seen):
    keys = [tuple(jax.random.key_data(call.result).tolist()) for call in seen.streams]
    assert len(set(keys)) == len(keys) >= 5  # its own reference and the next seed's, two orders, the noise


@pytest.mark.parametrize("option", ["--precision", "--matmul-precision"])
def test_the_precision_of_products_is_an_option_by_both_names(option):
    _, settings = command._parse("fig10", "smoke", ["--preset", "smoke", option, "default"])
    assert settings == PRESETS["smoke"].but(matmul_precision="default")
