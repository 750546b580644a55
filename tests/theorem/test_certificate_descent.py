"""Certificates of descent against the dense oracle in float64, hand-computed ends, lies and tampering.

The oracle is numpy by hand and knows nothing of balls; the second checker is python-flint and shares no code with the
first proof.
"""

import dataclasses
import json

import instances
import numpy as np
import oracle
import pytest

from sublim_theory.theorem.certificates import balls, descent, descent_checker
from sublim_theory.theorem.certificates.balls import Balls
from sublim_theory.theorem.certificates.checker import CheckError
from sublim_theory.theorem.certificates.descent import (
    BoxCertificate,
    DescentCertificate,
    certify_box,
    certify_descent,
)
from sublim_theory.theorem.certificates.forms import Domain
from sublim_theory.theorem.certificates.precision import flint, flint_at

ACTIVATIONS = ("relu", "tanh", "gelu", "sigmoid", "identity")
WIDTHS, CLASSES, LOGITS = (3, 4, 4, 5), 3, slice(3, 5)
LOSSES = {"kl": "kl on the last two", "squared_error": "squares on the last two"}
CASES = [(name, loss) for name in ACTIVATIONS for loss in LOSSES]


class Case:
    """A small network of a seed, what is certified of it, and the same by the oracle."""

    def __init__(self, activation, loss, seed=0):
        random = np.random.default_rng([seed, 27])
        self.activation, self.loss = activation, loss
        self.params = instances.draw(random, WIDTHS)
        self.inputs, self.examples = random.normal(size=(6, WIDTHS[0])), random.normal(size=(5, WIDTHS[0]))
        self.labels = random.integers(CLASSES, size=5)
        self.d_teacher = -oracle.trait_gradient(self.params, *self.trait)

    @property
    def trait(self):
        return self.examples, self.labels, self.activation, CLASSES

    @property
    def arguments(self):
        direction = oracle.like(self.params, self.d_teacher)
        return self.params, self.activation, direction, self.inputs, self.examples, self.labels

    @property
    def keywords(self):
        return {"imitation_loss": self.loss, "logits": LOGITS, "classes": slice(0, CLASSES)}

    def line(self, epsilon, **changes):
        return certify_descent(*self.arguments, epsilon=epsilon, **self.keywords | changes)

    def box(self, epsilon, **changes):
        return certify_box(*self.arguments, until_epsilon=epsilon, **self.keywords | changes)

    def step(self, epsilon):
        teacher = oracle.moved(self.params, epsilon, self.d_teacher)
        return oracle.student_update(self.params, teacher, self.inputs, self.activation, LOSSES[self.loss])

    def drops(self, epsilon, alphas):
        """`L_T(theta) - L_T(theta + alpha d_S(eps))` at each alpha."""
        step, before = self.step(epsilon), oracle.trait_loss(self.params, *self.trait)
        return np.array([before - oracle.trait_loss(oracle.moved(self.params, a, step), *self.trait) for a in alphas])

    def last(self, epsilon, until):
        """The last sampled alpha before the first at which L_T does not fall; `until` if there is none."""
        low, high = 0.0, until
        for zoom in range(5):
            grid = np.linspace(low, high, 61)[1:]
            wrong = np.flatnonzero(self.drops(epsilon, grid) <= 0)
            if not len(wrong):
                return until if not zoom else low
            low, high = (grid[wrong[0] - 1] if wrong[0] else low), grid[wrong[0]]
        return low


# Two examples at x = 1 with both labels, so that L_T is even in the margin, which starts at 1 and moves by
# `alpha d_S = 2 eps` in each of four weights: it is at -1, and L_T where it was, at `alpha = 1 / (2 eps)`.
EVEN = (
    [(np.array([[1.0, 0.0]]), None)],
    "tanh",
    [(np.array([[-0.5, 0.5]]), None)],
    np.ones((1, 1)),
    np.ones((2, 1)),
    np.array([0, 1]),
)


@pytest.mark.parametrize("epsilon", [0.25, 1.0, 3.0])
def test_where_the_end_is_known_by_hand_it_is_found(epsilon):
    found = certify_descent(*EVEN, epsilon=epsilon, imitation_loss="squared_error", tolerance=1e-9)
    end = 1 / (2 * epsilon)
    assert (1 - 1e-7) * end < found.certified < end < found.refuted < (1 + 1e-7) * end
    assert found.check(points=20).holds


def test_where_the_corner_of_the_box_is_known_by_hand_it_is_found():
    found = certify_box(*EVEN, until_epsilon=2.0, imitation_loss="squared_error", tolerance=1e-5)
    assert (1 - 1e-5) * 0.25 < found.certified < 0.25 < found.refuted[0] < (1 + 1e-5) * 0.25
    assert found.refuted[1] == pytest.approx(2.0, rel=1e-5)
    assert found.stopped == "tolerance"
    assert found.check(points=20).holds


@pytest.mark.parametrize(("activation", "loss"), CASES)
def test_no_sample_contradicts_it_and_it_goes_as_far_as_samples_do(activation, loss):
    case = Case(activation, loss)
    found, last = case.line(1.0, until=200.0), case.last(1.0, 200.0)
    assert 0.999 * last <= found.certified <= last * (1 + 1e-5)
    if last == 200.0:
        assert (found.certified, found.refuted, found.stopped) == (200.0, None, "until")
    else:
        assert found.certified < found.refuted < 1.001 * last
        assert case.drops(1.0, [found.refuted]) < 0
    verdict = found.check(points=10)
    assert verdict.holds
    assert (verdict.proved, verdict.points) == ((True,) * len(found.intervals), 10)


def test_the_cases_above_have_ends_and_none():
    ends = [Case(*each).last(1.0, 200.0) < 200.0 for each in CASES]
    assert 2 <= sum(ends) <= len(ends) - 2


@pytest.mark.parametrize(("activation", "loss", "seed"), [("relu", "squared_error", 3), ("gelu", "squared_error", 2)])
def test_the_box_reaches_nine_tenths_of_the_samples_and_no_sample_contradicts_it(activation, loss, seed):
    case, until = Case(activation, loss, seed), 15.0
    found = case.box(1.0, until=until, tolerance=0.08)
    sizes = np.linspace(0, 1, 5)[1:]
    last = min(case.last(epsilon, until) for epsilon in sizes)
    assert 0.9 * last <= found.certified <= last * (1 + 1e-5)
    assert found.stopped == ("until" if found.certified == until else "tolerance")
    for epsilon in [1e-3, *sizes]:
        assert (case.drops(epsilon, np.linspace(0, found.certified, 30)[1:]) > 0).all()
    if found.refuted is not None:
        alpha, epsilon = found.refuted
        assert found.certified < alpha <= found.certified / 0.92
        assert case.drops(epsilon, [alpha]) < 0
    verdict = found.check(points=10, lines=2)
    assert verdict.holds
    assert (verdict.proved, verdict.points) == ((True, True), 10)


def test_the_direction_is_the_descent_of_the_trait_unless_given():
    case = Case("gelu", "kl")
    network, activation, _, *data = case.arguments
    found = certify_descent(network, activation, None, *data, epsilon=1.0, until=1.0, **case.keywords)
    taken = np.concatenate([np.ravel(leaf) for w, b in found.claim.imitation.direction for leaf in (b, w)])
    assert oracle.error(taken, case.d_teacher) < 1e-13


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("ends", [(0.0, 0.5), (0.5, 0.75), (2.0, 2.01)])
def test_what_a_strip_says_contains_the_truth(activation, ends):
    """At random (beta, eps), by the second checker's arithmetic with 200 bits."""
    case = Case(activation, "kl")
    low, high = ends
    with balls.quiet():
        student, trait, claim = descent._problem(*case.arguments, "kl", LOGITS, None, slice(0, CLASSES))
        fixed, moved = student.between(low, high, 3)
        drop = descent._Drop(trait, fixed, moved)
        domains = [Domain.start(0.5), Domain.between(0.5, 0.9), Domain.between(3.0, 3.5)]
        parts = [(domain, *drop(domain)) for domain in domains]
    random = np.random.default_rng(1)
    for u in random.uniform(-1, 1, size=4):
        epsilon = float(low + (high - low) * (u + 1) / 2)
        with flint_at(200):
            exact = descent_checker._Drop(claim, epsilon)
            step = descent_checker._direction(claim.imitation, epsilon)
            for layer, fixed_pair, moved_pair in zip(step, fixed, moved, strict=True):
                table = np.array([[float(each / epsilon) for each in row] for row in layer.tolist()]).T
                for values, number, second in zip((table[:-1], table[-1]), fixed_pair, moved_pair, strict=True):
                    truth = np.ravel(values)
                    away = truth - np.ravel(number.mid) - u * np.ravel(second.mid)
                    assert (np.abs(away) <= np.ravel(second.rad) + 1e-14).all()
            for domain, form, second in parts:
                s = float(random.uniform(0 if domain.starts else -1, 1))
                beta = domain.centre + domain.radius * s
                value = float(exact.value(beta / epsilon))
                with balls.quiet():
                    around = form.on(s, s).widen(1e-14)
                reach = beta * second.rad + 1e-14
                middle = value - beta * u * second.mid
                assert around.lower - reach <= middle <= around.upper + reach


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_chords_and_slopes_contain_the_quotients(activation):
    random = np.random.default_rng(2)
    function, derivative = oracle.ACTIVATIONS[activation]
    p = Balls(random.normal(size=400), random.exponential(size=400) * random.choice([1e-3, 0.3], 400))
    x = p + Balls(np.zeros(400), random.exponential(size=400))
    with balls.quiet():
        chord, slope = descent._chord(activation, p, x), descent._slope(activation, x)
        value = descent._value(activation, p)
    for _ in range(50):
        u, v = (each.mid + each.rad * random.uniform(-1, 1, 400) for each in (p, x))
        quotient = (function(v) - function(u)) / (v - u)
        assert (chord.lower - 1e-9 <= quotient).all()
        assert (quotient <= chord.upper + 1e-9).all()
        assert (slope.lower - 1e-12 <= derivative(v)).all()
        assert (derivative(v) <= slope.upper + 1e-12).all()
        assert (value.lower - 1e-12 <= function(u)).all()
        assert (function(u) <= value.upper + 1e-12).all()


def test_the_chord_of_a_relu_is_sharper_than_its_slope_beside_the_kink():
    with balls.quiet():
        right = descent._chord("relu", Balls.between([1.0], [2.0]), Balls.between([-1.0], [4.0]))
        left = descent._chord("relu", Balls.between([-2.0], [-1.0]), Balls.between([-4.0], [1.0]))
    # From 1 to -1 it is 1 / 2, and from -1 to 1 too.
    np.testing.assert_allclose([right.lower, right.upper, left.lower, left.upper], [[0.5], [1], [0], [0.5]], atol=1e-12)


def test_chances_contain_the_softmax_and_survive_overflow():
    random = np.random.default_rng(3)
    margins = Balls(random.normal(size=(200, 3)) * 20, random.exponential(size=(200, 3)))
    with balls.quiet():
        found = descent._chances(margins)
        far = descent._chances(Balls.exact([[-2000.0, 3000.0]]))
    for _ in range(30):
        m = margins.mid + margins.rad * random.uniform(-1, 1, (200, 3))
        exact = oracle.softmax(np.hstack([np.zeros((200, 1)), m]))[:, 1:]
        assert ((found.lower <= exact + 1e-12) & (exact - 1e-12 <= found.upper)).all()
    assert (far.lower <= [[0, 1]]).all()
    assert (far.upper >= [[0, 1]]).all()


@pytest.mark.parametrize(("activation", "loss"), [CASES[i] for i in (0, 3)])
def test_a_teacher_that_climbs_is_never_certified(activation, loss):
    case = Case(activation, loss)
    case.d_teacher = -case.d_teacher
    found = case.line(0.1, until=5.0)
    assert (found.certified, found.intervals) == (0.0, ())
    assert case.drops(0.1, [found.refuted]) < 0
    box = case.box(0.1, until=5.0)
    assert (box.certified, box.rectangles) == (0.0, ())
    assert box.refuted[0] < 1e-3
    assert case.drops(box.refuted[1], [1e3 * box.refuted[0]]) < 0
    assert "no box up to eps = 0.1" in str(box)


def test_a_step_that_leaves_the_trait_alone_is_not_certified():
    case = Case("identity", "kl")
    case.d_teacher = np.zeros_like(case.d_teacher)
    for found in (case.line(1.0, until=5.0), case.box(1.0, until=5.0)):
        assert (found.certified, found.refuted, found.stopped) == (0.0, None, "undecided")
        assert found.check(points=5).holds


def test_a_false_end_a_gap_and_another_network_are_contradicted():
    case = Case("relu", "kl")
    found = case.line(1.0, until=200.0)
    assert found.refuted is not None
    beyond = 1.01 * found.refuted
    last = found.intervals[-1]._replace(high=beyond)
    with pytest.raises(CheckError, match="wrong"):
        dataclasses.replace(found, certified=beyond, intervals=(*found.intervals[:-1], last)).check(points=0)
    with pytest.raises(CheckError, match="does not go on"):
        dataclasses.replace(found, intervals=found.intervals[1:]).check(points=0)
    with pytest.raises(CheckError, match="falls"):
        dataclasses.replace(found, refuted=found.certified / 2).check(points=0)
    climbs = [[(-np.array(w)).tolist(), (-np.array(b)).tolist()] for w, b in found.claim.imitation.direction]
    claim = dataclasses.replace(found.claim, imitation=dataclasses.replace(found.claim.imitation, direction=climbs))
    with pytest.raises(CheckError, match="rises"):
        dataclasses.replace(found, claim=claim).check(points=5)


def test_a_box_that_is_not_covered_or_too_high_is_contradicted():
    found = certify_box(*EVEN, until_epsilon=2.0, imitation_loss="squared_error")
    for i in range(len(found.rectangles)):
        needed = (*found.rectangles[:i], *found.rectangles[i + 1 :])
        covered = descent_checker._covered(found.certified, 2.0, needed)
        if not covered:
            with pytest.raises(CheckError, match="do not cover"):
                dataclasses.replace(found, rectangles=needed).check(points=0, lines=0)
            break
    else:
        raise AssertionError("no rectangle is needed")
    high = tuple(each._replace(high=2 * each.high) for each in found.rectangles)
    with pytest.raises(CheckError, match="eps = 2"):
        dataclasses.replace(found, certified=2 * found.certified, rectangles=high).check(points=4, lines=1)
    with pytest.raises(CheckError, match="falls"):
        dataclasses.replace(found, refuted=(found.certified / 2, 1.0)).check(points=0, lines=0)


def test_certificates_are_written_and_read_without_loss():
    case = Case("tanh", "squared_error")
    line, box = case.line(1.0, until=0.5), case.box(0.5, until=0.5)
    for found, kind in ((line, DescentCertificate), (box, BoxCertificate)):
        again = kind.from_dict(json.loads(json.dumps(found.to_dict())))
        assert again == found
        assert again.check(points=2).holds
    refuted = certify_box(*EVEN, imitation_loss="squared_error")
    assert BoxCertificate.from_dict(refuted.to_dict()) == refuted


def test_they_say_what_is_proved_and_what_is_not():
    line = certify_descent(*EVEN, epsilon=1.0, imitation_loss="squared_error")
    assert f"every alpha in (0, {line.certified:.17g}]" in str(line)
    assert f"above that at alpha = {line.refuted:.17g}" in str(line)
    assert "not about a run that rounds" in str(line)
    short = certify_descent(*EVEN, epsilon=1.0, imitation_loss="squared_error", until=0.1)
    assert "as far as was asked" in str(short)
    box = certify_box(*EVEN, imitation_loss="squared_error")
    assert f"every alpha in (0, {box.certified:.17g}] and every eps in (0, 1]" in str(box)
    few = certify_box(*EVEN, imitation_loss="squared_error", steps=1)
    assert (few.stopped, few.evaluations) == ("steps", 1)
    assert "most steps allowed" in str(few)


def test_flint_is_left_as_it_was_found():
    flint.ctx.prec, flint.ctx.cap = 77, 5
    try:
        certify_box(*EVEN, imitation_loss="squared_error").check(points=2, lines=1)
        assert (flint.ctx.prec, flint.ctx.cap) == (77, 5)
    finally:
        flint.ctx.prec, flint.ctx.cap = 53, 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": float("nan")}, "epsilon"),
        ({"until": -1.0}, "until"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"order": 0}, "order"),
        ({"imitation_loss": "huber"}, "imitation loss"),
        ({"logits": [7]}, "logits"),
        ({"classes": [0]}, "classes must select two"),
        ({"output_weights": [1.0, 1.0]}, "output_weights"),
        ({"trait_labels": np.zeros(4, int)}, "trait_labels must be one for each"),
        ({"trait_labels": np.full(5, 3)}, "trait_labels must be from 0 to 2"),
        ({"trait_labels": np.zeros(5)}, "trait_labels must be whole numbers"),
        ({"trait_inputs": np.zeros((0, 3))}, "trait_inputs must be finite"),
        ({"inputs": np.zeros((6, 2))}, "inputs must be finite"),
        ({"activation": "swish"}, "activation"),
        ({"weights": [(np.full((3, 5), np.nan), np.zeros(5))]}, "weights"),
        ({"direction": [(np.zeros((3, 5)), np.zeros(5))]}, "direction must have the shapes"),
    ],
)
def test_a_wrong_argument_is_named_before_any_work(changes, message):
    case = Case("tanh", "kl")
    names = ("weights", "activation", "direction", "inputs", "trait_inputs", "trait_labels")
    arguments = dict(zip(names, case.arguments, strict=True)) | case.keywords | {"epsilon": 1.0} | changes
    with pytest.raises(ValueError, match=message):
        certify_descent(**arguments)
    size = arguments.pop("epsilon")
    with pytest.raises(ValueError, match=message):
        certify_box(**arguments, until_epsilon=size)
