"""Faults inside a process under test: Python imports this before anything else, being on its `PYTHONPATH`.

Environment variables, each optional:
    FAULT_SIGNAL: `NUMBER:MOMENT:NAME:COUNT`, a signal to itself at the COUNT-th rename of a file to a name that ends in
        NAME: `half` (the temporary file cut to half, as if within the write), `before` or `after` the rename.
    FAULT_CLOCK: the wall clock jumps by years at every look, back and forth.
    FAULT_LIMIT: no file may grow beyond so many bytes: the next best thing to a full disk.
"""

import itertools
import os
import signal
import time
from pathlib import Path


def _signal_at_a_rename(number, moment, name, count):
    replace, left = os.replace, int(count)

    def disturbed(source, target, **options):
        nonlocal left
        left -= os.fspath(target).endswith(name)
        now = left == 0 and os.fspath(target).endswith(name)
        if now and moment == "half":
            os.truncate(source, Path(source).stat().st_size // 2)
        if now and moment != "after":
            os.kill(os.getpid(), int(number))
        replace(source, target, **options)
        if now and moment == "after":
            os.kill(os.getpid(), int(number))

    os.replace = disturbed


def _let_the_clock_jump():
    wall, jumps = time.time, itertools.cycle((0, 3e8, -3e8, 60, -1.5e9))
    time.time = lambda: wall() + next(jumps)
    time.time_ns = lambda: int(time.time() * 1e9)


# A shell's background jobs, and what they start, ignore Ctrl-C; a process under test is to hear it.
signal.signal(signal.SIGINT, signal.default_int_handler)
if "FAULT_SIGNAL" in os.environ:
    _signal_at_a_rename(*os.environ["FAULT_SIGNAL"].split(":"))
if "FAULT_CLOCK" in os.environ:
    _let_the_clock_jump()
if "FAULT_LIMIT" in os.environ:
    import resource

    limit = int(os.environ["FAULT_LIMIT"])
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
