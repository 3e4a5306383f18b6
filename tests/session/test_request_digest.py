"""The digest of a request, and how it is stored with the request's turn."""

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given

from hermes_session_mw import (
    HermesSession,
    InvalidMessage,
    MemoryStore,
    MessageTooLarge,
    SQLAlchemyStore,
    TurnConflict,
    request_digest,
)
from hermes_session_mw.testing.helpers import new_id
from tests.support import json_values

USER = {"role": "user", "content": "Who am I?"}
BODY = {"model": "m", "messages": [USER], "temperature": 1}

OTHERS: dict[str, dict[str, Any]] = {
    "another model": BODY | {"model": "n"},
    "another question": BODY | {"messages": [USER, USER]},
    "a system message": BODY | {"messages": [{"role": "system", "content": "Be brief."}, USER]},
    "tools": BODY | {"tools": []},
    "a format": BODY | {"response_format": {"type": "json_object"}},
    "a float": BODY | {"temperature": 1.0},
    "a boolean": BODY | {"temperature": True},
    "a text": BODY | {"temperature": "1"},
    "null": BODY | {"seed": None},
    "white space": BODY | {"messages": [USER | {"content": "Who am I? "}]},
    "another Unicode form": BODY | {"model": "e\N{COMBINING ACUTE ACCENT}"},
    "a stream inside": BODY | {"extra": {"stream": True}},
}
SAME: dict[str, dict[str, Any]] = {
    "the order of keys": {name: BODY[name] for name in reversed(BODY)},
    "a stream": BODY | {"stream": True},
    "options of the stream": BODY | {"stream": True, "stream_options": {"include_usage": True}},
}


def test_what_shapes_the_answer_counts() -> None:
    """Every other value anywhere in the body is another request."""
    assert len({request_digest(body) for body in [BODY, *OTHERS.values()]}) == len(OTHERS) + 1


@pytest.mark.parametrize("body", SAME.values(), ids=SAME)
def test_how_an_answer_is_sent_does_not_count(body: dict[str, Any]) -> None:
    """The order of keys, and whether and how the answer streams, are the same request."""
    assert request_digest(body) == request_digest(BODY)


def test_an_endpoint_may_count_other_fields() -> None:
    """Which fields are left out is its own choice."""
    streaming = BODY | {"stream": True}
    assert request_digest(streaming, leave_out=()) != request_digest(BODY, leave_out=())
    assert request_digest(BODY, leave_out=["model"]) == request_digest(
        BODY | {"model": "n"}, leave_out=["model"]
    )


def test_a_digest_is_the_same_in_every_process() -> None:
    """It is the SHA-256 of the body as JSON with sorted keys, which a store keeps."""
    told = {"b": "\N{LATIN SMALL LETTER E WITH ACUTE}\ud800", "a": [1.5, None, {"d": 1, "c": -0.0}]}
    known = "fb1ec4d238193399b0345b1cdffa9ed13bfef430010c5030976e10d605726831"
    assert request_digest(told) == known


@given(json_values.messages)
def test_json_that_was_sent_has_the_digest_of_what_was_meant(body: dict[str, Any]) -> None:
    """White space and escapes on the wire do not count."""
    sent = json.dumps(body, indent=1, ensure_ascii=False)
    assert request_digest(json.loads(sent)) == request_digest(body)


def deep() -> list[Any]:
    """Return a list that nests deeper than any parser goes."""
    nested: list[Any] = []
    for _ in range(200_000):
        nested = [nested]
    return nested


@pytest.mark.parametrize("value", [float("nan"), b"bytes", deep()], ids=["NaN", "bytes", "deep"])
def test_what_is_no_json_has_no_digest(value: Any) -> None:
    """A body that no client can have sent is refused."""
    with pytest.raises(InvalidMessage):
        request_digest({"a": value})


@pytest.fixture(params=["memory", "sqlite", "postgres", "mysql"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """A store over each kind of database."""
    if request.param == "memory":
        store: Any = MemoryStore()
    else:
        store = SQLAlchemyStore(request.getfixturevalue(f"{request.param}_url"), timeout=60)
    yield store
    await store.aclose()


async def answered(store: Any, digest: str | None, name: str = "id") -> None:
    """Store an answer under the key "k"."""
    session = HermesSession(store, name, idempotency_key="k")
    async with session.record(USER, digest=digest) as answer:
        answer.write("Ada.")


async def found(store: Any, digest: str | None, name: str = "id", **options: Any) -> bool:
    """Return whether the turn of the key "k" is the request's."""
    session = HermesSession(store, name, idempotency_key="k")
    try:
        return await session.find_turn(digest=digest, **options) is not None
    except TurnConflict:
        return False


async def test_a_turn_keeps_the_digest_of_its_request(store: Any) -> None:
    """A repetition finds its turn, and another request does not, also after more turns."""
    name, imported, rotated = new_id(), new_id(), new_id()
    await answered(store, "d1", name)
    await store.append(name, [USER])
    assert await found(store, "d1", name)
    assert await found(store, "d1", name, question=[{"n": 1}], told=[USER, USER])
    assert not await found(store, "d2", name)
    assert not await found(store, "d2", name, question=[USER], told=[USER])
    session = HermesSession(store, name)
    assert (await session.load())[1]["request_digest"] == "d1"
    turn = await session.find_turn("k", digest="d1")
    assert turn is not None
    assert turn.messages == [USER, {"role": "assistant", "content": "Ada."}]
    assert session.prompt() == [USER, {"role": "assistant", "content": "Ada."}, USER]
    child = await session.fork()
    assert child.history == session.history
    await store.import_(await store.export(name), session_id=imported)
    await store.rotate(name, rotated)
    for place in (imported, rotated):
        assert await found(store, "d1", place)
        assert not await found(store, "d2", place)


async def test_an_append_keeps_it_too(store: Any) -> None:
    """Repeated for the same request it is stored once, and for another one it is refused."""
    name, answer = new_id(), {"role": "assistant", "content": "Ada."}
    for _ in range(2):
        session = HermesSession(store, name)
        assert await session.append(USER, answer, turn_id="k", digest="d1") == 2
    with pytest.raises(TurnConflict):
        await HermesSession(store, name).append(USER, answer, turn_id="k", digest="d2")
    assert await found(store, "d1", name)
    assert not await found(store, "d2", name)


async def test_without_a_digest_the_messages_are_compared() -> None:
    """A turn of version 0.1.0 has no digest, and an endpoint may give none."""
    store = MemoryStore()
    await answered(store, None)
    for question, is_found in (USER, True), ({"n": 1}, False):
        assert await found(store, "d1", question=[question]) is is_found
        assert await found(store, "d1", told=[{"role": "user", **question}]) is is_found
    await answered(store, "d1", "other")
    assert await found(store, None, "other", question=[USER])
    assert not await found(store, None, "other", question=[{"n": 1}])


async def test_a_turn_that_no_request_names_keeps_no_digest() -> None:
    """Without a key or an id it cannot be found, and its messages are stored as they are."""
    store = MemoryStore()
    session = HermesSession(store, "id")
    await session.append(USER, digest="d1")
    async with session.record(USER, digest="d1") as answer:
        answer.write("Ada.")
    history = (await store.load("id")).messages
    assert history == [USER, USER, {"role": "assistant", "content": "Ada."}]


async def test_an_answer_that_broke_off_keeps_no_digest() -> None:
    """Its key is free; and an answer that continues it has the digest of its own request."""
    store = MemoryStore()
    session = HermesSession(store, "id", idempotency_key="k")
    with suppress(OSError):
        async with session.record(USER, digest="d1") as answer:
            answer.write("A")
            raise OSError
    first = (await store.load("id")).messages[-1]
    assert first == {"role": "assistant", "content": "A", "status": "incomplete"}
    begun = {"role": "assistant", "content": "A", "request_digest": "d1"}
    async with HermesSession(store, "id").record(begun=begun, replace_from=1) as answer:
        answer.write("da.")
    assert (await store.load("id")).messages[-1] == {"role": "assistant", "content": "Ada."}


async def test_a_store_without_room_for_it_keeps_none() -> None:
    """Where the store takes no such key, the messages are compared."""
    store = MemoryStore(max_message_bytes=100)
    await answered(store, "d" * 64)
    assert (await store.load("id")).messages[-1] == {"role": "assistant", "content": "Ada."}


async def test_the_digest_counts_as_a_part_of_the_answer() -> None:
    """An answer that fits only without it is too large, which is noticed while it streams."""
    store, digest = MemoryStore(max_message_bytes=200), "d" * 64
    empty = {"role": "assistant", "content": "", "request_digest": digest}
    fits = 200 - len(json.dumps(empty, separators=(",", ":")))
    async with HermesSession(store, "id").record(USER, turn_id="1", digest=digest) as answer:
        answer.write("x" * fits)
    assert len((await store.load("id")).messages[-1]["content"]) == fits
    recording = HermesSession(store, "id").record(USER, turn_id="2", digest=digest)
    with pytest.raises(MessageTooLarge):
        recording.write("x" * (fits + 1))
