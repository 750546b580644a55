"""Shared by the tests: quick compilation, hypothesis without deadlines (shared machines), and a tiny fig10."""

import dataclasses
import os

# Compiling outlasts computing here. Before JAX is imported, and for the processes that tests start; `make reproduce`
# runs the optimised programs.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import hypothesis
import pytest

from experiments import fig10

hypothesis.settings.register_profile("shared-machine", deadline=None)
hypothesis.settings.load_profile("shared-machine")

TINY = dataclasses.replace(
    fig10.PRESETS["smoke"], seeds=3, hidden=(16,), noise_images=300, teacher_epochs=2, student_epochs=2
)


@pytest.fixture(scope="session")
def tiny():
    """A config of fig10 that compiles and runs in a few seconds."""
    return TINY


@pytest.fixture(scope="session")
def tiny_result(tiny):
    """Its record, computed once, without interruption."""
    return fig10.run(tiny, preset="smoke")
