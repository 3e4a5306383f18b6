"""The demo's streams while the model is silent: they begin, stay alive, and notice who leaves."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.support.server import demo
from tests.support.upstreams import Exchange, upstream

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
HEADER = "X-Hermes-Session-Id"
BODIES: dict[str, Any] = {
    CHAT: {"stream": True, "messages": [{"role": "user", "content": "Hi"}]},
    RESPONSES: {"stream": True, "input": "Hi"},
}
SOON = ("--head-after", "0.05")

every_route = pytest.mark.parametrize("path", BODIES)


def told(lines: Iterator[str]) -> Iterator[Any]:
    """Yield the data of each event."""
    for line in lines:
        if line.startswith("data: "):
            yield line.removeprefix("data: ")


@every_route
def test_a_response_begins_before_the_model(tmp_path: Path, path: str) -> None:
    """Status, id and first event come while the model thinks, and its answer after them."""
    may_answer = threading.Event()

    def thinking(exchange: Exchange) -> None:
        assert may_answer.wait(30)
        exchange.say("Thought", " out.")

    with (
        upstream(thinking) as server,
        demo(tmp_path, *SOON, "--upstream", server.url) as url,
        httpx2.stream("POST", f"{url}{path}", json=BODIES[path], headers={HEADER: "s"}) as answer,
    ):
        assert (answer.status_code, answer.headers[HEADER]) == (200, "s")
        events = told(answer.iter_lines())
        first = json.loads(next(events))
        if path == CHAT:
            assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        else:
            assert (first["type"], first["sequence_number"]) == ("response.created", 0)
        may_answer.set()
        rest = [event if event == "[DONE]" else json.loads(event) for event in events]
    if path == CHAT:
        assert rest.pop() == "[DONE]"
        assert rest[-1]["choices"][0]["finish_reason"] == "stop"
    else:
        assert [event["sequence_number"] for event in rest] == [*range(1, len(rest) + 1)]
        assert rest[-1]["type"] == "response.completed"


@every_route
def test_a_failure_after_the_beginning_is_an_event(tmp_path: Path, path: str) -> None:
    """Before it a failure is a status code; after it an object, and nothing comes then."""
    may_fail = threading.Event()

    def failing(exchange: Exchange) -> None:
        assert may_fail.wait(30)
        exchange.answer(429, {"error": {"message": "Slow down."}}, "Retry-After: 3600")

    with upstream(failing) as server:
        with (
            demo(tmp_path, *SOON, "--upstream", server.url) as url,
            httpx2.stream("POST", f"{url}{path}", json=BODIES[path]) as answer,
        ):
            assert answer.status_code == 200
            events = told(answer.iter_lines())
            next(events)
            may_fail.set()
            rest = [json.loads(event) for event in events]
        errors = [event["error"] for event in rest if event.get("error")]
        assert [error["message"] for error in errors] == ["Slow down."]
        assert rest[-1].get("type", "error") in {"error", "response.failed"}
        with demo(tmp_path, "--head-after", "30", "--upstream", server.url) as url:
            refused = httpx2.post(f"{url}{path}", json=BODIES[path])
            assert (refused.status_code, refused.headers["Retry-After"]) == (429, "60")


@every_route
@pytest.mark.parametrize("head_after", ["0.05", "inf"])
def test_who_leaves_in_silence_is_noticed(tmp_path: Path, path: str, head_after: str) -> None:
    """If that stops the answer, the upstream's connection is closed, and the question is kept."""
    is_asked, is_let_go = threading.Event(), threading.Event()

    def silent(exchange: Exchange) -> None:
        is_asked.set()
        exchange.wait_for_the_end()
        is_let_go.set()

    def answering(exchange: Exchange) -> None:
        roles = [message["role"] for message in exchange.body["messages"]]
        exchange.say(" ".join(roles))

    with (
        upstream(silent, answering) as server,
        demo(
            tmp_path,
            "--head-after",
            head_after,
            "--on-disconnect",
            "stop",
            "--upstream",
            server.url,
        ) as url,
    ):
        parts = urlsplit(url)
        assert parts.hostname is not None
        with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
            body = json.dumps(BODIES[path])
            head = f"POST {path} HTTP/1.1\r\nHost: a\r\n{HEADER}: s\r\n"
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            assert is_asked.wait(30)
            if head_after != "inf":
                assert connection.recv(100).startswith(b"HTTP/1.1 200 OK")
        assert is_let_go.wait(30)
        again = {"messages": [{"role": "user", "content": "Are you there?"}]}
        answer = httpx2.post(f"{url}{CHAT}", json=again, headers={HEADER: "s"})
        answer.raise_for_status()
        asked = server.requests[-1].body["messages"]
        assert "Hi" in json.dumps(asked)
