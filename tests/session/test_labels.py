"""A request's session labels its conversation, and titles it with a turn."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hermes_session_mw import (
    HermesSession,
    History,
    MemoryStore,
    NotSupported,
    SessionNotFound,
    SQLAlchemyStore,
)
from hermes_session_mw.messages import Message

pytestmark = pytest.mark.anyio
USER = {"role": "user", "content": "Hi"}


async def test_a_session_is_labelled_by_its_request() -> None:
    """Its owner's session is labelled once it has a turn, and no other's."""
    store = MemoryStore()
    session = HermesSession(store, "s", owner="ada")
    with pytest.raises(SessionNotFound):
        await session.label(pinned=True)
    await session.append(USER, title="First")
    await session.append(USER, title="Second")
    await session.label(add_tags=["work"], pinned=True)
    info = await store.info("s", "ada")
    assert info is not None
    assert (info.title, info.tags, info.pinned) == ("First", ("work",), True)
    with pytest.raises(SessionNotFound):
        await HermesSession(store, "s", owner="bert").label(tags=[])


async def test_a_recorded_answer_gives_a_title() -> None:
    """The title comes with the turn at its end, in the same transaction."""
    store = SQLAlchemyStore("sqlite://")
    session = HermesSession(store, "s", is_new=True)
    async with session.record(USER, title="Greeting") as answer:
        answer.write("Hello")
    info = await store.info("s")
    assert info is not None
    assert (info.title, info.length) == ("Greeting", 2)
    with pytest.raises(ValueError, match="title"):
        session.record(USER, title="x" * 501)
    await store.aclose()


async def _pieces() -> AsyncIterator[str]:
    yield "Hello"


class OfTurns:
    """A store of turns that takes titles, and keeps no answers."""

    def __init__(self, store: MemoryStore) -> None:
        self.load, self.append, self.aclose = store.load, store.append, store.aclose


async def test_an_answer_gives_a_title(tmp_path: Path) -> None:
    """It comes with the turn at the answer's end, also where the store keeps no running answers."""
    memory = MemoryStore()
    of_turns = OfTurns(memory)
    in_file = SQLAlchemyStore(f"sqlite:///{tmp_path}/s.db")
    store: Any
    for store, kept in ((MemoryStore(), None), (in_file, None), (of_turns, memory)):
        session = HermesSession(store, "s", is_new=True)
        for title in ("Greeting", "Another"):
            answer = await session.answer(_pieces(), USER, title=title)
            await answer.wait()
            assert answer.state == "completed"
        info = await (kept or store).info("s")
        assert info is not None
        assert (info.title, info.length) == ("Greeting", 4)
        with pytest.raises(ValueError, match="title"):
            await session.answer(_pieces(), USER, title="x" * 501)
        await store.aclose()


async def test_a_store_without_titles_is_told_by_name() -> None:
    """Where a store's append takes no title, nothing is stored."""

    class ThreeMethods:
        async def load(self, session_id: str, owner: str = "", limit: int | None = None) -> History:
            return History([], 0, exists=False)

        async def append(
            self,
            session_id: str,
            messages: Sequence[Message],
            owner: str = "",
            turn_id: str | None = None,
            expected_length: int | None = None,
        ) -> int:
            raise AssertionError

        async def aclose(self) -> None:
            pass

    session = HermesSession(ThreeMethods(), "s")
    with pytest.raises(NotSupported, match="title"):
        await session.append(USER, title="T")
    with pytest.raises(NotSupported, match="label"):
        await session.label(pinned=True)


async def test_a_first_turn_gives_its_words_for_a_title() -> None:
    """With the option a session's first turn does so once, and a title of its user's stays."""
    for store in (
        MemoryStore(title_from_first_words=True),
        SQLAlchemyStore("sqlite://", title_from_first_words=True),
    ):
        await store.append("s", [{"role": "system", "content": "x"}, USER])
        await store.append("s", [{"role": "user", "content": "Later"}])
        info = await store.info("s")
        assert info is not None
        assert info.title == "Hi"
        await store.rename("s", None)
        await store.append("s", [USER])
        info = await store.info("s")
        assert info is not None
        assert info.title is None


async def test_a_first_answer_gives_its_questions_words_for_a_title() -> None:
    """With the option an answer that goes on without its client titles a new session, too."""
    for store in (
        MemoryStore(title_from_first_words=True),
        SQLAlchemyStore("sqlite://", title_from_first_words=True),
    ):
        for number, title in enumerate(("Hi", None)):
            held = await store.begin_answer("s", f"a{number}", [USER], lease=60)
            said = [USER, {"role": "assistant", "content": "Hello"}]
            await store.end_answer("s", f"a{number}", 1, [], said, fence=held, state="completed")
            info = await store.info("s")
            assert info is not None
            assert info.title == title
            await store.rename("s", None)
        await store.aclose()
