"""The orthogonal branch: four ways to engineer an alignment of exactly 0 at every eps, each with what undoes it.

Claim (Theorem 1 of arXiv 2507.14805): either `d_S . d_T = 0` for every eps > 0, or the student's step lowers the
teacher's loss for small eps. The paper says that the first should arise only when engineered. Here it is, in float64,
as the number 0.0 and no other, beside the smallest change of the setting that brings the alignment back:

* `one_logit`: a softmax over a single auxiliary logit has no gradient. Undone by squared error.
* `linear_model`: class and auxiliary logits share no parameter. Undone by imitating all logits.
* `class_bias`: the teacher's loss depends on the biases of the class head alone. Undone by imitating all logits.
* `dead_units`: it depends on the weights into units that are off on every input. A large teacher step turns them on
  and moves the student, at right angles to the teacher. Undone by a bias of 0 instead of -100.

Conditions: `CASE`, the largest `|d_S . d_T|` over eps; `CASE/undone`, 1 where the control is aligned at every eps up to
1e-3; `CASE/trait`, 1 where `d_T` is not zero, so that there is something to transfer.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
import xarray as xr

from experiments.experiment import Experiment, Nothing, Settings, Variable
from experiments.theory import Labelled, Theory, initial, noise_images, on_digits, teacher_loss, together
from sublim_theory import geometry, losses, networks, theorem
from sublim_theory._types import Array, Params, PerExampleLoss, TeacherLoss

CASES, KINDS = ("one_logit", "linear_model", "class_bias", "dead_units"), ("engineered", "undone")
EPSILONS = (1e-6, 1e-3, 1.0, 100.0)  # sizes of the teacher's step

PRESETS = {
    "smoke": on_digits(Theory, seeds=2, hidden=(16,), images=128, noise_images=128),
    "default": on_digits(Theory),
    "paper": on_digits(Theory, seeds=20, dataset="mnist", hidden=(256, 256), images=1000, noise_images=1000),
}


def run_seed(protocol: Theory, rates: Nothing, data: Labelled, seed: Any) -> dict[str, Any]:  # noqa: ARG001
    """The alignment and the lengths of both updates of each case and its control."""
    inputs, names = noise_images(protocol, data, seed), ("alignment", "student_length", "teacher_length")
    found: dict[str, Any] = {name: {case: {} for case in CASES} for name in names}
    for case, kinds in _cases(protocol, data, seed).items():
        for kind, parts in zip(KINDS, kinds, strict=True):
            for name, value in zip(names, _sweep(inputs, *parts), strict=True):
                found[name][case][kind] = value
    return found


def _sweep(inputs: Array, net: networks.Network, params: Params, trait: TeacherLoss, imitate: PerExampleLoss) -> Any:
    """The alignment [eps] and the length [eps] of the student's update, and the length of the teacher's."""
    d_teacher = theorem.teacher_update(trait, params)

    def at(epsilon: jax.Array) -> tuple[jax.Array, jax.Array]:
        teacher = optax.tree.add_scale(params, epsilon, d_teacher)
        step = theorem.imitation_update(net.apply, imitate, params, teacher, inputs)
        return optax.tree.vdot(step, d_teacher), geometry.norm(step)

    return *jax.lax.map(at, jnp.asarray(EPSILONS)), geometry.norm(d_teacher)


def _cases(protocol: Theory, data: Labelled, seed: Any) -> dict[str, tuple[Any, Any]]:
    """Each case and its control: network, initialisation, the teacher's loss and the student's."""
    made = partial(protocol.make_network, data, "relu")
    net, single, linear = made(), made(auxiliary=1), made(hidden=(), kind="mlp")
    auxiliary, everything = (losses.on_logits(losses.kl_divergence, some) for some in (net.auxiliary, net.all_logits))
    softmax, squares = (losses.on_logits(f, single.auxiliary) for f in (losses.kl_divergence, losses.squared_error))
    last, units = net.layers("body")[-1], slice(0, protocol.hidden[-1] // 2)

    def of_class_biases(params: Params) -> jax.Array:
        return jnp.sum(jnp.square(params[net.class_head]["bias"] - jnp.arange(data.classes)))

    def of_some_units(params: Params) -> jax.Array:
        return jnp.sum(jnp.square(params[last]["kernel"][:, units])) / 2

    start = initial(net, seed)

    def with_bias(value: float) -> Params:
        return start | {last: start[last] | {"bias": start[last]["bias"].at[units].set(value)}}

    one, flat = ((some, initial(some, seed), teacher_loss(some, data)) for some in (single, linear))
    dead, alive = ((net, with_bias(value), of_some_units) for value in (-100.0, 0.0))
    biases = net, start, of_class_biases
    return {
        "one_logit": ((*one, softmax), (*one, squares)),
        "linear_model": ((*flat, auxiliary), (*flat, everything)),
        "class_bias": ((*biases, auxiliary), (*biases, everything)),
        "dead_units": ((*dead, auxiliary), (*alive, auxiliary)),
    }


def conclude(settings: Settings[Theory, Nothing], table: xr.Dataset) -> dict[str, xr.DataArray]:  # noqa: ARG001
    """How large the alignment is where it is engineered away, and whether it is there where that is undone."""
    engineered, undone = (table.sel(kind=kind, drop=True) for kind in KINDS)
    return {
        "largest_alignment": abs(engineered["alignment"]).max("epsilon"),
        "undone": (undone["alignment"].sel(epsilon=slice(1e-3)) > 0).all("epsilon"),
        "trait": engineered["teacher_length"] > 0,
    }


EXPERIMENT = Experiment(
    name="theorem_orthogonal",
    summary="Four ways to engineer an alignment of exactly 0, and what undoes each",
    presets=PRESETS,
    run_seed=run_seed,
    axes=lambda settings: {"case": CASES, "kind": KINDS, "epsilon": EPSILONS},  # noqa: ARG005
    variables={
        "largest_alignment": Variable(("case",), condition="{case}"),
        "undone": Variable(("case",), condition="{case}/undone"),
        "trait": Variable(("case",), condition="{case}/trait"),
        **{name: Variable(("case", "kind"), ("epsilon",)) for name in ("alignment", "student_length")},
        "teacher_length": Variable(("case", "kind")),
    },
    conclude=conclude,
    dtype="float64",
    together=together,
)
