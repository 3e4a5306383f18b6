"""The session object, and how applications get hold of it."""

from typing import Annotated, Any

import anyio
import pytest
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from hermes_session_mw import (
    HermesSession,
    HermesSessionMiddleware,
    InvalidMessage,
    MemoryStore,
    SessionConflict,
    SessionMissing,
    SQLAlchemyStore,
    StoreTimeout,
    get_session,
)
from hermes_session_mw.logging import fingerprint
from hermes_session_mw.session.store_client import StoreClient
from tests.asgi.test_middleware import HangingStore

HELLO = {"role": "user", "content": "hello"}
HI = {"role": "assistant", "content": "hi"}


async def test_an_append_shows_in_the_history() -> None:
    """What was appended is in the history at once, as a copy of its own."""
    session = HermesSession(MemoryStore(), "id", is_new=True)
    message: dict[str, Any] = {"role": "user", "content": [{"type": "text", "text": "a"}]}
    assert await session.append(message, HI) == 2
    message["content"].append("changed later")
    assert session.history == [
        {"role": "user", "content": [{"type": "text", "text": "a"}]},
        HI,
    ]
    assert session.length == 2


async def test_an_append_before_the_load_is_seen_by_the_load() -> None:
    """Appending needs no history, and a later load has all of it."""
    session = HermesSession(MemoryStore(), "id")
    assert await session.append(HELLO) == 1
    assert await session.load() == [HELLO]


async def test_a_load_sees_what_others_stored() -> None:
    """The history is this request's view; a new load has the turns of other requests."""
    store = MemoryStore()
    mine, theirs = HermesSession(store, "id"), HermesSession(store, "id")
    await mine.load()
    await theirs.append(HI)
    assert mine.history == []
    assert await mine.load() == [HI]


async def test_a_repeated_turn_is_not_shown_twice() -> None:
    """A retry under the same turn id changes neither the store nor the history."""
    session = HermesSession(MemoryStore(), "id", is_new=True)
    assert await session.append(HELLO, HI, turn_id="t") == 2
    assert await session.append(HELLO, HI, turn_id="t") == 2
    assert session.history == [HELLO, HI]


async def test_the_length_makes_an_append_conditional() -> None:
    """With expected_length=session.length a turn is stored only where nobody was faster."""
    store = MemoryStore()
    first, second = (HermesSession(StoreClient(store, limit=1), "id") for _ in range(2))
    await store.append("id", [HELLO, HI])
    await first.load()
    await second.load()
    assert await first.append(HELLO, expected_length=first.length) == 3
    with pytest.raises(SessionConflict, match="3 messages, not the expected 2"):
        await second.append(HELLO, expected_length=second.length)
    await second.load()
    assert await second.append(HI, expected_length=second.length) == 4


async def test_a_turn_of_others_between_two_appends_is_noticed() -> None:
    """Where others stored meanwhile, a conditional append fails until the history is loaded."""
    store = MemoryStore()
    session = HermesSession(store, "id", is_new=True)
    await store.append("id", [HI])
    assert await session.append(HELLO) == 2
    with pytest.raises(SessionConflict):
        await session.append(HELLO, expected_length=session.length)
    assert await session.load() == [HI, HELLO]
    assert await session.append(HELLO, expected_length=session.length) == 3


async def test_a_refused_append_leaves_the_history() -> None:
    """Where nothing was stored, nothing shows."""
    session = HermesSession(MemoryStore(), "id", is_new=True)
    with pytest.raises(InvalidMessage):
        await session.append(HELLO, {"x": float("nan")})
    assert session.history == []


async def test_an_append_to_a_hung_store_ends_in_time() -> None:
    """An append has store_timeout to succeed, and its error says that it may have."""
    session = HermesSession(StoreClient(HangingStore(), 0.05), "id")
    with anyio.fail_after(60), pytest.raises(StoreTimeout, match="turn_id"):
        await session.append(HELLO)


async def test_a_stores_own_timeout_is_passed_on() -> None:
    """A store that knows itself that it is too slow says so in its own words."""

    class SlowStore(MemoryStore):
        async def append(self, *_: Any, **__: Any) -> int:
            raise StoreTimeout("the shard is slow")

    with pytest.raises(StoreTimeout, match="shard"):
        await HermesSession(SlowStore(), "id").append(HELLO)


async def test_a_cancelled_append_is_finished() -> None:
    """A client that leaves while its turn is being stored does not tear it."""
    entered, release = anyio.Event(), anyio.Event()

    class SlowStore(MemoryStore):
        async def append(self, *arguments: Any, **options: Any) -> int:
            entered.set()
            await release.wait()
            return await super().append(*arguments, **options)

    store = SlowStore()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(HermesSession(store, "id").append, HELLO, HI)
        await entered.wait()
        tasks.cancel_scope.cancel()
        release.set()
    assert (await store.load("id")).messages == [HELLO, HI]


async def test_a_session_does_not_show_its_id() -> None:
    """An id is a secret, so the object's repr names its fingerprint, and says its state."""
    session = HermesSession(MemoryStore(), "secret")
    assert repr(session) == f"<HermesSession {fingerprint('secret')} (not loaded)>"
    await session.append(HELLO)
    await session.load()
    session.degraded = True
    assert repr(session).endswith("(1 messages, degraded)>")


def test_get_session_is_a_fastapi_dependency() -> None:
    """FastAPI injects the session where an endpoint depends on get_session."""
    api = FastAPI()

    @api.post("/chat")
    async def chat(session: Annotated[HermesSession, Depends(get_session)]) -> int:
        return await session.append(HELLO, HI)

    client = TestClient(HermesSessionMiddleware(api, MemoryStore()))
    response = client.post("/chat", headers={"X-Hermes-Session-Id": "known"})
    assert response.json() == 2
    response = client.post("/chat", headers={"X-Hermes-Session-Id": "known"})
    assert (response.json(), response.headers["x-hermes-session-id"]) == (4, "known")


def test_get_session_without_the_middleware_says_so() -> None:
    """Who forgot the middleware is told, and not answered with an AttributeError."""

    async def endpoint(request: Request) -> Response:
        with pytest.raises(SessionMissing, match="HermesSessionMiddleware"):
            get_session(request)
        return JSONResponse("told")

    client = TestClient(Starlette(routes=[Route("/", endpoint)]))
    assert client.get("/").json() == "told"


@pytest.mark.parametrize(("own", "timed"), [(4.0, None), (5.0, None), (6.0, 5.0)])
def test_a_store_that_keeps_the_time_itself_is_not_timed_again(
    own: float, timed: float | None
) -> None:
    """A store that ends every operation soon enough by itself costs no second time limit."""
    access = StoreClient(SQLAlchemyStore("sqlite://", timeout=own), 5.0)
    assert access._timeout == timed


async def test_a_session_without_a_middleware_may_be_ended() -> None:
    """Who makes a session himself ends it himself, and nobody waits for it."""
    session = HermesSession(MemoryStore(), "id")
    async with session.turn():
        await session.end()
    assert session.current_turn is None
    assert session.on_open is None
