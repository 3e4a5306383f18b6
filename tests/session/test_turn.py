"""One turn at a time: leases, waiting, fences; and the conflicts that are answered 409."""

import logging
import math
import pickle
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from hermes_session_mw import (
    AppendInDoubt,
    ConfigurationError,
    HermesSession,
    HermesSessionError,
    HermesSessionMiddleware,
    InvalidMessage,
    MemoryStore,
    MessageTooLarge,
    OwnerRequired,
    SessionBusy,
    SessionConflict,
    SessionDeleted,
    SessionFull,
    SessionTaken,
    SQLAlchemyStore,
    StoreCorrupt,
    StoreError,
    StoreMisconfigured,
    StoreTimeout,
    StoreUnavailable,
    TurnConflict,
    TurnLost,
    TurnTooLong,
    get_session,
    install,
    is_session_id,
)
from hermes_session_mw.testing.helpers import numbered
from tests.support.asgi import Recorder, request, stamp


async def test_turns_do_not_overlap() -> None:
    """Of requests that ask for the turn one is inside at a time, and each sees the one before."""
    store = MemoryStore()
    inside: list[int] = []
    seen: list[int] = []

    async def one() -> None:
        session = HermesSession(store, "id")
        async with session.turn(wait=60):
            inside.append(1)
            assert len(inside) == 1
            seen.append(session.length)
            await anyio.sleep(0.001)
            await session.append(*numbered(session.length))
            inside.pop()

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(one)
    assert seen == list(range(8))
    assert (await store.load("id")).messages == numbered(0, 8)


async def test_who_cannot_wait_is_told_for_how_long() -> None:
    """Where the turn does not come in time, the error says when it will be free at the latest."""
    store = MemoryStore()
    first, second = HermesSession(store, "id"), HermesSession(store, "id")
    async with first.turn(lease=30):
        with pytest.raises(SessionBusy) as caught:
            await second.turn(wait=0).acquire()
        assert 0 < caught.value.retry_after <= 30
        assert second.current_turn is None
        with pytest.raises(SessionBusy):
            await second.turn(wait=0.05).acquire()
    async with second.turn(wait=0):
        assert second.current_turn is not None


async def test_without_a_turn_nothing_waits() -> None:
    """Who does not ask for the turn appends while another is inside."""
    store = MemoryStore()
    first, second = HermesSession(store, "id"), HermesSession(store, "id")
    async with first.turn():
        assert await second.append(*numbered(0)) == 1
        assert await first.append(*numbered(1)) == 2


async def test_a_late_holder_writes_nothing() -> None:
    """Whose lease ran out, and whom another followed, is refused whatever it writes."""
    store = MemoryStore()
    late, next_one = HermesSession(store, "id"), HermesSession(store, "id")
    await late.append(*numbered(0, 2))
    turn = late.turn(lease=0.01)
    await turn.acquire()
    async with next_one.turn(wait=30):
        for write in (
            late.append({"n": "late"}),
            late.rewind(0),
            late.compact(keep=1, summary=[{"n": "late"}]),
            turn.extend(),
        ):
            with pytest.raises(TurnLost):
                await write
        await turn.release()
        assert late.current_turn is None
        await next_one.append(*numbered(2))
    assert (await store.load("id")).messages == numbered(0, 3)


async def test_a_late_holder_whom_nobody_followed_may_write() -> None:
    """The number keeps a late holder out, and not the clock: an answer that took long is kept."""
    session = HermesSession(MemoryStore(), "id")
    async with session.turn(lease=0.01) as turn:
        await anyio.sleep(0.02)
        assert await session.append(*numbered(0)) == 1
        await turn.extend(30)
        with pytest.raises(SessionBusy):
            await HermesSession(session._store, "id").turn(wait=0).acquire()


async def test_a_turn_is_entered_once() -> None:
    """A request that is in a turn is in it, and cannot wait for itself."""
    session = HermesSession(MemoryStore(), "id")
    turn = session.turn()
    async with turn:
        assert await turn.acquire() is turn
        with pytest.raises(RuntimeError, match="already"):
            await session.turn().acquire()
    async with turn:
        assert turn.fence == 2


@pytest.mark.parametrize(
    "times", [{"lease": 0}, {"lease": -1}, {"lease": math.inf}, {"lease": math.nan}, {"wait": -1}]
)
async def test_times_that_cannot_be_are_refused(times: dict[str, float]) -> None:
    """A lease has to last, and a wait cannot be negative."""
    with pytest.raises(ConfigurationError):
        HermesSession(MemoryStore(), "id").turn(**times)


async def test_a_turn_ends_with_its_request() -> None:
    """A turn that the application did not give back is free when the request has ended."""
    store = MemoryStore()

    async def work(session: HermesSession) -> None:
        await session.turn(wait=0).acquire()
        session.record(*numbered(session.length))

    app = HermesSessionMiddleware(Recorder(work), store)
    for _ in range(3):
        await request(app, "id")
    assert (await store.load("id")).messages == numbered(0, 3)


async def test_a_turn_is_given_back_where_its_history_cannot_be_read() -> None:
    """Whoever cannot go on does not keep the others waiting, however it ends."""

    class Unreadable(MemoryStore):
        async def load(self, *_arguments: Any, **_options: Any) -> Any:
            raise StoreUnavailable("no")

    store = Unreadable()
    with pytest.raises(StoreUnavailable):
        await HermesSession(store, "id").turn().acquire()
    with pytest.raises(StoreUnavailable):
        await HermesSession(store, "id").turn(wait=0).acquire()


async def test_a_turn_that_cannot_be_given_back_ends_with_its_lease(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A store that fails then costs the others the lease, and this request nothing."""

    class Failing(MemoryStore):
        async def release(self, *_: Any) -> None:
            raise StoreUnavailable("no")

    caplog.set_level(logging.WARNING, "hermes_session_mw")
    session = HermesSession(Failing(), "secret")
    async with session.turn():
        await session.append(*numbered(0))
    assert "keeps its lease" in caplog.text
    assert "secret" not in caplog.text


async def test_a_turn_goes_on_under_a_rotated_id() -> None:
    """Rotating inside of a turn keeps it, under the new id; renewing ends it."""
    store = MemoryStore()
    await store.append("id", numbered(0))
    session = HermesSession(store, "id")
    async with session.turn():
        new = await session.rotate()
        with pytest.raises(SessionBusy):
            await HermesSession(store, new).turn(wait=0).acquire()
        assert await session.append(*numbered(1)) == 2
        await session.renew()
        assert session.current_turn is None
        async with HermesSession(store, new).turn(wait=0) as other:
            assert other.fence > 0


async def test_a_turn_leaves_nothing_under_an_id_that_was_never_stored() -> None:
    """Rotating inside of a turn before the first message gives the old id's turn back."""
    store = MemoryStore()
    session = HermesSession(store, "old")
    async with session.turn():
        new = await session.rotate()
        async with HermesSession(store, "old").turn(wait=0) as other:
            assert other.fence == 2
        assert await session.append(*numbered(0)) == 1
    assert (await store.load(new)).length == 1


ERRORS = {
    "session_busy": SessionBusy(0.2),
    "session_conflict": SessionConflict(1, 2),
    "session_deleted": SessionDeleted(),
    "session_full": SessionFull(5),
    "session_taken": SessionTaken(),
    "idempotency_key_reused": TurnConflict(),
    "turn_lost": TurnLost(),
}


def fails(error: Exception) -> Any:
    async def endpoint(_: Request) -> Response:
        raise error

    return endpoint


def raw(error: Exception) -> Any:
    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        if scope["type"] == "http":
            raise error

    return HermesSessionMiddleware(app, MemoryStore())


def wrapped(error: Exception) -> Any:
    return HermesSessionMiddleware(Starlette(routes=[Route("/", fails(error))]), MemoryStore())


def installed(error: Exception) -> Any:
    return install(Starlette(routes=[Route("/", fails(error))]), MemoryStore())


def fastapi(error: Exception) -> Any:
    app = FastAPI()
    app.add_api_route("/", fails(error))
    return install(app, MemoryStore())


@pytest.mark.parametrize("make", [raw, wrapped, installed, fastapi])
@pytest.mark.parametrize("code", ERRORS)
def test_a_conflict_is_a_409(make: Any, code: str) -> None:
    """A conflict that the application lets through is answered 409, stamped, in OpenAI's shape."""
    client = TestClient(make(ERRORS[code]))
    answer = client.get("/", headers={"X-Hermes-Session-Id": "mine"})
    assert answer.status_code == 409
    assert answer.headers["x-hermes-session-id"] == "mine"
    assert answer.headers["cache-control"] == "no-store"
    error = answer.json()["error"]
    at_fault = {"idempotency_key_reused": "Idempotency-Key"}.get(code, "X-Hermes-Session-Id")
    assert (error["code"], error["param"]) == (code, at_fault)
    assert error["type"] == "invalid_request_error"
    assert answer.headers.get("retry-after") == ("1" if code == "session_busy" else None)


UNSTORABLE = [
    (InvalidMessage("no JSON"), 400, "invalid_message"),
    (MessageTooLarge("too large"), 413, "message_too_large"),
    (TurnTooLong("too long"), 413, "turn_too_long"),
]


@pytest.mark.parametrize("make", [raw, wrapped, installed, fastapi])
@pytest.mark.parametrize(("error", "status", "code"), UNSTORABLE)
def test_messages_that_cannot_be_stored_are_the_clients(
    make: Any, error: Exception, status: int, code: str
) -> None:
    """What ``check`` or ``append`` refuses, let through, is a 400 or a 413 that says why."""
    answer = TestClient(make(error)).get("/", headers={"X-Hermes-Session-Id": "mine"})
    assert answer.status_code == status
    assert answer.headers["x-hermes-session-id"] == "mine"
    told = {"message": str(error), "type": "invalid_request_error", "param": "messages"}
    assert answer.json() == {"error": {**told, "code": code}}


STORE_ERRORS = [
    (StoreUnavailable("not now"), 503, "session_store_unavailable"),
    (StoreTimeout("too late"), 503, "session_store_unavailable"),
    (AppendInDoubt("perhaps"), 503, "session_store_unavailable"),
    (StoreMisconfigured("no table"), 500, "session_store_failed"),
    (StoreCorrupt("no JSON"), 500, "session_store_failed"),
    (StoreError("another"), 500, "session_store_failed"),
]


@pytest.mark.parametrize("make", [raw, wrapped, installed, fastapi])
@pytest.mark.parametrize(("failure", "status", "code"), STORE_ERRORS)
def test_a_stores_failure_is_a_503_or_a_500(
    make: Any, failure: StoreError, status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What a store raises is answered as JSON without its text, which is logged in its place."""
    answer = TestClient(make(failure)).get("/", headers={"X-Hermes-Session-Id": "mine"})
    assert answer.status_code == status
    assert answer.headers["x-hermes-session-id"] == "mine"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers.get("retry-after") == ("1" if status == 503 else None)
    error = answer.json()["error"]
    assert (error["code"], error["type"]) == (code, "server_error")
    assert str(failure) not in answer.text
    assert ("Idempotency-Key" in error["message"]) == isinstance(
        failure, StoreTimeout | AppendInDoubt
    )
    (record,) = caplog.records
    assert record.levelname == ("WARNING" if status == 503 else "ERROR")
    assert str(failure) in record.getMessage()


@pytest.mark.parametrize("failing", ["append", "record"])
def test_an_append_to_a_store_that_is_not_there_is_a_503(failing: str) -> None:
    """An endpoint that does nothing about it answers 503 where its turn cannot be stored."""

    async def endpoint(request: Request) -> Response:
        session = get_session(request)
        if failing == "append":
            await session.append(*numbered(0))
        else:
            async with session.record(*numbered(0)) as answer:
                answer.write("yes")
        return Response()

    app = Starlette(routes=[Route("/", endpoint)])
    store = SQLAlchemyStore("postgresql+psycopg://nobody@127.0.0.1:1/none", timeout=0.2)
    answer = TestClient(install(app, store)).get("/")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["error"]["code"] == "session_store_unavailable"


@pytest.mark.parametrize("make", [raw, wrapped, installed, fastapi])
def test_a_request_of_nobodys_that_cannot_be_stored_is_a_401(make: Any) -> None:
    """What lets ``OwnerRequired`` through is answered 401, as a request with an id would be."""
    answer = TestClient(make(OwnerRequired())).get("/")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert is_session_id(answer.headers["x-hermes-session-id"])
    assert answer.json()["error"]["code"] == "owner_required"


async def test_a_retry_is_asked_for_after_whole_seconds() -> None:
    """Retry-After is in whole seconds, rounded up, and between 1 and 5."""
    cases = {2.1: "3", 0: "1", -5: "1", 4.5: "5", 3600: "5", math.inf: "5", math.nan: "1"}
    for seconds, said in cases.items():
        client = TestClient(raw(SessionBusy(seconds)))
        assert client.get("/").headers["retry-after"] == said


@pytest.mark.parametrize(
    ("kind", "later"),
    [
        (StoreUnavailable, False),
        (StoreError, False),
        (TimeoutError, False),
        (StoreUnavailable, True),
        (StoreError, True),
    ],
)
def test_an_own_answer_to_a_stores_failure_comes_first(kind: Any, *, later: bool) -> None:
    """An application that answers the failure, or its base, itself is left to do so."""

    async def own(_: Request, exc: Exception) -> Response:
        return PlainTextResponse(type(exc).__name__, 504)

    routes = [Route("/", fails(StoreTimeout("late")))]
    for make in (HermesSessionMiddleware, install):
        app: Any = Starlette(routes=routes, exception_handlers={} if later else {kind: own})
        wrapping = make(app, MemoryStore())
        if later:
            app.add_exception_handler(kind, own)
        answer = TestClient(wrapping).get("/")
        assert (answer.status_code, answer.text) == (504, "StoreTimeout")


@pytest.mark.parametrize("kind", [SessionBusy, HermesSessionError])
def test_the_applications_own_handler_comes_first(kind: Any) -> None:
    """An application that answers the error, or its base, itself is left to do so."""

    async def own(_: Request, exc: Exception) -> Response:
        return PlainTextResponse(type(exc).__name__, 423)

    routes = [Route("/", fails(SessionBusy(1)))]
    for make in (HermesSessionMiddleware, install):
        app: Any = Starlette(routes=routes, exception_handlers={kind: own})
        answer = TestClient(make(app, MemoryStore())).get("/")
        assert (answer.status_code, answer.text) == (423, "SessionBusy")


async def test_a_conflict_after_the_start_is_raised() -> None:
    """Once a response has begun there is no other, and the server is told."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise SessionBusy(1)

    with pytest.raises(SessionBusy):
        await request(HermesSessionMiddleware(app, MemoryStore()))


def test_a_second_request_is_told_to_come_again() -> None:
    """While one request is at it, a second one is answered 409, and the first is not disturbed."""

    async def chat(request: Request) -> Response:
        session = get_session(request)
        async with session.turn(wait=0):
            if request.headers.get("x-inner") is None:
                inner = TestClient(app, headers={"X-Inner": "1"})
                again = await anyio.to_thread.run_sync(
                    lambda: inner.get("/", headers={"X-Hermes-Session-Id": session.id})
                )
                assert again.status_code == 409
                assert 1 <= int(again.headers["retry-after"]) <= 60
            return JSONResponse(await session.append(*numbered(0)))

    store = MemoryStore()
    app = HermesSessionMiddleware(Starlette(routes=[Route("/", chat)]), store)
    answer = TestClient(app).get("/", headers={"X-Hermes-Session-Id": "id"})
    assert (answer.status_code, answer.json()) == (200, 1)


@pytest.mark.parametrize(
    ("error", "code"),
    [(SessionBusy(1), 1013), (StoreUnavailable("not now"), 1013), (StoreCorrupt("no JSON"), 1011)],
)
async def test_a_websockets_conflict_closes_it(error: Exception, code: int) -> None:
    """Before it is accepted a socket is closed with "try again later", or "internal error"."""
    sent: list[Any] = []

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        await receive()
        raise error

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/", "headers": [], "state": {}}
    await HermesSessionMiddleware(app, MemoryStore())(scope, receive, send)
    assert sent == [{"type": "websocket.close", "code": code}]


async def test_a_turn_of_a_new_session_counts_too() -> None:
    """A client learns a new id from the response's header, and may use it while that streams."""
    store = MemoryStore()
    outcome: list[str] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        session = scope["state"]["hermes_session"]
        async with session.turn(wait=0):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            if session.is_new:
                outcome.append(stamp(await request(wrapping, session.id)))
            await send({"type": "http.response.body", "body": b""})

    async def catching(scope: Any, receive: Any, send: Any) -> None:
        try:
            await app(scope, receive, send)
        except SessionBusy:
            outcome.append("busy")
            raise

    wrapping = HermesSessionMiddleware(catching, store)
    new = stamp(await request(wrapping))
    assert outcome == ["busy", new]
    assert not (await store.load(new)).exists


def test_a_busy_sessions_error_survives_pickling() -> None:
    """Errors cross processes, as a pool of workers hands them on, with what they tell."""
    again = pickle.loads(pickle.dumps(SessionBusy(2.5)))
    assert (type(again), again.retry_after) == (SessionBusy, 2.5)


async def test_a_busy_sessions_error_is_refused_where_it_is_made_wrong() -> None:
    """A text in the place of the seconds is the endpoint's own error, which is a stamped 500."""

    async def busy(_request: Request) -> Response:
        raise SessionBusy("busy")  # type: ignore[arg-type]

    app = Starlette(routes=[Route("/", busy)])
    client = TestClient(HermesSessionMiddleware(app, MemoryStore()), raise_server_exceptions=False)
    answer = client.get("/")
    assert answer.status_code == 500
    assert is_session_id(answer.headers["x-hermes-session-id"])
