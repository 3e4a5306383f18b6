"""Pops, ranges and lists over SQL: what the contract does not show of a database."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from hermes_session_mw import SessionConflict, SQLAlchemyStore
from hermes_session_mw.messages import Message
from hermes_session_mw.testing.helpers import new_id, numbered
from tests.contract.test_store_contract import TIMEOUT, url_of

every_database = pytest.mark.parametrize(
    ("database", "anyio_backend"),
    [("sqlite", "asyncio"), ("postgresql+psycopg", "trio"), ("mysql+pymysql", "asyncio")],
)


@pytest.fixture
async def store(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[SQLAlchemyStore]:
    """A store over the database."""
    store = SQLAlchemyStore(url_of(database, tmp_path, request), timeout=TIMEOUT)
    yield store
    await store.aclose()


@every_database
async def test_pops_at_once_return_different_messages(store: SQLAlchemyStore) -> None:
    """Four pops at once return the four newest messages, each once, and archive them."""
    session_id, popped = new_id(), list[Message]()
    await store.append(session_id, numbered(0, 6))

    async def pop() -> None:
        popped.extend(await store.pop(session_id))

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(pop)
    assert sorted(each["n"] for each in popped) == [2, 3, 4, 5]
    assert (await store.load(session_id)).messages == numbered(0, 2)
    archived = await store.archived(session_id)
    assert [each.message["n"] for each in archived] == [5, 4, 3, 2]
    assert {each.reason for each in archived} == {"rewind"}


@every_database
async def test_one_rewind_from_a_length_succeeds(store: SQLAlchemyStore) -> None:
    """Of rewinds at once that expect the same length, one is done, and the others conflict."""
    session_id, outcomes = new_id(), list[tuple[object, object]]()
    await store.append(session_id, numbered(0, 4))

    async def rewind() -> None:
        try:
            outcomes.append((None, await store.rewind(session_id, 3, expected_length=4)))
        except SessionConflict as conflict:
            outcomes.append((conflict.expected, conflict.actual))

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(rewind)
    assert sorted(outcomes, key=str) == [(4, 3), (4, 3), (4, 3), (None, 3)]
    assert await store.compact(session_id, numbered(0), [], skipped=0) == 2
    assert (await store.load(session_id)).messages == numbered(1, 2)


PREFIXES = ["a%", "a_", "a\\", "A", "ü", "\ud7ff", "\ue000", "\uffff", "\U0001f600", "\U0010ffff"]


@every_database
async def test_a_prefix_is_compared_byte_for_byte(store: SQLAlchemyStore) -> None:
    """No character of a prefix is a wildcard or equal to another, and pages are as without one."""
    owner = new_id()
    ids = [prefix + end for prefix in PREFIXES for end in ("", "-1", "\U0010ffff")]
    for session_id in [*ids, "a", "ab", "b"]:
        await store.append(session_id, numbered(0), owner)
    for prefix in PREFIXES:
        expected = {each for each in ids if each.startswith(prefix)}
        assert len(expected) == 3
        found, cursor = list[str](), None
        while len(found) < 3:
            page = await store.list(owner, 2, cursor, prefix=prefix)
            found += [each.id for each in page.sessions]
            cursor = page.cursor
        assert set(found) == expected
        assert len(found) == 3
        of_all = (await store.list_all(500, prefix=prefix)).sessions
        assert {each.id for each in of_all if each.owner == owner} == expected
    assert len((await store.list(owner, 500, prefix="")).sessions) == len(ids) + 3
    assert not (await store.list(owner, prefix="a%-1-")).sessions


@pytest.mark.parametrize(
    ("database", "anyio_backend"),
    [("sqlite", "trio"), ("sqlite+aiosqlite", "asyncio"), ("postgresql+asyncpg", "asyncio")],
)
async def test_a_long_range_is_parsed_whole(store: SQLAlchemyStore) -> None:
    """A range of more text than is parsed at once has all its messages, in their places."""
    session_id, text = new_id(), "x" * 10_000
    sent: list[Message] = [{"n": n, "text": text} for n in range(30)]
    await store.append(session_id, sent)
    found = await store.load_range(session_id, start=-25, limit=20)
    assert [each.message for each in found.messages] == sent[5:25]
    assert [each.index for each in found.messages] == list(range(5, 25))
    farthest = await store.load_range(session_id, start=2**70, limit=2**70)
    assert (farthest.messages, farthest.length) == ([], 30)
    assert len((await store.load_range(session_id, start=-(2**70))).messages) == 30
