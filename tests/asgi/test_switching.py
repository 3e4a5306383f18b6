"""A request that goes on in another session than the one that its header names."""

import uuid
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from hermes_session_mw import (
    HermesSession,
    HermesSessionMiddleware,
    InvalidKey,
    MemoryStore,
    ResponseStarted,
    get_session,
    is_session_id,
)
from hermes_session_mw.openai_api import conversation_routes

HELLO = {"role": "user", "content": "hello"}


async def test_a_switch_goes_on_in_the_other_session() -> None:
    """The other history is read, what is appended goes there, and the turn is given back."""
    store = MemoryStore()
    await store.append("other", [HELLO])
    session = HermesSession(store, "id")
    await session.turn().acquire()
    await session.switch("other")
    assert session.current_turn is None
    assert await store.acquire("id", 1) == 2
    assert (session.id, session.is_new) == ("other", False)
    async with session.turn():
        assert session.history == [HELLO]
        await session.append(HELLO)
    assert (await store.load("other")).length == 2
    assert not (await store.load("id")).exists


async def test_a_switch_is_refused_where_the_id_cannot_be_told() -> None:
    """No id that a header cannot carry is taken, and none once the response has begun."""
    session = HermesSession(MemoryStore(), "id")
    unsafe: list[Any] = ["", "a b", "x" * 257, "a\nb", None, 5]
    for bad in unsafe:
        with pytest.raises(InvalidKey):
            await session.switch(bad)
    session.is_told = True
    with pytest.raises(ResponseStarted):
        await session.switch("other")
    assert session.id == "id"


def test_a_switch_takes_the_ids_that_the_next_request_may_send() -> None:
    """What the middleware would refuse in the header, by the default or `valid_id`, is refused."""

    async def endpoint(request: Request) -> Response:
        with pytest.raises(InvalidKey, match="is_session_id"):
            await get_session(request).switch("user@host/1")
        await get_session(request).switch("other")
        return Response()

    async def shouting(request: Request) -> Response:
        with pytest.raises(InvalidKey):
            await get_session(request).switch("other")
        await get_session(request).switch("USER@HOST/1")
        return Response()

    for handler, valid_id in ((endpoint, is_session_id), (shouting, str.isupper)):
        app = Starlette(routes=[Route("/", handler)])
        wrapped = HermesSessionMiddleware(app, MemoryStore(), valid_id=valid_id)
        with TestClient(wrapped, headers={"X-Hermes-Session-Id": "ID"}) as client:
            switched = client.get("/")
            assert switched.status_code == 200
            back = switched.headers["X-Hermes-Session-Id"]
            assert client.get("/", headers={"X-Hermes-Session-Id": back}).status_code == 200


def test_a_valid_id_of_ones_own_is_for_the_headers_ids() -> None:
    """Conversations by the routes have ids of the package's own, whatever the header may have."""

    def new_id() -> str:
        return f"S{uuid.uuid4().hex.upper()}"

    app = Starlette(routes=conversation_routes(store := MemoryStore()))
    wrapped = HermesSessionMiddleware(app, store, valid_id=str.isupper, new_id=new_id)
    with TestClient(wrapped) as client:
        made = client.post("/v1/conversations", json={})
        assert made.status_code == 200, made.text
        found = client.get(f"/v1/conversations/{made.json()['id']}")
        assert found.json()["id"] == made.json()["id"]


def test_the_id_of_the_other_session_is_stamped() -> None:
    """The response names the session that the request went on in."""

    async def endpoint(request: Request) -> Response:
        await get_session(request).switch("other")
        return Response()

    app = Starlette(routes=[Route("/", endpoint)])
    with TestClient(HermesSessionMiddleware(app, MemoryStore())) as client:
        response = client.get("/", headers={"X-Hermes-Session-Id": "id"})
    assert response.headers.get_list("X-Hermes-Session-Id") == ["other"]


def test_a_minted_session_keeps_what_the_request_wishes_for() -> None:
    """Where an unknown id is replaced, the Idempotency-Key and the history's source still hold."""

    async def endpoint(request: Request) -> Response:
        session = get_session(request)
        return JSONResponse([session.id, session.idempotency_key, session.history_source])

    app = Starlette(routes=[Route("/", endpoint)])
    headers = {
        "X-Hermes-Session-Id": "unknown",
        "X-Hermes-History-Source": "request",
        "Idempotency-Key": "k",
    }
    with TestClient(HermesSessionMiddleware(app, MemoryStore(), unknown_ids="mint")) as client:
        session_id, key, source = client.get("/", headers=headers).json()
    assert session_id != "unknown"
    assert (key, source) == ("k", "request")
