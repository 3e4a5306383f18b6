"""Fences: the numbers of leases, which only grow, also where a row is removed and inserted again.

A session's row has the fence of its last lease. What has to outlive the row is stored once for all
sessions: the *floor*, which is at least the fence of every row that was removed. A prune raises the
floor first, commits that, and then removes the rows. A new fence is greater than both, and computed
by the statement that writes it, which sees every floor that was raised before the row was inserted.
So no transaction waits for the floor's lock while it holds a session's.
"""

from typing import Any

from sqlalchemy import BigInteger, ColumnElement, bindparam, func, select
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.dialects import MYSQL
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.stores.sqlalchemy.schema.tables import counters


class _greatest(FunctionElement[int]):  # noqa: N801  # used like a function
    """The greatest of several numbers."""

    type: TypeEngine[int] = BigInteger()
    inherit_cache: bool | None = True


@compiles(_greatest)
def _compile_greatest(element: _greatest, compiler: SQLCompiler, **options: Any) -> str:
    name = "max" if compiler.dialect.name == "sqlite" else "greatest"
    return f"{name}({compiler.process(element.clauses, **options)})"


_FENCE = "fence"
_floor = func.coalesce(
    select(counters.c.value).where(counters.c.name == _FENCE).scalar_subquery(), 0
)
_read = select(_floor)

_ROW = {"name": _FENCE, "value": bindparam("floor", type_=counters.c.value.type)}
_RAISED = {"value": _greatest(counters.c.value, _ROW["value"])}
_RAISE = {
    "sqlite": sqlite.insert(counters)
    .values(_ROW)
    .on_conflict_do_update(index_elements=[counters.c.name], set_=_RAISED),
    "postgresql": postgresql.insert(counters)
    .values(_ROW)
    .on_conflict_do_update(index_elements=[counters.c.name], set_=_RAISED),
    **dict.fromkeys(MYSQL, mysql.insert(counters).values(_ROW).on_duplicate_key_update(_RAISED)),
}


def next_fence(*fences: ColumnElement[int]) -> ColumnElement[int]:
    """Return the SQL expression of a number greater than ``fences`` and than the floor."""
    return _greatest(*fences, _floor) + 1


def raise_floor(database: Database, fence: int) -> None:
    """Raise the floor to ``fence``: a row that is inserted from now on gets only greater ones."""
    # Most often it is as high already: rows that never had a lease have the fence 0.
    if fence and fence > database.rows(_read, {})[0][0]:
        with transaction(database):
            database.run(_RAISE[database.dialect], {"floor": fence})
