"""Where an adapter keeps a conversation."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from hermes_session_mw import (
    HermesSession,
    InvalidKey,
    MemoryStore,
    MessageStore,
    NotSupported,
    OwnerRequired,
    SQLAlchemyStore,
    TurnLost,
)
from hermes_session_mw.adapters.target import Target

USER = {"role": "user", "content": "Hi"}
ANSWER = {"role": "assistant", "content": "Hello"}

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLAlchemyStore]:
    """A store over a SQLite file."""
    store = SQLAlchemyStore(f"sqlite:///{tmp_path}/target.db")
    yield store
    await store.aclose()


async def test_a_store_has_the_conversation_under_an_id_and_an_owner(
    store: SQLAlchemyStore,
) -> None:
    """What is written is the owner's, and another owner's target finds nothing."""
    target = Target(store, "a", "alice")
    assert (target.session_id, target.owner, target.fence) == ("a", "alice", None)
    assert await target.append([USER, ANSWER], expected_length=0) == 2
    assert await target.write(MessageStore.pop, 1) == [ANSWER]
    found = await target.read(MessageStore.load_range, limit=5)
    assert [each.message for each in found.messages] == [USER]
    assert (await Target(store, "a", "bob").read(MessageStore.load_range)).length == 0


async def test_an_id_with_a_lines_end_is_refused() -> None:
    """Such are the ids of what the adapters keep beside conversations."""
    with pytest.raises(InvalidKey):
        Target(MemoryStore(), "google_adk\nuser:shop")


async def test_a_session_brings_its_owner_its_key_and_its_lease(store: SQLAlchemyStore) -> None:
    """The first turn has the request's key as its id, and writes are refused without the lease."""
    session = HermesSession(store, "a", owner="alice", idempotency_key="k")
    target = Target(session)
    async with session.turn():
        assert (target.session_id, target.owner) == ("a", "alice")
        assert target.fence is not None
        await target.append([USER])
        await target.append([ANSWER])
        assert session.history == [USER, ANSWER]
        turn = await store.find_turn("a", "k", "alice")
        assert turn is not None
        assert turn.messages == [USER]
        await store.release("a", target.fence, "alice")
        await store.acquire("a", 60, "alice")
        with pytest.raises(TurnLost):
            await target.write(MessageStore.pop)
        with pytest.raises(TurnLost):
            await target.append([USER])
    assert target.fence is None


async def test_a_request_that_is_no_turn_stores_nothing() -> None:
    """What such a request appends is its own alone."""
    store = MemoryStore()
    await Target(HermesSession(store, "a", is_turn=False)).append([USER])
    assert (await store.load("a")).length == 0


async def test_an_unknown_owner_is_refused() -> None:
    """A session whose owner hook answered None keeps nothing."""
    target = Target(HermesSession(MemoryStore(), "a", owner=None))
    with pytest.raises(OwnerRequired):
        await target.read(MessageStore.load_range)


@pytest.mark.parametrize(
    ("args", "refused"),
    [
        ((MemoryStore(),), TypeError),
        ((MemoryStore(), ""), InvalidKey),
        ((MemoryStore(), "a", "o" * 256), InvalidKey),
        ((HermesSession(MemoryStore(), "a"), "a"), TypeError),
        ((HermesSession(MemoryStore(), "a"), None, "o"), TypeError),
    ],
)
def test_ids_are_checked_at_once(args: tuple[Any, ...], refused: type[Exception]) -> None:
    """An id that is missing, or cannot be stored, or is there twice, is refused."""
    with pytest.raises(refused):
        Target(*args)


def test_no_owner_is_an_empty_text() -> None:
    """None for an owner is refused, and the error says what to give."""
    with pytest.raises(InvalidKey, match='give "" for sessions without an owner'):
        Target(MemoryStore(), "a", None)  # type: ignore[arg-type]


async def test_what_a_store_lacks_is_named() -> None:
    """A store of three methods has no ``pop``."""

    class Three:
        load = append = aclose = None

    with pytest.raises(NotSupported, match="pop"):
        await Target(Three(), "a").write(MessageStore.pop)  # type: ignore[arg-type]


async def test_a_write_that_has_begun_ends(anyio_backend_name: str) -> None:
    """A task that is cancelled in a write is cancelled after it, and the write is whole."""
    begun, go = anyio.Event(), anyio.Event()

    class Slow(MemoryStore):
        async def append(self, *args: Any, **options: Any) -> int:
            begun.set()
            await go.wait()
            return await super().append(*args, **options)

    store = Slow()
    if anyio_backend_name == "trio":
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Target(store, "a").append, [USER])
            await begun.wait()
            tasks.cancel_scope.cancel()
            go.set()
    else:
        task = asyncio.create_task(Target(store, "a").append([USER]))
        await begun.wait()
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (await store.load("a")).length == 1
