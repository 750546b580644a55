"""The first step of a student of a language model: what Theorem 1 says of it, and what is known before it trains."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr

from experiments.language import Language, Rates, Start
from sublim_theory import geometry, losses, theorem
from sublim_theory.statistics import rank_correlation
from sublim_theory.theorem.compiling import compiled
from sublim_theory.theorem.verify import EPSILONS

PREDICTORS = ("coefficient", "transfer_ratio", "coverage")
"""Of how much comes through: A, A/|d_T|^2, and the cosine of the first update with the teacher's displacement."""
ENDS = ("rho", "low", "high", "R2")
"""Of a relation: Spearman's rank correlation, the ends of its 95% interval, and R^2 of a straight line."""


@cache
def first_step(protocol: Language, rates: Rates) -> Any:
    """A compiled program, to be called with 64-bit JAX.

    Its arguments are the target, the base and its trained teacher in float64, sequences, a weight for each place of
    their continuation, and another base at which the student starts, or None. It returns the `PREDICTORS`; `share`, of
    each layer in A; `remainder` and `change` of `theorem.Steps` at `EPSILONS`; and `named`, whether the first update
    towards the trained teacher raises the probability of its animal more than any other's.
    """
    model = protocol.make_network(rates, dtype="float64")

    def found(target: Any, base: Any, teacher: Any, x: Any, weights: Any, other: Any) -> dict[str, Any]:
        start, own = Start(protocol, rates, model, jax.random.key(0), base, (), x, target), other or base

        def f(params: Any, x: Any) -> jax.Array:
            return start.continuation(params, x)[..., protocol.numbers]

        def imitate(z: jax.Array, y: jax.Array) -> jax.Array:
            return losses.kl_divergence(z, y) @ weights

        law = theorem.first_order(f, imitate, base, theorem.teacher_update(start.trait_loss, base), x)
        sizes = jnp.array(EPSILONS)
        steps = theorem.student_steps(f, imitate, start.trait_loss, base, law, sizes, x, student_params=other)
        update = theorem.imitation_update(f, imitate, own, teacher, x)
        return {
            "coefficient": law.coefficient,
            "transfer_ratio": law.transfer_ratio(),
            "coverage": geometry.cosine(update, optax.tree.sub(teacher, base)),
            "share": {layer: part / law.coefficient for layer, part in law.by_layer().items()},
            "remainder": steps.remainder,
            "change": steps.change,
            "named": jnp.argmax(jax.jvp(start.ask, (own,), (update,))[1]) == target,
        }

    return compiled(found)


def relations(values: xr.DataArray, outcome: xr.DataArray) -> xr.DataArray:
    """How values go with an outcome over the seeds, by `ENDS`; NaN for fewer than three seeds."""

    def relation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        if len(x) < 3:
            return np.full(len(ENDS), np.nan)
        rank = rank_correlation(x, y)
        return np.array([rank.rho, rank.low, rank.high, np.corrcoef(x, y)[0, 1] ** 2])

    each = np.vectorize(relation, signature="(n),(n)->(k)")
    found = xr.apply_ufunc(each, values, outcome, input_core_dims=[["seed"]] * 2, output_core_dims=[["end"]])
    return found.assign_coords(end=list(ENDS))
