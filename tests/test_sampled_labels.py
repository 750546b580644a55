"""Sampled labels: right in expectation, filtered images that have no influence, and the experiment in small."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import figures
from experiments import fig10, labels, sampled_labels
from experiments.distillation import Rates, begin
from experiments.experiment import Settings, run
from sublim_theory import cli, data, losses, networks

SETTINGS = sampled_labels.PRESETS["smoke"].but(seeds=2, hidden=(16,), auxiliary=3, noise_images=600, teacher_epochs=2)
PROTOCOL, RATES = SETTINGS.protocol, SETTINGS.rates


@pytest.fixture(scope="module")
def record():
    return run(sampled_labels.EXPERIMENT, SETTINGS)


@pytest.fixture(scope="module")
def seed():
    """A seed's network, start and what is released, and the training of its students as a function of these two."""
    digits = PROTOCOL.select(data.load("digits"))

    def prepare(split):
        start = begin(PROTOCOL, RATES, split, jnp.int32(0))
        return start, sampled_labels.release(PROTOCOL, RATES, split, start)

    def students(start, labels, rows):
        whole, parts = sampled_labels.students(PROTOCOL, RATES, digits, start, labels, rows)
        return whole.params | parts.params

    start, released = jax.jit(prepare)(digits)
    return PROTOCOL.make_network(RATES, digits), start, released, jax.jit(students)


def outcomes(probabilities, samples):
    """Every outcome of the samples of every image: its probability and the shares [images, m], one by one."""
    images, m = probabilities.shape
    for drawn in itertools.product(itertools.product(range(m), repeat=samples), repeat=images):
        chance = math.prod(probabilities[i, k] for i, each in enumerate(drawn) for k in each)
        yield chance, np.array([[each.count(k) / samples for k in range(m)] for each in drawn])


@pytest.mark.parametrize(("images", "samples"), [(3, 1), (1, 3)])
def test_over_all_outcomes_of_the_samples_the_mean_gradient_is_the_soft_one(images, samples):
    random = np.random.default_rng(0)
    sizes = {"hidden_0": (4, 5), "class_head": (5, 2), "auxiliary_head": (5, 3)}

    def draw():
        return {name: {"kernel": random.normal(size=n), "bias": random.normal(size=n[1])} for name, n in sizes.items()}

    student, teacher = draw(), draw()
    x = random.normal(size=(images, 4))
    z = np.tanh(x @ teacher["hidden_0"]["kernel"] + teacher["hidden_0"]["bias"])
    z = z @ teacher["auxiliary_head"]["kernel"] + teacher["auxiliary_head"]["bias"]
    probabilities = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    chances, drawn = map(np.array, zip(*outcomes(probabilities, samples), strict=True))
    assert len(chances) == 27
    assert chances.sum() == pytest.approx(1, abs=1e-14)
    surest = np.eye(3)[z.argmax(axis=1)]
    with jax.enable_x64(True):
        net = networks.mlp(4, (5,), 2, 3, "tanh", dtype="float64")

        @jax.jit
        def gradients(drawn):
            soft_loss = losses.on_logits(losses.kl_divergence, net.auxiliary)
            target = net.apply(teacher, x)
            soft = jax.grad(lambda params: jnp.mean(soft_loss(net.apply(params, x), target)))(student)
            sampled = jax.grad(lambda p, shares: jnp.mean(labels.label_loss(net, net.apply(p, x), shares)))
            return soft, jax.vmap(sampled, in_axes=(None, 0))(student, drawn)

        soft, sampled = jax.device_get(gradients(np.concatenate([drawn, surest[None]])))
    for layer, kind in itertools.product(sizes, ("kernel", "bias")):
        *each, surest = sampled[layer][kind]
        expected = soft[layer][kind]
        np.testing.assert_allclose(np.tensordot(chances, each, 1), expected, rtol=1e-12, atol=1e-15)
        if layer != "class_head":  # not so for the most probable label, nor for the signs that Adam's first step takes
            assert np.abs(surest - expected).max() > 1e-3
            assert np.abs(np.tensordot(chances, np.sign(each), 1) - np.sign(expected)).max() > 1e-3


def test_samples_come_from_the_softmax_and_fewer_are_the_first_of_more():
    logits = jnp.array([[0.0, 1.0, -1.0], [2.0, 0.0, 0.0]], jnp.float32)
    shares = labels.sample_shares(jax.random.key(0), jnp.repeat(logits, 500, axis=0), (1, 2, 40))
    assert shares.shape == (3, 1000, 3)
    np.testing.assert_allclose(shares.sum(axis=-1), 1, rtol=1e-6)
    counts = np.asarray(shares) * np.array([1, 2, 40])[:, None, None]
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-4)
    assert (np.diff(np.round(counts), axis=0) >= 0).all()
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for i, n in enumerate((1, 2, 40)):
        found = np.asarray(shares[i]).reshape(2, 500, 3).mean(axis=1)
        assert (np.abs(found - expected) < 4 * np.sqrt(expected * (1 - expected) / (500 * n))).all()


def test_the_filter_keeps_the_images_on_which_the_teacher_is_least_sure(seed):
    net, start, (_, rows, passed), _ = seed
    z = np.asarray(net.apply(start.teacher.params, start.images), np.float64)[:, net.classes]
    sure = (np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)).max(axis=1)
    kept = np.zeros(len(sure), bool)
    kept[np.asarray(rows["filtered"])] = True
    assert kept.sum() == PROTOCOL.kept() == len(set(np.asarray(rows["thinned"]).tolist())) == 300
    assert sure[kept].max() <= sure[~kept].min() + 1e-6
    assert float(passed["threshold"]) == pytest.approx(sure[kept].max(), rel=1e-5)


def test_no_removed_image_influences_the_student(seed):
    _, start, (shares, groups, _), train = seed
    removed = np.setdiff1d(np.arange(PROTOCOL.noise_images), np.asarray(groups["filtered"]))

    def changed(rows):
        other = {name: values.at[rows].set(values[rows][:, ::-1]) for name, values in shares.items()}
        return train(start._replace(images=start.images.at[rows].add(1.0)), other, groups)

    before, after, negative = train(start, shares, groups), changed(removed), changed(groups["filtered"][:1])
    for n in map(str, PROTOCOL.samples):
        same = {
            group: [
                jax.tree.all(jax.tree.map(np.array_equal, before[f"{group}/{n}"], other[f"{group}/{n}"]))
                for other in (after, negative)
            ]
            for group in sampled_labels.GROUPS
        }
        assert same["filtered"] == [True, False]
        assert same["samples"] == [False, False]
        assert same["cross"] == [False, False]
        assert not same["thinned"][0]


def test_with_soft_labels_it_is_the_student_of_figure_10(record):
    own = {"samples", "removed"}
    shared = {name: value for name, value in SETTINGS.flat().items() if name not in own}
    theirs = run(fig10.EXPERIMENT, Settings.of(fig10.Protocol, Rates, **shared, students=("student_aux",)))
    ours, theirs = (each.table["accuracy"] for each in (record, theirs))
    # Another loss with the same gradient: float32 rounding.
    np.testing.assert_allclose(ours.sel(network="soft"), theirs.sel(network="student_aux"), atol=3 / 360)
    np.testing.assert_array_equal(ours.sel(network="teacher"), theirs.sel(network="teacher"))


def test_the_record_has_every_student_and_its_figure_a_line_a_group(record, tmp_path):
    students = [f"{group}/{n}" for group in sampled_labels.GROUPS for n in PROTOCOL.samples]
    assert list(record.conditions) == ["reference", "teacher", "soft", *students, "passed", "threshold"]
    assert record.conditions["passed"].mean == 0.5
    assert 0.1 < record.conditions["threshold"].mean < 1
    (figure,) = figures.importlib.import_module("figures.sampled_labels").draw(record).values()
    drawn = [container.lines[0].get_ydata().tolist() for container in figure.axes[0].containers]
    order = ("samples", "thinned", "filtered", "cross")
    assert drawn == [[record.conditions[f"{group}/{n}"].mean for n in PROTOCOL.samples] for group in order]
    names = {path.name for path in figures.save(record, tmp_path)}
    assert names == {"sampled_labels.png", "sampled_labels.svg"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--samples 10 1", "samples must ascend from 1 or more, got (10, 1)"),
        ("--samples 0", "samples must ascend from 1 or more, got (0,)"),
        ("--removed 1", "removed must lie in (0, 1) and split the 4096 images, got 1.0"),
        ("--removed 1e-9", "removed must lie in (0, 1) and split the 4096 images, got 1e-09"),
        ("--removed nan", "removed must lie in (0, 1) and split the 4096 images, got nan"),
        ("--auxiliary 1", "auxiliary must be at least 2"),
        ("--loss squared_error", "no loss 'squared_error' with temperature None"),
        ("--temperature 2", "no loss 'kl' with temperature 2.0"),
    ],
)
def test_a_wrong_setting_is_named_before_any_work(capsys, options, message):
    assert cli.main(["reproduce", "sampled_labels", "--preset", "smoke", *options.split()]) == 2
    assert message in capsys.readouterr().err
