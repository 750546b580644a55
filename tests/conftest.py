"""Shared by the tests: types that are checked as they run, quick compilation, hypothesis without deadlines, fig10."""

import collections
import functools
import importlib.metadata
import os
import zlib

# Compiling outlasts computing here. Before JAX is imported, and for the processes that tests start; `make reproduce`
# runs the optimised programs.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if importlib.metadata.version("jaxlib").startswith(("0.8.", "0.9.", "0.10.")):  # later ones end at an unknown flag
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")

import hypothesis
import jax
import jaxtyping
import pytest
from filelock import FileLock

# Signatures are checked at every call, shapes included. This comes before the library is imported; as for mypy, an int
# is a float.
jaxtyping.install_import_hook("sublim_theory", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")
# A user may forbid ranks to be promoted without a word; the library and the experiments are held to it.
jax.config.update("jax_numpy_rank_promotion", "raise")

import small  # noqa: E402

from experiments import fig10  # noqa: E402
from experiments.experiment import Context, run  # noqa: E402
from experiments.registry import find  # noqa: E402
from sublim_theory.record import load  # noqa: E402

hypothesis.settings.register_profile("shared-machine", deadline=None)
hypothesis.settings.load_profile("shared-machine")

TINY = fig10.PRESETS["smoke"].but(seeds=3, **small.TINY)


LONG = {
    *("browser", "endurance", "theorem"),
    *(
        "test_devices",
        "test_docs",
        "test_docstrings",
        "test_exercises",
        "test_figures",
        "test_language",
        "test_linearised",
    ),
    *("test_notebooks", "test_package", "test_readme", "test_report", "test_selfcheck", "test_sweep", "test_workers"),
    *("test_owl_defences", "test_owl_gap", "test_owl_theorem", "test_owl_tokens", "test_owl_traps"),
}
"""Folders and files whose tests train, compile much or start processes; the others are a minute in all."""


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items):
    """Mark what `make check` leaves out: what asks for a record trains, too."""
    for item in items:
        if "recorded" in getattr(item, "fixturenames", ()) or {item.path.stem, item.path.parent.name} & LONG:
            item.add_marker("training")


def pytest_terminal_summary(terminalreporter):
    """What is skipped, in a line a reason however many tests it stops."""
    skipped = [report.longrepr[2] for report in terminalreporter.stats.get("skipped", ())]
    for reason, count in collections.Counter(skipped).items():
        terminalreporter.write_line(f"{count} skipped: {reason.removeprefix('Skipped: ')}", yellow=True)


@pytest.fixture(scope="session")
def tiny():
    """Settings of fig10 that compile and run in a few seconds."""
    return TINY


@pytest.fixture(scope="session")
def recorded(tmp_path_factory):
    """`recorded(name, settings)`: the saved record of an experiment, run once for all tests, in all workers."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder

    @functools.cache
    def record(name, settings):
        place = folder / f"{name}-{zlib.crc32(repr(settings).encode())}"
        with FileLock(f"{place}.lock"):
            if not (place / "summary.json").exists():
                run(find(name), settings, Context("smoke")).save(place)
            return load(place)

    return record


@pytest.fixture(scope="session")
def tiny_record(tiny, recorded):
    """Their record, computed once, without interruption."""
    return recorded("fig10", tiny)


@pytest.fixture
def unchecked():
    """No checks of signatures, for arguments that the library itself refuses in words."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
