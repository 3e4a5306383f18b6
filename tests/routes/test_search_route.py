"""The route that finds messages."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from hermes_session_mw import HermesSessionMiddleware, MemoryStore, SQLAlchemyStore, session_routes


@pytest.fixture(params=["sqlite", "memory"])
def client(sqlite_url: str, request: pytest.FixtureRequest) -> Iterator[TestClient]:
    """A client whose requests are those of the owner that it names."""
    is_memory = request.param == "memory"
    store = MemoryStore(search=True) if is_memory else SQLAlchemyStore(sqlite_url, search=True)
    routes = session_routes(store, owner=lambda request: request.headers.get("x-owner"))
    with TestClient(Starlette(routes=routes), headers={"x-owner": "ada"}) as client:
        assert client.portal is not None
        for owner, session_id in (("ada", "trip"), ("ada", "search"), ("bob", "trip")):
            turn = [{"role": "user", "content": "\U0001f642 a <b>night</b> train"}]
            turn.append({"role": "assistant", "content": "nightly"})
            client.portal.call(store.append, session_id, turn, owner)
        yield client
        client.portal.call(store.aclose)


def found(client: TestClient, **parameters: Any) -> dict[str, Any]:
    response = client.get("/sessions/search", params=parameters)
    assert response.status_code == 200, response.text
    assert response.headers["cache-control"] == "no-store"
    page: dict[str, Any] = response.json()
    return page


def test_hits_are_told_in_pieces(client: TestClient) -> None:
    """What was found is a piece of the snippet, which a page shows without markup of its own."""
    page = found(client, q="night", role="user", session_id="trip")
    (hit,) = page["data"]
    assert hit["snippet"] == [
        {"text": "\U0001f642 a <b>", "found": False},
        {"text": "night", "found": True},
        {"text": "</b> train", "found": False},
    ]
    assert (hit["session_id"], hit["index"], hit["role"]) == ("trip", 0, "user")
    assert (page["has_more"], page["next_cursor"]) == (False, None)


def test_pages_follow_each_other(client: TestClient) -> None:
    """A cursor leads from page to page, and to its own owner's messages alone."""
    told: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        page = found(client, q="night", limit=1, **cursor)
        told += [(each["session_id"], each["index"]) for each in page["data"]]
        if not page["has_more"]:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert sorted(told) == [("search", 0), ("search", 1), ("trip", 0), ("trip", 1)]
    theirs = client.get("/sessions/search?q=night", headers={"x-owner": "eve"}).json()
    assert theirs["data"] == []


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("q=a&q=b", "q"), (f"q={'a' * 257}", "q"), ("q=a&limit=0", "limit"),
        ("q=a&limit=101", "limit"), ("q=a&cursor=made-up", "cursor"), ("q=a&since=soon", "since"),
        ("q=a&since=2026-01-31", "since"), ("q=a&session_id=", "session_id"),
        ("q=a&word=b", "query"),
    ],
)  # fmt: skip
def test_what_is_refused(client: TestClient, query: str, param: str) -> None:
    """A wrong parameter is named."""
    response = client.get(f"/sessions/search?{query}")
    assert response.status_code == 400
    assert response.json()["error"]["code"] == f"invalid_{param}"


def test_a_session_may_have_the_routes_name(client: TestClient) -> None:
    """Without words, and by the other methods, the path is that of a session with this id."""
    assert client.get("/sessions/search").json()["id"] == "search"
    assert client.delete("/sessions/search").status_code == 204
    assert client.get("/sessions/search").status_code == 404
    assert found(client, q="night", since="2020-01-01T00:00:00Z", role="user")["data"] != []


def test_a_store_without_search_is_told(sqlite_url: str) -> None:
    """A store that cannot search is a 501, and sessions without owners are a 403."""
    for store in (MemoryStore(), SQLAlchemyStore(sqlite_url)):
        for allowed, status in ((True, 501), (False, 403)):
            routes = session_routes(store, allow_ownerless=allowed)
            app = HermesSessionMiddleware(Starlette(routes=routes), store)
            with TestClient(app) as client:
                assert client.get("/sessions/search?q=a").status_code == status
