"""Types that the library shares, and the glossary of axis names.

Axis names in signatures and docstrings, always in this order:

| name | meaning |
|---|---|
| `seeds` | independent repetitions of an experiment; added once, from outside, by `ensemble` |
| `steps` | optimiser updates of one run |
| `examples` | rows of a data set |
| `batch` | examples that are processed together |
| `positions` | places in a sequence |
| `features` | pixels of a flattened image |
| `units` | activations of one layer |
| `logits` | outputs of a network: the `classes` first, then the `auxiliary` ones |

An axis that `vmap` adds is in no signature: the mapped function does not see it.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import numpy as np
from jaxtyping import Integer, Key, Real, UInt32

Array: TypeAlias = jax.Array

AnyArray: TypeAlias = jax.Array | np.ndarray
"""An array of JAX, which may be traced, or of numpy."""

PRNGKey: TypeAlias = Key[Array, ""] | UInt32[Array, "_"]
"""One PRNG key, typed or raw."""

Scalar: TypeAlias = float | int | np.floating | np.integer | Real[np.ndarray, ""] | Real[Array, ""]
"""A real number, plain, of numpy or of JAX; it may be traced."""

Whole: TypeAlias = int | np.integer | Integer[np.ndarray, ""] | Integer[Array, ""]
"""A whole number, plain, of numpy or of JAX; it may be traced."""

Params: TypeAlias = Any
"""A pytree of arrays. Networks of this library use `{layer: {"kernel": ..., "bias": ...}}`."""

Inputs: TypeAlias = Any
"""A pytree of arrays [inputs, ...]."""

Apply: TypeAlias = Callable[..., Any]
"""`apply(params, x [batch, features]) -> logits [batch, logits]`, a pure function."""

PerExampleLoss: TypeAlias = Callable[..., Any]
"""`loss(student_logits [batch, logits], teacher_logits [batch, logits]) -> [batch]`, unreduced."""

TeacherLoss: TypeAlias = Callable[[Any], Any]
"""`teacher_loss(params) -> scalar`: any differentiable function of the parameters."""
