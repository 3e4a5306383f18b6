"""Server-sent events: when a response begins, what is sent in silence, and how it ends."""

import itertools
import math
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Message

from hermes_session_mw import ConfigurationError, HermesSessionMiddleware, MemoryStore
from hermes_session_mw.openai_api import EventStream, server_sent_event
from tests.support.asgi import http_scope

SOON = 0.01
"""Seconds after which something happens; a test waits until it has."""


class Connection:
    """A client of one response.

    Attributes:
        sent: the text of each message of the body, in order.
        status: the response's, once it has begun.
        is_broken: whether ``send`` raises, as a server's does on a closed connection.
        is_whole: whether the last message said that it is the last.
    """

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.headers: dict[str, str] = {}
        self.status: int | None = None
        self.is_broken = self.is_whole = False
        self._left = anyio.Event()

    def leave(self) -> None:
        """Close the connection."""
        self._left.set()

    async def receive(self) -> Message:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self.is_broken:
            raise OSError("closed")
        if message["type"] == "http.response.start":
            assert self.status is None
            self.status = message["status"]
            pairs = message["headers"]
            self.headers = {name.decode(): value.decode() for name, value in pairs}
        else:
            assert not self.is_whole
            if message["body"]:
                self.sent.append(message["body"].decode())
            self.is_whole = not message.get("more_body", False)

    async def get(self, app: Any) -> None:
        """Have the response sent."""
        await app(http_scope(), self.receive, self.send)


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition."""
    with anyio.fail_after(30):
        while not condition():  # noqa: ASYNC110  # of what has no event
            await anyio.sleep(0.001)


class Model:
    """Events that come when a test lets them.

    Attributes:
        is_closed: whether its clean-up has run.
    """

    def __init__(self, *, first: int = 0) -> None:
        self.turns = anyio.Semaphore(first)
        self.is_closed = False
        self.error: Exception | None = None

    async def events(self) -> AsyncIterator[str]:
        try:
            for number in itertools.count():
                await self.turns.acquire()
                if self.error is not None:
                    raise self.error
                yield f"data: {number}\n\n"
        finally:
            self.is_closed = True


async def test_the_response_begins_with_the_first_event() -> None:
    """Until the first event has come, nothing is sent; then the head, the opening and the event."""
    model, client = Model(), Connection()
    response = EventStream(model.events(), opening=lambda: "data: open\n\n", head_after=math.inf)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.get, response)
        await anyio.wait_all_tasks_blocked()
        assert client.status is None
        model.turns.release()
        await until(lambda: len(client.sent) == 2)
        tasks.cancel_scope.cancel()
    assert client.status == 200
    assert client.sent == ["data: open\n\n", "data: 0\n\n"]
    assert client.headers == {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache",
        "x-accel-buffering": "no",
    }


@pytest.mark.parametrize("head_after", [0, SOON])
async def test_the_response_begins_without_an_event(head_after: float) -> None:
    """After the wait for the first event the response begins, and the wait loses no event."""
    model, client = Model(), Connection()
    response = EventStream(model.events(), opening=lambda: "open\n\n", head_after=head_after)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.get, response)
        await until(lambda: client.sent == ["open\n\n"])
        model.turns.release()
        await until(lambda: len(client.sent) == 2)
        tasks.cancel_scope.cancel()
    assert client.sent[1] == "data: 0\n\n"


async def test_every_event_is_sent_by_itself_in_order() -> None:
    """Events go out one by one, and the next is asked for once the one before is sent."""
    asked: list[int] = []

    async def events() -> AsyncIterator[str]:
        for number in range(100):
            asked.append(number)
            assert len(client.sent) == number
            yield server_sent_event({"n": number})

    client = Connection()
    await client.get(EventStream(events()))
    assert client.sent == [f'data: {{"n": {number}}}\n\n' for number in range(100)]
    assert client.is_whole
    assert asked == [*range(100)]


async def test_silence_is_broken_by_comments() -> None:
    """A comment is sent for each period of silence, also before the first event, and none else."""
    model, client = Model(), Connection()
    response = EventStream(model.events(), head_after=0, keepalive=SOON)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.get, response)
        await until(lambda: len(client.sent) >= 3)
        model.turns.release()
        await until(lambda: "data: 0\n\n" in client.sent)
        await until(lambda: client.sent[-2:] == [": keepalive\n\n"] * 2)
        tasks.cancel_scope.cancel()
    assert {*client.sent} == {": keepalive\n\n", "data: 0\n\n"}


async def test_an_event_without_content_is_sent_after_a_longer_silence() -> None:
    """Beside comments the idle event comes, and is numbered between the other events."""
    numbers, turns, client = itertools.count(1), anyio.Semaphore(0), Connection()

    def event(kind: str) -> str:
        return f"{kind} {next(numbers)}\n\n"

    def has_sent(kind: str, count: int) -> bool:
        return sum(text.startswith(kind) for text in client.sent) >= count

    async def events() -> AsyncIterator[str]:
        while True:
            await turns.acquire()
            yield event("real")

    response = EventStream(
        events(),
        opening=lambda: "open 0\n\n",
        idle_event=lambda: event("idle"),
        head_after=0,
        keepalive=SOON,
        idle_after=3 * SOON,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.get, response)
        for number in range(20):
            await until(lambda: client.sent[-1:] and client.sent[-1].startswith("idle"))
            turns.release()
            await until(partial(has_sent, "real", number + 1))
        tasks.cancel_scope.cancel()
    told = [text for text in client.sent if not text.startswith(":")]
    assert [int(text.split()[1]) for text in told] == [*range(len(told))]
    assert ": keepalive\n\n" in client.sent


async def test_an_exception_before_the_response_is_the_applications() -> None:
    """Its handlers can then answer with a status code."""

    async def endpoint(_: Request) -> EventStream:
        return EventStream(model.events(), opening=lambda: "open\n\n")

    async def refuse(_: Request, exc: Exception) -> JSONResponse:
        return JSONResponse({"error": str(exc)}, 429)

    model, client = Model(first=1), Connection()
    model.error = ValueError("slow down")
    handlers: Any = {ValueError: refuse}
    await client.get(Starlette(routes=[Route("/", endpoint)], exception_handlers=handlers))
    assert (client.status, client.sent) == (429, ['{"error":"slow down"}'])
    assert model.is_closed


async def test_an_exception_within_the_response_is_an_event() -> None:
    """The event for it is the last one, and the response ends as a whole one does."""

    async def events() -> AsyncIterator[str]:
        yield "data: 0\n\n"
        raise ValueError("broke off")

    client = Connection()
    await client.get(EventStream(events(), error_event=lambda exc: f"data: {exc}\n\n"))
    assert client.sent == ["data: 0\n\n", "data: broke off\n\n"]
    assert client.is_whole


async def test_an_unexpected_exception_is_told_and_raised() -> None:
    """The client gets an error in OpenAI's shape without its text, and the server the exception."""

    async def events() -> AsyncIterator[str]:
        yield "data: 0\n\n"
        raise LookupError("a secret")

    client = Connection()
    with pytest.raises(LookupError, match="a secret"):
        await client.get(EventStream(events()))
    error = {
        "message": "The server failed to answer.",
        "type": "server_error",
        "param": None,
        "code": None,
    }
    assert client.sent == ["data: 0\n\n", server_sent_event({"error": error})]
    assert not client.is_whole


@pytest.mark.parametrize("first", [0, 1])
async def test_a_client_that_leaves_in_silence_closes_the_events(first: int) -> None:
    """Before the first event and after it, the generator ends with the response."""
    model, client = Model(first=first), Connection()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.get, EventStream(model.events(), head_after=math.inf))
            await until(lambda: len(client.sent) == first)
            await anyio.wait_all_tasks_blocked()
            client.leave()
    assert model.is_closed
    assert not client.is_whole
    assert client.status == 200  # begun in any case


async def test_a_client_that_leaves_before_the_response_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An application whose client does not wait for the first event has not failed to answer."""
    model, client = Model(), Connection()
    response = EventStream(model.events(), head_after=math.inf)
    app = HermesSessionMiddleware(response, MemoryStore())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.get, app)
        await anyio.wait_all_tasks_blocked()
        client.leave()
    assert (client.status, caplog.text) == (200, "")


@pytest.mark.parametrize("is_begun", [True, False])
async def test_a_client_that_has_left_is_not_sent_to(is_begun: bool) -> None:
    """The error of a server to which nothing can be sent any more says nothing new then."""
    model, client = Model(first=int(is_begun)), Connection()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.get, EventStream(model.events(), head_after=math.inf))
        await until(lambda: len(client.sent) == is_begun)
        await anyio.wait_all_tasks_blocked()
        client.is_broken = True
        client.leave()
    assert model.is_closed


async def test_a_closed_connection_closes_the_events() -> None:
    """Where the server says it by an error of ``send``, Starlette's exception is raised."""
    model, client = Model(first=2), Connection()
    client.is_broken = True
    with pytest.raises(ClientDisconnect):
        await client.get(EventStream(model.events()))
    assert model.is_closed


async def test_an_error_of_the_clean_up_is_raised() -> None:
    """What the generator cannot do after the client has left, the server logs."""

    async def events() -> AsyncIterator[str]:
        try:
            yield "data: 0\n\n"
            await anyio.sleep_forever()
        finally:
            raise LookupError("not stored")

    client = Connection()
    client.leave()
    with pytest.raises(LookupError, match="not stored"):
        await client.get(EventStream(events()))


async def test_the_events_run_in_one_task() -> None:
    """A generator may hold a cancel scope or a task group from its first step to its close."""

    async def events() -> AsyncIterator[str]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            with anyio.CancelScope():
                for _ in range(3):
                    await anyio.sleep(2 * SOON)
                    yield "data: 0\n\n"
            tasks.cancel_scope.cancel()

    client = Connection()
    await client.get(EventStream(events(), head_after=0, keepalive=SOON))
    assert [text for text in client.sent if text.startswith("data")] == ["data: 0\n\n"] * 3
    assert client.is_whole


async def test_an_iterator_without_a_close_is_enough() -> None:
    """Whatever gives texts is sent, the empty ones as nothing."""

    class Words:
        def __init__(self) -> None:
            self.words = iter(["data: 0\n\n", "", "data: 1\n\n"])

        def __aiter__(self) -> AsyncIterator[str]:
            return self

        async def __anext__(self) -> str:
            try:
                return next(self.words)
            except StopIteration:
                raise StopAsyncIteration from None

    client = Connection()
    await client.get(EventStream(Words()))
    assert client.sent == ["data: 0\n\n", "data: 1\n\n"]


async def test_a_background_task_runs_after_the_response() -> None:
    """Status, headers and background task are as in Starlette's own responses."""

    async def events() -> AsyncIterator[str]:
        yield "data: 0\n\n"

    client, ran = Connection(), []
    task = BackgroundTask(lambda: ran.append(client.is_whole))
    await client.get(EventStream(events(), status_code=202, headers={"X-A": "1"}, background=task))
    assert ran == [True]
    assert (client.status, client.headers["x-a"]) == (202, "1")


@pytest.mark.parametrize(
    "waits", [(-1, 1, 1), (math.nan, 1, 1), (0, 0, 1), (0, 1, 0), (0, 1, math.nan)]
)
def test_a_wait_that_cannot_be_is_refused(waits: tuple[float, float, float]) -> None:
    """Seconds that are negative, zero or no number are refused where the response is made."""
    head_after, keepalive, idle_after = waits
    with pytest.raises(ConfigurationError, match="head_after"):
        EventStream(
            Model().events(), head_after=head_after, keepalive=keepalive, idle_after=idle_after
        )


def test_an_event_is_one_line_of_data() -> None:
    """JSON escapes what would end the line, and a name stands before the data."""
    assert server_sent_event({"a": "b\nc\u2028"}) == 'data: {"a": "b\\nc\\u2028"}\n\n'
    assert server_sent_event([1], "x.y") == "event: x.y\ndata: [1]\n\n"
