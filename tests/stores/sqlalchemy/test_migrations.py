"""Tables of every version before are brought to what they are now, whatever comes between."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import (
    URL,
    Column,
    Connection,
    Engine,
    MetaData,
    Table,
    create_engine,
    event,
    inspect,
    text,
)
from sqlalchemy.exc import OperationalError
from sqlalchemy.types import Integer

from hermes_session_mw import (
    ConfigurationError,
    SessionDeleted,
    SQLAlchemyStore,
    StoreMisconfigured,
    StoreUnavailable,
    migrations,
)
from hermes_session_mw.testing.helpers import numbered
from tests.support import mariadb
from tests.support.old_tables import (
    TABLES,
    VERSIONS,
    described,
    drop_all,
    load_version,
    make_tables,
)
from tests.support.own_databases import own_database
from tests.support.server import ROOT

DATABASES = ["sqlite", "postgresql", "mysql"]


@pytest.fixture(params=DATABASES, scope="module")
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[URL]:
    """A database of this module's own."""
    with own_database(request, request.param, tmp_path_factory.mktemp("migrations")) as made:
        yield made


@pytest.fixture
def engine(url: URL) -> Iterator[Engine]:
    """An engine over the database, which has none of the tables."""
    engine = create_engine(url)
    with engine.begin() as connection:
        drop_all(connection)
    yield engine
    engine.dispose()


def started_with(engine: Engine, version: str) -> None:
    with engine.begin() as connection:
        load_version(connection, version)


def upgrade(engine: Engine) -> None:
    with engine.begin() as connection:
        migrations.upgrade(connection)


def fresh(engine: Engine) -> dict[str, Any]:
    """Return what the tables are where they are made anew."""
    with engine.begin() as connection:
        drop_all(connection)
        migrations.upgrade(connection)
        return described(connection)


def now(engine: Engine) -> dict[str, Any]:
    with engine.connect() as connection:
        return described(connection)


async def check(url: URL, version: str) -> None:
    """Whatever ``version`` wrote is there, and a store goes on with it."""
    store = SQLAlchemyStore(url, create_schema=False)
    assert (await store.load("thread")).messages == numbered(0, 4)
    assert (await store.load("unnamed")).messages == numbered(0, 3)
    assert (await store.load("thread", "ada")).messages == numbered(0, 1)
    is_newest = version == VERSIONS[-1]
    assert await store.find_metadata("edited") == ({"topic": "numbers"} if is_newest else None)
    named = await store.find_message("m-3")
    assert named is None if not is_newest else named is not None and named[1].index == 3
    # A turn is known again, and the next has the next number.
    assert await store.append("thread", numbered(2, 2), turn_id="second") == 4
    assert await store.append("thread", numbered(4), turn_id="new") == 5
    assert await store.append("unnamed", numbered(3, 2), expected_length=3) == 5
    found = await store.find_turn("unnamed", "third")
    assert found is not None
    assert (found.start, found.messages) == (2, numbered(2))
    fence = await store.acquire("thread", 60)
    assert await store.append("thread", numbered(5), fence=fence) == 6
    await store.release("thread", fence)
    assert await store.rewind("thread", 4) == 4
    assert [each.message for each in await store.archived("thread")] == numbered(4, 2)
    assert await store.compact("unnamed", numbered(0, 3), [{"n": -1}]) == 3
    assert (await store.load("unnamed")).messages == [{"n": -1}, *numbered(3, 2)]
    late = await store.acquire("unnamed", 0.001)
    await store.rotate("thread", "rotated", owner="ada")
    assert (await store.load("rotated", "ada")).messages == numbered(0, 1)
    if version not in ("draft-1", "draft-2"):
        assert (await store.load("gone")).deleted
        with pytest.raises(SessionDeleted):
            await store.append("gone", numbered(0))
    if not version.startswith("draft"):
        assert await store.find_key("work", "ada") == "rotated"
        assert (await store.load("edited")).messages == numbered(0, 4)
        assert [each.message for each in await store.archived("edited")] == numbered(5, 2)
        edited, forked = await store.info("edited"), await store.info("forked")
        assert edited is not None
        assert forked is not None
        assert (edited.title, forked.parent_id) == ("Two words", "thread")
    assert await store.delete("unnamed")
    with anyio.fail_after(60):
        while (await store.load("unnamed")).deleted:
            await anyio.sleep(0.1)
            await store.prune(timedelta(0))
    assert await store.acquire("unnamed", 60) > late
    await store.aclose()


@pytest.mark.parametrize("version", VERSIONS)
def test_every_earlier_version_is_upgraded(engine: Engine, version: str) -> None:
    """Upgraded, the tables are those of today, and their conversations go on."""
    today = fresh(engine)
    with engine.begin() as connection:
        drop_all(connection)
    started_with(engine, version)
    upgrade(engine)
    assert now(engine) == as_added(today, engine, version)
    with engine.connect() as connection:
        assert migrations.is_complete(connection)
        counted = connection.execute(text("SELECT id, turns FROM hermes_sessions WHERE owner = ''"))
        turns = {
            row.id if isinstance(row.id, str) else row.id.decode(): row.turns for row in counted
        }
    assert turns["thread"] == 2
    assert turns["unnamed"] == (3 if version == "draft-1" else 2)  # there each message is a turn
    anyio.run(check, engine.url, version)


async def first_use(url: URL) -> None:
    store = SQLAlchemyStore(url)
    assert (await store.load("thread")).messages == numbered(0, 4)
    await store.aclose()


IN_SECONDS = {
    "draft-1": ["hermes_sessions"],  # its messages' table is made anew
    "draft-2": ["hermes_sessions", "hermes_messages"],
    "draft-3": ["hermes_sessions", "hermes_messages"],
    "0.1.0": ["hermes_sessions", "hermes_messages", "hermes_archive", "hermes_keys"],
}
"""The tables on SQLite whose times have whole seconds by default."""


def as_added(today: dict[str, Any], engine: Engine, version: str) -> dict[str, Any]:
    """Return what tables of ``version`` can become: SQLite does not change a default."""
    if engine.dialect.name == "sqlite":
        defaults = (
            {("hermes_sessions", "turns"): "'0'"} if version in ("draft-1", "draft-2") else {}
        )
        for table in IN_SECONDS.get(version, ()):
            for name in ("created_at", "updated_at", "archived_at"):
                if name in today[table]["columns"]:
                    defaults[table, name] = "CURRENT_TIMESTAMP"
        for (table, name), default in defaults.items():
            type_, nullable, _ = today[table]["columns"][name]
            today[table]["columns"][name] = (type_, nullable, default)
    return today


def test_a_store_upgrades_at_its_first_use(engine: Engine) -> None:
    """A store without create_schema=False does the same when it is first used."""
    started_with(engine, VERSIONS[0])
    anyio.run(first_use, engine.url)
    anyio.run(check, engine.url, VERSIONS[0])


def test_turns_ask_for_the_migration(engine: Engine) -> None:
    """Over the tables of 0.1.0 a turn's error names it; all else, and who writes meanwhile, go on.

    A store that was there before takes turns once it has run.
    """
    started_with(engine, "0.1.0")
    anyio.run(upgraded_meanwhile, engine)


async def upgraded_meanwhile(engine: Engine) -> None:
    store = SQLAlchemyStore(engine.url, create_schema=False)
    with pytest.raises(StoreMisconfigured, match=r"hermes_session_mw\.migrations\.upgrade"):
        await store.acquire("thread", 60)
    with pytest.raises(StoreMisconfigured, match=r"hermes_session_mw\.migrations\.upgrade"):
        await store.set_metadata("thread", {})
    with pytest.raises(StoreMisconfigured, match=r"hermes_session_mw\.migrations\.upgrade"):
        await store.append("thread", numbered(4), message_ids=["a"])
    with pytest.raises(StoreMisconfigured, match=r"hermes_session_mw\.migrations\.upgrade"):
        await store.pop("thread")
    assert await store.find_metadata("thread") is None
    assert (await store.load("thread")).length == 4
    ranged = await store.load_range("thread", start=-1)
    assert [each.message for each in ranged.messages] == numbered(3)
    assert await store.rewind("edited", 3) == 3
    lengths: list[int] = []

    async def write() -> None:
        while True:  # as 0.1.0 does it
            lengths.append(await store.append("writing", numbered(0)))
            await store.delete(f"none-{len(lengths)}")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        while len(lengths) < 5:  # noqa: ASYNC110  # nobody tells
            await anyio.sleep(0.01)
        await anyio.to_thread.run_sync(upgrade, engine)
        written = len(lengths)
        while len(lengths) < written + 5:  # noqa: ASYNC110
            await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert await store.acquire("thread", 60) == 1
    await store.set_metadata("thread", {"topic": "numbers"})
    assert await store.find_metadata("thread") == {"topic": "numbers"}
    assert (await store.load("writing")).length in (len(lengths), len(lengths) + 1)
    assert await store.append("thread", numbered(4), message_ids=["a"]) == 5
    assert await store.append("thread", numbered(4, 2), message_ids=["a", None]) == 6
    await store.aclose()


def test_the_newest_version_has_the_tables_of_today(engine: Engine) -> None:
    """A change to the tables asks for a version of its own under migrations/."""
    today = fresh(engine)
    with engine.begin() as connection:
        drop_all(connection)
        make_tables(connection, VERSIONS[-1])
        newest = described(connection)
    assert newest == today, "the tables changed: see tests/stores/sqlalchemy/migrations/README.md"
    assert sorted(today) == TABLES


FOREIGN = [
    "CREATE TABLE hermes_sessions (id INTEGER PRIMARY KEY, name VARCHAR(20))",
    "CREATE TABLE hermes_keys (id INTEGER PRIMARY KEY, name VARCHAR(20) NOT NULL)",
    "CREATE TABLE hermes_counters (name VARCHAR(20) PRIMARY KEY, total INTEGER)",
    "CREATE TABLE hermes_archive (owner INT, session_id INT, number INT, seq INT, turn_id INT)",
]


@pytest.mark.parametrize("statement", FOREIGN, ids=lambda statement: statement.split()[2])
def test_somebody_elses_table_is_left_alone(engine: Engine, statement: str) -> None:
    """A table of the same name and another shape is a clear error, and nothing is made."""
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)
    before = tables(engine)
    name = statement.split()[2]
    with pytest.raises(StoreMisconfigured, match=f"has another table {name} already"):
        upgrade(engine)
    with pytest.raises(StoreMisconfigured, match=f"has another table {name} already"):
        anyio.run(first_use, engine.url)
    assert tables(engine) == before


def tables(engine: Engine) -> dict[str, list[str]]:
    """Return the columns of each table."""
    inspector = inspect(engine)
    return {
        name: [column["name"] for column in inspector.get_columns(name)]
        for name in inspector.get_table_names()
    }


def test_an_upgrade_may_be_repeated(engine: Engine) -> None:
    """Where nothing is to be done nothing is written."""
    upgrade(engine)
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    upgrade(engine)
    assert statements
    assert [] == [each for each in statements if not each.lstrip().startswith(READS)]


READS = ("SELECT", "PRAGMA", "SHOW", "BEGIN", "COMMIT", "DESCRIBE")


class Killed(Exception):
    """The connection ended in the middle of an upgrade."""


@contextmanager
def killed_before(engine: Engine, number: int) -> Iterator[list[str]]:
    """Have the connection end before the change with this number, as if its process were killed.

    Yields what it was killed at.
    """
    changes = 0
    killed: list[str] = []

    def before(connection: Connection, _cursor: object, statement: str, *_rest: object) -> None:
        nonlocal changes
        if statement.lstrip().startswith(READS):
            return
        if changes == number:
            killed.append(statement)
            connection.connection.driver_connection.close()  # type: ignore[union-attr]  # it has one
            connection.invalidate()
            raise Killed
        changes += 1

    event.listen(engine, "before_cursor_execute", before)
    try:
        yield killed
    finally:
        event.remove(engine, "before_cursor_execute", before)


def test_a_half_done_upgrade_goes_on(engine: Engine) -> None:
    """Killed before any one of its changes, an upgrade is undone, or goes on at the next run."""
    today = as_added(fresh(engine), engine, "draft-1")
    with engine.begin() as connection:
        drop_all(connection)
        load_version(connection, "draft-1")
        before = described(connection)
    kills, made, at = 0, 0, ""
    while killed := upgraded_until(engine, made):
        kills += 1
        if engine.dialect.name != "mysql":
            assert now(engine) == before
            made += 1
        else:  # one change for each run, or two where the first is undone with the connection
            made = made + 1 if killed == at else 1
        at = killed
        with engine.connect() as connection:
            assert not migrations.is_complete(connection)
    assert now(engine) == today
    assert kills > 10
    anyio.run(check, engine.url, "draft-1")


def upgraded_until(engine: Engine, number: int) -> str:
    """Upgrade, be killed before the change with this number, and return it; "" where none was."""
    with killed_before(engine, number) as killed, suppress(Killed):
        upgrade(engine)
    return "".join(killed)


UPGRADE = """
import sys
from sqlalchemy import create_engine
from hermes_session_mw import migrations
engine = create_engine(sys.argv[1])
with engine.begin() as connection:
    print("ready", flush=True)
    migrations.upgrade(connection)
"""


def test_processes_may_upgrade_at_once(engine: Engine) -> None:
    """Of several at once one makes the changes, and all end well."""
    started_with(engine, "draft-1")
    url = engine.url.render_as_string(hide_password=False)
    with held(engine):  # until all of them stand before it
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", UPGRADE, url],
                env={"PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
    ended = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ended
    with engine.connect() as connection:
        assert migrations.is_complete(connection)
    anyio.run(check, engine.url, "draft-1")


@contextmanager
def held(engine: Engine) -> Iterator[None]:
    """Keep others from upgrading for as long as the block lasts."""
    lock = {
        "sqlite": "BEGIN IMMEDIATE",
        "postgresql": "SELECT pg_advisory_xact_lock(7526466502349058)",
        "mysql": "SELECT GET_LOCK(concat('hermes_session_mw.', md5(database())), 60)",
    }
    with engine.connect() as connection:
        connection.exec_driver_sql(lock[engine.dialect.name])
        yield
        connection.rollback()
        connection.invalidate()  # MySQL gives the lock back when the connection ends


@pytest.mark.parametrize("version", [None, "draft-1"], ids=["none", "draft-1"])
def test_an_engine_in_autocommit_upgrades_in_one_transaction(
    engine: Engine, version: str | None
) -> None:
    """Where each statement is committed by itself, an upgrade has a transaction all the same."""
    today = fresh(engine)
    with engine.begin() as connection:
        drop_all(connection)
    if version:
        started_with(engine, version)
        today = as_added(today, engine, version)
    committing = create_engine(engine.url, isolation_level="AUTOCOMMIT")
    if engine.dialect.name != "mysql":
        with killed_before(committing, 4), committing.connect() as connection:
            before = described(connection)
            with pytest.raises(Killed):
                migrations.upgrade(connection)
        assert now(engine) == before
    with committing.connect() as connection:
        migrations.upgrade(connection)
        assert described(connection) == today
    committing.dispose()
    assert now(engine) == today


def test_an_upgrade_is_a_part_of_the_callers_transaction(engine: Engine) -> None:
    """Rolled back by the caller, nothing of it is there; but MySQL commits every change."""
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE other (id INTEGER PRIMARY KEY)")
        connection.exec_driver_sql("INSERT INTO other VALUES (1)")
        migrations.upgrade(connection)
        connection.rollback()
    with engine.begin() as connection:
        assert migrations.is_complete(connection) == (engine.dialect.name == "mysql")
        connection.exec_driver_sql("DROP TABLE IF EXISTS other")


def test_what_refuses_the_commit_is_raised(tmp_path: Path) -> None:
    """An error of the COMMIT is the database's own, and nothing is there."""
    engine = create_engine(f"sqlite:///{tmp_path}/sessions.db", connect_args={"timeout": 0})
    with engine.connect() as reader, engine.connect() as connection:
        # Without WAL, as where no store was yet, whoever commits waits for all who read.
        reader.exec_driver_sql("CREATE TABLE other (id INTEGER PRIMARY KEY)")
        reader.exec_driver_sql("BEGIN")
        reader.exec_driver_sql("SELECT * FROM other")
        with pytest.raises(OperationalError, match="locked"):
            migrations.upgrade(connection)
    assert now(engine) == {}
    engine.dispose()


def test_a_lock_that_is_not_given_is_told(
    mysql_server: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where another is at it for too long, an upgrade says so and changes nothing."""
    with mariadb.database(mysql_server) as url:
        engine = create_engine(url)
        other = mariadb.connect(url)
        with other.cursor() as cursor:
            cursor.execute("SELECT GET_LOCK(concat('hermes_session_mw.', md5(database())), 0)")
            with engine.connect() as connection:
                connection.exec_driver_sql("SET max_statement_time = 0.2")  # of its minute
                with pytest.raises(StoreUnavailable, match="another process"):
                    migrations.upgrade(connection)
        other.close()
        assert now(engine) == {}
        engine.dispose()


def test_without_a_connection_an_upgrade_says_what_it_needs(sqlite_url: str) -> None:
    """An engine will not do, nor what Alembic has for a connection in its offline mode."""
    with pytest.raises(ConfigurationError, match="Engine is no"):
        migrations.upgrade(create_engine(sqlite_url))  # type: ignore[arg-type]


def test_the_tables_are_added_once() -> None:
    """Added again they are the same, and another's table of the name is left alone."""
    metadata = MetaData()
    added = migrations.add_tables(metadata)
    assert sorted(table.name for table in added) == sorted(metadata.tables) == TABLES
    assert migrations.add_tables(metadata) == added
    other = MetaData()
    Table("hermes_keys", other, Column("id", Integer, primary_key=True))
    with pytest.raises(ValueError, match="hermes_keys"):
        migrations.add_tables(other)


def test_the_tables_may_have_a_schema() -> None:
    """A MetaData's schema is the tables' too, and their references stay among themselves."""
    metadata = MetaData(schema="app")
    migrations.add_tables(metadata)
    assert migrations.add_tables(metadata)
    assert sorted(metadata.tables) == [f"app.{name}" for name in TABLES]
    (reference,) = metadata.tables["app.hermes_messages"].foreign_key_constraints
    assert reference.referred_table is metadata.tables["app.hermes_sessions"]
