"""SQL that keeps clients' own keys and sessions' metadata, in Hermes' table ``state_meta``.

Metadata belongs to the id that it was set under, and to the session that it was set for: one that
Hermes begins under the same id later has none.
"""

import json

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.transactions import snapshot, transaction
from hermes_session_mw.exceptions import SessionDeleted, SessionTaken
from hermes_session_mw.messages import Message
from hermes_session_mw.stores.hermes_state.schema import Columns, columns_of
from hermes_session_mw.stores.hermes_state.session_chain import find_chain
from hermes_session_mw.stores.hermes_state.state_meta import (
    MetadataEntry,
    is_deleted,
    load_key,
    load_metadata,
    remove_key,
    store_key,
    store_metadata,
)


def bind_key(database: Database, key: str, new_id: str, owner: str) -> str:
    """See `LifecycleStore.bind_key`."""
    with transaction(database):
        _columns_with_meta(database)
        bound = load_key(database, key, owner)
        if bound is None:
            store_key(database, key, owner, new_id)
        return new_id if bound is None else bound


def move_key(database: Database, key: str, session_id: str, owner: str) -> None:
    """See `LifecycleStore.move_key`."""
    with transaction(database):
        _columns_with_meta(database)
        store_key(database, key, owner, session_id)


def find_key(database: Database, key: str, owner: str) -> str | None:
    """See `LifecycleStore.find_key`."""
    with snapshot(database):
        _columns_with_meta(database)
        return load_key(database, key, owner)


def drop_key(database: Database, key: str, owner: str) -> bool:
    """See `LifecycleStore.drop_key`."""
    with transaction(database):
        _columns_with_meta(database)
        return remove_key(database, key, owner)


def set_metadata(database: Database, session_id: str, body: str, owner: str) -> None:
    """See `LifecycleStore.set_metadata`; ``body`` is its JSON text."""
    with transaction(database):
        columns = _columns_with_meta(database)
        chain = find_chain(database, columns, session_id, owner)
        if chain is None and is_deleted(database, session_id):
            raise SessionDeleted
        entry = load_metadata(database, session_id)
        is_anothers = chain is None and entry is not None and entry.owner != owner
        if is_anothers or (chain is not None and not chain.is_own):
            raise SessionTaken
        began = None if chain is None else chain.started_at
        store_metadata(database, session_id, MetadataEntry(began, owner, body))


def find_metadata(database: Database, session_id: str, owner: str) -> Message | None:
    """See `LifecycleStore.find_metadata`."""
    with snapshot(database):
        body = metadata_of(database, _columns_with_meta(database), session_id, owner)
        return None if body is None else dict(json.loads(body))


def metadata_of(database: Database, columns: Columns, session_id: str, owner: str) -> str | None:
    """Return the JSON text of a session's metadata, if there is some and the owner may see it."""
    entry = load_metadata(database, session_id)
    if entry is None:
        return None
    chain = find_chain(database, columns, session_id, owner)
    if chain is None:
        return entry.body if not owner or entry.owner == owner else None
    is_its_own = entry.began in (None, chain.started_at)
    return entry.body if chain.is_own and is_its_own else None


def _columns_with_meta(database: Database) -> Columns:
    columns = columns_of(database)
    columns.check_known("keys and metadata", "state_meta.key", "state_meta.value")
    return columns
