"""One measurement in a process of its own, so that its peak memory and its threads are its own.

`python -m benchmarks.worker PART TASK` runs a part with the arguments in the JSON object TASK and prints one
line of JSON; `call` does so from Python. A timed part has the matrix-product rate measured, in yet another
process, immediately before and after it: on a busy machine only the pair of them means something.
"""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.protocol import Protocol
from sublim_theory.protocols import SublimError

Outcome = TypeVar("Outcome")

SAMPLES = 5
"""Matrix products a measurement, of which the fastest counts."""


class WorkerError(SublimError, RuntimeError):
    """A worker did not finish; it has said why on standard error, unless the system stopped it."""


def call(part: str, *, platform: str = "cpu", **task: Any) -> dict[str, Any]:
    """Run a part in a new process, on the CPU unless JAX is told of another platform, and return what it reports.

    Raises:
        WorkerError: if the process fails.
    """
    command = [sys.executable, "-m", "benchmarks.worker", part, json.dumps(task)]
    environment = os.environ | {"JAX_PLATFORMS": platform}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        killed = done.returncode == -signal.SIGKILL
        why = "was killed, most likely for want of memory" if killed else "failed; its own message is above"
        raise WorkerError(f"the worker {part!r} {why}")
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def ours(*, preset: str, first_seed: int, seeds: int, data_dir: str | None, matrix: int) -> dict[str, Any]:
    """The experiment itself, its compilation apart."""
    from experiments import experiment, fig10

    settings = fig10.PRESETS[preset].but(first_seed=first_seed, seeds=seeds)
    context = experiment.Context(preset, data_dir)
    record, rates = _paired("jax", matrix, lambda: experiment.run(fig10.EXPERIMENT, settings, context))
    return {
        "seconds_per_seed": record.provenance["run_seconds"] / seeds,
        "compile_seconds": record.provenance["compile_seconds"],
        "peak_bytes": peak_bytes(),
        "matrix_product": rates,
        "accuracy": {name: summary.values for name, summary in record.conditions.items()},
        "provenance": record.provenance,
    }


def published(
    *, protocol: Mapping[str, Any], dataset: str, seed: int, seeds: int, data_dir: str | None, matrix: int
) -> dict[str, Any]:
    """The published form in PyTorch, all seeds at once."""
    import torch

    from benchmarks import torch_fig10
    from sublim_theory import data

    numbers = Protocol(**{**protocol, "widths": tuple(protocol["widths"])})
    digits = data.load(dataset, data_dir)

    def timed() -> tuple[dict[str, list[float]], float]:
        began = time.perf_counter()
        accuracies = torch_fig10.run(numbers, digits, seeds, seed)
        return accuracies, time.perf_counter() - began

    (accuracies, seconds), rates = _paired("torch", matrix, timed)
    return {
        "seconds_per_seed": seconds / seeds,
        "peak_bytes": peak_bytes(),
        "matrix_product": rates,
        "accuracy": accuracies,
        "version": str(torch.__version__),
        "threads": torch.get_num_threads(),
    }


def matrix_product(*, framework: str, side: int) -> dict[str, list[float]]:
    """Rates, in FLOP/s, of float32 products of two square matrices; the first one warms up and does not count."""
    import numpy as np

    a, b = np.random.default_rng(0).standard_normal((2, side, side), dtype=np.float32)
    multiply: Callable[[], object]
    if framework == "jax":
        import jax

        left, right = jax.device_put(a), jax.device_put(b)
        product = jax.jit(lambda a, b: jax.numpy.matmul(a, b, precision="highest"))  # float32, on a GPU too
        multiply = lambda: product(left, right).block_until_ready()  # noqa: E731
    else:
        import torch

        x, y, out = torch.from_numpy(a), torch.from_numpy(b), torch.empty(side, side)
        multiply = lambda: torch.mm(x, y, out=out)  # noqa: E731
    times = [time.perf_counter()]
    for _ in range(SAMPLES + 1):
        multiply()
        times.append(time.perf_counter())
    return {"flop_per_second": [2 * side**3 / seconds for seconds in np.diff(times)[1:].tolist()]}


def peak_bytes() -> int:
    """The largest resident memory of this process so far.

    On Linux from `/proc`, as `ru_maxrss` there starts at the peak of the process that spawned this one.
    """
    status = Path("/proc/self/status")
    if status.exists() and (line := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return 1024 * int(line[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _paired(framework: str, side: int, work: Callable[[], Outcome]) -> tuple[Outcome, dict[str, list[float]]]:
    """The result of `work`, and the rates of the framework's matrix product just before and just after."""
    rates = {}
    here = os.environ.get("JAX_PLATFORMS", "cpu")
    rates["before"] = call("matmul", platform=here, framework=framework, side=side)["flop_per_second"]
    result = work()
    rates["after"] = call("matmul", platform=here, framework=framework, side=side)["flop_per_second"]
    return result, rates


PARTS: dict[str, Callable[..., dict[str, Any]]] = {"ours": ours, "torch": published, "matmul": matrix_product}

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interrupt is the parent's to report
    print(json.dumps(PARTS[sys.argv[1]](**json.loads(sys.argv[2]))))
