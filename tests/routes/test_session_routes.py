"""The routes that a web client's sidebar needs."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from fastapi import FastAPI
from httpx2 import Response
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.routing import Mount
from starlette.testclient import TestClient

from hermes_session_mw import (
    SESSION_HEADER,
    ConfigurationError,
    HermesSessionMiddleware,
    History,
    MemoryStore,
    SessionBusy,
    SessionConflict,
    SessionDeleted,
    SessionInfo,
    SessionMissing,
    SessionPage,
    SessionTaken,
    SQLAlchemyStore,
    Store,
    StoreUnavailable,
    TurnConflict,
    TurnTooLong,
    install,
    is_session_id,
    session_routes,
)
from hermes_session_mw.routes.parameters import MAX_BODY, MAX_INDEX
from hermes_session_mw.stores.models import MAX_PAGE, MAX_TITLE, PAGE
from hermes_session_mw.testing.helpers import numbered

ADA, BOB = {"x-user": "ada"}, {"x-user": "bob"}


def whoever_says_so(connection: HTTPConnection) -> str | None:
    """Take a header's word for who it is, as only a test may."""
    return connection.headers.get("x-user")


async def whoever_says_so_later(connection: HTTPConnection) -> str | None:
    await anyio.lowlevel.checkpoint()
    return whoever_says_so(connection)


def bare(store: Store, **options: Any) -> TestClient:
    """Return a client of an application without the middleware."""
    options = {"owner": whoever_says_so, **options}
    return TestClient(Starlette(routes=session_routes(store, **options)), headers=ADA)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest) -> MemoryStore | SQLAlchemyStore:
    if request.param == "memory":
        return MemoryStore()
    return SQLAlchemyStore(request.getfixturevalue("sqlite_url"))


@pytest.fixture(params=["asyncio", "trio"])
def client(store: Store, request: pytest.FixtureRequest) -> Iterator[TestClient]:
    """A client whose requests are Ada's, of an application that has the middleware."""
    app = Starlette(routes=session_routes(store))
    served = HermesSessionMiddleware(app, store, owner=whoever_says_so)
    with TestClient(served, headers=ADA, backend=request.param) as client:
        yield client


@pytest.fixture
def quick() -> Iterator[TestClient]:
    """Ada's client without a middleware and a file; she has the session "a"."""
    store = MemoryStore()
    with bare(store) as client:
        sow(client, store, "a")
        yield client


def sow(
    client: TestClient, store: Store, session_id: str, count: int = 1, owner: str = "ada"
) -> int:
    assert client.portal is not None
    first = client.portal.call(partial(store.load, session_id, owner, 0)).length
    return client.portal.call(store.append, session_id, numbered(first, count), owner)


def error(response: Response) -> tuple[int, str, str | None]:
    """Return what an error says, in the shape that every error has."""
    found = response.json()["error"]
    assert sorted(found) == ["code", "message", "param", "type"]
    assert found["type"] == (
        "server_error" if response.status_code >= 500 else "invalid_request_error"
    )
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["content-type"] == "application/json"
    return response.status_code, found["code"], found["param"]


NOT_FOUND = (404, "session_not_found", "id")


def by_id(client: TestClient, session_id: str, **options: Any) -> list[Response]:
    """Ask every route that is about one session; the last one deletes it."""
    path = f"/sessions/{session_id}"
    return [
        client.get(path, **options),
        client.get(f"{path}/messages", **options),
        client.get(f"{path}/messages?before=1", **options),
        client.post(f"{path}/fork", **options),
        client.patch(path, json={"title": "mine"}, **options),
        client.delete(path, **options),
    ]


def test_a_list_has_the_owners_sessions(client: TestClient, store: Store) -> None:
    """The list tells of each session of the owner, and of nobody else's."""
    assert client.get("/sessions").json() == {
        "object": "list",
        "data": [],
        "has_more": False,
        "next_cursor": None,
    }
    sow(client, store, "a", 3)
    sow(client, store, "b", 2, "bob")
    listed = client.get("/sessions")
    assert listed.headers["cache-control"] == "no-store"
    (session,) = listed.json()["data"]
    times = [session.pop(name) for name in ("created_at", "updated_at")]
    assert session == {
        "id": "a",
        "object": "session",
        "title": None,
        "length": 3,
        "parent_id": None,
        "expires_at": None,
        "tags": [],
        "pinned": False,
        "shelved": False,
        "metadata": {},
        "first_words": None,
    }
    for time in times:
        assert time.endswith("Z")
        age = datetime.now(UTC) - datetime.fromisoformat(time)
        assert abs(age.total_seconds()) < 60


def test_the_list_comes_in_pages(client: TestClient, store: Store) -> None:
    """Cursors lead through all sessions, each once, also where one is changed on the way."""
    for number in range(7):
        sow(client, store, f"s{number}")
    seen: list[str] = []
    cursor: dict[str, str] = {}
    pages = 0
    while True:
        page = client.get("/sessions", params={"limit": 3, **cursor}).json()
        seen += [session["id"] for session in page["data"]]
        pages += 1
        assert page["has_more"] == (page["next_cursor"] is not None)
        if not page["has_more"]:
            break
        cursor = {"cursor": page["next_cursor"]}
        sow(client, store, seen[0])
    assert (pages, sorted(seen)) == (3, [f"s{number}" for number in range(7)])
    assert client.get("/sessions").json()["data"][0]["id"] == seen[0]


def test_messages_are_read_backwards(client: TestClient, store: Store) -> None:
    """The newest messages come first, page by page, each page oldest first."""
    sow(client, store, "a", 5)
    newest = client.get("/sessions/a/messages", params={"limit": 2}).json()
    assert newest == {
        "object": "list",
        "data": numbered(3, 2),
        "positions": [3, 4],
        "length": 5,
        "has_more": True,
        "next_before": 3,
    }
    page = client.get("/sessions/a/messages", params={"limit": 2, "before": 3}).json()
    assert (page["data"], page["next_before"]) == (numbered(1, 2), 1)
    page = client.get("/sessions/a/messages", params={"limit": 2, "before": 1}).json()
    assert (page["data"], page["has_more"], page["next_before"]) == (numbered(0), False, None)


def test_pages_stay_while_the_conversation_grows(client: TestClient, store: Store) -> None:
    """What is appended between two pages neither repeats a message nor leaves one out."""
    sow(client, store, "a", 9)
    page = client.get("/sessions/a/messages", params={"limit": 4}).json()
    seen = page["data"]
    while page["has_more"]:
        sow(client, store, "a", 3)
        params = {"limit": 4, "before": page["next_before"]}
        page = client.get("/sessions/a/messages", params=params).json()
        seen = page["data"] + seen
    assert seen == numbered(0, 9)
    assert page["length"] == 15


@pytest.mark.parametrize(("grown", "first"), [(1, 4), (20, 4), (22, 2), (30, 0)])
def test_pages_stay_while_they_are_read(grown: int, first: int) -> None:
    """Where others append in the midst of a request, its page may be shorter; nothing is lost."""

    class Growing(MemoryStore):
        grown = 0

        async def load(self, session_id: str, owner: str = "", limit: int | None = None) -> History:
            history = await super().load(session_id, owner, limit)
            if self.grown:
                await self.append(session_id, numbered(history.length, self.grown), owner)
            return history

    store = Growing()
    with bare(store) as client:
        sow(client, store, "a", 9)
        store.grown = grown
        page = client.get("/sessions/a/messages", params={"limit": 4, "before": 8}).json()
    assert page["data"] == numbered(8 - first, first)
    assert (page["has_more"], page["next_before"]) == (True, 8 - first)
    assert page["length"] == 9 + grown


@pytest.mark.parametrize(("before", "count"), [(0, 0), (1, 1), (5, 5), (6, 5), (MAX_INDEX, 5)])
def test_any_place_can_be_asked_before(
    client: TestClient, store: Store, before: int, count: int
) -> None:
    """A place beyond the end, as after a rewind, is the end; before the first there is nothing."""
    sow(client, store, "a", 5)
    page = client.get("/sessions/a/messages", params={"before": before}).json()
    assert (page["data"], page["has_more"]) == (numbered(0, count), False)


def test_a_session_without_messages_is_one(
    client: TestClient, store: MemoryStore | SQLAlchemyStore
) -> None:
    """A session that was rewound to nothing has an empty page, and is still listed."""
    sow(client, store, "a")
    assert client.portal is not None
    client.portal.call(store.rewind, "a", 0, "ada")
    for query in ("", "?before=0", "?before=7"):
        page = client.get(f"/sessions/a/messages{query}").json()
        assert (page["data"], page["length"], page["has_more"]) == ([], 0, False)
    assert client.get("/sessions").json()["data"][0]["length"] == 0


TIMES = {"include": "created_at"}


@pytest.mark.parametrize("query", [{}, {"limit": 2}, {"before": 3}, {"limit": 2, "before": 1}])
def test_a_page_tells_times_where_they_are_asked_for(
    client: TestClient, store: Store, query: dict[str, int]
) -> None:
    """With their times the messages of a page are the same ones, each with when it was stored."""
    sow(client, store, "a", 2)
    assert client.portal is not None
    client.portal.call(store.append, "a", [{"hermes_item": {"format": "x", "item": {}}}], "ada")
    sow(client, store, "a", 2)
    session = client.get("/sessions/a").json()
    plain = client.get("/sessions/a/messages", params=query).json()
    told = client.get("/sessions/a/messages", params={**query, **TIMES}).json()
    times = told.pop("created_at")
    assert told == plain
    assert len(times) == len(told["data"])
    # A message's row is written after its session's: the last one may be a moment after its change.
    all_times = [session["created_at"], *times]
    moments = [datetime.fromisoformat(time) for time in all_times]
    assert moments == sorted(moments)


def test_a_page_with_times_is_of_the_owners_session(
    client: TestClient, store: MemoryStore | SQLAlchemyStore
) -> None:
    """A place beyond the end is the end; an empty session is one; another's is unknown."""
    sow(client, store, "a", 3)
    page = client.get("/sessions/a/messages", params={"limit": 2, "before": 7, **TIMES}).json()
    assert (page["data"], page["next_before"]) == (numbered(1, 2), 1)
    assert client.portal is not None
    client.portal.call(store.rewind, "a", 0, "ada")
    page = client.get("/sessions/a/messages", params={"before": 0, **TIMES}).json()
    assert (page["data"], page["created_at"], page["length"]) == ([], [], 0)
    refused = client.get("/sessions/a/messages", params=TIMES, headers=BOB)
    assert error(refused) == NOT_FOUND


def test_times_are_asked_for_by_their_name(quick: TestClient) -> None:
    """Nothing else can be included."""
    refused = quick.get("/sessions/a/messages", params={"include": "updated_at"})
    assert error(refused) == (400, "invalid_include", "include")


def test_a_store_without_ranges_has_no_times() -> None:
    """Where the store cannot read a range, a page with times is a 501."""
    refused = bare(OnlyThree()).get("/sessions/a/messages", params=TIMES)
    assert error(refused) == (501, "not_supported", None)


def test_pages_have_a_usual_size(client: TestClient, store: Store) -> None:
    """Without a limit a page has as many as the store's own."""
    sow(client, store, "a", PAGE + 1)
    assert len(client.get("/sessions/a/messages").json()["data"]) == PAGE


def test_messages_are_as_stored(client: TestClient, store: Store) -> None:
    """Whatever JSON a message holds comes out as it went in."""
    message = {"content": "\0\ud7ff\U0001f600", "n": [1, 1.0, True, None, 10**30, 1e300], "": {}}
    assert client.portal is not None
    client.portal.call(store.append, "a", [message], "ada")
    data = client.get("/sessions/a/messages").json()["data"]
    assert json.dumps(data) == json.dumps([message])


def test_a_session_is_labelled_and_listed_by_it(client: TestClient, store: Store) -> None:
    """A change sets what it has, a list has what is asked for, and both refuse what is no label."""
    sow(client, store, "a")
    sow(client, store, "b")
    change = {"add_tags": ["Work"], "pinned": True, "metadata": {"k": "v"}, "title": "T"}
    labelled = client.patch("/sessions/a", json=change).json()
    assert (labelled["title"], labelled["tags"], labelled["pinned"]) == ("T", ["Work"], True)
    assert labelled["metadata"] == {"k": "v"}
    assert client.patch("/sessions/b", json={"shelved": True}).json()["shelved"]

    def ids(query: str) -> list[str]:
        return [one["id"] for one in client.get(f"/sessions?{query}").json()["data"]]

    assert ids("tag=work&tag=WORK") == ids("pinned=true") == ids("shelved=false") == ["a"]
    assert ids("tag=none") == ids("metadata[k]=w") == ids("metadata[k]=v&metadata[j]=v") == []
    assert ids("metadata[k]=v") == ids("metadata%5Bk%5D=v&tag=Work") == ["a"]
    assert ids("order=pinned") == ["a", "b"]
    for query in (
        "pinned=1", "shelved=", "order=title", "tag=", "pinned=true&pinned=true",
        "metadata[a][b]=v", "metadata[a]=v&metadata[a]=v", "metadata=v", "metadata[a",
        f"metadata[a]={'x' * 513}",
    ):  # fmt: skip
        assert client.get(f"/sessions?{query}").status_code == 400, query
    cursor = client.get("/sessions?limit=1").json()["next_cursor"]
    of_another = client.get("/sessions", params={"cursor": cursor, "order": "pinned"})
    assert error(of_another) == (400, "invalid_cursor", "cursor")
    bodies: list[Any] = [
        {"tags": "x"}, {"tags": [""]}, {"pinned": None}, {"pinned": 1}, {"metadata": {"a": 1}},
        {"tags": [f"t{number}" for number in range(33)]}, {"tags": [1]}, {"metadata": None},
    ]  # fmt: skip
    for body in bodies:
        assert error(client.patch("/sessions/a", json=body)) == (400, "invalid_body", None), body
    assert client.patch("/sessions/c", json={"pinned": True}).status_code == 404
    assert client.get("/sessions/a").json() == labelled


@pytest.mark.parametrize("title", ["Ünïcode \U0001f600", "", "x" * MAX_TITLE, None])
def test_a_session_gets_a_title(client: TestClient, store: Store, title: str | None) -> None:
    """A session can be named, named anew, and have its name taken away."""
    sow(client, store, "a")
    assert client.patch("/sessions/a", json={"title": "first"}).json()["title"] == "first"
    renamed = client.patch("/sessions/a", json={"title": title})
    assert (renamed.status_code, renamed.json()["title"]) == (200, title)
    assert renamed.json() == client.get("/sessions/a").json()
    assert renamed.json() == client.get("/sessions").json()["data"][0]


@pytest.mark.parametrize(
    ("body", "length"),
    [
        (b"", 5),
        (b"{}", 5),
        (b'{"length": null}', 5),
        (b'{"length": 2}', 2),
        (b'{"length": 2.0}', 2),
        (b'{"length": 0}', 0),
        (b'{"length": 2147483647}', 5),
    ],
)
def test_a_session_is_forked(client: TestClient, store: Store, body: bytes, length: int) -> None:
    """A fork has the first messages, its own id, and stands where Location says."""
    sow(client, store, "a", 5)
    forked = client.post("/sessions/a/fork", content=body)
    assert forked.status_code == 201
    assert (forked.json()["parent_id"], forked.json()["length"]) == ("a", length)
    new_id = forked.json()["id"]
    assert is_session_id(new_id)
    place = forked.request.url.join(forked.headers["location"])
    assert client.get(place).json() == forked.json()
    assert client.get(f"/sessions/{new_id}/messages").json()["data"] == numbered(0, length)
    assert {session["id"] for session in client.get("/sessions").json()["data"]} == {"a", new_id}


def test_a_session_is_deleted(client: TestClient, store: Store) -> None:
    """A deleted session is as one that never was, for every route."""
    sow(client, store, "a")
    deleted = client.delete("/sessions/a")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert deleted.headers["cache-control"] == "no-store"
    assert [error(response) for response in by_id(client, "a")] == [NOT_FOUND] * 6
    assert client.get("/sessions").json()["data"] == []


def test_anothers_session_is_an_unknown_one(client: TestClient, store: Store) -> None:
    """Another owner's id is answered byte for byte as one that nobody has, and stays as it is."""
    sow(client, store, "a", 2)
    stamp = {"x-hermes-session-id": "current"}  # so that no id is minted
    anothers = by_id(client, "a", headers={**BOB, **stamp})
    unknown = by_id(client, "b", headers={**BOB, **stamp})
    for one, other in zip(anothers, unknown, strict=True):
        assert error(one) == NOT_FOUND
        assert (one.content, one.headers) == (other.content, other.headers)
    assert client.get("/sessions", headers=BOB).json()["data"] == []
    kept = client.get("/sessions").json()["data"]
    assert [(one["id"], one["title"], one["length"]) for one in kept] == [("a", None, 2)]


@pytest.mark.parametrize("wild", ["%00", "x" * 257, "a%00b", "%20", "..%5c", "%ed%a0%80", "%ff"])
def test_an_id_that_cannot_be_is_unknown(client: TestClient, wild: str) -> None:
    """Nothing is asked of the store about an id that nothing can be stored under."""
    answers = by_id(client, wild)
    assert [error(response) for response in answers] == [NOT_FOUND] * 6
    assert {response.content for response in answers} == {client.get("/sessions/b").content}


@pytest.mark.parametrize("length", ["1", "255", "256"])
def test_a_lone_surrogate_is_unknown(length: str) -> None:
    """An id with half a character, which some servers let through, is as any unknown one."""
    store = MemoryStore()
    (route,) = [
        route
        for route in session_routes(store, owner=lambda _: "ada")
        if getattr(route, "path", "") == "/sessions/{id}"
    ]

    async def served(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope = {**scope, "path_params": {"id": "\ud800" * int(length)}}
            await route.handle(scope, receive, send)

    assert error(TestClient(served).get("/")) == NOT_FOUND


BAD_NUMBERS = ["", "x", "-1", "+1", "1.0", "1_0", " 1", "1e2", "٣", "9" * 5000, "null", "²"]


@pytest.mark.parametrize("value", [*BAD_NUMBERS, "0", str(MAX_PAGE + 1)])
@pytest.mark.parametrize("path", ["/sessions", "/sessions/a/messages"])
def test_a_limit_is_a_number(quick: TestClient, path: str, value: str) -> None:
    """A limit that is none is refused, and names itself."""
    refused = quick.get(path, params={"limit": value})
    assert error(refused) == (400, "invalid_limit", "limit")


@pytest.mark.parametrize("path", ["/sessions?lmit=3", "/sessions/a?x", "/sessions/a/messages?=y"])
def test_a_parameter_that_is_not_known_is_refused(quick: TestClient, path: str) -> None:
    """A misspelt parameter is told, and not passed over."""
    assert error(quick.get(path)) == (400, "invalid_query", "query")


@pytest.mark.parametrize("value", [*BAD_NUMBERS, str(MAX_INDEX + 1)])
def test_a_place_is_a_number(quick: TestClient, value: str) -> None:
    """A place that is none is refused, and names itself."""
    refused = quick.get("/sessions/a/messages", params={"before": value})
    assert error(refused) == (400, "invalid_before", "before")


@pytest.mark.parametrize("value", ["", "x", "WzFd", "ä", "\0", "[" * 9000, "e30=", "WzEsImEiXQ"])
def test_a_cursor_is_one_that_a_page_gave(client: TestClient, value: str) -> None:
    """A cursor that somebody made up is refused."""
    refused = client.get("/sessions", params={"cursor": value})
    assert error(refused) == (400, "invalid_cursor", "cursor")
    assert value not in refused.json()["error"]["message"] or not value.strip("x")


@pytest.mark.parametrize(
    ("path", "name"),
    [("", "limit"), ("", "cursor"), ("/a/messages", "before"), ("/a/messages", "include")],
)
def test_a_parameter_is_sent_once(quick: TestClient, path: str, name: str) -> None:
    """Where a parameter is sent twice nobody knows which is meant."""
    refused = quick.get(f"/sessions{path}?{name}=1&{name}=1")
    assert error(refused) == (400, f"invalid_{name}", name)


NO_BODIES = [
    b"title",
    b"[]",
    b"null",
    b'"title"',
    b"\xff",
    b"[" * MAX_BODY,
    b'{"a":' * 10_000,
    b"1" * 5000,
    b'{"other": 1}',
    b"title=x",
]


@pytest.mark.parametrize("body", NO_BODIES, ids=lambda body: repr(body[:9]))
@pytest.mark.parametrize(("method", "path"), [("PATCH", ""), ("POST", "/fork")])
def test_a_body_is_a_json_object(quick: TestClient, method: str, path: str, body: bytes) -> None:
    """A body that is no JSON object, or has other fields, is refused; nothing is changed."""
    refused = quick.request(method, f"/sessions/a{path}", content=body)
    assert error(refused) == (400, "invalid_body", None)
    assert len(quick.get("/sessions").json()["data"]) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"title": 1}',
        b'{"title": ["x"]}',
        b'{"title": "a\\u0000b"}',
        b'{"title": "\\ud800"}',
        b'{"title": "%s"}' % (b"x" * (MAX_TITLE + 1)),
        b'{"title": NaN}',
    ],
)
def test_a_title_is_a_text(quick: TestClient, body: bytes) -> None:
    """A title that not every database can store is refused, and so is none at all."""
    assert error(quick.patch("/sessions/a", content=body)) == (400, "invalid_title", "title")
    assert quick.get("/sessions/a").json()["title"] is None


def test_a_title_is_sent(quick: TestClient) -> None:
    """A rename without a body is refused: it would say neither a title nor none."""
    assert error(quick.patch("/sessions/a")) == (400, "invalid_body", None)


@pytest.mark.parametrize(
    "length", ["-1", "1.5", "true", '"1"', "[]", "2147483648", "1e999", "NaN", "-0.5"]
)
def test_a_length_is_a_number(quick: TestClient, length: str) -> None:
    """A fork of a length that cannot be is refused, and nothing is forked."""
    refused = quick.post("/sessions/a/fork", content=f'{{"length": {length}}}')
    assert error(refused) == (400, "invalid_length", "length")
    assert len(quick.get("/sessions").json()["data"]) == 1


@pytest.mark.parametrize(("method", "path"), [("PATCH", ""), ("POST", "/fork")])
def test_a_large_body_is_not_read(quick: TestClient, method: str, path: str) -> None:
    """A body beyond the limit is refused before all of it has come; one just within is read."""
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(200):
            sent += 1
            yield b" " * 1024

    fields = {"title": "x"} if method == "PATCH" else {"length": 1}
    body = json.dumps(fields).encode().ljust(MAX_BODY)
    refused = quick.request(method, f"/sessions/a{path}", content=body + b" ")
    assert error(refused) == (413, "body_too_large", None)
    assert error(quick.request(method, f"/sessions/a{path}", content=endless()))[0] == 413
    assert quick.request(method, f"/sessions/a{path}", content=body).is_success


ALL = [
    ("GET", ""),
    ("GET", "/a"),
    ("GET", "/a/messages"),
    ("POST", "/a/fork"),
    ("PATCH", "/a"),
    ("DELETE", "/a"),
    ("GET", "/a/answer"),
    ("POST", "/a/answer/stop"),
]
EXPIRY = [("GET", "/a/expiry"), ("PUT", "/a/expiry")]
RENAME = {"title": "x"}


@pytest.mark.parametrize(("method", "path"), [*ALL, *EXPIRY])
@pytest.mark.parametrize("user", [None, "", "a" * 256])
def test_nobody_sees_nothing(
    client: TestClient, store: Store, method: str, path: str, user: str | None
) -> None:
    """A request whose owner nobody knows is a 401 that names a challenge."""
    sow(client, store, "a")
    headers = {} if user is None else {"x-user": user}
    for one in (client, bare(store), bare(store, owner=whoever_says_so_later)):
        one.headers = headers
        refused = one.request(method, f"/sessions{path}", json=RENAME)
        assert error(refused) == (401, "owner_required", None)
        assert refused.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("hook", [whoever_says_so, whoever_says_so_later])
def test_the_routes_have_a_hook_of_their_own(hook: Any) -> None:
    """Without the middleware the routes' own hook says whose a request is."""
    store = MemoryStore()
    with bare(store, owner=hook) as client:
        sow(client, store, "a")
        assert [one["id"] for one in client.get("/sessions").json()["data"]] == ["a"]
        assert client.get("/sessions", headers=BOB).json()["data"] == []


def test_the_routes_own_hook_comes_first() -> None:
    """Where both have a hook, the routes' decides for the routes."""
    store = MemoryStore()
    app = Starlette(routes=session_routes(store, owner=lambda _: "bob"))
    with TestClient(HermesSessionMiddleware(app, store, owner=whoever_says_so)) as client:
        sow(client, store, "a", owner="bob")
        assert client.get("/sessions", headers=ADA).json()["data"][0]["id"] == "a"


def ownerless(store: Store, **options: Any) -> TestClient:
    app = Starlette(routes=session_routes(store, **options))
    return TestClient(HermesSessionMiddleware(app, store))


def test_sessions_without_owners_are_not_listed() -> None:
    """Where ids are all that is secret, a list of them is refused; who has one uses it."""
    store = MemoryStore()
    with ownerless(store) as client:
        sow(client, store, "a", owner="")
        assert error(client.get("/sessions")) == (403, "owner_required", None)
        statuses = [response.status_code for response in by_id(client, "a")]
        assert statuses == [200, 200, 200, 201, 200, 204]


def test_sessions_without_owners_are_listed_where_it_is_said() -> None:
    """An application for one person may list them all the same."""
    store = MemoryStore()
    with ownerless(store, allow_ownerless=True) as client:
        sow(client, store, "a", owner="")
        assert client.get("/sessions").json()["data"][0]["id"] == "a"


def test_without_a_middleware_or_a_hook_nothing_is_shown() -> None:
    """Where nobody can say whose a request is, the developer is told."""
    with pytest.raises(SessionMissing):
        bare(MemoryStore(), owner=None).get("/sessions")


def failing(cause: Exception) -> MemoryStore:
    class Failing(MemoryStore):
        async def _fail(self, *_: Any, **__: Any) -> Any:
            raise cause

        load = list = info = rename = fork = delete = open_answer = _fail

    return Failing()


@pytest.mark.parametrize(("method", "path"), ALL)
def test_a_store_that_fails_is_a_503(
    method: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A store that cannot do it now is a 503 that says when to come again, and is logged."""
    client = bare(failing(StoreUnavailable("locked")))
    refused = client.request(method, f"/sessions{path}", json=RENAME if method == "PATCH" else None)
    assert error(refused) == (503, "session_store_unavailable", None)
    assert refused.headers["retry-after"] == "1"
    assert "locked" in caplog.text
    assert "locked" not in refused.text


@pytest.mark.parametrize("cause", [None, StoreUnavailable("locked")])
def test_no_id_gets_into_the_log(cause: Exception | None, caplog: pytest.LogCaptureFixture) -> None:
    """Neither what the routes do nor what they fail at names a session or its owner in the log."""
    secret, owner = "a-bearer-secret", "ada-lovelace"
    store = MemoryStore() if cause is None else failing(cause)
    caplog.set_level("INFO", "hermes_session_mw")
    app = Starlette(routes=session_routes(store))
    served = HermesSessionMiddleware(app, store, owner=whoever_says_so)
    with TestClient(served, headers={"x-user": owner}) as client:
        if cause is None:
            sow(client, store, secret, owner=owner)
        statuses = {client.get("/sessions").status_code}
        for session_id in (secret, f"{secret}%00"):
            statuses |= {response.status_code for response in by_id(client, session_id)}
    assert statuses == ({200, 201, 204, 404} if cause is None else {404, 503})
    written = [record for record in caplog.records if record.name == "hermes_session_mw"]
    assert bool(written) == (cause is not None)  # or the next line would show nothing
    assert not [one for one in written if secret in one.getMessage() or owner in one.getMessage()]


@pytest.mark.parametrize(("method", "path"), ALL)
def test_a_store_has_its_time(method: str, path: str) -> None:
    """A store that does not answer is a 503 too, when its time is up."""

    class Hung(MemoryStore):
        async def _hang(self, *_: Any, **__: Any) -> Any:
            await anyio.sleep_forever()

        load = list = info = rename = fork = delete = open_answer = _hang

    client = bare(Hung(), store_timeout=0.01)
    refused = client.request(method, f"/sessions{path}", json=RENAME if method == "PATCH" else None)
    assert error(refused)[0] == 503


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (SessionConflict(0, 1), "session_conflict"),
        (SessionDeleted(), "session_deleted"),
        (SessionTaken(), "session_taken"),
        (SessionBusy(2.5), "session_busy"),
        (TurnConflict(), "idempotency_key_reused"),
    ],
)
@pytest.mark.parametrize(("method", "path"), ALL[3:])
def test_a_conflict_is_a_409(method: str, path: str, cause: Exception, code: str) -> None:
    """What the session's own state forbids is a conflict."""
    body = RENAME if method == "PATCH" else None
    refused = bare(failing(cause)).request(method, f"/sessions{path}", json=body)
    assert error(refused)[:2] == (409, code)
    assert refused.headers.get("retry-after") == ("3" if code == "session_busy" else None)


class OnlyThree:
    """A store that does what every store does, and no more."""

    async def load(self, session_id: str, owner: str = "", limit: int | None = None) -> History:
        return History(numbered(0, 2), 2, exists=True)

    async def append(
        self,
        session_id: str,
        messages: Sequence[dict[str, Any]],
        owner: str = "",
        turn_id: str | None = None,
        expected_length: int | None = None,
    ) -> int:
        raise NotImplementedError

    async def aclose(self) -> None:
        raise NotImplementedError


@pytest.mark.parametrize(("method", "path"), ALL)
def test_what_a_store_does_not_have_is_a_501(method: str, path: str) -> None:
    """A store of three methods serves the messages, and the answers of this process alone."""
    body = RENAME if method == "PATCH" else None
    answered = bare(OnlyThree()).request(method, f"/sessions{path}", json=body)
    if path == "/a/messages":
        assert answered.json()["data"] == numbered(0, 2)
    elif path.startswith("/a/answer"):
        assert answered.status_code == 204
    else:
        assert error(answered) == (501, "not_supported", None)


def test_a_rename_that_could_not_be_told_is_not_done() -> None:
    """Where the store cannot tell of a session it is asked to change nothing."""

    class Untold(OnlyThree):
        async def rename(self, *_: Any) -> bool:
            raise AssertionError

        fork = rename

    client = bare(Untold())
    assert error(client.patch("/sessions/a", json=RENAME))[0] == 501
    assert error(client.post("/sessions/a/fork"))[0] == 501


def test_a_stores_own_rules_for_titles_hold() -> None:
    """A title that the store will not have, such as one that is taken, is refused."""
    refused = bare(failing(ValueError("taken"))).patch("/sessions/a", json=RENAME)
    assert error(refused) == (400, "invalid_title", "title")


@pytest.mark.parametrize("cause", [ValueError("a bug"), TurnTooLong("a bug"), KeyError("a bug")])
def test_a_stores_bug_is_not_the_clients(cause: Exception) -> None:
    """An error that nothing in the request is to blame for is let through."""
    with pytest.raises(type(cause)):
        bare(failing(cause)).get("/sessions")
    if not isinstance(cause, ValueError):
        with pytest.raises(type(cause)):
            bare(failing(cause)).get("/sessions?cursor=x")


def test_a_session_that_goes_in_between_is_unknown() -> None:
    """A session that another request deletes after the change is a 404."""

    class Gone(MemoryStore):
        async def info(
            self, session_id: str, owner: str = "", *, first_words: bool = False
        ) -> SessionInfo | None:
            return None

    store = Gone()
    with bare(store) as client:
        sow(client, store, "a")
        assert error(client.patch("/sessions/a", json=RENAME)) == NOT_FOUND
        assert error(client.post("/sessions/a/fork")) == NOT_FOUND


def test_times_are_told_in_utc() -> None:
    """A store's times, in whatever zone, are told as RFC 3339 has them for UTC."""

    class Zoned(MemoryStore):
        async def list(
            self, owner: str = "", limit: int = PAGE, cursor: str | None = None, **_options: Any
        ) -> SessionPage:
            time = datetime.fromisoformat("2026-01-31T13:00:00.5+01:00")
            return SessionPage([SessionInfo("a", None, 1, time, time)], None)

    (session,) = bare(Zoned()).get("/sessions").json()["data"]
    assert session["created_at"] == session["updated_at"] == "2026-01-31T12:00:00.500000Z"


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("", {"GET", "HEAD"}),
        ("/a", {"GET", "HEAD", "PATCH", "DELETE"}),
        ("/a/messages", {"GET", "HEAD"}),
        ("/a/fork", {"POST"}),
        ("/a/answer/stop", {"POST"}),
    ],
)
def test_a_path_says_its_methods(client: TestClient, path: str, methods: set[str]) -> None:
    """Another method is a 405 that names all that there are, and HEAD is as GET."""
    refused = client.put(f"/sessions{path}")
    assert refused.status_code == 405
    assert set(refused.headers["allow"].split(", ")) == methods
    if "HEAD" in methods:
        assert client.head(f"/sessions{path}").status_code in {200, 404}


def test_routes_stand_where_they_are_put() -> None:
    """A prefix and a mount move all routes, and the description knows of both."""
    store = MemoryStore()
    routes = session_routes(store, owner=whoever_says_so, prefix="/v1/chats")
    with TestClient(Starlette(routes=[Mount("/api", routes=routes)]), headers=ADA) as client:
        sow(client, store, "a")
        forked = client.post("/api/v1/chats/a/fork")
        place = forked.request.url.join(forked.headers["location"])
        assert client.get(place).json() == forked.json()
        described = client.get("/api/v1/chats/openapi.json").json()
    assert described["servers"] == [{"url": "/api"}]
    assert all(path.startswith("/v1/chats") for path in described["paths"])


def test_fastapi_takes_the_routes() -> None:
    """A FastAPI application serves the routes beside its own, with the middleware's owner."""
    store = MemoryStore()
    app = FastAPI()
    app.router.routes.extend(session_routes(store))
    install(app, store, owner=whoever_says_so)
    with TestClient(app, headers=ADA) as client:
        sow(client, store, "a")
        assert client.get("/sessions").json()["data"][0]["id"] == "a"
        assert error(client.get("/sessions/a", headers=BOB)) == NOT_FOUND


def test_the_description_has_all_routes() -> None:
    """Each route and method is described, for whoever asks, and nothing else is."""
    client = bare(MemoryStore())
    client.headers.clear()
    answered = client.get("/sessions/openapi.json")
    assert answered.headers["cache-control"] == "no-store"
    described = answered.json()
    assert (described["openapi"], described["servers"]) == ("3.1.0", [{"url": "/"}])
    found = {
        (method.upper(), path.removeprefix("/sessions").replace("{id}", "a"))
        for path, operations in described["paths"].items()
        for method in operations
        if method != "parameters"
    }
    assert found == {*ALL, *EXPIRY, ("GET", "/search")}


def test_the_description_has_the_limits() -> None:
    """Each limit that the routes hold is in the description, which random input seldom reaches."""
    described = bare(MemoryStore()).get("/sessions/openapi.json").json()
    paths = described["paths"]
    rename = paths["/sessions/{id}"]["patch"]["requestBody"]
    fork = paths["/sessions/{id}/fork"]["post"]["requestBody"]
    bodies = [one["content"]["application/json"]["schema"] for one in (rename, fork)]
    title, length = bodies[0]["properties"]["title"], bodies[1]["properties"]["length"]
    assert (title["maxLength"], title["pattern"]) == (MAX_TITLE, "^[^\\u0000]*$")
    assert (length["minimum"], length["maximum"]) == (0, MAX_INDEX)
    asked = [paths["/sessions"], paths["/sessions/{id}/messages"]]
    numbers = {
        one["name"]: (one["schema"]["minimum"], one["schema"]["maximum"])
        for path in asked
        for one in path["get"]["parameters"]
        if one["schema"]["type"] == "integer"
    }
    assert numbers == {"limit": (1, MAX_PAGE), "before": (0, MAX_INDEX)}
    assert paths["/sessions/{id}"]["parameters"][0]["schema"]["maxLength"] == 256


def test_a_session_may_be_called_as_the_description() -> None:
    """Only GET of its own path is the description's; all else is the session's."""
    store = MemoryStore()
    with bare(store) as client:
        sow(client, store, "openapi.json")
        got, *others = by_id(client, "openapi.json")
    assert got.json()["openapi"] == "3.1.0"
    assert [response.status_code for response in others] == [200, 200, 201, 200, 204]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"prefix": ""}, "prefix"),
        ({"prefix": "/"}, "prefix"),
        ({"prefix": "sessions"}, "prefix"),
        ({"prefix": "/sessions/"}, "prefix"),
        ({"prefix": "/{user}/sessions"}, "prefix"),
        ({"owner": "ada"}, "owner"),
        ({"store_timeout": 0}, "store_timeout"),
        ({"store": "sqlite://"}, "session_routes"),
    ],
)
def test_mistakes_are_told_at_once(options: dict[str, Any], named: str) -> None:
    """An argument that cannot work is refused where it is given."""
    options = {"store": MemoryStore(), **options}
    with pytest.raises(ConfigurationError, match=named):
        session_routes(options.pop("store"), **options)


def test_a_session_is_made_a_temporary_one() -> None:
    """Its owner sets it before the first message and later, no longer than the operator allows."""
    store = MemoryStore(expires_after=timedelta(days=30))
    routes = session_routes(store)
    app = HermesSessionMiddleware(Starlette(routes=routes), store, owner=whoever_says_so)
    with TestClient(app, headers=ADA) as client:
        path = "/sessions/a/expiry"
        assert client.get(path).json() == {
            "object": "session.expiry",
            "expires_after": None,
            "inherited": 2_592_000,
            "expires_at": None,
        }
        # Nobody makes anything of an id that is neither stored nor the request's own.
        for headers in ({}, {SESSION_HEADER: "b"}):
            for setting in (3600, None):
                refused = client.put(path, json={"expires_after": setting}, headers=headers)
                assert error(refused) == NOT_FOUND
        assert store._sessions == {}
        own = {SESSION_HEADER: "a"}
        set_ = client.put(path, json={"expires_after": 3600.0}, headers=own)
        assert (set_.status_code, set_.json()["expires_after"]) == (200, 3600)
        assert set_.headers["cache-control"] == "no-store"
        sow(client, store, "a")
        session = client.get("/sessions/a").json()
        hour = datetime.fromisoformat(session["expires_at"]) - datetime.fromisoformat(
            session["updated_at"]
        )
        assert hour == timedelta(hours=1)
        for longer in (2_592_001, "never"):
            refused = client.put(path, json={"expires_after": longer})
            assert error(refused) == (400, "invalid_expires_after", "expires_after")
            assert "2592000 at most" in refused.json()["error"]["message"]
        assert client.get(path).json()["expires_after"] == 3600
        wrongs: list[Any] = [0, -1, 1.5, True, "soon", [], 10**10]
        for wrong in wrongs:
            refused = client.put(path, json={"expires_after": wrong})
            assert error(refused) == (400, "invalid_expires_after", "expires_after")
        bodies: list[Any] = [{}, {"expires_at": 1}, [], {"expires_after": 1, "title": "x"}]
        for body in bodies:
            assert client.put(path, json=body).status_code == 400
        assert client.put(path, json={"expires_after": None}).json()["expires_after"] is None
        # Another owner's has no setting here, and none there.
        assert client.put(path, json={"expires_after": 60}, headers=BOB).status_code == 404
        assert client.get(path).json()["expires_after"] is None
        assert client.delete("/sessions/a").status_code == 204
        for headers in ({}, own):
            deleted = client.put(path, json={"expires_after": 60}, headers=headers)
            assert error(deleted) == NOT_FOUND


def test_a_store_without_expiry_has_none(quick: TestClient) -> None:
    """Nobody is told that a chat is temporary where nothing will remove it."""
    assert error(quick.get("/sessions/a/expiry"))[0] == 501
    assert error(quick.put("/sessions/a/expiry", json={"expires_after": 60}))[0] == 501
    assert quick.get("/sessions/a").json()["expires_at"] is None
