"""How long a turn lasts: held while the answer streams, given back with its last part."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from hermes_session_mw import (
    HermesSession,
    HermesSessionMiddleware,
    MemoryStore,
    SessionBusy,
    get_session,
)
from hermes_session_mw.testing.helpers import numbered
from tests.support.asgi import HEADER, Recorder, http_scope, request

ID = "id"
START = {"type": "http.response.start", "status": 200, "headers": []}
USER = {"role": "user", "content": "Well?"}
Endpoint = Callable[[Request], Awaitable[Response]]


async def is_free(store: MemoryStore, session_id: str = ID) -> bool:
    """Tell whether another request could take the turn now; leave it as it is."""
    session = HermesSession(store, session_id)
    try:
        async with session.turn(wait=0):
            return True
    except SessionBusy:
        return False


def part(body: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


class Watcher:
    """A server's ``send``, which notes of every message whether the turn was free when it came."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.seen: list[tuple[str, bool]] = []

    async def __call__(self, message: Message) -> None:
        shown = message["type"].removeprefix("http.response.")
        if "body" in message:
            shown = bytes(message["body"]).decode()
        self.seen.append((shown, await is_free(self.store)))


async def run(app: Any, store: MemoryStore, scope: Scope | None = None) -> list[tuple[str, bool]]:
    """Send one request to the wrapped application; return what went out, and when it was free."""
    watcher = Watcher(store)
    left = anyio.Event()

    async def receive() -> Message:
        await left.wait()
        raise AssertionError("nobody leaves")

    scope = scope or http_scope([(HEADER, ID.encode())])
    await HermesSessionMiddleware(app, store)(scope, receive, watcher)
    return watcher.seen


def serving(endpoint: Endpoint) -> Starlette:
    return Starlette(routes=[Route("/", endpoint)])


async def recorded_inside(request: Request) -> Response:
    """As it is written first: the answer is recorded, and streams after the block."""
    session = get_session(request)
    async with session.turn(wait=0):
        answer = session.record(USER)

        async def pieces() -> AsyncIterator[str]:
            async with answer:
                for piece in ("one ", "two"):
                    answer.write(piece)
                    yield piece

        return StreamingResponse(pieces())


async def recorded_later(request: Request) -> Response:
    """The same, where the generator begins to record, which nobody has called inside the block."""
    session = get_session(request)

    async def pieces() -> AsyncIterator[str]:
        async with session.record(USER) as answer:
            for piece in ("one ", "two"):
                answer.write(piece)
                yield piece

    async with session.turn(wait=0):
        return StreamingResponse(pieces())


async def acquired(request: Request) -> Response:
    """The turn is taken, and left to the middleware."""
    session = get_session(request)
    await session.turn(wait=0).acquire()
    answer = session.record(USER)

    async def pieces() -> AsyncIterator[str]:
        async with answer:
            for piece in ("one ", "two"):
                answer.write(piece)
                yield piece

    return StreamingResponse(pieces())


@pytest.mark.parametrize("endpoint", [recorded_inside, recorded_later, acquired])
async def test_a_turn_is_held_while_the_answer_streams(endpoint: Endpoint) -> None:
    """Who returns a stream from the block is in the turn until its last part goes out."""
    store = MemoryStore()
    seen = await run(serving(endpoint), store)
    assert seen == [("start", False), ("one ", False), ("two", False), ("", True)]
    assert (await store.load(ID)).messages == [USER, {"role": "assistant", "content": "one two"}]


@pytest.mark.parametrize("endpoint", [recorded_inside, recorded_later, acquired])
async def test_a_second_request_is_refused_while_the_first_one_streams(endpoint: Endpoint) -> None:
    """Of two at once the second is ``SessionBusy``, a 409; who has read to the end may go on."""
    store = MemoryStore()
    app = HermesSessionMiddleware(serving(endpoint), store)
    statuses: list[int] = []

    async def receive() -> Message:
        await anyio.sleep_forever()
        raise AssertionError

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            again = await request(app, ID)
            statuses.append(again[0]["status"])

    await app(http_scope([(HEADER, ID.encode())]), receive, send)
    assert statuses == [409, 409, 200]


async def whole(request: Request) -> Response:
    session = get_session(request)
    async with session.turn(wait=0):
        return JSONResponse(await session.append(*numbered(session.length)))


async def acquired_whole(request: Request) -> Response:
    session = get_session(request)
    await session.turn(wait=0).acquire()
    return JSONResponse(await session.append(*numbered(session.length)))


@pytest.mark.parametrize("endpoint", [whole, acquired_whole])
async def test_a_whole_answer_gives_the_turn_back_before_it_is_sent(endpoint: Endpoint) -> None:
    """When the server gets the body, the next request is let in."""
    assert await run(serving(endpoint), MemoryStore()) == [("start", False), ("1", True)]


@pytest.mark.parametrize("more", [True, False])
async def test_a_client_that_does_not_read_keeps_nobody_waiting(more: bool) -> None:
    """A server's ``send`` that never returns, as over HTTP/2, holds the answer and not the turn."""
    store = MemoryStore()
    body = b"x" * 1000
    hangs = anyio.Event()

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        await scope["state"]["hermes_session"].turn(wait=0).acquire()
        # As what passes the response on does it, which does not know the end before it is there.
        length = [(b"content-length", str(len(body)).encode())] if more else []
        await send({**START, "headers": length})
        await send(part(body, more=more))
        raise AssertionError("it has returned")

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            hangs.set()
            await anyio.sleep_forever()

    async def receive() -> Message:
        raise AssertionError

    async with anyio.create_task_group() as tasks:
        wrapped = HermesSessionMiddleware(app, store)
        tasks.start_soon(wrapped, http_scope([(HEADER, ID.encode())]), receive, send)
        await hangs.wait()
        assert await is_free(store)
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    "last",
    [
        part(b"", more=False),
        {"type": "http.response.body"},
        {"type": "http.response.pathsend", "path": "/a/file"},
        {"type": "http.response.zerocopysend", "file": 3},
    ],
)
async def test_whatever_completes_the_body_gives_the_turn_back(last: Message) -> None:
    """Files that the server sends itself, and bodies of nothing, are an answer's end as well."""
    store = MemoryStore()

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        await scope["state"]["hermes_session"].turn(wait=0).acquire()
        await send({"type": "http.response.debug", "info": {}})
        await send(START)
        await send({"type": "http.response.zerocopysend", "file": 3, "more_body": True})
        await send(last)

    seen = await run(app, store)
    assert [free for _, free in seen] == [False, False, False, True]


@pytest.mark.parametrize(
    ("headers", "parts"),
    [
        ([(b"Content-Length", b"4")], [(b"on", False), (b"ly", True), (b"", True)]),
        ([(b"content-length", b"9")], [(b"on", False), (b"ly", False), (b"", True)]),
        ([(b"content-length", b"x")], [(b"on", False), (b"ly", False), (b"", True)]),
        ([(b"content-length", b"2")] * 2, [(b"on", False), (b"ly", False), (b"", True)]),
    ],
)
async def test_an_answer_of_known_length_ends_with_it(
    headers: list[tuple[bytes, bytes]], parts: list[tuple[bytes, bool]]
) -> None:
    """A body that has all the bytes that its head told of is whole, though more were to come."""

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        await scope["state"]["hermes_session"].turn(wait=0).acquire()
        await send({**START, "headers": headers})
        for number, (body, _) in enumerate(parts, 1):
            await send(part(body, more=number < len(parts)))

    seen = await run(app, MemoryStore())
    assert seen[1:] == [(body.decode(), free) for body, free in parts]


async def test_what_is_still_recorded_keeps_the_turn() -> None:
    """An answer's last part leaves the turn to a recording that has not ended, which is in it."""
    store = MemoryStore()

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        session = scope["state"]["hermes_session"]
        async with session.turn(wait=0):
            answer = session.record(USER)
        await send(START)
        await send(part(b"all", more=False))
        assert not await is_free(store)
        answer.write("all")
        await answer.end()

    assert (await run(app, store))[-1] == ("all", False)
    assert (await store.load(ID)).messages == [USER, {"role": "assistant", "content": "all"}]
    assert await is_free(store)


async def test_a_block_around_the_whole_answer_is_what_counts() -> None:
    """Who sends the answer inside of the block is in the turn until the block's end."""
    store = MemoryStore()

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        session = scope["state"]["hermes_session"]
        async with session.turn(wait=0):
            await send(START)
            await send(part(b"all", more=False))
            assert not await is_free(store)
            await session.append(*numbered(0))
        assert await is_free(store)

    assert await run(app, store) == [("start", False), ("all", False)]


async def test_a_block_that_is_left_after_the_start_gives_the_turn_back() -> None:
    """Once the response has begun, a turn is as long as its block, unless an answer is recorded."""
    store = MemoryStore()

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        session = scope["state"]["hermes_session"]
        await send(START)
        async with session.turn(wait=0):
            await send(part(b"one", more=True))
        await send(part(b"two", more=True))
        async with session.turn(wait=0):
            answer = session.record(USER)
        await send(part(b"three", more=True))
        await answer.end()
        await send(part(b"four", more=False))

    seen = await run(app, store)
    assert seen[1:] == [("one", False), ("two", True), ("three", False), ("four", True)]


async def test_a_request_may_take_a_turn_after_the_other() -> None:
    """A second turn of a request gives the first one back, and loads what was stored between."""
    store = MemoryStore()
    lengths: list[int] = []

    async def work(session: HermesSession) -> None:
        turn = session.turn(wait=0)
        async with turn:
            await session.append(*numbered(0))
        await HermesSession(store, ID).append(*numbered(1))
        async with turn:
            lengths.append(session.length)
        async with session.turn(wait=0) as other:
            lengths.append(other.fence)
            with pytest.raises(RuntimeError, match="already"):
                await turn.acquire()

    await request(HermesSessionMiddleware(Recorder(work), store), ID)
    assert lengths == [2, 3]
    assert await is_free(store)


async def test_a_turn_that_was_left_is_given_back_at_once_if_that_is_wanted() -> None:
    """Whoever has something long to do before the answer says ``release()``; twice does nothing."""
    store = MemoryStore()

    async def work(session: HermesSession) -> None:
        async with session.turn(wait=0) as turn:
            await session.append(*numbered(0))
        assert not await is_free(store)
        await turn.release()
        assert await is_free(store)
        await turn.release()

    await request(HermesSessionMiddleware(Recorder(work), store), ID)


async def test_a_turn_that_was_left_goes_along_with_its_session() -> None:
    """A rotated id is still in the turn that was left, and another turn may follow."""
    store = MemoryStore()
    await store.append(ID, numbered(0))

    async def work(session: HermesSession) -> None:
        async with session.turn(wait=0):
            pass
        new = await session.rotate()
        assert not await is_free(store, new)
        async with session.turn(wait=0):
            assert await session.append(*numbered(1)) == 2
        await session.renew()
        assert await is_free(store, new)

    await request(HermesSessionMiddleware(Recorder(work), store), ID)


class Oops(Exception):
    """What an endpoint raises here."""


async def test_an_exception_out_of_the_block_ends_the_turn_with_its_answer() -> None:
    """An error page finds the turn free, as any whole answer does."""
    store = MemoryStore()

    async def endpoint(request: Request) -> Response:
        async with get_session(request).turn(wait=0):
            raise Oops

    async def page(_request: Request, _exc: Exception) -> Response:
        return JSONResponse({}, 418)

    app = Starlette(routes=[Route("/", endpoint)], exception_handlers={Oops: page})
    assert await run(app, store) == [("start", False), ("{}", True)]
    with pytest.raises(Oops):
        await run(serving(endpoint), store)
    assert await is_free(store)


async def test_a_background_task_takes_a_turn_of_its_own() -> None:
    """The answer ends the request's turn; what comes after it may take another one."""
    store = MemoryStore()
    fences: list[int] = []

    async def endpoint(request: Request) -> Response:
        session = get_session(request)

        async def later() -> None:
            assert await is_free(store)
            async with session.turn(wait=0) as turn:
                fences.append(turn.fence)
                assert not await is_free(store)
            assert await is_free(store)

        async with session.turn(wait=0):
            return JSONResponse({}, background=BackgroundTask(later))

    await run(serving(endpoint), store)
    assert len(fences) == 1


async def test_a_session_that_outlives_its_request_is_as_any_other() -> None:
    """Once the application has returned no response is to come that would give a turn back."""
    store = MemoryStore()
    recorder = Recorder()
    await request(HermesSessionMiddleware(recorder, store), ID)
    recorder.session.is_told = False
    async with recorder.session.turn(wait=0):
        assert not await is_free(store)
    assert await is_free(store)


@pytest.mark.parametrize("accepts", [True, False])
async def test_a_websockets_turn_is_as_long_as_its_block(accepts: bool) -> None:
    """A socket may live for days: the block's end gives the turn back, also before accepting."""
    store = MemoryStore()
    free: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        session = scope["state"]["hermes_session"]
        await receive()
        if accepts:
            await send({"type": "websocket.accept"})
        async with session.turn(wait=0):
            free.append(await is_free(store))
            await send({"type": "websocket.send", "text": "a"})
        free.append(await is_free(store))

    scope = {"type": "websocket", "path": "/", "headers": [(HEADER, ID.encode())], "state": {}}

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(_: Message) -> None:
        pass

    await HermesSessionMiddleware(app, store)(scope, receive, send)
    assert free == [False, True]


async def test_a_turn_cannot_be_left_while_an_answer_is_recorded() -> None:
    """Where no response gives it back, that is an error; what had come is stored in the turn."""
    store = MemoryStore()
    session = HermesSession(store, ID)

    async def leave(error: Exception | None) -> None:
        async with session.turn(wait=0):
            session.record(USER).write("one ")
            if error is not None:
                raise error

    for error, seen, length in ((None, RuntimeError, 2), (Oops(), Oops, 4)):
        with pytest.raises(seen):
            await leave(error)
        history = await store.load(ID)
        assert history.length == length
        assert history.messages[-1]["status"] == "incomplete"
        assert await is_free(store)


@pytest.mark.parametrize("failing", [OSError("a secret id"), None])
async def test_a_store_that_cannot_give_back_spoils_no_answer(
    failing: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    """A third party's store raises what it likes, or has no such method; the answer goes out."""

    class Odd(MemoryStore):
        async def release(self, *_: Any, **__: Any) -> None:
            assert failing is not None
            raise failing

    if failing is None:
        Odd.release = None  # type: ignore[assignment, method-assign]
    caplog.set_level(logging.WARNING, "hermes_session_mw")
    log = await request(HermesSessionMiddleware(serving(whole), Odd()), ID)
    assert [message.get("body") for message in log] == [None, b"1"]
    assert "keeps its lease" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.filterwarnings("ignore:.*[Aa]sync.generator")  # Starlette drops it
async def test_a_cancelled_request_gives_the_turn_back() -> None:
    """Where the server cancels the application in the middle of a stream, its last act is that."""
    store = MemoryStore()
    app = HermesSessionMiddleware(serving(recorded_inside), store)
    begun = anyio.Event()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            begun.set()
            await anyio.sleep_forever()

    async def receive() -> Message:
        await anyio.sleep_forever()
        raise AssertionError

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app, http_scope([(HEADER, ID.encode())]), receive, send)
        await begun.wait()
        assert not await is_free(store)
        tasks.cancel_scope.cancel()
    assert await is_free(store)
    assert (await store.load(ID)).messages[-1]["status"] == "incomplete"
