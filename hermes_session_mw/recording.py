"""An answer that is recorded while it streams, and stored once: whole, or as far as it came."""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from .logging import logger
from .messages import Message

INCOMPLETE = {"status": "incomplete"}
"""What marks an answer that broke off: the term of OpenAI's Responses API for such an item."""

Append = Callable[..., Awaitable[int]]
"""``HermesSession.append``, with its keyword arguments given."""


class Recording:
    """The turn of a streaming endpoint: what was asked, and the answer as far as it has come.

    As a context manager it stores the turn at the end of its block. Where the block ends by an
    exception, a cancellation among them, what has come is stored and marked: the answer gets
    ``"status": "incomplete"``; if there is none yet, the question stands alone; and the exception
    goes on. A block that is
    never left, because whoever iterated over it went away, is ended by the middleware in the same
    way, as soon as the application has returned. What broke off does not take the turn's id, so
    that the request can be repeated under it.

    Attributes:
        message: what the answer has beside its role and its text: put ``tool_calls`` there.
        length: the conversation's new length, once the turn is stored.
    """

    def __init__(self, append: Append, append_part: Append, question: list[Message]) -> None:
        """Keep what was asked; ``append`` stores the whole turn, ``append_part`` what broke off."""
        self.message: Message = {}
        self.length: int | None = None
        self._append = append
        self._append_part = append_part
        self._turn = question
        self._pieces: list[str] = []
        self._ended = False

    @property
    def text(self) -> str:
        """The answer's text as far as it has come."""
        return "".join(self._pieces)

    @property
    def ended(self) -> bool:
        """Whether the turn was stored or that was tried; what comes after is recorded no more."""
        return self._ended

    def write(self, text: str) -> None:
        """Add a piece to the answer's text.

        Raises:
            RuntimeError: the recording has ended.
        """
        self._check_open()
        self._pieces.append(text)

    def add(self, *messages: Message) -> None:
        """Add whole messages to the turn, before the answer: tool calls and their results.

        Raises:
            RuntimeError: the recording has ended.
        """
        self._check_open()
        self._turn += messages

    async def end(self) -> None:
        """Store the turn as complete, unless it has ended.

        Raises:
            HermesSessionError: as for ``HermesSession.append``.
        """
        await self._end(complete=True)

    async def break_off(self) -> None:
        """Store what has come as incomplete, unless the turn has ended.

        A failure is logged: whoever would be told has left, or is being told of something else.
        """
        try:
            await self._end(complete=False)
        except Exception as exc:  # noqa: BLE001  # a third party's store raises what it likes
            logger.warning("an answer that broke off is lost: %s", type(exc).__name__)
            logger.debug("the failure in full", exc_info=exc)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        exc: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        await (self.end() if exc is None else self.break_off())

    async def _end(self, *, complete: bool) -> None:
        if self._ended:
            return
        self._ended = True
        append = self._append if complete else self._append_part
        self.length = await append(*self._turn, *self._answer(complete=complete))

    def _answer(self, *, complete: bool) -> list[Message]:
        has_come = bool(self._pieces) or bool(self.message)
        if not (complete or has_come):
            return []
        answer = {"role": "assistant", "content": self.text} | self.message
        return [answer if complete else answer | INCOMPLETE]

    def _check_open(self) -> None:
        if self._ended:
            raise RuntimeError("this turn is stored already, and records nothing more")
