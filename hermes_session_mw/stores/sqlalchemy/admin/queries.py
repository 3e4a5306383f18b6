"""The SQL that reads the sessions of all owners, or of one where an owner is given."""

import dataclasses
from collections.abc import Sequence

from sqlalchemy import Integer, bindparam, case, distinct, func, select, text

from hermes_session_mw.database.connection import Database, Row, text_of
from hermes_session_mw.database.dialects import MYSQL, SUPPORTED_DIALECTS
from hermes_session_mw.database.transactions import snapshot
from hermes_session_mw.stores import jsonl
from hermes_session_mw.stores.pagination import (
    FIRST_OF_ALL,
    OwnedPosition,
    Position,
    encode_cursor,
    list_order,
    owned_position_of,
    time_of,
)
from hermes_session_mw.stores.sqlalchemy.admin import answer_queries
from hermes_session_mw.stores.sqlalchemy.admin.models import OwnedPage, OwnedSession, Totals
from hermes_session_mw.stores.sqlalchemy.schema import tables
from hermes_session_mw.stores.sqlalchemy.schema.answer_tables import has_answers
from hermes_session_mw.stores.sqlalchemy.schema.tables import IS_STORED, Target, sessions
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import microseconds_of
from hermes_session_mw.stores.sqlalchemy.statements import delete_prune
from hermes_session_mw.stores.sqlalchemy.statements.delete_prune import PruneCounts
from hermes_session_mw.stores.sqlalchemy.statements.keyset import (
    is_after,
    of_all_or_one,
    owner_parameter,
    position,
)
from hermes_session_mw.stores.sqlalchemy.statements.list_sessions import EXPORTED, info
from hermes_session_mw.stores.sqlalchemy.statements.session_metadata import find_metadata
from hermes_session_mw.stores.sqlalchemy.statements.session_pages import (
    OwnerPages,
    after_owned,
    of_every_owner,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_row import (
    LENGTH,
    SESSION_INFO,
    WRONG_TYPE,
    session_info,
    wrong_type,
)

WALK = 500
"""Sessions that one call of `walk` returns."""

_OWNER, _ID = sessions.c.owner, sessions.c.id
_owned = SESSION_INFO.add_columns(sessions.c.turns, sessions.c.archived)

_pages = OwnerPages(_owned)
_list_owned = of_all_or_one(of_every_owner(_owned), _OWNER)
_find = of_all_or_one(
    _owned.where(bindparam("session_id", type_=_ID.type) == _ID).order_by(_OWNER), _OWNER
)
_walk = {
    dialect: of_all_or_one(
        _owned.where(is_after(dialect, _OWNER, _ID)).order_by(_OWNER, _ID).limit(WALK), _OWNER
    )
    for dialect in SUPPORTED_DIALECTS
}
_with_prefix = of_all_or_one(
    select(_ID)
    .where(
        *IS_STORED,
        func.substr(_ID, 1, bindparam("size", type_=Integer)) == bindparam("start", type_=_ID.type),
    )
    .order_by(sessions.c.updated_at.desc(), _ID)
    .limit(bindparam("limit")),
    _OWNER,
)
_sum = func.sum
_totals = of_all_or_one(
    select(
        func.count(),
        _sum(LENGTH),
        _sum(sessions.c.turns),
        _sum(sessions.c.archived),
        func.count(distinct(case((bindparam("no_owner", type_=_OWNER.type) != _OWNER, _OWNER)))),
        _sum(case((bindparam("no_owner", type_=_OWNER.type) == _OWNER, 1), else_=0)),
        microseconds_of(func.min(sessions.c.created_at)),
        microseconds_of(func.max(sessions.c.updated_at)),
    ).where(*IS_STORED),
    _OWNER,
)
_deleted = of_all_or_one(
    select(func.count()).select_from(sessions).where(sessions.c.deleted_at.is_not(None)), _OWNER
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


def list_owned(
    database: Database, owner: str | None, limit: int, after: OwnedPosition
) -> list[OwnedSession]:
    """Return up to ``limit`` sessions after a position, the most recently changed first."""
    changed, last_owner, last_id = after
    if owner is not None and (owner == last_owner or after == FIRST_OF_ALL):
        rows = _pages.rows(database, owner, limit, Position(changed, last_id))
        return sorted(_owned_sessions(rows), key=lambda each: list_order(each.info))[:limit]
    parameters = {**after_owned(after, limit), **owner_parameter(owner)}
    return _owned_sessions(database.rows(_list_owned[owner is not None], parameters))


def find(database: Database, session_id: str, owner: str | None) -> list[OwnedSession]:
    """Return the sessions that have the id, by owner; without one this reads the whole table."""
    parameters = {"session_id": session_id, **owner_parameter(owner)}
    return _owned_sessions(database.rows(_find[owner is not None], parameters))


def walk(database: Database, owner: str | None, after: tuple[str, str]) -> list[OwnedSession]:
    """Return the next ``WALK`` sessions in the order of owner and id."""
    parameters = {**position("after", after), **owner_parameter(owner)}
    return _owned_sessions(database.rows(_walk[database.dialect][owner is not None], parameters))


def ids_with_prefix(database: Database, start: str, owner: str | None, limit: int) -> list[str]:
    """Return ids that begin with ``start``, which is ASCII, the most recently changed first."""
    parameters = {"start": start, "size": len(start), "limit": limit, **owner_parameter(owner)}
    return [text_of(id_) for (id_,) in database.rows(_with_prefix[owner is not None], parameters)]


def totals(database: Database, owner: str | None) -> Totals:
    """Return the counts, and of all owners the sizes too; no message is read for it."""
    one = owner is not None
    may_answer = has_answers(database)
    with snapshot(database):
        (counts,) = database.rows(_totals[one], {"no_owner": "", **owner_parameter(owner)})
        ((deleted,),) = database.rows(_deleted[one], owner_parameter(owner))
        sizes = {} if one else _sizes(database)
        answers = answer_queries.totals(database, owner) if may_answer else (None,) * 3
    # Some databases return sums as Decimal, and a sum of nothing is NULL.
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
        open_answers=answers[0],
        ended_answers=answers[1],
        answer_events=answers[2],
    )


def count_stale(database: Database, cutoff: float, owner: str | None) -> PruneCounts:
    """Count what a prune would remove, and the answers that it would fold."""
    counts = delete_prune.count_stale(database, cutoff, owner)
    ended, lapsed = answer_queries.count_swept(database, cutoff, owner)
    return dataclasses.replace(counts, answers=ended, folded=lapsed)


def export_snapshot(database: Database, session_id: str, owner: str) -> str | None:
    """Return the session as `export` does, but without a lock; None where there is none."""
    with snapshot(database):
        found = info(database, session_id, owner, folds=False)
        rows = (
            database.rows(EXPORTED, Target(of_session=session_id, of_owner=owner)) if found else []
        )
        metadata = find_metadata(database, session_id, owner)
    if found is None:
        return None
    return jsonl.dump(found, [(text_of(turn_id), body) for turn_id, body in rows], metadata)


def page_of_owned(found: list[OwnedSession], limit: int) -> OwnedPage:
    """Return the first ``limit`` of ``found``, and a cursor if there are more."""
    if len(found) <= limit:
        return OwnedPage(found, None)
    return OwnedPage(found[:limit], encode_cursor(*owned_position_of(found[limit - 1].info)))


def _owned_sessions(rows: Sequence[Row]) -> list[OwnedSession]:
    try:
        return [
            OwnedSession(info, info.owner, int(turns), int(archived))
            for *info_columns, turns, archived in rows
            for info in (session_info(info_columns),)
        ]
    except WRONG_TYPE:
        raise wrong_type() from None


def _sizes(database: Database) -> dict[str, int]:
    if database.dialect == "sqlite":
        ((size,),) = database.rows(_SIZE_OF_FILE, {})
        return {"database": int(size)}
    found = {name: database.rows(_SIZE[database.dialect], {"name": name}) for name in _TABLES}
    return {name: int(rows[0][0] or 0) for name, rows in found.items() if rows}
