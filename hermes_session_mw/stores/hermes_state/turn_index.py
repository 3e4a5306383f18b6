"""Turn ids, in Hermes' table of keys and values: what a message's row could hold would be read.

Hermes looks keys up there by their names and never lists them, so a key of ours is nobody's else.
Each holds which rows the turn became: Hermes' row ids only grow, and are not used twice.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import text

from hermes_session_mw.database.connection import Database
from hermes_session_mw.exceptions import StoreCorrupt
from hermes_session_mw.messages import Message

_PREFIX = "hermes_session_mw:turn:"
_read = text("SELECT value FROM state_meta WHERE key = :key")
_write = text(
    "INSERT INTO state_meta (key, value) VALUES (:key, :value)"
    " ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)


@dataclass(frozen=True, slots=True)
class Turn:
    """What is kept of a turn.

    Attributes:
        began: when the session was begun: one that was deleted and begun anew had other turns.
        session: the session that its messages went to, which may continue the one asked for.
        first, last: the row ids of its messages, and all between are its messages.
        digest: of its messages, as they were appended.
        added: the keys that each message did not have, and has when it is read.
    """

    began: float
    session: str
    first: int
    last: int
    digest: str
    added: list[list[str]]


def recall(database: Database, session_id: str, turn_id: str, began: float) -> Turn | None:
    """Return the turn that was appended to this session under ``turn_id``.

    Raises:
        StoreCorrupt: what is kept of it cannot be read.
    """
    rows = database.rows(_read, {"key": _key(session_id, turn_id)})
    if not rows:
        return None
    try:
        turn = Turn(**json.loads(rows[0][0]))
    except (ValueError, TypeError):
        raise StoreCorrupt("what Hermes' table state_meta keeps of a turn is not legible") from None
    return turn if turn.began == began else None


def remember(database: Database, session_id: str, turn_id: str, turn: Turn) -> None:
    """Keep the turn under ``turn_id``."""
    value = json.dumps(asdict(turn))
    database.run(_write, {"key": _key(session_id, turn_id), "value": value})


def added_to(message: Message) -> list[str]:
    """Return the keys that Hermes gives every message, and this one does not have."""
    return [key for key in ("content", "timestamp") if key not in message]


def digest_of(messages: Sequence[Message]) -> str:
    """Return what tells these messages from others; the order of an object's keys does not."""
    canonical = json.dumps(list(messages), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _key(session_id: str, turn_id: str) -> str:
    # Neither holds a NUL. Hashed, ids do not lie about in a table that may be shown.
    return _PREFIX + hashlib.sha256(f"{session_id}\0{turn_id}".encode()).hexdigest()
