"""An instance of Theorem 1 that a user keeps in a file, checked without writing a test: `sublim verify FILE.py`."""

import inspect
import os
import runpy
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sublim_theory.protocols import SublimError
from sublim_theory.theorem import TheoremReport, verify

REQUIRED = ("f", "params", "teacher_loss", "inputs")
"""What the file must define; the other arguments of `theorem.verify` are taken where they are there."""


class InstanceError(SublimError, ValueError):
    """An instance that cannot be checked; the message names the file, and what is missing or wrong."""


def check(path: Path) -> TheoremReport:
    """Run a Python file and verify the instance that it defines.

    Args:
        path: the file. It is run as a script is, with its own folder first among those that are searched, but for
            its `if __name__ == "__main__":`.

    Raises:
        InstanceError: if the file cannot be run, lacks a name, or `theorem.verify` refuses what it defines.
    """
    found = _run(path)
    if missing := [name for name in REQUIRED if name not in found]:
        raise InstanceError(f"{path} defines no {', '.join(missing)}; it must define {', '.join(REQUIRED)}")
    names = inspect.signature(verify).parameters
    try:
        return verify(**{name: found[name] for name in names if name in found})
    except SublimError:
        raise
    except (ValueError, TypeError) as error:
        raise InstanceError(f"{path} cannot be checked: {_line(error)}") from error
    except Exception as error:
        raise InstanceError(f"{path} cannot be checked: {_where(error, path)}") from error


def _run(path: Path) -> Mapping[str, Any]:
    sys.path.insert(0, os.fspath(path.absolute().parent))
    try:
        return runpy.run_path(os.fspath(path), run_name="instance")
    except SystemExit as error:
        raise InstanceError(f"{path} ended by itself, with status {error.code}, before it could be checked") from error
    except Exception as error:
        raise InstanceError(f"{path} cannot be run: {_where(error, path)}") from error
    finally:
        sys.path.pop(0)


def _where(error: Exception, path: Path) -> str:
    """What went wrong, and on which line of the file."""
    own = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == os.fspath(path)]
    line = error.lineno if isinstance(error, SyntaxError) else own[-1] if own else None
    return f"{f'line {line}: ' if line else ''}{type(error).__name__}: {_line(error)}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
