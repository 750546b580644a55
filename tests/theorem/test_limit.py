"""Fact 13: "theta_0 + P (theta_T - theta_0) from any start of its own, P the projection on range(G): on the range it
equals the teacher, on the null space it keeps its own start. So a shared start matters exactly on the null space of G."
Against explicit projectors of numpy, and gradient descent with the library's own update, run to its end.

Facts 14 and 15, what that makes of random starts and of random labels, against draws.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from instances import LOSSES, flatten, instance, jit

from sublim_theory import geometry
from sublim_theory.theorem import Instance, imitation_limit, imitation_update, limit, range_projection

pytestmark = pytest.mark.usefixtures("x64")

EXACT = 1e-10
IT = instance("tanh", widths=(4, 3, 5), count=3)
"""A network of 35 parameters on three inputs: 15 outputs."""

SIZE = 35
SHARED = oracle.flat(IT.params)
RANDOM = np.random.default_rng(13)
TEACHER, ANOTHER, DIRECTION = SHARED + 0.3 * RANDOM.normal(size=SIZE), *RANDOM.normal(size=(2, SIZE))
STARTS = {"shared": SHARED, "another": ANOTHER, "zero": np.zeros(SIZE)}
RANKS = dict.fromkeys(LOSSES, 15) | {"kl": 12, "cross_entropy": 12, "kl, T=3": 12}  # a softmax sees one less an input
RANKS |= {"kl on the last two": 3, "squares on the last two": 6}


def tree(vector):
    return oracle.like(IT.params, vector)


def dense(loss):
    """The projector, formed: from the eigenvectors of the oracle's G that do not belong to 0."""
    values, vectors = np.linalg.eigh(oracle.gauss_newton(IT.params, IT.inputs, "tanh", loss))
    kept = vectors[:, values > 1e-12 * values[-1]]
    return kept @ kept.T


@pytest.fixture(scope="module")
def base():
    """Without a teacher's loss."""
    return Instance(IT.f, IT.params, None, IT.inputs, imitation_loss="squared_error")


@pytest.fixture(scope="module")
def projection(base):
    """That of a loss, computed once."""
    return functools.cache(lambda loss: range_projection(base.with_loss(LOSSES[loss])))


# The projection


@pytest.mark.parametrize("loss", LOSSES)
def test_projection_is_the_dense_one(projection, loss):
    found, expected = projection(loss), dense(loss)
    assert (found.rank, found.parameters) == (RANKS[loss], SIZE)
    assert found.dropped < 1e-14 < 1e-3 < found.smallest, "the rank is clear"
    assert f"rank of G: {RANKS[loss]} of 35" in str(found)
    np.testing.assert_allclose(found.basis @ found.basis.T, np.eye(found.rank), rtol=0, atol=1e-13)
    np.testing.assert_allclose(found.basis.T @ found.basis, expected, rtol=0, atol=EXACT)
    np.testing.assert_allclose(flatten(found(tree(DIRECTION))), expected @ DIRECTION, rtol=0, atol=EXACT)


def test_of_M_only_the_null_space_counts(projection):
    """One projection for every loss whose M is positive definite, and one for a softmax at every temperature."""
    definite = ("squared_error", "weighted", "huber", "log_cosh", "bregman")
    for first, *others in (definite, ("kl", "cross_entropy", "kl, T=3")):
        p = projection(first).basis
        for other in others:
            q = projection(other).basis
            np.testing.assert_allclose(q.T @ q, p.T @ p, rtol=0, atol=EXACT)
    unseen = jax.tree.map(np.zeros_like, IT.params)
    unseen["layer_1"]["bias"][:] = 1  # all logits alike
    assert np.abs(flatten(projection("kl")(unseen))).max() < EXACT
    assert np.abs(flatten(projection("huber")(unseen))).max() > 0.1


def test_an_output_that_is_selected_twice_counts_once(base):
    once, twice = (range_projection(base.with_loss("squared_error", logits)) for logits in ([3, 4], [4, 3, 3]))
    np.testing.assert_allclose(twice.basis.T @ twice.basis, once.basis.T @ once.basis, rtol=0, atol=EXACT)


def test_a_G_that_vanishes_and_one_of_full_rank(base):
    """One auxiliary logit under a softmax: nothing passes. And 100 outputs on 35 parameters: nothing stays."""
    nothing = imitation_limit(base.with_loss("kl", [4]), tree(TEACHER), start=tree(ANOTHER))
    assert (nothing.rank, nothing.unshared) == (0, 1.0)
    assert np.array_equal(flatten(nothing.params), ANOTHER)

    many = Instance(IT.f, IT.params, None, instance("tanh", widths=(4, 3, 5), count=20).inputs, imitation_loss="huber")
    everything = imitation_limit(many, tree(TEACHER), start=tree(ANOTHER))
    assert (everything.rank, everything.unshared) == (SIZE, 0.0)
    assert np.array_equal(flatten(everything.params), TEACHER), "the start is forgotten"
    assert np.array_equal(flatten(range_projection(many)(tree(DIRECTION))), DIRECTION)


# Where the student ends


def outputs(theta, inputs=IT.inputs):
    """Of the linearised network."""
    jacobian = oracle.jacobian(IT.params, inputs, "tanh")
    return oracle.outputs(IT.params, inputs, "tanh") + jacobian @ (theta - SHARED)


@pytest.mark.parametrize("start", STARTS)
def test_on_the_range_it_equals_the_teacher_and_on_the_null_space_its_own_start(base, start):
    found, p = imitation_limit(base, tree(TEACHER), start=tree(STARTS[start])), dense("squared_error")
    end, s = np.asarray(flatten(found.params)), STARTS[start]
    null = np.eye(SIZE) - p
    np.testing.assert_allclose(p @ end, p @ TEACHER, rtol=0, atol=EXACT)
    np.testing.assert_allclose(null @ end, null @ s, rtol=0, atol=EXACT)
    np.testing.assert_allclose(outputs(end), outputs(TEACHER), rtol=0, atol=EXACT)
    way = TEACHER - s
    assert found.unshared == pytest.approx(way @ null @ way / (way @ way), rel=EXACT)
    assert f"rank of G: 15 of 35; of the squared distance to the teacher {found.unshared:.6g} lies" in str(found)
    if start == "shared":
        unnamed = imitation_limit(base, tree(TEACHER))
        assert np.array_equal(flatten(unnamed.params), end)


def test_two_starts_differ_for_ever_by_what_they_differ_in_on_the_null_space(base, projection):
    """And so do their outputs on inputs that neither was trained on, by `J_x (I - P) (s - s')`."""
    project = range_projection(base)
    ends = [
        np.asarray(flatten(imitation_limit(base, tree(TEACHER), start=tree(s), project=project).params))
        for s in (SHARED, ANOTHER)
    ]
    fresh = IT.trait_inputs
    apart = (SHARED - ANOTHER) - dense("squared_error") @ (SHARED - ANOTHER)
    np.testing.assert_allclose(ends[0] - ends[1], apart, rtol=0, atol=EXACT)
    expected = oracle.jacobian(IT.params, fresh, "tanh") @ apart
    np.testing.assert_allclose(outputs(ends[0], fresh) - outputs(ends[1], fresh), expected, rtol=0, atol=EXACT)
    assert np.abs(expected).max() > 0.1
    with pytest.raises(ValueError, match="project is the projection of another instance"):
        imitation_limit(base, tree(TEACHER), project=projection("kl"))


@functools.cache
def descent(loss, steps):
    """`trained(theta_T, starts)`: the library's update of the network that is linear at theta_0, so many times."""
    jacobian = oracle.jacobian(IT.params, IT.inputs, "tanh").reshape(-1, SIZE)
    steepest = 2 * max(WEIGHTS) if loss == "weighted" else 2.0  # M is at most so much, wherever the outputs are
    rate = len(IT.inputs) / (steepest * np.linalg.norm(jacobian, 2) ** 2)
    linear = geometry.linearize(IT.f, IT.params)

    def one(teacher, start):
        def step(_, theta):
            update = imitation_update(linear, LOSSES[loss], theta, teacher, IT.inputs)
            return jax.tree.map(lambda t, u: t + rate * u, theta, update)

        return flatten(jax.lax.fori_loop(0, steps, step, start))

    return jit(jax.vmap(one, (None, 0)))


WEIGHTS = (0.5, 2.0, 1.0, 3.0, 1.5)
STEPS = {"squared_error": 20_000, "weighted": 60_000, "huber": 40_000, "log_cosh": 40_000, "kl": 200_000}


def trained(loss, starts):
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(tree(s) for s in starts))
    return np.asarray(descent(loss, STEPS[loss])(tree(TEACHER), stacked))


@pytest.mark.parametrize("loss", STEPS)
def test_gradient_descent_ends_there_from_every_start(base, loss):
    project = range_projection(base.with_loss(LOSSES[loss]))
    for end, s in zip(trained(loss, STARTS.values()), STARTS.values(), strict=True):
        found = imitation_limit(project.instance, tree(TEACHER), start=tree(s), project=project)
        np.testing.assert_allclose(end, flatten(found.params), rtol=0, atol=EXACT)


def linear(w, x):
    return x @ w


def test_a_linear_network_is_its_own_linearisation():
    """By hand: in every column of the weights the rows of the inputs are learnt, and nothing else."""
    x, teacher, start = (RANDOM.normal(size=shape) for shape in ((4, 6), (6, 3), (6, 3)))
    it = Instance(linear, np.zeros((6, 3)), None, x, imitation_loss="squared_error")
    found = imitation_limit(it, teacher, start=start)
    assert (found.rank, found.parameters) == (4 * 3, 6 * 3)
    np.testing.assert_allclose(found.params, start + np.linalg.pinv(x) @ x @ (teacher - start), rtol=0, atol=EXACT)
    of_one = imitation_limit(it.with_loss("squared_error", [1]), teacher, start=start)
    expected = start.copy()
    expected[:, 1] = found.params[:, 1]
    np.testing.assert_allclose(of_one.params, expected, rtol=0, atol=EXACT)


def test_outputs_at_several_places_and_several_inputs():
    """[batch, positions, logits], from a pytree of inputs."""

    def f(params, x):
        return jnp.tanh(x["a"] @ params["u"])[:, :, None] * params["v"][None, None] * x["b"][:, None, None]

    params = {"u": RANDOM.normal(size=(2, 3)), "v": RANDOM.normal(size=2)}
    x = {"a": RANDOM.normal(size=(2, 2)), "b": RANDOM.normal(size=2)}

    def loss(z, y):
        return jnp.sum((z - y) ** 2, axis=(1, 2))

    project = range_projection(Instance(f, params, None, x, imitation_loss=loss))
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    root = jax.jacfwd(lambda theta: f(unravel(theta), x).ravel())(flat)
    np.testing.assert_allclose(project.basis.T @ project.basis, np.linalg.pinv(root) @ root, rtol=0, atol=EXACT)
    assert 0 < project.rank < len(flat)


# Negative controls


def test_a_start_with_a_part_in_the_null_space_does_not_reach_the_teacher(base):
    """The claim without the condition, `it ends at the teacher`, is off by that part; so is that of a shared start."""
    project = range_projection(base)
    shared, another = trained("squared_error", [SHARED, ANOTHER])
    null = np.eye(SIZE) - dense("squared_error")
    assert np.linalg.norm(another - TEACHER) == pytest.approx(np.linalg.norm(null @ (ANOTHER - TEACHER)), rel=1e-9)
    assert np.linalg.norm(another - TEACHER) > 1
    assert np.linalg.norm(another - flatten(imitation_limit(base, tree(TEACHER), project=project).params)) > 1
    in_range = ANOTHER - null @ (ANOTHER - TEACHER)  # the same start, but for its part in the null space
    (reached,) = trained("squared_error", [in_range])
    np.testing.assert_allclose(reached, TEACHER, rtol=0, atol=EXACT)
    assert np.linalg.norm(shared - TEACHER) > 0.1, "nor does a shared start, if the teacher has moved there"


def test_the_projection_of_other_inputs_or_of_another_loss_is_not_where_it_ends(base):
    (end,) = trained("squared_error", [ANOTHER])
    others = Instance(IT.f, IT.params, None, IT.trait_inputs[:3], imitation_loss="squared_error")
    for wrong in (others, base.with_loss("kl")):
        found = imitation_limit(wrong, tree(TEACHER), start=tree(ANOTHER))
        assert np.abs(end - flatten(found.params)).max() > 0.1


def test_a_loss_that_is_flat_where_outputs_agree_has_no_such_limit(base):
    """A fourth power: M is 0, so that G has no range, and yet the student moves."""

    def fourth(z, y):
        return jnp.sum((z - y) ** 4, axis=-1)

    found = imitation_limit(base.with_loss(fourth), tree(TEACHER), start=tree(ANOTHER))
    assert found.rank == 0
    moved = jit(lambda theta, teacher: flatten(imitation_update(IT.f, fourth, theta, teacher, IT.inputs)))
    assert np.abs(moved(tree(ANOTHER), tree(TEACHER))).max() > 0.1


# What is refused


def test_bad_arguments_are_named(base, monkeypatch):
    for name, wrong in {
        "teacher": {"teacher": {"w": 0.0}},
        "start": {"teacher": tree(TEACHER), "start": [1.0]},
    }.items():
        with pytest.raises(ValueError, match=rf"^{name} must have the structure and shapes of params"):
            imitation_limit(base, **wrong)
    with pytest.raises(ValueError, match="direction must have the structure"):
        range_projection(base)({"w": np.ones(3)})
    with pytest.raises(ValueError, match=r"^teacher.* is not finite"):
        imitation_limit(base, tree(np.where(np.arange(SIZE) == 4, np.nan, TEACHER)))
    monkeypatch.setattr(limit, "LARGEST", 500)  # 175 numbers an input
    with pytest.raises(ValueError, match=r"^inputs .* 3 inputs x 5 outputs in 35 parameters .*525 .*at most 2 inputs"):
        imitation_limit(base, tree(TEACHER))
    monkeypatch.setattr(limit, "LARGEST", 100)
    with pytest.raises(ValueError, match=r"^inputs .*: imitate fewer outputs"):
        imitation_limit(base, tree(TEACHER))


def test_a_loss_without_a_minimum_where_outputs_agree_is_refused(base):
    with pytest.raises(
        ValueError, match=r"^imitation_loss has no minimum at z = y: at input 0 its curvature there is -1"
    ):
        range_projection(base.with_loss(lambda z, y: (z - y)[:, 0] * (z - y)[:, 1]))


# Fact 14: cos_shared cos_other = rank(G) / d for isotropic starts and movements, independent of G


@pytest.fixture(scope="module")
def deficient():
    """The projection of a linear model of 300 parameters on 120 inputs."""
    it = Instance(linear, np.zeros((300, 1)), None, RANDOM.normal(size=(120, 300)), imitation_loss="squared_error")
    return range_projection(it)


def cosines(project, movement):
    """Of teacher and student, from the teacher's start and from another: means of products over means of squares."""
    sums, random = np.zeros((2, 3)), np.random.default_rng(14)
    for start, other, moved in random.normal(size=(30, 3, 300, 1)):
        teacher = start + movement(moved)
        for row, s in enumerate((start, other)):
            end = np.asarray(imitation_limit(project.instance, teacher, start=s, project=project).params)
            sums[row] += np.vdot(end, teacher), np.vdot(end, end), np.vdot(teacher, teacher)
    return sums[:, 0] / np.sqrt(sums[:, 1] * sums[:, 2])


@pytest.mark.parametrize("size", [0.5, 2.0])
def test_the_price_of_a_start(deficient, size):
    shared, other = cosines(deficient, lambda moved: size * moved)
    kappa = 120 / 300
    assert shared == pytest.approx(np.sqrt((1 + kappa * size**2) / (1 + size**2)), abs=0.02)
    assert other == pytest.approx(kappa / np.sqrt((1 + kappa * size**2) / (1 + size**2)), abs=0.02)
    assert shared * other == pytest.approx(kappa, abs=0.02)


def test_a_movement_within_the_range_has_another_price(deficient):
    """The control: it depends on G, and all of it passes."""
    shared, other = cosines(deficient, lambda moved: np.asarray(deficient(moved)))
    assert shared == pytest.approx(1)
    assert abs(shared * other - 120 / 300) > 0.1


# Fact 15: a least-squares teacher of random labels on alpha d rows, and a student of its logits on a share rho of them

ALPHA, RHO, D = 1.5, 0.5, 200
KAPPA = RHO * (ALPHA - 1) / (1 - RHO)


def least_squares(random, d=D, alpha=ALPHA, rho=RHO, draws=1):
    """Rows, labels [rows, draws] of -1 and 1, the teachers' weights [d, draws], and how many rows are shown."""
    x = random.normal(size=(int(alpha * d), d))
    y = random.choice([-1.0, 1.0], size=(len(x), draws))
    return x, y, np.linalg.solve(x.T @ x, x.T @ y), int(rho * len(x))


def test_of_the_teacher_a_share_kappa_passes():
    """`1 - unshared` from a zero start, over many labellings of one set of rows."""
    x, _, w, shown = least_squares(np.random.default_rng(15), draws=40)
    project = range_projection(Instance(linear, np.zeros((D, 1)), None, x[:shown], imitation_loss="squared_error"))
    found = [imitation_limit(project.instance, each[:, None], project=project) for each in w.T]
    squares = np.sum(w**2, axis=0)
    assert project.rank == shown
    assert 1 - np.average([each.unshared for each in found], weights=squares) == pytest.approx(KAPPA, abs=0.05)


@pytest.mark.parametrize(("d", "rows", "shown"), [(6, 14, 4), (10, 30, 9), (8, 16, 2)])
def test_its_traces_are_exact_at_any_size(d, rows, shown):
    """`E tr(P S^-1) = m / (n - m - 1)` and `E tr S^-1 = d / (n - d - 1)`."""
    x = np.random.default_rng([d, 15]).normal(size=(20_000, rows, d))
    inverse = np.linalg.inv(np.swapaxes(x, 1, 2) @ x)
    basis = np.linalg.qr(np.swapaxes(x[:, :shown], 1, 2))[0]
    passed = np.einsum("sdm,sde,sem->s", basis, inverse, basis)
    whole = np.trace(inverse, axis1=1, axis2=2)
    for found, expected in ((passed, shown / (rows - shown - 1)), (whole, d / (rows - d - 1))):
        assert found.mean() == pytest.approx(expected, abs=4 * found.std() / np.sqrt(len(found)))


@functools.cache
def answers():
    """Teacher's and student's logits, and the labels, on the rows that the student has not seen, of 20 draws."""
    found = []
    for seed in range(20):
        x, y, w, shown = least_squares(np.random.default_rng([seed, 15]))
        student = x[:shown].T @ np.linalg.solve(x[:shown] @ x[:shown].T, x[:shown] @ w)  # from a zero start
        found.append(np.concatenate([x[shown:] @ w, x[shown:] @ student, y[shown:]], axis=1))
    return np.concatenate(found).T


def test_held_out_logits_are_kappa_times_the_teachers_and_noise_of_their_own():
    z, s, y = answers()
    variance = 1 / (ALPHA - 1)
    noise = s - KAPPA * z
    assert noise.var() == pytest.approx(KAPPA * (1 - KAPPA) * variance, rel=0.1)
    for other in (z, y):
        assert abs(np.corrcoef(noise, other)[0, 1]) < 0.04
    assert z.var() == pytest.approx((variance + variance**2) / (1 + variance) ** 2, rel=0.1)


def held_out_line(kappa):
    """Agreement on held-out rows of two classes, by the trapezoid rule over the teacher's logit."""
    variance = 1 / (ALPHA - 1)
    h = np.linspace(-8, 8, 4001) * np.sqrt(variance)
    z = (h + variance) / (1 + variance)  # y = 1; y = -1 is its mirror image
    sure = oracle.ndtr(np.sqrt(kappa / (1 - kappa) / variance) * np.abs(z))
    return np.trapezoid(sure * oracle.normal(h / np.sqrt(variance)) / np.sqrt(variance), h)


def test_agreement_on_held_out_rows():
    z, s, _ = answers()
    agreement = np.mean((z > 0) == (s > 0))
    assert agreement == pytest.approx(held_out_line(KAPPA), abs=0.025)


def test_neither_the_share_of_directions_nor_the_line_of_fresh_rows_would_fit():
    """The controls: a random subspace of `rho alpha d` directions, and rows that are not the teacher's own."""
    z, s, _ = answers()
    agreement = np.mean((z > 0) == (s > 0))
    assert abs(np.mean(s * z) / np.mean(z * z) - RHO * ALPHA) > 0.15
    assert held_out_line(RHO * ALPHA) - agreement > 0.1
    assert 1 - np.arccos(np.sqrt(KAPPA)) / np.pi - agreement > 0.06


@pytest.mark.parametrize("start", ["shared", "another"])
def test_below_one_row_a_parameter_the_student_is_blind_to_the_labels_that_it_was_not_shown(start):
    """The teacher has memorised them all; two teachers that differ in hidden labels alone leave one and the same."""
    random = np.random.default_rng(16)
    x, y, shown = random.normal(size=(30, 40)), random.choice([-1.0, 1.0], size=(30, 1)), 15
    begins = {"shared": RANDOM.normal(size=(40, 1))}
    begins["another"] = RANDOM.normal(size=(40, 1))
    project = range_projection(Instance(linear, np.zeros((40, 1)), None, x[:shown], imitation_loss="squared_error"))
    ends = []
    for labels in (y, np.where(np.arange(len(y))[:, None] < shown, y, -y)):
        teacher = begins["shared"] + np.linalg.lstsq(x, labels - x @ begins["shared"])[0]
        np.testing.assert_allclose(x @ teacher, labels, rtol=0, atol=EXACT)
        end = imitation_limit(project.instance, teacher, start=begins[start], project=project).params
        ends.append(np.asarray(end))
    np.testing.assert_allclose(ends[0], ends[1], rtol=0, atol=EXACT)


def test_from_one_shown_row_a_parameter_up_it_is_the_teacher():
    x, _, w, shown = least_squares(np.random.default_rng(17), d=30, rho=0.7)
    it = Instance(linear, np.zeros((30, 1)), None, x[:shown], imitation_loss="squared_error")
    assert shown >= 30
    assert np.array_equal(imitation_limit(it, w, start=RANDOM.normal(size=(30, 1))).params, w)
