"""A database that takes no writes is read without the fold that a read makes elsewhere."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, event, make_url, text, update
from sqlalchemy.ext.asyncio import create_async_engine

from hermes_session_mw import History, SQLAlchemyStore, StoreError
from hermes_session_mw.stores.sqlalchemy.schema import tables
from hermes_session_mw.testing.answer_writers import ASKED, Writer, begun, part
from hermes_session_mw.testing.helpers import numbered
from tests.support import mariadb, postgres

Open = Callable[[], SQLAlchemyStore]
"""Makes a store that may only read."""

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])


def execute(url: URL, *statements: str) -> None:
    """Execute statements, each in a transaction of its own."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


async def with_an_abandoned_answer(url: URL) -> Writer:
    """Store a message, and an answer whose lease has expired."""
    store = SQLAlchemyStore(url)
    await store.append("id", numbered(0))
    writer = await begun(store, "id")
    await writer.write(1, "Be")
    await store.aclose()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(update(tables.sessions).values(leased_until=0))
    engine.dispose()
    return writer


async def check(writer: Writer, store: SQLAlchemyStore) -> None:
    """The store reads what is stored."""
    assert await store.load("id") == History(numbered(0), 1, exists=True)
    assert await store.load("id", limit=1) == History(numbered(0), 1, exists=True)
    info = await store.info("id")
    assert info is not None
    assert info.length == 1
    assert await store.find_turn("id", "unknown") is None
    assert await store.archived("id") == []
    found = await store.find_answer(writer.id)
    assert found is not None
    assert (found.state, found.is_alive) == ("running", False)
    assert await store.open_answer("id") == found
    assert await store.read_events(writer.id) == ("running", ['"Be"'])
    assert not await store.request_stop(writer.id)
    with pytest.raises(StoreError):
        await store.append("id", numbered(1))
    assert (await store.load("id")).length == 1
    await store.aclose()


async def check_fold(url: URL) -> None:
    """A store that may write folds."""
    store = SQLAlchemyStore(url)
    assert (await store.load("id")).messages == [*numbered(0), ASKED, part("Be")]
    await store.aclose()


@pytest.mark.parametrize("how", ["mode=ro", "immutable=1", "aiosqlite", "query_only"])
async def test_a_file_that_is_opened_read_only(tmp_path: Path, how: str) -> None:
    """A SQLite file is read without the fold where it is opened read-only, in whatever way."""
    url = URL.create("sqlite", database=str(tmp_path / "sessions.db"))
    writer = await with_an_abandoned_answer(url)
    if how == "query_only":
        engine = create_engine(url)
        event.listen(engine, "connect", lambda made, _: made.execute("PRAGMA query_only = 1"))
        await check(writer, SQLAlchemyStore(engine))
        engine.dispose()
    elif how == "aiosqlite":
        name = f"sqlite+aiosqlite:///file:{url.database}?mode=ro&uri=true"
        async_engine = create_async_engine(name)
        await check(writer, SQLAlchemyStore(async_engine))
        await async_engine.dispose()
    else:
        name = f"sqlite:///file:{url.database}?{how}&uri=true"
        await check(writer, SQLAlchemyStore(name))
    await check_fold(url)


@pytest.fixture
def postgres_database(postgres_server: URL) -> Iterator[URL]:
    """A database of the test's own."""
    with postgres.database(postgres_server) as url:
        yield url


POSTGRES_DRIVERS = ["psycopg", "psycopg2", "asyncpg"]


@pytest.mark.parametrize("driver", POSTGRES_DRIVERS)
async def test_read_only_transactions_of_postgresql(
    postgres_server: URL, postgres_database: URL, driver: str
) -> None:
    """A PostgreSQL database whose transactions are read-only is read without the fold."""
    writer = await with_an_abandoned_answer(postgres_database)
    read_only = f'ALTER DATABASE "{postgres_database.database}" SET default_transaction_read_only'
    execute(postgres_server, f"{read_only} = on")
    await check(writer, SQLAlchemyStore(postgres_database.set(drivername=f"postgresql+{driver}")))
    execute(postgres_server, f"{read_only} = off")
    await check_fold(postgres_database)


@pytest.mark.parametrize("driver", POSTGRES_DRIVERS)
async def test_a_user_who_may_only_select(postgres_database: URL, driver: str) -> None:
    """A PostgreSQL user without the right to write reads without the fold."""
    writer = await with_an_abandoned_answer(postgres_database)
    user = f"reader_{secrets.token_hex(4)}"
    execute(
        postgres_database,
        f"CREATE USER {user}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {user}",
    )
    try:
        url = postgres_database.set(username=user, drivername=f"postgresql+{driver}")
        await check(writer, SQLAlchemyStore(url))
        await check_fold(postgres_database)
    finally:
        execute(postgres_database, f"DROP OWNED BY {user}", f"DROP USER {user}")


@pytest.mark.parametrize("driver", ["pymysql", "asyncmy"])
async def test_read_only_transactions_of_mariadb(mysql_server: URL, driver: str) -> None:
    """A MariaDB database whose transactions are read-only is read without the fold."""
    with mariadb.database(mysql_server) as url:
        writer = await with_an_abandoned_answer(url)
        read_only = {"init_command": "SET SESSION TRANSACTION READ ONLY"}
        reading = make_url(url).set(drivername=f"mysql+{driver}").update_query_dict(read_only)
        await check(writer, SQLAlchemyStore(reading))
        await check_fold(url)
