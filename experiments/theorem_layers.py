"""Which layers and which logits carry the alignment: the heads contribute exactly nothing where they must.

Claim (eq. 2 of arXiv 2507.14805, taken apart): `A = d_T^T G d_T` is a sum over layers and a sum over logits. The
teacher's loss sees the class logits alone, so `d_T` is exactly 0 on the auxiliary head; a student that imitates
auxiliary logits alone does not move the class head. There the hidden layers carry all of A: the trait travels through
the features that both heads read.

Conditions: `LOGITS/LAYER`, the share of a layer in A for a student on the auxiliary or on all logits;
`LOGITS/unexplained`, what their sum lacks of A, infinite unless A > 0; `auxiliary/class_logits`, the share of the class
logits for the student that does not see them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from experiments.experiment import Experiment, Nothing, Settings, Variable
from experiments.theory import Labelled, Theory, initial, noise_images, on_digits, teacher_loss, together
from sublim_theory import losses, theorem

LOGITS = ("auxiliary", "all")


@dataclass(frozen=True)
class Protocol(Theory):
    """Settings of the shares of A."""

    activation: str = "relu"
    """relu, tanh, gelu, sigmoid or identity."""
    loss: str = "kl"
    """What students minimise: kl, cross_entropy, squared_error or huber."""

    def check(self, rates: Nothing) -> None:
        """Check every setting, as those of every experiment on the theorem are."""
        super().check(rates)
        self.require_names([self.activation], [self.loss])


PRESETS = {
    "smoke": on_digits(Protocol, seeds=8, hidden=(16, 16), images=128, noise_images=128),
    "default": on_digits(Protocol),
    "paper": on_digits(Protocol, dataset="mnist", hidden=(256, 256), images=1000, noise_images=1000),
}


def run_seed(protocol: Protocol, rates: Nothing, data: Labelled, seed: Any) -> dict[str, Any]:  # noqa: ARG001
    """The coefficient A and its shares, by the logits that the student imitates."""
    net = protocol.make_network(data, protocol.activation)
    params, inputs = initial(net, seed), noise_images(protocol, data, seed)
    d_teacher = theorem.teacher_update(teacher_loss(net, data), params)
    found: dict[str, dict[str, Any]] = {"share": {}, "coefficient": {}, "share_of_logit": {}}
    for name, logits in zip(LOGITS, (net.auxiliary, net.all_logits), strict=True):
        imitate = losses.on_logits(losses.imitation(protocol.loss), logits)
        law = theorem.first_order(net.apply, imitate, params, d_teacher, inputs)
        layers = law.by_layer()
        found["share"][name] = {layer: layers[layer] / law.coefficient for layer in protocol.layers()}
        found["coefficient"][name] = law.coefficient
        found["share_of_logit"][name] = law.by_logit / law.coefficient
    return found


def conclude(settings: Settings[Protocol, Nothing], table: xr.Dataset) -> dict[str, xr.DataArray]:
    """What the shares of the layers leave of A, and the share of the logits that the student does not see."""
    classes = table.sizes["logit"] - settings.protocol.auxiliary
    unseen = table["share_of_logit"].sel(logits="auxiliary", drop=True)[:, :classes]
    unexplained = abs(1 - table["share"].sum("layer"))
    return {
        "unexplained": unexplained.where(table["coefficient"] > 0, np.inf),  # of nothing positive there are no shares
        "class_logits": abs(unseen).sum("logit"),
    }


EXPERIMENT = Experiment(
    name="theorem_layers",
    summary="Hidden layers carry the alignment; the heads contribute exactly 0 where they must",
    presets=PRESETS,
    run_seed=run_seed,
    axes=lambda settings: {"logits": LOGITS, "layer": settings.protocol.layers()},
    variables={
        "share": Variable(("logits", "layer"), condition="{logits}/{layer}"),
        "unexplained": Variable(("logits",), condition="{logits}/unexplained"),
        "class_logits": Variable(condition="auxiliary/class_logits"),
        "coefficient": Variable(("logits",)),
        "share_of_logit": Variable(("logits",), ("logit",)),
    },
    conclude=conclude,
    dtype="float64",
    together=together,
)
