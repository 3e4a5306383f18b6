"""What is repeated, and what a lost reply to a COMMIT means; real databases throughout."""

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Never

import anyio
import pytest
from psycopg import OperationalError
from sqlalchemy import URL, Connection, create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from hermes_session_mw import (
    AppendInDoubt,
    SQLAlchemyStore,
    StoreTimeout,
    StoreUnavailable,
    TurnConflict,
)
from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.errors import Category, classify
from hermes_session_mw.database.interruption import OperationTimeout
from hermes_session_mw.database.retry import RetryingExecutor
from hermes_session_mw.database.transactions import transaction
from hermes_session_mw.testing.helpers import new_id
from tests.support import mariadb
from tests.support.requirements import needs_driver
from tests.support.tampering_proxies import LosingProxy, losing
from tests.support.waits import give_up_after

HELLO = {"role": "user", "content": "hello"}
SYNC = ["postgresql+psycopg", "postgresql+psycopg2", "mysql+pymysql"]
CASES = [
    *[(driver, loop) for driver in SYNC for loop in ("asyncio", "trio")],
    *[(driver, "asyncio") for driver in ("postgresql+asyncpg", "mysql+asyncmy")],
]
every_driver = pytest.mark.parametrize(("driver", "anyio_backend"), CASES)


@pytest.fixture
def server_url(request: pytest.FixtureRequest, driver: str) -> URL:
    """The database of the driver's server."""
    needs_driver(driver)
    kind = "postgres_url" if driver.startswith("postgresql") else "mysql_url"
    url: URL = request.getfixturevalue(kind)
    return url.set(drivername=driver)


@every_driver
@pytest.mark.parametrize("turn_id", [None, "mine"])
async def test_a_lost_reply_to_commit_is_found_out(server_url: URL, turn_id: str | None) -> None:
    """The turn whose COMMIT was answered into nothing is stored once, and acknowledged."""
    session_id = new_id()
    direct = SQLAlchemyStore(server_url)
    await direct.append(session_id, [{"n": 0}])
    await direct.aclose()
    with losing(server_url) as (proxy, url):
        store = SQLAlchemyStore(url)
        await store.load(session_id)
        proxy.lose = 1
        assert await store.append(session_id, [{"n": 1}, {"n": 2}], turn_id=turn_id) == 3
        assert proxy.lost == 1
        assert await store.append(session_id, [{"n": 3}]) == 4
        assert (await store.load(session_id)).messages == [{"n": n} for n in range(4)]
        await store.aclose()


@every_driver
async def test_a_commit_that_stays_in_doubt_says_so(
    server_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the database cannot be asked either, the append is in doubt; repeated, it is there."""
    session_id = new_id()
    with losing(server_url) as (proxy, url):
        store = SQLAlchemyStore(url)
        await store.load(session_id)
        proxy.lose, proxy.dies = 1, True
        give_up_after(monkeypatch, store, 2)
        with pytest.raises(AppendInDoubt, match="same turn_id"):
            await store.append(session_id, [HELLO], turn_id="t")
        await store.aclose()
    store = SQLAlchemyStore(server_url)
    assert await store.append(session_id, [HELLO], turn_id="t") == 1
    with pytest.raises(TurnConflict):
        await store.append(session_id, [HELLO, HELLO], turn_id="t")
    await store.aclose()


class SlowAfterAFailure:
    """Fails once as a closed connection does, and then takes too long."""

    def __init__(self) -> None:
        self._attempts = 0

    async def run(self, *_: object, **__: object) -> Never:
        """Fail."""
        self._attempts += 1
        if self._attempts == 1:
            raise OperationalError("server closed the connection unexpectedly")
        raise OperationTimeout


async def test_a_timeout_has_the_advice_of_the_failure_before_it() -> None:
    """Where attempts failed before one took too long, the error says what to do about these."""
    executor: Any = SlowAfterAFailure()
    retrying = RetryingExecutor(executor, (OperationalError,), timeout=60)
    with pytest.raises(StoreTimeout, match=r"before that: Operat.*pool_mode.*same turn_id"):
        await retrying.read(lambda _: None)


def failing(url: URL, work: Callable[[Connection, Connection], None]) -> str:
    """Run ``work`` with two connections, and return what its error says."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as one, engine.connect() as other:
        try:
            work(one, other)
        except SQLAlchemyError as exc:
            return classify(exc).category
    return "nothing failed"


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT * FROM no_such_table", "misconfigured"),
        ("SELECT 1 FROM", "misconfigured"),
        ("SELECT 1 / 0", "other"),
    ],
)
def test_what_a_postgresql_error_means(
    postgres_url: URL, statement: str, expected: Category
) -> None:
    """A statement's own failure is told by its SQLSTATE."""

    def work(one: Connection, _: Connection) -> None:
        one.execute(text(statement))

    assert failing(postgres_url, work) == expected


def serialization(one: Connection, other: Connection) -> None:
    for connection in (one, other):
        connection.execution_options(isolation_level="SERIALIZABLE")
        connection.execute(text("SELECT sum(next_seq) FROM hermes_sessions"))
    for connection in (one, other):
        insert = text(
            "INSERT INTO hermes_sessions (owner, id, next_seq, turns) VALUES ('', :id, 1, 1)"
        )
        connection.execute(insert, {"id": new_id()})
    for connection in (one, other):
        connection.commit()


def deadlock(one: Connection, other: Connection) -> None:
    """Lock two rows crosswise; the server picks one to fail."""
    update = text("UPDATE hermes_sessions SET next_seq = next_seq WHERE id = :id")
    for connection in (one, other):
        connection.execution_options(isolation_level="READ COMMITTED")
    first: dict[str, Any] = {"id": "first"}
    second: dict[str, Any] = {"id": "second"}
    if one.dialect.name != "postgresql":
        first, second = {"id": b"first"}, {"id": b"second"}
    one.execute(update, first)
    other.execute(update, second)
    failures: list[SQLAlchemyError] = []

    async def cross(connection: Connection, row: dict[str, Any]) -> None:
        try:
            await anyio.to_thread.run_sync(connection.execute, update, row)
        except SQLAlchemyError as exc:
            failures.append(exc)
            connection.rollback()

    async def both() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cross, one, second)
            tasks.start_soon(cross, other, first)

    anyio.run(both)
    raise failures[0]


async def two_rows(url: URL) -> None:
    """Make the rows that a deadlock needs."""
    store = SQLAlchemyStore(url)
    for session_id in ("first", "second"):
        await store.append(session_id, [HELLO])
    await store.aclose()


def test_a_serialization_failure_is_repeatable(postgres_url: URL) -> None:
    """Two transactions that read what the other writes: one is told to try again."""
    anyio.run(two_rows, postgres_url)
    assert failing(postgres_url, serialization) == "conflict"


@pytest.mark.parametrize("database", ["postgres_url", "mysql_url"])
def test_a_deadlock_is_repeatable(database: str, request: pytest.FixtureRequest) -> None:
    """Of two transactions that wait for each other one is told to try again."""
    url: URL = request.getfixturevalue(database)
    anyio.run(two_rows, url)
    assert failing(url, deadlock) == "conflict"


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT * FROM no_such_table", "misconfigured"),
        ("KILL CONNECTION_ID()", "lost"),
        ("SIGNAL SQLSTATE '45000'", "other"),
    ],
)
def test_what_a_mariadb_error_means(mysql_url: URL, statement: str, expected: Category) -> None:
    """A statement's own failure is told by MariaDB's number."""

    def work(one: Connection, _: Connection) -> None:
        one.execute(text(statement))
        one.execute(text("SELECT 1"))

    assert failing(mysql_url, work) == expected


def test_a_mariadb_database_that_is_not_there_is_told(mysql_url: URL) -> None:
    """A database's name that the server does not know is a misconfiguration."""
    url = mysql_url.set(database="no_such_database")
    engine = create_engine(url, poolclass=NullPool)
    with pytest.raises(SQLAlchemyError) as caught:
        engine.connect()
    assert classify(caught.value).category == "misconfigured"


async def test_a_row_that_is_locked_too_long_is_unavailable(
    mysql_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On MariaDB too, waiting for another writer ends with an error, and writes nothing."""
    url = mysql_url.update_query_dict({"init_command": "SET innodb_lock_wait_timeout = 1"})
    store = SQLAlchemyStore(url)
    session_id = new_id()
    await store.append(session_id, [HELLO])
    with mariadb.connect(mysql_url) as holder, holder.cursor() as cursor:
        holder.begin()
        lock = "SELECT 1 FROM hermes_sessions WHERE id = %s FOR UPDATE"
        cursor.execute(lock, (session_id.encode(),))
        give_up_after(monkeypatch, store, 2)
        with pytest.raises(StoreUnavailable, match="1205"):
            await store.append(session_id, [HELLO])
        holder.rollback()
    assert await store.append(session_id, [HELLO]) == 2
    await store.aclose()


async def test_a_conflict_is_repeated_until_it_is_over(postgres_url: URL) -> None:
    """A lock that is let go in time costs a pause, and no error."""
    url = postgres_url.update_query_dict({"options": "-c lock_timeout=20"})
    store = SQLAlchemyStore(url)
    session_id = new_id()
    await store.append(session_id, [HELLO])
    holder = create_engine(postgres_url, poolclass=NullPool)
    with holder.connect() as connection:
        lock = text("SELECT 1 FROM hermes_sessions WHERE id = :id FOR UPDATE")
        connection.execute(lock, {"id": session_id})
        lengths: list[int] = []

        async def append() -> None:
            lengths.append(await store.append(session_id, [HELLO]))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(append)
            await anyio.sleep(0.2)
            assert lengths == []
            connection.rollback()
    assert lengths == [2]
    await store.aclose()


class Interrupted(Database):
    """A database whose COMMIT is not reached."""

    def command(self, sql: str) -> None:
        """See `Database.command`."""
        if sql == "COMMIT":
            raise KeyboardInterrupt
        super().command(sql)


def test_what_is_interrupted_at_commit_is_rolled_back(sqlite_url: str) -> None:
    """Whatever keeps a COMMIT from being sent, the connection is not left in a transaction."""
    engine = create_engine(sqlite_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        database = Interrupted(connection)
        with pytest.raises(KeyboardInterrupt), transaction(database):
            database.command("CREATE TABLE made (number INTEGER)")
        assert not connection.connection.driver_connection.in_transaction  # type: ignore[union-attr]
        database.command("CREATE TABLE made (number INTEGER)")
    engine.dispose()


class _Garbling(LosingProxy):
    """Spoils the number of one packet that the server sends, when it is told to lose."""

    def _asked(self, data: bytes, client: socket.socket) -> None:
        """Lose nothing on the way up."""

    def _down(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                spoiled = bytes([data[3] ^ 0x55]) if self.loses() else data[3:4]
                client.sendall(data[:3] + spoiled + data[4:])


async def test_a_connection_that_is_out_of_step_is_given_up(mysql_url: URL) -> None:
    """An answer that belongs to another question breaks a connection, which is not used again."""
    proxy = _Garbling(mysql_url)
    store = SQLAlchemyStore(mysql_url.set(port=proxy.port))
    session_id = new_id()
    assert await store.append(session_id, [HELLO]) == 1
    for _ in range(3):
        proxy.lose = 1
        assert (await store.load(session_id)).messages == [HELLO]
    assert proxy.lost == 3
    await store.aclose()
    proxy.close()
