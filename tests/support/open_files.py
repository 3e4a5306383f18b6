"""The files that this process has open, by name, so that no other test's file is counted."""

import os
from pathlib import Path


def open_files(beginning: str) -> int:
    """Return how many files are open whose name begins so: a path, or ``anon_inode:[eventfd]``."""
    names = (name_of(descriptor) for descriptor in os.listdir("/proc/self/fd"))
    return sum(name.startswith(beginning) for name in names)


def name_of(descriptor: str) -> str:
    """Return the name of an open file; of one that was closed meanwhile, nothing."""
    try:
        return str(Path("/proc/self/fd", descriptor).readlink())
    except FileNotFoundError:
        return ""
