"""The linearised network against dense matrices in float64; the experiment against a loop by hand and figure 10."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from jax.flatten_util import ravel_pytree

from experiments import linearised as experiment
from experiments.distillation import begin
from sublim_theory import data, losses, networks, training
from sublim_theory.optimizers import optimizer
from sublim_theory.training import Schedule, Student

RATE, STEPS = 0.05, 40


@pytest.mark.parametrize("loss", [losses.squared_error, losses.kl_divergence])
def test_it_is_the_recursion_with_the_dense_jacobian_for_any_labels_and_loss(loss):
    """Gradient descent on all inputs at once, in float64; the real student takes another path."""
    with jax.enable_x64(True):
        net = networks.mlp(4, (5, 3), 3, 2, "tanh", dtype="float64")
        reference, away = map(jax.jit(net.init), jax.random.split(jax.random.key(0)))
        teacher = jax.tree.map(lambda a, b: a + 0.5 * b, reference, away)
        x = jax.random.normal(jax.random.key(1), (7, 4), jnp.float64)
        start, unravel = ravel_pytree(reference)
        jacobian = np.asarray(jax.jit(jax.jacfwd(lambda flat: net.apply(unravel(flat), x)))(start))
        labels, at_start, moved = net.apply(teacher, x), net.apply(reference, x), np.zeros(len(start))
        gradient = jax.jit(jax.grad(lambda z: jnp.sum(loss(z, labels))))
        for _ in range(STEPS):
            moved -= RATE * np.einsum("nkp,nk->p", jacobian, gradient(at_start + jacobian @ moved)) / len(x)
        linear = experiment.linearised(net, reference)
        batches = Schedule(jnp.tile(jnp.arange(len(x), dtype=jnp.int32), (STEPS, 1)), jnp.ones((STEPS, len(x))))
        students = {name: Student(reference, loss, net=own) for name, own in {"linear": linear, "real": net}.items()}
        fit = jax.jit(lambda teacher: training.distil(net, teacher, students, x, optimizer("sgd", RATE), batches))
        found = {name: ravel_pytree(params)[0] - start for name, params in fit(teacher).params.items()}
        np.testing.assert_allclose(found["linear"], moved, rtol=0, atol=1e-13)
        assert np.linalg.norm(found["real"] - moved) > 1e-2 * np.linalg.norm(moved)
        # Its hidden layers are linear too, and begin at the real ones.
        halfway = jax.tree.map(lambda a, b: (a + b) / 2, reference, teacher)
        found = [*(linear.hidden(at, x) for at in (teacher, halfway)), net.hidden(reference, x)]
        for at_end, middle, real in zip(*found, strict=True):
            np.testing.assert_allclose(at_end - real, 2 * (middle - real), rtol=1e-10, atol=1e-12)


SETTINGS = small.settings("linearised")


@pytest.fixture(scope="module")
def record(recorded):
    return recorded("linearised", SETTINGS)


def test_the_experiment_is_the_recursion_written_out(record):
    """Full batch, width 16, seed 0, by a loop over vjps of the real network that uses no linearised network."""
    digits, protocol, rates = data.load("digits"), SETTINGS.protocol, SETTINGS.rates
    split = protocol.select(digits)
    net = protocol.make_network(rates, split, hidden=(16,))
    imitate = losses.on_logits(losses.kl_divergence, net.auxiliary)

    @jax.jit
    def train(split):
        start = begin(protocol, rates, split, jnp.int32(0), net=net)
        x, theta0, teacher = start.images[:40], start.reference, start.teacher.params
        z0, vjp = jax.vjp(lambda params: net.apply(params, x), theta0)
        _, jvp = jax.linearize(lambda params: net.apply(params, x), theta0)
        labels = {
            "linearised": net.apply(teacher, x),
            "first_order": z0 + jvp(jax.tree.map(jnp.subtract, teacher, theta0)),
        }
        found = {}
        for name, y in labels.items():
            gradient = jax.grad(lambda z, y=y: jnp.mean(imitate(z, y)))

            def step(_, moved, gradient=gradient):
                return jax.tree.map(lambda a, g: a - 10 / 16 * g, moved, *vjp(gradient(z0 + jvp(moved))))

            moved = jax.lax.fori_loop(0, protocol.full_batch_steps, step, jax.tree.map(jnp.zeros_like, theta0))
            size = jnp.linalg.norm(ravel_pytree(moved)[0]) / jnp.linalg.norm(ravel_pytree(theta0)[0])
            at_test, change = jax.jvp(lambda params: net.apply(params, split.test_x), (theta0,), (moved,))
            found[name] = size, jnp.argmax((at_test + change)[:, :10], axis=-1)
        return found

    moved = record.table["displacement_size"].sel(width=16, rule="full_batch")[:, 0]
    for name, (size, classes) in train(split).items():
        assert float(moved.sel(model=name)) == pytest.approx(float(size), rel=1e-4)
        accuracy = np.mean(np.asarray(classes) == digits.test_y)
        assert record.conditions[f"16/full_batch/{name}"].values[0] == pytest.approx(accuracy, abs=1.5 / 360)
    sizes = moved.values.tolist()
    assert len(sizes) == len(experiment.MODELS)
    assert min(abs(a - b) for a, b in itertools.combinations(sizes, 2)) > 1e-3 * max(sizes)  # three different students


def test_errors_cosines_and_sizes_are_of_the_same_triangle(record):
    for width, rule, model in itertools.product((8, 16), experiment.RULES, experiment.PREDICTIONS):
        here = record.table.sel(width=width, rule=rule)
        size = here["displacement_size"]
        ratio = size.sel(model=model).values / size.sel(model="real").values
        cosine, error = (here[f"displacement_{what}"].sel(model=model).values for what in ("cosine", "error"))
        np.testing.assert_allclose(error**2, 1 + ratio**2 - 2 * ratio * cosine, atol=1e-4)
        assert ((cosine > 0.5) & (cosine < 1)).all(), (width, rule, model)  # the rates are small here
