"""What every `OwnerStore` promises, as tests; the store is a `LifecycleStore`, too."""

from typing import Any

import pytest

from hermes_session_mw import (
    AnswerStore,
    ErasureReceipt,
    InvalidKey,
    LifecycleStore,
    MemoryStore,
    MessageStore,
    OwnerStore,
    TurnLost,
)
from hermes_session_mw.testing.helpers import UNKNOWN, new_id, numbered, stored


async def _exported(store: OwnerStore, owner: str) -> list[str]:
    return [lines async for lines in store.export_owner(owner)]


@pytest.mark.anyio
class OwnerOperations:
    """All that an owner has is handed out, and erased."""

    async def test_it_is_an_owner_store(self, store: Any) -> None:
        """The store has all methods of both protocols."""
        assert isinstance(store, OwnerStore)
        assert isinstance(store, LifecycleStore)

    async def test_an_owner_is_exported(self, store: Any) -> None:
        """Each of the owner's sessions is exported as a session is, by id; no deleted one is."""
        owner = new_id()
        assert await _exported(store, owner) == []
        ids = sorted([await stored(store, number, owner) for number in (1, 2, 3, 4)])
        await stored(store, 2, new_id())
        await store.delete(ids.pop(2), owner)
        await store.acquire(new_id(), 60, owner)
        lines = await _exported(store, owner)
        assert lines == [await store.export(each, owner) for each in ids]
        elsewhere = MemoryStore()
        assert [await elsewhere.import_(each) for each in lines] == ids

    async def test_an_owner_is_erased(self, store: Any) -> None:
        """Nothing that the owner has is left, also of what is in use; others' sessions stay."""
        owner, other, key = new_id(), new_id(), new_id()
        session_id = await stored(store, 4, owner)
        await store.append(session_id, numbered(0), other)
        await store.bind_key(key, session_id, owner)
        await store.bind_key(key, session_id, other)
        await store.rewind(session_id, 1, owner)
        await store.set_metadata(session_id, {"a": "b"}, owner)
        await store.rename(session_id, "Title", owner)
        fence = await store.acquire(session_id, 60, owner)
        deleted = await stored(store, 2, owner)
        await store.delete(deleted, owner)
        leased = new_id()
        await store.acquire(leased, 60, owner)
        receipt = await store.erase_owner(owner)
        assert receipt == ErasureReceipt(sessions=1, messages=1, archived=3, keys=1, ids=2)
        assert await store.erase_owner(owner) == ErasureReceipt()
        assert await _exported(store, owner) == []
        assert await store.load(session_id, owner) == UNKNOWN
        assert list(await store.archived(session_id, owner)) == []
        assert await store.find_turn(session_id, "0", owner) is None
        assert await store.find_key(key, owner) is None
        assert await store.find_metadata(session_id, owner) is None
        with pytest.raises(TurnLost):
            await store.append(session_id, numbered(9), owner, fence=fence)
        assert (await store.load(session_id, other)).messages == numbered(0)
        assert await store.find_key(key, other) == session_id
        # The ids are free again, and later fences greater.
        for each in (session_id, deleted, leased):
            assert await store.append(each, numbered(5), owner) == 1
        assert await store.acquire(session_id, 60, owner) > fence

    async def test_many_sessions_are_erased(self, store: Any) -> None:
        """Sessions, and one of more than 1,000 messages beside them, are all counted."""
        owner = new_id()
        for number in range(60):
            await store.append(f"{number:03}", numbered(number), owner)
        for number in range(3):
            await store.append("large", numbered(number * 500, 500), owner)
        assert len(await _exported(store, owner)) == 61
        assert await store.erase_owner(owner) == ErasureReceipt(sessions=61, messages=1560)
        assert (await store.list(owner)).sessions == []

    async def test_a_running_answer_is_erased(self, store: Any) -> None:
        """Its question goes, too, and its writer finds that out."""
        if not isinstance(store, AnswerStore):
            pytest.skip("the store keeps no answers")
        owner, answer_id = new_id(), new_id()
        await store.begin_answer("s", answer_id, numbered(0), owner, lease=60)
        receipt = await store.erase_owner(owner)  # type: ignore[attr-defined]  # an OwnerStore, too
        assert (receipt.answers, receipt.sessions + receipt.ids) == (1, 1)
        with pytest.raises(TurnLost):
            await store.write_events("s", answer_id, 1, ["1"], owner, fence=1, lease=60)
        assert await store.find_answer(answer_id, owner) is None

    async def test_ids_of_messages_are_erased(self, store: Any) -> None:
        """A message is found by its id no longer, and is stored again under it."""
        if not isinstance(store, MessageStore):
            pytest.skip("the store keeps no ids of messages")
        owner = new_id()
        await store.append("s", numbered(0, 2), owner, message_ids=["a", "b"])
        receipt = await store.erase_owner(owner)  # type: ignore[attr-defined]  # an OwnerStore, too
        assert receipt == ErasureReceipt(sessions=1, messages=2, message_ids=2)
        assert await store.find_message("a", owner) is None
        assert await store.append("s", numbered(0), owner, message_ids=["a"]) == 1

    async def test_a_receipt_tells_no_text(self, store: Any) -> None:
        """It has counts, and nothing of what was erased."""
        owner = new_id()
        await store.append("secret", [{"content": "secret"}], owner)
        assert "secret" not in repr(await store.erase_owner(owner))


@pytest.mark.anyio
class OwnerArguments:
    """What a store refuses before it asks its database."""

    @pytest.mark.parametrize("value", ["x" * 256, "a\0b", "\ud800", b"bytes", None])
    async def test_an_owner_that_cannot_be_stored_is_refused(self, store: Any, value: Any) -> None:
        """No method takes an owner that some database could not hold."""
        with pytest.raises(InvalidKey):
            await store.erase_owner(value)
        with pytest.raises(InvalidKey):
            await _exported(store, value)

    async def test_what_has_no_owner_is_erased_on_demand_only(self, store: Any) -> None:
        """The owner "" is refused, as everybody without an owner has it."""
        session_id = await stored(store, 1)
        with pytest.raises(InvalidKey, match="ownerless"):
            await store.erase_owner("")
        assert (await store.load(session_id)).length == 1


class OwnerContract(OwnerOperations, OwnerArguments):
    """What an `OwnerStore` promises; a subclass has the fixture ``store``."""
