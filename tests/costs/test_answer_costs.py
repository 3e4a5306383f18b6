"""What answers cost those who have none: nothing; and what a look for one costs, in counts."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, text

from hermes_session_mw import SQLAlchemyStore
from hermes_session_mw.database.connection import Database
from hermes_session_mw.stores.sqlalchemy.statements.open_answers import TRUSTED, open_answers
from hermes_session_mw.testing.helpers import new_id, numbered
from tests.support.counting_proxy import counting
from tests.support.statements import EVERYWHERE, SERVERS, engine_of, listening

TURN = numbered(0, 2)


class Looks:
    """Tells which statements of an operation look for answers, by a clock that stands still.

    Attributes:
        now: what the store takes for the time.
    """

    def __init__(self, engine: Engine, heard: list[str]) -> None:
        self.now = 1000.0
        self._heard = heard
        open_answers(engine).clock = lambda: self.now

    async def of(self, operation: Awaitable[object]) -> list[bool]:
        """Return of each statement whether it names answers."""
        self._heard.clear()
        await operation
        return ["answer" in statement for statement in self._heard]


@asynccontextmanager
async def looking(store: SQLAlchemyStore) -> AsyncIterator[Looks]:
    """Tell which statements of a store look for answers."""
    engine = await engine_of(store)
    with listening(engine) as heard:
        yield Looks(engine, heard)


async def let_expire(store: Any, session_id: str) -> None:
    """Have a session's lease end, as time would."""
    ended = text("UPDATE hermes_sessions SET leased_until = 0 WHERE id = :id")

    def expire(database: Database) -> int:
        return database.run(ended, {"id": session_id})

    assert await store._executor.run(expire, writes=True, seconds=60) == 1


async def stored_state(store: Any, answer_id: str) -> str:
    """Return the state of an answer, which nothing folds for that."""
    query = text("SELECT state FROM hermes_answers WHERE id = :id")

    def read(database: Database) -> str:
        return str(database.rows(query, {"id": answer_id})[0][0])

    return str(await store._executor.run(read, writes=False, seconds=60))


@pytest.mark.parametrize(("driver", "anyio_backend"), EVERYWHERE)
async def test_expired_answers_are_looked_for_once_a_second(url: URL) -> None:
    """One load a second looks for an expired answer, whether answers run or not."""
    store = SQLAlchemyStore(url, threads=1)
    await store.append("id", TURN)
    await store.append("answered", TURN)
    async with looking(store) as looks:
        for is_answering in (False, True):
            if is_answering:
                fence = await store.begin_answer("answered", "a", TURN, lease=60)
            for _ in range(2):
                looks.now += TRUSTED
                assert await looks.of(store.load("id")) == [True]
                for reading in (
                    store.load("id"),
                    store.load("answered"),
                    store.load("id", limit=1),
                    store.info("answered"),
                    store.find_turn("id", "t"),
                    store.archived("id"),
                ):
                    assert await looks.of(reading) == [False]
                assert await looks.of(store.load("unknown")) == [False, False]
                for writing in (
                    store.append("id", TURN),
                    store.append("answered", TURN),
                    store.append("id", TURN, turn_id=new_id()),
                    store.append("id", TURN, replace_from=4),
                    store.acquire(new_id(), 60),
                    store.rewind("id", 5),
                    store.rename("id", "title"),
                    store.export("answered"),
                ):
                    assert not any(await looks.of(writing))
            looks.now += TRUSTED
            # What has no rows has looked too.
            assert sum(await looks.of(store.load("unknown"))) > 0
            assert await looks.of(store.load("id")) == [False]
            looks.now += TRUSTED
            assert await looks.of(store.info("unknown")) == [True]
            assert await looks.of(store.load("id")) == [False]
        await store.end_answer("answered", "a", 1, [], TURN, fence=fence, state="completed")
        assert await looks.of(store.load("id")) == [False]
    await store.aclose()


@pytest.mark.parametrize(("driver", "anyio_backend"), EVERYWHERE)
async def test_sessions_of_due_answers_alone_are_looked_at_each_time(url: URL) -> None:
    """Where a lease has ended, its session is looked at by each operation, and no other one."""
    store = SQLAlchemyStore(url, threads=1)
    await store.append("id", TURN)
    await store.begin_answer("running", "a", TURN, lease=60)
    await store.begin_answer("expired", "b", TURN, lease=60)
    await let_expire(store, "expired")
    async with looking(store) as looks:
        assert await looks.of(store.load("id")) == [True, True]  # the second one lists them
        for _ in range(2):
            assert await looks.of(store.load("id")) == [False]
            assert await looks.of(store.load("running")) == [False, False]
            assert not any(await looks.of(store.append("id", TURN)))
        assert (await store.load("expired")).messages == TURN
        assert await looks.of(store.load("expired")) == [False]
        looks.now += TRUSTED
        assert await looks.of(store.load("expired")) == [True]
        assert await looks.of(store.load("id")) == [False]
    await store.aclose()


@pytest.mark.parametrize(("driver", "anyio_backend"), EVERYWHERE)
async def test_too_many_due_answers_are_not_told_apart(
    url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where too many leases have ended, every session is looked at, and each is folded."""
    monkeypatch.setattr("hermes_session_mw.stores.sqlalchemy.statements.open_answers.MOST_DUE", 1)
    store = SQLAlchemyStore(url, threads=1)
    await store.append("id", TURN)
    for session_id in ("one", "two"):
        await store.begin_answer(session_id, session_id, TURN, lease=60)
        await let_expire(store, session_id)
    async with looking(store) as looks:
        assert await looks.of(store.load("id")) == [True, True]
        assert await looks.of(store.load("id")) == [True]
        for session_id in ("one", "two"):
            assert (await store.load(session_id)).messages == TURN
        assert await looks.of(store.load("id")) == [False]
    await store.aclose()


@pytest.mark.parametrize(("driver", "anyio_backend"), EVERYWHERE)
async def test_an_answer_of_another_process_is_folded_within_a_second(url: URL) -> None:
    """What another process began is folded at the first look after its lease, by reads and writes.

    A look is trusted for a second, in which no lease of an answer can begin and end.
    """
    store, other = SQLAlchemyStore(url, threads=1), SQLAlchemyStore(url, threads=1)
    operations: dict[str, Callable[[str], Awaitable[object]]] = {
        "load": store.load,
        "info": store.info,
        "append": lambda session_id: store.append(session_id, TURN),
        "acquire": lambda session_id: store.acquire(session_id, 60),
    }
    async with looking(store) as looks:
        for name, operation in operations.items():
            looks.now += TRUSTED
            await store.load("id")
            await other.begin_answer(name, name, TURN, lease=60)
            await let_expire(store, name)
            assert not any(await looks.of(store.load(name)))
            assert await stored_state(store, name) == "running"
            looks.now += TRUSTED
            await operation(name)
            assert await stored_state(store, name) == "incomplete"
            assert (await other.load(name)).messages[: len(TURN)] == TURN
    await store.aclose()
    await other.aclose()


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
async def test_a_later_short_lease_outweighs_an_earlier_look(tmp_path: Path) -> None:
    """A look that was sent before an answer got a short lease, and is told of after it, is void."""
    store = SQLAlchemyStore(f"sqlite:///{tmp_path}/sessions.db")
    await store.load("id")
    known, now = open_answers(await engine_of(store)), 1000.0
    known.clock = lambda: now
    known.note(now)
    assert known.is_known()
    known.note_lease(TRUSTED + 0.001)
    assert known.is_known()
    known.note_lease(TRUSTED)
    assert not known.is_known()
    known.note(now)
    assert not known.is_known()
    now += 0.1
    known.note(now)
    assert known.is_known()
    await store.aclose()


async def test_short_leases_are_looked_at_at_once(tmp_path: Path) -> None:
    """An answer that this process gives a short lease is looked for by the next operation."""
    store = SQLAlchemyStore(f"sqlite:///{tmp_path}/sessions.db", threads=1)
    async with looking(store) as looks:
        await store.load("id")
        fence = await store.begin_answer("s", "a", TURN, lease=TRUSTED)
        assert (await looks.of(store.load("id")))[0]
        await store.write_events("s", "a", 1, ['"a"'], fence=fence, lease=60)
        looks.now += TRUSTED
        assert sum(await looks.of(store.load("id"))) == 1
        await store.write_events("s", "a", 2, ['"b"'], fence=fence, lease=TRUSTED)
        assert (await looks.of(store.load("id")))[0]
    await store.aclose()
