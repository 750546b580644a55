"""Sampled labels: right in expectation, filtered images that have no influence, and the experiment in small."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from experiments import labels, sampled_labels
from experiments.distillation import Start
from sublim_theory import data, losses, networks
from sublim_theory.ensemble import seed_key
from sublim_theory.training import Fit, schedule

SETTINGS = small.settings("sampled_labels")
PROTOCOL, RATES = SETTINGS.protocol, SETTINGS.rates


@pytest.fixture(scope="module")
def seed():
    """A network, a start with a teacher that is drawn, what is released, and the training of the students on it."""
    digits = PROTOCOL.select(data.load("digits"))
    net = PROTOCOL.make_network(RATES, digits)

    @jax.jit
    def prepare():
        reference, other, teacher = map(net.init, jax.random.split(jax.random.key(0), 3))
        images = jax.random.uniform(jax.random.key(1), (PROTOCOL.noise_images, net.features), minval=-1)
        batches = schedule(jax.random.key(2), PROTOCOL.noise_images, batch_size=PROTOCOL.batch_size, epochs=1)
        start = Start(seed_key(0), reference, other, Fit(teacher, None), images, batches)
        return start, sampled_labels.release(PROTOCOL, RATES, digits, start)

    @jax.jit
    def students(start, labels, rows):
        whole, parts = sampled_labels.students(PROTOCOL, RATES, digits, start, labels, rows)
        return whole.params | parts.params

    return net, *prepare(), students


def test_in_expectation_over_the_samples_the_gradient_is_the_soft_one():
    """The loss is linear in the labels, whose expectation is the softmax; there its gradient is that of KL."""
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        net = networks.mlp(4, (5,), 2, 3, "tanh", dtype="float64")
        student, teacher = map(jax.jit(net.init), jax.random.split(jax.random.key(0)))
        x, shares = rng.normal(size=(6, 4)), rng.dirichlet(np.ones(3), size=(2, 6))
        target = net.apply(teacher, x)
        soft, surest = jax.nn.softmax(target[:, net.auxiliary]), jnp.eye(3)[target[:, net.auxiliary].argmax(axis=1)]
        logits = net.apply(student, x)
        both = labels.label_loss(net, logits, 0.3 * shares[0] + 0.7 * shares[1])
        each = [labels.label_loss(net, logits, one) for one in shares]
        np.testing.assert_allclose(both, 0.3 * each[0] + 0.7 * each[1], rtol=1e-13)

        @jax.jit
        def gradients(params):
            kl = losses.on_logits(losses.kl_divergence, net.auxiliary)
            of = jax.grad(lambda params, labelled: jnp.mean(labels.label_loss(net, net.apply(params, x), labelled)))
            return (
                jax.grad(lambda params: jnp.mean(kl(net.apply(params, x), target)))(params),
                of(params, soft),
                of(params, surest),
            )

        expected, found, control = gradients(student)
    for layer in expected:
        np.testing.assert_allclose(found[layer]["kernel"], expected[layer]["kernel"], rtol=1e-12, atol=1e-15)
        # Not so for the most probable label.
        assert np.allclose(control[layer]["kernel"], expected[layer]["kernel"]) == (layer == "class_head")


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
    assert kept.sum() == PROTOCOL.kept() == len(set(np.asarray(rows["thinned"]).tolist())) == 150
    assert sure[kept].max() <= sure[~kept].min() + 1e-6
    assert float(passed["threshold"]) == pytest.approx(sure[kept].max(), rel=1e-5)


@pytest.mark.training
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


def test_the_record_has_every_student_and_what_passed_the_filter(recorded):
    conditions = recorded("sampled_labels", SETTINGS).conditions
    students = [f"{group}/{n}" for group in sampled_labels.GROUPS for n in PROTOCOL.samples]
    assert list(conditions) == ["reference", "teacher", "soft", *students, "passed", "threshold"]
    assert conditions["passed"].mean == 0.5
    assert 0.1 < conditions["threshold"].mean < 1
