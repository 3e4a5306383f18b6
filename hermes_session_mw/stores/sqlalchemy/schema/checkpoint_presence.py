"""Whether the tables of checkpoints were ever made, in an expression of another statement.

What removes or moves a session asks for it there, without a statement more: those who use no
checkpoints have no such table, and import nothing of them.
"""

from typing import Any

from sqlalchemy import BigInteger, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.dialects import MYSQL

CHECKPOINTS = "hermes_checkpoints"
"""The table that is made last."""


class has_checkpoint_tables(FunctionElement[int]):  # noqa: N801  # used like a function
    """1 if the tables of checkpoints are there, else 0."""

    type: TypeEngine[int] = BigInteger()
    inherit_cache: bool | None = True


_SQL = {
    "sqlite": "(SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = '{0}')",
    "postgresql": "CASE WHEN to_regclass('{0}') IS NULL THEN 0 ELSE 1 END",
    **dict.fromkeys(
        MYSQL,
        "(SELECT count(*) FROM information_schema.tables WHERE table_schema = database()"
        " AND table_name = '{0}')",
    ),
}


@compiles(has_checkpoint_tables)
def _compile(_element: has_checkpoint_tables, compiler: SQLCompiler, **_options: Any) -> str:
    return _SQL[compiler.dialect.name].format(CHECKPOINTS)


_ask = select(has_checkpoint_tables())


def checkpoint_tables_exist(database: Database) -> bool:
    """Tell whether the tables of checkpoints are there."""
    ((count,),) = database.rows(_ask, {})
    return bool(count)
