"""What an `AnswerStore` promises of answers: durable, numbered, one writer, folded once."""

import json
import math
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from hermes_session_mw import (
    AnswerRecord,
    AnswerStore,
    History,
    InvalidKey,
    InvalidMessage,
    SessionBusy,
    SessionConflict,
    SessionDeleted,
    TurnConflict,
    TurnLost,
    TurnTooLong,
)
from hermes_session_mw.testing.answer_writers import (
    ASKED,
    LEASE,
    MOMENT,
    SAID,
    TURN,
    Writer,
    begun,
    part,
    until,
)
from hermes_session_mw.testing.fold_contract import FoldOperations
from hermes_session_mw.testing.helpers import (
    DELETED,
    UNKNOWN,
    archive_of,
    new_id,
    numbered,
    pruned,
    stored,
)


@pytest.mark.anyio
class AnswerOperations(FoldOperations):
    """What a store does with its database: running answers, their ends, and their folds."""

    async def test_it_is_an_answer_store(self, store: AnswerStore) -> None:
        """The store has all of the protocol's methods."""
        assert isinstance(store, AnswerStore)

    async def test_an_answer_is_a_turn_in_the_end(self, store: AnswerStore) -> None:
        """An answer's events can be read while it runs, and its turn is stored when it ends."""
        writer = await begun(store, turn_id="t", digest="a" * 64)
        assert await store.load(writer.session_id) == UNKNOWN
        running = AnswerRecord(
            writer.id,
            writer.session_id,
            "running",
            events=0,
            question=[ASKED],
            turn_id="t",
            replace_from=None,
            message=None,
            stop_requested=False,
            is_alive=True,
            digest="a" * 64,
        )
        assert await writer.found() == running == await store.open_answer(writer.session_id)
        assert not await writer.write(1, "Be", {"delta": "cau"})
        assert await writer.read() == ("running", ["Be", {"delta": "cau"}])
        assert not await writer.write(3, "se")
        assert await writer.events(after=1) == [{"delta": "cau"}, "se"]
        assert await store.load(writer.session_id) == UNKNOWN
        assert await writer.end(4, ".") == 2
        assert await store.load(writer.session_id) == History(TURN, 2, exists=True)
        found = await writer.found()
        assert (found.state, found.events, found.message) == ("completed", 4, SAID)
        assert not found.is_alive
        assert await store.open_answer(writer.session_id) is None
        whole = ["Be", {"delta": "cau"}, "se", "."]
        assert await writer.read() == ("completed", whole)
        turn = await store.find_turn(writer.session_id, "t")
        assert turn is not None
        assert (turn.messages, turn.start) == (TURN, 0)
        # The lease is free again.
        assert await store.acquire(writer.session_id, LEASE) > writer.fence

    async def test_an_end_gives_a_title(self, store: AnswerStore) -> None:
        """The session has it with the turn, if it has none; an end without a turn gives none."""
        writer = await begun(store)
        assert await writer.end(1, messages=[], state="failed", title="Too early") is None
        for number, title in enumerate(("First", "Second"), 1):
            again = await begun(store, writer.session_id)
            for _ in range(2):
                assert await again.end(1, title=title) == 2 * number
            info = await store.info(writer.session_id)
            assert info is not None
            assert info.title == "First"

    async def test_events_are_read_in_portions(self, store: AnswerStore) -> None:
        """A reader gets the events after a number, up to a limit, wherever a write began."""
        writer, expected = await begun(store), list(range(1, 11))
        for first, count in ((1, 1), (2, 4), (6, 2), (8, 3)):
            await writer.write(first, *range(first, first + count))
        for after in range(12):
            for limit in (1, 2, 3, 5, 20):
                found = await writer.read(after, limit=limit)
                assert found == ("running", expected[after : after + limit])

    @pytest.mark.parametrize(
        "event", ["", "\0", "\u20ac\U0001f642", None, 0, 1.5, True, [], {"": [{}]}, [[1], {"a": 2}]]
    )
    async def test_any_json_is_an_event(self, store: AnswerStore, event: object) -> None:
        """Any JSON value comes back as it was written."""
        writer = await begun(store)
        await writer.write(1, event, "between", event)
        assert json.dumps(await writer.events()) == json.dumps([event, "between", event])

    async def test_events_are_stored_once(self, store: AnswerStore) -> None:
        """A repeated write stores nothing, one that overlaps stores the rest, and none a gap."""
        writer = await begun(store)
        for first, events in ((1, "ab"), (1, "ab"), (1, "abcd"), (2, "bc"), (4, "def"), (7, "")):
            await writer.write(first, *events)
        assert await writer.events() == list("abcdef")
        for write in (writer.write, writer.end):
            with pytest.raises(InvalidMessage, match="gap"):
                await write(8, "h")
        assert await writer.events() == list("abcdef")
        assert await writer.end(5, *"efg") == 2
        assert await writer.events() == list("abcdefg")

    async def test_writes_at_once_are_stored_once(self, store: AnswerStore) -> None:
        """Of concurrent repetitions of one write one is stored."""
        writer = await begun(store)
        async with anyio.create_task_group() as tasks:
            for count in (1, 2, 3, 3, 3, 3):
                tasks.start_soon(writer.write, 1, *"abc"[:count])
        assert await writer.events() == list("abc")

    async def test_a_repeated_end_ends_once(self, store: AnswerStore) -> None:
        """A repeated end returns what the first did, whatever was stored meanwhile."""
        writer = await begun(store)
        assert await writer.end(1, "Because.") == 2
        assert await store.append(writer.session_id, numbered(0)) == 3
        assert await writer.end(1, "Because.") == 2
        assert (await store.load(writer.session_id)).messages == [*TURN, *numbered(0)]
        assert await writer.events() == ["Because."]

    @pytest.mark.parametrize("state", ["incomplete", "failed", "stopped"])
    async def test_an_answer_that_breaks_off_leaves_its_turn_id(
        self, store: AnswerStore, state: str
    ) -> None:
        """An answer that does not complete is stored under another id, or not at all."""
        writer = await begun(store, turn_id="t")
        assert await writer.end(1, messages=[ASKED, part("Be")], state=state) == 2
        assert (await writer.found()).state == state
        assert await store.find_turn(writer.session_id, "t") is None
        empty = await begun(store, writer.session_id, turn_id="t")
        assert await empty.end(1, "?", messages=[], state=state) is None
        assert await empty.end(1, "?", messages=[], state=state) is None
        assert (await empty.found()).message is None
        again = await begun(store, writer.session_id, turn_id="t")
        assert await again.end(1) == 4
        assert await store.find_turn(writer.session_id, "t") is not None
        with pytest.raises(TurnConflict):
            await begun(store, writer.session_id, turn_id="t")
        assert await store.open_answer(writer.session_id) is None

    async def test_the_newest_answer_of_a_turn_id_is_found(self, store: AnswerStore) -> None:
        """A session's newest answer is found by its turn id: the open one, or the last to end."""
        first = await begun(store, turn_id="t")
        named = (first.session_id, "t")
        assert await first.end(1, messages=[], state="failed") is None
        await begun(store, turn_id="t")  # in another session
        found = await store.find_answer_of_turn(*named)
        assert found is not None
        assert (found.id, found.state) == (first.id, "failed")
        second = await begun(store, first.session_id, turn_id="t")
        found = await store.find_answer_of_turn(*named)
        assert found is not None
        assert (found.id, found.state) == (second.id, "running")
        assert await second.end(1) == 2
        found = await store.find_answer_of_turn(*named)
        assert found is not None
        assert (found.id, found.message) == (second.id, SAID)
        assert await store.find_answer_of_turn(first.session_id, "another") is None
        assert await store.find_answer_of_turn(*named, "another") is None

    async def test_a_repeated_beginning_begins_once(self, store: AnswerStore) -> None:
        """A repeated beginning returns the first one's fence; another one's id is refused."""
        writer = await begun(store)
        again = store.begin_answer(writer.session_id, writer.id, [ASKED], lease=LEASE)
        assert await again == writer.fence
        for session_id, question in ((writer.session_id, []), (new_id(), [ASKED])):
            with pytest.raises(TurnConflict):
                await store.begin_answer(session_id, writer.id, question, lease=LEASE)
        await writer.end(1)
        with pytest.raises(TurnConflict):
            await store.begin_answer(writer.session_id, writer.id, [ASKED], lease=LEASE)

    async def test_one_answer_at_a_time(self, store: AnswerStore) -> None:
        """Of many that begin at once one does; others are busy, and so are turns."""
        session_id = new_id()
        writers: list[Writer] = []
        waits: list[float] = []

        async def ask() -> None:
            try:
                writers.append(await begun(store, session_id))
            except SessionBusy as busy:
                waits.append(busy.retry_after)

        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(ask)
        assert (len(writers), len(waits)) == (1, 5)
        assert all(0 <= wait <= LEASE for wait in waits)
        with pytest.raises(SessionBusy):
            await store.acquire(session_id, LEASE)
        # Not even who gives the answer's own fence has a second one.
        with pytest.raises(SessionBusy):
            await begun(store, session_id, fence=writers[0].fence)
        assert await store.append(session_id, numbered(0)) == 1  # nobody waits without asking
        assert await writers[0].end(1) == 3

    async def test_an_answer_takes_a_turn_over(self, store: AnswerStore) -> None:
        """With a turn's fence an answer begins in it, and the turn can do no more."""
        session_id = new_id()
        fence = await store.acquire(session_id, LEASE)
        with pytest.raises(SessionBusy):
            await begun(store, session_id)
        with pytest.raises(TurnLost):
            await begun(store, session_id, fence=fence + 1)
        writer = await begun(store, session_id, fence=fence)
        assert writer.fence > fence
        again = store.begin_answer(session_id, writer.id, [ASKED], lease=LEASE, fence=fence)
        assert await again == writer.fence
        await store.release(session_id, fence)
        with pytest.raises(TurnLost):
            await store.append(session_id, numbered(0), fence=fence)
        with pytest.raises(SessionBusy):
            await store.acquire(session_id, LEASE)
        assert await writer.end(1) == 2

    async def test_the_newest_writer_writes(self, store: AnswerStore) -> None:
        """Of two that believe to have the lease the later one writes, and both turns are stored."""
        late = await begun(store, lease=MOMENT, turn_id="t")
        await late.write(1, "Be")
        newer: list[Writer] = []

        async def has_begun() -> bool:
            try:
                newer.append(await begun(store, late.session_id, turn_id="t"))
            except SessionBusy:
                return False
            return True

        await until(has_begun)
        (writer,) = newer
        for write in (late.write, late.end):
            with pytest.raises(TurnLost):
                await write(2, "cause.")
        with pytest.raises(TurnLost):
            await late.write(2)
        stolen = Writer(store, late.session_id, late.id, writer.fence)
        for write in (stolen.write, stolen.end):
            with pytest.raises(TurnLost):
                await write(2, "cause.")
        assert await writer.write(1, "Because") is False
        assert await writer.end(2, ".") == 4
        history = await store.load(late.session_id)
        assert history.messages == [ASKED, part("Be"), *TURN]
        assert await late.events() == ["Be"]

    async def test_a_late_writer_goes_on_while_nobody_has_noticed(self, store: AnswerStore) -> None:
        """An answer whose lease has expired goes on if nobody has met it since."""
        writer = await begun(store, lease=0.001)
        await anyio.sleep(0.01)
        await writer.write(1, "Because", lease=LEASE)
        assert (await writer.found()).is_alive
        assert await writer.end(2, ".") == 2

    async def test_a_stop_is_asked_for(self, store: AnswerStore) -> None:
        """A stop reaches the writer with its next write, and nobody after the end."""
        writer = await begun(store)
        assert await store.request_stop(writer.id)
        assert await store.request_stop(writer.id)
        assert (await writer.found()).stop_requested
        assert await writer.write(1, "Be")
        assert await writer.write(2)
        await writer.end(2, state="stopped", messages=[ASKED, part("Be")])
        assert not await store.request_stop(writer.id)
        assert not await store.request_stop(new_id())

    async def test_an_answer_is_its_owners(self, store: AnswerStore) -> None:
        """An answer is unknown to every other owner, who may use its ids."""
        session_id, ada = new_id(), new_id()
        writer = await begun(store, session_id, ada)
        await writer.write(1, "Be")
        assert await store.find_answer(writer.id) is None
        assert await store.open_answer(session_id) is None
        assert await store.read_events(writer.id) is None
        assert not await store.request_stop(writer.id)
        with pytest.raises(TurnLost):
            await Writer(store, session_id, writer.id, writer.fence).write(2, "?")
        with pytest.raises(TurnLost):
            await Writer(store, session_id, writer.id, writer.fence).end(2, "?")
        fence = await store.begin_answer(session_id, writer.id, [ASKED], lease=LEASE)
        mine = Writer(store, session_id, writer.id, fence)
        assert await mine.end(1, "mine") == 2
        assert await writer.end(2, "cause.") == 2
        assert await writer.events() == ["Be", "cause."]
        assert await mine.read() == ("completed", ["mine"])

    async def test_a_replaced_turn_stays_until_the_end(self, store: AnswerStore) -> None:
        """An answer that replaces others does so in one step, at its end."""
        session_id = await stored(store)
        with pytest.raises(SessionConflict):
            await begun(store, session_id, replace_from=5)
        writer = await begun(store, session_id, replace_from=2)
        await writer.write(1, "Because.")
        assert (await store.load(session_id)).length == 4
        assert (await writer.found()).replace_from == 2
        assert await writer.end(2) == 4 == await writer.end(2)
        assert (await store.load(session_id)).messages == [*numbered(0, 2), *TURN]
        assert await archive_of(store, session_id) == [(2, "2", "replace"), (3, "3", "replace")]

    @pytest.mark.parametrize("count", [0, 2])
    async def test_a_deletion_ends_an_answer(self, store: AnswerStore, count: int) -> None:
        """A deleted session's answers are gone, and their writer is told so."""
        writer = await begun(store, await stored(store, count))
        await writer.write(1, "Be")
        assert await store.delete(writer.session_id)
        for write in (writer.write, writer.end):
            with pytest.raises(SessionDeleted):
                await write(2, "cause.")
        assert await store.find_answer(writer.id) is None
        assert await store.open_answer(writer.session_id) is None
        assert await store.read_events(writer.id) is None
        assert await store.load(writer.session_id) == DELETED
        with pytest.raises(SessionDeleted):
            await begun(store, writer.session_id)

    @pytest.mark.parametrize("ended", [True, False])
    async def test_a_prune_takes_answers_too(self, store: AnswerStore, *, ended: bool) -> None:
        """A pruned session's answers are gone; one that runs keeps its session."""
        running = await begun(store)
        writer = await begun(store, await stored(store, 1), lease=MOMENT)
        await writer.write(1, "Be")
        if ended:
            await writer.end(2)
        await pruned(store, writer.session_id)
        assert await store.find_answer(writer.id) is None
        with pytest.raises(TurnLost):
            await writer.write(2, "cause.")
        later = await begun(store, writer.session_id)
        assert later.fence > writer.fence
        assert await running.end(1) == 2

    @pytest.mark.parametrize("count", [0, 1])
    async def test_a_rotation_folds_an_answer(self, store: AnswerStore, count: int) -> None:
        """A session moves with what came of its running answer, whose writer is told so."""
        writer, new = await begun(store, await stored(store, count)), new_id()
        await writer.write(1, "Be")
        assert await store.rotate(writer.session_id, new)
        for write in (writer.write, writer.end):
            with pytest.raises((SessionDeleted, TurnLost)):
                await write(2, "cause.")
        assert (await store.load(new)).messages == [*numbered(0, count), ASKED, part("Be")]
        found = await writer.found()
        assert (found.session_id, found.state) == (new, "incomplete")
        assert await writer.events() == ["Be"]
        other, ada = new_id(), new_id()
        assert await store.rotate(new, other, new_owner=ada)
        assert (await store.load(other, ada)).length == count + 2
        for owner in ("", ada):
            assert await store.find_answer(writer.id, owner) is None

    async def test_copies_have_no_answers(self, store: AnswerStore) -> None:
        """A fork, or an export, has the history alone."""
        writer, child = await begun(store, await stored(store, 1)), new_id()
        await writer.write(1, "Be")
        assert await store.fork(writer.session_id, child) == 1
        assert await store.open_answer(child) is None
        assert len((await store.export(writer.session_id)).splitlines()) == 2
        assert await writer.end(2, "cause.") == 3

    async def test_a_sweep_removes_what_ended_long_ago(self, store: AnswerStore) -> None:
        """Answers that ended longer ago than is asked for are forgotten; their turns stay."""
        writer, running = await begun(store), await begun(store)
        await writer.end(1, "Because.")
        await running.write(1, "Be")
        await store.sweep_answers(1000, 10_000)
        assert (await writer.found()).state == "completed"

        async def is_gone() -> bool:
            await store.sweep_answers(0, 10_000)
            return await store.find_answer(writer.id) is None

        await until(is_gone)
        assert await store.read_events(writer.id) is None
        assert await running.events() == ["Be"]
        assert (await store.load(writer.session_id)).messages == TURN


@pytest.mark.anyio
class AnswerArguments:
    """What a store refuses before it asks its database: keys, messages, events and numbers."""

    @pytest.mark.parametrize("value", ["", "x" * 256, "a\0b", "\ud800", b"bytes", None, 7])
    async def test_an_id_that_cannot_be_stored_is_refused(
        self, store: AnswerStore, value: Any
    ) -> None:
        """Each method refuses an answer's id that some database could not hold."""
        for work in (
            lambda: store.begin_answer(new_id(), value, [ASKED], lease=LEASE),
            lambda: store.write_events(new_id(), value, 1, [], fence=1, lease=LEASE),
            lambda: store.end_answer(new_id(), value, 1, [], TURN, fence=1, state="failed"),
            lambda: store.find_answer(value),
            lambda: store.read_events(value),
            lambda: store.request_stop(value),
        ):
            with pytest.raises(InvalidKey, match="answer_id"):
                await work()

    @pytest.mark.parametrize("value", ["x" * 257, "a\0b", "\ud800", b"bytes", 7])
    async def test_other_keys_are_held_to_the_same(self, store: AnswerStore, value: Any) -> None:
        """Each method refuses a session id, an owner or a turn id that cannot be stored."""
        for work in (
            lambda: store.begin_answer(value, new_id(), [ASKED], lease=LEASE),
            lambda: store.begin_answer(new_id(), new_id(), [ASKED], value, lease=LEASE),
            lambda: store.begin_answer(new_id(), new_id(), [], lease=LEASE, turn_id=value),
            lambda: store.write_events(value, new_id(), 1, [], fence=1, lease=LEASE),
            lambda: store.end_answer(value, new_id(), 1, [], TURN, fence=1, state="failed"),
            lambda: store.open_answer(value),
            lambda: store.find_answer(new_id(), value),
        ):
            with pytest.raises(InvalidKey):
                await work()

    @pytest.mark.parametrize("message", [{"n": math.nan}, "text", {1: 2}, {"t": "\ud800"}])
    async def test_what_cannot_be_stored_changes_nothing(
        self, store: AnswerStore, message: Any
    ) -> None:
        """A message that cannot be stored is refused, and leaves all as it was."""
        session_id = new_id()
        with pytest.raises(InvalidMessage):
            await begun(store, session_id, question=[ASKED, message])
        assert await store.open_answer(session_id) is None
        with pytest.raises(InvalidMessage):
            await begun(store, session_id, begun=message)
        assert await store.open_answer(session_id) is None
        writer = await begun(store, session_id)
        with pytest.raises(InvalidMessage):
            await writer.end(1, "Be", messages=[ASKED, message])
        assert await writer.events() == []
        assert (await writer.found()).state == "running"

    @pytest.mark.parametrize("text", ["", '"a\n"', '"\0"', '"\ud800"', b'"bytes"', 7, None, ["1"]])
    async def test_what_is_no_line_of_text_is_no_event(self, store: AnswerStore, text: Any) -> None:
        """An event that a line cannot hold is refused, with all that came with it."""
        writer = await begun(store)
        for write in (writer.write_texts, writer.end_texts):
            with pytest.raises(InvalidMessage):
                await write(1, '"Be"', text)
        if text not in ("", '"a\n"', None):
            with pytest.raises(InvalidMessage):
                await writer.write(1, "Be", growth=text)
        assert await writer.events() == []

    async def test_an_answer_has_to_fit(self, store: Any) -> None:
        """A question that leaves no room for its answer is refused."""
        most = store.max_turn_messages
        with pytest.raises(TurnTooLong):
            await begun(store, question=numbered(0, most))
        writer = await begun(store, question=numbered(0, most - 1))
        with pytest.raises(TurnTooLong):
            await writer.end(1, messages=numbered(0, most + 1))

    @pytest.mark.parametrize("seconds", [0, -1, 2_592_001, math.inf, math.nan])
    async def test_a_lease_has_its_bounds(self, store: AnswerStore, seconds: float) -> None:
        """A lease of no time, or of too much, is refused."""
        with pytest.raises(ValueError, match="lease"):
            await begun(store, lease=seconds)
        writer = await begun(store)
        with pytest.raises(ValueError, match="lease"):
            await writer.write(1, "Be", lease=seconds)
        assert await writer.events() == []

    async def test_numbers_have_their_bounds(self, store: AnswerStore) -> None:
        """A number that is no int, or too small, is refused before any query."""
        writer = await begun(store)
        mistaken: list[Callable[[], Awaitable[object]]] = [
            lambda: store.read_events(writer.id, after=-1),
            lambda: store.read_events(writer.id, limit=0),
            lambda: begun(store, replace_from=-1),
            lambda: begun(store, digest="a" * 65),
            lambda: writer.write(0, "Be"),
            lambda: writer.end(0, "Be"),
            lambda: writer.end(1, state="running"),
            lambda: writer.end(1, state="gone"),
            lambda: store.sweep_answers(-1),
            lambda: store.sweep_answers(math.nan),
            lambda: store.sweep_answers(0, 0),
        ]
        for mistake in mistaken:
            with pytest.raises(ValueError):  # noqa: PT011  # each names another argument
                await mistake()
        no_ints: Any = 1.5
        for work in (
            lambda: store.read_events(writer.id, after=no_ints),
            lambda: store.read_events(writer.id, limit=no_ints),
            lambda: begun(store, replace_from=no_ints),
            lambda: writer.write(no_ints, "Be"),
        ):
            with pytest.raises(TypeError, match="not an int"):
                await work()
        assert await writer.events() == []


class AnswerContract(AnswerOperations, AnswerArguments):
    """What an `AnswerStore` promises beside `LifecycleStore`; a subclass has the fixture."""
