"""What certificates stand on, operation by operation: results for random numbers in the operands lie in the results.

The oracles are exact fractions, and python-flint at 300 bits.
"""

import itertools
import math
from fractions import Fraction

import flint
import numpy as np
import pytest
from flint import arb

from sublim_theory.theorem.certificates import balls, forms, tables
from sublim_theory.theorem.certificates.balls import Balls
from sublim_theory.theorem.certificates.forms import Domain, Form, Line

BITS = 300


@pytest.fixture(autouse=True)
def precise():
    """Flint at many bits, and no warnings of numpy."""
    before = flint.ctx.prec
    flint.ctx.prec = BITS
    with balls.quiet():
        yield
    flint.ctx.prec = before


FUNCTIONS = {
    "exp": lambda x: x.exp(),
    "tanh": lambda x: x.tanh(),
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "softplus": lambda x: x.exp().log1p() if x < 300 else x + (-x).exp().log1p(),
    "gelu": lambda x: x * (1 + (x / arb(2).sqrt()).erf()) / 2,
    "relu": lambda x: x.max(arb(0)),
    "identity": lambda x: x,
    "normal_density": lambda x: (-x * x / 2).exp() / (2 * arb.pi()).sqrt(),
    "normal_distribution": lambda x: (-x / arb(2).sqrt()).erfc() / 2,
}


def holds(ball, exact):
    """Whether one ball, two floats, contains an `arb`."""
    return abs(arb(float(ball.mid)) - exact) <= arb(float(ball.rad)) or (
        ball.rad == 0 and exact.overlaps(arb(float(ball.mid)))
    )


def spread(random, size):
    """Numbers of all sizes and signs, and zeros."""
    return random.normal(size=size) * 10.0 ** random.integers(-9, 6, size) * (random.random(size) > 0.1)


# Balls


@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid", "softplus", "normal_density", "normal_distribution"])
def test_elementary_functions_enclose_and_are_close(name):
    random = np.random.default_rng(0)
    edges = [
        0.0,
        -0.0,
        5e-324,
        1e-300,
        0.0625,
        0.1875,
        8.5,
        -8.5,
        8.4999,
        8.5001,
        -8.5001,
        37.0,
        699.9,
        -699.9,
        -700.1,
        -745.0,
    ]
    x = np.concatenate(
        [random.normal(size=300) * 10.0 ** random.uniform(-10, 1.5, 300), edges, np.arange(-40, 40) * 0.125]
    )
    found = getattr(balls, name)(x)
    assert all(holds(found[i], FUNCTIONS[name](arb(float(each)))) for i, each in enumerate(x))
    near = np.abs(x) < 30
    assert np.all(found.rad[near] <= 2e-14 * (1 + np.abs(found.mid[near])))


def test_expm1_is_precise_relative_to_small_numbers():
    x = np.array([1e-250, -1e-17, 3e-9, 0.34, -0.35, 0.36, 5.0, -50.0])
    found = balls.exponentials(x)[1]
    assert all(holds(found[i], arb(float(each)).expm1()) for i, each in enumerate(x))
    assert np.all(found.rad <= 4e-15 * np.abs(found.mid))


def test_what_overflows_proves_nothing():
    large = Balls.exact(np.array([1e308, -1e308, np.inf, np.nan]))
    for found in (large + large, large * large, large - large, large * Balls.exact(0.0) + large):
        assert not np.any((found.lower > 0) & np.isfinite(found.upper) & (found.upper < 1e300))
    assert not np.any(balls.exp(np.array([701.0, np.nan])).lower > 1e305)
    assert np.isnan(Balls.between(-1.0, 1.0).reciprocal().mid)
    assert np.isnan(Balls.exact(0.0).reciprocal().mid)


def members(random, ball):
    """Exact numbers in balls: ends and what is between."""
    share = random.choice([-1, 1, 0, random.uniform(-1, 1)], ball.shape)
    return [
        Fraction(float(m)) + Fraction(float(r)) * Fraction(float(s))
        for m, r, s in zip(ball.mid.ravel(), ball.rad.ravel(), share.ravel(), strict=True)
    ]


def inside(found, exact):
    return all(
        Fraction(float(m)) - Fraction(float(r)) <= e <= Fraction(float(m)) + Fraction(float(r))
        for m, r, e in zip(found.mid.ravel(), found.rad.ravel(), exact, strict=True)
    )


@pytest.mark.parametrize("seed", range(2))
def test_arithmetic_encloses_exact_fractions(seed):
    random = np.random.default_rng(seed)
    x, y = (Balls(spread(random, 100), np.abs(spread(random, 100)) * (random.random(100) > 0.4)) for _ in range(2))
    tiny = Balls(x.mid * 1e-306, x.rad * 1e-306)  # subnormal
    for a, b in ((x, y), (tiny, y), (tiny, tiny)):
        p, q = members(random, a), members(random, b)
        assert inside(a + b, [i + j for i, j in zip(p, q, strict=True)])
        assert inside(a - b, [i - j for i, j in zip(p, q, strict=True)])
        assert inside(a * b, [i * j for i, j in zip(p, q, strict=True)])
        assert inside(a.sum(0).reshape(1), [sum(p)])
        m, n = a.reshape(4, 25), b.reshape(25, 4)
        product = [sum(p[25 * i + k] * q[4 * k + j] for k in range(25)) for i in range(4) for j in range(4)]
        assert inside(m @ n, product)
        for k, each in enumerate(p):
            assert Fraction(float(a.lower[k])) <= each <= Fraction(float(a.upper[k]))
            assert Fraction(float(a.least[k])) <= abs(each) <= Fraction(float(a.most[k]))
    positive = Balls(np.abs(x.mid) + 1.5 * x.rad + 1e-5, x.rad)
    assert inside(positive.reciprocal(), [1 / each for each in members(random, positive)])
    assert inside(Balls.between(x.lower, x.upper), members(random, x))


def test_exact_zeros_stay_exact():
    x, zero = Balls(np.array([2.0, 1e-200]), np.array([0.5, 0.0])), Balls.exact(np.zeros(2))
    for found in (x * zero, zero + zero, (x * zero).sum(0), x.reshape(1, 2) @ Balls.exact(np.zeros((2, 3)))):
        assert not np.any(found.mid)
        assert not np.any(found.rad)
    small = Balls.exact(np.full((1, 1), 1e-200))
    assert (small * small).rad > 0  # its product is not 0, though its float is
    assert (small @ small).rad > 0


def test_a_ball_is_as_small_as_its_roundings():
    x = Balls.exact(np.random.default_rng(0).normal(size=(20, 100)))
    product = x @ x.transpose(1, 0)
    assert np.all(product.rad <= 3e-14 * (np.abs(x.mid) @ np.abs(x.mid.T)))


# Bounds of derivatives


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "softplus", "gelu"])
def test_bounds_are_above_all_derivatives_and_not_far(name):
    order = 7
    bounds = tables.derivative_bounds(name, order)
    assert np.all(np.diff(bounds[np.isfinite(bounds[:, 0])], axis=1) <= 0)
    series = dict(tables.FUNCTIONS) | {"softplus": lambda x: (x.exp() + 1).log()}
    random = np.random.default_rng(1)
    points = np.concatenate([random.uniform(-60, 60, 30), np.linspace(-6, 6, 193), np.arange(-9, 9) * tables.CELL])
    largest = np.zeros(order + 1)
    with tables.flint_at(BITS, order + 1):
        for point in points.tolist():
            found = series[name](flint.arb_series([arb(point), 1])).coeffs()
            sizes = np.array([float(abs(each)) for each in found])
            at = forms.derivatives(name, order, np.abs(point))
            # The bounds at a distance hold for everything that is farther.
            assert np.all(sizes <= at[: len(sizes)] * (1 + 1e-12))
            largest[: len(sizes)] = np.maximum(largest[: len(sizes)], sizes)
    assert np.all(bounds[2:5, 0] <= 1.35 * largest[2:5])


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "softplus", "gelu"])
def test_jets_enclose_taylor_coefficients(name):
    series = dict(tables.FUNCTIONS) | {"softplus": lambda x: (x.exp() + 1).log()}
    x = np.concatenate([np.random.default_rng(2).normal(size=60) * 3, [0.0, 1e-12, -9.0, 9.0, 30.0, -30.0]])
    found = forms.jet(name, x, 5)
    with tables.flint_at(BITS, 6):
        for i, point in enumerate(x.tolist()):
            exact = series[name](flint.arb_series([arb(point), 1])).coeffs()
            assert all(holds(found[k][i], exact[k]) for k in range(len(exact)))
    assert max(np.max(each.rad) for each in found) < 1e-12


# Forms

DOMAINS = [Domain(0.7, 0.3, False, order) for order in (1, 2, 3, 5)] + [
    Domain.start(0.4, order) for order in (1, 2, 3, 5)
]
domains = pytest.mark.parametrize("domain", DOMAINS, ids=lambda d: f"{'start' if d.starts else 'between'}-{d.order}")


def random_form(random, domain, size, wide):
    """Coefficients of various sizes; the first is a number for every s where the domain starts at 0."""
    mid = random.normal(size=(domain.order + 1, *size)) * 10.0 ** random.uniform(-2, 1, (domain.order + 1, *size))
    rad = np.abs(random.normal(size=mid.shape)) * wide * 10.0 ** random.uniform(-3, 0, mid.shape)
    if domain.starts:
        rad[0] *= random.random(size) > 0.5
    return Form(Balls(mid, rad), domain)


def member(random, form, s, start=None):
    """Values at s for a choice of numbers in the coefficients, as `arb` [...] in one list; `start` fixes the first."""
    coefficients, shape = form.coefficients, form.coefficients.shape[1:]
    total = [arb(0)] * math.prod(shape)
    for k in range(form.order + 1):
        chosen = random.uniform(-1, 1, shape) if random.random() < 0.5 else random.choice([-1.0, 1.0], shape)
        if k == 0 and start is not None:
            chosen = start
        numbers = zip(coefficients.mid[k].ravel(), coefficients.rad[k].ravel(), chosen.ravel(), strict=True)
        power = arb(s) ** k
        total = [
            t + (arb(float(m)) + arb(float(r)) * arb(float(c))) * power
            for t, (m, r, c) in zip(total, numbers, strict=True)
        ]
    return total


def points(domain):
    return [0.0, 1.0, 0.37, 0.81] + ([] if domain.starts else [-1.0, -0.44])


def contained(found, s, exact):
    at = found.on(s, s)
    flat = Balls(at.mid.reshape(-1), at.rad.reshape(-1))
    return all(
        bool(np.isnan(flat.mid[i])) or bool(np.isinf(flat.rad[i])) or holds(flat[i], each)
        for i, each in enumerate(exact)
    )


def softmax(y):
    shift = max(y, key=float)
    powers = [(each - shift).exp() for each in y]
    return [each / sum(powers) for each in powers]


def log_sum_exp(y):
    shift = max(y, key=float)
    return [shift + sum((each - shift).exp() for each in y).log()]


ROWS = 12


@domains
@pytest.mark.parametrize("wide", [0.0, 1.0])
def test_operations_on_forms_enclose(domain, wide):
    """For each s and any numbers in the coefficients, and on a domain that starts at 0 for one first coefficient."""
    random = np.random.default_rng(domain.order)
    p, q = (random_form(random, domain, (ROWS, 3), wide) for _ in range(2))
    starts = [random.uniform(-1, 1, (ROWS, 3)) if domain.starts else None for _ in range(2)]
    named = {name: p.activate(name) for name in ("relu", "tanh", "sigmoid", "gelu", "softplus", "identity")}
    exp, low, high = p.exp()
    soft, logarithm = p.softmax(), p.log_sum_exp()
    total, difference, product, added = p + q, p - q, p * q, p.sum(-1)
    proper = 0
    for s in points(domain):
        x, y = (member(random, form, s, start) for form, start in zip((p, q), starts, strict=True))
        rows = [x[3 * i : 3 * i + 3] for i in range(ROWS)]
        for name, found in named.items():
            assert contained(found, s, [FUNCTIONS[name](each) for each in x]), name
        assert contained(total, s, [a + b for a, b in zip(x, y, strict=True)])
        assert contained(difference, s, [a - b for a, b in zip(x, y, strict=True)])
        assert contained(product, s, [a * b for a, b in zip(x, y, strict=True)])
        assert contained(added, s, [sum(row) for row in rows])
        assert contained(exp, s, [each.exp() for each in x])
        assert all(arb(float(a)) <= each.exp() for a, each in zip(low.ravel(), x, strict=True))
        assert all(each.exp() <= arb(float(b)) for b, each in zip(high.ravel(), x, strict=True))
        assert contained(soft, s, list(itertools.chain.from_iterable(softmax(row) for row in rows)))
        assert contained(logarithm, s, list(itertools.chain.from_iterable(log_sum_exp(row) for row in rows)))
        values = p.range()
        assert all(holds(Balls(values.mid.ravel(), values.rad.ravel())[i], each) for i, each in enumerate(x))
        proper += np.isfinite(soft.on(s, s).rad).mean() > 0.5
    assert proper > 0  # it is not NaN that contains everything


@domains
def test_reciprocals_enclose_although_the_centre_lies_outside_of_the_values(domain):
    """The values are known to be in [1, 3], and the first coefficient alone is not."""
    random = np.random.default_rng(7)
    p = random_form(random, domain, (ROWS,), 0.5)
    p.coefficients.mid[0] = np.linspace(0.8, 3.2, ROWS)
    p.coefficients.rad[0] = 0.0 if domain.starts else 0.4
    found, tried = p.reciprocal(np.full(ROWS, 1.0), np.full(ROWS, 3.0)), 0
    for s in points(domain) * 20:
        x = member(random, p, s, np.zeros(ROWS))
        at = found.on(s, s)
        for i, each in enumerate(x):
            if 1 <= each <= 3:
                tried += 1
                assert np.isnan(at.mid[i]) or np.isinf(at.rad[i]) or holds(at[i], 1 / each)
    assert tried > 50


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_on_a_domain_that_starts_at_0_the_first_coefficient_is_the_value_there(order):
    """So that dropping it where that value is 0 leaves `p / s`: also across kinks and where activations saturate."""
    random = np.random.default_rng(order)
    p = random_form(random, Domain.start(1.0, order), (40, 3), 0.0)
    p.coefficients.mid[0, :6] = 0.0  # exactly on the kink
    start = [arb(float(each)) for each in p.coefficients.mid[0].ravel()]
    exact = {
        name: [FUNCTIONS[name](each) for each in start] for name in ("relu", "tanh", "sigmoid", "gelu", "softplus")
    }
    exact["softmax"] = list(itertools.chain.from_iterable(softmax(start[3 * i : 3 * i + 3]) for i in range(40)))
    for name, values in exact.items():
        found = p.softmax() if name == "softmax" else p.activate(name)
        first = found.coefficients[0].reshape(-1)
        assert all(holds(first[i], each) or np.isnan(first.mid[i]) for i, each in enumerate(values)), name
        assert np.nanmax(first.rad) < 1e-12
        # p(s) - p(0) over s lies in c_1 + c_2 s + ...
        rest = Form(balls.join(found.coefficients[1:], Balls.exact(np.zeros((1, 40, 3)))), found.domain)
        for s in (0.01, 0.5, 1.0):
            x = member(random, p, s)
            if name == "softmax":
                moved = list(itertools.chain.from_iterable(softmax(x[3 * i : 3 * i + 3]) for i in range(40)))
            else:
                moved = [FUNCTIONS[name](each) for each in x]
            assert contained(rest, s, [(a - b) / arb(s) for a, b in zip(moved, values, strict=True)]), name


@pytest.mark.parametrize("name", forms.ACTIVATIONS)
@pytest.mark.parametrize(
    "domain", [Domain.start(0.5), Domain.between(0.5, 0.9), Domain.between(0.5, 8.0), Domain.at(0.7)]
)
def test_outputs_along_a_line_enclose_samples(name, domain):
    random = np.random.default_rng(11)
    layers, direction = (
        [(random.normal(size=(a, b)), random.normal(size=b)) for a, b in itertools.pairwise((3, 6, 5, 2))]
        for _ in range(2)
    )
    x = random.normal(size=(7, 3))
    found = Line(layers, direction, name, x).outputs(domain)
    z, v = Line(layers, direction, name, x).start()
    functions = {"relu": lambda u: np.maximum(u, 0), "tanh": np.tanh, "identity": lambda u: u}
    functions |= {
        "sigmoid": lambda u: 1 / (1 + np.exp(-u)),
        "gelu": lambda u: u * (1 + np.vectorize(math.erf)(u / 2**0.5)) / 2,
    }

    def outputs(eps):
        h = x
        for i, ((w, b), (dw, db)) in enumerate(zip(layers, direction, strict=True)):
            h = h @ (w + eps * dw) + b + eps * db
            h = functions[name](h) if i < 2 else h
        return h

    for s in np.linspace(0 if domain.starts else -1, 1, 9):
        at, exact = found.on(s, s), outputs(domain.centre + domain.radius * s)
        assert np.all(np.abs(at.mid - exact) <= at.rad + 1e-12 * (1 + np.abs(exact)))
    np.testing.assert_allclose(z.mid, outputs(0.0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(v.mid, (outputs(1e-6) - outputs(-1e-6)) / 2e-6, rtol=1e-5, atol=1e-5)
    assert max(z.rad.max(), v.rad.max()) < 1e-11
    if domain.radius == 0:
        assert found.range().rad.max() < 1e-11


def test_balls_as_weights_contain_every_network_in_them():
    random = np.random.default_rng(12)
    layers = [(random.normal(size=(2, 4)), random.normal(size=4)), (random.normal(size=(4, 1)), random.normal(size=1))]
    wide = [tuple(Balls(each, np.full(each.shape, 0.01)) for each in layer) for layer in layers]
    x, domain = random.normal(size=(3, 2)), Domain.between(0.2, 0.4)
    found = Line(layers, wide, "tanh", x).outputs(domain)
    for _ in range(20):
        d = [tuple(each.mid + each.rad * random.uniform(-1, 1, each.shape) for each in layer) for layer in wide]
        for s in (-1.0, 0.3, 1.0):
            eps = domain.centre + domain.radius * s
            (w, b), (w_2, b_2) = ((w + eps * dw, b + eps * db) for (w, b), (dw, db) in zip(layers, d, strict=True))
            at = found.on(s, s)
            assert np.all(np.abs(at.mid - (np.tanh(x @ w + b) @ w_2 + b_2)) <= at.rad)


# The march


def polynomial(*coefficients):
    def function(domain):
        eps = Form.linear(Balls.exact(domain.centre), Balls.exact(domain.radius), domain)
        total = Form.constant(Balls.exact(0.0), domain)
        for each in reversed(coefficients):
            total = total * eps + Form.constant(Balls.exact(each), domain)
        return total

    return function


def test_march_stops_at_the_first_root_and_says_why():
    """`eps (eps - 2) (eps - 3) / 6` is positive, negative, positive."""
    function = polynomial(0.0, 1.0, -5 / 6, 1 / 6)
    found = forms.march(function, 10.0, vanishes=True)
    assert found.stopped == "undecided"
    assert 2 * (1 - 2e-5) < found.reached <= 2
    assert forms.march(function, 1.5, vanishes=True)[::3] == (1.5, "until")
    assert forms.march(function, 10.0, vanishes=True, steps=3).stopped == "steps"
    assert 2 < forms.negative_above(function, found.reached, 10.0, 1e-9) < 2.001
    assert forms.negative_above(polynomial(1.0), 0.0, 10.0, 1e-9) is None


def test_march_does_not_take_what_vanishes_at_0_for_positive_unless_it_is_told():
    assert forms.march(polynomial(0.0, 1.0), 1.0, vanishes=False).reached == 0
    assert forms.march(polynomial(0.0, 1.0), 1.0, vanishes=True).reached == 1
    assert forms.march(polynomial(0.0, -1.0), 1.0, vanishes=True).reached == 0
    assert forms.march(polynomial(0.0, 0.0, 1.0), 1.0, vanishes=True).reached == 0  # its slope at 0 is not positive
    assert forms.march(polynomial(0.5, -1.0), 1.0, vanishes=False).reached == pytest.approx(0.5, rel=1e-4)
