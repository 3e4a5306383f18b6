"""The demo's turns: one at a time, repeated without harm, edited, compacted, and kept by owner."""

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from demo_app.app import create_app
from hermes_session_mw import HermesSession, HermesStateStore, MemoryStore, Store, is_session_id

from .hermes.agent import COMPRESSED, copy_to
from .test_editing import Plain

CHAT = "/v1/chat/completions"
ID = "X-Hermes-Session-Id"


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def client(store: MemoryStore) -> TestClient:
    return TestClient(create_app(store))


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def ask(client: TestClient, *messages: Any, key: str | None = None, **options: Any) -> Any:
    """Send a chat request under one session's id, and return the response."""
    headers = {ID: "mine", **({"Idempotency-Key": key} if key else {})}
    headers |= options.pop("headers", {})
    body = {"messages": [user(m) if isinstance(m, str) else m for m in messages], **options}
    return client.post(CHAT, json=body, headers=headers)


def text(response: Any) -> str:
    assert response.status_code == 200, response.text
    content: str = response.json()["choices"][0]["message"]["content"]
    return content


def streamed(response: Any) -> str:
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    chunks = [json.loads(line) for line in lines if line != "[DONE]"]
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


async def texts(store: Store, session_id: str = "mine", owner: str = "") -> list[str]:
    return [m["content"] for m in (await store.load(session_id, owner)).messages]


async def test_a_repeated_request_is_answered_again(client: TestClient, store: MemoryStore) -> None:
    """Under the same Idempotency-Key the stored answer comes again, whole or streamed."""
    first = text(ask(client, "one", key="k"))
    ask(client, "two")
    assert text(ask(client, "one", key="k")) == first
    assert streamed(ask(client, "one", key="k", stream=True)) == first
    assert (await store.load("mine")).length == 4


async def test_a_key_for_another_question_is_a_conflict(client: TestClient) -> None:
    """A key that was used for another question is a 409, and answers nothing."""
    ask(client, "one", key="k")
    response = ask(client, "other", key="k")
    assert response.status_code == 409
    assert "one" not in response.json()["error"]["message"]


async def test_a_key_belongs_to_its_session(client: TestClient) -> None:
    """The same key under another session's id is another request."""
    ask(client, "one", key="k")
    other = ask(client, "other", key="k", headers={ID: "another"})
    assert "This is your first message" in text(other)


@pytest.mark.parametrize(
    "tail",
    [
        [user("again?")],
        [user("again?"), {"role": "assistant", "content": "I w", "status": "incomplete"}],
    ],
    ids=["no answer", "half an answer"],
)
async def test_a_question_that_broke_off_is_not_doubled(
    client: TestClient, store: MemoryStore, tail: list[Any]
) -> None:
    """A question without a whole answer that is asked again is answered, and stands there once."""
    await store.append("mine", [user("one"), {"role": "assistant", "content": "1"}])
    await store.append("mine", tail)
    answer = text(ask(client, "again?"))
    assert await texts(store) == ["one", "1", "again?", answer]


async def test_a_question_that_was_answered_may_be_asked_again(
    client: TestClient, store: MemoryStore
) -> None:
    """Asking the same twice is no repetition where the first was answered."""
    ask(client, "one")
    ask(client, "one")
    assert (await store.load("mine")).length == 4


async def test_a_client_edits_and_regenerates(client: TestClient, store: MemoryStore) -> None:
    """Where the request's history counts, what it lacks is dropped, and what is new kept."""
    request = {"X-Hermes-History-Source": "request"}
    first = text(ask(client, "one"))
    ask(client, "two")
    answer = {"role": "assistant", "content": first}
    again = text(ask(client, "one", answer, "two, edited", headers=request))
    assert await texts(store) == ["one", first, "two, edited", again]
    regenerated = text(ask(client, "one", headers=request))
    assert await texts(store) == ["one", regenerated]
    foreign = {"role": "assistant", "content": "theirs"}
    last = text(ask(client, "zero", foreign, "three", headers=request))
    assert await texts(store) == ["zero", "theirs", "three", last]
    assert len(await store.archived("mine")) == 2 + 4 + 2
    assert ask(client, "x", headers={"X-Hermes-History-Source": "x"}).status_code == 400


async def test_the_stored_history_counts_by_default(client: TestClient, store: MemoryStore) -> None:
    """Without the header the body's own history is no more than its last message."""
    ask(client, "one")
    ask(client, "zero", {"role": "assistant", "content": "x"}, "two")
    assert [t for t in await texts(store) if not t.startswith("You")] == ["one", "two"]


async def test_a_busy_session_is_a_conflict(store: MemoryStore, monkeypatch: Any) -> None:
    """While another has the turn for longer than the demo waits, it is a 409 that says when."""
    monkeypatch.setattr("hermes_session_mw.session.HermesSession.turn", _impatient)
    async with HermesSession(store, "mine").turn():
        response = ask(TestClient(create_app(store)), "one")
    assert response.status_code == 409
    assert 0 < int(response.headers["Retry-After"]) <= 60


_turn = HermesSession.turn


def _impatient(session: HermesSession) -> Any:
    return _turn(session, wait=0.01)


async def test_a_long_conversation_is_compacted(store: MemoryStore) -> None:
    """Beyond --compact-at messages the older part becomes a summary, under the same id."""
    client = TestClient(create_app(store, compact_at=12))
    for number in range(8):
        ask(client, f"message {number}")
    history = await texts(store)
    assert history[0] == "Summary of 4 earlier messages; the first was: message 0"
    assert len(history) == 1 + 10 + 2
    assert len(await store.archived("mine")) == 4


async def test_a_thread_is_named_by_its_first_message(
    client: TestClient, store: MemoryStore
) -> None:
    """The first message, on one line and cut, is the thread's title until somebody renames it."""
    ask(client, "How do I\n  bake " + "bread " * 20)
    ask(client, "And cake?")
    info = await store.info("mine")
    assert info is not None
    assert info.title == ("How do I bake " + "bread " * 20)[:60]


async def test_a_session_rotates_and_begins_anew(client: TestClient, store: MemoryStore) -> None:
    """Rotating keeps the conversation under another id, renewing begins another."""
    ask(client, "one")
    rotated = client.post("/v1/session/rotate", headers={ID: "mine"})
    new = rotated.headers[ID]
    assert rotated.json() == {"object": "session", "id": new}
    assert (await store.load(new)).length == 2
    assert not (await store.load("mine")).exists
    renewed = client.post("/v1/session/renew", headers={ID: new})
    assert renewed.headers[ID] not in (new, "mine")
    assert (await store.load(new)).length == 2


KEYS = ["key-of-ada", "key-of-bob"]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def keyed(store: MemoryStore) -> TestClient:
    return TestClient(create_app(store, api_keys=KEYS))


async def test_each_api_key_is_an_owner(keyed: TestClient, store: MemoryStore) -> None:
    """Two keys share nothing, under the same session id, and no key is stored."""
    ask(keyed, "I am Ada", headers=bearer("key-of-ada"))
    assert "first message" in text(ask(keyed, "Who am I?", headers=bearer("key-of-bob")))
    assert "I am Ada" in text(ask(keyed, "Who am I?", headers=bearer("key-of-ada")))
    owners = {owner for owner, _ in store._sessions}
    assert len(owners) == 2
    assert not any(key in owner for key in KEYS for owner in owners)


REFUSED: list[dict[str, str]] = [
    {},
    bearer("key-of-eve"),
    bearer(""),
    bearer("key-of-ada,key-of-bob"),
    {"Authorization": "key-of-ada"},
    {"Authorization": "Basic key-of-ada"},
]


@pytest.mark.parametrize("headers", REFUSED, ids=repr)
@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/session/rotate", "/nowhere"])
@pytest.mark.parametrize("session", [{ID: "mine"}, {}], ids=["with id", "without"])
def test_without_a_key_nothing_is_answered(
    keyed: TestClient, path: str, headers: dict[str, str], session: dict[str, str]
) -> None:
    """A missing or wrong key is a stamped 401 in OpenAI's shape everywhere but at /healthz."""
    response = keyed.post(path, json={"messages": [user("x")]}, headers=headers | session)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert is_session_id(response.headers[ID])
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert keyed.get("/healthz").status_code == 200


def test_a_key_names_a_conversation(keyed: TestClient) -> None:
    """With API keys a client may name its conversation by a key of its own, and begin anew."""
    room = {**bearer("key-of-ada"), "X-Hermes-Session-Key": "room 1"}

    def say(message: str) -> Any:
        return keyed.post(CHAT, json={"messages": [user(message)]}, headers=room)

    first = say("one")
    assert "I remember 1 earlier message" in text(say("two"))
    renewed = keyed.post("/v1/session/renew", headers=room)
    assert "first message" in text(third := say("three"))
    assert third.headers[ID] == renewed.headers[ID] != first.headers[ID]


async def test_the_demo_goes_on_with_hermes_own_conversations(tmp_path: Path) -> None:
    """Over a Hermes Agent's state.db the demo answers, edits, repeats; the rest is a 501."""
    path = copy_to(tmp_path)
    client = TestClient(create_app(f"hermes:{path}", compact_at=1))
    headers = {ID: COMPRESSED, "Idempotency-Key": "k"}
    store = HermesStateStore(path)
    before = (await store.load(COMPRESSED)).length
    answer = text(ask(client, "From the web", headers=headers))
    assert text(ask(client, "From the web", headers=headers)) == answer
    history = (await store.load(COMPRESSED)).messages
    assert [m["content"] for m in history[before:]] == ["From the web", answer]
    request = {ID: COMPRESSED, "X-Hermes-History-Source": "request"}
    told = [{"role": m["role"], "content": m["content"]} for m in history[:before]]
    text(ask(client, *told, "From the web, edited", headers=request))
    assert (await store.load(COMPRESSED)).length == before + 2
    for number in range(4):  # more than is compacted elsewhere
        text(ask(client, f"message {number}", headers={ID: COMPRESSED}))
    assert (await store.load(COMPRESSED)).length == before + 10
    assert client.post("/v1/session/rotate", headers={ID: COMPRESSED}).status_code == 501
    await store.aclose()


async def test_a_plain_store_has_no_repetitions() -> None:
    """Over a store of three methods the demo chats, and stores a repeated turn once."""
    store = Plain()
    client = TestClient(create_app(store))
    first = text(ask(client, "one", key="k"))
    assert ask(client, "one", key="k").status_code == 409
    assert await texts(store) == ["one", first]
