"""An application whose answers go on without their clients, and producers for it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Message

from hermes_session_mw import (
    Answer,
    AnswerStore,
    HermesSession,
    HermesSessionMiddleware,
    get_session,
)
from hermes_session_mw.session.store_client import StoreClient
from tests.support.asgi import http_scope, lifespan

USER = {"role": "user", "content": "Count."}
ID = (b"x-hermes-session-id", b"id")

Begin = Callable[[HermesSession], Awaitable[Response]]


class Model:
    """A model that gives pieces when it is told to, and notes its end.

    Attributes:
        asked: how often it was asked.
        ended: whether it was closed or ended by itself.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.ended = anyio.Event()
        self._pieces: list[Any] = []
        self._has_ended = False
        self._news = anyio.Event()

    def say(self, *pieces: Any) -> None:
        """Give pieces; an exception is raised."""
        self._pieces += pieces
        self._news.set()

    def end(self) -> None:
        """End the answer."""
        self._has_ended = True
        self._news.set()

    async def pieces(self) -> AsyncIterator[Any]:
        """Answer."""
        self.asked += 1
        try:
            while self._pieces or not self._has_ended:
                if not self._pieces:
                    self._news = anyio.Event()
                    await self._news.wait()
                    continue
                piece = self._pieces.pop(0)
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            self.ended.set()


def application(begin: Begin, *routes: BaseRoute) -> Starlette:
    """Return an application whose ``POST /`` begins an answer."""

    async def endpoint(request: Request) -> Response:
        return await begin(get_session(request))

    return Starlette(routes=[Route("/", endpoint, methods=["GET", "POST"]), *routes])


class Client:
    """A client of an ASGI application, which leaves when the test says so.

    Attributes:
        messages: what was sent to it.
    """

    def __init__(
        self, app: Any, *headers: tuple[bytes, bytes], body: bytes = b"", **scope: Any
    ) -> None:
        self.messages: list[Message] = []
        self._app, self._body = app, body
        self._scope = http_scope([ID, *headers], **scope)
        self._left, self._news = anyio.Event(), anyio.Event()
        self._is_asked = False
        self.done = anyio.Event()

    async def run(self) -> None:
        """Send the request, and receive the response to its end."""
        try:
            await self._app(self._scope, self._receive, self._send)
        finally:
            self.done.set()
            self._news.set()

    def leave(self) -> None:
        """Close the connection."""
        self._left.set()

    @property
    def text(self) -> str:
        """The body so far."""
        bodies = [message.get("body", b"") for message in self.messages]
        return b"".join(bodies).decode()

    @property
    def status(self) -> int:
        """The response's status."""
        return int(self.messages[0]["status"])

    @property
    def cursors(self) -> list[str]:
        """The cursors of the events so far."""
        lines = self.text.splitlines()
        return [line.removeprefix("id: ") for line in lines if line.startswith("id: ")]

    @property
    def data(self) -> list[str]:
        """The data of the events so far."""
        lines = self.text.splitlines()
        return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]

    async def sees(self, text: str) -> None:
        """Wait until the body has the text."""
        with anyio.fail_after(60):
            while text not in self.text:
                self._news = anyio.Event()
                assert not self.done.is_set(), self.text
                await self._news.wait()

    async def _receive(self) -> Message:
        if not self._is_asked:
            self._is_asked = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self.messages.append(message)
        self._news.set()


@asynccontextmanager
async def serving(
    begin: Begin, store: Any, *routes: BaseRoute, **options: Any
) -> AsyncIterator[HermesSessionMiddleware]:
    """Serve the application, with its lifespan."""
    app = HermesSessionMiddleware(application(begin, *routes), store, **options)
    async with lifespan(app):
        yield app


class Follower:
    """Follows an answer to its end.

    Attributes:
        got: the payloads that have come.
        state: how it ended.
    """

    def __init__(self, answer: Answer, after: int = 0) -> None:
        self.got: list[object] = []
        self.state = ""
        self._answer, self._after = answer, after

    async def run(self) -> None:
        async for event in self._answer.events(self._after):
            self.got.append(event.payload)
        self.state = self._answer.state


async def found(store: AnswerStore, session_id: str, client: StoreClient | None = None) -> Answer:
    """Return the session's running answer, as another process finds it."""
    answer = await HermesSession(client or StoreClient(store), session_id).running_answer()
    assert answer is not None
    return answer


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition of the database."""
    with anyio.fail_after(30):
        while not await condition():  # noqa: ASYNC110  # no database wakes a test
            await anyio.sleep(0.02)
