"""Ids of messages over a database: what races, damage and other versions do to them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import URL, text

from hermes_session_mw import ANY, SessionConflict, SQLAlchemyStore
from hermes_session_mw.stores.sqlalchemy.admin import integrity_check
from hermes_session_mw.testing.helpers import new_id, numbered
from tests.contract.test_store_contract import url_of
from tests.support.statements import EVERYWHERE, engine_of, listening


@pytest.fixture(params=EVERYWHERE, ids=lambda case: f"{case[0]}-{case[1]}")
def case(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A driver and an event loop."""
    return request.param  # type: ignore[no-any-return]  # pytest types it as Any


@pytest.fixture
def anyio_backend(case: tuple[str, str]) -> str:
    """The case's event loop."""
    return case[1]


@pytest.fixture
def url(case: tuple[str, str], tmp_path: Path, request: pytest.FixtureRequest) -> URL:
    """The case's database."""
    return url_of(case[0], tmp_path, request)


@pytest.fixture
async def store(url: URL) -> AsyncIterator[SQLAlchemyStore]:
    """A store over it."""
    made = SQLAlchemyStore(url, timeout=60)
    yield made
    await made.aclose()


async def problems(store: SQLAlchemyStore, owner: str) -> list[str]:
    """Return what the check finds in an owner's sessions."""
    found = await store._read(integrity_check.check_range, ("", ""), None)
    return [each.what for each in found if each.owner == owner]


async def test_overlapping_appends_store_each_message_once(
    url: URL, store: SQLAlchemyStore
) -> None:
    """Of appends at once, by two processes' stores, one stores a message that several bring."""
    session_id, owner = new_id(), new_id()
    other = SQLAlchemyStore(url, timeout=60)
    lengths: list[int] = []
    conflicts: list[int] = []

    async def append(start: int, expected: Any = ANY) -> None:
        ids = [f"m{number}" for number in range(start, start + 8)]
        try:
            length = await (store, other)[start % 2].append(
                session_id,
                numbered(start, 8),
                owner,
                message_ids=ids,
                metadata={"of": "all"},
                expected_metadata=expected,
            )
            lengths.append(length)
        except SessionConflict:
            conflicts.append(start)

    async with anyio.create_task_group() as tasks:
        for start in range(10):
            tasks.start_soon(append, start)
        tasks.start_soon(append, 90, {"of": "nobody"})  # its ids stay free
    assert conflicts == [90]
    numbers = [each["n"] for each in (await store.load(session_id, owner)).messages]
    assert sorted(numbers) == list(range(17))
    assert max(lengths) == 17
    for number in range(17):
        found = await store.find_message(f"m{number}", owner)
        assert found is not None
        assert (found[1].message, found[1].index) == ({"n": number}, numbers.index(number))
    assert await store.find_message("m90", owner) is None
    assert await problems(store, owner) == []
    await other.aclose()


async def test_an_id_that_leads_nowhere_is_free(store: SQLAlchemyStore) -> None:
    """An earlier version's process archives messages, and leaves their ids: these come again."""
    session_id, owner = new_id(), new_id()
    await store.append(session_id, numbered(0, 4), owner, message_ids=["a", "b", None, "d"])
    of_it = f"session_id = '{session_id}'"

    def rewind(database: Any) -> None:
        for statement in (
            f"DELETE FROM hermes_messages WHERE {of_it} AND seq >= 1",
            f"UPDATE hermes_sessions SET next_seq = 1 WHERE id = '{session_id}'",
        ):
            database.run(text(statement), {})

    await store._write(rewind)
    assert await problems(store, owner) == ["there is no message for 2 ids"]
    assert await store.find_message("b", owner) is None
    assert await store.append(session_id, numbered(0, 2), owner, message_ids=["a", "b"]) == 2
    assert await store.append(session_id, numbered(3), owner, message_ids=["d"]) == 3
    found = await store.find_message("d", owner)
    assert found is not None
    assert (found[1].message, found[1].index) == ({"n": 3}, 2)
    assert await problems(store, owner) == []


async def test_ids_are_asked_for_in_sets(store: SQLAlchemyStore) -> None:
    """Many messages' ids take a few statements, and none where a session never had an id."""
    session_id = new_id()
    await store.append(session_id, numbered(0), message_ids=["m"])
    ids = [f"m{number}" for number in range(250)]
    with listening(await engine_of(store)) as heard:
        assert await store.append(session_id, numbered(0, 250), message_ids=ids) == 251
        many = [each for each in heard if "hermes_message_ids" in each]
        heard.clear()
        assert await store.append(session_id, numbered(0, 250), message_ids=ids) == 251
        again = [each for each in heard if "hermes_message_ids" in each]
        heard.clear()
        plain = new_id()
        await store.append(plain, numbered(0, 4))
        await store.rewind(plain, 2)
        await store.append(plain, numbered(7), replace_from=1)
        await store.fork(plain, new_id())
        await store.rotate(plain, f"{plain}-new")
        await store.delete(f"{plain}-new")
        assert not any("hermes_message_ids" in each for each in heard)
    lookups = 1 if store._url.get_backend_name() == "postgresql" else 3
    assert (len(many), len(again)) == (lookups + 1, lookups)
