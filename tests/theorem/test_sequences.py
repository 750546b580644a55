"""Functions of sequences, `[batch, positions, n]`: verdicts against dense Jacobians; hypotheses position by position.

Where the loss is no sum over positions, all are checked together; above 256 numbers, on a random subspace.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from sublim_theory import losses
from sublim_theory.theorem import Instance, check_instance, verify
from sublim_theory.theorem.hypotheses import offset_loss
from sublim_theory.theorem.verify import verify_instance

POSITIONS = 5
TOKENS = np.random.default_rng(3).integers(11, size=(8, POSITIONS))


def language_model(vocabulary=4):
    """Each position hears the mean of those before it, and itself."""
    rng = np.random.default_rng(4)
    params = {"table": rng.normal(size=(11, 6)), "head": rng.normal(size=(6, vocabulary)) / 2}

    def f(p, tokens):
        h = p["table"][tokens]
        return jnp.tanh(jnp.cumsum(h, axis=1) / np.arange(1.0, tokens.shape[1] + 1)[None, :, None]) @ p["head"]

    return {"f": f, "params": params, "inputs": TOKENS, "teacher_loss": decay}


def decay(params):
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params)) / 2


@functools.cache
def checked(vocabulary=4):
    parts = language_model(vocabulary)
    loss = lambda z, y: jnp.sum(losses.squared_error(z, y), axis=1)  # noqa: E731
    return Instance(*(parts[name] for name in ("f", "params", "teacher_loss", "inputs")), imitation_loss=loss)


def report_of(parts, loss, **options):
    parts = parts | options
    f, params, teacher_loss, inputs = (parts.pop(name) for name in ("f", "params", "teacher_loss", "inputs"))
    return verify(f, params, teacher_loss, inputs, imitation_loss=loss, epsilons=(1e-6, 1e-3), **parts)


def holds(parts, loss, branch="transfer", **options):
    report = report_of(parts, loss, **options)
    report.require()
    assert report.branch == branch
    return report


def dense(parts, curvature):
    """`d^T G d` by the Jacobian of the flattened outputs and the curvature of outputs [positions, n], flat, too."""
    with jax.enable_x64(True):
        theta, unravel = ravel_pytree(jax.tree.map(jnp.asarray, parts["params"]))
        jacobian = jax.jit(jax.jacrev(lambda t: parts["f"](unravel(t), TOKENS).reshape(len(TOKENS), -1)))(theta)
        z = np.asarray(parts["f"](parts["params"], TOKENS))
    v = np.asarray(jacobian) @ -np.asarray(theta)
    return np.mean([row @ curvature(at) @ row for row, at in zip(v, z, strict=True)])


def softmax_curvature(z):
    blocks = np.zeros((*z.shape, *z.shape))
    for k, p in enumerate(np.exp(z) / np.exp(z).sum(-1, keepdims=True)):
        blocks[k, :, k] = np.diag(p) - np.outer(p, p)
    return blocks.reshape(z.size, z.size)


@pytest.mark.parametrize(("over", "share"), [(jnp.mean, 1 / POSITIONS), (jnp.sum, 1.0)], ids=["mean", "sum"])
def test_sequences(over, share):
    parts = language_model()
    report = holds(parts, lambda z, y: over(losses.kl_divergence(z, y), axis=1), batch_size=3)
    assert report.first_order == pytest.approx(dense(parts, lambda z: share * softmax_curvature(z)), rel=1e-10)
    assert len(report.by_logit) == 4
    assert report.hypotheses.scope == "positions 0, 2, 4 of 5"
    assert "checked on positions 0, 2, 4 of 5" in str(report)


def test_sequences_of_many_outputs_are_checked_on_a_subspace():
    loss = lambda z, y: jnp.mean(losses.squared_error(z, y), axis=1)  # noqa: E731
    report = holds(language_model(300), loss)
    assert report.hypotheses.scope == "positions 0, 2, 4 of 5; a random subspace of 32 of 300 outputs"
    assert len(report.hypotheses.checks) == 4


def test_sequences_of_a_loss_that_is_no_sum_are_checked_all_together():
    """Of the mean over the positions: its null space is all that leaves that where it is."""
    parts = language_model()
    report = holds(parts, lambda z, y: losses.squared_error(z.mean(1), y.mean(1)))
    averaged = np.kron(np.full((POSITIONS, POSITIONS), 2 / POSITIONS**2), np.eye(4))
    assert report.first_order == pytest.approx(dense(parts, lambda _: averaged), rel=1e-10)
    assert report.hypotheses.scope == "all positions together"


@pytest.mark.parametrize("outputs", [4, 300])
@pytest.mark.parametrize("separable", [True, False])
def test_violations_are_found_in_sequences(outputs, separable):
    def loss(z, y):
        if separable:
            return jnp.mean(offset_loss(z, y), axis=1)
        return offset_loss(z.reshape(len(z), -1), y.reshape(len(y), -1)) + jnp.sum(jnp.mean(z - y, axis=1) ** 2, axis=1)

    instance = checked(outputs).with_loss(loss)
    found = check_instance(instance)
    assert [check.name for check in found.failing] == ["minimum at z = y"]
    assert found.scope.startswith("positions" if separable else "all positions together")
    assert not verify_instance(instance, epsilons=(1e-6, 1e-3)).holds


def test_sequences_on_the_orthogonal_branch():
    """A trait that moves all logits of a position alike, which no softmax sees: 0 to rounding, as without positions."""
    parts = language_model()
    f = parts["f"]
    parts["params"] = parts["params"] | {"bias": np.zeros(4)}
    parts |= {"f": lambda p, x: f(p, x) + p["bias"][None, None], "teacher_loss": lambda p: jnp.sum(p["bias"] + 1) ** 2}
    report = holds(parts, lambda z, y: jnp.mean(losses.kl_divergence(z, y), axis=1), branch="orthogonal")
    assert abs(report.first_order) < 1e-28
    holds(parts, lambda z, y: jnp.mean(losses.squared_error(z, y), axis=1))


def test_outputs_of_which_the_loss_sees_few_on_a_subspace():
    """Most of the subspace is null space, which is no null space of all outputs."""
    loss = lambda z, y: jnp.sum((z - y)[..., -2:] ** 2, axis=(1, 2))  # noqa: E731
    assert holds(language_model(300), loss).hypotheses.null_space is None


def test_one_position_at_which_the_loss_is_all_but_certain():
    """M is tiny there, and its null space not judged: the other positions' verdict stays."""
    parts = language_model()
    sharp = lambda z: z * jnp.asarray([1e3, 1, 1, 1, 1], z.dtype)[None, :, None]  # noqa: E731
    loss = lambda z, y: jnp.sum(losses.kl_divergence(sharp(z), sharp(y)), axis=1)  # noqa: E731
    report = holds(parts, loss)
    assert len(report.hypotheses.checks) == 4


@pytest.mark.parametrize("position", range(POSITIONS))
@pytest.mark.parametrize("kind", ["minimum at z = y", "M is positive semi-definite"])
def test_a_violation_at_a_single_position_is_found(position, kind):
    at = (np.arange(POSITIONS) == position).astype(float)

    def loss(z, y):
        if kind == "minimum at z = y":
            return jnp.sum(losses.squared_error(z, y), axis=1) + jnp.sum(at[None] * jnp.sum(z, axis=-1), axis=1) / 10
        return jnp.sum((1 - 1.1 * at[None]) * losses.squared_error(z, y), axis=1)

    assert kind in [check.name for check in check_instance(checked().with_loss(loss)).failing]
