"""The SQL that looks at the sessions of all owners; the rules are those of ``loading``.

Statements come in two forms, for one owner and for all, by whether an owner is given.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Integer, Select, and_, bindparam, case, distinct, func, or_, select, text

from hermes_session_mw.database.connection import Database, Row, text_of
from hermes_session_mw.database.dialects import MYSQL, SUPPORTED_DIALECTS
from hermes_session_mw.stores import jsonl
from hermes_session_mw.stores.pagination import cursor_to, place_in, place_of, time_of
from hermes_session_mw.stores.sqlalchemy.admin.models import OwnedPage, OwnedSession, Totals
from hermes_session_mw.stores.sqlalchemy.schema import tables
from hermes_session_mw.stores.sqlalchemy.schema.tables import IS_STORED, sessions
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import microseconds_of
from hermes_session_mw.stores.sqlalchemy.statements.keyset import is_after, place, snapshot
from hermes_session_mw.stores.sqlalchemy.statements.list_sessions import (
    BEFORE,
    CHANGED,
    FACTS,
    NO_VALUE,
    ROWS,
    as_info,
    info,
    of_another_type,
)

WALK = 500
"""Sessions that one statement of a walk finds."""

_OWNER, _ID = sessions.c.owner, sessions.c.id
_of_owner = bindparam("owner") == _OWNER
_owned = FACTS.add_columns(_OWNER, sessions.c.turns, sessions.c.archived)


def in_two_forms(statement: Any) -> dict[bool, Select[Any]]:
    """Return a statement about all owners, and about one."""
    return {False: statement, True: statement.where(_of_owner)}


_last_owner = bindparam("last_owner", type_=_OWNER.type)
_survey = in_two_forms(
    _owned.where(
        or_(
            CHANGED < BEFORE,
            and_(
                CHANGED == BEFORE,
                or_(
                    _last_owner < _OWNER,
                    and_(_last_owner == _OWNER, bindparam("last_id", type_=_ID.type) < _ID),
                ),
            ),
        )
    )
    .order_by(CHANGED.desc(), _OWNER, _ID)
    .limit(bindparam("most"))
)
_find = in_two_forms(_owned.where(bindparam("session_id", type_=_ID.type) == _ID).order_by(_OWNER))
_walk = {
    dialect: in_two_forms(
        _owned.where(is_after(dialect, _OWNER, _ID)).order_by(_OWNER, _ID).limit(WALK)
    )
    for dialect in SUPPORTED_DIALECTS
}
_like = in_two_forms(
    select(_ID)
    .where(
        *IS_STORED,
        func.substr(_ID, 1, bindparam("size", type_=Integer)) == bindparam("start", type_=_ID.type),
    )
    .order_by(sessions.c.updated_at.desc(), _ID)
    .limit(bindparam("most"))
)
_sum = func.sum
_totals = in_two_forms(
    select(
        func.count(),
        _sum(sessions.c.next_seq - sessions.c.first_seq),
        _sum(sessions.c.turns),
        _sum(sessions.c.archived),
        func.count(distinct(case((bindparam("nobody", type_=_OWNER.type) != _OWNER, _OWNER)))),
        _sum(case((bindparam("nobody", type_=_OWNER.type) == _OWNER, 1), else_=0)),
        microseconds_of(func.min(sessions.c.created_at)),
        microseconds_of(func.max(sessions.c.updated_at)),
    ).where(*IS_STORED)
)
_deleted = in_two_forms(
    select(func.count()).select_from(sessions).where(sessions.c.deleted_at.is_not(None))
)
_TABLES = [table.name for table in tables.metadata.sorted_tables]
_size_on_mysql = text(
    "SELECT data_length + index_length FROM information_schema.tables"
    " WHERE table_schema = database() AND table_name = :name"
)
_SIZE = {
    "postgresql": text("SELECT pg_total_relation_size(to_regclass(:name))"),
    **dict.fromkeys(MYSQL, _size_on_mysql),
}
_SIZE_OF_FILE = text("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")


def survey(
    database: Database, owner: str | None, most: int, after: tuple[int, str, str]
) -> list[OwnedSession]:
    """Return up to ``most`` sessions, the ones changed last first, that come after a place."""
    changed, last_owner, last_id = after
    values = {"changed": changed, "last_owner": last_owner, "last_id": last_id, "most": most}
    return _all(database.rows(_survey[owner is not None], values | given(owner)))


def find(database: Database, session_id: str, owner: str | None) -> list[OwnedSession]:
    """Return the sessions that have the id, by owner; without one this reads the whole table."""
    values = {"session_id": session_id, **given(owner)}
    return _all(database.rows(_find[owner is not None], values))


def walk(database: Database, owner: str | None, after: tuple[str, str]) -> list[OwnedSession]:
    """Return the next ``WALK`` sessions in the order of owner and id."""
    values = {**place("after", after), **given(owner)}
    return _all(database.rows(_walk[database.dialect][owner is not None], values))


def ids_like(database: Database, start: str, owner: str | None, most: int) -> list[str]:
    """Return ids that begin with ``start``, which is ASCII, the ones changed last first."""
    values = {"start": start, "size": len(start), "most": most, **given(owner)}
    return [text_of(id_) for (id_,) in database.rows(_like[owner is not None], values)]


def totals(database: Database, owner: str | None) -> Totals:
    """Return what there is; sizes where it is of all owners. No message is read for it."""
    one = owner is not None
    with snapshot(database):
        (counts,) = database.rows(_totals[one], {"nobody": "", **given(owner)})
        ((deleted,),) = database.rows(_deleted[one], given(owner))
        sizes = {} if one else _sizes(database)
    # Sums are Decimal here and there, and NULL of nothing.
    count, length, turns, archived, owners, ownerless = (int(each or 0) for each in counts[:6])
    oldest, newest = (None if each is None else time_of(each) for each in counts[6:])
    return Totals(
        sessions=count,
        messages=length,
        turns=turns,
        archived=archived,
        owners=owners,
        ownerless=ownerless,
        deleted=int(deleted),
        oldest=oldest,
        newest=newest,
        bytes=sizes,
    )


def lines(database: Database, session_id: str, owner: str) -> str | None:
    """Return what `LifecycleStore.export` does, without a lock; None where there is no session."""
    with snapshot(database):
        found = info(database, session_id, owner)
        rows = database.rows(ROWS, {"session_id": session_id, "owner": owner}) if found else []
    if found is None:
        return None
    return jsonl.write(found, [(text_of(turn_id), body) for turn_id, body in rows])


def given(owner: str | None) -> dict[str, str]:
    """Return the parameter that a statement about one owner has."""
    return {} if owner is None else {"owner": owner}


def page_of_owned(found: list[OwnedSession], limit: int) -> OwnedPage:
    """Return the first ``limit`` of ``found``, and a cursor if there are more."""
    if len(found) <= limit:
        return OwnedPage(found, None)
    last = found[limit - 1]
    return OwnedPage(
        found[:limit], cursor_to(place_of(last.info).changed, last.owner, last.info.id)
    )


def place_in_survey(cursor: str | None) -> tuple[int, str, str]:
    """Return where the page before ended.

    Raises:
        ValueError: the cursor is not one that a page gave.
    """
    if cursor is None:
        return 2**63 - 1, "", ""
    changed, (owner, session_id) = place_in(cursor, 255, 256)
    return changed, owner, session_id


def _all(rows: Sequence[Row]) -> list[OwnedSession]:
    try:
        return [
            OwnedSession(as_info(facts), text_of(owner), int(turns), int(archived))
            for *facts, owner, turns, archived in rows
        ]
    except NO_VALUE:
        raise of_another_type() from None


def _sizes(database: Database) -> dict[str, int]:
    if database.dialect == "sqlite":
        ((size,),) = database.rows(_SIZE_OF_FILE, {})
        return {"database": int(size)}
    found = {name: database.rows(_SIZE[database.dialect], {"name": name}) for name in _TABLES}
    return {name: int(rows[0][0] or 0) for name, rows in found.items() if rows}
