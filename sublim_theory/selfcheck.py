"""The theorem's own check, fast enough for every CI run: what must hold holds, and what must fail fails.

Rows on small networks and on the paper's 784-256-256-13 network. The negative controls (another initialisation, a loss
that violates the hypotheses) show that the check can fail.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sublim_theory import data, losses, networks, noise
from sublim_theory._types import Inputs, Params
from sublim_theory.ensemble import seed_key, stream
from sublim_theory.theorem import TheoremReport, verify
from sublim_theory.theorem.compiling import compiled
from sublim_theory.theorem.hypotheses import offset_loss
from sublim_theory.theorem.verify import ORTHOGONAL, TRANSFER

ORDER_TOLERANCE = 0.02
"""On smooth networks the remainder is of order 2 to within this."""


@dataclass(frozen=True)
class Row:
    """One line of the check.

    Attributes:
        name: what is checked.
        control: whether it is a negative control, which must fail.
        passed: whether it came out as it must.
        remark: the numbers, or the reason.
        report: the full report.
    """

    name: str
    control: bool
    passed: bool
    remark: str
    report: TheoremReport

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and names, ready for JSON."""
        plain = {"name": self.name, "control": self.control, "passed": self.passed, "remark": self.remark}
        return plain | {"report": self.report.to_dict()}


def quick() -> Iterator[Row]:
    """The fast check, row by row: both branches, two controls, and the paper's network on digits and noise."""
    small = networks.mlp(12, (16,), classes=5, activation="tanh", dtype="float64")
    images, labels = np.random.default_rng(0).normal(size=(40, 12)), np.arange(40) % 5
    few = _noise("gaussian", 64, 12)
    parts = _parts(small, images, labels, few)
    linear = _parts(networks.mlp(12, (), classes=5, dtype="float64"), images, labels, few)
    auxiliary = small.auxiliary
    hold = partial(_must_hold, branch=TRANSFER, smooth=True)
    alone: dict[str, Any] = {"branch": ORTHOGONAL, "smooth": False, "logits": slice(5, 6)}
    elsewhere: dict[str, Any] = {"reason": "first-order law", "student_params": _initial(small, 1), "logits": auxiliary}
    wrong: dict[str, Any] = {"reason": "minimum at z = y", "imitation_loss": offset_loss}
    rows: list[Callable[[], Row]] = [
        _on_digits,
        partial(hold, "tanh, KL on 3 auxiliary logits", parts, logits=auxiliary),
        partial(hold, "tanh, squared error on all logits", parts, imitation_loss="squared_error"),
        partial(_must_hold, "one auxiliary logit under a softmax", linear, **alone),
        partial(_must_fail, "the student starts elsewhere", parts, **elsewhere),
        partial(_must_fail, "a loss without minimum at z = y", linear, **wrong),
    ]
    # Most of the time is XLA's, one core a program; the longest goes first.
    with ThreadPoolExecutor(max_workers=2) as pool:
        first, *others = [pool.submit(row) for row in rows]
        for done in (*others, first):
            yield done.result()


def _on_digits() -> Row:
    """The paper's network, with embedded digits enlarged to its 28 x 28 pixels."""
    net = networks.mlp(784, dtype="float64")
    digits = data.load("digits")
    enlarged = digits.train_x[:100].reshape(-1, 8, 8).repeat(3, 1).repeat(3, 2)
    images = np.pad(enlarged, ((0, 0), (2, 2), (2, 2)), constant_values=-1).reshape(-1, 784)
    parts = _parts(net, images, digits.train_y[:100], _noise("uniform", 100, 784))
    few: dict[str, Any] = {"logits": net.auxiliary, "epsilons": (1e-9, 1e-6, 1e-3, 1e-1)}
    name = "784-256-256-13, ReLU, KL on 3 auxiliary logits"
    return _must_hold(name, parts, branch=TRANSFER, smooth=False, **few)


def paper(data_dir: str | Path | None = None, inputs: int = 10_000) -> Iterator[Row]:
    """Every activation and imitation loss on the paper's network, with MNIST for the teacher and noise for the student.

    Args:
        data_dir: as in `data.load`.
        inputs: number of noise images; the teacher sees as many digits.
    """
    mnist = data.load("mnist", data_dir)
    images = _noise("uniform", inputs, 784)
    for activation in networks.ACTIVATIONS:
        net = networks.mlp(784, activation=activation, dtype="float64")
        parts = _parts(net, mnist.train_x[:inputs], mnist.train_y[:inputs], images)
        for loss in losses.IMITATION:
            yield _must_hold(
                f"784-256-256-13, {activation}, {loss} on 3 auxiliary logits",
                parts,
                branch=TRANSFER,
                # Kinks: of the network, or of the loss at a large step.
                smooth=activation != "relu" and loss != "huber",
                imitation_loss=loss,
                logits=net.auxiliary,
                batch_size=2_000,
            )


def _noise(name: str, count: int, features: int) -> jax.Array:
    sample = noise.sampler(name)
    return compiled(lambda: sample(stream(seed_key(0), "noise"), count, features))()


def _initial(net: networks.Network, seed: int) -> Params:
    with jax.enable_x64(True):
        return compiled(net.init)(stream(seed_key(seed), "init"))


def _parts(net: networks.Network, images: np.ndarray, labels: np.ndarray, inputs: Inputs) -> tuple[Any, ...]:
    """`f`, `params`, `teacher_loss` and `inputs`: mean cross-entropy of the class logits on labelled images."""
    x, y = np.asarray(images, np.float64), jnp.asarray(labels)

    def teacher_loss(params: Params) -> jax.Array:
        return jnp.mean(losses.cross_entropy(net.class_logits(net.apply(params, jnp.asarray(x))), y))

    return net.apply, _initial(net, 0), teacher_loss, inputs


def _must_hold(name: str, parts: tuple[Any, ...], *, branch: str, smooth: bool, **options: Any) -> Row:
    report = verify(*parts, **options)
    order = report.remainder_order
    remark = f"{report.branch}, A = {report.first_order:.3g}" + (f", order {order:.3f}" if smooth and order else "")
    wrong = list(report.failures)
    if report.branch != branch:
        wrong.append(f"the branch is {report.branch!r}, not {branch!r}")
    if smooth and not (order is not None and abs(order - 2) <= ORDER_TOLERANCE):
        wrong.append(f"the remainder is of order {order}, not 2")
    return Row(name, False, not wrong, wrong[0] if wrong else remark, report)


def _must_fail(name: str, parts: tuple[Any, ...], *, reason: str, **options: Any) -> Row:
    report = verify(*parts, **options)
    found = [failure.split(" at {")[0] for failure in report.failures if reason in failure]
    return Row(name, True, bool(found), found[0] if found else f"nothing failed for {reason!r}: no power", report)
