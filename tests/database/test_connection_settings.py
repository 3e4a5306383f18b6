"""Whatever modes a database has, values come back as they went in, or the connection is refused."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.ext.asyncio import create_async_engine

from hermes_session_mw import ConfigurationError, SQLAlchemyStore, StoreMisconfigured
from hermes_session_mw.testing.helpers import new_id, numbered
from tests.support import mariadb, postgres
from tests.support.requirements import needs

# Harmless, each of them, and each something else to a server that reads it another way.
PIECES = [
    *[
        "'",
        "''",
        '"',
        "`",
        "\\",
        "\\\\",
        'it\'s \\ "so"',
        "\\n, and not a newline",
        " ",
        "trailing ",
    ],
    *[
        "a newline\nand\r\na tab\t",
        "100 %, %s, %(name)s, ?, :name, $1",
        "caf\u00e9 \u65e5\U0001d11e",
    ],
]
MESSAGES = [{text: text, "list": [text, {"text": text}]} for text in ["", "a\x00b", *PIECES]]
# Where a store takes a text for a name, a few are enough: each ends in what a server may misread.
TEXTS = ["; ".join(PIECES), "'".join(PIECES) + "'", "\\", "trailing "]

mysql_drivers = pytest.mark.parametrize(
    ("driver", "anyio_backend"),
    [("mysql+pymysql", "asyncio"), ("mysql+pymysql", "trio"), ("mysql+asyncmy", "asyncio")],
)
postgresql_drivers = pytest.mark.parametrize(
    ("driver", "anyio_backend"),
    [
        ("postgresql+psycopg", "trio"),
        ("postgresql+psycopg2", "asyncio"),
        ("postgresql+psycopg_async", "asyncio"),
        ("postgresql+asyncpg", "asyncio"),
    ],
)


async def all_comes_back(store: SQLAlchemyStore) -> None:
    """Check that what was given is what is found, wherever a store takes a text."""
    assert await store.append(known := new_id(), MESSAGES) == len(MESSAGES)
    assert (await store.load(known)).messages == MESSAGES
    for text in TEXTS:
        owner, own = f"owner {text}", f"{new_id()} {text}"
        assert await store.append(own, MESSAGES, owner, f"turn {text}") == len(MESSAGES)
        assert await store.append(own, MESSAGES, owner, f"turn {text}") == len(MESSAGES)
        assert (await store.load(own, owner)).messages == MESSAGES
        assert await store.rename(own, text, owner)
        (info,) = (await store.list(owner)).sessions
        assert (info.id, info.title) == (own, text)
        turn = await store.find_turn(own, f"turn {text}", owner)
        assert turn is not None
        assert turn.messages == MESSAGES
        assert await store.bind_key(text, own, owner) == own
        assert await store.find_key(text, owner) == own
        assert await store.rewind(own, 0, owner) == 0
        assert [each.message for each in await store.archived(own, owner)] == MESSAGES
        assert await store.delete(own, owner)


@asynccontextmanager
async def using(store: SQLAlchemyStore) -> AsyncIterator[SQLAlchemyStore]:
    """Close the store in the end."""
    try:
        yield store
    finally:
        await store.aclose()


@asynccontextmanager
async def borrowing(
    url: URL, connected: Callable[[Any, Any], None], *, first: bool = False, **options: Any
) -> AsyncIterator[SQLAlchemyStore]:
    """Yield a store over an engine of the caller's, who does something to each connection."""
    if url.get_dialect().is_async:
        async_engine = create_async_engine(url, **options)
        event.listen(async_engine.sync_engine, "connect", connected, insert=first)
        yield SQLAlchemyStore(async_engine, timeout=60)
        await async_engine.dispose()
        return
    engine = create_engine(url, **options)
    event.listen(engine, "connect", connected, insert=first)
    yield SQLAlchemyStore(engine, timeout=60)
    engine.dispose()


def saying(*statements: str) -> Callable[[Any, Any], None]:
    """Return a listener that has each new connection carry out the statements."""

    def connected(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        cursor.close()

    return connected


@pytest.fixture(scope="module")
def own_mariadb() -> Iterator[URL]:
    """A server of this module's own, whose global settings may be any."""
    if mariadb.binary() is None:
        needs("no MariaDB: install mariadb-server")
    with mariadb.own_server() as own:
        mariadb.execute(own.url, "CREATE USER plain@localhost")  # init_connect is not for root
        mariadb.execute(own.url, "GRANT ALL ON *.* TO plain@localhost")
        mariadb.execute(own.url, "REVOKE SUPER, CONNECTION ADMIN ON *.* FROM plain@localhost")
        yield own.url.set(username="plain")


@pytest.fixture
def odd_mariadb(own_mariadb: URL, settings: dict[str, Any]) -> Iterator[URL]:
    """The same, with settings that every new connection has."""
    root = own_mariadb.set(username="root")
    with mariadb.database(root) as url, mariadb.connect(root) as connection:
        cursor = connection.cursor()
        before = {}
        for name, value in settings.items():
            cursor.execute(f"SELECT @@global.{name}")
            ((before[name],),) = cursor.fetchall()
            cursor.execute(f"SET GLOBAL {name} = %s", (value,))
        yield url.set(username="plain")
        for name, value in before.items():
            cursor.execute(f"SET GLOBAL {name} = %s", (value,))


@mysql_drivers
@pytest.mark.parametrize(
    "settings",
    [
        {"sql_mode": ""},
        {"sql_mode": "ANSI_QUOTES"},
        {"sql_mode": "NO_BACKSLASH_ESCAPES"},
        {"sql_mode": "ANSI,TRADITIONAL,NO_BACKSLASH_ESCAPES"},
        {"sql_mode": "ORACLE"},
        {"sql_mode": "EMPTY_STRING_IS_NULL,PAD_CHAR_TO_FULL_LENGTH,IGNORE_SPACE"},
        {"tx_isolation": "READ-UNCOMMITTED"},
        {"tx_isolation": "SERIALIZABLE"},
        {"autocommit": 0},
        {"init_connect": "SET NAMES latin1, sql_mode = 'NO_BACKSLASH_ESCAPES', autocommit = 0"},
    ],
    ids=lambda settings: "-".join(f"{name}={value}" for name, value in settings.items()),
)
async def test_texts_come_back_under_every_mode_of_mysql(odd_mariadb: URL, driver: str) -> None:
    """An engine of our own sets what it relies on, whatever the server has for its default."""
    async with using(SQLAlchemyStore(odd_mariadb.set(drivername=driver), timeout=60)) as store:
        await all_comes_back(store)


@mysql_drivers
@pytest.mark.parametrize(
    ("mode", "refused"),
    [
        ("", "is not strict"),
        ("ORACLE", "is not strict"),
        ("ANSI", "is not strict"),
        ("STRICT_ALL_TABLES,EMPTY_STRING_IS_NULL", "EMPTY_STRING_IS_NULL"),
        ("STRICT_ALL_TABLES", None),
        ("TRADITIONAL,ANSI", None),
        ("TRADITIONAL,ORACLE", "take ORACLE out"),
    ],
)
async def test_a_borrowed_connection_has_modes_that_will_do(
    mysql_url: URL, driver: str, mode: str, refused: str | None
) -> None:
    """A mode under which texts are cut off or become NULL is refused, and any other will do."""
    url = mysql_url.set(drivername=driver)
    async with borrowing(url, saying(f"SET sql_mode = '{mode}'"), first=True) as store:
        if refused is None:
            await all_comes_back(store)
            return
        for _ in range(2):
            with pytest.raises(StoreMisconfigured, match=refused):
                await store.append("id", numbered(0))


@mysql_drivers
async def test_a_borrowed_connection_reads_backslashes_as_its_driver_writes_them(
    mysql_url: URL, driver: str
) -> None:
    """Under NO_BACKSLASH_ESCAPES a driver that heeds it is used, and one that does not refused."""
    mode = saying("SET sql_mode = 'TRADITIONAL,NO_BACKSLASH_ESCAPES'")
    async with borrowing(mysql_url.set(drivername=driver), mode) as store:
        if driver == "mysql+pymysql":
            await all_comes_back(store)
        else:
            with pytest.raises(StoreMisconfigured, match="NO_BACKSLASH_ESCAPES"):
                await store.append("id", numbered(0))


@mysql_drivers
@pytest.mark.parametrize(
    ("statement", "refused"),
    [
        ("SET NAMES latin1", "charset=utf8mb4"),
        ("SET NAMES utf8mb3", "charset=utf8mb4"),
        ("SET sql_mode = 'TRADITIONAL,ANSI_QUOTES'", "ANSI_QUOTES.*insert=True"),
        ("SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED", "isolation level"),
    ],
)
async def test_a_borrowed_connection_that_will_not_do_is_refused(
    mysql_url: URL, driver: str, statement: str, refused: str
) -> None:
    """What the driver or SQLAlchemy does not know of is refused, and so are uncommitted reads."""
    async with borrowing(mysql_url.set(drivername=driver), saying(statement)) as store:
        with pytest.raises(StoreMisconfigured, match=refused):
            await store.load("id")


async def test_a_borrowed_connection_that_leaves_commits_to_its_owner_is_refused(
    mysql_url: URL,
) -> None:
    """Where a listener takes autocommit away, nothing is acknowledged that is not committed."""
    engine = create_engine(mysql_url)

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql("SET autocommit = 0")

    with pytest.raises(StoreMisconfigured, match="autocommit"):
        await SQLAlchemyStore(engine).append("id", numbered(0))
    engine.dispose()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("driver", ["mysql+pymysql", "mysql+asyncmy"])
async def test_a_character_set_that_lacks_letters_is_refused(mysql_url: URL, driver: str) -> None:
    """A URL whose charset cannot hold every text is refused at the first use, by its name."""
    url = mysql_url.set(drivername=driver).update_query_dict({"charset": "latin1"})
    async with using(SQLAlchemyStore(url, timeout=60)) as store:
        with pytest.raises(StoreMisconfigured, match="charset=utf8mb4"):
            await store.load("id")


async def test_a_connection_that_is_lost_while_it_is_asked_is_replaced(mysql_url: URL) -> None:
    """Where the first connection breaks before it has answered, another is made and asked."""
    engine = create_engine(mysql_url)
    killed: list[int] = []

    @event.listens_for(engine, "before_cursor_execute")
    def asked(connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        if "USING utf8mb4" in statement and not killed:
            driver: Any = connection.connection.driver_connection
            killed.append(driver.thread_id())
            mariadb.execute(mysql_url, f"KILL {killed[0]}")

    store = SQLAlchemyStore(engine, timeout=60)
    assert await store.append(new_id(), numbered(0)) == 1
    assert killed
    engine.dispose()


@mysql_drivers
async def test_a_mode_that_changes_under_a_borrowed_connection_is_noticed(
    mysql_url: URL, driver: str
) -> None:
    """What a driver learns of its connection's mode later is looked at before the next use."""
    url = mysql_url.set(drivername=driver)
    connections: list[Any] = []

    def kept(connection: Any, _record: object) -> None:
        connections.append(connection)

    modes: list[str] = []

    def given_out(connection: Any, _record: object, _proxy: object) -> None:
        for mode in modes:
            saying(f"SET sql_mode = '{mode}'")(connection, None)

    async with borrowing(url, kept, pool_size=1, max_overflow=0) as store:
        await all_comes_back(store)
        event.listen(pool_of(store), "checkout", given_out)
        modes.append("NO_BACKSLASH_ESCAPES")
        with pytest.raises(StoreMisconfigured):
            await store.append("id", numbered(0))
        modes[0] = "TRADITIONAL"
        await all_comes_back(store)
    assert len(connections) == 1


def pool_of(store: SQLAlchemyStore) -> Any:
    """Return the pool of the engine that the store has borrowed."""
    runner: Any = store._executor
    return runner._make().pool


def test_an_isolation_level_of_ones_own_is_refused(sqlite_url: str) -> None:
    """Options under which the store's COMMIT would mean something else are refused by name."""
    for options in (
        {"isolation_level": "SERIALIZABLE"},
        {"execution_options": {"isolation_level": "SERIALIZABLE"}},
    ):
        with pytest.raises(ConfigurationError, match="isolation_level"):
            SQLAlchemyStore(sqlite_url, engine_options=options)


@pytest.fixture
def odd_postgres(postgres_server: URL, setting: str) -> Iterator[URL]:
    """A database whose connections have a setting."""
    with postgres.database(postgres_server) as url:
        with postgres.connect(postgres_server) as connection:
            connection.execute(f'ALTER DATABASE "{url.database}" SET {setting}'.encode())
        yield url


@postgresql_drivers
@pytest.mark.parametrize(
    "setting",
    [
        "client_encoding = 'LATIN1'",
        "client_encoding = 'SQL_ASCII'",
        "standard_conforming_strings = off",
        "default_transaction_isolation = 'serializable'",
        "transform_null_equals = on",
    ],
)
async def test_texts_come_back_under_every_setting_of_postgresql(
    odd_postgres: URL, driver: str
) -> None:
    """An engine of our own works whatever the database has for its default."""
    async with using(SQLAlchemyStore(odd_postgres.set(drivername=driver), timeout=60)) as store:
        await all_comes_back(store)


# The server itself refuses the first letter that the database lacks (22P05), before the settings of
# the connection are compared, and the error names both encodings.
LACKS_LETTERS = (
    r"failed \((UntranslatableCharacter|Error) 22P05\): set the encoding of the connection and the "
    r"database to UTF-8 \(on MariaDB utf8mb4\)$"
)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_database_that_lacks_letters_is_refused(
    postgres_server: URL, driver: str, encoding: str
) -> None:
    """A database that cannot hold every text is refused, and one that keeps any bytes is used."""
    with postgres.database(postgres_server) as first:
        name = f"{first.database}_{encoding.lower()}"
        with postgres.connect(postgres_server) as connection:
            connection.execute(
                f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' "
                "TEMPLATE template0".encode()
            )
        try:
            url = first.set(drivername=f"postgresql+{driver}", database=name)
            async with using(SQLAlchemyStore(url, timeout=60)) as store:
                if encoding == "SQL_ASCII":
                    await all_comes_back(store)
                else:
                    with pytest.raises(StoreMisconfigured, match=LACKS_LETTERS):
                        await store.load("id")
        finally:
            with postgres.connect(postgres_server) as connection:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@postgresql_drivers
@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_a_borrowed_connections_encoding_has_to_be_utf8(
    postgres_url: URL, driver: str, encoding: str
) -> None:
    """A client_encoding that cannot carry every text is refused, with what to set."""
    url = postgres_url.set(drivername=driver)
    statement = f"SET client_encoding TO '{encoding}'"
    async with borrowing(url, saying(statement), isolation_level="AUTOCOMMIT") as store:
        if (driver, encoding) == ("postgresql+psycopg2", "SQL_ASCII"):  # UTF-8 to it, both ways
            await all_comes_back(store)
        else:
            with pytest.raises(StoreMisconfigured, match="client_encoding to UTF8"):
                await store.append("id", numbered(0))


sqlite_drivers = pytest.mark.parametrize(
    ("driver", "anyio_backend"), [("sqlite", "trio"), ("sqlite+aiosqlite", "asyncio")]
)


@sqlite_drivers
@pytest.mark.parametrize(
    "pragma", ["encoding = 'UTF-16le'", "foreign_keys = ON", "recursive_triggers = ON"]
)
async def test_texts_come_back_under_every_setting_of_sqlite(
    tmp_path: Path, driver: str, pragma: str
) -> None:
    """A borrowed SQLite connection is used as it is."""
    url = URL.create(driver, database=str(tmp_path / "sessions.db"))
    async with borrowing(url, saying(f"PRAGMA {pragma}")) as store:
        await all_comes_back(store)


def as_dict(cursor: Any, row: Any) -> dict[str, Any]:
    """Return a row as a dict, as sqlite3's documentation does."""
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


@sqlite_drivers
@pytest.mark.parametrize(("name", "value"), [("text_factory", bytes), ("row_factory", as_dict)])
async def test_rows_of_another_shape_are_refused(
    tmp_path: Path, driver: str, name: str, value: Any
) -> None:
    """A borrowed connection that makes something else of rows is refused, also if it does later."""
    url = URL.create(driver, database=str(tmp_path / "sessions.db"))
    connections: list[Any] = []

    def kept(connection: Any, _record: object) -> None:
        connections.append(getattr(connection, "driver_connection", connection))

    async with borrowing(url, kept, pool_size=1, max_overflow=0) as store:
        await store.append("id", numbered(0))
        (connection,) = connections
        before = getattr(connection, name)
        setattr(connection, name, value)
        for _ in range(2):
            with pytest.raises(StoreMisconfigured, match="row_factory"):
                await store.append("id", numbered(1))
        setattr(connection, name, before)
        assert await store.append("id", numbered(1)) == 2


class NeverAutocommits(sqlite3.Connection):
    """What ``autocommit=False`` makes of a connection from Python 3.12 on."""

    autocommit = False


async def test_a_connection_that_is_always_in_a_transaction_is_refused(sqlite_url: str) -> None:
    """Python's autocommit=False would leave what was appended uncommitted, so it is refused."""
    options = {"connect_args": {"factory": NeverAutocommits}}
    for store in (
        SQLAlchemyStore(sqlite_url, engine_options=options),
        SQLAlchemyStore(borrowed := create_engine(sqlite_url, **options)),
    ):
        async with using(store):
            with pytest.raises(StoreMisconfigured, match="autocommit"):
                await store.append("id", numbered(0))
    borrowed.dispose()


def test_a_borrowed_engine_keeps_its_settings(mysql_url: URL) -> None:
    """What the caller's connections are set to is left as it was."""
    engine: Engine = create_engine(mysql_url)
    mode = "STRICT_ALL_TABLES,ANSI_QUOTES"
    event.listen(engine, "connect", saying(f"SET sql_mode = '{mode}'"), insert=True)
    anyio.run(SQLAlchemyStore(engine).append, "id", numbered(0))
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT @@sql_mode").scalar_one()
    assert set(found.split(",")) == set(mode.split(","))
    engine.dispose()
