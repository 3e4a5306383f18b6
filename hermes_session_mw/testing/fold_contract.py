"""What an `AnswerStore` promises of answers whose writer has died: folded once, before all else."""

from collections.abc import Awaitable, Callable
from typing import Any
from unittest.mock import ANY

import anyio
import pytest

from hermes_session_mw import (
    AnswerRecord,
    AnswerStore,
    History,
    InvalidMessage,
    SessionConflict,
    SessionDeleted,
    SessionInfo,
    TurnConflict,
    TurnLost,
)
from hermes_session_mw.testing.answer_writers import (
    ASKED,
    LEASE,
    MOMENT,
    SAID,
    Writer,
    begun,
    growth,
    part,
    until,
    wait_for_fold,
)
from hermes_session_mw.testing.helpers import (
    DELETED,
    SUMMARY,
    export_of,
    new_id,
    numbered,
    stored,
)

FOLDED = [*numbered(0), ASKED, part("Becau")]
"""The history of a session with an `abandoned` answer, after the fold."""


async def abandoned(store: AnswerStore, count: int = 1, *events: str) -> Writer:
    """Return the writer of an answer whose lease has expired, which nobody has noticed yet."""
    owner = new_id()
    writer = await begun(store, await stored(store, count, owner), owner, lease=MOMENT, turn_id="t")
    if events:
        await writer.write(1, *events)
    await anyio.sleep(2 * MOMENT)  # whoever asked the store would fold
    return writer


async def import_over(writer: Writer) -> int:
    """Return how long the history is that an import would overwrite."""
    with pytest.raises(SessionConflict) as refused:
        await writer.store.import_(export_of(numbered(0)), writer.owner, writer.session_id)
    return refused.value.actual


async def begin_next(writer: Writer) -> None:
    """Begin the next answer."""
    await begun(writer.store, writer.session_id, writer.owner)


def told(result: Any) -> Any:
    """Return what matters of an operation's result."""
    match result:
        case AnswerRecord():
            return result.state
        case SessionInfo():
            return result.length
        case str():
            return len(result.splitlines())
    return result


Operations = dict[str, tuple[Callable[[Writer], Awaitable[Any]], Any, list[int]]]

MEET: Operations = {
    "load": (
        lambda w: w.store.load(w.session_id, w.owner),
        History(FOLDED, 3, exists=True),
        [3],
    ),
    "load_newest": (
        lambda w: w.store.load(w.session_id, w.owner, limit=1),
        History(FOLDED[2:], 3, exists=True),
        [3],
    ),
    "info": (lambda w: w.store.info(w.session_id, w.owner), 3, [3]),
    "export": (lambda w: w.store.export(w.session_id, w.owner), 4, [3]),
    "archived": (lambda w: w.store.archived(w.session_id, w.owner), [], [3]),
    "find_turn": (lambda w: w.store.find_turn(w.session_id, "unknown", w.owner), None, [3]),
    "append": (lambda w: w.store.append(w.session_id, numbered(9), w.owner), 4, [4]),
    "append_once": (
        lambda w: w.store.append(w.session_id, numbered(9), w.owner, "u", expected_length=3),
        4,
        [4],
    ),
    "replace": (
        lambda w: w.store.append(w.session_id, numbered(9), w.owner, replace_from=3),
        4,
        [4],
    ),
    "rewind": (lambda w: w.store.rewind(w.session_id, 2, w.owner), 2, [2]),
    "compact": (lambda w: w.store.compact(w.session_id, FOLDED, SUMMARY, w.owner), 1, [1]),
    "fork": (lambda w: w.store.fork(w.session_id, new_id(), w.owner), 3, [3, 3]),
    "rotate": (lambda w: w.store.rotate(w.session_id, new_id(), w.owner), True, [3]),
    "import": (import_over, 3, [3]),
    "acquire": (lambda w: w.store.acquire(w.session_id, LEASE, w.owner), ANY, [3]),
    "find_answer": (lambda w: w.store.find_answer(w.id, w.owner), "incomplete", [3]),
    "find_answer_of_turn": (
        lambda w: w.store.find_answer_of_turn(w.session_id, "t", w.owner),
        "incomplete",
        [3],
    ),
    "open_answer": (lambda w: w.store.open_answer(w.session_id, w.owner), None, [3]),
    "read_events": (
        lambda w: w.store.read_events(w.id, w.owner),
        ("incomplete", ['"Be"', '"cau"']),
        [3],
    ),
    "request_stop": (lambda w: w.store.request_stop(w.id, w.owner), False, [3]),
    "begin_answer": (begin_next, None, [3]),
    "sweep_answers": (lambda w: w.store.sweep_answers(1000, 10_000), ANY, [3]),
}
"""What meets an abandoned answer; what it gets; how long the owner's histories are then."""

MEET_A_QUESTION: Operations = {
    "info": (lambda w: w.store.info(w.session_id, w.owner), 1, [1]),
    "export": (lambda w: w.store.export(w.session_id, w.owner), 2, [1]),
    "append": (lambda w: w.store.append(w.session_id, numbered(9), w.owner), 2, [2]),
    "fork": (lambda w: w.store.fork(w.session_id, new_id(), w.owner), 1, [1, 1]),
    "rotate": (lambda w: w.store.rotate(w.session_id, new_id(), w.owner), True, [1]),
    "import": (import_over, 1, [1]),
    "rename": (lambda w: w.store.rename(w.session_id, "Why", w.owner), True, [1]),
    "acquire": (lambda w: w.store.acquire(w.session_id, LEASE, w.owner), ANY, [1]),
}
"""The same where nothing is stored but the question."""


@pytest.mark.anyio
class FoldOperations:
    """What a store does with open answers whose lease has expired."""

    @pytest.mark.parametrize("operation", MEET)
    async def test_an_answer_without_its_writer_is_folded(
        self, store: AnswerStore, operation: str
    ) -> None:
        """Whatever meets an answer whose lease has expired comes after what came of it, once."""
        writer = await abandoned(store, 1, "Be", "cau")
        meet, result, lengths = MEET[operation]
        assert told(await meet(writer)) == result
        # A list folds nothing itself.
        listed = (await store.list(writer.owner)).sessions
        assert [each.length for each in listed] == lengths
        found = await writer.found()
        assert (found.state, found.message) == ("incomplete", part("Becau"))
        assert await writer.read() == ("incomplete", ["Be", "cau"])
        for write in (writer.write, writer.end):
            with pytest.raises((TurnLost, SessionDeleted)):
                await write(3, "se")
        await store.sweep_answers(1000, 10_000)
        again = (await store.list(writer.owner)).sessions
        assert [each.length for each in again] == lengths

    @pytest.mark.parametrize("operation", MEET_A_QUESTION)
    async def test_an_abandoned_question_makes_a_session(
        self, store: AnswerStore, operation: str
    ) -> None:
        """Whatever meets a session that has only a question without a writer finds it stored."""
        writer = await abandoned(store, 0)
        meet, result, lengths = MEET_A_QUESTION[operation]
        assert told(await meet(writer)) == result
        await writer.found()  # folds, where a title was set alone
        listed = (await store.list(writer.owner)).sessions
        assert [each.length for each in listed] == lengths
        assert listed[0].title == ("Why" if operation == "rename" else None)

    async def test_an_edit_may_take_an_abandoned_answer_away(self, store: AnswerStore) -> None:
        """A rewind archives what came of an answer whose lease has expired."""
        writer = await abandoned(store, 1, "Becau")
        assert await store.rewind(writer.session_id, 1, writer.owner) == 1
        archived = await store.archived(writer.session_id, writer.owner)
        assert [old.message for old in archived] == FOLDED[1:]

    @pytest.mark.parametrize("count", [0, 1])
    async def test_a_deletion_needs_no_fold(self, store: AnswerStore, count: int) -> None:
        """A session with an answer whose lease has expired is deleted with all that came of it."""
        writer = await abandoned(store, count, "Be")
        assert await store.delete(writer.session_id, writer.owner)
        assert await store.load(writer.session_id, writer.owner) == DELETED
        assert await store.find_answer(writer.id, writer.owner) is None

    async def test_many_fold_once(self, store: AnswerStore) -> None:
        """Of many that load at once one folds, and all get the folded history."""
        writer = await begun(store, lease=MOMENT)
        await writer.write(1, "Be")
        lengths: list[int] = []

        async def load() -> None:
            async def is_folded() -> bool:
                return (await store.load(writer.session_id)).exists

            await until(is_folded)
            lengths.append((await store.load(writer.session_id)).length)

        async with anyio.create_task_group() as tasks:
            for _ in range(6):
                tasks.start_soon(load)
        assert lengths == [2] * 6

    async def test_a_question_is_durable_at_once(self, store: AnswerStore) -> None:
        """Of an answer whose writer dies before the first event the question is stored."""
        writer = await begun(store, lease=MOMENT, question=[ASKED, *numbered(1, 2)])
        assert await wait_for_fold(writer) == History([ASKED, *numbered(1, 2)], 3, exists=True)
        found = await writer.found()
        assert (found.state, found.message, found.events) == ("incomplete", None, 0)

    async def test_a_fold_puts_the_message_together(self, store: AnswerStore) -> None:
        """A fold stores the message that has grown with each write, as far as it came."""
        writer = await begun(store, lease=MOMENT)
        calls: list[Any] = [{"id": "c"}]
        first = growth(("=", ["role"], "assistant"), ("=", ["content"], "B"))
        more = growth(("+", ["content"], "e"), ("=", ["tool_calls"], calls))
        await writer.write(1, {"delta": "B"}, growth=first)
        await writer.write(2, {"delta": "e"}, growth=more, lease=LEASE)
        await writer.write(2, {"delta": "e"}, growth=more)  # a repetition
        with pytest.raises(InvalidMessage, match="growth"):
            await writer.write(2, {"delta": "e"}, "?", growth=more)
        await writer.write(3, {"delta": ""}, growth=growth())
        await writer.write(4, lease=MOMENT)
        history = await wait_for_fold(writer)
        assert history.messages == [ASKED, {**part("Be"), "tool_calls": calls}]

    @pytest.mark.parametrize("has_growth", [True, False])
    async def test_a_fold_continues_what_was_begun(
        self, store: AnswerStore, *, has_growth: bool
    ) -> None:
        """A fold stores the message that the answer continues, with what came."""
        writer = await begun(store, lease=MOMENT, begun={**SAID, "content": "Be", "n": 1})
        more = growth(("+", ["content"], "cau")) if has_growth else None
        await writer.write(1, "cau", growth=more)
        history = await wait_for_fold(writer)
        assert history.messages == [ASKED, {**part("Becau"), "n": 1}]

    async def test_what_was_begun_is_kept_without_more(self, store: AnswerStore) -> None:
        """Where nothing new came, what was begun is stored, unless a turn was to be replaced."""
        asked = begun(store, lease=MOMENT, begun={**SAID, "content": "Be"})
        assert (await wait_for_fold(await asked)).messages == [ASKED, part("Be")]
        session_id = await stored(store, 1)
        again = begun(store, session_id, lease=MOMENT, begun=numbered(0)[0], replace_from=0)
        assert (await wait_for_fold(await again)).messages == numbered(0)

    async def test_an_answer_without_a_question_may_be_empty(self, store: AnswerStore) -> None:
        """Where the question is stored already, and no answer came, nothing is added."""
        writer = await begun(store, await stored(store, 1), lease=MOMENT, question=[])
        assert (await wait_for_fold(writer)).messages == numbered(0)
        other = await begun(store, writer.session_id, question=[])
        assert await other.end(1, "Because.", messages=[SAID]) == 2
        assert (await other.found()).message == SAID

    async def test_a_replaced_turn_stays_without_an_answer(self, store: AnswerStore) -> None:
        """Folded before anything came, or ended without messages, an answer replaces nothing."""
        session_id = await stored(store)
        writer = await begun(store, session_id, replace_from=2, lease=MOMENT)
        assert (await wait_for_fold(writer)).messages == numbered(0, 4)
        other = await begun(store, session_id, replace_from=2)
        assert await other.end(1, messages=[], state="failed") is None
        assert (await store.load(session_id)).messages == numbered(0, 4)
        third = await begun(store, session_id, replace_from=2, lease=MOMENT)
        await third.write(1, "Be")
        assert (await wait_for_fold(third)).messages == [*numbered(0, 2), ASKED, part("Be")]

    async def test_a_history_may_be_shortened_meanwhile(self, store: AnswerStore) -> None:
        """An answer whose turn was to follow messages that are gone is told so, and folded."""
        session_id = await stored(store)
        writer = await begun(store, session_id, replace_from=3)
        await store.rewind(session_id, 1)
        with pytest.raises(SessionConflict):
            await writer.end(1, "Because.")
        await writer.write(1, "Because.", lease=MOMENT)
        assert (await wait_for_fold(writer)).messages == [*numbered(0), ASKED, part("Because.")]

    async def test_another_turn_may_take_the_id_meanwhile(self, store: AnswerStore) -> None:
        """An answer whose turn id was used by other messages is told so, and folded."""
        writer = await begun(store, turn_id="t")
        await store.append(writer.session_id, numbered(0), turn_id="t")
        await writer.write(1, "Because.", lease=MOMENT)
        with pytest.raises(TurnConflict):
            await writer.end(2)
        assert (await wait_for_fold(writer)).messages == [*numbered(0), ASKED, part("Because.")]
