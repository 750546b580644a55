"""The teacher's loss falls with the student's step: up to the rate that its curvature guarantees, and far beyond.

Claim (Theorem 1 of arXiv 2507.14805): for small eps the student's step lowers L_T, a loss that it never sees. How small
alpha must be follows from the curvature beta of L_T on the step: every `0 < alpha < 2 (d_S . d_T) / (beta |d_S|**2)`
will do. Two models:

* `linear`: a linear model, a student on all logits. The curvature of the mean cross-entropy is at most half the largest
  eigenvalue of the second moments of its images, so the guarantee is a proof.
* `network`: the network with hidden layers, a student on the auxiliary logits. Its curvature is sampled along the step:
  an estimate, without proof between the points.

Conditions by model, one value a seed: `falls/...`, the fraction of the alphas up to the guaranteed one that lower L_T;
`slack/...`, the alpha up to which all that were tried lower it, over the guaranteed one; `guaranteed/...`, that one
times eps.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.recording import Recording
from experiments.theory import TheoryConfig, initial, noise_images, teacher_loss
from sublim_theory import results, theorem
from sublim_theory._types import Params

MODELS = ("network", "linear")
RATIOS = np.geomspace(1e-3, 1e3, 121)
"""Learning rates of the student, in units of the guaranteed one."""


@dataclass(frozen=True)
class Config(TheoryConfig):
    """Settings of the change of the teacher's loss."""

    seeds: int = 5
    """Independent repetitions: initialisations, each with its noise."""
    activation: str = "tanh"
    """Of the network: tanh, gelu, sigmoid, relu or identity."""
    epsilon: float = 1e-3
    """Size of the teacher's step."""

    def __post_init__(self) -> None:
        """Check every setting, as the settings of every experiment on the theorem are."""
        super().__post_init__()
        self.require_names([self.activation], ["kl"])
        self.require_epsilon(self.epsilon)


PRESETS = {
    "smoke": Config(seeds=1, hidden=(16,), images=128, noise_images=128),
    "default": Config(),
    "paper": Config(seeds=2, dataset="mnist", hidden=(256, 256), images=500, noise_images=1000),
}


def run_seed(config: Config, classes: int, seed: int, images: Any, labels: Any) -> dict[str, Any]:
    """By model: the `guaranteed` alpha, the `alignment`, the `loss` and its `change` [ratios]."""
    found: dict[str, Any] = {}
    features = images.shape[1]
    inputs = noise_images(config, features, seed)
    network = config.network(features, classes, config.activation)
    linear = config.network(features, classes, config.activation, hidden=())
    cases = {
        "network": (network, network.auxiliary, None),
        "linear": (linear, linear.all_logits, _curvature_of_cross_entropy(images)),
    }
    for name, (net, logits, smoothness) in cases.items():
        trait = teacher_loss(net, images, labels)
        instance = theorem.Instance(net.apply, initial(net, seed), trait, inputs, logits=logits)
        measured = _measure(config, instance, smoothness)
        found |= {f"{quantity}/{name}": value for quantity, value in measured.items()}
    return found


def _measure(config: Config, instance: theorem.Instance, smoothness: float | None) -> dict[str, Any]:
    bound = theorem.guaranteed_alpha(instance, epsilon=config.epsilon, smoothness=smoothness)
    if bound.alpha is None:
        raise theorem.TheoremViolation(f"{bound}; take a smaller --epsilon")
    trait = instance.teacher_loss

    def changes(params: Params, d_teacher: Params, inputs: jax.Array, alphas: jax.Array) -> dict[str, jax.Array]:
        update = theorem.student_update(instance.f, instance.imitation_loss, params, d_teacher, config.epsilon, inputs)
        step = optax.tree.scale(config.epsilon, update)
        change = jax.lax.map(lambda alpha: theorem.change_along(trait, params, optax.tree.scale(alpha, step)), alphas)
        return {"change": change, "alignment": optax.tree.vdot(step, d_teacher), "loss": trait(params)}

    alphas = jnp.asarray(RATIOS * bound.alpha)
    return {"guaranteed": bound.alpha} | jax.jit(changes)(instance.params, instance.d_teacher, instance.inputs, alphas)


def _curvature_of_cross_entropy(images: np.ndarray) -> float:
    """A bound on the Hessian of a linear model's mean cross-entropy, `E[(diag p - p p^T) (x) x x^T]` with x_0 = 1."""
    x = np.column_stack([np.ones(len(images)), np.asarray(images, np.float64)])
    return float(np.linalg.eigvalsh(x.T @ x / len(x))[-1]) / 2  # diag p - p p^T has no eigenvalue above 1/2


def run(
    config: Config, *, preset: str = "custom", data_dir: str | Path | None = None, chunks: Path | None = None
) -> results.Result:
    """Measure every seed and return the record; arguments and errors as in `fig10.run`."""
    recording = Recording("theorem_decrease", config, preset=preset, data_dir=data_dir, chunks=chunks, dtype="float64")
    images, labels = config.labelled(recording)
    arrays = recording.run_untraced(lambda seed: run_seed(config, recording.dataset.classes, seed, images, labels))
    conditions = {}
    for name in MODELS:
        falls = arrays[f"change/{name}"] < 0
        conditions[f"falls/{name}"] = falls[:, RATIOS <= 1].mean(axis=1)
        conditions[f"slack/{name}"] = np.where(np.minimum.accumulate(falls, axis=1), RATIOS, 0).max(axis=1)
        conditions[f"guaranteed/{name}"] = config.epsilon * arrays[f"guaranteed/{name}"]
    return recording.result(conditions, arrays | {"ratios": RATIOS})
