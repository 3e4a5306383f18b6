"""A turn's messages are encoded once, and a store that changes them is given the messages alone."""

from collections.abc import Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from hermes_session_mw import HermesSession, MemoryStore, SQLAlchemyStore
from hermes_session_mw.messages import EncodedMessages, Message
from hermes_session_mw.stores.base import may_give_encoded
from hermes_session_mw.testing.helpers import numbered

STORES = [MemoryStore, SQLAlchemyStore]


def blacken(messages: Sequence[Message]) -> Sequence[Message]:
    """Change the messages where they are."""
    for message in messages:
        message["content"] = "..."
    return messages


class Overriding(SQLAlchemyStore):
    """Changes messages in a method of its own."""

    async def append(
        self, session_id: str, messages: Sequence[Message], *args: Any, **more: Any
    ) -> int:
        """Store other texts."""
        assert type(messages) is list
        return await super().append(session_id, blacken(messages), *args, **more)


def wrapping(store: SQLAlchemyStore) -> SQLAlchemyStore:
    """Change messages in a function in place of the method, which has its name and attributes."""
    append = store.append

    @wraps(append)
    async def blackening(
        session_id: str, messages: Sequence[Message], *args: Any, **more: Any
    ) -> int:
        assert type(messages) is list
        return await append(session_id, blacken(messages), *args, **more)

    store.append = blackening  # type: ignore[method-assign]
    return store


class Delegating:
    """Has another store's methods."""

    def __init__(self, store: SQLAlchemyStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.mark.parametrize("make", [Overriding, lambda url: wrapping(SQLAlchemyStore(url))])
async def test_a_store_that_changes_messages_stores_what_it_makes_of_them(
    tmp_path: Path, make: Any
) -> None:
    """Texts that were encoded before are not stored in place of changed messages."""
    store = make(f"sqlite:///{tmp_path}/sessions.db")
    question = {"role": "user", "content": "secret"}
    await HermesSession(store, "id").append(question)
    assert (await store.load("id")).messages == [{"role": "user", "content": "..."}]
    assert question["content"] == "secret"
    await store.aclose()


@pytest.mark.parametrize("kind", STORES)
def test_stores_of_our_own_take_texts(kind: Any) -> None:
    """Also behind an object that hands on all their methods."""
    assert may_give_encoded(kind().append)
    assert may_give_encoded(Delegating(kind()).append)


@pytest.mark.parametrize("kind", STORES)
async def test_what_is_appended_is_what_is_loaded(kind: Any, tmp_path: Path) -> None:
    """The session's own history is that of the store, and neither changes with the caller's."""
    store = kind() if kind is MemoryStore else kind(f"sqlite:///{tmp_path}/sessions.db")
    session = HermesSession(store, "id", is_new=True)
    turn: list[Message] = [*numbered(0), {"role": "assistant", "content": None, "n": [2**70, -0.0]}]
    await session.append(*turn)
    kept = repr(turn)
    turn[1]["n"].append("later")
    assert repr(session.history) == kept
    assert repr((await store.load("id")).messages) == kept
    assert not isinstance(session.history, EncodedMessages)
    await store.aclose()
