"""A turn that is stored in parts under one key, as agent frameworks store it."""

from typing import Any

import pytest

from hermes_session_mw import HermesSession, MemoryStore, TurnConflict
from hermes_session_mw.adapters.target import Target
from hermes_session_mw.session.turn_parts import part_id
from hermes_session_mw.stores.models import MAX_KEY_LENGTH

CALL = {"id": "c", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "12:00"}


def part(name: str) -> list[dict[str, Any]]:
    """Return the messages of a part: a question, an answer, or a call with its result."""
    match name[0]:
        case "q":
            return [{"role": "user", "content": name}]
        case "a":
            return [{"role": "assistant", "content": name}]
    return [{"role": "assistant", "content": name, "tool_calls": [CALL]}, RESULT]


def session_of(store: MemoryStore, key: str = "k") -> HermesSession:
    return HermesSession(store, "id", idempotency_key=key)


async def stored(store: MemoryStore) -> str:
    """Return the names of the parts in the history."""
    messages = (await store.load("id")).messages
    return " ".join(each["content"] for each in messages if each["role"] != "tool")


@pytest.mark.parametrize(
    ("before", "appended", "after"),
    [
        ("q a", "q a2", "q a"),
        ("q", "q a2", "q a2"),
        ("q c", "q c a2", "q c a2"),
        ("q c", "q c2 a2", "q c c2 a2"),
        ("q c", "q a2", "q c a2"),
        ("q c a", "q c2 c3 c4 a2", "q c a"),
    ],
)
async def test_a_repetition_stores_each_part_once(before: str, appended: str, after: str) -> None:
    """What is stored already is not stored again, and nothing follows the answer."""
    store = MemoryStore()
    for parts in (before, appended):
        session = session_of(store)
        for name in parts.split():
            await Target(session).append(part(name))
    assert await stored(store) == after
    with pytest.raises(TurnConflict):
        await Target(session_of(store)).append(part("q of another"))
    turn = await session_of(store).find_turn()
    assert turn is not None
    assert (turn.is_answered, turn.start) == (True, 0)
    assert turn.messages == (await store.load("id")).messages


async def test_the_request_is_told_by_its_digest() -> None:
    """The digest that was looked for is stored with the first part, and then compared."""
    store = MemoryStore()
    for name in ("q", "c"):  # as two attempts that were both cut
        session = session_of(store)
        turn = await session.find_turn(digest="d")
        assert turn is None or not turn.is_answered
        await Target(session).append(part("q"))
        await Target(session).append(part(name) if name == "c" else part("c2"))
    with pytest.raises(TurnConflict):
        await session_of(store).find_turn(digest="e")
    found = await session_of(store).find_turn(digest="d")
    assert found is not None
    assert found.messages == [*part("q"), *part("c2"), *part("c")]


async def test_what_a_cut_run_has_left_is_not_read_until_it_is_gone_on_with() -> None:
    """The model is not given the question twice, unless others have said something since."""
    store = MemoryStore()
    await store.append("id", part("a before"))
    await Target(session_of(store)).append(part("q"))
    session = session_of(store)
    await session.find_turn()
    target = Target(session)
    for limit, count in ((None, 1), (1, 1), (0, 0)):
        assert (await target.conversation(limit)).messages == part("a before")[:count]
    await target.append(part("q"))
    assert (await target.conversation()).length == 2
    session = session_of(store)
    await session.find_turn()
    await store.append("id", part("q of another"))
    assert (await Target(session).conversation()).length == 3


async def test_an_endpoints_second_append_has_no_id_of_the_key() -> None:
    """An endpoint's turn is under the key, and what it appends then is another turn."""
    store = MemoryStore()
    for _ in range(2):
        session = session_of(store)
        await session.append(*part("q"), *part("a"))
        await session.append(*part("q2"))
    assert await stored(store) == "q a q2 q2"
    await Target(session).append(part("a2"))
    assert await store.find_turn("id", part_id("k", 2)) is not None


async def test_a_part_that_fails_leaves_its_id() -> None:
    """The next part has the id of one that could not be stored."""
    store = MemoryStore()
    session = session_of(store)
    for names in (("q", "c"), ("a",)):
        for name in names:
            with pytest.raises(TypeError):
                await session.append_part(*part(name), replace_from="x")  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="JSON"):
                await session.append_part({"role": "user", "content": float("nan")})
            await session.append_part(*part(name))
    for number, name in enumerate(("q", "c", "a"), 1):
        turn = await store.find_turn("id", part_id("k", number))
        assert turn is not None
        assert turn.messages == part(name)


def test_ids_of_parts_can_be_stored() -> None:
    """They are short, and differ by key and number."""
    key = "k" * MAX_KEY_LENGTH["turn_id"]
    ids = {part_id(name, number) for name in (key, "k") for number in (1, 2, 12)}
    assert len(ids) == 6
    assert max(map(len, ids)) == MAX_KEY_LENGTH["turn_id"]
