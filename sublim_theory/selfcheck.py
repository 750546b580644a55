"""The theorem's own check, fast enough for every CI run: what must hold holds, and what must fail fails.

Rows on small networks and on the paper's 784-256-256-13 network. The negative controls (another initialisation, a loss
that violates the hypotheses) show that the check can fail.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sublim_theory import data, losses, networks
from sublim_theory._types import Params
from sublim_theory.theorem import Instance, TheoremReport
from sublim_theory.theorem.hypotheses import offset_loss
from sublim_theory.theorem.verify import ORTHOGONAL, TRANSFER, verify_instance

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
    """The fast check, row by row: both branches, two controls, and the paper's network, all on random numbers."""
    random = np.random.default_rng(0)
    images, labels, inputs = random.normal(size=(40, 12)), np.arange(40) % 5, random.normal(size=(64, 12))
    net = networks.mlp(12, (16,), classes=5, activation="tanh", dtype="float64")
    linear = networks.mlp(12, (), classes=5, dtype="float64")
    # Most of the time is XLA's, one core a program; the longest goes first. An instance is checked once for its rows.
    with ThreadPoolExecutor(max_workers=2) as pool:

        def row(judge: Callable[..., Row], name: str, checked: Future[Instance], **options: Any) -> Future[Row]:
            def judged(loss: Any = None, **options: Any) -> Row:
                instance = checked.result()
                return judge(name, instance if loss is None else instance.with_loss(loss), **options)

            return pool.submit(judged, **options)

        last = pool.submit(_wide)
        smooth = pool.submit(Instance, *_parts(net, images, labels, inputs), logits=net.auxiliary)
        single = pool.submit(Instance, *_parts(linear, images, labels, inputs), logits=slice(5, 6))
        elsewhere = {"reason": "first-order law", "student_params": _initial(net, 1)}
        rows = [
            row(_must_hold, "tanh, KL on 3 auxiliary logits", smooth, order=True),
            row(_must_hold, "tanh, squared error on all logits", smooth, loss="squared_error", order=True),
            row(_must_hold, "one auxiliary logit under a softmax", single, branch=ORTHOGONAL),
            row(_must_fail, "the student starts elsewhere", smooth, **elsewhere),
            row(_must_fail, "a loss without minimum at z = y", single, loss=offset_loss, reason="minimum at z = y"),
        ]
        for done in (*rows, last):
            yield done.result()


def _wide() -> Row:
    net = networks.mlp(784, dtype="float64")
    images, inputs = np.random.default_rng(0).uniform(-1, 1, size=(2, 100, 784))
    instance = Instance(*_parts(net, images, np.arange(100) % 10, inputs), logits=net.auxiliary)
    name = "784-256-256-13, ReLU, KL on 3 auxiliary logits"
    return _must_hold(name, instance, epsilons=(1e-9, 1e-6, 1e-3, 1e-1))


def paper(data_dir: str | Path | None = None, inputs: int = 10_000) -> Iterator[Row]:
    """Every activation and imitation loss on the paper's network, with MNIST for the teacher and noise for the student.

    Args:
        data_dir: as in `data.load`.
        inputs: number of noise images; the teacher sees as many digits.
    """
    mnist = data.load("mnist", data_dir)
    images = np.random.default_rng(0).uniform(-1, 1, size=(inputs, 784))
    for activation in networks.ACTIVATIONS:
        net = networks.mlp(784, activation=activation, dtype="float64")
        parts = _parts(net, mnist.train_x[:inputs], mnist.train_y[:inputs], images)
        instance = Instance(*parts, logits=net.auxiliary, batch_size=2_000)
        for loss in losses.IMITATION:
            yield _must_hold(
                f"784-256-256-13, {activation}, {loss} on 3 auxiliary logits",
                instance.with_loss(loss, net.auxiliary),
                # Kinks: of the network, or of the loss at a large step.
                order=activation != "relu" and loss != "huber",
            )


def _initial(net: networks.Network, seed: int) -> Params:
    """The initialisation of the paper, drawn by numpy: a generator of JAX takes longer to compile than all else."""
    random = np.random.default_rng(seed)
    with jax.enable_x64(True):
        shapes = jax.eval_shape(lambda: net.init(jax.random.key(0)))
    return jax.tree.map(
        lambda leaf: random.normal(size=leaf.shape) / leaf.shape[0] ** 0.5 if leaf.ndim > 1 else np.zeros(leaf.shape),
        shapes,
    )


def _parts(net: networks.Network, images: np.ndarray, labels: np.ndarray, inputs: np.ndarray) -> tuple[Any, ...]:
    """`f`, `params`, `teacher_loss` and `inputs`: mean cross-entropy of the class logits on labelled images."""

    def teacher_loss(params: Params) -> jax.Array:
        return jnp.mean(losses.cross_entropy(net.class_logits(net.apply(params, images)), labels))

    return net.apply, _initial(net, 0), teacher_loss, inputs


def _must_hold(name: str, instance: Instance, *, branch: str = TRANSFER, order: bool = False, **options: Any) -> Row:
    report = verify_instance(instance, **options)
    found = report.remainder_order
    remark = f"{report.branch}, A = {report.first_order:.3g}" + (f", order {found:.3f}" if order and found else "")
    wrong = list(report.failures)
    if report.branch != branch:
        wrong.append(f"the branch is {report.branch!r}, not {branch!r}")
    if order and not (found is not None and abs(found - 2) <= ORDER_TOLERANCE):
        wrong.append(f"the remainder is of order {found}, not 2")
    return Row(name, False, not wrong, wrong[0] if wrong else remark, report)


def _must_fail(name: str, instance: Instance, *, reason: str, **options: Any) -> Row:
    report = verify_instance(instance, **options)
    found = [failure.split(" at {")[0] for failure in report.failures if reason in failure]
    return Row(name, True, bool(found), found[0] if found else f"nothing failed for {reason!r}: no power", report)
