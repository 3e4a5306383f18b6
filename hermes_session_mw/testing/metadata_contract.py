"""What a `LifecycleStore` promises of a session's metadata."""

from typing import Any

import pytest

from hermes_session_mw import (
    InvalidMessage,
    LifecycleStore,
    MemoryStore,
    SessionConflict,
    SessionDeleted,
)
from hermes_session_mw.testing.helpers import begin, new_id, numbered, pruned, stored


@pytest.mark.anyio
class MetadataOperations:
    """Metadata lives as long as its session, and goes where that goes."""

    async def test_metadata_is_set_and_replaced(self, store: LifecycleStore) -> None:
        """It is any JSON object, of one owner's session, and changes nothing else of it."""
        session_id, owner = new_id(), new_id()
        await store.append(session_id, numbered(0), owner)
        before = await store.info(session_id, owner)
        assert await store.find_metadata(session_id, owner) is None
        for metadata in ({"a": "Z\u00fcrich \0 \U0001f3d4"}, {"b": [1, {"c": None}]}, {}, {}):
            await store.set_metadata(session_id, metadata, owner)
            assert await store.find_metadata(session_id, owner) == metadata
        assert await store.info(session_id, owner) == before
        assert await store.find_metadata(session_id, new_id()) is None
        assert await store.find_metadata(new_id(), owner) is None

    async def test_metadata_comes_before_messages(self, store: LifecycleStore) -> None:
        """A session may have metadata before it has a turn; it is not listed until then."""
        session_id, owner = new_id(), new_id()
        await store.set_metadata(session_id, {"a": "b"}, owner)
        assert await store.find_metadata(session_id, owner) == {"a": "b"}
        assert await store.info(session_id, owner) is None
        assert (await store.list(owner)).sessions == []
        assert not (await store.load(session_id, owner)).exists
        assert await store.append(session_id, numbered(0), owner, expected_length=0) == 1
        assert await store.find_metadata(session_id, owner) == {"a": "b"}

    @pytest.mark.parametrize("value", [{"a": "\ud800"}, {"a": float("nan")}, {1: "a"}, [], "a"])
    async def test_what_is_no_metadata_is_refused(self, store: LifecycleStore, value: Any) -> None:
        """What no JSON object can be is not stored."""
        session_id = await stored(store)
        await store.set_metadata(session_id, {"a": "b"})
        with pytest.raises(InvalidMessage, match="metadata"):
            await store.set_metadata(session_id, value)
        assert await store.find_metadata(session_id) == {"a": "b"}

    @pytest.mark.parametrize("count", [0, 4])
    async def test_metadata_is_deleted_with_its_session(
        self, store: LifecycleStore, count: int
    ) -> None:
        """Also where it is all that there is of the session, whose id is not used again."""
        session_id = await stored(store, count)
        await store.set_metadata(session_id, {"a": "b"})
        assert await store.delete(session_id)
        assert await store.find_metadata(session_id) is None
        assert not await store.delete(session_id)
        with pytest.raises(SessionDeleted):
            await store.set_metadata(session_id, {"a": "b"})

    @pytest.mark.parametrize("to_owner", ["", "ada"])
    @pytest.mark.parametrize("count", [0, 4])
    async def test_metadata_is_rotated_with_its_session(
        self, store: LifecycleStore, count: int, to_owner: str
    ) -> None:
        """It is under the new id, and not under the old one, which was used."""
        old, new = await stored(store, count), new_id()
        await store.set_metadata(old, {"a": "b"})
        assert await store.rotate(old, new, "", to_owner)
        assert await store.find_metadata(new, to_owner) == {"a": "b"}
        assert await store.find_metadata(old) is None
        assert (await store.load(new, to_owner)).length == count
        assert not await store.delete(old)
        with pytest.raises(SessionDeleted):
            await store.set_metadata(old, {})

    @pytest.mark.parametrize("how", ["fork", "import", "rotate"])
    async def test_an_id_with_metadata_is_in_use(self, store: LifecycleStore, how: str) -> None:
        """No other session takes the id, and with it the metadata."""
        session_id = new_id()
        await store.set_metadata(session_id, {"a": "b"})
        with pytest.raises(SessionConflict):
            await begin(store, session_id, how)
        with pytest.raises(SessionConflict):
            await store.rotate(new_id(), session_id)
        assert await store.find_metadata(session_id) == {"a": "b"}

    async def test_metadata_is_exported_and_not_forked(self, store: LifecycleStore) -> None:
        """An export has it, and so has what is imported; a fork is a conversation of its own."""
        session_id, fork, other = await stored(store), new_id(), new_id()
        await store.set_metadata(session_id, {"a": "b"})
        await store.fork(session_id, fork)
        assert await store.find_metadata(fork) is None
        lines = await store.export(session_id)
        await store.import_(lines, session_id=other)
        assert await store.find_metadata(other) == {"a": "b"}
        elsewhere = MemoryStore()
        assert await elsewhere.import_(lines) == session_id
        assert await elsewhere.export(session_id) == lines

    async def test_metadata_is_pruned_with_its_session(self, store: LifecycleStore) -> None:
        """What no message keeps from being pruned is gone, and its id is free."""
        session_id = new_id()
        await store.set_metadata(session_id, {"a": "b"})
        await pruned(store, session_id)
        assert await store.find_metadata(session_id) is None
        await store.append(session_id, numbered(0))
        assert await store.find_metadata(session_id) is None
