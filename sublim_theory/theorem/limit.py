"""Where the linearised student ends, from any start: facts 13 to 15 of docs/theorem.md.

Student and teacher are linearised at one point, the parameters of the instance, and the student imitates the teacher's
outputs on the inputs by gradient descent, or flow, in full batches, until it is done. From a start s of its own it ends
at

    s + P (theta_T - s),     P the orthogonal projection on the range of G.

On the range of G it equals the teacher, wherever it started; on the null space it keeps its own start, whoever the
teacher. So a shared start matters exactly on the null space of G, and not at all where G has full rank.

This holds for an imitation loss that is convex in the outputs and has its minima where outputs and labels differ by a
vector of the null space of M, as `squared_error`, `huber`, `kl` and `cross_entropy` are. With a positive definite M
(squared error with positive weights, Huber, log-cosh) P is the projection on the rows of the Jacobian; a softmax does
not see what moves all its logits alike. Of M only the null space counts, so that P is the same at every temperature.
The step must be small enough to converge; Adam leaves the range of G.

P comes from a singular value decomposition of a dense matrix, in float64, whatever the caller's setting.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from sublim_theory import geometry
from sublim_theory._types import Params
from sublim_theory.theorem.compiling import compiled, in_float64
from sublim_theory.theorem.instance import Instance, like_params

RANK_TOLERANCE = 1e-10
"""Singular values up to this share of the largest count as 0; so do eigenvalues of M, of the largest at their input."""

LARGEST = 2**25
"""Numbers that the Jacobian may hold: 256 MB, of which the decomposition needs a few copies."""


@dataclass(frozen=True, eq=False)
class RangeProjection:
    """The orthogonal projection P on the range of G, a function of a direction.

    Attributes:
        rank: of G, which is that of P.
        parameters: order of G.
        smallest: the smallest singular value that counts, over the largest; 1 where none does.
        dropped: the largest that does not; 0 where all do. Unless it is far below `smallest`, the rank is a matter of
            `RANK_TOLERANCE`.
        instance: whose G it is.
        basis: [rank, parameters], orthonormal rows that span the range.
    """

    rank: int
    parameters: int
    smallest: float
    dropped: float
    instance: Instance = field(repr=False)
    basis: np.ndarray = field(repr=False)

    def __call__(self, direction: Params) -> Params:
        """`P v`, a pytree in float64; v itself where G has full rank."""
        with in_float64():
            vector, unravel = ravel_pytree(like_params("direction", direction, self.instance.params))
            return unravel(jnp.asarray(self._apply(np.asarray(vector))))

    def _apply(self, vector: np.ndarray) -> np.ndarray:
        return vector if self.rank == self.parameters else (self.basis @ vector) @ self.basis

    def __str__(self) -> str:
        """The rank, and how clear it is."""
        clear = f"singular values down to {self.smallest:.1e} of the largest count, from {self.dropped:.1e} they do not"
        return f"rank of G: {self.rank} of {self.parameters} ({clear})"


@dataclass(frozen=True, eq=False)
class ImitationLimit:
    """Where the linearised student ends.

    Attributes:
        params: `s + P (theta_T - s)`, a pytree in float64.
        rank: of G.
        parameters: order of G.
        unshared: the part of `|theta_T - s|**2` that lies in the null space of G and stays for ever: 0 where the
            student ends at the teacher, 1 where it does not move.
    """

    params: Params = field(repr=False)
    rank: int
    parameters: int
    unshared: float

    def __str__(self) -> str:
        """One sentence."""
        return (
            f"rank of G: {self.rank} of {self.parameters}; of the squared distance to the teacher "
            f"{self.unshared:.6g} lies in its null space and stays"
        )


def range_projection(instance: Instance) -> RangeProjection:
    """The orthogonal projection on the range of G, from the singular values of a root of it.

    A row of the root is a combination of outputs that M sees at an input, times their Jacobian.

    Raises:
        ValueError: naming `inputs`, where the Jacobian would hold more than `LARGEST` numbers, or `imitation_loss`,
            where its M is not positive semi-definite.

    >>> project = range_projection(instance)
    >>> project.rank, project(np.ones((2, 3))).tolist()
    (6, [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    """
    _require_fits(instance)
    rows = _root(instance)
    _, singular, basis = np.linalg.svd(rows, full_matrices=False)
    sizes = singular / (singular[0] or 1)  # descending
    rank = int(np.sum(sizes > RANK_TOLERANCE))
    smallest, dropped = (float(part) for part in (sizes[:rank].min(initial=1), sizes[rank:].max(initial=0)))
    return RangeProjection(rank, rows.shape[1], smallest, dropped, instance, basis[:rank].copy())


def imitation_limit(
    instance: Instance, teacher: Params, *, start: Params | None = None, project: RangeProjection | None = None
) -> ImitationLimit:
    """Where the linearised student ends that imitates the linearised teacher: `s + P (theta_T - s)`.

    Args:
        instance: the instance; both are linearised at its parameters. It may lack a teacher's loss.
        teacher: theta_T, a pytree like `params`.
        start: s, a pytree like `params`; the parameters of the instance, a shared start, unless given.
        project: P, the `range_projection` of the instance, for several teachers or starts; computed unless given.

    Raises:
        ValueError: naming the argument that is wrong; besides, as `range_projection` does.

    >>> print(imitation_limit(instance, np.ones((2, 3)), start=np.zeros((2, 3))))
    rank of G: 6 of 6; of the squared distance to the teacher 0 lies in its null space and stays
    """
    if project is None:
        project = range_projection(instance)
    elif project.instance is not instance:
        raise ValueError("project is the projection of another instance; hand in range_projection(instance)")
    with in_float64():
        begin = instance.params if start is None else like_params("start", start, instance.params)
        target = like_params("teacher", teacher, instance.params)
        flat, unravel = ravel_pytree(optax.tree.sub(target, begin))
        way = np.asarray(flat)
        moved = project._apply(way)
        left, whole = way - moved, way @ way
        unshared = min(1.0, float(left @ left / whole)) if whole else 0.0
        end = target if project.rank == project.parameters else optax.tree.add(begin, unravel(jnp.asarray(moved)))
    return ImitationLimit(end, project.rank, project.parameters, unshared)


def _require_fits(instance: Instance) -> None:
    """Refuse a Jacobian that would not fit."""
    inputs, outputs = len(jax.tree.leaves(instance.inputs)[0]), int(np.prod(instance.outputs.shape[1:]))
    parameters = optax.tree.size(instance.params)
    if inputs * outputs * parameters > LARGEST:
        fits = LARGEST // (outputs * parameters)
        way_out = f"take at most {fits} inputs" if fits else "a single input is too many: imitate fewer outputs"
        raise ValueError(
            f"inputs are too many: the Jacobian of {inputs} inputs x {outputs} outputs in {parameters} parameters "
            f"would hold {inputs * outputs * parameters} numbers, more than {LARGEST}; {way_out}"
        )


def _root(instance: Instance) -> np.ndarray:
    """[inputs x outputs, parameters], whose rows span the range of G: the outputs that M sees, times their Jacobian."""
    f, loss, chosen = instance.f, instance.imitation_loss, np.unique(instance.chosen)

    def row(theta: jax.Array, unravel: Callable[[jax.Array], Params], x: Any) -> tuple[jax.Array, jax.Array]:
        """The Jacobian of the chosen outputs at one input, and M among them."""
        x = jax.tree.map(lambda leaf: leaf[None], x)

        def outputs(theta: jax.Array) -> jax.Array:
            return jnp.ravel(f(unravel(theta), x)[..., chosen])

        z = f(unravel(theta), x)
        some = z[..., chosen]

        def column(unit: jax.Array) -> jax.Array:
            v = jnp.zeros_like(z).at[..., chosen].set(unit)
            return jnp.ravel(geometry.hessian_product(loss, z, z, v)[..., chosen])

        units = jnp.eye(some.size, dtype=z.dtype).reshape(-1, *some.shape)
        return jax.jacrev(outputs)(theta), jax.vmap(column)(units)

    with in_float64():
        theta, unravel = ravel_pytree(instance.params)
        program = compiled(lambda theta, inputs: jax.lax.map(lambda x: row(theta, unravel, x), inputs), instance.work)
        found = program(theta, instance.inputs)
        instance.require_finite(found, instance.params)
        jacobian, curvature = map(np.asarray, found)
    seen = _seen(curvature)
    return (seen @ jacobian).reshape(-1, jacobian.shape[-1])


def _seen(curvature: np.ndarray) -> np.ndarray:
    """[inputs, outputs, outputs]: rows that span the range of each M, orthonormal, or 0."""
    values, vectors = np.linalg.eigh(curvature)
    largest = np.abs(values).max(axis=1)
    falls = values[:, 0] < -1e-8 * largest
    if falls.any():
        worst = int(np.argmax(falls))
        raise ValueError(
            f"imitation_loss has no minimum at z = y: at input {worst} its curvature there is {values[worst, 0]:.6g} "
            "along some outputs; check_loss shows more"
        )
    counts = values > RANK_TOLERANCE * largest[:, None]
    return np.where(counts[:, None, :], vectors, 0).transpose(0, 2, 1)
