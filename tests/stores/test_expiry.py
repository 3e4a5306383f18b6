"""Sessions expire by their own setting, their owner's or the store's, and nothing in use does."""

from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text

from hermes_session_mw import (
    NEVER,
    ConfigurationError,
    ExpiryStore,
    HermesSession,
    InvalidMessage,
    MemoryStore,
    NotSupported,
    SessionBusy,
    SessionDeleted,
    SQLAlchemyStore,
)
from hermes_session_mw.stores.checkpoint_store import Checkpoint
from hermes_session_mw.stores.expiry import is_longer, setting_from_json
from hermes_session_mw.testing.helpers import UNKNOWN, numbered
from tests.support.own_databases import key_of, own_database

CASES = [
    ("memory", "asyncio"),
    ("sqlite", "trio"),
    ("sqlite+aiosqlite", "asyncio"),
    ("postgresql+psycopg", "trio"),
    ("postgresql+asyncpg", "asyncio"),
    ("mysql+pymysql", "asyncio"),
    ("mysql+asyncmy", "asyncio"),
]
FEW = [CASES[0], CASES[1], CASES[3], CASES[5]]
every_store = pytest.mark.parametrize(("database", "anyio_backend"), CASES)
a_store = pytest.mark.parametrize(("database", "anyio_backend"), FEW)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
A_WEEK_AGO = {
    "sqlite": "datetime('now', '-7 days')",
    "postgresql": "now() - interval '7 days'",
    "mysql": "now() - interval 7 day",
}
AnyStore = Any


class Kept:
    """A store of a test's own, with what sets its times back."""

    def __init__(self, store: AnyStore, engine: Engine | None) -> None:
        self.store, self.engine = store, engine

    def age(self, *session_ids: str) -> None:
        """Make it so that all sessions, or some, were changed a week ago, by the store's clock."""
        if self.engine is None:
            records = self.store._sessions
            for (owner, id_), each in [*records.items()]:
                if not session_ids or id_ in session_ids:
                    then = each.updated_at - 7 * 86_400
                    records[owner, id_] = replace(each, updated_at=then)
            return
        backend = self.engine.dialect.name
        with self.engine.begin() as connection:
            for name in session_ids or (None,):
                where = "" if name is None else " WHERE id = :id"
                given = {} if name is None else {"id": key_of(backend, name)}
                ago = A_WEEK_AGO[backend]
                connection.execute(
                    text(f"UPDATE hermes_sessions SET updated_at = {ago}{where}"), given
                )
            # As it is after the time that a setting has.
            connection.execute(
                text("UPDATE hermes_session_expiry SET due_at = 1 WHERE due_at IS NOT NULL")
            )

    def count(self, table: str) -> int:
        """Return how many rows the table has; of the memory, how many sessions."""
        if self.engine is None:
            return len(self.store._sessions)
        with self.engine.connect() as connection:
            found: int = connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
            return found


@pytest.fixture
async def kept(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Kept]:
    """Make a store, whose sessions expire after 30 days."""
    if database == "memory":
        yield Kept(MemoryStore(expires_after=30 * DAY), None)
        return
    with ExitStack() as stack:
        url = stack.enter_context(own_database(request, database, tmp_path))
        plain = database.replace("asyncpg", "psycopg").replace("asyncmy", "pymysql")
        engine = create_engine(url.set(drivername=plain.replace("+aiosqlite", "")))
        stack.callback(engine.dispose)
        store = SQLAlchemyStore(url, expires_after=30 * DAY, timeout=60)
        yield Kept(store, engine)
        await store.aclose()


def sweeping(kept: Kept, expires_after: Any = 30 * DAY) -> Any:
    """Return the store's expiry as another process has it, with a setting of its own."""
    if kept.engine is None:
        return replace(kept.store.expiry, expires_after=expires_after)
    other = SQLAlchemyStore(kept.engine, expires_after=expires_after, timeout=60)
    return other.expiry


async def listed(store: AnyStore, owner: str) -> str:
    return "".join(sorted(each.id for each in (await store.list(owner)).sessions))


@every_store
async def test_the_most_specific_setting_counts(kept: Kept) -> None:
    """A session's own setting, longer or shorter, goes before its owner's, and that before all."""
    store, expiry = kept.store, kept.store.expiry
    assert isinstance(expiry, ExpiryStore)
    for owner in ("", "ada", "bob", "eve"):
        for name in "abc":
            await store.append(name, numbered(0, 2), owner)
    await expiry.set("a", DAY, "ada")
    await expiry.set("b", NEVER, "ada")
    await expiry.set_owner("bob", DAY)
    await expiry.set("a", 20 * DAY, "bob")
    await expiry.set_owner("eve", NEVER)
    await expiry.set("c", DAY, "eve")
    found = await expiry.find("a", "bob")
    assert (found.own, found.inherited, found.expires_after) == (20 * DAY, DAY, 20 * DAY)
    assert (await expiry.find("b", "bob")).expires_after == DAY
    assert (await expiry.find("b", "ada")).expires_at is None
    assert (await expiry.find("no such", "eve")).expires_after is NEVER
    assert (await expiry.find_owner("bob"), await expiry.find_owner("ada")) == (DAY, None)

    assert (await expiry.sweep(0)).sessions == 0  # nothing is that old
    kept.age()
    sweep = await expiry.sweep(0)
    assert (sweep.sessions, sweep.messages, sweep.ids, sweep.swept) == (4, 8, 0, True)
    assert [await listed(store, owner) for owner in ("", "ada", "bob", "eve")] == [
        "abc", "bc", "a", "ab",
    ]  # fmt: skip
    # Where the store's own setting is shorter, those without another one go, too.
    assert (await sweeping(kept, DAY).sweep(0)).sessions == 4
    assert [await listed(store, owner) for owner in ("", "ada", "bob", "eve")] == [
        "", "b", "a", "ab",
    ]  # fmt: skip
    # A prune of what is older counts as the store's setting for once.
    assert await store.prune(timedelta(0)) == 0
    await expiry.set_owner("eve", None)
    await expiry.set("a", None, "bob")
    assert await store.prune(timedelta(0)) == 3
    assert await listed(store, "ada") == "b"
    assert kept.count("hermes_session_expiry") == 1


@a_store
async def test_a_sweep_removes_all_that_a_session_has(kept: Kept) -> None:
    """Archive, keys, answers, ids and checkpoints go with it, and a deleted session's id."""
    store: Any = kept.store
    await store.append(
        "s", numbered(0, 3), message_ids=["a", None, "c"], metadata={}, expires_after=DAY
    )
    await store.rewind("s", 1)
    await store.bind_key("k", "s")
    fence = await store.begin_answer("s", "answer", numbered(5), lease=60)
    await store.end_answer("s", "answer", 1, ["{}"], numbered(5, 2), fence=fence, state="completed")
    await store.checkpoints.put("s", Checkpoint("c0", "bytes", b"\0", {}))
    await store.append("gone", numbered(0), expires_after=DAY)
    await store.delete("gone")
    await store.expiry.set("unused", DAY)
    kept.age()
    sweep = await store.expiry.sweep(0)
    assert (sweep.sessions, sweep.messages, sweep.ids) == (1, 5, 2)
    assert await store.load("s") == await store.load("gone") == UNKNOWN
    assert await store.find_key("k") is None
    for table in (
        "sessions", "messages", "archive", "message_ids", "keys", "answers", "answer_events",
        "checkpoints", "session_expiry",
    ):  # fmt: skip
        assert kept.count(f"hermes_{table}") == 0, table
    # The id is free; its fence grows on.
    assert await store.acquire("s", 60) > fence


@a_store
async def test_an_answer_that_begins_sets_it(kept: Kept) -> None:
    """It comes with the question, once, so that a session whose process dies has it, too."""
    store, expiry = kept.store, kept.store.expiry
    fence = await store.begin_answer("s", "a", numbered(0), lease=60, expires_after=HOUR)
    assert (await expiry.find("s")).own == HOUR
    again = await store.begin_answer("s", "a", numbered(0), lease=60, expires_after=2 * HOUR)
    assert (again, (await expiry.find("s")).own) == (fence, HOUR)
    await store.end_answer("s", "a", 1, [], numbered(0, 2), fence=fence, state="completed")
    fence = await store.begin_answer("s", "b", numbered(2), lease=60)
    assert (await expiry.find("s")).own == HOUR
    with pytest.raises(SessionBusy):
        await store.begin_answer("s", "c", numbered(2), lease=60, expires_after=DAY)
    assert (await expiry.find("s")).own == HOUR
    with pytest.raises(ValueError, match="is not above 0"):
        await store.begin_answer("t", "c", numbered(2), lease=60, expires_after=timedelta(0))


@a_store
async def test_a_setting_comes_and_goes(kept: Kept) -> None:
    """It may be set before the first message, with one and later, and is removed again."""
    store, expiry = kept.store, kept.store.expiry
    await expiry.set("early", HOUR)
    assert await listed(store, "") == ""
    assert (await store.load("early")).exists is False
    for name in ("early", "plain"):
        await store.append(name, numbered(0))
    await store.append("late", numbered(0), turn_id="t", expires_after=timedelta(seconds=1.2))
    # Repeated, it stores no turn, and what was told last counts.
    await store.append("late", numbered(0), turn_id="t", expires_after=2 * HOUR)
    infos = {each.id: each for each in (await store.list()).sessions}
    after = {name: each.expires_at - each.updated_at for name, each in infos.items()}
    assert after == {"early": HOUR, "plain": 30 * DAY, "late": 2 * HOUR}
    # A title is no change of the history.
    await store.rename("late", "title")
    assert (await store.info("late")).expires_at == infos["late"].expires_at
    await store.append("late", numbered(1))
    assert (await expiry.find("late")).own == 2 * HOUR
    await expiry.set("late", NEVER)
    assert (await store.info("late")).expires_at is None
    await expiry.set("late", None)
    assert (await expiry.find("late")).own is None
    await expiry.set("nobody's", None)
    kept.age()
    assert (await expiry.sweep(0)).sessions == 1
    assert await listed(store, "") == "lateplain"
    await store.delete("plain")
    with pytest.raises(SessionDeleted):
        await expiry.set("plain", HOUR)


@a_store
async def test_a_setting_goes_where_its_session_goes(kept: Kept) -> None:
    """A fork has it too, a rotation and an export take it along, and a clearing removes it."""
    store, expiry = kept.store, kept.store.expiry
    await store.append("s", numbered(0), "ada", expires_after=HOUR)
    await store.fork("s", "child", "ada")
    await store.rotate("s", "moved", "ada", "bob")
    assert (await expiry.find("child", "ada")).own == HOUR
    assert (await expiry.find("moved", "bob")).own == HOUR
    assert (await expiry.find("s", "ada")).own is None
    lines = await store.export("moved", "bob")
    assert '"expires_after":3600' in lines
    other = MemoryStore(expires_after=NEVER)
    await other.import_(lines)
    assert (await other.expiry.find("moved")).own == HOUR  # type: ignore[union-attr]
    await store.import_(await other.export("moved"), "eve", "back")
    assert (await expiry.find("back", "eve")).own == HOUR
    await expiry.set("moved", NEVER, "bob")
    assert '"expires_after":"never"' in await store.export("moved", "bob")
    await store.clear("moved", "bob")
    assert (await expiry.find("moved", "bob")).own is None
    # Who has no expiry would keep it for ever.
    with pytest.raises(NotSupported):
        await MemoryStore().import_(lines)
    receipt = await store.erase_owner("ada")
    assert receipt.sessions == 1
    assert (await expiry.find("child", "ada")).own is None


@a_store
async def test_erasing_an_owner_forgets_its_setting(kept: Kept) -> None:
    """Nothing of an owner stays, not even how long its sessions were kept."""
    await kept.store.expiry.set_owner("ada", DAY)
    await kept.store.erase_owner("ada")
    assert await kept.store.expiry.find_owner("ada") is None


@a_store
async def test_what_is_in_use_is_not_swept(kept: Kept) -> None:
    """A session with a turn or a running answer stays, and goes once that has ended."""
    store: Any = kept.store
    for name in ("turn", "answer", "both"):
        await store.append(name, numbered(0), expires_after=DAY)
    fence = await store.acquire("turn", 60)
    running = await store.begin_answer("answer", "a", numbered(1), lease=60)
    kept.age()
    assert (await store.expiry.sweep(0)).sessions == 1
    assert await listed(store, "") == "answerturn"
    await store.release("turn", fence)
    await store.end_answer("answer", "a", 1, [], [], fence=running, state="stopped")
    kept.age()  # also the time of the next look
    assert (await store.expiry.sweep(0)).sessions == 2
    assert await store.load("turn") == UNKNOWN


@a_store
async def test_an_append_makes_a_session_young_again(kept: Kept) -> None:
    """It is the last change that counts, also of who knows nothing of expiry."""
    store, old = kept.store, kept.store
    for name in "ab":
        await store.append(name, numbered(0), expires_after=DAY)
    kept.age()
    if kept.engine is not None:  # as a process without the option, or of an earlier version
        old = SQLAlchemyStore(kept.engine, timeout=60)
    await old.append("a", numbered(1))
    assert (await store.expiry.sweep(0)).sessions == 1
    assert await listed(store, "") == "a"
    kept.age()
    assert (await store.expiry.sweep(0)).sessions == 1


@pytest.mark.parametrize(("database", "anyio_backend"), FEW[:2])
async def test_only_settings_are_taken(kept: Kept) -> None:
    """A time that is none, or is no time, is refused before anything is written."""
    expiry, session = kept.store.expiry, HermesSession(kept.store, "s")
    for wrong in (timedelta(0), -HOUR, timedelta(days=36_501)):
        with pytest.raises(ValueError, match="is not above 0"):
            await expiry.set("s", wrong)
        with pytest.raises(ValueError, match="is not above 0"):
            await expiry.set_owner("o", wrong)
        with pytest.raises(ValueError, match="is not above 0"):
            await kept.store.append("s", numbered(0), expires_after=wrong)
        with pytest.raises(ConfigurationError, match="is not above 0"):
            type(kept.store)(expires_after=wrong)
    with pytest.raises(TypeError, match="not a timedelta"):
        await session.expire_after(60)  # type: ignore[arg-type]
    assert (await kept.store.load("s")).exists is False
    await expiry.set("s", timedelta(days=36_500))


async def test_a_store_without_the_option_has_no_expiry(tmp_path: Path) -> None:
    """A session's own setting would never be heeded, so it is refused by name."""
    for store in (MemoryStore(), SQLAlchemyStore(f"sqlite:///{tmp_path}/s.db")):
        session = HermesSession(store, "s")
        assert store.expiry is None
        with pytest.raises(NotSupported, match="without expires_after"):
            await session.expire_after(HOUR)
        with pytest.raises(NotSupported, match="without expires_after"):
            await session.append(*numbered(0), expires_after=HOUR)
        with pytest.raises(NotSupported, match="without expires_after"):
            session.record(*numbered(0), expires_after=HOUR)
        with pytest.raises(NotSupported, match="without expires_after"):
            await session.answer(_pieces(), *numbered(0), expires_after=HOUR)
        with pytest.raises(NotSupported, match="without expires_after"):
            await store.append("s", numbered(0), expires_after=HOUR)
        with pytest.raises(NotSupported, match="without expires_after"):
            await store.begin_answer("s", "a", numbered(0), lease=60, expires_after=HOUR)
        assert (await store.load("s")).exists is False
        await store.aclose()


async def test_a_request_makes_its_session_a_temporary_one() -> None:
    """The session object sets it, before its first message, with one, and later."""
    store = MemoryStore(expires_after=NEVER)
    session = HermesSession(store, "s", owner="ada", is_new=True)
    await session.expire_after(HOUR)
    await session.append(*numbered(0), turn_id="t")
    expiry: Any = store.expiry
    assert (await expiry.find("s", "ada")).own == HOUR
    await session.append(*numbered(1), expires_after=DAY)
    assert (await expiry.find("s", "ada")).own == DAY
    await session.expire_after(None)
    found = await expiry.find("s", "ada")
    assert (found.own, found.expires_after, repr(found.inherited)) == (None, NEVER, "NEVER")


async def _pieces() -> AsyncIterator[str]:
    yield "Hello"


async def test_an_answer_makes_its_session_a_temporary_one() -> None:
    """One that is recorded sets it with its turn, and one that goes on with its question."""
    store = MemoryStore(expires_after=NEVER)
    expiry: Any = store.expiry
    session = HermesSession(store, "s", is_new=True)
    async with session.record(*numbered(0), expires_after=HOUR) as recorded:
        recorded.write("Hello")
    assert (await expiry.find("s")).own == HOUR
    answer = await session.answer(_pieces(), *numbered(1), expires_after=DAY)
    assert (await expiry.find("s")).own == DAY
    await answer.wait()
    with pytest.raises(TypeError, match="not a timedelta"):
        await session.answer(_pieces(), *numbered(1), expires_after=60)  # type: ignore[arg-type]
    assert (await store.load("s")).length == 4


@pytest.mark.parametrize("wrong", ["soon", 0, -1, 1.5, True, None, [], 10**12])
def test_exports_have_seconds_or_never(wrong: object) -> None:
    """Anything else is no setting."""
    with pytest.raises(ValueError, match="neither"):
        setting_from_json(wrong)


async def test_an_export_with_another_setting_is_refused() -> None:
    """A file that was edited by hand is not imported with a guess."""
    store = MemoryStore(expires_after=NEVER)
    await store.append("s", numbered(0), expires_after=HOUR)
    lines = (await store.export("s")).replace(":3600", ':"soon"')
    with pytest.raises(InvalidMessage, match="expires_after"):
        await store.import_(lines, session_id="t")


def test_settings_compare() -> None:
    """Never is the longest."""
    order: list[Any] = [HOUR, DAY, NEVER]
    for number, each in enumerate(order):
        for other, than in enumerate(order):
            assert is_longer(each, than) == (number > other)


def test_the_far_future_is_never() -> None:
    """A session that is changed in the year 9950 has no time of expiry that Python knows."""
    from hermes_session_mw.stores.expiry import expires_at  # noqa: PLC0415

    assert expires_at(datetime(9950, 1, 1, tzinfo=UTC), 36_500 * DAY) is None
