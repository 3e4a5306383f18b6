"""`StoredAnswer`, an answer of which only the store knows: it runs elsewhere, or has ended.

Its events are polled, for all followers in an event loop by one task (`Poller`), which runs while
there are any. A store may wake it when there is something to read (`AnswerWatch`); then it polls
less often, in case a wake-up is lost.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import anyio

from hermes_session_mw.database.workers.worker_pool import native_token
from hermes_session_mw.exceptions import InvalidCursor
from hermes_session_mw.logging import logger
from hermes_session_mw.messages import text_of
from hermes_session_mw.session.answer_log import AnswerLog
from hermes_session_mw.session.answer_tasks import AnswerTasks
from hermes_session_mw.session.answer_writer import ANSWER_LEASE
from hermes_session_mw.session.event_loops import from_any_thread, spawn
from hermes_session_mw.session.store_client import StoreClient
from hermes_session_mw.stores.answers import (
    MAX_EVENTS,
    AnswerRecord,
    AnswerState,
    AnswerStore,
    AnswerWatch,
)

_FIRST_PAUSE, _LONGEST_POLLING_PAUSE, _GROWTH = 0.05, 0.5, 1.5
"""Seconds between two reads that find nothing, and by how much the pause grows."""

_LONGEST_PAUSE = 2.0
"""The same where the store wakes us when there is something to read."""

_CATCHING_UP = ANSWER_LEASE + 1.5
"""Seconds in which the store gets the events that a follower in the writer's process has seen.

If that process was killed, or kept from the database, it takes its lease's end to know it.
"""


class StoredAnswer:
    """An answer as the store has it.

    Attributes:
        record: the answer as it was read last.
    """

    def __init__(
        self, store: StoreClient, tasks: AnswerTasks, owner: str, record: AnswerRecord
    ) -> None:
        self.record: AnswerRecord = record
        self.owner: str = owner
        self._store, self._tasks = store, tasks
        self._poller: Poller | None = None

    @property
    def id(self) -> str:
        """The answer's id."""
        return self.record.id

    @property
    def session_id(self) -> str:
        """The id of its session."""
        return self.record.session_id

    @property
    def turn_id(self) -> str | None:
        """The id that the complete turn is stored under."""
        return self.record.turn_id

    @property
    def state(self) -> AnswerState:
        """How the answer stood when it was last read."""
        return self.record.state

    @property
    def length(self) -> int:
        """How many events were stored when it was last read."""
        return self.record.events

    @property
    def message(self) -> dict[str, object] | None:
        """The answer's message."""
        return self.record.message

    @property
    def question(self) -> list[dict[str, object]]:
        """The messages that are answered."""
        return self.record.question

    @property
    def replace_from(self) -> int | None:
        """How many messages its turn keeps."""
        return self.record.replace_from

    @property
    def digest(self) -> str | None:
        """The digest of the request."""
        return self.record.digest

    @property
    def local_log(self) -> None:
        """The log is the store's."""
        return

    @property
    def error(self) -> None:
        """No other process knows it."""
        return None

    @property
    def text(self) -> str:
        """The message's text."""
        return text_of(self.record.message or {})

    @contextmanager
    def following(self, after: int) -> Iterator[AnswerLog]:
        """Yield the log that this event loop's poller fills while it is followed."""
        pollers, key = self._tasks.pollers, (native_token(), self.owner, self.id)
        poller = pollers.get(key)
        if poller is None or poller.log.is_over:
            base = min(after, self.record.events)
            poller = pollers[key] = Poller(self._store, self.id, self.owner, base)
            spawn(poller.run)
        poller.followers += 1
        self._poller = poller
        try:
            yield poller.log
        finally:
            poller.followers -= 1
            if not poller.followers:
                poller.scope.cancel()
                if pollers.get(key) is poller:
                    del pollers[key]

    async def read(self, after: int, until: int) -> list[str]:
        """Return the next events from before the log, none with a number above ``until``."""
        assert self._poller is not None  # as this is called within ``following``
        await self._poller.read_before(after)
        log = self._poller.log
        return [] if after < log.base else log.after(after)[: until - after]

    async def check(self, number: int) -> None:
        """Raise ``InvalidCursor`` if there is no event with this number, nor shortly after."""
        if number > self.record.events and self.state == "running":
            await self._catch_up(number)
        # A process that was killed had given out what it had not written: its client has it all.
        if number > self.record.events and self.state != "incomplete":
            raise InvalidCursor

    async def _catch_up(self, number: int) -> None:
        """Wait for an event, or the end, with all others who follow here."""
        with self.following(self.record.events) as log:
            with anyio.move_on_after(_CATCHING_UP):
                await log.wait_beyond(number - 1)
            if log.error is not None:
                raise log.error
            if log.is_over or log.end < number:  # or the store has not answered, and says so
                await self.refresh()
            self.record = replace(self.record, events=max(self.record.events, log.end))

    async def refresh(self) -> None:
        """Learn how the answer stands, from its poller if that knows its end."""
        if self._poller is not None and self._poller.record is not None:
            self.record = self._poller.record
            return
        record = await self._store.run(
            AnswerStore.find_answer, self.session_id, self.id, self.owner
        )
        self.record = record or self.record

    async def stop(self) -> None:
        """Ask the process that runs it to stop it."""
        await self._store.run(AnswerStore.request_stop, self.session_id, self.id, self.owner)

    async def wait(self) -> None:
        """Wait until the answer has ended."""
        with self.following(self.record.events) as log:
            await log.wait_over()
            if log.error is not None:
                raise log.error
        await self.refresh()


class Poller:
    """Reads an answer's events into a log while there are followers.

    Attributes:
        log: the events.
        followers: how many follow it.
        scope: cancels it.
        record: the answer, once it has ended.
    """

    def __init__(self, store: StoreClient, answer_id: str, owner: str, base: int) -> None:
        self.log: AnswerLog = AnswerLog(base)
        self.followers: int = 0
        self.record: AnswerRecord | None = None
        self.scope: anyio.CancelScope = anyio.CancelScope()
        self._store, self._id, self._owner = store, answer_id, owner
        self._news: anyio.Event = anyio.Event()
        self._reading_before: anyio.Lock = anyio.Lock()
        self._failing_since: float | None = None

    async def run(self) -> None:
        """Read until the answer has ended, or nobody follows it; raises only a cancellation."""
        wake = from_any_thread(self._wake)
        with self.scope, self._store.watching(self._id, self._owner, wake) as watch:
            pause, is_woken = _FIRST_PAUSE, False
            while True:
                self._news = anyio.Event()
                count = await self._try_to_read()
                if self.log.is_over:
                    return
                if count == MAX_EVENTS:
                    continue
                expects = await self._renew(watch)
                longest = _LONGEST_PAUSE if expects else _LONGEST_POLLING_PAUSE
                if not count:
                    pause = min(pause * _GROWTH, longest)
                else:  # what no wake-up told of may go on without any
                    pause = longest if expects and is_woken else _FIRST_PAUSE
                is_woken = await self._wait(pause)

    def _wake(self) -> None:
        self._news.set()

    async def _wait(self, seconds: float) -> bool:
        """Wait, and return whether it was ended by a wake-up."""
        with anyio.move_on_after(seconds):
            await self._news.wait()
        return self._news.is_set()

    async def _renew(self, watch: AnswerWatch | None) -> bool:
        """Return whether wake-ups are expected."""
        try:
            return watch is not None and await watch.renew()
        except Exception as exc:  # noqa: BLE001  # a third party's store raises what it likes
            logger.debug("an answer's events can only be polled for now", exc_info=exc)
            return False

    async def _try_to_read(self) -> int:
        """Read the next events, and return how many there were."""
        try:
            count = await self._read()
        except Exception as exc:  # noqa: BLE001  # a third party's store raises what it likes
            self._failing_since = self._failing_since or anyio.current_time()
            self._note(exc, anyio.current_time() - self._failing_since)
            return 0
        self._failing_since = None
        return count

    async def _read(self) -> int:
        page = await self._store.run(
            AnswerStore.read_events, "", self._id, self._owner, self.log.end, MAX_EVENTS
        )
        if page is None:  # deleted, or forgotten
            self.log.finish("incomplete")
            return 0
        state, events = page
        if events:
            self.log.add(events)
        if state != "running" and len(events) < MAX_EVENTS:
            # Read once here, and not by each follower.
            self.record = await self._store.run(AnswerStore.find_answer, "", self._id, self._owner)
            self.log.finish(state)
        return len(events)

    async def read_before(self, after: int) -> None:
        """Read the events after a number that come before the log, once for all who need them."""
        async with self._reading_before:
            found: list[str] = []
            while (missing := self.log.base - after - len(found)) > 0:
                most = min(missing, MAX_EVENTS)
                page = await self._store.run(
                    AnswerStore.read_events, "", self._id, self._owner, after + len(found), most
                )
                if page is None or not page[1]:
                    return  # the answer is forgotten
                found += page[1]
            self.log.prepend(found)

    def _note(self, error: Exception, seconds: float) -> None:
        logger.debug("an answer's events cannot be read for now", exc_info=error)
        if seconds > self._store.retry_timeout:
            self.log.fail(error)
