"""Shared by the tests of the theorem: nothing is promoted in silence, and 64-bit JAX for a whole file that asks."""

import contextlib

import jax
import pytest


@contextlib.contextmanager
def no_promotion():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(scope="module", autouse=True)
def strict():
    """Neither dtypes nor ranks are promoted, in the tests' own functions and in the library."""
    with no_promotion():
        yield


@pytest.fixture(scope="module")
def x64():
    """With `pytestmark = pytest.mark.usefixtures("x64")` it comes before every other fixture of the file but that."""
    with no_promotion(), jax.enable_x64(True):
        yield
