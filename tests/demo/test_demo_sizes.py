"""How large a message and a body may be: a photo passes where the operator allows it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from demo_app.app import create_app
from hermes_session_mw import ConfigurationError, MemoryStore
from tests.support.server import demo

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
HEADER = "X-Hermes-Session-Id"
PHOTO = "data:image/jpeg;base64," + "A" * 7_000_000
"""A picture of 5 MB."""

ASKED: dict[str, Any] = {
    CHAT: {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is it?"},
                    {"type": "image_url", "image_url": {"url": PHOTO}},
                ],
            }
        ]
    },
    RESPONSES: {
        "input": [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What is it?"},
                    {"type": "input_image", "image_url": PHOTO},
                ],
            }
        ]
    },
}


@pytest.fixture
def client(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[TestClient]:
    """A client of a demo on a database of its own."""
    url = f"sqlite:///{tmp_path}/demo.db"
    with TestClient(create_app(url, keys=(), **getattr(request, "param", {}))) as client:
        yield client


@pytest.mark.parametrize("client", [{"max_message_bytes": 8_000_000}], indirect=True)
@pytest.mark.parametrize("path", ASKED)
def test_a_photo_passes_where_it_may(client: TestClient, path: str) -> None:
    """It is stored with its question, and the next turn is answered with it at hand."""
    headers = {HEADER: "s"}
    assert client.post(path, json=ASKED[path], headers=headers).status_code == 200
    more = {"messages": [{"role": "user", "content": "And?"}]}
    answer = client.post(CHAT, json=more, headers=headers)
    assert "I remember 1 earlier message" in answer.json()["choices"][0]["message"]["content"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ASKED)
def test_a_photo_over_the_limit_is_a_413(client: TestClient, path: str, stream: bool) -> None:
    """The error has the API's shape, and says the limit and the option; nothing is stored."""
    answer = client.post(path, json=ASKED[path] | {"stream": stream}, headers={HEADER: "s"})
    assert (answer.status_code, answer.headers[HEADER]) == (413, "s")
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "message_too_large")
    assert "1048576" in error["message"]
    assert "--max-message-bytes" in error["message"]


@pytest.mark.parametrize("client", [{"max_body_bytes": 1000}], indirect=True)
@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("path", [*ASKED, "/v1/conversations"])
def test_a_body_over_the_limit_is_a_413(client: TestClient, path: str, announced: bool) -> None:
    """By its length, or when too much has come; the answer has the session's header."""
    parts = [b"{" + b" " * 600, b" " * 600 + b"}"]
    body: Any = b"".join(parts) if announced else iter(parts)
    answer = client.post(path, content=body, headers={HEADER: "s"})
    assert (answer.status_code, answer.headers[HEADER]) == (413, "s")
    error = answer.json()["error"]
    assert (error["code"], error["type"]) == ("request_too_large", "invalid_request_error")
    assert "1000 bytes" in error["message"]
    assert "--max-body-bytes" in error["message"]
    assert client.post(path, content=b" " * 1000, headers={HEADER: "s"}).status_code == 400


@pytest.mark.parametrize(
    "option", [{"max_body_bytes": 0}, {"head_after": -1.0}, {"head_after": float("nan")}]
)
def test_an_option_that_cannot_work_is_refused(option: dict[str, Any]) -> None:
    """It is refused where the application is made, and not with each request."""
    with pytest.raises(ConfigurationError, match="--head-after"):
        create_app(MemoryStore(), keys=(), **option)


def test_a_client_reads_the_413_of_a_real_server(tmp_path: Path) -> None:
    """A body far over the limit is refused, and the client, which is sending, gets the answer."""
    with demo(tmp_path, "--max-body-bytes", "1000000") as url:
        for body in (b" " * 20_000_000, b" " * 2_000_000):
            answer = httpx2.post(f"{url}{CHAT}", content=body, headers={HEADER: "s"})
            assert (answer.status_code, answer.headers[HEADER]) == (413, "s")
