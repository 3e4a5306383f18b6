"""The format of exports and imports: JSON Lines, one line for a session, then one a message.

::

    {"hermes_session": 1, "id": "...", "title": null, "created_at": "2026-01-31T12:00:00+00:00",
     "updated_at": "2026-01-31T12:05:00+00:00"}
    {"turn_id": "...", "created_at": "2026-01-31T12:00:00+00:00",
     "message": {"role": "user", "content": "..."}}

A store exports and imports one session. A file of the command has any number of them, one after
another, and a session's first line may name its ``owner`` there. A session that has metadata has it
in its first line, as ``metadata``, and one that has a setting of expiry of its own has that, as
``expires_after``, in seconds or ``"never"``; one that has labels has its ``tags``, and whether it
is ``pinned`` and ``shelved``. Exports of 0.1.0 have no ``updated_at`` and no message's
``created_at``, and its import leaves out what it does not know. Archived messages are not exported.
"""

import itertools
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, Any, NamedTuple

from hermes_session_mw.exceptions import InvalidKey, InvalidMessage
from hermes_session_mw.messages import Message, encode_messages
from hermes_session_mw.stores.expiry import Setting, setting_as_json, setting_from_json
from hermes_session_mw.stores.labels import Labels, labels_in
from hermes_session_mw.stores.models import SessionInfo
from hermes_session_mw.stores.validation import check_keys, check_title, encode_metadata

FORMAT = 1
"""The only version of the format; the value of ``_MARK`` in a session's first line."""

MAX_LINE = 2**30
"""Bytes of a line; no database can store a message that takes more."""

_MARK = "hermes_session"
"""The key that only the first line of a session has."""


class ExportedRow(NamedTuple):
    """A message of an export; ``body`` is a JSON text, ``created_at`` None where it is not told."""

    turn_id: str
    body: str
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ExportedSession:
    """A session from an export; ``metadata`` is a JSON text.

    ``updated_at`` is None where the export does not tell, and may be still to come: the store's own
    clock tells.
    """

    session_id: str
    title: str | None
    created_at: datetime
    rows: list[ExportedRow]
    metadata: str | None = None
    updated_at: datetime | None = None
    expires_after: Setting | None = None
    labels: Labels = field(default_factory=Labels)

    @property
    def turns(self) -> int:
        """The number of turns."""
        return len({row.turn_id for row in self.rows})


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
    session: SessionInfo,
    rows: Iterable[ExportedRow],
    metadata: Message | None = None,
    expires_after: Setting | None = None,
) -> str:
    """Return the JSON Lines of a session; ``expires_after`` is its own setting."""
    head: dict[str, Any] = {
        _MARK: FORMAT,
        "id": session.id,
        "title": session.title,
        "created_at": session.created_at.isoformat(),
        "updated_at": session.updated_at.isoformat(),
    }
    labels = {"tags": session.tags, "pinned": session.pinned, "shelved": session.shelved}
    head |= {name: value for name, value in labels.items() if value}
    if metadata is not None:
        head["metadata"] = metadata
    if expires_after is not None:
        head["expires_after"] = setting_as_json(expires_after)
    lines = [_json(head)]
    # The stored text itself, so that the message is unchanged.
    lines += [
        f'{{"turn_id":{_json(turn_id)},{_created(created_at)}"message":{body}}}'
        for turn_id, body, created_at in rows
    ]
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
    created_at, updated_at = _times(session)
    numbered = [(number, line) for number, line in enumerate(rest, 2) if line.strip()]
    rows = [_row(number, line, max_message_bytes) for number, line in numbered]
    if not rows:
        raise InvalidMessage("there is no message to import")
    runs = [turn_id for turn_id, _ in itertools.groupby(row.turn_id for row in rows)]
    if len(runs) != len(set(runs)):
        raise InvalidMessage("a turn's messages are not consecutive")
    metadata = _metadata(session.get("metadata"), max_message_bytes)
    return ExportedSession(
        session["id"],
        session.get("title"),
        created_at,
        rows,
        metadata,
        updated_at,
        _expires_after(session.get("expires_after")),
        _labels(session),
    )


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
    """Return a session's message lines; equal messages and turns become equal texts.

    Times are left out: not every database keeps a time as exactly.
    """
    rows = [json.loads(line) for line in text.split("\n")[1:] if line.strip()]
    return [
        json.dumps({key: row[key] for key in row if key != "created_at"}, sort_keys=True)
        for row in rows
    ]


def _times(session: dict[str, Any]) -> tuple[datetime, datetime | None]:
    """Check a session's first line, and return when it was created, and changed if that is known.

    Not every database can store any time.
    """
    changed = session.get("updated_at")
    try:
        created_at = datetime.fromisoformat(session["created_at"])
        updated_at = None if changed is None else datetime.fromisoformat(changed)
        check_keys(session["id"], "")
        check_title(session.get("title"))
    except (InvalidKey, KeyError, TypeError, ValueError):
        raise InvalidMessage("line 1 does not have a valid id, title and time") from None
    if created_at.tzinfo is None or (updated_at is not None and updated_at.tzinfo is None):
        raise InvalidMessage("line 1 has a time without its zone")
    created_at = _storable(created_at)
    return created_at, None if updated_at is None else max(updated_at, created_at)


def _labels(session: dict[str, Any]) -> Labels:
    try:
        return labels_in(session)
    except (TypeError, ValueError):
        raise InvalidMessage("line 1 has labels that cannot be stored") from None


def _metadata(value: Any, max_bytes: int) -> str | None:
    if value is None:
        return None
    try:
        return encode_metadata(value, max_bytes)
    except InvalidMessage:
        raise InvalidMessage("line 1 has metadata that cannot be stored") from None


def _created(at: datetime | None) -> str:
    return "" if at is None else f'"created_at":{_json(at.isoformat())},'


def _storable(at: datetime) -> datetime:
    """Return the nearest time that every database can store, and that is not to come, in UTC."""
    return min(max(at, datetime.fromtimestamp(1, UTC)), datetime.now(UTC)).astimezone(UTC)


def _expires_after(value: Any) -> Setting | None:
    try:
        return None if value is None else setting_from_json(value)
    except ValueError:
        raise InvalidMessage("line 1 has an expires_after that is not a time") from None


def _row(number: int, line: str, max_message_bytes: int) -> ExportedRow:
    row = _object(number, line)
    try:
        check_keys("-", "", row["turn_id"] or "")
    except (InvalidKey, KeyError):
        raise InvalidMessage(f"line {number} has no turn_id that can be stored") from None
    (body,) = encode_messages([row.get("message")], max_message_bytes)  # type: ignore[list-item]  # checked there
    try:
        written = row.get("created_at")
        created_at = None if written is None else _storable(datetime.fromisoformat(written))
    except (TypeError, ValueError, OverflowError):
        # A time without its zone cannot be compared, which is a TypeError.
        raise InvalidMessage(
            f"line {number} has a created_at that is no time with a zone"
        ) from None
    return ExportedRow(row["turn_id"], body, created_at)


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
