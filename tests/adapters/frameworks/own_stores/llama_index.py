"""`SQLAlchemyChatStore` and `SimpleChatStore` of LlamaIndex, and ours."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.storage.chat_store import SimpleChatStore
from llama_index.core.storage.chat_store.base_db import AsyncDBChatStore

from hermes_session_mw import SQLAlchemyStore
from hermes_session_mw.adapters.llama_index import StoredChatStore
from tests.adapters.frameworks.own_stores.defect import Defect, plainly
from tests.adapters.frameworks.test_llama_index import add, ask, theirs, told


async def cut_set(store: AsyncDBChatStore) -> str:
    await add(store, "a")
    try:
        await store.set_messages("c", [ChatMessage(additional_kwargs={"x": object()})])
    except Exception:  # noqa: BLE001  # each has its own
        left = await told(store)
        return "the old messages" if left == ["a"] else "nothing" if not left else str(left)
    return "the new one"


async def order(store: AsyncDBChatStore) -> str:
    now = time.time_ns()
    for text, at in (("1", now), ("2", now - 10**9)):
        with patch.object(time, "time_ns", lambda at=at: at):
            await add(store, text)
    return ", ".join(map(str, await told(store)))


async def no_messages(store: AsyncDBChatStore) -> str:
    try:
        await store.add_messages("c", [])
    except Exception as exc:  # noqa: BLE001  # their driver's
        return f"`{type(exc).__name__}`"
    return "nothing happens"


async def values(store: AsyncDBChatStore) -> str:
    kept = {"bytes": b"\xff", "tuple": (1, 2)}
    await store.add_message("c", ChatMessage(content="q", additional_kwargs=kept))
    (found,) = await store.get_messages("c")
    kinds = " and ".join(f"a {type(each).__name__}" for each in found.additional_kwargs.values())
    return "come back" if found.additional_kwargs == kept else f"come back as {kinds}"


class Simple:
    """A conversation in LlamaIndex's own memory, which it writes to a file."""

    def __init__(self, folder: Path) -> None:
        self._path = str(folder / "theirs.json")
        self._store = SimpleChatStore()

    async def add(self, message: ChatMessage) -> None:
        self._store.add_message("c", message)

    async def read_again(self) -> list[ChatMessage]:
        self._store.persist(self._path)
        again = SimpleChatStore.from_persist_path(self._path)
        return list(again.get_messages("c"))


class Stored:
    """A conversation in ours."""

    def __init__(self, store: SQLAlchemyStore) -> None:
        self._store = StoredChatStore(store)
        self._again = StoredChatStore(store)

    async def add(self, message: ChatMessage) -> None:
        await self._store.add_message("c", message)

    async def read_again(self) -> list[ChatMessage]:
        return await self._again.get_messages("c")


async def written(place: Any) -> str:
    await place.add(ask("q"))
    try:
        again = await place.read_again()
    except Exception as exc:  # noqa: BLE001  # theirs
        return f"`{type(exc).__name__}`"
    return "comes back" if again == [ask("q")] else str(again)


@asynccontextmanager
async def own(folder: Path) -> AsyncIterator[AsyncDBChatStore]:
    store = theirs(folder)
    yield store
    if store._async_engine is not None:
        await store._async_engine.dispose()


SQL = partial(Defect, own=own, over=StoredChatStore, framework="LlamaIndex, `SQLAlchemyChatStore`")
DEFECTS = [
    SQL(
        "what is there after `set_messages` with one that cannot be stored",
        cut_set,
        theirs="nothing",
        ours="the old messages",
    ),
    SQL("message 1, and message 2 after the clock went back", order, theirs="2, 1", ours="1, 2"),
    SQL("`add_messages` with none", no_messages, theirs="`IntegrityError`", ours="nothing happens"),
    SQL(
        "bytes and a tuple in `additional_kwargs`",
        values,
        theirs="come back as a str and a list",
        ours="come back",
    ),
    Defect(
        "a conversation is written, and read by another object",
        written,
        theirs="`PydanticSerializationError`",
        ours="comes back",
        own=plainly(Simple),
        over=Stored,
        framework="LlamaIndex, `SimpleChatStore`",
    ),
]
