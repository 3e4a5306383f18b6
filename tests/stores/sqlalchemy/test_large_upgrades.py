"""An index over many rows is not built by a store's first use, and by an upgrade beside writers."""

import logging
import threading
from collections.abc import Iterator

import anyio
import anyio.to_thread
import pytest
from sqlalchemy import URL, Engine, create_engine, event, text

from hermes_session_mw import SQLAlchemyStore, migrations
from hermes_session_mw.stores.sqlalchemy.schema import creation
from hermes_session_mw.testing.helpers import numbered
from tests.support.old_tables import drop_all, load_version
from tests.support.own_databases import own_database

INDEX = "ix_hermes_sessions_updated_at"


@pytest.fixture(params=["sqlite", "postgresql", "mysql"], scope="module")
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[URL]:
    """A database of this module's own."""
    with own_database(request, request.param, tmp_path_factory.mktemp("large")) as made:
        yield made


@pytest.fixture
def engine(url: URL) -> Iterator[Engine]:
    """An engine over the tables of 0.1.0, with what that version wrote."""
    engine = create_engine(url)
    with engine.begin() as connection:
        drop_all(connection)
        load_version(connection, "0.1.0")
    yield engine
    engine.dispose()


on_postgresql = pytest.mark.parametrize("url", ["postgresql"], indirect=True)


def is_complete(engine: Engine) -> bool:
    with engine.connect() as connection:
        return migrations.is_complete(connection)


def upgrade(engine: Engine, *, autocommit: bool = False) -> None:
    options = {"isolation_level": "AUTOCOMMIT"} if autocommit else {}
    with engine.connect().execution_options(**options) as connection:
        migrations.upgrade(connection)
        connection.commit()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.message for each in caplog.records if each.levelno == logging.WARNING]


async def test_a_first_use_does_not_index_many_rows(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It adds all else, says what is missing, and lists without; an upgrade builds the index."""
    monkeypatch.setattr(creation, "MOST_AT_FIRST_USE", 3)
    store = SQLAlchemyStore(engine.url)
    ids = [each.id for each in (await store.list()).sessions]
    assert len(ids) > 3
    (warning,) = warnings(caplog)
    assert INDEX in warning
    assert "hermes_session_mw.migrations.upgrade" in warning
    fence = await store.acquire("thread", 60)  # over a table that came later
    await store.release("thread", fence)
    pages, cursor = [], None
    while True:
        page = await store.list("", 1, cursor)
        pages += [each.id for each in page.sessions]
        cursor = page.cursor
        if cursor is None:
            break
    assert pages == ids
    assert not is_complete(engine)
    await anyio.to_thread.run_sync(upgrade, engine)
    assert is_complete(engine)
    assert [each.id for each in (await store.list()).sessions] == ids
    await store.aclose()
    caplog.clear()
    assert [each.id for each in (await store.list()).sessions] == ids
    assert warnings(caplog) == []
    await store.aclose()


async def test_a_first_use_indexes_few_rows(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """Where it takes no time, the first use builds the index with all else."""
    store = SQLAlchemyStore(engine.url)
    assert (await store.list()).sessions
    assert is_complete(engine)
    assert warnings(caplog) == []
    await store.aclose()


@on_postgresql
async def test_postgresql_builds_the_index_while_others_write(engine: Engine) -> None:
    """Over a connection in AUTOCOMMIT the build waits for a writer, and no writer for the build."""
    heard: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: heard.append(args[2]))
    upgrade_without_index(engine)
    store = SQLAlchemyStore(engine.url, create_schema=False)
    done = threading.Event()

    def build() -> None:
        upgrade(engine, autocommit=True)
        done.set()

    with engine.connect() as writing:
        writing.execute(text("UPDATE hermes_sessions SET title = 'x' WHERE id = 'thread'"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, build)
            while not waits_for_a_writer(engine):  # noqa: ASYNC110  # nobody tells
                await anyio.sleep(0.01)
            assert await store.append("unnamed", numbered(9)) == 4
            assert not done.is_set()
            writing.commit()
    assert is_complete(engine)
    assert any(each.startswith("CREATE INDEX CONCURRENTLY") for each in heard)
    await store.aclose()


def upgrade_without_index(engine: Engine) -> None:
    upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text(f"DROP INDEX {INDEX}"))


def waits_for_a_writer(engine: Engine) -> bool:
    query = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND query LIKE 'CREATE INDEX CONCURRENTLY%' AND wait_event_type = 'Lock'"
    )
    with engine.connect() as connection:
        return bool(connection.execute(query).scalar())


@on_postgresql
@pytest.mark.parametrize("autocommit", [True, False])
def test_an_index_that_was_given_up_is_built_again(engine: Engine, *, autocommit: bool) -> None:
    """What a killed upgrade leaves of an index counts as missing, and the next one replaces it."""
    upgrade(engine)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass(:name)"),
            {"name": INDEX},
        )
    assert not is_complete(engine)
    anyio.run(first_use, engine)
    assert not is_complete(engine)
    upgrade(engine, autocommit=autocommit)
    assert is_complete(engine)


async def first_use(engine: Engine) -> None:
    store = SQLAlchemyStore(engine.url)
    assert (await store.list()).sessions
    await store.aclose()


@on_postgresql
def test_upgrades_that_build_at_once_take_turns(engine: Engine) -> None:
    """Of two that would build the same index one does, and the other one finds it."""
    upgrade_without_index(engine)
    failures: list[BaseException] = []

    def build() -> None:
        try:
            upgrade(engine, autocommit=True)
        except BaseException as exc:
            failures.append(exc)
            raise

    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert is_complete(engine)
    with engine.connect() as connection:
        locks = text(  # those of other databases of the server are others'
            "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
            " WHERE locktype = 'advisory' AND datname = current_database()"
        )
        assert connection.execute(locks).scalar() == 0


@pytest.mark.parametrize("url", ["mysql"], indirect=True)
def test_mariadb_builds_the_index_while_others_write(engine: Engine) -> None:
    """The server takes the index with LOCK=NONE, which it refuses where writers would wait."""
    upgrade(engine)
    with engine.begin() as connection:
        columns = "owner, updated_at DESC, id"
        connection.execute(text(f"DROP INDEX {INDEX} ON hermes_sessions"))
        connection.execute(text(f"CREATE INDEX {INDEX} ON hermes_sessions ({columns}) LOCK=NONE"))
    assert is_complete(engine)


OLD_WRITES = {
    "old": "INSERT INTO hermes_sessions (owner, id, next_seq, turns) VALUES ('', 'old', 0, 1)",
    "thread": "UPDATE hermes_sessions SET updated_at = '2036-01-01 00:00:00' WHERE id = 'thread'",
}


def test_an_older_process_goes_on_writing(engine: Engine) -> None:
    """What 0.1.0 writes, which knows of no index, is in the lists of today."""
    upgrade(engine)
    for session_id, statement in OLD_WRITES.items():
        with engine.begin() as connection:
            connection.execute(text(statement))
        anyio.run(lists_first, engine, session_id)


async def lists_first(engine: Engine, session_id: str) -> None:
    store = SQLAlchemyStore(engine.url, create_schema=False)
    assert (await store.list()).sessions[0].id == session_id
    await store.aclose()
