"""Writes that wait for a SQLite file at the same time are committed together, and fail apart."""

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy.exc import OperationalError

from hermes_session_mw import SessionConflict, SQLAlchemyStore
from hermes_session_mw.database.connection import Database, DirectDatabase
from hermes_session_mw.database.workers import shared_transaction
from hermes_session_mw.database.workers.thread_executor import ThreadExecutor
from hermes_session_mw.testing.helpers import numbered

TURN = numbered(0, 2)
MANY = 20


def busy(sql: str) -> OperationalError:
    """Return SQLite's error for a lock that another has."""
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorname, error.sqlite_errorcode = "SQLITE_BUSY", sqlite3.SQLITE_BUSY
    return OperationalError(sql, None, error)


class Commits:
    """Counts the commits, and fails those that a test names."""

    def __init__(self) -> None:
        self.count = 0
        self.failing: set[int] = set()
        self.applied: set[int] = set()


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> Commits:
    """Every COMMIT of the stores; those of ``failing`` lose their answer."""
    counted, commit = Commits(), Database.commit

    def counting(database: Database) -> str | None:
        counted.count += 1
        number = counted.count
        if number in counted.failing and number not in counted.applied:
            database.rollback()
        tag = None if number in counted.failing - counted.applied else commit(database)
        if number in counted.failing:
            raise busy("COMMIT")
        return tag

    monkeypatch.setattr(Database, "commit", counting)
    monkeypatch.setattr(shared_transaction, "_LONGEST", 60)
    return counted


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


async def at_once(path: Path, store: SQLAlchemyStore, *calls: Callable[[], Awaitable[Any]]) -> Any:
    """Make the calls while another connection has the write lock, so that all of them wait."""
    await store.append("warm up", TURN)
    results: list[Any] = [None] * len(calls)

    async def make(number: int) -> None:
        try:
            results[number] = await calls[number]()
        except Exception as exc:  # noqa: BLE001  # judged by the test
            results[number] = exc

    executor = store._executor
    assert isinstance(executor, ThreadExecutor)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with anyio.create_task_group() as tasks:
            for number in range(len(calls)):
                tasks.start_soon(make, number)
                # In this order: trio starts tasks in any.
                with anyio.fail_after(30):
                    while executor._writers._pending <= number:  # noqa: ASYNC110  # nobody tells
                        await anyio.sleep(0.001)
            other.execute("ROLLBACK")
    return results


def appends(store: SQLAlchemyStore, count: int = MANY) -> list[Callable[[], Awaitable[Any]]]:
    return [partial(store.append, f"s{number}", TURN) for number in range(count)]


async def check_stored(store: SQLAlchemyStore, *numbers: int) -> None:
    """Check that each of these sessions has its turn once."""
    for number in numbers:
        assert (await store.load(f"s{number}")).messages == TURN


@pytest.mark.anyio
async def test_turns_that_wait_are_committed_together(path: Path, commits: Commits) -> None:
    """Twenty appends that wait for the file are one transaction, and each has its own length."""
    store = SQLAlchemyStore(f"sqlite:///{path}")
    results = await at_once(path, store, *appends(store))
    assert results == [2] * MANY
    assert commits.count == 3  # the tables, the first turn, and all the others
    await check_stored(store, *range(MANY))
    await store.aclose()


@pytest.mark.anyio
async def test_a_transaction_has_a_most(
    path: Path, commits: Commits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than the most that one transaction takes are several."""
    monkeypatch.setattr(shared_transaction, "_MOST", 8)
    store = SQLAlchemyStore(f"sqlite:///{path}")
    assert await at_once(path, store, *appends(store)) == [2] * MANY
    assert commits.count == 2 + 3
    await store.aclose()


@pytest.mark.anyio
async def test_a_failure_is_its_own(path: Path, commits: Commits) -> None:
    """A turn that is refused changes nothing, first or later, and the others are stored."""
    store = SQLAlchemyStore(f"sqlite:///{path}")
    calls = appends(store)
    for place in (0, 7, MANY - 1):
        calls[place] = lambda: store.append("refused", TURN, expected_length=4)
    results = await at_once(path, store, *calls)
    refused = [number for number, each in enumerate(results) if isinstance(each, SessionConflict)]
    assert refused == [0, 7, MANY - 1]
    assert results.count(2) == MANY - 3
    assert commits.count == 3
    assert not (await store.load("refused")).exists
    await check_stored(store, *set(range(MANY)) - set(refused))
    await store.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize("applied", [False, True])
async def test_a_commit_in_doubt_is_looked_up_for_each(
    path: Path, commits: Commits, *, applied: bool
) -> None:
    """If the COMMIT's answer is lost, each turn is stored exactly once, applied or not."""
    store = SQLAlchemyStore(f"sqlite:///{path}")
    commits.failing = {3}
    commits.applied = {3} if applied else set()
    results = await at_once(path, store, *appends(store))
    assert results == [2] * MANY
    await check_stored(store, *range(MANY))
    await store.aclose()


@pytest.mark.anyio
async def test_a_transaction_that_is_lost_is_lost_for_all(path: Path, commits: Commits) -> None:
    """If SQLite ends the transaction in the middle, the turns before it are stored anew."""
    store = SQLAlchemyStore(f"sqlite:///{path}")
    losses = [1]

    def lose(database: Database) -> str:
        if losses:
            losses.pop()
            database.rollback()
            raise busy("INSERT")
        return "done"

    async def losing() -> Any:
        return await store._retrying.run(lose, writes=True, may_join=True)

    calls = appends(store)
    results = await at_once(path, store, *calls[:10], losing, *calls[10:])
    assert results == [2] * 10 + ["done"] + [2] * (MANY - 10)
    await check_stored(store, *range(MANY))
    await store.aclose()


@pytest.mark.anyio
async def test_who_has_left_stores_nothing(path: Path, commits: Commits) -> None:
    """A caller that is cancelled while it waits stores nothing, and holds nobody up."""
    store = SQLAlchemyStore(f"sqlite:///{path}")
    left = anyio.CancelScope()

    async def leave() -> None:
        with left:
            await store.append("left", TURN)

    async def cancel() -> int:
        left.cancel()
        return await store.append("last", TURN)

    calls = appends(store)
    results = await at_once(path, store, *calls, leave, cancel)
    assert results == [2] * MANY + [None, 2]
    assert not (await store.load("left")).exists
    await store.aclose()


@pytest.mark.anyio
async def test_what_needs_its_own_transaction_gets_it(path: Path, commits: Commits) -> None:
    """An operation of several transactions waits for its place, between those that are shared."""
    store = SQLAlchemyStore(f"sqlite:///{path}")
    calls = appends(store, 6)
    calls[3] = lambda: store.delete("warm up")
    results = await at_once(path, store, *calls)
    assert results == [2, 2, 2, True, 2, 2]
    assert commits.count == 2 + 3
    await store.aclose()


@pytest.mark.anyio
async def test_a_turn_by_itself_needs_no_savepoint(
    path: Path, commits: Commits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for nobody sends the same commands as before."""
    store = SQLAlchemyStore(f"sqlite:///{path}")
    await store.append("warm up", TURN)
    sent: list[str] = []
    command = DirectDatabase.command

    def noting(database: DirectDatabase, sql: str) -> None:
        sent.append(sql)
        command(database, sql)

    monkeypatch.setattr(DirectDatabase, "command", noting)
    await store.append("one", TURN)
    assert sent == ["BEGIN IMMEDIATE", "COMMIT"]
    await store.aclose()


@pytest.mark.anyio
async def test_what_is_begun_again_leaves_nothing(path: Path, commits: Commits) -> None:
    """A turn that first stores a dead answer takes its numbers once, alone, first or later."""
    store = SQLAlchemyStore(f"sqlite:///{path}")
    names = ["alone", "first", "later"]
    for name in names:
        await store.append(name, TURN)
        await store.begin_answer(name, f"answer of {name}", TURN[:1], lease=0.001)
    await anyio.sleep(0.01)
    assert await store.append("alone", TURN) == 5
    calls = appends(store, 8)
    calls[0], calls[5] = (partial(store.append, name, TURN) for name in names[1:])
    assert await at_once(path, store, *calls) == [5, 2, 2, 2, 2, 5, 2, 2]
    for name in names:
        assert (await store.load(name)).messages == [*TURN, TURN[0], *TURN]
    with closing(sqlite3.connect(path)) as other:
        rows = other.execute("SELECT id, turns, next_seq FROM hermes_sessions").fetchall()
    assert {row for row in rows if row[0] in names} == {(name, 3, 5) for name in names}
    await store.aclose()
