"""The check finds what it is there to find; or else a long run would show nothing."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes_session_mw import LifecycleStore, MemoryStore
from hermes_session_mw.exceptions import HermesSessionError
from tests.long.torture.model.calls import call
from tests.long.torture.model.contract import OPEN, Old, Operation, Place, Row, World, step
from tests.long.torture.model.journal import (
    KEYS,
    OWNERS,
    SESSIONS,
    Reader,
    operations,
    places,
    world_of,
    writing,
)
from tests.long.torture.model.search import NoOrder, check
from tests.long.torture.model.worker import Worker

OWNER = OWNERS[0]
A, B, C = [(OWNER, name) for name in SESSIONS[:3]]
KEY = OWNER, KEYS[0]
NOTHING = World({}, {})


def turn(name: str, count: int = 2, **given: Any) -> dict[str, Any]:
    """Return the arguments of an append."""
    texts = [f"{name}.{part}" for part in range(count)]
    plain = {"turn_id": f"turn-{name}", "expected_length": None, "replace_from": None}
    return {"messages": texts, **plain, "fence": None, **given}


STORY: list[tuple[str, Place, dict[str, Any]]] = [
    ("append", A, turn("one")),
    ("append", A, turn("two", 1)),
    ("append", A, turn("two", 1)),
    ("acquire", A, {"seconds": 0.5}),
    ("append", A, turn("three", fence=1)),
    ("release", A, {"fence": 1}),
    ("acquire", A, {"seconds": 0.5}),
    ("append", A, turn("late", fence=1)),
    ("append", A, turn("four", 3, fence=2)),
    ("extend", A, {"fence": 2, "seconds": 0.5}),
    ("rewind", A, {"length": 6, "fence": 2}),
    ("append", A, turn("five", replace_from=5)),
    ("compact", A, {"replaced": ["one.0"], "summary": ["s.0"], "skipped": 0, "fence": None}),
    ("fork", A, {"new_id": B[1], "length": 2}),
    ("bind_key", KEY, {"new_id": B[1]}),
    ("rotate", B, {"new_id": C[1], "new_owner": None}),
    ("find_turn", A, {"turn_id": "turn-three"}),
    ("append", B, turn("six")),
    ("load", A, {"limit": 2}),
    ("list", A, {}),
]
"""What is done; each of the checked damages is to one of these, or to what is seen after them."""


async def told(store: LifecycleStore, name: str, place: Place, arguments: dict[str, Any]) -> Any:
    """Return what the store answers, and the error."""
    try:
        return await call(store, name, place, arguments), None
    except HermesSessionError as exc:
        return None, (type(exc).__name__,)


async def tell_the_story() -> list[Operation]:
    """Do all that on a store, one after the other, and look at all of it."""
    store = MemoryStore()
    looks = [("see", place, dict[str, Any]()) for place in places(SESSIONS)]
    looks += [("find_key", place, dict[str, Any]()) for place in places(KEYS)]
    done = []
    for number, (name, place, arguments) in enumerate([*STORY, *looks]):
        at = number / 100
        value, error = await told(store, name, place, arguments)
        done.append(Operation(name, place, arguments, at, at + 0.005, value=value, error=error))
    return [each for each in done if world_of(each.place[0]) == world_of(OWNER)]


@pytest.fixture(scope="module")
def story() -> list[Operation]:
    """What came of the story."""
    return anyio.run(tell_the_story)


def answering(story: list[Operation], name: str, value: Any, nth: int = 0) -> list[Operation]:
    """Return the story where an operation has answered ``value``, without an error."""
    found = [each for each in story if each.name == name][nth]
    wrong = replace(found, value=value, error=None)
    return [wrong if each is found else each for each in story]


def seeing(
    story: list[Operation], change: Callable[[Any, Any], tuple[Any, Any]]
) -> list[Operation]:
    """Return the story where another history and archive of the session are seen in the end."""
    (seen,) = [each for each in story if (each.name, each.place) == ("see", A)]
    exists, deleted, history, archive, parent = seen.value
    history, archive = change(history, archive)
    wrong = replace(seen, value=(exists, deleted, history, archive, parent))
    return [wrong if each is seen else each for each in story]


def at(story: list[Operation], name: str, place: Place, value: Any) -> list[Operation]:
    """Return the story where what is seen in the end at a place is ``value``."""
    return [
        replace(each, value=value) if (each.name, each.place) == (name, place) else each
        for each in story
    ]


DAMAGES: dict[str, Callable[[list[Operation]], list[Operation]]] = {
    "a lost turn": lambda story: seeing(story, lambda h, a: (h[:-2], a)),
    "a turn that is there twice": lambda story: seeing(story, lambda h, a: (h + h[-2:], a)),
    "a torn turn": lambda story: seeing(story, lambda h, a: (h[:-1], a)),
    "messages in another order": lambda story: seeing(story, lambda h, a: (h[::-1], a)),
    "a message from nowhere": lambda story: seeing(
        story, lambda h, a: ((*h, Row("seven.0", "turn-seven")), a)
    ),
    "another turn's id": lambda story: seeing(
        story, lambda h, a: ((*h[:-1], Row(h[-1].text, "turn-one")), a)
    ),
    "a message that is in the archive too": lambda story: seeing(
        story, lambda h, a: (h, (*a, Old(h[0].text, h[0].turn, "rewind")))
    ),
    "a message that is lost to the archive": lambda story: seeing(story, lambda h, a: (h, a[1:])),
    "an archive in another order": lambda story: seeing(story, lambda h, a: (h, a[::-1])),
    "another reason": lambda story: seeing(
        story, lambda h, a: (h, tuple(old._replace(reason="rewind") for old in a))
    ),
    "a wrong length after append": lambda story: answering(story, "append", 3),
    "a wrong length after a repeated append": lambda story: answering(story, "append", 5, 2),
    "a wrong length after replace": lambda story: answering(story, "append", 9, 6),
    "a wrong length after rewind": lambda story: answering(story, "rewind", 7),
    "a wrong length after compact": lambda story: answering(story, "compact", 8),
    "a late holder's write": lambda story: answering(story, "append", 6, 4),
    "a fence that does not grow": lambda story: answering(story, "acquire", 1, 1),
    "a turn that is taken twice": lambda story: [each for each in story if each.name != "release"],
    "a refusal without a reason": lambda story: [
        replace(each, error=("TurnLost",)) if each.name == "extend" else each for each in story
    ],
    "a fork that holds more": lambda story: answering(story, "fork", 3),
    "a fork that is not its parent's": lambda story: at(
        story, "see", C, (True, False, (Row("s.0", None), Row("three.0", None)), (), A[1])
    ),
    "a fork without its parent": lambda story: at(
        story, "see", C, (True, False, (Row("s.0", None), Row("one.1", None)), (), None)
    ),
    "a rotation that left the old id": lambda story: answering(story, "append", 2, 7),
    "a key that did not follow": lambda story: at(story, "find_key", KEY, B[1]),
    "a key that leads nowhere": lambda story: at(story, "find_key", KEY, None),
    "a key that was bound already": lambda story: answering(story, "bind_key", C[1]),
    "a session that came back": lambda story: at(story, "see", B, (True, False, (), (), None)),
    "a session that vanished": lambda story: at(story, "see", A, (False, False, (), (), None)),
    "a stale read": lambda story: answering(story, "load", [["two.0", "three.0"], 6, True, False]),
    "a list without a session": lambda story: answering(story, "list", [[A[1], 7]]),
    "a turn that is not found": lambda story: answering(story, "find_turn", None),
    "a turn that is found elsewhere": lambda story: answering(
        story, "find_turn", [["three.0", "three.1"], 2]
    ),
}


def test_a_store_that_answers_right_is_let_pass(story: list[Operation]) -> None:
    """Answers that are right fit into an order."""
    check(NOTHING, story)


@pytest.mark.parametrize("name", DAMAGES)
def test_each_kind_of_damage_is_found(name: str, story: list[Operation]) -> None:
    """A single wrong answer, or a single wrong thing that is stored, is found."""
    damaged = DAMAGES[name](story)
    assert damaged != story
    with pytest.raises(NoOrder):
        check(NOTHING, damaged)


APPEND = Operation("append", A, turn("one"), 0, 1, value=2)
OTHER = Operation("append", A, turn("two", 1), 0.5, 1.5, value=1)


def seen(*texts: str) -> Operation:
    """Return what is seen of the session in the end."""
    rows = tuple(Row(text, f"turn-{text.partition('.')[0]}") for text in texts)
    return Operation("see", A, {}, 9, 9, value=(bool(texts), False, rows, (), None))


def test_what_overlaps_may_come_in_either_order() -> None:
    """Of two appends at once the one that was called last may be the first."""
    check(NOTHING, [replace(APPEND, value=3), OTHER, seen("two.0", "one.0", "one.1")])
    with pytest.raises(NoOrder):
        check(NOTHING, [replace(APPEND, value=3), OTHER, seen("one.0", "one.1", "two.0")])
    later = replace(OTHER, call=1.1)
    with pytest.raises(NoOrder):
        check(NOTHING, [replace(APPEND, value=3), later, seen("two.0", "one.0", "one.1")])


def test_what_nobody_knows_of_may_be_done_or_not() -> None:
    """What a killed worker was doing is there whole, at any time after its call, or not at all."""
    killed = replace(APPEND, ret=OPEN, value=None, may_be_left_out=True)
    for texts in ([], ["one.0", "one.1"]):
        check(NOTHING, [killed, seen(*texts)])
    check(NOTHING, [killed, OTHER, seen("two.0", "one.0", "one.1")])
    with pytest.raises(NoOrder):
        check(NOTHING, [killed, seen("one.0")])
    with pytest.raises(NoOrder):
        check(NOTHING, [replace(killed, call=2), OTHER, seen("one.0", "one.1", "two.0")])


def lines(*errors: str | None) -> Iterator[dict[str, Any]]:
    """Yield what a worker writes of appends that end so."""
    for number, error in enumerate(errors):
        begun = {"name": "append", "place": list(A), "arguments": turn(str(number), 1)}
        yield {"number": number, "call": float(number), **begun}
        if error is not None:
            yield {"number": number, "ret": number + 0.5, "error": [error]}


def test_what_is_unavailable_has_no_effect_and_what_is_in_doubt_may() -> None:
    """A StoreUnavailable was not done; a time-out, and a call without an end, may have been."""
    told = list(operations("w", lines("StoreUnavailable", "StoreTimeout", "AppendInDoubt", None)))
    assert [each.by for each in told] == ["w.1", "w.2", "w.3"]
    assert all(each.may_be_left_out and each.ret == OPEN for each in told)
    check(NOTHING, [*told, seen("2.0", "1.0")])
    with pytest.raises(NoOrder):
        check(NOTHING, [*told, seen("0.0")])


def test_half_a_line_is_left_for_later(tmp_path: Path) -> None:
    """A journal is read up to its last whole line, and from there on the next time."""
    path = tmp_path / "journal"
    write = writing(path)
    reader = Reader(path)
    write({"ready": "w"})
    with path.open("ab") as file:
        file.write(b'{"done"')
    assert reader.lines() == [{"ready": "w"}]
    with path.open("ab") as file:
        file.write(b': "1"}\n')
    assert reader.lines() == [{"done": "1"}]


async def run_workers(store: LifecycleStore, seed: str, count: int) -> list[Operation]:
    """Have three workers in this process do so many operations each, and look at all of it."""
    journals: list[list[dict[str, Any]]] = [[] for _ in range(3)]
    async with anyio.create_task_group() as group:
        for number, journal in enumerate(journals):
            worker = Worker(store, f"w{number}", f"{seed}-{number}", journal.append)
            group.start_soon(worker.work, "0", count)
    done = [op for number, told in enumerate(journals) for op in operations(f"w{number}", told)]
    now = time.monotonic()
    for name, at_places in (("see", places(SESSIONS)), ("find_key", places(KEYS))):
        for place in at_places:
            value = await call(store, name, place, {})
            done.append(Operation(name, place, {}, now, now, value=value))
    return done


def check_all(done: Sequence[Operation]) -> None:
    """Check each of the worlds, which nothing was in before."""
    for world in {world_of(owner) for owner in OWNERS}:
        check(NOTHING, [each for each in done if world_of(each.place[0]) == world])


async def test_the_store_in_memory_fits_the_model() -> None:
    """What several tasks do to a `MemoryStore` fits into an order."""
    check_all(await run_workers(MemoryStore(), "any", 300))


def in_any_order(world: World, left: Sequence[Operation]) -> bool:
    """Tell whether there is an order, by trying every one."""
    needed = [each for each in left if not each.may_be_left_out]
    if not needed:
        return True
    first_ret = min(each.ret for each in needed)
    for each in left:
        if each.call > first_ret:
            continue
        # What had ended before can be left out from here on, and no more come.
        rest = [
            other
            for other in left
            if other is not each and not (other.may_be_left_out and other.ret < each.call)
        ]
        if any(in_any_order(after, rest) for after in step(world, each)):
            return True
    return False


SMALL: list[tuple[str, Place, dict[str, Any]]] = [
    ("append", A, turn("one", 1)),
    ("append", A, turn("two", 1, expected_length=1)),
    ("append", B, turn("one", 1, replace_from=0)),
    ("rewind", A, {"length": 0, "fence": None}),
    ("load", A, {"limit": None}),
    ("load", B, {"limit": None}),
    ("list", A, {}),
    ("fork", A, {"new_id": B[1], "length": None}),
    ("rotate", A, {"new_id": B[1], "new_owner": None}),
    ("delete", A, {}),
    ("prune_session", A, {"seconds": 0}),
    ("prune_session", B, {"seconds": 0}),
    ("prune_key", KEY, {"seconds": 0}),
    ("bind_key", KEY, {"new_id": A[1]}),
    ("find_key", KEY, {}),
]


async def small_history(chosen: Sequence[tuple[int, int, int, bool]]) -> list[Operation]:
    """Do what is chosen on a store, and tell of each that it took longer than it did."""
    store, done = MemoryStore(), []
    for at, (which, before, after, is_open) in enumerate(chosen):
        name, place, arguments = SMALL[which]
        ret = at + after + 0.5
        if name.startswith("prune_"):
            await store.prune(timedelta(0))
            part = Operation(name, place, arguments, at - before, ret, may_be_left_out=True)
        else:
            value, error = await told(store, name, place, arguments)
            ret = OPEN if is_open else ret
            part = Operation(
                name, place, arguments, at - before, ret, value, error, may_be_left_out=is_open
            )
        done.append(part)
    return done


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(SMALL) - 1), st.integers(0, 3), st.integers(0, 3), st.booleans()
        ),
        min_size=2,
        max_size=6,
    ),
    st.permutations(range(6)),
)
def test_an_order_is_found_where_there_is_one(
    chosen: list[tuple[int, int, int, bool]], shuffled: list[int]
) -> None:
    """The search says what trying every order says, also where answers were mixed up."""
    right = anyio.run(small_history, chosen)
    mixed = [right[other % len(right)] for other in shuffled[: len(right)]]
    times = zip(right, mixed, strict=True)
    wrong = [replace(each, call=other.call, ret=other.ret) for each, other in times]
    for history in (right, wrong):
        assert fits(history) == in_any_order(NOTHING, history)


def fits(history: Sequence[Operation]) -> bool:
    """Tell whether the search finds an order."""
    try:
        check(NOTHING, history)
    except NoOrder:
        return False
    return True


class _IgnoresFences(MemoryStore):
    async def append(self, *arguments: Any, **named: Any) -> int:
        return await super().append(*arguments, **{**named, "fence": None})


class _LeavesNoArchive(MemoryStore):
    async def archived(self, session_id: str, owner: str = "") -> list[Any]:
        return (await super().archived(session_id, owner))[:-1]


class _ForgetsTurnIds(MemoryStore):
    async def append(
        self,
        session_id: str,
        messages: Any,
        owner: str = "",
        turn_id: Any = None,
        *more: Any,
        **named: Any,
    ) -> int:
        return await super().append(session_id, messages, owner, None, *more, **named)


class _ReplacesInTwoSteps(MemoryStore):
    async def append(
        self, session_id: str, messages: Any, owner: str = "", *more: Any, **named: Any
    ) -> int:
        kept = named.pop("replace_from")
        if kept is not None:
            await self.rewind(session_id, kept, owner)
        return await super().append(session_id, messages, owner, *more, **named)


class _LeavesKeysBehind(MemoryStore):
    def _repoint_keys(self, owner: str, session_id: str, to: str | None) -> None:
        pass


class _GivesTurnsTwice(MemoryStore):
    async def acquire(self, session_id: str, seconds: float, owner: str = "") -> int:
        return await super().acquire(session_id, seconds / 1000, owner)


class _PrunesWhatIsUsed(MemoryStore):
    async def prune(self, older_than: Any) -> int:
        return await super().prune(0 * older_than)


class _BringsBack(MemoryStore):
    async def delete(self, session_id: str, owner: str = "") -> bool:
        deleted = await super().delete(session_id, owner)
        self._sessions.pop((owner, session_id), None)
        return deleted


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    "store",
    [
        _IgnoresFences,
        _LeavesNoArchive,
        _ForgetsTurnIds,
        _ReplacesInTwoSteps,
        _LeavesKeysBehind,
        _GivesTurnsTwice,
        _PrunesWhatIsUsed,
        _BringsBack,
    ],
)
async def test_a_store_that_does_wrong_is_found_out(store: type[MemoryStore]) -> None:
    """Random operations bring to light what is wrong with a store."""
    own = [name for name in vars(store) if not name.startswith("__")]
    assert [] == [name for name in own if not hasattr(MemoryStore, name)]  # or it would be right
    for number in range(20):
        try:
            check_all(await run_workers(store(), f"{number}", 200))
        except NoOrder:
            return
    pytest.fail("it was not found out")
