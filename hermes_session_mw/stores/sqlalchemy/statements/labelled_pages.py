"""The SQL of a page of the sessions that have labels, and of those that are not pinned or shelved.

A label's sessions are read from ``ix_hermes_labels_name``, which has them in the order of lists, up
to the page's length. Where several labels are asked for, it is so with the first one, and those of
its sessions that lack another are read in vain. Where none is, the page is read as one without a
filter, and sessions that are not asked for are read in vain: as a rule few are pinned or shelved,
and to hide the few from everybody's list needs no index that every append would have to write.
"""

from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import CompoundSelect, Select, and_, bindparam, select, union_all

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.dialects import MYSQL
from hermes_session_mw.stores.labels import SessionFilter
from hermes_session_mw.stores.pagination import FIRST, Placed, Position, list_order, position_of
from hermes_session_mw.stores.sqlalchemy.schema.column_presence import has_label_columns
from hermes_session_mw.stores.sqlalchemy.schema.tables import (
    OF_OWNER,
    OF_SESSION,
    labels,
    sessions,
)
from hermes_session_mw.stores.sqlalchemy.schema.time_functions import (
    is_at,
    is_before,
    microseconds_of,
)
from hermes_session_mw.stores.sqlalchemy.statements.content import reads
from hermes_session_mw.stores.sqlalchemy.statements.keyset import HAS_PREFIX, prefix_range
from hermes_session_mw.stores.sqlalchemy.statements.session_pages import (
    CHANGED,
    OwnerPages,
    later_parameters,
)
from hermes_session_mw.stores.sqlalchemy.statements.session_row import (
    INFO_CONTENT,
    SESSION_INFO,
    session_infos,
)

_AT = microseconds_of(labels.c.updated_at)
_IS_ITS_SESSION = and_(sessions.c.owner == labels.c.owner, sessions.c.id == labels.c.session_id)


class _Form(NamedTuple):
    """What a statement depends on: how many labels are asked for, and the conditions."""

    labels: int
    is_pinned: bool
    is_shelved: bool
    has_prefix: bool


class _LabelPages:
    """The pages of one label's sessions."""

    def __init__(self, columns: Select[Any], more: int) -> None:
        listed = (
            columns.add_columns(_AT.label("place"))
            .select_from(labels.join(sessions, _IS_ITS_SESSION))
            .where(labels.c.owner == OF_OWNER, labels.c.name == _name(0))
            .where(*(_has(number) for number in range(1, more + 1)))
            .order_by(labels.c.updated_at.desc(), labels.c.session_id)
            .limit(bindparam("limit"))
        )
        for each in MYSQL:  # which would read the sessions first, and sort them
            listed = listed.prefix_with("STRAIGHT_JOIN", dialect=each).with_hint(
                labels, "FORCE INDEX (ix_hermes_labels_name)", each
            )
        same = listed.where(
            is_at(labels.c.updated_at, CHANGED), _AT == CHANGED, labels.c.session_id > OF_SESSION
        )
        earlier = listed.where(is_before(labels.c.updated_at, CHANGED), _AT < CHANGED)
        self.first: Select[Any] = listed
        both = (select(each.subquery()) for each in (same, earlier))
        self.later: CompoundSelect[Any] = union_all(*both)
        for form in (self.first, self.later):
            reads(form, *INFO_CONTENT[True], session=0)


def _name(number: int) -> Any:
    return bindparam(f"name_{number}", type_=labels.c.name.type)


def _has(number: int) -> Any:
    other = labels.alias(f"label_{number}")
    return (
        select(other.c.name)
        .where(
            other.c.owner == labels.c.owner,
            other.c.session_id == labels.c.session_id,
            other.c.name == _name(number),
        )
        .correlate(labels)
        .exists()
    )


def _columns(form: _Form) -> Select[Any]:
    columns = SESSION_INFO[True]
    if not form.is_pinned:
        columns = columns.where(sessions.c.pinned == 0)
    if not form.is_shelved:
        columns = columns.where(sessions.c.shelved == 0)
    return columns.where(*HAS_PREFIX) if form.has_prefix else columns


@cache
def _label_pages(form: _Form) -> _LabelPages:
    return _LabelPages(_columns(form), form.labels - 1)


@cache
def _owner_pages(form: _Form) -> OwnerPages:
    return OwnerPages(_columns(form), *INFO_CONTENT[True])


def list_filtered(
    database: Database,
    owner: str,
    limit: int,
    after: Position,
    wanted: SessionFilter,
    prefix: str = "",
) -> list[Placed]:
    """Return up to ``limit`` of the owner's sessions after a position, by their last change."""
    if not has_label_columns(database) and wanted.names:
        return []
    form = _Form(len(wanted.names), wanted.is_pinned, wanted.is_shelved, bool(prefix))
    more = prefix_range(prefix) if prefix else {}
    if not wanted.names:
        rows = _owner_pages(form).rows(database, owner, limit, after, **more)
        found = [Placed(position_of(info), info) for info in session_infos(rows)]
        return sorted(found, key=lambda each: list_order(each.info))[:limit]
    pages = _label_pages(form)
    parameters = {"limit": limit, **more}
    parameters |= {f"name_{number}": name for number, name in enumerate(wanted.names)}
    if after == FIRST:
        rows = list(database.rows(pages.first, {"of_owner": owner, **parameters}))
    else:
        rows = list(database.rows(pages.later, {**later_parameters(owner, after), **parameters}))
    infos = session_infos([row[:-1] for row in rows])
    found = [
        Placed(Position(int(row[-1]), info.id), info) for row, info in zip(rows, infos, strict=True)
    ]
    return sorted(found, key=lambda each: (-each.place.changed, each.place.session_id))[:limit]
