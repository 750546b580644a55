"""The machine that numbers belong to."""

import os
import platform
import re
from pathlib import Path
from typing import Any

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "XLA_FLAGS")


def describe(load: float) -> dict[str, Any]:
    """What the numbers belong to, as far as the system tells."""
    try:
        model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        model = None
    return {
        "platform": platform.platform(),
        "processor": model[1] if model else platform.processor(),
        "cores": os.cpu_count(),
        "load_at_start": load,
        "environment": {name: os.environ[name] for name in THREADS if name in os.environ},
    }
