"""A streamed answer is stored once: whole, or as far as it came, whoever left and however."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from hermes_session_mw import (
    HermesSessionMiddleware,
    History,
    InvalidMessage,
    MemoryStore,
    OwnerRequired,
    SQLAlchemyStore,
    StoreUnavailable,
    get_session,
)
from hermes_session_mw.recording import Recording

from .asgi import Recorder, http_scope, request
from .server import demo

USER = {"role": "user", "content": "Count to three."}
WHOLE = {"role": "assistant", "content": "one two three"}
BROKEN = {"role": "assistant", "content": "one two ", "status": "incomplete"}
ID = [(b"x-hermes-session-id", b"id")]


class Gone(Exception):
    """What the model, or a server's ``send``, raises here."""


def streaming(pieces: Callable[[], AsyncIterator[str]]) -> Starlette:
    """Return an application that streams the pieces, and records them."""

    async def endpoint(request: Request) -> StreamingResponse:
        session = get_session(request)

        async def events() -> AsyncIterator[str]:
            async with session.record(USER) as answer:
                async for piece in pieces():
                    answer.write(piece)
                    yield piece
            yield "[DONE]"

        return StreamingResponse(events())

    return Starlette(routes=[Route("/", endpoint)])


async def three() -> AsyncIterator[str]:
    for piece in ("one ", "two ", "three"):
        yield piece


async def two_and_gone() -> AsyncIterator[str]:
    for piece in ("one ", "two "):
        yield piece
    raise Gone


async def two_and_no_more() -> AsyncIterator[str]:
    for piece in ("one ", "two "):
        yield piece
    await anyio.sleep_forever()


async def test_a_whole_answer_is_stored_whole() -> None:
    """What was read to its end is there by then, as one turn."""
    store = MemoryStore()
    log = await request(HermesSessionMiddleware(streaming(three), store), "id")
    assert b"".join(m.get("body", b"") for m in log) == b"one two three[DONE]"
    assert (await store.load("id")).messages == [USER, WHOLE]


async def test_an_answer_that_fails_is_stored_as_incomplete() -> None:
    """Where the model breaks off, what has come is stored and marked, and the error goes on."""
    store = MemoryStore()
    with pytest.raises(Gone):
        await request(HermesSessionMiddleware(streaming(two_and_gone), store), "id")
    assert (await store.load("id")).messages == [USER, BROKEN]


async def leaving(app: Any, version: str, after: int) -> None:
    """Request, and leave after some pieces as a server of that version tells it."""
    scope = http_scope(ID, asgi={"version": "3.0", "spec_version": version})
    left = anyio.Event()
    seen: list[bytes] = []

    async def receive() -> Message:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        seen.append(message.get("body", b""))
        if len(seen) > after:
            left.set()
            if version == "2.4":
                raise OSError
            await anyio.lowlevel.checkpoint()

    await app(scope, receive, send)


# Starlette drops the generator, which is what these tests are about, and trio warns of it.
dropped = pytest.mark.filterwarnings("ignore:.*[Aa]sync.generator")


@dropped
@pytest.mark.parametrize("pieces", [two_and_no_more, three])
async def test_a_client_that_leaves_leaves_an_incomplete_answer(pieces: Any) -> None:
    """Cancelled while it waits for the model, the answer is stored as far as it came."""
    store = MemoryStore()
    wrapped = HermesSessionMiddleware(streaming(pieces), store)
    await leaving(wrapped, "2.3", after=2 if pieces is two_and_no_more else 1)
    question, answer = (await store.load("id")).messages
    assert question == USER
    assert answer["status"] == "incomplete"
    assert "one two three".startswith(answer["content"])


@dropped
async def test_a_question_is_kept_of_a_client_that_leaves_at_once() -> None:
    """Where the turn is begun before the response, not one step of the stream is needed."""

    async def endpoint(request: Request) -> StreamingResponse:
        answer = get_session(request).record(USER)

        async def events() -> AsyncIterator[str]:
            async with answer:
                yield "never"

        return StreamingResponse(events())

    store = MemoryStore()
    wrapped = HermesSessionMiddleware(Starlette(routes=[Route("/", endpoint)]), store)
    await leaving(wrapped, "2.3", after=0)
    question, *_ = (await store.load("id")).messages
    assert question == USER


@dropped
async def test_a_generator_that_is_left_hanging_is_ended() -> None:
    """Where ``send`` fails the framework drops the generator; its turn is stored all the same."""
    store = MemoryStore()
    wrapped = HermesSessionMiddleware(streaming(three), store)
    with pytest.RaisesGroup(Exception, allow_unwrapped=True, flatten_subgroups=True):
        await leaving(wrapped, "2.4", after=2)
    assert (await store.load("id")).messages == [USER, BROKEN]


@dropped
async def test_a_cancelled_request_leaves_an_incomplete_answer() -> None:
    """Where the server cancels the application, its last act is to store what came."""
    store = MemoryStore()
    wrapped = HermesSessionMiddleware(streaming(two_and_no_more), store)
    with anyio.move_on_after(0.05):
        await request(wrapped, scope=http_scope(ID, asgi={"version": "3.0", "spec_version": "2.4"}))
    assert (await store.load("id")).messages == [USER, BROKEN]


async def run(
    work: Callable[[Any], Awaitable[object]], store: Any, **options: Any
) -> list[Message]:
    return await request(HermesSessionMiddleware(Recorder(work), store, **options), "id")


async def test_without_an_answer_the_question_stands_alone() -> None:
    """A prompt is not lost where the client leaves before the first piece."""

    async def work(session: Any) -> None:
        session.record(USER)

    store = MemoryStore()
    await run(work, store)
    assert (await store.load("id")).messages == [USER]


async def test_a_turn_may_have_more_messages() -> None:
    """Tool calls stand between question and answer, and other keys beside the text."""
    call = {"role": "assistant", "tool_calls": [{"id": "1"}]}
    result = {"role": "tool", "tool_call_id": "1", "content": "3"}

    async def work(session: Any) -> None:
        async with session.record(USER, turn_id="t", expected_length=0) as answer:
            answer.add(call, result)
            answer.write("Three.")
            answer.message["model"] = "m"
            assert (answer.text, answer.length, answer.ended) == ("Three.", None, False)
        assert (answer.length, answer.ended) == (4, True)
        last = {"role": "assistant", "content": "Three.", "model": "m"}
        assert session.history == [USER, call, result, last]
        assert await session.append(USER, call, result, last, turn_id="t") == 4

    store = MemoryStore()
    await run(work, store)
    assert (await store.load("id")).length == 4


async def test_a_recording_ends_once() -> None:
    """After its end nothing is recorded, and nothing is stored a second time."""

    async def work(session: Any) -> None:
        async with session.record(USER) as answer:
            answer.write("one two three")
        await answer.end()
        await answer.break_off()
        with pytest.raises(RuntimeError, match="stored already"):
            answer.write("four")
        with pytest.raises(RuntimeError, match="stored already"):
            answer.add(USER)

    store = MemoryStore()
    await run(work, store)
    assert (await store.load("id")).messages == [USER, WHOLE]


async def test_what_cannot_be_stored_is_refused_at_once() -> None:
    """A question that is no JSON, or a connection without an owner, fails before the answer."""

    async def work(session: Any) -> None:
        with pytest.raises(InvalidMessage):
            session.record({"n": float("nan")})
        session.record()  # a turn may begin with the answer
        session.owner = None
        with pytest.raises(OwnerRequired):
            session.record(USER)
        session.owner = ""

    store = MemoryStore()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recording, "_answer", lambda *_, **__: [WHOLE])
        await run(work, store)
    assert (await store.load("id")).messages == [WHOLE]


class FailingStore(MemoryStore):
    """A store that can be read."""

    async def append(self, *_: Any, **__: Any) -> int:
        raise StoreUnavailable("no room")


async def test_a_failure_at_the_end_is_told_or_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The block's end raises what the store raises; beside another error, or after all, it logs."""

    async def work(session: Any) -> None:
        with pytest.raises(StoreUnavailable):
            async with session.record(USER) as answer:
                answer.write("one")
        with pytest.raises(Gone):
            async with session.record(USER):
                raise Gone
        session.record(USER)

    await run(work, FailingStore())
    warnings = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert warnings == ["an answer that broke off is lost: StoreUnavailable"] * 2


async def test_raw_applications_record_too(sqlite_url: str) -> None:
    """Without a framework a recording is ended when the application returns, or raises."""

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        answer = scope["state"]["hermes_session"].record(USER)
        answer.write("one two ")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise Gone

    store = SQLAlchemyStore(sqlite_url)
    with pytest.raises(Gone):
        await request(HermesSessionMiddleware(app, store), "id")
    assert await store.load("id") == History([USER, BROKEN], 2, exists=True)
    await store.aclose()


async def test_a_client_that_leaves_the_demo_is_remembered(tmp_path: Path) -> None:
    """Over a real socket: of a client that hangs up the question is kept, and what it was told."""
    question = {"role": "user", "content": "word " * 100_000}  # more than fits between the two
    headers = {"X-Hermes-Session-Id": "leaving"}
    body = {"stream": True, "messages": [question]}
    with demo(tmp_path) as url:
        endpoint = f"{url}/v1/chat/completions"
        with httpx2.stream("POST", endpoint, json=body, headers=headers) as response:
            next(response.iter_lines())
        store = SQLAlchemyStore(f"sqlite:///{tmp_path}/hermes_demo.db")
        with anyio.fail_after(30):
            while not (history := await store.load("leaving")).exists:  # noqa: ASYNC110
                await anyio.sleep(0.05)  # until the server has seen that nobody listens
        await store.aclose()
    stored, answer = history.messages
    assert stored == question
    assert answer["status"] == "incomplete"
