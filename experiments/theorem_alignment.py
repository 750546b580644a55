"""The alignment of the two updates over eps tends to `A = d_T^T G d_T > 0`; float32 cannot see it.

Claim (Lemma 1 and eq. 2 of arXiv 2507.14805): `d_S . d_T = eps A + O(eps**2)`, and the whole update follows,
`|d_S - eps G d_T| = O(eps**2)`. The order 2 is exact on smooth networks. A ReLU network has it up to its first kink
only; of it the sign and the limit are asserted. In float32 the labels of a small step drown in rounding, sign and all.

Conditions by activation and loss: `order`, the slope of `log |d_S - eps G d_T|` over `log eps` on smooth networks;
`positive`, the fraction of eps up to 1e-3 with `d_S . d_T > 0`; `limit`, how far `d_S . d_T / (eps A)` is from 1 at
the smallest; `float32_wrong`, the fraction up to 1e-9, far below rounding, at which float32 is off by over 10% of A.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr

from experiments.experiment import Experiment, Nothing, Settings, Variable, require_counts, require_distinct
from experiments.theory import Labelled, Theory, initial, noise_images, on_digits, teacher_loss, together
from sublim_theory import geometry, losses, theorem
from sublim_theory.theorem.verify import order_of_remainder

PAIR, PRECISIONS = ("activation", "imitation"), ("float64", "float32")
MEASURED, CONDITIONS = ("coefficient", "alignment", "remainder"), ("order", "positive", "limit", "float32_wrong")


@dataclass(frozen=True)
class Protocol(Theory):
    """Settings of the alignment against eps."""

    activations: tuple[str, ...] = ("tanh", "gelu", "relu")
    """Networks: relu, tanh, gelu, sigmoid, identity."""
    losses: tuple[str, ...] = ("kl", "squared_error")
    """What students minimise on the auxiliary logits: kl, cross_entropy, squared_error, huber."""
    decades: int = 12
    """The sizes of the teacher's step reach from 10**-decades to 1."""
    per_decade: int = 2
    """Sizes in each decade."""

    def check(self, rates: Nothing) -> None:
        """Check every setting, as those of every experiment on the theorem are."""
        super().check(rates)
        require_counts(self, "per_decade")
        require_distinct(self, "activations", "losses")
        self.require_names(self.activations, self.losses)
        if self.decades < 9:
            raise ValueError(f"decades must be at least 9, to reach below the rounding of float32; got {self.decades}")

    def axes(self) -> dict[str, Any]:
        """Coordinates; those of `epsilon`, the sizes of the teacher's step, ascend."""
        sizes = (10.0 ** np.linspace(-self.decades, 0, self.decades * self.per_decade + 1)).tolist()
        return {"activation": self.activations, "imitation": self.losses, "precision": PRECISIONS, "epsilon": sizes}


_FEW = on_digits(Protocol, hidden=(16,), images=128, noise_images=128, per_decade=1)
PRESETS = {
    "smoke": _FEW.but(seeds=2, activations=("tanh", "relu"), losses=("kl",)),
    "default": on_digits(Protocol, seeds=8),
    "paper": _FEW.but(seeds=3, dataset="mnist", hidden=(256, 256), images=1000, noise_images=1000),
}


def run_seed(protocol: Protocol, rates: Nothing, data: Labelled, seed: Any) -> dict[str, Any]:  # noqa: ARG001
    """The coefficient A, and by precision and eps the alignment and the remainder."""
    start, inputs = initial(protocol.make_network(data, "relu"), seed), noise_images(protocol, data, seed)
    params, x = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (start, inputs))
    sizes = jnp.asarray(protocol.axes()["epsilon"])

    def measure(activation: str, loss: str) -> tuple[jax.Array, ...]:
        net, single = (protocol.make_network(data, activation, dtype=precision) for precision in PRECISIONS)
        imitate, trait = losses.on_logits(losses.imitation(loss), net.auxiliary), teacher_loss(net, data)
        law = theorem.first_order(net.apply, imitate, start, theorem.teacher_update(trait, start), inputs)
        exact = theorem.student_steps(net.apply, imitate, trait, start, law, sizes, inputs)
        d_teacher = theorem.teacher_update(teacher_loss(single, data), params)

        def in_float32(epsilon: jax.Array) -> tuple[jax.Array, jax.Array]:  # the plain update, against the law
            teacher = optax.tree.add_scale(params, epsilon.astype(jnp.float32), d_teacher)
            update = theorem.imitation_update(single.apply, imitate, params, teacher, x)
            step = jax.tree.map(lambda leaf: leaf.astype(jnp.float64) / epsilon, update)
            rest = geometry.norm(optax.tree.sub(step, law.product)) / geometry.norm(law.product)
            return epsilon * optax.tree.vdot(step, law.direction), rest

        plain = jax.lax.map(in_float32, sizes)
        return law.coefficient, jnp.stack([exact.alignment, plain[0]]), jnp.stack([exact.remainder, plain[1]])

    found = {name: {loss: measure(name, loss) for loss in protocol.losses} for name in protocol.activations}
    return {q: {a: {loss: row[loss][i] for loss in row} for a, row in found.items()} for i, q in enumerate(MEASURED)}


def conclude(settings: Settings[Protocol, Nothing], table: xr.Dataset) -> dict[str, xr.DataArray]:  # noqa: ARG001
    """Order, sign and limit in float64, and how often float32 is wrong."""
    sizes, first_order = table["epsilon"].values.tolist(), table["epsilon"] * table["coefficient"]
    exact, single = (table.sel(precision=precision, drop=True) for precision in PRECISIONS)
    smooth = exact["remainder"].where(table["activation"] != "relu")
    order = np.vectorize(lambda row: order_of_remainder(sizes, row.tolist()), otypes=[float], signature="(n)->()")
    return {
        "order": xr.apply_ufunc(order, smooth, input_core_dims=[["epsilon"]]),
        "positive": (exact["alignment"] > 0).sel(epsilon=slice(1e-3)).mean("epsilon"),
        "limit": abs(exact["alignment"] / first_order - 1).isel(epsilon=0, drop=True),
        "float32_wrong": (abs(single["alignment"] / first_order - 1) > 0.1).sel(epsilon=slice(1e-9)).mean("epsilon"),
    }


EXPERIMENT = Experiment(
    name="theorem_alignment",
    summary="Over eps, the student's update is eps G d_T + O(eps^2) and aligned; float32 cannot see it",
    presets=PRESETS,
    run_seed=run_seed,
    axes=lambda settings: settings.protocol.axes(),
    variables={name: Variable(PAIR, condition=f"{name}/{{activation}}/{{imitation}}") for name in CONDITIONS}
    | {"coefficient": Variable(PAIR)}
    | {name: Variable((*PAIR, "precision"), ("epsilon",)) for name in MEASURED[1:]},
    conclude=conclude,
    dtype="float64",
    together=together,
)
