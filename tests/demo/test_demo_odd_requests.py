"""The demo before requests whose names and sizes no response could quote."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from demo_app.app import create_app
from hermes_session_mw import MemoryStore
from hermes_session_mw.openai_api.invalid_request import InvalidRequest, unsupported
from tests.demo.test_demo import CHAT, HEADER, user
from tests.demo.test_demo_responses import PATH, S, error_of

CONVERSATIONS = "/v1/conversations"
ASKED: dict[str, Any] = {CHAT: {"messages": [user("a")]}, PATH: {"input": "a"}, CONVERSATIONS: {}}
PLACES = [
    (CHAT, "stream_options", 1),
    (PATH, "text", 1),
    (PATH, "reasoning", 1),
    (PATH, "metadata", 1),
    (PATH, "include", []),
    (CONVERSATIONS, None, 1),
    (CONVERSATIONS, "metadata", 1),
]


@pytest.fixture
def client() -> Iterator[TestClient]:
    """A client of the demo."""
    with TestClient(create_app(MemoryStore(), keys=())) as client:
        yield client


@pytest.mark.parametrize("name", ["\ud800", "a" * 100_000], ids=["half", "long"])
@pytest.mark.parametrize(("path", "field", "value"), PLACES)
def test_a_name_that_cannot_be_quoted_is_refused(
    client: TestClient, path: str, field: str | None, value: Any, name: str
) -> None:
    """It is a 400 that quotes what can be sent of the name, and no more than some of it."""
    given = [name] if field == "include" else {name: value}
    body = ASKED[path] | ({field: given} if field else given)
    answer = client.post(path, content=json.dumps(body), headers=S)
    assert error_of(answer)[0] == 400
    assert len(answer.content) < 2000


@pytest.mark.parametrize(("given", "shown"), [("\ud800", "\ufffd"), ("a" * 401, "a" * 399 + "…")])
def test_an_error_can_be_sent_whatever_it_quotes(given: str, shown: str) -> None:
    """Its texts are Unicode, and end after 400 characters."""
    error = InvalidRequest(given, given)
    assert (str(error), error.param) == (shown, shown)
    assert len(str(unsupported(given, given)).encode()) <= 1200


@pytest.mark.parametrize("path", ASKED)
def test_a_length_that_no_number_has_is_too_large(client: TestClient, path: str) -> None:
    """A Content-Length of thousands of digits is a 413, and zeros before one change nothing."""
    body = json.dumps(ASKED[path])
    lengths = {"9" * 5000: 413, f"{'0' * 5000}{len(body)}": 200}
    for length, status in lengths.items():
        answer = client.post(path, content=body, headers=S | {"Content-Length": length})
        assert (answer.status_code, answer.headers[HEADER]) == (status, "s")
