"""Titles that Hermes' own column cannot have, since there is each one once in all of its file.

Another owner's title is a secret, also that there is one: an owner's title that is taken is kept
beside, in Hermes' table of keys and values, and the owner is told nothing of it. Hermes shows none
for the session then. As soon as Hermes gives the session a title itself, that one counts.
"""

import hashlib

from sqlalchemy import text

from hermes_session_mw.database.connection import Database

_PREFIX = "hermes_session_mw:title:"
_read = text("SELECT value FROM state_meta WHERE key = :key")
_write = text(
    "INSERT INTO state_meta (key, value) VALUES (:key, :value)"
    " ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)
_remove = text("DELETE FROM state_meta WHERE key = :key")


def kept_title(database: Database, session_id: str, began: int) -> str | None:
    """Return the title that is kept beside for a session, which ``began`` at that microsecond."""
    rows = database.rows(_read, {"key": _key(session_id, began)})
    return str(rows[0][0]) if rows else None


def keep_title(database: Database, session_id: str, began: int, title: str | None) -> None:
    """Keep a title beside, or none any more."""
    key = _key(session_id, began)
    if title is None:
        database.run(_remove, {"key": key})
    else:
        database.run(_write, {"key": key, "value": title})


def _key(session_id: str, began: int) -> str:
    # When it began tells a session from another that had its id before.
    return _PREFIX + hashlib.sha256(f"{session_id}\0{began}".encode()).hexdigest()
