"""Rewinding, compacting, forking and rotating a request's session."""

import math
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import pytest

from hermes_session_mw import (
    HermesSession,
    HermesSessionMiddleware,
    HistoryNotLoaded,
    InvalidMessage,
    MemoryStore,
    MessageTooLarge,
    NotSupported,
    OwnerRequired,
    ResponseStarted,
    SessionConflict,
    SessionDeleted,
    SessionNotFound,
    SQLAlchemyStore,
    StoreTimeout,
    StoreUnavailable,
    TurnConflict,
)
from hermes_session_mw.session.store_client import StoreClient
from hermes_session_mw.testing.helpers import numbered
from tests.support.asgi import HEADER, Recorder, http_scope, request, stamp
from tests.support.conversations import message_of

SUMMARY = [{"summary": True}]


async def stored(store: MemoryStore, count: int = 5, **options: Any) -> HermesSession:
    """Return a loaded session with so many messages, each a turn of its own."""
    for number in range(count):
        await store.append("id", numbered(number))
    session = HermesSession(StoreClient(store, **options), "id")
    await session.load()
    return session


async def test_a_rewind_shows_in_the_history() -> None:
    """The tail is gone from the history at once, and kept in the archive."""
    store = MemoryStore()
    session = await stored(store)
    assert await session.rewind(3) == 3
    assert (session.history, session.length) == (numbered(0, 3), 3)
    assert await session.append({"n": "new"}) == 4
    assert (await store.load("id")).messages == [*numbered(0, 3), {"n": "new"}] == session.history
    assert [old.message for old in await store.archived("id")] == numbered(3, 2)


async def test_a_rewind_to_more_than_there_is_changes_nothing() -> None:
    """A rewind only shortens; it returns the length that there is."""
    session = await stored(MemoryStore())
    assert await session.rewind(9) == 5
    assert session.history == numbered(0, 5)


@pytest.mark.parametrize(("length", "left"), [(4, [3]), (3, []), (1, [])])
async def test_a_rewind_of_what_was_loaded_in_part(length: int, left: list[int]) -> None:
    """Of a history that was loaded in part, the loaded part is shortened by as much."""
    session = await stored(MemoryStore(), limit=2)
    assert await session.rewind(length) == length
    assert (session.history, session.length) == ([{"n": n} for n in left], length)


async def test_a_rewind_before_the_load_is_seen_by_the_load() -> None:
    """Rewinding needs no history."""
    store = MemoryStore()
    await stored(store)
    session = HermesSession(store, "id")
    assert await session.rewind(1) == 1
    with pytest.raises(HistoryNotLoaded):
        _ = session.history
    assert await session.load() == numbered(0)


async def test_a_replacement_shows_in_the_history() -> None:
    """The turn stands in the place of the rest at once, which is kept in the archive."""
    store = MemoryStore()
    session = await stored(store)
    assert await session.append({"n": "a"}, {"n": "b"}, replace_from=3) == 5
    assert (session.history, session.length) == ([*numbered(0, 3), {"n": "a"}, {"n": "b"}], 5)
    assert (await store.load("id")).messages == session.history
    assert await session.append({"n": "c"}, turn_id="t", replace_from=1, expected_length=5) == 2
    assert (session.history, session.length) == ([*numbered(0), {"n": "c"}], 2)
    assert [old.reason for old in await store.archived("id")] == ["replace"] * 6
    new = HermesSession(store, "new", is_new=True)
    assert await new.append(*numbered(0), replace_from=0) == 1
    assert new.history == numbered(0)


@pytest.mark.parametrize(
    ("keep", "left"), [(5, [3, 4, "x"]), (4, [3, "x"]), (3, ["x"]), (1, ["x"]), (0, ["x"])]
)
async def test_a_replacement_in_what_was_loaded_in_part(keep: int, left: list[Any]) -> None:
    """Of a history that was loaded in part, the loaded part is what stands at its end."""
    store = MemoryStore()
    session = await stored(store, limit=2)
    assert await session.append({"n": "x"}, replace_from=keep) == keep + 1
    assert (session.history, session.length) == ([{"n": n} for n in left], keep + 1)
    assert (await store.load("id", limit=len(left))).messages == session.history


async def test_a_replacement_before_the_load_is_seen_by_the_load() -> None:
    """Replacing needs no history."""
    store = MemoryStore()
    await stored(store)
    session = HermesSession(store, "id")
    assert await session.append({"n": "x"}, turn_id="t", replace_from=1) == 2
    with pytest.raises(HistoryNotLoaded):
        _ = session.history
    assert await session.load() == [*numbered(0), {"n": "x"}]


async def test_a_replacement_after_others_appended() -> None:
    """What others stored meanwhile is not in the history, and a condition on its length says so."""
    store = MemoryStore()
    session = await stored(store, count=2)
    await store.append("id", numbered(2, 2))
    assert await session.append({"n": "x"}, replace_from=3) == 4
    assert (session.history, session.length) == ([*numbered(0, 2), {"n": "x"}], 3)
    with pytest.raises(SessionConflict):
        await session.append({"n": "y"}, expected_length=session.length)


@pytest.mark.parametrize("limit", [None, 3, 2, 1])
async def test_a_repeated_replacement_leaves_what_came_after_it(limit: int | None) -> None:
    """A repetition stores nothing, so that the turns behind the first one stay in the history."""
    store = MemoryStore()
    session = await stored(store, count=2)
    await session.append({"n": "x"}, turn_id="t", replace_from=1)
    await session.append({"n": "y"})
    late = HermesSession(StoreClient(store, limit=limit), "id")
    await late.load()
    assert await late.append({"n": "x"}, turn_id="t", replace_from=1) == 2
    seen = HermesSession(StoreClient(store, limit=limit), "id")
    assert (late.history, late.length) == (await seen.load(), 3)


async def test_a_replacement_by_the_same_messages_is_one() -> None:
    """Asked and answered as before, the conversation ends there, and the rest is archived."""
    store = MemoryStore()
    session = await stored(store)
    assert await session.append(*numbered(2), turn_id="t", replace_from=2) == 3
    assert (session.history, session.length) == (numbered(0, 3), 3)
    assert len(await store.archived("id")) == 3


async def test_a_replacement_is_done_where_nobody_can_look_at_it() -> None:
    """Where the store fails right after it, the history is what was asked for."""
    store = MemoryStore()
    session = await stored(store)

    async def fails(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("down")

    store.load = fails  # type: ignore[method-assign]
    assert await session.append(*numbered(2), turn_id="t", replace_from=2) == 3
    assert (session.history, session.length) == (numbered(0, 3), 3)


async def test_a_compaction_shows_in_the_history() -> None:
    """The summary stands where the older part was, under the same id."""
    store = MemoryStore()
    session = await stored(store)
    await store.append("id", [{"n": "of another"}])
    assert await session.compact(keep=2, summary=SUMMARY) == 4
    assert (session.history, session.length) == ([*SUMMARY, *numbered(3, 2)], 3)
    kept = [*SUMMARY, *numbered(3, 2), {"n": "of another"}]
    assert (await store.load("id")).messages == kept == await session.load()
    assert [old.message for old in await store.archived("id")] == numbered(0, 3)


@pytest.mark.parametrize(
    ("keep", "seen"),
    [
        (0, SUMMARY),
        (1, [*SUMMARY, {"n": 4}]),
        (2, [*SUMMARY, {"n": 3}, {"n": 4}]),
        (4, [{"n": 3}, {"n": 4}]),
    ],
)
async def test_a_compaction_of_what_was_loaded_in_part(keep: int, seen: list[Any]) -> None:
    """The part that was not loaded is replaced with the rest of what is not to be kept."""
    store = MemoryStore()
    session = await stored(store, limit=2)
    assert await session.compact(keep=keep, summary=SUMMARY) == keep + 1
    assert (session.history, session.length) == (seen, keep + 1)
    assert (await store.load("id")).messages == [*SUMMARY, *numbered(5 - keep, keep)]


COMPACTIONS = [
    # a history, its history_limit, how many messages are to be kept, and which are
    ("ucraua", None, 4, "ua"), ("ucraua", None, 1, "ua"), ("uaucraua", None, 4, "ucraua"),
    ("ucracra", None, 3, "cra"), ("ucracra", None, 2, "cra"), ("ua" * 9 + "ucraua", 3, 4, "ucraua"),
    ("ua" * 99 + "ucra", 2, 6, "uaucra"), ("ucra", None, 0, ""), ("sucraua", None, 5, "ua"),
    ("u" + "cr" * 99, 4, 8, "cr" * 4), ("u" + "cr" * 99, 4, 9, "cr" * 5),
]  # fmt: skip


@pytest.mark.parametrize(("letters", "limit", "keep", "kept"), COMPACTIONS)
async def test_a_compaction_keeps_calls_with_their_results(
    letters: str, limit: int | None, keep: int, kept: str
) -> None:
    """What is kept is rounded to whole turns, also where they are not loaded."""
    store = MemoryStore()
    await store.append("id", [message_of(letter) for letter in letters])
    session = HermesSession(StoreClient(store, limit=limit), "id")
    await session.load()
    assert await session.compact(keep=keep, summary=SUMMARY) == 1 + len(kept)
    left = [*SUMMARY, *(message_of(letter) for letter in kept)]
    assert (await store.load("id")).messages == left
    assert session.length == len(left)
    assert session.history == left[len(left) - len(session.history) :]


async def test_a_compaction_of_results_alone() -> None:
    """Where a history cannot be cut at all nothing is changed, and that is told."""
    store = MemoryStore()
    await store.append("id", [message_of(letter) for letter in "crr"])
    session = HermesSession(store, "id")
    await session.load()
    with pytest.raises(ValueError, match="parts a call"):
        await session.compact(keep=1, summary=SUMMARY)
    assert (await store.load("id")).length == 3


async def test_a_compaction_of_turns_that_are_gone() -> None:
    """Where turns that are not loaded were rewound meanwhile, it replaces nothing."""
    store = MemoryStore()
    session = await stored(store, limit=2)
    await store.rewind("id", 3)
    with pytest.raises(SessionConflict):
        await session.compact(keep=4, summary=SUMMARY)
    assert (await store.load("id")).length == 3


@pytest.mark.parametrize("keep", [-1, 5, 6])
async def test_a_compaction_has_to_replace_something(keep: int) -> None:
    """Keeping all that there is, or less than nothing, is a mistake."""
    session = await stored(MemoryStore())
    with pytest.raises(ValueError, match="negative" if keep < 0 else "none to replace"):
        await session.compact(keep=keep, summary=SUMMARY)


async def test_a_summary_is_a_list() -> None:
    """A summary that is one message is told what to give, and nothing is replaced."""
    store = MemoryStore()
    session = await stored(store)
    with pytest.raises(InvalidMessage, match=r"give \[message\]"):
        await session.compact(keep=2, summary=SUMMARY[0])  # type: ignore[arg-type]
    assert (await store.load("id")).length == 5


async def test_a_compaction_of_what_is_not_there_any_more() -> None:
    """A summary of messages that were rewound meanwhile replaces nothing."""
    store = MemoryStore()
    session, other = await stored(store), HermesSession(store, "id")
    await other.rewind(1)
    await other.append(*numbered(90, 4))
    with pytest.raises(SessionConflict):
        await session.compact(keep=2, summary=SUMMARY)
    assert (await store.load("id")).length == 5
    with pytest.raises(HistoryNotLoaded):
        await other.compact(keep=1, summary=SUMMARY)


async def test_a_fork_goes_its_own_way() -> None:
    """A fork shares the past, has an id and a future of its own, and belongs to the same owner."""
    store = MemoryStore()
    await store.append("id", numbered(0, 3), owner="ada")
    session = HermesSession(store, "id", owner="ada")
    child = await session.fork(2)
    assert (child.history, child.owner, child.is_new) == (numbered(0, 2), "ada", False)
    assert child.id != session.id
    await child.append({"n": "child's"})
    assert (await store.load("id", "ada")).messages == numbered(0, 3)
    assert (await (await session.fork()).load()) == numbered(0, 3)
    with pytest.raises(SessionNotFound):
        await HermesSession(store, "other", owner="ada").fork()


async def test_a_rotation_leaves_nothing_under_the_old_id() -> None:
    """After a rotation the response carries the new id, and the old one leads nowhere."""
    store = MemoryStore()
    await store.append("old", numbered(0, 2))
    app = HermesSessionMiddleware(Recorder(HermesSession.rotate), store)
    new = stamp(await request(app, "old"))
    assert new != "old"
    assert (await store.load(new)).messages == numbered(0, 2)
    again = Recorder()
    assert stamp(await request(HermesSessionMiddleware(again, store), "old")) not in (new, "old")
    assert again.session.history == []
    with pytest.raises(SessionDeleted):
        await store.append("old", numbered(2))


async def test_a_rotation_may_give_the_session_to_an_owner() -> None:
    """Who logs in takes the conversation along."""
    store = MemoryStore()
    await store.append("id", numbered(0), owner="guest")
    session = HermesSession(store, "id", owner="guest")
    await session.load()
    new = await session.rotate(owner="ada")
    assert (session.id, session.owner, session.history) == (new, "ada", numbered(0))
    assert await session.append(*numbered(1)) == 2
    assert (await store.load(new, "ada")).messages == numbered(0, 2)


async def test_nothing_is_rotated_where_nothing_is_stored() -> None:
    """A session without messages gets a new id all the same, and is new."""
    session = HermesSession(MemoryStore(), "adopted")
    new = await session.rotate()
    assert (session.id, session.is_new) == (new, True)
    assert await session.append(*numbered(0)) == 1


@pytest.mark.parametrize("change", [HermesSession.rotate, HermesSession.renew])
async def test_an_id_that_was_told_stays(change: Any) -> None:
    """Once the response has begun the id cannot change, and the error says so by its name."""
    outcome: list[Exception] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        with pytest.raises(ResponseStarted) as caught:
            await change(scope["state"]["hermes_session"])
        outcome.append(caught.value)
        await send({"type": "http.response.body", "body": b""})

    store = MemoryStore()
    assert stamp(await request(HermesSessionMiddleware(app, store), "id")) == "id"
    assert outcome


async def test_a_renewed_session_is_a_new_one() -> None:
    """A new conversation begins with this request; the old one stays where it is."""
    store = MemoryStore()
    await store.append("old", numbered(0, 2))

    async def work(session: HermesSession) -> None:
        assert session.length == 2
        await session.renew()
        assert (session.is_new, session.history) == (True, [])
        await session.append({"n": "first"})

    new = stamp(await request(HermesSessionMiddleware(Recorder(work), store), "old"))
    assert (await store.load(new)).messages == [{"n": "first"}]
    assert (await store.load("old")).length == 2


async def test_a_turn_is_found_by_the_requests_key() -> None:
    """The Idempotency-Key becomes the id of the request's first turn, and of no other."""
    store = MemoryStore()

    async def work(session: HermesSession) -> None:
        found = await session.find_turn(question=numbered(0))
        if found is None:
            await session.append(*numbered(0, 2))
            await session.append(*numbered(2))
        else:
            assert (found.turn_id, found.messages, found.start) == ("k", numbered(0, 2), 0)

    app = HermesSessionMiddleware(Recorder(work), store)
    for _ in range(3):
        await request(app, scope=http_scope([(HEADER, b"id"), (b"idempotency-key", b"k")]))
    assert (await store.load("id")).messages == numbered(0, 3)
    assert await store.find_turn("other", "k") is None


@pytest.mark.parametrize("question", [[{"n": 1.0}], [{"n": True}], numbered(1, 3)])
async def test_a_key_for_another_question(question: list[Any]) -> None:
    """A turn that begins otherwise is another request's, and 1, 1.0 and true are three values."""
    store = MemoryStore()
    await store.append("id", numbered(1, 2), turn_id="k")
    session = HermesSession(store, "id", idempotency_key="k")
    assert await session.find_turn(question=numbered(1)) is not None
    assert await session.find_turn("k") == await session.find_turn()
    with pytest.raises(TurnConflict):
        await session.find_turn(question=question)


async def test_nothing_is_found_without_a_key() -> None:
    """Without a key, or under an id that was minted just now, the store is not asked."""

    class Unused(MemoryStore):
        async def find_turn(self, *_: Any) -> Any:
            raise AssertionError

    assert await HermesSession(Unused(), "id").find_turn() is None
    fresh = HermesSession(Unused(), "id", is_new=True, idempotency_key="k")
    assert await fresh.find_turn() is None


class InDoubt:
    """A store that stores its first turn, and then says that it took too long."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._first = True

    async def append(self, *arguments: Any, **options: Any) -> int:
        length = await self._store.append(*arguments, **options)
        first, self._first = self._first, False
        if first:
            raise StoreTimeout
        return int(length)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture(params=["memory", "sqlite"])
async def keeping(request: pytest.FixtureRequest, sqlite_url: str) -> AsyncIterator[Any]:
    """A store of the package."""
    store = MemoryStore() if request.param == "memory" else SQLAlchemyStore(sqlite_url)
    yield store
    await store.aclose()


async def test_an_append_that_fails_leaves_the_key_free(keeping: Any) -> None:
    """The request's key is the id of the first turn that it has stored, whatever failed before."""
    session = HermesSession(keeping, "id", idempotency_key="k")
    session.record(*numbered(7))  # never entered
    with pytest.raises(SessionConflict):
        await session.append(*numbered(0), expected_length=5)
    with pytest.raises(InvalidMessage):
        await session.append({"n": float("nan")})
    with suppress(OSError):
        async with session.record(*numbered(0)) as answer:
            raise OSError("gone")
    assert await session.find_turn() is None
    assert await session.append(*numbered(1, 2)) == 3
    assert await session.append(*numbered(3)) == 4
    assert answer.ended
    found = await session.find_turn()
    assert found is not None
    assert found.messages == numbered(1, 2)
    again = HermesSession(keeping, "id", idempotency_key="k")
    assert await again.append(*numbered(1, 2)) == 3
    assert (await keeping.load("id")).messages == numbered(0, 4)


async def test_a_turn_in_doubt_is_repeated_under_the_key(keeping: Any) -> None:
    """Its messages are stored once, and others are refused while the key is another turn's."""
    session = HermesSession(InDoubt(keeping), "id", idempotency_key="k")
    with pytest.raises(StoreTimeout):
        await session.append(*numbered(0, 2))
    with pytest.raises(TurnConflict):
        await session.append(*numbered(2))
    assert await session.append(*numbered(0, 2)) == 2
    assert await session.append(*numbered(2)) == 3
    assert (await keeping.load("id")).messages == numbered(0, 3)


async def test_of_two_appends_at_once_one_takes_the_key() -> None:
    """The other is a turn of its own."""
    store = MemoryStore()
    session = HermesSession(store, "id", idempotency_key="k")
    async with anyio.create_task_group() as tasks:
        for number in range(2):
            tasks.start_soon(partial(session.append, *numbered(number)))
    assert (await store.load("id")).length == 2
    assert await session.find_turn() is not None


async def test_a_broken_answer_leaves_the_key_free() -> None:
    """What broke off is kept under an id of its own, so that the request can be repeated."""
    store = MemoryStore()
    session = HermesSession(store, "id", idempotency_key="k")
    with suppress(OSError):
        async with session.record(*numbered(0)) as answer:
            answer.write("I was ab")
            raise OSError("gone")
    assert await session.find_turn() is None
    again = HermesSession(store, "id", idempotency_key="k")
    async with again.record(*numbered(0), replace_from=0) as answer:
        answer.write("whole")
    found = await again.find_turn()
    assert found is not None
    assert found.messages[1]["content"] == "whole"


class Plain:
    """A store of three methods, as anyone may write one."""

    def __init__(self) -> None:
        self._store = MemoryStore()

    async def load(self, session_id: str, owner: str = "", limit: int | None = None) -> Any:
        return await self._store.load(session_id, owner, limit)

    async def append(
        self,
        session_id: str,
        messages: Any,
        owner: str = "",
        turn_id: str | None = None,
        expected_length: int | None = None,
    ) -> int:
        return await self._store.append(session_id, messages, owner, turn_id, expected_length)

    async def aclose(self) -> None: ...


USES: dict[str, Any] = {
    "rewind": lambda session: session.rewind(0),
    "append": lambda session: session.append(*numbered(0), replace_from=0),
    "compact": lambda session: session.compact(keep=0, summary=SUMMARY),
    "fork": lambda session: session.fork(),
    "rotate": lambda session: session.rotate(),
    "find_turn": lambda session: session.find_turn("k"),
    "acquire": lambda session: session.turn().acquire(),
}


@pytest.mark.parametrize("operation", USES)
async def test_a_plain_store_says_what_it_cannot_do(operation: str) -> None:
    """A store of three methods serves a chat, and names what it has not."""
    session = HermesSession(Plain(), "id")
    await session.append(*numbered(0))
    await session.load()
    with pytest.raises(NotSupported, match=rf"Plain does not support {operation}\(\)"):
        await USES[operation](session)
    assert await session.load() == numbered(0)


class Forwarding(Plain):
    """A store that hands on whatever it is asked for."""

    async def append(self, *arguments: Any, **options: Any) -> int:
        return await self._store.append(*arguments, **options)


async def test_a_store_that_hands_on_what_it_is_asked_may_replace() -> None:
    """A wrapper that takes any option is not refused for its signature."""
    session = HermesSession(Forwarding(), "id", is_new=True)
    await session.append(*numbered(0, 3))
    assert await session.append(*numbered(7), replace_from=1) == 2
    assert await session.load() == [{"n": 0}, {"n": 7}]


async def test_what_cannot_be_stored_is_told_before_the_model_is_asked() -> None:
    """A check goes by the store's own limits; a store without any is held to JSON."""
    for store in (MemoryStore(max_message_bytes=20), Plain()):
        session = HermesSession(store, "id")
        session.check({"text": "12345678"}, {"text": "1"})
        session.check()  # as where an answer is regenerated: there is no question
        impossible: Any
        for impossible in ([{"n": math.nan}], [{1: 2}], [[]]):
            with pytest.raises(InvalidMessage, match=r"^message 0 (is|would)"):
                session.check(*impossible)
    with pytest.raises(MessageTooLarge):
        HermesSession(MemoryStore(max_message_bytes=20), "id").check({"text": "1234567890"})
    HermesSession(Plain(), "id").check({"text": "1234567890"})


@pytest.mark.parametrize("operation", USES)
async def test_nothing_is_edited_without_an_owner(operation: str) -> None:
    """Where the owner hook answered None, nothing is read or changed."""
    store = MemoryStore()
    session = await stored(store)
    session.owner = None
    with pytest.raises(OwnerRequired):
        await USES[operation](session)
    assert (await store.load("id")).length == 5
