"""Shared by the tests of the theorem: 64-bit JAX for a whole file, the other fixtures included."""

import jax
import pytest


@pytest.fixture(scope="module")
def x64():
    """With `pytestmark = pytest.mark.usefixtures("x64")` it comes before every other fixture of the file."""
    with jax.enable_x64(True):
        yield
