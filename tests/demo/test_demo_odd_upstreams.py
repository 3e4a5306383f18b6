"""The demo before upstreams that send what is odd: too much, of another kind, or with secrets."""

import json
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from starlette.testclient import TestClient

from demo_app import upstream
from demo_app.app import create_app
from hermes_session_mw import MemoryStore
from hermes_session_mw.messages import MAX_MESSAGE_BYTES
from tests.demo.test_demo import HEADER, ask, chunks_of, stored, text_of, user
from tests.demo.test_demo_responses import S, body_of, respond
from tests.demo.test_demo_upstream import SECRET, chunk, client_of, error, events, refuse
from tests.support.upstreams import Exchange
from tests.support.upstreams import upstream as serving

END = chunk({}, finish_reason="stop")
HALF = {"role": "assistant", "content": "half", "status": "incomplete"}
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


def after(*lines: str) -> Callable[[Exchange], None]:
    """Send lines as they are, and an answer after them."""

    def send(exchange: Exchange) -> None:
        exchange.head()
        exchange.send("\n".join((*lines, "", "")))
        exchange.event(chunk({"content": "Hi."}))
        exchange.event(END)
        exchange.event("[DONE]")

    return send


LARGE = (
    '{"choices": [], "usage": ' + json.dumps(USAGE | {"cost": 0}).replace(": 0", ": 1e999") + "}"
)
ODD: dict[str, tuple[Callable[[Exchange], None], dict[str, Any]]] = {
    "a number too large": (after('data: {"choices": [{"delta": {"x": -1e999}}]}'), {}),
    "a cost too large": (after(f"data: {LARGE}"), {}),
    "a time to reconnect": (after("retry: 1000"), {}),
    "an id": (after("id: 1"), {}),
    "a name alone": (after("event: ping"), {}),
    "empty data": (after("data:"), {}),
    "a comment": (after(": hello"), {}),
    "a list that becomes text": (
        events(chunk({"reasoning": ["a"]}), chunk({"content": "Hi.", "reasoning": "b"}), END),
        {"reasoning": "b"}),
    "text that becomes a list": (
        events(chunk({"reasoning": "a"}), chunk({"content": "Hi.", "reasoning": ["b"]}), END),
        {"reasoning": ["b"]}),
    "a refusal that is none": (
        events(chunk({"content": "Hi.", "refusal": {"a": 1}}), END), {"refusal": {"a": 1}}),
}  # fmt: skip


@pytest.mark.parametrize(("behaviour", "beside"), ODD.values(), ids=ODD)
def test_an_odd_answer_is_one(
    store: MemoryStore, stream: bool, behaviour: Any, beside: dict[str, Any]
) -> None:
    """What is no part of an answer does no harm: all that is sent on is JSON, and can be stored."""
    with serving(behaviour) as server, client_of(store, server.url) as client:
        answer = ask(client, user("Hi"), session_id="s", stream=stream)
        assert (answer.status_code, text_of(answer)) == (200, "Hi.")
        assert "Infinity" not in answer.text
        assert stored(store, "s")[1:] == [{"role": "assistant", "content": "Hi.", **beside}]
        assert body_of(respond(client, "Hi", S, stream=stream))["status"] == "completed"


def test_a_chunk_has_no_more_than_one_call(store: MemoryStore) -> None:
    """Text and two calls in one chunk of the upstream are three chunks: some clients take one."""
    calls = [
        {
            "index": at,
            "id": f"c{at}",
            "type": "function",
            "function": {"name": "f", "arguments": "{}"},
        }
        for at in range(2)
    ]
    behaviour = events(chunk({"content": "Hi.", "tool_calls": calls}), END)
    with serving(behaviour) as server, client_of(store, server.url) as client:
        answer = ask(client, user("Hi"), session_id="s", stream=True)
    told = [each["choices"][0]["delta"] for each in chunks_of(answer)]
    assert [delta for delta in told if delta.get("content") or "tool_calls" in delta] == [
        {"content": "Hi."},
        *({"tool_calls": [call]} for call in calls),
    ]


def test_the_key_is_in_no_error(store: MemoryStore, stream: bool) -> None:
    """An upstream that quotes its key, in whichever way, tells the client nothing."""
    key = "sk/of-this"
    quoted = error(f"bad {key}", code=400, param=key, type=f"of {key}")
    text = json.dumps(quoted).replace("/", "\\/").encode()
    behaviours = [
        refuse(400, quoted), refuse(400, text), refuse(200, quoted), events(quoted),
        events(chunk({"content": "half"}), quoted),
    ]  # fmt: skip
    for behaviour in behaviours:
        with serving(behaviour) as server, client_of(store, server.url, key=key) as client:
            answer = ask(client, user("Hi"), session_id="s", stream=stream)
            told = (chunks_of(answer)[-1] if answer.is_success else answer.json())["error"]
            expected = {"message": "bad ***", "type": "of ***", "param": "***"}
            assert told.items() >= expected.items()
            assert key not in respond(client, "Hi", S, stream=stream).text


@pytest.mark.parametrize(
    ("value", "passed"),
    [
        ("7", "7"),
        ("0", "1"),
        ("3600", "60"),
        ("Wed, 21 Oct 2020 07:28:00 GMT", "1"),
        ("Fri, 21 Oct 2095 07:28:00 GMT", "60"),
        ("日", None),
        (SECRET, None),
        ("9" * 5000, None),
        ("7\r\n X-Other: 1", None),
        ("\x01", None),
    ],
)
def test_only_a_time_to_wait_is_passed_on(
    store: MemoryStore, value: str, passed: str | None
) -> None:
    """A Retry-After is sent as 1 to 60 seconds; one that is no time is left out."""
    behaviour = refuse(429, error("slow"), f"Retry-After: {value}")
    with serving(behaviour) as server, client_of(store, server.url) as client:
        answer = ask(client, user("Hi"), session_id="s")
    assert (answer.status_code, answer.headers[HEADER]) == (429, "s")
    assert answer.headers.get("Retry-After") == passed


@pytest.mark.parametrize("field", [{"a": [1]}, [1], 1.5])
def test_an_errors_fields_are_of_openais_types(store: MemoryStore, field: Any) -> None:
    """What is neither text nor a number is left out of an error that is passed on."""
    behaviour = refuse(400, error("no", type=field, param=field, code=field))
    with serving(behaviour) as server, client_of(store, server.url) as client:
        told = ask(client, user("Hi")).json()["error"]
    known = {"type": "invalid_request_error", "param": None, "code": None}
    assert told == {"message": "no", **known}


def without_end(**delta: Any) -> Callable[[Exchange], None]:
    """Send the same piece until the demo has heard enough."""

    def send(exchange: Exchange) -> None:
        exchange.head()
        with suppress(OSError):
            while True:
                exchange.event(chunk(delta))

    return send


def test_an_endless_answer_is_ended(store: MemoryStore, stream: bool) -> None:
    """An answer may be as long as can be stored, and so much of it is there, as incomplete."""
    piece = "é\n" * 50_000
    with serving(without_end(content=piece)) as server, client_of(store, server.url) as client:
        answer = ask(client, user("Hi"), session_id="s", stream=stream)
        told = (chunks_of(answer)[-1] if stream else answer.json())["error"]
        assert told["message"] == "the answer is too long to be stored"
        assert answer.status_code == (200 if stream else 502)
    question, partial = stored(store, "s")
    assert (question, partial["status"]) == (user("Hi"), "incomplete")
    size = len(json.dumps(partial["content"], ensure_ascii=False).encode())
    assert MAX_MESSAGE_BYTES - 100 < size < MAX_MESSAGE_BYTES


def compressed(text: str, repeated: int, *fields: str) -> Callable[[Exchange], None]:
    """Send a text many times, compressed."""

    def send(exchange: Exchange) -> None:
        packer = zlib.compressobj(wbits=31)
        parts = [packer.compress(text.encode()) for _ in range(repeated)]
        exchange.head(200, *fields)
        with suppress(OSError):
            exchange.send(b"".join([*parts, packer.flush()]))

    return send


GZIP = "Content-Encoding: gzip"
LONG = " " * 1_000_000
WHOLE = "".join(f"data: {json.dumps(each)}\n\n" for each in (chunk({"content": "Hi."}), END))
PACKED = {
    "an answer": (compressed(WHOLE, 1, GZIP), "Hi."),
    "one long event": (compressed(f"data: {LONG}", 300, GZIP), "The model's server sent too much."),
    "comments": (compressed(f": {LONG}\n", 300, GZIP), "The model's server sent too much."),
    "another encoding": (compressed("", 1, "Content-Encoding: br"), "cannot be decompressed"),
    "what is none": (
        lambda exchange: exchange.answer(200, b"Hi.", GZIP), "cannot be decompressed"),
}  # fmt: skip


@pytest.mark.parametrize(("behaviour", "said"), PACKED.values(), ids=PACKED)
def test_what_is_compressed_counts_as_it_is(store: MemoryStore, behaviour: Any, said: str) -> None:
    """A few kilobytes that become gigabytes are refused before they take memory."""
    with serving(behaviour) as server, client_of(store, server.url) as client:
        tracemalloc.start()
        answer = ask(client, user("Hi"), session_id="s")
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert said in answer.text
    assert most < 60_000_000


def test_an_answer_of_nothing_ends_too(
    store: MemoryStore, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upstream that goes on for ever without a word is given up."""
    monkeypatch.setattr(upstream, "_MOST", 300_000)
    with serving(without_end(x="y" * 100)) as server, client_of(store, server.url) as client:
        answer = ask(client, user("Hi"), session_id="s", stream=stream)
        told = (chunks_of(answer)[-1] if stream else answer.json())["error"]
        assert told["message"] == "The model's server sent too much."


CALL = {"id": "c", "function": {"name": "f", "arguments": "x" * 600_000}}


@pytest.mark.parametrize(
    "fields",
    [{"reasoning": "x" * 600_000}, {"tool_calls": [CALL]}],
    ids=["reasoning", "arguments"],
)
def test_what_cannot_be_stored_is_no_answer(
    store: MemoryStore, stream: bool, fields: dict[str, Any]
) -> None:
    """Where the rest of an answer is too large, its text is stored as incomplete."""
    behaviour = events(chunk({"content": "half", **fields}), chunk(fields), END)
    with serving(behaviour) as server, client_of(store, server.url) as client:
        answer = ask(client, user("Hi"), session_id="s", stream=stream)
        told = (chunks_of(answer)[-1] if stream else answer.json())["error"]
        assert told["message"] == "the answer is too long to be stored"
        assert answer.status_code == (200 if stream else 502)
    assert stored(store, "s") == [user("Hi"), HALF]


PARTS: dict[str, list[Any]] = {
    "a number": [5],
    "null": [{"type": "text", "text": "a"}, None],
    "a list": [["q"]],
    "text without a text": [{"type": "text"}, {"type": "image"}],
    "text that is none": [{"type": "text", "text": 5}, {"type": "text", "text": None}],
    "types that are none": [{"type": ["t"]}, {"x": 1}],
}


@pytest.mark.parametrize("compact_at", [0, 11])
@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_a_conversation_goes_on_after_odd_parts(parts: list[Any], compact_at: int) -> None:
    """An answer with parts of a wrong shape is told again, read, summarized and continued."""
    odd = events(chunk({"content": parts}), END)
    asked = ("/v1/chat/completions", {"messages": [user("a")]}), ("/v1/responses", {"input": "a"})
    with serving(odd) as server:
        model = upstream.UpstreamModel(server.url)
        app = create_app(MemoryStore(), keys=(), model=model, compact_at=compact_at)
        with TestClient(app) as client:
            for path, body in asked * 4:
                keyed = S | {"Idempotency-Key": path}
                for headers in (keyed, keyed, S):
                    answer = client.post(path, json=body, headers=headers)
                    assert answer.status_code == 200, answer.text
            assert client.get("/v1/conversations/s/items").status_code == 200


def test_odd_log_probabilities_do_no_harm(store: MemoryStore, stream: bool) -> None:
    """The rest of the answer is told, and stored, though its log probabilities are no lists."""
    entries = [{"token": "a", "bytes": 5, "top_logprobs": 5}, 5, {"top_logprobs": [5, {}]}]
    told = chunk({"content": "Hi."})
    told["choices"][0]["logprobs"] = {"content": entries}
    with serving(events(told, END)) as server, client_of(store, server.url) as client:
        body = body_of(respond(client, "a", S, stream=stream))
        assert body["output"][0]["content"][0]["text"] == "Hi."
