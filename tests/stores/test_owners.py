"""An owner's rights: what a store has of somebody is handed out, and erased."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import Engine, create_engine, event, inspect, text

from hermes_session_mw import (
    ErasureReceipt,
    InvalidKey,
    MemoryStore,
    OwnerStore,
    SessionDeleted,
    SQLAlchemyStore,
    StoreError,
    StoreUnavailable,
    TurnLost,
)
from hermes_session_mw.database.retry import RetryingExecutor
from hermes_session_mw.stores.checkpoint_store import Checkpoint
from hermes_session_mw.stores.sqlalchemy.schema.checkpoint_tables import checkpoint_metadata
from hermes_session_mw.stores.sqlalchemy.schema.tables import metadata
from hermes_session_mw.stores.sqlalchemy.statements import erase_owner, leases
from hermes_session_mw.testing.helpers import UNKNOWN, new_id, numbered
from tests.stores.test_housekeeping import Make, every_store, make, tables
from tests.support.waits import store_waiting

__all__ = ["make", "tables"]  # fixtures

SECRET = "Alfama first, then Belem"


@pytest.fixture
def small_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets so small that several are needed."""
    monkeypatch.setattr("hermes_session_mw.stores.sqlalchemy.owners.PORTION", 4)


async def fill(store: Any, owner: str) -> tuple[int, str]:
    """Give the owner some of everything; return the fence of a turn, and its session."""
    for number in range(5):
        session_id = f"s{number}"
        await store.append(session_id, numbered(0, 3), owner, message_ids=["a", None, "b"])
        await store.bind_key(f"key-{number}", session_id, owner)
    await store.rewind("s0", 1, owner)
    await store.label("s0", owner, add_tags=["trip"])
    await store.bind_key("unused", "nowhere", owner)
    await store.delete("s4", owner)
    await store.checkpoints.put("s1", Checkpoint("c", "json", b"x", {}), owner)
    await store.begin_answer("s2", f"answer-{owner}", numbered(9), owner, lease=60)
    return await store.acquire("s3", 60, owner), "s3"


def left_of(tables: Engine, owner: str) -> dict[str, int]:
    """Return how many rows each table has of the owner."""
    found = {}
    with tables.connect() as connection:
        for table in (*metadata.sorted_tables, *checkpoint_metadata.sorted_tables):
            if "owner" in table.c and inspect(connection).has_table(table.name):
                rows = connection.execute(table.select().with_only_columns(table.c.owner))
                owners = [each.decode() if isinstance(each, bytes) else each for (each,) in rows]
                found[table.name] = owners.count(owner)
    return found


@every_store
@pytest.mark.usefixtures("small_sets")
async def test_all_of_an_owner_is_erased(
    make: Make, database: str, request: pytest.FixtureRequest
) -> None:
    """No row of the owner is left, also of what is in use; what another owner has stays."""
    store, owner, other = make(), new_id(), new_id()
    assert isinstance(store, OwnerStore)
    await fill(store, other)
    fence, held = await fill(store, owner)
    exported = [lines async for lines in store.export_owner(owner)]
    assert exported == [await store.export(f"s{number}", owner) for number in range(4)]
    assert await store.erase_owner(owner) == ErasureReceipt(
        sessions=4, messages=10, archived=2, keys=5, answers=1, message_ids=7, checkpoints=1, ids=1
    )
    assert [lines async for lines in store.export_owner(owner)] == []
    assert await store.erase_owner(owner) == ErasureReceipt()
    with pytest.raises(TurnLost):
        await store.append(held, numbered(1), owner, fence=fence)
    with pytest.raises(TurnLost):
        await store.write_events("s2", f"answer-{owner}", 1, ["1"], owner, fence=1, lease=60)
    assert await store.load(held, owner) == UNKNOWN
    assert (await store.load(held, other)).length == 3
    if database != "memory":
        left = left_of(request.getfixturevalue("tables"), owner)
        assert left == dict.fromkeys(left, 0)


@every_store
async def test_what_has_no_owner_is_erased_on_demand(make: Make) -> None:
    """The owner "" is refused, unless that is asked for."""
    store = make()
    session_id = new_id()
    await store.append(session_id, numbered(0))
    with pytest.raises(InvalidKey, match="ownerless"):
        await store.erase_owner("")
    assert (await store.load(session_id)).length == 1
    if isinstance(store, MemoryStore):
        assert (await store.erase_owner("", ownerless=True)).sessions == 1
        assert await store.load(session_id) == UNKNOWN


@pytest.mark.parametrize("database", ["sqlite", "postgresql+psycopg", "mysql+pymysql"])
async def test_who_appends_meanwhile_begins_anew(make: Make) -> None:
    """Beside appends by another store, each history is of after the erasure, and whole."""
    store, writer, owner = make(), make(), new_id()
    ids = [f"s{number}" for number in range(8)]
    for session_id in ids:
        await store.append(session_id, [{"role": "user", "content": SECRET}], owner)

    async def write() -> None:
        for number in range(5):
            for session_id in ids:
                await writer.append(session_id, numbered(number), owner)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        await store.erase_owner(owner)
    for session_id in ids:
        assert SECRET not in str((await store.load(session_id, owner)).messages)
    await store.erase_owner(owner)
    assert (await store.list(owner)).sessions == []


@pytest.mark.parametrize("database", ["sqlite"])
async def test_a_lease_acquired_meanwhile_protects_nothing(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row whose fence grew since it was found goes in another round."""
    store, owner = make(), new_id()
    await store.append("s", numbered(0), owner)
    found = leases.raise_floor
    fences: list[int] = []

    def raise_floor(database: Any, fence: int) -> None:
        found(database, fence)
        if not fences:
            database.run(text("UPDATE hermes_sessions SET fence = fence + 5"), {})
        fences.append(fence)

    name = "hermes_session_mw.stores.sqlalchemy.statements.erase_owner.raise_floor"
    monkeypatch.setattr(name, raise_floor)
    assert (await store.erase_owner(owner)).sessions == 1
    assert fences == [0, 5]


def files_with(text: str, folder: Path) -> list[str]:
    """Return the names of the files that have the text, as it is or in a dump of the database."""
    found = [each.name for each in folder.iterdir() if text.encode() in each.read_bytes()]
    with closing(sqlite3.connect(f"file:{folder}/s.db?mode=ro", uri=True)) as connection:
        found += ["dump" for line in connection.iterdump() if text in line]
    return found


def said(number: int, count: int = 1) -> list[dict[str, str]]:
    """Return messages of all sizes, some of which take pages of their own."""
    return [
        {"role": "user", "content": f"{SECRET} {n}. " * (1 + n * 7 % 300)}
        for n in range(number, number + count)
    ]


async def leave_traces(store: SQLAlchemyStore) -> None:
    """Store texts of two owners beside each other; rewrite, move and remove some of ada's."""
    for number in range(120):
        owner = "ada" if number % 3 else "bob"
        turn = said(number, 4) if owner == "ada" else [{"content": "Porto " * (number % 40)}] * 3
        await store.append(f"s{number % 17}", turn, owner)
        if owner == "ada" and number % 4 == 0:
            await store.rewind(f"s{number % 17}", 2, owner)
    for number in range(10):
        await store.delete(f"s{number}", "ada")
    await store.rotate("s10", "moved", "ada")
    history = await store.load("s11", "ada")
    await store.compact("s11", history.messages, [{"summary": SECRET}], "ada")
    for text_ in (SECRET * 40, f"{SECRET}."):
        await store.set_metadata("s12", {"of": text_}, "ada")
    await store.append("s13", said(0), "ada", message_ids=[SECRET])
    await store.rename("s13", SECRET, "ada")
    await store.bind_key(SECRET, "s13", "ada")
    await store.checkpoints.put("s14", Checkpoint("c", "json", SECRET.encode() * 90, {}), "ada")
    await store.begin_answer("s15", "answer", said(1), "ada", lease=60)
    for number in range(1, 90):
        event = json.dumps({"text": SECRET * 3, "number": number})
        await store.write_events("s15", "answer", number, [event], "ada", fence=1, lease=60)
    await store.append("s16", said(0, 60), "ada")
    await store.delete("s16", "ada")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("journal_mode", ["WAL", "DELETE", "TRUNCATE"])
async def test_sqlites_files_have_nothing_of_the_text(tmp_path: Path, journal_mode: str) -> None:
    """After an erasure no file has a byte of it, nor has a dump, while the store is open.

    It is the VACUUM that takes what was rewritten, moved or removed before.
    """
    engine = create_engine(f"sqlite:///{tmp_path}/s.db")

    def connected(connection: Any, _record: object) -> None:
        connection.execute(f"PRAGMA journal_mode = {journal_mode}")
        connection.execute("PRAGMA secure_delete = 0")  # some systems have it on by default

    event.listen(engine, "connect", connected)
    store = SQLAlchemyStore(engine)
    await leave_traces(store)
    assert "s.db" in files_with(SECRET, tmp_path)
    assert "dump" in files_with(SECRET, tmp_path)
    theirs = [await store.load(f"s{number}", "bob") for number in range(17)]
    receipt = await store.erase_owner("ada", vacuum=False)
    assert receipt.sessions == 6
    assert files_with(SECRET, tmp_path) == ["s.db"]
    assert await store.erase_owner("ada") == ErasureReceipt()
    assert files_with(SECRET, tmp_path) == []
    if journal_mode == "WAL":
        assert (tmp_path / "s.db-wal").stat().st_size == 0
    assert [await store.load(f"s{number}", "bob") for number in range(17)] == theirs
    await store.aclose()
    engine.dispose()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_index_of_words_has_none_of_them(tmp_path: Path) -> None:
    """After an erasure neither the search's index nor a dump of it has a word of the owner's."""
    store = SQLAlchemyStore(f"sqlite:///{tmp_path}/s.db", search=True)
    for number in range(60):
        owner, word = ("ada", "zyxwvuts") if number % 2 else ("bob", "abcdefg")
        said = [{"role": "user", "content": f"{word}{number} {word}"}]
        await store.append(f"s{number}", said, owner)
    await store.build_search_index()
    assert files_with("zyxwvuts", tmp_path) != []
    await store.erase_owner("ada")
    assert files_with("zyxwvuts", tmp_path) == []
    assert files_with("uts21", tmp_path) == []  # as terms leave out what the one before begins with
    assert files_with(b"uts21".hex(), tmp_path) == []
    assert len((await store.search("bob", "abcdefg")).hits) == 30
    await store.aclose()


async def test_a_file_that_is_being_read_keeps_its_wal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where somebody reads what was there before, that is an error; it can be repeated."""
    store = store_waiting(monkeypatch, 0.1, f"sqlite:///{tmp_path}/s.db")
    await store.append("s", said(0), "ada")
    with closing(sqlite3.connect(tmp_path / "s.db")) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM hermes_sessions").fetchall() == [(1,)]
        with pytest.raises(StoreUnavailable, match="another connection reads"):
            await store.erase_owner("ada")
    await store.erase_owner("ada")
    assert files_with(SECRET, tmp_path) == []
    await store.aclose()


@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.parametrize("database", ["sqlite", "postgresql+psycopg", "mysql+pymysql"])
async def test_a_large_session_goes_in_slices(
    make: Make, tables: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No transaction removes more than 1,000 messages, archived ones or ids; all are counted."""
    store, owner = make(), new_id()
    for number in range(5):
        ids = [f"{number}-{n}" for n in range(500)]
        await store.append("large", numbered(number * 500, 500), owner, message_ids=ids)
    await store.rewind("large", 1001, owner)
    await store.append("small", numbered(0, 2), owner)
    sizes: list[int] = []
    remove = RetryingExecutor.write

    async def write(self: Any, work: Any, *args: Any, **kwargs: Any) -> Any:
        before = rows_of(tables, owner)
        result = await remove(self, work, *args, **kwargs)
        sizes.append(before - rows_of(tables, owner))
        return result

    monkeypatch.setattr(RetryingExecutor, "write", write)
    receipt = await store.erase_owner(owner)
    assert receipt == ErasureReceipt(sessions=2, messages=1003, archived=1499, message_ids=1001)
    # Messages, the archive, ids, and their session's row; the other session; no key, WAL or file.
    assert [size for size in sizes if size] == [1000, 1, 1000, 499, 1000, 1, 1, 3]
    assert await store.load("large", owner) == UNKNOWN


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("database", ["sqlite"])
async def test_more_sessions_than_one_query_finds(make: Make, tables: Engine) -> None:
    """They are handed out and erased, page after page."""
    store, owner = make(), new_id()
    await store.append("000", numbered(0), owner)
    with tables.begin() as connection:
        for number in range(1, 1001):
            for name, columns in (
                ("sessions (owner, id, next_seq, turns)", "?, ?, 1, 1"),
                ("messages (owner, session_id, seq, turn_id, body)", "?, ?, 0, 't', '{}'"),
            ):
                statement = f"INSERT INTO hermes_{name} VALUES ({columns})"
                connection.exec_driver_sql(statement, (owner, f"{number:04}"))
    assert len([lines async for lines in store.export_owner(owner)]) == 1001
    assert await store.erase_owner(owner) == ErasureReceipt(sessions=1001, messages=1001)


def rows_of(tables: Engine, owner: str) -> int:
    """Return how many rows of all tables the owner has."""
    return sum(left_of(tables, owner).values())


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("database", ["sqlite"])
async def test_nothing_is_added_to_a_session_that_goes_in_slices(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its id is a deleted session's until it is gone; killed meanwhile, a repetition ends it."""
    store, owner = make(), new_id()
    for _ in range(2):
        await store.append("s", numbered(0, 750), owner)
    breaks = True
    found = erase_owner.empty

    def empty(database: Any, session: Any, kind: str, after: Any) -> Any:
        if after is not None and breaks:
            raise RuntimeError  # as if it were killed
        return found(database, session, kind, after)

    monkeypatch.setattr(erase_owner, "empty", empty)
    with pytest.raises(StoreError):
        await store.erase_owner(owner)
    with pytest.raises(SessionDeleted):
        await store.append("s", numbered(1), owner)
    breaks = False
    assert await store.erase_owner(owner) == ErasureReceipt(messages=500, ids=1)
    assert await store.append("s", numbered(2), owner) == 1


@pytest.mark.parametrize("database", ["sqlite", "postgresql+asyncpg", "mysql+pymysql"])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_is_moved_meanwhile_is_found(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that is moved or copied to an id that was passed already is erased as well."""
    store, writer, owner = make(), make(), new_id()
    assert isinstance(store, SQLAlchemyStore)
    for name in ("b", "moved", "copied", "large"):
        await writer.append(name, [{"content": SECRET}], owner)
    found = store._retrying.read  # where others come between
    reads: list[str] = []

    async def read(work: Any, *args: Any) -> Any:
        result = await found(work, *args)
        if work is erase_owner.find:
            reads.append(args[1])
            if reads == [""]:
                await writer.rotate("moved", "a", owner)
                await writer.fork("copied", "aa", owner)
            # It may be erased, and comes again.
            await writer.append("new", [{"content": "later"}], owner)
        return result

    monkeypatch.setattr(store._retrying, "read", read)
    await store.erase_owner(owner)
    monkeypatch.undo()
    assert SECRET not in "".join([lines async for lines in store.export_owner(owner)])
    assert [each.id for each in (await store.list(owner)).sessions] == ["new"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("database", ["sqlite"])
async def test_who_copies_all_the_time_is_told(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """An erasure that finds copies again and again ends with an error."""
    store, owner = make(), new_id()
    assert isinstance(store, SQLAlchemyStore)
    await store.append("s", numbered(0), owner)
    found = store._retrying.read

    async def read(work: Any, *args: Any) -> Any:
        if work is erase_owner.find and args[1] == "":
            await store.append("s", numbered(0), owner)
            await store.fork("s", new_id(), owner)
        return await found(work, *args)

    monkeypatch.setattr(store._retrying, "read", read)
    with pytest.raises(StoreUnavailable, match="move or copy"):
        await store.erase_owner(owner)
