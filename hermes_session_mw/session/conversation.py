"""A conversation as one request adds to it."""

import secrets
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import anyio

from hermes_session_mw.exceptions import StoreError, StoreMisconfigured
from hermes_session_mw.logging import logger
from hermes_session_mw.messages import Message, decode_messages, encode_messages
from hermes_session_mw.session.recording import Append, Recording
from hermes_session_mw.session.stored import StoredConversation
from hermes_session_mw.stores.base import History
from hermes_session_mw.stores.validation import check_count, check_keys

# Seconds between two tries to store what broke off.
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0


class Conversation(StoredConversation):
    """The part of a `HermesSession` that any `Store` can do."""

    __slots__ = ("_recordings",)

    _recordings: list[Recording]  # made when it is needed

    async def append(
        self,
        *messages: Message,
        turn_id: str | None = None,
        expected_length: int | None = None,
        replace_from: int | None = None,
    ) -> int:
        """Store ``messages`` at the conversation's end, all or none, and return its new length.

        Once it is under way it runs to its end even where the request is cancelled, so that a
        client that leaves cannot tear the turn.

        Args:
            messages: JSON objects, in order.
            turn_id: 1 to 255 characters that make the append idempotent: repeated with the same
                messages, it stores nothing and returns the length that the first one returned.
                Where the request has an ``Idempotency-Key``, that is the id of the first turn that
                it stores, unless another is given. An append that fails leaves the key to the next
                one; where it may have been stored all the same (``StoreTimeout``,
                ``AppendInDoubt``), the same messages are stored once, and others are a
                ``TurnConflict`` if it was.
            expected_length: store only if the conversation has just that many messages.
            replace_from: keep the conversation's first so many messages, and store these in the
                place of the rest, in one step: to edit a question, or to regenerate an answer.
                What was there is kept for audit, as with ``rewind``.

        Raises:
            InvalidMessage: a message cannot be stored as it is.
            InvalidKey: the turn id cannot be stored.
            SessionConflict: the conversation has another length than ``expected_length``, or is
                shorter than ``replace_from``.
            TypeError, ValueError: ``replace_from`` is no int, or negative.
            NotSupported: the store cannot replace.
            TurnConflict: the turn id is taken by other messages.
            TurnLost: inside ``turn()``: another has taken the turn since.
            SessionDeleted: the conversation was deleted, also where that was after ``load()``.
            SessionFull: the conversation has as many turns as the store allows.
            OwnerRequired: the middleware's ``owner`` hook answered None.
            StoreError: the store failed; ``StoreTimeout``: it may still have happened.
        """
        check_count("replace_from", replace_from)
        if replace_from is not None:
            self._access.check_replaces()
        append = partial(self._append, length=expected_length, replace_from=replace_from)
        return await self._append_named(append, turn_id, *messages)

    def check(self, *messages: Message) -> None:
        """Refuse what cannot be stored, before a model is asked; the database is not.

        The limits are the store's own: give the messages of one turn. A store without a ``check``
        of its own is checked for being JSON alone. What the database's server takes of one packet
        is not known here. Without a message there is nothing to refuse, so that an endpoint
        which edits and regenerates may call it for both.

        Raises:
            InvalidMessage: one cannot be stored as it is.
            MessageTooLarge, TurnTooLong: kinds of it.
        """
        if messages:
            self._access.check(messages)

    def record(
        self,
        *question: Message,
        turn_id: str | None = None,
        expected_length: int | None = None,
        replace_from: int | None = None,
    ) -> Recording:
        """Begin a turn whose answer streams: give it what was asked, and write the answer to it.

        ``async with session.record(user) as answer:`` stores the turn when the block ends, complete
        or, where the client has left or the answer failed, marked as incomplete; see `Recording`.
        Called before the response begins, it keeps the question of a client that leaves at once.
        The arguments are as for ``append``.

        Raises:
            InvalidMessage, InvalidKey, TypeError, ValueError, NotSupported, OwnerRequired: as for
                ``append``; at once, before anything is answered.
            SessionConflict: at once, where the history is known to be shorter than
                ``replace_from``; else as for ``append``, at the end.
        """
        check_keys(self.id, self.known_owner(), turn_id)
        check_count("replace_from", replace_from)
        if replace_from is not None:
            self._access.check_replaces()
            self._check_known(replace_from)
        if question:
            self._access.check(question)
        append = partial(self._append, length=expected_length, replace_from=replace_from)
        recording = Recording(
            partial(
                self._append_named,
                append,
                turn_id,
                or_else=partial(self._append_made, append, secrets.token_hex(16)),
            ),
            partial(self._append_made, append, secrets.token_hex(16)),
            as_they_are(question) if question else [],
            limits=self._access.limits,
            replaces=replace_from is not None,
        )
        try:
            self._recordings.append(recording)
        except AttributeError:  # the first one
            self.open_up()
            self._recordings = [recording]
        return recording

    @property
    def is_recording(self) -> bool:
        """Whether there is a recording that has not ended."""
        return not all(each.ended for each in getattr(self, "_recordings", ()))

    async def give_back_answered(self) -> None:
        """Give the turn back where the answer ends it, as it is about to do."""
        held = self.held
        if held is not None and not held.is_in_block and not self.is_recording:
            await held.release()

    async def end(self) -> None:
        """Store what is still being recorded, give the turn back; the middleware's last act."""
        recordings: Sequence[Recording] = getattr(self, "_recordings", ())
        try:
            for recording in recordings:
                await recording.break_off()
            if waiting := [recording for recording in recordings if recording.is_waiting]:
                await self._repeat(waiting)
        finally:
            if self.held is not None:
                await self.held.release()

    async def _repeat(self, waiting: list[Recording]) -> None:
        """Try again for a while to store what broke off while the store was unavailable."""
        pause, until = _FIRST_PAUSE, anyio.current_time() + self._access.patience
        with anyio.CancelScope(shield=True):  # whoever would wait for it has left
            while waiting and anyio.current_time() + pause < until:
                await anyio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                await waiting[0].break_off()
                waiting = [recording for recording in waiting if recording.is_waiting]
        for _ in waiting:
            logger.warning("an answer that broke off is lost: the store remains unavailable")

    async def _append_named(
        self,
        append: Append,
        turn_id: str | None,
        *messages: Message,
        or_else: Append | None = None,
    ) -> int:
        """Store a turn under the id that is given, or the request's key until a turn has it.

        ``or_else`` stores it where there is neither.
        """
        if turn_id is not None:
            return await append(*messages, turn_id=turn_id)
        if self._key_is_used or self.idempotency_key is None:
            if or_else is not None:
                return await or_else(*messages)
            return await append(*messages, turn_id=None)
        self._key_is_used = True  # before it is stored, so that two at once do not both take it
        try:
            return await append(*messages, turn_id=self.idempotency_key)
        except BaseException:
            self._key_is_used = False
            raise

    async def _append_made(self, append: Append, turn_id: str, *messages: Message) -> int:
        """Store what is recorded under an id of its own, so that it can be tried again."""
        try:
            return await append(*messages, turn_id=turn_id)
        except StoreMisconfigured:  # Hermes' database may have no place for an id
            return await append(*messages, turn_id=None)

    async def _append(
        self,
        *messages: Message,
        turn_id: str | None,
        length: int | None,
        replace_from: int | None = None,
    ) -> int:
        taken = as_they_are(messages)
        owner, fence = self.known_owner(), self._fence()
        stored = await self._access.append(
            self.id, taken, owner, turn_id, length, fence, replace_from
        )
        if replace_from is None:
            self._remember(taken, stored)
        elif turn_id is None or not await self._was_stored(taken, replace_from):
            self._remember_replaced(taken, replace_from)
        return stored

    def _fence(self) -> int | None:
        return None if self.held is None else self.held.fence

    def _remember(self, messages: list[Message], length: int) -> None:
        known = self._loaded() if self.is_new else self._history
        if known is None or length <= known.length:  # not loaded, or a turn that was there already
            return
        # Where others stored meanwhile, the length stays what this object has seen, so that an
        # append on the condition of it finds out.
        seen = known.length + len(messages)
        self._history = History([*known.messages, *messages], seen, exists=True)

    async def _was_stored(self, messages: list[Message], replace_from: int) -> bool:
        """Tell whether the turn that is to replace may have been there, and load what is if so.

        A repetition changes nothing, and returns what the first time did. Where the history has
        other messages behind what may be the same ones, only the store knows which it was.
        """
        known = self._history
        if known is None or known.length <= replace_from + len(messages):
            return False
        start = replace_from - (known.length - len(known.messages))
        seen = known.messages[max(start, 0) : max(start + len(messages), 0)]
        if seen != messages[len(messages) - len(seen) :]:
            return False
        read = partial(self._access.load, self.id, self.known_owner())
        with suppress(StoreError):  # what was asked for is done
            self._history = await self._read_turns(self._limit, read)
            return True
        return False

    def _remember_replaced(self, messages: list[Message], replace_from: int) -> None:
        known = self._loaded() if self.is_new else self._history
        if known is None:
            return
        keep = min(replace_from, known.length)
        unseen = known.length - len(known.messages)
        left = known.messages[: max(keep - unseen, 0)]
        self._history = History([*left, *messages], keep + len(messages), exists=True)


def as_they_are(messages: Sequence[Message]) -> list[Message]:
    """Return copies: what the caller does to the messages while they are stored changes nothing."""
    return decode_messages(encode_messages(messages, sys.maxsize, sys.maxsize))
