"""How this package runs programs: in float64 whatever the caller's setting, and compiled quickly where small."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

LITTLE = 1e8
"""Parameters times inputs below which compiling takes longer than computing."""

_QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}
"""Options of XLA with which a program of this package compiles in a third of the time."""


@contextlib.contextmanager
def in_float64() -> Iterator[None]:
    """Float64 at full precision inside, whatever the caller's setting and transformation; nothing changed outside.

    A value that is not finite is no error inside, even where the caller debugs with `jax_debug_nans`: some are masked
    later, and the others are named.
    """
    # In a caller's transformation only: elsewhere it would compile every constant of every traced function by itself.
    now = jax.ensure_compile_time_eval() if _transformed() else contextlib.nullcontext()
    precision = jax.default_matmul_precision("highest")
    with now, jax.enable_x64(True), precision, jax.debug_nans(False), jax.debug_infs(False):
        yield


def compiled(function: Callable[..., Any], work: float = 0.0) -> Callable[..., Any]:
    """`jax.jit` of `own(function)`, quickly where the work (parameters times inputs) is little."""
    return jax.jit(own(function), compiler_options=quick_options() if work < LITTLE else None)


def own(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, as an object of ours.

    JAX 0.10 keeps what it learns about a function by the object's identity, and would hand numpy arrays in float64,
    over which a caller's function closes, to a gradient that the caller takes in float32.
    """

    def called(*arguments: Any) -> Any:
        return function(*arguments)

    called.__name__ = called.__qualname__ = getattr(function, "__name__", called.__name__)
    return called


@functools.cache
def quick_options() -> dict[str, Any]:
    """Those of the options that this version of XLA knows."""

    def known(options: dict[str, Any]) -> bool:
        try:
            jax.jit(lambda: 0, compiler_options=options).lower().compile()
        except jax.errors.JaxRuntimeError:
            return False
        return True

    return _QUICK if known(_QUICK) else {name: value for name, value in _QUICK.items() if known({name: value})}


def _transformed() -> bool:
    """Whether the caller is being traced."""
    try:
        np.asarray(jax.device_put(np.zeros(())))  # nothing to compile
    except jax.errors.TracerArrayConversionError:
        return True
    return False
