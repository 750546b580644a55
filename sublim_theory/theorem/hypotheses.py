"""The hypotheses of Theorem 1 on the imitation loss, checked on sampled outputs, each with a witness where it fails.

What the proof uses of `L_S(z, y)` (arXiv 2507.14805, appendix C, and its remark b): a minimum at z = y for each y; the
matrix `M = -d2L/dy dz` at z = y symmetric and positive semi-definite; a null space of M that is the same for every y
and orthogonal to every gradient `g(z, y) = dL/dz`. The first gives the second: g(y, y) = 0 for all y makes M the
Hessian in z, which is positive semi-definite at a minimum. The null space is a hypothesis of its own.
"""

from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sublim_theory.protocols import PerExampleLoss, SublimError

ROUNDING = 1e-9
"""Relative size below which a float64 quantity of this module counts as rounding."""


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


@dataclass(frozen=True)
class Hypotheses:
    """The verdict on an imitation loss.

    Attributes:
        checks: one for each hypothesis.
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
            raise HypothesisError(
                f"the imitation loss fails the hypothesis {check.name!r} by {check.size:.2g} at {check.witness}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and names, ready for JSON."""
        return {"hold": self.hold, "checks": [asdict(check) for check in self.checks]}


class HypothesisError(SublimError, AssertionError):
    """The imitation loss is not one that the theorem speaks of."""


def check_loss(imitation_loss: PerExampleLoss, outputs: jax.Array | np.ndarray) -> Hypotheses:
    """Check the hypotheses of the theorem on an imitation loss, in float64, at sampled outputs.

    Every output serves as a label, and every ordered pair as student outputs and label. The matrices are formed, so
    the cost grows with the square of the number of outputs: a dozen or two are enough.

    Args:
        imitation_loss: per-example loss of (student outputs [batch, n], labels [batch, n]), twice differentiable at
            the samples.
        outputs: sampled outputs [samples, n], finite, at least two different ones.

    Returns:
        One check a hypothesis; those that fail carry the outputs at which they fail.

    Raises:
        ValueError: for outputs of another shape or that are not finite.
    """
    z = np.asarray(outputs, np.float64)
    if z.ndim != 2 or len(z) < 2 or not z.shape[1] or not np.isfinite(z).all():
        raise ValueError(f"outputs must be finite, [samples >= 2, n >= 1]; got shape {z.shape}")
    with jax.enable_x64(True):
        return _check(imitation_loss, jnp.asarray(z))


def _check(imitation_loss: PerExampleLoss, samples: jax.Array) -> Hypotheses:
    def loss(z: jax.Array, y: jax.Array) -> jax.Array:
        return imitation_loss(z[None], y[None])[0]

    def everywhere(function: Any) -> Any:
        """`function(z, y)` for each z (rows) and each y (columns)."""
        return jax.vmap(jax.vmap(function, (None, 0)), (0, None))(samples, samples)

    gradient = jax.grad(loss)
    diagonal = jax.vmap(lambda y: gradient(y, y))(samples)
    curvature = np.asarray(jax.vmap(lambda y: -jax.jacfwd(gradient, argnums=1)(y, y))(samples))  # M
    hessian = np.asarray(jax.vmap(lambda y: jax.jacfwd(gradient)(y, y))(samples))
    values, gradients = np.asarray(everywhere(loss)), np.asarray(everywhere(gradient))
    scale = np.abs(gradients).max() or 1.0
    size = np.abs(hessian).max(axis=(1, 2), keepdims=True)
    size = np.where(size > 0, size, 1.0)

    # L(z, y) - L(y, y) >= 0, with g(y, y) = 0: a sampled minimum and a stationary point.
    rise = values - np.diagonal(values)[None, :]
    slope = np.abs(np.asarray(diagonal)).max(axis=1) / scale
    drop = np.maximum(-rise, 0) / (np.abs(values).max() or 1.0)
    at, below = int(slope.argmax()), np.unravel_index(drop.argmax(), drop.shape)
    minimum = (
        ({"student outputs": samples[below[0]], "label": samples[below[1]]}, float(drop.max()))
        if drop.max() > slope[at]
        else ({"student outputs": samples[at], "label": samples[at]}, float(slope[at]))
    )

    asymmetry = np.abs(curvature - hessian).max(axis=(1, 2)) / size[:, 0, 0]
    eigenvalues, vectors = np.linalg.eigh((curvature + curvature.transpose(0, 2, 1)) / 2 / size)
    negative = np.maximum(-eigenvalues[:, 0], 0)

    # Projections onto the null space of M at each sample: the same everywhere, and nothing of a gradient in them.
    null = [basis[:, np.abs(row) <= ROUNDING] for row, basis in zip(eigenvalues, vectors, strict=True)]
    projections = np.stack([basis @ basis.T for basis in null])
    turn = np.abs(projections - projections[0]).max(axis=(1, 2))
    inside = np.abs(np.einsum("kij,abj->kabi", projections, gradients)).max(axis=3) / scale
    k, a, b = np.unravel_index(inside.argmax(), inside.shape)

    def verdict(name: str, violation: float, **witness: jax.Array) -> Check:
        holds = bool(violation <= ROUNDING)
        found = {key.replace("_", " "): np.asarray(value).tolist() for key, value in witness.items()}
        return Check(name, holds, float(violation), {} if holds else found)

    worst_h, worst_n, worst_t = int(asymmetry.argmax()), int(negative.argmax()), int(turn.argmax())
    where, violation = minimum
    return Hypotheses(
        (
            verdict("minimum at z = y", violation, **{key.replace(" ", "_"): v for key, v in where.items()}),
            verdict("M is the Hessian in z", asymmetry[worst_h], label=samples[worst_h]),
            verdict("M is positive semi-definite", negative[worst_n], label=samples[worst_n]),
            verdict("the null space of M is constant", turn[worst_t], label=samples[0], another_label=samples[worst_t]),
            verdict(
                "gradients are orthogonal to the null space",
                inside[k, a, b],
                null_space_at=samples[k],
                student_outputs=samples[a],
                label=samples[b],
            ),
        )
    )


def offset_loss(student_logits: jax.Array, labels: jax.Array) -> jax.Array:
    """`|z - 2 y|**2`: no minimum at z = y. A loss that must fail the check, [batch]."""
    return jnp.sum(jnp.square(student_logits - 2 * labels), axis=-1)


def turning_loss(student_logits: jax.Array, labels: jax.Array) -> jax.Array:
    """`((z - y) . y)**2`: a minimum at z = y, but a null space of M that turns with y. It must fail, [batch]."""
    return jnp.square(jnp.sum((student_logits - labels) * labels, axis=-1))
