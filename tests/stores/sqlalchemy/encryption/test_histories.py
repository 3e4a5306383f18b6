"""What stays decrypted in a process's memory: how much, for how long, and for whom."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_session_mw import ConfigurationError, Keyring, SQLAlchemyStore
from hermes_session_mw.stores.encryption import DataKey, NotAuthentic
from hermes_session_mw.stores.sqlalchemy.encryption.histories import (
    MARK,
    Decrypted,
    DecryptedHistories,
)

ONE = bytes(range(32))
WRAPPED = "k1.AAAA"


def history(first: int, count: int) -> Decrypted:
    numbers = range(first, first + count)
    stored = MARK.join(f"$h1$sealed{number}" for number in numbers)
    return Decrypted(
        WRAPPED, first, stored, ",\n".join(f'{{"n":"{number},"}}' for number in numbers)
    )


@given(st.integers(0, 4), st.integers(1, 5), st.integers(0, 8), st.integers(1, 8))
def test_what_is_known_is_of_the_same_messages(
    first: int, count: int, other: int, more: int
) -> None:
    """Of any part of a history, exactly the messages that are known of its beginning are found."""
    histories = DecryptedHistories(1 << 20)
    histories.keep(("o", "s"), history(first, count))
    asked = history(other, more)
    found = histories.find(("o", "s"), WRAPPED, other, asked.stored)
    known = min(first + count - other, more)
    if first <= other and 0 < known and other + more >= first + count:
        assert found == history(other, known)
    else:
        assert found is None


def test_nothing_is_found_for_another_key_session_or_text() -> None:
    """Another wrapped data key, session, owner, or changed text gets nothing."""
    histories = DecryptedHistories(1 << 20)
    kept = history(0, 3)
    histories.keep(("o", "s"), kept)
    assert histories.find(("o", "s"), WRAPPED, 0, kept.stored) == kept
    assert histories.find(("o", "s"), "k2.AAAA", 0, kept.stored) is None
    assert histories.find(("o", "t"), WRAPPED, 0, kept.stored) is None
    assert histories.find(("p", "s"), WRAPPED, 0, kept.stored) is None
    assert histories.find(("o", "s"), WRAPPED, 0, kept.stored + "x") is None
    assert histories.find(("o", "s"), WRAPPED, 0, "x" + kept.stored) is None
    histories.forget(("o", "s"))
    assert histories.find(("o", "s"), WRAPPED, 0, kept.stored) is None


def test_no_more_is_kept_than_there_is_room_for() -> None:
    """What was not used for longest goes; one history may take a quarter."""
    histories = DecryptedHistories(4000)
    kept = history(0, 5)
    for number in range(20):
        histories.keep(("o", str(number)), kept)
        histories.find(("o", "0"), WRAPPED, 0, kept.stored)
        assert histories._used <= 4000
    there = [n for n in range(20) if histories.find(("o", str(n)), WRAPPED, 0, kept.stored)]
    assert there[0] == 0
    assert 19 in there
    assert len(there) < 20
    histories.keep(("o", "0"), history(0, 100))
    assert histories.find(("o", "0"), WRAPPED, 0, kept.stored) is None
    assert histories._used == sum(size for _, size in histories._entries.values())


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each load has decrypted."""
    counts: list[int] = []
    open_each = DataKey.open_each

    def counting(self: DataKey, sealed: Any, kind: str, first: int) -> list[str]:
        texts = list(sealed)
        counts.append(len(texts))
        return open_each(self, texts, kind, first)

    monkeypatch.setattr(DataKey, "open_each", counting)
    return counts


async def add(store: SQLAlchemyStore, *numbers: int) -> None:
    await store.append("s", [{"n": number} for number in numbers])


async def numbers(store: SQLAlchemyStore, limit: int | None = None) -> list[int]:
    return [message["n"] for message in (await store.load("s", limit=limit)).messages]


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_a_load_decrypts_what_has_come_since(
    tmp_path: Path, opened: list[int], anyio_backend: str
) -> None:
    """Also of the newest messages only, after an edit, and not after the session was deleted."""
    url = f"sqlite:///{tmp_path}/s.db"
    store = SQLAlchemyStore(url, encryption=Keyring({"k1": ONE}, current="k1"))
    await add(store, 0, 1, 2)
    assert (await numbers(store), await numbers(store), opened) == ([0, 1, 2], [0, 1, 2], [3])
    await add(store, 3, 4)
    assert (await numbers(store), opened) == ([0, 1, 2, 3, 4], [3, 2])
    await add(store, 5)
    assert (await numbers(store, 4), opened) == ([2, 3, 4, 5], [3, 2, 1])
    await store.rewind("s", 4)
    await add(store, 6)
    assert (await numbers(store, 4), opened) == ([1, 2, 3, 6], [3, 2, 1, 4])
    other = SQLAlchemyStore(url, encryption=Keyring({"k1": ONE}, current="k1", cache_size=0))
    assert [await numbers(other), await numbers(other)] == [[0, 1, 2, 3, 6]] * 2
    assert opened == [3, 2, 1, 4, 5, 5]
    cached: Any = store._retrying
    assert "s" in str(cached._histories._entries)
    await store.delete("s")
    assert not cached._histories._entries
    await store.aclose()
    await other.aclose()
    with pytest.raises(ConfigurationError, match="negative"):
        Keyring({"k1": ONE}, current="k1", cache_size=-1)


def test_many_texts_are_opened_as_each_is() -> None:
    """Plain ones between are left, and one in a wrong place is refused."""
    _, key = Keyring({"k1": ONE}, current="k1").new_data_key("", "s")
    texts = [key.seal("a", "message\0" + "3"), "{}", key.seal("b", "message\0" + "5")]
    assert key.open_each(texts, "message", 3) == ["a", "{}", "b"]
    with pytest.raises(NotAuthentic):
        key.open_each(texts, "message", 2)
