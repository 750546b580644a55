"""How far is "sufficiently small"? A proof for one network: its alignment up to the first change of sign, and beyond.

Claim (Lemma 1 of arXiv 2507.14805): `d_S(eps) . d_T >= 0` for all sufficiently small eps. For the numbers of one
network a certificate proves it for *every* eps up to `certified`, by enclosures and not by samples, and that it is
false at `refuted`, just above, unless `until` was reached. Beside it stands what one sees by evaluating the definition
in float64 and in float32.

Conditions: `certified`, the largest eps; `changes`, whether a change of sign was enclosed; `gap`, how far `refuted` is
above `certified`, relative to it; `checked`, whether the second checker, which shares no code with the first, proves
every interval again; `contradicted`, the number of sampled eps up to `certified` at which float64 has another sign;
`float32_wrong`, the fraction of eps up to 1e-7 at which float32 is off by over 10% of A.

Found (paper, 20 seeds, ReLU): .35 of the networks change their sign below eps = 100, each enclosed to a millionth of
itself; the others keep it up to there. float32 is wrong at .99 of the eps up to 1e-7, where the proof holds.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr

from experiments.experiment import Experiment, Nothing, Settings, Variable, require_counts
from experiments.theory import Labelled, Theory, initial, noise_images, on_digits, teacher_loss
from sublim_theory import losses, theorem

LOSSES, PRECISIONS = ("kl", "cross_entropy", "squared_error"), ("float64", "float32")
MEASURED, CONDITIONS = (
    ("certified", "refuted", "checked", "coefficient"),
    ("certified", "changes", "gap", "checked", "contradicted", "float32_wrong"),
)


@dataclass(frozen=True)
class Protocol(Theory):
    """Settings of the certificates."""

    activation: str = "relu"
    """Between the layers: relu, tanh, gelu, sigmoid or identity."""
    loss: str = "kl"
    """What students minimise on the auxiliary logits: kl, cross_entropy or squared_error."""
    until: float = 100.0
    """The size of the teacher's step at which a proof ends."""
    smallest: float = 1e-9
    """The smallest step at which the alignment is evaluated, for the eye."""
    per_decade: int = 8
    """Evaluations in each decade."""

    def check(self, rates: Nothing) -> None:
        """Check every setting, as those of every experiment on the theorem are."""
        super().check(rates)
        require_counts(self, "per_decade")
        self.require_names((self.activation,), (self.loss,))
        if self.network != "mlp" or self.loss not in LOSSES:
            raise ValueError(f"only an mlp and {', '.join(LOSSES)} have certificates; got {self.network}, {self.loss}")
        if not 0 < self.smallest < 1 < self.until < np.inf:
            raise ValueError(f"0 < smallest < 1 < until must hold; got {self.smallest} and {self.until}")

    def axes(self) -> dict[str, Any]:
        """Coordinates; those of `epsilon`, the sizes of the teacher's step, ascend."""
        count = round(np.log10(self.until / self.smallest) * self.per_decade) + 1
        return {"precision": PRECISIONS, "epsilon": np.geomspace(self.smallest, self.until, count).tolist()}


_FEW = on_digits(Protocol, noise_images=20)
PRESETS = {
    "smoke": _FEW.but(seeds=2, hidden=(16,), images=128, noise_images=8, per_decade=2),
    "default": _FEW.but(seeds=8),
    "paper": _FEW.but(seeds=20, dataset="mnist", hidden=(256, 256), images=10_000),
}


@partial(jax.jit, static_argnums=(0, 1))
def evaluate(protocol: Protocol, dtype: str, data: Labelled, *given: Any) -> tuple[Any, Any, Any]:
    """The teacher's direction, A, and the definition at every size; given are the start, the inputs and the sizes."""
    net = protocol.make_network(data, protocol.activation, dtype=dtype)
    start, x, eps = jax.tree.map(lambda leaf: leaf.astype(dtype), given)
    imitate = losses.on_logits(losses.imitation(protocol.loss), net.auxiliary)
    d_teacher = theorem.teacher_update(teacher_loss(net, data), start)
    law = theorem.first_order(net.apply, imitate, start, d_teacher, x)

    def alignment(size: jax.Array) -> jax.Array:
        teacher = optax.tree.add_scale(start, size, d_teacher)
        return optax.tree.vdot(theorem.imitation_update(net.apply, imitate, start, teacher, x), d_teacher)

    return d_teacher, law.coefficient, jax.lax.map(alignment, eps).astype("float64")


def run_seed(protocol: Protocol, rates: Nothing, data: Labelled, seed: Any) -> dict[str, Any]:  # noqa: ARG001
    """The ends of the proof, the coefficient A, and the alignment by precision and eps."""
    net = protocol.make_network(data, protocol.activation)
    params, inputs = initial(net, seed), noise_images(protocol, data, seed)
    sizes = jnp.asarray(protocol.axes()["epsilon"])
    evaluated = {dtype: evaluate(protocol, dtype, data, params, inputs, sizes) for dtype in PRECISIONS}
    direction, coefficient, _ = evaluated["float64"]
    found = theorem.certify(
        params,
        protocol.activation,
        direction,
        inputs,
        imitation_loss=protocol.loss,
        logits=net.auxiliary,
        until=protocol.until,
    )
    return {
        "certified": found.certified,
        "refuted": np.nan if found.refuted is None else found.refuted,
        "checked": float(found.check(points=20).holds),
        "coefficient": coefficient,
        "alignment": {dtype: each[2] for dtype, each in evaluated.items()},
    }


def conclude(settings: Settings[Protocol, Nothing], table: xr.Dataset) -> dict[str, xr.DataArray]:  # noqa: ARG001
    """Whether samples agree with the proof, and how close its two ends are."""
    certified, sizes = table["certified"], table["epsilon"]
    exact, single = (table["alignment"].sel(precision=precision, drop=True) for precision in PRECISIONS)
    off = abs(single / (sizes * table["coefficient"]) - 1) > 0.1
    return {
        "changes": table["refuted"].notnull().astype(float),
        "gap": table["refuted"] / certified - 1,
        "contradicted": ((exact <= 0) & (sizes <= certified)).sum("epsilon"),
        "float32_wrong": off.sel(epsilon=slice(1e-7)).mean("epsilon"),
    }


EXPERIMENT = Experiment(
    name="theorem_certificates",
    summary="A proof that d_S . d_T > 0 for every eps up to the first change of sign, network by network",
    presets=PRESETS,
    run_seed=run_seed,
    axes=lambda settings: settings.protocol.axes(),
    variables={name: Variable((), condition=name) for name in CONDITIONS}
    | {"refuted": Variable(()), "coefficient": Variable(())}
    | {"alignment": Variable(("precision",), ("epsilon",))},
    conclude=conclude,
    traced=False,
    dtype="float64",
)
