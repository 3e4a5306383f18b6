"""One session as JSON Lines: a line about the session, then a line for each message.

::

    {"hermes_session": 1, "id": "...", "title": null, "created_at": "2026-01-31T12:00:00+00:00"}
    {"turn_id": "...", "message": {"role": "user", "content": "..."}}

Rules of this file: pure functions. What was archived is not exported, nor whose the session is.
"""

import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hermes_session_mw.exceptions import InvalidKey, InvalidMessage
from hermes_session_mw.messages import encode_messages
from hermes_session_mw.stores.models import SessionInfo
from hermes_session_mw.stores.validation import check_keys, check_title

FORMAT = 1
"""The only number that ``hermes_session`` has had."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """A session on its way from one store to another; ``rows`` are turn ids and JSON texts."""

    session_id: str
    title: str | None
    created_at: datetime
    rows: list[tuple[str, str]]

    @property
    def created(self) -> int:
        """The whole seconds from 1970 to the time of its creation."""
        return int(self.created_at.timestamp())

    @property
    def turns(self) -> int:
        """How many turns the messages came in."""
        return len({turn_id for turn_id, _ in self.rows})


def write(session: SessionInfo, rows: Iterable[tuple[str, str]]) -> str:
    """Return the JSON Lines of a session; ``rows`` are turn ids and messages' JSON texts."""
    head = {
        "hermes_session": FORMAT,
        "id": session.id,
        "title": session.title,
        "created_at": session.created_at.isoformat(),
    }
    lines = [_json(head)]
    # The text goes in as it is, so that the message comes out as it went in.
    lines += [f'{{"turn_id":{_json(turn_id)},"message":{body}}}' for turn_id, body in rows]
    return "\n".join(lines) + "\n"


def read(lines: str, max_message_bytes: int) -> Transfer:
    """Return what the lines say.

    Raises:
        InvalidMessage: they are not such lines; nothing in the error's text comes from them.
    """
    head, *rest = lines.split("\n")
    session = _object(1, head)
    number = session.get("hermes_session")
    if number != FORMAT or isinstance(number, bool):
        raise InvalidMessage(f"line 1 does not say that it is format {FORMAT} of a session")
    try:
        created_at = datetime.fromisoformat(session["created_at"])
        check_keys(session["id"], "")
        check_title(session.get("title"))
    except (InvalidKey, KeyError, TypeError, ValueError):
        raise InvalidMessage("line 1 has no such id, title and time as a session has") from None
    if created_at.tzinfo is None:
        raise InvalidMessage("line 1 has a time without its zone")
    numbered = [(number, line) for number, line in enumerate(rest, 2) if line.strip()]
    rows = [_row(number, line, max_message_bytes) for number, line in numbered]
    if not rows:
        raise InvalidMessage("there is no message to import")
    runs = [turn_id for turn_id, _ in itertools.groupby(turn_id for turn_id, _ in rows)]
    if len(runs) != len(set(runs)):
        raise InvalidMessage("a turn's messages do not stand together")
    # Neither before 1970 nor after now, which not every database can hold.
    now = datetime.now(UTC)
    created_at = min(max(created_at, datetime.fromtimestamp(1, UTC)), now)
    return Transfer(session["id"], session.get("title"), created_at, rows)


def _row(number: int, line: str, max_message_bytes: int) -> tuple[str, str]:
    row = _object(number, line)
    try:
        check_keys("-", "", row["turn_id"] or "")
    except (InvalidKey, KeyError):
        raise InvalidMessage(f"line {number} has no turn_id that can be stored") from None
    (body,) = encode_messages([row.get("message")], max_message_bytes)  # type: ignore[list-item]  # looked at there
    return row["turn_id"], body


def _object(number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidMessage(f"line {number} is not a JSON object")
    return found


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
