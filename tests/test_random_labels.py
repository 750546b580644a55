"""The closed lines against draws and closed forms, the exact students against dense projectors and the library's limit.

Facts 13 to 15 of docs/theorem.md have tests of their own in tests/theorem/test_limit.py.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ndtr

from experiments import random_labels as experiment
from experiments.agreement import bits, held_out, passed, price, same_choice
from experiments.random_labels import PRESETS, least_change, levenberg_marquardt
from sublim_theory.ensemble import seed_key
from sublim_theory.theorem import Instance
from sublim_theory.theorem.limit import imitation_limit

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("correlation", [-0.5, 0.0, 0.3, 0.9, 0.99])
def test_two_classes_agree_by_the_angle_between_their_logits(correlation):
    assert same_choice(correlation, 2) == pytest.approx(1 - np.arccos(correlation) / np.pi, abs=5e-4)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_agreement_of_logits_is_that_of_draws(classes):
    """With a label whose logits stand out, and without."""
    for correlation, teacher, student in ((0.7, 0.0, 0.0), (0.6, 2.0, 1.0), (0.95, 0.5, 3.0)):
        x, y = RANDOM.normal(size=(2, 200_000, classes))
        y = correlation * x + (1 - correlation**2) ** 0.5 * y
        x[:, 0], y[:, 0] = x[:, 0] + teacher, y[:, 0] + student
        drawn = np.mean(x.argmax(-1) == y.argmax(-1))
        assert same_choice(correlation, classes, teacher, student) == pytest.approx(drawn, abs=0.005)
    assert same_choice(0.0, classes) == pytest.approx(1 / classes, abs=1e-4)
    assert same_choice(1.0, classes) == 1


@pytest.mark.parametrize(("alpha", "shown"), [(1.5, 0.5), (2.0, 0.9), (3.0, 0.7)])
def test_the_line_of_two_classes_is_the_one_integral_of_fact_15(alpha, shown):
    kappa, v = passed(alpha, shown), 1 / (alpha - 1)
    h = np.linspace(-8, 8, 4001) * v**0.5
    sure = ndtr(np.sqrt(kappa / (1 - kappa) / v) * np.abs((h + v) / (1 + v)))
    line = np.trapezoid(sure * np.exp(-(h**2) / v / 2) / np.sqrt(2 * np.pi * v), h)
    assert held_out(alpha, shown, 2) == pytest.approx(line, abs=5e-4)


@pytest.mark.parametrize("start", [0.0, 2.0])
def test_the_line_is_that_of_least_squares_done_by_another_route(start):
    """Three classes, normal equations and pseudo-inverses; a start is noise, and the line without it would not do."""
    d, c, draws, alpha, shown = 200, 3, 40, 2.0, 0.6
    x = RANDOM.normal(size=(int(alpha * d), d))
    m = int(shown * d)
    y = RANDOM.integers(0, c, size=(draws, len(x)))
    begin = start * RANDOM.normal(size=(draws, d, c)) / d**0.5
    teacher = np.linalg.solve(x.T @ x, x.T @ np.eye(c)[y])
    student = begin + np.linalg.pinv(x[:m]) @ (x[:m] @ (teacher - begin))
    agreement = np.mean((x[m:] @ teacher).argmax(-1) == (x[m:] @ student).argmax(-1))
    assert agreement == pytest.approx(held_out(alpha, shown, c, start), abs=0.025)
    if start:
        assert agreement < held_out(alpha, shown, c) - 0.1


def test_limits_of_the_lines():
    assert held_out(0.75, 0.5, 10) == 0.1
    assert held_out(1.5, 1.0, 10) == 1 == held_out(0.5, 1.05, 2)
    assert held_out(1e4, 0.5, 2) == pytest.approx(same_choice(0.5**0.5, 2), abs=0.005), "a random subspace"
    assert held_out(1.5, 0.5, 2) < held_out(3.0, 0.5, 2) - 0.05, "not a function of rho alpha alone"
    assert passed(2.0, 0.5) == pytest.approx(1 / 3)


def test_the_price_of_a_start_is_that_of_draws():
    d, rank, movement = 400, 0.3, 2.0
    first, other, moved = RANDOM.normal(size=(3, 200, d))
    teacher, keep = first + movement * moved, np.arange(d) < rank * d
    for name, start in {"shared": first, "other": other, "zero": 0 * first}.items():
        student = np.where(keep, teacher, start)
        cosines = np.sum(student * teacher, -1) / np.linalg.norm(student, axis=-1) / np.linalg.norm(teacher, axis=-1)
        assert price(rank, 1.0, movement)[name] == pytest.approx(cosines.mean(), abs=0.01)
    assert price(rank)["shared"] * price(rank)["other"] == pytest.approx(rank)


def test_bits_are_the_mutual_information_of_the_channel():
    right, c = 0.7, 4
    joint = np.full((c, c), (1 - right) / (c - 1) / c)
    np.fill_diagonal(joint, right / c)
    assert bits(np.array(right), c) == pytest.approx(np.sum(joint * np.log2(joint * c * c)))
    np.testing.assert_allclose(bits(np.array([0.0, 1 / c, 1.0]), c), [0, 0, 2], atol=1e-12)


@pytest.mark.parametrize("rows", [5, 12, 20])
def test_the_exact_student_is_the_dense_projection_and_the_limit_of_the_library(rows):
    x, teacher, start = RANDOM.normal(size=(rows, 12)), *RANDOM.normal(size=(2, 12, 3))
    fit = least_change(x)
    found = fit.to(x @ teacher, start)
    values, vectors = np.linalg.eigh(x.T @ x)
    kept = vectors[:, values > 1e-9]
    np.testing.assert_allclose(found, start + kept @ kept.T @ (teacher - start), atol=1e-10)
    assert fit.rank == kept.shape[1]
    it = Instance(lambda w, x: x @ w, np.zeros((12, 3)), None, x, imitation_loss="squared_error")
    np.testing.assert_allclose(found, imitation_limit(it, teacher, start=start).params, atol=1e-10)
    if rows < 12:  # the control: another start ends elsewhere
        assert np.abs(found - fit.to(x @ teacher, 0 * start)).max() > 0.1


def test_the_dense_jacobian_is_that_of_the_network():
    body, head, x = RANDOM.normal(size=(4, 3)), RANDOM.normal(size=(2, 4)), RANDOM.normal(size=(5, 3))
    with jax.enable_x64(True):
        expected = jax.jacobian(lambda body: experiment.network(body, head, x))(jnp.asarray(body))
    np.testing.assert_allclose(experiment._jacobian(body, head, x), np.reshape(expected, (10, 12)), atol=1e-12)


def test_levenberg_marquardt_solves_what_descent_does_not():
    """Rosenbrock's valley, as least squares; and a linear problem in a step or two."""

    def valley(theta, _):
        return jnp.stack([10 * (theta[1] - theta[0] ** 2), 1 - theta[0]])

    with jax.enable_x64(True):
        found = levenberg_marquardt(valley, jnp.array([-1.2, 1.0]), None, 60)
    np.testing.assert_allclose(found, [1, 1], atol=1e-8)


@pytest.fixture(scope="module")
def small():
    """The linear parts and the linearised one, at one seed, small."""
    protocol = PRESETS["smoke"].but(inputs=60, fresh_rows=200, draws=10).protocol
    with jax.enable_x64(True):
        draw = partial(experiment._normal, seed_key(3))
        parts = (experiment.memorised, experiment.priced, experiment.through_auxiliary)
        return protocol, [part(protocol, draw) for part in parts]


def test_from_full_rank_on_every_student_is_the_teacher_and_not_before(small):
    protocol, (memorised, _, facts) = small
    for by_alpha in memorised["agreement"].values():
        for alpha, by_shown in by_alpha.items():
            for shown, by_start in by_shown.items():
                assert protocol.held_out(alpha, shown)
                assert (set(by_start.values()) == {1.0}) == (shown >= 1), (alpha, shown)
            assert set(by_shown) == {each for each in protocol.shown if protocol.held_out(alpha, each)}
    assert set(memorised["agreement"][2][0.75]) == {0.3, 0.5}
    for m, by_share in facts["filled"].items():
        for share, filled in by_share.items():
            assert filled == pytest.approx(min(share, 1), abs=0.02), m
            below = facts["below_teacher"][10][m][share]
            assert set(below.values()) == {0.0} if filled == 1 else np.isnan([*below.values()]).all()


def test_range_and_null_space(small):
    protocol, (_, priced, _) = small
    assert priced["residual"] < 1e-10
    for rank in protocol.ranks:
        assert {priced["price"]["range"][start][rank] for start in experiment.STARTS} == {1.0}
        if (1 - rank) * protocol.inputs > 10:  # in fewer directions rows are too much alike
            assert priced["price"]["null"]["other"][rank] == pytest.approx(0.1, abs=0.06), "its own start, by chance"
        assert priced["price"]["null"]["shared"][rank] > 0.3, "the teacher's start, which is half of the teacher"


@pytest.mark.parametrize("rule", experiment.RULES)
def test_more_steps_come_nearer(rule):
    protocol = PRESETS["smoke"].but(inputs=40, steps=(10, 3000), draws=4).protocol
    with jax.enable_x64(True):
        found = experiment.unfinished(protocol, partial(experiment._normal, seed_key(0)))["unfinished"][rule]
    for by_steps in found.values():
        assert by_steps[10] < by_steps[3000] <= 1


def test_descent_in_closed_form_is_descent():
    protocol = PRESETS["smoke"].but(inputs=30, steps=(50,), draws=4).protocol
    with jax.enable_x64(True):
        draw = partial(experiment._normal, seed_key(0))
        found = experiment.unfinished(protocol, draw)["unfinished"]["descent"][1.0][50]
        x, y = draw("rows", 60, 30), experiment._labels(draw, 60, 2, 4)
    teacher = np.linalg.pinv(x) @ (np.eye(2)[y] - 0.5).reshape(60, -1)
    weights = np.zeros_like(teacher)
    for _ in range(50):
        weights -= x[:30].T @ (x[:30] @ (weights - teacher)) / np.linalg.norm(x[:30], 2) ** 2
    ours, theirs = ((x[30:] @ w).reshape(30, -1, 2).argmax(-1) for w in (weights, teacher))
    assert found == np.mean(ours == theirs)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": (1, 2)}, "classes must be at least 2"),
        ({"alphas": (2.0, 2.0)}, "alphas must have at least one, each once"),
        ({"alphas": (0.2,)}, "shown must leave rows for every alpha"),
        ({"shown": (-0.1,)}, "shown must be positive and finite"),
        ({"ranks": (0.5, 1.0)}, "ranks must lie below 1"),
        ({"draws": 0}, "draws must be at least 1"),
        ({"dataset": "mnist"}, "mnist"),
    ],
)
def test_settings_without_meaning_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        PRESETS["smoke"].but(**change)
