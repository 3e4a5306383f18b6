"""`Answer`, an answer that goes on without the client that asked for it, and its events.

What runs in this process is an `AnswerRun`; of other answers the store knows (`StoredAnswer`).
Followers of both are served alike here.
"""

import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from starlette.responses import Response
from starlette.types import Receive

from hermes_session_mw.exceptions import CursorConflict, InvalidCursor, InvalidKey
from hermes_session_mw.ids import is_header_safe
from hermes_session_mw.messages import Message
from hermes_session_mw.session.answer_log import AnswerLog
from hermes_session_mw.session.answer_tasks import AnswerTasks
from hermes_session_mw.session.store_client import StoreClient
from hermes_session_mw.stores.answers import AnswerRecord, AnswerState, AnswerStore

if TYPE_CHECKING:
    from hermes_session_mw.session.answer_run import AnswerRun

OnDisconnect = Literal["continue", "stop"]
"""What becomes of an answer whose client leaves."""

_NUMBER = re.compile(r"[0-9]{1,15}", re.ASCII)


@dataclass(frozen=True, slots=True)
class AnswerEvent:
    """An event of an answer.

    Attributes:
        number: its place in the answer, from 1.
        cursor: its name, ``<answer id>:<number>``, from which a client resumes.
        body: the text or JSON object that the producer gave, as JSON on one line.
    """

    number: int
    cursor: str
    body: str

    @property
    def payload(self) -> Any:
        """The text or JSON object that the producer gave."""
        return json.loads(self.body)


class AnswerSource(Protocol):
    """Where an answer's events come from."""

    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def session_id(self) -> str: ...  # noqa: D102
    @property
    def turn_id(self) -> str | None: ...  # noqa: D102
    @property
    def state(self) -> AnswerState: ...  # noqa: D102
    @property
    def length(self) -> int: ...  # noqa: D102
    @property
    def text(self) -> str: ...  # noqa: D102
    @property
    def message(self) -> Message | None: ...  # noqa: D102
    @property
    def question(self) -> list[Message]: ...  # noqa: D102
    @property
    def replace_from(self) -> int | None: ...  # noqa: D102
    @property
    def digest(self) -> str | None: ...  # noqa: D102
    @property
    def error(self) -> Exception | None: ...  # noqa: D102

    @property
    def local_log(self) -> AnswerLog | None: ...  # noqa: D102

    def following(self, after: int) -> AbstractContextManager[AnswerLog]:
        """Return the log, which is filled within the block."""
        ...

    async def read(self, after: int, until: int) -> list[str]:
        """Return events from before the log's own, up to a number."""
        ...

    async def check(self, number: int) -> None:
        """Raise ``InvalidCursor`` if there is no such event."""
        ...

    async def refresh(self) -> None:
        """Learn how it ended."""
        ...

    async def stop(self) -> None:
        """Stop it."""
        ...

    async def wait(self) -> None:
        """Wait for its end."""
        ...


class Answer:
    """A running or ended answer: ``session.answer()`` begins one, ``running_answer()`` finds it.

    It is stored as a turn at its end: whole, or marked with ``"status": "incomplete"`` as far as it
    came, by the rules of `Recording`. An answer that runs in another process can be followed and
    stopped like one of this process.
    """

    def __init__(self, source: AnswerSource, *, stops: bool) -> None:
        """Show an answer; ``stops``: a client that leaves its ``response()`` stops it."""
        self._source = source
        self._stops = stops

    def __repr__(self) -> str:
        return f"<Answer ({self.state})>"

    @property
    def id(self) -> str:
        """The answer's id, 32 characters."""
        return self._source.id

    @property
    def session_id(self) -> str:
        """The id of its session."""
        return self._source.session_id

    @property
    def turn_id(self) -> str | None:
        """The id that its complete turn is stored under, such as an ``Idempotency-Key``."""
        return self._source.turn_id

    @property
    def state(self) -> AnswerState:
        """How it stands; ``running``, or one of four ends.

        ``completed``; ``incomplete``: its time was over, the server shut down or was killed;
        ``stopped``; ``failed``: the producer raised, or it could not be stored as it was. Of an
        answer of another process it is the state as it was last read.
        """
        return self._source.state

    @property
    def length(self) -> int:
        """How many events there are so far; of another process's answer, when it was last read."""
        return self._source.length

    @property
    def text(self) -> str:
        """The answer's text so far; of another process's answer, its text once it has ended."""
        return self._source.text

    @property
    def message(self) -> Message | None:
        """The message that was stored; None while the answer runs, and if none was stored."""
        return self._source.message

    @property
    def question(self) -> list[Message]:
        """The messages that are answered; until the answer has ended, no history has them."""
        return self._source.question

    @property
    def replace_from(self) -> int | None:
        """How many messages of the history stay before its turn; None for all."""
        return self._source.replace_from

    @property
    def digest(self) -> str | None:
        """The digest that ``session.answer()`` was given, to tell a repeated request by."""
        return self._source.digest

    @property
    def error(self) -> Exception | None:
        """What the producer raised, if the answer failed. None in other processes than its own."""
        return self._source.error

    @property
    def local_log(self) -> AnswerLog | None:
        """The log of an answer of this process, which has all events; None of another one."""
        return self._source.local_log

    async def events(self, after: int | str = 0) -> AsyncGenerator[AnswerEvent, None]:
        """Yield the answer's events, stored ones and then new ones, until it has ended.

        Whoever leaves the loop early closes the generator, with ``contextlib.aclosing``.

        Args:
            after: the number or the cursor of the last event that is known already.

        Raises:
            InvalidCursor: ``after`` is no cursor, or is ahead of the answer.
            CursorConflict: it is another answer's.
            StoreError: the answer of another process could not be read for a while.
        """
        async with aclosing(self.batches(after)) as batches:
            async for batch in batches:
                for event in batch:
                    yield event

    async def batches(self, after: int | str = 0) -> AsyncGenerator[list[AnswerEvent], None]:
        """Yield the same events as ``events``, as many at once as there are."""
        number = await self.check(after)
        with self._source.following(number) as log:
            while True:
                if number < log.base:
                    bodies = await self._source.read(number, log.base)
                    if not bodies:
                        return  # the answer is forgotten
                else:
                    bodies = log.after(number)
                if bodies:
                    yield self.numbered(number, bodies)
                    number += len(bodies)
                elif log.error is not None:
                    raise log.error
                elif log.is_over:
                    break
                else:
                    await log.wait_beyond(number)
        await self._source.refresh()

    async def payloads(self, receive: Receive | None = None) -> list[object]:
        """Wait for the answer's end, and return the payloads of all its events.

        For a response that does not stream. Raises as ``events`` does.

        Args:
            receive: the request's ASGI ``receive``, after its body: if the client leaves and the
                answer is to stop then (``on_disconnect``), it does.
        """
        if receive is None or not self._stops:
            return [event.payload async for event in self.events()]
        from hermes_session_mw.session.answer_response import (  # noqa: PLC0415
            stopping_at_disconnect,
        )

        return await stopping_at_disconnect(self, receive)

    async def check(self, after: int | str) -> int:
        """Return the number of the event that ``after`` names; raise as ``events`` does.

        It waits for an event that another process has given to its client and not yet stored: up
        to 7.5 seconds, by when it is known whether that process was killed.
        """
        number = cursor_number(after, self.id)
        await self._source.check(number)
        return number

    def response(
        self,
        after: int | str = 0,
        *,
        opening: "Callable[[Answer], str] | None" = None,
        encode: Callable[[AnswerEvent], str] | None = None,
        ending: "Callable[[Answer], str | Awaitable[str]] | None" = None,
        idle_event: Callable[[], str] | None = None,
        error_event: Callable[[Exception], str | None] | None = None,
        head_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Return the events as server-sent events, in this package's own dialect or another one.

        In its own, each event has its cursor as ``id:`` and its payload as JSON in ``data:``. The
        last one, if the answer has ended, is named ``end`` and has no id; its data are
        ``{"state": ...}``.

        An error of ``events`` is raised when the response is sent, before it begins. While the
        model is silent, a comment is sent every 15 seconds, in every dialect.

        Args:
            after: as for ``events``.
            opening: returns what is sent before the first event, with the response's head, also if
                the client resumes; by default nothing is.
            encode: returns the text of an event, with the blank line at its end
                (``openai_api.server_sent_event``); ``""`` leaves the event out.
            ending: returns what is sent last, by the answer's ``state``; it may be async. An
                exception that it raises is one of ``EventStream``'s events: a status code, if the
                response has not begun, and else what ``error_event`` returns.
            idle_event: as for ``EventStream``.
            error_event: as for ``EventStream``.
            head_after: seconds to wait for the first event, before the response begins without it.
                By default it begins at once if there is an ``opening``.
            headers: more headers of the response.
        """
        # Here, because few need it.
        from hermes_session_mw.session import answer_response  # noqa: PLC0415

        dialect = answer_response.Dialect(
            opening=opening,
            encode=encode or answer_response.encode_event,
            ending=ending or answer_response.encode_end,
            idle_event=idle_event,
            error_event=error_event,
            head_after=head_after,
            headers=headers,
        )
        return answer_response.answer_response(self, after, dialect, stops=self._stops)

    async def stop(self) -> None:
        """Stop the answer, in whatever process it runs; what came is stored.

        It does not wait for that; where the model is silent in another process, it may take two
        seconds, or on PostgreSQL none, if that process listens to notifications.
        """
        if self.state == "running":
            await self._source.stop()

    async def wait(self) -> AnswerState:
        """Wait until the answer has ended and is stored, and return how it ended."""
        if self.state == "running":
            await self._source.wait()
        return self.state

    def numbered(self, before: int, bodies: list[str]) -> list[AnswerEvent]:
        """Return the events that come after ``before`` others."""
        name = self.id
        return [
            AnswerEvent(number, f"{name}:{number}", body)
            for number, body in enumerate(bodies, before + 1)
        ]


def split_cursor(after: str) -> tuple[str | None, int]:
    """Return the answer's id that a cursor names, or None, and the number.

    Raises:
        InvalidCursor: it is neither a cursor nor a number.
    """
    answer_id, colon, number = after.rpartition(":")
    is_cursor = bool(colon) and is_header_safe(answer_id)
    if not _NUMBER.fullmatch(number) or is_cursor != bool(colon):
        raise InvalidCursor
    return answer_id if is_cursor else None, int(number)


def cursor_number(after: int | str, answer_id: str) -> int:
    """Return the number of an answer's event; raise as ``Answer.events`` does."""
    if isinstance(after, str):
        named, after = split_cursor(after)
        if named is not None and named != answer_id:
            raise CursorConflict
    if type(after) is not int or after < 0:
        raise InvalidCursor
    return after


async def find_running(
    store: StoreClient, tasks: AnswerTasks, session_id: str, owner: str, *, stops: bool
) -> Answer | None:
    """Return the session's running answer, or None."""
    run = tasks.find_running(session_id, owner)
    if run is not None:
        return Answer(run, stops=stops)
    if not store.keeps_answers:
        return None
    record = await store.call(AnswerStore.open_answer, session_id, owner)
    return _stored(store, tasks, owner, record, stops=stops)


async def find_by_id(
    store: StoreClient, tasks: AnswerTasks, answer_id: str, owner: str, *, stops: bool
) -> Answer | None:
    """Return the answer with an id, or None."""
    run = tasks.find(answer_id, owner)
    if run is not None and run.state == "running":
        return Answer(run, stops=stops)
    if not store.keeps_answers:
        return await _unless_deleted(store, run, stops=stops)
    try:
        record = await store.run(AnswerStore.find_answer, "", answer_id, owner)
    except InvalidKey:
        return None
    return _stored(store, tasks, owner, record, stops=stops)


async def find_by_turn(
    store: StoreClient,
    tasks: AnswerTasks,
    session_id: str,
    turn_id: str,
    owner: str,
    *,
    stops: bool,
) -> Answer | None:
    """Return the session's newest answer with a turn id, or None."""
    run = tasks.find_running(session_id, owner)
    if run is not None and run.turn_id == turn_id:
        return Answer(run, stops=stops)
    if not store.keeps_answers:
        run = tasks.find_ended(session_id, turn_id, owner)
        return await _unless_deleted(store, run, stops=stops)
    record = await store.call(AnswerStore.find_answer_of_turn, session_id, turn_id, owner)
    return _stored(store, tasks, owner, record, stops=stops)


async def _unless_deleted(
    store: StoreClient, run: "AnswerRun | None", *, stops: bool
) -> Answer | None:
    """Return an answer that has ended and is known here alone, but not one of a deleted session."""
    if run is None or (await store.load(run.session_id, run.owner, 0)).deleted:
        return None
    return Answer(run, stops=stops)


def _stored(
    store: StoreClient, tasks: AnswerTasks, owner: str, record: AnswerRecord | None, *, stops: bool
) -> Answer | None:
    if record is None:
        return None
    from hermes_session_mw.session.stored_answer import StoredAnswer  # noqa: PLC0415

    return Answer(StoredAnswer(store, tasks, owner, record), stops=stops)
