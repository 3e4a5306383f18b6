"""SQL functions that convert between times and numbers.

Every driver returns a number alike. A time depends on the server's settings, the connection's time
zone, and on whether SQLAlchemy converts the row.

SQLite keeps a time as a text. Texts have milliseconds, and those of whole seconds have no fraction,
as in the tables and by the processes of earlier versions. So there is one text for each time, and
texts compare as times do.
"""

from typing import Any

from sqlalchemy import BigInteger, DateTime
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from hermes_session_mw.database.dialects import MYSQL


class now(FunctionElement[Any]):  # noqa: N801  # used like a function
    """The time now, to store in a column: of the statement, on PostgreSQL of the transaction."""

    type: TypeEngine[Any] = DateTime(timezone=True)
    inherit_cache: bool | None = True


class microseconds_of(FunctionElement[int]):  # noqa: N801
    """The microseconds from 1970 to a column's time; MySQL keeps seconds, SQLite milliseconds."""

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


class is_from(FunctionElement[Any]):  # noqa: N801
    """Whether a time may be at least that many microseconds after 1970; as `is_at`."""

    inherit_cache: bool | None = True


_TEXT = "replace(strftime('%Y-%m-%d %H:%M:%f', {0}), '.000', '')"
_TEXT_AT = _TEXT.format("{0}, 'unixepoch'")

_NOW = {
    "sqlite": _TEXT.format("'now'"),
    **dict.fromkeys(("postgresql", *MYSQL), "now()"),
}
_NOW_IN_MILLISECONDS = {
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
    "postgresql": "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
    **dict.fromkeys(MYSQL, "CAST(unix_timestamp(now(3)) * 1000 AS SIGNED)"),
}
_OF = {
    "sqlite": "CAST(round((julianday({0}) - 2440587.5) * 86400000) AS INTEGER) * 1000",
    "postgresql": "CAST(extract(epoch FROM {0}) * 1000000 AS BIGINT)",
    **dict.fromkeys(MYSQL, "CAST(unix_timestamp({0}) * 1000000 AS SIGNED)"),
}
_AT = {
    "sqlite": _TEXT_AT,
    "postgresql": "to_timestamp({0})",
    **dict.fromkeys(MYSQL, "from_unixtime({0})"),
}

# Milliseconds on SQLite, and whole seconds on MySQL, which compares in the connection's time zone:
# two hours of a year may have the same name there, and near them it compares with a day more.
_SECONDS = "(({1}) DIV 1000000)"
_NEXT_SECONDS = "(({1} + 999999) DIV 1000000)"
_SLACK = (
    "if(timestampdiff(SECOND, from_unixtime({0} - 7200), from_unixtime({0} + 7200)) = 14400,"
    " 0, 86400)"
)
_IS_AT = {
    "sqlite": "{0} = " + _TEXT_AT.format("{1} / 1000000.0"),
    "postgresql": "{0} = TIMESTAMP WITH TIME ZONE 'epoch' + {1} * INTERVAL '1 microsecond'",
    **dict.fromkeys(
        MYSQL,
        f"{{0}} BETWEEN from_unixtime({_SECONDS} - {_SLACK.format(_SECONDS)})"
        f" AND from_unixtime({_SECONDS} + {_SLACK.format(_SECONDS)})",
    ),
}
_IS_BEFORE = {
    "sqlite": "{0} < " + _TEXT_AT.format("({1} + 999) / 1000 / 1000.0"),
    "postgresql": "{0} < TIMESTAMP WITH TIME ZONE 'epoch' + {1} * INTERVAL '1 microsecond'",
    **dict.fromkeys(
        MYSQL, f"{{0}} < from_unixtime({_NEXT_SECONDS} + {_SLACK.format(_NEXT_SECONDS)})"
    ),
}
_IS_FROM = {
    "sqlite": "{0} >= " + _TEXT_AT.format("{1} / 1000 / 1000.0"),
    "postgresql": "{0} >= TIMESTAMP WITH TIME ZONE 'epoch' + {1} * INTERVAL '1 microsecond'",
    **dict.fromkeys(MYSQL, f"{{0}} >= from_unixtime({_SECONDS} - {_SLACK.format(_SECONDS)})"),
}


@compiles(now)
def _compile_now(_element: now, compiler: SQLCompiler, **_options: Any) -> str:
    return _NOW[compiler.dialect.name]


@compiles(now_in_milliseconds)
def _milliseconds(_element: now_in_milliseconds, compiler: SQLCompiler, **_options: Any) -> str:
    return _NOW_IN_MILLISECONDS[compiler.dialect.name]


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


@compiles(is_from)
def _compile_is_from(element: is_from, compiler: SQLCompiler, **options: Any) -> str:
    return _compare(_IS_FROM, element, compiler, options)


def _compare(
    templates: dict[str, str],
    element: FunctionElement[Any],
    compiler: SQLCompiler,
    options: dict[str, Any],
) -> str:
    column, time = (compiler.process(each, **options) for each in element.clauses)
    return templates[compiler.dialect.name].format(column, f"({time})")
