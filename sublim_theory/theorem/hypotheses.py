"""The hypotheses of Theorem 1 on the imitation loss, checked on sampled outputs, each with a witness where it fails.

What the proof uses of `L_S(z, y)` (arXiv 2507.14805, appendix C, and its remark b): a minimum at z = y for each y; the
matrix `M = -d2L/dy dz` at z = y symmetric and positive semi-definite; a null space of M that is the same for every y
and orthogonal to every gradient `g(z, y) = dL/dz`. The first gives the second: g(y, y) = 0 for all y makes M the
Hessian in z, which is positive semi-definite at a minimum. The null space is a hypothesis of its own.
"""

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sublim_theory.protocols import PerExampleLoss, SublimError

ROUNDING = 1e-9
"""Relative size below which a float64 quantity of this module counts as rounding."""

NEAR = 1e-2
"""A local minimum is looked for that far from the label on the way to another output."""

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
        checks: one for each hypothesis that could be judged; none for outputs too many to form matrices of.
    """

    checks: tuple[Check, ...]

    @property
    def hold(self) -> bool:
        """Whether all of them hold."""
        return all(check.holds for check in self.checks)

    @property
    def failing(self) -> tuple[Check, ...]:
        """Those that do not."""
        return tuple(check for check in self.checks if not check.holds)

    def require(self) -> None:
        """Raise for the first hypothesis that fails.

        Raises:
            HypothesisError: naming it, with its witness.
        """
        for check in self.failing:
            raise HypothesisError(check.failure)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and names, ready for JSON."""
        return {"hold": self.hold, "checks": [asdict(check) for check in self.checks]}


class HypothesisError(SublimError, AssertionError):
    """The imitation loss is not one that the theorem speaks of."""


def check_loss(imitation_loss: PerExampleLoss, outputs: jax.Array | np.ndarray) -> Hypotheses:
    """Check the hypotheses of the theorem on an imitation loss, in float64, at sampled outputs.

    Every output serves as a label, and every ordered pair as student outputs and label. The matrices are formed, so
    the cost grows with the square of the number of outputs: a dozen or two are enough. Outputs at which M is tiny
    (a softmax that is all but certain) have lost the digits that would tell its null space: they are left out
    there, and where there are no others, so are its two checks.

    Args:
        imitation_loss: per-example loss of (student outputs [batch, n], labels [batch, n]), twice differentiable at
            the samples.
        outputs: sampled outputs [samples, n], finite, at least two different ones.

    Returns:
        One check a hypothesis that could be judged; those that fail carry the outputs at which they fail.

    Raises:
        ValueError: for outputs of another shape or that are not finite; for a loss whose derivatives at z = y are not.
    """
    z = np.asarray(outputs, np.float64)
    if z.ndim != 2 or len(z) < 2 or not z.shape[1] or not np.isfinite(z).all():
        raise ValueError(f"outputs must be finite, [samples >= 2, n >= 1]; got shape {z.shape}")
    with jax.enable_x64(True):
        derivatives = jax.jit(lambda z: _derivatives(imitation_loss, z))(z)
    return _judge(z, _Derivatives(*map(np.asarray, derivatives)))


class _Derivatives(NamedTuple):
    """What the hypotheses speak of, at every sample k as label, or every pair of student outputs a and label b.

    Attributes:
        rise: [a, b], `L(y + NEAR (z - y), y) - L(y, y)`: positive or zero where y is a minimum.
        value: [k], `L(y, y)`.
        slope: [k, n], `g(y, y)`.
        curvature: [k, n, n], `M = -d2L/dy dz` at z = y.
        hessian: [k, n, n], `d2L/dz2` there.
        gradient: [a, b, n], `g(z, y)`.
    """

    rise: Any
    value: Any
    slope: Any
    curvature: Any
    hessian: Any
    gradient: Any


def _derivatives(imitation_loss: PerExampleLoss, samples: jax.Array) -> _Derivatives:
    def loss(z: jax.Array, y: jax.Array) -> jax.Array:
        return imitation_loss(z[None], y[None])[0]

    def pairs(function: Any) -> jax.Array:
        return jax.vmap(jax.vmap(function, (None, 0)), (0, None))(samples, samples)

    gradient = jax.grad(loss)
    return _Derivatives(
        pairs(lambda z, y: loss(y + NEAR * (z - y), y) - loss(y, y)),
        jax.vmap(lambda y: loss(y, y))(samples),
        jax.vmap(lambda y: gradient(y, y))(samples),
        jax.vmap(lambda y: -jax.jacfwd(gradient, argnums=1)(y, y))(samples),
        jax.vmap(lambda y: jax.jacfwd(gradient)(y, y))(samples),
        pairs(gradient),
    )


def _judge(samples: np.ndarray, at: _Derivatives) -> Hypotheses:
    for name in ("value", "slope", "curvature", "hessian"):
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

    asymmetry = (np.abs(at.curvature - at.hessian) / size).max(axis=(1, 2))
    symmetric = (at.curvature + at.curvature.transpose(0, 2, 1)) / 2 / size
    negative = np.maximum(-np.linalg.eigvalsh(symmetric)[:, 0], 0)

    def verdict(name: str, violation: float, **witness: np.ndarray) -> Check:
        holds = bool(violation <= ROUNDING)
        found = {key.replace("_", " "): value.tolist() for key, value in witness.items()}
        return Check(name, holds, float(violation), {} if holds else found)

    worst_h, worst_n = int(asymmetry.argmax()), int(negative.argmax())
    violation, outputs, label = minimum
    checks = [
        verdict("minimum at z = y", violation, student_outputs=outputs, label=label),
        verdict("M is the Hessian in z", asymmetry[worst_h], label=samples[worst_h]),
        verdict("M is positive semi-definite", negative[worst_n], label=samples[worst_n]),
    ]
    if clear.any():
        labels, projections = samples[clear], _null_spaces(symmetric[clear])
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
    return Hypotheses(tuple(checks))


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
    """`|z - 2 y|**2`: no minimum at z = y. A loss that must fail the check, [batch]."""
    return jnp.sum(jnp.square(student_logits - 2 * labels), axis=-1)


def turning_loss(student_logits: jax.Array, labels: jax.Array) -> jax.Array:
    """`((z - y) . y)**2`: a minimum at z = y, but a null space of M that turns with y. It must fail, [batch]."""
    return jnp.square(jnp.sum((student_logits - labels) * labels, axis=-1))
