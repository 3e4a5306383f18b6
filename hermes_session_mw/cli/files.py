"""The files that exports are written to."""

import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

from hermes_session_mw.cli.text import safe_json


class Output(Protocol):
    """Writes the texts of an export."""

    def write(self, text: str) -> None:
        """Write a text."""
        ...


class _Binary:
    """Writes UTF-8; to a terminal without control characters."""

    def __init__(self, stream: IO[bytes], *, is_terminal: bool = False) -> None:
        self._stream = stream
        self._is_terminal = is_terminal

    def write(self, text: str) -> None:
        """See `Output.write`."""
        self._stream.write((safe_json(text) if self._is_terminal else text).encode())


@contextmanager
def writing(target: str) -> Iterator[Output]:
    """Open the file ``target`` for an export, or stdout if it is "-".

    The file is replaced at the end, or stays as it was after an error; only its owner can read it.
    """
    if target == "-":
        stream = sys.stdout.buffer
        yield _Binary(stream, is_terminal=sys.stdout.isatty())
        stream.flush()
        return
    given = Path(target)
    if given.exists() and not stat.S_ISREG(given.stat().st_mode):
        with given.open("wb") as device:
            yield _Binary(device)
        return
    path = Path(os.path.realpath(given))  # a link stays one
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(number, "wb") as file:
            yield _Binary(file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
