"""The session routes do what their OpenAPI description says, as schemathesis sees it."""

import asyncio
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.testclient import TestClient

from hermes_session_mw import (
    NEVER,
    HermesSessionMiddleware,
    MemoryStore,
    SQLAlchemyStore,
    session_routes,
)
from hermes_session_mw.routes.openapi import (
    CURSOR_FORMAT,
    ID_FORMAT,
    SEARCH_CURSOR_FORMAT,
    TAG_FORMAT,
)
from hermes_session_mw.testing.helpers import numbered

IDS = [f"chat-{number}" for number in range(5)]
BOUNDED = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def whoever_has_the_token(connection: HTTPConnection) -> str | None:
    return "ada" if connection.headers.get("authorization") == "Bearer ada" else None


class Renewed:
    """A store that is as new whenever it was sown, whatever a request has deleted before."""

    def __init__(self) -> None:
        self.sow()

    def sow(self) -> None:
        self.now = MemoryStore(expires_after=NEVER)

        async def fill() -> None:
            for session_id in IDS:
                await self.now.append(session_id, numbered(0, 7), "ada")

        asyncio.run(fill())

    async def list(self, owner: str, limit: int, cursor: str | None, **wanted: Any) -> Any:
        # A cursor is for its own order, likewise.
        if cursor in cursors_told and wanted.get("order") == "pinned":
            cursor = None
        return await self.now.list(owner, limit, cursor, **wanted)

    async def search(self, *given: Any, **named: Any) -> Any:
        # A cursor is for its own words, which a description cannot say.
        if named["cursor"] in search_cursors_told and named["query"] != "found":
            named["cursor"] = None
        return await SEARCHED.search(*given, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.now, name)


async def _with_hits() -> SQLAlchemyStore:
    store = SQLAlchemyStore("sqlite://", search=True)
    await store.append("chat-1", [{"role": "user", "content": "found"}] * 3, "ada")
    return store


SEARCHED = asyncio.run(_with_hits())
STORE = Renewed()
# As an application has it: the one hook is the middleware's, and its refusals count as well.
APP = HermesSessionMiddleware(
    Starlette(routes=session_routes(STORE)), STORE, owner=whoever_has_the_token
)


def description() -> dict[str, Any]:
    """Return what the routes say, and how the hook above wants it said who one is."""
    with TestClient(APP) as client:
        found: dict[str, Any] = client.get("/sessions/openapi.json").json()
    found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {**found, "security": [{"token": []}]}


def cursors() -> list[str]:
    page = asyncio.run(STORE.now.list("ada", 1))
    assert page.cursor is not None
    return [page.cursor]


async def _search_cursors() -> list[str]:
    page = await SEARCHED.search("ada", "found", 1)
    assert page.cursor is not None
    return [page.cursor]


cursors_told = cursors()
search_cursors_told = asyncio.run(_search_cursors())
schemathesis.openapi.format(ID_FORMAT, st.sampled_from([*IDS, "unknown"]))
schemathesis.openapi.format(CURSOR_FORMAT, st.sampled_from(cursors_told))
schemathesis.openapi.format(TAG_FORMAT, st.sampled_from(["work", "Q3 plan", "Z\u00fcrich"]))
schemathesis.openapi.format(SEARCH_CURSOR_FORMAT, st.sampled_from(search_cursors_told))
schema = schemathesis.openapi.from_dict(description())
schema.app = APP


def sends_nothing(value: Any) -> bool:
    """Tell whether a query's value leaves no trace in the URL, as ``[]`` and ``[[]]`` do."""
    return isinstance(value, list) and all(map(sends_nothing, value))


@pytest.mark.filterwarnings("error")
@schema.parametrize()
@BOUNDED
def test_each_operation_is_as_described(case: schemathesis.Case[Any]) -> None:
    """Whatever is sent, well formed or not, the answer is one that the description has."""
    # What is wrong only in a parameter that is never sent arrives as a good request.
    assume(not any(map(sends_nothing, case.query.values())))
    STORE.sow()
    case.call_and_validate(headers={"Authorization": "Bearer ada"})
