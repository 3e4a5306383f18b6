"""An answer's events as server-sent events, in this package's own dialect or another one."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial

import anyio
from anyio.abc import TaskGroup
from starlette.types import Receive

from hermes_session_mw.exceptions import StoreError
from hermes_session_mw.session.answer import Answer, AnswerEvent
from hermes_session_mw.session.answer_log import AnswerLog
from hermes_session_mw.session.event_loops import clock, sleeper
from hermes_session_mw.session.event_stream import (
    HEAD_AFTER,
    EventSource,
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
    log = answer.local_log
    events = (
        _texts(answer, after, dialect, stops=stops)
        if log is None
        else _LogSource(answer, log, after, dialect, stops=stops)
    )
    return EventStream(
        events,
        opening=partial(dialect.opening or _nothing, answer),
        idle_event=dialect.idle_event,
        error_event=dialect.error_event or unexpected,
        head_after=HEAD_AFTER if dialect.head_after is None else dialect.head_after,
        headers=dialect.headers,
    )


def _nothing(_: Answer) -> str:
    return ""


class _LogSource(EventSource):
    """Tells an answer that runs in this process: the task that sends it waits for the log itself.

    So each piece takes one step of one task, and not of three.
    """

    def __init__(
        self, answer: Answer, log: AnswerLog, after: int | str, dialect: Dialect, *, stops: bool
    ) -> None:
        super().__init__()
        self._answer, self._log, self._dialect, self._stops = answer, log, dialect, stops
        self._after, self._number, self._is_ending = after, -1, False

    def start(self, tasks: TaskGroup) -> None:
        """Prepare to wait."""
        self.clock, self._tasks = clock(), tasks
        self._sleeper = sleeper()
        self._log.wake(self._sleeper)

    async def wait_until(self, due: float) -> None:
        """Wait until there are events, or the end, or it is ``due``."""
        try:
            if self._number < 0:
                await self._begin()
            while not self._is_ready() and self.clock() < due:
                await self._sleeper.sleep_until(due)
        except Exception as exc:  # noqa: BLE001  # told or raised by the response
            self.error, self.is_done = exc, True

    def go_on(self) -> None:
        """Go on to the next events."""
        self.event = None

    async def close(self) -> None:
        """Stop the answer if the client has left it, and that is what it wants."""
        self._log.forget(self._sleeper)
        self._sleeper.close()
        if self._stops and not self.is_done:
            await self._answer.stop()

    async def _begin(self) -> None:
        self._number = await self._answer.check(self._after)
        if self._dialect.opening is not None and self._dialect.head_after is None:
            self.event = ""  # with which the response begins

    def _is_ready(self) -> bool:
        """Take the next events, or the end; return whether there is either."""
        while self.event is None and not self.is_done and not self._is_ending:
            bodies = self._log.after(self._number)
            if bodies:
                events = self._answer.numbered(self._number, bodies)
                self._number += len(bodies)
                self.event = "".join(map(self._dialect.encode, events)) or None
            elif self._log.is_over:
                self._end()
            else:
                return False
        return self.event is not None or self.is_done

    def _end(self) -> None:
        last = self._dialect.ending(self._answer)
        if isinstance(last, str):
            self.event, self.is_done = last, True
        else:
            self._is_ending = True
            self._tasks.start_soon(self._await_ending, last)

    async def _await_ending(self, last: Awaitable[str]) -> None:
        try:
            self.event = await last
        except Exception as exc:  # noqa: BLE001  # told or raised by the response
            self.error = exc
        finally:
            self.is_done = True
            self._sleeper.wake()


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
