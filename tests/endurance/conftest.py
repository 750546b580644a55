"""Shared by the tests of endurance: a whole run, once, and how long a run lives."""

import time

import pytest
from running import Runs


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    return Runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def lifetimes(runs, tmp_path_factory):
    """Seconds that a run takes, with the compilation cached and without."""
    taken = {}
    for cold in (False, True):
        began = time.perf_counter()
        out = tmp_path_factory.mktemp("lifetime")
        assert runs.run(out, cold=cold).returncode == 0
        taken[cold] = time.perf_counter() - began
        runs.require_same(out)
    return taken
