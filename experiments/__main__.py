"""`python -m experiments NAME ...` is `sublim reproduce NAME ...`."""

import sys

from experiments.command import reproduce
from sublim_theory.cli import guard

sys.exit(guard(reproduce, sys.argv[1:]))
