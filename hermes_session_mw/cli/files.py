"""The files that exports are written to."""

import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from hermes_session_mw.cli.text import safe_json


class Output:
    """Writes the texts of an export as UTF-8; to a terminal without control characters."""

    def __init__(self, stream: IO[bytes], *, is_terminal: bool = False) -> None:
        self._stream = stream
        self._is_terminal = is_terminal

    def write(self, text: str) -> None:
        """Write a text."""
        self._stream.write((safe_json(text) if self._is_terminal else text).encode())


@contextmanager
def writing(target: str) -> Iterator[Output]:
    """Open the file ``target`` for an export, or stdout if it is "-".

    The file is replaced at the end, or stays as it was after an error; only its owner can read it.
    """
    if target == "-":
        stream = sys.stdout.buffer
        yield Output(stream, is_terminal=sys.stdout.isatty())
        stream.flush()
        return
    given = Path(target)
    if given.exists() and not stat.S_ISREG(given.stat().st_mode):
        with given.open("wb") as device:
            yield Output(device)
        return
    path = Path(os.path.realpath(given))  # a link stays one
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(number, "wb") as file:
            yield Output(file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
