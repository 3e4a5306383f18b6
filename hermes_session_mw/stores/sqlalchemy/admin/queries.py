"""The SQL that reads the sessions of all owners, or of one where an owner is given."""

import dataclasses
from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Integer, Select, bindparam, case, distinct, func, select, text

from hermes_session_mw.database.connection import Database, Row, text_of
from hermes_session_mw.database.dialects import MYSQL, SUPPORTED_DIALECTS
from hermes_session_mw.database.transactions import snapshot
from hermes_session_mw.stores import jsonl
from hermes_session_mw.stores.labels import EVERY_SESSION, SessionFilter
from hermes_session_mw.stores.pagination import (
    FIRST_OF_ALL,
    OwnedPosition,
    Position,
    encode_owned_cursor,
    list_order,
    time_of,
)
from hermes_session_mw.stores.sqlalchemy.admin import answer_queries
from hermes_session_mw.stores.sqlalchemy.admin.models import OwnedPage, OwnedSession, Totals
from hermes_session_mw.stores.sqlalchemy.schema import tables
from hermes_session_mw.stores.sqlalchemy.schema.column_presence import (
    has_answers,
    has_label_columns,
)
from hermes_session_mw.stores.sqlalchemy.schema.tables import IS_STORED, Target, labels, sessions
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import microseconds_of
from hermes_session_mw.stores.sqlalchemy.statements import delete_prune
from hermes_session_mw.stores.sqlalchemy.statements.content import Content, reads
from hermes_session_mw.stores.sqlalchemy.statements.delete_prune import PruneCounts
from hermes_session_mw.stores.sqlalchemy.statements.keyset import (
    is_after,
    of_all_or_one,
    owner_parameter,
    position,
)
from hermes_session_mw.stores.sqlalchemy.statements.list_sessions import exported_rows, info
from hermes_session_mw.stores.sqlalchemy.statements.session_extras import find_expiry
from hermes_session_mw.stores.sqlalchemy.statements.session_metadata import find_metadata
from hermes_session_mw.stores.sqlalchemy.statements.session_pages import (
    OwnerPages,
    after_owned,
    of_every_owner,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_row import (
    INFO_CONTENT,
    LENGTH,
    SESSION_INFO,
    WRONG_TYPE,
    session_info,
    wrong_type,
)

WALK = 500
"""Sessions that one call of `walk` returns."""

_OWNER, _ID = sessions.c.owner, sessions.c.id


class _Statements:
    """The statements that describe sessions with their owners."""

    def __init__(self, info: Select[Any], content: Sequence[Content]) -> None:
        columns = info.add_columns(sessions.c.turns, sessions.c.archived)
        self.content = content
        self.pages = OwnerPages(columns, *content)
        self.list_owned = _described(of_all_or_one(of_every_owner(columns), _OWNER), content)
        is_named = bindparam("session_id", type_=_ID.type) == _ID
        found = columns.where(is_named).order_by(_OWNER)
        self.find = _described(of_all_or_one(found, _OWNER), content)
        self.walk = {
            dialect: _described(
                of_all_or_one(
                    columns.where(is_after(dialect, _OWNER, _ID)).order_by(_OWNER, _ID).limit(WALK),
                    _OWNER,
                ),
                content,
            )
            for dialect in SUPPORTED_DIALECTS
        }


def _described(
    statements: dict[bool, Select[Any]], content: Sequence[Content]
) -> dict[bool, Select[Any]]:
    """Say what content the statements have, and return them."""
    for each in statements.values():
        reads(each, *content, owner=6, session=0)
    return statements


# By whether the tables have labels.
_STATEMENTS = {
    has_labels: _Statements(info, INFO_CONTENT[has_labels])
    for has_labels, info in SESSION_INFO.items()
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
    database: Database,
    owner: str | None,
    limit: int,
    after: OwnedPosition,
    wanted: SessionFilter = EVERY_SESSION,
) -> list[OwnedSession]:
    """Return up to ``limit`` sessions after a position, the most recently changed first.

    With a filter all sessions are read for it, or all of the owner.
    """
    if not wanted.is_any:
        return _list_filtered(database, owner, limit, after, wanted)
    changed, last_owner, last_id = after
    if owner is not None and (owner == last_owner or after == FIRST_OF_ALL):
        pages = _statements(database).pages
        rows = pages.rows(database, owner, limit, Position(changed, last_id))
        return sorted(_owned_sessions(rows), key=lambda each: list_order(each.info))[:limit]
    parameters = {**after_owned(after, limit), **owner_parameter(owner)}
    statements = _statements(database).list_owned
    return _owned_sessions(database.rows(statements[owner is not None], parameters))


def list_pinned_first(
    database: Database,
    owner: str | None,
    limit: int,
    after: tuple[OwnedPosition, bool],
    wanted: SessionFilter,
) -> tuple[list[OwnedSession], int]:
    """Return up to ``limit`` sessions after a position, and how many are among the pinned ones.

    These come first. The position says whether it is among them.
    """
    place, is_pinned = after
    pinned, others = wanted.parts
    found: list[OwnedSession] = []
    if is_pinned and pinned is not None:
        found = list_owned(database, owner, limit, place, pinned)
    count = len(found)
    if others is not None and count < limit:
        start = FIRST_OF_ALL if is_pinned else place
        found = found + list_owned(database, owner, limit - count, start, others)
    return found, count


def with_words(database: Database, found: Sequence[OwnedSession]) -> list[OwnedSession]:
    """Return the sessions, those without a title with their first words."""
    from hermes_session_mw.stores.sqlalchemy.statements.session_words import (  # noqa: PLC0415
        with_first_words,
    )

    infos = with_first_words(database, [each.info for each in found])
    return [dataclasses.replace(each, info=info) for each, info in zip(found, infos, strict=True)]


def _list_filtered(
    database: Database,
    owner: str | None,
    limit: int,
    after: OwnedPosition,
    wanted: SessionFilter,
) -> list[OwnedSession]:
    if not has_label_columns(database):
        found = list_owned(database, owner, limit, after)  # which says if there are no tables
        return [] if wanted.names else found
    form = len(wanted.names), wanted.is_pinned, wanted.is_shelved
    statement = _filtered(owner is not None, *form)
    parameters = {**after_owned(after, limit), **owner_parameter(owner)}
    parameters |= {f"name_{number}": name for number, name in enumerate(wanted.names)}
    return _owned_sessions(database.rows(statement, parameters))


@cache
def _filtered(of_one: bool, names: int, is_pinned: bool, is_shelved: bool) -> Select[Any]:  # noqa: FBT001  # a cache's key
    """Return the statement of pages of sessions that have labels, how many ``names`` says."""
    statements = _STATEMENTS[True]
    statement = statements.list_owned[of_one].where(*map(_has_label, range(names)))
    if not is_pinned:
        statement = statement.where(sessions.c.pinned == 0)
    if not is_shelved:
        statement = statement.where(sessions.c.shelved == 0)
    return reads(statement, *statements.content, owner=6, session=0)


def _has_label(number: int) -> Any:
    return (
        select(labels.c.name)
        .where(
            labels.c.owner == _OWNER,
            labels.c.session_id == _ID,
            labels.c.name == bindparam(f"name_{number}", type_=labels.c.name.type),
        )
        .correlate(sessions)
        .exists()
    )


def find(database: Database, session_id: str, owner: str | None) -> list[OwnedSession]:
    """Return the sessions that have the id, by owner; without one this reads the whole table."""
    parameters = {"session_id": session_id, **owner_parameter(owner)}
    statements = _statements(database).find
    return _owned_sessions(database.rows(statements[owner is not None], parameters))


def walk(database: Database, owner: str | None, after: tuple[str, str]) -> list[OwnedSession]:
    """Return the next ``WALK`` sessions in the order of owner and id."""
    parameters = {**position("after", after), **owner_parameter(owner)}
    statements = _statements(database).walk[database.dialect]
    return _owned_sessions(database.rows(statements[owner is not None], parameters))


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
    target = Target(of_session=session_id, of_owner=owner)
    with snapshot(database):
        found = info(database, session_id, owner, folds=False)
        rows = exported_rows(database, target) if found else []
        metadata = find_metadata(database, session_id, owner)
        own = find_expiry(database, target)
    if found is None:
        return None
    return jsonl.dump(found, rows, metadata, own)


def page_of_owned(found: list[OwnedSession], limit: int, pinned: int | None = None) -> OwnedPage:
    """Return the first ``limit`` of ``found``, and a cursor if there are more.

    ``pinned`` says how many of them are among the pinned ones, where these come first.
    """
    if len(found) <= limit:
        return OwnedPage(found, None)
    is_pinned = None if pinned is None else limit <= pinned
    return OwnedPage(found[:limit], encode_owned_cursor(found[limit - 1].info, is_pinned=is_pinned))


def _statements(database: Database) -> _Statements:
    return _STATEMENTS[has_label_columns(database)]


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
    found = {
        name: database.rows(_SIZE[database.dialect], {"name": name})
        for name in (*_TABLES, *_optional_tables())
    }
    return {name: int(size) for name, rows in found.items() for (size,) in rows if size is not None}


@cache
def _optional_tables() -> list[str]:
    """Return the names of the tables that are made for who uses them alone."""
    from hermes_session_mw.stores.sqlalchemy.schema.checkpoint_tables import (  # noqa: PLC0415
        checkpoint_metadata,  # few have these tables
    )
    from hermes_session_mw.stores.sqlalchemy.schema.expiry_tables import (  # noqa: PLC0415
        expiry_metadata,
    )
    from hermes_session_mw.stores.sqlalchemy.schema.search_tables import (  # noqa: PLC0415
        search_metadata,
    )

    return [
        name
        for each in (checkpoint_metadata, expiry_metadata, search_metadata)
        for name in each.tables
    ]
