"""Where no thread can be had, as in Pyodide, a store in memory serves all the same."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from hermes_session_mw import HermesSessionMiddleware, MemoryStore
from tests.support.asgi import Recorder, request, stamp
from tests.support.no_threads import refuse_threads


class _Handle:
    """A timer that can be cancelled, and tells nothing."""

    _source_traceback = None  # asyncio's own ``call_later`` looks for it

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self.cancel = timer.cancel


def make_loop() -> Any:
    """Return an event loop whose timers are no `asyncio.TimerHandle`, as in Pyodide."""
    loop: Any = asyncio.SelectorEventLoop()
    call_at = loop.call_at
    loop.call_at = lambda *args, **options: _Handle(call_at(*args, **options))
    return loop


async def test_a_store_in_memory_needs_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversation of two requests is kept, on either event loop."""
    refuse_threads(monkeypatch)

    async def say(session: Any) -> None:
        await session.append({"role": "user", "content": f"No. {len(session.history)}"})

    app = HermesSessionMiddleware(Recorder(say), store := MemoryStore())
    first = stamp(await request(app))
    assert stamp(await request(app, first)) == first
    told = [each["content"] for each in (await store.load(first)).messages]
    assert told == ["No. 0", "No. 1"]


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"loop_factory": make_loop})])
async def test_an_answer_needs_no_more_of_a_timer_than_its_cancel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An answer that pauses between its pieces is stored, by a loop with timers as Pyodide's."""
    refuse_threads(monkeypatch)

    async def pieces() -> AsyncIterator[str]:
        yield "one "
        await anyio.sleep(0.01)
        yield "two"

    async def say(session: Any) -> None:
        answer = await session.answer(pieces(), {"role": "user", "content": "Count."})
        await answer.wait()

    app = HermesSessionMiddleware(Recorder(say), store := MemoryStore())
    session_id = stamp(await request(app))
    said = [each["content"] for each in (await store.load(session_id)).messages]
    assert said == ["Count.", "one two"]
