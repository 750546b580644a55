"""The hypotheses of Theorem 1 on the imitation loss, checked on sampled outputs, each with a witness where it fails.

What the proof uses of `L_S(z, y)` (arXiv 2507.14805, appendix C, and its remark b): a minimum at z = y for each y; the
matrix `M = -d2L/dy dz` at z = y symmetric and positive semi-definite; a null space of M that is the same for every y
and orthogonal to every gradient `g(z, y) = dL/dz`. The first gives the second: g(y, y) = 0 for all y makes M the
Hessian in z, as which it is computed here, and that is positive semi-definite at a minimum. The null space is a
hypothesis of its own.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sublim_theory._types import PerExampleLoss
from sublim_theory.geometry import hessian_product, loss_gradient
from sublim_theory.protocols import SublimError
from sublim_theory.theorem.compiling import compiled, in_float64
from sublim_theory.theorem.instance import Instance

ROUNDING = 1e-9
"""Relative size below which a float64 quantity of this module counts as rounding."""

NEAR = 1e-2
"""A local minimum is looked for that far from the label on the way to another output."""

LARGEST_DENSE, SUBSPACE = 256, 32
"""Numbers of outputs above which the matrices are not formed, and of the dimensions on which they then are."""

UNDERFLOW = 1e-200
"""A diagonal entry of M below this is no longer told from 0."""

SATURATED = 1e-4
"""Size of M, relative to what it is elsewhere, below which too few digits are left to tell its null space."""


@dataclass(frozen=True)
class Check:
    """One hypothesis.

    Attributes:
        name: what is assumed.
        holds: whether it held at every sample.
        size: the largest violation found, relative to the scale of the quantity; 0 is perfect.
        witness: the outputs at which it was found, by name; empty where the hypothesis holds.
    """

    name: str
    holds: bool
    size: float
    witness: dict[str, list[float]]

    @property
    def failure(self) -> str:
        """What to say where it does not hold."""
        return f"the imitation loss fails the hypothesis {self.name!r} by {self.size:.2g} at {self.witness}"


@dataclass(frozen=True)
class Hypotheses:
    """The verdict on an imitation loss.

    Attributes:
        checks: one for each hypothesis that could be judged.
        scope: of which outputs, where not of all of them: positions of sequences, or a subspace; else empty.
        null_space: the projection onto the null space of M, [n, n]; None where it could not be judged for all outputs.
    """

    checks: tuple[Check, ...]
    scope: str = ""
    null_space: np.ndarray | None = field(default=None, repr=False, compare=False)

    @property
    def hold(self) -> bool:
        """Whether all of them hold."""
        return all(check.holds for check in self.checks)

    @property
    def failing(self) -> tuple[Check, ...]:
        """Those that do not."""
        return tuple(check for check in self.checks if not check.holds)

    def require(self) -> None:
        """Raise `HypothesisError` for the first hypothesis that fails, with its witness."""
        for check in self.failing:
            raise HypothesisError(check.failure)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and names, ready for JSON."""
        return {"hold": self.hold, "scope": self.scope, "checks": [asdict(check) for check in self.checks]}


class HypothesisError(SublimError, AssertionError):
    """The imitation loss is not one that the theorem speaks of."""


def check_loss(imitation_loss: PerExampleLoss, outputs: jax.Array | np.ndarray) -> Hypotheses:
    """Check the hypotheses of the theorem on an imitation loss, in float64, at sampled outputs.

    Every output serves as a label, and every ordered pair as student outputs and label; a dozen or two are enough.
    Outputs at which M is tiny (a softmax that is all but certain) have lost the digits that would tell its null space:
    they are left out there, and where there are no others, so are its two checks.

    Args:
        imitation_loss: per-example loss of (student outputs [batch, n], labels [batch, n]), twice differentiable at
            the samples.
        outputs: sampled outputs [samples, n], finite, at least two different ones.

    Raises:
        ValueError: for outputs of another shape or that are not finite; for a loss whose derivatives at z = y are not.

    >>> check_loss(lambda z, y: jnp.sum((z - y) ** 2, axis=-1), np.eye(3)).hold
    True
    """
    z = np.asarray(outputs, np.float64)
    if z.ndim != 2 or len(z) < 2 or not z.shape[1] or not np.isfinite(z).all():
        raise ValueError(f"outputs must be finite, [samples >= 2, n >= 1]; got shape {z.shape}")
    with in_float64():
        derivatives = compiled(lambda z: _derivatives(imitation_loss, z))(z)
    return _judge(z, _Derivatives(*map(np.asarray, derivatives)))


def check_instance(instance: Instance) -> Hypotheses:
    """Check the hypotheses on the imitation loss of an instance, at outputs of its f and at others.

    Sequences [positions, n] are checked position by position where the loss is a sum or a mean over positions, as one
    output of `positions x n` numbers elsewhere. Above `LARGEST_DENSE` numbers the loss is checked on a random subspace
    of `SUBSPACE` dimensions through sampled outputs. `Hypotheses.scope` says which.

    >>> f, x = lambda w, x: x @ w, np.eye(2)
    >>> check_instance(Instance(f, np.ones((2, 3)), None, x)).hold
    True
    """
    z, loss = np.asarray(instance.outputs)[:8], instance.selected_loss
    if len(z) == 1:
        z = np.repeat(z, 2, axis=0)
    n = z.shape[-1]
    where: list[str] = []
    if z.ndim > 2:
        count = int(np.prod(z.shape[1:-1]))
        z = z.reshape(len(z), count, n)
        shape, sequences = instance.outputs.shape[1:], loss

        def flat_loss(a: jax.Array, b: jax.Array) -> jax.Array:
            return sequences(a.reshape(len(a), *shape), b.reshape(len(b), *shape))

        if _separable(flat_loss, z):
            places = sorted({0, count // 2, count - 1, *_suspects(flat_loss, z)})
            found = [_check_samples(_at_position(flat_loss, z[0], p), z[:, p], where) for p in places]
            where.insert(0, f"positions {', '.join(map(str, places))} of {count}")
            scope = "; ".join(dict.fromkeys(where))
            # The worst of each hypothesis; where a softmax is all but certain, two of them could not be judged.
            worst: dict[str, Check] = {}
            for check in (check for each in found for check in each.checks):
                worst[check.name] = max(worst.get(check.name, check), check, key=lambda check: check.size)
            first, *others = (each.null_space for each in found)
            common = first is not None and all(space is not None and np.allclose(space, first) for space in others)
            return Hypotheses(tuple(worst.values()), scope, first if common else None)
        z, loss = z.reshape(len(z), -1), flat_loss
        where.append("all positions together")
    found_flat = _check_samples(loss, z, where)
    return Hypotheses(found_flat.checks, "; ".join(where), None if where else found_flat.null_space)


def _check_samples(loss: PerExampleLoss, z: np.ndarray, where: list[str]) -> Hypotheses:
    """The hypotheses at outputs [samples, n] and at others; on a subspace through them where n is large."""
    random = np.random.default_rng(0)
    if on_a_part := z.shape[1] > LARGEST_DENSE:
        where.append(f"a random subspace of {SUBSPACE} of {z.shape[1]} outputs")
        basis, _ = np.linalg.qr(random.normal(size=(z.shape[1], SUBSPACE)))
        origin, full = z[0], loss

        def on_subspace(a: jax.Array, b: jax.Array) -> jax.Array:
            return full(origin[None] + a @ basis.T, origin[None] + b @ basis.T)

        loss, z = on_subspace, (z - origin) @ basis
    normal = random.normal(size=(2, *z.shape))
    mixed = random.dirichlet(np.ones(len(z)), len(z)) @ z
    try:
        found = check_loss(loss, np.concatenate([z, z + normal[0], normal[1]]))
    except ValueError:  # a loss of probabilities, say, is one of such outputs alone
        found = check_loss(loss, np.concatenate([z, mixed]))
    return replace(found, null_space=None) if on_a_part else found


def _at_position(loss: PerExampleLoss, rest: np.ndarray, position: int) -> PerExampleLoss:
    """The loss of the outputs at one position [batch, n], the others being right."""

    def at_position(a: jax.Array, b: jax.Array) -> jax.Array:
        whole = jnp.broadcast_to(jnp.asarray(rest)[None], (len(a), *rest.shape))
        return loss(whole.at[:, position].set(a), whole.at[:, position].set(b))

    return at_position


def _suspects(loss: PerExampleLoss, z: np.ndarray) -> set[int]:
    """Of all positions of a separable loss the worst by the gradient at z = y and by `u^T M u`, where they are bad."""
    u = np.random.default_rng(2).normal(size=z.shape)

    with in_float64():
        slope, image = map(
            np.asarray, compiled(lambda z, u: (loss_gradient(loss, z, z), hessian_product(loss, z, z, u)))(z, u)
        )
    steep, low, size = np.abs(slope).max(axis=(0, 2)), (u * image).sum(axis=2).min(axis=0), np.abs(image).max()
    found = {int(np.argmax(steep))} if steep.max() > ROUNDING * size else set()
    return found | ({int(np.argmin(low))} if low.min() < -ROUNDING * size else set())


def _separable(loss: PerExampleLoss, z: np.ndarray) -> bool:
    """Whether the gradient at each position depends on the outputs and labels at that position alone."""
    random = np.random.default_rng(1)
    labels, others, other_labels = z[::-1], z + random.normal(size=z.shape), z - random.normal(size=z.shape)
    here = np.zeros((1, z.shape[1], 1), bool)
    here[:, ::2] = True  # every other position keeps its place

    def gradients(z: jax.Array, y: jax.Array, a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
        mixed = loss_gradient(loss, jnp.where(here, z, a), jnp.where(here, y, b))
        return loss_gradient(loss, z, y), mixed

    with in_float64():
        plain, mixed = (np.where(here, g, 0) for g in compiled(gradients)(z, labels, others, other_labels))
    return bool(np.abs(plain - mixed).max() <= ROUNDING * (np.abs(plain).max() or 1.0))


class _Derivatives(NamedTuple):
    """What the hypotheses speak of, at every sample k as label, or every pair of student outputs a and label b."""

    rise: Any  # [a, b], `L(y + NEAR (z - y), y) - L(y, y)`: not negative where y is a minimum
    value: Any  # [k], `L(y, y)`
    slope: Any  # [k, n], `g(y, y)`
    hessian: Any  # [k, n, n], `M = d2L/dz2` at z = y
    gradient: Any  # [a, b, n], `g(z, y)`


def _derivatives(imitation_loss: PerExampleLoss, samples: jax.Array) -> _Derivatives:
    count, n = samples.shape
    z, y = (jnp.reshape(each, (-1, n)) for each in (jnp.repeat(samples, count, axis=0), jnp.tile(samples, (count, 1))))
    value = imitation_loss(samples, samples)
    near = imitation_loss(y + NEAR * (z - y), y).reshape(count, count)
    columns = jax.lax.map(
        lambda e: hessian_product(imitation_loss, samples, samples, jnp.broadcast_to(e[None], samples.shape)),
        jnp.eye(n, dtype=samples.dtype),
    )
    gradient = loss_gradient(imitation_loss, z, y).reshape(count, count, n)
    slope = gradient[jnp.arange(count), jnp.arange(count)]
    return _Derivatives(near - value[None], value, slope, jnp.moveaxis(columns, 0, -1), gradient)


def _judge(samples: np.ndarray, at: _Derivatives) -> Hypotheses:
    for name in ("value", "slope", "hessian"):
        bad = ~np.isfinite(getattr(at, name).reshape(len(samples), -1)).all(axis=1)
        if bad.any():
            raise ValueError(
                f"imitation_loss has no finite {name} at student outputs equal to the labels "
                f"{samples[bad][0].tolist()}; the theorem needs it twice differentiable there"
            )
    # Pairs beyond the domain of the loss (a logarithm's, say) are no samples of it.
    gradients = np.where(np.isfinite(at.gradient), at.gradient, 0)
    rise = np.where(np.isfinite(at.rise), at.rise, 0)
    scale = np.abs(gradients).max() or 1.0
    # M has the size of the gradients over the distance of the outputs, and so many digits less where it is smaller.
    sizes = np.abs(at.hessian).max(axis=(1, 2))
    natural = max(sizes.max(), scale / (np.ptp(samples, axis=0).max() or 1.0)) if sizes.any() else 1.0
    clear = sizes >= SATURATED * natural * sizes.any()
    size = np.maximum(sizes, SATURATED * natural)[:, None, None]

    # A local minimum: stationary, and nowhere lower a hundredth of the way to another output.
    slope = np.abs(at.slope).max(axis=1) / scale
    drop = np.maximum(-rise, 0) / (np.abs(at.value) + np.abs(rise).max() + (np.abs(at.value).max() == 0))
    flat, (a, b) = int(slope.argmax()), np.unravel_index(drop.argmax(), drop.shape)
    if drop[a, b] > slope[flat]:
        minimum = float(drop[a, b]), samples[b] + NEAR * (samples[a] - samples[b]), samples[b]
    else:
        minimum = float(slope[flat]), samples[flat], samples[flat]

    symmetric = (at.hessian + at.hessian.transpose(0, 2, 1)) / 2 / size
    negative = np.maximum(-np.linalg.eigvalsh(symmetric)[:, 0], 0)

    def verdict(name: str, violation: float, **witness: np.ndarray) -> Check:
        holds = bool(violation <= ROUNDING)
        found = {key.replace("_", " "): value.tolist() for key, value in witness.items()}
        return Check(name, holds, float(violation), {} if holds else found)

    worst = int(negative.argmax())
    violation, outputs, label = minimum
    checks = [
        verdict("minimum at z = y", violation, student_outputs=outputs, label=label),
        verdict("M is positive semi-definite", negative[worst], label=samples[worst]),
    ]
    null_space = None
    if clear.any():
        labels, projections = samples[clear], _null_spaces(symmetric[clear])
        null_space = projections[0]
        turns = np.abs(projections[:, None] - projections[None]).max(axis=(2, 3))
        p, q = np.unravel_index(turns.argmax(), turns.shape)
        inside = np.abs(np.einsum("kij,abj->kabi", projections, gradients)).max(axis=3) / scale
        k, a, b = np.unravel_index(inside.argmax(), inside.shape)
        checks += [
            verdict("the null space of M is constant", turns[p, q], label=labels[p], another_label=labels[q]),
            verdict(
                "gradients are orthogonal to the null space",
                inside[k, a, b],
                null_space_at=labels[k],
                student_outputs=samples[a],
                label=samples[b],
            ),
        ]
    return Hypotheses(tuple(checks), "", null_space)


def _null_spaces(matrices: np.ndarray) -> np.ndarray:
    """Projections onto the null space of each of several semi-definite matrices, [matrices, n, n].

    The null space of their mean is what they have in common. One that has no more than that gets the common one, to
    all digits. How much it has is read off with rows and columns scaled to a unit diagonal, which tells a small
    probability from a null direction.
    """
    average = matrices.mean(axis=0)
    common = _null_space(average)
    diagonal = np.diagonal(matrices, axis1=1, axis2=2)
    root = np.sqrt(np.where(diagonal > UNDERFLOW, diagonal, 1))
    ranks = (np.linalg.eigvalsh(matrices / (root[:, :, None] * root[:, None, :])) > ROUNDING).sum(axis=1)
    ranks += ((diagonal <= UNDERFLOW) & (diagonal > 0)).sum(axis=1)
    full = len(average) - common.shape[1]
    bases = [common if rank >= full else _null_space(each) for rank, each in zip(ranks, matrices, strict=True)]
    return np.stack([basis @ basis.T for basis in bases])


def _null_space(matrix: np.ndarray) -> np.ndarray:
    """Orthonormal columns that span it."""
    eigenvalues, vectors = np.linalg.eigh(matrix)
    return vectors[:, np.abs(eigenvalues) <= ROUNDING]


def offset_loss(student_logits: jax.Array, labels: jax.Array) -> jax.Array:
    """`|z - 2 y|**2`: no minimum at z = y. A loss that must fail the check, [batch].

    >>> check_loss(offset_loss, np.eye(3)).failing[0].name
    'minimum at z = y'
    """
    return jnp.sum(jnp.square(student_logits - 2 * labels), axis=-1)


def turning_loss(student_logits: jax.Array, labels: jax.Array) -> jax.Array:
    """`((z - y) . y)**2`: a minimum at z = y, but a null space of M that turns with y. It must fail, [batch].

    >>> check_loss(turning_loss, np.eye(3)).failing[0].name
    'the null space of M is constant'
    """
    return jnp.square(jnp.sum((student_logits - labels) * labels, axis=-1))
