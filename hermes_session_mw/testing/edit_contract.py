"""What a `LifecycleStore` promises of edits: rewinds, replacements, summaries, forks, rotations."""

import json
import math
import random
from typing import Any

import anyio
import pytest

from hermes_session_mw import (
    HermesSession,
    History,
    InvalidMessage,
    LifecycleStore,
    MessageTooLarge,
    SessionConflict,
    SessionDeleted,
    SessionNotFound,
    TurnConflict,
    TurnLost,
    TurnTooLong,
)
from hermes_session_mw.testing import example_messages
from hermes_session_mw.testing.helpers import (
    DELETED,
    EMPTY,
    SUMMARY,
    UNKNOWN,
    archive_of,
    new_id,
    numbered,
    stored,
)
from hermes_session_mw.testing.history_model import HistoryModel, courses


@pytest.mark.anyio
class EditOperations:
    """Edits of a stored conversation, and what is archived by them."""

    async def test_it_is_a_lifecycle_store(self, store: LifecycleStore) -> None:
        """The store has all of the protocol's methods."""
        assert isinstance(store, LifecycleStore)

    async def test_any_course_of_edits_keeps_every_message_once(
        self, store: LifecycleStore
    ) -> None:
        """After any appends, rewinds and compactions the history equals a plain list's."""
        seed = random.getrandbits(32)
        for number, course in enumerate(courses(seed)):
            model = HistoryModel(store, f"{new_id()}-{number}")
            try:
                for step in course:
                    await model.do(step)
                await model.check()
            except BaseException as error:
                error.add_note(f"seed {seed}, course {number}: {course}")
                raise

    async def test_a_rewind_keeps_the_beginning(self, store: LifecycleStore) -> None:
        """A rewind archives the tail under its turns' ids, and later messages get new numbers."""
        session_id = await stored(store)
        assert await store.rewind(session_id, 2) == 2
        assert await store.load(session_id) == History(numbered(0, 2), 2, exists=True)
        assert await archive_of(store, session_id) == [(2, "2", "rewind"), (3, "3", "rewind")]
        assert await store.append(session_id, numbered(7), expected_length=2) == 3
        assert (await store.load(session_id, limit=1)) == History(numbered(7), 3, exists=True)

    @pytest.mark.parametrize("length", [4, 5, 2**40])
    async def test_a_rewind_only_shortens(self, store: LifecycleStore, length: int) -> None:
        """A rewind to the history's length, or to more, changes nothing."""
        session_id = await stored(store)
        assert await store.rewind(session_id, length) == 4
        assert (await store.load(session_id)).length == 4
        assert list(await store.archived(session_id)) == []

    async def test_a_session_without_messages_is_one_still(self, store: LifecycleStore) -> None:
        """A session that is rewound to nothing is known, is listed, and can be continued."""
        session_id = await stored(store)
        assert await store.rewind(session_id, 0) == 0
        assert await store.load(session_id) == EMPTY == await store.load(session_id, limit=3)
        info = await store.info(session_id)
        assert info is not None
        assert info.length == 0
        assert await store.append(session_id, numbered(9)) == 1

    async def test_what_cannot_be_rewound(self, store: LifecycleStore) -> None:
        """An unknown session stays empty; a deleted one, or a negative length, is an error."""
        unknown, deleted = new_id(), await stored(store)
        assert await store.rewind(unknown, 0) == 0
        assert await store.load(unknown) == UNKNOWN
        await store.delete(deleted)
        with pytest.raises(SessionDeleted):
            await store.rewind(deleted, 0)
        with pytest.raises(ValueError, match="negative"):
            await store.rewind(unknown, -1)

    async def test_a_rewind_may_split_a_turn(self, store: LifecycleStore) -> None:
        """Rewinding an answer alone keeps its whole turn findable."""
        session_id = new_id()
        await store.append(session_id, numbered(0, 2), turn_id="t")
        assert await store.rewind(session_id, 1) == 1
        turn = await store.find_turn(session_id, "t")
        assert turn is not None
        assert (turn.messages, turn.start) == (numbered(0, 2), None)
        assert await store.append(session_id, numbered(0, 2), turn_id="t") == 1
        with pytest.raises(TurnConflict):
            await store.append(session_id, numbered(0), turn_id="t")
        assert await store.append(session_id, numbered(5), turn_id="u") == 2
        assert (await store.load(session_id)).messages == [*numbered(0), *numbered(5)]

    async def test_a_rewound_turn_is_not_stored_again(self, store: LifecycleStore) -> None:
        """A late repetition of a rewound turn stores nothing."""
        session_id = await stored(store)
        await store.rewind(session_id, 1)
        assert await store.append(session_id, numbered(3), turn_id="3") == 1
        assert await store.append(session_id, numbered(0), turn_id="0") == 1
        assert (await store.load(session_id)).messages == numbered(0)

    async def test_a_replacement_is_one_step(self, store: LifecycleStore) -> None:
        """A replacement keeps the beginning, archives the rest, and stores the turn after it."""
        session_id = await stored(store)
        new = numbered(7, 3)
        assert await store.append(session_id, new, turn_id="new", replace_from=2) == 5
        assert await store.load(session_id) == History([*numbered(0, 2), *new], 5, exists=True)
        assert await archive_of(store, session_id) == [(2, "2", "replace"), (3, "3", "replace")]
        found = [await store.find_turn(session_id, turn_id) for turn_id in ("1", "2", "new")]
        assert [turn and turn.start for turn in found] == [1, None, 2]
        assert await store.append(session_id, numbered(11), expected_length=5) == 6
        assert await store.load(session_id, limit=2) == History(
            [{"n": 9}, {"n": 11}], 6, exists=True
        )

    @pytest.mark.parametrize("keep", [0, 1, 4])
    async def test_a_replacement_may_keep_all_or_nothing(
        self, store: LifecycleStore, keep: int
    ) -> None:
        """A turn may replace everything, or nothing, as a plain append does."""
        session_id = await stored(store)
        assert await store.append(session_id, numbered(8), replace_from=keep) == keep + 1
        assert (await store.load(session_id)).messages == [*numbered(0, keep), {"n": 8}]
        assert len(await store.archived(session_id)) == 4 - keep
        unknown = new_id()
        assert await store.append(unknown, numbered(0), "ada", replace_from=0) == 1
        assert await store.load(unknown, "ada") == History(numbered(0), 1, exists=True)

    async def test_a_replacement_is_repeated_by_its_turn_id(self, store: LifecycleStore) -> None:
        """A repeated replacement stores and archives nothing, whatever was stored meanwhile."""
        session_id = await stored(store)

        async def replace() -> int:
            return await store.append(session_id, numbered(7, 2), turn_id="new", replace_from=1)

        assert [await replace(), await replace()] == [3, 3]
        assert await store.append(session_id, numbered(9)) == 4
        assert await replace() == 3
        with pytest.raises(TurnConflict):
            await store.append(session_id, numbered(7), turn_id="new", replace_from=1)
        # A late repetition of a replaced turn stores nothing either.
        assert await store.append(session_id, numbered(3), turn_id="3", replace_from=0) == 4
        assert (await store.load(session_id)).messages == [*numbered(0), *numbered(7, 3)]
        assert len(await store.archived(session_id)) == 3

    async def test_what_cannot_be_replaced(self, store: LifecycleStore) -> None:
        """A refused replacement leaves everything as it was, and an unknown session unknown."""
        session_id, unknown, deleted = await stored(store), new_id(), await stored(store)
        await store.delete(deleted)
        for refused, length in ((session_id, 4), (unknown, 0)):
            with pytest.raises(SessionConflict) as caught:
                await store.append(refused, numbered(7), replace_from=5)
            assert (caught.value.expected, caught.value.actual) == (5, length)
            assert "at least 5" in str(caught.value)
        with pytest.raises(SessionConflict) as caught:
            await store.append(session_id, numbered(7), expected_length=1, replace_from=1)
        assert (caught.value.expected, caught.value.actual) == (1, 4)
        for impossible in ([], [{"n": math.nan}]):
            with pytest.raises(InvalidMessage):
                await store.append(session_id, impossible, replace_from=1)
        with pytest.raises(ValueError, match="negative"):
            await store.append(session_id, numbered(7), replace_from=-1)
        for place in ("1", 1.0, True):
            with pytest.raises(TypeError, match="replace_from"):
                await store.append(session_id, numbered(7), replace_from=place)  # type: ignore[arg-type]
        with pytest.raises(SessionDeleted):
            await store.append(deleted, numbered(7), replace_from=0)
        assert await store.load(unknown) == UNKNOWN
        assert await store.load(session_id) == History(numbered(0, 4), 4, exists=True)
        assert list(await store.archived(session_id)) == []
        assert await store.append(session_id, numbered(7), expected_length=4, replace_from=1) == 2

    async def test_a_late_holder_replaces_nothing(self, store: LifecycleStore) -> None:
        """A replacement is checked by its fence as every other write in a turn."""
        session_id = await stored(store)
        first = await store.acquire(session_id, 30)
        await store.release(session_id, first)
        second = await store.acquire(session_id, 30)
        with pytest.raises(TurnLost):
            await store.append(session_id, numbered(7), fence=first, replace_from=1)
        assert (await store.load(session_id)).length == 4
        assert await store.append(session_id, numbered(7), fence=second, replace_from=1) == 2

    async def test_a_session_goes_on_after_a_replacement(self, store: LifecycleStore) -> None:
        """A replaced history can be rewound, compacted, forked, rotated and exported."""
        session_id, child, moved, other = await stored(store), *(new_id() for _ in range(3))
        await store.append(session_id, numbered(7, 3), turn_id="new", replace_from=2)
        assert await store.fork(session_id, child, length=3) == 3
        assert (await store.load(child)).messages == [*numbered(0, 2), {"n": 7}]
        assert await store.append(child, numbered(5), replace_from=1) == 2
        assert await store.import_(await store.export(session_id), session_id=other) == other
        assert (await store.load(other)).messages == [*numbered(0, 2), *numbered(7, 3)]
        assert await store.rotate(session_id, moved)
        assert await store.compact(moved, [*numbered(0, 2), {"n": 7}], SUMMARY) == 3
        assert await store.append(moved, numbered(10), turn_id="again", replace_from=2) == 3
        assert await store.rewind(moved, 2) == 2
        assert (await store.load(moved)).messages == [*SUMMARY, {"n": 8}]
        reasons = [old.reason for old in await store.archived(moved)]
        assert reasons == ["replace"] * 2 + ["compact"] * 3 + ["replace", "rewind"]
        turn = await store.find_turn(moved, "new")
        assert turn is not None
        assert (turn.messages, turn.start) == (numbered(7, 3), None)

    async def test_replacements_at_once_follow_each_other(self, store: LifecycleStore) -> None:
        """Concurrent replacements are each stored whole; the last stays, others are archived."""
        session_id = await stored(store)
        async with anyio.create_task_group() as tasks:
            for number in range(10, 18, 2):
                tasks.start_soon(
                    lambda n: store.append(session_id, numbered(n, 2), replace_from=3), number
                )
        *kept, first, second = (await store.load(session_id)).messages
        assert (kept, second["n"]) == (numbered(0, 3), first["n"] + 1)
        archived = [n for n, _, _ in await archive_of(store, session_id)]
        assert sorted([*archived, first["n"], second["n"]]) == [3, *range(10, 18)]

    async def test_what_would_be_refused_is_told_before(self, store: Any) -> None:
        """``check`` raises the errors that an append would, by the store's own limits."""
        if not hasattr(store, "check"):
            pytest.skip("the store has no method check: it is optional")
        store.check(numbered(0, 2))
        for impossible in ([], [{"n": math.nan}], [{1: 2}], [{"text": "\ud800"}], ["text"]):
            with pytest.raises(InvalidMessage):
                store.check(impossible)
        room = store.max_message_bytes - len('{"text":""}')
        store.check([{"text": "x" * room}])
        with pytest.raises(MessageTooLarge):
            store.check([{"text": "x" * (room + 1)}])
        store.check(numbered(0, store.max_turn_messages))
        with pytest.raises(TurnTooLong):
            store.check(numbered(0, store.max_turn_messages + 1))

    async def test_a_question_survives_its_answer(self, store: LifecycleStore) -> None:
        """The valid part of an invalid answer is stored, marked; then the error is raised."""
        session = HermesSession(store, new_id(), is_new=True)
        question = {"role": "user", "content": "Well?"}
        answer = session.record(question)
        answer.write("Yes.")
        answer.message["tool_calls"] = [{"arguments": math.nan}]
        with pytest.raises(InvalidMessage):
            await answer.end()
        part = {"role": "assistant", "content": "Yes.", "status": "incomplete"}
        assert await session.load() == [question, part]
        answer = session.record(question)
        with pytest.raises(MessageTooLarge):
            answer.write("x" * 2**21)
        with pytest.raises(MessageTooLarge):
            await answer.end()
        *_, again, cut = await session.load()
        assert again == question
        assert 2**20 - 100 < len(cut["content"]) < 2**20
        assert cut["status"] == "incomplete"

    async def test_a_turn_stands_until_the_one_that_replaces_it_is_whole(
        self, store: LifecycleStore
    ) -> None:
        """An invalid new answer keeps the old turn, and a valid one replaces it."""
        session_id = await stored(store)
        session = HermesSession(store, session_id)
        await session.load()
        answer = session.record(replace_from=2)
        answer.message["n"] = math.nan
        with pytest.raises(InvalidMessage):
            await answer.end()
        assert await session.load() == numbered(0, 4)
        async with session.record({"n": "new"}, replace_from=2) as answer:
            answer.write("Yes.")
            assert (await store.load(session_id)).messages == numbered(0, 4)
        assert session.history == [
            *numbered(0, 2),
            {"n": "new"},
            {"role": "assistant", "content": "Yes."},
        ]
        assert await session.load() == (await store.load(session_id)).messages
        assert await archive_of(store, session_id) == [(2, "2", "replace"), (3, "3", "replace")]

    async def test_a_summary_stands_for_the_older_part(self, store: LifecycleStore) -> None:
        """The summary comes first, then the rest unchanged; the replaced messages are archived."""
        session_id = await stored(store)
        assert await store.compact(session_id, numbered(0, 3), SUMMARY) == 2
        assert await store.load(session_id) == History([*SUMMARY, {"n": 3}], 2, exists=True)
        assert await store.load(session_id, limit=1) == History(numbered(3), 2, exists=True)
        assert await archive_of(store, session_id) == [(n, str(n), "compact") for n in range(3)]
        assert await store.append(session_id, numbered(4), expected_length=2) == 3
        turn = await store.find_turn(session_id, "3")
        assert turn is not None
        assert turn.start == 1

    async def test_a_summary_may_be_longer_and_be_compacted(self, store: LifecycleStore) -> None:
        """Any number of messages may replace any number, repeatedly."""
        session_id = await stored(store, 2)
        long = [{"summary": n} for n in range(5)]
        assert await store.compact(session_id, numbered(0), long) == 6
        assert await store.compact(session_id, [*long, {"n": 1}], SUMMARY) == 1
        assert await store.rewind(session_id, 0) == 0
        assert await store.append(session_id, numbered(8, 2)) == 2
        assert await store.compact(session_id, numbered(8), long) == 6
        assert (await store.load(session_id)).messages == [*long, {"n": 9}]
        assert len(await store.archived(session_id)) == 1 + 6 + 1 + 1

    async def test_only_what_stands_there_is_replaced(self, store: LifecycleStore) -> None:
        """Replacing other messages than those stored, or too many, is a conflict."""
        session_id = new_id()
        await store.append(session_id, [{"n": 0}, {"n": 1}, {"n": 2}])
        for replaced in ([{"n": 1}], [{"n": 0.0}], [{"n": False}], numbered(0, 4), [{"n": 0}] * 2):
            with pytest.raises(SessionConflict):
                await store.compact(session_id, replaced, SUMMARY)
        assert (await store.load(session_id)).messages == numbered(0, 3)
        assert list(await store.archived(session_id)) == []
        assert await store.compact(session_id, numbered(1), SUMMARY, skipped=1) == 2
        assert (await store.load(session_id)).messages == [*SUMMARY, {"n": 2}]
        assert await store.compact(session_id, [], SUMMARY, skipped=2) == 1

    async def test_what_is_no_compaction_is_refused(self, store: LifecycleStore) -> None:
        """No messages to replace, an invalid summary, and a deleted session are errors."""
        session_id = await stored(store)
        with pytest.raises(ValueError, match="nothing"):
            await store.compact(session_id, [], SUMMARY)
        with pytest.raises(ValueError, match="negative"):
            await store.compact(session_id, numbered(0), SUMMARY, skipped=-1)
        with pytest.raises(InvalidMessage):
            await store.compact(session_id, numbered(0), [{"n": float("nan")}])
        for skipped in (100, 2**80):
            with pytest.raises(SessionConflict):
                await store.compact(session_id, [], SUMMARY, skipped=skipped)
        with pytest.raises(SessionConflict):
            await store.compact(new_id(), numbered(0), SUMMARY)
        await store.delete(session_id)
        with pytest.raises(SessionDeleted):
            await store.compact(session_id, numbered(0), SUMMARY)

    async def test_a_compacted_turn_is_not_stored_again(self, store: LifecycleStore) -> None:
        """A repetition of a turn that a summary replaced stores nothing."""
        session_id = await stored(store)
        await store.compact(session_id, numbered(0, 2), SUMMARY)
        assert await store.append(session_id, numbered(0), turn_id="0") == 0
        assert await store.append(session_id, numbered(3), turn_id="3") == 3
        assert (await store.load(session_id)).length == 3

    async def test_appends_during_a_compaction_stay_in_order(self, store: LifecycleStore) -> None:
        """Turns appended meanwhile come after the summary, whole, in order, and once."""
        session_id = await stored(store, 6)
        lengths: list[int] = []

        async def append(number: int) -> None:
            lengths.append(await store.append(session_id, numbered(number, 2)))

        async with anyio.create_task_group() as tasks:
            for number in range(10, 18, 2):
                tasks.start_soon(append, number)
            tasks.start_soon(store.compact, session_id, numbered(0, 5), SUMMARY)
        messages = (await store.load(session_id)).messages
        assert messages[:2] == [*SUMMARY, {"n": 5}]
        assert sorted(each["n"] for each in messages[2:]) == list(range(10, 18))
        assert all(
            b["n"] == a["n"] + 1 for a, b in zip(messages[2::2], messages[3::2], strict=True)
        )
        assert len(lengths) == 4

    async def test_a_turn_is_found_in_its_session(self, store: LifecycleStore) -> None:
        """A turn is found under its id, with its place, by its owner, in its session alone."""
        session_id = new_id()
        await store.append(session_id, numbered(0, 3), "ada", turn_id="a")
        await store.append(session_id, example_messages.REALISTIC, "ada", turn_id="b")
        turn = await store.find_turn(session_id, "b", "ada")
        assert turn is not None
        assert (turn.turn_id, turn.start) == ("b", 3)
        assert json.dumps(example_messages.REALISTIC) == json.dumps(turn.messages)
        for other in ((session_id, "b", "bob"), (session_id, "B", "ada"), (new_id(), "b", "ada")):
            assert await store.find_turn(*other) is None

    async def test_a_fork_shares_the_past_alone(self, store: LifecycleStore) -> None:
        """A fork begins with a copy, and the two sessions are independent."""
        parent, child = await stored(store), new_id()
        assert await store.fork(parent, child) == 4
        await store.append(child, numbered(10))
        await store.rewind(parent, 1)
        assert (await store.load(child)).messages == [*numbered(0, 4), {"n": 10}]
        assert (await store.load(parent)).messages == numbered(0)
        info = await store.info(child)
        assert info is not None
        assert (info.parent_id, info.length) == (parent, 5)
        await store.delete(parent)
        assert (await store.load(child)).length == 5

    @pytest.mark.parametrize(("length", "count"), [(0, 0), (1, 1), (4, 4), (9, 4)])
    async def test_a_fork_of_a_part(self, store: LifecycleStore, length: int, count: int) -> None:
        """A fork may have any length, also of a compacted history."""
        parent, child = await stored(store), new_id()
        assert await store.fork(parent, child, length=length) == count
        assert await store.load(child) == History(numbered(0, count), count, exists=True)
        await store.compact(parent, numbered(0, 2), SUMMARY)
        assert await store.fork(parent, child + "2", length=2) == 2
        assert (await store.load(child + "2")).messages == [*SUMMARY, {"n": 2}]
        assert await store.append(child + "2", numbered(5)) == 3

    async def test_a_fork_takes_no_turn_ids_along(self, store: LifecycleStore) -> None:
        """A turn id that was used in the parent is free in the fork."""
        parent, child = await stored(store), new_id()
        await store.fork(parent, child)
        assert await store.find_turn(child, "0") is None
        assert await store.append(child, numbered(0), turn_id="0") == 5

    async def test_what_cannot_be_forked(self, store: LifecycleStore) -> None:
        """A fork of an unknown session, or to an id in use, is an error."""
        parent, taken, deleted = [await stored(store) for _ in range(3)]
        await store.delete(deleted)
        for source in (new_id(), deleted):
            with pytest.raises(SessionNotFound):
                await store.fork(source, new_id())
        for target in (taken, deleted, parent):
            with pytest.raises(SessionConflict):
                await store.fork(parent, target)
        with pytest.raises(ValueError, match="negative"):
            await store.fork(parent, new_id(), length=-1)
        assert (await store.load(taken)).length == 4
        assert await store.load(deleted) == DELETED

    async def test_a_rotation_moves_everything(self, store: LifecycleStore) -> None:
        """History, archive, title, turns and keys are under the new id; the old one is gone."""
        old, new, key = await stored(store), new_id(), new_id()
        await store.rewind(old, 3)
        await store.rename(old, "Title")
        await store.move_key(key, old)
        assert await store.rotate(old, new)
        assert await store.load(old) == DELETED
        assert await store.load(new) == History(numbered(0, 3), 3, exists=True)
        assert await archive_of(store, new) == [(3, "3", "rewind")]
        assert await archive_of(store, old) == []
        assert await store.find_key(key) == new
        assert await store.append(new, numbered(1), turn_id="1") == 2
        info = await store.info(new)
        assert info is not None
        assert (info.title, info.length) == ("Title", 3)
        assert await store.info(old) is None
        with pytest.raises(SessionDeleted):
            await store.append(old, numbered(9))

    async def test_a_rotation_to_another_owner(self, store: LifecycleStore) -> None:
        """The session is the new owner's, and the old owner's keys lead nowhere."""
        old, new, key = await stored(store, owner="guest"), new_id(), new_id()
        await store.bind_key(key, old, "guest")
        assert await store.rotate(old, new, "guest", "ada")
        assert (await store.load(new, "ada")).length == 4
        assert await store.load(new, "guest") == UNKNOWN
        assert await store.find_key(key, "guest") is None
        assert await store.find_key(key, "ada") is None

    async def test_what_is_not_rotated(self, store: LifecycleStore) -> None:
        """An unknown session is not moved, and no session is moved to an id in use."""
        old, taken = await stored(store), await stored(store)
        assert not await store.rotate(new_id(), new_id())
        with pytest.raises(SessionConflict):
            await store.rotate(old, taken)
        assert (await store.load(old)).length == 4 == (await store.load(taken)).length

    @pytest.mark.parametrize("source", ["stored", "deleted", "unknown"])
    async def test_where_a_rotation_may_lead(self, store: LifecycleStore, source: str) -> None:
        """An id that the new owner uses is a conflict; one that a third owner uses is not."""
        old, key = new_id(), new_id()
        if source != "unknown":
            await store.append(old, numbered(0), "guest")
        if source == "deleted":
            await store.delete(old, "guest")
        await store.move_key(key, old, "guest")
        for to_owner in ("guest", "ada"):
            kept, deleted = new_id(), new_id()
            await store.append(kept, numbered(0, 2), to_owner)
            await store.append(deleted, numbered(0), to_owner)
            await store.delete(deleted, to_owner)
            for target, length in ((kept, 2), (deleted, 0)):
                with pytest.raises(SessionConflict) as caught:
                    await store.rotate(old, target, "guest", to_owner)
                assert (caught.value.expected, caught.value.actual) == (0, length)
                assert await store.find_key(key, "guest") == old
            assert (await store.load(kept, to_owner)).length == 2
        anothers = await stored(store, owner="eve")
        assert await store.rotate(old, anothers, "guest", "ada") == (source == "stored")
        assert (await store.load(anothers, "eve")).length == 4

    async def test_another_owner_does_nothing_to_it(self, store: LifecycleStore) -> None:
        """Another owner's operations under the same id leave the session unchanged."""
        owner, other = new_id(), new_id()
        session_id = await stored(store, owner=owner)
        assert await store.rewind(session_id, 0, other) == 0
        with pytest.raises(SessionConflict):
            await store.compact(session_id, numbered(0), SUMMARY, other)
        with pytest.raises(SessionNotFound):
            await store.fork(session_id, new_id(), other)
        with pytest.raises(SessionNotFound):
            await store.export(session_id, other)
        assert not await store.rotate(session_id, new_id(), other)
        assert not await store.rename(session_id, "x", other)
        assert not await store.delete(session_id, other)
        assert await store.info(session_id, other) is None
        assert list(await store.archived(session_id, other)) == []
        assert await store.acquire(session_id, 30, other) == await store.acquire(
            session_id, 30, owner
        )
        assert (await store.load(session_id, owner)).messages == numbered(0, 4)
