"""An answer's events are told in the dialect that the client speaks, each from one log."""

from typing import Any

import anyio
import pytest
from starlette.responses import Response

from hermes_session_mw import Answer, AnswerEvent, CursorConflict, HermesSession, MemoryStore
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


async def late_ending(answer: Answer) -> str:
    """Raise, as an application does that finds out at the end what the answer came to."""
    await anyio.lowlevel.checkpoint()
    assert answer.state == "completed"
    raise CursorConflict


@pytest.mark.parametrize("head_after", [None, 30.0])
async def test_what_the_ending_raises_is_a_status_before_the_head(
    head_after: float | None,
) -> None:
    """After it, it is told as an event; the response begins without one where that is wanted."""
    model = Model()
    hooks: Any = {"opening": opening, "ending": late_ending, "error_event": repr}
    async with serving(told(model, head_after=head_after, **hooks), MemoryStore()) as app:
        client = Client(app)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.run)
            if head_after is None:
                await client.sees("start")
            model.end()
    if head_after is None:
        assert (client.status, "CursorConflict" in client.text) == (200, True)
    else:
        assert (client.status, "cursor_conflict" in client.text) == (409, True)
        assert "start" not in client.text


async def test_an_answer_that_is_no_turn_ends_with_its_client() -> None:
    """Nobody else could find it, whatever the client or the application says."""
    model = Model()
    headers = (b"x-hermes-turn", b"none"), (b"x-hermes-on-disconnect", b"continue")
    async with serving(told(model), MemoryStore()) as app:
        client = Client(app, *headers)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.run)
            model.say("one")
            await client.sees("one")
            client.leave()
            with anyio.fail_after(30):
                await model.ended.wait()
