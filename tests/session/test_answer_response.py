"""An answer's events are told in the dialect that the client speaks, each from one log."""

from typing import Any

import anyio
from starlette.responses import Response

from hermes_session_mw import Answer, AnswerEvent, HermesSession, MemoryStore
from hermes_session_mw.openai_api import server_sent_event
from tests.support.answers import USER, Begin, Client, Model, serving

HEADERS = {"X-Dialect": "1", "cache-control": "no-store"}


def opening(answer: Answer) -> str:
    return server_sent_event({"start": answer.id})


def encode(event: AnswerEvent) -> str:
    return server_sent_event({"delta": event.payload}) if event.payload != "-" else ""


def ending(answer: Answer) -> str:
    return server_sent_event({"end": answer.state})


def told(model: Model, after: int | str = 0, **hooks: Any) -> Begin:
    """Return an endpoint that begins the model's answer, or joins it where it runs."""

    async def begin(session: HermesSession) -> Response:
        answer = await session.running_answer() or await session.answer(model.pieces(), USER)
        return answer.response(after, **hooks)

    return begin


async def test_an_answer_is_told_in_another_dialect() -> None:
    """The hooks write the beginning, the events and the end; there are no cursors."""
    model = Model()
    begin = told(model, opening=opening, encode=encode, ending=ending, headers=HEADERS)
    async with serving(begin, MemoryStore()) as app:
        client = Client(app)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.run)
            await client.sees("start")  # the model has said nothing
            model.say("one", "-", "two")
            model.end()
    answer_id = client.data[0].split('"')[3]
    assert len(answer_id) == 32
    assert client.text == "".join(
        f"data: {data}\n\n"
        for data in (
            f'{{"start": "{answer_id}"}}', '{"delta": "one"}', '{"delta": "two"}',
            '{"end": "completed"}',
        )
    )  # fmt: skip
    headers = client.messages[0]["headers"]
    assert [value for name, value in headers if name == b"cache-control"] == [b"no-store"]
    assert {(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-dialect", b"1")} <= {
        *headers
    }


async def test_the_opening_is_told_to_those_who_resume() -> None:
    """It is sent before the events after the cursor; a default stands for each other hook."""
    model, places = Model(), [0, 1]

    async def begin(session: HermesSession) -> Response:
        return await told(model, places.pop(0), opening=opening)(session)

    async with serving(begin, MemoryStore()) as app:
        first, second = Client(app), Client(app)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first.run)
            model.say("one", "two")
            await first.sees("two")
            tasks.start_soon(second.run)
            await second.sees("two")
            model.end()
    start, *events = first.data
    assert events == ['"one"', '"two"', '{"state": "completed"}']
    assert second.data == [start, *events[1:]]
    assert second.cursors == first.cursors[1:]


async def test_a_cursor_is_refused_before_the_opening() -> None:
    """A cursor that is none is a 400 in every dialect."""
    model = Model()
    async with serving(told(model, "none", opening=opening), MemoryStore()) as app:
        client = Client(app)
        await client.run()
    assert (client.status, "invalid_cursor" in client.text) == (400, True)
    assert "start" not in client.text
