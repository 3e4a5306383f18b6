"""The demo's turns: one at a time, repeated without harm, edited, summarised and named."""

from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient

from demo_app import turns
from demo_app.app import create_app
from demo_app.model import EchoModel
from hermes_session_mw import (
    MemoryStore,
    SessionInfo,
    StoreUnavailable,
)
from hermes_session_mw.messages import Message
from tests.asgi.test_middleware import FailingStore
from tests.demo.test_demo import CHAT, HEADER, ask, stored, text_of, user
from tests.support.asgi import HEADER as RAW_HEADER
from tests.support.asgi import http_scope

KEY = "Idempotency-Key"
SOURCE = "X-Hermes-History-Source"
NAME = "X-Hermes-Session-Key"


@pytest.fixture(params=["asyncio", "trio"])
def client(store: MemoryStore, request: pytest.FixtureRequest) -> Iterator[TestClient]:
    """A client of the demo, which speaks in the session "s"."""
    app = create_app(store, keys=())
    with TestClient(app, backend=request.param, headers={HEADER: "s"}) as client:
        yield client


def say(client: TestClient, *messages: Any, stream: bool = False, **fields: Any) -> Any:
    """Post messages with header fields, whose names have underscores for hyphens."""
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    body = {"messages": [user(m) if isinstance(m, str) else m for m in messages], "stream": stream}
    return client.post(CHAT, json=body, headers=headers)


def contents(store: MemoryStore, session_id: str = "s") -> list[str]:
    """Return the stored texts, the model's as ``-``."""
    return [
        m["content"] if m["role"] == "user" else "-" for m in stored(store, session_id)
    ]  # fmt: skip


def fill(store: MemoryStore, *messages: Message, session_id: str = "s") -> None:
    """Store messages as one turn."""

    async def append() -> None:
        await store.append(session_id, messages)

    anyio.run(append)


def info(store: MemoryStore, session_id: str = "s") -> SessionInfo:
    """Return what the store tells of a session."""

    async def ask_store() -> SessionInfo:
        found = await store.info(session_id)
        assert found is not None
        return found

    return anyio.run(ask_store)


@pytest.mark.parametrize("stream", [False, True])
def test_a_busy_conversation_is_a_409(
    client: TestClient, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """While another turn is going on a request is told to come back, before a stream begins."""
    monkeypatch.setattr(turns, "WAIT", 0)

    async def take() -> None:
        await store.acquire("s", 30)

    anyio.run(take)
    response = say(client, "Hi", stream=stream)
    assert (response.status_code, response.headers[HEADER]) == (409, "s")
    assert 1 <= int(response.headers["retry-after"]) <= 30
    assert response.json()["error"]["code"] == "session_busy"


def test_turns_are_given_back(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next request finds the turn free, after an answer, a stream and a refusal."""
    monkeypatch.setattr(turns, "WAIT", 0)
    statuses = [
        say(client, "Hi").status_code,
        say(client, "Hi", stream=True).status_code,
        say(client, "Hi", Idempotency_Key="k").status_code,
        say(client, "Ho", Idempotency_Key="k").status_code,
        say(client, "Hi").status_code,
    ]
    assert statuses == [200, 200, 200, 409, 200]


@pytest.mark.parametrize("stream", [False, True])
def test_a_repeated_request_is_answered_again(
    client: TestClient, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """Under its Idempotency-Key a request gets its answer again, and the model is not asked."""
    say(client, "My name is Ada.")
    first = say(client, "Who am I?", stream=not stream, Idempotency_Key="k")
    say(client, "And now?")
    monkeypatch.setattr(EchoModel, "stream", None)
    again = say(client, "Who am I?", stream=stream, Idempotency_Key='"k"')
    assert again.status_code == 200
    told = [response.headers.get("Idempotency-Replayed") for response in (first, again)]
    assert told == [None, "true"]
    assert text_of(again) == text_of(first)
    assert contents(store) == ["My name is Ada.", "-", "Who am I?", "-", "And now?", "-"]
    if not stream:
        assert again.json()["usage"]["prompt_tokens"] > 7


@pytest.mark.parametrize("source", ["session", "request"])
def test_a_repetition_may_tell_its_history(
    client: TestClient, store: MemoryStore, source: str
) -> None:
    """A request that told its history is known again, though that history is stored by now."""
    told = [user("a"), {"role": "assistant", "content": "b"}, user("c")]
    first = say(client, *told, Idempotency_Key="k", X_Hermes_History_Source="request")
    again = say(client, *told, Idempotency_Key="k", X_Hermes_History_Source=source)
    assert (again.status_code, text_of(again)) == (200, text_of(first))
    assert contents(store) == ["a", "-", "c", "-"]


def test_a_repetition_is_known_after_its_turn_was_taken_back(
    client: TestClient, store: MemoryStore
) -> None:
    """An answer that was regenerated since is still the answer to its own request."""
    first = say(client, "a", Idempotency_Key="k")
    say(client, "b", X_Hermes_History_Source="request")
    again = say(client, "a", Idempotency_Key="k")
    assert text_of(again) == text_of(first)
    assert contents(store) == ["b", "-"]


def test_a_key_that_is_used_for_another_question_is_a_409(
    client: TestClient, store: MemoryStore
) -> None:
    """Nothing is answered under a key that belongs to another request."""
    say(client, "a", Idempotency_Key="k")
    response = say(client, "b", Idempotency_Key="k")
    assert response.status_code == 409
    assert response.json()["error"]["code"] == "idempotency_key_reused"
    assert contents(store) == ["a", "-"]


ANOTHER: dict[str, Any] = {
    "model": {"model": "another"},
    "temperature": {"temperature": 0},
    "tools": {"tools": [{"type": "function", "function": {"name": "clock"}}]},
    "format": {"response_format": {"type": "json_object"}},
    "system": {"messages": [{"role": "system", "content": "Be brief."}, user("a")]},
    "history": {"messages": [user("b"), {"role": "assistant", "content": "c"}, user("a")]},
}


@pytest.mark.parametrize("fields", ANOTHER.values(), ids=ANOTHER)
def test_a_key_that_is_used_for_another_answer_is_a_409(
    client: TestClient, store: MemoryStore, fields: dict[str, Any]
) -> None:
    """Under a key everything counts that shapes the answer, and not only the question."""
    body = {"messages": [user("a")]}
    assert client.post(CHAT, json=body, headers={KEY: "k"}).status_code == 200
    response = client.post(CHAT, json=body | fields, headers={KEY: "k"})
    assert response.status_code == 409
    assert response.json()["error"]["code"] == "idempotency_key_reused"
    same = body | {"stream": True, "stream_options": {"include_usage": True}}
    assert client.post(CHAT, json=same, headers={KEY: "k"}).status_code == 200
    assert contents(store) == ["a", "-"]


def test_a_turn_of_an_earlier_version_is_known_by_its_question(
    client: TestClient, store: MemoryStore
) -> None:
    """A turn that was stored without a digest is answered again if it answers the question."""

    async def append() -> None:
        await store.append("s", [user("a"), PARTIAL | {"status": "completed"}], turn_id="k")

    anyio.run(append)
    assert text_of(say(client, "a", Idempotency_Key="k")) == "half"
    assert say(client, "b", Idempotency_Key="k").status_code == 409


def test_keys_do_not_cross_sessions(client: TestClient, store: MemoryStore) -> None:
    """The same key in another session is another request's."""
    say(client, "a", Idempotency_Key="k")
    fields = {KEY: "k", HEADER: "t"}
    response = client.post(CHAT, json={"messages": [user("b")]}, headers=fields)
    assert response.status_code == 200
    assert contents(store, "t") == ["b", "-"]


PARTIAL = {"role": "assistant", "content": "half", "status": "incomplete"}


@pytest.mark.parametrize("tail", [[], [PARTIAL]], ids=["unanswered", "incomplete"])
@pytest.mark.parametrize("fields", [{}, {"Idempotency_Key": "k"}], ids=["no key", "a key"])
def test_a_retry_takes_the_place_of_what_broke_off(
    client: TestClient, store: MemoryStore, tail: list[Message], fields: dict[str, Any]
) -> None:
    """A question that ends the history unanswered is not doubled when it is asked again."""
    say(client, "a")
    fill(store, user("b"), *tail)
    response = say(client, "b", **fields)
    assert "I remember 1 earlier message;" in text_of(response)
    assert contents(store) == ["a", "-", "b", "-"]
    assert "status" not in stored(store, "s")[-1]


def test_only_a_retry_takes_the_place(client: TestClient, store: MemoryStore) -> None:
    """Another question is a new turn after what broke off, and an answered one may be repeated."""
    fill(store, PARTIAL)
    say(client, "half")
    fill(store, user("a"), PARTIAL)
    say(client, "b")
    say(client, "b")
    assert contents(store) == ["-", "half", "-", "a", "-", "b", "-", "b", "-"]


def test_an_edited_message_takes_the_place_of_what_followed(
    client: TestClient, store: MemoryStore
) -> None:
    """Where the request's history counts, what it has not in common with the stored one goes."""
    first, second = say(client, "a"), say(client, "b")
    say(client, "c")
    answers = [{"role": "assistant", "content": text_of(each)} for each in (first, second)]
    response = say(client, user("a"), answers[0], user("B"), X_Hermes_History_Source="request")
    assert text_of(response).startswith("You said: B | I remember 1 earlier message;")
    assert contents(store) == ["a", "-", "B", "-"]
    say(client, user("a"), answers[0], user("x"), answers[1], user("y"),
        X_Hermes_History_Source="request")  # fmt: skip
    assert contents(store) == ["a", "-", "x", "-", "y", "-"]


def test_a_body_without_the_last_answer_regenerates_it(
    client: TestClient, store: MemoryStore
) -> None:
    """The same question again, with the request's history, is answered anew and not doubled."""
    first = say(client, "a")
    say(client, "b")
    told = [user("a"), {"role": "assistant", "content": text_of(first)}, user("b")]
    say(client, *told, X_Hermes_History_Source="request")
    assert contents(store) == ["a", "-", "b", "-"]

    async def archived() -> int:
        return len(await store.archived("s"))

    assert anyio.run(archived) == 2
    say(client, "only this", X_Hermes_History_Source="request")
    assert contents(store) == ["only this", "-"]


def test_a_history_source_that_is_none_is_refused(client: TestClient, store: MemoryStore) -> None:
    """An unknown source is a 400, and changes nothing."""
    say(client, "a")
    response = say(client, "b", X_Hermes_History_Source="client")
    assert (response.status_code, response.json()["error"]["param"]) == (400, SOURCE)
    assert contents(store) == ["a", "-"]


def test_what_cannot_be_stored_rewinds_nothing(client: TestClient, store: MemoryStore) -> None:
    """A history that is told and too large is a 413 before anything is dropped."""
    say(client, "a")
    response = say(client, user("x" * 2**20), user("b"), X_Hermes_History_Source="request")
    assert response.status_code == 413
    assert contents(store) == ["a", "-"]


def test_an_unreadable_history_is_not_rewound() -> None:
    """Where the stored history cannot be compared, a request that tells its own is a 503."""
    client = TestClient(create_app(FailingStore(StoreUnavailable("gone")), keys=()))
    fields = {HEADER: "s", SOURCE: "request"}
    response = client.post(CHAT, json={"messages": [user("a")]}, headers=fields)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")


def test_a_long_conversation_is_summarised(store: MemoryStore) -> None:
    """Beyond the limit the oldest messages become one, which the model still remembers."""
    with TestClient(create_app(store, keys=(), compact_at=12), headers={HEADER: "s"}) as client:
        for number in range(7):
            say(client, f"message {number}")
        assert len(stored(store, "s")) == 14
        response = say(client, "message 7")
        first, *kept = stored(store, "s")
        assert first["content"] == "Summary of 4 earlier messages; the first was: message 0"
        assert len(kept) == 12
        assert "the first was: Summary of 4 earlier messages" in text_of(response)
        told = [user("message 0"), user("b")]
        say(client, *told, X_Hermes_History_Source="request")
    assert contents(store) == ["message 0", "b", "-"]


def test_a_conversation_is_not_summarised_unasked(client: TestClient, store: MemoryStore) -> None:
    """Without a limit all messages stay."""
    fill(store, *[user("a")] * 100)
    say(client, "b")
    assert len(stored(store, "s")) == 102


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("  My name\n\tis Ada.\0 ", "My name is Ada."),
        ("word " * 100, ("word " * 12).strip() + "…"),
        ("seventh " * 100, ("seventh " * 7).strip() + "…"),
        ("w" * 100, "w" * 59 + "…"),
        ("w" * 60, "w" * 60),
        ("Say `x`:\n```python\nx\n```", "Say x : x"),
    ],
)
def test_the_first_message_names_the_conversation(
    client: TestClient, store: MemoryStore, text: Any, title: str | None
) -> None:
    """The title is the beginning of the first message, on one line, and stays that."""
    say(client, user(text), stream=True)
    assert info(store).title == title
    say(client, "Another message.")
    assert info(store).title == title


def test_a_picture_alone_names_no_conversation(client: TestClient, store: MemoryStore) -> None:
    """Where the first message has no words, the next one that has some gives the title."""
    say(client, user([{"type": "image_url", "image_url": {"url": "x"}}]))
    assert info(store).title is None
    say(client, "Another message.")
    assert info(store).title == "Another message."


def test_a_conversation_whose_first_answer_broke_off_is_named_by_the_next_turn(
    client: TestClient, store: MemoryStore
) -> None:
    """Where the first turn was not completed it gives no title, and the second one does."""
    broken = {"role": "assistant", "content": "You", "status": "incomplete"}
    fill(store, user("My name is Ada."), broken)
    assert info(store).title is None
    say(client, "And now?")
    assert info(store).title == "My name is Ada."


def test_a_title_of_the_users_own_stays(client: TestClient, store: MemoryStore) -> None:
    """A first turn that is answered anew does not take the title that somebody gave."""
    say(client, "a")

    async def rename() -> None:
        await store.rename("s", "Mine")

    anyio.run(rename)
    say(client, "b", X_Hermes_History_Source="request")
    assert info(store).title == "Mine"


def test_a_title_that_fails_costs_no_answer() -> None:
    """Where the title cannot be stored, the answer is given all the same."""

    class Untitled(MemoryStore):
        async def rename(self, *_: Any, **__: Any) -> bool:
            raise StoreUnavailable("gone")

    with TestClient(create_app(Untitled(), keys=())) as client:
        assert ask(client, user("Hi")).status_code == 200


@pytest.mark.parametrize("key", [None, b"k"])
async def test_a_client_that_leaves_can_ask_again(key: bytes | None) -> None:
    """What a client has seen of a stream is stored as incomplete, and its retry replaces it."""
    store = MemoryStore()
    app = create_app(store, keys=())
    headers = (
        [(RAW_HEADER, b"s")] if key is None else [(RAW_HEADER, b"s"), (b"idempotency-key", key)]
    )
    body = b'{"stream": true, "messages": [{"role": "user", "content": "a b c d e f"}]}'
    log: list[Any] = []

    async def receive() -> Any:
        if not log:
            log.append({})
            return {"type": "http.request", "body": body, "more_body": False}
        await anyio.sleep_forever()
        raise AssertionError

    async def send(message: Any) -> None:
        log.append(message)
        if len(log) == 6:
            raise OSError("the client has left")

    with pytest.raises(ClientDisconnect):
        await app(http_scope(headers, method="POST", path=CHAT), receive, send)
    history = (await store.load("s")).messages
    assert [message.get("status") for message in history] == [None, "incomplete"]
    assert await store.acquire("s", 0.001) > 1  # given back

    def retry() -> Any:
        with TestClient(app, headers={HEADER: "s"}) as client:
            fields = {} if key is None else {KEY: key.decode()}
            return client.post(CHAT, json={"messages": [user("a b c d e f")]}, headers=fields)

    await anyio.sleep(0.01)
    response = await anyio.to_thread.run_sync(retry)
    assert response.status_code == 200
    assert contents_of((await store.load("s")).messages) == ["a b c d e f", text_of(response)]


def contents_of(messages: list[Message]) -> list[str]:
    """Return the messages' texts."""
    return [message["content"] for message in messages]


@pytest.mark.parametrize("source", ["session", "request"])
@pytest.mark.parametrize("task", ["none", "title_generation"])
def test_a_request_that_is_no_turn_leaves_no_trace(
    client: TestClient, store: MemoryStore, task: str, source: str
) -> None:
    """It is answered with the history at hand, also during a turn: no message, title or lease."""
    fill(store, user("My name is Ada."), {"role": "assistant", "content": "Hello, Ada."})
    before = info(store)
    fence = anyio.run(store.acquire, "s", 60)
    headers = {"X-Hermes-Turn": task, SOURCE: source, KEY: "1"}
    for stream in (True, False):
        answer = say(client, "Suggest a title.", stream=stream, **headers)
        assert answer.status_code == 200
    assert ("My name is Ada." in answer.text) == (source == "session")
    response = client.post("/v1/responses", json={"input": "Suggest a title."}, headers=headers)
    assert response.status_code == 200
    anyio.run(store.release, "s", fence)
    assert info(store) == before
    assert contents(store) == ["My name is Ada.", "-"]
    assert client.get(f"/v1/responses/{response.json()['id']}").status_code == 404
