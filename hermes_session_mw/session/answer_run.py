"""`AnswerRun`, an answer that runs in this process: a task takes its pieces, and stores its turn.

The task takes the pieces of the producer, at whose pace followers in this process get them; the
event loop's `Flusher` writes them to the store meanwhile. What becomes of the turn at the end is
decided by `Recording`, as for ``session.record()``.
"""

import secrets
import sys
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

import anyio
import anyio.lowlevel

from hermes_session_mw.exceptions import (
    InvalidCursor,
    InvalidMessage,
    SessionDeleted,
    StoreError,
    StoreUnavailable,
    TurnConflict,
    TurnLost,
)
from hermes_session_mw.logging import fingerprint, logger
from hermes_session_mw.messages import Message, decode_messages, text_of
from hermes_session_mw.session.answer import Answer
from hermes_session_mw.session.answer_content import AnswerContent
from hermes_session_mw.session.answer_flush import FIRST_PAUSE, LONGEST_PAUSE, AnswerFlush, Flusher
from hermes_session_mw.session.answer_log import AnswerLog
from hermes_session_mw.session.answer_plan import AnswerPlan
from hermes_session_mw.session.answer_tasks import AnswerTasks
from hermes_session_mw.session.answer_writer import NoWriter, begin_writing
from hermes_session_mw.session.event_loops import from_any_thread, spawn
from hermes_session_mw.session.recording import INCOMPLETE
from hermes_session_mw.session.store_client import StoreClient
from hermes_session_mw.stores.answer_folding import encode_question
from hermes_session_mw.stores.answers import AnswerState

_CLOSING = 5.0
"""Seconds that a producer has to end after it was cancelled."""

_UNINTERRUPTED = 32
"""Pieces after which other tasks have their turn, if the producer never waits."""


async def begin(
    store: StoreClient,
    tasks: AnswerTasks,
    session_id: str,
    owner: str,
    plan: AnswerPlan,
    *,
    fence: int | None,
    is_turn: bool,
) -> "AnswerRun":
    """Store the question, and start the answer's task."""
    answer_id = secrets.token_hex(16)
    log = AnswerLog()
    content = AnswerContent(log, plan.assemble, plan.begun, plan.digest, store.limits)
    names = session_id, answer_id, owner
    writer = NoWriter(store, *names)
    if is_turn:
        writer = await begin_writing(store, tasks, *names, plan, begun=content.begun, fence=fence)
    run = AnswerRun(writer, tasks, *names, plan, log, content)
    tasks.add(run)
    spawn(run.run)
    return run


class AnswerRun:
    """An answer that runs in this process.

    Attributes:
        id: the answer's id.
        session_id: the session's id when it began.
        owner: the session's owner.
        turn_id: the id that the complete turn is stored under, or None.
        log: its events.
        is_stored: whether its turn is stored at the end, and others can find it.
        is_kept: whether the store knows it after its end.
        message: the answer's message, once it is stored.
        error: what the producer raised, or why the answer cannot be stored as it was.
    """

    def __init__(
        self,
        writer: NoWriter,
        tasks: AnswerTasks,
        session_id: str,
        answer_id: str,
        owner: str,
        plan: AnswerPlan,
        log: AnswerLog,
        content: AnswerContent,
    ) -> None:
        self.session_id: str = session_id
        self.id: str = answer_id
        self.owner: str = owner
        self.turn_id: str | None = plan.turn_id
        self.is_stored: bool = writer.stores
        self.is_kept: bool = writer.keeps
        self.log: AnswerLog = log
        self.message: Message | None = None
        self.error: Exception | None = None
        self._writer, self._tasks, self._plan = writer, tasks, plan
        self._content = content
        # As texts, which are smaller, and which the caller cannot change.
        self._question = encode_question(plan.question, sys.maxsize, sys.maxsize)
        self._scope = anyio.CancelScope()
        self._here = from_any_thread(self._interrupt)
        self._after_end = anyio.CancelScope()
        self._abandon = from_any_thread(self._after_end.cancel)
        self._asked: AnswerState | None = None  # how it is to end
        self._failure: Exception | None = None
        self._state: AnswerState = "completed"  # what the store is told
        self._outcome: AnswerState = "failed"  # what is known to be stored
        self._is_ended = False
        self._has_warned = False
        self._flusher = Flusher.here(tasks.flushers)
        self._flush = AnswerFlush(
            self._flusher,
            log,
            content,
            writer,
            stop=partial(self.finish, "stopped"),
            fail=self._fail,
            warn=self._warn,
        )

    # As followers see it

    @property
    def state(self) -> AnswerState:
        """How the answer stands."""
        return self.log.state

    @property
    def question(self) -> list[Message]:
        """The messages that are answered."""
        return decode_messages(self._question)

    @property
    def replace_from(self) -> int | None:
        """How many messages the turn keeps."""
        return self._plan.replace_from

    @property
    def digest(self) -> str | None:
        """The digest of the request."""
        return self._plan.request_digest

    @property
    def length(self) -> int:
        """How many events there are."""
        return self.log.end

    @property
    def text(self) -> str:
        """The answer's text so far."""
        if self.message is not None:
            return text_of(self.message)
        return self._content.text

    @property
    def local_log(self) -> AnswerLog:
        """The log, which has all events."""
        return self.log

    @contextmanager
    def following(self, _: int) -> Iterator[AnswerLog]:
        """Yield the log."""
        yield self.log

    async def read(self, after: int, until: int) -> list[str]:
        """Return events that are not in the log: there are none."""
        return self.log.after(after)[: until - after]

    async def check(self, number: int) -> None:
        """Raise ``InvalidCursor`` if there is no event with this number yet."""
        if number > self.log.end:
            raise InvalidCursor

    async def refresh(self) -> None:
        """Learn how it ended; that is known here."""

    async def stop(self) -> None:
        """End the answer as stopped."""
        self.finish("stopped")

    async def wait(self) -> None:
        """Wait until the answer has ended and is stored."""
        await self.log.wait_over()

    def finish(self, state: AnswerState) -> None:
        """End the answer before it is complete; called from any thread."""
        self._asked = self._asked or state
        self._here()

    async def end_with_request(self) -> None:
        """End the answer as its client has left, and wait until it is stored."""
        self.finish("incomplete")
        with anyio.move_on_after(self._writer.retry_timeout + _CLOSING, shield=True):
            await self._tasks.wait_for(self)
        self.abandon()

    def abandon(self) -> None:
        """Cancel what goes on after the answer's end; called from any thread."""
        self._abandon()

    # The task

    async def run(self) -> None:
        """Take the pieces to their end, and store the turn; raises only a cancellation."""
        try:
            await self._run()
            with self._after_end:
                await self._call_on_end()
                await self._sweep()
        finally:
            self._tasks.discard(self)

    async def _run(self) -> None:
        try:
            error = await self._take_and_write()
            with anyio.CancelScope(shield=True):
                await self._store(error)
        except anyio.get_cancelled_exc_class():  # the event loop ends
            self._state = self._asked or "incomplete"
            with anyio.CancelScope(shield=True):
                await self._store(None)
            raise
        except Exception as exc:  # noqa: BLE001  # nobody waits for this task
            self._log_error(exc)
        finally:
            self._tasks.forget(self)
            self.log.finish(self._outcome)

    async def _take_and_write(self) -> Exception | None:
        """Return what failed."""
        if not self.is_stored:
            error = await self._take_all()
        else:
            self._flusher.add(self._flush)
            try:
                with self._writer.watching_stop(from_any_thread(self._flush.write_now)):
                    error = await self._take_all()
            finally:
                self._flusher.discard(self._flush)
        if self._failure is not None:
            return self._failure
        return error if self._state == "completed" else None

    async def _take_all(self) -> Exception | None:
        """Take all pieces, and return the producer's error; set how the answer is to end."""
        if self._plan.timeout is not None:
            self._scope.deadline = anyio.current_time() + self._plan.timeout
        error, is_cut = None, False
        with self._scope:
            try:
                is_cut = await self._take_until_cut()
            except Exception as exc:  # noqa: BLE001  # a producer raises what it likes
                error, is_cut = exc, self._scope.cancel_called
        if is_cut or self._scope.cancelled_caught:
            self._state = self._asked or "incomplete"  # or its time is over
        if isinstance(self._plan.pieces, AsyncGenerator):
            with anyio.move_on_after(_CLOSING, shield=True), suppress(Exception):
                await self._plan.pieces.aclose()
        return error

    async def _take_until_cut(self) -> bool:
        taken, flush = 0, self._flush
        async for piece in self._plan.pieces:
            if self._scope.cancel_called:  # which the producer kept to itself
                return True
            self._content.add(piece)
            taken += 1
            if self.is_stored:
                flush.note_events()
                if flush.is_full:
                    await flush.wait_for_room()
            if taken % _UNINTERRUPTED == 0:
                await anyio.lowlevel.checkpoint()
        return False

    def _interrupt(self) -> None:
        self._scope.cancel()

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self._interrupt()

    # The end

    async def _store(self, error: Exception | None) -> None:
        """Store the turn, as far as it came, by the rules of recordings."""
        if isinstance(error, self._plan.discard_on):
            self.error, self._state = error, "failed"
            await self._end("failed")
            return
        try:
            self._content.assemble()
        except InvalidMessage as exc:
            error = error or exc
        if error is not None:
            self.error, self._state = error, "failed"
        if isinstance(error, TurnLost | SessionDeleted):
            self._log_error(error)
            await self._learn_outcome()
            return
        try:
            await self._end_recording(error)
        except Exception as exc:  # noqa: BLE001  # the producer's, or a refusal
            self.error, self._state = exc, "failed"
            self._log_error(exc)
        if not self._is_ended:  # there is nothing to store
            await self._end(self._state)

    async def _end_recording(self, error: Exception | None) -> None:
        whole = partial(self._end, "completed")
        replaces = self._plan.replace_from is not None
        async with self._content.recording(
            whole, self._end_part, self.question, replaces=replaces
        ) as recording:
            if error is not None:
                raise error
            if self._state != "completed":
                await recording.break_off()

    async def _end_part(self, *messages: Message) -> int:
        return await self._end("failed" if self._state == "completed" else self._state, *messages)

    async def _end(self, state: AnswerState, *messages: Message) -> int:
        """End the answer in the store, which has a while for that; only a refusal is raised."""
        try:
            return await self._end_in_time(state, messages)
        except InvalidMessage:
            raise
        except Exception as exc:  # noqa: BLE001  # a third party's store raises what it likes
            await self._end_otherwise(exc, messages)
            return 0

    async def _end_otherwise(self, error: Exception, messages: Sequence[Message]) -> None:
        """End the answer where its turn could not be stored as it was."""
        if isinstance(error, TurnLost | SessionDeleted):
            self._log_error(error)
            await self._learn_outcome()
        elif isinstance(error, TurnConflict) and messages:
            # The id is another's by now: what was answered is kept.
            self._log_error(error)
            await self._end("failed", *messages[:-1], messages[-1] | INCOMPLETE)
        elif isinstance(error, StoreError) or not messages:
            self._note_unstored(error)
        else:
            self._log_error(error)
            await self._end("failed")
        if self._outcome != "completed":
            self.error = self.error or error

    async def _end_in_time(self, state: AnswerState, messages: Sequence[Message]) -> int:
        until, pause = anyio.current_time() + self._writer.retry_timeout, FIRST_PAUSE
        while True:
            try:
                return await self._end_once(state, messages)
            except StoreUnavailable as exc:
                if anyio.current_time() + pause > until:
                    raise
                self._warn(exc)
            await anyio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _end_once(self, state: AnswerState, messages: Sequence[Message]) -> int:
        first, events = self._flush.written + 1, self._flush.unwritten()
        length = await self._writer.end(first, events, messages, state)
        self._is_ended, self._outcome = True, state
        if len(messages) > len(self._question):
            self.message = messages[-1]
        return length or 0

    def _note_unstored(self, error: Exception) -> None:
        self._is_ended = True
        name = type(error).__name__
        logger.warning("an answer is stored only as far as it was written before: %s", name)

    async def _learn_outcome(self) -> None:
        """Find out how another ended the answer, such as whoever found its lease expired."""
        self._is_ended = True
        with suppress(StoreError):
            record = await self._writer.find()
            if record is not None and record.state != "running":
                self._outcome, self.message = record.state, record.message

    async def _call_on_end(self) -> None:
        if self._plan.on_end is None:
            return
        try:
            await self._plan.on_end(Answer(self, stops=False))
        except Exception as exc:  # noqa: BLE001  # an application's function raises what it likes
            name = fingerprint(self.session_id)
            logger.error("session %s: on_end has failed: %s", name, type(exc).__name__)
            logger.debug("the failure in full", exc_info=exc)

    async def _sweep(self) -> None:
        if self._tasks.is_sweep_due():
            try:
                await self._writer.sweep(self._tasks.retention)
            except Exception as exc:  # noqa: BLE001  # the next one tries again
                logger.debug("answers that ended long ago are not removed", exc_info=exc)

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            name = fingerprint(self.session_id)
            kind = type(error).__name__
            logger.warning("session %s: an answer is not written for now: %s", name, kind)
        logger.debug("the failure in full", exc_info=error)

    def _log_error(self, error: Exception) -> None:
        name = fingerprint(self.session_id)
        logger.error("session %s: an answer has failed: %s", name, type(error).__name__)
        logger.debug("the failure in full", exc_info=error)
