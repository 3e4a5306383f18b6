"""`Reply` for /v1/responses, which still records its answers: it ends with its client."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from demo_app.failures import ModelRefused, upstream_failed
from demo_app.model import Delta, Model, pieces
from demo_app.turns import Finish, nothing, unstored
from hermes_session_mw import InvalidMessage, MessageTooLarge, Recording
from hermes_session_mw.messages import Message
from hermes_session_mw.openai_api.assembly import (
    MessageAssembly,
    add_to_choice,
    as_delta,
    text_of,
)
from hermes_session_mw.openai_api.invalid_request import InvalidRequest
from hermes_session_mw.openai_api.usage import Usage, estimated_usage

_NEEDED = ("content", "tool_calls")
"""Fields that an answer cannot do without; a store may have no place for others."""
_BEFORE = ("reasoning_content", "reasoning")
"""Fields that a model tells before its text."""


@dataclass(slots=True)
class Reply:
    """An answer, as received so far.

    Attributes:
        model: the name of the model.
        deltas: its pieces.
        record: begins the recording, which stores the turn, once the first piece has come.
        finish: called after the turn is stored.
        renew: called for each piece, to extend the lease.
        usage: the tokens used; None until that is known.
        finish_reason: why the answer ended.
        has_reason: whether the model has said why; else it is the usual reason.
        choice: what belongs to the choice, such as ``logprobs``.
        beside: what belongs to the chunk, such as ``citations``.
        assembly: the message.
        counted: how much of its size is counted.
    """

    model: str
    deltas: AsyncGenerator[Delta, None]
    record: Callable[[], Recording] = unstored
    finish: Finish = nothing
    renew: Finish = nothing
    usage: Usage | None = None
    finish_reason: str = "stop"
    has_reason: bool = False
    choice: Message = field(default_factory=dict)
    beside: Message = field(default_factory=dict)
    assembly: MessageAssembly = field(default_factory=MessageAssembly)
    counted: int = 0
    recording: Recording = field(default_factory=unstored)

    @property
    def message(self) -> Message:
        """The answer as a message."""
        return {"role": "assistant"} | self.assembly.message

    async def pieces(
        self, at_end: Callable[[], None] = lambda: None
    ) -> AsyncGenerator[Delta, None]:
        """Yield the answer, and store its turn before the generator ends.

        A client that has read the whole answer can rely on it: the turn is stored by then, and
        ``finish`` was called. ``at_end`` is called after the last piece, before the turn is stored.
        """
        first = await self._first()
        try:
            async with self.recording, aclosing(self.deltas):
                yield self._taken(first)
                async for delta in self.deltas:
                    await self.renew()
                    yield self._taken(delta)
                if last := self.assembly.end():
                    yield self._told(last, Delta())
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

    async def _first(self) -> Delta:
        """Wait for the first piece, and begin the recording.

        If there is none, the question is stored as unanswered, unless the model refuses it
        permanently, or the turn was to replace another.
        """
        try:
            first = await anext(self.deltas)
        except (InvalidRequest, ModelRefused):
            raise
        except BaseException:
            await self.record().break_off()
            raise
        try:
            self.recording = self.record()
        except BaseException:
            await self.deltas.aclose()
            raise
        return first

    def _taken(self, delta: Delta) -> Delta:
        """Add a piece, and return it as it is told: with whole characters, and numbered calls."""
        fields = ({"content": delta.text} if delta.text else {}) | delta.fields
        self.model = delta.model or self.model
        self.usage = delta.usage or self.usage
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.has_reason = self.has_reason or delta.finish_reason is not None
        self.beside |= delta.beside
        add_to_choice(self.choice, delta.choice)
        return self._told(self.assembly.add(fields), delta)

    def _told(self, fields: Message, delta: Delta) -> Delta:
        text = text_of(fields.get("content"))
        if text == fields.get("content"):
            del fields["content"]
        self.recording.write(text)
        self.recording.count(self.assembly.size - self.counted)
        self.counted = self.assembly.size
        return replace(delta, text=text, fields=fields)

    def _note(self) -> None:
        """Store what the answer has beside its text, once it is complete."""
        fields = self.assembly.message
        if not any(fields.values()):
            return
        usual = _usual_end(fields)
        if not self.has_reason:
            self.finish_reason = usual
        if isinstance(fields["content"], str) and fields.keys() == {"content"}:
            del fields["content"]  # the recording has it
        reason = None if self.finish_reason == usual else self.finish_reason
        fields |= {"finish_reason": reason, "usage": self.usage, "model": self.model}
        if "refusal" in fields and not self.recording.allows({"refusal": fields["refusal"]}):
            fields["content"] = fields.get("content") or self.assembly.message["refusal"]
        for name, value in fields.items():
            is_known = name in _NEEDED or self.recording.allows({name: value})
            if is_known and (name == "content" or value is not None):
                self.recording.message[name] = value


def again(
    model: Model, question: Sequence[Message], message: Message, options: Mapping[str, Any]
) -> Reply:
    """Return a stored answer, without asking the model."""
    fields, text = as_delta(message), text_of(message.get("content"))
    if isinstance(fields.get("content"), str):
        del fields["content"]  # told word by word
    name = message.get("model") or options.get("model") or model.name
    last = Delta(
        fields=fields,
        finish_reason=message.get("finish_reason") or _usual_end(message),
        usage=message.get("usage") or estimated_usage(question, text),
    )
    words = [] if "content" in fields else pieces(text)
    thoughts = Delta(fields={each: fields.pop(each) for each in _BEFORE if each in fields})
    return Reply(name, _each([thoughts, *map(Delta, words), last]))


async def _each(deltas: Sequence[Delta]) -> AsyncGenerator[Delta, None]:
    for delta in deltas:
        yield delta


def _usual_end(message: Message) -> str:
    """Return why an answer ends of which it is not told."""
    return next((name for name in ("tool_calls", "function_call") if message.get(name)), "stop")
