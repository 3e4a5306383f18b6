"""A model's answer while it comes, and the turn that is stored at its end."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from hermes_session_mw import Recording
from hermes_session_mw.messages import Message

from .model import Delta, Model, Usage, pieces, text_of
from .turns import Finish, nothing, unrecorded


@dataclass(slots=True)
class Reply:
    """An answer, as far as it has come.

    Attributes:
        model: which one answers.
        deltas: its pieces, all but the first.
        first: the first one.
        recording: what stores the turn.
        finish: what is done then.
        usage: what the answer cost; None until that is known.
        finish_reason: why it ended.
    """

    model: str
    deltas: AsyncGenerator[Delta, None]
    first: Delta
    recording: Recording = field(default_factory=unrecorded)
    finish: Finish = nothing
    usage: Usage | None = None
    finish_reason: str = "stop"

    @property
    def text(self) -> str:
        """The answer's text."""
        return self.recording.text

    async def pieces(
        self, at_end: Callable[[], None] = lambda: None
    ) -> AsyncGenerator[Delta, None]:
        """Yield the answer, and store its turn before the generator ends.

        So whoever has read the answer to its end can rely on it: the turn is stored by then, and
        ``finish`` was done. ``at_end`` is called once all has come, before it is stored.
        """
        async with self.recording, aclosing(self.deltas):
            self._take(self.first)
            yield self.first
            async for delta in self.deltas:
                self._take(delta)
                yield delta
            at_end()
        await self.finish()

    async def whole(self, at_end: Callable[[], None] = lambda: None) -> None:
        """Wait for all of the answer, and store its turn."""
        async with aclosing(self.pieces(at_end)) as deltas:
            async for _ in deltas:
                pass

    def _take(self, delta: Delta) -> None:
        self.recording.write(delta.text)
        self.model = delta.model or self.model
        self.usage = delta.usage or self.usage
        self.finish_reason = delta.finish_reason or self.finish_reason


async def begin(
    deltas: AsyncGenerator[Delta, None],
    model: str,
    record: Callable[[], Recording] = unrecorded,
    finish: Finish = nothing,
) -> Reply:
    """Wait for an answer's first piece: a model that fails before it can still be an HTTP status.

    The question is stored then, as one that was not answered. ``record`` begins its turn.
    """
    try:
        first = await anext(deltas)
    except BaseException:
        await record().break_off()
        raise
    return Reply(first.model or model, deltas, first, record(), finish)


def again(model: Model, question: list[Message], message: Message) -> Reply:
    """Return an answer as it is stored, without asking the model."""
    return Reply(model.name, _told(message), Delta(usage=model.usage(question, text_of(message))))


async def _told(message: Message) -> AsyncGenerator[Delta, None]:
    for word in pieces(text_of(message)):
        yield Delta(word)
