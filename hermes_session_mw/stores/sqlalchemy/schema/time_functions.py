"""SQL functions that convert between times and numbers.

Every driver returns a number alike. A time depends on the server's settings, the connection's time
zone, and on whether SQLAlchemy converts the row.
"""

from typing import Any

from sqlalchemy import BigInteger
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from hermes_session_mw.database.dialects import MYSQL


class microseconds_of(FunctionElement[int]):  # noqa: N801  # used like a function
    """The microseconds from 1970 to a column's time; MySQL and SQLite keep whole seconds."""

    type: TypeEngine[int] = BigInteger()
    inherit_cache: bool | None = True


class now_in_milliseconds(FunctionElement[int]):  # noqa: N801
    """The milliseconds from 1970 to now."""

    type: TypeEngine[int] = BigInteger()
    inherit_cache: bool | None = True


class time_at(FunctionElement[Any]):  # noqa: N801
    """The time that many seconds after 1970-01-01 UTC, to compare with a column or to store."""

    inherit_cache: bool | None = True


_NOW = {
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
    "postgresql": "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
    **dict.fromkeys(MYSQL, "CAST(unix_timestamp(now(3)) * 1000 AS SIGNED)"),
}
_OF = {
    "sqlite": "CAST(round((julianday({0}) - 2440587.5) * 86400) AS INTEGER) * 1000000",
    "postgresql": "CAST(extract(epoch FROM {0}) * 1000000 AS BIGINT)",
    **dict.fromkeys(MYSQL, "CAST(unix_timestamp({0}) * 1000000 AS SIGNED)"),
}
_AT = {
    "sqlite": "datetime({0}, 'unixepoch')",
    "postgresql": "to_timestamp({0})",
    **dict.fromkeys(MYSQL, "from_unixtime({0})"),
}


@compiles(now_in_milliseconds)
def _now(_element: now_in_milliseconds, compiler: SQLCompiler, **_options: Any) -> str:
    return _NOW[compiler.dialect.name]


@compiles(microseconds_of)
def _microseconds(element: microseconds_of, compiler: SQLCompiler, **options: Any) -> str:
    return _OF[compiler.dialect.name].format(compiler.process(element.clauses, **options))


@compiles(time_at)
def _time(element: time_at, compiler: SQLCompiler, **options: Any) -> str:
    return _AT[compiler.dialect.name].format(compiler.process(element.clauses, **options))
