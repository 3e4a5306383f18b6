"""An answer's events as server-sent events, in this package's own dialect."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

import anyio

from hermes_session_mw.session.answer import Answer
from hermes_session_mw.session.event_stream import EventStream, server_sent_event


def answer_response(
    answer: Answer, after: int | str, *, stops: bool, begins: bool = False
) -> EventStream:
    """Return the response; ``stops``: a client that leaves it stops the answer.

    With ``begins`` an event without an id comes first, named ``begin``: what is answered, which no
    history has until the end.
    """
    events = _texts(answer, after, stops=stops)
    return (
        EventStream(events, opening=partial(_beginning, answer)) if begins else EventStream(events)
    )


def _beginning(answer: Answer) -> str:
    told = {
        "answer": answer.id,
        "question": answer.question,
        "turn_id": answer.turn_id,
        "replace_from": answer.replace_from,
    }
    return server_sent_event(told, "begin")


async def _texts(answer: Answer, after: int | str, *, stops: bool) -> AsyncGenerator[str, None]:
    try:
        async with aclosing(answer.batches(after)) as batches:
            async for batch in batches:
                yield "".join(
                    f"id: {event.cursor}\n{server_sent_event(event.payload)}" for event in batch
                )
        yield server_sent_event({"state": answer.state}, "end")
    except (GeneratorExit, anyio.get_cancelled_exc_class()):
        if stops:
            with anyio.CancelScope(shield=True):
                await answer.stop()
        raise
