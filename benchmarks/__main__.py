"""`python -m benchmarks NAME [options]`: dispatch to the benchmark of that name."""

import importlib
import sys

from benchmarks import BENCHMARKS
from sublim_theory.cli import guard
from sublim_theory.protocols import lookup


def run(argv: list[str]) -> int:
    """Run the benchmark that the first word names, with the other words as its options."""
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: python -m benchmarks NAME [options]\n\nbenchmarks:")
        for name, summary in BENCHMARKS.items():
            print(f"  {name:12}{summary}")
        print("\nOptions of a benchmark: python -m benchmarks NAME --help")
        return 0
    name, *rest = argv
    lookup("benchmark", name, BENCHMARKS)
    status: int = importlib.import_module(f"benchmarks.{name}").run(rest)
    return status


if __name__ == "__main__":
    sys.exit(guard(run, sys.argv[1:]))
