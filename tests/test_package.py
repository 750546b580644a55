"""Importing is cheap and changes nothing; what the package promises by name is there."""

import subprocess
import sys

import pytest

import sublim_theory


def fresh(code):
    """Output of a new interpreter in which warnings are errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_import_loads_none_of_the_heavy_libraries():
    heavy = {"jax", "flax", "optax", "numpy", "scipy", "sklearn", "matplotlib", "pooch", "rich", "tyro"}
    assert fresh(f"import sys, sublim_theory; print(sorted({heavy!r} & set(sys.modules)))") == "[]"


def test_no_submodule_changes_the_configuration_of_jax():
    names = ", ".join(f"sublim_theory.{name}" for name in sublim_theory.__all__ if name != "__version__")
    code = f"import jax; before = dict(jax.config.values); import {names}; print(before == dict(jax.config.values))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "True\n"


def test_public_submodules_are_there_and_others_are_refused_with_their_names():
    for name in sublim_theory.__all__:
        assert getattr(sublim_theory, name)
    assert set(sublim_theory.__all__) <= set(dir(sublim_theory))
    with pytest.raises(AttributeError, match=r"no attribute 'modles'; it has .*models"):
        sublim_theory.modles  # noqa: B018
