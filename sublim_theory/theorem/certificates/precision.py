"""Python-flint, or what to install, and its settings, which are one for the whole process."""

import contextlib
import threading
from collections.abc import Iterator

try:
    import flint
except ImportError as error:
    raise ImportError(
        "certificates need python-flint, which is not installed: pip install 'sublim-theory[certificates]'"
    ) from error

__all__ = ["flint", "flint_at"]

_LOCK = threading.RLock()


@contextlib.contextmanager
def flint_at(bits: int, length: int = 10) -> Iterator[None]:
    """Flint with this precision and this length of power series; the settings found come back, whatever happens.

    One thread at a time is in here, so that none of them changes another's precision.
    """
    with _LOCK:
        before = flint.ctx.prec, flint.ctx.cap
        flint.ctx.prec, flint.ctx.cap = bits, length
        try:
            yield
        finally:
            flint.ctx.prec, flint.ctx.cap = before
