"""Clients with a database of their own, as hermes-desktop and Open WebUI, sent over HTTP.

They send the whole conversation along with its id, and what they send is told in docs/clients.md.
"""

import json
import socket
import time
import uuid
from typing import Any

import httpx2
import pytest

from tests.demo.clients.demos import API_KEY, HEADER, HISTORY_SOURCE, Demo

Messages = list[dict[str, Any]]


class Desktop:
    """A client that keeps its own transcript, streams, and adopts the id that it is told."""

    def __init__(self, demo: Demo, session_id: str, **headers: str) -> None:
        self._url = f"{demo.api}/chat/completions"
        self._headers = {"Authorization": f"Bearer {API_KEY}", **headers}
        self.id = session_id
        self.transcript: Messages = []

    def send(self, *, leave: bool = False) -> str:
        """Ask for an answer to the transcript; ``leave``: hang up after its first piece."""
        system = {"role": "system", "content": "The working folder is the user's own."}
        body = {"model": "demo", "stream": True, "messages": [system, *self.transcript]}
        body["session_id"] = self.id
        headers = {**self._headers, HEADER: self.id}
        # Who leaves takes in little before, so that the server is in the middle of the answer.
        little = [(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)] if leave else []
        transport = httpx2.HTTPTransport(socket_options=little)
        with (
            httpx2.Client(transport=transport, timeout=60) as client,
            client.stream("POST", self._url, json=body, headers=headers) as response,
        ):
            self.id = response.headers[HEADER]
            assert response.status_code == 200
            lines = response.iter_lines()
            if leave:
                return next(lines)
            return "".join(map(piece_of, lines))

    def say(self, text: str) -> str:
        """Add a message and its answer to the transcript."""
        self.transcript.append({"role": "user", "content": text})
        answer = self.send()
        self.transcript.append({"role": "assistant", "content": answer})
        return answer


def piece_of(line: str) -> str:
    """Return the text in a line of the stream, as a client does that knows no named events."""
    assert not line.startswith("event:")
    data = line.removeprefix("data: ")
    if not data or data == "[DONE]":
        return ""
    return "".join(each["delta"].get("content") or "" for each in json.loads(data)["choices"])


def desktop_id() -> str:
    return f"desk-{time.time_ns() // 1_000_000}-{uuid.uuid4()}"


@pytest.fixture(
    params=[desktop_id, lambda: str(uuid.uuid4())], ids=["hermes-desktop", "open-webui"]
)
def desktop(served: Demo, request: pytest.FixtureRequest) -> Desktop:
    """A client with an id of its own making."""
    return Desktop(served, request.param())


def test_a_full_history_in_the_body_is_not_stored_again(served: Demo, desktop: Desktop) -> None:
    """The client's id is adopted; of the history that it tells each time only the end is new."""
    mine = desktop.id
    assert "first message" in desktop.say("My name is Ada.")
    assert "I remember 1 earlier message" in desktop.say("Who am I?")
    assert desktop.say("Still?").endswith("2 earlier messages; the first was: My name is Ada.")
    assert desktop.id == mine
    stored = [{"role": m["role"], "content": m["content"]} for m in served.stored(mine)]
    assert stored == desktop.transcript


def test_attempts_that_broke_off_leave_one_turn(served: Demo) -> None:
    """Three attempts that end in the middle of the answer, and a fourth, are one turn."""
    desktop = Desktop(served, desktop_id())
    desktop.say("My name is Ada.")
    question = "word " * 25_000  # whose answer is more than fits between the two
    desktop.transcript.append({"role": "user", "content": question})
    for _ in range(3):
        desktop.send(leave=True)
    assert "I remember 1 earlier message" in desktop.send()
    _, _, asked, answered = served.stored(desktop.id)
    assert asked["content"] == question
    assert "status" not in answered


def test_a_changed_id_is_adopted(keyed: Demo) -> None:
    """A client that goes by the id in the response follows a conversation that was rotated."""
    desktop = Desktop(keyed, desktop_id())
    desktop.say("My name is Ada.")
    before = desktop.id
    headers = {"Authorization": f"Bearer {API_KEY}", HEADER: before}
    rotated = httpx2.post(f"{keyed.api}/session/rotate", headers=headers)
    assert rotated.headers[HEADER] not in {before, ""}
    # It still sends the old id, which is unknown now: a new conversation begins, under a new id.
    desktop.say("Who am I?")
    assert desktop.id not in {before, rotated.headers[HEADER]}
    desktop.id = rotated.headers[HEADER]
    assert desktop.say("And now?").endswith("the first was: My name is Ada.")


def test_an_edit_counts_where_the_client_says_so(served: Demo) -> None:
    """With X-Hermes-History-Source in its configuration a client's edited history is taken over."""
    desktop = Desktop(served, str(uuid.uuid4()), **{HISTORY_SOURCE: "request"})
    desktop.say("My name is Ada.")
    desktop.say("Who am I?")
    del desktop.transcript[2:]
    desktop.say("Who was I?")
    assert [m["content"] for m in served.stored(desktop.id)][::2] == [
        "My name is Ada.",
        "Who was I?",
    ]
