"""What housekeeping costs, told in counts: statements and round trips for a batch of sessions."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, create_engine, text

from hermes_session_mw import SQLAlchemyStore
from hermes_session_mw.database.connection import DirectDatabase
from hermes_session_mw.stores.sqlalchemy.admin import integrity_check
from hermes_session_mw.stores.sqlalchemy.admin.admin_store import AdminStore
from hermes_session_mw.testing.helpers import numbered
from tests.support import mariadb, postgres
from tests.support.counting_proxy import counting

DATABASES = [("sqlite", "trio"), ("postgresql+psycopg", "trio"), ("mysql+pymysql", "trio")]
every_database = pytest.mark.parametrize(("database", "anyio_backend"), DATABASES)
SERVERS = [
    ("postgresql+psycopg", "asyncio"),
    ("postgresql+asyncpg", "asyncio"),
    ("mysql+pymysql", "asyncio"),
    ("mysql+asyncmy", "asyncio"),
]


@pytest.fixture
def url(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[URL]:
    """A database of the test's own."""
    if database == "sqlite":
        yield URL.create(database, database=f"{tmp_path}/sessions.db")
        return
    kind = "postgres" if database.startswith("postgresql") else "mysql"
    make = postgres.database if kind == "postgres" else mariadb.database
    with make(request.getfixturevalue(f"{kind}_server")) as made:
        yield made.set(drivername=database)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The statements that are executed, by their first word, and the rows that each returned."""
    seen: Counter[str] = Counter()
    rows, run = DirectDatabase.rows, DirectDatabase.run

    def note_rows(database: Any, statement: Any, parameters: Any) -> Any:
        found = rows(database, statement, parameters)
        seen["SELECT"] += 1
        seen["rows at once"] = max(seen["rows at once"], len(found))
        return found

    def note_run(database: Any, statement: Any, *parameters: Any) -> int:
        seen[database._compile(statement).sql.split(maxsplit=1)[0]] += 1
        return run(database, statement, *parameters)

    monkeypatch.setattr(DirectDatabase, "rows", note_rows)
    monkeypatch.setattr(DirectDatabase, "run", note_run)
    return seen


async def fill(url: URL, count: int, length: int = 2) -> None:
    """Store so many sessions, which nobody has used for long, with keys and ended answers."""
    store = SQLAlchemyStore(url)
    for number in range(count):
        await store.append(f"{number:04}", numbered(0, length))
    await store.aclose()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE hermes_sessions SET updated_at = '2001-01-01 00:00:00'"))
    engine.dispose()


@every_database
async def test_a_prune_takes_a_few_statements_for_many_sessions(
    database: str, url: URL, statements: Counter[str]
) -> None:
    """A batch is found, locked, and removed from each table by as many statements as one session.

    Where a statement has places for 100 sessions, that is so for each hundred.
    """
    store = SQLAlchemyStore(url)
    seen = []
    for count in (1, 1, 100, 250):  # the first one asks for what is then known
        await fill(url, count)
        await store.load("0000")
        statements.clear()
        assert await store.prune(timedelta(days=1)) == count
        seen.append((statements["DELETE"], statements["SELECT"]))
    sets = 3 if database != "postgresql+psycopg" else 1
    # Four tables, and the keys that lead nowhere; a cutoff, a batch, and the locks.
    deletes = sets if database.startswith("mysql") else 1
    assert seen[1:] == [(5, 3), (5, 3), (4 * deletes + 1, sets + 2)]
    await store.aclose()


@pytest.mark.parametrize(("database", "anyio_backend"), SERVERS)
async def test_round_trips_of_a_prune(url: URL) -> None:
    """A hundred sessions are pruned in as many round trips as one."""
    sync = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
    plain = url.set(drivername=sync[url.get_backend_name()])
    with counting(url) as (proxy, through):
        store = SQLAlchemyStore(through, threads=1)
        trips = []
        for count in (1, 1, 100):
            await fill(plain, count)
            await store.load("0000")
            before = proxy.round_trips
            assert await store.prune(timedelta(days=1)) == count
            trips.append(proxy.round_trips - before)
        assert trips[2] <= trips[1] + 5  # asyncpg asks about a statement that it has not seen
        assert trips[2] < 40
        await store.aclose()


@every_database
async def test_a_check_takes_a_few_statements_for_many_messages(
    url: URL, statements: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A range of so many messages is read by as many statements as one session, and no more of it.

    No statement returns more rows than a range has.
    """
    monkeypatch.setattr(integrity_check, "RANGE", 100)
    look = AdminStore(url, access="create")
    seen = []
    for count in (1, 1, 10, 20, 40):  # the first one asks for what is then known
        await fill(url, count, 10)
        statements.clear()
        assert list(await look.check_integrity(lambda _: None)) == []
        assert statements["rows at once"] <= 100
        seen.append(statements["SELECT"])
        await SQLAlchemyStore(url).prune(timedelta(days=1))
    _, first, *more = seen
    in_range = 6  # sessions, messages, their ids, archived ones, answers, and their events
    assert [each - first for each in more] == [0, in_range, 3 * in_range]
    await look.aclose()
