"""Shared by the tests: types that are checked as they run, quick compilation, hypothesis without deadlines, fig10."""

import os

# Compiling outlasts computing here. Before JAX is imported, and for the processes that tests start; `make reproduce`
# runs the optimised programs.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import hypothesis
import jax
import jaxtyping
import pytest

# Signatures are checked at every call, shapes included. This comes before the library is imported; as for mypy, an int
# is a float.
jaxtyping.install_import_hook("sublim_theory", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")
# A user may forbid ranks to be promoted without a word; the library and the experiments are held to it.
jax.config.update("jax_numpy_rank_promotion", "raise")

from experiments import fig10  # noqa: E402
from experiments.experiment import Context, run  # noqa: E402

hypothesis.settings.register_profile("shared-machine", deadline=None)
hypothesis.settings.load_profile("shared-machine")

TINY = fig10.PRESETS["smoke"].but(seeds=3, hidden=(16,), noise_images=300, teacher_epochs=2, student_epochs=2)


@pytest.fixture(scope="session")
def tiny():
    """Settings of fig10 that compile and run in a few seconds."""
    return TINY


@pytest.fixture(scope="session")
def tiny_record(tiny):
    """Their record, computed once, without interruption."""
    return run(fig10.EXPERIMENT, tiny, Context("smoke"))


@pytest.fixture
def unchecked():
    """No checks of signatures, for arguments that the library itself refuses in words."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
