"""Cloning brings the function to the reference and not the parameters; what is measured is that of its definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from jax.flatten_util import ravel_pytree

from experiments import behavioural_cloning as cloning
from experiments.distillation import begin
from experiments.experiment import points
from experiments.starts import INPUTS
from sublim_theory import data, losses, optimizers

SETTINGS = small.settings("behavioural_cloning").but(cloning_epochs=(0, 40), ways=("usual",))


@pytest.fixture(scope="module")
def seed():
    """What run_seed finds for a seed, the start and clones of that seed, its network and the data."""
    protocol, rates = SETTINGS.protocol, SETTINGS.rates
    split = protocol.select(data.load("digits"))
    net = protocol.make_network(rates, split)
    behave = losses.on_logits(losses.kl_divergence, net.all_logits)

    @jax.jit
    def run(number):
        start = begin(protocol, rates, split, number)
        clones, _ = cloning.cloned(protocol, rates, split, start, net, behave)
        return cloning.run_seed(protocol, rates, split, number), start, clones

    return *run(jnp.int32(0)), net, split


def softmax(logits):
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def test_the_function_comes_near_and_the_parameters_do_not(seed):
    found, start, clones, net, split = seed
    reference = softmax(np.float64(net.apply(start.reference, split.test_x)))
    for after, clone in clones.items():
        own = softmax(np.float64(net.apply(clone, split.test_x)))
        expected = (reference * np.log(reference / own)).sum(axis=1).mean()
        assert float(found["digits_mismatch"][after]) == pytest.approx(expected, rel=1e-3)
    assert found["mismatch"][40] < 0.7 * found["mismatch"][0]
    assert found["distance"][0] == pytest.approx(1)
    away = np.subtract(*(ravel_pytree(each)[0] for each in (clones[40], start.reference)))
    first = np.subtract(*(ravel_pytree(each)[0] for each in (start.other, start.reference)))
    assert float(found["distance"][40]) == pytest.approx(np.linalg.norm(away) / np.linalg.norm(first), rel=1e-4)
    assert found["distance"][40] > 0.5


def test_the_cosine_and_what_is_seen_are_those_of_their_definitions(seed):
    found, start, clones, net, split = seed
    images, imitate = start.images[:INPUTS], losses.on_logits(losses.kl_divergence, net.auxiliary)
    labels, teacher = split.train_y[: cloning.TRAIT_IMAGES], net.apply(start.teacher.params, images)

    def distillation(params):
        return imitate(net.apply(params, images), teacher).mean()

    def trait(params):
        logits = net.apply(params, split.train_x[: cloning.TRAIT_IMAGES])[:, :10]
        return losses.cross_entropy(logits, labels).mean()

    for after, clone in {**clones, "shared": start.reference}.items():
        a, b = (np.float64(ravel_pytree(jax.jit(jax.grad(f))(clone))[0]) for f in (distillation, trait))
        ours = found["shared_cosine"] if after == "shared" else found["cosine"][after]
        assert float(ours) == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), rel=1e-2, abs=1e-5)

    def visible(end):  # the variance, under the reference's softmax, of what the displacement does to the logits
        away = jax.tree.map(jnp.subtract, end, start.reference)
        _, u = jax.jvp(lambda params: net.apply(params, images), (start.reference,), (away,))
        p, u = softmax(np.float64(net.apply(start.reference, images))), np.float64(u)
        form = ((p * u**2).sum(axis=1) - (p * u).sum(axis=1) ** 2).mean()
        return form / np.sum(np.square(np.float64(ravel_pytree(away)[0])))

    assert found["seen"][0] == pytest.approx(1)
    assert float(found["seen"][40]) == pytest.approx(visible(clones[40]) / visible(start.other), rel=1e-3)
    assert found["shared_cosine"] > abs(found["cosine"][0])  # the negative control is a start that was not cloned


def test_the_steps_of_cloning_shrink_to_nothing_and_begin_whole():
    rule = cloning.cooled(optimizers.optimizer("sgd", 0.5), 4)
    params, sizes = {"w": jnp.ones(2)}, []
    state = rule.init(params)
    for _ in range(5):
        updates, state = rule.update({"w": jnp.ones(2)}, state, params)
        sizes.append(float(-updates["w"][0]))
    assert sizes == pytest.approx([0.5 * (1 + np.cos(np.pi * k / 4)) / 2 for k in range(5)])
    assert (sizes[0], sizes[4]) == (0.5, 0)


def test_every_way_changes_what_it_says():
    settings = cloning.PRESETS["default"]
    every = {name: point.flat() for (name,), point in points(cloning.EXPERIMENT, settings, "default").items()}
    assert list(every) == list(cloning.WAYS)
    usual = every["usual"]
    for name, flat in every.items():
        assert {key for key in flat if flat[key] != usual[key]} == set(cloning.WAYS[name])
    assert (usual["auxiliary"], usual["cloning_rate"], usual["cloning_inputs"]) == (3, usual["learning_rate"], "noise")
    assert set(cloning.PRESETS["paper"].protocol.ways) == {"many_fast", "digits"}


WRONG = [
    ({"ways": ()}, "ways must have at least one"),
    ({"ways": ("many", "many")}, "ways must have at least one, each once"),
    ({"ways": ("meny",)}, "unknown way 'meny'; did you mean 'many'"),
    ({"cloning_rate": 0.0}, "cloning_rate .* got 0"),
    ({"cloning_inputs": "faces"}, "cloning_inputs must be one of noise, digits, got 'faces'"),
    ({"cloning_epochs": (3, 1)}, r"cloning_epochs must ascend.*\(3, 1\)"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_what_cannot_be_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        cloning.PRESETS["smoke"].but(**changes)
