"""What Hermes has no column for, in its key-value table ``state_meta``: turn ids, some titles, ...

Hermes looks keys up there by name and never lists them, so ours do not disturb it. Users may look
at the table, so ids are hashed. The time at which a session began is stored or hashed with its id:
it distinguishes the session from an earlier one with the same id.

Beside those are the keys that clients have for sessions, metadata, and the ids that were deleted
here, which Hermes does not know of: one that it uses again is no deleted one any more.

A turn's entry has the ids of its rows. Hermes' row ids only grow, and are never reused.

Hermes' column ``title`` is unique in the whole file. The existence of another owner's title is a
secret: an owner's title that is taken is stored here instead, without an error, and Hermes shows
none for the session. A title that Hermes gives the session later takes precedence.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from sqlalchemy import text

from hermes_session_mw.database.connection import Database
from hermes_session_mw.exceptions import StoreCorrupt
from hermes_session_mw.messages import ITEM, Message

_OURS = "hermes_session_mw:"
_TURN = "turn"
_TITLE = "title"
_DELETED = "deleted"
_KEY = "key"
_METADATA = "metadata"
# Of the OpenAI API's responses: the response with its answer, and reasoning that came as an item.
_BESIDE = ("metadata", ITEM)
_select = text("SELECT value FROM state_meta WHERE key = :key")
_upsert = text(
    "INSERT INTO state_meta (key, value) VALUES (:key, :value)"
    " ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)
_delete = text("DELETE FROM state_meta WHERE key = :key")
_delete_bound = text(
    "DELETE FROM state_meta WHERE key >= :first AND key < :last AND value = :session_id"
)


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
        beside: for each message, what it was appended with and Hermes has no column for.
    """

    began: float
    session: str
    first: int
    last: int
    digest: str
    added: list[list[str]]
    beside: list[Message] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class MetadataEntry:
    """The entry of a session's metadata.

    Attributes:
        began: when the session began; None if it was set before the first message.
        owner: whose it was then.
        body: the metadata's JSON text.
    """

    began: float | None
    owner: str
    body: str


def load_turn(
    database: Database, session_id: str, turn_id: str, started_at: float
) -> TurnEntry | None:
    """Return the turn under ``turn_id``; raise ``StoreCorrupt`` where it cannot be read."""
    value = load_value(database, _TURN, session_id, turn_id)
    if value is None:
        return None
    try:
        turn = TurnEntry(**json.loads(value))
    except (ValueError, TypeError):
        raise StoreCorrupt("a turn's entry in Hermes' table state_meta cannot be read") from None
    return turn if turn.began == started_at else None


def store_turn(database: Database, session_id: str, turn_id: str, turn: TurnEntry) -> None:
    """Store the turn under ``turn_id``."""
    store_value(database, json.dumps(asdict(turn)), _TURN, session_id, turn_id)


def beside_of(message: Message) -> Message:
    """Return what is stored in the turn's entry, and not in Hermes' table."""
    return {key: message[key] for key in _BESIDE if key in message}


def without_beside(message: Message) -> Message:
    """Return the message without that."""
    return {key: value for key, value in message.items() if key not in _BESIDE}


def keys_added_to(message: Message) -> list[str]:
    """Return the keys that Hermes adds to every message and that this one lacks."""
    return [key for key in ("content", "timestamp") if key not in message]


def digest_of(messages: Sequence[Message]) -> str:
    """Return a digest of the messages; it does not depend on the order of an object's keys."""
    canonical = json.dumps(list(messages), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def load_title(database: Database, session_id: str, started_at: int) -> str | None:
    """Return the title stored here for a session that began at that microsecond."""
    return load_value(database, _TITLE, session_id, started_at)


def store_title(database: Database, session_id: str, started_at: int, title: str | None) -> None:
    """Store a title here, or remove it."""
    if title is None:
        remove_value(database, _TITLE, session_id, started_at)
    else:
        store_value(database, title, _TITLE, session_id, started_at)


def is_deleted(database: Database, session_id: str) -> bool:
    """Tell whether an id that Hermes' table does not have was deleted here."""
    return load_value(database, _DELETED, session_id) is not None


def mark_deleted(database: Database, session_id: str) -> None:
    """Keep the id from being used again, and drop the keys that lead to it."""
    store_value(database, "1", _DELETED, session_id)
    remove_value(database, _METADATA, session_id)
    bounds = {"first": f"{_OURS}{_KEY}:", "last": f"{_OURS}{_KEY};"}
    database.run(_delete_bound, {**bounds, "session_id": session_id})


def load_key(database: Database, key: str, owner: str) -> str | None:
    """Return the id of the session that a client's key leads to."""
    return load_value(database, _KEY, owner, key)


def store_key(database: Database, key: str, owner: str, session_id: str) -> None:
    """Have a client's key lead to the session."""
    store_value(database, session_id, _KEY, owner, key)


def remove_key(database: Database, key: str, owner: str) -> bool:
    """Remove a client's key; return whether it was there."""
    return remove_value(database, _KEY, owner, key)


def load_metadata(database: Database, session_id: str) -> MetadataEntry | None:
    """Return the session's metadata; raise ``StoreCorrupt`` where it cannot be read."""
    value = load_value(database, _METADATA, session_id)
    if value is None:
        return None
    try:
        return MetadataEntry(**json.loads(value))
    except (ValueError, TypeError):
        raise StoreCorrupt("metadata in Hermes' table state_meta cannot be read") from None


def store_metadata(database: Database, session_id: str, entry: MetadataEntry) -> None:
    """Store the session's metadata in place of what it was."""
    store_value(database, json.dumps(asdict(entry)), _METADATA, session_id)


def load_value(database: Database, kind: str, *names: str | int) -> str | None:
    """Return the value of a kind under these names."""
    rows = database.rows(_select, {"key": _key(kind, names)})
    return str(rows[0][0]) if rows else None


def store_value(database: Database, value: str, kind: str, *names: str | int) -> None:
    """Store the value of a kind under these names."""
    database.run(_upsert, {"key": _key(kind, names), "value": value})


def remove_value(database: Database, kind: str, *names: str | int) -> bool:
    """Remove the value of a kind under these names; return whether there was one."""
    return bool(database.run(_delete, {"key": _key(kind, names)}))


def _key(kind: str, names: Sequence[str | int]) -> str:
    joined = "\0".join(map(str, names))  # no id has NUL
    return f"{_OURS}{kind}:{hashlib.sha256(joined.encode()).hexdigest()}"
