"""What a framework's own handler sends for an error of the package."""

import logging

import pytest
from starlette.types import Message, Receive, Scope, Send

from hermes_session_mw import (
    HermesSessionError,
    HermesSessionMiddleware,
    InvalidKey,
    InvalidMessage,
    MemoryStore,
    OwnerRequired,
    SessionBusy,
    SessionDeleted,
    SessionMissing,
    StoreError,
    StoreUnavailable,
    error_response,
)
from tests.support.asgi import HEADER, request, stamps

ANSWERED = [
    SessionBusy(2.5),
    SessionDeleted(),
    InvalidMessage("a message is not an object"),
    OwnerRequired(),
    StoreUnavailable("locked"),
    StoreError("broken"),
]


async def let_through(error: Exception) -> list[Message]:
    """Return what the middleware sends for an application that raises ``error``."""

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise error

    return await request(HermesSessionMiddleware(app, MemoryStore()), "id")


@pytest.mark.parametrize("error", ANSWERED, ids=lambda error: type(error).__name__)
async def test_a_frameworks_handler_sends_what_the_middleware_would(
    error: HermesSessionError, caplog: pytest.LogCaptureFixture
) -> None:
    """Status, headers and body are those of an error that reaches the middleware, logged alike."""
    caplog.set_level(logging.DEBUG, "hermes_session_mw")
    start, body = await let_through(error)
    logged = [record.getMessage() for record in caplog.records]
    caplog.clear()
    answer = error_response(error)
    assert answer is not None
    assert (answer.status, answer.body) == (start["status"], body["body"])
    own = {name.decode(): value.decode() for name, value in start["headers"]}
    length = own.pop("content-length")
    assert int(length) == len(answer.body)
    assert answer.headers.items() <= own.items()
    assert set(own) - set(answer.headers) <= {HEADER.decode(), "vary", "connection"}
    assert [record.getMessage() for record in caplog.records] == logged


@pytest.mark.parametrize("error", [SessionMissing(), InvalidKey("too long"), ValueError("theirs")])
async def test_what_the_middleware_does_not_answer_is_the_frameworks(error: Exception) -> None:
    """A fault of the application has no response of ours."""
    assert error_response(error) is None
    with pytest.raises(type(error)):
        await let_through(error)


async def test_a_response_of_a_frameworks_handler_is_stamped_once() -> None:
    """The id is the middleware's to add, and not one of the handler's headers."""
    answer = error_response(SessionBusy(1))
    assert answer is not None
    status, headers, body = answer
    assert HEADER.decode() not in headers

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": body})

    sent = await request(HermesSessionMiddleware(app, MemoryStore()), "id")
    assert stamps(sent) == ["id"]
    assert (b"cache-control", b"no-store") in sent[0]["headers"]
