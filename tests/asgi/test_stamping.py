"""Every response carries the session's id once, plain or streamed."""

from collections.abc import AsyncIterator, Callable
from copy import deepcopy
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from hermes_session_mw import (
    HermesSessionMiddleware,
    MemoryStore,
    ResponseStarted,
    is_session_id,
)
from tests.support.asgi import HEADER, Recorder, http_scope, request, stamp, stamps, types

relaxed = settings(deadline=None, suppress_health_check=list(HealthCheck))


def sending(*messages: Message) -> Callable[..., Any]:
    """Return an application that sends just these messages."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


async def test_a_streamed_response_is_stamped_at_its_start() -> None:
    """The start of a stream is stamped, and the very messages behind it pass untouched."""
    chunks = [
        {"type": "http.response.body", "body": b"%d" % n, "more_body": n < 3} for n in range(4)
    ]
    app = sending({"type": "http.response.start", "status": 200, "headers": []}, *chunks)
    log = await request(HermesSessionMiddleware(app, MemoryStore()), "known")
    assert stamp(log) == "known"
    assert all(sent is chunk for sent, chunk in zip(log[1:], chunks, strict=True))


async def test_each_chunk_leaves_before_the_next_is_made() -> None:
    """Nothing is held back: the client has each chunk while the next is being made."""
    events: list[str] = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        for n in range(3):
            events.append(f"made {n}")
            await send({"type": "http.response.body", "body": b"%d" % n, "more_body": n < 2})

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            events.append(f"sent {message['body'].decode()}")

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    await HermesSessionMiddleware(app, MemoryStore())(http_scope(), receive, send)
    assert events == ["made 0", "sent 0", "made 1", "sent 1", "made 2", "sent 2"]


@pytest.mark.parametrize(
    "start",
    [
        {},
        {"headers": []},
        {"headers": ()},
        {"headers": [(HEADER, b"other")]},
        {"headers": [[HEADER, b"other"], [b"X-Hermes-Session-ID", b"third"]]},
        {"headers": [(b"content-type", b"text/plain")], "trailers": True},
    ],
)
async def test_a_start_is_stamped_once_and_not_changed(start: dict[str, Any]) -> None:
    """Whatever the application says itself is replaced, in a new message."""
    message = {"type": "http.response.start", "status": 204, **start}
    before = {**message}
    wrapped = HermesSessionMiddleware(sending(message), MemoryStore())
    for session_id in ("first", "second"):
        (sent,) = await request(wrapped, session_id)
        assert stamps([sent]) == [session_id]
        assert message == before
        assert {**sent, "headers": None} == {**before, "headers": None}


async def test_one_shot_headers_are_stamped() -> None:
    """Headers from a generator keep their order and their values."""
    headers = (pair for pair in [(b"a", b"1"), (b"b", b"2")])
    app = sending({"type": "http.response.start", "status": 200, "headers": headers})
    (sent,) = await request(HermesSessionMiddleware(app, MemoryStore()), "known")
    assert sent["headers"][:3] == [(b"a", b"1"), (b"b", b"2"), (HEADER, b"known")]


@pytest.mark.parametrize(
    "kind",
    [
        "http.response.body",
        "http.response.trailers",
        "http.response.pathsend",
        "http.response.zerocopysend",
        "http.response.early_hint",
        "http.response.debug",
        "http.response.of_the_future",
    ],
)
async def test_other_messages_pass_untouched(kind: str) -> None:
    """Only the start is stamped; any other message is the very object that was sent."""
    message = {"type": kind, "headers": [(HEADER, b"the application's")]}
    app = sending(message, {"type": "http.response.start", "status": 200})
    sent = await request(HermesSessionMiddleware(app, MemoryStore()))
    assert sent[0] is message


PUSH = {"type": "http.response.push", "path": "/next", "headers": [(HEADER, b"x"), (b"a", b"1")]}
PUSHES = sending(PUSH, {"type": "http.response.start", "status": 200})


async def test_a_push_is_in_the_session_of_its_request() -> None:
    """The request that a push stands for names its parent's session, and is otherwise unchanged."""
    before = deepcopy(PUSH)
    app = HermesSessionMiddleware(PUSHES, MemoryStore())
    for sent_id in ("known", None):
        pushed, start = await request(app, sent_id)
        assert pushed == {**before, "headers": [(b"a", b"1"), (HEADER, stamp([start]).encode())]}
    assert before == PUSH


@pytest.mark.parametrize("unknown_ids", ["mint", "reject"])
async def test_a_push_does_not_name_a_session_that_would_be_unknown(
    unknown_ids: Literal["mint", "reject"],
) -> None:
    """Where only stored ids are accepted, a push names a known session, and no new one."""
    store = MemoryStore()
    await store.append("known", [{"n": 0}])
    app = HermesSessionMiddleware(PUSHES, store, unknown_ids=unknown_ids)
    assert (await request(app))[0] is PUSH
    assert (HEADER, b"known") in (await request(app, "known"))[0]["headers"]


async def test_a_push_whose_owner_nobody_can_tell_passes_untouched() -> None:
    """With owners a push has what the application gave it, for it has no credentials otherwise."""
    app = HermesSessionMiddleware(PUSHES, MemoryStore(), owner=lambda _: "ada")
    assert (await request(app, "known"))[0] is PUSH


async def test_a_closed_connection_is_the_applications_to_see() -> None:
    """What the server's send raises reaches the application, and comes out again."""
    seen: list[Exception] = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200})
        except OSError as exc:
            seen.append(exc)
            raise

    async def send(_: Message) -> None:
        raise BrokenPipeError

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(BrokenPipeError):
        await HermesSessionMiddleware(app, MemoryStore())(http_scope(), receive, send)
    assert len(seen) == 1


async def endpoint(request: Request) -> Response:
    """Answer in the way that the path names."""
    kind = request.path_params["kind"]
    if kind == "redirect":
        return RedirectResponse("/")
    if kind == "stream":
        return StreamingResponse(parts())
    if kind == "error":
        raise LookupError
    return PlainTextResponse("plain")


async def parts() -> AsyncIterator[str]:
    """Yield a few parts."""
    for n in range(5):
        yield str(n)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/plain", 200),
        ("/stream", 200),
        ("/redirect", 307),
        ("/no/such/path", 404),
        ("/error", 500),
    ],
)
@pytest.mark.parametrize("sent", [None, "known", "a b"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_starlette_application_is_stamped(
    path: str, status: int, sent: str | None, backend: Any
) -> None:
    """Pages, streams, redirects, 404 and the framework's own 500 all carry the id."""
    app = HermesSessionMiddleware(Starlette(routes=[Route("/{kind}", endpoint)]), MemoryStore())
    client = TestClient(app, raise_server_exceptions=False, follow_redirects=False, backend=backend)
    headers = {} if sent is None else {"X-Hermes-Session-Id": sent}
    response = client.get(path, headers=headers)
    assert response.status_code == (400 if sent == "a b" else status)
    (value,) = response.headers.get_list("x-hermes-session-id")
    assert value == "known" if sent == "known" else is_session_id(value)


@relaxed
@given(st.lists(st.binary(max_size=400), max_size=3), st.sampled_from(["reject", "mint"]))
async def test_any_bytes_as_the_header_are_answered(values: list[bytes], policy: Any) -> None:
    """Whatever bytes arrive, the answer is the application's or a 400, with one valid id."""
    wrapped = HermesSessionMiddleware(Recorder(), MemoryStore(), invalid_ids=policy)
    log = await request(wrapped, scope=http_scope([(HEADER, value) for value in values]))
    assert types(log) == ["http.response.start", "http.response.body"]
    assert log[0]["status"] in ((200,) if policy == "mint" else (200, 400))
    assert is_session_id(stamp(log))
    if log[0]["status"] == 200 and stamp(log).encode() not in [v.strip(b" \t") for v in values]:
        assert policy == "mint" or not any(value.strip(b" \t") for value in values)


pairs = st.lists(
    st.tuples(st.one_of(st.binary(max_size=20), st.just(HEADER)), st.binary(max_size=20))
)
starts = st.fixed_dictionaries(
    {"type": st.just("http.response.start"), "status": st.integers(100, 599)},
    optional={
        "headers": st.one_of(
            pairs, pairs.map(tuple), pairs.map(iter), pairs.map(lambda p: [list(x) for x in p])
        ),
        "trailers": st.booleans(),
    },
)
# What begins a response is stamped, even where it makes no sense to send it.
begins = ("http.response.start", "websocket.http.response.start", "websocket.accept")
others = st.fixed_dictionaries(
    {"type": st.text(max_size=30).filter(lambda kind: kind not in begins)},
    optional={"body": st.binary(), "more_body": st.booleans(), "headers": pairs},
)


@relaxed
@given(st.lists(others, max_size=3), starts, st.lists(others, max_size=5))
async def test_any_messages_of_the_specification_are_passed_on(
    before: list[Message], start: Message, after: list[Message]
) -> None:
    """Any sequence of messages goes out in order, the start stamped and the others untouched."""
    wrapped = HermesSessionMiddleware(sending(*before, start, *after), MemoryStore())
    log = await request(wrapped, "known")
    sent = log.pop(len(before))
    assert stamps([sent]) == ["known"]
    assert all(one is other for one, other in zip(log, [*before, *after], strict=True))


def replaying(*headers: tuple[bytes, bytes], status: int = 200) -> Callable[..., Any]:
    """Return an application that says it repeats an answer."""

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        scope["state"]["hermes_session"].mark_replayed()
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    return app


async def fields_of(app: Any, *names: bytes) -> list[tuple[bytes, bytes]]:
    """Return the fields of a response to a known session that have one of these names."""
    start, *_ = await request(HermesSessionMiddleware(app, MemoryStore()), "known")
    return [pair for pair in start["headers"] if pair[0] in names]


@pytest.mark.parametrize(
    ("app", "values"),
    [
        (replaying(), [b"true"]),
        (replaying((b"Idempotency-Replayed", b"false")), [b"true"]),
        (replaying(status=409), []),
        (replaying(status=500), []),
        (Recorder(), []),
    ],
)
async def test_a_replayed_answer_says_so(app: Any, values: list[bytes]) -> None:
    """Once, where the endpoint said so and the response is no error."""
    found = await fields_of(app, b"idempotency-replayed")
    assert [value for _, value in found] == values


async def test_a_page_of_another_origin_can_read_that_an_answer_is_replayed() -> None:
    """The header is exposed beside the session's, where the response is readable at all."""
    exposed = b"access-control-expose-headers"
    app = replaying((b"access-control-allow-origin", b"https://a.example"))
    assert await fields_of(app, exposed) == [
        (exposed, b"X-Hermes-Session-Id, Idempotency-Replayed")
    ]
    assert await fields_of(replaying(), exposed) == []


async def test_a_begun_answer_cannot_become_a_replayed_one() -> None:
    """After the response's beginning the header cannot be sent, which is an error."""

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        with pytest.raises(ResponseStarted):
            scope["state"]["hermes_session"].mark_replayed()
        await send({"type": "http.response.body", "body": b"ok"})

    assert await fields_of(app, b"idempotency-replayed") == []
