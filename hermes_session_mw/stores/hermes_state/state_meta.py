"""Turn ids, and some titles, in Hermes' key-value table ``state_meta``.

Hermes looks keys up there by name and never lists them, so ours do not disturb it. Users may look
at the table, so ids are hashed. The time at which a session began is stored or hashed with its id:
it distinguishes the session from an earlier one with the same id.

A turn's entry has the ids of its rows. Hermes' row ids only grow, and are never reused.

Hermes' column ``title`` is unique in the whole file. The existence of another owner's title is a
secret: an owner's title that is taken is stored here instead, without an error, and Hermes shows
none for the session. A title that Hermes gives the session later takes precedence.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import text

from hermes_session_mw.database.connection import Database
from hermes_session_mw.exceptions import StoreCorrupt
from hermes_session_mw.messages import Message

_TURN = "hermes_session_mw:turn:"
_TITLE = "hermes_session_mw:title:"
_select = text("SELECT value FROM state_meta WHERE key = :key")
_upsert = text(
    "INSERT INTO state_meta (key, value) VALUES (:key, :value)"
    " ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)
_delete = text("DELETE FROM state_meta WHERE key = :key")


@dataclass(frozen=True, slots=True)
class TurnEntry:
    """The entry of a turn.

    Attributes:
        began: when the session began.
        session: the session that the messages went to, which may continue the one asked for.
        first: the row id of its first message.
        last: that of its last one; all rows between are its messages.
        digest: the digest of its messages, as they were appended.
        added: for each message, the keys that it gets only when it is read.
    """

    began: float
    session: str
    first: int
    last: int
    digest: str
    added: list[list[str]]


def load_turn(
    database: Database, session_id: str, turn_id: str, started_at: float
) -> TurnEntry | None:
    """Return the turn under ``turn_id``; raise ``StoreCorrupt`` where it cannot be read."""
    rows = database.rows(_select, {"key": _key(_TURN, session_id, turn_id)})
    if not rows:
        return None
    try:
        turn = TurnEntry(**json.loads(rows[0][0]))
    except (ValueError, TypeError):
        raise StoreCorrupt("a turn's entry in Hermes' table state_meta cannot be read") from None
    return turn if turn.began == started_at else None


def store_turn(database: Database, session_id: str, turn_id: str, turn: TurnEntry) -> None:
    """Store the turn under ``turn_id``."""
    key = _key(_TURN, session_id, turn_id)
    database.run(_upsert, {"key": key, "value": json.dumps(asdict(turn))})


def keys_added_to(message: Message) -> list[str]:
    """Return the keys that Hermes adds to every message and that this one lacks."""
    return [key for key in ("content", "timestamp") if key not in message]


def digest_of(messages: Sequence[Message]) -> str:
    """Return a digest of the messages; it does not depend on the order of an object's keys."""
    canonical = json.dumps(list(messages), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def load_title(database: Database, session_id: str, started_at: int) -> str | None:
    """Return the title stored here for a session that began at that microsecond."""
    rows = database.rows(_select, {"key": _key(_TITLE, session_id, started_at)})
    return str(rows[0][0]) if rows else None


def store_title(database: Database, session_id: str, started_at: int, title: str | None) -> None:
    """Store a title here, or remove it."""
    key = _key(_TITLE, session_id, started_at)
    if title is None:
        database.run(_delete, {"key": key})
    else:
        database.run(_upsert, {"key": key, "value": title})


def _key(prefix: str, session_id: str, other: str | int) -> str:
    return prefix + hashlib.sha256(f"{session_id}\0{other}".encode()).hexdigest()  # no id has NUL
