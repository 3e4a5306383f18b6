"""What is done to whole sessions: deleting one, and those that nobody has used for long.

The rules are those of ``loading``. A lock is held for one portion of the work at a time.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    TextClause,
    Update,
    bindparam,
    delete,
    func,
    select,
    text,
    update,
)

from hermes_session_mw.database.connection import Database, text_of
from hermes_session_mw.database.dialects import MYSQL
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    IS_STORED,
    WHOSE,
    archive,
    keys,
    messages,
    of_session,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import now_in_milliseconds
from hermes_session_mw.stores.sqlalchemy.statements.fences import raise_floor
from hermes_session_mw.stores.sqlalchemy.statements.keyset import is_after, place
from hermes_session_mw.stores.sqlalchemy.statements.rewind_compact import TOUCH

BATCH = 500
"""Sessions that one statement looks for."""

OLDEST = timedelta(days=36500)
"""An age that no session has, and from which every database can still count back."""

_PORTION = 1000
"""Messages that one transaction removes, unless a single session has more."""


class StaleSession(NamedTuple):
    """A session that nobody has used for long; ``fence`` is the last number of its turns."""

    owner: str
    session_id: str
    length: int
    fence: int = 0


# Nobody is in its turn any more, so that a prune need not wait for the lease to end.
_GONE = {
    "deleted_at": func.now(),
    "updated_at": func.now(),
    "title": None,
    "parent_id": None,
    "leased_until": 0,
}
_mark_deleted = update(sessions).where(*WHOSE, *IS_STORED).values(_GONE)
_remove_contents = [
    delete(table).where(
        table.c.owner == bindparam("of_owner"), table.c.session_id == bindparam("of_session")
    )
    for table in (messages, archive, keys)
]
_remove_session = delete(sessions).where(*WHOSE)

# By the database's clock alone: those of several machines may differ. SQLite has no intervals.
_ON_MYSQL = "updated_at < now() - INTERVAL :seconds SECOND"
_IS_IDLE = {
    "sqlite": "updated_at < datetime('now', '-' || :seconds || ' seconds')",
    "postgresql": "updated_at < now() - make_interval(secs => :seconds)",
    **dict.fromkeys(MYSQL, _ON_MYSQL),
}
# Who is in a turn has not written yet, and is using it.
IS_FREE = sessions.c.leased_until <= now_in_milliseconds()
_OWNER, _ID = sessions.c.owner, sessions.c.id


def lock_where(*conditions: ColumnElement[bool] | TextClause) -> Update:
    """Return the statement that locks a session to be removed, for `remove_locked`."""
    return TOUCH.where(*conditions, sessions.c.fence <= bindparam("floor"))


_FIND = {
    dialect: select(_OWNER, _ID, sessions.c.next_seq, sessions.c.fence)
    .where(text(is_idle), IS_FREE, is_after(dialect, _OWNER, _ID))
    .order_by(_OWNER, _ID)
    .limit(BATCH)
    for dialect, is_idle in _IS_IDLE.items()
}
_LOCK = {dialect: lock_where(text(is_idle), IS_FREE) for dialect, is_idle in _IS_IDLE.items()}

LEADS_SOMEWHERE = select(_ID).where(keys.c.owner == _OWNER, keys.c.session_id == _ID).exists()
_DROP_IDLE_KEYS = {
    dialect: delete(keys).where(text(is_idle), ~LEADS_SOMEWHERE)
    for dialect, is_idle in _IS_IDLE.items()
}


def delete_session(database: Database, session_id: str, owner: str) -> bool:
    """Remove all that is in it, and leave a row that keeps the id from being used again."""
    key = of_session(session_id, owner)
    with transaction(database):
        found = database.run(_mark_deleted, key) > 0
        if found:
            _empty(database, key)
    return found


def find_expired(
    database: Database, seconds: float, after: tuple[str, str]
) -> Sequence[StaleSession]:
    """Return the next sessions, by owner and id, that were not written to for ``seconds``."""
    rows = database.rows(_FIND[database.dialect], {**place("after", after), "seconds": seconds})
    return [StaleSession(text_of(owner), text_of(id_), *numbers) for owner, id_, *numbers in rows]


def remove_expired(database: Database, portion: Sequence[StaleSession], seconds: float) -> int:
    """Remove those of ``portion`` that are expired still, and return how many."""
    return len(remove_locked(database, portion, _LOCK[database.dialect], {"seconds": seconds}))


def remove_locked(
    database: Database, portion: Sequence[StaleSession], lock: Update, values: dict[str, Any]
) -> list[StaleSession]:
    """Remove those of ``portion`` that ``lock``, with ``values``, finds; return them.

    A session that somebody was in a turn of since it was found stays, for its number is not below
    the floor.
    """
    removed = []
    floor = max(each.fence for each in portion)
    raise_floor(database, floor)
    with transaction(database):
        for each in portion:
            key = of_session(each.session_id, each.owner)
            if database.run(lock, {**key, **values, "floor": floor}):
                _empty(database, key)
                database.run(_remove_session, key)
                removed.append(each)
    return removed


def drop_idle_keys(database: Database, seconds: float) -> None:
    """Drop the keys that were bound so long ago, and under whose session nothing was stored."""
    with transaction(database):
        database.run(_DROP_IDLE_KEYS[database.dialect], {"seconds": seconds})


def portions(expired: Sequence[StaleSession]) -> Iterator[list[StaleSession]]:
    """Yield parts of ``expired`` that are small enough for one transaction."""
    portion: list[StaleSession] = []
    count = 0
    for session in expired:
        if portion and count + session.length > _PORTION:
            yield portion
            portion, count = [], 0
        portion.append(session)
        count += session.length
    if portion:
        yield portion


def _empty(database: Database, key: dict[str, Any]) -> None:
    for statement in _remove_contents:
        database.run(statement, key)
