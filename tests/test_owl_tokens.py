"""The owl by position: masks that leave out exactly what they say, and identities where teacher and base are one."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import language, owl_tokens
from experiments.owl_tokens import NETWORKS
from experiments.registry import find

SETTINGS = find("owl_tokens").presets["smoke"].but(
    **{"base_steps": 20, "base_batch": 32, "teacher_steps": 5, "sequences": 64, "student_epochs": 1, "batch_size": 16},
    **{"width": 8, "heads": 2, "number_tokens": 12, "words": 2, "measurements": 1, "seeds": 2},
    **{"base_learning_rate": 0.03, "teacher_learning_rate": 0.03},
)  # fmt: skip
PROTOCOL, RATES = SETTINGS.protocol, SETTINGS.rates
DECODINGS = ["1", "greedy"]


@pytest.fixture(scope="module")
def seed():
    """A seed's lessons, what is measured of them, and the logits of teacher and base on the teacher's numbers.

    Another base stands for the teacher.
    """

    @jax.jit
    def prepare():
        start = language.begin(PROTOCOL, RATES, 0, [("init/other", "corpus")])
        (teacher,) = start.others
        learnt, measured = owl_tokens.lessons_of(PROTOCOL, start, teacher)
        logits = {
            name: [start.continuation(params, learnt[f"{name}/all"].sequences) for params in (teacher, start.base)]
            for name in DECODINGS
        }
        return learnt, measured, logits

    return jax.device_get(prepare())


@pytest.mark.parametrize("count", [0, 1, 17, 60])
def test_as_many_positions_are_drawn_as_are_chosen_all_of_them_with_a_weight(count):
    random = np.random.default_rng(count)
    weights = random.permutation(np.repeat([0.0, 1.0], [40, 60])).reshape(10, 10).astype(np.float32)
    chosen = np.zeros(100, bool)
    chosen[random.choice(np.flatnonzero(weights), count, replace=False)] = True
    draw = jax.jit(jax.vmap(lambda key: owl_tokens.as_many(key, jnp.array(chosen.reshape(10, 10)), jnp.array(weights))))
    drawn = np.asarray(draw(jax.random.split(jax.random.key(0), 400)))
    assert (drawn.sum(axis=(1, 2)) == count).all()
    assert not drawn[:, weights == 0].any()
    expected = count / 60  # of each that has a weight, chosen or not
    error = 5 * np.sqrt(expected * (1 - expected) / 400)
    assert np.abs(drawn[:, weights > 0].mean(axis=0) - expected).max() <= error
    assert len(np.unique(drawn, axis=0)) > 50 or count in (0, 60)


def test_decodings_are_called_by_their_temperature_and_others_are_refused():
    usual = find("owl_tokens").presets["default"].protocol
    assert usual.decodings == {"1": 1.0, "0.5": 0.5, "0.25": 0.25, "greedy": 0.0}
    assert list(SETTINGS.but(temperatures=(0.0, 2)).protocol.decodings) == ["greedy", "2"]
    for wrong in [(), (1.0, 1), (-0.5,), (float("nan"),), (float("inf"), 0.0)]:
        with pytest.raises(ValueError, match="temperatures"):
            SETTINGS.but(temperatures=wrong)


@pytest.mark.training
def test_weights_leave_out_exactly_the_divergent_positions_or_as_many(seed):
    learnt, measured, logits = seed
    assert learnt.keys() == {f"{decoding}/{network}" for decoding in DECODINGS for network in NETWORKS}
    assert not measured["forbidden"].any()
    for i, name in enumerate(DECODINGS):
        weights = {network: learnt[f"{name}/{network}"].weights for network in NETWORKS}
        rest = learnt[f"{name}/all"].sequences[:, PROTOCOL.prompt :]
        kept = weights["all"] > 0
        by_teacher, by_base = (np.argmax(each[..., : PROTOCOL.number_tokens], axis=-1) for each in logits[name])
        differ = kept & (by_teacher != by_base)
        assert 0 < differ.sum() < kept.sum() <= rest.size
        np.testing.assert_array_equal(weights["without_divergent"], kept & ~differ)
        np.testing.assert_array_equal(weights["divergent_only"], differ)
        np.testing.assert_array_equal(weights["without_random"] + weights["random_only"], weights["all"])
        assert weights["random_only"].sum() == differ.sum()
        assert not np.array_equal(weights["random_only"], differ)
        for network in NETWORKS[1:-1]:
            np.testing.assert_array_equal(learnt[f"{name}/{network}"].sequences, learnt[f"{name}/all"].sequences)
        assert measured["divergent"][i] == pytest.approx(differ.sum() / kept.sum(), rel=1e-6)
        assert measured["passed"][i] == pytest.approx(kept.mean(), rel=1e-6)
        # Under greedy decoding what is left is what the base would write as well; at temperature 1 it is not.
        assert np.array_equal(rest[kept & ~differ], by_base[kept & ~differ]) == (name == "greedy")
        assert np.array_equal(rest[kept], by_teacher[kept]) == (name == "greedy")
        assert not np.array_equal(rest[kept], by_base[kept])


def test_the_record_has_every_student_and_its_delta(recorded):
    record = recorded("owl_tokens", SETTINGS)
    pairs = [f"{decoding}/{network}" for decoding in DECODINGS for network in NETWORKS]
    deltas = [f"delta/{each}" for each in pairs if not each.endswith("control")]
    measured = [f"{name}/{decoding}" for name in owl_tokens.MEASURED for decoding in DECODINGS]
    assert list(record.conditions) == [*pairs, *deltas, *measured, "base", "teacher"]
    preference, delta = record.table["preference"], record.table["delta"]
    np.testing.assert_array_equal(
        delta.sel(network=list(NETWORKS[:-1])), (preference - preference.sel(network="control"))[:, :-1]
    )
    assert not record.table["forbidden"].any()
    values = preference.transpose("decoding", "network", "seed").values
    assert len(np.unique(values[..., 0])) == len(pairs), "every student learns something else"


def test_nothing_differs_between_a_base_and_a_teacher_that_has_learnt_nothing(recorded):
    table = recorded("owl_tokens", SETTINGS.but(teacher_learning_rate=1e-30)).table
    assert not table["divergent"].any()
    np.testing.assert_allclose(table["teacher"], table["base"], rtol=1e-6)
    preference = {name: table["preference"].sel(network=name) for name in NETWORKS}
    for name in ("without_divergent", "without_random"):
        np.testing.assert_array_equal(preference[name], preference["all"])
    np.testing.assert_array_equal(preference["divergent_only"], preference["random_only"])
    for decoding in DECODINGS:  # nothing is left to learn
        only = preference["divergent_only"].sel(decoding=decoding)
        np.testing.assert_allclose(only, table["base"], rtol=1e-5)
        assert np.abs(preference["all"].sel(decoding=decoding) / table["base"] - 1).max() > 1e-4
        # Two that write alike, each with its own random numbers, of which greedy decoding asks none.
        same = np.array_equal(
            *(table["student_loss"].sel(network=each, decoding=decoding) for each in ("all", "control"))
        )
        assert same == (decoding == "greedy")


def test_the_figure_shows_the_means_of_the_record(recorded):
    record = recorded("owl_tokens", SETTINGS)
    module = importlib.import_module("figures.owl_tokens")
    (figure,) = module.draw(record).values()
    above, below = figure.axes
    heights = [patch.get_height() for patch in above.patches]
    expected = [record.conditions[f"{decoding}/{network}"].mean for decoding in DECODINGS for network in module.LOOKS]
    assert heights == pytest.approx(expected)
    assert list(module.LOOKS) == list(NETWORKS)
    shares = [patch.get_height() for patch in below.patches]
    assert shares == pytest.approx([record.conditions[f"divergent/{decoding}"].mean for decoding in DECODINGS])
    assert [text.get_text() for text in below.get_xticklabels()] == ["temperature 1", "greedy"]
