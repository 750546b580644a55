"""Figure 10, seconds a seed: the experiment of this library beside the published script's form in PyTorch.

Both run the same protocol on the same CPU and take turns, each time in a process of its own, so that they meet
the same weather; ratios and shares are taken within a turn. Loading the data is in neither time, compiling is
apart from ours, and everything else is in both: drawing, shuffling, training and testing.
"""

import importlib.util
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import protocol, report, worker
from benchmarks.record import load_now, publish, say
from benchmarks.report import table
from experiments.fig10 import PRESETS
from sublim_theory import data
from sublim_theory.cli import UsageError, parse
from sublim_theory.protocols import lookup

SCHEMA = 1
"""Version of the JSON record."""

WITHOUT_TORCH = "PyTorch is not installed, so ours runs alone; for both: pip install -e '.[benchmarks]'"


@dataclass(frozen=True)
class Options:
    """Time figure 10 in this library and in the form of the published script."""

    preset: str = "paper"
    """Protocol of the experiment: smoke (embedded digits, for tests), default (embedded digits) or paper (MNIST)."""
    repeats: int = 3
    """Turns; in each, ours is timed and then PyTorch."""
    seeds: int = 4
    """Seeds of ours in a turn; on the CPU they run one after another."""
    torch_seeds: int = 4
    """Seeds of PyTorch in a turn, run all at once; 0 leaves PyTorch out."""
    platform: str = "cpu"
    """What ours runs on: cpu, or cuda for a GPU, where the seeds run together; PyTorch runs on the CPU."""
    matrix: int = 4096
    """Side of the square matrices whose product gives the machine's rate."""
    data_dir: Path | None = None
    """Folder that holds mnist/ and fashion_mnist/; otherwise SUBLIM_THEORY_DATA, the cache, or a download."""
    out: Path | None = None
    """JSON file to write; out/benchmarks/fig10-PRESET.json unless given."""

    def __post_init__(self) -> None:
        """Check every option before anything runs.

        Raises:
            SublimError: naming the option and what it may be.
        """
        lookup("preset", self.preset, PRESETS)
        lookup("platform", self.platform, dict.fromkeys(("cpu", "cuda")))
        for name in ("repeats", "seeds", "matrix"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} must be at least 1, got {getattr(self, name)}")
        if self.torch_seeds != 0 and self.torch_seeds < 2:
            raise UsageError(f"--torch-seeds must be 0, or at least 2 for the cross-model students: {self.torch_seeds}")


def run(argv: list[str]) -> int:
    """Measure, write the record, print the table: python -m benchmarks fig10 [options].

    Returns:
        0, whatever was measured: a benchmark has no opinion.

    Raises:
        SublimError: for a wrong option, missing data or a worker that failed.
    """
    options = parse(Options, argv, prog="python -m benchmarks fig10")
    with_torch = options.torch_seeds > 0
    if with_torch and importlib.util.find_spec("torch") is None:
        say(WITHOUT_TORCH)
        with_torch = False
    load = load_now()

    config = PRESETS[options.preset]
    dataset = data.load(config.dataset, options.data_dir)
    numbers = protocol.Protocol.of(config, dataset)
    flop = {"ours": protocol.library_flop(numbers)}
    if with_torch:
        flop["torch"] = protocol.published_flop(numbers)
    turns = [_turn(index, options, numbers, with_torch) for index in range(options.repeats)]
    provenance, *_ = [turn["ours"].pop("provenance") for turn in turns]
    found = {
        "protocol": asdict(numbers),
        "provenance": {name: provenance[name] for name in ("versions", "commit", "dirty", "dataset_sha256", "device")},
        "flop_per_seed": flop,
        "turns": turns,
        "summary": report.summarize(turns, flop),
    }
    publish("fig10", SCHEMA, options, load, found, table)
    return 0


def _turn(index: int, options: Options, numbers: protocol.Protocol, with_torch: bool) -> dict[str, Any]:
    """Both parts, one after the other, on seeds that no other turn has."""
    common: dict[str, Any] = {"data_dir": str(options.data_dir) if options.data_dir else None, "matrix": options.matrix}
    ours: dict[str, Any] = {"preset": options.preset, "first_seed": index * options.seeds, "seeds": options.seeds}
    turn = {"ours": worker.call("ours", platform=options.platform, **common, **ours)}
    if with_torch:
        torch: dict[str, Any] = {
            "dataset": PRESETS[options.preset].dataset,
            "seed": index,
            "seeds": options.torch_seeds,
        }
        turn["torch"] = worker.call("torch", **common, **torch, protocol=asdict(numbers))
    return turn
