"""`AnswerPlan`: what ``session.answer()`` was given."""

from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hermes_session_mw.messages import Message
from hermes_session_mw.session.answer import Answer
from hermes_session_mw.session.answer_content import Assemble
from hermes_session_mw.stores.expiry import Setting

OnEnd = Callable[[Answer], Awaitable[object]]
"""Is called once the answer has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPlan:
    """What ``session.answer()`` was given; its arguments are told there."""

    pieces: AsyncIterable[Any]
    question: Sequence[Message]
    turn_id: str | None
    replace_from: int | None
    timeout: float | None
    assemble: Assemble | None
    request_digest: str | None
    digest: str | None  # the same, where the turn can have it
    begun: Message | None
    discard_on: tuple[type[Exception], ...]
    on_end: OnEnd | None
    expires_after: Setting | None
    title: str | None

    def check(self) -> None:
        """Raise ``TypeError`` or ``ValueError`` for what cannot be."""
        if not hasattr(self.pieces, "__aiter__"):
            kind = type(self.pieces).__name__
            raise TypeError(f"pieces: a {kind} is not an async iterable of an answer's pieces")
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError(f"timeout: {self.timeout} is not more than 0 seconds")
        if self.assemble is not None and not callable(self.assemble):
            raise TypeError(f"assemble: {self.assemble!r} is not a function")
        if self.on_end is not None and not callable(self.on_end):
            raise TypeError(f"on_end: {self.on_end!r} is not a function")
