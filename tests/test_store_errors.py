"""Database errors come out as the package's own, each raised by a real database."""

import logging
import os
import pickle
import socket
import sqlite3
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
from sqlalchemy import URL, create_engine
from sqlalchemy.exc import DBAPIError

from hermes_session_mw import (
    HermesSessionMiddleware,
    SessionConflict,
    SQLAlchemyStore,
    StoreCorrupt,
    StoreError,
    StoreMisconfigured,
    StoreUnavailable,
)
from hermes_session_mw.stores.sqlalchemy.errors import understand

from .asgi import Recorder, request
from .store_contract import new_id

HELLO = {"role": "user", "content": "hello"}
SECRET = "sec" + "ret"  # so that no line of this file in a traceback holds it
DRIVERS = ["postgresql+psycopg", "postgresql+asyncpg"]
asyncio_alone = pytest.mark.parametrize("anyio_backend", ["asyncio"])


@pytest.fixture
def closed_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        yield listener.getsockname()[1]


async def test_a_missing_folder_is_unavailable(tmp_path: Path) -> None:
    """A SQLite file that cannot be opened names the folder as the likely cause."""
    store = SQLAlchemyStore(f"sqlite:///{tmp_path}/missing/sessions.db")
    with pytest.raises(StoreUnavailable, match=r"SQLITE_CANTOPEN.*folder"):
        await store.load("id")


async def test_a_file_that_is_no_database_is_corrupt(tmp_path: Path) -> None:
    """A foreign file is told as such, and left as it is."""
    file = tmp_path / "notes.txt"
    file.write_text("dear diary " * 100)
    store = SQLAlchemyStore(f"sqlite:///{file}")
    with pytest.raises(StoreCorrupt, match=r"SQLITE_NOTADB.*backup"):
        await store.append("id", [HELLO])
    assert file.read_text() == "dear diary " * 100


async def test_a_damaged_message_is_corrupt(sqlite_url: str, tmp_path: Path) -> None:
    """A stored text that is no JSON is told as damage."""
    store = SQLAlchemyStore(sqlite_url)
    await store.append("id", [HELLO])
    with sqlite3.connect(tmp_path / "sessions.db") as raw:
        raw.execute("UPDATE hermes_messages SET body = substr(body, 1, 5)")
    raw.close()
    with pytest.raises(StoreCorrupt, match="not JSON"):
        await store.load("id")
    await store.aclose()


async def test_a_message_that_is_no_text_is_corrupt_and_not_quoted(
    sqlite_url: str, tmp_path: Path
) -> None:
    """Bytes that are no UTF-8, or no text at all, are damage, and nothing shows what they say."""
    store = SQLAlchemyStore(sqlite_url)
    await store.append("id", [HELLO])
    for damage in ("CAST(x'7b22736563726574ff' AS TEXT)", "x'7b22736563726574'"):
        with sqlite3.connect(tmp_path / "sessions.db") as raw:
            raw.execute(f"UPDATE hermes_messages SET body = {damage}")
        raw.close()
        with pytest.raises(StoreCorrupt) as caught:
            await store.load("id")
        assert "secret" not in "".join(traceback.format_exception(caught.value))
    await store.aclose()


async def test_a_locked_file_is_unavailable_and_readable(sqlite_url: str, tmp_path: Path) -> None:
    """A writer that waits in vain for the lock is told so; readers never wait; then all is well."""
    store = SQLAlchemyStore(sqlite_url, timeout=0.5)
    await store.append("id", [HELLO])
    raw = sqlite3.connect(tmp_path / "sessions.db", isolation_level=None)
    raw.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match=r"SQLITE_BUSY.*lock"):
        await store.append("id", [HELLO])
    assert (await store.load("id")).length == 1
    raw.execute("ROLLBACK")
    raw.close()
    assert await store.append("id", [HELLO]) == 2
    await store.aclose()


async def test_a_full_disk_is_unavailable_until_there_is_room(sqlite_url: str) -> None:
    """What does not fit leaves nothing, and the store works again without a restart."""
    store = SQLAlchemyStore(sqlite_url, engine_options={"pool_size": 1})
    await store.append("id", [HELLO])
    runner: Any = store._runner
    with runner._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StoreUnavailable, match=r"SQLITE_FULL.*room"):
        await store.append("id", [HELLO, {"content": "x" * 100_000}])
    assert (await store.load("id")).messages == [HELLO]
    with runner._engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    assert await store.append("id", [HELLO]) == 2
    await store.aclose()


async def test_a_read_only_file_is_unavailable(sqlite_url: str, tmp_path: Path) -> None:
    """A file that cannot be written can still be read, and the error names the cure."""
    store = SQLAlchemyStore(sqlite_url)
    await store.append("id", [HELLO])
    await store.aclose()
    reader = SQLAlchemyStore(f"sqlite:///file:{tmp_path}/sessions.db?mode=ro&uri=true")
    with pytest.raises(StoreUnavailable, match=r"SQLITE_READONLY.*writable"):
        await reader.append("id", [HELLO])
    assert (await reader.load("id")).messages == [HELLO]
    await reader.aclose()


@asyncio_alone
@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_server_that_is_not_there_is_unavailable(driver: str, closed_port: int) -> None:
    """A refused connection is a clear error, and no crash."""
    store = SQLAlchemyStore(f"{driver}://postgres@127.0.0.1:{closed_port}/x")
    with pytest.raises(StoreUnavailable, match="try again"):
        await store.load("id")


@asyncio_alone
@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_server_that_never_answers_never_hangs_a_request(
    driver: str, silent_port: int
) -> None:
    """A database that accepts and is silent costs a request store_timeout, and no more."""
    app = Recorder()
    url = f"{driver}://postgres@127.0.0.1:{silent_port}/x"
    store = SQLAlchemyStore(url, timeout=2)
    wrapped = HermesSessionMiddleware(app, store, store_timeout=0.2)
    log = await request(wrapped, "id")
    assert log[0]["status"] == 200
    assert app.session.degraded


@asyncio_alone
@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_missing_database_is_an_error_of_its_own(driver: str, postgres_url: URL) -> None:
    """A database that does not exist is named in the error."""
    store = SQLAlchemyStore(postgres_url.set(drivername=driver, database="no_such_database"))
    with pytest.raises(StoreError, match='"no_such_database" does not exist'):
        await store.load("id")


@asyncio_alone
@pytest.mark.parametrize("driver", DRIVERS)
async def test_missing_tables_are_a_misconfiguration(driver: str, postgres_server: URL) -> None:
    """Without tables, and without leave to make them, the error says what is missing."""
    url = postgres_server.set(drivername=driver)
    store = SQLAlchemyStore(url, create_schema=False)
    with pytest.raises(StoreMisconfigured, match=r'42P01: .*"hermes_messages" does not exist'):
        await store.load("id")
    await store.aclose()


@asyncio_alone
@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_killed_connection_costs_nothing(driver: str, postgres_url: URL) -> None:
    """After the server has cut a connection, the operation is repeated over a new one."""
    url = postgres_url.set(drivername=driver)
    store = SQLAlchemyStore(url, engine_options={"pool_size": 1})
    session_id = new_id()
    await store.append(session_id, [HELLO])
    plain = postgres_url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as raw:
        raw.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert await store.append(session_id, [HELLO]) == 2
    await store.aclose()


async def test_a_read_only_server_is_unavailable(postgres_url: URL) -> None:
    """A standby, or a database set read-only, is told as unavailable for writing."""
    url = postgres_url.update_query_dict({"options": "-c default_transaction_read_only=on"})
    maker = SQLAlchemyStore(postgres_url)
    await maker.load("id")
    await maker.aclose()
    store = SQLAlchemyStore(url)
    with pytest.raises(StoreUnavailable, match="25006"):
        await store.append("id", [HELLO])
    await store.aclose()


async def test_a_lock_that_is_not_had_is_unavailable(postgres_url: URL) -> None:
    """A row that another transaction holds too long is an error, and nothing is written."""
    url = postgres_url.update_query_dict({"options": "-c lock_timeout=50"})
    store = SQLAlchemyStore(url, timeout=0.3)
    session_id = new_id()
    await store.append(session_id, [HELLO])
    holder = create_engine(postgres_url)
    with holder.connect() as connection:
        connection.execute(
            sqlalchemy.text("SELECT 1 FROM hermes_sessions WHERE id = :id FOR UPDATE"),
            {"id": session_id},
        )
        with pytest.raises(StoreUnavailable, match="55P03"):
            await store.append(session_id, [HELLO])
    holder.dispose()
    assert (await store.load(session_id)).length == 1
    await store.aclose()


async def test_an_exhausted_pool_is_unavailable(sqlite_url: str) -> None:
    """Where every connection is in use, a call fails after its time, and says why."""
    engine = create_engine(sqlite_url, pool_size=1, max_overflow=0, pool_timeout=0.05)
    store = SQLAlchemyStore(engine)
    await store.load("id")
    with engine.connect(), pytest.raises(StoreUnavailable, match="every database connection"):
        await store.load("id")
    await store.load("id")
    engine.dispose()


async def test_an_error_of_no_known_class_shows_no_value(postgres_url: URL) -> None:
    """PostgreSQL quotes the row that it refuses; the error's text must not repeat it."""
    engine = create_engine(postgres_url)
    store = SQLAlchemyStore(engine)
    await store.append("refused", [HELLO])
    with engine.begin() as connection:
        connection.execute(
            sqlalchemy.text(
                "ALTER TABLE hermes_messages ADD CONSTRAINT short "
                "CHECK (length(body) < 200) NOT VALID"
            )
        )
    with pytest.raises(StoreError) as caught:
        await store.append("refused", [{"content": SECRET * 50}])
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("ALTER TABLE hermes_messages DROP CONSTRAINT short"))
    engine.dispose()
    assert "23514" in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


async def test_a_database_failure_leaves_the_history_empty(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A database that fails is a 200 with an empty history, and one warning without the id."""
    app = Recorder()
    log = await request(HermesSessionMiddleware(app, f"sqlite:///{tmp_path}/no/x.db"), "secret-id")
    assert log[0]["status"] == 200
    assert (app.session.history, app.session.degraded) == ([], True)
    (record,) = caplog.records
    assert (record.levelno, "SQLITE_CANTOPEN" in record.getMessage()) == (logging.WARNING, True)
    assert "secret-id" not in caplog.text


async def test_damage_is_logged_as_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What no retry mends is louder than a warning."""
    file = tmp_path / "x.db"
    file.write_bytes(os.urandom(5000))
    await request(HermesSessionMiddleware(Recorder(), f"sqlite:///{file}"), "id")
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"sqlite_errorname": "SQLITE_BUSY_SNAPSHOT"}, StoreUnavailable),
        ({"sqlite_errorname": "SQLITE_IOERR_WRITE"}, StoreUnavailable),
        ({"sqlite_errorname": "SQLITE_CORRUPT_INDEX"}, StoreCorrupt),
        ({"sqlite_errorname": "SQLITE_CONSTRAINT_CHECK"}, StoreError),
        ({"sqlite_errorname": "SQLITE_OF_THE_FUTURE"}, StoreError),
        ({"sqlstate": "40001"}, StoreUnavailable),
        ({"sqlstate": "40P01"}, StoreUnavailable),
        ({"sqlstate": "53300"}, StoreUnavailable),
        ({"sqlstate": "57P01"}, StoreUnavailable),
        ({"sqlstate": "28P01"}, StoreMisconfigured),
        ({"sqlstate": "42501"}, StoreMisconfigured),
        ({"sqlstate": "3F000"}, StoreMisconfigured),
        ({"sqlstate": "XX001"}, StoreCorrupt),
        ({"sqlstate": "XX000"}, StoreError),
        ({"sqlstate": "22001"}, StoreError),
        ({}, StoreError),
    ],
)
def test_codes_have_their_class(attributes: dict[str, str], expected: type[StoreError]) -> None:
    """The driver's code decides, the longest known prefix first."""
    cause = Exception("quoted value")
    for name, value in attributes.items():
        setattr(cause, name, value)
    error = understand(DBAPIError("SELECT", None, cause)).as_store_error(in_doubt=False)
    assert type(error) is expected
    assert ("quoted value" in str(error)) == (expected not in (StoreError, StoreCorrupt))


@pytest.mark.parametrize(
    ("number", "expected", "leaves_open"),
    [
        (1213, StoreUnavailable, False),
        (2013, StoreUnavailable, True),
        (1180, StoreUnavailable, True),
        (1047, StoreUnavailable, True),
        (1040, StoreUnavailable, False),
        (1146, StoreMisconfigured, False),
        (1064, StoreError, False),
    ],
)
def test_numbers_have_their_class(
    number: int, expected: type[StoreError], leaves_open: bool
) -> None:
    """MySQL's number decides, and tells whether a COMMIT that ends so may have happened."""
    failure = understand(DBAPIError("COMMIT", None, Exception(number, "text")))
    assert type(failure.as_store_error(in_doubt=False)) is expected
    assert failure.leaves_open == leaves_open


def test_a_conflict_survives_pickling() -> None:
    """A conflict that crosses a process keeps its numbers."""
    copy = pickle.loads(pickle.dumps(SessionConflict(1, 2)))
    assert (copy.expected, copy.actual) == (1, 2)
