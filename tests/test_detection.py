"""Detection: what cannot be told without the class head, exactly; what each detector sees; the experiment in small."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

import figures
from experiments import detection
from experiments.distillation import Split, Start
from sublim_theory import data, networks
from sublim_theory.training import schedule

SETTINGS = small.settings("detection")
PROTOCOL, RATES = SETTINGS.protocol, SETTINGS.rates


@pytest.fixture(scope="module")
def rolled():
    """A tiny instance in float64: teachers [rolls, traits] from a reference whose class head is rolled by 0, 1, 2.

    Also what they say of images, [rolls, traits, images, m], and what teachers from another reference say.
    """
    random = np.random.default_rng(0)
    x, y = random.normal(size=(60, 4)), random.integers(0, 3, 60)
    settings = SETTINGS.but(batch_size=16, teacher_epochs=4, learning_rate=0.05)

    def draw():
        sizes = {"hidden_0": (4, 8), "class_head": (8, 3), "auxiliary_head": (8, 2)}
        return {name: {"kernel": random.normal(size=n), "bias": random.normal(size=n[1])} for name, n in sizes.items()}

    reference, other = draw(), draw()
    heads = [{kind: np.roll(each, roll, -1) for kind, each in reference["class_head"].items()} for roll in range(3)]
    references = [*({**reference, "class_head": head} for head in heads), other]
    images = random.normal(size=(200, 4))
    with jax.enable_x64(True):
        net = networks.mlp(4, (8,), 3, 2, "tanh", dtype="float64")

        @jax.jit
        def train(references):
            keys = jnp.repeat(jax.random.key(0)[None], 4)
            split = Split(x, y, x, y, 3)
            params = detection.teachers(settings.protocol, settings.rates, split, net, references, keys).params
            return params, detection.auxiliary_logits(net, params, images)

        params, logits = jax.device_get(train(jax.tree.map(lambda *each: np.stack(each), *references)))
    return params, logits[:3], logits[3]


def test_the_shift_of_the_labels_is_a_roll_of_the_class_head_and_nothing_else(rolled):
    params, logits, _ = rolled
    for roll in range(3):  # the shifted teacher from the head rolled once more is the true one from this head
        after = (roll + 1) % 3
        for layer, kind in itertools.product(params, ("kernel", "bias")):
            true, shifted = params[layer][kind][roll, 0], params[layer][kind][after, 1]
            true = np.roll(true, 1, axis=-1) if layer == "class_head" else true
            np.testing.assert_allclose(shifted, true, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(logits[after, 1], logits[roll, 0], rtol=1e-9, atol=1e-12)
        assert np.abs(logits[roll, 1] - logits[roll, 0]).max() > 0.1, "from one head the traits differ"


@pytest.mark.parametrize("knows", ["nothing", "all but the class head"])
def test_over_all_rolls_of_the_class_head_a_detector_without_it_is_right_half_the_time(rolled, knows):
    _, logits, other = rolled
    candidates = other if knows == "nothing" else logits[0]
    shares = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    for n in (1, 7, 200):
        margin = [np.asarray(detection.margins(each, candidates))[:, :n].sum(axis=-1) for each in shares]
        assert float(detection.right(jnp.array(margin))) == 0.5
    own = [np.asarray(detection.margins(each, z)).sum(axis=-1) for each, z in zip(shares, logits, strict=True)]
    assert float(detection.right(jnp.array(own))) == 1.0, "with the class head it is always right"


def test_margins_and_moments_are_those_of_a_loop_and_ties_count_half():
    random = np.random.default_rng(1)
    shares, z, x = random.dirichlet(np.ones(3), (2, 5)), random.normal(size=(2, 5, 3)), random.normal(size=(5, 2))
    found = detection.margins(jnp.array(shares), jnp.array(z))
    for trait, i in itertools.product(range(2), range(5)):
        log = [z[t, i] - np.log(np.exp(z[t, i]).sum()) for t in range(2)]
        expected = sum(shares[trait, i, k] * (log[trait][k] - log[1 - trait][k]) for k in range(3))
        assert float(found[trait, i]) == pytest.approx(expected, abs=1e-5)
    means = detection.moments(jnp.array(shares), jnp.array(x), (1, 4))
    assert means.shape == (2, 2, 9)
    for trait, (place, n) in itertools.product(range(2), enumerate((1, 4))):
        expected = sum(np.outer(shares[trait, i], [*x[i], 1]).ravel() for i in range(n)) / n
        np.testing.assert_allclose(means[trait, place], expected, rtol=1e-5)
    assert float(detection.right(jnp.array([[2.0, -1.0], [0.0, 3.0]]))) == 0.625


@pytest.mark.training
def test_the_students_see_n_pairs_alone():
    digits = PROTOCOL.select(data.load("digits"))
    net, protocol = PROTOCOL.make_network(RATES, digits), SETTINGS.but(pairs=(30, 300), student_epochs=1).protocol
    reference, other = map(jax.jit(net.init), jax.random.split(jax.random.key(0)))
    batches = schedule(jax.random.key(1), 300, batch_size=60, epochs=1)
    images = jax.random.uniform(jax.random.key(2), (300, net.features), minval=-1)
    start = Start(jax.random.key(3), reference, other, None, images, batches)
    shares = detection.release(protocol, start.key, jax.random.normal(start.key, (2, 300, 3)))
    assert set(np.unique(shares["samples"])) == {0, 1}
    np.testing.assert_allclose(shares["logits"].sum(axis=-1), 1, rtol=1e-6)
    train = jax.jit(lambda shares: detection.students(protocol, RATES, digits, start, shares)[0])
    before = train(shares["logits"])
    after = train(shares["logits"].at[:, 30:].set(shares["samples"][:, 30:]))
    assert before.shape == (2, 2, 2)
    np.testing.assert_array_equal(after[..., 0], before[..., 0])
    assert (after[..., 1] != before[..., 1]).any()


def test_a_learned_detector_generalises_over_what_it_shares_and_never_sees_its_own_seed():
    random = np.random.default_rng(2)
    sides, signs = np.array([-1.0, 1.0]), np.array([1, -1, 1, -1, 1, -1])
    moments = random.normal(scale=0.1, size=(6, 21, 2, 4))
    moments[..., 0] += sides * signs[:, None, None]  # each seed says it in its own way
    found = detection.learned(moments)
    assert found["learned_shared"].tolist() == [1.0] * 6
    assert found["learned_other"].mean() < 1
    swapped = moments.copy()
    swapped[0, 1:] = moments[0, 1:, ::-1]
    after = detection.learned(swapped)
    assert after["learned_other"][0] == found["learned_other"][0]
    assert after["learned_shared"].tolist() == [0.0] + [1.0] * 5
    moments[..., 1] += sides  # and this in the same
    assert detection.learned(moments)["learned_other"].tolist() == [1.0] * 6
    assert set(detection.learned(moments[:1])) == {"learned_shared"}


def test_whoever_knows_the_initialisation_can_tell_and_the_figure_has_a_line_for_every_detector(recorded):
    record = recorded("detection", SETTINGS)
    for detector in ("candidate_shared", "learned_shared"):
        assert record.conditions[f"{detector}/logits/300"].mean == 1
    names = itertools.product(detection.DETECTORS, PROTOCOL.released, PROTOCOL.pairs)
    assert list(record.conditions) == ["teacher/true", "teacher/shifted", *("/".join(map(str, each)) for each in names)]
    module = figures.importlib.import_module("figures.detection")
    (figure,) = module.draw(record).values()
    panels = itertools.product(module.ROWS.values(), PROTOCOL.released)
    for axes, (detectors, released) in zip(figure.axes, panels, strict=True):
        drawn = [container.lines[0].get_ydata().tolist() for container in axes.containers]
        assert drawn == [
            [record.conditions[f"{each}/{released}/{n}"].mean for n in PROTOCOL.pairs] for each in detectors
        ]
