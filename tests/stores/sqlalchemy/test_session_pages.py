"""Pages of an owner's list: what they hold, and that an index finds it on each database."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, text

from hermes_session_mw import SQLAlchemyStore
from hermes_session_mw.database.connection import Database
from hermes_session_mw.stores.pagination import (
    FIRST,
    OwnedPosition,
    Position,
    decode_cursor,
    encode_cursor,
)
from hermes_session_mw.stores.sqlalchemy.admin import queries
from hermes_session_mw.stores.sqlalchemy.admin.admin_store import AdminStore
from hermes_session_mw.stores.sqlalchemy.schema.column_presence import note_complete
from hermes_session_mw.stores.sqlalchemy.statements import list_sessions
from hermes_session_mw.testing.helpers import new_id
from tests.contract.test_store_contract import url_of
from tests.support.own_databases import key_of

INDEX = "ix_hermes_sessions_updated_at"
DATABASES = [
    ("sqlite", "trio"),
    ("sqlite+aiosqlite", "asyncio"),
    ("postgresql+psycopg", "trio"),
    ("postgresql+psycopg2", "trio"),
    ("postgresql+asyncpg", "asyncio"),
    ("mysql+pymysql", "trio"),
    ("mysql+asyncmy", "asyncio"),
]
SYNC = {"aiosqlite": "sqlite", "asyncpg": "postgresql+psycopg", "asyncmy": "mysql+pymysql"}
every_driver = pytest.mark.parametrize(("database", "anyio_backend"), DATABASES)
every_database = pytest.mark.parametrize(
    ("database", "anyio_backend"), [DATABASES[number] for number in (0, 2, 5)]
)
SECONDS = [1_700_000_000, 1_700_000_001, 1_700_003_600]


@pytest.fixture
async def store(
    database: str, tmp_path: Any, request: pytest.FixtureRequest
) -> AsyncIterator[SQLAlchemyStore]:
    """A store over the database."""
    store = SQLAlchemyStore(url_of(database, tmp_path, request))
    await store.load("none")  # the tables are there
    yield store
    await store.aclose()


@pytest.fixture
def tables(store: SQLAlchemyStore) -> Iterator[Engine]:
    """The same database, beside the store."""
    url = store._url
    engine = create_engine(url.set(drivername=SYNC.get(url.get_driver_name(), url.drivername)))
    note_complete(engine.dialect)
    yield engine
    with engine.begin() as connection:  # old ones, which a prune of a later test would count
        connection.execute(text("DELETE FROM hermes_sessions"))
    engine.dispose()


def add(
    tables: Engine, owner: str, times: list[int], *, deleted: bool = False, turns: int = 1
) -> list[str]:
    """Add a session that changed at each of the times, and return their ids."""
    at = {
        "sqlite": "datetime(:time, 'unixepoch')",
        "postgresql": "to_timestamp(:time)",
        "mysql": "from_unixtime(:time)",
    }[tables.dialect.name]
    statement = text(
        "INSERT INTO hermes_sessions (owner, id, next_seq, turns, updated_at, deleted_at)"
        f" VALUES (:owner, :id, 1, :turns, {at}, {at if deleted else 'NULL'})"
    )
    ids = [new_id() for _ in times]
    with tables.begin() as connection:
        backend = connection.dialect.name
        for time, id_ in zip(times, ids, strict=True):
            key = {"owner": key_of(backend, owner), "id": key_of(backend, id_)}
            connection.execute(statement, {**key, "time": time, "turns": turns})
    return ids


def without_index(tables: Engine) -> None:
    on = " ON hermes_sessions" if tables.dialect.name == "mysql" else ""
    with tables.begin() as connection:
        connection.execute(text(f"DROP INDEX {INDEX}{on}"))


async def pages(store: SQLAlchemyStore, owner: str, limit: int) -> list[str]:
    """Return the ids of the pages of a list, one after another."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await store.list(owner, limit, cursor)
        found += [each.id for each in page.sessions]
        cursor = page.cursor
        if cursor is None:
            return found


@every_driver
async def test_sessions_of_one_time_are_listed_once(store: SQLAlchemyStore, tables: Engine) -> None:
    """Pages that end among sessions of one time go on behind the last one, with and without index.

    Neither deleted sessions nor rows without a turn are listed, nor other owners' sessions.
    """
    owner = new_id()
    ids = [add(tables, owner, [second] * 5) for second in SECONDS]
    expected = [each for same in reversed(ids) for each in sorted(same)]
    for others, options in ((owner, {"deleted": True}), (owner, {"turns": 0}), (new_id(), {})):
        add(tables, others, SECONDS, **options)
    for limit in (1, 2, 3, 5, 14, 15, 16):
        assert await pages(store, owner, limit) == expected
    page = await store.list(owner, 3)
    assert page.cursor == encode_cursor(SECONDS[2] * 1_000_000, expected[2])
    if tables.dialect.name == "sqlite":  # whose database is the test's own
        without_index(tables)
        assert await pages(store, owner, 3) == expected


@every_driver
async def test_a_cursor_of_any_time_is_a_position(store: SQLAlchemyStore, tables: Engine) -> None:
    """Whatever time a cursor has, what was changed before it is listed, and nothing fails."""
    owner = new_id()
    (newest, middle, oldest) = add(tables, owner, SECONDS[::-1])
    ids = {newest, middle, oldest}
    for time, expected in {
        -(2**63): set(),
        0: set(),
        SECONDS[0] * 1_000_000: set(),
        SECONDS[0] * 1_000_000 + 1: {oldest},
        SECONDS[1] * 1_000_000 - 1: {oldest},
        SECONDS[1] * 1_000_000: {oldest},
        SECONDS[1] * 1_000_000 + 999_999: {oldest, middle},
        SECONDS[2] * 1_000_000 + 1: ids,
        2_000_000_000_000_000: ids,
    }.items():
        page = await store.list(owner, cursor=encode_cursor(time, "\U0010ffff"))
        assert {each.id for each in page.sessions} == expected, time
    for time in (2**63 - 1, 2**62):  # in no calendar
        assert (await store.list(owner, cursor=encode_cursor(time, "x"))).cursor is None
    assert decode_cursor(None) == FIRST


@every_database
async def test_an_operators_list_of_an_owner_is_the_same(
    store: SQLAlchemyStore, tables: Engine
) -> None:
    """The command's list of one owner has the same sessions, and a cursor of all owners' list."""
    owner = new_id()
    ids = [add(tables, owner, [second] * 3) for second in SECONDS]
    expected = [each for same in reversed(ids) for each in sorted(same)]
    look = AdminStore(store._url)
    for limit in (1, 2, 3, 20):
        found, cursor = [], None
        while True:
            page = await look.list_owned(owner, limit, cursor)
            assert {each.owner for each in page.sessions} == {owner}
            found += [each.info.id for each in page.sessions]
            cursor = page.cursor
            if cursor is None:
                break
        assert found == expected
    of_another = encode_cursor(SECONDS[1] * 1_000_000, "", "x")
    page = await look.list_owned(owner, cursor=of_another)
    assert [each.info.id for each in page.sessions] == expected[3:]
    await look.aclose()


def fill(tables: Engine, owner: str) -> None:
    """Give an owner sessions enough that no database would read them all for a page."""
    add(tables, owner, [SECONDS[0] + number // 10 for number in range(3_000)])
    add(tables, new_id(), [SECONDS[0]] * 500)
    statement = {
        "sqlite": "ANALYZE",
        "postgresql": "ANALYZE hermes_sessions",
        "mysql": "ANALYZE TABLE hermes_sessions",
    }[tables.dialect.name]
    with tables.begin() as connection:
        connection.execute(text(statement))


@contextmanager
def explained(tables: Engine) -> Iterator[tuple[Database, list[str]]]:
    """Yield a database that explains each query before it executes it, and the plans."""
    explain = {"sqlite": "EXPLAIN QUERY PLAN", "postgresql": "EXPLAIN (ANALYZE)"}
    plans: list[str] = []

    def note(_connection: Any, cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        cursor.execute(f"{explain.get(tables.dialect.name, 'EXPLAIN')} {statement}", parameters)
        plans.append("\n".join(" | ".join(map(str, row)) for row in cursor.fetchall()))

    event.listen(tables, "before_cursor_execute", note)
    with tables.connect() as connection:
        yield Database(connection), plans


POSITIONS = {"first": FIRST, "later": Position(SECONDS[0] * 1_000_000 + 60_000_000, "8")}


@every_database
@pytest.mark.parametrize("position", POSITIONS)
async def test_a_page_is_read_from_the_index(
    store: SQLAlchemyStore, tables: Engine, position: str
) -> None:
    """The index has a page in its order: no other session is read for it, and none is sorted.

    MariaDB sorts the few of one time that come first, and so may PostgreSQL.
    """
    owner, after = new_id(), POSITIONS[position]
    fill(tables, owner)
    with explained(tables) as (database, plans):
        assert len(list_sessions.list_sessions(database, owner, 50, after)) == 50
        of_all = OwnedPosition(after.changed, owner if after != FIRST else "", after.session_id)
        assert len(queries.list_owned(database, owner, 50, of_all)) == 50
    assert store is not None  # whose tables they are
    assert len(plans) == 2
    for plan in plans:
        assert INDEX in plan, plan
        for other in ("TEMP B-TREE", "filesort", "Sort", "Seq Scan", "| ALL |"):
            assert other not in without_few(plan), plan


def without_few(plan: str) -> str:
    """Return a plan without what MariaDB reads of a page, and what sorts less than a page."""
    others = re.compile("<derived|Sort (Key|Method):")
    lines = (line for line in plan.splitlines() if not others.search(line))
    few = re.compile(rf"\| {INDEX} \| 2052 \| None \| \d\d? \||Sort  \(.* rows=[1-4]?\d loops=1\)$")
    return "\n".join(line for line in lines if not few.search(line))


RANGE = {
    "sqlite": "USING PRIMARY KEY (owner=? AND id>? AND id<?)",
    "postgresql": "hermes_sessions_pkey",
    "mysql": "| range | PRIMARY,ix_hermes_sessions_updated_at | PRIMARY |",
}


@every_database
async def test_the_ids_with_a_prefix_are_a_range(store: SQLAlchemyStore, tables: Engine) -> None:
    """Where few ids begin with a prefix, the primary key has them, and no other session is read."""
    owner = new_id()
    fill(tables, owner)
    with explained(tables) as (database, plans):
        list_sessions.list_sessions(database, owner, 50, FIRST, prefix="abc")
    assert store is not None  # whose tables they are
    (plan,) = plans
    assert RANGE[tables.dialect.name] in plan, plan
    assert INDEX not in plan.replace(RANGE["mysql"], ""), plan
