"""Runs a command, and prints the seconds and bytes that it took: ``python -I spawning.py COMMAND``.

A process begins with the peak memory of the one that started it, as Linux counts it: so that one
has to be small, and this imports next to nothing.
"""

import json
import os
import sys
import time

began = time.perf_counter()
discarded = os.open(os.devnull, os.O_WRONLY)
command = sys.argv[1:]
child = os.posix_spawn(
    command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, discarded, 1)]
)
_, status, usage = os.wait4(child, 0)
took = {
    "returncode": os.waitstatus_to_exitcode(status),
    "wall": time.perf_counter() - began,
    "cpu": usage.ru_utime + usage.ru_stime,
    "bytes": usage.ru_maxrss * 1024,
}
sys.stdout.write(json.dumps(took))
