"""Every store that the package brings, held to the contract, on each event loop that it knows."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from sqlalchemy import URL, create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import Pool, QueuePool

from hermes_session_mw import MemoryStore, SQLAlchemyStore, Store
from hermes_session_mw.testing import StoreArguments, StoreOperations
from hermes_session_mw.testing.helpers import new_id, numbered
from tests.support import json_values
from tests.support.requirements import needs_driver


@dataclass(frozen=True)
class Case:
    """A store over a database and a driver, owned or borrowed, under an event loop."""

    database: str
    backend: str
    borrowed: bool = False

    def __str__(self) -> str:
        return f"{self.database}{'-borrowed' if self.borrowed else ''}-{self.backend}"


TIMEOUT = 60
"""Seconds for an operation on a busy machine; what a time-out does has tests of its own."""

ANY_LOOP = [
    "memory",
    "sqlite",
    "sqlite-in-memory",
    "postgresql+psycopg",
    "postgresql+psycopg2",
    "mysql+pymysql",
]
ASYNCIO_ONLY = [
    "sqlite+aiosqlite",
    "postgresql+asyncpg",
    "postgresql+psycopg_async",
    "mysql+asyncmy",
]
CASES = [
    *[Case(name, backend) for name in ANY_LOOP for backend in ("asyncio", "trio")],
    *[Case(name, "asyncio") for name in ASYNCIO_ONLY],
    Case("sqlite", "trio", borrowed=True),
    Case("postgresql+psycopg", "trio", borrowed=True),
    Case("postgresql+psycopg2", "trio", borrowed=True),
    Case("postgresql+asyncpg", "asyncio", borrowed=True),
    Case("sqlite+aiosqlite", "asyncio", borrowed=True),
    Case("mariadb+pymysql", "trio", borrowed=True),
]
# What is refused before any database is asked depends on neither the loop nor the engine's owner.
ARGUMENT_CASES = [
    Case("memory", "asyncio"),
    Case("sqlite", "trio"),
    *[Case(name, "asyncio") for name in (*ANY_LOOP, *ASYNCIO_ONLY) if "+" in name],
]


@pytest.fixture(params=CASES, ids=str, scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    """The store, driver and event loop that the contract is held to."""
    return request.param  # type: ignore[no-any-return]  # pytest types it as Any


@pytest.fixture(scope="module")
def anyio_backend(case: Case) -> str:
    """The case's event loop."""
    return case.backend


@pytest.fixture
def checked_out() -> Iterator[list[Pool]]:
    """Pools that must have all their connections back when the test ends."""
    pools: list[Pool] = []
    yield pools
    # An engine that SQLAlchemy 2.0 makes for aiosqlite has none: each connection is a new one.
    counted = [pool for pool in pools if isinstance(pool, QueuePool)]
    assert [0 for _ in counted] == [pool.checkedout() for pool in counted]


@pytest.fixture
async def store(
    case: Case,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
    checked_out: list[Pool],
) -> AsyncIterator[Store]:
    """A store of the case, whose connections are all given back at the end."""
    if case.database == "memory":
        yield MemoryStore()
        return
    url = url_of(case.database, tmp_path_factory.getbasetemp(), request)
    if not case.borrowed:
        owning = SQLAlchemyStore(url, timeout=TIMEOUT)
        yield owning
        await owning.aclose()
        return
    if url.get_dialect().is_async:
        async_engine = create_async_engine(url)
        checked_out.append(async_engine.pool)
        yield SQLAlchemyStore(async_engine, timeout=TIMEOUT)
        await async_engine.dispose()
        return
    with ExitStack() as stack:
        engine = create_engine(url)
        stack.callback(engine.dispose)
        checked_out.append(engine.pool)
        yield SQLAlchemyStore(engine, timeout=TIMEOUT)


def url_of(database: str, folder: Path, request: pytest.FixtureRequest) -> URL:
    """Return a URL of the kind, in this run's own folder or database."""
    needs_driver(database)
    server = {"postgresql": "postgres_url", "mysql": "mysql_url", "mariadb": "mysql_url"}
    if (kind := database.split("+", maxsplit=1)[0]) in server:
        url: Any = request.getfixturevalue(server[kind])
        return url.set(drivername=database)  # type: ignore[no-any-return]  # a fixture's value is Any
    if database == "sqlite-in-memory":
        return URL.create("sqlite")
    return URL.create(database, database=str(folder / f"{database}.db"))


@pytest.mark.parametrize("case", ARGUMENT_CASES, ids=str, indirect=True, scope="module")
class TestStoreArguments(StoreArguments):
    """What is judged in Python, over no database, over one, and over each driver once."""


class TestStoreOperations(StoreOperations):
    """What the database does, for every case."""

    async def test_whatever_hypothesis_makes_comes_back_exactly(self, store: Store) -> None:
        """Any JSON object is returned unchanged, byte for byte."""
        sent: list[dict[str, Any]] = []

        @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
        @given(json_values.messages)
        def collect(message: dict[str, Any]) -> None:
            sent.append(message)

        collect()
        session_id = new_id()
        await store.append(session_id, sent)
        history = await store.load(session_id)
        assert json.dumps(sent) == json.dumps(history.messages)

    async def test_a_closed_store_can_be_used_again(self, store: Store) -> None:
        """Closing releases the connections, and the next call opens them again."""
        if "sqlite://" in repr(store) and "sqlite:///" not in repr(store):  # only in memory
            await store.append("id", numbered(0))
            await store.aclose()
            assert await store.append("id", numbered(1)) == 1
        else:
            await super().test_a_closed_store_can_be_used_again(store)
