"""Run one command and print the seconds that it took and the most memory that it held, in bytes.

`python -I -S child.py CORES COMMAND...`, with CORES such as `0,1`, or empty for those there are. The command's standard
output is thrown away. On Linux the peak of a process starts at that of the one that spawned it: this one is as small
as Python gets, so it imports nothing of ours.
"""

import os
import sys
import time

if __name__ == "__main__":
    cores, *command = sys.argv[1:]
    if cores:
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    began = time.perf_counter()
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    _, status, usage = os.wait4(os.posix_spawn(command[0], command, os.environ, file_actions=quiet), 0)
    seconds = time.perf_counter() - began
    print(seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
    code = os.waitstatus_to_exitcode(status)
    sys.exit(code if code >= 0 else 128 - code)
