"""What a `LifecycleStore` promises of leases: one holder at a time, fenced by growing numbers."""

import anyio
import pytest

from hermes_session_mw import (
    LifecycleStore,
    SessionBusy,
    SessionDeleted,
    TurnLost,
)
from hermes_session_mw.testing.helpers import (
    SUMMARY,
    UNKNOWN,
    begin,
    new_id,
    numbered,
    pruned,
    stored,
)


@pytest.mark.anyio
class LeaseOperations:
    """The exclusive right to add a turn: its holder, its end, and its fence."""

    async def test_one_has_the_turn(self, store: LifecycleStore) -> None:
        """Of many concurrent requests one acquires the lease; the others get its longest time."""
        session_id = await stored(store)
        fences: list[int] = []
        waits: list[float] = []

        async def ask() -> None:
            try:
                fences.append(await store.acquire(session_id, 30))
            except SessionBusy as busy:
                waits.append(busy.retry_after)

        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(ask)
        assert len(fences) == 1
        assert len(waits) == 5
        assert all(0 <= wait <= 30 for wait in waits)
        await store.release(session_id, fences[0])
        assert await store.acquire(session_id, 30) > fences[0]

    async def test_a_lease_ends(self, store: LifecycleStore) -> None:
        """A holder may write after its lease has expired, until another request acquires it."""
        session_id = await stored(store)
        late = await store.acquire(session_id, 0.05)
        await store.extend(session_id, late, 0.05)
        fence = await self.wait_for_turn(store, session_id)
        assert fence > late
        for write in (
            lambda: store.append(session_id, numbered(9), fence=late),
            lambda: store.rewind(session_id, 0, fence=late),
            lambda: store.compact(session_id, numbered(0), SUMMARY, fence=late),
            lambda: store.extend(session_id, late, 30),
        ):
            with pytest.raises(TurnLost):
                await write()
        await store.release(session_id, late)
        with pytest.raises(SessionBusy):
            await store.acquire(session_id, 30)
        assert await store.append(session_id, numbered(4), fence=fence) == 5
        assert await store.rewind(session_id, 4, fence=fence) == 4
        assert await store.compact(session_id, numbered(0, 3), SUMMARY, fence=fence) == 2

    async def test_nobody_waits_without_asking(self, store: LifecycleStore) -> None:
        """An append without a fence is stored while another request holds the lease."""
        session_id = await stored(store)
        fence = await store.acquire(session_id, 30)
        assert await store.append(session_id, numbered(4)) == 5
        assert await store.append(session_id, numbered(5), fence=fence) == 6

    async def test_a_turn_alone_is_no_session(self, store: LifecycleStore) -> None:
        """A lease on an unknown session leaves it unknown; a deleted session has no lease."""
        owner, session_id = new_id(), new_id()
        fence = await store.acquire(session_id, 30, owner)
        assert await store.load(session_id, owner) == UNKNOWN
        assert await store.info(session_id, owner) is None
        assert (await store.list(owner)).sessions == []
        assert not await store.rename(session_id, "x", owner)
        assert not await store.delete(session_id, owner)
        assert await store.append(session_id, numbered(0), owner, fence=fence) == 1
        await store.delete(session_id, owner)
        with pytest.raises(SessionDeleted):
            await store.acquire(session_id, 30, owner)
        with pytest.raises((TurnLost, SessionDeleted)):
            await store.extend(session_id, fence, 30, owner)
        await store.release(session_id, fence, owner)

    @pytest.mark.parametrize("ending", ["pruned", "deleted", "rotated", "taken alone"])
    async def test_fences_grow_over_a_prune(self, store: LifecycleStore, ending: str) -> None:
        """A fence from before a prune is refused afterwards, however the session ended."""
        session_id = await stored(store) if ending != "taken alone" else new_id()
        for _ in range(2):
            await store.release(session_id, await store.acquire(session_id, 30))
        late = await store.acquire(session_id, 0.05)
        if ending == "pruned":
            await store.append(session_id, numbered(4), fence=late)
        elif ending == "deleted":
            assert await store.delete(session_id)
        elif ending == "rotated":
            assert await store.rotate(session_id, new_id())
        await pruned(store, session_id)
        with pytest.raises(TurnLost):
            await store.append(session_id, numbered(9), fence=late)
        with pytest.raises(TurnLost):
            await store.extend(session_id, late, 30)
        fence = await store.acquire(session_id, 30)
        assert fence > late
        await store.release(session_id, late)
        with pytest.raises(SessionBusy):
            await store.acquire(session_id, 30)
        assert await store.append(session_id, numbered(0), fence=fence) == 1
        with pytest.raises(TurnLost):
            await store.append(session_id, numbered(9), fence=late)
        assert (await store.load(session_id)).messages == numbered(0)

    @pytest.mark.parametrize("first", ["append", "fork", "import", "rotate"])
    async def test_a_fence_of_a_pruned_session_is_refused_in_any_session(
        self, store: LifecycleStore, first: str
    ) -> None:
        """A fence of a pruned session is refused in whatever session begins under its id."""
        session_id = await stored(store)
        late = await store.acquire(session_id, 0.05)
        await pruned(store, session_id)
        await begin(store, session_id, first)
        for write in (
            lambda: store.append(session_id, numbered(9), fence=late),
            lambda: store.rewind(session_id, 0, fence=late),
            lambda: store.extend(session_id, late, 30),
        ):
            with pytest.raises(TurnLost):
                await write()
        assert await store.acquire(session_id, 30) > late
        assert (await store.load(session_id)).messages == numbered(0)

    @pytest.mark.parametrize("first", ["fork", "import", "rotate"])
    async def test_a_turn_alone_keeps_no_id(self, store: LifecycleStore, first: str) -> None:
        """A session may begin under an id that has only a lease; its fences keep growing."""
        session_id = new_id()
        for _ in range(3):
            late = await store.acquire(session_id, 30)
            await store.release(session_id, late)
        await begin(store, session_id, first)
        assert (await store.load(session_id)).messages == numbered(0)
        assert await store.acquire(session_id, 30) > late
        with pytest.raises(TurnLost):
            await store.append(session_id, numbered(9), fence=late)

    async def test_a_rotation_ends_the_turn(self, store: LifecycleStore) -> None:
        """After a rotation a holder of the lease writes under neither of the two ids."""
        old, new = await stored(store), new_id()
        fence = await store.acquire(old, 30)
        assert await store.rotate(old, new)
        with pytest.raises(SessionDeleted):
            await store.append(old, numbered(9), fence=fence)
        for session_id in (old, new):
            with pytest.raises(TurnLost):
                await store.extend(session_id, fence, 30)
        with pytest.raises(TurnLost):
            await store.append(new, numbered(9), fence=fence)
        assert await store.acquire(new, 30) > fence

    async def wait_for_turn(self, store: LifecycleStore, session_id: str) -> int:
        """Return the fence of the lease, once it is free."""
        with anyio.fail_after(60):
            while True:
                try:
                    return await store.acquire(session_id, 30)
                except SessionBusy:
                    await anyio.sleep(0.01)
