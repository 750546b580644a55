"""The init-mismatch law at one instance, and students from perturbed initialisations beside it: for `mismatch`."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from sublim_theory import trees
from sublim_theory.protocols import Params
from sublim_theory.theorem.alignment import first_order
from sublim_theory.theorem.arguments import require_count, require_positive
from sublim_theory.theorem.problem import Problem, in_float64
from sublim_theory.theorem.updates import mean_over_inputs, teacher_update

CHUNK = 2**22
"""Numbers (parameters, inputs and outputs) that perturbations computed at one time may hold: 32 MB in float64, of
which a network's activations need several copies."""


class Measured(NamedTuple):
    """A probability measured over random perturbations.

    Attributes:
        probability: the fraction of perturbations with `d_S . d_T > 0`.
        standard_error: its binomial standard error, `sqrt(p (1 - p) / perturbations)` at the measured p.
        nonlinearity: root mean square of what the alignment has beyond `eps A - (G d_T) . delta`, in units of its
            standard deviation `sigma |G d_T|`. The law is its limit 0; above some hundredths, take a smaller epsilon.
    """

    probability: float
    standard_error: float
    nonlinearity: float


class Law(NamedTuple):
    """What the first-order law says of one problem at one eps: `d_T`, `G d_T`, A, `|G d_T|` and sigma*."""

    epsilon: float
    d_teacher: Params
    product: Params
    coefficient: float
    size: float
    sigma_star: float


class Draws(NamedTuple):
    """The perturbations of one sigma: how many, their seed, how many at a time."""

    perturbations: int
    seed: int
    chunk_size: int | None


def checked_draws(perturbations: int, seed: int, chunk_size: int | None) -> Draws:
    """The perturbations of one sigma.

    Raises:
        ValueError: naming the argument that is wrong.
    """
    chunk_size = None if chunk_size is None else require_count("chunk_size", chunk_size)
    return Draws(require_count("perturbations", perturbations), seed, chunk_size)


def first_order_law(problem: Problem, epsilon: float) -> Law:
    """The law of a problem.

    Raises:
        ValueError: naming the argument that is wrong; also where `G d_T` is exactly 0 (the orthogonal branch).
    """
    epsilon = require_positive("epsilon", epsilon)

    def parts(theta: Params, inputs: Any) -> tuple[Params, Params, jax.Array, jax.Array]:
        d_teacher = teacher_update(problem.teacher_loss, theta)
        first = first_order(problem.f, theta, d_teacher, inputs, problem.imitation_loss, batch_size=problem.batch_size)
        return d_teacher, first.product, first.coefficient, trees.norm(first.product)

    with in_float64():
        d_teacher, product, *scalars = jax.jit(parts)(problem.params, problem.inputs)
        coefficient, size = (float(scalar) for scalar in scalars)
    if not (math.isfinite(coefficient) and math.isfinite(size)):
        raise ValueError("the gradient of teacher_loss, or G times it, is not finite at params")
    if size == 0:
        raise ValueError(
            "G d_T is exactly 0 (the orthogonal branch): the student's inputs and imitation_loss do not see the "
            "gradient of teacher_loss, so there is no sigma*"
        )
    if coefficient <= 0:
        raise ValueError(
            f"imitation_loss gives A = d_T^T G d_T = {coefficient:.3g}, which is not positive, so it fails the "
            "hypotheses of the theorem and the law does not speak of it; see check_loss"
        )
    return Law(epsilon, d_teacher, product, coefficient, size, epsilon * coefficient / size)


def measure(problem: Problem, law: Law, draws: Draws, sigmas: Sequence[float]) -> list[Measured]:
    """What was measured at each sigma: one program, called once a sigma."""
    chunk_size = (
        _chunk_size(problem, draws.perturbations)
        if draws.chunk_size is None
        else min(draws.chunk_size, draws.perturbations)
    )
    program = jax.jit(lambda *arguments: _alignments(problem, draws.perturbations, chunk_size, *arguments))
    results = []
    with in_float64():
        key = jax.random.key(draws.seed, impl="threefry2x32")
        for i, sigma in enumerate(sigmas):
            exact, linear = map(
                np.asarray, program(jax.random.fold_in(key, i), sigma, problem.params, law, problem.inputs)
            )
            if not np.isfinite(exact).all():
                raise ValueError(
                    f"the student's update is not finite at sigma = {sigma:g}; take a smaller epsilon or sigma"
                )
            share = float(np.mean(exact > 0))
            beyond = float(np.sqrt(np.mean(np.square(exact - linear)))) / (sigma * law.size)
            results.append(Measured(share, binomial_error(share, draws.perturbations), beyond))
    return results


def _alignments(
    problem: Problem,
    perturbations: int,
    chunk_size: int,
    key: jax.Array,
    sigma: jax.Array,
    theta: Params,
    law: Law,
    inputs: Any,
) -> tuple[jax.Array, jax.Array]:
    """`d_S . d_T` of each perturbed student and its first-order form, [perturbations] each; a chunk at a time."""
    center, unflatten = ravel_pytree(theta)
    response, _ = ravel_pytree(law.product)
    teacher = trees.axpy(law.epsilon, law.d_teacher, theta)

    def one(index: jax.Array) -> tuple[jax.Array, jax.Array]:
        delta = sigma * jax.random.normal(jax.random.fold_in(key, index), center.shape, center.dtype)
        student = unflatten(center + delta)

        def total(x: Any) -> jax.Array:
            labels = problem.f(teacher, x)

            def loss(theta: Params) -> jax.Array:
                return jnp.sum(problem.imitation_loss(problem.f(theta, x), labels))

            # The inner product of the gradient with d_T is the derivative along d_T: one forward pass, no gradient.
            return -jax.jvp(loss, (student,), (law.d_teacher,))[1]

        alignment = mean_over_inputs(total, inputs, problem.batch_size)
        return alignment, law.epsilon * law.coefficient - trees.dot(response, delta)

    chunks = -(-perturbations // chunk_size)
    indices = jnp.arange(chunks * chunk_size).reshape(chunks, chunk_size)
    exact, linear = jax.lax.map(jax.vmap(one), indices)
    return exact.reshape(-1)[:perturbations], linear.reshape(-1)[:perturbations]


def _chunk_size(problem: Problem, perturbations: int) -> int:
    """As many perturbations as hold `CHUNK` numbers, evened out over the chunks."""
    count = len(jax.tree.leaves(problem.inputs)[0])
    together = count if problem.batch_size is None else min(problem.batch_size, count)
    row = sum(x[0].size for x in jax.tree.leaves(problem.inputs)) + problem.outputs.shape[1]
    held = sum(leaf.size for leaf in jax.tree.leaves(problem.params)) + together * row
    chunks = -(-perturbations // max(1, CHUNK // held))
    return -(-perturbations // chunks)


def binomial_error(probability: float, count: int) -> float:
    """Standard error of a fraction of `count` draws."""
    return math.sqrt(probability * (1 - probability) / count)
