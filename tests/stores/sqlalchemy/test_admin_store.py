"""The operator's store: all owners' sessions, and nothing made or changed by looking at them."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, create_engine, make_url, text

from hermes_session_mw import (
    ConfigurationError,
    InvalidKey,
    SQLAlchemyStore,
    StoreCorrupt,
    StoreMisconfigured,
)
from hermes_session_mw.database.connection import Database
from hermes_session_mw.database.transactions import snapshot
from hermes_session_mw.stores import pagination
from hermes_session_mw.stores.sqlalchemy.admin.admin_store import AdminStore
from hermes_session_mw.stores.sqlalchemy.admin.models import OwnedSession, Problem, Totals
from hermes_session_mw.stores.sqlalchemy.schema import tables
from hermes_session_mw.stores.sqlalchemy.schema.checkpoint_tables import checkpoint_metadata
from hermes_session_mw.stores.sqlalchemy.schema.expiry_tables import expiry_metadata
from hermes_session_mw.stores.sqlalchemy.schema.search_tables import search_metadata
from hermes_session_mw.stores.sqlalchemy.statements import delete_prune
from hermes_session_mw.stores.sqlalchemy.statements.delete_prune import PruneCounts
from hermes_session_mw.testing.helpers import numbered
from tests.support.own_databases import key_of, own_database

DRIVERS = [
    "sqlite",
    "sqlite+aiosqlite",
    "postgresql+psycopg",
    "postgresql+asyncpg",
    "mysql+pymysql",
    "mysql+asyncmy",
]
SYNC = {
    "sqlite+aiosqlite": "sqlite",
    "postgresql+asyncpg": "postgresql+psycopg",
    "mysql+asyncmy": "mysql+pymysql",
}


@pytest.fixture
def anyio_backend() -> str:
    """Half of the drivers know no other event loop."""
    return "asyncio"


@pytest.fixture(params=DRIVERS, scope="module")
def anew(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[URL]:
    """A database of this module's own for each driver."""
    with own_database(request, request.param, tmp_path_factory.mktemp("operator")) as made:
        yield made


@pytest.fixture
def url(anew: URL) -> URL:
    """That database, without a row of before."""
    run(anew, tables.metadata.create_all)
    run(
        anew, lambda c: [c.execute(table.delete()) for table in tables.metadata.sorted_tables[::-1]]
    )
    return anew


def run(url: URL, work: Any) -> None:
    """Do something on a connection of the database's own."""
    engine = create_engine(url.set(drivername=SYNC.get(url.drivername, url.drivername)))
    with engine.begin() as connection:
        work(connection)
    engine.dispose()


def sql(url: URL, statement: str, **values: Any) -> None:
    """Run one statement."""
    run(url, lambda c: c.execute(text(statement), values))


def age(url: URL, session_id: str, table: str = "hermes_sessions", column: str = "id") -> None:
    """Let a session, or a key, be of the year 2001."""
    value = key_of(url.get_backend_name(), session_id)
    sql(
        url, f"UPDATE {table} SET updated_at = '2001-02-03 04:05:06' WHERE {column} = :id", id=value
    )


async def filled(url: URL) -> None:
    """Store what the tests know: two owners, one of whose ids is the other's too, and nobody."""
    store = SQLAlchemyStore(url)
    await store.append("rain", numbered(0, 2), "ada")
    await store.append("rain", numbered(2, 2), "ada")
    await store.append("rain", numbered(0, 1), "bob")
    await store.append("snow", numbered(0, 3), "bob", message_ids=["a", None, "c"])
    await store.rewind("snow", 1, "bob")
    await store.append("wind:1", numbered(0, 1))
    await store.append("gone", numbered(0, 1), "ada")
    assert await store.delete("gone", "ada")
    fence = await store.acquire("leased", 1, "ada")
    await store.release("leased", fence, "ada")
    await store.aclose()


def names(sessions: Any) -> list[tuple[str | None, str]]:
    return [(each.owner, each.info.id) for each in sessions]


ALL = [("", "wind:1"), ("ada", "rain"), ("bob", "rain"), ("bob", "snow")]


async def test_all_owners_sessions_are_told(url: URL) -> None:
    """A list, a walk, a look-up by id, and totals tell of all owners, or of one alone."""
    await filled(url)
    store = AdminStore(url)
    listed, cursor = [], None
    while True:
        page = await store.list_owned(limit=1, cursor=cursor)
        listed += page.sessions
        cursor = page.cursor
        if cursor is None:
            break
    assert sorted(names(listed)) == ALL
    changed = [(each.info.updated_at, each.owner, each.info.id) for each in listed]
    assert changed == sorted(changed, key=lambda each: (-each[0].timestamp(), *each[1:]))
    assert sorted(names((await store.list_owned("bob")).sessions)) == ALL[2:]
    assert names((await store.list_owned("")).sessions) == ALL[:1]
    (rain,) = await store.find("rain", "ada")
    info = await store.info("rain", "ada")
    assert info is not None
    assert rain == OwnedSession(info, "ada", 2, 0)
    assert names(await store.find("rain")) == ALL[1:3]
    assert list(await store.find("gone")) == []
    (snow,) = await store.find("snow")
    assert (snow.info.length, snow.archived) == (1, 2)
    assert names(await store.walk()) == ALL
    assert names(await store.walk("bob")) == ALL[2:]
    assert names(await store.walk(None, rain)) == ALL[2:]
    assert sorted(await store.ids_with_prefix("")) == ["rain", "rain", "snow", "wind:1"]
    assert await store.ids_with_prefix("wi") == ["wind:1"]
    assert await store.ids_with_prefix("r", "ada") == ["rain"]
    assert await store.ids_with_prefix("gone") == []
    totals = await store.totals()
    oldest = min(each.info.created_at for each in listed)
    newest = max(each.info.updated_at for each in listed)
    assert totals == Totals(4, 7, 5, 2, 2, 1, 1, oldest, newest, totals.bytes, 0, 0, 0)
    assert sum(totals.bytes.values()) > 0
    assert set(totals.bytes) in ({"database"}, set(tables.metadata.tables))
    none = Totals(0, 0, 0, 0, 0, 0, 0, open_answers=0, ended_answers=0, answer_events=0)
    assert await store.totals("nobody") == none
    assert await store.export_snapshot("rain", "bob") == await store.export("rain", "bob")
    assert await store.export_snapshot("gone", "ada") is None
    await store.aclose()


async def test_sizes_are_also_of_the_tables_that_few_have(url: URL) -> None:
    """Checkpoints, settings of expiry and a search index have their sizes, where they are."""
    optional = (checkpoint_metadata, expiry_metadata, search_metadata)
    store = AdminStore(url)
    for each in optional:
        run(url, each.create_all)
    try:
        sizes = (await store.totals()).bytes
    finally:
        for each in optional:
            run(url, each.drop_all)
    names = {name for each in (tables.metadata, *optional) for name in each.tables}
    assert set(sizes) == ({"database"} if url.drivername.startswith("sqlite") else names)
    assert names & set((await store.totals()).bytes) <= set(tables.metadata.tables)
    await store.aclose()


async def test_what_was_counted_is_pruned(url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody changed since is removed, of one owner or of all, and nothing that is in use."""
    monkeypatch.setattr(delete_prune, "BATCH", 1)  # each is asked for anew
    await filled(url)
    store = AdminStore(url, access="write")
    await store.move_key("lost", "nothing", "bob")
    await store.move_key("new", "nothing", "bob")
    fence = await store.acquire("snow", 600, "bob")
    for session_id in ("rain", "snow", "gone", "leased"):
        age(url, session_id)
    age(url, "lost", "hermes_keys", "name")
    cutoff = await store.cutoff(timedelta(days=30))
    assert await store.cutoff(timedelta(days=99999)) == 1
    steps: list[int] = []
    assert await store.count_stale(cutoff, "nobody") == PruneCounts()
    assert await store.count_stale(cutoff, "ada") == PruneCounts(1, 4, 2, 0)
    assert await store.count_stale(cutoff) == PruneCounts(2, 5, 2, 1)  # snow is being written to
    assert await store.prune_stale(cutoff, "ada", steps.append) == PruneCounts(1, 4, 2, 0)
    assert await store.prune_stale(cutoff, None, steps.append) == PruneCounts(1, 1, 0, 1)
    assert sum(steps) == 4
    assert names(await store.walk()) == [ALL[0], ALL[3]]
    assert await store.find_key("new", "bob") == "nothing"
    changed = [delete_prune.StaleSession("", "wind:1", 1)]  # since it was found
    assert await store._write(lambda c: delete_prune.remove_stale(c, cutoff, changed)) == []
    await store.release("snow", fence, "bob")
    assert await store.count_stale(cutoff) == PruneCounts(1, 3, 0, 0)
    assert await store.check_integrity(steps.append) == []
    await store.aclose()


DAMAGE = {
    "UPDATE hermes_sessions SET next_seq = 9000000000000000000 WHERE owner = ''": [
        ("wind:1", "", "it counts 9000000000000000000 messages, numbered from 0, and has 1"),
        ("wind:1", "", "message 1 is missing"),
    ],
    "DELETE FROM hermes_messages WHERE session_id = 'rain' AND owner = 'ada' AND seq = 1": [
        ("rain", "ada", "it counts 4 messages, numbered from 0, and has 3"),
        ("rain", "ada", "message 1 is missing"),
    ],
    "UPDATE hermes_messages SET body = '[1]' WHERE session_id = 'wind:1'": [
        ("wind:1", "", "message 0 is not a JSON object"),
    ],
    "UPDATE hermes_archive SET body = '{' WHERE number = 1": [
        ("snow", "bob", "archived message 1 is not a JSON object"),
    ],
    "UPDATE hermes_messages SET seq = 7 WHERE session_id = 'wind:1'": [
        ("wind:1", "", "it counts 1 messages, numbered from 0, and has 1"),
        ("wind:1", "", "message 0 is missing"),
    ],
    "UPDATE hermes_sessions SET next_seq = 0, turns = 0, archived = 0 WHERE owner = 'bob'": [
        ("rain", "bob", "it counts 0 messages, numbered from 0, and has 1"),
        ("snow", "bob", "it counts 0 messages, numbered from 0, and has 1"),
        ("snow", "bob", "it counts 0 archived messages, numbered from 0, and has 2"),
    ],
    "UPDATE hermes_message_ids SET seq = 1": [
        ("snow", "bob", "there is no message for 1 ids"),
    ],
    "UPDATE hermes_sessions SET has_message_ids = 0": [
        ("snow", "bob", "it does not say that its messages have ids"),
    ],
    "UPDATE hermes_sessions SET turns = 0 WHERE id = 'wind:1'": [
        ("wind:1", "", "it counts messages, and no turn"),
    ],
    "UPDATE hermes_sessions SET deleted_at = updated_at WHERE id = 'wind:1'": [
        ("wind:1", "", "it counts 0 messages, numbered from 0, and has 1"),
    ],
}  # fmt: skip


# What a driver does to reads, the tests above have seen.
ENGINES = pytest.mark.parametrize("anew", sorted(set(DRIVERS) - set(SYNC)), indirect=True)


@ENGINES
@pytest.mark.parametrize("statement", DAMAGE)
async def test_what_does_not_fit_together_is_told(url: URL, statement: str) -> None:
    """Rows that are missing, too many, not numbered, no JSON or without meaning are each told."""
    await filled(url)
    store = AdminStore(url)
    steps: list[int] = []
    assert list(await store.check_integrity(steps.append)) == []
    assert sum(steps) == 4
    sql(url, statement)
    found = await store.check_integrity(steps.append)
    assert sorted(found, key=repr) == sorted(
        (Problem(what, id_, owner) for id_, owner, what in DAMAGE[statement]), key=repr
    )
    await store.aclose()


@ENGINES
async def test_a_replaced_turn_leaves_nothing_to_be_told(url: URL) -> None:
    """After replacements, also of all and of nothing, rows and counters fit together."""
    store, look = SQLAlchemyStore(url), AdminStore(url)
    for number in range(3):
        await store.append("edited", numbered(number * 2, 2))
    for keep in (3, 0, 1):
        await store.append("edited", numbered(9, 3), turn_id=f"t{keep}", replace_from=keep)
        await store.append("edited", numbered(9, 3), turn_id=f"t{keep}", replace_from=keep)
    assert list(await look.check_integrity(lambda _: None)) == []
    assert ((await look.load("edited")).length, len(await look.archived("edited"))) == (4, 11)
    await store.aclose()
    await look.aclose()


async def test_a_look_at_a_whole_file_may_take_longer_than_an_operation(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check that reads a large file at once has a day for that, and its other steps a minute."""
    await filled(make_url(sqlite_url))
    store = AdminStore(sqlite_url, timeout=60)
    given = Counter[int]()
    run_one = store._executor.run

    async def noted(work: Any, *, seconds: float, **options: Any) -> Any:
        given[60 if seconds <= 60 else 86400] += 1
        return await run_one(work, seconds=seconds, **options)

    monkeypatch.setattr(store._executor, "run", noted)
    assert list(await store.check_integrity(lambda _: None)) == []
    assert (given[86400], given[60] > 3) == (1, True)
    await store.aclose()


@ENGINES
async def test_rows_without_their_session_are_told(url: URL) -> None:
    """Messages whose session is gone are found, also behind the last session that there is."""
    await filled(url)
    off = "PRAGMA foreign_keys = OFF" if url.get_backend_name() == "sqlite" else "SELECT 1"
    if url.get_backend_name() == "postgresql":
        off = "SET session_replication_role = replica"
    if url.get_backend_name() == "mysql":
        off = "SET foreign_key_checks = 0"

    def orphan(connection: Any) -> None:
        connection.execute(text(off))
        connection.execute(text("DELETE FROM hermes_sessions WHERE owner = 'bob'"))

    run(url, orphan)
    store = AdminStore(url)
    assert list(await store.check_integrity(lambda _: None)) == [
        Problem("there is no session for 1 messages", "rain", "bob"),
        Problem("there is no session for 1 messages", "snow", "bob"),
        Problem("there is no session for 2 archived messages", "snow", "bob"),
    ]
    await store.aclose()


@ENGINES
async def test_what_the_schema_lacks_is_told(url: URL) -> None:
    """A table, a column or an index that is missing is told by name; an index ends no check."""
    await filled(url)
    store = AdminStore(url)
    on = " ON hermes_archive" if url.get_backend_name() == "mysql" else ""

    def damage(connection: Any) -> None:
        connection.execute(text("DROP TABLE hermes_keys"))
        connection.execute(text(f"DROP INDEX ix_hermes_archive_turn_id{on}"))
        connection.execute(text("ALTER TABLE hermes_sessions DROP COLUMN title"))

    run(url, damage)
    assert {each.what for each in await store.check_integrity(lambda _: None)} == {
        "the table hermes_keys is missing",
        "the column hermes_sessions.title is missing",
        "the index ix_hermes_archive_turn_id is missing",
    }
    await store.aclose()
    run(url, tables.metadata.drop_all)  # made anew for the next test
    run(url, tables.metadata.create_all)
    await filled(url)
    on = " ON hermes_sessions" if url.get_backend_name() == "mysql" else ""
    sql(url, f"DROP INDEX ix_hermes_sessions_updated_at{on}")
    sql(url, "UPDATE hermes_messages SET body = '[1]' WHERE session_id = 'wind:1'")
    store = AdminStore(url)
    assert [each.what for each in await store.check_integrity(lambda _: None)] == [
        "the index ix_hermes_sessions_updated_at is missing",
        "message 0 is not a JSON object",
    ]
    await store.aclose()
    run(url, tables.metadata.drop_all)


BAD_CURSORS = [
    "",
    "x",
    "é",
    "WzEsMl0=",
    "W3RydWUsICIiLCAiYSJd",
    "WzEuMCwgIiIsICJhIl0=",
    "WzEsIDIsICJhIl0=",
]


@pytest.mark.parametrize("cursor", BAD_CURSORS)
async def test_a_cursor_that_no_page_gave_is_refused(cursor: str, tmp_path: Path) -> None:
    """Anything else than a page's own cursor is a ValueError, before the database is asked."""
    store = AdminStore(f"sqlite:///{tmp_path}/new.db", access="create")
    with pytest.raises(ValueError, match="cursor"):
        await store.list_owned(cursor=cursor)
    with pytest.raises(ValueError, match="cursor"):
        pagination.decode_owned_cursor(pagination.encode_cursor(2**63, "", "a"))
    assert list(tmp_path.iterdir()) == []


async def test_looking_makes_and_changes_no_file(tmp_path: Path) -> None:
    """Reading a SQLite file leaves it, its journal and its folder as they are."""
    path = tmp_path / "odd name?.db"
    url = URL.create("sqlite", database=str(path))
    for access in ("read", "write"):
        with pytest.raises(StoreMisconfigured, match="there is no file"):
            AdminStore(url, access=access)
    with pytest.raises(ConfigurationError, match="memory"):
        AdminStore("sqlite://")
    assert list(tmp_path.iterdir()) == []
    store = SQLAlchemyStore(url)
    await store.append("rain", numbered(0))
    await store.aclose()
    for mode in ("wal", "delete"):
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA journal_mode = {mode}")
        before = path.read_bytes(), sorted(tmp_path.iterdir())
        look = AdminStore(url)
        assert names(await look.walk()) == [("", "rain")]
        assert list(await look.check_integrity(lambda _: None)) == []
        await look.aclose()
        assert (path.read_bytes(), sorted(tmp_path.iterdir())) == before
    write = AdminStore(url, access="write")
    assert await write.delete("rain")
    await write.aclose()


async def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    """What SQLite finds wrong with its file is a problem; what is no database, a StoreError."""
    path = tmp_path / "sessions.db"
    store = SQLAlchemyStore(f"sqlite:///{path}")
    await store.append("rain", [{"text": "x" * 50_000}])
    await store.append("snow", numbered(0))
    await store.aclose()
    with closing(sqlite3.connect(path)) as connection:
        (place,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'ix_hermes_messages_turn_id'"
        ).fetchone()
    pages = bytearray(path.read_bytes())
    pages[(place - 1) * 4096 : place * 4096] = bytes(4096)
    path.write_bytes(pages)
    look = AdminStore(f"sqlite:///{path}")
    problems = await look.check_integrity(lambda _: None)
    assert problems
    assert all(each.what.startswith("SQLite: ") for each in problems)
    await look.aclose()
    path.write_bytes(b"no database at all" * 1000)
    look = AdminStore(f"sqlite:///{path}")
    with pytest.raises(StoreCorrupt):
        await look.walk()
    (problem,) = await look.check_integrity(lambda _: None)
    assert "SQLITE_NOTADB" in problem.what
    await look.aclose()


async def test_keys_that_cannot_be_are_refused(tmp_path: Path) -> None:
    """Owners and ids are checked before the database is asked."""
    store = AdminStore(f"sqlite:///{tmp_path}/new.db", access="create")
    for wrong in (
        store.list_owned("\0"),
        store.find("a", "\0"),
        store.walk("\0"),
        store.totals("\0"),
        store.export_snapshot("", ""),
        store.count_stale(1, "\0"),
        store.prune_stale(1, "\0", print),
    ):
        with pytest.raises(InvalidKey):
            await wrong
    assert list(tmp_path.iterdir()) == []


async def test_a_connection_that_breaks_in_a_snapshot_is_not_used_again(postgres_url: URL) -> None:
    """Where the server ends the connection in the middle, another is taken for the next try."""
    store = AdminStore(postgres_url, access="create")
    seen: list[int] = []

    def work(database: Database) -> None:
        with snapshot(database):
            ((pid,),) = database.rows(text("SELECT pg_backend_pid()"), {})
            seen.append(pid)
            if len(seen) == 1:
                database.rows(text("SELECT pg_terminate_backend(pg_backend_pid())"), {})

    await store._read(work)
    assert len(set(seen)) == 2
    await store.aclose()
