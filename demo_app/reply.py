"""A model's answer while it is received, and the turn that is stored at its end."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from demo_app.assembly import Fields, as_pieces, texts_in
from demo_app.bodies import BadRequest
from demo_app.failures import ModelRefused, upstream_failed
from demo_app.model import Delta, Model, Usage, pieces, text_of
from demo_app.turns import Finish, nothing, unstored
from hermes_session_mw import InvalidMessage, MessageTooLarge, Recording
from hermes_session_mw.messages import Message


@dataclass(slots=True)
class Reply:
    """An answer, as received so far.

    Attributes:
        model: the name of the model.
        deltas: its pieces, all but the first.
        first: the first one.
        recording: stores the turn.
        finish: called after the turn is stored.
        keep: called for each piece, to extend the lease.
        usage: the tokens used; None until that is known.
        finish_reason: why the answer ended.
        fields: the message's fields other than its role and its text.
    """

    model: str
    deltas: AsyncGenerator[Delta, None]
    first: Delta
    recording: Recording = field(default_factory=unstored)
    finish: Finish = nothing
    keep: Finish = nothing
    usage: Usage | None = None
    finish_reason: str = "stop"
    fields: Fields = field(default_factory=Fields)

    @property
    def text(self) -> str:
        """The answer's text."""
        return self.recording.text

    @property
    def message(self) -> Message:
        """The answer as a message."""
        fields = self.fields()
        # A message that calls tools may have no text.
        content = None if "tool_calls" in fields and not self.text else self.text
        return {"role": "assistant", "content": content} | fields

    async def pieces(
        self, at_end: Callable[[], None] = lambda: None
    ) -> AsyncGenerator[Delta, None]:
        """Yield the answer, and store its turn before the generator ends.

        A client that has read the whole answer can rely on it: the turn is stored by then, and
        ``finish`` was called. ``at_end`` is called after the last piece, before the turn is stored.
        """
        try:
            async with self.recording, aclosing(self.deltas):
                self._take(self.first)
                yield self.first
                async for delta in self.deltas:
                    await self.keep()
                    self._take(delta)
                    yield delta
                self._note()
                at_end()
        except MessageTooLarge:
            raise upstream_failed("the answer is too long to be stored") from None
        except InvalidMessage:
            raise upstream_failed("the answer cannot be stored") from None
        await self.finish()

    async def whole(self, at_end: Callable[[], None] = lambda: None) -> None:
        """Wait for the whole answer, and store its turn."""
        async with aclosing(self.pieces(at_end)) as deltas:
            async for _ in deltas:
                pass

    def _take(self, delta: Delta) -> None:
        self.recording.write(delta.text)
        for text in texts_in(delta.fields):
            self.recording.count(text)
        self.fields.add(delta.fields)
        self.model = delta.model or self.model
        self.usage = delta.usage or self.usage
        self.finish_reason = delta.finish_reason or self.finish_reason

    def _note(self) -> None:
        """Store the answer's other fields with it, once it is complete."""
        beside = self.fields.stored()
        if "tool_calls" in beside:
            beside["content"] = self.message["content"]
        elif self.finish_reason != "stop":
            beside["finish_reason"] = self.finish_reason
        self.recording.message.update(beside)


async def begin(
    deltas: AsyncGenerator[Delta, None],
    model: str,
    record: Callable[[], Recording] = unstored,
    finish: Finish = nothing,
) -> Reply:
    """Wait for an answer's first piece: a model that fails before it can still be an HTTP status.

    The question is then stored as unanswered, unless the model refuses it permanently, or the turn
    was to replace another. ``record`` begins the turn.
    """
    try:
        first = await anext(deltas)
    except (BadRequest, ModelRefused):
        raise
    except BaseException:
        await record().break_off()
        raise
    try:
        recording = record()
    except BaseException:
        await deltas.aclose()
        raise
    return Reply(first.model or model, deltas, first, recording, finish)


def again(
    model: Model, question: Sequence[Message], message: Message, options: Mapping[str, Any]
) -> Reply:
    """Return a stored answer, without asking the model."""
    fields = as_pieces(message)
    ended = message.get("finish_reason") or ("tool_calls" if "tool_calls" in fields else "stop")
    first = model.retold(question, text_of(message), options)
    last = Delta(fields=fields, finish_reason=ended)
    return Reply(first.model or model.name, _told(text_of(message), last), first)


async def _told(text: str, last: Delta) -> AsyncGenerator[Delta, None]:
    for word in pieces(text):
        yield Delta(word)
    yield last
