"""The SQL that prunes for an operator: what was not changed since a time, of one owner or of all.

As `SQLAlchemyStore.prune` does it, but since a fixed time, so that what was counted before is what
is removed. The rules are those of ``housekeeping``.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Delete, Select, and_, bindparam, case, delete, func, select

from hermes_session_mw.database.connection import Database, text_of
from hermes_session_mw.database.dialects import SUPPORTED_DIALECTS
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.stores.sqlalchemy.admin.models import PruneCounts
from hermes_session_mw.stores.sqlalchemy.admin.queries import given, in_two_forms
from hermes_session_mw.stores.sqlalchemy.schema.tables import IS_STORED, keys, sessions
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import now_in_milliseconds, time_at
from hermes_session_mw.stores.sqlalchemy.statements.delete_prune import (
    BATCH,
    IS_FREE,
    LEADS_SOMEWHERE,
    StaleSession,
    lock_where,
    remove_locked,
)
from hermes_session_mw.stores.sqlalchemy.statements.keyset import is_after, place

_CUTOFF = time_at(bindparam("cutoff"))
_is_idle = (sessions.c.updated_at < _CUTOFF, IS_FREE)
_is_there = and_(*IS_STORED)
_kept = sessions.c.next_seq - sessions.c.first_seq + sessions.c.archived
_now = select(now_in_milliseconds())

_count = in_two_forms(
    select(
        func.sum(case((_is_there, 1), else_=0)),
        func.sum(case((_is_there, _kept), else_=0)),
        func.sum(case((_is_there, 0), else_=1)),
    ).where(*_is_idle)
)
_find: dict[str, dict[bool, Select[Any]]] = {
    dialect: in_two_forms(
        select(sessions.c.owner, sessions.c.id, _kept, sessions.c.fence, _is_there)
        .where(*_is_idle, is_after(dialect, sessions.c.owner, sessions.c.id))
        .order_by(sessions.c.owner, sessions.c.id)
        .limit(BATCH)
    )
    for dialect in SUPPORTED_DIALECTS
}
_lock = lock_where(*_is_idle)

_is_idle_key = (keys.c.updated_at < _CUTOFF, ~LEADS_SOMEWHERE)
_of_owner = keys.c.owner == bindparam("owner")
_count_keys = select(func.count()).select_from(keys).where(*_is_idle_key)
_drop_keys: Delete = delete(keys).where(*_is_idle_key)
_COUNT_KEYS = {False: _count_keys, True: _count_keys.where(_of_owner)}
_DROP_KEYS = {False: _drop_keys, True: _drop_keys.where(_of_owner)}


def now(database: Database) -> int:
    """Return the database's own time, in whole seconds from 1970."""
    ((milliseconds,),) = database.rows(_now, {})
    return int(milliseconds) // 1000


def count_idle(database: Database, cutoff: int, owner: str | None) -> PruneCounts:
    """Return what was not changed since ``cutoff``, in seconds from 1970."""
    values = {"cutoff": cutoff, **given(owner)}
    one = owner is not None
    (counts,) = database.rows(_count[one], values)
    ((named,),) = database.rows(_COUNT_KEYS[one], values)
    there, kept, empty_ids = (int(each or 0) for each in counts)  # a sum of nothing is NULL
    return PruneCounts(there, kept, empty_ids, int(named))


def find_idle(
    database: Database, cutoff: int, owner: str | None, after: tuple[str, str]
) -> tuple[list[StaleSession], frozenset[tuple[str, str]]]:
    """Return the next sessions, and the keys of those of them that hold a conversation."""
    values = {"cutoff": cutoff, **place("after", after), **given(owner)}
    rows = database.rows(_find[database.dialect][owner is not None], values)
    found = [
        StaleSession(text_of(whose), text_of(id_), int(kept), int(fence))
        for whose, id_, kept, fence, _ in rows
    ]
    there = {each[:2] for each, row in zip(found, rows, strict=True) if row[-1]}
    return found, frozenset(there)


def remove_idle(
    database: Database, cutoff: int, portion: Sequence[StaleSession]
) -> list[StaleSession]:
    """Remove those of ``portion`` that nobody has changed meanwhile, and return them."""
    return remove_locked(database, portion, _lock, {"cutoff": cutoff})


def drop_idle_keys(database: Database, cutoff: int, owner: str | None) -> int:
    """Drop the keys that were bound before ``cutoff`` and lead to nothing; return how many."""
    with transaction(database):
        values = {"cutoff": cutoff, **given(owner)}
        return database.run(_DROP_KEYS[owner is not None], values)
