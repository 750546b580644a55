"""The teacher's loss falls with the student's step: up to the rate that its curvature guarantees, and far beyond.

Claim (Theorem 1 of arXiv 2507.14805): for small eps the student's step lowers L_T, a loss that it never sees. How small
alpha must be follows from the curvature beta of L_T on the step: every `0 < alpha < 2 (d_S . d_T) / (beta |d_S|**2)`
will do. Two models:

* `linear`: a linear model, a student on all logits. The curvature of the mean cross-entropy is at most half the largest
  eigenvalue of the second moments of its images, so the guarantee is a proof.
* `network`: the network with hidden layers, a student on the auxiliary logits. Its curvature is sampled along the step:
  an estimate, without proof between the points.

Conditions by model: `falls`, the fraction of the alphas up to the guaranteed one that lower L_T; `slack`, the alpha up
to which all that were tried lower it, over the guaranteed one; `guaranteed`, that one times eps.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr

from experiments.experiment import Experiment, Nothing, Settings, Variable, by_variable
from experiments.theory import Labelled, Theory, initial, noise_images, on_digits, teacher_loss
from sublim_theory import theorem
from sublim_theory._types import Params

RATIOS = np.geomspace(1e-3, 1e3, 121)
"""Learning rates of the student, in units of the guaranteed one."""


@dataclass(frozen=True)
class Protocol(Theory):
    """Settings of the change of the teacher's loss."""

    activation: str = "tanh"
    """Of the network: tanh, gelu, sigmoid, relu or identity."""
    epsilon: float = 1e-3
    """Size of the teacher's step."""

    def check(self, rates: Nothing) -> None:
        """Check every setting, as those of every experiment on the theorem are."""
        super().check(rates)
        self.require_names([self.activation], ["kl"])
        self.require_epsilon(self.epsilon)


PRESETS = {
    "smoke": on_digits(Protocol, seeds=1, hidden=(16,), images=128, noise_images=128),
    "default": on_digits(Protocol, seeds=5),
    "paper": on_digits(Protocol, seeds=2, dataset="mnist", hidden=(256, 256), images=500, noise_images=1000),
}


def run_seed(protocol: Protocol, rates: Nothing, data: Labelled, seed: int) -> dict[str, Any]:  # noqa: ARG001
    """By model: the guaranteed alpha, the alignment, the teacher's loss, and its change at every rate."""
    inputs = noise_images(protocol, data, seed)
    network = protocol.make_network(data, protocol.activation)
    linear = protocol.make_network(data, protocol.activation, hidden=(), kind="mlp")
    cases = {
        "network": (network, network.auxiliary, None),
        "linear": (linear, linear.all_logits, _curvature_of_cross_entropy(data.images)),
    }
    measured = {}
    for name, (net, logits, smoothness) in cases.items():
        instance = theorem.Instance(net.apply, initial(net, seed), teacher_loss(net, data), inputs, logits=logits)
        measured[name] = _measure(protocol.epsilon, instance, smoothness)
    return by_variable(measured)


def _measure(epsilon: float, instance: theorem.Instance, smoothness: float | None) -> dict[str, Any]:
    bound = theorem.guaranteed_alpha(instance, epsilon=epsilon, smoothness=smoothness)
    if bound.alpha is None:
        raise theorem.TheoremViolation(f"{bound}; take a smaller --epsilon")
    trait = instance.teacher_loss

    def changes(params: Params, d_teacher: Params, inputs: jax.Array, alphas: jax.Array) -> dict[str, jax.Array]:
        update = theorem.student_update(instance.f, instance.imitation_loss, params, d_teacher, epsilon, inputs)
        step = optax.tree.scale(epsilon, update)
        change = jax.lax.map(lambda alpha: theorem.change_along(trait, params, optax.tree.scale(alpha, step)), alphas)
        return {"change": change, "alignment": optax.tree.vdot(step, d_teacher), "initial_loss": trait(params)}

    found = jax.jit(changes)(instance.params, instance.d_teacher, instance.inputs, jnp.asarray(RATIOS * bound.alpha))
    return {"guaranteed_alpha": bound.alpha, **found}


def _curvature_of_cross_entropy(images: np.ndarray) -> float:
    """A bound on the Hessian of a linear model's mean cross-entropy, `E[(diag p - p p^T) (x) x x^T]` with x_0 = 1."""
    x = np.column_stack([np.ones(len(images)), np.asarray(images, np.float64)])
    return float(np.linalg.eigvalsh(x.T @ x / len(x))[-1]) / 2  # diag p - p p^T has no eigenvalue above 1/2


def conclude(settings: Settings[Protocol, Nothing], table: xr.Dataset) -> dict[str, xr.DataArray]:
    """Up to which rate the teacher's loss falls."""
    falls = table["change"] < 0
    return {
        "falls": falls.sel(ratio=slice(1)).mean("ratio"),
        "slack": table["ratio"].where(falls.cumprod("ratio") > 0, 0).max("ratio"),
        "guaranteed": settings.protocol.epsilon * table["guaranteed_alpha"],
    }


EXPERIMENT = Experiment(
    name="theorem_decrease",
    summary="Over alpha, the student's step lowers the teacher's loss up to a guaranteed rate and beyond",
    presets=PRESETS,
    run_seed=run_seed,
    axes=lambda settings: {"model": ("network", "linear"), "ratio": RATIOS.tolist()},  # noqa: ARG005
    variables={
        **{name: Variable(("model",), condition=f"{name}/{{model}}") for name in ("falls", "slack", "guaranteed")},
        **{name: Variable(("model",)) for name in ("guaranteed_alpha", "alignment", "initial_loss")},
        "change": Variable(("model",), ("ratio",)),
    },
    conclude=conclude,
    traced=False,
    dtype="float64",
)
