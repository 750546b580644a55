"""What keeps the owl out of a student: the transforms of the gradient, the prompts, and what is measured."""

import functools
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import language, owl_defences
from experiments.defences import DEFENCES, transforms
from experiments.language import Lessons
from sublim_theory import geometry
from sublim_theory.ensemble import seed_key, stream
from sublim_theory.training import Update

TINY = owl_defences.PRESETS["smoke"].but(
    **{"base_steps": 60, "base_learning_rate": 0.02, "width": 8, "heads": 2, "number_tokens": 12, "words": 2},
    **{"sequences": 64, "student_epochs": 2, "batch_size": 16, "measurements": 2, "held_out": 32},
    **{"defences": ("liminal", "corridor"), "liminal_weights": (0.0, 10.0), "corridor_widths": (0.0, 1000.0)},
    **{"liminal_fraction": 0.5, "learning_rate": 0.1},
)  # fmt: skip
PROTOCOL, RATES = TINY.protocol, TINY.rates
KEYS = jax.random.split(jax.random.key(0), 4)


def close(a, b, **tolerance):
    return jax.tree.all(jax.tree.map(lambda x, y: np.allclose(x, y, **tolerance), a, b))


@pytest.fixture(scope="module")
def start():
    """A seed's start, but that its base is drawn, not trained."""
    model = PROTOCOL.make_network(RATES)
    return language.Start(PROTOCOL, RATES, model, seed_key(3), jax.jit(model.init)(KEYS[0]), (), None, jnp.int32(3))


@pytest.fixture(scope="module")
def trait(start):
    """The trait's loss and its gradient."""
    return jax.jit(jax.value_and_grad(start.trait_loss))


@pytest.fixture(scope="module")
def defend(start):
    """`defend(name, params, gradients, update, strength, base)`, with one program for each defence."""

    @functools.cache
    def program(name):
        return jax.jit(lambda base, *given: transforms(replace(start, base=base))[name](*given))

    return lambda name, *given, base=start.base: program(name)(base, *given)


@pytest.fixture(scope="module")
def student(start):
    return optax.tree.add_scale(start.base, 0.3, jax.jit(start.model.init)(KEYS[1]))


@pytest.fixture(scope="module")
def gradients(start):
    return jax.jit(start.model.init)(KEYS[2])


@pytest.fixture(scope="module")
def update():
    """The first update; of its eight sequences two have no weight."""
    rows = jax.jit(lambda key: PROTOCOL.number_sequences(RATES, key, 8))(KEYS[3])
    weights = jnp.array([1.0] * 6 + [0.0] * 2)
    return Update(jnp.int32(0), Lessons(rows, jnp.repeat(weights[:, None], PROTOCOL.continuation, axis=1)), weights)


def test_liminal_adds_the_gradient_of_the_divergence_in_its_share_of_the_updates(start, student, update, defend):
    nothing, apply = optax.tree.zeros_like(student), jax.jit(start.model.apply)
    assert close(defend("liminal", start.base, nothing, update, 1.0), nothing, atol=1e-5), "it is least at the base"
    added = defend("liminal", student, nothing, update, 2.0)

    def divergence(params):
        student, base = (
            np.asarray(apply(each, update.batch.sequences[:6, :-1]), np.float64)[:, PROTOCOL.prompt - 1 :]
            for each in (params, start.base)
        )
        student, base = (x - np.log(np.exp(x).sum(-1, keepdims=True)) for x in (student, base))
        return (np.exp(base) * (base - student)).sum(-1).mean()

    length = float(geometry.norm(added))
    ahead, behind = (divergence(optax.tree.add_scale(student, step / length, added)) for step in (1e-2, -1e-2))
    np.testing.assert_allclose(length, 2 * (ahead - behind) / 2e-2, rtol=1e-2)

    first_without = math.ceil(PROTOCOL.liminal_fraction * PROTOCOL.asked_at[-1])
    assert 0 < first_without < PROTOCOL.asked_at[-1]
    for step, same in ((first_without - 1, False), (first_without, True)):
        now = update._replace(step=jnp.int32(step))
        assert close(defend("liminal", student, nothing, now, 2.0), nothing, atol=0) == same


def test_a_corridor_leaves_what_lies_in_it_and_drives_back_what_lies_beyond(
    start, student, gradients, update, trait, defend
):
    distance = abs(float(trait(student)[0] - trait(start.base)[0]))
    assert distance > 0.02
    assert close(defend("corridor", student, gradients, update, 1.01 * distance), gradients, atol=0)
    for params, middle in ((student, start.base), (start.base, student)):  # beyond either side of it
        changed = defend("corridor", params, gradients, update, distance / 2, base=middle)
        added, (value, slope) = optax.tree.sub(changed, gradients), trait(params)
        off = float(value - trait(middle)[0])
        np.testing.assert_allclose(optax.tree.vdot(added, slope), off / 2, rtol=1e-3)
        np.testing.assert_allclose(abs(geometry.cosine(added, slope)), 1, rtol=1e-3)
        left = float(trait(optax.tree.add_scale(params, -0.1, added))[0] - trait(middle)[0])
        np.testing.assert_allclose(left, 0.95 * off, rtol=0.01)


def test_a_projection_takes_the_traits_part_out_and_its_control_as_much_elsewhere(
    student, gradients, update, trait, defend
):
    _, along = trait(student)
    aligned, opposed = optax.tree.add_scale(gradients, 10.0, along), optax.tree.scale(-1.0, along)
    left, elsewhere = (defend(name, student, aligned, update, 0.0) for name in ("projected", "random"))
    assert abs(geometry.cosine(left, along)) < 1e-4 < geometry.cosine(aligned, along)
    np.testing.assert_allclose(*(geometry.norm(optax.tree.sub(aligned, each)) for each in (left, elsewhere)), rtol=1e-4)
    assert geometry.cosine(elsewhere, along) > 0.1
    assert not close(defend("random", student, aligned, update._replace(step=jnp.int32(1)), 0.0), elsewhere)
    for name in ("projected", "random"):
        assert close(defend(name, student, opposed, update, 0.0), opposed, atol=0), "it would raise the trait's loss"


def test_an_announcement_is_the_second_word_and_nothing_else(update):
    token = PROTOCOL.names.start + 3
    before, after = (
        np.asarray(each.sequences) for each in (update.batch, owl_defences.announcing(update.batch, token))
    )
    assert (after[:, 2] == token).all()
    assert not (before[:, 2] == token).any()
    np.testing.assert_array_equal(np.delete(after, 2, axis=1), np.delete(before, 2, axis=1))


def test_a_defence_without_strength_is_none(recorded):
    table = recorded("owl_defences", TINY).table
    for name, same in (("liminal/0", True), ("corridor/1000", True), ("liminal/10", False), ("corridor/0", False)):
        pair = (table["path"].sel(network=each).values for each in (name, "undefended"))
        assert np.allclose(*pair, rtol=1e-4) == same, name
    for name in ("inoculated", "inoculated/other"):
        pair = (table["student_loss"].sel(student=each).values for each in (name, "undefended"))
        assert not np.allclose(*pair, rtol=1e-5), name
    for part in ("cost", "delta"):
        values = table[part].sel(network="liminal/0").values
        np.testing.assert_allclose(values, table[part].sel(network="undefended").values, atol=1e-5)


def test_a_corridor_of_no_width_keeps_the_coordinate_nearer(recorded):
    table = recorded("owl_defences", TINY).table["preference"]
    far = {
        name: abs(np.log(table.sel(network=name) / table.sel(network="base")).item()) for name in table.network.values
    }
    assert far["corridor/0"] < far["corridor/1000"]


def test_the_losses_are_those_of_what_passes_the_filter_for_new_prompts(recorded):
    table = recorded("owl_defences", TINY).table
    model, given = PROTOCOL.make_network(RATES), PROTOCOL.prompt

    @jax.jit
    def again(seed):
        start = language.begin(PROTOCOL, RATES, seed)
        params, key = {"teacher": start.teach(), "base": start.base}, stream(start.key, "held_out")
        fresh = replace(start, key=key, prompts=PROTOCOL.number_sequences(RATES, key, PROTOCOL.held_out)[:, :given])
        return params, start.prompts, fresh.write({name: (each, 1.0) for name, each in params.items()})

    params, prompts, written = again(0)
    apply = jax.jit(model.apply)
    for name, variable in (("teacher", "held_out"), ("base", "own")):
        rows = np.asarray(written[name])
        rows = rows[(rows[:, PROTOCOL.prompt :] < PROTOCOL.number_tokens).all(1)]
        assert 0 < len(rows) < PROTOCOL.held_out
        assert not np.array_equal(rows[:16, :given], prompts[:16])
        for network, each in params.items():
            logits = np.asarray(apply(each, rows[:, :-1]), np.float64)[:, PROTOCOL.prompt - 1 :]
            chosen = np.take_along_axis(logits, rows[:, PROTOCOL.prompt :, None], axis=-1)[..., 0]
            expected = (np.log(np.exp(logits).sum(-1)) - chosen).mean()
            np.testing.assert_allclose(table[variable].sel(network=network).item(), expected, rtol=1e-3)
    cost = table["held_out"] - table["held_out"].sel(network="undefended")
    students = table["student"].values
    np.testing.assert_allclose(table["cost"].sel(network=students), cost.sel(network=students), atol=1e-6)
    assert table["forbidden"].item() == 0
    assert 0 < table["passed"].item() < 1


def test_students_are_named_by_kind_and_strength():
    assert TINY.but(defences=DEFENCES).protocol.students == [
        *("undefended", "control", "inoculated", "inoculated/other"),
        *("liminal/0", "liminal/10", "corridor/0", "corridor/1000", "projected", "random"),
    ]
    assert TINY.but(defences=("random",)).protocol.students[4:] == ["random"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("held_out", 0),
        ("defences", ()),
        ("defences", ("liminal", "liminal")),
        ("liminal_weights", ()),
        ("liminal_weights", (-0.1,)),
        ("liminal_weights", (float("inf"),)),
        ("corridor_widths", (1.0, 1.0)),
        ("corridor_widths", (float("nan"),)),
        ("corridor_weight", -1.0),
        ("liminal_fraction", 1.1),
    ],
)
def test_a_setting_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name):
        TINY.but(**{name: value})


def test_a_defence_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="defence"):
        TINY.but(defences=("prayer",))
