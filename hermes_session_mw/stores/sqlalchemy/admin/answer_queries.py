"""The SQL that counts, sweeps and checks the answers of all owners, or of one."""

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import bindparam, case, distinct, func, select

from hermes_session_mw.database.connection import Database, Parameters, text_of
from hermes_session_mw.stores.sqlalchemy.admin.models import Problem
from hermes_session_mw.stores.sqlalchemy.schema.column_presence import has_answers
from hermes_session_mw.stores.sqlalchemy.schema.tables import answer_events, answers
from hermes_session_mw.stores.sqlalchemy.statements.answers import NEWEST
from hermes_session_mw.stores.sqlalchemy.statements.content import Content, reads
from hermes_session_mw.stores.sqlalchemy.statements.keyset import (
    of_all_or_one,
    owner_parameter,
    ranged,
)
from hermes_session_mw.stores.sqlalchemy.statements.read_answers import LAPSED, remove

BATCH = 100
"""Answers that one transaction removes."""

Key = tuple[str, str]
"""An owner and a session's id."""

_is_open = answers.c.ended_at.is_(None)
_BEFORE = bindparam("before", type_=answers.c.ended_at.type)
_totals = of_all_or_one(
    select(
        func.sum(case((_is_open, 1), else_=0)),
        func.sum(case((_is_open, 0), else_=1)),
        func.sum(NEWEST),
    ),
    answers.c.owner,
)
_old = select(answers.c.owner, answers.c.id).where(answers.c.ended_at < _BEFORE)
_find_old = of_all_or_one(
    _old.order_by(answers.c.ended_at).limit(bindparam("limit")), answers.c.owner
)
_count_old = of_all_or_one(
    select(func.count()).select_from(answers).where(answers.c.ended_at < _BEFORE), answers.c.owner
)
_lapsed = of_all_or_one(LAPSED, answers.c.owner)

_ANSWERS = ranged(
    select(
        answers.c.owner,
        answers.c.session_id,
        answers.c.id,
        answers.c.fence,
        answers.c.state,
        answers.c.ended_at,
        answers.c.question,
        answers.c.message,
    ).order_by(answers.c.owner, answers.c.session_id, answers.c.id),
    answers.c.owner,
    answers.c.session_id,
)
_EVENTS = ranged(
    select(
        answers.c.owner,
        answers.c.session_id,
        answers.c.id,
        answer_events.c.first,
        answer_events.c.last,
        answer_events.c.body,
    )
    .join_from(
        answers,
        answer_events,
        (answer_events.c.owner == answers.c.owner) & (answer_events.c.answer_id == answers.c.id),
    )
    .order_by(answers.c.owner, answers.c.session_id, answers.c.id, answer_events.c.first),
    answers.c.owner,
    answers.c.session_id,
)
for _each in _ANSWERS.values():
    reads(
        _each,
        Content(6, "question", (2,), may_lack=True),
        Content(7, "answer", (2,), may_lack=True),
        owner=0,
        session=1,
    )
for _each in _EVENTS.values():
    reads(_each, Content(5, "events", (2, 3), may_lack=True), owner=0, session=1)
_of_no_answer = (
    select(answer_events.c.owner, func.count(distinct(answer_events.c.answer_id)))
    .where(
        ~select(answers.c.id)
        .where(answers.c.owner == answer_events.c.owner, answers.c.id == answer_events.c.answer_id)
        .exists()
    )
    .group_by(answer_events.c.owner)
    .order_by(answer_events.c.owner)
)


class StoredEvents(NamedTuple):
    """A row of events, with the numbers of its first one and its last one."""

    first: int
    last: int
    body: str


class StoredAnswer(NamedTuple):
    """An answer's row, and its events."""

    id: str
    fence: int
    state: str
    ended_at: int | None
    question: str
    message: str | None
    events: list[StoredEvents]

    @property
    def is_open(self) -> bool:
        """Whether the row says that it has not ended."""
        return self.state == "running"


def totals(database: Database, owner: str | None) -> tuple[int, int, int]:
    """Return how many answers are open, how many have ended, and how many events they have."""
    (row,) = database.rows(_totals[owner is not None], owner_parameter(owner))
    open_, ended, events = (int(each or 0) for each in row)  # a sum of nothing is NULL
    return open_, ended, events


def count_swept(database: Database, cutoff: float, owner: str | None) -> tuple[int, int]:
    """Count the answers that `sweep` removes, and those that it finds."""
    if not has_answers(database):
        return 0, 0
    parameters = {"before": round(cutoff * 1000), **owner_parameter(owner)}
    ((count,),) = database.rows(_count_old[owner is not None], parameters)
    return int(count), len(_find_lapsed(database, owner))


def sweep(database: Database, cutoff: float, owner: str | None) -> tuple[int, list[Key]]:
    """Remove the answers that ended before ``cutoff``, in seconds from 1970; return how many.

    And the owners and ids of sessions whose open answer has lost its writer.
    """
    if not has_answers(database):
        return 0, []
    removed = 0
    parameters = {"before": round(cutoff * 1000), "limit": BATCH, **owner_parameter(owner)}
    while found := database.rows(_find_old[owner is not None], parameters):
        removed += remove(database, [(text_of(owner_), text_of(id_)) for owner_, id_ in found])
    return removed, _find_lapsed(database, owner)


def _find_lapsed(database: Database, owner: str | None) -> list[Key]:
    rows = database.rows(_lapsed[owner is not None], owner_parameter(owner))
    return [(text_of(owner_), text_of(id_)) for owner_, id_ in rows]


def read_answers(
    database: Database, form: tuple[str, bool], parameters: Parameters
) -> dict[Key, list[StoredAnswer]]:
    """Return the answers of a range of sessions; ``form`` is as for `ranged`."""
    events: dict[tuple[str, str], list[StoredEvents]] = {}
    for owner, _, answer_id, *numbered in database.rows(_EVENTS[form], parameters):
        events.setdefault((text_of(owner), text_of(answer_id)), []).append(StoredEvents(*numbered))
    found: dict[Key, list[StoredAnswer]] = {}
    for owner, session_id, answer_id, *columns in database.rows(_ANSWERS[form], parameters):
        key, name = (text_of(owner), text_of(session_id)), text_of(answer_id)
        answer = StoredAnswer(*(name, *columns, events.get((key[0], name), [])))
        found.setdefault(key, []).append(answer)
    return found


def without_answer(database: Database) -> list[Problem]:
    """Return a problem for each owner that has events of no answer."""
    return [
        Problem(f"there is no answer for the events of {count}", owner=text_of(owner))
        for owner, count in database.rows(_of_no_answer, {})
    ]


def problems_of(
    stored: Sequence[StoredAnswer], answer_fence: int | None, *, is_there: bool
) -> Iterator[str]:
    """Yield the problems of a session's answers.

    ``answer_fence`` is what the session's row says, and ``is_there`` whether there is one, of a
    session that was not deleted.
    """
    if stored and not is_there:
        yield f"there is no session for {len(stored)} answers"
        return
    fences = [each.fence for each in stored if each.is_open]
    if answer_fence is not None and answer_fence not in fences:
        yield "it names an open answer that it does not have"
    for answer in stored:
        if answer.is_open and answer.fence != answer_fence:
            yield f"it does not name the open answer {answer.id}"
        for what in itertools.chain(_faults(answer), _gaps(answer.events)):
            yield f"answer {answer.id}: {what}"


def _faults(answer: StoredAnswer) -> Iterator[str]:
    has_ended = answer.ended_at is not None
    if answer.is_open is has_ended or (answer.is_open and answer.message is not None):
        yield f"its state is {answer.state}, and its other columns say something else"
    if not _is_array_of_objects(answer.question):
        yield "its question is not a JSON array of objects"
    if answer.message is not None and not isinstance(_parsed(answer.message), dict):
        yield "its message is not a JSON object"


def _gaps(events: Sequence[StoredEvents]) -> Iterator[str]:
    expected = 1
    for first, last, body in events:
        if first > expected:
            yield f"event {expected} is missing"
        elif first < expected:
            yield f"event {first} is there twice"
        lines = body.split("\n")
        if len(lines) != last - first + 1:
            yield f"it has {len(lines)} events under the numbers {first} to {last}"
        for number, line in enumerate(lines, first):
            if _parsed(line) is _BROKEN:
                yield f"event {number} is not JSON"
        expected = last + 1


_BROKEN = object()


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _BROKEN


def _is_array_of_objects(text: str) -> bool:
    array = _parsed(text)
    return isinstance(array, list) and all(isinstance(each, dict) for each in array)
