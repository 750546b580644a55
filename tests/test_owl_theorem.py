"""Theorem 1 on tokens: `verify` at a small transformer, the experiment in small, and its numbers by other means."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy import stats

from experiments.first_step import ENDS, first_step, relations
from experiments.owl_theorem import AXES
from experiments.registry import find
from experiments.tables import RECORDS
from figures import owl_theorem as figure
from sublim_theory import losses, networks, theorem
from sublim_theory.record import load

SMALL = {"number_tokens": 12, "words": 2, "width": 8, "heads": 2, "base_steps": 20, "sequences": 64, "inputs": 16}
SETTINGS = (
    find("owl_theorem")
    .presets["smoke"]
    .but(**SMALL, seeds=3, student_epochs=1, starts=("pretrained", "untrained", "other"))
)
NUMBERS, ANIMALS = slice(8), slice(10, 13)
PROMPTS = np.random.default_rng(0).integers(0, 8, (6, 5)).astype(np.int32)
PROMPTS[:, 0] = 8  # the token with which the questions begin, too
QUESTIONS = np.array([[8, 0, 9], [8, 1, 9]], np.int32)


def small(*, tied=False, among=ANIMALS):
    """A transformer in float64, and the cross-entropy of the second animal, compared with some of the tokens."""
    model = networks.transformer(13, 6, width=8, heads=2, tied=tied, dtype="float64")

    def trait(params):
        logits = model.apply(params, QUESTIONS)[:, -1]
        return jnp.mean(losses.cross_entropy(logits[:, among], jnp.full(2, 11 - (among.start or 0))))

    return model, trait


def at(place, model):
    """Number logits behind the last token, [batch, n], or behind every one, [batch, positions, n]."""
    return lambda params, x: model.apply(params, x)[(slice(None), -1) if place == "one" else slice(None)][..., NUMBERS]


def mean_kl(z, y):
    return jnp.mean(losses.kl_divergence(z, y), axis=-1)


@pytest.mark.training
@pytest.mark.parametrize("place", ["one", pytest.param("all", marks=pytest.mark.endurance)])  # docs/owl.md has all
def test_the_theorem_holds_on_tokens_and_the_untied_head_has_no_share_in_it(place):
    model, trait = small()
    loss = "kl" if place == "one" else mean_kl
    with jax.enable_x64(True):
        start = model.init(jax.random.key(0))
    report = theorem.verify(at(place, model), start, trait, PROMPTS, imitation_loss=loss)
    report.require()
    assert report.branch == "transfer"
    assert abs(report.remainder_order - 2) < 0.02
    assert report.hypotheses.hold
    assert len(report.hypotheses.checks) == 4
    assert report.hypotheses.scope == ("" if place == "one" else "positions 0, 2, 4 of 5")
    assert len(report.by_logit) == 8
    assert report.by_layer["head"] == 0
    assert all(report.by_layer[layer] != 0 for layer in model.layers if layer != "head")


@pytest.mark.training
def test_from_another_start_it_says_nothing():
    model, trait = small()
    with jax.enable_x64(True):
        mine, other = map(model.init, jax.random.split(jax.random.key(0)))
    sizes = {"epsilons": (1e-6, 1e-3)}
    report = theorem.verify(at("one", model), mine, trait, PROMPTS, student_params=other, **sizes)
    assert (report.branch, report.holds) == ("different-initialisation", False)
    assert report.relative_remainder[0] > 1e3


def test_the_head_has_a_share_where_all_tokens_are_compared_and_a_tied_one_is_the_embedding():
    def shares(**changes):
        model, trait = small(**changes)

        @jax.jit
        def by_layer(key):
            params = model.init(key)
            d_teacher = theorem.teacher_update(trait, params)
            return theorem.first_order(at("one", model), losses.kl_divergence, params, d_teacher, PROMPTS).by_layer()

        return by_layer(jax.random.key(0))

    with jax.enable_x64(True):
        assert shares()["head"] == 0
        assert abs(shares(among=slice(13))["head"]) > 1e-6
        assert "head" not in shares(tied=True)


@pytest.fixture(scope="module")
def record(recorded):
    return recorded("owl_theorem", SETTINGS)


def test_of_a_shared_start_the_law_has_order_two_and_lowers_the_loss_and_of_another_start_it_is_none(record):
    order = record.table["order"]
    shared = ["pretrained", "untrained"]
    np.testing.assert_allclose(order.sel(start=shared), 2, atol=0.02)
    assert np.isnan(order.sel(start="other")).all()
    assert (record.table["lowers"].sel(start=shared) == 1).all()
    assert (record.table["remainder"].sel(start="other") > 0.1).all()
    np.testing.assert_allclose(record.table["share"].sum("layer"), 1, rtol=1e-9)
    assert np.ptp(record.table["share"].sel(start="pretrained", layer="block_0").values) > 0


def test_the_networks_are_those_of_owl():
    ours, theirs = (load(RECORDS / f"{name}-paper").table["delta"] for name in ("owl_theorem", "owl"))
    for start, student in {"pretrained": "samples", "other": "cross_samples"}.items():
        np.testing.assert_allclose(ours.sel(start=start), theirs.sel(network=student), atol=1e-5)
    assert abs(ours.sel(start="untrained") - theirs.sel(network="samples")).min() > 1e-3


@pytest.mark.training
@pytest.mark.parametrize("moved", [pytest.param(False, marks=pytest.mark.endurance), True])
def test_a_first_step_is_what_differences_of_outputs_say(moved):
    protocol, random = SETTINGS.protocol, np.random.default_rng(0)
    with jax.enable_x64(True):
        model = protocol.make_network(SETTINGS.rates, dtype="float64")
        base, other = (model.init(key) for key in jax.random.split(jax.random.key(0)))
        teacher = jax.tree.map(lambda leaf: leaf + 0.1 * random.normal(size=leaf.shape), base)
        x = protocol.number_sequences(SETTINGS.rates, jax.random.key(2), 5)
        weights = random.dirichlet(np.ones(protocol.continuation))
        found = first_step(protocol, SETTINGS.rates)(3, base, teacher, x, weights, other if moved else None)

        def logits(params):
            return model.apply(params, x)[:, protocol.prompt - 1 : -1, protocol.numbers]

        def trait(params):
            asked = jax.nn.log_softmax(model.apply(params, protocol.questions())[:, -1])
            return -jnp.mean(asked[:, protocol.names.start + 3])

        def added(params, direction, size):
            return jax.tree.map(lambda a, b: a + size * b, params, direction)

        def squared(tree):
            return sum(float(np.sum(np.square(leaf))) for leaf in jax.tree.leaves(tree))

        d = jax.tree.map(np.negative, jax.grad(trait)(base))
        v = np.asarray(logits(added(base, d, 1e-5)) - logits(added(base, d, -1e-5))) / 2e-5
        p = np.asarray(jax.nn.softmax(logits(base)))
        variance = (p * v**2).sum(-1) - (p * v).sum(-1) ** 2
        np.testing.assert_allclose(found["coefficient"], (variance @ weights).mean(), rtol=1e-6)
        np.testing.assert_allclose(found["transfer_ratio"], (variance @ weights).mean() / squared(d), rtol=1e-6)

        labels = np.asarray(jax.nn.softmax(logits(teacher)))

        def divergence(params):  # but for what does not depend on the student
            return -jnp.mean(jnp.sum(labels * jax.nn.log_softmax(logits(params)), axis=-1) @ weights)

        update = jax.grad(divergence)(own := other if moved else base)
        away = jax.tree.map(np.subtract, teacher, base)
        slope = (divergence(added(own, away, -1e-5)) - divergence(added(own, away, 1e-5))) / 2e-5
        np.testing.assert_allclose(found["coverage"], slope / np.sqrt(squared(update) * squared(away)), rtol=1e-6)

        def animals(size):
            asked = jax.nn.softmax(model.apply(added(own, update, -size), protocol.questions())[:, -1])
            return np.asarray(asked[:, protocol.names].mean(axis=0))

        assert bool(found["named"]) == (np.argmax(animals(1e-5) - animals(-1e-5)) == 3)


def test_relations_are_those_of_scipy_and_there_are_none_of_two_seeds():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(2, 2, 9)) + np.arange(9)
    found = relations(xr.DataArray(x, dims=("start", "seed")), xr.DataArray(y, dims=("start", "seed")))
    assert found["end"].values.tolist() == list(ENDS)
    for row, a, b in zip(found.values, x, y, strict=True):
        np.testing.assert_allclose(row[0], stats.spearmanr(a, b).statistic)
        np.testing.assert_allclose(row[3], stats.linregress(a, b).rvalue ** 2)
        assert row[1] <= row[0] <= row[2]
    assert np.isnan(relations(xr.DataArray(x[0, :2], dims="seed"), xr.DataArray(y[0, :2], dims="seed"))).all()


@pytest.mark.parametrize(
    ("name", "value"), [("inputs", 0), ("base_steps", 0), ("starts", ()), ("starts", ("pretrained",) * 2)]
)
def test_a_setting_is_refused_by_its_name(name, value):
    with pytest.raises(ValueError, match=name):
        SETTINGS.but(**{name: value})


def test_an_unknown_start_is_refused_by_its_name():
    with pytest.raises(ValueError, match="start 'nowhere'"):
        SETTINGS.but(starts=("nowhere",))


def test_the_figure_has_a_point_a_seed_with_its_animal_and_no_ratio_of_another_start(record):
    shares, ratio, coverage = figure.draw(record)["owl_theorem"].axes
    assert [text.get_text() for text in shares.get_xticklabels()] == [
        "embedding",
        "places",
        "block",
        "last norm",
        "head",
    ]
    assert [text.get_text() for text in ratio.texts] == ["0", "1", "2"] * 2
    points = [line for line in coverage.lines if line.get_linestyle() == "None"]
    assert len(points) == 3
    expected = record.table["coverage"].sel(start="other", place=AXES["place"][1])
    np.testing.assert_allclose(points[2].get_xdata(), expected)
