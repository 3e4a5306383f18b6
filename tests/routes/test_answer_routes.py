"""The routes of a running answer: clients follow it from a cursor, and stop it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from starlette.responses import Response

from hermes_session_mw import HermesSession, MemoryStore, session_routes
from tests.support.answers import USER, Client, Model, serving
from tests.support.asgi import HEADER

OTHER = (b"x-owner", b"other")


@asynccontextmanager
async def answering(*models: Model) -> AsyncIterator[tuple[Any, MemoryStore]]:
    """Serve answers of the models, one after the other, for owners that the requests name."""
    store, left = MemoryStore(), list(models)

    async def begin(session: HermesSession) -> Response:
        return (await session.answer(left.pop(0).pieces(), USER)).response()

    routes = session_routes(store)
    owner = lambda connection: connection.headers.get("x-owner", "ada")  # noqa: E731
    async with serving(begin, store, *routes, owner=owner) as app:
        yield app, store


def follower(app: Any, *headers: tuple[bytes, bytes], **scope: Any) -> Client:
    path = scope.pop("path", "/sessions/id/answer")
    query = scope.pop("after", "")
    more = {"query_string": f"after={query}".encode()} if query else {}
    return Client(app, *headers, path=path, raw_path=path.encode(), **more, **scope)


async def test_a_client_comes_back() -> None:
    """By ``Last-Event-ID``, a cursor or a number a client gets just what it lacks, then the end."""
    model = Model()
    async with answering(model) as (app, _), anyio.create_task_group() as tasks:
        first = Client(app)
        tasks.start_soon(first.run)
        model.say("one ", "two ", "three ")
        await first.sees("three")
        first.leave()
        cursor = first.cursors[1]
        back = [
            follower(app, (b"last-event-id", cursor.encode()), after="0"),
            follower(app, after=cursor),
            follower(app, after="2"),
        ]
        whole = follower(app)
        for client in (*back, whole):
            tasks.start_soon(client.run)
            await client.sees("three ")
        model.say("four")
        model.end()
        for client in (*back, whole):
            with anyio.fail_after(30):
                await client.done.wait()
        # The answer has ended; who lacks its end gets it, and who has all, or names none, nothing.
        late, whole_late = follower(app, after=cursor), follower(app, after=f"{cursor[:-1]}4")
        nothing, number = follower(app), follower(app, after="2")
        for client in (late, whole_late, nothing, number):
            await client.run()
    for client in (*back, late):
        assert client.data == ['"three "', '"four"', '{"state": "completed"}']
    begin, *rest = whole.text.split("\n\n")
    assert begin.startswith("event: begin\ndata: ")
    told = json.loads(begin.partition("data: ")[2])
    name = cursor.partition(":")[0]
    assert told == {"answer": name, "question": [USER], "turn_id": None, "replace_from": None}
    assert rest[0] == f'id: {name}:1\ndata: "one "'
    assert [each.status for each in (late, whole_late, nothing, number)] == [200, 204, 204, 204]


async def test_answers_are_refused_and_stopped() -> None:
    """Bad cursors are a 400 or a 409, another owner sees no answer, and a stop stops it."""
    first_model, model = Model(), Model()
    first_model.say("one")
    first_model.end()
    async with answering(first_model, model) as (app, store), anyio.create_task_group() as tasks:
        before, client = Client(app), Client(app)
        await before.run()
        tasks.start_soon(client.run)
        model.say("one")
        await client.sees("one")
        cases = {"x": 400, "5": 400, before.cursors[0]: 409, client.cursors[0] + "0": 400}
        for after, status in cases.items():
            refused = follower(app, after=after)
            await refused.run()
            assert refused.status == status, after
            assert f'"code": "{"cursor_conflict" if status == 409 else "invalid_cursor"}"' in (
                refused.text
            )
        head = follower(app, method="HEAD")
        await head.run()
        assert (head.status, head.text) == (200, "")
        stop = "/sessions/id/answer/stop"
        for headers, status in [((OTHER,), 204), ((), 202)]:
            other = follower(app, *headers, after="" if not headers else client.cursors[0])
            if headers:
                await other.run()
                assert other.status == 204
            stopping = follower(app, *headers, path=stop, method="POST")
            await stopping.run()
            assert stopping.status == status
        with anyio.fail_after(30):
            await client.done.wait()
        again = follower(app, path=stop, method="POST")
        await again.run()
        assert again.status == 204
    assert client.data[-1] == '{"state": "stopped"}'
    assert (await store.load("id", "ada")).messages[-1]["status"] == "incomplete"


@pytest.mark.parametrize("value", [None, b"stop"])
async def test_a_follower_that_leaves(value: bytes | None) -> None:
    """A follower that closes its connection stops the answer only if it says so."""
    model = Model()
    headers = [] if value is None else [(b"x-hermes-on-disconnect", value)]
    async with answering(model) as (app, _), anyio.create_task_group() as tasks:
        first, second = Client(app), follower(app, *headers)
        tasks.start_soon(first.run)
        model.say("one")
        await first.sees("one")
        tasks.start_soon(second.run)
        await second.sees("one")
        second.leave()
        await second.done.wait()
        if value is None:
            model.end()
        with anyio.fail_after(30):
            await first.done.wait()
    assert first.data[-1] == f'{{"state": "{"stopped" if value else "completed"}"}}'


async def test_a_store_without_answers() -> None:
    """Where the store keeps no answers, the routes know those of their own process alone."""

    class Old(MemoryStore):
        begin_answer: Any = None

    store = Old()
    routes = session_routes(store, owner=lambda _: "ada")

    async def begin(session: HermesSession) -> Response:
        return Response()

    async with serving(begin, store, *routes) as app:
        client = follower(app)
        await client.run()
    assert client.status == 204
    assert HEADER in dict(client.messages[0]["headers"])
