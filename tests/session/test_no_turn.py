"""A request that is no turn: it sees the conversation, and leaves no trace in it."""

from collections.abc import Awaitable, Callable

import pytest

from hermes_session_mw import HermesSession, HistoryNotLoaded, MemoryStore, SessionConflict
from hermes_session_mw.messages import Message

HELLO: Message = {"role": "user", "content": "hello"}
HI: Message = {"role": "assistant", "content": "hi"}
TITLE: Message = {"role": "user", "content": "Suggest a title."}
GREETING: Message = {"role": "assistant", "content": "Greeting"}


@pytest.fixture
async def store() -> MemoryStore:
    """A store with a conversation of one turn, which has been taken once."""
    store = MemoryStore()
    await store.append("id", [HELLO, HI], turn_id="key")
    await store.release("id", await store.acquire("id", 60))
    return store


def asking(store: MemoryStore) -> HermesSession:
    """Return the session of a request that is no turn, and has the key of one."""
    return HermesSession(store, "id", is_turn=False, idempotency_key="key")


async def append(session: HermesSession) -> None:
    assert await session.append(TITLE, GREETING, expected_length=2) == 4


async def append_before_loading(session: HermesSession) -> None:
    assert await asking_again(session).append(TITLE, GREETING) == 4
    await append(session)


def asking_again(session: HermesSession) -> HermesSession:
    """Return the session of another such request, which has not loaded anything."""
    return HermesSession(session._store, "id", is_turn=False)


async def append_twice(session: HermesSession) -> None:
    assert await session.append(TITLE) == 3
    assert session.prompt() == [HELLO, HI, TITLE]
    assert await session.append(GREETING) == 4


async def append_under_an_id(session: HermesSession) -> None:
    for _ in range(2):
        await session.load()
        assert await session.append(TITLE, GREETING, turn_id="key") == 4


async def record(session: HermesSession) -> None:
    async with session.record(TITLE) as answer:
        answer.write("Gree")
        answer.write("ting")


async def take_the_turn(session: HermesSession) -> None:
    async with session.turn() as turn:
        await turn.extend()
        await session.append(TITLE, GREETING)


WAYS = [
    append,
    append_before_loading,
    append_twice,
    append_under_an_id,
    record,
    take_the_turn,
]


@pytest.mark.parametrize("way", WAYS)
async def test_nothing_is_stored(
    store: MemoryStore, way: Callable[[HermesSession], Awaitable[None]]
) -> None:
    """Whichever way an endpoint stores its answer, only its own session object has it."""
    before = await store.export("id"), await store.info("id")
    session = asking(store)
    await session.load()
    await way(session)
    assert session.history == [HELLO, HI, TITLE, GREETING]
    assert session.length == 4
    assert (await store.export("id"), await store.info("id")) == before


async def test_a_replacement_is_seen_and_not_stored(store: MemoryStore) -> None:
    """The history is as if it were replaced; where there is too little to keep it is a conflict."""
    session = asking(store)
    await session.load()
    assert await session.append(TITLE, GREETING, replace_from=0) == 2
    assert session.history == [TITLE, GREETING]
    with pytest.raises(SessionConflict):
        await session.append(HI, replace_from=3)
    assert (await store.load("id")).messages == [HELLO, HI]


async def test_it_neither_waits_nor_keeps_others_waiting(store: MemoryStore) -> None:
    """While a turn is taken it enters at once; and it takes nothing that others want."""
    session = asking(store)
    async with HermesSession(store, "id").turn(wait=0) as held, session.turn(wait=0) as turn:
        assert await turn.acquire() is turn
        assert session.length == 2
        assert turn.fence == 0
        await held.extend()
    async with asking(store).turn(), HermesSession(store, "id").turn(wait=0):
        pass


async def test_it_is_no_repetition(store: MemoryStore) -> None:
    """The turn that its key has stored is another request's, and is found by its name alone."""
    session = asking(store)
    await session.load()
    assert await session.find_turn() is None
    found = await session.find_turn("key")
    assert found is not None
    assert found.messages == [HELLO, HI]


async def test_a_new_conversation_stays_unknown() -> None:
    """Nothing is stored under a minted id either, and editing needs a history as always."""
    store = MemoryStore()
    session = HermesSession(store, "new", is_new=True, is_turn=False)
    assert await session.append(TITLE, GREETING) == 2
    assert not (await store.load("new")).exists
    with pytest.raises(HistoryNotLoaded):
        _ = asking(store).history
