"""What an upstream puts on a message, a call or a chunk: passed on, stored, and sent back to it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from openai.lib.streaming._deltas import accumulate_delta
from starlette.testclient import TestClient

from demo_app.app import create_app
from demo_app.upstream import UpstreamModel
from hermes_session_mw import MemoryStore
from tests.demo.test_demo import HEADER, ask, chunks_of, messages_of, stored, text_of, user
from tests.demo.test_demo_responses import S, body_of, respond
from tests.demo.test_demo_turns import KEY
from tests.demo.test_demo_upstream import chunk, client_of, events, refuse
from tests.stores.hermes_state.agent import copy_to
from tests.support.upstreams import Exchange, parrot, upstream

END = chunk({}, finish_reason="stop")
CALLED = chunk({}, finish_reason="tool_calls")
USAGE = {
    "prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 1},
    "completion_tokens_details": {"reasoning_tokens": 1},
}  # fmt: skip
COST = {"choices": [], "usage": USAGE}


def message_of(response: Any) -> dict[str, Any]:
    """Return the message of a response, assembled as openai's SDK does it."""
    if response.headers["content-type"] == "application/json":
        message: dict[str, Any] = response.json()["choices"][0]["message"]
        return message
    made: dict[Any, Any] = {}
    for each in chunks_of(response):
        for choice in each["choices"]:
            made = accumulate_delta(made, choice["delta"])
    for call in made.get("tool_calls", []):
        del call["index"]
    made["content"] = made["content"] or (None if "tool_calls" in made else "")
    return made


def end_of(response: Any) -> tuple[Any, ...]:
    """Return why a response ended, its usage and its model."""
    if response.headers["content-type"] == "application/json":
        body = response.json()
        return body["choices"][0]["finish_reason"], body["usage"], body["model"]
    *_, last, cost = chunks_of(response)
    return last["choices"][0]["finish_reason"], cost["usage"], last["model"]


def call(id: str = "c", **others: Any) -> dict[str, Any]:  # noqa: A002
    return {"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}, **others}


def said(**fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": "Hi.", **fields}


def calling(*calls: Any, **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls), **fields}


SIGNED = call(extra_content={"google": {"thought_signature": "x"}})
CUSTOM = {"id": "c", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}
DETAIL = {"type": "reasoning.text", "text": "Hm.", "format": "f", "index": 0, "signature": "s"}
URL = {"type": "url_citation", "url_citation": {"url": "u", "title": "t"}}
AUDIO = {"id": "audio_1", "data": "AABB", "transcript": "Well.", "expires_at": 9_000_000_000}
BACK: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "reasoning_content": (
        [chunk({"reasoning_content": "H"}), chunk({"reasoning_content": "m."}),
         chunk({"content": "Hi."}), END],
        said(reasoning_content="Hm.")),
    "reasoning": (
        [chunk({"reasoning": "Hm."}), chunk({"content": "Hi."}), END], said(reasoning="Hm.")),
    "reasoning_details": (
        [chunk({"reasoning_details": [{**DETAIL, "text": "H", "signature": None}]}),
         chunk({"reasoning_details": [{**DETAIL, "text": "m."}]}), chunk({"content": "Hi."}), END],
        said(reasoning_details=[DETAIL])),
    "a refusal": ([chunk({"refusal": "N"}), chunk({"refusal": "o."}), END],
                  {"role": "assistant", "content": "", "refusal": "No."}),
    "annotations": (
        [chunk({"content": "Hi.", "annotations": [URL]}), END], said(annotations=[URL])),
    "unknown keys": ([chunk({"content": "Hi.", "x_own": {"a": [1]}}), END], said(x_own={"a": [1]})),
    "reasoning beside a call": (
        [chunk({"reasoning_content": "Hm.", "tool_calls": [{"index": 0, **call()}]}), CALLED],
        calling(call(), reasoning_content="Hm.")),
    "no reasoning beside a call": (
        [chunk({"reasoning_content": "", "tool_calls": [{"index": 0, **call()}]}), CALLED],
        calling(call(), reasoning_content="")),
    "a signature": ([chunk({"tool_calls": [{"index": 0, **SIGNED}]}), CALLED], calling(SIGNED)),
    "a custom call": ([chunk({"tool_calls": [{"index": 0, **CUSTOM}]}), CALLED], calling(CUSTOM)),
    "calls at index 0": (
        [chunk({"tool_calls": [{"index": 0, **call("c")}]}),
         chunk({"tool_calls": [{"index": 0, **call("d")}]}), CALLED],
        calling(call("c"), call("d"))),
    "calls without an index": (
        [chunk({"tool_calls": [call("c")]}), chunk({"tool_calls": [call("d")]}), CALLED],
        calling(call("c"), call("d"))),
    "a call without an end": ([chunk({"tool_calls": [call()]}), "[DONE]"], calling(call())),
}  # fmt: skip


@pytest.mark.parametrize(("pieces", "message"), BACK.values(), ids=BACK)
def test_all_that_is_on_a_message_goes_back(
    store: MemoryStore, stream: bool, pieces: list[Any], message: dict[str, Any]
) -> None:
    """To the client, into the store, and to the upstream with the next request."""
    results = [
        {"role": "tool", "tool_call_id": each["id"], "content": "3"}
        for each in message.get("tool_calls", [])
    ]
    with (
        upstream(events(*pieces, "[DONE]"), parrot) as server,
        client_of(store, server.url) as client,
    ):
        answer = ask(client, user("Hi"), session_id="s", stream=stream)
        assert message_of(answer) == message
        assert stored(store, "s") == [user("Hi"), message]
        asked = results or [user("And?")]
        assert ask(client, *asked, session_id="s", stream=stream).status_code == 200
        first, second = (each.body["messages"] for each in server.requests)
    assert first == [user("Hi")]
    sent = message if message["content"] else message | {"content": message["content"]}
    assert second == [user("Hi"), sent, *asked]


def test_what_hermes_has_no_column_for_is_left_out(tmp_path: Path, stream: bool) -> None:
    """Over a Hermes Agent's state.db the client gets all, and what Hermes keeps goes back."""
    pieces = [chunk({"content": "Hi.", "reasoning_details": [DETAIL], "annotations": [URL]}), END,
              COST]  # fmt: skip
    state = f"hermes:{copy_to(tmp_path)}"
    with (
        upstream(events(*pieces), parrot) as server,
        TestClient(create_app(state, keys=(), model=UpstreamModel(server.url))) as client,
    ):
        answer = ask(client, user("Hi"), session_id="s", stream=stream)
        kept = said(reasoning_details=[DETAIL])
        assert message_of(answer) == kept | {"annotations": [URL]}
        ask(client, user("And?"), session_id="s", stream=stream)
        assert server.requests[1].body["messages"] == [user("Hi"), kept, user("And?")]


def test_a_refusal_is_hermes_text(tmp_path: Path, stream: bool) -> None:
    """Over a Hermes Agent's state.db, which has no other place for it."""
    state = f"hermes:{copy_to(tmp_path)}"
    with (
        upstream(events(chunk({"refusal": "No."}), END), parrot) as server,
        TestClient(create_app(state, keys=(), model=UpstreamModel(server.url))) as client,
    ):
        answer = ask(client, user("Hi"), session_id="s", stream=stream)
        assert message_of(answer)["refusal"] == "No."
        ask(client, user("And?"), session_id="s", stream=stream)
        assert server.requests[1].body["messages"][1] == said(content="No.")


@pytest.mark.parametrize(("pieces", "reason"), [
    ([chunk({"tool_calls": [call()]}), END], "stop"),
    ([chunk({"tool_calls": [call()]}), CALLED], "tool_calls"),
    ([chunk({"tool_calls": [call()]}), "[DONE]"], "tool_calls"),
    ([chunk({"function_call": {"name": "f", "arguments": ""}}), "[DONE]"], "function_call"),
    ([chunk({"content": "Hi."}, finish_reason="length")], "length"),
    ([chunk({"content": ""}), "[DONE]"], "stop"),
])  # fmt: skip
def test_an_end_is_told_as_it_was(
    store: MemoryStore, stream: bool, pieces: list[Any], reason: str
) -> None:
    """And as the usual one where it was not told, also to whom it is told again."""
    with upstream(events(*pieces)) as server, client_of(store, server.url) as client:
        client.headers.update({HEADER: "s", KEY: "k"})
        for each in (stream, not stream):
            answer = ask(client, user("Hi"), stream=each, stream_options={"include_usage": True})
            assert end_of(answer)[0] == reason
    assert len(server.requests) == 1


def test_audio_goes_back_by_its_id(store: MemoryStore, stream: bool) -> None:
    """Its data and its transcript are put together for the client and the store."""
    pieces = [chunk({"audio": {"id": "audio_1", "transcript": "We"}}),
              chunk({"audio": {"data": "AA"}}), chunk({"audio": {"id": "audio_1", "data": "BB"}}),
              chunk({"audio": {"transcript": "ll."}}),
              chunk({"audio": {"expires_at": AUDIO["expires_at"]}}), END]  # fmt: skip
    with upstream(events(*pieces), parrot) as server, client_of(store, server.url) as client:
        answer = ask(client, user("Hi"), session_id="s", stream=stream)
        assert message_of(answer) == {"role": "assistant", "content": "", "audio": AUDIO}
        ask(client, user("And?"), session_id="s", stream=stream)
        _, sent = (each.body["messages"] for each in server.requests)
    assert stored(store, "s")[1]["audio"] == AUDIO
    assert sent[1] == {"role": "assistant", "content": "", "audio": {"id": "audio_1"}}


def test_a_content_in_parts_is_passed_on_as_it_is(store: MemoryStore, stream: bool) -> None:
    """Where it has other parts than text, as Mistral's thinking; its text is the answer's."""
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    pieces = [chunk({"content": [thought]}), chunk({"content": "H"}), chunk({"content": "i."}), END]
    with upstream(events(*pieces), parrot) as server, client_of(store, server.url) as client:
        answer = ask(client, user("Hi"), session_id="s", stream=stream)
        told = (
            [each["choices"][0]["delta"].get("content") for each in chunks_of(answer)]
            if stream
            else []
        )
        kept = [thought, {"type": "text", "text": "Hi."}]
        assert told[1:4] == ([[thought], "H", "i."] if stream else [])
        assert stored(store, "s")[1] == {"role": "assistant", "content": kept}
        if not stream:
            assert message_of(answer)["content"] == kept
        ask(client, user("And?"), session_id="s")
        assert server.requests[1].body["messages"][1]["content"] == kept


def test_a_call_without_an_id_can_be_answered(store: MemoryStore, stream: bool) -> None:
    """It gets an id, which the client is told, and by which its result is taken."""
    nameless = {"index": 0, "function": {"name": "f", "arguments": "{}"}}
    behaviour = events(chunk({"tool_calls": [nameless]}), CALLED)
    with upstream(behaviour, parrot) as server, client_of(store, server.url) as client:
        answer = ask(client, user("Hi"), session_id="s", stream=stream)
        (made,) = message_of(answer)["tool_calls"]
        assert made["id"].startswith("call_")
        result = {"role": "tool", "tool_call_id": made["id"], "content": "3"}
        assert ask(client, result, session_id="s", stream=stream).status_code == 200
        assert server.requests[1].body["messages"][1:] == [calling(made), result]


def test_an_answer_is_told_again_as_it_was(store: MemoryStore, stream: bool) -> None:
    """Under its Idempotency-Key: its fields, its end, its usage with details, and its model."""
    pieces = [chunk({"reasoning_content": "Hm.", "content": "Hi."}) | {"model": "own"},
              chunk({"x": 1}, finish_reason="length"), COST]  # fmt: skip
    with upstream(events(*pieces)) as server, client_of(store, server.url) as client:
        client.headers.update({HEADER: "s", KEY: "k"})
        usage: Any = {"stream_options": {"include_usage": True}}
        answers = [ask(client, user("Hi"), stream=each, **usage) for each in (stream, not stream)]
        assert [end_of(each) for each in answers] == [("length", USAGE, "own")] * 2
        assert (
            message_of(answers[0]) == message_of(answers[1]) == said(reasoning_content="Hm.", x=1)
        )
    assert len(server.requests) == 1
    noted = {"usage": USAGE, "model": "own", "finish_reason": "length"}
    assert messages_of(store, "s")[1].items() >= noted.items()


def test_a_usage_is_always_told(store: MemoryStore, stream: bool) -> None:
    """As an estimate, which says that it is one, where the upstream tells none."""
    with upstream(parrot) as server, client_of(store, server.url) as client:
        usage: Any = {"stream_options": {"include_usage": True}}
        _, used, _ = end_of(ask(client, user("Hi"), session_id="s", stream=stream, **usage))
        assert used["estimated"] is True
        assert used["prompt_tokens"] + used["completion_tokens"] == used["total_tokens"] > 0
        assert body_of(respond(client, "Hi", S, stream=stream))["usage"]["total_tokens"] > 0
    assert messages_of(store, "s")[1]["usage"] == used


def test_what_is_beside_a_message_is_passed_on(store: MemoryStore, stream: bool) -> None:
    """The choice's logprobs, all of them, and what a provider adds to its chunks."""
    a, b = ({"content": [{"token": token}]} for token in "ab")
    pieces = [chunk({"content": "a"}, logprobs=a) | {"citations": ["u"], "id": "own"},
              chunk({"content": "b"}, logprobs=b), END]  # fmt: skip
    with upstream(events(*pieces)) as server, client_of(store, server.url) as client:
        answer = ask(client, user("Hi"), session_id="s", stream=stream)
    if stream:
        _, first, second, *_ = chunks_of(answer)
        assert (first["choices"][0]["logprobs"], first["citations"]) == (a, ["u"])
        assert second["choices"][0]["logprobs"] == b
    else:
        body = answer.json()
        assert body["choices"][0]["logprobs"] == {"content": [{"token": "a"}, {"token": "b"}]}
        assert (body["citations"], body["id"][:9]) == (["u"], "chatcmpl-")


def split(exchange: Exchange) -> None:
    """Send a character in two chunks, one in two reads, and half of one at the end."""
    exchange.head()
    exchange.event(chunk({"content": "\ud83d"}))
    exchange.event(chunk({"content": "\ude00 "}))
    data = json.dumps(chunk({"content": "\U0001f601 \ud83d"}))
    raw = f"data: {data}\n\n".replace("\\ud83d\\ude01", "\U0001f601").encode()
    at = raw.index("\U0001f601".encode()) + 2
    exchange.send(raw[:at])
    exchange.send(raw[at:])
    exchange.event(END)


def test_halves_of_a_character_are_one(store: MemoryStore, stream: bool) -> None:
    """For the client and in the store; one that stays alone is U+FFFD."""
    with upstream(split) as server, client_of(store, server.url) as client:
        answer = ask(client, user("Hi"), session_id="s", stream=stream)
        assert text_of(answer) == "\U0001f600 \U0001f601 \ufffd"
        assert '\\ud83d"' not in answer.text
        assert body_of(respond(client, "Hi", S, stream=stream))["status"] == "completed"
    assert stored(store, "s")[1]["content"] == text_of(answer)


def lines(*lines: str, kind: str = "text/event-stream") -> Callable[[Exchange], None]:
    """Send lines between the two halves of an answer."""

    def send(exchange: Exchange) -> None:
        exchange.head(kind=kind)
        exchange.event(chunk({"role": "assistant", "content": "H"}))
        exchange.send("".join(f"{line}\n" for line in lines))
        exchange.event(chunk({"content": "i."}))
        exchange.event(END)
        exchange.event("[DONE]")

    return send


WHOLE = {"choices": [{"index": 0, "message": {"content": "Hi."}, "finish_reason": "stop"}]}
UNENDED = {"choices": [{"index": 0, "message": {"content": "Hi."}, "finish_reason": None}]}
TAKEN: dict[str, Callable[[Exchange], None]] = {
    "choices of null": lines('data: {"choices": null}', ""),
    "no choices": lines("data: {}", ""),
    "null": lines("data: null", ""),
    "a list": lines("data: []", ""),
    "a ping": lines("event: ping", 'data: {"type": "ping"}', ""),
    "a ping without a name": lines('data: {"type": "ping"}', ""),
    "an event of another kind": lines("event: x.usage", 'data: {"cost": 1}', ""),
    "a delta of null": lines('data: {"choices": [{"index": 0, "delta": null}]}', ""),
    "a choice of null": lines('data: {"choices": [null]}', ""),
    "a content of null": lines('data: {"choices": [{"delta": {"content": null}}]}', ""),
    "calls of null": lines('data: {"choices": [{"delta": {"tool_calls": null}}]}', ""),
    "content in parts": events(
        chunk({"content": [{"type": "text", "text": "H"}]}),
        chunk({"content": [{"type": "text", "text": "i."}]}), END),
    "no end but [DONE]": events(chunk({"content": "Hi."}), "[DONE]"),
    "no [DONE]": events(chunk({"content": "Hi."}), END),
    "a whole answer": refuse(200, WHOLE),
    "a whole answer without an end": refuse(200, UNENDED),
    "a whole answer as an event": events(WHOLE),
    "a whole answer of another type": lambda exchange: exchange.answer(
        200, json.dumps(WHOLE).encode(), kind="text/plain"),
    "a stream of another type": lines(kind="application/json"),
    "a stream without a type": lines(kind=""),
    "a last event without its end": lambda exchange: exchange.send(
        "HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
        f"data: {json.dumps(WHOLE)}"),
}  # fmt: skip


@pytest.mark.parametrize("behaviour", TAKEN.values(), ids=TAKEN)
def test_what_servers_send_is_an_answer(
    store: MemoryStore, stream: bool, behaviour: Callable[[Exchange], None]
) -> None:
    """With all its text, and an end; what says nothing is passed over."""
    with upstream(behaviour) as server, client_of(store, server.url) as client:
        usage: Any = {"stream_options": {"include_usage": True}}
        answer = ask(client, user("Hi"), session_id="s", stream=stream, **usage)
        assert (answer.status_code, text_of(answer), end_of(answer)[0]) == (200, "Hi.", "stop")
        assert stored(store, "s") == [user("Hi"), said()]
        assert body_of(respond(client, "Hi", S, stream=stream))["status"] == "completed"


def refusing(part: str, name: str, then: Callable[[Exchange], None]) -> Callable[[Exchange], None]:
    """Refuse requests that have a part, and answer others."""

    def answer(exchange: Exchange) -> None:
        if part in json.dumps(exchange.body):
            exchange.answer(400, {"error": {"message": f"property '{name}' is unsupported"}})
        else:
            then(exchange)

    return answer


def test_stream_options_are_left_out_where_they_are_refused(
    store: MemoryStore, stream: bool
) -> None:
    """The upstream is asked again, and from then on as it takes it."""
    server_of = upstream(refusing("stream_options", "stream_options", parrot))
    with server_of as server, client_of(store, server.url) as client:
        for count in (2, 3):
            answer = ask(client, user("Hi"), session_id=f"s{count}", stream=stream)
            assert (answer.status_code, text_of(answer)) == (200, "Hi")
            assert len(server.requests) == count
        asked = ["stream_options" in each.body for each in server.requests]
    assert asked == [True, False, False]


def test_keys_are_left_out_where_they_are_refused(store: MemoryStore, stream: bool) -> None:
    """By the model that refuses them; another one gets them."""
    thinking = events(chunk({"reasoning_content": "Hm.", "content": "Hi."}), END)
    strict = refusing("Hm.", "reasoning_content", parrot)
    with (
        upstream(thinking, strict, strict, strict, parrot) as server,
        client_of(store, server.url) as client,
    ):
        for model in ("a", "b", "b", "a"):
            answer = ask(client, user("Hi"), session_id="s", stream=stream, model=model)
            assert answer.status_code == 200
        sent = [(each.body["model"], "Hm." in json.dumps(each.body)) for each in server.requests]
    assert sent == [("a", False), ("b", True), ("b", False), ("b", False), ("a", True)]


@pytest.mark.parametrize("name", ["stream_options", "temperature"])
def test_a_refusal_that_stays_is_told(store: MemoryStore, stream: bool, name: str) -> None:
    """Nothing is remembered of what did not help, and nothing is stored."""
    behaviour = refuse(400, {"error": {"message": f"no {name}"}})
    with upstream(behaviour) as server, client_of(store, server.url) as client:
        for _ in range(2):
            answer = ask(client, user("Hi"), session_id="s", stream=stream)
            assert (answer.status_code, answer.json()["error"]["message"]) == (400, f"no {name}")
        asked = ["stream_options" in each.body for each in server.requests]
    assert asked == ([True, False] * 2 if name == "stream_options" else [True, True])
    assert stored(store, "s") == []
