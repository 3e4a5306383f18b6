"""What a sweep reads and locks, who sweeps, and what may come between its statements."""

import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, MetaData, create_engine, inspect, text

from hermes_session_mw import (
    NEVER,
    HermesSessionError,
    SQLAlchemyStore,
    StoreMisconfigured,
    migrations,
)
from hermes_session_mw.database.connection import Database
from hermes_session_mw.stores.sqlalchemy.admin.admin_store import AdminStore
from hermes_session_mw.stores.sqlalchemy.schema.expiry_tables import CHANGED_INDEX, make_tables
from hermes_session_mw.stores.sqlalchemy.statements import (
    append,
    expiry,
    fork_rotate_import,
    leases,
)
from hermes_session_mw.stores.sqlalchemy.statements.delete_prune import StaleSession, remove_stale
from hermes_session_mw.stores.sqlalchemy.statements.expiry import SweepLost
from hermes_session_mw.testing.helpers import UNKNOWN, new_id, numbered
from tests.stores.sqlalchemy.test_interleavings import Interrupted
from tests.stores.sqlalchemy.test_session_pages import explained
from tests.support.own_databases import own_database

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TABLES = {"hermes_session_expiry", "hermes_owner_expiry"}
MODULES = ("stores.sqlalchemy.expiry", "stores.memory.expiry", "session.expiry_sweeper")
every_database = pytest.mark.parametrize(
    ("driver", "anyio_backend"),
    [("sqlite", "trio"), ("postgresql+psycopg", "asyncio"), ("mysql+pymysql", "asyncio")],
)
OLD = {
    "sqlite": "'2001-01-01 00:00:00'",
    "postgresql": "TIMESTAMPTZ '2001-01-01 00:00:00Z'",
    "mysql": "'2001-01-01 00:00:00'",
}
SOON_AFTER = 1_000_000_000


@pytest.fixture
def url(driver: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[URL]:
    with own_database(request, driver, tmp_path) as made:
        yield made


@pytest.fixture
def engine(url: URL) -> Iterator[Engine]:
    engine = create_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
async def stores(url: URL) -> AsyncIterator[Callable[..., SQLAlchemyStore]]:
    """Make stores over one database."""
    made: list[SQLAlchemyStore] = []

    def make(expires_after: Any = DAY, **options: Any) -> SQLAlchemyStore:
        made.append(SQLAlchemyStore(url, expires_after=expires_after, timeout=60, **options))
        return made[-1]

    yield make
    for store in made:
        await store.aclose()


def expiry_of(store: SQLAlchemyStore) -> Any:
    assert store.expiry is not None
    return store.expiry


def age(engine: Engine) -> None:
    with engine.begin() as connection:
        old = OLD[engine.dialect.name]
        connection.execute(text(f"UPDATE hermes_sessions SET updated_at = {old}"))
        connection.execute(text("UPDATE hermes_session_expiry SET due_at = 1"))


# Who sweeps.


@every_database
async def test_one_process_sweeps_in_an_interval(
    stores: Callable[..., SQLAlchemyStore], engine: Engine
) -> None:
    """Another one is told when to ask again, until the interval is nearly over."""
    one, other = expiry_of(stores()), expiry_of(stores())
    assert (await one.sweep(100)).swept
    told = await other.sweep(100)
    assert not told.swept
    assert 80 < told.again <= 90
    with engine.begin() as connection:
        end = "UPDATE hermes_counters SET value = 0 WHERE name = 'sweep until'"
        connection.execute(text(end))
    assert (await other.sweep(100)).swept


@every_database
async def test_a_sweep_that_has_lost_its_lease_removes_nothing(
    stores: Callable[..., SQLAlchemyStore], engine: Engine
) -> None:
    """Whoever was away for longer than its lease meets the next one's fence at each removal."""
    store = stores()
    late, other = expiry_of(store), expiry_of(stores())
    await store.append("s", numbered(0))
    fence = await late._write(expiry.acquire_sweep, 60)
    with pytest.raises(expiry.SweepBusy):
        await other._write(expiry.acquire_sweep, 60)
    with engine.begin() as connection:
        end = "UPDATE hermes_counters SET value = 0 WHERE name = 'sweep until'"
        connection.execute(text(end))
    assert await other._write(expiry.acquire_sweep, 60) == fence + 1
    age(engine)
    stale = [StaleSession("", "s", 1)]
    with pytest.raises(SweepLost):
        await late._write(expiry.remove_expired, stale, 60, fence)
    with pytest.raises(SweepLost):
        await late._write(expiry.extend_sweep, fence, 60)
    assert (await store.load("s")).length == 1
    assert await other._write(expiry.remove_expired, stale, 60, fence + 1) == stale


@every_database
async def test_a_sweep_that_is_stopped_is_taken_over_at_once(
    stores: Callable[..., SQLAlchemyStore], engine: Engine
) -> None:
    """It ends after the transaction that is going on, and leaves the lease and the rest."""
    store = stores()
    for number in range(3):
        await store.append(f"{number}", numbered(0, 600))
    await expiry_of(store).find("x")
    age(engine)
    asked: list[None] = []

    def stops_at_third() -> bool:
        asked.append(None)
        return len(asked) > 5

    sweep = await expiry_of(store).sweep(300, stops_at_third)
    assert 0 < sweep.sessions < 3
    again = await expiry_of(stores()).sweep(300)
    assert again.sessions == 3 - sweep.sessions


# What it reads.


@every_database
async def test_sweeps_read_what_has_expired_and_no_more(
    stores: Callable[..., SQLAlchemyStore], engine: Engine
) -> None:
    """Indexes have the sessions that are due, an owner's, and those that inherit: none is sorted.

    Of many sessions few have expired, as at each sweep but the first.
    """
    store = stores()
    await expiry_of(store).set_owner("ada", DAY)
    await expiry_of(store).set("due", HOUR)
    with engine.begin() as connection:
        numbers = {
            "sqlite": "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 4000)"
            " SELECT {} FROM n WHERE true",
            "postgresql": "SELECT {} FROM generate_series(1, 4000) AS n(n)",
            "mysql": "SELECT {} FROM seq_1_to_4000 AS n",
        }[engine.dialect.name]
        n = {"sqlite": "n", "postgresql": "n.n", "mysql": "n.seq"}[engine.dialect.name]
        name = f"concat('s', {n})" if engine.dialect.name != "sqlite" else f"'s' || {n}"
        row = f"CASE WHEN {n} % 2 = 0 THEN 'ada' ELSE 'bob' END, {name}, 1, 1"
        connection.execute(
            text("INSERT INTO hermes_sessions (owner, id, next_seq, turns) " + numbers.format(row))
        )
        connection.execute(
            text(
                "INSERT INTO hermes_session_expiry (owner, session_id, expires_after, due_at)"
                " SELECT owner, id, 3600, 9000000000000 FROM hermes_sessions WHERE owner = 'bob'"
                " AND id LIKE 's1%'"
            )
        )
        old = OLD[engine.dialect.name]
        connection.execute(
            text(f"UPDATE hermes_sessions SET updated_at = {old} WHERE id IN ('s1000', 's3001')")
        )
        connection.execute(text("UPDATE hermes_session_expiry SET due_at = 1 WHERE owner = ''"))
    analyze = "ANALYZE TABLE {}" if engine.dialect.name == "mysql" else "ANALYZE {}"
    with engine.begin() as connection:
        for table in ("hermes_sessions", *TABLES):
            connection.execute(text(analyze.format(table)))
    first = 2 * 86_400 * 1_000_000
    with explained(engine) as (database, plans):
        make_tables(database, creates=False)
        plans.clear()
        assert [each.session.session_id for each in expiry.find_due(database)] == ["due"]
        before = expiry.now_of(database) - 86_400 * 1_000_000
        assert [each[0] for each in expiry.find_owners(database, None)] == ["ada"]
        of_ada = expiry.find_changed_before(database, before, first, 0, "ada")
        assert [each.session_id for each, _ in of_ada] == ["s1000"]
        inheriting = expiry.find_changed_before(database, before, first, 0, None)
        assert [each.session_id for each, _ in inheriting] == ["s3001"]
    due, _, owners, ada, rest = plans
    assert "ix_hermes_session_expiry_due_at" in due, due
    assert "ix_hermes_sessions_updated_at" in ada or "ix_hermes_sessions_changed" in ada, ada
    assert "ix_hermes_sessions_changed" in rest, rest
    # The owners that have settings are read, and a few of them may be sorted.
    for plan in (due, owners.replace("USE TEMP B-TREE FOR ORDER BY", ""), ada, rest):
        for other in ("TEMP B-TREE", "SCAN hermes_sessions", "Seq Scan on hermes_sessions"):
            assert other not in plan, plan
        for line in plan.splitlines():
            if "hermes_sessions" in line and engine.dialect.name == "mysql":
                assert "| ALL |" not in line, plan
                assert "| index |" not in line, plan


# What may come between.


class Run:
    """One run: a session that has expired, and what is acknowledged meanwhile."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.kept = False

    def append(self, database: Database) -> None:
        length = append.append(
            database, "s", ['{"n":4}'], self.owner, new_id(), None,
            may_be_stored=False, max_turns=1000,
        )  # fmt: skip
        self.length = length
        self.kept = True

    def keep(self, database: Database) -> None:
        expiry.set_expiry(database, "s", self.owner, None)
        self.kept = True

    def keep_all(self, database: Database) -> None:
        expiry.set_owner_expiry(database, self.owner, None)
        expiry.forget_expiry(database, "s", self.owner)
        self.kept = True

    def turn(self, database: Database) -> None:
        self.fence = leases.acquire(database, "s", self.owner, 60)
        self.kept = True

    def rotate(self, database: Database) -> None:
        fork_rotate_import.rotate(database, "s", "t", self.owner, self.owner, repeated=False)
        self.kept = True

    def expire(self, database: Database) -> None:
        expiry.remove_expired(database, [StaleSession(self.owner, "s", 1, 0, True)], 60, None)


MEANWHILE = [Run.append, Run.keep, Run.keep_all, Run.turn, Run.rotate]


@pytest.fixture(scope="module", params=["sqlite", "postgresql+psycopg", "mysql+pymysql"])
def interrupted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Interrupted]:
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("sweeps")
        url = stack.enter_context(own_database(request, request.param, folder))
        yield stack.enter_context(Interrupted(url))


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("meanwhile", MEANWHILE, ids=lambda each: each.__name__)
@pytest.mark.parametrize("how", ["sweep", "prune"])
async def test_what_is_acknowledged_meanwhile_is_kept(
    interrupted: Interrupted, meanwhile: Callable[[Run, Database], None], how: str
) -> None:
    """Whatever comes between two statements of a removal stays, or comes after it, as a new one.

    An append that is acknowledged is there afterwards, and a session that was kept by a setting or
    a turn is there with all its messages, unless it was gone before.
    """
    store = SQLAlchemyStore(interrupted.engine, expires_after=NEVER)
    done, number = True, 0
    while done:
        run = Run(new_id())
        await store.append("s", numbered(0), run.owner)
        if how == "sweep":
            await expiry_of(store).set("s", HOUR, run.owner)
        else:
            await expiry_of(store).find("s", run.owner)
        age(interrupted.engine)
        interrupted.at(number, partial(meanwhile, run))
        with suppress(HermesSessionError):
            if how == "sweep":
                await expiry_of(store)._write(
                    expiry.remove_expired, [StaleSession(run.owner, "s", 1, 0)], None, None
                )
            else:
                found = [StaleSession(run.owner, "s", 1, 0, has_expiry=True)]
                await store._write(remove_stale, SOON_AFTER, found)
        done, number = interrupted.over(), number + 1
        history = await store.load("s", run.owner)
        if not done:
            assert history == UNKNOWN
        elif run.kept and meanwhile is Run.append:
            assert history.length == run.length
        elif run.kept:
            if meanwhile is Run.rotate:
                history = await store.load("t", run.owner)
            # It was kept, or gone before that; before the first statement nothing is gone.
            assert history.length in ((1,) if number == 1 else (0, 1))
    assert number > 3
    await store.aclose()


# Those who use it, and those who do not.


def tables_of(url: URL) -> set[str]:
    engine = create_engine(url)
    found = inspect(engine)
    names = set(found.get_table_names())
    names |= {str(index["name"]) for index in found.get_indexes("hermes_sessions")}
    engine.dispose()
    return names


@every_database
async def test_the_first_operation_makes_the_tables(
    url: URL, stores: Callable[..., SQLAlchemyStore]
) -> None:
    """Sessions come, are deleted, cleared and pruned without them, and the command lists them."""
    store = stores(None)
    for name in ("a", "b"):
        await store.append(name, numbered(0))
    assert await store.clear("a")
    assert await store.delete("b")
    await store.append("c", numbered(0))
    await store.rotate("c", "d")
    await store.prune(timedelta(0))
    admin = AdminStore(url, access="write")
    assert all(each.info.expires_at is None for each in (await admin.list_owned()).sessions)
    assert (await admin.prune_stale(1.0, None, lambda _count: None)).sessions == 0
    await admin.aclose()
    made = TABLES | {str(CHANGED_INDEX.name)}
    assert not made & tables_of(url)
    await expiry_of(stores()).set("a", HOUR)
    assert tables_of(url) >= made


@every_database
async def test_a_migration_makes_the_tables(
    url: URL, engine: Engine, stores: Callable[..., SQLAlchemyStore]
) -> None:
    """A store with ``create_schema=False`` names what is missing, and needs no more than it."""
    with engine.begin() as connection:
        migrations.upgrade(connection)
    store = stores(create_schema=False)
    await store.append("s", numbered(0))
    with pytest.raises(StoreMisconfigured, match="expiry=True"):
        await expiry_of(store).set("s", HOUR)
    for _ in range(2):
        with engine.begin() as connection:
            migrations.upgrade(connection, expiry=True)
    assert tables_of(url) >= TABLES | {str(CHANGED_INDEX.name)}
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("DROP INDEX ix_hermes_sessions_changed" + (
            " ON hermes_sessions" if engine.dialect.name == "mysql" else ""
        )))  # fmt: skip
        migrations.upgrade(connection, expiry=True)
    assert str(CHANGED_INDEX.name) in tables_of(url)
    await expiry_of(store).set("s", HOUR)
    assert (await expiry_of(store).find("s")).own == HOUR
    metadata = MetaData()
    for _ in range(2):
        names = {table.name for table in migrations.add_tables(metadata, expiry=True)}
    assert names >= TABLES
    indexes = [str(index.name) for index in metadata.tables["hermes_sessions"].indexes]
    assert sorted(indexes) == ["ix_hermes_sessions_changed", "ix_hermes_sessions_updated_at"]


def test_who_has_no_expiry_imports_nothing_of_it() -> None:
    """An application without ``expires_after`` imports none of its modules, and has no task."""
    program = """
import sys, anyio
from starlette.applications import Starlette
from hermes_session_mw import HermesSessionMiddleware, MemoryStore, SQLAlchemyStore
async def main():
    for store in (MemoryStore(), SQLAlchemyStore("sqlite://")):
        app = HermesSessionMiddleware(Starlette(), store)
        assert app._sweeps is None
        await store.append("s", [{"n": 1}])
        await store.delete("s")
        await store.list()
        await store.aclose()
anyio.run(main)
print([name for name in sys.modules if name.startswith("hermes_session_mw")])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert "hermes_session_mw.stores.sqlalchemy.store" in done.stdout
    for name in MODULES:
        assert f"'hermes_session_mw.{name}'" not in done.stdout
