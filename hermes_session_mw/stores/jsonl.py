"""The format of exports and imports: JSON Lines, one line for a session, then one a message.

::

    {"hermes_session": 1, "id": "...", "title": null, "created_at": "2026-01-31T12:00:00+00:00"}
    {"turn_id": "...", "message": {"role": "user", "content": "..."}}

A store exports and imports one session. A file of the command has any number of them, one after
another, and a session's first line may name its ``owner`` there. A session that has metadata has it
in its first line, as ``metadata``. Archived messages are not exported.
"""

import itertools
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any, NamedTuple

from hermes_session_mw.exceptions import InvalidKey, InvalidMessage
from hermes_session_mw.messages import Message, encode_messages
from hermes_session_mw.stores.models import SessionInfo
from hermes_session_mw.stores.validation import check_keys, check_title, encode_metadata

FORMAT = 1
"""The only version of the format; the value of ``_MARK`` in a session's first line."""

MAX_LINE = 2**30
"""Bytes of a line; no database can store a message that takes more."""

_MARK = "hermes_session"
"""The key that only the first line of a session has."""


@dataclass(frozen=True, slots=True)
class ExportedSession:
    """A session from an export; ``rows`` are turn ids and JSON texts, ``metadata`` a JSON text."""

    session_id: str
    title: str | None
    created_at: datetime
    rows: list[tuple[str, str]]
    metadata: str | None = None

    @property
    def turns(self) -> int:
        """The number of turns."""
        return len({turn_id for turn_id, _ in self.rows})


class SessionLines(NamedTuple):
    """The lines of one session in a file.

    Attributes:
        line: the number of its first line.
        text: its lines, as `parse` takes them.
        owner: the owner that the first line names, if it names one.
        size: how many bytes the lines take.
    """

    line: int
    text: str
    owner: str | None
    size: int

    @property
    def is_empty(self) -> bool:
        """Whether the session has no message, so that nothing can be stored."""
        head, _, rest = self.text.partition("\n")
        return _head(head) is not None and not rest.strip()


def dump(
    session: SessionInfo, rows: Iterable[tuple[str, str]], metadata: Message | None = None
) -> str:
    """Return the JSON Lines of a session; ``rows`` are turn ids and messages' JSON texts."""
    head: dict[str, Any] = {
        _MARK: FORMAT,
        "id": session.id,
        "title": session.title,
        "created_at": session.created_at.isoformat(),
    }
    if metadata is not None:
        head["metadata"] = metadata
    lines = [_json(head)]
    # The stored text itself, so that the message is unchanged.
    lines += [f'{{"turn_id":{_json(turn_id)},"message":{body}}}' for turn_id, body in rows]
    return "\n".join(lines) + "\n"


def with_owner(text: str, owner: str | None) -> str:
    """Return a session's lines with its owner in the first one, if it has an owner."""
    if not owner:
        return text
    head, _, rest = text.partition("\n")
    return f"{_json({**json.loads(head), 'owner': owner})}\n{rest}"


def parse(text: str, max_message_bytes: int) -> ExportedSession:
    """Return the session that the lines describe; ``InvalidMessage`` quotes nothing of them."""
    head, *rest = text.split("\n")
    session = _object(1, head)
    version = session.get(_MARK)
    if version != FORMAT or isinstance(version, bool):
        raise InvalidMessage(f"line 1 is not the first line of a session in format {FORMAT}")
    created_at = _created_at(session)
    numbered = [(number, line) for number, line in enumerate(rest, 2) if line.strip()]
    rows = [_row(number, line, max_message_bytes) for number, line in numbered]
    if not rows:
        raise InvalidMessage("there is no message to import")
    runs = [turn_id for turn_id, _ in itertools.groupby(turn_id for turn_id, _ in rows)]
    if len(runs) != len(set(runs)):
        raise InvalidMessage("a turn's messages are not consecutive")
    metadata = _metadata(session.get("metadata"), max_message_bytes)
    return ExportedSession(session["id"], session.get("title"), created_at, rows, metadata)


def split(stream: IO[bytes]) -> Iterator[SessionLines]:
    """Yield a file's sessions one at a time; ``InvalidMessage`` for an invalid line or owner."""
    lines: list[str] = []
    began, size, owner = 1, 0, None
    for number, raw in enumerate(iter(lambda: stream.readline(MAX_LINE), b""), 1):
        line = _decoded(number, raw)
        head = _head(line)
        if head is not None or not lines:
            if lines:
                yield SessionLines(began, "".join(lines), owner, size)
            lines, began, size, owner = [], number, 0, _owner(number, head)
        size += len(raw)
        if lines or line.strip():
            lines.append(line)
    if lines:
        yield SessionLines(began, "".join(lines), owner, size)


def normalized_rows(text: str) -> list[str]:
    """Return a session's message lines; equal messages and turns become equal texts."""
    rows = [line for line in text.split("\n")[1:] if line.strip()]
    return [json.dumps(json.loads(row), sort_keys=True) for row in rows]


def _created_at(session: dict[str, Any]) -> datetime:
    """Check a session's first line, and return its time; not every database can store any time."""
    try:
        created_at = datetime.fromisoformat(session["created_at"])
        check_keys(session["id"], "")
        check_title(session.get("title"))
    except (InvalidKey, KeyError, TypeError, ValueError):
        raise InvalidMessage("line 1 does not have a valid id, title and time") from None
    if created_at.tzinfo is None:
        raise InvalidMessage("line 1 has a time without its zone")
    return min(max(created_at, datetime.fromtimestamp(1, UTC)), datetime.now(UTC))


def _metadata(value: Any, max_bytes: int) -> str | None:
    if value is None:
        return None
    try:
        return encode_metadata(value, max_bytes)
    except InvalidMessage:
        raise InvalidMessage("line 1 has metadata that cannot be stored") from None


def _row(number: int, line: str, max_message_bytes: int) -> tuple[str, str]:
    row = _object(number, line)
    try:
        check_keys("-", "", row["turn_id"] or "")
    except (InvalidKey, KeyError):
        raise InvalidMessage(f"line {number} has no turn_id that can be stored") from None
    (body,) = encode_messages([row.get("message")], max_message_bytes)  # type: ignore[list-item]  # checked there
    return row["turn_id"], body


def _object(number: int, line: str) -> dict[str, Any]:
    found = _parsed(line)
    if found is None:
        raise InvalidMessage(f"line {number} is not a JSON object")
    return found


def _parsed(line: str) -> dict[str, Any] | None:
    """Return the JSON object of a line, or None if it is none."""
    with suppress(ValueError, RecursionError):
        found = json.loads(line)
        if isinstance(found, dict):
            return found
    return None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _decoded(number: int, raw: bytes) -> str:
    if len(raw) >= MAX_LINE:
        raise InvalidMessage(f"line {number} is longer than {MAX_LINE} bytes")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidMessage(f"line {number} is not UTF-8") from None


def _head(line: str) -> dict[str, Any] | None:
    """Return the line's object if it is the first line of a session."""
    found = _parsed(line) if f'"{_MARK}"' in line else None
    return found if found is not None and _MARK in found else None


def _owner(number: int, head: dict[str, Any] | None) -> str | None:
    owner = (head or {}).get("owner")
    if owner is None:
        return None
    if not isinstance(owner, str):
        raise InvalidMessage(f"line {number} has an owner that is not a text")
    try:
        check_keys("-", owner)
    except InvalidKey as exc:
        raise InvalidMessage(f"line {number}: {exc}") from None
    return owner
