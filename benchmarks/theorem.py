"""What checking the theorem costs, beside the plain gradients that its statement speaks of.

On one instance: `verify` at ten eps, beside the least that anybody needs to look at the same numbers: d_T, and at each
eps d_S(eps) and L_T after the student's step, by the definitions, which are wrong at small eps. Between both the checks
that `verify` makes before any verdict. All run in float64 in one process; JAX's own events tell compiling apart.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.turns import Options, Part, run
from experiments.theory import Labelled, initial, teacher_loss
from sublim_theory import losses, networks, record
from sublim_theory.theorem import EPSILONS, Instance, imitation_update, teacher_update, verify

AUXILIARY = slice(10, 13)
IMITATION = losses.on_logits(losses.kl_divergence, AUXILIARY)
COMPUTING = "seconds to compute"
EVENT = "/jax/core/compile/backend_compile_duration"
"""JAX's name for the event that a program was compiled."""


SIZES: dict[str, Any] = {
    "default": {"widths": (784, 256, 256), "inputs": 10_000, "batch_size": 2_000},
    "smoke": {"widths": (5, 4), "inputs": 12, "batch_size": 5},
}
"""Of the pixels and the hidden layers, of the noise and of the labelled images, and of the batches of either."""


def parts(options: Options) -> dict[str, Part]:
    """Plain gradients, the checks alone, and all of `verify`."""
    jax.config.update("jax_platforms", options.platform)  # type: ignore[no-untyped-call]
    compiling: list[float] = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event == EVENT:
            compiling.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    origin = record.provenance(seeds=[0], dataset_checksum="none", matmul_precision="highest")
    given, size = instance(**SIZES[options.preset]), SIZES[options.preset]["batch_size"]

    def timed(work: Callable[[], object], _: int) -> dict[str, Any]:
        compiling.clear()
        began = time.perf_counter()
        work()
        whole, spent = time.perf_counter() - began, sum(compiling)
        return {COMPUTING: whole - spent, "seconds to compile": spent, "provenance": origin}

    return {
        "plain gradients": partial(timed, lambda: plain(*given, size)),
        "checks alone": partial(timed, lambda: Instance(*given, logits=AUXILIARY, batch_size=size)),
        "verify": partial(timed, lambda: verify(*given, logits=AUXILIARY, batch_size=size).require()),
    }


def plain(f: Any, params: Any, trait_loss: Any, inputs: Any, batch_size: int) -> Any:
    """L_T, and for each eps d_S . d_T and L_T after the student's step, by their definitions in float64."""

    @jax.jit
    def step(theta: Any, inputs: Any, epsilons: Any) -> Any:
        d_teacher = teacher_update(trait_loss, theta)

        def at(epsilon: jax.Array) -> Any:
            teacher = optax.tree.add_scale(theta, epsilon, d_teacher)
            d_student = imitation_update(f, IMITATION, theta, teacher, inputs, batch_size=batch_size)
            return optax.tree.vdot(d_student, d_teacher), trait_loss(optax.tree.add(theta, d_student))

        return trait_loss(theta), jax.lax.map(at, epsilons)

    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        return jax.tree.map(np.asarray, step(params, inputs, jnp.asarray(EPSILONS)))


def instance(widths: tuple[int, ...], inputs: int, **_: int) -> tuple[Any, Any, Any, Any]:
    """Network, initialisation, teacher's loss and inputs, in float64."""
    features, *hidden = widths
    net = networks.mlp(features, tuple(hidden), 10, 3, "tanh", dtype="float64")
    random = np.random.default_rng(0)
    images, noise = random.uniform(-1, 1, (2, inputs, features))
    labelled = Labelled(images, random.integers(10, size=inputs), 10)
    with jax.enable_x64(True):
        return net.apply, initial(net, 0), teacher_loss(net, labelled), noise


THEOREM = partial(run, parts=parts, compared={COMPUTING: 0})
