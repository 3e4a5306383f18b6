"""What every `LifecycleStore` promises, as tests; a store of your own passes too.

Subclass ``LifecycleContract`` in a test module, and define a fixture ``store`` that yields one, as
for ``StoreContract``. Each test uses ids and owners of its own, so one database serves all.
"""

import json
import math
from datetime import timedelta
from typing import Any

import anyio
import pytest

from hermes_session_mw import (
    HermesSession,
    History,
    InvalidKey,
    InvalidMessage,
    LifecycleStore,
    MemoryStore,
    MessageTooLarge,
    SessionBusy,
    SessionConflict,
    SessionDeleted,
    SessionNotFound,
    TurnConflict,
    TurnLost,
    TurnTooLong,
)
from tests.contract.lifecycle_model import Model, plans
from tests.contract.store_contract import UNKNOWN, new_id, numbered
from tests.support import json_values

SUMMARY = [{"summary": 1}]
EMPTY = History([], 0, exists=True)
DELETED = History([], 0, exists=False, deleted=True)


async def stored(store: LifecycleStore, count: int = 4, owner: str = "") -> str:
    """Return the id of a session with so many messages, each a turn with its number for an id."""
    session_id = new_id()
    for number in range(count):
        await store.append(session_id, numbered(number), owner, turn_id=str(number))
    return session_id


async def archive_of(store: LifecycleStore, session_id: str, owner: str = "") -> list[Any]:
    """Return what is archived: message, turn id and reason."""
    found = await store.archived(session_id, owner)
    assert all(old.archived_at.utcoffset() is not None for old in found)
    return [(old.message["n"], old.turn_id, old.reason) for old in found if "n" in old.message]


async def pruned(store: LifecycleStore, session_id: str) -> None:
    """Prune, in a store that can, until nothing is known of the session, not even of its end."""
    prune = getattr(store, "prune", None)
    if prune is None:
        pytest.skip("the store prunes nothing")
    witness = new_id()
    await store.append(witness, numbered(0))
    with anyio.fail_after(60):
        # It was used after the session, so that it is pruned with it, or later: no sooner.
        while (await store.load(witness)).exists:
            await anyio.sleep(0.1)  # longer than any lease that is to end
            await prune(timedelta(0))
    assert await store.load(session_id) == UNKNOWN


async def begin(store: LifecycleStore, session_id: str, how: str) -> None:
    """Have a session with one message begin under an id."""
    other = await stored(store, 1)
    if how == "append":
        await store.append(session_id, numbered(0))
    elif how == "fork":
        await store.fork(other, session_id)
    elif how == "import":
        await store.import_(export_of(numbered(0)), session_id=session_id)
    else:
        await store.rotate(other, session_id)


class LifecycleContract:
    """The contract; a subclass provides the fixture ``store``."""

    async def test_it_is_a_lifecycle_store(self, store: LifecycleStore) -> None:
        """The store has all of the protocol's methods."""
        assert isinstance(store, LifecycleStore)

    async def test_any_course_of_edits_keeps_every_message_once(
        self, store: LifecycleStore
    ) -> None:
        """Whatever is appended, rewound and compacted, the history is what a list would be."""
        for number, plan in enumerate(plans()):
            model = Model(store, f"{new_id()}-{number}")
            for step in plan:
                await model.do(step)
            await model.check()

    # Rewinding

    async def test_a_rewind_keeps_the_beginning(self, store: LifecycleStore) -> None:
        """The tail leaves the history, is archived under its turns' ids, and numbers go on."""
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
        """Rewound to nothing a session is known, listed, and goes on."""
        session_id = await stored(store)
        assert await store.rewind(session_id, 0) == 0
        assert await store.load(session_id) == EMPTY == await store.load(session_id, limit=3)
        info = await store.info(session_id)
        assert info is not None
        assert info.length == 0
        assert await store.append(session_id, numbered(9)) == 1

    async def test_what_cannot_be_rewound(self, store: LifecycleStore) -> None:
        """An unknown session has nothing to lose, a deleted one is an error, and so is a minus."""
        unknown, deleted = new_id(), await stored(store)
        assert await store.rewind(unknown, 0) == 0
        assert await store.load(unknown) == UNKNOWN
        await store.delete(deleted)
        with pytest.raises(SessionDeleted):
            await store.rewind(deleted, 0)
        with pytest.raises(ValueError, match="negative"):
            await store.rewind(unknown, -1)

    async def test_a_rewind_may_split_a_turn(self, store: LifecycleStore) -> None:
        """To answer anew, only the answer is dropped; the turn is known as a whole still."""
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
        """A late repetition of what was taken back brings nothing back."""
        session_id = await stored(store)
        await store.rewind(session_id, 1)
        assert await store.append(session_id, numbered(3), turn_id="3") == 1
        assert await store.append(session_id, numbered(0), turn_id="0") == 1
        assert (await store.load(session_id)).messages == numbered(0)

    # Replacing

    async def test_a_replacement_is_one_step(self, store: LifecycleStore) -> None:
        """The beginning stays, the turn takes the place of the rest, which is archived."""
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
        """A turn may take the place of everything, or of nothing, as a plain append does."""
        session_id = await stored(store)
        assert await store.append(session_id, numbered(8), replace_from=keep) == keep + 1
        assert (await store.load(session_id)).messages == [*numbered(0, keep), {"n": 8}]
        assert len(await store.archived(session_id)) == 4 - keep
        unknown = new_id()
        assert await store.append(unknown, numbered(0), "ada", replace_from=0) == 1
        assert await store.load(unknown, "ada") == History(numbered(0), 1, exists=True)

    async def test_a_replacement_is_repeated_by_its_turn_id(self, store: LifecycleStore) -> None:
        """Repeated it stores nothing and archives nothing more, whatever came meanwhile."""
        session_id = await stored(store)

        async def replace() -> int:
            return await store.append(session_id, numbered(7, 2), turn_id="new", replace_from=1)

        assert [await replace(), await replace()] == [3, 3]
        assert await store.append(session_id, numbered(9)) == 4
        assert await replace() == 3
        with pytest.raises(TurnConflict):
            await store.append(session_id, numbered(7), turn_id="new", replace_from=1)
        # A late repetition of what was replaced brings nothing back either.
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
        """A replacement is fenced as every other write of a turn."""
        session_id = await stored(store)
        first = await store.acquire(session_id, 30)
        await store.release(session_id, first)
        second = await store.acquire(session_id, 30)
        with pytest.raises(TurnLost):
            await store.append(session_id, numbered(7), fence=first, replace_from=1)
        assert (await store.load(session_id)).length == 4
        assert await store.append(session_id, numbered(7), fence=second, replace_from=1) == 2

    async def test_a_session_goes_on_after_a_replacement(self, store: LifecycleStore) -> None:
        """Rewound, compacted, forked, moved or sent elsewhere, it is as any other."""
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
        """Of many at once each is whole, one stands in the end, and the others are archived."""
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
        """A check finds what an append would refuse for itself, by the store's own limits."""
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
        """Of an answer that cannot be stored what can be is, marked; then the error is raised."""
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
        """A new answer that cannot be stored leaves the old turn, and one that can replaces it."""
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

    # Compacting

    async def test_a_summary_stands_for_the_older_part(self, store: LifecycleStore) -> None:
        """The summary comes first, the rest as it was, and what was replaced is archived."""
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
        """Any number of messages may stand for any number, again and again."""
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
        """Other messages than were seen, or more than there are, are a conflict, and stay."""
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
        """Nothing to replace, a summary that cannot be stored, and a deleted session are errors."""
        session_id = await stored(store)
        with pytest.raises(ValueError, match="nothing"):
            await store.compact(session_id, [], SUMMARY)
        with pytest.raises(ValueError, match="negative"):
            await store.compact(session_id, numbered(0), SUMMARY, skipped=-1)
        for summary in ([], [{"n": float("nan")}]):
            with pytest.raises(InvalidMessage):
                await store.compact(session_id, numbered(0), summary)
        for skipped in (100, 2**80):
            with pytest.raises(SessionConflict):
                await store.compact(session_id, [], SUMMARY, skipped=skipped)
        with pytest.raises(SessionConflict):
            await store.compact(new_id(), numbered(0), SUMMARY)
        await store.delete(session_id)
        with pytest.raises(SessionDeleted):
            await store.compact(session_id, numbered(0), SUMMARY)

    async def test_a_compacted_turn_is_not_stored_again(self, store: LifecycleStore) -> None:
        """A repetition of what a summary stands for now stores nothing."""
        session_id = await stored(store)
        await store.compact(session_id, numbered(0, 2), SUMMARY)
        assert await store.append(session_id, numbered(0), turn_id="0") == 0
        assert await store.append(session_id, numbered(3), turn_id="3") == 3
        assert (await store.load(session_id)).length == 3

    async def test_appends_during_a_compaction_stay_in_order(self, store: LifecycleStore) -> None:
        """What others append meanwhile stands behind the summary, whole, in order, and once."""
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

    # Turns that are looked for

    async def test_a_turn_is_found_in_its_session(self, store: LifecycleStore) -> None:
        """A turn is found under its id, with its place, by its owner, in its session alone."""
        session_id = new_id()
        await store.append(session_id, numbered(0, 3), "ada", turn_id="a")
        await store.append(session_id, json_values.REALISTIC, "ada", turn_id="b")
        turn = await store.find_turn(session_id, "b", "ada")
        assert turn is not None
        assert (turn.turn_id, turn.start) == ("b", 3)
        assert json.dumps(json_values.REALISTIC) == json.dumps(turn.messages)
        for other in ((session_id, "b", "bob"), (session_id, "B", "ada"), (new_id(), "b", "ada")):
            assert await store.find_turn(*other) is None

    # Forks

    async def test_a_fork_shares_the_past_alone(self, store: LifecycleStore) -> None:
        """A fork begins with a copy, and neither sees what becomes of the other."""
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
        """A fork may begin anywhere, also in a history that was compacted."""
        parent, child = await stored(store), new_id()
        assert await store.fork(parent, child, length=length) == count
        assert await store.load(child) == History(numbered(0, count), count, exists=True)
        await store.compact(parent, numbered(0, 2), SUMMARY)
        assert await store.fork(parent, child + "2", length=2) == 2
        assert (await store.load(child + "2")).messages == [*SUMMARY, {"n": 2}]
        assert await store.append(child + "2", numbered(5)) == 3

    async def test_a_fork_takes_no_turn_ids_along(self, store: LifecycleStore) -> None:
        """A key that was used in the parent is free in the child, and finds nothing there."""
        parent, child = await stored(store), new_id()
        await store.fork(parent, child)
        assert await store.find_turn(child, "0") is None
        assert await store.append(child, numbered(0), turn_id="0") == 5

    async def test_what_cannot_be_forked(self, store: LifecycleStore) -> None:
        """Nothing comes of nothing, and no session is begun where one is or was."""
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

    @pytest.mark.parametrize("number", [1.0, 1.5, float("nan"), True, "1"])
    async def test_a_number_of_messages_is_an_int(self, store: LifecycleStore, number: Any) -> None:
        """What is no int is refused at once: databases round it, each in its own way."""
        session_id = await stored(store)
        before = await store.load(session_id)
        for mistaken in (
            lambda: store.load(session_id, limit=number),
            lambda: store.append(session_id, numbered(9), expected_length=number),
            lambda: store.rewind(session_id, number),
            lambda: store.fork(session_id, new_id(), length=number),
            lambda: store.compact(session_id, [], SUMMARY, skipped=number),
            lambda: store.list(limit=number),
        ):
            with pytest.raises(TypeError, match="not an int"):
                await mistaken()
        assert await store.load(session_id) == before

    # Rotation

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
        """Nothing is moved where nothing is, and nothing to where something is."""
        old, taken = await stored(store), await stored(store)
        assert not await store.rotate(new_id(), new_id())
        with pytest.raises(SessionConflict):
            await store.rotate(old, taken)
        assert (await store.load(old)).length == 4 == (await store.load(taken)).length

    @pytest.mark.parametrize("source", ["stored", "deleted", "unknown"])
    async def test_where_a_rotation_may_lead(self, store: LifecycleStore, source: str) -> None:
        """A used id of the new owner's is a conflict, whatever is moved; a third one's is free."""
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

    # Turns that are taken

    async def test_one_has_the_turn(self, store: LifecycleStore) -> None:
        """Of many who ask at once one has it, and the others are told for how long at most."""
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
        """Whose lease is over may write until another takes the turn, and not after."""
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

    @pytest.mark.parametrize("seconds", [0, -1, 2_592_001, 1e300, math.inf, math.nan])
    async def test_a_lease_has_its_bounds(self, store: LifecycleStore, seconds: float) -> None:
        """A lease that ends at once, or never, is a mistake, and keeps nobody from anything."""
        session_id = await stored(store)
        with pytest.raises(ValueError, match="lease"):
            await store.acquire(session_id, seconds)
        fence = await store.acquire(session_id, 30)
        with pytest.raises(ValueError, match="lease"):
            await store.extend(session_id, fence, seconds)
        assert await store.append(session_id, numbered(4), fence=fence) == 5

    async def test_nobody_waits_without_asking(self, store: LifecycleStore) -> None:
        """An append without a number goes through while another has the turn."""
        session_id = await stored(store)
        fence = await store.acquire(session_id, 30)
        assert await store.append(session_id, numbered(4)) == 5
        assert await store.append(session_id, numbered(5), fence=fence) == 6

    async def test_a_turn_alone_is_no_session(self, store: LifecycleStore) -> None:
        """Taking the turn of an unknown session leaves it unknown; a deleted one has no turns."""
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
    async def test_numbers_grow_over_a_prune(self, store: LifecycleStore, ending: str) -> None:
        """However a session ends, and is pruned: who was in its turn is late in the next one's."""
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
    async def test_who_was_in_a_pruned_turn_is_late_in_any_session(
        self, store: LifecycleStore, first: str
    ) -> None:
        """Whatever begins under the id of a session that was pruned, the turn before it is over."""
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
        """A session may begin under an id whose turn alone was taken; its numbers go on."""
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
        """Who was in a turn as the session got its new id writes under neither of the two."""
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
        """Return the number of the turn, once it is free."""
        with anyio.fail_after(60):
            while True:
                try:
                    return await store.acquire(session_id, 30)
                except SessionBusy:
                    await anyio.sleep(0.01)

    async def test_another_owner_does_nothing_to_it(self, store: LifecycleStore) -> None:
        """Whatever another owner does under the same id, the session stays as it is."""
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

    @pytest.mark.parametrize("value", ["", "x" * 257, "a\0b", "\ud800", b"bytes", None])
    async def test_keys_that_cannot_be_stored_are_refused(
        self, store: LifecycleStore, value: Any
    ) -> None:
        """Each method refuses an id that some database could not hold, before it is asked."""
        for work in (
            lambda: store.rewind(value, 0),
            lambda: store.compact(value, numbered(0), SUMMARY),
            lambda: store.find_turn(value, "t"),
            lambda: store.fork(new_id(), value),
            lambda: store.rotate(new_id(), value),
            lambda: store.acquire(value, 1),
            lambda: store.info(value),
            lambda: store.bind_key(value, new_id()),
            lambda: store.move_key(new_id(), value),
        ):
            with pytest.raises(InvalidKey):
                await work()


class ThreadsContract:
    """What a list of threads needs; a subclass provides the fixture ``store``."""

    async def test_sessions_are_listed_by_owner(self, store: LifecycleStore) -> None:
        """An owner's sessions are listed, with what is told of each, and nobody else's."""
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
        """From page to page each session comes once, whatever is deleted meanwhile."""
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

    @pytest.mark.parametrize("limit", [0, -1, 501])
    async def test_a_page_has_its_bounds(self, store: LifecycleStore, limit: int) -> None:
        """A page without sessions, or with too many, is a mistake."""
        with pytest.raises(ValueError, match="limit"):
            await store.list(new_id(), limit)

    @pytest.mark.parametrize(
        "cursor",
        [
            *["", "x", "\u00e4", "[" * 9999],
            *["WzEsMl0=", "W10=", "bnVsbA==", "WzEuNSwgImEiXQ==", "WzEsICJhIl0"],
            *["WzFlOTk5LCAiYSJd", "WzEsIG51bGxd", "W3RydWUsICJhIl0="],
        ],
    )
    async def test_a_cursor_has_to_be_a_pages(self, store: LifecycleStore, cursor: str) -> None:
        """What no page has given is refused, and not looked for."""
        with pytest.raises(ValueError, match="cursor"):
            await store.list(new_id(), cursor=cursor)

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
        """What was exported comes in under another id, owner or store, byte for byte, turns too."""
        session_id, other, owner = new_id(), new_id(), new_id()
        sent = [*json_values.REALISTIC, *json_values.FINE.values()]
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

    @pytest.mark.parametrize("change", range(19))
    async def test_what_is_no_export_is_refused(self, store: LifecycleStore, change: int) -> None:
        """Lines that no export gives are refused, quoted nowhere, and leave nothing."""
        session_id = new_id()
        head = {
            "hermes_session": 1,
            "id": session_id,
            "title": None,
            "created_at": "2026-01-31T12:00:00Z",
        }
        row = {"turn_id": "t", "message": {"secret": 1}}
        bad: list[tuple[Any, ...]] = [
            (),
            (head,),
            (row,),
            ({**head, "hermes_session": 2}, row),
            ({**head, "id": "a\0"}, row),
            ({**head, "id": 7}, row),
            ({**head, "created_at": "2026-01-31T12:00:00"}, row),
            ({**head, "created_at": "secret"}, row),
            ({**head, "created_at": 5}, row),
            ({**head, "title": "x" * 501}, row),
            ({key: head[key] for key in ("hermes_session", "id")}, row),
            (head, row, "secret"),
            (head, row, [row]),
            (head, {**row, "turn_id": ""}),
            (head, {"message": row["message"]}),
            (head, {"turn_id": "t"}),
            (head, {**row, "message": "secret"}),
            (head, {**row, "turn_id": None}),
            (head, row, {**row, "turn_id": "u"}, row),
        ]
        lines = "\n".join(
            each if isinstance(each, str) else json.dumps(each) for each in bad[change]
        )
        with pytest.raises(InvalidMessage) as caught:
            await store.import_(lines)
        assert "secret" not in str(caught.value)
        assert await store.load(session_id) == UNKNOWN

    @pytest.mark.parametrize("year", ["0001", "1969", "9999"])
    async def test_an_import_was_made_at_some_time(self, store: LifecycleStore, year: str) -> None:
        """A time that no session can have been made at becomes one that it can."""
        session_id = new_id()
        lines = export_of(numbered(0)).replace("2026-01", f"{year}-01").replace("Z", "+14:00")
        await store.import_(lines, session_id=session_id)
        info = await store.info(session_id)
        assert info is not None
        assert 1970 <= info.created_at.year < 9999

    async def test_a_key_leads_to_one_session(self, store: LifecycleStore) -> None:
        """A key is bound once, moved, and dropped; other keys, and other owners', are others."""
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
        """Of many who bind a key at once all are told the same session."""
        key = new_id()
        bound: list[str] = []

        async def bind(number: int) -> None:
            bound.append(await store.bind_key(key, f"session-{number}"))

        async with anyio.create_task_group() as tasks:
            for number in range(6):
                tasks.start_soon(bind, number)
        assert len(set(bound)) == 1
        assert await store.find_key(key) == bound[0]


def export_of(messages: list[Any]) -> str:
    """Return lines as an export gives them."""
    head = {"hermes_session": 1, "id": new_id(), "created_at": "2026-01-31T12:00:00Z"}
    rows = [{"turn_id": str(n), "message": message} for n, message in enumerate(messages)]
    return "\n".join(json.dumps(each) for each in (head, *rows))
