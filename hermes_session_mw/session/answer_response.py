"""An answer's events as server-sent events, in this package's own dialect or another one."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial

import anyio
from starlette.types import Receive

from hermes_session_mw.exceptions import StoreError
from hermes_session_mw.session.answer import Answer, AnswerEvent
from hermes_session_mw.session.event_stream import (
    HEAD_AFTER,
    EventStream,
    server_sent_event,
    unexpected,
    wait_for_disconnect,
)


def encode_begin(answer: Answer) -> str:
    """Return the first event in this package's own dialect, for who knows nothing of the answer.

    It tells what is answered, which no history has until the end.
    """
    told = {
        "answer": answer.id,
        "question": answer.question,
        "turn_id": answer.turn_id,
        "replace_from": answer.replace_from,
    }
    return server_sent_event(told, "begin")


def encode_event(event: AnswerEvent) -> str:
    """Return an event in this package's own dialect."""
    return f"id: {event.cursor}\ndata: {event.body}\n\n"


def encode_end(answer: Answer) -> str:
    """Return the last event in this package's own dialect."""
    return server_sent_event({"state": answer.state}, "end")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How an answer is told; see ``Answer.response``."""

    opening: Callable[[Answer], str] | None = None
    encode: Callable[[AnswerEvent], str] = encode_event
    ending: Callable[[Answer], str | Awaitable[str]] = encode_end
    idle_event: Callable[[], str] | None = None
    error_event: Callable[[Exception], str | None] | None = None
    head_after: float | None = None
    headers: Mapping[str, str] | None = None


def answer_response(
    answer: Answer, after: int | str, dialect: Dialect, *, stops: bool
) -> EventStream:
    """Return the response; ``stops``: a client that leaves it stops the answer."""
    return EventStream(
        _texts(answer, after, dialect, stops=stops),
        opening=partial(dialect.opening or _nothing, answer),
        idle_event=dialect.idle_event,
        error_event=dialect.error_event or unexpected,
        head_after=HEAD_AFTER if dialect.head_after is None else dialect.head_after,
        headers=dialect.headers,
    )


def _nothing(_: Answer) -> str:
    return ""


async def _texts(
    answer: Answer, after: int | str, dialect: Dialect, *, stops: bool
) -> AsyncGenerator[str, None]:
    try:
        number = await answer.check(after)
        if dialect.opening is not None and dialect.head_after is None:
            yield ""  # with which the response begins
        async with aclosing(answer.batches(number)) as batches:
            async for batch in batches:
                if text := "".join(map(dialect.encode, batch)):
                    yield text
        last = dialect.ending(answer)
        yield last if isinstance(last, str) else await last
    except (GeneratorExit, anyio.get_cancelled_exc_class()):
        if stops:
            with anyio.CancelScope(shield=True):
                await answer.stop()
        raise


async def stopping_at_disconnect(answer: Answer, receive: Receive) -> list[object]:
    """Return ``answer.payloads()``, and stop the answer if the client leaves before."""
    payloads: list[object] = []
    failure: Exception | None = None

    async def stop_at_disconnect() -> None:
        await wait_for_disconnect(receive)
        with suppress(StoreError):
            await answer.stop()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop_at_disconnect)
        try:
            payloads = await answer.payloads()
        except Exception as exc:  # noqa: BLE001  # raised below, and not in a group
            failure = exc
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return payloads
