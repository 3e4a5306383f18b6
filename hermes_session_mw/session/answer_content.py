"""`AnswerContent`: the events of an answer's pieces, and the message that is made of them."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

from hermes_session_mw.exceptions import InvalidMessage, MessageTooLarge
from hermes_session_mw.messages import Message, encode_messages, text_of
from hermes_session_mw.session.answer_log import AnswerLog
from hermes_session_mw.session.recording import Append, Recording, StoreLimits, continued
from hermes_session_mw.session.request_digest import size_of_digest
from hermes_session_mw.stores.answer_folding import decode_events, encode_event
from hermes_session_mw.stores.message_growth import changes_between, encode_changes

Assemble = Callable[[Sequence[Any]], Message]
"""Returns the message of the payloads that have come so far."""

_QUOTES = 2


class AnswerContent:
    """Takes an answer's pieces, and makes its message of them; nothing is encoded twice.

    Args:
        log: where the events go.
        assemble: as for ``session.answer()``, and so are the next two.
        begun: the message that the answer continues.
        digest: the digest of its request.
        limits: the store's limits.
    """

    __slots__ = ("_assemble", "_begun", "_digest", "_excess", "_limits", "_log", "_made", "_size")

    def __init__(
        self,
        log: AnswerLog,
        assemble: Assemble | None,
        begun: Message | None,
        digest: str | None,
        limits: StoreLimits,
    ) -> None:
        self._log, self._assemble, self._limits = log, assemble, limits
        self._begun, self._digest = begun, digest
        self._excess = ""  # a piece that cannot be an event, of which a part is stored
        self._made: Message = {}
        start = json.dumps(self.begun or continued({}), ensure_ascii=False, separators=(",", ":"))
        self._size = len(start.encode("utf-8", "surrogatepass")) + size_of_digest(digest)

    @property
    def begun(self) -> Message | None:
        """The message as it is before anything has come; None if it continues no other."""
        return None if self._begun is None else continued(self._begun)

    @property
    def text(self) -> str:
        """The text that has come so far."""
        if self._assemble is None:
            return "".join(Payloads(self._log, self._log.end))
        return text_of(self._assembled(self._log.end)) if self._log.end else ""

    def add(self, piece: Any) -> None:
        """Add a piece to the log, unless it is an empty text.

        Raises:
            TypeError: there is no ``assemble``, and the piece is not a str.
            InvalidMessage: it cannot be stored; or the answer is too large with it.
        """
        if self._assemble is not None:
            self._log.add([encode_event(piece, self._limits.message_bytes)])
        elif not isinstance(piece, str):
            raise TypeError(f"a piece of an answer is a str, not a {type(piece).__name__}")
        elif piece:
            self._add_text(piece)

    def _add_text(self, piece: str) -> None:
        try:
            body = encode_event(piece, self._limits.message_bytes)
            self._size += len(body if body.isascii() else body.encode()) - _QUOTES
            if self._size > self._limits.message_bytes:
                raise MessageTooLarge(
                    f"the answer takes more than {self._limits.message_bytes} bytes as JSON, the "
                    "most that the store accepts (max_message_bytes)"
                )
        except InvalidMessage:
            self._excess = piece
            raise
        self._log.add([body])

    def message_until(self, count: int) -> Message | None:
        """Return the message of the first events, as a store would return it.

        None if it is what a store makes of the events that are texts.

        Raises:
            InvalidMessage: it cannot be assembled, or cannot be stored.
        """
        if self._assemble is None:
            return None
        (body,) = encode_messages([self._assembled(count)], self._limits.message_bytes)
        message: Message = json.loads(body)
        return message

    def growth(self, before: Message | None, message: Message) -> str:
        """Return the JSON text of what the message grew by; ``before`` is None at first."""
        start = before if before is not None else self.begun or {}
        return encode_changes(changes_between(start, message))

    def recording(
        self, append: Append, append_part: Append, question: list[Message], *, replaces: bool
    ) -> Recording:
        """Return the recording of the turn, which stores it at its end."""
        recording = Recording(
            append,
            append_part,
            question,
            limits=self._limits,
            replaces=replaces,
            begun=self._begun,
            digest=self._digest,
        )
        made = self._made
        if self._assemble is None and (text := self.text + self._excess):
            made = {"content": text}
        recording.message = recording.message | made
        return recording

    def assemble(self) -> None:
        """Assemble the message that is stored at the end; raises ``InvalidMessage``."""
        if self._assemble is not None and self._log.end:
            self._assembled(self._log.end)

    def _assembled(self, count: int) -> Message:
        """Return the message that ``assemble`` makes of the first events, with what was begun."""
        assert self._assemble is not None
        try:
            self._made = {**self._assemble(Payloads(self._log, count))}
        except Exception as exc:
            raise InvalidMessage("the answer's payloads could not be assembled") from exc
        recording = Recording(_stores_nothing, _stores_nothing, [], begun=self._begun)
        recording.message = recording.message | self._made
        return recording.answer


class Payloads(Sequence[Any]):
    """The payloads of the first ``count`` events of a log, which are decoded when asked for."""

    def __init__(self, log: AnswerLog, count: int) -> None:
        self._log, self._count = log, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        return self._between(0, self._count)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        places = range(self._count)[index]
        if isinstance(places, int):
            return next(self._between(places, places + 1))
        if places.step < 0:
            return list(self)[index]
        return list(self._between(places.start, places.stop))[:: places.step]

    def _between(self, first: int, end: int) -> Iterator[Any]:
        while first < end:
            events = self._log.after(first)[: end - first]
            yield from decode_events(events)
            first += len(events)


async def _stores_nothing(*_: Message) -> int:
    return 0
