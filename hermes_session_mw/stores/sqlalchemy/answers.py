"""The part of `SQLAlchemyStore` that keeps answers.

Each operation checks its arguments, and is one function of `statements`, as the store's others are.
"""

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from hermes_session_mw.database.listener import Watch
from hermes_session_mw.database.workers.executor import Executor
from hermes_session_mw.messages import Message, encode_messages
from hermes_session_mw.stores.answer_folding import (
    check_above_0,
    check_end,
    check_events,
    check_sweep,
    encode_begun,
    encode_question,
)
from hermes_session_mw.stores.answers import MAX_EVENTS, AnswerRecord, AnswerState, AnswerWatch
from hermes_session_mw.stores.expiry import Setting, check_expiry
from hermes_session_mw.stores.sqlalchemy.folding import AnswerFolding
from hermes_session_mw.stores.sqlalchemy.statements import answers, read_answers
from hermes_session_mw.stores.sqlalchemy.statements.answer_notifications import (
    CHANNEL,
    RENEWAL,
    events_topic,
    stop_topic,
)
from hermes_session_mw.stores.sqlalchemy.statements.append import NewTitle
from hermes_session_mw.stores.validation import (
    check_answer,
    check_count,
    check_digest,
    check_keys,
    check_lease,
    check_title,
)

if TYPE_CHECKING:
    from hermes_session_mw.stores.sqlalchemy.expiry import SQLAlchemyExpiry


class _NoWatch:
    """A watch of a database that has no notifications."""

    async def renew(self) -> bool:
        """See `AnswerWatch.renew`."""
        return False


_NO_WATCH = _NoWatch()


class _Watch:
    """A watch for PostgreSQL's notifications."""

    def __init__(self, watch: Watch, follow: Callable[[], Awaitable[None]]) -> None:
        self._watch, self._follow = watch, follow
        self._renew_at = float("-inf")
        self._is_renewed = False

    async def renew(self) -> bool:
        """See `AnswerWatch.renew`; it is a statement every 20 seconds."""
        if not self._watch.is_live():
            return False
        now = time.monotonic()
        if now >= self._renew_at:
            self._renew_at, self._is_renewed = now + RENEWAL, False
            await self._follow()
            self._is_renewed = True
        return self._is_renewed


class SQLAlchemyAnswers(AnswerFolding):
    """The methods of `AnswerStore` that are not `LifecycleStore`'s."""

    max_turn_messages: int
    _max_turns: int
    _executor: Executor
    _notifies: bool
    _new_title: Callable[[Sequence[Message], str | None], NewTitle | None]
    _own_expiry: "Callable[[], SQLAlchemyExpiry]"

    async def begin_answer(
        self,
        session_id: str,
        answer_id: str,
        question: Sequence[Message],
        owner: str = "",
        *,
        lease: float,
        turn_id: str | None = None,
        replace_from: int | None = None,
        digest: str | None = None,
        fence: int | None = None,
        begun: Message | None = None,
        expires_after: Setting | None = None,
    ) -> int:
        """See `AnswerStore.begin_answer`; one short transaction."""
        check_keys(session_id, owner, turn_id)
        check_answer(answer_id, owner)
        check_lease(lease)
        check_count("replace_from", replace_from)
        check_digest(digest)
        bodies = encode_question(question, self.max_message_bytes, self.max_turn_messages)
        continued = encode_begun(begun, self.max_message_bytes)
        if expires_after is not None:
            check_expiry(expires_after)
            await self._own_expiry().prepare()
        answer = answers.NewAnswer(
            answer_id, session_id, owner, bodies, turn_id, replace_from, digest, continued,
            expires_after,
        )  # fmt: skip
        return await self._retrying.write(
            answers.begin, answer, lease, fence, self._max_turns, self.max_message_bytes
        )

    async def write_events(
        self,
        session_id: str,
        answer_id: str,
        first: int,
        events: Sequence[str],
        owner: str = "",
        *,
        fence: int,
        lease: float,
        growth: str | None = None,
    ) -> bool:
        """See `AnswerStore.write_events`; one round trip on PostgreSQL, a transaction elsewhere."""
        check_keys(session_id, owner)
        check_answer(answer_id, owner)
        check_lease(lease)
        return await self._retrying.join(
            answers.write,
            session_id,
            answer_id,
            check_events(first, events, self.max_message_bytes, growth),
            owner,
            fence=fence,
            seconds=lease,
        )

    async def end_answer(
        self,
        session_id: str,
        answer_id: str,
        first: int,
        events: Sequence[str],
        messages: Sequence[Message],
        owner: str = "",
        *,
        fence: int,
        state: AnswerState,
        title: str | None = None,
    ) -> int | None:
        """See `AnswerStore.end_answer`; one short transaction."""
        check_keys(session_id, owner)
        check_answer(answer_id, owner)
        check_end(state)
        check_title(title)
        bodies: list[str] = []
        if messages:
            bodies = encode_messages(messages, self.max_message_bytes, self.max_turn_messages)
        return await self._retrying.join(
            answers.end,
            session_id,
            answer_id,
            check_events(first, events, self.max_message_bytes),
            bodies,
            owner,
            fence=fence,
            state=state,
            title=self._new_title(messages, title),
        )

    async def find_answer(self, answer_id: str, owner: str = "") -> AnswerRecord | None:
        """See `AnswerStore.find_answer`."""
        check_answer(answer_id, owner)
        return await self._read_folded(partial(read_answers.find, answer_id=answer_id, owner=owner))

    async def find_answer_of_turn(
        self, session_id: str, turn_id: str, owner: str = ""
    ) -> AnswerRecord | None:
        """See `AnswerStore.find_answer_of_turn`."""
        check_keys(session_id, owner, turn_id)
        work = partial(
            read_answers.find_of_turn, session_id=session_id, turn_id=turn_id, owner=owner
        )
        return await self._read_folded(work)

    async def open_answer(self, session_id: str, owner: str = "") -> AnswerRecord | None:
        """See `AnswerStore.open_answer`."""
        check_keys(session_id, owner)
        return await self._read_folded(
            partial(read_answers.find_open, session_id=session_id, owner=owner)
        )

    async def read_events(
        self, answer_id: str, owner: str = "", after: int = 0, limit: int = MAX_EVENTS
    ) -> tuple[AnswerState, list[str]] | None:
        """See `AnswerStore.read_events`; one round trip."""
        check_answer(answer_id, owner)
        check_count("after", after)
        check_above_0("limit", limit)
        work = partial(
            read_answers.read, answer_id=answer_id, owner=owner, after=after, limit=limit
        )
        return await self._read_folded(work)

    async def request_stop(self, answer_id: str, owner: str = "") -> bool:
        """See `AnswerStore.request_stop`."""
        found = await self.find_answer(answer_id, owner)
        if found is None or not found.is_alive:
            return False
        return await self._retrying.write(read_answers.stop, answer_id, owner)

    @contextmanager
    def watch_answer(
        self, answer_id: str, owner: str, wake: Callable[[], None]
    ) -> Iterator[AnswerWatch]:
        """Have ``wake`` called for events that other processes write; see `AnswerStore`.

        While there is a watch, a process has one connection more than the engine's pool: for
        notifications of PostgreSQL. Other databases have none.
        """
        check_answer(answer_id, owner)
        if not self._notifies:
            yield _NO_WATCH
            return
        follow = partial(self._retrying.write, read_answers.follow, answer_id, owner)
        topic = events_topic(answer_id, owner)
        with self._executor.listener(CHANNEL).watch(topic, wake) as watch:
            yield _Watch(watch, follow)

    def watch_stop(
        self, answer_id: str, owner: str, wake: Callable[[], None]
    ) -> AbstractContextManager[object]:
        """Have ``wake`` called if another process requests a stop; see `AnswerStore`.

        No connection is opened for it: one that is open for `watch_answer` is used.
        """
        if not self._notifies:
            return nullcontext()
        topic = stop_topic(answer_id, owner)
        return self._executor.listener(CHANNEL).watch(topic, wake, needs=False)

    async def sweep_answers(self, retention: float, limit: int = 100) -> int:
        """See `AnswerStore.sweep_answers`; a short transaction for each fold."""
        check_sweep(retention, limit)
        lapsed = await self._retrying.read(read_answers.find_lapsed, limit)
        for each in lapsed:
            await self._fold(each.session_id, each.owner)
        return len(lapsed) + await self._retrying.write(read_answers.forget, retention, limit)
