"""Recording an answer while it streams, and storing it once: complete, or as far as it came.

`Recording` is what ``session.record()`` returns. It keeps the question and the pieces of the
answer, and stores them as one turn at the end of its block. An answer that broke off is stored as
well, marked as incomplete; `break_off` does that for recordings whose block was never left.
"""

import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import anyio

from hermes_session_mw.exceptions import (
    InvalidMessage,
    MessageTooLarge,
    StoreUnavailable,
    TurnTooLong,
)
from hermes_session_mw.logging import logger
from hermes_session_mw.messages import (
    Message,
    beginning_of,
    encode_messages,
    size_of_text,
    text_of,
)
from hermes_session_mw.session.request_digest import REQUEST_DIGEST, size_of_digest, with_digest

INCOMPLETE = {"status": "incomplete"}
"""Marks an answer that broke off, as in OpenAI's Responses API."""


def is_incomplete(message: Message) -> bool:
    """Return whether the message is an answer that broke off, also as Hermes Agent marks it."""
    return INCOMPLETE["status"] in (message.get("status"), message.get("finish_reason"))


Append = Callable[..., Awaitable[int]]
"""``HermesSession.append`` with its keyword arguments bound."""

# Seconds between two attempts to store an answer that broke off.
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_EMPTY: Message = {"role": "assistant", "content": ""}


def _any_json(messages: Sequence[Message]) -> None:
    encode_messages(messages, sys.maxsize, sys.maxsize)


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """The limits of a store.

    Attributes:
        check: raises ``InvalidMessage`` for messages that the store would refuse.
        message_bytes: bytes of UTF-8 that one message may take as JSON.
        turn_messages: messages that one turn may have.
    """

    check: Callable[[Sequence[Message]], object] = _any_json
    message_bytes: int = sys.maxsize
    turn_messages: int = sys.maxsize

    def allow(self, *messages: Message) -> bool:
        """Return whether the messages can be stored."""
        try:
            self.check(messages)
        except InvalidMessage:
            return False
        return True


class Recording:
    """The turn of a streaming endpoint: the question, and the answer received so far.

    As a context manager it stores the turn at the end of its block. If the block ends with an
    exception or a cancellation, the part that has come is stored with ``"status": "incomplete"``,
    or the question alone if there is none, and the exception is raised on. A block that is never
    left, because the generator around it was dropped, is ended by the middleware in the same way as
    soon as the application has returned. A turn that broke off does not use up its ``turn_id``, so
    that the request can be repeated under it.

    An answer that cannot be stored unchanged is stored as far as possible and marked in the same
    way: the question, the whole messages before the first one that cannot be stored, and the answer
    without the keys that cannot be, its text cut off if it is too long. Then the error is raised.

    A turn that replaces another (``replace_from``) does so in one step, at its end. The old turn is
    kept if the block ends with an error, if the new turn cannot be stored, or if nothing of an
    answer has come. If the client disconnects or the request is cancelled, the part that has come
    replaces the old turn, marked as incomplete: the user has seen it.

    An answer that continues an earlier one (``begun``) is stored together with it.

    Attributes:
        length: the conversation's new length, once the turn is stored.
    """

    def __init__(
        self,
        append: Append,
        append_part: Append,
        question: list[Message],
        *,
        limits: StoreLimits | None = None,
        replaces: bool = False,
        begun: Message | None = None,
        digest: str | None = None,
    ) -> None:
        """Keep the question; ``append`` stores a complete turn, ``append_part`` another.

        A complete turn is stored with the ``digest`` of its request.
        """
        self._begun, self._beside = _taken_apart(begun or {})
        self._message: Message = dict(self._beside)
        self.length: int | None = None
        self._append = append
        self._append_part = append_part
        self._turn = question
        self._question_length = len(question)
        self._limits = limits or StoreLimits()
        self._replaces = replaces
        self._pieces: list[str] = []
        self._digest = digest
        self._size = len('{"role":"assistant","content":""}') + size_of_text(self._begun)
        self._size += size_of_digest(digest)
        self._ended = False
        self._refused: InvalidMessage | None = None
        self._waiting: Sequence[Message] = []
        self._store = append_part  # pending operations
        self._has_warned = False

    @property
    def message(self) -> Message:
        """The answer's keys other than its role and its text, such as ``tool_calls``.

        Raises:
            TypeError: it is set to a value that is not a dict.
        """
        return self._message

    @message.setter
    def message(self, message: Message) -> None:
        if not isinstance(message, dict):
            raise TypeError(f"a message is a dict, not a {type(message).__name__}")
        self._message = message

    @property
    def answer(self) -> Message:
        """The answer so far as a message, with what it continues."""
        answer = {"role": "assistant", "content": self.text} | self.message
        if self._begun and isinstance(answer["content"], str | None):
            answer["content"] = self._begun + (answer["content"] or "")
        elif self._begun and isinstance(answer["content"], list):
            answer["content"] = [{"type": "text", "text": self._begun}, *answer["content"]]
        return answer

    @property
    def text(self) -> str:
        """The answer's text so far, without the text of ``begun``."""
        return "".join(self._pieces)

    @property
    def ended(self) -> bool:
        """Whether storing the turn was attempted; recording has ended then."""
        return self._ended

    @property
    def is_waiting(self) -> bool:
        """Whether the turn is still to be stored, after a store failure or a cancellation."""
        return bool(self._waiting)

    def write(self, text: str) -> None:
        """Add a piece to the answer's text.

        Raises:
            MessageTooLarge: with the piece the answer is larger than the store accepts; what fits
                is stored at the end of the block.
            TypeError: the piece is not a str, as when a model sends None.
            RuntimeError: the recording has ended.
        """
        self._check_open()
        if not isinstance(text, str):
            raise TypeError(f"a piece of an answer is a str, not a {type(text).__name__}")
        self._pieces.append(text)
        self.count(text)

    def count(self, text: str | int) -> None:
        """Count text that the answer will have elsewhere, such as the arguments of a tool call.

        It may also be a number of bytes, which that takes as JSON. It is counted and not kept: put
        it into ``message``. So an answer that is too large is noticed while it streams.

        Raises:
            MessageTooLarge, RuntimeError: as for ``write``.
        """
        self._check_open()
        self._size += text if isinstance(text, int) else size_of_text(text)
        if self._size > self._limits.message_bytes:
            self._refused = MessageTooLarge(
                f"the answer takes more than {self._limits.message_bytes} bytes as JSON, the "
                "most that the store accepts (max_message_bytes)"
            )
            raise self._refused

    def allows(self, fields: Message) -> bool:
        """Return whether the store can hold an answer with these keys.

        A store such as Hermes Agent's database has a column for each key that it knows, and no
        others: leave out of ``message`` what an answer can do without.
        """
        return self._limits.allow(_EMPTY | fields)

    def add(self, *messages: Message) -> None:
        """Add whole messages to the turn, before the answer: tool calls and their results.

        Raises:
            InvalidMessage: one cannot be stored; those before it are added.
            TurnTooLong: the turn has too many messages, counting the answer to come.
            RuntimeError: the recording has ended.
        """
        self._check_open()
        for message in messages:
            try:
                self._check_room()
                self._limits.check([message])
            except InvalidMessage as exc:
                _say_what_is_stored(exc, "it is left out")
                self._refused = exc
                raise
            self._turn.append(message)

    async def end(self) -> None:
        """Store the turn as complete, unless the recording has ended.

        A turn that replaces another is not stored if it has neither an answer nor an added message:
        ``length`` stays None.

        If asyncio's own cancellation (``Task.cancel``, ``asyncio.timeout``) interrupts this, the
        middleware tries again, as with ``break_off``; the turn is stored once.

        Raises:
            InvalidMessage: it cannot be stored as it is. What can be is stored, marked as
                incomplete, unless the turn replaces another, which is then kept.
            HermesSessionError: as for ``HermesSession.append``.
        """
        if self._ended:
            return
        self._ended = True
        refused = self._refused
        if refused is None and self._replaces and not self._has_content and not self._has_added:
            return  # the old turn stands
        if refused is None:
            try:
                await self._store_whole(with_digest([*self._turn, self.answer], self._digest))
            except InvalidMessage as exc:
                refused = exc
        if refused is not None:
            await self._store_what_can_be(refused)
            raise refused

    async def break_off(self) -> None:
        """Store what has come as incomplete, unless the recording has ended.

        A failure is logged, since the caller has left or is handling another exception. If the
        store was unavailable or the call was cancelled, another call tries again and stores the
        turn once; the middleware does that for a while.
        """
        if not self._ended:
            self._ended = True
            if not self._replaces or self._has_content:
                self._waiting = (
                    [*self._turn, *self._part()] if self._refused is None else self._storable()
                )
        await self._store_waiting()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        exc: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if exc is None:
            await self.end()
        elif self._replaces and isinstance(exc, Exception) and not self._ended:
            self._ended = True  # the old turn stands
        else:
            await self.break_off()

    @property
    def _has_answer(self) -> bool:
        return bool(self._begun) or bool(self._pieces) or bool(self.message)

    @property
    def _has_content(self) -> bool:
        """Whether the answer has any new content; empty pieces and None do not count."""
        known = self._beside | {"role": self.message.get("role")}
        values = (value for name, value in self.message.items() if value != known.get(name))
        return any(self._pieces) or any(values)

    @property
    def _has_added(self) -> bool:
        return len(self._turn) > self._question_length

    def _part(self) -> list[Message]:
        return [self.answer | INCOMPLETE] if self._has_answer else []

    async def _store_whole(self, messages: Sequence[Message]) -> None:
        # Kept first: a shield keeps out anyio's cancellation, but not asyncio's own.
        self._waiting, self._store = messages, self._append
        try:
            self.length = await self._append(*messages)
        except Exception:  # is raised to the caller
            self._waiting, self._store = [], self._append_part
            raise
        self._waiting = []

    async def _store_what_can_be(self, refused: InvalidMessage) -> None:
        what = "the turn to be replaced is kept"
        if not self._replaces:
            self._waiting = self._storable()
            await self._store_waiting()
            what = "the valid part of the turn is kept, as incomplete"
        _say_what_is_stored(refused, what)

    async def _store_waiting(self) -> None:
        if not self._waiting:
            return
        messages = self._waiting  # kept until they are stored: this may be cancelled
        try:
            self.length = await self._store(*messages)
        except StoreUnavailable as exc:
            if not self._has_warned:
                logger.warning("an answer that broke off is not stored yet: %s", type(exc).__name__)
            self._has_warned = True
            logger.debug("the failure in full", exc_info=exc)
            return
        except InvalidMessage as exc:
            storable = self._storable()
            if storable and storable != messages:
                self._waiting, self._store = storable, self._append_part
                await self._store_waiting()
                return
            _log_lost(exc)
        except Exception as exc:  # noqa: BLE001  # a third party's store raises what it likes
            _log_lost(exc)
        self._waiting = []

    def _storable(self) -> list[Message]:
        """Return the part of the turn that can be stored, in order."""
        answer = self._storable_answer()
        most = self._limits.turn_messages - len(answer)
        turn: list[Message] = []
        for message in self._turn[:most]:
            if not self._limits.allow(message):
                break
            turn.append(message)
        return [*turn, *answer]

    def _storable_answer(self) -> list[Message]:
        allow = self._limits.allow
        answer = dict(_EMPTY)
        for name, value in self.message.items():
            if name != "content" and allow(answer | {name: value} | INCOMPLETE):
                answer[name] = value
        content = self.answer["content"]
        if isinstance(content, str):
            text = _LONE_SURROGATE.sub("\ufffd", content)
            (frame,) = encode_messages([answer | INCOMPLETE], sys.maxsize)
            text = beginning_of(text, self._limits.message_bytes - len(frame.encode()))
            answer["content"] = _longest(
                text, lambda part: allow(answer | {"content": part} | INCOMPLETE)
            )
        elif allow(answer | {"content": content} | INCOMPLETE):
            answer["content"] = content
        is_empty = not answer["content"] and answer.keys() <= _EMPTY.keys()
        return [] if is_empty else [answer | INCOMPLETE]

    def _check_room(self) -> None:
        most = self._limits.turn_messages
        if len(self._turn) + 2 > most:
            raise TurnTooLong(f"the turn has more than {most} messages, including its answer")

    def _check_open(self) -> None:
        if self._ended:
            raise RuntimeError("this turn is stored already, and records nothing more")
        if self._refused is not None:
            raise self._refused


async def break_off(recordings: Sequence[Recording], seconds: float) -> None:
    """Break off all recordings, and retry for so many ``seconds`` if the store is unavailable."""
    for recording in recordings:
        await recording.break_off()
    waiting = [recording for recording in recordings if recording.is_waiting]
    if not waiting:
        return
    pause, until = _FIRST_PAUSE, anyio.current_time() + seconds
    with anyio.CancelScope(shield=True):  # the client that would wait for it has left
        while waiting and anyio.current_time() + pause < until:
            await anyio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            await waiting[0].break_off()
            waiting = [recording for recording in waiting if recording.is_waiting]
    for _ in waiting:
        logger.warning("an answer that broke off is lost: the store remains unavailable")


def continued(begun: Message) -> Message:
    """Return the message that continues ``begun``, before anything has come."""
    text, beside = _taken_apart(begun)
    return {"role": "assistant", "content": text, **beside}


def _taken_apart(begun: Message) -> tuple[str, Message]:
    """Return the beginning's text, and its other keys without finish_reason and status."""
    left_out = ("role", "content", "finish_reason", REQUEST_DIGEST, *INCOMPLETE)
    return text_of(begun), {name: value for name, value in begun.items() if name not in left_out}


def _longest(text: str, allowed: Callable[[str], bool]) -> str:
    """Return the longest beginning of the text that is allowed, or ""."""
    if allowed(text):
        return text
    fits, too_long = 0, len(text)
    while fits + 1 < too_long:
        middle = (fits + too_long) // 2
        fits, too_long = (middle, too_long) if allowed(text[:middle]) else (fits, middle)
    return text[:fits]


def _say_what_is_stored(error: InvalidMessage, what: str) -> None:
    """Replace "nothing was stored" in the error's text by ``what``."""
    error.args = (f"{str(error).removesuffix('; nothing was stored')}; {what}",)


def _log_lost(failure: Exception) -> None:
    logger.warning("an answer that broke off is lost: %s", type(failure).__name__)
    logger.debug("the failure in full", exc_info=failure)
