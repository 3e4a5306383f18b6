"""What a driver knows of its connection's transaction, and how it says how a COMMIT went.

Each answer of a server's tells whether a transaction is open (PostgreSQL's ReadyForQuery, MySQL's
status flags), and SQLite's library is asked in the process itself: to look costs no round trip.
"""

from collections.abc import Callable
from inspect import isawaitable
from operator import attrgetter, methodcaller
from typing import Any

from sqlalchemy.util import await_only

_SERVER_STATUS_IN_TRANS = 1  # https://dev.mysql.com/doc/dev/mysql-server/latest/mysql__com_8h.html
_LIBPQ_OPEN = (2, 3)  # PQTRANS_INTRANS, PQTRANS_INERROR


def _libpq(connection: Any) -> bool:
    return connection.info.transaction_status in _LIBPQ_OPEN


def _pymysql(connection: Any) -> bool:
    return bool(connection.server_status & _SERVER_STATUS_IN_TRANS)


IS_OPEN: dict[str, Callable[[Any], bool]] = {
    "pysqlite": attrgetter("in_transaction"),
    "aiosqlite": attrgetter("in_transaction"),
    "psycopg": _libpq,
    "psycopg2": _libpq,
    "asyncpg": methodcaller("is_in_transaction"),
    "pymysql": _pymysql,
    "asyncmy": methodcaller("get_transaction_status"),
}
"""By driver: whether a transaction is open on its connection, one that has failed included."""


def _psycopg(connection: Any, sql: str) -> Any:
    done = connection.execute(sql, prepare=False)
    return (await_only(done) if isawaitable(done) else done).statusmessage


def _psycopg2(connection: Any, sql: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.statusmessage


def _asyncpg(connection: Any, sql: str) -> Any:
    return await_only(connection.execute(sql))  # the simple protocol, which prepares nothing


TAGGED: dict[str, Callable[[Any, str], Any]] = {
    "psycopg": _psycopg,
    "psycopg2": _psycopg2,
    "asyncpg": _asyncpg,
}
"""By driver: executes a command, prepared under no name, and returns PostgreSQL's tag for it.

The tag alone tells a COMMIT from a ROLLBACK, which is what a transaction that has failed gets, and
what a prepared statement's name may mean on another server connection.
"""
