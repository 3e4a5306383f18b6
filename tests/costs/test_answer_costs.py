"""What answers cost those who have none: nothing; and what a look for one costs, in counts."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import URL, Engine, event

from hermes_session_mw import SQLAlchemyStore
from hermes_session_mw.database.connection import Database
from hermes_session_mw.stores.sqlalchemy.statements.open_answers import TRUSTED, open_answers
from hermes_session_mw.testing.helpers import new_id, numbered
from tests.support import mariadb, postgres
from tests.support.counting_proxy import counting

TURN = numbered(0, 2)
SERVERS = [
    ("postgresql+psycopg", "trio"),
    ("postgresql+asyncpg", "asyncio"),
    ("mysql+pymysql", "trio"),
    ("mysql+asyncmy", "asyncio"),
]


@pytest.fixture
def url(request: pytest.FixtureRequest, driver: str, tmp_path: Path) -> Iterator[URL]:
    """A database of the test's own, in which nobody else answers."""
    if driver == "sqlite":
        yield URL.create(driver, database=f"{tmp_path}/sessions.db")
        return
    make, server = {
        "postgresql": (postgres.database, "postgres_server"),
        "mysql": (mariadb.database, "mysql_server"),
    }[driver.split("+", maxsplit=1)[0]]
    with make(request.getfixturevalue(server)) as made:
        yield made.set(drivername=driver)


@contextmanager
def listening(engine: Engine) -> Iterator[list[str]]:
    """Collect the statements that are executed over the engine."""
    heard: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        heard.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield heard
    event.remove(engine, "before_cursor_execute", note)


async def engine_of(store: Any) -> Engine:
    """Return a store's engine, once no connection is kept out of its pool."""

    def get(database: Database) -> Engine:
        return database.connection.engine

    engine: Any = await store._executor.run(get, writes=False, seconds=60)
    with anyio.fail_after(30):
        while engine.pool.checkedout():  # noqa: ASYNC110  # nobody tells
            await anyio.sleep(0.01)
    return engine  # type: ignore[no-any-return]  # an Any for its pool


@pytest.mark.parametrize(("driver", "anyio_backend"), [("sqlite", "asyncio"), *SERVERS])
async def test_who_has_no_answers_is_not_asked_for_any(url: URL) -> None:
    """Operations look for an expired answer once a second, but always while an answer is open."""
    store, now = SQLAlchemyStore(url, threads=1), 1000.0
    await store.append("id", TURN)
    engine = await engine_of(store)
    known = open_answers(engine)
    known.clock = lambda: now
    with listening(engine) as heard:

        async def looks(operation: Awaitable[object]) -> list[bool]:
            """Return of each statement whether it names answers."""
            heard.clear()
            await operation
            return ["answer" in statement for statement in heard]

        for _ in range(2):
            assert await looks(store.load("id")) == [True]
            for reading in (
                store.load("id"),
                store.load("id", limit=1),
                store.info("id"),
                store.find_turn("id", "t"),
                store.archived("id"),
            ):
                assert await looks(reading) == [False]
            assert await looks(store.load("unknown")) == [False, False]
            for writing in (
                store.append("id", TURN),
                store.append("id", TURN, turn_id=new_id()),
                store.append("id", TURN, replace_from=4),
                store.acquire(new_id(), 60),
                store.rewind("id", 5),
                store.rename("id", "title"),
                store.export("id"),
            ):
                assert not any(await looks(writing))
            now += TRUSTED
        # What has no rows has looked too.
        assert sum(await looks(store.load("unknown"))) > 0
        assert await looks(store.load("id")) == [False]
        now += TRUSTED
        assert await looks(store.info("unknown")) == [True]
        assert await looks(store.load("id")) == [False]
        fence = await store.begin_answer("other", "a", TURN, lease=60)
        for _ in range(2):
            assert await looks(store.load("id")) == [True]
            now += TRUSTED
        await store.end_answer("other", "a", 1, [], TURN, fence=fence, state="completed")
        assert await looks(store.load("id")) == [True]
        assert await looks(store.load("id")) == [False]
    await store.aclose()


@pytest.mark.parametrize(("driver", "anyio_backend"), SERVERS)
async def test_a_look_is_no_round_trip(url: URL) -> None:
    """Where an answer is open, each operation takes as many round trips as where none is."""
    with counting(url) as (proxy, proxied):
        store = SQLAlchemyStore(proxied, threads=1)
        await store.append("id", TURN)
        known = open_answers(await engine_of(store))
        known.clock = lambda: 1000.0

        operations: dict[str, Callable[[], Awaitable[object]]] = {
            "load": lambda: store.load("id"),
            "load newest": lambda: store.load("id", limit=1),
            "load unknown": lambda: store.load("unknown"),
            "info": lambda: store.info("id"),
            "find_turn": lambda: store.find_turn("id", "t"),
            "append": lambda: store.append("id", TURN),
            "append once": lambda: store.append("id", TURN, turn_id=new_id()),
            "acquire": lambda: store.acquire(new_id(), 60),
        }

        async def costs() -> dict[str, int]:
            counted = {}
            for name, operation in operations.items():
                for _ in range(8):  # connected, compiled, prepared
                    await operation()
                before = proxy.round_trips
                await operation()
                counted[name] = proxy.round_trips - before
            return counted

        plain = await costs()
        assert plain["load"] == plain["load newest"] == plain["info"] == 1
        await store.begin_answer("other", "a", TURN, lease=60)
        assert await costs() == plain
        await store.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_later_beginning_outweighs_an_earlier_look(tmp_path: Path) -> None:
    """A look that was sent before an answer began, and is told of after it, proves nothing."""
    store = SQLAlchemyStore(f"sqlite:///{tmp_path}/sessions.db")
    await store.load("id")
    known, now = open_answers(await engine_of(store)), 1000.0
    known.clock = lambda: now
    known.note_none(now)
    assert now < known.none_until
    known.note_begun()
    assert now >= known.none_until
    known.note_none(now)
    assert now >= known.none_until
    now += 0.1
    known.note_none(now)
    assert now < known.none_until
    await store.aclose()
