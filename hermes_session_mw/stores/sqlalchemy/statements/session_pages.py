"""The SQL of a page of one owner's list: what an index has after a position, and no more.

The list goes by time, the last change first, and then by id. After a position come the sessions of
the same time with a later id, and those of an earlier time. Each is a range of the index
``ix_hermes_sessions_updated_at``, where a condition with OR over both would be none, and each is
read up to the page's length. Without the index the result is the same, and all of the owner's
sessions are read for it; or, with a prefix, those whose ids begin so.

The list of all owners goes by time, then by owner, and then by id. It has no index, which every
append would have to write: each page reads all sessions' rows.
"""

from typing import Any

from sqlalchemy import BigInteger, CompoundSelect, Select, bindparam, select, union_all

from hermes_session_mw.database.connection import Database, Row
from hermes_session_mw.database.dialects import MYSQL
from hermes_session_mw.stores.pagination import FIRST, OwnedPosition, Position
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    OF_OWNER,
    OF_SESSION,
    Target,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import is_at, is_before
from hermes_session_mw.stores.sqlalchemy.statements.content import Content, reads
from hermes_session_mw.stores.sqlalchemy.statements.keyset import is_after, position
from hermes_session_mw.stores.sqlalchemy.statements.session_row import UPDATED_AT, updated_before

CHANGED = bindparam("changed", type_=BigInteger())
"""The time of a position, in microseconds."""

_LATEST = 253402300799_000000
"""The last microsecond of the year 9999, which every database can compare with."""


class OwnerPages:
    """The pages of one owner's list; ``columns`` selects what is read of each session.

    Its first column is the id, and ``content`` are those that have content.
    """

    def __init__(self, columns: Select[Any], *content: Content) -> None:
        listed = (
            columns.where(sessions.c.owner == OF_OWNER)
            .order_by(sessions.c.updated_at.desc(), sessions.c.id)
            .limit(bindparam("limit"))
        )
        same = listed.where(
            is_at(sessions.c.updated_at, CHANGED),
            UPDATED_AT == CHANGED,
            sessions.c.id > OF_SESSION,
        )
        earlier = listed.where(is_before(sessions.c.updated_at, CHANGED), UPDATED_AT < CHANGED)
        self.first: Select[Any] = listed
        both = (select(each.subquery()) for each in (same, earlier))
        self.later: CompoundSelect[Any] = union_all(*both)
        for each in (self.first, self.later):
            reads(each, *content, session=0)

    def rows(
        self, database: Database, owner: str, limit: int, after: Position, **more: str
    ) -> list[Row]:
        """Return the rows after a position, in any order; the first ``limit`` are among them."""
        if after == FIRST:
            return list(database.rows(self.first, {"of_owner": owner, "limit": limit, **more}))
        later = {**later_parameters(owner, after), "limit": limit, **more}
        return list(database.rows(self.later, later))


def later_parameters(owner: str, after: Position) -> dict[str, Any]:
    """Return the parameters of a page after a position."""
    target = Target(of_session=after.session_id, of_owner=owner)
    return {**target, "changed": min(max(after.changed, 0), _LATEST)}


def of_every_owner(columns: Select[Any]) -> Select[Any]:
    """Return what selects ``columns`` of a page of all owners' sessions, in order."""
    is_next = is_after(MYSQL[0], sessions.c.owner, sessions.c.id)
    return (
        columns.where(updated_before(is_next))
        .order_by(UPDATED_AT.desc(), sessions.c.owner, sessions.c.id)
        .limit(bindparam("limit"))
    )


def after_owned(after: OwnedPosition, limit: int) -> dict[str, Any]:
    """Return the parameters of a page of `of_every_owner`."""
    changed, *last = after
    return {"changed": changed, "limit": limit, **position("after", last)}
