"""`Reply`, a model's answer while it is received: what is told of each piece, and what is stored.

Rules of this file: no input or output but the pieces. Everything that a model says is told, and
stored as far as the store has a place for it.
"""

import re
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from hermes_session_mw.exceptions import MessageTooLarge
from hermes_session_mw.messages import Message, size_of_text
from hermes_session_mw.openai_api.assembly import (
    MessageAssembly,
    add_to_choice,
    as_delta,
    text_of,
)
from hermes_session_mw.openai_api.usage import Usage, estimated_usage

_NEEDED = ("content", "tool_calls")
"""Fields that an answer cannot do without; a store may have no place for others."""
_BEFORE = ("reasoning_content", "reasoning")
"""Fields that a model tells before its text."""


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer.

    Attributes:
        text: the next piece of the answer's text.
        fields: pieces of the message's other fields, in the shape of a ``delta`` of
            Chat Completions: ``tool_calls``, ``refusal``; a ``content`` with other parts than text.
        finish_reason: why the answer ends, in the terms of Chat Completions; None before its end.
        usage: the tokens used, if the model reports them.
        model: which model answers, if it is not the requested one.
        choice: what belongs to the choice, such as ``logprobs``.
        beside: what belongs to the chunk, such as ``citations``.
    """

    text: str = ""
    fields: Message = field(default_factory=dict)
    finish_reason: str | None = None
    usage: Usage | None = None
    model: str | None = None
    choice: Message = field(default_factory=dict)
    beside: Message = field(default_factory=dict)


def _anything(_: Message) -> bool:
    return True


@dataclass(slots=True)
class Reply:
    """An answer, as received so far.

    Attributes:
        model: the name of the model.
        deltas: its pieces.
        allows: whether the store can hold an answer with these fields.
        max_bytes: how large it may be, so that one without an end is noticed.
        usage: the tokens used; None until that is known.
        finish_reason: why the answer ended.
        has_reason: whether the model has said why; else it is the usual reason.
        choice: what belongs to the choice, such as ``logprobs``.
        beside: what belongs to the chunk, such as ``citations``.
        assembly: the message.
        is_whole: whether the answer has ended.
    """

    model: str
    deltas: AsyncGenerator[Delta, None]
    allows: Callable[[Message], bool] = _anything
    max_bytes: int = sys.maxsize
    usage: Usage | None = None
    finish_reason: str = "stop"
    has_reason: bool = False
    choice: Message = field(default_factory=dict)
    beside: Message = field(default_factory=dict)
    assembly: MessageAssembly = field(default_factory=MessageAssembly)
    is_whole: bool = False
    _texts: list[str] = field(default_factory=list)
    _size: int = 0

    @property
    def message(self) -> Message:
        """The answer as a message."""
        return {"role": "assistant"} | self.assembly.message

    async def pieces(self) -> AsyncGenerator[Delta, None]:
        """Yield the answer as it is told: with whole characters, and numbered calls.

        Raises:
            MessageTooLarge: it is longer than ``max_bytes``.
        """
        async with aclosing(self.deltas):
            async for delta in self.deltas:
                yield self._taken(delta)
        if last := self.assembly.end():
            yield self._told(last, Delta())
        if not self.has_reason:
            self.finish_reason = _usual_end(self.assembly.message)
        self.is_whole = True

    def stored(self) -> Message:
        """Return the message to store: until the answer has ended, its text alone."""
        text = "".join(self._texts)
        if not self.is_whole:
            return {"content": text} if text else {}
        fields = self.assembly.message
        if not any(fields.values()):
            return {}
        reason = None if self.finish_reason == _usual_end(fields) else self.finish_reason
        fields |= {"finish_reason": reason, "usage": self.usage, "model": self.model}
        if "refusal" in fields and not self.allows({"refusal": fields["refusal"]}):
            fields["content"] = fields.get("content") or fields["refusal"]
        return {
            name: value
            for name, value in fields.items()
            if name == "content"
            or (value is not None and (name in _NEEDED or self.allows({name: value})))
        }

    def _taken(self, delta: Delta) -> Delta:
        """Add a piece, and return it as it is told."""
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
        self._texts.append(text)  # of what is too long, a part is stored
        self._size += size_of_text(text)
        if self._size + self.assembly.size > self.max_bytes:
            raise MessageTooLarge("the answer is too long to be stored")
        return replace(delta, text=text, fields=fields)


def stored_reply(message: Message, question: Sequence[Message], model: str) -> Reply:
    """Return a stored answer, to be told again.

    Args:
        message: the answer, with the ``usage`` and ``model`` that are stored with it.
        question: what the model was given, by which the usage is estimated where none is stored.
        model: the model's name where none is stored.
    """
    fields, text = as_delta(message), text_of(message.get("content"))
    if isinstance(fields.get("content"), str):
        del fields["content"]  # told word by word
    last = Delta(
        fields=fields,
        finish_reason=message.get("finish_reason") or _usual_end(message),
        usage=message.get("usage") or estimated_usage(question, text),
    )
    words = [] if "content" in fields else words_of(text)
    thoughts = Delta(fields={each: fields.pop(each) for each in _BEFORE if each in fields})
    return Reply(message.get("model") or model, _each([thoughts, *map(Delta, words), last]))


def words_of(text: str) -> list[str]:
    """Return the text's words with their spaces, which joined are the text."""
    return re.findall(r"\s*\S+|\s+", text)


async def _each(deltas: Sequence[Delta]) -> AsyncGenerator[Delta, None]:
    for delta in deltas:
        yield delta


def _usual_end(message: Message) -> str:
    """Return why an answer ends of which it is not told."""
    return next((name for name in ("tool_calls", "function_call") if message.get(name)), "stop")
