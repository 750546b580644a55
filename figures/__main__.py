"""`python -m figures FOLDER ...`: draw the records in these folders again, without running anything."""

import sys
from pathlib import Path

import figures
from sublim_theory.protocols import SublimError
from sublim_theory.record import load

if len(sys.argv) < 2:
    sys.exit("usage: python -m figures FOLDER ...  (each a record)")
try:
    for name in sys.argv[1:]:
        for path in figures.save(load(name), Path(name)):
            print(f"wrote {path}")
except SublimError as error:
    sys.exit(str(error))
