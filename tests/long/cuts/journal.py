"""The journal of a run: what the model, the workers and the program did, in one order.

Each line is one ``write`` to a file that is open for appending, so that the lines of all processes
are in the order in which they happened, and none is lost with its process. The times are the
machine's monotonic clock, which all its processes share.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Journal:
    """Appends lines to the journal's file, for one process of the run."""

    def __init__(self, path: str | Path, worker: str = "") -> None:
        self._worker = worker
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def note(self, what: str, **facts: object) -> None:
        """Append a line; it is in the file when this returns."""
        line = {"t": time.monotonic(), "what": what, "worker": self._worker, **facts}
        os.write(self._file, f"{json.dumps(line)}\n".encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines, in order."""
    with path.open() as lines:
        for line in lines:
            yield json.loads(line)
