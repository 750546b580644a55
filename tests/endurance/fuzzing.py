"""What the fuzz tests share: mutations of valid input, and bounds on the time and memory that an input may take."""

import contextlib
import json
import resource
import signal
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

SECONDS = 60  # for one input; a thousandth is the rule, `reproduce all --help` takes seconds on a busy machine
STATM = Path("/proc/self/statm")
HEADROOM = 1 << 30  # bytes of address space on top of what the process has

NUMBERS = [0, 1, 2, 127, 255, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFFE, 1 << 20]
VALUES = [
    None, True, False, 0, 1, -1, 2**31, 10**400, -(10**30), 0.5, 1e308, -1e308, 5e-324, float("nan"), float("inf"),
    "", "x", "nan", "\0", "\ud800", "x" * 10_000, [], {}, [[]], [None], [1e308, 1e308], {"values": []}, ["a"], {"": {}},
]  # fmt: skip


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
        kind = draw.randrange(8)
        if kind == 0:
            data = data[:at]
        elif kind == 1:
            data = data[:at] + data[at + length :]
        elif kind == 2:
            data = data[: at + length] + data[at:]
        elif kind == 3:
            start = draw.randrange(len(other) + 1)
            data = data[:at] + other[start : start + length] + data[at + length * draw.randrange(2) :]
        elif kind == 4:
            form = draw.choice(("<H", ">H", "<I", ">I"))
            field = struct.pack(form, draw.choice(NUMBERS) & (0xFFFF if form[1] == "H" else 0xFFFFFFFF))
            data = data[:at] + field + data[at + len(field) :]
        elif kind == 5:
            data = data[:at] + bytes(draw.randrange(256) for _ in range(min(length, 8))) + data[at:]
        elif data:
            at = min(at, len(data) - 1)
            data = data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]
    return data


def mutate_json(draw, text):
    """JSON near `text`: values replaced, removed, renamed, repeated, moved or buried deep; NaN and Infinity too."""
    tree = json.loads(text)
    for _ in range(draw.choice((1, 1, 2, 4))):
        places = [(tree, None)]
        for node, _ in places:  # grows while it is walked
            children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
            places += [(child, (node, key)) for key, child in children]
            if len(places) > 2000:
                break
        node, where = draw.choice(places)
        if where is None:
            continue
        parent, key = where
        kind = draw.randrange(6)
        if kind < 3:
            parent[key] = draw.choice(VALUES)
        elif kind == 3:
            del parent[key]
        elif kind == 4 and isinstance(parent, dict):
            parent[draw.choice(("", "values", "schema", "x"))] = parent.pop(key)
        else:
            parent[key] = draw.choice(places)[0] if draw.randrange(2) else [node, node]
        tree = json.loads(json.dumps(tree, default=str)) if _finite_tree(tree) else json.loads(text)
    written = json.dumps(tree)
    return written.replace('"x"', "[" * 100_000, 1) if draw.randrange(20) == 0 else written


def _finite_tree(tree):
    """Whether nothing contains itself, which moving may bring about."""
    try:
        json.dumps(tree)
    except (ValueError, RecursionError):
        return False
    return True
