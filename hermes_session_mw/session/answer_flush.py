"""Writes the logs of the answers that run in an event loop, and renews their leases.

Each answer has an `AnswerFlush`, which knows what of its log is written. One task for all of an
event loop's answers, the `Flusher`, writes those that are due: ``BATCH`` seconds after the first
event that is not written, and ``RENEWAL`` seconds after the last write where there are no events.
A store may fail meanwhile: what was not written is written later, and an answer has to wait once
there is too much of it.
"""

import math
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass
from typing import Any

import anyio
from anyio.abc import TaskGroup

from hermes_session_mw.database.workers.worker_pool import native_token
from hermes_session_mw.exceptions import InvalidMessage, SessionDeleted, TurnLost
from hermes_session_mw.messages import Message
from hermes_session_mw.session.answer_content import AnswerContent
from hermes_session_mw.session.answer_log import AnswerLog
from hermes_session_mw.session.answer_writer import RENEWAL, NoWriter
from hermes_session_mw.session.event_loops import spawn

BATCH = 0.2
"""Seconds between two writes of an answer, at least, and for which events wait, at most."""

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between two attempts to write."""

MAX_UNWRITTEN = 1_048_576
"""Characters of JSON that may wait to be written before the producer is asked for more."""

_PORTION = 262_144
"""Characters that one write has, about."""

_EARLY = 0.05
"""Seconds by which an answer is written early, together with another one that is due."""

_WRITERS = 8
"""Writes at once."""


@dataclass(frozen=True, slots=True)
class Write:
    """Events that are written at once, the message up to them, and what it grew by with them."""

    first: int
    events: list[str]
    size: int
    growth: str | None
    message: Message | None


class AnswerFlush:
    """Knows what of an answer's log is written.

    Attributes:
        due: when it is to be written, by the event loop's clock.
        is_writing: whether it is being written.
        written: how many events are written.
    """

    __slots__ = (
        "_content",
        "_fail",
        "_flusher",
        "_has_events",
        "_log",
        "_message",
        "_pause",
        "_pending",
        "_room",
        "_size",
        "_stop",
        "_warn",
        "_writer",
        "due",
        "is_writing",
        "written",
    )

    def __init__(
        self,
        flusher: "Flusher",
        log: AnswerLog,
        content: AnswerContent,
        writer: NoWriter,
        *,
        stop: Callable[[], None],
        fail: Callable[[Exception], None],
        warn: Callable[[Exception], None],
    ) -> None:
        """Flush a log; ``fail`` is called if it cannot be written, ``warn`` if not for now."""
        self.due: float = anyio.current_time() + RENEWAL
        self.is_writing: bool = False
        self.written: int = 0
        self._flusher, self._log, self._content, self._writer = flusher, log, content, writer
        self._stop, self._fail, self._warn = stop, fail, warn
        self._has_events = False
        self._size = 0  # of what is written
        self._message: Message | None = None  # as far as it is written
        self._pending: Write | None = None
        self._pause = FIRST_PAUSE
        self._room: anyio.Event | None = None

    def note_events(self) -> None:
        """Note that there are new events."""
        if not self._has_events:
            self._has_events = True
            self._set_due(anyio.current_time() + BATCH)

    def write_now(self) -> None:
        """Write as soon as possible, also where there is nothing to write.

        It may be called by the event loop itself, which knows no time outside of tasks.
        """
        self._set_due(-math.inf)

    @property
    def is_full(self) -> bool:
        """Whether no more events should come before some are written."""
        return self._log.size - self._size > MAX_UNWRITTEN

    async def wait_for_room(self) -> None:
        """Wait until it is not full any more."""
        if not self.is_writing and self._pause == FIRST_PAUSE:
            self.write_now()
        while self.is_full:
            self._room = anyio.Event()
            await self._room.wait()

    def next_write(self) -> Write:
        """Return what is to be written next; one that has failed is repeated as it was.

        Raises:
            InvalidMessage: the message cannot be assembled, or cannot be stored.
        """
        if self._pending is None:
            # It may be stored although it failed, and what the message grew by is of its events.
            self._pending = self._made_write()
        return self._pending

    async def write(self) -> None:
        """Write what there is, or renew the lease; raises only a cancellation."""
        try:
            write = self.next_write()
            is_stopped = await self._writer.write(write.first, write.events, write.growth)
        except Exception as exc:  # noqa: BLE001  # a third party's store raises what it likes
            self.note_failed(exc)
        else:
            self.note_written(write, is_stopped=is_stopped)

    def note_written(self, write: Write, *, is_stopped: bool) -> None:
        """Note that it is written."""
        self.is_writing, self._pause = False, FIRST_PAUSE
        self.written += len(write.events)
        self._size += write.size
        self._message, self._pending = write.message, None
        self._has_events = self.written < self._log.end
        now = anyio.current_time()
        self.due = now + (BATCH if self._has_events else RENEWAL)
        if self.is_full or (self._has_events and write.size >= _PORTION):
            self.due = now
        if self._room is not None:
            self._room.set()
        if is_stopped:
            self._stop()

    def note_failed(self, error: Exception) -> None:
        """Note that it is not written."""
        self.is_writing = False
        if isinstance(error, TurnLost | SessionDeleted | InvalidMessage):
            self.due = math.inf
            self._fail(error)
            return
        self.due = anyio.current_time() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._warn(error)

    def unwritten(self) -> list[str]:
        """Return all events that are not written."""
        events: list[str] = []
        while more := self._log.after(self.written + len(events)):
            events += more
        return events

    def _made_write(self) -> Write:
        events, size = list[str](), 0
        while size < _PORTION and (more := self._log.after(self.written + len(events))):
            events += more
            size += sum(map(len, more))
        message = None
        if events:
            message = self._content.message_until(self.written + len(events))
        growth = None if message is None else self._content.growth(self._message, message)
        return Write(self.written + 1, events, size, growth, message or self._message)

    def _set_due(self, due: float) -> None:
        if due < self.due and not self.is_writing:
            self.due = due
            self._flusher.note_due(due)


class Flusher:
    """Writes the logs of the answers that run in one event loop; see ``Flusher.here``."""

    def __init__(self, known: "dict[Any, Flusher]", token: object) -> None:
        self._known, self._token = known, token
        self._answers: set[AnswerFlush] = set()
        self._queue: deque[AnswerFlush] = deque()
        self._is_running = False
        self._writing = 0
        self._next = math.inf  # when it looks next
        self._news = anyio.Event()

    @classmethod
    def here(cls, known: "dict[Any, Flusher]") -> "Flusher":
        """Return the one of this event loop out of those that are known."""
        token = native_token()
        return known.get(token) or cls(known, token)

    def add(self, answer: AnswerFlush) -> None:
        """Write an answer from now on."""
        self._answers.add(answer)
        if not self._is_running:
            self._is_running = True
            self._known[self._token] = self
            # Without the context of the request that happens to be the first one.
            spawn(self._run, Context())
        else:
            self.note_due(answer.due)

    def discard(self, answer: AnswerFlush) -> None:
        """Write an answer no more, whose end is stored now."""
        self._answers.discard(answer)
        if not self._answers:
            self._news.set()  # so that the task ends

    def note_due(self, due: float) -> None:
        """Look at this time, or earlier."""
        if due < self._next:
            self._next = due
            self._news.set()

    async def _run(self) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                while self._answers or self._writing:
                    self._start_writing(tasks)
                    await self._wait()
                self._end()
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        self._is_running = False
        if self._known.get(self._token) is self:
            del self._known[self._token]

    def _start_writing(self, tasks: TaskGroup) -> None:
        now, self._next = anyio.current_time(), math.inf
        for answer in self._answers:
            if answer.is_writing:
                continue
            if answer.due <= now + _EARLY:
                answer.is_writing = True
                self._queue.append(answer)
            else:
                self._next = min(self._next, answer.due)
        # Those that are writing take nothing from the queue for as long as their writes last.
        for _ in range(min(_WRITERS - self._writing, len(self._queue))):
            self._writing += 1
            tasks.start_soon(self._write)

    async def _write(self) -> None:
        try:
            while self._queue:
                answer = self._queue.popleft()
                if answer in self._answers:
                    await answer.write()
                    self.note_due(answer.due)
        finally:
            self._writing -= 1
            self._news.set()

    async def _wait(self) -> None:
        self._news = anyio.Event()
        with suppress(TimeoutError), anyio.fail_after(max(self._next - anyio.current_time(), 0)):
            await self._news.wait()
