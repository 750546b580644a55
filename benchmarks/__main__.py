"""`python -m benchmarks NAME [options]`: measure, write a record, print its table."""

import sys
from importlib import import_module

from benchmarks.turns import BENCHMARKS
from sublim_theory.cli import guard
from sublim_theory.protocols import lookup


def main(argv: list[str]) -> int:
    """Run the benchmark that the first word names; the status is 0, whatever was measured."""
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: python -m benchmarks NAME [options]\n\nbenchmarks:")
        for name, (_, summary) in BENCHMARKS.items():
            print(f"  {name:12}{summary}")
        print("\nOptions of a benchmark: python -m benchmarks NAME --help")
        return 0
    name, *rest = argv
    module, _ = lookup("benchmark", name, BENCHMARKS)
    getattr(import_module(f"benchmarks.{module}"), name.upper())(name, rest)
    return 0


if __name__ == "__main__":
    sys.exit(guard(main, sys.argv[1:]))
