"""The session of a client that sends its whole conversation and no id."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_session_mw import (
    ConfigurationError,
    HermesSession,
    MemoryStore,
    OwnerRequired,
    ResponseStarted,
    SQLAlchemyStore,
    StoreUnavailable,
    mint_session_id,
)
from hermes_session_mw.messages import Message
from hermes_session_mw.session import derived_ids as module
from hermes_session_mw.session import new_messages
from hermes_session_mw.session.derived_ids import MOST, Told, derived_ids, goes_on
from hermes_session_mw.session.new_messages import find_new, is_same, meaning_of
from hermes_session_mw.session.store_client import StoreClient
from hermes_session_mw.testing.helpers import new_id

CALL = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
MESSAGES: dict[str, Message] = {
    **{letter: {"role": "user", "content": f"I say {letter}"} for letter in "uvwes"},
    **{letter: {"role": "assistant", "content": f"I answer {letter}"} for letter in "ab"},
    "i": {"role": "assistant", "content": "I broke", "status": "incomplete"},
    "j": {"role": "assistant", "content": "I br"},
    "c": {"role": "assistant", "content": None, "tool_calls": [CALL]},
    "r": {"role": "tool", "tool_call_id": "c1", "content": "12:00"},
}
SYSTEM = {"role": "system", "content": "Be brief."}


def spelt(letters: str) -> list[Message]:
    return [MESSAGES[letter] for letter in letters if letter != "-"]


def cases() -> list[Any]:
    """Return the rows of the module's table."""
    table = (module.__doc__ or "").split("    stored  told")[1]
    rows = [line.split() for line in table.splitlines()[1:] if line.strip()]
    return [pytest.param(*row[:3], id="-".join(row[:2])) for row in rows]


@pytest.mark.parametrize(("stored", "told", "is_it"), cases())
def test_the_table_of_cases(stored: str, told: str, is_it: str) -> None:
    """Every row of the table at the module's head is what is compared."""
    assert goes_on(spelt(stored), Told.of([SYSTEM, *spelt(told)])) is (is_it == "yes")


@given(st.text("uvabi", max_size=5), st.text("uvabj", min_size=1, max_size=6))
def test_nothing_is_gone_on_with_that_the_client_does_not_know(stored: str, told: str) -> None:
    """A stored message that the client does not tell is an answer that broke off, or a summary."""
    known = [letter for letter in stored if letter != "i"]
    if stored and goes_on(spelt(stored), Told.of(spelt(told))) and stored[0] == told[0]:
        new = find_new(spelt(stored), spelt(told))
        whole = [*spelt(stored)[: new.keep], *new.asked]
        assert [each for each in whole if each in map(MESSAGES.get, known)] == [
            each for each in spelt(told) if each in map(MESSAGES.get, known)
        ]


def test_an_id_stays_the_same() -> None:
    """Stored conversations are found by it after an update of the package."""
    (first, *others) = derived_ids("ada", None, spelt("uav"))
    assert first == ("derived-12f9c8cfa28d09cc732131a9ef30ffbe15d2d5dd5e69d6d0e3b80c6500f0bc2f")
    assert len({first, *others}) == MOST
    parts = [{"type": "text", "text": "I say u"}]
    told: list[Message] = [SYSTEM, {"role": "user", "content": parts}]
    assert next(derived_ids("ada", None, told)) == first
    assert first not in derived_ids("bob", None, spelt("u"))
    assert first not in derived_ids("ada", "scope", spelt("u"))
    assert list(derived_ids("ada", None, spelt("ar"))) == []


@pytest.fixture(params=["memory", "sqlite", "postgres", "mysql"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """A store over each kind of database."""
    if request.param == "memory":
        store: Any = MemoryStore()
    else:
        store = SQLAlchemyStore(request.getfixturevalue(f"{request.param}_url"), timeout=60)
    yield store
    await store.aclose()


@pytest.fixture
def memory() -> MemoryStore:
    """A store in memory."""
    return MemoryStore()


def fresh(store: Any, owner: str | None = "ada", **options: Any) -> HermesSession:
    """Return the session of a request that names none."""
    return HermesSession(store, mint_session_id(), owner=owner, is_new=True, **options)


async def ask(store: Any, letters: str, owner: str = "ada", **options: Any) -> str:
    """Tell a conversation, have its end answered by "a", and return the session's id."""
    session, told = fresh(store, owner, **options), spelt(letters)
    await session.derive(told)
    async with session.turn(lease=60, wait=30):
        turn = await session.find_turn(told=told)
        if turn is None:
            new = session.new_messages(told)
            answer = session.record(
                *new.messages, replace_from=new.replace_from, begun=new.begun, digest=letters
            )
            async with answer:
                answer.write("I answer a")
    return session.id


async def stored(store: Any, session_id: str, owner: str = "ada") -> list[Message]:
    history = await store.load(session_id, owner)
    return list(history.messages)


async def test_four_turns_are_one_session(store: Any) -> None:
    """A client that sends its whole conversation continues it, though it sends no id."""
    owner = new_id()
    ids = {await ask(store, letters, owner) for letters in ("u", "uav", "uavaw", "uavawav")}
    assert len(ids) == 1
    history = await stored(store, ids.pop(), owner)
    assert [message["content"] for message in history[::2]] == [
        f"I say {letter}" for letter in "uvwv"
    ]
    assert len(history) == 8


async def test_two_conversations_with_one_beginning_stay_two(store: Any) -> None:
    """Each goes on by itself, and neither has a message of the other."""
    owner = new_id()
    first, second = await ask(store, "u", owner), await ask(store, "u", owner)
    assert first != second
    assert await ask(store, "uav", owner) == first  # they are equal, so that it may be either
    assert await ask(store, "uaw", owner) == second
    assert await ask(store, "uavav", owner) == first
    assert await ask(store, "uawav", owner) == second
    for session_id, letters in (first, "uavava"), (second, "uawava"):
        history = await stored(store, session_id, owner)
        assert len(history) == 6
        assert all(map(is_same, history, spelt(letters)))


async def test_another_owner_has_other_sessions(store: Any) -> None:
    """The same conversation of another owner is another one, and reads nothing of the first."""
    ada, bob = new_id(), new_id()
    first = await ask(store, "u", ada)
    second = await ask(store, "uav", bob)
    assert first != second
    assert await stored(store, first, bob) == []
    assert len(await stored(store, first, ada)) == 2


async def test_an_edit_begins_another(memory: MemoryStore) -> None:
    """A conversation whose history differs is stored by itself; the first one can be continued."""
    first = await ask(memory, "u")
    assert await ask(memory, "uav") == first
    edited, anew = await ask(memory, "uaw"), await ask(memory, "uav")
    assert len({first, edited, anew}) == 3
    assert len(await stored(memory, edited)) == len(await stored(memory, anew)) == 4
    assert await ask(memory, "uawav") == edited
    assert len(await stored(memory, first)) == 4


async def test_a_retry_without_a_key_goes_on_with_what_broke_off(memory: MemoryStore) -> None:
    """A question that was never answered completely is not another conversation."""
    first = next(derived_ids("ada", None, spelt("u")))
    await memory.append(first, spelt("ui"), "ada")
    assert await ask(memory, "u") == first
    assert [each.get("status") for each in await stored(memory, first)] == [None, None]


async def test_a_retry_with_a_key_finds_its_answer(store: Any) -> None:
    """A repeated request finds the session that its first attempt was stored in, also later."""
    owner = new_id()
    other = await ask(store, "u", owner)
    first = await ask(store, "u", owner, idempotency_key="k1")
    again = [await ask(store, "u", owner, idempotency_key="k1")]
    assert await ask(store, "uav", owner) == other
    assert await ask(store, "uaw", owner, idempotency_key="k2") == first
    again += [await ask(store, "u", owner, idempotency_key="k1")]
    assert {first} == set(again)
    assert len(await stored(store, first, owner)) == 4


async def test_a_turn_may_have_another_id_than_the_key(memory: MemoryStore) -> None:
    """An endpoint that names its turns otherwise says how."""
    for _ in range(2):
        session = fresh(memory, idempotency_key="k")
        await session.derive(spelt("u"), turn_id="turn-k")
        if await session.find_turn("turn-k") is None:
            await session.append(*spelt("ua"), turn_id="turn-k")
    assert len(await stored(memory, session.id)) == 2


async def fill(store: Any, owner: str) -> None:
    """Store as many conversations that begin with "u" as can be told apart."""
    for session_id in derived_ids(owner, None, spelt("u")):
        await store.append(session_id, spelt("uav"), owner)


@pytest.mark.parametrize("stored_before", ["-", "u", "full"])
async def test_a_retry_finds_its_session_after_a_rotation(store: Any, stored_before: str) -> None:
    """The key leads to the session also under its next id, and however many begin alike."""
    owner = new_id()
    if stored_before == "full":
        await fill(store, owner)
    elif stored_before == "u":
        await ask(store, "u", owner)
    first = await ask(store, "u", owner, idempotency_key="k")
    assert await ask(store, "u", owner, idempotency_key="k") == first
    rotated = await HermesSession(store, first, owner=owner).rotate()
    assert await ask(store, "u", owner, idempotency_key="k") == rotated
    assert await ask(store, "u", new_id(), idempotency_key="k") not in (first, rotated)
    assert len(await stored(store, rotated, owner)) == 2


async def test_a_retry_finds_its_session_where_an_earlier_one_is_free_again(store: Any) -> None:
    """An id that another conversation has left does not stand before the key's own."""
    owner = new_id()
    other = await ask(store, "u", owner)
    first = await ask(store, "u", owner, idempotency_key="k")
    await HermesSession(store, other, owner=owner).rewind(0)
    assert await ask(store, "u", owner, idempotency_key="k") == first
    assert await ask(store, "u", owner) == other


async def test_equal_requests_at_once_are_one(store: Any) -> None:
    """Of requests with one key, each but the first waits, and finds the first one's answer."""
    owner, ids = new_id(), []
    await fill(store, owner)

    async def begin() -> None:
        ids.append(await ask(store, "u", owner, idempotency_key="k"))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(begin)
    assert len(set(ids)) == 1
    assert len(await stored(store, ids[0], owner)) == 2


async def test_a_key_that_leads_elsewhere_is_bound_anew(memory: MemoryStore) -> None:
    """Where its session has become another conversation, a request is stored by itself."""
    first = next(derived_ids("ada", None, spelt("u")))
    session = fresh(memory, idempotency_key="k")
    await session.derive(spelt("u"))
    assert session.id == first
    await memory.append(first, spelt("ub"), "ada")
    second = await ask(memory, "u", idempotency_key="k")
    assert second != first
    await HermesSession(memory, second, owner="ada").rotate()
    assert await ask(memory, "u", idempotency_key="k") not in (first, second)
    assert len((await memory.list("ada")).sessions) == 2


async def test_equal_keys_of_other_beginnings_do_not_meet(memory: MemoryStore) -> None:
    """A client may count its requests in each conversation."""
    first = await ask(memory, "u", idempotency_key="k")
    second = await ask(memory, "v", idempotency_key="k")
    assert await ask(memory, "u", idempotency_key="k") == first != second


def test_an_empty_answer_at_the_end_is_none() -> None:
    """Some clients put it there for the answer to come."""
    empty: Message = {"role": "assistant", "content": ""}
    assert goes_on([], Told.of([*spelt("u"), empty]))
    assert goes_on(spelt("ua"), Told.of([*spelt("uav"), empty]))
    assert not goes_on([], Told.of(spelt("uc")))
    assert not goes_on([], Told.of([SYSTEM]))


def test_what_is_compared_depends_on_what_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long request is not read again for each conversation that begins alike."""
    calls: list[Message] = []

    def counting(message: Message) -> str:
        calls.append(message)
        return meaning_of(message)

    told = Told.of([*spelt("uavaw"), *spelt("av") * 10_000])
    monkeypatch.setattr(new_messages, "meaning_of", counting)
    for letters in "ua", "ub", "uavb", "wavb", "uavaw" + "av" * 20 + "b":
        assert not goes_on(spelt(letters), told)
    assert goes_on(spelt("savavava"), told)
    assert len(calls) < 200


async def test_two_first_requests_at_once_are_two(store: Any) -> None:
    """The one that had to wait for the other's turn looks again, and is another conversation."""
    owner, ids = new_id(), []

    async def begin() -> None:
        ids.append(await ask(store, "u", owner))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(begin)
    assert len(set(ids)) == 3
    assert [len(await stored(store, each, owner)) for each in ids] == [2, 2, 2]


async def test_two_retries_at_once_are_one_turn_each(memory: MemoryStore) -> None:
    """What broke off is replaced by one of them, though the length is the same afterwards."""
    first = next(derived_ids("ada", None, spelt("u")))
    await memory.append(first, spelt("ui"), "ada")
    sessions = [fresh(memory), fresh(memory)]
    for session in sessions:
        await session.derive(spelt("u"))
        assert session.id == first
    async with sessions[0].turn():
        await sessions[0].append(*spelt("ua"), replace_from=0)
    async with sessions[1].turn():
        assert (sessions[1].id == first, sessions[1].history) == (False, [])
        await sessions[1].append(*spelt("ua"))
    async with sessions[1].turn():  # its own turn is nobody else's
        assert sessions[1].length == 2


async def test_a_compacted_conversation_is_gone_on_with(memory: MemoryStore) -> None:
    """The summary stands for its beginning, which the client still sends."""
    first = await ask(memory, "u")
    session = HermesSession(memory, first, owner="ada")
    assert await ask(memory, "uav") == await ask(memory, "uavaw") == first
    await session.load()
    await session.compact(keep=4, summary=spelt("s"))
    assert await ask(memory, "uavawau") == first
    assert all(map(is_same, await stored(memory, first), spelt("svawaua")))


async def test_a_deleted_conversation_is_not_gone_on_with(memory: MemoryStore) -> None:
    """Its id is passed over."""
    first = await ask(memory, "u")
    await memory.delete(first, "ada")
    second = await ask(memory, "u")
    assert first != second
    assert await ask(memory, "uav") == second


async def test_more_conversations_than_ids(memory: MemoryStore) -> None:
    """Beyond the bound a conversation is a new one each time, as without derived ids."""
    for session_id in derived_ids("ada", None, spelt("u")):
        await memory.append(session_id, spelt("uav"), "ada")
    session = fresh(memory)
    minted = session.id
    await session.derive(spelt("u"))
    assert (session.id, session.is_new) == (minted, True)


async def test_the_last_id_is_lost_to_another(memory: MemoryStore) -> None:
    """A request that is overtaken at the bound goes on in a session of its own."""
    *ids, last = derived_ids("ada", None, spelt("u"))
    for session_id in ids:
        await memory.append(session_id, spelt("uav"), "ada")
    session = fresh(memory)
    await session.derive(spelt("u"))
    assert session.id == last
    await memory.append(last, spelt("ua"), "ada")
    async with session.turn():
        assert session.id not in (*ids, last)
        assert (session.is_new, session.history) == (True, [])


@pytest.mark.parametrize("options", [{"is_new": False}, {"key": "mine"}])
async def test_a_session_that_is_named_is_not_derived(
    memory: MemoryStore, options: dict[str, Any]
) -> None:
    """An id or a key of the client's own counts."""
    session = HermesSession(memory, "mine", owner="", **{"is_new": True, **options})
    await session.derive(spelt("u"))
    assert session.id == "mine"


@pytest.mark.parametrize("idempotency_key", [None, "k"])
async def test_what_is_no_turn_continues_what_is_stored(
    memory: MemoryStore, idempotency_key: str | None
) -> None:
    """It is led to the conversation that it tells, and to no id under which nothing is stored."""
    first, *_ = derived_ids("ada", None, spelt("u"))
    await memory.append(first, spelt("ua"), "ada", turn_id=idempotency_key)
    for told, found in (("uav", True), ("u", False), ("ubv", False), ("v", False)):
        session = HermesSession(
            memory, "minted", owner="ada", is_new=True, is_turn=False,
            idempotency_key=idempotency_key,
        )  # fmt: skip
        await session.derive(spelt(told))
        async with session.turn():
            assert session.history == (spelt("ua") if found else [])
        assert (session.id, session.is_new) == ((first, False) if found else ("minted", True))
    assert repr(memory) == "<MemoryStore (1 sessions)>"


async def test_what_tells_no_beginning_is_not_derived(memory: MemoryStore) -> None:
    """Without a message of the user the session is a new one."""
    session = fresh(memory)
    await session.derive(spelt("a"))
    assert session.is_new


async def test_no_owner_has_no_derived_session(memory: MemoryStore) -> None:
    """Without owners, everybody who says "Hi" would be led to one conversation."""
    with pytest.raises(ConfigurationError, match="owner"):
        await fresh(memory, "").derive(spelt("u"))
    with pytest.raises(OwnerRequired):
        await fresh(memory, None).derive(spelt("u"))
    told = fresh(memory)
    told.is_told = True
    with pytest.raises(ResponseStarted):
        await told.derive(spelt("u"))


class Failing(MemoryStore):
    """A store that cannot be read."""

    async def load(self, *_: Any, **__: Any) -> Any:
        raise StoreUnavailable("gone")


async def test_a_store_that_fails_leaves_a_new_session() -> None:
    """Where it is unknown what is stored nothing is continued; or the failure is raised."""
    session = fresh(StoreClient(Failing(), degrade=True))
    await session.derive(spelt("u"))
    assert session.is_new
    with pytest.raises(StoreUnavailable):
        await fresh(Failing()).derive(spelt("u"))


class Keyless(MemoryStore):
    """A store whose keys cannot be read."""

    async def find_key(self, *_: Any, **__: Any) -> Any:
        raise StoreUnavailable("gone")

    bind_key = find_key


async def test_keys_that_fail_leave_the_search() -> None:
    """Where it is unknown where a key leads, the conversations are compared; or it is raised."""
    session = fresh(StoreClient(Keyless(), degrade=True), idempotency_key="k")
    await session.derive(spelt("u"))
    assert session.id == next(derived_ids("ada", None, spelt("u")))
    with pytest.raises(StoreUnavailable):
        await fresh(Keyless(), idempotency_key="k").derive(spelt("u"))


class Late(MemoryStore):
    """A store in which an equal request comes first, and is answered meanwhile."""

    first = ""

    async def bind_key(self, *args: Any, **options: Any) -> Any:
        """Answer it before the first key is bound."""
        if not self.first:
            self.first = "asked"
            self.first = await ask(self, "u", idempotency_key="k")
        return await super().bind_key(*args, **options)


async def test_an_equal_request_that_comes_first_is_found() -> None:
    """Beyond the bound too, where each would have had a session of its own."""
    store = Late()
    for session_id in derived_ids("ada", None, spelt("u")):
        await store.append(session_id, spelt("uav"), "ada")
    assert await ask(store, "u", idempotency_key="k") == store.first
    assert len(await stored(store, store.first)) == 2


class Plain:
    """A store of three methods."""

    def __init__(self, store: MemoryStore) -> None:
        self.load, self.append, self.aclose = store.load, store.append, store.aclose


async def test_a_store_without_turns_derives_ids_too(memory: MemoryStore) -> None:
    """A key is of no use in it, and the messages alone are compared."""
    ids = []
    for letters in "u", "uav", "u":
        session = fresh(Plain(memory), idempotency_key=letters)
        await session.derive(spelt(letters))
        await session.append(*session.new_messages(spelt(letters)).messages, *spelt("a"))
        ids.append(session.id)
    assert ids[0] == ids[1] != ids[2]
