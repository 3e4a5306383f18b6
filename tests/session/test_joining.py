"""A request that is repeated while its answer runs joins it, and others wait for the turn."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from hermes_session_mw import (
    Answer,
    HermesSession,
    MemoryStore,
    SessionBusy,
    SQLAlchemyStore,
    TurnConflict,
)
from hermes_session_mw.session import joining
from tests.support.answers import USER, Model

JOINED, REFUSED, WAITS = "joined", "refused", "waits"
CASES: list[tuple[str | None, str | None, str, str]] = [
    ("k", "k", "a", JOINED),
    ("k", "k", "b", REFUSED),
    ("k", "l", "a", WAITS),
    ("k", None, "a", WAITS),
    (None, None, "a", JOINED),
    (None, None, "b", WAITS),
    (None, "k", "a", WAITS),
]


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A store of each kind."""
    if request.param == "memory":
        return MemoryStore()
    return SQLAlchemyStore(f"sqlite:///{tmp_path}/s.db")


def session(store: Any, key: str | None = None, **more: Any) -> HermesSession:
    """Return a request's session, as another process has it."""
    return HermesSession(store, "id", idempotency_key=key, **more)


@asynccontextmanager
async def running(store: Any, key: str | None = None) -> AsyncIterator[tuple[Model, Answer]]:
    """Have an answer run within the block, whose request has the digest "a"."""
    model, first = Model(), session(store, key)
    assert await first.turn_or_answer("a") is None
    answer = await first.answer(model.pieces(), USER, digest="a")
    yield model, answer
    model.end()
    await answer.wait()


@pytest.mark.parametrize(("first", "second", "digest", "expected"), CASES)
async def test_which_request_is_the_same(
    store: Any, first: str | None, second: str | None, digest: str, expected: str
) -> None:
    """The key says so, with the digest, and the digest alone where neither has a key."""
    async with running(store, first) as (model, answer):
        other = session(store, second)
        if expected == REFUSED:
            with pytest.raises(TurnConflict):
                await other.turn_or_answer(digest)
        elif expected == WAITS:
            with pytest.raises(SessionBusy):
                await other.turn_or_answer(digest, wait=0)
        else:
            found = await other.turn_or_answer(digest, wait=0)
            assert found is not None
            assert (found.id, other.current_turn) == (answer.id, None)
        assert other.is_replayed == (expected == JOINED)
    assert model.asked == 1


async def test_who_prepares_an_answer_has_the_turn_for_a_short_time(store: Any) -> None:
    """A process that is killed before its answer begins leaves the conversation free soon."""
    first = session(store)
    assert await first.turn_or_answer("a") is None
    with pytest.raises(SessionBusy) as busy:
        await session(store).turn_or_answer("b", wait=0)
    assert 0 < busy.value.retry_after <= 10
    await first.end()


async def test_who_waits_gets_the_turn_after_the_answers_end(store: Any) -> None:
    """The history has the answer by then."""
    other = session(store)
    async with running(store, "k") as (model, _), anyio.create_task_group() as tasks:
        tasks.start_soon(other.turn_or_answer, "b")
        model.say("one")
        model.end()
    assert [message["content"] for message in other.history] == ["Count.", "one"]
    assert other.current_turn is not None
    await other.end()


async def test_who_waits_for_an_answer_that_is_begun_meanwhile_joins_it(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that came while the first one prepared its prompt does not wait for its end."""
    monkeypatch.setattr(joining, "LOOK", 0.01)
    first, second, model = session(store, "k"), session(store, "k"), Model()
    found: list[Any] = []
    is_refused, acquire = anyio.Event(), type(store).acquire

    async def noting(*args: Any, **options: Any) -> Any:
        is_refused.set()
        return await acquire(*args, **options)

    async def wait() -> None:
        found.append(await second.turn_or_answer("a", wait=60))

    assert await first.turn_or_answer("a") is None
    monkeypatch.setattr(type(store), "acquire", noting)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await is_refused.wait()
        answer = await first.answer(model.pieces(), USER, digest="a")
        with anyio.fail_after(30):
            while not found:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        model.end()
    assert found[0].id == answer.id
    await answer.wait()


@pytest.mark.parametrize("more", [{"is_new": True}, {"is_turn": False}], ids=["new", "no turn"])
async def test_a_request_that_can_be_no_repetition_looks_for_nothing(
    store: Any, more: dict[str, Any]
) -> None:
    """A new session has no answer, and a request that is no turn neither waits nor joins."""
    async with running(store, "k") as (_, answer):
        other = HermesSession(
            store, "id" if "is_turn" in more else "new", idempotency_key="k", **more
        )
        assert await other.turn_or_answer("a") is None
        assert not other.is_replayed
        assert answer.state == "running"
        await other.end()
