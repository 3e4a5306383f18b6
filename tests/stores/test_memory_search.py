"""The search of a `MemoryStore` beyond its contract: its windows, and what it keeps."""

import gc
import subprocess
import sys
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from hermes_session_mw import MemoryStore, NotSupported, SearchOptions
from hermes_session_mw.stores.memory.search import MemorySearch

pytestmark = pytest.mark.anyio


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def texts_of(store: MemoryStore) -> int:
    """Return how many messages' words the store has."""
    assert isinstance(store._search, MemorySearch)
    return len(store._search._texts)


@pytest.mark.parametrize("together", [1, 5])
async def test_windows_follow_each_other(monkeypatch: pytest.MonkeyPatch, together: int) -> None:
    """The newest matches come before older ones, also those stored at one moment; each once."""
    monkeypatch.setattr("hermes_session_mw.stores.memory.search.WINDOW", 7)
    store = MemoryStore(search=True)
    for number in range(0, 60, together):
        turn = [user(f"needle{'work' * (each % 2)}") for each in range(number, number + together)]
        await store.append(f"s{number % 4}", turn)
    told: list[Any] = []
    cursor: str | None = None
    while True:
        page = await store.search("", "needle", 4, cursor)
        told += page.hits
        cursor = page.cursor
        if cursor is None:
            break
        await store.append("new", [user("needle, stored too late")])
    assert len({(hit.session_id, hit.index) for hit in told}) == len(told) == 60
    assert "new" not in {hit.session_id for hit in told}
    # Of those alike, whole windows and what is in them go from the newest to the oldest.
    for half in (told[:30], told[30:]):
        times = [hit.created_at for hit in half]
        assert times == sorted(times, reverse=True)


async def test_words_go_with_their_messages() -> None:
    """What was searched is read once, and nothing of it is kept once its message is gone."""
    store = MemoryStore(search=True)
    await store.append("a", [user("needle"), user("hay")])
    assert (await store.search("", "needle")).hits
    assert texts_of(store) == 2
    await store.erase_owner("", ownerless=True)
    gc.collect()
    assert texts_of(store) == 0


async def test_options() -> None:
    """Tool output is found where it is asked for."""
    store = MemoryStore(search=SearchOptions(tool_output=True))
    await store.append("a", [{"role": "tool", "content": "needle"}])
    assert [hit.role for hit in (await store.search("", "needle")).hits] == ["tool"]


async def test_a_store_without_search_says_so() -> None:
    """It names the option."""
    with pytest.raises(NotSupported, match="search=True"):
        await MemoryStore().search("", "needle")


def test_who_does_not_search_imports_nothing_of_it() -> None:
    """A store without search knows no module of it."""
    program = (
        "import sys, anyio; import hermes_session_mw as h\n"
        "store = h.MemoryStore()\n"
        "anyio.run(store.append, 'a', [{'n': 1}])\n"
        "assert not [name for name in sys.modules if 'stores' in name and 'search' in name]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


async def test_other_tasks_go_on_while_messages_are_read() -> None:
    """The words of each message are read in a step of its own."""
    store = MemoryStore(search=True)
    await store.append("id", [user(f"needle {number}") for number in range(50)])
    read: list[int] = []

    async def look_on() -> None:
        while texts_of(store) < 50:
            read.append(texts_of(store))
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look_on)
        await store.search("", "needle", 10)
    assert len(set(read)) > 25


async def test_what_is_deleted_while_messages_are_read_is_not_found() -> None:
    """A page has what is stored when it is made."""
    store = MemoryStore(search=True)
    for session_id in ("kept", "deleted"):
        await store.append(session_id, [user(f"needle {number}") for number in range(20)])

    async def delete() -> None:
        while not texts_of(store):
            await anyio.lowlevel.checkpoint()
        await store.delete("deleted")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(delete)
        page = await store.search("", "needle", 100)
    assert {hit.session_id for hit in page.hits} == {"kept"}
