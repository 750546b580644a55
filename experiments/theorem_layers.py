"""Which layers and which logits carry the alignment: the heads contribute exactly nothing where they must.

Claim (eq. 2 of arXiv 2507.14805, taken apart): `A = d_T^T G d_T` is a sum over layers and a sum over logits. The
teacher's loss sees the class logits alone, so `d_T` is exactly 0 on the auxiliary head; a student that imitates
auxiliary logits alone does not move the class head. There the hidden layers carry all of A: the trait travels through
the features that both heads read.

Conditions, one value a seed: `LOGITS/LAYER`, the share of a layer in A for a student on the auxiliary or on all logits;
`LOGITS/unexplained`, what their sum lacks of A; `auxiliary/class_logits`, the share of the class logits for the student
that does not see them.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp

from experiments.recording import Recording
from experiments.theory import TheoryConfig, initial, noise_images, teacher_loss
from sublim_theory import losses, models, results, theorem


@dataclass(frozen=True)
class Config(TheoryConfig):
    """Settings of the shares of A."""

    activation: str = "relu"
    """relu, tanh, gelu, sigmoid or identity."""
    loss: str = "kl"
    """What students minimise: kl, cross_entropy, squared_error or huber."""

    def __post_init__(self) -> None:
        """Check every setting, as the settings of every experiment on the theorem are."""
        super().__post_init__()
        self.require_names([self.activation], [self.loss])


PRESETS = {
    "smoke": Config(seeds=8, hidden=(16, 16), images=128, noise_images=128),
    "default": Config(),
    "paper": Config(dataset="mnist", hidden=(256, 256), images=1000, noise_images=1000),
}


def run_seed(
    config: Config, net: models.Network, seed: jax.Array, images: jax.Array, labels: jax.Array
) -> dict[str, jax.Array]:
    """`A/LOGITS`, and its shares `LOGITS/LAYER` and `LOGITS/by_logit` [logits]."""
    params, inputs = initial(net, seed), noise_images(config, net.features, seed)
    d_teacher = theorem.teacher_update(teacher_loss(net, images, labels), params)
    found = {}
    for name, logits in {"auxiliary": net.auxiliary, "all": net.all_logits}.items():
        imitate = losses.on_logits(losses.imitation(config.loss), logits)
        law = theorem.first_order(net.apply, imitate, params, d_teacher, inputs)
        found[f"A/{name}"] = law.coefficient
        found[f"by_logit/{name}"] = law.by_logit / law.coefficient
        layers = law.by_layer()
        order = [*sorted(layer for layer in layers if layer.startswith("hidden")), "class_head", "auxiliary_head"]
        found |= {f"{name}/{layer}": layers[layer] / law.coefficient for layer in order}
        found[f"{name}/unexplained"] = jnp.abs(1 - sum(found[f"{name}/{layer}"] for layer in order))
    return found


def run(
    config: Config, *, preset: str = "custom", data_dir: str | Path | None = None, chunks: Path | None = None
) -> results.Result:
    """Run every seed and return the record; arguments and errors as in `fig10.run`."""
    recording = Recording("theorem_layers", config, preset=preset, data_dir=data_dir, chunks=chunks, dtype="float64")
    net = config.network(recording.dataset.features, recording.dataset.classes, config.activation)
    arrays = recording.run(partial(run_seed, config, net), *config.labelled(recording), **config.chunking(net.features))
    shares = {name: values for name, values in arrays.items() if name.startswith(("auxiliary/", "all/"))}
    unseen = abs(arrays["by_logit/auxiliary"][:, net.classes]).sum(axis=1)
    return recording.result(shares | {"auxiliary/class_logits": unseen}, arrays)
