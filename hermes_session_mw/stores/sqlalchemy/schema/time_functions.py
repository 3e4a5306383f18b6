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


class is_at(FunctionElement[Any]):  # noqa: N801
    """Whether a time may be that many microseconds after 1970; an index finds such rows.

    It is so for all rows with that time, and where summer time ends for others, too:
    `microseconds_of` tells them apart. It has no type: some databases' SQL would compare a BOOLEAN
    with 1, and find nothing by an index.
    """

    inherit_cache: bool | None = True


class is_before(FunctionElement[Any]):  # noqa: N801
    """Whether a time may be less than that many microseconds after 1970; as `is_at`."""

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

# Whole seconds on SQLite and MySQL. MySQL compares in the connection's time zone, where two hours
# of a year may have the same name: near a change of the clocks it compares with a day more.
_SECONDS = "(({1}) DIV 1000000)"
_NEXT_SECONDS = "(({1} + 999999) DIV 1000000)"
_SLACK = (
    "if(timestampdiff(SECOND, from_unixtime({0} - 7200), from_unixtime({0} + 7200)) = 14400,"
    " 0, 86400)"
)
_IS_AT = {
    "sqlite": "{0} = datetime({1} / 1000000, 'unixepoch')",
    "postgresql": "{0} = TIMESTAMP WITH TIME ZONE 'epoch' + {1} * INTERVAL '1 microsecond'",
    **dict.fromkeys(
        MYSQL,
        f"{{0}} BETWEEN from_unixtime({_SECONDS} - {_SLACK.format(_SECONDS)})"
        f" AND from_unixtime({_SECONDS} + {_SLACK.format(_SECONDS)})",
    ),
}
_IS_BEFORE = {
    "sqlite": "{0} < datetime(({1} + 999999) / 1000000, 'unixepoch')",
    "postgresql": "{0} < TIMESTAMP WITH TIME ZONE 'epoch' + {1} * INTERVAL '1 microsecond'",
    **dict.fromkeys(
        MYSQL, f"{{0}} < from_unixtime({_NEXT_SECONDS} + {_SLACK.format(_NEXT_SECONDS)})"
    ),
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


@compiles(is_at)
def _compile_is_at(element: is_at, compiler: SQLCompiler, **options: Any) -> str:
    return _compare(_IS_AT, element, compiler, options)


@compiles(is_before)
def _compile_is_before(element: is_before, compiler: SQLCompiler, **options: Any) -> str:
    return _compare(_IS_BEFORE, element, compiler, options)


def _compare(
    templates: dict[str, str],
    element: FunctionElement[Any],
    compiler: SQLCompiler,
    options: dict[str, Any],
) -> str:
    column, time = (compiler.process(each, **options) for each in element.clauses)
    return templates[compiler.dialect.name].format(column, time)
