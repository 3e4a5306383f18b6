"""Executes statements on a connection, and decides whether it may be used again.

`Database` executes statements through SQLAlchemy, `DirectDatabase` through the driver's own cursor:
for statements this small, SQLAlchemy's work around each execution costs more than the database
(docs/speed.md). An engine of our own then uses only SQLAlchemy's pool, compiler, dialects and
errors. An engine of the caller's, or one with listeners for its statements, is used through
SQLAlchemy.

Before a pooled connection is used again, each check that `add_check` registered for its engine must
pass; otherwise the pool replaces the connection.
"""

import re
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn, Protocol

from sqlalchemy import Connection, Dialect, Engine, Executable, event, text
from sqlalchemy.exc import DBAPIError, DisconnectionError, SQLAlchemyError
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

from hermes_session_mw.database.dialects import MYSQL
from hermes_session_mw.database.drivers import (
    EXECUTE_WITH_TAG,
    FETCH_PREPARED,
    IN_TRANSACTION,
    FetchPrepared,
)
from hermes_session_mw.database.errors import OVER_PACKET, errors_of, is_out_of_step
from hermes_session_mw.exceptions import StoreMisconfigured

Row = Sequence[Any]
Parameters = Mapping[str, Any]
Info = dict[Any, Any]
"""The notes on a pooled connection, kept until it is closed: ``Connection.info``."""

_DIRECT = "hermes_direct"
_CHECKS = "hermes_checks"
_CONNECTED_AT = "hermes_connected_at"

_MAX_PACKET = "hermes_max_packet"
_ASK_MAX_PACKET = text("SELECT @@max_allowed_packet")
_ALWAYS_FITS = 256 * 1024  # characters, of any kind, that every MySQL server takes
_OVERHEAD = 4096  # bytes of a statement beside its parameters
# The characters that a driver doubles when it writes a parameter into the statement.
_ESCAPED = re.compile(rb"[\x00\n\r\x1a\"'\\]")

# Without this SQLAlchemy drops the row count of an INSERT.
_KEEP_ROWCOUNT = {"preserve_rowcount": True}

# NO CHAIN, whatever completion_type is: each transaction is begun explicitly.
_COMMIT = dict.fromkeys(MYSQL, "COMMIT AND NO CHAIN")
_ROLLBACK = dict.fromkeys(MYSQL, "ROLLBACK AND NO CHAIN")

# After these a connection's view of its file may stay wrong: it is replaced.
_STALE_FILE = (
    "SQLITE_READONLY",
    "SQLITE_IOERR",
    "SQLITE_CANTOPEN",
    "SQLITE_CORRUPT",
    "SQLITE_NOTADB",
)


class OutOfTransaction(SQLAlchemyError):
    """The server reported a wrong transaction state; the connection was invalidated."""

    connection_invalidated = True


class Database:
    """A connection on which statements are executed through SQLAlchemy.

    The functions of the stores take it as their first argument. Every parameter of a statement is
    given by its name. Methods raise ``SQLAlchemyError``.

    Attributes:
        connection: SQLAlchemy's connection.
        dialect: the name of its dialect.
        is_direct: whether the driver executes the statements, without SQLAlchemy.
        savepoint: the name of a work's savepoint in a shared transaction; None for the first work,
            beside which nothing is in it yet.
        is_shared: whether the open transaction is that of several works, so that each joins it.
        encrypts: whether content is encrypted on its way to the database, one text at a time.
    """

    encrypts: bool = False
    is_direct = False
    is_shared: bool = False
    savepoint: str | None = None

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.dialect: str = connection.dialect.name

    @property
    def driver_connection(self) -> Any:
        """The driver's own connection."""
        return self.connection.connection.driver_connection

    def rows(self, statement: Executable, parameters: Parameters) -> Sequence[Row]:
        """Execute a statement and return all its rows."""
        return self.connection.execute(statement, parameters).all()

    def run(self, statement: Executable, *parameters: Parameters) -> int:
        """Execute a statement for each of ``parameters``; for one, return its row count."""
        self._check_size(parameters)
        # A list of one would make it an executemany(), after which drivers count otherwise.
        given = parameters[0] if len(parameters) == 1 else list(parameters)
        return self.connection.execute(statement, given, execution_options=_KEEP_ROWCOUNT).rowcount

    def command(self, sql: str) -> None:
        """Execute a command without parameters, such as BEGIN."""
        self.connection.exec_driver_sql(sql)

    def commit(self) -> str | None:
        """Execute COMMIT; return PostgreSQL's command tag, None on other databases.

        SQLAlchemy does not pass the tag on, so the driver executes it on PostgreSQL.
        """
        sql = _COMMIT.get(self.dialect, "COMMIT")
        execute = EXECUTE_WITH_TAG.get(self.connection.dialect.driver)
        if execute is None:
            self.command(sql)
            return None
        try:
            return str(execute(self.driver_connection, sql))
        except BaseException as exc:  # noqa: BLE001  # raised as SQLAlchemy would
            self._fail(sql, exc)

    def rollback(self) -> None:
        """Execute ROLLBACK."""
        self.command(_ROLLBACK.get(self.dialect, "ROLLBACK"))

    def in_transaction(self) -> bool | None:
        """Tell whether a transaction is open by the server's last answer; None if unknown."""
        is_open = IN_TRANSACTION.get(self.connection.dialect.driver)
        return None if is_open is None else is_open(self.driver_connection)

    def check_no_transaction(self, when: str) -> None:
        """Invalidate the connection and raise ``OutOfTransaction`` if a transaction is open."""
        if self.in_transaction():
            raise self.out_of_transaction(f"a transaction is open {when}")

    def out_of_transaction(self, reason: str) -> OutOfTransaction:
        """Invalidate the connection, and return the error to raise."""
        self.connection.invalidate()
        return OutOfTransaction(reason)

    def _fail(self, sql: str, exc: BaseException, cursor: Any = None) -> NoReturn:
        """Raise ``exc`` as SQLAlchemy would; invalidate a connection that is lost."""
        dialect, pooled = self.connection.dialect, self.connection.connection
        errors: Any = errors_of(dialect.loaded_dbapi)
        if not isinstance(exc, errors) or isinstance(exc, SQLAlchemyError):
            # A SQLite file stays locked while a transaction, or a cursor in it, is open.
            if self.dialect == "sqlite":
                with suppress(Exception):
                    cursor.close()
                    pooled.rollback()
            # Cancelled before its answer, which could be read as the next statement's.
            self.connection.invalidate(exc)
            raise exc
        lost = is_broken_by(exc) or isinstance(exc, OSError)
        lost = lost or dialect.is_disconnect(exc, pooled, None)
        if lost:
            self.connection.invalidate(exc)
        raise DBAPIError.instance(
            sql,
            None,
            exc,
            errors,
            hide_parameters=True,
            connection_invalidated=lost,
            dialect=dialect,
        ) from exc

    def _check_size(self, rows: Sequence[Parameters]) -> None:
        """Raise ``StoreMisconfigured`` for a row that MySQL might answer by disconnecting."""
        if self.dialect not in MYSQL:
            return
        for row in rows:
            texts = [value for value in row.values() if isinstance(value, str | bytes)]
            if sum(map(len, texts)) > _ALWAYS_FITS:
                encoded = [each if isinstance(each, bytes) else each.encode() for each in texts]
                size = sum(len(each) + len(_ESCAPED.findall(each)) for each in encoded) + _OVERHEAD
                largest = self._max_packet()
                if size > largest:
                    raise StoreMisconfigured(
                        f"the session store failed (max_allowed_packet is {largest} bytes): "
                        f"{OVER_PACKET}"
                    )

    def _max_packet(self) -> int:
        info = self.connection.info
        if _MAX_PACKET not in info:
            ((info[_MAX_PACKET],),) = self.rows(_ASK_MAX_PACKET, {})
        largest: int = info[_MAX_PACKET]
        return largest


class DirectDatabase(Database):
    """A connection on which the driver's cursor executes statements; raises the same errors."""

    is_direct = True

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        pooled = connection.connection
        # Kept, because SQLAlchemy looks for them through four objects at each use.
        self._cursor: Callable[[], Any] = pooled.dbapi_connection.cursor  # type: ignore[union-attr]  # connected
        self._driver_connection = pooled.driver_connection
        self._is_open = IN_TRANSACTION.get(connection.dialect.driver)
        self._compiled = _compiled.setdefault(connection.dialect, {})

    @property
    def driver_connection(self) -> Any:
        """The driver's own connection, which stays the same one."""
        return self._driver_connection

    def in_transaction(self) -> bool | None:
        """See `Database.in_transaction`."""
        if self._is_open is None or self.connection.invalidated:
            return super().in_transaction()
        return self._is_open(self._driver_connection)

    def rows(self, statement: Executable, parameters: Parameters) -> Sequence[Row]:
        """See `Database.rows`."""
        compiled = self._compile(statement)
        cursor = self._cursor()
        try:
            cursor.execute(compiled.sql, compiled.bind(parameters))
            rows: Sequence[Row] = cursor.fetchall()
            cursor.close()
        except BaseException as exc:  # noqa: BLE001  # raised as SQLAlchemy would
            self._fail(compiled.sql, exc, cursor)
        return rows

    def run(self, statement: Executable, *parameters: Parameters) -> int:
        """See `Database.run`."""
        self._check_size(parameters)
        compiled = self._compile(statement)
        cursor = self._cursor()
        try:
            if len(parameters) == 1:
                cursor.execute(compiled.sql, compiled.bind(parameters[0]))
            else:
                cursor.executemany(compiled.sql, [compiled.bind(each) for each in parameters])
            count = int(cursor.rowcount)
            cursor.close()
        except BaseException as exc:  # noqa: BLE001  # raised as SQLAlchemy would
            self._fail(compiled.sql, exc, cursor)
        return count

    def command(self, sql: str) -> None:
        """See `Database.command`."""
        cursor = self._cursor()
        try:
            cursor.execute(sql)
            cursor.close()
        except BaseException as exc:  # noqa: BLE001  # raised as SQLAlchemy would
            self._fail(sql, exc, cursor)

    def _compile(self, statement: Executable) -> "_CompiledStatement":
        compiled = self._compiled.get(statement)
        if compiled is None:
            compiled = _CompiledStatement(statement, self.connection.dialect)
            self._compiled[statement] = compiled
        return compiled


class PreparingDatabase(DirectDatabase):
    """A connection on which the driver's own prepared statements read; raises the same errors.

    SQLAlchemy's cursor for asyncpg takes a lock for each statement, and copies its rows.
    """

    def __init__(self, connection: Connection, fetch: FetchPrepared) -> None:
        super().__init__(connection)
        self._fetch = fetch
        self._adapted = connection.connection.dbapi_connection

    def rows(self, statement: Executable, parameters: Parameters) -> Sequence[Row]:
        """See `Database.rows`."""
        compiled = self._compile(statement)
        try:
            return self._fetch(self._adapted, compiled.sql, compiled.bind(parameters))
        except BaseException as exc:  # noqa: BLE001  # raised as SQLAlchemy would
            self._fail(compiled.sql, exc)


def database_of(connection: Connection) -> Database:
    """Return how to execute on it: directly if its engine is our own and has no listeners."""
    engine = connection.engine
    listened_to = engine.dispatch.before_cursor_execute or engine.dispatch.after_cursor_execute
    direct = is_own(connection) and not listened_to and not engine.echo
    if not direct:
        return Database(connection)
    fetch = FETCH_PREPARED.get(engine.dialect.driver)
    return DirectDatabase(connection) if fetch is None else PreparingDatabase(connection, fetch)


def use_directly(engine: Engine) -> None:
    """Mark an engine as our own: used directly as long as its statements have no listeners."""
    engine.update_execution_options(**{_DIRECT: True})


def is_own(connection: Connection) -> bool:
    """Tell whether the connection belongs to an engine of our own."""
    return _DIRECT in connection.get_execution_options()


def is_broken_by(cause: BaseException | None) -> bool:
    """Tell whether a connection that raised ``cause`` may keep failing."""
    sqlite_error = str(getattr(cause, "sqlite_errorname", ""))
    return is_out_of_step(cause) or sqlite_error.startswith(_STALE_FILE)


class _CompiledStatement:
    """A statement compiled for one dialect: its SQL, and how its parameters are bound."""

    def __init__(self, statement: Executable, dialect: Dialect) -> None:
        assert isinstance(statement, ClauseElement)  # as every Executable is
        compiled = statement.compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)
        self.sql = compiled.string
        self._constants = compiled.params
        self._names = compiled.positiontup
        self._processors: dict[str, Callable[[Any], Any]] = {}
        for bind, name in compiled.bind_names.items():
            process = bind.type.dialect_impl(dialect).bind_processor(dialect)
            if process is not None:
                self._processors[name] = process
        self._is_plain = not self._processors and set(self._constants.values()) <= {None}

    def bind(self, parameters: Parameters) -> Any:
        """Return the parameters as the driver takes them: a tuple or a dict."""
        if self._is_plain and self._names is not None:
            return tuple([parameters[name] for name in self._names])
        bound = {**self._constants, **parameters}
        for name, process in self._processors.items():
            bound[name] = process(bound[name])
        return bound if self._names is None else tuple([bound[name] for name in self._names])


# By dialect: each engine has its own, and its compiled statements go with it.
_compiled: weakref.WeakKeyDictionary[Dialect, dict[Executable, _CompiledStatement]] = (
    weakref.WeakKeyDictionary()
)


def text_of(key: Any) -> str:
    """Return a key from a row: bytes on MySQL when the driver executed the statement."""
    return key.decode() if isinstance(key, bytes) else str(key)


class Check(Protocol):
    """Tells whether a pooled connection may be used again."""

    def __call__(self, info: Info, *, writes: bool) -> bool:
        """Return whether the connection may be used again, by its info; ``writes``: for a write."""
        ...


def add_check(engine: Engine, check: Check) -> None:
    """Run ``check`` before each use of a connection; if it fails the pool makes another."""

    def connected(_connection: object, record: Any) -> None:
        record.info.setdefault(_CHECKS, []).append(check)

    def checked_out(_connection: object, record: Any, _proxy: object) -> None:
        if not check(record.info, writes=True):
            raise DisconnectionError("the connection is out of date")

    event.listen(engine, "connect", connected)
    event.listen(engine, "checkout", checked_out)


def passes_checks(connection: Connection, *, writes: bool) -> bool:
    """Tell whether a connection that was kept out of its pool may be used again."""
    info = connection.info
    for check in info[_CHECKS]:  # noqa: SIM110  # once for each operation, where all() costs more
        if not check(info, writes=writes):
            return False
    return True


def replace_after_disconnect(engine: Engine) -> None:
    """Replace all pooled connections that are older than the loss of one of them.

    SQLAlchemy does so by itself only where it executes the statement itself.
    """
    driver_error = engine.dialect.loaded_dbapi.Error
    lost_at = float("-inf")

    def connected(_connection: object, record: Any) -> None:
        record.info[_CONNECTED_AT] = time.monotonic()

    def invalidated(_connection: object, _record: object, exc: BaseException | None) -> None:
        nonlocal lost_at
        # Invalidated for another reason, which does not concern the other connections.
        if isinstance(exc, driver_error):
            lost_at = time.monotonic()

    event.listen(engine, "connect", connected)
    event.listen(engine, "invalidate", invalidated)
    add_check(engine, lambda info, writes: info[_CONNECTED_AT] > lost_at)  # noqa: ARG005  # by name


def connect_aside(engine: Engine) -> Any:
    """Return a driver's connection that is made as the engine's are, and is none of its pool's."""
    pooled = engine.pool.recreate().connect()
    connection = pooled.driver_connection
    pooled.detach()
    return connection
