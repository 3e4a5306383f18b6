"""Encrypting what is stored, decrypting it, and turning the master key, while others write."""

import re
from pathlib import Path
from typing import Any

import pytest

from hermes_session_mw import (
    ConfigurationError,
    Keyring,
    SQLAlchemyStore,
    StoreMisconfigured,
    StoreUnavailable,
)
from hermes_session_mw.stores.sqlalchemy.admin.models import KeyCounts
from hermes_session_mw.stores.sqlalchemy.encryption import resealing
from tests.stores.sqlalchemy.encryption.test_encrypting_store import (
    ONE,
    RING,
    SECRET,
    TWO,
    Stores,
    every_database,
    fill,
    on_sqlite,
    put,
    said,
    stores,
)

__all__ = ["stores"]  # a fixture

LATER = Keyring({"k2": TWO, "k1": ONE}, current="k2")
ONLY_NEW = Keyring({"k2": TWO}, current="k2")
KEYS = "SELECT data_key FROM hermes_sessions WHERE data_key IS NOT NULL"


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transactions so small that several are needed."""
    monkeypatch.setattr("hermes_session_mw.stores.sqlalchemy.admin.admin_store._BATCH", 2)


async def everything(stores: Stores, keyring: Keyring | None, *ids: str) -> list[object]:
    """Return what a store tells of sessions."""
    store = stores.open(keyring)
    found: list[object] = [await store.list("ada")]
    for each in ids:
        found += [
            await store.load_range(each, "ada"),
            await store.archived(each, "ada"),
            await store.find_metadata(each, "ada"),
            await store.find_answer(f"answer-{each}", "ada"),
            await store.read_events(f"answer-{each}", "ada"),
            await store.checkpoints.find(each, owner="ada"),
        ]
    return found


@every_database
async def test_what_was_stored_plain_is_encrypted_and_back(stores: Stores) -> None:
    """All of it: what the store tells, and every time, is the same before and after."""
    plain = stores.open(None)
    for each in ("s1", "s2"):
        await fill(plain, each)
    await stores.open().append("s3", [said(7)], "ada")
    before = await everything(stores, RING, "s1", "s2")
    admin = stores.admin(access="write")
    count = await admin.count_plain()
    steps: list[int] = []
    counts = await admin.encrypt(steps.append)
    assert counts == KeyCounts(count)
    assert sum(steps) == count >= 2 * 14 - 6
    assert {each[:4] for each in stores.stored()} == {"$h1$", b"$h1$"}
    assert await everything(stores, RING, "s1", "s2") == before
    assert await admin.check_integrity(lambda _count: None) == []
    assert await admin.encrypt(lambda _count: None) == KeyCounts(0)
    assert await admin.decrypt(lambda _count: None) == KeyCounts(count + 1)
    assert "$h1$" not in str(stores.stored())
    assert stores.execute(KEYS) == []
    assert await everything(stores, None, "s1", "s2") == before
    assert await stores.open(None).rotate("s3", "s4", "ada")


@on_sqlite
async def test_no_byte_of_plain_text_is_left(stores: Stores, tmp_path: Path) -> None:
    """After the change neither SQLite's file nor its WAL has what was stored plain, nor deleted."""
    plain = stores.open(None)
    for number in range(30):
        await plain.append(f"old-{number}", [said(number)] * 5, "ada")
        await fill(plain, f"s{number}")
    for number in range(30):
        await plain.delete(f"old-{number}", "ada")
    assert any(b"Alfama" in each.read_bytes() for each in tmp_path.iterdir())
    await plain.aclose()
    await stores.admin(access="write").encrypt(lambda _count: None)
    found = {each.name: each.read_bytes().count(b"Alfama") for each in tmp_path.iterdir()}
    assert set(found.values()) == {0}
    assert found.keys() >= {"sessions.db"}


@every_database
async def test_a_title_that_looks_encrypted_is_encrypted(stores: Stores) -> None:
    """A title that begins as what is encrypted does, but for the case, is plain as others are."""
    await stores.open(None).append("s1", [said(0)], "ada", title=f"$H1$ {SECRET}")
    admin = stores.admin(access="write")
    assert await admin.encrypt(lambda _count: None) == KeyCounts(2)
    assert SECRET not in str(stores.execute("SELECT title FROM hermes_sessions"))
    assert await admin.decrypt(lambda _count: None) == KeyCounts(2)


@every_database
async def test_the_names_of_pairs_go_and_come_back(stores: Stores) -> None:
    """A pair's label, which who guesses the pair can confirm, goes as its metadata is encrypted."""
    plain = stores.open(None)
    await plain.append("s1", [said(0)], "ada")
    await plain.label("s1", "ada", tags=["t"], metadata={"project": "p1"})
    names = "SELECT count(*) FROM hermes_labels"
    assert stores.execute(names) == [(2,)]
    admin = stores.admin(access="write")
    await admin.encrypt(lambda _count: None)
    assert stores.execute(names) == [(1,)]
    assert [each.id for each in (await stores.open().list("ada", tag="t")).sessions] == ["s1"]
    await admin.decrypt(lambda _count: None)
    found = await plain.list("ada", tag="t", metadata={"project": "p1"})
    assert [each.id for each in found.sessions] == ["s1"]


@every_database
async def test_the_master_key_is_turned(stores: Stores) -> None:
    """Every data key is wrapped anew, nothing else changes, and the old master key can go."""
    store = stores.open()
    for each in ("s1", "s2", "s3", "s4", "s5"):
        await store.append(each, [said(0)], "ada")
    bodies = "SELECT body FROM hermes_messages ORDER BY session_id"
    before = stores.execute(bodies)
    times = stores.execute("SELECT id, updated_at FROM hermes_sessions ORDER BY id")
    with pytest.raises(StoreMisconfigured, match="'k1'"):
        await stores.open(ONLY_NEW).load("s1", "ada")
    steps: list[int] = []
    admin = stores.admin(LATER, access="write")
    assert await admin.rewrap(steps.append) == KeyCounts(5)
    assert sum(steps) == 5
    assert stores.execute(bodies) == before
    assert stores.execute("SELECT id, updated_at FROM hermes_sessions ORDER BY id") == times
    keys = [key for (key,) in stores.execute(KEYS)]
    assert [(key[:3], len(key) < 100) for key in keys] == [("k2.", True)] * 5
    assert (await stores.open(ONLY_NEW).load("s1", "ada")).messages == [said(0)]
    assert await admin.rewrap(steps.append) == KeyCounts(0)


@every_database
async def test_a_turn_that_was_killed_halfway_goes_on(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writers with the old key and with both write meanwhile; a repetition does the rest."""
    old, both = stores.open(), stores.open(LATER)
    for number in range(7):
        await old.append(f"s{number}", [said(0)], "ada", "t0")
    admin = stores.admin(LATER, access="write")
    wrap = resealing.rewrap
    killed: list[Any] = []

    def killing(database: Any, found: Any) -> Any:
        if len(killed) == 2:
            raise StoreUnavailable("killed")
        killed.append(found)
        return wrap(database, found)

    monkeypatch.setattr(resealing, "rewrap", killing)
    with pytest.raises(StoreUnavailable, match="killed"):
        await admin.rewrap(lambda _count: None)
    keys = [key[:2] for (key,) in stores.execute(KEYS)]
    assert (keys.count("k1"), keys.count("k2")) == (3, 4)
    monkeypatch.setattr(resealing, "rewrap", wrap)

    # Whoever has both keys goes on everywhere; whoever has the old one, where that is.
    await both.append("s0", [said(1)], "ada", "t1")
    await both.append("s6", [said(1)], "ada", "t1")
    await old.append("s6", [said(2)], "ada", "t2")
    with pytest.raises(StoreMisconfigured, match="'k2'"):
        await old.append("s0", [said(2)], "ada", "t2")
    await old.append("new", [said(0)], "ada", "t0")
    await both.rotate("s5", "moved", "ada")
    await both.delete("s4", "ada")

    seen: list[Any] = []

    def meanwhile(database: Any, found: Any) -> Any:
        """A session is moved, and another gets a turn, between the reading and the writing."""
        if not seen:
            seen.append(found)
            for each in found:
                assert stores.execute(
                    "UPDATE hermes_sessions SET data_key = NULL WHERE id = :i", i=each.session_id
                ) == []  # fmt: skip
        return wrap(database, found)

    monkeypatch.setattr(resealing, "rewrap", meanwhile)
    counts = await admin.rewrap(lambda _count: None)
    gone = len(seen[0])
    assert (counts.problems, gone) == ((), 2)
    assert {key[:2] for (key,) in stores.execute(KEYS)} == {"k2"}
    left = [each.session_id for each in seen[0]]
    for each, length in (("s0", 2), ("s6", 3), ("moved", 1), ("new", 1)):
        if each not in left:
            history = await stores.open(ONLY_NEW).load(each, "ada")
            assert history.messages == [said(number) for number in range(length)]


@every_database
async def test_a_session_that_cannot_be_read_is_left_and_told(stores: Stores) -> None:
    """The other sessions are rewrapped, encrypted and decrypted all the same."""
    store = stores.open()
    for each in ("s1", "s2", "s3"):
        await store.append(each, [said(0)], "ada")
    put(stores, "$h1$" + "A" * 60)
    admin = stores.admin(access="write")
    counts = await admin.decrypt(lambda _count: None)
    assert (counts.done, [each.session_id for each in counts.problems]) == (2, ["s1"])
    assert len(stores.execute(KEYS)) == 1
    await admin.encrypt(lambda _count: None)
    stores.execute("UPDATE hermes_sessions SET data_key = 'k9.AAAA' WHERE id = :i", i="s2")
    stores.execute("UPDATE hermes_sessions SET data_key = 'k1.AAAA' WHERE id = :i", i="s3")
    counts = await stores.admin(LATER, access="write").rewrap(lambda _count: None)
    assert counts.done == 1
    assert [(each.session_id, "'k9'" in each.what) for each in counts.problems] == [
        ("s2", True), ("s3", False),
    ]  # fmt: skip
    assert not re.search(SECRET, str(counts))


@on_sqlite
async def test_without_keys_nothing_is_changed(stores: Stores) -> None:
    """The operator's store without keys says how to give them."""
    await stores.open(None).append("s1", [said(0)], "ada")
    admin = stores.admin(None, access="write")
    for work in (
        admin.encrypt(lambda _count: None),
        admin.decrypt(lambda _count: None),
        admin.rewrap(lambda _count: None),
        admin.count_plain(),
    ):
        with pytest.raises(ConfigurationError, match="--keys-file"):
            await work


@every_database
async def test_a_search_index_is_not_encrypted_beside(stores: Stores) -> None:
    """A search index has the words in plain text: who encrypts has to remove it first."""
    plain = SQLAlchemyStore(stores.url, search=True)
    stores.made.append(plain)
    await plain.append("s1", [said(0)], "ada")
    with pytest.raises(ConfigurationError, match="exclude each other"):
        await stores.admin(access="write").encrypt(lambda _count: None)
    with pytest.raises(ConfigurationError, match="exclude each other"):
        SQLAlchemyStore(stores.url, search=True, encryption=RING)
    # A database is asked at its first use; nothing is written.
    store = stores.open()
    for work in (store.load("s1", "ada"), store.append("s2", [said(1)], "ada"), store.list("ada")):
        with pytest.raises(StoreMisconfigured, match=r"has a search index.*search-index --drop"):
            await work
    operator = stores.admin(access="write")
    assert len((await operator.list_owned()).sessions) == 1
    await operator.drop_search_index()
    assert (await operator.encrypt(lambda _count: None)).done == 1
    assert (await store.load("s1", "ada")).messages == [said(0)]
    with pytest.raises(StoreMisconfigured, match="has encrypted sessions"):
        await SQLAlchemyStore(stores.url, search=True).load("s1", "ada")
