"""The demo: OpenAI's shapes on the wire, the conversation in the database."""

import json
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from demo_app.app import create_app
from hermes_session_mw import MemoryStore, StoreMisconfigured, StoreUnavailable
from tests.asgi.test_middleware import FailingStore
from tests.support import json_values

CHAT = "/v1/chat/completions"
HEADER = "X-Hermes-Session-Id"


def user(content: Any) -> dict[str, Any]:
    """Return a user message."""
    return {"role": "user", "content": content}


def stored(store: MemoryStore, session_id: str) -> list[dict[str, Any]]:
    """Return what the store holds, without what it says about an answer as a response."""
    return without_response(messages_of(store, session_id))


def messages_of(store: MemoryStore, session_id: str) -> list[dict[str, Any]]:
    """Return what the store holds."""

    async def load() -> list[dict[str, Any]]:
        return (await store.load(session_id)).messages

    return anyio.run(load)


def without_response(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages without what is stored of their responses and requests beside them."""
    beside = ("usage", "model", "metadata", "request_digest")
    return [
        {name: value for name, value in message.items() if name not in beside}
        for message in messages
    ]


@pytest.fixture(params=["asyncio", "trio"])
def client(store: MemoryStore, request: pytest.FixtureRequest) -> Iterator[TestClient]:
    """A client of the demo."""
    with TestClient(create_app(store), backend=request.param) as client:
        yield client


def ask(client: TestClient, *messages: Any, session_id: str | None = None, **body: Any) -> Any:
    """Post messages, with or without the header."""
    headers = {} if session_id is None else {HEADER: session_id}
    return client.post(CHAT, json={"messages": list(messages), **body}, headers=headers)


def text_of(response: Any) -> str:
    """Return the answer's text from JSON or from events."""
    if response.headers["content-type"] == "application/json":
        return str(response.json()["choices"][0]["message"]["content"])
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks_of(response) if chunk["choices"]]
    return "".join(delta.get("content", "") for delta in deltas)


def chunks_of(response: Any) -> list[Any]:
    """Return the events' JSON, without the closing [DONE]."""
    events = response.text.split("\n\n")
    assert events[-1] == ""
    assert all(event.startswith("data: ") for event in events[:-1])
    return [json.loads(event[6:]) for event in events[:-1] if event != "data: [DONE]"]


def test_an_answer_has_openais_shape(client: TestClient) -> None:
    """A JSON answer has everything that clients read, usage among it."""
    response = ask(client, user("My name is Ada."))
    assert response.status_code == 200
    answer = response.json()
    assert answer.keys() == {"id", "object", "created", "model", "choices", "usage"}
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["usage"]["prompt_tokens"] == 4
    assert answer["usage"]["total_tokens"] == 4 + answer["usage"]["completion_tokens"]


def test_a_full_conversation_is_a_conflict() -> None:
    """A conversation that takes no more turns is a 409, which tells to go on under a new id."""
    with TestClient(create_app(MemoryStore(max_turns=1))) as client:
        body = {"messages": [{"role": "user", "content": "hello"}]}
        headers = {"X-Hermes-Session-Id": "full"}
        first, second = (
            client.post("/v1/chat/completions", json=body, headers=headers) for _ in range(2)
        )
    assert (first.status_code, second.status_code) == (200, 409)
    assert second.json()["error"]["code"] == "session_full"
    assert second.headers["X-Should-Retry"] == "false"


def test_an_answer_of_another_conversation_is_a_final_conflict(client: TestClient) -> None:
    """To continue an answer that is not the stored one is a 409 that says so, and is final."""
    ask(client, user("a"), session_id="s")
    body = {"messages": [user("a"), {"role": "assistant", "content": "another"}]}
    answer = client.post("/v1/chat/completions", json=body, headers={HEADER: "s"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (409, "session_conflict")
    assert "not the one that the conversation ends with" in error["message"]
    assert answer.headers["X-Should-Retry"] == "false"


def test_a_stream_has_openais_shape(client: TestClient, store: MemoryStore) -> None:
    """A streamed answer is chunks that end in [DONE], and its text is what is stored."""
    response = ask(client, user("Hi  there\n"), session_id="s", stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers[HEADER] == "s"
    assert response.text.endswith("data: [DONE]\n\n")
    chunks = chunks_of(response)
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert len(chunks) > 5
    assert stored(store, "s")[1] == {"role": "assistant", "content": text_of(response)}
    assert text_of(ask(client, user("Hi  there\n"))) == text_of(response)


def test_a_stream_tells_its_usage_where_asked(client: TestClient) -> None:
    """With stream_options.include_usage one chunk more brings the usage."""
    response = ask(client, user("Hi"), stream=True, stream_options={"include_usage": True})
    last = chunks_of(response)[-1]
    assert last["choices"] == []
    assert last["usage"]["prompt_tokens"] == 1


@pytest.mark.parametrize("stream", [False, True])
def test_the_conversation_goes_on_under_the_header(client: TestClient, *, stream: bool) -> None:
    """With the header the model remembers what the client did not repeat."""
    first = ask(client, user("My name is Ada."), stream=stream)
    session_id = first.headers[HEADER]
    assert "first message" in text_of(first)
    second = ask(client, user("And now?"), session_id=session_id, stream=stream)
    assert second.headers[HEADER] == session_id
    expected = "I remember 1 earlier message; the first was: My name is Ada."
    assert text_of(second).endswith(expected)
    third = ask(client, user("Still?"), session_id=session_id, stream=stream)
    assert "I remember 2 earlier messages" in text_of(third)


def test_with_the_header_the_bodys_history_is_ignored(
    client: TestClient, store: MemoryStore
) -> None:
    """The database's history counts, and of the body only the last user message is new."""
    ask(client, user("My name is Ada."), session_id="s")
    response = ask(
        client, user("My name is Eve."), {"role": "assistant", "content": "Hi, Eve."}, user("And?"),
        session_id="s",
    )  # fmt: skip
    assert text_of(response).endswith("the first was: My name is Ada.")
    contents = [message["content"] for message in stored(store, "s")]
    assert contents[::2] == ["My name is Ada.", "And?"]
    assert len(contents) == 4


def test_without_the_header_the_bodys_history_counts(
    client: TestClient, store: MemoryStore
) -> None:
    """A client that tells its history is answered with it, and may go on under its new id."""
    told = [user("My name is Ada."), {"role": "assistant", "content": "Hi, Ada."}, user("And?")]
    system = {"role": "system", "content": "Be brief."}
    response = ask(client, system, *told)
    assert text_of(response).endswith(
        "I remember 1 earlier message; the first was: My name is Ada."
    )
    session_id = response.headers[HEADER]
    assert stored(store, session_id)[:3] == told
    again = ask(client, user("Still?"), session_id=session_id)
    assert "I remember 2 earlier messages" in text_of(again)


def test_system_messages_are_never_stored(client: TestClient, store: MemoryStore) -> None:
    """System and developer messages belong to the request, not to the conversation."""
    for role in ("system", "developer"):
        ask(client, {"role": role, "content": "Be brief."}, user("Hi"), session_id="s")
    assert {message["role"] for message in stored(store, "s")} == {"user", "assistant"}


def test_a_user_message_is_stored_as_it_came(client: TestClient, store: MemoryStore) -> None:
    """Parts, names and fields that the demo does not know are kept."""
    message = user(
        [{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": "x"}}]
    )
    message |= {"name": "ada", "x_custom": None}
    response = ask(client, message, session_id="s")
    assert text_of(response).startswith("You said: Hi |")
    assert stored(store, "s")[0] == message


BAD_BODIES: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"{",
    "not UTF-8": b'{"messages": "\xff"}',
    "NaN": b'{"messages": [{"role": "user", "content": "a", "x": NaN}]}',
    "too deep": b"[" * 100_000,
    "a huge number": b'{"messages": ' + b"1" * 5000 + b"}",
    "a number too large": b'{"seed": -1e999, "messages": [{"role": "user", "content": "hi"}]}',
    "a list": b"[]",
    "null": b"null",
    "no messages": b"{}",
    "messages null": b'{"messages": null}',
    "messages empty": b'{"messages": []}',
    "messages a string": b'{"messages": "hi"}',
    "a message of text": b'{"messages": ["hi"]}',
    "no role": b'{"messages": [{"content": "hi"}]}',
    "role a number": b'{"messages": [{"role": 1, "content": "hi"}]}',
    "no content": b'{"messages": [{"role": "user"}]}',
    "content null": b'{"messages": [{"role": "user", "content": null}]}',
    "content a number": b'{"messages": [{"role": "user", "content": 1}]}',
    "content an object": b'{"messages": [{"role": "user", "content": {}}]}',
    "a part of text": b'{"messages": [{"role": "user", "content": ["hi"]}]}',
    "a part without type": b'{"messages": [{"role": "user", "content": [{"text": "hi"}]}]}',
    "a part with text null": b'{"messages": [{"role": "user", "content": [{"type": "text"}]}]}',
    "no user": b'{"messages": [{"role": "system", "content": "hi"}]}',
    "only an assistant": b'{"messages": [{"role": "assistant", "content": "hi"}]}',
    "stream a string": b'{"stream": "yes", "messages": [{"role": "user", "content": "hi"}]}',
    "model a number": b'{"model": 7, "messages": [{"role": "user", "content": "hi"}]}',
    "model a half character": b'{"model": "\\ud800", "messages": [{"role": "user", '
    b'"content": "hi"}]}',
    "options a list": b'{"stream_options": [], "messages": [{"role": "user", "content": "hi"}]}',
    "lone surrogate": b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
    "lone surrogate, streamed": b'{"stream": true, "messages": [{"role": "user", '
    b'"content": "\\ud800"}]}',
    "nested too deep": b'{"messages": [{"role": "user", "content": "hi", "x": '
    + b"[" * 101 + b"]" * 101 + b"}]}",
    "obfuscation": b'{"stream": true, "stream_options": {"include_obfuscation": true}, '
    b'"messages": [{"role": "user", "content": "hi"}]}',
    "two answers": b'{"n": 2, "messages": [{"role": "user", "content": "hi"}]}',
}  # fmt: skip


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_a_bad_body_is_a_400_and_stores_nothing(
    client: TestClient, store: MemoryStore, body: bytes
) -> None:
    """What cannot be answered is refused in OpenAI's error shape, stamped, and not stored."""
    response = client.post(CHAT, content=body, headers={HEADER: "s"})
    assert response.status_code == 400
    assert response.headers[HEADER] == "s"
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert repr(store) == "<MemoryStore (0 sessions)>"


def test_a_message_that_is_too_large_is_a_413(client: TestClient, store: MemoryStore) -> None:
    """What is larger than the store takes is refused by its size, and not stored."""
    response = client.post(CHAT, json={"messages": [user("x" * 2**20)]}, headers={HEADER: "s"})
    assert (response.status_code, response.json()["error"]["code"]) == (413, "message_too_large")
    assert repr(store) == "<MemoryStore (0 sessions)>"


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.one_of(
        st.binary(),
        json_values.values.map(json.dumps).map(str.encode),
        st.fixed_dictionaries({"messages": json_values.values}).map(json.dumps).map(str.encode),
        st.lists(
            st.fixed_dictionaries(
                {"role": st.sampled_from(["user", "system", "assistant"])},
                optional={"content": json_values.values, "tool_calls": json_values.values},
            )
        ).map(lambda messages: json.dumps({"messages": messages}).encode()),
    )
)
def test_any_body_is_answered(body: bytes) -> None:
    """Whatever bytes are posted, the answer is a 200 or a 400, and stamped."""
    client = TestClient(create_app(MemoryStore()))
    response = client.post(CHAT, content=body)
    assert response.status_code in (200, 400)
    assert len(response.headers.get_list(HEADER)) == 1


class FullStore(MemoryStore):
    """Reads, and fails to write answers: also their beginning, or the end alone."""

    def __init__(self, failure: Exception, *, is_broken: bool = True) -> None:
        super().__init__()
        self.failure, self.is_broken = failure, is_broken

    async def begin_answer(self, *args: Any, **options: Any) -> int:
        if self.is_broken:
            raise self.failure
        self.is_broken = True
        return await super().begin_answer(*args, **options)

    async def end_answer(self, *_: Any, **__: Any) -> int | None:
        raise self.failure


FULL = StoreMisconfigured("the disk is full")


def test_a_question_that_cannot_be_stored_is_not_asked(store: MemoryStore, stream: bool) -> None:
    """It is a status code, also of a stream."""
    client = TestClient(create_app(FullStore(FULL)))
    response = ask(client, user("Hi"), session_id="s", stream=stream)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.headers[HEADER] == "s"
    assert response.json()["error"]["type"] == "server_error"
    assert stored(store, "s") == []


def test_an_answer_that_was_not_stored_is_not_given_as_whole(stream: bool) -> None:
    """A turn that could not be stored is an error, in a stream an error without its end."""
    client = TestClient(create_app(FullStore(FULL, is_broken=False)))
    response = ask(client, user("Hi"), session_id="s", stream=stream)
    assert response.headers[HEADER] == "s"
    if stream:
        assert response.status_code == 200
        assert "[DONE]" not in response.text
        *chunks, error = chunks_of(response)
        assert error["error"]["message"] == "the disk is full"
        assert {chunk["choices"][0]["finish_reason"] for chunk in chunks} == {None}
    else:
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert response.json()["error"]["type"] == "server_error"


def test_a_history_that_cannot_be_read_leaves_the_demo_answering() -> None:
    """A database that fails to read costs the memory, not the answer."""
    store = FailingStore(StoreUnavailable("gone"))
    response = ask(TestClient(create_app(store)), user("Hi"), session_id="s")
    assert response.status_code == 200
    assert "first message" in text_of(response)


def test_the_other_routes(client: TestClient) -> None:
    """Models are listed, health is told without the database, all else is OpenAI's error shape."""
    models = client.get("/v1/models")
    assert [model["id"] for model in models.json()["data"]] == ["hermes-demo"]
    health = client.get("/healthz", headers={HEADER: "s"})
    assert health.json() == {"status": "ok"}
    missing = client.get("/v1/nothing")
    assert (missing.status_code, missing.json()["error"]["message"]) == (404, "Not Found")
    wrong = client.get(CHAT)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    for response in (models, health, missing, wrong):
        assert len(response.headers.get_list(HEADER)) == 1


def test_a_crash_is_a_stamped_500_that_tells_nothing() -> None:
    """A mistake in the demo itself is OpenAI's error shape too."""
    store = FullStore(LookupError("inner secret"))
    client = TestClient(create_app(store), raise_server_exceptions=False)
    response = ask(client, user("Hi"), session_id="s")
    assert (response.status_code, response.headers[HEADER]) == (500, "s")
    assert response.json()["error"]["type"] == "server_error"
    assert "secret" not in response.text
