"""What the fuzz tests share: mutations of valid input, and bounds on the time and memory that an input may take."""

import contextlib
import json
import resource
import signal
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

SECONDS = 60  # for one input; a thousandth is the rule, `reproduce all --help` takes seconds on a busy machine
STATM = Path("/proc/self/statm")
HEADROOM = 1 << 30  # bytes of address space on top of what the process has

NUMBERS = [0, 1, 2, 127, 255, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFFE, 1 << 20]
TEXTS = st.text(st.characters(), max_size=5) | st.sampled_from(["nan", "\0", "\ud800", "x" * 10_000])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


def few_or_many(few, many):
    """The inputs of a test: few by default, many under the marker."""
    return pytest.mark.parametrize(
        "inputs", [pytest.param(few, id="few"), pytest.param(many, id="many", marks=pytest.mark.endurance)]
    )


def examples(inputs):
    """Hypothesis with so many inputs: the same few ones in every default run, new ones where there are many."""
    return settings(
        max_examples=inputs, derandomize=inputs < 1000, database=None, suppress_health_check=list(HealthCheck)
    )


class Hang(BaseException):
    """An input took too long; no `except Exception` swallows it."""


@contextlib.contextmanager
def bounded():
    """For one input, at most `SECONDS`, and `HEADROOM` more memory than now: a larger request is a `MemoryError`."""

    def stop(*_):
        raise Hang(f"an input took more than {SECONDS} s")

    pages = int(STATM.read_text().split()[0]) if STATM.exists() else None
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    if pages:  # elsewhere than on Linux, memory is not bounded
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + HEADROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def mutate(draw, data, other=b""):
    """Bytes near `data`: one to four times flipped, cut, repeated, spliced with `other`, or with a field changed."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        at, length = draw.randrange(len(data) + 1), draw.choice((1, 2, 4, 8, 64, 1000))
        start, form = draw.randrange(len(other) + 1), draw.choice(("<H", ">H", "<I", ">I"))
        field = struct.pack(form, draw.choice(NUMBERS) & (0xFFFF if form[1] == "H" else 0xFFFFFFFF))
        flipped = bytes(byte ^ 1 << draw.randrange(8) for byte in data[at : at + 1])
        data = draw.choice((
            data[:at],
            data[:at] + data[at + length :],
            data[: at + length] + data[at:],
            data[:at] + other[start : start + length] + data[at + length * draw.randrange(2) :],
            data[:at] + field + data[at + len(field) :],
            data[:at] + draw.randbytes(min(length, 8)) + data[at:],
            data[:at] + flipped + data[at + 1 :],
        ))  # fmt: skip
    return data


@st.composite
def mutated(draw, text):
    """JSON near `text`: one to three times a value replaced, removed or moved under another name."""
    tree = json.loads(text)
    for _ in range(draw(st.integers(1, 3))):
        parent, key = draw(st.sampled_from(list(_places(tree))))
        removed = parent.pop(key)
        if isinstance(parent, dict) and draw(st.integers(0, 4)):
            parent[draw(st.sampled_from([key, key, key, "", "values", "x"]))] = draw(JSON | st.just([removed, removed]))
        elif isinstance(parent, list) and draw(st.integers(0, 4)):
            parent.insert(key, draw(JSON))
        if not tree:
            break
    return json.dumps(tree)


def _places(tree):
    """Where a value stands: its container, and its key or index there."""
    for key, value in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
        yield tree, key
        if isinstance(value, dict | list):
            yield from _places(value)
