"""Every public function of the geometry and of the theorem has an example, and every example runs."""

import doctest
import functools
import importlib
import inspect
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_theory import geometry, losses, theorem

MODULES = [
    "sublim_theory.geometry",
    *(f"sublim_theory.theorem.{m.name}" for m in pkgutil.iter_modules(theorem.__path__)),
]


@functools.cache
def names():
    """Names that the examples share: f is linear, the loss the squared error, so that G is the identity."""
    f, x = lambda w, x: x @ w, np.eye(2)
    instance = theorem.Instance(f, np.ones((2, 3)), lambda w: jnp.sum(w**2), x, imitation_loss="squared_error")
    return {"jax": jax, "jnp": jnp, "np": np, "f": f, "loss": losses.squared_error, "instance": instance}


def examples(module):
    found = doctest.DocTestFinder(exclude_empty=True).find(module, extraglobs=names())
    return [test for test in found if test.examples]


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_show(name):
    runner = doctest.DocTestRunner(verbose=False)
    for test in examples(importlib.import_module(name)):
        report = []
        runner.run(test, out=report.append)
        assert not runner.failures, f"{test.name}: {''.join(report)}"


def test_an_example_that_shows_something_else_fails():
    test = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert doctest.DocTestRunner(verbose=False).run(test, out=lambda _: None).failed == 1


def test_every_public_function_has_one():
    public = [getattr(theorem, name) for name in theorem.__all__]
    public += [value for name, value in vars(geometry).items() if not name.startswith("_")]
    functions = {f for f in public if inspect.isfunction(f) and f.__module__ in MODULES}
    assert len(functions) > 35
    lacking = [f"{f.__module__}.{f.__name__}" for f in functions if ">>>" not in (inspect.getdoc(f) or "")]
    assert not lacking
