"""`Writer`, the writer of an answer in the contracts, and what it writes."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import anyio

from hermes_session_mw import AnswerRecord, AnswerStore, History
from hermes_session_mw.testing.helpers import new_id

LEASE = 30.0
"""Seconds: longer than a test takes."""

MOMENT = 0.05
"""Seconds of a lease that is to expire."""

ASKED: dict[str, Any] = {"role": "user", "content": "Why?"}
SAID: dict[str, Any] = {"role": "assistant", "content": "Because."}
TURN = [ASKED, SAID]


def part(text: str) -> dict[str, Any]:
    """Return an answer that broke off after ``text``."""
    return {"role": "assistant", "content": text, "status": "incomplete"}


def as_text(event: object) -> str:
    """Return an event as a JSON text."""
    return json.dumps(event, ensure_ascii=False)


def growth(*changes: tuple[str, list[Any], Any]) -> str:
    """Return changes of a message as a JSON text."""
    return json.dumps(changes)


@dataclass
class Writer:
    """The writer of an answer."""

    store: AnswerStore
    session_id: str
    id: str
    fence: int
    owner: str = ""
    lease: float = LEASE

    async def write(self, first: int, *events: object, **more: Any) -> bool:
        """Write events from the number ``first``."""
        return await self.write_texts(first, *map(as_text, events), **more)

    async def write_texts(self, first: int, *texts: str, **more: Any) -> bool:
        """Write events that are JSON texts."""
        return await self.store.write_events(
            self.session_id,
            self.id,
            first,
            texts,
            self.owner,
            **{"fence": self.fence, "lease": self.lease, **more},
        )

    async def end(
        self, first: int, *events: object, messages: Any = TURN, **more: Any
    ) -> int | None:
        """End the answer with these events."""
        return await self.end_texts(first, *map(as_text, events), messages=messages, **more)

    async def end_texts(
        self, first: int, *texts: str, messages: Any = TURN, **more: Any
    ) -> int | None:
        """End the answer with events that are JSON texts."""
        return await self.store.end_answer(
            self.session_id,
            self.id,
            first,
            texts,
            messages,
            self.owner,
            **{"fence": self.fence, "state": "completed", **more},
        )

    async def found(self) -> AnswerRecord:
        """Return what is stored of the answer."""
        found = await self.store.find_answer(self.id, self.owner)
        assert found is not None
        return found

    async def read(self, after: int = 0, **more: Any) -> tuple[str, list[object]]:
        """Return the state, and the stored events."""
        found = await self.store.read_events(self.id, self.owner, after, **more)
        assert found is not None
        return found[0], [json.loads(text) for text in found[1]]

    async def events(self, after: int = 0) -> list[object]:
        """Return the stored events."""
        return (await self.read(after))[1]


async def begun(
    store: AnswerStore, session_id: str | None = None, owner: str = "", **more: Any
) -> Writer:
    """Begin an answer, in a new session unless one is given."""
    name, answer_id = session_id or new_id(), new_id()
    options = {"lease": LEASE, **more}
    question = options.pop("question", [ASKED])
    fence = await store.begin_answer(name, answer_id, question, owner, **options)
    return Writer(store, name, answer_id, fence, owner, options["lease"])


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for the condition."""
    with anyio.fail_after(60):
        while not await condition():  # noqa: ASYNC110  # nobody tells
            await anyio.sleep(0.01)


async def wait_for_fold(writer: Writer) -> History:
    """Load the session until its answer was folded, and return the history."""

    async def is_folded() -> bool:
        await writer.store.load(writer.session_id, writer.owner)
        return (await writer.found()).state != "running"

    await until(is_folded)
    return await writer.store.load(writer.session_id, writer.owner)
