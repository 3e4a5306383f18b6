"""Nothing counts as stored without the server's word: a COMMIT that was none is never a success.

Real servers, which a proxy makes do something else than they were asked to, once or always.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from sqlalchemy import URL, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from hermes_session_mw import AppendInDoubt, SQLAlchemyStore, StoreUnavailable
from hermes_session_mw.database.connection import Database, OutOfTransaction
from hermes_session_mw.database.drivers import EXECUTE_WITH_TAG, IN_TRANSACTION
from hermes_session_mw.database.transactions import CommitFailed, transaction
from hermes_session_mw.testing.helpers import new_id, numbered
from tests.support import mariadb, postgres
from tests.support.requirements import needs_driver
from tests.support.tampering_proxies import rewriting

POSTGRESQL = [
    "postgresql+psycopg",
    "postgresql+psycopg2",
    "postgresql+psycopg_async",
    "postgresql+asyncpg",
]
MYSQL = ["mysql+pymysql", "mysql+asyncmy"]
SQLITE = ["sqlite", "sqlite+aiosqlite"]
EITHER = pytest.mark.parametrize("borrowed", [False, True], ids=["own", "borrowed"])

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])


@pytest.fixture
def url(request: pytest.FixtureRequest, driver: str, sqlite_url: str) -> URL | str:
    """A database of the driver's."""
    needs_driver(driver)
    if driver.startswith("sqlite"):
        return sqlite_url.replace("sqlite", driver, 1)
    kind = "postgres_url" if driver.startswith("postgresql") else "mysql_url"
    server: URL = request.getfixturevalue(kind)
    return server.set(drivername=driver)


Make = Callable[..., SQLAlchemyStore]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Makes stores of one connection, on engines of their own or on borrowed ones."""
    stores: list[SQLAlchemyStore] = []
    async_engines: list[Any] = []
    with ExitStack() as stack:

        def make(url: URL | str, *, borrowed: bool = False, timeout: float = 20) -> SQLAlchemyStore:
            target: Any = url
            if borrowed and ("async" in str(url) or "aio" in str(url)):
                # So that the proxy sees the words each time.
                options = {"statement_cache_size": 0} if "asyncpg" in str(url) else {}
                target = create_async_engine(url, pool_size=1, max_overflow=0, connect_args=options)
                async_engines.append(target)
            elif borrowed:
                target = create_engine(url, pool_size=1, max_overflow=0)
                stack.callback(target.dispose)
            store = SQLAlchemyStore(target, threads=1, timeout=timeout)
            stores.append(store)
            return store

        yield make
        for store in stores:
            await store.aclose()
        for engine in async_engines:
            await engine.dispose()


async def run(store: Any, work: Callable[[Database], Any]) -> Any:
    """Return what ``work`` returns, on a connection of the store's."""
    return await store._executor.run(work, writes=True, seconds=30)


def cases() -> Iterator[Any]:
    """Each driver, what is asked, and what the server does instead."""
    for driver in POSTGRESQL:
        begin = b"BEGIN ISOLATION LEVEL READ COMMITTED"
        yield pytest.param(driver, begin, b"DEALLOCATE ALL", id=f"{driver}-no-begin")
        yield pytest.param(driver, b"COMMIT\0", b"ABORT \0", id=f"{driver}-rolled-back")
        yield pytest.param(driver, b"COMMIT\0", b"BEGIN \0", id=f"{driver}-still-open")
    for driver in MYSQL:
        commit = b"COMMIT AND NO CHAIN"
        yield pytest.param(driver, b"START TRANSACTION", b"DO 1", id=f"{driver}-no-begin")
        yield pytest.param(driver, commit, b"DO 1", id=f"{driver}-still-open")


@EITHER
@pytest.mark.parametrize(("driver", "asked", "done"), list(cases()))
async def test_a_transaction_that_was_none_is_repeated(
    url: URL, make: Make, borrowed: bool, asked: bytes, done: bytes
) -> None:
    """Where the server began or committed nothing, the turn is stored again, and stored once."""
    session_id = new_id()
    with rewriting(url, asked, done) as (proxy, through):
        store = make(through, borrowed=borrowed)
        assert await store.append(session_id, numbered(0, 2), expected_length=0) == 2
        proxy.lose = 1
        assert await store.append(session_id, numbered(2, 2), expected_length=2) == 4
        assert proxy.lost == 1
        await store.aclose()
    assert (await make(url).load(session_id)).messages == numbered(0, 4)


@EITHER
@pytest.mark.parametrize(("driver", "asked", "done"), list(cases()))
async def test_a_transaction_that_is_never_one_is_an_error(
    url: URL, make: Make, borrowed: bool, asked: bytes, done: bytes
) -> None:
    """Where the server never begins or commits, no append is acknowledged, and none is stored."""
    session_id = new_id()
    with rewriting(url, asked, done) as (proxy, through):
        store = make(through, borrowed=borrowed, timeout=1)
        assert await make(url).append(session_id, numbered(0, 2), expected_length=0) == 2
        proxy.lose = 1_000
        with pytest.raises((AppendInDoubt, StoreUnavailable)) as caught:
            await store.append(session_id, numbered(2, 2), expected_length=2)
        assert "OutOfTransaction" in str(caught.value) or "not answer" in str(caught.value)
        await store.aclose()
    assert (await make(url).load(session_id)).messages == numbered(0, 2)


@EITHER
@pytest.mark.parametrize("driver", [*POSTGRESQL, *MYSQL, *SQLITE])
async def test_a_transaction_that_ended_before_its_commit(
    url: URL, make: Make, borrowed: bool, driver: str
) -> None:
    """What was ended by somebody else is not committed, and its connection is not used again."""
    store = make(url, borrowed=borrowed)
    await store.append(new_id(), numbered(0))

    def work(database: Database) -> None:
        with transaction(database):
            database.rollback()

    with pytest.raises(CommitFailed) as caught:
        await run(store, work)
    assert isinstance(caught.value.cause, OutOfTransaction)
    assert await store.append(new_id(), numbered(0)) == 1


@EITHER
@pytest.mark.parametrize("driver", POSTGRESQL)
async def test_a_failed_transaction_is_not_committed(
    url: URL, make: Make, borrowed: bool, driver: str
) -> None:
    """PostgreSQL answers the COMMIT of a failed transaction by ROLLBACK, which is an error."""
    store = make(url, borrowed=borrowed)

    def work(database: Database) -> None:
        with transaction(database), suppress(DBAPIError):
            database.rows(text("SELECT 1 / 0"), {})

    with pytest.raises(CommitFailed) as caught:
        await run(store, work)
    assert str(caught.value.cause) == "COMMIT was answered by ROLLBACK"


@EITHER
@pytest.mark.parametrize("driver", [*POSTGRESQL, *MYSQL])
@pytest.mark.parametrize("expected", [None, 0])
async def test_a_transaction_of_somebody_elses(
    url: URL, make: Make, borrowed: bool, driver: str, expected: int | None
) -> None:
    """An append on a connection whose transaction was left open is not done inside of that one."""
    store = make(url, borrowed=borrowed)
    await store.append(new_id(), numbered(0))
    session_id = new_id()
    await run(store, lambda database: database.command("BEGIN"))
    assert await store.append(session_id, numbered(0), expected_length=expected) == 1
    assert (await make(url).load(session_id)).messages == numbered(0)


@EITHER
@pytest.mark.parametrize("driver", POSTGRESQL)
async def test_an_append_that_did_not_commit_itself(
    url: URL, make: Make, borrowed: bool, driver: str
) -> None:
    """An append in one statement that left a transaction open is looked for, and stored once."""
    session_id = new_id()
    idle, busy = b"INSERT 0 1\0Z\0\0\0\5I", b"INSERT 0 1\0Z\0\0\0\5T"
    with rewriting(url, idle, busy, in_answers=True) as (proxy, through):
        store = make(through, borrowed=borrowed)
        assert await store.append(session_id, numbered(0)) == 1
        proxy.lose = 1
        assert await store.append(session_id, numbered(1)) == 2
        assert proxy.lost == 1
        await store.aclose()
    assert (await make(url).load(session_id)).messages == numbered(0, 2)


@EITHER
@pytest.mark.parametrize("driver", ["postgresql+psycopg", "mysql+pymysql"])
async def test_a_driver_that_does_not_tell(
    url: URL, make: Make, borrowed: bool, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a driver does not know what the server said, the server is asked by a savepoint."""
    name = driver.partition("+")[2]
    monkeypatch.delitem(IN_TRANSACTION, name)
    monkeypatch.delitem(EXECUTE_WITH_TAG, name, raising=False)
    store = make(url, borrowed=borrowed)
    session_id = new_id()
    assert await store.append(session_id, numbered(0)) == 1
    assert await store.append(session_id, numbered(1), expected_length=1) == 2

    def kill(database: Database) -> None:
        own = "pg_backend_pid()" if database.dialect == "postgresql" else "connection_id()"
        ((number,),) = database.rows(text(f"SELECT {own}"), {})
        if database.dialect == "postgresql":
            with postgres.connect(url) as connection:
                connection.execute("SELECT pg_terminate_backend(%s)", (number,))
        else:
            with mariadb.connect(url) as other, other.cursor() as cursor:
                cursor.execute(f"KILL {number}")

    for end, error in ((Database.rollback, OutOfTransaction), (kill, DBAPIError)):

        def work(database: Database, end: Callable[[Database], None] = end) -> None:
            with transaction(database):
                end(database)

        with pytest.raises(CommitFailed) as caught:
            await run(store, work)
        assert isinstance(caught.value.cause, error)
    assert (await store.load(session_id)).messages == numbered(0, 2)


@EITHER
@pytest.mark.parametrize("driver", MYSQL)
async def test_a_server_that_chains_transactions(url: URL, make: Make, borrowed: bool) -> None:
    """A server that begins anew at each COMMIT is told not to: no load sees an old snapshot."""
    command = "SET completion_type = 'CHAIN'"
    store = make(url.update_query_dict({"init_command": command}), borrowed=borrowed)
    other, session_id = make(url), new_id()
    for number in range(3):
        assert await store.append(session_id, numbered(2 * number)) == 2 * number + 1
        assert await other.append(session_id, numbered(2 * number + 1)) == 2 * number + 2
        assert (await store.load(session_id)).messages == numbered(0, 2 * number + 2)
