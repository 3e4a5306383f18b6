"""The SQL of the keys by which clients name their sessions."""

from typing import Any

from sqlalchemy import bindparam, delete, select

from hermes_session_mw.database.connection import Database, text_of
from hermes_session_mw.database.dialects import upsert
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.stores.sqlalchemy.schema.tables import keys
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import now

_KEY: dict[str, Any] = {
    "owner": bindparam("owner"),
    "name": bindparam("name"),
    "session_id": bindparam("session_id"),
}
_MOVED = {"session_id": bindparam("session_id"), "updated_at": now()}
# Locks a key that exists: it might be dropped before it is read.
_UNCHANGED = {"session_id": keys.c.session_id}

_BIND = upsert(keys, _KEY, _UNCHANGED)
_MOVE = upsert(keys, _KEY, _MOVED)
_IS_KEY = (keys.c.owner == bindparam("of_owner"), keys.c.name == bindparam("of_name"))
_find = select(keys.c.session_id).where(*_IS_KEY)
_drop = delete(keys).where(*_IS_KEY)


def bind_key(database: Database, key: str, new_id: str, owner: str) -> str:
    """See `LifecycleStore.bind_key`."""
    bound = find_key(database, key, owner)
    if bound is None:
        parameters = {"owner": owner, "name": key, "session_id": new_id}
        with transaction(database):
            database.run(_BIND[database.dialect], parameters)
            bound = find_key(database, key, owner)
    return bound or new_id


def move_key(database: Database, key: str, session_id: str, owner: str) -> None:
    """See `LifecycleStore.move_key`."""
    parameters = {"owner": owner, "name": key, "session_id": session_id}
    with transaction(database):
        database.run(_MOVE[database.dialect], parameters)


def find_key(database: Database, key: str, owner: str) -> str | None:
    """See `LifecycleStore.find_key`."""
    rows = database.rows(_find, _of_key(key, owner))
    return text_of(rows[0][0]) if rows else None


def drop_key(database: Database, key: str, owner: str) -> bool:
    """See `LifecycleStore.drop_key`."""
    with transaction(database):
        return database.run(_drop, _of_key(key, owner)) > 0


def _of_key(key: str, owner: str) -> dict[str, Any]:
    return {"of_name": key, "of_owner": owner}
