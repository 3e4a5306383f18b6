"""Edits whose COMMIT's reply was lost are found out, done once, and told as they were done."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from sqlalchemy import URL

from hermes_session_mw import SessionConflict, SQLAlchemyStore

from .proxy import LosingProxy, losing
from .store_contract import new_id, numbered

CASES = [
    ("postgresql+psycopg", "trio"),
    ("postgresql+asyncpg", "asyncio"),
    ("mysql+pymysql", "asyncio"),
]
every_driver = pytest.mark.parametrize(("driver", "anyio_backend"), CASES)
Edit = Callable[[SQLAlchemyStore, str], Awaitable[Any]]


async def _rotate_back(store: SQLAlchemyStore, session_id: str) -> Any:
    return await store.rotate(session_id, f"{session_id}-new")


async def _import(store: SQLAlchemyStore, session_id: str) -> Any:
    lines = f'{{"hermes_session":1,"id":"{session_id}-in","created_at":"2026-01-31T12:00:00Z"}}\n'
    lines += '{"turn_id":"t","message":{"n":1}}\n'
    return (await store.import_(lines)).endswith("-in")


async def _replace_in_turn(store: SQLAlchemyStore, session_id: str) -> Any:
    return await store.append(
        session_id, numbered(9), expected_length=4, fence=FENCE, replace_from=2
    )


FENCE = 1
"""The first turn's, which the test has taken."""
EDITS: dict[str, tuple[Edit, Any]] = {
    "replace": (lambda store, id_: store.append(id_, numbered(9), replace_from=2), 3),
    "replace under an id": (
        lambda store, id_: store.append(id_, numbered(9), turn_id="mine", replace_from=2),
        3,
    ),
    "replace in a turn": (
        _replace_in_turn,
        3,
    ),
    "rewind": (lambda store, id_: store.rewind(id_, 2), 2),
    "compact": (lambda store, id_: store.compact(id_, numbered(0, 3), [{"s": 1}]), 2),
    "fork": (lambda store, id_: store.fork(id_, f"{id_}-child", length=3), 3),
    "fork of nothing": (lambda store, id_: store.fork(id_, f"{id_}-child", length=0), 0),
    "rotate": (_rotate_back, True),
    "import": (_import, True),
    "rename": (lambda store, id_: store.rename(id_, "title"), True),
    "bind_key": (lambda store, id_: store.bind_key(f"{id_}-key", id_), None),
    "move_key": (lambda store, id_: store.move_key(f"{id_}-key", id_), None),
}


@pytest.fixture
def server_url(request: pytest.FixtureRequest, driver: str) -> URL:
    """The database of the driver's server."""
    kind = "postgres_url" if driver.startswith("postgresql") else "mysql_url"
    url: URL = request.getfixturevalue(kind)
    return url.set(drivername=driver)


@asynccontextmanager
async def through_a_proxy(url: URL) -> AsyncIterator[tuple[LosingProxy, SQLAlchemyStore]]:
    """Yield a store whose replies can be lost, connected already."""
    with losing(url) as (proxy, proxied):
        store = SQLAlchemyStore(proxied)
        yield proxy, store
        await store.aclose()


@every_driver
@pytest.mark.parametrize("edit", EDITS)
async def test_a_lost_reply_to_an_edit_is_found_out(server_url: URL, edit: str) -> None:
    """An edit whose COMMIT was answered into nothing is done once, and told as if nothing was."""
    work, expected = EDITS[edit]
    session_id = new_id()
    async with through_a_proxy(server_url) as (proxy, store):
        await store.append(session_id, numbered(0, 4), turn_id="t")
        assert await store.acquire(session_id, 60) == FENCE
        proxy.lose = 1
        outcome = await work(store, session_id)
        assert proxy.lost == 1
        assert expected is None or outcome == expected
        total = len(await store.archived(session_id)) + (await store.load(session_id)).length
        new = f"{session_id}-new"
        total += len(await store.archived(new)) + (await store.load(new)).length
        assert total == 4 + edit.startswith(("compact", "replace"))


@every_driver
@pytest.mark.parametrize("edit", ["fork", "rotate", "import"])
async def test_an_id_that_was_taken_by_another_stays_taken(server_url: URL, edit: str) -> None:
    """A repetition takes nobody else's session for its own."""
    work, _ = EDITS[edit]
    session_id = new_id()
    async with through_a_proxy(server_url) as (_proxy, store):
        await store.append(session_id, numbered(0, 4))
        for end in ("child", "new", "in"):
            await store.append(f"{session_id}-{end}", numbered(9))
        with pytest.raises(SessionConflict):
            await work(store, session_id)
        for end in ("child", "new", "in"):
            assert (await store.load(f"{session_id}-{end}")).messages == numbered(9)
        assert (await store.load(session_id)).messages == numbered(0, 4)


REPLACED: list[list[int]] = [[], [300], [600], [300, 600]]
"""Which replacements may be there: one that met a shorter history is a conflict."""


@every_driver
async def test_edits_at_once_lose_nothing(server_url: URL) -> None:
    """Edits of all kinds at once leave each message once, in the history or the archive."""
    session_id = new_id()
    store = SQLAlchemyStore(server_url, timeout=30)
    await store.append(session_id, numbered(0, 4))

    async def append(number: int) -> None:
        await store.append(session_id, numbered(number * 10, 2))

    async def edit(number: int) -> None:
        history = await store.load(session_id)
        try:
            if number % 3 == 0:
                await store.append(
                    session_id, numbered(number * 100), replace_from=max(history.length - 1, 0)
                )
            elif number % 3 == 1:
                await store.rewind(session_id, max(history.length - 1, 0))
            else:
                await store.compact(session_id, history.messages[:2], [{"summary": number}])
        except (SessionConflict, ValueError):
            pass  # another was faster

    async with anyio.create_task_group() as tasks:
        for number in range(1, 9):
            tasks.start_soon(append, number)
            tasks.start_soon(edit, number)
    kept = (await store.load(session_id)).messages
    archived = [old.message for old in await store.archived(session_id)]
    everything = [each["n"] for each in [*kept, *archived] if "n" in each]
    numbers = sorted(number for number in everything if number < 100)
    assert sorted(number for number in everything if number >= 100) in REPLACED
    assert numbers == sorted([0, 1, 2, 3, *(n * 10 + part for n in range(1, 9) for part in (0, 1))])
    own = [each["n"] for each in kept if "n" in each]
    whole = [n for n in own if n % 10 == 0 and n + 1 in own]
    assert all(own[own.index(n) + 1] == n + 1 for n in whole)
    await store.aclose()
