"""What checking the theorem costs, over the plain gradients that its statement speaks of.

On one instance: `verify` at ten eps, beside the least that anybody needs to look at the same numbers, which is d_T, and
at each eps d_S(eps) and the change of L_T by the student's step, by the definitions. That least has no first-order law,
no cancellation-free form and no hypotheses; it is wrong at small eps. Beside both the part of `verify` that comes
before any verdict: the checks of an `Instance`. All run in float64 in one process and take turns. Compiling, which each
does once a call, is told apart by JAX's own events.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.table import Table

from benchmarks.record import load_now, publish, read_options
from benchmarks.report import show, spread
from benchmarks.runs import require_positive
from sublim_theory import losses, networks, record
from sublim_theory.ensemble import seed_key, stream
from sublim_theory.theorem import EPSILONS, Instance, imitation_update, teacher_update, verify

SCHEMA = 2
"""Version of the JSON record."""

COMPILING = "/jax/core/compile/backend_compile_duration"
"""JAX's name for the event that a program was compiled."""


@dataclass(frozen=True)
class Options:
    """Time `verify` on the paper's network, beside the plain gradients that it needs."""

    preset: str = "default"
    """Options to start from: smoke (seconds, for tests) or default (the paper's network)."""
    inputs: int = 10_000
    """Noise images of the student, and labelled images of the teacher."""
    features: int = 784
    """Pixels of an image."""
    hidden: tuple[int, ...] = (256, 256)
    """Width of each hidden layer."""
    activation: str = "tanh"
    """Of the hidden layers."""
    batch_size: int = 2_000
    """Inputs at a time."""
    repeats: int = 3
    """Turns, after one that warms up."""
    out: Path | None = None
    """JSON file to write; out/benchmarks/theorem-PRESET.json unless given."""

    def __post_init__(self) -> None:
        """Check every option before anything runs.

        Raises:
            SublimError: naming the option and what it may be.
        """
        require_positive(self, "inputs", "features", "batch_size", "repeats")


PRESETS = {
    "smoke": Options("smoke", inputs=12, features=5, hidden=(4,), batch_size=5, repeats=2),
    "default": Options(),
}


def run(argv: list[str]) -> int:
    """Measure, write the record, print the table: python -m benchmarks theorem [options].

    Returns:
        0, whatever was measured: a benchmark has no opinion.

    Raises:
        SublimError: for a wrong option.
    """
    options = read_options("theorem", PRESETS, argv)
    compiling: list[float] = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event == COMPILING:
            compiling.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    instance = _instance(options)
    auxiliary = slice(10, 13)
    parts: dict[str, Callable[[], Any]] = {
        "verify": lambda: verify(*instance, logits=auxiliary, batch_size=options.batch_size).require(),
        "checks": lambda: Instance(*instance, logits=auxiliary, batch_size=options.batch_size),
        "plain": lambda: plain(*instance, losses.on_logits(losses.kl_divergence, auxiliary), options.batch_size),
    }

    def timed(part: str) -> dict[str, float]:
        compiling.clear()
        began = time.perf_counter()
        parts[part]()
        whole = time.perf_counter() - began
        return {"seconds": whole - sum(compiling), "compile_seconds": sum(compiling)}

    load = load_now()
    turns = [{part: timed(part) for part in parts} for _ in range(options.repeats + 1)][1:]
    found = {
        "epsilons": EPSILONS,
        "provenance": record.provenance(seeds=[0], dataset_checksum="none", matmul_precision="highest"),
        "turns": turns,
        "summary": {
            "ratio": spread(turn["verify"]["seconds"] / turn["plain"]["seconds"] for turn in turns),
            "checks": spread(turn["checks"]["seconds"] / turn["verify"]["seconds"] for turn in turns),
        },
    }
    publish("theorem", SCHEMA, options, load, found, table)
    return 0


def table(record: Mapping[str, Any]) -> Table:
    """The record as a table, one column a part."""
    turns, parts = record["turns"], ("verify", "checks", "plain")
    title = f"Theorem 1 at {len(record['epsilons'])} eps, preset {record['options']['preset']}"
    result = Table("measured", *parts, title=f"{title}: median (minimum to maximum)")
    for label, name in {"seconds to compute": "seconds", "seconds to compile": "compile_seconds"}.items():
        result.add_row(label, *(show(spread(turn[part][name] for turn in turns), ".2f") for part in parts))
    result.add_row("verify / plain, paired", show(record["summary"]["ratio"], ".2f"), "", "")
    result.add_row("checks / verify, paired", "", show(record["summary"]["checks"], ".2f"), "")
    return result


def plain(
    f: Any, params: Any, teacher_loss: Any, inputs: Any, imitation_loss: Any, batch_size: int, alpha: float = 1.0
) -> Any:
    """d_T, and for each eps d_S . d_T and the change of L_T, by their definitions in float64."""

    @jax.jit
    def step(theta: Any, inputs: Any, epsilons: Any) -> Any:
        d_teacher = teacher_update(teacher_loss, theta)

        def at(epsilon: jax.Array) -> Any:
            teacher = optax.tree.add_scale(theta, epsilon, d_teacher)
            d_student = imitation_update(f, imitation_loss, theta, teacher, inputs, batch_size=batch_size)
            after = teacher_loss(optax.tree.add_scale(theta, alpha, d_student))
            return optax.tree.vdot(d_student, d_teacher), after

        return teacher_loss(theta), jax.lax.map(at, epsilons)

    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        return jax.tree.map(np.asarray, step(params, inputs, jnp.asarray(EPSILONS)))


def _instance(options: Options) -> tuple[Any, Any, Any, Any]:
    """Network, initialisation, teacher's loss and inputs, in float64."""
    net = networks.mlp(options.features, options.hidden, 10, 3, options.activation, dtype="float64")
    random = np.random.default_rng(0)
    images, inputs = random.uniform(-1, 1, (2, options.inputs, options.features))
    labels = jnp.asarray(random.integers(10, size=options.inputs))

    def teacher_loss(params: Any) -> jax.Array:
        return jnp.mean(losses.cross_entropy(net.class_logits(net.apply(params, jnp.asarray(images))), labels))

    with jax.enable_x64(True):
        return net.apply, jax.jit(net.init)(stream(seed_key(0), "init")), teacher_loss, inputs
