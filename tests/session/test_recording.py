"""A streamed answer is stored once: whole, or as far as it came, whoever left and however."""

import asyncio
import json
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext, suppress
from functools import partial
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
    AppendInDoubt,
    HermesSession,
    HermesSessionMiddleware,
    History,
    InvalidKey,
    InvalidMessage,
    MemoryStore,
    MessageTooLarge,
    OwnerRequired,
    SessionConflict,
    SQLAlchemyStore,
    StoreMisconfigured,
    StoreUnavailable,
    TurnTooLong,
    get_session,
)
from hermes_session_mw.session.recording import Recording
from tests.support.asgi import Recorder, http_scope, request
from tests.support.server import demo

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
    scope = http_scope(ID, asgi={"version": "3.0", "spec_version": "2.4"})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(request, wrapped, scope=scope))
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
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
        with pytest.raises(MessageTooLarge):
            session.record({"text": "x" * 200})
        with pytest.raises(InvalidKey):
            session.record(USER, turn_id="")
        with pytest.raises(ValueError, match="negative"):
            session.record(USER, replace_from=-1)
        session.record()  # a turn may begin with the answer
        session.owner = None
        with pytest.raises(OwnerRequired):
            session.record(USER)
        session.owner = ""

    store = MemoryStore(max_message_bytes=200)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recording, "_part", lambda _: [WHOLE])
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

    await run(work, FailingStore(), store_timeout=0.05)
    warnings = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert warnings == [
        *["an answer that broke off is not stored yet: StoreUnavailable"] * 2,
        *["an answer that broke off is lost: the store remains unavailable"] * 2,
    ]


class Recovering(SQLAlchemyStore):
    """A store that is away for a while, and stores the first turn before it says so."""

    def __init__(self, url: str, failures: int) -> None:
        super().__init__(url)
        self.failures = failures

    async def append(self, *arguments: Any, **options: Any) -> int:
        self.failures -= 1
        if self.failures == 1:
            await super().append(*arguments, **options)
        if self.failures >= 0:
            raise AppendInDoubt("perhaps")
        return await super().append(*arguments, **options)


@pytest.mark.parametrize("ending", ["left", "failed", "cancelled"])
async def test_what_broke_off_is_stored_once_the_store_is_back(
    sqlite_url: str, ending: str
) -> None:
    """It is tried again for a while, under one id: an outcome that was in doubt doubles nothing."""

    async def work(session: Any) -> None:
        answer = session.record(USER)
        answer.write("one two ")
        if ending == "left":
            return
        async with answer:
            if ending == "failed":
                raise Gone
            with anyio.CancelScope() as scope:
                scope.cancel()
                await anyio.sleep_forever()
            raise Gone

    store = Recovering(sqlite_url, failures=3)
    with pytest.raises(Gone) if ending != "left" else nullcontext():
        await run(work, store)
    assert store.failures < 0
    assert await store.load("id") == History([USER, BROKEN], 2, exists=True)
    await store.aclose()


class WithoutIds(MemoryStore):
    """A store that has no place for a turn's id, as an old state.db of Hermes has none."""

    async def append(self, *arguments: Any, **options: Any) -> int:
        if options["turn_id"] is not None:
            raise StoreMisconfigured("no place")
        return await super().append(*arguments, **options)


async def test_what_broke_off_needs_no_place_for_its_id() -> None:
    """Where the store cannot keep an id, the part is stored without one."""
    store = WithoutIds()
    with pytest.raises(Gone):
        await request(HermesSessionMiddleware(streaming(two_and_gone), store), "id")
    assert (await store.load("id")).messages == [USER, BROKEN]


class Held(SQLAlchemyStore):
    """A store whose first append waits, before it stores or after it, until it is cancelled."""

    def __init__(self, url: str, *, stores_first: bool) -> None:
        super().__init__(url)
        self.stores_first = stores_first
        self.names: list[str | None] = []
        self.begun = asyncio.Event()

    async def append(self, *arguments: Any, **options: Any) -> int:
        self.names.append(options["turn_id"])
        is_first = not self.begun.is_set()
        if is_first and self.stores_first:
            await super().append(*arguments, **options)
        self.begun.set()
        if is_first:
            await asyncio.Event().wait()
        return await super().append(*arguments, **options)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("how", ["whole", "named", "keyed", "broken", "unstorable", "caught"])
@pytest.mark.parametrize("stores_first", [False, True])
async def test_a_recording_whose_end_is_cancelled_by_asyncio_is_stored_once(
    sqlite_url: str, how: str, *, stores_first: bool
) -> None:
    """No shield keeps that out, so that the middleware tries again, under the same id."""
    store = Held(sqlite_url, stores_first=stores_first)

    async def record(session: Any) -> None:
        async with session.record(USER, turn_id="t" if how == "named" else None) as answer:
            answer.write("one two " if how in {"broken", "unstorable"} else "one two three")
            if how == "unstorable":
                answer.message["n"] = math.nan
                with suppress(InvalidMessage):
                    answer.add({"n": math.nan})
            if how == "broken":
                raise Gone
            if how == "caught":
                await answer.end()

    app = HermesSessionMiddleware(Recorder(record), store)
    headers = [*ID, *([(b"idempotency-key", b"k")] if how == "keyed" else [])]
    task = asyncio.create_task(request(app, scope=http_scope(headers)))
    await store.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    broken = how in {"broken", "unstorable"}
    stored = [USER, BROKEN if broken else WHOLE]
    assert await store.load("id") == History(stored, 2, exists=True)
    first, again = store.names
    assert first == again
    assert first is not None
    assert first == {"named": "t", "keyed": "k"}.get(how, first)
    await store.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_recording_whose_end_runs_out_of_asyncios_time_is_stored() -> None:
    """Where an endpoint gives the end its own time, the turn is stored after it all the same."""

    class Slow(MemoryStore):
        appended = 0

        async def append(self, *arguments: Any, **options: Any) -> int:
            self.appended += 1
            if self.appended == 1:
                await asyncio.Event().wait()
            return await super().append(*arguments, **options)

    async def work(session: Any) -> None:
        answer = session.record(USER)
        answer.write("one two three")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await answer.end()
        assert answer.is_waiting

    store = Slow()
    await run(work, store)
    assert (await store.load("id")).messages == [USER, WHOLE]


# What cannot be stored as it is

CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
RESULT = {"role": "tool", "tool_call_id": "1", "content": "3"}


def marked(text: str, **fields: Any) -> dict[str, Any]:
    """Return an answer that broke off."""
    return {"role": "assistant", "content": text, **fields, "status": "incomplete"}


async def failing_at_the_end(
    store: Any, fill: Callable[[Recording], object], error: type[Exception] = InvalidMessage
) -> list[Any]:
    """Record a turn whose end raises, and return what is stored."""
    told: list[str] = []

    async def work(session: Any) -> None:
        answer = session.record(USER, turn_id="t")
        with pytest.raises(error) as caught:
            async with answer:
                fill(answer)
        told.append(str(caught.value))
        assert answer.ended
        assert answer.length == session.length
        assert await session.find_turn("t") is None  # the id is free for a repetition
        # What was refused stays refused, and the conversation goes on.
        await answer.end()
        assert await session.append(USER) == answer.length + 1

    await run(work, store)
    (text,) = told
    assert "nothing was stored" not in text
    *kept, last = (await store.load("id")).messages
    assert last == USER
    return list(kept)


BAD: list[tuple[dict[Any, Any], dict[str, Any]]] = [
    ({"tool_calls": [{"arguments": {"x": math.nan}}]}, {}),
    ({"usage": {1: 2}}, {}),
    ({1: 2}, {}),
    ({"name": "\ud800"}, {}),
    ({"pair": (1, 2), "model": "m"}, {"model": "m"}),
    ({"blob": "x" * 4096, "model": "m"}, {"model": "m"}),
    ({"half": "x" * 1500, "more": "x" * 1500}, {"half": "x" * 1500}),
]


@pytest.mark.parametrize(("fields", "left"), BAD)
async def test_the_question_survives_an_answer_that_cannot_be_stored(
    fields: dict[Any, Any], left: dict[str, Any]
) -> None:
    """What can be stored is, marked and without the keys that cannot; then the error is raised."""

    def fill(answer: Recording) -> None:
        answer.write("Three.")
        answer.message.update(fields)

    stored = await failing_at_the_end(MemoryStore(max_message_bytes=2048), fill)
    assert stored == [USER, marked("Three.", **left)]


@pytest.mark.parametrize("content", [[{"type": "text", "text": math.nan}], "x\ud800y", b"x", ""])
async def test_a_content_that_cannot_be_stored_is_kept_as_far_as_it_can_be(content: Any) -> None:
    """A lone surrogate becomes a replacement character; a content that is no text is left out."""

    def fill(answer: Recording) -> None:
        answer.message["content"] = content
        answer.message["bad"] = {1: 2}

    stored = await failing_at_the_end(MemoryStore(), fill)
    assert stored == ([USER, marked("x\ufffdy")] if content == "x\ud800y" else [USER])


async def test_an_answer_that_broke_off_is_kept_as_far_as_it_can_be() -> None:
    """What the client saw is stored, though the answer has a key by then that cannot be."""

    async def work(session: Any) -> None:
        answer = session.record(USER)
        answer.write("one two ")
        answer.message["n"] = math.nan

    store = MemoryStore()
    await run(work, store)
    assert (await store.load("id")).messages == [USER, BROKEN]


async def test_a_failure_of_another_kind_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A third party's store that raises what it likes loses what broke off, and is told of."""

    class Odd(MemoryStore):
        async def append(self, *_: Any, **__: Any) -> int:
            raise KeyError("odd")

    async def work(session: Any) -> None:
        session.record(USER)

    await run(work, Odd())
    assert "an answer that broke off is lost: KeyError" in caplog.text


async def test_a_recording_without_limits_takes_any_json() -> None:
    """One that is made without a store is held to JSON alone."""
    stored: list[Any] = []

    async def append(*messages: Any) -> int:
        stored.extend(messages)
        return len(stored)

    recording = Recording(append, append, [])
    recording.add(CALL)
    with pytest.raises(InvalidMessage):
        recording.add({"n": math.nan})
    await recording.break_off()
    assert stored == [CALL]


async def test_a_content_that_is_no_text_may_be_kept() -> None:
    """Parts of a content are kept beside a key that cannot be."""
    parts = [{"type": "text", "text": "Three."}]

    def fill(answer: Recording) -> None:
        answer.message.update(content=parts, bad=math.nan)

    stored = await failing_at_the_end(MemoryStore(), fill)
    assert stored == [USER, {"role": "assistant", "content": parts, "status": "incomplete"}]


@pytest.mark.parametrize("piece", ["x", "é", "\u0000", "\U0001f600", '"\n'])
async def test_an_answer_that_would_not_fit_is_ended_while_it_streams(piece: str) -> None:
    """As soon as the text can no longer fit, the next piece is refused; what fits is stored."""
    most = 500
    written: list[str] = []

    def fill(answer: Recording) -> None:
        while True:
            answer.write(piece)
            written.append(piece)

    stored = await failing_at_the_end(MemoryStore(max_message_bytes=most), fill, MessageTooLarge)
    question, answer = stored
    whole = {"role": "assistant", "content": "".join(written)}
    as_json = partial(json.dumps, ensure_ascii=False, separators=(",", ":"))
    assert len(as_json(whole).encode()) <= most < len(as_json(whole).encode()) + 6 * len(piece)
    assert question == USER
    assert whole["content"].startswith(answer["content"])
    assert len(as_json(answer).encode()) <= most < len(as_json(answer).encode()) + 6
    assert answer["status"] == "incomplete"


async def test_one_piece_that_would_not_fit_is_cut() -> None:
    """An answer that comes at once is kept as far as it fits as well."""

    def fill(answer: Recording) -> None:
        answer.write("x" * 100_000)

    _, answer = await failing_at_the_end(
        MemoryStore(max_message_bytes=10_000), fill, MessageTooLarge
    )
    assert len(json.dumps(answer, separators=(",", ":"))) == 10_000


async def test_an_answer_that_just_fits_is_stored_whole() -> None:
    """The mark of an answer that broke off takes no room from one that did not."""
    store = MemoryStore(max_message_bytes=500)
    frame = len('{"role":"assistant","content":""}')

    async def work(session: Any) -> None:
        async with session.record(USER) as answer:
            for _ in range(500 - frame):
                answer.write("x")

    await run(work, store)
    (_, answer) = (await store.load("id")).messages
    assert answer == {"role": "assistant", "content": "x" * (500 - frame)}


async def test_a_refused_piece_cannot_be_overlooked() -> None:
    """Where the endpoint goes on after it, what comes later is refused too, and so is the end."""

    def fill(answer: Recording) -> None:
        answer.write("one ")
        for piece in ("x" * 1000, "two "):
            with pytest.raises(MessageTooLarge):
                answer.write(piece)
        with pytest.raises(MessageTooLarge):
            answer.add(RESULT)

    stored = await failing_at_the_end(MemoryStore(max_message_bytes=200), fill, MessageTooLarge)
    assert stored[1]["content"].startswith("one xxx")


async def test_a_piece_that_is_no_text_is_refused_at_once() -> None:
    """A model that sends None for a piece costs neither the question nor the text before it."""

    def fill(answer: Recording) -> None:
        answer.write("one two ")
        answer.write(None)  # type: ignore[arg-type]

    assert await failing_at_the_end(MemoryStore(), fill, TypeError) == [USER, BROKEN]


@pytest.mark.parametrize("message", [None, [("model", "m")], "text"])
async def test_a_message_that_is_no_dict_is_refused_at_once(message: Any) -> None:
    """Keys of another type than a dict cost neither the question nor the text before them."""

    def fill(answer: Recording) -> None:
        answer.write("one two ")
        answer.message = {"model": "m"}
        answer.message = message

    stored = await failing_at_the_end(MemoryStore(), fill, TypeError)
    assert stored == [USER, marked("one two ", model="m")]


@pytest.mark.parametrize("bad", [{"n": math.nan}, {"text": "x" * 2048}])
async def test_a_message_that_cannot_be_stored_is_refused_when_it_is_added(bad: Any) -> None:
    """The messages before it stay, and what had come of the answer."""

    def fill(answer: Recording) -> None:
        answer.write("Let me see. ")
        answer.add(CALL, bad, RESULT)

    stored = await failing_at_the_end(MemoryStore(max_message_bytes=2048), fill)
    assert stored == [USER, CALL, marked("Let me see. ")]


async def test_a_message_that_is_spoilt_later_is_left_out_with_what_follows() -> None:
    """Whole messages are kept up to the first that cannot be stored."""
    spoilt = {**RESULT}

    def fill(answer: Recording) -> None:
        answer.add(CALL, spoilt, CALL)
        spoilt["content"] = math.nan  # type: ignore[assignment]
        answer.write("Three.")

    stored = await failing_at_the_end(MemoryStore(), fill)
    assert stored == [USER, CALL, marked("Three.")]


async def test_a_turn_that_becomes_too_long_is_refused_when_it_does() -> None:
    """The answer that is to come is counted in, so that it has its place."""

    def fill(answer: Recording) -> None:
        answer.add(CALL, RESULT)
        answer.write("Three.")
        answer.add(RESULT)

    stored = await failing_at_the_end(MemoryStore(max_turn_messages=4), fill, TurnTooLong)
    assert stored == [USER, CALL, RESULT, marked("Three.")]


class Strict:
    """A store of three methods and a check, which tells of no limits."""

    def __init__(self) -> None:
        self._store = MemoryStore()

    async def load(self, session_id: str, owner: str = "", limit: int | None = None) -> History:
        return await self._store.load(session_id, owner, limit)

    async def append(self, session_id: str, messages: Any, *rest: Any, **options: Any) -> int:
        self.check(messages)
        return await self._store.append(session_id, messages, *rest, **options)

    async def find_turn(self, *arguments: Any) -> Any:
        return await self._store.find_turn(*arguments)

    def check(self, messages: Any) -> None:
        if any(len(str(message.get("content"))) > 100 or "x" in message for message in messages):
            raise InvalidMessage("no")

    async def aclose(self) -> None: ...


async def test_a_store_that_only_checks_gets_what_it_takes() -> None:
    """Where a store tells of no limit, its check alone decides how much is kept."""

    def fill(answer: Recording) -> None:
        answer.write("y" * 5000)
        answer.message["x"] = 1

    assert await failing_at_the_end(Strict(), fill) == [USER, marked("y" * 100)]


class Refusing(Strict):
    """A store that refuses what its check lets through, and every answer."""

    async def append(self, session_id: str, messages: Any, *rest: Any, **options: Any) -> int:
        if any(message["role"] == "assistant" for message in messages):
            raise InvalidMessage("no answers")
        return await super().append(session_id, messages, *rest, **options)


async def test_what_a_store_refuses_for_no_reason_is_told_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A store whose check lets through what it refuses then costs no more than its error."""

    async def work(session: Any) -> None:
        with pytest.raises(InvalidMessage, match="no answers"):
            async with session.record(USER) as answer:
                answer.write("one two ")

    await run(work, Refusing())
    assert "an answer that broke off is lost: InvalidMessage" in caplog.text


async def test_an_answer_that_cannot_be_stored_waits_for_the_store_too(sqlite_url: str) -> None:
    """Where the store is away just then, what can be stored is tried again."""

    async def work(session: Any) -> None:
        answer = session.record(USER)
        answer.write("one two ")
        answer.message["n"] = math.nan
        with pytest.raises(InvalidMessage):
            await answer.end()

    store = Recovering(sqlite_url, failures=2)
    await run(work, store)
    assert await store.load("id") == History([USER, BROKEN], 2, exists=True)
    await store.aclose()


# Replacing

OLD = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]
EDITED = {"role": "user", "content": "Once more."}


async def replaced(
    work: Callable[[Any], Awaitable[object]], store: MemoryStore | None = None, **options: Any
) -> tuple[list[Any], list[str]]:
    """Run it on a session of two turns, and return the history, and why messages are archived."""
    store = store or MemoryStore()
    for _ in range(2):
        await store.append("id", OLD)
    await run(work, store, **options)
    history = await store.load("id")
    return history.messages, [old.reason for old in await store.archived("id")]


async def test_a_recording_may_replace_a_turn() -> None:
    """Until the new turn is whole the old one stands, and then the new one does, at once."""
    store = MemoryStore()

    async def work(session: Any) -> None:
        async with session.record(EDITED, replace_from=2) as answer:
            answer.write("one two three")
            assert (await store.load("id")).messages == [*OLD, *OLD]
        assert (answer.length, session.length) == (4, 4)
        assert session.history == [*OLD, EDITED, WHOLE]

    assert await replaced(work, store) == ([*OLD, EDITED, WHOLE], ["replace"] * 2)


async def test_an_answer_alone_may_be_replaced() -> None:
    """To regenerate an answer, its question stays."""

    async def work(session: Any) -> None:
        async with session.record(replace_from=3) as answer:
            answer.write("one two three")

    assert await replaced(work) == ([*OLD, OLD[0], WHOLE], ["replace"])


@pytest.mark.parametrize("problem", ["failed", "refused", "too large", "unstorable"])
async def test_a_replacement_that_fails_leaves_the_old_turn(problem: str) -> None:
    """Where the model breaks off, or the new answer cannot be stored, the old turn stands."""

    async def fail(answer: Recording) -> None:
        async with answer:
            answer.write("one two ")
            if problem == "failed":
                raise Gone
            if problem == "too large":
                answer.write("x" * 1000)
            if problem == "refused":
                answer.add({"n": math.nan})
            answer.message["n"] = math.nan

    async def work(session: Any) -> None:
        with pytest.raises((Gone, InvalidMessage)) as caught:
            await fail(session.record(EDITED, replace_from=2))
        if problem == "unstorable":
            assert "the turn to be replaced is kept" in str(caught.value)
        assert session.history == [*OLD, *OLD]

    store = MemoryStore(max_message_bytes=200)
    assert await replaced(work, store) == ([*OLD, *OLD], [])


async def test_a_replacement_of_which_nothing_came_leaves_the_old_turn() -> None:
    """A client that leaves before the first piece has changed nothing."""

    async def work(session: Any) -> None:
        session.record(EDITED, replace_from=2).add(CALL)

    assert await replaced(work) == ([*OLD, *OLD], [])


@pytest.mark.parametrize("message", [{}, {"role": "assistant", "content": "", "refusal": None}])
async def test_a_replacement_by_nothing_leaves_the_old_turn(message: dict[str, Any]) -> None:
    """A model that ends without a word has answered nothing, whether it stops or is stopped."""

    async def work(session: Any) -> None:
        async with session.record(EDITED, turn_id="t", replace_from=2) as answer:
            answer.write("")
            answer.message = message
        assert (answer.length, session.length) == (None, 4)
        stopped = session.record(EDITED, turn_id="t", replace_from=2)
        stopped.write("")
        await stopped.break_off()

    assert await replaced(work) == ([*OLD, *OLD], [])


async def test_a_replacement_may_be_without_an_answer() -> None:
    """Messages that are added are a turn, and without a turn to replace an empty answer is one."""

    async def work(session: Any) -> None:
        async with session.record(EDITED, replace_from=2) as answer:
            answer.add(CALL)
        async with session.record(EDITED):
            pass

    empty = {"role": "assistant", "content": ""}
    assert (await replaced(work))[0] == [*OLD, EDITED, CALL, empty, EDITED, empty]


@pytest.mark.parametrize("is_new", [False, True])
async def test_a_replacement_of_more_than_there_is_is_refused_at_once(is_new: bool) -> None:
    """What cannot be replaced is told before the model is asked, as far as it is known."""
    session = HermesSession(MemoryStore(), "id", is_new=is_new)
    if not is_new:
        session.record(EDITED, replace_from=3)  # nobody knows yet
        await session.load()
        await session.append(*OLD)
    with pytest.raises(SessionConflict, match="at least 3") as caught:
        session.record(EDITED, replace_from=3)
    assert (caught.value.expected, caught.value.at_least) == (3, True)
    for place in ("1", 1.0, True):
        with pytest.raises(TypeError, match="replace_from"):
            session.record(EDITED, replace_from=place)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="replace_from"):
            await session.append(EDITED, replace_from=place)  # type: ignore[arg-type]


@pytest.mark.parametrize("ending", ["left hanging", "cancelled", "told to"])
async def test_a_replacement_that_is_stopped_takes_its_place(ending: str) -> None:
    """Where the client stops it, what it has seen stands there, marked; the old is archived."""

    async def work(session: Any) -> None:
        answer = session.record(EDITED, replace_from=2)
        answer.write("one two ")
        if ending == "told to":
            await answer.break_off()
        if ending == "cancelled":
            with anyio.CancelScope() as scope:
                async with answer:
                    scope.cancel()
                    await anyio.sleep_forever()
            assert session.history == [*OLD, EDITED, BROKEN]

    assert await replaced(work) == ([*OLD, EDITED, BROKEN], ["replace"] * 2)


async def test_a_replacement_that_the_store_does_not_take_is_told() -> None:
    """Where the store fails at the end, the error is raised, and the old turn stands."""

    class Failing(MemoryStore):
        async def append(self, *arguments: Any, **options: Any) -> int:
            if options.get("replace_from") is not None:
                raise StoreUnavailable("down")
            return await super().append(*arguments, **options)

    async def work(session: Any) -> None:
        with pytest.raises(StoreUnavailable):
            async with session.record(EDITED, replace_from=2) as answer:
                answer.write("one two three")

    assert await replaced(work, Failing()) == ([*OLD, *OLD], [])


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
    """Of a client that hangs up, and wants no more, the question is kept, and what it was told."""
    question = {"role": "user", "content": "word " * 100_000}  # more than fits between the two
    headers = {"X-Hermes-Session-Id": "leaving", "X-Hermes-On-Disconnect": "stop"}
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
