"""A response is followed by its answer's log, from any process, and is told as it ended."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import anyio
import pytest
from openai.types.responses import Response as SDKResponse
from starlette.responses import JSONResponse, Response

from hermes_session_mw import Answer, HermesSession, MemoryStore, SQLAlchemyStore, TurnConflict
from hermes_session_mw.openai_api.response_events import ResponseEvents
from hermes_session_mw.openai_api.response_object import response_object
from hermes_session_mw.openai_api.response_stream import (
    FollowedResponse,
    begun_response,
    read_log,
)
from tests.openai_api.test_response_events import EVENT, ID
from tests.support.answers import USER, Begin, Client, Model, serving

Stores = Callable[[], Any]
OWN = {"instructions": "Be brief.", "conversation": {"id": "id"}}


@pytest.fixture(params=["memory", "sqlite"])
def stores(request: pytest.FixtureRequest, sqlite_url: str) -> Stores:
    """Makes stores of one database; as many processes would."""
    if request.param == "sqlite":
        return lambda: SQLAlchemyStore(sqlite_url)
    only = MemoryStore()
    return lambda: only


async def payloads(model: Model) -> AsyncIterator[Any]:
    """Yield the events of the model's answer, as a server makes them."""
    events, details = ResponseEvents(ID), {"id": ID, "model": "m"}
    for kind in ("response.created", "response.in_progress"):
        yield events.event(kind, response=response_object("in_progress", details))
    async for piece in model.pieces():
        for event in events.add(piece, {}):
            yield event
    for event in events.end("completed"):
        yield event
    ended = response_object("completed", details, events.items)
    yield events.event("response.completed", response=ended)


def assemble(events: Sequence[Any]) -> dict[str, str]:
    deltas = [event["delta"] for event in events if "delta" in event]
    return {"role": "assistant", "content": "".join(deltas)}


async def begun(session: HermesSession, model: Model, **options: Any) -> Answer:
    return await session.answer(payloads(model), USER, assemble=assemble, **options)


def streamed(model: Model, opening: int = 0, **options: Any) -> Begin:
    """Return an endpoint that streams the response; its first events may be its opening."""

    async def begin(session: HermesSession) -> Response:
        answer = await session.running_answer() or await begun(session, model)
        first = (await read_log(answer))[:opening]
        return FollowedResponse(answer, ID, OWN, **options).stream(first, head_after=30.0)

    return begin


def payload_of(exc: Exception) -> Any:
    """Return an exception as a server logs it."""
    return {"error": {"message": str(exc), "type": "server_error"}}


def told(client: Client) -> list[Any]:
    """Return the events that a client got; each is one of the SDK's."""
    events: list[Any] = [json.loads(data) for data in client.data]
    for event in events:
        EVENT.validate_python(event)
        assert event.get("response", OWN).items() >= OWN.items()
    return events


def text_of(events: list[Any]) -> str:
    return "".join(event.get("delta", "") for event in events)


async def test_all_followers_get_the_same_events(stores: Stores) -> None:
    """In the process of the answer and in another; each is numbered by its place in the log."""
    model = Model()
    async with serving(streamed(model), stores()) as app, serving(streamed(model), stores()) as far:
        clients = [Client(app), Client(app), Client(far)]
        async with anyio.create_task_group() as tasks:
            for client in clients:
                tasks.start_soon(client.run)
                model.say("one ")
                await client.sees("one ")
            model.say("two")
            model.end()
    first, *others = (told(client) for client in clients)
    assert others == [first, first]
    assert [event["sequence_number"] for event in first] == list(range(len(first)))
    assert (first[0]["type"], first[-1]["type"]) == ("response.created", "response.completed")
    assert text_of(first) == "one one one two"
    assert model.asked == 1


@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_a_client_that_comes_back_gets_the_rest(stores: Stores, where: str) -> None:
    """It has the events up to a number, and gets those after it, and the end."""
    model = Model()
    async with (
        serving(streamed(model), stores()) as app,
        serving(streamed(model, known=5), stores()) as other,
    ):
        first = Client(app)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first.run)
            model.say("one ", "two ")
            await first.sees("two ")
            if where == "elsewhere":
                second = Client(other)
                tasks.start_soon(second.run)
            else:
                session = HermesSession(app._resolver._store, "id")
                answer = await session.running_answer()
                assert answer is not None
                second = Client(FollowedResponse(answer, ID, OWN, known=5).stream())
                tasks.start_soon(second.run)
            await second.sees("two ")
            model.say("three")
            model.end()
    assert told(second) == told(first)[5:]
    assert text_of(told(second)) == "two three"


class SlowStore(MemoryStore):
    """Waits before it ends an answer."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.free = anyio.Event(), anyio.Event()

    async def end_answer(self, *args: Any, **options: Any) -> int | None:
        self.asked.set()
        await self.free.wait()
        return await super().end_answer(*args, **options)


async def test_the_end_is_told_once_the_turn_is_stored() -> None:
    """Until then the response is in progress, for those who follow it and for those who ask."""
    model, store = Model(), SlowStore()
    async with serving(streamed(model), store) as app:
        client = Client(app)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.run)
            model.say("one")
            model.end()
            await client.sees("output_item.done")
            await store.asked.wait()
            answer = await HermesSession(app._resolver._store, "id").running_answer()
            assert answer is not None
            so_far = await FollowedResponse(answer, ID, OWN).so_far()
            assert (so_far["status"], so_far["output"][0]["status"]) == ("in_progress", "completed")
            assert "response.completed" not in client.text
            store.free.set()
    assert told(client)[-1]["response"]["output"] == so_far["output"]


@pytest.mark.parametrize("ending", ["stopped", "failed", "refused", "unstored"])
async def test_an_answer_that_breaks_off_ends_as_it_did(stores: Stores, ending: str) -> None:
    """The last events say that it was cancelled, or has failed, with what there is of it."""
    model = Model()
    store = stores()

    async def begin(session: HermesSession) -> Response:
        answer = await begun(session, model, discard_on=(TurnConflict,))
        return FollowedResponse(answer, ID, OWN).stream()

    async with serving(begin, store) as app:
        client = Client(app)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.run)
            model.say("one ")
            await client.sees("one ")
            if ending == "stopped":
                answer = await HermesSession(app._resolver._store, "id").running_answer()
                assert answer is not None
                await answer.stop()
            elif ending == "unstored":
                await store.delete("id")
                model.end()
            else:
                model.say(TurnConflict() if ending == "refused" else ValueError("no"))
    events = told(client)
    last = SDKResponse.model_validate(events[-1]["response"])
    assert last.output_text == "one "
    if ending == "stopped":
        assert (events[-1]["type"], last.status) == ("response.incomplete", "cancelled")
    else:
        assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
        assert (last.status, last.error is not None) == ("failed", True)
    numbers = [event["sequence_number"] for event in events]
    assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize("opened", [True, False])
async def test_a_failure_is_a_status_before_the_head(*, opened: bool) -> None:
    """The client whose request began the answer gets a status code, or else the last events."""
    model = Model()
    begin = streamed(model, 2, raises=True, payload_of=payload_of)
    async with serving(begin, MemoryStore()) as app:
        client = Client(app)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.run)
            if opened:
                model.say("one ")
                await client.sees("one ")
            model.say(TurnConflict())
    if opened:
        *_, error, failed = told(client)
        assert (error["type"], error["message"]) == ("error", str(TurnConflict()))
        assert failed["response"]["error"]["message"] == str(TurnConflict())
        assert client.text.count("response.created") == 2  # the event's name, and its type
    else:
        assert client.status == 409


async def test_silence_has_the_last_events_number(stores: Stores) -> None:
    """A client that comes back after it gets what it has not got, and nothing twice."""
    model = Model()
    async with serving(streamed(model), stores()) as app:
        client = Client(app)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.run)
            model.say("one ")
            await client.sees("one ")
            answer = await HermesSession(app._resolver._store, "id").running_answer()
            assert answer is not None
            followed = FollowedResponse(answer, ID, OWN)
            second = Client(followed.stream())
            tasks.start_soon(second.run)
            await second.sees("one ")
            number = len(told(second)) - 1
            idle = followed.idle_event()
            assert idle == (
                f'event: keepalive\ndata: {{"type": "keepalive", "sequence_number": {number}}}\n\n'
            )
            model.end()


async def test_a_log_that_cannot_be_read_ends_the_stream_alone() -> None:
    """The event says so, and has the number to come back by; the answer may go on."""
    model = Model()
    async with serving(streamed(model), MemoryStore()) as app:
        client = Client(app)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.run)
            model.say("one ")
            await client.sees("one ")
            answer = await HermesSession(app._resolver._store, "id").running_answer()
            assert answer is not None
            followed = FollowedResponse(answer, ID, OWN, known=5, payload_of=payload_of)
            text = followed._error_event(ValueError("gone"))
            model.end()
    error = json.loads(text.splitlines()[1].removeprefix("data: "))
    assert EVENT.validate_python(error).message == "gone"
    assert error["sequence_number"] == 4


async def test_a_response_is_waited_for(stores: Stores) -> None:
    """Without a stream the client gets it as a whole, with what is its own; or its failure."""
    model, failing = Model(), Model()
    failing.say("one", TurnConflict())
    model.say("one")
    model.end()
    models = [model, failing]

    async def begin(session: HermesSession) -> Response:
        answer = await begun(session, models.pop(0))
        followed = FollowedResponse(answer, ID, OWN, raises=True)
        return JSONResponse(await followed.whole())

    async with serving(begin, stores()) as app:
        clients = [Client(app), Client(app)]
        for client in clients:
            await client.run()
    response = json.loads(clients[0].text)
    assert SDKResponse.model_validate(response).output_text == "one"
    assert response.items() >= OWN.items()
    assert clients[1].status == 409


async def test_what_began_is_told_by_the_log(stores: Stores) -> None:
    """An answer in another dialect makes no response."""
    model = Model()
    model.end()
    seen = []

    async def begin(session: HermesSession) -> Response:
        answer = await begun(session, model)
        seen.append(await begun_response(answer))
        await answer.wait()
        other = Model()
        other.say("text")
        other.end()
        answer = await session.answer(other.pieces(), USER)
        seen.append(await begun_response(answer))
        await answer.wait()
        empty = Model()
        empty.end()
        seen.append(await begun_response(await session.answer(empty.pieces(), USER)))
        return Response()

    async with serving(begin, stores()) as app:
        await Client(app).run()
    first, *others = seen
    assert first is not None
    assert (first["id"], others) == (ID, [None, None])
