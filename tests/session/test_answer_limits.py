"""Answers that are too large, and stores that are slower than the pieces, or away."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from hermes_session_mw import HermesSession, MemoryStore, MessageTooLarge, StoreUnavailable
from hermes_session_mw.session.answer_flush import MAX_UNWRITTEN
from hermes_session_mw.testing.helpers import numbered
from tests.session.test_answers import BROKEN, answered, assistant
from tests.support.answers import USER, Client, Model, serving, until


def joined(payloads: Sequence[Any]) -> dict[str, Any]:
    return assistant("".join(each["delta"] for each in payloads))


@pytest.mark.parametrize("kind", ["texts", "payloads"])
async def test_an_answer_that_grows_too_large_ends(kind: str) -> None:
    """The model is not asked for more, and what fits is stored, marked as incomplete."""
    store, ended = MemoryStore(max_message_bytes=10_000), anyio.Event()

    async def endless() -> AsyncIterator[Any]:
        try:
            while True:
                yield {"delta": "word "} if kind == "payloads" else "word "
                await anyio.lowlevel.checkpoint()
        finally:
            ended.set()

    begun = []

    async def begin(session: HermesSession) -> Any:
        options: dict[str, Any] = {"assemble": joined} if kind == "payloads" else {}
        begun.append(await session.answer(endless(), USER, **options))
        return begun[0].response()

    async with serving(begin, store) as app:
        client = Client(app)
        with anyio.fail_after(60):
            await client.run()
            await ended.wait()
    assert client.data[-1] == '{"state": "failed"}'
    assert isinstance(begun[0].error, MessageTooLarge)
    question, answer = (await store.load("id")).messages
    assert question == USER
    assert answer == assistant(answer["content"], **BROKEN)
    assert 9_900 < len(answer["content"]) < 10_000
    assert answer["content"].startswith("word word ")


@pytest.mark.parametrize("size", [101, 10_000])
async def test_an_event_that_is_too_large_ends_the_answer(size: int) -> None:
    """The part before it is stored, and clients get no event of it."""
    model, store = Model(), MemoryStore(max_message_bytes=100)
    async with (
        serving(answered(model, assemble=joined), store) as app,
        anyio.create_task_group() as tasks,
    ):
        client = Client(app)
        tasks.start_soon(client.run)
        model.say({"delta": "one "}, {"delta": "x" * size})
        await client.done.wait()
        assert model.ended.is_set()
    assert client.data == ['{"delta":"one "}', '{"state": "failed"}']
    assert (await store.load("id")).messages == [USER, assistant("one ", **BROKEN)]


class Away(MemoryStore):
    """A store that is away while ``is_away``; notes how large its writes are."""

    def __init__(self) -> None:
        super().__init__(max_message_bytes=64 * MAX_UNWRITTEN)
        self.is_away, self.failures = True, 0
        self.sizes: list[int] = []

    async def has_failed(self) -> bool:
        """Tell whether it was tried again and again."""
        return self.failures > 2

    def _check(self) -> None:
        if self.is_away:
            self.failures += 1
            raise StoreUnavailable("away")

    async def write_events(
        self, session_id: str, answer_id: str, first: int, events: Any, *args: Any, **options: Any
    ) -> bool:
        self._check()
        self.sizes.append(len("".join(events)))
        return await super().write_events(session_id, answer_id, first, events, *args, **options)

    async def end_answer(self, *args: Any, **options: Any) -> int | None:
        self._check()
        return await super().end_answer(*args, **options)


PIECE = "x" * 65_536
COUNT = 3 * MAX_UNWRITTEN // len(PIECE)


class Fast:
    """A producer that never waits; ``given`` are the pieces that it was asked for."""

    def __init__(self) -> None:
        self.given = 0

    async def pieces(self) -> AsyncIterator[str]:
        while self.given < COUNT:
            self.given += 1
            yield PIECE


async def test_a_producer_waits_for_a_store_that_is_away() -> None:
    """What is not written is bounded, clients have it, and all goes on once the store is back."""
    fast, store = Fast(), Away()
    most = MAX_UNWRITTEN // len(PIECE) + 2

    async def begin(session: HermesSession) -> Any:
        return (await session.answer(fast.pieces(), USER)).response()

    async with serving(begin, store) as app, anyio.create_task_group() as tasks:
        client = Client(app)
        tasks.start_soon(client.run)
        await until(store.has_failed)
        assert MAX_UNWRITTEN // len(PIECE) <= fast.given <= most

        async def has_all() -> bool:
            return len(client.cursors) == fast.given

        await until(has_all)
        store.is_away = False
    assert client.data[-1] == '{"state": "completed"}'
    assert (await store.load("id")).messages == [USER, assistant(PIECE * COUNT)]
    assert fast.given == COUNT
    assert max(store.sizes) < MAX_UNWRITTEN / 2  # in portions


@pytest.mark.parametrize("ending", ["stopped", "incomplete"])
async def test_a_waiting_answer_can_be_ended(ending: str) -> None:
    """Its ``timeout`` ends an answer that waits for the store, and so does a stop."""
    fast, store, begun = Fast(), Away(), []

    async def begin(session: HermesSession) -> Any:
        timeout = 0.5 if ending == "incomplete" else None
        begun.append(await session.answer(fast.pieces(), USER, timeout=timeout))
        return begun[0].response()

    async with serving(begin, store) as app, anyio.create_task_group() as tasks:
        client = Client(app)
        tasks.start_soon(client.run)
        await until(store.has_failed)
        if ending == "stopped":
            await begun[0].stop()
            store.is_away = False
        else:
            given, failures = fast.given, store.failures

            async def is_ending() -> bool:  # which writes all of it
                store.is_away = store.failures < failures + 5
                return not store.is_away

            await until(is_ending)
            assert fast.given == given
    assert client.data[-1] == f'{{"state": "{ending}"}}'
    assert fast.given < COUNT
    _, answer = (await store.load("id")).messages
    assert answer == assistant(PIECE * (len(client.cursors)), **BROKEN)


async def test_an_answer_in_memory_has_the_same_limit() -> None:
    """Over a store that keeps no answers, one that grows too large ends while it runs, too."""

    class Old(MemoryStore):
        begin_answer: Any = None

    store = Old(max_message_bytes=1000)
    await store.append("id", numbered(0))

    async def endless() -> AsyncIterator[Any]:
        while True:
            yield {"delta": "word "}
            await anyio.lowlevel.checkpoint()

    async def begin(session: HermesSession) -> Any:
        return (await session.answer(endless(), USER, assemble=joined)).response()

    async with serving(begin, store) as app:
        client = Client(app)
        with anyio.fail_after(60):
            await client.run()
    assert client.data[-1] == '{"state": "failed"}'
    assert (await store.load("id")).length == 3
