"""One turn at a time: among requests here, and with Hermes where its file has turns."""

import math
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from hermes_session_mw import (
    HermesSession,
    HermesStateStore,
    SessionBusy,
    SessionTaken,
    StoreCorrupt,
    StoreMisconfigured,
    TurnLost,
)
from tests.stores.hermes_state.agent import COMPRESSED, TIP, WEATHER, ask
from tests.stores.hermes_state.versions import turn_into

TURN: list[dict[str, Any]] = [
    {"role": "user", "content": "And day 3?"},
    {"role": "assistant", "content": "Cascais."},
]
LEASES = "SELECT conversation_id, holder FROM session_turn_leases"


@pytest.fixture(params=[22, 30], ids=["in state_meta", "Hermes' own"])
def schema(request: pytest.FixtureRequest, state_db: Path) -> int:
    """A file without Hermes' turns, or with them."""
    turn_into(state_db, request.param)
    return int(request.param)


@pytest.fixture
def newer(state_db: Path) -> None:
    """Turn the file into one with Hermes' turns."""
    turn_into(state_db, 30)


@pytest.mark.usefixtures("schema")
async def test_one_request_has_the_turn(state: HermesStateStore) -> None:
    """Of many one acquires the lease, under any id; a late holder writes nothing."""
    fences: list[int] = []
    waits: list[float] = []

    async def acquire(session_id: str) -> None:
        try:
            fences.append(await state.acquire(session_id, 30))
        except SessionBusy as busy:
            waits.append(busy.retry_after)

    async with anyio.create_task_group() as tasks:
        for session_id in (COMPRESSED, TIP) * 3:
            tasks.start_soon(acquire, session_id)
    (first,) = fences
    assert len(waits) == 5
    assert all(0 < wait <= 30 for wait in waits)
    assert await state.append(TIP, TURN, fence=first) == 6
    assert await state.append(TIP, TURN) == 8  # nobody waits without asking
    await state.extend(COMPRESSED, first, 1e-9)
    second = await state.acquire(COMPRESSED, 30)
    assert second > first
    late: tuple[Callable[[], Awaitable[Any]], ...] = (
        lambda: state.append(COMPRESSED, TURN, fence=first),
        lambda: state.rewind(COMPRESSED, 0, fence=first),
        lambda: state.extend(COMPRESSED, first, 30),
    )
    for write in late:
        with pytest.raises(TurnLost):
            await write()
    await state.release(COMPRESSED, first)
    with pytest.raises(SessionBusy):
        await state.acquire(COMPRESSED, 30)
    assert await state.rewind(COMPRESSED, 4, fence=second) == 4
    await state.release(COMPRESSED, second)
    assert await state.acquire(COMPRESSED, 30) > second


@pytest.mark.usefixtures("schema")
async def test_a_turn_alone_begins_no_session(state: HermesStateStore) -> None:
    """A lease of an unknown id is held, and leaves it unknown; another owner's session has none."""
    fence = await state.acquire("new", 30)
    assert not (await state.load("new")).exists
    with pytest.raises(SessionBusy):
        await state.acquire("new", 30)
    assert await state.append("new", TURN, fence=fence) == 2
    assert (await state.load("new")).length == 2
    with pytest.raises(SessionTaken):
        await state.acquire(WEATHER, 30, "u7")
    for seconds in (0, math.nan):
        with pytest.raises(ValueError, match="lease"):
            await state.acquire("new", seconds)


@pytest.mark.usefixtures("newer")
async def test_a_lease_without_a_time_is_corrupt(state: HermesStateStore, state_db: Path) -> None:
    """Whether Hermes is at work cannot be known then, and nothing is written."""
    hold(state_db, COMPRESSED, 60)
    ask(state_db, "UPDATE session_turn_leases SET expires_at = 'soon'")
    for write in (state.append(TIP, TURN), state.acquire(TIP, 30), state.delete(TIP)):
        with pytest.raises(StoreCorrupt, match="no time at which it ends"):
            await write
    assert (await state.load(TIP)).length == 4


@pytest.mark.usefixtures("newer")
async def test_hermes_turn_is_waited_for(state: HermesStateStore, state_db: Path) -> None:
    """While Hermes is in a turn nothing is written, and `turn()` has it after that."""
    hold(state_db, COMPRESSED, 60)
    writes: tuple[Callable[[], Awaitable[Any]], ...] = (
        lambda: state.acquire(TIP, 30),
        lambda: state.append(COMPRESSED, TURN),
        lambda: state.append(TIP, TURN, replace_from=1),
        lambda: state.rewind(TIP, 1),
        lambda: state.delete(COMPRESSED),
    )
    for write in writes:
        with pytest.raises(SessionBusy) as caught:
            await write()
        assert 50 < caught.value.retry_after <= 60
    assert (await state.load(COMPRESSED)).length == 4
    assert await state.append(WEATHER, TURN) == 10
    session = HermesSession(state, COMPRESSED)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.turn(wait=30).acquire)
            await anyio.wait_all_tasks_blocked()
            ask(state_db, "DELETE FROM session_turn_leases")
    ((conversation, holder),) = ask(state_db, LEASES)
    assert (conversation, holder.startswith("hermes_session_mw:")) == (COMPRESSED, True)
    assert await session.append(*TURN) == 6
    await session.end()
    assert ask(state_db, LEASES) == []


@pytest.mark.usefixtures("newer")
async def test_a_turn_of_hermes_that_has_expired_is_taken_over(
    state: HermesStateStore, state_db: Path
) -> None:
    """A Hermes that was killed in a turn holds it until its lease expires; ours ends likewise."""
    hold(state_db, WEATHER, -1)
    assert await state.append(WEATHER, TURN) == 10
    fence = await state.acquire(WEATHER, 30)
    assert await state.append(WEATHER, TURN, fence=fence) == 12
    ask(state_db, "DELETE FROM session_turn_leases")
    hold(state_db, WEATHER, -1)  # Hermes had the next one
    with pytest.raises(TurnLost):
        await state.append(WEATHER, TURN, fence=fence)


@pytest.mark.usefixtures("newer")
async def test_newer_versions_append_while_they_compress(
    state: HermesStateStore, state_db: Path
) -> None:
    """After 0.19 an append may come while Hermes summarizes; what removes messages may not."""
    ask(
        state_db,
        "INSERT INTO compression_locks (session_id, holder, acquired_at, expires_at)"
        " VALUES (?, 'me', 0, ?)",
        *(TIP, time.time() + 60),
    )
    assert await state.append(COMPRESSED, TURN) == 6
    removing: tuple[Callable[[], Awaitable[Any]], ...] = (
        lambda: state.append(COMPRESSED, TURN, replace_from=4),
        lambda: state.rewind(COMPRESSED, 4),
        lambda: state.delete(COMPRESSED),
    )
    for remove in removing:
        with pytest.raises(SessionBusy):
            await remove()


async def test_a_lease_that_cannot_be_kept_or_read_is_an_error(
    state: HermesStateStore, state_db: Path
) -> None:
    """A damaged lease is told as such; a file without keys and values has none."""
    await state.acquire(WEATHER, 30)
    ask(state_db, "UPDATE state_meta SET value = '{}' WHERE key LIKE 'hermes_session_mw:lease:%'")
    with pytest.raises(StoreCorrupt, match="lease"):
        await state.acquire(WEATHER, 30)
    ask(state_db, "DROP TABLE state_meta")
    with pytest.raises(StoreMisconfigured, match=r"state_meta\.key"):
        await state.acquire(WEATHER, 30)


def hold(path: Path, conversation: str, seconds: float) -> None:
    """Have a Hermes hold the turn for so many seconds."""
    now = time.time()
    ask(
        path,
        "INSERT INTO session_turn_leases VALUES (?, ?, ?, ?)",
        *(conversation, "pid=1:birth=1", now, now + seconds),
    )
