"""What an operation by an asyncio driver costs, told in counts."""

import asyncio
from asyncio import selector_events
from typing import Any

import anyio
import pytest
from sqlalchemy import URL, event

from hermes_session_mw import SQLAlchemyStore, StoreUnavailable
from hermes_session_mw.database.connection import Database
from hermes_session_mw.messages import parse_json
from hermes_session_mw.stores.sqlalchemy.statements import history_texts
from hermes_session_mw.testing.helpers import numbered
from tests.support.statements import engine_of

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])
ASYNCIO = ["postgresql+asyncpg", "postgresql+psycopg_async", "mysql+asyncmy", "sqlite+aiosqlite"]
everywhere = pytest.mark.parametrize("driver", ASYNCIO)
asyncpg_alone = pytest.mark.parametrize("driver", ["postgresql+asyncpg"])


@everywhere
async def test_who_waits_for_a_connection_is_given_it(url: URL) -> None:
    """Where many operations share few connections, these go from one to the next without a pool."""
    store = SQLAlchemyStore(url, engine_options={"pool_size": 2})
    await store.append("id", numbered(0, 2))
    engine, taken = await engine_of(store), list[object]()
    event.listen(engine, "checkout", lambda *_: taken.append(None))
    lengths: list[int] = []

    async def load() -> None:
        lengths.extend([(await store.load("id")).length for _ in range(5)])

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(load)
    assert lengths == [2] * 100
    assert len(taken) <= 5
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # a QueuePool's
    await store.aclose()


@everywhere
async def test_operations_have_their_connections_in_order(url: URL) -> None:
    """Who comes first is served first, and who comes again waits behind those that wait."""
    store = SQLAlchemyStore(url, engine_options={"pool_size": 1})
    await store.append("id", numbered(0, 2))
    order: list[int] = []

    async def load(number: int) -> None:
        for _ in range(3):
            await store.load("id")
            order.append(number)

    await asyncio.gather(*map(load, range(5)))
    assert order == [*range(5)] * 3
    await store.aclose()


@everywhere
async def test_who_stops_waiting_takes_no_connection_away(url: URL) -> None:
    """Cancelled while they wait, or as they are given a connection, they hand it on."""
    store = SQLAlchemyStore(url, engine_options={"pool_size": 1})
    await store.append("id", numbered(0, 2))
    for turns in range(12):
        loads = [asyncio.create_task(store.load("id")) for _ in range(6)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for load in loads[:5]:
            load.cancel()
        with anyio.fail_after(30):
            assert (await loads[5]).length == 2
        await asyncio.gather(*loads, return_exceptions=True)
    with anyio.fail_after(30):
        assert (await store.load("id")).length == 2
    engine: Any = await engine_of(store)
    assert engine.pool.checkedout() == 0
    await store.aclose()


@asyncpg_alone
async def test_waiting_in_vain_is_told_as_such(url: URL) -> None:
    """An operation that gets no connection in time says that all are in use."""
    store: Any = SQLAlchemyStore(url, engine_options={"pool_size": 1}, timeout=60)
    await store.append("id", numbered(0, 2))
    free = asyncio.Event()

    def hold(database: Database) -> None:
        from sqlalchemy.util import await_only  # noqa: PLC0415

        assert database.connection is not None
        await_only(free.wait())

    holding = asyncio.create_task(store._executor.run(hold, writes=False, seconds=60))
    await asyncio.sleep(0)
    store._retrying._timeout = 0.05
    with pytest.raises(StoreUnavailable, match="every database connection is in use"):
        await store.load("id")
    store._retrying._timeout = 60
    free.set()
    await holding
    assert (await store.load("id")).length == 2
    await store.aclose()


@asyncpg_alone
async def test_a_statement_is_sent_at_once(url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement and its parameters are one system call, as if it were prepared under a name."""
    sent: list[bytes] = []
    write = selector_events._SelectorSocketTransport.write  # type: ignore[attr-defined]

    def note(transport: Any, data: Any) -> None:
        sent.append(bytes(data))
        write(transport, data)

    monkeypatch.setattr(selector_events._SelectorSocketTransport, "write", note)  # type: ignore[attr-defined]
    store = SQLAlchemyStore(url)
    for _ in range(3):
        await store.append("id", numbered(0, 2))
        await store.load("id")
    sent.clear()
    await store.load("id")
    assert [message[:1] for message in sent] == [b"P"]
    sent.clear()
    await store.append("id", numbered(0, 2))
    assert [message[:1] for message in sent] == [b"P"]
    await store.append("id", numbered(0, 300), turn_id="t")  # many rows for one statement
    assert (await store.load("id")).length == 8 + 300
    await store.aclose()


@pytest.mark.parametrize("driver", ASYNCIO[:-1])  # SQLite joins by commas alone
async def test_a_long_history_leaves_the_event_loop_pauses(
    url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long histories are parsed in portions, with turns of others between."""
    store = SQLAlchemyStore(url)
    messages = [{"role": "user", "content": "x" * 1000, "n": number} for number in range(500)]
    await store.append("id", messages)
    sizes = list[int]()

    def note(source: str) -> Any:
        sizes.append(len(source))
        return parse_json(source)

    monkeypatch.setattr(history_texts, "parse_json", note)
    histories = await asyncio.gather(*[store.load("id") for _ in range(4)])
    assert [history.messages for history in histories] == [messages] * 4
    assert len(sizes) >= 4 * 500_000 // (history_texts.PORTION + 1100)
    assert max(sizes) <= history_texts.PORTION + 1100
    await store.aclose()


@asyncpg_alone
async def test_a_history_is_one_row(url: URL) -> None:
    """PostgreSQL joins the texts: a driver makes one object, and not one for each message."""
    store: Any = SQLAlchemyStore(url)
    await store.append("id", numbered(0, 100))
    counts: list[int] = []
    run = store._executor.run

    async def note(work: Any, **options: Any) -> Any:
        def counted(database: Any) -> Any:
            rows = database.rows

            def read(*arguments: Any) -> Any:
                found = rows(*arguments)
                counts.append(len(found))
                return found

            database.rows = read
            try:
                return work(database)
            finally:
                del database.rows

        return await run(counted, **options)

    store._executor.run = note
    assert (await store.load("id")).length == 100
    assert (await store.load("id", limit=50)).length == 100
    assert counts == [1, 1]
    await store.aclose()
