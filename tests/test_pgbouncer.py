"""Stores behind a real PgBouncer, whose server connections are lent for a transaction."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from sqlalchemy import URL, text

from hermes_session_mw import SQLAlchemyStore, Store

from .lifecycle_contract import LifecycleContract, ThreadsContract
from .machine import needs
from .pgbouncer import PgBouncer, missing, own_pooler
from .store_contract import StoreContract, new_id, numbered

DRIVERS = [
    ("postgresql+psycopg", "asyncio"),
    ("postgresql+psycopg_async", "asyncio"),
    ("postgresql+asyncpg", "asyncio"),
]
EITHER = pytest.mark.parametrize(("driver", "anyio_backend"), DRIVERS)
ASKED_FOR = {
    "postgresql+psycopg": {"prepare_threshold": 2},
    "postgresql+psycopg_async": {"prepare_threshold": 2},
    "postgresql+asyncpg": {"statement_cache_size": 100},
}


@pytest.fixture(scope="module")
def transaction_pooler(postgres_url: URL) -> Iterator[PgBouncer]:
    """A pooler that lends its four server connections for a transaction."""
    needs(missing())
    with own_pooler(postgres_url, "transaction") as pooler:
        yield pooler


@pytest.fixture(scope="module")
def session_pooler(postgres_url: URL) -> Iterator[PgBouncer]:
    """A pooler that lends its server connections for as long as a client is connected."""
    needs(missing())
    with own_pooler(postgres_url, "session") as pooler:
        yield pooler


@pytest.fixture
async def store(transaction_pooler: PgBouncer, driver: str) -> AsyncIterator[Store]:
    """A store as it comes, without an option, behind a pooler in transaction mode."""
    store = SQLAlchemyStore(transaction_pooler.url.set(drivername=driver))
    yield store
    await store.aclose()


@EITHER
class TestStoreContract(StoreContract):
    """The contract, in transaction mode."""


@EITHER
class TestLifecycleContract(LifecycleContract):
    """The contract of conversations' lives, in transaction mode."""


@EITHER
class TestThreadsContract(ThreadsContract):
    """The contract of threads, in transaction mode."""


@EITHER
@pytest.mark.parametrize("asked_for", [False, True])
async def test_no_statement_has_a_name(postgres_url: URL, driver: str, asked_for: bool) -> None:
    """No statement is prepared under a name on a server connection, unless it is asked for."""
    options = {"connect_args": ASKED_FOR[driver]} if asked_for else {}
    url = postgres_url.set(drivername=driver)
    store: Any = SQLAlchemyStore(url, threads=1, engine_options=options)
    session_id = new_id()
    for number in range(8):
        await store.append(session_id, numbered(2 * number, 2), expected_length=2 * number)
        await store.append(new_id(), numbered(0))
        await store.load(session_id)
    names = text("SELECT name FROM pg_prepared_statements WHERE NOT from_sql")
    found = await store._runner.run(lambda d: d.rows(names, {}), writes=False, seconds=30)
    assert bool(found) is asked_for
    await store.aclose()
