"""A connection, as the SQL is carried out on it: through SQLAlchemy, or by the driver's own cursor.

For a statement this small, what SQLAlchemy does around each execution costs more than the database
(docs/speed.md). On an engine of our own its pool, its compiler, its dialects and its errors stay,
and the rest is left out. An engine that is the caller's, or that somebody listens to, is used in
SQLAlchemy's way.
"""

import re
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from sqlalchemy import Connection, Dialect, Engine, Executable, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

from hermes_session_mw.database.dialects import MYSQL
from hermes_session_mw.database.driver_state import IS_OPEN, TAGGED
from hermes_session_mw.database.errors import OVER_PACKET, is_out_of_step, raised_over
from hermes_session_mw.exceptions import StoreMisconfigured

Row = Sequence[Any]
Values = Mapping[str, Any]

_DIRECT = "hermes_direct"

_LARGE = 256 * 1024
"""Characters that every MySQL server takes in one statement, whatever they are."""

_MAX_PACKET = "hermes_max_packet"
_ASK_MAX_PACKET = text("SELECT @@max_allowed_packet")
_AROUND = 4096  # bytes of a statement that are not its values
# What a driver doubles, writing a value into the statement.
_ESCAPED = re.compile(rb"[\x00\n\r\x1a\"'\\]")

_COUNTED = {"preserve_rowcount": True}  # which SQLAlchemy keeps of an INSERT only if it is told so

# Whatever completion_type says: the next transaction is begun in so many words.
_COMMIT = dict.fromkeys(MYSQL, "COMMIT AND NO CHAIN")
_ROLLBACK = dict.fromkeys(MYSQL, "ROLLBACK AND NO CHAIN")

# After these, what a connection knows of its file may be wrong for good: another is opened.
_STALE = ("SQLITE_READONLY", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_CORRUPT", "SQLITE_NOTADB")


class Database:
    """Carries statements out through SQLAlchemy.

    Each statement names all its parameters. Methods raise ``SQLAlchemyError``.

    Attributes:
        connection: SQLAlchemy's.
        dialect: the name of its dialect.
        is_direct: whether SQLAlchemy does not hear of the statements.
    """

    is_direct = False

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.dialect: str = connection.dialect.name

    def rows(self, statement: Executable, values: Values) -> Sequence[Row]:
        """Execute a statement and return all its rows."""
        return self.connection.execute(statement, values).all()

    def run(self, statement: Executable, *values: Values) -> int:
        """Execute a statement for each of ``values``; return how many rows it found, where one."""
        self._check_size(values)
        # A list of one is "many" to drivers, which count otherwise then.
        given = values[0] if len(values) == 1 else list(values)
        return self.connection.execute(statement, given, execution_options=_COUNTED).rowcount

    def command(self, sql: str) -> None:
        """Execute a command without parameters, such as BEGIN."""
        self.connection.exec_driver_sql(sql)

    def commit(self) -> str | None:
        """Execute COMMIT; return the tag that PostgreSQL answers it with.

        By the driver itself there, as SQLAlchemy keeps the tag to itself.
        """
        sql = _COMMIT.get(self.dialect, "COMMIT")
        execute = TAGGED.get(self.connection.dialect.driver)
        if execute is None:
            self.command(sql)
            return None
        try:
            return str(execute(self.connection.connection.driver_connection, sql))
        except BaseException as exc:  # noqa: BLE001  # raised anew
            self._fail(sql, exc)

    def rollback(self) -> None:
        """Execute ROLLBACK."""
        self.command(_ROLLBACK.get(self.dialect, "ROLLBACK"))

    def in_transaction(self) -> bool | None:
        """Tell whether a transaction is open, by the server's last answer; None if nobody knows."""
        is_open = IS_OPEN.get(self.connection.dialect.driver)
        return None if is_open is None else is_open(self.connection.connection.driver_connection)

    def _fail(self, sql: str, exc: BaseException, cursor: Any = None) -> NoReturn:
        """Raise what SQLAlchemy would, and let go of a connection that cannot be used again."""
        dialect, lent = self.connection.dialect, self.connection.connection
        errors: Any = raised_over(dialect.loaded_dbapi)
        if not isinstance(exc, errors) or isinstance(exc, SQLAlchemyError):
            # A SQLite file stays locked as long as a transaction is open, or a cursor of one.
            if self.dialect == "sqlite":
                with suppress(Exception):
                    cursor.close()
                    lent.rollback()
            # Cancelled in the middle: the answer may still come, to the next one who asks.
            self.connection.invalidate(exc)
            raise exc
        lost = is_stale(exc) or isinstance(exc, OSError) or dialect.is_disconnect(exc, lent, None)
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

    def _check_size(self, values: Sequence[Values]) -> None:
        """Refuse a row that MySQL would not take: it cuts the connection off, often unheard.

        Raises:
            StoreMisconfigured: the server takes no packet of that size.
        """
        if self.dialect not in MYSQL:
            return
        for row in values:
            texts = [value for value in row.values() if isinstance(value, str)]
            if sum(map(len, texts)) > _LARGE:
                encoded = [each.encode() for each in texts]
                size = sum(len(each) + len(_ESCAPED.findall(each)) for each in encoded) + _AROUND
                most = self._max_packet()
                if size > most:
                    raise StoreMisconfigured(
                        f"the session store failed (max_allowed_packet is {most} bytes): "
                        f"{OVER_PACKET}"
                    )

    def _max_packet(self) -> int:
        info = self.connection.info
        if _MAX_PACKET not in info:
            ((info[_MAX_PACKET],),) = self.rows(_ASK_MAX_PACKET, {})
        most: int = info[_MAX_PACKET]
        return most


class DirectDatabase(Database):
    """Carries them out by the driver's cursor; raises the same errors."""

    is_direct = True

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._lent = connection.connection
        self._forms = _forms_of(connection.dialect)

    def rows(self, statement: Executable, values: Values) -> Sequence[Row]:
        """See `Database.rows`."""
        form = self._form(statement)
        cursor = self._lent.cursor()
        try:
            cursor.execute(form.sql, form.bind(values))
            rows: Sequence[Row] = cursor.fetchall()
            cursor.close()
        except BaseException as exc:  # noqa: BLE001  # raised anew
            self._fail(form.sql, exc, cursor)
        return rows

    def run(self, statement: Executable, *values: Values) -> int:
        """See `Database.run`."""
        self._check_size(values)
        form = self._form(statement)
        cursor = self._lent.cursor()
        try:
            if len(values) == 1:
                cursor.execute(form.sql, form.bind(values[0]))
            else:
                cursor.executemany(form.sql, [form.bind(each) for each in values])
            count = int(cursor.rowcount)
            cursor.close()
        except BaseException as exc:  # noqa: BLE001  # raised anew
            self._fail(form.sql, exc, cursor)
        return count

    def command(self, sql: str) -> None:
        """See `Database.command`."""
        cursor = self._lent.cursor()
        try:
            cursor.execute(sql)
            cursor.close()
        except BaseException as exc:  # noqa: BLE001  # raised anew
            self._fail(sql, exc, cursor)

    def _form(self, statement: Executable) -> "_Form":
        form = self._forms.get(statement)
        if form is None:
            form = self._forms[statement] = _Form(statement, self.connection.dialect)
        return form


def database_of(connection: Connection) -> Database:
    """Return how statements are to be carried out on ``connection``."""
    engine = connection.engine
    heard = engine.dispatch.before_cursor_execute or engine.dispatch.after_cursor_execute
    direct = is_ours(connection) and not heard and not engine.echo
    return DirectDatabase(connection) if direct else Database(connection)


def go_direct(engine: Engine) -> None:
    """Have an engine of our own used directly, as long as nobody listens to its statements."""
    engine.update_execution_options(**{_DIRECT: True})


def is_ours(connection: Connection) -> bool:
    """Tell whether the connection is one of an engine of our own."""
    return _DIRECT in connection.get_execution_options()


def is_stale(cause: BaseException | None) -> bool:
    """Tell whether a connection that raised ``cause`` may go on failing for no reason."""
    if is_out_of_step(cause):
        return True
    return str(getattr(cause, "sqlite_errorname", "")).startswith(_STALE)


class _Form:
    """What a statement is for one dialect: its text, and how its parameters are bound."""

    def __init__(self, statement: Executable, dialect: Dialect) -> None:
        if not isinstance(statement, ClauseElement):  # pragma: no cover  # for the type checker
            raise TypeError(statement)
        compiled = statement.compile(dialect=dialect)
        if not isinstance(compiled, SQLCompiler):  # pragma: no cover  # for the type checker
            raise TypeError(statement)
        self.sql = compiled.string
        self._constants = compiled.params
        self._names = compiled.positiontup
        self._processors: dict[str, Callable[[Any], Any]] = {}
        for bind, name in compiled.bind_names.items():
            process = bind.type.dialect_impl(dialect).bind_processor(dialect)
            if process is not None:
                self._processors[name] = process
        self._is_plain = not self._processors and set(self._constants.values()) <= {None}

    def bind(self, values: Values) -> Any:
        """Return the parameters as the driver takes them: a tuple, or a dict."""
        if self._is_plain and self._names is not None:
            return tuple([values[name] for name in self._names])
        bound = {**self._constants, **values}
        for name, process in self._processors.items():
            bound[name] = process(bound[name])
        return bound if self._names is None else tuple([bound[name] for name in self._names])


# SQLAlchemy keeps what it has compiled with the engine; here it goes with the dialect.
_all_forms: weakref.WeakKeyDictionary[Dialect, dict[Executable, _Form]] = (
    weakref.WeakKeyDictionary()
)


def _forms_of(dialect: Dialect) -> dict[Executable, _Form]:
    forms = _all_forms.get(dialect)
    if forms is None:
        forms = _all_forms[dialect] = {}
    return forms


def text_of(key: Any) -> str:
    """Return a key as a row holds it: bytes on MySQL, where SQLAlchemy does not convert them."""
    return key.decode() if isinstance(key, bytes) else str(key)
