"""What a `LifecycleStore` promises of lists, titles, deletions, exports and keys."""

import json
from datetime import datetime
from typing import Any

import anyio
import pytest

from hermes_session_mw import (
    LifecycleStore,
    MemoryStore,
    SessionConflict,
    SessionNotFound,
)
from hermes_session_mw.testing import example_messages
from hermes_session_mw.testing.helpers import (
    DELETED,
    export_of,
    new_id,
    numbered,
    stored,
)


@pytest.mark.anyio
class SessionListOperations:
    """Lists, titles, deletions, exports and keys of sessions."""

    async def test_sessions_are_listed_by_owner(self, store: LifecycleStore) -> None:
        """An owner's sessions are listed with their descriptions, and no other owner's."""
        owner = new_id()
        ids = {await stored(store, count, owner) for count in (1, 2, 3)}
        deleted = await stored(store, 1, owner)
        await store.delete(deleted, owner)
        await stored(store, 1, new_id())
        page = await store.list(owner)
        assert {each.id for each in page.sessions} == ids
        assert (page.cursor, sorted(each.length for each in page.sessions)) == (None, [1, 2, 3])
        for each in page.sessions:
            assert each == await store.info(each.id, owner)
            assert each.created_at <= each.updated_at
            assert each.created_at.utcoffset() is not None
        times = [each.updated_at for each in page.sessions]
        assert times == sorted(times, reverse=True)
        assert (await store.list(new_id())).sessions == []

    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
    async def test_pages_give_each_session_once(self, store: LifecycleStore, limit: int) -> None:
        """Over all pages each session comes once, also if others are deleted meanwhile."""
        owner = new_id()
        ids = {await stored(store, 1, owner) for _ in range(7)}
        seen: list[str] = []
        cursor: str | None = None
        while True:
            page = await store.list(owner, limit, cursor)
            assert len(page.sessions) <= limit
            seen += [each.id for each in page.sessions]
            await store.delete(seen[-1], owner)
            cursor = page.cursor
            if cursor is None:
                break
        assert sorted(seen) == sorted(ids)

    async def test_a_session_is_named(self, store: LifecycleStore) -> None:
        """A title is any text, or none; it changes nothing else."""
        session_id = await stored(store)
        before = await store.info(session_id)
        for title in ("Z\u00fcrich \U0001f3d4 \u201equoted\u201c", "", "x" * 500, "a\nb", None):
            assert await store.rename(session_id, title)
            info = await store.info(session_id)
            assert info is not None
            assert before is not None
            assert (info.title, info.updated_at, info.length) == (title, before.updated_at, 4)
        assert not await store.rename(new_id(), "x")
        titles: list[Any] = ["x" * 501, "a\0", "\ud800", 7]
        for title in titles:
            with pytest.raises(ValueError, match="title"):
                await store.rename(session_id, title)

    async def test_a_deleted_session_is_gone(self, store: LifecycleStore) -> None:
        """History, archive, turns, title and keys are gone, and the id is not used again."""
        session_id, key = await stored(store), new_id()
        await store.rewind(session_id, 2)
        await store.move_key(key, session_id)
        assert await store.delete(session_id)
        assert not await store.delete(session_id)
        assert await store.load(session_id) == DELETED
        assert list(await store.archived(session_id)) == []
        assert await store.find_turn(session_id, "0") is None
        assert await store.info(session_id) is None
        assert await store.find_key(key) is None
        with pytest.raises(SessionConflict):
            await store.import_(export_of(numbered(0)), session_id=session_id)

    async def test_a_session_is_exported_and_imported(self, store: LifecycleStore) -> None:
        """An export is imported under another id, owner or store, unchanged, with its turns."""
        session_id, other, owner = new_id(), new_id(), new_id()
        sent = [*example_messages.REALISTIC, *example_messages.FINE.values()]
        await store.append(session_id, sent, turn_id="t")
        await store.append(session_id, [*numbered(0, 3)])
        await store.rewind(session_id, len(sent) + 1)
        await store.compact(session_id, sent[:1], [sent[0]])
        await store.rename(session_id, "T\u00eftle")
        lines = await store.export(session_id)
        assert await store.import_(lines, session_id=other) == other
        assert await store.import_(lines, owner) == session_id
        elsewhere = MemoryStore()
        assert await elsewhere.import_(lines) == session_id
        assert await elsewhere.export(session_id) == lines
        for place, whose, name in ((store, "", other), (store, owner, session_id)):
            history = await place.load(name, whose)
            assert json.dumps([*sent, {"n": 0}]) == json.dumps(history.messages)
            info = await place.info(name, whose)
            assert info is not None
            assert (info.title, info.length) == ("T\u00eftle", len(sent) + 1)
            turn = await place.find_turn(name, "t", whose)
            assert turn is not None
            assert await place.append(name, turn.messages, whose, turn_id="t") == len(sent)
            assert await place.append(name, numbered(1), whose) == len(sent) + 2
        with pytest.raises(SessionConflict):
            await store.import_(lines, session_id=other)
        with pytest.raises(SessionNotFound):
            await store.export(new_id())

    @pytest.mark.parametrize("year", ["0001", "1969", "9999"])
    async def test_an_import_was_made_at_some_time(self, store: LifecycleStore, year: str) -> None:
        """An impossible time of creation is replaced by a possible one."""
        session_id = new_id()
        lines = export_of(numbered(0)).replace("2026-01", f"{year}-01").replace("Z", "+14:00")
        await store.import_(lines, session_id=session_id)
        info = await store.info(session_id)
        assert info is not None
        assert 1970 <= info.created_at.year < 9999

    async def test_an_import_keeps_when_a_session_was_changed(self, store: LifecycleStore) -> None:
        """It is as in the export, and now if that does not tell, or if it is still to come."""
        owner, lines = new_id(), export_of(numbered(0))
        head, _, rows = lines.partition("\n")
        old, later = (
            json.dumps({**json.loads(head), "updated_at": at}) + "\n" + rows
            for at in ("2026-02-03T05:05:06.5+01:00", "9999-01-01T00:00:00Z")
        )
        first = await stored(store, 1, owner)
        for name, text in (("old", old), ("untold", lines), ("later", later)):
            await store.import_(text, owner, name)
        last = await stored(store, 1, owner)
        *_, oldest = listed = (await store.list(owner)).sessions
        times = {each.id: each.updated_at for each in listed}
        assert oldest.id == "old"
        assert oldest.updated_at.replace(microsecond=0).isoformat() == "2026-02-03T04:05:06+00:00"
        assert times[first] <= times["untold"] <= times["later"] <= times[last]
        # Whoever prunes the same database in a test of his own does not find it.
        await store.delete("old", owner)

    async def test_an_import_keeps_when_messages_were_stored(self, store: LifecycleStore) -> None:
        """It is as in the export, now without a time or with one to come, and never before 1970."""
        owner = new_id()
        head, *rows = (json.loads(line) for line in export_of(numbered(0, 4)).splitlines())
        rows[0]["created_at"] = "2026-02-03T05:05:06.5+01:00"
        rows[2]["created_at"] = "9999-01-01T00:00:00Z"
        rows[3]["created_at"] = "0001-01-01T00:00:00Z"
        lines = "\n".join(json.dumps(each) for each in (head, *rows))
        first = await store.info(await stored(store, 1, owner), owner)
        await store.import_(lines, owner, "old")
        last = await store.info(await stored(store, 1, owner), owner)
        assert first is not None
        assert last is not None
        again = (await store.export("old", owner)).splitlines()[1:]
        assert [json.loads(row)["message"] for row in again] == numbered(0, 4)
        old, *untold, oldest = (
            datetime.fromisoformat(json.loads(row)["created_at"]) for row in again
        )
        assert old.replace(microsecond=0).isoformat() == "2026-02-03T04:05:06+00:00"
        assert all(first.created_at <= each <= last.created_at for each in untold)
        assert oldest.year == 1970
        await store.import_("\n".join((json.dumps(head), *again)), owner, "older")
        assert (await store.export("older", owner)).splitlines()[1:] == again
        for name in ("old", "older"):  # for the prune of another test's
            await store.delete(name, owner)

    async def test_a_key_leads_to_one_session(self, store: LifecycleStore) -> None:
        """A key is bound once, moved, and dropped, without an effect on other keys and owners."""
        key, owner = new_id(), new_id()
        assert await store.find_key(key, owner) is None
        assert await store.bind_key(key, "a", owner) == "a"
        assert await store.bind_key(key, "b", owner) == "a"
        await store.move_key(key, "c", owner)
        assert await store.find_key(key, owner) == "c"
        for other in (key.upper() + "X", key + " ", key + "\u00e4"):
            assert await store.find_key(other, owner) is None
        assert await store.find_key(key, new_id()) is None
        await store.move_key(key + "2", "d", owner)
        assert await store.drop_key(key, owner)
        assert not await store.drop_key(key, owner)
        assert await store.find_key(key, owner) is None
        assert await store.find_key(key + "2", owner) == "d"

    async def test_who_binds_a_key_at_once_agrees(self, store: LifecycleStore) -> None:
        """Concurrent bindings of a key all return the same session."""
        key = new_id()
        bound: list[str] = []

        async def bind(number: int) -> None:
            bound.append(await store.bind_key(key, f"session-{number}"))

        async with anyio.create_task_group() as tasks:
            for number in range(6):
                tasks.start_soon(bind, number)
        assert len(set(bound)) == 1
        assert await store.find_key(key) == bound[0]
