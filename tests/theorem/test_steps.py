"""Fact 5: "if L_T is beta-smooth on the segment, the decrease is guaranteed for 0 < alpha < 2 (d_S . d_T) /
(beta |d_S|^2)." Fact 3: for ReLU "only differentiability along d_T is needed", and the first kink ends the law.

Oracles: quadratics whose answers are formulas, a sine whose alignment changes sign at pi - 2 theta, and for ReLU
networks JAX's own gradients and a dense scan of activation patterns.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from sublim_theory.theorem import Instance, steps
from sublim_theory.theorem.hypotheses import offset_loss
from sublim_theory.theorem.relu import _sign_changes, relu_certificate

EXACT = 1e-10
CURVATURE = 3.0


def f(params, x):
    """3-4-3, tanh."""
    (w1, b1), (w2, b2) = params
    return jnp.tanh(x @ w1 + b1[None]) @ w2 + b2[None]


def bowl(params):
    """A quadratic: its curvature is `CURVATURE` along every line."""
    return CURVATURE / 2 * sum(jnp.sum(jnp.square(leaf - 1)) for leaf in jax.tree.leaves(params))


def trait(params):
    return jnp.mean(jnp.square(jnp.sin(f(params, 2 * jnp.eye(3))) - jnp.eye(3))) + 0.01 * sum(
        jnp.sum(leaf**4) for leaf in jax.tree.leaves(params)
    )


@pytest.fixture(scope="module")
def params():
    draw = np.random.default_rng(0).normal
    return [(draw(size=(3, 4)), draw(size=4)), (draw(size=(4, 3)), draw(size=3))]


@pytest.fixture(scope="module")
def inputs():
    return np.random.default_rng(1).normal(size=(5, 3))


def squares(*parts):
    return Instance(*parts, imitation_loss="squared_error")


class Student:
    """The student's step under squared error, from an explicit Jacobian."""

    def __init__(self, params, inputs, teacher_loss, epsilon):
        with jax.enable_x64(True):
            theta, unravel = ravel_pytree(jax.tree.map(jnp.asarray, params))
            loss = jax.jit(lambda t: teacher_loss(unravel(t)))
            jacobian = np.asarray(jax.jit(jax.jacfwd(lambda t: f(unravel(t), inputs)))(theta))
            self.d_teacher = -np.asarray(jax.jit(jax.jacfwd(loss))(theta))
            self.theta = np.asarray(theta)
            moved = np.asarray(f(unravel(jnp.asarray(self.theta + epsilon * self.d_teacher)), inputs))
            pull = 2 * (moved - np.asarray(f(params, inputs)))
            self.loss = lambda t: float(loss(t))
        self.d = np.einsum("bip,bi->p", jacobian, pull) / len(inputs)
        self.alignment, self.square = self.d @ self.d_teacher, self.d @ self.d

    def falls(self, alpha):
        with jax.enable_x64(True):
            return self.loss(self.theta + alpha * self.d) < self.loss(self.theta)


@pytest.fixture(scope="module")
def student(params, inputs):
    return Student(params, inputs, bowl, 0.1)


@pytest.fixture(scope="module")
def quadratic(params, inputs):
    return squares(f, params, bowl, inputs)


@pytest.fixture(scope="module")
def sizes(quadratic):
    return steps.step_sizes(quadratic, epsilon=0.1)


# Guaranteed alpha


def test_known_smoothness_is_a_guarantee_and_sharp_on_a_quadratic(quadratic, student):
    found = steps.guaranteed_alpha(quadratic, epsilon=0.1, smoothness=CURVATURE)
    expected = 2 * student.alignment / (CURVATURE * student.square)
    assert found.guaranteed
    assert found.alpha == pytest.approx(expected, rel=EXACT)
    assert found.alignment == pytest.approx(student.alignment, rel=EXACT)
    assert found.square == pytest.approx(student.square, rel=EXACT)
    assert found.curvature == pytest.approx(CURVATURE, rel=1e-9)
    assert student.falls(expected * (1 - 1e-6))
    assert not student.falls(expected * (1 + 1e-6)), "on a quadratic the bound is the truth"
    assert str(found).startswith("guaranteed: every alpha below")


def test_sampled_curvature_is_an_estimate_and_says_so(student, sizes):
    found = sizes.guaranteed
    assert not found.guaranteed
    assert found.alpha == pytest.approx(2 * student.alignment / (CURVATURE * student.square), rel=1e-9)
    assert found.smoothness == pytest.approx(CURVATURE, rel=1e-9)
    assert str(found).startswith("nothing is guaranteed, as no smoothness was given")


def scalar(teacher_loss, **options):
    """`theta x` at theta = 0 and x = 1 under squared error: at eps = 1/2 the student's step is the teacher's, d_T."""
    instance = squares(lambda p, x: p[None] * x, np.zeros(1), lambda p: teacher_loss(p[0]), np.ones((1, 1)))
    return steps.guaranteed_alpha(instance, epsilon=0.5, **options)


def test_a_refuted_bound_is_refused():
    """`(theta - 1)**2 3 / 2` under a bound of 2.9."""
    with pytest.raises(ValueError, match=r"smoothness 2\.9 is no bound: a curvature of 3 was found"):
        scalar(lambda p: 1.5 * (p - 1) ** 2, smoothness=2.9)


def test_a_larger_bound_allows_less():
    found = scalar(lambda p: 1.5 * (p - 1) ** 2, smoothness=12.0)
    assert found.alpha == pytest.approx(1 / 6, rel=EXACT)
    assert found.curvature == pytest.approx(3, rel=EXACT)


def test_no_curvature_allows_every_alpha():
    found = scalar(lambda p: -p, smoothness=0.0)
    assert (found.alpha, found.guaranteed) == (math.inf, True)


def test_an_estimate_that_meets_its_limit():
    found = scalar(lambda p: -p, limit=50.0)
    assert (found.alpha, found.guaranteed) == (50.0, False)


def test_kinks_count_as_curvature():
    """`|theta - 1|`: no curvature anywhere it exists, and yet a step of 2 is where the decrease ends."""
    found = scalar(lambda p: jnp.abs(p - 1))
    assert not found.guaranteed
    assert 1 < found.alpha <= 2
    assert found.curvature >= 1


def test_estimate_on_a_trait_that_is_no_quadratic(params, inputs):
    """The rate that the samples suggest does lower L_T, as does every rate below it."""
    student = Student(params, inputs, trait, 0.1)
    found = steps.step_sizes(squares(f, params, trait, inputs), epsilon=0.1)
    assert not found.guaranteed.guaranteed
    alpha = found.guaranteed.alpha
    assert all(student.falls(alpha * part) for part in np.linspace(0.01, 0.999, 30))
    assert student.falls(found.largest_alpha.lower * (1 - 1e-9))
    assert not student.falls(found.largest_alpha.upper * (1 + 1e-9))
    assert alpha < found.largest_alpha.upper


def test_nothing_can_be_guaranteed_on_the_orthogonal_branch(quadratic):
    """One logit under a softmax, fact 6."""
    found = steps.step_sizes(quadratic.with_loss("kl", [2]), smoothness=CURVATURE)
    assert found.guaranteed.alpha is None
    assert not found.guaranteed.guaranteed
    assert found.guaranteed.alignment == 0
    assert str(found).startswith("nothing can be guaranteed: d_S . d_T = 0")
    assert found.largest_alpha.lower is None, "no step, no decrease"
    assert found.largest_epsilon.statement == "d_S . d_T = 0"
    assert found.largest_epsilon.upper == math.inf


# Largest alpha and largest eps


def test_largest_alpha_on_a_quadratic(student, sizes):
    exact = 2 * student.alignment / (CURVATURE * student.square)
    found = sizes.largest_alpha
    assert found.lower < exact < found.upper
    assert found.upper <= found.lower * (1 + 1e-6)
    assert "up to alpha = " in str(found)


def test_largest_alpha_up_to_the_limit():
    """`-theta` falls without end."""
    found = steps.largest_alpha(squares(wave, THETA, lambda p: -p[0], X), limit=7.0)
    assert (found.lower, found.upper, found.limit) == (7.0, math.inf, 7.0)
    assert "up to the limit 7" in str(found)


def wave(params, x):
    """`sin(theta) x`: the alignment along d_T = 1 has the sign of `sin(theta + eps) - sin(theta)`."""
    return jnp.sin(params)[None] * x


THETA, X = np.array([0.3]), np.array([[1.0], [2.0]])


def search_eps(teacher_loss=lambda p: -p[0], imitation_loss="squared_error", **options):
    instance = Instance(wave, THETA, teacher_loss, X, imitation_loss=imitation_loss)
    return steps.largest_epsilon(instance, **options)


def test_largest_epsilon_where_it_is_known():
    found = search_eps(tolerance=1e-12)
    assert found.lower == pytest.approx(math.pi - 0.6, rel=1e-11)
    assert found.lower < found.upper <= found.lower * (1 + 1e-12)
    assert found.statement == "d_S . d_T > 0"
    # With a rate as well: L_T = (theta - .35)^2 has d_T = .1, and the first step that is too long comes sooner.
    both = search_eps(lambda p: (p[0] - 0.35) ** 2, alpha=1.0)
    mean = np.mean(X**2)

    def reach(epsilon):
        return 2 * mean * np.cos(0.3) * (np.sin(0.3 + 0.1 * epsilon) - np.sin(0.3))

    assert reach(both.lower) < 0.1 < reach(both.upper), "the step jumps across to the same height"
    assert "lowers L_T (alpha = 1)" in both.statement


def test_largest_epsilon_up_to_the_limit_and_not_even_the_smallest():
    linear = steps.largest_epsilon(squares(lambda p, x: p[None] * x, THETA, lambda p: -p[0], X), limit=1e3)
    assert (linear.lower, linear.upper) == (1e3, math.inf)
    # Negative control: a loss without its minimum at z = y.
    wrong = search_eps(lambda p: p[0], imitation_loss=offset_loss)
    assert wrong.lower is None
    assert wrong.upper == wrong.smallest == steps.SMALLEST_EPSILON
    assert "not even at epsilon = 1e-09" in str(wrong)


def test_step_sizes_side_by_side(sizes):
    found = sizes
    assert found.guaranteed.alpha == pytest.approx(found.largest_alpha.lower, rel=1e-5)
    assert found.largest_epsilon.lower > 0.1
    assert len(str(found).splitlines()) == 3


# ReLU: the polynomial and its certificate


def network(seed, widths=(3, 6, 5, 4, 2), batch=5):
    """Layers, a direction and inputs. No pre-activation is exactly 0."""
    random = np.random.default_rng(seed)

    def draw():
        return [
            (random.normal(size=(fan_in, width)) / math.sqrt(fan_in), 0.3 * random.normal(size=width))
            for fan_in, width in itertools.pairwise(widths)
        ]

    return draw(), draw(), random.normal(size=(batch, widths[0]))


def forward(layers, x):
    """Outputs and the activation pattern, in plain numpy."""
    pattern = []
    for kernel, bias in layers[:-1]:
        z = x @ kernel + bias
        pattern.append(z > 0)
        x = np.maximum(z, 0)
    return x @ layers[-1][0] + layers[-1][1], np.concatenate([p.ravel() for p in pattern])


def moved(layers, direction, epsilon):
    return [(k + epsilon * dk, b + epsilon * db) for (k, b), (dk, db) in zip(layers, direction, strict=True)]


def relu(layers, x):
    for kernel, bias in layers[:-1]:
        x = jax.nn.relu(x @ kernel + bias[None])
    return x @ layers[-1][0] + layers[-1][1][None]


@jax.jit
def mean_error(layers, x, labels, weights):
    return jnp.mean(jnp.sum(weights[None] * jnp.square(relu(layers, x) - labels), axis=-1))


student_gradient = jax.jit(jax.grad(mean_error))


def direct(layers, direction, x, epsilon, weights=1.0):
    """`d_S(eps) . d_T`, by JAX's gradient of the imitation loss."""
    labels, _ = forward(moved(layers, direction, epsilon), x)
    with jax.enable_x64(True):
        gradient = student_gradient(layers, x, labels, weights * np.ones(labels.shape[1]))
        return -sum(
            float(np.sum(g * d)) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
        )


def scanned_kink(layers, direction, x, high, points=4000):
    """The first change of the activation pattern on a dense grid, then bisected; infinite if there is none."""
    _, start = forward(layers, x)

    def changed(s):
        return (forward(moved(layers, direction, s), x)[1] != start).any()

    grid = np.linspace(0, high, points)
    first = next((index for index, s in enumerate(grid) if changed(s)), None)
    if first is None:
        return math.inf
    low, high = grid[first - 1], grid[first]
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if changed(middle) else (middle, high)
    return high


@pytest.mark.parametrize("seed", range(3))
def test_polynomial_is_the_students_update_up_to_the_kink(seed):
    layers, direction, x = network(seed)
    found = relu_certificate(layers, x, direction=direction)
    assert len(found.coefficients) == 5, "four layers: degree 4"
    assert found.coefficients[0] == 0
    assert found.first_kink == pytest.approx(scanned_kink(layers, direction, x, 2 * found.first_kink), rel=1e-9)
    for part in np.linspace(0.02, 0.999, 25):
        epsilon = part * found.first_kink
        assert found.alignment(epsilon) == pytest.approx(direct(layers, direction, x, epsilon), rel=EXACT)
    beyond = found.first_kink * np.array([3, 10, 30])
    value = np.polynomial.Polynomial(found.coefficients)(beyond)
    truth = np.array([direct(layers, direction, x, epsilon) for epsilon in beyond])
    assert np.all(np.abs(value / truth - 1) > 1e-6), "another function beyond it"
    with pytest.raises(ValueError, match="up to the first kink"):
        found.alignment(1.01 * found.first_kink)


def test_layers_units_and_inputs_of_the_kink():
    layers, direction, x = network(0)
    found = relu_certificate(layers, x, direction=direction)
    layer, unit, example = found.kink_at
    sign = []
    for epsilon in found.first_kink * np.array([1 - 1e-9, 1 + 1e-9]):
        h = x
        for index, (kernel, bias) in enumerate(moved(layers, direction, epsilon)):
            z = h @ kernel + bias
            if index == layer:
                sign.append(z[example, unit] > 0)
                break
            h = np.maximum(z, 0)
    assert sign[0] != sign[1]


def test_batches_weights_and_a_choice_of_logits():
    layers, direction, x = network(4)
    whole = relu_certificate(layers, x, direction=direction)
    parts = relu_certificate(layers, x, direction=direction, batch_size=2)
    assert (parts.first_kink, parts.kink_at) == (whole.first_kink, whole.kink_at)
    assert parts.coefficients == pytest.approx(whole.coefficients, rel=1e-13)
    one = relu_certificate(layers, x, direction=direction, logits=[1], weights=[3.0])
    epsilon = 0.5 * whole.first_kink
    assert one.alignment(epsilon) == pytest.approx(direct(layers, direction, x, epsilon, np.array([0, 3])), rel=EXACT)


def test_direction_of_a_teacher_loss():
    layers, _, x = network(5)

    def loss(theta):
        return jnp.mean(jnp.square(relu(theta, jnp.asarray(x[:2])) - 1)) + 0.1 * jnp.sum(theta[0][0] ** 3)

    found = relu_certificate(layers, x, teacher_loss=loss)
    with jax.enable_x64(True):
        d = jax.tree.map(lambda g: -np.asarray(g), jax.jit(jax.grad(loss))(jax.tree.map(jnp.asarray, layers)))
    again = relu_certificate(layers, x, direction=d)
    assert found.coefficients == pytest.approx(again.coefficients, rel=1e-12)
    assert found.first_kink == pytest.approx(again.first_kink, rel=1e-12)
    epsilon = 0.9 * found.first_kink
    assert found.alignment(epsilon) == pytest.approx(direct(layers, d, x, epsilon), rel=EXACT)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    hidden=st.lists(st.integers(1, 5), min_size=0, max_size=4),
    batch=st.integers(1, 4),
    size=st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_any_network(seed, hidden, batch, size):
    """Numpy alone: no kink below the first on a grid, a change just beyond it, and the sign that is certified."""
    layers, direction, x = network(seed, (2, *hidden, 2), batch)
    direction = [(size * dk, size * db) for dk, db in direction]
    found = relu_certificate(layers, x, direction=direction)
    high = min(found.first_kink, 1e3 / size)
    z, start = forward(layers, x) if hidden else (x @ layers[0][0] + layers[0][1], np.zeros(0))
    # J d_T from a step of complex size: exact, and of no shared code.
    h = x.astype(complex)
    for index, (kernel, bias) in enumerate(moved(layers, direction, 1e-30j)):
        h = h @ kernel + bias
        if index + 1 < len(layers):
            h = np.where(h.real > 0, h, 0)
    velocity = h.imag / 1e-30
    for epsilon in high * np.array([0.01, 0.3, 0.7, 0.99]):
        if hidden:
            y, pattern = forward(moved(layers, direction, epsilon), x)
            assert np.array_equal(pattern, start)
        else:
            ((kernel, bias),) = moved(layers, direction, epsilon)
            y = x @ kernel + bias
        truth = np.mean(np.sum(2 * (y - z) * velocity, axis=1))
        scale = np.mean(np.sum(2 * np.abs(y - z) * np.abs(velocity), axis=1))
        rounding = 1e-13 * np.abs(velocity).max() * np.abs(z).max()
        assert abs(found.alignment(epsilon) - truth) <= 1e-9 * scale + rounding
        if found.holds and any(found.coefficients):
            assert found.alignment(epsilon) >= found.margin * epsilon * found.coefficients[1] * (1 - 1e-12) > 0
    if math.isfinite(found.first_kink):
        _, beyond = forward(moved(layers, direction, found.first_kink * (1 + 1e-7)), x)
        assert not np.array_equal(beyond, start)


def one_unit(d_kernel, d_head):
    """`v relu(w x)` at v = w = x = 1: `J d_T = d_w + d_v`, and `y_2 = d_v d_w`."""
    layers = [(np.ones((1, 1)), np.zeros(1)), (np.ones((1, 1)), np.zeros(1))]
    direction = [(np.full((1, 1), d_kernel), np.zeros(1)), (np.full((1, 1), d_head), np.zeros(1))]
    return relu_certificate(layers, np.ones((1, 1)), direction=direction)


def test_a_sign_that_changes_before_any_kink():
    """`2 (1/2) (eps / 2 - eps**2 / 2)`: positive up to 1 exactly; no unit ever switches."""
    found = one_unit(1.0, -0.5)
    assert found.coefficients == (0.0, 0.5, -0.5)
    assert found.first_kink == math.inf
    assert found.kink_at is None
    assert found.certified_up_to == pytest.approx(1, rel=1e-15)
    assert not found.holds
    assert found.margin == 0
    assert "changes sign" in str(found)


def test_a_sign_certified_up_to_the_kink():
    """`2 (-1/2) (-eps / 2 - eps**2 / 2)`, and the unit dies at eps = 1."""
    found = one_unit(-1.0, 0.5)
    assert found.coefficients == (0.0, 0.5, 0.5)
    assert found.first_kink == found.certified_up_to == pytest.approx(1, rel=1e-15)
    assert found.kink_at == (0, 0, 0)
    assert (found.holds, found.margin) == (True, 1.0)
    assert str(found) == (
        "d_S . d_T > 0 for every eps in (0, 1), and at least 1 eps A: "
        "the first kink is at eps = 1 (hidden layer 0, unit 0, input 0)"
    )


def test_a_sign_certified_on_the_half_line():
    found = one_unit(1.0, 1.0)
    assert (found.certified_up_to, found.holds, found.margin) == (math.inf, True, 1.0)


def test_dead_units_are_exactly_orthogonal():
    layers = [(np.ones((1, 2)), np.full(2, -5.0)), (np.ones((2, 1)), np.zeros(1))]
    direction = [(np.ones((1, 2)), np.ones(2)), (np.ones((2, 1)), np.zeros(1))]
    found = relu_certificate(layers, np.ones((3, 1)), direction=direction)
    assert found.coefficients == (0.0, 0.0, 0.0)
    assert found.first_kink == pytest.approx(2)  # 1 - 5 + 2 eps
    assert (found.holds, found.margin) == (True, None)
    assert "exactly 0" in str(found)


def test_a_unit_at_its_kink_certifies_nothing_if_it_switches_on():
    layers, direction, _ = network(0)
    layers[0] = (layers[0][0], np.zeros(6))
    up, down = ([(direction[0][0], sign * np.ones(6)), *direction[1:]] for sign in (1, -1))
    found = relu_certificate(layers, np.zeros((1, 3)), direction=up)
    assert (found.first_kink, found.certified_up_to, found.holds) == (0.0, 0.0, False)
    assert str(found).startswith("nothing is certified")
    assert relu_certificate(layers, np.zeros((1, 3)), direction=down).first_kink > 0


@given(st.lists(st.floats(0.1, 5).map(lambda s: round(s, 1)), min_size=1, max_size=4, unique=True), st.booleans())
def test_sign_changes_of_a_polynomial_with_known_roots(roots, touching):
    """Every root where the sign changes and no other: a double root and complex pairs are none."""
    polynomial = np.polynomial.Polynomial.fromroots(roots) * np.polynomial.Polynomial([1, 1, 1])
    if touching:
        polynomial *= np.polynomial.Polynomial.fromroots([7, 7])
    found = _sign_changes(polynomial.coef, 6.0)
    assert found == pytest.approx(sorted(roots), rel=1e-8)
    assert _sign_changes(polynomial.coef, min(roots) / 2) == []


# Arguments and global state


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (steps.guaranteed_alpha, {"smoothness": -1}, "smoothness must be finite and not negative"),
        (steps.guaranteed_alpha, {"points": 1}, "points must be at least 2"),
        (steps.guaranteed_alpha, {"limit": 0}, "limit must be positive"),
        (steps.largest_alpha, {"epsilon": 0}, "epsilon must be positive"),
        (steps.largest_alpha, {"growth": 1}, "growth must be above 1"),
        (steps.largest_alpha, {"smallest": 2, "limit": 1}, "smallest must not exceed limit"),
        (steps.largest_epsilon, {"alpha": -1}, "alpha must be positive"),
        (steps.largest_epsilon, {"tolerance": 0}, "tolerance must lie"),
        (steps.step_sizes, {"epsilon": math.nan}, "epsilon must be positive"),
    ],
)
def test_wrong_options_are_named(quadratic, function, options, message):
    with pytest.raises(ValueError, match=message):
        function(quadratic, **options)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, x: relu_certificate(p, x), "either teacher_loss or direction"),
        (lambda p, x: relu_certificate(p, x[:, :2], direction=p), r"inputs must be finite, \[inputs >= 1, 3"),
        (lambda p, x: relu_certificate(p, x, direction=p, batch_size=0), "batch_size must be at least 1"),
        (lambda p, x: relu_certificate(p, x, direction=p[:1]), "direction must have the shapes"),
        (lambda p, x: relu_certificate([p[0], p[0]], x, direction=p), r"layers\[1\] must be"),
        (lambda p, x: relu_certificate([], x, direction=p), "layers has no layers"),
        (lambda p, x: relu_certificate({"a": 1}, x, direction=p), "layers must be a list"),
        (lambda p, x: relu_certificate(p, x, direction=p, logits=[5]), "logits .* not among the 3"),
        (lambda p, x: relu_certificate(p, x, direction=p, weights=[1.0]), "weights must be 3"),
        (lambda p, x: relu_certificate(p, x, direction=p, weights=[1, -1, 1]), "weights must be 3"),
        (lambda p, x: relu_certificate(p, x, teacher_loss=lambda p: p[0][1]), "must return a scalar"),
        (
            lambda p, x: relu_certificate(p, x, teacher_loss=lambda p: jnp.sqrt(0 * p[0][1][0])),
            "gradient of teacher_loss.* is not finite",
        ),
    ],
)
def test_wrong_arguments_are_named(params, inputs, call, message):
    with pytest.raises(ValueError, match=message):
        call(params, inputs)
    assert not jax.config.jax_enable_x64
    assert jnp.zeros(1).dtype == np.float32
