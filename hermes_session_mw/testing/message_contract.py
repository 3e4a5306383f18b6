"""What every `MessageStore` promises beside `LifecycleStore`, as tests."""

from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from hermes_session_mw import (
    ANY,
    History,
    HistoryRange,
    InvalidKey,
    InvalidMessage,
    MessageStore,
    SessionConflict,
    SessionDeleted,
    StoredMessage,
    TurnConflict,
    TurnLost,
)
from hermes_session_mw.testing.helpers import (
    EMPTY,
    UNKNOWN,
    archive_of,
    new_id,
    numbered,
    stored,
)


async def numbers_of(store: MessageStore, session_id: str, owner: str = "") -> list[int]:
    """Return the numbers of the history's messages."""
    return [each["n"] for each in (await store.load(session_id, owner)).messages]


async def ids_of(store: MessageStore, session_id: str, owner: str = "") -> list[str | None]:
    """Return the ids of the history's messages."""
    return [each.message_id for each in (await store.load_range(session_id, owner)).messages]


@pytest.mark.anyio
class MessageOperations:
    """Single messages, ranges, documents, and sessions that are cleared."""

    async def test_it_is_a_message_store(self, store: MessageStore) -> None:
        """The store has all of the protocol's methods."""
        assert isinstance(store, MessageStore)

    async def test_the_newest_messages_are_popped(self, store: MessageStore) -> None:
        """A pop archives the newest messages and returns them, or as many as there are."""
        session_id = await stored(store)
        assert await store.pop(session_id) == numbered(3)
        assert await store.pop(session_id, 2) == numbered(1, 2)
        assert await store.pop(session_id, 0) == []
        assert await store.load(session_id) == History(numbered(0), 1, exists=True)
        assert await archive_of(store, session_id) == [
            (3, "3", "rewind"),
            (1, "1", "rewind"),
            (2, "2", "rewind"),
        ]
        assert await store.pop(session_id, 5) == numbered(0)
        assert await store.pop(session_id) == []
        assert await store.load(session_id) == EMPTY
        assert await store.append(session_id, numbered(7), expected_length=0) == 1
        assert await store.pop(new_id()) == []

    async def test_who_pops_at_once_gets_other_messages(self, store: MessageStore) -> None:
        """Concurrent pops return each message once."""
        session_id = new_id()
        await store.append(session_id, numbered(0, 9))
        popped: list[int] = []

        async def pop() -> None:
            popped.extend(each["n"] for each in await store.pop(session_id, 2))

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(pop)
        assert sorted(popped) == list(range(1, 9))
        assert await numbers_of(store, session_id) == [0]

    async def test_an_edit_expects_what_it_saw(self, store: MessageStore) -> None:
        """A rewind with another expected length is refused, also one that would change nothing."""
        session_id = await stored(store)
        for length in (1, 4, 9):
            with pytest.raises(SessionConflict) as caught:
                await store.rewind(session_id, length, expected_length=3)
            assert (caught.value.expected, caught.value.actual) == (3, 4)
        assert await numbers_of(store, session_id) == [0, 1, 2, 3]
        assert await store.rewind(session_id, 1, expected_length=4) == 1
        with pytest.raises(SessionConflict):
            await store.rewind(new_id(), 0, expected_length=1)
        assert await store.rewind(new_id(), 0, expected_length=0) == 0

    async def test_a_compaction_without_a_summary_archives(self, store: MessageStore) -> None:
        """The messages are archived, and nothing comes in their place, also if none is left."""
        session_id = await stored(store)
        assert await store.compact(session_id, numbered(0), []) == 3
        assert await store.compact(session_id, [], [], skipped=1) == 2
        assert await numbers_of(store, session_id) == [2, 3]
        assert [n for n, _, _ in await archive_of(store, session_id)] == [0, 1]
        assert await store.append(session_id, numbered(4), turn_id="4") == 3
        assert await store.append(session_id, numbered(3), turn_id="3") == 2
        assert await store.compact(session_id, numbered(2, 3), []) == 0
        assert await store.load(session_id) == EMPTY
        assert await store.append(session_id, numbered(5), expected_length=0) == 1
        assert await numbers_of(store, session_id) == [5]
        with pytest.raises(ValueError, match="nothing"):
            await store.compact(session_id, [], [])

    async def test_a_cleared_session_is_gone_and_its_id_is_free(self, store: MessageStore) -> None:
        """Nothing of it is left, and what is stored under the id then is a new session."""
        session_id, owner, key = new_id(), new_id(), new_id()
        await store.append(session_id, numbered(0, 3), owner, "t", message_ids=["a", "b", None])
        await store.append(session_id, numbered(3), owner, turn_id="u")
        await store.pop(session_id, 1, owner)
        await store.set_metadata(session_id, {"a": "b"}, owner)
        await store.rename(session_id, "Title", owner)
        await store.move_key(key, session_id, owner)
        assert await store.clear(session_id, owner)
        assert not await store.clear(session_id, owner)
        assert await store.load(session_id, owner) == UNKNOWN
        assert list(await store.archived(session_id, owner)) == []
        assert await store.find_turn(session_id, "t", owner) is None
        assert await store.find_message("a", owner) is None
        assert await store.find_metadata(session_id, owner) is None
        assert await store.info(session_id, owner) is None
        assert (await store.list(owner)).sessions == []
        assert await store.find_key(key, owner) == session_id
        again = await store.append(
            session_id, numbered(7, 2), owner, "t", 0, message_ids=["b", "a"]
        )
        assert again == 2
        assert await numbers_of(store, session_id, owner) == [7, 8]
        info = await store.info(session_id, owner)
        assert info is not None
        assert (info.title, info.length) == (None, 2)

    async def test_what_is_there_to_clear(self, store: MessageStore) -> None:
        """Metadata alone is something, a lease is not, and a deleted session is an error."""
        session_id = new_id()
        assert not await store.clear(session_id)
        await store.set_metadata(session_id, {"a": "b"})
        assert await store.clear(session_id)
        await store.set_metadata(session_id, {}, expected=None)
        deleted = await stored(store)
        await store.delete(deleted)
        with pytest.raises(SessionDeleted):
            await store.clear(deleted)
        with pytest.raises(SessionDeleted):
            await store.pop(deleted)

    async def test_a_held_lease_stays_held(self, store: MessageStore) -> None:
        """Its holder may clear the session and go on; a late one may neither clear nor pop."""
        session_id = await stored(store)
        late = await store.acquire(session_id, 30)
        await store.release(session_id, late)
        fence = await store.acquire(session_id, 30)
        for edit in (store.clear(session_id, fence=late), store.pop(session_id, fence=late)):
            with pytest.raises(TurnLost):
                await edit
        assert await store.pop(session_id, fence=fence) == numbered(3)
        assert await store.clear(session_id, fence=fence)
        assert await store.append(session_id, numbered(7), fence=fence) == 1
        await store.extend(session_id, fence, 30)
        with pytest.raises(TurnLost):
            await store.append(session_id, numbered(8), fence=late)
        await store.release(session_id, fence)
        assert await store.acquire(session_id, 30) > fence

    async def test_an_answer_that_runs_is_cleared_with_its_session(self, store: Any) -> None:
        """Its writer stores nothing more, it is not found, and its lease is free."""
        if not hasattr(store, "begin_answer"):
            pytest.skip("the store keeps no answers")
        session_id, answer_id = await stored(store), new_id()
        fence = await store.begin_answer(session_id, answer_id, numbered(4), lease=60)
        await store.write_events(session_id, answer_id, 1, ['{"e":1}'], fence=fence, lease=60)
        assert await store.clear(session_id)
        assert await store.find_answer(answer_id) is None
        assert await store.open_answer(session_id) is None
        with pytest.raises(TurnLost):
            await store.write_events(session_id, answer_id, 2, ['{"e":2}'], fence=fence, lease=60)
        assert await store.load(session_id) == UNKNOWN
        assert await store.acquire(session_id, 30) > fence

    async def test_a_range_says_where_each_message_stands(self, store: MessageStore) -> None:
        """Messages come with their indexes, turns, ids and times, oldest first."""
        session_id, owner = new_id(), new_id()
        begun = datetime.now(UTC) - timedelta(minutes=5)
        await store.append(session_id, numbered(0, 2), owner, "t", message_ids=["a", None])
        await store.append(session_id, numbered(2), owner, "u")
        assert await store.load_range(session_id, new_id()) == HistoryRange([], 0, None)
        assert (await store.load_range(session_id, owner)).metadata is None
        await store.set_metadata(session_id, {"a": "b"}, owner)
        found = await store.load_range(session_id, owner)
        assert (found.length, found.metadata) == (3, {"a": "b"})
        times = [each.created_at for each in found.messages]
        assert times == sorted(times)
        assert begun < times[0] <= times[-1] < begun + timedelta(minutes=10)
        assert all(time.utcoffset() == timedelta(0) for time in times)
        assert found.messages == [
            StoredMessage({"n": 0}, 0, "t", "a", times[0]),
            StoredMessage({"n": 1}, 1, "t", None, times[1]),
            StoredMessage({"n": 2}, 2, "u", None, times[2]),
        ]

    async def test_a_range_begins_and_ends_anywhere(self, store: MessageStore) -> None:
        """It begins at an index from either end, and has as many messages as are wanted."""
        session_id = await stored(store, 2)
        await store.append(session_id, numbered(2, 6))
        await store.compact(session_id, [], [], skipped=1)
        everything = list(range(7))
        for start in (0, 1, 6, 7, 99, -1, -3, -7, -99):
            for limit in (None, 0, 1, 3, 99):
                found = await store.load_range(session_id, "", start, limit)
                expected = everything[start:][:limit]
                assert [each.index for each in found.messages] == expected
                assert [each.message["n"] - 1 for each in found.messages] == expected
                assert found.length == 7

    async def test_a_range_begins_at_a_time(self, store: MessageStore) -> None:
        """Only messages that were appended then or later count, and the start is among those."""
        session_id = new_id()
        await store.append(session_id, numbered(0, 2))
        first = (await store.load_range(session_id)).messages[-1].created_at
        with anyio.fail_after(60):
            while True:
                length = await store.append(session_id, numbered(9))
                later = (await store.load_range(session_id)).messages[-1].created_at
                if later > first:
                    break
                await anyio.sleep(0.05)  # the database's clock may count in seconds
        await store.append(session_id, numbered(10))

        async def indexes(since: datetime, start: int = 0, limit: int | None = None) -> list[int]:
            found = await store.load_range(session_id, "", start, limit, since=since)
            assert found.length == length + 1
            return [each.index for each in found.messages]

        assert await indexes(first) == list(range(length + 1))
        assert await indexes(later) == [length - 1, length]
        assert await indexes(later.astimezone(None), 1) == [length]
        assert await indexes(later, -1) == [length]
        assert await indexes(later, 0, 1) == [length - 1]
        assert await indexes(later + timedelta(days=1)) == []

    async def test_a_deleted_session_has_no_range(self, store: MessageStore) -> None:
        """An unknown session, and a deleted one, have no messages and no metadata."""
        session_id = await stored(store)
        await store.set_metadata(session_id, {"a": "b"})
        await store.delete(session_id)
        for nothing in (session_id, new_id()):
            assert await store.load_range(nothing) == HistoryRange([], 0, None)

    async def test_a_message_with_a_known_id_is_not_stored_again(self, store: MessageStore) -> None:
        """Appends may overlap: what is new is stored, in order, and nothing is compared."""
        session_id = new_id()
        assert await store.append(session_id, numbered(0, 2), message_ids=["a", "b"]) == 2
        assert await store.append(session_id, numbered(9, 3), message_ids=["b", "c", None]) == 4
        assert await numbers_of(store, session_id) == [0, 1, 10, 11]
        assert await ids_of(store, session_id) == ["a", "b", "c", None]
        before = await store.info(session_id)
        known = ["c", "a"]
        assert await store.append(session_id, numbered(5, 2), "", "t", message_ids=known) == 4
        assert await store.info(session_id) == before
        assert await store.find_turn(session_id, "t") is None
        with pytest.raises(SessionConflict):
            await store.append(session_id, numbered(5), expected_length=3, message_ids=["a"])
        # Ids compare byte for byte, and are of one session.
        alike = ["A", "a ", "\u00e4", "a\u0308"]
        assert await store.append(session_id, numbered(12, 4), message_ids=alike) == 8
        assert await store.append(new_id(), numbered(0), message_ids=["a"]) == 1
        assert await store.append(session_id, numbered(0), new_id(), message_ids=["a"]) == 1

    async def test_a_turn_with_ids_is_repeated_by_its_own(self, store: MessageStore) -> None:
        """A repeated turn stores nothing, and is compared only where no message has an id."""
        session_id = new_id()
        await store.append(session_id, numbered(0), message_ids=["a"])

        async def turn(*numbers: int, ids: list[str | None] | None) -> int:
            messages = [{"n": n} for n in numbers]
            return await store.append(
                session_id, messages, turn_id="t", message_ids=ids, metadata={"of": list(numbers)}
            )

        assert await turn(0, 1, ids=["a", "b"]) == 2
        await store.append(session_id, numbered(2))
        assert await turn(0, 7, ids=["a", "b"]) == 2
        assert await turn(8, 9, ids=["c", None]) == 2
        assert await turn(1, ids=[None]) == 2
        with pytest.raises(TurnConflict):
            await turn(7, ids=None)
        with pytest.raises(TurnConflict):
            await turn(7, ids=[None])
        assert await numbers_of(store, session_id) == [0, 1, 2]
        assert await store.find_metadata(session_id) == {"of": [0, 1]}

    async def test_an_id_is_free_when_its_message_has_left(self, store: MessageStore) -> None:
        """What is popped, rewound, replaced or compacted can be stored again."""
        session_id, owner = new_id(), new_id()

        async def append(*ids: str, replace_from: int | None = None) -> list[str | None]:
            messages = numbered(0, len(ids))
            await store.append(
                session_id, messages, owner, message_ids=ids, replace_from=replace_from
            )
            return await ids_of(store, session_id, owner)

        await append("a", "b", "c", "d")
        await store.pop(session_id, 1, owner)
        assert await append("d") == ["a", "b", "c", "d"]
        await store.rewind(session_id, 2, owner)
        assert await append("b", "c") == ["a", "b", "c"]
        assert await append("a", "b", "e", replace_from=1) == ["a", "b", "e"]
        assert [n for n, _, _ in await archive_of(store, session_id, owner)] == [3, 2, 0, 1, 1]
        assert await append("a", replace_from=1) == ["a"]
        await store.compact(session_id, [], [{"n": 7}], owner, skipped=1)
        assert await store.find_message("a", owner) is None
        assert await append("a") == [None, "a"]

    async def test_ids_go_where_their_messages_go(self, store: MessageStore) -> None:
        """A fork has the same ids, a rotation moves them, and an import has none."""
        owner, session_id, fork, moved = (new_id() for _ in range(4))
        await store.append(session_id, numbered(0, 3), owner, message_ids=["a", None, "c"])
        assert await store.fork(session_id, fork, owner, 1) == 1
        assert await ids_of(store, fork, owner) == ["a"]
        assert await store.rotate(session_id, moved, owner)
        assert await ids_of(store, session_id, owner) == []
        assert await ids_of(store, moved, owner) == ["a", None, "c"]
        copied = await store.import_(await store.export(moved, owner), new_id(), new_id())
        assert copied
        assert await store.append(fork, numbered(1, 2), owner, message_ids=["a", "c"]) == 2
        await store.delete(moved, owner)
        found = await store.find_message("c", owner)
        assert found is not None
        assert found[0] == fork
        await store.delete(fork, owner)
        assert await store.find_message("c", owner) is None

    async def test_a_message_is_found_by_its_id(self, store: MessageStore) -> None:
        """It is found over all of one owner's sessions; in several, in the first by id."""
        owner, message_id = new_id(), "\u00e9" * 255
        ids = sorted(new_id() for _ in range(3))
        for number, session_id in enumerate(reversed(ids)):
            message_ids = [f"of {session_id}", message_id]
            await store.append(
                session_id, numbered(number, 2), owner, str(number), message_ids=message_ids
            )
        found = await store.find_message(message_id, owner)
        assert found is not None
        session_id, message = found
        assert session_id == ids[0]
        assert (message.message, message.index, message.turn_id) == ({"n": 3}, 1, "2")
        assert message == (await store.load_range(session_id, owner)).messages[1]
        found = await store.find_message(f"of {ids[2]}", owner)
        assert found is not None
        assert (found[0], found[1].index) == (ids[2], 0)
        assert await store.find_message(message_id, new_id()) is None
        assert await store.find_message("of", owner) is None

    async def test_metadata_is_stored_with_messages(self, store: MessageStore) -> None:
        """It is set with the messages or not at all, if it and the history are as expected."""
        session_id = new_id()
        one, two, three = ({"revision": n, "b": 1} for n in (1, 2, 3))
        await store.append(session_id, numbered(0), metadata=one, expected_metadata=None)
        assert await store.find_metadata(session_id) == one
        reordered = {"b": 1, "revision": 1}
        await store.append(session_id, numbered(1), metadata=two, expected_metadata=reordered)
        for expected in (None, one, {}, {"revision": 2, "b": 1.0}, {"revision": 2, "b": True}):
            with pytest.raises(SessionConflict):
                await store.append(
                    session_id, numbered(7), metadata=three, expected_metadata=expected
                )
        with pytest.raises(SessionConflict):
            await store.append(session_id, numbered(7), "", None, 3, metadata=three)
        assert await numbers_of(store, session_id) == [0, 1]
        assert await store.find_metadata(session_id) == two
        # Where nothing else is new, too.
        await store.append(session_id, numbered(2), message_ids=["a"], expected_metadata=two)
        assert await store.append(session_id, numbered(2), message_ids=["a"], metadata=three) == 3
        assert await store.find_metadata(session_id) == three
        await store.append(session_id, numbered(5), replace_from=1, metadata=one)
        assert await numbers_of(store, session_id) == [0, 5]
        assert await store.find_metadata(session_id) == one

    async def test_metadata_is_set_if_it_is_the_expected(self, store: MessageStore) -> None:
        """Of those who replace the same metadata at once, one does."""
        session_id = new_id()
        with pytest.raises(SessionConflict):
            await store.set_metadata(session_id, {"n": 1}, expected={})
        assert await store.find_metadata(session_id) is None
        await store.set_metadata(session_id, {"n": 0}, expected=None)
        outcomes: list[int | None] = []

        async def replace(number: int) -> None:
            try:
                await store.set_metadata(session_id, {"n": number}, expected={"n": 0})
                outcomes.append(number)
            except SessionConflict:
                outcomes.append(None)

        async with anyio.create_task_group() as tasks:
            for number in (1, 2, 3):
                tasks.start_soon(replace, number)
        (done,) = (each for each in outcomes if each is not None)
        assert await store.find_metadata(session_id) == {"n": done}
        await store.set_metadata(session_id, {}, expected=ANY)
        assert await store.find_metadata(session_id) == {}

    async def test_sessions_are_listed_by_the_beginning_of_their_ids(
        self, store: MessageStore
    ) -> None:
        """Only those with the prefix are listed, page by page; no character of it is a pattern."""
        owner, start = new_id(), new_id()
        ids = [f"{start}{rest}" for rest in ("%a", "%b", "%c", "_a", "xa", "%\u00e9", "%")]
        for session_id in ids:
            await store.append(session_id, numbered(0), owner)

        async def listed(prefix: str, limit: int = 50) -> list[str]:
            found: list[str] = []
            cursor: str | None = None
            while True:
                page = await store.list(owner, limit, cursor, prefix=prefix)
                found += [each.id for each in page.sessions]
                cursor = page.cursor
                if cursor is None:
                    return found

        assert sorted(await listed(start)) == sorted(ids)
        wanted = sorted(ids[number] for number in (0, 1, 2, 5, 6))
        assert sorted(await listed(f"{start}%")) == wanted
        assert sorted(await listed(f"{start}%", 2)) == wanted
        assert await listed(f"{start}_") == [f"{start}_a"]
        assert await listed(f"{start}%\u00e9") == [f"{start}%\u00e9"]
        assert await listed(f"{start}X") == []
        assert await listed(f"{start}%a") == [f"{start}%a"]
        assert len(await listed("")) == 7

    async def test_the_sessions_of_all_owners_are_listed(self, store: MessageStore) -> None:
        """Each is listed once, with its owner, whatever the size of a page."""
        start = new_id()
        kept = {(owner, f"{start}{n}") for owner in (new_id(), new_id(), "") for n in range(2)}
        for owner, session_id in kept:
            await store.append(session_id, numbered(0), owner)
        gone = f"{start}gone"
        await store.append(gone, numbered(0))
        await store.delete(gone)
        await store.set_metadata(f"{start}none", {"a": "b"})
        for limit in (1, 4, 6, 50):
            found: list[Any] = []
            cursor: str | None = None
            while True:
                page = await store.list_all(limit, cursor, prefix=start)
                assert len(page.sessions) <= limit
                found += page.sessions
                cursor = page.cursor
                if cursor is None:
                    break
            assert sorted((each.owner, each.id) for each in found) == sorted(kept)
            times = [each.updated_at for each in found]
            assert times == sorted(times, reverse=True)
        for each in found:
            assert each == await store.info(each.id, each.owner)


@pytest.mark.anyio
class MessageArguments:
    """What a store refuses before it asks its database: ids of messages, numbers, times."""

    @pytest.mark.parametrize("number", [1.0, float("nan"), True, "1"])
    async def test_a_number_of_messages_is_an_int(self, store: MessageStore, number: Any) -> None:
        """A number that is not an int is refused at once: databases round it differently."""
        session_id = await stored(store)
        for mistaken in (
            lambda: store.pop(session_id, number),
            lambda: store.rewind(session_id, 1, expected_length=number),
            lambda: store.load_range(session_id, "", number),
            lambda: store.load_range(session_id, "", 0, number),
            lambda: store.list_all(number),
        ):
            with pytest.raises(TypeError, match="not an int"):
                await mistaken()
        assert await numbers_of(store, session_id) == [0, 1, 2, 3]

    async def test_what_is_no_range_is_refused(self, store: MessageStore) -> None:
        """A negative number of messages and a time of no zone are mistakes."""
        session_id = await stored(store)
        for mistaken in (
            lambda: store.pop(session_id, -1),
            lambda: store.load_range(session_id, limit=-1),
            lambda: store.load_range(session_id, since=datetime(2026, 1, 31)),  # noqa: DTZ001
            lambda: store.list_all(0),
            lambda: store.list_all(501),
            lambda: store.list_all(cursor="x"),
            lambda: store.list(prefix="a\0"),
            lambda: store.list_all(prefix="x" * 257),
        ):
            with pytest.raises(ValueError, match=r"negative|time zone|limit|cursor|prefix"):
                await mistaken()
        with pytest.raises(ValueError, match="cursor"):
            # One owner's page is no page of all owners'.
            await store.list_all(cursor=(await self._cursor(store)))
        assert await numbers_of(store, session_id) == [0, 1, 2, 3]

    async def _cursor(self, store: MessageStore) -> str | None:
        owner = new_id()
        for _ in range(2):
            await stored(store, 1, owner)
        return (await store.list(owner, 1)).cursor

    @pytest.mark.parametrize("value", ["", "x" * 256, "a\0b", "\ud800", b"bytes", 1])
    async def test_an_id_that_cannot_be_stored_is_refused(
        self, store: MessageStore, value: Any
    ) -> None:
        """Each id is one that every database can store, as other keys are."""
        session_id = new_id()
        for work in (
            lambda: store.append(session_id, numbered(0, 2), message_ids=["a", value]),
            lambda: store.find_message(value),
        ):
            with pytest.raises(InvalidKey):
                await work()
        assert await store.load(session_id) == UNKNOWN

    @pytest.mark.parametrize("ids", [[], ["a"], ["a", "b", "c"], ["a", "a"], "ab"])
    async def test_each_message_has_an_id_of_its_own(self, store: MessageStore, ids: Any) -> None:
        """There are as many ids as messages, all different."""
        session_id = new_id()
        with pytest.raises((ValueError, TypeError), match="message_ids"):
            await store.append(session_id, numbered(0, 2), message_ids=ids)
        assert await store.load(session_id) == UNKNOWN
        assert await store.append(session_id, numbered(0, 2), message_ids=[None, None]) == 2

    async def test_what_cannot_be_metadata_is_refused(self, store: MessageStore) -> None:
        """What no JSON object can be is neither stored nor expected, and no message is stored."""
        session_id, bad = new_id(), {"a": float("nan")}
        for work in (
            lambda: store.append(session_id, numbered(0), metadata=bad),
            lambda: store.append(session_id, numbered(0), expected_metadata=bad),
            lambda: store.set_metadata(session_id, {}, expected=bad),
        ):
            with pytest.raises(InvalidMessage, match="metadata"):
                await work()
        assert await store.load(session_id) == UNKNOWN
        assert await store.find_metadata(session_id) is None


class MessageContract(MessageOperations, MessageArguments):
    """What a `MessageStore` promises beside `LifecycleStore`; a subclass has ``store``."""
