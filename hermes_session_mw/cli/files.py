"""Files that exports go to and imports come from."""

import json
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

from hermes_session_mw.cli.errors import Failure
from hermes_session_mw.cli.text import safe_json
from hermes_session_mw.exceptions import InvalidKey
from hermes_session_mw.stores.validation import check_keys

HEAD = "hermes_session"
"""The key that only the first line of a session has."""

LONGEST = 2**30
"""Bytes of a line; no database has a place for a message that takes more."""


class Output(Protocol):
    """Where an export's texts go."""

    def write(self, text: str) -> None:
        """Write some of it."""
        ...


class Exported(NamedTuple):
    """A session as a file has it: its first line's number, its lines, and whose it was."""

    line: int
    lines: str
    owner: str | None
    size: int

    @property
    def is_empty(self) -> bool:
        """Whether it is a session without a message, of which nothing can be stored."""
        head, _, rest = self.lines.partition("\n")
        return _head(head) is not None and not rest.strip()


class _Binary:
    """Writes UTF-8, and for a terminal what it cannot act on."""

    def __init__(self, stream: IO[bytes], *, is_terminal: bool = False) -> None:
        self._stream = stream
        self._is_terminal = is_terminal

    def write(self, text: str) -> None:
        """See `Output.write`."""
        self._stream.write((safe_json(text) if self._is_terminal else text).encode())


@contextmanager
def writing(target: str) -> Iterator[Output]:
    """Give what writes to the file ``target``, or to stdout, where it is "-".

    The file is replaced at the end, or stays as it was; it can be read by its owner alone.
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


def with_owner(lines: str, owner: str | None) -> str:
    """Return an export whose first line says whose the session is, unless it is nobody's."""
    if not owner:
        return lines
    head, _, rest = lines.partition("\n")
    said = json.dumps(
        {**json.loads(head), "owner": owner}, ensure_ascii=False, separators=(",", ":")
    )
    return f"{said}\n{rest}"


def sessions_in(stream: IO[bytes]) -> Iterator[Exported]:
    """Yield the sessions of an export, one at a time, with how many bytes each takes.

    Raises:
        Failure: a line is too long, or not UTF-8.
    """
    lines: list[str] = []
    began, size, owner = 1, 0, None
    for number, raw in enumerate(iter(lambda: stream.readline(LONGEST), b""), 1):
        if len(raw) >= LONGEST:
            raise Failure(f"line {number} is longer than {LONGEST} bytes")
        try:
            line = raw.decode()
        except UnicodeDecodeError:
            raise Failure(f"line {number} is not UTF-8") from None
        head = _head(line)
        if head is not None or not lines:
            if lines:
                yield Exported(began, "".join(lines), owner, size)
            lines, began, size, owner = [], number, 0, _owner(number, head)
        size += len(raw)
        if lines or line.strip():
            lines.append(line)
    if lines:
        yield Exported(began, "".join(lines), owner, size)


def rows_of(lines: str) -> list[str]:
    """Return a session's messages with their turns, such that equal ones are equal texts."""
    rows = [line for line in lines.split("\n")[1:] if line.strip()]
    return [json.dumps(json.loads(row), sort_keys=True) for row in rows]


def _head(line: str) -> dict[str, Any] | None:
    if f'"{HEAD}"' not in line:
        return None
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and HEAD in found else None


def _owner(number: int, head: dict[str, Any] | None) -> str | None:
    owner = (head or {}).get("owner")
    if owner is None:
        return None
    if not isinstance(owner, str):
        raise Failure(f"line {number} has an owner that is not a text")
    try:
        check_keys("-", owner)
    except InvalidKey as exc:
        raise Failure(f"line {number}: {exc}") from None
    return owner
