"""Subliminal learning in JAX: shared-init networks, auxiliary-logit distillation, seed ensembles.

Submodules load on first use, so that `import sublim_theory` costs next to nothing and reading a saved
record never imports the training code. Importing touches no network and no global configuration.
"""

import importlib
from types import ModuleType

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "data",
    "devices",
    "ensemble",
    "geometry",
    "losses",
    "models",
    "networks",
    "noise",
    "optimizers",
    "record",
    "representations",
    "results",
    "statistics",
    "theorem",
    "training",
]


_GONE = {"processes": "use --workers N or --cluster HOST:PORT; see docs/how_to_scale.md"}
"""Modules of the release before, and what to use instead."""


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _GONE:
        raise AttributeError(f"{__name__}.{name} is gone: {_GONE[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
