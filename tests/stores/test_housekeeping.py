"""Limits, deleting and pruning: every store that the package brings keeps to the same."""

import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import anyio
import pytest
from sqlalchemy import Engine, create_engine, text

from hermes_session_mw import (
    ConfigurationError,
    HermesSessionMiddleware,
    History,
    InvalidMessage,
    MemoryStore,
    MessageTooLarge,
    SessionDeleted,
    SessionFull,
    SQLAlchemyStore,
    TurnTooLong,
)
from hermes_session_mw.database.connection import database_of
from hermes_session_mw.stores.sqlalchemy.statements import delete_prune
from hermes_session_mw.stores.sqlalchemy.statements.session_sets import SIZES
from hermes_session_mw.testing.helpers import UNKNOWN, new_id, numbered
from tests.contract.test_store_contract import url_of
from tests.support.asgi import Recorder, request, stamp
from tests.support.own_databases import key_of

AnyStore = SQLAlchemyStore | MemoryStore
Make = Callable[..., AnyStore]

CASES = [
    *[(name, loop) for name in ("memory", "sqlite") for loop in ("asyncio", "trio")],
    ("sqlite+aiosqlite", "asyncio"),
    ("postgresql+psycopg", "trio"),
    ("postgresql+asyncpg", "asyncio"),
    ("mysql+pymysql", "trio"),
    ("mysql+asyncmy", "asyncio"),
]
SERVERS = CASES[5:]
CONTENTS = {
    "hermes_sessions": "id",
    "hermes_messages": "session_id",
    "hermes_message_ids": "session_id",
    "hermes_archive": "session_id",
    "hermes_keys": "session_id",
    "hermes_answers": "session_id",
}
every_store = pytest.mark.parametrize(("database", "anyio_backend"), CASES)
DELETED = History([], 0, exists=False, deleted=True)
ALL = timedelta(0)
A_DAY = timedelta(days=1)
A_WEEK_AGO = {
    "sqlite": "datetime('now', '-7 days')",
    "postgresql": "now() - interval '7 days'",
    "mysql": "now() - interval 7 day",
}


@pytest.fixture
async def make(database: str, tmp_path: Any, request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """Make stores over one database, with options."""
    stores: list[AnyStore] = []

    def make_store(**options: Any) -> AnyStore:
        if database == "memory":
            return MemoryStore(**options)
        stores.append(SQLAlchemyStore(url_of(database, tmp_path, request), timeout=60, **options))
        return stores[-1]

    yield make_store
    for store in stores:
        await store.aclose()


@pytest.fixture
def tables(database: str, tmp_path: Any, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """The database, beside the store."""
    plain = database.replace("asyncpg", "psycopg").replace("asyncmy", "pymysql")
    with ExitStack() as stack:
        url = url_of(database, tmp_path, request)  # which for SQLite names the file
        engine = create_engine(url.set(drivername=plain.replace("+aiosqlite", "")))
        stack.callback(engine.dispose)
        yield engine


def age(store: AnyStore, tables: Engine, *session_ids: str) -> None:
    """Make it so that the sessions were last used a week ago, by the database's clock."""
    ago = A_WEEK_AGO[tables.dialect.name]
    with tables.begin() as connection:
        for session_id in session_ids:
            connection.execute(
                text(f"UPDATE hermes_sessions SET updated_at = {ago} WHERE id = :id"),
                {"id": key_of(connection.dialect.name, session_id)},
            )


def rows(tables: Engine, table: str, column: str, session_id: str) -> int:
    with tables.connect() as connection:
        statement = text(f"SELECT count(*) FROM {table} WHERE {column} = :id")
        count: int = connection.execute(
            statement, {"id": key_of(connection.dialect.name, session_id)}
        ).scalar_one()
        return count


@every_store
async def test_a_message_may_be_only_so_large(make: Make) -> None:
    """A message beyond max_message_bytes is an error of its own, and nothing is stored."""
    store, session_id = make(max_message_bytes=20), new_id()
    with pytest.raises(MessageTooLarge, match="21 bytes"):
        await store.append(session_id, [*numbered(0), {"content": "1234567"}])
    assert await store.load(session_id) == UNKNOWN
    assert await store.append(session_id, [{"content": "123456"}]) == 1


@every_store
async def test_a_photo_comes_back(make: Make) -> None:
    """A message of 7 MB, as a photo of 5 MB is in base64, is stored where it may be that large."""
    store, session_id = make(max_message_bytes=8_000_000), new_id()
    url = "data:image/jpeg;base64," + "/9j+" * 1_750_000
    photo = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}
    assert await store.append(session_id, [photo]) == 1
    assert (await store.load(session_id)).messages == [photo]


@every_store
async def test_a_turn_may_have_only_so_many_messages(make: Make) -> None:
    """A turn beyond max_turn_messages, a thousand by default, is an error, and is not stored."""
    store, session_id = make(max_turn_messages=3), new_id()
    with pytest.raises(TurnTooLong, match="4 messages, and may have 3"):
        await store.append(session_id, numbered(0, 4))
    assert await store.load(session_id) == UNKNOWN
    assert await store.append(session_id, numbered(0, 3)) == 3
    with pytest.raises(TurnTooLong, match="1001"):
        await make().append(session_id, numbered(0, 1001))


@every_store
async def test_an_import_may_have_only_so_many_turns(make: Make) -> None:
    """A session of more turns than one may have is not brought in."""
    store: Any = make(max_turns=2)
    other, session_id = MemoryStore(), new_id()
    for number in range(3):
        await other.append(session_id, numbered(number))
    with pytest.raises(SessionFull):
        await store.import_(await other.export(session_id))
    assert await store.load(session_id) == UNKNOWN


@every_store
async def test_a_session_may_have_only_so_many_turns(make: Make) -> None:
    """A turn beyond max_turns is an error, and leaves no gap; a repeated one is none."""
    store, session_id = make(max_turns=2), new_id()
    await store.append(session_id, numbered(0, 5), turn_id="t")
    assert await store.append(session_id, numbered(5)) == 6
    for _ in range(2):
        with pytest.raises(SessionFull, match="2 turns"):
            await store.append(session_id, numbered(6))
    assert await store.append(session_id, numbered(0, 5), turn_id="t") == 5
    if isinstance(store, SQLAlchemyStore):
        assert await make(max_turns=3).append(session_id, numbered(6)) == 7


@every_store
async def test_a_full_session_can_be_replaced_by_one_that_is_no_longer(make: Make) -> None:
    """A turn of a full session can be edited, and makes the conversation no longer."""
    store: Any = make(max_turns=2)
    session_id = new_id()
    for number in range(2):
        await store.append(session_id, numbered(number * 2, 2))
    for _ in range(2):
        assert await store.append(session_id, numbered(7, 2), replace_from=2) == 4
        for keep, more in ((2, 3), (4, 1)):
            with pytest.raises(SessionFull):
                await store.append(session_id, numbered(9, more), replace_from=keep)
    assert (await store.load(session_id)).messages == [*numbered(0, 2), *numbered(7, 2)]
    assert await store.append(session_id, numbered(7), replace_from=0) == 1
    with pytest.raises(SessionFull):
        await store.append(session_id, numbered(9))


@every_store
async def test_a_deleted_session_is_unknown_and_stays_so(make: Make) -> None:
    """A deleted session loads as empty, and no append brings it back, be it a repeated one."""
    store, session_id = make(), new_id()
    assert not await store.delete(session_id)
    assert await store.load(session_id) == UNKNOWN
    await store.append(session_id, numbered(0, 3), turn_id="t")
    await store.append(session_id, numbered(0), owner="ada")
    assert await store.delete(session_id)
    assert not await store.delete(session_id)
    for limit in (None, 0, 5):
        assert await store.load(session_id, limit=limit) == DELETED
    for turn_id in (None, "t", "u"):
        with pytest.raises(SessionDeleted):
            await store.append(session_id, numbered(0, 3), turn_id=turn_id)
    with pytest.raises(SessionDeleted):
        await store.append(session_id, numbered(0), expected_length=0)
    assert await store.load(session_id) == DELETED
    assert (await store.load(session_id, owner="ada")).messages == numbered(0)


@every_store
async def test_another_owner_deletes_nothing(make: Make) -> None:
    """Deleting another owner's session is deleting an unknown one."""
    store, session_id = make(), new_id()
    await store.append(session_id, numbered(0), owner="ada")
    for other in ("", "ADA", "eve"):
        assert not await store.delete(session_id, owner=other)
        assert await store.load(session_id, owner=other) == UNKNOWN
    assert (await store.load(session_id, owner="ada")).messages == numbered(0)


@every_store
async def test_appends_that_race_with_a_delete_leave_nothing(make: Make) -> None:
    """Whatever order appends and a delete come in, nothing is there in the end."""
    store, session_id = make(), new_id()
    await store.append(session_id, numbered(0))

    async def write() -> None:
        for _ in range(20):
            try:
                await store.append(session_id, numbered(1, 2))
            except SessionDeleted:
                return

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(write)
        await store.delete(session_id)
    assert await store.load(session_id) == DELETED


@pytest.mark.parametrize(("database", "anyio_backend"), CASES[2:])
async def test_pruning_removes_what_nobody_used(
    make: Make, tables: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions go by their last activity, whole, and deleted ones with them; the others stay."""
    monkeypatch.setattr(delete_prune, "PORTION", 7)
    store = make()
    old, young, gone = [new_id() for _ in range(6)], new_id(), new_id()
    for session_id in [*old, young, gone]:
        await store.append(session_id, numbered(0, 3))
    await store.delete(gone)
    age(store, tables, *old, gone, young)
    await store.append(young, numbered(3))
    assert await store.prune(A_DAY) == 7
    assert await store.prune(A_DAY) == 0
    for session_id in [*old, gone]:
        assert rows(tables, "hermes_messages", "session_id", session_id) == 0
        assert rows(tables, "hermes_sessions", "id", session_id) == 0
        assert await store.load(session_id) == UNKNOWN
    assert (await store.load(young)).length == 4
    assert await store.append(old[0], numbered(0)) == 1


@pytest.mark.parametrize(("database", "anyio_backend"), CASES[2:])
async def test_pruning_goes_through_all_batches(
    make: Make, database: str, tables: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More sessions than are looked for at once are all found, of whatever owner."""
    kind = tables.dialect.name
    find = delete_prune._FIND[kind, True]
    monkeypatch.setitem(find, False, find[False].limit(3))
    monkeypatch.setattr(delete_prune, "BATCH", 3)
    store = make()
    ids = [new_id() for _ in range(10)]
    for number, session_id in enumerate(ids):
        await store.append(session_id, numbered(0), owner=f"o{number % 3}")
    age(store, tables, *ids[:9])
    assert await store.prune(A_DAY) == 9
    assert (await store.load(ids[9], owner="o0")).length == 1


@pytest.mark.parametrize("database", ["sqlite"])
async def test_what_is_used_meanwhile_is_not_pruned(make: Make, tables: Engine) -> None:
    """A session that was found expired, and was appended to since, stays."""
    store: Any = make()
    await store.append("id", numbered(0))
    age(store, tables, "id")
    await store.append("id", numbered(1))
    expired = [delete_prune.StaleSession("", "id", 1), delete_prune.StaleSession("", "no such", 1)]
    with tables.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        database = database_of(connection)
        cutoff = delete_prune.cutoff_of(database, A_DAY)
        assert delete_prune.remove_stale(database, cutoff, expired) == []
    assert (await store.load("id")).length == 2


@pytest.mark.parametrize(("database", "anyio_backend"), SERVERS)
async def test_a_prune_waits_for_nobody(make: Make, tables: Engine) -> None:
    """A session whose row is locked stays, and what others write elsewhere locks out no prune."""
    store: Any = make()
    held, old, young = (new_id() for _ in range(3))
    for session_id in (held, old, young):
        await store.append(session_id, numbered(0, 2))
    age(store, tables, held, old)
    with tables.connect() as writing:
        for statement, session_id in (
            ("SELECT id FROM hermes_sessions WHERE owner = :owner AND id = :id FOR UPDATE", held),
            ("DELETE FROM hermes_messages WHERE owner = :owner AND session_id = :id", young),
        ):
            backend = writing.dialect.name
            keys = {"owner": key_of(backend, ""), "id": key_of(backend, session_id)}
            writing.execute(text(statement), keys)
        with anyio.fail_after(60):
            assert await store.prune(A_DAY) == 1
        writing.rollback()
    assert await store.load(old) == UNKNOWN
    assert [(await store.load(each)).length for each in (held, young)] == [2, 2]
    assert await store.prune(A_DAY) == 1
    assert await store.load(held) == UNKNOWN


@pytest.mark.parametrize(("database", "anyio_backend"), CASES[2:])
async def test_more_sessions_are_pruned_than_a_statement_takes(make: Make, tables: Engine) -> None:
    """Sessions of several owners and of the same id, with all that they have, are removed."""
    store: Any = make()
    ids = [new_id() for _ in range(2 * SIZES[-1] + 1)]
    owners = ["", new_id()]
    async with anyio.create_task_group() as tasks:
        for session_id in ids:
            tasks.start_soon(store.append, session_id, numbered(0))
    await store.append(ids[0], numbered(0, 3), owners[1], message_ids=["a", None, "c"])
    await store.rewind(ids[0], 1, owners[1])
    await store.move_key("name", ids[0], owners[1])
    fence = await store.begin_answer(ids[1], "an answer", numbered(1), lease=60)
    end: dict[str, Any] = {"fence": fence, "state": "completed"}
    await store.end_answer(ids[1], "an answer", 1, ['"a"', '"b"'], numbered(1, 2), **end)
    age(store, tables, *ids)
    assert await store.prune(A_DAY) == len(ids) + 1
    for table, column in CONTENTS.items():
        for session_id in ids[:2]:
            assert rows(tables, table, column, session_id) == 0, table
    assert await store.find_key("name", owners[1]) is None


@pytest.mark.parametrize(("database", "anyio_backend"), CASES[2:])
async def test_a_session_in_a_turn_is_not_pruned(make: Make, tables: Engine) -> None:
    """Nobody has written to it for long, but somebody is about to, under a number of its own."""
    store: Any = make()
    session_id = new_id()
    await store.append(session_id, numbered(0))
    age(store, tables, session_id)
    fence = await store.acquire(session_id, 60)
    assert await store.prune(A_DAY) == 0
    assert await store.append(session_id, numbered(1), fence=fence) == 2
    age(store, tables, session_id)
    await store.release(session_id, fence)
    assert await store.prune(A_DAY) == 1


@pytest.mark.parametrize(("database", "anyio_backend"), CASES[2:])
async def test_old_keys_that_lead_to_nothing_are_pruned(make: Make, tables: Engine) -> None:
    """A key is kept as long as something is stored where it leads, or somebody may be about to."""
    store: Any = make()
    stored, old, young = (new_id() for _ in range(3))
    await store.append(stored, numbered(0))
    for name in (stored, old):
        await store.bind_key(name, name)
    ago = A_WEEK_AGO[tables.dialect.name]
    with tables.begin() as connection:
        connection.execute(text(f"UPDATE hermes_keys SET updated_at = {ago}"))
    await store.bind_key(young, young)
    await store.prune(A_DAY)
    found = [await store.find_key(name) for name in (stored, old, young)]
    assert found == [stored, None, young]


async def test_memory_drops_old_keys_that_lead_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As every other store does."""
    store = MemoryStore()
    await store.append("stored", numbered(0))
    for name in ("stored", "old"):
        await store.bind_key(name, name)
    now = store._bound_at["", "old"] + 100
    monkeypatch.setattr("time.time", lambda: now)
    await store.append("stored", numbered(1))
    await store.bind_key("young", "young")
    assert await store.prune(timedelta(seconds=50)) == 0
    found = [await store.find_key(name) for name in ("stored", "old", "young")]
    assert found == ["stored", None, "young"]


async def test_memory_is_pruned_by_the_process_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store without a database forgets by its last activity too."""
    store = MemoryStore()
    await store.append("old", numbered(0))
    await store.append("gone", numbered(0))
    await store.delete("gone")
    now = store._sessions["", "old"].updated_at + 100
    monkeypatch.setattr("time.time", lambda: now)
    await store.append("young", numbered(0))
    assert await store.prune(timedelta(seconds=50)) == 2
    assert (await store.load("young")).exists
    assert await store.load("gone") == UNKNOWN


async def test_memory_keeps_a_session_in_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """As every other store does."""
    store = MemoryStore()
    await store.append("id", numbered(0))
    now = store._sessions["", "id"].updated_at + 100
    monkeypatch.setattr("time.time", lambda: now)
    fence = await store.acquire("id", 60)
    assert await store.prune(timedelta(seconds=50)) == 0
    await store.release("id", fence)
    assert await store.prune(timedelta(seconds=50)) == 1


@every_store
async def test_an_age_is_any_but_negative(make: Make) -> None:
    """A negative age would make everything old, and is refused; the greatest makes nothing old."""
    store, session_id = make(), new_id()
    with pytest.raises(ValueError, match="negative"):
        await store.prune(timedelta(seconds=-1))
    await store.append(session_id, numbered(0))
    assert await store.prune(timedelta.max) == 0
    assert (await store.load(session_id)).exists


@pytest.mark.parametrize("option", ["max_message_bytes", "max_turn_messages", "max_turns"])
def test_limits_are_positive(option: str) -> None:
    """A limit that nothing could meet is refused at once."""
    with pytest.raises(ConfigurationError, match="not a finite number above 0"):
        SQLAlchemyStore(**{option: 0})  # type: ignore[arg-type]  # one of three ints


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
def test_a_time_out_is_a_number_of_seconds(timeout: float) -> None:
    """A time-out that no timer has is refused at once, and not by the first request."""
    with pytest.raises(ConfigurationError, match=r"timeout: .+ not a finite number above 0"):
        SQLAlchemyStore(timeout=timeout)


def test_limit_errors_are_of_their_kinds() -> None:
    """What catches an invalid message catches one that is too large, or one too many."""
    assert issubclass(MessageTooLarge, InvalidMessage)
    assert issubclass(TurnTooLong, InvalidMessage)
    assert pickle.loads(pickle.dumps(SessionFull(3))).most == 3


@pytest.mark.parametrize("unknown_ids", ["adopt", "mint", "reject"])
async def test_a_deleted_id_is_not_adopted(unknown_ids: Any) -> None:
    """A client that sends a deleted id gets a new one, or a 404 where unknown ids are refused."""
    store = MemoryStore()
    await store.append("gone", numbered(0))
    await store.delete("gone")
    app = Recorder(lambda session: session.append({"role": "user"}))
    wrapped = HermesSessionMiddleware(app, store, unknown_ids=unknown_ids)
    log = await request(wrapped, "gone")
    assert stamp(log) != "gone"
    if unknown_ids == "reject":
        assert log[0]["status"] == 404
    else:
        assert (log[0]["status"], app.session.is_new) == (200, True)
        assert (await store.load(stamp(log))).length == 1


async def test_a_delete_during_a_request_is_told_to_its_append() -> None:
    """A session that was there when the request began, and is not now, cannot be appended to."""
    store = MemoryStore()
    await store.append("id", numbered(0))

    async def deleted_meanwhile(session: Any) -> None:
        assert not session.is_deleted
        await store.delete("id")
        with pytest.raises(SessionDeleted):
            await session.append({"role": "user"})
        await session.load()
        assert session.is_deleted
        assert session.history == []

    app = Recorder(deleted_meanwhile)
    await request(HermesSessionMiddleware(app, store), "id")
    assert await store.load("id") == DELETED
