"""What a store with ``encryption=`` keeps, and what it refuses; over each kind of database."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text

from hermes_session_mw import (
    Keyring,
    SQLAlchemyStore,
    StoreCorrupt,
    StoreMisconfigured,
    generate_key,
)
from hermes_session_mw.logging import fingerprint
from hermes_session_mw.stores.checkpoint_store import Checkpoint, CheckpointWrite
from hermes_session_mw.stores.sqlalchemy.admin.admin_store import AdminStore
from hermes_session_mw.testing.helpers import new_id, numbered
from tests.support.own_databases import key_of, own_database

ONE, TWO = bytes(range(32)), bytes(range(1, 33))
RING = Keyring({"k1": ONE}, current="k1")
SECRET = "Alfama first, then Belem"
PLAIN = re.compile(rb"Alfama|A\x00?l\x00?f\x00?a\x00?m")
DATABASES = [
    ("sqlite", "trio"),
    ("postgresql+psycopg", "trio"),
    ("postgresql+asyncpg", "asyncio"),
    ("mysql+pymysql", "asyncio"),
]
SYNC = {"asyncpg": "postgresql+psycopg"}
CONTENT = {
    "hermes_sessions": ("title", "metadata"),
    "hermes_messages": ("body",),
    "hermes_archive": ("body",),
    "hermes_answers": ("question", "begun", "message"),
    "hermes_answer_events": ("body", "growth"),
    "hermes_checkpoints": ("body", "metadata"),
    "hermes_checkpoint_writes": ("body",),
}
every_database = pytest.mark.parametrize(
    ("database", "anyio_backend"), DATABASES, ids=[each for each, _ in DATABASES]
)
on_sqlite = pytest.mark.parametrize(("database", "anyio_backend"), [("sqlite", "trio")])


class Stores:
    """Stores over one database, and its tables."""

    def __init__(self, url: Any) -> None:
        self.url = url
        self.made: list[SQLAlchemyStore] = []
        sync = url.set(drivername=SYNC.get(url.get_driver_name(), url.drivername))
        self.tables: Engine = create_engine(sync)

    def open(self, encryption: Keyring | None = RING) -> SQLAlchemyStore:
        """Return another store."""
        self.made.append(SQLAlchemyStore(self.url, encryption=encryption))
        return self.made[-1]

    def admin(self, encryption: Keyring | None = RING, access: Any = "read") -> AdminStore:
        """Return a store for the operator."""
        store = AdminStore(self.url, access=access, encryption=encryption)
        self.made.append(store)
        return store

    def execute(self, statement: str, **parameters: Any) -> list[Any]:
        """Execute SQL of the test's own; ids are bytes on MySQL."""
        backend = self.url.get_backend_name()
        keys = {name: key_of(backend, value) if isinstance(value, str) else value
                for name, value in parameters.items()}  # fmt: skip
        with self.tables.begin() as connection:
            result = connection.execute(text(statement), keys)
            return list(result) if result.returns_rows else []

    def stored(self) -> list[str | bytes]:
        """Return all content as it is stored."""
        return [
            value if isinstance(value, str) else bytes(value)
            for table, names in CONTENT.items()
            for row in self.execute(f"SELECT {', '.join(names)} FROM {table}")
            for value in row
            if value is not None
        ]


@pytest.fixture
async def stores(
    database: str, request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Stores]:
    """An empty database."""
    with own_database(request, database, tmp_path) as url:
        stores = Stores(url)
        yield stores
        for each in stores.made:
            await each.aclose()
        stores.tables.dispose()


def said(number: int) -> dict[str, Any]:
    return {"role": "user", "content": f"{SECRET} {number}"}


async def fill(store: SQLAlchemyStore, session_id: str, owner: str = "ada") -> None:
    """Store some of everything that has content."""
    await store.append(session_id, [said(0), said(1)], owner, "t1", message_ids=["m0", None])
    await store.append(session_id, [said(2)], owner, "t2")
    await store.rename(session_id, SECRET, owner)
    await store.set_metadata(session_id, {"note": SECRET}, owner)
    await store.append(session_id, [said(3)], owner, "t3", replace_from=2)
    await store.checkpoints.put(
        session_id, Checkpoint("c1", "json", SECRET.encode(), {"at": SECRET}), owner
    )
    write = CheckpointWrite("task", 0, "channel", "json", SECRET.encode())
    await store.checkpoints.put_writes(session_id, "c1", [write], owner)
    answer = f"answer-{session_id}"
    fence = await store.begin_answer(
        session_id, answer, [said(4)], owner, lease=60, begun=said(5), digest="d"
    )
    await store.write_events(
        session_id, answer, 1, [f'"{SECRET}"'], owner, fence=fence, lease=60,
        growth=f'{{"content":"{SECRET}"}}',
    )  # fmt: skip
    await store.end_answer(
        session_id, answer, 2, [f'"{SECRET} 2"'], [said(4), said(6)], owner,
        fence=fence, state="completed",
    )  # fmt: skip


@every_database
async def test_all_content_is_stored_encrypted(stores: Stores) -> None:
    """Messages, archive, title, metadata, answers, events and checkpoints: each has its place."""
    store = stores.open()
    await fill(store, "s1")
    stored = stores.stored()
    assert len(stored) >= 14
    assert {each[:4] for each in stored} == {"$h1$", b"$h1$"}
    assert [message["content"] for message in (await store.load("s1", "ada")).messages] == [
        f"{SECRET} {number}" for number in (0, 1, 3, 4, 6)
    ]
    (listed,) = (await store.list("ada")).sessions
    assert listed.title == SECRET
    found = await store.find_answer("answer-s1", "ada")
    assert found is not None
    assert (found.question, found.message) == ([said(4)], said(6))
    assert await store.read_events("answer-s1", "ada") == (
        "completed", [f'"{SECRET}"', f'"{SECRET} 2"'],
    )  # fmt: skip
    checkpoint = await store.checkpoints.find("s1", owner="ada")
    assert checkpoint is not None
    assert checkpoint.checkpoint.body == checkpoint.writes[0].body == SECRET.encode()
    # A repetition is known by what it says, and another one is refused.
    assert await store.append("s1", [said(0), said(1)], "ada", "t1") == 2


@on_sqlite
async def test_no_byte_of_plain_text_is_in_the_file(stores: Stores, tmp_path: Path) -> None:
    """Neither SQLite's file nor its WAL has anything of what was said."""
    await fill(stores.open(), "s1")
    await stores.made[0].fork("s1", "s2", "ada")
    await stores.made[0].import_(await stores.made[0].export("s1", "ada"), "ada", "s3")
    files = [each for each in tmp_path.iterdir() if each.is_file()]
    assert len(files) >= 2
    assert [PLAIN.search(each.read_bytes()) for each in files] == [None] * len(files)


@every_database
async def test_a_row_is_read_in_its_place_alone(stores: Stores) -> None:
    """What somebody copies to another number, session, owner or table is refused, by its session.

    Other sessions are read on.
    """
    store = stores.open()
    for session_id, owner in (("s1", "ada"), ("s2", "ada"), ("s1", "bob")):
        await store.append(session_id, [said(0), said(1)], owner)
        await store.rename(session_id, f"{session_id} of {owner}", owner)
    bodies = {
        (owner, session_id, seq): body
        for owner, session_id in (("ada", "s1"), ("ada", "s2"), ("bob", "s1"))
        for seq, body in stores.execute(
            "SELECT seq, body FROM hermes_messages WHERE owner = :owner AND session_id = :id",
            owner=owner, id=session_id,
        )
    }  # fmt: skip
    title = stores.execute("SELECT title FROM hermes_sessions WHERE owner = 'ada' AND id = 's2'")
    original = bodies["ada", "s1", 0]
    others = [bodies["ada", "s1", 1], bodies["ada", "s2", 0], bodies["bob", "s1", 0], title[0][0]]
    backend = stores.url.get_backend_name()
    for moved in others:
        put(stores, moved)
        with pytest.raises(StoreCorrupt, match=fingerprint("s1")) as caught:
            await store.load("s1", "ada")
        assert SECRET not in str(caught.value)
        assert "'s1'" not in str(caught.value)
        assert len((await store.load("s2", "ada")).messages) == 2
    put(stores, original)
    assert len((await store.load("s1", "ada")).messages) == 2
    # A data key that was moved, and a title.
    wrapped = stores.execute("SELECT data_key FROM hermes_sessions WHERE id = 's2'")[0][0]
    with stores.tables.begin() as connection:
        connection.execute(
            text("UPDATE hermes_sessions SET data_key = :k WHERE owner = :o AND id = :i"),
            {"k": wrapped, "o": key_of(backend, "ada"), "i": key_of(backend, "s1")},
        )
    with pytest.raises(StoreCorrupt, match=fingerprint("s1")):
        await store.load("s1", "ada")
    with pytest.raises(StoreCorrupt, match=fingerprint("s1")):
        await store.append("s1", [said(9)], "ada")
    titles = {each.id: each.title for each in (await store.list("ada")).sessions}
    assert titles == {"s1": None, "s2": "s2 of ada"}


def put(stores: Stores, body: str) -> None:
    """Set the first message of the first session."""
    backend = stores.url.get_backend_name()
    with stores.tables.begin() as connection:
        connection.execute(
            text("UPDATE hermes_messages SET body = :b"
                 " WHERE owner = :o AND session_id = :i AND seq = 0"),
            {"b": body, "o": key_of(backend, "ada"), "i": key_of(backend, "s1")},
        )  # fmt: skip


@every_database
async def test_a_store_without_keys_says_so(stores: Stores) -> None:
    """Every method that would return content, or compare it, names the way; none returns it."""
    await fill(stores.open(), "s1")
    store = stores.open(None)
    summary = [said(9)]
    for work in (
        store.load("s1", "ada"),
        store.load("s1", "ada", 1),
        store.load_range("s1", "ada"),
        store.append("s1", [said(0), said(1)], "ada", "t1"),
        store.pop("s1", 1, "ada"),
        store.compact("s1", [said(0)], summary, "ada"),
        store.find_message("m0", "ada"),
        store.find_turn("s1", "t1", "ada"),
        store.archived("s1", "ada"),
        store.list("ada"),
        store.list_all(),
        store.info("s1", "ada"),
        store.export("s1", "ada"),
        store.find_metadata("s1", "ada"),
        store.set_metadata("s1", {}, "ada", expected={"note": SECRET}),
        store.find_answer("answer-s1", "ada"),
        store.read_events("answer-s1", "ada"),
        store.checkpoints.find("s1", owner="ada"),
        store.checkpoints.list("ada"),
        store.checkpoints.copy("s1", "s2", "ada"),
        store.fork("s1", "s3", "ada"),
        store.rotate("s1", "s4", "ada"),
        stores.admin(None).check_integrity(lambda _count: None),
    ):
        with pytest.raises(StoreMisconfigured, match="encryption="):
            await work
    assert len((await stores.open().load("s1", "ada")).messages) == 5
    with pytest.raises(ValueError, match="as encrypted texts do"):
        await store.rename("s1", "$h1$AAAA", "ada")


@every_database
async def test_a_store_with_other_keys_says_so(stores: Stores) -> None:
    """A master key that is missing is named; another one under its id is told from that."""
    await stores.open().append("s1", [said(0)], "ada")
    missing = stores.open(Keyring({"k2": TWO}, current="k2"))
    other = stores.open(Keyring({"k1": TWO}, current="k1"))
    for name, arguments in (("load", ()), ("append", ([said(1)],))):
        with pytest.raises(StoreMisconfigured, match="'k1' is not in the keyring"):
            await getattr(missing, name)("s1", *arguments, owner="ada")
        with pytest.raises(StoreCorrupt, match="another one than it was"):
            await getattr(other, name)("s1", *arguments, owner="ada")
    assert (await stores.open().load("s1", "ada")).length == 1


@every_database
async def test_a_session_whose_master_key_is_missing_is_listed(
    stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    """Lists go on without its title, first words and metadata, and say so once."""
    first, both = stores.open(), stores.open(Keyring({"k2": TWO, "k1": ONE}, current="k2"))
    lacking = stores.open(Keyring({"k2": TWO}, current="k2"))
    await first.append("a", [said(0)], "ada")
    await first.set_metadata("a", {"note": SECRET}, "ada")
    await both.append("b", [said(1)], "ada", title="Title")
    await first.append("c", [said(2)], "ada")
    await first.rename("c", SECRET, "ada")
    await both.append("d", [said(3)], "ada")
    expected = {"a": (None, None), "b": ("Title", None), "c": (None, None),
                "d": (None, f"{SECRET} 3")}  # fmt: skip
    for _ in range(2):
        page = await lacking.list("ada", first_words=True)
        assert {each.id: (each.title, each.first_words) for each in page.sessions} == expected
    assert all(not each.metadata for each in page.sessions)
    assert len((await lacking.list_all()).sessions) == 4
    assert len((await lacking.list("ada", order="pinned")).sessions) == 4
    info = await lacking.info("c", "ada", first_words=True)
    assert info is not None
    assert (info.title, info.first_words, info.length) == (None, None, 1)
    owned = await stores.admin(Keyring({"k2": TWO}, current="k2")).list_owned(first_words=True)
    assert {each.info.id: each.info.title for each in owned.sessions} == {
        "a": None, "b": "Title", "c": None, "d": None
    }  # fmt: skip
    warned = [each.message for each in caplog.records if "listed without titles" in each.message]
    assert len(warned) == 2  # by each keyring
    assert all("'k1' is not in the keyring" in each and SECRET not in each for each in warned)
    # What asks for the session itself fails, and so does an export that would not be whole.
    for work in (lacking.load("a", "ada"), lacking.export("a", "ada")):
        with pytest.raises(StoreMisconfigured, match="'k1' is not in the keyring"):
            await work
    exported: Any = lacking.export_owner("ada")
    with pytest.raises(StoreMisconfigured, match="'k1' is not in the keyring"):
        await anext(exported)
    await exported.aclose()
    # Nothing of it is needed to erase it.
    assert (await lacking.erase_owner("ada")).sessions == 4


@every_database
async def test_plain_rows_stay_readable_beside_encrypted_ones(stores: Stores) -> None:
    """A session that a store without keys wrote to, before and meanwhile, is read as one."""
    plain, store = stores.open(None), stores.open()
    await plain.append("s1", [said(0)], "ada", "t0")
    await plain.rename("s1", "plain", "ada")
    await store.append("s1", [said(1)], "ada", "t1")
    await plain.append("s1", [said(2)], "ada", "t2")
    assert (await store.load("s1", "ada")).messages == [said(0), said(1), said(2)]
    assert (await store.load("s1", "ada", 2)).messages == [said(1), said(2)]
    assert await store.append("s1", [said(2)], "ada", "t2") == 3
    info = await store.info("s1", "ada")
    assert info is not None
    assert info.title == "plain"
    await store.fork("s1", "s2", "ada")
    assert (await store.load("s2", "ada")).messages == [said(0), said(1), said(2)]
    forked = stores.execute("SELECT body FROM hermes_messages WHERE session_id = :i", i="s2")
    assert [body[:4] for (body,) in forked] == ["$h1$"] * 3


@every_database
async def test_a_keyring_that_accepts_nothing_plain_refuses_what_was_put_there(
    stores: Stores,
) -> None:
    """Content that somebody wrote to the database is refused, not read beside encrypted content."""
    strict = stores.open(Keyring({"k1": ONE}, current="k1", accepts_plain=False))
    await fill(strict, "s1")
    assert len((await strict.load("s1", "ada")).messages) == 5
    await strict.fork("s1", "s2", "ada")
    await strict.label("s2", "ada", title=SECRET, metadata={"note": SECRET})
    assert [each.title for each in (await strict.list("ada")).sessions] == [SECRET] * 2
    stores.execute("UPDATE hermes_sessions SET title = 'forged' WHERE id = :i", i="s1")
    stores.execute("UPDATE hermes_sessions SET metadata = '{}' WHERE id = :i", i="s2")
    assert {each.title for each in (await strict.list("ada")).sessions} == {None, SECRET}
    with pytest.raises(StoreCorrupt, match=f"^session {fingerprint('s2')}: content is stored"):
        await strict.find_metadata("s2", "ada")
    forged = """'{"role": "user", "content": "forged"}'"""
    stores.execute(
        f"UPDATE hermes_messages SET body = {forged} WHERE session_id = :i AND seq = 1", i="s1"
    )
    for read in (
        strict.load("s1", "ada"),
        strict.load("s1", "ada", 4),
        strict.load_range("s1", "ada"),
        strict.fork("s1", "s3", "ada"),
        strict.export("s1", "ada"),
    ):
        with pytest.raises(StoreCorrupt, match=fingerprint("s1")):
            await read
    assert (await stores.open().load("s1", "ada")).messages[1]["content"] == "forged"
    await stores.admin(access="write").encrypt(lambda _count: None)
    assert (await strict.load("s1", "ada")).messages[1]["content"] == "forged"


@every_database
async def test_what_is_deleted_or_cleared_has_no_data_key(stores: Stores) -> None:
    """A deletion, a clearing and a rotation remove the data key; a later turn gets another one."""
    store = stores.open()
    for session_id in ("s1", "s2", "s3"):
        await store.append(session_id, [said(0)], "ada")
    keys = "SELECT data_key FROM hermes_sessions WHERE id = :i"
    ((before,),) = stores.execute(keys, i="s2")
    await store.delete("s1", "ada")
    await store.clear("s2", "ada")
    assert await store.rotate("s3", "s4", "ada", "bob")
    assert [stores.execute(keys, i=each) for each in ("s1", "s2", "s3")] == [[(None,)]] * 3
    assert (await store.load("s4", "bob")).messages == [said(0)]
    await store.append("s2", [said(1)], "ada")
    ((after,),) = stores.execute(keys, i="s2")
    assert before[:3] == after[:3] == "k1."
    assert before != after
    # Also by a store without keys, which needs none for it.
    await stores.open(None).delete("s4", "bob")
    assert stores.execute(keys, i="s4") == [(None,)]


@every_database
async def test_the_operator_sees_what_owners_see(stores: Stores) -> None:
    """The admin store lists, exports and checks with the keys, and tells which row is broken."""
    await fill(stores.open(), "s1")
    admin = stores.admin()
    (found,) = (await admin.list_owned()).sessions
    assert found.info.title == SECRET
    assert SECRET in str(await admin.export_snapshot("s1", "ada"))
    assert await admin.check_integrity(lambda _count: None) == []
    put(stores, "$h1$AAAA")
    (problem,) = await admin.check_integrity(lambda _count: None)
    assert (problem.session_id, problem.owner) == ("s1", "ada")
    assert "message 0" in problem.what


@on_sqlite
async def test_a_key_of_ones_own_each(stores: Stores) -> None:
    """Every session, a fork too, has a data key of its own."""
    store = stores.open(Keyring({"k1": generate_key()}, current="k1"))
    for number in range(3):
        await store.append(new_id(), numbered(number))
    await store.append("s1", numbered(0))
    await store.fork("s1", "s2")
    keys = [key for (key,) in stores.execute("SELECT data_key FROM hermes_sessions")]
    assert len(set(keys)) == len(keys) == 5
