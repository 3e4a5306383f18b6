"""The engine is made on first need, once, and again after a failure or in another process."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import sqlalchemy
from sqlalchemy import URL, create_engine, event, make_url
from sqlalchemy.ext import asyncio as sqlalchemy_asyncio
from sqlalchemy.pool import NullPool

from hermes_session_mw import (
    ConfigurationError,
    HermesSessionMiddleware,
    SQLAlchemyStore,
    StoreMisconfigured,
    StoreUnavailable,
)
from hermes_session_mw.database.engine import _arguments
from tests.support import postgres
from tests.support.asgi import Recorder, request, stamp
from tests.support.waits import store_waiting

HELLO = {"role": "user", "content": "hello"}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Every engine that SQLAlchemy makes during the test."""
    engines: list[Any] = []

    def recording(original: Any) -> Any:
        def create(*arguments: Any, **options: Any) -> Any:
            engine = original(*arguments, **options)
            engines.append(engine)
            return engine

        return create

    monkeypatch.setattr(sqlalchemy, "create_engine", recording(sqlalchemy.create_engine))
    original = sqlalchemy_asyncio.create_async_engine
    monkeypatch.setattr(sqlalchemy_asyncio, "create_async_engine", recording(original))
    yield engines
    for engine in engines:
        (engine.sync_engine if hasattr(engine, "sync_engine") else engine).dispose(close=False)


async def test_requests_without_the_header_make_no_engine(
    sqlite_url: str, tmp_path: Path, made: list[Any]
) -> None:
    """Traffic without the header touches no database and creates no file."""
    wrapped = HermesSessionMiddleware(Recorder(), sqlite_url)
    for _ in range(100):
        await request(wrapped)
    await request(wrapped, "a b")
    assert made == []
    assert os.listdir(tmp_path) == []
    await wrapped.store.aclose()
    assert "no engine yet" in repr(wrapped.store)


async def test_many_first_requests_make_one_engine(sqlite_url: str, made: list[Any]) -> None:
    """However many requests are the first at once, one engine serves them all."""
    app = Recorder(lambda session: session.append(HELLO))
    wrapped = HermesSessionMiddleware(app, sqlite_url, store_timeout=60)
    async with anyio.create_task_group() as tasks:
        for number in range(200):
            tasks.start_soon(request, wrapped, f"s{number}")
    assert len(made) == 1
    assert not any(session.degraded for session in app.sessions)
    await request(wrapped, "s0")
    assert app.session.length == 2
    assert len(made) == 1
    await wrapped.store.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_many_first_requests_make_one_asyncio_engine(
    postgres_url: URL, made: list[Any]
) -> None:
    """So it is with an asyncio driver, where no lock between threads would help."""
    app = Recorder()
    url = postgres_url.set(drivername="postgresql+asyncpg")
    wrapped = HermesSessionMiddleware(app, url, store_timeout=60)
    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(request, wrapped, f"s{number}")
    assert len(made) == 1
    assert not any(session.degraded for session in app.sessions)
    await wrapped.store.aclose()


async def test_a_failed_creation_is_tried_again(tmp_path: Path, made: list[Any]) -> None:
    """A database that was not there at first is used as soon as it is."""
    folder = tmp_path / "later"
    app = Recorder(lambda session: session.append(HELLO) if not session.degraded else nothing())
    wrapped = HermesSessionMiddleware(app, f"sqlite:///{folder}/sessions.db")
    for _ in range(2):
        await request(wrapped, "known")
        assert app.session.degraded
    folder.mkdir()
    for length in (1, 2):
        await request(wrapped, "known")
        assert (app.session.degraded, app.session.length) == (False, length)
    assert len(made) == 3
    await wrapped.store.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_failed_asyncio_creation_is_tried_again(tmp_path: Path, made: list[Any]) -> None:
    """So it is with an asyncio driver."""
    folder = tmp_path / "later"
    store = SQLAlchemyStore(f"sqlite+aiosqlite:///{folder}/sessions.db")
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await store.load("id")
    folder.mkdir()
    assert await store.append("id", [HELLO]) == 1
    assert len(made) == 3
    await store.aclose()
    assert "asyncio" in repr(store)


async def nothing() -> None:
    """Do nothing."""


@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.parametrize("driver", ["postgresql+asyncpg", "postgresql+psycopg_async"])
async def test_an_asyncio_driver_under_trio_is_a_clear_error(
    driver: str, postgres_url: URL
) -> None:
    """Who runs trio is told so, and told what works there."""
    store = SQLAlchemyStore(postgres_url.set(drivername=driver))
    with pytest.raises(StoreMisconfigured, match=r"asyncio alone.*trio.*sync URL"):
        await store.load("id")


async def test_a_waiting_first_request_gives_up_in_time(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one thread hangs in making the engine, the others do not pile up behind it."""
    store = store_waiting(monkeypatch, 1, sqlite_url)
    runner: Any = store._executor
    with runner._lock, pytest.raises(StoreUnavailable, match="still being connected"):
        await store.load("id")
    assert (await store.load("id")).length == 0
    await store.aclose()


@pytest.mark.parametrize(
    ("driver", "anyio_backend"),
    [("psycopg", "asyncio"), ("psycopg", "trio"), ("asyncpg", "asyncio")],
)
async def test_closing_while_an_operation_runs_leaves_no_connection(
    postgres_server: URL, driver: str
) -> None:
    """What is under way when the store is closed is finished, and its connection closed after."""
    with postgres.database(postgres_server) as url:
        store = SQLAlchemyStore(url.set(drivername=f"postgresql+{driver}"))
        await store.append("id", [HELLO])
        watcher = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        others = sqlalchemy.text(
            "SELECT wait_event_type FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        with watcher.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            connection.exec_driver_sql("SELECT 1 FROM hermes_sessions FOR UPDATE")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(store.append, "id", [HELLO])
                while "Lock" not in connection.scalars(others).all():  # noqa: ASYNC110
                    await anyio.sleep(0.01)
                await store.aclose()
                connection.exec_driver_sql("COMMIT")
            assert (
                connection.execute(sqlalchemy.text("SELECT count(*) FROM hermes_messages")).scalar()
                == 2
            )
            with anyio.fail_after(30):  # a server takes its time to say goodbye
                while connection.scalars(others).all():  # noqa: ASYNC110
                    await anyio.sleep(0.01)


async def test_sqlite_is_set_up_for_durability(sqlite_url: str) -> None:
    """An own engine runs SQLite in WAL, with full fsync, foreign keys, and patience."""
    store = SQLAlchemyStore(sqlite_url, timeout=5.0)
    await store.load("id")
    runner: Any = store._executor
    with runner._engine.connect() as connection:
        pragma = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragma == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 4500,
    }
    await store.aclose()


async def statements_of(store: SQLAlchemyStore, engine: sqlalchemy.Engine, work: Any) -> list[str]:
    """Return what the engine's connections are asked while ``work`` runs."""
    await store.load("warm-up")
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement.split(maxsplit=1)[0])

    event.listen(engine, "before_cursor_execute", note)
    await work()
    event.remove(engine, "before_cursor_execute", note)
    return seen


async def test_a_load_is_one_statement(sqlite_url: str) -> None:
    """A history costs one statement, however long, and a turn one short transaction."""
    engine = create_engine(sqlite_url)
    store = SQLAlchemyStore(engine)
    seen = await statements_of(store, engine, lambda: store.append("id", [HELLO, HELLO]))
    assert seen == ["BEGIN", "INSERT", "INSERT", "COMMIT"]
    seen = await statements_of(store, engine, lambda: store.load("id"))
    assert seen == ["SELECT"]
    seen = await statements_of(store, engine, lambda: store.load("unknown"))
    assert seen == ["SELECT", "SELECT"]  # the second tells whether it was deleted
    seen = await statements_of(
        store, engine, lambda: store.append("id", [HELLO], turn_id="t", expected_length=2)
    )
    assert seen == ["BEGIN", "INSERT", "SELECT", "INSERT", "COMMIT"]
    engine.dispose()


async def test_a_borrowed_engine_is_left_to_its_owner(sqlite_url: str) -> None:
    """An engine that was given is neither set up nor disposed of, and its settings come back."""
    engine = create_engine(sqlite_url)
    store = SQLAlchemyStore(engine)
    await store.append("id", [HELLO])
    await store.aclose()
    assert engine.pool.checkedin() == 1  # type: ignore[attr-defined]  # a QueuePool's
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "delete"
        assert connection.get_isolation_level() == "SERIALIZABLE"
        assert connection.connection.dbapi_connection.isolation_level == ""  # type: ignore[union-attr]
    engine.dispose()


@pytest.mark.parametrize("given", [None, 5, object()])
def test_a_store_takes_a_url_or_an_engine(given: Any) -> None:
    """What is neither, as a setting that is missing, is refused by name."""
    with pytest.raises(ConfigurationError, match="neither a URL nor an engine"):
        SQLAlchemyStore(given)


@pytest.mark.parametrize("given", ["1MB", True, None])
def test_a_limit_is_a_number(given: Any) -> None:
    """A limit that is no number is refused by its name."""
    with pytest.raises(ConfigurationError, match="max_message_bytes"):
        SQLAlchemyStore("sqlite://", max_message_bytes=given)


def test_options_are_for_engines_of_our_own(sqlite_url: str) -> None:
    """Options for an engine that exists already would do nothing, so they are refused."""
    engine = create_engine(sqlite_url)
    with pytest.raises(ConfigurationError, match="engine_options"):
        SQLAlchemyStore(engine, engine_options={"echo": True})


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:///x.db", {"timeout": 2.5, "check_same_thread": False}),
        ("sqlite+aiosqlite:///x.db", {"timeout": 2.5}),
        (
            "postgresql+psycopg://x",
            {"connect_timeout": 2, "client_encoding": "utf8", "prepare_threshold": None},
        ),
        ("postgresql+asyncpg://x", {"timeout": 2.5, "statement_cache_size": 0}),
        ("postgresql+pg8000://x", {}),
    ],
)
def test_drivers_wait_no_longer_than_the_timeout(url: str, expected: dict[str, Any]) -> None:
    """Each driver is told its patience in its own words; one that is not known keeps its own."""
    arguments = _arguments(make_url(url), pool_size=1, timeout=2.5, options={})
    assert arguments["connect_args"] == expected


def test_an_old_sqlite_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A SQLite library without RETURNING is named, with the first version that will do."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(ConfigurationError, match=r"SQLite .* is too old; use 3\.35"):
        SQLAlchemyStore("sqlite://")


@pytest.mark.parametrize(
    ("driver", "anyio_backend"),
    [("sqlite", "asyncio"), ("sqlite", "trio"), ("sqlite+aiosqlite", "asyncio")],
)
async def test_an_engine_that_begins_by_itself_may_be_lent(tmp_path: Path, driver: str) -> None:
    """SQLAlchemy's recipe for SQLite's transactions, in the application's engine, does no harm."""
    url = f"{driver}:///{tmp_path}/own.db"
    engine: Any = (
        sqlalchemy_asyncio.create_async_engine(url) if "+" in driver else create_engine(url)
    )
    sync_engine = getattr(engine, "sync_engine", engine)

    def no_own_transactions(connection: Any, _record: Any) -> None:
        connection.isolation_level = None

    event.listen(sync_engine, "connect", no_own_transactions)
    event.listen(sync_engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    store = SQLAlchemyStore(engine)
    for length in (1, 2):
        assert await store.append("id", [HELLO]) == length
        assert (await store.load("id")).length == length
    disposed = engine.dispose()
    if disposed is not None:
        await disposed


async def test_a_borrowed_engine_survives_a_failed_start(tmp_path: Path) -> None:
    """Where the tables cannot be made, the lent engine is given back unharmed."""
    folder = tmp_path / "later"
    engine = create_engine(f"sqlite:///{folder}/sessions.db")
    store = SQLAlchemyStore(engine)
    with pytest.raises(StoreUnavailable):
        await store.load("id")
    folder.mkdir()
    assert await store.append("id", [HELLO]) == 1
    engine.dispose()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_borrowed_asyncio_engine_survives_a_failed_start(tmp_path: Path) -> None:
    """So it is with an asyncio engine, and closing a store that never started does nothing."""
    folder = tmp_path / "later"
    engine = sqlalchemy_asyncio.create_async_engine(f"sqlite+aiosqlite:///{folder}/sessions.db")
    store = SQLAlchemyStore(engine)
    await store.aclose()
    with pytest.raises(StoreUnavailable):
        await store.load("id")
    folder.mkdir()
    assert await store.append("id", [HELLO]) == 1
    await engine.dispose()


@pytest.mark.parametrize("option", ["threads", "timeout", "max_message_bytes"])
def test_numbers_of_a_store_are_positive(option: str) -> None:
    """A store that could never do anything is refused when it is made."""
    with pytest.raises(ConfigurationError, match=option):
        SQLAlchemyStore("sqlite://", **{option: 0})  # type: ignore[arg-type]  # mypy cannot tell


async def test_options_that_no_engine_takes_are_named(sqlite_url: str) -> None:
    """A misspelt option is told by name, when the engine is made."""
    store = SQLAlchemyStore(sqlite_url, engine_options={"poolsize": 1})
    with pytest.raises(StoreMisconfigured, match=r"engine_options.*poolsize"):
        await store.load("id")


async def test_another_pool_can_be_chosen(sqlite_url: str, made: list[Any]) -> None:
    """A pool of the caller's choice comes without the numbers that are meant for ours."""
    store = SQLAlchemyStore(sqlite_url, engine_options={"poolclass": NullPool})
    assert await store.append("id", [HELLO]) == 1
    assert isinstance(made[0].pool, NullPool)
    await store.aclose()


async def test_engine_options_reach_the_engine(sqlite_url: str, made: list[Any]) -> None:
    """What create_engine takes can be set, and comes before our own choices."""
    options = {"pool_size": 2, "connect_args": {"timeout": 1.5}}
    store = SQLAlchemyStore(sqlite_url, engine_options=options)
    await store.load("id")
    (engine,) = made
    assert engine.pool.size() == 2
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() == 1500
    await store.aclose()


async def test_tables_can_be_left_to_migrations(sqlite_url: str, tmp_path: Path) -> None:
    """With create_schema off no table is made, and the error says what is missing."""
    store = SQLAlchemyStore(sqlite_url, create_schema=False)
    with pytest.raises(StoreMisconfigured, match="no such table"):
        await store.load("id")
    with sqlite3.connect(tmp_path / "sessions.db") as raw:
        assert raw.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    raw.close()
    await store.aclose()


async def test_tables_are_used_without_the_right_to_make_them(
    sqlite_url: str, tmp_path: Path
) -> None:
    """Where the tables are there, none is made: a database that forbids it still serves."""
    maker = SQLAlchemyStore(sqlite_url)
    await maker.append("id", [HELLO])
    await maker.aclose()
    reader = SQLAlchemyStore(f"sqlite:///file:{tmp_path}/sessions.db?mode=ro&uri=true")
    assert (await reader.load("id")).messages == [HELLO]
    await reader.aclose()


@pytest.mark.parametrize("driver", ["sqlite", "postgresql+psycopg", "mysql+pymysql"])
async def test_two_processes_may_make_the_tables_at_once(
    driver: str, tmp_path: Path, postgres_server: URL, mysql_server: URL
) -> None:
    """Workers that start together on an empty database all come up."""
    from tests.support import mariadb, postgres  # noqa: PLC0415  # used here alone

    async def start_eight(url: URL) -> None:
        stores = [SQLAlchemyStore(url) for _ in range(8)]
        async with anyio.create_task_group() as tasks:
            for number, store in enumerate(stores):
                tasks.start_soon(store.append, f"s{number}", [HELLO])
        for number, store in enumerate(stores):
            assert (await store.load(f"s{number}")).length == 1
            await store.aclose()

    if driver == "sqlite":
        await start_eight(URL.create("sqlite", database=f"{tmp_path}/new.db"))
    elif driver == "mysql+pymysql":
        with mariadb.database(mysql_server) as url:
            await start_eight(url)
    else:
        with postgres.database(postgres_server) as url:
            await start_eight(url)


async def test_a_half_made_schema_is_completed(sqlite_url: str, tmp_path: Path) -> None:
    """Where a process was killed between the table and its index, the next one makes the index."""
    store = SQLAlchemyStore(sqlite_url)
    await store.append("id", [HELLO], turn_id="t")
    await store.aclose()
    with sqlite3.connect(tmp_path / "sessions.db") as raw:
        raw.execute("DROP INDEX ix_hermes_messages_turn_id")
    assert await store.append("id", [HELLO], turn_id="t") == 1
    await store.aclose()
    names = raw.execute("SELECT name FROM sqlite_master WHERE type = 'index'").fetchall()
    raw.close()
    assert ("ix_hermes_messages_turn_id",) in names


async def test_two_stores_share_nothing(tmp_path: Path) -> None:
    """Each store has an engine of its own."""
    first = SQLAlchemyStore(f"sqlite:///{tmp_path}/first.db")
    second = SQLAlchemyStore(f"sqlite:///{tmp_path}/second.db")
    await first.append("id", [HELLO])
    assert (await second.load("id")).length == 0
    await first.aclose()
    await second.aclose()


def test_two_event_loops_share_one_store(sqlite_url: str) -> None:
    """A store serves event loops one after another, and at once, in threads of one process."""
    store = SQLAlchemyStore(sqlite_url)
    lengths: list[int] = []

    async def append() -> None:
        lengths.append(await store.append("id", [HELLO]))

    threads = [
        threading.Thread(target=anyio.run, args=(append,), kwargs={"backend": backend})
        for backend in ("asyncio", "trio")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    anyio.run(append)
    anyio.run(store.aclose)
    assert sorted(lengths) == [1, 2, 3]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_makes_an_engine_of_its_own(sqlite_url: str) -> None:
    """After a fork the child uses none of its parent's connections, and both go on."""
    store = SQLAlchemyStore(sqlite_url)
    assert anyio.run(store.append, "id", [HELLO]) == 1
    runner: Any = store._executor
    parents = runner._engine
    child = os.fork()
    if child == 0:  # pragma: no cover  # another process, which coverage does not see
        try:
            assert runner._engine is None
            assert anyio.run(store.append, "id", [HELLO]) == 2
            assert runner._engine is not parents
        except BaseException:  # noqa: BLE001  # nothing of the parent's may run on in the child
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert anyio.run(store.append, "id", [HELLO]) == 3
    assert runner._engine is parents
    anyio.run(store.aclose)


async def test_the_password_is_not_shown(postgres_url: URL) -> None:
    """A store's repr tells where it stores, and no secret."""
    store = SQLAlchemyStore(postgres_url.set(password="s3cret"))
    assert "s3cret" not in repr(store)
    assert str(postgres_url.database) in repr(store)
    wrapped = HermesSessionMiddleware(Recorder(), store)
    assert stamp(await request(wrapped, "id")) == "id"
    await store.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("driver", ["postgresql+asyncpg", "postgresql+psycopg_async"])
@pytest.mark.parametrize("borrowed", [False, True])
async def test_nobody_is_kept_from_a_connection(
    postgres_url: URL, driver: str, borrowed: bool
) -> None:
    """Who waits for a connection gets it before one who has just given it back."""
    url = postgres_url.set(drivername=driver)
    engine = sqlalchemy_asyncio.create_async_engine(url, pool_size=2, max_overflow=0)
    store = SQLAlchemyStore(engine) if borrowed else SQLAlchemyStore(url, threads=2)
    await store.load("id")
    loads = dict.fromkeys(range(8), 0)

    async def load(task: int) -> None:
        while min(loads.values()) < 5:
            await store.load("id")
            loads[task] += 1

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for task in loads:
                tasks.start_soon(load, task)
    await store.aclose()
    await engine.dispose()
