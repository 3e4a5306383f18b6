"""The answers of `MemoryStore`, which change under its lock."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from anyio.lowlevel import checkpoint

from hermes_session_mw.exceptions import (
    NotSupported,
    SessionBusy,
    SessionDeleted,
    SessionFull,
    TurnConflict,
    TurnLost,
)
from hermes_session_mw.messages import Message, decode_messages, encode_messages
from hermes_session_mw.stores.answer_folding import (
    check_above_0,
    check_end,
    check_events,
    check_sweep,
    encode_begun,
    encode_question,
    folded,
)
from hermes_session_mw.stores.answers import MAX_EVENTS, AnswerRecord, AnswerState
from hermes_session_mw.stores.expiry import Setting, rounded
from hermes_session_mw.stores.first_words import first_words_of
from hermes_session_mw.stores.memory.records import Key, SessionRecord, appended, titled
from hermes_session_mw.stores.validation import (
    check_answer,
    check_count,
    check_digest,
    check_keys,
    check_lease,
    check_replaced,
    check_title,
    length_after_repeat,
)


@dataclass(slots=True)
class Answer:
    """An answer; its messages and events are JSON texts."""

    session_id: str
    question: list[str]
    turn_id: str | None
    replace_from: int | None
    digest: str | None
    fence: int | None
    """Of its lease; None once it was folded, so that its writer can do no more."""
    state: AnswerState = "running"
    begun: str | None = None
    events: list[str] = field(default_factory=list)
    writes: list[tuple[str | None, Sequence[str]]] = field(default_factory=list)
    """What the message grew by, and the events, of each write; empty once it has ended."""
    message: str | None = None
    length: int | None = None
    """Of the history with its turn."""
    stop_requested: bool = False
    ended_at: float | None = None


class MemoryAnswers:
    """The part of `MemoryStore` that keeps answers."""

    expires_after: Setting | None
    max_message_bytes: int
    max_turn_messages: int
    _max_turns: int
    _takes_first_words: bool
    _fence_floor: int
    _sessions: dict[Key, SessionRecord]
    _answers: dict[Key, Answer]
    _lock: threading.Lock

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
        """See `AnswerStore.begin_answer`."""
        check_keys(session_id, owner, turn_id)
        check_answer(answer_id, owner)
        check_lease(lease)
        check_count("replace_from", replace_from)
        check_digest(digest)
        bodies = encode_question(question, self.max_message_bytes, self.max_turn_messages)
        answer = Answer(session_id, bodies, turn_id, replace_from, digest, None)
        answer.begun = encode_begun(begun, self.max_message_bytes)
        own = self._own_expiry(expires_after)
        await checkpoint()
        with self._lock:
            known = self._begun_before(answer_id, answer, owner)
            if known is not None:
                return known
            self._check_free(session_id, owner, fence)
            self._fold(session_id, owner)
            record = self._record(session_id, owner)
            self._check_turn(record, answer)
            answer.fence = new = self._next_fence(record)
            self._answers[owner, answer_id] = answer
            self._sessions[owner, session_id] = replace(
                record,
                fence=new,
                leased_until=time.monotonic() + lease,
                answer_id=answer_id,
                answer_fence=new,
                updated_at=time.time(),
                expires_after=record.expires_after if own is None else own,
            )
            return new

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
        """See `AnswerStore.write_events`."""
        check_keys(session_id, owner)
        check_answer(answer_id, owner)
        check_lease(lease)
        checked = check_events(first, events, self.max_message_bytes, growth)
        await checkpoint()
        with self._lock:
            answer, record = self._held(session_id, answer_id, owner, fence)
            more = checked.after(len(answer.events)).bodies
            if more:
                answer.events += more
                answer.writes.append((growth, more))
            until = time.monotonic() + lease
            self._sessions[owner, session_id] = replace(record, leased_until=until)
            return answer.stop_requested

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
        """See `AnswerStore.end_answer`."""
        check_keys(session_id, owner)
        check_answer(answer_id, owner)
        check_end(state)
        check_title(title)
        checked = check_events(first, events, self.max_message_bytes)
        bodies: list[str] = []
        if messages:
            bodies = encode_messages(messages, self.max_message_bytes, self.max_turn_messages)
        await checkpoint()
        with self._lock:
            ended = self._answers.get((owner, answer_id))
            if ended is not None and ended.fence == fence and ended.state != "running":
                return ended.length
            answer, _ = self._held(session_id, answer_id, owner, fence)
            more = checked.after(len(answer.events))
            turn_id = answer.turn_id if state == "completed" else None
            words = first_words_of(messages) if self._takes_first_words else ""
            self._end(answer, owner, bodies, turn_id, state, words, title)
            answer.events += more.bodies
            return answer.length

    async def find_answer(self, answer_id: str, owner: str = "") -> AnswerRecord | None:
        """See `AnswerStore.find_answer`."""
        check_answer(answer_id, owner)
        await checkpoint()
        with self._lock:
            answer = self._answer(answer_id, owner)
            return None if answer is None else self._described(answer_id, answer)

    async def find_answer_of_turn(
        self, session_id: str, turn_id: str, owner: str = ""
    ) -> AnswerRecord | None:
        """See `AnswerStore.find_answer_of_turn`."""
        check_keys(session_id, owner, turn_id)
        await checkpoint()
        with self._lock:
            self._fold_expired(session_id, owner)
            # In the order in which they began.
            for (of, answer_id), answer in reversed(self._answers.items()):
                if (of, answer.session_id, answer.turn_id) == (owner, session_id, turn_id):
                    return self._described(answer_id, answer)
            return None

    async def open_answer(self, session_id: str, owner: str = "") -> AnswerRecord | None:
        """See `AnswerStore.open_answer`."""
        check_keys(session_id, owner)
        await checkpoint()
        with self._lock:
            self._fold_expired(session_id, owner)
            answer_id = self._record(session_id, owner).answer_id
            if answer_id is None:
                return None
            return self._described(answer_id, self._answers[owner, answer_id])

    async def read_events(
        self, answer_id: str, owner: str = "", after: int = 0, limit: int = MAX_EVENTS
    ) -> tuple[AnswerState, list[str]] | None:
        """See `AnswerStore.read_events`."""
        check_answer(answer_id, owner)
        check_count("after", after)
        check_above_0("limit", limit)
        await checkpoint()
        with self._lock:
            answer = self._answer(answer_id, owner)
            if answer is None:
                return None
            state, bodies = answer.state, answer.events[after : after + limit]
        return state, bodies

    async def request_stop(self, answer_id: str, owner: str = "") -> bool:
        """See `AnswerStore.request_stop`."""
        check_answer(answer_id, owner)
        await checkpoint()
        with self._lock:
            answer = self._answer(answer_id, owner)
            if answer is None or answer.state != "running":
                return False
            answer.stop_requested = True
            return True

    async def sweep_answers(self, retention: float, limit: int = 100) -> int:
        """See `AnswerStore.sweep_answers`."""
        check_sweep(retention, limit)
        await checkpoint()
        with self._lock:
            oldest = time.monotonic() - retention
            expired = [
                (owner, answer.session_id)
                for (owner, _), answer in self._answers.items()
                if answer.ended_at is None
                and not self._record(answer.session_id, owner).is_answering
            ][:limit]
            for owner, session_id in expired:
                self._fold(session_id, owner)
            old = [
                key
                for key, answer in self._answers.items()
                if answer.ended_at is not None and answer.ended_at < oldest
            ][:limit]
            for key in old:
                del self._answers[key]
            return len(expired) + len(old)

    def _own_expiry(self, expires_after: Setting | None) -> Setting | None:
        """Return a session's own setting in whole seconds."""
        own = None if expires_after is None else rounded(expires_after)
        if own is not None and self.expires_after is None:
            raise NotSupported(self, "expiry", " without expires_after")
        return own

    def _record(self, session_id: str, owner: str) -> SessionRecord:
        return self._sessions.get((owner, session_id), SessionRecord())

    def _next_fence(self, *records: SessionRecord) -> int:
        return max(self._fence_floor, *(each.fence for each in records)) + 1

    def _begun_before(self, answer_id: str, answer: Answer, owner: str) -> int | None:
        """Return the fence of the same answer if it is open already."""
        there = self._answers.get((owner, answer_id))
        if there is None:
            return None
        same = (there.session_id, there.question) == (answer.session_id, answer.question)
        if same and there.fence is not None and there.state == "running":
            self._held(there.session_id, answer_id, owner, there.fence)
            return there.fence
        raise TurnConflict

    def _check_free(self, session_id: str, owner: str, fence: int | None) -> None:
        """Check that the lease is free or has this fence, and that no answer is going on."""
        record = self._record(session_id, owner)
        if record.deleted:
            raise SessionDeleted
        if fence is not None and fence != record.fence:
            raise TurnLost
        remaining = record.leased_until - time.monotonic()
        if remaining > 0 and (fence is None or record.is_answering):
            raise SessionBusy(remaining)

    def _check_turn(self, record: SessionRecord, answer: Answer) -> None:
        """Check that the answer's turn can be stored at its end, as far as that is known."""
        before = len(record.rows)
        if answer.turn_id is not None and record.turn(answer.turn_id):
            raise TurnConflict
        keep = before if answer.replace_from is None else answer.replace_from
        check_replaced(keep, before)
        if record.turns >= self._max_turns and keep + len(answer.question) + 1 > before:
            raise SessionFull(self._max_turns)

    def _held(
        self, session_id: str, answer_id: str, owner: str, fence: int
    ) -> tuple[Answer, SessionRecord]:
        """Return the open answer and its session, if ``fence`` is the newest."""
        record = self._record(session_id, owner)
        if record.deleted:
            raise SessionDeleted
        is_newest = fence == record.fence == record.answer_fence
        if record.answer_id != answer_id or not is_newest:
            raise TurnLost
        return self._answers[owner, answer_id], record

    def _answer(self, answer_id: str, owner: str) -> Answer | None:
        """Return the answer, folded if its lease has expired."""
        answer = self._answers.get((owner, answer_id))
        if answer is not None and answer.state == "running":
            self._fold_expired(answer.session_id, owner)
        return answer

    def _fold_expired(self, session_id: str, owner: str) -> None:
        """Fold the session's open answer if its lease has expired."""
        if not self._record(session_id, owner).is_answering:
            self._fold(session_id, owner)

    def _fold(self, session_id: str, owner: str) -> None:
        """Fold the session's open answer if there is one."""
        record = self._record(session_id, owner)
        if record.answer_id is None:
            return
        answer = self._answers[owner, record.answer_id]
        bodies = folded(
            answer.question,
            answer.begun,
            answer.writes,
            replaces=answer.replace_from is not None,
            max_bytes=self.max_message_bytes,
        )
        if answer.replace_from is not None:  # the history may be shorter by now
            answer.replace_from = min(answer.replace_from, len(record.rows))
        self._end(answer, owner, bodies, None, "incomplete")
        answer.fence = None

    def _end(
        self,
        answer: Answer,
        owner: str,
        bodies: list[str],
        turn_id: str | None,
        state: AnswerState,
        words: str = "",
        title: str | None = None,
    ) -> None:
        """Append the answer's turn, and end it; a lease that another has acquired stays.

        ``title`` is for a session that has none, and ``words`` are a new one's.
        """
        record = self._record(answer.session_id, owner)
        if bodies:
            stored = [] if turn_id is None else record.turn(turn_id)
            if stored:
                answer.length = length_after_repeat(stored, bodies, record.first, record.end)
            else:
                grown = appended(record, bodies, turn_id, answer.replace_from)
                record = titled(grown, record, title, words)
                answer.length = len(record.rows)
        if len(bodies) > len(answer.question):
            answer.message = bodies[-1]
        answer.state, answer.ended_at, answer.writes = state, time.monotonic(), []
        is_its_own = record.fence == record.answer_fence
        self._sessions[owner, answer.session_id] = replace(
            record,
            answer_id=None,
            answer_fence=0,
            leased_until=float("-inf") if is_its_own else record.leased_until,
        )

    def _drop_answers(self, owner: str, session_id: str) -> None:
        """Forget a session's answers."""
        for key in self._keys_of_answers(owner, session_id):
            del self._answers[key]

    def _move_answers(self, owner: str, session_id: str, to: str, new_id: str) -> None:
        """Move a session's answers with it; forget them where the owner is another."""
        if to != owner:
            self._drop_answers(owner, session_id)
        for key in self._keys_of_answers(owner, session_id):
            self._answers[key].session_id = new_id

    def _keys_of_answers(self, owner: str, session_id: str) -> list[Key]:
        return [
            key
            for key, answer in self._answers.items()
            if (key[0], answer.session_id) == (owner, session_id)
        ]

    def _described(self, answer_id: str, answer: Answer) -> AnswerRecord:
        return AnswerRecord(
            answer_id,
            answer.session_id,
            answer.state,
            len(answer.events),
            decode_messages(answer.question),
            answer.turn_id,
            answer.replace_from,
            None if answer.message is None else decode_messages([answer.message])[0],
            answer.stop_requested,
            answer.state == "running",
            answer.digest,
        )
