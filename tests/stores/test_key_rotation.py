"""A key leads to its session under whatever id that has, from before the first message on."""

import pytest

from hermes_session_mw import LifecycleStore, MemoryStore, SQLAlchemyStore

HELLO = {"role": "user", "content": "hello"}


def stores(sqlite_url: str) -> list[LifecycleStore]:
    """A store without a database, and one with."""
    return [MemoryStore(), SQLAlchemyStore(sqlite_url)]


@pytest.mark.parametrize("index", [0, 1])
async def test_a_key_follows_a_session_that_is_rotated_before_its_first_message(
    index: int, sqlite_url: str
) -> None:
    """What is appended under the new id is found by the key, as if it had been there before."""
    store = stores(sqlite_url)[index]
    await store.bind_key("channel 7", "old", "ada")
    assert not await store.rotate("old", "new", "ada")
    await store.append("new", [HELLO], "ada")
    assert await store.bind_key("channel 7", "other", "ada") == "new"
    await store.aclose()


@pytest.mark.parametrize("index", [0, 1])
async def test_a_key_does_not_follow_to_another_owner(index: int, sqlite_url: str) -> None:
    """Neither with messages nor without: it leads nowhere then, and the new owner has none."""
    store = stores(sqlite_url)[index]
    for key, messages in (("empty", []), ("begun", [HELLO])):
        await store.bind_key(key, key, "guest")
        if messages:
            await store.append(key, messages, "guest")
        assert await store.rotate(key, f"new-{key}", "guest", "ada") == bool(messages)
        assert await store.find_key(key, "guest") is None
        assert await store.find_key(key, "ada") is None
    await store.aclose()
