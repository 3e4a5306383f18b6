"""The demo before a server that has no memory, and what becomes of that one's failures."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
from starlette.testclient import TestClient

from demo_app.app import create_app
from demo_app.upstream import UpstreamModel
from hermes_session_mw import ConfigurationError, MemoryStore
from hermes_session_mw.openai_api.invalid_request import InvalidRequest
from tests.demo.test_demo import CHAT, HEADER, ask, chunks_of, stored, text_of, user
from tests.demo.test_demo_responses import S, body_of, events_of, respond
from tests.demo.test_demo_server import run_demo
from tests.demo.test_demo_turns import KEY
from tests.support.server import demo, free_port
from tests.support.upstreams import Exchange, Upstream, parrot, upstream

SECRET = "sk-of-this-server"


@contextmanager
def client_of(
    store: MemoryStore, url: str, *, timeout: float = 20, key: str | None = SECRET
) -> Iterator[TestClient]:
    """Yield a client of a demo that sends its conversations on to ``url``."""
    model = UpstreamModel(url, key=key, timeout=timeout)
    with TestClient(create_app(store, keys=(), model=model)) as client:
        yield client


def test_a_stateless_server_becomes_one_with_memory(store: MemoryStore, stream: bool) -> None:
    """The second request brings the upstream what was said in the first one."""
    with upstream(parrot) as server, client_of(store, server.url) as client:
        first = ask(client, user("My name is Ada."), session_id="s", stream=stream)
        assert text_of(first) == "My name is Ada."
        second = ask(client, user("Who am I?"), session_id="s", stream=stream)
        assert text_of(second) == "My name is Ada. / My name is Ada. / Who am I?"
        third = respond(client, "And here?", S, stream=stream, instructions="Be kind.")
        assert body_of(third)["output"][0]["content"][0]["text"].startswith("Be kind. / My name")
    assert [len(each.body["messages"]) for each in server.requests] == [1, 3, 6]
    assert len(stored(store, "s")) == 6


def test_a_conversation_goes_on_after_a_restart(tmp_path: Path) -> None:
    """The demo is stopped and started, and the upstream is told what was said before."""
    with upstream(parrot) as server:
        for text, expected in (("one", "one"), ("two", "one / one / two")):
            options = ["--upstream", server.url, "--upstream-session-header", "session-id"]
            with demo(tmp_path, *options) as url:
                body = {"messages": [user(text)]}
                response = httpx2.post(f"{url}/v1/chat/completions", json=body, headers=S)
                assert response.json()["choices"][0]["message"]["content"] == expected
    assert [each.headers["session-id"] for each in server.requests] == ["s", "s"]


def test_what_a_body_asks_for_is_passed_on(store: MemoryStore) -> None:
    """The model, and all else that the demo does not see to, reaches the upstream as it is."""
    asked: dict[str, Any] = {"model": "big", "temperature": 0.5, "seed": 7, "x_own": {"a": [1]}}
    asked["stop"] = ["\ud800"]
    with upstream(parrot) as server, client_of(store, server.url) as client:
        body = {"messages": [user("Hi")], "stream_options": {"include_usage": False}, **asked}
        answer = client.post(CHAT, content=json.dumps(body))
        assert answer.json()["model"] == "raw-1"
        respond(client, "Hi", model="big", temperature=0, max_output_tokens=5, tools=[])
        for _ in range(2):
            ask(client, user("Hi"))
    ours = {"stream": True, "stream_options": {"include_usage": True}}
    first, second, *others = (each.body for each in server.requests)
    assert first == asked | ours | {"messages": [user("Hi")]}
    assert {"model": "big", "temperature": 0, "max_completion_tokens": 5}.items() <= second.items()
    assert [body["model"] for body in others] == ["raw", "raw"]  # the first that is listed
    assert server.requests[0].headers["authorization"] == f"Bearer {SECRET}"


def test_the_sessions_id_goes_on_where_it_is_asked_for(store: MemoryStore, stream: bool) -> None:
    """Under the name that the operator gave, with each question, and by no other request."""
    lists: list[Exchange] = []

    class Listing(Upstream):
        def models(self, exchange: Exchange) -> None:
            lists.append(exchange)
            super().models(exchange)

    with upstream(parrot, kind=Listing) as server:
        model = UpstreamModel(server.url, session_header="X-LiteLLM-Session-Id")
        with TestClient(create_app(store, keys=(), model=model)) as client:
            ask(client, user("Hi"), session_id="s", stream=stream)
            minted = respond(client, "Hi", stream=stream).headers[HEADER]
        with client_of(store, server.url) as client:
            ask(client, user("Hi"), session_id="s", stream=stream)
    told = [each.headers.get("x-litellm-session-id") for each in server.requests]
    assert told == ["s", minted, None]
    assert not any("x-litellm-session-id" in each.headers for each in lists)


@pytest.mark.parametrize("name", ["", "a b", "Authorization", "content-type", "Cookie", "Host"])
def test_a_header_that_means_something_else_carries_no_id(name: str) -> None:
    """A name that would break the request, or replace the key in it, is refused at once."""
    with pytest.raises(ConfigurationError, match="header_name"):
        UpstreamModel("http://127.0.0.1:1/v1", session_header=name)


class Served(NamedTuple):
    """A demo as a process, its upstream, and a client of it."""

    server: Upstream
    client: httpx2.Client
    log: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A demo with API keys and an upstream, both as the environment says."""
    folder = tmp_path_factory.mktemp("demo")
    with upstream(parrot) as server, ExitStack() as serving:
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("HERMES_API_KEYS", "ada-key")
            patched.setenv("HERMES_UPSTREAM", server.url)
            patched.setenv("HERMES_UPSTREAM_KEY", f" {SECRET}\n")
            url = serving.enter_context(demo(folder))
        headers = {"Authorization": "Bearer ada-key"}
        client = httpx2.Client(base_url=f"{url}/v1", headers=headers, timeout=30)
        with client:
            yield Served(server, client, folder / "server.log")


def test_the_clients_own_key_is_not_passed_on(served: Served) -> None:
    """The upstream sees its own key, and the client's is the demo's alone."""
    body = {"messages": [user("Hi")]}
    assert served.client.post("/chat/completions", json=body).is_success
    models = served.client.get("/models")
    assert [model["id"] for model in models.json()["data"]] == ["raw", "other"]
    (sent,) = served.server.requests[-1:]
    assert sent.headers["authorization"] == f"Bearer {SECRET}"
    assert "ada-key" not in str(sent.headers)
    assert SECRET not in served.log.read_text()


def test_a_stream_is_passed_on_as_it_comes(served: Served) -> None:
    """The client has the first piece before the upstream has said its second."""
    was_read = threading.Event()

    def wait_between(exchange: Exchange) -> None:
        exchange.head()
        exchange.delta(role="assistant", content="first")
        assert was_read.wait(30)
        exchange.delta(content=" second", reason="stop")

    served.server.behaviours.insert(0, wait_between)
    body = {"messages": [user("Hi")], "stream": True}
    with served.client.stream("POST", "/chat/completions", json=body) as response:
        lines = response.iter_lines()
        while '"content": "first"' not in next(lines):
            pass
        was_read.set()
        rest = "".join(lines)
    assert '"content": " second"' in rest
    assert rest.endswith("[DONE]")


@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "stops"])
def test_who_stops_an_answer_stops_the_upstream(served: Served, leaves: bool) -> None:
    """By a route, or by leaving: its connection is closed, and what came stored as incomplete."""
    has_ended = threading.Event()

    def go_on(exchange: Exchange) -> None:
        exchange.head()
        exchange.delta(content="half")
        exchange.wait_for_the_end()
        has_ended.set()

    served.server.behaviours.insert(0, go_on)
    body = {"messages": [user("Hi")], "stream": True}
    here = {HEADER: f"left-{leaves}"}
    wish = here | {"X-Hermes-On-Disconnect": "stop" if leaves else "continue"}
    with served.client.stream("POST", "/chat/completions", json=body, headers=wish) as response:
        assert any('"half"' in line for line in response.iter_lines())
        if not leaves:
            stop = served.client.post(f"/sessions/left-{leaves}/answer/stop")
            assert stop.status_code == 202
            assert has_ended.wait(30)
    assert has_ended.wait(30)
    body = {"messages": [user("And?")]}
    again = served.client.post("/chat/completions", json=body, headers=here)
    assert again.json()["choices"][0]["message"]["content"] == "Hi / half / And?"
    (sent,) = served.server.requests[-1:]
    assert sent.body["messages"][1] == {"role": "assistant", "content": "half"}


def test_a_repeated_request_asks_no_upstream(store: MemoryStore, stream: bool) -> None:
    """Under its Idempotency-Key an answer is told again, and the upstream is left alone."""
    with upstream(parrot) as server, client_of(store, server.url) as client:
        client.headers.update({HEADER: "s", KEY: "k"})
        first = ask(client, user("Hi"), stream=stream, model="big")
        again = ask(client, user("Hi"), stream=not stream, model="big")
        assert text_of(again) == text_of(first) == "Hi"
        made = [body_of(respond(client, "Ho", stream=each)) for each in (stream, not stream)]
    assert made[0] == made[1]
    assert len(server.requests) == 2
    assert len(stored(store, "s")) == 4


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
EXTRA = {"reasoning_content": "Hm.", "tool_calls": [CALL], "annotations": [{"type": "x"}]}


def test_a_server_that_does_not_stream_is_one_too(store: MemoryStore, stream: bool) -> None:
    """A whole completion in the place of a stream is passed on, with all that its message has."""

    def answer(exchange: Exchange) -> None:
        message = {
            "role": "assistant",
            "content": "Caf\u00e9 \ud83d\ude00 \ud800",
            "refusal": None,
            **EXTRA,
        }
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        exchange.answer(200, {"choices": [{"index": 1}, choice], "usage": {"prompt_tokens": "?"}})

    with upstream(answer) as server, client_of(store, server.url, key=None) as client:
        response = ask(client, user("Hi"), session_id="s", stream=stream, model="asked")
    assert text_of(response) == "Caf\u00e9 \U0001f600 \ufffd"
    if stream:
        chunks = chunks_of(response)
        fields = {k: v for each in chunks for k, v in each["choices"][0]["delta"].items()}
        assert fields["tool_calls"] == [{**CALL, "index": 0}]
        assert (fields["reasoning_content"], fields["annotations"]) == ("Hm.", [{"type": "x"}])
        assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    else:
        choice = response.json()["choices"][0]
        assert {**choice["message"], **EXTRA} == choice["message"]
        usage = response.json()["usage"]
        assert (choice["finish_reason"], usage["estimated"]) == ("tool_calls", True)
        assert response.json()["model"] == "asked"
    kept = stored(store, "s")[1]
    assert kept == {"role": "assistant", "content": text_of(response), **EXTRA}
    assert "authorization" not in server.requests[0].headers


def test_texts_of_a_message_are_put_together(store: MemoryStore) -> None:
    """What a message has beside its text streams too, and its pieces are one text in the end."""
    pieces = [chunk({"reasoning_content": "H"}), chunk({"reasoning_content": "m."}),
              chunk({"content": "No."}, finish_reason="stop"),
              {"choices": [], "usage": USAGE | {"x": 1}}]  # fmt: skip
    with upstream(events(*pieces)) as server, client_of(store, server.url) as client:
        answer = ask(client, user("Hi")).json()
    message = answer["choices"][0]["message"]
    assert answer["usage"] == USAGE | {"x": 1}
    assert message == {"role": "assistant", "content": "No.", "reasoning_content": "Hm."}


def test_a_failure_needs_no_key(store: MemoryStore) -> None:
    """Without a key of its own the demo tells of a refusal all the same."""
    with (
        upstream(refuse(401, error("no"))) as server,
        client_of(store, server.url, key=None) as client,
    ):
        assert ask(client, user("Hi"), session_id="s").status_code == 502


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"data": 1}', b'{"data": []}', b'{"data": [1, {"id": 7}]}']
)
def test_a_list_of_models_that_is_none_is_a_502(store: MemoryStore, body: bytes) -> None:
    """Nor is there a model to ask then, where the request names none."""

    class Other(Upstream):
        def models(self, exchange: Exchange) -> None:
            exchange.answer(200, body)

    with upstream(parrot, kind=Other) as server, client_of(store, server.url) as client:
        listed = client.get("/v1/models")
        assert listed.status_code == (200 if b"[" in body[1:] else 502)
        assert ask(client, user("Hi"), session_id="s").status_code == 502
        assert ask(client, user("Hi"), session_id="s", model="m").status_code == 200


@pytest.mark.parametrize("url", ["", "localhost:1", "ftp://h/v1", "http://", "http://h:port",
                                 "http://u:p@h/v1", "http://h/v1?key=1"])  # fmt: skip
def test_a_url_that_cannot_be_is_refused(url: str) -> None:
    """Before anything is served, and without a password in what is said."""
    with pytest.raises(ConfigurationError) as refused:
        UpstreamModel(url)
    assert "u:p" not in str(refused.value)


@pytest.mark.parametrize("options", [
    {"key": "a\nb"}, {"key": "\u00e9"},
    {"timeout": 0}, {"timeout": float("nan")}, {"timeout": float("inf")},
])  # fmt: skip
def test_options_that_cannot_be_are_refused(options: Any) -> None:
    """A key that no header can have, which is not said, and a timeout that is none."""
    with pytest.raises(ConfigurationError) as refused:
        UpstreamModel("http://127.0.0.1:1/v1", **options)
    assert str(options.get("key")) not in str(refused.value)


def test_a_wrong_upstream_is_told_in_a_line() -> None:
    """The demo ends with an explanation, and no traceback."""
    done = run_demo("--upstream", "127.0.0.1:11434")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "the upstream is not a URL" in done.stderr


async def test_a_body_that_is_too_deep_is_refused() -> None:
    """What cannot be written as JSON is the request's fault, and not the upstream's."""
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    model = UpstreamModel("http://127.0.0.1:1/v1")
    with pytest.raises(InvalidRequest):
        await anext(model.stream([user("Hi")], {"model": "m", "x": nested}))
    await model.aclose()
    while nested:  # else it is let go of too deep for the interpreter
        nested = nested[0]


def refuse(status: int, body: Any, *fields: str) -> Callable[[Exchange], None]:
    """Answer with an error."""
    return lambda exchange: exchange.answer(status, body, *fields)


def error(message: str, **fields: Any) -> dict[str, Any]:
    """Return an error as OpenAI sends it."""
    return {"error": {"message": message, "type": "t", "param": "p", "code": "c", **fields}}


def told(status: int) -> str:
    return f"The model's server refuses this ({status})."


OTHER = {"type": "server_error", "param": None, "code": "upstream_error"}
REFUSED = {"type": "invalid_request_error", "param": None, "code": None}
PASSED_ON: dict[str, tuple[Any, int, dict[str, Any]]] = {
    "bad request": (refuse(400, error("no")), 400, error("no")["error"]),
    "no such model": (refuse(404, {"error": {"message": "no"}}), 404, REFUSED | {"message": "no"}),
    "an error of text": (refuse(404, {"error": "no"}), 404, REFUSED | {"message": "no"}),
    "a detail": (refuse(422, {"detail": "no"}), 422, REFUSED | {"message": "no"}),
    "a list": (refuse(413, ["no"]), 413, REFUSED | {"message": told(413)}),
    "no JSON": (refuse(400, b"<no>"), 400, REFUSED | {"message": told(400)}),
    "its key in it": (refuse(400, error(f"{SECRET}!")), 400, error("***!")["error"]),
}  # fmt: skip


@pytest.mark.parametrize(("behaviour", "status", "expected"), PASSED_ON.values(), ids=PASSED_ON)
def test_a_refusal_is_passed_on_and_nothing_is_stored(
    store: MemoryStore, stream: bool, behaviour: Any, status: int, expected: dict[str, Any]
) -> None:
    """What the upstream takes not at all is told as it tells it, and burdens no conversation."""
    with upstream(behaviour) as server, client_of(store, server.url) as client:
        for response in (
            ask(client, user("Hi"), session_id="s", stream=stream),
            respond(client, "Hi", S, stream=stream),
        ):
            assert (response.status_code, response.headers[HEADER]) == (status, "s")
            assert response.json()["error"] == expected
    assert stored(store, "s") == []


def garbage(text: str | bytes) -> Callable[[Exchange], None]:
    """Send bytes, and close the connection."""
    return lambda exchange: exchange.send(text)


def events(*data: Any) -> Callable[[Exchange], None]:
    """Send a stream of events, whatever they hold."""

    def send(exchange: Exchange) -> None:
        exchange.head()
        for each in data:
            exchange.event(each)

    return send


def be_silent(exchange: Exchange) -> None:
    exchange.wait_for_the_end()


def begin_and_be_silent(exchange: Exchange) -> None:
    exchange.head()
    exchange.wait_for_the_end()


def chunk(delta: Any, **choice: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, **choice}]}


def page(exchange: Exchange) -> None:
    exchange.answer(200, b"<html>", kind="text/html")


def fail_by_name(exchange: Exchange) -> None:
    exchange.head()
    exchange.send('event: error\ndata: {"message": "inner"}\n\n')


def endless(exchange: Exchange) -> None:
    exchange.head(200, kind="application/json")
    exchange.send(b" " * 4_194_305)


HUGE = "x" * 4_194_305
FAILED: dict[str, tuple[Callable[[Exchange], None], int, str | None]] = {
    "its key is wrong": (refuse(401, error(f"Incorrect key: {SECRET}")), 502, "upstream_error"),
    "it must not": (refuse(403, error("no")), 502, "upstream_error"),
    "no such path": (refuse(404, b"404 page not found"), 502, "upstream_error"),
    "a framework's 404": (refuse(404, {"detail": "Not Found"}), 502, "upstream_error"),
    "no such method": (refuse(405, {"detail": "Method Not Allowed"}), 502, "upstream_error"),
    "it must pay": (refuse(402, error("no")), 502, "upstream_error"),
    "too many": (refuse(429, error("slow"), "Retry-After: 7"), 429, "c"),
    "it is down": (refuse(500, error("inner")), 502, "upstream_error"),
    "it is overloaded": (refuse(503, error("inner"), "Retry-After: 7"), 503, "upstream_error"),
    "its upstream timed out": (refuse(504, error("inner")), 504, "upstream_timeout"),
    "it gave up": (refuse(408, error("inner")), 504, "upstream_timeout"),
    "it is elsewhere": (refuse(307, b"", "Location: http://127.0.0.1:9/"), 502, "upstream_error"),
    "it is silent": (be_silent, 504, "upstream_timeout"),
    "it begins and is silent": (begin_and_be_silent, 504, "upstream_timeout"),
    "it hangs up": (garbage(b""), 502, "upstream_error"),
    "no HTTP": (garbage(b"220 smtp ready\r\n\r\n"), 502, "upstream_error"),
    "a page": (page, 502, "upstream_error"),
    "JSON that is none": (refuse(200, b"{"), 502, "upstream_error"),
    "JSON too deep": (refuse(200, b"[" * 100_000), 502, "upstream_error"),
    "JSON of another kind": (refuse(200, {"hello": "world"}), 502, "upstream_error"),
    "a list": (refuse(200, []), 502, "upstream_error"),
    "an endless error": (refuse(400, b" " * 4_194_305), 502, "upstream_error"),
    "endless JSON": (endless, 502, "upstream_error"),
    "no event": (events(), 502, "upstream_error"),
    "an end without an answer": (events("[DONE]"), 502, "upstream_error"),
    "an event of text": (events("hello"), 502, "upstream_error"),
    "an event too large": (events(HUGE), 502, "upstream_error"),
    "a text that is none": (events(chunk({"content": 1})), 502, "upstream_error"),
    "a choice that is none": (events({"choices": [1]}), 502, "upstream_error"),
    "choices that are none": (events({"choices": 1}), 502, "upstream_error"),
    "a delta that is none": (events(chunk("a")), 502, "upstream_error"),
    "calls that are none": (events(chunk({"tool_calls": 1})), 502, "upstream_error"),
    "a call that is none": (events(chunk({"tool_calls": [1]})), 502, "upstream_error"),
    "what is called is none": (
        events(chunk({"tool_calls": [{"function": 1}]})), 502, "upstream_error"),
    "events that say nothing": (
        events("null", {}, {"choices": None}, "[]", {"type": "ping"}, "[DONE]"), 502,
        "upstream_error"),
    "an error by its name": (fail_by_name, 502, "upstream_error"),
    "an error of vLLM": (
        events({"object": "error", "message": "slow", "code": 429}), 429, "429"),
    "an error in a list": (events([{"error": {"message": "slow", "code": 429}}]), 429, "429"),
    "an error event": (events(error("inner")), 502, "upstream_error"),
    "an error of text": (events({"error": "inner"}), 502, "upstream_error"),
    "too many, as an event": (events(error("slow", code=429)), 429, "429"),
}  # fmt: skip


@pytest.mark.parametrize(("behaviour", "status", "code"), FAILED.values(), ids=FAILED)
def test_a_failure_before_the_answer_is_a_status(
    store: MemoryStore, stream: bool, behaviour: Any, status: int, code: str | None
) -> None:
    """Also of a stream; the question is stored as unanswered, and asked again it is there once."""
    patience = 0.05 if "silent" in getattr(behaviour, "__name__", "") else 20
    with (
        upstream(behaviour, behaviour, parrot) as server,
        client_of(store, server.url, timeout=patience) as client,
    ):
        for response in (
            ask(client, user("Hi"), session_id="s", stream=stream),
            respond(client, "Hi", S, stream=stream),
        ):
            assert (response.status_code, response.headers[HEADER]) == (status, "s")
            told = response.json()["error"]
            assert told.keys() == {"message", "type", "param", "code"}
            assert str(told["code"]) == str(code)
            assert "inner" not in response.text
            assert SECRET not in response.text
            retry = "7" if status in (429, 503) and behaviour not in EVENTS_429 else None
            assert response.headers.get("retry-after") == retry
        assert stored(store, "s") == [user("Hi")]
    with upstream(parrot) as server, client_of(store, server.url) as client:
        assert text_of(ask(client, user("Hi"), session_id="s", stream=stream)) == "Hi"
    assert len(stored(store, "s")) == 2


EVENTS_429 = [
    FAILED[name][0] for name in ("too many, as an event", "an error of vLLM", "an error in a list")
]


def test_an_upstream_that_is_not_there_is_a_502(store: MemoryStore, stream: bool) -> None:
    """A refused connection is told as such, of an answer and of the list of models."""
    with client_of(store, f"http://127.0.0.1:{free_port()}/v1") as client:
        for response in (
            ask(client, user("Hi"), session_id="s", stream=stream, model="m"),
            ask(client, user("Hi"), session_id="s", stream=stream),
            respond(client, "Hi", S, stream=stream),
            client.get("/v1/models", headers=S),
        ):
            assert (response.status_code, response.headers[HEADER]) == (502, "s")
            assert response.json()["error"]["code"] == "upstream_unreachable"
    assert stored(store, "s") == [user("Hi")]


def break_off(exchange: Exchange) -> None:
    exchange.head(200, "Transfer-Encoding: chunked")
    data = b'data: {"choices": [{"delta": {"content": "half"}}]}\n\n'
    exchange.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")


def fall_silent(exchange: Exchange) -> None:
    exchange.head()
    exchange.delta(content="half")
    exchange.wait_for_the_end()


BROKEN: dict[str, tuple[Callable[[Exchange], None], int, str]] = {
    "cut": (break_off, 502, "upstream_error"),
    "ended early": (events(chunk({"content": "half"})), 502, "upstream_error"),
    "silent": (fall_silent, 504, "upstream_timeout"),
    "garbage": (events(chunk({"content": "half"}), "{"), 502, "upstream_error"),
    "an error": (events(chunk({"content": "half"}), error("inner")), 502, "upstream_error"),
    "in a call": (
        events(chunk({"content": "half"}), chunk({"tool_calls": [{"index": 0, "id": "c"}]})), 502,
        "upstream_error"),
    "too many": (events(chunk({"content": "half"}), error("slow", code="429")), 429, "429"),
}  # fmt: skip


@pytest.mark.parametrize(("behaviour", "status", "code"), BROKEN.values(), ids=BROKEN)
def test_an_answer_that_breaks_off_is_stored_as_partial(
    store: MemoryStore, stream: bool, behaviour: Any, status: int, code: str
) -> None:
    """The client is told in the stream, which has no end, and its repetition is there once."""
    half = {"role": "assistant", "content": "half", "status": "incomplete"}
    patience = 1.0 if behaviour is fall_silent else 20
    with (
        upstream(behaviour, behaviour, parrot) as server,
        client_of(store, server.url, timeout=patience) as client,
    ):
        response = ask(client, user("Hi"), session_id="s", stream=stream)
        assert response.headers[HEADER] == "s"
        told = (chunks_of(response)[-1] if stream else response.json())["error"]
        assert response.status_code == (200 if stream else status)
        assert "[DONE]" not in response.text
        assert (told.keys(), told["code"]) == ({"message", "type", "param", "code"}, code)
        assert stored(store, "s") == [user("Hi"), half]
        response = respond(client, "Hi", S, stream=stream)
        if stream:
            error, failed = events_of(response)[-2:]
            assert (error["type"], error["error"]) == ("error", told)
            assert failed["type"] == "response.failed"
            limited = status == 429
            expected = "rate_limit_exceeded" if limited else "server_error"
            assert failed["response"]["error"]["code"] == expected
        else:
            assert response.json()["error"] == told
        assert stored(store, "s") == [user("Hi"), half]
        assert text_of(ask(client, user("Hi"), session_id="s", stream=stream)) == "Hi"
    assert [message.get("status") for message in stored(store, "s")] == [None, None]
